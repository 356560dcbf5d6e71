"""From one gateway of the trunk to the next (RFC 3261 §16.7, §16.9; RFC 3263 §4.3; proxy rules §9): at a 503, at
silence, at ICMP. Every attempt is a new call to the carrier and takes its own token."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.stores import SAME_TURN

Fails = Callable[[World, Agent], None]


def by_503(world: World, gateway: Agent) -> None:
    gateway.gets("INVITE")
    gateway.sends("503")
    gateway.gets("ACK")


def by_silence(world: World, gateway: Agent) -> None:
    gateway.gets("INVITE")
    world.after(4.04)
    gateway.gets("INVITE", times=3)  # at 0.5, 1.5 and 3.5 s


def by_icmp(world: World, gateway: Agent) -> None:
    world.unreachable(gateway.gets("INVITE"))


WAYS = {"503": by_503, "silence": by_silence, "ICMP": by_icmp}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def fails(request: pytest.FixtureRequest) -> Fails:
    way: Fails = request.param
    return way


def calls(world: World) -> None:
    world.pbx.sends("INVITE")
    world.pbx.gets("100")


def test_the_next_gateway_takes_the_call(ladder: Ladder, fails: Fails) -> None:
    """§16.6 steps 7 and 8: a new branch, the next gateway's host, the same line."""
    world = ladder(gateways=3)
    one, two, three = world.gateways
    calls(world)
    fails(world, one)
    invite = two.gets("INVITE")
    assert invite.uri == "sip:0312345678@198.51.100.2:5080"
    assert len({branch for branch, method in world.by_branch if method == "INVITE"}) == 2
    world.holds(outbound=1)
    two.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    two.gets("ACK")
    one.gets_nothing()
    three.gets_nothing()
    world.pbx.sends("BYE")
    two.gets("BYE")
    two.sends("200 BYE")
    world.pbx.gets("200 BYE")
    world.holds_nothing()
    assert world.record().attempts == 2
    assert world.record().gateway == "sip:198.51.100.2:5080"


@pytest.mark.parametrize("code", [302, 404, 407, 486, 500, 501, 504, 600, 603])
def test_only_a_503_is_a_reason(ladder: Ladder, code: int) -> None:
    """RFC 3263 §4.3: any other answer is the callee's or the carrier's, and final."""
    world = ladder(gateways=2)
    calls(world)
    world.carrier.gets("INVITE")
    world.carrier.sends(str(code))
    world.carrier.gets("ACK")
    world.pbx.gets(str(code))
    world.pbx.sends("ACK")
    world.gateways[1].gets_nothing()
    world.holds_nothing()


def test_a_gateway_that_rings_is_not_left(ladder: Ladder) -> None:
    """`try_seconds` is for silence: after a provisional answer it may take its time."""
    world = ladder(gateways=2)
    calls(world)
    world.carrier.gets("INVITE")
    world.carrier.sends("100")
    world.after(60)
    world.gateways[1].gets_nothing()
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


@pytest.mark.parametrize("seconds", [1.0, 2.5])
def test_try_seconds_is_kept(ladder: Ladder, seconds: float) -> None:
    """A silent gateway is left after `try_seconds`, and is sent no more copies."""
    world = ladder(gateways=2, try_seconds=seconds)
    calls(world)
    world.carrier.gets("INVITE")
    world.after(seconds - 0.01)
    world.gateways[1].gets_nothing()
    world.carrier.inbox.clear()
    world.after(0.05)
    world.gateways[1].gets("INVITE")
    world.after(20)
    world.carrier.gets_nothing()
    world.gateways[1].inbox.clear()
    world.gateways[1].sends("486")
    world.gateways[1].gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_the_last_gateway_has_timer_b(ladder: Ladder) -> None:
    """interface.md: the last one is not left after `try_seconds`; then 408."""
    world = ladder(gateways=2)
    calls(world)
    by_silence(world, world.carrier)
    world.gateways[1].gets("INVITE")
    world.after(31.9)
    world.pbx.gets_nothing()
    world.after(0.2)
    world.gateways[1].gets("INVITE", times=6)
    world.pbx.gets("408")
    world.pbx.sends("ACK")
    world.holds_nothing()


def test_all_refuse(ladder: Ladder) -> None:
    """§16.7 step 6: nothing but 503s: a lone 500 goes up, once."""
    world = ladder(gateways=3)
    calls(world)
    for gateway in world.gateways:
        by_503(world, gateway)
    world.pbx.gets("500")
    world.pbx.sends("ACK")
    world.holds_nothing()
    assert world.record().attempts == 3


