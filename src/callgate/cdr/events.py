"""Events (Standard Webhooks): what of a call and of an alert is told to receivers, and to whom."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from callgate.cdr.row import Row, written
from callgate.proxy.commands import Alert

CDR, MISSED = "cdr", "call.missed"
SEVERITIES: Final = ("info", "warning", "critical")
RAISED, RESOLVED, TEST = "alert.raised", "alert.resolved", "alert.test"
MISSED_FIELDS: Final = (
    *("id", "call_id", "key", "trunk", "gateway", "direction", "caller_raw", "caller", "raw", "canonical"),
    *("invite_at", "ringing_at", "end_at", "final_code", "ended_by", "outcome"),
)
"""Of the record: who called, whom, and when (I13)."""
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), check_circular=False, default=str).encode


class Event(NamedTuple):
    """`id`: the same however often the event is made. `at`: when it happened, RFC 3339. `began`: when the call began,
    which is what `erase --before` goes by. `key` is empty where it is about the gate or a trunk. `to`: the only
    receiver of it, whatever that has asked for; empty: all who want such."""

    type: str
    id: str
    key: str
    at: str
    data: dict[str, Any]
    began: str = ""
    to: str = ""

    def around(self) -> tuple[str, str]:
        """What is sent, before and after `seq`, which counts the events of a key to one receiver."""
        data = f'{{"key":{_encode(self.key)},"seq":'
        head = f'{{"type":{_encode(self.type)},"timestamp":{_encode(self.at)},"data":{data}'
        whole = _encode({"key": self.key, "seq": 0} | self.data)  # these two stay the first
        return head, f"{whole[len(data) + 1 :]}}}"

    def body(self, seq: int) -> str:
        """What is sent."""
        head, tail = self.around()
        return f"{head}{seq}{tail}"


class Receiver(NamedTuple):
    """Somebody who is told. `name` stands in logs, metrics and the outbox: the URL may hold a secret. `ca`: file of the
    authorities that its certificate may come from, empty: those of the system. `least`: severity from which alerts are
    told. `apprise`: the URL is one of apprise's."""

    name: str
    url: str
    secret: str
    events: tuple[str, ...] = ("cdr", "call.missed", "alert")
    keys: tuple[str, ...] = ()
    allow_private: bool = False
    timeout: float = 5.0
    retry_max: float = 30.0
    give_up: float = 72 * 3600.0
    ca: str = ""
    least: str = "info"
    apprise: bool = False

    def wants(self, event: Event) -> bool:
        """An event without a key is nothing for who asked for some keys only."""
        if event.to:
            return event.to == self.name
        kind = "alert" if event.type.startswith("alert.") else event.type
        if kind == "alert" and event.type != TEST and self._is_less(event.data["severity"]):
            return False
        return kind in self.events and (not self.keys or event.key in self.keys)

    def _is_less(self, severity: str) -> bool:
        return severity in SEVERITIES and SEVERITIES.index(severity) < SEVERITIES.index(self.least)

    def __repr__(self) -> str:
        return f"Receiver({self.name})"


def name_of(url: str, apprise: bool = False) -> str:
    """Tells receivers apart and shows no secret: the host, and some of a digest of the whole. Of a URL of apprise's the
    scheme only: what stands for the host is often a token."""
    parts = urlsplit(url)
    shown = parts.scheme if apprise else parts.hostname
    return f"{shown or 'unknown'}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def events_of(row: Row, *, again: bool = False) -> Iterable[Event]:
    """What is told of a call that has ended. `again`: of one that was told when it was challenged, and that was sent
    again with credentials."""
    at, began = row["end_at"] or row["invite_at"], row["invite_at"]
    name = f"{row['id']}_{''.join(filter(str.isdigit, at))}" if again else row["id"]
    yield Event(CDR, f"cdr_{name}", row["key"], at, row, began)
    if is_missed(row):
        data = {name: row[name] for name in MISSED_FIELDS}
        yield Event(MISSED, f"missed_{name}", row["key"], at, data, began)


def is_missed(row: Row) -> bool:
    """I13: a call in that was passed on and never answered, whatever its end. Not one that the gate refused."""
    return (
        row["direction"] == "inbound"
        and row["verdict"] == "passed"
        and row["sent_at"] is not None
        and row["answer_at"] is None
    )


class Story:
    """Makes events of alerts: raised and resolved have the same `alert` and `since`. For one thread."""

    MAX: Final = 8192

    def __init__(self) -> None:
        self._up: dict[tuple[str, ...], tuple[str, str]] = {}

    def since(self, name: tuple[str, ...]) -> str | None:
        """When it was raised; None where it is not up."""
        return self._up[name][1] if name in self._up else None

    def is_up(self, ident: str) -> bool:
        """Whether the alert of that id (`data.alert`) is."""
        return any(ident == known for known, _ in self._up.values())

    def event_of(self, alert: Alert, advice: str, at: float) -> Event:
        """`at`: seconds since 1970."""
        stamp = stamp_of(at)
        name = alert.name
        if alert.resolved:
            ident, since = self._up.pop(name, (uuid.uuid4().hex, stamp))
        elif name in self._up:
            ident, since = self._up[name]
        else:
            ident, since = uuid.uuid4().hex, stamp
            if len(self._up) < self.MAX:
                self._up[name] = ident, since
        data = {
            "alert": ident,
            "rule": alert.rule,
            "severity": alert.severity,
            "trunk": alert.trunk or None,
            "text": alert.text,
            "value": alert.value,
            "limit": alert.limit,
            "since": since,
            "advice": alert.advice or advice,
            "details": dict(alert.details),
        }
        kind = RESOLVED if alert.resolved else RAISED
        return Event(kind, f"alert_{uuid.uuid4().hex}", alert.key, stamp, data)


def test_event(at: float, by: str, to: str = "") -> Event:
    """To see whether receivers, or one of them, get anything."""
    data = {"text": "a test: nothing has happened", "severity": "info", "rule": "test", "by": by}
    return Event(TEST, f"test_{uuid.uuid4().hex}", "", stamp_of(at), data, to=to)


def stamp_of(at: float) -> str:
    """Seconds since 1970 as RFC 3339, UTC, microseconds."""
    return written(datetime.fromtimestamp(at, UTC))
