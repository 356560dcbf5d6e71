"""Rule K8: how long the lines of a call are on hold, seen from its session descriptions (RFC 3264 §8.4, RFC 2543).

A side that answers `sendonly` or `inactive`, or sends sound nowhere (0.0.0.0), has put the other one on hold until it
says otherwise. Nothing is kept of a call that is not on hold, but the seconds that it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from callgate.proxy.commands import Alert
from callgate.sip.sdp import has_sdp, read
from callgate.sip.transaction import NEVER

if TYPE_CHECKING:
    from callgate.proxy.calls.call import Call
    from callgate.proxy.calls.context import Context
    from callgate.proxy.core import Core

RULE: Final = "K8"


class Holds:
    """All calls that are on hold, and those of them that are for too long, by key."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._on_hold: dict[int, Hold] = {}
        self._too_long: dict[str, set[int]] = {}

    def __len__(self) -> int:
        return len(self._on_hold)

    def heard(self, call: Call, from_caller: bool, body: bytes, now: float) -> None:
        """A side of a call that is up has described its session anew."""
        if call.is_session or not has_sdp(body):
            return  # a session with a recorder only sends (RFC 7866 §7.1)
        hold = self._on_hold.get(call.leg)
        holds = read(body).holds
        if hold is None:
            if not holds:
                return
            hold = self._on_hold[call.leg] = Hold(call, now)
            self._core.wheel.add(hold)
        before = set(hold.by)
        hold.by.discard(from_caller)
        if holds:
            hold.by.add(from_caller)
        elif not hold.by:
            self.over(call, now)
        if hold.by != before:
            call.keep(now)

    def row(self, call: Context) -> tuple[float, tuple[bool, ...]] | None:
        """Since when a call is on hold and by whom, for its journal; None where it is not."""
        hold = self._on_hold.get(call.leg)
        return (hold.since, tuple(hold.by)) if hold is not None else None

    def recall(self, call: Call, since: float, by: tuple[bool, ...]) -> None:
        """It was on hold before a restart, and is."""
        hold = self._on_hold[call.leg] = Hold(call, since)
        hold.by = set(by)
        self._core.wheel.add(hold)

    def over(self, call: Call, now: float) -> None:
        """It is on hold no more, or has ended."""
        hold = self._on_hold.pop(call.leg, None)
        if hold is None:
            return
        call.record.hold_seconds += now - hold.since
        hold.call = None
        hold.due = NEVER
        calls = self._too_long.get(call.key.id)
        if calls is not None and call.leg in calls:
            calls.remove(call.leg)
            if not calls:
                del self._too_long[call.key.id]
                self._core.alerts.over(self._alert(call, now - hold.since))

    def too_long(self, call: Call, since: float, now: float) -> None:
        """It has been on hold for as long as the contract likes."""
        self._too_long.setdefault(call.key.id, set()).add(call.leg)
        self._core.alerts.stands(self._alert(call, now - since))

    def release(self, call: Call, now: float) -> None:
        """It has been on hold for longer than may be: both sides get a BYE."""
        call.record.rule = RULE
        call.record.reason = f"on hold for {call.key.hold_release_seconds:g} s"
        self._core.hang_up(call, now)

    def _alert(self, call: Call, seconds: float) -> Alert:
        text = "a call is left on hold, which the contract does not like"
        limit = call.key.hold_alert_seconds
        return Alert(RULE, "warning", call.key.id, text, round(seconds), round(limit) if limit else None)


class Hold:
    """A call that is on hold: `by` whom (True: the caller), `since` when. Waits in the core's wheel."""

    __slots__ = ("by", "call", "due", "since", "slot", "told")

    def __init__(self, call: Call, now: float) -> None:
        self.call: Call | None = call
        self.by: set[bool] = set()
        self.since = now
        self.told = False
        self.slot = 0
        self.due = self._next(call)

    def _next(self, call: Call) -> float:
        alert, release = call.key.hold_alert_seconds, call.key.hold_release_seconds
        times = [] if alert is None or self.told else [self.since + alert]
        if release is not None:
            times.append(self.since + release)
        return min(times, default=NEVER)

    def expire(self, now: float) -> None:
        call = self.call
        if call is None:
            self.due = NEVER
            return
        holds, release = call.core.holds, call.key.hold_release_seconds
        if release is not None and now >= self.since + release:
            self.due = NEVER
            holds.release(call, now)
            return
        self.told = True
        holds.too_long(call, self.since, now)
        self.due = self._next(call)
        if self.due != NEVER:
            call.core.wheel.add(self)
