"""Further limits: whatever a contract limits beside the fixed names, said as data (`limits: more:`).

A rule counts calls within a window, calls up at once, or different numbers within a window; for a key, over all keys
of its trunk, or for each DID, caller or class of numbers by itself. The store knows them as the same windows and sets
as all other limits. What one counts for whom is fixed when the config is read (`bound`); where that depends on the
call, its part is made for the call (`Counted.part`).

A window rolls: at most N within any so many seconds. One with a `calendar` begins anew at midnight, or with the month.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2s
from typing import Literal

from callgate.policy.claim import Distinct, Members, Part, Window

Per = Literal["key", "trunk", "did", "caller", "class"]
Direction = Literal["outbound", "inbound", "both"]
STEP = 86_400.0
"""Seconds by which the wall clock may be set back, and what was counted of a day or month is still known."""
LONGEST = 64
"""Characters of a caller's number that are kept as they are: it can be anything that a PBX writes."""


@dataclass(slots=True, frozen=True)
class More:
    """One rule. Exactly one of `calls`, `at_once` and `numbers` is set; a window has `window_seconds` or `calendar`.

    `of`: only calls to these classes of numbers. `utc_offset_hours`: whose midnight a calendar means.
    """

    rule: str
    per: Per = "key"
    direction: Direction = "outbound"
    of: tuple[str, ...] = ()
    calls: int | None = None
    at_once: int | None = None
    numbers: int | None = None
    window_seconds: float | None = None
    calendar: Literal["day", "month"] | None = None
    utc_offset_hours: float = 9.0

    @property
    def limit(self) -> int:
        return next((n for n in (self.calls, self.at_once, self.numbers) if n is not None), 0)

    @property
    def kind(self) -> str:
        return "at_once" if self.at_once is not None else "calls" if self.calls is not None else "numbers"

    @property
    def subject(self) -> tuple[object, ...]:
        """What it limits, without how much."""
        return self.rule, self.per, self.direction, self.of, self.kind, self.window_seconds, self.calendar

    @property
    def what(self) -> str:
        """What it counts, in words."""
        of = f" to {', '.join(self.of)}" if self.of else ""
        way = {"outbound": "outbound", "inbound": "inbound", "both": ""}[self.direction]
        per = {"key": "", "trunk": " over all keys of the trunk"}.get(self.per, f" per {self.per}")
        things = "different numbers" if self.kind == "numbers" else f"{way} calls".strip()
        if self.at_once is not None:
            return f"{things}{of} at once{per}"
        when = f"a calendar {self.calendar}" if self.calendar else f"any {self.window_seconds:g} s"
        return f"{things}{of} in {when}{per}"


class Counted:
    """A rule and whom it is counted for: `owner` is `acme` or `trunk/carrier`."""

    __slots__ = ("_part", "more", "name")

    def __init__(self, more: More, owner: str) -> None:
        self.more = more
        measure = more.calendar or (f"{more.window_seconds:g}" if more.window_seconds else "")
        of = "+".join(more.of)
        way = "" if more.direction == "outbound" else f"/{more.direction}"
        self.name = f"{owner}/more/{more.rule}/{more.per}/{more.kind}{measure}{way}" + (
            f"/{of}" if of else ""
        )
        plain = more.per in ("key", "trunk") and not more.of and not more.calendar and more.kind != "numbers"
        self._part = self._make(self.name, more.window_seconds or 1.0, passing=False) if plain else None

    @property
    def fixed(self) -> Part | None:
        """Its part where that is the same for every call."""
        return self._part

    def names(self, utc: float) -> tuple[str, str, float]:
        """(beginning, end) of the names of all its windows at a moment, and their seconds."""
        more = self.more
        last, period = "", more.window_seconds or 1.0
        if more.calendar is not None:
            last, period = _calendar(more.calendar, utc, more.utc_offset_hours)
            last, period = f"/{last}", period + STEP
        return self.name + ("/" if more.per in _MEMBER else last), last, period

    def part(self, caller: str, number: str, number_class: str, utc: float) -> Part | None:
        """What a call claims of it, None for nothing. `number`: dialled, or the DID of a call in, canonical."""
        more = self.more
        if more.of and number_class not in more.of:
            return None
        name, period, passing = self.name, more.window_seconds or 1.0, False
        if more.per in _MEMBER:
            member = (caller, number, number_class)[_MEMBER[more.per]]
            if len(member) > LONGEST:
                member = blake2s(member.encode("utf-8", "replace")).hexdigest()
            name, passing = f"{name}/{member}", True
        if more.calendar is not None:
            begun, period = _calendar(more.calendar, utc, more.utc_offset_hours)
            period += STEP  # the day has a name of its own: its tokens disturb no other
            name, passing = f"{name}/{begun}", True
        if more.kind == "numbers":
            member = caller if more.direction == "inbound" else number
            return Distinct(more.rule, name, more.limit, period, member[:LONGEST].encode("utf-8", "replace"))
        return self._make(name, period, passing=passing)

    def _make(self, name: str, period: float, *, passing: bool) -> Part:
        if self.more.at_once is not None:
            return Members(self.more.rule, name, self.more.at_once)
        return Window(self.more.rule, name, self.more.calls, period, passing)


_MEMBER = {"caller": 0, "did": 1, "class": 2}


def _calendar(unit: Literal["day", "month"], utc: float, offset_hours: float) -> tuple[str, float]:
    """(name of the day or month that it is, seconds until it is over). `utc`: seconds since 1970."""
    here = datetime.fromtimestamp(utc, UTC) + timedelta(hours=offset_hours)
    midnight = here.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "day":
        end, name = midnight + timedelta(days=1), f"{here:%Y-%m-%d}"
    else:
        end, name = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1), f"{here:%Y-%m}"
    return name, (end - here).total_seconds()


def bound(rules: tuple[More, ...], key_id: str, trunk: str) -> tuple[Counted, ...]:
    """The rules of a key or of its trunk, as they are counted for the key. Those of a trunk say `per: trunk` where
    they go over all its keys; a rule per DID, caller or class is counted within the key."""
    return tuple([Counted(more, f"trunk/{trunk}" if more.per == "trunk" else key_id) for more in rules])


def merged(base: tuple[More, ...], over: tuple[More, ...]) -> tuple[More, ...]:
    """Two lists of rules; one of `over` takes the place of one with the same id and subject in `base`."""
    named = {(one.rule, one.per, one.direction, one.of, one.kind) for one in over}
    kept = [x for x in base if (x.rule, x.per, x.direction, x.of, x.kind) not in named]
    return (*kept, *over)
