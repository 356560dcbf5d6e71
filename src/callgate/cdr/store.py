"""One connection to the database of records: what one thread does with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError

from callgate.cdr.database import engine_of, identity, prepare_file, sqlite_path
from callgate.cdr.erase import Erased, Selection, proof_of
from callgate.cdr.row import NAMES, Row
from callgate.cdr.schema import cdr, migrate

PRUNED = 500
"""Records deleted in one transaction."""
ASK_SECONDS = 5.0


class Store:
    """Raises what the database raises; after that, `close` and `connect` anew."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.file = sqlite_path(url)
        self._identity: tuple[int, int] | None = None
        self._connection: Connection | None = None
        self._used_at = 0.0
        self._insert = ""

    def connect(self) -> None:
        """See that there is a connection that works, to a database of today's version."""
        now = time.monotonic()
        if self._connection is not None:
            if self.file is not None:
                if identity(self.file) == self._identity:
                    return
                self.close()  # the file was moved away: what is written there would be lost
            elif now - self._used_at < ASK_SECONDS:
                return
            else:
                with self._connection.begin():
                    self._connection.execute(text("SELECT 1"))
                self._used_at = now
                return
        if self.file is not None:
            prepare_file(self.file)
        connection = engine_of(self._url).connect()
        try:
            with connection.begin():
                migrate(connection)
        except BaseException:
            with suppress(Exception):
                connection.close()
            raise
        self._connection = connection
        self._insert = _insert(connection)
        self._identity = identity(self.file) if self.file is not None else None
        self._used_at = now

    @property
    def connection(self) -> Connection:
        assert self._connection is not None
        return self._connection

    def insert(self, rows: Sequence[Row]) -> None:
        """One transaction. A record that is there already stays as it is."""
        values = [tuple(row.values()) for row in rows] if self.file is not None else list(rows)
        with self.connection.begin():
            self.connection.exec_driver_sql(self._insert, values)
        self._used_at = time.monotonic()

    def prune(self, keep_days: float) -> bool:
        """Delete some of the records of calls older than that. True where there may be more."""
        before = datetime.now(UTC) - timedelta(days=keep_days)
        old = select(cdr.c.id).where(cdr.c.invite_at < f"{before:%Y-%m-%dT%H:%M:%S.%f}Z")
        with self.connection.begin():
            done = self.connection.execute(
                delete(cdr).where(cdr.c.id.in_(old.order_by(cdr.c.invite_at).limit(PRUNED)))
            )
        return done.rowcount >= PRUNED

    def erase(self, selection: Selection) -> Erased:
        """Delete for good: nothing of it stays in SQLite's free pages or its log, nor in PostgreSQL's table."""
        selection.check()
        connection = self.connection
        with connection.begin():
            done = connection.execute(delete(cdr).where(*selection.where).returning(cdr.c.id))
            ids = [one for (one,) in done]
        if ids:
            self._scrub(connection)
        return Erased(database=len(ids), proof=proof_of(ids))

    def _scrub(self, connection: Connection) -> None:
        """Once they are deleted, what is left of them goes too."""
        raw = connection.connection.driver_connection
        assert raw is not None
        if self.file is not None:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # `secure_delete` has overwritten the pages
        else:
            raw.autocommit = True
            try:
                raw.execute("SET statement_timeout = 0")
                raw.execute(f"VACUUM {cdr.name}")
                raw.execute("RESET statement_timeout")
            finally:
                raw.autocommit = False

    def close(self) -> None:
        """Give the connection up, whatever state it is in."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()


def _insert(connection: Connection) -> str:
    """The statement, made once: with that the driver takes rows as they are, at half the price."""
    insert = sqlite.insert(cdr) if connection.dialect.name == "sqlite" else postgresql.insert(cdr)
    statement = insert.on_conflict_do_nothing(index_elements=[cdr.c.id])
    return str(statement.compile(dialect=connection.dialect, column_keys=NAMES))


def is_bad_row(error: Exception) -> bool:
    """Whether it is the values that the database does not take."""
    return isinstance(error, DataError | IntegrityError | UnicodeError | OverflowError)
