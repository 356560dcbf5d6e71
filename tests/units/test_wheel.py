"""The timer wheel: never early, late by a grain at most, and nothing left behind."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.proxy.wheel import GRAIN, HOP, NEVER, Wheel

relaxed = settings(deadline=None)
LATE = GRAIN + 1e-7
"""A grain, and what binary fractions add to it."""


class Timer:
    """Notes when it was called; `then` is what becomes of its `due` after that."""

    def __init__(self, due: float = NEVER, *then: float) -> None:
        self.due = due
        self.slot = 0
        self.then = list(then)
        self.calls: list[tuple[float, float]] = []  # (now, what was due)

    def expire(self, now: float) -> None:
        self.calls.append((now, self.due))
        self.due = self.then.pop(0) if self.then else NEVER


def run(wheel: Wheel, until: float) -> list[float]:
    """Let time pass as a shell does: called at every next deadline. When that was."""
    times = []
    while wheel.next_deadline <= until:
        times.append(wheel.next_deadline)
        assert len(times) < 100_000
        wheel.run(wheel.next_deadline)
    assert wheel._errors == []
    return times


# -- timers --------------------------------------------------------------------------------------------

moments = st.floats(0, 500).map(lambda x: round(x, 4))


@relaxed
@given(start=st.floats(0, 1e7), after=st.lists(moments, min_size=1, max_size=20))
def test_a_timer_is_never_early_and_late_by_a_grain_at_most(start: float, after: list[float]) -> None:
    wheel = Wheel(start)
    timers = [Timer(start + x) for x in after]
    for timer in timers:
        wheel.add(timer)
    run(wheel, start + 600)
    for timer in timers:
        [(now, due)] = timer.calls
        assert due <= now <= due + LATE
    assert wheel.next_deadline == NEVER
    assert len(wheel) == 0


@relaxed
@given(grains=st.integers(1, 10**9), ulps=st.integers(-3, 3))
def test_a_due_at_the_very_edge_of_a_slot(grains: int, ulps: int) -> None:
    """However the binary fraction falls: not early, and no endless turn in one run."""
    due = grains * GRAIN
    for _ in range(abs(ulps)):
        due = math.nextafter(due, math.copysign(NEVER, ulps))
    timer, wheel = Timer(due), Wheel(due - 1)
    wheel.add(timer)
    run(wheel, due + 1)
    [(now, _)] = timer.calls
    assert due <= now <= due + LATE


def test_a_timer_that_is_called_late_is_called() -> None:
    wheel, timer = Wheel(0.0), Timer(1.0)
    wheel.add(timer)
    wheel.run(0.99)
    assert timer.calls == []
    wheel.run(77.0)
    assert timer.calls == [(77.0, 1.0)]


def test_a_timer_of_the_past_is_called_at_once() -> None:
    wheel, timer = Wheel(100.0), Timer(3.0)
    wheel.add(timer)
    assert wheel.next_deadline <= 100.0
    wheel.run(100.0)
    assert timer.calls == [(100.0, 3.0)]


def test_a_timer_that_is_never_due_waits_nowhere() -> None:
    wheel = Wheel()
    wheel.add(Timer(NEVER))
    assert (len(wheel), wheel.next_deadline) == (0, NEVER)


def test_a_timer_may_set_itself_again() -> None:
    """As the copies of a request do: each is at its time, without adding it again."""
    timer, wheel = Timer(0.5, 1.5, 3.5, 7.5, 1000.0), Wheel(0.0)
    wheel.add(timer)
    run(wheel, 2000)
    assert [due for _, due in timer.calls] == [0.5, 1.5, 3.5, 7.5, 1000.0]
    assert all(due <= now <= due + LATE for now, due in timer.calls)
    assert len(wheel) == 0


@pytest.mark.parametrize("then", [0.1, 0.0, 1.0, 1.001])
def test_a_timer_that_sets_itself_to_the_past_or_to_now_is_called_soon(then: float) -> None:
    timer, wheel = Timer(1.0, then), Wheel(0.0)
    wheel.add(timer)
    run(wheel, 2)
    assert [due for _, due in timer.calls] == [1.0, then]
    assert timer.calls[1][0] <= 1.001 + 2 * LATE


def test_a_due_that_moves_later_needs_nothing() -> None:
    timer, wheel = Timer(1.0), Wheel(0.0)
    wheel.add(timer)
    timer.due = 5.0
    run(wheel, 4.9)
    assert timer.calls == []
    run(wheel, 10)
    [(now, _)] = timer.calls
    assert 5.0 <= now <= 5.0 + LATE


def test_a_due_that_is_taken_back_is_forgotten() -> None:
    timer, wheel = Timer(1.0), Wheel(0.0)
    wheel.add(timer)
    timer.due = NEVER
    run(wheel, 10)
    assert timer.calls == []
    assert len(wheel) == 0
    timer.due = 11.0
    wheel.add(timer)
    run(wheel, 12)
    assert len(timer.calls) == 1


@pytest.mark.parametrize(
    ("first", "then"), [(10.0, 1.0), (300.0, 100.0), (300.0, 0.5), (1.01, 1.0), (59.0, 3.0)]
)
def test_a_due_that_moves_earlier_is_added_again(first: float, then: float) -> None:
    """And is called once, also when the slot of the first due comes."""
    timer, wheel = Timer(first), Wheel(0.0)
    wheel.add(timer)
    timer.due = then
    wheel.add(timer)
    run(wheel, 400)
    [(now, due)] = timer.calls
    assert then == due <= now <= then + LATE
    assert len(wheel) == 0


def test_a_timer_that_comes_back_to_a_slot_it_left_is_called_once_there() -> None:
    timer, wheel = Timer(2.0, 2.0), Wheel(0.0)
    wheel.add(timer)
    timer.due = 1.0
    wheel.add(timer)
    run(wheel, 5)
    assert [due for _, due in timer.calls] == [1.0, 2.0]
    assert len(wheel) == 0


def test_places_a_timer_has_left_are_forgotten_when_their_time_comes() -> None:
    """Or each move would leave one more entry, for as long as the timer lives."""
    timer, wheel = Timer(50.0, *[1000.0] * 40), Wheel(0.0)
    wheel.add(timer)
    for n in range(1, 40):
        timer.due = float(n)
        wheel.add(timer)
        run(wheel, n + 0.5)
    run(wheel, 40 + 2 * HOP)
    assert len(timer.calls) == 39
    assert len(wheel) == 1


def test_adding_again_and_again_keeps_one() -> None:
    timer, wheel = Timer(1.0), Wheel(0.0)
    for _ in range(100):
        wheel.add(timer)
    assert len(wheel) == 1
    run(wheel, 2)
    assert len(timer.calls) == 1


@relaxed
@given(
    st.lists(
        st.tuples(
            st.integers(0, 4),
            st.one_of(moments, st.just(NEVER)),
            st.sampled_from([0.0, 0.01, 0.5, 30.0, 70.0]),
        ),
        max_size=40,
    )
)
def test_whatever_moves_where_each_is_called_when_it_is_due(moves: list[tuple[int, float, float]]) -> None:
    """Five timers are moved about while time passes. None misses its due, none comes before it."""
    wheel, timers, now = Wheel(0.0), [Timer() for _ in range(5)], 0.0
    for n, after, wait in moves:
        timers[n].due = now + after
        wheel.add(timers[n])
        now += wait
        run(wheel, now)
        assert all(timer.due > now - LATE for timer in timers)
    run(wheel, now + 1000)
    assert all(due <= called <= due + LATE for timer in timers for called, due in timer.calls)
    assert all(timer.due == NEVER for timer in timers)
    assert len(wheel) == 0


def test_a_far_due_is_looked_at_in_between() -> None:
    """At HOP at the latest: what has ended meanwhile does not wait in memory until its due."""
    timer, wheel = Timer(10_000.0), Wheel(0.0)
    wheel.add(timer)
    times = run(wheel, 3 * HOP + 1)
    assert len(times) == 3
    assert times[0] == pytest.approx(HOP, abs=LATE)
    assert timer.calls == []
    timer.due = NEVER
    run(wheel, 4 * HOP + 1)
    assert len(wheel) == 0


def test_a_far_due_is_still_to_the_grain() -> None:
    timer, wheel = Timer(14_400.013), Wheel(0.0)
    wheel.add(timer)
    run(wheel, 20_000)
    [(now, _)] = timer.calls
    assert 14_400.013 <= now <= 14_400.013 + LATE


def test_all_timers_of_one_slot_are_called_in_the_order_they_came() -> None:
    order: list[int] = []

    class Numbered(Timer):
        def expire(self, now: float) -> None:
            super().expire(now)
            order.append(self.number)

        number = 0

    wheel = Wheel(0.0)
    for n in range(50):
        timer = Numbered(1.001)
        timer.number = n
        wheel.add(timer)
    assert len(run(wheel, 2)) == 1
    assert order == list(range(50))


def test_a_timer_may_start_another_one() -> None:
    wheel, second = Wheel(0.0), Timer()

    class First(Timer):
        def expire(self, now: float) -> None:
            super().expire(now)
            second.due = now + 0.3
            wheel.add(second)

    wheel.add(First(1.0))
    run(wheel, 2)
    assert len(second.calls) == 1


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_waiter_with_a_bug_does_not_stop_the_others(broken: int) -> None:
    """It is told to the owner, and the waiter itself is not called again and again."""
    errors: list[Exception] = []
    wheel = Wheel(0.0, errors)
    bug = ValueError("a bug")

    class Broken(Timer):
        def expire(self, now: float) -> None:
            super().expire(now)
            raise bug

    def fails(now: float) -> None:
        raise bug

    timers = [Broken(1.0, 1.1) if n == broken else Timer(1.0) for n in range(3)]
    called: list[float] = []
    for timer in timers:
        wheel.add(timer)
    for call in (fails, called.append):
        wheel.at(1.0, call)
    while wheel.next_deadline < 2:
        wheel.run(wheel.next_deadline)
    assert [len(timer.calls) for timer in timers] == [1, 1, 1]
    assert called == [1.0]
    assert errors == [bug, bug]
    assert len(wheel) == 0


# -- exact times ---------------------------------------------------------------------------------------


@relaxed
@given(start=st.floats(0, 1e7), after=st.lists(moments, max_size=20))
def test_an_exact_time_is_exact(start: float, after: list[float]) -> None:
    """Pacing: the moment itself, earliest first, those of one moment in the order they came."""
    wheel = Wheel(start)
    called: list[tuple[float, int]] = []
    for n, x in enumerate(after):
        wheel.at(start + x, lambda now, n=n: called.append((now, n)))  # type: ignore[misc]
    run(wheel, start + 600)
    assert called == sorted((start + x, n) for n, x in enumerate(after))
    assert len(wheel) == 0


def test_exact_times_among_timers() -> None:
    wheel, timer = Wheel(0.0), Timer(1.0)
    called: list[float] = []
    wheel.add(timer)
    wheel.at(1.005, called.append)
    wheel.at(0.3, lambda now: wheel.at(now + 0.123, called.append))
    assert wheel.next_deadline == 0.3
    assert len(wheel) == 3
    run(wheel, 2)
    assert called == [0.423, 1.005]
    assert len(timer.calls) == 1


def test_an_exact_time_is_not_called_early() -> None:
    wheel, called = Wheel(0.0), []
    wheel.at(1.0, called.append)
    wheel.at(1.0 + GRAIN / 2, called.append)
    wheel.run(math.nextafter(1.0, 0))
    assert called == []
    wheel.run(1.0)
    assert called == [1.0]
    assert wheel.next_deadline == 1.0 + GRAIN / 2
