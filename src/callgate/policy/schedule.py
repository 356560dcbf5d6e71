"""When a step of a number's route is open: by weekday and hour, on the wall clock of a time zone."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
A_DAY: Final = 24 * 60


class Schedule:
    """`opens` and `closes` are minutes since midnight, `closes` not included; where it is not above `opens` the hours
    go over midnight and belong to the day on which they begin. `days` are places in `DAYS`."""

    __slots__ = ("_closes", "_days", "_opens", "_zone")

    def __init__(self, opens: int, closes: int, days: frozenset[int], zone: ZoneInfo) -> None:
        self._opens = opens
        self._closes = closes
        self._days = days
        self._zone = zone

    def open_at(self, utc: float) -> bool:
        """At this time (seconds since the epoch)?"""
        here = datetime.fromtimestamp(utc, self._zone)
        minute, today = here.hour * 60 + here.minute, here.weekday()
        if self._opens < self._closes:
            return today in self._days and self._opens <= minute < self._closes
        if minute >= self._opens:
            return today in self._days
        return minute < self._closes and (today - 1) % 7 in self._days
