"""TCP listeners and connections, on raw sockets for the same reason as `udp`: to know what the kernel has taken.

A connection is found again by the number that its flow carries; whatever is sent towards a peer without one goes
over any connection to that address, else a new one is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import socket
import struct
from collections import deque
from time import monotonic
from typing import Protocol

from callgate.proxy.flow import Flow, Listener
from callgate.sip.framing import Broken, Framer

READ = 65_536
CONNECT_SECONDS = 4.0
UNSENT_MAX = 1 << 20
"""Octets that may wait for a slow reader; beyond that the connection is closed."""
CONNECTIONS_MAX = 10_000
PER_SOURCE_MAX = 1_000
"""Connections that one address may hold."""
REST_SECONDS = 0.5
_SIOCOUTQNSD = 0x894B
_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)


class Owner(Protocol):
    """What the gate offers its connections."""

    def received(self, data: bytes, flow: Flow, now: float) -> None: ...
    def broken(self, head: bytes, flow: Flow, now: float) -> None: ...
    def undelivered(self, data: bytes) -> None: ...
    def delivered(self, claim_id: int, now: float) -> None: ...
    def turn_ends(self) -> None: ...


class TcpListener:
    """A bound socket and every connection of its address family, also those the gate opens itself."""

    def __init__(self, listener: Listener, address: tuple[str, int], owner: Owner) -> None:
        self.listener = listener
        self.owner = owner
        self.loop: asyncio.AbstractEventLoop | None = None
        self.connections: dict[int, Connection] = {}
        self.by_peer: dict[tuple[str, int], Connection] = {}
        self.per_source: dict[str, int] = {}
        self.waiting: dict[int, Connection] = {}  # claims of INVITEs that are not written yet
        self._number = 0
        self._family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._bound = address[0]
        self._socket = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._family == socket.AF_INET6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._socket.bind(address)
            self._socket.listen(256)
        except BaseException:
            self._socket.close()
            raise

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to accept."""
        self.loop = loop
        loop.add_reader(self._socket.fileno(), self._accept)

    def close(self) -> None:
        """Stop listening and close every connection."""
        if self.loop is not None:
            self.loop.remove_reader(self._socket.fileno())
        self._socket.close()
        for connection in list(self.connections.values()):
            connection.close()
        self.loop = None

    def _accept(self) -> None:
        for _ in range(64):
            try:
                accepted, address = self._socket.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._rest()
                return
            host = address[0].partition("%")[0]
            if len(self.connections) >= CONNECTIONS_MAX or self.per_source.get(host, 0) >= PER_SOURCE_MAX:
                accepted.close()
                continue
            self._adopt(accepted, host, address[1], connected=True)

    def _rest(self) -> None:
        """No descriptor is left: whoever waits goes on waiting, and the loop does not spin."""
        loop = self.loop
        if loop is not None:
            loop.remove_reader(self._socket.fileno())
            loop.call_later(REST_SECONDS, self._accept_again)

    def _accept_again(self) -> None:
        if self.loop is not None:
            self.loop.add_reader(self._socket.fileno(), self._accept)

    def _adopt(self, sock: socket.socket, host: str, port: int, *, connected: bool) -> Connection:
        assert self.loop is not None
        self._number += 1
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, 1)
        flow = Flow(self.listener, host, port, self._number)
        connection = Connection(self, sock, flow, connected=connected)
        self.connections[self._number] = connection
        self.by_peer[host, port] = connection
        self.per_source[host] = self.per_source.get(host, 0) + 1
        return connection

    def send(self, flow: Flow, data: bytes, claim: int) -> None:
        """Over the flow's connection, else another one to the peer, else a new one (RFC 3261 §18.1.1, §18.2.2)."""
        connection = self.connections.get(flow.connection) if flow.connection else None
        if connection is None:
            # A response whose connection is gone goes to the address in its Via, a request to its target.
            host, port = flow.fallback or (flow.host, flow.port)
            connection = self.by_peer.get((host, port)) or self._open(host, port, data)
            if connection is None:
                return
        connection.send(data, claim)

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

    def _open(self, host: str, port: int, data: bytes) -> Connection | None:
        assert self.loop is not None
        try:
            sock = socket.socket(self._family, socket.SOCK_STREAM)
        except OSError:  # no descriptor left
            self.loop.call_soon(self._undelivered, data)
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
            self.loop.call_soon(self._undelivered, data)
            return None
        return self._adopt(sock, host, port, connected=False)

    def _undelivered(self, data: bytes) -> None:
        self.owner.undelivered(data)
        self.owner.turn_ends()


