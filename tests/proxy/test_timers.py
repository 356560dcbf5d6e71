"""Copies and time-outs (RFC 3261 §16.6 step 11, §16.8, §17; RFC 4320). The wheel may be 20 ms late, never early."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent, matches
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.text import Text

GRAIN = 0.02


def when(agent: Agent, what: str) -> list[float]:
    """Takes everything that is unread: when each copy came."""
    assert all(matches(text, what) for _, text in agent.inbox), agent.inbox
    times = [at for at, _ in agent.inbox]
    agent.inbox.clear()
    return times


def on_time(times: list[float], start: float, expected: list[float], slack: float = 1e-6) -> None:
    """Each copy as long after the one before it as the timer says, and up to a grain more."""
    assert len(times) == len(expected), [t - start for t in times]
    for before, at, due_before, due in zip([start, *times], times, [0.0, *expected], expected, strict=False):
        assert -slack <= (at - before) - (due - due_before) <= GRAIN + slack, [t - start for t in times]


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_a_silent_callee(world: World, caller: str) -> None:
    """Timers A and B (§17.1.1.2): copies at T1 doubling, at 64*T1 the caller gets a 408 (§16.8)."""
    a, b = (world.pbx, world.carrier) if caller == "pbx" else (world.carrier, world.pbx)
    a.sends("INVITE")
    a.gets("100")
    b.gets("INVITE")
    start = world.now
    world.after(31.98)
    # towards the carrier a copy whose token went back asks the store for another first
    on_time(when(b, "INVITE"), start, [0.5, 1.5, 3.5, 7.5, 15.5, 31.5], slack=0.04)
    a.gets_nothing()
    world.holds(**({"outbound": 1} if caller == "pbx" else {"inbound": 1}))
    world.after(0.06)
    final = a.gets("408")
    assert final.to_tag
    world.holds_nothing()
    a.sends("ACK")
    assert world.record().outcome == "no_answer"


def test_the_copies_are_one_and_the_same(world: World) -> None:
    """§17.1.1.2: a retransmission is the same message, byte for byte."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.after(4)
    world.carrier.gets("INVITE", times=3)
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


@pytest.mark.parametrize("provisional", ["100", "180"])
def test_after_a_provisional_no_more_copies(world: World, provisional: str) -> None:
    """§17.1.1.2: in Proceeding the INVITE is not sent again."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends(provisional)
    world.after(100)
    world.carrier.gets_nothing()
    if provisional == "180":
        world.pbx.gets("180")
    world.holds(outbound=1)
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def ringing(world: World, provisional: str = "180") -> None:
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends(provisional)
    if provisional != "100":
        world.pbx.gets(provisional)


@pytest.mark.parametrize("provisional", ["100", "180"])
def test_timer_c(world: World, provisional: str) -> None:
    """§16.8: no final answer for more than three minutes: CANCEL; the carrier's 487 goes up."""
    ringing(world, provisional)
    world.after(180)
    world.carrier.gets_nothing()
    world.after(1.1)
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 CANCEL")
    world.holds(outbound=1)
    world.carrier.sends("487 INVITE")
    world.carrier.gets("ACK")
    world.pbx.gets("487")
    world.pbx.sends("ACK")
    world.holds_nothing()


def test_timer_c_and_no_answer_even_then(world: World) -> None:
    """§16.8, §9.1: 64*T1 after the CANCEL the branch is dead: 408."""
    ringing(world)
    world.after(181.1)
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 CANCEL")
    world.after(31.9)
    world.pbx.gets_nothing()
    world.holds(outbound=1)
    world.after(0.2)
    world.pbx.gets("408")
    world.pbx.sends("ACK")
    world.holds_nothing()


def test_timer_c_begins_anew_with_every_101_to_199(world: World) -> None:
    """§16.7 step 2: a queue's 182 or 183 every minute keeps the call for hours; the lines stay held."""
    ringing(world)
    for _ in range(60):
        world.after(170)
        world.carrier.sends("182")
        world.pbx.gets("182")
        world.holds(outbound=1)
    world.after(181.1)
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 CANCEL")
    world.carrier.sends("487 INVITE")
    world.carrier.gets("ACK")
    world.pbx.gets("487")
    world.pbx.sends("ACK")


