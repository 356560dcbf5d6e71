"""Gauges that show how much of each limit is used: read from the store, now and then, only where calls were."""

from __future__ import annotations

from callgate.policy.claim import Members, Window
from callgate.policy.congestion import Congestion
from callgate.policy.ledger import Store
from callgate.proxy.core import Core
from callgate.proxy.meters import Meters
from callgate.proxy.peers import Directory, Key

# The last part of a limit's name in the store → its gauges.
GAUGES = {
    "outbound_cps": ("rate_window_used", "rate_window_limit"),
    "inbound_calls": ("inbound_calls_used", "inbound_calls_limit"),
    "outbound_calls": ("outbound_calls_used", "outbound_calls_limit"),
    "lines": ("lines_used", "lines_limit"),
    "forwarded_calls": ("forwarded_active", "forwarded_limit"),
    "recordings": ("recordings_active", "recordings_limit"),
    "calls": ("calls_used", "calls_limit"),
}
AT_ONCE = 200
"""Keys refreshed in one go, so that many keys do not hold up a call."""


class Gauges:
    """`touched` marks a key whose counts may have changed; `refresh` reads those and forgets the quiet ones."""

    def __init__(self, directory: Directory, meters: Meters, store: Store, core: Core) -> None:
        self._meters = meters
        self._store = store
        self._core = core
        self._limits: dict[str, list[tuple[str, int]]] = {}  # key → (name in the store, place of its gauge)
        self._busy: set[str] = set()
        self._side = [meters.series("transactions_active", side) for side in ("server", "client")]
        self._dialogs = meters.series("dialogs_active")
        self._retransmissions = meters.series("retransmissions_total")
        self._levels: dict[str, tuple[Congestion, int]] = {}
        self._queues: dict[str, int] = {}  # key → place of its gauge
        for key in directory.keys.values():
            self._declare(key)

    def _declare(self, key: Key) -> None:
        self._levels[key.id] = key.congestion, self._meters.series("congestion_level", key.id)
        self._queues[key.id] = self._meters.series("queue_depth", key.id)
        limits = self._limits[key.id] = []
        parts = (*key.outbound, *key.inbound, *key.forwarded, *key.recorded)
        for part in {part.name: part for part in parts}.values():
            owner, _, field = part.name.partition("/")
            if (
                owner == key.id
                and field in GAUGES
                and isinstance(part, Window | Members)
                and part.limit is not None
            ):
                used, limit = GAUGES[field]
                limits.append((part.name, self._meters.series(used, key.id)))
                self._meters.set(limit, key.id, value=float(part.limit))

    def touched(self, key_id: str) -> None:
        self._busy.add(key_id)

    def refresh(self, now: float) -> None:
        """Bring the gauges up to date. Call a few times a second."""
        values = self._meters.values
        layer = self._core.layer
        values[self._side[0]] = float(len(layer.servers))
        values[self._side[1]] = float(len(layer.clients))
        values[self._dialogs] = float(len(self._core.by_call_id))
        values[self._retransmissions] = float(layer.retransmissions)
        self._busy |= self._core.take_touched()
        for key_id in list(self._busy)[:AT_ONCE]:
            quiet = True
            for name, place in self._limits.get(key_id, ()):
                used = self._store.used(name, now)
                values[place] = float(used)
                quiet = quiet and not used
            depth = self._core.pacing.depth(key_id)
            values[self._queues[key_id]] = float(depth)
            congestion, place = self._levels[key_id]
            level = congestion.level(now) if congestion.raised else 0
            values[place] = float(level)
            if quiet and not level and not depth:
                self._busy.discard(key_id)
