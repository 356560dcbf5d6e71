"""The simulated carrier: answers calls, brings some in, counts what reaches it, and suspends."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from callgate.sim.agent import Agent
from callgate.sim.call import T1, Call, Phase
from callgate.sim.forbidden import broken_rule
from callgate.sim.meter import Contract, Opinion
from callgate.sim.plan import Arrival
from callgate.sim.udp import Address
from callgate.sip.errors import Malformed
from callgate.sip.message import Message
from callgate.sip.uri import parse_uri


class Carrier(Agent):
    """Holds the account to `contract`. From the first breach on, whatever is new gets 403 Account suspended;
    calls that are up may end in peace.

    `quick` answers every call at once and rejects none (for tests that need no ringing).
    """

    def __init__(
        self, contract: Contract | None = None, *, seed: int = 0, quick: bool = False, t1: float = T1
    ) -> None:
        super().__init__("carrier", t1=t1)
        self.opinion = Opinion(contract or Contract())
        self.seed = seed
        self.quick = quick
        self.seen: dict[bytes, bytes] = {}
        """Every Call-ID that has arrived, with the user part of its Request-URI."""
        self.taken: set[bytes] = set()
        """Call-IDs of those that were taken on, not refused by a suspension."""
        self.came: dict[bytes, int] = {}
        """When they arrived: nanoseconds, monotonic, as `Told.sent_at`."""
        self.refused = 0
        """Requests answered with 403 because the account is suspended."""
        self.brought = 0
        """Inbound calls placed."""
        self.allowed = 0
        """Of those: the ones placed while fewer than the contract's were up."""
        self.inbound: list[Call] = []
        """Inbound calls, in the order placed, live or not."""

    # --- what the account sends -------------------------------------------------------------------------

    def screen(self, request: Message, at: int) -> int:
        if request.method == b"INVITE" and request.call_id not in self.seen:
            self.opinion.began = self.opinion.began or at
            self.came[request.call_id] = time.monotonic_ns()
            user = self.seen[request.call_id] = _user(request.uri)
            number = user.decode("utf-8", "replace")
            self.opinion.saw_call(at, number, broken_rule(number))
        if self.opinion.suspended:
            self.refused += 1
            return 403
        if request.method == b"INVITE":
            self.taken.add(request.call_id)
        return 0

    def reason(self, code: int) -> bytes:
        if code == 403 and self.opinion.suspended:
            return b"Account suspended"
        return super().reason(code)

    def on_call(self, call: Call) -> None:
        if self.quick:
            self.answer(call)
            return
        draw = random.Random(f"answer {self.seed} {call.call_id.decode('utf-8', 'replace')}")
        busy, delay = draw.random() < 0.12, draw.uniform(0.1, 0.5)
        self.later(call, 0.02, self.ring)
        self.later(call, delay, self._busy if busy else self.answer)
        self.later(call, delay + draw.uniform(5.0, 8.0), self.hang_up)

    def _busy(self, call: Call) -> None:
        self.reject(call, 486)

    # --- what the carrier brings in ---------------------------------------------------------------------

    def bring(self, plan: Sequence[Arrival], number: str, peer: Address) -> None:
        """Place the plan's calls for `number` (a DID of the account) to `peer`, from now on."""
        for arrival in plan:
            self.plan(arrival.at, self._bring, arrival, number, peer)

    def _bring(self, arrival: Arrival, number: str, peer: Address) -> None:
        if self.opinion.suspended:
            return  # a suspended account gets no calls either
        now = time.time_ns()
        self.opinion.began = self.opinion.began or now
        self.brought += 1
        # Every call of ours that has not ended counts here, also one that is just being hung up: the gate may
        # know less than that, never more, so what is allowed by this count must get through.
        live = sum(call.outgoing for call in self.calls.values())
        self.allowed += live < self.opinion.contract.inbound_calls
        uri = f"sip:{number}@{_host(peer)}".encode()
        caller = f"<sip:{arrival.caller}@{_host(self.address)}>".encode()
        call = self.place(uri, peer, caller)
        self.inbound.append(call)
        if arrival.patience is not None:
            self.later(call, arrival.patience, self._give_up)
        elif arrival.hold is not None:
            self.later(call, arrival.hold, self.hang_up)

    def _give_up(self, call: Call) -> None:
        if call.phase is not Phase.UP:
            self.hang_up(call)

    def on_ringing(self, call: Call) -> None:
        self._judge_inbound()

    def on_up(self, call: Call) -> None:
        if call.outgoing:
            self._judge_inbound()

    def _judge_inbound(self) -> None:
        self.opinion.saw_inbound(time.time_ns(), self.inbound_up)

    # --- lines ------------------------------------------------------------------------------------------

    @property
    def inbound_up(self) -> int:
        """Inbound calls that ring or are answered; one that the carrier has hung up itself is none."""
        return sum(
            call.outgoing and not call.leaving and call.phase in (Phase.RINGING, Phase.UP)
            for call in self.calls.values()
        )

    @property
    def outbound_up(self) -> int:
        """Calls of the account that have not ended."""
        return sum(not call.outgoing for call in self.calls.values())


def _user(uri: bytes) -> bytes:
    try:
        return parse_uri(uri).user
    except Malformed:
        return uri


def _host(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
