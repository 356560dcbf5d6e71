"""The live limits of one gate, in its own memory (`policy.ledger.Store`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import ceil

from callgate.policy.claim import GRANTED, NO_ANSWER, PASSES, Claim, Distinct, Gap, Members, Verdict, Window
from callgate.policy.ledger import MARGIN

_OUT = float("inf")
LOOK_AGAIN = 1.0
JUST_STARTED = "no call in the first second after a start"


class Owed:
    """What a crash may have cost one limit: `count` tokens, or numbers nobody knows, back at `back_at`, of the window
    `first`; where that ends with a slash, of every window whose name begins with it and ends with `last`: those of each
    caller or class."""

    __slots__ = ("back_at", "count", "first", "last")

    def __init__(self, first: str, last: str, count: int, back_at: float) -> None:
        self.first = first
        self.last = last
        self.count = count
        self.back_at = back_at

    def concerns(self, name: str) -> bool:
        if not self.first.endswith("/"):
            return name == self.first
        return name.startswith(self.first) and name.endswith(self.last)


class _Tokens:
    """The tokens that are out of one window: claim → when it comes back, `inf` until it was sent."""

    __slots__ = ("back_at", "order")

    def __init__(self) -> None:
        self.back_at: dict[int, float] = {}
        self.order: deque[tuple[float, int]] = deque()  # rising: an entry is appended at every send

    def charge(self, owed: Owed) -> None:
        """Tokens that nobody's call has: they only come back."""
        for _ in range(owed.count):
            number = -1 - len(self.back_at)
            self.back_at[number] = owed.back_at
            self.order.append((owed.back_at, number))

    def settle(self, now: float) -> int:
        """Take back what is due; how many are still out."""
        order, back_at = self.order, self.back_at
        while order and order[0][0] <= now:
            due, claim_id = order.popleft()
            if back_at.get(claim_id) == due:  # else a later copy went out, or it came back already
                del back_at[claim_id]
        return len(back_at)

    def next_free(self, limit: int) -> float | None:
        """When one of `limit` tokens can be had, None while too few of those that are out were sent."""
        order, back_at = self.order, self.back_at
        while order and back_at.get(order[0][1]) != order[0][0]:
            order.popleft()
        missing = len(back_at) - limit
        for due, claim_id in order:
            if back_at.get(claim_id) == due:
                if not missing:
                    return due
                missing -= 1
        return None


class _Member:
    """`at`: when it was last sent to; `until`: when that is forgotten, 0 where it is. `pending`: claims that have
    not been sent yet."""

    __slots__ = ("at", "pending", "until")

    def __init__(self) -> None:
        self.at = self.until = 0.0
        self.pending = 0


class _Seen:
    """The members of a Distinct or Gap: what was sent to within the period, and what a claim may yet send to."""

    __slots__ = ("members", "order")

    def __init__(self) -> None:
        self.members: dict[bytes, _Member] = {}
        self.order: deque[tuple[float, bytes]] = deque()  # rising: an entry is appended at every send

    def charge(self, owed: Owed) -> None:
        """Numbers that may have been called, whichever they were."""
        for n in range(owed.count):
            name = b"unknown %d" % n
            self.members.setdefault(name, _Member()).until = owed.back_at
            self.order.append((owed.back_at, name))

    @property
    def until(self) -> float:
        """When the last that was sent to is forgotten."""
        return self.order[-1][0] if self.order else 0.0

    def take(self, name: bytes) -> None:
        self.members.setdefault(name, _Member()).pending += 1

    def give_back(self, name: bytes) -> None:
        member = self.members[name]
        member.pending -= 1
        self._tidy(name, member)

    def sent(self, name: bytes, now: float, period: float, *, first: bool) -> None:
        member = self.members.setdefault(name, _Member())
        member.pending -= first
        member.at = now
        member.until = now + period
        self.order.append((member.until, name))

    def forget(self, now: float) -> None:
        order = self.order
        while order and order[0][0] <= now:
            until, name = order.popleft()
            member = self.members.get(name)
            if member is not None and member.until == until:  # else it was sent to again
                member.until = 0.0
                self._tidy(name, member)

    def _tidy(self, name: bytes, member: _Member) -> None:
        if not member.pending and not member.until:
            del self.members[name]


class _Held:
    """A granted claim."""

    __slots__ = ("claim", "lease_end", "released", "sent")

    def __init__(self, claim: Claim, lease_end: float) -> None:
        self.claim = claim
        self.lease_end = lease_end
        self.sent = False
        self.released = False


