"""What the gate ends or refuses by itself: the longest call (C1, BYE to both sides) and draining."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.text import Text

from callgate.sip.transaction import NEVER


def sides(world: World, caller: str) -> tuple[Agent, Agent, dict[str, int]]:
    if caller == "pbx":
        return world.pbx, world.carrier, {"outbound": 1}
    return world.carrier, world.pbx, {"inbound": 1}


def byes(world: World) -> tuple[Text, Text]:
    return world.pbx.gets("BYE"), world.carrier.gets("BYE")


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("seconds", [10.0, 100.0, 14400.0])
def test_max_call_seconds(ladder: Ladder, caller: str, seconds: float) -> None:
    """C1: from the 2xx; BYE to both sides in both dialogs' own words (§12.2.1.1); the lines come free when the
    carrier has answered its BYE."""
    world = ladder(max_call_seconds=seconds)
    a, b, held = sides(world, caller)
    a.sends("INVITE")
    a.gets("100")
    b.gets("INVITE")
    world.after(30)
    b.inbox.clear()
    b.sends("180")
    a.gets("180")
    world.after(20)
    b.sends("200")
    final = a.gets("200")
    a.sends("ACK")
    b.gets("ACK")
    world.after(seconds - 0.1)
    world.holds(**held)
    world.after(0.15)
    to_pbx, to_carrier = byes(world)
    to_caller, to_callee = (to_pbx, to_carrier) if caller == "pbx" else (to_carrier, to_pbx)
    assert to_callee.get("from") == final.get("from")
    assert to_callee.get("to") == final.get("to")
    assert to_caller.get("from") == final.get("to")
    assert to_caller.get("to") == final.get("from")
    assert to_callee.uri == b.contact[1:-1]
    assert to_caller.uri == a.contact[1:-1]
    assert to_callee.cseq == 2
    assert to_caller.cseq == 1
    world.holds(**held)
    world.pbx.sends("200 BYE")
    world.holds(**held)
    world.carrier.sends("200 BYE")
    world.holds_nothing()
    record = world.record()
    assert (record.rule, record.ended_by, record.outcome) == ("C1", "gate", "answered")


def test_the_next_cseq_of_each_side(ladder: Ladder) -> None:
    """§12.2.1.1: above the last one that the other side has used, so that its endpoint takes it."""
    world = ladder(max_call_seconds=100.0)
    world.talks()
    for method, times in (("INFO", 3), ("UPDATE", 1)):
        for _ in range(times):
            world.pbx.sends(method)
            world.carrier.gets(method)
            world.carrier.sends(f"200 {method}")
            world.pbx.gets(f"200 {method}")
    world.carrier.sends("INFO", change={"cseq": "70 INFO"})
    world.pbx.gets("INFO")
    world.pbx.sends("200 INFO")
    world.carrier.gets("200 INFO")
    world.after(100.1)
    to_pbx, to_carrier = byes(world)
    assert (to_pbx.cseq, to_carrier.cseq) == (71, 6)
    world.pbx.sends("200 BYE")
    world.carrier.sends("200 BYE")


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_along_the_route_and_to_the_new_targets(ladder: Ladder, caller: str) -> None:
    """§12.2.1.1: each BYE carries its side's route set and goes to its last Contact."""
    world = ladder(max_call_seconds=100.0)
    world.pbx.behind = ["<sip:192.0.2.10:5070;lr;hop=a>"]
    world.carrier.behind = ["<sip:198.51.100.1:5080;lr;hop=b1>", "<sip:10.3.3.3;lr>"]
    a, b, _ = sides(world, caller)
    world.talks(a)
    b.contact = "<sip:moved@10.0.0.9:5099>"
    b.sends("re-INVITE")
    b.gets("100")
    a.gets("re-INVITE")
    a.sends("200")
    b.gets("200")
    b.sends("ACK")
    a.gets("ACK")
    world.after(100.1)
    to_pbx, to_carrier = byes(world)
    assert to_pbx.all("route") == ["<sip:192.0.2.10:5070;lr;hop=a>"]
    assert to_carrier.all("route") == ["<sip:198.51.100.1:5080;lr;hop=b1>", "<sip:10.3.3.3;lr>"]
    assert (to_carrier if caller == "pbx" else to_pbx).uri == "sip:moved@10.0.0.9:5099"
    world.pbx.sends("200 BYE")
    world.carrier.sends("200 BYE")


@pytest.mark.parametrize("code", ["200", "481", "500", "408", "401"])
def test_whatever_the_carrier_answers(ladder: Ladder, code: str) -> None:
    """Proxy rules §11. Nobody can answer a challenge for the gate, so that ends it as well."""
    world = ladder(max_call_seconds=100.0)
    world.talks()
    world.after(100.1)
    byes(world)
    world.pbx.sends("200 BYE")
    world.carrier.sends(f"{code} BYE")
    world.holds_nothing()


def test_nobody_answers(ladder: Ladder) -> None:
    """Timer F: 32 s, then the line is free all the same."""
    world = ladder(max_call_seconds=100.0)
    world.talks()
    world.after(100.1)
    world.after(31.8)
    world.holds(outbound=1)
    world.after(0.3)
    world.holds_nothing()
    world.pbx.gets("BYE", times=11)
    world.carrier.gets("BYE", times=11)


