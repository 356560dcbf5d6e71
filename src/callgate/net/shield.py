"""The limits of strangers, before anything of theirs is read: so much from one address, so much in all.

A stranger is whoever is no key's and no trunk's by its address or certificate, and has not yet shown to be a
user or a side of a dialog (`Flow.known`). Known peers never come here but once, to be found known; so a flood of
strangers, from however many addresses, takes nothing of theirs but the time it takes to throw it away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from callgate.proxy.directory import Directory
from callgate.proxy.flow import Flow

SOURCES: Final = 16_384
"""Addresses remembered in one generation. There are two: what is in neither begins with all its burst again, and what
all strangers may send together holds all the same."""
BURST_SECONDS: Final = 5.0
"""How many seconds' worth one address may send at once; all together: one second's worth."""


class Allowance:
    """So many a second from one source and from all of them. O(1), and bounded whatever comes."""

    __slots__ = ("_all", "_all_until", "_each", "_earlier", "_recent")

    def __init__(self, each: float, together: float) -> None:
        self._each = 1.0 / each
        self._all = 1.0 / together
        # Source → when it will have paid for all that it has sent (a token bucket kept as one number).
        self._recent: dict[str, float] = {}
        self._earlier: dict[str, float] = {}
        self._all_until = 0.0

    def __contains__(self, source: str) -> bool:
        """Whether a source is remembered."""
        return source in self._recent or source in self._earlier

    def __len__(self) -> int:
        return len(self._recent) + len(self._earlier)

    def admits(self, source: str, now: float) -> bool:
        """Whether one more is taken from a source. What is refused costs it nothing."""
        until = self._recent.get(source)
        if until is None:
            if len(self._recent) >= SOURCES:
                self._earlier, self._recent = self._recent, {}
            until = self._recent[source] = self._earlier.get(source, 0.0)
        if until < now:
            until = now
        all_until = self._all_until if self._all_until > now else now
        if until - now > BURST_SECONDS - self._each or all_until - now > 1.0:
            return False
        self._recent[source] = until + self._each
        self._all_until = all_until + self._all
        return True

    def forget(self) -> None:
        self._recent, self._earlier = {}, {}


class Shield:
    """Who is a stranger, and how much strangers may send. One for datagrams and one for streams, so that forged
    senders, which only datagrams can have, take nothing from those who connect. `directory` gives the present one."""

    __slots__ = ("_directory", "_generation", "_messages")

    def __init__(self, directory: Callable[[], Directory], each: float, together: float) -> None:
        self._directory = directory
        self._generation = -1  # of the one that strangers are remembered from
        self._messages = Allowance(each, together)

    def knows(self, flow: Flow) -> bool:
        """Whether a flow's address or certificate is a key's or a trunk's, though more may be required of it; notes it
        in `flow.known`."""
        peer = self._directory().identify(flow)
        flow.known = flow.known or peer.known or bool(peer.owners or peer.named)
        return flow.known

    def same_peer(self, one: Flow, other: Flow) -> bool:
        """Whether two flows are one key's or one trunk's. Who is known by a password alone is not, from another
        connection: behind one address there may be many."""
        first, second = self._directory().identify(one), self._directory().identify(other)
        return first.known and first.key is second.key and first.trunk is second.trunk

    def is_stranger(self, host: str) -> bool:
        """Whether an address is remembered as a stranger's: then nobody need look it up again."""
        generation = self._directory().generation
        if self._generation != generation:
            self._generation = generation
            self._messages.forget()
        return host in self._messages

    def admits(self, host: str, now: float) -> bool:
        """Whether one more message of a stranger is read."""
        return self._messages.admits(host, now)
