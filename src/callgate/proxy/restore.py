"""Calls of an earlier start, made again from what was written down of them (`proxy.journal`).

A call that is up goes on in its dialogs; one that rings goes on waiting for its answer, with its Timer C; one that
nobody has answered is sent again. Each holds its lines from the first moment, also over the limit: the carrier counts
them. Whether those that were up still are is asked within seconds (`vitals`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import uniform
from typing import TYPE_CHECKING, Any, NamedTuple

from callgate.policy.claim import Claim, Members, Part, Verdict
from callgate.policy.ledger import LEASE
from callgate.proxy.answer import Refusal, reply
from callgate.proxy.call import SPARE, Call
from callgate.proxy.commands import Journal, Record
from callgate.proxy.context import Phase
from callgate.proxy.cseq import Shift
from callgate.proxy.dialog import Side, Stage
from callgate.proxy.flow import INNER, Flow, Listener, Trust
from callgate.proxy.forward import Routes, max_forwards
from callgate.proxy.hangup import AHEAD
from callgate.proxy.journal import OVER, QUEUED, RECORD, RINGS, TRYING, UP, Row, gone, record_of, unpack
from callgate.proxy.login import Passage
from callgate.proxy.peers import Key, Step
from callgate.proxy.record import CallRecord
from callgate.proxy.siprec import NO_RECORDERS, Session
from callgate.proxy.targets import Groups, Target
from callgate.proxy.token import INBOUND, OUTBOUND
from callgate.proxy.transactions import (
    NOBODY,
    InviteClientTransaction,
    InviteServerTransaction,
    server_key,
)
from callgate.proxy.vitals import PROBED_PER_SECOND, Vitals
from callgate.sip.errors import Malformed
from callgate.sip.fields import COOKIE, split_list
from callgate.sip.message import CSEQ, MAX_FORWARDS, RECORD_ROUTE, VIA, Message, header_value, parse, wire
from callgate.sip.transaction import LIFE, NEVER, Event, State
from callgate.sip.uri import parse_uri

if TYPE_CHECKING:
    from callgate.proxy.core import Core

GONE = -1
"""Stands for a connection of an earlier start: there is none of that number, so the flow's fallback is taken."""
SOON = 0.3
PROBED_WITHIN = 4.5
"""Calls that are taken up are asked whether they still are, between so many seconds after the start,
or later where they are very many."""
AWAY = Refusal("V1", "the gate was started anew while the call waited", 503, 486)


class Taken(NamedTuple):
    """What has become of the calls of an earlier start. `left_out`: why each of the others could not be taken up."""

    up: int = 0
    ringing: int = 0
    queued: int = 0
    left_out: tuple[str, ...] = ()


class Counted:
    """Hears that a call is counted again. There is nothing to do: it holds its lines whatever the answer, and gives
    them back at its end."""

    def on_verdict(self, claim_id: int, verdict: Verdict, now: float) -> None:
        pass


COUNTED = Counted()


def take_up(call: Call, how: str, lease: float, now: float) -> None:
    """A call of an earlier start is one of the gate's from here on. It counts, whatever the limit: the carrier does."""
    core = call.core
    core.adoption.taken_up(call)
    call.ahead = AHEAD
    before = core.by_call_id.get(call.call_id)
    if before is None or (before.leg < call.leg and not core.began_here(before.leg)):
        core.by_call_id.add(call)
    else:
        core.by_call_id.add_before(call)
    if call.direction == INBOUND:
        core.forwards.opened(call)
    call.tell(now, how)
    if call.is_session:
        return
    call.core.counts.call_up(call.key, call.counted_as)
    if call.parts:
        call.copies.granted = (call.leg,)
        call.core.ask_patiently(COUNTED, call.key, Claim(call.leg, call.parts, NEVER, lease, force=True))


def fold(rows: Iterable[Row]) -> list[tuple[Row, Row | None]]:
    """What is left of many rows, in the order in which they were written: each leg's last one, and its "R" where that
    came behind a "T". Legs that have ended are left out."""
    found: dict[int, tuple[Row, Row | None]] = {}
    for row in rows:
        kind, leg = row[0], row[1]
        if kind == OVER:
            found.pop(leg, None)
        elif kind == RINGS:
            if leg in found:
                found[leg] = (found[leg][0], row)
        else:
            found[leg] = (row, None)
    return list(found.values())


