"""Requests inside a dialog (RFC 3261 §12.2, §14; RFC 3262, 3311, 6086, 3515, 5057): both ways, early
dialogs included."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World

from callgate.proxy.trunk.places import Place


def both(world: World, first: str) -> tuple[Agent, Agent]:
    return (world.pbx, world.carrier) if first == "pbx" else (world.carrier, world.pbx)


def asks(a: Agent, b: Agent, method: str, code: str = "200", **options: list[str]) -> None:
    """A request and its answer."""
    a.sends(method, inside=True, **options)  # type: ignore[arg-type]
    b.gets(method)
    b.sends(f"{code} {method}")
    a.gets(f"{code} {method}")


def reinvites(a: Agent, b: Agent) -> None:
    a.sends("re-INVITE")
    a.gets("100 re-INVITE")
    b.gets("re-INVITE")


def refused(world: World, code: str) -> None:
    """A carrier's final answer to a re-INVITE of the PBX."""
    world.carrier.sends(f"{code} re-INVITE")
    world.carrier.gets("ACK")
    world.pbx.gets(f"{code} re-INVITE")
    world.pbx.sends("ACK")


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_the_early_dialog(world: World, caller: str) -> None:
    """RFC 3262, RFC 3311, RFC 6086: PRACK, UPDATE and INFO before the answer, with their bodies and headers."""
    a, b = both(world, caller)
    a.sends("INVITE", headers=["Supported: 100rel"])
    a.gets("100")
    b.gets("INVITE")
    b.sends("183", headers=["RSeq: 7", "Require: 100rel"], body=b"v=0\r\n")
    progress = a.gets("183")
    assert (progress.get("rseq"), progress.get("require"), progress.body) == ("7", "100rel", b"v=0\r\n")
    asks(a, b, "PRACK", headers=["RAck: 7 1 INVITE"])
    asks(a, b, "UPDATE")
    asks(b, a, "UPDATE")
    asks(a, b, "INFO")
    asks(b, a, "INFO")
    up = {"outbound": 1} if caller == "pbx" else {"inbound": 1}
    world.holds(**up)
    b.sends("200 INVITE")
    a.gets("200 INVITE")
    a.sends("ACK")
    b.gets("ACK")
    world.hangs_up(a)


@pytest.mark.parametrize("method", ["PRACK", "UPDATE", "INFO"])
@pytest.mark.parametrize("code", ["481", "408", "500"])
def test_a_failure_in_the_early_dialog_does_not_end_the_call(world: World, method: str, code: str) -> None:
    """The INVITE is still open: its own final answer ends the call, and goes up (§16.7)."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("183")
    world.pbx.gets("183")
    world.pbx.sends(method)
    world.carrier.gets(method)
    world.carrier.sends(f"{code} {method}")
    if code != "408":  # RFC 4320 §4.2
        world.pbx.gets(f"{code} {method}")
    world.holds(outbound=1)
    world.carrier.sends("200 INVITE")
    world.pbx.gets("200 INVITE")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.holds(outbound=1)
    if code == "408":
        world.after(4)
        world.pbx.gets(f"100 {method}")
    world.hangs_up()


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("sender", ["pbx", "carrier"])
def test_a_reinvite_moves_the_target(world: World, caller: str, sender: str) -> None:
    """§12.2.1.2, §12.2.2: what comes later goes to the new Contacts. Never a claim, never a line more."""
    world.talks(both(world, caller)[0])
    up = {"outbound": 1} if caller == "pbx" else {"inbound": 1}
    asked = world.store.asked
    one, other = both(world, sender)
    one.contact = f"<sip:{one.name}-new@{one.flow.host}:6070>"
    other.contact = f"<sip:{other.name}-new@{other.flow.host}:6080>"
    reinvites(one, other)
    other.sends("200 re-INVITE")
    one.gets("200 re-INVITE")
    one.addresses.add((one.flow.host, 6070))
    other.addresses.add((other.flow.host, 6080))
    one.sends("ACK")
    assert other.gets("ACK").uri == other.contact[1:-1]
    for sends, gets in ((one, other), (other, one)):
        sends.sends("INFO")
        assert gets.gets("INFO").uri == gets.contact[1:-1]
        gets.sends("200 INFO")
        sends.gets("200 INFO")
    world.holds(**up)
    assert world.store.asked == asked
    world.hangs_up(other)


@pytest.mark.parametrize(
    "where",
    ["198.51.100.1:5080", "198.51.100.1", "198.51.100.2:5080", "203.0.113.1:5080"],
    ids=["where it comes from", "another port", "another gateway", "the emergency route"],
)
@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("method", ["UPDATE", "INVITE"])
def test_a_pbx_leads_to_no_gateway(ladder: Ladder, where: str, caller: str, method: str) -> None:
    """Its Contact names one: the carrier's own requests must not come back to the carrier, as calls without token."""
    world = ladder(gateways=2, emergency="route")
    if method == "UPDATE":
        world.talks(both(world, caller)[0])
    world.pbx.contact = f"<sip:0990123456@{where}>"
    if method == "UPDATE":
        asks(world.pbx, world.carrier, "UPDATE")
    else:
        world.talks(both(world, caller)[0])
    reinvites(world.carrier, world.pbx)
    world.pbx.sends("200 re-INVITE")
    world.carrier.gets("200 re-INVITE")
    world.carrier.sends("ACK")
    assert world.pbx.gets("ACK").uri == world.pbx.contact[1:-1]
    world.hangs_up(world.carrier)


