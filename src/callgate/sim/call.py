"""One call as one side of it sees it, its transactions, and the repeating of what UDP may have lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from callgate.sim.udp import Address
from callgate.sip.message import Message

T1 = 0.5
"""The first interval between two copies, seconds (RFC 3261 §17.1.1.1)."""
CAPPED = 8
"""T2 / T1: the longest interval of all but INVITE requests, in units of T1."""


class Phase(Enum):
    CALLING = "calling"  # no answer but perhaps 100
    RINGING = "ringing"  # 18x
    UP = "up"  # 2xx
    ENDED = "ended"


class Repeat:
    """Sends now and again after T1, 2·T1, … until stopped; at 64·T1 it gives up and calls `gave_up`."""

    def __init__(
        self, send: Callable[[], None], t1: float, *, capped: bool, gave_up: Callable[[], None] | None = None
    ) -> None:
        self._send = send
        self._interval = t1
        self._longest = t1 * CAPPED if capped else float("inf")
        self._gave_up = gave_up
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(t1, self._again)
        self._end: asyncio.TimerHandle | None = self._loop.call_later(64 * t1, self._over)
        send()

    @property
    def running(self) -> bool:
        return self._end is not None

    def stop(self) -> None:
        for timer in (self._timer, self._end):
            if timer is not None:
                timer.cancel()
        self._timer = self._end = None

    def _again(self) -> None:
        self._interval = min(2 * self._interval, self._longest)
        self._timer = self._loop.call_later(self._interval, self._again)
        self._send()

    def _over(self) -> None:
        self.stop()
        if self._gave_up is not None:
            self._gave_up()


@dataclass(slots=True, eq=False)
class Call:
    """A dialog, or what may become one (RFC 3261 §12)."""

    outgoing: bool
    """This side sent the INVITE."""
    call_id: bytes
    uri: bytes
    """The Request-URI of the INVITE."""
    local: bytes
    """Value of From (outgoing) or To (incoming) with this side's tag."""
    remote: bytes
    target: bytes
    """Where requests inside the dialog are addressed: the other side's Contact."""
    peer: Address
    route: list[bytes] = field(default_factory=list)
    """Route values in order of use."""
    cseq: int = 1
    phase: Phase = Phase.CALLING
    leaving: bool = False
    """This side has decided to end it; the other side may not know yet."""
    code: int = 0
    """The final answer to the INVITE, 0 before it; 408 is made up here when none came."""
    final: Message | None = None
    """That answer as it came (outgoing calls)."""
    bye_code: int = 0
    """What this side's BYE was answered with, 0 before; 408 is made up here when nothing came."""
    rang: bool = False
    invite: Message | None = None
    """The INVITE as it came (incoming calls)."""
    source: Address = ("", 0)
    branch: bytes = b""
    provisional: bool = False
    cancelled: bool = False
    ack: bytes = b""
    answering: Repeat | None = None
    """The final answer that waits for its ACK (incoming calls)."""
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    """What this side means to do with the call; void once it has ended."""

    @property
    def local_tag(self) -> bytes:
        return self.local.rpartition(b";tag=")[2]


@dataclass(slots=True, eq=False)
class Client:
    """A request that waits for its final answer, or (INVITE) for copies of it."""

    call: Call
    peer: Address
    repeat: Repeat
    uri: bytes
    acked: bytes = b""


@dataclass(slots=True, eq=False)
class Server:
    """A request that was received, and the last answer given to it."""

    request: Message
    source: Address
    last: bytes = b""
    call: Call | None = None
    repeat: Repeat | None = None
