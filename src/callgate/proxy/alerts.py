"""Alerts: raised once, resolved once, however often the cause comes back in between."""

from __future__ import annotations

from callgate.proxy.commands import Alert, Command
from callgate.proxy.counts import Counts
from callgate.proxy.wheel import NEVER

QUIET = 10.0
"""Seconds without its cause after which an alert is over."""
MAX = 4096
"""Alerts that can be up at once; more causes than that are counted, not told one by one."""


class Alerts:
    """`raised` for every cause; `due` when `expire` has something to resolve. Waits in the core's wheel."""

    def __init__(self, out: list[Command], counts: Counts) -> None:
        self._out = out
        self._counts = counts
        self._active: dict[
            tuple[str, str, str], tuple[float, Alert]
        ] = {}  # (rule, key, severity) → last cause
        self.due = NEVER
        self.slot = 0

    def raised(self, alert: Alert, now: float, *, each: bool = False) -> bool:
        """A cause at `now`. `each`: tell every one, not only the first (an emergency call is never one of many).
        True when the wheel must be told of `due`."""
        name = (alert.rule, alert.key, alert.severity)
        new = name not in self._active
        if new and len(self._active) >= MAX:
            return False
        self._active[name] = (now, alert)
        if new or each:
            self._counts.alert(alert, 1.0)
            self._out.append(alert)
        if self.due != NEVER:
            return False
        self.due = now + QUIET
        return True

    def expire(self, now: float) -> None:
        """Resolve what has been quiet for long enough."""
        over = [name for name, (last, _) in self._active.items() if now - last >= QUIET]
        for name in over:
            alert = self._active.pop(name)[1]
            self._counts.alert(alert, 0.0)
            self._out.append(
                Alert(
                    alert.rule, alert.severity, alert.key, alert.text, alert.value, alert.limit, resolved=True
                )
            )
        self.due = min((last + QUIET for last, _ in self._active.values()), default=NEVER)
