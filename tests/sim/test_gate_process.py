"""The demo's own process handling, with stand-ins for the gate: it always ends, and failures are told."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from callgate.cli import demo
from callgate.sim.gate import GateFailed, GateProcess
from callgate.sim.meter import Contract

READY = 'print(\'{"event": "callgate ready"}\', flush=True)'
WAIT = "import signal; signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"


def gate(directory: Path, script: str) -> GateProcess:
    class StandIn(GateProcess):
        def command(self) -> list[str]:
            return [sys.executable, "-c", script]

    return StandIn(
        directory,
        carrier=("127.0.0.1", 5080),
        pbx=("127.0.0.1", 5070),
        number="+815012345678",
        contract=Contract(3, 8),
    )


async def test_ready_then_ended_by_sigterm(tmp_path: Path) -> None:
    process = gate(tmp_path, f"{READY}; {WAIT}")
    process.start()
    await process.ready()
    process.check()
    assert await process.stop() == -signal.SIGTERM
    assert await process.stop() == -signal.SIGTERM, "a second stop changes nothing"
    with pytest.raises(GateFailed, match="ended by itself"):
        process.check()


async def test_one_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    process = gate(tmp_path, f"{STUBBORN}; {READY}; {WAIT}")
    process.start()
    await process.ready()
    assert await process.stop(within=0.1) == -signal.SIGKILL


async def test_one_that_fails_tells_its_last_lines(tmp_path: Path) -> None:
    process = gate(tmp_path, "print('listen: port taken'); raise SystemExit(2)")
    process.start()
    with pytest.raises(GateFailed, match="ended by itself with code 2") as failure:
        await process.ready()
    assert failure.value.log == ["listen: port taken"]
    assert await process.stop() == 2


async def test_one_that_never_gets_ready(tmp_path: Path) -> None:
    process = gate(tmp_path, WAIT)
    process.start()
    try:
        with pytest.raises(GateFailed, match=r"not ready within 0.1 s"):
            await process.ready(within=0.1)
    finally:
        await process.stop()


async def test_one_that_never_ran(tmp_path: Path) -> None:
    process = gate(tmp_path, WAIT)
    assert await process.stop() is None
    with pytest.raises(GateFailed):
        process.check()


async def test_the_config_names_both_sides_and_the_limits(tmp_path: Path) -> None:
    process = gate(tmp_path, WAIT)
    config = yaml.safe_load(process.config.read_text("utf-8"))
    assert config["listen"] == [f"udp://127.0.0.1:{process.address[1]}"]
    assert config["trunks"]["carrier"]["gateways"] == ["sip:127.0.0.1:5080"]
    assert config["keys"]["demo"]["pbx"] == "sip:127.0.0.1:5070"
    assert config["keys"]["demo"]["limits"] == {
        "outbound_cps": 3,
        "on_rate_exceeded": "queue",
        "queue_seconds": 1.5,
        "inbound_calls": 8,
        "forwarded_calls": 4,
        "recordings": 1,
    }
    assert GateProcess.command(process)[:4] == [sys.executable, "-m", "callgate", "run"]


def told(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def stand_in(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(GateProcess, "command", lambda self: [sys.executable, "-c", script])


def test_demo_without_a_working_gate_exits_1_and_says_why(
    monkeypatch: pytest.MonkeyPatch, console: Console
) -> None:
    stand_in(monkeypatch, "print('no such module'); raise SystemExit(1)")
    assert demo.run(2, gated=True, console=console) == 1
    assert "the gate ended by itself with code 1; its last lines:\n  no such module\n" in told(console)


def test_demo_whose_gate_dies_on_the_way_exits_1(monkeypatch: pytest.MonkeyPatch, console: Console) -> None:
    monkeypatch.setattr(demo, "FIRST_WINDOW", 0.0)
    stand_in(monkeypatch, f"{READY}; raise SystemExit(3)")
    assert demo.run(2, gated=True, console=console) == 1
    assert "the gate ended by itself with code 3" in told(console)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_that_is_interrupted_takes_the_gate_along(
    monkeypatch: pytest.MonkeyPatch, console: Console, request: pytest.FixtureRequest, number: signal.Signals
) -> None:
    # asyncio hears a Ctrl-C only where it was not ignored from the start, as it is behind a shell's `&`.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    stand_in(monkeypatch, f"{READY}; {WAIT}")
    started: list[GateProcess] = []
    start = GateProcess.start

    def interrupted(self: GateProcess) -> None:
        start(self)
        started.append(self)
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), number)

    monkeypatch.setattr(GateProcess, "start", interrupted)
    assert demo.run(2, gated=True, console=console) == 1
    assert "stopped; the gate has been ended too" in told(console)
    with pytest.raises(GateFailed, match="code -15"):
        started[0].check()
    assert not started[0].config.exists(), "the temporary directory is gone"


def test_the_same_load_without_the_gate_ends_in_a_suspension(console: Console) -> None:
    assert demo.run(2, gated=False, console=console) == 1
    text = told(console)
    assert "the carrier suspended the account 0." in text, "within the first second"
    assert "breaches: 0" not in text
    assert "exit 1: the contract was broken, as was to be expected without the gate" in text
    assert text.rstrip().endswith("callgate demo")
