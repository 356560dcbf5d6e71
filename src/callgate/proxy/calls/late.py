"""Callees that pick up when nobody waits any more: the call is over, or the INVITE's transaction has timed out.

On a line that loses, whatever a gateway says can be lost until its call is given up. It rings there all the same, and
whoever picks up then has a call with nobody. The 2xx is passed on where RFC 3261 §16.7 has it; but a caller who has had
a failure drops it (RFC 6026 §7.2), and the callee would wait half a minute for an ACK. So whoever does not end such a
dialog himself soon has it ended by the gate, which gave the failure: ACK and BYE (§13.2.2.4). A line is held for it
from the 2xx on until the carrier has let go of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.policy.claim import Claim, Verdict
from callgate.policy.ledger import ASK_SECONDS
from callgate.proxy.calls.dialog import Side, Stage, side_of
from callgate.proxy.calls.hangup import AHEAD, Bye, own_request
from callgate.proxy.commands import Release, Send
from callgate.proxy.flow import INNER, Flow, Trouble
from callgate.proxy.peers import Key, Peer, Trunk
from callgate.proxy.telemetry.meters import FORWARDED
from callgate.proxy.token import AWAY, INBOUND, OUTBOUND
from callgate.proxy.transactions import AnyClient, InviteClientTransaction
from callgate.sip.message import FROM, TO, Message
from callgate.sip.transaction import LIFE, NEVER, T2

if TYPE_CHECKING:
    from callgate.proxy.calls.call import Call
    from callgate.proxy.core import Core

MOST = 1000
"""Late answers at the same time; beyond that they end when their callee gives up (64*T1)."""
TAKES_UP = T2
"""Seconds a caller who was told has to acknowledge."""
HANGS_UP = LIFE
"""Seconds it then has to hang up: the gate has said that there is no such call."""
LEASE = 4 * LIFE
"""Seconds; all is over long before."""


class LateAnswers:
    """By Call-ID and To tag, as long as copies of them may come."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.open: dict[tuple[bytes, bytes], LateAnswer] = {}

    def heard(
        self,
        call: Call,
        client: InviteClientTransaction,
        response: Message,
        first: bool,
        told: bool,
        now: float,
    ) -> None:
        """A 2xx that matches a transaction of a call that is over. `first`: of this callee; `told`: it was passed on
        to a caller who knows that the call is over."""
        if first:
            call.remember(now + TAKES_UP + HANGS_UP + LIFE)
        if first or (response.call_id, response.to_tag) in self.open:
            counted = call.counted_as
            self._take(call.key, call.trunk, counted, client.branch, response, client.flow, told, now)

    def stray(self, response: Message, branch: bytes, flow: Flow, now: float) -> bool:
        """A 2xx to an INVITE that matches no transaction; False where it is none of ours. Our token in its Via says
        whose call it was; it has to come from where that key's calls go: a phone that is known by its password only,
        from where its INVITE went."""
        core = self.core
        text = branch.partition(b".")[0]
        call = core.by_token.get(text)
        side = side_of(call.callees, response.to_tag) if call is not None else None
        if side is not None and side.stage is not Stage.EARLY:
            return False  # one more copy of an answer that was heard
        token = core.signer.read(text, response.call_id, response.from_tag)
        if token is None or (call is None and not core.began_here(token.leg)):
            return False
        key = core.directory.key_of_tag.get(token.key_tag)
        peer = core.directory.identify(flow)
        if key is None:
            return False
        trunk = key.trunk if token.gateway < AWAY else key.trunk.emergency
        if trunk is None:
            return False
        if token.direction == OUTBOUND:
            theirs = peer.trunk is trunk
        else:
            theirs = peer.key is key or key in peer.owners or flow.host == token.pbx_host
        if not theirs:
            return False
        inner = token.direction == OUTBOUND and token.pbx_listener == INNER
        counted = FORWARDED if inner else token.direction
        self._take(key, trunk, counted, branch, response, flow, False, now)
        return True

    def _take(
        self,
        key: Key,
        trunk: Trunk,
        counted: int,
        branch: bytes,
        response: Message,
        flow: Flow,
        told: bool,
        now: float,
    ) -> None:
        name = (response.call_id, response.to_tag)
        answer = self.open.get(name)
        if answer is not None:
            answer.again()
        elif response.to_tag and len(self.open) < MOST:
            token = branch.partition(b".")[0]
            self.core.counts.rejected("late answer")
            answer = self.open[name] = LateAnswer(self, key, trunk, counted, token, response, flow, now)
            answer.begin(told, now)

    def taken_up(self, call_id: bytes, tag: bytes, now: float) -> None:
        """The caller has acknowledged: it will hang up too."""
        answer = self.open.get((call_id, tag))
        if answer is not None and not answer.hung_up:
            answer.due = now + HANGS_UP

    def over(self, call_id: bytes, tag: bytes) -> None:
        """One of the two sides has hung up."""
        answer = self.open.get((call_id, tag))
        if answer is not None:
            answer.over()


