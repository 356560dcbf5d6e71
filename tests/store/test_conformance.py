"""What every store of live limits promises (`policy.ledger.Store`), whichever it is. Times are passed in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.store.support import (
    AGAIN,
    BACK,
    FOREVER,
    LINES,
    NOW,
    RATE,
    REACH,
    SOON,
    Make,
    ask,
    just_before,
    refusal,
)

from callgate.policy.claim import Distinct, Gap, Members, Part, Window
from callgate.policy.ledger import MARGIN, Store

# -- windows: take, sent, release ----------------------------------------------------------------------


def test_a_window_grants_up_to_its_limit(store: Store) -> None:
    for id in (1, 2, 3):
        assert ask(store, id, RATE).granted
    assert refusal(ask(store, 4, RATE)) == (
        "V1",
        4,
        3,
        None,
    )  # what it would have become; nobody has sent yet
    assert store.used("rate", NOW) == 3


def test_a_token_that_was_never_sent_does_not_come_back_by_itself(store: Store) -> None:
    for id in (1, 2, 3):
        ask(store, id, RATE)
    assert not ask(store, 4, RATE, now=NOW + 10_000).granted
    assert store.used("rate", NOW + 10_000) == 3


@pytest.mark.parametrize("released", ["not at all", "before it came back", "twice"])
def test_a_sent_token_comes_back_a_period_and_the_margin_later(store: Store, released: str) -> None:
    """To the moment, whether the call has ended meanwhile or not: the carrier may see the copy that late."""
    for id in (1, 2, 3):
        ask(store, id, RATE)
        store.sent(id, NOW + id)
    for _ in range(["not at all", "before it came back", "twice"].index(released)):
        store.release(1, NOW + 1.5)
    back = NOW + 1 + BACK
    assert refusal(ask(store, 4, RATE, now=NOW + 1.6)) == ("V1", 4, 3, back)
    assert refusal(ask(store, 4, RATE, now=just_before(back))) == ("V1", 4, 3, back)
    assert store.used("rate", just_before(back)) == 3
    assert store.used("rate", back) == 2
    assert ask(store, 4, RATE, now=back).granted


def test_a_later_copy_holds_the_token_longer(store: Store) -> None:
    """The first may be lost, and then it is the last that arrives first."""
    one = Window("V1", "one", 1)
    ask(store, 1, one)
    for after in (0.0, 0.5, 1.0):
        store.sent(1, NOW + after)
    back = NOW + 1.0 + BACK
    assert refusal(ask(store, 2, one, now=NOW + BACK)) == ("V1", 2, 1, back)
    assert not ask(store, 2, one, now=just_before(back)).granted
    assert ask(store, 2, one, now=back).granted


def test_a_copy_after_the_token_came_back_counts_again(store: Store) -> None:
    ask(store, 1, RATE)
    store.sent(1, NOW)
    assert store.used("rate", NOW + 5) == 0
    store.sent(1, NOW + 5)
    assert store.used("rate", NOW + 5) == 1
    assert store.used("rate", NOW + 5 + BACK) == 0


def test_sent_twice_is_sent_once(store: Store) -> None:
    ask(store, 1, RATE)
    store.sent(1, NOW)
    store.sent(1, NOW)
    assert store.used("rate", NOW) == 1
    assert store.used("rate", NOW + BACK) == 0


def test_the_first_token_to_come_back_is_named(store: Store) -> None:
    """`free_at`: of those that were sent; the others may come back any time or never."""
    for id in (1, 2, 3):
        ask(store, id, RATE)
    store.sent(2, NOW + 0.2)
    store.sent(3, NOW + 0.3)
    assert refusal(ask(store, 4, RATE, now=NOW + 0.4))[3] == NOW + 0.2 + BACK
    store.sent(2, NOW + 0.5)
    assert refusal(ask(store, 4, RATE, now=NOW + 0.6))[3] == NOW + 0.3 + BACK
    assert ask(store, 4, RATE, now=NOW + 0.3 + BACK).granted


@pytest.mark.parametrize("period", [0.25, 1.0, 60.0])
def test_a_window_of_any_length(store: Store, period: float) -> None:
    window = Window("V1", "window", 1, period)
    ask(store, 1, window)
    store.sent(1, NOW)
    back = NOW + period + MARGIN
    assert not ask(store, 2, window, now=just_before(back)).granted
    assert ask(store, 2, window, now=back).granted


def test_release_gives_an_unsent_token_back_at_once(store: Store) -> None:
    for id in (1, 2, 3):
        ask(store, id, RATE)
    store.release(2, NOW)
    assert store.used("rate", NOW) == 2
    assert ask(store, 4, RATE).granted
    assert not ask(store, 5, RATE).granted


def test_a_release_is_for_the_parts_that_were_never_sent(store: Store) -> None:
    """Partial: lines and members go at once; the token of what the carrier may still see stays out."""
    ask(store, 1, RATE, LINES, REACH, AGAIN)
    store.sent(1, NOW)
    store.release(1, NOW + 0.1)
    assert (store.used("rate", NOW + 0.1), store.used("lines", NOW + 0.1)) == (1, 0)
    assert not ask(store, 2, AGAIN, now=NOW + 0.1).granted


@pytest.mark.parametrize("times", [1, 2, 5])
def test_releasing_again_is_nothing(store: Store, times: int) -> None:
    for id in (1, 2):
        ask(store, id, RATE, LINES)
    for _ in range(times):
        store.release(1, NOW)
    assert (store.used("rate", NOW), store.used("lines", NOW)) == (1, 1)


def test_what_nobody_holds_can_be_sent_renewed_and_released(store: Store) -> None:
    ask(store, 1, RATE, LINES)
    store.release(1, NOW)
    for id in (1, 99):
        store.sent(id, NOW)
        store.renew(id, 60.0, NOW)
        store.release(id, NOW)
    assert (store.used("rate", NOW), store.used("lines", NOW)) == (0, 0)


# -- all or nothing ------------------------------------------------------------------------------------

FULL: dict[str, Callable[[Store], Part]] = {}
"""Makes one limit full; what refuses then."""


def full(name: str) -> Callable[[Callable[[Store], Part]], Callable[[Store], Part]]:
    def keep(fill: Callable[[Store], Part]) -> Callable[[Store], Part]:
        FULL[name] = fill
        return fill

    return keep


@full("window")
def _(store: Store) -> Part:
    part = Window("V1-full", "full window", 1)
    ask(store, 1001, part)
    return part


@full("members")
def _(store: Store) -> Part:
    part = Members("V4-full", "full set", 1)
    ask(store, 1002, part)
    return part


@full("distinct")
def _(store: Store) -> Part:
    ask(store, 1003, Distinct("K1-full", "full reach", 1, 60.0, b"somebody"))
    return Distinct("K1-full", "full reach", 1, 60.0, b"another")


@full("gap")
def _(store: Store) -> Part:
    part = Gap("K4-full", "full gap", 60.0, b"somebody")
    ask(store, 1004, part)
    store.sent(1004, NOW - 1)
    return part


@pytest.mark.parametrize("kind", FULL)
@pytest.mark.parametrize("place", range(5))
def test_all_or_nothing(store: Store, kind: str, place: int) -> None:
    """Whichever part refuses, and wherever it stands: nothing is taken of any other."""
    parts: list[Part] = [RATE, LINES, REACH, AGAIN]
    refusing = FULL[kind](store)
    parts.insert(place, refusing)
    for _ in range(10):
        assert refusal(ask(store, 1, *parts))[0] == refusing.rule
    assert (store.used("rate", NOW), store.used("lines", NOW)) == (0, 0)
    assert ask(store, 2, AGAIN).granted
    reached = [Distinct("K1", "reach", 2, 60.0, member) for member in (b"b", b"c")]
    assert all(ask(store, 3 + n, part).granted for n, part in enumerate(reached))


def test_the_order_of_the_parts_decides_which_rule_is_named(store: Store) -> None:
    refusing = [fill(store) for fill in FULL.values()]
    for n, first in enumerate(refusing):
        assert refusal(ask(store, n, first, *refusing))[0] == first.rule


def test_a_grant_takes_every_part(store: Store) -> None:
    assert ask(store, 1, RATE, LINES, REACH, AGAIN).granted
    assert (store.used("rate", NOW), store.used("lines", NOW)) == (1, 1)
    assert not ask(store, 2, AGAIN).granted


def test_a_claim_of_nothing_is_granted(store: Store) -> None:
    """A key without limits."""
    assert ask(store, 1).granted
    store.sent(1, NOW)
    store.release(1, NOW)


# -- asked twice, late, after a crash ------------------------------------------------------------------


def test_asked_twice_granted_once(store: Store) -> None:
    for _ in range(3):
        assert ask(store, 1, RATE, LINES, REACH, AGAIN).granted
    assert (store.used("rate", NOW), store.used("lines", NOW)) == (1, 1)
    store.release(1, NOW)
    assert (store.used("rate", NOW), store.used("lines", NOW)) == (0, 0)
    assert ask(store, 2, AGAIN).granted


def test_what_was_granted_is_granted_still_when_asked_late_or_when_all_is_full(store: Store) -> None:
    one = Members("V4", "one", 1)
    assert ask(store, 1, one, deadline=NOW + 0.2).granted
    assert not ask(store, 2, one).granted
    assert ask(store, 1, one, now=NOW + 9, deadline=NOW + 0.2).granted
    assert store.used("one", NOW + 9) == 1


def test_what_was_refused_may_be_granted_when_asked_again(store: Store) -> None:
    one = Members("V4", "one", 1)
    ask(store, 1, one)
    assert not ask(store, 2, one).granted
    store.release(1, NOW)
    assert ask(store, 2, one).granted


def test_granted_late_not_at_all(store: Store) -> None:
    """At the deadline it still may be, after it nothing is taken; the refusal names no limit but the store."""
    assert ask(store, 1, RATE, LINES, now=NOW, deadline=NOW).granted
    assert refusal(ask(store, 2, RATE, LINES, now=NOW + SOON, deadline=NOW)) == ("store", 0, 0, None)
    assert refusal(ask(store, 3, RATE, now=NOW + 1, deadline=NOW, force=True))[0] == "store"
    assert (store.used("rate", NOW + 1), store.used("lines", NOW + 1)) == (1, 1)


@pytest.mark.parametrize(
    ("period", "limit"),
    [(1.0, 3), (1.0, 1), (1.0, 0), (0.5, 2)],
)
def test_after_a_start_a_window_is_closed_for_one_period(make: Make, period: float, limit: int) -> None:
    """What an earlier process sent just before is unknown, so no token is free."""
    started = NOW
    store = make(started)
    window = Window("V1", "rate", limit, period)
    open_at = started + period + MARGIN
    for now in (started, started + period, just_before(open_at)):
        assert refusal(ask(store, 1, window, now=now)) == ("V1", limit + 1, limit, open_at)
        assert store.used("rate", now) == 0
    assert ask(store, 1, window, now=open_at).granted == (limit > 0)


def test_after_a_start_nothing_else_is_closed(make: Make) -> None:
    """Not sets, not what only counts, not what must pass; and longer windows come from the journal."""
    store = make(NOW)
    free = [LINES, REACH, AGAIN, Window("V1", "counted", None), Window("V8", "hour", 5, 3600.0)]
    for id, part in enumerate(free):
        assert ask(store, id, part).granted
    assert ask(store, 90, RATE, force=True).granted


# -- leases --------------------------------------------------------------------------------------------


def test_a_lease_that_runs_out_gives_everything_back(store: Store) -> None:
    """As a release does: lines and unsent tokens at once."""
    ask(store, 1, RATE, LINES, AGAIN, lease=10.0)
    assert (store.used("rate", just_before(NOW + 10)), store.used("lines", just_before(NOW + 10))) == (1, 1)
    assert (store.used("rate", NOW + 10), store.used("lines", NOW + 10)) == (0, 0)
    assert ask(store, 2, AGAIN, now=NOW + 10).granted


def test_a_lease_that_runs_out_makes_room_for_the_next_claim(store: Store) -> None:
    one = Members("V4", "one", 1)
    ask(store, 1, one, lease=10.0)
    assert not ask(store, 2, one, now=just_before(NOW + 10)).granted
    assert ask(store, 2, one, now=NOW + 10).granted
    store.release(1, NOW + 10)
    assert store.used("one", NOW + 10) == 1


def test_a_sent_token_outlives_its_lease(store: Store) -> None:
    ask(store, 1, RATE, lease=0.1)
    store.sent(1, NOW)
    assert store.used("rate", just_before(NOW + BACK)) == 1
    assert store.used("rate", NOW + BACK) == 0


def test_a_renewed_lease_counts_from_then(store: Store) -> None:
    ask(store, 1, LINES, lease=10.0)
    store.renew(1, 10.0, NOW + 9)
    store.renew(1, 10.0, NOW + 9)
    assert store.used("lines", just_before(NOW + 19)) == 1
    assert store.used("lines", NOW + 19) == 0


@pytest.mark.parametrize(
    ("first", "then", "ends"), [(10.0, FOREVER, FOREVER), (FOREVER, 5.0, 6.0), (10.0, 1.0, 2.0)]
)
def test_a_lease_may_become_longer_or_shorter(store: Store, first: float, then: float, ends: float) -> None:
    ask(store, 1, LINES, lease=first)
    store.renew(1, then, NOW + 1)
    assert store.used("lines", just_before(NOW + min(ends, 1e6))) == 1
    assert store.used("lines", NOW + min(ends, 1e6)) == (1 if ends == FOREVER else 0)


def test_what_has_run_out_can_not_be_renewed(store: Store) -> None:
    ask(store, 1, LINES, lease=10.0)
    assert store.used("lines", NOW + 10) == 0
    store.renew(1, 10.0, NOW + 11)
    assert store.used("lines", NOW + 11) == 0


def test_what_has_run_out_is_asked_for_anew(store: Store) -> None:
    """The same id is no grant any more when its lease is over: another may hold the line."""
    one = Members("V4", "one", 1)
    ask(store, 1, one, lease=10.0)
    assert ask(store, 1, one, now=NOW + 10, lease=10.0).granted
    assert store.used("one", just_before(NOW + 20)) == 1
    assert store.used("one", NOW + 20) == 0
    ask(store, 3, one, now=NOW + 20)
    assert not ask(store, 1, one, now=NOW + 21).granted


# -- sets ----------------------------------------------------------------------------------------------


def test_a_set_grants_up_to_its_limit(store: Store) -> None:
    for id in (1, 2, 3):
        assert ask(store, id, LINES).granted
    assert refusal(ask(store, 4, LINES)) == ("V4", 4, 3, None)  # nobody knows when a call ends
    store.sent(1, NOW)
    assert not ask(store, 4, LINES, now=NOW + 10_000).granted
    store.release(2, NOW)
    assert ask(store, 4, LINES).granted


def test_weights(store: Store) -> None:
    """A forward holds two lines: V4."""
    two = Members("V4", "lines", 3, weight=2)
    assert ask(store, 1, two).granted
    assert refusal(ask(store, 2, two)) == ("V4", 4, 3, None)
    assert ask(store, 3, LINES).granted
    assert store.used("lines", NOW) == 3
    assert refusal(ask(store, 4, LINES)) == ("V4", 4, 3, None)
    store.release(1, NOW)
    assert store.used("lines", NOW) == 1
    assert ask(store, 5, two).granted


def test_a_set_never_goes_below_nothing(store: Store) -> None:
    two = Members("V4", "lines", 3, weight=2)
    ask(store, 1, two)
    for _ in range(3):
        store.release(1, NOW)
    store.release(2, NOW)
    assert store.used("lines", NOW) == 0
    assert [ask(store, id, LINES).granted for id in (10, 11, 12, 13)] == [True, True, True, False]


# -- distinct within, gaps -----------------------------------------------------------------------------


def reach(member: bytes, limit: int | None = 2) -> Distinct:
    return Distinct("K1", "reach", limit, 60.0, member)


def test_distinct_counts_different_members(store: Store) -> None:
    for id, member in enumerate([b"a", b"b", b"a", b"b", b"a"]):
        assert ask(store, id, reach(member)).granted
        store.sent(id, NOW)
    assert refusal(ask(store, 9, reach(b"c")))[:3] == ("K1", 3, 2)
    assert ask(store, 9, reach(b"b")).granted


def test_a_member_is_forgotten_a_period_after_it_was_last_sent_to(store: Store) -> None:
    for id, member, at in ((1, b"a", 0.0), (2, b"b", 10.0), (3, b"a", 20.0)):
        assert ask(store, id, reach(member), now=NOW + at).granted
        store.sent(id, NOW + at)
    store.release(1, NOW + 30)
    assert not ask(store, 4, reach(b"c"), now=just_before(NOW + 70)).granted
    assert ask(store, 4, reach(b"c"), now=NOW + 70).granted  # b is gone, a stays until 80
    assert not ask(store, 5, reach(b"b"), now=NOW + 70).granted


def test_a_member_that_was_never_sent_to_is_given_back(store: Store) -> None:
    ask(store, 1, reach(b"a"))
    ask(store, 2, reach(b"b"))
    store.release(2, NOW)
    assert ask(store, 3, reach(b"c")).granted
    assert not ask(store, 4, reach(b"b")).granted


@pytest.mark.parametrize("first", [1, 2])
def test_a_member_of_two_claims_is_given_back_with_the_second(store: Store, first: int) -> None:
    ask(store, 1, reach(b"a"))
    ask(store, 2, reach(b"a"))
    ask(store, 3, reach(b"b"))
    store.release(first, NOW)
    assert not ask(store, 4, reach(b"c")).granted
    store.release(3 - first, NOW)
    assert ask(store, 4, reach(b"c")).granted


def test_a_member_of_a_claim_that_is_not_sent_yet_stays(store: Store) -> None:
    """Even when an earlier call to the same one is forgotten meanwhile."""
    ask(store, 1, reach(b"a"))
    store.sent(1, NOW)
    ask(store, 2, reach(b"a"), now=NOW + 59)
    ask(store, 3, reach(b"b"), now=NOW + 59)
    assert not ask(store, 4, reach(b"c"), now=NOW + 61).granted
    store.release(2, NOW + 61)
    assert ask(store, 4, reach(b"c"), now=NOW + 61).granted


def test_a_gap_to_the_same_member(store: Store) -> None:
    """K4: from the last INVITE that was sent, to the moment; the value is how long ago that was."""
    assert ask(store, 1, AGAIN).granted
    store.sent(1, NOW)
    store.release(1, NOW + 5)  # the end of the call changes nothing
    free_at = NOW + 60
    assert refusal(ask(store, 2, AGAIN, now=NOW + 10.9)) == ("K4", 10, 60, free_at)
    assert refusal(ask(store, 2, AGAIN, now=just_before(free_at))) == ("K4", 59, 60, free_at)
    assert ask(store, 3, Gap("K4", "again", 60.0, b"b"), now=NOW + 10).granted
    assert ask(store, 2, AGAIN, now=free_at).granted


def test_a_further_attempt_extends_a_gap_and_is_not_held_up_by_it(store: Store) -> None:
    """It is the same call, at another gateway."""
    ask(store, 1, AGAIN)
    store.sent(1, NOW)
    further = Gap("K4", "again", 60.0, b"a", refuses=False)
    assert further.member == AGAIN.member
    assert ask(store, 2, further, now=NOW + 4).granted
    store.sent(2, NOW + 4)
    assert refusal(ask(store, 3, AGAIN, now=NOW + 60))[3] == NOW + 64
    assert ask(store, 3, AGAIN, now=NOW + 64).granted


def test_refused_tries_do_not_extend_a_gap(store: Store) -> None:
    ask(store, 1, AGAIN)
    store.sent(1, NOW)
    for after in range(1, 60):
        assert not ask(store, 1 + after, AGAIN, now=NOW + after).granted
    assert ask(store, 99, AGAIN, now=NOW + 60).granted


def test_a_later_copy_begins_the_gap_anew(store: Store) -> None:
    ask(store, 1, AGAIN)
    store.sent(1, NOW)
    store.sent(1, NOW + 0.5)
    assert refusal(ask(store, 2, AGAIN, now=NOW + 60))[3] == NOW + 60.5
    assert ask(store, 2, AGAIN, now=NOW + 60.5).granted


def test_a_gap_while_the_first_call_is_about_to_be_sent(store: Store) -> None:
    ask(store, 1, AGAIN)
    assert refusal(ask(store, 2, AGAIN)) == ("K4", 0, 60, None)
    store.release(1, NOW)
    assert ask(store, 2, AGAIN).granted


@pytest.mark.parametrize("sent", [0.1, 0.3, 0.7, 1e6 + 0.1])
@pytest.mark.parametrize("period", [0.1, 0.2, 0.7, 3.3])
def test_free_at_is_the_moment_itself(store: Store, sent: float, period: float) -> None:
    """Asked again at that very time it is granted, whatever the binary fractions are."""
    sent += NOW
    for part in (Gap("K4", "g", period, b"a"), Window("V1", "w", 1, period)):
        one, two = (1, 2) if isinstance(part, Gap) else (3, 4)
        ask(store, one, part, now=sent)
        store.sent(one, sent)
        free_at = refusal(ask(store, two, part, now=sent))[3]
        assert free_at is not None
        assert ask(store, two, part, now=free_at).granted


# -- no limit, nothing allowed, must pass --------------------------------------------------------------


def test_no_limit_counts_without_refusing(store: Store) -> None:
    parts = [Window("V1", "rate", None), Members("V4", "lines", None, 2), reach(b"a", None)]
    for id in range(100):
        assert ask(store, id, *parts).granted
    assert (store.used("rate", NOW), store.used("lines", NOW)) == (100, 200)
    for id in range(100):
        store.sent(id, NOW)
        store.release(id, NOW)
    assert (store.used("rate", NOW), store.used("lines", NOW)) == (100, 0)
    assert store.used("rate", NOW + BACK) == 0


@pytest.mark.parametrize(
    ("part", "value"),
    [(Window("X", "x", 0), 1), (Members("X", "x", 0), 1), (Members("X", "x", 0, 2), 2), (reach(b"a", 0), 1)],
)
def test_a_limit_of_nothing_refuses_all(store: Store, part: Part, value: int) -> None:
    for id in (1, 2):
        assert refusal(ask(store, id, part)) == (part.rule, value, 0, None)
    assert store.used(part.name, NOW) == 0


def test_what_must_pass_passes_and_counts(store: Store) -> None:
    """Emergency calls: over every limit, and the next ordinary call sees them."""
    for id in (1, 2, 3):
        ask(store, id, RATE, LINES)
    ask(store, 4, AGAIN)
    forced = ask(store, 5, RATE, LINES, REACH, AGAIN, force=True)
    assert (forced.granted, forced.rule, forced.value, forced.limit) == (True, "V1", 4, 3)
    assert (store.used("rate", NOW), store.used("lines", NOW)) == (4, 4)
    assert refusal(ask(store, 6, RATE))[:3] == ("V1", 5, 3)
    assert refusal(ask(store, 6, LINES))[:3] == ("V4", 5, 3)
    store.sent(5, NOW)
    store.release(5, NOW)
    assert (store.used("rate", NOW), store.used("lines", NOW)) == (4, 3)
    assert store.used("rate", NOW + BACK) == 3


# -- several limits side by side -----------------------------------------------------------------------


def test_names_are_apart(store: Store) -> None:
    """Keys, fields: a full one is nobody else's business."""
    mine, other = Window("V1", "a/rate", 1), Window("V1", "b/rate", 1)
    ask(store, 1, mine, Members("V3", "a/lines", 1))
    assert ask(store, 2, other, Members("V3", "b/lines", 1)).granted
    assert not ask(store, 3, mine).granted
    assert store.used("nobody", NOW) == 0


