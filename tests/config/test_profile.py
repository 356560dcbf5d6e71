"""The contract as data, and what a key's own limits make of it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.config import ConfigError, effective_limits, load_config, load_profile
from callgate.config.profiles import SHIPPED
from callgate.config.schema import Limits as WrittenLimits
from callgate.numbers.classes import EMERGENCY
from callgate.policy.more import More
from callgate.policy.profile import (
    ALWAYS_BLOCKED,
    LIMIT_FIELDS,
    NESTED,
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
    assert STANDARD.not_enforced_yet == []


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


def test_what_nothing_enforces_yet_is_said(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nrules: {V12: spend cap of 10000 yen, V3: known, X9: my own}\n"
    )
    profile = load_profile("mine.yaml", tmp_path)
    assert profile.not_enforced_yet == [("V12", "spend cap of 10000 yen"), ("X9", "my own")]


# Shipped profile → its limits (rules.md), two verdicts, and some of the rules that it holds besides.
SHIPS: dict[str, tuple[dict[str, object], dict[str, tuple[bool, str]], set[str]]] = {
    "kwc-vonage": (
        {"outbound_cps": 3, "inbound_calls": 100, "forwarded_calls": 50, "lines": 100},
        {"toll_free": (True, ""), "emergency": (False, "K-X1+EMG")},
        {"V2", "V6", "V9", "V10", "V11", "V12", "V13"},
    ),
    "kct-net": (
        {"calls": 1, "redial_gap_seconds": 3.0},
        {
            "domestic_fixed": (True, "K-C2"),
            "international_mobile": (False, "K-D"),
            "toll_free": (False, "K-X2"),
            "carrier_select": (False, "K-X3"),
            "sharp_code": (False, "K-D"),
        },
        {"K3", "K7", "K8", "K9", "K10", "K13"},
    ),
    "infobip-voice": (
        {"recordings": 10, "on_recordings_exceeded": "reject"},
        {"premium": (True, "")},
        {"I3", "I7", "I10", "I16", "I17"},
    ),
    "tencent-ccc": ({"outbound_cps": 4}, {"premium": (True, "")}, {"T2", "T3", "T4", "T9", "T14", "T15"}),
}


@pytest.mark.parametrize("name", SHIPS)
def test_the_shipped_contracts(name: str) -> None:
    limits, verdicts, rules = SHIPS[name]
    profile = load_profile(name, Path())
    assert profile.name == name
    assert {field: profile.limits.get(field) for field in limits} == limits
    assert {cls: profile.numbers.verdict(cls) for cls in verdicts} == verdicts
    assert rules <= profile.rules.keys() | profile.pending.keys()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_contract_can_be_read_by_people(name: str) -> None:
    """Each value has a comment with its rule's id above it, or beside it."""
    text = (resources.files("callgate.policy") / "profiles" / f"{name}.yaml").read_text(encoding="utf-8")
    profile = load_profile(name, Path())
    for field in profile.limits:
        if field in ("queue_seconds", "on_recordings_exceeded", "on_rate_exceeded"):
            continue
        before, _, _ = text.partition(f"  {field}:")
        assert f"# {RULE[field]}" in before or "V1" in before, field


def test_profiles_extend_each_other(tmp_path: Path) -> None:
    """What is named takes the place of what stood below; what doesn't fit it any more is lowered."""
    (tmp_path / "base.yaml").write_text(
        "name: base\ntitle: below\nextends: standard\n"
        "limits: {outbound_cps: 10, more: [{rule: X1, calls: 100, window_seconds: 60}]}\n"
        "rules: {V12: cap}\n"
    )
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nextends: base.yaml\n"
        "limits: {lines: 20, more: [{rule: X1, calls: 50, window_seconds: 30}, {rule: X2, at_once: 5}]}\n"
        "numbers: {allowed: {toll_free: K-C2}, blocked: {international_satellite: X3}}\n"
    )
    profile = load_profile("mine.yaml", tmp_path)
    assert profile.lineage == ("base", "standard")
    assert profile.title == "below"
    assert profile.limits["outbound_cps"] == 10
    assert (profile.limits["lines"], profile.limits["inbound_calls"]) == (20, 20)
    assert profile.limits["forwarded_calls"] == 10
    assert [(one.rule, one.limit) for one in profile.limits["more"]] == [("X1", 50), ("X2", 5)]
    assert profile.numbers.verdict("toll_free") == (True, "K-C2")
    assert profile.numbers.verdict("international_satellite") == (False, "X3")
    assert profile.numbers.verdict("navi_dial") == (False, "K-X2")
    assert profile.rules == {"V12": "cap"}
    assert merge({"more": None}, profile).more == ()
    assert [one.rule for one in merge({"more": (More("X7", at_once=1),)}, profile).more] == ["X1", "X2", "X7"]


def test_profiles_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nextends: other.yaml\n")
    (tmp_path / "other.yaml").write_text("name: other\nextends: mine.yaml\n")
    with pytest.raises(ConfigError) as caught:
        load_profile("mine.yaml", tmp_path)
    assert "circle" in str(caught.value.faults[0])


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
    "name: mine\nnumbers:\n  allowed: {premium: X1}\n  blocked: {premium: X2}": (
        3,
        "`premium` is blocked too",
    ),
    "name: mine\nextends: standrad": (2, "did you mean `standard`?"),
    "name: mine\nrules:\n  V99: x": (3, "there is no rule `V99`"),
    "name: mine\nnumbers:\n  blocked:\n    premium: K-Y2": (4, "there is no rule `K-Y2`"),
    "name: mine\nlimits:\n  more:\n    - {rule: Q1, at_once: 3}": (4, "there is no rule `Q1`"),
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
