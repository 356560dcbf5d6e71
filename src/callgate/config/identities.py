"""What keys show who they are by: faults between digest users, names in certificates, secret headers and sources."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from callgate.config.crosscheck import Finding, Loc
from callgate.config.schema import Config, DigestUser, Key
from callgate.sip.digest import ALGORITHMS

MIN_HEADER = 16
"""Characters of a secret header: it is not throttled, so it must be beyond guessing."""

_QUOTED = re.compile(r'[^"\\\x00-\x1f\x7f]+\Z')
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?\Z")


def _users(config: Config) -> Iterator[tuple[Loc, DigestUser]]:
    for name, key in config.keys.items():
        for n, user in enumerate(key.digest or ()):
            yield ("keys", name, "digest", n), user


def users(config: Config) -> Iterator[Finding]:
    """A user is one at one key, with a password or with a hash for every algorithm that is offered: the client
    answers the strongest."""
    seen: dict[str, Loc] = {}
    for loc, user in _users(config):
        at = (*loc, "username")
        if user.username in seen:
            text = "the user stands at {other} too; a name belongs to one key, and once"
            yield Finding(at, text, seen[user.username])
        seen.setdefault(user.username, at)
        if _QUOTED.match(user.username) is None or ":" in user.username:
            yield Finding(at, "can't be a user name: no `\"`, `\\`, `:` and no control characters in it")
        if (user.password is None) == (user.ha1 is None):
            yield Finding(loc, "needs either `password` or `ha1`", unless=loc)
        elif user.ha1 is not None:
            yield from _hashes(config, loc, user)


def _hashes(config: Config, loc: Loc, user: DigestUser) -> Iterator[Finding]:
    given = user.ha1 or {}
    offered = config.digest.algorithms
    for name in offered:
        if name not in given:
            text = f"lacks the hash for {name}, which `digest.algorithms` offers; add it, or a `password`"
            yield Finding((*loc, "ha1"), text)
    for name, value in given.items():
        digits = ALGORITHMS[name.encode()].digits
        if name not in offered:
            text = f"{name} is not among `digest.algorithms`; take it out here, or offer it there"
            yield Finding((*loc, "ha1", name), text)
        elif re.fullmatch(rf"[0-9A-Fa-f]{{{digits}}}", value.get_secret_value()) is None:
            text = f"must be {digits} hex digits: the {name} of `username:realm:password`"
            yield Finding((*loc, "ha1", name), text)


def realm(config: Config) -> Iterator[Finding]:
    section = config.digest
    if _QUOTED.match(section.realm) is None:
        yield Finding(("digest", "realm"), "can't hold `\"`, `\\` or control characters")
    if len(set(section.algorithms)) != len(section.algorithms):
        yield Finding(("digest", "algorithms"), "names an algorithm twice; keep one")
    if not any(True for _ in _users(config)):
        return
    if not section.algorithms:
        text = "at least one is needed, such as [SHA-256]"
        yield Finding(("digest", "algorithms"), text, unless=("digest",))
    for name, trunk in config.trunks.items():
        if trunk.credentials is not None and trunk.credentials.realm == section.realm:
            text = (
                "is the realm of our own `digest` too: nobody could tell whose an answer is; rename that one"
            )
            yield Finding(("trunks", name, "credentials", "realm"), text)


def required(config: Config) -> Iterator[Finding]:
    """What a key requires, it must have."""
    for name, key in config.keys.items():
        has = {
            "source": ("sources", key.sources),
            "digest": ("digest", key.digest),
            "tls": ("tls_names", key.tls_names),
            "header": ("secret_header", key.secret_header),
        }
        for what in dict.fromkeys(key.require):
            field, there = has[what]
            if not there:
                text = f"`{what}` is required and the key has no `{field}`: no call could pass; add them"
                yield Finding(("keys", name, "require"), text, unless=("keys", name, field))


def tls_names(config: Config) -> Iterator[Finding]:
    """A name is known only from a certificate that a listener asks for and verifies."""
    asked = config.tls is not None and config.tls.verify_client != "none"
    secure = any(one.uri.transport == "tls" for one in config.listen)
    for name, key in config.keys.items():
        if key.tls_names and not (asked and secure):
            text = "need a tls:// listener, and `tls` with `ca` and `verify_client: optional` or `required`"
            yield Finding(("keys", name, "tls_names"), text, unless=("tls",) if secure else ("listen",))


def secret_headers(config: Config) -> Iterator[Finding]:
    """Their values; which names they may have is in `config.crosscheck`."""
    for name, key in config.keys.items():
        if key.secret_header is None:
            continue
        at = ("keys", name, "secret_header", "value")
        value = key.secret_header.value.get_secret_value()
        if _VALUE.match(value) is None:
            yield Finding(at, "must be printable ASCII, without blanks at its ends")
        elif len(value) < MIN_HEADER:
            yield Finding(at, f"can be guessed: it needs at least {MIN_HEADER} characters")


def _header(key: Key) -> tuple[str, str] | None:
    header = key.secret_header
    return (header.name.lower(), header.value.get_secret_value()) if header is not None else None


def _overlap(one: Key, other: Key, what: str) -> bool:
    """Whether a call could show this for both keys at once. A digest user belongs to one key."""
    if what == "source":
        pairs = ((a, b) for a in one.sources for b in other.sources if a.version == b.version)
        return any(a.overlaps(b) for a, b in pairs)
    if what == "tls":
        return bool({n.lower() for n in one.tls_names} & {n.lower() for n in other.tls_names})
    return what == "header" and _header(one) == _header(other)


def _told_apart(one: Key, other: Key, what: str) -> bool:
    """Whether one of two keys requires something besides that is never the other's."""
    required = {*one.require, *other.require} - {what}
    return any(not _overlap(one, other, more) for more in required)


