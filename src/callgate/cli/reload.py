"""`callgate reload`: SIGHUP for those who want to know what came of it."""

from __future__ import annotations

import json

import typer

from callgate.cli import ConfigPath
from callgate.cli.control import Json, do, show_answer


def register(app: typer.Typer) -> None:
    @app.command("reload")
    def reload(config: ConfigPath, as_json: Json = False) -> None:
        """Have a running gate read its config again. Exit 1 with every fault where it refuses."""
        answer = do(config, "reload")
        if as_json:
            show_answer(answer)
            return
        changes = {name.replace("_", " "): value for name, value in answer.items() if name != "ok"}
        for name, value in changes.items():
            typer.echo(f"{name:<16}{', '.join(value) if isinstance(value, list) else json.dumps(value)}")
        typer.echo("reloaded" if changes else "reloaded; nothing in the config has changed")
