"""Gateways that are not there, do not listen or do not read; connections that are lost. The next one is tried at
once, a call never waits out 32 seconds for what is known already, and a lost connection does not end a call."""

from __future__ import annotations

import fcntl
import re
import signal
import socket
import sys
import termios

import pytest
from tests.e2e.gate import Gate, free_port, until
from tests.e2e.net import DID, NUMBER, UNLIMITED, Net, uri
from tests.e2e.phone import Leg, Message, Server, Stream, Udp, establish, request_and_answer, settle

AT_ONCE = 10.0
"""Seconds: far below the 32 of Timer B, and far more than anything here takes."""


def refused(net: Net, gate: Gate, pbx: Udp, code: int) -> Leg:
    """A call that ends with that code without anybody having answered it; nothing of it is left over."""
    leg = Leg.call(pbx, gate.address, NUMBER)
    answer = pbx.final("INVITE", leg.call_id, AT_ONCE)
    assert answer.code == code
    assert not answer.get("retry-after")
    leg.ack(answer)
    line = gate.line("call", call_id=leg.call_id)
    assert (line["outcome"], line["verdict"], line["final_code"]) == ("failed", "passed", code)
    gate.settle("calls_active", 0.0)
    return leg


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_nobody_at_the_only_gateway(net: Net, transport: str) -> None:
    """ICMP port unreachable, connection refused: RFC 3261 §16.9, as if it had answered 503; at once."""
    pbx = net.pbx()
    nobody = (net.host(3), free_port(net.host(3)))
    gate = net.gate(pbx, uri(nobody, transport)).run()
    for _ in range(3):
        refused(net, gate, pbx, 503)
    gate.settle("trunk_up", 0.0)


def test_nobody_at_the_only_gateway_over_ipv6(net: Net) -> None:
    pbx = net.add(Udp("::1"))
    gate = Gate(
        net.folder,
        "::1",
        trunks={"carrier": {"gateways": [uri(("::1", free_port("::1")))]}},
        keys={"acme": {"sources": ["::1/128"], "pbx": pbx.uri, "numbers": [DID], "limits": UNLIMITED}},
    )
    net.add(gate).run()
    refused(net, gate, pbx, 503)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_nobody_at_the_first_of_two_gateways(net: Net, transport: str) -> None:
    """The next one has the call at once: `try_seconds` is for those that are silent."""
    pbx, carrier = net.pbx(), net.carrier()
    nobody = uri((net.host(4), free_port(net.host(4))), transport.replace("udp", ""))
    gate = net.gate(pbx, nobody, carrier, trunk={"try_seconds": 32}).run()
    for attempts in (2, 2, 2, 1):  # after three in a row it is not tried any more
        leg = Leg.call(pbx, gate.address, NUMBER)
        into = Leg.answering(carrier, carrier.expect("INVITE", call_id=leg.call_id, within=AT_ONCE))
        into.answer(200)
        leg.ack(pbx.expect(200, "INVITE", leg.call_id))
        request_and_answer(leg, into, "BYE")
        line = gate.line("call", call_id=leg.call_id)
        assert (line["attempts"], line["gateway"], line["outcome"]) == (attempts, carrier.uri, "answered")
    gate.settle("trunk_up", 0.0, gateway=nobody)
    gate.settle("trunk_up", 1.0, gateway=carrier.uri)


def test_nobody_at_the_pbx(net: Net) -> None:
    """An inbound call for a PBX that is down: the carrier hears it at once."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    pbx.close()
    leg = Leg.call(carrier, gate.address, DID)
    answer = carrier.final("INVITE", leg.call_id, AT_ONCE)
    assert answer.code == 503
    leg.ack(answer)
    assert gate.line("call", call_id=leg.call_id)["direction"] == "inbound"
    gate.settle("calls_active", 0.0)


def test_an_answer_to_a_closed_port_hurts_nobody(net: Net) -> None:
    """ICMP for our response (RFC 3261 §16.9: dropped): the socket that it came to goes on for all others."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    for _ in range(3):
        gone = net.udp(2)
        Leg.call(gone, gate.address, "0990123456")
        gone.close()
        out, into = establish(pbx, gate.address, NUMBER, carrier)
        request_and_answer(out, into, "BYE")


def test_a_gateway_that_accepts_and_says_nothing_is_left(net: Net) -> None:
    pbx, carrier, deaf = net.pbx(), net.carrier(), net.server(4)
    gate = net.gate(pbx, deaf, carrier, trunk={"try_seconds": 1}).run()
    leg = Leg.call(pbx, gate.address, NUMBER)
    into = Leg.answering(carrier, carrier.expect("INVITE", call_id=leg.call_id, within=AT_ONCE))
    into.answer(486)
    leg.ack(pbx.expect(486, "INVITE", leg.call_id))
    assert gate.line("call", call_id=leg.call_id)["attempts"] == 2


def test_no_invite_is_written_behind_bytes_that_were_not_sent(net: Net) -> None:
    """It would arrive at nobody knows what time, long after its token came back. The gateway does not read; so all
    that its kernel has not taken is unsent, and no INVITE may begin there."""
    pbx = net.pbx()
    trunk = net.add(Server(net.host(3), receive_buffer=2048))
    gate = net.gate(pbx, trunk).run()
    calls = [Leg.call(pbx, gate.address, NUMBER) for _ in range(40)]
    for leg in calls:
        pbx.expect(100, call_id=leg.call_id)
    connection = net.add(trunk.accept())
    settle(pbx, gate)
    sent = until(lambda: _octets_to_read(connection), "the kernel has taken the first INVITE")
    # Now the gate dies, and its kernel goes on sending what it holds.
    gate.signal(signal.SIGKILL)
    gate.wait()
    written = connection.read_to_end()
    begins = [found.start() for found in re.finditer(b"INVITE sip:", written)]
    assert 1 < len(begins) < len(calls), (
        "the second call found the connection there, the last ones wait in the gate"
    )
    assert begins[-1] <= sent < len(written)


