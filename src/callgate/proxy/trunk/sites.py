"""Where a configured peer is: a gateway, a PBX. One address that stands in the config, or the places of a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from callgate.proxy.calls.targets import Groups, Target
from callgate.proxy.flow import Flow, Trust
from callgate.proxy.trunk.health import Health, Rules
from callgate.proxy.trunk.places import Place, Random, in_order

if TYPE_CHECKING:
    from callgate.proxy.directory import Directory
    from callgate.proxy.peers import Gateway


class Site:
    """`targets` are the addresses that are known now; one that stays keeps its object, and with it its health.

    `hostport` and `name` are the configured URI's: a look-up changes where a request goes, never its Request-URI
    (RFC 3263 §4). `named`: its addresses come from look-ups. `rules`: how the health of an address is judged; None
    where nobody watches (a PBX). `trust`: what an address must prove over TLS.
    """

    __slots__ = (
        "_gateway",
        "_groups",
        "_hostport",
        "_places",
        "_rules",
        "_trust",
        "name",
        "named",
        "targets",
    )

    def __init__(
        self,
        hostport: bytes,
        name: str,
        flow: Flow | None = None,
        *,
        gateway: Gateway | None = None,
        rules: Rules | None = None,
        trust: Trust | None = None,
    ) -> None:
        self._hostport = hostport
        self.name = name
        self.named = flow is None
        self._gateway = gateway
        self._rules = rules
        self._trust = trust
        self._places: tuple[Place, ...] = ()
        self.targets: tuple[Target, ...] = ()
        self._groups: dict[Place | None, Groups] = {None: ()}
        if flow is not None:
            self.targets = (self._target(flow),)
            self._groups = {None: (self.targets,)}

    def _target(self, flow: Flow) -> Target:
        health = Health(self._rules) if self._rules is not None else None
        return Target(flow, self._hostport, self.name, gateway=self._gateway, health=health)

    @property
    def identity(self) -> tuple[object, ...]:
        """What the config says of it: where two agree, what one has learned holds for the other."""
        return self.name, self.named, self._trust

    def judge_by(self, rules: Rules) -> None:
        """Other rules for the health of its addresses from now on."""
        self._rules = rules
        for target in self.targets:
            if target.health is not None:
                target.health.rules = rules

    def groups(self, random: Random) -> Groups:
        """The addresses in the order of one call, each to be tried by itself."""
        if not self.spread:
            return self._groups[None]
        return [group for place in in_order(self._places, random) for group in self._groups[place]]

    @property
    def spread(self) -> bool:
        """Whether the order of its addresses differs from call to call."""
        return len(self._places) > 1

    def has(self, host: str, port: int) -> bool:
        """Whether this is one of its addresses."""
        return any(t.flow.host == host and t.flow.port == port for t in self.targets)

    def learn(self, places: Sequence[Place], directory: Directory) -> bool:
        """These are the places of the name now; those that are the gate itself are left out. Whether its addresses
        have changed."""
        known = {(t.flow.listener.transport, t.flow.host, t.flow.port): t for t in self.targets}
        found: dict[Target, None] = {}
        groups: dict[Place | None, Groups] = {}
        for place in places:
            of_place = []
            for host in place.hosts:
                listener = directory.listener_for(place.transport, host)
                if listener is None or directory.is_own(host, place.port):
                    continue
                target = known.get((place.transport, host, place.port))
                if target is None:
                    trust = self._trust if listener.secure else None
                    target = self._target(Flow(listener, host, place.port, trust=trust))
                    known[place.transport, host, place.port] = target
                if target not in found:  # two records may lead to one address
                    found[target] = None
                    of_place.append((target,))
            if of_place:
                groups[place] = of_place
        changed = tuple(found) != self.targets
        self.targets = tuple(found)
        self._places = tuple(place for place in groups if place is not None)
        groups[None] = [group for of_place in groups.values() for group in of_place]
        self._groups = groups
        return changed
