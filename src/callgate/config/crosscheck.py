"""What one value of the config can't tell alone: faults between values.

Each check yields findings and stands alone; `CHECKS` is the list of them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from callgate.config import certificates, more, notify, webhooks
from callgate.config.addresses import ListenUri, SipPeer
from callgate.config.faults import shown
from callgate.config.numberfile import BadNumbers, read_numbers
from callgate.config.schema import Config, TrunkLimits
from callgate.config.values import Numbers, minutes_of
from callgate.policy.profile import contradictions

Loc = tuple[str | int, ...]
SIP_NEEDS = frozenset(
    (
        *("accept", "allow", "allow-events", "authorization", "call-id", "contact", "content-disposition"),
        *("content-encoding", "content-length", "content-type", "cseq", "date", "event", "expires", "from"),
        *("geolocation", "history-info", "diversion", "identity", "max-breadth", "max-forwards", "min-se"),
        *("p-asserted-identity", "p-called-party-id", "path", "priority", "privacy", "proxy-authenticate"),
        *(
            "proxy-authorization",
            "proxy-require",
            "rack",
            "reason",
            "record-route",
            "refer-to",
            "referred-by",
        ),
        *("replaces", "require", "resource-priority", "retry-after", "route", "rseq", "service-route"),
        *("session-expires", "session-id", "subscription-state", "supported", "target-dialog", "timestamp"),
        *("to", "unsupported", "user-agent", "via", "warning", "www-authenticate"),
    )
)
"""Headers that have to pass: none of them can be a key's secret."""
TOKEN = re.compile(r"[A-Za-z0-9.!%*_+`'~-]{1,64}\Z")


class Finding(NamedTuple):
    """A fault at `loc`. `{other}` in its text stands for the place `other`.

    `unless`: a part of the config whose own fault explains this one away.
    """

    loc: Loc
    text: str
    other: Loc = ()
    unless: Loc = ()


def _twice(things: Iterable[tuple[Loc, Any]], what: str) -> Iterator[Finding]:
    """A finding for each thing that stood somewhere before."""
    seen: dict[Any, Loc] = {}
    for loc, thing in things:
        if thing in seen:
            yield Finding(loc, f"{what} {thing} stands at {{other}} too; keep one", seen[thing])
        else:
            seen[thing] = loc


def something_to_do(config: Config) -> Iterator[Finding]:
    """A gate without a listener, a trunk or a key can do nothing: more likely a mistake than a wish."""
    needed: list[tuple[Loc, object, str]] = [
        (("listen",), config.listen, 'a listener, such as ["udp://127.0.0.1:5060"]'),
        (("trunks",), config.trunks, 'a trunk: `trunks: {carrier: {gateways: ["sip:192.0.2.10"]}}`'),
        (("keys",), config.keys, 'a key: `keys: {acme: {sources: ["192.0.2.20"], pbx: "sip:192.0.2.20"}}`'),
    ]
    for name, trunk in config.trunks.items():
        needed.append(
            (("trunks", name, "gateways"), trunk.gateways, 'a gateway, such as ["sip:192.0.2.10:5060"]')
        )
    for loc, there, what in needed:
        if not there:
            yield Finding(loc, f"at least one is needed: {what}", unless=loc)


def listeners(config: Config) -> Iterator[Finding]:
    yield from _twice(((("listen", n), one.uri) for n, one in enumerate(config.listen)), "the listener")
    everywhere = {
        (uri.transport, uri.port, ipaddress.ip_address(uri.host).version): uri
        for uri in (one.uri for one in config.listen)
        if uri.wildcard
    }
    for n, one in enumerate(config.listen):
        uri = one.uri
        wide = everywhere.get((uri.transport, uri.port, ipaddress.ip_address(uri.host).version))
        if wide is not None and not uri.wildcard:
            yield Finding(
                ("listen", n), f"{uri} is a part of {wide}, which listens on every address; keep one"
            )
        ops = config.ops
        if ops and uri.transport != "udp" and ops.port == uri.port and (uri.host == ops.host or uri.wildcard):
            yield Finding(
                ("listen", n), f"{uri} takes the port of `ops` (http://{ops}); give one another port"
            )


def _same_place(peer: SipPeer, uri: ListenUri) -> bool:
    return (peer.host, peer.port, peer.transport) == (uri.host, uri.port, uri.transport)


