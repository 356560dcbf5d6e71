"""SIP, SIPS, tel and urn URIs (RFC 3261 §19.1, RFC 3966, RFC 5031): read, never rewritten."""

from __future__ import annotations

import re

from callgate.sip.errors import Malformed
from callgate.sip.fields import param

_SIP = re.compile(
    rb"(sips?):(?:([^@\s<>\"]*+)@)?"
    rb"(\[[0-9A-Fa-f:.]++\]|[A-Za-z0-9\-._]++)(?::([0-9]{1,5}+))?"
    rb"((?:;[^?\s<>\"]*+)?)((?:\?[^\s<>\"]*+)?)\Z",
    re.IGNORECASE,
)
_OTHER = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*+):([^\s<>\"]++)\Z")


class Uri:
    """A URI's parts as they were written. `scheme` and `host` are in lower case.

    For tel: and other schemes `user` is all that follows the colon and `host` is empty. `port` is 0 where none
    was written. `params` begins with its `;`, `headers` with its `?`.
    """

    __slots__ = ("headers", "host", "params", "port", "raw", "scheme", "user")

    def __init__(
        self, raw: bytes, scheme: bytes, user: bytes, host: bytes, port: int, params: bytes, headers: bytes
    ) -> None:
        self.raw = raw
        self.scheme = scheme
        self.user = user
        self.host = host
        self.port = port
        self.params = params
        self.headers = headers

    def param(self, name: bytes) -> bytes | None:
        """A URI parameter's value, empty for a flag, None when absent."""
        return param(self.params, name)

    @property
    def bare_host(self) -> str:
        """The host without the brackets of an IPv6 reference."""
        return self.host.strip(b"[]").decode("ascii")

    @property
    def default_port(self) -> int:
        """The port, where none was written 5061 for TLS and else 5060 (RFC 3261 §19.1.2)."""
        if self.port:
            return self.port
        if self.scheme == b"sips" or (self.params and (self.param(b"transport") or b"").lower() == b"tls"):
            return 5061
        return 5060


def parse_uri(raw: bytes) -> Uri:
    """Raises Malformed."""
    found = _SIP.match(raw)
    if found is not None:
        scheme, user, host, port, params, headers = found.groups()
        number = int(port) if port else 0
        if number > 65535:
            raise Malformed("a URI with a port above 65535")
        return Uri(raw, scheme.lower(), user or b"", host.lower(), number, params, headers)
    other = _OTHER.match(raw)
    if other is None or other[1].lower() in (b"sip", b"sips"):
        raise Malformed("a URI that can't be read")
    return Uri(raw, other[1].lower(), other[2], b"", 0, b"", b"")
