"""Where a SIP URI's server is (RFC 3263 §4.1, §4.2): NAPTR → SRV → A and AAAA."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from callgate.config import SipPeer
from callgate.config.addresses import is_ip
from callgate.net.dns import AAAA, NAPTR, SRV, A, Answer, Failed, Resolver
from callgate.net.system_names import HOSTS, CLibrary, hosts_entries
from callgate.proxy.trunk.places import Place

Ways = Mapping[bytes, tuple[int, ...]]
"""Transport → the address families (4, 6) that a listener can send with, the preferred one first."""

SERVICES: Mapping[bytes, bytes] = {b"SIP+D2U": b"UDP", b"SIP+D2T": b"TCP", b"SIPS+D2T": b"TLS"}
LABELS: Mapping[bytes, str] = {b"UDP": "_sip._udp", b"TCP": "_sip._tcp", b"TLS": "_sips._tcp"}
TARGETS_MAX = 16
"""SRV targets that are looked up."""
HOSTS_MAX = 8
"""Addresses of one target."""
UNTOLD_TTL = 30.0
"""Seconds for what has no TTL: the hosts file, the C library."""
ABSENT_TTL = 30.0
"""Seconds at least until a record that a name does without is asked for again."""
KINDS = {4: A, 6: AAAA}


class Located(NamedTuple):
    """`places` is empty where the name has no service, `ttl` in seconds. `sure` is False where a part of the way
    could not be asked: then an earlier answer may be the better one."""

    places: tuple[Place, ...]
    ttl: float
    sure: bool = True


class _Found(NamedTuple):
    hosts: tuple[str, ...]
    ttl: float


class Locator:
    """Finds places with one resolver; `hosts` is the machine's hosts file, which goes before DNS. `within`: how long
    the C library may take, seconds."""

    def __init__(self, resolver: Resolver, ways: Ways, hosts: Path = HOSTS, within: float = 2.0) -> None:
        self.ways = ways
        self._resolver = resolver
        self._hosts = hosts
        self._within = within
        self._library = CLibrary()

    async def locate(self, peer: SipPeer) -> Located:
        """Where to send what is for `peer`. Raises Failed where nothing could be learned."""
        return await _Search(self).run(peer)

    async def addresses(self, name: str, families: tuple[int, ...]) -> _Found:
        """The addresses of a host: the hosts file, DNS, then whatever else the system asks (mDNS, a search list).
        Raises Failed."""
        if is_ip(name):  # no target may be one (RFC 2782), and some are
            return _Found(_of_families([name], families), float("inf"))
        listed = _of_families(hosts_entries(name, self._hosts), families)
        if listed:
            return _Found(listed, UNTOLD_TTL)
        found: list[str] = []
        ttl, failed = float("inf"), ""
        for family in families:
            try:
                answer = await self._resolver.ask(name, KINDS[family])
            except Failed as error:
                failed = str(error)
                continue
            found += [str(record.address) for record in _read(answer, "address")]
            ttl = min(ttl, answer.ttl)
        if found:
            # Sorted: servers turn their answers round, and the same set is no change.
            return _Found(_of_families(sorted(found), families), ttl)
        if self._resolver.uses_system:
            known = await self._library.addresses(name, self._within)
            if known and _of_families(known, families):
                return _Found(_of_families(sorted(known), families), UNTOLD_TTL)
        if failed:
            raise Failed(failed)
        return _Found((), ttl)

    async def records(self, name: str, kind: Any) -> Answer:
        return await self._resolver.ask(name, kind)


class _Search:
    """One walk from a URI to its places, with the least TTL on the way."""

    def __init__(self, locator: Locator) -> None:
        self._locator = locator
        self._ways = locator.ways
        self._ttl = float("inf")
        self._failed = ""

    async def run(self, peer: SipPeer) -> Located:
        transports = list(self._transports(peer))
        if not transports:
            return Located((), UNTOLD_TTL)
        if peer.port_given:  # §4.2: no SRV
            places = await self._hosts_of(peer.host, transports[0], peer.port)
        elif peer.transport_given:
            places = await self._service(peer.host, transports)
        else:
            pointed = await self._pointers(peer.host, transports)
            places = await self._service(peer.host, transports) if pointed is None else pointed
        if not places and self._failed:
            raise Failed(self._failed)
        return Located(tuple(places), self._ttl, not self._failed)

    def _transports(self, peer: SipPeer) -> Iterator[bytes]:
        """What may carry the request and has a listener, the preferred one first (§4.1)."""
        if peer.transport_given or peer.secure:
            wanted: tuple[bytes, ...] = (peer.transport.upper().encode(),)
        elif peer.port_given:
            wanted = (b"UDP", b"TCP")  # UDP, unless there is no listener for it
        else:
            wanted = (b"UDP", b"TCP", b"TLS")
        return (transport for transport in wanted if self._ways.get(transport))

    async def _pointers(self, name: str, transports: list[bytes]) -> list[Place] | None:
        """By NAPTR: the first service that we can speak and that is there. None where the name has no NAPTR."""
        answer = await self._ask(name, NAPTR)
        pointers = []
        for record in _read(answer, "order", "preference", "flags", "service", "replacement"):
            transport = SERVICES.get(record.service.upper())
            if transport in transports and record.flags.lower() == b"s":
                pointers.append((record.order, record.preference, transport, record.replacement.to_text()))
        if not pointers:
            return None  # §4.1: none that we can use is as none at all
        for *_, transport, service in sorted(pointers)[:TARGETS_MAX]:
            places = await self._targets(service, transport)
            if places:
                return places
        return []

    async def _service(self, name: str, transports: list[bytes]) -> list[Place]:
        """By the SRV records of each transport; where there is none, by the host of that name (§4.2)."""
        for transport in transports:
            places = await self._targets(f"{LABELS[transport]}.{name}", transport)
            if places is not None:
                return places
        port = 5061 if transports[0] == b"TLS" else 5060
        return await self._hosts_of(name, transports[0], port)

    async def _targets(self, service: str, transport: bytes) -> list[Place] | None:
        """The targets of an SRV name; None where it has no record, empty where it says that there is no service."""
        answer = await self._ask(service, SRV)
        records = _read(answer, "priority", "weight", "port", "target")
        if not records:
            return None
        places: list[Place] = []
        for record in sorted(records, key=lambda r: (r.priority, -r.weight, r.target, r.port))[:TARGETS_MAX]:
            target = record.target.to_text(omit_final_dot=True)
            if target in ("", "@", ".") or not record.port:
                continue  # RFC 2782: decidedly not available here
            hosts = await self._addresses(target, transport)
            if hosts:
                places.append(Place(record.priority, record.weight, transport, record.port, hosts))
        return places

    async def _hosts_of(self, name: str, transport: bytes, port: int) -> list[Place]:
        """Each address of a host is a place of its own: calls are spread over those of one family."""
        hosts = await self._addresses(name, transport)
        families = self._ways[transport]
        return [Place(families.index(6 if ":" in host else 4), 1, transport, port, (host,)) for host in hosts]

    async def _addresses(self, name: str, transport: bytes) -> tuple[str, ...]:
        try:
            found = await self._locator.addresses(name, self._ways[transport])
        except Failed as error:
            self._failed = str(error)
            return ()
        self._ttl = min(self._ttl, found.ttl)
        return found.hosts

    async def _ask(self, name: str, kind: Any) -> Answer:
        """A step that may be missing: many a resolver can't do NAPTR, and the way goes on without."""
        try:
            answer = await self._locator.records(name, kind)
        except Failed as error:
            self._failed = str(error)
            return Answer((), float("inf"))
        self._ttl = min(self._ttl, answer.ttl if answer.records else max(answer.ttl, ABSENT_TTL))
        return answer


def _read(answer: Answer, *fields: str) -> list[Any]:
    """The records that have these fields: an answer may hold another kind than was asked for."""
    return [record for record in answer.records if all(hasattr(record, name) for name in fields)]


def _of_families(addresses: list[str], families: tuple[int, ...]) -> tuple[str, ...]:
    """Those that a listener can reach, the preferred family first, each once."""
    by_family = [a for family in families for a in addresses if (6 if ":" in a else 4) == family]
    return tuple(dict.fromkeys(by_family))[:HOSTS_MAX]
