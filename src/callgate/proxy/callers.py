"""Who calls, as a number: what From and P-Asserted-Identity show, in the form in which calls are counted and kept."""

from __future__ import annotations

import re
from collections.abc import Iterator

from callgate.numbers import read_uri
from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr, split_list
from callgate.sip.message import FROM, Message, header_value

ANONYMOUS = "anonymous"
_NOBODY = frozenset((b"anonymous", b"unavailable", b"unknown", b"restricted", b"private", b""))
_PLAIN = re.compile(r"(?:\+81|0)([2-9][0-9]{8}|[5-9]0[0-9]{8})|\+(?!81)[1-9][0-9]{6,14}", re.ASCII)
"""Numbers whose canonical form can be seen at once: those of Japan without their 0, and foreign ones."""
REMEMBERED, SHORT = 4096, 256
"""So many values of From, none of more octets."""
_ASSERTED = b"p-asserted-identity"


class Callers:
    """The canonical callers of calls. Those that are not plain numbers are remembered: extensions call again."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, str] = {}

    def of(self, request: Message, user: str) -> str:
        """The caller's number: E.164 with a plus where one can be read, of From, else of P-Asserted-Identity; else the
        digits or the name that From shows; `anonymous` where it shows nobody (RFC 3261 §8.1.1.3, RFC 3323 §4.1.1.3).
        `user` is what stands in From before the @."""
        plain = _PLAIN.fullmatch(user)
        if plain is not None:
            return f"+81{plain[1]}" if plain[1] else user
        value = request.value(FROM).partition(b";tag=")[0]
        shown = self._known.get(value)
        if shown is None:
            shown = canonical(value)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            if len(value) <= SHORT:
                self._known[value] = shown
        if shown[:1] == "+":
            return shown
        return next((n for n in _asserted(request) if n[:1] == "+"), shown)


def numbers_shown(request: Message) -> Iterator[str]:
    """Every number that From and P-Asserted-Identity show, E.164."""
    for number in (canonical(request.value(FROM)), *_asserted(request)):
        if number[:1] == "+":
            yield number


def _asserted(request: Message) -> Iterator[str]:
    for i in request.find(_ASSERTED):
        for value in split_list(header_value(request.lines[i])):
            yield canonical(value)


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
