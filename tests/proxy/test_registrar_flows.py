"""The way back to a phone is the flow that its REGISTER came by (RFC 5626): behind a NAT, over connections that come
and go, over a restart of the gate."""

from __future__ import annotations

import pytest
from tests.proxy.agent import SDP
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.phones import Phone, contacts_of, phone
from tests.proxy.test_registrar_calls import OTHER_DID, answered, hung_up, invited, refused

from callgate.proxy.peers import Key

INSTANCE = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>"'
OUTBOUND = ("Supported: path, outbound",)


@pytest.fixture
def home(ladder: Ladder) -> World:
    return ladder(registered=True, listens=("TCP",))


def flow(one: Phone, number: int, contact: str = "") -> str:
    """A contact of RFC 5626."""
    return f"{contact or one.contact};reg-id={number};{INSTANCE}"


def reasons(world: World) -> list[object]:
    return [note.fields.get("reason", note.event) for note in world.notes]


# -- NAT ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", ["UDP", "TCP"])
@pytest.mark.parametrize("inside", ["10.0.0.7", "198.51.100.200"])
def test_a_phone_behind_a_nat(home: World, over: str, inside: str) -> None:
    """Everything goes to where the REGISTER came from, in the dialog too; the address that the phone believes in,
    private or not, is the Request-URI."""
    one = phone(home, over=over, nat=inside)
    one.registers()
    (invite,) = invited(home, one)
    assert invite.uri == one.contact[1:-1]
    answered(home, one)
    home.carrier.sends("re-INVITE")
    home.carrier.gets("100")
    one.gets("re-INVITE")
    one.sends("200")
    home.carrier.gets("200")
    home.carrier.sends("ACK")
    one.gets("ACK")
    home.carrier.sends("BYE")
    one.gets("BYE")
    one.sends("200 BYE")
    home.carrier.gets("200 BYE")
    home.holds_nothing()


def test_the_nat_gives_another_port(home: World) -> None:
    """The next REGISTER says where the phone is now; the contact is the same."""
    one = phone(home, nat="10.0.0.7")
    one.registers()
    one.moves(33333)
    one.registers()
    assert len(one.listed()) == 1
    invited(home, one)
    assert home.core.registrar.bindings.of_flow(one.flow)
    refused(home, "486", one)


@pytest.mark.parametrize("nat", ["", "10.0.0.7"])
@pytest.mark.parametrize("host", ["", "192.0.2.99"])
def test_a_phone_that_moves_in_a_call(home: World, nat: str, host: str) -> None:
    """Its next request in the dialog shows where it is, and from then on all goes there."""
    one = phone(home, nat=nat)
    one.registers()
    invited(home, one)
    answered(home, one)
    one.moves(33333, host=host)
    if not nat:
        one.contact = f"<sip:phone@{one.flow.host}:33333>"
    one.sends("UPDATE")
    home.carrier.gets("UPDATE")
    home.carrier.sends("200 UPDATE")
    one.gets("200 UPDATE")
    home.carrier.sends("BYE")
    one.gets("BYE")
    one.sends("200 BYE")
    home.carrier.gets("200 BYE")
    home.holds_nothing()


def test_a_large_call_goes_the_same_way(home: World) -> None:
    """RFC 3261 §18.1.1 asks for a stream above 1300 octets; a phone behind a NAT has none but its own flow."""
    one = phone(home, nat="10.0.0.7")
    one.registers()
    (invite,) = invited(home, one, body=SDP + b"a=x:" + b"y" * 2000 + b"\r\n")
    assert invite.via.startswith("SIP/2.0/UDP")
    refused(home, "486", one)


# -- connections -------------------------------------------------------------------------------------------


def test_over_its_connection(home: World) -> None:
    one = phone(home, over="TCP")
    one.registers()
    (invite,) = invited(home, one)
    assert invite.via.startswith("SIP/2.0/TCP")
    answered(home, one)
    hung_up(home, one)


def test_a_connection_that_has_ended(home: World) -> None:
    """A phone behind a NAT can't be reached until it connects again; said once, each time."""
    one = phone(home, over="TCP", nat="10.0.0.7")
    one.registers()
    one.hangs()
    one.hangs()
    home.carrier.sends("INVITE")
    home.carrier.gets("480")
    home.carrier.sends("ACK")
    assert len(one.listed()) == 1  # it is bound all the same
    one.moves(44444, connection=99)
    one.registers()
    invited(home, one)
    refused(home, "486", one)
    assert reasons(home) == ["registered", "its connection has ended", "registered"]