def test_a_gateway_whose_address_is_learnt_later(ladder: Ladder) -> None:
    """A name leads elsewhere now: what was a PBX's target is a gateway."""
    world = ladder(trunk_name="sip:sbc.example.com", gateways=2)
    world.located(Place(0, 1, b"UDP", 5080, ("198.51.100.1",)))
    world.talks()
    world.pbx.contact = "<sip:0990123456@198.51.100.2:5080>"
    asks(world.pbx, world.carrier, "UPDATE")
    world.pbx.addresses.add(("198.51.100.2", 5080))  # yet it is an address like any
    asks(world.carrier, world.pbx, "INFO")
    world.pbx.addresses.remove(("198.51.100.2", 5080))
    world.located(Place(0, 1, b"UDP", 5080, ("198.51.100.1", "198.51.100.2")))
    world.carrier.sends("INFO")
    world.pbx.gets("INFO")
    world.pbx.sends("200 INFO")
    world.carrier.gets("200 INFO")
    world.carrier.sends("BYE")
    world.pbx.gets("BYE")
    world.pbx.sends("200 BYE")
    world.carrier.gets("200 BYE")


def test_a_trunk_moves_to_another_of_its_gateways(ladder: Ladder) -> None:
    """But not to one of another trunk."""
    world = ladder(gateways=2, emergency="route")
    world.talks()
    world.carrier.contact = "<sip:sbc@203.0.113.1:5080>"
    asks(world.carrier, world.pbx, "UPDATE")
    asks(world.pbx, world.carrier, "INFO")
    world.carrier.contact = "<sip:sbc@198.51.100.2:5080>"
    asks(world.carrier, world.pbx, "UPDATE")
    before, world.carrier.addresses = world.carrier.addresses, {("198.51.100.2", 5080)}
    asks(world.pbx, world.carrier, "INFO")
    world.carrier.addresses = before
    world.carrier.contact = "<sip:sbc@198.51.100.1:5080>"
    asks(world.carrier, world.pbx, "UPDATE")
    world.hangs_up()


def test_an_update_moves_the_target(world: World) -> None:
    """RFC 3311 §5.1: like a re-INVITE."""
    world.talks()
    world.pbx.contact = "<sip:pbx-new@192.0.2.10:6070>"
    world.pbx.addresses.add(("192.0.2.10", 6070))
    asks(world.pbx, world.carrier, "UPDATE")
    world.carrier.sends("INFO")
    assert world.pbx.gets("INFO").uri == "sip:pbx-new@192.0.2.10:6070"
    world.pbx.sends("200 INFO")
    world.carrier.gets("200 INFO")
    world.hangs_up()


def test_a_refused_reinvite_does_not_move_the_target(ladder: Ladder) -> None:
    """§14.1: nothing changes; what the gate itself sends at the end goes to the old Contact."""
    world = ladder(max_call_seconds=100)
    world.talks()
    world.pbx.contact = "<sip:pbx-new@192.0.2.10:6070>"
    reinvites(world.pbx, world.carrier)
    refused(world, "488")
    world.after(100.1)
    assert world.pbx.gets("BYE").uri == "sip:pbx@192.0.2.10:5070"
    world.carrier.gets("BYE")
    world.pbx.sends("200 BYE")
    world.carrier.sends("200 BYE")


