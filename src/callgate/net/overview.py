"""What a live view shows of a gate (`callgate top`): of each list the part that is on its screen, sorted and filtered
here, so that the answer is small however many keys and calls there are.

All of them are looked at for that, a slice at a time: a call waits for no more than one slice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import merge
from itertools import islice
from operator import itemgetter
from time import monotonic
from typing import Any, Final, TypeVar

from callgate.net.gate import Gate
from callgate.net.panes import SORTS
from callgate.net.rows import Row, Rows, stamp
from callgate.policy.claim import Members, Window
from callgate.proxy.calls.call import Call
from callgate.proxy.calls.context import Phase
from callgate.proxy.peers import Key, Trunk
from callgate.proxy.telemetry.record import CallRecord

COUNT_MAX: Final = 200
"""Rows of a list in one answer."""
FIRST_MAX: Final = 1_000_000
COUNT: Final = 20
"""Rows of a list where nobody says how many."""
TOLD: Final = 20
"""Trunks, and alerts, in one answer."""
SLICE_SECONDS: Final = 0.001
"""How long the loop looks at them at a time."""
STEP: Final = 32
"""Of how many the clock is read once."""

Thing = TypeVar("Thing")
Value = Callable[[Thing], Any]


class Overview:
    def __init__(self, gate: Gate, rows: Rows) -> None:
        self._gate = gate
        self._core = gate.core
        self._rows = rows

    async def look(self, asked: Row) -> Row:
        """`asked` as the operation's arguments have it. Of a list: `total`, how many match (`matching`), where the
        rows begin (`first`: no further than the last page), the `rows`."""
        now = monotonic()
        core = self._core
        only = asked.get("key")
        keys = list(self._gate.directory.keys.values())
        refused = self._gate.records.refused
        alerts = sorted(core.alerts.active(), key=lambda alert: SEVERITIES.get(alert.severity, 0))
        return {
            "now": stamp(now + core.utc_offset),
            "trunks": [self._trunk(one, now) for one in islice(self._gate.directory.trunks.values(), TOLD)],
            "alerts": {"total": len(alerts), "rows": [self._rows.alert(alert) for alert in alerts[:TOLD]]},
            "keys": await self._list(
                "keys", asked, keys, len(keys), self._key_values(now), _key_words, self._key_row
            ),
            "calls": await self._list(
                "calls",
                asked,
                (call for call in core.live() if only is None or call.key.id == only),
                core.live_calls,
                _CALL_VALUES,
                _call_words,
                self._call_row,
            ),
            "refusals": await self._list(
                "refusals",
                asked,
                [record for record in refused if only is None or record.key == only],
                len(refused),
                _REFUSAL_VALUES,
                _refusal_words,
                self._rows.refusal,
            ),
        }

    async def _list(
        self,
        pane: str,
        asked: Row,
        things: Iterable[Thing],
        total: int,
        values: Mapping[str, Value[Thing]],
        words: Callable[[Thing], str],
        row: Callable[[Thing], Row | None],
    ) -> Row:
        by = asked.get(f"{pane}_sort") or SORTS[pane][0]
        down = (by in HIGHEST_FIRST) is not asked.get(f"{pane}_reverse", False)
        wanted = asked.get(f"{pane}_filter", "").casefold()
        count = asked.get(f"{pane}_count", COUNT)
        if wanted:
            things = (thing for thing in things if wanted in words(thing).casefold())
        slices = await _sorted_slices(things, values[by], down)
        matching = sum(map(len, slices))
        first = min(asked.get(f"{pane}_first", 0), max(0, matching - count))
        found: list[Row] = []
        ranked = merge(*slices, key=itemgetter(0), reverse=down)
        async for _, thing in _in_turns(islice(ranked, first + count), first):
            shown = row(thing)
            if shown is not None:
                found.append(shown)
        return {"total": total, "matching": matching, "first": first, "rows": found}

    def _key_values(self, now: float) -> Mapping[str, Value[Key]]:
        core, store = self._core, self._gate.store

        def use(key: Key) -> float:
            most = 0.0
            for part in key.parts:
                if isinstance(part, Window | Members) and part.limit:
                    most = max(most, store.used(part.name, now) / part.limit)
            return most

        return {
            "use": use,
            "key": lambda key: key.id,
            "calls": lambda key: core.counts.active(key, 0) + core.counts.active(key, 1),
            "queued": lambda key: core.pacing.depth(key.id),
            "refused": lambda key: core.counts.refused.get(key.id, 0),
            "state": lambda key: (
                core.suspensions.of(key.id, now) is not None,
                key.congestion.raised,
                key.shadow,
            ),
        }

    def _key_row(self, key: Key) -> Row:
        return self._rows.key(key, monotonic())

    def _call_row(self, call: Call) -> Row | None:
        """None: it has ended since the list was made."""
        return None if call.phase is Phase.OVER else self._rows.call(call, monotonic())

    def _trunk(self, trunk: Trunk, now: float) -> Row:
        registered = [one.registered for one in self._core.registrations.all if one.trunk is trunk]
        return {
            "trunk": trunk.name,
            "registered": registered[0] if registered else None,
            "gateways": [
                {"gateway": gateway.name, "up": gateway.up, "why": _why(gateway.site.targets, now)}
                for gateway in islice(trunk.gateways, TOLD)
            ],
        }


HIGHEST_FIRST: Final = frozenset(("use", "calls", "queued", "refused", "state", "since", "at"))
SEVERITIES: Final = {"critical": -2, "warning": -1}

_CALL_VALUES: Final[Mapping[str, Value[Call]]] = {
    "since": lambda call: call.record.invite_at,
    "key": lambda call: call.key.id,
    "from": lambda call: call.record.caller_raw,
    "to": lambda call: call.record.raw,
    "state": lambda call: (call.phase, call.record.ringing_at is not None),
}
_REFUSAL_VALUES: Final[Mapping[str, Value[CallRecord]]] = {
    "at": lambda record: record.end_at or record.invite_at,
    "key": lambda record: record.key,
    "rule": lambda record: record.rule,
    "to": lambda record: record.raw,
}


def _key_words(key: Key) -> str:
    return f"{key.id} {key.trunk.name}"


def _call_words(call: Call) -> str:
    record = call.record
    number = call.call_id.decode("utf-8", "replace")
    return f"{call.key.id} {record.direction} {record.caller_raw} {record.raw} {record.gateway} {number}"


def _refusal_words(record: CallRecord) -> str:
    about = f"{record.key} {record.direction} {record.caller_raw} {record.raw}"
    return f"{about} {record.rule} {record.reason} {record.call_id}"


def _why(targets: Iterable[Any], now: float) -> str:
    """What speaks against a gateway, empty for nothing."""
    for target in targets:
        health = target.health
        if health is None or health.spotless:
            continue
        if health.rest_until > now:
            return f"asks for a pause of {health.rest_until - now:.0f} s"
        if not health.up:
            return str(health.why)
    return ""


# -- without holding anybody up --------------------------------------------------------------------------------


class _Turns:
    """`due`: the loop has worked for long enough."""

    def __init__(self) -> None:
        self._until = monotonic() + SLICE_SECONDS

    @property
    def due(self) -> bool:
        return monotonic() >= self._until

    async def next(self) -> None:
        await asyncio.sleep(0)
        self._until = monotonic() + SLICE_SECONDS


async def _in_turns(things: Iterator[Thing], skip: int) -> Any:
    """All but the first `skip`, the loop turning in between."""
    turns = _Turns()
    for n, thing in enumerate(things):
        if n >= skip:
            yield thing
        if n % STEP == 0 and turns.due:
            await turns.next()


async def _sorted_slices(
    things: Iterable[Thing], value: Value[Thing], down: bool
) -> list[list[tuple[Any, Thing]]]:
    """(value, thing), sorted within each slice: to be merged. Equals keep their order."""
    slices: list[list[tuple[Any, Thing]]] = []
    here: list[tuple[Any, Thing]] = []
    turns = _Turns()
    for n, thing in enumerate(things):
        here.append((value(thing), thing))
        if n % STEP == 0 and turns.due:
            here.sort(key=itemgetter(0), reverse=down)
            slices.append(here)
            here = []
            await turns.next()
    here.sort(key=itemgetter(0), reverse=down)
    slices.append(here)
    return slices
