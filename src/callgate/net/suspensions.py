"""Suspensions, kept over a restart: `suspensions.json` in `state_dir`, replaced as a whole at each change.

A file that can't be written is tried again, and meanwhile all holds in memory. One that makes no sense is put aside,
and the audit log says who was suspended.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from callgate.cdr.audit import read_lines
from callgate.net.trail import Trail, Written
from callgate.proxy.commands import Suspended
from callgate.proxy.contract.suspension import Suspension

FILE = "suspensions.json"
RETRY_SECONDS = 5.0
_VERSION = 1
_TYPES = {
    "key": (str,),
    "reason": (str,),
    "since": (int, float),
    "until": (int, float, type(None)),
    "by": (str,),
}


class Suspensions:
    """`on_fault` hears what is wrong, and an empty text when that is over."""

    def __init__(self, state_dir: Path, trail: Trail, on_fault: Callable[[str], None]) -> None:
        self.path = state_dir / FILE
        self._trail = trail
        self._on_fault = on_fault
        self._rows: tuple[Suspension, ...] = ()
        self._written: list[Written] = []  # since the last change began
        self._again: asyncio.TimerHandle | None = None

    def load(self) -> list[Suspension]:
        """What was kept. Where it can't be read: what the audit log says."""
        try:
            return _rows(self.path.read_bytes())
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            words = str(error)
            if isinstance(error, ValueError):
                words = self._put_aside(words)
            found, where = self._from_audit()
            self._on_fault(f"{self.path} can't be read ({words}); {where}")
            return found

    def keep(self, command: Suspended) -> None:
        """A suspension has changed. Returns at once; `settled` waits for the disk."""
        self._rows = command.rows
        what = "suspend" if command.after is not None else "resume"
        before, after = _plain(command.before), _plain(command.after)
        note = self._trail.note(what, command.key, before=before, after=after, who=command.by)
        self._written = [self._write(), note]

    async def settled(self) -> list[str]:
        """What was wrong with keeping the last change; empty where it is on the disk."""
        faults = [await asyncio.wrap_future(written) for written in self._written]
        return [fault for fault in faults if fault]

    def close(self) -> None:
        if self._again is not None:
            self._again.cancel()

    def _write(self) -> Written:
        loop = asyncio.get_running_loop()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        data = json.dumps(
            {"version": _VERSION, "suspensions": [row._asdict() for row in self._rows]}
        ).encode()
        written = self._trail.do(lambda: _replace(self.path, data))

        def heard(done: Written) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._told, done.result())

        written.add_done_callback(heard)
        return written

    def _told(self, fault: str) -> None:
        self._on_fault(fault)
        if fault and self._again is None:
            self._again = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._write)

    def _put_aside(self, words: str) -> str:
        aside = self.path.with_name(f"{FILE}.damaged")
        try:
            os.replace(self.path, aside)
        except OSError as error:
            return f"{words}; it can't be put aside either: {error.strerror}"
        return f"{words}; it is {aside.name} now"

    def _from_audit(self) -> tuple[list[Suspension], str]:
        """Who is suspended, as the audit log has it."""
        rows: dict[str, Suspension] = {}
        try:
            with closing(read_lines(self.path.parent)) as lines:
                for _, _, who, what, target, _, after in lines:
                    if what == "resume":
                        rows.pop(target, None)
                    elif what == "suspend" and after is not None:
                        rows[target] = _row(json.loads(after) | {"key": target, "by": who})
        except (OSError, sqlite3.Error, ValueError) as error:
            return [], f"nor can the audit log ({error}): no key is suspended"
        return list(rows.values()), "the audit log says who is suspended"


def _plain(row: Suspension | None) -> dict[str, Any] | None:
    return None if row is None else {"reason": row.reason, "since": row.since, "until": row.until}


def _row(fields: Any) -> Suspension:
    if not isinstance(fields, dict) or fields.keys() != _TYPES.keys():
        raise ValueError("not a suspension")
    for name, kinds in _TYPES.items():
        if type(fields[name]) not in kinds:
            raise ValueError(f"`{name}` of a suspension makes no sense")
    return Suspension(**fields)


def _rows(data: bytes) -> list[Suspension]:
    """The content of the file. ValueError where it makes no sense."""
    try:
        content = json.loads(data)
        if content["version"] != _VERSION:
            raise ValueError(f"it is of version {content['version']}")
        return [_row(fields) for fields in content["suspensions"]]
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"damaged: {error!r}") from None


def _replace(path: Path, data: bytes) -> str:
    """Written beside and moved into place, both on the disk before this returns; what is wrong."""
    beside = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(beside, path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        return f"{path} can't be written: {error.strerror}"
    return ""
