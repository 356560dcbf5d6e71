"""Ending a call that the gate was told to end: a BYE to both sides, made from what the dialog has shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.proxy.dialog import Side
from callgate.proxy.peers import Peer
from callgate.proxy.token import OUTBOUND
from callgate.proxy.transactions import NOBODY, AnyClient
from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr
from callgate.sip.message import Message, wire

if TYPE_CHECKING:
    from callgate.proxy.call import Call
    from callgate.proxy.core import Core


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
        from_line, to_line = call.from_line.partition(b":")[2], call.to_line.partition(b":")[2]
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
        target = side.contact or b"sip:" + side.flow.host.encode()
        first = _uri_of(side.routes[0]) if side.routes else target
        flow = side.next_hop(first, core.directory, peer)
        branch, via = core.branch(flow.listener, self.call.tokens[-1])
        # Not noted as the other's own: its BYE, crossing with this one, is none the staler for it.
        heard = side.heard if other is self.call.caller and side.heard >= 0 else other.cseq
        number = max(heard, 0) + 1
        lines = [
            b"BYE %b SIP/2.0" % target,
            via,
            *(b"Route: " + route for route in side.routes),
            b"From:" + sender,
            b"To:" + receiver,
            b"Call-ID: " + self.call.call_id,
            b"CSeq: %d BYE" % number,
            b"Max-Forwards: 70",
            b"Content-Length: 0",
        ]
        core.counts.sent(b"BYE")
        user = self if counts else NOBODY  # the PBX's answer decides nothing
        core.layer.send(core.layer.other_client(branch, wire(lines, b""), flow, user, now), now)

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
