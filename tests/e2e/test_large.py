"""Requests of more than 1300 octets (RFC 3261 §18.1.1): over TCP to a carrier that takes it, as datagrams to one that
does not; never lost."""

from __future__ import annotations

import pytest
from tests.e2e.net import DID, NUMBER, Net
from tests.e2e.phone import SDP, Leg, Message, establish, request_and_answer

LARGE = SDP + b"a=candidate:1 1 UDP 1 192.0.2.1 4000 typ host\r\n" * 40


def transport(message: Message) -> str:
    return message.get("via").split()[0].rpartition("/")[2]


def test_over_tcp(net: Net) -> None:
    """One INVITE on a connection of its own, its answers back on it; the small requests that follow need none."""
    pbx, carrier = net.pbx(), net.carrier()
    server = net.server(3, carrier.address[1])
    gate = net.gate(pbx, carrier).run()
    leg = Leg.call(pbx, gate.address, NUMBER, body=LARGE)
    stream = net.add(server.accept())
    invite = stream.expect("INVITE", call_id=leg.call_id)
    assert transport(invite) == "TCP"
    assert invite.body == LARGE
    into = Leg.answering(stream, invite)
    into.contact = carrier.uri
    into.answer(200)
    leg.ack(pbx.expect(200, "INVITE", leg.call_id))
    assert transport(carrier.expect("ACK", call_id=leg.call_id)) == "UDP"
    request_and_answer(leg, into.on(carrier), "BYE")
    gate.settle("calls_active", 0.0)


def test_nobody_listens_on_tcp(net: Net) -> None:
    """Refused: the same call goes at once as a datagram; the next one goes so from the start."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    for _ in range(2):
        leg = Leg.call(pbx, gate.address, NUMBER, body=LARGE)
        invite = carrier.expect("INVITE", call_id=leg.call_id)
        assert transport(invite) == "UDP"
        Leg.answering(carrier, invite).answer(486)
        leg.ack(pbx.expect(486, "INVITE", leg.call_id))
        assert gate.line("call", call_id=leg.call_id)["outcome"] == "busy"


@pytest.mark.parametrize("size", [2_000, 60_000])
def test_a_call_in_comes_whole(net: Net, size: int) -> None:
    """The PBX has no TCP: whatever the size, it gets the datagram (RFC 3261 §18.1.1: up to 65,535 octets)."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    number = DID.replace("+81", "0")
    leg = Leg.call(carrier, gate.address, number, body=SDP + b"a=x:" + b"y" * size + b"\r\n")
    invite = pbx.expect("INVITE", call_id=leg.call_id)
    assert len(invite.body) > size
    Leg.answering(pbx, invite).answer(486)
    leg.ack(carrier.expect(486, "INVITE", leg.call_id))
    legs = establish(carrier, gate.address, number, pbx)
    request_and_answer(*legs, "BYE")
