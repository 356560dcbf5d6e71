"""The carrier's own count of the contract: calls it had not seen, in any window of one second (V1)."""

from __future__ import annotations

from collections import deque

WINDOW = 1.0


class Meter:
    """`fullest`: the most first arrivals in any half-open window [t, t + 1 s). Arrivals come in order."""

    def __init__(self) -> None:
        self.total = self.fullest = 0
        self._recent: deque[float] = deque()

    def arrived(self, now: float) -> None:
        self.total += 1
        recent = self._recent
        recent.append(now)
        while now - recent[0] >= WINDOW:
            recent.popleft()
        self.fullest = max(self.fullest, len(recent))
