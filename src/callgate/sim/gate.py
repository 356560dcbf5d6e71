"""The real gate as a process of its own, on loopback, with a config made for the demo."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from callgate.sim.meter import Contract
from callgate.sim.udp import Address
from callgate.sim.wire import host_port

READY = "callgate ready"
"""What `callgate run` logs once it serves."""
FIRST_WINDOW = 1.2
"""Seconds after a start in which the gate may pass no outbound call: what was sent before is unknown."""

_CONFIG = """\
# Written by `callgate demo` and gone with it.
listen: ["udp://{gate}"]
ops: "http://{ops}"
state_dir: "./state"
drain_seconds: 2
trunks:
  carrier:
    gateways: ["sip:{carrier}"]
    profile: standard
    numbering: japan
keys:
  demo:
    sources: ["{source}/32"]
    pbx: "sip:{pbx}"
    numbers: ["{number}"]
    trunk: carrier
    limits:
      outbound_cps: {cps}
      on_rate_exceeded: queue
      queue_seconds: 1.5
      inbound_calls: {inbound}
      forwarded_calls: 4
      recordings: 1
"""


class GateFailed(Exception):
    """The gate did not come up, or went away. `log`: its last lines."""

    def __init__(self, reason: str, log: list[str]) -> None:
        super().__init__(reason)
        self.log = log


def free_port(host: str, kind: socket.SocketKind) -> int:
    """A port that was free a moment ago."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


class GateProcess:
    """`callgate run` with a config, a state directory and a log inside `directory`."""

    def __init__(
        self, directory: Path, *, carrier: Address, pbx: Address, number: str, contract: Contract
    ) -> None:
        host = pbx[0]
        self.address: Address = (host, free_port(host, socket.SOCK_DGRAM))
        self.ops: Address = (host, free_port(host, socket.SOCK_STREAM))
        self.config = directory / "demo.yaml"
        self._log = directory / "gate.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.config.write_text(
            _CONFIG.format(
                gate=host_port(self.address).decode(),
                ops=host_port(self.ops).decode(),
                carrier=host_port(carrier).decode(),
                pbx=host_port(pbx).decode(),
                source=host,
                number=number,
                cps=contract.calls_per_second,
                inbound=contract.inbound_calls,
            ),
            encoding="utf-8",
        )

    def command(self) -> list[str]:
        """What is run; the same interpreter, so the same installation."""
        return [sys.executable, "-m", "callgate", "run", "-c", str(self.config)]

    def start(self) -> None:
        """Start it, in a session of its own: a Ctrl-C at the terminal is for the demo, which then ends it."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )

    async def ready(self, within: float = 20.0) -> None:
        """Wait for its `callgate ready`. Raises GateFailed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while True:
                    self.check()
                    if READY in self._log.read_text("utf-8", "replace"):
                        return
                    await asyncio.sleep(0.05)
        raise GateFailed(f"the gate was not ready within {within:g} s", self.log())

    def check(self) -> None:
        """Raises GateFailed when it is not running."""
        code = self._process.poll() if self._process is not None else None
        if self._process is None or code is not None:
            raise GateFailed(f"the gate ended by itself with code {code}", self.log())

    def kill(self) -> None:
        """End it with SIGKILL, in the middle of whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def stop(self, within: float = 8.0) -> int | None:
        """End it with SIGTERM, with SIGKILL after `within` seconds; its exit code, None if it never ran."""
        process = self._process
        if process is None:
            return None
        try:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.wait, within)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        return process.returncode

    def log(self, lines: int = 15) -> list[str]:
        """The last lines it logged."""
        try:
            return self._log.read_text("utf-8", "replace").splitlines()[-lines:]
        except OSError:
            return []


_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_parent() -> None:
    """Runs in the child before the program: should the demo be killed with -9, the gate gets a SIGTERM."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
