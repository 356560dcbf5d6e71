"""The simulated PBX: offers more than the contract allows, dials what is forbidden, takes inbound calls."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from callgate.sim import wire
from callgate.sim.agent import Agent
from callgate.sim.call import T1, Call, Phase
from callgate.sim.plan import Offer
from callgate.sim.udp import Address
from callgate.sip.fields import param
from callgate.sip.message import Message


@dataclass(slots=True, eq=False)
class Told:
    """What became of one offer, as the PBX was told."""

    offer: Offer
    call_id: bytes
    sent_at: int
    """When its INVITE was sent first: nanoseconds, monotonic."""
    code: int = 0
    """The final answer; 0 while there is none, 408 where none ever came."""
    rule: str = ""
    """The rule of the gate's `X-CallGate-Verdict`, empty where the gate refused nothing."""
    value: str = ""
    limit: str = ""


DEFLECTED = 0.2
"""The share of inbound calls that are sent on to a telephone number."""


class Pbx(Agent):
    """`quick` answers inbound calls at once, rejects none and sends none on (for tests that need no ringing)."""

    def __init__(
        self, *, seed: int = 0, quick: bool = False, number: str = "05012345678", t1: float = T1
    ) -> None:
        super().__init__("pbx", t1=t1)
        self.seed = seed
        self.quick = quick
        self.number = number
        """The account's own number: From of what it dials."""
        self.told: list[Told] = []
        """One entry per offer sent, in order."""
        self.received: set[bytes] = set()
        """Call-IDs of the inbound calls that came."""
        self.deflected: dict[bytes, int] = {}
        """Those that it has sent on to a telephone number with a 302, and when: nanoseconds, monotonic."""
        self._of_call: dict[bytes, Told] = {}

    def offer(self, plan: Sequence[Offer], peer: Address) -> None:
        """Place the plan's calls to `peer`, from now on."""
        for offer in plan:
            self.plan(offer.at, self._offer, offer, peer)

    def _offer(self, offer: Offer, peer: Address) -> None:
        uri = b"sip:%b@%b" % (offer.user, wire.host_port(peer))
        caller = b"<sip:%b@%b>" % (self.number.encode(), wire.host_port(self.address))
        sent_at = time.monotonic_ns()
        call = self.place(uri, peer, caller, extra=(b"X-Record: yes",) if offer.recorded else ())
        told = Told(offer, call.call_id, sent_at)
        self.told.append(told)
        self._of_call[call.call_id] = told
        if offer.patience is not None:
            self.later(call, offer.patience, self._give_up)

    def _give_up(self, call: Call) -> None:
        if call.phase is not Phase.UP:
            self.hang_up(call)

    def on_call(self, call: Call) -> None:
        self.received.add(call.call_id)
        if self.quick:
            self.answer(call)
            return
        draw = random.Random(f"answer {self.seed} {call.call_id.decode('utf-8', 'replace')}")
        busy, delay = draw.random() < 0.1, draw.uniform(0.1, 0.4)
        if draw.random() < DEFLECTED:
            self.later(call, 0.05, self._deflect)
            return
        self.later(call, 0.02, self.ring)
        self.later(call, delay, self._busy if busy else self.answer)
        self.later(call, delay + draw.uniform(3.0, 7.0), self.hang_up)

    def _busy(self, call: Call) -> None:
        self.reject(call, 486)

    def _deflect(self, call: Call) -> None:
        """Nobody is at home: to the mobile phone (RFC 3261 §21.3.3)."""
        self.deflected[call.call_id] = time.monotonic_ns()
        number = b"0904%07d" % (len(self.deflected) % 10_000_000)
        self.reject(call, 302, b"<sip:%b@%b>" % (number, wire.host_port(self.address)))

    def on_up(self, call: Call) -> None:
        told = self._of_call.get(call.call_id)
        if call.outgoing and told is not None:
            told.code = call.code
            self.later(call, told.offer.hold, self.hang_up)

    def on_end(self, call: Call) -> None:
        told = self._of_call.pop(call.call_id, None) if call.outgoing else None
        if told is None:
            return
        told.code = call.code
        if call.final is not None:
            told.rule, told.value, told.limit = verdict(call.final)


def verdict(answer: Message) -> tuple[str, str, str]:
    """Rule, value, limit of an answer's X-CallGate-Verdict (`rule=V1;value=4;limit=3`); empty without."""
    params = b";" + answer.header(b"x-callgate-verdict")
    rule, value, limit = (
        (param(params, name) or b"").decode("ascii", "replace") for name in (b"rule", b"value", b"limit")
    )
    return rule, value, limit
