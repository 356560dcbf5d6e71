"""The gate's own answers (RFC 3261 §8.2.6) and what they say of a refused call."""

from __future__ import annotations

import pytest
from tests.sip.support import HEAD, changed, message

from callgate.proxy.answer import (
    DRAINING,
    LIMITS,
    NO_DIALOG,
    NO_KEY,
    PHRASES,
    Refusal,
    refused_by_limit,
    reply,
)
from callgate.sip.message import parse

INVITE = message(
    b"INVITE sip:bob@example.jp SIP/2.0",
    b"Via: SIP/2.0/TCP 198.51.100.1;branch=z9hG4bKold",
    b"Contact: <sip:alice@192.0.2.1>",
    b"Timestamp: 54.1",
    b"Record-Route: <sip:p;lr>",
    b"Content-Length: 4",
    body=b"body",
)


def test_an_answer_holds_what_it_must_and_nothing_else() -> None:
    """§8.2.6.2: every Via in its order, From, Call-ID, CSeq as they were, To with a tag of ours."""
    assert reply(parse(INVITE), 404, b"cg12").split(b"\r\n") == [
        b"SIP/2.0 404 Not Found",
        HEAD[0],
        b"Via: SIP/2.0/TCP 198.51.100.1;branch=z9hG4bKold",
        b"From: <sip:alice@example.jp>;tag=a1",
        b"To: <sip:bob@example.jp>;tag=cg12",
        b"Call-ID: 1@example.jp",
        b"CSeq: 1 INVITE",
        b"Content-Length: 0",
        b"",
        b"",
    ]


def test_every_way_to_write_the_headers_is_kept() -> None:
    request = parse(
        message(
            head=[
                b"v :SIP/2.0/UDP a;branch=1,\r\n SIP/2.0/UDP b",
                b"f:sip:alice@example.jp;tag=a1",
                b"t: sip:bob@example.jp",
                b"i:\t1",
                b"cseq:  1   INVITE",
            ]
        )
    )
    answer = reply(request, 486, b"x").split(b"\r\n")
    assert answer[1:3] == [b"v :SIP/2.0/UDP a;branch=1,", b" SIP/2.0/UDP b"]
    assert answer[3:7] == [
        b"f:sip:alice@example.jp;tag=a1",
        b"t: sip:bob@example.jp;tag=x",
        b"i:\t1",
        b"cseq:  1   INVITE",
    ]
    found = parse(b"\r\n".join(answer))
    assert (found.faults, found.to_tag, found.from_tag) == ([], b"x", b"a1")


def test_a_to_tag_that_is_there_stays() -> None:
    request = parse(changed(b"To: <sip:bob@example.jp>;tag=b1"))
    assert parse(reply(request, 481, b"cg12")).to_tag == b"b1"
    assert reply(request, 481, b"cg12").count(b"tag=") == 2


def test_a_100_has_no_tag_but_the_timestamp() -> None:
    """§8.2.6.1, §8.2.6.2."""
    answer = parse(reply(parse(INVITE), 100))
    assert (answer.code, answer.to_tag) == (100, b"")
    assert answer.header(b"timestamp") == b"54.1"
    assert parse(reply(parse(INVITE), 180, b"x")).header(b"timestamp") == b""


def test_further_headers_and_a_phrase() -> None:
    answer = parse(
        reply(parse(INVITE), 420, b"x", [b"Unsupported: a, b", b"X-Y: y"], phrase=b"No Such Thing")
    )
    assert answer.lines[0] == b"SIP/2.0 420 No Such Thing"
    assert (answer.header(b"unsupported"), answer.header(b"x-y")) == (b"a, b", b"y")
    assert answer.lines[-1] == b"Content-Length: 0"


@pytest.mark.parametrize("name", [b"From", b"To", b"Call-ID", b"CSeq"])
def test_a_malformed_request_is_answered_with_what_it_has(name: bytes) -> None:
    request = parse(changed(drop=name))
    answer = reply(request, 400, b"x")
    assert answer.startswith(b"SIP/2.0 400 Bad Request\r\nVia: ")
    assert not parse(answer).find(name.lower())


