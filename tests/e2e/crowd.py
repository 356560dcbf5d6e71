"""Many calls that stay: a PBX that offers them and a carrier that lets them ring or answers, for tests in which the
gate dies in between. `tests.e2e.load.run` turns both."""

from __future__ import annotations

from collections.abc import Iterable

from tests.e2e.gate import Address
from tests.e2e.phone import SDP, Leg, Message, Udp

RINGS = "0312345600"
"""Whoever is called by this number does not answer before `Carrier.answers`."""


class Carrier:
    """`gone`: calls that it knows no more when it is asked; `silent`: those of which it says nothing."""

    def __init__(self, endpoint: Udp) -> None:
        self.endpoint = endpoint
        self.legs: dict[str, Leg] = {}
        self.acked: set[str] = set()
        self.asked: set[str] = set()
        self.cancelled: set[str] = set()
        self.hung_up: set[str] = set()
        self.gone: set[str] = set()
        self.silent: set[str] = set()

    @property
    def endpoints(self) -> Iterable[Udp]:
        return (self.endpoint,)

    def answers(self, call: str) -> None:
        self.legs[call].answer(200, body=SDP)

    def received(self, at: Udp, data: bytes, source: Address, stamp: float) -> None:
        message = Message(data, source)
        call = message.call_id
        if message.code:
            return
        if message.method == "INVITE":
            if call not in self.legs:
                leg = self.legs[call] = Leg.answering(self.endpoint, message)
                leg.answer(180)
                if RINGS not in message.uri:
                    self.answers(call)
        elif message.method == "ACK":
            self.acked.add(call)
        elif message.method == "CANCEL":
            self.cancelled.add(call)
            leg = self.legs[call]
            leg.answer(200, message)
            leg.answer(487)
        elif message.method == "BYE":
            self.hung_up.add(call)
            self.legs[call].answer(481 if call in self.gone else 200, message)
        elif message.method == "OPTIONS":
            self.asked.add(call)
            if call not in self.silent:
                self.legs[call].answer(481 if call in self.gone else 200, message)

    def tick(self, now: float) -> float:
        return float("inf")


class Pbx:
    """Offers a call to each of `numbers`, `rate` a second, each with these `headers`."""

    def __init__(
        self,
        endpoint: Udp,
        gate: Address,
        numbers: list[str],
        rate: float,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.endpoint = endpoint
        self.legs: dict[str, Leg] = {}
        self.ringing: set[str] = set()
        self.up: set[str] = set()
        self.refused: dict[str, int] = {}
        self.asked: set[str] = set()
        self.ended: set[str] = set()
        self.hung_up_on: set[str] = set()
        self._gate = gate
        self._numbers = numbers
        self._headers = headers
        self._pause = 1.0 / rate
        self._due = 0.0

    @property
    def endpoints(self) -> Iterable[Udp]:
        return (self.endpoint,)

    def cancels(self, call: str) -> None:
        self.legs[call].cancel()

    def hangs_up(self, call: str) -> None:
        self.legs[call].send("BYE")

    def received(self, at: Udp, data: bytes, source: Address, stamp: float) -> None:
        message = Message(data, source)
        call = message.call_id
        leg = self.legs[call]
        if message.code:
            self._answered(leg, call, message)
        elif message.method == "OPTIONS":
            self.asked.add(call)
            leg.answer(200, message)
        elif message.method == "BYE":
            self.hung_up_on.add(call)
            leg.answer(200, message)

    def _answered(self, leg: Leg, call: str, message: Message) -> None:
        if message.method == "BYE":
            self.ended.add(call)
        elif message.method == "INVITE" and message.code == 180:
            self.ringing.add(call)
        elif message.method == "INVITE" and message.code >= 200:
            self.ringing.discard(call)
            leg.ack(message)
            if message.code < 300:
                self.up.add(call)
            else:
                self.refused[call] = message.code

    def tick(self, now: float) -> float:
        self._due = self._due or now
        while self._due <= now and len(self.legs) < len(self._numbers):
            leg = Leg.call(self.endpoint, self._gate, self._numbers[len(self.legs)], headers=self._headers)
            self.legs[leg.call_id] = leg
            self._due += self._pause
        return self._due if len(self.legs) < len(self._numbers) else float("inf")

    def __repr__(self) -> str:
        return (
            f"{len(self.legs)} of {len(self._numbers)} calls offered, {len(self.ringing)} ring, {len(self.up)} "
            f"answered, {len(self.refused)} refused, {len(self.ended)} ended, {len(self.hung_up_on)} hung up"
        )
