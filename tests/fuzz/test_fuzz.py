"""A short run of the fuzzer with seeds that are always the same, and proof that it sees what it looks for. `make fuzz`
goes on for as long as you like."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.fuzz import play as playing
from tests.fuzz.dice import Octets
from tests.fuzz.play import Figures
from tests.fuzz.run import once

from callgate.proxy.calls.call import Call
from callgate.proxy.core import Core
from callgate.proxy.relay import Relay
from callgate.sip.framing import Framer

SEEDS = 160


@pytest.fixture(autouse=True)
def chance() -> Iterator[None]:
    """Runs seed the random numbers of everybody."""
    state = random.getstate()
    yield
    random.setstate(state)


@pytest.mark.parametrize("first", range(0, SEEDS, 20))
def test_a_short_run(first: int) -> None:
    figures = Figures()
    for seed in range(first, first + 20):
        try:
            once(seed, figures)
        except Exception as fault:
            raise AssertionError(f"python -m tests.fuzz.run --only {seed}") from fault
    assert figures.runs == 20
    assert figures.messages > 200


def test_any_octets_are_a_run() -> None:
    """What a coverage-guided fuzzer comes up with: choices that end early."""
    noise = random.Random(7)
    for size in (0, 1, 2, 10, 100, 400):
        playing.play(Octets(noise.randbytes(size)), Figures())


def _fails(seeds: int = 60) -> bool:
    figures = Figures()
    for seed in range(seeds):
        try:
            once(seed, figures)
        except Exception:
            return True
    return False


def _raises(*_: Any, **__: Any) -> None:
    raise RuntimeError("a bug of ours")


def test_a_fault_of_ours_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Relay, "on_cancel", _raises)
    monkeypatch.setattr(Relay, "on_response", _raises)
    assert _fails()


def test_what_stays_behind_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Core, "forget", lambda core, call: None)
    assert _fails()


def test_a_line_that_is_never_given_back_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    end: Callable[..., None] = Call.end

    def forgetful(call: Call, *rest: Any) -> None:
        out = call.core.out
        before = len(out)
        end(call, *rest)
        del out[before:]

    monkeypatch.setattr(Call, "end", forgetful)
    assert _fails()


def test_another_reading_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    read = playing.message.parse_slowly

    def otherwise(data: bytes) -> Any:
        found = read(data)
        found.to_tag = found.to_tag.lower()
        found.cseq_number += 1
        return found

    if playing.scanner.built():  # where no compiler was, there is only one reading
        monkeypatch.setattr(playing, "parse_slowly", otherwise)
        assert _fails()


def test_a_cut_that_matters_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Framer.feed

    def forgetful(framer: Framer, data: bytes) -> list[bytes]:
        found = feed(framer, data)
        framer._need = 0
        return found[:1]

    monkeypatch.setattr(Framer, "feed", forgetful)
    assert _fails(seeds=200)
