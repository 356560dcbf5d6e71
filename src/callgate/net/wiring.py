"""From the config to what the core works with."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

from callgate.config import (
    Config,
    ConfigError,
    Fault,
    SipPeer,
    dial_rules,
    effective_limits,
    mode_of,
)
from callgate.config import Trunk as TrunkSection
from callgate.config.certificates import Unfit
from callgate.config.schema import RouteStep
from callgate.net.key_parts import (
    access_of,
    caller_ids_of,
    consent_of,
    only_number_of,
    quiet_hours_of,
    reach_of,
    watching_of,
)
from callgate.net.tls import Contexts
from callgate.policy.dial import DialRules
from callgate.policy.parts import parts_of, window_of
from callgate.policy.profile import Limits
from callgate.policy.schedule import A_DAY, DAYS, Schedule
from callgate.proxy.contract.siprec import Recorders
from callgate.proxy.directory import Directory, Probing
from callgate.proxy.flow import Flow, Listener, Trust
from callgate.proxy.identity.bindings import Room
from callgate.proxy.peers import Gateway, Key, Numbers, Route, Step, Trunk, host_port
from callgate.proxy.trunk.health import Rules
from callgate.proxy.trunk.login import Account
from callgate.proxy.trunk.registration import Wanted
from callgate.proxy.trunk.sites import Site
from callgate.sip.uri import parse_uri

SECRET_FILE = "secret"
ELSEWHERE = {4: "192.0.2.1", 6: "2001:db8::1"}
"""An address that only the default route leads to (RFC 5737, RFC 3849). Nothing is sent there."""


def listeners_of(config: Config) -> list[Listener]:
    """The gate's listeners as the core sees them. One that listens on every address without an `advertise` calls
    itself by the address that the machine reaches its first gateway from."""
    found = []
    for index, section in enumerate(config.listen):
        uri, named = section.uri, section.sent_by
        host = named.host
        if uri.wildcard and section.advertise is None:
            host = _own_address(config, 6 if ":" in uri.host else 4) or uri.host
        found.append(Listener(index, uri.transport.upper().encode(), host, named.port or uri.port))
    return found


def _own_address(config: Config, family: int) -> str | None:
    """The address this machine has towards its first gateway. No packet is sent."""
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    for trunk in config.trunks.values():
        for gateway in trunk.gateways:
            if gateway.is_name:
                host = ELSEWHERE[family]  # a look-up can take longer than the start may
            elif (":" in gateway.host) == (family == 6):
                host = gateway.host
            else:
                continue
            with socket.socket(kind, socket.SOCK_DGRAM) as probe:
                try:
                    probe.connect((host, gateway.port))
                    return str(probe.getsockname()[0])
                except OSError:
                    continue
    return None


def ways_of(listeners: Iterable[Listener]) -> dict[bytes, tuple[int, ...]]:
    """Transport → the address families that a listener sends with, in the order of the config."""
    ways: dict[bytes, tuple[int, ...]] = {}
    for listener in listeners:
        families = ways.get(listener.transport, ())
        if listener.family not in families:
            ways[listener.transport] = (*families, listener.family)
    return ways


def names_of(config: Config, directory: Directory) -> dict[SipPeer, list[Gateway | Key | Site]]:
    """The names that are to be looked up, and who is there."""
    names: dict[SipPeer, list[Gateway | Key | Site]] = {}
    for name, trunk in config.trunks.items():
        for peer, gateway in zip(trunk.gateways, directory.trunks[name].gateways, strict=True):
            if peer.is_name:
                names.setdefault(peer, []).append(gateway)
    for gateway in emergency_gateways(directory):
        peer = SipPeer.parse(gateway.name)
        if peer.is_name:
            names.setdefault(peer, []).append(gateway)
    for key_id, section in config.keys.items():
        if isinstance(section.pbx, SipPeer) and section.pbx.is_name:
            names.setdefault(section.pbx, []).append(directory.keys[key_id])
        for to in (step.to for number in section.numbers for step in number.route or ()):
            site = directory.route_sites.get(str(to.peer))
            if to.peer is not None and to.peer.is_name and site is not None:
                known = names.setdefault(to.peer, [])
                if site not in known:
                    known.append(site)
    return names


def directory_of(
    config: Config, listeners: list[Listener], before: tuple[Config, Directory] | None = None
) -> Directory:
    """Keys, trunks and who has which address and number. Trunks and keys of whom `before` says the same are its very
    objects. Raises ConfigError where a peer can't be reached from any listener."""
    faults: list[Fault] = []
    trunks: dict[str, Trunk] = {}
    dial = dial_rules(config)
    for name, section in config.trunks.items():
        if before is not None and same_trunk(name, config, before[0]):
            trunks[name] = before[1].trunks[name]
            continue
        trunk = Trunk(
            name,
            any_number=section.numbering == "any",
            try_seconds=section.try_seconds,
            upstream_503=section.upstream_503,
            networks=section.sources,
            rules=Rules(
                interval=section.health.interval_seconds,
                timeout=section.health.timeout_seconds,
                down_after=section.health.down_after,
                up_after=section.health.up_after,
                retry_after_max=section.retry_after_max,
            ),
            account=_account(section),
            register=_register(section),
            psap_callback=section.psap_callback,
            emergency_code=int(section.emergency_code),
            window=window_of(name, own_limits(section)),
        )
        for index, peer in enumerate(section.gateways):
            trust = trunk_trust(config, name, peer.host)
            flow = None if peer.is_name else flow_to(peer, listeners, trust)
            if flow is None and not peer.is_name:
                faults.append(_unreachable(config, f"trunks.{name}.gateways[{index}]", peer))
                continue
            uri = parse_uri(str(peer).encode())
            trunk.gateways.append(Gateway(index, uri, flow, trunk, trust))
        trunks[name] = trunk
    ways = [
        (
            trunks[name],
            *_emergency_route(config, name, trunks, listeners, faults, before[1] if before else None),
        )
        for name in config.trunks
    ]
    keys: dict[str, Key] = {}
    numbers_of: Numbers[Key] = Numbers()
    routes = _Routes(config, listeners, faults, before[1].route_sites if before is not None else {})
    for key_id, key_section in config.keys.items():
        if before is not None and same_key(key_id, config, before[0]):
            key = before[1].keys[key_id]
        else:
            key = _key_of(config, key_id, trunks, dial, listeners, routes, faults)
        keys[key_id] = key
        for number in key_section.numbers:
            numbers_of.add(number.number.first, number.number.last, key)
    if faults:
        raise ConfigError(faults)
    for trunk, emergency, first in ways:
        trunk.emergency, trunk.emergency_first = emergency, first
    secret_headers = [k.secret_header.name for k in config.keys.values() if k.secret_header is not None]
    directory = Directory(
        listeners,
        trunks.values(),
        keys.values(),
        numbers_of,
        access=access_of(config, keys),
        secret_headers=secret_headers,
        probing=Probing(config.probe.interval_seconds, config.probe.misses, config.probe.gap_seconds),
        room=room_of(config),
    )
    directory.route_sites = routes.sites
    return directory


