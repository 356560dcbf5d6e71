"""`on_rate_exceeded: queue` (interface.md, Rate and queue): 100 at once, first come, first served, out the moment a
token is free; and who is taken out of the queue without having cost anything (pitfalls 6, 16, 17, 18, 19, 21)."""

from __future__ import annotations

import pytest
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.line import Line
from tests.proxy.stores import NEVER_ANSWERS
from tests.proxy.test_limits import TOKEN, ends, is_refused, passes, says
from tests.proxy.test_token_life import finishes, offered

SLACK = 0.08
"""Seconds that a slow store may take to answer twice."""


def waits(world: World, call: str) -> None:
    """100 at once, and nothing goes out."""
    world.pbx.sends("INVITE", call=call)
    world.pbx.gets("100", call=call)
    world.settle()
    world.carrier.gets_nothing()


def goes(world: World, call: str) -> None:
    """The next call out is this one."""
    world.carrier.gets("INVITE", call=call)
    ends(world, call)


def fills(world: World, limit: int) -> float:
    """Every token is out; when the first of them was sent."""
    at = world.now
    for n in range(limit):
        passes(world, f"full{n}")
        ends(world, f"full{n}")
    return at


def refused_at_once(world: World, call: str) -> None:
    """Within what the store needs."""
    since = world.now
    is_refused(world, call, "503")
    assert world.now - since <= SLACK


# -- first come, first served --------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3])
def test_out_the_moment_a_token_is_free(ladder: Ladder, limit: int) -> None:
    world = ladder(cps=limit, queue_seconds=2.0)
    sent = fills(world, limit)
    waits(world, "a")
    world.after(sent + TOKEN - 0.001 - world.now)
    world.carrier.gets_nothing()
    world.after(0.001 + SLACK)
    goes(world, "a")
    record = next(r for r in world.records if r.call_id == world.labels["a"])
    assert record.waited == pytest.approx(TOKEN, abs=SLACK)
    assert record.verdict == "passed"
    world.holds_nothing()


def test_first_come_first_served(ladder: Ladder) -> None:
    """Nine at the same instant: three now, three a second later, the others are told no at once."""
    world = ladder(cps=3, queue_seconds=2.0)
    for n in range(9):
        world.pbx.sends("INVITE", call=f"c{n}")
    world.settle()
    for n in range(9):
        world.pbx.gets("100", call=f"c{n}")
    for n in (6, 7, 8):
        world.pbx.gets("503", call=f"c{n}")
        world.pbx.sends("ACK", call=f"c{n}")
    for n in range(3):
        goes(world, f"c{n}")
    world.carrier.gets_nothing()
    assert world.core.pacing.depth("acme") == 3
    world.after(TOKEN + 2 * SLACK)
    for n in range(3, 6):
        goes(world, f"c{n}")
    assert world.core.pacing.depth("acme") == 0


def test_a_new_call_goes_behind_even_if_a_token_is_free(ladder: Ladder) -> None:
    """Its token came back while it waited for the store: the order stays."""
    world = ladder(cps=2, queue_seconds=3.5)
    fills(world, 2)
    waits(world, "first")
    waits(world, "second")
    world.after(TOKEN - 0.0005 - (world.now - world.started))
    world.pbx.sends("INVITE", call="third")
    world.after(0.001)
    world.pbx.sends("INVITE", call="fourth")
    world.settle()
    world.pbx.gets("100", call="third")
    world.pbx.gets("100", call="fourth")
    world.after(SLACK)
    goes(world, "first")
    goes(world, "second")
    world.carrier.gets_nothing()
    world.after(TOKEN + SLACK)
    goes(world, "third")
    goes(world, "fourth")


def test_goodput_with_a_queue(ladder: Ladder) -> None:
    """At ten times the limit, every token is used the moment it is back (pitfall 18)."""
    world = ladder(cps=3, queue_seconds=2.0, outbound_calls=None, calls=None)
    line = Line(world, [0.001], [0.0], ["486"])
    offered(world, line, [1 / 30] * 300)
    line.run(world.started + 10)
    assert line.fullest() <= 3
    slow = 0.0 if world.store.kind.same_turn else 0.04  # what a slow store holds a token longer
    assert len(line.passed) >= 3 * int(10 / (TOKEN + slow))
    finishes(world, line)


# -- how long --------------------------------------------------------------------------------------------------------