def _peers(config: Config) -> Iterator[tuple[Loc, SipPeer]]:
    """Everyone the gate sends calls to."""
    for name, trunk in config.trunks.items():
        for n, peer in enumerate(trunk.gateways):
            yield ("trunks", name, "gateways", n), peer
        if isinstance(trunk.emergency_route, SipPeer):
            yield ("trunks", name, "emergency_route"), trunk.emergency_route
    for name, key in config.keys.items():
        if isinstance(key.pbx, SipPeer):
            yield ("keys", name, "pbx"), key.pbx


def reachable(config: Config) -> Iterator[Finding]:
    """A message leaves by a listener of its own transport and address family: each peer needs one."""
    ways = {(one.uri.transport, ipaddress.ip_address(one.uri.host).version) for one in config.listen}
    for loc, peer in _peers(config):
        if peer.is_name:
            yield from _name_reachable(config, loc, peer)
            continue
        version = ipaddress.ip_address(peer.host).version
        if ways and (peer.transport, version) not in ways:
            text = f"{peer} can't be reached: add a {peer.transport}:// listener with an IPv{version} address"
            yield Finding(loc, text, unless=("listen",))


def _name_reachable(config: Config, loc: Loc, peer: SipPeer) -> Iterator[Finding]:
    """Where a name is and by what transport, its look-up says; but a transport that is given needs a listener."""
    transports = {one.uri.transport for one in config.listen}
    if not transports:
        return
    if peer.transport_given or peer.secure:
        wanted = {peer.transport}
    elif peer.port_given:
        wanted = {"udp", "tcp"}
    else:
        wanted = {"udp", "tcp", "tls"}
    if not wanted & transports:
        needed = " or ".join(f"{name}://" for name in sorted(wanted, reverse=True))
        yield Finding(loc, f"{peer} can't be reached: add a {needed} listener", unless=("listen",))


def health(config: Config) -> Iterator[Finding]:
    for name, trunk in config.trunks.items():
        interval, timeout = trunk.health.interval_seconds, trunk.health.timeout_seconds
        if 0 < interval < timeout:
            text = f"`timeout_seconds` {timeout:g} is longer than `interval_seconds` {interval:g}; lower it"
            yield Finding(("trunks", name, "health", "timeout_seconds"), text)


def not_ourselves(config: Config) -> Iterator[Finding]:
    """A gateway or PBX that is the gate itself: every call would come back."""
    for loc, peer in _peers(config):
        if any(_same_place(peer, one.uri) for one in config.listen):
            yield Finding(loc, f"{peer} is a listener of the gate itself; write the other side's address")


def trunks(config: Config) -> Iterator[Finding]:
    for name, trunk in config.trunks.items():
        at = ("trunks", name)
        gateways = enumerate(trunk.gateways)
        yield from _twice((((*at, "gateways", n), peer) for n, peer in gateways), "the gateway")
        yield from _twice((((*at, "sources", n), net) for n, net in enumerate(trunk.sources)), "the network")


def emergency_routes(config: Config) -> Iterator[Finding]:
    """A trunk that is named is there, and has a gateway; a route is not the PBX that the call comes from."""
    pbxes = {
        (key.pbx.host, key.pbx.port): n for n, key in config.keys.items() if isinstance(key.pbx, SipPeer)
    }
    for name, trunk in config.trunks.items():
        loc, route = ("trunks", name, "emergency_route"), trunk.emergency_route
        if isinstance(route, str) and route not in config.trunks:
            known = ", ".join(config.trunks)
            yield Finding(loc, f"there is no trunk `{route}`; there is {known}. Or write `sip:ADDRESS:PORT`")
        elif isinstance(route, SipPeer) and (route.host, route.port) in pbxes:
            key = pbxes[route.host, route.port]
            yield Finding(
                loc, f"{route} is the PBX of key `{key}`: its emergency calls would come back to it"
            )


def sources(config: Config) -> Iterator[Finding]:
    """A network is a key's or a trunk's; of two that overlap, the more specific one wins. What two keys may share
    is in `config.identities`."""
    claimed: list[tuple[Loc, Any]] = []
    for name, key in config.keys.items():
        claimed += [(("keys", name, "sources", n), net) for n, net in enumerate(key.sources)]
    carrier = {net: name for name, trunk in config.trunks.items() for net in trunk.sources}
    for loc, net in claimed:
        if net in carrier:
            yield Finding(
                loc, f"the network {net} is a source of trunk `{carrier[net]}` too; it can't be both"
            )