class LateAnswer:
    """One dialog with nobody. The user of the BYE that ends it. `counted`: as what, a place in `meters.DIRECTIONS`."""

    __slots__ = (
        "answers",
        "bye",
        "claim",
        "counted",
        "due",
        "held",
        "hung_up",
        "is_over",
        "key",
        "name",
        "number",
        "parties",
        "peer",
        "side",
        "slot",
        "token",
    )

    def __init__(
        self,
        answers: LateAnswers,
        key: Key,
        trunk: Trunk,
        counted: int,
        token: bytes,
        response: Message,
        flow: Flow,
        now: float,
    ) -> None:
        self.answers = answers
        self.key = key
        self.counted = counted
        self.token = token
        self.name = (response.call_id, response.to_tag)
        self.parties = (response.value(FROM), response.value(TO))
        self.number = response.cseq_number
        self.peer = Peer(key=key) if counted == INBOUND else Peer(trunk=trunk)
        self.side = Side(response.to_tag, flow)
        self.side.learn_contact(response)
        self.side.learn_routes(response)
        self.held = self.hung_up = self.is_over = False
        self.claim = 0
        self.bye: Bye | None = None
        self.due = NEVER
        self.slot = 0

    def begin(self, told: bool, now: float) -> None:
        """Count the line, whatever the limit: the carrier does. One that the PBX answers late is nothing to the
        carrier."""
        core, key = self.answers.core, self.key
        lines = key.forwarded_lines if self.counted == FORWARDED else key.lines
        if self.peer.trunk is key.trunk and lines:
            self.claim = core.next_id()
            core.ask(self, key, Claim(self.claim, lines, now + ASK_SECONDS, LEASE, force=True), now)
        if told:
            self.due = now + TAKES_UP
        else:
            self._hang_up(now)
        core.wheel.add(self)

    def again(self) -> None:
        """A further copy of the answer: its ACK was lost."""
        if self.hung_up:
            self._acknowledge()

    def over(self) -> None:
        """Nothing is held any more."""
        self.is_over = True
        if self.held:
            self.held = False
            core = self.answers.core
            core.out.append(Release(self.claim))
            core.counts.call_down(self.key, self.counted)

    def expire(self, now: float) -> None:
        """The caller has not done it; or no copies come any more."""
        if self.hung_up or self.is_over:
            self.due = NEVER
            self.answers.open.pop(self.name, None)
        else:
            self._hang_up(now)

    def _hang_up(self, now: float) -> None:
        self.hung_up = True
        self.due = now + LIFE
        self._acknowledge()
        self.bye = Bye(self.side, self.peer, self.parties, self.name[0], self.number + AHEAD, self.token)
        self.bye.send(self.answers.core, self, now)

    def _acknowledge(self) -> None:
        core = self.answers.core
        flow, _, data = own_request(
            core, b"ACK", self.side, self.peer, *self.parties, self.name[0], self.number, self.token
        )
        core.out.append(Send(flow, data))

    def on_verdict(self, claim_id: int, verdict: Verdict, now: float) -> None:
        if not verdict.granted:
            return
        if self.is_over:
            self.answers.core.out.append(Release(claim_id))
        else:
            self.held = True
            self.answers.core.counts.call_up(self.key, self.counted)

    def on_response(self, client: AnyClient, response: Message, now: float) -> None:
        if self.bye is not None and self.bye.again(self.answers.core, client, response, now):
            return
        if response.code >= 200:
            self.over()

    def on_timeout(self, client: AnyClient, now: float) -> None:
        self.over()

    def on_failed(self, client: AnyClient, now: float, trouble: Trouble) -> None:
        self.over()

    def on_repeat(self, client: AnyClient, now: float) -> None:
        raise AssertionError("only initial INVITEs carry a claim")