def test_refused_the_moment_the_wait_is_known_to_be_too_long(ladder: Ladder) -> None:
    """Half a second: nothing comes free in that time, so nobody waits for nothing. The Warning says so."""
    world = ladder(cps=1, queue_seconds=0.5)
    fills(world, 1)
    refused_at_once(world, "a")
    world.after(0.55)
    world.pbx.sends("INVITE", call="b")  # the token is back in time for this one
    world.pbx.gets("100", call="b")
    world.after(0.55)
    goes(world, "b")


def test_what_a_refusal_says(ladder: Ladder) -> None:
    world = ladder(cps=1, queue_seconds=0.5)
    fills(world, 1)
    waits_long = is_refused(world, "a", "503")
    assert waits_long.get("x-callgate-verdict") == "rule=V1;value=2;limit=1"
    assert waits_long.get("warning").startswith('399 callgate "V1 rate 2/1 per second')


def test_a_wait_that_becomes_too_long(ladder: Ladder) -> None:
    """A copy goes out under the token that a call was waiting for, which puts it off: that is known when the token
    should have been back, and the call is told then."""
    world = ladder(cps=1, queue_seconds=1.1)
    world.pbx.sends("INVITE", call="silent")
    world.pbx.gets("100", call="silent")
    world.carrier.gets("INVITE", call="silent")
    world.after(0.4)
    waits(world, "a")
    world.after(0.2)  # the copy of 0.5 s
    world.carrier.gets("INVITE", call="silent")
    world.until(world.started + TOKEN - 0.01)
    world.pbx.gets_nothing()
    world.until(world.started + TOKEN + SLACK)
    answer = world.pbx.gets("503", call="a")
    world.pbx.sends("ACK", call="a")
    assert answer.get("x-callgate-verdict") == "rule=V1;value=2;limit=1"
    ends(world, "silent")


def test_at_the_latest_after_queue_seconds(ladder: Ladder) -> None:
    """Nobody knows when a token comes free that lies behind unsent bytes: then the time itself decides."""
    world = ladder(cps=1, queue_seconds=1.1, carrier_over="TCP")
    world.stalls()
    world.pbx.sends("INVITE", call="stalled")
    world.pbx.gets("100", call="stalled")
    waits(world, "a")
    came = world.now
    world.until(came + 1.1 - SLACK)
    world.pbx.gets_nothing()
    world.until(came + 1.1 + 0.001)
    world.pbx.gets("503", call="a")
    world.pbx.sends("ACK", call="a")
    world.flows()
    goes(world, "stalled")


def test_the_queue_is_bounded(ladder: Ladder) -> None:
    """A thousand at once: what can't go out in time is not kept."""
    world = ladder(cps=3, queue_seconds=2.0, outbound_calls=None, calls=None)
    for n in range(1000):
        world.pbx.sends("INVITE", call=f"c{n}")
        assert world.core.pacing.depth("acme") <= 3 * 3
    world.settle()
    assert len(world.pbx.takes_refusals()) == 994
    for n in range(3):
        goes(world, f"c{n}")
    world.after(TOKEN + 2 * SLACK)
    for n in range(3, 6):
        goes(world, f"c{n}")


# -- other limits ----------------------------------------------------------------------------------------------------


def test_a_call_that_could_not_pass_now_is_refused_at_once(ladder: Ladder) -> None:
    """Another limit is full: no waiting, at the head of the queue as behind others."""
    world = ladder(cps=1, outbound_calls=1, queue_seconds=3.5)
    passes(world, "up")
    says(is_refused(world, "a", "503"), "C2 outbound calls 2/1", "rule=C2;value=2;limit=1")
    ends(world, "up")
    waits(world, "b")
    waits(world, "c")  # the line is free now
    world.after(TOKEN + SLACK)
    world.carrier.gets("INVITE", call="b")
    answer = world.pbx.gets("503", call="c")  # it is the first now, and the line is taken
    says(answer, "C2 outbound calls 2/1", "rule=C2;value=2;limit=1")
    world.pbx.sends("ACK", call="c")
    says(is_refused(world, "d", "503"), "C2 outbound calls 2/1", "rule=C2;value=2;limit=1")
    ends(world, "b")


def test_who_waits_holds_nothing(ladder: Ladder) -> None:
    """Lines are claimed when a call leaves the queue, not while it waits."""
    world = ladder(cps=1, outbound_calls=2, queue_seconds=2.0)
    fills(world, 1)
    world.after(0.5)
    waits(world, "a")
    world.holds_nothing()
    world.after(TOKEN)
    world.holds(outbound=1)
    goes(world, "a")
    world.holds_nothing()


