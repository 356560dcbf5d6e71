"""Where a run of the fuzzer takes its choices from: a seed, or the octets that a coverage-guided fuzzer tries out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Dice(Protocol):
    def below(self, limit: int) -> int:
        """A number from 0 to `limit` - 1."""
        ...

    @property
    def empty(self) -> bool:
        """Whether there is nothing left to choose with."""
        ...


class Seeded:
    """The same choices for the same seed, as many as anybody asks for."""

    empty = False

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.below = self._random.randrange


class Octets:
    """Choices out of `data`; when it is used up, always the first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def below(self, limit: int) -> int:
        size = 1 if limit <= 256 else 2
        octets = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(octets) % limit

    @property
    def empty(self) -> bool:
        return self._at >= len(self._data)


def pick(dice: Dice, items: Sequence[Item]) -> Item:
    return items[dice.below(len(items))]
