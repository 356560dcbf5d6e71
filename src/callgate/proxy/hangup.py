"""Requests that the gate itself sends inside a dialog, and what ends a call that it was told to end: a BYE to both
sides, made from what the dialog has shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from callgate.proxy.cseq import Shift
from callgate.proxy.dialog import Side
from callgate.proxy.flow import Flow
from callgate.proxy.login import CHALLENGED, Login
from callgate.proxy.peers import Peer
from callgate.proxy.token import OUTBOUND
from callgate.proxy.transactions import NOBODY, AnyClient, ClientUser
from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr
from callgate.sip.message import Message, wire

if TYPE_CHECKING:
    from callgate.proxy.call import Call
    from callgate.proxy.core import Core


def own_request(
    core: Core,
    method: bytes,
    side: Side,
    peer: Peer,
    sender: bytes,
    receiver: bytes,
    call_id: bytes,
    number: int,
    token: bytes,
    credentials: Iterable[bytes] = (),
) -> tuple[Flow, bytes, bytes]:
    """A request inside a dialog to `side` (who belongs to `peer`), as the other side would write it (RFC 3261
    §12.2.1.1): (flow, branch, message). `sender` and `receiver` are the values of From and To, `number` its CSeq,
    `credentials` further header lines."""
    target = side.contact or b"sip:" + side.flow.host.encode()
    routes = side.routes
    flow = side.next_hop(_uri_of(routes[0]) if routes else target, core.directory, peer)
    branch, via = core.branch(flow.listener, token)
    lines = [
        b"%b %b SIP/2.0" % (method, target),
        via,
        *(b"Route: " + route for route in routes),
        b"From: " + sender,
        b"To: " + receiver,
        b"Call-ID: " + call_id,
        b"CSeq: %d %b" % (number, method),
        *credentials,
        b"Max-Forwards: 70",
        b"Content-Length: 0",
    ]
    core.counts.sent(method)
    return flow, branch, wire(lines, b"")


class Bye:
    """A BYE of the gate's own to `side`, sent once more where that is a trunk that challenges it and the gate has
    credentials."""

    __slots__ = ("_call_id", "_login", "_number", "_parties", "_peer", "_side", "_token", "_uri")

    def __init__(
        self, side: Side, peer: Peer, parties: tuple[bytes, bytes], call_id: bytes, number: int, token: bytes
    ) -> None:
        self._side = side
        self._peer = peer
        self._parties = parties
        self._call_id = call_id
        self._number = number
        self._token = token
        self._uri = b""
        account = peer.trunk.account if peer.trunk is not None else None
        self._login = Login(account) if account is not None else None

    def send(self, core: Core, user: ClientUser, now: float) -> None:
        flow, branch, data = own_request(
            core,
            b"BYE",
            self._side,
            self._peer,
            *self._parties,
            self._call_id,
            self._number,
            self._token,
            self._login.lines if self._login is not None else (),
        )
        self._uri = data.split(b" ", 2)[1]
        core.layer.send(core.layer.other_client(branch, data, flow, user, now), now)

    def again(self, core: Core, client: AnyClient, response: Message, now: float) -> bool:
        """Whether an answer was a challenge, and the BYE has gone once more."""
        login, trunk = self._login, self._peer.trunk
        if response.code not in CHALLENGED or login is None or trunk is None:
            return False
        if not trunk.has_gateway(client.flow) or not login.answers(b"BYE", self._uri, response):
            return False
        self._number += 1
        self.send(core, client.user, now)
        return True


class HangUp:
    """The user of the two BYEs. The lines come free when the carrier has answered its own, `bye`: until then it counts
    them."""

    __slots__ = ("bye", "call")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.bye: Bye | None = None

    def start(self, core: Core, now: float) -> None:
        """RFC 3261 §12.2.1.1, once for each side, with the other's tag and its next CSeq."""
        call = self.call
        callee = call.callees[0]
        outbound = call.direction == OUTBOUND
        from_line, to_line = (
            call.from_line.partition(b":")[2].strip(),
            call.to_line.partition(b":")[2].strip(),
        )
        for side, other, sender, receiver, is_trunk in (
            (callee, call.caller, from_line, to_line, outbound),
            (call.caller, callee, to_line, from_line, not outbound),
        ):
            peer = Peer(trunk=call.key.trunk) if is_trunk else Peer(key=call.key)
            self._bye(core, side, other, sender, receiver, peer, is_trunk, now)

    def _bye(
        self,
        core: Core,
        side: Side,
        other: Side,
        sender: bytes,
        receiver: bytes,
        peer: Peer,
        counts: bool,
        now: float,
    ) -> None:
        # Not noted as the other's own: its BYE, crossing with this one, is none the staler for it.
        call = self.call
        heard = side.heard if other is call.caller and side.heard >= 0 else other.cseq
        number = max(heard, 0) + 1
        if counts and call.key.trunk.account is not None:
            call.shift = call.shift or Shift()
            number = call.shift.own() or number
        bye = Bye(side, peer, (sender, receiver), call.call_id, number, call.tokens[-1])
        if counts:
            self.bye = bye
        bye.send(core, self if counts else NOBODY, now)  # the PBX's answer decides nothing

    def on_response(self, client: AnyClient, response: Message, now: float) -> None:
        call = self.call
        if self.bye is not None and self.bye.again(call.core, client, response, now):
            if call.shift is not None:
                call.shift.own()
        elif response.code >= 200:
            call.end(now, "gate")

    def on_timeout(self, client: AnyClient, now: float) -> None:
        self.call.end(now, "gate")

    def on_failed(self, client: AnyClient, now: float) -> None:
        self.call.end(now, "gate")

    def on_repeat(self, client: AnyClient, now: float) -> None:
        raise AssertionError("only initial INVITEs carry a claim")


def _uri_of(route: bytes) -> bytes:
    """The URI of a Route value; what can't be read leads back to where the side's messages come from."""
    try:
        return parse_name_addr(route).uri
    except Malformed:
        return b""
