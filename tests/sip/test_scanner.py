"""The C scanner and `parse_slowly` read the same: what the scanner takes, it takes exactly as Python would.

What it does not take (None) is nobody's loss, as long as it does take the plain messages that most traffic is.
"""

from __future__ import annotations

from typing import Any

import pytest
from bench.core_calls import Bench
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.sip.conftest import Read, Scan
from tests.sip.support import ODD, PLAIN, changed, message, mutations

from callgate.proxy.flow import Flow
from callgate.sip.errors import Malformed
from callgate.sip.fields import Via
from callgate.sip.message import Message, parse, parse_slowly
from callgate.sip.scanner import scan as installed

relaxed = settings(deadline=None)
NAMES = (b"privacy", b"x-record", b"subject", b"supported", b"x-" + b"long" * 32)
"""Headers that the reader is told to look for."""


def everything(found: Message) -> dict[str, Any]:
    """Every slot of a message and of its Via. One that was not set is an AttributeError here."""
    slots = {name: getattr(found, name) for name in Message.__slots__ if name != "via"}
    via = {name: getattr(found.via, name) for name in Via.__slots__} if found.via is not None else None
    return {**slots, "via": via}


def taken_the_same(scan: Scan, read_with_scanner: Read, data: bytes) -> bool:
    """Whether the scanner takes it; then what comes of it must be what Python reads, without a fault."""
    if scan(data) is None:
        return False
    slow = parse_slowly(data, NAMES)
    assert slow.faults == [], data
    assert everything(read_with_scanner(data)) == everything(slow), data
    return True


