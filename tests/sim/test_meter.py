"""The carrier's count: every window of one second, compared with the slow and obvious way."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.sim.meter import MARGIN, SECOND, Breach, Contract, Meter, Opinion, exact_window

steady = settings(deadline=None)  # a busy machine is no failure

# Coarse steps, so that equal times and distances of exactly one window come up all the time.
times = st.lists(st.integers(0, 16).map(lambda step: step * SECOND // 4), min_size=3, max_size=40)
fine_times = st.lists(st.integers(0, 3 * SECOND), max_size=40)


def fullest(arrivals: list[int], window: int) -> int:
    return max((sum(start <= at < start + window for at in arrivals) for start in arrivals), default=0)


@steady
@given(st.one_of(times, fine_times))
def test_meter_finds_the_fullest_window_in_any_order_of_arrival(arrivals: list[int]) -> None:
    meter = Meter()
    for i, at in enumerate(arrivals):
        so_far = arrivals[: i + 1]
        holding = [start for start in so_far if start <= at < start + SECOND]
        expected = max(sum(start <= other < start + SECOND for other in so_far) for start in holding)
        assert meter.add(at) == expected
        assert meter.worst == fullest(so_far, SECOND)


@steady
@given(st.one_of(times, fine_times), st.integers(0, 6 * SECOND))
def test_meter_counts_the_window_that_ends_now(arrivals: list[int], now: int) -> None:
    meter = Meter()
    for at in arrivals:
        meter.add(at)
    assert meter.within(now) == sum(now - SECOND < at <= now for at in arrivals)


@steady
@given(st.one_of(times, fine_times), st.integers(0, SECOND // 2 - 1))
def test_history_holds_the_most_of_any_window_that_ended_in_each_step(
    arrivals: list[int], somewhere: int
) -> None:
    meter = Meter()
    for at in arrivals:
        meter.add(at)
    step, now = SECOND // 2, 5 * SECOND
    history = meter.history(0, now, step)
    assert len(history) == 10
    for slot, value in enumerate(history):
        start = slot * step
        ends = [start, start + somewhere, *(at for at in arrivals if start <= at < start + step)]
        assert value == max(sum(end - SECOND < at <= end for at in arrivals) for end in ends)


@steady
@given(
    st.one_of(times, fine_times).map(sorted), st.integers(1, 5), st.sampled_from([SECOND, SECOND + MARGIN])
)
def test_exact_window_passes_only_what_fits_and_refuses_only_what_does_not(
    offers: list[int], limit: int, window: int
) -> None:
    passed: list[int] = []
    for at in offers:
        if sum(at - earlier < window for earlier in passed) < limit:
            passed.append(at)
    assert exact_window(offers, limit, window) == len(passed)
    assert fullest(passed, window) <= limit


def test_one_nanosecond_decides() -> None:
    kept, broken = Opinion(Contract(calls_per_second=3)), Opinion(Contract(calls_per_second=3))
    for at in (1, 2, 3, 1 + SECOND):
        kept.saw_call(at, "0312345678", "")
    for at in (1, 2, 3, SECOND):
        broken.saw_call(at, "0312345678", "")
    assert (kept.count, kept.suspended) == (0, False)
    assert (broken.count, broken.suspended) == (1, True)
    assert [(b.rule, b.value, b.limit) for b in broken.breaches] == [("V1", 4, 3)]


def test_a_forbidden_number_is_a_breach_by_itself() -> None:
    opinion = Opinion(began=SECOND)
    opinion.saw_call(3 * SECOND, "110", "K-X1+EMG")
    assert opinion.breaches == [Breach("K-X1+EMG", 1, 0, 2.0, "a call to 110")]
    assert str(opinion.breaches[0]) == "K-X1+EMG, a call to 110"


def test_inbound_calls_at_once() -> None:
    opinion = Opinion(Contract(inbound_calls=8), began=1)
    opinion.saw_inbound(1, 8)
    assert not opinion.suspended
    opinion.saw_inbound(1, 9)
    assert [str(b) for b in opinion.breaches] == ["V3 9/8, inbound calls at once"]


def test_breaches_kept_are_bounded_and_all_counted() -> None:
    opinion = Opinion(Contract(calls_per_second=1))
    for at in range(Opinion.KEPT + 50):
        opinion.saw_call(at, "0312345678", "")
    assert len(opinion.breaches) == Opinion.KEPT
    assert opinion.count == Opinion.KEPT + 49
