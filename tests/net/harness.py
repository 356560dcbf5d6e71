"""A stream listener with an owner that writes down what it hears; its wheel is turned by the test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from ipaddress import ip_network
from time import monotonic
from typing import Any

from tests.certificates import Authority, Issued

from callgate.config.certificates import Files, client_context
from callgate.config.schema import Strangers, Streams
from callgate.net.doors import Doors
from callgate.net.shield import Shield
from callgate.net.streams import Entry, Limits, StreamListener
from callgate.net.tls import Contexts
from callgate.policy.dial import DialRules
from callgate.policy.profile import NumberRules
from callgate.proxy.directory import Directory
from callgate.proxy.flow import Flow, Listener, Trouble, Trust
from callgate.proxy.peers import Key, Numbers, Trunk
from callgate.proxy.wheel import Wheel

HOST = "127.0.0.1"
KNOWN, STRANGER = "127.0.0.1", "127.0.66.6"
LIMITS = Limits(handshake_seconds=5, message_seconds=10, idle_seconds=100, stranger_seconds=30)
PATIENCE = 10.0


class Owner:
    """What a gate would do with what its connections say."""

    def __init__(self) -> None:
        self.wheel = Wheel(monotonic())
        self.messages: list[tuple[bytes, Flow]] = []
        self.heads: list[tuple[bytes, Flow]] = []
        self.lost: list[bytes] = []
        self.troubles: list[str] = []
        self.gone: list[Flow] = []
        self.on_closed: Callable[[Flow], None] | None = None
        self.went: list[int] = []
        self.refused: list[str] = []
        self.relied_on: set[int] = set()
        self.failures: list[tuple[bool, str, str]] = []
        self.worked = 0
        self.certificates: list[tuple[int, Mapping[str, Any]]] = []

    def received(self, data: bytes, flow: Flow, now: float) -> None:
        self.messages.append((data, flow))

    def broken(self, head: bytes, flow: Flow, now: float) -> None:
        self.heads.append((head, flow))

    def closed(self, flow: Flow) -> None:
        self.gone.append(flow)
        if self.on_closed is not None:
            self.on_closed(flow)

    def undelivered(self, data: bytes, transport: str, trouble: Trouble) -> None:
        self.lost.append(data)
        self.troubles.append(trouble.text)

    def delivered(self, claim_id: int, now: float) -> None:
        self.went.append(claim_id)

    def turn_ends(self) -> None: ...

    def rejected(self, reason: str) -> None:
        self.refused.append(reason)

    def in_use(self, connection: int) -> bool:
        return connection in self.relied_on

    def tls_failed(self, flow: Flow, ours: bool, reason: str, remedy: str) -> None:
        self.failures.append((ours, reason, remedy))

    def shown(self, flow: Flow, certificate: Mapping[str, Any]) -> None:
        self.certificates.append((flow.port, certificate))

    def tls_works(self, flow: Flow, ours: bool) -> None:
        self.worked += 1


class Made(Contexts):
    """Contexts made by hand: `clients` by trunk, empty for PBXes."""

    def __init__(self, server: ssl.SSLContext | None, clients: dict[str, ssl.SSLContext]) -> None:
        self.server = server
        self._clients = clients
        self.expiries = []


def directory(listener: Listener) -> Directory:
    """One key, at KNOWN; everybody else is a stranger."""
    key = Key("acme", Trunk("carrier"), DialRules(NumberRules({})), networks=[ip_network(KNOWN)])
    return Directory([listener], [], [key], Numbers())


class Gate:
    """A listener at `port` of loopback, TCP or (with `contexts`) TLS."""

    def __init__(
        self,
        contexts: Contexts | None = None,
        *,
        limits: Limits = LIMITS,
        streams: Streams | None = None,
        strangers: Strangers | None = None,
        half_open: int = 64,
    ) -> None:
        self.port = free_port()
        self.peers: list[Peer] = []  # closed with the gate
        self.owner = Owner()
        transport = b"TCP" if contexts is None else b"TLS"
        self.listener = Listener(0, transport, HOST, self.port)
        strangers = strangers or Strangers()
        everybody = directory(self.listener)
        shield = Shield(lambda: everybody, strangers.messages_per_second, strangers.messages_in_all)
        doors = Doors(streams or Streams(), strangers, half_open, 20_000)
        self.entry = Entry(doors, shield, limits, contexts)
        self.streams = StreamListener(self.listener, (HOST, self.port), self.owner, self.entry)

    def flow(self, port: int, trust: Trust | None = None, host: str = HOST) -> Flow:
        return Flow(self.listener, host, port, trust=trust)

    def later(self, seconds: float) -> None:
        """Turn the wheel to a time that many seconds from now."""
        now = monotonic() + seconds
        while self.owner.wheel.next_deadline <= now:
            self.owner.wheel.run(now)

    @property
    def only(self) -> Flow:
        """The flow of the only connection."""
        (connection,) = self.streams.connections.values()
        return connection.flow


@contextlib.asynccontextmanager
async def running(*gates: Gate) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    for gate in gates:
        gate.streams.start(loop)
    try:
        yield
    finally:
        for gate in gates:
            gate.streams.close()
            for peer in gate.peers:
                await peer.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


class Peer:
    """The other end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(
        cls, gate: Gate, host: str = KNOWN, context: ssl.SSLContext | None = None, port: int = 0
    ) -> Peer:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        await asyncio.get_running_loop().sock_connect(sock, (HOST, gate.port))
        name = "" if context is not None else None
        try:
            peer = cls(*await asyncio.open_connection(sock=sock, ssl=context, server_hostname=name))
        except OSError:
            sock.close()
            raise
        gate.peers.append(peer)
        return peer

    async def sends(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def gets(self, size: int) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readexactly(size)

    async def ends(self) -> bytes:
        """All that still comes until the gate closes."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self.writer.wait_closed()


def trusting(authority: Authority, shows: Issued | None = None) -> ssl.SSLContext:
    """The gate's context towards peers whose certificates an authority has signed."""
    certificate = (shows.certificate, shows.private_key) if shows is not None else (None, None)
    return client_context(Files(*certificate, authority.file, "client"))


def message(name: str = "x", body: bytes = b"", **headers: str) -> bytes:
    lines = [
        f"OPTIONS sip:{name}@127.0.0.1 SIP/2.0",
        *(f"{key.replace('_', '-')}: {value}" for key, value in headers.items()),
        f"Content-Length: {len(body)}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body
