"""TCP and TLS listeners: who may connect, and which connection a message goes over.

A connection is found again by the number that its flow carries. What is sent towards a peer without one goes over a
connection to that address, else a new one is opened; see `_way`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final, NamedTuple, Protocol

from callgate.config import Config
from callgate.net.capture import Tap
from callgate.net.connection import Connection
from callgate.net.doors import Doors
from callgate.net.shield import Allowance, Shield
from callgate.net.tls import Contexts, TlsConnection
from callgate.proxy.flow import UNKNOWN, Flow, Listener, Trouble, Trust
from callgate.proxy.wheel import Wheel

ACCEPTED_AT_ONCE: Final = 64
REST_SECONDS: Final = 0.5
"""Without a descriptor left nobody is accepted for so long."""
UNREACHABLE_SECONDS: Final = 30.0
"""A peer that takes no connection is asked for one no more for so long, if there is one that it opened itself."""
UNREACHABLE_MAX: Final = 1_024
READS_EACH: Final = 20.0
READS_TOGETHER: Final = 2_000.0
"""How often strangers' streams are read in a second: those of one address, and of all."""
_NOTSENT_LOWAT: Final = getattr(socket, "TCP_NOTSENT_LOWAT", 25)


class Limits(NamedTuple):
    """Seconds after which a connection is closed; `config.md` says what for."""

    handshake_seconds: float
    message_seconds: float
    idle_seconds: float
    stranger_seconds: float

    @classmethod
    def of(cls, config: Config) -> Limits:
        handshake = config.tls.handshake_seconds if config.tls is not None else 5.0
        streams = config.streams
        return cls(handshake, streams.message_seconds, streams.idle_seconds, config.strangers.seconds)


class Owner(Protocol):
    """What the gate offers its connections."""

    wheel: Wheel

    def received(self, data: bytes, flow: Flow, now: float) -> None: ...
    def broken(self, head: bytes, flow: Flow, now: float) -> None: ...
    def closed(self, flow: Flow) -> None: ...
    def undelivered(self, data: bytes, transport: str, trouble: Trouble) -> None: ...
    def delivered(self, claim_id: int, now: float) -> None: ...
    def turn_ends(self) -> None: ...

    def rejected(self, reason: str) -> None:
        """Count what went no further."""

    def in_use(self, connection: int) -> bool:
        """Whether a call or a registration relies on that connection."""

    def tls_failed(self, flow: Flow, ours: bool, reason: str, remedy: str) -> None:
        """A handshake failed."""

    def tls_works(self, flow: Flow, ours: bool) -> None: ...

    def shown(self, flow: Flow, certificate: Mapping[str, Any]) -> None:
        """A gateway of a trunk has proven who it is with this certificate."""


class Entry:
    """What all stream listeners share: the doors, the shield, the limits and what TLS is done with."""

    def __init__(
        self, doors: Doors, shield: Shield, limits: Limits, contexts: Contexts | None = None
    ) -> None:
        self.doors = doors
        self.shield = shield
        self.limits = limits
        self.contexts = contexts
        self.reads = Allowance(READS_EACH, READS_TOGETHER)
        self._number = 0

    def number(self) -> int:
        """The next connection's, over all listeners."""
        self._number += 1
        return self._number


