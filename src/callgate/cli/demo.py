"""`callgate demo`: a carrier that suspends, a PBX that offers far too much, and the gate between them, which is killed
with -9 in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from callgate.sim import plan, view
from callgate.sim.board import Board, Crash, Summary, look, summarise
from callgate.sim.call import Phase
from callgate.sim.carrier import Carrier
from callgate.sim.gate import FIRST_WINDOW, GateFailed, GateProcess
from callgate.sim.meter import Contract
from callgate.sim.pbx import Pbx

CONTRACT = Contract(calls_per_second=3, inbound_calls=8)
"""Small enough for an audience to see both limits at work."""
TIMES = 10
"""How much more than the contract the PBX offers."""
INBOUND_RATE = 3.0
"""Inbound calls per second: with some five seconds each, a few more than the contract holds."""
NUMBER = "+815012345678"
SEED = 20260401
SECONDS = 15.0
SECONDS_WITHOUT = 5.0
LONG_ENOUGH = 8.0
"""A load of so many seconds is long enough for the gate to be killed in the middle."""
ENDING = 6.0
"""Seconds that calls get to end in after the load."""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""

    @app.command()
    def demo(
        seconds: Annotated[
            float | None,
            typer.Option(
                min=2,
                max=600,
                help=f"How long the load lasts ({SECONDS:g}; {SECONDS_WITHOUT:g} without the gate).",
            ),
        ] = None,
        without_gate: Annotated[
            bool, typer.Option("--without-gate", help="Send the same load straight to the carrier.")
        ] = False,
    ) -> None:
        """A built-in carrier and PBX on loopback, a throttled load through the real gate, a live view.

        In the middle of eight seconds or more the gate is killed with -9 and started again. Needs no config. Exit 1 at
        a breach of the contract, if too few of the allowed calls passed, or if a call was lost.
        """
        length = seconds if seconds is not None else SECONDS_WITHOUT if without_gate else SECONDS
        raise typer.Exit(run(length, gated=not without_gate, console=Console()))


def run(seconds: float, *, gated: bool, console: Console) -> int:
    """Play the whole demo; the exit code. Whatever happens, the gate it started is gone afterwards."""
    try:
        end = asyncio.run(_play(seconds, gated, console))
    except GateFailed as failure:
        _say(console, f"{failure}; its last lines:", *(f"  {text}" for text in failure.log))
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        _say(console, "stopped; the gate has been ended too" if gated else "stopped")
        return 1
    _say(console, "", *view.summary(end), view.verdict(end), "", *view.go_on(gated))
    return 0 if end.ok else 1


async def _play(seconds: float, gated: bool, console: Console) -> Summary:
    task = asyncio.current_task()
    assert task is not None, "inside asyncio.run there is a task"
    with contextlib.suppress(NotImplementedError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    carrier = Carrier(CONTRACT, seed=SEED)
    pbx = Pbx(seed=SEED, number=NUMBER)
    gate: GateProcess | None = None
    with tempfile.TemporaryDirectory(prefix="callgate-demo-") as directory:
        try:
            carrier.start()
            pbx.start()
            if gated:
                gate = GateProcess(
                    Path(directory),
                    carrier=carrier.address,
                    pbx=pbx.address,
                    number=NUMBER,
                    contract=CONTRACT,
                )
                gate.start()
                _say(console, "starting the gate: " + " ".join(gate.command()))
                await gate.ready()
                _say(console, "it is ready; for its first second it gives no call a token, so the load waits")
                await asyncio.sleep(FIRST_WINDOW)
            crash = await _load(pbx, carrier, gate, seconds, console)
            return summarise(pbx, carrier, seconds=seconds, gated=gated, crash=crash)
        finally:
            pbx.close()
            carrier.close()
            if gate is not None:
                await gate.stop()


async def _load(
    pbx: Pbx, carrier: Carrier, gate: GateProcess | None, seconds: float, console: Console
) -> Crash | None:
    """Offer the load, then let every call end; draw all the while."""
    killing = gate is not None and seconds >= LONG_ENOUGH
    parts = [seconds / 2, seconds / 2] if killing else [seconds]
    crash: Crash | None = None
    done = 0.0
    with _screen(console) as screen:

        def show(phase: str, since: float) -> None:
            elapsed = min(done + time.monotonic() - since, seconds)
            now, gated = time.time_ns(), gate is not None
            board = look(pbx, carrier, now=now, elapsed=elapsed, seconds=seconds, phase=phase, gated=gated)
            screen.show(board)

        for n, part in enumerate(parts):
            if n and gate is not None:
                up = [
                    call for call in (*pbx.calls.values(), *carrier.calls.values()) if call.phase is Phase.UP
                ]
                crash = Crash(time.monotonic_ns(), up)
                gate.kill()
                screen.say(f"        kill -9: {crash.calls} calls were up; the gate is started again")
                gate.start()
                coming = asyncio.create_task(_comes_back(gate))
                while not coming.done():
                    show("killed with -9", time.monotonic())
                    await asyncio.sleep(screen.every)
                coming.result()
                crash.back_at = time.monotonic_ns()
            pbx.offer(
                plan.outbound(SEED + n, part, float(TIMES * CONTRACT.calls_per_second)),
                gate.address if gate else carrier.address,
            )
            carrier.bring(
                plan.inbound(SEED + n, part, INBOUND_RATE), NUMBER, gate.address if gate else pbx.address
            )
            began = time.monotonic()
            while (left := part - (time.monotonic() - began)) > 0:
                show("overload", began)
                if gate is not None:
                    gate.check()
                await asyncio.sleep(min(screen.every, max(0.01, left)))
            done += part
        pbx.hang_up_all()
        carrier.hang_up_all()
        began = time.monotonic()
        while (pbx.calls or carrier.calls) and time.monotonic() - began < ENDING:
            show("hanging up", began)
            await asyncio.sleep(0.1)
        show("over", began)
    return crash


async def _comes_back(gate: GateProcess) -> None:
    await gate.ready()
    await asyncio.sleep(FIRST_WINDOW)


class _Screen:
    """Where the board is shown: a live picture, or a line now and then."""

    def __init__(self, console: Console, live: Live | None) -> None:
        self._console = console
        self._live = live
        self._said = 0.0
        self.every = 0.2
        """Seconds between two looks."""

    def show(self, board: Board) -> None:
        if self._live is not None:
            self._live.update(view.live(board), refresh=True)
        elif board.phase == "over" or board.elapsed - self._said >= 1.0:
            self._said = board.elapsed
            _say(self._console, view.line(board))

    def say(self, text: str) -> None:
        """A line between the others; the picture needs none."""
        if self._live is None:
            _say(self._console, text)


@contextlib.contextmanager
def _screen(console: Console) -> Iterator[_Screen]:
    if not console.is_terminal:
        yield _Screen(console, None)
        return
    # No refresh thread: the picture changes only here, and the load keeps the loop for itself in between.
    with Live(console=console, auto_refresh=False, transient=False) as live:
        yield _Screen(console, live)


def _say(console: Console, *lines: str) -> None:
    for text in lines:
        console.print(text, highlight=False, markup=False, soft_wrap=True)
