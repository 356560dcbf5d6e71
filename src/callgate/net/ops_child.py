"""The ops process as the gate sees it: started, watched, started anew.

Nothing here waits on the path of a call, and nothing that ops does or fails to do reaches one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import callgate
from callgate.net.log import LineWriter

OnChange = Callable[[str, dict[str, Any]], None]

PROGRAM: Final = (sys.executable, "-P", "-m", "callgate.ops")
"""-P: what lies in the directory where the gate was started must not become one of ops' modules."""
SILENT_SECONDS: Final = 20.0
"""Ops says `beat` every 2 s; one that says nothing for so long hangs and is killed."""
END_SECONDS: Final = 2.0
"""How long ops may take to end once its pipe is closed."""
LONGEST_LINE: Final = 4000
LONGEST_SAID: Final = 500
ERROR_BYTES: Final = 256 << 10
"""What is held of ops' error output while the gate's stderr is not read."""


class Backoff:
    """How long to wait before the next start: `first` seconds, doubling to `top`, from the beginning again
    after a run of `steady` seconds."""

    def __init__(self, first: float = 1.0, top: float = 30.0, steady: float = 60.0) -> None:
        self._first = first
        self._top = top
        self._steady = steady
        self._next = first

    def after(self, ran: float) -> float:
        """Seconds to wait after a run of `ran` seconds."""
        if ran >= self._steady:
            self._next = self._first
        wait, self._next = self._next, min(self._next * 2, self._top)
        return wait


