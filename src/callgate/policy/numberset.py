"""A set of telephone numbers that may be large: single ones and ranges, 16 octets each, found in a few steps."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable


class NumberSet:
    """`ranges`: (first, last) of E.164 numbers as integers, `81312345678` for `+81312345678`, both ends included; both
    have as many digits. They may overlap and come in any order."""

    __slots__ = ("_first", "_last")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._first, self._last = array("Q"), array("Q")
        for first, last in sorted(ranges):
            if self._last and first <= self._last[-1] + 1:
                self._last[-1] = max(self._last[-1], last)
            else:
                self._first.append(first)
                self._last.append(last)

    def __contains__(self, canonical: object) -> bool:
        """Is this canonical number one of them? What has no E.164 form never is."""
        if not isinstance(canonical, str) or canonical[:1] != "+" or not canonical[1:].isdigit():
            return False
        number = int(canonical)
        at = bisect_right(self._first, number) - 1
        return at >= 0 and number <= self._last[at]

    def __len__(self) -> int:
        """How many numbers it holds."""
        return sum(self._last) - sum(self._first) + len(self._first)
