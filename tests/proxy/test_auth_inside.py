"""Requests inside a dialog of a digest user (interface.md): not challenged over the dialog's own flow or source; from
elsewhere they need an identity, and a dialog that is another's stays so."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.callers import again, answers, calls, challenges, credentials, knows, other_key
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import DID, World

from callgate.proxy.flow import Flow

HOME, ROAD = ("203.0.113.66", 5060), ("203.0.113.99", 5062)


def moves(world: World, address: tuple[str, int] = ROAD) -> Agent:
    """The phone has another address from now on (another network, or a NAT that has forgotten it)."""
    phone = world.stranger
    phone.addresses.add(address)
    phone.flow = Flow(world.listeners[0], *address)
    return phone


@pytest.mark.parametrize("method", ["BYE", "INFO", "re-INVITE"])
def test_from_another_address_it_needs_a_password(world: World, method: str) -> None:
    knows(world)
    calls(world, world.stranger)
    phone = moves(world)
    first = phone.sends(method)
    asked = phone.gets("407")
    if method == "re-INVITE":
        phone.sends("ACK")
    world.carrier.gets_nothing()
    world.holds(outbound=1)
    line = credentials(asked, first.method, first.uri)
    phone.sends(method, headers=[line])
    if method == "re-INVITE":
        phone.gets("100")
    world.carrier.gets(method)
    world.carrier.sends(f"200 {method}")
    phone.gets(f"200 {method}")
    if method == "re-INVITE":
        phone.sends("ACK")
        world.carrier.gets("ACK")
    if method != "BYE":
        # From here on this is the dialog's own address.
        phone.sends("BYE")
        world.carrier.gets("BYE")
        world.carrier.sends("200 BYE")
        phone.gets("200 BYE")
    world.holds_nothing()


def test_a_phone_that_has_moved_is_reached_where_it_is(world: World) -> None:
    """The carrier's BYE goes to the address that has shown the password last; unless its Contact says otherwise."""
    knows(world)
    phone = world.stranger
    phone.contact = "<sip:bob@phone.example>"  # a name: so the way back is the way it came
    calls(world, phone)
    world.carrier.sends("INFO")
    phone.gets("INFO")
    phone.sends("200 INFO")
    world.carrier.gets("200 INFO")
    moves(world)
    first = phone.sends("INFO")
    line = credentials(phone.gets("407"), "INFO", first.uri)
    phone.sends("INFO", headers=[line])
    world.carrier.gets("INFO")
    world.carrier.sends("200 INFO")
    phone.gets("200 INFO")
    phone.addresses = {ROAD}
    world.carrier.sends("BYE")
    phone.gets("BYE")
    phone.sends("200 BYE")
    world.carrier.gets("200 BYE")


def test_another_key_s_password_does_not_do(world: World) -> None:
    """481: identified, and no side of this dialog."""
    knows(world, others={"eve": other_key(world)})
    calls(world, world.stranger)
    phone = moves(world)
    first = phone.sends("BYE")
    asked = phone.gets("407")
    phone.sends("BYE", headers=[credentials(asked, "BYE", first.uri, user="eve")])
    phone.gets("481")
    world.carrier.gets_nothing()
    world.holds(outbound=1)
    phone.sends("BYE", headers=[credentials(asked, "BYE", first.uri)])
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE")
    phone.gets("200 BYE")


def test_a_user_cannot_speak_for_the_carrier(world: World) -> None:
    """A BYE in the carrier's name gives lines back at its receipt: no password of a key makes that right."""
    knows(world)
    calls(world, world.stranger)
    thief = Agent(world, "thief", Flow(world.listeners[0], *ROAD), ROAD[1])
    world.agents.append(thief)
    bye = world.carrier.sends("BYE", lost=True)
    forged = bye.data.replace(b"198.51.100.1:5080;branch=z9hG4bK", b"203.0.113.99:5062;branch=z9hG4bKt")
    thief.legs[bye.call_id] = world.carrier.legs[bye.call_id]
    thief.transmits(forged)
    asked = thief.gets("407")
    line = credentials(asked, "BYE", bye.uri)
    thief.transmits(
        forged.replace(b"\r\nMax-Forwards", f"\r\n{line}\r\nMax-Forwards".encode()).replace(
            b"z9hG4bKt", b"z9hG4bKu"
        )
    )
    thief.gets("481")
    world.holds(outbound=1)
    world.carrier.repeats("BYE")
    world.stranger.gets("BYE")
    world.stranger.sends("200 BYE")
    world.carrier.gets("200 BYE")


