"""One call: an INVITE that would open a dialog, from its arrival to its last line given back.

    ASKING ──claim──▸ TRYING ──2xx──▸ UP ──BYE…──▸ OVER
       └── refused, cancelled, 3xx–6xx, no gateway left ──▸ OVER

A call is the user of its server transaction and of every client transaction it tries: it is the response context
of RFC 3261 §16.7 for attempts that follow each other, trunk gateways for an outbound call, the PBX for an
inbound one. Whatever it holds is given back in `end`, and only there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.policy.claim import Claim, Verdict
from callgate.proxy.answer import DRAINING, Refusal, refused_by_limit, reply
from callgate.proxy.attempts import Attempts
from callgate.proxy.commands import Alert, Record, Release, Renew
from callgate.proxy.context import ASKING, OVER, TRYING, UP
from callgate.proxy.copies import ASK_SECONDS, LEASE
from callgate.proxy.dialog import Side, Stage
from callgate.proxy.flow import Flow
from callgate.proxy.peers import Key
from callgate.proxy.record import PAST
from callgate.proxy.token import INBOUND
from callgate.proxy.transactions import AnyServer, InviteClientTransaction
from callgate.proxy.vitals import look
from callgate.sip.message import FROM, TO, Message
from callgate.sip.transaction import LIFE, NEVER

if TYPE_CHECKING:
    from callgate.proxy.core import Core

NO_ACK = 2 * LIFE
"""Seconds after the answer when a call whose ACK never came is over: its callee gave up after 64*T1 and repeated
its BYE as long again (RFC 3261 §13.3.1.4)."""
LINGER = 40.0
"""Seconds an ended call is remembered, for what comes late."""
SPARE = 60.0
"""Seconds that a lease outlasts the longest call, so that the call's own end comes first."""


