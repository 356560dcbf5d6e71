"""The real program as a process of its own: started, read, asked over HTTP, ended by its pid."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from prometheus_client.parser import text_string_to_metric_families

DEADLINE = 15.0
"""Seconds that only a fault reaches: nothing is asserted about speed."""
RUN = ("-m", "callgate", "run")
WITHOUT_UVLOOP = (
    "-c",
    "import sys; sys.modules['uvloop'] = None; from callgate.cli import main; main()",
    "run",
)
"""`callgate run` where `import uvloop` fails."""
_LAUNCH = "import ctypes,os,sys; ctypes.CDLL(None).prctl(1,9); os.execvp(sys.argv[1],sys.argv[1:])"

Result = TypeVar("Result")
Address = tuple[str, int]


def until(condition: Callable[[], Result], what: str | Callable[[], str], within: float = DEADLINE) -> Result:
    """What `condition` gives once that is true; a failure that says `what` was waited for after `within` seconds."""
    end = time.monotonic() + within
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {within:g} s: {what if isinstance(what, str) else what()}")
        select.select((), (), (), 0.005)


def free_port(host: str, *taken: int) -> int:
    """A port that was free a moment ago, for UDP and for TCP; none of `taken`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(50):
        with (
            socket.socket(family, socket.SOCK_DGRAM) as udp,
            socket.socket(family, socket.SOCK_STREAM) as tcp,
        ):
            udp.bind((host, 0))
            port: int = udp.getsockname()[1]
            with contextlib.suppress(OSError):
                tcp.bind((host, port))
                if port not in taken:
                    return port
    raise OSError(f"no port is free on {host}")


