"""Call records for others: JSON lines or CSV, oldest first, read page by page.

No transaction lasts longer than a page, so an export that somebody reads slowly holds up nothing.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Final, NamedTuple

from sqlalchemy import Connection, select, tuple_

from callgate.cdr.database import engine_of
from callgate.cdr.row import COLUMNS, NAMES, Row
from callgate.cdr.schema import cdr, check_version, version_of

PAGE: Final = 1000
FORMATS: Final = ("jsonl", "csv")


class Query(NamedTuple):
    """Calls that began at `begin` or later and before `end` (as in a row), of one key."""

    begin: str | None = None
    end: str | None = None
    key: str | None = None


def read(url: str, query: Query) -> Iterator[Row]:
    """The records, by the time of their INVITE. Raises SchemaError where the database holds none of this program, and
    what the database raises."""
    with closing(engine_of(url, write=False).connect()) as connection:
        with connection.begin():
            check_version(version_of(connection))
        yield from _pages(connection, query)


def _pages(connection: Connection, query: Query) -> Iterator[Row]:
    statement = select(cdr).order_by(cdr.c.invite_at, cdr.c.id).limit(PAGE)
    if query.begin is not None:
        statement = statement.where(cdr.c.invite_at >= query.begin)
    if query.end is not None:
        statement = statement.where(cdr.c.invite_at < query.end)
    if query.key is not None:
        statement = statement.where(cdr.c.key == query.key)
    page = statement
    while True:
        with connection.begin():
            rows = [dict(zip(NAMES, one, strict=True)) for one in connection.execute(page)]
        yield from rows
        if len(rows) < PAGE:
            return
        last = rows[-1]
        place = tuple_(cdr.c.invite_at, cdr.c.id)
        page = statement.where(
            place > tuple_(last["invite_at"], last["id"], types=[cdr.c.invite_at.type, cdr.c.id.type])
        )


def has_key(url: str, key: str) -> bool:
    """Whether there is a record of that key."""
    with closing(engine_of(url, write=False).connect()) as connection, connection.begin():
        check_version(version_of(connection))
        return connection.execute(select(cdr.c.id).where(cdr.c.key == key).limit(1)).first() is not None


def write(rows: Iterable[Row], form: str, put: Callable[[str], object]) -> None:
    """Every record as text, in one of `FORMATS`."""
    if form == "jsonl":
        for row in rows:
            put(_json_line(row))
        return
    lines = csv.writer(_To(put), lineterminator="\r\n")  # RFC 4180
    lines.writerow(NAMES)
    for row in rows:
        lines.writerow(map(_cell, row.values(), _TEXTS))


def _json_line(row: Row) -> str:
    found = {name: plain(value) for name, value in row.items()}
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    if not text.isprintable():  # what could move a terminal's cursor, or is a line end to somebody
        text = json.dumps(found, ensure_ascii=True, separators=(",", ":")).replace("\x7f", "\\u007f")
    return text + "\n"


def plain(value: object) -> object:
    """4.0 as 4."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# CSV

_TEXTS: Final = tuple(kind == "text" for _, kind, _ in COLUMNS)
_FORMULA = re.compile(r"'*[=\-@+\t\r\n]")
_NUMBER = re.compile(r"\+[0-9]+\Z")


def safe(text: str) -> str:
    """Text that no spreadsheet takes for a formula: a leading `'` where it begins like one, as also where it begins
    with `'` before that, so that `plain_again` has the text back. A number in its canonical form (`+81…`) stays."""
    if _FORMULA.match(text) and not _NUMBER.match(text):
        return "'" + text
    return text


def plain_again(cell: str) -> str:
    """The text of a cell of the export."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _cell(value: object, is_text: bool) -> object:
    if is_text:
        return "" if value is None else safe(str(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return plain(value)


class _To:
    def __init__(self, put: Callable[[str], object]) -> None:
        self.write = put