def test_timer_c_does_not_begin_anew_with_a_100(world: World) -> None:
    """§16.7 step 2: 101–199, not 100."""
    ringing(world)
    world.after(100)
    world.carrier.sends("100")
    world.after(81.1)
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 CANCEL")
    world.carrier.sends("487 INVITE")
    world.carrier.gets("ACK")
    world.pbx.gets("487")
    world.pbx.sends("ACK")


def test_a_2xx_after_timer_c_still_counts(world: World) -> None:
    """§16.7 step 5: it goes up, whatever the gate had decided."""
    ringing(world)
    world.after(181.1)
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 INVITE")
    world.carrier.sends("481 CANCEL")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.holds(outbound=1)
    world.hangs_up()


def test_the_ack_of_a_refusal_is_lost(world: World) -> None:
    """Timers G and H (§17.2.1): the refusal is repeated, T1 doubling to T2, for 64*T1; the line was free at once."""
    ringing(world)
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    start = world.now
    world.holds_nothing()
    world.after(40)
    on_time(when(world.pbx, "486"), start, [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5])


def test_the_ack_ends_the_copies_of_a_refusal(world: World) -> None:
    """§17.2.1: and its own copies are absorbed (Timer I)."""
    ringing(world)
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.after(2)
    world.pbx.gets("486", times=2)
    world.pbx.sends("ACK")
    world.pbx.repeats("ACK", number=3)
    world.after(40)
    world.pbx.gets_nothing()
    world.carrier.gets_nothing()


