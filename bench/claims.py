"""What a verdict costs: a claim with five limits, over the number of keys, live calls and rules.

    python bench/claims.py

CPU time of this process, best of five rounds; asking, sending and releasing are told apart. Nothing is sent anywhere.
"""

from __future__ import annotations

import gc
import time

from callgate.policy.claim import Claim, Members, Part, Window
from callgate.policy.more import Counted, More
from callgate.store.memory import MemoryStore

ROUNDS, CALLS = 5, 4000
FOREVER = 1e9


def five(key: int) -> tuple[Part, ...]:
    """The limits of one key that are never full."""
    name = f"k{key}"
    return (
        Window("V1", f"{name}/outbound_cps", 1_000_000),
        Members("C2", f"{name}/outbound_calls", 1_000_000),
        Members("K6", f"{name}/calls", 1_000_000),
        Window("X1", f"{name}/more/minute", 1_000_000, 60.0),
        Window("V1", "trunk/t/outbound_cps", 1_000_000),
    )


def measure(keys: int, live: int, extra: int = 0) -> tuple[float, float, float]:
    """Microseconds for (a claim, its send, its release); `extra`: further rules per caller."""
    parts = [five(n) for n in range(keys)]
    rules = [
        Counted(More(f"X{n + 1}", per="caller", calls=1000, window_seconds=60.0), "k") for n in range(extra)
    ]
    best = [1e9, 1e9, 1e9]
    for _ in range(ROUNDS):
        store = MemoryStore(0.0)
        for n in range(live):
            store.claim(Claim(n + 1, parts[n % keys], FOREVER, 14_400.0), 2.0)
            store.sent(n + 1, 2.0)
        first = live + 1
        claims = [
            Claim(
                first + n,
                parts[n * 7 % keys]
                + tuple(p for r in rules if (p := r.part(str(n % 100), "", "", 0.0)) is not None),
                FOREVER,
                14_400.0,
            )
            for n in range(CALLS)
        ]
        now = 10.0
        for name in {part.name for one in parts for part in one}:
            store.used(name, now)  # the tokens of the live calls have come back long ago
        begin = time.process_time()
        for claim in claims:
            store.claim(claim, now)
        asked = time.process_time()
        for claim in claims:
            store.sent(claim.id, now)
        sent = time.process_time()
        for claim in claims:
            store.release(claim.id, now)
        took = (asked - begin, sent - asked, time.process_time() - sent)
        best = [min(one, other * 1e6 / CALLS) for one, other in zip(best, took, strict=True)]
    return best[0], best[1], best[2]


def main() -> None:
    gc.disable()
    print("keys     live     further rules   claim us   send us   release us")
    for keys, live, extra in (
        *((keys, 1000, 0) for keys in (10, 100, 1_000, 10_000, 100_000)),
        *((100, live, 0) for live in (10, 100, 1_000, 10_000, 50_000)),
        *((100, 1000, extra) for extra in (1, 5, 10)),
    ):
        claim, sent, release = measure(keys, live, extra)
        print(f"{keys:<9}{live:<9}{extra:<16}{claim:<11.2f}{sent:<10.2f}{release:.2f}")
        gc.collect()


if __name__ == "__main__":
    main()
