"""What a person should hear of although no limit is broken: many numbers at once (V2), and a program that calls the
same number again and again (V13). Times are monotonic seconds; what is kept is bounded, whatever is dialled.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

PAIRS = 16_384
"""Pairs of caller and callee that are remembered, of all keys together; of more, those called latest."""


@dataclass(slots=True, frozen=True)
class Watching:
    """What is watched of one key; None: not. `distinct` numbers of Japan within `distinct_seconds`, or up at once (V2);
    `repeats` calls from one caller to one callee within `repeat_seconds` (V13); `fax`: T.38 (K7)."""

    distinct: int | None = 100
    distinct_seconds: float = 60.0
    repeats: int | None = 20
    repeat_seconds: float = 600.0
    fax: bool = True


class Breadth:
    """V2: how many different numbers one key calls. What is kept grows with the numbers called in one period."""

    __slots__ = ("_recent", "_up")

    def __init__(self) -> None:
        self._recent: dict[str, float] = {}  # in the order of the last call
        self._up: dict[str, int] = {}

    def called(self, number: str, period: float, now: float) -> int:
        """A call to `number` leaves. The different numbers of the last `period` seconds, or those up, whichever are
        more."""
        recent, up = self._recent, self._up
        recent.pop(number, None)
        recent[number] = now
        up[number] = up.get(number, 0) + 1
        while True:
            first = next(iter(recent))
            if recent[first] > now - period:
                return max(len(recent), len(up))
            del recent[first]

    def ended(self, number: str) -> None:
        """Such a call has ended; one from before a restart was never seen to leave."""
        left = self._up.get(number, 0) - 1
        if left > 0:
            self._up[number] = left
        else:
            self._up.pop(number, None)


class Repeats:
    """V13: is one number called again and again by the same caller?"""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: dict[Hashable, tuple[float, ...]] = {}  # pair → its latest calls, oldest first

    def called(self, pair: Hashable, most: int, period: float, now: float) -> bool:
        """`pair` calls once more. Whether that is `most` times or more within `period` seconds."""
        calls = self._calls
        times = (*calls.pop(pair, ())[1 - most :], now) if most > 1 else (now,)
        calls[pair] = times
        if len(calls) > PAIRS:
            del calls[next(iter(calls))]
        return len(times) >= most and times[0] > now - period
