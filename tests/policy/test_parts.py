"""From the limits of a key to what its calls claim (`net.wiring.parts_of`), and the names and ids on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.config import load_config, load_profile
from callgate.net.wiring import directory_of, listeners_of
from callgate.policy.claim import GRANTED, NO_ANSWER, Claim, Members, Part, Verdict, Window
from callgate.policy.ledger import MARGIN
from callgate.policy.parts import KeyParts, parts_of
from callgate.policy.profile import LIMIT_FIELDS, RULE, Limits, merge
from callgate.proxy.answer import LIMITS, refused_by_limit
from callgate.proxy.peers import Key
from callgate.store.memory import MemoryStore

FOREVER = float("inf")
COUNTS = ("outbound_cps", "outbound_calls", "inbound_calls", "forwarded_calls", "lines", "calls")
"""The limits that are claimed from the store."""

values = st.fixed_dictionaries({name: st.none() | st.integers(0, 200) for name in COUNTS})


def drawn(part: Part) -> tuple[str, str, int | None]:
    assert isinstance(part, Window | Members)
    return part.rule, part.name, part.limit


# -- which limit is claimed by what --------------------------------------------------------------------


@given(values)
def test_each_limit_is_claimed_by_the_calls_it_is_about(limits: dict[str, int | None]) -> None:
    """In this order, which is the order in which a refusal is named: the rate first, it is what suspends."""
    outbound, inbound, attempt, forwarded, *_ = parts_of("acme", Limits(**limits))  # type: ignore[arg-type]
    claimed = {
        "outbound": ["outbound_cps", "outbound_calls", "calls"],
        "inbound": ["inbound_calls", "lines", "calls"],
        "attempt": ["outbound_cps"],
        "forwarded": ["outbound_cps", "forwarded_calls", "lines", "calls"],
    }
    for parts, fields in (
        (outbound, claimed["outbound"]),
        (inbound, claimed["inbound"]),
        (attempt, claimed["attempt"]),
        (forwarded, claimed["forwarded"]),
    ):
        assert [drawn(p) for p in parts] == [
            (RULE[field], f"acme/{field}", limits[field]) for field in fields if limits[field] is not None
        ]


@given(values)
def test_kinds_and_measures(limits: dict[str, int | None]) -> None:
    """The rate is a window of one second, all else is calls up at once, one line each."""
    for part in {p for parts in parts_of("acme", Limits(**limits))[:5] for p in parts}:  # type: ignore[arg-type]
        if part.name == "acme/outbound_cps":
            assert isinstance(part, Window)
            assert part.period == 1.0
        else:
            assert isinstance(part, Members)
            assert part.weight == 1


def test_no_limit_claims_nothing() -> None:
    assert parts_of("acme", Limits()) == KeyParts()


def test_a_limit_of_nothing_is_a_limit() -> None:
    outbound, inbound, attempt, *_ = parts_of("acme", Limits(outbound_cps=0, inbound_calls=0))
    assert [drawn(p) for p in outbound + inbound + attempt] == [
        ("V1", "acme/outbound_cps", 0),
        ("V3", "acme/inbound_calls", 0),
        ("V1", "acme/outbound_cps", 0),
    ]


@pytest.mark.parametrize("field", RULE)
def test_every_limit_is_enforced(field: str) -> None:
    """A limit that is set and does nothing must be impossible."""
    plain = Limits()
    words = {"on_rate_exceeded": "queue", "on_recordings_exceeded": "unrecorded"}
    here = replace(plain, **{field: words.get(field, 7)})
    claimed = parts_of("acme", here) != parts_of("acme", plain)
    ours = field in (
        *("max_call_seconds", "hold_alert_seconds", "hold_release_seconds", "redial_gap_seconds"),
        *("on_rate_exceeded", "on_recordings_exceeded"),
    )  # watched by the call itself, the queue, what becomes of a recording
    assert claimed != ours


# -- names and ids -------------------------------------------------------------------------------------


def test_the_ids_of_the_rules() -> None:
    """interface.md: whatever the profile."""
    assert dict(RULE) == {
        "outbound_cps": "V1",
        "on_rate_exceeded": "V1",
        "inbound_calls": "V3",
        "forwarded_calls": "V4",
        "lines": "V4",
        "recordings": "I1",
        "on_recordings_exceeded": "I1",
        "calls": "K6",
        "outbound_calls": "C2",
        "max_call_seconds": "C1",
        "redial_gap_seconds": "K4",
        "hold_alert_seconds": "K8",
        "hold_release_seconds": "K8",
    }
    assert set(RULE) <= set(LIMIT_FIELDS)


@given(values)
def test_every_rule_that_can_refuse_has_a_name_for_people(limits: dict[str, int | None]) -> None:
    for part in {p for parts in parts_of("acme", Limits(**limits)) for p in parts}:  # type: ignore[arg-type]
        assert part.rule in LIMITS
    assert NO_ANSWER.rule in LIMITS


def test_verdicts_and_claims_can_be_read_in_a_log() -> None:
    assert repr(GRANTED) == "granted"
    assert repr(Verdict(False, "V1", 4, 3)) == "refused V1 4/3"
    assert (
        repr(Claim(255, parts_of("acme", Limits(outbound_cps=3, calls=5))[0], 0.0, 0.0))
        == "Claim(ff, ['V1', 'K6'])"
    )
    assert (NO_ANSWER.granted, NO_ANSWER.rule, NO_ANSWER.free_at) == (False, "store", None)


# -- from the config file to a refusal -----------------------------------------------------------------

CONFIG = """
listen: ["udp://127.0.0.1:5060"]
trunks:
  carrier: {gateways: ["sip:127.0.0.1:5080"]}
