"""How much strangers may send: per address, all together, in bounded memory; and who is none."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.net import shield as module
from callgate.net.shield import BURST_SECONDS, Allowance, Shield
from callgate.policy.dial import DialRules
from callgate.policy.profile import NumberRules
from callgate.proxy.directory import Directory
from callgate.proxy.flow import Flow, Listener
from callgate.proxy.peers import Gateway, Key, Numbers, Trunk
from callgate.sip.uri import parse_uri

UDP = Listener(0, b"UDP", "192.0.2.100", 5060)
RULES = DialRules(NumberRules({}))


def directory(*sources: str, require: tuple[str, ...] = ()) -> Directory:
    trunk = Trunk("carrier")
    trunk.gateways.append(Gateway(0, parse_uri(b"sip:198.51.100.1"), Flow(UDP, "198.51.100.1", 5060), trunk))
    key = Key("acme", trunk, RULES, networks=[ip_network(one) for one in sources], require=require)
    return Directory([UDP], [trunk], [key], Numbers())


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 3)), max_size=300),
    st.integers(1, 20),
    st.integers(1, 60),
)
def test_never_more_than_is_allowed(asked: list[tuple[str, float]], each: int, together: int) -> None:
    """In any stretch of time: a source its burst and its rate, all together one second's worth and their rate."""
    allowance = Allowance(each, together)
    now, took = 100.0, []
    for source, pause in asked:
        now += pause * pause / 30
        if allowance.admits(source, now):
            took.append((source, now))
    for n, (_, begin) in enumerate(took):
        for m in range(n, len(took)):
            span = took[m][1] - begin
            assert m - n + 1 <= together * (1 + span) + 1 + 1e-6
            of_one = sum(source == took[n][0] for source, _ in took[n : m + 1])
            assert of_one <= each * (BURST_SECONDS + span) + 1e-6


def test_a_burst_then_its_rate() -> None:
    allowance = Allowance(2, 1000)
    assert [allowance.admits("a", 10.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert allowance.admits("b", 10.0), "another has its own"
    assert not allowance.admits("a", 10.4)
    assert [allowance.admits("a", 10.5) for _ in range(2)] == [True, False]
    assert sum(allowance.admits("a", 1000.0) for _ in range(100)) == 10


def test_what_is_refused_costs_nothing() -> None:
    """However hard a source tries, it gets its rate."""
    allowance = Allowance(1, 1000)
    for _ in range(5):
        allowance.admits("a", 0.0)
    took = sum(allowance.admits("a", n / 1000) for n in range(100_000))
    assert took == 99


def test_one_cannot_take_what_all_share() -> None:
    """One that sends far more than its part leaves room for the others."""
    allowance = Allowance(1, 50)
    for n in range(1000):
        allowance.admits("loud", n / 100)
    assert all(allowance.admits(f"quiet{n}", 10.0) for n in range(40))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """And who sends all the time is not forgotten for those who come and go."""
    monkeypatch.setattr(module, "SOURCES", 100)
    allowance = Allowance(1, 1e9)
    for n in range(10_000):
        allowance.admits(f"spoofed {n}", 1.0)
        allowance.admits("constant", 1.0)
        assert len(allowance) <= 201
    assert not allowance.admits("constant", 1.0)


def test_who_is_known() -> None:
    """An address of a key or a trunk, whatever else is required of it; a gateway at any port."""
    everybody = directory("192.0.2.0/28", require=("source", "digest"))
    shield = Shield(lambda: everybody, 1, 10)
    for host, known in (("192.0.2.1", True), ("192.0.2.16", False), ("198.51.100.1", True), ("::1", False)):
        flow = Flow(UDP, host, 4000)
        assert shield.knows(flow) is known
        assert flow.known is known
    user = Flow(UDP, "203.0.113.1", 4000)
    user.known = True
    assert shield.knows(user), "who has shown a password stays known"


def test_a_new_directory_is_looked_at_anew() -> None:
    present = [directory("192.0.2.1")]
    shield = Shield(lambda: present[0], 1, 10)
    assert not shield.is_stranger("192.0.2.2")
    assert not shield.knows(Flow(UDP, "192.0.2.2", 1))
    assert shield.admits("192.0.2.2", 1.0)
    assert shield.is_stranger("192.0.2.2")
    present[0] = directory("192.0.2.2")
    assert not shield.is_stranger("192.0.2.2")
    assert shield.knows(Flow(UDP, "192.0.2.2", 1))
