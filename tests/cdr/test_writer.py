"""No record is lost, whatever becomes of the database and the disk; and none is kept twice."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from tests.cdr.postgres import Postgres
from tests.cdr.support import call, kept, row, until

from callgate.cdr.erase import Selection
from callgate.cdr.row import Row
from callgate.cdr.spill import DAMAGED, FILE, REFUSED, Spill, line_of
from callgate.cdr.store import Store
from callgate.cdr.writer import Writer

OFFSET = 1_767_225_600.0


class Broken(Store):
    """A database that can be away, slow or silent at the test's word."""

    def __init__(self, url: str, away: bool = False) -> None:
        super().__init__(url)
        self.away = away
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.batches: list[int] = []

    def connect(self) -> None:
        if self.away:
            raise OSError(111, "Connection refused")
        super().connect()

    def insert(self, rows: Sequence[Row]) -> None:
        self.may_go_on.wait(20)
        if self.away:
            raise OperationalError("", None, Exception("server closed the connection"))
        super().insert(rows)
        self.batches.append(len(rows))


class Rig:
    """A writer and its places."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.store = Broken(url)
        self.ids: list[str] = []
        self._writers: list[Writer] = []

    def writer(self, spill: bool = True, **how: object) -> Writer:
        made = Writer(self.url, self.folder if spill else None, store=self.store, **how)  # type: ignore[arg-type]
        self._writers.append(made)
        made.start()
        return made

    def end(self, writer: Writer, count: int = 1, **fields: object) -> None:
        """So many calls end."""
        for _ in range(count):
            record = call(**fields)
            self.ids.append(f"{record.id:016x}")
            writer.put(record, OFFSET)

    def spilled(self) -> list[str]:
        path = self.folder / FILE
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [line.split(b'"')[3].decode() for line in lines]

    def kept(self) -> list[str]:
        return [one["id"] for one in kept(self.url)]

    def close(self) -> None:
        self.store.may_go_on.set()
        for writer in self._writers:
            writer.close()


@pytest.fixture
def rig(url: str, tmp_path: Path) -> Iterator[Rig]:
    with closing(Rig(url, tmp_path / "state")) as made:
        yield made


def test_every_call_has_its_record(rig: Rig) -> None:
    writer = rig.writer()
    for _ in range(20):
        rig.end(writer, 10)
        time.sleep(0.005)
    until(lambda: writer.state.written == 200)
    assert rig.kept() == rig.ids
    assert writer.state.well
    assert len(rig.store.batches) < 20, "one transaction each"


def test_what_is_left_at_the_end_is_kept(rig: Rig) -> None:
    writer = rig.writer()
    rig.end(writer, 1000)
    state = writer.close()
    assert state.lost == state.held == state.waiting == 0
    assert rig.kept() == rig.ids


def test_away_at_the_start(rig: Rig) -> None:
    """Calls go on, their records wait in a file, and go over in order once it is back."""
    rig.store.away = True
    writer = rig.writer()
    rig.end(writer, 100)
    until(lambda: rig.spilled() == rig.ids)
    assert "Connection refused" in writer.state.fault
    rig.store.away = False
    until(lambda: writer.state.well)
    rig.end(writer, 5)
    until(lambda: writer.state.written == 105)
    assert rig.kept() == rig.ids
    assert rig.spilled() == []


def test_away_for_a_while_under_load(rig: Rig) -> None:
    writer = rig.writer()
    for n in range(120):
        if n == 20:
            rig.store.away = True
        if n == 80:
            rig.store.away = False
        rig.end(writer, 20)
        time.sleep(0.005)
    until(lambda: writer.state.well and writer.state.written >= len(rig.ids))
    assert rig.kept() == rig.ids
    assert writer.state.lost == 0


def test_silent_in_the_middle_of_a_batch(rig: Rig) -> None:
    """A database that hangs holds up nothing: within 100 ms the record is in the file. When it goes on, what it
    commits after all and what was spilled are one."""
    writer = rig.writer()
    rig.end(writer)
    until(lambda: writer.state.written == 1)
    rig.store.may_go_on.clear()
    rig.end(writer)
    until(lambda: rig.spilled() == rig.ids[1:])
    rig.end(writer, 3)
    until(lambda: rig.spilled() == rig.ids[1:])
    until(lambda: writer.state.fault == "it does not answer")
    rig.store.may_go_on.set()
    until(lambda: writer.state.well and not writer.state.held)
    assert rig.kept() == rig.ids


def test_left_by_an_earlier_run(rig: Rig) -> None:
    rig.store.away = True
    first = rig.writer()
    rig.end(first, 300)
    assert first.close().lost == 0
    assert rig.spilled() == rig.ids
    with (rig.folder / FILE).open("ab") as file:
        file.write(b"cut o")
    rig.store.away = False
    second = rig.writer()
    rig.end(second, 10)
    until(lambda: second.state.well and second.state.written >= 310)
    assert rig.kept() == rig.ids
    assert (rig.folder / DAMAGED).read_bytes() == b"cut o\n"
    assert second.state.aside == 1


def test_nowhere_to_write(rig: Rig) -> None:
    """Then memory, up to a bound; what is lost beyond is counted."""
    rig.folder.write_text("not a folder")
    rig.store.away = True
    writer = rig.writer(held=50)
    rig.end(writer, 40)
    until(lambda: writer.state.held == 40)
    until(lambda: bool(writer.state.spill_fault))
    rig.end(writer, 30)
    until(lambda: writer.state.lost == 20)
    assert writer.state.held == 50
    rig.store.away = False
    until(lambda: writer.state.well and not writer.state.held)
    assert rig.kept() == rig.ids[:50]
    assert writer.state.lost == 20


def test_memory_only(rig: Rig) -> None:
    rig.store.away = True
    writer = rig.writer(spill=False)
    rig.end(writer, 700)
    until(lambda: writer.state.held == 700)
    assert writer.state.spill_fault == ""
    rig.store.away = False
    until(lambda: not writer.state.held)
    assert rig.kept() == rig.ids
    assert not rig.folder.exists()


def test_from_memory_to_the_file_once_that_works(rig: Rig) -> None:
    rig.folder.write_text("not a folder")
    rig.store.away = True
    writer = rig.writer()
    rig.end(writer, 5)
    until(lambda: bool(writer.state.spill_fault))
    rig.folder.unlink()
    until(lambda: rig.spilled() == rig.ids)
    assert writer.state.held == 0
    assert writer.state.spill_fault == ""


def test_lost_at_the_end_is_counted(rig: Rig) -> None:
    rig.store.away = True
    writer = rig.writer(spill=False)
    rig.end(writer, 7)
    assert writer.close(0.5).lost == 7


def test_the_loop_never_waits(rig: Rig) -> None:
    """Where even the keeper hangs in a disk, what comes beyond the bound is lost and counted."""

    class Hanging(Spill):
        may_go_on = threading.Event()

        def append(self, rows: Sequence[Row]) -> None:
            self.may_go_on.wait(20)
            super().append(rows)

    rig.store.away = True
    writer = rig.writer(held=10, spill=True)
    hanging = Hanging(rig.folder)
    writer._spill = hanging
    rig.end(writer)
    time.sleep(0.1)
    rig.end(writer, 15)
    assert writer.state.lost >= 3
    hanging.may_go_on.set()


def test_a_record_that_no_database_takes(rig: Rig) -> None:
    """It is put aside; the others go on."""
    writer = rig.writer()
    rig.store.connect()
    rig.end(writer, 2)
    rig.end(writer, final_code=1 << 70)
    rig.end(writer, 2)
    until(lambda: writer.state.aside == 1)
    until(lambda: len(rig.kept()) == 4)
    assert (rig.folder / REFUSED).read_bytes().count(b"\n") == 1
    until(lambda: writer.state.well)


def test_it_is_pruned(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callgate.cdr.writer.PRUNE_FIRST", 0.0)
    writer = rig.writer(keep_days=1)
    rig.end(writer, 3)
    until(lambda: writer.state.written == 3)
    writer.close()
    second = rig.writer(keep_days=1)
    until(lambda: rig.kept() == [])
    assert second.state.well


def test_erased_wherever_it_is(rig: Rig) -> None:
    writer = rig.writer()
    rig.end(writer, 3, key="other")
    until(lambda: writer.state.written == 3)
    rig.end(writer, 2)
    erased = writer.erase(Selection(key="other"))
    assert (erased.database, erased.spill, erased.memory) == (3, 0, 0)
    assert rig.kept() == rig.ids[3:]
    rig.store.away = True
    rig.store.close()
    rig.end(writer, 4, key="other")
    rig.end(writer, 1)
    until(lambda: len(rig.spilled()) == 5)
    with pytest.raises(OSError, match="refused"):
        writer.erase(Selection(key="other"))
    assert rig.spilled() == rig.ids[-1:]
    rig.store.away = False
    until(lambda: writer.state.well)
    assert rig.kept() == [*rig.ids[3:5], rig.ids[-1]]


def test_erased_from_what_the_database_has_taken_already_and_from_what_was_put_aside(tmp_path: Path) -> None:
    """A file that is half read still has what was read; and what nobody can read may be what was meant."""
    meant, other = row(caller="+819011112222"), row()
    spill = Spill(tmp_path)
    spill.append([meant])
    _, end = spill.read(lambda *_: None)
    spill.append([other])
    spill.taken(end)
    spill.keep_aside(REFUSED, [line_of(meant), line_of(other)])
    spill.keep_aside(DAMAGED, [b'{"caller": "+819011112222', b"{"])
    writer = Writer(f"sqlite:///{tmp_path}/a.db", tmp_path, spill=spill)
    erased = writer.erase(Selection(numbers=("+819011112222",)))
    assert (erased.spill, erased.aside) == (0, 2)
    data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"9011112222" not in data
    assert (tmp_path / REFUSED).read_bytes() == line_of(other) + b"\n"
    assert (tmp_path / DAMAGED).read_bytes() == b"{\n"
    spill.close()


# -- what really happens to databases


def test_sqlite_locked_by_somebody(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    writer = Writer(url, tmp_path)
    writer.start()
    until(lambda: (tmp_path / "a.db").exists() and writer.state.well)
    time.sleep(0.1)
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        record = call()
        writer.put(record, OFFSET)
        until(lambda: (tmp_path / FILE).exists() and (tmp_path / FILE).read_bytes())
        until(lambda: "locked" in writer.state.fault)
        other.execute("ROLLBACK")
    until(lambda: writer.state.well)
    assert [one["id"] for one in kept(url)] == [f"{record.id:016x}"]
    writer.close()


def test_sqlite_damaged_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("this is no database, but a text of some length\n" * 50)
    with closing(Writer(f"sqlite:///{tmp_path}/a.db", tmp_path)) as writer:
        writer.start()
        writer.put(call(), OFFSET)
        until(lambda: "not a database" in writer.state.fault)
        until(lambda: (tmp_path / FILE).exists() and (tmp_path / FILE).read_bytes())
        (tmp_path / "a.db").unlink()
        until(lambda: writer.state.well)
    assert len(kept(f"sqlite:///{tmp_path}/a.db")) == 1


def test_postgresql_crashes_and_comes_back(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.fresh()
    ids = []

    def end(count: int) -> None:
        for _ in range(count):
            record = call()
            ids.append(f"{record.id:016x}")
            writer.put(record, OFFSET)
            time.sleep(0.001)

    with closing(Writer(url, tmp_path)) as writer:
        writer.start()
        end(50)
        postgres.stop()
        try:
            end(50)
            until(lambda: bool(writer.state.fault))
        finally:
            postgres.start()
        end(50)
        until(lambda: writer.state.well and not writer.state.held)
        assert writer.state.lost == 0
    assert [one["id"] for one in kept(url)] == ids


def test_postgresql_that_stands_still(postgres: Postgres, tmp_path: Path) -> None:
    """It is connected and answers nothing: the record is in the file soon, not after a timeout."""
    url = postgres.fresh()
    with closing(Writer(url, tmp_path)) as writer:
        writer.start()
        writer.put(call(), OFFSET)
        until(lambda: writer.state.written == 1)
        postgres.pause()
        try:
            writer.put(call(), OFFSET)
            until(lambda: (tmp_path / FILE).exists() and (tmp_path / FILE).read_bytes())
        finally:
            postgres.resume()
        until(lambda: writer.state.well and not writer.state.held)
    assert len(kept(url)) == 2


def test_no_such_server(tmp_path: Path) -> None:
    with closing(Writer("postgresql://gate:hunter2@127.0.0.1:1/x", tmp_path)) as writer:
        writer.start()
        writer.put(call(), OFFSET)
        until(lambda: "refused" in writer.state.fault)
        assert "hunter2" not in writer.state.fault
