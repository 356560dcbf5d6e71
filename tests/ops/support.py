"""What the tests of ops share."""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from callgate.net.ops_child import OpsChild
from callgate.net.shared import Shared

LONG = 60.0
"""A deadline that only a fault reaches."""

LOOPS: list[Any] = [pytest.param(asyncio.new_event_loop, id="asyncio")]
try:
    import uvloop
except ImportError:  # the program runs without it, and so do its tests
    pass
else:
    LOOPS.append(pytest.param(uvloop.new_event_loop, id="uvloop"))


def run(loop: Callable[[], asyncio.AbstractEventLoop], main: Coroutine[Any, Any, Any]) -> Any:
    """Run `main` on a loop of that kind."""
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main)


def gone(pidfd: int, seconds: float = LONG) -> bool:
    """Whether the process behind the descriptor ends within the time (a zombie has ended)."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def pidfd_open(pid: int) -> int:
    """A descriptor of a running process, which no later process of the same number can be taken for."""
    return os.pidfd_open(pid)


class Heard:
    """Collects what `OpsChild` tells, and waits for what it will tell."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._news = asyncio.Event()

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        self.events.append((event, fields))
        self._news.set()

    async def until(self, event: str, count: int = 1) -> dict[str, Any]:
        """The fields of the `count`th telling of `event`."""
        async with asyncio.timeout(LONG):
            while True:
                found = [fields for name, fields in self.events if name == event]
                if len(found) >= count:
                    return found[count - 1]
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def serving(shared: Shared) -> AsyncIterator[str]:
    """A real ops process on this test's memory; gives its address."""
    shared.beat(time.monotonic())
    child = OpsChild("http://127.0.0.1:0", shared.fds)
    try:
        assert await child.start(LONG)
        assert child.address is not None
        yield child.address
    finally:
        await child.stop()
