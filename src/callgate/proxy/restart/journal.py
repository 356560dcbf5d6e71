"""What is written down of a call, so that a crash ends none: plain values, made on the path of a message and therefore
cheap. `proxy.restart.restore` makes calls of them again, `store.story` words.

A row is a tuple that begins with its kind, the leg's number and when (monotonic seconds, as all times in it):

    "T"  the INVITE has gone to a target: all there is to know of the call until it is answered
    "R"  it rings: what has changed since "T"
    "U"  it is up, or what is known of its sides has changed: all there is to know from here on
    "Q"  it waits in the queue of its key: enough to answer it
    "E"  it is over: its record and its story
    "W"  (0 for the leg) what counts for longer than a second, and for how long: tokens (`net.ledger`), and who may be
         called back after an emergency call

A later row of a leg replaces the earlier ones, but for "R", which adds to its "T". The values of a record stand in the
order of `RECORD`.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from callgate.policy.claim import Gap, Members, Part
from callgate.proxy.calls.dialog import LEARNT
from callgate.proxy.calls.targets import DEFLECTION
from callgate.proxy.flow import Flow
from callgate.proxy.telemetry.record import CallRecord
from callgate.proxy.token import OUTBOUND
from callgate.sip.message import wire
from callgate.sip.transaction import CALLING, PROCEEDING

if TYPE_CHECKING:
    from callgate.proxy.calls.call import Call
    from callgate.proxy.calls.context import Context
    from callgate.proxy.calls.cseq import Shift
    from callgate.proxy.calls.dialog import Side
    from callgate.proxy.transactions import InviteClientTransaction

Row = tuple[Any, ...]

TRYING: Final = "T"
RINGS: Final = "R"
UP: Final = "U"
QUEUED: Final = "Q"
OVER: Final = "E"
LASTS: Final = "W"
CALL_BACK: Final = "B"

RECORD: Final = tuple(sorted(CallRecord.__slots__))
ROWS_MAX: Final = 4096
"""Kinds of claims whose rows are remembered."""
STEPS: Final = 60
"""Steps of a call's story that are kept; more than that say nothing new."""

_record = attrgetter(*RECORD)
_target = attrgetter("hostport", "name", "uri", "device", "route", "onward")
_side = attrgetter("tag", *LEARNT, "cseq", "heard", "invited", "sent_by", "seen_at", "around")


def pack(row: Row) -> bytes:
    """A row inside of others that stays the same from call to call: packed once, and cheap from then on."""
    return marshal.dumps(row, 2)


def unpack(packed: bytes) -> Row:
    """What was packed. Raises ValueError."""
    try:
        row = marshal.loads(packed)
    except (EOFError, TypeError) as error:
        raise ValueError(str(error)) from None
    if type(row) is not tuple:
        raise ValueError("no row")
    return row


def flow_row(flow: Flow) -> bytes:
    """Packed: (listener, host, port, is it a connection, fallback, trust, pinned, names)."""
    return flow.packed or _packed(flow)


def _packed(flow: Flow) -> bytes:
    trust = flow.trust
    row = (
        flow.listener.index,
        flow.host,
        flow.port,
        flow.connection != 0,
        flow.fallback,
        None if trust is None else (trust.context, trust.names),
        flow.pinned,
        flow.names,
    )
    flow.packed = pack(row)
    return flow.packed


def side_row(side: Side) -> Row:
    """((tag, Contact, Record-Route, is it its own, CSeq, heard, invited, sent-by, last seen, is it around the gate),
    flow, stage, session)."""
    vitals = side.vitals
    return (
        _side(side),
        side.flow.packed or _packed(side.flow),
        side.stage,
        None if vitals is None else vitals.session,
    )


def _shift_row(shift: Shift | None) -> Row | None:
    return None if shift is None else shift.row


def lines_row(parts: Iterable[Part]) -> bytes:
    """Packed: the sets that a call is in, (rule, name, weight, limit)."""
    return pack(tuple([(p.rule, p.name, p.weight, p.limit) for p in parts if type(p) is Members]))


def rules_row(parts: Iterable[Part]) -> bytes:
    """Packed: what a claim asks, for people, (rule, name, limit, seconds or lines)."""
    return pack(tuple([_rule_row(part) for part in parts]))


