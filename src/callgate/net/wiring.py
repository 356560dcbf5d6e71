"""From the config to what the core works with."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from callgate.config import Config, ConfigError, Fault, KeyNumber, SipPeer, effective_limits
from callgate.config import Numbers as NumberRange
from callgate.config import Trunk as TrunkSection
from callgate.config.certificates import Unfit
from callgate.config.schema import DigestUser
from callgate.net.tls import Contexts
from callgate.policy.dial import DialRules
from callgate.policy.parts import parts_of, window_of
from callgate.policy.profile import Limits
from callgate.proxy.access import Access, User
from callgate.proxy.bindings import Room
from callgate.proxy.flow import Flow, Listener, Trust
from callgate.proxy.health import Rules
from callgate.proxy.login import Account
from callgate.proxy.peers import Directory, Gateway, Key, Numbers, Probing, Trunk
from callgate.proxy.registration import Wanted
from callgate.sip.digest import ALGORITHMS, Algorithm, ha1
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


def names_of(config: Config, directory: Directory) -> dict[SipPeer, list[Gateway | Key]]:
    """The names that are to be looked up, and who is there."""
    names: dict[SipPeer, list[Gateway | Key]] = {}
    for name, trunk in config.trunks.items():
        for peer, gateway in zip(trunk.gateways, directory.trunks[name].gateways, strict=True):
            if peer.is_name:
                names.setdefault(peer, []).append(gateway)
    for key_id, section in config.keys.items():
        if isinstance(section.pbx, SipPeer) and section.pbx.is_name:
            names.setdefault(section.pbx, []).append(directory.keys[key_id])
    return names


def directory_of(config: Config, listeners: list[Listener]) -> Directory:
    """Keys, trunks and who has which address and number. Raises ConfigError where a peer can't be reached from
    any listener."""
    faults: list[Fault] = []
    trunks: dict[str, Trunk] = {}
    dial: dict[str, DialRules] = {}
    for name, section in config.trunks.items():
        numbers = config.profiles[name].numbers
        dial[name] = DialRules(numbers, section.numbering)
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
    keys: dict[str, Key] = {}
    numbers_of = Numbers()
    for key_id, key_section in config.keys.items():
        limits = effective_limits(config, key_id)
        trunk = trunks[key_section.trunk]
        parts = parts_of(key_id, limits, trunk.name, own_limits(config.trunks[trunk.name]), trunk.window)
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
            dial[key_section.trunk],
            **parts._asdict(),
            words={one.rule: one.what for one in (*limits.more, *own_limits(config.trunks[trunk.name]).more)},
            networks=key_section.sources,
            pbx=flow,
            pbx_uri=parse_uri(str(pbx).encode()) if pbx is not None else None,
            pbx_trust=pbx_trust,
            registered=key_section.pbx == "registered",
            max_call_seconds=limits.max_call_seconds,
            require=key_section.require,
            tls_names=key_section.tls_names,
            trusted=key_section.trusted,
            only_number=_only_number(key_section.numbers),
            queue_seconds=limits.queue_seconds if limits.queues else None,
        )
        if key_section.caller_ids is not None:
            key.caller_ids = caller_ids_of(key_section.caller_ids, key)
        keys[key_id] = key
        for number in key_section.numbers:
            numbers_of.add(number.number.first, number.number.last, key)
    if faults:
        raise ConfigError(faults)
    secret_headers = [k.secret_header.name for k in config.keys.values() if k.secret_header is not None]
    return Directory(
        listeners,
        trunks.values(),
        keys.values(),
        numbers_of,
        access=access_of(config, keys),
        secret_headers=secret_headers,
        probing=Probing(config.probe.interval_seconds, config.probe.misses, config.probe.gap_seconds),
        room=room_of(config),
    )


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


def access_of(config: Config, keys: Mapping[str, Key]) -> Access | None:
    """Digest users and secret headers of all keys; None where there are none, so that nobody looks for them."""
    section = config.digest
    realm = section.realm.encode()
    algorithms = [ALGORITHMS[name.encode()] for name in section.algorithms]
    users, headers = [], []
    for key_id, key in config.keys.items():
        for user in key.digest or ():
            users.append(User(user.username, keys[key_id], _ha1(user, realm, algorithms)))
        if key.secret_header is not None:
            name, value = key.secret_header.name, key.secret_header.value.get_secret_value()
            headers.append((name.encode(), value.encode(), keys[key_id]))
    if not users and not headers:
        return None
    throttle = section.throttle
    return Access(
        realm,
        algorithms,
        users,
        headers,
        nonce_seconds=section.nonce_seconds,
        secret=section.secret.get_secret_value().encode() if section.secret is not None else b"",
        failures=throttle.failures,
        per_seconds=throttle.per_seconds,
        block_seconds=throttle.block_seconds,
    )


def _ha1(user: DigestUser, realm: bytes, algorithms: Iterable[Algorithm]) -> dict[bytes, bytes]:
    if user.password is not None:
        password = user.password.get_secret_value().encode()
        return {a.name: ha1(a, user.username.encode(), realm, password) for a in algorithms}
    return {
        name.encode(): value.get_secret_value().lower().encode() for name, value in (user.ha1 or {}).items()
    }


def _only_number(numbers: Sequence[KeyNumber]) -> str:
    """The number of a key that has exactly one."""
    if len(numbers) == 1 and len(numbers[0].number) == 1:
        return numbers[0].number.first
    return ""


def caller_ids_of(ranges: Iterable[NumberRange], key: Key) -> Numbers:
    """I19: what a key's calls may show. Ranges may overlap; a look-up wants them apart."""
    found = Numbers()
    first = last = ""
    for one in sorted(ranges, key=lambda one: (len(one.first), one.first)):
        if len(one.first) == len(last) and one.first <= last:
            last = max(last, one.last)
            continue
        if first:
            found.add(first, last, key)
        first, last = one.first, one.last
    if first:
        found.add(first, last, key)
    return found


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
