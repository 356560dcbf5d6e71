"""The tables of the database, and how an older database becomes one of today.

Each migration is a list of statements, run once and in order; what has run stands in `callgate_schema`. A database of
a newer program is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    func,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.types import TypeEngine

from callgate.cdr.row import COLUMNS, Kind, written


class Instant(TypeDecorator[str]):
    """A time: RFC 3339 text in Python and in SQLite, `timestamptz` in PostgreSQL, which reads that text itself."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        postgres = dialect.name == "postgresql"
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if postgres else Text())

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        if value is None or isinstance(value, str):
            return value
        return written(value)


_TYPES: Final[dict[Kind, Callable[[], TypeEngine[Any]]]] = {
    "text": Text,
    "time": Instant,
    "integer": Integer,
    "number": Double,
    "truth": Boolean,
}
metadata = MetaData()
cdr = Table(
    "cdr",
    metadata,
    *(
        Column(name, _TYPES[kind](), primary_key=name == "id", nullable=not needed)
        for name, kind, needed in COLUMNS
    ),
)
Index("cdr_by_time", cdr.c.invite_at, cdr.c.id)


def _letters(name: str, *more: Column[Any]) -> Table:
    """Events on their way to receivers: `at` is when it happened, or when the call began; `queued_at` when it was
    committed; `body` what is sent, to the byte."""
    return Table(
        name,
        metadata,
        Column("receiver", Text, primary_key=True),
        Column("key", Text, primary_key=True),
        Column("seq", BigInteger, primary_key=True, autoincrement=False),
        Column("id", Text, nullable=False),
        Column("type", Text, nullable=False),
        Column("at", Instant, nullable=False),
        Column("queued_at", Instant, nullable=False),
        Column("body", Text, nullable=False),
        *more,
        UniqueConstraint("receiver", "id"),
    )


outbox = _letters("outbox")
dead_letters = _letters(
    "dead_letter", Column("dead_at", Instant, nullable=False), Column("fault", Text, nullable=False)
)
lanes = Table(
    "outbox_lane",
    metadata,
    Column("receiver", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),  # the last one given
    Column(
        "version", BigInteger, nullable=False
    ),  # rises with what is done to it by hand: a replay, an erasure
)
receivers = Table(
    "outbox_receiver",
    metadata,
    Column("receiver", Text, primary_key=True),
    Column("disabled_at", Instant, nullable=False),  # it has answered 410
)
versions = Table(
    "callgate_schema", MetaData(), Column("version", Integer, primary_key=True, autoincrement=False)
)

Migration = Callable[[Connection], None]


def _first(connection: Connection) -> None:
    """The table of records."""
    metadata.create_all(connection, tables=[cdr])


def _second(connection: Connection) -> None:
    """The outbox."""
    metadata.create_all(connection, tables=[outbox, dead_letters, lanes, receivers])


MIGRATIONS: Final[tuple[Migration, ...]] = (_first, _second)
"""Version n is what the first n of these make. Each is frozen once it is released: a later change of a table is one
more at the end."""
LOCK: Final = 0x63616C6C67617465
"""Of PostgreSQL: two gates that start at once migrate one after the other."""


class SchemaError(Exception):
    """The database is not one that this program can use; says why, and the remedy."""


def version_of(connection: Connection) -> int:
    """0: nothing of ours is there."""
    if not inspect(connection).has_table(versions.name):
        return 0
    return int(connection.execute(select(func.max(versions.c.version))).scalar() or 0)


def migrate(connection: Connection, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """Bring the database up to date, in the transaction that is open; how many steps that took. Raises SchemaError."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    before = version_of(connection)
    check_version(before, len(migrations), newer_only=True)
    if before == len(migrations):
        return 0
    versions.create(connection, checkfirst=True)
    for number in range(before, len(migrations)):
        migrations[number](connection)
        connection.execute(insert(versions).values(version=number + 1))
    return len(migrations) - before


def check_version(found: int, known: int = len(MIGRATIONS), newer_only: bool = False) -> None:
    """Raises SchemaError where this program can't use a database of that version."""
    if found > known:
        raise SchemaError(
            f"the database is of version {found}, this program knows versions up to {known}: it was used by a newer"
            " CallGate; upgrade this one, or name another database"
        )
    if not newer_only and found < known:
        what = f"is of version {found}" if found else "holds no records of CallGate"
        raise SchemaError(
            f"the database {what}, this program needs version {known}: start the gate once with it"
        )
