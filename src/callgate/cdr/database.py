"""The database of records: SQLite or PostgreSQL, opened the way this program needs it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, Table, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

SQLITE_WAIT = 2.0
"""Seconds to wait for somebody else's lock."""
POSTGRES = {
    "connect_timeout": "5",
    "tcp_user_timeout": "5000",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "application_name": "callgate",
    "client_encoding": "utf8",
    "options": "-c statement_timeout=15000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=60000",
}
"""A server that is there and does not answer must show as one. What the URL says comes before these."""


def sqlite_path(url: str) -> Path | None:
    """The file of a database; None for a server's."""
    return Path(make_url(url).database or "") if url.startswith("sqlite:") else None


def shown(url: str) -> str:
    """The URL without its password."""
    made = make_url(url)
    query = {name: "***" if name == "password" else value for name, value in made.query.items()}
    return made.set(query=query).render_as_string(hide_password=True)


def engine_of(url: str, *, write: bool = True) -> Engine:
    """An engine for one thread that keeps its own connection. Nothing is opened yet. `write`: transactions take
    SQLite's write lock at once, and a file that is not there is made."""
    made = make_url(url)
    if made.get_backend_name() == "sqlite":
        return _sqlite(Path(made.database or ""), write)
    arguments = {name: value for name, value in POSTGRES.items() if name not in made.query}
    engine = create_engine(
        made.set(drivername="postgresql+psycopg"), poolclass=NullPool, connect_args=arguments
    )
    return engine if write else engine.execution_options(postgresql_readonly=True)


def _sqlite(path: Path, write: bool) -> Engine:
    # By URI, so that a reader makes no file.
    uri = f"{path.absolute().as_uri()}?mode={'rwc' if write else 'rw'}"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=SQLITE_WAIT, check_same_thread=False)

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver opens no transaction of its own: `begins` does
        if write:
            _write_ahead(connection)
            # Kill -9 loses nothing that was committed; a power cut may lose the last of it, and damages nothing.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA secure_delete = ON")  # what is erased (T12) is not left in free pages

    @event.listens_for(engine, "begin")
    def begins(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def insert_in(dialect: str) -> Callable[[Table], Any]:
    """The `insert` that knows ON CONFLICT. That of the database that is not there is not loaded: it takes a while."""
    if dialect == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert
    from sqlalchemy.dialects import postgresql

    return postgresql.insert


def _write_ahead(connection: Any) -> None:
    """Two that change a new file to this at once are told at once that it is locked: SQLite does not wait then."""
    end = time.monotonic() + SQLITE_WAIT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() >= end:
                raise
        time.sleep(0.01)


def prepare_file(path: Path) -> None:
    """The file of a database, nobody else's to read. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def identity(path: Path) -> tuple[int, int] | None:
    """Which file stands there now; None: none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def words(error: BaseException) -> str:
    """What is wrong, in one line and without the statement and its values, which are personal data."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    if isinstance(error, ModuleNotFoundError | ImportError) and "psycopg" in str(error):
        return "PostgreSQL needs psycopg 3, which is not installed: pip install 'psycopg[binary]'"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = next(iter(str(error).strip().splitlines()), "")  # PostgreSQL's next line shows the values
    return text[:300] or type(error).__name__
