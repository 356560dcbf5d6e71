"""Callees that pick up when nobody waits any more (RFC 3261 §13.2.2.4, §16.7 step 5, §17.2.1; proxy rules §11): what
happens when every answer of a gateway is lost until the call has been given up, and then one comes through."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.callers import knows
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.phones import phone
from tests.proxy.text import Text

from callgate.proxy.calls import late
from callgate.proxy.flow import Flow

T2 = 4.0
LIFE = 32.0


def left_for_a_busy_one(
    ladder: Ladder, *, acknowledged: bool = True, **options: object
) -> tuple[World, Agent, Agent]:
    """The first gateway says nothing for 4 s, the second is busy: the caller has its 486."""
    world = ladder(gateways=2, **options)
    one, two = world.gateways
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    one.gets("INVITE")
    world.after(4.04)
    one.gets("INVITE", times=3)
    two.gets("INVITE")
    two.sends("486")
    two.gets("ACK")
    world.pbx.gets("486")
    if acknowledged:
        world.pbx.sends("ACK")
    world.holds_nothing()
    return world, one, two


def is_hung_up(world: World, callee: Agent, *, answers: str = "200 BYE") -> Text:
    """The gate ends the dialog; the line goes with the answer to its BYE."""
    ack = callee.gets("ACK")
    bye = callee.gets("BYE")
    assert bye.to_tag == ack.to_tag
    assert bye.cseq > ack.cseq
    world.holds(outbound=1)
    callee.sends(answers)
    world.holds_nothing()
    return bye


def test_a_caller_that_takes_no_notice(ladder: Ladder) -> None:
    """§16.7 step 5: the 2xx goes up; RFC 6026 §7.2: whoever has had a failure drops it. The gate hangs up."""
    world, one, _ = left_for_a_busy_one(ladder)
    one.sends("200")
    assert world.pbx.gets("200").to_tag == "carrier-callee"
    world.holds(outbound=1)
    world.after(T2 - 0.1)
    one.gets_nothing()
    world.after(0.16)
    is_hung_up(world, one)
    assert world.record().outcome == "busy", "one call, one record"
    assert world.rejected("late answer") == 1


def test_a_caller_that_ends_it_itself(ladder: Ladder) -> None:
    """§13.2.2.4: ACK and BYE of the caller's own; the line is held until the carrier has answered."""
    world, one, _ = left_for_a_busy_one(ladder)
    one.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    one.gets("ACK")
    world.after(T2 + 1)
    world.holds(outbound=1)
    world.pbx.sends("BYE")
    one.gets("BYE")
    world.holds(outbound=1)
    one.sends("200 BYE")
    world.pbx.gets("200 BYE")
    world.holds_nothing()
    world.after(LIFE)
    one.gets_nothing()


def test_a_caller_that_takes_its_time(ladder: Ladder) -> None:
    """The call is not forgotten as long as it may still be ended."""
    world, one, _ = left_for_a_busy_one(ladder)
    world.after(26)
    one.sends("200")
    world.pbx.gets("200")
    world.after(3)
    world.pbx.sends("ACK")
    one.gets("ACK")
    world.after(LIFE - 1)
    world.pbx.sends("BYE")
    one.gets("BYE")
    one.sends("200 BYE")
    world.pbx.gets("200 BYE")
    world.holds_nothing()


def test_a_caller_that_acknowledges_and_forgets(ladder: Ladder) -> None:
    world, one, _ = left_for_a_busy_one(ladder)
    one.sends("200")
    world.pbx.gets("200")
    world.after(1)
    world.pbx.sends("ACK")
    one.gets("ACK")
    world.after(LIFE - 0.1)
    one.gets_nothing()
    world.holds(outbound=1)
    world.after(0.16)
    is_hung_up(world, one)


def test_a_caller_that_may_not_know_of_the_failure(ladder: Ladder) -> None:
    """§17.2.1: while the ACK is missing the caller may still wait, and would take up what the gate ends: it hears of
    nothing but the failure."""
    world, one, _ = left_for_a_busy_one(ladder, acknowledged=False)
    one.sends("200")
    is_hung_up(world, one)
    world.pbx.gets_nothing()
    world.after(0.54)
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_a_failure_that_nobody_ever_acknowledges(ladder: Ladder) -> None:
    """Timer H: the caller is gone, or hears nothing."""
    world, one, _ = left_for_a_busy_one(ladder, acknowledged=False)
    world.after(26)
    one.sends("180")
    one.gets("CANCEL")
    one.sends("200 CANCEL")
    world.after(8)
    world.pbx.inbox.clear()
    one.sends("200 INVITE")
    is_hung_up(world, one)
    world.pbx.gets_nothing()