def test_all_unreachable(ladder: Ladder) -> None:
    """interface.md: all gateways down is 503 at once, the gate's own answer; §16.9."""
    world = ladder(gateways=3)
    calls(world)
    for gateway in world.gateways:
        by_icmp(world, gateway)
    assert world.pbx.gets("503").to_tag.startswith("cg")
    world.pbx.sends("ACK")
    world.holds_nothing()


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_the_only_way_is_unreachable(world: World, caller: str) -> None:
    """§16.9: as if it had answered 503; also where the PBX of an inbound call is not there."""
    a, b = (world.pbx, world.carrier) if caller == "pbx" else (world.carrier, world.pbx)
    a.sends("INVITE")
    a.gets("100")
    by_icmp(world, b)
    a.gets("503")
    a.sends("ACK")
    world.holds_nothing()


def test_the_best_answer_goes_up(ladder: Ladder) -> None:
    """§16.7 step 6: the lowest class before a 503, whoever sent it first."""
    world = ladder(gateways=2)
    calls(world)
    by_503(world, world.carrier)
    two = world.gateways[1]
    two.gets("INVITE")
    two.sends("480")
    two.gets("ACK")
    world.pbx.gets("480")
    world.pbx.sends("ACK")


def test_a_503_and_then_silence(ladder: Ladder) -> None:
    """§16.8: a branch that timed out counts as 408, which §16.7 step 6 prefers to a 503."""
    world = ladder(gateways=2)
    calls(world)
    by_503(world, world.carrier)
    world.gateways[1].gets("INVITE")
    world.after(32.1)
    world.gateways[1].gets("INVITE", times=6)
    world.pbx.gets("408")
    world.pbx.sends("ACK")
    world.holds_nothing()


def left_for_the_second(ladder: Ladder, gateways: int = 2) -> tuple[World, Agent, Agent]:
    """The first gateway was silent and is left; the second rings."""
    world = ladder(gateways=gateways)
    one, two = world.gateways[:2]
    calls(world)
    by_silence(world, one)
    two.gets("INVITE")
    two.sends("180")
    world.pbx.gets("180")
    return world, one, two


def test_a_late_2xx_of_a_gateway_that_was_left(ladder: Ladder) -> None:
    """§16.7 step 5 and 10: it goes up at once; whoever rings elsewhere is cancelled; the call is held once."""
    world, one, two = left_for_the_second(ladder)
    one.sends("200")
    assert world.pbx.gets("200").to_tag == "carrier-callee"
    two.gets("CANCEL")
    two.sends("200 CANCEL")
    two.sends("487 INVITE")
    two.gets("ACK")
    world.pbx.sends("ACK")
    one.gets("ACK")
    world.holds(outbound=1)
    world.hangs_up()
    world.holds_nothing()


def test_a_late_2xx_while_the_second_is_still_silent(ladder: Ladder) -> None:
    """§9.1: its CANCEL is held back until it answers; the copies stop."""
    world = ladder(gateways=2)
    one, two = world.gateways
    calls(world)
    by_silence(world, one)
    two.gets("INVITE")
    one.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    one.gets("ACK")
    world.after(10)
    two.gets_nothing()
    two.sends("180")
    two.gets("CANCEL")
    two.sends("200 CANCEL")
    two.sends("487 INVITE")
    two.gets("ACK")
    world.pbx.gets_nothing()
    world.hangs_up()


def test_both_gateways_answer(ladder: Ladder) -> None:
    """§16.7 step 5: both 2xx go up, the caller ends one; the line is held until the other's BYE too."""
    world, one, two = left_for_the_second(ladder)
    one.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    one.gets("ACK")
    two.gets("CANCEL")
    two.sends("200 INVITE", tag="second")
    two.sends("481 CANCEL")
    assert world.pbx.gets("200").to_tag == "second"
    world.pbx.sends("ACK", tag="second")
    two.gets("ACK")
    world.holds(outbound=1)
    world.pbx.sends("BYE", tag="second")
    two.gets("BYE")
    two.sends("200 BYE")
    world.pbx.gets("200 BYE")
    world.holds(outbound=1)
    world.pbx.sends("BYE", tag="carrier-callee")
    one.gets("BYE")
    one.sends("200 BYE")
    world.pbx.gets("200 BYE")
    world.holds_nothing()


