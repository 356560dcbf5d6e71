"""The commands. `main` loads only the one that is asked for: none pays for another's libraries.

Exit codes: 0 fine, 1 the work failed, 2 wrong usage or a config that can't be used.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import callgate

if TYPE_CHECKING:
    from callgate.config import Config

COMMANDS = (
    "run",
    "check",
    "dial",
    "explain",
    "demo",
    "status",
    "top",
    "reload",
    "calls",
    "keys",
    "audit",
    "cdr",
    "erase",
    "outbox",
    "events",
)
"""Each is a module of this package with a `register(app)`."""

NOT_YET: dict[str, int | None] = {
    "sla": None,
    "statement": None,
    "replay": None,
}
"""Commands to come: name → the step that builds it, None: after those planned."""

ConfigPath = Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="The config (YAML).")]
"""The `-c FILE` of a command."""


def load_or_exit(path: Path) -> Config:
    """The config, or every fault in it on stderr and exit 2."""
    from callgate.config import ConfigError, load_config

    try:
        return load_config(path)
    except ConfigError as error:
        for fault in error.faults:
            typer.echo(fault, err=True)
        count = len(error.faults)
        typer.echo(f"{count} fault{'s' if count > 1 else ''}; nothing was started", err=True)
        raise typer.Exit(2) from None


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"callgate {callgate.__version__}")
        raise typer.Exit


def _register_not_yet(app: typer.Typer, name: str, step: int | None) -> None:
    @app.command(
        name,
        hidden=True,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def not_yet() -> None:
        when = f" (step {step})" if step else ""
        typer.echo(f"callgate {name}: not supported yet{when}", err=True)
        raise typer.Exit(2)


def build(args: Sequence[str]) -> typer.Typer:
    """The program for these arguments: the commands that they can mean."""
    app = typer.Typer(
        name="callgate",
        help=callgate.__doc__,
        no_args_is_help=True,
        add_completion=False,
        # Plain text, so that what stands on stderr can be read by a program too.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say the version.")
        ] = False,
    ) -> None:
        """A SIP proxy between a PBX and a carrier trunk that keeps calls inside the carrier's contract."""

    asked = next((arg for arg in args if not arg.startswith("-")), None)
    none = asked in NOT_YET or "--version" in args
    for name in (asked,) if asked in COMMANDS else () if none else COMMANDS:
        importlib.import_module(f"callgate.cli.{name}").register(app)
    for name, step in NOT_YET.items():
        _register_not_yet(app, name, step)
    return app


def main() -> None:
    """The program `callgate`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that can't show a character must not end the program
            stream.reconfigure(errors="backslashreplace")
    try:
        build(sys.argv[1:])(prog_name="callgate")
    except ValueError as error:
        # A data file of the program that is damaged is found when the room that reads it is imported.
        if type(error).__name__ != "PlanError":
            raise
        print(f"callgate: {error}: install CallGate anew", file=sys.stderr)
        sys.exit(1)
