"""`callgate erase`: the personal data of a number or a key goes for good (T12), the gate running or not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from callgate.cli import ConfigPath
from callgate.cli.cdr import places_or_exit, readable, when
from callgate.cli.control import Json, fail, finish, gate_runs, show_answer

if TYPE_CHECKING:
    from callgate.cdr.erase import Erased, Selection
    from callgate.config.load import Places

ELSEWHERE: Final = {
    "outbox": "{} events about them erased",
    "aside": "{} lines that were put aside erased",
    "journal": "{} calls erased that `explain` could tell of",
    "traces": "{} copies of messages erased, those of all calls",
}
"""Where else there may be something."""


def register(app: typer.Typer) -> None:
    @app.command("erase")
    def erase(
        config: ConfigPath,
        number: Annotated[
            str | None, typer.Option("--number", help="Records of calls to or from this number.")
        ] = None,
        key: Annotated[str | None, typer.Option("--key", help="Records of this key's calls.")] = None,
        before: Annotated[
            str | None, typer.Option("--before", metavar="T", help="Only of calls that began before.")
        ] = None,
        yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
        as_json: Json = False,
    ) -> None:
        """Erase call records for good: in the database and wherever they wait. The audit log has the proof."""
        from callgate.cdr.erase import selection_of

        limit = when("--before", before)
        try:
            selection = selection_of(number, key, limit)
        except ValueError as error:
            fail(str(error), 2)
        places = places_or_exit(config)
        if not yes:
            typer.confirm(
                f"Erase the records of {_what(number, key, before)}? This can't be undone",
                abort=True,
                err=True,
            )
        if places.state_dir is not None and gate_runs(places.state_dir):
            from callgate.cli.control import do

            answer = do(config, "records.erase", number=number, key=key, before=limit)
        else:
            with readable(places):
                answer = _alone(places, selection)
        if as_json:
            show_answer(answer)
        else:
            waiting = answer["spill"] + answer["memory"]
            typer.echo(
                f"{answer['database'] + waiting} records erased ({waiting} of them before they were written)"
            )
            for name, text in ELSEWHERE.items():
                if answer.get(name):
                    typer.echo(text.format(answer[name]))
            for line in answer["later"]:
                typer.echo(line)
        finish(answer)


def _what(number: str | None, key: str | None, before: str | None) -> str:
    parts = [
        f"number {number}" if number else "",
        f"key {key}" if key else "",
        f"before {before}" if before else "",
    ]
    return ", ".join(filter(None, parts))


def _alone(places: Places, selection: Selection) -> dict[str, Any]:
    """No gate is running: do it here."""
    from callgate.cdr.audit import Audit
    from callgate.cdr.row import Row
    from callgate.cdr.spill import Spill
    from callgate.cdr.store import Store
    from callgate.net.erasure import NotErased, erase, journal
    from callgate.store.forget import forget

    def records(selection: Selection) -> Erased:
        def keep(row: Row) -> bool:
            return not selection.matches(row)

        spilled = aside = 0
        if places.state_dir is not None:
            with closing(Spill(places.state_dir)) as spill:
                spilled = spill.replace(keep)
                aside = spill.erase_aside(keep, selection.needles)
        with closing(Store(places.database)) as store:
            store.connect()
            return store.erase(selection)._replace(spill=spilled, aside=aside)

    def note(*what: Any, **fields: Any) -> None:
        if places.state_dir is not None:
            with closing(Audit(places.state_dir)) as audit:
                audit.note(*what, **fields)

    others = [journal(partial(forget, places.state_dir))] if places.state_dir is not None else []
    try:
        answer = erase(selection, records, note, "", others)
    except NotErased as error:
        fail(f"not all is erased: {error}")
    except (OSError, sqlite3.Error) as error:
        fail(f"erased, but the audit log can't be kept: {error}")
    if places.state_dir is None:
        answer["warnings"] = ["`state_dir` is null: there is no audit log, and so no proof"]
    return answer
