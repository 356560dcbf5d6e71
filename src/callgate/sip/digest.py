"""Digest authentication (RFC 3261 §22, RFC 7616, RFC 8760): reading, writing and arithmetic of both sides.

Nothing here keeps state. Values are bytes with their quotes and escapes taken off, and the hashes are over just
these values. A client answers `auth`, or a challenge without `qop` as RFC 2069 had it; `auth-int` is not answered
and never offered. Header values are taken unfolded, as `message.header_value` gives them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable
from urllib.parse import unquote_to_bytes

from callgate.sip.errors import Malformed
from callgate.sip.message import Message, header_value


class Algorithm:
    """A hash function as the `algorithm` parameter names it; `digits` hex digits long, the higher `strength` the
    better."""

    __slots__ = ("_new", "digits", "name", "strength")

    def __init__(
        self, name: bytes, strength: int, digits: int, new: Callable[[bytes], hashlib._Hash]
    ) -> None:
        self.name = name
        self.strength = strength
        self.digits = digits
        self._new = new

    def hex(self, data: bytes) -> bytes:
        return self._new(data).hexdigest().encode("ascii")


def _md5(data: bytes) -> hashlib._Hash:
    return hashlib.md5(data, usedforsecurity=False)  # a machine in FIPS mode refuses it otherwise


def _sha512_256(data: bytes) -> hashlib._Hash:
    return hashlib.new("sha512_256", data)


MD5 = Algorithm(b"MD5", 1, 32, _md5)
SHA_256 = Algorithm(b"SHA-256", 2, 64, hashlib.sha256)
SHA_512_256 = Algorithm(b"SHA-512-256", 3, 64, _sha512_256)
ALGORITHMS = {a.name: a for a in (SHA_512_256, SHA_256, MD5)}
"""Those of RFC 8760 §2.1, the strongest first."""

_TOKEN = rb"[A-Za-z0-9\-.!%*_+`'~]++"
_PARAM = re.compile(
    # A scheme's name before the first parameter of a challenge, then the parameter and its comma.
    rb"(?:(" + _TOKEN + rb")[ \t]++)?(" + _TOKEN + rb")[ \t]*+=[ \t]*+"
    rb'("(?:[^"\\]++|\\.?+)*+"|[^",]*+)[ \t]*+(?:,|\Z)',
    re.DOTALL,
)
_UNREADABLE = re.compile(rb'(?:[^,"]++|"(?:[^"\\]++|\\.?+)*+(?:"|\Z))*+(?:,|\Z)', re.DOTALL)
_DIGEST = re.compile(rb"digest(?=[ \t]|\Z)", re.IGNORECASE)
_BETWEEN = re.compile(rb"[ \t,]*+")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_SPECIAL = re.compile(rb'(["\\])')
_HEX = re.compile(rb"[0-9A-Fa-f]+\Z")
_EXTENDED = re.compile(rb"(?i:utf-8)'[A-Za-z0-9\-]*'((?:[A-Za-z0-9!#$&+\-.^_`|~]|%[0-9A-Fa-f]{2})*)\Z")


def _plain(value: bytes) -> bytes:
    """A parameter's value: quotes and escapes off (RFC 3261 §25.1)."""
    if value[:1] != b'"':
        return value.rstrip(b" \t")
    value = value[1:-1]
    return _ESCAPED.sub(rb"\1", value) if b"\\" in value else value


def quoted(value: bytes) -> bytes:
    """The value as a quoted-string."""
    return b'"' + _SPECIAL.sub(rb"\\\1", value) + b'"'


def _named(name: bytes) -> tuple[Algorithm | None, bool]:
    """The algorithm that a parameter names, None for one that we do not know, and whether it is the `-sess` one.
    Absent means MD5 (RFC 7616 §3.3)."""
    upper = name.upper() or b"MD5"
    sess = upper.endswith(b"-SESS")
    return ALGORITHMS.get(upper.removesuffix(b"-SESS")), sess


class Challenge:
    """One `Digest` challenge. `algorithm` is its name as written, empty where there was none; `hash` what we
    compute it with, None where we can't; `proxy` whether it came in Proxy-Authenticate."""

    __slots__ = ("algorithm", "hash", "nonce", "opaque", "proxy", "qop", "realm", "sess", "stale")

    def __init__(self, params: dict[bytes, bytes], *, proxy: bool) -> None:
        self.proxy = proxy
        self.realm = params[b"realm"]
        self.nonce = params[b"nonce"]
        self.opaque = params.get(b"opaque")
        self.algorithm = params.get(b"algorithm", b"")
        self.hash, self.sess = _named(self.algorithm)
        qop = params.get(b"qop")
        self.qop = None if qop is None else tuple(q.strip(b" \t").lower() for q in qop.split(b","))
        self.stale = params.get(b"stale", b"").lower() == b"true"

    @property
    def answerable(self) -> bool:
        """Whether we can compute what it asks for."""
        return self.hash is not None and (self.qop is None or b"auth" in self.qop)


