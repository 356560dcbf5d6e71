"""Shadow mode: limits and number rules are judged, noted, and kept to by nobody; the counts stay true; emergency calls,
strangers and suspensions are as always."""

from __future__ import annotations

from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World


def in_shadow(world: World) -> World:
    world.key.shadow = True
    return world


def shadowed(world: World) -> list[tuple[str, str, int, int]]:
    return [(r.verdict, r.rule, r.value, r.limit) for r in world.records if r.shadow]


def test_the_rate(ladder: Ladder) -> None:
    world = in_shadow(ladder(cps=2))
    for n in range(4):
        world.talks(call=f"c{n}")
    assert world.gauge("shadow_refusals_total", "V1") == 2.0
    for n in range(4):
        world.hangs_up(call=f"c{n}")
    assert shadowed(world) == [("passed", "V1", 3, 2), ("passed", "V1", 4, 2)]
    assert world.records[2].reason == "would have been refused: rate"
    alert = world.alerts[0]
    assert (alert.rule, alert.severity, alert.value, alert.limit) == ("V1", "info", 3, 2)


def test_lines_are_counted(ladder: Ladder) -> None:
    """Also those over the limit: back in enforce mode the next call knows of them."""
    world = in_shadow(ladder(outbound_calls=1, inbound_calls=1))
    world.talks(call="a")
    world.talks(call="b")
    world.talks(world.carrier, call="c")
    world.talks(world.carrier, call="d")
    world.holds(outbound=2, inbound=2)
    assert world.gauge("shadow_refusals_total", "C2") == 1.0
    assert world.gauge("shadow_refusals_total", "V3") == 1.0
    world.key.shadow = False
    world.pbx.sends("INVITE", call="e")
    world.pbx.gets("100", call="e")
    assert world.pbx.gets("503", call="e").get("x-callgate-verdict") == "rule=C2;value=3;limit=1"
    world.pbx.sends("ACK", call="e")
    world.key.shadow = True
    for call, who in zip("abcd", (world.pbx, world.pbx, world.carrier, world.carrier), strict=True):
        world.hangs_up(who, call=call)


def test_numbers(world: World) -> None:
    """A forbidden number passes as it was dialled; an emergency number never does."""
    in_shadow(world)
    world.talks(call="a", to="0120123456")
    world.hangs_up(call="a")
    assert shadowed(world) == [("passed", "K-X2", 0, 0)]
    world.pbx.sends("INVITE", call="b", to="119")
    world.pbx.gets("503", call="b")
    world.pbx.sends("ACK", call="b")
    assert (world.records[-1].verdict, world.records[-1].shadow) == ("refused", False)


def test_caller_ids(ladder: Ladder) -> None:
    """I19 is a rule about numbers too."""
    world = in_shadow(ladder(caller_ids=("+815012345678",)))
    world.talks(call="a")
    world.hangs_up(call="a")
    assert shadowed(world) == [("passed", "I19", 0, 0)]


def test_the_longest_call(ladder: Ladder) -> None:
    """Nobody hangs up; the record tells that C1 would have."""
    world = in_shadow(ladder(max_call_seconds=60.0))
    world.talks(call="a")
    world.after(61)
    world.hangs_up(call="a")
    world.talks(call="b")
    world.after(59)
    world.hangs_up(call="b")
    assert shadowed(world) == [("passed", "C1", 0, 0)]


def test_a_failover(ladder: Ladder) -> None:
    """The attempt at the next gateway waits for no token."""
    world = in_shadow(ladder(cps=1, gateways=2))
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("503 INVITE")
    world.carrier.gets("ACK")
    second = world.gateways[1]
    second.gets("INVITE")
    second.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    second.gets("ACK")
    world.pbx.sends("BYE")
    second.gets("BYE")
    second.sends("200 BYE")
    world.pbx.gets("200 BYE")


def test_a_suspension_holds(world: World) -> None:
    """It is somebody's will, and no limit of the contract."""
    in_shadow(world)
    world.core.suspensions.suspend("acme", world.now, by="alice")
    world.carries_out()
    world.pbx.sends("INVITE")
    world.pbx.gets("403")
    world.pbx.sends("ACK")
    assert not world.record().shadow


def test_one_rule_a_call(ladder: Ladder) -> None:
    """The first one, which would have ended it."""
    world = in_shadow(ladder(cps=1, outbound_calls=1))
    world.talks(call="a")
    world.talks(call="b", to="0570012345")
    for call in "ab":
        world.hangs_up(call=call)
    assert [rule for _, rule, _, _ in shadowed(world)] == ["K-X2"]
    assert world.gauge("shadow_refusals_total", "V1") == 0.0


def test_a_store_that_does_not_answer(any_ladder: Ladder) -> None:
    """Nor does that hold a call up."""
    world = in_shadow(any_ladder())
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.after(0.25)
    world.carrier.gets("INVITE")
    world.carrier.sends("486 INVITE")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")
