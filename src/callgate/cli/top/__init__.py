"""`callgate top`: a running gate on a terminal, live, and a hand on its calls and keys."""

from __future__ import annotations

from typing import Annotated

import typer

from callgate.cli import ConfigPath


def register(app: typer.Typer) -> None:
    @app.command("top")
    def top(
        config: ConfigPath,
        interval: Annotated[
            float, typer.Option("--interval", min=0.2, max=60, help="Seconds from one look to the next.")
        ] = 1.0,
        once: Annotated[bool, typer.Option("--once", help="One picture, and no more.")] = False,
        as_json: Annotated[
            bool, typer.Option("--json", help="What it would show, as one JSON object.")
        ] = False,
    ) -> None:
        """Keys against their limits, calls, the last refusals and why; sort, filter, release, suspend. `?` is help.

        Without a terminal it prints one picture. Exit 1 where no gate is running.
        """
        from callgate.cli.top.session import run

        run(config, interval, once=once, as_json=as_json)
