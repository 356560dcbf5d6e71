"""Any interleaving of claim, sent, renew, release and time, against the obvious way to count: lists that are looked
through from the beginning at every question."""

from __future__ import annotations

from collections import defaultdict
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.examples import many
from tests.store.support import Make

from callgate.policy.claim import Claim, Distinct, Gap, Members, Part, Window
from callgate.policy.ledger import MARGIN

FOREVER = float("inf")
ACTORS = 6

PARTS: list[Part] = [
    Window("V1", "rate", 2),
    Window("V1b", "quick", 1, 0.3),
    Window("V0", "counted", None),
    Members("V4", "lines", 3),
    Members("V4", "lines", 3, weight=2),
    Members("K6", "calls", 2),
    Distinct("K1", "reach", 2, 2.0, b"a"),
    Distinct("K1", "reach", 2, 2.0, b"b"),
    Distinct("K1", "reach", 2, 2.0, b"c"),
    Gap("K4", "again", 1.5, b"a"),
    Gap("K4", "again", 1.5, b"b"),
    Gap("K4", "again", 1.5, b"a", refuses=False),
]


class Granted:
    def __init__(self, claim: Claim, now: float) -> None:
        self.claim = claim
        self.lease_end = now + claim.lease
        self.released = FOREVER  # when
        self.sends: list[float] = []

    def live(self, now: float) -> bool:
        return now < self.released and now < self.lease_end


