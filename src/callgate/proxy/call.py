"""One call: an INVITE that would open a dialog, from its arrival to its last line given back.

    ASKING ──claim──▸ TRYING ──2xx──▸ UP ──BYE…──▸ OVER
       └── refused, cancelled, 3xx–6xx, no gateway left ──▸ OVER

A call is the user of its server transaction and of every client transaction it tries: it is the response context
of RFC 3261 §16.7 for attempts that follow each other, trunk gateways for an outbound call, the PBX for an
inbound one. Whatever it holds is given back in `end`, and only there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.numbers import read_dialled
from callgate.policy.claim import GRANTED, Claim, Members, Part, Verdict
from callgate.policy.ledger import ASK_SECONDS, LEASE
from callgate.proxy.answer import DRAINING, Refusal, refused_by_limit, reply
from callgate.proxy.attempts import TIMER_C, Attempts
from callgate.proxy.commands import Alert, Arrived, Journal, Record, Release, Renew
from callgate.proxy.context import Phase
from callgate.proxy.dialog import Side, Stage, side_of
from callgate.proxy.flow import Flow
from callgate.proxy.journal import over, trying, up
from callgate.proxy.lanes import Parts
from callgate.proxy.login import CHALLENGED
from callgate.proxy.meters import DIRECTIONS, FORWARDED
from callgate.proxy.peers import Key
from callgate.proxy.record import PAST
from callgate.proxy.token import INBOUND, OUTBOUND
from callgate.proxy.transactions import AnyServer, InviteClientTransaction
from callgate.proxy.turn import Turn
from callgate.proxy.vitals import look
from callgate.sip.message import FROM, TO, Message, header_value
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

    __slots__ = ("ahead", "from_line", "to_line", "turn")

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
        self.turn: Turn | None = None  # while it waits for a token
        self.ahead = 0  # by how much requests of our own may have to be ahead of what is known of its CSeqs
        server.user = self
        core.live_calls += 1

    def forwards(self, leg: Call) -> None:
        """This call carries on a call in (V4), which may have claimed for both."""
        self.inbound_leg = leg.leg
        if self.leg == leg.reserved:
            if self.key is leg.key:
                self.copies.granted = (self.leg,)
            else:  # a reload has come in between: it asks for what it needs by now
                self.core.out.append(Release(self.leg))
            leg.reserved = 0
        self.record.direction = DIRECTIONS[FORWARDED]
        self.record.forwarded_of = leg.leg

    @property
    def counted_as(self) -> int:
        """Its place in `meters.DIRECTIONS`."""
        return FORWARDED if self.inbound_leg else self.direction

    # -- admission ---------------------------------------------------------------------------------------

    def ask(self, now: float) -> None:
        """Claim everything that the call needs, at once."""
        server, request = self.server, self.request
        assert server is not None and request is not None
        core = self.core
        if core.draining and not (self.direction == INBOUND and self.free):
            self.refuse(DRAINING, now)
            return
        core.layer.respond(server, 100, reply(request, 100), now)
        if core.recordings.concerns(self, request) and core.recordings.begins(self, request, now):
            return  # it has its licence first, or none
        self.admit(now)

    def admit(self, now: float) -> None:
        """Claim all but the licence of a recording (I1), which it has by now if it needs one."""
        core, inbound = self.core, self.direction == INBOUND
        if self.copies.granted:
            self.parts = self.claims(now, self.key)
            self.on_verdict(self.leg, GRANTED, now)  # its call in has claimed for both
            return
        key = self.key
        if key.waits and not (inbound or self.free or key.shadow):
            self.turn = Turn(self, now)
            self.parts = self.claims(now, key)
            self.tell(now, "asks", core.rows.rules(self.parts))
            core.pacing.enter(self.turn, now)
            return
        self._claim(now, with_forward=inbound)

    def _claim(self, now: float, *, with_forward: bool = False) -> None:
        parts = self.parts = self.claims(now, self.key)
        claim = Claim(self.leg, parts, now + ASK_SECONDS, LEASE, force=self.key.shadow)
        if with_forward:
            self._with_forward(claim, now)
        self.tell(now, "asks", self.core.rows.rules(parts))
        self.core.ask(self, self.key, claim, now)

    def claims(self, now: float, key: Key) -> Parts:
        """What the call claims of its key at this moment."""
        if self.direction == INBOUND:
            parts, more = (key.inbound_free, ()) if self.free else (key.inbound, key.more_in)
        else:
            parts = key.lines if self.free else key.claims(now)[2 if self.inbound_leg else 0]
            if key.gap or key.reach is not None:
                parts = key.to_number(parts, self.record.canonical, first=not self.free)
            more = key.more_out
        if not more:
            return parts
        record = self.record
        caller = read_dialled(record.caller_raw).canonical or record.caller_raw
        number = self.did or record.canonical
        utc = now + self.core.utc_offset
        made = [one.part(caller, number, record.number_class, utc) for one in more]
        # Of a call that the carrier has seen, the line counts anew, the call does not.
        kinds = Members if self.free else Part
        return tuple([p for p in made if isinstance(p, kinds)]) + parts

    def _with_forward(self, claim: Claim, now: float) -> None:
        """A call in that is to go to a telephone number claims for both legs at once (V4), unless others wait for the
        rate: then its forward waits as they do. Further limits depend on the number it goes to: it asks for those."""
        key, core = self.key, self.core
        if self.free or not self.groups[0][0].onward or key.more_out or core.pacing.depth(key.id):
            return
        self.reserved = core.next_id()
        claim.twin = Claim(self.reserved, key.claims(now)[2], claim.deadline, LEASE, key.shadow)

    def go(self, now: float) -> None:
        """An emergency call leaves at once. What it takes of its contract is counted, and nobody is asked first."""
        server, request, core, key = self.server, self.request, self.core, self.key
        assert server is not None and request is not None
        self.emergency = True
        core.layer.respond(server, 100, reply(request, 100), now)
        if self.away:
            self.free = True  # another trunk: it takes nothing of this contract
        else:
            parts = self.parts = key.lines if self.free else key.outbound
            core.ask(self, key, Claim(self.leg, parts, now + ASK_SECONDS, LEASE, force=True), now)
        if core.recordings.concerns(self, request):
            core.recordings.begins(self, request, now)
        self.phase = Phase.TRYING
        core.counts.call_up(key, self.direction)
        self.attempt(0 if self.away else self.leg, now)

    def on_verdict(self, claim_id: int, verdict: Verdict, now: float) -> None:
        """The store has answered, or has not in time."""
        if self.emergency:
            self._counted(claim_id, verdict, now)
            return
        if self.phase is not Phase.ASKING:
            if verdict.granted:
                self.core.out += [Release(each) for each in (claim_id, self.reserved) if each]
            return
        if self.reserved and not verdict.granted and verdict.name in self.key.paced and not self.key.shadow:
            self.reserved = 0  # the forward waits for its token by itself
            self._claim(now)
            return
        refusal = self.why(verdict) if verdict.rule else None
        if verdict.granted:
            if claim_id not in self.copies.granted:
                self.copies.granted += (claim_id,)
            self.tell(now, "granted", verdict.used)
        elif refusal is not None and not self.key.shadow:
            self.refuse(refusal, now)
            return
        if self.core.suspensions.all:  # it may have waited since before that
            suspended = self.core.suspensions.refusal(self, now)
            if suspended is not None:
                if self.direction == OUTBOUND:
                    self.core.pacing.unsent(self.key, claim_id)
                self.refuse(suspended, now)
                return
        if refusal is not None:
            self.passes(refusal, now)
        self.phase = Phase.TRYING
        self.core.counts.call_up(self.key, self.counted_as)
        if self.direction == INBOUND:
            self.core.forwards.opened(self)
        if self.direction == OUTBOUND:
            self.core.observer.leaves(self, now)
        elif self.key.windows_in:
            self.core.out.append(Arrived(claim_id))
        self.attempt(claim_id, now)

    def _counted(self, claim_id: int, verdict: Verdict, now: float) -> None:
        """The store has counted an emergency call that did not wait for it."""
        if not verdict.granted:
            return  # no answer in time: a later one is given back
        if self.phase is Phase.OVER:
            self.core.out.append(Release(claim_id))
            return
        self.copies.granted += (claim_id,)
        if verdict.limit and not verdict.note:
            rule, value, limit = verdict.rule, verdict.value, verdict.limit
            text = f"an emergency call went beyond {rule}: {value}/{limit}; ordinary calls wait for it"
            self.core.alert(Alert(f"{rule}+EMG", "warning", self.key.id, text, value, limit), now)

    def why(self, verdict: Verdict) -> Refusal:
        """A limit's refusal in words."""
        note = verdict.note
        if verdict.name.startswith("trunk/") and not note:
            note = "over all keys of the trunk"
        text = self.key.words.get(verdict.rule, "") if "/more/" in verdict.name else ""
        return refused_by_limit(verdict.rule, verdict.value, verdict.limit, note, text)

    def nowhere(self, code: int, why: str, now: float) -> None:
        """There is nobody to bring the call to (RFC 3261 §16.5: an empty target set)."""
        self.record.reason = why
        self.answer(code, [], now)

    def refuse(self, refusal: Refusal, now: float) -> None:
        """Answer the call with what the gate decided, and say why to a PBX."""
        inbound = self.direction == INBOUND
        record = self.record
        record.verdict, record.outcome, record.shadow = "refused", "refused", False
        record.rule, record.value, record.limit = refusal.rule, refusal.value, refusal.limit
        record.reason = refusal.note or refusal.text
        if refusal.limit:
            self.breach_avoided(refusal, now)
        self.answer(
            refusal.inbound_code if inbound else refusal.code, [] if inbound else refusal.headers(), now
        )

    def passes(self, refusal: Refusal, now: float) -> bool:
        """Whether a call passes in spite of a limit or number rule: in shadow mode it does, and it is noted what would
        have become of it; the first rule decides, as it would have."""
        if not self.key.shadow:
            return False
        record = self.record
        if not record.shadow:
            record.shadow = True
            record.rule, record.value, record.limit = refusal.rule, refusal.value, refusal.limit
            record.reason = f"would have been refused: {refusal.note or refusal.text}"
            self.core.counts.shadow(self.key, refusal.rule)
            text = f"shadow mode: a call has passed that would have been refused: {refusal.text}"
            alert = Alert(refusal.rule, "info", self.key.id, text, refusal.value, refusal.limit)
            self.core.alert(alert, now)
        return True

    def breach_avoided(self, refusal: Refusal, now: float) -> None:
        """A limit refuses the call, or holds it up."""
        alert = Alert(
            refusal.rule,
            "warning",
            self.key.id,
            f"breach avoided: {refusal.text} would have been {refusal.value}/{refusal.limit}",
            refusal.value,
            refusal.limit,
            details={"kind": "breach_avoided"},
        )
        self.core.alert(alert, now)

    # -- what attempts lead to ---------------------------------------------------------------------------

    def keep(self, now: float) -> None:
        if not self.core.journals:
            return
        if self.phase is Phase.TRYING and self.server is not None:
            self.core.out.append(Journal(trying(self, now)))
        elif self.phase is Phase.UP:
            self.core.out.append(Journal(up(self, now)))

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
        longest = self.longest
        self.renew(NEVER if longest is None else longest + SPARE, now)
        first = self.core.directory.probing.earliest
        self._wake(now + min(NO_ACK, longest or NO_ACK, first))

    def renew(self, lease: float, now: float) -> None:
        self.core.out.append(Renew(self.leg, lease))
        if self.core.recordings:
            self.core.recordings.renew(self, now)

    def says_recorded(self, response: Message, now: float) -> None:
        self.core.recordings.heard(self, False, response, now)

    def began_as(self, side: Side) -> bytes:
        """The address that a side of its dialog began with; empty once the call is over."""
        of = FROM if side is self.caller else TO
        if self.request is not None:
            return self.request.value(of)
        return header_value(self.from_line if of == FROM else self.to_line)

    def picked_up_late(
        self, client: InviteClientTransaction, response: Message, first: bool, told: bool, now: float
    ) -> None:
        self.core.late.heard(self, client, response, first, told, now)

    @property
    def inner(self) -> bool:
        """Whether one of its sides is the gate's own endpoint."""
        flows = [self.caller.flow, *[side.flow for side in self.callees], *[c.flow for c in self.current]]
        return any(flow.listener.inner for flow in flows)

    # -- after a restart -----------------------------------------------------------------------------------

    def goes_on(self, until: float, now: float) -> None:
        """A call that is up goes on, until `until` at the longest."""
        self._wake(max(until, now))
        self.look_again(now)

    def goes_on_trying(self, since: float, now: float) -> None:
        """A call that nobody has answered goes on; what was last heard of it came at `since`."""
        for client in self.attempts:
            if self.cancelled or client not in self.current:
                self._cancel(client, now)
        if not self.current and self._next_group(now) >= 0:
            self._go_on(now)
        elif not self.current:
            self.conclude(now)
        elif self.proceeding:
            self._wake(max(now, min(min(since, now) + TIMER_C, self.ring_until)))
        elif self._next_group(now) >= 0:
            self._wake(now + self.key.trunk.try_seconds)

    def hears_again(self, response: Message, now: float) -> bool:
        """A copy of an answer to the INVITE, which an earlier start has passed on; False where this is none."""
        side = side_of(self.callees, response.to_tag)
        if self.phase is not Phase.UP or response.code >= 300 or side is None or side.stage is not Stage.UP:
            return False
        self._pass_on(response, now)
        return True

    def remember(self, until: float) -> None:
        """Keep an ended call in memory, for what is still to come inside its dialogs."""
        self.due = max(self.due, until)

    # -- its own timer -----------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """The call's own timer: Timer C and silent gateways before the answer, then the missing ACK and the
        longest call."""
        self.due = NEVER
        if self.phase is Phase.TRYING:
            self.expire_trying(now)
        elif self.phase is Phase.UP:
            self._expire_up(now)
        elif self.phase is Phase.OVER:
            self.core.forget(self)

    @property
    def longest(self) -> float | None:
        """Seconds after which the gate ends the call itself (C1); never an emergency call, nor in shadow mode."""
        return None if self.emergency or self.key.shadow else self.key.max_call_seconds

    @property
    def lease(self) -> float:
        """Seconds that what it holds is held from now on, unless it is renewed."""
        if self.phase is not Phase.UP:
            return LEASE
        longest = self.longest
        return NEVER if longest is None else longest + SPARE

    def _expire_up(self, now: float) -> None:
        answered, longest = self.record.answer_at, self.longest
        assert answered is not None
        until = NEVER if longest is None else answered + longest
        if now >= until:
            self.core.end_call(self, "C1", f"max_call_seconds {longest:g} reached", now)
            return
        if not self._acknowledged and now >= self.up_at + NO_ACK:
            self._never_acknowledged(now)
        if self.phase is Phase.UP:
            self._wake(until if self._acknowledged else min(until, self.up_at + NO_ACK))
            self.look_again(now)

    def _outlasts(self, now: float) -> None:
        """Shadow mode: whether C1 would have ended a call before it did."""
        answered, longest = self.record.answer_at, self.key.max_call_seconds
        if answered is not None and longest is not None and now >= answered + longest:
            self.passes(Refusal("C1", f"max_call_seconds {longest:g} reached", 0), now)

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
        if self.phase is Phase.UP and due < self.due:
            self._wake(due)

    def dialog_over(self, side: Side | None, now: float, ended_by: str, reason: str = "") -> None:
        """The dialog with one callee has ended. A call that was forked is over with the last of them; before the
        answer it is the INVITE's final answer that counts."""
        if side is not None:
            self.core.late.over(self.call_id, side.tag)
        if self.phase is not Phase.UP:
            return
        if side is not None:
            side.stage = Stage.OVER
        if not any(callee.stage is Stage.UP for callee in self.callees):
            self.record.reason = reason or self.record.reason
            self.end(now, ended_by)
        else:
            self.keep(now)

    # -- the end -----------------------------------------------------------------------------------------

    def _uncount(self) -> None:
        """It has been among the calls that are up or set up."""
        core = self.core
        core.counts.call_down(self.key, self.counted_as)
        if self.direction == INBOUND:
            core.forwards.ended(self)
        if self.direction == OUTBOUND and not self.emergency:
            core.observer.ended(self)

    def end(self, now: float, ended_by: str = "") -> None:
        """Give back all that the call holds. Whatever ends a call comes here; the second time is nothing."""
        if self.phase is Phase.OVER:
            return
        core, record = self.core, self.record
        core.holds.over(self, now)
        if self.key.shadow:
            self._outlasts(now)
        if core.recordings:
            core.recordings.ended(self, now)
        if self.phase is not Phase.ASKING:
            self._uncount()
        if self.reserved and self.copies.granted:
            core.out.append(Release(self.reserved))
        self.phase = Phase.OVER
        if self.turn is not None:
            turn, self.turn = self.turn, None
            core.pacing.leave(turn, now)
        self.copies.leave(self, None, now)
        for client in self.attempts:
            self.copies.stop(self, client, now)
        self.copies.release(self)
        record.end_at = now
        record.call_id = self.call_id.decode("utf-8", "replace")
        if record.answer_at is not None:
            record.outcome = "answered"
        record.ended_by = ended_by or record.ended_by
        core.live_calls -= 1
        core.adoption.ended(self.leg)
        challenged = record.final_code in CHALLENGED and self.dialled is not None
        if not (challenged and core.challenges.ended(self, self.dialled.raw)):  # type: ignore[union-attr]
            core.counts.ended(record)
        core.out.append(Record(record))
        if core.journals:
            core.out.append(Journal(over(self, now)))
            self.story = []
        # What is remembered of it from here on is little: many calls end within LINGER.
        self.request = self.routes = self.dialled = self.best = None
        self.groups = ()
        self.challenges = ()
        self.from_line = self.to_line = b""
        self.record = PAST
        self._wake(now + LINGER)
