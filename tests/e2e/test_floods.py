"""Floods of strangers through the running gate, while calls go on: none of the calls is lost, and the flood is counted.

The legitimate side repeats what is not answered, as every SIP endpoint on UDP does; nothing else helps it.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import certificates
from tests.certificates import Authority
from tests.e2e.gate import DEADLINE, Address, Gate, spawn, until
from tests.e2e.load import T1, Carrier, Pbx, run
from tests.e2e.net import NUMBER, Net
from tests.e2e.phone import Message, TlsStream, Udp, establish, request_and_answer
from tests.e2e.test_digest import calls, gate_of

FLOOD = Path(__file__).with_name("flood.py")
CALLS, RATE = 60, 20.0
T2 = 4.0
PATIENCE = 40.0
"""Seconds for all of them: a phone gives an INVITE up after 32 (RFC 3261 §17.1.1.2, timer B)."""
EACH, ALL, BURST = 20, 1000, 5.0
"""Messages a second that one stranger and all strangers may send by default, and the seconds' worth at once."""


class Patient(Pbx):
    """Repeats its INVITE until something comes back, and its BYE until that is answered (RFC 3261 §17.1)."""

    def __init__(self, endpoint: Udp, gate: Address) -> None:
        super().__init__(endpoint, gate, NUMBER, RATE, CALLS)
        self._open: dict[tuple[str, str], tuple[float, float, bytes]] = {}  # (call, method) → next copy
        self._to = gate

    def received(self, at: Udp, data: bytes, source: Address, stamp: float) -> None:
        message = Message(data)
        self._open.pop((message.call_id, message.method), None)
        super().received(at, data, source, stamp)
        if message.method == "INVITE" and 200 <= message.code < 300:
            again = self.legs[message.call_id]
            if (message.call_id, "BYE") not in self._open and message.call_id not in self.ended:
                self._keep(message.call_id, "BYE", again.request("BYE", cseq=again.cseq))

    def _keep(self, call: str, method: str, data: bytes) -> None:
        self._open[call, method] = (time.monotonic() + T1, T1, data)

    def tick(self, now: float) -> float:
        before = set(self.legs)
        due = super().tick(now)
        for call in self.legs.keys() - before:
            invite = self.legs[call].invite
            assert invite is not None
            self._keep(call, "INVITE", invite.data)
        for (call, method), (at, interval, data) in list(self._open.items()):
            if at <= now:
                self.endpoint.send(data, self._to)
                interval = 2 * interval if method == "INVITE" else min(2 * interval, T2)
                self._open[call, method] = (now + interval, interval, data)
        return min([due, *(at for at, _, _ in self._open.values())])


