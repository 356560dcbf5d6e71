"""`python -m callgate.ops`: started by the gate, never by hand.

Descriptors 0 and 1 are pipes from and to the gate: 0 begins with a line (`settings`), and its end ends this process;
1 carries `ready URL` and a `beat` now and then. 2 goes where the gate's own errors go.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys

from callgate.ops import lifeline
from callgate.ops.settings import read


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """What the gate says at the start."""
    parser = argparse.ArgumentParser(prog="callgate.ops", description="Started by `callgate run`.")
    parser.add_argument("--gate", type=int, required=True, help="process id of the gate")
    parser.add_argument("--values-fd", type=int, required=True)
    parser.add_argument("--layout-fd", type=int, required=True)
    parser.add_argument("--bind", required=True, help="http://host:port")
    parser.add_argument("--store", default="memory", help="kind of store")
    parser.add_argument("--database", default="none", help="kind of database")
    parser.add_argument("--patience", type=float, default=10.0, help="seconds to try for the address")
    return parser.parse_args(argv)


def main() -> int:
    """Serve until the gate ends. 1: the address could not be bound."""
    args = arguments()
    lifeline.ignore_signals_for_the_gate()
    lifeline.die_with(args.gate)
    try:
        settings = read(0)
    except EOFError:
        return 0
    lifeline.end_at_eof(0)
    # What a library prints must not reach the pipe that the gate listens to.
    voice_fd = os.dup(1)
    os.dup2(2, 1)
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="ops: %(levelname)s %(name)s: %(message)s"
    )
    with contextlib.suppress(OSError):
        os.nice(5)  # on a machine with one processor a scrape waits for calls, not the other way round

    # Imported late: the lines above hold from the first moment, these imports take most of a second.
    from callgate.ops.app import make_app
    from callgate.ops.render import Page
    from callgate.ops.server import Voice, bind, serve
    from callgate.ops.view import View

    try:
        sock = bind(args.bind, args.patience)
    except OSError as error:
        print(
            f"ops: cannot listen on {args.bind}: {error}; is another program there? (config: ops)",
            file=sys.stderr,
        )
        return 1
    view = View(args.values_fd, args.layout_fd)
    page = Page(view, args.gate)
    serve(make_app(view, page, args.store, args.database, settings), sock, Voice(voice_fd))
    return 0


if __name__ == "__main__":
    sys.exit(main())
