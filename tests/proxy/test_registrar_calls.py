"""Calls in for a key whose PBX is `registered`: who rings, and by which Request-URI (RFC 3261 §16.5, §16.6)."""

from __future__ import annotations

import pytest
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import DID, World
from tests.proxy.phones import Phone, phone
from tests.proxy.text import Text

from callgate.proxy.directory import Directory
from callgate.proxy.peers import Numbers

OTHER_DID = "+815012345679"


@pytest.fixture
def home(ladder: Ladder) -> World:
    return ladder(registered=True)


def invited(world: World, *phones: Phone, **invite: object) -> list[Text]:
    """The carrier calls the number of the key, and these phones ring, no other."""
    world.carrier.sends("INVITE", **invite)  # type: ignore[arg-type]
    world.carrier.gets("100")
    return [one.gets("INVITE") for one in phones]


def answered(world: World, by: Phone) -> None:
    by.sends("200")
    world.carrier.gets("200")
    world.carrier.sends("ACK")
    by.gets("ACK")


def hung_up(world: World, by: Phone) -> None:
    by.sends("BYE")
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE")
    by.gets("200 BYE")
    world.holds_nothing()


def refused(world: World, code: str, *phones: Phone) -> None:
    """These phones refuse, and the carrier gets that code."""
    for one in phones:
        one.sends(code)
        one.gets("ACK")
    world.carrier.gets(code)
    world.carrier.sends("ACK")
    world.holds_nothing()


def test_a_registered_phone_rings(home: World) -> None:
    """The Contact is the Request-URI; the number asked for goes along in P-Called-Party-ID (RFC 7315 §4.2)."""
    one = phone(home)
    one.registers("<sip:me@192.0.2.70:5062;line=7>")
    (invite,) = invited(home, one)
    assert invite.uri == "sip:me@192.0.2.70:5062;line=7"
    assert invite.get("p-called-party-id") == f"<sip:{DID}@127.0.0.1:5060>"
    assert invite.get("to") == f"<sip:{DID}@127.0.0.1:5060>"
    answered(home, one)
    home.holds(inbound=1)
    hung_up(home, one)
    record = home.record()
    assert (record.direction, record.outcome, record.canonical) == ("inbound", "answered", DID)


def test_a_called_party_of_the_carrier_stays(home: World) -> None:
    one = phone(home)
    one.registers()
    (invite,) = invited(home, one, headers=[f"P-Called-Party-ID: <sip:{DID}@ims.example>"])
    assert invite.all("p-called-party-id") == [f"<sip:{DID}@ims.example>"]
    refused(home, "486", one)


def test_nobody_is_registered(home: World) -> None:
    """§16.5: an empty target set is 480; the record says why, and no line was claimed."""
    home.carrier.sends("INVITE")
    home.carrier.gets("480")
    home.carrier.sends("ACK")
    record = home.record()
    assert (record.final_code, record.outcome, record.ended_by) == (480, "no_answer", "gate")
    assert record.reason == "no phone is registered for this number"
    assert home.store.asked == 0


def test_a_phone_that_left_does_not_ring(home: World) -> None:
    one = phone(home)
    one.registers(expires=100)
    home.after(101.0)
    home.carrier.sends("INVITE")
    home.carrier.gets("480")
    home.carrier.sends("ACK")


def test_all_phones_ring_at_once(home: World) -> None:
    """Equal q: in parallel. Who answers first has the call; the others are cancelled."""
    one, two = phone(home, "one"), phone(home, "two", "192.0.2.71", user="1002")
    one.registers()
    two.registers()
    invited(home, one, two)
    for each in (one, two):
        each.sends("180")
        home.carrier.gets("180")
    two.sends("200")
    home.carrier.gets("200")
    one.gets("CANCEL")
    one.sends("200 CANCEL")
    one.sends("487")
    one.gets("ACK")
    home.carrier.sends("ACK", tag="two-callee")
    two.gets("ACK")
    hung_up(home, two)