@contextlib.contextmanager
def flood(gate: Gate, sources: list[str], rate: int = 0) -> Iterator[None]:
    """Datagrams from these addresses, for as long as the block runs."""
    host, port = gate.address
    command = [sys.executable, str(FLOOD), host, str(port), "120", str(rate), *sources]
    process = spawn(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield
        assert process.poll() is None, process.communicate()[1]
    finally:
        process.kill()
        process.communicate()


def rejected(gate: Gate) -> dict[str, float]:
    return gate.metrics().by("rejected_messages_total", "reason")


def all_calls_pass(pbx: Patient, carrier: Carrier) -> None:
    run([pbx, carrier], lambda: pbx.over, lambda: repr(pbx), PATIENCE)
    assert {answer.code for answer in pbx.finals.values()} == {200}
    assert len(pbx.finals) == len(carrier.hung_up) == CALLS


@pytest.mark.parametrize("addresses", [1, 50, 3000])
def test_datagrams_of_strangers(net: Net, addresses: int) -> None:
    """As fast as this machine can send them: from one address, from fifty, from thousands as if they were forged."""
    carrier, phones = Carrier(net.carrier()), net.pbx()
    gate = net.gate(phones, carrier.endpoint).run()
    sources = [f"127.{net.number}.{64 + n // 200}.{1 + n % 200}" for n in range(addresses)]
    began = time.monotonic()
    with flood(gate, sources):
        until(lambda: rejected(gate).get("stranger flood", 0) > 1000, "the flood is felt", PATIENCE)
        pbx = Patient(phones, gate.address)
        all_calls_pass(pbx, carrier)
        counted = rejected(gate)
    # What was read of it is what strangers are allowed.
    read = sum(count for reason, count in counted.items() if reason != "stranger flood")
    assert read <= min(EACH * addresses, ALL) * (BURST + time.monotonic() - began)
    gate.settle("calls_active", 0.0)
    assert not gate.lines("internal error")


def test_a_stranger_at_the_address_of_the_flood_s_target(net: Net) -> None:
    """What comes from a known address is never counted as a stranger's, however much there is."""
    carrier, phones = net.carrier(), net.pbx()
    gate = net.gate(phones, carrier).run()
    for n in range(2000):
        phones.send(b"\xff" * 20, gate.address)
        if n % 200 == 199:
            time.sleep(0.01)
    out, into = establish(phones, gate.address, NUMBER, carrier)
    request_and_answer(out, into, "BYE")
    assert "stranger flood" not in rejected(gate)


def test_a_user_whom_nobody_knows_by_its_address(net: Net) -> None:
    """Once it has shown its password it is no stranger: its calls pass while strangers take all that strangers may."""
    carrier, phone = net.carrier(), net.udp(9)
    gate = gate_of(net, carrier).run()
    first, _, _ = calls(phone, gate, carrier)
    with flood(gate, [f"127.{net.number}.64.{1 + n}" for n in range(100)], rate=5000):
        until(lambda: rejected(gate).get("stranger flood", 0) > 5000, "the flood is felt")
        for _ in range(10):
            out, into, _ = calls(phone, gate, carrier)
            request_and_answer(out, into, "BYE")
    first.send("BYE")
    carrier.expect("BYE", call_id=first.call_id)


def test_connections_of_strangers(net: Net) -> None:
    """From fifty addresses, over TCP and TLS, with rubbish, half a handshake, keep-alives, nothing: calls over UDP, and
    over connections opened before and meanwhile, all pass."""
    authority = Authority(net.folder)
    authority.issue("gate", "gate.example")
    carrier, phones = Carrier(net.carrier()), net.pbx()
    section = {"certificate": "gate.crt", "private_key": "gate.key"}
    gate = net.gate(phones, carrier.endpoint, tls=section).run()
    before = net.stream(gate, 2)
    stop = threading.Event()
    storm = threading.Thread(target=_storm, args=(gate, net.number, stop), daemon=True)
    storm.start()
    try:
        pbx = Patient(phones, gate.address)
        all_calls_pass(pbx, carrier)
        context = certificates.client(authority.file)
        meanwhile = [net.stream(gate, 2), net.add(TlsStream.over(context, gate.tls, net.host(2)))]
        for stream in (before, *meanwhile):
            to = gate.tls if isinstance(stream, TlsStream) else gate.address
            out, into = establish(stream, to, NUMBER, carrier.endpoint)
            request_and_answer(out, into, "BYE")
    finally:
        stop.set()
        storm.join(DEADLINE)
    counted = rejected(gate)
    assert counted["stranger flood"] > 100
    assert "too many connections" not in counted
    assert not gate.lines("internal error")


def _storm(gate: Gate, number: int, stop: threading.Event) -> None:
    """Connections from fifty addresses, each opened anew when it ends, each saying one thing again and again."""
    words = (
        b"\xff" * 2000,
        b"\x16\x03\x01\x00\xa5\x01",
        b"\r\n\r\n" * 4000,
        b"",
        b"OPTIONS sip:x SIP/2.0\r\n\r\n",
    )
    open_ones: dict[socket.socket, bytes] = {}
    turn = 0
    with selectors.DefaultSelector() as selector:
        while not stop.is_set():
            while len(open_ones) < 400:
                turn += 1
                sock = socket.socket()
                sock.bind((f"127.{number}.64.{1 + turn % 50}", 0))
                sock.setblocking(False)
                sock.connect_ex(gate.tls if turn % 2 else gate.address)
                open_ones[sock] = words[turn % 5]
                selector.register(sock, selectors.EVENT_READ)
            for sock, word in open_ones.items():
                with contextlib.suppress(OSError):
                    sock.send(word)
            for key, _ in selector.select(0.001):
                sock = key.fileobj  # type: ignore[assignment]
                try:
                    ended = not sock.recv(65_536)
                except BlockingIOError:
                    continue
                except OSError:
                    ended = True
                if ended:
                    selector.unregister(sock)
                    del open_ones[sock]
                    sock.close()
    for sock in open_ones:
        sock.close()