def test_none_allowed_is_no_reason_to_wait(ladder: Ladder) -> None:
    world = ladder(cps=0, queue_seconds=2.0)
    refused_at_once(world, "a")


def test_no_rate_is_no_queue(ladder: Ladder) -> None:
    world = ladder(cps=None, queue_seconds=2.0)
    for n in range(10):
        passes(world, f"c{n}")
        ends(world, f"c{n}")


# -- who is gone -----------------------------------------------------------------------------------------------------


def test_pitfall_6_cancel_takes_a_call_out_of_the_queue(ladder: Ladder) -> None:
    """487, nothing was sent, no token used, and the next one takes its place."""
    world = ladder(cps=1, queue_seconds=3.5)
    sent = fills(world, 1)
    waits(world, "a")
    world.after(0.2)
    world.pbx.sends("CANCEL", call="a")
    world.pbx.gets("200 CANCEL", call="a")
    world.pbx.gets("487 INVITE", call="a")
    world.pbx.sends("ACK", call="a")
    world.pbx.sends("INVITE", call="b")
    world.pbx.gets("100", call="b")
    world.after(sent + TOKEN + SLACK - world.now)
    goes(world, "b")
    cancelled = next(r for r in world.records if r.outcome == "cancelled")
    assert (cancelled.final_code, cancelled.attempts, cancelled.ended_by) == (487, 0, "caller")
    world.holds_nothing()


def test_cancel_at_the_very_moment_of_its_turn(ladder: Ladder) -> None:
    """The store is asked already: the grant is given back, and the token is there for the next call."""
    world = ladder(cps=1, queue_seconds=3.5)
    sent = fills(world, 1)
    waits(world, "a")
    world.pbx.sends("INVITE", call="b")
    world.pbx.gets("100", call="b")
    world.until(sent + TOKEN - 1e-6)
    world.pbx.sends("CANCEL", call="a")
    world.pbx.gets("200 CANCEL", call="a")
    world.pbx.gets("487 INVITE", call="a")
    world.pbx.sends("ACK", call="a")
    world.after(3 * SLACK)
    goes(world, "b")


def test_copies_of_a_waiting_invite_are_absorbed(ladder: Ladder) -> None:
    """Pitfall 14: they get the 100 again, and one call goes out."""
    world = ladder(cps=1, queue_seconds=2.0)
    fills(world, 1)
    waits(world, "a")
    world.pbx.repeats("INVITE", call="a", number=3)
    world.pbx.gets("100", call="a", times=3)
    assert world.core.pacing.depth("acme") == 1
    world.after(TOKEN + SLACK)
    goes(world, "a")


def test_a_caller_whose_connection_is_closed_is_not_dialled(ladder: Ladder) -> None:
    world = ladder(cps=1, queue_seconds=2.0, pbx_over="TCP")
    sent = fills(world, 1)
    waits(world, "a")
    world.core.closed(world.pbx.flow, world.now)
    world.carries_out()
    world.pbx.gets("487 INVITE", call="a")
    world.pbx.sends("ACK", call="a")
    world.after(sent + TOKEN + SLACK - world.now)
    world.carrier.gets_nothing()
    assert [r.outcome for r in world.records][-1] == "cancelled"


def test_a_bye_ends_a_waiting_call(ladder: Ladder) -> None:
    """RFC 2543 callers give up so. It has no To tag, and must not reach the carrier."""
    world = ladder(cps=1, queue_seconds=2.0)
    fills(world, 1)
    invite = world.pbx.sends("INVITE", call="a")
    leg = world.pbx.legs[invite.call_id]
    world.pbx.gets("100", call="a")
    again = {"call-id": invite.call_id, "from": invite.get("from"), "cseq": "2 BYE"}
    world.settle()
    world.pbx.sends("BYE", inside=False, change=again)
    answers = {t.method: t.code for _, t in world.pbx.inbox}
    assert answers == {"BYE": 200, "INVITE": 487}
    world.pbx.legs[invite.call_id] = leg
    for _, text in list(world.pbx.inbox):
        world.pbx.gets(f"{text.code} {text.method}", call="a")
    world.pbx.sends("ACK", call="a")
    world.after(TOKEN + SLACK)
    world.carrier.gets_nothing()


