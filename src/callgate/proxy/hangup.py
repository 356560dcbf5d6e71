"""Requests that the gate itself sends inside a dialog, and what ends a call that it was told to end: a BYE to both
sides, made from what the dialog has shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.proxy.dialog import Side
from callgate.proxy.flow import Flow
from callgate.proxy.peers import Peer
from callgate.proxy.token import OUTBOUND
from callgate.proxy.transactions import NOBODY, AnyClient
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
) -> tuple[Flow, bytes, bytes]:
    """A request inside a dialog to `side` (who belongs to `peer`), as the other side would write it (RFC 3261
    §12.2.1.1): (flow, branch, message). `sender` and `receiver` are the values of From and To, `number` its CSeq."""
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
        b"Max-Forwards: 70",
        b"Content-Length: 0",
    ]
    core.counts.sent(method)
    return flow, branch, wire(lines, b"")


class HangUp:
    """The user of the two BYEs. The lines come free when the carrier has answered its own: until then it counts
    them."""

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call = call

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
        flow, branch, data = own_request(
            core, b"BYE", side, peer, sender, receiver, call.call_id, number, call.tokens[-1]
        )
        user = self if counts else NOBODY  # the PBX's answer decides nothing
        core.layer.send(core.layer.other_client(branch, data, flow, user, now), now)

    def on_response(self, client: AnyClient, response: Message, now: float) -> None:
        if response.code >= 200:
            self.call.end(now, "gate")

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
