"""Messages out of a stream (RFC 3261 §18.3): by Content-Length alone, wherever the segments end."""

from __future__ import annotations

import itertools
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sip.support import PLAIN, SDP, changed, message

from callgate.sip import framing
from callgate.sip.framing import MAX_HEAD, MAX_MESSAGE, Broken, Framer

Outcome = tuple[list[bytes], str, bytes]
"""Messages, why the stream broke (empty: it did not), the head that broke it."""


def cut_up(stream: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({c for c in cuts if 0 < c < len(stream)} | {len(stream)})
    return [stream[a:b] for a, b in zip([0, *ends], ends, strict=False)]


def fed(segments: list[bytes]) -> Outcome:
    framer = Framer()
    messages: list[bytes] = []
    for segment in segments:
        try:
            messages += framer.feed(segment)
        except Broken as broken:
            return messages + broken.messages, str(broken), broken.head
    return messages, "", b""


def bodied(body: bytes, name: bytes = b"Content-Length") -> bytes:
    return changed(b"%b: %d" % (name, len(body)), body=body)


_whole = st.one_of(
    st.sampled_from([*PLAIN[:2], bodied(SDP, b"l"), Framer.PING, message()]),
    st.binary(max_size=30).map(bodied),
    st.sampled_from([b"\r\n\r\n", b"\r\n", b"\0", b"l: 9\r\n\r\n"]).map(bodied),
)
_cuts = st.lists(st.integers(1, 4000), max_size=12)


@given(st.lists(_whole, max_size=6), _cuts)
def test_any_cut_into_segments_gives_the_same_messages(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(messages)
    assert fed(cut_up(stream, cuts)) == (messages, "", b"")


def test_octet_by_octet() -> None:
    messages = [PLAIN[1], Framer.PING, bodied(b"\r\n\r\n"), message(), Framer.PING, Framer.PING, PLAIN[1]]
    stream = b"".join(messages)
    assert fed([stream[i : i + 1] for i in range(len(stream))]) == (messages, "", b"")


_piece = st.sampled_from(
    [
        *(
            b"\r\n",
            b"\r",
            b"\n",
            b"\r\n\r\n",
            b" ",
            b":",
            b"A b SIP/2.0\r\n",
            b"Content-Length: 5",
            b"l:3",
            b"c: x",
            b"hello",
        ),
        *(
            b"Content-Length: -1",
            b"CONTENT-LENGTH :\r\n 2",
            b"\r\nContent-Length: 5\r\n\r\n",
            b"X: y",
            b"\0",
            b"12345",
        ),
    ]
)


@given(st.lists(_piece, max_size=14), st.lists(st.integers(1, 120), max_size=6))
def test_any_rubbish_is_cut_alike_however_it_comes(pieces: list[bytes], cuts: list[int]) -> None:
    """Where a stream breaks, and what came whole before that, depends on its octets alone."""
    stream = b"".join(pieces)
    with patch.object(framing, "MAX_HEAD", 40), patch.object(framing, "MAX_MESSAGE", 70):
        assert fed(cut_up(stream, cuts)) == fed([stream])


def test_every_short_run_of_line_ends_is_cut_alike_however_it_comes() -> None:
    """All of them, cut at every place: a keep-alive behind odd line ends is one or isn't, but not by chance."""
    for size in range(2, 8):
        for octets in itertools.product(b"\r\nx", repeat=size):
            stream = bytes(octets)
            whole = fed([stream])
            assert all(fed([stream[:cut], stream[cut:]]) == whole for cut in range(1, size)), stream


@pytest.mark.parametrize("before", [b"\r\n", b"\n", b"\r", b"\r\n\n", b"\r\n\r", b"\n\r\n"])
def test_line_ends_before_a_message_are_ignored(before: bytes) -> None:
    """RFC 3261 §7.5."""
    assert fed([before + message()]) == ([message()], "", b"")
    assert fed([before, message()]) == ([message()], "", b"")
    assert fed([message() + before + PLAIN[1]]) == ([message(), PLAIN[1]], "", b"")


def test_a_ping_may_come_between_messages_and_in_pieces() -> None:
    """RFC 5626 §4.4.1: CRLFCRLF is answered with a CRLF, so each counts, and half of one not yet."""
    framer = Framer()
    assert framer.feed(b"\r\n") == []
    assert framer.feed(b"\r") == []
    assert framer.feed(b"\n") == [Framer.PING]
    assert framer.feed(Framer.PING * 2 + message() + b"\r\n\r\n\r") == [Framer.PING] * 2 + [
        message(),
        Framer.PING,
    ]
    assert framer.feed(b"\n" + message()) == [message()]


@pytest.mark.parametrize("name", [b"Content-Length", b"content-length", b"CONTENT-LENGTH", b"l", b"L"])
@pytest.mark.parametrize("colon", [b":", b": ", b" :", b"\t:\t", b":\r\n ", b":  \r\n\t\r\n "])
@pytest.mark.parametrize("end", [b"", b" ", b"\t", b"\r\n "])
def test_content_length_however_it_is_written(name: bytes, colon: bytes, end: bytes) -> None:
    first = message(b"A b SIP/2.0", name + colon + b"4" + end, b"X: y", body=b"body")
    assert fed([first + message()]) == ([first, message()], "", b"")


def test_headers_that_only_look_like_it_count_for_nothing() -> None:
    first = message(
        b"A b SIP/2.0", b"X-Content-Length: 1", b"lx: 2", b"X: y\r\n l: 3", b"l: 4", b"Ll: 5", body=b"body"
    )
    assert fed([first + message()]) == ([first, message()], "", b"")


def test_without_content_length_there_is_no_body() -> None:
    """§20.14 demands one on a stream; nothing behind the header is guessed to be a body."""
    assert fed([message(body=PLAIN[1])]) == ([message(), PLAIN[1]], "", b"")


@pytest.mark.parametrize("line", [b"Content-Type: application/sdp", b"c: a/b", b"CONTENT-TYPE \t:\r\n a/b"])
def test_a_body_without_content_length_breaks_the_stream(line: bytes) -> None:
    """Where it ends nobody can know, and what stands in it must not be read as a message of its own."""
    bad = message(b"A b SIP/2.0", line)
    assert fed([message() + bad + message()]) == ([message()], "a body without a Content-Length", bad)


def test_two_equal_ones_frame_the_message() -> None:
    """The message is a fault of its own then (§20.14), but where it ends is known."""
    twice = message(b"A b SIP/2.0", b"l: 4", b"Content-Length: 4", body=b"body")
    assert fed([twice + message()]) == ([twice, message()], "", b"")


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 4", b"l: 5"],
        [b"l: 5", b"X: y", b"Content-Length: 4"],
        [b"Content-Length: 4\r\n ", b"Content-Length: 0"],
        [b"Content-Length: 4", b"Content-Length: 04"],
        [b"Content-Length:", b"Content-Length: 4"],
    ],
)
def test_conflicting_lengths_break_the_stream(lines: list[bytes]) -> None:
    """RFC 4475 §3.3.9 on a stream: answer if possible, then close, never guess."""
    bad = message(b"A b SIP/2.0", *lines)
    stream = PLAIN[1] + Framer.PING + message() + bad + b"body" + message()
    whole, reason, head = fed([stream])
    assert whole == [PLAIN[1], Framer.PING, message()]  # what came before the break is kept
    assert reason == "conflicting Content-Length headers"
    assert head == bad