def _octets_to_read(stream: Stream) -> int:
    return int.from_bytes(fcntl.ioctl(stream.socket, termios.FIONREAD, bytes(4)), sys.byteorder)


def stalled(net: Net) -> tuple[Gate, Udp, Stream, Leg, Leg]:
    """A TCP gateway that reads nothing, a first call whose INVITE is too much for its kernel, and a second call that
    waits behind that."""
    pbx = net.pbx()
    trunk = net.add(Server(net.host(3), receive_buffer=2048))
    gate = net.gate(pbx, trunk).run()
    first = Leg.call(pbx, gate.address, NUMBER, body=b"a" * 60_000)
    pbx.expect(100, call_id=first.call_id)
    connection = net.add(trunk.accept())
    second = Leg.call(pbx, gate.address, NUMBER)
    pbx.expect(100, call_id=second.call_id)
    return gate, pbx, connection, first, second


def test_a_gateway_that_reads_again_gets_the_call_that_waited(net: Net) -> None:
    gate, pbx, connection, first, second = stalled(net)
    for leg in (first, second):
        into = Leg.answering(connection, connection.expect("INVITE", call_id=leg.call_id))
        into.answer(486)
        leg.ack(pbx.expect(486, "INVITE", leg.call_id))
    gate.settle("calls_active", 0.0)


def test_a_call_that_waited_goes_when_the_connection_is_lost(net: Net) -> None:
    """What was never sent is known not to have arrived: at once the answer that a gateway out of reach gives."""
    _, pbx, connection, _, second = stalled(net)
    connection.close()
    answer = pbx.final("INVITE", second.call_id, AT_ONCE)
    assert answer.code == 503
    second.ack(answer)


# -- connections that are lost in the middle of a call -----------------------------------------------------


class Tcp:
    """A call that is up, TCP on both sides, the PBX listening too."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.pbx_server, self.trunk_server = net.server(2), net.server(3)
        self.gate = net.gate(self.pbx_server, self.trunk_server).run()
        self.pbx = net.stream(self.gate, 2)
        self.out = Leg.call(self.pbx, self.gate.address, NUMBER, contact=self.pbx_server.uri)
        self.trunk = net.add(self.trunk_server.accept())
        self.into = Leg.answering(self.trunk, self.trunk.expect("INVITE"))
        self.into.contact = self.trunk_server.uri
        self.into.answer(200)
        self.out.ack(self.pbx.expect(200, "INVITE"))
        self.trunk.expect("ACK")

    def ended(self, by: str) -> None:
        line = self.gate.line("call", call_id=self.out.call_id)
        assert (line["outcome"], line["ended_by"]) == ("answered", by)
        self.gate.settle("calls_active", 0.0)


@pytest.fixture
def tcp(net: Net) -> Tcp:
    return Tcp(net)


def drop(stream: Stream, how: str) -> None:
    if how == "reset":
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    stream.close()


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_the_pbx_hangs_up_over_a_new_connection(tcp: Tcp, how: str) -> None:
    drop(tcp.pbx, how)
    tcp.out.on(tcp.net.stream(tcp.gate, 2))
    request_and_answer(tcp.out, tcp.into, "BYE")
    tcp.ended("caller")


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_the_carrier_hangs_up_over_a_new_connection(tcp: Tcp, how: str) -> None:
    drop(tcp.trunk, how)
    tcp.into.on(tcp.net.stream(tcp.gate, 3))
    request_and_answer(tcp.into, tcp.out, "BYE")
    tcp.ended("callee")


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_the_gate_connects_anew_to_the_carrier(tcp: Tcp, how: str) -> None:
    drop(tcp.trunk, how)
    tcp.out.send("BYE")
    trunk = tcp.net.add(tcp.trunk_server.accept())
    tcp.into.on(trunk).answer(200, trunk.expect("BYE"))
    tcp.pbx.expect(200, "BYE")
    tcp.ended("caller")


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_the_gate_connects_anew_to_the_pbx(tcp: Tcp, how: str) -> None:
    """To the address in its Contact: the connection that it opened itself is gone."""
    drop(tcp.pbx, how)
    tcp.into.send("BYE")
    pbx = tcp.net.add(tcp.pbx_server.accept())
    tcp.out.on(pbx).answer(200, pbx.expect("BYE"))
    tcp.trunk.expect(200, "BYE")
    tcp.ended("callee")


def test_an_answer_whose_connection_is_gone(tcp: Tcp) -> None:
    """RFC 3261 §18.2.2: then it goes to the address and port of the Via. Here the PBX gives up its connection between
    its BYE and the answer to it, and listens at the port that its Via names."""
    bye = Message(tcp.out.request("BYE"))
    port = f"{tcp.pbx.address[0]}:{tcp.pbx.address[1]};branch"
    named = f"{tcp.pbx_server.address[0]}:{tcp.pbx_server.address[1]};branch"
    assert port in bye.get("via")
    tcp.pbx.send(bye.data.replace(port.encode(), named.encode()))
    request = tcp.trunk.expect("BYE")
    tcp.pbx.close()
    tcp.into.answer(200, request)
    pbx = tcp.net.add(tcp.pbx_server.accept())
    assert pbx.expect(200, "BYE").call_id == tcp.out.call_id
    tcp.ended("caller")
