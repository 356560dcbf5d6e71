"""One call: an INVITE that would open a dialog, from its arrival to its last line given back.

    ASKING ──claim──▸ TRYING ──2xx──▸ UP ──BYE…──▸ OVER
       └── refused, cancelled, 3xx–6xx, no gateway left ──▸ OVER

A call is the user of its server transaction and of every client transaction it tries: it is the response context
of RFC 3261 §16.7 for attempts that follow each other, trunk gateways for an outbound call, the PBX for an
inbound one. Whatever it holds is given back in `end`, and only there.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

from callgate.policy.claim import Claim, Verdict
from callgate.proxy.answer import DRAINING, Refusal, rank, refused_by_limit, reply
from callgate.proxy.commands import Alert, Record, Release, Renew, Send
from callgate.proxy.copies import ASK_SECONDS, LEASE, Copies
from callgate.proxy.dialog import Side, Stage, hear
from callgate.proxy.flow import Flow
from callgate.proxy.forward import Routes, request_out, response_out
from callgate.proxy.peers import Gateway, Key
from callgate.proxy.record import OUTCOMES, PAST, CallRecord
from callgate.proxy.token import INBOUND, OUTBOUND, Token
from callgate.proxy.transactions import (
    AnyClient,
    AnyServer,
    InviteClientTransaction,
)
from callgate.sip.message import FROM, TO, Message
from callgate.sip.transaction import LIFE, NEVER, State
from callgate.sip.uri import Uri

if TYPE_CHECKING:
    from callgate.proxy.core import Core

TIMER_C = 181.0
"""Seconds without a final answer since the last 101–199 (RFC 3261 §16.6 step 11: more than 3 minutes)."""
NO_ACK = 2 * LIFE
"""Seconds after the answer when a call whose ACK never came is over: its callee gave up after 64*T1 and repeated
its BYE as long again (RFC 3261 §13.3.1.4)."""
LINGER = 40.0
"""Seconds an ended call is remembered, for what comes late."""
SPARE = 60.0
"""Seconds that a lease outlasts the longest call, so that the call's own end comes first."""


class Phase(IntEnum):
    ASKING = 0
    TRYING = 1
    UP = 2
    OVER = 3


