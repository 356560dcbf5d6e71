"""`callgate run`."""

from __future__ import annotations

import typer

from callgate.cli import ConfigPath, load_or_exit


def register(app: typer.Typer) -> None:
    @app.command("run")
    def run(config: ConfigPath) -> None:
        """Run the proxy (SIGTERM: let calls end, then stop)."""
        from callgate.net.serve import run as serve

        raise typer.Exit(serve(load_or_exit(config)))
