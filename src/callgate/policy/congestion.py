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
    """What a call claims on each level from 1 on, instead of `parts`: the key's own rate gives way to less."""
    name = f"{key_id}/outbound_cps"
    place = next((i for i, part in enumerate(parts) if part.name == name), None)
    rate = parts[place] if place is not None else None
    limit = rate.limit if isinstance(rate, Window) and rate.limit is not None else UNLIMITED
    if not limit:
        return ()
    before, after = ((), parts) if place is None else (parts[:place], parts[place + 1 :])
    levels: list[Parts] = []
    while limit > 1:
        limit //= 2
        levels.append((*before, Window(RULE, name, limit, period), *after))
    for gap in GAPS:
        # A window of its own beside the rate's: in one window all tokens have the same period.
        window = Window(RULE, f"{key_id}/gap_{gap:g}", 1, gap)
        levels.append((*before, Window(RULE, name, 1, period), window, *after))
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

    def lasting(self, until: float) -> int:
        """The level that it will have at `until` if nothing more is heard."""
        if until < self._fall_at:
            return self.raised
        fallen = (until - self._fall_at) / FALL_SECONDS
        return self.raised - 1 - int(fallen) if fallen < self.raised else 0

    @property
    def falls_at(self) -> float:
        """When the level falls if nothing more is heard."""
        return self._fall_at if self.raised else float("inf")

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
