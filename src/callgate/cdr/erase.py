"""What is to be erased (T12), and what has been: the same for the database, the spill and memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, or_

from callgate.cdr.row import Row
from callgate.cdr.schema import cdr
from callgate.numbers.uri import read_dialled

NUMBER_COLUMNS = ("raw", "canonical", "caller_raw", "caller")


class Selection(NamedTuple):
    """The records of a number (in any of `numbers`, its forms: whoever called or was called), of a key, or of a number
    at a key; all where a call began before `before` (as in a row), if that is given."""

    numbers: tuple[str, ...] = ()
    key: str | None = None
    before: str | None = None

    def matches(self, row: Row) -> bool:
        return (
            (not self.numbers or any(row[name] in self.numbers for name in NUMBER_COLUMNS))
            and (self.key is None or row["key"] == self.key)
            and (self.before is None or row["invite_at"] < self.before)
        )

    @property
    def needles(self) -> tuple[str, ...]:
        """One of these stands in whatever is meant."""
        return self.numbers or (self.key or "",)

    @property
    def where(self) -> list[ColumnElement[bool]]:
        """The same for the database: all of these."""
        found: list[ColumnElement[bool]] = []
        if self.numbers:
            found.append(or_(*(cdr.c[name].in_(self.numbers) for name in NUMBER_COLUMNS)))
        if self.key is not None:
            found.append(cdr.c.key == self.key)
        if self.before is not None:
            found.append(cdr.c.invite_at < self.before)
        return found

    def check(self) -> None:
        """Raises ValueError where it would be everything."""
        if not self.numbers and self.key is None:
            raise ValueError("name what is to be erased: a number (`--number`), a key (`--key`), or both")


def selection_of(number: str | None, key: str | None, before: str | None = None) -> Selection:
    """`number` as somebody writes it. Raises ValueError for a number that is none, and for everything."""
    numbers: tuple[str, ...] = ()
    if number is not None:
        canonical = read_dialled(number).canonical
        if sum(char.isdigit() for char in number) < 3:
            raise ValueError(f"{number[:40]!r} is no telephone number")
        forms = {number, canonical, canonical.removeprefix("+")}
        if canonical.startswith("+81"):
            forms.add("0" + canonical.removeprefix("+81"))
        numbers = (canonical or number, *sorted(forms - {canonical, ""}))
    selection = Selection(numbers, key, before)
    selection.check()
    return selection


class Erased(NamedTuple):
    """How many records of each place are gone, in the outbox how many events about them, and how many lines that were
    put `aside`. `proof`: SHA-256 of the ids of those of the database, in order, one a line: whoever still has one of
    these records can show that it was among them."""

    database: int = 0
    spill: int = 0
    memory: int = 0
    proof: str = ""
    outbox: int = 0
    aside: int = 0

    def row(self) -> dict[str, Any]:
        return self._asdict()


def proof_of(ids: Iterable[str]) -> str:
    """See `Erased.proof`."""
    return hashlib.sha256("".join(f"{one}\n" for one in sorted(ids)).encode()).hexdigest()