def test_its_copies_are_acknowledged_and_it_is_hung_up_once(ladder: Ladder) -> None:
    """§13.3.1.4: the callee repeats its answer until the ACK has come through."""
    world, one, _ = left_for_a_busy_one(ladder, acknowledged=False)
    world.pbx.sends("ACK")
    one.sends("200")
    world.pbx.gets("200")
    one.repeats("200")
    world.pbx.gets("200")
    world.after(T2 + 0.06)
    is_hung_up(world, one)
    one.repeats("200 INVITE", number=2)
    world.pbx.gets("200", times=2)
    one.gets("ACK")
    one.gets("ACK")
    one.gets_nothing()
    world.holds_nothing()


def test_a_callee_that_hangs_up_itself(ladder: Ladder) -> None:
    """The carrier's BYE frees at its receipt."""
    world, one, _ = left_for_a_busy_one(ladder)
    one.sends("200")
    world.pbx.gets("200")
    world.after(1)
    one.sends("BYE")
    world.holds_nothing()
    world.pbx.gets("BYE")
    world.pbx.sends("481 BYE")
    one.gets("481 BYE")
    world.after(LIFE)
    one.gets_nothing()


def test_it_is_over_before_the_store_has_answered(ladder: Ladder) -> None:
    world, one, _ = left_for_a_busy_one(ladder, acknowledged=False)
    one.sends("200")
    one.gets("ACK")
    one.gets("BYE")
    one.sends("200 BYE")
    world.holds_nothing()
    world.pbx.sends("ACK")


def test_a_bye_that_nobody_answers(ladder: Ladder) -> None:
    """Timer F frees the line."""
    world, one, _ = left_for_a_busy_one(ladder, acknowledged=False)
    world.pbx.sends("ACK")
    one.sends("200")
    world.pbx.gets("200")
    world.after(T2 + 0.06)
    one.gets("ACK")
    one.gets("BYE")
    world.after(31.5)
    world.holds(outbound=1)
    world.after(1)
    world.holds_nothing()
    assert {text.method for _, text in one.inbox} == {"BYE"}
    one.inbox.clear()


def test_an_unreachable_callee(ladder: Ladder) -> None:
    world, one, _ = left_for_a_busy_one(ladder)
    one.sends("200")
    world.pbx.gets("200")
    world.after(T2 + 0.06)
    one.gets("ACK")
    world.unreachable(one.gets("BYE"))
    world.holds_nothing()


def test_the_caller_had_talked_to_that_callee_already(ladder: Ladder) -> None:
    """RFC 3262: its PRACK has used the next CSeq; the gate's BYE stands above it (§12.2.2)."""
    world = ladder()
    world.pbx.sends("INVITE", headers=["Supported: 100rel"])
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("180", headers=["Require: 100rel", "RSeq: 1"])
    world.pbx.gets("180")
    world.pbx.sends("PRACK", headers=["RAck: 1 1 INVITE"])
    prack = world.carrier.gets("PRACK")
    world.carrier.sends("200 PRACK")
    world.pbx.gets("200 PRACK")
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 CANCEL")
    world.after(LIFE + 0.04)
    world.pbx.gets("487")
    world.pbx.sends("ACK")
    world.carrier.sends("200 INVITE")
    assert is_hung_up(world, world.carrier).cseq > prack.cseq


def test_a_gateway_that_was_silent_until_timer_b(ladder: Ladder) -> None:
    """RFC 6026 §7.3: no transaction is left, so nothing goes up; but whoever picks up is not left alone."""
    world = ladder()
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.after(32.1)
    world.carrier.gets("INVITE", times=6)
    world.pbx.gets("408")
    world.pbx.sends("ACK")
    world.carrier.sends("200")
    is_hung_up(world, world.carrier)
    world.pbx.gets_nothing()
    assert world.rejected("stray response") == 0


