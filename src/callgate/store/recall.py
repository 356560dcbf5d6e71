"""What the files of a journal hold (`store.journal` writes them): read at a start, and by `callgate explain`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from callgate.proxy.restart.journal import LASTS, OVER, RINGS
from callgate.store.frames import SHORTEST, Damage, Row, row_around, rows

FOLDER: Final = "journal"
START: Final = "start"
WHOLE: Final = "whole"
STOP: Final = "stop"
ANY: Final = 1 << 40
"""Stands for as many as there can be."""
ADDS: Final = frozenset((RINGS,))
"""Kinds that add to the rows before them; all others replace them."""


class Start(NamedTuple):
    """The beginning of one process. `boot` names the run of the machine whose monotonic clock the rows use,
    `utc_offset` what that lacks to UTC, `listeners` and `fields` what rows count by place."""

    boot: str
    utc_offset: float
    listeners: tuple[str, ...]
    fields: tuple[str, ...]


class Kept(NamedTuple):
    """What was found at the start. `calls`: the rows of calls that were not over, each leg's in order; `sent`: the rows
    of long windows; `start` of the process that wrote them, None where nobody did; `last`: the time of the latest row,
    by its clock; `over`: legs of which it is known that they have ended; `stopped`: the process has ended in order;
    `lost`: what could not be read, in words, and `untold`: of how many tokens that may have told at most."""

    calls: list[Row]
    sent: list[Row]
    start: Start | None
    last: float
    over: frozenset[int]
    stopped: bool
    lost: str
    untold: int


def files(folder: Path, kind: str) -> list[Path]:
    """Oldest first; none where there is no such folder. Raises OSError."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    numbered = [name for name in names if name.startswith(f"{kind}-") and name.partition("-")[2].isdigit()]
    return [folder / name for name in sorted(numbered)]


def read_calls(folder: Path) -> tuple[Kept, int, int]:
    """What the files of calls hold, the highest serial in them, and the highest number of a file."""
    damage, troubles, unread = Damage(), [], 0
    best: dict[int, list[Row]] = {}
    serials: dict[int, int] = {}
    over: dict[int, int] = {}
    sent: dict[int, Row] = {}
    start: tuple[int, Start | None] = (0, None)
    highest, last, stopped = 0, float("-inf"), -1
    try:
        paths = files(folder, "calls")
        numbers = [int(p.name.partition("-")[2]) for p in (*paths, *files(folder, "stories"))]
    except OSError as error:
        lost = f"{folder} can't be read ({error.strerror})"
        return Kept([], [], None, last, frozenset(), False, lost, ANY), 0, 0
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError as error:
            troubles.append(f"{path.name} can't be read ({error.strerror})")
            unread += _most_in(path)
            continue
        here: dict[int, Row] = {}
        whole, places = False, damage.places
        for serial, kind, leg, *rest in _numbered(data, damage):
            highest = max(highest, serial)
            if kind == START:
                if serial > start[0]:
                    start = (serial, start_of(rest))
                continue
            if kind == STOP:
                stopped = serial
                continue
            if kind == WHOLE:
                whole = True
                continue
            if not rest or not isinstance(rest[0], float):
                continue
            last = max(last, rest[0])
            if kind == LASTS:
                here[serial] = (kind, leg, *rest)
            elif kind == OVER:
                over[leg] = max(over.get(leg, 0), serial)
            elif serial > serials.get(leg, 0):
                if kind in ADDS:
                    best.setdefault(leg, []).append((kind, leg, *rest))
                else:
                    best[leg] = [(kind, leg, *rest)]
                serials[leg] = serial
        if whole:
            sent = here  # all that counts of the files before it was taken over, under serials of its own
        elif not sent or damage.places > places:
            sent |= here
        # else it was left half-way: the file before it has it all
    order = sorted((leg for leg in best if serials[leg] > over.get(leg, 0)), key=serials.__getitem__)
    calls = [row for leg in order for row in best[leg] if best[leg][0][0] not in ADDS]
    if damage:
        troubles.append(f"{damage.octets} octets in {damage.places} places make no sense")
    lost = f"{folder}: " + "; ".join(troubles) if troubles else ""
    long = [sent[n] for n in sorted(sent)]
    ended = frozenset(over)
    kept = Kept(calls, long, start[1], last, ended, stopped == highest, lost, unread + damage.tokens)
    return kept, highest, max(numbers, default=0)


def _most_in(path: Path) -> int:
    """Of how many tokens a file may tell at most."""
    try:
        return path.stat().st_size // SHORTEST + 1
    except OSError:
        return ANY


def _numbered(data: bytes, damage: Damage) -> Iterator[Row]:
    for row in rows(data, damage):
        if len(row) > 2 and type(row[0]) is int and type(row[1]) is str and type(row[2]) is int:
            yield row


def start_of(values: Sequence[Any]) -> Start | None:
    try:
        boot, utc_offset, listeners, fields = values
        return Start(str(boot), float(utc_offset), tuple(listeners), tuple(fields))
    except (TypeError, ValueError):
        return None


def _start_before(data: bytes, at: int) -> Start | None:
    """The start that stands last before a place in a file."""
    while (at := data.rfind(START.encode(), 0, at)) >= 0:
        found = row_around(data, at)
        if found is not None and len(found[0]) > 3 and found[0][1] == START:
            return start_of(found[0][3:])
    return None


def find(state_dir: Path, call_id: bytes) -> Iterator[tuple[Start | None, Row]]:
    """Every row in the journal that is of a call, oldest first, with the start of the process that wrote it. Raises
    OSError at the end where not all could be read."""
    folder = state_dir / FOLDER
    fault: OSError | None = None
    for kind in ("stories", "calls"):
        for path in files(folder, kind):
            try:
                data = path.read_bytes()
            except FileNotFoundError:  # it was too old, and has gone
                continue
            except OSError as error:
                fault = error
                continue
            at = -1
            end = 0
            while (at := data.find(call_id, max(at + 1, end))) >= 0:
                found = row_around(data, at)
                if found is None:
                    continue
                row, end = found
                yield _start_before(data, at), row
    if fault is not None:
        raise fault
