"""Strangers: one answer per source and second, else silence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callgate.proxy.identity.strangers import Strangers


def test_one_answer_per_second() -> None:
    strangers = Strangers()
    assert strangers.may_answer("192.0.2.1", 100.0)
    assert not strangers.may_answer("192.0.2.1", 100.0)
    assert not strangers.may_answer("192.0.2.1", 100.999)
    assert strangers.may_answer("192.0.2.1", 101.0)


def test_each_source_for_itself() -> None:
    strangers = Strangers()
    assert strangers.may_answer("192.0.2.1", 100.0)
    assert strangers.may_answer("192.0.2.2", 100.0)
    assert strangers.may_answer("2001:db8::1", 100.0)
    assert not strangers.may_answer("192.0.2.2", 100.5)


def test_asking_does_not_put_the_next_answer_off() -> None:
    strangers = Strangers()
    answers = [at / 10 for at in range(1000, 1100) if strangers.may_answer("192.0.2.1", at / 10)]
    assert answers == [100.0 + n for n in range(10)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1)), max_size=60))
def test_never_two_within_a_second(asked: list[tuple[str, float]]) -> None:
    strangers, now = Strangers(), 0.0
    answered: dict[str, float] = {}
    for source, after in asked:
        now += after
        may = strangers.may_answer(source, now)
        assert may == (source not in answered or now - answered[source] >= 1.0)
        if may:
            answered[source] = now


def test_a_flood_of_sources_does_not_fill_the_memory() -> None:
    """All are forgotten then: each gets one answer more, which costs less than remembering them."""
    strangers = Strangers()
    for n in range(3 * Strangers.SOURCES):
        assert strangers.may_answer(f"source {n}", 100.0)
    assert len(strangers._answered) <= Strangers.SOURCES
    assert not strangers.may_answer(f"source {3 * Strangers.SOURCES - 1}", 100.0)