def test_another_one_has_the_call_meanwhile(ladder: Ladder) -> None:
    """The first gateway picks up after its Timer B, the second is up: two calls at the carrier, two lines."""
    world = ladder(gateways=2)
    one, two = world.gateways
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    one.gets("INVITE")
    world.after(4.04)
    one.gets("INVITE", times=3)
    two.gets("INVITE")
    two.sends("200", tag="second")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    two.gets("ACK")
    world.after(40)
    one.sends("200")
    one.gets("ACK")
    one.gets("BYE")
    world.holds(outbound=2)
    one.sends("200 BYE")
    world.holds(outbound=1)
    world.pbx.gets_nothing()
    world.pbx.sends("BYE")
    two.gets("BYE")
    two.sends("200 BYE")
    world.pbx.gets("200 BYE")
    world.holds_nothing()


def test_the_call_is_forgotten(ladder: Ladder) -> None:
    """The token in our Via still says whose call it was."""
    world = ladder()
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.after(32.1)
    world.carrier.gets("INVITE", times=6)
    world.pbx.gets("408")
    world.pbx.sends("ACK")
    world.after(90)
    assert not world.core.by_token
    world.carrier.sends("200")
    is_hung_up(world, world.carrier)


def test_a_copy_of_an_answer_that_was_heard(ladder: Ladder) -> None:
    """After Timer M no transaction is left, but the call is up: its answer is nothing to end."""
    world = ladder()
    world.talks()
    world.after(33)
    world.carrier.repeats("200")
    world.carrier.gets_nothing()
    world.pbx.gets_nothing()
    assert world.rejected("stray response") == 1
    world.hangs_up()


def silent(ladder: Ladder) -> tuple[World, Text]:
    """A call that got no answer at all, and what the carrier would say to it now."""
    world = ladder()
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.after(32.1)
    world.carrier.gets("INVITE", times=6)
    world.pbx.gets("408")
    world.pbx.sends("ACK")
    return world, world.carrier.sends("200", lost=True)


def test_it_comes_from_elsewhere(ladder: Ladder) -> None:
    """Nobody but the carrier can make the gate send a BYE."""
    world, answer = silent(ladder)
    for other in (world.stranger, world.pbx):
        other.transmits(answer.data)
    assert world.rejected("stray response") == 2
    for agent in (world.stranger, world.pbx, world.carrier):
        agent.gets_nothing()


@pytest.mark.parametrize("part", ["call-id", "from", "branch"])
def test_it_is_forged(ladder: Ladder, part: str) -> None:
    """The token holds for its own call only, and nobody else can write one."""
    world, answer = silent(ladder)
    data = answer.data
    if part == "call-id":
        data = data.replace(answer.call_id.encode(), b"another@example")
    elif part == "from":
        data = data.replace(answer.from_tag.encode(), b"another")
    else:
        branch = answer.branch.encode()
        data = data.replace(branch, branch[:20] + bytes((branch[20] ^ 1,)) + branch[21:])
    world.carrier.transmits(data)
    assert world.rejected("stray response") == 1
    world.carrier.gets_nothing()


def test_it_answers_an_earlier_start(ladder: Ladder) -> None:
    """Of a call that the gate has no memory of it can't say that nobody waits: it goes on to the caller."""
    world = ladder()
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.restarts()
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.hangs_up()


def test_it_has_no_to_tag(ladder: Ladder) -> None:
    """RFC 2543: there is no dialog to end."""
    world, answer = silent(ladder)
    world.carrier.transmits(answer.data.replace(b";tag=carrier-callee", b""))
    world.carrier.gets_nothing()
    world.holds_nothing()


def test_it_counts_though_the_limit_is_reached(ladder: Ladder) -> None:
    """The carrier counts it; so the next call has to wait for its end."""
    world, one, _ = left_for_a_busy_one(ladder, outbound_calls=1)
    world.pbx.sends("INVITE", call="other")
    world.pbx.gets("100", call="other")
    one.gets("INVITE")
    one.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    one.gets("ACK")
    one.current = next(iter(one.legs))
    one.sends("200 INVITE")
    world.pbx.gets("200")
    world.holds(outbound=2)
    world.after(T2 + 0.06)
    one.gets("ACK")
    one.gets("BYE")
    world.pbx.sends("INVITE", call="third")
    world.pbx.gets("100", call="third")
    world.settle()
    refused = world.pbx.gets("503", call="third")
    assert refused.get("x-callgate-verdict") == "rule=C2;value=3;limit=1"
    world.pbx.sends("ACK", call="third")
    one.sends("200 BYE", call=next(iter(one.legs)))
    world.holds(outbound=1)
    world.pbx.sends("BYE", call="other")
    one.gets("BYE")
    one.sends("200 BYE")
    world.pbx.gets("200 BYE")


