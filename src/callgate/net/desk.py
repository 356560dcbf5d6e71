"""What an operator may ask a running gate for: one table, whoever asks.

The control socket serves it (`net.control`). A list is an iterator of rows, so that whoever sends it decides how many
at a time; all else answers with one object. What is done is done when the answer comes, and is in the audit log.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from heapq import nsmallest
from sys import maxsize
from time import monotonic
from typing import Any, Final, NamedTuple

import callgate
from callgate.cdr.database import words
from callgate.cdr.erase import selection_of
from callgate.cdr.outbox import Choice, UnknownLetter
from callgate.config import effective_limits
from callgate.config.arithmetic import limit_lines
from callgate.net.erasure import NotErased, journal, of_record, traces
from callgate.net.gate import Gate
from callgate.net.keeping import Keeping
from callgate.net.log import mask_number
from callgate.net.overview import COUNT_MAX, FIRST_MAX, Overview
from callgate.net.panes import SORTS
from callgate.net.reload import Reload
from callgate.net.rows import Row, Rows
from callgate.net.trail import Trail, Written
from callgate.proxy.calls.call import Call
from callgate.proxy.calls.context import Phase
from callgate.proxy.contract.suspension import REASON_MAX
from callgate.proxy.peers import Key
from callgate.proxy.sweep import Sweep

PATIENCE = 15.0
"""Seconds that an operation waits for what it has set going; what is then still open is said in the answer."""
LOOK = 0.02
"""Seconds between two looks at it."""
TEXT_MAX: Final = 1024

Answer = Row | Iterator[Row]


class Unfit(Exception):
    """Why a request is not carried out. `kind`: `usage`, it makes no sense; `unknown`, there is no such key or call;
    `failed`, it could not be done."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


class Argument(NamedTuple):
    """`kind` of its value: str, bool, or int, from `least` to `most`; `choices`: the values there are."""

    kind: type = str
    needed: bool = False
    choices: tuple[str, ...] = ()
    least: int = 1
    most: int = maxsize

    @property
    def range(self) -> str:
        """Of a number, in words."""
        return f"a number from {self.least}" + (f" to {self.most}" if self.most != maxsize else "")

    def fits(self, value: Any) -> bool:
        """Whether a number is not too small and not too large."""
        return self.kind is not int or self.least <= value <= self.most


class Operation(NamedTuple):
    """`handle(desk, arguments, who)`. `changes`: it does something to the gate, so it is not for everybody who may look
    (the role `operate` of an API token)."""

    handle: Callable[[Desk, Row, str], Awaitable[Answer]]
    arguments: Mapping[str, Argument] = {}
    changes: bool = False

    def read(self, given: Mapping[str, Any]) -> Row:
        """The arguments, checked. Raises Unfit."""
        for name in given:
            if name not in self.arguments:
                known = ", ".join(f"`{one}`" for one in self.arguments) or "none"
                raise Unfit("usage", f"unknown argument `{name[:60]}`; known: {known}")
        found: Row = {}
        for name, argument in self.arguments.items():
            value = given.get(name)
            if value is None:
                if argument.needed:
                    raise Unfit("usage", f"the argument `{name}` is missing")
                continue
            if type(value) is not argument.kind or not argument.fits(value):
                words = {str: "text", bool: "true or false", int: argument.range}[argument.kind]
                raise Unfit("usage", f"`{name}` must be {words}")
            if isinstance(value, str):
                _check_text(name, value)
            if argument.choices and value not in argument.choices:
                raise Unfit("usage", f"`{name}` must be one of {', '.join(argument.choices)}")
            found[name] = value
        return found


def _check_text(name: str, value: str) -> None:
    if len(value) > TEXT_MAX:
        raise Unfit("usage", f"`{name}` is longer than {TEXT_MAX} characters")
    if any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise Unfit("usage", f"`{name}` must be one line, without control characters")


