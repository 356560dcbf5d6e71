"""The gate's own endpoint: what a forward's two dialogs end at.

It stands behind a listener without a socket (`proxy.flow.INNER`). What the proxy sends there comes to `receive`; what
it sends itself goes into the core like a message of a PBX, of the key whose call it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from callgate.bridge.compose import (
    DIVERSIONS_MAX,
    OF_A_CALL,
    answer_to,
    conversation,
    diversions,
    diverted,
    without_tag,
    written,
)
from callgate.bridge.forward import Forward
from callgate.bridge.joint import BROKEN, Row, recalled, row_of
from callgate.numbers import EMERGENCY, read_uri
from callgate.proxy.answer import PHRASES
from callgate.proxy.call import Call
from callgate.proxy.context import Phase
from callgate.proxy.flow import INNER, Flow, Listener
from callgate.proxy.forward import max_forwards
from callgate.proxy.peers import Key, Peer
from callgate.proxy.targets import DEFLECTION, Target
from callgate.proxy.transactions import InviteClientTransaction, ack
from callgate.sip.errors import Malformed
from callgate.sip.fields import COOKIE, param, parse_name_addr, split_list
from callgate.sip.message import CALL_ID, CSEQ, FROM, TO, VIA, Message, header_value, parse
from callgate.sip.uri import Uri, parse_uri

if TYPE_CHECKING:
    from callgate.proxy.context import Context
    from callgate.proxy.core import Core

HOST: Final = "0.0.0.0"
"""Of the inner flow: an address that no peer has."""
ALLOW: Final = b"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY"
DEFLECTED: Final = frozenset((300, 301, 302))
GONE: Final = {401: 480, 407: 480}
"""Final answers of the far side that mean nothing to the caller, and what it gets instead; 3xx: 480."""


class Endpoint:
    """Every forward that the gate has made and that is not over."""

    def __init__(self, core: Core) -> None:
        self.core = core
        first = core.directory.listeners[0]
        self._listener = Listener(INNER, b"TCP", first.host, first.port)
        self._near: dict[bytes, Forward] = {}  # by the Call-ID of the call in
        self._far: dict[bytes, Forward] = {}  # by that of the call out
        self._made = 0

    # -- where calls go ------------------------------------------------------------------------------------

    def flow(self, key: Key) -> Flow:
        """The path to and from the endpoint for calls of a key."""
        flow = Flow(self._listener, HOST, 0)
        flow.known = True
        flow.peer = Peer(key=key)
        flow.generation = self.core.directory.generation
        return flow

    def target(self, key: Key, uri: bytes, reason: bytes, redirect: Message | None = None) -> Target:
        """Where a call in goes that is to be carried on to the telephone number `uri`."""
        target = Target(self.flow(key), b"", "forward", onward=uri)
        target.reason, target.redirect = reason, redirect
        return target

    def deflected(self, call: Context, response: Message) -> Sequence[Target]:
        """Where a PBX's 302 leads as far as that is a telephone number, the likeliest first (RFC 3261 §20.10); none
        where it leads anywhere else, which is the caller's business."""
        if response.code not in DEFLECTED:
            return ()
        found: list[tuple[float, bytes]] = []
        for i in response.find(b"contact"):
            for value in split_list(header_value(response.lines[i])):
                try:
                    address = parse_name_addr(value)
                    uri = parse_uri(address.uri)
                except Malformed:
                    continue
                if self._is_number(uri, call.key):
                    found.append((_q(param(address.params, b"q")), _dialled(uri)))
        found.sort(key=lambda each: -each[0])
        return [self.target(call.key, uri, DEFLECTION, response) for _, uri in found]

    def _is_number(self, uri: Uri, key: Key) -> bool:
        """Whether a Contact means a telephone number and no device: tel:, `user=phone`, or a number at the gate, the
        trunk or the PBX itself."""
        if uri.scheme == b"tel":
            return True
        if uri.scheme not in (b"sip", b"sips") or not uri.user:
            return False
        if read_uri(b"sip:%b@h" % uri.user).cls == "sip_uri":
            return False
        if (uri.param(b"user") or b"").lower() == b"phone":
            return True
        directory, host, port = self.core.directory, uri.bare_host, uri.default_port
        return (
            directory.is_own(host, port)
            or any(g.uri.bare_host == host for g in key.trunk.gateways)
            or any(t.flow.host == host for group in key.pbx_groups for t in group)
            or directory.is_exactly(host, port, Peer(trunk=key.trunk))
        )

    def inbound_leg(self, call_id: bytes) -> Call | None:
        """The call in that a call out of the endpoint carries on."""
        forward = self._far.get(call_id)
        return forward.near if forward is not None else None

    def carried_on(self, call: Call) -> None:
        """The proxy has taken up a call out of the endpoint."""
        forward = self._far.get(call.call_id)
        if forward is not None:
            forward.far = call

    def forget(self, call: Call) -> None:
        """A call has ended that may be one of a forward: nothing passes any more."""
        forward = self._of(call)
        if forward is not None:
            self._drop(forward)

    def _of(self, call: Call) -> Forward | None:
        """The forward that a call is one side of, and not merely has a Call-ID of: a PBX that is a proxy keeps that of
        the call in on its own ones."""
        forward = self._near.get(call.call_id)
        if forward is not None and forward.near is call:
            return forward
        forward = self._far.get(call.call_id)
        return forward if forward is not None and forward.far is call else None

    # -- over a crash --------------------------------------------------------------------------------------

    def row(self, call: Context) -> Row | None:
        """What is to be written down with a call in: how it is joined to a call out. None where it is not."""
        forward = self._near.get(call.call_id)
        return row_of(forward) if forward is not None and forward.near is call else None

    def recall(self, row: Row, call: Call) -> None:
        """Take up the joint of a call in of an earlier start. Raises for what is none."""
        forward = recalled(row, call)
        self._near[forward.near_call_id] = self._far[forward.far_call_id] = forward

    def mend(self, now: float) -> None:
        """All calls are taken up that there were: of a forward that lacks one side the other one ends."""
        core, calls = self.core, list(self.core.live())
        for call in calls:
            self.carried_on(call)
        legs = {call.leg for call in calls}
        for call in calls:
            joined = self._of(call)
            if joined is None:
                alone = call.inner
            else:
                other = joined.far if call is joined.near else joined.near
                alone = other is None or other.leg not in legs
            if alone:
                core.end_early(call, BROKEN, now)

    def _drop(self, forward: Forward) -> None:
        forward.over = True
        if self._near.get(forward.near_call_id) is forward:
            del self._near[forward.near_call_id]
        self._far.pop(forward.far_call_id, None)

    # -- what comes from the proxy -------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """A message of the proxy to the endpoint."""
        message = parse(data)
        if message.code:
            self._response(message, now)
        elif message.method == b"INVITE" and not message.to_tag:
            self._invite(message, now)
        else:
            self._request(message, now)

    def _say(self, data: bytes, key: Key, now: float) -> None:
        self.core.receive(data, self.flow(key), now)

    def _via(self, branch: bytes) -> bytes:
        return self._listener.via + branch

    def _branch(self, *of: bytes) -> bytes:
        """The same for every copy of a request, and not to be guessed."""
        return self.core.signer.tag(b"bridge", *of)

    # -- a call in -----------------------------------------------------------------------------------------

    def _invite(self, invite: Message, now: float) -> None:
        """Carry a call on: an INVITE of the endpoint's own to the number that the proxy's target names."""
        client = self.core.layer.clients.get(invite.via.branch[len(COOKIE) :])
        if not isinstance(client, InviteClientTransaction) or client.target is None:
            return
        target, call = client.target, client.user
        assert isinstance(call, Call)
        key = call.key
        previous = self._near.get(invite.call_id)
        if previous is not None and previous.near is not call and not _is_over(previous):
            call.record.reason = "the same call is forwarded already"
            self._answer(invite, 482, key, now)  # it came by two ways (RFC 3261 §8.2.2.2)
            return
        outer = call.caller.flow.listener
        suffix = b"" if outer.transport == b"UDP" else b";transport=" + outer.transport.lower()
        contact = b"<sip:callgate@%b%b>" % (outer.sent_by, suffix)
        self._made += 1
        far_call_id = b"%b.%x@%b" % (
            self._branch(invite.call_id, invite.via.branch),
            self._made,
            outer.host.encode("ascii"),
        )
        forward = Forward(call, invite, far_call_id, contact)
        if previous is not None:
            self._drop(previous)
        self._near[invite.call_id] = forward
        lines = answer_to(invite, 100, b"Trying")
        self._say(written(lines[0], lines[1:], b""), key, now)
        why = ""
        if diversions(invite) >= DIVERSIONS_MAX:
            why = "diverted too often"
        elif read_uri(target.onward).cls in EMERGENCY:
            why = "a call in is not forwarded to an emergency number"
        if why:
            call.record.reason = why
            self._fail(forward, 486, key, now)
            return
        self._far[far_call_id] = forward
        data = self._invite_out(forward, call, target)
        forward.far_invite = parse(data)
        self._say(data, self.core.current(key), now)  # a new call
        call.keep(now)

    def _invite_out(self, forward: Forward, call: Call, target: Target) -> bytes:
        invite, key = forward.invite, call.key
        did = b"sip:%b@%b" % (call.did.encode("ascii", "replace"), self._listener.sent_by)
        caller, without = without_tag(invite.value(FROM)), OF_A_CALL
        if key.caller_ids is not None and not _may_show(invite, key):
            caller, without = b"<%b>" % did, OF_A_CALL | {b"p-asserted-identity", b"privacy"}
        head = [
            self._via(self._branch(b"INVITE", forward.far_call_id)),
            b"From: %b;tag=%b" % (caller, self._branch(b"from", forward.far_call_id)),
            b"To: <%b>" % target.onward,
            b"Call-ID: " + forward.far_call_id,
            invite.lines[invite.at[CSEQ]],
            b"Contact: " + forward.contact,
            b"Max-Forwards: %d" % max(0, max_forwards(invite) - 1),
            *diverted(invite, target.redirect, did, target.onward, target.reason),
            *conversation(invite, without),
        ]
        return written(b"INVITE %b SIP/2.0" % target.onward, head, invite.body)

    def _fail(
        self, forward: Forward, code: int, key: Key, now: float, response: Message | None = None
    ) -> None:
        phrase = PHRASES.get(code, b"Answer")
        if response is not None and response.code == code:
            phrase = response.lines[0].partition(b" ")[2].partition(b" ")[2] or phrase
        data = forward.failure(code, phrase, self._branch(b"to", forward.far_call_id), response)
        self._drop(forward)
        self._say(data, key, now)

    # -- requests inside the dialogs -----------------------------------------------------------------------

    def _request(self, request: Message, now: float) -> None:
        near = self._near.get(request.call_id)
        forward = near or self._far.get(request.call_id)
        call = forward.near if forward is not None else self.core.by_call_id.get(request.call_id)
        method = request.method
        if call is None:
            return
        key = call.key
        if method == b"CANCEL":
            self._answer(request, 200, key, now)
            if forward is not None:
                self._cancel(forward, request, key, now)
            return
        found = forward.pair_of(request) if forward is not None else None
        if forward is None or found is None:
            if method != b"ACK":
                self._answer(request, 481, key, now)
            return
        pair, to_far = found
        if method == b"OPTIONS":  # is this end alive? (RFC 3261 §11)
            self._answer(request, 200, key, now, ALLOW)
            return
        if method == b"BYE":
            self._answer(request, 200, key, now)
        branch = self._branch(request.via.branch)
        hops = max(0, max_forwards(request) - 1)
        data = forward.passed_on(request, pair, to_far, branch, self._via(branch), hops)
        if method == b"BYE":
            forward.pairs.remove(pair)
            if not forward.pairs and forward.answered:
                self._drop(forward)
            else:
                forward.near.keep(now)
            if _hangs_up(forward.far if to_far else forward.near):
                return
        self._say(data, key, now)

    def _answer(self, request: Message, code: int, key: Key, now: float, *extra: bytes) -> None:
        lines = answer_to(request, code, PHRASES[code], self._branch(b"to", request.call_id))
        self._say(written(lines[0], [*lines[1:], *extra], b""), key, now)

    def _cancel(self, forward: Forward, cancel: Message, key: Key, now: float) -> None:
        """The caller has given up: of the first INVITE, or of one inside the dialog."""
        invite = forward.far_invite
        branch = self._branch(cancel.via.branch)
        waiting = forward.waiting.get(branch)
        if waiting is not None:
            end = waiting.pair.far if waiting.to_far else waiting.pair.near
            cseq = b"CSeq: %d CANCEL" % waiting.request.cseq_number
            self._say(end.request(b"CANCEL", self._via(branch), cseq, 70, [], b""), key, now)
        elif invite is not None and cancel.via.branch == forward.invite.via.branch:
            head = [invite.lines[invite.at[slot]] for slot in (VIA, FROM, TO, CALL_ID)]
            head += [b"CSeq: %d CANCEL" % invite.cseq_number, b"Max-Forwards: 70"]
            head += [cancel.lines[i] for i in cancel.find(b"reason")]
            self._say(written(b"CANCEL %b SIP/2.0" % invite.uri, head, b""), key, now)

    # -- answers ---------------------------------------------------------------------------------------------

    def _response(self, response: Message, now: float) -> None:
        forward = self._far.get(response.call_id) or self._near.get(response.call_id)
        if forward is None or response.method in (b"CANCEL", b"BYE"):
            return
        branch = response.via.branch[len(COOKIE) :]
        key = forward.near.key
        waiting = forward.waiting.get(branch)
        if waiting is not None:
            if response.code == 100:
                return
            if response.code >= 200 and response.method != b"INVITE":
                del forward.waiting[branch]
            elif response.code >= 300:
                del forward.waiting[branch]
                end = waiting.pair.far if waiting.to_far else waiting.pair.near
                cseq = b"CSeq: %d INVITE" % response.cseq_number
                sent = end.request(b"INVITE", self._via(branch), cseq, 70, [], b"")
                self._say(ack(sent, response), key, now)
            self._say(forward.answer(waiting, response), key, now)
            if 200 <= response.code < 300:
                forward.near.keep(now)  # where the ends are may have changed
            return
        invite = forward.far_invite
        if invite is None or response.method != b"INVITE" or response.via.branch != invite.via.branch:
            return
        if response.code == 100:
            return
        if response.code < 300:
            own_tag = self._branch(b"to", forward.far_call_id, response.to_tag)
            known = forward.pairs[-1:]
            self._say(forward.provisional_or_success(response, own_tag), key, now)
            if forward.pairs[-1:] != known:
                forward.near.keep(now)
            return
        self._say(ack(invite.wire(), response), key, now)
        forward.far_invite = None
        if forward.answered:
            return
        code = response.code
        refused = response.header(b"x-callgate-verdict")
        if refused:  # interface: a forward that the gate itself refuses ends the call in with 486
            self._note_refusal(forward, refused)
            code = 486
        elif code < 400:
            code = 480
        else:
            code = GONE.get(code, code)
        self._fail(forward, code, key, now, response)

    def _note_refusal(self, forward: Forward, verdict: bytes) -> None:
        """The call in ends because its forward may not be: its record says why too."""
        if forward.near.phase is Phase.OVER:
            return
        fields = dict(part.partition("=")[::2] for part in verdict.decode("ascii", "replace").split(";"))
        record = forward.near.record
        record.verdict = record.outcome = "refused"
        record.rule = fields.get("rule", "")
        record.value, record.limit = _count(fields.get("value", "")), _count(fields.get("limit", ""))
        record.reason = "its forward was refused"


