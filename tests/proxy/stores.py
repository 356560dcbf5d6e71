"""The stores that every ladder runs on: one that answers in the same turn, one that answers late, one whose answers
overtake each other, and one that never answers.

All of them decide with the program's memory store, so that what is granted is right and only the time of the answer
differs. `Watched` sees that every grant is given back exactly once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from callgate.policy.claim import Claim, Members, Verdict
from callgate.store.memory import MemoryStore

NEVER = float("inf")


@dataclass(frozen=True)
class Kind:
    """How long a claim travels to the store and how long the answer travels back, seconds, by the claim's number.
    `back` None: no answer ever comes by itself."""

    name: str
    there: float = 0.0
    back: Callable[[int], float] | None = lambda _: 0.0
    same_turn: bool = False


SAME_TURN = Kind("same-turn", same_turn=True)
LATE = Kind("late", there=0.004, back=lambda _: 0.006)
OUT_OF_ORDER = Kind("out-of-order", there=0.003, back=lambda n: 0.030 if n % 2 else 0.002)
NEVER_ANSWERS = Kind("never", there=0.003, back=None)

ANSWERING = (SAME_TURN, LATE, OUT_OF_ORDER)
ALL = (*ANSWERING, NEVER_ANSWERS)


@dataclass(order=True)
class _Step:
    at: float
    number: int
    do: Callable[[float], None] = field(compare=False)


class Watched:
    """A store of one kind. What is asked of it travels in order; `answer` takes a verdict back to the core."""

    def __init__(self, kind: Kind, started: float, answer: Callable[[int, Verdict, float], None]) -> None:
        self.kind = kind
        self.inner = MemoryStore(started)
        self.granted: dict[int, Claim] = {}
        self.given_back: Counter[int] = Counter()
        self.unanswered: dict[int, Verdict] = {}  # of the kind that never answers
        self.asked = 0
        self._answer = answer
        self._steps: list[_Step] = []
        self._number = 0

    # -- what the shell calls ------------------------------------------------------------------------------

    def claim(self, claim: Claim, now: float) -> None:
        self.asked += 1
        number = self.asked
        if self.kind.same_turn:
            self._answer(claim.id, self._decide(claim, now), now)
            return

        def decide(at: float) -> None:
            verdict = self._decide(claim, at)
            if self.kind.back is None:
                self.unanswered[claim.id] = verdict
            else:
                self._later(at + self.kind.back(number), lambda then: self._answer(claim.id, verdict, then))

        self._later(now + self.kind.there, decide)

    def sent(self, claim_id: int, now: float) -> None:
        self._in_order(now, lambda _: self.inner.sent(claim_id, now))

    def renew(self, claim_id: int, lease: float, now: float) -> None:
        self._in_order(now, lambda at: self.inner.renew(claim_id, lease, at))

    def release(self, claim_id: int, now: float) -> None:
        self.given_back[claim_id] += 1
        self._in_order(now, lambda at: self.inner.release(claim_id, at))

    # -- time ----------------------------------------------------------------------------------------------

    @property
    def next_deadline(self) -> float:
        return self._steps[0].at if self._steps else NEVER

    def run(self, now: float) -> None:
        while self._steps and self._steps[0].at <= now:
            step = heappop(self._steps)
            step.do(step.at)

    def answers_after_all(self, now: float) -> int:
        """The kind that never answers does it at last, long after its time: how many answers came."""
        late, self.unanswered = self.unanswered, {}
        for claim_id, verdict in late.items():
            self._answer(claim_id, verdict, now)
        return len(late)

    def _decide(self, claim: Claim, now: float) -> Verdict:
        verdict = self.inner.claim(claim, now)
        if verdict.granted:
            for each in (claim, claim.twin):
                if each is not None:
                    self.granted[each.id] = each
        return verdict

    def _in_order(self, now: float, do: Callable[[float], None]) -> None:
        if self.kind.same_turn:
            do(now)
        else:
            self._later(now + self.kind.there, do)

    def _later(self, at: float, do: Callable[[float], None]) -> None:
        self._number += 1
        heappush(self._steps, _Step(at, self._number, do))

    # -- what it holds ---------------------------------------------------------------------------------------

    @property
    def held(self) -> set[int]:
        """Claims that were granted and not given back."""
        return {claim_id for claim_id in self.granted if not self.given_back[claim_id]}

    @property
    def lines(self) -> int:
        """Held claims of calls: those that joined a set, not the tokens of further attempts and copies."""
        return sum(
            1 for claim_id in self.held if any(type(p) is Members for p in self.granted[claim_id].parts)
        )

    def check(self) -> None:
        """Whatever was granted was given back once at most, and the sets hold what is held."""
        twice = [i for i in self.granted if self.given_back[i] > 1]
        assert not twice, f"given back more than once: {twice}"
        foreign = [i for i in self.given_back if i not in self.granted]
        assert not foreign, f"given back, but never granted: {foreign}"
