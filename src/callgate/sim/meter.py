"""What a carrier counts: calls in every window of one second, and what it thinks of them.

Times are whole nanoseconds, so that "one second" means exactly that.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

SECOND = 1_000_000_000
"""Nanoseconds."""
MARGIN = 30_000_000
"""Nanoseconds that the yardstick for "allowed" grants on top of the window."""


class Meter:
    """Counts arrivals in every window [t, t + window) there is, not in fixed ones (rule V1).

    Arrivals may come out of order: the kernel stamps a datagram before it queues it, on whichever core.
    """

    def __init__(self, window: int = SECOND) -> None:
        self.window = window
        self.arrivals: list[int] = []
        self.worst = 0
        """The largest number that any window held."""

    def add(self, at: int) -> int:
        """Note an arrival (nanoseconds); the largest number in any window that holds it."""
        arrivals = self.arrivals
        insort(arrivals, at)
        first = bisect_right(arrivals, at - self.window)
        last = bisect_left(arrivals, at)
        # A fullest window can be moved right until it begins with an arrival: only those are looked at.
        most = max(
            bisect_left(arrivals, arrivals[start] + self.window) - start for start in range(first, last + 1)
        )
        self.worst = max(self.worst, most)
        return most

    def within(self, now: int) -> int:
        """Arrivals in the window that ends at `now`."""
        return bisect_right(self.arrivals, now) - bisect_right(self.arrivals, now - self.window)

    def history(self, began: int, now: int, step: int) -> list[int]:
        """For every `step` since `began` the most that a window held which ended in it."""
        fullest = [self.within(start) for start in range(began, now, step)]
        for at in self.arrivals:
            slot = (at - began) // step
            if 0 <= slot < len(fullest):
                fullest[slot] = max(fullest[slot], self.within(at))
        return fullest


def exact_window(times: Iterable[int], limit: int, window: int = SECOND + MARGIN) -> int:
    """How many of these offers an exact window of `limit` passes when it refuses the rest.

    `times` in order, nanoseconds. The yardstick of the share: a gate can't be expected to pass more.
    """
    held: deque[int] = deque()
    passed = 0
    for at in times:
        while held and at - held[0] >= window:
            held.popleft()
        if len(held) < limit:
            held.append(at)
            passed += 1
    return passed


@dataclass(frozen=True, slots=True)
class Contract:
    """What the carrier sold: the limits it holds the account to."""

    calls_per_second: int = 3
    inbound_calls: int = 100


@dataclass(frozen=True, slots=True)
class Breach:
    """One broken rule: `value` was seen where `limit` was sold; `at` is seconds since the first call."""

    rule: str
    value: int
    limit: int
    at: float
    detail: str = ""

    def __str__(self) -> str:
        against = f" {self.value}/{self.limit}" if self.limit else ""
        return f"{self.rule}{against}, {self.detail}"


@dataclass(slots=True)
class Opinion:
    """What the carrier thinks of the account. The first breach suspends it, for good."""

    contract: Contract = field(default_factory=Contract)
    breaches: list[Breach] = field(default_factory=list)
    """The first `KEPT` of them; `count` has them all."""
    count: int = 0
    began: int = 0
    meter: Meter = field(default_factory=Meter)

    KEPT = 1000

    @property
    def suspended(self) -> bool:
        return self.count > 0

    def saw_call(self, at: int, number: str, rule: str) -> None:
        """A call never seen before has arrived; `rule` is the one its number breaks, empty for none."""
        most = self.meter.add(at)
        limit = self.contract.calls_per_second
        if rule:
            self._note(Breach(rule, 1, 0, self._since(at), f"a call to {number}"))
        if most > limit:
            self._note(Breach("V1", most, limit, self._since(at), "calls within one second"))

    def saw_inbound(self, at: int, up: int) -> None:
        """An inbound call has been taken: `up` are ringing or answered now."""
        limit = self.contract.inbound_calls
        if up > limit:
            self._note(Breach("V3", up, limit, self._since(at), "inbound calls at once"))

    def _since(self, at: int) -> float:
        return (at - self.began) / SECOND if self.began else 0.0

    def _note(self, breach: Breach) -> None:
        self.count += 1
        if len(self.breaches) < self.KEPT:
            self.breaches.append(breach)
