"""What is registered, kept over a restart: `registrations.db` in `state_dir`.

A thread of its own writes it, so the loop never waits for a disk; what changes while it writes goes into its next
commit. A file that can't be written is tried again, and meanwhile all goes on in memory; one that is damaged is put
aside and begun anew.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path

from callgate.proxy.identity.bindings import Row

FILE = "registrations.db"
RETRY_SECONDS = 5.0
CLOSE_SECONDS = 5.0
"""How long the end waits for the last commit."""
_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS registrations (
    key TEXT NOT NULL,
    user BLOB NOT NULL,        -- of the address-of-record; a number in its canonical form
    place INTEGER NOT NULL,    -- of the contact among the user's
    contact BLOB NOT NULL,
    path BLOB NOT NULL,        -- RFC 3327
    call_id BLOB NOT NULL,
    cseq INTEGER NOT NULL,
    expires_at REAL NOT NULL,  -- seconds since 1970, UTC
    listener TEXT NOT NULL,
    host TEXT NOT NULL,        -- where its REGISTER came from
    port INTEGER NOT NULL,
    PRIMARY KEY (key, user, place)
) WITHOUT ROWID;
"""
_COLUMNS = ", ".join(Row._fields)
_TYPES = (str, bytes, bytes, bytes, bytes, int, float, str, str, int)
_Users = dict[tuple[str, bytes], tuple[Row, ...]]


class Registrations:
    """`on_fault` hears, in words and from any thread, that the file can't be read or written."""

    def __init__(self, state_dir: Path, on_fault: Callable[[str], None]) -> None:
        self.path = state_dir / FILE
        self._on_fault = on_fault
        self._rows: _Users = {}  # all there is, for a file that must be begun anew
        self._pending: _Users = {}
        self._news = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="registrations", daemon=True)
        self._db: sqlite3.Connection | None = None

    def load(self, utc: float) -> list[Row]:
        """What was registered before the start and has not expired at `utc`. Then the thread runs."""
        found: list[Row] = []
        try:
            with closing(_open(self.path)) as db, db:
                db.execute("DELETE FROM registrations WHERE expires_at <= ?", (utc,))
                found = list(_rows(db))
        except (sqlite3.Error, OSError) as error:
            if _is_damaged(error):
                self._put_aside(error)
            else:
                self._on_fault(self._words(error))
        for row in found:
            self._rows[row.key, row.user] = (*self._rows.get((row.key, row.user), ()), row)
        self._thread.start()
        return found

    def keep(self, key: str, user: bytes, rows: tuple[Row, ...]) -> None:
        """These are the contacts of a user from now on. Returns at once."""
        with self._news:
            self._pending[key, user] = rows
            self._news.notify()

    def close(self) -> None:
        """Write what is left, for a bounded time."""
        with self._news:
            self._closing = True
            self._news.notify()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)

    # -- the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._pending or self._closing)
                batch, self._pending = self._pending, {}
                last = self._closing
            if batch and not self._written(batch):
                with self._news:
                    self._pending = batch | self._pending
                    if not last:
                        self._news.wait_for(lambda: self._closing, RETRY_SECONDS)
            if last:
                break
        self._forget_connection()

    def _written(self, batch: _Users) -> bool:
        """False where it has to be tried again."""
        for _ in range(2):
            try:
                self._write(batch)
                return True
            except (sqlite3.Error, OSError) as error:
                if not _is_damaged(error):
                    self._on_fault(self._words(error))
                    self._forget_connection()
                    return False
                self._put_aside(error)
            batch = dict(self._rows)
        return False

    def _write(self, batch: _Users) -> None:
        self._rows.update(batch)
        if self._db is None:
            self._db = _open(self.path)
        with self._db:
            for (key, user), rows in batch.items():
                self._db.execute("DELETE FROM registrations WHERE key = ? AND user = ?", (key, user))
                self._db.executemany(
                    f"INSERT INTO registrations ({_COLUMNS}, place) VALUES ({'?, ' * len(_TYPES)}?)",
                    [(*row, place) for place, row in enumerate(rows)],
                )
        for name, rows in batch.items():
            if not rows:
                self._rows.pop(name, None)

    def _forget_connection(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _put_aside(self, error: Exception) -> None:
        """A damaged file: kept beside for whoever wants to look, and a new one is begun."""
        self._forget_connection()
        aside = self.path.with_name(f"{FILE}.damaged")
        try:
            for end in ("-wal", "-shm"):
                self.path.with_name(FILE + end).unlink(missing_ok=True)
            os.replace(self.path, aside)
        except OSError as fault:
            self._on_fault(self._words(fault))
            return
        self._on_fault(f"{self.path} is damaged ({error}): it is {aside.name} now, and a new one is begun")

    def _words(self, error: Exception) -> str:
        return f"{self.path} can't be kept ({error}): what is registered will be lost with the process"


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # nobody else's to read
    db = sqlite3.connect(path, timeout=2.0)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError(f"it is of version {version}")
        with db:
            db.executescript(_SCHEMA)
            db.execute(f"PRAGMA user_version = {_VERSION}")
    except BaseException:
        db.close()
        raise
    return db


def _is_damaged(error: Exception) -> bool:
    """Its content makes no sense; all else (no space, read-only, locked) may pass."""
    if isinstance(error, sqlite3.OperationalError):
        return "no such column" in str(error)
    return isinstance(error, sqlite3.Error)


def _rows(db: sqlite3.Connection) -> Iterable[Row]:
    for values in db.execute(f"SELECT {_COLUMNS} FROM registrations ORDER BY key, user, place"):
        if all(type(value) is kind for value, kind in zip(values, _TYPES, strict=True)):
            yield Row(*values)