keys:
  standard:
    sources: ["127.0.0.1/32"]
    pbx: "sip:127.0.0.1:5070"
  one:
    sources: ["127.0.0.2/32"]
    pbx: "sip:127.0.0.2:5070"
    limits: {calls: 1, inbound_calls: null, outbound_cps: null, max_call_seconds: 60}
  free:
    sources: ["127.0.0.3/32"]
    pbx: "sip:127.0.0.3:5070"
    limits: {outbound_cps: null, inbound_calls: null, lines: null}
  tight:
    sources: ["127.0.0.4/32"]
    pbx: "sip:127.0.0.4:5070"
    limits: {outbound_cps: 1, outbound_calls: 2, inbound_calls: 3, calls: 4}
"""


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Key]:
    file = tmp_path / "callgate.yaml"
    file.write_text(CONFIG)
    config = load_config(file)
    return directory_of(config, listeners_of(config)).keys


class Caller:
    """Puts claims of one key after the other to a store, at one moment."""

    def __init__(self) -> None:
        self.store = MemoryStore(0.0)
        self.last = 0

    def call(self, parts: tuple[Part, ...], now: float = 1000.0) -> str:
        """`granted`, or what a PBX would read."""
        self.last += 1
        verdict = self.store.claim(Claim(self.last, parts, FOREVER, FOREVER), now)
        if verdict.granted:
            self.store.sent(self.last, now)
            return "granted"
        headers = refused_by_limit(verdict.rule, verdict.value, verdict.limit).headers()
        return headers[0].partition(b'"')[2].rstrip(b'"').decode()

    def many(self, count: int, parts: tuple[Part, ...], now: float = 1000.0) -> set[str]:
        return {self.call(parts, now) for _ in range(count)}


def test_the_standard_contract(keys: dict[str, Key]) -> None:
    key, caller = keys["standard"], Caller()
    assert caller.many(3, key.outbound) == {"granted"}
    assert caller.call(key.outbound) == "V1 rate 4/3 per second"
    assert caller.many(100, key.inbound) == {"granted"}
    assert caller.call(key.inbound) == "V3 inbound calls 101/100"
    assert caller.call(key.outbound, 1001.0 + MARGIN) == "granted"
    assert key.token_seconds == 1.0
    assert key.max_call_seconds is None


def test_a_line_for_both_directions(keys: dict[str, Key]) -> None:
    """kct-net: `calls` counts inbound and outbound together (K6)."""
    key = keys["one"]
    for first, second in ((key.outbound, key.inbound), (key.inbound, key.outbound)):
        caller = Caller()
        assert caller.call(first) == "granted"
        assert caller.call(second) == caller.call(first) == "K6 calls 2/1"
        caller.store.release(1, 1000.0)
        assert caller.call(second) == "granted"
    assert key.max_call_seconds == 60
    assert (key.attempt, key.token_seconds) == ((), 0.0)


def test_a_key_without_limits(keys: dict[str, Key]) -> None:
    key, caller = keys["free"], Caller()
    assert caller.many(500, key.outbound) == {"granted"}
    assert caller.many(101, key.inbound) == {"granted"}


def test_the_first_limit_that_is_full_is_the_one_that_is_named(keys: dict[str, Key]) -> None:
    key, caller = keys["tight"], Caller()
    assert caller.call(key.outbound) == "granted"
    assert caller.call(key.outbound) == "V1 rate 2/1 per second"
    assert caller.call(key.outbound, 1002.0) == "granted"
    assert caller.call(key.outbound, 1002.0) == "V1 rate 2/1 per second"
    assert caller.call(key.outbound, 1004.0) == "C2 outbound calls 3/2"
    assert caller.many(2, key.inbound, 1004.0) == {"granted"}
    assert caller.call(key.inbound, 1004.0) == "K6 calls 5/4"
    caller.store.release(1, 1004.0)
    assert caller.call(key.inbound, 1004.0) == "granted"
    assert caller.call(key.inbound, 1004.0) == "V3 inbound calls 4/3"
    assert caller.call(key.outbound, 1004.0) == "K6 calls 5/4"


def test_a_further_attempt_takes_a_token_and_no_line(keys: dict[str, Key]) -> None:
    """Every attempt is a new call to the carrier; the call holds its line already."""
    key, caller = keys["tight"], Caller()
    assert caller.call(key.outbound) == "granted"
    assert caller.call(key.attempt) == "V1 rate 2/1 per second"
    assert caller.call(key.attempt, 1002.0) == "granted"
    assert caller.store.used("tight/outbound_calls", 1002.0) == 1


def test_keys_do_not_share_their_limits(keys: dict[str, Key]) -> None:
    caller = Caller()
    assert caller.many(4, keys["standard"].outbound) == {"granted", "V1 rate 4/3 per second"}
    assert caller.call(keys["tight"].outbound) == "granted"
    assert caller.call(keys["one"].outbound) == "granted"


def test_the_limits_of_the_shipped_contract_are_claimed() -> None:
    limits = merge({}, load_profile("standard", Path()))
    outbound, inbound, attempt, forwarded, *_ = parts_of("k", limits)
    assert [drawn(p) for p in outbound] == [drawn(p) for p in attempt] == [("V1", "k/outbound_cps", 3)]
    assert [drawn(p) for p in inbound] == [("V3", "k/inbound_calls", 100), ("V4", "k/lines", 100)]
    assert [drawn(p) for p in forwarded] == [
        ("V1", "k/outbound_cps", 3),
        ("V4", "k/forwarded_calls", 50),
        ("V4", "k/lines", 100),
    ]