def test_a_call_that_another_phone_has_taken_is_not_missed(home: World) -> None:
    """RFC 3326 §2: the CANCEL says so, also where it had to wait for a sign of life. A caller's own says what he
    said."""
    one, two = phone(home, "one"), phone(home, "two", host="192.0.2.71")
    three = phone(home, "three", host="192.0.2.72")
    for each in (one, two, three):
        each.registers()
    invited(home, one, two, three)
    two.sends("180")
    home.carrier.gets("180")
    one.sends("200")
    home.carrier.gets("200")
    assert two.gets("CANCEL").get("reason") == 'SIP;cause=200;text="Call completed elsewhere"'
    three.sends("180")
    assert three.gets("CANCEL").get("reason") == 'SIP;cause=200;text="Call completed elsewhere"'
    for each in (two, three):
        each.sends("200 CANCEL")
        each.sends("487 INVITE")
        each.gets("ACK")
    home.carrier.sends("ACK")
    one.gets("ACK")
    hung_up(home, one)
    invited(home, one, two, three)
    two.sends("180")
    home.carrier.gets("180")
    one.sends("180")
    home.carrier.gets("180")
    home.carrier.sends("CANCEL")
    home.carrier.gets("200 CANCEL")
    for each in (one, two):
        assert not each.gets("CANCEL").has("reason")
        each.sends("200 CANCEL")
        each.sends("487 INVITE")
        each.gets("ACK")
    home.after(0.1)
    home.carrier.gets("487")
    home.carrier.sends("ACK")


def test_by_falling_q(home: World) -> None:
    """§16.6: the next q after all of the last one have refused."""
    one, two = phone(home, "one"), phone(home, "two", "192.0.2.71")
    late = phone(home, "late", "192.0.2.72")
    one.registers(f"{one.contact};q=0.9")
    two.registers(f"{two.contact};q=0.9", call_id="x@example")
    late.registers(f"{late.contact};q=0.25", call_id="y@example")
    invited(home, one, two)
    one.sends("486")
    one.gets("ACK")
    late.gets_nothing()
    two.sends("480")
    two.gets("ACK")
    late.gets("INVITE")
    answered(home, late)
    hung_up(home, late)


def test_a_6xx_asks_nobody_else(home: World) -> None:
    one, late = phone(home, "one"), phone(home, "late", "192.0.2.72")
    one.registers()
    late.registers(f"{late.contact};q=0.1", call_id="y@example")
    invited(home, one)
    refused(home, "603", one)
    late.gets_nothing()


def test_whoever_has_the_number_itself(home: World) -> None:
    """The bindings of the very number, in any of its forms; others do not ring."""
    general, own = phone(home, "general"), phone(home, "own", "192.0.2.71")
    general.registers()
    own.registers(user="050-1234-5678")
    invited(home, own)
    refused(home, "486", own)
    general.gets_nothing()


def test_a_number_of_its_own_rings_for_that_only(home: World) -> None:
    home.directory.numbers.add(OTHER_DID, OTHER_DID, home.key)
    own, general = phone(home, "own"), phone(home, "general", "192.0.2.71")
    own.registers(user=DID)
    home.carrier.sends("INVITE", to=OTHER_DID)
    home.carrier.gets("480")
    home.carrier.sends("ACK")
    general.registers()
    invited(home, general, to=OTHER_DID)
    refused(home, "486", general)
    own.gets_nothing()


def test_numbers_that_change_with_a_reload(home: World) -> None:
    """Who has registered as what was nobody's number rings for that only, once it is one of the key's."""
    one = phone(home, user=OTHER_DID)
    one.registers()
    invited(home, one)
    refused(home, "486", one)
    numbers = Numbers()
    for number in (DID, OTHER_DID):
        numbers.add(number, number, home.key)
    home.directory = home.core.directory = Directory(home.listeners, [home.trunk], [home.key], numbers)
    home.carrier.sends("INVITE", to=DID)
    home.carrier.gets("480")
    home.carrier.sends("ACK")
    invited(home, one, to=OTHER_DID)
    refused(home, "486", one)


def test_a_secure_call_rings_secure_contacts_only(ladder: Ladder) -> None:
    """RFC 5630 §5.3: a sip contact is no place for a sips call, be it registered over TLS."""
    world = ladder(registered=True, carrier_over="TLS")
    plain, secure = phone(world, "plain", over="TLS"), phone(world, "secure", "192.0.2.71", over="TLS")
    plain.registers()
    uri = f"sips:{DID}@127.0.0.1:5061"
    world.carrier.sends("INVITE", uri=uri)
    world.carrier.gets("480")
    world.carrier.sends("ACK")
    secure.registers("<sips:me@192.0.2.71:5062>", user="1002")
    (invite,) = invited(world, secure, uri=uri)
    assert invite.uri == "sips:me@192.0.2.71:5062"
    refused(world, "486", secure)


def test_a_pbx_with_one_contact_for_all_numbers(home: World) -> None:
    """RFC 6140 §7.1.1: the number stands before the host of a `bnc` contact, whatever it has registered as."""
    home.directory.numbers.add(OTHER_DID, OTHER_DID, home.key)
    one = phone(home, user=DID)
    one.registers("<sip:192.0.2.70:5062;bnc;x=1>", headers=["Require: gin", "Proxy-Require: gin"])
    for number in (DID, OTHER_DID):
        (invite,) = invited(home, one, to=number)
        assert invite.uri == f"sip:{number}@192.0.2.70:5062;x=1"
        refused(home, "486", one)
    one.registers("<sip:me@192.0.2.70:5062;bnc>", code=400)