class Call(Attempts):
    """`leg` is the number of the call, unique over restarts, and the id of its claim.

    `caller` and `callees` are the sides of the dialog: whoever answered first, then further callees with To tags of
    their own (RFC 3261 §12.1.2). `to_line` is the To of the answer.
    """

    __slots__ = ("from_line", "to_line")

    def __init__(
        self,
        core: Core,
        leg: int,
        key: Key,
        direction: int,
        request: Message,
        server: AnyServer,
        flow: Flow,
        now: float,
    ) -> None:
        super().__init__(core, leg, key, direction, request, server, flow, now)
        self.from_line = b""
        self.to_line = b""
        server.user = self
        core.live_calls += 1

    # -- admission ---------------------------------------------------------------------------------------

    def ask(self, now: float) -> None:
        """Claim everything that the call needs, at once."""
        server, request = self.server, self.request
        assert server is not None and request is not None
        core = self.core
        inbound = self.direction == INBOUND
        if core.draining and not (inbound and self.free):
            self.refuse(DRAINING, now)
            return
        core.layer.respond(server, 100, reply(request, 100), now)
        key = self.key
        if inbound:
            parts = key.inbound_free if self.free else key.inbound
        else:
            parts = key.lines if self.free else key.claims(now)[0]
        core.ask(self, key, Claim(self.leg, parts, now + ASK_SECONDS, LEASE), now)

    def on_verdict(self, claim_id: int, verdict: Verdict, now: float) -> None:
        """The store has answered, or has not in time."""
        if claim_id != self.leg:
            self.copies.answered(self, claim_id, verdict, now)
        elif self.phase is not ASKING:
            if verdict.granted:
                self.core.out.append(Release(claim_id))
        elif verdict.granted:
            self.copies.granted += (claim_id,)
            self.phase = TRYING
            self.core.counts.call_up(self.key, self.direction)
            self.attempt(claim_id, now)
        else:
            self.refuse(refused_by_limit(verdict.rule, verdict.value, verdict.limit, verdict.note), now)

    def nowhere(self, code: int, why: str, now: float) -> None:
        """There is nobody to bring the call to (RFC 3261 §16.5: an empty target set)."""
        self.record.reason = why
        self.answer(code, [], now)

    def refuse(self, refusal: Refusal, now: float) -> None:
        """Answer the call with what the gate decided, and say why to a PBX."""
        inbound = self.direction == INBOUND
        record = self.record
        record.verdict, record.outcome = "refused", "refused"
        record.rule, record.value, record.limit = refusal.rule, refusal.value, refusal.limit
        record.reason = refusal.note or refusal.text
        if refusal.limit:
            alert = Alert(
                refusal.rule,
                "warning",
                self.key.id,
                f"breach avoided: {refusal.text} would have been {refusal.value}/{refusal.limit}",
                refusal.value,
                refusal.limit,
            )
            self.core.alert(alert, now)
        self.answer(
            refusal.inbound_code if inbound else refusal.code, [] if inbound else refusal.headers(), now
        )

    # -- what attempts lead to ---------------------------------------------------------------------------

    def known_by(self, token: bytes) -> None:
        self.core.by_token[token] = self
        self.tokens += (token,)

    def answered(
        self, client: InviteClientTransaction, response: Message, side: Side | None, now: float
    ) -> None:
        """The call is up. What was needed to try targets is not needed any more."""
        self.callees = tuple(sorted(self.callees, key=lambda other: other is not side))
        self.record.answer_at = self.up_at = now
        self.record.final_code = response.code
        request = self.request
        assert request is not None
        self.from_line = request.lines[request.at[FROM]]
        self.to_line = b"To: " + response.value(TO)
        self.request = self.routes = self.dialled = self.best = None
        longest = self.key.max_call_seconds
        self.core.out.append(Renew(self.leg, NEVER if longest is None else longest + SPARE))
        first = self.core.directory.probing.earliest
        self._wake(now + min(NO_ACK, longest or NO_ACK, first))

    def picked_up_late(
        self, client: InviteClientTransaction, response: Message, first: bool, told: bool, now: float
    ) -> None:
        self.core.late.heard(self, client, response, first, told, now)

    def remember(self, until: float) -> None:
        """Keep an ended call in memory, for what is still to come inside its dialogs."""
        self.due = max(self.due, until)

    # -- its own timer -----------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """The call's own timer: Timer C and silent gateways before the answer, then the missing ACK and the
        longest call."""
        self.due = NEVER
        if self.phase is TRYING:
            self.expire_trying(now)
        elif self.phase is UP:
            self._expire_up(now)
        elif self.phase is OVER:
            self.core.forget(self)

    def _expire_up(self, now: float) -> None:
        answered, longest = self.record.answer_at, self.key.max_call_seconds
        assert answered is not None
        until = NEVER if longest is None else answered + longest
        if now >= until:
            up = [side for side in self.callees if side.stage is Stage.UP]
            if not up or any(side.vitals is not None for side in up):  # else the gate hangs up already
                self.record.rule = "C1"
                self.record.reason = f"max_call_seconds {longest:g} reached"
                self.core.hang_up(self, now)
            return
        if not self._acknowledged and now >= self.up_at + NO_ACK:
            self._never_acknowledged(now)
        if self.phase is UP:
            self._wake(until if self._acknowledged else min(until, self.up_at + NO_ACK))
            self.look_again(now)

    @property
    def _acknowledged(self) -> bool:
        """Whether the caller has acknowledged every dialog that is up."""
        return bool(self.callees) and all(x.acknowledged for x in self.callees if x.stage is Stage.UP)

    def _never_acknowledged(self, now: float) -> None:
        """Callees whose ACK never came have given up."""
        self.core.counts.reaped(self.key, "no_ack")
        reason = "the answer was never acknowledged"
        for side in self.callees or (None,):
            if side is None or (side.stage is Stage.UP and not side.acknowledged):
                self.dialog_over(side, now, "caller", reason)

    def look_again(self, now: float) -> None:
        """What is known of the life of its dialogs has changed, or it is time to ask."""
        due = look(self, now)
        if self.phase is UP and due < self.due:
            self._wake(due)

    def dialog_over(self, side: Side | None, now: float, ended_by: str, reason: str = "") -> None:
        """The dialog with one callee has ended. A call that was forked is over with the last of them; before the
        answer it is the INVITE's final answer that counts."""
        if side is not None:
            self.core.late.over(self.call_id, side.tag)
        if self.phase is not UP:
            return
        if side is not None:
            side.stage = Stage.OVER
        if not any(callee.stage is Stage.UP for callee in self.callees):
            self.record.reason = reason or self.record.reason
            self.end(now, ended_by)

    # -- the end -----------------------------------------------------------------------------------------

    def end(self, now: float, ended_by: str = "") -> None:
        """Give back all that the call holds. Whatever ends a call comes here; the second time is nothing."""
        if self.phase is OVER:
            return
        core, record = self.core, self.record
        if self.phase is not ASKING:
            core.counts.call_down(self.key, self.direction)
        self.phase = OVER
        for client in self.attempts:
            self.copies.stop(self, client)
        self.copies.release(self)
        record.end_at = now
        record.call_id = self.call_id.decode("utf-8", "replace")
        if record.answer_at is not None:
            record.outcome = "answered"
        record.ended_by = ended_by or record.ended_by
        core.live_calls -= 1
        core.counts.ended(record)
        core.out.append(Record(record))
        # What is remembered of it from here on is little: many calls end within LINGER.
        self.request = self.routes = self.dialled = self.best = None
        self.groups = ()
        self.challenges = ()
        self.from_line = self.to_line = b""
        self.record = PAST
        self._wake(now + LINGER)
