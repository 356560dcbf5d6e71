"""How rows stand in a file of the journal, so that what a crash or a bad disk does to one harms no other.

A file begins with `HEAD`. Each row is a frame: a mark, the length of the row, a CRC-32, the row's number, then the row
as Python's `marshal` (version 2) writes plain values: nothing else is as cheap on the path of a call. Behind a frame
that can't be read the next mark is looked for.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterator
from struct import Struct
from typing import Any, Final
from zlib import crc32

HEAD: Final = b"callgate journal 1\n"
MARK: Final = b"\xc6\x9aJ\n"
_FRAME = Struct("<4sIIQ")
LONGEST: Final = 1 << 22
"""Octets of a row: more than any message has."""
SHORTEST: Final = 96
"""Octets of a frame that tells of a token of a long window, at least."""

Row = tuple[Any, ...]


def frame(number: int, row: Row) -> bytes:
    """A row as it stands in the file. Raises ValueError for what is no plain value."""
    data = marshal.dumps(row, 2)
    return _FRAME.pack(MARK, len(data), crc32(data, number & 0xFFFFFFFF), number) + data


class Damage:
    """What of a file could not be read: `octets` of them, in so many `places`; `tokens`: of how many that may have
    told at most."""

    def __init__(self) -> None:
        self.octets = 0
        self.places = 0
        self.tokens = 0

    def add(self, octets: int) -> None:
        """One more place."""
        self.octets += octets
        self.places += 1
        self.tokens += -(-octets // SHORTEST)

    def __bool__(self) -> bool:
        return bool(self.places)


def rows(data: bytes, damage: Damage) -> Iterator[Row]:
    """The rows of a file, each with its number in front."""
    return (row for row, _, _ in pieces(data, damage) if row is not None)


def pieces(data: bytes, damage: Damage) -> Iterator[tuple[Row | None, int, int]]:
    """The rows of a file, each with its number in front, and from where to where its frame goes; None for a place that
    can't be read. A frame that ends behind its file's end was being written when the process died, and is no damage."""
    at = len(HEAD)
    if HEAD.startswith(data):
        return
    if not data.startswith(HEAD):
        at = _next(data, 0, damage)
        yield None, 0, at
    size = len(data)
    while at < size:
        begin = at
        row, at = _row(data, at)
        if row is None:
            if _is_torn(data, at):
                return
            at = _next(data, at, damage)
        yield row, begin, at


def _row(data: bytes, at: int) -> tuple[Row | None, int]:
    """The row of the frame at a place, and where it ends; None for what is none."""
    start = at + _FRAME.size
    if start > len(data):
        return None, at
    mark, length, crc, number = _FRAME.unpack_from(data, at)
    end = start + length
    if mark != MARK or length > LONGEST or end > len(data):
        return None, at
    content = data[start:end]
    if crc32(content, number & 0xFFFFFFFF) != crc:
        return None, at
    try:
        row = marshal.loads(content)
    except (ValueError, EOFError, TypeError):
        return None, at
    return ((number, *row), end) if type(row) is tuple else (None, at)


def _is_torn(data: bytes, at: int) -> bool:
    """Whether what begins there is the beginning of a frame that was never finished."""
    left = len(data) - at
    if left < _FRAME.size:
        return MARK.startswith(data[at : at + 4]) if left < 4 else data.startswith(MARK, at)
    mark, length, _, _ = _FRAME.unpack_from(data, at)
    cut = mark == MARK and length <= LONGEST and at + _FRAME.size + length > len(data)
    return bool(cut) and data.find(MARK, at + 1) < 0


def _next(data: bytes, at: int, damage: Damage) -> int:
    """Where the next mark stands behind what can't be read."""
    found = data.find(MARK, at + 1)
    end = found if found >= 0 else len(data)
    damage.add(end - at)
    return end


def row_around(data: bytes, at: int) -> tuple[Row, int] | None:
    """The row in whose frame a place lies, and where that ends."""
    mark = at + 1
    while (mark := data.rfind(MARK, 0, mark)) >= 0:
        row, end = _row(data, mark)
        if row is not None:
            return (row, end) if end > at else None
        if at - mark > LONGEST:
            break
    return None
