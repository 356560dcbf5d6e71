"""Against guessing: a source address that is wrong too often is shut out for a while. Never a user by his name: then a
stranger could shut out the PBX.

Behind one address there may be many: a phone with an old password must not take its neighbours along. So whoever has
shown a right password over a flow of its own (`Proven`) goes on over it while its address is shut out, until one is
wrong; and the users whose failures shut the address out are looked at less often from then on (on probation), so that
they do not do it again and again. Nobody else's password is looked at meanwhile, right or wrong: no guess learns
anything.
"""

from __future__ import annotations

from collections import deque
from ipaddress import IPv6Address

SOURCES = 4096
"""Addresses remembered at once; of more, those that have been here the longest are forgotten."""
USERS = 64
"""Users remembered of one flow."""
PROVEN_SECONDS = 4000.0
"""A right password counts for so long: longer than a phone waits between two REGISTERs."""

Place = tuple[str, int, int]
"""Of a flow: its address, port and connection."""


def who(source: str) -> str:
    """What counts as one source: an address, of IPv6 its /64 (one customer has as many addresses as he likes)."""
    if ":" not in source:
        return source
    return f"{int(IPv6Address(source)) >> 64:x}::"


class Throttle:
    """`failed` for each wrong answer, `shut_out` and `looks_at` before another is looked at. Costs two `if`s while
    nobody guesses."""

    def __init__(self) -> None:
        self._failures: dict[str, deque[tuple[float, bytes, int]]] = {}
        self._until: dict[str, float] = {}
        self._probation: dict[tuple[str, bytes], float] = {}  # when its next answer is looked at

    def failed(
        self,
        source: str,
        now: float,
        failures: int,
        per_seconds: float,
        block_seconds: float,
        user: bytes = b"",
        mark: int = 0,
    ) -> bool:
        """Take note of a failure; True where it shuts the source out: the `failures`th within `per_seconds`. `mark`
        tells one request from another: a copy of one that was lost on the way is no second guess. 0: unknown."""
        source = who(source)
        times = self._failures.pop(source, None)
        if times is None or times.maxlen != failures:  # a reload may have changed the number
            times = deque(times or (), maxlen=failures)
            if len(self._failures) >= SOURCES:
                del self._failures[next(iter(self._failures))]
        if mark and any(mark == known for _, _, known in times):
            self._failures[source] = times
            return False
        times.append((now, user, mark))
        if len(times) < failures or now - times[0][0] >= per_seconds or not block_seconds:
            self._failures[source] = times  # the latest at the end
            return False
        self._until.pop(source, None)
        if len(self._until) >= SOURCES:
            del self._until[next(iter(self._until))]
        self._until[source] = now + block_seconds
        for name in {user for _, user, _ in times}:
            self._look_at(source, name, now + block_seconds)
        return True

    def _look_at(self, source: str, user: bytes, when: float) -> None:
        self._probation.pop((source, user), None)
        if len(self._probation) >= SOURCES:
            del self._probation[next(iter(self._probation))]
        self._probation[source, user] = when

    def shut_out(self, source: str, now: float) -> bool:
        if not self._until:
            return False
        source = who(source)
        until = self._until.get(source)
        if until is None:
            return False
        if now >= until:
            del self._until[source]
            return False
        return True

    def looks_at(self, source: str, user: bytes, now: float, failures: int, per_seconds: float) -> bool:
        """Whether an answer of this user is looked at. On probation only so often that he alone does not shut the
        source out once more: half of what would do it."""
        if not self._probation:
            return True
        source = who(source)
        when = self._probation.get((source, user))
        if when is None:
            return True
        if now < when:
            return False
        self._look_at(source, user, now + 2 * per_seconds / failures)
        return True

    def right(self, source: str, user: bytes) -> None:
        """He has shown the right password: his probation is over. What the source did before still counts, or who
        has one password could guess the others in peace."""
        if self._probation:
            self._probation.pop((who(source), user), None)

    def blocked_until(self, now: float) -> float:
        """When the last of the blocks ends; 0 where there is none."""
        for source in [source for source, until in self._until.items() if now >= until]:
            del self._until[source]
        return max(self._until.values(), default=0.0)


class Proven:
    """Who has shown a right password over which flow."""

    def __init__(self) -> None:
        self._users: dict[Place, dict[bytes, float]] = {}

    def right(self, place: Place, user: bytes, now: float) -> None:
        users = self._users.get(place)
        if users is None:
            if len(self._users) >= SOURCES:
                del self._users[next(iter(self._users))]
            users = self._users[place] = {}
        elif user not in users and len(users) >= USERS:
            del users[next(iter(users))]
        users[user] = now

    def wrong(self, place: Place, user: bytes) -> None:
        users = self._users.get(place)
        if users is not None:
            users.pop(user, None)
            if not users:
                del self._users[place]

    def knows(self, place: Place, user: bytes, now: float) -> bool:
        """Whether this user has."""
        at = self._users.get(place, {}).get(user)
        return at is not None and now - at < PROVEN_SECONDS

    def knows_anybody(self, place: Place, now: float) -> bool:
        """Whether some user has: he may be asked for it once more."""
        return any(now - at < PROVEN_SECONDS for at in self._users.get(place, {}).values())
