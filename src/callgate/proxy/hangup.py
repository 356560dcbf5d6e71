"""Requests that the gate itself sends inside a dialog, made from what the dialog has shown; and what ends a call that
it was told to end: a BYE to both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.proxy.dialog import Side
from callgate.proxy.flow import Flow
from callgate.proxy.peers import Peer
from callgate.proxy.token import OUTBOUND
from callgate.proxy.transactions import NOBODY, AnyClient
from callgate.sip.fields import tag_of
from callgate.sip.message import Message, header_value, wire

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
    uri, routes, first = side.way()
    flow = side.next_hop(first, core.directory, peer)
    branch, via = core.branch(flow.listener, token)
    lines = [
        b"%b %b SIP/2.0" % (method, uri),
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


def to_end(call: Call, side: Side, end: Side, method: bytes, number: int) -> tuple[Flow, bytes, bytes]:
    """`own_request` to one end of a call's dialog with the callee `side`: to that itself, or to the caller."""
    sender, receiver = header_value(call.from_line), header_value(call.to_line)
    answered = tag_of(receiver)
    if side.tag != answered:  # another callee of a fork
        receiver = receiver.replace(b"tag=" + answered, b"tag=" + side.tag)
    if end is call.caller:
        sender, receiver = receiver, sender
    peer = Peer(trunk=call.key.trunk) if is_trunk(call, end) else Peer(key=call.key)
    return own_request(call.core, method, end, peer, sender, receiver, call.call_id, number, call.tokens[-1])


def is_trunk(call: Call, end: Side) -> bool:
    """Whether this end of a call is the carrier's."""
    return (end is call.caller) != (call.direction == OUTBOUND)


def last_number(call: Call, side: Side, end: Side) -> int:
    """The highest CSeq that `end` has been sent in the dialog with `side`, -1 for none."""
    if end is call.caller:
        return side.cseq
    return side.heard if side.heard >= 0 else call.caller.cseq


class HangUp:
    """The user of the BYEs that end a dialog. The lines come free when the carrier has answered its own: until then
    it counts them. `reason` is for the record."""

    __slots__ = ("call", "reason", "side")

    def __init__(self, call: Call, side: Side, reason: str = "") -> None:
        self.call = call
        self.side = side
        self.reason = reason

    def start(self, core: Core, now: float, to: Side | None = None) -> None:
        """Once for each end, or only `to` one."""
        for end in (self.side, self.call.caller):
            if to is None or to is end:
                self._bye(core, end, now)

    def _bye(self, core: Core, end: Side, now: float) -> None:
        # Not noted as the other's own: its BYE, crossing with this one, is none the staler for it.
        number = max(last_number(self.call, self.side, end), 0) + 1
        flow, branch, data = to_end(self.call, self.side, end, b"BYE", number)
        user = self if is_trunk(self.call, end) else NOBODY  # the PBX's answer decides nothing
        core.layer.send(core.layer.other_client(branch, data, flow, user, now), now)

    def on_response(self, client: AnyClient, response: Message, now: float) -> None:
        if response.code >= 200:
            self._over(now)

    def on_timeout(self, client: AnyClient, now: float) -> None:
        self._over(now)

    def on_failed(self, client: AnyClient, now: float) -> None:
        self._over(now)

    def on_repeat(self, client: AnyClient, now: float) -> None:
        raise AssertionError("only initial INVITEs carry a claim")

    def _over(self, now: float) -> None:
        self.call.dialog_over(self.side, now, "gate", self.reason)
