"""Fuzz the reader and the whole core for a while (`make fuzz`): half of the time with seeds that count up, half led by
coverage where atheris is installed.

    python -m tests.fuzz.run [--seconds 60] [--seed N] [--only SEED]

Ends with 1 at the first fault and says how to see it again; else with 0 and the figures.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from tests.fuzz.dice import Seeded
from tests.fuzz.play import Figures, frames, play, seeded
from tests.torture.table import CASES

SLOW = 0.05
"""Seconds of CPU that one message may take."""
WARM = 300
"""Runs after which all that is remembered for good is remembered."""
GROWTH = 5_000
"""Objects: what the runs after that may leave, which is what Python itself keeps."""
FOUND = Path(".fuzz")
"""Where the inputs that show a fault are kept."""
MESSAGES = [case.data for case in CASES]


def once(seed: int, figures: Figures) -> None:
    seeded(seed)
    dice = Seeded(seed)
    if seed % 8 == 7:
        frames(dice, MESSAGES, figures)
        figures.runs += 1
    else:
        play(dice, figures)


def objects() -> int:
    gc.unfreeze()
    gc.collect()
    return len(gc.get_objects())


def kilobytes() -> int:
    """Memory that the process holds."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def by_seeds(first: int, seconds: float) -> bool:
    """Whether all went well."""
    figures, end, before, seed = Figures(), time.monotonic() + seconds, 0, first
    held = kilobytes()
    while time.monotonic() < end:
        if figures.runs == WARM:
            before, held = objects(), kilobytes()
        elif not figures.runs % WARM:
            objects()  # the worlds of the runs themselves: the gate's own garbage collector is off
        slowest = figures.slowest
        try:
            once(seed, figures)
        except Exception:
            traceback.print_exc()
            print(f"\nseed {seed}: python -m tests.fuzz.run --only {seed}", file=sys.stderr)
            return False
        if figures.slowest > max(slowest, SLOW) and _is_slow(seed):
            print(f"seed {seed}: a message takes {figures.slowest * 1000:.0f} ms", file=sys.stderr)
            return False
        seed += 1
    show("seeds", vars(figures))
    grown = objects() - before if before else 0
    print(f"  growth after the first {WARM} runs: {grown:+d} objects, {kilobytes() - held:+d} kB", flush=True)
    return grown < GROWTH


def _is_slow(seed: int) -> bool:
    """Once more: the machine may have been busy with something else."""
    again = Figures()
    once(seed, again)
    return again.slowest > SLOW


def show(how: str, figures: dict[str, Any]) -> None:
    print(
        f"{how}: {figures['runs']} runs, {figures['messages']} messages, {figures['octets']} octets;"
        f" slowest message {figures['slowest'] * 1000:.1f} ms"
    )


def by_coverage(seconds: float) -> bool:
    """In a process of its own, which libFuzzer ends."""
    with tempfile.TemporaryDirectory() as folder:
        corpus, file = Path(folder, "corpus"), Path(folder, "figures.json")
        corpus.mkdir()
        FOUND.mkdir(exist_ok=True)
        for n, data in enumerate(MESSAGES):
            (corpus / f"read-{n}").write_bytes(b"\0" + data)
            (corpus / f"receive-{n}").write_bytes(b"\1" + data)
        options = [
            f"-max_total_time={max(1, int(seconds))}",
            "-max_len=65507",
            "-timeout=60",
            "-rss_limit_mb=2048",
            "-print_final_stats=0",
            "-verbosity=0",
            f"-artifact_prefix={FOUND}/",
        ]
        command = [sys.executable, "-m", "tests.fuzz.guided", str(file), *options, str(corpus)]
        said = Path(folder, "said")
        with said.open("wb") as out:
            done = subprocess.run(command, timeout=seconds + 600, stdout=out, stderr=out, check=False)
        if file.exists():
            show(
                "coverage (the program slowed down by its being watched)",
                json.loads(file.read_text(encoding="utf-8")),
            )
            print(f"  inputs that reach something new: {len(list(corpus.iterdir())) - 2 * len(MESSAGES)}")
        if done.returncode:
            print(said.read_text(encoding="utf-8", errors="replace")[-8000:], file=sys.stderr)
            print(f"the input is in {FOUND}/: python -m tests.fuzz.guided x.json FILE", file=sys.stderr)
        return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="the first one (default: the time)"
    )
    parser.add_argument("--only", type=int, help="run this seed and nothing else")
    arguments = parser.parse_args()
    if arguments.only is not None:
        once(arguments.only, Figures())
        return 0
    guided = importlib.util.find_spec("atheris") is not None
    if not guided:
        print("atheris is not installed: seeds only")
    print(
        f"fuzzing for {arguments.seconds:g} s, process {os.getpid()}, seeds from {arguments.seed}", flush=True
    )
    seconds = arguments.seconds / 2 if guided else arguments.seconds
    return 0 if by_seeds(arguments.seed, seconds) and (not guided or by_coverage(seconds)) else 1


if __name__ == "__main__":
    sys.exit(main())
