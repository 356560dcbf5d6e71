"""Whatever bytes come in: an answer, never an exception, never allowed where nothing can be read."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.examples import many
from tests.numbers.support import STANDARD, verdict

from callgate.numbers import CLASSES, Number, read_dialled, read_uri

PIECES = [
    *(b"sip:", b"sips:", b"tel:", b"urn:", b"urn:service:", b"sos", b"@", b";", b":", b"?", b"=", b"a.b"),
    *(
        b"phone-context=",
        b"+81",
        b"isub=",
        b"user=phone",
        b"%",
        b"%31",
        b"%00",
        b"%FF",
        b"+",
        b"-",
        b"0",
        b"1",
    ),
    *(b"110", b"119", b"184", b"186", b"010", b"0033", b"0312345678", b"#", b"*", b"p", b",", b"\x00", b"\n"),
    *(b"\xe2\x80\x8b", b"\xef\xbc\x91", b"\xd9\xa1"),
]
SOUP = st.one_of(st.binary(max_size=80), st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join))


def fits_a_header(text: str) -> bool:
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


@settings(max_examples=many(500))
@given(SOUP)
def test_any_bytes_get_an_answer(raw: bytes) -> None:
    for number in (read_uri(raw), read_dialled(raw), read_uri(b"sip:" + raw + b"@gate")):
        assert number.cls in CLASSES
        got = STANDARD.judge(number)
        assert fits_a_header(got.reason)
        assert all(fits_a_header(step) for step in number.steps)
        json.dumps(number.dialled).encode()
        if not number.canonical:
            assert not got.allowed
        if number.emergency:
            assert (got.allowed, got.code, got.emergency) == (False, 503, True)


@given(st.text(max_size=60))
def test_any_text_gets_an_answer(text: str) -> None:
    number = read_dialled(text)
    digits = sum(char in "0123456789" for char in number.canonical)
    assert digits or not STANDARD.judge(number).allowed or number.cls in ("sharp_code", "private")


@pytest.mark.parametrize(
    ("raw", "note"),
    [
        (b"", "no digits"),
        (b" - ", "no digits"),
        (b"\xff\xfe", "not UTF-8"),
        (b"03%FF12345678", "not UTF-8"),
        (b"03\x0012345678", "invisible or control character U+0000"),
        ("03\u200b12345678".encode(), "invisible or control character U+200B"),
        (b"0312345678\r", "invisible or control character U+000D"),
        ("٠٣١٢٣٤٥٦٧٨".encode(), "digit of another script U+0660"),
        (b"flower", "f is not a digit"),
        (b'03"12345678', "U+0022 is not a digit"),
        (b"0%", "a % without two hex digits"),
        (b"0" * 10_000, "more than 1024 bytes"),
        (b"9" * 100, "more than 64 digits"),
        (b"184" * 30, "more than 64 digits"),
        (b"sip:" + b"1" * 10_000 + b"@gate", "more than 1024 bytes"),
        (b"tel:" * 250 + b"0312345678", "a URI inside another"),
        (b"031234567", "incomplete: a number with 03 has 10 digits"),
        (b"0312345678@gate@gate", "more than one @"),
        (b"tel:0312345678;phone-context=+1", "phone-context +1 contradicts a whole number"),
    ],
)
def test_the_reason_is_named(raw: bytes, note: str) -> None:
    number = read_dialled(raw)
    assert (number.cls, number.canonical, number.note) == ("invalid", "", note)
    got = STANDARD.judge(number)
    assert (got.allowed, got.code, got.rule, got.emergency) == (False, 484, "N2", False)
    assert note in got.reason


@pytest.mark.parametrize(
    "raw", ["1\u200b10", "1\u00ad19", "118\r", "١١٩", "1１٩", "184\u200d110", "1%E2%80%8B10"]
)
def test_an_emergency_that_can_not_be_read_is_no_484(raw: str) -> None:
    number = read_dialled(raw)
    assert number.cls == "invalid"
    got = STANDARD.judge(number)
    assert (got.code, got.emergency) == (503, True)


def test_the_raw_text_is_kept() -> None:
    assert read_dialled(b" 0120-123 456\t").dialled == " 0120-123 456\t"
    assert read_dialled("sip:%30312345678@gate").dialled == "sip:%30312345678@gate"
    assert read_dialled(b"\xff1").dialled == "\\xff1"
    assert read_dialled("\udcff1").dialled == "\\xff1"
    assert read_uri(b"sip:%30-312345678;isub=1@gate:5060;user=phone").dialled == "%30-312345678;isub=1"
    assert read_uri(b"tel:+81-3-1234-5678").dialled == "tel:+81-3-1234-5678"


def test_prefixes_nested_too_deep_are_refused() -> None:
    def nested(times: int) -> Number:
        return read_dialled("01081" * times + "0312345678")

    assert nested(4).cls == "domestic_fixed"
    assert nested(5).cls == "invalid"
    assert nested(5).note == "prefixes nested more than 4 deep"
    assert verdict("01081" * 5 + "0119").emergency


def test_each_step_is_visible() -> None:
    assert read_dialled("186-010-81-0120-123-456").steps == (
        "separators left out",
        "186 taken off (caller id prefix)",
        "010 read as +",
        "+81 made national",
    )
    number = read_dialled("122-0077-03-1234-5678")
    assert (number.carrier_prefix, number.canonical) == ("0077", "+81312345678")
    assert number.steps[1:] == ("122 taken off (before a carrier prefix)", "carrier prefix 0077 (KDDI)")


def test_a_request_without_a_user_is_never_a_number() -> None:
    assert read_uri(b"sip:0312345678").cls == "sip_uri"
    assert read_uri(b"sip:gate.example.com;lr").cls == "sip_uri"
    assert read_uri(b"sip:110").cls == "emergency"
    assert read_dialled("sip:0312345678").cls == "domestic_fixed"
