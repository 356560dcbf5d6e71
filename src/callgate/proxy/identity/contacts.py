"""What a REGISTER asks for: the contacts of its Contact header (RFC 3261 §10.2, RFC 5626 §4) and its Path (RFC 3327).

All of it is other people's text that the gate keeps and sends out again: what has no sound form is refused, and how
long it may be is bounded.
"""

from __future__ import annotations

import re

from callgate.sip.compare import Comparable
from callgate.sip.errors import Malformed
from callgate.sip.fields import param, params_of, parse_name_addr
from callgate.sip.message import CONTACT, Message
from callgate.sip.uri import Uri, parse_uri

CONTACT_MAX = 1000
"""Octets of one contact, its parameters included."""
PATH_MAX = 2000
"""Octets of a Path, all its values together."""
LONGEST = (1 << 32) - 1
"""Seconds: what a larger `expires` counts as (RFC 3261 §20.19)."""
MALFORMED_SECONDS = 3600
"""What an `expires` that is no number counts as (RFC 3261 §10.2.1.1)."""
NOT_ASKED = frozenset((b"method", b"bnc"))
"""URI parameters that no Request-URI may hold (RFC 3261 §19.1.1, RFC 6140 §5.2)."""

_PLAIN = re.compile(rb"[\x21-\x7e]+\Z")
_TEXT = re.compile(rb"[\t\x20-\x7e\x80-\xff]*\Z")
_Q = re.compile(rb"(?:0(?:\.([0-9]{0,3}))?|1(?:\.0{0,3})?)\Z")


class Contact:
    """One contact. `value` is the name-addr as it is listed, without `expires`; `q` is in thousandths. `instance`
    and `reg_id` are those of RFC 5626 §4.1, empty and 0 where there are none. `same` compares the URI."""

    __slots__ = ("instance", "key", "q", "reg_id", "uri", "value")

    def __init__(self, value: bytes) -> None:
        """Reads a Contact value. Raises Malformed with a sentence for the PBX's log."""
        found = parse_name_addr(value)
        uri = parse_uri(found.uri)
        if uri.scheme not in (b"sip", b"sips"):
            raise Malformed("a contact that is no SIP URI")
        params = [(name, given) for name, given in params_of(found.params) if name != b"expires"]
        written = b"".join(b";%b" % (n if v is None else n + b"=" + v) for n, v in params)
        if len(uri.raw) + len(written) > CONTACT_MAX:
            raise Malformed(f"a contact of more than {CONTACT_MAX} octets")
        if _PLAIN.match(uri.raw) is None or _TEXT.match(written) is None:
            raise Malformed("a contact with characters that no URI may hold")
        self.uri = uri
        self.value = b"<%b>%b" % (uri.raw, written)
        self.key = Comparable(uri)
        self.q = _thousandths(param(written, b"q"))
        self.instance = param(written, b"+sip.instance") or b""
        reg_id = param(written, b"reg-id") or b""
        self.reg_id = int(reg_id) if reg_id.isdigit() and len(reg_id) < 10 and self.instance else 0

    def same_as(self, other: Contact) -> bool:
        return self.key.same(other.key)

    def request_uri(self, number: str) -> bytes:
        """The contact as the Request-URI of a call for a number of the key (RFC 3261 §16.6 step 2): as it was written,
        but without headers, which nobody is asked to honour (§19.1.5), and without what no Request-URI may hold. A
        contact for all numbers of a PBX gets the very number before its host (RFC 6140 §7.1.1)."""
        uri = self.uri
        raw = uri.raw[: len(uri.raw) - len(uri.headers)]
        params = params_of(uri.params)
        if not any(name in NOT_ASKED for name, _ in params):
            return raw
        left = [name if v is None else name + b"=" + v for name, v in params if name not in NOT_ASKED]
        scheme, _, rest = raw[: len(raw) - len(uri.params)].partition(b":")
        if self.bulk:
            rest = number.encode() + b"@" + rest
        return b";".join([scheme + b":" + rest, *left])

    @property
    def bulk(self) -> bool:
        """RFC 6140: it stands for every number of its PBX."""
        return self.uri.param(b"bnc") is not None


def _thousandths(q: bytes | None) -> int:
    """A `q` (RFC 3261 §25.1: 0 to 1 with three digits at most); 1 where there is none."""
    if q is None:
        return 1000
    found = _Q.match(q)
    if found is None:
        raise Malformed("a q that is not a number from 0 to 1")
    return 1000 if q[:1] == b"1" else int((found[1] or b"").ljust(3, b"0"))


def seconds_of(text: bytes) -> int:
    """`expires` in seconds."""
    if not text.isdigit():
        return MALFORMED_SECONDS
    return min(LONGEST, int(text)) if len(text) <= 10 else LONGEST


class Wish:
    """One contact of a REGISTER and how long it is wanted, in seconds; 0: not any more; None: it does not say."""

    __slots__ = ("contact", "seconds")

    def __init__(self, contact: Contact, seconds: int | None) -> None:
        self.contact = contact
        self.seconds = seconds


def wishes(request: Message, values: list[bytes]) -> list[Wish]:
    """What the Contact values of a REGISTER ask for. Of one that stands there twice the last one counts. Raises
    Malformed."""
    header = request.header(b"expires")
    general = seconds_of(header) if request.find(b"expires") else None
    found: list[Wish] = []
    for value in values:
        given = param(parse_name_addr(value).params, b"expires")
        wish = Wish(Contact(value), seconds_of(given) if given is not None else general)
        found = [other for other in found if not wish.contact.same_as(other.contact)]
        found.append(wish)
    return found


def contact_values(request: Message) -> list[bytes]:
    """Every Contact value; an empty Contact header is a fault (RFC 3261 §25.1). Raises Malformed."""
    values = request.values(CONTACT)
    if not values and CONTACT in request.at:
        raise Malformed("an empty Contact")
    return values


class Path:
    """The Path of a REGISTER: `value` is what goes into Route, `uris` its URIs, the nearest to us first."""

    __slots__ = ("uris", "value")

    def __init__(self, values: list[bytes]) -> None:
        """Raises Malformed."""
        self.value = b", ".join(values)
        if len(self.value) > PATH_MAX:
            raise Malformed(f"a Path of more than {PATH_MAX} octets")
        if _TEXT.match(self.value) is None:
            raise Malformed("a Path with characters that no URI may hold")
        self.uris: list[Uri] = []
        for value in values:
            if value[-1:] != b">" and b">" not in value:
                raise Malformed("a Path without <>")  # RFC 3327 §4: a name-addr
            uri = parse_uri(parse_name_addr(value).uri)
            if uri.scheme not in (b"sip", b"sips") or uri.param(b"lr") is None:
                raise Malformed("a Path that is no loose route")
            self.uris.append(uri)
