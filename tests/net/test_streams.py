"""Connections over TCP and TLS: what the kernel has taken, limits, and which connection a message goes over. Every test
that names no transport runs over both."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests import certificates
from tests.certificates import Authority
from tests.net.harness import (
    KNOWN,
    LIMITS,
    PATIENCE,
    STRANGER,
    Gate,
    Made,
    Peer,
    message,
    running,
    trusting,
    until,
)

from callgate.config.schema import Strangers, Streams
from callgate.net.connection import UNSENT_MAX, Connection
from callgate.net.shield import Allowance
from callgate.net.streams import READS_EACH, READS_TOGETHER
from callgate.proxy.flow import Trust
from callgate.sip.framing import MAX_HEAD, MAX_MESSAGE

PING, PONG = b"\r\n\r\n", b"\r\n"


class Kit:
    """What a test needs to speak the transport it runs over."""

    def __init__(self, folder: Path, transport: str) -> None:
        self.secure = transport == "tls"
        self.trust: Trust | None = None
        self.context: ssl.SSLContext | None = None
        self.plain: ssl.SSLContext | None = None  # a client's that shows no certificate
        self.serves: ssl.SSLContext | None = None
        self.contexts: Made | None = None
        if self.secure:
            authority = Authority(folder)
            gate, peer = authority.issue("gate", "gate.example"), authority.issue("peer", "peer.example")
            self.trust = Trust("", ("peer.example",))
            self.context = certificates.client(authority.file, peer)
            self.plain = certificates.client(authority.file)
            self.serves = certificates.server(peer)
            server = certificates.server(gate, authority.file)
            server.verify_mode = ssl.CERT_OPTIONAL
            self.contexts = Made(server, {"": trusting(authority)})

    def gate(self, **how: object) -> Gate:
        return Gate(self.contexts, **how)  # type: ignore[arg-type]

    async def peer(self, gate: Gate, host: str = KNOWN) -> Peer:
        peer = await Peer.to(gate, host, self.context)
        await until(lambda: all(c.ready for c in gate.streams.connections.values()))
        return peer


@pytest.fixture(params=["tcp", "tls"])
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Kit:
    return Kit(tmp_path, request.param)


class Server:
    """Somebody the gate connects to. It reads when it is asked to."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.port = 0

    async def next(self) -> Peer:
        await until(lambda: self.peers)
        return self.peers.pop(0)


Serve = Callable[[], Awaitable[Server]]


