"""`callgate check`: is the config fit for use, and what does each key's contract come to, in words."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from importlib.util import find_spec
from urllib.parse import urlsplit

import typer

from callgate.cli import ConfigPath, load_or_exit
from callgate.config import Config, Key, SipPeer, Trunk, certificates, effective_limits, mode_of
from callgate.config.arithmetic import limit_lines, more_lines
from callgate.config.numberfile import read_numbers
from callgate.policy.dial import Lists
from callgate.policy.parts import TRUNK_FIELDS
from callgate.policy.profile import NESTED, RULE, Limits, NumberRules, Profile
from callgate.sip.certificate import proves, words_for

LONG_QUEUE = 30.0
"""Seconds; about as long as a PBX lets an INVITE go without anything but a 100."""
MIN_SECRET = 16
"""Characters; a shorter signing key can be guessed."""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""

    @app.command()
    def check(config: ConfigPath) -> None:
        """Check a config, and print the arithmetic of each key's contract.

        Exit 2 with every fault and its line where it can't be used. Warnings are no faults.
        """
        loaded = load_or_exit(config)
        for line in report(loaded):
            typer.echo(line)


def _number_lines(rules: NumberRules) -> Iterator[str]:
    for verdict, classes in (("blocked", rules.blocked), ("allowed", rules.allowed)):
        by_rule: dict[str, list[str]] = {}
        for name, rule in classes.items():
            by_rule.setdefault(rule, []).append(name)
        for rule, names in by_rule.items():
            yield f"  {verdict}   {rule}: {', '.join(names)}"
    for verdict, lists in (("blocked", rules.lists.block), ("allowed", rules.lists.allow)):
        for found, rule in lists:
            yield f"  {verdict}   {rule}: {len(found):,} entries of its list"
    rest = {"allow": "allowed", "block": "blocked"}[rules.default]
    yield f"  {rest}   {rules.default_rule + ': ' if rules.default_rule else ''}every other number"


def _list_lines(lists: Lists | None) -> Iterator[str]:
    """The lists of numbers of a trunk or a key."""
    if lists is None:
        return
    for name, found in (("block", lists.block), ("allow", lists.allow), ("trusted", lists.trusted)):
        if found:
            yield f"  dial      {name}: {len(found):,} {'entry' if len(found) == 1 else 'entries'}"
    if lists.default is not None:
        what = {"allow": "allowed", "deny": "blocked"}[lists.default]
        yield f"  dial      default {lists.default}: every other number is {what}"


def _identity_lines(key: Key) -> Iterator[str]:
    """What shows that a call is this key's, besides its sources."""
    if key.digest:
        yield f"  digest    {', '.join(user.username for user in key.digest)}"
    if key.tls_names:
        yield f"  tls_names {', '.join(key.tls_names)}"
    if key.secret_header is not None:
        yield f"  header    {key.secret_header.name}"
    if key.require:
        yield f"  require   {', '.join(key.require)}: all of these"


def report(config: Config) -> Iterator[str]:
    """The whole answer, line by line."""
    yield f"{config.path}: fine"
    yield ""
    listeners = [f"{one.uri}" + (f" (as {one.advertise})" if one.advertise else "") for one in config.listen]
    yield f"listen     {', '.join(listeners)}"
    yield f"ops        {f'http://{config.ops}' if config.ops else 'none'}"
    yield f"state_dir  {config.state_dir or 'none: nothing is kept'}"
    yield f"records    {_records(config)}"
    for name, trunk in config.trunks.items():
        profile = config.profiles[name]
        yield ""
        yield f"trunk {name}"
        yield f"  gateways  {', '.join(map(str, trunk.gateways))}"
        if trunk.sources:
            yield f"  sources   {', '.join(map(str, trunk.sources))}"
        yield f"  contract  {profile.name}: {profile.title}"
        if trunk.numbering == "any":
            yield "  numbering any: every Request-URI goes, emergency numbers are judged all the same"
        yield f"  emergency {_emergency(trunk, name)}"
        yield from _number_lines(profile.numbers)
        yield from _list_lines(config.lists.get(("trunks", name)))
        yield from _own_lines(trunk)
        if profile.not_enforced_yet:
            yield "  not enforced yet:"
        for rule, text in profile.not_enforced_yet:
            yield f"    {rule}: {text}"
    for name, key in config.keys.items():
        profile = config.profiles[key.trunk]
        yield ""
        yield f"key {name} (trunk {key.trunk}, contract {profile.name})"
        if mode_of(config, key) == "shadow":
            yield "  mode      shadow: what is over a limit passes, and is logged and counted"
        yield f"  sources   {', '.join(map(str, key.sources)) or 'none'}"
        yield from _identity_lines(key)
        if key.recorders:
            yield f"  recorders {', '.join(map(str, key.recorders))}"
        yield f"  pbx       {_pbx(config, key)}"
        count = sum(len(one.number) for one in key.numbers)
        shown = ", ".join(str(one.number) for one in key.numbers[:5]) + (
            ", …" if len(key.numbers) > 5 else ""
        )
        yield f"  numbers   {shown or 'none'}" + (f" ({count} numbers)" if count > 1 else "")
        yield from _list_lines(config.lists.get(("keys", name)))
        yield from limit_lines(effective_limits(config, name), profile)
        yield from _courtesy_lines(key)
    found = list(warnings(config))
    if found:
        yield ""
    for text in found:
        yield f"warning: {text}"


