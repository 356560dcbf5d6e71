"""Where messages come from and go to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

INNER = 255
"""The `index` of the listener behind which the gate's own endpoint is (`bridge`): it has no socket."""

Address = IPv4Address | IPv6Address


def address_of(host: str) -> Address | None:
    """One address however it is written, an IPv4 address inside of IPv6 too; None for a name."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


class Listener:
    """One socket of the gate, as the core knows it.

    `index` is its place in the config, `transport` b"UDP" or b"TCP", `host` and `port` what the gate tells
    others (Via, Record-Route); `family` 4 or 6. `inner`: it leads to the gate's own endpoint.
    """

    __slots__ = (
        "family",
        "host",
        "index",
        "inner",
        "port",
        "record_route",
        "record_route_secure",
        "reliable",
        "secure",
        "sent_by",
        "transport",
        "via",
    )

    def __init__(self, index: int, transport: bytes, host: str, port: int) -> None:
        self.index = index
        self.inner = index == INNER
        self.transport = transport
        self.family = 6 if ":" in host else 4
        self.host = host
        self.port = port
        self.reliable = transport != b"UDP"
        self.secure = transport == b"TLS"
        bracketed = f"[{host}]" if self.family == 6 else host
        self.sent_by = f"{bracketed}:{port}".encode("ascii")
        self.via = b"Via: SIP/2.0/%b %b;branch=z9hG4bK" % (transport, self.sent_by)
        suffix = b"" if transport == b"UDP" else b";transport=" + transport.lower()
        self.record_route = b"Record-Route: <sip:%b%b;lr;cg=" % (self.sent_by, suffix)
        self.record_route_secure = self.record_route.replace(b"<sip:", b"<sips:")

    @property
    def name(self) -> str:
        """What it is called in files that outlive a restart: transport and sent-by."""
        return f"{self.transport.decode()} {self.sent_by.decode()}"

    def record(self, token: bytes, secure: bool) -> bytes:
        """The Record-Route line that brings a dialog's requests back here; a SIPS URI where the request's was one
        (RFC 3261 §16.6 step 4)."""
        return b"%b%b>" % (self.record_route_secure if secure else self.record_route, token)


class Trust(NamedTuple):
    """What the peer of a TLS connection must prove before anything is sent to it.

    `context` is whose certificate and authorities are used: those of a trunk, empty for all other peers.
    `names` are those of which its certificate must hold one (RFC 5922 §7), or its address.
    """

    context: str
    names: tuple[str, ...]


class Trouble(NamedTuple):
    """Why a message could not be delivered, and what to do about it. Both are empty where nobody knows."""

    text: str = ""
    advice: str = ""

    def after(self, what: str) -> str:
        """`what` has happened, and why."""
        return f"{what}: {self.text}" if self.text else what


UNKNOWN: Final = Trouble()


class Flow:
    """A path to one peer: the gate's listener, the peer's address and, on streams, the connection.

    `connection` is 0 for UDP and for a stream that is still to be opened; `fallback` is the address where a
    response goes when its connection is gone (RFC 3261 §18.2.2). `peer` is who that is (`peers.Peer`), found
    once per flow and config. `names` are those of the certificate that the peer has proven to hold, empty without
    TLS or without one; `trust` is what a connection to the peer must prove, None: that it is `host`. `known`: the
    peer is no stranger, so the shell's limits for strangers are not for it; set by the shell for who is known by
    its address or its names, and by the core for who has shown a password or sent what belongs to a dialog. `pinned`: a
    phone has registered over it, so requests to it go over it and no other way, whatever their target says: it may
    be behind a NAT (RFC 5626).
    """

    __slots__ = (
        "connection",
        "fallback",
        "generation",
        "host",
        "known",
        "listener",
        "names",
        "packed",
        "peer",
        "pinned",
        "port",
        "trust",
    )

    def __init__(
        self,
        listener: Listener,
        host: str,
        port: int,
        connection: int = 0,
        fallback: tuple[str, int] | None = None,
        trust: Trust | None = None,
    ) -> None:
        self.listener = listener
        self.host = host
        self.port = port
        self.connection = connection
        self.fallback = fallback
        self.trust = trust
        self.names: tuple[str, ...] = ()
        self.known = False
        self.pinned = False
        self.packed = b""  # as `proxy.restart.journal` writes it down; empty until then
        self.peer: object = None
        self.generation = -1  # of the directory that `peer` was looked up in

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Flow)
            and self.listener is other.listener
            and self.host == other.host
            and self.port == other.port
            and self.connection == other.connection
        )

    def __hash__(self) -> int:
        return hash((self.listener.index, self.host, self.port, self.connection))

    def __repr__(self) -> str:
        return f"{self.listener.transport.decode().lower()}:{self.host}:{self.port}"