@pytest.mark.parametrize("stage", ["100", "180", "200", "486"])
def test_a_repeated_invite_gets_the_last_answer_again(world: World, stage: str) -> None:
    """§17.2.1: before and after each answer the copy is replayed, never forwarded; after a 2xx it is absorbed."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    if stage != "100":
        world.carrier.sends(stage)
        world.pbx.gets(stage)
    if stage == "486":
        world.carrier.gets("ACK")
    world.pbx.repeats("INVITE", number=3)
    if stage != "200":
        world.pbx.gets(stage, times=3)
    world.pbx.gets_nothing()
    world.carrier.gets_nothing()
    if stage in ("100", "180"):
        world.holds(outbound=1)
        world.carrier.sends("486")
        world.carrier.gets("ACK")
        world.pbx.gets("486")
    world.pbx.sends("ACK")
    if stage == "200":
        world.carrier.gets("ACK")
        world.hangs_up()


def test_a_repeated_invite_before_the_verdict(world: World) -> None:
    """Pitfall 14: copies that come before anything was decided count once and claim once."""
    world.pbx.sends("INVITE")
    world.pbx.repeats("INVITE", number=2)
    world.pbx.gets("100", times=3)
    world.carrier.gets("INVITE")
    world.carrier.gets_nothing()
    world.holds(outbound=1)
    assert world.store.asked == 1
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_a_copy_from_elsewhere_is_not_replayed(world: World) -> None:
    """Another host that writes the same branch gets nothing and changes nothing."""
    invite = world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.stranger.transmits(invite.data)
    world.stranger.gets_nothing()
    world.pbx.gets_nothing()
    assert world.rejected("another's branch") == 1
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_merged_requests_are_calls_of_their_own(ladder: Ladder) -> None:
    """§16.3, proxy rules §2: the same Call-ID, tag and CSeq with another branch (an upstream fork): each is a call
    with a line and an answer of its own, and a BYE inside one leaves the other alone."""
    world = ladder()
    first = world.pbx.sends("INVITE")
    world.pbx.gets("100")
    one = world.carrier.gets("INVITE")
    branch = b"z9hG4bK-pbx-fork"
    world.pbx.transmits(first.data.replace(first.branch.encode(), branch))
    world.pbx.gets("100")
    two = world.carrier.gets("INVITE")
    assert one.branch != two.branch
    world.holds(outbound=2)
    leg = world.carrier.legs[one.call_id]
    leg.answered.add(id(one))
    world.carrier.sends("180 INVITE", tag="b")  # of the second
    assert world.pbx.gets("180").branch == branch.decode()
    world.carrier.sends("486 INVITE", tag="b")
    assert world.carrier.gets("ACK").branch == two.branch
    refusal = world.pbx.gets("486")
    world.pbx.transmits(acknowledged(first, refusal, branch))
    world.holds(outbound=1)
    leg.answered.clear()
    leg.answered.add(id(two))
    world.carrier.sends("200 INVITE", tag="a")
    world.pbx.gets("200")
    world.pbx.sends("ACK", tag="a")
    world.carrier.gets("ACK")
    world.holds(outbound=1)
    world.hangs_up()


def acknowledged(invite: Text, refusal: Text, branch: bytes) -> bytes:
    """The ACK of a refusal whose INVITE was sent with another branch."""
    data = invite.data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    for old, new in (
        (b"INVITE sip", b"ACK sip"),
        (b"1 INVITE", b"1 ACK"),
        (invite.branch.encode(), branch),
        (b"To: " + invite.get("to").encode(), b"To: " + refusal.get("to").encode()),
        (f"Content-Length: {len(invite.body)}".encode(), b"Content-Length: 0"),
    ):
        assert old in data
        data = data.replace(old, new)
    return data


@pytest.mark.parametrize("sender", ["pbx", "carrier"])
def test_a_non_invite_without_an_answer(world: World, sender: str) -> None:
    """Timers E and F (§17.1.2.2). RFC 4320: over UDP a 100 once Timer E has reached T2, and never a 408."""
    a, b = (world.pbx, world.carrier) if sender == "pbx" else (world.carrier, world.pbx)
    world.talks()
    a.sends("INFO")
    b.gets("INFO")
    start = world.now
    world.after(3.4)
    a.gets_nothing()
    world.after(0.2)
    assert not a.gets("100 INFO").has("warning")
    world.after(100)
    on_time(when(b, "INFO"), start, [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5])
    a.gets_nothing()
    world.holds(outbound=1)
    world.hangs_up()


def test_a_repeated_non_invite_is_absorbed_then_replayed(world: World) -> None:
    """§17.2.2: absorbed while there is no answer, the final one replayed for Timer J, forwarded anew after that."""
    world.talks()
    world.pbx.sends("INFO")
    world.carrier.gets("INFO")
    world.pbx.repeats("INFO", number=2)
    world.carrier.gets_nothing()
    world.pbx.gets_nothing()
    world.carrier.sends("200 INFO")
    world.pbx.gets("200 INFO")
    world.pbx.repeats("INFO", number=2)
    world.pbx.gets("200 INFO", times=2)
    world.after(33)
    world.pbx.gets_nothing()
    world.hangs_up()


def test_no_provisional_but_a_late_100_goes_up_for_a_non_invite(world: World) -> None:
    """RFC 4320 §4.1: 1xx other than 100 are not passed."""
    world.talks()
    world.pbx.sends("INFO")
    world.carrier.gets("INFO")
    world.carrier.sends("183 INFO")
    world.carrier.sends("100 INFO")
    world.pbx.gets_nothing()
    world.carrier.sends("200 INFO")
    world.pbx.gets("200 INFO")
    world.hangs_up()


def test_a_408_is_never_sent_to_a_non_invite(world: World) -> None:
    """RFC 4320 §4.2: not made by the gate, and not passed on where the other side sends one."""
    world.talks()
    world.pbx.sends("INFO")
    world.carrier.gets("INFO")
    world.carrier.sends("408 INFO")
    world.after(1)
    world.pbx.gets_nothing()
    world.after(3)
    world.pbx.gets("100 INFO")
    world.after(100)
    world.pbx.gets_nothing()
    world.hangs_up()


def test_a_late_answer_to_a_non_invite_is_dropped(world: World) -> None:
    """RFC 4320 §4.2, RFC 6026: after Timer F nobody waits for it."""
    world.talks()
    world.pbx.sends("INFO")
    world.carrier.gets("INFO")
    world.after(3.6)
    world.pbx.gets("100 INFO")
    world.after(40)
    world.carrier.gets("INFO", times=10)
    world.carrier.sends("200 INFO")
    world.pbx.gets_nothing()
    world.hangs_up()


def test_a_late_copy_of_the_ack_of_a_failure(world: World) -> None:
    """§17.2.1: it ends here, after Timer I too: the callee has had the gate's own."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("180")
    world.pbx.gets("180")
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")
    world.after(5.1)
    world.pbx.repeats("ACK")
    world.carrier.gets_nothing()
    world.pbx.gets_nothing()
    assert world.rejected("stray ACK") == 1
