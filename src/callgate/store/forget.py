"""Taking calls out of the files of a journal (T12): what became of those that have ended, and what is left of their
messages.

A file that has nothing of them stays; another is written anew, without them and without what can't be read, and
takes its place in one step.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from callgate.proxy.restart.journal import LASTS, OVER, record_of
from callgate.proxy.telemetry.record import CallRecord
from callgate.store.frames import HEAD, Damage, Row, pieces
from callgate.store.recall import FOLDER, START, STOP, WHOLE, Start, files, read_calls, start_of

Wanted = Callable[[CallRecord, float], bool]
"""(record, what its times lack to UTC) → whether it is to be erased."""
Doomed = Callable[[Row, bytes], bool]
"""(row with its number in front, its frame) → whether it goes."""
ALWAYS: Final = frozenset((START, STOP, WHOLE, LASTS, OVER))
"""Kinds of rows in a file of calls that say nothing of a person, or count still."""


class Forgotten(NamedTuple):
    """`gone` calls that had ended; `left`: rows that stay, since a call is up or a limit counts."""

    gone: int
    left: int


def is_of(data: bytes, needles: Sequence[bytes]) -> bool:
    return any(needle in data for needle in needles)


def forget(state_dir: Path, wanted: Wanted, needles: Sequence[bytes]) -> Forgotten:
    """Erase in the journal of a gate that does not run (else `Journal.forget`). The calls that it would take up at its
    next start stay. Raises OSError."""
    folder = state_dir / FOLDER
    over = read_calls(folder)[0].over
    left = 0

    def ended(row: Row, data: bytes) -> bool:
        nonlocal left
        if row[1] not in ALWAYS and row[2] in over:
            return True
        left += is_of(data, needles)
        return False

    for path in files(folder, "calls"):
        _without(path, ended, needles, everything=True)
    return Forgotten(forget_stories(folder, wanted, needles), left)


def forget_stories(folder: Path, wanted: Wanted, needles: Sequence[bytes], but: Path | None = None) -> int:
    """Erase in the files of stories, except in one that is being written; how many calls that were. Raises OSError."""
    gone = 0
    for path in files(folder, "stories"):
        if path == but:
            continue
        start: Start | None = None

        def doomed(row: Row, data: bytes) -> bool:
            nonlocal start
            if row[1] == START:
                start = start_of(row[3:])
            if row[1] != OVER or len(row) != 7 or start is None or not is_of(data, needles):
                return False
            return wanted(record_of(row[5], start.fields), start.utc_offset)

        gone += _without(path, doomed, needles)
    return gone


def _without(path: Path, doomed: Doomed, needles: Sequence[bytes], everything: bool = False) -> int:
    """Write a file anew without the rows that are `doomed`, if it has any; how many. `everything`: look at a file in
    which no needle stands, too."""
    try:
        data = path.read_bytes()
        status = path.stat()
    except FileNotFoundError:  # it was too old, and has gone
        return 0
    if not everything and not is_of(data, needles):
        return 0
    kept, gone, end = [HEAD], 0, len(HEAD)
    damage = Damage()
    for row, begin, end in pieces(data, damage):
        piece = data[begin:end]
        if row is None:
            kept.append(bytes(end - begin))  # how much it was counts (`recall.Kept.untold`)
        elif len(row) > 2 and doomed(row, piece):
            gone += 1
        else:
            kept.append(piece)
    if gone or damage or end < len(data):  # the last was cut off when the process died
        _replace(path, b"".join(kept), status)
    return gone


def _replace(path: Path, data: bytes, status: os.stat_result) -> None:
    beside = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.utime(beside, ns=(status.st_atime_ns, status.st_mtime_ns))  # its age counts
        os.replace(beside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
