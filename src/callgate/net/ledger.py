"""The ledger of a gate: what outlives a crash (`store.journal`), taken up at the start and kept from then on."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic, perf_counter
from typing import Final

from callgate.config import Config
from callgate.net.log import Log
from callgate.policy.claim import Claim, Distinct, Gap, Members, Part, Verdict, Window
from callgate.policy.ledger import MARGIN
from callgate.proxy import commands
from callgate.proxy.commands import Alert
from callgate.proxy.core import Core
from callgate.proxy.restart.journal import CALL_BACK, LASTS, RECORD, Row
from callgate.proxy.restart.restore import Restorer, fold
from callgate.store.forget import Forgotten, Wanted
from callgate.store.journal import Journal
from callgate.store.memory import MemoryStore, Owed
from callgate.store.recall import Kept, Start

Parts = tuple[Part, ...]
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
SHORT: Final = 1.0
"""Seconds of a window that a start waits for: longer ones are written down."""
UNKNOWN: Final = 100
"""Tokens of a long window that the last moments before a crash can have taken at most, where no limit of a second says
less: more calls than a gate takes in 50 ms."""


class Ledger:
    """Without a `state_dir` nothing is kept: `put` is not called then, since the core journals nothing. `on_news` is
    called when there is something to carry out."""

    def __init__(
        self, config: Config, core: Core, store: MemoryStore, log: Log, on_news: Callable[[], None]
    ) -> None:
        self._core = core
        self._store = store
        self._log = log
        self._on_news = on_news
        self._journal: Journal | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._boot = _boot()
        self._long: dict[int, Row] = {}  # claim → what it takes of long windows
        self._of: dict[int, tuple[Parts, Row]] = {}
        self._owed: list[Owed] = []
        section = config.journal
        if config.state_dir is not None:
            self._journal = Journal(
                config.state_dir,
                self._fault,
                keep_seconds=section.keep_hours * 3600.0,
                max_octets=section.max_megabytes << 20,
            )
        else:
            core.journals = False

    # -- the start -----------------------------------------------------------------------------------------

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take up what an earlier start has left, then keep what comes. The core knows its clock by now."""
        self._loop = loop
        journal = self._journal
        if journal is None:
            self._log.warning(
                "state_dir is null: a restart forgets all calls, and what longer windows than a second have passed"
            )
            return
        began = perf_counter()
        kept = journal.load()
        now = monotonic()
        still: list[Row] = []
        if kept.lost:
            self._damaged(kept)
        if kept.start is not None or kept.lost:  # who wrote it may be lost: then as if this process had
            still = self._take_up(kept, kept.start or self._start(), now, began)
        out = self._core.out
        for command in out:
            if type(command) is commands.Journal:
                journal.put(command.row)
        out[:] = [command for command in out if type(command) is not commands.Journal]
        journal.start(self._start(), still)  # now that all is there: with its first file the old ones go

    def _take_up(self, kept: Kept, start: Start, now: float, began: float) -> list[Row]:
        core = self._core
        shift = self._shift(kept, start, now)
        core.adoption.over = set(kept.over)
        restorer = Restorer(core, start.listeners, start.fields, shift)
        taken = restorer.restore(fold(kept.calls), now)
        core.keep_all(now)
        still = self._recall(kept, shift, now)
        if kept.calls or still:
            self._log.info(
                "calls taken up",
                up=taken.up,
                ringing=taken.ringing,
                queued=taken.queued,
                left_out=len(taken.left_out),
                away_seconds=round(now - kept.last - shift, 3) if kept.last > float("-inf") else None,
                took_seconds=round(perf_counter() - began, 3),
            )
        for why, count in Counter(taken.left_out).most_common(5):
            self._log.warning("calls not taken up", why=why, count=count)
        return still

    def _shift(self, kept: Kept, start: Start, now: float) -> float:
        """What the journal's times lack to be times of today. Where the machine has run on since, its monotonic clock
        has too, whatever the wall clock did. Else the wall clock has to tell; and if it says that the journal is of
        the future, no time has passed."""
        shift = 0.0 if start.boot == self._boot and self._boot else start.utc_offset - self._core.utc_offset
        if kept.last + shift > now:
            self._log.warning(
                "the clock has been put back since the last start", seconds=kept.last + shift - now
            )
            shift = now - kept.last
        return shift

    def _recall(self, kept: Kept, shift: float, now: float) -> list[Row]:
        """Take the tokens of long windows again, and those that the last moments may have taken besides. The rows, with
        times of today."""
        rows: list[Row] = []
        latest: dict[int, Row] = {}  # of the copies of one INVITE
        for kind, claim, at, parts in kept.sent:
            then = min(at + shift, now)
            if not any(then + part[2] > now for part in parts):
                continue
            row = (kind, claim, then, parts)
            if not claim:
                rows.append(row)
            elif claim not in latest or then > latest[claim][2]:
                latest[claim] = row
        rows += latest.values()
        rows.sort(key=lambda row: float(row[2]))
        if kept.last > float("-inf") or kept.lost:
            rows += self._unknown(kept, min(kept.last + shift, now) if kept.last > float("-inf") else now)
        for _, _, then, parts in rows:
            if parts[0][0] == CALL_BACK:
                _, _, seconds, key_id, number = parts[0]
                self._core.emergency.recall(key_id, number, then + seconds)
                continue
            claim_id = self._core.next_id()
            again = tuple([_PARTS[kind](*values) for kind, *values in parts])
            self._store.claim(Claim(claim_id, again, now, 60.0, force=True), then)
            self._store.sent(claim_id, then)
            self._store.release(claim_id, now)
        for owed in self._owed:
            self._store.owes(owed, now)
        return rows

    def _unknown(self, kept: Kept, crash: float) -> list[Row]:
        """What may have passed in the last moments, of which nobody knows: for each key no more than its rate lets pass
        at once, and over all of them no more than a gate can send or take; and what stood where nothing can be read. As
        rows where windows are known by name; those of which each caller, class or day has one owe it when they are
        first used."""
        rows: list[Row] = []
        left: dict[str, int] = {}

        def may(name: str, count: int, limit: int | None) -> int:
            untold = 0 if name in left else kept.untold
            taken = min(count, left.get(name, UNKNOWN))
            left[name] = left.get(name, UNKNOWN) - taken
            return min(taken + untold, UNKNOWN if limit is None else limit)

        for key in self._core.directory.keys.values():
            for parts, more in ((key.outbound, key.more_out), (key.inbound, key.more_in)):
                windows = [part for part in parts if isinstance(part, Window)]
                short = [w.limit for w in windows if w.period <= SHORT and w.limit is not None]
                at_once = 0 if kept.stopped else min(short, default=UNKNOWN)
                for part in windows:
                    if part.period > SHORT:
                        row = (("W", part.name, part.period, part.rule, part.passing),)
                        rows += [(LASTS, 0, crash, row)] * may(part.name, at_once, part.limit)
                several: list[tuple[str, str, float, int]] = []  # different numbers
                if key.reach is not None and parts is key.outbound:
                    limit, period = key.reach
                    several.append(("V2", f"{key.id}/distinct_numbers", period, limit))
                for one in more:
                    if one.more.kind == "at_once":
                        continue
                    first, last, period = one.names(crash + self._core.utc_offset)
                    if one.more.kind == "calls" or first.endswith("/"):
                        count = may(first, at_once, one.more.limit)
                        self._owed += [Owed(first, last, count, crash + period + MARGIN)] if count else []
                    else:
                        several.append((one.more.rule, first, period, one.more.limit))
                for rule, name, period, limit in several:
                    for n in range(may(name, at_once, limit)):
                        rows.append((LASTS, 0, crash, (("D", name, period, rule, b"unknown %d" % n),)))
        return rows

    def _start(self) -> Start:
        names = tuple([listener.name for listener in self._core.directory.listeners])
        return Start(self._boot, self._core.utc_offset, names, RECORD)

    # -- what is kept --------------------------------------------------------------------------------------

    def put(self, row: Row) -> None:
        if self._journal is not None:
            self._journal.put(row)

    def granted(self, claim: Claim, verdict: Verdict, now: float) -> Verdict:
        """A claim was granted: note what it may take of windows of more than a second, and what all of its limits have
        come to."""
        if self._journal is None:
            return verdict
        used = self._store.used
        counts = [
            (part.rule, used(part.name, now), part.limit)
            for part in claim.parts
            if type(part) is Window or type(part) is Members
        ]
        self._note(claim)
        if claim.twin is not None:
            self._note(claim.twin)
        rule, value, limit, note = verdict.rule, verdict.value, verdict.limit, verdict.note
        return Verdict(True, rule, value, limit, None, note, verdict.name, tuple(counts))

    def _note(self, claim: Claim) -> None:
        parts = claim.parts
        known = self._of.get(id(parts))
        if known is None or known[0] is not parts:
            if len(self._of) >= 4096:
                self._of.clear()
            known = self._of[id(parts)] = parts, self._row(parts)
        if known[1]:
            self._long[claim.id] = known[1]

    def sent(self, claim_id: int, now: float) -> None:
        """A copy of its INVITE was sent."""
        row = self._long.get(claim_id)
        if row is not None:
            self.put((LASTS, claim_id, now, row))

    def released(self, claim_id: int) -> None:
        self._long.pop(claim_id, None)

    def _row(self, parts: tuple[Part, ...]) -> Row:
        found: list[Row] = []
        for part in parts:
            if isinstance(part, Window):
                if part.period > SHORT:
                    found.append(("W", part.name, part.period, part.rule, part.passing))
            elif not isinstance(part, Members):
                found.append((type(part).__name__[0], part.name, part.period, part.rule, part.member))
        return tuple(found)

    def clock(self) -> None:
        """The wall clock has stepped."""
        if self._journal is not None and self._loop is not None:
            self._journal.clock(self._start())

    def look(self, now: float) -> None:
        """Call a few times a second: what was dropped for a disk that hung is written down anew."""
        if self._journal is not None and self._journal.overflowed:
            self._core.keep_all(now)

    def forget(self, wanted: Wanted, needles: Sequence[bytes]) -> Forgotten:
        """Erase in the journal (`Journal.forget`). Not for the loop."""
        return Forgotten(0, 0) if self._journal is None else self._journal.forget(wanted, needles)

    def close(self) -> None:
        if self._journal is not None and self._loop is not None:
            self._journal.close()

    # -- what goes wrong -----------------------------------------------------------------------------------

    def _damaged(self, kept: Kept) -> None:
        text = f"{kept.lost}: what was there is lost, the rest counts"
        self._core.alert(Alert("journal", "critical", "", text), monotonic())

    def _fault(self, text: str) -> None:
        """From another thread."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the gate has ended
                loop.call_soon_threadsafe(self._told, text)

    def _told(self, text: str) -> None:
        alert = Alert("journal", "critical", "", text or "the journal is written again")
        if text:
            self._core.alerts.stands(alert)
        else:
            self._core.alerts.over(alert)
        self._on_news()


def _window(name: str, period: float, rule: str, passing: bool = False) -> Part:
    return Window(rule, name, None, period, passing)


def _distinct(name: str, period: float, rule: str, member: bytes) -> Part:
    return Distinct(rule, name, None, period, member)


def _gap(name: str, period: float, rule: str, member: bytes) -> Part:
    return Gap(rule, name, period, member)


_PARTS: dict[str, Callable[..., Part]] = {"W": _window, "D": _distinct, "G": _gap}


def _boot() -> str:
    """Which run of the machine this is; empty where nobody can tell."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
