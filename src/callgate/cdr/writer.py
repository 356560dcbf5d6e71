"""Takes the records of calls that have ended, and sees that none is lost: into the database, or else into the spill
file, or else in memory.

Two threads. The keeper takes what the loop hands over, every 25 ms: while all is well it gives a batch to the other
thread, which has the connection and commits each batch as one transaction. What is not committed 40 ms after it was
handed over goes into the spill, whatever the database is doing: away, locked, full, or silent for minutes. So a record
survives the process 100 ms after the end of its call, and no call ever waits for a disk. The spill is read back in
order once the database takes records again; until it is empty, all that comes goes behind it. A record that is in both
is one: its id is the key.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from callgate.cdr.database import words
from callgate.cdr.erase import Erased, Selection
from callgate.cdr.events import Event, Receiver
from callgate.cdr.row import Row, rower
from callgate.cdr.spill import DAMAGED, REFUSED, Spill, line_of
from callgate.cdr.store import Store, is_bad_row
from callgate.proxy.record import CallRecord

GATHER = 0.025
"""Seconds between two batches."""
PATIENCE = 0.04
"""A batch that is not committed after so many seconds goes into the spill."""
HELD = 50_000
"""Records held in memory where neither database nor spill can be written; some 100 MB."""
EVENTS = 10_000
"""Events of other kinds held while the database is away."""
SPILL_RETRY = 1.0
RETRY_FIRST, RETRY_LAST = 0.25, 5.0
"""Seconds until the database is tried again, doubling from the first to the last."""
PAUSE = 0.005
"""Between two batches out of the spill: calls have the processor first."""
LOOK_SECONDS = 10.0
"""How often a database that has nothing to do is asked whether it is there."""
SILENT = 1.0
"""Seconds without an answer after which it is said that the database does not answer."""
PRUNE_FIRST, PRUNE_SECONDS = 60.0, 3600.0
CLOSE_SECONDS = 5.0
POURED = 50
"""Records written to the spill at a time: a disk that is nearly full has room for some."""
MERGED = 500
"""Records in a batch that had to wait."""


class State(NamedTuple):
    """How it stands. `fault`: why the database can't be written, empty where it can. `spill_fault`: the same of the
    spill, where it is needed. `waiting` records' bytes are in the spill, `held` records in memory only. Since the
    start: `lost`, and `aside`, those that no database would take, which are in a file beside the spill; `events_lost`,
    events about other things than records."""

    fault: str
    spill_fault: str
    waiting: int
    held: int
    written: int
    lost: int
    aside: int
    events_lost: int = 0

    @property
    def well(self) -> bool:
        return not (self.fault or self.spill_fault or self.waiting)


class _Batch:
    __slots__ = ("at", "rows")

    def __init__(self, rows: list[Row], at: float) -> None:
        self.rows = rows
        self.at = at


class Writer:
    """`put` from the loop; `state` from anywhere. `state_dir` None: no spill. `keep_days` None: for ever."""

    def __init__(
        self,
        url: str,
        state_dir: Path | None,
        *,
        keep_days: float | None = None,
        held: int = HELD,
        spill: Spill | None = None,
        store: Store | None = None,
        receivers: Sequence[Receiver] = (),
    ) -> None:
        self._store = store or Store(url, receivers)
        self._spill = spill or (Spill(state_dir) if state_dir is not None else None)
        self._keep_days = keep_days
        self._bound = held
        self._queue: queue.SimpleQueue[tuple[CallRecord, float] | Event | None] = queue.SimpleQueue()
        self._over = 0  # records for which the queue had no room; the loop's to count
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._step = threading.Lock()  # held by whoever works on the database
        self._batches: deque[_Batch] = deque()
        self._events: deque[Event] = deque()
        self._events_given = self._events_told = self._events_lost = 0
        self._held = 0
        self._up = False
        self._fault = ""
        self._spill_fault = ""
        self._spill_again = 0.0
        self._working_since = float("inf")
        self._refused_ids: deque[str] = deque(maxlen=1000)
        self._written = self._lost = self._aside = 0
        self._prune_at = time.monotonic() + PRUNE_FIRST
        self._closing = self._ended = False
        self._row_of = rower()
        self._keeper = threading.Thread(target=self._keep, name="records", daemon=True)
        self._worker = threading.Thread(target=self._work, name="database", daemon=True)

    # -- the loop's side -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Both threads begin; what an earlier run has spilled comes first."""
        self._keeper.start()
        self._worker.start()

    def put(self, record: CallRecord, offset: float) -> None:
        """A call has ended; `offset` turns its monotonic times into UTC. Never waits."""
        if self._queue.qsize() > self._bound:  # the keeper itself hangs in a disk
            self._over += 1
        else:
            self._queue.put((record, offset))

    def tell(self, event: Event) -> int:
        """Something else has happened than the end of a call. Never waits. Its number: see `told`."""
        self._queue.put(event)
        self._events_given += 1
        return self._events_given

    @property
    def told(self) -> int:
        """The number of the last event that is in the outbox, or lost."""
        return self._events_told + self._events_lost

    @property
    def state(self) -> State:
        fault = self._fault
        if not fault and time.monotonic() - self._working_since > SILENT:
            fault = "it does not answer"
        return State(
            fault,
            self._spill_fault,
            self._spill.waiting if self._spill is not None else 0,
            self._held + self._queue.qsize(),
            self._written,
            self._lost + self._over,
            self._aside,
            self._events_lost,
        )

    def close(self, deadline: float = CLOSE_SECONDS) -> State:
        """Keep what is left, for a bounded time. What then is in memory only is lost, and counted."""
        until = time.monotonic() + deadline
        self._queue.put(None)
        self._keeper.join(deadline)
        with self._news:
            self._closing = True
            self._news.notify_all()
        self._worker.join(max(0.0, until - time.monotonic()))
        with self._lock:
            self._ended = True
            self._flush(time.monotonic(), last=True)
            self._lost += self._held
            self._held = 0
            self._batches.clear()
            self._events_lost += len(self._events)
            self._events.clear()
            if self._spill is not None:
                with suppress(OSError):
                    self._spill.close()
        return self.state

    # -- the keeper ----------------------------------------------------------------------------------------

    def _keep(self) -> None:
        while True:
            last = self._gather()
            with self._news:
                self._flush(time.monotonic(), last=False)
                self._news.notify_all()
            if last:
                break
        # The database has its chance with the last ones; `close` spills what it does not take.
        end = time.monotonic() + CLOSE_SECONDS / 2
        while self._held and self._up and time.monotonic() < end:
            time.sleep(GATHER / 5)
            with self._lock:
                self._flush(time.monotonic(), last=False)

    def _gather(self) -> bool:
        """Take what has been handed over in the meantime. True at the end."""
        rows: list[Row] = []
        events: list[Event] = []
        last = False
        try:
            held = self._held
            item = self._queue.get(timeout=GATHER if held else None)
            at = time.monotonic()
            if item is not None:
                time.sleep(GATHER / 5 if held else GATHER)
            while True:
                if item is None:
                    last = True
                elif isinstance(item, Event):
                    events.append(item)
                else:
                    rows.append(self._row_of(*item))
                item = self._queue.get_nowait()
        except queue.Empty:
            pass
        if events:
            with self._lock:
                room = EVENTS - len(self._events)
                self._events += events[:room]
                self._events_lost += len(events[room:])
        if rows:
            with self._lock:
                merge = self._batches and not self._up and len(self._batches[-1].rows) < MERGED
                if merge:
                    self._batches[-1].rows += rows
                else:
                    self._batches.append(_Batch(rows, at))
                self._held += len(rows)
        return last

    def _flush(self, now: float, *, last: bool) -> None:
        """Spill what the database has not taken in time, or can't take. The lock is held."""
        if not self._batches:
            return
        waits = self._spill is not None and self._spill.waiting
        late = last or not self._up or waits or now - self._batches[0].at > PATIENCE
        if late and self._spill is not None and (last or now >= self._spill_again):
            self._pour(now)
        while self._held > self._bound:
            newest = self._batches[-1].rows
            over = min(len(newest), self._held - self._bound)
            del newest[len(newest) - over :]
            self._held -= over
            self._lost += over
            if not newest:
                self._batches.pop()

    def _pour(self, now: float) -> None:
        assert self._spill is not None
        try:
            while self._batches:
                batch = self._batches[0]
                some = batch.rows[:POURED]
                self._spill.append(some)
                self._held -= len(some)
                self._batches.popleft()
                if len(batch.rows) > POURED:  # another one: the old may be on its way into the database
                    self._batches.appendleft(_Batch(batch.rows[POURED:], batch.at))
        except OSError as error:
            self._spill_fault = words(error)
            self._spill_again = now + SPILL_RETRY
        else:
            self._spill_fault = ""

    # -- the database's thread -----------------------------------------------------------------------------

    def _work(self) -> None:
        delay = RETRY_FIRST
        while not self._ended:
            with self._step:
                self._working_since = time.monotonic()
                more = self._turn()
                self._working_since = float("inf")
            if more is None:
                wait, delay = delay, min(delay * 2, RETRY_LAST)
                with self._news:
                    if self._closing or self._news.wait_for(lambda: self._closing, wait):
                        break
                continue
            delay = RETRY_FIRST
            if more:
                time.sleep(PAUSE)
                continue
            with self._news:
                self._news.wait_for(lambda: self._work_waits() or self._closing, LOOK_SECONDS)
                if self._closing and not self._work_waits():
                    break
        self._store.close()

    def _turn(self) -> bool | None:
        """One transaction. True: there is more; None: it failed, and has to be tried again."""
        try:
            self._store.connect()
            with self._lock:
                self._up, self._fault = True, ""
            return self._move() or self._tell() or self._prune()
        except Exception as error:  # whatever it is: records are kept elsewhere
            self._store.close()
            with self._lock:
                self._up, self._fault = False, words(error)
                self._flush(time.monotonic(), last=False)
            return None

    def _prune(self) -> bool:
        now = time.monotonic()
        if now < self._prune_at:
            return False
        more = self._store.prune_letters()
        if self._keep_days is not None:
            more = self._store.prune(self._keep_days) or more
        if not more:
            self._prune_at = now + PRUNE_SECONDS
        return more

    def _tell(self) -> bool:
        """One transaction with events. True where there are more."""
        with self._lock:
            some = [self._events[n] for n in range(min(MERGED, len(self._events)))]
        if not some:
            return False
        self._store.tell(some)
        with self._lock:
            for _ in some:
                self._events.popleft()
            self._events_told += len(some)
            return bool(self._events)

    def _work_waits(self) -> bool:
        return bool(self._batches or self._waiting() or self._events)

    def _waiting(self) -> int:
        return self._spill.waiting if self._spill is not None else 0

    def _move(self) -> bool:
        """One transaction: out of the spill, and where that is empty, out of memory. True where there is more."""
        if self._spill is not None:
            try:
                with self._lock:
                    self._spill.open()
                    waiting = self._spill.waiting
            except OSError as error:
                # Whoever needs it will say so; an earlier run's has to wait.
                waiting = 0
                if self._held:
                    self._spill_fault = words(error)
            if waiting:
                return self._move_spilled(self._spill)
        with self._lock:
            batch = self._batches[0] if self._batches else None
            rows = list(batch.rows) if batch is not None else []
        if batch is None:
            return False
        self._insert(rows)
        with self._lock:
            # Where the keeper has spilled it meanwhile, it is in both: one record all the same.
            if self._batches and self._batches[0] is batch:
                there = len(batch.rows)
                del batch.rows[: len(rows)]
                self._held -= there - len(batch.rows)
                if not batch.rows:
                    self._batches.popleft()
            if not self._held:
                self._spill_fault = ""  # nobody needs it any more
            return bool(self._batches or self._waiting())

    def _move_spilled(self, spill: Spill) -> bool:
        damaged: list[bytes] = []
        with self._lock:
            rows, end = spill.read(lambda line, _why: damaged.append(line))
        if damaged:
            spill.keep_aside(DAMAGED, damaged)
            self._aside += len(damaged)
        self._insert(rows)
        with self._lock:
            spill.taken(end)
            self._spill_fault = ""
            return bool(self._batches or spill.waiting)

    def _insert(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        try:
            self._store.insert(rows)
        except Exception as error:
            if not is_bad_row(error):
                raise
            self._singly(rows)
        self._written += len(rows)

    def _singly(self, rows: Sequence[Row]) -> None:
        """One of them is none that the database takes: it must not hold up the others for ever."""
        for row in rows:
            try:
                self._store.insert([row])
            except Exception as error:
                if not is_bad_row(error):
                    raise
                self._written -= 1
                self._refused(row)

    def _refused(self, row: Row) -> None:
        if row["id"] in self._refused_ids:
            return  # it has come out of the spill once more
        self._refused_ids.append(row["id"])
        if self._spill is None:
            self._lost += 1
            return
        self._spill.keep_aside(REFUSED, [line_of(row)])
        self._aside += 1

    # -- erasing -------------------------------------------------------------------------------------------

    def erase(self, selection: Selection, patience: float = 20.0) -> Erased:
        """Erase records wherever they are (T12), while none is on its way. Waits; not for the loop. Raises what the
        database or the disk raises, and TimeoutError where the database does not answer."""
        time.sleep(3 * GATHER)  # what ended before has left the queue
        if not self._step.acquire(timeout=patience):
            raise TimeoutError("the database does not answer")
        try:
            memory = spilled = aside = 0

            def keep(row: Row) -> bool:
                return not selection.matches(row)

            with self._lock:
                for batch in self._batches:
                    kept = [row for row in batch.rows if keep(row)]
                    memory += len(batch.rows) - len(kept)
                    batch.rows[:] = kept
                self._held -= memory
                self._batches = deque(batch for batch in self._batches if batch.rows)
                if self._spill is not None:
                    spilled = self._spill.replace(keep)
            if self._spill is not None:
                aside = self._spill.erase_aside(keep, selection.needles)
            self._store.connect()
            return self._store.erase(selection)._replace(spill=spilled, memory=memory, aside=aside)
        except Exception:
            self._store.close()
            raise
        finally:
            self._step.release()