def recorders(config: Config) -> Iterator[Finding]:
    """A session with a recorder takes no token and obeys no number rule: so it goes to recorders, and nobody else."""
    gateways = {peer.host: name for name, trunk in config.trunks.items() for peer in trunk.gateways}
    for name, key in config.keys.items():
        at = ("keys", name, "recorders")
        yield from _twice((((*at, n), net) for n, net in enumerate(key.recorders)), "the recorder")
        for n, net in enumerate(key.recorders):
            if not net.prefixlen:
                yield Finding((*at, n), f"{net} is every address there is; name the recording servers")
            elif net.num_addresses == 1 and str(net.network_address) in gateways:
                trunk = gateways[str(net.network_address)]
                text = f"{net.network_address} is a gateway of trunk `{trunk}`; a recorder needs an address of its own"
                yield Finding((*at, n), text)


def pbxes(config: Config) -> Iterator[Finding]:
    gateways = {
        (peer.host, peer.port): name for name, trunk in config.trunks.items() for peer in trunk.gateways
    }
    for name, key in config.keys.items():
        if isinstance(key.pbx, SipPeer) and (key.pbx.host, key.pbx.port) in gateways:
            trunk = gateways[key.pbx.host, key.pbx.port]
            text = f"{key.pbx} is a gateway of trunk `{trunk}`; the PBX needs an address of its own"
            yield Finding(("keys", name, "pbx"), text)
        if key.numbers and key.pbx is None:
            text = "`numbers` need a `pbx` that their calls go to, such as `pbx: sip:192.0.2.20`"
            yield Finding(("keys", name, "numbers"), text, unless=("keys", name, "pbx"))


def numbers(config: Config) -> Iterator[Finding]:
    """A DID belongs to one key: sorted by length and start, two that overlap stand side by side."""
    held: list[tuple[Numbers, Loc]] = []
    for name, key in config.keys.items():
        held += [(one.number, ("keys", name, "numbers", n)) for n, one in enumerate(key.numbers)]
    order = {loc: n for n, (_, loc) in enumerate(held)}
    held.sort(key=lambda pair: (len(pair[0].first), pair[0].first))
    widest: tuple[Numbers, Loc] | None = None
    for here in held:
        if widest is not None and here[0].first in widest[0]:
            (one, loc), (other, first) = sorted((widest, here), key=lambda pair: order[pair[1]], reverse=True)
            yield Finding(loc, f"the number {one} is held at {{other}} ({other}) too; keep one", first)
        if widest is None or here[0].first not in widest[0] or here[0].last > widest[0].last:
            widest = here


def caller_ids(config: Config) -> Iterator[Finding]:
    """I19: a list that lets nobody call is more likely a mistake than a wish."""
    for name, key in config.keys.items():
        if key.caller_ids is not None and not key.caller_ids:
            text = (
                "an empty list lets no call out; name the numbers that may be shown, or leave it out for any"
            )
            loc = ("keys", name, "caller_ids")
            yield Finding(loc, text, unless=loc)


def quiet_hours(config: Config) -> Iterator[Finding]:
    """T15: hours that end when they begin are none, or all: more likely a mistake than a wish."""
    for name, key in config.keys.items():
        hours = key.quiet_hours
        if hours is not None and minutes_of(hours.from_) == minutes_of(hours.to):
            text = f"begin and end at {hours.to}: nobody can tell whether that is never or always"
            yield Finding(("keys", name, "quiet_hours", "to"), text)


def consents(config: Config) -> Iterator[Finding]:
    """T14: a list that can't be read must not let anybody through, and not stop everybody unseen."""
    for name, key in config.keys.items():
        if key.consent is not None:
            try:
                read_numbers(key.consent)
            except BadNumbers as bad:
                yield Finding(("keys", name, "consent"), f"`{key.consent}`: {bad}")


