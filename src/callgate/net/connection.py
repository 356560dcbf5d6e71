"""One TCP connection, on a raw socket: asyncio's transports don't tell when the kernel has taken a message, and a
token counts from that moment.

What is to be sent waits here as whole messages while there are unsent bytes, so that an INVITE can be taken back
until it begins to go out, and none is written behind bytes that the kernel still holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import socket
import struct
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final

from callgate.proxy.flow import UNKNOWN, Flow, Trouble
from callgate.proxy.wheel import NEVER
from callgate.sip.framing import Broken, Framer

if TYPE_CHECKING:
    from callgate.net.streams import StreamListener

READ: Final = 65_536
READ_STRANGER: Final = 4_096
"""Octets taken in one go from somebody unknown: what they cost is bounded by how often they are read."""
PAUSE_SECONDS: Final = 0.1
"""A stranger that sends too often is not read for so long: the kernel's window then holds it up."""
CONNECT_SECONDS: Final = 3.5
"""For a connection that the gate opens to stand, TLS included: less than OPTIONS wait for their answer by default, so
that they know why there is none."""
UNREACHED: Final = Trouble(
    "no answer to the connection in time",
    "see whether it listens at that address, port and transport, and whether a firewall lets the gate through",
)
STALL_SECONDS: Final = 32.0
"""A peer that takes nothing for so long has gone: no transaction lives longer (64*T1)."""
UNSENT_MAX: Final = 1 << 20
"""Octets that may wait for a slow reader; beyond that the connection is closed."""
PONG: Final = b"\r\n"
_SIOCOUTQNSD: Final = 0x894B
_TOP_VIA: Final = re.compile(
    rb"\r\n(?:Via|v)[ \t]*+:[ \t]*+SIP[ \t]*+/[ \t]*+2\.0[ \t]*+/[ \t]*+[A-Za-z]++[ \t]++"
    rb"(\[[0-9A-Fa-f:.]++\]|[A-Za-z0-9\-._]++)(?:[ \t]*+:[ \t]*+([0-9]{1,5}+))?([^,\r]*+)",
    re.IGNORECASE,
)
_ALIAS: Final = re.compile(rb";[ \t]*+alias[ \t]*+(?:;|\Z)", re.IGNORECASE)


