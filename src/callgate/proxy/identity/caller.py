"""Rule I19: the numbers that a key's calls may show as their caller's.

A number that is shown is one of the key's `caller_ids`, however it is written; a name shows none. Whatever somebody
might take for a number is no name: digits with letters behind them, many digits among letters, a host of digits.
"""

from __future__ import annotations

from enum import Enum
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from unicodedata import normalize

from callgate.numbers import read_uri
from callgate.numbers.text import decode
from callgate.proxy.answer import Refusal
from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr, split_list, tag_of
from callgate.sip.message import Message, header_value
from callgate.sip.uri import Uri, parse_uri

if TYPE_CHECKING:
    from callgate.proxy.peers import Key, Numbers

ASSERTED: Final = b"p-asserted-identity"
WRONG_CALLER = Refusal("I19", "the caller id is none of those that this key may show", 403)
NO_CALLER = Refusal("I19", "no caller id: neither From nor P-Asserted-Identity holds a number", 403)

DIGITS_OF_A_NAME = 6
"""More than any extension has, and fewer than any telephone number."""


class Shown(Enum):
    """What an address shows of a caller."""

    ALLOWED = "a number that stands in the list"
    NAME = "no number"
    WRONG = "another number, or what might be taken for one"


def shown(value: bytes, allowed: Numbers[Key]) -> Shown:
    """What one value of From or P-Asserted-Identity shows."""
    try:
        tag_of(value)  # two readers take it for the same
        address = parse_name_addr(value)
        found = _judge(address.uri, allowed)
        if address.params and b"<" not in value and found is Shown.ALLOWED:
            # Without <> the parameters belong to the header (RFC 3261 §20.10), but who keeps to that? A
            # phone-context would make it another number.
            found = _judge(b"".join(value.split()), allowed)
    except Malformed:
        return Shown.WRONG
    return found


def _judge(uri: bytes, allowed: Numbers[Key]) -> Shown:
    parsed = parse_uri(uri)
    number = read_uri(uri)
    if number.cls == "sip_uri" or (parsed.host and not parsed.user):
        return Shown.NAME if _is_name(parsed) else Shown.WRONG
    known = number.carrier_prefix is None and allowed.get(number.canonical) is not None
    return Shown.ALLOWED if known else Shown.WRONG


def _is_name(uri: Uri) -> bool:
    """Whether nobody could take the user of a URI for a number, nor its host where it has no user."""
    if not uri.user:
        return _is_host(uri)
    text = decode(uri.user)
    if not isinstance(text, str):
        return False
    text = normalize("NFKC", text)
    return text[:1].isalpha() and sum(map(str.isnumeric, text)) <= DIGITS_OF_A_NAME


def _is_host(uri: Uri) -> bool:
    """An address, or a name whose last label begins with a letter (RFC 3261 §25.1: toplabel)."""
    try:
        ip_address(uri.bare_host)
    except ValueError:
        return uri.bare_host.rstrip(".").rpartition(".")[2][:1].isalpha()
    return True


def judge_caller(values: list[bytes], allowed: Numbers[Key]) -> Refusal | None:
    """Whether a new call may show these: every number among them is allowed, and there is one. A name (`anonymous`)
    is fine beside it."""
    found = {shown(value, allowed) for value in values}
    if Shown.WRONG in found:
        return WRONG_CALLER
    return None if Shown.ALLOWED in found else NO_CALLER


def asserted_of(request: Message) -> list[bytes]:
    """The identities that it asserts."""
    return [v for i in request.noted(ASSERTED) for v in split_list(header_value(request.lines[i]))]


def without_others(line: bytes, allowed: Numbers[Key]) -> bytes | None:
    """A P-Asserted-Identity line without what may not be shown: as it was where that is nothing, None where nothing
    is left."""
    values = split_list(header_value(line))
    kept = [value for value in values if shown(value, allowed) is not Shown.WRONG]
    if len(kept) == len(values):
        return line
    return b"P-Asserted-Identity: " + b", ".join(kept) if kept else None


def own_again(line: bytes, own: bytes, tag: bytes, allowed: Numbers[Key]) -> bytes:
    """The From line of a request inside a dialog: itself, or where it shows what it may not (RFC 4916 lets it
    change), the URI `own` that the dialog began with."""
    value = header_value(line)
    try:
        uri = parse_name_addr(value).uri
        began = parse_name_addr(own).uri
    except Malformed:
        return line
    if uri == began or shown(value, allowed) is not Shown.WRONG:
        return line
    return b"From: <%b>;tag=%b" % (began, tag)
