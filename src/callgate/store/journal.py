"""What must outlive a crash: `journal/` in `state_dir`.

    calls-NNNNNNNN    how each call stands, and what was sent under windows of more than a second
    stories-NNNNNNNN  what became of each call that has ended, for `callgate explain`

The loop hands over rows and never waits. A thread writes what has come together in one go, at most `COMMIT` seconds
after it came: from then on a kill -9 takes nothing away. Another thread has the disk take it (`fdatasync`, every `SYNC`
seconds), so that one that is slow delays no write; a power cut may cost what it has not taken yet.

The thread keeps the last rows of every call that is not over. When a `calls` file has grown too large, it writes these
into a new one, in slices between its commits, and then the old one goes. So the size is that of the live calls, and
reading it at the start costs no more than those. Every row carries a number: whatever files are left, and in whatever
order they are read, the latest row of a call counts.

A disk that is full or gone stops no call. The thread goes on keeping the last rows in memory and tries again every few
seconds, with a new file that holds all of them.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from callgate.proxy.restart.journal import LASTS, OVER
from callgate.store.forget import Forgotten, Wanted, forget_stories, is_of
from callgate.store.frames import HEAD, Row, frame
from callgate.store.recall import ADDS, FOLDER, START, STOP, WHOLE, Kept, Start, files, read_calls

COMMIT: Final = 0.03
"""Seconds between two writes: what is younger may be lost."""
SYNC: Final = 0.2
"""Seconds between two times that the disk is asked to take it: each costs as much CPU as some calls."""
SLICE: Final = 1 << 18
"""Octets of a new file that are written between two commits."""
SMALLEST: Final = 8 << 20
"""Octets below which a file of calls is not written anew."""
RETRY_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 5.0
WAITING_MAX: Final = 200_000
"""Rows that may wait for a disk that hangs."""
STORIES_MAX: Final = 10_000
"""Stories that wait in memory for a disk that can't be written."""


