"""What an operator is shown of a call, a key, a refusal, an alert: one row each, whoever asks."""

from __future__ import annotations

from typing import Any

from callgate.net.advice import advice_of
from callgate.net.gate import Gate
from callgate.net.log import utc
from callgate.policy.claim import Members, Window
from callgate.proxy.calls.call import Call
from callgate.proxy.calls.context import Phase
from callgate.proxy.commands import Alert
from callgate.proxy.contract.suspension import Suspension
from callgate.proxy.peers import Key
from callgate.proxy.telemetry.record import CallRecord

Row = dict[str, Any]


class Rows:
    """Of one gate. Times in a row are UTC (RFC 3339)."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._core = gate.core

    def call(self, call: Call, now: float) -> Row:
        """One that is not over. `waited_seconds`: in the queue of the rate, until now where it is still there."""
        record = call.record
        recordings = self._core.recordings
        state, since, waited = "asking", record.invite_at, record.waited
        if call.phase is Phase.UP:
            state, since = "up", record.answer_at or record.invite_at
        elif record.ringing_at is not None:
            state, since = "ringing", record.ringing_at
        elif call.phase is Phase.TRYING:
            state, since = "trying", record.sent_at or record.invite_at
        elif call.turn is not None and call.turn.delayed:
            state, waited = "queued", now - call.turn.since
        lines: dict[str, int] = {}
        for claim_id in (*call.copies.granted, *recordings.licence_of(call)):
            for name, weight in self._gate.store.lines(claim_id):
                name = name.rpartition("/")[2]
                lines[name] = lines.get(name, 0) + weight
        return {
            "call_id": call.call_id.decode("utf-8", "replace"),
            "id": f"{record.id:016x}",
            "key": call.key.id,
            "direction": record.direction,
            "state": state,
            "since": self._utc(since),
            "from": record.caller_raw,
            "to": record.raw,
            "lines": lines,
            "gateway": record.gateway or None,
            "recorded": call.leg in recordings.of,
            "on_hold": self._core.holds.row(call) is not None,
            "waited_seconds": round(waited, 3),
        }

    def refusal(self, record: CallRecord) -> Row:
        value, limit = record.measured
        return {
            "at": self._utc(record.end_at or record.invite_at),
            "call_id": record.call_id,
            "key": record.key,
            "direction": record.direction,
            "from": record.caller_raw,
            "to": record.raw,
            "code": record.final_code or None,
            "rule": record.rule,
            "value": value,
            "limit": limit,
            "reason": record.reason,
        }

    def key(self, key: Key, now: float) -> Row:
        """`queued`: calls that wait for a token of its rate; `refused`: calls since the gate's start; `slowed`: by so
        many steps (K11)."""
        core = self._core
        suspension: Suspension | None = core.suspensions.of(key.id, now)
        limits = {}
        for part in key.parts:
            if isinstance(part, Window | Members):
                used = self._gate.store.used(part.name, now)
                limits[part.name.rpartition("/")[2]] = {"rule": part.rule, "used": used, "limit": part.limit}
        active = [core.counts.active(key, direction) for direction in (0, 1)]
        return {
            "key": key.id,
            "trunk": key.trunk.name,
            "mode": "shadow" if key.shadow else "enforce",
            "state": "suspended" if suspension is not None else "active",
            "reason": suspension.reason if suspension is not None else None,
            "since": stamp(suspension.since) if suspension is not None else None,
            "until": stamp(suspension.until) if suspension is not None else None,
            "by": suspension.by if suspension is not None else None,
            "outbound": active[0],
            "inbound": active[1],
            "queued": core.pacing.depth(key.id),
            "slowed": key.congestion.level(now) if key.congestion.raised else 0,
            "refused": core.counts.refused.get(key.id, 0),
            "limits": limits,
        }

    def alert(self, alert: Alert) -> Row:
        """One that is up. `advice`: what to do about it."""
        return {
            "rule": alert.rule,
            "severity": alert.severity,
            "key": alert.key,
            "trunk": alert.trunk or None,
            "text": alert.text,
            "value": alert.value,
            "limit": alert.limit,
            "since": self._gate.records.story.since(alert.name),
            "advice": advice_of(alert),
            "details": dict(alert.details),
        }

    def _utc(self, at: float) -> str:
        return stamp(at + self._core.utc_offset) or ""


def stamp(at: float | None) -> str | None:
    """A wall-clock time, seconds since 1970."""
    return None if at is None else utc(int(at * 1e6) * 1000)
