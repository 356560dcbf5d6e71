"""Requests that the gate itself sends inside a dialog, made from what the dialog has shown; and what ends a call that
it was told to end: a BYE to both sides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from callgate.proxy.calls.cseq import Shift
from callgate.proxy.calls.dialog import Side
from callgate.proxy.flow import Flow, Trouble
from callgate.proxy.peers import Peer
from callgate.proxy.token import OUTBOUND
from callgate.proxy.transactions import AnyClient, ClientUser
from callgate.proxy.trunk.login import CHALLENGED, Login
from callgate.sip.fields import tag_of
from callgate.sip.message import Message, header_value, wire

if TYPE_CHECKING:
    from callgate.proxy.calls.call import Call
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
    peer = Peer(trunk=call.trunk) if is_trunk(call, end) else Peer(key=call.key)
    return peer, (receiver, sender) if end is call.caller else (sender, receiver)


def is_trunk(call: Call, end: Side) -> bool:
    """Whether this end of a call is the carrier's."""
    return (end is call.caller) != (call.direction == OUTBOUND)


def last_number(call: Call, side: Side, end: Side) -> int:
    """The highest CSeq that `end` has been sent in the dialog with `side`, -1 for none."""
    if end is call.caller:
        return side.cseq
    return side.heard if side.heard >= 0 else call.caller.cseq


AHEAD = 100
"""What the CSeq of the gate's own BYE lies above the last one seen, where the other side may have used further ones
(PRACK, or whatever went around the gate)."""


class Bye:
    """A BYE of the gate's own to `side`, sent once more where that is a trunk that challenges it and the gate has
    credentials."""

    __slots__ = ("_call_id", "_login", "_parties", "_peer", "_side", "_token", "_uri", "number")

    def __init__(
        self, side: Side, peer: Peer, parties: tuple[bytes, bytes], call_id: bytes, number: int, token: bytes
    ) -> None:
        self._side = side
        self._peer = peer
        self._parties = parties
        self._call_id = call_id
        self.number = number
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
            self.number,
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
        self.number += 1
        self.send(core, client.user, now)
        return True


CROSSINGS = 3
"""How often a BYE is sent anew because a request of the other side has overtaken it."""


class HangUp:
    """Ends the dialog of a call with one callee. `reason` and who ended it, `by`, are for the record."""

    __slots__ = ("by", "call", "reason", "side")

    def __init__(self, call: Call, side: Side, reason: str = "", by: str = "gate") -> None:
        self.by = by
        self.call = call
        self.side = side
        self.reason = reason

    def start(self, core: Core, now: float, to: Side | None = None) -> None:
        """A BYE to each end, or only `to` one."""
        for end in (self.side, self.call.caller):
            if to is None or to is end:
                Farewell(self, end).send(core, now)


class Farewell:
    """The user of the BYE to one end. The lines come free when the carrier has answered its own: until then it counts
    them. The PBX's answer decides nothing."""

    __slots__ = ("bye", "crossed", "end", "hang_up", "number")

    def __init__(self, hang_up: HangUp, end: Side) -> None:
        self.hang_up = hang_up
        self.end = end
        self.crossed = 0
        self.number = 0  # the BYE's, as the other side counts
        call = hang_up.call
        peer, parties = _towards(call, hang_up.side, end)
        self.bye = Bye(end, peer, parties, call.call_id, 0, call.tokens[-1])

    def send(self, core: Core, now: float) -> None:
        call, side, end = self.hang_up.call, self.hang_up.side, self.end
        # Not noted as the other's own: its BYE, crossing with this one, is none the staler for it.
        self.number = self.bye.number = (
            max(last_number(call, side, end), 0) + (AHEAD if side.around else 1) + call.ahead
        )
        if is_trunk(call, end) and call.trunk.account is not None:
            call.shift = call.shift or Shift()
            self.bye.number = call.shift.own() or self.number
        self.bye.send(core, self, now)

    def on_response(self, client: AnyClient, response: Message, now: float) -> None:
        call = self.hang_up.call
        if self.bye.again(call.core, client, response, now):
            if call.shift is not None:
                call.shift.own()
        elif response.code == 500 and self._was_overtaken():
            self.send(call.core, now)
        elif response.code >= 200:
            self._over(now)

    def _was_overtaken(self) -> bool:
        """Whether a request of the other side, which was on its way when this BYE left, has come in between: then the
        BYE's CSeq was too low for this end, and has ended nothing (RFC 3261 §12.2.2)."""
        self.crossed += 1
        overtaken = last_number(self.hang_up.call, self.hang_up.side, self.end) >= self.number
        return overtaken and self.crossed <= CROSSINGS

    def on_timeout(self, client: AnyClient, now: float) -> None:
        self._over(now)

    def on_failed(self, client: AnyClient, now: float, trouble: Trouble) -> None:
        self._over(now)

    def on_repeat(self, client: AnyClient, now: float) -> None:
        raise AssertionError("only initial INVITEs carry a claim")

    def _over(self, now: float) -> None:
        if is_trunk(self.hang_up.call, self.end):
            self.hang_up.call.dialog_over(self.hang_up.side, now, self.hang_up.by, self.hang_up.reason)