class Journal:
    """`keep_seconds` and `max_octets` bound the stories. `on_fault` hears, from any thread, what is wrong in words,
    and "" when all is well again."""

    def __init__(
        self,
        state_dir: Path,
        on_fault: Callable[[str], None],
        *,
        keep_seconds: float = 86400.0,
        max_octets: int = 256 << 20,
        smallest: int = SMALLEST,
    ) -> None:
        self.folder = state_dir / FOLDER
        self._on_fault = on_fault
        self._keep_seconds = keep_seconds
        self._max_octets = max_octets
        self._smallest = smallest
        self._waiting: deque[Row] = deque()
        self._news = threading.Event()
        self._idle = True
        self._closing = False
        self._overflowed = False
        self._start: Start | None = None
        # The thread's own.
        self._serial = 0
        self._calls: dict[int, list[bytes]] = {}
        self._sent: dict[str, deque[tuple[float, bytes]]] = {}
        self._file = _File()
        self._stories = _File()
        self._told: list[bytes] = []  # stories that are still to be written
        self._number = 0
        self._fault = ""
        self._to_forget: deque[_Forgetting] = deque()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._syncer = _Syncer(self._fault_of_sync)

    # -- the start -----------------------------------------------------------------------------------------

    def load(self) -> Kept:
        """What an earlier process has left. Raises nothing: what can't be read is told."""
        kept, self._serial, self._number = read_calls(self.folder)
        return kept

    def start(self, start: Start, still: Iterable[Row] = ()) -> None:
        """Begin to write. `still`: rows of before that are to be kept (long windows)."""
        self._start = start
        for row in still:
            self._take(row)
        self._thread.start()
        self._syncer.start()

    # -- what the loop calls -------------------------------------------------------------------------------

    def put(self, row: Row) -> None:
        """Write a row down, soon."""
        waiting = self._waiting
        if len(waiting) >= WAITING_MAX:
            self._overflowed = True
            return
        waiting.append(row)
        if self._idle:
            self._idle = False
            self._news.set()

    @property
    def overflowed(self) -> bool:
        """Whether rows were dropped since the last time that this was asked: then all must be put again."""
        if not self._overflowed or self._fault or len(self._waiting) > WAITING_MAX // 2:
            return False
        self._overflowed = False
        return True

    def clock(self, start: Start) -> None:
        """The wall clock has stepped."""
        self._start = start
        self.put((START, 0, *start))

    def forget(self, wanted: Wanted, needles: Sequence[bytes], patience: float = 20.0) -> Forgotten:
        """Erase what became of the calls that are `wanted` (T12); `needles`: what stands in each of them. Of calls that
        have ended nothing else stays either. Waits: not for the loop. Raises OSError, and TimeoutError."""
        mine = _Forgetting(needles)
        self._to_forget.append(mine)
        self._news.set()
        if not mine.done.wait(patience):
            raise TimeoutError("the disk of the journal does not answer")
        if mine.fault:
            raise OSError(mine.fault)
        assert mine.calls is not None
        _sync(mine.calls)
        self._only(mine.calls)
        gone = forget_stories(self.folder, wanted, needles, but=mine.stories)
        return Forgotten(gone, mine.left)

    def close(self) -> None:
        """Write what is left, for a bounded time."""
        self._closing = True
        self._news.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)
        self._syncer.close()  # before the files: the last of them is still to be taken by the disk
        if not self._thread.is_alive():
            self._file.close()
            self._stories.close()

    # -- the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        retry_at = 0.0
        while True:
            self._idle = True
            if not self._waiting and not self._closing and not self._to_forget:
                self._news.wait()
            self._idle = False
            self._news.clear()
            last = self._closing
            if not last:
                time.sleep(COMMIT)  # what comes now goes along
            try:
                if self._file.closed and (time.monotonic() >= retry_at or last):
                    self._begin_anew()
                self._commit()
                if self._file.size > self._limit():
                    self._begin_anew()
                if self._to_forget and not self._file.closed:
                    self._forget()
                if last and not self._file.closed:
                    self._serial += 1
                    self._write(self._file, [frame(self._serial, (STOP, 0))])
                self._well()
            except Exception as error:
                self._broken(error)
                retry_at = time.monotonic() + RETRY_SECONDS
            if last:
                break

    def _commit(self) -> None:
        """Write all that has come."""
        frames: list[bytes] = []
        for row in self._come():
            try:
                self._take(row, frames)
            except ValueError as error:
                self._fault_once(f"a row can't be written: {error}")
        if self._file.closed:
            del self._told[:-STORIES_MAX]
            return
        if frames:
            self._write(self._file, frames)
        if self._told:
            if self._stories.closed or self._stories.size > self._max_octets // 16:
                self._next_stories()
            told, self._told = self._told, []
            self._write(self._stories, told)

    def _come(self) -> list[Row]:
        """What has come, without what is out of date already: a call that was refused at once has but a story."""
        waiting = self._waiting
        rows = [waiting.popleft() for _ in range(len(waiting))]
        last = {row[1]: n for n, row in enumerate(rows) if row[0] not in ADDS and row[0] != LASTS}
        return [row for n, row in enumerate(rows) if row[0] == LASTS or n >= last.get(row[1], 0)]

    def _write(self, file: _File, frames: Sequence[bytes]) -> None:
        file.write(b"".join(frames))
        self._syncer.wants(file)

    def _take(self, row: Row, frames: list[bytes] | None = None) -> None:
        """Note a row among those that count, and encode it."""
        kind, leg = row[0], row[1]
        self._serial += 1
        if kind == OVER:
            self._told.append(frame(self._serial, row))
            if self._calls.pop(leg, None) is None:
                return  # it was never sent to anybody
            row = (OVER, leg, row[2])
        data = frame(self._serial, row)
        if frames is not None:
            frames.append(data)
        if kind == LASTS:
            for _, name, *_ in row[3]:
                self._sent.setdefault(name, deque()).append((row[2] + max(p[2] for p in row[3]), data))
                break
        elif kind in ADDS:
            if leg in self._calls:
                self._calls[leg].append(data)
        elif kind not in (OVER, START):
            self._calls[leg] = [data]

    def _limit(self) -> int:
        return max(self._smallest, 3 * self._file.whole)

    def _begin_anew(self) -> None:
        """A new file with all that counts. Commits go on meanwhile, into the old one; and what they write is behind the
        rest in the new one."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._commit()
        old, self._number = self._file, self._number + 1
        path = self.folder / f"calls-{self._number:08d}"
        new = _File.made(path)
        try:
            assert self._start is not None
            new.write(HEAD + self._header())
            slices = _slices(self._all_that_counts())
            for part in slices:
                new.write(part)
                if not old.closed:
                    new.tail += self._commit_to(old)
            new.whole = new.size  # what has come meanwhile may be over already
            tail = b"".join(new.tail)
            new.tail.clear()
            self._serial += 1
            new.write(tail + frame(self._serial, (WHOLE, 0)))
        except BaseException:
            new.close()
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self._file = new
        old.close()
        self._syncer.wants(new, lambda: self._only(path))
        self._drop_old_stories()

    def _only(self, path: Path) -> None:
        """The disk has this file of calls: those before it are not needed any more."""
        _sync_folder(self.folder)
        for other in files(self.folder, "calls"):
            if other < path:
                other.unlink(missing_ok=True)

    def _commit_to(self, old: _File) -> list[bytes]:
        """Commit into the old file while the new one is made; the frames, for that."""
        before = old.size
        self._commit()
        return [old.last] if old.size > before else []

    def _header(self) -> bytes:
        self._serial += 1
        assert self._start is not None
        return frame(self._serial, (START, 0, *self._start))

    def _all_that_counts(self) -> Iterator[bytes]:
        now = time.monotonic()
        for name, sent in list(self._sent.items()):
            while sent and sent[0][0] < now:
                sent.popleft()
            if not sent:
                del self._sent[name]
        found = [data for sent in self._sent.values() for _, data in sent]
        found += [data for frames in self._calls.values() for data in frames]
        return iter(found)

    def _next_stories(self) -> None:
        self._stories.close()
        self._number += 1
        self._stories = _File.made(self.folder / f"stories-{self._number:08d}")
        self._stories.write(HEAD + self._header())
        self._drop_old_stories()

    def _drop_old_stories(self) -> None:
        """What is too old, or too much."""
        left = self._max_octets
        for path in sorted(files(self.folder, "stories"), reverse=True):
            if path == self._stories.path:
                continue
            status = path.stat()
            left -= status.st_size
            if left < 0 or status.st_mtime < time.time() - self._keep_seconds:
                path.unlink(missing_ok=True)

    def _forget(self) -> None:
        """The thread's part of `forget`: new files, the one of calls without those that have ended."""
        self._begin_anew()
        if not self._stories.closed:
            self._next_stories()
        live = [data for frames in self._calls.values() for data in frames]
        live += [data for sent in self._sent.values() for _, data in sent]
        while self._to_forget:
            mine = self._to_forget.popleft()
            mine.left = sum(is_of(data, mine.needles) for data in live)
            mine.calls, mine.stories = self._file.path, self._stories.path
            mine.done.set()

    # -- what goes wrong -----------------------------------------------------------------------------------

    def _broken(self, error: Exception) -> None:
        self._file.close()
        self._stories.close()
        self._commit()  # what counts stays in memory, and some stories
        reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
        fault = f"the journal in {self.folder} can't be written ({reason})"
        self._fault_once(fault)
        while self._to_forget:
            mine = self._to_forget.popleft()
            mine.fault = fault
            mine.done.set()

    def _well(self) -> None:
        if self._fault and not self._file.closed:
            self._fault = ""
            self._on_fault("")

    def _fault_once(self, text: str) -> None:
        if text != self._fault:
            self._fault = text
            self._on_fault(text)

    def _fault_of_sync(self, error: OSError) -> None:
        self._fault_once(f"the journal in {self.folder} can't be made durable ({error.strerror})")