@pytest.mark.parametrize("provisional", ["100", "180"])
def test_a_left_gateway_that_wakes_up_is_cancelled(ladder: Ladder, provisional: str) -> None:
    """§9.1: the CANCEL was held back until now."""
    world, one, two = left_for_the_second(ladder)
    one.sends(provisional)
    if provisional == "180":
        world.pbx.gets("180")
    one.gets("CANCEL")
    one.sends("200 CANCEL")
    one.sends("487 INVITE")
    one.gets("ACK")
    world.holds(outbound=1)
    two.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    two.gets("ACK")
    world.pbx.sends("BYE")
    two.gets("BYE")
    two.sends("200 BYE")
    world.pbx.gets("200 BYE")


def test_a_late_6xx_ends_the_search(ladder: Ladder) -> None:
    """§16.7 steps 5 and 6: a 6xx from anywhere cancels the others, starts no new branch and is what goes up."""
    world, one, two = left_for_the_second(ladder, gateways=3)
    one.sends("603")
    one.gets("ACK")
    two.gets("CANCEL")
    two.sends("200 CANCEL")
    two.sends("487 INVITE")
    two.gets("ACK")
    world.pbx.gets("603")
    world.pbx.sends("ACK")
    world.gateways[2].gets_nothing()
    world.holds_nothing()


def test_a_late_6xx_while_the_second_is_silent(ladder: Ladder) -> None:
    """§16.7 step 5: no third branch after it; when the silent one is dead too, the 6xx goes up."""
    world = ladder(gateways=3)
    one, two, three = world.gateways
    calls(world)
    by_silence(world, one)
    two.gets("INVITE")
    one.sends("600")
    one.gets("ACK")
    world.pbx.gets_nothing()
    world.after(32.1)
    two.gets("INVITE", times=6)
    three.gets_nothing()
    world.pbx.gets("600")
    world.pbx.sends("ACK")
    world.holds_nothing()


def test_a_late_6xx_and_then_the_second_rings(ladder: Ladder) -> None:
    """§16.7 step 5: its CANCEL was held back until now; a 2xx that beats it still wins."""
    world = ladder(gateways=3)
    one, two, three = world.gateways
    calls(world)
    by_silence(world, one)
    two.gets("INVITE")
    one.sends("600")
    one.gets("ACK")
    two.sends("180")
    world.pbx.gets("180")
    two.gets("CANCEL")
    two.sends("481 CANCEL")
    two.sends("200 INVITE")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    two.gets("ACK")
    three.gets_nothing()
    world.holds(outbound=1)
    world.pbx.sends("BYE")
    two.gets("BYE")
    two.sends("200 BYE")
    world.pbx.gets("200 BYE")


def test_a_late_6xx_while_the_store_is_asked_for_the_third(ladder: Ladder) -> None:
    """§16.7 step 5: the grant comes too late to start a branch, and is given back."""
    world = ladder(gateways=3)
    one, two, three = world.gateways
    calls(world)
    by_silence(world, one)
    two.gets("INVITE")
    one.sends("603", lost=True)
    two.sends("503")
    two.gets("ACK")
    one.repeats("603")
    one.gets("ACK")
    if world.store.kind is SAME_TURN:
        three.gets("INVITE")
        three.sends("487")
        three.gets("ACK")
    three.gets_nothing()
    world.pbx.gets("603")
    world.pbx.sends("ACK")
    world.holds_nothing()


def test_a_cancel_reaches_the_gateway_that_rings(ladder: Ladder) -> None:
    """§16.10: every branch that may still answer; a silent one when it wakes up."""
    world, one, two = left_for_the_second(ladder)
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    two.gets("CANCEL")
    one.gets_nothing()
    one.sends("180")
    world.pbx.gets("180")
    one.gets("CANCEL")
    one.sends("200 CANCEL")
    one.sends("487 INVITE")
    one.gets("ACK")
    two.sends("200 CANCEL")
    two.sends("487 INVITE")
    two.gets("ACK")
    world.pbx.gets("487 INVITE")
    world.pbx.sends("ACK")


# -- tokens (V1) -------------------------------------------------------------------------------------------------


def test_every_attempt_takes_a_token(ladder: Ladder, fails: Fails) -> None:
    """Pitfall 19: the carrier counts each attempt, over all its gateways."""
    world = ladder(gateways=3)
    calls(world)
    fails(world, world.gateways[0])
    fails(world, world.gateways[1])
    three = world.gateways[2]
    three.gets("INVITE")
    asked = world.store.asked
    assert asked >= 3
    assert world.used("outbound_cps") >= 1
    three.sends("486")
    three.gets("ACK")
    answer = world.pbx.gets("486")
    assert answer.code == 486
    world.pbx.sends("ACK")