@pytest.fixture
async def serve(kit: Kit) -> AsyncIterator[Serve]:
    servers: list[asyncio.Server] = []
    met: list[Peer] = []

    async def start() -> Server:
        server = Server()

        def arrived(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server.peers.append(Peer(reader, writer))
            met.append(server.peers[-1])

        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((KNOWN, 0))
        running_one = await asyncio.start_server(arrived, sock=sock, ssl=kit.serves, limit=1024)
        servers.append(running_one)
        server.port = sock.getsockname()[1]
        return server

    yield start
    for one in servers:
        one.close()
    for peer in met:
        await peer.close()


# -- copies of messages ------------------------------------------------------------------------------------


async def test_a_tap_sees_whole_messages_and_our_end(kit: Kit, serve: Serve) -> None:
    """As they are before TLS seals them; those that wait, once they have gone."""
    gate, server = kit.gate(), await serve()
    shown: list[tuple[bool, bytes, tuple[str, int], tuple[str, int]]] = []
    gate.streams.show(lambda sent, data, _, here, there: shown.append((sent, data, here, there)))
    async with running(gate):
        gate.streams.send(gate.flow(server.port, kit.trust), message("out"), 0)
        gate.streams.send(gate.flow(server.port, kit.trust), message("out2"), 0)
        assert not shown, "the connection does not stand yet"
        theirs = await server.next()
        await theirs.gets(len(message("out") + message("out2")))
        ours = theirs.writer.get_extra_info("peername")
        await theirs.sends(message("back")[:9])
        await theirs.sends(message("back")[9:] + PING)
        assert await theirs.gets(2) == PONG
        there = (KNOWN, server.port)
        assert [one for one in shown if one[1].strip()] == [
            (True, message("out"), ours, there),
            (True, message("out2"), ours, there),
            (False, message("back"), ours, there),
        ]
        shown.clear()
        peer = await kit.peer(gate)
        await peer.sends(message("in") + message("no-length", Content_Length="x"))
        await until(lambda: gate.owner.heads)
        there = peer.writer.get_extra_info("sockname")
        assert [one[1] for one in shown] == [message("in"), gate.owner.heads[0][0]]
        assert {(one[2], one[3]) for one in shown} == {((KNOWN, gate.port), there)}


# -- framing -----------------------------------------------------------------------------------------------


async def test_several_messages_at_once_and_one_in_pieces(kit: Kit) -> None:
    """RFC 3261 §18.3: only Content-Length says where a message ends; a body may look like messages."""
    gate = kit.gate()
    first, second = message("a"), message("b", body=message("not-a-message") + PING)
    async with running(gate):
        peer = await kit.peer(gate)
        await peer.sends(first + second + first[:10])
        await until(lambda: len(gate.owner.messages) == 2)
        await peer.sends(first[10:])
        await until(lambda: len(gate.owner.messages) == 3)
        for octet in second:
            await peer.sends(bytes((octet,)))
        await until(lambda: len(gate.owner.messages) == 4)
        assert [data for data, _ in gate.owner.messages] == [first, second, first, second]
        await peer.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 400), max_size=40), pings=st.lists(st.booleans(), min_size=4, max_size=4))
async def test_any_segmentation_gives_the_same_messages(kit: Kit, cuts: list[int], pings: list[bool]) -> None:
    """Over TLS each piece is a record of its own."""
    gate = kit.gate()
    wanted = [message(f"m{n}", body=b"z" * 97 * n) for n in range(4)]
    data = b"".join((PING if ping else b"") + one for one, ping in zip(wanted, pings, strict=True))
    async with running(gate):
        peer = await kit.peer(gate)
        rest = data
        for cut in cuts:
            piece, rest = rest[:cut], rest[cut:]
            await peer.sends(piece)
        await peer.sends(rest)
        await until(lambda: len(gate.owner.messages) == 4)
        assert [one for one, _ in gate.owner.messages] == wanted
        assert await peer.gets(2 * sum(pings)) == PONG * sum(pings)
        await peer.close()


async def test_a_keep_alive_is_answered(kit: Kit) -> None:
    """RFC 5626 §4.4.1: each double CRLF by one CRLF, those that come together together; a lone CRLF by nothing."""
    gate = kit.gate()
    async with running(gate):
        peer = await kit.peer(gate)
        await peer.sends(PING)
        assert await peer.gets(2) == PONG
        await peer.sends(PING * 1000 + message())
        assert await peer.gets(2000) == PONG * 1000
        await peer.sends(b"\r\n" + message())
        await until(lambda: len(gate.owner.messages) == 2)
        await peer.sends(b"\r\n")
        gate.later(LIMITS.message_seconds + 1)
        assert not peer.reader.at_eof(), "half a keep-alive is no half a message"
        await peer.sends(b"\r\n")
        assert await peer.gets(2) == PONG
        await peer.close()


async def test_what_is_too_large_ends_the_connection(kit: Kit) -> None:
    """A header of 10 MB, and a message: what is held of it stays small."""
    gate = kit.gate()
    async with running(gate):
        for data in (
            b"OPTIONS sip:x SIP/2.0\r\nSubject: " + b"a" * 10_000_000,
            message(body=b"a" * MAX_MESSAGE),
            b"OPTIONS sip:x SIP/2.0\r\nContent-Length: one\r\n\r\n",
        ):
            peer = await kit.peer(gate)
            gate.owner.heads.clear()
            peer.writer.write(data)
            await until(lambda: gate.owner.heads)
            (connection,) = gate.streams.connections.values()
            assert connection._framer.waiting < MAX_HEAD + 70_000
            gate.streams.hang_up(gate.owner.heads[0][1])  # what the core does
            await peer.ends()
            await peer.close()
        assert not gate.owner.messages
        assert not gate.streams.connections


