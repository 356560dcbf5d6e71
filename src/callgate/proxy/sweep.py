"""One thing done to many calls, some at a time, so that whatever else there is to do is not held up by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from callgate.proxy.calls.context import Phase
from callgate.proxy.wheel import GRAIN, NEVER

if TYPE_CHECKING:
    from callgate.proxy.calls.call import Call
    from callgate.proxy.core import Core

LOOKED_AT, DONE = 500, 40
"""Calls that are looked at in one go at most, and that something is done to. 40 in 20 ms are 2,000 a second."""


class Sweep:
    """`do(call, now)` tells whether there was anything to do. The first go is at once. Waits in the core's wheel.

    `at_work` until it has been at every call, `done` is how many it has done something to.
    """

    def __init__(
        self, core: Core, calls: Iterator[Call], do: Callable[[Call, float], bool], now: float
    ) -> None:
        self._core = core
        self._left = calls
        self._do = do
        self.done = 0
        self.at_work = True
        self.due = NEVER
        self.slot = 0
        self.expire(now)

    def expire(self, now: float) -> None:
        """The next go."""
        most = self.done + DONE
        for n, call in enumerate(self._left, 1):
            if call.phase is not Phase.OVER and self._do(call, now):
                self.done += 1
            if self.done >= most or n >= LOOKED_AT:
                self.due = now + GRAIN
                self._core.wheel.add(self)
                return
        self.at_work = False
        self.due = NEVER
