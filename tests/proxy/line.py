"""A carrier at the end of a bad line: every copy of an INVITE is lost or late, so is every answer. What it counts are
first arrivals (V1): calls, or attempts at another gateway, that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from tests.proxy.agent import Agent
from tests.proxy.ladder import World
from tests.proxy.text import Text

Fate = float | None
"""How late a copy arrives, seconds; None where it is lost."""


class Line:
    """`fates` are those of the copies towards the carrier, in turn; `answers` those of the carrier's answers;
    `behaviour` what the carrier says to each call in turn: a code, or "" for silence."""

    def __init__(
        self, world: World, fates: Sequence[Fate], answers: Sequence[Fate], behaviour: Sequence[str]
    ) -> None:
        self.world = world
        self.fates = fates
        self.answers = answers
        self.behaviour = behaviour
        self.first: dict[tuple[str, str], float] = {}  # (Call-ID, gateway) → when its first copy arrived
        self.passed: set[str] = set()  # Call-IDs that were sent at all
        self.copies = 0
        self.said = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def at(self, when: float, do: Callable[[], None]) -> None:
        self._number += 1
        heappush(self._events, (when, self._number, do))

    def run(self, end: float) -> None:
        """Everything until `end`: planned events, arrivals, the gate's own deadlines, each at its time."""
        world = self.world
        while True:
            due = min(self._events[0][0] if self._events else end, world.next_deadline, end)
            world.until(max(due, world.now))
            while self._events and self._events[0][0] <= world.now:
                heappop(self._events)[2]()
            self._collect()
            if world.now >= end and (not self._events or self._events[0][0] > end):
                return

    def _collect(self) -> None:
        for gateway in self.world.gateways:
            for sent, text in gateway.inbox:
                if text.method == "INVITE":
                    self._copy(gateway, sent, text)
                elif text.method == "CANCEL":
                    self._is_cancelled(gateway, text)
            gateway.inbox.clear()
        if self.world.pbx.inbox:
            self.world.pbx.takes_refusals()

    def _copy(self, gateway: Agent, sent: float, text: Text) -> None:
        self.passed.add(text.call_id)
        fate = self.fates[self.copies % len(self.fates)]
        self.copies += 1
        if fate is not None:
            self.at(sent + fate, lambda: self._arrives(gateway, text))

    def _arrives(self, gateway: Agent, text: Text) -> None:
        name = (text.call_id, gateway.name)
        if name not in self.first:
            self.first[name] = self.world.now
        says = self.behaviour[(len(self.first) - 1) % len(self.behaviour)]
        if says:
            gateway.read(text)
            self._say(gateway, f"{says} INVITE")

    def _is_cancelled(self, gateway: Agent, text: Text) -> None:
        gateway.read(text)
        self._say(gateway, "200 CANCEL")
        self._say(gateway, "487 INVITE")

    def _say(self, gateway: Agent, what: str) -> None:
        fate = self.answers[self.said % len(self.answers)]
        self.said += 1
        answer = gateway.sends(what, lost=True)
        if fate is not None:
            self.at(self.world.now + fate, lambda: gateway.transmits(answer.data))

    @property
    def arrivals(self) -> list[float]:
        return sorted(self.first.values())

    def fullest(self, window: float = 1.0) -> int:
        """The most first arrivals in any window [t, t + window)."""
        times, most, left = self.arrivals, 0, 0
        for right, at in enumerate(times):
            while at - times[left] >= window:
                left += 1
            most = max(most, right - left + 1)
        return most


def exact_window(arrivals: Sequence[float], limit: int, window: float) -> list[bool]:
    """What a window that counts exactly lets pass of these arrivals, one by one."""
    ends: list[float] = []
    passed = []
    for at in arrivals:
        ends = [end for end in ends if end > at]
        passed.append(len(ends) < limit)
        if passed[-1]:
            ends.append(at + window)
    return passed
