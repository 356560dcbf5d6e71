"""The gate between two bad lines, and phones at their ends. Time is passed in; nothing waits.

What must hold all the time is checked as it happens: the gate never gives the line of a call back while the carrier
believes the call up and the gate can know of it. What must hold in the end is checked by `ends`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from heapq import heappop, heappush
from random import Random
from typing import Any

from tests.lossy.leg import Dialog, Leg
from tests.lossy.line import Line, Quality
from tests.lossy.message import Msg
from tests.lossy.meter import Meter
from tests.lossy.phone import Phone
from tests.lossy.plan import Plan, plan
from tests.proxy.agent import Agent
from tests.proxy.ladder import DIALLED, DID, World
from tests.proxy.stores import Kind

from callgate.policy.claim import Claim, Members
from callgate.policy.ledger import MARGIN
from callgate.proxy.commands import Release, Send
from callgate.proxy.flow import Flow
from callgate.proxy.telemetry.meters import DIRECTIONS
from callgate.proxy.telemetry.meters import OUTCOMES as METERED
from callgate.proxy.telemetry.record import OUTCOMES, CallRecord

BASE = 0.005
STEADY = Quality(least=BASE, spread=MARGIN * 0.99)
"""Towards the carrier, so that jitter stays below the margin: what V1 is promised for (the stragglers are not INVITEs
that open calls)."""


class LossyWorld(World):
    """`line` is every direction of both lines; `steady`: INVITEs of new calls reach the carrier without more jitter
    than the margin. `watchful`: every message is held against the rules of the ladders too, which takes its time."""

    def __init__(
        self,
        store: Kind,
        seed: int,
        *,
        line: Quality | None = None,
        steady: bool = True,
        watchful: bool = False,
        inbound_share: float = 0.25,
        fussy: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(store, **options)
        self.seed = seed
        self.watchful = watchful
        self.steady = steady
        quality = line or Quality()
        self.late = quality.late
        to_carrier = replace(quality, least=BASE, spread=STEADY.spread) if steady else quality
        self.meter = Meter()
        self.wrongs: list[str] = []
        self.plans: dict[str, Plan] = {}
        self.inbound_share = inbound_share
        self.fussy = fussy
        self.current = ""  # Call-ID of what the gate is at
        self.claims: dict[str, set[int]] = {}  # Call-ID → claims of lines, asked or granted
        self.claimed_by: dict[int, str] = {}
        self.offered: set[str] = set()  # Call-IDs of INVITEs that have reached the gate
        self.unheard: dict[
            str, float
        ] = {}  # Call-ID → when a re-INVITE, or a BYE for the carrier, first left
        self.acknowledged: set[str] = set()  # Call-IDs of which an ACK to a 2xx has reached the gate
        self.answered: dict[str, float] = {}  # and when the first 2xx has
        self.excused: set[str] = set()  # whose PBX has answered a re-INVITE or UPDATE with 481: RFC 5057
        self.unknown = 0  # calls that the carrier had up while the gate could not know of it
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self.phones: dict[tuple[str, int], Phone] = {}
        self.agent_of: dict[Phone, Agent] = {}
        self.to_gate: dict[Phone, Line] = {}
        self.from_gate: dict[Phone, Line] = {}
        for agent in (self.pbx, *self.gateways):
            carrier = agent is not self.pbx
            phone = Phone(
                agent.name, agent.sent_by, self.gate, self, self._send, self, self.plan, carrier=carrier
            )
            self.phones[agent.flow.host, agent.flow.port] = phone
            self.agent_of[phone] = agent
            self.to_gate[phone] = Line(quality, Random(f"{seed} {agent.name} up"))
            self.from_gate[phone] = Line(
                to_carrier if carrier else quality, Random(f"{seed} {agent.name} down")
            )
        self.pbx_phone = self.phones[self.pbx.flow.host, self.pbx.flow.port]
        self.carriers = [p for p in self.phones.values() if p.carrier]
        self.carriers[0].first_of_several = len(self.carriers) > 1

    # -- time and line -------------------------------------------------------------------------------------

    def at(self, when: float, do: Callable[..., None], *what: Any) -> None:
        self._number += 1
        heappush(self._events, (when, self._number, do, what))

    def run(self, end: float = float("inf")) -> None:
        """Everything until `end`, each at its time; for ever: until nothing happens any more."""
        events, core, store = self._events, self.core, self.store
        while True:
            due = min(core.next_deadline, store.next_deadline)
            if events and events[0][0] <= due:
                if events[0][0] > end:
                    return
                self.now, _, do, what = heappop(events)
                do(*what)
            elif due <= end and due != float("inf"):
                self.now = max(self.now, due)
                self.current = ""
                core.tick(self.now)
                self.carries_out()
                store.run(self.now)
                self.carries_out()
            else:
                return

    def _send(self, phone: Phone, data: bytes, call_id: str, tell: Callable[[], None] | None) -> None:
        """A phone puts a datagram on its line."""
        for delay in self.to_gate[phone].fates():
            self.at(self.now + delay, self._reaches_gate, phone, data, call_id, tell)

    def _reaches_gate(self, phone: Phone, data: bytes, call_id: str, tell: Callable[[], None] | None) -> None:
        self.current = call_id
        if call_id not in self.offered and data.startswith(b"INVITE ") and Msg(data).opens_a_call:
            self.offered.add(call_id)
        elif data.startswith(b"ACK "):
            self.acknowledged.add(call_id)
        elif (
            data.startswith(b"SIP/2.0 481") and not phone.carrier and Msg(data).method in ("INVITE", "UPDATE")
        ):
            self.excused.add(call_id)
        agent = self.agent_of[phone]
        if self.watchful:
            super().deliver(agent, data, agent.flow)
        else:
            self.core.receive(data, agent.flow, self.now)
            self.carries_out()
        if tell is not None:
            tell()
            self.answered.setdefault(call_id, self.now)
            self._check_known(call_id)

    def carries_out(self) -> None:
        for command in self.core.out:
            if type(command) is Claim and any(type(part) is Members for part in command.parts):
                self.claims.setdefault(self.current, set()).add(command.id)
                self.claimed_by[command.id] = self.current
            elif type(command) is Release:
                self._given_back(command.claim_id)
        super().carries_out()

    def post(self, send: Send) -> None:
        flow: Flow = send.flow
        phone = self.phones[flow.host, flow.port]
        if self.watchful:
            super().post(send)
            self.agent_of[phone].inbox.clear()
        elif send.claim:
            self.store.sent(send.claim, self.now)
            self.core.sent(send.claim, self.now)
        message = Msg(send.data)
        opens = message.opens_a_call
        if (
            not message.code
            and message.to_tag
            and (message.method == "INVITE" or (phone.carrier and message.method == "BYE"))
        ):
            self.unheard.setdefault(message.call_id, self.now)
        for delay in self.from_gate[phone].fates(steady=self.steady and opens):
            self.at(self.now + delay, phone.receive, message)

    # -- what the phones tell ------------------------------------------------------------------------------

    def on_arrival(self, phone: Phone, invite: Msg) -> None:
        if phone.carrier:
            self.meter.arrived(self.now)

    def on_up(self, dialog: Dialog) -> None:
        if dialog.phone.carrier and dialog.known and not self._was_overtaken(dialog.leg.call_id):
            self._check_known(dialog.leg.call_id)

    def on_over(self, dialog: Dialog) -> None:
        if dialog.phone.carrier and not dialog.known:
            self.unknown += 1

    def wrong(self, what: str) -> None:
        self.wrongs.append(f"{self.now - self.started:.3f} {what}")

    def plan(self, call_id: str) -> Plan:
        found = self.plans.get(call_id)
        if found is None:
            number = int(call_id.partition("-")[2].partition("@")[0])
            found = self.plans[call_id] = plan(
                number, self.seed, inbound_share=self.inbound_share, fussy=self.fussy
            )
        return found

    # -- all the time --------------------------------------------------------------------------------------

    def _was_overtaken(self, call_id: str) -> bool:
        """Whether the callee's BYE has reached the caller before any copy of its answer: that was met with a 481, and
        a copy that was still on its way then makes a dialog with nobody."""
        ended = [
            r.end_at for r in self.records if r.call_id == call_id and r.ended_by == "callee" and r.end_at
        ]
        return bool(ended) and self.now - ended[-1] <= self.late + 1.0

    def living(self, call_id: str) -> list[Dialog]:
        """Dialogs of a call that the carrier believes up, as far as the gate can know."""
        legs = [phone.legs[call_id] for phone in self.carriers if call_id in phone.legs]
        return [d for leg in legs for d in leg.dialogs.values() if d.stage == "up" and d.known]

    def _given_back(self, claim_id: int) -> None:
        call_id = self.claimed_by.pop(claim_id, None)
        if call_id is None:
            return
        self.claims[call_id].discard(claim_id)
        self._check_known(call_id)

    def _check_known(self, call_id: str) -> None:
        """A call that the carrier has up holds a line; unless a request of the other side went unanswered all its
        Timer F long, which ends the dialog for whoever asked (RFC 3261 §12.2.1.2), or no ACK came for 64 s."""
        if self.claims.get(call_id) or call_id in self.excused or not self.living(call_id):
            return
        no_ack = call_id not in self.acknowledged and self.now - self.answered[call_id] > 63.0
        if self.now - self.unheard.get(call_id, self.now) < 31.0 and not no_ack:
            self.wrong(f"the line of {call_id} is free while the carrier has it up")

    # -- calls ---------------------------------------------------------------------------------------------

    def offers(self, calls: int, each: float) -> None:
        """Plan `calls` calls, one every `each` seconds on average."""
        random = Random(f"{self.seed} offers")
        when = self.now
        for number in range(calls):
            when += random.expovariate(1.0 / each)
            self.at(when, self._begin, number)

    def _begin(self, number: int) -> None:
        call_id = f"call-{number}@lossy"
        if self.plan(call_id).inbound:
            self.carriers[0].calls(call_id, DID)
        else:
            self.pbx_phone.calls(call_id, DIALLED)

    # -- in the end ----------------------------------------------------------------------------------------

    def sides(self, call_id: str) -> tuple[Leg, list[Leg]]:
        """The caller's leg, and those of the callees that the call has reached."""
        legs = [phone.legs[call_id] for phone in self.phones.values() if call_id in phone.legs]
        caller = next(leg for leg in legs if leg.caller)
        return caller, [leg for leg in legs if not leg.caller]

    def settles(self) -> Summary:
        """Until nothing happens any more; then everything that must hold in the end. Says what became of the
        calls."""
        self.run()
        assert not self.wrongs, f"{len(self.wrongs)}: {self.wrongs[:5]}"
        self.holds_nothing()
        summary = Summary(self)
        self.ends()
        return summary


