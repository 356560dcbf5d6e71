"""Who calls, as a number: what From and P-Asserted-Identity show, in the form in which calls are counted and kept."""

from __future__ import annotations

import re
from collections.abc import Iterator

from callgate.numbers import read_uri
from callgate.proxy.identity.caller import asserted_of
from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr
from callgate.sip.message import FROM, Message
from callgate.sip.uri import parse_uri

ANONYMOUS = "anonymous"
_NOBODY = frozenset((b"anonymous", b"unavailable", b"unknown", b"restricted", b"private", b""))
_PLAIN = re.compile(r"(?:\+81|0)([2-9][0-9]{8}|[5-9]0[0-9]{8})|\+(?!81)[1-9][0-9]{6,14}", re.ASCII)
"""Numbers whose canonical form can be seen at once: those of Japan without their 0, and foreign ones."""
_NAMED = re.compile(rb'(?:"[^"\\\\]*+"[ \t]*+|[^"<>,;:]*+)<sips?:(\+?[0-9]{3,20})@[^<>"@\x00-\x20]++>')
REMEMBERED, SHORT = 4096, 256
"""So many values of From and P-Asserted-Identity, none of more octets."""


class Callers:
    """The callers of calls. Those that are not plain numbers are remembered: extensions call again."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[str, str]] = {}

    def of(self, request: Message, value: bytes) -> tuple[str, str]:
        """What stands before the @ in From, whose value is given; and the caller's number: E.164 with a plus where one
        can be read, of From, else of P-Asserted-Identity; else the digits or the name that From shows; `anonymous`
        where it shows nobody (RFC 3261 §8.1.1.3, RFC 3323 §4.1.1.3)."""
        user, shown = self._read(value.partition(b";tag=")[0])
        if shown[:1] == "+":
            return user, shown
        for asserted in asserted_of(request) if request.marked else ():
            _, number = self._read(asserted)
            if number[:1] == "+":
                return user, number
        return user, shown

    def _read(self, value: bytes) -> tuple[str, str]:
        named = _NAMED.match(value)
        if named is not None:
            user = named[1].decode("ascii")
            plain = _PLAIN.fullmatch(user)
            if plain is not None:
                return user, f"+81{plain[1]}" if plain[1] else user
        known = self._known.get(value)
        if known is None:
            known = user_of(value), canonical(value)
            if len(value) <= SHORT:
                if len(self._known) >= REMEMBERED:
                    self._known.clear()
                self._known[value] = known
        return known


def user_of(value: bytes) -> str:
    """The user part of an address for the record; empty when it can't be read."""
    try:
        return parse_uri(parse_name_addr(value).uri).user.decode("utf-8", "replace")
    except Malformed:
        return ""


def numbers_shown(request: Message) -> Iterator[str]:
    """Every number that From and P-Asserted-Identity show, E.164."""
    for value in (request.value(FROM), *asserted_of(request)):
        number = canonical(value)
        if number[:1] == "+":
            yield number


def canonical(value: bytes) -> str:
    """The number in the value of an address header; see `Callers.of`. Never raises."""
    try:
        uri = parse_name_addr(value).uri
    except Malformed:
        return ""
    user, at, _ = uri.partition(b":")[2].partition(b"@")
    nobody = user.lower() in _NOBODY or (not at and uri[:3].lower() == b"sip")
    if nobody or uri[-18:].lower() == b"@anonymous.invalid":
        return ANONYMOUS
    return read_uri(uri).canonical
