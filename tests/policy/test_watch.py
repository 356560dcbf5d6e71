"""V2 and V13 count what they say they count, and keep no more than they need."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.policy import watch
from callgate.policy.watch import Breadth, Repeats

CALLS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 40), st.booleans()), max_size=40)


@given(CALLS)
def test_different_numbers(calls: list[tuple[str, int, bool]]) -> None:
    """Those called within the period, or those that are up, whichever are more."""
    breadth, now = Breadth(), 0.0
    called: dict[str, float] = {}
    up: list[str] = []
    for number, later, ends in calls:
        now += later
        if ends and number in up:
            up.remove(number)
            breadth.ended(number)
            continue
        called[number] = now
        up.append(number)
        recent = sum(1 for at in called.values() if at > now - 60.0)
        assert breadth.called(number, 60.0, now) == max(recent, len(set(up)))
    for number in up:
        breadth.ended(number)
    assert breadth.called("z", 1.0, now + 1000.0) == 1, "something is kept for ever"


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 300)), max_size=40), st.integers(1, 6))
def test_again_and_again(calls: list[tuple[str, int]], most: int) -> None:
    repeats, now = Repeats(), 0.0
    times: dict[str, list[float]] = {"a": [], "b": []}
    for pair, later in calls:
        now += later
        times[pair].append(now)
        wanted = sum(1 for at in times[pair] if at > now - 600.0) >= most
        assert repeats.called(pair, most, 600.0, now) == wanted


def test_it_stays_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those called latest are known."""
    monkeypatch.setattr(watch, "PAIRS", 3)
    repeats = Repeats()
    for pair in "abcad":
        repeats.called(pair, 2, 600.0, 0.0)
    assert len(repeats._calls) == 3
    assert repeats.called("a", 3, 600.0, 1.0)
    assert not repeats.called("b", 2, 600.0, 1.0), "of b nothing is known any more"