class _Routes:
    """Makes the routes of numbers; steps that lead to one address share it, over a reload too."""

    def __init__(
        self, config: Config, listeners: list[Listener], faults: list[Fault], known: Mapping[str, Site]
    ) -> None:
        self._config = config
        self._listeners = listeners
        self._faults = faults
        self.sites = dict(known)  # by URI

    def of(self, section: Sequence[RouteStep], path: str) -> Route:
        return tuple([self._step(step, f"{path}[{n}].to") for n, step in enumerate(section)])

    def _step(self, step: RouteStep, path: str) -> Step:
        schedule = None
        if step.hours is not None or step.days:
            opens, closes = step.hours or (0, A_DAY)
            days = frozenset(map(DAYS.index, step.days or DAYS))
            schedule = Schedule(opens, closes, days, ZoneInfo(step.timezone))
        to = step.to
        site = None
        if to.peer is not None:
            name = str(to.peer)
            site = self.sites.get(name)
            if site is None:
                trust = Trust("", (to.peer.host,))
                flow = None if to.peer.is_name else flow_to(to.peer, self._listeners, trust)
                if flow is None and not to.peer.is_name:
                    self._faults.append(_unreachable(self._config, path, to.peer))
                site = self.sites[name] = Site(host_port(parse_uri(name.encode())), name, flow, trust=trust)
        onward = b"tel:" + to.number.encode() if to.kind == "tel" else b""
        return Step(onward, site, to.user.encode(), step.ring_seconds, step.busy, schedule)