@pytest.mark.parametrize("method", ["BYE", "INFO", "INVITE", "NOTIFY"])
def test_a_dialog_that_is_none_is_challenged_alike(any_world: World, method: str) -> None:
    """A stranger learns nothing of what is up here; with a password he learns that there is no such dialog."""
    world = knows(any_world)
    phone = world.stranger
    change = {"to": "<sip:x@127.0.0.1>;tag=x"}
    first = phone.sends(method, inside=False, change=change)
    asked = phone.gets("407")
    assert challenges(asked)[0].get("stale") is None
    if method == "INVITE":
        phone.sends("ACK")
    again(phone, first, credentials(asked, method, first.uri))
    phone.gets("481")
    if method == "INVITE":
        phone.sends("ACK")


def test_an_ack_from_elsewhere_is_dropped(world: World) -> None:
    """RFC 3261 §22.1: never challenged."""
    knows(world)
    calls(world, world.stranger)
    phone = moves(world)
    phone.sends("ACK")
    phone.gets_nothing()
    world.carrier.gets_nothing()
    moves(world, HOME)
    phone.sends("BYE")
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE")
    phone.gets("200 BYE")


def test_an_ack_from_another_port_passes(world: World) -> None:
    """A NAT has forgotten the phone between its INVITE and the answer. An ACK can't be asked for a password, and
    without it the carrier hangs up after half a minute."""
    knows(world)
    phone = world.stranger
    answers(phone, phone.sends("INVITE"))
    phone.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("200")
    phone.gets("200")
    moves(world, (HOME[0], 40999))
    phone.sends("ACK")
    world.carrier.gets("ACK")
    first = phone.sends("BYE")
    asked = phone.gets("407")  # anything else still has to show who it is
    phone.sends("BYE", headers=[credentials(asked, "BYE", first.uri)])
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE")
    phone.gets("200 BYE")
    assert world.record().reason == ""


def test_after_a_restart_a_user_s_dialog_is_its_own_still(world: World) -> None:
    """The Record-Route says which address it is; from there nothing is asked, from elsewhere a password."""
    knows(world)
    calls(world, world.stranger)
    world.restarts()
    phone = moves(world)
    first = phone.sends("BYE")
    asked = phone.gets("407")
    phone.sends("BYE", headers=[credentials(asked, "BYE", first.uri)])
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE")
    phone.gets("200 BYE")


def test_a_call_in_is_answered_and_ended_without_a_password(ladder: Ladder) -> None:
    """The PBX that a call in goes to is a side of it by that, whatever its key requires for calls out."""
    world = knows(ladder(), require=["digest"])
    assert world.directory.identify(world.pbx.flow).key is None
    world.talks(world.carrier)
    world.hangs_up(world.pbx)
    assert world.record().direction == "inbound"
    world.pbx.sends("INVITE")
    world.pbx.gets("407")
    world.pbx.sends("ACK")


def test_another_address_of_the_key_may_answer(ladder: Ladder) -> None:
    """A PBX of several machines: what its key requires of calls out is not asked of answers."""
    world = knows(ladder(), require=["source", "digest"], sources=["192.0.2.10", "192.0.2.11"])
    world.carrier.sends("INVITE", to=DID)
    world.carrier.gets("100")
    world.pbx.gets("INVITE")
    world.pbx.addresses.add(("192.0.2.11", 5070))
    world.pbx.flow = Flow(world.listeners[0], "192.0.2.11", 5070)
    world.pbx.sends("486")
    world.pbx.gets("ACK")
    world.carrier.gets("486")
    world.carrier.sends("ACK")
