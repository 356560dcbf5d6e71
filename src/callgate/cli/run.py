"""`callgate run`."""

from __future__ import annotations

import gc

import typer

from callgate.cli import ConfigPath, load_or_exit


def register(app: typer.Typer) -> None:
    @app.command("run")
    def run(config: ConfigPath) -> None:
        """Run the proxy (SIGTERM: let calls end, then stop)."""
        gc.disable()  # as the gate does for good once it is set up: what is loaded now is there to stay
        from callgate.net.serve import run as serve

        raise typer.Exit(serve(load_or_exit(config)))
