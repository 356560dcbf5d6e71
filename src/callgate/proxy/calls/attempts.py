"""What a call tries and what comes back: the response context of RFC 3261 §16.7.

The targets of a call stand in groups, which are tried one after the other: the gateways of a trunk, the addresses of a
PBX, the registered phones of a key. The targets of one group ring at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.policy.ledger import LEASE
from callgate.proxy.answer import rank
from callgate.proxy.calls.around import REASON
from callgate.proxy.calls.context import Context, Phase
from callgate.proxy.calls.dialog import Stage, hear
from callgate.proxy.calls.targets import Target
from callgate.proxy.calls.vitals import Vitals, session_seconds
from callgate.proxy.commands import Journal
from callgate.proxy.contract.notices import may_say
from callgate.proxy.flow import Flow, Trouble
from callgate.proxy.restart.journal import rings
from callgate.proxy.token import AWAY, INBOUND, OUTBOUND, RECORDER, Token
from callgate.proxy.transactions import AnyClient, AnyServer, InviteClientTransaction
from callgate.proxy.trunk.health import retry_after, says_cps_limit
from callgate.proxy.trunk.login import CHALLENGED, Passage
from callgate.sip.message import Message
from callgate.sip.transaction import NEVER, State

if TYPE_CHECKING:
    pass

TIMER_C = 181.0
"""Seconds without a final answer since the last 101–199 (RFC 3261 §16.6 step 11: more than 3 minutes)."""
BUSY = frozenset((486, 600))
UNANSWERED = frozenset((408, 480, 500, 503))
"""What leads on to the next step of a number's route."""


COMPLETED_ELSEWHERE = (b'Reason: SIP;cause=200;text="Call completed elsewhere"',)
"""For whoever else rings when one has picked up, so that it shows no missed call (RFC 3326 §2)."""


