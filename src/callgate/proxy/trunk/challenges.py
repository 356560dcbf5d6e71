"""Challenges of the trunk (401, 407) that went on to the caller, who may answer each once, with the same call sent
again: that takes no token, and is the same call to whoever counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from callgate.proxy.telemetry.record import CallRecord
from callgate.sip.message import Message
from callgate.sip.transaction import NEVER

if TYPE_CHECKING:
    from callgate.proxy.calls.context import Context
    from callgate.proxy.calls.targets import Target
    from callgate.proxy.wheel import Wheel

SECONDS: Final = 10.0
"""How long a caller has to answer."""
MOST: Final = 10_000

Name = tuple[bytes, bytes, bytes]
"""Call-ID, From tag, Request-URI."""


class Challenged:
    """An INVITE of a key that the trunk has challenged: its CSeq, when, who, and the id of its record, which is that
    of the re-send too. `uncounted`: its record once it has ended, if nobody has answered yet."""

    __slots__ = ("at", "by", "cseq", "key", "name", "record", "uncounted")

    def __init__(self, name: Name, key: str, cseq: int, at: float, by: Target | None, record: int) -> None:
        self.name = name
        self.key = key
        self.cseq = cseq
        self.at = at
        self.by = by
        self.record = record
        self.uncounted: CallRecord | None = None


class Challenges:
    """`count(record)` counts a call that has ended. Waits in the wheel, as one for all of them."""

    def __init__(self, wheel: Wheel, count: Callable[[CallRecord], None]) -> None:
        self._wheel = wheel
        self._count = count
        self._open: dict[Name, Challenged] = {}
        self._order: deque[Challenged] = deque()  # as they came; answered ones too
        self.due = NEVER
        self.slot = 0

    def passed_on(self, call: Context, uri: bytes, now: float) -> None:
        """The challenge goes to the caller."""
        while len(self._order) >= MOST:
            self._over(self._order.popleft())
        name = (call.call_id, call.caller.tag, uri)
        earlier = self._open.get(name)
        if earlier is not None:
            self._over(earlier)
        one = Challenged(name, call.key.id, call.caller.cseq, now, call.challenger, call.record.id)
        self._open[name] = one
        self._order.append(one)
        if self.due == NEVER:
            self.due = now + SECONDS
            self._wheel.add(self)

    def ended(self, call: Context, uri: bytes) -> bool:
        """A call ends with a challenge. True: it is counted later, when nobody answers, or with what answers."""
        one = self._open.get((call.call_id, call.caller.tag, uri))
        if one is None or one.record != call.record.id:
            return False
        one.uncounted = call.record
        return True

    def answered_by(self, call: Context, request: Message, now: float) -> Challenged | None:
        """What a new call answers that is the re-send with credentials of one that the trunk has seen: it needs no
        token, and has one record with that. Who has asked for them: nobody else knows that nonce."""
        if not self._open:
            return None
        one = self._open.get((request.call_id, request.from_tag, request.uri))
        if one is None or one.key != call.key.id:
            return None  # another contract pays for itself
        if request.cseq_number == one.cseq + 1 and now - one.at <= SECONDS:
            one.uncounted = None  # it is the same call, and has not ended
            call.record.id = one.record
            del self._open[one.name]
            return one
        self._over(one)
        return None

    def asked_again(self, request: Message) -> None:
        """The re-send meets a challenge of the gate's own: the next one is that re-send."""
        one = self._open.get((request.call_id, request.from_tag, request.uri)) if self._open else None
        if one is not None and request.cseq_number == one.cseq + 1:
            one.cseq += 1

    def expire(self, now: float) -> None:
        """Nobody has answered in time."""
        order = self._order
        while order and order[0].at + SECONDS <= now:
            self._over(order.popleft())
        self.due = order[0].at + SECONDS if order else NEVER

    def _over(self, one: Challenged) -> None:
        if self._open.get(one.name) is one:
            del self._open[one.name]
        if one.uncounted is not None:
            self._count(one.uncounted)
            one.uncounted = None
