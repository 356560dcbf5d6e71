"""Several keys on one trunk's own rate: they take turns, and none can starve another, whether it queues or refuses.

Pacing with the program's memory store or a slow one, without any SIP: many keys, much time, every turn looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.examples import many
from tests.proxy.ladder import NUMBERS

from callgate.policy.claim import Claim, Part, Verdict
from callgate.policy.dial import DialRules
from callgate.policy.ledger import MARGIN
from callgate.policy.parts import parts_of, window_of
from callgate.policy.profile import Limits
from callgate.proxy.commands import Command, Release
from callgate.proxy.lanes import Asker, Rank, Ticket
from callgate.proxy.pacing import Pacing
from callgate.proxy.peers import Key, Trunk
from callgate.proxy.wheel import NEVER, Wheel
from callgate.store.memory import MemoryStore

TOKEN = 1.0 + MARGIN
ASK = 0.2


class Waiting(Ticket):
    """A call, or a copy of one."""

    __slots__ = ("bed", "fate", "number")

    def __init__(self, bed: Bed, key: Key, rank: Rank, number: int) -> None:
        seconds = key.queue_seconds
        until = NEVER if seconds is None or rank is Rank.COPY else bed.now + seconds
        super().__init__(key, rank, bed.now, until)
        self.bed = bed
        self.number = number
        self.fate = ""

    def parts(self, now: float) -> tuple[Part, ...]:
        return self.key.attempt if self.rank is Rank.COPY else self.key.claims(now)[0]

    def told(self, verdict: Verdict, now: float) -> None:
        assert not self.fate, "told twice"
        self.fate = "went" if verdict.granted else verdict.rule
        self.bed.told(self, now)

    def drained(self, now: float) -> None:
        assert not self.fate
        self.fate = "drain"


class Bed:
    """What pacing needs around it. `there` and `back`: how long a question and its answer travel."""

    def __init__(
        self, limits: dict[str, Limits], shared: Limits, there: float = 0.0, back: float = 0.0
    ) -> None:
        self.now = 1000.0
        self.out: list[Command] = []
        self.errors: list[Exception] = []
        self.wheel = Wheel(self.now, self.errors)
        self.store = MemoryStore(self.now - 10)
        self.there, self.back = there, back
        self.pacing = Pacing(self, lambda seconds: None)
        self.sent: dict[str, list[float]] = {name: [] for name in limits}
        self.order: dict[str, list[int]] = {name: [] for name in limits}
        self.asked: Counter[int] = Counter()
        self.granted: set[int] = set()
        self.released: Counter[int] = Counter()
        self.numbers = 0
        self.limits = limits
        self._steps: list[tuple[float, int, Callable[[float], None]]] = []
        trunk = Trunk("t", window=window_of("t", shared))
        self.trunk = trunk
        self.keys = {}
        for name, one in limits.items():
            parts = parts_of(name, one, "t", shared, trunk.window)
            queue = one.queue_seconds if one.queues else None
            dial = DialRules(NUMBERS, "japan")
            self.keys[name] = Key(name, trunk, dial, **parts._asdict(), queue_seconds=queue)

    # -- the host ------------------------------------------------------------------------------------------

    def next_id(self) -> int:
        self.numbers += 1
        return self.numbers

    def ask(self, who: Asker, key: Key, claim: Claim, now: float) -> None:
        def decide(at: float) -> None:
            verdict = self.store.claim(claim, at)
            if verdict.granted:
                self.granted.add(claim.id)
            self._later(at + self.back, lambda then: who.on_verdict(claim.id, verdict, then))

        self._later(now + self.there, decide)

    def _later(self, at: float, do: Callable[[float], None]) -> None:
        self.asked[0] += 1
        heappush(self._steps, (at, self.asked[0], do))

    # -- the world -----------------------------------------------------------------------------------------

    def offer(self, name: str, rank: Rank = Rank.CALL) -> Waiting:
        self.numbers += 1
        ticket = Waiting(self, self.keys[name], rank, self.numbers)
        self.pacing.enter(ticket, self.now)
        self._settle()
        return ticket

    def told(self, ticket: Waiting, now: float) -> None:
        if ticket.fate == "went":
            self.sent[ticket.key.id].append(now)
            if ticket.rank is Rank.CALL:
                self.order[ticket.key.id].append(ticket.number)
            self.store.sent(ticket.claim, now)

    def _settle(self) -> None:
        for command in self.out:
            assert isinstance(command, Release)
            assert command.claim_id in self.granted
            self.released[command.claim_id] += 1
            self.store.release(command.claim_id, self.now)
        self.out.clear()
        while self._steps and self._steps[0][0] <= self.now:
            heappop(self._steps)[2](self.now)
            self._settle()

    def until(self, end: float) -> None:
        while True:
            due = min(self.wheel.next_deadline, self._steps[0][0] if self._steps else NEVER)
            if due > end:
                break
            self.now = max(self.now, due)
            self.wheel.run(self.now)
            if self.errors:
                raise self.errors[0]
            self._settle()
        self.now = end

    def fullest(self, names: list[str], window: float = 1.0) -> int:
        times = sorted(at for name in names for at in self.sent[name])
        most = left = 0
        for right, at in enumerate(times):
            while at - times[left] >= window:
                left += 1
            most = max(most, right - left + 1)
        return most

    def plays(self, offers: dict[str, float], seconds: float) -> Counter[str]:
        """Each key offers so many calls a second, evenly; how many of each went out."""
        events: list[tuple[float, str]] = []
        for place, (name, rate) in enumerate(offers.items()):
            step = 1.0 / rate
            events += [(self.now + place * 0.0007 + n * step, name) for n in range(int(seconds * rate))]
        for at, name in sorted(events):
            self.until(at)
            self.offer(name)
        return Counter({name: len(times) for name, times in self.sent.items()})


def queues(cps: int | None = None, seconds: float = 2.0) -> Limits:
    return Limits(outbound_cps=cps, on_rate_exceeded="queue", queue_seconds=seconds)


REFUSES = Limits()


@pytest.mark.parametrize("slow", [0.0, 0.004])
@pytest.mark.parametrize("offer", [3, 30, 200])
def test_keys_that_queue_share_alike(offer: float, slow: float) -> None:
    """However much one of them offers."""
    bed = Bed({name: queues() for name in "abc"}, Limits(outbound_cps=6), slow, slow)
    went = bed.plays({"a": offer, "b": 3, "c": 30}, 20)
    assert bed.fullest(list("abc")) <= 6
    assert sum(went.values()) >= 0.94 * 6 * 20
    assert max(went.values()) - min(went.values()) <= 0.1 * max(went.values()), went


@pytest.mark.parametrize("offer", [5, 50, 500])
def test_a_key_that_refuses_is_not_starved_by_one_that_queues(offer: float) -> None:
    bed = Bed({"queues": queues(), "refuses": REFUSES}, Limits(outbound_cps=4))
    went = bed.plays({"queues": 50, "refuses": offer}, 20)
    assert bed.fullest(["queues", "refuses"]) <= 4
    assert sum(went.values()) >= 0.97 * 4 / TOKEN * 20
    assert went["refuses"] >= 0.9 * went["queues"], went
    assert went["queues"] >= 0.9 * went["refuses"], went


def test_a_key_that_calls_now_and_then_always_gets_through() -> None:
    """Once in three seconds, against a dialler with a queue and one without: it was served longest ago, so its turn is
    next."""
    bed = Bed({"dialler": queues(), "storm": REFUSES, "office": REFUSES}, Limits(outbound_cps=3))
    went = bed.plays({"dialler": 40, "storm": 200, "office": 0.34}, 60)
    assert went["office"] == int(60 * 0.34)
    assert bed.fullest(["dialler", "storm", "office"]) <= 3
    assert went["dialler"] + went["storm"] >= 0.97 * 3 / TOKEN * 60 - went["office"]


def test_keys_that_refuse_do_not_starve_each_other() -> None:
    bed = Bed({"storm": REFUSES, "office": REFUSES}, Limits(outbound_cps=3))
    went = bed.plays({"storm": 300, "office": 1}, 30)
    assert went["office"] >= 29
    assert sum(went.values()) >= 0.97 * 3 / TOKEN * 30


def test_a_key_that_refuses_and_is_alone_is_refused_at_once() -> None:
    """There is nobody whose turn it could wait for."""
    bed = Bed({"a": REFUSES, "b": queues()}, Limits(outbound_cps=2))
    first = [bed.offer("a") for _ in range(3)]
    assert [ticket.fate for ticket in first] == ["went", "went", "V1"]
    assert not len(bed.pacing)


def test_a_key_that_refuses_waits_with_one_call_and_one_period() -> None:
    bed = Bed({"a": REFUSES, "b": queues(seconds=5.0)}, Limits(outbound_cps=1))
    bed.offer("b")
    one, two = bed.offer("a"), bed.offer("a")
    assert (one.fate, two.fate) == ("", "V1")
    bed.until(bed.now + TOKEN + 0.001)
    assert one.fate == "went"
    three = bed.offer("a")
    waiting = bed.offer("b")
    bed.until(bed.now + TOKEN)
    assert three.fate in ("went", "V1")
    bed.until(bed.now + 2 * TOKEN)
    assert three.fate
    assert waiting.fate == "went"


def test_a_key_that_refuses_is_told_though_it_never_got_to_ask() -> None:
    """Copies of others go first for as long as it may wait: its calls wait in vain, but for one period at most."""
    bed = Bed({"a": REFUSES, "b": REFUSES, "c": REFUSES}, Limits(outbound_cps=1))
    for name in "aaaab":
        bed.offer(name, Rank.COPY)
    one, two = bed.offer("c"), bed.offer("c")
    assert (one.fate, two.fate) == ("", "")
    bed.until(bed.now + 1.1)
    assert one.fate
    assert two.fate


def test_its_own_rate_keeps_a_key_out_of_the_others_way() -> None:
    """A key whose own tokens are out does not hold up those who could go."""
    bed = Bed({"slow": queues(1, 5.0), "fast": queues(10)}, Limits(outbound_cps=5))
    went = bed.plays({"slow": 20, "fast": 20}, 20)
    assert went["slow"] >= 18
    assert went["fast"] >= 0.94 * 4 * 20


def test_a_thousand_keys_at_three_a_second_get_the_same() -> None:
    """The cost of a verdict and a turn does not depend on how many keys there are; here only that all get theirs."""
    names = [f"k{n}" for n in range(1000)]
    bed = Bed({name: queues(3) for name in names}, Limits(outbound_cps=500))
    went = bed.plays(dict.fromkeys(names, 2), 6)
    assert bed.fullest(names) <= 500
    assert max(went.values()) - min(went[name] for name in names) <= 1


class Turns(RuleBasedStateMachine):
    """Whatever happens between calls, copies, cancels, congestion and time: never more than the rate in any second, of
    a key or of the trunk; first come, first served; each claim given back once at most; whoever waits is told in time;
    nobody is starved."""

    bed: Bed

    @initialize(
        own=st.lists(
            st.tuples(st.integers(1, 3) | st.none(), st.sampled_from([0.0, 0.5, 2.0, 3.5])),
            min_size=3,
            max_size=3,
        ),
        shared=st.integers(1, 4) | st.none(),
        slow=st.sampled_from([0.0, 0.004, 0.03]),
    )
    def begins(self, own: list[tuple[int | None, float]], shared: int | None, slow: float) -> None:
        limits = {
            name: Limits(
                outbound_cps=cps,
                on_rate_exceeded="queue" if seconds else "reject",
                queue_seconds=seconds,
                outbound_calls=6,
            )
            for name, (cps, seconds) in zip("abc", own, strict=True)
        }
        self.shared = shared
        self.limits = limits
        self.bed = Bed(limits, Limits(outbound_cps=shared), slow, slow)
        self.tickets: list[Waiting] = []
        self.left: set[int] = set()

    @rule(name=st.sampled_from("abc"), number=st.integers(1, 6))
    def calls(self, name: str, number: int) -> None:
        for _ in range(number):
            self.tickets.append(self.bed.offer(name))

    @rule(name=st.sampled_from("abc"))
    def a_copy_is_due(self, name: str) -> None:
        self.tickets.append(self.bed.offer(name, Rank.COPY))

    @rule(data=st.data())
    def somebody_leaves(self, data: st.DataObject) -> None:
        waiting = [ticket for ticket in self.tickets if not ticket.fate and ticket.number not in self.left]
        if waiting:
            ticket = data.draw(st.sampled_from(waiting))
            self.left.add(ticket.number)
            self.bed.pacing.leave(ticket, self.bed.now)
            self.bed._settle()

    @rule(data=st.data())
    def a_call_ends(self, data: st.DataObject) -> None:
        up = [t for t in self.tickets if t.fate == "went" and not self.bed.released[t.claim]]
        if up:
            ticket = data.draw(st.sampled_from(up))
            self.bed.out.append(Release(ticket.claim))
            self.bed._settle()

    @rule(data=st.data())
    def a_copy_goes_out_under_its_token(self, data: st.DataObject) -> None:
        """Its token is out that much longer."""
        now = self.bed.now
        recent = [t for t in self.tickets if t.fate == "went" and self.bed.sent[t.key.id][-1] > now - 1.0]
        if recent:
            self.bed.store.sent(data.draw(st.sampled_from(recent)).claim, now)

    @rule(name=st.sampled_from("abc"))
    def the_trunk_is_congested(self, name: str) -> None:
        key = self.bed.keys[name]
        if key.congestion.heard(self.bed.now, plain=False):
            self.bed.pacing.slowed(key, self.bed.now)
            self.bed._settle()

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.3, 0.99, 1.02, 2.0, 5.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.bed.until(self.bed.now + seconds)

    @invariant()
    def never_more_than_the_rate(self) -> None:
        if not hasattr(self, "bed"):
            return
        for name, limits in self.limits.items():
            if limits.outbound_cps is not None:
                assert self.bed.fullest([name]) <= limits.outbound_cps
        if self.shared is not None:
            assert self.bed.fullest(list("abc")) <= self.shared

    @invariant()
    def first_come_first_served(self) -> None:
        if hasattr(self, "bed"):
            for order in self.bed.order.values():
                assert order == sorted(order)

    @invariant()
    def told_in_time(self) -> None:
        if not hasattr(self, "bed"):
            return
        late = 0.3  # the first answer of a slow store
        for ticket in self.tickets:
            if not ticket.fate and ticket.number not in self.left and ticket.rank is Rank.CALL:
                longest = max(ticket.key.queue_seconds or TOKEN, 0.0) + late
                assert self.bed.now - ticket.since <= longest, "nobody has told it"

    @invariant()
    def given_back_once(self) -> None:
        if hasattr(self, "bed"):
            assert all(count == 1 for count in self.bed.released.values())

    def teardown(self) -> None:
        if not hasattr(self, "bed"):
            return
        bed = self.bed
        for _ in range(2):
            bed.until(bed.now + 120.0)  # every level of congestion has fallen
            for ticket in self.tickets:
                if ticket.fate == "went" and not bed.released[ticket.claim]:
                    bed.out.append(Release(ticket.claim))
            bed._settle()
        for ticket in self.tickets:
            assert ticket.fate or ticket.number in self.left, "somebody waits for ever"
        assert not len(bed.pacing)
        assert all(bed.store.used(p.name, bed.now) == 0 for k in bed.keys.values() for p in k.attempt)
        last = bed.offer("a")
        bed.until(bed.now + 0.1)
        assert last.fate == "went", "the way is not free when everybody is gone"


TestTurns = Turns.TestCase
TestTurns.settings = settings(max_examples=many(75), stateful_step_count=40, deadline=None)