def _records(config: Config) -> str:
    """Where call records go, and where they wait."""
    url = config.database_url
    if url.startswith("sqlite:"):
        where = f"SQLite {url.removeprefix('sqlite:///')}"
    else:
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2] or "this machine"
        where = f"PostgreSQL {parts.path.removeprefix('/') or 'the default database'} on {place}"
    days = config.records.keep_days
    kept = "for ever" if days is None else f"for {days:g} days"
    waits = "in memory only" if config.state_dir is None else f"in {config.state_dir}"
    return f"{where}, kept {kept}; while that is away they wait {waits}"


def _emergency(trunk: Trunk, name: str) -> str:
    route = trunk.emergency_route
    if route is None:
        return f"no route: answered at once with {trunk.emergency_code}, so that the PBX takes its next route"
    if route == name:
        return "this trunk carries them: at once, past every limit"
    where = f"trunk {route}" if isinstance(route, str) else route
    return f"to {where} at once, past every limit"


def _courtesy_lines(key: Key) -> Iterator[str]:
    """Who may be called when, and what is watched besides."""
    if key.consent is not None:
        yield f"  T14 consent              {len(read_numbers(key.consent))} numbers of {key.consent}; others: 403"
    hours = key.quiet_hours
    if hours is not None:
        text = f"no call {hours.from_} to {hours.to} by the called party's clock: 403"
        if hours.holidays:
            text += ", nor on public holidays in Japan"
        for what, count in (
            ("days of rest", len(hours.quiet_dates)),
            ("days without any", len(hours.free_dates)),
            ("numbers exempt", sum(map(len, hours.free_numbers))),
        ):
            text += f"; {count} {what}" if count else ""
        yield f"  T15 quiet_hours          {text}"
    watch = key.watch
    if watch.distinct_numbers is not None:
        then = "held, 503" if watch.hold else "an alert"
        yield (
            f"  V2  distinct_numbers     {watch.distinct_numbers} different numbers of Japan within "
            f"{watch.distinct_seconds:g} s, or up at once: {then}"
        )
    if watch.repeats is not None:
        yield (
            f"  V13 repeats              {watch.repeats} calls from one caller to one number within "
            f"{watch.repeat_seconds:g} s: an alert"
        )


def _own_lines(trunk: Trunk) -> Iterator[str]:
    """The limits of a trunk itself."""
    given = trunk.limits.by_hand
    limits = Limits(**{name: value for name, value in given.items() if value is not None})
    for name in TRUNK_FIELDS:
        value = getattr(limits, name)
        if name != "more" and value is not None:
            turns = ", which take turns" if name == "outbound_cps" else ""
            yield f"  {RULE[name]:<4}{name:<21}{value:<8}over all its keys{turns}"
    yield from more_lines(limits.more, None)


def _pbx(config: Config, key: Key) -> str:
    if key.pbx != "registered":
        return str(key.pbx or "none")
    names = sorted({one.sent_by.host for one in config.listen} | set(config.registrar.domains))
    return f"registered: calls ring whoever registers here, at {' or '.join(names)}"


