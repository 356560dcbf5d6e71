#!/usr/bin/env python3
"""What a verdict on a dialled number costs: by the spelling, by the length of the lists, and how lists load.

    python bench/dialled.py [--million 1000000] [--rounds 15] [--only verdicts|abroad|lists|load|dial]

Microseconds of CPU time per Request-URI read and judged; each figure is the least of the rounds, since other work on
the machine only ever makes it larger. `dial` times the whole command on a file of different Japanese numbers.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from callgate.config import load_profile
from callgate.config.numberlists import ListFiles
from callgate.numbers import read_uri
from callgate.numbers.abroad import line_of, warm
from callgate.policy.dial import DialRules, Lists
from callgate.policy.numberlist import NumberList, Table

SPELLINGS = {
    "0312345678": "sip:03{:08}@192.0.2.10",
    "+81312345678": "sip:+813{:08}@192.0.2.10;user=phone",
    "090-1234-5678": "sip:090-{:08}@192.0.2.10",
    "tel:+81-90-…": "tel:+81-90-{:08}",
    "186 0312345678": "sip:18603{:08}@192.0.2.10",
    "0120123456": "sip:0120{:06}@192.0.2.10",
    "0033 0312345678": "sip:003303{:08}@192.0.2.10",
    "119": "sip:119@192.0.2.10",
    "%30312345678": "sip:%303{:08}@192.0.2.10",
    "full-width 0": "sip:%EF%BC%903{:08}@192.0.2.10",
    "phone-context=+81": "sip:3{:08};phone-context=+81@192.0.2.10;user=phone",
    "010 81 3…": "sip:010813{:08}@192.0.2.10",
}
ABROAD = {
    "+44 20 fixed": "sip:+44207946{:04}@192.0.2.10",
    "+44 7400 mobile": "sip:+447400{:06}@192.0.2.10",
    "+1 212": "sip:+12125{:06}@192.0.2.10",
    "+7 (two countries)": "sip:+7701{:07}@192.0.2.10",
    "+86 138": "sip:+86138{:08}@192.0.2.10",
    "+45 (fits nothing)": "sip:+451{:07}@192.0.2.10",
    "010 44 …": "sip:01044207946{:04}@192.0.2.10",
}


def least(rounds: int, once: Callable[[], int]) -> float:
    """Microseconds of CPU time per item, the least of the rounds; `once` says how many items it did."""
    found = []
    for _ in range(rounds):
        start = time.process_time()
        count = once()
        found.append((time.process_time() - start) / count * 1e6)
    return min(found)


def uris(pattern: str, count: int) -> list[bytes]:
    """Different numbers of one spelling."""
    width = int(pattern.partition("{:0")[2].partition("}")[0] or 1)
    return [pattern.format(n % 10**width).encode() for n in random.Random(1).sample(range(10**8), count)]


def judge_all(rules: DialRules, requests: Iterable[bytes]) -> None:
    for uri in requests:
        rules.judge(read_uri(uri))


def verdicts(rules: DialRules, rounds: int) -> None:
    print("\nJapanese numbers, read and judged          µs")
    for name, pattern in SPELLINGS.items():
        requests = uris(pattern, 2000)

        def once(requests: Sequence[bytes] = requests) -> int:
            judge_all(rules, requests)
            return len(requests)

        print(f"  {name:<38}{least(rounds, once):6.1f}")


def abroad(rules: DialRules, rounds: int) -> None:
    warm(lambda: None)
    print("\nnumbers abroad                     not seen before   seen")
    for name, pattern in ABROAD.items():
        requests = uris(pattern, 500)

        def fresh(requests: Sequence[bytes] = requests) -> int:
            line_of.cache_clear()
            judge_all(rules, requests)
            return len(requests)

        def seen(requests: Sequence[bytes] = requests) -> int:
            judge_all(rules, requests)
            return len(requests)

        print(f"  {name:<32}{least(rounds, fresh):12.1f}{least(rounds, seen):10.1f}")


def lists(rules: DialRules, rounds: int, million: int) -> None:
    print("\nentries in the key's block list            µs for a Japanese number")
    requests = uris("sip:09{:09}@192.0.2.10", 2000)
    size = 10
    while size <= million:
        table = Table(1024)
        for entry in prefixes(size):
            table.add(entry)
        judged = rules.narrowed([Lists("key acme", block=NumberList(table))])

        def once(judged: DialRules = judged) -> int:
            judge_all(judged, requests)
            return len(requests)

        print(f"  {size:<38,}{least(rounds, once):6.1f}")
        size *= 10


def prefixes(count: int) -> Iterable[str]:
    """First digits of 5 to 9 digits, all different: the same lengths in lists of any size."""
    yield from ("+81905", "+449061", "+3389123", "+86138123", "+815512345")
    for n in range(count - 5):
        yield f"+49{n:07}"


def load(million: int) -> None:
    """A file is read while another thread, as the gate's loop does, wants to go on every millisecond."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.txt"
        with path.open("w") as file:
            file.writelines(f"{entry}\n" for entry in prefixes(million))
        stalls: list[float] = []
        done = threading.Event()

        def ticks() -> None:
            last = time.perf_counter()
            while not done.is_set():
                time.sleep(0.001)
                now = time.perf_counter()
                stalls.append(now - last - 0.001)
                last = now

        for words, rest in (("at the start", None), ("by SIGHUP", lambda: time.sleep(0.001))):
            stalls.clear()
            done.clear()
            watcher = threading.Thread(target=ticks)
            watcher.start()
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            start, cpu = time.perf_counter(), time.process_time()
            table = ListFiles(rest).read(path, [])
            wall, cpu = time.perf_counter() - start, time.process_time() - cpu
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
            for _ in table.retire():
                if rest is not None:
                    rest()
            done.set()
            watcher.join()
            waits = sorted(stalls)
            print(
                f"\n{million:,} prefixes from a file, {words}: {wall:.1f} s ({cpu:.1f} s CPU), "
                f"{memory / 1024:.0f} MB; another thread waited {waits[len(waits) // 2] * 1e3:.1f} ms (median), "
                f"{waits[-1] * 1e3:.0f} ms at most"
            )


