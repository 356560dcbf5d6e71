"""Where a name's service is (RFC 3263), and in which order one call tries it (RFC 2782)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

Random = Callable[[], float]
"""A number from 0 up to, but not including 1."""


class Place(NamedTuple):
    """One target of a name: `hosts` are the IP addresses of one machine, the best first. `priority` and `weight`
    as in an SRV record; `transport` b"UDP", b"TCP" or b"TLS"."""

    priority: int
    weight: int
    transport: bytes
    port: int
    hosts: tuple[str, ...]


def in_order(places: Sequence[Place], random: Random) -> list[Place]:
    """One call's order: the lowest priority first; among equals a place comes first as often as its share of the
    weight says (RFC 2782)."""
    if len(places) < 2:
        return list(places)
    ordered: list[Place] = []
    for priority in sorted({place.priority for place in places}):
        # Those of weight 0 stand first, so that they too are chosen now and then.
        left = sorted((p for p in places if p.priority == priority), key=lambda p: p.weight > 0)
        while len(left) > 1:
            sums = list(accumulate(place.weight for place in left))
            ordered.append(left.pop(bisect_left(sums, int(random() * (sums[-1] + 1)))))
        ordered += left
    return ordered