class Restorer:
    """`listeners` are the names of those that the rows count (`Listener.name`), `fields` the names of a record's
    values, `shift` what their times lack to be times of today, in seconds."""

    def __init__(
        self, core: Core, listeners: Sequence[str], fields: Sequence[str] = RECORD, shift: float = 0.0
    ) -> None:
        self._core = core
        by_name = {listener.name: listener for listener in core.directory.listeners}
        self._listeners = [by_name.get(name) for name in listeners]
        self._names = listeners
        self._fields = fields
        self._shift = shift
        self._probe_seconds = PROBED_WITHIN
        self._flows: dict[bytes, Flow] = {}
        self._made: Call | None = None
        self._of: Key | None = None  # whose call it is
        self._recorded: Row | None = None
        self._left, self._stepping = (
            0,
            False,
        )  # of its way: groups to come; whether this one is a step of a route

    def restore(self, rows: Sequence[tuple[Row, Row | None]], now: float) -> Taken:
        """Take up calls; what one row is not fit for costs no other."""
        count = {UP: 0, TRYING: 0, QUEUED: 0}
        left_out: list[str] = []
        self._probe_seconds = max(PROBED_WITHIN, len(rows) / PROBED_PER_SECOND)
        makers: dict[str, Callable[[Row, Row | None, float], None]] = {
            UP: self._up,
            TRYING: self._trying,
            QUEUED: self._queued,
        }
        for row, rang in rows:
            self._made = self._of = None
            self._left, self._stepping, self._recorded = 0, False, None
            try:
                makers[row[0]](row, rang, now)
                count[row[0]] += 1
            except _LeftOut as why:
                left_out.append(str(why))
            except Exception as error:  # a row of another version, or one that makes no sense
                left_out.append(repr(error))
                self._undo(now)
        self._core.bridge.mend(now)
        self._core.recordings.mend(now)
        return Taken(count[UP], count[TRYING], count[QUEUED], tuple(left_out))

    def _undo(self, now: float) -> None:
        """A call was half made."""
        call, core = self._made, self._core
        if call is not None and call.phase is not Phase.OVER:
            call.phase = Phase.OVER
            core.live_calls -= 1
            core.layer.servers.pop(call.origin, None)
            for client in call.attempts:
                core.layer.clients.pop(client.branch, None)
                client.user = NOBODY
            if call.server is not None:
                call.server.user = None  # no cycle is left: see `net.gate`
            core.recordings.ended(call, now)
            core.forget(call)

    # -- the kinds -----------------------------------------------------------------------------------------

    def _up(self, row: Row, _: Row | None, now: float) -> None:
        (_, leg, _, key_id, direction, call_id, origin, to_caller, caller, callees, from_line, to_line) = row[
            :12
        ]
        tokens, shift, lines, more, record, up_at, story = row[12:]
        key = self._key(key_id)
        request = parse(wire(stub(from_line, to_line, call_id, caller[0][4]), b""))
        flow = self._flow(to_caller if to_caller is not None else caller[1])
        server = InviteServerTransaction(self._core.layer, request, tuple(origin), flow, now)
        server.on(Event.SUCCESS, now)
        server.request = None
        call = self._call(leg, key, direction, request, server, caller, record, lines, more, story, now)
        call.request = None
        call.phase = Phase.UP
        call.from_line, call.to_line = from_line, to_line
        call.up_at = up_at + self._shift
        answered = call.record.answer_at
        call.record.answer_at = min(answered if answered is not None else call.up_at, now)
        call.callees = tuple([self._side(side, now) for side in callees])
        call.shift = Shift.recalled(*shift) if shift is not None else None
        for token in tokens:
            call.known_by(token)
        if now < call.up_at + LIFE:  # copies of its INVITE may still come
            self._core.layer.recall(server)
        else:
            server.user = None  # no cycle is left: see `net.gate`
        longest = call.longest
        left = NEVER if longest is None else max(call.record.answer_at + longest - now, 0.0) + SPARE
        self._take_up(call, left, now)
        self._doubt(call, now)
        call.goes_on(NEVER if longest is None else call.record.answer_at + longest, now)

    def _trying(self, row: Row, rang: Row | None, now: float) -> None:
        (_, leg, at, key_id, direction, _, dialled, _, origin, to_caller, caller, callees) = row[:12]
        attempts, mark, free, cancelled, tokens, shift, lines, more, record, story = row[12:]
        ringing: Sequence[bytes] = ()
        ringing_at = None
        if rang is not None:
            _, _, at, ringing, callees, ringing_at, cancelled = rang
        sent = next((attempt[1] for attempt in attempts if attempt[1]), b"")
        if not sent:
            raise _LeftOut("no attempt of it is known")
        key = self._key(key_id)
        request = _as_it_came(sent, caller[0][4])
        server = InviteServerTransaction(self._core.layer, request, tuple(origin), self._flow(to_caller), now)
        call = self._call(leg, key, direction, request, server, caller, record, lines, more, story, now)
        call.phase = Phase.TRYING
        call.routes = Routes()
        call.dialled = parse_uri(dialled)
        call.hops = max_forwards(request)
        call.mark, call.free = mark, free
        call.cancelled = cancelled
        call.callees = tuple([self._side(side, now) for side in callees])
        if ringing_at is not None:
            call.record.ringing_at = ringing_at + self._shift
            call.tell(call.record.ringing_at, "rings", 180)
        call.shift = Shift.recalled(*shift) if shift is not None else None
        for token in tokens:
            call.known_by(token)
        server.last = reply(request, 100)
        self._core.layer.recall(server)
        tried = [self._attempt(call, attempt, ringing, now) for attempt in attempts]
        call.groups, call.steps = self._way(call, tried, now)
        call.group = 0
        call.proceeding = any(client.state is State.PROCEEDING for client in call.current)
        self._take_up(call, LEASE, now)
        call.goes_on_trying(at + self._shift, now)

    def _attempt(self, call: Call, row: Row, ringing: Sequence[bytes], now: float) -> Target:
        """Take up an attempt that still lives. Where it has gone to."""
        branch, data, flow, to, gateway, what, proceeding, end_at, raised, *current = row
        target = self._target(call, self._flow(to), gateway, what)
        if not data:
            return target
        client = InviteClientTransaction(self._core.layer, branch, data, self._flow(flow), call, now)
        client.target = target
        if raised > 0 and call.shift is not None and call.request is not None and call.routes is not None:
            account = call.trunk.account
            if account is not None:
                client.passage = Passage(account, call.shift, call.request, call.routes, raised=raised)
        if branch in ringing or proceeding:
            client.on(Event.PROVISIONAL, now)
        else:
            client.end_at = min(end_at + self._shift, now + LIFE) if end_at != NEVER else now + LIFE
            if call.direction == OUTBOUND and not call.free:
                client.claim = (
                    call.leg
                )  # of an earlier start: nothing is in `sent_at`, a copy takes a new token
        call.attempts.append(client)
        if False not in current:  # else it was left: it is listened to, and called no more
            call.current.append(client)
        self._core.layer.recall(client)
        return target

    def _queued(self, row: Row, _: Row | None, now: float) -> None:
        """It has not been sent to anybody, and nobody knows whether its caller still waits: so it is not sent now, and
        the caller hears that he may try again."""
        _, leg, _, key_id, _, call_id, data, flow, record, story = row
        core = self._core
        self._key(key_id)
        request = parse(data)
        code = AWAY.code
        core.dispatch.answer(
            request, server_key(request, request.via), code, self._flow(flow), now, AWAY.headers()
        )
        known = self._record(record, now)
        known.call_id = call_id.decode("utf-8", "replace")
        known.end_at, known.final_code, known.ended_by = now, code, "crash"
        known.verdict = known.outcome = "refused"
        known.rule, known.reason = AWAY.rule, AWAY.text
        known.waited = now - known.invite_at
        steps = (*[(step[0] + self._shift, *step[1:]) for step in story], (now, "lost"))
        core.out += [Record(known), Journal(gone(leg, call_id, known, steps, now))]

    # -- their parts ---------------------------------------------------------------------------------------

    def _key(self, key_id: str) -> Key:
        key = self._core.directory.keys.get(key_id)
        if key is None:
            raise _LeftOut(f"its key {key_id} is not in the config any more")
        self._of = key
        return key

    def _call(
        self,
        leg: int,
        key: Key,
        direction: int,
        request: Message,
        server: InviteServerTransaction,
        caller: Row,
        record: Row,
        lines: bytes,
        more: Row | None,
        story: Sequence[Any],
        now: float,
    ) -> Call:
        kind = Session if more is not None and more[-1] else Call
        call = self._made = kind(self._core, leg, key, direction, request, server, server.flow, now)
        call.caller = self._side(caller, now)
        call.record = self._record(record, now)
        if more is not None:
            self._recall(call, *more)
        call.record.key, call.record.trunk = key.id, call.record.trunk or call.trunk.name
        call.parts = parts_again(lines)
        call.story = [(step[0] + self._shift, *step[1:]) for step in story]
        return call

    def _recall(
        self,
        call: Call,
        did: str,
        inbound_leg: int,
        emergency: bool,
        away: bool,
        ring_until: float,
        left: int,
        stepping: bool,
        joint: Row | None,
        hold: tuple[float, tuple[bool, ...]] | None,
        recorded: Row | None,
        is_session: bool,
    ) -> None:
        """What `journal._more` has noted."""
        call.did, call.inbound_leg, call.emergency = did, inbound_leg, emergency
        call.ring_until = ring_until + self._shift
        self._left, self._stepping = left, stepping
        if is_session:
            call.trunk = (call.key.recorders or NO_RECORDERS).trunk
        elif away and call.key.trunk.emergency is not None:
            call.trunk = call.key.trunk.emergency
        if joint is not None:
            self._core.bridge.recall(joint, call)
        if hold is not None and not call.is_session:
            self._core.holds.recall(call, hold[0] + self._shift, hold[1])
        self._recorded = recorded

    def _record(self, row: Row, now: float) -> CallRecord:
        record = record_of(row, self._fields)
        for name in ("invite_at", "sent_at", "ringing_at", "answer_at"):
            at = getattr(record, name)
            if at is not None:
                setattr(record, name, min(at + self._shift, now))
        return record

    def _take_up(self, call: Call, lease: float, now: float) -> None:
        take_up(call, "restart", lease, now)
        if self._recorded is not None:
            self._core.recordings.recall(call, self._recorded)

    def _doubt(self, call: Call, now: float) -> None:
        """It may have ended while the gate was away."""
        for side in call.callees:
            if side.vitals is not None and side.stage is Stage.UP:
                side.vitals.doubt(
                    now, *(now + uniform(SOON, self._probe_seconds) for _ in range(2)), crashed=True
                )

    def _side(self, row: Row, now: float) -> Side:
        known, flow, stage, session = row
        tag, contact, routes, own, cseq, heard, invited, sent_by, seen_at, around = known
        side = Side(tag, self._flow(flow))
        side.recall(contact, tuple(routes), own)
        side.cseq, side.heard, side.invited = cseq, heard, invited
        side.stage = stage
        side.sent_by, side.around = sent_by, around
        side.seen_at = min(seen_at + self._shift, now)
        if side.stage is Stage.UP:
            side.acknowledged = True  # nobody has written down that it was not
            side.vitals = Vitals(session, now)  # at the latest: a refresh may have passed meanwhile
        return side

    def _flow(self, packed: bytes) -> Flow:
        flow = self._flows.get(packed)
        if flow is not None:
            return flow
        index, host, port, connection, fallback, trust, pinned, names = unpack(packed)
        if index == INNER:
            assert self._of is not None
            return self._core.bridge.flow(self._of)  # not kept: each key has its own
        listener = self._listener(index, host)
        flow = Flow(
            listener,
            host,
            port,
            GONE if connection else 0,
            tuple(fallback) if fallback is not None else None,
            None if trust is None else Trust(trust[0], tuple(trust[1])),
        )
        flow.pinned, flow.names = pinned, tuple(names)
        self._flows[packed] = flow
        return flow

    def _listener(self, index: int, host: str) -> Listener:
        """The listener of a flow, or one that can do the same where the config has another now."""
        listener = self._listeners[index] if index < len(self._listeners) else None
        if listener is None:
            transport = self._names[index].partition(" ")[0].encode() if index < len(self._names) else b"UDP"
            listener = self._core.directory.listener_for(transport, host)
        if listener is None:
            raise _LeftOut(f"no listener leads to {host} any more")
        return listener

    def _target(self, call: Call, flow: Flow, index: int, row: Row) -> Target:
        """The target that it was, where the config still has it."""
        hostport, name, uri, device, route, onward = row
        if index >= 0:
            for gateway in call.trunk.gateways:
                for target in gateway.site.targets:
                    if target.flow == flow and target.hostport == hostport:
                        return target
            gateways = [gateway for gateway in call.trunk.gateways if gateway.hostport == hostport]
            return Target(flow, hostport, name, gateway=gateways[0] if gateways else None)
        return Target(flow, hostport, name, uri=uri, device=device, route=route, onward=onward)

    def _way(self, call: Call, tried: Sequence[Target], now: float) -> tuple[Groups, tuple[Step | None, ...]]:
        """Those that the call has gone to, and behind them where it may go if nobody of these takes it."""
        core, key = self._core, call.key
        if call.direction == OUTBOUND:
            flows = [target.flow for target in tried]
            others = core.trunks.groups(key, now, trunk=call.trunk, every=call.emergency)
            return [tried, *[each for each in others if not any(t.flow in flows for t in each)]], ()
        if key.registered or call.dialled is None:
            return [tried], ()
        groups, steps = core.outside.way_of(key, call.did, call.dialled, now)
        place = len(groups) - self._left
        if not steps:
            return [tried, *groups[place:]], ()
        here = steps[place - 1] if self._stepping and place > 0 else None
        return [tried, *groups[place:]], (here, *steps[place:])


