"""Who is registered is on the disk soon after, and there again after a start; no fault of the disk stops a call."""

from __future__ import annotations

import os
import queue
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callgate.net import registrations
from callgate.net.registrations import FILE, Registrations
from callgate.proxy.identity.bindings import Row

NOW = 1_700_000_000.0
WAIT = 15.0
"""Seconds that only a fault reaches."""
Open = Callable[[], Registrations]


def row(user: bytes = b"1001", host: str = "192.0.2.1", *, key: str = "acme", left: float = 600.0) -> Row:
    contact = b"<sip:me@%b>;q=0.5" % host.encode()
    return Row(key, user, contact, b"", b"call@example", 7, NOW + left, "UDP 127.0.0.1:5060", host, 5062)


@pytest.fixture
def faults() -> queue.Queue[str]:
    return queue.Queue()


@pytest.fixture
def begin(tmp_path: Path, faults: queue.Queue[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Begins with what the file holds, as often as a test wants."""
    monkeypatch.setattr(registrations, "RETRY_SECONDS", 0.02)
    begun: list[Registrations] = []

    def make() -> Registrations:
        begun.append(Registrations(tmp_path / "state", faults.put))
        return begun[-1]

    yield make
    for one in begun:
        one.close()


def again(begin: Open, now: float = NOW) -> list[Row]:
    """What the next start finds."""
    one = begin()
    found = one.load(now)
    one.close()
    return found


def test_kept_and_found_again(begin: Open, faults: queue.Queue[str]) -> None:
    """Every value as it was, binary ones too; of a user all contacts in their order, the latest word only."""
    one = begin()
    assert one.load(NOW) == []
    first = (row(), row(host="192.0.2.2"))
    odd = Row(
        "b", b"\xff\0'", b"<sip:\xfe>", b"<sip:p;lr>", b"\x80", 1 << 31, NOW + 0.5, "TLS [::1]:5061", "::1", 1
    )
    one.keep("acme", b"1001", first)
    one.keep("acme", b"1002", (row(b"1002"),))
    one.keep("b", odd.user, (odd,))
    one.keep("acme", b"1002", ())
    one.keep("acme", b"1001", first[::-1])
    one.close()
    assert again(begin) == [*first[::-1], odd]
    assert faults.empty()


def test_what_has_expired_is_gone(begin: Open) -> None:
    one = begin()
    one.load(NOW)
    one.keep("acme", b"1001", (row(left=10.0), row(host="192.0.2.2", left=20.0)))
    one.close()
    assert [r.host for r in again(begin, NOW + 10.0)] == ["192.0.2.2"]
    assert again(begin, NOW + 20.0) == []


def test_nobody_else_may_read_it(begin: Open, tmp_path: Path) -> None:
    again(begin)
    assert stat.S_IMODE((tmp_path / "state" / FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_nobody_waits_for_the_disk(begin: Open, tmp_path: Path, faults: queue.Queue[str]) -> None:
    """Another process holds the file: what comes meanwhile is taken at once, and written afterwards."""
    one = begin()
    one.load(NOW)
    holder = sqlite3.connect(tmp_path / "state" / FILE)
    holder.execute("BEGIN EXCLUSIVE")
    for n in range(100):
        one.keep("acme", b"%d" % n, (row(b"%d" % n),))
    assert holder.execute("SELECT count(*) FROM registrations").fetchone() == (0,)
    holder.rollback()
    holder.close()
    one.close()
    assert len(again(begin)) == 100
    assert faults.empty()


def test_a_disk_that_comes_back(begin: Open, tmp_path: Path, faults: queue.Queue[str]) -> None:
    """It can't be written: said, in words that name the file; tried again until it can."""
    (tmp_path / "state").write_text("no folder")
    one = begin()
    assert one.load(NOW) == []
    assert str(tmp_path / "state" / FILE) in faults.get(timeout=WAIT)
    one.keep("acme", b"1001", (row(),))
    assert "will be lost" in faults.get(timeout=WAIT)
    one.keep("acme", b"1002", (row(b"1002"),))
    (tmp_path / "state").unlink()
    one.close()
    assert {r.user for r in again(begin)} <= {b"1001", b"1002"}
    late = begin()
    late.load(NOW)
    late.keep("acme", b"1003", (row(b"1003"),))
    late.close()
    assert b"1003" in {r.user for r in again(begin)}


def test_it_recovers_without_a_new_change(
    begin: Open, tmp_path: Path, faults: queue.Queue[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be written is written as soon as it can be, even if nobody registers any more."""
    one = begin()
    one.load(NOW)
    real = registrations._open
    broken: list[Path] = []

    def fails(path: Path) -> sqlite3.Connection:
        if len(broken) < 3:
            broken.append(path)
            raise sqlite3.OperationalError("database or disk is full")
        return real(path)

    monkeypatch.setattr(registrations, "_open", fails)
    one.keep("acme", b"1001", (row(),))
    for _ in range(3):
        assert "full" in faults.get(timeout=WAIT)
    one.close()
    assert again(begin) == [row()]


def test_the_end_does_not_wait_for_ever(begin: Open, tmp_path: Path, faults: queue.Queue[str]) -> None:
    """A disk that never comes back does not hold up SIGTERM."""
    (tmp_path / "state").write_text("no folder")
    one = begin()
    one.load(NOW)
    one.keep("acme", b"1001", (row(),))
    faults.get(timeout=WAIT)
    one.close()
    assert not one._thread.is_alive()


def filled(begin: Open, tmp_path: Path) -> Path:
    """A file with 500 rows."""
    one = begin()
    one.load(NOW)
    for n in range(500):
        one.keep("acme", b"%d" % n, (row(b"%d" % n),))
    one.close()
    return tmp_path / "state" / FILE


@pytest.mark.parametrize("damage", ["rubbish", "cut", "overwritten", "version", "columns"])
def test_a_damaged_file(begin: Open, tmp_path: Path, faults: queue.Queue[str], damage: str) -> None:
    """It is put aside, a new one begun, and all of this is said; what is registered from then on is kept."""
    path = filled(begin, tmp_path)
    data = path.read_bytes()
    match damage:
        case "rubbish":
            path.write_bytes(b"no database at all" * 1000)
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "overwritten":
            path.write_bytes(data[:4096] + os.urandom(len(data) - 4096))
        case "version":
            with sqlite3.connect(path) as db:
                db.execute("PRAGMA user_version = 99")
            db.close()
        case "columns":
            with sqlite3.connect(path) as db:
                db.execute("ALTER TABLE registrations RENAME COLUMN contact TO kontakt")
            db.close()
    one = begin()
    assert one.load(NOW) == []
    said = faults.get(timeout=WAIT)
    assert "is damaged" in said
    assert f"{FILE}.damaged" in said
    assert path.with_name(f"{FILE}.damaged").exists()
    one.keep("acme", b"1001", (row(),))
    one.close()
    assert again(begin) == [row()]
    assert faults.empty()


def test_damage_while_it_runs(begin: Open, tmp_path: Path, faults: queue.Queue[str]) -> None:
    """The new file holds all that is registered, not only what has changed since."""
    path = filled(begin, tmp_path)
    one = begin()
    assert len(one.load(NOW)) == 500
    path.write_bytes(b"no database at all" * 1000)
    one.keep("acme", b"new", (row(b"new"),))
    assert "is damaged" in faults.get(timeout=WAIT)
    one.close()
    assert len(again(begin)) == 501


def test_rows_of_another_kind_are_left_out(begin: Open, tmp_path: Path) -> None:
    path = filled(begin, tmp_path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE registrations SET port = 'x' WHERE user = ?", (b"1",))
        db.execute("UPDATE registrations SET contact = 'text' WHERE user = ?", (b"2",))
        db.execute("UPDATE registrations SET expires_at = x'00' WHERE user = ?", (b"3",))
    db.close()
    assert len(again(begin)) == 497


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 3)), max_size=20))
def test_the_last_word_counts(begin: Open, words: list[tuple[bytes, int]]) -> None:
    """However the commits fall."""
    one = begin()
    one.load(NOW)
    last = dict.fromkeys((b"a", b"b", b"c"), ()) | {
        user: tuple(row(user, f"192.0.2.{n}") for n in range(count)) for user, count in words
    }
    for user in last:
        one.keep("acme", user, ())
    for user, count in words:
        one.keep("acme", user, tuple(row(user, f"192.0.2.{n}") for n in range(count)))
    one.close()
    assert again(begin) == [r for user in sorted(last) for r in last[user]]
