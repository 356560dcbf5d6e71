"""What is wrong with a message: found, named, and never more of it refused than has to be.

A request whose Via can be read can be answered with 400; one that is no SIP raises `Malformed`.
"""

from __future__ import annotations

import pytest
from tests.sip.conftest import Read
from tests.sip.support import HEAD, changed, message

from callgate.sip.errors import Malformed
from callgate.sip.message import OTHER_VERSION


@pytest.mark.parametrize("name", [b"Via", b"From", b"To", b"Call-ID", b"CSeq"])
def test_a_header_every_message_needs_is_missed(read: Read, name: bytes) -> None:
    """RFC 3261 §8.1.1."""
    assert f"no {name.decode()}" in read(changed(drop=name)).faults


def test_max_forwards_may_be_missing(read: Read) -> None:
    """§16.3 step 3: then the proxy adds it."""
    assert read(changed(drop=b"Max-Forwards")).faults == []


@pytest.mark.parametrize("name", ["Call-ID", "CSeq", "From", "To", "Max-Forwards", "Content-Length"])
@pytest.mark.parametrize("same", [True, False])
def test_what_may_stand_once_stands_once(read: Read, name: str, same: bool) -> None:
    """RFC 4475 §3.3.8: even two equal ones are one too many."""
    first = next((h for h in HEAD if h.startswith(name.encode() + b":")), b"Content-Length: 0")
    second = first if same else first.replace(b"1", b"2").replace(b": 0", b": 00").replace(b"bob", b"eve")
    compact = (
        second.replace(b"Call-ID", b"i")
        .replace(b"From", b"f")
        .replace(b"To", b"T")
        .replace(b"Content-Length", b"l")
    )
    for again in (second, compact):
        head = [h for h in HEAD if h != first]
        found = read(message(head=[first, *head, b"Via: SIP/2.0/UDP h", again]))
        assert found.faults == [f"more than one {name}"]


@pytest.mark.parametrize(
    "value",
    [
        *(b"2147483648 INVITE", b"4294967296 INVITE", b"36893488147419103232 INVITE", b"99999999999 INVITE"),
        *(
            b"-1 INVITE",
            b"+1 INVITE",
            b"1",
            b"INVITE",
            b"",
            b"1INVITE",
            b"1 IN VITE",
            b"1 INV/TE",
            b"0x1 INVITE",
        ),
        *(b"1.0 INVITE", b"1,000 INVITE", b"\xd9\xa1 INVITE", b"1 INVITE;x"),
    ],
)
def test_cseq_is_a_number_below_two_to_the_31_and_a_method(read: Read, value: bytes) -> None:
    """RFC 3261 §8.1.1.5, §20.16; it never wraps."""
    found = read(changed(b"CSeq: " + value))
    assert found.faults == ["CSeq is not a number below 2**31 and a method"]
    assert found.cseq == (0, b"")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (b"0", 0),
        (b"2147483647", 2147483647),
        (b"0009", 9),
        (b"0" * 30, 0),
        (b"0" * 5000 + b"2147483647", 2147483647),
    ],
)
def test_cseq_up_to_that_is_read(read: Read, value: bytes, number: int) -> None:
    """Leading zeros are the sender's business (RFC 4475 §3.1.1.1)."""
    found = read(changed(b"CSeq: " + value + b" INVITE"))
    assert found.cseq == (number, b"INVITE")
    assert found.faults == []


@pytest.mark.parametrize("data", [changed(b"Content-Length: 5", body=b"body"), changed(b"l: 1")])
def test_a_body_that_is_too_short_is_a_fault(read: Read, data: bytes) -> None:
    """RFC 3261 §18.3: 400 to a request; a response is dropped."""
    assert read(data).faults == ["the body is shorter than Content-Length"]


@pytest.mark.parametrize(
    "value", [b"-1", b"+4", b"4 4", b"4,4", b"four", b"", b"0x4", b"4.0", b"9" * 11, b"\xd9\xa4"]
)
def test_content_length_is_a_number(read: Read, value: bytes) -> None:
    assert read(changed(b"Content-Length: " + value, body=b"body")).faults == ["Content-Length is no number"]


@pytest.mark.parametrize("bare", [b"\n", b"\r", b"\n\r", b"\r\r\n", b"\r\n\n", b"\n\n"])
@pytest.mark.parametrize("place", [b"sip:bob", b"70", b"Call-ID", b"a1", b" SIP/2.0\r\nVia"])
def test_a_bare_line_end_is_a_fault(read: Read, bare: bytes, place: bytes) -> None:
    """§25.1: lines end with CRLF. Whoever takes less for an end sees other headers than we do."""
    try:
        found = read(message().replace(place, place[:2] + bare + place[2:], 1))
    except Malformed:
        return
    assert any("bare CR or LF" in f or "without a" in f for f in found.faults)


