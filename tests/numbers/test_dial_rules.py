"""Verdicts are policy: the profile's classes, emergency before all else."""

from dataclasses import replace

import pytest
from tests.numbers.support import KCT_NET, KCT_NET_RULES, KX, STANDARD, verdict

from callgate.numbers import CLASSES, Number, Reading, read_dialled, read_uri
from callgate.policy.dial import DialRules
from callgate.policy.profile import NumberRules

OPEN = DialRules(NumberRules(blocked={}))
ANY = DialRules(NumberRules(blocked=KX), numbering="any")


@pytest.mark.parametrize("rules", [STANDARD, KCT_NET, OPEN, ANY])
@pytest.mark.parametrize(
    "dialled", ["110", "0119", "911", "urn:service:sos", "sip:sos@gate", "+81110", "184118"]
)
def test_emergency_is_blocked_with_503_whatever_the_contract(rules: DialRules, dialled: str) -> None:
    got = verdict(dialled, rules)
    assert (got.allowed, got.code, got.emergency) == (False, 503, True)
    assert got.rule


@pytest.mark.parametrize(
    ("dialled", "rule", "code"),
    [
        ("110", "K-X1+EMG", 503),
        ("911", "K-X1+EMG", 503),
        ("104", "K-X1", 403),
        ("222", "K-X1", 403),
        ("0120123456", "K-X2", 403),
        ("0180123456", "K-X2", 403),
        ("0170123456", "K-X2", 403),
        ("00330312345678", "K-X3", 403),
        ("flower", "N2", 484),
        ("sip:alice@gate", "N2", 484),
        ("urn:service:counseling", "N2", 404),
    ],
)
def test_the_default_contract_names_rule_and_code(dialled: str, rule: str, code: int) -> None:
    got = verdict(dialled)
    assert (got.allowed, got.rule, got.code) == (False, rule, code)


def test_a_closed_list_denies_what_it_does_not_name() -> None:
    got = verdict("+447911123456", KCT_NET)
    assert (got.allowed, got.rule, got.code) == (False, "K-D", 403)
    assert verdict("2345678", KCT_NET).rule == "K-D"
    assert verdict("2345678", STANDARD).allowed


def test_any_numbering_lets_every_address_pass_but_emergency() -> None:
    for uri in (
        b"sip:alice@gate",
        b"sip:0120123456@gate",
        b"sip:123456789012345678901@gate",
        b"sip:gate",
        b"tel:x",
    ):
        assert ANY.judge(read_uri(uri)).allowed
    assert not ANY.judge(read_uri(b"sip:tel:110@gate")).allowed
    assert not ANY.judge(read_uri(b"tel:0312345678;phone-context=+81;isub=1;phone-context=+1")).emergency


def test_a_blocked_reading_blocks_an_allowed_number() -> None:
    number = Number(
        "x", "+81312345678", "domestic_fixed", readings=(Reading("x", "toll_free"), Reading("y", "1xy"))
    )
    assert STANDARD.judge(number).rule == "K-X1"
    assert OPEN.judge(number).allowed
    blocks_050 = DialRules(NumberRules(blocked={"ip_phone_050": "M1"}))
    assert blocks_050.judge(read_dialled("003305012345678")).rule == "M1"


def test_a_listed_carrier_prefix_passes_only_with_a_number_that_is_carried() -> None:
    blocked = {cls: rule for cls, rule in KX.items() if cls != "carrier_select"}
    allowed = {**KCT_NET_RULES.allowed, "carrier_select": "K-X3"}
    rules = DialRules(replace(KCT_NET_RULES, blocked=blocked, allowed=allowed))
    assert verdict("00330312345678", rules).allowed
    assert verdict("00330120123456", rules).rule == "K-X2"
    assert verdict("0033010447911123456", rules).rule == "K-D"
    assert verdict("0033", rules).allowed is True


@pytest.mark.parametrize("rules", [STANDARD, KCT_NET, OPEN, ANY])
@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_has_a_verdict_that_fits_a_warning(rules: DialRules, cls: str) -> None:
    got = rules.judge(Number("x", "x", cls, readings=(Reading("x", cls),)))
    assert got.allowed == (got.code == 0)
    assert got.reason
    assert got.reason.isascii()
    assert '"' not in got.reason
