"""`callgate events`: what a running gate has raised and resolved, and whether receivers get it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from callgate.cli import ConfigPath
from callgate.cli.control import Json, Row, do, finish, rows, second, show_json, table

COLUMNS = ("when", "event", "rule", "severity", "key", "what", "value", "what to do")
LAST = 50


def register(app: typer.Typer) -> None:
    events = typer.Typer(help="Alerts, raised and resolved.", no_args_is_help=True)
    app.add_typer(events, name="events")

    @events.command("list")
    def show(
        config: ConfigPath,
        key: Annotated[str | None, typer.Option("--key", help="Of this key only.")] = None,
        active: Annotated[bool, typer.Option("--active", help="Those that are up now.")] = False,
        last: Annotated[int, typer.Option("--last", min=1, help="So many, the last.")] = LAST,
        as_json: Json = False,
    ) -> None:
        """What was raised and resolved since the gate's start, its last 500. Oldest first."""
        found = deque(_active(config, key) if active else rows(config, "events.list", key=key), maxlen=last)
        if as_json:
            show_json(found)
        else:
            table(COLUMNS, map(_line, found), "nothing is up" if active else "nothing was raised")

    @events.command("test")
    def test(
        config: ConfigPath,
        receiver: Annotated[
            str | None,
            typer.Option("--receiver", metavar="NAME", help="This one only, as `outbox list` names it."),
        ] = None,
        as_json: Json = False,
    ) -> None:
        """Send `alert.test` to every receiver of alerts, or to one, and say whether it has arrived."""
        answer = do(config, "events.test", receiver=receiver)
        found = answer["receivers"]
        if as_json:
            show_json(found)
        else:
            lines = ((row["receiver"], row["result"], row["fault"]) for row in found)
            table(("receiver", "result", "why"), lines, "no receiver")
        finish(answer)
        if any(row["result"] != "delivered" for row in found):
            raise typer.Exit(1)


def _active(config: Path, key: str | None) -> Iterator[Row]:
    for one in rows(config, "alerts.list"):
        if key is None or one["key"] == key:
            yield {"at": one["since"], "type": "alert.raised", "active": True} | one


def _line(row: Row) -> tuple[object, ...]:
    value = "" if row["value"] is None else str(row["value"])
    if row["limit"] is not None:
        value += f"/{row['limit']}"
    event = row["type"].removeprefix("alert.") + (", is up" if row["active"] else "")
    about = row["key"] or row["trunk"] or ""
    return second(row["at"]), event, row["rule"], row["severity"], about, row["text"], value, row["advice"]
