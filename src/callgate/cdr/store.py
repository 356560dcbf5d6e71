"""One connection to the database of records: what one thread does with it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, select, text
from sqlalchemy.exc import DataError, IntegrityError

from callgate.cdr import outbox
from callgate.cdr.database import engine_of, identity, insert_in, prepare_file, sqlite_path
from callgate.cdr.erase import Erased, Selection, proof_of
from callgate.cdr.events import Event, Receiver, events_of
from callgate.cdr.row import NAMES, Row, written
from callgate.cdr.schema import cdr, dead_letters, migrate
from callgate.cdr.schema import outbox as letters

PRUNED = 500
"""Records deleted in one transaction."""
ASK_SECONDS = 5.0
SCRUB_SECONDS = 5.0
FIRST = ("id", "call_id", "key", "direction", "invite_at")
ADDED = ("attempts", "waited_seconds")
"""Of a call that was challenged and sent again with credentials: what the first has, and what they have together."""


class Store:
    """Raises what the database raises; after that, `close` and `connect` anew. `receivers` are told of every record."""

    def __init__(self, url: str, receivers: Sequence[Receiver] = ()) -> None:
        self._url = url
        self._receivers = receivers
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
        """One transaction, with the events of what is new. A record twice is one record."""
        values = [tuple(row.values()) for row in rows] if self.file is not None else list(rows)
        with self.connection.begin():
            known = self._known(rows) if self._receivers else {}
            self.connection.exec_driver_sql(self._insert, values)
            if self._receivers:
                outbox.put(self.connection, self._receivers, self._events(rows, known))
        self._used_at = time.monotonic()

    def tell(self, events: Sequence[Event]) -> None:
        """Put other events into the outbox, in one transaction."""
        with self.connection.begin():
            outbox.put(self.connection, self._receivers, events)
        self._used_at = time.monotonic()

    def replay(self, choice: outbox.Choice) -> outbox.Replayed:
        """Dead letters wait anew (`outbox.replay`)."""
        with self.connection.begin():
            return outbox.replay(self.connection, choice)

    def _known(self, rows: Sequence[Row]) -> dict[str, str]:
        """Id → end of those that are in the database."""
        ids = tuple({row["id"] for row in rows})
        marks = ", ".join(["?" if self.file is not None else "%s"] * len(ids))
        there = self.connection.exec_driver_sql(f"SELECT id FROM cdr WHERE id IN ({marks})", ids)
        known = [ident for (ident,) in there]
        if not known:  # as it is but for a re-send with credentials, and after a crash
            return {}
        ends = select(cdr.c.id, cdr.c.end_at).where(cdr.c.id.in_(known))
        return {ident: end or "" for ident, end in self.connection.execute(ends)}

    def _events(self, rows: Sequence[Row], known: Mapping[str, str]) -> Iterator[Event]:
        """What is told of these, which are in the database now: nothing of what was there already, as what a crash has
        left in the spill may be. A re-send with credentials is told as the record that it has become."""
        last = {row["id"]: row for row in rows}
        twice = known.keys() | {row["id"] for row in rows if last[row["id"]] is not row}
        whole: dict[str, Row] = {}
        if twice:
            there = select(cdr).where(cdr.c.id.in_(twice))
            whole = {one["id"]: dict(one) for one in self.connection.execute(there).mappings()}
        for ident, row in last.items():
            before = known.get(ident)
            if before is None:
                yield from events_of(whole.get(ident, row))
            elif (row["end_at"] or "") > before:
                yield from events_of(whole[ident], again=True)

    def prune(self, keep_days: float) -> bool:
        """Delete some of the records of calls older than that. True where there may be more."""
        before = datetime.now(UTC) - timedelta(days=keep_days)
        old = select(cdr.c.id).where(cdr.c.invite_at < written(before))
        with self.connection.begin():
            done = self.connection.execute(
                delete(cdr).where(cdr.c.id.in_(old.order_by(cdr.c.invite_at).limit(PRUNED)))
            )
        return done.rowcount >= PRUNED

    def prune_letters(self) -> bool:
        """The same for dead letters."""
        with self.connection.begin():
            return outbox.prune(self.connection, outbox.KEPT_DAYS)

    def erase(self, selection: Selection) -> Erased:
        """Delete for good: nothing of it stays in SQLite's free pages or its log, nor in PostgreSQL's table."""
        selection.check()
        connection = self.connection
        with connection.begin():
            done = connection.execute(delete(cdr).where(*selection.where).returning(cdr.c.id))
            ids = [one for (one,) in done]
            told = outbox.erase(connection, selection)
        if ids or told or self.file is not None:  # an earlier one may have been kept from it
            self._scrub(connection)
        return Erased(database=len(ids), proof=proof_of(ids), outbox=told)

    def _scrub(self, connection: Connection) -> None:
        """Once they are deleted, what is left of them goes too."""
        raw = connection.connection.driver_connection
        assert raw is not None
        if self.file is not None:
            end = time.monotonic() + SCRUB_SECONDS
            # `secure_delete` has overwritten the pages. Somebody who reads still keeps the log from being emptied.
            while raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                if time.monotonic() >= end:
                    raise TimeoutError("they are deleted, but somebody reads the database: erase once more")
                time.sleep(0.05)
        else:
            raw.autocommit = True
            try:
                raw.execute("SET statement_timeout = 0")
                for table in (cdr, letters, dead_letters):
                    raw.execute(f"VACUUM {table.name}")
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
    """The statement, made once: with that the driver takes rows as they are, at half the price.

    One that is there stays as it is, unless the new one ended later: that is the re-send, with credentials, of a call
    that was challenged, and both are one record.
    """
    insert = insert_in(connection.dialect.name)(cdr)
    later = insert.excluded
    both: dict[str, Any] = {name: later[name] for name in NAMES if name not in FIRST}
    both["sent_at"] = func.coalesce(cdr.c.sent_at, later.sent_at)
    for name in ADDED:
        both[name] = cdr.c[name] + later[name]
    statement = insert.on_conflict_do_update(
        index_elements=[cdr.c.id], set_=both, where=later.end_at > cdr.c.end_at
    )
    return str(statement.compile(dialect=connection.dialect, column_keys=NAMES))


def is_bad_row(error: Exception) -> bool:
    """Whether it is the values that the database does not take."""
    return isinstance(error, DataError | IntegrityError | UnicodeError | OverflowError)
