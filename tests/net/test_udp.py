"""A UDP listener: what a full kernel buffer keeps, and how a flood of strangers is told from those who are known."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest
from tests.net.harness import free_port, until

from callgate.net import udp as module
from callgate.net.shield import Shield
from callgate.net.udp import UdpSocket
from callgate.policy.dial import DialRules
from callgate.policy.profile import NumberRules
from callgate.proxy.directory import Directory
from callgate.proxy.flow import Flow, Listener
from callgate.proxy.peers import Key, Numbers, Trunk

GATE, KNOWN, STRANGER = "127.0.0.1", "127.0.0.2", "127.0.66.6"


class Full:
    """A socket whose send buffer is full for the first calls."""

    def __init__(self, real: socket.socket, refusals: int) -> None:
        self._real = real
        self.refusals = refusals

    def sendto(self, data: bytes, address: tuple[str, int]) -> int:
        if self.refusals:
            self.refusals -= 1
            raise BlockingIOError
        return self._real.sendto(data, address)

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


class Listening:
    """A listener, and all that it hears. Strangers may send 10 messages at once, 2 a second."""

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self.listener = Listener(0, b"UDP", GATE, self.port)
        self.heard: list[tuple[bytes, Flow]] = []
        self.went: list[int] = []
        self.undelivered: list[bytes] = []
        self.dropped = 0
        self.passwords: set[bytes] = set()
        key = Key("acme", Trunk("carrier"), DialRules(NumberRules({})), networks=[ip_network(KNOWN)])
        everybody = Directory([self.listener], [], [key], Numbers())
        self.socket = UdpSocket(
            self.listener,
            (GATE, self.port),
            self._received,
            self.undelivered.append,
            lambda claim, now: self.went.append(claim),
            lambda: None,
            self._rejected,
            Shield(lambda: everybody, each=2, together=100),
        )

    def _received(self, data: bytes, flow: Flow, now: float) -> None:
        self.heard.append((data, flow))
        if data in self.passwords:
            flow.known = True  # as the core does

    def _rejected(self, reason: str, count: int) -> None:
        assert reason == "stranger flood"
        self.dropped += count


@pytest.fixture
async def gate() -> AsyncIterator[Listening]:
    listening = Listening()
    listening.socket.start(asyncio.get_running_loop())
    yield listening
    listening.socket.close()


class Sender:
    def __init__(self, to: Listening, host: str) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self._to = to

    def sends(self, *messages: bytes) -> None:
        for message in messages:
            self.socket.sendto(message, (GATE, self._to.port))

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


async def test_a_full_buffer_keeps_order_and_tells_when_it_is_sent(gate: Listening) -> None:
    sender = Listening()
    try:
        sender.socket.start(asyncio.get_running_loop())
        sender.socket._socket = Full(sender.socket._socket, refusals=3)  # type: ignore[assignment]
        for claim in (1, 2, 3):
            sender.socket.send(b"copy %d" % claim, GATE, gate.port, claim)
        assert sender.went == [], "nothing was handed to the kernel yet"
        assert sender.socket.withdraw(2), "its call has ended"
        await until(lambda: len(gate.heard) == 2)
        assert [data for data, _ in gate.heard] == [b"copy 1", b"copy 3"]
        assert sender.went == [1, 3]
    finally:
        sender.socket.close()


async def test_a_fault_while_what_waited_is_sent_keeps_nothing_back(gate: Listening) -> None:
    """A bug in whoever hears of copies that went ends that flush, not all of them."""
    sender = Listening()

    def fault(claim: int, now: float) -> None:
        raise RuntimeError("a bug")

    try:
        loop = asyncio.get_running_loop()
        faults: list[object] = []
        loop.set_exception_handler(lambda _, context: faults.append(context))
        sender.socket.start(loop)
        sender.socket._delivered = fault
        sender.socket._socket = Full(sender.socket._socket, refusals=1)  # type: ignore[assignment]
        sender.socket.send(b"1", GATE, gate.port, 1)
        sender.socket.send(b"2", GATE, gate.port, 0)
        await until(lambda: bool(faults))
        sender.socket.send(b"3", GATE, gate.port, 0)
        await until(lambda: len(gate.heard) == 3)
        assert [data for data, _ in gate.heard] == [b"1", b"2", b"3"]
    finally:
        sender.socket.close()


class Refused:
    """A socket that reports the ICMP errors of other datagrams, one for each call."""

    def __init__(self, real: socket.socket, errors: int) -> None:
        self._real = real
        self.errors = errors

    def sendto(self, data: bytes, address: tuple[str, int]) -> int:
        if self.errors:
            self.errors -= 1
            raise ConnectionRefusedError(errno.ECONNREFUSED, "of another")
        return self._real.sendto(data, address)

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


async def test_the_errors_of_others_keep_nothing_back(gate: Listening) -> None:
    """An ACK has no copy that would come later: it goes out however many errors the kernel has to report first."""
    sender = Listening()
    try:
        sender.socket.start(asyncio.get_running_loop())
        sender.socket._socket = Refused(sender.socket._socket, errors=5)  # type: ignore[assignment]
        sender.socket.send(b"ACK", GATE, gate.port, 0)
        await until(lambda: len(gate.heard) == 1)
        assert not sender.undelivered
        sender.socket._socket = Refused(sender.socket._socket, errors=1000)  # type: ignore[assignment]
        sender.socket.send(b"INVITE", GATE, gate.port, 7)
        await until(lambda: sender.undelivered == [b"INVITE"])
        assert not sender.went, "it has not gone"
    finally:
        sender.socket.close()


async def test_who_is_woken_and_who_polls_hear_the_same(
    gate: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From being woken to polling and back, over and over, with ICMP errors in between: nothing is left lying, nothing
    comes twice."""
    monkeypatch.setattr(module, "BUSY_WAKES", 3)
    polled = 0
    poll = gate.socket._poll

    def counted() -> None:
        nonlocal polled
        polled += 1
        poll()

    monkeypatch.setattr(gate.socket, "_poll", counted)
    dead = free_port()
    sent: list[bytes] = []
    with Sender(gate, KNOWN) as known:
        for burst in range(40):
            for n in range(burst % 9 + 1):
                sent.append(b"%d.%d" % (burst, n))
                known.sends(sent[-1])
                gate.socket.send(b"to nobody", GATE, dead, 0)
                await asyncio.sleep(0)
            await asyncio.sleep(0.012 * (burst % 3))
        await until(lambda: len(gate.heard) == len(sent))
    assert [data for data, _ in gate.heard] == sent
    assert polled > 20
    assert gate.undelivered, "and what ICMP said was heard"


