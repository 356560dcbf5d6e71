"""`callgate audit`: who did what to the gate, and when. Read from its file, the gate running or not."""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from contextlib import closing
from typing import Annotated, Any

import typer

from callgate.cli import ConfigPath
from callgate.cli.control import Json, Row, fail, second, show_json, state_dir_or_exit, table

COLUMNS = ("when", "who", "what", "target", "before", "after")


def register(app: typer.Typer) -> None:
    @app.command("audit")
    def audit(
        config: ConfigPath,
        last: Annotated[
            int | None, typer.Option("--last", min=1, help="Only so many lines, the last.")
        ] = None,
        as_json: Json = False,
    ) -> None:
        """Who did what to the gate, when, and what it was before and after. Oldest first."""
        from callgate.cdr.audit import read_lines

        folder = state_dir_or_exit(config, "audit")
        try:
            with closing(read_lines(folder)) as lines:
                found = deque(map(_row, lines), maxlen=last)
        except (OSError, sqlite3.Error) as error:
            fail(f"the audit log can't be read: {error}")
        if as_json:
            show_json(found)
        else:
            table(COLUMNS, map(_line, found), "nothing has been done")


def _row(line: tuple[Any, ...]) -> Row:
    _, at, who, what, target, before, after = line
    return {
        "at": at,
        "who": who,
        "what": what,
        "target": target,
        "before": None if before is None else json.loads(before),
        "after": None if after is None else json.loads(after),
    }


def _line(row: Row) -> tuple[object, ...]:
    before, after = (
        "" if row[name] is None else json.dumps(row[name], ensure_ascii=False) for name in ("before", "after")
    )
    return second(row["at"]), row["who"], row["what"], row["target"], before, after