class Naive:
    """`started` as of a store. Nothing is ever forgotten; every answer looks at all of the past."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.granted: list[Granted] = []

    def of(self, id: int, now: float) -> Granted | None:
        return next((g for g in self.granted if g.claim.id == id and g.live(now)), None)

    def holding(self, name: str) -> list[tuple[Granted, Part]]:
        return [(g, p) for g in self.granted for p in g.claim.parts if p.name == name]

    def out(self, name: str, now: float) -> list[float]:
        """Of every token that is out, when it comes back."""
        back = []
        for g, part in self.holding(name):
            assert isinstance(part, Window)
            if g.sends:
                back.append(g.sends[-1] + part.period + MARGIN)
            elif g.live(now):
                back.append(FOREVER)
        return [b for b in back if b > now]

    def lines(self, name: str, now: float) -> int:
        return sum(p.weight for g, p in self.holding(name) if isinstance(p, Members) and g.live(now))

    def members(self, name: str, now: float) -> dict[bytes, list[float]]:
        """Of each member that counts, when its claims were sent; FOREVER for one that may be sent yet."""
        found: dict[bytes, list[float]] = defaultdict(list)
        for g, p in self.holding(name):
            assert isinstance(p, Distinct | Gap)
            if not g.sends and g.live(now):
                found[p.member].append(FOREVER)
            elif g.sends and g.sends[-1] + p.period > now:
                found[p.member].append(g.sends[-1])
        return found

    def refusal(self, claim: Claim, now: float) -> tuple[str, int, int, float | None] | None:
        if self.of(claim.id, now) is not None:
            return None
        if now > claim.deadline:
            return "store", 0, 0, None
        for part in () if claim.force else claim.parts:
            limit = None if isinstance(part, Gap) else part.limit
            match part:
                case Window() if limit is not None:
                    open_at = self.started + part.period + MARGIN
                    if part.period <= 1 and now < open_at:
                        return part.rule, limit + 1, limit, open_at
                    out = self.out(part.name, now)
                    if len(out) >= limit:
                        sent = [b for b in out if b != FOREVER]
                        return part.rule, len(out) + 1, limit, min(sent, default=None)
                case Members() if limit is not None:
                    value = self.lines(part.name, now) + part.weight
                    if value > limit:
                        return part.rule, value, limit, None
                case Distinct() if limit is not None:
                    members = self.members(part.name, now)
                    if part.member not in members and len(members) >= limit:
                        return part.rule, len(members) + 1, limit, None
                case Gap() if part.refuses:
                    when = self.members(part.name, now).get(part.member)
                    if when is not None:
                        last = max(when)
                        if last == FOREVER:
                            return part.rule, 0, ceil(part.period), None
                        return part.rule, int(now - last), ceil(part.period), last + part.period
        return None


times = st.sampled_from([0.0, 0.001, MARGIN, 0.1, 0.28, 0.3, 0.5, 0.98, 1.0, 1.0 + MARGIN, 1.1, 2.0, 7.0])
leases = st.sampled_from([FOREVER, FOREVER, 0.5, 1.0, 3.0])
actors = st.integers(0, ACTORS - 1)
steps = st.one_of(
    st.tuples(
        st.just("claim"),
        actors,
        st.lists(st.sampled_from(range(len(PARTS))), max_size=4, unique_by=lambda n: PARTS[n].name),
        leases,
        st.sampled_from([0.0, 0.0, 0.0, -0.1]),  # the deadline, from now
        st.sampled_from([False] * 7 + [True]),  # force
    ),
    st.tuples(st.just("send"), actors),
    st.tuples(st.just("send"), actors),
    st.tuples(st.just("renew"), actors, leases),
    st.tuples(st.just("release"), actors),
    st.tuples(st.just("wait"), times),
    st.tuples(st.just("wait"), times),
)
games = st.lists(steps, max_size=60)


class Play:
    """A store and the naive one under the same steps. An actor takes a new id when its claim has ended."""

    def __init__(self, make: Make, started: float) -> None:
        self.store = make(started)
        self.naive = Naive(started)
        self.now = 0.0
        self.ids = list(range(ACTORS))
        self.last_id = ACTORS

    def play(self, game: list[tuple], *, honest: bool) -> None:  # type: ignore[type-arg]
        for name, *arguments in game:
            getattr(self, name)(*arguments, *([honest] if name == "send" else []))
            for part in PARTS[:6]:
                counted = len(self.naive.out(part.name, self.now)) if isinstance(part, Window) else None
                if counted is None:
                    counted = self.naive.lines(part.name, self.now)
                assert self.store.used(part.name, self.now) == counted, part.name

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def id_of(self, actor: int) -> int:
        id = self.ids[actor]
        if any(g.claim.id == id and not g.live(self.now) for g in self.naive.granted):
            self.last_id += 1
            id = self.ids[actor] = self.last_id
        return id

    def claim(self, actor: int, chosen: list[int], lease: float, deadline: float, force: bool) -> None:
        id = self.id_of(actor)
        claim = Claim(id, tuple(PARTS[n] for n in chosen), self.now + deadline, lease, force)
        expected = self.naive.refusal(claim, self.now)
        verdict = self.store.claim(claim, self.now)
        assert verdict is not None
        assert verdict.granted == (expected is None)
        if expected is None:
            if self.naive.of(id, self.now) is None:
                self.naive.granted.append(Granted(claim, self.now))
            return
        assert (verdict.rule, verdict.value, verdict.limit) == expected[:3]
        if verdict.value == verdict.limit + 1 or verdict.free_at is not None:
            assert verdict.free_at == expected[3]

    def send(self, actor: int, honest: bool) -> None:
        """The owner's promise (`honest`): no copy goes out when the tokens it belongs to are back."""
        granted = self.naive.of(self.ids[actor], self.now)
        if honest and granted is not None and granted.sends:
            back = [
                granted.sends[-1] + p.period + MARGIN for p in granted.claim.parts if isinstance(p, Window)
            ]
            if self.now >= min(back, default=FOREVER):
                return
        if granted is not None:
            granted.sends.append(self.now)
        self.store.sent(self.ids[actor], self.now)

    def renew(self, actor: int, lease: float) -> None:
        granted = self.naive.of(self.ids[actor], self.now)
        if granted is not None:
            granted.lease_end = self.now + lease
        self.store.renew(self.ids[actor], lease, self.now)

    def release(self, actor: int) -> None:
        granted = self.naive.of(self.ids[actor], self.now)
        if granted is not None:
            granted.released = self.now
        self.store.release(self.ids[actor], self.now)


@pytest.mark.parametrize("started", [-100.0, -0.2])
@given(game=games)
@settings(max_examples=many(250), deadline=None)
def test_every_answer_is_that_of_the_naive_count(make: Make, started: float, game: list[tuple]) -> None:  # type: ignore[type-arg]
    """Verdicts with rule, value, limit and free_at, and what is used of every window and set after every step."""
    Play(make, started).play(game, honest=False)


@given(game=games)
@settings(max_examples=many(250), deadline=None)
def test_no_window_of_a_period_ever_sees_more_than_its_limit(make: Make, game: list[tuple]) -> None:  # type: ignore[type-arg]
    """Whichever copies are lost and whichever arrives first: of the calls that were not forced, at most `limit` have a
    copy sent within any period, both of its ends included."""
    play = Play(make, -100.0)
    play.play(game, honest=True)
    for window in (p for p in PARTS if isinstance(p, Window) and p.limit is not None):
        calls = [g.sends for g, p in play.naive.holding(window.name) if g.sends and not g.claim.force]
        for start in (at for sends in calls for at in sends):
            seen = sum(any(start <= at <= start + window.period for at in sends) for sends in calls)
            assert seen <= window.limit
