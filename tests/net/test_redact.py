"""No copy of a message holds a password's digest or a secret header, however they are spelt."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callgate.net.redact import Redaction
from callgate.sip.message import parse

SECRET = "0123456789abcdef0123456789abcdef"
DIGEST = f'Digest username="u",realm="r",nonce="n",uri="sip:x",response="{SECRET}"'
SDP = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0\r\n"
redact = Redaction(["X-Gate-Key"])


def invite(*lines: str, body: str = SDP) -> bytes:
    head = [
        "INVITE sip:0312345678@192.0.2.1 SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bK1",
        *lines,
        "Max-Forwards: 70",
        "From: <sip:a@192.0.2.2>;tag=1",
        "To: <sip:0312345678@192.0.2.1>",
        "Call-ID: a@b",
        "CSeq: 1 INVITE",
        "Contact: <sip:a@192.0.2.2>",
        f"Content-Length: {len(body)}",
    ]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


SPELLINGS = {
    "as usual": [f"Authorization: {DIGEST}"],
    "towards a proxy": [f"Proxy-Authorization: {DIGEST}"],
    "a key's own": [f"X-Gate-Key: {SECRET}"],
    "any case": [f"aUTHORIZATION: {DIGEST}", f"x-gate-KEY: {SECRET}"],
    "no blank": [f"Authorization:{DIGEST}", f"X-Gate-Key:{SECRET}"],
    "blanks before the colon": [f"Authorization \t : {DIGEST}", f"X-Gate-Key\t:\t{SECRET}"],
    "folded": [f"Authorization: {DIGEST}".replace(",", ",\r\n ")],
    "folded at once": [f"Authorization:\r\n\t{DIGEST}", f"X-Gate-Key:\r\n  {SECRET}"],
    "folded with an empty line of blanks": [f"Authorization: Digest\r\n \r\n response={SECRET}"],
    "repeated": [f"Authorization: {DIGEST}"] * 3,
    "one after the other": [
        f"Authorization: {DIGEST}",
        f"Proxy-Authorization: {DIGEST}",
        f"X-Gate-Key: {SECRET}",
    ],
    "another scheme": [f"Authorization: Basic {SECRET}", f"Proxy-Authorization: Bearer {SECRET}"],
    "with octets beyond ASCII": [f'Authorization: Digest username="ü\x01",response={SECRET}'],
    "the server's proof": [
        f'Authentication-Info: nextnonce="n", rspauth="{SECRET}"',
        f"Proxy-Authentication-Info: rspauth={SECRET}",
    ],
    "in a URI": [f"Refer-To: <sip:a@b?Authorization=Digest%20response%3D{SECRET}&X-Gate-Key={SECRET}>"],
    "in a URI, escaped": [f"Refer-To: <sip:a@b?Subject=x&%41uth%6Frization={SECRET}>"],
}
# These are no SIP, and a gate answers 400 or drops them; a copy is made all the same.
MALFORMED = {
    "a name that is folded": [f"Authorization\r\n : {DIGEST}"],
    "within a fold of another": [f"Subject: x\r\n Authorization: {DIGEST}"],
    "a lone CR inside": [f"Authorization: Digest a=b,\rresponse={SECRET}"],
    "a lone LF inside": [f'Authorization: Digest uri="sip:x",\nresponse={SECRET}'],
    "after a lone LF": [f"Subject: x\nAuthorization: {DIGEST}"],
    "after a lone CR": [f"Subject: x\rAuthorization: {DIGEST}"],
    "with a NUL": [f"Authorization: Digest \0 response={SECRET}"],
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_it_goes_and_the_rest_stays(spelling: str) -> None:
    given = invite(*SPELLINGS[spelling])
    made = redact(given)
    assert SECRET.encode() not in made
    before, after = parse(given), parse(made)
    assert after.body == before.body
    assert len(after.lines) == len(before.lines)
    gone = [n for n, line in enumerate(before.lines) if SECRET.encode() in line]
    assert [line for n, line in enumerate(after.lines) if n not in gone] == [
        line for n, line in enumerate(before.lines) if n not in gone
    ]
    for n in gone:
        assert after.lines[n].partition(b":")[0] == before.lines[n].partition(b":")[0]
    assert redact(made) == made


@pytest.mark.parametrize("spelling", MALFORMED)
def test_it_goes_out_of_what_is_no_sip_too(spelling: str) -> None:
    made = redact(invite(*MALFORMED[spelling]))
    assert SECRET.encode() not in made
    assert made.endswith(SDP.encode())


def test_line_ends_of_one_octet() -> None:
    given = invite(f"Authorization: {DIGEST}").replace(b"\r\n", b"\n")
    assert SECRET.encode() not in redact(given)
    assert redact(given).endswith(SDP.replace("\r\n", "\n").encode())


def test_in_a_body_the_length_stays() -> None:
    for body in (
        f"INVITE sip:x SIP/2.0\r\nAuthorization: {DIGEST}\r\nTo: <sip:x>\r\n",
        f"Authorization: {DIGEST}",
        f"--1\r\n\r\nX-Gate-Key:\r\n {SECRET}\r\n\r\n--1--",
        f"Refer-To: <sip:x?authorization={SECRET}>",
    ):
        made = redact(invite("Content-Type: message/sipfrag", body=body))
        assert SECRET.encode() not in made
        assert len(parse(made).body) == len(body)


@pytest.mark.parametrize(
    "line",
    [
        'Proxy-Authenticate: Digest realm="r", nonce="n"',
        "X-Authorization: no",
        "Subject: Authorization: is what we talk about",
        "Refer-To: <sip:a@b?Subject=100%25>",
        "Authorizations: 3",
    ],
)
def test_what_is_no_secret_stays(line: str) -> None:
    given = invite(line)
    assert redact(given) == given


def test_a_header_that_no_key_has_any_more() -> None:
    assert Redaction((*redact.names, "X-Other"))(invite(f"X-Gate-Key: {SECRET}")) == redact(
        invite(f"X-Gate-Key: {SECRET}")
    )


blanks = st.text(" \t", max_size=3)
folds = st.sampled_from(["", " ", "\t", "\r\n ", "\r\n\t\t", " \r\n "])
fillers = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@given(st.sampled_from(["authorization", "proxy-authorization", "x-gate-key"]), st.data())
@example("authorization", None)
def test_every_spelling(name: str, data: st.DataObject | None) -> None:
    if data is None:
        line = f"{name}:{SECRET}"
    else:
        spelt = "".join(data.draw(st.sampled_from([char, char.upper()])) for char in name)
        before, after, one, two = (data.draw(which) for which in (blanks, folds, fillers, fillers))
        line = f"{spelt}{before}:{after}{one}{data.draw(folds)}{SECRET}{two}"
    made = redact(invite(line))
    assert SECRET.encode() not in made
    assert parse(made).body == SDP.encode()


@given(st.binary(max_size=400))
@example(b"Authorization: " * 30)
@example(b"\nauthorization" + b" " * 380)
@example(b"\r\nauthorization:\r\n" + b" \r\n" * 100)
def test_rubbish_does_no_harm(data: bytes) -> None:
    head, _, body = data.partition(b"\r\n\r\n")
    if not re.search(rb"\r\r|\n\r?\n", head):
        assert len(redact(data).partition(b"\r\n\r\n")[2]) == len(body)
    redact(data)
