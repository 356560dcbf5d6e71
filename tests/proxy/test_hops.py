"""Max-Forwards (RFC 3261 §16.3 step 3, §16.6 step 3)."""

from __future__ import annotations

import pytest
from tests.proxy.ladder import World


def ends_refused(world: World, code: str) -> None:
    world.carrier.gets_nothing()
    world.pbx.gets(code)
    world.pbx.sends("ACK")
    world.holds_nothing()


@pytest.mark.parametrize(
    ("came", "left"), [("70", "69"), ("1", "0"), ("255", "254"), ("007", "6"), (None, "70")]
)
def test_it_is_counted_down_or_begins_at_70(world: World, came: str | None, left: str) -> None:
    """§16.6 step 3."""
    world.pbx.sends("INVITE", change={"max-forwards": came})
    world.pbx.gets("100")
    assert world.carrier.gets("INVITE").all("max-forwards") == [left]
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_at_0_an_invite_goes_no_further(any_world: World) -> None:
    """§16.3 step 3: 483, and nothing is claimed for it."""
    any_world.pbx.sends("INVITE", change={"max-forwards": "0"})
    ends_refused(any_world, "483")
    assert any_world.store.asked == 0


@pytest.mark.parametrize(
    "rubbish", ["256", "-1", "abc", "", "1 2", "70;x", "99999999999999999999", "0x46", "٧٠"]
)
def test_rubbish_is_answered_400(any_world: World, rubbish: str) -> None:
    """0..255 (§20.22): what is beyond never wraps."""
    world = any_world
    invite = world.pbx.sends("INVITE", change={"max-forwards": "?"}, lost=True)
    world.pbx.transmits(invite.data.replace(b"Max-Forwards: ?", b"Max-Forwards: " + rubbish.encode()))
    ends_refused(world, "400")
    assert world.store.asked == 0


def test_two_of_them_are_a_fault(any_world: World) -> None:
    any_world.pbx.sends("INVITE", headers=["Max-Forwards: 70"])
    ends_refused(any_world, "400")


def test_at_0_the_gate_answers_an_options(any_world: World) -> None:
    """§11: OPTIONS may be answered as if it had been for the gate."""
    any_world.pbx.sends("OPTIONS", to="0312345678", change={"max-forwards": "0"})
    assert any_world.pbx.gets("200 OPTIONS").has("allow")
    any_world.carrier.gets_nothing()


@pytest.mark.parametrize("side", ["pbx", "carrier"])
def test_at_0_a_bye_goes_no_further_and_frees_nothing(world: World, side: str) -> None:
    """§16.3 step 3 inside a dialog too: the call is still up."""
    world.talks()
    one, other = (world.pbx, world.carrier) if side == "pbx" else (world.carrier, world.pbx)
    one.sends("BYE", change={"max-forwards": "0"})
    one.gets("483 BYE")
    other.gets_nothing()
    world.holds(outbound=1)
    world.hangs_up()


def test_an_ack_at_0_is_dropped_in_silence(world: World) -> None:
    """An ACK is never answered (§17)."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK", change={"max-forwards": "0"})
    world.carrier.gets_nothing()
    world.pbx.gets_nothing()
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.hangs_up()