def secret_headers(config: Config) -> Iterator[Finding]:
    """They are taken off whatever passes: a header that SIP needs can't be one."""
    for name, key in config.keys.items():
        header = key.secret_header.name if key.secret_header is not None else None
        if header is None:
            continue
        loc = ("keys", name, "secret_header", "name")
        if not TOKEN.match(header):
            yield Finding(
                loc, f"{shown(header)} is no header name: letters, digits and `-`, such as `X-Api-Key`"
            )
        elif header.lower() in SIP_NEEDS or len(header) == 1:
            yield Finding(
                loc, f"{shown(header)} is a header that SIP needs; take another, such as `X-Api-Key`"
            )


def registrar(config: Config) -> Iterator[Finding]:
    section = config.registrar
    if section.min_expires_seconds > section.expires_seconds:
        text = "longer than `expires_seconds`: nobody could register; lower it"
        yield Finding(("registrar", "min_expires_seconds"), text, unless=("registrar",))
    if section.contacts_per_user > section.contacts_per_key:
        text = f"less than `contacts_per_user` ({section.contacts_per_user}); raise it"
        yield Finding(("registrar", "contacts_per_key"), text, unless=("registrar",))


def limits(config: Config) -> Iterator[Finding]:
    for name, key in config.keys.items():
        for inner, outer, why in contradictions(key.limits.by_hand):
            text = f"{why}: they contradict; lower `{inner}` or raise `{outer}`"
            yield Finding(("keys", name, "limits", inner), text)
        yield from _further(("keys", name, "limits"), key.limits)
    for name, trunk in config.trunks.items():
        for inner, outer, why in contradictions(trunk.limits.by_hand):
            text = f"{why}: they contradict; lower `{inner}` or raise `{outer}`"
            yield Finding(("trunks", name, "limits", inner), text)
        yield from _further(("trunks", name, "limits"), trunk.limits)


def _further(at: Loc, limits: TrunkLimits) -> Iterator[Finding]:
    for place, text, other in more.faults(limits):
        yield Finding((*at, *place), text, (*at, *other) if other else ())


def tls(config: Config) -> Iterator[Finding]:
    """Listeners and peers over TLS need certificates, and these must be fit for use now."""
    for n, one in enumerate(config.listen):
        if one.uri.transport == "tls" and config.tls is None:
            text = (
                "a tls:// listener needs a certificate: `tls: {certificate: cert.pem, private_key: key.pem}`"
            )
            yield Finding(("listen", n), text, unless=("tls",))
    if config.tls is not None and config.tls.verify_client != "none" and config.tls.ca is None:
        text = f"`{config.tls.verify_client}` needs `ca`: the file with those who sign client certificates"
        yield Finding(("tls", "verify_client"), text, unless=("tls", "ca"))
    for name, trunk in config.trunks.items():
        if trunk.tls is not None and trunk.tls.private_key is not None and trunk.tls.certificate is None:
            at = ("trunks", name, "tls", "private_key")
            yield Finding(at, "a `private_key` needs its `certificate`", unless=at[:3])
    for place, text in certificates.faults(config):
        yield Finding(place, text)


def hooks(config: Config) -> Iterator[Finding]:
    for place, text in (*webhooks.faults(config), *notify.faults(config)):
        yield Finding(place, text)


TOKEN_SHORTEST = 16
"""Characters: what is shorter can be guessed over a network."""


def admin(config: Config) -> Iterator[Finding]:
    """Who did what is in the audit log by the token's name: each has one, and it is no word."""
    at = ("admin", "tokens")
    tokens = config.admin.tokens
    yield from _twice((((*at, n, "name"), one.name) for n, one in enumerate(tokens)), "the token's name")
    for n, one in enumerate(tokens):
        if len(one.token.get_secret_value()) < TOKEN_SHORTEST:
            text = f"a token of fewer than {TOKEN_SHORTEST} characters can be guessed; `openssl rand -hex 24` makes one"
            yield Finding((*at, n, "token"), text)


CHECKS: tuple[Callable[[Config], Iterator[Finding]], ...] = (
    something_to_do,
    listeners,
    reachable,
    health,
    not_ourselves,
    trunks,
    emergency_routes,
    sources,
    recorders,
    pbxes,
    numbers,
    caller_ids,
    quiet_hours,
    consents,
    secret_headers,
    registrar,
    limits,
    tls,
    hooks,
    admin,
)


def findings(config: Config) -> Iterator[Finding]:
    """Every fault between values."""
    for check in CHECKS:
        yield from check(config)
