"""Rule K11: a key's calls slow down while its trunk says that it is congested.

There are levels. Each halves the calls that may go in a second, down to one, and from there a least gap between two
calls: 2, 4, 8 seconds. A level is a set of limits like any other, chosen when a call makes its claim; so a slowed key
still gets exactly what its level allows, and nothing is kept per call.
"""

from __future__ import annotations

from callgate.policy.claim import Part, Window

RULE = "K11"
FALL_SECONDS = 10.0
"""So long without a refusal of the trunk, and the level falls by one."""
RISE_SECONDS = 1.0
"""At least between two rises: what was sent before the last one says nothing about it."""
NEAR_SECONDS = 10.0
"""A plain 503 is a word about congestion only if another one came within this time."""
GAPS = (2.0, 4.0, 8.0)
"""Seconds between two calls on the last levels."""
UNLIMITED = 64
"""Where a key without a rate begins: its first level allows half of this."""

Parts = tuple[Part, ...]


def slower(key_id: str, parts: Parts, period: float = 1.0) -> tuple[Parts, ...]:
    """What a call claims on each level from 1 on, instead of `parts`."""
    rates = [part for part in parts if isinstance(part, Window)]
    others = tuple(part for part in parts if not isinstance(part, Window))
    limited = [part.limit for part in rates if part.limit is not None]
    name = rates[0].name if rates else f"{key_id}/outbound_cps"
    limit = min(limited, default=UNLIMITED)
    if not limit:
        return ()
    levels: list[Parts] = []
    while limit > 1:
        limit //= 2
        levels.append((Window(RULE, name, limit, period), *others))
    for gap in GAPS:
        # A window of its own beside the rate's: in one window all tokens have the same period.
        window = Window(RULE, f"{key_id}/gap_{gap:g}", 1, gap)
        levels.append((Window(RULE, name, 1, period), window, *others))
    return tuple(levels)


def pace(parts: Parts) -> str:
    """What the parts of a level allow, in words."""
    slowest = max((part for part in parts if isinstance(part, Window)), key=lambda part: part.period)
    return f"{slowest.limit} per second" if slowest.period == 1.0 else f"one in {slowest.period:g} s"


class Congestion:
    """The level of one key, up to `highest`; 0 while nothing is said. Times are monotonic seconds."""

    __slots__ = ("_fall_at", "_plain_at", "_rise_at", "highest", "raised")

    def __init__(self, highest: int) -> None:
        self.raised = 0  # the level when last something was heard
        self.highest = highest
        self._fall_at = 0.0
        self._rise_at = 0.0
        self._plain_at = float("-inf")

    def level(self, now: float) -> int:
        while self.raised and now >= self._fall_at:
            self.raised -= 1
            self._fall_at += FALL_SECONDS
        return self.raised

    def heard(self, now: float, *, plain: bool) -> bool:
        """The trunk has refused a call for congestion; `plain`: with nothing but a 503. Whether the level rose."""
        lone = plain and not self.level(now) and now - self._plain_at > NEAR_SECONDS
        if plain:
            self._plain_at = now
        if lone:
            return False
        self._fall_at = now + FALL_SECONDS
        if self.raised >= self.highest or now < self._rise_at:
            return False
        self.raised += 1
        self._rise_at = now + RISE_SECONDS
        return True