def test_one_claim_may_hold_several_windows_and_sets(store: Store) -> None:
    """A key's limit and its trunk's."""
    key, trunk = Window("V1", "key", 2), Window("V1", "trunk", 3, 0.5)
    for id in (1, 2):
        assert ask(store, id, key, trunk, LINES, Members("K6", "calls", 5)).granted
        store.sent(id, NOW)
    assert [store.used(n, NOW) for n in ("key", "trunk", "lines", "calls")] == [2, 2, 2, 2]
    assert [store.used(n, NOW + 0.6) for n in ("key", "trunk")] == [2, 0]
    store.release(1, NOW + 0.6)
    assert [store.used(n, NOW + 0.6) for n in ("key", "trunk", "lines", "calls")] == [2, 0, 1, 1]


def test_a_limit_may_change_between_claims(store: Store) -> None:
    """A reload: what is up stays up, and the next claim is judged by the new limit."""
    for id in (1, 2, 3):
        ask(store, id, RATE, LINES)
    assert refusal(ask(store, 4, Members("V4", "lines", 1)))[:3] == ("V4", 4, 1)
    assert refusal(ask(store, 4, Window("V1", "rate", 2)))[:3] == ("V1", 4, 2)
    assert ask(store, 4, Members("V4", "lines", 4), Window("V1", "rate", 4)).granted
    assert store.used("lines", NOW) == 4