class Desk:
    """Answers the operations for one gate."""

    def __init__(self, gate: Gate, reload: Reload, trail: Trail, keeping: Keeping) -> None:
        self._gate = gate
        self._core = gate.core
        self._reload = reload
        self._trail = trail
        self._keeping = keeping
        self._started = monotonic()
        self._rows = Rows(gate)
        self._overview = Overview(gate, self._rows)

    # -- the gate ------------------------------------------------------------------------------------------

    async def status(self, arguments: Row, who: str) -> Row:
        gate, core = self._gate, self._core
        return {
            "version": callgate.__version__,
            "pid": os.getpid(),
            "state": "draining" if core.draining else "ready",
            "uptime_seconds": round(monotonic() - self._started, 3),
            "config": str(gate.config.path),
            "listen": [str(section.uri) for section in gate.config.listen],
            "keys": len(gate.directory.keys),
            "trunks": len(gate.directory.trunks),
            "suspended": sum(key in gate.directory.keys for key in core.suspensions.all),
            "calls": core.live_calls,
        }

    async def overview(self, arguments: Row, who: str) -> Answer:
        return {"gate": await self.status({}, who)} | await self._overview.look(arguments)

    async def reload(self, arguments: Row, who: str) -> Answer:
        outcome = await self._reload.request(who)
        if outcome.faults:
            raise Unfit("failed", "reload refused, nothing has changed:\n" + "\n".join(outcome.faults))
        return outcome.changes

    # -- calls ---------------------------------------------------------------------------------------------

    async def calls_list(self, arguments: Row, who: str) -> Answer:
        key = arguments.get("key")
        if key is not None:
            self._key(key)
        now = monotonic()
        calls: Iterable[Call] = (call for call in self._core.live() if key is None or call.key.id == key)
        limit = arguments.get("limit")
        if limit is not None:
            after = _record_id(arguments.get("after", "0"))
            later = (call for call in calls if call.record.id > after)
            calls = nsmallest(limit, later, key=lambda call: call.record.id)
        return (self._rows.call(call, now) for call in calls)

    async def calls_release(self, arguments: Row, who: str) -> Answer:
        """All calls with that Call-ID, most often one. Where none of them can be released it says why."""
        calls = self._core.find_calls(arguments["call"])
        if not calls:
            raise Unfit("unknown", f"there is no call `{arguments['call']}`")
        now = monotonic()
        hangup = arguments.get("hangup", False)
        released: list[Row] = []
        notes, why = [], ""
        for call in calls:
            if call.phase is Phase.OVER:
                continue  # it was another one's other leg
            before = self._rows.call(call, now)
            refused = self._release(call, hangup, who, now)
            if refused:
                why = refused
                continue
            row = {"call_id": before["call_id"], "id": before["id"], "key": call.key.id, "hangup": hangup}
            # The audit log can't be erased: no number in it (T12).
            told = before | {name: mask_number(before[name]) for name in ("from", "to")}
            notes.append(self._trail.note("release", before["call_id"], before=told, after=row, who=who))
            released.append(row | {"freed": {} if hangup else before["lines"]})
        if not released:
            raise Unfit("failed", why)
        self._gate.turn_ends()
        warnings = [f"of {len(calls)} calls with this Call-ID, not all: {why}"] if why else []
        return released[0] | {"others": released[1:], "warnings": warnings + await _faults(*notes)}

    def _release(self, call: Call, hangup: bool, who: str, now: float) -> str:
        """Why it can't be released; empty where it is."""
        if hangup:
            done = self._core.end_early(call, f"hung up by {who}", now)
            return "" if done else "the call is being ended already"
        if call.phase is not Phase.UP:
            return "the call is not up yet, so its lines go when it ends: --hangup ends it"
        self._core.free_lines(call, f"its lines were released by {who}", now)
        return ""

    async def calls_reconcile(self, arguments: Row, who: str) -> Answer:
        sweep, tally = self._core.reconcile(monotonic())
        await self._until(lambda: not sweep.at_work and not tally.waits)
        row = {
            "calls": sweep.done,
            "asked": tally.asked,
            "alive": tally.lives,
            "silent": tally.silent + tally.waits,
            "freed": [
                {"call_id": call_id.decode("utf-8", "replace"), "reason": reason}
                for call_id, reason in tally.gone
            ],
        }
        note = self._trail.note("reconcile", after=row, who=who)
        return row | {"warnings": await _faults(note)}

    async def sip(self, arguments: Row, who: str) -> Answer:
        """The messages of a call, as they were on the wire."""
        gate = self._gate
        if gate.capture is None:
            raise Unfit("failed", "the gate keeps no messages: tracing is off, set `hep` in its config")
        found = gate.capture.of_call(arguments["call"], full_numbers=gate.config.log.full_numbers)
        return iter(await asyncio.to_thread(list, found))

    async def refusals_list(self, arguments: Row, who: str) -> Answer:
        return map(self._rows.refusal, reversed(list(self._gate.records.refused)))

    async def alerts_list(self, arguments: Row, who: str) -> Answer:
        return map(self._rows.alert, self._core.alerts.active())

    # -- keys ----------------------------------------------------------------------------------------------

    async def keys_list(self, arguments: Row, who: str) -> Answer:
        now = monotonic()
        one = arguments.get("key")
        known = self._gate.directory.keys
        keys = known.values() if one is None else [self._key(one)]
        limit = arguments.get("limit")
        if limit is not None:
            names = sorted(name for name in known if name > arguments.get("after", ""))
            keys = [known[name] for name in names[:limit]]
        return (self._rows.key(key, now) for key in keys)

    async def keys_arithmetic(self, arguments: Row, who: str) -> Answer:
        key, config = self._key(arguments["key"]), self._reload.config
        profile = config.profiles[key.trunk.name]
        lines = [line.strip() for line in limit_lines(effective_limits(config, key.id), profile)]
        return {"key": key.id, "trunk": key.trunk.name, "contract": profile.name, "lines": lines}

    async def keys_suspend(self, arguments: Row, who: str) -> Answer:
        key, now = self._key(arguments["key"]), monotonic()
        reason = arguments.get("reason", "").strip()
        if len(reason) > REASON_MAX:
            raise Unfit("usage", f"a reason has at most {REASON_MAX} characters")
        until = _when(arguments["until"]) if arguments.get("until") else None
        if until is not None and until <= now + self._core.utc_offset:
            raise Unfit("usage", f"`until` {arguments['until']} is past; the gate's clock says {_now()}")
        drop = arguments.get("calls", "keep") == "release"
        sweep = self._core.suspensions.suspend(key.id, now, reason=reason, until=until, by=who, drop=drop)
        self._gate.turn_ends()
        warnings = await self._kept("the key is suspended, but not over a restart")
        await self._until(lambda: not sweep.at_work)
        return self._rows.key(key, monotonic()) | _ended(sweep) | {"warnings": warnings}

    async def keys_resume(self, arguments: Row, who: str) -> Answer:
        key = arguments["key"]
        found = self._core.suspensions.resume(key, who)
        if found is None:
            self._key(key)
            raise Unfit("failed", f"key `{key}` is not suspended")
        self._gate.turn_ends()
        warnings = await self._kept("the key is resumed, but suspended again after a restart")
        present = self._gate.directory.keys.get(key)
        row = (
            self._rows.key(present, monotonic()) if present is not None else {"key": key, "state": "unknown"}
        )
        return row | {"was": found.words, "warnings": warnings}

    # -- records -------------------------------------------------------------------------------------------

    async def records_erase(self, arguments: Row, who: str) -> Answer:
        written: list[Written] = []

        def note(what: str, target: str, **fields: Any) -> None:
            written.append(self._trail.note(what, target, **fields))

        try:
            selection = selection_of(arguments.get("number"), arguments.get("key"), arguments.get("before"))
        except ValueError as error:
            raise Unfit("usage", str(error)) from None
        gate = self._gate
        gate.records.forget(of_record(selection), selection)
        others = [journal(gate.ledger.forget)] if gate.config.state_dir is not None else []
        if gate.capture is not None:
            others.append(traces(gate.capture.forget))
        try:
            done = await self._keeping.erase(selection, note, who, others)
        except NotErased as error:
            raise Unfit("failed", f"not all is erased: {error}") from None
        return done | {"warnings": [f"erased, but {fault}" for fault in await _faults(*written)]}

    # -- events ------------------------------------------------------------------------------------------

    async def outbox_replay(self, arguments: Row, who: str) -> Answer:
        ids = tuple(arguments.get("ids", "").split())
        choice = Choice(arguments.get("receiver"), arguments.get("key"), ids)
        try:
            done = await self._keeping.replay(choice)
        except UnknownLetter as error:
            raise Unfit("unknown", str(error)) from None
        except Exception as error:
            raise Unfit("failed", f"nothing is replayed: {words(error)}") from None
        row = done.row()
        target = choice.receiver or choice.key or ""
        note = self._trail.note("outbox replay", target, after=row | {"ids": list(ids)}, who=who)
        return row | {"warnings": await _faults(note)}

    async def events_list(self, arguments: Row, who: str) -> Answer:
        key, story = arguments.get("key"), self._gate.records.story
        if key is not None:
            self._key(key)
        return (
            {"at": one.at, "type": one.type, "key": one.key, "active": story.is_up(one.data["alert"])}
            | one.data
            for one in tuple(self._gate.records.events)
            if key is None or one.key == key
        )

    async def events_test(self, arguments: Row, who: str) -> Answer:
        receiver = arguments.get("receiver")
        try:
            found = await self._keeping.outbox.test(who, receiver)
        except Exception as error:
            raise Unfit("failed", f"what became of it can't be read: {words(error)}") from None
        if not found and receiver is not None:
            names = ", ".join(one.name for one in self._keeping.outbox.receivers) or "none"
            raise Unfit("unknown", f"`webhooks` has no receiver `{receiver}`; there is: {names}")
        if not found:
            raise Unfit(
                "failed", "no receiver in `webhooks` gets alerts of all keys; name one: --receiver NAME"
            )
        results = {row["receiver"]: row["result"] for row in found}
        note = self._trail.note("events test", receiver or "", after=results, who=who)
        return {"receivers": found, "warnings": await _faults(note)}

    def _key(self, key_id: str) -> Key:
        key = self._gate.directory.keys.get(key_id)
        if key is None:
            raise Unfit("unknown", f"there is no key `{key_id}`")
        return key

    async def _kept(self, what: str) -> list[str]:
        """What is wrong with keeping a suspension."""
        kept = self._gate.suspensions
        return [] if kept is None else [f"{what}: {fault}" for fault in await kept.settled()]

    # -- helpers -------------------------------------------------------------------------------------------

    async def _until(self, over: Callable[[], bool]) -> None:
        """Wait for what was set going, with patience."""
        self._gate.turn_ends()
        for _ in range(int(PATIENCE / LOOK)):
            if over():
                return
            await asyncio.sleep(LOOK)


