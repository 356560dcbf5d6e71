"""The file of records that wait: in order, whole, and read whatever has become of it."""

from __future__ import annotations

import os
import stat
from contextlib import closing
from pathlib import Path

import pytest
from tests.cdr.support import row

from callgate.cdr.row import Row
from callgate.cdr.spill import CHUNK, FILE, Spill, Taken, line_of


def drained(spill: Spill, bad: list[bytes] | None = None) -> list[Row]:
    """All that waits, taken."""
    found: list[Row] = []
    spill.open()
    while spill.waiting:
        rows, end = spill.read(lambda line, _why: (bad if bad is not None else []).append(line))
        found += rows
        spill.taken(end)
    return found


def test_in_order_over_a_restart(tmp_path: Path) -> None:
    rows = [row() for _ in range(500)]  # more than is read at a time
    assert len(line_of(rows[0])) * 500 > 2 * CHUNK
    spill = Spill(tmp_path / "state")
    for n in range(0, 500, 100):
        spill.append(rows[n : n + 100])
    spill.close()
    assert stat.S_IMODE((tmp_path / "state" / FILE).stat().st_mode) == 0o600
    again = Spill(tmp_path / "state")
    assert drained(again) == rows
    again.append(rows[:1])
    assert drained(again) == rows[:1]
    again.close()
    assert not (tmp_path / "state" / FILE).exists()


def test_what_was_not_taken_is_read_again(tmp_path: Path) -> None:
    rows = [row() for _ in range(300)]
    with closing(Spill(tmp_path)) as spill:
        spill.append(rows)
        _, end = spill.read(lambda *_: None)
        spill.taken(end)
    with closing(Spill(tmp_path)) as spill:
        assert drained(spill) == rows


def test_damaged_lines_are_put_aside(tmp_path: Path) -> None:
    one, two = row(), row()
    bad = [
        b"rubbish",
        b"\xff\xfe\0",
        b'{"id": 1}',
        b"[]",
        b"[" * 100_000,
        line_of(row() | {"invite_at": "yesterday"}),
        line_of(row() | {"attempts": "three"}),
        line_of(row() | {"key": None}),
        line_of(row())[:100],  # a write that a crash cut off
    ]
    (tmp_path / FILE).write_bytes(b"\n".join([line_of(one), b"", *bad]))
    with closing(Spill(tmp_path)) as spill:
        spill.open()
        spill.append([two])
        aside: list[bytes] = []
        assert drained(spill, aside) == [one, two]
        assert b"".join(aside) == b"".join(bad)


def test_fields_of_another_version(tmp_path: Path) -> None:
    """What is unknown is left out, what is missing is null."""
    one = row()
    theirs = {name: value for name, value in one.items() if name != "hold_seconds"} | {"mood": "good"}
    (tmp_path / FILE).write_bytes(line_of(theirs) + b"\n")
    with closing(Spill(tmp_path)) as spill:
        assert drained(spill) == [one | {"hold_seconds": None}]


def test_one_process_has_it(tmp_path: Path) -> None:
    with closing(Spill(tmp_path)) as spill:
        spill.append([row()])
        with pytest.raises(Taken, match="another gate has it"):
            Spill(tmp_path).open()
    with closing(Spill(tmp_path)) as other:
        assert len(drained(other)) == 1


def test_a_bound(tmp_path: Path) -> None:
    with closing(Spill(tmp_path, bound=2000)) as spill:
        spill.append([row()])
        spill.append([row()])
        with pytest.raises(OSError, match="bound"):
            spill.append([row()])
        assert len(drained(spill)) == 2
        spill.append([row()])


def test_a_disk_that_takes_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row() for _ in range(3)]
    write = os.write
    with closing(Spill(tmp_path)) as spill:
        spill.append(rows[:1])

        def full(fd: int, data: bytes) -> int:
            if len(data) <= 300:
                raise OSError(28, "No space left on device")
            return write(fd, data[: len(data) - 300])

        def refused(fd: int, size: int) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(OSError, match="No space"):
                spill.append(rows[1:2])
            patch.setattr(os, "ftruncate", refused)
            with pytest.raises(OSError, match="No space"):
                spill.append(rows[1:2])  # and half a line that can't be taken back
        spill.append(rows[2:])
        aside: list[bytes] = []
        assert drained(spill, aside) == [rows[0], rows[2]]
        assert aside == [line_of(rows[1])[:-299]]


def test_removed_by_hand(tmp_path: Path) -> None:
    """What comes after that is kept."""
    with closing(Spill(tmp_path)) as spill:
        spill.append([row()])
        (tmp_path / FILE).unlink()
        last = row()
        spill.append([last])
        assert (tmp_path / FILE).read_bytes() == line_of(last) + b"\n"
        assert drained(spill) == [last]


def test_some_are_taken_out(tmp_path: Path) -> None:
    rows = [row(key=("acme", "other")[n % 2]) for n in range(400)]
    with closing(Spill(tmp_path)) as spill:
        spill.append(rows)
        assert spill.replace(lambda one: one["key"] != "other") == 200
        last = row()
        spill.append([last])
        assert drained(spill) == [*rows[::2], last]
        with pytest.raises(Taken):
            Spill(tmp_path).open()
