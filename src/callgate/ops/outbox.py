"""`python -m callgate.ops.outbox`: takes events to their receivers; started by the gate, never by hand.

A process of its own: however slow a receiver is, and however many events there are, no call, no scrape and no
operator waits for it. The first line on descriptor 0 says where to and with what secrets, as JSON; the end of 0 ends
this process. 1 carries `ready`, `beat`, and a `report` of each receiver now and then.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from callgate.ops import lifeline
from callgate.ops.settings import first_line

BEAT_SECONDS = 2.0


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Of what the gate says to each of its children, this one needs its process id."""
    parser = argparse.ArgumentParser(prog="callgate.ops.outbox", description="Started by `callgate run`.")
    parser.add_argument("--gate", type=int, required=True, help="process id of the gate")
    known, _ = parser.parse_known_args(argv)
    return known


async def _serve(first: bytes, voice_fd: int) -> None:
    from callgate.cdr.courier import Courier
    from callgate.cdr.events import Receiver
    from callgate.ops.server import Voice

    said = json.loads(first)
    receivers = [
        Receiver(**one | {"events": tuple(one["events"]), "keys": tuple(one["keys"])})
        for one in said["receivers"]
    ]
    courier = Courier(said["database"], receivers)
    voice = Voice(voice_fd)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def over() -> None:
        if not _read():  # the gate has closed its side
            loop.remove_reader(0)
            ended.set()

    os.set_blocking(0, False)
    loop.add_reader(0, over)
    run = asyncio.create_task(courier.run())
    voice.say("ready outbox")
    try:
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_SECONDS):
                    await ended.wait()
            _say(voice, courier.reports, {"fault": courier.fault, "standby": courier.standby})
    finally:
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run
        _say(voice, courier.reports, {"fault": courier.fault, "standby": courier.standby})


def _read() -> bytes:
    try:
        return os.read(0, 4096)
    except BlockingIOError:
        return b"-"
    except OSError:
        return b""


def _say(voice: Any, reports: Any, state: dict[str, Any]) -> None:
    voice.say("beat")
    for one in reports:
        row = one.row()
        row["fault"] = row["fault"][:300]
        voice.say(
            "report " + json.dumps(row | {"database": state["fault"][:300], "standby": state["standby"]})
        )


def main() -> int:
    """Deliver until the gate ends."""
    args = arguments()
    lifeline.ignore_signals_for_the_gate()
    lifeline.die_with(args.gate)
    voice_fd = os.dup(1)
    os.dup2(2, 1)
    with contextlib.suppress(OSError):
        os.nice(5)  # calls first
    try:
        first = first_line(0)
    except EOFError:
        return 0
    _runner()(_serve(first, voice_fd))
    return 0


def _runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    """uvloop where it can be had: the gate has said so where not."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return lambda main: uvloop.run(main)


if __name__ == "__main__":
    sys.exit(main())
