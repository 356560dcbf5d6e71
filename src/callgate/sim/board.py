"""Where a demo stands, and how it ended: numbers only, drawn by `view`."""

from __future__ import annotations

from dataclasses import dataclass, field

from callgate.sim.call import Call
from callgate.sim.carrier import Carrier
from callgate.sim.meter import SECOND, Breach, Contract, exact_window
from callgate.sim.pbx import Pbx

ENOUGH = 0.97
"""The share of the allowed calls that has to get through."""
STEP = SECOND // 2
"""One mark of the history, nanoseconds."""


@dataclass(slots=True)
class Refused:
    """What one rule kept from the carrier. `value` and `limit` are those of the latest refusal, as the gate
    said them; `code` is its answer."""

    rule: str
    count: int = 0
    code: int = 0
    value: str = ""
    limit: str = ""


@dataclass(slots=True)
class Crash:
    """The gate was killed in the middle. Times: nanoseconds, monotonic."""

    at: int
    up: list[Call]
    """The sides of the calls that were up."""
    back_at: int = 0
    """It gives out tokens again; 0 before."""

    @property
    def calls(self) -> int:
        return len({call.call_id for call in self.up})

    @property
    def lost(self) -> int:
        """Calls that nobody could hang up any more."""
        return len({call.call_id for call in self.up if call.bye_code not in (0, 200)})


@dataclass(slots=True)
class Board:
    """Everything that the live view shows."""

    elapsed: float
    seconds: float
    phase: str
    gated: bool
    contract: Contract
    offered: int = 0
    """Outbound calls placed, forbidden ones among them."""
    passed: int = 0
    """Of those: taken on by the carrier."""
    waiting: int = 0
    """Outbound calls that have neither left nor been refused."""
    waited: int = 0
    """Those that have waited for their turn, and for how long at most, seconds."""
    longest: float = 0.0
    forwards: int = 0
    """Inbound calls that the PBX has sent on to a telephone number, and those that reached the carrier again."""
    forwarded: int = 0
    inbound_offered: int = 0
    inbound_passed: int = 0
    refused: list[Refused] = field(default_factory=list)
    suspended_answers: int = 0
    """Requests that a suspending carrier has turned away."""
    outbound_up: int = 0
    inbound_up: int = 0
    window: int = 0
    """Calls that the carrier saw within the last second."""
    worst: int = 0
    """The most it saw in any window of one second."""
    history: list[int] = field(default_factory=list)
    """The most that a window of one second held which ended in each half second."""
    breaches: int = 0
    first: Breach | None = None


WAITED = SECOND // 20
"""A call that takes longer than this has waited for its turn, nanoseconds."""


def waits(pbx: Pbx, carrier: Carrier) -> list[int]:
    """How long each call that has waited for its turn did so, nanoseconds."""
    took = [carrier.came[told.call_id] - told.sent_at for told in pbx.told if told.call_id in carrier.came]
    return [wait for wait in took if wait > WAITED]


def forwarded(pbx: Pbx, carrier: Carrier) -> int:
    """Calls that the carrier has taken and that the PBX has not placed: the gate forwards what it sends on."""
    return len(carrier.taken) - sum(told.call_id in carrier.taken for told in pbx.told)


def refusals(pbx: Pbx, carrier: Carrier) -> list[Refused]:
    """Refused by the gate, per rule: outbound as its verdict says, inbound what the PBX never saw."""
    rules: dict[str, Refused] = {}
    for told in pbx.told:
        if told.rule:
            row = rules.setdefault(told.rule, Refused(told.rule))
            row.count += 1
            row.code, row.value, row.limit = told.code, told.value, told.limit
    # Towards the trunk the gate gives no reason; with no other limit on inbound calls in the demo, it is V3.
    kept_out = [c for c in carrier.inbound if c.code >= 300 and c.call_id not in pbx.received]
    if kept_out:
        limit = carrier.opinion.contract.inbound_calls
        rules["V3"] = Refused("V3", len(kept_out), kept_out[-1].code, str(limit + 1), str(limit))
    return sorted(rules.values(), key=lambda row: (-row.count, row.rule))


