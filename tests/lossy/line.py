"""One direction of a bad line: what is put on it arrives late, twice, out of order or never."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Quality:
    """`loss` and `double` are shares of all datagrams (a copy can be lost as well); every copy is late by `least` to
    `least + spread` seconds, and the share `straggling` of them by up to `late` seconds more, so that others
    overtake it."""

    loss: float = 0.2
    double: float = 0.1
    least: float = 0.005
    spread: float = 0.010
    straggling: float = 0.1
    late: float = 0.5


PERFECT = Quality(0.0, 0.0, spread=0.0, straggling=0.0)


class Line:
    def __init__(self, quality: Quality, random: Random) -> None:
        self.quality = quality
        self._random = random.random
        self.lost = self.carried = self.doubled = 0

    def fates(self, *, steady: bool = False) -> list[float]:
        """How late each copy of a datagram arrives, seconds; none if it is lost. `steady`: no later than `least +
        spread`."""
        quality, random = self.quality, self._random
        found: list[float] = []
        for _ in range(2 if random() < quality.double else 1):
            if random() < quality.loss:
                self.lost += 1
                continue
            delay = quality.least + quality.spread * random()
            if not steady and random() < quality.straggling:
                delay += quality.late * random()
            found.append(delay)
        self.carried += len(found)
        self.doubled += len(found) > 1
        return found
