"""`callgate cdr`: call records, out of the database; the gate running or not."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from callgate.cli import ConfigPath
from callgate.cli.control import fail

if TYPE_CHECKING:
    from callgate.cdr.row import Row
    from callgate.config.load import Places

TOLD_EVERY = 1000
"""Records between two words about how far it is."""


def register(app: typer.Typer) -> None:
    cdr = typer.Typer(help="Call records.", no_args_is_help=True)
    app.add_typer(cdr, name="cdr")

    @cdr.callback()
    def group() -> None:
        """Call records."""

    @cdr.command("export")
    def export(
        config: ConfigPath,
        form: Annotated[str, typer.Option("--format", metavar="jsonl|csv", help="How.")] = "jsonl",
        begin: Annotated[
            str | None, typer.Option("--from", metavar="T", help="Calls that began then or later.")
        ] = None,
        end: Annotated[str | None, typer.Option("--to", metavar="T", help="Calls that began before.")] = None,
        key: Annotated[str | None, typer.Option("--key", help="Calls of this key only.")] = None,
    ) -> None:
        """Records to stdout, the oldest first. A time: 2026-04-01, 2026-04-01T09:00:00+09:00 or …Z."""
        from callgate.cdr.export import FORMATS, Query, has_key, read, write

        if form not in FORMATS:
            fail(f"--format {form}: one of {', '.join(FORMATS)}", 2)
        query = Query(when("--from", begin), when("--to", end), key)
        places = places_or_exit(config)
        with readable(places):
            if key is not None and key not in places.keys and not has_key(places.database, key):
                fail(f"there is no key `{key}`, neither in {config} nor among the records")
            _warn_of_waiting(places)
            # What others have written goes out as it is, whatever the locale.
            out = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", errors="replace", newline="")
            write(_counted(read(places.database, query)), form, out.write)
            out.flush()
            out.detach()


def when(option: str, text: str | None) -> str | None:
    """A time as in a record; a day begins at midnight, and what names no zone is UTC."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
        at = at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        fail(f"{option} {text}: this is no time; write it like 2026-04-01 or 2026-04-01T09:00:00+09:00", 2)
    return f"{at.strftime('%Y').zfill(4)}-{at:%m-%dT%H:%M:%S.%f}Z"


def places_or_exit(config: Path) -> Places:
    """Where the records of a config are. Needs none of its other secrets."""
    from callgate.config import ConfigError, places_of

    try:
        return places_of(config)
    except ConfigError as error:
        fail("\n".join(map(str, error.faults)), 2)


class readable:  # reads as a word: `with readable(places):`
    """What is wrong with the database ends the command, in words."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def __enter__(self) -> None:
        from callgate.cdr.database import shown, sqlite_path, words

        file = sqlite_path(self._places.database)
        if file is None:
            return
        try:
            owner = file.stat().st_uid
        except (FileNotFoundError, NotADirectoryError):
            fail(f"there are no records yet: {file} is not there")
        except OSError as error:
            fail(f"{shown(self._places.database)}: {words(error)}")
        if not os.access(file, os.R_OK):
            fail(f"{file} is not yours: run this as the user of the gate (uid {owner}) or as root")

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        from callgate.cdr.database import shown, words
        from callgate.cdr.schema import SchemaError

        if isinstance(error, BrokenPipeError):  # who reads has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        if isinstance(error, SQLAlchemyError | SchemaError | ImportError | OSError):
            fail(f"{shown(self._places.database)}: {words(error)}")


def _warn_of_waiting(places: Places) -> None:
    from callgate.cdr.spill import FILE

    if places.state_dir is None:
        return
    path = places.state_dir / FILE
    try:
        size = path.stat().st_size
    except OSError:
        return
    if size:
        typer.echo(
            f"warning: {size} bytes of records wait in {path} for the database; they are not in this export",
            err=True,
        )


def _counted(rows: Iterable[Row]) -> Iterator[Row]:
    """Says how far it is, where somebody watches."""
    if not sys.stderr.isatty():
        yield from rows
        return
    count = 0
    for count, row in enumerate(rows, 1):
        if count % TOLD_EVERY == 0:
            typer.echo(f"\r{count:,} records", err=True, nl=False)
        yield row
    typer.echo(f"\r{count:,} records", err=True)
