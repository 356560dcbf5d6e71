"""`callgate outbox`: events that wait for their receivers and those that were given up, the gate running or not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callgate.cli import ConfigPath
from callgate.cli.cdr import places_or_exit, readable
from callgate.cli.control import Json, Row, do, fail, finish, gate_runs, second, show_answer, show_json, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from callgate.cdr.outbox import Choice
    from callgate.config.load import Places

COLUMNS = ("state", "receiver", "key", "seq", "type", "id", "queued", "why")
STATES = ("pending", "dead", "disabled")
IDS = 10
"""In one request to the gate."""
To = Annotated[str | None, typer.Option("--receiver", metavar="NAME", help="As `outbox list` names it.")]
Of = Annotated[str | None, typer.Option("--key", help="Events of this key only.")]


def register(app: typer.Typer) -> None:
    outbox = typer.Typer(help="Events on their way to receivers.", no_args_is_help=True)
    app.add_typer(outbox, name="outbox")

    @outbox.command("list")
    def show(
        config: ConfigPath,
        receiver: To = None,
        key: Of = None,
        state: Annotated[
            str | None, typer.Option("--state", metavar="pending|dead|disabled", help="Only those.")
        ] = None,
        as_json: Json = False,
    ) -> None:
        """Events that wait, and dead letters. `disabled`: their receiver has answered 410."""
        from callgate.cdr.outbox import Choice

        if state is not None and state not in STATES:
            fail(f"--state {state}: one of {', '.join(STATES)}", 2)
        places = places_or_exit(config)
        with readable(places):
            found = _listed(places, Choice(receiver, key), state)
            if as_json:
                show_json(found)
            else:
                table(COLUMNS, map(_line, found), "no event waits, and none was given up")

    @outbox.command("replay")
    def replay(
        config: ConfigPath,
        ids: Annotated[
            list[str] | None, typer.Argument(metavar="[ID]…", help="Of events, from the list.")
        ] = None,
        receiver: To = None,
        key: Of = None,
        everything: Annotated[bool, typer.Option("--all", help="Every dead letter, every receiver.")] = False,
        as_json: Json = False,
    ) -> None:
        """Send dead letters once more, each as it was; and try a receiver again that has answered 410."""
        if not (ids or receiver or key or everything):
            fail("say what: ids, --receiver, --key, or --all", 2)
        places = places_or_exit(config)
        if places.state_dir is not None and gate_runs(places.state_dir):
            answer = _by_gate(config, ids or [], receiver, key)
        else:
            with readable(places):
                answer = _alone(places, receiver, key, tuple(ids or ()))
        if as_json:
            show_answer(answer)
        else:
            typer.echo(f"{answer['replayed']} events are sent once more")
            for name in answer["enabled"]:
                typer.echo(f"{name} is tried again")
        finish(answer)


def _listed(places: Places, choice: Choice, state: str | None) -> Iterator[Row]:
    from callgate.cdr.database import engine_of
    from callgate.cdr.outbox import listing
    from callgate.cdr.schema import check_version, version_of

    with closing(engine_of(places.database, write=False).connect()) as connection, connection.begin():
        check_version(version_of(connection))
        for row in listing(connection, choice, ("dead",) if state == "dead" else ("pending", "dead")):
            if state is None or row["state"] == state:
                yield row


def _line(row: Row) -> tuple[object, ...]:
    return (
        *(row["state"], row["receiver"], row["key"], row["seq"], row["type"], row["id"]),
        *(second(row["queued_at"]), row["fault"]),
    )


def _by_gate(config: Path, ids: list[str], receiver: str | None, key: str | None) -> dict[str, Any]:
    whole: dict[str, Any] = {"replayed": 0, "enabled": [], "warnings": []}
    for at in range(0, len(ids) or 1, IDS):
        some = " ".join(ids[at : at + IDS]) or None
        answer = do(config, "outbox.replay", ids=some, receiver=receiver, key=key)
        whole = {name: value + answer[name] for name, value in whole.items()}
    return whole


def _alone(places: Places, receiver: str | None, key: str | None, ids: tuple[str, ...]) -> dict[str, Any]:
    """No gate is running: do it here."""
    from callgate.cdr.audit import Audit
    from callgate.cdr.outbox import Choice, UnknownLetter
    from callgate.cdr.store import Store

    with closing(Store(places.database)) as store:
        store.connect()
        try:
            done = store.replay(Choice(receiver, key, ids))
        except UnknownLetter as error:
            fail(str(error))
    if places.state_dir is not None:
        try:
            with closing(Audit(places.state_dir)) as audit:
                audit.note("outbox replay", receiver or key or "", after=done.row() | {"ids": list(ids)})
        except (OSError, sqlite3.Error) as error:
            fail(f"replayed, but the audit log can't be kept: {error}")
    return done.row()