def _is_public(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return True  # an advertised name is there to be found from outside


def _media_warning(config: Config, name: str, key: Key) -> Iterator[str]:
    public = next((str(one.sent_by) for one in config.listen if _is_public(one.sent_by.host)), None)
    if public is None or not isinstance(key.pbx, SipPeer) or key.pbx.is_name:
        return
    address = ipaddress.ip_address(key.pbx.host)
    if address.is_private and not address.is_loopback:
        yield (
            f"key {name}: the PBX {key.pbx.host} has a private address, and the gate listens at {public}. "
            "Media flows past the gate: the PBX's SDP must name an address that the carrier can reach"
        )


def _above_contract(name: str, limits: Limits, profile: Profile) -> Iterator[str]:
    for field in ("outbound_cps", "inbound_calls"):
        value, contract = getattr(limits, field), profile.limits.get(field)
        if contract is not None and (value is None or value > contract):
            shown = "no limit" if value is None else value
            yield (
                f"key {name}: {field} {shown} is above the contract's {contract} ({RULE[field]}, profile "
                f"{profile.name}); the carrier may suspend the account"
            )
    if limits.queues and limits.queue_seconds > LONG_QUEUE:
        yield (
            f"key {name}: queue_seconds {limits.queue_seconds:g} is longer than a PBX waits for a call to ring "
            f"({LONG_QUEUE:g} s); it will have given up"
        )
    for inner, each, outer in NESTED:
        small, large = getattr(limits, inner), getattr(limits, outer)
        if small is not None and large is not None and small * each > large:
            yield f"key {name}: {inner} {small} can't be reached, {outer} is {large} ({limits.origin[outer]})"


def _key_warnings(config: Config, name: str, key: Key) -> Iterator[str]:
    if not (key.sources or key.digest or key.tls_names or key.secret_header):
        yield f"key {name}: no `sources`, and nothing else that tells its calls, so it can't place a call"
    if key.secret_header is not None and any(one.uri.transport != "tls" for one in config.listen):
        yield f"key {name}: `secret_header` can be read on the way to a udp:// or tcp:// listener; use tls://"
    for net in key.sources:
        if net.prefixlen == 0:
            yield f"key {name}: the source {net} is everybody: whoever reaches the gate may call at your cost"
    if key.pbx is not None and not key.numbers:
        yield f"key {name}: no `numbers`, so every inbound call is refused with 404"
    if mode_of(config, key) == "shadow":
        yield f"key {name}: mode shadow keeps to no limit; the carrier may suspend the account"
    yield from _media_warning(config, name, key)
    yield from _lists_warning(config, f"key {name}", ("keys", name), config.profiles[key.trunk])
    yield from _above_contract(name, effective_limits(config, name), config.profiles[key.trunk])


def _lists_warning(config: Config, who: str, place: tuple[str, str], profile: Profile) -> Iterator[str]:
    lists = config.lists.get(place)
    rule = profile.numbers.default_rule
    if lists is None or profile.numbers.default != "block":
        return
    if lists.allow or lists.default == "allow":
        yield (
            f"{who}: `dial` allows numbers that the contract's list does not hold ({rule or profile.name}); "
            "be sure that the carrier carries them"
        )


def _missing_tcp(config: Config) -> Iterator[str]:
    streams = {(one.uri.host, one.uri.port) for one in config.listen if one.uri.transport == "tcp"}
    for one in config.listen:
        if one.uri.transport == "udp" and (one.uri.host, one.uri.port) not in streams:
            yield (
                f"{one.uri} without a tcp:// listener beside it: requests of more than 1300 octets come by TCP "
                "(RFC 3261 §18.2.1)"
            )


def warnings(config: Config) -> Iterator[str]:
    """What is allowed and probably not meant."""
    if config.state_dir is None and config.secret is None:
        yield "no `secret` and no `state_dir`: after a restart, calls that were up can't be verified any more"
    if config.state_dir is None and any(key.pbx == "registered" for key in config.keys.values()):
        yield "`state_dir` is null: after a restart nobody is registered until the phones do it again"
    yield from _missing_tcp(config)
    if config.secret is not None and len(config.secret.get_secret_value()) < MIN_SECRET:
        yield f"`secret` is shorter than {MIN_SECRET} characters; it can be guessed"
    digest = config.digest
    if digest.secret is not None and len(digest.secret.get_secret_value()) < MIN_SECRET:
        yield f"`digest.secret` is shorter than {MIN_SECRET} characters; it can be guessed"
    if set(digest.algorithms) == {"MD5"} and any(key.digest for key in config.keys.values()):
        yield "`digest.algorithms` is MD5 alone: passwords can be guessed from what goes over the wire; add SHA-256"
    for one in config.listen:
        if one.uri.wildcard and one.advertise is None:
            yield (
                f"listen {one.uri}: without `advertise` the gate calls itself by the address that this "
                "machine reaches the first gateway from"
            )
    if config.database_url.startswith("postgresql:") and not find_spec("psycopg"):
        yield "`database` is PostgreSQL, and psycopg is not installed: pip install 'psycopg[binary]'"
    if config.ops is None:
        yield "`ops` is null: no /metrics, /healthz and /readyz"
    if config.ops_warning:
        yield config.ops_warning
    yield from tls_warnings(config)
    for name in config.trunks:
        yield from _lists_warning(config, f"trunk {name}", ("trunks", name), config.profiles[name])
    for name, key in config.keys.items():
        yield from _key_warnings(config, name, key)


def tls_warnings(config: Config) -> Iterator[str]:
    """Certificates that will not do for long, or not for everybody."""
    for place, file, expires in certificates.expiries(config):
        days = (expires - time.time()) / 86_400
        if days < certificates.WARNING_DAYS:
            yield f"{'.'.join(map(str, place))}: `{file}` expires in {days:.0f} days; renew it"
    yield from _unnamed_listeners(config)
    for name, trunk in config.trunks.items():
        bare = [gateway for gateway in trunk.gateways if gateway.transport == "tls" and not gateway.is_name]
        if bare and (trunk.tls is None or trunk.tls.name is None):
            yield (
                f"trunk {name}: {bare[0]} is a bare address, so its certificate must hold that address; "
                f"set `trunks.{name}.tls.name` where it holds a name"
            )


def _unnamed_listeners(config: Config) -> Iterator[str]:
    """TLS listeners that call themselves by what their certificate does not hold."""
    if config.tls is None:
        return
    certificate = certificates.examine(certificates.server_files(config.tls)) or {}
    for one in config.listen:
        host = one.sent_by.host
        if one.uri.transport != "tls" or (one.uri.wildcard and one.advertise is None):
            continue
        if not proves(certificate, (host,)):
            held = words_for(certificate)
            yield f"listen {one.uri}: the certificate is for {held}, not for {host}; who verifies that refuses it"
