"""The Date header (RFC 3261 §20.17)."""

from __future__ import annotations

from datetime import UTC, datetime

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def sip_date(utc: float) -> bytes:
    """Seconds since 1970 (UTC) as `Sat, 13 Nov 2010 23:29:00 GMT`, whatever the machine's language."""
    at = datetime.fromtimestamp(int(utc), UTC)
    day, month = _DAYS[at.weekday()], _MONTHS[at.month - 1]
    return f"{day}, {at.day:02} {month} {at.year:04} {at:%H:%M:%S} GMT".encode("ascii")