@pytest.mark.parametrize("code", ["401", "403", "407", "415", "480", "486", "488", "491", "500", "603"])
@pytest.mark.parametrize("sender", ["pbx", "carrier"])
def test_a_refused_reinvite_keeps_the_call(world: World, code: str, sender: str) -> None:
    """RFC 5057 §5.3: these end the transaction only. What goes up is what came: nothing is tried elsewhere."""
    world.talks()
    a, b = both(world, sender)
    reinvites(a, b)
    b.sends(f"{code} re-INVITE")
    assert b.gets("ACK").to_tag
    assert a.gets(f"{code} re-INVITE").to_tag
    a.sends("ACK")
    world.after(300)
    world.holds(outbound=1)
    world.hangs_up()


@pytest.mark.parametrize("method", ["re-INVITE", "INFO"])
@pytest.mark.parametrize("sender", ["pbx", "carrier"])
@pytest.mark.parametrize("passes", [False, True])
def test_a_503_inside_a_dialog(ladder: Ladder, method: str, sender: str, passes: bool) -> None:
    """§16.7 step 6: with a 503 that side would send us nothing at all for as long as Retry-After says (§21.5.4), new
    calls of all keys included. It says nothing about the dialog (RFC 5057 §5.3)."""
    world = ladder(upstream_503="pass" if passes else "500")
    world.talks()
    a, b = both(world, sender)
    a.sends(method)
    if method == "re-INVITE":
        a.gets("100")
    b.gets(method)
    b.sends(f"503 {method}", headers=["Retry-After: 300"])
    a.gets(f"{503 if passes else 500} {method}")
    if method == "re-INVITE":
        b.gets("ACK")
        a.sends("ACK")
    world.holds(outbound=1)
    world.hangs_up()


@pytest.mark.parametrize("method", ["re-INVITE", "UPDATE"])
@pytest.mark.parametrize("sender", ["pbx", "carrier"])
def test_a_481_ends_the_call(world: World, method: str, sender: str) -> None:
    """RFC 5057 §5.1: the other side knows no such dialog: the line goes when the 481 goes up."""
    world.talks()
    a, b = both(world, sender)
    a.sends(method)
    if method == "re-INVITE":
        a.gets("100")
    b.gets(method)
    world.holds(outbound=1)
    b.sends(f"481 {method}")
    a.gets(f"481 {method}")
    world.holds_nothing()
    if method == "re-INVITE":
        b.gets("ACK")
        a.sends("ACK")


@pytest.mark.parametrize("sender", ["pbx", "carrier"])
def test_a_408_to_a_reinvite_ends_the_call(world: World, sender: str) -> None:
    """RFC 5057 §5.1, RFC 3261 §12.2.1.2."""
    world.talks()
    a, b = both(world, sender)
    reinvites(a, b)
    b.sends("408 re-INVITE")
    b.gets("ACK")
    a.gets("408 re-INVITE")
    a.sends("ACK")
    world.holds_nothing()


@pytest.mark.parametrize("sender", ["pbx", "carrier"])
def test_a_reinvite_that_is_never_answered_ends_the_call(world: World, sender: str) -> None:
    """§12.2.1.2, Timer B: as if a 408 had come, and that is what goes up."""
    world.talks()
    a, b = both(world, sender)
    reinvites(a, b)
    world.after(31.9)
    world.holds(outbound=1)
    world.after(0.2)
    b.gets("re-INVITE", times=6)
    a.gets("408 re-INVITE")
    a.sends("ACK")
    world.holds_nothing()


def test_a_reinvite_that_cannot_be_delivered(world: World) -> None:
    """§16.9: 503 for this transaction; the dialog may live on (RFC 5057 §5.3: 503 ends the transaction only)."""
    world.talks()
    world.pbx.sends("re-INVITE")
    world.pbx.gets("100")
    world.unreachable(world.carrier.gets("re-INVITE"))
    world.pbx.gets("503 re-INVITE")
    world.pbx.sends("ACK")
    world.holds(outbound=1)
    world.hangs_up()


def test_timer_c_of_a_reinvite(world: World) -> None:
    """§16.8: CANCEL after three minutes; whoever obeys keeps the call."""
    world.talks()
    reinvites(world.pbx, world.carrier)
    world.carrier.sends("180 re-INVITE")
    world.pbx.gets("180 re-INVITE")
    world.after(181.1)
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 CANCEL")
    refused(world, "487")
    world.holds(outbound=1)
    world.hangs_up()