class Attempts(Context):
    """The half of a `Call` that tries targets and hears what they say."""

    # -- trying ----------------------------------------------------------------------------------------------

    def attempt(self, claim_id: int, now: float) -> None:
        """Send the INVITE to the next group, under a claim that was granted."""
        self.current = []
        self.proceeding = False
        group = self._next_group(now)
        if group < 0:
            self.conclude(now)  # while it waited, the last one was shut
            return
        if self.free and group and self.direction == OUTBOUND and not self.emergency:
            self.free = False  # only the first gateway has seen the call, and that can't be had any more
            self.copies.ask(self, None, now)
            return
        self.group = group
        self._begin_step(now)
        who = self.key.trunk.tells(self.key)
        targets = self.groups[group]
        for target in targets:
            if self.emergency or len(targets) == 1 or target.usable(now, who):
                self._try(target, claim_id, now)
        self.keep(now)
        if self.emergency or self._next_group(now) >= 0 or self._with_other_flow():
            self._wake(now + self.trunk.try_seconds)

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
                assert self.trunk.account is not None
                passage = Passage(self.trunk.account, self.shift, request, routes)
            routes = passage.routes()
            raised = passage.raised - request.cseq_number
        flow = target.flow
        if outbound:
            uri = core.trunk_uri(self.dialled, target.hostport, self.trunk)
            near, far = self.caller.flow, flow
            record.gateway = target.name
        else:
            uri = target.request_uri(self.dialled)
            near, far = flow, self.caller.flow
        record.attempts += 0 if again or by_datagram else 1
        record.sent_at = record.sent_at or now
        place = RECORDER if self.is_session else 0
        if target.gateway is not None:
            place = target.gateway.index + (AWAY if self.away else 0)
        text = core.signer.make(
            Token(
                self.direction,
                key.tag,
                self.leg,
                near.listener.index,
                far.listener.index,
                place,
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
            route=target.route or (self.trunk.service_route if outbound else b""),
            mark=self.mark,
            by_datagram=by_datagram,
        )
        client = InviteClientTransaction(core.layer, branch, data, to, self, now)
        client.target = target
        client.passage = passage
        if target.health is not None:
            target.health.tried(now, key.trunk.tells(key))
        if outbound and claim_id:
            first = record.attempts == 1
            self.copies.first(
                self, client, claim_id, arrived=record.invite_at + record.waited if first else None
            )
        self.attempts.append(client)
        self.current.append(client)
        self.tell(now, "credentials" if again else "tries", target.name)
        core.counts.sent(b"INVITE")
        core.layer.send(client, now)

    def _begin_step(self, now: float) -> None:
        """The present group may be a step of a number's route, where it may ring for some time only."""
        step = self.steps[self.group] if self.steps else None
        self.rang_out = False
        self.ring_until = now + step.ring_seconds if step is not None and step.ring_seconds else NEVER

    def _next_group(self, now: float) -> int:
        """The next group with a target that a call may go to; -1 where nobody else is to be tried."""
        if self.group + 1 < len(self.groups) and not self._declined():
            who = self.key.trunk.tells(self.key)
            for group in range(self.group + 1, len(self.groups)):
                if self.emergency or any(target.usable(now, who) for target in self.groups[group]):
                    return group
        return -1

    def _declined(self) -> bool:
        """A 6xx has come, be it from a gateway that was left: nobody else is tried (RFC 3261 §16.7 step 5)."""
        return self.best is not None and self.best[0] >= 600

    def _go_on(self, now: float) -> None:
        """To the next group. A call to the trunk needs a token for it; to a PBX none. An emergency call waits for
        nobody's word."""
        if self.emergency:
            self.free = self.away
            self.attempt(0 if self.away else self.copies.force(self, now), now)
        elif self.direction == OUTBOUND:
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
            self.copies.stop(self, client, now)
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
        known = self.callees
        if given_up or self.phase is not Phase.TRYING or client not in self.current:
            self._cancel(client, now)  # it was held back until now (RFC 3261 §9.1)
        elif response.code > 100 or not self.proceeding:
            self.proceeding = True
            self._wake(min(now + TIMER_C, self.ring_until))
            if response.code > 100 and self.record.ringing_at is None:
                self.record.ringing_at = now
                self.tell(now, "rings", response.code)
            if response.code > 100 and now - self.record.invite_at > LEASE / 3:
                self.renew(LEASE, now)
        if response.code > 100:
            self._well(client)
        if response.code > 100 and self.server is not None and self.phase is Phase.TRYING:
            self.callees, _ = hear(self.callees, response, _home(client))
            if may_say(response):
                self.says_recorded(response, now)
            self._pass_on(response, now)
            if self.core.journals and (self.callees is not known or self.record.ringing_at == now):
                self.core.out.append(Journal(rings(self, now)))

    def _on_success(self, client: InviteClientTransaction, response: Message, now: float) -> None:
        """Every 2xx goes up at once, also one that comes after a CANCEL or from a gateway that was left
        (RFC 3261 §16.7 step 5): the call exists. One that comes when the call is over has nobody to talk to."""
        self.callees, side = hear(self.callees, response, _home(client))
        first = side is not None and side.stage is Stage.EARLY
        if side is not None and first:
            side.stage = Stage.UP
            side.seen_at = self.caller.seen_at = self.up_at = now
            if self.phase is not Phase.OVER and self.core.around.goes(self, client, response):
                side.around = side.acknowledged = True  # nobody can know better
                self.record.reason = REASON
            side.vitals = Vitals(session_seconds(response) if not side.around else None, now)
            if self.phase is Phase.UP:  # another dialog of a fork
                self.look_again(now)
        self._well(client)
        news = first
        if self.phase is Phase.TRYING:
            news = True
            self.phase = Phase.UP
            self.answered(client, response, side, now)
            if not self.cancelled:
                self.cancel_reason = COMPLETED_ELSEWHERE
            for other in self.attempts:
                if other is not client:
                    self._cancel(other, now)
            self.attempts.clear()
            self.current.clear()
        if (first or side is None) and may_say(response):
            self.says_recorded(response, now)
        told = self._pass_on(response, now)
        if news and self.phase is Phase.UP:
            self.keep(now)
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
        if client.passage is not None and code in CHALLENGED and client not in self.current:
            return  # of a gateway that was left, and not the PBX's to answer
        self._keep_best(code, response)
        self.tell(now, "answers", code, client.target.name if client.target is not None else "")
        if code in CHALLENGED:
            self.challenger = client.target
        if code < 400 and self._deflected(client, response, now):
            return
        if code >= 600:
            self._stop_others(client, now)
        elif client in self.current:
            target = client.target
            one_of_several = target is not None and (target.device or bool(target.onward))
            missed = self.emergency and code not in CHALLENGED
            others = one_of_several or missed or code == 503 or self._leads_on(code)
            self._lost(client, now, others=others)

    def _deflected(self, client: InviteClientTransaction, response: Message, now: float) -> bool:
        """Whether a PBX's 302 leads to a telephone number: then the gate carries the call on itself. Whoever else rings
        rings on; the number comes next."""
        target = client.target
        if self.direction == OUTBOUND or client not in self.current or (target is not None and target.onward):
            return False
        onward = self.core.bridge.deflected(self, response)
        if not onward or self.cancelled:
            return False
        if self.best is not None and self.best[1] is response:
            self.best = None
        here = self.group + 1
        self.groups = [*self.groups[:here], *[(each,) for each in onward], *self.groups[here:]]
        if self.steps:
            self.steps = (*self.steps[:here], *[None] * len(onward), *self.steps[here:])
        self._lost(client, now, others=True)
        return True

    def _leads_on(self, code: int) -> bool:
        """Whether a final answer at this step of a number's route leads to the next one."""
        if not self.steps or self.group >= len(self.steps):
            return False
        step = self.steps[self.group]
        if code in BUSY:
            return step is not None and step.busy_too
        return code in UNANSWERED or (code == 487 and self.rang_out)

    def _answers(self, client: InviteClientTransaction, response: Message, now: float) -> bool:
        """Whether the gate deals with a challenge of the trunk itself: the INVITE goes once more, with credentials.
        The carrier has seen the call, so that takes no token."""
        passage, target = client.passage, client.target
        if passage is None or target is None or client not in self.current or self._declined():
            return False
        if not self.cancelled:
            assert self.dialled is not None
            uri = self.core.trunk_uri(self.dialled, target.hostport, self.trunk)
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
        self.keep(now)
        if self._next_group(now) >= 0:
            self._wake(now + self.trunk.try_seconds)
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

    def on_failed(self, client: AnyClient, now: float, trouble: Trouble) -> None:
        """ICMP, or a connection that can't be had: as if the gateway had answered 503 (RFC 3261 §16.9)."""
        assert isinstance(client, InviteClientTransaction)
        target = client.target
        if target is not None and client.flow.listener is not target.flow.listener and client in self.current:
            # It was too large for a datagram, and there is no stream to be had (RFC 3261 §18.1.1).
            claim = client.claim
            unsent = self.core.sent_at.get(claim, 0.0)
            self.core.streams.refused(client.flow, now)
            needs_none = self.direction == INBOUND or self.free or client.passage is not None
            if (claim and (unsent < 0.0 or unsent == NEVER)) or (not claim and needs_none):
                self.core.sent_at.pop(claim, None)
                client.claim = 0
                self.current.remove(client)
                self._try(target, claim, now, by_datagram=True, passage=client.passage)
                self.keep(now)
                return
        if target is not None and target.binding is not None and target.flow.listener.reliable:
            self.core.registrar.failed(target.binding)
        self._failed(client, "calls can't be delivered", now, lost=trouble)

    def _failed(self, client: AnyClient, why: str, now: float, *, lost: Trouble | None = None) -> None:
        assert isinstance(client, InviteClientTransaction)
        self.copies.stop(self, client, now)
        self._silent(client, why, now, lost=lost)
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
        self.keep(now)
        return True

    def _lost(self, client: InviteClientTransaction, now: float, *, others: bool) -> None:
        """An attempt of the present group has failed. `others`: those of the next group may do better."""
        self.current.remove(client)
        if self.cancelled and all(other.state is State.CALLING for other in self.current):
            for other in self.current:  # silent phones: they are heard, but nobody waits for them
                self._leave(other, now)
            self.current.clear()
        if self.current:
            return
        if others and not self.cancelled and self._next_group(now) >= 0:
            self._go_on(now)
        else:
            self.conclude(now)

    def _well(self, client: InviteClientTransaction) -> None:
        """An attempt has shown that a gateway takes calls."""
        if client.target is not None:
            self.core.trunks.call_well(client.target, self.key)

    def _silent(
        self, client: InviteClientTransaction, why: str, now: float, *, lost: Trouble | None = None
    ) -> None:
        """An attempt has shown that a gateway does not answer, or (`lost`: why) can't be reached."""
        if client.target is not None:
            self.tell(now, "silent", client.target.name, why)
            self.core.trunks.call_failed(client.target, self.key, why, now, lost=lost)
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
        if not told:  # else its words are about the rate of this key, and K11 is enough
            if pause is not None:
                trunks.asks_for_pause(target, self.key, pause, now)
            trunks.call_failed(target, self.key, "503 to calls", now)
        last = self.current == [client] and self._next_group(now) < 0
        if (told or last) and not self.away:
            trunks.congested(self.key, now, plain=not told and pause is None)

    # -- giving up ---------------------------------------------------------------------------------------

    def on_cancel(self, server: AnyServer, cancel: Message, now: float) -> None:
        """The caller gave up. A 2xx that is on its way still wins (RFC 3261 §9.1)."""
        if self.phase is Phase.UP or self.phase is Phase.OVER or self.cancelled:
            return
        self.cancelled = True
        self.tell(now, "cancels")
        self.cancel_reason = [cancel.lines[i] for i in cancel.find(b"reason")]  # RFC 3326 §2
        live = [c for c in self.attempts if c.state <= State.PROCEEDING]
        if not live or self.copies.wait_for_gateway:
            self.answer(487, [], now)  # nothing was sent, or a further attempt waits for its token
            return
        for client in live:
            self._cancel(client, now)
        if self.core.journals:
            self.core.out.append(Journal(rings(self, now)))

    def on_unacknowledged(self, server: AnyServer, now: float) -> None:
        """Timer H: the caller never acknowledged a failure. What the call held went when that was sent."""
        self.server = None

    def expire_trying(self, now: float) -> None:
        """Silent targets are left for the next group; Timer C."""
        ringing = [client for client in self.current if client.state is State.PROCEEDING]
        if ringing:
            self.rang_out = now >= self.ring_until and self._next_group(now) >= 0
            if now >= self.ring_until and not self.rang_out:  # the last step rings on
                self.ring_until = NEVER
                self._wake(now + TIMER_C)
                return
            for client in ringing:
                self._cancel(client, now)  # Timer C (RFC 3261 §16.8)
        elif silent := self._with_other_flow():
            for client in silent:
                self._leave(client, now)
                self._other_flow(client, now)
            self._wake(now + self.trunk.try_seconds)
        elif self.current and (self.emergency or self._next_group(now) >= 0):
            self.timed_out = True
            for client in self.current:
                self._leave(client, now)
                self._silent(client, "calls are not answered", now)
            if self.cancelled:
                return
            if self._next_group(now) >= 0:
                self._go_on(now)
                if self.copies.wait_for_gateway:
                    self.keep(now)  # else a crash takes it back to who was left
            else:
                self.current.clear()
                self.conclude(now)  # an emergency call does not wait for Timer B

    def _wake(self, due: float) -> None:
        self.due = due
        self.core.wheel.add(self)


def _home(client: InviteClientTransaction) -> Flow:
    """Where a callee is reached inside the dialog: not by the stream that only a large INVITE went over."""
    return client.target.flow if client.target is not None else client.flow
