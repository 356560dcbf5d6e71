"""What became of a call goes out of the journal's files (T12), running or not; calls that are up and limits stay."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.store.test_journal import until

from callgate.cdr.erase import selection_of
from callgate.net.erasure import journal as holder
from callgate.proxy.restart.journal import OVER, RECORD, gone
from callgate.proxy.telemetry.record import CallRecord
from callgate.store import journal as module
from callgate.store.forget import Forgotten, forget
from callgate.store.frames import HEAD, MARK, SHORTEST, frame
from callgate.store.journal import Journal
from callgate.store.recall import FOLDER, Start, find, read_calls
from callgate.store.story import lives_of

START = Start("boot", 1_700_000_000.0, ("UDP 127.0.0.1:5060",), RECORD)
NUMBER, OTHER = "+819012345678", "+81312345678"
NEEDLES = (b"9012345678",)


def record(leg: int, called: str, key: str = "acme", at: float = 100.0) -> CallRecord:
    made = CallRecord(leg, "outbound", at)
    made.key, made.raw, made.canonical, made.call_id = key, "0" + called[3:], called, f"call-{leg}"
    made.verdict, made.end_at, made.outcome = "passed", at + 5, "answered"
    return made


def over(leg: int, called: str, **how: object) -> module.Row:
    return gone(leg, b"call-%d" % leg, record(leg, called, **how), (), 105.0)  # type: ignore[arg-type]


def up(leg: int, called: str) -> module.Row:
    return ("U", leg, 101.0, "acme", 0, b"call-%d" % leg, called.encode())


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path, lambda text: None)
    journal.load()
    journal.start(START)
    yield journal
    journal.close()


def content(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((folder / FOLDER).iterdir()))


def told_of(folder: Path) -> list[int]:
    """The calls that have ended of which there is something to tell."""
    stories = {n: [row for _, row in find(folder, b"call-%d" % n) if len(row) == 7] for n in range(3)}
    return [n for n, rows in stories.items() if any(row[1] == OVER for row in rows)]


def erase(state_dir: Path, how: Callable[..., Forgotten] | None = None, **what: str) -> tuple[int, str]:
    asked = selection_of(what.get("number"), what.get("key"), what.get("before"))
    return holder(how or (lambda *a: forget(state_dir, *a))).erase(asked)


def fill(journal: Journal, folder: Path) -> None:
    """An ended call of each number, of another key, and the INVITEs that were written of them."""
    for leg, number in enumerate((NUMBER, OTHER, NUMBER)):
        journal.put(up(leg, number))
    until(lambda: len(read_calls(folder / FOLDER)[0].calls) == 3)
    journal.put(over(0, NUMBER))
    journal.put(over(1, OTHER))
    journal.put(over(2, NUMBER, key="globex"))
    until(lambda: not read_calls(folder / FOLDER)[0].calls and lives_of(folder, "call-2"))


def test_a_running_gate_forgets_a_number(tmp_path: Path, running: Journal) -> None:
    fill(running, tmp_path)
    assert erase(tmp_path, running.forget, number="090-1234-5678") == (2, "")
    assert not any(one in content(tmp_path) for one in NEEDLES)
    assert told_of(tmp_path) == [1]
    running.put(over(4, OTHER))
    until(lambda: list(find(tmp_path, b"call-4")))
    assert erase(tmp_path, running.forget, number="090-1234-5678") == (0, "")


def test_a_call_that_is_up_and_a_limit_stay_and_are_told(tmp_path: Path, running: Journal) -> None:
    fill(running, tmp_path)
    running.put(up(7, NUMBER))
    gap = ("G", "acme/redial", 3600.0, "K4", NUMBER.encode())
    running.put(("W", 9, time.monotonic(), (gap,)))
    until(lambda: read_calls(tmp_path / FOLDER)[0].sent)
    count, later = erase(tmp_path, running.forget, number=NUMBER)
    assert (count, "erase once more" in later) == (2, True)
    kept = read_calls(tmp_path / FOLDER)[0]
    assert ([row[1] for row in kept.calls], [row[3] for row in kept.sent]) == ([7], [(gap,)])


@pytest.mark.parametrize(
    ("what", "left"),
    [
        ({"number": NUMBER}, [1]),
        ({"key": "acme"}, [2]),
        ({"key": "acme", "number": NUMBER}, [1, 2]),
        ({"number": NUMBER, "before": "2023-11-14T22:15:00.000001Z"}, [1]),
        ({"number": NUMBER, "before": "2023-11-14T22:15:00.000000Z"}, [0, 1, 2]),
    ],
)
def test_a_gate_that_does_not_run(
    tmp_path: Path, running: Journal, what: dict[str, str], left: list[int]
) -> None:
    fill(running, tmp_path)
    running.put(up(7, OTHER))
    until(lambda: read_calls(tmp_path / FOLDER)[0].calls)
    running.close()
    before = read_calls(tmp_path / FOLDER)[0]
    assert erase(tmp_path, **what)[0] == 3 - len(left)
    assert told_of(tmp_path) == left
    assert read_calls(tmp_path / FOLDER)[0] == before  # what the next start takes up is the same
    if left == [1]:
        assert not any(one in content(tmp_path) for one in NEEDLES)


def test_what_cannot_be_read_goes_too_and_is_not_forgotten_as_damage(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    start = frame(1, ("start", 0, *START))
    bad = bytearray(frame(2, up(1, NUMBER)))
    bad[-1] ^= 1
    (folder / "calls-00000001").write_bytes(HEAD + start + bytes(bad) + frame(3, up(2, OTHER)))
    (folder / "stories-00000002").write_bytes(HEAD + start + frame(4, over(5, NUMBER))[:-3])
    before = read_calls(folder)[0]
    assert erase(tmp_path, number=NUMBER) == (0, "")
    assert not any(one in content(tmp_path) for one in NEEDLES)
    after = read_calls(folder)[0]
    assert (
        (after.calls, after.untold)
        == (before.calls, before.untold)
        == ([up(2, OTHER)], -(-len(bad) // SHORTEST))
    )
    assert MARK in content(tmp_path)


def test_age_counts_and_nothing_is_left_beside(tmp_path: Path, running: Journal) -> None:
    fill(running, tmp_path)
    running.close()
    (story,) = (tmp_path / FOLDER).glob("stories-*")
    os.utime(story, (1_000.0, 1_000.0))
    erase(tmp_path, number=NUMBER)
    assert story.stat().st_mtime == 1_000.0
    assert all(not path.name.startswith(".") for path in (tmp_path / FOLDER).iterdir())


def test_a_disk_that_is_away_is_told(
    tmp_path: Path, running: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(running, tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module._File, "made", full)
    with pytest.raises(OSError, match="No space left"):
        erase(tmp_path, running.forget, number=NUMBER)


def test_commits_go_on_meanwhile(tmp_path: Path, running: Journal) -> None:
    fill(running, tmp_path)
    ends = threading.Event()

    def load() -> None:
        leg = 100
        while not ends.is_set():
            leg += 1
            running.put(up(leg, OTHER))
            running.put(over(leg, OTHER))
            time.sleep(0.001)
        running.put(up(99, OTHER))

    thread = threading.Thread(target=load)
    thread.start()
    for _ in range(5):
        erase(tmp_path, running.forget, number=NUMBER)
    ends.set()
    thread.join()
    until(lambda: [row[1] for row in read_calls(tmp_path / FOLDER)[0].calls] == [99])
    assert list(find(tmp_path, b"call-101"))
