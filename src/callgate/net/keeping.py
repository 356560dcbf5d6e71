"""Call records on their way into the database, seen from the gate: what is handed over, what is counted, and what is
said when it goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import closing
from time import monotonic
from typing import Any, Final

from callgate.cdr.database import shown
from callgate.cdr.erase import Selection
from callgate.cdr.outbox import Choice, Replayed
from callgate.cdr.store import Store
from callgate.cdr.writer import State, Writer
from callgate.config import Config
from callgate.net.erasure import Holder, Note, erase
from callgate.net.gate import Gate
from callgate.net.outbox import Outbox, receivers_of
from callgate.net.reload import soon_switching
from callgate.proxy.commands import Alert
from callgate.proxy.meters import DATABASE_UP

LOSSES: Final[dict[str, tuple[str, str, Callable[[State], int]]]] = {
    "records-lost": (
        "critical",
        "call records are lost: neither the database nor `state_dir` can be written, and memory is full",
        lambda state: state.lost,
    ),
    "records-aside": (
        "warning",
        "call records that can't be read, or that the database refuses, are put aside in {folder}",
        lambda state: state.aside,
    ),
    "events-lost": (
        "warning",
        "events about alerts are lost: the database can't be written, and memory is full",
        lambda state: state.events_lost,
    ),
}
"""Counts that only grow: rule → severity and text of the alert about one more, and which count it is."""


class Keeping:
    """`writer` takes every record from now on. `look`: call it a few times a second."""

    def __init__(self, config: Config, gate: Gate) -> None:
        self.kind = config.database_url.partition(":")[0]
        self._url = config.database_url
        self._where = shown(config.database_url)
        self._state_dir = config.state_dir
        self._gate = gate
        self._told = dict.fromkeys(LOSSES, 0)
        receivers = receivers_of(config)
        self.writer = Writer(
            config.database_url, config.state_dir, keep_days=config.records.keep_days, receivers=receivers
        )
        gate.records.keep = self.writer.put
        self.outbox = Outbox(config, gate, self.writer, receivers)

    def start(self) -> None:
        """What was handed over, and what an earlier run has left, goes into the database from now on."""
        self.writer.start()
        self._count(self.writer.state)

    def look(self) -> None:
        """Bring metrics and alerts up to date."""
        state = self.writer.state
        self._count(state)
        alerts = self._gate.core.alerts
        database = Alert("database", "warning", "", self._database_words(state))
        if state.fault:
            alerts.stands(database)
        elif state.well:
            alerts.over(database)
        disk = Alert("disk", "critical", "", f"call records are in memory only: {state.spill_fault}")
        if state.spill_fault and state.held:
            alerts.stands(disk)
        elif not state.spill_fault:
            alerts.over(disk)
        self._losses(state)
        self._gate.turn_ends()

    async def erase(
        self, selection: Selection, note: Note, who: str, others: Iterable[Holder] = ()
    ) -> dict[str, Any]:
        """Erase what was asked for (`net.erasure`). The loop goes on meanwhile."""
        with soon_switching():
            return await asyncio.to_thread(erase, selection, self.writer.erase, note, who, others)

    async def replay(self, choice: Choice) -> Replayed:
        """Have dead letters sent once more. Raises UnknownLetter, and what the database raises."""

        def work() -> Replayed:
            with closing(Store(self._url)) as store:
                store.connect()
                return store.replay(choice)

        return await asyncio.to_thread(work)

    async def close(self) -> None:
        """Keep what is left."""
        state = await asyncio.to_thread(self.writer.close)
        self._count(state)
        lost = state.lost - self._told["records-lost"]
        if lost > 0 or state.waiting:
            self._gate.log.warning("records not in the database", lost=lost, spill_bytes=state.waiting)

    def _count(self, state: State) -> None:
        meters = self._gate.meters
        meters.set("records_lost_total", value=float(state.lost))
        meters.set("records_held", value=float(state.held))
        meters.set("records_spill_bytes", value=float(state.waiting))
        up = 0.0 if state.fault else 1.0
        meters.set("database_up", value=up)
        meters.values[DATABASE_UP] = up

    def _losses(self, state: State) -> None:
        for rule, (severity, text, count) in LOSSES.items():
            value = count(state)
            if value > self._told[rule]:
                self._told[rule] = value
                alert = Alert(rule, severity, "", text.format(folder=self._state_dir), value=value)
                self._gate.core.alert(alert, monotonic())

    def _database_words(self, state: State) -> str:
        where = "in memory" if self._state_dir is None else f"in {self._state_dir}"
        return f"call records can't be written to {self._where}: {state.fault}; they wait {where}"
