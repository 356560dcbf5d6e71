"""All SIP timers in one wheel: no timer object per message, O(1) to start one.

Whatever waits has a `due` (monotonic seconds). Starting a timer appends the waiter to the list of a slot; when
the slot's time comes the waiter is asked, and one whose `due` has moved on is put where it belongs now. Nothing
is ever searched or removed. Slots are `GRAIN` wide, so a timer runs up to that much late, never early.
Pacing needs exact times: `at` keeps those in a heap.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol

GRAIN = 0.02
"""Seconds per slot."""
HOP = 60.0
"""The furthest slot ahead, seconds: what waits longer is looked at in between, so that a call that has ended
does not stay in memory until its longest duration would have passed."""
NEVER = float("inf")


class Waiter(Protocol):
    due: float
    """When it wants to be called; NEVER when it does not."""

    slot: int
    """Where it waits: kept by the wheel, 0 when it waits nowhere."""

    def expire(self, now: float) -> None:
        """`due` has come. Sets the next `due`."""
        ...


class Wheel:
    def __init__(self, now: float = 0.0, errors: list[Exception] | None = None) -> None:
        self._errors = errors if errors is not None else []
        self._slots: dict[int, list[Waiter]] = {}
        self._times: list[int] = []
        self._exact: list[tuple[float, int, Callable[[float], None]]] = []
        self._serial = 0
        self._horizon = now + HOP  # of the last run

    def __len__(self) -> int:
        return sum(map(len, self._slots.values())) + len(self._exact)

    def add(self, waiter: Waiter) -> None:
        """Call `waiter.expire` when its `due` comes. Call again whenever `due` has become EARLIER; a later one
        needs nothing."""
        due = waiter.due
        if due == NEVER:
            return
        if due > self._horizon:
            due = self._horizon
        slot = int(due / GRAIN) + 1
        if waiter.slot and waiter.slot <= slot:
            return  # it will be asked before that anyway
        waiter.slot = slot
        waiting = self._slots.get(slot)
        if waiting is None:
            self._slots[slot] = [waiter]
            heappush(self._times, slot)
        else:
            waiting.append(waiter)

    def at(self, when: float, call: Callable[[float], None]) -> None:
        """Call once at exactly `when`."""
        self._serial += 1
        heappush(self._exact, (when, self._serial, call))

    @property
    def next_deadline(self) -> float:
        """When `run` has something to do; NEVER if nothing waits."""
        due = self._times[0] * GRAIN if self._times else NEVER
        if self._exact and self._exact[0][0] < due:
            return self._exact[0][0]
        return due

    def run(self, now: float) -> None:
        """Call whatever is due."""
        self._horizon = now + HOP
        exact = self._exact
        while exact and exact[0][0] <= now:
            try:
                heappop(exact)[2](now)
            except Exception as error:  # a bug with one waiter must not stop the others' timers
                self._errors.append(error)
        times = self._times
        while times and times[0] * GRAIN <= now:
            slot = heappop(times)
            for waiter in self._slots.pop(slot):
                if waiter.slot != slot:
                    continue  # it was moved to an earlier slot
                waiter.slot = 0
                if waiter.due <= now:
                    try:
                        waiter.expire(now)
                    except Exception as error:
                        self._errors.append(error)
                        waiter.due = NEVER
                self.add(waiter)  # it may have put itself somewhere already: then this is nothing
