"""The throttle: so many wrong passwords from one address, and it is shut out for a while."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.proxy.identity.strangers import Allowance
from callgate.proxy.identity.throttle import PROVEN_SECONDS, SOURCES, USERS, Proven, Throttle, who

SOURCE = "192.0.2.1"


def fails(
    throttle: Throttle, at: float, source: str = SOURCE, *, failures: int = 3, block: float = 60.0
) -> bool:
    return throttle.failed(source, at, failures, 10.0, block)


def test_the_last_failure_shuts_out() -> None:
    throttle = Throttle()
    assert [fails(throttle, at) for at in (0.0, 4.0, 9.999)] == [False, False, True]
    assert throttle.shut_out(SOURCE, 10.0)
    assert throttle.shut_out(SOURCE, 69.998)
    assert not throttle.shut_out(SOURCE, 69.999)
    assert not throttle.shut_out(SOURCE, 70.0)


def test_at_the_limit_of_the_time_it_does_not() -> None:
    throttle = Throttle()
    assert [fails(throttle, at) for at in (0.0, 4.0, 10.0)] == [False, False, False]
    assert not throttle.shut_out(SOURCE, 10.0)
    assert fails(throttle, 13.9)  # the last three are within ten seconds


def test_one_failure_may_be_enough() -> None:
    throttle = Throttle()
    assert fails(throttle, 0.0, failures=1)
    assert throttle.shut_out(SOURCE, 1.0)


def test_it_begins_anew_after_the_block() -> None:
    throttle = Throttle()
    for at in (0.0, 0.0, 0.0):
        fails(throttle, at)
    assert not throttle.shut_out(SOURCE, 60.0)
    assert [fails(throttle, at) for at in (60.0, 60.0, 60.0)] == [False, False, True]
    assert throttle.shut_out(SOURCE, 119.9)


def test_a_failure_while_it_is_shut_out_counts() -> None:
    """An emergency call may try in spite of it: three more wrong ones, and the block begins anew."""
    throttle = Throttle()
    for at in (0.0, 0.0, 0.0, 30.0, 31.0, 32.0):
        fails(throttle, at)
    assert throttle.shut_out(SOURCE, 91.9)
    assert not throttle.shut_out(SOURCE, 92.0)


def test_a_block_of_no_time_is_none() -> None:
    throttle = Throttle()
    assert not any(fails(throttle, 0.0, block=0.0) for _ in range(20))
    assert not throttle.shut_out(SOURCE, 0.0)


def test_each_source_for_itself() -> None:
    throttle = Throttle()
    for _ in range(3):
        fails(throttle, 0.0)
    for other in ("192.0.2.2", "192.0.2.10", "2001:db8::1"):
        assert not throttle.shut_out(other, 0.0)
        assert not fails(throttle, 0.0, other)


def test_an_ipv6_source_is_its_network() -> None:
    """Who has one address of a /64 has all of them."""
    throttle = Throttle()
    for n in range(3):
        fails(throttle, 0.0, f"2001:db8:1:2::{n}")
    assert throttle.shut_out("2001:db8:1:2:ffff:ffff:ffff:ffff", 0.0)
    assert not throttle.shut_out("2001:db8:1:3::1", 0.0)
    assert not throttle.shut_out("2001:db8:1:1::1", 0.0)
    assert who("192.0.2.1") == "192.0.2.1"


def test_a_changed_number_holds_for_those_that_are_remembered() -> None:
    throttle = Throttle()
    assert not fails(throttle, 0.0, failures=10)
    assert not fails(throttle, 0.0, failures=10)
    assert fails(throttle, 0.0, failures=3)


def test_memory_is_bounded_and_the_oldest_go_first() -> None:
    throttle = Throttle()
    for n in range(3 * SOURCES):
        fails(throttle, n / 1000, f"source {n}", failures=2)
    assert len(throttle._failures) <= SOURCES
    for n in range(3 * SOURCES):
        fails(throttle, 20.0, f"other {n}", failures=1)
    assert len(throttle._until) <= SOURCES
    assert throttle.shut_out(f"other {3 * SOURCES - 1}", 20.0)
    assert not throttle.shut_out("other 0", 20.0)


@given(st.lists(st.floats(0, 6), max_size=60), st.integers(1, 5))
def test_as_the_words_have_it(gaps: list[float], failures: int) -> None:
    """Shut out is whoever has had `failures` failures, since the last block, within ten seconds."""
    throttle, now, until = Throttle(), 0.0, 0.0
    times: list[float] = []
    for gap in gaps:
        now += gap
        assert throttle.shut_out(SOURCE, now) == (now < until)
        if now < until:
            continue
        times.append(now)
        blocked = len(times) >= failures and now - times[-failures] < 10.0
        assert throttle.failed(SOURCE, now, failures, 10.0, 20.0) == blocked
        if blocked:
            until, times = now + 20.0, []


# -- how many answers ----------------------------------------------------------------------------------


def test_an_allowance_is_per_source_and_second() -> None:
    allowance = Allowance(3)
    assert [allowance.may_answer(SOURCE, at) for at in (0.0, 0.3, 0.6, 0.9, 0.999)] == [True] * 3 + [
        False
    ] * 2
    assert allowance.may_answer("192.0.2.2", 0.9)
    assert [allowance.may_answer(SOURCE, at) for at in (1.0, 1.0, 1.0, 1.0)] == [True] * 3 + [False]


@pytest.mark.parametrize("per_second", [1, 3])
def test_an_allowance_is_bounded(per_second: int) -> None:
    allowance = Allowance(per_second)
    for n in range(3 * Allowance.SOURCES):
        assert allowance.may_answer(f"source {n}", 0.0)
    assert len(allowance._given) <= Allowance.SOURCES


# -- who goes on, and who is looked at less often ------------------------------------------------------


def test_a_copy_counts_once() -> None:
    throttle = Throttle()
    assert not any(throttle.failed(SOURCE, 0.0, 3, 10.0, 60.0, b"bob", 7) for _ in range(20))
    assert not throttle.failed(SOURCE, 0.0, 3, 10.0, 60.0, b"bob", 8)
    assert throttle.failed(SOURCE, 0.0, 3, 10.0, 60.0, b"bob", 9)


def test_on_probation_he_never_shuts_the_source_out_again() -> None:
    throttle, blocks = Throttle(), 0
    for tenth in range(10_000):
        now = tenth / 10
        if not throttle.shut_out(SOURCE, now) and throttle.looks_at(SOURCE, b"bob", now, 10, 10.0):
            blocks += throttle.failed(SOURCE, now, 10, 10.0, 60.0, b"bob", tenth + 1)
    assert blocks == 1
    assert throttle.looks_at(SOURCE, b"eve", now, 10, 10.0)
    assert throttle.looks_at("192.0.2.2", b"bob", now, 10, 10.0), "elsewhere he is nobody"
    throttle.right(SOURCE, b"bob")
    assert all(throttle.looks_at(SOURCE, b"bob", now, 10, 10.0) for _ in range(3))


def test_the_end_of_the_last_block() -> None:
    throttle = Throttle()
    for n in range(3):
        fails(throttle, 0.0)
        fails(throttle, n + 5.0, "192.0.2.2")
    assert throttle.blocked_until(1.0) == 67.0
    assert throttle.blocked_until(66.9) == 67.0
    assert throttle.blocked_until(67.0) == 0.0


PLACE = ("192.0.2.1", 5060, 0)


def test_who_has_shown_a_password() -> None:
    proven = Proven()
    proven.right(PLACE, b"bob", 0.0)
    assert proven.knows(PLACE, b"bob", PROVEN_SECONDS - 0.1)
    assert proven.knows_anybody(PLACE, 0.0)
    assert not proven.knows(PLACE, b"bob", PROVEN_SECONDS)
    assert not proven.knows_anybody(PLACE, PROVEN_SECONDS)
    assert not proven.knows(PLACE, b"eve", 0.0)
    for other in (("192.0.2.1", 5061, 0), ("192.0.2.2", 5060, 0), ("192.0.2.1", 5060, 1)):
        assert not proven.knows(other, b"bob", 0.0)
        assert not proven.knows_anybody(other, 0.0)
    proven.wrong(PLACE, b"eve")
    assert proven.knows(PLACE, b"bob", 0.0)
    proven.wrong(PLACE, b"bob")
    assert not proven.knows_anybody(PLACE, 0.0)
    assert not proven._users


def test_what_is_remembered_is_bounded() -> None:
    throttle, proven = Throttle(), Proven()
    for n in range(3 * SOURCES):
        proven.right((str(n), 1, 0), b"bob", 0.0)
        throttle.failed(f"s{n}", 0.0, 1, 10.0, 60.0, str(n).encode())
    for n in range(3 * USERS):
        proven.right(PLACE, str(n).encode(), 0.0)
    assert len(proven._users) <= SOURCES
    assert len(proven._users[PLACE]) <= USERS
    assert len(throttle._probation) <= SOURCES
