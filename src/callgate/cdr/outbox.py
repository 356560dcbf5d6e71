"""The outbox: events that receivers have not got yet, in the database of records, in the transaction that keeps the
record; and the dead letters, which no attempt has delivered in time.

A lane is what goes to one receiver about one key. Numbers (`seq`) are given in it under a lock that is held until the
commit, so whoever sees a number sees all before it: that is the order of delivery.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)

from callgate.cdr.database import insert_in
from callgate.cdr.erase import Selection
from callgate.cdr.events import Event, Receiver, stamp_of
from callgate.cdr.schema import dead_letters, lanes, outbox, receivers

COLUMNS: Final = tuple(outbox.c.keys())
KEPT_DAYS: Final = 30.0
"""Dead letters go after so many days: they are personal data."""
MOVED: Final = 500
"""Letters in one statement."""


class Letter(NamedTuple):
    """One event for one receiver, as it lies in the outbox."""

    receiver: str
    key: str
    seq: int
    id: str
    type: str
    at: str
    queued_at: str
    body: str


class Lane(NamedTuple):
    receiver: str
    key: str
    seq: int
    version: int


def put(connection: Connection, to: Sequence[Receiver], events: Iterable[Event]) -> None:
    """Add events, in the transaction that is open."""
    wanted = [
        (event, around, names)
        for event in events
        if (names := [one.name for one in to if one.wants(event)])
        for around in (event.around(),)  # once, however many want it
    ]
    if not wanted:
        return
    last = _take_numbers(
        connection, Counter((name, event.key) for event, _, names in wanted for name in names)
    )
    now = _now()
    rows = []
    for event, (before, after), names in wanted:
        for name in names:
            last[name, event.key] = seq = last[name, event.key] + 1
            body = f"{before}{seq}{after}"
            rows.append((name, event.key, seq, event.id, event.type, event.began or event.at, now, body))
    connection.exec_driver_sql(_ADD.format(_group(connection, len(COLUMNS))), rows)


def _take_numbers(connection: Connection, counts: Mapping[Place, int]) -> dict[Place, int]:
    """So many numbers in each lane; the last one given before."""
    found = {}
    # In order: two gates that each have some of the lanes must not wait for each other.
    ordered = sorted(counts.items())
    for at in range(0, len(ordered), BUMPED):
        some = ordered[at : at + BUMPED]
        values = tuple(value for (receiver, key), count in some for value in (receiver, key, count))
        statement = _BUMP.format(", ".join([_group(connection, 3, ", 0")] * len(some)))
        for receiver, key, seq in connection.exec_driver_sql(statement, values):
            found[receiver, key] = seq - counts[receiver, key]
    return found


def _group(connection: Connection, count: int, more: str = "") -> str:
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    return f"({', '.join([mark] * count)}{more})"


Place = tuple[str, str]
"""Receiver, key."""
BUMPED: Final = 200
"""Lanes in one statement."""
# As text, which both databases read and their drivers take as it is: made by SQLAlchemy they take five times as long.
_ADD: Final = (
    "INSERT INTO outbox (" + ", ".join(f'"{name}"' for name in COLUMNS) + ") VALUES {}"
    " ON CONFLICT (receiver, id) DO NOTHING"
)
_BUMP: Final = (
    'INSERT INTO outbox_lane (receiver, "key", seq, version) VALUES {}'
    ' ON CONFLICT (receiver, "key") DO UPDATE SET seq = outbox_lane.seq + excluded.seq'
    ' RETURNING receiver, "key", seq'
)


def all_lanes(connection: Connection) -> list[Lane]:
    return [Lane(*one) for one in connection.execute(select(lanes))]


def head(connection: Connection, receiver: str, key: str, count: int) -> list[Letter]:
    """The oldest letters of a lane."""
    asked = {"of": receiver, "about": key, "count": count}
    return [Letter(*one) for one in connection.execute(_HEAD, asked)]


def delivered(connection: Connection, done: Sequence[Letter]) -> None:
    """They have arrived. Not those that are in the outbox anew."""
    if done:
        connection.execute(_TAKE, [{"of": one.receiver, "about": one.key, "number": one.seq} for one in done])


_mine = and_(outbox.c.receiver == bindparam("of"), outbox.c.key == bindparam("about"))
_HEAD: Final = select(outbox).where(_mine).order_by(outbox.c.seq).limit(bindparam("count"))
_TAKE: Final = delete(outbox).where(_mine, outbox.c.seq == bindparam("number"))
_place = tuple_(outbox.c.receiver, outbox.c.key, outbox.c.seq)
_dead_place = tuple_(dead_letters.c.receiver, dead_letters.c.key, dead_letters.c.seq)


def give_up(connection: Connection, receiver: str, key: str | None, before: str, fault: str) -> int:
    """What was queued before becomes a dead letter, some at a time; how many."""
    old = select(outbox).where(outbox.c.receiver == receiver, outbox.c.queued_at < before)
    if key is not None:
        old = old.where(outbox.c.key == key)
    rows = [dict(one) for one in connection.execute(old.order_by(outbox.c.seq).limit(MOVED)).mappings()]
    if rows:
        now = _now()
        connection.execute(
            insert(dead_letters), [row | {"dead_at": now, "fault": fault[:300]} for row in rows]
        )
        names = [(row["receiver"], row["key"], row["seq"]) for row in rows]
        connection.execute(delete(outbox).where(_place.in_(names)))
    return len(rows)


def disable(connection: Connection, receiver: str) -> None:
    """It has answered 410: nothing more is sent until a replay."""
    add = insert_in(connection.dialect.name)(receivers)
    connection.execute(add.values(receiver=receiver, disabled_at=_now()).on_conflict_do_nothing())


def disabled(connection: Connection) -> set[str]:
    return set(connection.execute(select(receivers.c.receiver)).scalars())


def counts(connection: Connection) -> dict[str, tuple[int, int]]:
    """Receiver → letters that wait, dead ones."""
    found: dict[str, tuple[int, int]] = {}
    for place, table in enumerate((outbox, dead_letters)):
        for name, count in connection.execute(
            select(table.c.receiver, func.count()).group_by(table.c.receiver)
        ):
            both = list(found.get(name, (0, 0)))
            both[place] = count
            found[name] = both[0], both[1]
    return found


class Choice(NamedTuple):
    """Which letters; None: any. `ids`: those of events."""

    receiver: str | None = None
    key: str | None = None
    ids: tuple[str, ...] = ()

    def where(self, table: Any) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if self.receiver is not None:
            found.append(table.c.receiver == self.receiver)
        if self.key is not None:
            found.append(table.c.key == self.key)
        if self.ids:
            found.append(table.c.id.in_(self.ids))
        return found


def listing(connection: Connection, choice: Choice, states: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Letters as `outbox list` shows them, the dead ones first, in the order of delivery in each lane."""
    off = disabled(connection)
    for state, table in (("dead", dead_letters), ("pending", outbox)):
        if state not in states:
            continue
        names = [column for column in table.c if column.name != "body"]
        order = table.c.receiver, table.c.key, table.c.seq
        for one in connection.execute(select(*names).where(*choice.where(table)).order_by(*order)).mappings():
            row = {"state": "disabled" if state == "pending" and one["receiver"] in off else state, **one}
            yield row | {"dead_at": row.get("dead_at"), "fault": row.get("fault")}