def parse_challenges(values: Iterable[bytes], *, proxy: bool) -> list[Challenge]:
    """The `Digest` challenges of WWW-Authenticate (`proxy`: Proxy-Authenticate) values, in order. Each may hold
    several. Other schemes, and what can't be read or lacks realm or nonce, are left out."""
    found: list[Challenge] = []
    for value in values:
        for scheme, pairs in _schemes(value):
            params = dict(pairs)
            whole = len(params) == len(pairs) and b"realm" in params and b"nonce" in params
            if scheme.lower() == b"digest" and whole:
                found.append(Challenge(params, proxy=proxy))
    return found


def _schemes(value: bytes) -> list[tuple[bytes, list[tuple[bytes, bytes]]]]:
    """The schemes of one value with their parameters (names in lower case, values plain)."""
    found: list[tuple[bytes, list[tuple[bytes, bytes]]]] = []
    at = _next(value, 0)
    while at < len(value):
        param = _PARAM.match(value, at)
        if param is not None:
            if param[1] is not None:
                found.append((param[1], []))
            if found:
                found[-1][1].append((param[2].lower(), _plain(param[3])))
            at = _next(value, param.end())
            continue
        found.append((b"", []))  # what follows without a scheme belongs to nobody
        skipped = _UNREADABLE.match(value, at)
        assert skipped is not None
        at = _next(value, skipped.end())
    return found


def _next(value: bytes, at: int) -> int:
    """Where the next parameter begins; empty ones are nothing (RFC 9110 §5.6.1)."""
    found = _BETWEEN.match(value, at)
    assert found is not None
    return found.end()


def challenges_of(response: Message) -> list[Challenge]:
    """The `Digest` challenges of a 401 or 407, of all its lines in order."""
    found = []
    for name, proxy in ((b"www-authenticate", False), (b"proxy-authenticate", True)):
        values = [header_value(response.lines[i]) for i in response.find(name)]
        found += parse_challenges(values, proxy=proxy)
    return found


def choose(challenges: Iterable[Challenge], realm: bytes | None = None) -> Challenge | None:
    """The strongest challenge that we can answer, of `realm` where one is given (compared as written, RFC 3261
    §22.1); the first of equals. None if there is none."""
    best: Challenge | None = None
    for challenge in challenges:
        if not challenge.answerable or (realm is not None and challenge.realm != realm):
            continue
        assert challenge.hash is not None
        if best is None or best.hash is None or challenge.hash.strength > best.hash.strength:
            best = challenge
    return best


def ha1(algorithm: Algorithm, username: bytes, realm: bytes, password: bytes) -> bytes:
    """H(username:realm:password) in hex: what a server may keep instead of the password."""
    return algorithm.hex(b"%b:%b:%b" % (username, realm, password))


def response_of(
    algorithm: Algorithm,
    ha1: bytes,
    method: bytes,
    uri: bytes,
    nonce: bytes,
    *,
    qop: bytes = b"",
    nc: bytes = b"",
    cnonce: bytes = b"",
    sess: bool = False,
) -> bytes:
    """The `response` parameter (RFC 7616 §3.4.1; without `qop` that of RFC 2069). `sess`: of a `-sess` algorithm."""
    if sess:
        ha1 = algorithm.hex(b"%b:%b:%b" % (ha1, nonce, cnonce))
    ha2 = algorithm.hex(b"%b:%b" % (method, uri))
    middle = b"%b:%b:%b:%b" % (nonce, nc, cnonce, qop) if qop else nonce
    return algorithm.hex(b"%b:%b:%b" % (ha1, middle, ha2))


def authorization(
    challenge: Challenge,
    username: bytes,
    password: bytes,
    method: bytes,
    uri: bytes,
    *,
    cnonce: bytes,
    nc: int = 1,
) -> bytes:
    """The header line that answers an answerable challenge: Authorization, or Proxy-Authorization where the
    challenge came from a proxy (RFC 3261 §22.2, §22.3). `uri` is the Request-URI as it is sent; `nc` counts the
    requests sent with this nonce, from 1."""
    algorithm, realm, nonce = challenge.hash, challenge.realm, challenge.nonce
    if algorithm is None:
        raise ValueError("a challenge that can't be answered")
    qop = b"" if challenge.qop is None else b"auth"
    count = b"%08x" % nc
    response = response_of(
        algorithm,
        ha1(algorithm, username, realm, password),
        method,
        uri,
        nonce,
        qop=qop,
        nc=count,
        cnonce=cnonce,
        sess=challenge.sess,
    )
    parts = [
        b"username=" + quoted(username),
        b"realm=" + quoted(realm),
        b"nonce=" + quoted(nonce),
        b"uri=" + quoted(uri),
        b'response="%b"' % response,
    ]
    if challenge.algorithm:
        parts.append(b"algorithm=" + challenge.algorithm)
    if challenge.opaque is not None:
        parts.append(b"opaque=" + quoted(challenge.opaque))
    if qop:
        parts.append(b"qop=auth, nc=%b" % count)
    if qop or challenge.sess:
        parts.append(b"cnonce=" + quoted(cnonce))
    name = b"Proxy-Authorization" if challenge.proxy else b"Authorization"
    return b"%b: Digest %b" % (name, b", ".join(parts))


