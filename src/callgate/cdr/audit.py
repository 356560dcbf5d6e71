"""The audit log (T13): who did what to the gate, when, and what it was before and after.

An append-only table in `state_dir`: the database itself refuses to change or delete a line. Written for changes
of state, never on the path of a message.
"""

from __future__ import annotations

import getpass
import json
import os
import sqlite3
from collections.abc import Generator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FILE = "audit.db"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,      -- RFC 3339, UTC
    who TEXT NOT NULL,     -- system user and process, or the name of an API token
    what TEXT NOT NULL,    -- start, drain, stop, reload, suspend …
    target TEXT NOT NULL,  -- the key, call or file concerned; empty: the gate
    before TEXT,           -- JSON
    after TEXT             -- JSON
);
CREATE TRIGGER IF NOT EXISTS audit_no_update BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS audit_no_delete BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
"""


class Audit:
    """The table in `state_dir`. Raises OSError or sqlite3.Error where it can't be kept."""

    def __init__(self, state_dir: Path) -> None:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = state_dir / FILE
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)  # nobody else's to read
        os.close(descriptor)
        self._db = sqlite3.connect(path, timeout=2.0)
        with closing(self._db.cursor()) as cursor:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.executescript(_SCHEMA)
        self._db.commit()

    def note(self, what: str, target: str = "", before: Any = None, after: Any = None, who: str = "") -> None:
        """Append one line; it is on the disk when this returns."""
        at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        with self._db:
            self._db.execute(
                "INSERT INTO audit (at, who, what, target, before, after) VALUES (?, ?, ?, ?, ?, ?)",
                (at, who or _process(), what, target, _json(before), _json(after)),
            )

    def close(self) -> None:
        self._db.close()


def read_lines(state_dir: Path) -> Generator[tuple[Any, ...], None, None]:
    """Every line of a gate's audit log, running or not, oldest first: (id, at, who, what, target, before, after).
    Raises FileNotFoundError where there is none, sqlite3.Error where it can't be read."""
    path = state_dir / FILE
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}")
    # Not as read-only: the reader of a log in WAL mode takes part in its bookkeeping.
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=2.0)) as db:
        yield from db.execute("SELECT id, at, who, what, target, before, after FROM audit ORDER BY id")


def _process() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        name = str(os.getuid())
    return f"{name} (pid {os.getpid()})"


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True)
