"""Those who wait for a token of the rate: a `Ticket` each, in the `Lane` of a key, and the lanes whose keys share the
rate of a trunk in one `Ring`. Who goes when decides `pacing`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from enum import IntEnum
from heapq import heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from callgate.policy.claim import Claim, Part, Verdict, Window
from callgate.policy.ledger import MARGIN
from callgate.proxy.commands import Command
from callgate.proxy.peers import Key
from callgate.proxy.wheel import NEVER, Wheel

if TYPE_CHECKING:
    from callgate.proxy.pacing import Pacing

WAIT_AGAIN = 0.02
"""Seconds until somebody asks again for a token when nobody knows when one comes free."""
NEAR = 0.005
"""A token that comes this much later than was known changes nothing for those who wait."""

Parts = tuple[Part, ...]


class Asker(Protocol):
    """Who puts claims to the store."""

    def on_verdict(self, claim_id: int, verdict: Verdict, now: float) -> None: ...


class Host(Protocol):
    """What the queue needs of the core."""

    out: list[Command]
    wheel: Wheel

    def next_id(self) -> int: ...

    def ask(self, who: Asker, key: Key, claim: Claim, now: float) -> None: ...


class Rank(IntEnum):
    """Who goes first."""

    COPY = 0
    GATEWAY = 1
    CALL = 2


class Ticket:
    """One who waits. `until`: when he is told no; `since`: when he came; `delayed`: he could not go at once."""

    __slots__ = ("claim", "delayed", "key", "lane", "probe", "rank", "since", "until")

    def __init__(self, key: Key, rank: Rank, since: float, until: float) -> None:
        self.key = key
        self.rank = rank
        self.since = since
        self.until = until
        self.claim = 0  # the number of the last question
        self.probe = 0
        self.delayed = False
        self.lane: Lane | None = None

    # -- what a ticket adds --------------------------------------------------------------------------------

    def parts(self, now: float) -> Parts:
        """What it claims at this moment."""
        raise NotImplementedError

    def next_claim(self, host: Host) -> int:
        """The number of the next question."""
        return host.next_id()

    def told(self, verdict: Verdict, now: float) -> None:
        """Its turn has come, or it is told no. It waits no more."""
        raise NotImplementedError

    def waits(self, verdict: Verdict | None, now: float) -> None:
        """It could not go at once. `verdict`: what the rate said last, None where it has not been asked yet."""

    def let_go(self) -> None:
        """Its turn has come, and nobody wants it any more."""

    def caller_gone(self, now: float) -> None:
        """The connection of its caller is closed. It leaves."""

    def drained(self, now: float) -> None:
        """The gate goes down. It waits no more."""

    def reloaded(self, now: float) -> None:
        """Its `key` is that of another config."""

    def displaced(self, how: str, now: float) -> None:
        """A reload has `moved` its key to another trunk, or `removed` it. It waits no more."""

    @property
    def refuses(self) -> bool:
        """Whether it is told no rather than wait: a call of a key that does not queue, and its further attempts."""
        return self.rank is not Rank.COPY and self.key.queue_seconds is None

    @property
    def gone(self) -> bool:
        """Whether nobody wants it any more."""
        return False

    @property
    def connection(self) -> int:
        """The number of its caller's connection, 0 for none."""
        return 0

    # -- the store -----------------------------------------------------------------------------------------

    def on_verdict(self, claim_id: int, verdict: Verdict, now: float) -> None:
        assert self.lane is not None
        self.lane.pacing.heard(self, claim_id, verdict, now)


