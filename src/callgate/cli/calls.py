"""`callgate calls`: the calls of a running gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from callgate.cli import ConfigPath
from callgate.cli.control import Json, Row, do, finish, rows, second, show_answer, show_json, table

COLUMNS = ("key", "direction", "state", "since", "from", "to", "lines", "gateway", "call-id")


def register(app: typer.Typer) -> None:
    calls = typer.Typer(help="List, release and check the calls of a running gate.", no_args_is_help=True)
    app.add_typer(calls, name="calls")

    @calls.command("list")
    def list_calls(
        config: ConfigPath,
        key: Annotated[str | None, typer.Option("--key", help="Only calls of this key.")] = None,
        as_json: Json = False,
    ) -> None:
        """The calls that are up or set up. Numbers are shown in full."""
        found = rows(config, "calls.list", key=key)
        if as_json:
            show_json(found)
        else:
            table(COLUMNS, map(_line, found), "no calls")

    @calls.command("release")
    def release(
        config: ConfigPath,
        call: Annotated[str, typer.Argument(metavar="CALL-ID", help="Its Call-ID, or the id of its record.")],
        hangup: Annotated[bool, typer.Option("--hangup", help="End it: BYE to both sides.")] = False,
        as_json: Json = False,
    ) -> None:
        """Give back the lines that a call holds; the call itself goes on, unless --hangup ends it. All calls with
        that Call-ID, where several have the same."""
        answer = do(config, "calls.release", call=call, hangup=hangup)
        if as_json:
            show_answer(answer)
        else:
            for one in (answer, *answer["others"]):
                freed = f"released {freed_lines(one)}"
                typer.echo(f"{one['call_id']}: {'hung up' if hangup else freed}")
        finish(answer)

    @calls.command("reconcile")
    def reconcile(config: ConfigPath, as_json: Json = False) -> None:
        """Ask both sides of every call whether it is still up, and free those that are not."""
        answer = do(config, "calls.reconcile")
        if as_json:
            show_answer(answer)
        else:
            typer.echo(
                f"{answer['calls']} calls, {answer['asked']} sides asked: {answer['alive']} alive, "
                f"{answer['silent']} silent, {len(answer['freed'])} gone"
            )
            for one in answer["freed"]:
                typer.echo(f"freed {one['call_id']}: {one['reason']}")
            if answer["silent"]:
                typer.echo("silent ones are asked again, and freed when they stay so (`probe` in the config)")
        finish(answer)


def freed_lines(answer: Row) -> str:
    """What `calls.release` has freed."""
    return lines(answer["freed"]) or "nothing, it held no lines"


def lines(held: Mapping[str, int]) -> str:
    """What a call holds."""
    return ", ".join(name if count == 1 else f"{name} × {count}" for name, count in held.items())


def _line(row: Row) -> tuple[object, ...]:
    since = second(row["since"])
    return (
        *(row["key"], row["direction"], row["state"], since, row["from"], row["to"]),
        *(lines(row["lines"]), row["gateway"], row["call_id"]),
    )