def look(
    pbx: Pbx, carrier: Carrier, *, now: int, elapsed: float, seconds: float, phase: str, gated: bool
) -> Board:
    """The board of this moment. `now`: nanoseconds of the wall clock, which the carrier's stamps are in."""
    opinion = carrier.opinion
    waited = waits(pbx, carrier)
    onward = forwarded(pbx, carrier)
    return Board(
        elapsed=elapsed,
        seconds=seconds,
        phase=phase,
        gated=gated,
        contract=opinion.contract,
        offered=len(pbx.told),
        passed=len(carrier.taken) - onward,
        waiting=sum(not told.code and told.call_id not in carrier.came for told in pbx.told),
        waited=len(waited),
        longest=max(waited, default=0) / SECOND,
        forwards=len(pbx.deflected),
        forwarded=onward,
        inbound_offered=carrier.brought,
        inbound_passed=len(pbx.received),
        refused=refusals(pbx, carrier),
        suspended_answers=carrier.refused,
        outbound_up=carrier.outbound_up,
        inbound_up=carrier.inbound_up,
        window=opinion.meter.within(now),
        worst=opinion.meter.worst,
        history=opinion.meter.history(opinion.began, now, STEP) if opinion.began else [],
        breaches=opinion.count,
        first=opinion.breaches[0] if opinion.breaches else None,
    )


@dataclass(frozen=True, slots=True)
class Summary:
    """How a demo ended."""

    gated: bool
    seconds: float
    offered: int
    forbidden: int
    inbound_offered: int
    passed: int
    """Allowed calls that arrived on the other side, both directions, and forwards."""
    allowed: int
    """What an exact window of 1 s + 30 ms passes of the same outbound offers, but for those that no licence was left
    to record, and of the forwards; and the inbound calls that came while fewer than the limit were up."""
    refused: tuple[Refused, ...]
    breaches: int
    first: Breach | None
    worst: int
    unanswered: int
    suspended_answers: int
    faults: tuple[str, ...] = ()
    waited: int = 0
    longest: float = 0.0
    forwards: int = 0
    forwarded: int = 0
    crash: Crash | None = None

    @property
    def share(self) -> float:
        """passed / allowed; 0 where nothing was allowed, since that shows nothing."""
        return self.passed / self.allowed if self.allowed else 0.0

    @property
    def ok(self) -> bool:
        lost = self.crash.lost if self.crash is not None else 0
        return not self.breaches and self.share >= ENOUGH and not self.unanswered and not lost


def summarise(
    pbx: Pbx, carrier: Carrier, *, seconds: float, gated: bool, crash: Crash | None = None
) -> Summary:
    """Add up a demo that is over."""
    opinion = carrier.opinion
    ordinary = [told for told in pbx.told if not told.offer.forbidden]
    out = sum(told.call_id in carrier.taken for told in ordinary)
    inbound = sum(call.call_id in pbx.received for call in carrier.inbound)
    limit = opinion.contract.calls_per_second
    onward, waited = forwarded(pbx, carrier), waits(pbx, carrier)
    asked = sorted([*(told.sent_at for told in ordinary if told.rule != "I1"), *pbx.deflected.values()])
    return Summary(
        gated=gated,
        seconds=seconds,
        offered=len(ordinary),
        forbidden=len(pbx.told) - len(ordinary),
        inbound_offered=carrier.brought,
        passed=out + onward + inbound,
        allowed=exact_window([at for at in asked if not _down(crash, at)], limit) + carrier.allowed,
        refused=tuple(refusals(pbx, carrier)),
        breaches=opinion.count,
        first=opinion.breaches[0] if opinion.breaches else None,
        worst=opinion.meter.worst,
        unanswered=sum(told.code in (0, 408) for told in pbx.told),
        suspended_answers=carrier.refused,
        faults=tuple(pbx.traffic.faults + carrier.traffic.faults),
        waited=len(waited),
        longest=max(waited, default=0) / SECOND,
        forwards=len(pbx.deflected),
        forwarded=onward,
        crash=crash,
    )


def _down(crash: Crash | None, at: int) -> bool:
    """Whether there was no gate at that moment, or none that gave out tokens."""
    return crash is not None and crash.at - SECOND // 2 <= at and (not crash.back_at or at < crash.back_at)