class Lane:
    """Those of one key who wait, by rank. `asking`: whose question is open; `free_at`: nothing is free before;
    `refusal`: the last word on the rate; `out`: the tokens of this gate that are out, and when each is back at the
    earliest; `served_at`: when the key last got a token of the trunk's rate; `entry`: its place in the ring, 0 for
    none."""

    __slots__ = (
        "asking",
        "entry",
        "free_at",
        "key_id",
        "out",
        "pacing",
        "queues",
        "refusal",
        "ring",
        "served_at",
        "wake_at",
    )

    def __init__(self, pacing: Pacing, key_id: str, ring: Ring | None) -> None:
        self.pacing = pacing
        self.key_id = key_id
        self.ring = ring
        self.queues: tuple[OrderedDict[Ticket, None], ...] = tuple(OrderedDict() for _ in Rank)
        self.out: OrderedDict[int, float] = OrderedDict()
        self.asking: Ticket | None = None
        self.refusal: Verdict | None = None
        self.free_at = 0.0
        self.served_at = float("-inf")
        self.entry = 0
        self.wake_at = NEVER

    def __len__(self) -> int:
        return sum(map(len, self.queues))

    def __iter__(self) -> Iterator[Ticket]:
        for queue in self.queues:
            yield from list(queue)

    @property
    def head(self) -> Ticket | None:
        return next((next(iter(queue)) for queue in self.queues if queue), None)

    def holds(self, ticket: Ticket) -> bool:
        return ticket in self.queues[ticket.rank]

    def sleeps(self, now: float) -> bool:
        """Whether it is known that nothing is free now."""
        return bool(self.entry) or now < self.free_at

    def taken(self, claim_id: int, now: float) -> None:
        """A token went out."""
        self.back(now)
        self.out[claim_id] = now + 1.0 + MARGIN

    def back(self, now: float) -> None:
        """Forget the tokens whose time is over."""
        out = self.out
        while out and next(iter(out.values())) <= now:
            out.popitem(last=False)

    def wake(self, now: float) -> None:
        if now >= self.wake_at:  # else an earlier one has come instead
            self.wake_at = NEVER
            self.pacing.go_on(self, now)


class Ring:
    """The keys that wait for a trunk's own rate. `window` is its name in the store, `served` the keys by when they
    were served last; `asking`: whose question is open."""

    __slots__ = (
        "_heap",
        "_serial",
        "asking",
        "free_at",
        "pacing",
        "period",
        "served",
        "waiting",
        "wake_at",
        "window",
    )

    def __init__(self, pacing: Pacing, window: Window) -> None:
        self.pacing = pacing
        self.window = window.name
        self.period = window.period + MARGIN
        self.asking: Lane | None = None
        self.free_at = 0.0
        self.wake_at = NEVER
        self.waiting = 0
        self.served: OrderedDict[Lane, float] = OrderedDict()
        self._heap: list[tuple[bool, float, int, Lane]] = []
        self._serial = 0

    def join(self, lane: Lane) -> None:
        """A lane waits, or its head has become urgent. Its place is by when it was last served."""
        head = lane.head
        assert head is not None
        self._serial += 1
        self.waiting += not lane.entry
        lane.entry = self._serial
        heappush(self._heap, (head.rank is Rank.CALL, lane.served_at, lane.entry, lane))
        if len(self._heap) > 2 * self.waiting + 64:
            self._heap = sorted(x for x in self._heap if x[2] == x[3].entry)

    def leave(self, lane: Lane) -> None:
        self.waiting -= bool(lane.entry)
        lane.entry = 0

    def next(self) -> Lane | None:
        """Whose turn it is. He waits no more."""
        while self._heap:
            _, _, entry, lane = heappop(self._heap)
            if lane.entry == entry:
                self.leave(lane)
                return lane
        return None

    def granted(self, lane: Lane, now: float) -> None:
        lane.served_at = now
        self.served[lane] = now
        self.served.move_to_end(lane)
        self.free_at = 0.0

    def shared(self, lane: Lane, now: float) -> bool:
        """Whether others use this rate too at the moment."""
        if self.waiting > bool(lane.entry):
            return True
        latest = islice(reversed(self.served.items()), 2)
        return any(other is not lane and at > now - self.period for other, at in latest)

    def wake(self, now: float) -> None:
        if now >= self.wake_at:
            self.wake_at = NEVER
            self.pacing.turn(self, now)