def test_contacts_that_are_too_many_do_not_all_ring(home: World) -> None:
    """A forked call has a bounded number of branches: of equal q the latest registered."""
    phones = [phone(home, f"p{n}", f"192.0.2.{70 + n}", user=f"10{n}") for n in range(18)]
    for one in phones:
        one.registers()
    invited(home, *phones[2:])
    refused(home, "486", *phones[2:])
    for one in phones[:2]:
        one.gets_nothing()


def test_what_a_request_uri_may_not_hold(home: World) -> None:
    """§16.6 step 2, §19.1.5: headers of a contact are listed, never honoured; `method` goes."""
    one = phone(home)
    written = "<sip:me@192.0.2.70:5062;method=INVITE;x=1?Route=%3Csip:192.0.2.99%3E&Subject=hi>"
    one.registers(written)
    (invite,) = invited(home, one)
    assert invite.uri == "sip:me@192.0.2.70:5062;x=1"
    assert not invite.has("route")
    assert not invite.has("subject")
    refused(home, "486", one)
    assert list(one.listed()) == [written]


def test_a_gruu_passes(home: World) -> None:
    """RFC 5627: a contact with `gr` is bound, listed and called as it is; a call for that `gr` rings that phone
    only."""
    one, two = phone(home, "one"), phone(home, "two", "192.0.2.71")
    one.registers("<sip:me@192.0.2.70:5062;gr=abc>")
    two.registers("<sip:me@192.0.2.71:5062;gr=def>", call_id="y@example")
    assert "<sip:me@192.0.2.70:5062;gr=abc>" in one.listed()
    (invite,) = invited(home, two, uri=f"sip:{DID}@127.0.0.1:5060;gr=def")
    assert invite.uri == "sip:me@192.0.2.71:5062;gr=def"
    refused(home, "486", two)
    one.gets_nothing()
    invited(home, one, two, uri=f"sip:{DID}@127.0.0.1:5060;gr=gone")
    refused(home, "486", one, two)


def test_a_message_goes_to_a_phone(home: World) -> None:
    """Requests outside a dialog that are no call: to the contact of the highest q, the latest of equals."""
    one, two = phone(home, "one"), phone(home, "two", "192.0.2.71", user="1002")
    home.carrier.sends("MESSAGE")
    home.carrier.gets("480 MESSAGE")
    one.registers()
    two.registers()
    home.carrier.sends("MESSAGE")
    assert two.gets("MESSAGE").uri == two.contact[1:-1]
    two.sends("200 MESSAGE")
    home.carrier.gets("200 MESSAGE")
    one.gets_nothing()


def test_a_path_is_the_route(home: World) -> None:
    """RFC 3327 §5.3, §5.4: kept, shown in the 200, put into Route towards the phone."""
    edge = phone(home, "edge")
    path = "<sip:edge@192.0.2.70:5062;lr>, <sip:192.0.2.99;lr>"
    edge.registers(headers=[f"Path: {path}"], code=420)
    answer = edge.registers("<sip:me@10.0.0.7>", headers=[f"Path: {path}", "Supported: path"])
    assert answer.get("path") == path
    (invite,) = invited(home, edge)
    assert invite.uri == "sip:me@10.0.0.7"
    assert invite.get("route") == path
    refused(home, "486", edge)
    home.carrier.sends("MESSAGE")
    assert edge.gets("MESSAGE").get("route") == path
    edge.sends("200 MESSAGE")
    home.carrier.gets("200 MESSAGE")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("<sip:192.0.2.99>", 400),
        ("sip:192.0.2.99;lr", 400),
        ("<tel:1>", 400),
        ("", 400),
        ("<sip:127.0.0.1:5060;lr>", 403),
        ("<sip:192.0.2.99;lr>, <sip:127.0.0.1;lr>", 403),
        (", ".join(["<sip:192.0.2.99;lr>"] * 200), 400),
    ],
)
def test_no_path(home: World, path: str, code: int) -> None:
    """What is no loose route, leads back here, or is longer than any."""
    one = phone(home)
    one.registers(headers=[f"Path: {path}", "Supported: path"], code=code)
    assert one.listed() == {}


def test_a_call_out_of_a_phone(home: World) -> None:
    """Registering changes nothing about who may call: the flow's address names the key."""
    one = phone(home)
    one.registers()
    home.talks(one)
    home.carrier.sends("BYE")
    one.gets("BYE")
    one.sends("200 BYE")
    home.carrier.gets("200 BYE")
    home.holds_nothing()