def test_a_pbx_that_picks_up_late(ladder: Ladder) -> None:
    """An inbound call: the carrier has its 408 and counts nothing; the PBX is not left alone."""
    world = ladder()
    world.carrier.sends("INVITE")
    world.carrier.gets("100")
    world.pbx.gets("INVITE")
    world.after(32.1)
    world.pbx.gets("INVITE", times=6)
    world.carrier.gets("408")
    world.carrier.sends("ACK")
    world.pbx.sends("200")
    world.pbx.gets("ACK")
    world.pbx.gets("BYE")
    world.holds_nothing()
    world.pbx.sends("200 BYE")


@pytest.mark.parametrize("later", [0.0, 90.0], ids=["the call is remembered", "forgotten"])
def test_a_phone_behind_a_nat_that_only_its_password_names(ladder: Ladder, later: float) -> None:
    """No address of its key's: it is known by where its INVITE went, and by our token in its answer. From elsewhere
    that counts for nothing."""
    world = ladder(registered=True)
    called = phone(world, host="203.0.113.70", nat="192.168.1.7")
    knows(world, sources=["203.0.113.70"])
    called.registers()
    knows(world)
    assert not world.directory.identify(Flow(called.flow.listener, "203.0.113.70", 5062)).known
    world.carrier.sends("INVITE")
    world.carrier.gets("100")
    called.gets("INVITE")
    world.after(32.1)
    called.gets("INVITE", times=6)
    world.carrier.gets("408")
    world.carrier.sends("ACK")
    world.after(later)
    answer = called.sends("200", lost=True)
    world.stranger.transmits(answer.data)
    world.stranger.gets_nothing()
    called.gets_nothing()
    called.repeats("200")
    called.gets("ACK")
    called.gets("BYE")
    world.holds_nothing()
    called.sends("200 BYE")


def test_another_fork_picks_up_when_the_call_is_over(ladder: Ladder) -> None:
    """§13.2.2.4: the caller's transaction still takes it, and ends it."""
    world = ladder()
    world.talks()
    world.hangs_up()
    world.holds_nothing()
    world.carrier.sends("200 INVITE", tag="second")
    world.pbx.gets("200")
    world.holds(outbound=1)
    world.pbx.sends("ACK", tag="second")
    world.carrier.gets("ACK")
    world.pbx.sends("BYE", tag="second")
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE")
    world.pbx.gets("200 BYE")
    world.holds_nothing()