def shared(config: Config) -> Iterator[Finding]:
    """The same source, name or header at two keys: something else has to tell their calls apart."""
    held: dict[tuple[str, object], list[tuple[Loc, Key]]] = {}
    for name, key in config.keys.items():
        for n, network in enumerate(key.sources):
            held.setdefault(("source", network), []).append((("keys", name, "sources", n), key))
        for n, tls_name in enumerate(key.tls_names):
            held.setdefault(("tls", tls_name.lower()), []).append((("keys", name, "tls_names", n), key))
        if key.secret_header is not None:
            at = ("keys", name, "secret_header", "value")
            held.setdefault(("header", _header(key)), []).append((at, key))
    for (what, thing), places in held.items():
        words = {"source": f"the network {thing}", "tls": f"the name `{thing}`", "header": "the value"}[what]
        for loc, other, same_key in _twins(what, places):
            remedy = "" if same_key else ", or let a key `require` what tells them apart"
            yield Finding(loc, f"{words} stands at {{other}} too; keep one{remedy}", other)


def _twins(what: str, places: list[tuple[Loc, Key]]) -> Iterator[tuple[Loc, Loc, bool]]:
    """(place, earlier place, are both of one key?) of what nothing tells apart."""
    first: dict[int, Loc] = {}
    for loc, key in places:
        if id(key) in first:
            yield loc, first[id(key)], True
        first.setdefault(id(key), loc)
    # Who requires a digest user is told from everybody: only the others are compared with each other.
    rest = [(loc, key) for loc, key in places if "digest" not in key.require]
    for n, (loc, key) in enumerate(rest):
        for before, other in rest[:n]:
            if key is not other and not _told_apart(key, other, what):
                yield loc, before, False
                break


CHECKS: tuple[Callable[[Config], Iterable[Finding]], ...] = (
    users,
    realm,
    required,
    tls_names,
    secret_headers,
    shared,
)


def findings(config: Config) -> Iterator[Finding]:
    """Every fault of who is who."""
    for check in CHECKS:
        yield from check(config)
