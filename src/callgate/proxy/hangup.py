"""Requests that the gate itself sends inside a dialog, made from what the dialog has shown; and what ends a call that
it was told to end: a BYE to both sides."""

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
    credentials: Iterable[bytes] = (),
) -> tuple[Flow, bytes, bytes]:
    """A request inside a dialog to `side` (who belongs to `peer`), as the other side would write it (RFC 3261
    §12.2.1.1): (flow, branch, message). `sender` and `receiver` are the values of From and To, `number` its CSeq,
    `credentials` further header lines."""
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
        *credentials,
        b"Max-Forwards: 70",
        b"Content-Length: 0",
    ]
    core.counts.sent(method)
    return flow, branch, wire(lines, b"")


def to_end(call: Call, side: Side, end: Side, method: bytes, number: int) -> tuple[Flow, bytes, bytes]:
    """`own_request` to one end of a call's dialog with the callee `side`: to that itself, or to the caller."""
    peer, parties = _towards(call, side, end)
    return own_request(call.core, method, end, peer, *parties, call.call_id, number, call.tokens[-1])


def _towards(call: Call, side: Side, end: Side) -> tuple[Peer, tuple[bytes, bytes]]:
    """Who stands at an end of a call's dialog with the callee `side`, and the values of From and To for what is sent
    there."""
    sender, receiver = header_value(call.from_line), header_value(call.to_line)
    answered = tag_of(receiver)
    if side.tag != answered:  # another callee of a fork
        receiver = receiver.replace(b"tag=" + answered, b"tag=" + side.tag)
    peer = Peer(trunk=call.key.trunk) if is_trunk(call, end) else Peer(key=call.key)
    return peer, (receiver, sender) if end is call.caller else (sender, receiver)


def is_trunk(call: Call, end: Side) -> bool:
    """Whether this end of a call is the carrier's."""
    return (end is call.caller) != (call.direction == OUTBOUND)


def last_number(call: Call, side: Side, end: Side) -> int:
    """The highest CSeq that `end` has been sent in the dialog with `side`, -1 for none."""
    if end is call.caller:
        return side.cseq
    return side.heard if side.heard >= 0 else call.caller.cseq


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
    """The user of the BYEs that end a dialog. The lines come free when the carrier has answered its own, `bye`: until
    then it counts them. `reason` is for the record."""

    __slots__ = ("bye", "call", "reason", "side")

    def __init__(self, call: Call, side: Side, reason: str = "") -> None:
        self.call = call
        self.side = side
        self.reason = reason
        self.bye: Bye | None = None

    def start(self, core: Core, now: float, to: Side | None = None) -> None:
        """Once for each end, or only `to` one."""
        for end in (self.side, self.call.caller):
            if to is None or to is end:
                self._bye(core, end, now)

    def _bye(self, core: Core, end: Side, now: float) -> None:
        # Not noted as the other's own: its BYE, crossing with this one, is none the staler for it.
        call = self.call
        number = max(last_number(call, self.side, end), 0) + 1
        trunk = is_trunk(call, end)
        if trunk and call.key.trunk.account is not None:
            call.shift = call.shift or Shift()
            number = call.shift.own() or number
        peer, parties = _towards(call, self.side, end)
        bye = Bye(end, peer, parties, call.call_id, number, call.tokens[-1])
        if trunk:
            self.bye = bye
        bye.send(core, self if trunk else NOBODY, now)  # the PBX's answer decides nothing

    def on_response(self, client: AnyClient, response: Message, now: float) -> None:
        if self.bye is not None and self.bye.again(self.call.core, client, response, now):
            if self.call.shift is not None:
                self.call.shift.own()
        elif response.code >= 200:
            self._over(now)

    def on_timeout(self, client: AnyClient, now: float) -> None:
        self._over(now)

    def on_failed(self, client: AnyClient, now: float) -> None:
        self._over(now)

    def on_repeat(self, client: AnyClient, now: float) -> None:
        raise AssertionError("only initial INVITEs carry a claim")

    def _over(self, now: float) -> None:
        self.call.dialog_over(self.side, now, "gate", self.reason)
