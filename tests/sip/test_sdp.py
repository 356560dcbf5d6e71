"""Session descriptions: on hold, recorded, a fax (RFC 3264 §8.4, RFC 7866 §7.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.sip.sdp import NONE, Session, read, without_recordpref

HEAD = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n{c}t=0 0\r\n{a}"
C = "c=IN IP4 192.0.2.1\r\n"


def sdp(*media: str, c: str = C, a: str = "") -> bytes:
    return (HEAD.format(c=c, a=a) + "".join(media)).encode()


def audio(*lines: str, port: int = 4000) -> str:
    return "\r\n".join((f"m=audio {port} RTP/AVP 0", *lines, ""))


@pytest.mark.parametrize(
    ("body", "holds"),
    [
        (sdp(audio()), False),
        (sdp(audio("a=sendrecv")), False),
        (sdp(audio("a=recvonly")), False),
        (sdp(audio("a=sendonly")), True),
        (sdp(audio("a=inactive")), True),
        (sdp(audio(), a="a=sendonly\r\n"), True),
        (sdp(audio("a=sendrecv"), a="a=sendonly\r\n"), False),  # the medium's own word goes first
        (sdp(audio(), c="c=IN IP4 0.0.0.0\r\n"), True),  # RFC 2543
        (sdp(audio("c=IN IP4 0.0.0.0"), c=""), True),
        (sdp(audio("c=IN IP4 192.0.2.9"), c="c=IN IP4 0.0.0.0\r\n"), False),
        (sdp(audio("c=IN IP6 ::"), c=""), True),
        (sdp(audio("a=sendonly"), audio("a=sendrecv")), False),  # one stream is heard
        (sdp(audio("a=sendonly"), audio("a=sendrecv", port=0)), True),  # a refused one is none
        (sdp("m=video 5000 RTP/AVP 31\r\na=sendonly\r\n", audio()), False),
        (sdp("m=video 5000 RTP/AVP 31\r\na=sendonly\r\n"), False),
        (b"", False),
        (b"a=sendonly", False),
        (b"--b\r\nContent-Type: application/sdp\r\n\r\n" + sdp(audio("a=sendonly")) + b"\r\n--b--\r\n", True),
        (sdp(audio("a=sendonly")).replace(b"\r\n", b"\n"), True),
    ],
)
def test_hold(body: bytes, holds: bool) -> None:
    assert read(body).holds is holds


@pytest.mark.parametrize(
    ("body", "record", "pref"),
    [
        (sdp(audio()), b"", b""),
        (sdp(audio("a=record:on")), b"on", b""),
        (sdp(audio(), a="a=record:on\r\n"), b"on", b""),
        (sdp(audio("a=record:off"), audio("a=record:on")), b"on", b""),
        (sdp(audio("a=record:paused")), b"paused", b""),
        (sdp(audio("a=recordpref:on")), b"", b"on"),
        (sdp(audio("a=recordpref:nopreference")), b"", b"nopreference"),
        (sdp(audio("a=recorder:on", "a=record:onx")), b"", b""),
    ],
)
def test_recording(body: bytes, record: bytes, pref: bytes) -> None:
    found = read(body)
    assert (found.record, found.recordpref) == (record, pref)


def test_a_wish_goes_and_nothing_else() -> None:
    body = sdp(audio("a=record:on", "a=recordpref:on", "a=sendrecv"))
    assert without_recordpref(body) == body.replace(b"a=recordpref:on\r\n", b"")
    for kept in (b"a=recordpref:off\r\n", b"a=recordpref:only\r\n", b"xa=recordpref:on\r\n"):
        assert without_recordpref(kept) == kept
    assert without_recordpref(b"m=audio 1 RTP/AVP 0\r\na=recordpref:on") == b"m=audio 1 RTP/AVP 0\r\n"


def test_a_fax() -> None:
    assert read(sdp("m=image 5000 udptl t38\r\n")).t38
    assert not read(sdp(audio("a=t38"))).t38


@given(st.binary(max_size=300))
def test_rubbish_says_nothing_bad(noise: bytes) -> None:
    assert isinstance(read(noise), Session)
    assert isinstance(read(b"v=0\r\nm=audio 1" + noise), Session)
    assert read(noise.replace(b"m=", b"")) == NONE
