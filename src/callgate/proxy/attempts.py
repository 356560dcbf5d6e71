"""What a call tries and what comes back: the response context of RFC 3261 §16.7.

The targets of a call stand in groups, which are tried one after the other: the gateways of a trunk, the addresses of a
PBX, the registered phones of a key. The targets of one group ring at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

from callgate.policy.claim import Verdict
from callgate.proxy.answer import rank, reply
from callgate.proxy.commands import Renew, Send
from callgate.proxy.copies import LEASE, Copies
from callgate.proxy.dialog import Side, Stage, hear
from callgate.proxy.edge import NO_EDITS, Edits
from callgate.proxy.flow import Flow
from callgate.proxy.forward import Routes, response_out
from callgate.proxy.health import retry_after, says_cps_limit
from callgate.proxy.login import CHALLENGED, WARNING, Passage, refusal
from callgate.proxy.peers import Key
from callgate.proxy.record import OUTCOMES, CallRecord
from callgate.proxy.targets import Groups, Target
from callgate.proxy.token import INBOUND, OUTBOUND, Token
from callgate.proxy.transactions import AnyClient, AnyServer, InviteClientTransaction
from callgate.proxy.vitals import Vitals
from callgate.sip.message import CSEQ, Message
from callgate.sip.transaction import LIFE, NEVER, State
from callgate.sip.uri import Uri

if TYPE_CHECKING:
    from callgate.proxy.core import Core
    from callgate.proxy.cseq import Shift

TIMER_C = 181.0
"""Seconds without a final answer since the last 101–199 (RFC 3261 §16.6 step 11: more than 3 minutes)."""
CHALLENGES = (b"www-authenticate", b"proxy-authenticate")


class Phase(IntEnum):
    """Of a call."""

    ASKING = 0
    TRYING = 1
    UP = 2
    OVER = 3


class Attempts:
    """The half of a `Call` that tries targets and picks the answer.

    `current` are the attempts of the present group that have no final answer yet; `attempts` holds those of earlier
    groups too. `best` is the final answer to pass on when nothing is left to try. `shift` is not None where the gate
    answers the trunk's challenges, `refused` when the trunk would not have its credentials.
    """

    __slots__ = (
        "attempts",
        "best",
        "call_id",
        "callees",
        "caller",
        "cancel_reason",
        "cancelled",
        "challenger",
        "challenges",
        "copies",
        "core",
        "current",
        "dialled",
        "direction",
        "due",
        "free",
        "group",
        "groups",
        "hops",
        "key",
        "leg",
        "mark",
        "origin",
        "phase",
        "proceeding",
        "record",
        "refused",
        "request",
        "routes",
        "server",
        "shift",
        "slot",
        "timed_out",
        "tokens",
        "up_at",
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
        self.origin = server.key  # its INVITE, for as long as it is remembered
        self.phase = Phase.ASKING
        self.caller = Side(request.from_tag, flow)
        self.callees: tuple[Side, ...] = ()
        self.routes: Routes | None = None
        self.dialled: Uri | None = None  # what the Request-URI asks for
        self.hops = 0
        self.groups: Groups = ()
        self.group = -1  # place of the present one
        self.mark = b""  # of a call that forks: ends its branches, so that it is known when it comes back
        self.attempts: list[InviteClientTransaction] = []
        self.current: list[InviteClientTransaction] = []
        self.proceeding = False  # the present group has had a provisional answer
        self.up_at = 0.0  # when the latest callee picked up
        self.timed_out = False
        self.tokens: tuple[bytes, ...] = ()  # one per attempt
        self.copies = Copies()
        # Out: the trunk has seen the call, so no token for it (a re-send after a challenge). In: no limit holds it up.
        self.free = False
        self.best: tuple[int, Message] | None = None
        self.challenger: Target | None = None  # who sent the last of them
        self.challenges: tuple[bytes, ...] = ()  # of all 401 and 407 (RFC 3261 §16.7 step 7)
        self.shift: Shift | None = None
        self.refused = False
        self.cancelled = False
        self.cancel_reason: Sequence[bytes] = ()
        self.due = NEVER
        self.slot = 0
        self.record = CallRecord(leg, ("outbound", "inbound")[direction], now)
        self.record.key = key.id
        self.record.trunk = key.trunk.name

    # -- what a call adds ----------------------------------------------------------------------------------

    def answered(
        self, client: InviteClientTransaction, response: Message, side: Side | None, now: float
    ) -> None:
        """The first 2xx has come."""
        raise NotImplementedError

    def picked_up_late(
        self, client: InviteClientTransaction, response: Message, first: bool, told: bool, now: float
    ) -> None:
        """A 2xx has come that finds the call over."""
        raise NotImplementedError

    def look_again(self, now: float) -> None:
        """What is known of the life of its dialogs has changed."""
        raise NotImplementedError

    def known_by(self, token: bytes) -> None:
        """An attempt has made a token: what carries it belongs to this call."""
        raise NotImplementedError

    def on_verdict(self, claim_id: int, verdict: Verdict, now: float) -> None:
        """The store has answered, or has not in time."""
        raise NotImplementedError

    def expire(self, now: float) -> None:
        """The call's own timer."""
        raise NotImplementedError

    def end(self, now: float, ended_by: str = "") -> None:
        """Give back all that the call holds."""
        raise NotImplementedError

    # -- trying ----------------------------------------------------------------------------------------------

    def attempt(self, claim_id: int, now: float) -> None:
        """Send the INVITE to the next group, under a claim that was granted."""
        self.current = []
        self.proceeding = False
        group = self._next_group(now)
        if group < 0:
            self.conclude(now)  # while it waited, the last one was shut
            return
        self.group = group
        for target in self.groups[group]:
            if target.usable(now):
                self._try(target, claim_id, now)
        if self._next_group(now) >= 0 or self._with_other_flow():
            self._wake(now + self.key.trunk.try_seconds)

    def _try(
        self,
        target: Target,
        claim_id: int,
        now: float,
        *,
        by_datagram: bool = False,
        passage: Passage | None = None,
    ) -> None:
        """Send the INVITE to a target. `passage`: once more, as that has it."""
        core, key, request, record = self.core, self.key, self.request, self.record
        routes = self.routes
        assert request is not None and routes is not None and self.dialled is not None
        outbound = self.direction == OUTBOUND
        again, raised = passage is not None, 0
        if self.shift is not None and outbound:
            if passage is None:
                assert key.trunk.account is not None
                passage = Passage(key.trunk.account, self.shift, request, routes)
            routes = passage.routes()
            raised = passage.raised - request.cseq_number
        flow = target.flow
        if outbound:
            uri = core.trunk_uri(self.dialled, target.hostport, key)
            near, far = self.caller.flow, flow
            record.gateway = target.name
        else:
            uri = target.request_uri(self.dialled)
            near, far = flow, self.caller.flow
        record.attempts += 0 if again or by_datagram else 1
        record.sent_at = record.sent_at or now
        text = core.signer.make(
            Token(
                self.direction,
                key.tag,
                self.leg,
                near.listener.index,
                far.listener.index,
                target.gateway.index if target.gateway is not None else 0,
                near.host,
                near.port,
                raised,
            ),
            self.call_id,
            self.caller.tag,
        )
        self.known_by(text)
        to, branch, data = core.compose(
            request,
            uri,
            text,
            flow,
            routes,
            self.hops,
            now,
            came=self.caller.flow,
            route=target.route or (key.trunk.service_route if outbound else b""),
            mark=self.mark,
            by_datagram=by_datagram,
        )
        client = InviteClientTransaction(core.layer, branch, data, to, self, now)
        client.target = target
        client.passage = passage
        if target.health is not None:
            target.health.tried(now)
        if outbound and claim_id:
            first = record.attempts == 1
            self.copies.first(self, client, claim_id, arrived=record.invite_at if first else None)
        self.attempts.append(client)
        self.current.append(client)
        core.counts.sent(b"INVITE")
        core.layer.send(client, now)

    def _next_group(self, now: float) -> int:
        """The next group with a target that a call may go to; -1 where nobody else is to be tried."""
        if not self._declined():
            for group in range(self.group + 1, len(self.groups)):
                if any(target.usable(now) for target in self.groups[group]):
                    return group
        return -1

    def _declined(self) -> bool:
        """A 6xx has come, be it from a gateway that was left: nobody else is tried (RFC 3261 §16.7 step 5)."""
        return self.best is not None and self.best[0] >= 600

    def _go_on(self, now: float) -> None:
        """To the next group. A call to the trunk needs a token for it; to a PBX none."""
        if self.direction == OUTBOUND:
            self.copies.ask(self, None, now)
        else:
            self.attempt(0, now)

    def on_repeat(self, client: AnyClient, now: float) -> None:
        """Another copy of an unanswered INVITE is due."""
        assert isinstance(client, InviteClientTransaction)
        self.copies.due(self, client, now)

    @property
    def wants_gateway(self) -> bool:
        """Whether a further group is still to be tried."""
        if self.phase is not Phase.TRYING or self.server is None or self.cancelled or self._declined():
            return False
        return not any(client.state is State.PROCEEDING for client in self.current)  # it answers after all

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
            if code == 503:
                self._refused(client, response, now)
            else:
                self._well(client)
            self._on_failure(client, response, now)

    def _on_provisional(self, client: InviteClientTransaction, response: Message, now: float) -> None:
        given_up = self.cancelled or self._declined()
        if given_up or self.phase is not Phase.TRYING or client not in self.current:
            self._cancel(client, now)  # it was held back until now (RFC 3261 §9.1)
        elif response.code > 100 or not self.proceeding:
            self.proceeding = True
            self._wake(now + TIMER_C)
            if response.code > 100 and self.record.ringing_at is None:
                self.record.ringing_at = now
            if response.code > 100 and now - self.record.invite_at > LEASE / 3:
                self.core.out.append(Renew(self.leg, LEASE))
        if response.code > 100:
            self._well(client)
        if response.code > 100 and self.server is not None and self.phase is Phase.TRYING:
            self.callees, _ = hear(self.callees, response, _home(client))
            self._pass_on(response, now)

    def _on_success(self, client: InviteClientTransaction, response: Message, now: float) -> None:
        """Every 2xx goes up at once, also one that comes after a CANCEL or from a gateway that was left
        (RFC 3261 §16.7 step 5): the call exists. One that comes when the call is over has nobody to talk to."""
        self.callees, side = hear(self.callees, response, _home(client))
        first = side is not None and side.stage is Stage.EARLY
        if side is not None and first:
            side.stage = Stage.UP
            side.seen_at = self.caller.seen_at = self.up_at = now
            side.vitals = Vitals(response, now)
            if self.phase is Phase.UP:  # another dialog of a fork
                self.look_again(now)
        self._well(client)
        if self.phase is Phase.TRYING:
            self.phase = Phase.UP
            self.answered(client, response, side, now)
            for other in self.attempts:
                if other is not client:
                    self._cancel(other, now)
            self.attempts.clear()
            self.current.clear()
        told = self._pass_on(response, now)
        if self.phase is Phase.OVER:
            self.picked_up_late(client, response, first, told, now)

    def _on_failure(self, client: InviteClientTransaction, response: Message, now: float) -> None:
        if self.phase is not Phase.TRYING:
            return
        code = response.code
        if client.passage is not None and code in CHALLENGED and self._answers(client, response, now):
            return
        if code == 430 and client.target is not None and client.target.binding is not None:
            self.core.registrar.failed(client.target.binding)
            self._failed(
                client, "its flow has failed", now
            )  # it speaks of the flow, and to us only (RFC 5626 §5.3)
            return
        if code == 408 and self._other_flow(client, now):
            return
        self._keep_best(code, response)
        if code in CHALLENGED:
            self.challenger = client.target
        if code >= 600:
            self._stop_others(client, now)
        elif client in self.current:
            device = client.target is not None and client.target.device
            self._lost(client, now, others=device or code == 503)

    def _answers(self, client: InviteClientTransaction, response: Message, now: float) -> bool:
        """Whether the gate deals with a challenge of the trunk itself: the INVITE goes once more, with credentials.
        The carrier has seen the call, so that takes no token."""
        passage, target = client.passage, client.target
        if passage is None or target is None or client not in self.current or self._declined():
            return False
        if not self.cancelled:
            assert self.dialled is not None
            uri = self.core.trunk_uri(self.dialled, target.hostport, self.key)
            if not passage.answers(uri, response):
                self.refused = passage.refused
                return False
        self.current.remove(client)
        if self.cancelled:
            if not self.current:
                self.conclude(now)
            return True
        self.proceeding = False
        self._try(target, 0, now, passage=passage)
        if self._next_group(now) >= 0:
            self._wake(now + self.key.trunk.try_seconds)
        return True

    def _stop_others(self, client: InviteClientTransaction, now: float) -> None:
        """A 6xx: whoever still rings is cancelled, and nobody else is tried (RFC 3261 §16.7 step 5)."""
        if client in self.current:
            self.current.remove(client)
        for other in self.current:
            self._cancel(other, now)
        if not self.current:
            self.conclude(now)

    def on_timeout(self, client: AnyClient, now: float) -> None:
        """Timer B, or no final answer to a CANCEL: the branch counts as 408 (RFC 3261 §16.8), which §16.7 step 6
        prefers to a 503 that came before."""
        self.timed_out = True
        if self.best is not None and rank(408) < rank(self.best[0]):
            self.best = None
        self._failed(client, "calls are not answered", now)

    def on_failed(self, client: AnyClient, now: float) -> None:
        """ICMP, or a connection that can't be had: as if the gateway had answered 503 (RFC 3261 §16.9)."""
        assert isinstance(client, InviteClientTransaction)
        target = client.target
        if target is not None and client.flow.listener is not target.flow.listener and client in self.current:
            # It was too large for a datagram, and there is no stream to be had (RFC 3261 §18.1.1).
            claim = client.claim
            unsent = self.core.sent_at.get(claim, 0.0)
            self.core.streams.refused(client.flow, now)
            if not claim or unsent < 0.0 or unsent == NEVER:
                self.core.sent_at.pop(claim, None)
                client.claim = 0
                self.current.remove(client)
                self._try(target, claim, now, by_datagram=True, passage=client.passage)
                return
        if target is not None and target.binding is not None and target.flow.listener.reliable:
            self.core.registrar.failed(target.binding)
        self._failed(client, "calls can't be delivered", now)

    def _failed(self, client: AnyClient, why: str, now: float) -> None:
        assert isinstance(client, InviteClientTransaction)
        self.copies.stop(self, client)
        self._silent(client, why, now)
        if self.phase is Phase.TRYING and client in self.current and not self._other_flow(client, now):
            self._lost(client, now, others=True)

    def _with_other_flow(self) -> list[InviteClientTransaction]:
        """The silent ones of the present group whose device has another flow."""
        return [
            client
            for client in self.current
            if client.target is not None and client.target.other is not None and client.state is State.CALLING
        ]

    def _other_flow(self, client: InviteClientTransaction, now: float) -> bool:
        """RFC 5626 §5.3: a device whose flow has failed is tried over another one. Whether it has one."""
        target = client.target
        if target is None or target.other is None or self.cancelled or client not in self.current:
            return False
        self.current.remove(client)
        self._try(target.other, 0, now)
        return True

    def _lost(self, client: InviteClientTransaction, now: float, *, others: bool) -> None:
        """An attempt of the present group has failed. `others`: those of the next group may do better."""
        self.current.remove(client)
        if self.current:
            return
        if others and not self.cancelled and self._next_group(now) >= 0:
            self._go_on(now)
        else:
            self.conclude(now)

    def _well(self, client: InviteClientTransaction) -> None:
        """An attempt has shown that a gateway takes calls."""
        if client.target is not None:
            self.core.trunks.call_well(client.target)

    def _silent(self, client: InviteClientTransaction, why: str, now: float) -> None:
        """An attempt has shown that a gateway does not answer."""
        if client.target is not None:
            self.core.trunks.call_failed(client.target, why, now)
        if self.direction == INBOUND:
            self.core.trunks.pbx_silent(self.key)

    def _refused(self, client: InviteClientTransaction, response: Message, now: float) -> None:
        """A 503 of a gateway: it is out of order, or there are too many calls (K11). A call that another gateway may
        take says nothing about the trunk, unless the words do."""
        target = client.target
        if target is None or target.health is None:
            return
        trunks = self.core.trunks
        told, pause = says_cps_limit(response), retry_after(response)
        if pause is not None:
            trunks.asks_for_pause(target, pause, now)
        if not told:
            trunks.call_failed(target, "503 to calls", now)
        last = self.current == [client] and self._next_group(now) < 0
        if told or last:
            trunks.congested(self.key, now, plain=not told and pause is None)

    def _keep_best(self, code: int, response: Message) -> None:
        """RFC 3261 §16.7 step 6: a 6xx first, else the lowest class, in it what the caller can act on."""
        if code in CHALLENGED:
            for name in CHALLENGES:
                self.challenges += tuple([response.lines[i] for i in response.find(name)])
        if self.best is None or rank(code) < rank(self.best[0]):
            self.best = (code, response)

    def conclude(self, now: float) -> None:
        """No attempt is left: pass on the best final answer, or make one."""
        if self.best is not None:
            code, response = self.best
            if code in CHALLENGED:
                if self.refused:
                    self._not_let_in(code, now)
                    return
                self._challenged(response, now)
            mapped = 500 if code == 503 and self.key.trunk.upstream_503 == "500" else 0
            for client in self.attempts:
                self._cancel(client, now)
            self._finish(mapped or code, now)
            self._pass_on(response, now, mapped)
        elif self.cancelled:
            self.answer(487, [], now)
        else:
            why = "no gateway answered" if self.timed_out else "no gateway can be reached"
            if self.direction == INBOUND:
                why = why.replace("gateway", "PBX")
            self.record.reason = why
            warning = [] if self.direction == INBOUND else [b'Warning: 399 callgate "%b"' % why.encode()]
            self.answer(408 if self.timed_out else 503, warning, now)

    def _not_let_in(self, code: int, now: float) -> None:
        """The trunk does not take the gate's credentials. The PBX can do nothing about it: it gets a 403."""
        self.record.reason = "the trunk refuses the credentials of the gate"
        self.core.alert(refusal(self.key.trunk.name, code), now)
        self.answer(403, [WARNING], now)

    def _challenged(self, response: Message, now: float) -> None:
        """The caller gets every challenge that was collected (RFC 3261 §16.7 step 7)."""
        if self.direction == OUTBOUND and self.dialled is not None:
            self.core.challenged(self, self.dialled.raw, now)
        own = {response.lines[i] for name in CHALLENGES for i in response.find(name)}
        others = [line for line in self.challenges if line not in own]
        if others:
            response.lines += others

    def answer(self, code: int, headers: list[bytes], now: float) -> None:
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

    def _pass_on(self, response: Message, now: float, code: int = 0) -> bool:
        """Whether the caller is told."""
        server = self.server
        if server is None:
            return False
        edits: Edits = NO_EDITS
        if response.marked:
            edits = self.core.directory.edge.edits(response, self.key, from_pbx=self.direction == INBOUND)
        if self.shift is not None and self.direction == OUTBOUND and response.cseq_number != self.caller.cseq:
            edits = {**edits, response.at[CSEQ]: b"CSeq: %d INVITE" % self.caller.cseq}
        data = response_out(response, stream=server.flow.listener.reliable, code=code, edits=edits)
        if data is None:
            self.core.counts.rejected("no Via left")
            return False
        if self.core.layer.respond(server, code or response.code, data, now):
            return True
        if response.code >= 300 or server.state is State.COMPLETED:
            # A caller whose ACK has not come may not have seen the failure: it must not hear two finals (§17.2.1).
            return False
        # The caller has had another final answer, but a callee has picked up all the same: it is told, so that it
        # can end the call that now exists (RFC 3261 §16.7 step 5).
        self.core.out.append(Send(server.flow, data))
        return True

    # -- giving up ---------------------------------------------------------------------------------------

    def on_cancel(self, server: AnyServer, cancel: Message, now: float) -> None:
        """The caller gave up. A 2xx that is on its way still wins (RFC 3261 §9.1)."""
        if self.phase is Phase.UP or self.phase is Phase.OVER or self.cancelled:
            return
        self.cancelled = True
        self.cancel_reason = [cancel.lines[i] for i in cancel.find(b"reason")]  # RFC 3326 §2
        live = [c for c in self.attempts if c.state <= State.PROCEEDING]
        if not live or self.copies.wait_for_gateway:
            self.answer(487, [], now)  # nothing was sent, or a further attempt waits for its token
            return
        for client in live:
            self._cancel(client, now)

    def _cancel(self, client: InviteClientTransaction, now: float) -> None:
        """Cancel an attempt: at once when it has had a provisional answer, else when that comes."""
        if client.state is State.PROCEEDING and client.end_at == NEVER:
            self.core.counts.sent(b"CANCEL")
            self.core.layer.cancel(client, self.cancel_reason, now)
            self.core.layer.end_by(client, now + LIFE)
        elif client.state is State.CALLING and (self.phase >= Phase.UP or client not in self.current):
            self._leave(client)

    def _leave(self, client: InviteClientTransaction) -> None:
        """Send a silent target no more copies, but go on listening to it."""
        self.copies.stop(self, client)
        self.core.layer.abandon(client)

    def on_unacknowledged(self, server: AnyServer, now: float) -> None:
        """Timer H: the caller never acknowledged a failure. What the call held went when that was sent."""
        self.server = None

    def expire_trying(self, now: float) -> None:
        """Silent targets are left for the next group; Timer C."""
        ringing = [client for client in self.current if client.state is State.PROCEEDING]
        if ringing:
            for client in ringing:
                self._cancel(client, now)  # Timer C (RFC 3261 §16.8)
        elif silent := self._with_other_flow():
            for client in silent:
                self._leave(client)
                self._other_flow(client, now)
            self._wake(now + self.key.trunk.try_seconds)
        elif self.current and self._next_group(now) >= 0:
            self.timed_out = True
            for client in self.current:
                self._leave(client)
                self._silent(client, "calls are not answered", now)
            if not self.cancelled:
                self._go_on(now)

    def _wake(self, due: float) -> None:
        self.due = due
        self.core.wheel.add(self)


def _home(client: InviteClientTransaction) -> Flow:
    """Where a callee is reached inside the dialog: not by the stream that only a large INVITE went over."""
    return client.target.flow if client.target is not None else client.flow
