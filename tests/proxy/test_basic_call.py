"""The plain call, both ways (RFC 3261 §16, RFC 3665 §3.1)."""

from __future__ import annotations

import pytest
from tests.proxy.ladder import World


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("ender", ["pbx", "carrier"])
def test_a_call_from_invite_to_bye(world: World, caller: str, ender: str) -> None:
    """The line is taken before the INVITE leaves and given back at the end, whoever calls and whoever ends."""
    a, b = (world.pbx, world.carrier) if caller == "pbx" else (world.carrier, world.pbx)
    up = {"outbound": 1} if caller == "pbx" else {"inbound": 1}
    a.sends("INVITE")
    a.gets("100")
    b.gets("INVITE")
    world.holds(**up)
    b.sends("100")
    b.sends("180")
    a.gets("180")
    world.after(6)
    b.sends("200")
    a.gets("200")
    a.sends("ACK")
    b.gets("ACK")
    world.after(100)
    world.holds(**up)
    one, other = (world.pbx, world.carrier) if ender == "pbx" else (world.carrier, world.pbx)
    one.sends("BYE")
    other.gets("BYE")
    other.sends("200 BYE")
    one.gets("200 BYE")
    world.holds_nothing()
    record = world.record()
    assert (record.outcome, record.final_code) == ("answered", 200)
    assert record.ended_by == ("caller" if caller == ender else "callee")


def test_every_message_that_leaves_is_counted(world: World) -> None:
    """`sip_messages_total`: requests by their method, answers by that and their code."""
    world.talks()
    world.hangs_up()
    world.pbx.sends("INVITE", call="refused", to="0120123456")
    world.pbx.gets("403", call="refused")
    world.pbx.sends("ACK", call="refused")
    sent = {
        ("INVITE", ""): 1,
        ("INVITE", "100"): 1,
        ("INVITE", "180"): 1,
        ("INVITE", "200"): 1,
        ("ACK", ""): 1,
        ("BYE", ""): 1,
        ("BYE", "200"): 1,
        ("INVITE", "403"): 1,
    }
    for (method, code), count in sent.items():
        place = world.meters.series("sip_messages_total", "out", method, code)
        assert world.meters.values[place] == count, (method, code)
