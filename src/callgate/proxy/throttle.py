"""Against guessing: a source address that is wrong too often is shut out for a while. Never a user: then a stranger
could shut out the PBX."""

from __future__ import annotations

from collections import deque
from ipaddress import IPv6Address

SOURCES = 4096
"""Addresses remembered at once; of more, those that have been here the longest are forgotten."""


def who(source: str) -> str:
    """What counts as one source: an address, of IPv6 its /64 (one customer has as many addresses as he likes)."""
    if ":" not in source:
        return source
    return f"{int(IPv6Address(source)) >> 64:x}::"


class Throttle:
    """`failed` for each wrong answer, `shut_out` before another is looked at. Costs one `if` while nobody guesses."""

    def __init__(self) -> None:
        self._failures: dict[str, deque[float]] = {}
        self._until: dict[str, float] = {}

    def failed(
        self, source: str, now: float, failures: int, per_seconds: float, block_seconds: float
    ) -> bool:
        """Take note of a failure; True where it shuts the source out: the `failures`th within `per_seconds`."""
        source = who(source)
        times = self._failures.pop(source, None)
        if times is None or times.maxlen != failures:  # a reload may have changed the number
            times = deque(times or (), maxlen=failures)
            if len(self._failures) >= SOURCES:
                del self._failures[next(iter(self._failures))]
        times.append(now)
        if len(times) < failures or now - times[0] >= per_seconds or not block_seconds:
            self._failures[source] = times  # the latest at the end
            return False
        self._until.pop(source, None)
        if len(self._until) >= SOURCES:
            del self._until[next(iter(self._until))]
        self._until[source] = now + block_seconds
        return True

    def shut_out(self, source: str, now: float) -> bool:
        if not self._until:
            return False
        source = who(source)
        until = self._until.get(source)
        if until is None:
            return False
        if now >= until:
            del self._until[source]
            return False
        return True
