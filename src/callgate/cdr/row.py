"""One call record as a row: what is kept of a call for good.

ONE table of columns: the database, the spill and the export are all made from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from callgate.proxy.telemetry.record import CallRecord

Row = dict[str, Any]
"""Column → value, as JSON has it: text, a number, true, false or null."""
Kind = Literal["text", "time", "integer", "number", "truth"]
"""`time`: RFC 3339, UTC, microseconds: `2026-01-31T12:00:00.000000Z`, so that later ones sort higher."""


class Column(NamedTuple):
    name: str
    kind: Kind
    needed: bool = False


COLUMNS: Final = (
    Column("id", "text", True),
    Column("call_id", "text", True),
    Column("key", "text", True),
    Column("trunk", "text"),
    Column("gateway", "text"),
    Column("direction", "text", True),
    Column("raw", "text"),
    Column("canonical", "text"),
    Column("caller_raw", "text"),
    Column("caller", "text"),
    Column("invite_at", "time", True),
    Column("sent_at", "time"),
    Column("ringing_at", "time"),
    Column("answer_at", "time"),
    Column("end_at", "time"),
    Column("final_code", "integer"),
    Column("ended_by", "text"),
    Column("verdict", "text"),
    Column("rule", "text"),
    Column("value", "number"),
    Column("limit", "number"),
    Column("class", "text"),
    Column("fault", "text"),
    Column("attempts", "integer"),
    Column("waited_seconds", "number"),
    Column("units", "integer"),
    Column("yen", "text"),  # a decimal
    Column("recorded", "truth"),
    Column("hold_seconds", "number"),
    Column("forwarded_of", "text"),
    Column("outcome", "text"),
    Column("reason", "text"),
    Column("shadow", "truth"),
)
"""In the order of the export. New ones go to the end, and take a migration (`schema`)."""
NAMES: Final = tuple(column.name for column in COLUMNS)
_TYPES: Final[dict[Kind, tuple[type, ...]]] = {
    "text": (str,),
    "time": (str,),
    "integer": (int,),
    "number": (int, float),
    "truth": (bool,),
}


def written(at: datetime) -> str:
    """A moment as a row has it. Raises OverflowError for one that UTC can't say."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z".rjust(27, "0")  # strftime does not fill up years


class _Stamp:
    """Seconds since 1970 as RFC 3339; what stands above a second is made once for each. For one thread."""

    __slots__ = ("_texts",)

    def __init__(self) -> None:
        self._texts: dict[int, str] = {}

    def __call__(self, at: float) -> str:
        second, micro = divmod(int(at * 1e6), 1_000_000)
        text = self._texts.get(second)
        if text is None:
            if len(self._texts) > 1000:
                self._texts.clear()
            text = self._texts[second] = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{text}{micro:06d}Z"


def rower() -> Callable[[CallRecord, float], Row]:
    """(record of a call that has ended, seconds from its monotonic times to UTC) → its row. For one thread."""
    stamp = _Stamp()

    def row_of(record: CallRecord, offset: float) -> Row:
        sent, ringing, answer, end = record.sent_at, record.ringing_at, record.answer_at, record.end_at
        value, limit = record.measured
        return {
            "id": f"{record.id:016x}",
            "call_id": clean(record.call_id),
            "key": record.key,
            "trunk": record.trunk or None,
            "gateway": record.gateway or None,
            "direction": record.direction,
            "raw": clean(record.raw),
            "canonical": clean(record.canonical),
            "caller_raw": clean(record.caller_raw),
            "caller": clean(record.caller),
            "invite_at": stamp(record.invite_at + offset),
            "sent_at": None if sent is None else stamp(sent + offset),
            "ringing_at": None if ringing is None else stamp(ringing + offset),
            "answer_at": None if answer is None else stamp(answer + offset),
            "end_at": None if end is None else stamp(end + offset),
            "final_code": record.final_code or None,
            "ended_by": record.ended_by or None,
            "verdict": record.verdict,
            "rule": record.rule or None,
            "value": value,
            "limit": limit,
            "class": record.number_class or None,
            "fault": fault_of(record),
            "attempts": record.attempts,
            "waited_seconds": round(record.waited, 6),
            "units": None,
            "yen": None,
            "recorded": record.recorded,
            "hold_seconds": round(record.hold_seconds, 6),
            "forwarded_of": f"{record.forwarded_of:016x}" if record.forwarded_of else None,
            "outcome": record.outcome or None,
            "reason": clean(record.reason) or None,
            "shadow": record.shadow,
        }

    return row_of


def fault_of(record: CallRecord) -> str | None:
    """Whose fault it is that a call did not come to be answered (T1); None where it was."""
    code = record.final_code
    if record.verdict == "refused":
        return "policy"
    if record.answer_at is not None or 200 <= code < 300:
        return None
    if code in (401, 407):
        return "challenge"
    if record.outcome == "cancelled" or record.ended_by == "caller":
        return "caller"
    beyond = "own" if record.direction == "inbound" else "carrier"  # who stands behind the gate on that side
    if code >= 500 and code not in (600, 603, 604, 607):
        return beyond if record.attempts else "own"
    if code == 408 and record.ringing_at is None:
        return beyond
    return "caller"


def clean(text: str) -> str:
    """Text that every database and every file takes: what others have written may hold what none does."""
    if text.isascii():
        return text.replace("\0", "\ufffd") if "\0" in text else text
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def checked(found: Any) -> Row:
    """A row that was read from a file: what is unknown is left out, what is missing is null. ValueError where it is
    no row."""
    if not isinstance(found, dict):
        raise ValueError("not a record")
    row: Row = {}
    for name, kind, needed in COLUMNS:
        value = found.get(name)
        if value is None:
            if needed:
                raise ValueError(f"without `{name}`")
        elif type(value) not in _TYPES[kind]:
            raise ValueError(f"`{name}` makes no sense")
        elif kind == "time":
            _check_time(name, value)
        elif kind == "text":
            value = clean(value)
        row[name] = value
    return row


def _check_time(name: str, text: str) -> None:
    if not is_time(text):
        raise ValueError(f"`{name}` is no time")


def is_time(text: str) -> bool:
    """Whether it is a time as a row has it."""
    if not _TIME.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
