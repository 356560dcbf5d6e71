"""What ops sees of the gate: the shared values, and which place means what."""

from __future__ import annotations

import json
import mmap
import os
import threading
import time
from collections.abc import Iterator

from callgate.proxy.telemetry.meters import (
    DATABASE_UP,
    HEARTBEAT,
    LISTENERS,
    METRICS,
    STATE,
    STATES,
    STORE_UP,
    width,
)

Labels = dict[str, str]


class View:
    """A read-only look at the memory of `net.shared.Shared`, by inherited descriptors.

    It may be read at any moment: a double is read whole; a sum and its buckets may be one observation apart.
    """

    def __init__(self, values_fd: int, layout_fd: int) -> None:
        size = os.fstat(values_fd).st_size
        self._map = mmap.mmap(values_fd, size, access=mmap.ACCESS_READ)
        self._bytes = memoryview(self._map)
        self.values: memoryview[float] = self._bytes.cast("d")
        self._layout_fd = layout_fd
        self._read_to = 0
        self._refreshing = threading.Lock()
        self._series: dict[str, list[tuple[Labels, int]]] = {name: [] for name in METRICS}

    def refresh(self) -> None:
        """Take in the series made since the last look. From any thread."""
        with self._refreshing:
            self._refresh()

    def _refresh(self) -> None:
        data = bytearray()
        # The descriptor shares its position with the gate's: only reads that name theirs are safe.
        while chunk := os.pread(self._layout_fd, 1 << 20, self._read_to + len(data)):
            data += chunk
        whole = data.rfind(b"\n") + 1
        self._read_to += whole
        for line in data[:whole].splitlines():
            self._take(line)

    def series(self) -> Iterator[tuple[str, list[tuple[Labels, int]]]]:
        """Every metric in the order of `METRICS` with its series: label names and values, and the place."""
        yield from self._series.items()

    @property
    def age(self) -> float:
        """Seconds since the gate's loop last turned."""
        return max(0.0, time.monotonic() - self.values[HEARTBEAT])

    @property
    def state(self) -> str:
        """One of `STATES`."""
        return STATES[int(self.values[STATE])]

    @property
    def listeners(self) -> int:
        """SIP listeners that are bound."""
        return int(self.values[LISTENERS])

    def gateways(self) -> dict[str, dict[str, bool]]:
        """Trunk → gateway → whether it is used."""
        found: dict[str, dict[str, bool]] = {}
        for labels, up in self._shown("trunk_up"):
            found.setdefault(labels["trunk"], {})[labels["gateway"]] = up == 1.0
        return found

    def registered(self) -> dict[str, bool]:
        """Trunk → whether it holds a registration of the gate, for those that want one."""
        return {labels["trunk"]: up == 1.0 for labels, up in self._shown("registered")}

    def _shown(self, metric: str) -> Iterator[tuple[Labels, float]]:
        """The series of a metric that are not ABSENT, and their values."""
        self.refresh()
        return (
            (labels, self.values[at])
            for labels, at in self._series[metric]
            if self.values[at] == self.values[at]
        )

    @property
    def store_up(self) -> bool:
        """Whether the store of live limits answers."""
        return self.values[STORE_UP] == 1.0

    @property
    def database_up(self) -> bool:
        """Whether the database of records answers."""
        return self.values[DATABASE_UP] == 1.0

    def close(self) -> None:
        """Unmap; the descriptors stay with whoever opened them."""
        self.values.release()
        self._bytes.release()
        self._map.close()

    def _take(self, line: bytes | bytearray) -> None:
        index, name, labels = json.loads(line)
        metric = METRICS.get(name)
        # Not this program's: a gate that was upgraded on disk while it ran starts a newer ops.
        if metric is None or len(labels) != len(metric.labels) or index + width(metric) > len(self.values):
            return
        self._series[name].append((dict(zip(metric.labels, labels, strict=True)), index))
