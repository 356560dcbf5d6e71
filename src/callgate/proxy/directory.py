"""All keys and trunks, and who has which address, number and listener.

A `Directory` is made from the config and replaced as a whole by a reload; live calls keep the objects they
began with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import NamedTuple

from callgate.proxy.edge import Edge
from callgate.proxy.flow import Address, Flow, Listener, address_of
from callgate.proxy.identity.access import Access
from callgate.proxy.identity.bindings import Room
from callgate.proxy.peers import STRANGER, Key, Network, Numbers, Peer, Trunk
from callgate.proxy.trunk.sites import Site


def chosen(keys: Iterable[Key], shows: Callable[[Key, str], bool]) -> Key | None:
    """Of the keys that an identity names, the one that gets all it requires, and requires the most. None where there
    is none, or more than one: then the identity tells nobody. `shows(key, what)`: is this shown, for that key?"""
    fit = [key for key in keys if all(shows(key, what) for what in key.require)]
    most = max((len(key.require) for key in fit), default=0)
    fit = [key for key in fit if len(key.require) == most]
    return fit[0] if len(fit) == 1 else None


def _sources(keys: Iterable[Key]) -> dict[Network, tuple[Key, ...]]:
    """Whose source a network is."""
    owners: dict[Network, tuple[Key, ...]] = {}
    for key in keys:
        for network in key.networks:
            owners[network] = (*owners.get(network, ()), key)
    return owners


class Probing(NamedTuple):
    """How it is found out whether a call is still alive: a side that was silent for `interval` seconds is asked;
    `misses` in a row, `gap` seconds apart, mean that it is dead."""

    interval: float = 300.0
    misses: int = 3
    gap: float = 10.0

    @property
    def earliest(self) -> float:
        """Seconds of silence before which nobody is asked. Between this and `interval` is chance: calls that began
        together are not asked together."""
        return 0.8 * self.interval


class Directory:
    """All keys and trunks, and who has which address, number and listener."""

    _generations = 0

    def __init__(
        self,
        listeners: list[Listener],
        trunks: Iterable[Trunk],
        keys: Iterable[Key],
        numbers: Numbers[Key],
        own: Iterable[tuple[str, int]] = (),
        access: Access | None = None,
        secret_headers: Iterable[str] = (),
        probing: Probing | None = None,
        room: Room | None = None,
    ) -> None:
        self.listeners = listeners
        self.trunks = {t.name: t for t in trunks}
        self.keys = {k.id: k for k in keys}
        self.key_of_tag = {k.tag: k for k in self.keys.values()}
        of_trunk = Counter(key.trunk.name for key in self.keys.values())
        for trunk in self.trunks.values():
            trunk.shared = of_trunk[trunk.name] > 1
        self.numbers = numbers
        self.access = access
        self.probing = probing or Probing()
        self.edge = Edge(secret_headers)
        self.room = room or Room()
        self.route_sites: dict[str, Site] = {}  # where routes of numbers lead, by URI
        # The addresses that name the gate itself, as (host in lower case, port).
        self.own = {(x.host, x.port) for x in listeners} | set(own)
        lines = [line for x in listeners for line in (x.record_route, x.record_route_secure)]
        self._own_routes = [line.partition(b": ")[2] for line in lines]
        self._gateways: dict[tuple[str, int], Peer] = {}
        self._gateway_hosts: dict[str, Peer] = {}
        # Whose gateways are at an address: port → names of trunks.
        self._trunks_at: dict[Address | None, dict[int, set[str]]] = {}
        self._networks: list[
            tuple[int, int, dict[int, Peer]]
        ] = []  # (version, prefix length) → network → peer
        tables: dict[tuple[int, int], dict[int, Peer]] = {}

        def put(network: Network, peer: Peer) -> None:
            table = tables.setdefault((network.version, network.prefixlen), {})
            table.setdefault(int(network.network_address), peer)

        # A key's sources come before the trunk's of the same length, and before a gateway's host at another
        # port: only a gateway's exact address is the trunk even where a key holds it too.
        for network, owners in _sources(self.keys.values()).items():
            put(network, Peer(chosen(owners, lambda key, what: what == "source"), owners=owners))
        for trunk in self.trunks.values():
            for network in trunk.networks:
                put(network, Peer(trunk=trunk))
        self._tls_names: dict[str, tuple[Key, ...]] = {}
        for key in self.keys.values():
            for name in key.tls_names:
                self._tls_names[name] = (*self._tls_names.get(name, ()), key)
        self.learn_gateways()
        for (version, length), table in sorted(tables.items(), reverse=True):
            self._networks.append((version, length, table))

    def learn_gateways(self) -> None:
        """Note the addresses that the gateways have now. Who is at the other end of a flow is looked up anew."""
        Directory._generations += 1
        self.generation = Directory._generations
        self._gateways.clear()
        self._gateway_hosts.clear()
        self._trunks_at.clear()
        for trunk in self.trunks.values():
            for gateway in trunk.gateways:
                exact = Peer(trunk=trunk, gateway=gateway, exact=True)
                peer = Peer(trunk=trunk, gateway=gateway)
                for target in gateway.site.targets:
                    self._gateways.setdefault((target.flow.host, target.flow.port), exact)
                    self._gateway_hosts.setdefault(target.flow.host, peer)
                    ports = self._trunks_at.setdefault(address_of(target.flow.host), {})
                    ports.setdefault(target.flow.port, set()).add(trunk.name)

    def identify(self, flow: Flow) -> Peer:
        """Who is at the other end of a flow. Looked up once per flow and config."""
        if flow.generation == self.generation:
            return flow.peer  # type: ignore[return-value]
        peer = (
            self._gateways.get((flow.host, flow.port))
            or self._longest(flow.host)
            or self._gateway_hosts.get(flow.host, STRANGER)
        )
        if flow.names and not peer.exact:
            peer = self._named(flow, peer)
        flow.peer = peer
        flow.generation = self.generation
        return peer

    def _named(self, flow: Flow, peer: Peer) -> Peer:
        """Who it is whose client certificate was verified: that is stronger than its address."""
        names = [self._tls_names.get(name.lower(), ()) for name in flow.names]
        named = tuple(dict.fromkeys(key for keys in names for key in keys))
        if not named:
            return peer

        def shows(key: Key, what: str) -> bool:
            return what == "tls" or (what == "source" and key.holds(flow.host))

        return Peer(chosen(named, shows), owners=peer.owners, named=named)

    def _longest(self, host: str) -> Peer | None:
        address = ip_address(host)
        version, number = address.version, int(address)
        bits = 32 if version == 4 else 128
        for of_version, length, table in self._networks:
            if of_version == version:
                peer = table.get(number >> (bits - length) << (bits - length))
                if peer is not None:
                    return peer
        return None

    def own_route(self, value: bytes) -> bytes | None:
        """The token of a Route value that is one of our own Record-Routes, exactly as we wrote it."""
        for prefix in self._own_routes:
            if value.startswith(prefix) and value.endswith(b">"):
                return value[len(prefix) : -1]
        return None

    def is_exactly(self, host: str, port: int, peer: Peer) -> bool:
        """Whether an address is a gateway of the peer, or its PBX."""
        gateway = self._gateways.get((host, port))
        if peer.key is not None:
            return peer.key.pbx_site is not None and peer.key.pbx_site.has(host, port)
        owner = gateway.trunk if gateway is not None else None
        return owner is not None and peer.trunk is not None and owner.name == peer.trunk.name

    def may_lead(self, host: str, port: int, peer: Peer, source: str) -> bool:
        """Whether a dialog may lead to an address because its side `peer`, whose messages come from `source`, has named
        it. To a gateway only where that side is its trunk: whatever else gets there has passed the limits of a key.
        Any port of a gateway's host is the carrier's, but for a PBX that shares the host. From a recorder to
        recorders only."""
        trunk, address = peer.trunk, address_of(host)
        recorders = trunk.recorders if trunk is not None else None
        if recorders is not None and not recorders.holds(host):
            return False
        name = trunk.name if trunk is not None and recorders is None else None
        ports = self._trunks_at.get(address)
        if ports is not None and port in ports:
            return name in ports[port]
        if address is None or address == address_of(source):
            return True
        if ports is not None:
            return any(name in names for names in ports.values()) or self.is_exactly(host, port, peer)
        if trunk is not None:
            return True
        owner = self._longest(str(address))  # a trunk's sources may be called as well as its gateways
        return owner is None or owner.trunk is None

    def is_own(self, host: str, port: int) -> bool:
        """Whether a URI's host and port name the gate."""
        return (host, port) in self.own

    def listener_for(self, transport: bytes, host: str, like: Listener | None = None) -> Listener | None:
        """The listener to reach `host` from over `transport`: `like` itself where that fits, else the first."""
        family = 6 if ":" in host else 4
        if like is not None and like.transport == transport and like.family == family:
            return like
        for listener in self.listeners:
            if listener.transport == transport and listener.family == family:
                return listener
        return None

    def key_of_number(self, canonical: str) -> Key | None:
        """Whose DID this is."""
        return self.numbers.get(canonical)