class Rows:
    """Both of these, made once for claims that many calls put. Found by identity, which costs least."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[tuple[Part, ...], bytes, bytes]] = {}

    def lines(self, parts: tuple[Part, ...]) -> bytes:
        """`lines_row`."""
        return self._both(parts)[1]

    def rules(self, parts: tuple[Part, ...]) -> bytes:
        """`rules_row`."""
        return self._both(parts)[2]

    def _both(self, parts: tuple[Part, ...]) -> tuple[tuple[Part, ...], bytes, bytes]:
        found = self._of.get(id(parts))
        if found is None or found[0] is not parts:
            if len(self._of) >= ROWS_MAX:
                self._of.clear()
            found = self._of[id(parts)] = parts, lines_row(parts), rules_row(parts)
        return found


def _rule_row(part: Part) -> Row:
    limit = None if isinstance(part, Gap) else part.limit
    return part.rule, part.name, limit, part.weight if isinstance(part, Members) else part.period


def _attempts_row(call: Context) -> Row:
    """What still lives of them, and of a call to a trunk the others too: a gateway is tried once."""
    outbound = call.direction == OUTBOUND
    left = call.copies.wait_for_gateway  # all of them
    return tuple(
        [
            _attempt_row(c, c in call.current and not left)
            for c in call.attempts
            if outbound or ((c.state is PROCEEDING or c.state is CALLING) and c.data)
        ]
    )


def _attempt_row(client: InviteClientTransaction, current: bool) -> Row:
    """Without its INVITE where it is over. `current`: it was not left for a further target."""
    target = client.target
    assert target is not None
    return (
        client.branch,
        client.data if client.state is PROCEEDING or client.state is CALLING else b"",
        flow_row(client.flow),
        flow_row(target.flow),
        -1 if target.gateway is None else target.gateway.index,
        _target(target),
        client.state is PROCEEDING,
        client.end_at,
        -1 if client.passage is None else client.passage.raised,
        current,
    )


def _more(call: Context) -> Row | None:
    """What an ordinary call has nothing of: the number of a call in, the call in of a forward, whether it is an
    emergency and goes over another trunk, until when this step of its number's route rings, how many groups are left of
    that, whether this one is of it, the joint of a forward that the gate makes, since when it is on hold, that it is
    recorded, and whether it records another."""
    core = call.core
    hold = core.holds.row(call) if core.holds else None
    recorded = core.recordings.row(call) if core.recordings else None
    if not (call.direction or call.inbound_leg or call.emergency or hold or recorded or call.is_session):
        return None
    joint = core.bridge.row(call)
    left = sum(group[0].reason != DEFLECTION for group in call.groups[call.group + 1 :])
    stepping = 0 <= call.group < len(call.steps) and call.steps[call.group] is not None
    return (
        *(call.did, call.inbound_leg, call.emergency, call.away, call.ring_until),
        *(left, stepping, joint, hold, recorded, call.is_session),
    )


def trying(call: Context, now: float) -> Row:
    """A call whose INVITE has gone to one more target."""
    server, dialled = call.server, call.dialled
    assert server is not None and dialled is not None
    return (
        TRYING,
        call.leg,
        now,
        call.key.id,
        call.direction,
        call.call_id,
        dialled.raw,
        call.hops,
        server.key,
        flow_row(server.flow),
        side_row(call.caller),
        tuple([side_row(side) for side in call.callees]),
        _attempts_row(call),
        call.mark,
        call.free,
        call.cancelled,
        call.tokens,
        _shift_row(call.shift),
        call.core.rows.lines(call.parts),
        _more(call),
        _record(call.record),
        tuple(call.story),
    )


def rings(call: Context, now: float) -> Row:
    """A call of which somebody new has been heard, or that was cancelled."""
    ringing = tuple([c.branch for c in call.attempts if c.state is PROCEEDING])
    callees = tuple([side_row(side) for side in call.callees])
    return (RINGS, call.leg, now, ringing, callees, call.record.ringing_at, call.cancelled)


def up(call: Call, now: float) -> Row:
    """A call that is up."""
    server = call.server
    return (
        UP,
        call.leg,
        now,
        call.key.id,
        call.direction,
        call.call_id,
        call.origin,
        None if server is None else flow_row(server.flow),
        side_row(call.caller),
        tuple([side_row(side) for side in call.callees]),
        call.from_line,
        call.to_line,
        call.tokens,
        _shift_row(call.shift),
        call.core.rows.lines(call.parts),
        _more(call),
        _record(call.record),
        call.up_at,
        tuple(call.story),
    )


def queued(call: Context, now: float) -> Row:
    """A call that waits for a token: its INVITE, as far as an answer needs it, and whence it came."""
    request = call.request
    assert request is not None
    return (
        QUEUED,
        call.leg,
        now,
        call.key.id,
        call.direction,
        call.call_id,
        wire(request.lines, b""),
        flow_row(call.caller.flow),
        _record(call.record),
        tuple(call.story),
    )


def call_back(key_id: str, number: str, seconds: float, now: float) -> Row:
    """For so long, calls in for a number of a key (or for all of them, "") may be the authorities'."""
    return (LASTS, 0, now, ((CALL_BACK, f"{key_id}/call_back/{number}", seconds, key_id, number),))


def over(call: Context, now: float) -> Row:
    """A call that has ended."""
    return gone(call.leg, call.call_id, call.record, call.story, now)


def gone(leg: int, call_id: bytes, record: CallRecord, story: Sequence[tuple[Any, ...]], now: float) -> Row:
    """A call of which there is nothing left but what became of it."""
    return (OVER, leg, now, call_id, _record(record), tuple(story))


def record_of(row: Sequence[Any], fields: Sequence[str] = RECORD) -> CallRecord:
    """The record that stands in a row; `fields` are the names of its values there."""
    record = CallRecord(0, "", 0.0)
    known = RECORD if fields == RECORD else [name for name in fields if name in CallRecord.__slots__]
    values = row if fields == RECORD else [v for name, v in zip(fields, row, strict=False) if name in known]
    for name, value in zip(known, values, strict=False):
        setattr(record, name, value)
    return record
