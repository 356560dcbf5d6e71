"""What is said about calls and alerts: one log line each. A call's record goes on to whoever keeps it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from callgate.cdr.erase import Selection
from callgate.cdr.events import Event, Story
from callgate.net.advice import advice_of
from callgate.net.log import Log, utc
from callgate.proxy.commands import Alert, Note
from callgate.proxy.meters import Meters
from callgate.proxy.record import CallRecord
from callgate.store.forget import Wanted

REFUSED: Final = 50
EVENTS: Final = 500


class RecordLog:
    """`utc_offset` turns the gate's monotonic times into UTC. `keep(record, utc_offset)` gets every record,
    `tell(event)` the event of every alert."""

    def __init__(self, log: Log, meters: Meters) -> None:
        self._log = log
        self._meters = meters
        self.utc_offset = 0.0
        self.keep: Callable[[CallRecord, float], None] | None = None
        self.tell: Callable[[Event], object] | None = None
        self.story = Story()
        self.events: deque[Event] = deque(maxlen=EVENTS)
        """What was raised and resolved, the last ones."""
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
        advice = advice_of(alert)
        event = self.story.event_of(alert, advice, monotonic() + self.utc_offset)
        self.events.append(event)
        say = self._log.info if alert.resolved else self._log.warning
        say(
            "alert.resolved" if alert.resolved else "alert.raised",
            rule=alert.rule,
            severity=alert.severity,
            key=alert.key,
            text=alert.text,
            value=alert.value,
            limit=alert.limit,
            since=event.data["since"],
            advice=advice,
            **({"trunk": alert.trunk} if alert.trunk else {}),
            **alert.details,
        )
        if self.tell is not None:
            self.tell(event)

    def forget(self, wanted: Wanted, selection: Selection) -> None:
        """Keep none of those among the last refused calls and the last alerts (T12)."""
        events = [one for one in self.events if not _is_about(one, selection)]
        self.events.clear()
        self.events.extend(events)
        kept = [record for record in self.refused if not wanted(record, self.utc_offset)]
        self.refused.clear()
        self.refused.extend(kept)

    def _utc(self, at: float | None) -> str | None:
        if at is None:
            return None
        return utc(int((at + self.utc_offset) * 1e6) * 1000)


def _is_about(event: Event, selection: Selection) -> bool:
    return (
        (not selection.numbers or not set(selection.numbers).isdisjoint(event.data["details"].values()))
        and (selection.key is None or event.key == selection.key)
        and (selection.before is None or event.at < selection.before)
    )