def _ended(sweep: Sweep) -> Row:
    return {"calls_ended": sweep.done}


async def _faults(*written: Any) -> list[str]:
    return [fault for fault in [await asyncio.wrap_future(one) for one in written] if fault]


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _when(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time. Raises Unfit."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Unfit(
            "usage", f"`{text}` is no time; write it like 2026-04-01T09:00:00Z, or a span such as 2h"
        ) from None
    if at.tzinfo is None:
        raise Unfit("usage", f"`{text}` says no time zone; write `{text}Z` or `{text}+09:00`")
    return at.timestamp()


def _record_id(text: str) -> int:
    """Of 16 hex digits, as a row has it. Raises Unfit."""
    try:
        return int(text, 16)
    except ValueError:
        raise Unfit("usage", "`after` must be the `id` of a call") from None


KEY, CALL = Argument(needed=True), Argument(needed=True)
PAGE: Final = {"limit": Argument(int), "after": Argument()}
"""So many, in the order of their ids, beginning behind that one; without `limit` all, as they come."""

_OVERVIEW = {"key": Argument()}
for _pane, _orders in SORTS.items():
    _OVERVIEW |= {
        f"{_pane}_sort": Argument(choices=tuple(_orders)),
        f"{_pane}_reverse": Argument(bool),
        f"{_pane}_filter": Argument(),
        f"{_pane}_first": Argument(int, least=0, most=FIRST_MAX),
        f"{_pane}_count": Argument(int, most=COUNT_MAX),
    }