class MemoryStore:
    """`started` is when the process began: what an earlier one sent just before is unknown, so no token of a
    window up to one second is free for one full window. `on_expired` hears of claims whose lease ran out.
    """

    def __init__(
        self,
        started: float,
        margin: float = MARGIN,
        on_expired: Callable[[int], None] | None = None,
    ) -> None:
        self._started = started
        self._margin = margin
        self._on_expired = on_expired
        self._held: dict[int, _Held] = {}
        self._windows: dict[str, _Tokens] = {}
        self._passing: list[tuple[float, str]] = []  # when to look whether a window can be forgotten
        self._sets: dict[str, int] = {}
        self._seen: dict[str, _Seen] = {}
        self._leases: list[tuple[float, int]] = []
        self._owed: list[Owed] = []

    def owes(self, owed: Owed, now: float) -> None:
        """Calls may have been sent of which nobody knows: each window that they may have taken of counts them."""
        self._owed.append(owed)
        for known in (self._windows, self._seen):
            for name, window in known.items():
                if owed.concerns(name):
                    window.charge(owed)

    def _owes(self, name: str, now: float) -> list[Owed]:
        """What a window may owe that is used for the first time."""
        self._owed = [owed for owed in self._owed if owed.back_at > now]
        return sorted([owed for owed in self._owed if owed.concerns(name)], key=lambda owed: owed.back_at)

    def _owing(self, name: str, now: float) -> _Tokens | None:
        """A window of which no more is known than what it may owe; None for nothing."""
        found = self._owes(name, now)
        if not found:
            return None
        tokens = self._windows[name] = _Tokens()
        for owed in found:
            tokens.charge(owed)
        heappush(self._passing, (found[-1].back_at, name))
        return tokens

    def claim(self, claim: Claim, now: float) -> Verdict:
        if self._leases and self._leases[0][0] <= now:
            self.expire(now)
        if self._passing and self._passing[0][0] <= now:
            self._forget_windows(now)
        if claim.id in self._held:
            return GRANTED
        if now > claim.deadline:
            return NO_ANSWER
        verdict = self._take(claim, now)
        if claim.twin is None or not verdict.granted:
            return verdict
        second = self._take(claim.twin, now)
        if not second.granted:
            self.release(claim.id, now)
        return verdict if second.granted and verdict.rule else second

    def _take(self, claim: Claim, now: float) -> Verdict:
        """All that one claim asks for, or nothing."""
        forced = None
        for part in claim.parts:
            refused = _CHECKS[type(part)](self, part, now)
            if refused is not None:
                if not claim.force:
                    return refused
                forced = forced or refused
        if claim.probe:
            return PASSES
        for part in claim.parts:
            _TAKES[type(part)](self, part, claim.id, now)
        self._held[claim.id] = _Held(claim, now + claim.lease)
        self._watch(claim.id, now + claim.lease)
        if forced is not None:
            return Verdict(True, forced.rule, forced.value, forced.limit, None, forced.note, forced.name)
        return GRANTED

    def sent(self, claim_id: int, now: float) -> None:
        held = self._held.get(claim_id)
        if held is None:
            return
        first = not held.sent
        held.sent = True
        for part in held.claim.parts:
            kind = type(part)
            if kind is Window:
                tokens = self._tokens(part.name)
                back = now + part.period + self._margin  # type: ignore[union-attr]
                tokens.back_at[claim_id] = back
                tokens.order.append((back, claim_id))
                if part.passing:  # type: ignore[union-attr]
                    heappush(self._passing, (back, part.name))
            elif kind is Gap or kind is Distinct:
                seen = self._recent(part, now)  # type: ignore[arg-type]
                seen.sent(part.member, now, part.period, first=first)  # type: ignore[union-attr]

    def renew(self, claim_id: int, lease: float, now: float) -> None:
        held = self._held.get(claim_id)
        if held is not None:
            held.lease_end = now + lease
            self._watch(claim_id, held.lease_end)

    def release(self, claim_id: int, now: float) -> None:
        held = self._held.pop(claim_id, None)
        if held is None:
            return
        for part in held.claim.parts:
            kind = type(part)
            if kind is Members:
                left = self._sets[part.name] - part.weight  # type: ignore[union-attr]
                if left:
                    self._sets[part.name] = left
                else:
                    del self._sets[part.name]
            elif not held.sent:
                if kind is Window:
                    tokens = self._windows[part.name]
                    tokens.back_at.pop(claim_id, None)
                    if part.passing and not tokens.back_at:  # type: ignore[union-attr]
                        del self._windows[part.name]
                else:
                    self._seen[part.name].give_back(part.member)  # type: ignore[union-attr]

    def lines(self, claim_id: int) -> tuple[tuple[str, int], ...]:
        held = self._held.get(claim_id)
        if held is None:
            return ()
        return tuple((part.name, part.weight) for part in held.claim.parts if isinstance(part, Members))

    def used(self, name: str, now: float) -> int:
        if self._leases and self._leases[0][0] <= now:
            self.expire(now)
        tokens = self._windows.get(name)
        if tokens is not None:
            return tokens.settle(now)
        return self._sets.get(name, 0)

    def _watch(self, claim_id: int, end: float) -> None:
        """Look at a lease when it ends. What was released or renewed meanwhile stays in the heap until then,
        but never more of it than of what is held."""
        leases = self._leases
        if len(leases) > 2 * len(self._held) + 64:
            leases[:] = [(h.lease_end, i) for i, h in self._held.items() if h.lease_end != _OUT]
            heapify(leases)
        if end != _OUT:
            heappush(leases, (end, claim_id))

    def _forget_windows(self, now: float) -> None:
        """Windows of one caller or one day, of which nothing is out any more."""
        while self._passing and self._passing[0][0] <= now:
            _, name = heappop(self._passing)
            seen = self._seen.get(name)
            if seen is not None:
                seen.forget(now)
                if seen.members:
                    heappush(self._passing, (max(seen.until, now + LOOK_AGAIN), name))
                else:
                    del self._seen[name]
            tokens = self._windows.get(name)
            if tokens is not None and not tokens.settle(now):
                del self._windows[name]

    def expire(self, now: float) -> None:
        """Take back every claim whose lease has run out."""
        leases = self._leases
        while leases and leases[0][0] <= now:
            end, claim_id = heappop(leases)
            held = self._held.get(claim_id)
            if held is not None and held.lease_end == end:
                self.release(claim_id, now)
                if self._on_expired is not None:
                    self._on_expired(claim_id)

    # -- one limit: may it be taken, and take it ------------------------------------------------------

    def _check_window(self, part: Window, now: float) -> Verdict | None:
        tokens = self._windows.get(part.name)
        if tokens is None and self._owed:
            tokens = self._owing(part.name, now)
        out = tokens.settle(now) if tokens is not None else 0
        if part.limit is None:
            return None
        open_at = self._started + part.period + self._margin
        if now < open_at and part.period <= 1.0:
            return Verdict(False, part.rule, part.limit + 1, part.limit, open_at, JUST_STARTED, part.name)
        if out < part.limit:
            return None
        free_at = tokens.next_free(part.limit) if tokens is not None and part.limit else None
        return Verdict(False, part.rule, out + 1, part.limit, free_at, name=part.name)

    def _take_window(self, part: Window, claim_id: int, now: float) -> None:
        self._tokens(part.name).back_at[claim_id] = _OUT

    def _tokens(self, name: str) -> _Tokens:
        tokens = self._windows.get(name)
        if tokens is None:
            tokens = self._windows[name] = _Tokens()
        return tokens

    def _check_members(self, part: Members, now: float) -> Verdict | None:
        would_be = self._sets.get(part.name, 0) + part.weight
        if part.limit is None or would_be <= part.limit:
            return None
        return Verdict(False, part.rule, would_be, part.limit, name=part.name)

    def _take_members(self, part: Members, claim_id: int, now: float) -> None:
        self._sets[part.name] = self._sets.get(part.name, 0) + part.weight

    def _recent(self, part: Distinct | Gap, now: float) -> _Seen:
        seen = self._seen.get(part.name)
        if seen is None:
            seen = self._seen[part.name] = _Seen()
            heappush(self._passing, (now + part.period, part.name))
            for owed in self._owes(part.name, now) if self._owed else ():
                seen.charge(owed)
        else:
            seen.forget(now)
        return seen

    def _check_distinct(self, part: Distinct, now: float) -> Verdict | None:
        members = self._recent(part, now).members
        if part.limit is None or part.member in members or len(members) < part.limit:
            return None
        return Verdict(False, part.rule, len(members) + 1, part.limit, name=part.name)

    def _check_gap(self, part: Gap, now: float) -> Verdict | None:
        member = self._recent(part, now).members.get(part.member)
        if member is None or not part.refuses:
            return None
        if member.pending:
            return Verdict(False, part.rule, 0, ceil(part.period), name=part.name)
        since = int(now - member.at)
        return Verdict(False, part.rule, since, ceil(part.period), member.until, name=part.name)

    def _take_seen(self, part: Distinct | Gap, claim_id: int, now: float) -> None:
        self._recent(part, now).take(part.member)


_CHECKS: dict[type, Callable[..., Verdict | None]] = {
    Window: MemoryStore._check_window,
    Members: MemoryStore._check_members,
    Distinct: MemoryStore._check_distinct,
    Gap: MemoryStore._check_gap,
}
_TAKES: dict[type, Callable[..., None]] = {
    Window: MemoryStore._take_window,
    Members: MemoryStore._take_members,
    Distinct: MemoryStore._take_seen,
    Gap: MemoryStore._take_seen,
}
