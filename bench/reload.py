#!/usr/bin/env python3
"""What a reload of many keys asks of the loop, on which all calls run: how long its one step takes, and the longest
time that the loop has to wait for the thread that reads.

    python bench/reload.py [--keys 2000] [--what one|all|shift]

A config of so many keys is loaded, then reloaded with one key changed, all of them, or one added and one removed. Times
are those of the CPU, so that other programs on the machine don't count.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from callgate.config import load_config
from callgate.net.gate import Gate
from callgate.net.log import get_logger
from callgate.net.reload import Reload
from callgate.net.wiring import directory_of, listeners_of
from callgate.proxy.meters import Meters

CONFIG = """
listen: ["udp://127.0.0.1:5060"]
state_dir: null
trunks: {{carrier: {{gateways: ["sip:127.0.0.1:5080"], health: {{interval_seconds: 0}}}}}}
keys:
{keys}
"""
KEY = (
    '  k{n}: {{sources: ["10.{a}.{b}.{c}/32"], numbers: ["+8150{n:08d}"], pbx: "sip:127.0.0.1:5070", '
    "limits: {{outbound_cps: {cps}}}}}"
)


def config(keys: range, cps: Callable[[int], int]) -> str:
    of = [KEY.format(n=n, a=n >> 16, b=n >> 8 & 255, c=n & 255, cps=cps(n)) for n in keys]
    return CONFIG.format(keys="\n".join(of))


class Silent:
    def info(self, *_: object, **__: object) -> None:
        pass

    warning = error = info


async def measure(keys: int, what: str) -> str:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "callgate.yaml"
        path.write_text(config(range(keys), lambda _: 3))
        before = load_config(path)
        directory = directory_of(before, listeners_of(before))
        meters = Meters([0.0] * (600 * keys + 4000))
        gate = Gate(before, directory, b"s" * 32, meters, get_logger())
        gate._loop = asyncio.get_running_loop()
        gc.freeze()
        gc.disable()
        took: list[float] = []
        adopt = gate.adopt

        def timed(*arguments: Any) -> None:
            began = time.thread_time()
            adopt(*arguments)
            took.append(time.thread_time() - began)

        gate.adopt = timed  # type: ignore[method-assign]
        reload = Reload(gate, before, Silent(), lambda *_, **__: None)  # type: ignore[arg-type]
        path.write_text(
            {
                "one": config(range(keys), lambda n: 4 if not n else 3),
                "all": config(range(keys), lambda _: 4),
                "shift": config(range(1, keys + 1), lambda _: 3),
            }[what]
        )
        outcome = reload.request("bench")
        longest, last = 0.0, time.process_time()
        while not outcome.done():
            await asyncio.sleep(0)
            now = time.process_time()
            longest, last = max(longest, now - last), now
        assert not outcome.result().faults, outcome.result().faults
    step, wait = took[0] * 1e3, longest * 1e3
    return f"{keys} keys, {what}: {step:.1f} ms in one step, {wait:.1f} ms the longest wait of the loop"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=2000)
    parser.add_argument("--what", choices=("one", "all", "shift"), default="all")
    options = parser.parse_args()
    print(asyncio.run(measure(options.keys, options.what)))


if __name__ == "__main__":
    main()
