"""The contract as data, and what a key's own limits make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.config import ConfigError, effective_limits, load_config, load_profile
from callgate.config.schema import Limits as WrittenLimits
from callgate.numbers.classes import EMERGENCY
from callgate.policy.profile import (
    ALWAYS_BLOCKED,
    LIMIT_FIELDS,
    NESTED,
    NOT_ENFORCED,
    RULE,
    NumberRules,
    Profile,
    contradictions,
    merge,
)

HERE = Path()
STANDARD = load_profile("standard", HERE)
COUNTED = (
    "outbound_cps",
    "inbound_calls",
    "forwarded_calls",
    "lines",
    "outbound_calls",
    "calls",
    "recordings",
)
by_hand = st.dictionaries(st.sampled_from(COUNTED), st.none() | st.integers(0, 200))


def test_standard_is_what_was_ordered() -> None:
    assert dict(STANDARD.limits) == {
        "outbound_cps": 3,
        "on_rate_exceeded": "reject",
        "inbound_calls": 100,
        "forwarded_calls": 50,
        "lines": 100,
        "recordings": 10,
        "on_recordings_exceeded": "reject",
        "hold_alert_seconds": 600,
    }
    assert [rule for rule, _ in STANDARD.not_enforced_yet] == ["I1"]


@pytest.mark.parametrize(
    ("number_class", "allowed", "rule"),
    [
        ("emergency", False, "K-X1+EMG"),
        ("foreign_emergency", False, "K-X1+EMG"),
        ("emergency_suspect", False, "EMG-SUSPECT"),
        ("1xy", False, "K-X1"),
        ("three_digit", False, "K-X1"),
        ("toll_free", False, "K-X2"),
        ("navi_dial", False, "K-X2"),
        ("premium", False, "K-X2"),
        ("carrier_select", False, "K-X3"),
        ("sharp_code", True, ""),
        ("domestic_fixed", True, ""),
        ("domestic_mobile", True, ""),
        ("ip_phone_050", True, ""),
        ("international_fixed", True, ""),
    ],
)
def test_verdicts_of_standard(number_class: str, allowed: bool, rule: str) -> None:
    assert STANDARD.numbers.verdict(number_class) == (allowed, rule)


def test_a_closed_list() -> None:
    rules = NumberRules({"emergency": "X"}, {"domestic_fixed": "K-C2"}, "block", "K-D")
    assert rules.verdict("domestic_fixed") == (True, "K-C2")
    assert rules.verdict("domestic_mobile") == (False, "K-D")


def test_the_rooms_agree() -> None:
    assert ALWAYS_BLOCKED.keys() == EMERGENCY
    assert set(LIMIT_FIELDS) == set(WrittenLimits.model_fields)
    assert set(RULE) <= set(LIMIT_FIELDS)
    assert set(NOT_ENFORCED) <= set(RULE)


@given(by_hand)
def test_a_merge_never_contradicts_what_is_set_by_hand(hand: dict[str, Any]) -> None:
    if contradictions(hand):
        return
    limits = merge(hand, STANDARD)
    for name, value in hand.items():
        assert getattr(limits, name) == value
        assert limits.origin[name] == "key"
    for name in set(COUNTED) - hand.keys():
        value, inherited = getattr(limits, name), STANDARD.limits.get(name)
        assert (value is None) == (inherited is None)
        assert value is None or value <= inherited, "a contract's limit is lowered, never raised"
        assert (value == inherited) == (limits.origin[name] == "profile standard")
    for inner, each, outer in NESTED:
        if outer in hand and hand[outer] is not None and getattr(limits, inner) is not None:
            assert getattr(limits, inner) * each <= hand[outer]


def test_lowered_to_fit() -> None:
    limits = merge({"lines": 51}, STANDARD)
    assert (limits.inbound_calls, limits.origin["inbound_calls"]) == (51, "lowered to fit lines 51")
    assert (limits.forwarded_calls, limits.origin["forwarded_calls"]) == (25, "lowered to fit lines 51")
    assert merge({"calls": 1}, STANDARD).inbound_calls == 1
    assert merge({"lines": None}, STANDARD).inbound_calls == 100


def test_not_enforced_yet_is_what_the_key_is_left_with() -> None:
    assert merge({"lines": None, "forwarded_calls": None}, STANDARD).not_enforced_yet == [
        ("I1", "calls recorded at once: 10 (step 4)")
    ]


def test_a_profile_that_queues_says_that_nothing_does_so_yet(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nlimits: {outbound_cps: 3, on_rate_exceeded: queue}\n")
    profile = load_profile("mine.yaml", tmp_path)
    assert profile.not_enforced_yet == [("V1", "what becomes of a call over the rate: queue (step 4)")]


def test_a_profile_of_one_s_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ntitle: one port\nlimits: {calls: 1, outbound_cps: null}\n"
        "numbers: {allowed: {domestic_fixed: K-C2}, default: block, default_rule: K-D}\n"
    )
    profile = load_profile("mine.yaml", tmp_path)
    assert profile.limits == {"calls": 1, "outbound_cps": None}
    assert profile.numbers.verdict("domestic_mobile") == (False, "K-D")
    assert profile.numbers.verdict("emergency") == (False, "K-X1+EMG"), (
        "blocked though the file doesn't name it"
    )
    gate = tmp_path / "gate.yaml"
    gate.write_text(GATE)
    limits = effective_limits(load_config(gate), "k")
    assert (limits.calls, limits.outbound_cps, limits.inbound_calls) == (1, None, None)
    assert limits.origin["calls"] == "profile mine"


GATE = """\
trunks: {t: {gateways: ["sip:127.0.0.1:5080"], profile: mine.yaml}}
keys: {k: {sources: ["127.0.0.1"]}}
"""


BROKEN = {
    "title: x": (None, "the key `name` is missing"),
    "name: mine\nlimit: {}": (2, "limit: unknown key `limit`, did you mean `limits`?"),
    "name: mine\nlimits:\n  outbound_cps: fast": (3, "limits.outbound_cps: must be a whole number"),
    "name: mine\nlimits:\n  inbound_calls: 9\n  calls: 1": (3, "they contradict"),
    "name: mine\nnumbers:\n  blocked:\n    tollfree: K-X2": (
        4,
        "unknown class of numbers `tollfree`, did you mean `toll_free`?",
    ),
    "name: mine\nnumbers:\n  allowed:\n    emergency: K-C2": (4, "emergency numbers can't be allowed"),
    "name: mine\nnumbers:\n  allowed: {premium: A}\n  blocked: {premium: B}": (3, "`premium` is blocked too"),
    "name: mine\nextends: standard": (2, "not supported yet (step 4)"),
    "name: mine\nname: mine": (2, "stands twice"),
    "": (None, "the file is empty"),
    "name: [\n": (2, "not valid YAML"),
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_profile_that_can_t_be_used(tmp_path: Path, text: str) -> None:
    line, words = BROKEN[text]
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    gate = tmp_path / "gate.yaml"
    gate.write_text(GATE)
    with pytest.raises(ConfigError) as caught:
        load_config(gate)
    (fault,) = caught.value.faults
    assert words in f"{fault.path}: {fault.text}"
    if line is not None:
        assert (fault.file, fault.line) == (str(path), line)


def test_standard_ships_with_the_package() -> None:
    assert isinstance(STANDARD, Profile)
    with pytest.raises(TypeError):
        STANDARD.limits["lines"] = 1000  # type: ignore[index]