def test_the_address_of_the_contact_is_tried_once(home: World) -> None:
    """One that is not behind a NAT listens there; where nobody takes a connection it is left alone from then on."""
    one = phone(home, over="TCP")
    one.registers()
    one.hangs()
    (invite,) = invited(home, one)
    home.unreachable(invite)
    home.carrier.gets("503")
    home.carrier.sends("ACK")
    home.carrier.sends("INVITE")
    home.carrier.gets("480")
    home.carrier.sends("ACK")
    assert reasons(home) == ["registered", "it can't be reached"]


@pytest.mark.parametrize(
    "contact",
    [
        "<sip:me@198.51.100.99:5062;transport=tcp>",
        "<sip:me@phone.example;transport=tcp>",
        "<sip:me@192.0.2.70:5062>",
    ],
)
def test_nobody_else_is_connected_to(home: World, contact: str) -> None:
    """A contact can't have the gate open connections to third parties."""
    one = phone(home, over="TCP")
    one.registers(contact)
    one.hangs()
    home.carrier.sends("INVITE")
    home.carrier.gets("480")
    home.carrier.sends("ACK")


# -- RFC 5626 ----------------------------------------------------------------------------------------------


def test_an_outbound_registration(home: World) -> None:
    """§6: Require: outbound says that it was understood; Flow-Timer (§5.4) how often to ping."""
    one = phone(home, over="TCP")
    answer = one.registers(flow(one, 1), headers=OUTBOUND)
    assert answer.get("require") == "outbound"
    assert answer.get("flow-timer") == "120"
    assert contacts_of(answer) == {flow(one, 1): 3600}
    assert not one.registers("").has("require")


def test_a_client_that_does_not_say_outbound(home: World) -> None:
    """§6: without the tag, or without an instance, `reg-id` means nothing."""
    one = phone(home)
    answer = one.registers(flow(one, 1), headers=["Supported: path"])
    assert not answer.has("require")
    assert not answer.has("flow-timer")
    one.registers(f"{one.contact};reg-id=1", headers=OUTBOUND)
    assert len(one.listed()) == 1


def test_a_device_that_comes_back(home: World) -> None:
    """§6: the same instance and reg-id is the same binding, whatever its contact and address are now."""
    one = phone(home, over="TCP")
    one.registers(flow(one, 1, "<sip:me@192.0.2.70:1111;transport=tcp;ob>"), headers=OUTBOUND)
    one.hangs()
    one.moves(44444, connection=99)
    new = flow(one, 1, "<sip:me@192.0.2.70:2222;transport=tcp;ob>")
    one.registers(new, headers=OUTBOUND, call_id="rebooted@example", cseq=1)
    assert list(one.listed()) == [new]
    invited(home, one)
    refused(home, "486", one)


def two_flows(home: World) -> tuple[Phone, Phone]:
    """One device with two connections; the second one is the newer."""
    first, second = phone(home, "first", over="TCP"), phone(home, "second", "192.0.2.71", over="TCP")
    first.registers(flow(first, 1), headers=OUTBOUND)
    second.registers(flow(second, 2), headers=OUTBOUND, call_id="other@example")
    assert len(first.listed()) == 2
    return first, second


def test_two_flows_are_one_device(home: World) -> None:
    """§5.3: it rings once, over the newer one; its refusal counts."""
    first, second = two_flows(home)
    invited(home, second)
    refused(home, "486", second)
    first.gets_nothing()


@pytest.mark.parametrize("code", ["430", "408"])
def test_a_flow_that_failed(home: World, code: str) -> None:
    """§5.3: 430 and 408 lead to the other flow; what comes from there is the answer."""
    first, second = two_flows(home)
    invited(home, second)
    second.sends(code)
    second.gets("ACK")
    first.gets("INVITE")
    refused(home, "486", first)
    invited(home, *((first,) if code == "430" else (second,)))  # a flow that failed is not used again
    refused(home, "486", *((first,) if code == "430" else (second,)))


def test_a_flow_that_is_closed(home: World) -> None:
    first, second = two_flows(home)
    second.hangs()
    home.core.registrar.failed(home.core.registrar.bindings.of("acme", b"1001")[1])
    invited(home, first)
    refused(home, "486", first)


def test_a_flow_that_can_not_be_reached(home: World) -> None:
    first, second = two_flows(home)
    (invite,) = invited(home, second)
    home.unreachable(invite)
    first.gets("INVITE")
    answered(home, first)
    hung_up(home, first)