# -- what the kernel has taken -------------------------------------------------------------------------------


class Slow:
    """A peer on a plain socket with a small buffer, which reads when it is asked to."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._listening = socket.socket()
        self._listening.settimeout(PATIENCE)
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listening.bind((KNOWN, 0))
        self._listening.listen()
        self.port = self._listening.getsockname()[1]
        self.socket = socket.socket()

    def _accept(self) -> None:
        self.socket.close()
        sock = self._listening.accept()[0]
        sock.settimeout(PATIENCE)
        serves = self._kit.serves
        self.socket = sock if serves is None else serves.wrap_socket(sock, server_side=True)

    async def connected(self, gate: Gate) -> Connection:
        """Have the gate connect and send something; its connection."""
        gate.streams.send(gate.flow(self.port, self._kit.trust), message("first"), 0)
        await asyncio.to_thread(self._accept)
        (connection,) = gate.streams.connections.values()
        await until(lambda: connection.ready and not connection._left)
        return connection

    async def stalled(self, gate: Gate) -> Connection:
        """The same, and more than the kernels take."""
        connection = await self.connected(gate)
        flow = gate.flow(self.port, self._kit.trust)
        for _ in range(100):
            if connection._left:
                return connection
            gate.streams.send(flow, b"x" * 100_000, 0)
            await asyncio.sleep(0.005)
        raise AssertionError("the kernel takes all")

    async def reads(self, wanted: bytes) -> bytes:
        """All that comes until it ends with that."""
        data = b""
        while not data.endswith(wanted):
            more = await asyncio.to_thread(self.socket.recv, 1 << 20)
            assert more, data[-100:]
            data += more
        return data

    def close(self) -> None:
        self.socket.close()
        self._listening.close()


@pytest.fixture
def slow(kit: Kit) -> Iterator[Slow]:
    peer = Slow(kit)
    yield peer
    peer.close()


async def test_an_invite_waits_for_the_bytes_before_it(kit: Kit, slow: Slow) -> None:
    """Its token counts from when the kernel has taken its last octet, with nothing unsent before it (design.md)."""
    gate = kit.gate()
    async with running(gate):
        await slow.stalled(gate)
        flow = gate.flow(slow.port, kit.trust)
        gate.streams.send(flow, b"the INVITE", 7)
        gate.streams.send(flow, b"and more", 0)
        await asyncio.sleep(0.1)
        assert gate.owner.went == []
        assert 7 in gate.streams.waiting
        data = await slow.reads(b"the INVITEand more")
        assert data.startswith(message("first"))
        assert gate.owner.went == [7]
        assert not gate.streams.waiting


async def test_it_waits_for_what_the_kernel_holds_too(kit: Kit, slow: Slow) -> None:
    """Nothing waits in the gate, but the peer's window is shut: the INVITE would leave at nobody knows what time."""
    gate = kit.gate()
    async with running(gate):
        connection = await slow.connected(gate)
        flow = gate.flow(slow.port, kit.trust)
        held = 0
        while held < 5:  # for good, not for a moment
            if not connection._kernel_holds():
                gate.streams.send(flow, b"x" * 2000, 0)
            await asyncio.sleep(0.02)
            held = held + 1 if connection._kernel_holds() else 0
            assert not connection._left
        gate.streams.send(flow, b"the INVITE", 7)
        await asyncio.sleep(0.1)
        assert gate.owner.went == []
        assert gate.streams.withdraw(7), "it can still be taken back"
        gate.streams.send(flow, b"another", 8)
        await slow.reads(b"another")
        assert gate.owner.went == [8]