class StreamListener:
    """A bound socket and every connection of its transport and address family, also those the gate opens itself."""

    def __init__(self, listener: Listener, address: tuple[str, int], owner: Owner, entry: Entry) -> None:
        self.listener = listener
        self.owner = owner
        self.loop: asyncio.AbstractEventLoop | None = None
        self.connections: dict[int, Connection] = {}
        self.waiting: dict[int, Connection] = {}  # claims of INVITEs that are not written yet
        self.name = listener.transport.decode("ascii").lower()
        self.default_port = 5061 if listener.secure else 5060
        self.tap: Tap | None = None  # sees every message that is read or written
        self._ended = False
        self._entry = entry
        self._kind = TlsConnection if listener.secure else Connection
        self._opened: dict[tuple[str, int, Trust | None], Connection] = {}  # by us
        self._at: dict[tuple[str, int], Connection] = {}  # by peers: the address they came from or stand for
        self._from: dict[str, dict[int, Connection]] = {}  # by peers: all, by address
        self._unreachable: dict[tuple[str, int, Trust | None], float] = {}
        self._family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._bound = address[0]
        self._socket = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._family == socket.AF_INET6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._socket.bind(address)
            self._socket.listen(1024)
        except BaseException:
            self._socket.close()
            raise

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to accept."""
        self.loop = loop
        loop.add_reader(self._socket.fileno(), self._accept)

    def show(self, tap: Tap) -> None:
        """Have `tap` see every whole message that comes or has gone, over TLS as it was sealed."""
        self.tap = tap

    def close(self) -> None:
        """Stop listening and close every connection; no new one is opened."""
        self._ended = True
        if self.loop is not None:
            self.loop.remove_reader(self._socket.fileno())
        self._socket.close()
        for connection in list(self.connections.values()):
            connection.close()
        self.loop = None

    # -- what connections ask ------------------------------------------------------------------------------

    @property
    def limits(self) -> Limits:
        return self._entry.limits

    @property
    def contexts(self) -> Contexts | None:
        return self._entry.contexts

    @property
    def doors(self) -> Doors:
        return self._entry.doors

    def reads(self, host: str, now: float) -> bool:
        """Whether a stranger's stream may be read once more."""
        return self._entry.reads.admits(host, now)

    def admits(self, host: str, now: float) -> bool:
        """Whether one more message of a stranger is taken."""
        return self._entry.shield.admits(host, now)

    def knows(self, flow: Flow) -> bool:
        return self._entry.shield.knows(flow)

    def trouble(self, connection: Connection, reason: str, remedy: str) -> None:
        """TLS can't be had with a peer."""
        if not connection.ours:
            self.owner.rejected("tls handshake")
        if connection.flow.known:
            self.owner.tls_failed(connection.flow, connection.ours, reason, remedy)

    def stands(self, connection: Connection) -> None:
        """Messages can be written."""
        if self.listener.secure and connection.flow.known:
            self.owner.tls_works(connection.flow, connection.ours)

    def alias(self, connection: Connection, port: int) -> None:
        """Requests for that port of a peer's address may go over a connection that it has opened."""
        place = (connection.flow.host, port)
        connection.places += (place,)
        self._at.setdefault(place, connection)

    def closed(self, connection: Connection, unsent: list[tuple[bytes, int]]) -> None:
        """Forget a connection. What it did not send goes over another where it was the gate that opened it in vain
        and the peer has one; else it is undeliverable."""
        self._forget(connection)
        for _, claim in unsent:
            self.waiting.pop(claim, None)
        other = self._instead_of(connection) if unsent else None
        for message, claim in unsent:
            if other is not None:
                other.send(message, claim)
            else:
                self.owner.undelivered(message, self.name, connection.trouble)
        self.owner.closed(connection.flow)

    def _forget(self, connection: Connection) -> None:
        flow = connection.flow
        self.connections.pop(connection.number, None)
        if connection.ours:
            key = (flow.host, flow.port, flow.trust)
            if self._opened.get(key) is connection:
                del self._opened[key]
            return
        self.doors.leave(connection)
        peers = self._from[flow.host]
        del peers[connection.number]
        if not peers:
            del self._from[flow.host]
        for place in connection.places:
            if self._at.get(place) is connection:
                del self._at[place]

    def _instead_of(self, connection: Connection) -> Connection | None:
        """Another way for what waited for a connection that could not be had."""
        if not connection.ours or connection.ready:
            return None
        flow = connection.flow
        other = self._opened_by_peer(flow, flow.host, flow.trust)
        if other is not None:
            if len(self._unreachable) >= UNREACHABLE_MAX:
                self._unreachable.clear()
            self._unreachable[flow.host, flow.port, flow.trust] = monotonic() + UNREACHABLE_SECONDS
        return other

    # -- connections that come -----------------------------------------------------------------------------

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                accepted, address = self._socket.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._rest()
                break
            now = monotonic()
            flow = Flow(self.listener, address[0].partition("%")[0], address[1], self._entry.number())
            known = self._entry.shield.knows(flow)
            why = self.doors.refuses(flow.host, now, known=known, secure=self.listener.secure)
            if why:
                self.owner.rejected(why)
                accepted.close()
                continue
            if self.listener.secure:
                flow.trust = Trust("", (flow.host,))
            connection = self._adopt(accepted, flow, now, ours=False)
            self.alias(connection, flow.port)
            self._from.setdefault(flow.host, {})[connection.number] = connection
            self.doors.enter(connection)
            connection.start()
        self.owner.turn_ends()

    def _rest(self) -> None:
        """No descriptor is left: whoever waits goes on waiting, and the loop does not spin."""
        loop = self.loop
        if loop is not None:
            loop.remove_reader(self._socket.fileno())
            loop.call_later(REST_SECONDS, self._accept_again)

    def _accept_again(self) -> None:
        if self.loop is not None:
            self.loop.add_reader(self._socket.fileno(), self._accept)

    def _adopt(self, sock: socket.socket, flow: Flow, now: float, *, ours: bool) -> Connection:
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, 1)
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1
            )  # a peer that lost its power never says so
        connection = self._kind(self, sock, flow, now, ours=ours)
        self.connections[flow.connection] = connection
        return connection

    # -- messages that go ----------------------------------------------------------------------------------

    def send(self, flow: Flow, data: bytes, claim: int) -> None:
        """Over the flow's connection, else another one to the peer, else a new one (RFC 3261 §18.1.1, §18.2.2)."""
        connection = self.connections.get(flow.connection) if flow.connection else None
        if connection is None:
            connection = self._way(flow, data)
            if connection is None:
                return
        connection.send(data, claim)

    def _way(self, flow: Flow, data: bytes) -> Connection | None:
        """A connection to the peer of a flow: one that the gate has opened to that address; one that the peer has
        opened from there, or in the name of that address; where the flow's own is gone, the only other one of the
        same peer; a new one. Over TLS only one whose peer has proven what the flow asks for."""
        # A response whose connection is gone goes to the address in its Via, a request to its target.
        host, port = flow.fallback or (flow.host, flow.port)
        trust = flow.trust
        if self.listener.secure and trust is None:
            trust = Trust("", (host,))
        key = (host, port, trust)
        found = self._opened.get(key)
        if found is not None:
            return found
        found = self._at.get((host, port))
        if found is not None and self._may_carry(found, trust):
            return found
        if flow.connection:
            others = self._from.get(flow.host)
            if others is not None and len(others) == 1:
                (other,) = others.values()
                same = other.flow.known and self._entry.shield.same_peer(other.flow, flow)
                if same and other.flow.trust == flow.trust:
                    return other
        if self._unreachable and self._unreachable.get(key, 0.0) > monotonic():
            theirs = self._opened_by_peer(flow, host, trust)
            if theirs is not None:
                return theirs
        found = self._open(host, port, trust) or self._opened_by_peer(flow, host, trust)
        if found is None:
            assert self.loop is not None
            self.loop.call_soon(self._undelivered, data)  # later: who sends is not ready for the answer
        return found

    def _may_carry(self, connection: Connection, trust: Trust | None) -> bool:
        """Whether what must reach a peer that proves `trust` may go over a connection that a peer has opened."""
        if trust is None:
            return True
        return not trust.context and not set(trust.names).isdisjoint(connection.flow.names)

    def _opened_by_peer(self, flow: Flow, host: str, trust: Trust | None) -> Connection | None:
        """The latest connection that the peer at an address has opened, if it was identified."""
        for connection in reversed(self._from.get(host, {}).values()):
            if not (connection.flow.known and connection.ready and self._may_carry(connection, trust)):
                continue
            if trust is not None or self._entry.shield.same_peer(connection.flow, flow):
                return connection
        return None

    def _undelivered(self, data: bytes) -> None:
        self.owner.undelivered(data, self.name, UNKNOWN)
        self.owner.turn_ends()

    def _open(self, host: str, port: int, trust: Trust | None) -> Connection | None:
        """A new connection, which may not stand yet; None where there can be none."""
        if self._ended:
            return None
        try:
            sock = socket.socket(self._family, socket.SOCK_STREAM)
        except OSError:  # no descriptor left
            return None
        sock.setblocking(False)
        try:
            if self._bound not in ("0.0.0.0", "::"):
                sock.bind((self._bound, 0))
            sock.connect((host, port))
        except BlockingIOError:
            pass
        except OSError:
            sock.close()
            return None
        flow = Flow(self.listener, host, port, self._entry.number(), trust=trust)
        flow.known = True
        connection = self._adopt(sock, flow, monotonic(), ours=True)
        self._opened[host, port, trust] = connection
        connection.start()
        return connection

    def withdraw(self, claim: int) -> bool:
        """Take back what waits under a claim; True where something did."""
        connection = self.waiting.pop(claim, None)
        if connection is None:
            return False
        connection.withdraw(claim)
        return True

    def hang_up(self, flow: Flow) -> None:
        """Close a connection once what was sent to it is gone."""
        connection = self.connections.get(flow.connection)
        if connection is not None:
            connection.close_after_sending()

    def vouch(self, flow: Flow) -> None:
        """The gate itself sends requests there: its peer is no stranger."""
        connection = self.connections.get(flow.connection)
        if connection is not None:
            connection.flow.known = True