def test_a_silent_flow(home: World) -> None:
    """After `try_seconds` without any answer the device is tried over its other flow, while others go on ringing."""
    first, second = two_flows(home)
    invited(home, second)
    home.after(4.1)
    first.gets("INVITE")
    first.sends("180")
    home.carrier.gets("180")
    answered(home, first)
    second.sends("200", tag="late")  # it answers after all: the caller hears of both (§16.7 step 5)
    home.carrier.gets("200")
    home.carrier.sends("ACK", tag="late")
    second.gets("ACK")
    home.carrier.sends("BYE", tag="late")
    second.gets("BYE")
    second.sends("200 BYE")
    home.carrier.gets("200 BYE")
    hung_up(home, first)


def test_both_flows_silent(home: World) -> None:
    first, second = two_flows(home)
    invited(home, second)
    home.after(4.1)
    first.gets("INVITE")
    home.after(32.1)
    home.carrier.gets("408")
    home.carrier.sends("ACK")


def test_cancelled_while_a_flow_is_silent(home: World) -> None:
    """Nobody is tried any more."""
    first, second = two_flows(home)
    invited(home, second)
    home.carrier.sends("CANCEL")
    home.carrier.gets("200 CANCEL")
    home.after(3.9)
    second.sends("430")
    second.gets("ACK")
    first.gets_nothing()
    home.carrier.gets("487")
    home.carrier.sends("ACK")


def test_one_reg_id_at_a_time(home: World) -> None:
    """§4.2: two flows can't be the one that the REGISTER came by."""
    one = phone(home)
    one.registers(flow(one, 1), flow(one, 2, "<sip:x@192.0.2.70>"), headers=OUTBOUND, code=400)
    one.registers(flow(one, 1), flow(one, 2, "<sip:x@192.0.2.70>") + ";expires=0", headers=OUTBOUND)


@pytest.mark.parametrize(
    ("via", "path", "code"),
    [
        (True, "", 439),
        (True, "<sip:192.0.2.70;lr>", 439),
        (True, "<sip:192.0.2.70;lr;ob>", 200),
        (True, "<sip:192.0.2.71;lr>, <sip:192.0.2.70;lr;ob>", 200),
        (True, "<sip:192.0.2.71;lr;ob>, <sip:192.0.2.70;lr>", 439),
        (False, "", 200),
    ],
)
def test_the_first_hop_must_keep_flows(home: World, via: bool, path: str, code: int) -> None:
    """§6: 439 where it does not; Flow-Timer only where that hop is the gate."""
    one = phone(home)
    vias = ["Via: SIP/2.0/UDP 10.0.0.7;branch=z9hG4bKx"] if via else []
    headers = [*OUTBOUND, *([f"Path: {path}"] if path else [])]
    answer = one.registers(flow(one, 1), headers=headers, vias=vias, code=code)
    assert answer.has("require") == (code == 200)
    assert answer.has("flow-timer") == (code == 200 and not via)


def test_a_phone_that_learns_its_address(home: World) -> None:
    """As linphone does: it registers the address that the Via of the 200 told it, and leaves the first one standing.
    Both are bound (RFC 3261 §10.3), and it rings once: it is one instance."""
    one = phone(home, nat="10.0.0.7")
    one.registers(f"{one.contact};{INSTANCE}")
    one.registers(f"<sip:me@192.0.2.70:5062>;{INSTANCE}")
    assert len(one.listed()) == 2
    (invite,) = invited(home, one)
    assert invite.uri == "sip:me@192.0.2.70:5062"
    refused(home, "486", one)


# -- keep-alives -------------------------------------------------------------------------------------------


def stun(data: bytes, one: Phone) -> bytes:
    """What comes back."""
    world = one.world
    world.core.receive(data, one.flow, world.now)
    sent = [command.data for command in world.core.out]  # type: ignore[union-attr]
    world.core.out.clear()
    return b"".join(sent)


REQUEST = bytes.fromhex("00010000 2112a442 0102030405060708090a0b0c")


def test_a_stun_keepalive(home: World) -> None:
    """§8: XOR-MAPPED-ADDRESS of a phone that has registered over UDP; the example of RFC 5769 in form."""
    one = phone(home, host="192.0.2.70", port=32853)
    assert stun(REQUEST, one) == b""  # nothing for those who have not registered
    one.registers()
    answer = bytes.fromhex("0101000c 2112a442 0102030405060708090a0b0c 00200008 0001 a147 e112a604")
    assert stun(REQUEST, one) == answer
    assert stun(
        bytes.fromhex("0001000c2112a442") + REQUEST[8:] + bytes.fromhex("802200085445535431323334"), one
    )
    home.after(3601.0)
    assert stun(REQUEST, one) == b""