def hostport(address: Address) -> str:
    """`127.0.0.1:5060`, `[::1]:5060`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def spawn(command: Sequence[str], **how: Any) -> subprocess.Popen[bytes]:
    """Start a program that ends with this process, however that ends (and not by a Ctrl-C before it)."""
    launcher = [sys.executable, "-ISc", _LAUNCH, *command]
    return subprocess.Popen(launcher, stdin=subprocess.DEVNULL, start_new_session=True, **how)


class Output:
    """Reads a stream on a thread; `pause` makes it a reader who does not read."""

    def __init__(self, fd: int) -> None:
        self.text = b""
        self._fd = fd
        self._may_read = threading.Event()
        self._may_read.set()
        self._news = threading.Condition()
        self._ended = False
        self._leaving = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._leaving:
            self._may_read.wait()
            try:
                # Waits without reading, so that a pause holds from the next byte on.
                if not select.select((self._fd,), (), (), 0.05)[0]:
                    continue
                if not self._may_read.is_set():
                    continue
                data = os.read(self._fd, 65_536)
            except OSError:
                data = b""
            with self._news:
                self.text += data
                self._ended = not data
                self._news.notify_all()
            if not data:
                return

    def pause(self) -> None:
        self._may_read.clear()

    def go_on(self) -> None:
        self._may_read.set()

    def wait(self, found: Callable[[bytes], Result], within: float) -> Result | None:
        """The first true `found(text)`, None at the end of the stream or of the time."""
        end = time.monotonic() + within
        with self._news:
            while not (result := found(self.text)) and not self._ended:
                if not self._news.wait(max(0.0, end - time.monotonic())) and time.monotonic() >= end:
                    return found(self.text) or None
            return result or None

    def leave(self) -> None:
        """Stop reading for good, so that the descriptor can be closed."""
        self._leaving = True
        self._may_read.set()
        self._thread.join()

    def join(self) -> bytes:
        """Everything, once the stream has ended."""
        self._may_read.set()
        self._thread.join(DEADLINE)
        assert self._ended, "the stream is still open"
        return self.text


class Gate:
    """`callgate run -c FILE`, started as often as a test wants. `folder` holds the config and `state/`; `listen` are
    URIs. With a `tls` section it listens at `tls` too."""

    def __init__(
        self,
        folder: Path,
        host: str,
        *,
        trunks: Mapping[str, Mapping[str, Any]],
        keys: Mapping[str, Mapping[str, Any]],
        listen: Sequence[str] | None = None,
        **top: Any,
    ) -> None:
        self.host = host
        self.address: Address = (host, free_port(host))
        self.ops: Address = (host, free_port(host, self.address[1]))
        self.tls: Address = (host, free_port(host, self.address[1], self.ops[1]))
        self.file = folder / "callgate.yaml"
        where = hostport(self.address)
        everywhere = [f"udp://{where}", f"tcp://{where}"]
        if "tls" in top:
            everywhere.append(f"tls://{hostport(self.tls)}")
        config = {
            "listen": list(listen or everywhere),
            "ops": f"http://{hostport(self.ops)}",
            "state_dir": "./state",
            "drain_seconds": 10,
            # No OPTIONS, unless a test is about them: its endpoints hear nothing that it did not ask for.
            "trunks": {name: {"health": {"interval_seconds": 0}, **trunk} for name, trunk in trunks.items()},
            "keys": {name: dict(key) for name, key in keys.items()},
        } | top
        self.file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        self._started: list[subprocess.Popen[bytes]] = []
        self._outputs: list[Output] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.out: Output | None = None
        self.err: Output | None = None

    # -- its life ----------------------------------------------------------------------------------------

    def start(self, program: Sequence[str] = RUN) -> Gate:
        """Start it, without waiting for anything."""
        command = [sys.executable, *program, "-c", str(self.file)]
        self.process = spawn(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.out = Output(self.process.stdout.fileno())
        self.err = Output(self.process.stderr.fileno())
        self._started.append(self.process)
        self._outputs += [self.out, self.err]
        return self

    def ready(self) -> Gate:
        """Wait for the line that says so."""
        assert self.out is not None
        if not self.out.wait(lambda text: b"callgate ready" in text, DEADLINE):
            code = self.process.poll() if self.process is not None else None
            raise AssertionError(f"not ready within {DEADLINE:g} s (exit code {code}):\n{self.said()}")
        return self

    def run(self, program: Sequence[str] = RUN) -> Gate:
        return self.start(program).ready()

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, within: float = DEADLINE) -> int:
        """Its exit code."""
        assert self.process is not None
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within:g} s:\n{self.said()}") from None

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def close(self) -> None:
        """End whatever was started here; never raises for what has ended already."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
        for output in self._outputs:
            output.join()  # before its descriptor is closed: another's could get the same number
        self._outputs.clear()
        for process in self._started:
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        self._started.clear()

    def let_go(self) -> None:
        """Close our end of its stdout."""
        assert self.out is not None
        assert self.process is not None
        assert self.process.stdout is not None
        self.out.leave()
        self._outputs.remove(self.out)
        self.process.stdout.close()

    # -- what it says ------------------------------------------------------------------------------------

    def said(self) -> str:
        """All of stdout and stderr so far, for a failure's message."""
        parts = [part.text.decode("utf-8", "replace") for part in (self.out, self.err) if part is not None]
        return "\n--- stderr\n".join(parts)

    def lines(self, event: str = "", **fields: Any) -> list[dict[str, Any]]:
        """The log lines so far with that event and these fields."""
        assert self.out is not None
        return _lines(self.out.text, event, fields)

    def line(self, event: str, count: int = 1, within: float = DEADLINE, **fields: Any) -> dict[str, Any]:
        """Wait for the `count`th such line."""
        assert self.out is not None

        def found(text: bytes) -> dict[str, Any] | None:
            lines = _lines(text, event, fields)
            return lines[count - 1] if len(lines) >= count else None

        line = self.out.wait(found, within)
        if line is None:
            raise AssertionError(f"no {count}. line {event!r} {fields} within {within:g} s:\n{self.said()}")
        return line

    # -- ops ---------------------------------------------------------------------------------------------

    def http(self, path: str) -> tuple[int, bytes]:
        """Status and body. Raises OSError while ops is away."""
        connection = http.client.HTTPConnection(*self.ops, timeout=DEADLINE)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()

    def metrics(self) -> Metrics:
        status, body = self.http("/metrics")
        assert status == 200, body
        return Metrics(body.decode())

    def settle(self, metric: str, value: float, **labels: str) -> None:
        """Wait until a metric has a value: gauges are brought up to date a few times a second."""
        last: list[float] = []

        def reached() -> bool:
            last[:] = [self.metrics().get(metric, **labels)]
            return last[0] == value

        until(reached, lambda: f"{metric} {labels} == {value} (is {last[0]})")


class Metrics:
    """One scrape, as Prometheus reads it."""

    def __init__(self, text: str) -> None:
        self._samples = [s for family in text_string_to_metric_families(text) for s in family.samples]

    def get(self, name: str, **labels: str) -> float:
        """The sum over the series with these labels, NaN where there is none."""
        found = [
            s.value
            for s in self._samples
            if s.name == f"callgate_{name}" and labels.items() <= s.labels.items()
        ]
        return sum(found) if found else float("nan")

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """Value by the value of a label, zeroes left out."""
        return {
            s.labels[label]: s.value
            for s in self._samples
            if s.name == f"callgate_{name}" and labels.items() <= s.labels.items() and s.value
        }


def _lines(text: bytes, event: str, fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.split(b"\n")[:-1]]
    return [x for x in lines if (not event or x["event"] == event) and fields.items() <= x.items()]