def test_draining_refuses_those_who_wait(ladder: Ladder) -> None:
    """Nothing new leaves any more: the PBX hears it at once, and takes another way."""
    world = ladder(cps=1, queue_seconds=2.0)
    fills(world, 1)
    waits(world, "a")
    waits_too = world.pbx.sends("INVITE", call="b")
    world.pbx.gets("100", call="b")
    world.pbx.gets("503", call="b")  # two tokens' time is too long
    world.pbx.sends("ACK", call="b")
    assert waits_too
    world.core.drain(world.now)
    world.carries_out()
    answer = world.pbx.gets("503", call="a")
    world.pbx.sends("ACK", call="a")
    assert answer.get("x-callgate-verdict") == "rule=drain"
    world.after(TOKEN + SLACK)
    world.carrier.gets_nothing()


# -- who never waits -------------------------------------------------------------------------------------------------


def test_emergency_never_waits(ladder: Ladder) -> None:
    """Pitfall 23: this trunk can't carry it, and the PBX hears so at once."""
    world = ladder(cps=1, queue_seconds=2.0)
    fills(world, 1)
    waits(world, "a")
    world.pbx.sends("INVITE", call="emergency", to="110")
    assert world.pbx.gets("503", call="emergency").get("x-callgate-verdict").startswith("rule=K-X1")
    world.pbx.sends("ACK", call="emergency")
    world.after(TOKEN + SLACK)
    goes(world, "a")


def test_requests_in_a_dialog_never_wait(ladder: Ladder) -> None:
    """Pitfall 14: re-INVITEs never reach the policy."""
    world = ladder(cps=1, queue_seconds=2.0)
    world.talks(call="up")
    waits(world, "a")
    world.pbx.sends("re-INVITE", call="up")
    world.pbx.gets("100", call="up")
    world.carrier.gets("re-INVITE", call="up")
    world.carrier.sends("200", call="up")
    world.pbx.gets("200", call="up")
    world.pbx.sends("ACK", call="up")
    world.carrier.gets("ACK", call="up")
    world.hangs_up(call="up")
    world.after(TOKEN + SLACK)
    goes(world, "a")


def test_the_answer_to_a_challenge_never_waits(ladder: Ladder) -> None:
    """The carrier has seen the call: it needs no token, so it goes ahead of those who do."""
    world = ladder(cps=1, queue_seconds=2.0)
    first = world.pbx.sends("INVITE", call="a")
    world.pbx.gets("100", call="a")
    world.carrier.gets("INVITE", call="a")
    world.carrier.sends("407", call="a")
    world.carrier.gets("ACK", call="a")
    world.pbx.gets("407", call="a")
    world.pbx.sends("ACK", call="a")
    waits(world, "b")
    again = {"call-id": first.call_id, "cseq": "2 INVITE", "from": first.get("from")}
    world.pbx.sends("INVITE", change=again)
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    ends(world, first.call_id)
    world.after(TOKEN + SLACK)
    goes(world, "b")


def test_inbound_calls_do_not_wait(ladder: Ladder) -> None:
    world = ladder(cps=1, queue_seconds=2.0)
    fills(world, 1)
    waits(world, "a")
    world.talks(world.carrier, call="in")
    world.hangs_up(call="in")
    world.after(TOKEN + SLACK)
    goes(world, "a")


# -- who goes first --------------------------------------------------------------------------------------------------


def test_a_copy_whose_token_is_back_goes_ahead_of_the_queue(ladder: Ladder) -> None:
    """Pitfall 17. Its token went back 1.02 s after the copy of 1.5 s; it is due again at 3.5 s."""
    world = ladder(cps=1, queue_seconds=3.5)
    world.pbx.sends("INVITE", call="silent")
    world.pbx.gets("100", call="silent")
    began = world.now
    world.carrier.gets("INVITE", call="silent")
    world.after(2.0)
    world.carrier.gets("INVITE", call="silent", times=2)
    world.until(began + 2.7)
    passes(world, "x")
    ends(world, "x")
    waits(world, "y")
    world.until(began + 3.6)  # the copy is due, nothing is free: it waits at the head
    world.carrier.gets_nothing()
    world.until(began + 2.7 + TOKEN + 2 * SLACK)
    world.carrier.gets("INVITE", call="silent")
    world.carrier.gets_nothing()
    ends(world, "silent")
    world.after(TOKEN + 2 * SLACK)
    goes(world, "y")


