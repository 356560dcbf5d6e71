"""`callgate status`: is the gate of this config running, and how is it?"""

from __future__ import annotations

import typer

from callgate.cli import ConfigPath
from callgate.cli.control import Json, do, plain, show_answer


def register(app: typer.Typer) -> None:
    @app.command("status")
    def status(config: ConfigPath, as_json: Json = False) -> None:
        """How a running gate is; exit 1 where none is running."""
        answer = do(config, "status")
        if as_json:
            show_answer(answer)
            return
        for name, value in answer.items():
            if name != "ok":
                shown = ", ".join(value) if isinstance(value, list) else value
                typer.echo(f"{name.replace('_', ' '):<15}{plain(shown)}")