def _key_of(
    config: Config,
    key_id: str,
    trunks: Mapping[str, Trunk],
    dial: Mapping[str, DialRules],
    listeners: list[Listener],
    routes: _Routes,
    faults: list[Fault],
) -> Key:
    """One key; what is wrong is added to `faults`."""
    key_section = config.keys[key_id]
    limits = effective_limits(config, key_id)
    trunk = trunks[key_section.trunk]
    shared = own_limits(config.trunks[trunk.name])
    parts = parts_of(key_id, limits, trunk.name, shared, trunk.window)
    pbx = key_section.pbx if isinstance(key_section.pbx, SipPeer) else None
    flow = None
    pbx_trust = None if pbx is None else Trust("", key_section.tls_names or (pbx.host,))
    if pbx is not None and pbx_trust is not None and not pbx.is_name:
        flow = flow_to(pbx, listeners, pbx_trust)
        if flow is None:
            faults.append(_unreachable(config, f"keys.{key_id}.pbx", pbx))
    key = Key(
        key_id,
        trunk,
        dial[key_id],
        **parts._asdict(),
        words={one.rule: one.what for one in (*limits.more, *shared.more)},
        networks=key_section.sources,
        pbx=flow,
        pbx_uri=parse_uri(str(pbx).encode()) if pbx is not None else None,
        pbx_trust=pbx_trust,
        registered=key_section.pbx == "registered",
        max_call_seconds=limits.max_call_seconds,
        hold_alert_seconds=limits.hold_alert_seconds,
        hold_release_seconds=limits.hold_release_seconds,
        require=key_section.require,
        tls_names=key_section.tls_names,
        trusted=key_section.trusted,
        only_number=only_number_of(key_section.numbers),
        shadow=mode_of(config, key_section) == "shadow",
        gap=limits.redial_gap_seconds,
        reach=reach_of(key_section.watch),
        quiet_hours=quiet_hours_of(key_section),
        consent=consent_of(key_section),
        watching=watching_of(key_section.watch),
        queue_seconds=limits.queue_seconds if limits.queues else None,
        unrecorded=limits.on_recordings_exceeded == "unrecorded",
        recorders=Recorders(key_section.recorders) if key_section.recorders else None,
    )
    if key_section.caller_ids is not None:
        key.caller_ids = caller_ids_of(key_section.caller_ids, key)
    for place, number in enumerate(key_section.numbers):
        if number.route is not None:
            route = routes.of(number.route, f"keys.{key_id}.numbers[{place}].route")
            key.routes = key.routes or Numbers()
            key.routes.add(number.number.first, number.number.last, route)
    return key


def same_trunk(name: str, one: Config, other: Config) -> bool:
    """Whether two configs say the same of a trunk and its contract."""
    section, before = one.trunks[name], other.trunks.get(name)
    return (
        before is not None
        and section == before
        and section.limits.by_hand == before.limits.by_hand  # null is not the same as nothing
        and one.profiles[name] == other.profiles[name]
        and one.lists.get(("trunks", name)) == other.lists.get(("trunks", name))
    )


def same_key(key_id: str, one: Config, other: Config) -> bool:
    """Whether two configs say the same of a key and its trunk."""
    section, before = one.keys[key_id], other.keys.get(key_id)
    return (
        before is not None
        and section == before
        and section.limits.by_hand == before.limits.by_hand
        and section.consent is None  # its file may say something else now
        and mode_of(one, section) == mode_of(other, before)
        and one.lists.get(("keys", key_id)) == other.lists.get(("keys", key_id))
        and same_trunk(section.trunk, one, other)
    )


EMERGENCY = "emergency "
"""Begins the name of a trunk that is there for the `emergency_route` of others only."""


def emergency_gateways(directory: Directory) -> list[Gateway]:
    """The gateways of emergency routes that are no trunk of the config."""
    return [g for name, t in directory.trunks.items() if name.startswith(EMERGENCY) for g in t.gateways]