async def test_strangers_beyond_their_measure(gate: Listening) -> None:
    """What is too much is thrown away and counted; who is known is heard whatever comes beside."""
    with Sender(gate, STRANGER) as stranger, Sender(gate, KNOWN) as known:
        for n in range(40):
            stranger.sends(*[b"flood"] * 10)
            known.sends(b"%d" % n)
        await until(lambda: len(gate.heard) + gate.dropped == 440)
        assert [data for data, flow in gate.heard if flow.host == KNOWN] == [b"%d" % n for n in range(40)]
        assert all(flow.known is (flow.host == KNOWN) for _, flow in gate.heard)
        assert gate.dropped >= 389
        assert len({id(flow) for _, flow in gate.heard if flow.known}) == 1, "looked up once"


async def test_who_becomes_known(gate: Listening) -> None:
    """By a password or a dialog, which the core notes; or because the gate itself sends it requests. Its other ports
    stay strangers."""
    gate.passwords.add(b"let me in")
    with Sender(gate, STRANGER) as user, Sender(gate, STRANGER) as other, Sender(gate, STRANGER) as called:
        user.sends(b"let me in")
        await until(lambda: len(gate.heard) == 1)
        there = Flow(gate.listener, *called.socket.getsockname())
        gate.socket.vouch(there)
        gate.socket.vouch(there)
        for _ in range(10):
            other.sends(*[b"flood"] * 10)
            user.sends(b"mine")
            called.sends(b"answer")
        await until(lambda: len(gate.heard) + gate.dropped == 121)
        heard = [data for data, _ in gate.heard]
        assert heard.count(b"mine") == 10
        assert heard.count(b"answer") == 10
        assert heard.count(b"flood") <= 10


async def test_known_peers_are_remembered_in_bounded_memory(
    gate: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many ports a known network sends from; no stranger's flow is kept at all."""
    monkeypatch.setattr(module, "FLOWS_MAX", 5)
    gate.passwords.add(b"let me in")
    with Sender(gate, STRANGER) as user:
        user.sends(b"let me in")
        await until(lambda: len(gate.heard) == 1)
        for _ in range(4):
            with Sender(gate, KNOWN) as one, Sender(gate, STRANGER) as stranger:
                count = len(gate.heard)
                one.sends(b"x")
                stranger.sends(b"y")
                user.sends(*[b"mine"] * 3)
                await until(lambda count=count: len(gate.heard) == count + 5)  # type: ignore[misc]
            assert len(gate.socket._flows) + len(gate.socket._earlier) <= 10
        sources = {source[0] for source in (*gate.socket._flows, *gate.socket._earlier)}
        assert sources == {KNOWN, STRANGER}
        assert gate.dropped == 0


async def test_a_receive_buffer_that_is_cut_short_is_told_of(gate: Listening) -> None:
    """The kernel gives no more than net.core.rmem_max, and says nothing of it."""
    assert module.buffer_fault(module.RECEIVE_BUFFER) == ""
    assert "sysctl -w net.core.rmem_max=4194304" in module.buffer_fault(212_992)
    given = gate.socket._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    assert gate.socket.short_of == module.buffer_fault(given)
