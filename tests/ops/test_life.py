"""Ops never outlives its gate, by either of two ropes; and what it says on the way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests.ops.support import LONG, gone, pidfd_open

from callgate.net.shared import Shared
from callgate.ops.server import bind

GATE = Path(__file__).with_name("standin_gate.py")
OPS = (sys.executable, "-m", "callgate.ops")


def test_kill_9_of_the_gate_takes_ops_along_and_frees_its_port() -> None:
    with subprocess.Popen([sys.executable, str(GATE), "http://127.0.0.1:0"], stdout=subprocess.PIPE) as gate:
        assert gate.stdout is not None
        told = json.loads(gate.stdout.readline())
        assert httpx.get(told["address"] + "/readyz").status_code == 200
        pidfd = pidfd_open(told["pid"])
        gate.send_signal(signal.SIGKILL)
        assert gone(pidfd)
        os.close(pidfd)
    bind(told["address"], patience=0).close()


def greeted() -> tuple[int, int]:
    """A pipe to ops, with what the gate says first."""
    reading, writing = os.pipe()
    os.write(writing, b"{}\n")
    return reading, writing


@pytest.fixture
def orphan_of(shared: Shared) -> Iterator[Callable[[int], tuple[subprocess.Popen[bytes], int]]]:
    """A parent that starts ops with a stdin that the test holds open; nothing of it outlives the test."""
    started: list[tuple[subprocess.Popen[bytes], int]] = []

    def start(stdin: int) -> tuple[subprocess.Popen[bytes], int]:
        parent = (
            "import os, subprocess, sys\n"
            "ops = subprocess.Popen(sys.argv[1:] + ['--gate', str(os.getpid())], close_fds=False)\n"
            "print(ops.pid, flush=True)\n"
            "ops.wait()\n"
        )
        values, layout = map(str, shared.fds)
        arguments = [*OPS, "--bind", "http://127.0.0.1:0", "--values-fd", values, "--layout-fd", layout]
        process = subprocess.Popen(
            [sys.executable, "-c", parent, *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            pass_fds=shared.fds,
        )
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        started.append((process, pidfd_open(pid)))
        assert process.stdout.readline().startswith(b"ready http://127.0.0.1:")
        return process, pid

    yield start
    for process, pidfd in started:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
        process.kill()
        process.communicate()


def test_the_kernel_s_rope_holds_where_the_pipe_stays_open(
    orphan_of: Callable[[int], tuple[subprocess.Popen[bytes], int]],
) -> None:
    reading, writing = greeted()
    parent, pid = orphan_of(reading)
    pidfd = pidfd_open(pid)
    parent.kill()
    assert gone(pidfd)
    for fd in (reading, writing, pidfd):
        os.close(fd)
    parent.communicate(timeout=LONG)


def test_the_pipe_s_rope_holds_while_the_gate_lives(
    orphan_of: Callable[[int], tuple[subprocess.Popen[bytes], int]],
) -> None:
    reading, writing = greeted()
    parent, pid = orphan_of(reading)
    pidfd = pidfd_open(pid)
    os.close(writing)
    assert gone(pidfd)
    parent.communicate(timeout=LONG)
    assert parent.returncode == 0
    for fd in (reading, pidfd):
        os.close(fd)


def test_a_gate_that_died_before_ops_looked_is_noticed(shared: Shared) -> None:
    values, layout = map(str, shared.fds)
    arguments = ["--gate", "1", "--bind", "http://127.0.0.1:0", "--values-fd", values, "--layout-fd", layout]
    reading, writing = greeted()  # held open: this rope doesn't help
    done = subprocess.run(
        [*OPS, *arguments],
        stdin=reading,
        capture_output=True,
        pass_fds=shared.fds,
        timeout=LONG,
    )
    os.close(reading)
    os.close(writing)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_port_that_is_just_being_left_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    before = socket.create_server(("127.0.0.1", 0))
    port = before.getsockname()[1]
    # The old one leaves while the new one waits for its next try.
    monkeypatch.setattr("callgate.ops.server.time.sleep", lambda _: before.close())
    with bind(f"http://127.0.0.1:{port}", patience=LONG) as sock:
        assert sock.getsockname() == ("127.0.0.1", port)
        with pytest.raises(OSError, match="in use"):
            bind(f"http://127.0.0.1:{port}", patience=0)


def test_an_address_that_can_t_be_had_is_named_with_its_place_in_the_config(shared: Shared) -> None:
    values, layout = map(str, shared.fds)
    # 192.0.2.0/24 is for documentation: no machine has it.
    arguments = ["--bind", "http://192.0.2.1:9060", "--values-fd", values, "--layout-fd", layout]
    reading, writing = greeted()
    done = subprocess.run(
        [*OPS, *arguments, "--gate", str(os.getpid()), "--patience", "0"],
        stdin=reading,
        capture_output=True,
        pass_fds=shared.fds,
        timeout=LONG,
    )
    os.close(reading)
    os.close(writing)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"cannot listen on http://192.0.2.1:9060" in done.stderr
    assert b"(config: ops)" in done.stderr
