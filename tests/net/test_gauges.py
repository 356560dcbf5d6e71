"""Gauges that are read from the store and the core, and only where something has happened."""

from __future__ import annotations

from callgate.net.gauges import Gauges
from callgate.net.watermarks import Watermarks
from callgate.policy.claim import Claim, Members
from callgate.policy.dial import DialRules
from callgate.policy.profile import NumberRules
from callgate.proxy.adopt import adopt
from callgate.proxy.commands import Alert
from callgate.proxy.core import Core
from callgate.proxy.directory import Directory
from callgate.proxy.flow import Listener
from callgate.proxy.meters import Meters
from callgate.proxy.peers import Key, Numbers, Trunk
from callgate.proxy.token import Signer
from callgate.store.memory import MemoryStore


def test_congestion_is_shown_until_it_is_over() -> None:
    """K11: also while no call comes that could ask for it."""
    key = Key("acme", Trunk("carrier"), DialRules(NumberRules({})))
    directory = Directory([Listener(0, b"UDP", "127.0.0.1", 5060)], [key.trunk], [key], Numbers())
    meters, store = Meters([0.0] * 2000), MemoryStore(0.0)
    core = Core(directory, Signer(b"x" * 32), meters, 1, 0.0)
    gauges = Gauges(directory, meters, store, core)
    place = meters.series("congestion_level", "acme")
    key.congestion.heard(100.0, plain=False)
    gauges.touched("acme")
    seen = []
    for at in (100.2, 105.0, 109.9, 110.1, 200.0):
        gauges.refresh(at)
        seen.append(meters.values[place])
    assert seen == [1.0, 1.0, 1.0, 0.0, 0.0]


def test_congestion_is_shown_of_the_key_that_a_reload_brings() -> None:
    """It is as slow as the one before, and its gauge shows that."""
    trunk, dial = Trunk("carrier"), DialRules(NumberRules({}))
    before, after = Key("acme", trunk, dial), Key("acme", trunk, dial)
    directory = Directory([Listener(0, b"UDP", "127.0.0.1", 5060)], [trunk], [before], Numbers())
    meters, store = Meters([0.0] * 2000), MemoryStore(0.0)
    core = Core(directory, Signer(b"x" * 32), meters, 1, 0.0)
    gauges = Gauges(directory, meters, store, core)
    before.congestion.heard(100.0, plain=False)
    gauges.declare(after)  # made ready
    adopt(core, Directory(directory.listeners, [trunk], [after], Numbers()), 100.1, prepared={"acme"})
    gauges.slowed(after)
    gauges.refresh(100.2)
    assert meters.values[meters.series("congestion_level", "acme")] == 1.0


def test_a_gauge_is_the_size_of_the_set() -> None:
    """Pitfall 10: whatever is given back twice, or has never been there."""
    part = Members("C2", "acme/outbound_calls", 5)
    key = Key("acme", Trunk("carrier"), DialRules(NumberRules({})), outbound=(part,))
    directory = Directory([Listener(0, b"UDP", "127.0.0.1", 5060)], [key.trunk], [key], Numbers())
    meters, store = Meters([0.0] * 2000), MemoryStore(0.0)
    gauges = Gauges(directory, meters, store, Core(directory, Signer(b"x" * 32), meters, 1, 0.0))
    place = meters.series("outbound_calls_used", "acme")
    seen = []
    for step in (
        lambda: store.claim(Claim(1, (part,), 10.0, 60.0), 1.0),
        lambda: store.claim(Claim(2, (part,), 10.0, 60.0), 1.0),
        lambda: store.release(1, 1.0),
        lambda: store.release(1, 1.0),
        lambda: store.release(7, 1.0),
        lambda: store.release(2, 1.0),
        lambda: store.release(2, 1.0),
    ):
        step()
        gauges.touched("acme")
        gauges.refresh(1.0)
        seen.append(meters.values[place])
    assert seen == [1.0, 2.0, 1.0, 1.0, 1.0, 0.0, 0.0]


def test_a_limit_is_told_of_before_it_refuses() -> None:
    """Once at 80 %, once when it is reached; over after ten seconds below 75 %, and no storm in between."""
    part = Members("V4", "acme/lines", 20)
    key = Key("acme", Trunk("carrier"), DialRules(NumberRules({})), inbound=(part,))
    directory = Directory([Listener(0, b"UDP", "127.0.0.1", 5060)], [key.trunk], [key], Numbers())
    meters, store = Meters([0.0] * 4000), MemoryStore(0.0)
    core = Core(directory, Signer(b"x" * 32), meters, 1, 0.0)
    gauges = Gauges(directory, meters, store, core)
    up = 0
    told = []

    def use(count: int, now: float) -> list[tuple[str, bool]]:
        nonlocal up
        for n in range(up, count):
            store.claim(Claim(n, (part,), now + 10.0, 1e6), now)
        for n in range(count, up):
            store.release(n, now)
        up = count
        gauges.touched("acme")
        core.tick(now)
        gauges.refresh(now)
        found = [(one.details["kind"], one.resolved) for one in core.commands() if isinstance(one, Alert)]
        told.extend(found)
        return found

    assert use(15, 1.0) == []
    assert use(16, 2.0) == [("near_limit", False)]
    for n in range(40):  # to and fro above 75 %
        assert use(15 + n % 2, 3.0 + n) == []
    assert use(20, 50.0) == [("at_limit", False)]
    assert use(14, 51.0) == []
    assert use(16, 55.0) == []  # before ten seconds have passed: the same cause
    assert use(14, 60.5) == [("at_limit", True)]
    assert use(14, 70.0) == [("near_limit", True)]
    assert use(0, 90.0) == []
    assert len(told) == 4


def test_a_limit_of_one_call_is_no_news() -> None:
    seen: list[Alert] = []
    marks = Watermarks(lambda alert, now: seen.append(alert))
    marks.read("acme", "calls", "K6", 1, 1, 0.0)
    assert seen == []
    marks.read("acme", "outbound_cps", "V1", 3, 3, 0.0)
    assert [(one.rule, one.details["kind"], one.value, one.limit) for one in seen] == [
        ("V1", "near_limit", 3, 3),
        ("V1", "at_limit", 3, 3),
    ]