def dial(rounds: int, count: int = 200_000) -> None:
    config = "trunks: {t: {gateways: [sip:192.0.2.1]}}\nkeys: {k: {sources: [192.0.2.2]}}\nstate_dir: null\n"
    with tempfile.TemporaryDirectory() as folder:
        path, numbers = Path(folder) / "gate.yaml", Path(folder) / "numbers"
        path.write_text(config)
        chosen = random.Random(1)
        numbers.write_text(
            "".join(
                chosen.choice(
                    ("03{:08}", "090{:08}", "+813{:08}", "06-{:08}", "186090{:08}", "0120{:06}")
                ).format(chosen.randrange(10**6))
                + "\n"
                for _ in range(count)
            )
        )
        command = [sys.executable, "-m", "callgate", "dial", "-c", str(path), "--json", "-"]

        def seconds(source: Path) -> float:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            with source.open("rb") as stdin:
                subprocess.run(command, stdin=stdin, stdout=subprocess.DEVNULL, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        whole = min(seconds(numbers) for _ in range(rounds))
        start = min(seconds(Path(os.devnull)) for _ in range(rounds))
        print(
            f"\ncallgate dial --json -: {count / whole:,.0f} numbers per second of CPU with its start ({start:.2f} s), "
            f"{count / (whole - start):,.0f} without"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--million", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", choices=("verdicts", "abroad", "lists", "load", "dial"))
    args = parser.parse_args()
    rules = DialRules(load_profile("standard", Path()).numbers)
    parts: dict[str, Callable[[], None]] = {
        "verdicts": lambda: verdicts(rules, args.rounds),
        "abroad": lambda: abroad(rules, args.rounds),
        "lists": lambda: lists(rules, args.rounds, args.million),
        "load": lambda: load(args.million),
        "dial": lambda: dial(min(args.rounds, 5)),
    }
    for name, part in parts.items():
        if args.only in (None, name):
            part()


if __name__ == "__main__":
    main()