def challenge_value(
    realm: bytes, nonce: bytes, algorithm: Algorithm, *, opaque: bytes | None = None, stale: bool = False
) -> bytes:
    """A challenge as a server writes it; always with `qop` (RFC 3261 §22.4)."""
    parts = [b"realm=" + quoted(realm), b"nonce=" + quoted(nonce)]
    if opaque is not None:
        parts.append(b"opaque=" + quoted(opaque))
    if stale:
        parts.append(b"stale=true")
    parts.append(b'algorithm=%b, qop="auth"' % algorithm.name)
    return b"Digest " + b", ".join(parts)


class Credentials:
    """One Authorization or Proxy-Authorization value of scheme Digest. `hash` is None for an algorithm that we do
    not know; `qop` is empty for a client of RFC 2069; `userhash` says that `username` is a hash."""

    __slots__ = (
        "algorithm",
        "cnonce",
        "hash",
        "nc",
        "nonce",
        "opaque",
        "qop",
        "realm",
        "response",
        "sess",
        "uri",
        "userhash",
        "username",
    )

    def __init__(self, params: dict[bytes, bytes]) -> None:
        """Raises Malformed."""
        for name in (b"realm", b"nonce", b"uri", b"response"):
            if name not in params:
                raise Malformed("credentials that lack a parameter")
        if (b"username" in params) == (b"username*" in params):
            raise Malformed("credentials without a username, or with two")
        self.username = params[b"username"] if b"username" in params else _extended(params[b"username*"])
        self.userhash = params.get(b"userhash", b"").lower() == b"true"
        self.realm = params[b"realm"]
        self.nonce = params[b"nonce"]
        self.uri = params[b"uri"]
        self.response = params[b"response"].lower()
        self.algorithm = params.get(b"algorithm", b"")
        self.hash, self.sess = _named(self.algorithm)
        self.qop = params.get(b"qop", b"").lower()
        self.nc = params.get(b"nc", b"")
        self.cnonce = params.get(b"cnonce", b"")
        self.opaque = params.get(b"opaque", b"")
        if self.qop and (b"cnonce" not in params or len(self.nc) != 8 or _HEX.match(self.nc) is None):
            raise Malformed("credentials with qop, but without nc and cnonce")


def _extended(value: bytes) -> bytes:
    """`username*` (RFC 7616 §3.4, RFC 8187): UTF-8'language'percent-encoded. Raises Malformed."""
    found = _EXTENDED.match(value)
    if found is None:
        raise Malformed("a username* that can't be read")
    return unquote_to_bytes(found[1])


def parse_credentials(value: bytes) -> Credentials | None:
    """What an Authorization or Proxy-Authorization value says; None for another scheme. Raises Malformed, also for
    a parameter that stands there twice: who reads the first and who the last would see two users."""
    if _DIGEST.match(value) is None:
        return None
    return Credentials(_once(value[len("Digest") :]))


def _once(rest: bytes) -> dict[bytes, bytes]:
    params: dict[bytes, bytes] = {}
    at = _next(rest, 0)
    while at < len(rest):
        param = _PARAM.match(rest, at)
        if param is None or param[1] is not None:
            raise Malformed("credentials that can't be read")
        name = param[2].lower()
        if name in params:
            raise Malformed("credentials with a parameter twice")
        params[name] = _plain(param[3])
        at = _next(rest, param.end())
    return params


def realms_of(value: bytes) -> list[bytes]:
    """Every realm that an Authorization value names, however badly the rest is written: whose it is."""
    return [v for _, pairs in _schemes(value) for name, v in pairs if name == b"realm"]


def verify(credentials: Credentials, ha1: bytes, method: bytes) -> bool:
    """Whether the response is right for the HA1 (of `credentials.hash`, in hex) of its user. Takes as long for a
    wrong one as for a right one. Nonce, realm and uri are for the caller to check."""
    algorithm = credentials.hash
    if algorithm is None or credentials.qop not in (b"", b"auth"):
        return False
    expected = response_of(
        algorithm,
        ha1,
        method,
        credentials.uri,
        credentials.nonce,
        qop=credentials.qop,
        nc=credentials.nc,
        cnonce=credentials.cnonce,
        sess=credentials.sess,
    )
    return hmac.compare_digest(expected, credentials.response)
