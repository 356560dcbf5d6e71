"""The running program finds its trunk: a name server of our own on loopback that comes, goes and changes its mind;
gateways that answer OPTIONS or don't, and that ask for a pause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.e2e.gate import Gate, free_port, until
from tests.e2e.net import DID, NUMBER, Net
from tests.e2e.phone import Endpoint, Leg, Message, Udp, establish, request_and_answer
from tests.e2e.test_tls import Pki
from tests.net.dns_server import DnsServer

AT_ONCE = 10.0
"""Seconds: far below the 32 of Timer B, and far more than anything here takes."""
NAME = "sip:trunk.example"


@pytest.fixture
def dns(net: Net) -> Iterator[DnsServer]:
    with closing(DnsServer(net.host(5))) as server:
        server.ttl = 1
        yield server


def points(dns: DnsServer, *targets: tuple[str, int, int], service: str = "_sip._udp") -> None:
    """These are the SRV targets of the trunk: address, port, priority."""
    for n, (host, _, _) in enumerate(targets):
        dns.set("A", f"gw{n}.trunk.example", host)
    records = [f"{priority} 1 {port} gw{n}.trunk.example." for n, (_, port, priority) in enumerate(targets)]
    dns.set("SRV", f"{service}.trunk.example", *records)


def of(endpoint: Endpoint, priority: int = 0) -> tuple[str, int, int]:
    return (*endpoint.address, priority)


def gate_of(net: Net, dns: DnsServer, pbx: Udp, *, stale: float = 3600, try_seconds: float = 4) -> Gate:
    """A gate whose trunk is a name that this server knows."""
    section = {"servers": [dns.text], "timeout_ms": 300, "stale_seconds": stale}
    return net.gate(pbx, NAME, trunk={"try_seconds": try_seconds}, dns=section)


def refused(gate: Gate, pbx: Udp) -> Message:
    """A call that the gate refuses at once."""
    leg = Leg.call(pbx, gate.address, NUMBER)
    answer = pbx.final("INVITE", leg.call_id, AT_ONCE)
    leg.ack(answer)
    return answer


def busy(gate: Gate, pbx: Udp, carrier: Endpoint) -> None:
    """A call that this carrier answers."""
    leg = Leg.call(pbx, gate.address, NUMBER)
    invite = carrier.expect("INVITE", call_id=leg.call_id, within=AT_ONCE)
    assert invite.uri == f"sip:{NUMBER}@trunk.example"
    Leg.answering(carrier, invite).answer(486)
    leg.ack(pbx.expect(486, "INVITE", leg.call_id))


def taken_by(gate: Gate, pbx: Udp, *carriers: Udp) -> Udp:
    """Who of them gets a call now."""
    leg = Leg.call(pbx, gate.address, NUMBER)

    def found() -> Udp | None:
        for carrier in carriers:
            if any(m.method == "INVITE" and m.call_id == leg.call_id for m in carrier.arrived()):
                return carrier
        return None

    carrier = until(found, "a carrier has the call")
    Leg.answering(carrier, carrier.expect("INVITE", call_id=leg.call_id)).answer(486)
    leg.ack(pbx.expect(486, "INVITE", leg.call_id))
    return carrier


# -- names ------------------------------------------------------------------------------------------------------------


def test_srv_and_failover(net: Net, dns: DnsServer) -> None:
    """RFC 3263 §4.3: nobody at the first target, so the second has the call at once; the dialog stays there, and that
    target may call in."""
    pbx, carrier = net.pbx(), net.carrier()
    points(dns, (net.host(4), free_port(net.host(4)), 0), of(carrier, 10))
    gate = gate_of(net, dns, pbx, try_seconds=32).run()
    out, into = establish(pbx, gate.address, NUMBER, carrier)
    request_and_answer(out, into, "BYE")
    line = gate.line("call", call_id=out.call_id)
    assert (line["attempts"], line["gateway"], line["outcome"]) == (2, NAME, "answered")
    into, out = establish(carrier, gate.address, DID, pbx)
    request_and_answer(out, into, "BYE")


def test_the_gate_starts_without_dns(net: Net, dns: DnsServer) -> None:
    """And goes on asking; until then calls are refused at once, with the reason."""
    dns.mood = "silent"
    pbx, carrier = net.pbx(), net.carrier()
    points(dns, of(carrier))
    gate = gate_of(net, dns, pbx).run()
    answer = refused(gate, pbx)
    assert answer.code == 503
    assert "trunk no address of a gateway is known" in answer.get("warning")
    gate.line("alert.raised", rule="dns", severity="critical")
    gate.settle("trunk_up", 0.0)
    dns.mood = "well"
    gate.line("alert.resolved", rule="dns")
    busy(gate, pbx, carrier)
    gate.settle("trunk_up", 1.0)


def test_dns_goes_away(net: Net, dns: DnsServer) -> None:
    """TTL one second: the last answer serves on, and a person is told; when DNS is back that is over."""
    pbx, carrier = net.pbx(), net.carrier()
    points(dns, of(carrier))
    gate = gate_of(net, dns, pbx).run()
    busy(gate, pbx, carrier)
    dns.mood = "servfail"
    gate.line("alert.raised", rule="dns", severity="warning")
    busy(gate, pbx, carrier)
    dns.mood = "well"
    gate.line("alert.resolved", rule="dns")
    assert not gate.lines("alert.raised", severity="critical")


def test_stale_answers_come_to_an_end(net: Net, dns: DnsServer) -> None:
    pbx, carrier = net.pbx(), net.carrier()
    points(dns, of(carrier))
    gate = gate_of(net, dns, pbx, stale=0.5).run()
    busy(gate, pbx, carrier)
    dns.mood = "silent"
    gate.line("alert.raised", rule="dns", severity="critical")
    assert refused(gate, pbx).code == 503


def test_a_change_moves_calls(net: Net, dns: DnsServer) -> None:
    """Within its TTL; a call that is up stays where it is."""
    pbx, first, second = net.pbx(), net.carrier(), net.udp(4)
    points(dns, of(first))
    gate = gate_of(net, dns, pbx).run()
    out, into = establish(pbx, gate.address, NUMBER, first)
    points(dns, of(second))
    until(lambda: taken_by(gate, pbx, first, second) is second, "calls go to the new address")
    request_and_answer(out, into, "BYE")
    assert gate.line("call", call_id=out.call_id)["outcome"] == "answered"


def test_names_of_the_machine(net: Net) -> None:
    """`localhost` stands in the hosts file: no name server is needed, for a gateway nor for a PBX."""
    pbx, carrier = net.add(Udp("127.0.0.1")), net.add(Udp("127.0.0.1"))
    keys = {
        "acme": {
            "sources": ["127.0.0.2/32"],
            "pbx": f"sip:localhost:{pbx.address[1]}",
            "numbers": [DID],
            "limits": {"outbound_cps": None, "inbound_calls": None},
        }
    }
    trunks = {"carrier": {"gateways": [f"sip:localhost:{carrier.address[1]}"]}}
    nobody = f"127.0.0.1:{free_port('127.0.0.1')}"
    more = {"dns": {"servers": [nobody], "timeout_ms": 200}}
    gate = net.add(Gate(net.folder, net.host(1), trunks=trunks, keys=keys, **more)).run()
    out, into = establish(carrier, gate.address, DID, pbx)
    request_and_answer(out, into, "BYE")
    caller = net.add(Udp("127.0.0.2"))
    out, into = establish(caller, gate.address, NUMBER, carrier)
    request_and_answer(out, into, "BYE")


def test_over_tls_the_name_of_the_uri_is_proven(net: Net, dns: DnsServer) -> None:
    """RFC 5922 §7: not the target that an SRV record names, or whoever can forge DNS would be believed. The first one
    proves only that, and nothing of a call is said to it."""
    pki = Pki(net)
    target = pki.server(4, pki.authority.issue("target", "gw0.trunk.example"))
    carrier = pki.server(3, pki.authority.issue("named", "trunk.example"))
    points(dns, of(target), of(carrier, 10), service="_sips._tcp")
    pbx = net.pbx()
    section = {"servers": [dns.text], "timeout_ms": 300}
    gate = net.gate(pbx, "sips:trunk.example", trunk=pki.trunk(), tls=pki.section(), dns=section).run()
    leg = Leg.call(pbx, gate.address, NUMBER)
    line = net.add(carrier.accept())
    invite = line.expect("INVITE", call_id=leg.call_id)
    assert invite.uri == f"sip:{NUMBER}@trunk.example"
    Leg.answering(line, invite).answer(486)
    leg.ack(pbx.expect(486, "INVITE", leg.call_id))
    assert gate.line("call", call_id=leg.call_id)["attempts"] == 2
    gate.line("tls failed")


# -- health -----------------------------------------------------------------------------------------------------------

QUICK = {"health": {"interval_seconds": 0.5, "timeout_seconds": 0.5, "down_after": 2, "up_after": 2}}


def answers_options(carrier: Udp, code: int) -> int:
    """Answer all OPTIONS that have come; how many there were."""
    found = [message for message in carrier.arrived() if message.method == "OPTIONS" and not message.code]
    for message in found:
        carrier.inbox.remove(message)
        Leg.answering(carrier, message).answer(code, message)
    return len(found)


def test_options_bring_a_gateway_down_and_up(net: Net) -> None:
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, trunk=QUICK).run()

    def is_up() -> float:
        return gate.metrics().get("trunk_up", gateway=carrier.uri)

    until(lambda: answers_options(carrier, 200), "OPTIONS has come")
    until(lambda: (answers_options(carrier, 200), is_up() == 1.0)[1], "it is up")
    until(lambda: (answers_options(carrier, 503), is_up() == 0.0)[1], "two 503 bring it down")
    gate.line("alert.raised", rule="trunk-down", gateway=carrier.uri)
    until(lambda: (answers_options(carrier, 404), is_up() == 1.0)[1], "two answers bring it up")
    gate.line("alert.resolved", rule="trunk-down")
    until(lambda: is_up() == 0.0, "silence brings it down")
    gate.line("alert.raised", count=2, rule="trunk-down")
    carrier.inbox.clear()
    leg = Leg.call(pbx, gate.address, NUMBER)
    Leg.answering(carrier, carrier.expect("INVITE", call_id=leg.call_id, within=AT_ONCE)).answer(486)
    leg.ack(pbx.expect(486, "INVITE", leg.call_id))


def test_nobody_there_and_then_somebody(net: Net) -> None:
    """ICMP, three calls in a row: 503 at once, without an attempt; the gateway comes up, and its OPTIONS say so."""
    pbx = net.pbx()
    port = free_port(net.host(3))
    health = {"interval_seconds": 1, "timeout_seconds": 1, "down_after": 3, "up_after": 1}
    gate = net.gate(pbx, f"sip:{net.host(3)}:{port}", trunk={"health": health}).run()
    for _ in range(3):
        refused(gate, pbx)
    answer = refused(gate, pbx)
    assert answer.code == 503
    assert answer.get("x-callgate-verdict") == "rule=trunk"
    gate.settle("trunk_up", 0.0)
    carrier = net.udp(3, port)

    def up_again() -> bool:
        answers_options(carrier, 200)
        return gate.metrics().get("trunk_up") == 1.0

    until(up_again, "OPTIONS bring it up again")
    leg = Leg.call(pbx, gate.address, NUMBER)
    Leg.answering(carrier, carrier.expect("INVITE", call_id=leg.call_id, within=AT_ONCE)).answer(486)
    leg.ack(pbx.expect(486, "INVITE", leg.call_id))


def test_a_pause_that_the_carrier_asks_for(net: Net) -> None:
    """Retry-After: the second gateway has the calls until it is over."""
    pbx, first, second = net.pbx(), net.carrier(), net.udp(4)
    gate = net.gate(pbx, first, second).run()
    leg = Leg.call(pbx, gate.address, NUMBER)
    invite = first.expect("INVITE", call_id=leg.call_id)
    refusal = Leg.answering(first, invite)
    refusal.contact = f"{refusal.contact}>\r\nRetry-After: 2 (busy)\r\nX-None: <x"
    refusal.answer(503)
    Leg.answering(second, second.expect("INVITE", call_id=leg.call_id)).answer(486)
    leg.ack(pbx.expect(486, "INVITE", leg.call_id))
    assert taken_by(gate, pbx, first, second) is second
    until(lambda: taken_by(gate, pbx, first, second) is first, "the pause is over")