class Summary:
    """What both ends believe, held against the gate's records and counters."""

    def __init__(self, world: LossyWorld) -> None:
        self.world = world
        by_call: dict[str, list[CallRecord]] = {}
        for record in world.records:
            by_call.setdefault(record.call_id, []).append(record)
        assert set(by_call) == set(world.offered), "a call without a record, or a record without a call"
        self.agreed = self.disagreed = 0
        self.outcomes: Counter[str] = Counter()
        self.counted: Counter[tuple[str, str, str]] = Counter()
        self.doubtful: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()  # by rule
        for call_id, records in by_call.items():
            self._call(call_id, records)
        counted = {
            labels: int(world.gauge("calls_total", *labels))
            for labels in {*self.counted, *((d, o, "") for d in DIRECTIONS for o in METERED)}
        }
        assert Counter(counted) == self.counted, f"calls_total {counted} against records {self.counted}"

    def _call(self, call_id: str, records: list[CallRecord]) -> None:
        world = self.world
        caller, callees = world.sides(call_id)
        for leg in (caller, *callees):
            stages = [d.stage for d in leg.dialogs.values()]
            assert "up" not in stages, f"{call_id} never ended"
        *first, record = records
        assert all(r.final_code in (401, 407) for r in first), f"{call_id} has {len(records)} records"
        for r in records:
            self.outcomes[r.outcome] += 1
            if r.outcome == "refused":
                self.refused[r.rule] += 1
        for r in {
            r.id: r for r in records
        }.values():  # a challenge and the re-send that answers it are one call
            self.counted[r.direction, r.outcome, r.rule if r.outcome == "refused" else ""] += 1
        believed = {leg.belief for leg in callees}
        if caller.belief == "timeout":
            self.disagreed += 1
            self.doubtful[f"caller timeout, callee {sorted(believed)}, record {record.outcome}"] += 1
            return
        if caller.belief == "answered":
            assert record.outcome == "answered", f"{call_id}: both talked, the record says {record.outcome}"
            assert "answered" in believed
        else:
            code = int(caller.belief)
            assert record.final_code == code, f"{call_id}: {code} at the caller, {record.final_code} kept"
            refused = bool(caller.verdict) if record.direction == "outbound" else not believed and code == 486
            expected = "refused" if refused else OUTCOMES.get(code, "failed")
            assert record.outcome in (expected, "cancelled" if caller.given_up else expected), (
                f"{call_id}: {record.outcome} for {code}"
            )
        if caller.belief == "answered" or believed <= {caller.belief} or "answered" not in believed:
            self.agreed += 1
        else:
            self.disagreed += 1
            self.doubtful[f"caller {caller.belief}, callee {sorted(believed)}, record {record.outcome}"] += 1

    @property
    def lost(self) -> float:
        """Share of the copies that were put on the lines."""
        lines = [*self.world.to_gate.values(), *self.world.from_gate.values()]
        lost, carried = sum(x.lost for x in lines), sum(x.carried for x in lines)
        return lost / (lost + carried)

    def __repr__(self) -> str:
        world = self.world
        return (
            f"{len(world.offered)} calls, {dict(self.outcomes)}; both ends agree on {self.agreed}, not on"
            f" {self.disagreed} ({dict(self.doubtful)}); {world.meter.total} arrivals at the carrier, at most"
            f" {world.meter.fullest} in a second; {self.lost:.1%} of all datagrams were lost;"
            f" {world.rejected('late answer'):.0f} callees picked up late; {world.unknown} answers never reached the"
            " gate"
        )
