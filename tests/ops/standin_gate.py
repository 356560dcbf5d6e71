"""A process that stands in for the gate: shares memory, runs ops, tells its pid and address, then waits."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from callgate.net.ops_child import OpsChild
from callgate.net.shared import Shared


async def main(bind: str) -> None:
    shared = Shared()
    shared.listeners(1)
    shared.state("ready")
    shared.beat(time.monotonic())
    child = OpsChild(bind, shared.fds)
    await child.start(60)
    print(json.dumps({"pid": child.pid, "address": child.address}), flush=True)
    await asyncio.Event().wait()


asyncio.run(main(sys.argv[1]))
