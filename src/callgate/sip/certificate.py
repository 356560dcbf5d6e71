"""Who a certificate is for, as SIP sees it (RFC 5922). It is given as the mapping that `getpeercert` makes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from callgate.sip.errors import Malformed
from callgate.sip.uri import parse_uri

SHOWN, SHOWN_LENGTH = 5, 80
"""How many names of a certificate are shown to a person, and how much of each."""


def names_of(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """Who a certificate is for (RFC 5922 §7.1): the hosts of its SIP URIs, else its DNS names, else, where it has no
    alternative names at all, its common name. In lower case, as they are written: a `*` is no wildcard (§7.2)."""
    alternatives = certificate.get("subjectAltName", ())
    uris, hosts = [], []
    for kind, value in alternatives:
        if kind == "DNS":
            hosts.append(_plain(value))
        elif kind == "URI":
            with contextlib.suppress(Malformed, UnicodeEncodeError):
                uri = parse_uri(value.encode("ascii"))
                if uri.scheme == b"sip" and not uri.user and uri.host:  # one with a user is a person's (§7.1)
                    uris.append(_plain(uri.bare_host))
    if alternatives:
        return tuple(dict.fromkeys(uris or hosts))
    subject = (pair for part in certificate.get("subject", ()) for pair in part)
    return tuple(dict.fromkeys(_plain(value) for name, value in subject if name == "commonName"))


def words_for(certificate: Mapping[str, Any]) -> str:
    """Whom a certificate names, addresses included, in words for a person."""
    alternatives = certificate.get("subjectAltName", ())
    addresses = [value.strip() for kind, value in alternatives if kind == "IP Address"]
    named = [re.sub(r"[^!-~]", "?", name)[:SHOWN_LENGTH] for name in (*names_of(certificate), *addresses)]
    more = len(named) - SHOWN
    return ", ".join(named[:SHOWN]) + (f" and {more} more" if more > 0 else "") or "nobody"


def _plain(name: str) -> str:
    return name.lower().rstrip(".")


def proves(certificate: Mapping[str, Any], wanted: tuple[str, ...]) -> bool:
    """Whether a certificate holds one of these names or addresses."""
    names = names_of(certificate)
    addresses = set()
    for kind, value in certificate.get("subjectAltName", ()):
        if kind == "IP Address":
            with contextlib.suppress(ValueError):
                addresses.add(ip_address(value.strip()))
    for name in wanted:
        if is_address(name):
            if ip_address(name) in addresses:
                return True
        elif _plain(name) in names:
            return True
    return False


def is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
