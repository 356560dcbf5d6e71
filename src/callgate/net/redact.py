"""What must not be in a copy of a message: passwords' digests, and the headers that prove who a key is.

A copy is made of whatever came, so this reads more than SIP allows: any case, blanks and folds before the colon, line
ends of one octet, a header inside a body, one in a URI (RFC 3261 §19.1.1), escaped or not. Taking out too much of a
malformed message is no loss.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

INSTEAD: Final = b"redacted by=callgate"
"""Stands for a value: `other-response` of RFC 3261 §25.1, so that it still parses."""
CREDENTIALS: Final = ("authorization", "proxy-authorization")
PROOFS: Final = ("authentication-info", "proxy-authentication-info")
"""`rspauth` in them is made of the password too."""
NO_PROOF: Final = b'rspauth=""'

_END_OF_HEAD = re.compile(rb"\r?\n\r?\n|\r\r")
_IN_LINE = re.compile(rb"[^\r\n]")
# A value goes on over a fold, and over a lone CR or LF (which end no line, RFC 3261 §7.3.1) unless there the next
# header seems to begin.
_VALUE = rb"(?:[^\r\n]++|\r\n(?=[ \t])|(?:\n|\r(?!\n))(?![A-Za-z0-9.!%*_+`'~-]++[ \t]*+:|[\r\n]|\Z))*+"


def _spelt(name: str) -> bytes:
    """A name in a URI, any letter of it escaped."""
    letters = [(re.escape(char), ord(char), ord(char.upper())) for char in name]
    return "".join(f"(?:{char}|%{low:02x}|%{high:02x})" for char, low, high in letters).encode("ascii")


class Redaction:
    """Call it with a message. `secret` are names of headers besides those of HTTP authentication."""

    def __init__(self, secret: Iterable[str] = ()) -> None:
        self.names: Final = frozenset(name.lower() for name in (*CREDENTIALS, *PROOFS, *secret))
        inside = [name for name in self.names if not any(one in name for one in self.names - {name})]
        self._inside = [name.encode("ascii") for name in inside]  # every name has one of these in it
        names = b"|".join(re.escape(name.encode("ascii")) for name in sorted(self.names))
        spelt = b"|".join(map(_spelt, sorted(self.names)))
        self._search = re.compile(
            rb"([\r\n][ \t]*+(%b)(?:[ \t]|\r?\n(?=[ \t]))*+:[ \t]*+)(%b)|([?&](?:%b)=)([^&>\s]++)"
            % (names, _VALUE, spelt),
            re.IGNORECASE,
        ).sub

    def __call__(self, data: bytes) -> bytes:
        """The message without secrets. Its body keeps its length; nothing else of it changes."""
        lower = data.lower()
        for name in self._inside:
            if name in lower:
                break
        else:
            if b"%" not in lower:
                return data  # most messages: the search below costs fifty times as much
        end = _END_OF_HEAD.search(data)
        if end is None:
            return self._search(_replaced, data)
        # The last line end of the head is the body's first, as a header in a body begins after one.
        head, body = data[: end.end() - 1], data[end.end() - 1 :]
        return self._search(_replaced, head) + self._search(_blotted, body)


def _replaced(match: re.Match[bytes]) -> bytes:
    before, name, _, in_uri, _ = match.groups()
    if in_uri is not None:
        return bytes(in_uri) + b"redacted"
    return bytes(before) + (NO_PROOF if name.lower().decode("ascii") in PROOFS else INSTEAD)


def _blotted(match: re.Match[bytes]) -> bytes:
    before, _, value, in_uri, in_uri_value = match.groups()
    if in_uri is not None:
        before, value = in_uri, in_uri_value
    return bytes(before) + _IN_LINE.sub(b"x", value)
