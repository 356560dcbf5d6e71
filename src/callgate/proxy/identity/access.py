"""What the keys have agreed upon with their PBXes: digest users and secret headers. Made from the config."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from secrets import token_bytes
from typing import TYPE_CHECKING

from callgate.sip.digest import Algorithm, realms_of
from callgate.sip.message import Message, header_value

if TYPE_CHECKING:
    from callgate.proxy.peers import Key

AUTHORIZATION, PROXY_AUTHORIZATION = b"authorization", b"proxy-authorization"


class User:
    """One digest user: `ha1` by algorithm name, in hex (`digest.ha1`)."""

    __slots__ = ("ha1", "key", "name")

    def __init__(self, name: str, key: Key, ha1: Mapping[bytes, bytes]) -> None:
        self.name = name
        self.key = key
        self.ha1 = dict(ha1)


class Access:
    """`algorithms` as they are offered, the strongest first. `headers` are (name, value, key). `secret` signs the
    nonces, empty for the gate's own; a source that is wrong `failures` times within `per_seconds` is shut out for
    `block_seconds`."""

    def __init__(
        self,
        realm: bytes,
        algorithms: Iterable[Algorithm],
        users: Iterable[User] = (),
        headers: Iterable[tuple[bytes, bytes, Key]] = (),
        *,
        nonce_seconds: float = 300.0,
        secret: bytes = b"",
        failures: int = 10,
        per_seconds: float = 10.0,
        block_seconds: float = 60.0,
    ) -> None:
        self.realm = realm
        self.algorithms = sorted(algorithms, key=lambda algorithm: -algorithm.strength)
        self.users = {user.name.encode(): user for user in users}
        # Whoever is not known is compared with this one: that takes as long as a wrong password.
        self.nobody = {a.name: a.hex(token_bytes(32)) for a in self.algorithms}
        self.headers: dict[bytes, list[tuple[bytes, Key]]] = {}
        for name, value, key in headers:
            self.headers.setdefault(name.lower(), []).append((value, key))
        self._names = {*self.headers, *((AUTHORIZATION, PROXY_AUTHORIZATION) if self.users else ())}
        self.nonce_seconds = nonce_seconds
        self.secret = secret
        self.failures = failures
        self.per_seconds = per_seconds
        self.block_seconds = block_seconds

    def shown(self, request: Message) -> dict[bytes, list[int]]:
        """The lines of a request that prove who it is from, by their name in lower case: credentials for our realm,
        and headers by the name of a secret one, in whatever spelling (RFC 3261 §7.3.1; CVE-2020-28361)."""
        found: dict[bytes, list[int]] = {}
        names, lines = self._names, request.lines
        for i in range(1, len(lines)):
            name = lines[i].partition(b":")[0].rstrip(b" \t").lower()
            if name in names and (name in self.headers or self.realm in realms_of(header_value(lines[i]))):
                found.setdefault(name, []).append(i)
        return found

    def holds_header(self, shown: Mapping[bytes, list[int]]) -> bool:
        """Whether a request has a header by the name of a secret one, be its value right or wrong."""
        return any(name in self.headers for name in shown)

    def keys_of(self, request: Message, shown: Mapping[bytes, list[int]]) -> tuple[Key, ...]:
        """The keys whose secret header a request holds. Every value is compared, in constant time."""
        found: list[Key] = []
        for name, secrets in self.headers.items():
            for i in shown.get(name, ()):
                value = header_value(request.lines[i])
                found += [key for secret, key in secrets if hmac.compare_digest(secret, value)]
        return tuple(dict.fromkeys(found))

    def taken_off(self, request: Message) -> dict[int, bytes | None]:
        """Credentials for our realm are for us alone (RFC 3261 §22.3): {place: None} of their lines. Those for other
        realms stay where they are; secret headers go with the rest of what the edge takes off."""
        if not self.users:
            return {}
        shown = self.shown(request)
        return {i: None for name in (AUTHORIZATION, PROXY_AUTHORIZATION) for i in shown.get(name, ())}
