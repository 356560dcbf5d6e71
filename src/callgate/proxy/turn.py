"""A call that may have to wait for a token of the rate (`pacing`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from callgate.policy.claim import Verdict
from callgate.proxy.answer import DRAINING, Refusal
from callgate.proxy.commands import Journal
from callgate.proxy.context import Phase
from callgate.proxy.journal import queued
from callgate.proxy.lanes import Host, Parts, Rank, Ticket
from callgate.sip.transaction import NEVER

if TYPE_CHECKING:
    from callgate.proxy.call import Call


DISPLACED: Final = {
    "moved": Refusal("V1", "a reload has moved its key to another trunk while the call waited", 503, 486),
    "removed": Refusal("V1", "a reload has removed its key while the call waited", 503, 486),
}


class Turn(Ticket):
    """A call that may have to wait for a token of the rate."""

    __slots__ = ("call",)

    def __init__(self, call: Call, now: float) -> None:
        seconds = call.key.queue_seconds
        super().__init__(call.key, Rank.CALL, now, NEVER if seconds is None else now + seconds)
        self.call = call

    def parts(self, now: float) -> Parts:
        call = self.call
        call.parts = call.claims(now, self.key)
        return call.parts

    def next_claim(self, host: Host) -> int:
        return self.call.leg

    def told(self, verdict: Verdict, now: float) -> None:
        call = self.call
        call.turn = None
        if self.delayed:
            call.record.waited = now - self.since
            call.tell(now, "leaves", call.record.waited)
        call.on_verdict(call.leg, verdict, now)

    def waits(self, verdict: Verdict | None, now: float) -> None:
        call = self.call
        if verdict is not None:
            call.breach_avoided(call.why(verdict), now)
            call.tell(now, "waits", verdict.rule, verdict.value, verdict.limit)
        else:
            call.tell(now, "waits")
        if call.core.journals:
            call.core.out.append(Journal(queued(call, now)))

    def caller_gone(self, now: float) -> None:
        self.leaves("the caller's connection is closed", now)

    def leaves(self, why: str, now: float) -> None:
        """Its caller is gone."""
        call = self.call
        call.cancelled = True
        call.record.reason = why
        call.answer(487, [], now)

    def drained(self, now: float) -> None:
        self.call.turn = None
        self.call.refuse(DRAINING, now)

    def reloaded(self, now: float) -> None:
        call, core = self.call, self.call.core
        call.key, call.trunk = self.key, self.key.trunk
        call.groups = core.outside.gateways(call, now)
        if not call.groups:
            core.pacing.leave(self, now)
            call.turn = None
            call.refuse(core.trunks.refusal(self.key, now), now)

    def displaced(self, how: str, now: float) -> None:
        self.call.turn = None
        self.call.refuse(DISPLACED[how], now)

    @property
    def gone(self) -> bool:
        return self.call.phase is not Phase.ASKING or self.call.server is None

    @property
    def connection(self) -> int:
        server = self.call.server
        return server.flow.connection if server is not None else 0
