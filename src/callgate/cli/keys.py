"""`callgate keys`: the keys of a running gate, suspended and resumed (V9)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from callgate.cli import ConfigPath
from callgate.cli.control import Json, Row, do, finish, rows, second, show_answer, show_json, table

COLUMNS = ("key", "trunk", "state", "until", "reason", "by", "out", "in", "limits")
SPANS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

KeyName = Annotated[str, typer.Argument(metavar="KEY", help="As in the config.")]


def register(app: typer.Typer) -> None:
    keys = typer.Typer(help="List, suspend and resume the keys of a running gate.", no_args_is_help=True)
    app.add_typer(keys, name="keys")

    @keys.command("list")
    def list_keys(config: ConfigPath, as_json: Json = False) -> None:
        """Every key, what it uses of its limits, and whether it is suspended."""
        found = rows(config, "keys.list")
        if as_json:
            show_json(found)
        else:
            table(COLUMNS, map(_line, found), "no keys")

    @keys.command("suspend")
    def suspend(
        config: ConfigPath,
        key: KeyName,
        reason: Annotated[str | None, typer.Option("--reason", help="Why; the PBX is told.")] = None,
        until: Annotated[
            str | None,
            typer.Option(
                "--until", metavar="T", help="2026-04-01T09:00:00+09:00, …Z, or 90s, 30m, 2h, 7d from now."
            ),
        ] = None,
        drop: Annotated[bool, typer.Option("--drop", help="End its calls too: BYE to both sides.")] = False,
        as_json: Json = False,
    ) -> None:
        """Refuse a key's new calls with 403, in and out. Emergency calls pass; calls that are up go on."""
        calls = "release" if drop else "keep"
        answer = do(config, "keys.suspend", key=key, reason=reason, until=_when(until), calls=calls)
        if as_json:
            show_answer(answer)
        else:
            typer.echo(f"{key}: suspended {_until(answer)}{ended(answer, drop)}")
        finish(answer)

    @keys.command("resume")
    def resume(config: ConfigPath, key: KeyName, as_json: Json = False) -> None:
        """Let a suspended key call again."""
        answer = do(config, "keys.resume", key=key)
        if as_json:
            show_answer(answer)
        else:
            typer.echo(resumed(answer))
        finish(answer)


def _when(text: str | None) -> str | None:
    """A span of time from now as a time; all else as it is, for the gate to judge."""
    span = re.fullmatch(r"(\d{1,6})([smhd])", text or "")
    if span is None:
        return text
    return (datetime.now(UTC) + timedelta(**{SPANS[span[2]]: int(span[1])})).isoformat()


def resumed(answer: Row) -> str:
    """What `keys.resume` has come to, in words."""
    return f"{answer['key']}: resumed; it was {answer['was']}"


def _until(row: Row) -> str:
    return f"until {second(row['until'])}" if row["until"] else "until it is resumed"


def ended(answer: Row, drop: bool) -> str:
    """What became of the calls of a key that was suspended."""
    count = answer["calls_ended"]
    if drop:
        return f"; {count} call{'s' if count != 1 else ''} ended"
    return f"; {count} that waited refused" if count else ""


def _line(row: Row) -> tuple[object, ...]:
    limits = [
        f"{name} {one['used']}/{'-' if one['limit'] is None else one['limit']}"
        for name, one in row["limits"].items()
    ]
    state = row["state"] if row["mode"] == "enforce" else f"{row['state']}, shadow"
    until = _until(row).removeprefix("until ") if row["state"] == "suspended" else ""
    return (
        *(row["key"], row["trunk"], state, until, row["reason"], row["by"]),
        *(row["outbound"], row["inbound"], ", ".join(limits)),
    )