class Replayed(NamedTuple):
    """How many dead letters wait anew, and which receivers are switched on again."""

    letters: int
    enabled: tuple[str, ...]

    def row(self) -> dict[str, Any]:
        return {"replayed": self.letters, "enabled": list(self.enabled)}


class UnknownLetter(Exception):
    """There is no such dead letter, or receiver."""


def replay(connection: Connection, choice: Choice) -> Replayed:
    """Dead letters wait anew, each at its old place; a receiver that answered 410 is tried anew. Raises
    UnknownLetter; then nothing is done."""
    rows = [
        dict(one)
        for one in connection.execute(
            select(dead_letters).where(*choice.where(dead_letters)).order_by(dead_letters.c.seq)
        ).mappings()
    ]
    missing = set(choice.ids) - {row["id"] for row in rows}
    if missing:
        raise UnknownLetter(f"there is no dead letter `{min(missing)}`")
    if choice.receiver is not None and not _known(connection, choice.receiver):
        raise UnknownLetter(
            f"nothing was ever for a receiver `{choice.receiver}`: `outbox list` shows their names"
        )
    now = _now()
    for at in range(0, len(rows), MOVED):
        some = rows[at : at + MOVED]
        again = [{name: row[name] for name in COLUMNS} | {"queued_at": now} for row in some]
        connection.execute(insert(outbox), again)
        names = [(row["receiver"], row["key"], row["seq"]) for row in some]
        connection.execute(delete(dead_letters).where(_dead_place.in_(names)))
    touched = {(row["receiver"], row["key"]) for row in rows}
    off = [receivers.c.receiver == choice.receiver] if choice.receiver is not None else []
    if choice.ids or choice.key is not None:
        off.append(receivers.c.receiver.in_({receiver for receiver, _ in touched}))
    enabled = list(
        connection.execute(delete(receivers).where(*off).returning(receivers.c.receiver)).scalars()
    )
    _touch(connection, sorted(touched))
    return Replayed(len(rows), tuple(sorted(enabled)))


def _known(connection: Connection, receiver: str) -> bool:
    return (
        connection.execute(select(lanes.c.seq).where(lanes.c.receiver == receiver).limit(1)).first()
        is not None
    )


def erase(connection: Connection, selection: Selection) -> int:
    """Delete what is about the numbers or the key (T12), sent or not; how many."""
    gone, touched = 0, set()
    for table in (outbox, dead_letters):
        where: list[ColumnElement[bool]] = []
        if selection.numbers:
            quoted = [json.dumps(number) for number in selection.numbers]
            where.append(or_(*(table.c.body.contains(one, autoescape=True) for one in quoted)))
        if selection.key is not None:
            where.append(table.c.key == selection.key)
        if selection.before is not None:
            where.append(table.c.at < selection.before)
        done = connection.execute(delete(table).where(*where).returning(table.c.receiver, table.c.key))
        for receiver, key in done:
            gone += 1
            touched.add((receiver, key))
    _touch(connection, sorted(touched))
    return gone


def prune(connection: Connection, days: float) -> bool:
    """Delete some of the dead letters older than that. True where there may be more."""
    before = stamp_of(datetime.now(UTC).timestamp() - days * 86_400)
    old = select(dead_letters.c.receiver, dead_letters.c.key, dead_letters.c.seq)
    old = old.where(dead_letters.c.dead_at < before).limit(MOVED)
    return connection.execute(delete(dead_letters).where(_dead_place.in_(old))).rowcount >= MOVED


def _touch(connection: Connection, touched: Sequence[tuple[str, str]]) -> None:
    """Whoever delivers looks at these lanes anew."""
    for receiver, key in touched:
        mine = and_(lanes.c.receiver == receiver, lanes.c.key == key)
        connection.execute(update(lanes).where(mine).values(version=lanes.c.version + 1))


def _now() -> str:
    return stamp_of(datetime.now(UTC).timestamp())
