"""Alerts before a limit refuses anything: at 80 % of it, and when it is reached. From the gauges' readings, so that no
call pays for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from callgate.proxy.commands import Alert
from callgate.proxy.telemetry.alerts import NAMING

NEAR: Final = 0.8
CALM: Final = 0.75
"""Below this for 10 s (`alerts.QUIET`) it is over."""
LEAST: Final = 2
"""A limit of one call is always reached by a call: no news."""
assert {"kind", "of"} <= NAMING


class Watermarks:
    """`raised(alert, now)` is told of each reading that gives cause."""

    def __init__(self, raised: Callable[[Alert, float], None]) -> None:
        self._raised = raised
        self._near: set[tuple[str, str]] = set()
        self._full: set[tuple[str, str]] = set()

    def read(self, key: str, name: str, rule: str, used: float, limit: float, now: float) -> None:
        """So much of a limit is in use."""
        if limit < LEAST:
            return
        place = key, name
        for marks, kind, begin, words in (
            (self._near, "near_limit", NEAR, f"80 % of {name} is in use"),
            (self._full, "at_limit", 1.0, f"{name} is at its limit: the next call is refused or waits"),
        ):
            if used >= begin * limit or (place in marks and used >= CALM * limit):
                marks.add(place)
                details = {"kind": kind, "of": name}
                self._raised(Alert(rule, "warning", key, words, used, limit, details=details), now)
            else:
                marks.discard(place)

    def drop(self, key: str) -> None:
        """The key is gone."""
        for marks in (self._near, self._full):
            marks -= {place for place in marks if place[0] == key}
