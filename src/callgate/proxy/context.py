"""What a call knows while it looks for somebody to take it, and which answer goes up: the response context of RFC 3261
§16.7, steps 6 to 10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from callgate.policy.claim import Part, Verdict
from callgate.proxy.answer import rank, reply
from callgate.proxy.commands import Alert, Send
from callgate.proxy.copies import Copies
from callgate.proxy.dialog import Side
from callgate.proxy.edge import NO_EDITS, Edits
from callgate.proxy.flow import Flow
from callgate.proxy.forward import Routes, response_out
from callgate.proxy.journal import STEPS
from callgate.proxy.login import CHALLENGED, WARNING, refusal
from callgate.proxy.peers import Key, Step
from callgate.proxy.record import OUTCOMES, CallRecord
from callgate.proxy.targets import Groups, Target
from callgate.proxy.token import INBOUND, OUTBOUND
from callgate.proxy.transactions import AnyServer, InviteClientTransaction
from callgate.sip.message import CSEQ, Message
from callgate.sip.transaction import LIFE, NEVER, State
from callgate.sip.uri import Uri

if TYPE_CHECKING:
    from callgate.proxy.core import Core
    from callgate.proxy.cseq import Shift

CHALLENGES = (b"www-authenticate", b"proxy-authenticate")


PASSED_ON = frozenset({380, 401, 403, 404, 407})
"""Answers of an emergency route that the PBX may hear: none of them stops it from trying its next one."""


class Phase:
    """Of a call. No enum, as with `Stage` and `Standing`: before Python 3.12 looking into the class of one takes
    three times as long, and a call does so seventy times."""

    ASKING: Final = 0
    TRYING: Final = 1
    UP: Final = 2
    OVER: Final = 3


class Context:
    """The half of a `Call` that tries targets and picks the answer.

    `current` are the attempts of the present group that have no final answer yet; `attempts` holds those of earlier
    groups too. `best` is the final answer to pass on when nothing is left to try. `shift` is not None where the gate
    answers the trunk's challenges, `refused` when the trunk would not have its credentials. `trunk` is the one that
    carries the call: the key's, unless an emergency call goes elsewhere. `emergency`: no limit, no gateway's past and
    no silence holds it up.
    """

    __slots__ = (
        "attempts",
        "best",
        "call_id",
        "callees",
        "caller",
        "caller_uri",
        "cancel_reason",
        "cancelled",
        "challenger",
        "challenges",
        "copies",
        "core",
        "current",
        "dialled",
        "did",
        "direction",
        "due",
        "emergency",
        "free",
        "group",
        "groups",
        "hops",
        "inbound_leg",
        "key",
        "leg",
        "mark",
        "origin",
        "parts",
        "phase",
        "proceeding",
        "rang_out",
        "record",
        "refused",
        "request",
        "reserved",
        "ring_until",
        "routes",
        "server",
        "shift",
        "slot",
        "steps",
        "story",
        "timed_out",
        "tokens",
        "trunk",
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
        self.trunk = key.trunk
        self.emergency = False
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
        self.caller_uri = b""  # its From
        self.steps: tuple[Step | None, ...] = ()  # of the route of its number, one for each group
        self.ring_until = NEVER  # the present step may ring so long
        self.rang_out = False
        self.reserved = 0  # of a call in that is to be forwarded: the claim of the call out
        self.did = ""  # of a call in: the number of its key that was called
        self.inbound_leg = 0  # of a forward: the call in that it carries on
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
        self.parts: tuple[Part, ...] = ()  # what its claim names
        self.story: list[tuple[object, ...]] = []  # what happened, for `callgate explain`: (when, what, …)

    is_session = False
    """Whether it records another call (`proxy.siprec`), and is none itself."""

    def tell(self, now: float, what: str, *details: object) -> None:
        """One more step of the call's story; `store.story` has the words."""
        if len(self.story) < STEPS:
            self.story.append((now, what, *details))

    def keep(self, now: float) -> None:
        """Write down how the call stands, so that a crash does not end it."""
        raise NotImplementedError

    @property
    def away(self) -> bool:
        """Whether the call is carried by another trunk than its key's."""
        return self.trunk is not self.key.trunk

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

    def renew(self, lease: float, now: float) -> None:
        """It lives, and holds what it holds for so many seconds from now."""
        raise NotImplementedError

    def says_recorded(self, response: Message, now: float) -> None:
        """A callee may have said whether it is recorded (I1)."""
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

    # -- the answer that goes up ---------------------------------------------------------------------------

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
            if self.emergency and code not in PASSED_ON and not self.cancelled:
                self._next_route(f"{self.record.gateway} answered {code}", now)
                return
            mapped = 500 if code == 503 and self.trunk.upstream_503 == "500" else 0
            self._let_go(now)
            self._finish(mapped or code, now)
            self._pass_on(response, now, mapped)
        elif self.cancelled:
            self.answer(487, [], now)
        else:
            why = "no gateway answered" if self.timed_out else "no gateway can be reached"
            if self.direction == INBOUND:
                why = why.replace("gateway", "PBX")
            if self.emergency:
                self._next_route(why, now)
                return
            self.record.reason = why
            warning = [] if self.direction == INBOUND else [b'Warning: 399 callgate "%b"' % why.encode()]
            self.answer(408 if self.timed_out else 503, warning, now)

    def _not_let_in(self, code: int, now: float) -> None:
        """The trunk does not take the gate's credentials. The PBX can do nothing about it: it gets a 403."""
        self.record.reason = "the trunk refuses the credentials of the gate"
        self.core.alert(refusal(self.trunk.name, code), now)
        self.answer(403, [WARNING], now)

    def _next_route(self, why: str, now: float) -> None:
        """An emergency call that its route did not take: whatever that said, the PBX hears what makes it try its next
        route at once."""
        record, key = self.record, self.key
        record.reason = f"the emergency route did not take the call: {why}"
        code = key.trunk.emergency_code
        text = f"an emergency call was not taken by its route ({why}) and was answered with {code}"
        who = {"caller": record.caller_raw, "dialled": record.raw}
        self.core.alert(Alert("EMG-ROUTE", "critical", key.id, text, details=who), now, each=True)
        self.answer(code, [b'Warning: 399 callgate "%b"' % record.reason.encode("ascii", "replace")], now)

    def _challenged(self, response: Message, now: float) -> None:
        """The caller gets every challenge that was collected (RFC 3261 §16.7 step 7)."""
        if self.direction == OUTBOUND and self.dialled is not None:
            self.core.challenges.passed_on(self, self.dialled.raw, now)
        own = {response.lines[i] for name in CHALLENGES for i in response.find(name)}
        others = [line for line in self.challenges if line not in own]
        if others:
            response.lines += others

    def answer(self, code: int, headers: list[bytes], now: float) -> None:
        """End the call with a final answer of the gate's own."""
        server = self.server
        assert server is not None
        request = server.request
        self._let_go(now)
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
        self.core.counts.sent(b"INVITE", response.code)
        self.core.out.append(Send(server.flow, data))
        return True

    def _let_go(self, now: float) -> None:
        """The call ends: whoever rings is cancelled, whoever is silent gets no more copies."""
        for client in self.attempts:
            self._cancel(client, now)
            if client.state is State.CALLING:
                self._leave(client, now)

    def _cancel(self, client: InviteClientTransaction, now: float) -> None:
        """Cancel an attempt: at once when it has had a provisional answer, else when that comes."""
        if client.state is State.PROCEEDING and client.end_at == NEVER:
            self.core.counts.sent(b"CANCEL")
            self.core.layer.cancel(client, self.cancel_reason, now)
            self.core.layer.end_by(client, now + LIFE)
        elif client.state is State.CALLING and (self.phase >= Phase.UP or client not in self.current):
            self._leave(client, now)

    def _leave(self, client: InviteClientTransaction, now: float) -> None:
        """Send a silent target no more copies, but go on listening to it."""
        self.copies.stop(self, client, now)
        self.core.layer.abandon(client)
