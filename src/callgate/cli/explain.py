"""`callgate explain CALL-ID`: the life of a call in words, from the journal, whether the gate runs or not."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from callgate.cli import ConfigPath, load_or_exit
from callgate.store.story import as_dict, in_words, lives_of, printable


def register(app: typer.Typer) -> None:
    """Add the command to the program."""

    @app.command("explain")
    def explain(
        call_id: Annotated[str, typer.Argument(metavar="CALL-ID", help="The Call-ID of its INVITE.")],
        config: ConfigPath,
        as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    ) -> None:
        """The life of a call, and why it went as it did."""
        loaded = load_or_exit(config)
        if loaded.state_dir is None:
            typer.echo("state_dir is null: nothing is kept of calls", err=True)
            raise typer.Exit(1)
        lives = lives_of(loaded.state_dir, call_id)
        if not lives:
            typer.echo(
                f"no call {printable(call_id)} is known: never seen, or forgotten (`journal`)", err=True
            )
            raise typer.Exit(1)
        if as_json:
            print(json.dumps({"call_id": call_id, "calls": [as_dict(life) for life in lives]}))
        else:
            sys.stdout.write("\n".join("\n".join(in_words(life)) + "\n" for life in lives))