class _LeftOut(Exception):
    """Why a call can't be taken up."""


def parts_again(lines: bytes) -> tuple[Part, ...]:
    """The sets of `journal.lines_row`, that are joined whatever their limit."""
    return tuple([Members(rule, name, None, weight) for rule, name, weight, _ in unpack(lines)])


def stub(from_line: bytes, to_line: bytes, call_id: bytes, number: int) -> list[bytes]:
    """As much of an INVITE as a call that is up remembers."""
    return [
        b"INVITE sip:unknown.invalid SIP/2.0",
        b"Via: SIP/2.0/UDP unknown.invalid;branch=z9hG4bK0",
        from_line,
        b"To: " + header_value(to_line).partition(b";tag=")[0],
        b"Call-ID: " + call_id,
        b"CSeq: %d INVITE" % max(number, 0),
    ]


def _as_it_came(data: bytes, number: int) -> Message:
    """An INVITE as it came, but for what the gate takes off, from its copy as it left: without our Via and
    Record-Route, with its own CSeq and the hop that we took. Raises Malformed."""
    request = parse(data)
    lines: list[bytes | None] = list(request.lines)
    via = request.at[VIA]
    own = request.via.branch.removeprefix(COOKIE).partition(b".")[0]
    rest = request.via.rest
    lines[via] = b"Via: " + rest if rest else None
    for i in request.places(RECORD_ROUTE):
        values = [v for v in split_list(header_value(request.lines[i])) if b";lr;cg=" + own not in v]
        lines[i] = b"Record-Route: " + b", ".join(values) if values else None
    lines[request.at[CSEQ]] = b"CSeq: %d INVITE" % number
    hops = request.at.get(MAX_FORWARDS)
    if hops is not None:
        lines[hops] = b"Max-Forwards: %d" % min(max_forwards(request) + 1, 255)
    found = parse(wire([line for line in lines if line is not None], request.body))
    if found.faults:
        raise Malformed(found.faults[0])
    return found