@pytest.mark.parametrize(
    "data",
    [
        REQUEST[:19],
        REQUEST + b"\0\0\0\0",
        b"\0\2" + REQUEST[2:],
        b"\1\1" + REQUEST[2:],
        REQUEST[:4] + b"abcd" + REQUEST[8:],
        bytes.fromhex("000100082112a442") + REQUEST[8:] + bytes.fromhex("0006000474657374"),
        bytes.fromhex("000100042112a442") + REQUEST[8:] + bytes.fromhex("8022ffff"),
    ],
    ids=["short", "long", "another kind", "a response", "no cookie", "with a user", "a lying length"],
)
def test_no_stun(home: World, data: bytes) -> None:
    one = phone(home)
    one.registers()
    answer = stun(data, one)
    assert answer == b"" or len(answer) == 32
    assert (answer != b"") == data.endswith(b"\xff\xff")


# -- restart -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nat", ["", "10.0.0.7"])
def test_a_restart(home: World, nat: str) -> None:
    """A phone on UDP is reached as before; what is left of its time goes on, by the wall clock."""
    one = phone(home, nat=nat)
    one.registers(f"{one.contact};q=0.5", expires=1000)
    home.after(300.0)
    home.restarts()
    assert one.listed() == {f"{one.contact};q=0.5": 700}
    assert home.gauge("registrations") == 1
    invited(home, one)
    answered(home, one)
    hung_up(home, one)
    home.after(701.0)
    assert one.listed() == {}


def test_what_expired_meanwhile(home: World) -> None:
    one = phone(home)
    one.registers(expires=100)
    kept = dict(home.kept)
    home.after(101.0)
    home.kept = kept
    home.restarts()
    assert one.listed() == {}


def test_its_order_is_kept(home: World) -> None:
    """§10.3 step 7 holds over a restart: a replayed REGISTER changes nothing."""
    one = phone(home)
    one.registers(cseq=7)
    home.restarts()
    one.registers(cseq=7, expires=0, code=500)
    one.registers(cseq=8, expires=0)
    assert one.listed() == {}


def test_a_stream_is_gone_with_the_old_gate(home: World) -> None:
    """Its connection ended with the process: its contact's own address is tried, if it is the peer's."""
    one, behind = phone(home, over="TCP"), phone(home, "behind", "192.0.2.71", over="TCP", nat="10.0.0.8")
    one.registers()
    behind.registers()
    home.restarts()
    assert len(one.listed()) == 2
    invited(home, one)
    refused(home, "486", one)


def test_outbound_flows_after_a_restart(home: World) -> None:
    one = phone(home)
    one.registers(flow(one, 1), headers=OUTBOUND)
    home.restarts()
    new = flow(one, 1, "<sip:me@192.0.2.70:2222;ob>")
    assert list(contacts_of(one.registers(new, headers=OUTBOUND))) == [new]


def test_rows_that_fit_no_more(home: World) -> None:
    """The config has changed, the file was tampered with: what makes no sense is left out, the rest is taken."""
    one = phone(home)
    one.registers()
    ((row,),) = home.kept.values()
    home.kept.clear()
    home.restarts()
    registrar = home.core.registrar
    for broken in (
        row._replace(key="gone"),
        row._replace(listener="UDP 192.0.2.1:5060"),
        row._replace(contact=b"rubbish"),
        row._replace(contact=b"<sip:\xff>"),
        row._replace(path=b"<sip:192.0.2.99>"),
        row._replace(host="rubbish"),
        row._replace(port=-1),
        row._replace(expires_at=home.now - 1),
        row._replace(expires_at=float("nan")),
    ):
        assert not registrar.restore(broken, home.now), broken
    home.key.registered = False
    assert not registrar.restore(row, home.now), "its PBX has an address now"
    home.key.registered = True
    other = Key("other", home.trunk, home.key.dial)
    home.directory.numbers.add(OTHER_DID, OTHER_DID, other)
    assert not registrar.restore(row._replace(user=OTHER_DID.encode()), home.now), (
        "the number is another's now"
    )
    assert registrar.restore(row._replace(expires_at=1e300), home.now)
    assert one.listed() == {one.contact: 3600}  # no longer than anybody gets