async def test_one_that_is_withdrawn_never_leaves(kit: Kit, slow: Slow) -> None:
    gate = kit.gate()
    async with running(gate):
        await slow.stalled(gate)
        flow = gate.flow(slow.port, kit.trust)
        for claim in (7, 8, 9):
            gate.streams.send(flow, b"INVITE %d" % claim, claim)
        assert gate.streams.withdraw(8)
        assert not gate.streams.withdraw(8)
        data = await slow.reads(b"INVITE 9")
        assert data.endswith(b"INVITE 7INVITE 9")
        assert gate.owner.went == [7, 9]


async def test_one_that_has_begun_goes_on(kit: Kit, slow: Slow) -> None:
    """Half of it is with the kernel: it leaves whole, and is withdrawn only in that nobody waits for it."""
    gate = kit.gate()
    async with running(gate):
        connection = await slow.connected(gate)
        connection._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        invite = b"INVITE" * 15_000
        gate.streams.send(gate.flow(slow.port, kit.trust), invite, 7)
        assert connection._left, "part of it has not gone"
        assert connection._left is not invite, "part of it has"
        assert gate.owner.went == []
        assert gate.streams.withdraw(7)
        assert await slow.reads(invite) == message("first") + invite
        assert gate.owner.went == []


async def test_what_could_not_be_sent_is_told(kit: Kit, slow: Slow) -> None:
    """The peer goes away: each message that it has not got is undeliverable, once."""
    gate = kit.gate()
    async with running(gate):
        await slow.stalled(gate)
        gate.streams.send(gate.flow(slow.port, kit.trust), b"the INVITE", 7)
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        slow.socket.close()
        await until(lambda: gate.owner.lost)
        assert gate.owner.lost.count(b"the INVITE") == 1
        assert gate.owner.lost[-1] == b"the INVITE"
        assert gate.owner.went == []
        assert not gate.streams.waiting
        assert not gate.streams.connections