class Call:
    """`leg` is the number of the call, unique over restarts, and the id of its claim.

    `caller` and `callees` are the sides of the dialog: whoever answered first, then further callees with To tags of
    their own (RFC 3261 §12.1.2). `to_line` is the To of the answer.
    """

    __slots__ = (
        "acked",
        "attempts",
        "best",
        "call_id",
        "callees",
        "caller",
        "cancel_reason",
        "cancelled",
        "copies",
        "core",
        "dialled",
        "direction",
        "due",
        "free",
        "from_line",
        "gateway",
        "hops",
        "key",
        "leg",
        "phase",
        "proceeding",
        "record",
        "request",
        "routes",
        "server",
        "slot",
        "timed_out",
        "to_line",
        "tokens",
        "uri",
    )

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
        self.core = core
        self.leg = leg
        self.key = key
        self.direction = direction
        self.request: Message | None = request
        self.server: AnyServer | None = server
        self.call_id = request.call_id
        self.phase = Phase.ASKING
        self.caller = Side(request.from_tag, flow)
        self.callees: tuple[Side, ...] = ()
        self.from_line = b""
        self.to_line = b""
        self.proceeding = False  # the current attempt has had a provisional answer
        self.timed_out = False
        self.tokens: tuple[bytes, ...] = ()  # one per attempt
        self.gateway = -1  # place of the current gateway
        self.attempts: list[InviteClientTransaction] = []
        self.copies = Copies()
        self.best: tuple[int, Message] | None = None
        self.cancelled = False
        self.free = False  # the trunk has seen the call: no token for it (a re-send after a challenge)
        self.cancel_reason: Sequence[bytes] = ()
        self.acked = False
        self.routes: Routes | None = None
        self.uri = b""  # of an inbound call
        self.dialled: Uri | None = None  # of an outbound one
        self.hops = 0
        self.due = NEVER
        self.slot = 0
        self.record = CallRecord(leg, ("outbound", "inbound")[direction], now)
        self.record.key = key.id
        self.record.trunk = key.trunk.name
        server.user = self
        core.live_calls += 1

    # -- admission ---------------------------------------------------------------------------------------

    def ask(self, now: float) -> None:
        """Claim everything that the call needs, at once."""
        server, request = self.server, self.request
        assert server is not None and request is not None
        core = self.core
        if core.draining:
            self.refuse(DRAINING, now)
            return
        core.layer.respond(server, 100, reply(request, 100), now)
        key = self.key
        parts = key.inbound if self.direction == INBOUND else key.lines if self.free else key.outbound
        core.ask(self, key, Claim(self.leg, parts, now + ASK_SECONDS, LEASE), now)

    def on_verdict(self, claim_id: int, verdict: Verdict, now: float) -> None:
        """The store has answered, or has not in time."""
        if claim_id != self.leg:
            self.copies.answered(self, claim_id, verdict, now)
        elif self.phase is not Phase.ASKING:
            if verdict.granted:
                self.core.out.append(Release(claim_id))
        elif verdict.granted:
            self.copies.granted += (claim_id,)
            self.phase = Phase.TRYING
            self.core.counts.call_up(self.key, self.direction)
            self.attempt(claim_id, now)
        else:
            self.refuse(refused_by_limit(verdict.rule, verdict.value, verdict.limit, verdict.note), now)

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
        self._answer(
            refusal.inbound_code if inbound else refusal.code, [] if inbound else refusal.headers(), now
        )

    # -- attempts ----------------------------------------------------------------------------------------

    def attempt(self, claim_id: int, now: float) -> None:
        """Send the INVITE to the next gateway, or to the PBX, under a claim that was granted."""
        core, key, request = self.core, self.key, self.request
        assert request is not None and self.routes is not None
        self.gateway += 1
        gateway: Gateway | None = None
        if self.direction == OUTBOUND:
            assert self.dialled is not None
            gateway = key.trunk.gateways[self.gateway]
            flow, uri = gateway.flow, core.trunk_uri(self.dialled, gateway, key)
            self.record.gateway = gateway.name
            near, far = self.caller.flow, flow
        else:
            assert key.pbx is not None
            flow, uri = key.pbx, self.uri
            near, far = flow, self.caller.flow
        self.record.attempts += 1
        self.record.sent_at = self.record.sent_at or now
        text = core.signer.make(
            Token(
                self.direction,
                key.tag,
                self.leg,
                near.listener.index,
                far.listener.index,
                max(0, self.gateway),
                near.host,
                near.port,
            ),
            self.call_id,
            self.caller.tag,
        )
        core.by_token[text] = self
        self.tokens += (text,)
        branch, via = core.branch(flow.listener, text)
        here, there = self.caller.flow.listener, flow.listener
        record_route = b"%b%b>" % (there.record_route, text)
        if here is not there:  # RFC 5658: one for each side
            record_route += b"\r\n%b%b>" % (here.record_route, text)
        data = request_out(
            request, uri, via, record_route, self.routes.edits, self.hops, stream=there.reliable
        )
        client = InviteClientTransaction(core.layer, branch, data, flow, self, now)
        if self.direction == OUTBOUND:
            self.copies.first(self, client, claim_id, arrived=None if self.gateway else self.record.invite_at)
            if self._next_gateway():
                self._wake(now + key.trunk.try_seconds)
        self.attempts.append(client)
        self.proceeding = False
        core.counts.sent(b"INVITE")
        core.layer.send(client, now)

    def _next_gateway(self) -> bool:
        if self._declined():
            return False
        return self.direction == OUTBOUND and self.gateway + 1 < len(self.key.trunk.gateways)

    def _declined(self) -> bool:
        """A 6xx has come, be it from a gateway that was left: nobody else is tried (RFC 3261 §16.7 step 5)."""
        return self.best is not None and self.best[0] >= 600

    def on_repeat(self, client: AnyClient, now: float) -> None:
        """Another copy of an unanswered INVITE is due."""
        assert isinstance(client, InviteClientTransaction)
        self.copies.due(self, client, now)

    @property
    def wants_gateway(self) -> bool:
        """Whether a further gateway is still to be tried."""
        trying = self.phase is Phase.TRYING and self.server is not None
        return trying and not (self.cancelled or self._declined())

    # -- answers -----------------------------------------------------------------------------------------

    def on_response(self, client: AnyClient, response: Message, now: float) -> None:
        assert isinstance(client, InviteClientTransaction)
        code = response.code
        if client.claim:
            self.copies.stop(self, client)
        if code < 200:
            self._on_provisional(client, response, now)
        elif code < 300:
            self._on_success(client, response, now)
        else:
            self._gateway_seen(client, code != 503)
            self._on_failure(client, response, now)

    def _on_provisional(self, client: InviteClientTransaction, response: Message, now: float) -> None:
        given_up = self.cancelled or self._declined()
        if given_up or self.phase is not Phase.TRYING or client is not self.attempts[-1]:
            self._cancel(client, now)  # it was held back until now (RFC 3261 §9.1)
        elif response.code > 100 or not self.proceeding:
            self.proceeding = True
            self._wake(now + TIMER_C)
            if response.code > 100 and self.record.ringing_at is None:
                self.record.ringing_at = now
            if response.code > 100 and now - self.record.invite_at > LEASE / 3:
                core = self.core
                core.out.append(Renew(self.leg, LEASE))
        if response.code > 100 and self.server is not None and self.phase is Phase.TRYING:
            self.callees, _ = hear(self.callees, response, client.flow)
            self._pass_on(response, now)

    def _on_success(self, client: InviteClientTransaction, response: Message, now: float) -> None:
        """Every 2xx goes up at once, also one that comes after a CANCEL or from a gateway that was left
        (RFC 3261 §16.7 step 5): the call exists."""
        self.callees, side = hear(self.callees, response, client.flow)
        if side is not None and side.stage is Stage.EARLY:
            side.stage = Stage.UP
        if self.phase is Phase.TRYING:
            core = self.core
            self.phase = Phase.UP
            self.callees = tuple(sorted(self.callees, key=lambda other: other is not side))
            self._gateway_seen(client, True)
            self.record.answer_at = now
            self.record.final_code = response.code
            request = self.request
            assert request is not None
            self.from_line = request.lines[request.at[FROM]]
            self.to_line = b"To: " + response.value(TO)
            self.request = self.routes = self.dialled = self.best = None
            longest = self.key.max_call_seconds
            core.out.append(Renew(self.leg, NEVER if longest is None else longest + SPARE))
            self._wake(now + min(NO_ACK, longest or NO_ACK))
            for other in self.attempts:
                if other is not client:
                    self._cancel(other, now)
            self.attempts.clear()
        self._pass_on(response, now)

    def _on_failure(self, client: InviteClientTransaction, response: Message, now: float) -> None:
        if self.phase is not Phase.TRYING:
            return
        code = response.code
        self._keep_best(code, response)
        last = self.attempts[-1]
        if client is not last:
            # A gateway that was left before. The current one decides, unless this was a 6xx.
            if code >= 600 and last.state <= State.PROCEEDING:
                self._cancel(last, now)
            elif code >= 600:
                self.conclude(now)  # between two attempts
            return
        if code == 503 and not self.cancelled and self._next_gateway():
            self.copies.ask(self, None, now)
        else:
            self.conclude(now)

    def on_timeout(self, client: AnyClient, now: float) -> None:
        """Timer B, or no final answer to a CANCEL: the branch counts as 408 (RFC 3261 §16.8), which §16.7 step 6
        prefers to a 503 that came before."""
        self.timed_out = True
        if self.best is not None and rank(408) < rank(self.best[0]):
            self.best = None
        self.on_failed(client, now)

    def on_failed(self, client: AnyClient, now: float) -> None:
        """ICMP, or a connection that can't be had: as if the gateway had answered 503 (RFC 3261 §16.9)."""
        assert isinstance(client, InviteClientTransaction)
        self.copies.stop(self, client)
        self._gateway_seen(client, False)
        if self.phase is not Phase.TRYING or client is not self.attempts[-1]:
            return
        if not self.cancelled and self._next_gateway():
            self.copies.ask(self, None, now)
        else:
            self.conclude(now)

    def _gateway_seen(self, client: AnyClient, well: bool) -> None:
        if self.direction == OUTBOUND:
            self.core.counts.gateway(self.key.trunk, client.flow, well)

    def _keep_best(self, code: int, response: Message) -> None:
        """RFC 3261 §16.7 step 6: a 6xx first, else the lowest class, in it what the caller can act on."""
        if self.best is None or rank(code) < rank(self.best[0]):
            self.best = (code, response)

    def conclude(self, now: float) -> None:
        """No attempt is left: pass on the best final answer, or make one."""
        if self.best is not None:
            code, response = self.best
            if code in (401, 407) and self.dialled is not None:
                self.core.challenged(self, self.dialled.raw, now)
            mapped = 500 if code == 503 and self.key.trunk.upstream_503 == "500" else 0
            for client in self.attempts:
                self._cancel(client, now)
            self._finish(mapped or code, now)
            self._pass_on(response, now, mapped)
        elif self.cancelled:
            self._answer(487, [], now)
        else:
            why = "no gateway answered" if self.timed_out else "no gateway can be reached"
            if self.direction == INBOUND:
                why = why.replace("gateway", "PBX")
            self.record.reason = why
            warning = [] if self.direction == INBOUND else [b'Warning: 399 callgate "%b"' % why.encode()]
            self._answer(408 if self.timed_out else 503, warning, now)

    def _answer(self, code: int, headers: list[bytes], now: float) -> None:
        """End the call with a final answer of the gate's own."""
        server = self.server
        assert server is not None
        request = server.request
        for client in self.attempts:
            self._cancel(client, now)
        self._finish(code, now)
        if request is not None:
            tag = self.core.answer_tag(request)
            self.core.layer.respond(server, code, reply(request, code, tag, headers), now)

    def _finish(self, code: int, now: float) -> None:
        record = self.record
        record.final_code = code
        if record.outcome != "refused":
            record.outcome = "cancelled" if self.cancelled else OUTCOMES.get(code, "failed")
            record.ended_by = "caller" if self.cancelled else "callee" if self.best else "gate"
        else:
            record.ended_by = "gate"
        self.end(now)

    def _pass_on(self, response: Message, now: float, code: int = 0) -> None:
        server = self.server
        if server is None:
            return
        data = response_out(response, stream=server.flow.listener.reliable, code=code)
        if data is None:
            self.core.counts.rejected("no Via left")
            return
        if not self.core.layer.respond(server, code or response.code, data, now) and response.code < 300:
            # The caller has had another final answer, but a callee has picked up all the same: it is told, so
            # that it can end the call that now exists (RFC 3261 §16.7 step 5).
            self.core.out.append(Send(server.flow, data))

    # -- giving up ---------------------------------------------------------------------------------------

    def on_cancel(self, server: AnyServer, cancel: Message, now: float) -> None:
        """The caller gave up. A 2xx that is on its way still wins (RFC 3261 §9.1)."""
        if self.phase is Phase.UP or self.phase is Phase.OVER or self.cancelled:
            return
        self.cancelled = True
        self.cancel_reason = [cancel.lines[i] for i in cancel.find(b"reason")]  # RFC 3326 §2
        live = [c for c in self.attempts if c.state <= State.PROCEEDING]
        if not live or self.copies.wait_for_gateway:
            self._answer(487, [], now)  # nothing was sent, or a further attempt waits for its token
            return
        for client in live:
            self._cancel(client, now)

    def _cancel(self, client: InviteClientTransaction, now: float) -> None:
        """Cancel an attempt: at once when it has had a provisional answer, else when that comes."""
        if client.state is State.PROCEEDING and client.end_at == NEVER:
            self.core.counts.sent(b"CANCEL")
            self.core.layer.cancel(client, self.cancel_reason, now)
            self.core.layer.end_by(client, now + LIFE)
        elif client.state is State.CALLING and (self.phase >= Phase.UP or client is not self.attempts[-1]):
            self._leave(client)

    def _leave(self, client: InviteClientTransaction) -> None:
        """Send a silent gateway no more copies, but go on listening to it."""
        self.copies.stop(self, client)
        self.core.layer.abandon(client)

    def on_unacknowledged(self, server: AnyServer, now: float) -> None:
        """Timer H: the caller never acknowledged a failure. What the call held went when that was sent."""
        self.server = None

    def expire(self, now: float) -> None:
        """The call's own timer: Timer C and silent gateways before the answer, then the missing ACK and the
        longest call."""
        self.due = NEVER
        if self.phase is Phase.TRYING:
            client = self.attempts[-1]
            if client.state is State.CALLING and self._next_gateway():
                self._leave(client)
                self.timed_out = True
                self._gateway_seen(client, False)
                if not self.cancelled:
                    self.copies.ask(self, None, now)
            elif client.state is State.PROCEEDING:
                self._cancel(client, now)  # Timer C (RFC 3261 §16.8)
        elif self.phase is Phase.UP:
            self._expire_up(now)
        elif self.phase is Phase.OVER:
            self.core.forget(self)

    def _expire_up(self, now: float) -> None:
        answered, longest = self.record.answer_at, self.key.max_call_seconds
        assert answered is not None
        until = NEVER if longest is None else answered + longest
        if now >= until:
            self.record.rule = "C1"
            self.record.reason = f"max_call_seconds {longest:g} reached"
            self.core.hang_up(self, now)
        elif not self.acked and now >= answered + NO_ACK:
            self.record.reason = "the answer was never acknowledged"
            self.end(now, "caller")
        elif not self.acked:
            self._wake(min(until, answered + NO_ACK))
        elif longest is not None:
            self._wake(until)

    def _wake(self, due: float) -> None:
        self.due = due
        self.core.wheel.add(self)

    def dialog_over(self, side: Side | None, now: float, ended_by: str, reason: str = "") -> None:
        """The dialog with one callee has ended. A call that was forked is over with the last of them; before the
        answer it is the INVITE's final answer that counts."""
        if self.phase is not Phase.UP:
            return
        if side is not None:
            side.stage = Stage.OVER
        if not any(callee.stage is Stage.UP for callee in self.callees):
            self.record.reason = reason or self.record.reason
            self.end(now, ended_by)

    # -- the end -----------------------------------------------------------------------------------------

    def end(self, now: float, ended_by: str = "") -> None:
        """Give back all that the call holds. Whatever ends a call comes here; the second time is nothing."""
        if self.phase is Phase.OVER:
            return
        core, record = self.core, self.record
        if self.phase is not Phase.ASKING:
            core.counts.call_down(self.key, self.direction)
        self.phase = Phase.OVER
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
        self.from_line = self.to_line = b""
        self.record = PAST
        self._wake(now + LINGER)
