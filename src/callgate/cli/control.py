"""What the commands that operate a running gate share: asking it, and showing what it says."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

Row = dict[str, Any]

Json = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
"""The `--json` of a list."""

ANSWER_SECONDS = 30.0
"""How long the gate may take for a line of its answer; `calls reconcile` waits for silent phones."""
PIPE_WIDTH = 240


def fail(text: str, code: int = 1) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)


def state_dir_or_exit(config: Path, command: str) -> Path:
    """Where the gate of a config keeps its socket and its files."""
    from callgate.config import ConfigError, state_dir_of

    try:
        found = state_dir_of(config)
    except ConfigError as error:
        fail("\n".join(map(str, error.faults)), 2)
    if found is None:
        fail(f"{config}: `state_dir` is null, and `{command}` needs one", 2)
    return found


def unreachable(path: Path, error: OSError) -> str:
    """Why the control socket can't be reached, and the remedy."""
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return f"no gate is running with this config: nobody serves {path}"
    if isinstance(error, PermissionError):
        owner = path.stat().st_uid if os.access(path.parent, os.X_OK) else path.parent.stat().st_uid
        return f"{path} is not yours: run this as the user of the gate (uid {owner}) or as root"
    return f"{path} can't be reached: {error.strerror or error}"


@contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    from callgate.store.socket_path import address

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            with address(path) as where:
                connection.connect(where)
        except OSError as error:
            fail(unreachable(path, error))
        yield connection


def gate_runs(state_dir: Path) -> bool:
    """Whether a gate serves the control socket of that folder."""
    from callgate.store.socket_path import FILE, address

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            with address(state_dir / FILE) as where:
                connection.connect(where)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError as error:
            fail(unreachable(state_dir / FILE, error))
    return True


def ask(config: Path, op: str, **arguments: Any) -> Iterator[Row]:
    """The rows of a running gate's answer, and its last line. Exits where there is no gate, or it refuses."""
    from callgate.store.socket_path import FILE

    path = state_dir_or_exit(config, op.replace(".", " ")) / FILE
    given = {name: value for name, value in arguments.items() if value is not None}
    with _connected(path) as connection:
        try:
            connection.sendall(json.dumps({"op": op, "args": given}).encode() + b"\n")
            with connection.makefile("rb") as lines:
                for line in lines:
                    answer = json.loads(line)
                    if "row" in answer:
                        yield answer["row"]
                        continue
                    if not answer.get("ok"):
                        fail(answer["error"], 2 if answer["kind"] == "usage" else 1)
                    yield answer
                    return
        except TimeoutError:
            fail(f"the gate has not answered for {ANSWER_SECONDS:g} s")
        except (OSError, ValueError) as error:
            fail(f"the gate's answer can't be read: {error}")
    fail("the gate has ended before its answer was complete")


def rows(config: Path, op: str, **arguments: Any) -> Iterator[Row]:
    """The rows of a list."""
    last = None
    for row in ask(config, op, **arguments):
        if last is not None:
            yield last
        last = row


def do(config: Path, op: str, **arguments: Any) -> Row:
    """Have something done. What could not be kept is said on stderr, and then `finish` exits with 1."""
    return next(ask(config, op, **arguments))


def finish(answer: Row) -> None:
    """The end of a command that has done something."""
    for warning in answer.get("warnings", ()):
        typer.echo(f"warning: {warning}", err=True)
    if answer.get("warnings"):
        raise typer.Exit(1)


def show_json(found: Iterable[Row]) -> None:
    """One line per row, as they come."""
    for row in found:
        typer.echo(json.dumps(row, ensure_ascii=False))


def show_answer(answer: Row) -> None:
    show_json([{name: value for name, value in answer.items() if name != "ok"}])


def table(columns: Sequence[str], lines: Iterable[Sequence[object]], none: str) -> None:
    """A table for people; `none` where there is no line. Never interprets what others have written."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        shown.add_column(column, overflow="fold")
    for line in lines:
        shown.add_row(*(Text(plain(cell)) for cell in line))
    if not shown.rows:
        typer.echo(none)
        return
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(shown)


def plain(value: object) -> str:
    """Text that can do nothing to a terminal."""
    text = "" if value is None else str(value)
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def second(stamp: str | None) -> str:
    """A time stamp of the gate, to the second."""
    return "" if stamp is None else stamp[:19].replace("T", " ") + " UTC"