class _Forgetting:
    """What one `Journal.forget` asks of the thread. `left`: rows of calls and limits that hold on."""

    def __init__(self, needles: Sequence[bytes]) -> None:
        self.needles = needles
        self.left = 0
        self.calls: Path | None = None
        self.stories: Path | None = None
        self.fault = ""
        self.done = threading.Event()


class _File:
    """A file that is appended to. `whole`: how much of it was written when it was begun; `last`: what was written
    last; `tail`: what is still to come behind that."""

    def __init__(self, path: Path | None = None, descriptor: int = -1) -> None:
        self.path = path
        self._descriptor = descriptor
        self.size = 0
        self.whole = 0
        self.last = b""
        self.tail: list[bytes] = []

    @classmethod
    def made(cls, path: Path) -> _File:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        return cls(path, os.open(path, flags, 0o600))

    @property
    def closed(self) -> bool:
        return self._descriptor < 0

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self.size += len(data)
        self.last = data

    def duplicate(self) -> int:
        """A descriptor of its own to the same file."""
        return os.dup(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with contextlib.suppress(OSError):
                os.close(descriptor)


class _Syncer:
    """Has the disk take what was written, in a thread of its own."""

    def __init__(self, on_fault: Callable[[OSError], None]) -> None:
        self._on_fault = on_fault
        self._wanted: dict[_File, Callable[[], None] | None] = {}
        self._lock = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="journal sync", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wants(self, file: _File, then: Callable[[], None] | None = None) -> None:
        with self._lock:
            self._wanted[file] = then or self._wanted.get(file)
            self._lock.notify()

    def close(self) -> None:
        with self._lock:
            self._closing = True
            self._lock.notify()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._wanted or self._closing)
                files, self._wanted = self._wanted, {}
                if not files:
                    return
            for file, then in files.items():
                try:
                    descriptor = file.duplicate()
                except OSError:
                    continue  # it is closed: another has taken its place
                try:
                    os.fdatasync(descriptor)
                    if then is not None:
                        then()
                except OSError as error:
                    self._on_fault(error)
                finally:
                    os.close(descriptor)
            with self._lock:
                self._lock.wait_for(lambda: self._closing, SYNC)


def _slices(frames: Iterator[bytes]) -> Iterator[bytes]:
    part: list[bytes] = []
    size = 0
    for data in frames:
        part.append(data)
        size += len(data)
        if size >= SLICE:
            yield b"".join(part)
            part, size = [], 0
    if part:
        yield b"".join(part)


def _sync(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # a newer one has taken its place
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
