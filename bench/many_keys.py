"""Many keys at once, all of them busy: does each get its own contract's share, and no more?

    python bench/many_keys.py [--keys 1000] [--cps 3] [--factor 2] [--seconds 20] [--queue]

Starts a gate with so many keys on loopback, each held to `cps` calls a second. Every key offers `factor` times that;
the carrier answers 486 and notes, key by key, when the kernel took each call that it had not seen. Prints one JSON
object: the fewest and the most calls that passed for one key, the share of what an exact window passes of the same
arrivals (with `--queue`: of limit x the time between its first and last call), the fullest window of any key, and the
gate's CPU per offered call. Exit 1: a window was broken, or a key got less than 0.97.

What the machine can't do (see `busy`: the share of one core that the gate took) can't be measured: then offer less.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

GATE, CARRIER, STAMP = ("127.0.45.1", 5060), ("127.0.45.9", 5060), 35
WINDOW, MARGIN = 1.0, 0.03


def address(key: int) -> str:
    return f"127.45.{key // 250 + 1}.{key % 250 + 1}"


def config(keys: int, cps: int, *, queue: bool) -> str:
    more = ", on_rate_exceeded: queue, queue_seconds: 2.0" if queue else ""
    lines = [
        f'listen: ["udp://{GATE[0]}:{GATE[1]}"]',
        "ops: null",
        "state_dir: null",
        "log: {level: warning}",
        f'trunks: {{carrier: {{gateways: ["sip:{CARRIER[0]}:{CARRIER[1]}"], health: {{interval_seconds: 0}}}}}}',
        "keys:",
    ]
    for n in range(keys):
        lines.append(
            f'  k{n}: {{sources: ["{address(n)}/32"], limits: {{outbound_cps: {cps}, lines: null{more}}}}}'
        )
    return "\n".join(lines)


def udp(at: tuple[str, int]) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    bound.setsockopt(socket.SOL_SOCKET, STAMP, 1)
    bound.bind(at)
    bound.setblocking(False)
    return bound


def value(message: bytes, name: bytes) -> bytes:
    _, found, rest = message.partition(b"\r\n" + name + b": ")
    return rest.partition(b"\r\n")[0] if found else b""


class Run:
    def __init__(self, keys: int) -> None:
        self.callers = [udp((address(n), 5060)) for n in range(keys)]
        self.carrier = udp(CARRIER)
        self.poll = select.epoll()
        self.by_fd = {s.fileno(): n for n, s in enumerate(self.callers)}
        for one in (*self.callers, self.carrier):
            self.poll.register(one.fileno(), select.EPOLLIN)
        self.offered: list[list[float]] = [[] for _ in range(keys)]
        self.arrived: list[list[float]] = [[] for _ in range(keys)]
        self.seen: set[bytes] = set()
        self.answered: set[bytes] = set()

    def offer(self, key: int, n: int) -> None:
        here = address(key)
        self.callers[key].sendto(
            b"INVITE sip:0312345678@%b SIP/2.0\r\nVia: SIP/2.0/UDP %b;branch=z9hG4bK%d.%d;rport\r\nMax-Forwards: 70\r\n"
            b"From: <sip:1@%b>;tag=f\r\nTo: <sip:0312345678@%b>\r\nCall-ID: %d.%d@many\r\nCSeq: 1 INVITE\r\n"
            b"Contact: <sip:1@%b>\r\nContent-Length: 0\r\n\r\n"
            % (
                GATE[0].encode(),
                here.encode(),
                key,
                n,
                here.encode(),
                GATE[0].encode(),
                key,
                n,
                here.encode(),
            ),
            GATE,
        )
        self.offered[key].append(time.monotonic())

    def wait_for_gate(self) -> None:
        """Until it answers, and gives out tokens: none in the first second."""
        ask = (
            b"OPTIONS sip:%b SIP/2.0\r\nVia: SIP/2.0/UDP %b;branch=z9hG4bK%d;rport\r\nMax-Forwards: 70\r\n"
            b"From: <sip:1@h>;tag=f\r\nTo: <sip:%b>\r\nCall-ID: o\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        )
        here, gate = address(0).encode(), GATE[0].encode()
        for n in range(600):
            self.callers[0].sendto(ask % (gate, here, n, gate), GATE)
            time.sleep(0.1)
            try:
                if self.callers[0].recv(65535).startswith(b"SIP/2.0 200"):
                    break
            except OSError:
                continue
        time.sleep(1.5)

    def hear(self, seconds: float) -> None:
        for fd, _ in self.poll.poll(seconds):
            if fd == self.carrier.fileno():
                self._calls()
            else:
                self._answers(self.by_fd[fd])

    def _calls(self) -> None:
        for _ in range(64):
            try:
                data, extra, _, source = self.carrier.recvmsg(65535, 256)
            except BlockingIOError:
                return
            if not data.startswith(b"INVITE "):
                continue
            stamp = next(struct.unpack("qq", d[:16]) for _, t, d in extra if t == STAMP)
            call_id = value(data, b"Call-ID")
            if call_id not in self.seen:
                self.seen.add(call_id)
                self.arrived[int(call_id.split(b".")[0])].append(stamp[0] + stamp[1] / 1e9)
            head = [x for x in data.split(b"\r\n") if x.startswith((b"Via", b"From", b"Call-ID", b"CSeq"))]
            to = b"To: %b;tag=d" % value(data, b"To")
            answer = b"\r\n".join([b"SIP/2.0 486 Busy Here", *head, to, b"Content-Length: 0", b"", b""])
            self.carrier.sendto(answer, source)

    def _answers(self, key: int) -> None:
        for _ in range(64):
            try:
                data = self.callers[key].recv(65535)
            except BlockingIOError:
                return
            if data[8:9] == b"1":
                continue
            call_id = value(data, b"Call-ID")
            if not call_id.endswith(b"@many"):
                continue
            self.answered.add(call_id)
            head = [x for x in data.split(b"\r\n") if x.startswith((b"Via", b"From", b"To", b"Call-ID"))]
            start = b"ACK sip:0312345678@%b SIP/2.0" % GATE[0].encode()
            ack = b"\r\n".join(
                [start, *head, b"CSeq: 1 ACK", b"Max-Forwards: 70", b"Content-Length: 0", b"", b""]
            )
            self.callers[key].sendto(ack, GATE)


def fullest(times: list[float]) -> int:
    times.sort()
    most = first = 0
    for n, at in enumerate(times):
        while at - times[first] >= WINDOW:
            first += 1
        most = max(most, n - first + 1)
    return most


def exact(times: list[float], limit: int) -> int:
    """What an exact window passes of these arrivals."""
    took: collections.deque[float] = collections.deque()
    passed = 0
    for at in times:
        while took and at - took[0] >= WINDOW + MARGIN:
            took.popleft()
        if len(took) < limit:
            took.append(at)
            passed += 1
    return passed


def judge(
    arrived: list[list[float]], allowed: Sequence[float], offered: int, limit: int, figures: dict[str, float]
) -> int:
    """Print what has passed, key by key, and the further figures; the exit code."""
    passed = [len(times) for times in arrived]
    shares = [p / q for p, q in zip(passed, allowed, strict=True)]
    worst = max(map(fullest, arrived))
    shown = {
        "keys": len(arrived),
        "offered": offered,
        "passed": sum(passed),
        "per_key": [min(passed), max(passed)],
        "share": [round(min(shares), 3), round(max(shares), 3)],
        "fullest": worst,
        "limit": limit,
    }
    print(json.dumps(shown | figures))
    return 0 if worst <= limit and min(shares) >= 0.97 else 1


def cpu(pid: int) -> float:
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--cps", type=int, default=3)
    parser.add_argument("--factor", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--queue", action="store_true")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "many.yaml")
        path.write_text(config(a.keys, a.cps, queue=a.queue))
        program = [sys.executable, "-m", "callgate", "run", "-c", str(path)]
        gate = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            run = Run(a.keys)
            run.wait_for_gate()
            before, start, n, rate = cpu(gate.pid), time.monotonic(), 0, a.keys * a.cps * a.factor
            total = int(rate * a.seconds)
            while n < total or (len(run.answered) < n and time.monotonic() < start + a.seconds + 5.0):
                while n < total and n / rate <= time.monotonic() - start:
                    run.offer(n % a.keys, n // a.keys)
                    n += 1
                run.hear(0.002 if n < total else 0.05)
            spent, took = cpu(gate.pid) - before, time.monotonic() - start
        finally:
            gate.send_signal(signal.SIGTERM)
            gate.wait(45)
    allowed = [
        min(len(offered), a.cps * (max(times) - min(times))) if a.queue else exact(offered, a.cps)
        for offered, times in zip(run.offered, run.arrived, strict=True)
    ]
    figures = {
        "unanswered": n - len(run.answered),
        "cpu_us_per_offered_call": round(spent * 1e6 / n, 1),
        "busy": round(spent / took, 2),
    }
    return judge(run.arrived, allowed, n, a.cps, figures)


if __name__ == "__main__":
    sys.exit(main())
