"""A trunk and a PBX by name (RFC 3263): where calls go while look-ups come and go. No look-up is made in here: the
core is told of places, and never asks."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World

from callgate.proxy.trunk.health import Rules
from callgate.proxy.trunk.places import Place

NAME = "sip:trunk.example"
HOSTS = ("198.51.100.1", "198.51.100.2", "198.51.100.3")


def at(*hosts: str, priority: int = 0, weight: int = 1, port: int = 5080) -> Place:
    return Place(priority, weight, b"UDP", port, hosts)


def named(ladder: Ladder, gateways: int = 3, **more: object) -> World:
    return ladder(gateways=gateways, trunk_name=NAME, **more)


def taken(world: World, *gateways: Agent) -> None:
    """A call that all but the last of these refuse."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    for gateway in gateways:
        code = "503" if gateway is not gateways[-1] else "486"
        invite = gateway.gets("INVITE")
        assert invite.uri == "sip:0312345678@trunk.example", "a look-up does not change the Request-URI (§4)"
        gateway.sends(code)
        gateway.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def refused(world: World, text: str) -> None:
    world.pbx.sends("INVITE")
    assert text in world.pbx.gets("503").get("warning")
    world.pbx.sends("ACK")


def up(world: World) -> float:
    return world.meters.values[world.meters.series("trunk_up", "carrier", NAME)]


def told(world: World, rule: str) -> list[tuple[str, bool]]:
    return [(alert.severity, alert.resolved) for alert in world.alerts if alert.rule == rule]


# -- where calls go -------------------------------------------------------------------------------------------------


def test_before_the_first_look_up(ladder: Ladder) -> None:
    """At once 503 and why; nothing waits for DNS."""
    world = named(ladder)
    assert up(world) == 1.0
    refused(world, "trunk no address of a gateway is known")
    world.located(at(HOSTS[0]))
    taken(world, world.gateways[0])


def test_priorities_are_kept_within_an_attempt(ladder: Ladder) -> None:
    """§4.3: the next address for a call that the first does not take, each a new branch and a token of its own."""
    world = named(ladder)
    world.located(at(HOSTS[2], priority=30), at(HOSTS[0], priority=10), at(HOSTS[1], priority=20))
    taken(world, *world.gateways)
    assert world.record().attempts == 3
    assert world.record().gateway == NAME
    assert world.used("outbound_cps") == 3


def test_the_addresses_of_one_target_follow_each_other(ladder: Ladder) -> None:
    world = named(ladder)
    world.located(at(HOSTS[1], HOSTS[0]), at(HOSTS[2], priority=1))
    taken(world, world.gateways[1], world.gateways[0], world.gateways[2])


def test_the_weight_decides_for_each_call(ladder: Ladder) -> None:
    """RFC 2782, with the dice in hand."""
    thrown = [0.0]
    world = named(ladder, gateways=2, dice=lambda: thrown[0])
    world.located(at(HOSTS[0], weight=1), at(HOSTS[1], weight=3))
    taken(world, world.gateways[0])
    thrown[0] = 0.5
    taken(world, world.gateways[1], world.gateways[0])


def test_a_ttl_that_moves_the_service(ladder: Ladder) -> None:
    """New calls go to the new address; the one that is up stays where it is."""
    world = named(ladder)
    world.located(at(HOSTS[0]))
    world.talks(call="up")
    world.located(at(HOSTS[1]))
    taken(world, world.gateways[1])
    world.hangs_up(call="up")


def test_a_call_under_way_goes_on(ladder: Ladder) -> None:
    """Its target set was drawn up when it came; the answer of an address that is gone from DNS still counts."""
    world = named(ladder, try_seconds=2.0)
    world.located(at(HOSTS[0]), at(HOSTS[1], priority=1))
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.located(at(HOSTS[2]))
    world.after(2.1)
    world.carrier.gets("INVITE", times=2)
    world.gateways[1].gets("INVITE")
    world.gateways[1].sends("180")
    world.pbx.gets("180")
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.gateways[1].gets("CANCEL")
    world.gateways[1].sends("200 CANCEL")
    world.gateways[1].sends("487 INVITE")
    world.gateways[1].gets("ACK")
    world.hangs_up()


def test_a_name_without_a_service(ladder: Ladder) -> None:
    world = named(ladder)
    world.located(at(HOSTS[0]))
    world.located(trouble="trunk.example has no address in DNS for SIP")
    assert up(world) == 0.0
    refused(world, "no address of a gateway is known")
    assert told(world, "trunk-down") == [("critical", False)]
    assert told(world, "dns") == [("critical", False)]
    world.located(at(HOSTS[1]))
    assert up(world) == 1.0
    taken(world, world.gateways[1])
    assert told(world, "trunk-down")[-1] == told(world, "dns")[-1] == ("critical", True)


