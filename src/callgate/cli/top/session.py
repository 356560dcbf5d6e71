"""The command itself: looks at the gate again and again, draws, and does what the keyboard says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from time import monotonic
from typing import Final

import typer
from rich.console import Console

from callgate.cli.control import PIPE_WIDTH, Row, fail, state_dir_or_exit
from callgate.cli.top import pages, view
from callgate.cli.top.link import LOOK_SECONDS, Away, Link, Refused
from callgate.cli.top.state import Act, Look, Open, Quit, State, done_words
from callgate.cli.top.terminal import Decoder, Terminal
from callgate.store.socket_path import FILE

ESCAPE_SECONDS: Final = 0.05
"""After so long an Escape is the key, and not the beginning of another."""
DUMB: Final = ("", "dumb", "unknown")
SOONEST_SECONDS: Final = 0.1
"""From one look to the next, however many keys are pressed."""
SHARE: Final = 10.0
"""A gate that takes long to answer has much to do: it is left alone for so many times as long."""
SNAPSHOT_ROWS: Final = 20
JSON_ROWS: Final = 200
ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(config: Path, interval: float, *, once: bool, as_json: bool) -> None:
    """Until somebody quits; one picture where there is no terminal to do so. Exits with 1 where no gate answers."""
    state_dir = state_dir_or_exit(config, "top")
    link = Link(state_dir / FILE)
    if as_json:
        typer.echo(json.dumps(_look(link, JSON_ROWS)[1], ensure_ascii=False))
        return
    console = Console()
    terminal = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in DUMB
    if once or not terminal:
        state, _ = _look(link, SNAPSHOT_ROWS)
        paper = console if sys.stdout.isatty() else Console(width=_paper_width())
        paper.print(view.snapshot(state, paper))
        return
    state = State()
    failed = asyncio.run(Session(link, state, console, interval, state_dir).run())
    if failed:
        fail(failed)


def _paper_width() -> int:
    columns = os.environ.get("COLUMNS", "")
    return max(view.LEAST[0], int(columns)) if columns.isdecimal() else PIPE_WIDTH // 2


def _look(link: Link, rows: int) -> tuple[State, Row]:
    """How the gate is now. Exits where it can't be asked."""
    state = State()
    for pane in state.panes.values():
        pane.height = rows
    try:
        answer = asyncio.run(link.ask("overview", **state.asks()))
    except (Away, Refused) as error:
        fail(str(error))
    state.take(answer)
    return state, answer


class Session:
    """One view on one terminal."""

    def __init__(self, link: Link, state: State, console: Console, interval: float, state_dir: Path) -> None:
        self._link = link
        self._state = state
        self._console = console
        self._interval = interval
        self._state_dir = state_dir
        self._terminal = Terminal(console, sys.stdin.fileno())
        self._decoder = Decoder()
        self._flush: asyncio.TimerHandle | None = None
        self._wanted = asyncio.Event()
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> str:
        """Until the end; why it could not even begin, empty where it could."""
        try:
            self._fit()
            self._state.take(await self._link.ask("overview", LOOK_SECONDS, **self._state.asks()))
        except (Away, Refused) as error:
            return str(error)
        loop = asyncio.get_running_loop()
        for number in ENDS:
            loop.add_signal_handler(number, self._over.set)
        loop.add_signal_handler(signal.SIGWINCH, self._resized)
        loop.add_signal_handler(signal.SIGTSTP, self._stopped)
        loop.add_signal_handler(signal.SIGCONT, self._continued)
        looking = asyncio.create_task(self._look_on())
        waiting = asyncio.create_task(self._over.wait())
        try:
            self._terminal.enter()
            loop.add_reader(self._terminal.fd, self._pressed)
            self._draw()
            await asyncio.wait((looking, waiting), return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass  # the terminal is gone
        finally:
            loop.remove_reader(self._terminal.fd)
            self._terminal.leave()
            for task in (looking, waiting, *self._tasks):
                task.cancel()
            await asyncio.gather(waiting, *self._tasks, return_exceptions=True)
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await looking  # what went wrong in it, if anything did
        return ""

    # -- the gate ------------------------------------------------------------------------------------------

    async def _look_on(self) -> None:
        """Look, wait, look again; sooner where somebody wants to see other rows."""
        took = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                pause = max(self._interval, took * SHARE)
                async with asyncio.timeout(None if self._state.paused else pause):
                    await self._wanted.wait()
            self._wanted.clear()
            began = monotonic()
            await self._look()
            took = monotonic() - began
            self._draw()
            await asyncio.sleep(max(SOONEST_SECONDS, took * SHARE / 2))  # a key that is held down is no flood

    async def _look(self) -> None:
        state = self._state
        self._fit()
        try:
            state.take(await self._link.ask("overview", LOOK_SECONDS, **state.asks()))
        except (Away, Refused) as error:
            state.away = str(error)
        else:
            self._fit()

    def _fit(self) -> None:
        """Ask for as many rows as the screen has."""
        found = view.heights(self._state, self._console.size.height)
        for name, height in found.items():
            self._state.panes[name].height = height

    # -- the keyboard --------------------------------------------------------------------------------------

    def _pressed(self) -> None:
        data = self._terminal.read()
        if not data:
            self._over.set()
            return
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        for key in self._decoder.feed(data):
            self._press(key)
        if self._decoder.waits:
            self._flush = asyncio.get_running_loop().call_later(ESCAPE_SECONDS, self._flushed)
        self._draw()

    def _flushed(self) -> None:
        for key in self._decoder.flush():
            self._press(key)
        self._draw()

    def _press(self, key: str) -> None:
        effect = self._state.press(key)
        if isinstance(effect, Quit):
            self._over.set()
        elif isinstance(effect, Look):
            self._wanted.set()
        elif effect is not None:
            task = asyncio.create_task(self._do(effect))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _do(self, effect: Act | Open) -> None:
        state = self._state
        try:
            if isinstance(effect, Open):
                state.page = await pages.page(effect, state, self._link, self._state_dir)
            else:
                answer = await self._link.ask(effect.op, **effect.arguments)
                warnings = answer.get("warnings", ())
                state.say("; ".join((done_words(effect, answer), *warnings)), bad=bool(warnings))
        except (Away, Refused) as error:
            state.say(str(error), bad=True)
        self._wanted.set()
        self._draw()

    # -- the terminal --------------------------------------------------------------------------------------

    def _draw(self) -> None:
        try:
            self._terminal.draw(view.draw(self._state, self._console))
        except OSError:
            self._over.set()

    def _resized(self) -> None:
        self._wanted.set()
        self._draw()

    def _stopped(self) -> None:
        """Ctrl-Z: the shell gets its terminal as it was. Where there is no shell the kernel lets us go on at once."""
        loop = asyncio.get_running_loop()
        self._terminal.leave()
        loop.remove_signal_handler(signal.SIGTSTP)
        os.kill(os.getpid(), signal.SIGTSTP)
        loop.add_signal_handler(signal.SIGTSTP, self._stopped)
        self._continued()

    def _continued(self) -> None:
        if not self._over.is_set():
            self._terminal.enter()
            self._resized()