async def test_a_peer_that_reads_nothing(kit: Kit, slow: Slow) -> None:
    """What waits for it is bounded, in octets and in time."""
    gate = kit.gate()
    async with running(gate):
        await slow.stalled(gate)
        gate.later(33)
        assert not gate.streams.connections
        assert gate.owner.refused == ["slow reader"]
        connection = await slow.stalled(gate)
        for _ in range(UNSENT_MAX // 100_000 + 1):
            gate.streams.send(gate.flow(slow.port, kit.trust), b"x" * 100_000, 0)
        assert not connection.open
        assert sum(map(len, gate.owner.lost)) > UNSENT_MAX


async def test_nobody_there(kit: Kit) -> None:
    gate = kit.gate()
    async with running(gate):
        gate.streams.send(gate.flow(1, kit.trust), b"one", 0)
        gate.streams.send(gate.flow(1, kit.trust), b"two", 5)
        await until(lambda: len(gate.owner.lost) == 2)
        assert gate.owner.lost == [b"one", b"two"]
        assert not gate.streams.connections
        assert not gate.streams.waiting
        assert gate.owner.went == []


async def test_a_connection_that_does_not_come_about(kit: Kit) -> None:
    """A port that takes the connection and says nothing more: TCP stands, TLS is given up after four seconds."""
    gate = kit.gate()
    async with running(gate):
        with socket.socket() as deaf:
            deaf.bind((KNOWN, 0))
            deaf.listen(0)
            gate.streams.send(gate.flow(deaf.getsockname()[1], kit.trust), b"one", 0)
            await asyncio.sleep(0.1)
            gate.later(5)
            assert gate.owner.lost == ([b"one"] if kit.secure else [])
            assert bool(gate.streams.connections) is not kit.secure
            assert len(gate.owner.failures) == kit.secure


# -- time ----------------------------------------------------------------------------------------------------


async def test_a_message_that_does_not_end(kit: Kit) -> None:
    """Slow loris: who has begun a message must end it, however many octets come in between."""
    gate = kit.gate()
    async with running(gate):
        slow, fine, whole = [await kit.peer(gate) for _ in range(3)]
        await slow.sends(message()[:20])
        await whole.sends(message())
        await until(lambda: sum(c._begun > 0 for c in gate.streams.connections.values()) == 1)
        await slow.sends(message()[20:30])
        gate.later(LIMITS.message_seconds - 1)
        assert len(gate.streams.connections) == 3
        gate.later(LIMITS.message_seconds + 1)
        await slow.ends()
        assert len(gate.streams.connections) == 2
        assert gate.owner.refused == ["slow sender"]
        for peer in (slow, fine, whole):
            await peer.close()


async def test_each_message_has_its_own_time(kit: Kit) -> None:
    """The next begins with the segment that ends the one before."""
    gate = kit.gate()
    async with running(gate):
        peer = await kit.peer(gate)
        await peer.sends(message()[:20])
        (connection,) = gate.streams.connections.values()
        await until(lambda: connection._begun)
        first = connection._begun
        await asyncio.sleep(0.01)
        await peer.sends(message()[20:] + message()[:20])
        await until(lambda: gate.owner.messages)
        assert connection._begun > first
        await peer.sends(message()[20:])
        await until(lambda: len(gate.owner.messages) == 2)
        assert connection._begun == 0
        gate.later(LIMITS.message_seconds + 1)
        assert connection.open
        await peer.close()


async def test_silence(kit: Kit) -> None:
    """A known peer's connection is kept long, and as long as a call relies on it; a stranger's is not."""
    gate = kit.gate()
    strangers_limits = LIMITS.stranger_seconds
    async with running(gate):
        known = await kit.peer(gate)
        if not kit.secure:  # over TLS the certificate would have to name the key
            stranger = await kit.peer(gate, STRANGER)
            await stranger.sends(message())
            await until(lambda: gate.owner.messages)
            gate.later(strangers_limits - 1)
            assert len(gate.streams.connections) == 2
            gate.later(strangers_limits + 1)
            await stranger.ends()
            await stranger.close()
        (connection,) = gate.streams.connections.values()
        gate.owner.relied_on.add(connection.number)
        gate.later(LIMITS.idle_seconds + 1)
        assert connection.open
        gate.owner.relied_on.clear()
        gate.later(3 * LIMITS.idle_seconds)
        await known.ends()
        assert not gate.streams.connections
        await known.close()


async def test_a_stranger_that_becomes_known_stays(kit: Kit) -> None:
    """It has shown a password, say: the core has noted that in its flow."""
    gate = kit.gate()
    async with running(gate):
        peer = await kit.peer(gate, STRANGER)
        gate.only.known = True
        gate.later(LIMITS.stranger_seconds + 1)
        assert gate.streams.connections
        await peer.close()


# -- how many ------------------------------------------------------------------------------------------------


async def refused(gate: Gate, kit: Kit, host: str) -> bool:
    """Whether one more connection from there is closed at once."""
    before = len(gate.owner.refused)
    try:
        peer = await Peer.to(gate, host, kit.context)
        await asyncio.sleep(0.05)
        ended = len(gate.owner.refused) > before
        await peer.close()
    except OSError:
        return len(gate.owner.refused) > before
    return ended


async def test_connections_of_one_address_and_of_all(kit: Kit) -> None:
    gate = kit.gate(streams=Streams(connections=4, connections_per_source=2))
    async with running(gate):
        peers = [await kit.peer(gate) for _ in range(2)]
        assert await refused(gate, kit, KNOWN)
        peers += [await kit.peer(gate, host) for host in (STRANGER, STRANGER)]
        assert await refused(gate, kit, "127.0.0.2")
        assert gate.owner.refused == ["too many connections"] * 2
        await peers.pop().close()
        await until(lambda: len(gate.streams.connections) == 3)
        peers.append(await kit.peer(gate, "127.0.0.2"))
        for peer in peers:
            await peer.close()
        await until(lambda: not gate.streams.connections)
        assert not gate.entry.doors._by_source
        assert not gate.entry.doors._strangers
        assert not gate.entry.doors._strangers_at


async def test_strangers_have_fewer_and_the_oldest_goes(kit: Kit) -> None:
    """What they take is theirs: the known peer finds room, and its own connections stay."""
    gate = kit.gate(strangers=Strangers(connections=40, connections_per_source=2))
    async with running(gate):
        ours = await kit.peer(gate)
        user = await kit.peer(gate, "127.0.66.41")
        (latest,) = [c for c in gate.streams.connections.values() if c.flow.host == "127.0.66.41"]
        latest.flow.known = True  # it has shown a password
        first = await kit.peer(gate, "127.0.66.1")
        second = await kit.peer(gate, "127.0.66.1")
        assert await refused(gate, kit, "127.0.66.1")
        assert gate.owner.refused == ["stranger flood"]
        gate.entry.doors._new._all = 0.0  # not this test's concern
        for n in range(2, 41):
            await kit.peer(gate, f"127.0.66.{n}")
        await first.ends()
        assert not any(peer.reader.at_eof() for peer in (ours, user, second))
        assert len(gate.streams.connections) == 42


async def test_strangers_connect_so_often_and_no_more(kit: Kit) -> None:
    gate = kit.gate(strangers=Strangers(connections_per_source=5))
    async with running(gate):
        for _ in range(5):
            await (await kit.peer(gate, STRANGER)).close()
        await until(lambda: not gate.streams.connections)
        assert await refused(gate, kit, STRANGER)
        assert gate.owner.refused == ["stranger flood"]
        for _ in range(10):
            await (await kit.peer(gate)).close()


async def test_a_stranger_says_so_much_and_no_more(kit: Kit) -> None:
    """Five seconds' worth at once, then it is hung up on."""
    gate = kit.gate(strangers=Strangers(messages_per_second=2))
    async with running(gate):
        peer = await kit.peer(gate, STRANGER)
        await peer.sends(message() * 11)
        await peer.ends()
        assert len(gate.owner.messages) == 10
        assert gate.owner.refused == ["stranger flood"]
        await peer.close()
        peer = await kit.peer(gate)
        await peer.sends(message() * 500)
        await until(lambda: len(gate.owner.messages) == 510)
        await peer.close()


class Counted(Allowance):
    asked = 0

    def admits(self, source: str, now: float) -> bool:
        self.asked += 1
        return super().admits(source, now)


async def test_a_stranger_is_read_so_often_and_no_more(kit: Kit) -> None:
    """Octet by octet: nothing is lost, and the gate is not busy with it."""
    gate = kit.gate()
    async with running(gate):
        peer = await kit.peer(gate, STRANGER)
        gate.entry.reads = Counted(READS_EACH, READS_TOGETHER)
        data = message(Subject="a" * 400)
        for octet in data:
            await peer.sends(bytes((octet,)))
            await asyncio.sleep(0)
        await until(lambda: gate.owner.messages)
        assert gate.owner.messages[0][0] == data
        assert gate.entry.reads.asked < 200
        await peer.close()


# -- which connection ----------------------------------------------------------------------------------------


async def test_one_connection_for_all_requests(kit: Kit, serve: Serve) -> None:
    """RFC 3261 §18.1.1; and what comes back on it has its number."""
    gate = kit.gate()
    async with running(gate):
        server = await serve()
        for word in (b"one", b"two"):
            gate.streams.send(gate.flow(server.port, kit.trust), word, 0)
        peer = await server.next()
        assert await peer.gets(6) == b"onetwo"
        gate.streams.send(gate.flow(server.port, kit.trust), b"three", 0)
        assert await peer.gets(5) == b"three"
        assert not server.peers
        await peer.sends(message())
        await until(lambda: gate.owner.messages)
        ((_, flow),) = gate.owner.messages
        assert flow.connection
        assert flow.known, "the gate has called it itself"
        gate.streams.send(flow, b"four", 0)
        assert await peer.gets(4) == b"four"
        await peer.close()


async def test_a_request_goes_back_over_the_connection_it_is_about(kit: Kit) -> None:
    """A dialog's flow carries the number of the connection; when that has been replaced by another of the same peer,
    that one is taken. Where there are several, the address is tried first."""
    gate = kit.gate()
    async with running(gate):
        first = await kit.peer(gate)
        await first.sends(message())
        await until(lambda: gate.owner.messages)
        flow = gate.owner.messages[0][1]
        gate.streams.send(flow, b"back", 0)
        assert await first.gets(4) == b"back"
        await first.close()
        await until(lambda: not gate.streams.connections)
        second = await kit.peer(gate)
        gate.streams.send(flow, b"again", 0)
        assert await second.gets(5) == b"again"
        second_one = gate.only
        second_one.known = False
        gate.streams.send(flow, b"lost", 0)
        await until(lambda: gate.owner.lost)
        assert gate.owner.lost == [b"lost"], "not to a stranger, should it be one now"
        second_one.known = True
        third = await kit.peer(gate)
        gate.streams.send(flow, b"last", 0)  # nobody listens where the first one came from: the latest
        assert await third.gets(4) == b"last"
        await second.close()
        await third.close()


async def test_not_over_the_connection_of_another_behind_the_same_address() -> None:
    """Two phones behind one address, known by their passwords: what is one's never goes to the other."""
    gate = Gate()
    async with running(gate):
        first = await Peer.to(gate, STRANGER, None)
        await first.sends(message())
        await until(lambda: gate.owner.messages)
        flow = gate.owner.messages[0][1]
        await first.close()
        await until(lambda: not gate.streams.connections)
        second = await Peer.to(gate, STRANGER, None)
        await until(lambda: gate.streams.connections)
        flow.known = gate.only.known = True
        gate.streams.send(flow, b"secret", 0)
        await until(lambda: gate.owner.lost)
        await second.close()


async def test_the_end_of_a_connection_is_told_when_it_is_forgotten(kit: Kit, serve: Serve) -> None:
    """What is sent at that moment goes another way, not into the dead connection."""
    gate = kit.gate()
    async with running(gate):
        server = await serve()
        flow = gate.flow(server.port, kit.trust)
        gate.streams.send(flow, b"one", 0)
        first = await server.next()
        assert await first.gets(3) == b"one"
        await first.sends(message())
        await until(lambda: gate.owner.messages)
        ours = gate.only
        gate.owner.on_closed = lambda _: gate.streams.send(flow, b"two", 0)
        await first.close()
        await until(lambda: gate.owner.gone)
        assert gate.owner.gone == [ours]
        assert await (await server.next()).gets(3) == b"two"
        assert not gate.owner.lost


async def test_a_peer_that_can_t_be_connected_to(kit: Kit) -> None:
    """Nobody listens at the configured address, but the peer has opened a connection and is known: over that one."""
    gate = kit.gate()
    async with running(gate):
        peer = await kit.peer(gate)
        gate.streams.send(gate.flow(1, kit.trust), b"one", 3)
        assert await peer.gets(3) == b"one"
        assert gate.owner.went == [3]
        gate.streams.send(gate.flow(1, kit.trust), b"two", 0)
        assert await peer.gets(3) == b"two"
        assert len(gate.streams.connections) == 1, "the second time nobody tried to connect"
        await peer.close()


async def test_not_over_a_stranger_s(kit: Kit) -> None:
    gate = kit.gate()
    async with running(gate):
        peer = await kit.peer(gate, STRANGER)
        gate.streams.send(gate.flow(1, kit.trust, STRANGER), b"one", 0)
        await until(lambda: gate.owner.lost)
        assert gate.owner.lost == [b"one"]
        await peer.close()


async def test_an_alias(kit: Kit, serve: Serve) -> None:
    """RFC 5923: who says `alias` in the Via of a connection it opened takes requests for that Via's address there.
    Without it a new one is opened."""
    gate = kit.gate()
    async with running(gate):
        server = await serve()
        via = f"SIP/2.0/TCP {KNOWN}:{server.port};branch=z9hG4bK1"
        plain, alias = await kit.peer(gate), await kit.peer(gate)
        await plain.sends(message(Via=via))
        await until(lambda: len(gate.owner.messages) == 1)
        gate.streams.send(gate.flow(server.port, kit.trust), b"one", 0)
        opened = await server.next()
        assert await opened.gets(3) == b"one"
        await opened.close()
        await until(lambda: len(gate.streams.connections) == 2)
        await alias.sends(message(Via=via + ";alias"))
        await until(lambda: len(gate.owner.messages) == 2)
        gate.streams.send(gate.flow(server.port, kit.trust), b"two", 0)
        assert await alias.gets(3) == b"two"
        await alias.close()
        await until(lambda: len(gate.streams.connections) == 1)
        gate.streams.send(gate.flow(server.port, kit.trust), b"three", 0)
        assert await (await server.next()).gets(5) == b"three"
        await plain.close()


async def test_an_alias_of_somebody_else(kit: Kit, serve: Serve) -> None:
    """Nobody takes requests for an address that is not its own; no stranger takes any; over TLS nobody does without a
    certificate."""
    gate = kit.gate()
    async with running(gate):
        server = await serve()
        if kit.secure:
            peer = await Peer.to(gate, KNOWN, kit.plain)
            await peer.sends(message(Via=f"SIP/2.0/TLS {KNOWN}:{server.port};alias;branch=z9hG4bK1"))
            await until(lambda: gate.owner.messages)
            await asyncio.sleep(0.02)
            assert (KNOWN, server.port) not in gate.streams._at
            await peer.close()
        for host, claims in ((KNOWN, "127.0.0.77"), (STRANGER, STRANGER)):
            peer = await kit.peer(gate, host)
            await peer.sends(message(Via=f"SIP/2.0/TCP {claims}:{server.port};alias;branch=z9hG4bK1"))
            count = len(gate.owner.messages)
            await until(lambda count=count: len(gate.owner.messages) > count - 1)  # type: ignore[misc]
            await asyncio.sleep(0.02)
            assert not {(claims, server.port), (host, server.port)} & gate.streams._at.keys()
            await peer.close()


# -- memory --------------------------------------------------------------------------------------------------


async def test_a_connection_leaves_nothing_behind(kit: Kit, serve: Serve) -> None:
    """The collector is off in the gate: no cycles, whatever a connection has met."""
    gc.collect()
    gc.disable()
    try:
        gate = kit.gate()
        async with running(gate):
            server = await serve()
            gate.streams.send(gate.flow(server.port, kit.trust), b"one", 0)
            await server.next()
            gate.streams.send(gate.flow(1, kit.trust), b"nobody", 0)
            peer = await kit.peer(gate)
            await peer.sends(message() + PING)
            await until(lambda: gate.owner.messages)
            await peer.sends(b"x: y\r\n\r\n" + b"z" * 70_000)
            await until(lambda: gate.owner.heads)
            if kit.secure:
                rubbish = await Peer.to(gate)
                await rubbish.sends(b"no TLS at all")
                await rubbish.ends()
        gate.later(200)  # the wheel forgets what has closed
        await asyncio.sleep(0.2)  # and the pauses of strangers end
        left = [one for one in gc.get_objects() if isinstance(one, Connection)]
        assert not left
    finally:
        gc.enable()