def test_a_header_hidden_behind_a_bare_line_feed_is_not_seen(read: Read) -> None:
    found = read(changed(b"X: y\nRoute: <sip:evil;lr>"))
    assert found.find(b"route") == []
    assert found.faults == ["a bare CR or LF in the header"]


@pytest.mark.parametrize(
    "line",
    [b"no colon", b": no name", b"two words: x", b"n\xc3\xa4me: x", b"X(: x", b"\0: x", b"X\0: x", b"Via"],
)
def test_a_line_that_is_no_header_is_a_fault(read: Read, line: bytes) -> None:
    found = read(message(b"INVITE sip:b SIP/2.0", line))
    assert found.faults in (["a header line without a name"], ["a header line without a colon"])
    assert found.via.branch == b"z9hG4bKabc"  # so that it can be answered


def test_a_continuation_of_the_start_line_is_a_fault(read: Read) -> None:
    assert read(message(head=[b" folded: x", *HEAD])).faults == ["a header line without a name"]


def test_a_header_that_never_ends_is_a_fault(read: Read) -> None:
    found = read(message()[:-2])
    assert found.faults == ["the header does not end with an empty line"]
    assert found.lines == message()[:-4].split(b"\r\n")


def test_nuls_in_values_are_nobody_s_business(read: Read) -> None:
    """§25.1 allows a quoted NUL; the rest is left alone (§16.3 step 1) and leaves as it came."""
    data = changed(b'To: "a\\\0b" <sip:bob@example.jp>;tag=x', b"Subject: a\0b")
    found = read(data)
    assert found.faults == []
    assert found.to_tag == b"x"
    assert found.wire() == data


@pytest.mark.parametrize(
    "uri",
    [
        *(
            b"<sip:bob@example.jp>",
            b"sip:bob@example.jp; lr",
            b"sip:bob@ex\0mple.jp",
            b" sip:b",
            b"",
            b"sip:b\tc",
        ),
        *(b"sip:bob@example.jp>", b"sip:b<ob", b'sip:"bob"@example.jp', b"sip:bob@h\x7f", b"sip:b\x1bob@h"),
    ],
)
def test_a_request_uri_that_cannot_be_read(read: Read, uri: bytes) -> None:
    """RFC 4475 §3.1.2.7-3.1.2.9: brackets, blanks inside, more than one blank around it."""
    found = read(message(b"INVITE %b SIP/2.0" % uri))
    assert found.faults == ["a Request-URI that can't be read"]


@pytest.mark.parametrize(
    "uri",
    [
        b"sip:user@example.com?Route=%3Csip:example.com%3E",
        *(b"sip:example.com?x=y", b"SIPS:user@example.com?", b"sip:a?b@c?d", b"sip:?"),
    ],
)
def test_headers_in_a_request_uri(read: Read, uri: bytes) -> None:
    """§19.1.1 table 1, RFC 4475 §3.1.2.11: whoever reads on would see headers that were never checked."""
    assert read(message(b"INVITE %b SIP/2.0" % uri)).faults == ["headers in the Request-URI"]


@pytest.mark.parametrize("uri", [b"sip:a?b@c", b"sip:crazy?,/;;*:&it@example.com", b"http://h/x?y", b"x:?"])
def test_a_question_mark_elsewhere(read: Read, uri: bytes) -> None:
    """It may stand in a user part, and other schemes have their own rules."""
    found = read(message(b"INVITE %b SIP/2.0" % uri))
    assert (found.faults, found.uri) == ([], uri)


@pytest.mark.parametrize("line", [b"Call-ID:", b"Call-ID: \t ", b"i:\r\n "])
def test_a_call_id_is_not_empty(read: Read, line: bytes) -> None:
    found = read(changed(line, drop=b"Call-ID" if line[:1] == b"i" else b""))
    assert found.faults == ["Call-ID is empty"]


@pytest.mark.parametrize("name", [b"Via", b"From", b"To", b"Call-ID", b"CSeq", b"Timestamp"])
@pytest.mark.parametrize("bare", [b"\n", b"\r", b"\r\r", b"\n\n"])
def test_what_an_answer_copies_cannot_begin_a_new_line_there(read: Read, name: bytes, bare: bytes) -> None:
    """A bare line end is a blank in the lines of a message that is refused."""
    whole = changed(b"Timestamp: 1")
    line = next(x for x in whole.split(b"\r\n") if x.startswith(name + b":"))
    found = read(whole.replace(line, line + bare + b"Contact: <sip:evil@192.0.2.66>"))
    assert found.faults
    for kept in found.lines:
        assert b"\r" not in kept
        assert b"\n" not in kept


@pytest.mark.parametrize("end", [b" ", b"  ", b"\t"])
def test_blanks_after_the_version(read: Read, end: bytes) -> None:
    """RFC 4475 §3.1.2.8: refused, but with an answer."""
    found = read(message(b"INVITE sip:bob@example.jp SIP/2.0" + end))
    assert (found.method, found.uri) == (b"INVITE", b"sip:bob@example.jp")
    assert found.faults == ["blanks after the SIP version"]


