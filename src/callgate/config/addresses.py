"""Addresses as they stand in a config, parsed: listeners, SIP peers, hosts, networks, servers.

Each parser takes the text of the file and returns a frozen value, or raises `ValueError` with what is wrong
and a remedy.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from callgate.config.faults import as_text, shown

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?\Z"
)
PORTS = range(1, 65536)
SIP_PORT, SIPS_PORT, DNS_PORT = 5060, 5061, 53


@lru_cache(1 << 16)  # a reload asks it of every key, on the loop
def is_ip(host: str) -> bool:
    """Is this host an IP address (an IPv6 one without its brackets)?"""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def split_host(text: str, what: str) -> tuple[str, int | None]:
    """`host`, `host:port`, `[v6]` or `[v6]:port` → (host without brackets, port). Names pass, lower-cased."""
    rest = text
    if rest.startswith("["):
        host, bracket, rest = rest[1:].partition("]")
        if not bracket or not is_ip(host) or ":" not in host:
            raise ValueError(f"{shown(text)} is no {what}: in brackets goes an IPv6 address, such as `[::1]`")
        if rest and not rest.startswith(":"):
            raise ValueError(f"{shown(text)} is no {what}: after `]` comes `:port` or nothing")
        rest = rest[1:] if rest else rest
        port_given = text.endswith("]") is False
    else:
        host, colon, rest = rest.partition(":")
        port_given = bool(colon)
        if ":" in rest and is_ip(text):
            raise ValueError(f"an IPv6 address stands in brackets here: `[{text}]`")
    port = None
    if port_given:
        if not (rest.isascii() and rest.isdigit() and len(rest) <= 5 and int(rest) in PORTS):
            raise ValueError(f"{shown(text)} is no {what}: the port must be a number from 1 to 65535")
        port = int(rest)
    if is_ip(host):
        return str(ipaddress.ip_address(host)), port
    if re.fullmatch(r"[0-9.]+", host):
        raise ValueError(f"{shown(host)} is no IP address")
    if not HOST_NAME.match(host):
        raise ValueError(f"{shown(text)} is no {what}: no host in it")
    return host.lower(), port


def join_host(host: str, port: int | None) -> str:
    """The other way round: IPv6 in brackets."""
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


@dataclass(slots=True, frozen=True)
class ListenUri:
    """Where to listen: `udp://127.0.0.1:5060`. `host` is an IP address, without brackets."""

    transport: Literal["udp", "tcp", "tls"]
    host: str
    port: int

    @classmethod
    def parse(cls, value: object) -> ListenUri:
        """Reads `udp://…`, `tcp://…`, `tls://…`; the port defaults to 5060 (tls: 5061)."""
        text = as_text(value, "udp://127.0.0.1:5060")
        scheme, mark, rest = text.partition("://")
        transport = scheme.lower()
        if not mark or transport not in ("udp", "tcp", "tls"):
            raise ValueError(f"{shown(text)} is no listener: write udp://, tcp:// or tls:// and ADDRESS:PORT")
        host, port = split_host(rest.removesuffix("/"), "listener")
        if not is_ip(host):
            raise ValueError(
                f"{shown(text)} is no listener: it needs an IP address of this machine, not a name"
            )
        default = SIPS_PORT if transport == "tls" else SIP_PORT
        return cls(transport, host, default if port is None else port)  # type: ignore[arg-type]

    @property
    def wildcard(self) -> bool:
        """Listens on every address of the machine (0.0.0.0, ::)."""
        return ipaddress.ip_address(self.host).is_unspecified

    def __str__(self) -> str:
        return f"{self.transport}://{join_host(self.host, self.port)}"


@dataclass(slots=True, frozen=True)
class HostPort:
    """What a listener calls itself towards others: `sip.example.jp:5061`."""

    host: str
    port: int | None

    @classmethod
    def parse(cls, value: object) -> HostPort:
        host, port = split_host(as_text(value, "sip.example.jp:5060"), "advertised address")
        if is_ip(host) and ipaddress.ip_address(host).is_unspecified:
            raise ValueError(f"{shown(value)} is no address that others can reach")
        return cls(host, port)

    def __str__(self) -> str:
        return join_host(self.host, self.port)


@dataclass(slots=True, frozen=True)
class SipPeer:
    """A gateway or a PBX: `sip:127.0.0.1:5080;transport=tcp`. `host` without brackets; no port means 5060.

    What stands in the URI itself decides how a name is looked up (RFC 3263): whether its port and transport were
    given, and whether it is a `sips:` one.
    """

    host: str
    port: int
    transport: Literal["udp", "tcp", "tls"]
    port_given: bool = True
    transport_given: bool = True
    secure: bool = False

    @classmethod
    def parse(cls, value: object) -> SipPeer:
        text = as_text(value, "sip:192.0.2.10:5060")
        scheme, colon, rest = text.partition(":")
        if not colon or scheme.lower() not in ("sip", "sips"):
            raise ValueError(f"{shown(text)} is no SIP address: write `sip:ADDRESS:PORT`")
        if "@" in rest:
            raise ValueError("a user part has no place here: write `sip:ADDRESS:PORT`")
        address, *params = rest.split(";")
        if "?" in rest:
            raise ValueError(f"{shown(text)}: headers (`?…`) have no place here")
        secure = scheme.lower() == "sips"
        transport = "tls" if secure else "udp"
        for param in params:
            name, _, given = param.partition("=")
            if name.lower() != "transport" or given.lower() not in ("udp", "tcp", "tls"):
                raise ValueError(
                    f"{shown(text)}: only `;transport=udp`, `tcp` or `tls` may follow the address"
                )
            transport = given.lower()
        if secure and transport == "udp":
            raise ValueError(f"{shown(text)}: sips: goes over TLS, never over UDP")
        if secure:
            transport = "tls"
        host, port = split_host(address, "SIP address")
        if is_ip(host) and ipaddress.ip_address(host).is_unspecified:
            raise ValueError(f"{shown(text)}: nobody answers at {host}; write the other side's address")
        default = SIPS_PORT if transport == "tls" else SIP_PORT
        number = default if port is None else port
        if is_ip(host):
            return cls(host, number, transport)  # type: ignore[arg-type]
        return cls(host, number, transport, port is not None, bool(params), secure)  # type: ignore[arg-type]

    @property
    def is_name(self) -> bool:
        """Needs DNS (RFC 3263)."""
        return not is_ip(self.host)

    def __str__(self) -> str:
        shown_transport = self.transport_given if self.is_name else self.transport != "udp"
        suffix = f";transport={self.transport}" if shown_transport else ""
        scheme = "sips" if self.secure else "sip"
        return f"{scheme}:{join_host(self.host, self.port if self.port_given else None)}{suffix}"


AOR_USER = re.compile(r"(?:[A-Za-z0-9\-_.!~*'()&=+$,;?/]|%[0-9A-Fa-f]{2})+\Z")


@dataclass(slots=True, frozen=True)
class AddressOfRecord:
    """What the gate registers at a trunk: `sip:USER@DOMAIN`. No port means none is written."""

    user: str
    host: str
    port: int | None

    @classmethod
    def parse(cls, value: object) -> AddressOfRecord:
        text = as_text(value, "sip:0312345678@sip.example.jp")
        scheme, colon, rest = text.partition(":")
        user, at, address = rest.rpartition("@")
        if not colon or scheme.lower() != "sip" or not at or not AOR_USER.match(user):
            # Whatever stands before an @ may hold a password: it is not repeated.
            raise ValueError(
                "this is no address of record: write `sip:USER@DOMAIN`, such as `sip:0312345678@sip.example.jp`"
            )
        host, port = split_host(address, "address of record")
        return cls(user, host, port)

    def __str__(self) -> str:
        return f"sip:{self.user}@{join_host(self.host, self.port)}"


def parse_host(value: object) -> str:
    """A host by name or IP address, without a port; in lower case."""
    text = as_text(value, "sip.example.jp")
    host, port = split_host(f"[{text}]" if ":" in text and is_ip(text) else text, "host name")
    if port is not None:
        raise ValueError(f"{shown(text)} names a port; write the host alone, such as `sip.example.jp`")
    return host


def parse_pbx(value: object) -> SipPeer | Literal["registered"]:
    """Where a key's inbound calls go: an address, or `registered`, the gate's own registrar."""
    return "registered" if value == "registered" else SipPeer.parse(value)


def parse_network(value: object) -> IPNetwork:
    """An address or a network, `192.0.2.7` or `192.0.2.0/24`."""
    text = as_text(value, "192.0.2.0/24")
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        wide = ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is no address or network; write it like `192.0.2.0/24`") from None
    raise ValueError(f"{shown(text)} has bits behind its mask; write `{wide.network}` or `{wide.ip}`")


def parse_ops(value: object) -> HostPort | None:
    """`http://127.0.0.1:9060`: an address of this machine. None: no ops process."""
    if value is None:
        return None
    text = as_text(value, "http://127.0.0.1:9060")
    scheme, mark, rest = text.partition("://")
    if not mark or scheme.lower() != "http":
        raise ValueError("must be `http://127.0.0.1:PORT`, or null for none")
    host, port = split_host(rest.removesuffix("/"), "ops address")
    host = "127.0.0.1" if host == "localhost" else host
    if not is_ip(host):
        raise ValueError(f"{shown(text)} is a name; write the address to bind, `http://127.0.0.1:PORT`")
    if port is None:
        raise ValueError(f"{shown(text)} names no port; write `http://127.0.0.1:9060`")
    return HostPort(host, port)


def parse_name_server(value: object) -> HostPort:
    """`192.0.2.53`, `[2001:db8::53]:5353`; the port defaults to 53."""
    text = as_text(value, "192.0.2.53")
    host, port = split_host(f"[{text}]" if is_ip(text) and ":" in text else text, "name server")
    if not is_ip(host) or ipaddress.ip_address(host).is_unspecified:
        raise ValueError(f"{shown(text)} is no name server: write its IP address, such as `192.0.2.53`")
    return HostPort(host, DNS_PORT if port is None else port)


def parse_hep_server(value: object) -> HostPort:
    """`udp://127.0.0.1:9061`, or a name; there is no other transport."""
    text = as_text(value, "udp://127.0.0.1:9061")
    scheme, mark, rest = text.partition("://")
    if not mark or scheme.lower() != "udp":
        raise ValueError(f"{shown(text)} is no HEP server: write `udp://ADDRESS:PORT`")
    host, port = split_host(rest.removesuffix("/"), "HEP server")
    if port is None or (is_ip(host) and ipaddress.ip_address(host).is_unspecified):
        raise ValueError(
            f"{shown(text)} is no HEP server: write its address and port, `udp://127.0.0.1:9061`"
        )
    return HostPort(host, port)