def test_timer_c_of_a_reinvite_does_not_begin_anew_with_a_100(world: World) -> None:
    """§16.7 step 2: 101 to 199 only, or who says no more than that holds it up for ever."""
    world.talks()
    reinvites(world.pbx, world.carrier)
    for _ in range(3):
        world.carrier.sends("100 re-INVITE")
        world.after(60)
    world.carrier.gets_nothing()
    world.carrier.sends("100 re-INVITE")
    world.after(1.1)
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 CANCEL")
    refused(world, "487")
    world.hangs_up()


@pytest.mark.parametrize("sender", ["pbx", "carrier"])
def test_a_reinvite_is_cancelled(world: World, sender: str) -> None:
    """§9, §14: its 487 keeps the call."""
    world.talks()
    a, b = both(world, sender)
    reinvites(a, b)
    a.sends("CANCEL", headers=["Reason: SIP;cause=200"])
    a.gets("200 CANCEL")
    b.gets_nothing()  # held back: nothing has come from there yet
    b.sends("100 re-INVITE")
    cancel = b.gets("CANCEL")
    assert cancel.to_tag
    assert cancel.get("reason") == "SIP;cause=200"
    b.sends("200 CANCEL")
    b.sends("487 re-INVITE")
    b.gets("ACK")
    a.gets("487 re-INVITE")
    a.sends("ACK")
    world.holds(outbound=1)
    world.hangs_up()


def test_a_cancelled_reinvite_that_is_answered_all_the_same(world: World) -> None:
    """§9.1: the 2xx beats the CANCEL."""
    world.talks()
    reinvites(world.pbx, world.carrier)
    world.carrier.sends("180 re-INVITE")
    world.pbx.gets("180 re-INVITE")
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 re-INVITE")
    world.carrier.sends("481 CANCEL")
    world.pbx.gets("200 re-INVITE")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.hangs_up()


def test_a_cancelled_reinvite_without_an_end(world: World) -> None:
    """§9.1: 64*T1 after the CANCEL it is taken for cancelled: 487."""
    world.talks()
    reinvites(world.pbx, world.carrier)
    world.carrier.sends("100 re-INVITE")
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 CANCEL")
    world.after(32.1)
    world.pbx.gets("487 re-INVITE")
    world.pbx.sends("ACK")
    world.holds_nothing()  # nobody there: as after a 408 (§12.2.1.2)


def test_reinvites_crossing(world: World) -> None:
    """§14.1: both get a 491 and the call goes on."""
    world.talks()
    reinvites(world.pbx, world.carrier)
    reinvites(world.carrier, world.pbx)
    for a, b in ((world.pbx, world.carrier), (world.carrier, world.pbx)):
        b.sends("491 re-INVITE")
        b.gets("ACK")
        a.gets("491 re-INVITE")
        a.sends("ACK")
    world.holds(outbound=1)
    world.hangs_up()


def test_the_200_of_a_reinvite_is_repeated_until_its_ack(world: World) -> None:
    """§14.2, RFC 6026: as for the first INVITE."""
    world.talks()
    reinvites(world.pbx, world.carrier)
    world.carrier.sends("200 re-INVITE")
    world.pbx.gets("200 re-INVITE")
    world.after(1)
    world.carrier.repeats("200 re-INVITE")
    world.pbx.gets("200 re-INVITE")
    world.pbx.repeats("re-INVITE")
    world.carrier.gets_nothing()
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.hangs_up()


def test_an_attended_transfer_passes(world: World) -> None:
    """RFC 3515, RFC 3891: REFER, NOTIFY and their headers are not the gate's business."""
    world.talks()
    refer = ["Refer-To: <sip:x@example?Replaces=1%3Bto-tag%3D2>", "Referred-By: <sip:1001@pbx.example>"]
    world.carrier.sends("REFER", headers=refer)
    assert world.pbx.gets("REFER").get("refer-to") == refer[0].partition(": ")[2]
    world.pbx.sends("202 REFER")
    world.carrier.gets("202 REFER")
    asks(world.pbx, world.carrier, "NOTIFY", headers=["Event: refer", "Subscription-State: terminated"])
    world.hangs_up()


def test_dtmf_both_ways_for_hours(world: World) -> None:
    """A long call with traffic inside keeps its one line."""
    world.talks()
    for _ in range(20):
        asks(world.pbx, world.carrier, "INFO")
        asks(world.carrier, world.pbx, "INFO")
        world.after(600)
        world.holds(outbound=1)
    world.hangs_up()
