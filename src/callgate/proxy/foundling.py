"""Calls of an earlier start of which nothing was written down: they were younger than the journal's last commit, or
the journal is lost. Our own token in what is said of them tells whose they are, and nobody else can make one.

Such a call is taken up, and counted, with the first message that proves that it lives: an answer to its INVITE, or a
request inside its dialog. What is known of it is what that message shows.
"""

from __future__ import annotations

from random import uniform
from typing import TYPE_CHECKING, Final

from callgate.numbers import read_uri
from callgate.policy.ledger import LEASE
from callgate.proxy.call import SPARE, Call
from callgate.proxy.context import Phase
from callgate.proxy.cseq import JUMP
from callgate.proxy.dialog import Stage
from callgate.proxy.flow import INNER, Flow
from callgate.proxy.forward import Routes, reply_flow
from callgate.proxy.meters import DIRECTIONS, FORWARDED
from callgate.proxy.peers import Key
from callgate.proxy.restore import PROBED_WITHIN, SOON, stub, take_up
from callgate.proxy.targets import Target
from callgate.proxy.token import INBOUND, OUTBOUND, Token
from callgate.proxy.transactions import InviteClientTransaction, InviteServerTransaction, server_key
from callgate.proxy.vitals import Vitals
from callgate.sip.errors import Malformed
from callgate.sip.fields import param, parse_name_addr
from callgate.sip.message import FROM, TO, VIA, Message, parse, wire
from callgate.sip.transaction import NEVER, Event
from callgate.sip.uri import Uri, parse_uri

if TYPE_CHECKING:
    from callgate.proxy.core import Core
    from callgate.proxy.inside import Path

ANSWERS_FOR: Final = 200.0
"""Seconds after a start in which answers to INVITEs of an earlier one may still come: Timer C, and a little."""
WHY: Final = "a call of before the restart of which nothing was written down"
ALONE: Final = "a forward of before the restart of which nothing was written down: its other side is lost"


class Orphan(Call):
    """The call out of a forward that the gate has made, and whose call in is lost: it ends as soon as it can be.
    Nothing that is said of it goes to anybody."""

    __slots__ = ()

    @property
    def counted_as(self) -> int:
        return FORWARDED

    def _on_success(self, client: InviteClientTransaction, response: Message, now: float) -> None:
        if self.phase is Phase.TRYING:
            self.nowhere(
                480, ALONE, now
            )  # then it is a late answer, which the gate acknowledges and hangs up
        super()._on_success(client, response, now)

    def _pass_on(self, response: Message, now: float, code: int = 0) -> bool:
        return response.code >= 300 and super()._pass_on(response, now, code)  # which ends its transaction