def test_there_is_an_end_to_how_many(ladder: Ladder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers with a thousand To tags does not fill the gate."""
    monkeypatch.setattr(late, "MOST", 2)
    world, one, _ = left_for_a_busy_one(ladder)
    for tag in ("a", "b", "c"):
        one.sends("200 INVITE", tag=tag)
        world.pbx.gets("200")
    world.holds(outbound=2)
    world.after(T2 + 0.06)
    for _ in range(2):
        one.gets("ACK")
        one.gets("BYE")
        one.sends("200 BYE")
    world.holds_nothing()
    assert world.rejected("late answer") == 2


def test_a_copy_of_the_invite_that_was_on_its_way_for_very_long(ladder: Ladder) -> None:
    """Timer H has ended the transaction, since no answer got through; the last copy of the INVITE is late. It is no
    new call: nobody rings, nothing is counted, and its caller has given up. Proxy rules §11: retransmissions, one
    call."""
    world = ladder(outbound_calls=0)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.pbx.gets("503")
    world.after(33)
    world.pbx.inbox.clear()
    assert not world.core.layer.servers
    world.pbx.repeats("INVITE")
    world.pbx.gets_nothing()
    assert len(world.records) == 1
    assert world.rejected("late copy") == 1


def test_the_same_call_over_another_branch(ladder: Ladder) -> None:
    """§16.3: a merged request is no error."""
    world = ladder(outbound_calls=0)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.pbx.gets("503")
    first = world.pbx.sends("ACK")
    world.after(10)
    invite = next(iter(world.arrived.values()))
    world.pbx.transmits(invite.data.replace(invite.branch.encode(), b"z9hG4bKanother"))
    world.settle()
    assert [text.code for _, text in world.pbx.inbox] == [100, 503]
    world.pbx.inbox.clear()
    world.pbx.transmits(first.data.replace(first.branch.encode(), b"z9hG4bKanother"))
    assert len(world.records) == 2


def test_a_second_callee_whose_ack_never_comes(ladder: Ladder) -> None:
    """§13.3.1.4, for each dialog of a forked call by itself: it has given up 64 s after it picked up, whatever the
    caller says to the other."""
    world = ladder()
    world.talks()
    world.carrier.sends("200 INVITE", tag="second")
    world.pbx.gets("200")
    world.after(20)
    world.pbx.sends("BYE", tag="carrier-callee")
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE")
    world.pbx.gets("200 BYE")
    world.after(43.9)
    world.holds(outbound=1)
    world.after(0.2)
    world.holds_nothing()
    assert world.record().reason == "the answer was never acknowledged"


def test_a_second_callee_without_an_ack_and_the_first_goes_on(ladder: Ladder) -> None:
    world = ladder()
    world.talks()
    world.carrier.sends("200 INVITE", tag="second")
    world.pbx.gets("200")
    world.after(70)
    world.holds(outbound=1)
    world.pbx.sends("BYE", tag="carrier-callee")
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE")
    world.pbx.gets("200 BYE")
    world.holds_nothing()


def test_a_second_callee_counts_from_its_own_answer(ladder: Ladder) -> None:
    world = ladder()
    world.talks()
    world.after(20)
    world.carrier.sends("200 INVITE", tag="second")
    world.pbx.gets("200")
    world.pbx.sends("BYE", tag="carrier-callee")
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE")
    world.pbx.gets("200 BYE")
    world.after(63.9)
    world.holds(outbound=1)
    world.after(0.2)
    world.holds_nothing()


@pytest.mark.parametrize("method", ["PRACK", "UPDATE"])
def test_what_may_come_before_the_answer_is_no_ack(ladder: Ladder, method: str) -> None:
    """RFC 3262, RFC 3311 §5.1: these belong to the early dialog too, and a copy of one can straggle."""
    world = ladder()
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("180")
    world.pbx.gets("180")
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.pbx.sends(method)
    world.carrier.gets(method)
    world.carrier.sends(f"200 {method}")
    world.pbx.gets(f"200 {method}")
    world.after(64.1)
    world.holds_nothing()
    assert world.record().reason == "the answer was never acknowledged"


@pytest.mark.parametrize("end", ["pbx", "carrier"])
def test_the_gates_own_bye_is_overtaken(ladder: Ladder, end: str) -> None:
    """§12.2.2: a request that was on its way when the gate hung up has made the BYE's CSeq too low; it is refused, and
    has ended nothing. The next one stands above it."""
    world = ladder(max_call_seconds=60.0)
    world.talks()
    ends = {"pbx": world.pbx, "carrier": world.carrier}
    one = ends.pop(end)
    (other,) = ends.values()
    world.after(60.02)
    one.gets("BYE")
    first = other.gets("BYE")
    one.sends("INFO", change={"cseq": "7 INFO"})
    other.gets("INFO")
    other.sends("500 BYE")
    again = other.gets("BYE")
    assert again.cseq == 8 > first.cseq
    world.holds(outbound=1)
    other.sends("200 BYE")
    one.sends("200 BYE")
    world.holds_nothing()
    other.sends("200 INFO")
    one.gets("200 INFO")


def test_a_bye_that_is_refused_for_another_reason(ladder: Ladder) -> None:
    """A 500 to a BYE that nothing has overtaken ends the call like any answer."""
    world = ladder(max_call_seconds=60.0)
    world.talks()
    world.after(60.02)
    for agent in (world.carrier, world.pbx):
        agent.gets("BYE")
        agent.sends("500 BYE")
        agent.gets_nothing()
    world.holds_nothing()