def test_pitfall_19_a_failover_attempt_waits_at_the_head(ladder: Ladder) -> None:
    """It takes a token of its own, and goes ahead of every call that waits."""
    world = ladder(cps=1, queue_seconds=3.5, gateways=2)
    world.pbx.sends("INVITE", call="a")
    world.pbx.gets("100", call="a")
    sent = world.now
    world.carrier.gets("INVITE", call="a")
    world.pbx.sends("INVITE", call="b")
    world.pbx.gets("100", call="b")
    world.settle()
    world.carrier.sends("503", call="a")
    world.carrier.gets("ACK", call="a")
    world.settle()
    world.gateways[1].gets_nothing()
    world.until(sent + TOKEN + SLACK)
    world.carrier.gets_nothing()
    second = world.gateways[1]
    second.gets("INVITE", call="a")
    second.sends("486", call="a")
    second.gets("ACK", call="a")
    world.pbx.gets("486", call="a")
    world.pbx.sends("ACK", call="a")
    world.after(TOKEN + SLACK)
    goes(world, "b")


def test_a_failover_attempt_has_its_time_too(ladder: Ladder) -> None:
    """Then the caller gets the last gateway's answer."""
    world = ladder(cps=1, queue_seconds=0.3, gateways=2)
    world.pbx.sends("INVITE", call="a")
    world.pbx.gets("100", call="a")
    world.carrier.gets("INVITE", call="a")
    world.carrier.sends("503", call="a")
    world.carrier.gets("ACK", call="a")
    world.after(0.4)
    world.pbx.gets("500", call="a")
    world.pbx.sends("ACK", call="a")
    world.after(1)
    world.gateways[1].gets_nothing()


def test_cancel_while_a_failover_attempt_waits(ladder: Ladder) -> None:
    world = ladder(cps=1, queue_seconds=2.0, gateways=2)
    world.pbx.sends("INVITE", call="a")
    world.pbx.gets("100", call="a")
    world.carrier.gets("INVITE", call="a")
    world.carrier.sends("503", call="a")
    world.carrier.gets("ACK", call="a")
    world.after(0.2)
    world.pbx.sends("CANCEL", call="a")
    world.pbx.gets("200 CANCEL", call="a")
    world.pbx.gets("487 INVITE", call="a")
    world.pbx.sends("ACK", call="a")
    world.after(TOKEN)
    world.gateways[1].gets_nothing()


# -- congestion, the start, the store --------------------------------------------------------------------------------


def test_congestion_slows_the_same_queue(ladder: Ladder) -> None:
    """K11: 2 a second become 1; those who wait get what that allows, and nobody waits for what can't come."""
    world = ladder(cps=2, queue_seconds=2.0)
    passes(world, "told")
    world.carrier.sends("503 INVITE", call="told", headers=["Retry-After: 0", "X-Reason: CPS limit exceeded"])
    world.carrier.gets("ACK", call="told")
    world.pbx.gets("500", call="told")
    world.pbx.sends("ACK", call="told")
    if not world.key.congestion.raised:
        world.key.congestion.heard(world.now, plain=False)
    assert world.key.congestion.level(world.now) == 1
    waits(world, "a")
    refused = is_refused(world, "b", "503")
    assert refused.get("x-callgate-verdict").startswith("rule=K11")
    world.after(TOKEN + SLACK)
    goes(world, "a")


def test_after_a_start_they_wait_for_the_first_window(ladder: Ladder) -> None:
    world = ladder(cps=1, queue_seconds=2.0, fresh=True)
    waits(world, "a")
    world.after(world.started + TOKEN + SLACK - world.now)
    goes(world, "a")


def test_a_store_that_never_answers(any_ladder: Ladder) -> None:
    """Each within its own 200 ms, those behind others too."""
    world = any_ladder(cps=50, queue_seconds=2.0)
    if world.store.kind is not NEVER_ANSWERS:
        return
    for n in range(5):
        world.pbx.sends("INVITE", call=f"c{n}")
        world.pbx.gets("100", call=f"c{n}")
        world.after(0.01)
    world.after(0.2)
    for n in range(5):
        answer = world.pbx.gets("503", call=f"c{n}")
        world.pbx.sends("ACK", call=f"c{n}")
        assert answer.get("x-callgate-verdict") == "rule=store"
    world.carrier.gets_nothing()


def test_a_wait_is_told_once(ladder: Ladder) -> None:
    """interface.md: a limit that delays raises `breach_avoided`, as one that refuses does."""
    world = ladder(cps=1, queue_seconds=2.0)
    fills(world, 1)
    waits(world, "a")
    assert [(a.rule, a.resolved, a.value, a.limit) for a in world.alerts] == [("V1", False, 2, 1)]
    world.after(TOKEN + SLACK)
    goes(world, "a")
    world.after(11)
    assert [a.resolved for a in world.alerts] == [False, True]