class Connection:
    """One stream. `ours`: the gate opened it. `ready`: messages can be written. `number` stands in its flow."""

    __slots__ = (
        "_begun",
        "_claim",
        "_closing",
        "_connected",
        "_framer",
        "_here",
        "_left",
        "_listener",
        "_queue",
        "_reading",
        "_seen",
        "_size",
        "_socket",
        "_stalled",
        "_whole",
        "_writing",
        "due",
        "flow",
        "heard",
        "number",
        "open",
        "ours",
        "places",
        "ready",
        "since",
        "slot",
        "trouble",
    )

    def __init__(
        self, listener: StreamListener, sock: socket.socket, flow: Flow, now: float, *, ours: bool
    ) -> None:
        self.flow = flow
        self.number = flow.connection
        self.ours = ours
        self.ready = False
        self.open = True
        self.since = self.heard = now
        self.due = NEVER
        self.slot = 0
        self.trouble = UNKNOWN  # why nothing can be sent
        self.places: tuple[tuple[str, int], ...] = ()  # whom it stands for, in the listener's table
        self._listener = listener
        self._socket = sock
        self._framer = Framer()
        self._connected = self._closing = self._writing = self._reading = self._seen = False
        self._here: tuple[str, int] | tuple[()] = ()  # our address, once somebody asks
        self._queue: deque[tuple[bytes, int]] = deque()  # messages not begun, and the claims of INVITEs
        self._size = 0  # octets of those
        # The message that has begun to go out: what is left of it, the whole of it, and its claim.
        self._left = self._whole = b""
        self._claim = 0
        self._begun = 0.0  # when what came in began to be half a message
        self._stalled = 0.0  # since when nothing of what waits could be written

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = self._listener.loop
        assert loop is not None
        return loop

    def start(self) -> None:
        """Begin to work. It may be closed when this returns."""
        if self.ours:
            self._want_write()
        else:
            self._stands()
        self._watch()

    def _stands(self) -> None:
        """The TCP connection is there."""
        self._connected = True
        self._read_on()
        self._opened()

    def _opened(self) -> None:
        """Messages can be written from now on."""
        self.ready = True
        self._listener.stands(self)

    # -- time ---------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Have the wheel look at it when it may have to be closed."""
        due, _ = self._end()
        if due < self.due or not self.slot:
            self.due = due
            self._listener.owner.wheel.add(self)

    def _end(self) -> tuple[float, str]:
        """When it is to be closed if nothing more happens, and why."""
        limits = self._listener.limits
        if not self.ready:
            end = (self.since + (CONNECT_SECONDS if self.ours else limits.handshake_seconds), "handshake")
        elif self.flow.known:
            end = (self.heard + limits.idle_seconds, "idle")
        else:
            end = (self.since + limits.stranger_seconds, "stranger")
        if self._begun:
            end = min(end, (self._begun + limits.message_seconds, "slow sender"))
        if self._stalled:
            end = min(end, (self._stalled + STALL_SECONDS, "slow reader"))
        return end

    def expire(self, now: float) -> None:
        """Something that it was given time for may be over."""
        end, why = self._end()
        if end <= now and why == "idle" and self._listener.owner.in_use(self.number):
            self.heard = now  # silence in a call is no reason
            end, why = self._end()
        if end > now:
            self.due = end
            return
        if why in ("slow sender", "slow reader") or (why == "handshake" and not self.ours):
            self._listener.owner.rejected(why)
        self.too_late(why)

    def too_late(self, why: str) -> None:
        """Its time is up."""
        if why == "handshake":
            self.trouble = UNREACHED
        self.close()

    # -- reading ------------------------------------------------------------------------------------------

    def _read_on(self) -> None:
        if self.open and not self._reading:
            self._reading = True
            self._loop.add_reader(self._socket.fileno(), self._readable)

    def _read_no_more(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket.fileno())

    def _readable(self) -> None:
        now = monotonic()
        size = READ
        if not self.flow.known:
            size = READ_STRANGER
            if not self._listener.reads(self.flow.host, now):
                self._read_no_more()
                self._loop.call_later(PAUSE_SECONDS, self._read_on)
                return
        try:
            data = self._socket.recv(size)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.heard = now
            self._take(data, now)
        else:
            self.gone()
        self._listener.owner.turn_ends()

    def _take(self, data: bytes, now: float) -> None:
        """Cut messages out of what came, and hand them on."""
        owner, flow = self._listener.owner, self.flow
        head: bytes | None = None
        try:
            messages = self._framer.feed(data)
        except Broken as fault:
            messages, head = fault.messages, fault.head  # not the exception: it would hold this very frame
        pings = 0
        for message in messages:
            if message == Framer.PING:
                pings += 1
            elif flow.known or self._listener.admits(flow.host, now):
                if self._listener.tap is not None:
                    self._show(False, message)
                owner.received(message, flow, now)
                if not self._seen:
                    self._seen = True
                    self._learn_alias(message)
            else:
                owner.rejected("stranger flood")
                self.close()
                return
        if pings and self.open:
            self.send(PONG * pings, 0)  # RFC 5626 §4.4.1
        if head is not None:
            self._begun = 0.0
            self._read_no_more()
            if self._listener.tap is not None:
                self._show(False, head)
            owner.broken(head, flow, now)
        elif self._framer.waiting < len(
            Framer.PING
        ):  # it may be half a keep-alive, which nobody owes the rest of
            self._begun = 0.0
        elif messages or not self._begun:
            self._begun = now
            self._watch()

    def _learn_alias(self, message: bytes) -> None:
        """RFC 5923 §5, §8: who opened this connection takes requests for the address in its Via on it, if it says so
        and has proven who it is: by its certificate, over TCP by being known at the address it connects from."""
        if self.ours or message.startswith(b"SIP/2.0") or b"alias" not in message:
            return
        via = _TOP_VIA.search(message)
        if via is None or not _ALIAS.search(via[3]) or not self._listener.knows(self.flow):
            return
        host = via[1].strip(b"[]").decode("ascii").lower()
        if self.flow.trust is None:
            proven = host == self.flow.host
        else:
            proven = bool(self.flow.names) and host in (self.flow.host, *self.flow.names)
        if proven:
            self._listener.alias(self, int(via[2]) if via[2] else self._listener.default_port)

    # -- writing ------------------------------------------------------------------------------------------

    def send(self, data: bytes, claim: int) -> None:
        """Write a message, or keep it until it can be written. `claim`: that of the initial INVITE it is, else 0."""
        if self._left or self._queue or not self.ready or (claim and self._kernel_holds()):
            self._queue.append((data, claim))
            self._size += len(data)
            if claim:
                self._listener.waiting[claim] = self
            if self._size + len(self._left) > UNSENT_MAX:
                self.close()
            else:
                self._want_write()
            return
        self._write(data, claim)

    def _show(self, sent: bool, message: bytes) -> None:
        """Have the listener's tap see a message."""
        tap, flow = self._listener.tap, self.flow
        if tap is None:
            return
        if not self._here:
            with contextlib.suppress(OSError):  # closed meanwhile
                self._here = self._socket.getsockname()[:2]
        listener = flow.listener
        tap(sent, message, listener, self._here or (listener.host, listener.port), (flow.host, flow.port))

    def _kernel_holds(self) -> bool:
        """Whether the kernel still holds bytes that it could not send: an INVITE written now would arrive at
        nobody knows what time."""
        try:
            answer = fcntl.ioctl(self._socket.fileno(), _SIOCOUTQNSD, b"\0\0\0\0")
        except OSError:
            return False
        return bool(struct.unpack("i", answer)[0])

    def _seal(self, message: bytes) -> bytes:
        """A message as it goes over the wire: the same object where nothing is done to it."""
        return message

    def _write(self, message: bytes, claim: int) -> bool:
        """Begin to write a message; False when the kernel did not take all of it."""
        self._left = self._seal(message)
        self._whole = message
        self._claim = claim
        return self._push()

    def _push(self) -> bool:
        """Write on at what has begun; False when the kernel did not take all of it."""
        left = self._left
        try:
            count = self._socket.send(left)
        except BlockingIOError:
            count = 0
        except OSError:
            self.gone()
            return False
        if count < len(left):
            if count:
                self._left = left[count:]
                self._stalled = 0.0
            if self._claim:
                self._listener.waiting[self._claim] = self
            self._want_write()
            return False
        if self._listener.tap is not None and self._whole:
            self._show(True, self._whole)
        self._left = self._whole = b""
        self._stalled = 0.0
        if self._claim:
            claim, self._claim = self._claim, 0
            self._listener.waiting.pop(claim, None)
            self._listener.owner.delivered(claim, monotonic())
        return True

    def withdraw(self, claim: int) -> None:
        """Take an INVITE from the queue. One that has begun to go out must go on, but nobody waits for it."""
        if self._claim == claim:
            self._claim = 0
            if self._left is self._whole:
                self._left = self._whole = b""
        elif self._queue:
            self._queue = deque(waiting for waiting in self._queue if waiting[1] != claim)
            self._size = sum(len(data) for data, _ in self._queue)

    def _want_write(self) -> None:
        if self._connected and (self._left or self._queue) and not self._stalled:
            self._stalled = monotonic()
            self._watch()
        if not self._writing and self.open:
            self._writing = True
            self._loop.add_writer(self._socket.fileno(), self._writable)

    def _writable(self) -> None:
        if not self._connected:
            error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self.trouble = Trouble(os.strerror(error).lower(), UNREACHED.advice)
                self.close()
                self._listener.owner.turn_ends()
                return
            self._stands()
        self._flush()
        self._listener.owner.turn_ends()

    def _flush(self) -> None:
        """Write what waits, as far as the kernel takes it."""
        if not self.open or (self._left and not self._push()):
            return
        while self._queue and self.ready:
            message, claim = self._queue[0]
            if claim and self._kernel_holds():
                return  # writable again when the kernel has sent what it holds (TCP_NOTSENT_LOWAT)
            self._queue.popleft()
            self._size -= len(message)
            if not self._write(message, claim):
                return
        self._stalled = 0.0
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._socket.fileno())
        if self._closing and not self._queue:
            self.close()

    # -- the end ------------------------------------------------------------------------------------------

    def gone(self) -> None:
        """The peer has closed the connection, or the kernel has given it up."""
        self.close()

    def close_after_sending(self) -> None:
        """Close once what was sent has gone."""
        self._closing = True
        if not self._left and not self._queue:
            self.close()

    def close(self) -> None:
        """Close now; requests that were not sent go another way, or are undeliverable."""
        if not self.open:
            return
        self.open = False
        self.due = NEVER
        if self._listener.loop is not None:
            self._read_no_more()
            if self._writing:
                self._loop.remove_writer(self._socket.fileno())
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._socket.close()
        unsent = self._unsent()
        self._queue.clear()
        self._left = self._whole = b""
        self._listener.closed(self, unsent)

    def _unsent(self) -> list[tuple[bytes, int]]:
        """What the peer has not got, in order: messages and claims."""
        begun = [(self._whole, self._claim)] if self._left and self._whole else []
        return [*begun, *self._queue]
