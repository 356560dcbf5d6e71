#!/usr/bin/env python3
"""What call records cost: CPU per call without any, with SQLite, and with SQLite and a webhook of type cdr.

    python -m bench.records [--rounds 3]                                      # what keeps them, alone
    python -m bench.records --gate [--rate 400] [--calls 2000] [--rounds 4]   # the whole gate

Alone: records are handed over as the loop does it, 1,000 a second in groups of 25, in one process that does nothing
else; prints its CPU per record, with both threads, best and median of the rounds. With `--gate` three gates stand side
by side, and SIPp calls through one after the other (INVITE 100 180 200 ACK BYE 200), in rounds; prints CPU of the
gate's process per call, with all its threads, and how much more than without records. The process that delivers
webhooks is counted apart. That needs the test programs (`make programs`), and a machine that has time for it. Run it
from the top of a checkout.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.webhooks import SECRET, call, receive
from tests.e2e.gate import Gate
from tests.e2e.net import NUMBER, Net
from tests.e2e.sipp import Sipp

from callgate.cdr.events import Receiver
from callgate.cdr.writer import Writer

TICKS = os.sysconf("SC_CLK_TCK")
PER_SECOND, GROUP, KEYS = 1000, 25, 20
WITHOUT = (
    "-c",
    "from callgate.cdr.writer import Writer; Writer.put = lambda *_: None; from callgate.cli import main; main()",
    "run",
)


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def courier_of(pid: int) -> int | None:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"callgate.ops.outbox" in words and str(pid).encode() in words:
            return int(entry.parent.name)
    return None


class Place:
    """One of the gates, with its carrier and the address of its PBX."""

    def __init__(self, folder: Path, number: int, rate: int, calls: int, hook: str, records: bool) -> None:
        folder.mkdir()
        self.net = Net(folder)
        self.rate, self.calls = rate, calls
        carrier = self.net.add(
            Sipp(folder, "uas-answers", self.net.host(3), calls=10_000_000, seconds=3600).start()
        )
        pbx = self.net.udp(2)
        hooks = [{"url": hook, "secret": SECRET, "allow_private": True, "events": ["cdr"]}] if hook else []
        self.gate: Gate = self.net.gate(pbx, carrier.uri, webhooks=hooks)
        self.gate.run() if records else self.gate.run(WITHOUT)
        pbx.close()
        self.host, self.port = pbx.address
        assert self.gate.process is not None
        self.pid = self.gate.process.pid
        self.courier = courier_of(self.pid) if hook else None

    def turn(self, calls: int) -> tuple[float, float]:
        """Microseconds per call: of the gate, of the courier."""
        before = cpu(self.pid), cpu(self.courier) if self.courier else 0.0
        caller = Sipp(
            self.net.folder,
            "uac-hangs-up",
            self.host,
            to=self.gate.address,
            number=NUMBER,
            calls=calls,
            rate=self.rate,
            hold=20,
            port=self.port,
            seconds=300,
        )
        with closing(caller.start()):
            caller.done(300)
        time.sleep(1.0)
        after = cpu(self.pid), cpu(self.courier) if self.courier else 0.0
        return (after[0] - before[0]) / calls * 1e6, (after[1] - before[1]) / calls * 1e6


def alone(receivers: list[Receiver], keep: bool, seconds: float = 2.0) -> float:
    """Microseconds per record."""
    with TemporaryDirectory() as folder:
        writer = Writer(f"sqlite:///{folder}/a.db", Path(folder), receivers=receivers)
        calls = [call(n + 1, KEYS) for n in range(int(seconds * PER_SECOND))]
        writer.start()
        time.sleep(0.3)
        began = time.process_time()
        for at in range(0, len(calls), GROUP):
            for one in calls[at : at + GROUP] if keep else ():
                writer.put(one, 1_767_225_600.0)
            time.sleep(GROUP / PER_SECOND)
        while keep and writer.state.written < len(calls):
            time.sleep(0.01)
        took = time.process_time() - began
        writer.close()
    return took / len(calls) * 1e6


def alone_in_rounds(rounds: int) -> None:
    hook = Receiver("sink", "http://127.0.0.1:9/", SECRET, events=("cdr",))
    kinds: dict[str, tuple[list[Receiver], bool]] = {
        "without": ([], False),
        "SQLite": ([], True),
        "SQLite and a webhook": ([hook], True),
    }
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, (receivers, keep) in kinds.items():
            found[name].append(alone(receivers, keep))
    base = statistics.median(found.pop("without"))
    for name, each in found.items():
        print(
            f"{name:22} best {min(each) - base:4.0f} us, median {statistics.median(each) - base:4.0f} us a record"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gate", action="store_true")
    parser.add_argument("--rate", type=int, default=400)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    if not args.gate:
        alone_in_rounds(args.rounds)
        return
    here, there = multiprocessing.Pipe()
    sink = multiprocessing.Process(target=receive, args=(there,), daemon=True)
    sink.start()
    hook = f"http://127.0.0.1:{here.recv()}/hook"
    kinds = {"without records": ("", False), "SQLite": ("", True), "SQLite and a webhook": (hook, True)}
    found: dict[str, list[float]] = {name: [] for name in kinds}
    courier: list[float] = []
    with TemporaryDirectory() as folder:
        places = {
            name: Place(Path(folder) / str(n), n, args.rate, args.calls, url, records)
            for n, (name, (url, records)) in enumerate(kinds.items())
        }
        try:
            time.sleep(1.5)
            for place in places.values():
                place.turn(args.calls // 4)  # warm
            for _ in range(args.rounds):
                for name, place in places.items():
                    gate, other = place.turn(args.calls)
                    found[name].append(gate)
                    if place.courier:
                        courier.append(other)
        finally:
            for place in places.values():
                place.net.close()
    sink.terminate()
    base = found["without records"]
    for name, each in found.items():
        more = statistics.median(one / none - 1 for one, none in zip(each, base, strict=True))
        print(
            f"{name:22} best {min(each):4.0f} us, median {statistics.median(each):4.0f} us a call, {more:+.0%}"
        )
    print(
        f"{'the courier':22} best {min(courier):4.0f} us, median {statistics.median(courier):4.0f} us an event"
    )


if __name__ == "__main__":
    main()
