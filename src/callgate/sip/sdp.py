"""What the gate reads of a session description (RFC 8866): is the other side on hold, is the call recorded, is it a
fax.

Nothing is rewritten but one line (`without_recordpref`). A body may be multipart (RFC 2046): then its SDP part counts.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

SDP: Final = b"application/sdp"

_MEDIA = re.compile(rb"^m=([a-z]+)[ \t]+([0-9]+)[^\r\n]*", re.MULTILINE)
_CONNECTION = re.compile(rb"^c=IN[ \t]+IP[46][ \t]+([^ \t\r\n/]+)", re.MULTILINE)
_DIRECTION = re.compile(rb"^a=(sendrecv|sendonly|recvonly|inactive)[ \t]*\r?$", re.MULTILINE)
# RFC 7866 §7.1 gives the values as strings of ABNF, which have no case; the name of an attribute has one.
_RECORD = re.compile(rb"^a=record:[ \t]*((?i:on|off|paused))[ \t]*\r?$", re.MULTILINE)
_RECORDPREF = re.compile(rb"^a=recordpref:[ \t]*((?i:on|off|pause|nopreference))[ \t]*\r?$", re.MULTILINE)
_RECORDPREF_ON = re.compile(rb"^a=recordpref:[ \t]*(?i:on)[ \t]*\r?(?:\n|\Z)", re.MULTILINE)
T38: Final = re.compile(
    rb"^m=image[ \t]+[0-9/]+[ \t]+[^ \t\r\n]+[^\r\n]*[ \t]t38\b", re.IGNORECASE | re.MULTILINE
)
"""A media line that offers T.38 (RFC 3362, ITU-T T.38 annex D)."""

NOWHERE: Final = (b"0.0.0.0", b"::")
"""Where nobody is to send anything: a hold as RFC 2543 had it (RFC 3264 §8.4)."""
HOLDS: Final = (b"sendonly", b"inactive")
"""Directions by which the sender of an SDP puts the other side on hold (RFC 3264 §8.4)."""


class Session(NamedTuple):
    """`holds`: whoever wrote it does not take what the other side says, in every stream of sound. `record` and
    `recordpref`: the words of RFC 7866 §7.1 in lower case, empty where they are not said. `t38`: a fax."""

    holds: bool = False
    record: bytes = b""
    recordpref: bytes = b""
    t38: bool = False


NONE: Final = Session()


def has_sdp(body: bytes) -> bool:
    """Whether it is worth looking."""
    return b"\nm=" in body


def read(body: bytes) -> Session:
    """What a body says; `NONE` where there is no SDP in it. Rubbish says nothing."""
    if not has_sdp(body):
        return NONE
    parts = _sections(body)
    session, media = parts[0], parts[1:]
    sound = [each for each in media if each.startswith(b"m=audio") and not _refused(each)]
    holds = bool(sound) and all(_holds(each, session) for each in sound)
    return Session(holds, _strongest(_RECORD, parts), _strongest(_RECORDPREF, parts), bool(T38.search(body)))


def without_recordpref(body: bytes) -> bytes:
    """The body without its wish to be recorded (I1), all else as it was."""
    return _RECORDPREF_ON.sub(b"", body)


def _sections(body: bytes) -> list[bytes]:
    """What stands before the first medium, then one part for each medium."""
    starts = [found.start() for found in _MEDIA.finditer(body)]
    ends = [*starts[1:], len(body)]
    return [body[: starts[0]] if starts else body, *(body[a:b] for a, b in zip(starts, ends, strict=True))]


def _refused(medium: bytes) -> bool:
    found = _MEDIA.match(medium)
    return found is not None and not int(found[2][:6])


def _holds(medium: bytes, session: bytes) -> bool:
    direction = _DIRECTION.search(medium) or _DIRECTION.search(session)
    if direction is not None and direction[1] in HOLDS:
        return True
    where = _CONNECTION.search(medium) or _CONNECTION.search(session)
    return where is not None and where[1] in NOWHERE


def _strongest(what: re.Pattern[bytes], parts: list[bytes]) -> bytes:
    """`on` if any part says so, else the first that is said."""
    said = [found[1].lower() for part in parts for found in what.finditer(part)]
    return b"on" if b"on" in said else said[0] if said else b""
