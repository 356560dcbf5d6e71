"""Who a certificate is for (RFC 5922 §7)."""

from __future__ import annotations

import pytest

from callgate.sip.certificate import names_of, proves, words_for

SUBJECT = ((("organizationName", "X"),), (("commonName", "Common.Example"),))
NAMES = {
    "SIP URIs come before DNS names": (
        (("DNS", "dns.example"), ("URI", "sip:a.example"), ("URI", "sip:b.example")),
        ("a.example", "b.example"),
    ),
    "DNS names": ((("DNS", "One.Example."), ("DNS", "two.example")), ("one.example", "two.example")),
    "URIs of other schemes are none": ((("URI", "https://a.example"), ("URI", "sips:a.example")), ()),
    "nor is a user's": ((("URI", "sip:alice@a.example"), ("DNS", "a.example")), ("a.example",)),
    "nor one that can't be read": ((("URI", "sip:[x"), ("URI", "sip:\xe4.example")), ()),
    "a port is none of a name": ((("URI", "SIP:A.Example:5061"),), ("a.example",)),
    "an address is no name": ((("IP Address", "192.0.2.1"),), ()),
    "the same twice": ((("DNS", "a.example"), ("DNS", "A.EXAMPLE")), ("a.example",)),
}


@pytest.mark.parametrize("case", NAMES)
def test_names(case: str) -> None:
    """RFC 5922 §7.1: the common name counts only where there are no alternative names at all."""
    alternatives, names = NAMES[case]
    assert names_of({"subject": SUBJECT, "subjectAltName": alternatives}) == names
    assert names_of({"subject": SUBJECT}) == ("common.example",)
    assert names_of({}) == ()


@pytest.mark.parametrize(
    ("wanted", "so"),
    [
        ("a.example", True),
        ("A.Example", True),
        ("x.wild.example", False),  # RFC 5922 §7.2: no wildcards
        ("*.wild.example", True),  # who writes it so means it
        ("b.example", False),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("2001:db8:0::1", True),
        ("common.example", False),
        ("", False),
    ],
)
def test_what_a_certificate_proves(wanted: str, so: bool) -> None:
    alternatives = (
        ("DNS", "a.example"),
        ("DNS", "*.wild.example"),
        ("IP Address", "192.0.2.1"),
        ("IP Address", "2001:DB8:0:0:0:0:0:1"),
    )
    assert proves({"subject": SUBJECT, "subjectAltName": alternatives}, ("other.example", wanted)) is so


@pytest.mark.parametrize(
    ("alternatives", "words"),
    [
        (
            (("IP Address", "192.0.2.1"), ("IP Address", "2001:DB8:0:0:0:0:0:1")),
            "192.0.2.1, 2001:DB8:0:0:0:0:0:1",
        ),
        ((("DNS", "a.example"), ("IP Address", "192.0.2.1")), "a.example, 192.0.2.1"),
        ((("URI", "https://a.example"),), "nobody"),
        ((("DNS", "a\r\nX: \x1b[2J"),), "a??x:??[2j"),
        (
            tuple(("DNS", f"{n}.example") for n in range(9)),
            ", ".join(f"{n}.example" for n in range(5)) + " and 4 more",
        ),
        ((("DNS", "a" * 500),), "a" * 80),
    ],
)
def test_whom_it_names_in_words(alternatives: tuple[tuple[str, str], ...], words: str) -> None:
    """Who it is must be seen, addresses too; what is in it is written by others."""
    assert words_for({"subject": SUBJECT, "subjectAltName": alternatives}) == words
