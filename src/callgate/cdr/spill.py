"""Records that the database has not taken yet, in a file of `state_dir`: JSON lines, oldest first.

What is written survives the process (not a power cut: nothing here waits for a disk). One process at a time has it,
by a lock on the file.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from callgate.cdr.row import Row, checked

FILE = "records.spill"
DAMAGED = "records.damaged"
"""Lines that can't be read, kept beside."""
REFUSED = "records.refused"
"""Records that the database refuses for good, kept beside."""
BOUND = 512 << 20
"""Bytes; about a million records."""
CHUNK = 64 << 10
"""Bytes read at a time: some hundred records, whose reading holds up no call."""
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), check_circular=False).encode


def line_of(row: Row) -> bytes:
    """A record as a line of the file, without its end."""
    return _encode(row).encode()


class Taken(OSError):
    """Another process has the file."""


class Spill:
    """One file. Every method raises OSError where the disk does not do as it is told; then nothing has changed, but
    for `append`, which may leave half a line where the disk is broken: it is a damaged line to whoever reads on."""

    def __init__(self, folder: Path, bound: int = BOUND) -> None:
        self.path = folder / FILE
        self._bound = bound
        self._fd = -1
        self._size = 0
        self._read = 0
        self._begin = b""  # ends a line that was cut off

    @property
    def waiting(self) -> int:
        """Bytes that have not been taken."""
        return self._size - self._read

    def open(self) -> None:
        """Take the file, and what an earlier run has left in it. Nothing where that was done."""
        if self._fd >= 0:
            if os.fstat(self._fd).st_nlink:
                return
            os.close(self._fd)  # somebody has removed it
            self._fd = -1
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while self._fd < 0:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not os.fstat(fd).st_nlink:  # who had it has just removed it
                    os.close(fd)
                    continue
                self._size = os.fstat(fd).st_size
                self._begin = b"\n" if self._size and os.pread(fd, 1, self._size - 1) != b"\n" else b""
            except BlockingIOError:
                os.close(fd)
                raise Taken(errno.EBUSY, "another gate has it", str(self.path)) from None
            except OSError:
                os.close(fd)
                raise
            self._fd, self._read = fd, 0

    def append(self, rows: Sequence[Row]) -> None:
        """Add records, all or none."""
        self.open()
        data = self._begin + b"".join([line_of(row) + b"\n" for row in rows])
        if self._size + len(data) > self._bound:
            raise OSError(errno.EFBIG, f"it has grown to its bound of {self._bound >> 20} MB", str(self.path))
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError:
            self._undo(written)
            raise
        self._size += written
        self._begin = b""

    def _undo(self, written: int) -> None:
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self._size += written
            self._begin = b"\n"

    def read(self, aside: Callable[[bytes, str], None]) -> tuple[list[Row], int]:
        """The next records that have not been taken, and where they end. Lines that make no sense go to `aside`, with
        what is wrong with them."""
        self.open()
        data = os.pread(self._fd, CHUNK, self._read)
        end = data.rfind(b"\n") + 1
        if not end:  # a line longer than any record, or the last one, cut off
            end = len(data)
        rows = []
        for line in data[:end].split(b"\n"):
            if not line:
                continue
            try:
                rows.append(checked(json.loads(line)))
            except (ValueError, RecursionError) as error:
                aside(line, str(error))
        return rows, self._read + end

    def taken(self, end: int) -> None:
        """All before `end` are kept elsewhere. Once that is everything, the file is emptied."""
        self._read = end
        if end >= self._size:
            os.ftruncate(self._fd, 0)
            self._size = self._read = 0
            self._begin = b""

    def replace(self, keep: Callable[[Row], bool]) -> int:
        """Take out what `keep` does not want, unread rubbish too; how many records that were."""
        self.open()
        gone, kept, at = 0, [], self._read
        while at < self._size:
            data = os.pread(self._fd, CHUNK, at)
            end = data.rfind(b"\n") + 1 or len(data)
            if not end:
                break
            at += end
            for line in data[:end].split(b"\n"):
                try:
                    row = checked(json.loads(line))
                except (ValueError, RecursionError):
                    continue
                if keep(row):
                    kept.append(line + b"\n")
                else:
                    gone += 1
        if gone or self._read:  # what stands before that is in the database, and here still
            self._put(b"".join(kept))
        return gone

    def erase_aside(self, keep: Callable[[Row], bool], needles: Sequence[str]) -> int:
        """The same for the files beside: records that `keep` does not want, and of what is no record all that has one
        of the `needles` in it; how many lines."""
        gone = 0
        for path in (self.path.with_name(DAMAGED), self.path.with_name(REFUSED)):
            try:
                lines = path.read_bytes().splitlines(keepends=True)
            except FileNotFoundError:
                continue
            kept = [line for line in lines if not _is_meant(line, keep, needles)]
            gone += len(lines) - len(kept)
            if len(kept) < len(lines):
                beside = path.with_name(f".{path.name}.new")
                with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                    file.writelines(kept)
                os.replace(beside, path)
        return gone

    def _put(self, data: bytes) -> None:
        """The whole content, in one step: a file beside it takes its place."""
        beside = self.path.with_name(f".{FILE}.new")
        fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.replace(beside, self.path)
        except OSError:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd, self._size, self._read, self._begin = fd, len(data), 0, b""

    def keep_aside(self, name: str, lines: Sequence[bytes]) -> None:
        """Add lines to a file beside."""
        path = self.path.with_name(name)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(b"".join([line + b"\n" for line in lines]))

    def close(self) -> None:
        """Give the file back. One that is empty goes."""
        if self._fd < 0:
            return
        if not self.waiting:
            self.path.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = -1


def _is_meant(line: bytes, keep: Callable[[Row], bool], needles: Sequence[str]) -> bool:
    try:
        return not keep(checked(json.loads(line)))
    except (ValueError, RecursionError):
        return any(needle.encode() in line for needle in needles)
