"""Takes events out of the outbox and to their receivers: in order in each lane, each until it has arrived, is given up
or is erased.

One loop looks at the lanes a few times a second, writes down what has arrived since the last look, and reads what is
due, of all lanes at once; a lane that has something is a task. A lane that fails waits, longer each time, and with it
what comes after; others go on. Nothing of a waiting lane is held in memory: it is read anew before each attempt, so
that what was erased meanwhile is not sent.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from sqlalchemy import Connection, text

from callgate.cdr import outbox
from callgate.cdr.database import engine_of, identity, sqlite_path, words
from callgate.cdr.events import Receiver, stamp_of
from callgate.cdr.notify import Notify
from callgate.cdr.outbox import Letter
from callgate.cdr.post import AT_ONCE, GONE, Outcome, Post
from callgate.cdr.schema import check_version, version_of

POLL_SECONDS: Final = 0.2
FIRST_SECONDS: Final = 1.0
"""Until the first retry, doubling to `retry_max_seconds`."""
AHEAD: Final = 64
"""Letters of a lane that are read at once, while all goes well."""
GATHER_SECONDS: Final = 0.02
"""What arrives in so many seconds is one transaction."""
COUNT_SECONDS: Final = 5.0
DATABASE_SECONDS: Final = 2.0
"""Until the database is tried again."""
LOCK: Final = 0x6F7574626F780001
"""Of PostgreSQL: of several gates one delivers."""
LAST_SECONDS: Final = 1.0
"""For attempts under way at the end."""
SPREAD: Final = 0.1
Result = TypeVar("Result")


class Taken(Exception):
    """Another gate delivers from this database."""


class Book:
    """The courier's connection to the outbox. Not from two threads at once."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._file = sqlite_path(url)
        self._lock_fd = -1
        self._identity: tuple[int, int] | None = None
        self._read: Connection | None = None
        self._write: Connection | None = None

    def open(self) -> None:
        """Nothing where it is open. Raises what the database raises, SchemaError, and Taken."""
        if self._write is not None:
            if self._file is None or identity(self._file) == self._identity:
                return
            self.close()  # the file was moved away, and the gate has begun a new one
        if self._file is not None:
            self._take_file(self._file)
        read = engine_of(self._url, write=False).connect()
        try:
            with read.begin():
                check_version(version_of(read))
            write = engine_of(self._url).connect()
        except BaseException:
            read.close()
            raise
        self._read, self._write = read, write
        self._identity = identity(self._file) if self._file is not None else None
        if self._file is None:
            with write.begin():
                got = write.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}).scalar()
            if not got:
                self.close()
                raise Taken("another gate delivers the events")

    def _take_file(self, file: Path) -> None:
        if self._lock_fd >= 0:
            return
        fd = os.open(file.with_name(f"{file.name}.outbox"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise Taken("another gate delivers the events") from None
        self._lock_fd = fd

    def read(self, work: Callable[[Connection], Result]) -> Result:
        self.open()
        assert self._read is not None
        with self._read.begin():
            return work(self._read)

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """One transaction."""
        self.open()
        assert self._write is not None
        with self._write.begin():
            return work(self._write)

    def close(self) -> None:
        for connection in (self._read, self._write):
            if connection is not None:
                with suppress(Exception):
                    connection.close()
        self._read = self._write = None

    def give_back(self) -> None:
        """Close, and let another gate deliver."""
        self.close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


@dataclass(slots=True)
class _Lane:
    """`mark`: the last number and the version, as they were at the last look. `seen`: the mark up to which all its
    letters are delivered."""

    receiver: str
    key: str
    mark: tuple[int, int] = (0, 0)
    seen: tuple[int, int] | None = None
    due: float = 0.0
    failures: int = 0
    under_way: bool = False

    @property
    def ahead(self) -> int:
        """How many letters to read: one alone after a failure."""
        return 1 if self.failures else AHEAD


class Report(NamedTuple):
    """Of one receiver. `oldest`: seconds since the oldest letter under way or waiting was queued. Since the start:
    `delivered` and `failed` attempts. `fault`: why the last attempt failed, empty where it did not."""

    receiver: str
    pending: int
    dead: int
    oldest: float
    delivered: int
    failed: int
    fault: str
    disabled: bool

    def row(self) -> dict[str, Any]:
        return self._asdict()


@dataclass(slots=True)
class _Count:
    delivered: int = 0
    failed: int = 0
    fault: str = ""
    under_way: int = 0


class Poster(Protocol):
    """Delivers to one receiver; never raises for what that does."""

    async def deliver(self, ident: str, body: str) -> Outcome: ...

    async def close(self) -> None: ...


class Courier:
    """`run` until it is cancelled. `first` and `poll` in seconds; `post` makes what delivers to a receiver."""

    def __init__(
        self,
        url: str,
        receivers: Sequence[Receiver],
        *,
        poll: float = POLL_SECONDS,
        first: float = FIRST_SECONDS,
        post: Callable[[Receiver], Poster] | None = None,
    ) -> None:
        self._book = Book(url)
        self._receivers = {one.name: one for one in receivers}
        self._posts = {one.name: (post or _poster)(one) for one in receivers}
        self._counts = {one.name: _Count() for one in receivers}
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._poll = poll
        self._first = first
        self._done: list[Letter] = []
        self._gone: set[str] = set()
        self._off: set[str] = set()
        self._waiting: Mapping[str, tuple[int, int]] = {}
        self._oldest: dict[tuple[str, str], str] = {}
        self._count_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._ending = False
        self._thread = ThreadPoolExecutor(1, "outbox")  # one: there is one connection
        self.fault = ""
        """What is wrong with the database; empty where nothing is."""
        self.standby = False
        """Another gate delivers."""

    @property
    def reports(self) -> list[Report]:
        now = time.time()
        found = []
        for name, count in self._counts.items():
            pending, dead = self._waiting.get(name, (0, 0))
            waits = [at for (receiver, _), at in self._oldest.items() if receiver == name]
            oldest = max(0.0, now - _seconds(min(waits))) if waits else 0.0
            found.append(
                Report(
                    name,
                    pending,
                    dead,
                    round(oldest, 1),
                    count.delivered,
                    count.failed,
                    count.fault,
                    name in self._off,
                )
            )
        return found

    async def run(self) -> None:
        try:
            while True:
                wait = self._poll
                try:
                    await self._turn()
                    self.fault, self.standby = "", False
                except Taken:
                    self.standby, self.fault = True, ""
                    wait = DATABASE_SECONDS
                except Exception as error:  # whatever it is: the outbox keeps the events
                    self.fault = words(error)
                    wait = DATABASE_SECONDS
                    await self._in_thread(self._book.close)
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._news.wait()
                if self._news.is_set():
                    await asyncio.sleep(min(wait, GATHER_SECONDS))
                    self._news.clear()
        finally:
            await self._end()

    async def _end(self) -> None:
        self._ending = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_SECONDS)  # an answer that is lost now makes a double
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(Exception):
            await self._settle()
        await self._in_thread(self._book.give_back)
        self._thread.shutdown(wait=False)
        for post in self._posts.values():
            with suppress(Exception):
                await post.close()

    async def _turn(self) -> None:
        found, off = await self._in_thread(
            self._book.read, lambda c: (outbox.all_lanes(c), outbox.disabled(c))
        )
        self._off = off | self._gone
        for one in found:
            if one.receiver in self._receivers:
                lane = self._lanes.get((one.receiver, one.key))
                if lane is None:
                    lane = self._lanes[one.receiver, one.key] = _Lane(one.receiver, one.key)
                lane.mark = one.seq, one.version
        now = asyncio.get_running_loop().time()
        due = self._due(now)
        # Once it is known whose letters are read: or what has arrived meanwhile would be read once more.
        await self._settle()
        if due:
            wanted = [(lane.receiver, lane.key, lane.ahead) for lane in due]
            heads = await self._in_thread(
                self._book.read, lambda c: [outbox.head(c, *lane) for lane in wanted]
            )
            for lane, letters in zip(due, heads, strict=True):
                self._begin(lane, letters)
        if now >= self._count_at:
            self._count_at = now + COUNT_SECONDS
            self._waiting = await self._in_thread(self._book.read, outbox.counts)
            await self._give_up_untried()

    def _due(self, now: float) -> list[_Lane]:
        """Lanes that have something to deliver now, as many as may go at once."""
        due = []
        free = {name: AT_ONCE - count.under_way for name, count in self._counts.items()}
        for lane in self._lanes.values():
            idle = lane.under_way or lane.seen == lane.mark or now < lane.due
            if not idle and lane.receiver not in self._off and free[lane.receiver] > 0:
                free[lane.receiver] -= 1
                due.append(lane)
        for lane in due:
            # Its place in the queue is the last next time: with more lanes than may go at once, each has its turn.
            self._lanes[lane.receiver, lane.key] = self._lanes.pop((lane.receiver, lane.key))
        return due

    def _begin(self, lane: _Lane, letters: list[Letter]) -> None:
        if not letters:
            lane.seen = lane.mark
            if lane.failures:  # what failed was erased or given up
                lane.failures = 0
                self._oldest.pop((lane.receiver, lane.key), None)
                if not any(one.failures for one in self._lanes.values() if one.receiver == lane.receiver):
                    self._counts[lane.receiver].fault = ""
            return
        lane.under_way = True
        self._counts[lane.receiver].under_way += 1
        task = asyncio.create_task(self._walk(lane, letters))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self) -> None:
        """Write down what has arrived, and who wants no more."""
        done, gone = self._done[:], set(self._gone)
        if not done and not gone:
            return

        def work(connection: Connection) -> None:
            outbox.delivered(connection, done)
            for receiver in gone:
                outbox.disable(connection, receiver)

        await self._in_thread(self._book.write, work)
        del self._done[: len(done)]
        self._gone -= gone

    async def _give_up_untried(self) -> None:
        """What nobody tries to deliver is given up in time: receivers that answered 410, or that the config does not
        name any more."""
        longest = max((one.give_up for one in self._receivers.values()), default=0.0)
        for name, (pending, _) in self._waiting.items():
            if not pending:
                continue
            known = self._receivers.get(name)
            if known is None:
                await self._give_up(name, None, longest, "the config names this receiver no more")
            elif name in self._off:
                await self._give_up(name, None, known.give_up, "answered 410: switched off until a replay")

    async def _walk(self, lane: _Lane, letters: list[Letter]) -> None:
        """Deliver these of a lane, until something fails."""
        name, mark, last = (lane.receiver, lane.key), lane.mark, len(letters) < lane.ahead
        try:
            for letter in letters:
                if self._ending or lane.receiver in self._off or lane.mark[1] != mark[1]:
                    return  # something was erased or replayed: read it anew
                self._oldest[name] = letter.queued_at
                if not await self._one(lane, letter):
                    return
            if last:
                lane.seen = mark
        except Exception as error:  # of the database: the next turn will show it
            lane.due = asyncio.get_running_loop().time() + DATABASE_SECONDS
            self._counts[lane.receiver].fault = words(error)
        finally:
            if not lane.failures:
                self._oldest.pop(name, None)
            lane.under_way = False
            self._counts[lane.receiver].under_way -= 1
            self._news.set()

    async def _one(self, lane: _Lane, letter: Letter) -> bool:
        """An attempt. True where the next letter may go."""
        receiver, count = self._receivers[lane.receiver], self._counts[lane.receiver]
        outcome = await self._posts[lane.receiver].deliver(letter.id, letter.body)
        if not outcome.fault:
            self._done.append(letter)
            count.delivered += 1
            count.fault = ""
            lane.failures = 0
            self._news.set()
            return True
        count.failed += 1
        count.fault = outcome.fault
        lane.failures += 1
        lane.due = asyncio.get_running_loop().time() + self._pause(lane.failures, receiver.retry_max)
        if outcome.code == GONE:
            self._gone.add(lane.receiver)
            self._off.add(lane.receiver)
        elif time.time() - _seconds(letter.queued_at) >= receiver.give_up:
            await self._give_up(lane.receiver, lane.key, receiver.give_up, outcome.fault)
            lane.due = 0.0
        return False

    async def _give_up(self, receiver: str, key: str | None, seconds: float, fault: str) -> None:
        before = stamp_of(time.time() - seconds)
        while await self._in_thread(
            self._book.write, lambda c: outbox.give_up(c, receiver, key, before, fault)
        ):
            pass

    def _pause(self, failures: int, most: float) -> float:
        """Seconds before the next attempt: doubling, and not in step with others."""
        pause = min(most, self._first * 2.0 ** min(failures - 1, 30))
        return min(most, pause * random.uniform(1 - SPREAD, 1 + SPREAD))

    async def _in_thread(self, work: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _poster(receiver: Receiver) -> Poster:
    return Notify(receiver) if receiver.apprise else Post(receiver)


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()
