"""Gauges that show how much of each limit is used: read from the store, now and then, only where calls were."""

from __future__ import annotations

from itertools import islice

from callgate.net.watermarks import Watermarks
from callgate.policy.claim import Members, Window
from callgate.policy.congestion import Congestion
from callgate.policy.ledger import Store
from callgate.proxy.core import Core
from callgate.proxy.directory import Directory
from callgate.proxy.peers import Key
from callgate.proxy.telemetry.meters import ABSENT, LIMIT_GAUGES, Meters

AT_ONCE = 200
"""Keys refreshed in one go, so that many keys do not hold up a call."""


class Gauges:
    """`touched` marks a key whose counts may have changed; `refresh` reads those and forgets the quiet ones."""

    def __init__(self, directory: Directory, meters: Meters, store: Store, core: Core) -> None:
        self._meters = meters
        self._store = store
        self._core = core
        self._limits: dict[str, list[tuple[Window | Members, int]]] = {}  # key → (limit, place of its gauge)
        self._busy: dict[str, None] = {}  # in the order of the last reading
        self._marks = Watermarks(core.alert)
        self._side = [meters.series("transactions_active", side) for side in ("server", "client")]
        self._dialogs = meters.series("dialogs_active")
        self._retransmissions = meters.series("retransmissions_total")
        self._levels: dict[str, tuple[Congestion, int]] = {}
        self._queues: dict[str, int] = {}  # key → place of its gauge
        for key in directory.keys.values():
            self.declare(key)

    def declare(self, key: Key) -> None:
        """Show the limits of a key, new or changed; hide those that it has no more."""
        meters = self._meters
        self._levels[key.id] = key.congestion, meters.series("congestion_level", key.id)
        self._queues[key.id] = meters.series("queue_depth", key.id)
        limits = self._limits[key.id] = []
        parts = {part.name: part for part in key.parts}
        for name, (used, limit) in LIMIT_GAUGES.items():
            part = parts.get(f"{key.id}/{name}")
            if isinstance(part, Window | Members) and part.limit is not None:
                limits.append((part, meters.series(used, key.id)))
                meters.set(limit, key.id, value=float(part.limit))
            elif meters.has(limit, key.id):
                meters.set(used, key.id, value=ABSENT)
                meters.set(limit, key.id, value=ABSENT)
        self._busy[key.id] = None

    def slowed(self, key: Key) -> None:
        """How far a key is slowed is told by another object since."""
        self._levels[key.id] = key.congestion, self._levels[key.id][1]

    def drop(self, key_id: str) -> None:
        """A key that is gone is shown no more."""
        self._limits.pop(key_id, None)
        self._levels.pop(key_id, None)
        self._queues.pop(key_id, None)
        self._busy.pop(key_id, None)
        self._marks.drop(key_id)

    def touched(self, key_id: str) -> None:
        self._busy.setdefault(key_id)

    def refresh(self, now: float) -> None:
        """Bring the gauges up to date. Call a few times a second."""
        values = self._meters.values
        layer = self._core.layer
        values[self._side[0]] = float(len(layer.servers))
        values[self._side[1]] = float(len(layer.clients))
        values[self._dialogs] = float(len(self._core.by_call_id))
        values[self._retransmissions] = float(layer.retransmissions)
        for key_id in self._core.take_touched():
            self._busy.setdefault(key_id)
        for key_id in list(islice(self._busy, AT_ONCE)):
            del self._busy[key_id]
            quiet = True
            for part, place in self._limits.get(key_id, ()):
                used = self._store.used(part.name, now)
                values[place] = float(used)
                quiet = quiet and not used
                if part.limit is not None:
                    name = part.name.rpartition("/")[2]
                    self._marks.read(key_id, name, part.rule, used, part.limit, now)
            if key_id not in self._levels:  # a call of a key that is gone
                continue
            depth = self._core.pacing.depth(key_id)
            values[self._queues[key_id]] = float(depth)
            congestion, place = self._levels[key_id]
            level = congestion.level(now) if congestion.raised else 0
            values[place] = float(level)
            if not (quiet and not level and not depth):
                self._busy[key_id] = None  # the last next time: of many busy keys each has its turn
