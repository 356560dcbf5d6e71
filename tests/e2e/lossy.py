"""A bad line on loopback, and phones at its end: what `tests/lossy` plays in a simulation, with real sockets and in
real time. `load.run` turns them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from heapq import heappop, heappush
from random import Random
from typing import Any

from tests.e2e.gate import Address, hostport
from tests.e2e.phone import Udp
from tests.lossy.leg import Dialog, Leg
from tests.lossy.line import Line, Quality
from tests.lossy.message import Msg
from tests.lossy.phone import Phone
from tests.lossy.plan import Plan, plan


class BadLine:
    """A relay between the gate and one peer: `near` stands for the peer before the gate, `far` for the gate before the
    peer. Every datagram is lost, doubled and delayed by `quality`, each direction by a generator of its own.

    `first`: when the first copy of each call's INVITE that got through to the peer left the gate, by the stamp of the
    kernel: how late this process passes it on is no doing of the gate's.
    """

    def __init__(
        self, near: Udp, far: Udp, peer: Address, gate: Address, quality: Quality, seed: str
    ) -> None:
        self.near = near
        self.far = far
        self.first: dict[str, float] = {}
        self.to_peer = Line(quality, Random(f"{seed} to the peer"))
        self.to_gate = Line(quality, Random(f"{seed} to the gate"))
        self._peer = peer
        self._gate = gate
        self._waiting: list[tuple[float, int, Udp, bytes, Address]] = []
        self._number = 0

    @property
    def endpoints(self) -> Iterable[Udp]:
        return (self.near, self.far)

    def received(self, at: Udp, data: bytes, source: Address, stamp: float) -> None:
        line, by, to = (
            (self.to_peer, self.far, self._peer) if at is self.near else (self.to_gate, self.near, self._gate)
        )
        fates = line.fates()
        if fates and at is self.near and data.startswith(b"INVITE "):
            invite = Msg(data)
            if invite.opens_a_call:
                self.first.setdefault(invite.call_id, stamp)
        now = time.monotonic()
        for delay in fates:
            self._number += 1
            heappush(self._waiting, (now + delay, self._number, by, data, to))

    def tick(self, now: float) -> float:
        while self._waiting and self._waiting[0][0] <= now:
            _, _, by, data, to = heappop(self._waiting)
            by.send(data, to)
        return self._waiting[0][0] if self._waiting else float("inf")


class LivePhones:
    """The user agents of `tests/lossy` on a socket of their own each. `wrongs`: what no bad line explains."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.wrongs: list[str] = []
        self.phones: list[Phone] = []
        self.plans: dict[str, Plan] = {}
        self._sockets: dict[Phone, tuple[Udp, Address]] = {}
        self._owner: dict[Udp, Phone] = {}
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._ask_at = 0.0

    def add(self, name: str, endpoint: Udp, line: BadLine, gate: Address, *, carrier: bool) -> Phone:
        """A phone whose every datagram goes to the far end of its line, and that is reached through the near one."""
        phone = Phone(
            name,
            hostport(endpoint.address),
            hostport(gate),
            self,
            self._send,
            self,
            self.plan,
            carrier=carrier,
            contact=hostport(line.near.address),
        )
        self._sockets[phone] = (endpoint, line.far.address)
        self._owner[endpoint] = phone
        self.phones.append(phone)
        return phone

    def plan(self, call_id: str) -> Plan:
        """In a hurry: nobody talks or waits as long as in the simulation."""
        found = self.plans.get(call_id)
        if found is None:
            number = int(call_id.partition("-")[2].partition("@")[0])
            slow = plan(number, self.seed)
            found = self.plans[call_id] = replace(
                slow,
                code=slow.code or 480,
                answer=slow.answer if slow.answer < 10 else 25.0,
                give_up=slow.give_up if slow.give_up > 60 else slow.give_up * 0.5,
                talk={who: seconds * 0.25 for who, seconds in slow.talk.items()},
                inside=[(when * 0.25, who, method) for when, who, method in slow.inside],
            )
        return found

    @property
    def legs(self) -> list[Leg]:
        return [leg for phone in self.phones for leg in phone.legs.values()]

    @property
    def callers(self) -> list[Leg]:
        return [leg for leg in self.legs if leg.caller]

    @property
    def open(self) -> list[str]:
        """Call-IDs of calls that have not ended for one of their sides."""
        return [leg.call_id for leg in self.legs if not leg.over]

    def rarely(self, ask: Callable[[], bool]) -> bool:
        """What `ask` says, asked twice a second at most."""
        if self.now < self._ask_at:
            return False
        self._ask_at = self.now + 0.5
        return ask()

    # -- what phones need ----------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return time.monotonic()

    def at(self, when: float, do: Callable[..., None], *what: Any) -> None:
        self._number += 1
        heappush(self._events, (when, self._number, do, what))

    def _send(self, phone: Phone, data: bytes, call_id: str, tell: Callable[[], None] | None) -> None:
        endpoint, to = self._sockets[phone]
        endpoint.send(data, to)

    def on_arrival(self, phone: Phone, invite: Msg) -> None:
        pass

    def on_up(self, dialog: Dialog) -> None:
        pass

    def on_over(self, dialog: Dialog) -> None:
        pass

    def wrong(self, what: str) -> None:
        self.wrongs.append(what)

    # -- what `run` needs ----------------------------------------------------------------------------------

    @property
    def endpoints(self) -> Iterable[Udp]:
        return self._owner

    def received(self, at: Udp, data: bytes, source: Address, stamp: float) -> None:
        self._owner[at].receive(Msg(data))

    def tick(self, now: float) -> float:
        while self._events and self._events[0][0] <= now:
            _, _, do, what = heappop(self._events)
            do(*what)
        return self._events[0][0] if self._events else float("inf")
