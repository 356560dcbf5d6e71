"""Rule V9: keys that may not call for now, because an operator or a rule has said so.

New calls of such a key, out and in, are refused with 403, also those that wait for their turn. Emergency calls and
the authorities' calls back pass; calls that are up go on, unless they are to be dropped, and so does what passes in
their dialogs. Until when is told in UTC, and goes by the wall clock, over restarts and whenever that steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from callgate.numbers import EMERGENCY
from callgate.proxy.answer import Refusal
from callgate.proxy.calls.context import Phase
from callgate.proxy.commands import Alert, Suspended
from callgate.proxy.sweep import Sweep
from callgate.proxy.token import INBOUND
from callgate.proxy.wheel import NEVER

if TYPE_CHECKING:
    from callgate.proxy.calls.call import Call
    from callgate.proxy.core import Core

RULE = "V9"
REASON_MAX = 200
"""Characters of a reason: it stands in a Warning."""


class Suspension(NamedTuple):
    """`since` and `until` are seconds since 1970, UTC; `until` None: until somebody resumes the key. `by`: who."""

    key: str
    reason: str
    since: float
    until: float | None
    by: str

    def over(self, utc: float) -> bool:
        return self.until is not None and utc >= self.until

    @property
    def words(self) -> str:
        """`suspended until 2026-04-01 09:00 UTC: unpaid`."""
        until = ""
        if self.until is not None:
            until = f" until {datetime.fromtimestamp(self.until, UTC):%Y-%m-%d %H:%M:%S} UTC"
        return f"suspended{until}" + (f": {self.reason}" if self.reason else "")


def spared(call: Call) -> bool:
    """Whether no suspension stops a call: it is an emergency call, or the authorities' call back."""
    return call.record.number_class in EMERGENCY or (call.direction == INBOUND and call.free)


class Suspensions:
    """All of a gate, by key; `all` may hold keys that the config does not know (any more). Waits in the wheel for the
    next one that is over."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.all: dict[str, Suspension] = {}
        self.due = NEVER
        self.slot = 0

    def of(self, key: str, now: float) -> Suspension | None:
        """The suspension of a key that holds at `now`."""
        found = self.all.get(key)
        return found if found is not None and not found.over(now + self._core.utc_offset) else None

    def refusal(self, call: Call, now: float) -> Refusal | None:
        """Why a new call does not pass; None where it may."""
        found = self.of(call.key.id, now)
        return None if found is None or spared(call) else refusal(found)

    # -- changes -------------------------------------------------------------------------------------------

    def restore(self, rows: Iterable[Suspension], now: float) -> None:
        """What was kept over a restart."""
        utc = now + self._core.utc_offset
        for row in rows:
            if not row.over(utc):
                self.all[row.key] = row
                self._tell(row)
        self._wait()

    def suspend(
        self,
        key: str,
        now: float,
        *,
        reason: str = "",
        until: float | None = None,
        by: str,
        drop: bool = False,
    ) -> Sweep:
        """Suspend a key, or say anew why and until when (UTC, which must be to come). `drop`: its calls end, with BYE
        to both sides. What is returned ends the calls concerned, some at a time; it is at work already."""
        utc = now + self._core.utc_offset
        before = self.all.get(key)
        row = Suspension(key, reason, before.since if before is not None else utc, until, by)
        if before is not None:
            self._silence(before)
        self.all[key] = row
        self._tell(row)
        self._keep(key, before, row, by)
        self._wait()
        end = self._drop if drop else self._turn_away
        return Sweep(self._core, self._core.live(), lambda call, at: end(call, row, at), now)

    def resume(self, key: str, by: str) -> Suspension | None:
        """Let a key call again. What its suspension was, None where it had none."""
        found = self.all.pop(key, None)
        if found is not None:
            self._silence(found)
            self._keep(key, found, None, by)
            self._wait()
        return found

    def _turn_away(self, call: Call, row: Suspension, now: float) -> bool:
        """A call that waits for its turn."""
        if call.phase is not Phase.ASKING or not self._concerns(row, call, now):
            return False
        call.refuse(refusal(row), now)
        return True

    def _drop(self, call: Call, row: Suspension, now: float) -> bool:
        """End a call, however far it has come."""
        if not self._concerns(row, call, now):
            return False
        if call.phase < Phase.UP:
            if call.server is None or call.cancelled:
                return False  # it is ending already
            call.refuse(refusal(row), now)
            return True
        return self._core.end_call(call, RULE, row.words, now)

    def _concerns(self, row: Suspension, call: Call, now: float) -> bool:
        return call.key.id == row.key and not spared(call) and self.of(row.key, now) is not None

    # -- what is told --------------------------------------------------------------------------------------

    def adopt(self) -> None:
        """The keys of the config have changed."""
        for row in self.all.values():
            if row.key in self._core.directory.keys:
                self._tell(row)
            else:
                self._silence(row)

    def _tell(self, row: Suspension) -> None:
        if row.key in self._core.directory.keys:
            self._core.alerts.stands(_alert(row))
            self._core.counts.suspended(row.key, True)

    def _silence(self, row: Suspension) -> None:
        self._core.alerts.over(_alert(row))
        if row.key in self._core.directory.keys:
            self._core.counts.suspended(row.key, False)

    def _keep(self, key: str, before: Suspension | None, after: Suspension | None, by: str) -> None:
        self._core.out.append(Suspended(tuple(self.all.values()), key, before, after, by))

    # -- time ----------------------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """Suspensions whose time is up."""
        utc = now + self._core.utc_offset
        over = [row for row in self.all.values() if row.over(utc)]
        for row in over:
            del self.all[row.key]
            self._silence(row)
            self._keep(row.key, row, None, "its time was up")
        self._wait()

    def clock(self) -> None:
        """The wall clock has stepped."""
        self._wait()

    def _wait(self) -> None:
        ends = [row.until for row in self.all.values() if row.until is not None]
        self.due = min(ends) - self._core.utc_offset if ends else NEVER
        self._core.wheel.add(self)


def refusal(row: Suspension) -> Refusal:
    """What a new call of a suspended key gets, in and out."""
    return Refusal(RULE, row.words, 403)


def _alert(row: Suspension) -> Alert:
    return Alert(RULE, "warning", row.key, f"key {row.key} is {row.words} (by {row.by})")
