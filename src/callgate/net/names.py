"""Keeps the places of every configured name at hand, so that no message ever waits for DNS.

Each name is looked up at the start and again before its TTL has run out. While DNS is away the last answer serves for
`stale_seconds` beyond its TTL. Only names of the config are looked up: nothing that a message brings along.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from random import random as any_random
from typing import Protocol

from callgate.config import SipPeer
from callgate.net.dns import Failed
from callgate.net.locate import Located
from callgate.proxy.trunk.places import Place, Random

AT_ONCE = 8
"""Names that are looked up at the same time."""
TTL_MIN, TTL_MAX = 1.0, 3600.0
"""Seconds: what a TTL below and above is taken for."""
EARLY = 0.9
"""The part of the TTL after which a name is looked up anew."""
AGAIN, AGAIN_MAX = 1.0, 30.0
"""Seconds until a look-up that failed is tried again, doubling up to the second."""
SOONEST = 5.0
"""Seconds between two look-ups of a name at least, where somebody who does not answer is the reason."""
GONE_AFTER = 2
"""Answers in a row that a name has no service, until it is believed."""

OnChange = Callable[[SipPeer, tuple[Place, ...], str], None]
"""(name, its places, what is wrong): called when either has changed. No places: calls can't go there."""


class Locates(Protocol):
    async def locate(self, peer: SipPeer) -> Located:
        """Raises Failed."""
        ...


class Name:
    """What is known of one name. Times are the caller's, seconds; `again` is when to look it up next."""

    def __init__(self, peer: SipPeer, stale_seconds: float, random: Random = any_random) -> None:
        self.peer = peer
        self.places: tuple[Place, ...] = ()
        self.trouble = ""
        self.again = 0.0
        self._stale = stale_seconds
        self._random = random
        self._sure = False
        self._good_until = float("-inf")
        self._failures = 0
        self._absences = 0

    def found(self, located: Located, now: float) -> bool:
        """A look-up has ended: whether anything has changed."""
        if not located.places:
            self._absences += 1
            trouble = f"{self.peer.host} has no address in DNS for SIP"
            if self.places and self._absences < GONE_AFTER:
                return self._wait(now, self.places, trouble)
            return self._wait(now, (), trouble)
        self._absences = 0
        if not located.sure and self._sure and now < self._good_until + self._stale:
            return self._wait(now, self.places, "a part of the look-up failed: the last answer serves")
        ttl = min(max(located.ttl, TTL_MIN), TTL_MAX)
        self._sure = located.sure
        self._good_until = now + ttl
        if not located.sure:
            return self._wait(now, located.places, "")
        self._failures = 0
        self.again = now + max(TTL_MIN, ttl * EARLY * (1.0 - self._random() / 10))
        return self._set(located.places, "")

    def failed(self, why: str, now: float) -> bool:
        """Nothing could be learned: whether anything has changed."""
        return self._wait(now, self.places, why)

    def _wait(self, now: float, places: tuple[Place, ...], trouble: str) -> bool:
        self._failures += 1
        pause = min(AGAIN * 2 ** min(self._failures - 1, 10), AGAIN_MAX) * (0.75 + self._random() / 4)
        end = self._good_until + self._stale
        if places and now < end < now + pause:
            pause = end - now
        if places and now >= end:
            places = ()
        if not places:
            self._sure = False
        self.again = now + pause
        return self._set(places, trouble)

    def _set(self, places: tuple[Place, ...], trouble: str) -> bool:
        if places == self.places and bool(trouble) == bool(self.trouble):
            return False
        self.places, self.trouble = places, trouble
        return True


class _Wait:
    """A wait that can be made shorter. `began`: when the last look-up ended, the loop's time."""

    def __init__(self) -> None:
        self.began = 0.0
        self._over = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    async def until(self, when: float) -> None:
        loop = asyncio.get_running_loop()
        self.began = loop.time()
        self._over.clear()
        self._timer = loop.call_at(when, self._over.set)
        try:
            await self._over.wait()
        finally:
            self._timer.cancel()
            self._timer = None

    def end_at(self, when: float) -> None:
        """End the present wait at `when` already; nothing where none is on."""
        if self._timer is not None and when < self._timer.when():
            self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_at(when, self._over.set)


class Names:
    """One task per name; `changed` hears of every change."""

    def __init__(
        self,
        peers: Iterable[SipPeer],
        locator: Locates,
        stale_seconds: float,
        changed: OnChange,
        unexpected: Callable[[Exception], None],
    ) -> None:
        self._stale = stale_seconds
        self._names = {peer: Name(peer, stale_seconds) for peer in peers}
        self._locator = locator
        self._changed = changed
        self._unexpected = unexpected
        self._free = asyncio.Semaphore(AT_ONCE)
        self._waits = {peer: _Wait() for peer in self._names}
        self._tasks: dict[SipPeer, asyncio.Task[None]] = {}
        self._unasked = len(self._names)
        self._all_asked = asyncio.Event()

    async def start(self, within: float) -> None:
        """Look up every name; wait for the first answers, `within` seconds at most."""
        for name in self._names.values():
            self._begin(name)
        if self._tasks:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._all_asked.wait()

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    def adopt(self, peers: Iterable[SipPeer]) -> None:
        """These are the names of the config from now on: new ones are looked up at once, others no more."""
        wanted = dict.fromkeys(peers)
        for peer in [peer for peer in self._names if peer not in wanted]:
            task = self._tasks.pop(peer, None)
            if task is not None:
                task.cancel()
            del self._names[peer], self._waits[peer]
        for peer in wanted:
            if peer not in self._names:
                self._names[peer] = Name(peer, self._stale)
                self._waits[peer] = _Wait()
                self._unasked += 1
                self._begin(self._names[peer])

    def known(self, peer: SipPeer) -> tuple[tuple[Place, ...], str] | None:
        """The places of a name and what is wrong with it; None before its first answer."""
        name = self._names.get(peer)
        return (name.places, name.trouble) if name is not None and name.again else None

    def _begin(self, name: Name) -> None:
        self._tasks[name.peer] = asyncio.create_task(self._keep(name), name="names")

    def hurry(self, peer: SipPeer) -> None:
        """Who is there does not answer: look the name up soon."""
        wait = self._waits.get(peer)
        if wait is not None:
            wait.end_at(wait.began + SOONEST)

    async def _keep(self, name: Name) -> None:
        wait = self._waits[name.peer]
        first = True
        while True:
            async with self._free:
                changed = await self._look_up(name)
            if changed or first:
                self._changed(name.peer, name.places, name.trouble)
            if first:
                first = False
                self._unasked -= 1
                if not self._unasked:
                    self._all_asked.set()
            await wait.until(name.again)

    async def _look_up(self, name: Name) -> bool:
        loop = asyncio.get_running_loop()
        try:
            located = await self._locator.locate(name.peer)
        except Failed as error:
            return name.failed(str(error), loop.time())
        except Exception as error:  # a bug of ours: the name is asked again all the same
            self._unexpected(error)
            return name.failed(repr(error), loop.time())
        return name.found(located, loop.time())