@pytest.mark.parametrize("way", ["503", "ICMP"])
def test_without_a_free_token_the_last_answer_stands(ladder: Ladder, way: str) -> None:
    """interface.md: a refusing key ends with the last gateway's answer; the second gateway sees nothing."""
    world = ladder(gateways=2, cps=1)
    calls(world)
    WAYS[way](world, world.carrier)
    final = world.pbx.gets("500" if way == "503" else "503")
    world.gateways[1].gets_nothing()
    world.holds_nothing()
    assert not final.has("x-callgate-verdict")
    world.pbx.sends("ACK")


def test_with_two_tokens_two_attempts(ladder: Ladder) -> None:
    """cps 2, three gateways: two attempts within the second, then the 503's answer."""
    world = ladder(gateways=3, cps=2)
    calls(world)
    by_503(world, world.gateways[0])
    by_503(world, world.gateways[1])
    world.pbx.gets("500")
    world.pbx.sends("ACK")
    world.gateways[2].gets_nothing()
    assert world.used("outbound_cps") == 2
    world.after(1.03)
    assert world.used("outbound_cps") == 0


def test_a_silent_gateway_still_holds_the_only_token(ladder: Ladder) -> None:
    """With cps 1 the copy at 0.5 s holds the token until 1.52 s: at 1.4 s the second gateway can't be tried."""
    world = ladder(gateways=2, cps=1, try_seconds=1.4)
    calls(world)
    world.carrier.gets("INVITE")
    world.after(1.45)
    world.carrier.gets("INVITE")
    world.gateways[1].gets_nothing()
    assert world.pbx.gets("408").to_tag.startswith("cg")
    world.pbx.sends("ACK")
    world.holds_nothing()


def test_a_token_that_came_back_is_there_for_the_next_attempt(ladder: Ladder) -> None:
    """The copy at 1.5 s holds it until 2.52 s: at 3 s it is free again."""
    world = ladder(gateways=2, cps=1, try_seconds=3.0)
    calls(world)
    world.carrier.gets("INVITE")
    world.after(3.04)
    world.carrier.gets("INVITE", times=2)
    world.gateways[1].gets("INVITE")
    world.gateways[1].sends("486")
    world.gateways[1].gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_the_next_gateway_has_not_seen_a_challenged_call(ladder: Ladder) -> None:
    """interface.md: the re-send after a challenge is free of charge, because the carrier has seen the call; a
    failover of it is a new attempt, and its late copies take tokens of their own."""
    world = ladder(gateways=2)
    calls(world)
    first = world.carrier.gets("INVITE")
    world.carrier.sends("407")
    world.carrier.gets("ACK")
    asked = world.pbx.gets("407").get("from")
    world.pbx.sends("ACK")
    world.pbx.sends("INVITE", change={"call-id": first.call_id, "cseq": "2 INVITE", "from": asked})
    world.pbx.gets("100")
    by_503(world, world.carrier)
    two = world.gateways[1]
    two.gets("INVITE")
    claims = world.store.asked
    world.after(3.7)
    two.gets("INVITE", times=3)
    assert world.store.asked > claims
    two.sends("486")
    two.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_a_call_that_was_challenged_is_a_new_call_to_another_gateway(ladder: Ladder) -> None:
    """The re-send with credentials is free of a token where the carrier has seen the call: at the gateway that asked.
    That one is resting now, so the call goes to the next, which has not: it takes a token."""
    world = ladder(gateways=2, cps=2)
    one, two = world.gateways
    world.pbx.sends("INVITE", call="a")
    world.pbx.gets("100", call="a")
    one.gets("INVITE", call="a")
    one.sends("407", call="a", headers=['Proxy-Authenticate: Digest realm="c", nonce="n"'])
    one.gets("ACK", call="a")
    world.pbx.gets("407", call="a")
    world.pbx.sends("ACK", call="a")
    world.pbx.sends("INVITE", call="b", to="0312345679")
    world.pbx.gets("100", call="b")
    one.gets("INVITE", call="b")
    one.sends("503", call="b", headers=["Retry-After: 60"])
    one.gets("ACK", call="b")
    world.pbx.gets("500", call="b")
    world.pbx.sends("ACK", call="b")
    world.after(1.5)
    leg = world.pbx.legs[world.labels["a"]]
    first = next(text for text in leg.sent if text.method == "INVITE")
    again = first.data.replace(b"CSeq: 1 ", b"CSeq: 2 ").replace(b"branch=z9hG4bK", b"branch=z9hG4bKagain")
    world.pbx.transmits(again)
    world.settle()
    two.gets("INVITE")
    assert world.used("outbound_cps") == 1
    two.sends("486")
    two.gets("ACK")
    for agent in world.agents:
        agent.inbox.clear()
    world.after(40)
    world.pbx.inbox.clear()
