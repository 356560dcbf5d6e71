"""What is special to the store in the gate's own memory: it forgets, and it tells whose lease ran out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from tests.store.support import BACK, FOREVER, NOW, ask

from callgate.policy.claim import Distinct, Gap, Members, Part, Window
from callgate.store.memory import MemoryStore


def kept(thing: Any) -> int:
    """How many things are kept in it, all the way down."""
    if isinstance(thing, dict):
        return len(thing) + sum(kept(v) for v in thing.values())
    if isinstance(thing, list | tuple | set | deque):
        return len(thing) + sum(kept(v) for v in thing)
    names = getattr(thing, "__slots__", None) or getattr(thing, "__dict__", ())
    if type(thing).__module__.startswith("callgate"):
        return sum(kept(getattr(thing, name)) for name in names)
    return 0


def parts(n: int) -> tuple[Part, ...]:
    return (
        Window("V1", "rate", None),
        Members("V4", "lines", None),
        Distinct("K1", "reach", None, 60.0, b"%d" % n),
        Gap("K4", "again", 60.0, b"%d" % n),
    )


CALLS = 4000


def _quick(store: MemoryStore, n: int, now: float) -> None:
    ask(store, n, *parts(n), now=now, lease=900.0)
    store.sent(n, now)
    store.renew(n, 14_460.0, now)
    store.release(n, now + 1)


def _never_sent(store: MemoryStore, n: int, now: float) -> None:
    ask(store, n, *parts(n), now=now, lease=900.0)
    store.release(n, now)


def _expired(store: MemoryStore, n: int, now: float) -> None:
    ask(store, n, *parts(n), now=now, lease=5.0)
    store.sent(n, now)


def _many_copies(store: MemoryStore, n: int, now: float) -> None:
    ask(store, n, *parts(n), now=now, lease=900.0)
    for copy in range(10):
        store.sent(n, now + copy / 100)
        store.renew(n, 900.0, now + copy / 100)
    store.release(n, now + 1)


def _refused(store: MemoryStore, n: int, now: float) -> None:
    assert not ask(store, n, *parts(n), Members("X", "none", 0), now=now).granted


def _forced(store: MemoryStore, n: int, now: float) -> None:
    ask(store, n, *parts(n), now=now, lease=900.0, force=True)
    store.sent(n, now)
    store.release(n, now)


@pytest.mark.parametrize("life", [_quick, _never_sent, _expired, _many_copies, _refused, _forced])
def test_nothing_is_left_of_calls_that_are_over(life: Callable[[MemoryStore, int, float], None]) -> None:
    """Not in sets, windows, members or leases: what is kept is bounded by what is live and by the last minute."""
    store = MemoryStore(0.0)
    now = NOW
    most = 0
    for n in range(CALLS):
        life(store, n, now)
        now += 1.0
        if n % 500 == 499:
            most = max(most, kept(store))
    assert most < 6000  # copies to 60 members each of a gap and a reach, leases of calls just over
    ask(store, CALLS, *parts(CALLS), now=now + 1000)
    store.release(CALLS, now + 1000)
    assert store.used("rate", now + 1000) == 0
    assert kept(store) < 250


def test_callers_that_call_once_leave_nothing() -> None:
    """Each has a count of numbers of his own: whoever writes a new From with every call fills no memory."""
    store = MemoryStore(0.0)
    now = NOW
    for n in range(CALLS):
        ask(store, n, Distinct("K1", f"reach/{n}", 3, 60.0, b"1"), now=now, lease=900.0)
        store.sent(n, now)
        store.release(n, now)
        now += 1.0
    assert kept(store) < 2000
    store.sent(CALLS - 1, now + 1000.0)  # a copy, when all is forgotten
    ask(store, CALLS, *parts(CALLS), now=now + 1000)
    store.release(CALLS, now + 1000)
    assert kept(store) < 250


def test_a_copy_finds_its_count_forgotten() -> None:
    store = MemoryStore(0.0)
    gap = Gap("K4", "again", 3.0, b"1")
    ask(store, 1, gap, lease=900.0)
    store.sent(1, NOW)
    ask(store, 2, Members("V4", "lines", None), now=NOW + 10.0)
    store.sent(1, NOW + 10.0)
    assert not ask(store, 3, gap, now=NOW + 11.0).granted


def test_nothing_is_left_of_ten_thousand_calls_at_once() -> None:
    store = MemoryStore(0.0)
    for n in range(10_000):
        ask(store, n, *parts(n), lease=900.0)
        store.sent(n, NOW)
    for n in range(10_000):
        store.release(n, NOW + 10)
    ask(store, 10_000, *parts(10_000), now=NOW + 100)
    store.release(10_000, NOW + 100)
    assert kept(store) < 250


def test_a_call_that_holds_for_ever_costs_the_same_however_often_it_is_renewed() -> None:
    store = MemoryStore(0.0)
    for n in range(10):
        ask(store, n, *parts(n), lease=900.0)
    for second in range(5000):
        store.renew(second % 10, 900.0, NOW + second)
    assert kept(store) < 700


def test_the_owner_hears_of_every_lease_that_ran_out_once() -> None:
    """A leak that the lease caught is a fault worth a line in the log."""
    heard: list[int] = []
    store = MemoryStore(0.0, on_expired=heard.append)
    for id, lease in ((1, 10.0), (2, 20.0), (3, 10.0), (4, FOREVER), (5, 10.0)):
        ask(store, id, *parts(id), lease=lease)
    store.release(3, NOW + 1)
    store.renew(5, 30.0, NOW + 5)
    store.expire(NOW + 10)
    assert heard == [1]
    store.release(1, NOW + 11)
    assert store.used("lines", NOW + 20) == 2
    assert heard == [1, 2]
    store.expire(NOW + 10_000)
    assert heard == [1, 2, 5]
    assert store.used("lines", NOW + 10_000) == 1


def test_the_margin_is_the_owner_s_choice() -> None:
    store = MemoryStore(0.0, margin=0.5)
    one = Window("V1", "one", 1)
    ask(store, 1, one)
    store.sent(1, NOW)
    assert not ask(store, 2, one, now=NOW + BACK).granted
    assert ask(store, 2, one, now=NOW + 1.5).granted