@pytest.mark.parametrize("version", [b"SIP/7.0", b"SIP/2.00", b"SIP/2.1", b"SIP/2", b"SIP/", b"sip/3.0"])
def test_another_version_is_named_as_that(read: Read, version: bytes) -> None:
    """It is answered with 505 (§8.1.1, RFC 4475 §3.1.2.16)."""
    found = read(message(b"INVITE sip:b %b" % version))
    assert found.faults == [OTHER_VERSION]
    assert found.method == b"INVITE"


@pytest.mark.parametrize("version", [b"sip/2.0", b"Sip/2.0"])
def test_the_version_has_no_case(read: Read, version: bytes) -> None:
    """§7.1."""
    assert read(message(b"INVITE sip:b %b" % version)).faults == []
    assert read(message(version + b" 180 Ringing")).code == 180


@pytest.mark.parametrize(
    "start",
    [
        *(
            b"",
            b"INVITE",
            b"INVITE sip:b",
            b"INVITE sip:b HTTP/1.1",
            b"GET / HTTP/1.1",
            b"SIP/2.0",
            b"SIP/2.0 ",
        ),
        *(
            b"SIP/2.0 20",
            b"SIP/2.0 2000 OK",
            b"SIP/2.0 099 x",
            b"SIP/2.0 000 x",
            b"SIP/2.0 700 x",
            b"SIP/2.0 -20 x",
        ),
        *(
            b"SIP/2.0  200 OK",
            b"SIP/2.0 4294967301 x",
            b"SIP/2.0 2x0 OK",
            b"SIP/3.0 200 OK",
            b"SIP/2.0\t200 OK",
        ),
        *(
            b"INV/TE sip:b SIP/2.0",
            b"\xff\xfe sip:b SIP/2.0",
            b"{} SIP/2.0",
            b"\0 b SIP/2.0",
            b" INVITE b SIP/2.0",
        ),
        *(b"SIP/2.0 \xb2\xb2\xb2 x", b"\x80\x80"),
    ],
)
def test_what_is_no_sip_is_malformed(read: Read, start: bytes) -> None:
    with pytest.raises(Malformed):
        read(message(start))


@pytest.mark.parametrize(
    "data", [b"", b"\r\n", b"\0", b"\r\n\r\n\r\n\r\n", b"\x80\xc8" * 600, b"\0\1\0\0" + b"!\x12\xa4B"]
)
def test_rubbish_is_malformed(read: Read, data: bytes) -> None:
    """Empty datagrams, keep-alives, RTCP, STUN."""
    with pytest.raises(Malformed):
        read(data)


@pytest.mark.parametrize(
    "line",
    [
        b'To: "unterminated <sip:bob@example.jp>',
        b"From: <sip:alice@example.jp",
        b'From: "a" "b" <sip:c>;tag=a',
    ],
)
def test_an_address_that_cannot_be_read_can_still_be_answered(read: Read, line: bytes) -> None:
    """RFC 4475 §3.1.2.6 wants a 400: the Via is there."""
    found = read(changed(line))
    assert found.faults == ["an address whose quotes or brackets do not match"]
    assert found.via.sent_by == b"192.0.2.1:5060"


@pytest.mark.parametrize(
    "value", [b"", b"rubbish", b"SIP/2.0/UDP", b"HTTP/1.1/UDP h", b"SIP/3.0/UDP h", b"SIP/2.0/UDP h:99999"]
)
def test_a_via_that_cannot_be_read_leaves_nobody_to_answer(read: Read, value: bytes) -> None:
    found = read(changed(b"Via: " + value))
    assert found.via is None
    assert len(found.faults) == 1
    assert "Via" in found.faults[0]


def test_all_faults_are_named(read: Read) -> None:
    found = read(message(b"INVITE sip:b SIP/2.0", b"colonless", head=[HEAD[0], HEAD[2]]))
    assert found.faults == ["a header line without a colon", "no Call-ID", "no CSeq", "no To"]


@pytest.mark.parametrize(
    "name", [b"Date", b"Contact", b"Expires", b"Authorization", b"Accept", b"Require", b"X-Unknown"]
)
def test_what_the_proxy_does_not_use_may_be_rubbish(read: Read, name: bytes) -> None:
    """§16.3 step 1: an ill-formed Date is not our business."""
    data = changed(name + b': "<,;\xff\x00=(')
    assert read(data).faults == []
    assert read(data).wire() == data


def test_faults_can_be_shown_in_a_header(read: Read) -> None:
    """They go into a Warning: plain text, and nothing of what the other side wrote."""
    for data in (
        changed(b"From: <evil\x01"),
        message(b"A <evil> SIP/2.0"),
        changed(b"Via: evil"),
        changed(b"\x01: evil"),
    ):
        for fault in read(data).faults:
            assert fault.isascii()
            assert fault.isprintable()
            assert '"' not in fault
            assert "evil" not in fault
