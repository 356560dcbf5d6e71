"""What a key has, made from its section of the config: who it is, when and whom it may call, what is watched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from callgate.config import (
    Config,
    KeyNumber,
)
from callgate.config import Numbers as NumberRange
from callgate.config.numberfile import read_numbers
from callgate.config.schema import DigestUser, Watch
from callgate.config.schema import Key as KeySection
from callgate.config.values import minutes_of
from callgate.policy.hours import QuietHours
from callgate.policy.numberset import NumberSet
from callgate.policy.watch import Watching
from callgate.proxy.identity.access import Access, User
from callgate.proxy.peers import Key, Numbers
from callgate.sip.digest import ALGORITHMS, Algorithm, ha1

SECRET_FILE = "secret"
ELSEWHERE = {4: "192.0.2.1", 6: "2001:db8::1"}
"""An address that only the default route leads to (RFC 5737, RFC 3849). Nothing is sent there."""


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


def only_number_of(numbers: Sequence[KeyNumber]) -> str:
    """The number of a key that has exactly one."""
    if len(numbers) == 1 and len(numbers[0].number) == 1:
        return numbers[0].number.first
    return ""


def quiet_hours_of(section: KeySection) -> QuietHours | None:
    """T15 of a key; None where nothing is quiet."""
    hours = section.quiet_hours
    if hours is None:
        return None
    return QuietHours(
        minutes_of(hours.from_),
        minutes_of(hours.to),
        holidays=hours.holidays,
        quiet_dates=frozenset(hours.quiet_dates),
        free_dates=frozenset(hours.free_dates),
        free_numbers=NumberSet((int(n.first), int(n.last)) for n in hours.free_numbers),
    )


def consent_of(section: KeySection) -> NumberSet | None:
    """T14: whom a key may call; None for anybody. Raises `BadNumbers`."""
    return None if section.consent is None else read_numbers(section.consent)


def watching_of(watch: Watch) -> Watching:
    return Watching(
        distinct=watch.distinct_numbers,
        distinct_seconds=watch.distinct_seconds,
        repeats=watch.repeats,
        repeat_seconds=watch.repeat_seconds,
        fax=watch.fax,
    )


def reach_of(watch: Watch) -> tuple[int, float] | None:
    """V2 as a limit: the call that would reach the number is held."""
    if not watch.hold or watch.distinct_numbers is None:
        return None
    return watch.distinct_numbers - 1, watch.distinct_seconds


def caller_ids_of(ranges: Iterable[NumberRange], key: Key) -> Numbers[Key]:
    """I19: what a key's calls may show. Ranges may overlap; a look-up wants them apart."""
    found: Numbers[Key] = Numbers()
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
