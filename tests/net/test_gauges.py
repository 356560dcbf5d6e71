"""Gauges that are read from the store and the core, and only where something has happened."""

from __future__ import annotations

from callgate.net.gauges import Gauges
from callgate.policy.claim import Claim, Members
from callgate.policy.dial import DialRules
from callgate.policy.profile import NumberRules
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