class OpsChild:
    """Supervises `python -m callgate.ops` on the running loop.

    `bind` is `http://host:port`, `fds` those of `Shared`; `store` and `database` are kinds, for /readyz.
    `errors` takes what ops writes to its stderr, line by line (the gate's stderr unless given). Call `start`
    from the main thread: the kernel ties ops' life to the thread that started it.

    Another child lives by the same rules: `name` is its name in what is told, `greeting` is written to its stdin at the
    start (secrets stand in no argument and no environment), `reported` hears what follows the word `report`.
    """

    def __init__(
        self,
        bind: str,
        fds: tuple[int, int],
        *,
        store: str = "memory",
        database: str = "none",
        backoff: Backoff | None = None,
        errors: Callable[[bytes], object] | None = None,
        silent_seconds: float = SILENT_SECONDS,
        program: Sequence[str] = PROGRAM,
        name: str = "ops",
        greeting: bytes = b"{}\n",
        reported: Callable[[str], object] | None = None,
    ) -> None:
        self._bind = bind
        self._fds = fds
        self._store = store
        self._database = database
        self._backoff = backoff or Backoff()
        self._errors = errors
        self._own_errors: LineWriter | None = None
        self._silent = silent_seconds
        self._program = program
        self._name = name
        self._greeting = greeting
        self._reported = reported
        self._callbacks: list[OnChange] = []
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._last: deque[str] = deque(maxlen=5)
        self._starts = 0
        self.address: str | None = None
        """Where ops serves (`http://host:port`), None while it doesn't."""

    @property
    def pid(self) -> int | None:
        """The process id, None while there is none."""
        return self._process.pid if self._process is not None else None

    def on_change(self, callback: OnChange) -> None:
        """`callback(event, fields)` hears of `ops ready` (pid, address, restarts), `ops ended` (pid,
        exit_code, ran_seconds, retry_seconds, said: its last lines), `ops silent` (pid) and
        `ops not started` (error, retry_seconds). `stop` is silent."""
        self._callbacks.append(callback)

    async def start(self, seconds: float = 15.0) -> bool:
        """Start ops; True once it serves, False when it does not within `seconds`: it is tried on."""
        if self._task is None:
            if self._errors is None:
                self._own_errors = LineWriter(2, ERROR_BYTES)
                self._errors = self._own_errors.put
            self._task = asyncio.create_task(self._supervise(), name=self._name)
        return await self.wait_ready(seconds)

    async def wait_ready(self, seconds: float) -> bool:
        """Whether ops serves, waiting for it up to `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ready.wait()
        return self._ready.is_set()

    async def stop(self) -> None:
        """End ops and the watching: its pipe is closed, and it is killed if that is not enough."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._own_errors is not None:
            writer, self._own_errors, self._errors = self._own_errors, None, None
            # On a thread: the join waits for a reader of stderr, calls must not.
            await asyncio.to_thread(writer.close, 0.5)

    # one life after another

    async def _supervise(self) -> None:
        while True:
            began = time.monotonic()
            try:
                process = await self._spawn()
            except OSError as error:  # no process, no memory, no interpreter any more
                wait = self._backoff.after(0.0)
                self._tell(f"{self._name} not started", error=str(error), retry_seconds=wait)
                await asyncio.sleep(wait)
                continue
            self._process = process
            try:
                code = await self._live(process)
            finally:
                self._process = None
                self.address = None
                self._ready.clear()
            ran = time.monotonic() - began
            wait = self._backoff.after(ran)
            self._tell(
                f"{self._name} ended",
                pid=process.pid,
                exit_code=code,
                ran_seconds=round(ran, 3),
                retry_seconds=wait,
                said=list(self._last),
            )
            await asyncio.sleep(wait)

    async def _spawn(self) -> asyncio.subprocess.Process:
        self._last.clear()
        values_fd, layout_fd = self._fds
        arguments = ["--gate", str(os.getpid()), "--bind", self._bind]
        arguments += ["--values-fd", str(values_fd), "--layout-fd", str(layout_fd)]
        arguments += ["--store", self._store, "--database", self._database]
        process = await asyncio.create_subprocess_exec(
            *self._program,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=self._fds,
            env=_environment(),
            limit=LONGEST_LINE,
        )
        if self._greeting and process.stdin is not None:
            process.stdin.write(self._greeting)  # into the pipe's buffer: nobody waits for the child to read
        return process

    async def _live(self, process: asyncio.subprocess.Process) -> int:
        """Until the process ends; its exit code."""
        assert process.stdout is not None
        assert process.stderr is not None
        voice = asyncio.create_task(self._listen(process, process.stdout))
        errors = asyncio.create_task(self._copy_errors(process.stderr))
        try:
            return await process.wait()
        finally:
            await self._end(process)
            # Its last words are still in the pipes; a child of its own might keep them open for ever.
            await asyncio.wait((voice, errors), timeout=END_SECONDS)
            for task in (voice, errors):
                task.cancel()
            await asyncio.gather(voice, errors, return_exceptions=True)

    async def _listen(self, process: asyncio.subprocess.Process, voice: asyncio.StreamReader) -> None:
        """Hear `ready` and then the beats; kill what has gone silent."""
        line = b"-"
        while line:
            try:
                async with asyncio.timeout(self._silent):
                    line = await _line(voice)
            except TimeoutError:
                self._tell(f"{self._name} silent", pid=process.pid)
                _kill(process)
                continue
            word, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
            if word == "ready":
                self._starts += 1
                self.address = rest
                self._ready.set()
                self._tell(f"{self._name} ready", pid=process.pid, address=rest, restarts=self._starts - 1)
            elif word == "report" and self._reported is not None:
                self._reported(rest)

    async def _copy_errors(self, stream: asyncio.StreamReader) -> None:
        while line := await _line(stream):
            self._last.append(line.decode("utf-8", "replace").rstrip()[:LONGEST_SAID])
            if self._errors is not None:
                self._errors(line if line.endswith(b"\n") else line + b"\n")

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Leave no process behind, also when cancelled."""
        if process.returncode is not None:
            return
        assert process.stdin is not None
        process.stdin.close()
        # Not asyncio.timeout: in a task that is being cancelled, early 3.11 takes its end for that cancel.
        ended = asyncio.ensure_future(process.wait())
        await asyncio.wait((ended,), timeout=END_SECONDS)
        if process.returncode is None:
            _kill(process)
            await asyncio.wait((ended,), timeout=END_SECONDS)
        ended.cancel()  # of a process that even the kernel can't end now, its death is not waited for

    def _tell(self, event: str, **fields: Any) -> None:
        for callback in self._callbacks:
            try:
                callback(event, fields)
            except Exception as error:  # a fault there must not end the watching
                context = {"message": f"callback for {event!r} failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)


async def _line(stream: asyncio.StreamReader) -> bytes:
    """The next line; of one that is too long, as much as fits. Empty at the end of the stream."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError:
        return await stream.read(LONGEST_LINE)


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()


def _environment() -> dict[str, str]:
    """The gate's own, with the place the gate's code was taken from where that is not an installed one."""
    environment = dict(os.environ)
    root = Path(callgate.__file__).resolve().parent.parent
    if root.name not in ("site-packages", "dist-packages"):
        paths = [str(root), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(p for p in paths if p)
    return environment
