"""`callgate explain CALL-ID`: the life of a call in words, from the journal, whether the gate runs or not; its messages
from the running gate, where tracing is on."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from callgate.cli import ConfigPath, load_or_exit
from callgate.cli.control import fail, rows
from callgate.cli.ladder import ladder
from callgate.store.story import as_dict, in_words, lives_of, printable


def register(app: typer.Typer) -> None:
    """Add the command to the program."""

    @app.command("explain")
    def explain(
        call_id: Annotated[str, typer.Argument(metavar="CALL-ID", help="The Call-ID of its INVITE.")],
        config: ConfigPath,
        as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
        sip: Annotated[bool, typer.Option("--sip", help="Its messages too, as a ladder.")] = False,
    ) -> None:
        """The life of a call, and why it went as it did."""
        loaded = load_or_exit(config)
        if loaded.state_dir is None:
            typer.echo("state_dir is null: nothing is kept of calls", err=True)
            raise typer.Exit(1)
        try:
            lives = lives_of(loaded.state_dir, call_id)
        except OSError as error:
            fail(f"the journal can't be read: {error}")
        messages: list[dict[str, Any]] = []
        if sip and (as_json or not lives):
            messages = list(rows(config, "sip", call=call_id))
        if not lives and not messages:
            typer.echo(
                f"no call {printable(call_id)} is known: never seen, or forgotten (`journal`)", err=True
            )
            raise typer.Exit(1)
        if as_json:
            known: dict[str, Any] = {"call_id": call_id, "calls": [as_dict(life) for life in lives]}
            print(json.dumps(known | {"sip": messages} if sip else known))
            return
        sys.stdout.write("\n".join("\n".join(in_words(life)) + "\n" for life in lives))
        if sip:
            sys.stdout.flush()  # before what may be wrong with the rest
            _show(messages or list(rows(config, "sip", call=call_id)))


def _show(messages: list[dict[str, Any]]) -> None:
    if not messages:
        fail("no message of it is kept any more: they are in the gate's memory, the latest of all calls")
    sys.stdout.write("\n" + "\n".join(ladder(messages)) + "\n")
