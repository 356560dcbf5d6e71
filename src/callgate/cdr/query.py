"""Call records a page at a time, the newest first."""

from __future__ import annotations

from contextlib import closing
from typing import Final, NamedTuple

from sqlalchemy import select, tuple_

from callgate.cdr.database import engine_of
from callgate.cdr.export import plain
from callgate.cdr.row import NAMES, Row
from callgate.cdr.schema import cdr, check_version, version_of

EQUAL: Final = ("key", "trunk", "direction", "verdict", "rule", "outcome", "call_id", "canonical", "caller")
"""What can be asked for by its value."""


class Page(NamedTuple):
    """`next`: (invite_at, id) of the last row where there may be more, else None."""

    rows: list[Row]
    next: tuple[str, str] | None


def page(
    url: str,
    wanted: dict[str, str],
    *,
    begin: str | None = None,
    end: str | None = None,
    after: tuple[str, str] | None = None,
    size: int = 100,
) -> Page:
    """Calls that began at `begin` or later and before `end` (as in a row) and have the values of `wanted`. Raises
    SchemaError and what the database raises."""
    place = tuple_(cdr.c.invite_at, cdr.c.id)
    statement = select(cdr).where(*(cdr.c[name] == value for name, value in wanted.items()))
    if begin is not None:
        statement = statement.where(cdr.c.invite_at >= begin)
    if end is not None:
        statement = statement.where(cdr.c.invite_at < end)
    if after is not None:
        statement = statement.where(place < tuple_(*after, types=[cdr.c.invite_at.type, cdr.c.id.type]))
    statement = statement.order_by(cdr.c.invite_at.desc(), cdr.c.id.desc()).limit(size)
    with closing(engine_of(url, write=False).connect()) as connection, connection.begin():
        check_version(version_of(connection))
        found = connection.execute(statement).all()
    rows = [dict(zip(NAMES, map(plain, one), strict=True)) for one in found]
    last = (str(rows[-1]["invite_at"]), str(rows[-1]["id"])) if len(rows) == size else None
    return Page(rows, last)
