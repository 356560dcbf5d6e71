"""A circuit breaker: calls that fail in a row shut the way for a while, then one at a time tries it.

Each address of a gateway has one for everybody and, where several keys share the trunk, one for each key whose calls
fail there (`proxy.trunk.health`).
"""

from __future__ import annotations

OPEN_SECONDS, OPEN_MAX = 5.0, 60.0
"""How long no call goes to an address that has failed; doubled with each trial that fails, up to the second."""


class Breaker:
    """Times are monotonic seconds. `failures` in a row; `open`: they were too many, and no success has come since.
    `rest_until`: a pause that was asked for. `proved`: OPTIONS were answered since it was opened."""

    __slots__ = ("_period", "_trial", "failures", "open", "open_until", "proved", "rest_until")

    def __init__(self) -> None:
        self.failures = 0
        self.open = False
        self.open_until = 0.0
        self.proved = False
        self.rest_until = 0.0
        self._period = 0.0
        self._trial = False

    @property
    def spotless(self) -> bool:
        return not (self.failures or self.open or self.rest_until)

    def shut(self, now: float) -> bool:
        """Whether no call goes at `now`."""
        if self.rest_until:
            if now < self.rest_until:
                return True
            self.rest_until = 0.0
        return self.open and now < self.open_until

    def tried(self, now: float) -> None:
        """A call goes. If it is the trial after failures, no other goes until it has ended, or time passed."""
        if self.open and now >= self.open_until:
            self._trial = True
            self.open_until = now + self._period

    def well(self) -> None:
        """A call was answered."""
        self.failures = 0
        self._period = 0.0
        self.open = False

    def failed(self, now: float, most: int, *, over: bool = False) -> bool:
        """A call has failed; True where that shuts the way: the `most`th in a row, or a trial. What was on its way
        before does not count again. `over`: the pause is over, and this is a trial though nobody said so."""
        self.failures += 1
        if self.failures < most or (self.open and not self._trial and not over):
            return False
        self.trip(now)
        return True

    def trip(self, now: float) -> None:
        """Shut the way, for twice as long as the last time."""
        self.open = True
        self._period = min(2 * self._period, OPEN_MAX) or OPEN_SECONDS
        self._trial = self.proved = False
        self.open_until = now + self._period

    def rest(self, until: float, now: float) -> None:
        if until > max(now, self.rest_until):
            self.rest_until = until

    def proven(self, now: float, most: int, *, enough: bool) -> None:
        """OPTIONS were answered; `enough` of them, and it is opened again when its time has come."""
        self.proved = True
        if self.open and now >= self.open_until and enough:
            self.open = False
            self.failures = most - 1  # one call decides
