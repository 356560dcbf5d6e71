"""The audit log and other small files of `state_dir`, written by a thread: the loop never waits for a disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from callgate.cdr.audit import Audit
from callgate.net.log import Log

Written = Future[str]
"""Done when it is on the disk; what is wrong, empty where all is well."""


class Trail:
    """Without a `state_dir` nothing is kept. What can't be kept is said in the log, and the gate goes on."""

    def __init__(self, state_dir: Path | None, log: Log) -> None:
        self._log = log
        self._state_dir = state_dir
        self._audit: Audit | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="trail")

    def note(
        self, what: str, target: str = "", *, before: Any = None, after: Any = None, who: str = ""
    ) -> Written:
        """A line of the audit log (`Audit.note`). Returns at once; lines keep their order."""
        return self.do(lambda: self._note(what, target, before, after, who))

    def do(self, work: Callable[[], str]) -> Written:
        """Other work on a disk: it returns what is wrong."""
        return self._thread.submit(work)

    def close(self) -> None:
        """Write what is left."""
        self._thread.submit(self._close)
        self._thread.shutdown()

    def _note(self, what: str, target: str, before: Any, after: Any, who: str) -> str:
        if self._state_dir is None:
            return ""
        try:
            if self._audit is None:
                self._audit = Audit(self._state_dir)
            self._audit.note(what, target, before, after, who)
        except (OSError, sqlite3.Error) as error:
            self._log.error(
                "the audit log can't be kept", error=str(error), state_dir=str(self._state_dir), what=what
            )
            return f"the audit log can't be kept: {error}"
        return ""

    def _close(self) -> None:
        if self._audit is not None:
            self._audit.close()
