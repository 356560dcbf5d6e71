"""Header values: lists, name-addr, Via, parameters (RFC 3261 §25.1).

No input makes the regular expressions here try twice: what is repeated is possessive, and where they search, what
begins like a match ends as one (a quote or bracket that is never closed takes all that follows). A possessive group
must not be able to fail half-way: Python up to 3.11.4 then keeps what its last turn took (gh-100061).
"""

from __future__ import annotations

import re

from callgate.sip.errors import Malformed

COOKIE = b"z9hG4bK"
"""Begins every RFC 3261 branch (§8.1.1.7)."""

_ITEM = re.compile(rb'(?:[^,"<]++|"(?:[^"\\]++|\\.?+)*+(?:"|\Z)|<[^>]*+(?:>|\Z))++', re.DOTALL)
_NAME_ADDR = re.compile(rb'[ \t]*+(?:"((?:[^"\\]++|\\.?+)*+)"|([^"<]*+))[ \t]*+<([^>]*+)>(.*+)\Z', re.DOTALL)
_QUOTED = re.compile(rb'"(?:[^"\\]++|\\.?+)*+("|\Z)', re.DOTALL)
_TOKEN = re.compile(rb"[A-Za-z0-9\-.!%*_+`'~]++\Z")
_PLAIN_TAG = re.compile(
    rb'(?:"[^"\\]*+"[ \t]*+|[^"<>,;]*+)<[^"<>\x00-\x20\x7f]++>;tag=([A-Za-z0-9\-.!%*_+`\'~]++)\Z'
)
_NOT_IN_URI = re.compile(rb'["<>\x00-\x20\x7f]')
_PARAM = re.compile(
    rb';[ \t]*+([A-Za-z0-9\-.!%*_+`\'~]++)(?:[ \t]*+=[ \t]*+("(?:[^"\\]++|\\.?+)*+"|[^;,"]*+))?', re.DOTALL
)
_VIA = re.compile(
    rb"SIP[ \t]*+/[ \t]*+2\.0[ \t]*+/[ \t]*+([A-Za-z0-9\-.!%*_+`'~]++)[ \t]++"
    rb"(\[[0-9A-Fa-f:.]++\]|[0-9A-Fa-f]*+:[0-9A-Fa-f]*+:[0-9A-Fa-f:.]*+|[A-Za-z0-9\-._]++)"
    rb"(?:[ \t]*+:[ \t]*+([0-9]{1,5}+))?[ \t]*+"
    rb'((?:;(?:[^,"]++|"(?:[^"\\]++|\\.?+)*+")*)?)',
    re.IGNORECASE | re.DOTALL,
)


def unfold(value: bytes) -> bytes:
    """A folded value on one line (RFC 3261 §7.3.1)."""
    return b" ".join([part.strip(b" \t") for part in value.split(b"\r\n")])


def split_list(value: bytes) -> list[bytes]:
    """A comma list's values, trimmed; never split inside quotes or <> (RFC 3261 §7.3.1)."""
    if b"," not in value:
        return [value]
    items = [item.strip(b" \t") for item in _ITEM.findall(value)]
    return [item for item in items if item]


class NameAddr:
    """`"display" <uri>;params` or `uri;params` (RFC 3261 §20.10): each part as it was written."""

    __slots__ = ("display", "params", "uri")

    def __init__(self, display: bytes, uri: bytes, params: bytes) -> None:
        self.display = display
        self.uri = uri
        self.params = params

    def param(self, name: bytes) -> bytes | None:
        return param(self.params, name)


def parse_name_addr(value: bytes) -> NameAddr:
    """Raises Malformed."""
    found = _NAME_ADDR.match(value)
    if found is not None:
        return NameAddr(found[1] if found[1] is not None else found[2].strip(b" \t"), found[3], found[4])
    if b"<" in value or b'"' in value:
        raise Malformed("an address whose quotes or brackets do not match")
    # Without <> every parameter belongs to the header, not to the URI (§20.10).
    uri, semicolon, rest = value.partition(b";")
    return NameAddr(b"", uri.strip(b" \t"), semicolon + rest)


