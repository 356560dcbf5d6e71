"""Every request but the INVITE that opens a call: inside a dialog (re-INVITE, UPDATE, BYE, …) and outside
(MESSAGE, SUBSCRIBE, …). One server transaction, one client transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from callgate.policy.claim import Claim, Verdict
from callgate.policy.ledger import ASK_SECONDS, LEASE
from callgate.proxy.answer import reply
from callgate.proxy.calls.context import Phase
from callgate.proxy.calls.dialog import Side
from callgate.proxy.calls.vitals import session_seconds
from callgate.proxy.commands import Release
from callgate.proxy.contract.notices import may_say
from callgate.proxy.edge import NO_EDITS, Edits
from callgate.proxy.flow import Flow, Trouble
from callgate.proxy.forward import Routes, response_out
from callgate.proxy.peers import Key
from callgate.proxy.transactions import (
    NOBODY,
    AnyClient,
    AnyServer,
    InviteClientTransaction,
)
from callgate.proxy.trunk.login import CHALLENGED, WARNING, Passage, refusal
from callgate.sip.message import CSEQ, FROM, Message
from callgate.sip.transaction import LIFE, NEVER, State

if TYPE_CHECKING:
    from callgate.proxy.calls.call import Call
    from callgate.proxy.contract.licence import Offers
    from callgate.proxy.core import Core

TIMER_C = 181.0

REFRESHES = frozenset((b"INVITE", b"UPDATE"))
"""Requests that may set a new remote target (RFC 3261 §12.2, RFC 3311 §5.1)."""

SPEAKS = frozenset((b"INVITE", b"UPDATE", b"PRACK"))
"""Requests whose answer may describe a session anew (RFC 6337 §2)."""


class Way(NamedTuple):
    """What `Core.start` was given, for the same request once more."""

    request: Message
    uri: bytes
    token: bytes
    came: Flow | None
    to: Flow
    routes: Routes
    hops: int
    route: bytes


class Relay:
    """`call` is None outside a dialog, and inside one that is known only by its token. `sender` and `receiver`
    are its sides; `from_pbx` tells which of them is the PBX. `passage` is not None where the gate answers the
    challenges of the trunk."""

    __slots__ = (
        "call",
        "cancel_reason",
        "cancelled",
        "claim",
        "client",
        "core",
        "datagram",
        "due",
        "from_line",
        "from_pbx",
        "key",
        "method",
        "offers",
        "passage",
        "rate",
        "receiver",
        "request",
        "sender",
        "server",
        "slot",
        "trunk",
        "way",
    )

    def __init__(
        self,
        core: Core,
        request: Message,
        server: AnyServer,
        call: Call | None,
        sender: Side | None,
        receiver: Side | None,
        from_pbx: bool,
        key: Key,
    ) -> None:
        self.core = core
        self.key = key
        self.trunk = key.trunk  # that carries it
        self.method = request.method
        self.request: Message | None = request if request.method in REFRESHES else None
        self.server: AnyServer | None = server
        self.client: AnyClient | None = None
        self.call = call
        self.sender = sender
        self.receiver = receiver
        self.from_pbx = from_pbx
        self.cancelled = False
        self.cancel_reason: Sequence[bytes] = ()
        self.rate: Key | None = None  # set: it takes a token of this key before it goes,
        self.claim = 0  # and holds it under this claim
        # Where it went over a stream because of its size: the same as a datagram (message, branch, flow).
        self.datagram: tuple[bytes, bytes, Flow] | None = None
        self.passage: Passage | None = None
        self.from_line = (
            b""  # what it came with, where it left with another (I19): so its sender gets it back
        )
        self.way: Way | None = None
        self.offers: Offers = []  # what is recorded if it is taken (I1)
        self.due = NEVER
        self.slot = 0
        server.user = self

    def start(self, data: bytes, branch: bytes, flow: Flow, now: float) -> None:
        core = self.core
        core.counts.sent(self.method)
        client: AnyClient
        if self.method == b"INVITE":
            server = self.server
            assert server is not None and server.request is not None
            if self.client is None:
                core.layer.respond(server, 100, reply(server.request, 100), now)
            client = InviteClientTransaction(core.layer, branch, data, flow, self, now)
        else:
            client = core.layer.other_client(branch, data, flow, self, now)
        self.client = client
        if self.rate is not None and self.rate.attempt:
            force = self.rate.shadow
            claim = Claim(core.next_id(), self.rate.attempt, now + ASK_SECONDS, LEASE, force=force)
            core.ask(self, self.rate, claim, now)
        else:
            core.layer.send(client, now)

    def on_verdict(self, claim_id: int, verdict: Verdict, now: float) -> None:
        """The store's answer for a re-INVITE that takes a token."""
        client = self.client
        if client is None or self.cancelled or not verdict.granted:
            if verdict.granted:
                self.core.out.append(Release(claim_id))
            if client is not None:  # it will never go: no cycle is left
                client.user = NOBODY
            self._answer(487 if self.cancelled else 500, now)
            return
        self.claim = client.claim = claim_id
        self.core.layer.send(client, now)
        client.claim = 0

    def _give_back(self) -> None:
        """The re-INVITE has had its end: its token comes back when its time is up."""
        if self.claim:
            self.core.out.append(Release(self.claim))
            self.claim = 0

    def on_response(self, client: AnyClient, response: Message, now: float) -> None:
        code, server, passage = response.code, self.server, self.passage
        if code >= 200:
            self._give_back()
        if self.receiver is not None and code not in (408, 481):
            self.receiver.seen_at = now
        if passage is not None and code in CHALLENGED and self._answers(passage, response, now):
            return
        if code < 200:
            if self.method == b"INVITE":
                if self.cancelled:
                    self._cancel(now)
                elif code > 100 or self.due == NEVER:  # a 100 does not put it off (RFC 3261 §16.7 step 2)
                    self.due = now + TIMER_C
                    self.core.wheel.add(self)
            if code == 100 or server is None or self.method != b"INVITE":
                return  # RFC 3261 §16.7 step 5; RFC 4320 §4.1: no other 1xx to a non-INVITE
        elif self.call is not None:
            if code >= 300:
                self._unsay(now)
            self._dialog_heard(code, response, now)
        if server is None or (code == 408 and self.method != b"INVITE"):
            return  # RFC 4320 §4.2: nobody sends a 408 to a non-INVITE, its client has given up already
        edits: Edits = NO_EDITS
        if response.marked:
            edits = self.core.directory.edge.edits(response, self.key, from_pbx=not self.from_pbx)
        if passage is not None and response.cseq_number != passage.number:
            edits = {**edits, response.at[CSEQ]: passage.cseq}
        if self.from_line:
            edits = {**edits, response.at[FROM]: self.from_line}
        mapped = 500 if code == 503 and self.key.trunk.upstream_503 == "500" else 0  # §16.7 step 6
        data = response_out(response, stream=server.flow.listener.reliable, code=mapped, edits=edits)
        if data is None:
            self.core.counts.rejected("no Via left")
            return
        code = mapped or code
        self.core.layer.respond(server, code, data, now)
        if code >= 200:
            self.due = NEVER

    def _answers(self, passage: Passage, response: Message, now: float) -> bool:
        """Whether the gate deals with a challenge of the trunk itself: the request goes once more, with credentials,
        or its sender hears that they are refused."""
        way, trunk = self.way, self.trunk
        if way is None or not trunk.has_gateway(way.to):
            return False
        if self.cancelled:
            self._answer(487, now)
        elif passage.answers(way.uri, response):
            self.datagram = None
            self.rate = None  # the carrier has seen it
            self.core.start(self, *way[:-1], now, route=way.route)
        elif passage.refused:
            self.core.alert(refusal(trunk.name, response.code), now)
            if self.call is not None:
                self._dialog_heard(403, response, now)
            self._answer(403, now, [WARNING])
        else:
            return False
        return True

    def _dialog_heard(self, code: int, response: Message, now: float) -> None:
        """What a final answer says about the call."""
        call = self.call
        assert call is not None
        if code < 300 and self.method in SPEAKS and (may_say(response) or call.core.recordings):
            call.core.recordings.agreed(self, self.request, response, now)
        if self.method == b"BYE":
            # The carrier counts the line until it has answered; a challenge means that it will be asked again.
            if code not in CHALLENGED:
                self._over("", now)
        elif (code == 481 and self.method in REFRESHES) or (code == 408 and self.method == b"INVITE"):
            self._over(f"{code} to a {self.method.decode('ascii', 'replace')} (RFC 5057)", now)
        elif code < 300 and self.method in REFRESHES:
            if self.request is not None and self.sender is not None:
                by_caller = self.sender is call.caller
                call.core.holds.heard(call, by_caller, self.request.body, now)
                call.core.holds.heard(call, not by_caller, response.body, now)
                self.sender.learn_contact(self.request)
                self.request = None
            if self.receiver is not None:
                self.receiver.learn_contact(response)
            side = self.receiver if self.sender is call.caller else self.sender
            if side is not None and side.vitals is not None:
                side.vitals.refreshed(session_seconds(response), now)
                call.look_again(now)
            call.keep(now)

    def _unsay(self, now: float) -> None:
        """What it offered has not come to be."""
        if self.offers and self.call is not None:
            offers, self.offers = self.offers, []
            self.core.recordings.declined(self.call, offers, now)

    def decline(self, code: int, headers: list[bytes], now: float) -> None:
        """It has not been sent, and will not be."""
        self._unsay(now)
        self._answer(487 if self.cancelled else code, now, headers)

    def _over(self, reason: str, now: float) -> None:
        """The dialog has ended."""
        call = self.call
        if call is not None:
            by_caller = self.sender is call.caller
            callee = self.receiver if by_caller else self.sender
            call.dialog_over(callee, now, "caller" if by_caller else "callee", reason)

    def on_timeout(self, client: AnyClient, now: float) -> None:
        self._give_back()
        self._unsay(now)
        if self.method in (b"BYE", b"INVITE"):
            if self.call is not None and self.call.phase is Phase.UP:
                self.core.counts.reaped(self.call.key, "no_answer")
            self._over(f"no answer to a {self.method.decode()}", now)
        if self.method == b"INVITE":
            self._answer(408 if not self.cancelled else 487, now)
        # RFC 4320 §4.2: a non-INVITE is never answered with a 408; its client has given up already.

    def on_failed(self, client: AnyClient, now: float, trouble: Trouble) -> None:
        if self.datagram is not None:
            self._give_back()
            self.core.streams.refused(client.flow, now)
            (data, branch, flow), self.datagram = self.datagram, None
            self.start(data, branch, flow, now)
            return
        self._give_back()
        if self.method == b"BYE":
            self._over("a BYE could not be delivered", now)
        self._unsay(now)
        self._answer(503, now)

    def on_repeat(self, client: AnyClient, now: float) -> None:
        raise AssertionError("only initial INVITEs carry a claim")

    def _answer(self, code: int, now: float, headers: list[bytes] | None = None) -> None:
        server = self.server
        if server is not None and server.request is not None:
            request = server.request
            data = reply(request, code, self.core.answer_tag(request), headers)
            self.core.layer.respond(server, code, data, now)

    def on_cancel(self, server: AnyServer, cancel: Message, now: float) -> None:
        if self.method == b"INVITE" and not self.cancelled:
            self.cancelled = True
            self.cancel_reason = [cancel.lines[i] for i in cancel.find(b"reason")]
            self._cancel(now)

    def _cancel(self, now: float) -> None:
        client = self.client
        if not isinstance(client, InviteClientTransaction):
            return
        if client.state is State.PROCEEDING and client.end_at == NEVER:
            self.core.layer.cancel(client, self.cancel_reason, now)
            self.core.layer.end_by(client, now + LIFE)

    def on_unacknowledged(self, server: AnyServer, now: float) -> None:
        self.server = None

    def expire(self, now: float) -> None:
        """Timer C of a re-INVITE."""
        self.due = NEVER
        self._cancel(now)