def test_dns_is_away(ladder: Ladder) -> None:
    """The last answer serves; a person hears of it, once, and hears when it is over."""
    world = named(ladder)
    world.located(at(HOSTS[0]))
    for _ in range(3):
        world.located(at(HOSTS[0]), trouble="no name server answers")
    taken(world, world.gateways[0])
    assert told(world, "dns") == [("warning", False)]
    assert up(world) == 1.0
    world.located(trouble="no name server answers")
    assert told(world, "dns")[1:] == [("warning", True), ("critical", False)]
    refused(world, "no address of a gateway is known")
    world.located(at(HOSTS[0]))
    assert told(world, "dns")[3:] == [("critical", True)]


def test_the_gate_s_own_address_is_left_out(ladder: Ladder) -> None:
    """A wrong record: every call would come back."""
    world = named(ladder)
    world.located(Place(0, 1, b"UDP", 5060, ("127.0.0.1",)), at(HOSTS[0], priority=1))
    taken(world, world.gateways[0])


def test_what_no_listener_reaches_is_left_out(ladder: Ladder) -> None:
    world = named(ladder)
    world.located(
        Place(0, 1, b"TCP", 5080, (HOSTS[1],)), Place(0, 1, b"UDP", 5080, ("2001:db8::1",)), at(HOSTS[0])
    )
    taken(world, world.gateways[0])


def test_one_address_by_two_records(ladder: Ladder) -> None:
    """It is tried once."""
    world = named(ladder)
    world.located(at(HOSTS[0]), at(HOSTS[0], HOSTS[1], priority=1))
    taken(world, world.gateways[0], world.gateways[1])


def test_a_name_beside_an_address(ladder: Ladder) -> None:
    """The order of the config comes before that of DNS."""
    world = ladder(gateways=3)
    first = world.trunk.gateways[0]
    world.located(at(HOSTS[2], priority=5), who=first)
    assert [g[0].flow.host for g in world.core.trunks.groups(world.key, world.now)] == [
        HOSTS[2],
        *HOSTS[1:],
    ]


# -- health is an address's -----------------------------------------------------------------------------------------


def test_an_address_that_fails_is_passed_by(ladder: Ladder) -> None:
    """The gateway is up while one of its addresses is; what is known of one outlives a look-up that finds it again."""
    world = named(ladder, gateways=2)
    world.located(at(HOSTS[0]), at(HOSTS[1], priority=1))
    for _ in range(3):
        taken(world, *world.gateways)
    assert up(world) == 1.0
    world.located(at(HOSTS[1], priority=1), at(HOSTS[0]))
    taken(world, world.gateways[1])


def test_options_to_each_address(ladder: Ladder) -> None:
    """Begun when it is learned, ended when it is gone; what still comes from there changes nothing."""
    world = named(ladder, gateways=2, rules=Rules(interval=30.0, timeout=4.0, down_after=1), dice=lambda: 0.1)
    one, two = world.gateways
    world.after(100)
    world.located(at(HOSTS[0]))
    world.after(3.1)
    one.gets("OPTIONS")
    world.located(at(HOSTS[1]))
    one.sends("503 OPTIONS")
    world.after(3.1)
    two.gets("OPTIONS")
    two.sends("200 OPTIONS")
    assert up(world) == 1.0
    world.after(20)
    one.gets_nothing()
    two.gets_nothing()


def test_a_look_up_that_brings_nothing_new_keeps_the_pace(ladder: Ladder) -> None:
    """TTL 1 s, OPTIONS every 30 s."""
    world = named(ladder, gateways=1, rules=Rules(interval=30.0, timeout=4.0), dice=lambda: 0.5)
    seen = 0
    for _ in range(80):
        world.located(at(HOSTS[0]))
        world.after(0.99)
        if world.carrier.inbox:
            world.carrier.gets("OPTIONS")
            world.carrier.sends("200 OPTIONS")
            world.carrier.inbox.clear()
            seen += 1
    assert seen == 3, "at 15, 45 and 75 seconds"


# -- who calls ------------------------------------------------------------------------------------------------------


def test_resolved_addresses_are_admitted_while_they_are_that(ladder: Ladder) -> None:
    """interface.md: a name among the gateways admits its resolved addresses, for their TTL."""
    world = named(ladder, gateways=2)
    world.located(at(HOSTS[0]))
    world.carrier.sends("INVITE")
    world.carrier.gets("100")
    world.pbx.gets("INVITE")
    world.pbx.sends("486")
    world.pbx.gets("ACK")
    world.carrier.gets("486")
    world.carrier.sends("ACK")
    world.gateways[1].sends("INVITE")
    world.gateways[1].gets("403")
    world.gateways[1].sends("ACK")
    world.located(at(HOSTS[1]))
    world.after(1.1)
    world.carrier.sends("INVITE")
    world.carrier.gets("403")
    world.carrier.sends("ACK")