@pytest.mark.parametrize(
    "value",
    [
        *(
            b"-1",
            b"-999",
            b"+4",
            b"",
            b" ",
            b"four",
            b"4 4",
            b"4,4",
            b"4;x",
            b"0x4",
            b"4.",
            b"1\r\n 0",
            b"4\rX: y",
        ),
        *(b"4\nX: y", b"\xd9\xa4", b"\xb2", b"9999999999", b"4\0"),
    ],
)
def test_a_length_that_is_no_number_breaks_the_stream(value: bytes) -> None:
    """RFC 4475 §3.1.2.3."""
    bad = message(b"A b SIP/2.0", b"Content-Length:" + value)
    assert fed([message() + bad + b"body" + message()]) == ([message()], "Content-Length is no number", bad)


def test_a_header_without_end_breaks_the_stream() -> None:
    longest = changed(b"X: " + b"x" * (MAX_HEAD - len(changed(b"X: ")) + 4))
    assert longest.index(b"\r\n\r\n") == MAX_HEAD
    assert fed([longest + message()]) == ([longest, message()], "", b"")
    assert fed([longest[:-4], longest[-4:]]) == ([longest], "", b"")
    too_long = longest.replace(b"xxx", b"xxxx", 1)
    for segments in ([message() + too_long], [message(), too_long], [message() + too_long[:-1]]):
        assert fed(segments) == ([message()], "a header of more than 65535 octets", b"")
    assert fed([b"x" * (MAX_HEAD + 3)])[1] == ""
    assert fed([b"x" * (MAX_HEAD + 4)])[1]


def test_a_message_that_is_too_long_breaks_the_stream_before_it_is_kept() -> None:
    head = changed(b"Content-Length: 130000")
    body = b"x" * (MAX_MESSAGE - len(head))
    longest = changed(b"Content-Length: %d" % len(body), body=body)
    assert len(longest) == MAX_MESSAGE
    assert fed([longest, message()]) == ([longest, message()], "", b"")
    for size in (len(body) + 1, 999_999_999):
        bad = changed(b"Content-Length: %06d" % size)
        assert fed([message() + bad]) == ([message()], "a message of more than 131070 octets", bad)


def test_what_is_held_is_what_is_not_whole_yet() -> None:
    """So that a slow sender can be measured."""
    framer = Framer()
    whole = bodied(b"0123456789")
    assert framer.waiting == 0
    framer.feed(whole[:-3])
    assert framer.waiting == len(whole) - 3
    framer.feed(whole[-3:] + b"INV")
    assert framer.waiting == 3


def test_each_framer_is_its_own() -> None:
    first, second = Framer(), Framer()
    first.feed(message()[:30])
    assert second.feed(message()) == [message()]
    assert first.feed(message()[30:]) == [message()]