@pytest.fixture
def same(scan: Scan, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("callgate.sip.message.scan", scan)
    return lambda data: taken_the_same(scan, lambda data: parse(data, NAMES), data)


class Recorder(Bench):
    """The bench, writing down all that goes in and comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bytes] = []

    def give(self, data: bytes, flow: Flow) -> list[bytes]:
        sent = super().give(data, flow)
        self.seen += [data, *sent]
        return sent


def test_every_message_of_the_bench_is_taken(same: Any) -> None:
    """What the gate hears and what it says in an ordinary call: both go through `parse` at one end or the other."""
    bench = Recorder()
    for n in range(3):
        bench.call(n)
    assert len(bench.seen) > 3 * 10
    for data in bench.seen:
        assert same(data), data


@pytest.mark.parametrize("data", PLAIN)
def test_plain_messages_are_taken(same: Any, data: bytes) -> None:
    assert same(data)


@pytest.mark.parametrize(
    "line",
    [
        b"Call-ID :  1@example.jp \t",
        b"CALL-ID:1@example.jp",
        b"CSeq:\t2147483647 INVITE",
        b"CSeq: 0000000001  INVITE",
        b"To: <sip:bob@example.jp>;tag=x.y~z",
        b"To: Bob van Example <sip:bob@example.jp>",
        b'To: "Bob, of <Example" <sip:bob@example.jp>'.replace(b"<E", b"E"),
        b"To: <tel:+81312345678>",
        b"Via: SIP/2.0/UDP pbx.example.jp;branch=z9hG4bKa",
        b"Via: SIP/2.0/UDP pbx.example.jp:5060;rport;branch=z9hG4bKa;keep;x=[::1]:5",
        b"Content-Length: 0",
        b"X: \x00 \xff \xe6\x97\xa5\xe6\x9c\xac",
    ],
)
def test_ordinary_ways_to_write_a_header_are_taken(same: Any, line: bytes) -> None:
    assert same(changed(line))


@pytest.mark.parametrize("data", ODD)
def test_odd_messages_are_read_alike(same: Any, data: bytes) -> None:
    same(data)


@pytest.mark.parametrize(
    "line",
    [
        b"CSeq: 2147483648 INVITE",
        b"CSeq: 00000000001 INVITE",
        b"CSeq: INVITE",
        b"CSeq: 1",
        b"Content-Length: 1",
        b"Content-Length: +0",
        b"Content-Length: 0 0",
        b"Via: SIP/2.0/UDP h;branch=a;branch=b",
        b"Via: SIP/2.0/UDP h:65536;branch=a",
        b"Via: SIP/2.0/UDP h, SIP/2.0/UDP i",
        b"To: sip:bob@example.jp;tag=1",
        b"To: <sip:bob@example.jp>;tag=",
        b"To: <sip:bob@example.jp>;x=1;tag=2",
        b'To: "<sip:bob@example.jp>',
        b"no name",
        b"bad name: x",
        b"X: folded\r\n here",
        b"X: bare\nline feed",
        b"X: bare\rreturn",
    ],
)
def test_what_is_not_plain_is_left_to_python(scan: Scan, line: bytes) -> None:
    """Faults are found in one place only, and so are the rare forms."""
    assert scan(changed(line)) is None


@pytest.mark.parametrize("name", [b"Call-ID", b"CSeq", b"From", b"To", b"Content-Length", b"Max-Forwards"])
def test_a_single_header_twice_is_left_to_python(scan: Scan, name: bytes) -> None:
    data = changed(b"Content-Length: 0")
    assert scan(data) is not None
    line = next(x for x in data.split(b"\r\n") if x.startswith(name))
    assert scan(data.replace(line, line + b"\r\n" + line)) is None


@pytest.mark.parametrize("name", [b"Via", b"Call-ID", b"CSeq", b"From", b"To"])
def test_a_needed_header_that_is_missing_is_left_to_python(scan: Scan, name: bytes) -> None:
    assert scan(changed(drop=name)) is None


def test_every_truncation_is_read_alike(same: Any) -> None:
    for data in PLAIN:
        for size in range(len(data)):
            same(data[:size])


def test_mutated_messages_are_read_alike(same: Any) -> None:
    """Tens of thousands of injuries; enough of them slight enough that the scanner still takes the message."""
    taken = sum(same(data) for data in mutations(seed=20261122, count=80_000, corpus=[*PLAIN * 4, *ODD]))
    assert taken > 8_000


# One header each, written in the ways that are near the line between plain and not.
_token = st.text("aZ0-.!%*_+`'~", min_size=1, max_size=4).map(str.encode)
_blank = st.sampled_from([b"", b" ", b"\t", b"  "])
_host = st.sampled_from([b"h", b"H", b"a_b", b"1.2.3.4", b"[::1]", b"[::A]", b"[]", b"::1", b"a:b", b""])
_port = st.sampled_from([b"", b":5060", b":0", b":05060", b":65535", b":65536", b":", b" :5060", b":5060 "])
_value = st.one_of(
    _token.map(lambda t: b"=" + t), st.sampled_from([b"", b"=", b'="q;x"', b"=[::1]", b"=a:1", b" = a"])
)
_name = st.one_of(_token, st.sampled_from([b"branch", b"BRANCH", b"rport", b"received", b"", b" branch"]))
_params = st.lists(st.tuples(_name, _value).map(b"".join), max_size=3).map(
    lambda p: b"".join(b";" + x for x in p)
)
_via = st.tuples(
    st.sampled_from(
        [b"SIP/2.0/UDP ", b"SIP/2.0/tcp ", b"SIP/2.0/TLS-SCTP ", b"SIP / 2.0/UDP ", b"SIP/2.0/UDP\t"]
    ),
    _host,
    _port,
    _params,
    st.sampled_from([b"", b"", b" ", b", SIP/2.0/UDP i", b","]),
).map(b"".join)
_display = st.sampled_from(
    [b"", b"Bob ", b'"Bob" ', b'"Bob"', b'"a\\"b" ', b'"a', b'a"b" ', b'"a"b ', b"a>b ", b";tag=q "]
)
_uri = st.sampled_from(
    [b"<sip:a@b>", b"<>", b"<tel:1;x>", b'<a"b>', b"sip:a@b", b"<sip:a@b", b"<<a>", b"<a>>"]
)
_after = st.sampled_from(
    [b"", b" ", b";tag=1", b";tag=", b"; tag=1", b";TAG=1", b";tag=1;x", b";tag=1,", b';x=";tag=2"']
)
_address = st.tuples(_display, _uri, _after).map(b"".join)
_cseq = st.tuples(
    st.sampled_from([b"1", b"0", b"2147483647", b"2147483648", b"00000000001", b"", b"-1", b"9999999999"]),
    st.sampled_from([b" ", b"  ", b" \t", b"\t", b""]),
    st.sampled_from([b"INVITE", b"x", b"a/b", b"", b"A B"]),
).map(b"".join)
_start = st.sampled_from(
    [
        *(
            b"INVITE sip:b SIP/2.0",
            b"I s SIP/2.0",
            b"INVITE  SIP/2.0",
            b"INVITE <sip:b> SIP/2.0",
            b"A b c SIP/2.0",
        ),
        *(
            b"A b\tc SIP/2.0",
            b"A b\0 SIP/2.0",
            b"A b sip/2.0",
            b"A b SIP/2.1",
            b"S/P b SIP/2.0",
            b"A b SIP/2.0 ",
        ),
        *(b"SIP/2.0 200 OK", b"SIP/2.0 200 ", b"SIP/2.0 200", b"sip/2.0 200 OK", b"SIP/2.0 099 x"),
        *(b"SIP/2.0 700 x", b"SIP/2.0 20x OK", b"SIP/2.0 2000 x", b"SIP/2.0  200 OK", b"SIP/3.0 200 OK"),
        *(b"SIP/2.0", b"sip/ b SIP/2.0"),
    ]
)
_length = st.sampled_from([None, b"0", b"3", b"4", b"5", b"003", b"", b"x", b"-1", b"000000000003", b"3 "])
_spelling = {
    b"Via": [b"Via", b"v", b"V", b"VIA", b"vIa"],
    b"To": [b"To", b"t", b"TO", b"To "],
    b"From": [b"From", b"f", b"From\t"],
    b"CSeq": [b"CSeq", b"cseq"],
    b"Call-ID": [b"Call-ID", b"i", b"call-id", b"Call-ID  "],
    b"Content-Length": [b"Content-Length", b"l", b"CONTENT-LENGTH"],
}


@st.composite
def near_plain(draw: st.DrawFn) -> bytes:
    """A message most of which is plain, with one or two headers near the line."""
    values: dict[bytes, bytes | None] = {
        b"Via": b"SIP/2.0/UDP h;branch=b",
        b"To": b"<sip:a@b>",
        b"From": b"<sip:a@b>;tag=1",
        b"CSeq": b"1 INVITE",
        b"Call-ID": b"c",
        b"Content-Length": b"4",
    }
    kinds = {b"Via": _via, b"To": _address, b"From": _address, b"CSeq": _cseq, b"Content-Length": _length}
    for name in draw(st.lists(st.sampled_from(sorted(kinds)), max_size=2)):
        values[name] = draw(kinds[name])
    start = draw(_start) if draw(st.booleans()) else b"INVITE sip:b SIP/2.0"
    lines = [
        draw(st.sampled_from(_spelling[name])) + b":" + draw(_blank) + value + draw(_blank)
        for name, value in values.items()
        if value is not None
    ]
    lines += draw(
        st.lists(st.sampled_from([b"m: <sip:c>", b"Route: <r>", b"X:", b"Via: x", b"k: timer"]), max_size=2)
    )
    return message(start, head=draw(st.permutations(lines)), body=b"body")


def test_messages_near_the_line_are_read_alike(same: Any) -> None:
    taken = 0

    @relaxed
    @given(near_plain())
    @example(PLAIN[0])
    def read_alike(data: bytes) -> None:
        nonlocal taken
        taken += same(data)

    read_alike()
    assert taken > 10


@pytest.mark.parametrize(
    ("line", "marked"),
    [
        (b"Privacy: id", True),
        (b"PRIVACY \t : id", True),
        (b"x-rEcOrD:", True),
        (b"X-" + b"Long" * 32 + b": 1", True),
        (b"X-Recorder: Privacy: id", False),
        (b"Privac: id", False),
        (b"X-" + b"Long" * 16 + b": as long as another, modulo 64", False),
    ],
)
def test_a_message_that_has_one_of_the_names_is_marked(same: Any, line: bytes, *, marked: bool) -> None:
    data = changed(line)
    assert same(data)
    read, slowly = parse(data, NAMES[:2] + NAMES[4:]), parse_slowly(data, NAMES[:2] + NAMES[4:])
    assert read.marked == slowly.marked == ([read.lines.index(line)] if marked else ())
    assert not parse(data).marked


def test_neither_the_start_line_nor_the_body_marks_a_message(same: Any) -> None:
    data = message(b"INVITE privacy:id SIP/2.0", body=b"\r\nPrivacy: id\r\n")
    assert same(data)
    assert not parse(data, NAMES[:2]).marked
    assert not parse_slowly(data, NAMES[:2]).marked


def test_what_is_not_bytes_is_refused(scan: Scan) -> None:
    odd: tuple[Any, ...]
    for odd in ((bytearray(PLAIN[0]),), (), (PLAIN[0], [b"a"]), (PLAIN[0], ("a",)), (PLAIN[0], (), ())):
        with pytest.raises(TypeError):
            scan(*odd)


def test_the_installed_scanner_is_of_this_source() -> None:
    """Where one was built into the tree it reads as the source says; where none was, it knows no message."""
    taken = 0
    for data in [*PLAIN, *ODD, *mutations(seed=1, count=2_000, corpus=PLAIN)]:
        found = installed(data)
        if found is not None:
            taken += 1
            assert everything(parse(data)) == everything(parse_slowly(data))
    assert installed(PLAIN[0]) is None or taken > len(PLAIN)


def test_hostile_messages_raise_nothing_but_malformed(read: Read) -> None:
    """And whatever can be read gives its values, its lines and its wire form without another error."""
    for data in mutations(seed=2, count=6_000, corpus=PLAIN + ODD):
        try:
            found = read(data)
        except Malformed:
            continue
        everything(found)
        found.wire()
        for slot in range(13):
            found.value(slot)
            found.values(slot)
        found.header(b"to")
        found.header(b"reason")
        assert len(found.body) <= len(data)