class Connection:
    """One stream. `unsent` is what the kernel has not taken: bytes, and the claim of the INVITE they are of."""

    __slots__ = (
        "_closing",
        "_connected",
        "_framer",
        "_listener",
        "_socket",
        "_unsent",
        "_unsent_size",
        "_writing",
        "flow",
    )

    def __init__(self, listener: TcpListener, sock: socket.socket, flow: Flow, *, connected: bool) -> None:
        self.flow = flow
        self._listener = listener
        self._socket = sock
        self._framer = Framer()
        self._unsent: deque[tuple[bytes, bytes, int]] = deque()  # what is left, the whole message, its claim
        self._unsent_size = 0
        self._connected = connected
        self._writing = False
        self._closing = False
        assert listener.loop is not None
        if connected:
            listener.loop.add_reader(sock.fileno(), self._readable)
        else:
            self._want_write()
            listener.loop.call_later(CONNECT_SECONDS, self._too_slow)

    def _too_slow(self) -> None:
        if not self._connected:
            self.close()

    def _readable(self) -> None:
        owner = self._listener.owner
        try:
            data = self._socket.recv(READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        now = monotonic()
        head: bytes | None = None
        try:
            messages = self._framer.feed(data)
        except Broken as fault:
            messages, head = fault.messages, fault.head  # not the exception: it would hold this very frame
        for message in messages:
            if message == Framer.PING:
                self.send(b"\r\n", 0)  # RFC 5626 §4.4.1
            else:
                owner.received(message, self.flow, now)
        if head is not None:
            assert self._listener.loop is not None
            self._listener.loop.remove_reader(self._socket.fileno())
            owner.broken(head, self.flow, now)
        owner.turn_ends()

    def send(self, data: bytes, claim: int) -> None:
        if self._unsent or not self._connected or (claim and self._kernel_holds()):
            self._unsent.append((data, data, claim))
            self._unsent_size += len(data)
            if claim:
                self._listener.waiting[claim] = self
            if self._unsent_size > UNSENT_MAX:
                self.close()
            else:
                self._want_write()
            return
        self._write(data, data, claim)

    def _kernel_holds(self) -> bool:
        """Whether the kernel still holds bytes that it could not send: an INVITE written now would arrive at
        nobody knows what time."""
        try:
            answer = fcntl.ioctl(self._socket.fileno(), _SIOCOUTQNSD, b"\0\0\0\0")
        except OSError:
            return False
        return bool(struct.unpack("i", answer)[0])

    def _write(self, left: bytes, whole: bytes, claim: int) -> bool:
        """False when the kernel did not take all of it."""
        try:
            count = self._socket.send(left)
        except BlockingIOError:
            count = 0
        except OSError:
            self._unsent.appendleft((left, whole, claim))
            self.close()
            return False
        if count < len(left):
            self._unsent.appendleft((left[count:], whole, claim))
            self._unsent_size += len(left) - count
            self._want_write()
            return False
        if claim:
            self._listener.waiting.pop(claim, None)
            self._listener.owner.delivered(claim, monotonic())
        return True

    def withdraw(self, claim: int) -> None:
        """Take an INVITE from the queue. One that has begun to go out must go on, but nobody waits for it."""
        kept: deque[tuple[bytes, bytes, int]] = deque()
        for left, whole, held in self._unsent:
            if held != claim:
                kept.append((left, whole, held))
            elif left is not whole:
                kept.append((left, whole, 0))
            else:
                self._unsent_size -= len(left)
        self._unsent = kept

    def _want_write(self) -> None:
        if not self._writing and self._listener.loop is not None:
            self._writing = True
            self._listener.loop.add_writer(self._socket.fileno(), self._writable)

    def _writable(self) -> None:
        if not self._connected:
            error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self.close()
                return
            self._connected = True
            assert self._listener.loop is not None
            self._listener.loop.add_reader(self._socket.fileno(), self._readable)
        while self._unsent:
            left, whole, claim = self._unsent.popleft()
            self._unsent_size -= len(left)
            if claim and left is whole and self._kernel_holds():
                self._unsent.appendleft((left, whole, claim))
                self._unsent_size += len(left)
                return  # writable again when the kernel has sent what it holds (TCP_NOTSENT_LOWAT)
            if not self._write(left, whole, claim):
                return
        if self._listener.loop is not None and self._writing:
            self._writing = False
            self._listener.loop.remove_writer(self._socket.fileno())
        if self._closing:
            self.close()
        self._listener.owner.turn_ends()

    def close_after_sending(self) -> None:
        self._closing = True
        if not self._unsent:
            self.close()

    def close(self) -> None:
        """Close now; requests that were not sent are undeliverable."""
        listener = self._listener
        number = self.flow.connection
        if listener.connections.pop(number, None) is None:
            return
        left = listener.per_source[self.flow.host] - 1
        if left:
            listener.per_source[self.flow.host] = left
        else:
            del listener.per_source[self.flow.host]
        if listener.by_peer.get((self.flow.host, self.flow.port)) is self:
            del listener.by_peer[self.flow.host, self.flow.port]
        if listener.loop is not None:
            if self._connected:
                listener.loop.remove_reader(self._socket.fileno())
            if self._writing:
                listener.loop.remove_writer(self._socket.fileno())
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._socket.close()
        unsent, self._unsent = self._unsent, deque()
        for _, whole, claim in unsent:
            listener.waiting.pop(claim, None)
            listener.owner.undelivered(whole)
        if unsent:
            listener.owner.turn_ends()
