"""What goes into the database comes out of it: the same on SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, insert, inspect, text
from tests.cdr.support import kept, row

from callgate.cdr import schema
from callgate.cdr.database import engine_of, shown, words
from callgate.cdr.erase import Selection
from callgate.cdr.row import NAMES
from callgate.cdr.schema import SchemaError, check_version, migrate, version_of
from callgate.cdr.store import Store


@pytest.fixture
def store(url: str) -> Store:
    made = Store(url)
    made.connect()
    return made


def test_a_record_comes_back_as_it_was(url: str, store: Store) -> None:
    odd = row(raw="=cmd|' /C calc'!A0", caller_raw="a\"b\n'c\u2028\ud800\0", value=4, limit=3, rule="V1")
    plain = row(answer_at=None, waited=1.25, forwarded_of=0xABC)
    store.insert([odd, plain])
    found = kept(url)
    assert found == sorted([odd, plain], key=lambda one: one["id"])
    assert tuple(found[0]) == NAMES
    assert found[1]["invite_at"] == "2026-01-01T00:01:40.000000Z"
    assert found[1]["forwarded_of"] == "0000000000000abc"


def test_twice_is_once(url: str, store: Store) -> None:
    one = row()
    store.insert([one, one])
    store.insert([one | {"key": "other"}, row()])
    assert [found["key"] for found in kept(url)] == ["acme", "acme"]


def test_a_call_that_was_challenged_is_one_record(url: str, store: Store) -> None:
    """The 401 or 407, and the re-send with credentials: in whatever batches they come, and however often."""
    asked = row(answer_at=None, ringing_at=None, final_code=407, end_at=100.5, gateway="first")
    again = row(invite_at=100.6, sent_at=100.7, waited=0.5) | {"id": asked["id"], "call_id": asked["call_id"]}
    store.insert([asked, again, again])
    store.insert([asked])
    store.insert([again])
    times = {"invite_at": asked["invite_at"], "sent_at": asked["sent_at"]}
    assert kept(url) == [again | times | {"attempts": 2, "waited_seconds": 0.5}]


def test_all_or_nothing(url: str, store: Store) -> None:
    with pytest.raises(Exception, match=r"(?i)null"):
        store.insert([row(), row() | {"key": None}])
    store.insert([row()])
    assert len(kept(url)) == 1


def test_prune(url: str, store: Store) -> None:
    """What is older than that goes, some at a time; what is not stays."""
    old = [row(invite_at=float(n)) for n in range(501)]
    new = row() | {"invite_at": "2999-01-01T00:00:00.000000Z"}
    store.insert([*old, new])
    assert store.prune(0.001)
    assert not store.prune(0.001)
    assert kept(url) == [new]


@pytest.mark.parametrize(
    ("selection", "gone"),
    [
        (Selection(numbers=("+81312345678", "0312345678")), {"called", "calling", "other key"}),
        (Selection(numbers=("+81312345678",), key="acme"), {"called", "calling"}),
        (Selection(key="other"), {"other key", "elsewhere"}),
        (Selection(key="acme", before="2026-01-01T00:00:01.000000Z"), {"early"}),
    ],
)
def test_erase(url: str, store: Store, selection: Selection, gone: set[str]) -> None:
    elsewhere = {"raw": "0451111111", "canonical": "+81451111111"}
    rows = {
        "called": row(),
        "calling": row(**elsewhere, caller="+81312345678"),
        "other key": row(key="other"),
        "elsewhere": row(**elsewhere, key="other"),
        "early": row(**elsewhere, invite_at=0.0),
    }
    store.insert(list(rows.values()))
    assert {name for name, one in rows.items() if selection.matches(one)} == gone
    erased = store.erase(selection)
    assert erased.database == len(gone)
    left = {one["id"] for one in kept(url)}
    assert {name for name, one in rows.items() if one["id"] not in left} == gone
    assert store.erase(selection).database == 0


def test_nothing_of_it_is_left_in_the_file(tmp_path: Path) -> None:
    """Though pages were split, joined and written again meanwhile."""
    store = Store(f"sqlite:///{tmp_path}/a.db")
    store.connect()
    rows = [row(caller="+819011112222" if n % 3 else "", raw="9" * (n % 200)) for n in range(600)]
    Random(1).shuffle(rows)
    for n in range(0, 600, 50):
        store.insert(rows[n : n + 50])
        store.insert([one | {"end_at": "2999-01-01T00:00:00.000000Z"} for one in rows[n : n + 5]])
    assert store.erase(Selection(numbers=("+819011112222",))).database == 400
    assert b"+81312345678" in whole(tmp_path)
    assert b"+819011112222" not in whole(tmp_path)


def test_a_reader_that_keeps_it_in_the_log_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callgate.cdr.store.SCRUB_SECONDS", 0.1)
    store = Store(f"sqlite:///{tmp_path}/a.db")
    store.connect()
    store.insert([row(caller="+819011112222"), row()])
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM cdr").fetchone()
        with pytest.raises(TimeoutError, match="erase once more"):
            store.erase(Selection(numbers=("+819011112222",)))
        reader.execute("COMMIT")
    assert b"+819011112222" in whole(tmp_path)
    assert store.erase(Selection(numbers=("+819011112222",))).database == 0
    assert b"+819011112222" not in whole(tmp_path)


def whole(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def test_all_of_it_is_never_erased_by_mistake(store: Store) -> None:
    with pytest.raises(ValueError, match="name what"):
        store.erase(Selection(before="2999-01-01T00:00:00.000000Z"))


# -- the schema


def _second(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE cdr ADD COLUMN note TEXT"))


def _broken(connection: Connection) -> None:
    _second(connection)
    raise RuntimeError("half-way")


def test_an_older_database_is_brought_up_to_date(url: str) -> None:
    store = Store(url)
    store.connect()
    store.insert([row()])
    store.close()
    with closing(engine_of(url).connect()) as connection:
        with connection.begin():
            assert version_of(connection) == len(schema.MIGRATIONS)
        with pytest.raises(RuntimeError), connection.begin():
            migrate(connection, (*schema.MIGRATIONS, _broken))
        with connection.begin():  # nothing of a migration that failed
            assert version_of(connection) == len(schema.MIGRATIONS)
            assert "note" not in [column["name"] for column in inspect(connection).get_columns("cdr")]
        with connection.begin():
            assert migrate(connection, (*schema.MIGRATIONS, _second)) == 1
        with connection.begin():
            assert migrate(connection, (*schema.MIGRATIONS, _second)) == 0
    assert len(kept(url)) == 1
    with pytest.raises(SchemaError, match="newer CallGate"):
        store.connect()


def test_a_database_without_records_is_no_export() -> None:
    with pytest.raises(SchemaError, match="holds no records"):
        check_version(0)
    with pytest.raises(SchemaError, match="start the gate once"):
        check_version(1, 2)


def test_somebody_elses_database_stays_as_it_is(url: str) -> None:
    """Other tables are none of our business."""
    theirs = Table("theirs", MetaData(), Column("n", Integer))
    with closing(engine_of(url, write=True).connect()) as connection, connection.begin():
        theirs.create(connection)
        connection.execute(insert(theirs).values(n=1))
    store = Store(url)
    store.connect()
    assert store.connection.execute(text("SELECT n FROM theirs")).scalar() == 1


def test_two_at_once_make_one_schema(url: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        stores = [Store(url) for _ in range(4)]
        list(pool.map(Store.connect, stores))
    for store in stores:
        store.insert([row()])
    assert len(kept(url)) == 4


# -- SQLite's file


def test_the_file_is_nobody_elses_to_read(tmp_path: Path) -> None:
    Store(f"sqlite:///{tmp_path}/deep/a.db").connect()
    assert stat.S_IMODE((tmp_path / "deep" / "a.db").stat().st_mode) == 0o600


def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/a.db")
    store.connect()
    store.insert([row()])
    for path in tmp_path.iterdir():
        path.rename(path.with_name(path.name.replace("a.db", "b.db")))
    store.connect()
    store.insert([row()])
    assert len(kept(f"sqlite:///{tmp_path}/a.db")) == 1


def test_a_reader_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="unable to open"):
        engine_of(f"sqlite:///{tmp_path}/none.db", write=False).connect()
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("not a database, and long enough to be looked at as one\n" * 20)
    with pytest.raises(Exception, match="not a database") as caught:
        Store(f"sqlite:///{tmp_path}/a.db").connect()
    assert words(caught.value) == "file is not a database"


def test_words_hold_no_values(store: Store) -> None:
    bad = row(caller="+819011112222") | {"key": None}
    with pytest.raises(Exception, match=r"(?i)null") as caught:
        store.insert([bad])
    assert "9011112222" not in words(caught.value)


def test_no_password_is_shown() -> None:
    text = shown("postgresql://gate:hunter2@db.example.jp/callgate?password=hunter2&sslmode=require")
    assert "hunter2" not in text
    assert "db.example.jp/callgate" in text


def test_sqlite_is_new_enough() -> None:
    """ON CONFLICT, RETURNING."""
    assert sqlite3.sqlite_version_info >= (3, 35)
