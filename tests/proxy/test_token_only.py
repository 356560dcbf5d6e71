"""In-dialog requests at a gate that has no memory of the call, only the secret that signed its token: they pass both
ways (RFC 3261 §16.4; proxy rules §11: mid-dialog BYE and re-INVITE still route after a restart)."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World

OTHER_SECRET = b"another gate's secret, 32 octets"

WINDOW = 1.1
"""After a start no token is free for one window and the margin."""


def sides(world: World, first: str) -> tuple[Agent, Agent]:
    return (world.pbx, world.carrier) if first == "pbx" else (world.carrier, world.pbx)


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("ender", ["pbx", "carrier"])
def test_the_call_goes_on_and_ends(world: World, caller: str, ender: str) -> None:
    """re-INVITE, INFO and BYE, from either side of a call in either direction."""
    world.talks(sides(world, caller)[0])
    world.restarts()
    world.after(WINDOW)  # a re-INVITE of the PBX takes a token: nobody can say that it is no new call
    for a, b in (sides(world, "pbx"), sides(world, "carrier")):
        a.sends("re-INVITE")
        a.gets("100 re-INVITE")
        b.gets("re-INVITE")
        b.sends("200 re-INVITE")
        a.gets("200 re-INVITE")
        a.sends("ACK")
        b.gets("ACK")
        a.sends("INFO")
        b.gets("INFO")
        b.sends("481 INFO")
        a.gets("481 INFO")
    assert world.store.asked == 2  # that token, and its line: it counts as soon as it has shown that it lives
    world.holds(outbound=int(caller == "pbx"), inbound=int(caller == "carrier"))
    world.hangs_up(sides(world, ender)[0])
    assert world.record().answer_at is not None


def test_a_reinvite_is_cancelled(world: World) -> None:
    world.talks()
    world.restarts()
    world.after(WINDOW)
    world.pbx.sends("re-INVITE")
    world.pbx.gets("100")
    world.carrier.gets("re-INVITE")
    world.carrier.sends("180 re-INVITE")
    world.pbx.gets("180")
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 CANCEL")
    world.carrier.sends("487 re-INVITE")
    world.carrier.gets("ACK")
    world.pbx.gets("487 re-INVITE")
    world.pbx.sends("ACK")
    world.hangs_up()


def test_a_reinvite_without_an_answer(world: World) -> None:
    """Timer B runs here as well; there is no call to end."""
    world.talks()
    world.restarts()
    world.after(WINDOW)
    world.pbx.sends("re-INVITE")
    world.pbx.gets("100")
    world.after(32.1)
    world.carrier.gets("re-INVITE", times=7)
    world.pbx.gets("408")
    world.pbx.sends("ACK")


@pytest.mark.parametrize("over", [("TCP", "UDP"), ("UDP", "TCP")])
@pytest.mark.parametrize("sender", ["pbx", "carrier"])
def test_over_two_listeners(ladder: Ladder, over: tuple[str, str], sender: str) -> None:
    """The token says which listener leads to which side. A stream to the PBX is opened anew, to its Contact."""
    world = ladder(pbx_over=over[0], carrier_over=over[1])
    world.talks()
    world.restarts()
    world.hangs_up(sides(world, sender)[0])


def test_ipv6(ladder: Ladder) -> None:
    """An IPv6 address of the PBX fits into the token."""
    world = ladder(pbx_host="2001:db8::10")
    world.talks()
    world.restarts()
    world.hangs_up(world.carrier)


def test_the_gateway_that_has_the_call(ladder: Ladder) -> None:
    """The token names the gateway: a BYE goes to the second, not to the first."""
    world = ladder(gateways=2)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("503")
    world.carrier.gets("ACK")
    two = world.gateways[1]
    two.gets("INVITE")
    two.contact = "<sip:two@media.carrier.example>"  # a name is not looked up
    two.sends("200")
    world.pbx.gets("200")
    world.restarts()
    world.pbx.sends("ACK")
    two.gets("ACK")
    world.pbx.sends("BYE")
    two.gets("BYE")
    two.sends("200 BYE")
    world.pbx.gets("200 BYE")


@pytest.mark.parametrize("sender", ["pbx", "carrier"])
@pytest.mark.parametrize("method", ["BYE", "INFO", "UPDATE"])
def test_another_secret_opens_nothing(world: World, sender: str, method: str) -> None:
    """Nobody else's token does: 481."""
    world.talks()
    world.restarts(OTHER_SECRET)
    a, b = sides(world, sender)
    a.sends(method)
    a.gets(f"481 {method}")
    b.gets_nothing()


@pytest.mark.parametrize("of", ["pbx", "carrier"])
@pytest.mark.parametrize("by", ["stranger", "other side"])
def test_only_its_own_side_may_send(world: World, of: str, by: str) -> None:
    """The token proves the dialog, the source the side."""
    world.talks()
    world.restarts()
    a, b = sides(world, of)
    bye = a.sends("BYE", lost=True)
    forger = world.stranger if by == "stranger" else b
    forger.transmits(bye.data)
    assert [text.code for _, text in forger.inbox] == [403 if by == "stranger" else 481]
    forger.inbox.clear()


@pytest.mark.parametrize("what", ["Call-ID", "tag"])
def test_the_token_is_of_this_dialog(world: World, what: str) -> None:
    """Its MAC covers Call-ID and the caller's tag."""
    world.talks()
    world.restarts()
    bye = world.pbx.sends("BYE", lost=True).data
    old, new = (b"Call-ID: ", b"Call-ID: x") if what == "Call-ID" else (b"tag=pbx-1", b"tag=pbx-2")
    world.pbx.transmits(bye.replace(old, new))
    assert [text.code for _, text in world.pbx.inbox] == [481]
    world.pbx.inbox.clear()


def test_without_a_token_there_is_nothing_to_go_by(world: World) -> None:
    """A client that takes our Route off: 481, as for any unknown dialog."""
    world.talks()
    world.restarts()
    bye = world.pbx.sends("BYE", lost=True).data
    line = next(x for x in bye.split(b"\r\n") if x.startswith(b"Route:"))
    world.pbx.transmits(bye.replace(line + b"\r\n", b""))
    world.pbx.gets("481 BYE")


def test_the_answer_to_what_was_sent_before(world: World) -> None:
    """Our token in its Via tells whose call it is: it goes on. Not for ever, and not for whoever is not the callee."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.restarts()
    ok = world.carrier.sends("200", lost=True)
    world.pbx.transmits(ok.data)
    world.stranger.transmits(ok.data)
    world.pbx.gets_nothing()
    assert world.rejected("stray response") == 2
    world.after(201.0)
    world.carrier.transmits(ok.data)
    world.pbx.gets_nothing()
    assert world.rejected("stray response") == 3
