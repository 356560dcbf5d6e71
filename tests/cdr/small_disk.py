"""Records on disks that are full or can't be written: small file systems in memory, in a mount namespace of this
process's own. `python -m tests.cdr.small_disk SCENARIO FOLDER` plays one; `test_small_disk` runs each so."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tests.cdr.support import call, kept, until

from callgate.cdr.spill import FILE
from callgate.cdr.writer import Writer

OFFSET = 1_767_225_600.0
SCENARIOS = ("full", "full_everywhere", "read_only", "full_at_the_start")


def disk(place: Path, size: str) -> Path:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    return place


def fill(place: Path) -> Path:
    """Not a byte is left."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler


class Calls:
    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.ids: list[str] = []

    def end(self, count: int) -> None:
        for _ in range(count):
            record = call()
            self.ids.append(f"{record.id:016x}")
            self._writer.put(record, OFFSET)


def check_all(url: str, calls: Calls) -> None:
    assert [one["id"] for one in kept(url)] == calls.ids


def full(folder: Path) -> None:
    """The database's disk fills up while calls go on."""
    database, state = disk(folder / "db", "1m"), folder / "state"
    url = f"sqlite:///{database}/a.db"
    with closing(Writer(url, state)) as writer:
        writer.start()
        calls = Calls(writer)
        calls.end(100)
        until(lambda: writer.state.written == 100)
        filler = fill(database)
        calls.end(2000)
        until(lambda: "full" in writer.state.fault, f"{writer.state}")
        until(lambda: not writer.state.held)
        assert (state / FILE).stat().st_size > 0
        filler.unlink()
        # 1 MB is not enough for all of them: it is full again, and nothing is lost
        subprocess.run(["mount", "-o", "remount,size=20m", str(database)], check=True)
        until(lambda: writer.state.well and not writer.state.held, f"{writer.state}")
        assert writer.state.lost == 0
    check_all(url, calls)


def full_everywhere(folder: Path) -> None:
    """The spill's disk is full too: memory, up to its bound."""
    database, state = disk(folder / "db", "1m"), disk(folder / "state", "64k")
    url = f"sqlite:///{database}/a.db"
    fill(database)
    fill(state)
    with closing(Writer(url, state, held=300)) as writer:
        writer.start()
        calls = Calls(writer)
        calls.end(200)
        until(lambda: writer.state.held == 200 and "No space" in writer.state.spill_fault, f"{writer.state}")
        calls.end(200)
        until(lambda: writer.state.lost == 100, f"{writer.state}")
        (state / "filler").unlink()
        until(lambda: 0 < writer.state.held < 300 and writer.state.waiting, f"{writer.state}")
        (database / "filler").unlink()
        until(lambda: writer.state.well and not writer.state.held, f"{writer.state}")
        assert writer.state.lost == 100
        del calls.ids[300:]
    check_all(url, calls)


def read_only(folder: Path) -> None:
    """At the start: then it can be written."""
    database, state = disk(folder / "db", "4m"), folder / "state"
    url = f"sqlite:///{database}/a.db"
    with closing(Writer(url, state)) as writer:  # there is one, of an earlier run
        writer.start()
        calls = Calls(writer)
        calls.end(1)
    before = calls.ids
    subprocess.run(["mount", "-o", "remount,ro", str(database)], check=True)
    with closing(Writer(url, state)) as writer:
        writer.start()
        calls = Calls(writer)
        calls.end(100)
        until(lambda: "ead-only" in writer.state.fault, f"{writer.state}")
        until(lambda: not writer.state.held and writer.state.waiting)
        subprocess.run(["mount", "-o", "remount,rw", str(database)], check=True)
        until(lambda: writer.state.well, f"{writer.state}")
    calls.ids = before + calls.ids
    check_all(url, calls)


def full_at_the_start(folder: Path) -> None:
    database, state = disk(folder / "db", "1m"), folder / "state"
    url = f"sqlite:///{database}/a.db"
    fill(database)
    with closing(Writer(url, state)) as writer:
        writer.start()
        calls = Calls(writer)
        calls.end(100)
        until(lambda: bool(writer.state.fault) and writer.state.waiting, f"{writer.state}")
        (database / "filler").unlink()
        until(lambda: writer.state.well, f"{writer.state}")
    check_all(url, calls)


if __name__ == "__main__":
    name, where = sys.argv[1:]
    if name not in SCENARIOS:
        sys.exit(f"one of {', '.join(SCENARIOS)}")
    globals()[name](Path(where))
