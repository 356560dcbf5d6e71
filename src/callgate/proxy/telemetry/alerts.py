"""Alerts: raised once, resolved once, however often the cause comes back in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from callgate.proxy.commands import Alert, Command
from callgate.proxy.telemetry.counts import Counts
from callgate.proxy.wheel import NEVER

QUIET = 10.0
"""Seconds without its cause after which an alert is over."""
NAMING = frozenset(("gateway", "kind", "of"))
"""Details that are a part of an alert's name."""
MAX = 4096
"""Alerts that can be up at once; more causes than that are counted, not told one by one."""


class Alerts:
    """`raised` for every cause; `due` when `expire` has something to resolve. Waits in the core's wheel."""

    def __init__(self, out: list[Command], counts: Counts) -> None:
        self._out = out
        self._counts = counts
        self._active: dict[
            tuple[str, ...], tuple[float, Alert]
        ] = {}  # `Alert.name` → last cause, NEVER for one that stands
        self.due = NEVER
        self.slot = 0

    def raised(self, alert: Alert, now: float, *, each: bool = False) -> bool:
        """A cause at `now`. `each`: tell every one, not only the first (an emergency call is never one of many).
        True when the wheel must be told of `due`."""
        if not self._up(alert, now, each):
            return False
        if self.due != NEVER:
            return False
        self.due = now + QUIET
        return True

    def stands(self, alert: Alert, *, each: bool = False) -> None:
        """A cause that lasts until `over`. `each`: tell every one, not only the first."""
        self._up(alert, NEVER, each)

    def over(self, alert: Alert) -> None:
        """The cause of one that stood is gone; nothing where it did not stand."""
        known = self._active.pop(alert.name, None)
        if known is not None:
            self._resolved(known[1])

    def _up(self, alert: Alert, last: float, each: bool) -> bool:
        name = alert.name
        new = name not in self._active
        if new and len(self._active) >= MAX:
            return False
        self._active[name] = (last, alert)
        if new or each:
            self._counts.alert(alert, 1.0, 1.0 if new else 0.0)
            self._out.append(alert)
        return True

    def _resolved(self, alert: Alert) -> None:
        self._counts.alert(alert, 0.0, -1.0)
        over = Alert(
            alert.rule,
            alert.severity,
            alert.key,
            alert.text,
            alert.value,
            alert.limit,
            trunk=alert.trunk,
            advice=alert.advice,
        )
        over.details = {name: alert.details[name] for name in alert.details.keys() & NAMING}
        over.resolved = True
        self._out.append(over)

    def forget(self, gone: Callable[[Alert], bool]) -> None:
        """What these were about is there no more."""
        for name in [name for name, (_, alert) in self._active.items() if gone(alert)]:
            self._resolved(self._active.pop(name)[1])

    def active(self) -> Iterator[Alert]:
        """Those that are up now."""
        return iter([alert for _, alert in self._active.values()])

    def expire(self, now: float) -> None:
        """Resolve what has been quiet for long enough."""
        # The same sum as `due`: a difference may round the other way, and the wheel would ask for ever.
        over = [name for name, (last, _) in self._active.items() if last + QUIET <= now]
        for name in over:
            self._resolved(self._active.pop(name)[1])
        self.due = min((last + QUIET for last, _ in self._active.values()), default=NEVER)
