"""Many calls at once, in one thread: a PBX that offers them, a carrier that answers all of them, and a line between
gate and carrier that loses datagrams. `run` turns them."""

from __future__ import annotations

import random
import select
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

from tests.e2e.gate import Address
from tests.e2e.phone import SDP, Leg, Message, Udp

T1 = 0.5
WINDOW = 1.0


class Part(Protocol):
    """Something with one or more UDP sockets and, perhaps, a time at which it wants to act."""

    @property
    def endpoints(self) -> Iterable[Udp]: ...

    def received(self, at: Udp, data: bytes, source: Address, stamp: float) -> None: ...

    def tick(self, now: float) -> float:
        """Do what is due; when to be called again (monotonic seconds)."""
        ...


def run(parts: list[Part], over: Callable[[], object], what: Callable[[], str], within: float) -> None:
    """Turn the parts until `over` is true; a failure that says `what` after `within` seconds."""
    owner = {endpoint.socket: (part, endpoint) for part in parts for endpoint in part.endpoints}
    end = time.monotonic() + within
    while not over():
        now = time.monotonic()
        assert now < end, f"not over within {within:g} s: {what()}"
        due = min([end, *(part.tick(now) for part in parts)])
        for sock in select.select(list(owner), (), (), min(0.05, max(0.0, due - time.monotonic())))[0]:
            part, endpoint = owner[sock]
            while (took := endpoint.take()) is not None:
                part.received(endpoint, *took)


class Carrier:
    """Answers every INVITE with 180 and 200, repeats its 200 until it is acknowledged (RFC 3261 §13.3.1.4), and
    answers BYE. `first` holds when the first copy of each call's INVITE came, as the kernel says."""

    def __init__(self, endpoint: Udp) -> None:
        self.endpoint = endpoint
        self.first: dict[str, float] = {}
        self.copies: Counter[str] = Counter()
        self.hung_up: set[str] = set()
        self._legs: dict[str, Leg] = {}
        self._open: dict[str, tuple[float, float, bytes, Address]] = {}  # call → next copy of its 200

    @property
    def endpoints(self) -> Iterable[Udp]:
        return (self.endpoint,)

    def received(self, at: Udp, data: bytes, source: Address, stamp: float) -> None:
        message = Message(data, source, stamp)
        call = message.call_id
        if message.method == "INVITE" and not message.code:
            self.copies[call] += 1
            if call in self.first:
                if call in self._open:
                    self.endpoint.send(self._open[call][2], source)
                return
            self.first[call] = stamp
            leg = self._legs[call] = Leg.answering(self.endpoint, message)
            leg.answer(180)
            self._open[call] = (time.monotonic() + T1, T1, leg.answer(200, body=SDP), source)
        elif message.method == "ACK":
            self._open.pop(call, None)
        elif message.method == "BYE" and not message.code:
            self._open.pop(call, None)
            self.hung_up.add(call)
            self._legs[call].answer(200, message)

    def tick(self, now: float) -> float:
        for call, (due, interval, data, to) in list(self._open.items()):
            if due <= now:
                self.endpoint.send(data, to)
                interval = min(2 * interval, 4.0)
                self._open[call] = (now + interval, interval, data, to)
        return min((due for due, *_ in self._open.values()), default=float("inf"))


class Pbx:
    """Offers `calls` calls, `rate` a second; every one that is answered is acknowledged and hung up at once.
    `finals` holds each call's final answer. Every fourth INVITE is sent twice, as a phone's own copy would be."""

    def __init__(self, endpoint: Udp, gate: Address, number: str, rate: float, calls: int) -> None:
        self.endpoint = endpoint
        self.finals: dict[str, Message] = {}
        self.ended: set[str] = set()
        self.calls = calls
        self.legs: dict[str, Leg] = {}
        self._gate = gate
        self._number = number
        self._pause = 1.0 / rate
        self._due = 0.0

    @property
    def endpoints(self) -> Iterable[Udp]:
        return (self.endpoint,)

    @property
    def over(self) -> bool:
        """Whether every call has its final answer, and every one that was up has ended."""
        answered = (call for call, final in self.finals.items() if final.code < 300)
        return len(self.finals) == self.calls and all(call in self.ended for call in answered)

    def received(self, at: Udp, data: bytes, source: Address, stamp: float) -> None:
        message = Message(data, source, stamp)
        leg = self.legs[message.call_id]
        if message.method == "BYE":
            self.ended.add(message.call_id)
        elif message.code >= 200:
            again = message.call_id in self.finals
            self.finals.setdefault(message.call_id, message)
            leg.ack(message)
            if message.code < 300 and not again:
                leg.send("BYE")

    def tick(self, now: float) -> float:
        self._due = self._due or now
        while self._due <= now and len(self.legs) < self.calls:
            leg = Leg.call(self.endpoint, self._gate, self._number)
            self.legs[leg.call_id] = leg
            if len(self.legs) % 4 == 0:
                leg.again()
            self._due += self._pause
        return self._due if len(self.legs) < self.calls else float("inf")

    def __repr__(self) -> str:
        codes = Counter(final.code for final in self.finals.values())
        return (
            f"{len(self.legs)} of {self.calls} calls offered, answers {dict(codes)}, {len(self.ended)} ended"
        )


class Lossy:
    """A line with losses: `near` stands for the carrier before the gate, `far` for the gate before the carrier.

    Of each kind of datagram (direction and method) `loss` are lost, by a generator of its own, so that the nth INVITE
    shares its fate in every run. `first`: when the first copy of each call's INVITE got through, by the stamp of the
    kernel at the gate's side: how late this process passes it on is no doing of the gate's.
    """

    def __init__(self, near: Udp, far: Udp, carrier: Address, loss: float, seed: int) -> None:
        self.near = near
        self.far = far
        self.first: dict[str, float] = {}
        self.lost: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()
        self._carrier = carrier
        self._loss = loss
        self._seed = seed
        self._fates: dict[str, random.Random] = {}
        self._gate: Address = ("", 0)

    @property
    def endpoints(self) -> Iterable[Udp]:
        return (self.near, self.far)

    def received(self, at: Udp, data: bytes, source: Address, stamp: float) -> None:
        message = Message(data)
        out = at is self.near
        kind = f"{'to' if out else 'from'} {message.method if not message.code else message.code}"
        if kind not in self._fates:
            self._fates[kind] = random.Random(f"{self._seed} {kind}")
        if self._fates[kind].random() < self._loss:
            self.lost[kind] += 1
            return
        self.passed[kind] += 1
        if out:
            self._gate = source
            if message.method == "INVITE" and not message.code:
                self.first.setdefault(message.call_id, stamp)
            self.far.send(data, self._carrier)
        else:
            self.near.send(data, self._gate)

    def tick(self, now: float) -> float:
        return float("inf")


def fullest(arrivals: Iterable[float], window: float = WINDOW) -> int:
    """The most arrivals in any half-open window of that many seconds."""
    times = sorted(arrivals)
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most