@pytest.mark.parametrize("code", [299, 433, 699])
def test_a_code_without_a_phrase_of_ours_can_be_read(code: int) -> None:
    assert parse(reply(parse(INVITE), code)).code == code


@pytest.mark.parametrize("code", PHRASES)
def test_every_phrase_makes_a_status_line(code: int) -> None:
    answer = parse(reply(parse(INVITE), code, b"x"))
    assert (answer.code, answer.faults) == (code, [])


# -- refusals ------------------------------------------------------------------------------------------


def test_the_text_of_a_limit() -> None:
    """interface.md, letter by letter."""
    refusal = refused_by_limit("V1", 4, 3)
    assert refusal.headers() == [
        b'Warning: 399 callgate "V1 rate 4/3 per second"',
        b"X-CallGate-Verdict: rule=V1;value=4;limit=3",
    ]
    assert (refusal.code, refusal.inbound_code) == (503, 486)


@pytest.mark.parametrize(
    ("rule", "text"), [("V3", "inbound calls"), ("V4", "lines"), ("C2", "outbound calls"), ("K6", "calls")]
)
def test_every_other_limit_is_named(rule: str, text: str) -> None:
    assert LIMITS[rule] == text
    assert refused_by_limit(rule, 101, 100).headers() == [
        f'Warning: 399 callgate "{rule} {text} 101/100"'.encode(),
        f"X-CallGate-Verdict: rule={rule};value=101;limit=100".encode(),
    ]


def test_a_store_that_does_not_answer_refuses_like_a_limit() -> None:
    refusal = refused_by_limit("store", 0, 0)
    assert (refusal.code, refusal.inbound_code) == (503, 486)
    assert refusal.headers() == [
        b'Warning: 399 callgate "store no verdict of the store in time"',
        b"X-CallGate-Verdict: rule=store",
    ]


def test_a_limit_of_nothing_is_counted_out() -> None:
    assert refused_by_limit("V3", 1, 0).headers()[1] == b"X-CallGate-Verdict: rule=V3;value=1;limit=0"


def test_a_rule_without_a_name_of_its_own() -> None:
    assert refused_by_limit("Z9", 2, 1).headers()[0] == b'Warning: 399 callgate "Z9 limit 2/1"'


def test_a_refused_number() -> None:
    refusal = Refusal("K-X2", "toll-free numbers are blocked", 403)
    assert (refusal.code, refusal.inbound_code) == (403, 403)
    assert refusal.headers() == [
        b'Warning: 399 callgate "K-X2 toll-free numbers are blocked"',
        b"X-CallGate-Verdict: rule=K-X2",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [('a "b" c', b"a 'b' c"), ("a\\b", b"ab"), ("a\\", b"a"), ("\u5c71", b"?"), ('"', b"'")],
)
def test_any_text_stays_inside_its_quotes(text: str, shown: bytes) -> None:
    warning, _ = Refusal("R", text, 403).headers()
    assert warning == b'Warning: 399 callgate "R %b"' % shown


@pytest.mark.parametrize("refusal", [NO_KEY, NO_DIALOG])
def test_strangers_learn_nothing(refusal: Refusal) -> None:
    assert refusal.headers() == []


def test_codes_of_the_gate_s_own_refusals() -> None:
    """interface.md: no key 403, draining 503 in both directions, no dialog 481."""
    assert (NO_KEY.code, NO_DIALOG.code) == (403, 481)
    assert (DRAINING.code, DRAINING.inbound_code) == (503, 503)


@pytest.mark.parametrize("refusal", [refused_by_limit("V1", 4, 3), DRAINING, Refusal("K-X2", "x", 403)])
def test_no_refusal_names_a_retry_after(refusal: Refusal) -> None:
    """RFC 3261 §21.5.4: with one, a PBX would stop all its calls."""
    assert not any(line.lower().startswith(b"retry-after") for line in refusal.headers())
