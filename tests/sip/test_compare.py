"""Which URIs are the same: the examples of RFC 3261 §19.1.4 and its rules, and the Date header (§20.17)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.sip.compare import Comparable, unescape
from callgate.sip.date import sip_date
from callgate.sip.uri import parse_uri


def same(one: str, other: str) -> bool:
    a, b = Comparable(parse_uri(one.encode())), Comparable(parse_uri(other.encode()))
    assert a.same(b) == b.same(a), "the order makes no difference"
    return a.same(b)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtlanTa.CoM;Transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
        ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
        ("sip:[2001:DB8::1]", "sip:[2001:db8::1]"),
        ("SIP:a@b", "sip:a@b"),
    ],
)
def test_the_same(one: str, other: str) -> None:
    assert same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SIP:ALICE@AtlanTa.CoM;Transport=udp", "sip:alice@AtlanTa.CoM;Transport=UDP"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
        ("sip:a@b", "sips:a@b"),
        ("sip:a@b;user=phone", "sip:a@b"),
        ("sip:a@b;maddr=192.0.2.1", "sip:a@b"),
        ("sip:a:secret@b", "sip:a@b"),
    ],
)
def test_not_the_same(one: str, other: str) -> None:
    assert not same(one, other)


def test_it_is_not_transitive() -> None:
    """§19.1.4 says so of parameters that one side lacks."""
    bare, one, two = "sip:a@b", "sip:a@b;x=1", "sip:a@b;x=2"
    assert same(one, bare)
    assert same(bare, two)
    assert not same(one, two)


@given(st.binary(max_size=40))
def test_unescape(text: bytes) -> None:
    """What was escaped comes back; nothing raises."""
    assert unescape(b"".join(b"%%%02x" % octet for octet in text)) == text
    unescape(text)


@pytest.mark.parametrize(
    ("utc", "text"),
    [
        (0.0, b"Thu, 01 Jan 1970 00:00:00 GMT"),
        (1289690940.999, b"Sat, 13 Nov 2010 23:29:00 GMT"),
        (951782400.0, b"Tue, 29 Feb 2000 00:00:00 GMT"),
    ],
)
def test_date(utc: float, text: bytes) -> None:
    assert sip_date(utc) == text