def tag_of(value: bytes) -> bytes:
    """The tag of a From or To value; empty when it has none.

    Raises Malformed where two readers could take it for two things: more than one address, blanks in the URI (RFC
    4475 §3.1.2.14), a comma or semicolon in a name without quotes (§3.1.2.15), a tag that is none, two tags.
    What the URI's scheme is, and what its user, is nobody's business here.
    """
    found = _PLAIN_TAG.match(value)
    if found is not None:
        return found[1]
    address = _NAME_ADDR.match(value)
    if address is not None:
        name, uri, rest = address[2], address[3], address[4].strip(b" \t")
        if name and (b"," in name or b";" in name):
            raise Malformed("a name with a comma or semicolon and without quotes")
        if rest and rest[:1] != b";":
            raise Malformed("an address with something behind it")
    else:
        uri, semicolon, rest = value.partition(b";")  # §20.10: every parameter belongs to the header
        uri, rest = uri.strip(b" \t"), semicolon + rest
        if b"<" in uri or b'"' in uri:
            raise Malformed("an address whose quotes or brackets do not match")
        if b"," in uri:
            raise Malformed("more than one address where one belongs")
    if not uri or _NOT_IN_URI.search(uri):
        raise Malformed("an address whose URI can't be read")
    return _tag(rest) if rest else b""


def _tag(params: bytes) -> bytes:
    if b'"' in params:
        if any(not found[1] for found in _QUOTED.finditer(params)):
            raise Malformed("an address whose quotes or brackets do not match")
        params = _QUOTED.sub(b"", params)
    if b"," in params or b"<" in params or b">" in params:
        raise Malformed("more than one address where one belongs")
    tag = b""
    for part in params.split(b";"):
        name, _, given = part.partition(b"=")
        if name.strip(b" \t").lower() == b"tag":
            given = given.strip(b" \t")
            if tag or _TOKEN.match(given) is None:
                raise Malformed("a tag that can't be read, or two")
            tag = given
    return tag


def param(params: bytes, name: bytes) -> bytes | None:
    """A parameter's value (unquoted), empty for a flag, None when absent; names compare without case."""
    if name not in params.lower():
        return None
    for found in _PARAM.finditer(params):
        if found[1].lower() == name:
            value = found[2]
            if value is None:
                return b""
            value = value.strip(b" \t")
            if value[:1] == b'"':
                return re.sub(rb"\\(.)", rb"\1", value[1:-1], flags=re.DOTALL)
            return value
    return None


def params_of(params: bytes) -> list[tuple[bytes, bytes | None]]:
    """All parameters in order: (name in lower case, value as written or None for a flag)."""
    return [(f[1].lower(), f[2].strip(b" \t") if f[2] is not None else None) for f in _PARAM.finditer(params)]


class Via:
    """One Via value (RFC 3261 §20.42). `text` is the value as written, `rest` what follows its comma;
    `port` is 0 where none was written."""

    __slots__ = ("branch", "host", "params", "port", "rest", "rport", "sent_by", "text", "transport")

    text: bytes
    transport: bytes
    host: bytes
    port: int
    params: bytes
    rest: bytes
    branch: bytes
    rport: bool
    sent_by: bytes


def parse_via(value: bytes) -> Via:
    """The first value of a Via line. Raises Malformed."""
    found = _VIA.match(value)
    if found is None:
        raise Malformed("a Via that can't be read")
    rest = value[found.end() :]
    if rest and rest[:1] != b",":
        raise Malformed("a Via that can't be read")
    via = Via()
    via.text = found[0].rstrip(b" \t")
    transport, via.host, port, params = found.groups()
    via.transport = transport.upper()
    via.host = via.host.lower()
    via.port = int(port) if port else 0
    if via.port > 65535:
        raise Malformed("a Via with a port above 65535")
    via.sent_by = b"%b:%d" % (via.host, via.port) if via.port else via.host
    via.params = params
    via.rest = rest[1:].strip(b" \t")
    via.branch = b""
    via.rport = False
    end = 0
    for found in _PARAM.finditer(params):
        if found.start() != end and params[end : found.start()].strip(b" \t"):
            break
        end = found.end()
        name = found[1].lower()
        if name == b"branch":
            if via.branch:
                raise Malformed("a Via with two branches")
            via.branch = (found[2] or b"").strip(b" \t")
        elif name == b"rport":
            via.rport = True
    if params[end:].strip(b" \t"):  # what is no parameter stands between them (RFC 4475 §3.1.2.1)
        raise Malformed("a Via that can't be read")
    return via
