"""Reading: in order, byte for byte, whatever way a header is written (RFC 3261 §7)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sip.conftest import Read
from tests.sip.support import HEAD, ODD, PLAIN, SDP, changed, message

from callgate.sip.message import (
    CALL_ID,
    COMPACT,
    CONTACT,
    CONTENT_LENGTH,
    CSEQ,
    FROM,
    MAX_FORWARDS,
    RECORD_ROUTE,
    ROUTE,
    TO,
    VIA,
    wire,
)

relaxed = settings(deadline=None)

_header_names = st.from_regex(r"\A[A-Za-z0-9\-.!%*_+`'~]{1,12}\Z").map(str.encode)
_text = st.binary(max_size=12).map(lambda b: b.replace(b"\r", b"").replace(b"\n", b""))
_values = st.lists(_text, min_size=1, max_size=3).map(b"\r\n ".join)
_lines = st.tuples(_header_names, st.sampled_from([b":", b" :", b": ", b"\t:\t"]), _values).map(b"".join)


@relaxed
@given(extra=st.lists(_lines, max_size=6), body=st.binary(max_size=40))
def test_what_nobody_edits_leaves_byte_for_byte(read: Read, extra: list[bytes], body: bytes) -> None:
    """RFC 3261 §16.6 step 1: names, case, blanks, folds, order and body as they came."""
    data = message(b"INVITE sip:bob@example.jp SIP/2.0", *extra, body=body)
    found = read(data)
    at = found.at.get(CONTENT_LENGTH)
    if at is None:
        assert found.wire() == data
    else:
        assert wire(found.lines, body) == data
        assert body.startswith(found.body)


@pytest.mark.parametrize(
    "data", [*PLAIN, *(o for o in ODD if b"Content-Length" not in o and b"\r\n\r\n" in o)]
)
def test_real_messages_leave_byte_for_byte(read: Read, data: bytes) -> None:
    if data.startswith((b"INVITE", b"OPTIONS", b"BYE", b"!", b"SIP/2.0 200 ", b"SIP/2.0 100")):
        bare = data.replace(b"\r\n", b"").count(b"\n")  # such a message is refused, never sent on
        assert (read(data).wire() == data) is not bool(bare)


def test_lines_keep_their_order(read: Read) -> None:
    shuffled = [HEAD[4], b"X-A: 1", HEAD[3], b"X-B: 2", HEAD[0], HEAD[5], b"X-A: 3", HEAD[2], HEAD[1]]
    found = read(message(head=shuffled))
    assert found.lines[1:] == shuffled
    assert [found.at[s] for s in (CALL_ID, TO, VIA, CSEQ, FROM, MAX_FORWARDS)] == [1, 3, 5, 6, 8, 9]
    assert found.find(b"x-a") == [2, 7]


def test_a_request_is_read(read: Read) -> None:
    found = read(PLAIN[1])
    assert (found.code, found.method, found.uri) == (
        0,
        b"INVITE",
        b"sip:0312345678@192.0.2.9:5060;user=phone",
    )
    assert (found.call_id, found.from_tag, found.to_tag) == (b"1@example.jp", b"a1", b"")
    assert (found.cseq, found.cseq_number, found.cseq_method) == ((1, b"INVITE"), 1, b"INVITE")
    assert (found.via.host, found.via.port, found.via.branch, found.via.rport) == (
        b"192.0.2.1",
        5060,
        b"z9hG4bKabc",
        True,
    )
    assert found.body == SDP
    assert found.faults == []


def test_a_response_is_read(read: Read) -> None:
    found = read(PLAIN[2])
    assert (found.code, found.method, found.uri) == (200, b"INVITE", b"")
    assert (found.from_tag, found.to_tag) == (b"a1", b"b1")
    assert found.via.branch == b"z9hG4bKgate.1"
    assert found.values(RECORD_ROUTE) == [b"<sip:192.0.2.8;lr>", b"<sip:192.0.2.7;lr>"]
    assert found.faults == []


@pytest.mark.parametrize(
    "reason", [b" ", b"", b" OK", b" \xe3\x81\xaf\xe3\x81\x84", b" a b  c", b" 404 Not Found"]
)
def test_a_status_line_may_have_any_reason(read: Read, reason: bytes) -> None:
    """§7.2: the reason phrase may be anything, nothing too."""
    found = read(message(b"SIP/2.0 200" + reason))
    assert found.code == 200
    assert found.faults == []


@pytest.mark.parametrize("code", [100, 199, 200, 302, 486, 699])
def test_every_status_of_six_classes_is_read(read: Read, code: int) -> None:
    assert read(message(b"SIP/2.0 %d x" % code)).code == code


@pytest.mark.parametrize("name", [b"Call-ID", b"call-id", b"CALL-ID", b"cAlL-iD", b"i", b"I"])
@pytest.mark.parametrize("colon", [b":", b" :", b": ", b"\t : \t", b":\r\n ", b" :\r\n\t\r\n "])
def test_names_have_no_case_and_blanks_are_free_around_the_colon(
    read: Read, name: bytes, colon: bytes
) -> None:
    """RFC 3261 §7.3.1."""
    head = [*HEAD[:4], name + colon + b"other@example.jp", HEAD[5]]
    found = read(message(head=head))
    assert found.call_id == b"other@example.jp"
    assert found.header(b"call-id") == b"other@example.jp"
    assert found.faults == []


COMPACT_SLOTS = {b"v": VIA, b"f": FROM, b"t": TO, b"i": CALL_ID, b"m": CONTACT, b"l": CONTENT_LENGTH}


@pytest.mark.parametrize("letter", COMPACT_SLOTS)
@pytest.mark.parametrize("upper", [False, True])
def test_compact_forms_are_the_long_ones(read: Read, letter: bytes, upper: bool) -> None:
    """RFC 3261 §7.3.3, for the headers whose place is noted."""
    long, value = COMPACT.get(letter, b"via"), {b"m": b"<sip:a@b>", b"l": b"0"}.get(letter)
    value = value or next(h.partition(b": ")[2] for h in HEAD if h.lower().startswith(long + b":"))
    head = [h for h in HEAD if not h.lower().startswith(long + b":")]
    found = read(message(head=[*head, (letter.upper() if upper else letter) + b": " + value]))
    assert found.value(COMPACT_SLOTS[letter]) == value
    assert found.header(long) == value
    assert found.faults == []


@pytest.mark.parametrize(
    ("letter", "name"),
    [
        *((b"c", b"content-type"), (b"e", b"content-encoding"), (b"k", b"supported"), (b"o", b"event")),
        *((b"r", b"refer-to"), (b"b", b"referred-by"), (b"s", b"subject"), (b"u", b"allow-events")),
        *((b"x", b"session-expires"), (b"d", b"request-disposition"), (b"j", b"reject-contact")),
        *((b"a", b"accept-contact"), (b"y", b"identity"), (b"n", b"identity-info")),
    ],
)
def test_any_header_is_found_by_its_compact_form(read: Read, letter: bytes, name: bytes) -> None:
    """The registry of RFC 3261 §7.3.3 and its extensions (3515, 3892, 3841, 4028, 6665, 8224)."""
    for written in (letter, letter.upper() + b" ", name, name.title()):
        found = read(changed(written + b": here"))
        assert found.header(name) == b"here"
        assert found.find(name) == [len(found.lines) - 1]
    assert read(message()).header(name) == b""


def test_a_folded_header_is_one_line(read: Read) -> None:
    """RFC 3261 §7.3.1: a fold is a blank; written it stays as it was."""
    data = changed(b"Subject: one\r\n two  \r\n\t three", b"Contact:\r\n <sip:a@b>\r\n  ;q=1")
    found = read(data)
    assert found.lines[7:] == [b"Subject: one\r\n two  \r\n\t three", b"Contact:\r\n <sip:a@b>\r\n  ;q=1"]
    assert found.header(b"subject") == b"one two three"
    assert found.value(CONTACT) == b"<sip:a@b> ;q=1"
    assert found.wire() == data
    assert found.faults == []


def test_every_noted_header_may_be_folded(read: Read) -> None:
    head = [
        b"Via: SIP/2.0/UDP\r\n 192.0.2.1 ;\r\n branch=z9hG4bKabc",
        b"From:\r\n <sip:alice@example.jp>\r\n ;tag=a1",
        b"To: <sip:bob@example.jp>\r\n\t;\r\n tag\r\n = b1",
        b"Call-ID:\r\n\t1@example.jp\r\n ",
        b"CSeq: 1\r\n INVITE",
        b"Max-Forwards:\r\n 70",
    ]
    found = read(message(head=head))
    assert found.faults == []
    assert (found.via.host, found.via.branch) == (b"192.0.2.1", b"z9hG4bKabc")
    assert (found.from_tag, found.to_tag, found.call_id) == (b"a1", b"b1", b"1@example.jp")
    assert found.cseq == (1, b"INVITE")
    assert found.value(MAX_FORWARDS) == b"70"


def test_a_fold_before_the_colon_is_no_header(read: Read) -> None:
    """§25.1, HCOLON: only blanks come before a colon."""
    assert read(message(b"INVITE sip:b SIP/2.0", b"X\r\n : y")).faults


ROUTE_VALUES = [b"<sip:a;lr>", b'"x, y" <sip:b,c;lr>;p="q,r"', b"<sip:d?h=e,f>", b'"\\"," <sip:g>']


@pytest.mark.parametrize("cut", range(2 ** (len(ROUTE_VALUES) - 1)))
@pytest.mark.parametrize("comma", [b",", b", ", b" ,\t", b",\r\n "])
def test_a_comma_and_a_line_of_its_own_are_the_same(read: Read, cut: int, comma: bytes) -> None:
    """RFC 3261 §7.3.1, every way to spread four values over lines; never split inside quotes or <>."""
    lines = [b"Route: " + ROUTE_VALUES[0]]
    for n, value in enumerate(ROUTE_VALUES[1:]):
        if cut >> n & 1:
            lines += [b"X-Between: 1", b"ROUTE :" + value]
        else:
            lines[-1] += comma + value
    found = read(message(b"INVITE sip:b SIP/2.0", *lines))
    assert found.values(ROUTE) == ROUTE_VALUES
    assert [found.lines[i][:5].upper() for i in found.places(ROUTE)] == [b"ROUTE"] * (cut.bit_count() + 1)
    assert found.faults == []


def test_the_top_via_is_the_first_value_of_the_first_line(read: Read) -> None:
    first, second, third = (b"SIP/2.0/UDP %b;branch=z9hG4bK%b" % (h, h) for h in (b"a", b"b", b"c"))
    for lines in (
        [first, second, third],
        [first + b"," + second, third],
        [first + b" ,\r\n " + second + b", " + third],
    ):
        head = [b"Via: " + line for line in lines] + list(HEAD[1:])
        found = read(message(head=head))
        assert found.via.text == first
        assert found.values(VIA) == [first, second, third]
        assert found.faults == []


def test_a_header_that_is_absent_is_empty(read: Read) -> None:
    found = read(message())
    assert (found.value(ROUTE), found.values(ROUTE), list(found.places(ROUTE))) == (b"", [], [])
    assert (found.header(b"subject"), found.find(b"subject")) == (b"", [])


@pytest.mark.parametrize("before", [b"\r\n", b"\r\n\r\n\r\n", b"\n", b"\n\r\n"])
def test_line_ends_before_the_start_line_are_ignored(read: Read, before: bytes) -> None:
    """RFC 3261 §7.5."""
    found = read(before + PLAIN[1])
    assert found.method == b"INVITE"
    assert found.wire() == PLAIN[1]
    assert found.faults == []


def test_the_body_may_hold_anything(read: Read) -> None:
    body = b"\0\r\n\r\nVia: x\r\n\xff" + bytes(range(256))
    found = read(changed(b"Content-Length: %d" % len(body), body=body))
    assert found.body == body
    assert list(found.places(VIA)) == [1]
    assert found.faults == []


@pytest.mark.parametrize(
    ("length", "body", "kept"),
    [
        (b"4", b"body", b"body"),
        (b"4", b"body and more", b"body"),
        (b"0", b"body", b""),
        (b"004", b"body", b"body"),
        (b"0", b"", b""),
        (None, b"body and all", b"body and all"),
        (None, b"", b""),
    ],
)
def test_a_datagram_has_the_body_its_content_length_says(
    read: Read, length: bytes | None, body: bytes, kept: bytes
) -> None:
    """RFC 3261 §18.3: octets beyond it are dropped; without it the body is the rest of the datagram."""
    lines = [] if length is None else [b"Content-Length: " + length]
    found = read(changed(*lines, body=body))
    assert found.body == kept
    assert found.faults == []


def test_nothing_of_one_message_is_kept_for_the_next(read: Read) -> None:
    first, second = read(PLAIN[1]), read(PLAIN[2])
    first.lines[0] = b"x"
    first.faults.append("x")
    assert second.wire() == PLAIN[2]
    assert read(PLAIN[1]).wire() == PLAIN[1]
    assert read(PLAIN[1]).faults == []


def test_names_that_strangers_make_up_are_not_remembered_for_ever(read: Read) -> None:
    """Spellings met are kept for speed; the network must not be able to fill the memory with them."""
    from callgate.sip.message import _names

    for n in range(0, 12_000, 40):
        read(message(b"INVITE sip:b SIP/2.0", *[b"X-%d: y" % m for m in range(n, n + 40)]))
    assert len(_names) <= 4096
    found = read(changed(b"ViA: SIP/2.0/UDP h;branch=b", b"X-11999: z"))
    assert found.via.host == b"h"
    assert found.header(b"x-11999") == b"z"


def test_long_headers_are_read_in_one_go(read: Read) -> None:
    """What begins like something and does not end as it, a million times over: reading must not begin anew at each
    (a try for each would take hours here)."""
    many = 500_000
    for line in (
        b"From: <sip:a@b>;x=" + b'"\\"' * many,
        b'From: <sip:a@b>;"' + b'\\"' * many,
        b"To: <sip:a@b>;tag" + b" " * many,
        b"Route: ," + b"<" * many,
        b'Route: ,"' + b'\\"' * many,
        b"Call-ID: a" + b" " * many + b"b\r\n c",
        b"Via: SIP/2.0/UDP h" + b';a="\\' * many,
        b"Via: SIP/2.0/UDP h;branch=b" + b" ;" * many,
        b"CSeq: 1" + b" " * many,
    ):
        found = read(changed(line))
        for slot in (FROM, TO, VIA, ROUTE, CALL_ID):
            found.values(slot)