def _emergency_route(
    config: Config,
    name: str,
    trunks: dict[str, Trunk],
    listeners: list[Listener],
    faults: list[Fault],
    before: Directory | None,
) -> tuple[Trunk | None, Gateway | None]:
    """Where the emergency calls of a trunk go: by a trunk of the config, this one perhaps, that was named or has the
    address as a gateway; else by a trunk of their own, which is added."""
    section = config.trunks[name]
    trunk, route = trunks[name], section.emergency_route
    if route is None:
        return None, None
    if isinstance(route, str):
        return trunks[route], None
    for other in (name, *config.trunks):
        for index, peer in enumerate(config.trunks[other].gateways):
            if (peer.host, peer.port, peer.transport) == (route.host, route.port, route.transport):
                found = trunks[other]
                return found, next((g for g in found.gateways if g.index == index), None)
    own = f"{EMERGENCY}{route}"
    if own not in trunks and before is not None and own in before.trunks:
        trunks[own] = before.trunks[own]
    if own not in trunks:
        trust = Trust(name, (route.host,))
        flow = None if route.is_name else flow_to(route, listeners, trust)
        if flow is None and not route.is_name:
            faults.append(_unreachable(config, f"trunks.{name}.emergency_route", route))
            return None, None
        added = trunks[own] = Trunk(own, try_seconds=section.try_seconds, rules=trunk.rules)
        added.gateways.append(Gateway(0, parse_uri(str(route).encode()), flow, added, trust))
    return trunks[own], None


def room_of(config: Config) -> Room:
    """What the registrar grants."""
    section = config.registrar
    return Room(
        frozenset(section.domains),
        longest=section.expires_seconds,
        shortest=section.min_expires_seconds,
        per_user=section.contacts_per_user,
        per_key=section.contacts_per_key,
    )


def contexts_of(config: Config) -> Contexts | None:
    """What TLS is done with; None where there is none. Raises ConfigError."""
    try:
        return Contexts(config) if config.tls is not None else None
    except Unfit as unfit:
        raise ConfigError([Fault(str(config.path), None, "tls", unfit.text)]) from None


def _account(section: TrunkSection) -> Account | None:
    given = section.credentials
    if given is None:
        return None
    return Account(given.username, given.password.get_secret_value(), given.realm)


def _register(section: TrunkSection) -> Wanted | None:
    wanted = section.register_
    if wanted is None:
        return None
    return Wanted(str(wanted.aor).encode(), wanted.expires)


def _unreachable(config: Config, path: str, peer: SipPeer) -> Fault:
    family = "IPv6" if ":" in peer.host else "IPv4"
    return Fault(
        file=str(config.path),
        line=None,
        path=path,
        text=f"{peer} can't be reached: add a {peer.transport}:// listener with an {family} address to `listen`",
    )


def trunk_trust(config: Config, trunk: str, host: str) -> Trust:
    """What a TLS peer of a trunk must prove: the name that the config gives, else the host of the URI that led
    there."""
    section = config.trunks[trunk].tls
    return Trust(trunk, (section.name if section is not None and section.name else host,))


def flow_to(peer: SipPeer, listeners: Iterable[Listener], trust: Trust) -> Flow | None:
    """How a configured peer is reached: by the first listener of its transport and address family. Over TLS it must
    prove `trust`."""
    family = 6 if ":" in peer.host else 4
    for listener in listeners:
        if listener.transport == peer.transport.upper().encode() and listener.family == family:
            return Flow(listener, peer.host, peer.port, trust=trust if listener.secure else None)
    return None


def own_limits(section: TrunkSection) -> Limits:
    """A trunk's own limits, over all its keys."""
    return Limits(**{name: value for name, value in section.limits.by_hand.items() if value is not None})


def secret_of(config: Config) -> bytes:
    """What signs our Via and Record-Route: the config's, else one made once in `state_dir`, else a new one at
    every start (then the dialogs of an earlier start can't be verified). OSError where it can't be kept."""
    if config.secret is not None:
        return config.secret.get_secret_value().encode()
    if config.state_dir is None:
        return secrets.token_bytes(32)
    config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = config.state_dir / SECRET_FILE
    try:
        kept = path.read_bytes()
    except FileNotFoundError:
        kept = b""
    if len(kept) >= 16:
        return kept
    return _make_secret(path)


def _make_secret(path: Path) -> bytes:
    """Written beside and moved into place, so that a crash leaves either none or a whole one."""
    made = secrets.token_hex(32).encode()
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, made)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(beside, path)
    return made
