"""The authorities call back: of a trunk that is trusted to say so, such a call is counted and never refused (RFC 7090
§4). By itself the header lifts nothing: any caller can write it (§5)."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World


def refused(world: World, caller: Agent, code: str, call: str, priority: str = "") -> None:
    """One call too many, whatever it says of itself."""
    caller.sends("INVITE", call=call, headers=[f"Priority: {priority}"] if priority else [])
    caller.gets("100", call=call)
    caller.gets(code, call=call)
    caller.sends("ACK", call=call)


@pytest.mark.parametrize("priority", ["psap-callback", "Psap-Callback"])
def test_over_the_limit(ladder: Ladder, priority: str) -> None:
    world = ladder(inbound_calls=1, psap_callback=True)
    world.talks(world.carrier, call="a")
    refused(world, world.carrier, "486", "b")
    world.talks(world.carrier, call="c", headers=[f"Priority: {priority}"])
    world.holds(inbound=2)
    world.hangs_up(world.carrier, call="c")
    world.hangs_up(world.carrier, call="a")


@pytest.mark.parametrize("priority", ["psap-callback", "Psap-Callback", "emergency"])
def test_the_header_alone_lifts_nothing(ladder: Ladder, priority: str) -> None:
    """Where nobody has said that the carrier takes it off the calls of others."""
    world = ladder(inbound_calls=1)
    world.talks(world.carrier, call="a")
    refused(world, world.carrier, "486", "b", priority)
    assert world.records[-1].rule == "V3"
    world.holds(inbound=1)
    world.hangs_up(world.carrier, call="a")


@pytest.mark.parametrize("priority", ["urgent", "emergency", "no-psap-callback", "psap-callbacks"])
def test_nothing_else_means_it(ladder: Ladder, priority: str) -> None:
    world = ladder(inbound_calls=1, psap_callback=True)
    world.talks(world.carrier, call="a")
    refused(world, world.carrier, "486", "b", priority)
    world.hangs_up(world.carrier, call="a")


def test_while_draining(ladder: Ladder) -> None:
    world = ladder(psap_callback=True)
    world.core.draining = True
    world.carrier.sends("INVITE")
    world.carrier.gets("503")
    world.carrier.sends("ACK")
    world.talks(world.carrier, headers=["Priority: psap-callback"])
    world.hangs_up(world.carrier)


def test_a_caller_can_not_write_itself_free(ladder: Ladder) -> None:
    """Of the PBX the header means nothing: what is an emergency is decided by the number."""
    world = ladder(outbound_calls=1, psap_callback=True)
    world.talks(call="a")
    refused(world, world.pbx, "503", "b", "psap-callback")
    world.hangs_up(call="a")
