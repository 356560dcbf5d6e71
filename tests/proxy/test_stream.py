"""An INVITE towards a stream that still holds unsent bytes (design.md): it waits in the shell, so its token counts from
the moment it really leaves, and one that nobody wants any more never leaves (pitfall 6)."""

from __future__ import annotations

from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World


def stalled(ladder: Ladder, gateways: int = 1, cps: int = 1) -> World:
    world = ladder(carrier_over="TCP", gateways=gateways, cps=cps)
    world.stalls()
    world.pbx.sends("INVITE", call="a")
    world.pbx.gets("100", call="a")
    world.settle()
    return world


def test_the_token_counts_from_the_moment_it_leaves(ladder: Ladder) -> None:
    """`take → sent`: held while the INVITE waits, a second and the margin after it went."""
    world = stalled(ladder)
    world.after(5)
    world.carrier.gets_nothing()
    world.holds(outbound=1)
    assert world.used("outbound_cps") == 1
    world.flows()
    world.carrier.gets("INVITE")
    world.settle()
    world.after(1.0)
    assert world.used("outbound_cps") == 1
    world.pbx.sends("INVITE", call="b")
    world.pbx.gets("100", call="b")
    world.pbx.gets("503", call="b")
    world.pbx.sends("ACK", call="b")
    world.after(0.1)
    assert world.used("outbound_cps") == 0
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486", call="a")
    world.pbx.sends("ACK", call="a")


def test_one_that_has_timed_out_never_leaves(ladder: Ladder) -> None:
    """Timer B: 408; what waited is withdrawn, and its token, never sent, is free at once."""
    world = stalled(ladder)
    world.after(32.1)
    world.pbx.gets("408")
    world.pbx.sends("ACK")
    world.holds_nothing()
    assert world.used("outbound_cps") == 0
    world.flows()
    world.carrier.gets_nothing()


def test_a_gateway_that_is_left_gets_it_no_more(ladder: Ladder) -> None:
    """After `try_seconds` the second one has the call; the first stream flows again and brings nothing."""
    world = stalled(ladder, gateways=2, cps=2)
    world.after(3.9)
    waiting = list(world.stalled or ())
    assert len(waiting) == 1
    world.after(0.2)
    world.settle()
    assert waiting[0] not in (world.stalled or ())
    world.flows()
    world.carrier.gets_nothing()
    two = world.gateways[1]
    two.gets("INVITE")
    two.sends("486")
    two.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_a_connection_that_cannot_be_had(ladder: Ladder) -> None:
    """§16.9: the shell says so, the next gateway is tried."""
    world = stalled(ladder, gateways=2, cps=2)
    world.core.unreachable((world.stalled or [])[0].data, world.now)
    world.carries_out()
    world.settle()
    world.flows()
    world.carrier.gets_nothing()
    two = world.gateways[1]
    two.gets("INVITE")
    two.sends("486")
    two.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")
