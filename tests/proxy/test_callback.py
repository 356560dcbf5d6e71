"""The authorities call back: such a call of the trunk is counted and never refused (RFC 7090 §4)."""

from __future__ import annotations

import pytest
from tests.proxy.conftest import Ladder


@pytest.mark.parametrize("priority", ["psap-callback", "Psap-Callback"])
def test_over_the_limit(ladder: Ladder, priority: str) -> None:
    world = ladder(inbound_calls=1)
    world.talks(world.carrier, call="a")
    world.carrier.sends("INVITE", call="b")
    world.carrier.gets("100", call="b")
    world.carrier.gets("486", call="b")
    world.carrier.sends("ACK", call="b")
    world.talks(world.carrier, call="c", headers=[f"Priority: {priority}"])
    world.holds(inbound=2)
    world.hangs_up(world.carrier, call="c")
    world.hangs_up(world.carrier, call="a")


def test_while_draining(ladder: Ladder) -> None:
    world = ladder()
    world.core.draining = True
    world.carrier.sends("INVITE")
    world.carrier.gets("503")
    world.carrier.sends("ACK")
    world.talks(world.carrier, headers=["Priority: psap-callback"])
    world.hangs_up(world.carrier)


def test_a_caller_can_not_write_itself_free(ladder: Ladder) -> None:
    """Of the PBX the header means nothing: what is an emergency is decided by the number."""
    world = ladder(outbound_calls=1)
    world.talks(call="a")
    world.pbx.sends("INVITE", call="b", headers=["Priority: psap-callback"])
    world.pbx.gets("100", call="b")
    world.pbx.gets("503", call="b")
    world.pbx.sends("ACK", call="b")
    world.hangs_up(call="a")