class Adoption:
    """`over`: the legs of earlier starts that are known to have ended, before this one or since."""

    def __init__(self, core: Core, started: float) -> None:
        self._core = core
        self._until = started + ANSWERS_FOR
        self.over: set[int] = set()
        self._calls: dict[int, Call] = {}  # of earlier starts that go on here, by leg

    def taken_up(self, call: Call) -> None:
        """A call of an earlier start is known, from the journal or by what was said of it."""
        self._calls[call.leg] = call

    def ended(self, leg: int) -> None:
        """It is over, and stays so: a late copy of what was said of it makes no second one."""
        if self._calls.pop(leg, None) is not None:
            self.over.add(leg)

    # -- answers to its INVITE -----------------------------------------------------------------------------

    def response(self, response: Message, branch: bytes, flow: Flow, now: float) -> bool:
        """A response that matches no transaction; whether it is one to an INVITE of an earlier start, and has gone
        its way."""
        if now > self._until or response.method != b"INVITE" or response.code <= 100:
            return False
        core = self._core
        text = branch.partition(b".")[0]
        token = core.signer.read(text, response.call_id, response.from_tag)
        if token is None or core.began_here(token.leg) or token.leg in self.over:
            return False
        key = core.directory.key_of_tag.get(token.key_tag)
        peer = core.directory.identify(flow)
        if key is None or not (peer.trunk is key.trunk if token.direction == OUTBOUND else peer.key is key):
            return False
        call = core.by_token.get(text) or self._calls.get(token.leg)
        if call is not None and (
            call.phase is not Phase.TRYING or (text in call.tokens and call.direction == OUTBOUND)
        ):
            return call.hears_again(response, now)
        try:
            client = self._attempt(call, token, text, key, response, branch, flow, now)
        except (Malformed, ValueError):
            return False
        core.layer.received(client, response, now)
        return True

    def _attempt(
        self,
        call: Call | None,
        token: Token,
        text: bytes,
        key: Key,
        response: Message,
        branch: bytes,
        flow: Flow,
        now: float,
    ) -> InviteClientTransaction:
        """What the answer is one to: of a call that is known by now (it had gone to a further target), or of one that
        is made here as it was when its INVITE had left, as far as the answer tells."""
        core = self._core
        uri = parse_uri(parse_name_addr(response.value(TO)).uri)
        lines = _of_invite(response)
        gateways = key.trunk.gateways
        gateway = gateways[token.gateway] if token.gateway < len(gateways) else None
        outbound = token.direction == OUTBOUND
        asked = (
            core.trunk_uri(uri, gateway.hostport, key.trunk) if outbound and gateway is not None else uri.raw
        )
        sent = wire([b"INVITE %b SIP/2.0" % asked, b"Via: " + response.via.text, *lines], b"")
        target = Target(flow, b"", gateway.name if outbound and gateway is not None else "")
        known = call is not None
        if call is None:
            call = self._trying(token, key, uri, lines, response, now)
            call.groups, call.group = [[target]], 0
        client = InviteClientTransaction(core.layer, branch, sent, flow, call, now)
        client.target = target
        call.attempts.append(client)
        call.current.append(client)
        core.layer.recall(client)
        if known:
            call.known_by(text)
        else:
            self._takes(call, text, LEASE, now)
        call.record.gateway = target.name
        return client

    def _trying(
        self, token: Token, key: Key, uri: Uri, lines: list[bytes], response: Message, now: float
    ) -> Call:
        """A call that has sent its INVITE. `lines`: what is known of that."""
        core = self._core
        top = response.lines[response.at[VIA]]
        vias = [response.lines[i] for i in response.places(VIA) if response.lines[i] is not top]
        if response.via.rest:
            vias.insert(0, b"Via: " + response.via.rest)
        request = parse(wire([b"INVITE %b SIP/2.0" % uri.raw, *vias, *lines], b""))
        if request.faults:
            raise Malformed(request.faults[0])
        inner = token.direction == OUTBOUND and token.pbx_listener == INNER
        came = core.bridge.flow(key) if inner else self._caller(token, key, request)
        server = InviteServerTransaction(
            core.layer, request, server_key(request, request.via), reply_flow(request, came), now
        )
        kind = Orphan if inner else Call
        call = kind(core, token.leg, key, token.direction, request, server, came, now)
        call.phase = Phase.TRYING
        call.cancelled = inner
        call.routes, call.dialled, call.hops = Routes(), uri, 70
        call.caller.cseq = request.cseq_number
        core.layer.recall(server)
        return call

    def _caller(self, token: Token, key: Key, request: Message) -> Flow:
        """Where its INVITE came from: what we have written into its Via, if that is a place of the caller's."""
        core, via = self._core, request.via
        listeners = core.directory.listeners
        inbound = token.direction == INBOUND
        index = token.trunk_listener if inbound else token.pbx_listener
        listener = listeners[index if index < len(listeners) else 0]
        host = (param(via.params, b"received") or via.host).strip(b"[]").decode("ascii")
        port = param(via.params, b"rport") or b""
        gone = -1 if listener.reliable else 0
        flow = Flow(listener, host, int(port) if port.isdigit() else via.port or 5060, gone)
        peer = core.directory.identify(flow)
        if (peer.trunk is key.trunk) if inbound else (peer.key is key or key in peer.owners):
            return flow
        if not inbound:
            return Flow(listener, token.pbx_host, token.pbx_port, gone, trust=key.pbx_trust)
        gateway = key.trunk.gateways[min(token.gateway, len(key.trunk.gateways) - 1)].flow
        if gateway is None:
            raise Malformed("nobody knows where the caller is")
        return gateway

    # -- requests in its dialog ----------------------------------------------------------------------------

    def dialog(self, path: Path, request: Message, flow: Flow, now: float) -> None:
        """A request in a dialog that is known by its token only has been let in. What does not show that the call goes
        on makes none of it: a BYE, or what the carrier might take for a new call."""
        token = path.token
        if token is None or not token.leg or token.leg in self.over or request.method == b"BYE":
            return
        if request.method == b"INVITE" and path.from_pbx:
            return
        core = self._core
        if path.text in core.by_token:
            return  # another dialog of a fork: the call is counted
        sender, receiver = request.value(FROM), request.value(TO)
        by_caller = path.by_caller
        from_value, to_value = (sender, receiver) if by_caller else (receiver, sender)
        caller, callee = (path.sender, path.receiver) if by_caller else (path.receiver, path.sender)
        lines = stub(b"From: " + from_value, b"To: " + to_value, request.call_id, 0)
        asked = parse(wire(lines, b""))
        server = InviteServerTransaction(core.layer, asked, (b"", path.text), caller.flow, now)
        server.on(Event.SUCCESS, now)
        server.request = None
        call = Call(core, token.leg, path.key, token.direction, asked, server, caller.flow, now)
        server.user = None  # no cycle is left: see `net.gate`
        call.phase = Phase.UP
        call.request = None
        call.from_line, call.to_line = b"From: " + from_value, b"To: " + to_value
        caller.tag, callee.tag = (
            (request.from_tag, request.to_tag) if by_caller else (request.to_tag, request.from_tag)
        )
        path.sender.flow = flow
        # Only what comes behind it is a copy. The ACK has the number of what it acknowledges.
        path.sender.cseq = request.cseq_number - (request.method != b"ACK")
        call.caller, call.callees = caller, (callee,)
        caller.seen_at = callee.seen_at = now - 1.0
        callee.stage, callee.acknowledged = Stage.UP, True
        callee.vitals = Vitals(None, now)
        callee.vitals.doubt(now, *(now + uniform(SOON, PROBED_WITHIN) for _ in range(2)), crashed=True)
        call.record.answer_at = call.up_at = now
        call.record.final_code = 200
        if path.key.trunk.account is not None:
            pbx = caller if token.direction == OUTBOUND else callee
            call.shift = core.shifts.of(request.call_id, pbx.tag, token.raised, ahead=JUMP)
        longest = path.key.max_call_seconds
        self._takes(call, path.text, NEVER if longest is None else longest + SPARE, now)
        path.call, path.adopted = call, True
        call.keep(now)
        call.goes_on(NEVER if longest is None else now + longest, now)

    def _takes(self, call: Call, text: bytes, lease: float, now: float) -> None:
        """It is one of the gate's calls from here on."""
        key = call.key
        alone = isinstance(call, Orphan)
        call.parts = key.inbound if call.direction == INBOUND else key.forwarded_lines if alone else key.lines
        call.known_by(text)
        record = call.record
        record.reason = ALONE if alone else WHY
        record.direction = DIRECTIONS[call.counted_as]
        record.sent_at, record.attempts = now, 1
        if call.dialled is not None:
            dialled = read_uri(call.dialled.raw)
            record.raw, record.canonical = dialled.dialled, dialled.canonical
        take_up(call, "adopted", lease, now)
        self._core.recordings.appears(call, now)


def _of_invite(response: Message) -> list[bytes]:
    """What the INVITE that a response answers had of From, To, Call-ID and CSeq."""
    to = response.value(TO)
    tag = b";tag=" + response.to_tag
    return [
        b"From: " + response.value(FROM),
        b"To: " + (to.replace(tag, b"") if response.to_tag else to),
        b"Call-ID: " + response.call_id,
        b"CSeq: %d INVITE" % response.cseq_number,
        b"Max-Forwards: 70",
    ]
