"""Rule K11: how far a key is slowed, and that it gets exactly what its level allows."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.policy.claim import Claim, Members, Part, Window
from callgate.policy.congestion import FALL_SECONDS, NEAR_SECONDS, RISE_SECONDS, Congestion, pace, slower
from callgate.policy.ledger import MARGIN
from callgate.store.memory import MemoryStore

LINES = Members("C2", "acme/outbound_calls", 10)


def rate(limit: int | None) -> tuple[Part, ...]:
    return (Window("V1", "acme/outbound_cps", limit), LINES)


def paces(limit: int | None) -> list[str]:
    return [pace(parts) for parts in slower("acme", rate(limit))]


# -- levels -----------------------------------------------------------------------------------------------------------


def test_half_and_half_again_down_to_one_then_gaps() -> None:
    assert paces(50) == [
        *("25 per second", "12 per second", "6 per second", "3 per second", "1 per second"),
        *("one in 2 s", "one in 4 s", "one in 8 s"),
    ]
    assert paces(1) == ["one in 2 s", "one in 4 s", "one in 8 s"]


def test_a_key_without_a_rate_is_slowed_too() -> None:
    assert paces(None)[0] == "32 per second"
    found = slower("acme", (LINES,))
    assert pace(found[0]) == "32 per second"
    assert all(LINES in parts for parts in found)


def test_a_key_that_may_not_call_has_no_levels() -> None:
    assert slower("acme", rate(0)) == ()
    assert not Congestion(0).heard(1000.0, plain=False)


def test_the_rate_s_own_window_is_kept() -> None:
    """The same tokens are counted on every level: changing it lets no call more through."""
    for parts in slower("acme", rate(50)):
        windows = [part for part in parts if isinstance(part, Window)]
        assert windows[0].name == "acme/outbound_cps"
        assert windows[0].period == 1.0
        assert {part.rule for part in windows} == {"K11"}
        assert LINES in parts
        assert len({part.name for part in windows}) == len(windows)


# -- up and down ------------------------------------------------------------------------------------------------------


def test_one_lone_503_says_nothing() -> None:
    congestion = Congestion(8)
    assert not congestion.heard(1000.0, plain=True)
    assert congestion.level(1000.0) == 0
    assert not congestion.heard(1000.0 + NEAR_SECONDS + 0.001, plain=True), "the first one is long ago"
    assert congestion.heard(1000.0 + 2 * NEAR_SECONDS, plain=True), "two within ten seconds"


def test_plain_words_say_it_at_once() -> None:
    congestion = Congestion(8)
    assert congestion.heard(1000.0, plain=False)
    assert congestion.level(1000.0) == 1


def test_one_step_a_second() -> None:
    """Fifty calls that were out are refused in one moment: that is one word, not fifty."""
    congestion = Congestion(8)
    for n in range(50):
        congestion.heard(1000.0 + n / 100, plain=False)
    assert congestion.level(1000.5) == 1
    assert congestion.heard(1000.0 + RISE_SECONDS, plain=False)
    assert congestion.level(1001.0) == 2


def test_while_slowed_every_503_counts() -> None:
    congestion = Congestion(8)
    congestion.heard(1000.0, plain=False)
    congestion.heard(1005.0, plain=True)
    assert congestion.level(1005.0) == 2


def test_it_goes_no_further_than_the_last_level() -> None:
    congestion = Congestion(3)
    for n in range(100):
        congestion.heard(1000.0 + n, plain=False)
    assert congestion.level(1099.0) == 3


def test_one_step_down_in_ten_seconds() -> None:
    congestion = Congestion(8)
    for n in range(3):
        congestion.heard(1000.0 + n, plain=False)
    steps = [congestion.level(1002.0 + at) for at in (0.0, 9.999, 10.0, 19.999, 20.0, 29.999, 30.0, 1e6)]
    assert steps == [3, 3, 2, 2, 1, 1, 0, 0]


def test_the_level_that_lasts() -> None:
    """What is known of a later moment, and of the end of time."""
    congestion = Congestion(8)
    assert congestion.lasting(2000.0) == 0
    for n in range(3):
        congestion.heard(1000.0 + n, plain=False)
    steps = [
        congestion.lasting(1002.0 + at) for at in (0.0, 9.999, 10.0, 19.999, 20.0, 30.0, 1e6, float("inf"))
    ]
    assert steps == [3, 3, 2, 2, 1, 0, 0, 0]
    assert congestion.falls_at == 1012.0
    assert congestion.level(1002.0) == 3


def test_a_503_in_between_puts_the_fall_off() -> None:
    congestion = Congestion(8)
    congestion.heard(1000.0, plain=False)
    congestion.heard(1000.5, plain=False)
    assert congestion.level(1010.4) == 1
    assert congestion.level(1010.5) == 0


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=60))
def test_it_stays_in_bounds_and_ends(events: list[tuple[float, bool]]) -> None:
    congestion, now = Congestion(5), 1000.0
    for wait, plain in events:
        now += wait
        before = congestion.level(now)
        rose = congestion.heard(now, plain=plain)
        assert congestion.level(now) == before + rose
        assert 0 <= congestion.level(now) <= 5
    assert congestion.level(now + 5 * FALL_SECONDS) == 0


# -- what a level lets through ----------------------------------------------------------------------------------------


def run(levels: list[tuple[float, int]], limit: int, seconds: float) -> list[float]:
    """When calls pass if one is offered every 10 ms; `levels`: from when on which level holds."""
    store = MemoryStore(900.0)
    by_level = (rate(limit), *slower("acme", rate(limit)))
    passed: list[float] = []
    for n in range(int(seconds * 100)):
        now = 1000.0 + n / 100
        level = max((at, level) for at, level in levels if at <= n / 100)[1]
        window = tuple(part for part in by_level[level] if isinstance(part, Window))
        if store.claim(Claim(n, window, now + 1, 900.0), now).granted:
            store.sent(n, now)
            store.release(n, now)
            passed.append(n / 100)
    return passed


@pytest.mark.parametrize(("level", "each"), [(0, 0.25), (1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 8.0)])
def test_exactly_what_the_level_allows(level: int, each: float) -> None:
    """4 a second: 2, 1, then one in 2, 4 and 8 s. Never starved: as many calls as fit pass, whatever is offered."""
    passed = run([(0.0, level)], 4, 81.0)
    period = max(1.0, each) + MARGIN
    in_window = max(1, round(1 / each))
    expected = in_window * (81.0 / (period + 0.01))
    assert expected - 2 * in_window <= len(passed) <= in_window * (81.0 / period + 1)


def test_the_contract_holds_while_levels_change() -> None:
    """No second ever holds more than the contract's calls, up and down all levels; and the full rate comes back."""
    levels = [(0.0, 0), *((5.0 + n, n + 1) for n in range(5)), *((40.0 + n * 10, 4 - n) for n in range(5))]
    passed = run(levels, 4, 100.0)
    for n, at in enumerate(passed[4:]):
        assert at - passed[n] > 1.0, f"five calls within a second at {at}"
    assert all(b - a >= 8.0 for a, b in pairwise(passed) if a >= 18.0 and b < 40.0)
    assert len([at for at in passed if at >= 90.0]) >= 4 * 9
