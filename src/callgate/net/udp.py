"""UDP listeners: non-blocking sockets under the event loop.

An asyncio transport hides when the kernel took a datagram, and drops ICMP errors of a socket that is not connected.
The gate needs both: a token counts from the moment its INVITE was handed over, and an unreachable gateway is to
be left at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import select
import socket
from collections import deque
from collections.abc import Callable
from time import monotonic

from callgate.net.capture import Tap
from callgate.net.shield import Shield
from callgate.proxy.flow import Flow, Listener

BATCH = 64
"""Datagrams read before other work gets its turn."""
DROPPED_AT_ONCE = 2_048
"""Datagrams of strangers thrown away before other work gets its turn: what waits behind a flood must not wait long."""
COUNT_SECONDS = 0.02
BUSY_WAKES = 30
"""More wake-ups than this in COUNT_SECONDS (1,500 a second): the socket is polled instead."""
POLL_SECONDS = 0.001
IDLE_POLLS = 5
RECEIVE_BUFFER = 4 << 20
"""Octets that are asked for; Linux gives no more than `net.core.rmem_max`, and counts them twice (socket(7))."""
FLOWS_MAX = 16_384
"""Known peers remembered in one generation of two: what is in neither is looked up again."""
TRIES = 8
"""How often a datagram is handed to the kernel that reports errors of others."""
_BY_ICMP = frozenset((errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EMSGSIZE))
_IP_RECVERR, _IPV6_RECVERR, _MSG_ERRQUEUE = 11, 25, 0x2000

Received = Callable[[bytes, Flow, float], None]


def buffer_fault(octets: int) -> str:
    """What is lost for want of a larger receive buffer, and the remedy; empty where it is large enough."""
    if octets >= RECEIVE_BUFFER:
        return ""
    return f"{octets} octets: a burst of more is lost in the kernel; sysctl -w net.core.rmem_max={RECEIVE_BUFFER}"


class UdpSocket:
    """One bound socket. `received(data, flow, now)` gets every datagram that the shield lets through,
    `undelivered(data)` the beginning of what ICMP brought back, `delivered(claim_id, now)` hears of copies of initial
    INVITEs that the kernel has taken, `rejected(reason, count)` of what was thrown away. `short_of`: see
    `buffer_fault`."""

    def __init__(
        self,
        listener: Listener,
        address: tuple[str, int],
        received: Received,
        undelivered: Callable[[bytes], None],
        delivered: Callable[[int, float], None],
        turn_ends: Callable[[], None],
        rejected: Callable[[str, int], None],
        shield: Shield,
    ) -> None:
        self.listener = listener
        self._received = received
        self._undelivered = undelivered
        self._delivered = delivered
        self._turn_ends = turn_ends
        self._rejected = rejected
        self._shield = shield
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, RECEIVE_BUFFER)
            self.short_of = buffer_fault(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2)
            if family == socket.AF_INET6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            with contextlib.suppress(OSError):  # not Linux
                if family == socket.AF_INET6:
                    self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
                else:
                    self._socket.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            self._socket.bind(address)
        except BaseException:
            self._socket.close()
            raise
        self._buffer = bytearray(65_536)
        self._view = memoryview(self._buffer)
        # Known peers, by the address as the kernel gives it. No stranger is ever in here.
        self._flows: dict[tuple[str, int], Flow] = {}
        self._earlier: dict[tuple[str, int], Flow] = {}
        self._tap: Tap | None = None
        self._here = address
        self._unsent: deque[tuple[bytes, tuple[str, int], int]] = deque()
        self._flushing = False
        self._watch: select.epoll | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._counted_from = 0.0
        self._wakes = 0
        self._idle_polls = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to read."""
        self._loop = loop
        if hasattr(select, "epoll"):
            # libuv gives up a descriptor that reports an error, for good, and ICMP is an error to a socket: so the
            # loop watches an epoll that watches the socket, which is only ever readable.
            self._watch = select.epoll()
            self._watch.register(self._socket.fileno(), select.EPOLLIN)
        loop.add_reader(self._watched, self._readable)

    def show(self, tap: Tap) -> None:
        """Have `tap` see every datagram that the shield lets through, and every one that the kernel has taken."""
        self._tap, self._here = tap, self._socket.getsockname()[:2]
        here, received = self._here, self._received

        def shown(data: bytes, flow: Flow, now: float) -> None:
            tap(False, data, self.listener, here, (flow.host, flow.port))
            received(data, flow, now)

        self._received = shown

    @property
    def _watched(self) -> int:
        """The descriptor that the loop watches for something to read."""
        return self._socket.fileno() if self._watch is None else self._watch.fileno()

    def close(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._watched)
            self._loop = None
        if self._watch is not None:
            self._watch.close()
        self._socket.close()

    def _readable(self) -> None:
        """The loop says that there is something to read."""
        now = monotonic()
        self._wakes += 1
        if now - self._counted_from > COUNT_SECONDS:
            busy = self._wakes > BUSY_WAKES
            self._counted_from, self._wakes = now, 0
            if busy and self._loop is not None:
                # Waking up costs more than a message: from here on the socket is emptied every millisecond, until
                # there is less to do (as network cards moderate their interrupts).
                self._loop.remove_reader(self._watched)
                self._idle_polls = 0
                self._loop.call_later(POLL_SECONDS, self._poll)
        if self._read(1) == 0:
            self._take_errors()  # woken for nothing: an error that a call to send has taken notice of

    def _poll(self) -> None:
        """Empty the socket; go back to being woken when it stays empty."""
        if self._loop is None:
            return
        if self._idle_polls < IDLE_POLLS:
            self._loop.call_later(POLL_SECONDS, self._poll)  # first, so that nothing in between can end it
            self._idle_polls = 0 if self._read(BATCH) else self._idle_polls + 1
        else:
            self._counted_from, self._wakes = monotonic(), 0
            self._loop.add_reader(self._watched, self._readable)

    def _read(self, most: int) -> int:
        """Take up to `most` datagrams, not counting those of strangers that are thrown away; how many there were."""
        receive, view, buffer = self._socket.recvfrom_into, self._view, self._buffer
        flows, received = self._flows, self._received
        taken = dropped = 0
        while taken < most and dropped < DROPPED_AT_ONCE:
            try:
                count, address = receive(view)
            except BlockingIOError:
                break
            except OSError:
                self._take_errors()
                taken += 1
                break
            source = address[:2]
            flow = flows.get(source)
            if flow is None:
                now = monotonic()
                flow = self._meet(source, now)
                if flow is None:
                    dropped += 1
                    continue
                received(bytes(buffer[:count]), flow, now)
                if flow.known:
                    self._remember(source, flow)
                    flows = self._flows
            else:
                received(bytes(buffer[:count]), flow, monotonic())
            taken += 1
        if dropped:
            self._rejected("stranger flood", dropped)
        # All answers together: what goes out in one burst wakes the other side once.
        self._turn_ends()
        return taken + dropped

    def _meet(self, source: tuple[str, int], now: float) -> Flow | None:
        """The flow of somebody who is not among the known peers; None for a stranger of whom there is too much."""
        known = self._earlier.get(source)
        if known is not None:
            return known
        host = source[0].partition("%")[0]
        shield = self._shield
        if shield.is_stranger(host):
            return Flow(self.listener, host, source[1]) if shield.admits(host, now) else None
        flow = Flow(self.listener, host, source[1])
        return flow if shield.knows(flow) or shield.admits(host, now) else None

    def _remember(self, source: tuple[str, int], flow: Flow) -> None:
        if len(self._flows) >= FLOWS_MAX:
            self._earlier, self._flows = self._flows, {}
        self._flows[source] = flow

    def vouch(self, flow: Flow) -> None:
        """The gate itself sends requests there: what comes from there is no stranger's."""
        source = (flow.host, flow.port)
        if source not in self._flows:
            there = Flow(self.listener, *source)
            there.known = True
            self._remember(source, there)

    def _take_errors(self) -> None:
        """What ICMP said, with the datagrams that it said it of."""
        for _ in range(BATCH):
            try:
                data, _, _, _ = self._socket.recvmsg(65_535, 512, _MSG_ERRQUEUE)
            except OSError:
                break
            self._undelivered(data)
        self._turn_ends()

    def send(self, data: bytes, host: str, port: int, claim: int) -> None:
        if self._unsent:
            self._unsent.append((data, (host, port), claim))
            self._flush_soon()  # should a fault have ended the last flush half-way
            return
        self._send(data, (host, port), claim)

    def _send(self, data: bytes, address: tuple[str, int], claim: int) -> bool:
        """False when the kernel takes no more now: the datagram waits."""
        for tried in range(1, TRIES + 1):
            try:
                self._socket.sendto(data, address)
            except BlockingIOError:
                return self._wait(data, address, claim)
            except OSError as error:
                # An earlier datagram's ICMP error is reported by the next call, whatever that does, and more of them
                # may come in between: ask again, for it says nothing about this one.
                if tried == 1 and error.errno in _BY_ICMP:
                    self._loop_soon(self._take_errors)
                if tried == TRIES or (tried > 1 and error.errno not in _BY_ICMP):
                    self._loop_soon(self._undelivered_later, data)
                    return True
            else:
                break
        if self._tap is not None:
            self._tap(True, data, self.listener, self._here, address)
        if claim:
            self._delivered(claim, monotonic())
        return True

    def _wait(self, data: bytes, address: tuple[str, int], claim: int) -> bool:
        self._unsent.appendleft((data, address, claim))
        self._flush_soon()
        return False

    def _flush_soon(self) -> None:
        if not self._flushing and self._loop is not None:
            self._flushing = True  # by the clock: a writer that libuv watches ends with the first ICMP error
            self._loop.call_later(POLL_SECONDS, self._flush)

    def withdraw(self, claim: int) -> bool:
        """Take back what waits under a claim; True where something did."""
        if not self._unsent:
            return False
        kept = deque(waiting for waiting in self._unsent if waiting[2] != claim)
        found = len(kept) != len(self._unsent)
        self._unsent = kept
        return found

    def _undelivered_later(self, data: bytes) -> None:
        self._undelivered(data)
        self._turn_ends()

    def _loop_soon(self, call: Callable[..., None], *arguments: object) -> None:
        if self._loop is not None:
            self._loop.call_soon(call, *arguments)

    def _flush(self) -> None:
        """Send what waited for room in the kernel."""
        self._flushing = False
        while self._unsent and self._loop is not None:
            data, address, claim = self._unsent.popleft()
            if not self._send(data, address, claim):
                return
        self._turn_ends()
