"""A forward's joint as plain values, so that a crash parts no call from the one that carries it on: written down with
the call in (`proxy.restart.journal`), made again from that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from callgate.bridge.forward import End, Forward, Pair
from callgate.sip.message import parse

if TYPE_CHECKING:
    from callgate.proxy.calls.call import Call

Row = tuple[Any, ...]
BROKEN: Final = "the gate was started anew, and knows only one side of this forward"


def row_of(forward: Forward) -> Row:
    """(Call-ID of the call out, Contact, answered, the two INVITEs, pairs of ends and whether answered)."""
    far = forward.far_invite
    return (
        forward.far_call_id,
        forward.contact,
        forward.answered,
        forward.invite.wire(),
        None if far is None else far.wire(),
        tuple([(_end(pair.near), _end(pair.far), pair.answered) for pair in forward.pairs]),
    )


def _end(end: End) -> Row:
    return end.local, end.remote, end.tag, tuple(end.routes), end.target


def recalled(row: Row, near: Call) -> Forward:
    """What `row_of` was told, with the call in. Raises ValueError or Malformed for what is none."""
    far_call_id, contact, answered, invite, far_invite, pairs = row
    forward = Forward(near, parse(invite), far_call_id, contact)
    forward.answered = answered
    forward.far_invite = None if far_invite is None else parse(far_invite)
    forward.pairs = [
        Pair(_made(forward.near_call_id, near), _made(far_call_id, far), answered=up)
        for near, far, up in pairs
    ]
    return forward


def _made(call_id: bytes, row: Row) -> End:
    local, remote, tag, routes, target = row
    end = End(call_id, local, remote, tag)
    end.routes, end.target = list(routes), target
    return end