def test_unreachable(ladder: Ladder) -> None:
    """§16.9."""
    world = ladder(max_call_seconds=100.0)
    world.talks()
    world.after(100.1)
    to_pbx, to_carrier = byes(world)
    world.unreachable(to_pbx)
    world.holds(outbound=1)
    world.unreachable(to_carrier)
    world.holds_nothing()


@pytest.mark.parametrize("who", ["pbx", "carrier"])
def test_crossing_with_a_bye(ladder: Ladder, who: str) -> None:
    """Both end it at once: the line goes once."""
    world = ladder(max_call_seconds=100.0)
    world.talks()
    world.after(100.1)
    byes(world)
    a, b = (world.pbx, world.carrier) if who == "pbx" else (world.carrier, world.pbx)
    a.sends("BYE")
    world.holds(
        outbound=0 if who == "carrier" else 1
    )  # proxy rules §11: the carrier's BYE frees at its receipt
    b.gets("BYE")
    b.sends("481 BYE")
    a.gets("481 BYE")
    world.pbx.sends("200 BYE")
    world.carrier.sends("200 BYE")
    world.holds_nothing()
    assert len(world.records) == 1


def test_a_call_that_ended_in_time_is_left_alone(ladder: Ladder) -> None:
    world = ladder(max_call_seconds=100.0)
    world.talks()
    world.after(99)
    world.hangs_up()
    world.after(50)
    world.pbx.gets_nothing()
    world.carrier.gets_nothing()


def test_ringing_does_not_count(ladder: Ladder) -> None:
    """C1 is measured from the 2xx."""
    world = ladder(max_call_seconds=10.0)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("180")
    world.pbx.gets("180")
    world.after(120)
    world.holds(outbound=1)
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


# -- draining ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_draining_refuses_new_calls(any_ladder: Ladder, caller: str) -> None:
    """interface.md: 503 in both directions; the PBX is told why, the trunk is not."""
    world = any_ladder()
    world.core.draining = True
    a, b, _ = sides(world, caller)
    a.sends("INVITE")
    answer = a.gets("503")
    a.sends("ACK")
    b.gets_nothing()
    assert answer.has("warning") == (caller == "pbx")
    assert answer.get("x-callgate-verdict") == ("rule=drain" if caller == "pbx" else "")
    assert world.store.asked == 0
    assert world.core.live_calls == 0


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_draining_lets_calls_go_on(world: World, caller: str) -> None:
    """Those that are up, and those that ring, live until they end; `live_calls` says when that is."""
    a, b, held = sides(world, caller)
    world.talks(a, call="up")
    a.sends("INVITE", call="rings")
    a.gets("100")
    b.gets("INVITE")
    world.settle()
    world.core.draining = True
    assert world.core.live_calls == 2
    b.sends("180", call="rings")
    a.gets("180")
    b.sends("200", call="rings")
    a.gets("200")
    a.sends("ACK")
    b.gets("ACK")
    b.sends("re-INVITE", call="up")
    b.gets("100")
    a.gets("re-INVITE")
    a.sends("200")
    b.gets("200")
    b.sends("ACK")
    a.gets("ACK")
    world.holds(**{name: 2 * n for name, n in held.items()})
    world.hangs_up(call="up")
    assert world.core.live_calls == 1
    world.hangs_up(b, call="rings")
    assert world.core.live_calls == 0


def test_a_failover_goes_on_while_draining(ladder: Ladder) -> None:
    """The call was taken before: its next attempt is not a new call."""
    world = ladder(gateways=2)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.core.draining = True
    world.carrier.sends("503")
    world.carrier.gets("ACK")
    world.gateways[1].gets("INVITE")
    world.gateways[1].sends("486")
    world.gateways[1].gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


@pytest.mark.parametrize("early_one", ["PRACK", "UPDATE"])
def test_the_gates_bye_is_above_what_came_before_the_answer(ladder: Ladder, early_one: str) -> None:
    """§12.2.1.1: the caller's PRACK has used a number of the dialog too; a BYE with the same one ends nothing."""
    world = ladder(max_call_seconds=10.0)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("183", headers=["Require: 100rel", "RSeq: 1"])
    world.pbx.gets("183")
    world.pbx.sends(early_one, headers=["RAck: 1 1 INVITE"])
    early = world.carrier.gets(early_one)
    world.carrier.sends(f"200 {early_one}")
    world.pbx.gets(f"200 {early_one}")
    world.carrier.sends("200 INVITE")
    world.pbx.gets("200 INVITE")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.after(10.1)
    _, bye = byes(world)
    assert bye.cseq > early.cseq
    world.pbx.sends("200 BYE")
    world.carrier.sends("200 BYE")
    world.holds_nothing()


def test_a_lease_that_runs_out_ends_the_call(world: World) -> None:
    """It can't, but by a bug that has lost the call's own timers: then no gauge shows it for ever."""
    world.talks()
    (call,) = world.core.live()
    call.due = NEVER
    world.store.inner.release(call.leg, world.now)
    world.core.lease_ended(call.leg, world.now)
    world.carries_out()
    world.holds_nothing()
    assert "nothing was heard of it" in world.record().reason