OPERATIONS: Final[Mapping[str, Operation]] = {
    "status": Operation(Desk.status),
    "overview": Operation(Desk.overview, _OVERVIEW),
    "reload": Operation(Desk.reload, changes=True),
    "calls.list": Operation(Desk.calls_list, {"key": Argument(), **PAGE}),
    "calls.release": Operation(Desk.calls_release, {"call": CALL, "hangup": Argument(bool)}, changes=True),
    "calls.reconcile": Operation(Desk.calls_reconcile, changes=True),
    "sip": Operation(Desk.sip, {"call": CALL}),
    "refusals.list": Operation(Desk.refusals_list),
    "alerts.list": Operation(Desk.alerts_list),
    "keys.list": Operation(Desk.keys_list, {"key": Argument(), **PAGE}),
    "keys.arithmetic": Operation(Desk.keys_arithmetic, {"key": KEY}),
    "keys.suspend": Operation(
        Desk.keys_suspend,
        {
            "key": KEY,
            "reason": Argument(),
            "until": Argument(),
            "calls": Argument(choices=("keep", "release")),
        },
        changes=True,
    ),
    "records.erase": Operation(
        Desk.records_erase, {"number": Argument(), "key": Argument(), "before": Argument()}, changes=True
    ),
    "outbox.replay": Operation(
        Desk.outbox_replay, {"ids": Argument(), "receiver": Argument(), "key": Argument()}, changes=True
    ),
    "events.list": Operation(Desk.events_list, {"key": Argument()}),
    "events.test": Operation(Desk.events_test, {"receiver": Argument()}, changes=True),
    "keys.resume": Operation(Desk.keys_resume, {"key": KEY}, changes=True),
}
"""Every operation there is, by name."""
