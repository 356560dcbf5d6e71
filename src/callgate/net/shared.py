"""The gate's side of the memory that the ops process reads.

Two files without a name: the values, doubles in a sparse shared mapping, and the layout, one JSON line
`[index, metric, [label, …]]` per series, only ever appended to. Both go to ops as inherited descriptors. The
gate counts with a store to memory; whoever reads does so without asking the gate for anything.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import tempfile
from typing import Final

from callgate.proxy.telemetry.meters import (
    DATABASE_UP,
    HEARTBEAT,
    LISTENERS,
    RESERVED,
    STATE,
    STATES,
    STORE_UP,
    Meters,
)

CAPACITY: Final = 1 << 21
"""Doubles; 16 MB of address space, of which only what is touched takes memory. A key has some 40."""


def _nameless(name: str) -> int:
    """A descriptor of a file without a name, in memory, or on disk where memfd is not to be had."""
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC)
    except (AttributeError, OSError):  # an old kernel, or a sandbox that forbids the call
        with tempfile.TemporaryFile(prefix=name) as file:
            return os.dup(file.fileno())


class Shared:
    """Values and layout in shared memory; `meters` counts into it.

    `fds` are the descriptors (values, layout) to hand to ops. OSError where the system gives no memory.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        if capacity <= RESERVED:
            raise ValueError(f"capacity must be more than {RESERVED} doubles, got {capacity}")
        self._layout_end = 0
        self._unwritten = b""
        with contextlib.ExitStack() as undo:
            values_fd = _nameless("callgate-values")
            undo.callback(os.close, values_fd)
            os.ftruncate(values_fd, capacity * 8)
            layout_fd = _nameless("callgate-layout")
            undo.callback(os.close, layout_fd)
            self._map = mmap.mmap(values_fd, capacity * 8)
            undo.pop_all()
        self.fds = (values_fd, layout_fd)
        self._bytes = memoryview(self._map)
        self.values: memoryview[float] = self._bytes.cast("d")
        self.values[STORE_UP] = 1.0
        self.values[DATABASE_UP] = 1.0
        self.meters = Meters(self.values, self.publish)

    def beat(self, now: float) -> None:
        """The loop turned at `now` (`time.monotonic()`, which all processes of a machine share on Linux)."""
        self.values[HEARTBEAT] = now

    def state(self, state: str) -> None:
        """One of `STATES`, what /readyz goes by; ValueError for any other word."""
        self.values[STATE] = float(STATES.index(state))

    def listeners(self, count: int) -> None:
        """How many SIP listeners are bound: without one the gate is not ready."""
        self.values[LISTENERS] = float(count)

    def publish(self, index: int, metric: str, labels: tuple[str, ...]) -> None:
        """Append a series to the layout. Never raises: what can't be written goes with the next one."""
        line = json.dumps([index, metric, labels], separators=(",", ":")).encode("ascii") + b"\n"
        self._unwritten += line
        with contextlib.suppress(OSError):
            written = os.pwrite(self.fds[1], self._unwritten, self._layout_end)
            self._layout_end += written
            self._unwritten = self._unwritten[written:]

    def close(self) -> None:
        """Unmap and close; the meters can't be used any more."""
        self.values.release()
        self._bytes.release()
        self._map.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = (-1, -1)
