"""The journal's files: what comes back after a crash, whatever has become of them."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.examples import many

from callgate.store import journal as module
from callgate.store.frames import HEAD, MARK, SHORTEST, Damage, frame, rows
from callgate.store.journal import Journal
from callgate.store.recall import Kept, Start, find, read_calls

START = Start("boot", 100.0, ("UDP 127.0.0.1:5060",), ("id",))
PATIENCE = 10.0


def until(condition: Callable[[], object], what: str = "") -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.005)


def up(leg: int, at: float = 1.0, size: int = 10) -> module.Row:
    return ("U", leg, at, "acme", 0, b"call-%d" % leg, b"x" * size)


def over(leg: int, at: float = 2.0) -> module.Row:
    return ("E", leg, at, b"call-%d" % leg, (leg,), ((at, "rings", 180),))


class Faults:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str) -> None:
        self.texts.append(text)


Opens = Callable[..., Journal]


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def opens(tmp_path: Path, faults: Faults) -> Iterator[Opens]:
    """A journal of the one folder, begun; closed at the end of the test."""
    made: list[Journal] = []

    def make(**how: int) -> Journal:
        journal = Journal(tmp_path, faults, **how)
        journal.kept = journal.load()  # type: ignore[attr-defined]
        journal.start(START)
        made.append(journal)
        return journal

    yield make
    for journal in made:
        journal.close()


def kept(folder: Path) -> Kept:
    """What a new start would find."""
    return read_calls(folder / module.FOLDER)[0]


def legs(found: Kept) -> list[int]:
    return [row[1] for row in found.calls]


def test_what_a_kill_leaves(tmp_path: Path, opens: Opens) -> None:
    """Nobody closes anything: what is older than 50 ms is there all the same."""
    journal = opens()
    journal.put(up(1))
    until(lambda: legs(kept(tmp_path)) == [1])
    journal.put(("T", 2, 1.0, b"invite"))
    journal.put(("R", 2, 1.5, ()))
    journal.put(up(3))
    until(lambda: legs(kept(tmp_path)) == [1, 2, 2, 3])
    journal.put(over(3))
    until(lambda: kept(tmp_path).over)
    found = kept(tmp_path)
    assert found.calls[0] == up(1)
    assert found.calls[1:] == [("T", 2, 1.0, b"invite"), ("R", 2, 1.5, ())]
    assert found.start == START
    assert (found.over, found.last, found.lost, found.stopped) == (frozenset((3,)), 2.0, "", False)


def test_the_commit_comes_within_50_ms(tmp_path: Path, opens: Opens) -> None:
    assert module.COMMIT < 0.05
    journal = opens()
    for leg in range(2000):
        journal.put(up(leg))
    until(lambda: len(kept(tmp_path).calls) == 2000)


def test_an_end_in_order(tmp_path: Path, opens: Opens) -> None:
    journal = opens()
    journal.put(up(1))
    journal.close()
    assert kept(tmp_path).stopped
    assert legs(kept(tmp_path)) == [1]
    again = opens()
    again.put(up(2))
    until(lambda: legs(kept(tmp_path)) == [2])  # what the new start has not taken up again is gone
    assert not kept(tmp_path).stopped


def test_only_the_owner_may_read(tmp_path: Path, opens: Opens) -> None:
    opens().put(up(1))
    until(lambda: legs(kept(tmp_path)))
    folder = tmp_path / module.FOLDER
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_its_size_is_that_of_the_live_calls(tmp_path: Path, opens: Opens) -> None:
    """Thousands of calls come and go; a hundred stay. The files are written anew while it runs."""
    journal = opens(smallest=200_000)
    for leg in range(100):
        journal.put(up(leg, size=500))
    for first in range(1000, 21_000, 1000):
        for leg in range(first, first + 500):
            journal.put(up(leg, size=500))
        until(lambda: not journal._waiting)
        for leg in range(first, first + 500):
            journal.put(over(leg))
    until(lambda: len(kept(tmp_path).calls) == 100 and not journal._waiting)
    journal.close()
    sizes = [path.stat().st_size for path in (tmp_path / module.FOLDER).glob("calls-*")]
    assert sum(sizes) < 2_000_000
    assert legs(kept(tmp_path)) == list(range(100))
    assert int(max((tmp_path / module.FOLDER).glob("calls-*")).name[6:]) > 1


def test_an_end_leaves_it_on_the_disk(tmp_path: Path, opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    """However short before the end something was written: and the file that another has replaced is gone."""
    synced: list[int] = []
    real = os.fdatasync

    def sync(descriptor: int) -> None:
        real(descriptor)
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fdatasync", sync)
    monkeypatch.setattr(module, "SYNC", 0.5)
    first = opens()
    first.put(up(1))
    first.close()
    journal = opens()
    journal.put(up(2))
    until(lambda: legs(kept(tmp_path)) == [2])
    journal.put(up(3))
    journal.close()
    (path,) = (tmp_path / module.FOLDER).glob("calls-*")
    assert path.stat().st_size == synced[-1]


def test_stories_are_bounded(tmp_path: Path, opens: Opens) -> None:
    journal = opens(max_octets=160_000)
    for leg in range(6000):
        journal.put(("E", leg, 1.0, b"call-%d." % leg, (leg,), ()))
        if not leg % 100:
            time.sleep(0.005)
    until(lambda: list(find(tmp_path, b"call-5999.")))
    journal.close()
    assert sum(p.stat().st_size for p in (tmp_path / module.FOLDER).glob("stories-*")) < 200_000
    assert not list(find(tmp_path, b"call-1."))


def test_old_stories_go(tmp_path: Path, opens: Opens) -> None:
    first = opens()
    first.put(over(1))
    until(lambda: list(find(tmp_path, b"call-1")))
    first.close()
    for path in (tmp_path / module.FOLDER).glob("stories-*"):
        os.utime(path, (1.0, 1.0))
    second = opens(keep_seconds=3600)
    second.put(over(2))
    until(lambda: list(find(tmp_path, b"call-2")) and not list(find(tmp_path, b"call-1")))


def test_a_story_is_found(tmp_path: Path, opens: Opens) -> None:
    """By its Call-ID, with the start of the process that wrote it."""
    journal = opens()
    journal.put(up(1))
    journal.put(over(1))
    until(lambda: list(find(tmp_path, b"call-1")))
    (start, row), *_ = list(find(tmp_path, b"call-1"))
    assert start == START
    assert row[1:5] == ("E", 1, 2.0, b"call-1")
    assert not list(find(tmp_path, b"call-unknown"))


def test_long_windows_are_kept(tmp_path: Path, opens: Opens) -> None:
    """Over a rewriting of the file too, until their time is over."""
    journal = opens(smallest=20_000)
    now = time.monotonic()
    journal.put(("W", 7, now, (("W", "acme/day", 3600.0, "V2"),)))
    journal.put(("W", 8, now - 100.0, (("W", "acme/minute", 60.0, "V2"),)))
    for _ in range(5):
        for leg in range(200):
            journal.put(up(leg, size=1000))
        until(lambda: not journal._waiting)
    until(lambda: int(max((tmp_path / module.FOLDER).glob("calls-*"), default=Path("calls-0")).name[6:]) > 1)
    until(lambda: [row[1] for row in kept(tmp_path).sent] == [7])


# -- damage ------------------------------------------------------------------------------------------------------


def whole(count: int = 5) -> tuple[bytes, list[int]]:
    """A file of calls, and where its frames begin."""
    data, places = HEAD, []
    for row in [("start", 0, *START), *(up(leg) for leg in range(count))]:
        places.append(len(data))
        data += frame(len(places), row)
    return data, places


def read(folder: Path, data: bytes) -> Kept:
    (folder / module.FOLDER).mkdir(exist_ok=True)
    (folder / module.FOLDER / "calls-00000001").write_bytes(data)
    return kept(folder)


def test_cut_off_at_every_octet(tmp_path: Path) -> None:
    """The process died while it wrote: all before is there, and that is no damage."""
    data, places = whole()
    for cut in range(len(data) + 1):
        found = read(tmp_path, data[:cut])
        ends = [*places[1:], len(data)]
        assert legs(found) == list(range(sum(end <= cut for end in ends[1:])))
        assert not found.lost, cut


def test_every_octet_spoiled(tmp_path: Path) -> None:
    """One frame at most is lost, it is said, and nobody is taken for somebody else."""
    data, places = whole()
    for at in range(len(data)):
        spoiled = bytearray(data)
        spoiled[at] ^= 0x41
        found = read(tmp_path, bytes(spoiled))
        missing = set(range(5)) - set(legs(found))
        assert len(missing) <= 1
        assert set(found.calls) <= {up(leg) for leg in range(5)}
        if missing:
            assert found.lost or at >= places[-1]


@given(st.binary(max_size=200), st.integers(0, 800), st.integers(0, 300))
@settings(max_examples=many(100), deadline=None)
def test_rubbish_in_the_middle(rubbish: bytes, at: int, gone: int) -> None:
    data, _ = whole()
    at = min(at, len(data))
    damage = Damage()
    found = list(rows(data[:at] + rubbish + data[at + gone :], damage))
    assert all(row in [(n + 2, *up(n)) for n in range(5)] or row[1] == "start" for row in found)


@given(st.binary(max_size=400))
def test_rubbish_alone(data: bytes) -> None:
    for start in (b"", HEAD, HEAD + MARK):
        assert not list(rows(start + data, Damage()))


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    found = read(tmp_path, b"SQLite format 3\0" * 100)
    assert not found.calls
    assert "make no sense" in found.lost


def test_a_crash_while_the_file_is_made_anew(tmp_path: Path) -> None:
    """The new file is not whole: the old one counts, in whatever order the rows are read."""
    folder = tmp_path / module.FOLDER
    folder.mkdir()
    (folder / "calls-00000001").write_bytes(
        HEAD
        + b"".join(frame(n, r) for n, r in enumerate([("start", 0, *START), up(1), up(2), ("E", 1, 3.0)], 1))
    )
    (folder / "calls-00000002").write_bytes(HEAD + frame(5, ("start", 0, *START)) + frame(2, up(1)))
    assert legs(kept(tmp_path)) == [2]


def test_long_windows_count_once_while_two_files_stand(tmp_path: Path) -> None:
    """A new file holds all that counts of those before it as soon as it is whole; before that, they have it."""
    folder = tmp_path / module.FOLDER
    folder.mkdir()
    one, two, three = (("W", n, float(n), (("W", "acme/minute", 60.0, "V2"),)) for n in (1, 2, 3))
    old = HEAD + b"".join(frame(n, r) for n, r in enumerate([("start", 0, *START), one, two], 1))
    new = HEAD + b"".join(frame(n, r) for n, r in enumerate([("start", 0, *START), one, two], 4))
    (folder / "calls-00000001").write_bytes(old)
    for more, legs_sent in (
        (b"", [1, 2]),
        (frame(7, ("whole", 0)), [1, 2]),
        (frame(7, ("whole", 0)) + frame(8, three), [1, 2, 3]),
    ):
        (folder / "calls-00000002").write_bytes(new + more)
        assert [row[1] for row in kept(tmp_path).sent] == legs_sent
    spoiled = bytearray(new + frame(7, ("whole", 0)) + frame(8, three))
    spoiled[len(new) + 12] ^= 0x41
    (folder / "calls-00000002").write_bytes(spoiled)
    assert {row[1] for row in kept(tmp_path).sent} == {1, 2, 3}, "rather twice than not at all"


@pytest.mark.parametrize(
    "part",
    [("W", "k/more/X/key/calls2", 2.0, "X", True), ("D", "k/distinct_numbers", 2.0, "V2", b"1")],
)
def test_how_many_tokens_a_hole_can_have_told_of(part: tuple[object, ...]) -> None:
    """The shortest row of one is no shorter than what is reckoned with."""
    assert len(frame(1, ("W", 1 << 40, 1000.0, (part,)))) >= SHORTEST


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How much it told of is known by its size."""
    folder = tmp_path / module.FOLDER
    folder.mkdir()
    (folder / "calls-00000001").write_bytes(b"x" * (SHORTEST * 10))
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name.startswith("calls-"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    found = kept(tmp_path)
    assert found.untold == 11
    assert "calls-00000001 can't be read (Permission denied)" in found.lost


def test_rows_that_are_none(tmp_path: Path) -> None:
    """Values of other types than ours, behind a right checksum."""
    strange: list[tuple[object, ...]] = [
        (1, 2, 3),
        ("U",),
        (1, "U", "x", 1.0),
        (2, "U", 3),
        (3, "start", 0, 1),
    ]
    found = read(tmp_path, HEAD + b"".join(frame(n, row) for n, row in enumerate(strange)))
    assert not found.calls
    assert found.start is None


# -- disks -------------------------------------------------------------------------------------------------------


class Disk:
    """`os.write` as the journal sees it: `error` is what it fails with."""

    def __init__(self) -> None:
        self.error = 0
        self.hang: threading.Event | None = None
        self.write = os.write

    def __call__(self, descriptor: int, data: bytes) -> int:
        if self.hang is not None:
            self.hang.wait(PATIENCE)
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        return self.write(descriptor, data)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(module.os, "write", disk)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)
    return disk


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_can_t_be_written(
    tmp_path: Path, opens: Opens, disk: Disk, faults: Faults, error: int
) -> None:
    """It is said once; when it works again all that counts is written, and that is said too."""
    journal = opens()
    journal.put(up(1))
    until(lambda: legs(kept(tmp_path)) == [1])
    disk.error = error
    journal.put(up(2))
    journal.put(over(1))
    until(lambda: faults.texts, "the fault")
    journal.put(("T", 3, 1.0, b"invite"))
    time.sleep(0.2)
    assert len(faults.texts) == 1
    assert os.strerror(error) in faults.texts[0]
    disk.error = 0
    journal.put(("R", 3, 1.5, ()))
    until(lambda: legs(kept(tmp_path)) == [2, 3, 3])
    until(lambda: faults.texts[1:] == [""])


def test_a_folder_that_can_t_be_made(tmp_path: Path, faults: Faults) -> None:
    (tmp_path / "state").write_text("a file")
    journal = Journal(tmp_path / "state", faults)
    found = journal.load()
    assert not found.calls
    journal.start(START)
    journal.put(up(1))
    until(lambda: faults.texts)
    journal.close()


def test_a_disk_that_hangs(tmp_path: Path, opens: Opens, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop waits for nothing, memory is bounded, and whoever puts the rows is asked for them again."""
    monkeypatch.setattr(module, "WAITING_MAX", 100)
    journal = opens()
    journal.put(up(1))
    until(lambda: legs(kept(tmp_path)) == [1])
    disk.hang = threading.Event()
    for leg in range(2, 400):
        journal.put(up(leg))
        if leg == 2:
            time.sleep(0.1)
    assert len(journal._waiting) <= 100
    assert not journal.overflowed  # not yet: it would only overflow again
    disk.hang.set()
    until(lambda: journal.overflowed)
    assert not journal.overflowed
    journal.put(up(399))
    until(lambda: 399 in legs(kept(tmp_path)))
