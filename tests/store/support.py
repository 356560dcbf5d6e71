"""The stores that the conformance suite runs on. A new store adds a line to `STORES`, and all of it holds for it."""

from __future__ import annotations

from collections.abc import Callable

from callgate.policy.claim import Claim, Distinct, Gap, Members, Part, Verdict, Window
from callgate.policy.ledger import MARGIN, Store
from callgate.store.memory import MemoryStore

Make = Callable[[float], Store]
"""A store of its own, empty, whose process started at that time (monotonic seconds)."""

STORES: dict[str, Make] = {
    "memory": MemoryStore,
}

NOW = 1000.0
"""Long after the start, so that no window is locked."""
SOON = 0.000_001
FOREVER = float("inf")
BACK = 1.0 + MARGIN
"""Seconds from the last send until the token of a window of one second is back."""

RATE = Window("V1", "rate", 3)
LINES = Members("V4", "lines", 3)
REACH = Distinct("K1", "reach", 2, 60.0, b"a")
AGAIN = Gap("K4", "again", 60.0, b"a")


def ask(
    store: Store,
    id: int,
    *parts: Part,
    now: float = NOW,
    deadline: float = FOREVER,
    lease: float = FOREVER,
    force: bool = False,
) -> Verdict:
    verdict = store.claim(Claim(id, parts, deadline, lease, force), now)
    assert verdict is not None, "a store that answers later brings its verdict here before it is asked"
    return verdict


def refusal(verdict: Verdict) -> tuple[str, int, int, float | None]:
    """(rule, value, limit, free_at) of a refusal."""
    assert not verdict.granted
    return verdict.rule, verdict.value, verdict.limit, verdict.free_at


def just_before(when: float) -> float:
    return when - SOON
