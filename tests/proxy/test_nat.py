"""A side behind NAT: its dialog's requests go where its messages come from, not to the address that it has inside
(RFC 3581; proxy rules §1, §8). A side that is elsewhere by its own word is believed (RFC 3261 §12.2)."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World

from callgate.proxy.flow import Flow

PORT = 5062


def at(host: str, port: int = PORT) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def speaks(side: Agent, via: str, contact: str) -> None:
    """What a side calls itself in its Via (none: as it is) and in its Contact."""
    if via:
        side.sent_by = at(via)
    side.contact = f"<sip:{side.name}@{at(contact)}>"


def reached_at(world: World, side: Agent, other: Agent, host: str, port: int) -> None:
    """The other side's requests come to this address and to no other."""
    side.addresses = {(host, port)}
    for method in ("INFO", "UPDATE", "INFO"):
        other.sends(method)
        side.gets(method)
        side.sends(f"200 {method}")
        other.gets(f"200 {method}")


# Where its messages come from, what its Via says, what its Contact says; whether that Contact lies behind a NAT,
# by what a request shows and by what a response shows (which has no Via of its own).
CASES = {
    "behind NAT": ("192.0.2.10", "10.0.0.7", "10.0.0.7", True, True),
    "its Via was mended on the way": ("192.0.2.10", "", "10.0.0.7", True, True),
    "private, class B": ("192.0.2.10", "172.31.255.1", "172.31.255.1", True, True),
    "not private": ("192.0.2.10", "", "172.32.0.1", False, False),
    "private, class C": ("192.0.2.10", "192.168.1.2", "192.168.1.2", True, True),
    "carrier-grade NAT": ("192.0.2.10", "", "100.64.0.9", True, True),
    "link-local": ("192.0.2.10", "", "169.254.1.1", True, True),
    "loopback": ("192.0.2.10", "", "127.0.0.1", True, True),
    "a loopback of a private network": ("10.0.0.5", "", "127.0.0.1", True, True),
    "an SBC that answers elsewhere": ("192.0.2.10", "", "192.0.2.11", False, False),
    "an SBC with three addresses": ("192.0.2.10", "192.0.2.12", "192.0.2.11", False, False),
    "an SBC inside, known outside": ("10.0.0.5", "", "192.0.2.11", False, False),
    "public addresses inside a NAT": ("192.0.2.10", "192.0.2.11", "192.0.2.11", True, False),
    "a cluster in one network": ("10.0.0.5", "", "10.0.0.6", False, False),
    "a routed network": ("10.0.0.5", "", "192.168.1.6", False, False),
    "a NAT between private networks": ("10.0.0.5", "192.168.1.6", "192.168.1.6", True, False),
    "IPv6, unique local": ("2001:db8::10", "", "fd00::7", True, True),
    "IPv6, link-local": ("2001:db8::10", "fe80::7", "fe80::7", True, True),
    "IPv6, elsewhere": ("2001:db8::10", "", "2001:db8::11", False, False),
    "IPv6, another spelling": ("2001:db8::10", "2001:DB8:0::11", "2001:db8::11", True, False),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_where_its_requests_go(ladder: Ladder, case: str, caller: str) -> None:
    """The table, for a PBX that calls and for one that is called."""
    source, via, contact, by_request, by_response = CASES[case]
    world = ladder(pbx_host=source)
    speaks(world.pbx, via, contact)
    world.pbx.addresses.add((contact, PORT))  # for the ACK
    world.talks(world.pbx if caller == "pbx" else world.carrier)
    behind = by_request if caller == "pbx" else by_response
    where = (source, 5070) if behind else (contact, PORT)
    reached_at(world, world.pbx, world.carrier, *where)
    world.hangs_up(world.carrier)


def test_a_called_side_that_then_asks_something(ladder: Ladder) -> None:
    """Its Via shows what its response could not."""
    world = ladder(pbx_host="10.0.0.5")
    speaks(world.pbx, "192.168.1.6", "192.168.1.6")
    world.pbx.addresses.add(("192.168.1.6", PORT))
    world.talks(world.carrier)
    reached_at(world, world.pbx, world.carrier, "192.168.1.6", PORT)
    world.pbx.sends("INFO")
    world.carrier.gets("INFO")
    world.pbx.addresses.add(("10.0.0.5", 5070))
    world.carrier.sends("200 INFO")
    world.pbx.gets("200 INFO")
    world.pbx.sends("UPDATE")
    world.carrier.gets("UPDATE")
    world.carrier.sends("200 UPDATE")
    world.pbx.gets("200 UPDATE")
    reached_at(world, world.pbx, world.carrier, "10.0.0.5", 5070)
    world.hangs_up(world.carrier)


def test_a_carrier_behind_nat(world: World) -> None:
    """It holds for either side."""
    speaks(world.carrier, "10.1.1.1", "10.1.1.1")
    world.talks()
    reached_at(world, world.carrier, world.pbx, "198.51.100.1", 5080)
    world.hangs_up()


def test_without_rport_its_via_proves_nothing(world: World) -> None:
    """RFC 3581 §3: a client that doesn't ask for symmetric answers may well listen elsewhere."""
    speaks(world.pbx, "192.0.2.11", "192.0.2.11")
    world.pbx.addresses |= {("192.0.2.11", PORT), ("192.0.2.10", PORT)}
    invite = world.pbx.sends("INVITE", lost=True).data.replace(b";rport", b"")
    world.pbx.transmits(invite)
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    reached_at(world, world.pbx, world.carrier, "192.0.2.11", PORT)
    world.hangs_up(world.carrier)


def test_a_configured_address_is_reached(ladder: Ladder) -> None:
    """An address from the config is no guess: there requests go, private or not."""
    world = ladder(gateways=2, carrier_hosts=("10.0.0.5", "198.51.100.2"))
    first, second = world.gateways
    second.contact = first.contact
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    first.gets("INVITE")
    first.sends("503")
    first.gets("ACK")
    second.gets("INVITE")
    second.sends("200")
    world.pbx.gets("200")
    first.addresses.clear()
    second.addresses = {("10.0.0.5", 5080)}
    world.pbx.sends("ACK")
    second.gets("ACK")
    reached_at(world, second, world.pbx, "10.0.0.5", 5080)
    world.pbx.sends("BYE")
    second.gets("BYE")
    second.sends("200 BYE")
    world.pbx.gets("200 BYE")


@pytest.mark.parametrize("proxy", ["10.0.0.1:5060;lr", "10.0.0.1:5060"])
def test_a_proxy_that_is_behind_nat_itself(world: World, proxy: str) -> None:
    """The nearest hop is what counts: its Record-Route is as unreachable as a Contact."""
    world.pbx.behind = [f"<sip:{proxy}>"]
    speaks(world.pbx, "10.0.0.1", "10.0.0.7")
    world.talks()
    reached_at(world, world.pbx, world.carrier, "192.0.2.10", 5070)
    world.hangs_up(world.carrier)


def test_a_proxy_before_a_private_pbx(world: World) -> None:
    """With a proxy on the way that we reach, the Contact behind it is the proxy's business."""
    world.pbx.behind = ["<sip:192.0.2.11:5062;lr>"]
    world.pbx.contact = "<sip:pbx@10.0.0.7:5062>"
    world.pbx.addresses.add(("192.0.2.11", PORT))
    world.talks()
    reached_at(world, world.pbx, world.carrier, "192.0.2.11", PORT)
    world.hangs_up(world.carrier)


def test_a_reinvite_that_moves_into_a_nat_and_out(world: World) -> None:
    """§12.2.2: the new Contact is judged like the first."""
    world.talks()
    for contact, where in (("10.0.0.7", ("192.0.2.10", 5070)), ("192.0.2.11", ("192.0.2.11", PORT))):
        speaks(world.pbx, "", contact)
        world.pbx.addresses |= {("192.0.2.10", 5070), where}
        world.pbx.sends("re-INVITE")
        world.pbx.gets("100")
        world.carrier.gets("re-INVITE")
        world.carrier.sends("200 re-INVITE")
        world.pbx.gets("200 re-INVITE")
        world.pbx.sends("ACK")
        world.carrier.gets("ACK")
        reached_at(world, world.pbx, world.carrier, *where)
    world.hangs_up(world.carrier)


def test_a_request_to_a_target_that_we_have_not_heard_of_yet(world: World) -> None:
    """A datagram may overtake the 200 that makes its target known: what comes after that goes there all the same."""
    world.talks()
    world.pbx.contact = "<sip:pbx@192.0.2.11:5062>"
    world.pbx.sends("re-INVITE")
    world.pbx.gets("100")
    world.carrier.gets("re-INVITE")
    answer = world.carrier.sends("200 re-INVITE", lost=True)
    world.carrier.sends("INFO")
    assert world.pbx.gets("INFO").uri == "sip:pbx@192.0.2.11:5062"
    world.carrier.transmits(answer.data)
    world.pbx.gets("200 re-INVITE")
    world.pbx.sends("200 INFO")
    world.carrier.gets("200 INFO")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    reached_at(world, world.pbx, world.carrier, "192.0.2.11", PORT)
    world.hangs_up(world.carrier)


def test_what_the_gate_sends_itself_goes_there_too(ladder: Ladder) -> None:
    """The BYE at the end of the longest call: to the private target, by the way that its messages came."""
    world = ladder(max_call_seconds=100)
    speaks(world.pbx, "10.0.0.7", "10.0.0.7")
    world.talks()
    world.pbx.addresses = {("192.0.2.10", 5070)}
    world.after(100.1)
    assert world.pbx.gets("BYE").uri == "sip:pbx@10.0.0.7:5062"
    world.pbx.sends("200 BYE")
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE")


# -- another port in the middle of the call ----------------------------------------------------------------------


def nat(world: World, port: int, host: str = "") -> None:
    """The PBX's messages come from another port now; nobody listens at the old one."""
    old = world.pbx.flow
    world.pbx.flow = Flow(old.listener, host or old.host, port)
    world.pbx.addresses = {(world.pbx.flow.host, port)}


def asks(a: Agent, b: Agent, method: str = "INFO") -> None:
    a.sends(method)
    b.gets(method)
    b.sends(f"200 {method}")
    a.gets(f"200 {method}")


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("via", ["10.0.0.7", ""])
def test_a_nat_that_changes_its_port(world: World, caller: str, via: str) -> None:
    """A new request of the same dialog from the same host shows the new port: what follows goes there, again and
    again."""
    speaks(world.pbx, via, "10.0.0.7")
    world.talks(world.pbx if caller == "pbx" else world.carrier)
    for port in (40001, 40002):
        nat(world, port)
        asks(world.pbx, world.carrier)
        asks(world.carrier, world.pbx)
    world.hangs_up(world.carrier)


def test_a_contact_by_name(world: World) -> None:
    """A name is never looked up, so the flow is all there is: it follows where the Via shows a NAT."""
    world.pbx.sent_by, world.pbx.contact = "10.0.0.7:5062", "<sip:pbx@pbx.example>"
    world.talks()
    nat(world, 40001)
    asks(world.pbx, world.carrier)
    asks(world.carrier, world.pbx)
    world.hangs_up(world.carrier)


@pytest.mark.parametrize("contact", ["192.0.2.10:5070", "pbx.example"])
def test_who_is_not_behind_nat_may_send_from_any_port(world: World, contact: str) -> None:
    """Its Contact counts, and where that is a name, the way that led there at first."""
    world.pbx.contact = f"<sip:pbx@{contact}>"
    world.talks()
    old = world.pbx.flow
    nat(world, 40001)
    asks(world.pbx, world.carrier)
    world.pbx.addresses = {(old.host, old.port)}
    asks(world.carrier, world.pbx)
    world.hangs_up(world.carrier)


def sent_from(world: World, data: bytes, port: int) -> None:
    world.pbx.transmits(data, Flow(world.pbx.flow.listener, world.pbx.flow.host, port))


def test_an_old_request_from_another_port_moves_nothing(world: World) -> None:
    """Who has seen a request pass can send it again from elsewhere behind the same NAT: its CSeq is old."""
    speaks(world.pbx, "10.0.0.7", "10.0.0.7")
    world.talks()
    asks(world.pbx, world.carrier)
    old = next(t for t in reversed(world.pbx.legs[world.pbx.current].sent) if t.method == "INFO").data
    world.pbx.addresses.add(("192.0.2.10", 40001))
    sent_from(world, old.replace(b"branch=z9hG4bK-", b"branch=z9hG4bK-x"), 40001)
    world.carrier.gets("INFO")
    world.carrier.sends("500 INFO")
    world.pbx.gets("500 INFO")
    world.pbx.addresses.discard(("192.0.2.10", 40001))
    asks(world.carrier, world.pbx)
    world.hangs_up(world.carrier)


def test_an_ack_moves_nothing(world: World) -> None:
    """It has no number of its own, so that an old one can't be told from a new one."""
    speaks(world.pbx, "10.0.0.7", "10.0.0.7")
    world.talks()
    ack = world.pbx.legs[world.pbx.current].sent[-1].data
    sent_from(world, ack.replace(b"branch=z9hG4bK-", b"branch=z9hG4bK-x"), 40001)
    world.carrier.gets("ACK")
    asks(world.carrier, world.pbx)
    world.hangs_up(world.carrier)


@pytest.mark.parametrize("wrong", ["tag", "call-id"])
def test_another_dialog_from_another_port_moves_nothing(world: World, wrong: str) -> None:
    speaks(world.pbx, "10.0.0.7", "10.0.0.7")
    world.talks()
    data = world.pbx.sends("INFO", lost=True).data
    forged = (
        data.replace(b";tag=pbx-1", b";tag=pbx-9") if wrong == "tag" else data.replace(b"pbx-1@", b"pbx-9@")
    )
    world.pbx.addresses.add(("192.0.2.10", 40001))
    sent_from(world, forged, 40001)
    world.pbx.inbox.clear()  # 481
    world.pbx.addresses.discard(("192.0.2.10", 40001))
    asks(world.carrier, world.pbx)
    world.hangs_up(world.carrier)


def test_another_host_moves_nothing(ladder: Ladder) -> None:
    """Another gateway of the same trunk may speak in the dialog; it does not take it over."""
    world = ladder(gateways=2)
    speaks(world.carrier, "10.1.1.1", "10.1.1.1")
    world.talks()
    data = world.carrier.sends("INFO", lost=True).data
    world.carrier.addresses.add(("198.51.100.2", 5099))
    world.carrier.transmits(data, Flow(world.carrier.flow.listener, "198.51.100.2", 5099))
    world.pbx.gets("INFO")
    world.pbx.sends("200 INFO")
    world.carrier.gets("200 INFO")
    world.carrier.addresses.discard(("198.51.100.2", 5099))
    asks(world.pbx, world.carrier)
    world.hangs_up()


@pytest.mark.parametrize("contact", ["192.0.2.10:5070", "10.0.0.7:5062"])
def test_a_stream_that_was_opened_anew(ladder: Ladder, contact: str) -> None:
    """§18: in-dialog requests may come on another connection; from then on that is the way back."""
    world = ladder(pbx_over="TCP")
    world.pbx.contact = f"<sip:pbx@{contact};transport=tcp>"
    world.talks()
    asks(world.carrier, world.pbx)
    old = world.pbx.flow
    world.pbx.flow = Flow(old.listener, old.host, 40001, connection=4711)
    world.pbx.addresses = set()
    asks(world.pbx, world.carrier)
    asks(world.carrier, world.pbx)
    hop = next(iter(world.core.by_call_id.values())).caller.hop
    assert hop is not None
    host, _, port = contact.partition(":")
    assert hop.fallback == (host, int(port)), "where to go without the connection"
    world.hangs_up(world.carrier)
