"""The queue of a key: who waits for a token of the rate (V1), and whose turn it is.

A call of a key that queues goes out the moment a token is free, first come, first served; while anybody waits, a new
call goes behind him. Ahead of all calls wait copies of an INVITE whose token has gone back, then attempts at a further
gateway. The store decides, and may think: one question per key is open at a time, so answers that overtake each other
can't change the order. A call is told no the moment its wait is known to be too long, and that bounds the queue.

Where a trunk has a rate of its own, over all its keys, these take turns: whoever was served longest ago is next. Here
a key that refuses may have one call waiting, for one period at most: it could never meet a free token otherwise, since
the keys that queue are there at the very moment one comes back.

Times are monotonic seconds, and passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice

from callgate.policy.claim import NO_ANSWER, Claim, Verdict, Window
from callgate.policy.ledger import ASK_SECONDS, LEASE, MARGIN
from callgate.proxy.commands import Release
from callgate.proxy.lanes import NEAR, WAIT_AGAIN, Host, Lane, Rank, Ring, Ticket
from callgate.proxy.peers import Key
from callgate.proxy.wheel import NEVER


class Pacing:
    """All queues. A lane stays for as long as its key is configured; what waits in it is bounded by the rate and the
    longest wait."""

    def __init__(self, host: Host, observe: Callable[[float], None]) -> None:
        self._host = host
        self._observe = observe
        self._lanes: dict[str, Lane] = {}
        self._rings: dict[str, Ring] = {}
        self._by_connection: dict[int, set[Ticket]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def depth(self, key_id: str) -> int:
        """How many of a key's calls wait."""
        lane = self._lanes.get(key_id)
        return len(lane.queues[Rank.CALL]) if lane is not None else 0

    # -- coming and going ----------------------------------------------------------------------------------

    def enter(self, ticket: Ticket, now: float) -> None:
        """Wait for a turn, which may come at once."""
        lane = ticket.lane = self._lane(ticket.key)
        call = ticket.rank is Rank.CALL
        head = lane.head
        if head is not None and ticket.rank >= head.rank:
            why = self._hopeless(lane, ticket, len(lane), now)
            if why is not None:
                ticket.told(why, now)
                return
        lane.queues[ticket.rank][ticket] = None
        if ticket.connection:
            self._by_connection.setdefault(ticket.connection, set()).add(ticket)
        if head is None:
            lane.free_at = 0.0  # whoever comes to an empty queue may ask
        if lane.asking is None and (head is None or ticket.rank < head.rank):
            self._start(lane, now)
        elif call:
            self._wait(lane, ticket, now)
            self._probe(ticket, now)
        if not call:
            self._look(lane, now)  # everybody behind waits longer
        self._arm(lane, now)

    def leave(self, ticket: Ticket, now: float) -> None:
        """It is not wanted any more; nothing where it does not wait."""
        lane = ticket.lane
        if lane is not None and lane.holds(ticket):
            self._take_out(lane, ticket)
            self.go_on(lane, now)

    def unsent(self, key: Key, claim_id: int) -> None:
        """Nothing was sent under a grant: its token is back."""
        lane = self._lanes.get(key.id)
        if lane is not None:
            lane.out.pop(claim_id, None)

    def closed(self, connection: int, now: float) -> None:
        """A connection has ended: its callers are gone."""
        for ticket in tuple(self._by_connection.get(connection, ())):
            assert ticket.lane is not None
            if ticket.rank is Rank.CALL:
                ticket.caller_gone(now)

    def slowed(self, key: Key, now: float) -> None:
        """A key's rate has become less (K11)."""
        lane = self._lanes.get(key.id)
        if lane is not None and len(lane):
            self._look(lane, now)
            self.go_on(lane, now)

    def adopt(self, keys: Mapping[str, Key], now: float) -> None:
        """A reload: who waits is held to what his key says now. A key that is gone, or whose trunk is another one now,
        sends no new call there that has not left; what has goes on as it began."""
        for key_id, lane in self._lanes.items():
            if not len(lane):
                continue
            key = keys.get(key_id)
            for ticket in lane:
                if key is not None and key.trunk.name == ticket.key.trunk.name:
                    ticket.key = key
                    ticket.reloaded(now)
                elif ticket.rank is Rank.CALL and lane.holds(ticket):
                    self._take_out(lane, ticket)
                    ticket.displaced("moved" if key is not None else "removed", now)
            self._look(lane, now)
            self.go_on(lane, now)

    def drain(self, now: float) -> None:
        """No new call goes out any more."""
        for lane in self._lanes.values():
            for ticket in lane:
                if ticket.rank is Rank.CALL and lane.holds(ticket):
                    self._take_out(lane, ticket)
                    ticket.drained(now)
            self.go_on(lane, now)

    def _lane(self, key: Key) -> Lane:
        window = key.trunk.window
        ring = None
        if window is not None:
            ring = self._rings.get(window.name)
            if ring is None:
                ring = self._rings[window.name] = Ring(self, window)
        lane = self._lanes.get(key.id)
        if lane is None or (lane.ring is not ring and not len(lane) and lane.asking is None):
            lane = self._lanes[key.id] = Lane(self, key.id, ring)
        return lane

    def _take_out(self, lane: Lane, ticket: Ticket) -> None:
        del lane.queues[ticket.rank][ticket]
        if ticket.connection:
            those = self._by_connection[ticket.connection]
            those.discard(ticket)
            if not those:
                del self._by_connection[ticket.connection]

    # -- asking --------------------------------------------------------------------------------------------

    def _start(self, lane: Lane, now: float) -> None:
        """The head asks, where it is its turn."""
        ring, head = lane.ring, lane.head
        assert head is not None
        if ring is None or head.rank is not Rank.CALL or not (ring.waiting or ring.asking is not None):
            if ring is not None:
                ring.leave(lane)
            self._ask(lane, now)
            return
        if head.refuses:
            head.until = min(head.until, head.since + ring.period + WAIT_AGAIN)
        ring.join(lane)
        self._wait(lane, head, now)
        self.turn(ring, now)

    def turn(self, ring: Ring, now: float) -> None:
        """Whoever is next in a ring asks, where something may be free."""
        if ring.asking is None and now >= ring.free_at:
            lane = ring.next()
            if lane is not None:
                ring.asking = lane
                self._ask(lane, now)
                return
        if ring.asking is None and ring.waiting and ring.free_at < ring.wake_at:
            ring.wake_at = ring.free_at
            self._host.wheel.at(ring.free_at, ring.wake)

    def _ask(self, lane: Lane, now: float) -> None:
        ticket = lane.asking = lane.head
        assert ticket is not None
        ticket.claim = ticket.next_claim(self._host)
        claim = Claim(ticket.claim, ticket.parts(now), now + ASK_SECONDS, LEASE, force=ticket.key.shadow)
        self._host.ask(ticket, ticket.key, claim, now)

    def _probe(self, ticket: Ticket, now: float) -> None:
        """Behind others: would it pass now, but for the rate?"""
        paced = ticket.key.paced
        parts = tuple([part for part in ticket.parts(now) if part.name not in paced])
        ticket.probe = self._host.next_id()
        claim = Claim(ticket.probe, parts, now + ASK_SECONDS, 0.0, probe=True)
        self._host.ask(ticket, ticket.key, claim, now)

    def heard(self, ticket: Ticket, claim_id: int, verdict: Verdict, now: float) -> None:
        """The store has answered."""
        lane = ticket.lane
        assert lane is not None
        if claim_id == ticket.probe:
            if lane.holds(ticket) and _refused(verdict, asks=lane.asking is ticket):
                self._refuse(lane, ticket, verdict, now)
                self.go_on(lane, now)
            return
        lane.asking = None
        ring = lane.ring
        if ring is not None and ring.asking is lane:
            ring.asking = None
        if verdict.granted:
            self._granted(lane, ticket, claim_id, verdict, now)
        elif lane.holds(ticket):
            if ticket.rank is Rank.COPY or (verdict.limit and verdict.name in ticket.key.paced):
                self._delayed(lane, ticket, verdict, now)
            else:
                self._refuse(lane, ticket, verdict, now)
        self.go_on(lane, now)
        if ring is not None:
            self.turn(ring, now)

    def _granted(self, lane: Lane, ticket: Ticket, claim_id: int, verdict: Verdict, now: float) -> None:
        held = lane.holds(ticket)
        if held:
            self._take_out(lane, ticket)
        if not held or ticket.gone:  # look again whether anybody still wants it
            self._host.out.append(Release(claim_id))
            ticket.let_go()
            return
        lane.free_at = 0.0
        lane.taken(claim_id, now)
        if lane.ring is not None:
            lane.ring.granted(lane, now)
        if ticket.delayed and ticket.rank is Rank.CALL:
            self._observe(now - ticket.since)
        ticket.told(verdict, now)

    def _delayed(self, lane: Lane, ticket: Ticket, verdict: Verdict, now: float) -> None:
        """No token is free for the head."""
        key, ring = ticket.key, lane.ring
        lane.refusal = verdict
        turns = ring is not None and verdict.name == ring.window
        if key.queue_seconds is None:
            self._turn_away(
                lane, ticket if turns and ring is not None and ring.shared(lane, now) else None, now
            )
            if not lane.holds(ticket):
                return
        known = self._earliest(lane, key, 0, now, ticket.until)
        free_at = (
            verdict.free_at if verdict.free_at is not None and verdict.free_at > now else now + WAIT_AGAIN
        )
        if now < key.congestion.falls_at < free_at:
            free_at = key.congestion.falls_at
        if turns and ring is not None:
            ring.free_at = free_at
            ring.join(lane)
        else:
            lane.free_at = free_at
        if free_at > min(known + NEAR, ticket.until):
            self._look(lane, now)
        if lane.holds(ticket):
            self._wait(lane, ticket, now)

    def _wait(self, lane: Lane, ticket: Ticket, now: float) -> None:
        """One could not go at once."""
        if not ticket.delayed:
            ticket.delayed = True
            ticket.waits(lane.refusal, now)

    def _turn_away(self, lane: Lane, waits: Ticket | None, now: float) -> None:
        """A key that refuses: nothing is free. `waits`: who may wait for his turn of the trunk's rate."""
        refusal = lane.refusal
        assert refusal is not None
        for ticket in lane:
            if (
                ticket.refuses
                and (ticket is not waits or ticket.rank is not Rank.CALL)
                and lane.holds(ticket)
            ):
                self._refuse(lane, ticket, refusal, now)
        if waits is not None and lane.ring is not None:
            waits.until = min(waits.until, waits.since + lane.ring.period + WAIT_AGAIN)

    def _refuse(self, lane: Lane, ticket: Ticket, verdict: Verdict, now: float) -> None:
        self._take_out(lane, ticket)
        ticket.told(verdict, now)

    # -- how long is the wait ------------------------------------------------------------------------------

    def _earliest(self, lane: Lane, key: Key, ahead: int, now: float, until: float) -> float:
        """Before this moment one with `ahead` others before him can't go: from when the tokens that are out come
        back, and from what the others will take. Of tokens that this gate knows nothing of, any may be free."""
        lane.back(now)
        out = lane.out
        at = max(now, lane.free_at)
        if lane.entry and lane.ring is not None:
            at = max(at, lane.ring.free_at)
        for window in key.rates(until):
            limit = window.limit
            if not limit:
                return NEVER
            rounds, place = divmod(ahead, limit)
            begins = now
            if window.name == key.rate_name:
                place -= limit - len(out)
                if place >= 0:
                    begins = next(islice(out.values(), place, None))
            at = max(at, begins + rounds * (window.period + MARGIN))
        return at

    def _hopeless(self, lane: Lane, ticket: Ticket, ahead: int, now: float) -> Verdict | None:
        """Why one with `ahead` others before him is told no at once; None where he may wait."""
        key = ticket.key
        if key.queue_seconds is None:
            if not ticket.refuses:
                return None
            if (
                lane.ring is not None
            ):  # it may be that nobody before it has come to ask yet: one period at most
                ticket.until = min(ticket.until, ticket.since + lane.ring.period + WAIT_AGAIN)
            # Nothing is free, and the one place to wait is taken.
            return lane.refusal if lane.sleeps(now) else None
        if ticket.rank is not Rank.CALL:
            return None
        if self._earliest(lane, key, ahead, now, ticket.until) <= ticket.until:
            return None
        note = f"the wait would exceed {key.queue_seconds:g} s"
        told = lane.refusal
        if told is not None:
            return Verdict(False, told.rule, told.value, told.limit, told.free_at, note, told.name)
        window = next(w for w in key.rates(ticket.until) if w.limit is not None)
        return _over(window, note)

    def _look(self, lane: Lane, now: float) -> None:
        """Who has waited too long, or is now known to, is told no."""
        ahead = 0
        for ticket in lane:
            key_queues = ticket.key.queue_seconds is not None
            why = None
            if now >= ticket.until:
                why = lane.refusal
            elif key_queues:
                why = self._hopeless(lane, ticket, ahead, now)
            if why is not None and lane.asking is not ticket and lane.holds(ticket):
                self._refuse(lane, ticket, why, now)
            else:
                ahead += 1

    def _expire(self, lane: Lane, now: float) -> None:
        """The first of each rank have the first deadlines."""
        for queue in lane.queues:
            while queue:
                ticket = next(iter(queue))
                if now < ticket.until or (ticket is lane.asking and not ticket.delayed):
                    break
                why = lane.refusal or NO_ANSWER
                self._refuse(lane, ticket, why, now)

    def go_on(self, lane: Lane, now: float) -> None:
        """Something has changed: whoever is first may ask."""
        self._expire(lane, now)
        if not len(lane):
            if lane.ring is not None:
                lane.ring.leave(lane)
            lane.refusal = None
        elif lane.asking is None and not lane.entry and now >= lane.free_at:
            self._start(lane, now)
        self._arm(lane, now)

    def _arm(self, lane: Lane, now: float) -> None:
        """Be called when the next thing is due."""
        due = min((next(iter(queue)).until for queue in lane.queues if queue), default=NEVER)
        if len(lane) and lane.asking is None and not lane.entry:
            due = min(due, lane.free_at)
        if due <= now:
            due = now + WAIT_AGAIN  # whoever asks for the first time gets his answer
        if due < lane.wake_at:
            lane.wake_at = due
            self._host.wheel.at(due, lane.wake)


def _over(window: Window | None, note: str = "") -> Verdict | None:
    """What the store would say of a window that is full; None where there is none."""
    if window is None or window.limit is None:
        return None
    return Verdict(False, window.rule, window.limit + 1, window.limit, None, note, window.name)


def _refused(verdict: Verdict, *, asks: bool) -> bool:
    """Whether the answer to a probe ends the wait. The own question of whoever `asks` will tell the same, unless the
    store is silent."""
    return verdict.rule == NO_ANSWER.rule or (bool(verdict.rule) and not asks)