def _is_over(forward: Forward) -> bool:
    """Whether nobody is left at either side."""
    far = forward.far
    return forward.near.phase is Phase.OVER and (far is None or far.phase is Phase.OVER)


def _hangs_up(call: Call | None) -> bool:
    """Whether the gate ends a call itself already: both legs of a forward reach their longest time together."""
    return call is None or (call.phase is Phase.UP and all(side.vitals is None for side in call.callees))


def _may_show(invite: Message, key: Key) -> bool:
    """Whether every number that a call in shows as its caller's is one that the key may show (I19)."""
    allowed = key.caller_ids
    assert allowed is not None
    shown = [invite.value(FROM)]
    shown += [
        v for i in invite.find(b"p-asserted-identity") for v in split_list(header_value(invite.lines[i]))
    ]
    try:
        numbers = [read_uri(parse_name_addr(value).uri) for value in shown]
    except Malformed:
        return False
    return all(allowed.get(number.canonical) is not None for number in numbers)


def _dialled(uri: Uri) -> bytes:
    """A number as the PBX gave it, as a tel: URI."""
    return uri.raw if uri.scheme == b"tel" else b"tel:" + uri.user


def _q(value: bytes | None) -> float:
    try:
        return min(1.0, max(0.0, float(value))) if value else 1.0
    except ValueError:
        return 0.0


def _count(text: str) -> int:
    return int(text) if text.isdigit() and len(text) < 10 else 0
