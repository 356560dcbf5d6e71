"""Who may hold how many connections: over all listeners, per address, and how many of them strangers may have."""

from __future__ import annotations

import resource
from typing import Final, Protocol

from callgate.config.schema import Strangers, Streams
from callgate.net.shield import BURST_SECONDS, Allowance
from callgate.proxy.flow import Flow

RESERVED_FILES: Final = 128
"""Descriptors kept for what is no connection: listeners, logs, databases."""
NEW_SECONDS: Final = 8.0
"""Strangers may fill all their places anew in this time, so that the oldest of them has at least so long."""


class Guest(Protocol):
    """An open connection."""

    flow: Flow
    number: int

    def close(self) -> None: ...


def files_allowed() -> int:
    """How many descriptors this process may have, after asking for all that it can get."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return 65_536 if soft == resource.RLIM_INFINITY else soft


class Doors:
    """`half_open`: unfinished TLS handshakes that one address may have. `files`: descriptors there are."""

    def __init__(self, streams: Streams, strangers: Strangers, half_open: int, files: int) -> None:
        room = max(16, files - RESERVED_FILES)
        self._most = min(streams.connections, room)
        self._most_each = streams.connections_per_source
        self._strangers_most = min(strangers.connections, max(8, room // 4))
        self._strangers_each = strangers.connections_per_source
        self._half_open_each = half_open
        self._new = Allowance(
            max(1.0, self._strangers_each / BURST_SECONDS), max(1.0, self._strangers_most / NEW_SECONDS)
        )
        self._count = 0
        self._by_source: dict[str, int] = {}
        self._strangers: dict[int, Guest] = {}  # the oldest first; some may have become known
        self._strangers_at: dict[str, dict[int, Guest]] = {}
        self._half_open: dict[str, int] = {}

    def __len__(self) -> int:
        return self._count

    def refuses(self, host: str, now: float, *, known: bool, secure: bool) -> str:
        """Why one more connection from an address can't be had; empty where it can."""
        if self._count >= self._most or self._by_source.get(host, 0) >= self._most_each:
            return "too many connections"
        if secure and self._half_open.get(host, 0) >= self._half_open_each:
            return "too many half-open handshakes"
        if not known and (self._crowded(host) or not self._new.admits(host, now)):
            return "stranger flood"
        return ""

    def _crowded(self, host: str) -> bool:
        """Whether an address has as many connections of strangers as it may have."""
        there = self._strangers_at.get(host)
        if there is None or len(there) < self._strangers_each:
            return False
        for guest in [guest for guest in there.values() if guest.flow.known]:
            self._stranger_no_more(guest)
        return len(self._strangers_at.get(host, ())) >= self._strangers_each

    def enter(self, guest: Guest) -> None:
        """A connection was accepted. Of too many strangers the one that came first goes."""
        self._count += 1
        host = guest.flow.host
        self._by_source[host] = self._by_source.get(host, 0) + 1
        if guest.flow.known:
            return
        while len(self._strangers) >= self._strangers_most:
            oldest = next(iter(self._strangers.values()))
            self._stranger_no_more(oldest)
            if not oldest.flow.known:
                oldest.close()
        self._strangers[guest.number] = guest
        self._strangers_at.setdefault(host, {})[guest.number] = guest

    def leave(self, guest: Guest) -> None:
        """A connection that has entered is closed."""
        self._count -= 1
        _less(self._by_source, guest.flow.host)
        self._stranger_no_more(guest)

    def _stranger_no_more(self, guest: Guest) -> None:
        if self._strangers.pop(guest.number, None) is not None:
            host = guest.flow.host
            there = self._strangers_at[host]
            del there[guest.number]
            if not there:
                del self._strangers_at[host]

    def begins(self, host: str) -> None:
        """A TLS handshake from there has begun."""
        self._half_open[host] = self._half_open.get(host, 0) + 1

    def finishes(self, host: str) -> None:
        """It has ended, well or not."""
        _less(self._half_open, host)


def _less(counts: dict[str, int], host: str) -> None:
    left = counts[host] - 1
    if left:
        counts[host] = left
    else:
        del counts[host]