def test_the_generation_changes_only_with_the_addresses(ladder: Ladder) -> None:
    """Else every flow would be looked up anew each second, at a TTL of one."""
    world = named(ladder)
    world.located(at(HOSTS[0]), at(HOSTS[1]))
    before = world.directory.generation
    world.located(at(HOSTS[0], weight=7), at(HOSTS[1]))
    world.located(at(HOSTS[0], weight=7), at(HOSTS[1]), trouble="away")
    assert world.directory.generation == before
    world.located(at(HOSTS[0]))
    assert world.directory.generation != before


def test_a_restart_before_the_look_up(ladder: Ladder) -> None:
    """The BYE of a call that another gate began: it is told 481 until the trunk is known, then it passes."""
    world = named(ladder)
    world.located(at(HOSTS[0]))
    world.talks()
    world.restarts()
    world.trunk.gateways[0].site.learn((), world.directory)
    world.pbx.sends("BYE")
    world.pbx.gets("481")
    world.located(at(HOSTS[0]))
    world.pbx.sends("BYE")
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE")
    world.pbx.gets("200 BYE")


# -- a PBX by name --------------------------------------------------------------------------------------------------

PBX = "sip:asterisk"


def test_a_pbx_by_name(ladder: Ladder) -> None:
    """Until it is known the carrier hears 503: the number exists."""
    world = ladder(pbx_name=PBX)
    world.carrier.sends("INVITE")
    world.carrier.gets("503")
    world.carrier.sends("ACK")
    assert world.record().reason == "no address of the PBX is known"
    world.carrier.sends("MESSAGE")
    world.carrier.gets("503 MESSAGE")
    world.located(at("192.0.2.10", port=5070), who=world.key)
    world.carrier.sends("INVITE")
    world.carrier.gets("100")
    assert world.pbx.gets("INVITE").uri == "sip:+815012345678@asterisk"
    world.pbx.sends("486")
    world.pbx.gets("ACK")
    world.carrier.gets("486")
    world.carrier.sends("ACK")


def test_two_addresses_of_a_pbx(ladder: Ladder) -> None:
    """A call in goes on to the second."""
    world = ladder(pbx_name=PBX, phones=0, try_seconds=2.0)
    other = world._agent("pbx2", "192.0.2.11", 5070, "UDP")
    world.agents.append(other)
    world.located(at("192.0.2.11", port=5070), at("192.0.2.10", port=5070, priority=1), who=world.key)
    world.carrier.sends("INVITE")
    world.carrier.gets("100")
    world.unreachable(other.gets("INVITE"))
    world.pbx.gets("INVITE")
    world.pbx.sends("486")
    world.pbx.gets("ACK")
    world.carrier.gets("486")
    world.carrier.sends("ACK")


@pytest.mark.parametrize("trouble", ["", "no name server answers"])
def test_a_pbx_whose_dns_is_away(ladder: Ladder, trouble: str) -> None:
    world = ladder(pbx_name=PBX)
    world.located(at("192.0.2.10", port=5070), who=world.key, trouble=trouble)
    assert told(world, "dns") == ([("warning", False)] if trouble else [])
    assert all(alert.key == "acme" for alert in world.alerts)


# -- a name that may have moved -------------------------------------------------------------------------------------


def test_a_gateway_that_fails_is_looked_up_anew(ladder: Ladder) -> None:
    """Long before its TTL is over: a container that was started again, a carrier that has moved. A 503 is a reason
    too, any other answer none; an address in the config is never looked up."""
    world = named(ladder, gateways=2)
    world.located(at(HOSTS[0]), at(HOSTS[1], priority=1))
    taken(world, world.gateways[0])
    assert world.resolves == []
    taken(world, *world.gateways)
    assert world.resolves == [world.trunk.gateways[0]]
    fixed = ladder(gateways=2)
    fixed.pbx.sends("INVITE")
    fixed.pbx.gets("100")
    fixed.unreachable(fixed.carrier.gets("INVITE"))
    fixed.gateways[1].gets("INVITE")
    fixed.gateways[1].sends("486")
    fixed.gateways[1].gets("ACK")
    fixed.pbx.gets("486")
    fixed.pbx.sends("ACK")
    assert fixed.resolves == []


def test_options_that_fail_are_a_reason(ladder: Ladder) -> None:
    world = named(ladder, gateways=1, rules=Rules(interval=30.0, timeout=4.0), dice=lambda: 0.1)
    world.located(at(HOSTS[0]))
    world.after(3.1)
    world.unreachable(world.carrier.gets("OPTIONS"))
    assert world.resolves == [world.trunk.gateways[0]]


def test_a_pbx_that_fails_is_looked_up_anew(ladder: Ladder) -> None:
    world = ladder(pbx_name=PBX)
    world.located(at("192.0.2.10", port=5070), who=world.key)
    world.carrier.sends("INVITE")
    world.carrier.gets("100")
    world.unreachable(world.pbx.gets("INVITE"))
    world.carrier.gets("503")
    world.carrier.sends("ACK")
    assert world.resolves == [world.key]
