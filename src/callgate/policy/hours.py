"""Rule T15: the called party's rest. When may a number be called, by the clock on its own wall?

A number of Japan has Asia/Tokyo, which knows no summer time. Of a number abroad the zones come from phonenumbers; where
they are several (a mobile phone, a toll-free number) it is quiet as soon as it is quiet in one of them. Where none is
known (a satellite phone) nobody can say, and nothing is quiet.

The time is passed in as UTC seconds: this is judged by the wall clock, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from callgate.policy.numberset import NumberSet

RULE = "T15"
JAPAN = (timezone(timedelta(hours=9), "Asia/Tokyo"),)
_REMEMBERED = 4096
"""Numbers abroad and dates that are kept, not found out anew."""


class Holidays:
    """The public holidays of Japan (jpholiday), each date looked up once."""

    def __init__(self) -> None:
        import jpholiday  # only who asks for holidays pays for it

        self._look_up: Callable[[date], bool] = jpholiday.is_holiday
        self._known: dict[date, bool] = {}

    def __contains__(self, day: date) -> bool:
        known = self._known.get(day)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[day] = self._look_up(day)
        return known


class Zones:
    """The time zones that a number may be in."""

    def __init__(self) -> None:
        import phonenumbers.timezone  # takes a fraction of a second: not at the first call abroad

        self._phonenumbers = phonenumbers
        self._known: dict[str, tuple[ZoneInfo, ...]] = {}

    def of(self, canonical: str) -> tuple[ZoneInfo, ...]:
        """Those of an E.164 number; empty where none is known."""
        known = self._known.get(canonical)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[canonical] = self._look_up(canonical)
        return known

    def _look_up(self, canonical: str) -> tuple[ZoneInfo, ...]:
        library = self._phonenumbers
        try:
            names = library.timezone.time_zones_for_number(library.parse(canonical))
        except library.NumberParseException:
            return ()
        return tuple([ZoneInfo(name) for name in names if name != "Etc/Unknown"])


class QuietHours:
    """`begins` and `ends` are minutes after midnight, the end not included; over midnight where `ends` comes first.

    On `quiet_dates`, and with `holidays` on those of Japan for numbers in Japan, the whole day is quiet. On
    `free_dates`, and for `free_numbers`, nothing ever is. Dates are those of the called party.
    """

    __slots__ = (
        "_dates",
        "_free_dates",
        "_free_numbers",
        "_holidays",
        "_quiet_dates",
        "_zones",
        "begins",
        "ends",
    )

    def __init__(
        self,
        begins: int = 21 * 60,
        ends: int = 8 * 60,
        *,
        holidays: bool = False,
        quiet_dates: frozenset[date] = frozenset(),
        free_dates: frozenset[date] = frozenset(),
        free_numbers: NumberSet | None = None,
    ) -> None:
        self.begins = begins
        self.ends = ends
        self._holidays = Holidays() if holidays else None
        self._quiet_dates = quiet_dates
        self._free_dates = free_dates
        self._dates = bool(quiet_dates or free_dates)
        self._free_numbers = free_numbers or NumberSet()
        self._zones = Zones()

    def judge(self, canonical: str, utc: float) -> str:
        """Why this number is not to be called now, in words; empty where it may be. What has no E.164 form belongs to
        nobody who rests. `utc`: seconds since 1970."""
        if canonical[:1] != "+" or canonical in self._free_numbers:
            return ""
        japan = canonical.startswith("+81")
        for zone in JAPAN if japan else self._zones.of(canonical):
            local = datetime.fromtimestamp(utc, zone)
            why = self._quiet(local, self._holidays if japan else None)
            if why:
                return f"it is {local:%H:%M} in {zone}, {why}"
        return ""

    def _quiet(self, local: datetime, holidays: Holidays | None) -> str:
        if self._dates or holidays is not None:
            day = local.date()
            if day in self._free_dates:
                return ""
            if day in self._quiet_dates:
                return f"{day} is a day of rest"
            if holidays is not None and day in holidays:
                return f"{day} is a public holiday"
        minute = local.hour * 60 + local.minute
        if self.begins < self.ends:
            quiet = self.begins <= minute < self.ends
        else:
            quiet = minute >= self.begins or minute < self.ends
        return f"quiet hours are {self}" if quiet else ""

    def __str__(self) -> str:
        return f"{self.begins // 60:02}:{self.begins % 60:02}-{self.ends // 60:02}:{self.ends % 60:02}"
