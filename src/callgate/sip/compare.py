"""When two URIs are the same (RFC 3261 §19.1.4)."""

from __future__ import annotations

import re

from callgate.sip.fields import params_of
from callgate.sip.uri import Uri

_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")
_TELLING = frozenset((b"user", b"ttl", b"method", b"maddr", b"transport"))
"""Parameters that must stand in both URIs or in none; all others count only where both have them."""


def unescape(text: bytes) -> bytes:
    """`%31` is `1`: an escaped character is equivalent to itself."""
    return _ESCAPED.sub(lambda found: bytes((int(found[1], 16),)), text) if b"%" in text else text


class Comparable:
    """A URI made ready to be compared, however often. Not transitive, so it is no key of a table: `;a=1` and `;a=2`
    both equal the URI without `a`."""

    __slots__ = ("_head", "_headers", "_params")

    def __init__(self, uri: Uri) -> None:
        # The user part is compared with its case, all else without.
        self._head = (uri.scheme, unescape(uri.user), uri.host, uri.port)
        self._params: dict[bytes, bytes] = {}
        for name, value in params_of(uri.params):
            self._params.setdefault(name, unescape(value or b"").lower())
        self._headers = sorted(unescape(part).lower() for part in uri.headers[1:].split(b"&") if part)

    def same(self, other: Comparable) -> bool:
        """Whether both name the same place."""
        if self._head != other._head or self._headers != other._headers:
            return False
        mine, theirs = self._params, other._params
        if mine == theirs:
            return True
        for name in mine.keys() | theirs.keys():
            if name in mine and name in theirs:
                if mine[name] != theirs[name]:
                    return False
            elif name in _TELLING:
                return False
        return True
