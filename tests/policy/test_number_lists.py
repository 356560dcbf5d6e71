"""Lists of numbers: what an entry means, which match is the longest, and what no list opens."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.numbers.support import KCT_NET_RULES

from callgate.numbers import read_dialled
from callgate.policy.dial import DialRules, DialVerdict, Lists
from callgate.policy.numberlist import (
    CLASS,
    COUNTRY,
    DIGITS,
    MANY_SHARDS,
    MOST_FORMS,
    EntryError,
    NumberList,
    Table,
)
from callgate.policy.profile import NumberRules, RuledLists

STANDARD_RULES = NumberRules(blocked=KCT_NET_RULES.blocked)


def table(*entries: str, shards: int = 1) -> Table:
    made = Table(shards)
    for entry in entries:
        made.add(entry)
    return made


def numbers(*entries: str) -> NumberList:
    return NumberList(table(*entries))


def rules(*places: Lists, contract: NumberRules = STANDARD_RULES, numbering: str = "japan") -> DialRules:
    return DialRules(contract, numbering).narrowed(places)  # type: ignore[arg-type]


def judged(dialled: str, *places: Lists, contract: NumberRules = STANDARD_RULES) -> DialVerdict:
    return rules(*places, contract=contract).judge(read_dialled(dialled))


def key(block: str = "", allow: str = "", trusted: str = "", default: str | None = None) -> Lists:
    lists = [numbers(*text.split()) for text in (block, allow, trusted)]
    return Lists("key acme", *lists, default=default)  # type: ignore[arg-type]


def trunk(block: str = "", allow: str = "", trusted: str = "", default: str | None = None) -> Lists:
    return replace(key(block, allow, trusted, default), where="trunk carrier")


@pytest.mark.parametrize(
    ("entry", "dialled", "length"),
    [
        ("+4479", "+447911123456", DIGITS + 4),
        ("+44 79-11", "+447911123456", DIGITS + 6),
        ("0103 3", "+33142685300", DIGITS + 2),
        ("03", "0312345678", DIGITS + 3),
        ("03-1234-5678", "+81312345678", DIGITS + 11),
        ("+81(0)3", "0312345678", DIGITS + 3),
        ("0990*", "0990123456", DIGITS + 5),
        ("#7119", "#7119", DIGITS + 5),
        ("0[36]XXXXXXXX", "0612345678", DIGITS + 3),
        ("0[36]-xxxx-5678", "0612345678", DIGITS + 7),
        ("0[3-6]X*", "05012345678", DIGITS + 3),
        ("+1[2-9]XX555*", "+12125550100", DIGITS + 5),
        ("country:gb", "+442079460000", COUNTRY),
        ("country:JP", "0312345678", COUNTRY),
        ("international_mobile", "+447911123456", CLASS),
        ("04", "0312345678", 0),
        ("03-1234-56789", "0312345678", 0),
        ("0[36]XXXXXXX", "0312345678", 0),
        ("0[45]XXXXXXXX", "0312345678", 0),
        ("country:FR", "+442079460000", 0),
        ("pager", "+447911123456", 0),
        ("0033", "0312345678", 0),
    ],
)
def test_an_entry_matches(entry: str, dialled: str, length: int) -> None:
    number = read_dialled(dialled)
    assert table(entry).find(number.canonical, number.cls).length == length


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("", "no class, no country:XX"),
        ("tollfree", "no class, no country:XX"),
        ("(03)+", "no class"),
        ("0.*", "no class"),
        ("0[36", "no class"),
        ("0[]X", "no class"),
        ("0[6-3]X", "smaller digit first"),
        ("0[3-]X", "digits, or two with a dash"),
        ("X312345678", "begins with 0 and an area"),
        ("00XX", "begins with 0 and an area"),
        ("0" + "[1-9]" * 7, "stands for 4782969 beginnings"),
        ("country:GBR", "country:GB, with the two letters"),
        ("emergency", "judged before every list"),
        ("emergency_suspect", "judged before every list"),
        ("０３", "no class"),
        ("9" * 41, "longer than 40"),
        ("03\u200b", "no class"),
    ],
)
def test_an_entry_that_can_t_be_read(entry: str, words: str) -> None:
    with pytest.raises(EntryError) as raised:
        table(entry)
    assert words in str(raised.value)
    assert str(raised.value).isascii()


def test_forms_of_patterns_are_bounded_and_prefixes_are_not() -> None:
    made = Table()
    for n in range(MOST_FORMS):
        made.add("+" + format(n, "06b").replace("0", "X").replace("1", "5") + "12X")
    made.add("+555XXX12X")
    with pytest.raises(EntryError, match="more than 64 forms"):
        made.add("+1XXXXXXXX")
    for n in range(2000):
        made.add(f"+44{n}")
    assert made.find("+441999", "x").length == DIGITS + 6


@given(
    st.lists(st.from_regex(r"\+[1-9][0-9]{0,6}", fullmatch=True), max_size=30),
    st.from_regex(r"\+[1-9][0-9]{3,9}", fullmatch=True),
    st.sampled_from([1, MANY_SHARDS]),
)
def test_the_longest_prefix_wins(prefixes: list[str], number: str, shards: int) -> None:
    entries = [prefix for prefix in prefixes if not prefix.startswith("+81")]
    longest = max((len(prefix) for prefix in entries if number.startswith(prefix)), default=0)
    assert table(*entries, shards=shards).digits(number).length == (DIGITS + longest - 1 if longest else 0)


@pytest.mark.parametrize(
    ("dialled", "places", "allowed", "rule"),
    [
        # The longest decides, wherever it stands.
        ("+447911123456", [key(block="+44")], False, "N3"),
        ("+447911123456", [key(block="+44", allow="+4479")], True, "N3"),
        ("+447911123456", [key(block="+44"), trunk(allow="+4479")], True, "N3"),
        ("+447911123456", [key(allow="+44"), trunk(block="+4479")], False, "N3"),
        ("+447400123456", [key(allow="country:GB", block="international_mobile")], True, "N3"),
        ("+447911123456", [key(block="country:GB", allow="+4")], True, "N3"),
        ("0312345678", [key(block="0[36]XXXXXXXX", allow="03-1234")], True, "N3"),
        # Of two as long: the nearer place, and there what blocks.
        ("+447911123456", [key(allow="+4479"), trunk(block="+4479")], True, "N3"),
        ("+447911123456", [key(block="+4479", allow="+4479")], False, "N3"),
        # What none names falls to the contract, or to a default.
        ("0612345678", [key(block="03")], True, ""),
        ("0612345678", [key(allow="03", default="deny")], False, "N4"),
        ("0312345678", [key(allow="03", default="deny")], True, "N3"),
        ("0312345678", [key(default="deny"), trunk(allow="03")], False, "N4"),
        ("0312345678", [key(default="allow"), trunk(default="deny")], True, ""),
        ("0312345678", [key(default="allow"), trunk(block="03")], False, "N3"),
        # In any disguise.
        ("184-0033-03-1234-5678", [key(block="03", allow="0033")], False, "N3"),
        ("+81 (0)3 1234 5678", [key(block="0312345678")], False, "N3"),
        ("+44 (0)7911 123456", [key(block="+4479")], False, "N3"),
        ("tel:7911123456;phone-context=+44", [key(block="+4479")], False, "N3"),
        # No list opens emergency, what can't be read, K-X; but a carrier that is listed by its prefix.
        ("119", [key(allow="119", trusted="119", default="allow")], False, "K-X1+EMG"),
        ("0119", [key(allow="0119")], False, "EMG-SUSPECT"),
        ("0120123456", [key(allow="0120123456", trusted="0120", default="allow")], False, "K-X2"),
        ("104", [key(allow="104")], False, "K-X1"),
        ("sip:alice@gate", [key(allow="sip_uri")], False, "N2"),
        ("00330312345678", [key(allow="0033")], True, ""),
        ("00330312345678", [key(allow="carrier_select")], False, "K-X3"),
        ("00770312345678", [key(allow="0033")], False, "K-X3"),
        ("00330077031234567", [key(allow="0033")], False, "K-X3"),
        ("0033", [key(allow="0033")], False, "K-X3"),
        ("00330120123456", [key(allow="0033")], False, "K-X2"),
        ("0033119", [key(allow="0033")], False, "EMG-SUSPECT"),
        ("00330312345678", [key(allow="0033 06", default="deny")], False, "N4"),
        # Trusted (I17): passes the lists of the config.
        ("0312345678", [key(block="0312345678", trusted="03")], True, "I17"),
        ("0312345678", [key(trusted="03", default="deny")], True, "I17"),
        ("0312345678", [key(block="domestic_fixed"), trunk(trusted="03")], True, "I17"),
    ],
)
def test_which_list_decides(dialled: str, places: list[Lists], allowed: bool, rule: str) -> None:
    verdict = judged(dialled, *places)
    assert (verdict.allowed, verdict.rule) == (allowed, rule)
    assert verdict.allowed == (verdict.code == 0)


def test_a_closed_contract_and_the_lists_before_it() -> None:
    def closed(dialled: str, *places: Lists) -> tuple[bool, str]:
        verdict = judged(dialled, *places, contract=KCT_NET_RULES)
        return verdict.allowed, verdict.rule

    assert closed("+447911123456") == (False, "K-D")
    assert closed("+447911123456", key(trusted="+44")) == (False, "K-D"), "I17 does not open the contract"
    assert closed("+447911123456", key(allow="+4479")) == (True, "N3")
    assert closed("0312345678", key(block="country:GB")) == (True, "K-C2")
    assert closed("0612345678", key(allow="03", default="deny")) == (False, "N4")
    assert closed("0312345678", trunk(block="domestic_fixed")) == (False, "N3")


def test_a_profile_names_numbers_with_rules_of_its_own() -> None:
    lists = RuledLists(
        block=((numbers("+4479", "country:KP"), "X1"),),
        allow=((numbers("0033"), "X2"), (numbers("+447911"), "X3")),
    )
    contract = replace(STANDARD_RULES, lists=lists)

    def by(dialled: str, *places: Lists) -> tuple[bool, str]:
        verdict = judged(dialled, *places, contract=contract)
        return verdict.allowed, verdict.rule

    assert by("+447811123456") == (True, "")
    assert by("+447900123456") == (False, "X1")
    assert by("+447911123456") == (True, "X3")
    assert by("+85021234567") == (False, "X1")
    assert by("00330312345678") == (True, "")
    assert by("+447911123456", key(default="deny")) == (False, "X1"), (
        "no allow list behind a closed one counts"
    )
    assert by("+33142685300", key(default="deny")) == (False, "N4")
    assert by("+447900123456", key(default="allow")) == (False, "X1")
    assert "X1" in rules(contract=contract).rules


def test_every_request_uri_goes_but_what_a_list_blocks() -> None:
    open_rules = rules(key(block="03 sip_uri"), numbering="any")
    assert open_rules.judge(read_dialled("0120123456")).allowed
    assert open_rules.judge(read_dialled("03-1234-5678")).rule == "N3"
    assert open_rules.judge(read_dialled("sip:alice@gate")).rule == "N3"
    assert open_rules.judge(read_dialled("119")).emergency


def test_without_lists_the_contract_is_shared() -> None:
    contract = DialRules(STANDARD_RULES)
    assert contract.narrowed([Lists("key a"), Lists("trunk b")]) is contract
    assert {"N3", "N4", "K-X2"} <= set(contract.rules)


def test_a_reason_fits_a_warning() -> None:
    for entry in ("+44", "#7119", "0[36]XXXXXXXX", "country:GB", "international_mobile"):
        for dialled in ("+447911123456", "#7119", "0312345678"):
            reason = judged(dialled, key(block=entry)).reason
            assert reason.isascii()
            assert '"' not in reason


def test_retiring_empties_a_table_piece_by_piece() -> None:
    made = table("+44", "+81", shards=MANY_SHARDS)
    assert sum(1 for _ in made.retire()) == MANY_SHARDS


@given(st.sampled_from(["110", "118", "119", "0120123456", "0570012345", "104", "222"]), st.data())
def test_no_list_opens_what_is_forbidden(dialled: str, data: st.DataObject) -> None:
    entry = data.draw(st.sampled_from([dialled, dialled[:2], "country:JP", "0XXXXXXXXX", "toll_free", "1xy"]))
    place = key(allow=entry, trusted=entry, default=data.draw(st.sampled_from(["allow", "deny", None])))
    prefix = data.draw(st.sampled_from(["", "184", "+81", "010-81-"]))
    assert not judged(prefix + dialled, place).allowed
