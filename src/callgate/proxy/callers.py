"""Who calls, as a number: what From and P-Asserted-Identity show, in the form in which calls are counted and kept."""

from __future__ import annotations

from collections.abc import Iterator

from callgate.numbers import read_uri
from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr, split_list
from callgate.sip.message import FROM, Message, header_value

ANONYMOUS = "anonymous"
_NOBODY = frozenset((b"anonymous", b"unavailable", b"unknown", b"restricted", b"private", b""))
_ASSERTED = b"p-asserted-identity"


def canonical_caller(request: Message) -> str:
    """The caller's number: E.164 with a plus where one can be read, of From, else of P-Asserted-Identity; else the
    digits or the name that From shows; `anonymous` where it shows nobody (RFC 3261 §8.1.1.3, RFC 3323 §4.1.1.3)."""
    shown = canonical(request.value(FROM))
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
    """The number in the value of an address header; see `canonical_caller`. Never raises."""
    try:
        uri = parse_name_addr(value).uri
    except Malformed:
        return ""
    user = uri.partition(b":")[2].partition(b"@")[0].lower()
    if user in _NOBODY or uri[-18:].lower() == b"@anonymous.invalid":
        return ANONYMOUS
    return read_uri(uri).canonical
