"""What is said about calls and alerts: one log line each. A call's record goes on to whoever keeps it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from callgate.net.log import Log, utc
from callgate.proxy.commands import Alert, Note
from callgate.proxy.meters import Meters
from callgate.proxy.record import CallRecord
from callgate.store.forget import Wanted

REFUSED: Final = 50
ADVICE = {
    "K-X1+EMG": "give the PBX another route for emergency calls: this trunk can't carry them",
    "V2": "tell the carrier before many numbers are called at once, or call them more slowly",
    "V13": "look at the program that dials: it calls the same number again and again",
    "K7": "send faxes by another line, or by G.711 if the carrier says so",
    "K4": "let the PBX wait longer before it calls the same number again (`redial_gap_seconds`)",
    "EMG-ROUTE": "see to the emergency route now: test it, and give the PBX another one besides",
    "EMG-TO": "look at the PBX's dial plan: it calls another number than the one it was asked for",
    "no-key": "list the address under a key's `sources`, or block it if you don't know it",
    "auth": "look at the user's name and password in the PBX, and at `realm` and `algorithms` under `digest`",
    "auth-throttle": "correct the password there, or block the address if you don't know it",
    "N1": "list the number under a key's `numbers`",
    "dns": "look at the name's records and at the name servers (`dns.servers`, or /etc/resolv.conf)",
    "trunk-down": "ask the carrier, or see whether its addresses can be reached from here",
    "trunk-refuses": "see what numbers this key dials, and whether the carrier has shut it out",
    "K11": "the carrier takes fewer calls than the contract says: ask it, or lower `outbound_cps`",
    "record-route": "it has to copy Record-Route into its 2xx; until then its calls end for the gate by `probe` "
    "or `max_call_seconds`",
    "trunk-credentials": "compare `credentials` of the trunk with what the carrier gave you",
    "trunk-register": "compare `register` and `credentials` of the trunk with what the carrier gave you",
    "register": "look at the phone's settings: its domain, its user, how long it wants to be registered",
    "journal": "see to the disk and the rights of `state_dir`: calls go on, but a crash would lose them",
    "registrations": "see to the disk and the rights of `state_dir`; it is tried again every few seconds",
    "K3": "turn ACR and LCR (automatic carrier choice) off in the PBX: calls must be dialled without 00XY",
    "V9": "`callgate keys resume KEY` ends it before its time",
    "suspensions": "see to the disk and the rights of `state_dir`; then suspend the key once more",
    "database": "see to the database (`database` in the config); it is tried again every few seconds, and "
    "nothing is lost while `state_dir` has room",
    "disk": "see to the disk and the rights of `state_dir`, or to the database: a restart now would cost these records",
    "records-lost": "see to the database and to the disk of `state_dir`",
    "records-aside": "look at records.damaged and records.refused there",
    "webhook": "see to the receiver; its events wait and are tried again",
    "webhook-off": "take it out of `webhooks`, or switch it on again: `callgate outbox replay --receiver`",
    "webhook-dead": "`callgate outbox list` shows them, `callgate outbox replay` sends them once more",
    "events-lost": "see to the database: events other than records wait in memory only",
    "restarted": "where nobody has restarted it, read the log before the start",
    "ops": "look at what it said (`ops ended` in the log)",
    "loop-lag": "see what else takes this machine's processors, or give the gate a larger one",
    "EMG-SUSPECT": "look at the PBX's dial plan: an emergency number seems to leak with a prefix",
}
"""What to do about an alert, by rule."""


class RecordLog:
    """`utc_offset` turns the gate's monotonic times into UTC. `keep(record, utc_offset)` gets every record,
    `tell(alert, utc_offset)` every alert."""

    def __init__(self, log: Log, meters: Meters) -> None:
        self._log = log
        self._meters = meters
        self.utc_offset = 0.0
        self.keep: Callable[[CallRecord, float], None] | None = None
        self.tell: Callable[[Alert, float], None] | None = None
        self.refused: deque[CallRecord] = deque(maxlen=REFUSED)
        """The last calls that were refused."""

    def call(self, record: CallRecord) -> None:
        """The line of a call that has ended: the fields of its record that are known."""
        fields: dict[str, Any] = {
            "id": f"{record.id:016x}",
            "call_id": record.call_id,
            "key": record.key,
            "trunk": record.trunk,
            "gateway": record.gateway or None,
            "direction": record.direction,
            "raw": record.raw,
            "canonical": record.canonical,
            "caller_raw": record.caller_raw,
            "caller": record.caller,
            "class": record.number_class or None,
            "invite_at": self._utc(record.invite_at),
            "answer_at": self._utc(record.answer_at),
            "end_at": self._utc(record.end_at),
            "final_code": record.final_code,
            "ended_by": record.ended_by,
            "outcome": record.outcome,
            "verdict": record.verdict,
            "attempts": record.attempts,
        }
        if record.recorded:
            fields["recorded"] = True
        if record.rule:
            fields["rule"] = record.rule
        if record.shadow:
            fields["shadow"] = True
        value, limit = record.measured
        if value is not None:
            fields |= {"value": value, "limit": limit}
        if record.waited:
            fields["waited_seconds"] = round(record.waited, 6)
        if record.reason:
            fields["reason"] = record.reason
        self._log.info("call", **fields)
        if record.verdict == "refused":
            self.refused.append(record)
        if self.keep is not None:
            self.keep(record, self.utc_offset)

    def note(self, note: Note) -> None:
        """A line about something that has changed."""
        self._log.info(note.event, **note.fields)

    def alert(self, alert: Alert) -> None:
        """The line of an alert: the fields that its event will have."""
        say = self._log.info if alert.resolved else self._log.warning
        say(
            "alert.resolved" if alert.resolved else "alert.raised",
            rule=alert.rule,
            severity=alert.severity,
            key=alert.key,
            text=alert.text,
            value=alert.value,
            limit=alert.limit,
            advice=alert.advice or ADVICE.get(alert.rule, ""),
            **({"trunk": alert.trunk} if alert.trunk else {}),
            **alert.details,
        )
        if self.tell is not None:
            self.tell(alert, self.utc_offset)

    def forget(self, wanted: Wanted) -> None:
        """Keep none of those among the last refused calls (T12)."""
        kept = [record for record in self.refused if not wanted(record, self.utc_offset)]
        self.refused.clear()
        self.refused.extend(kept)

    def _utc(self, at: float | None) -> str | None:
        if at is None:
            return None
        return utc(int((at + self.utc_offset) * 1e6) * 1000)
