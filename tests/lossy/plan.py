"""What becomes of each call: drawn from the call's number, so that it is the same call on every line."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

CALLER, CALLEE, BOTH = "caller", "callee", "both"

ENDINGS: Final = {
    # What happens, and how often. A call is answered and hung up by one side, or by both at the same moment; …
    "caller hangs up": 24,
    "callee hangs up": 16,
    "both hang up": 8,
    # … it is refused by the callee; …
    "486": 8,
    "404": 3,
    "480": 3,
    "603": 2,
    "500": 3,
    "busy after ringing": 4,
    "refused by the first gateway": 3,  # with 503: the next one takes it
    # … the caller gives up while it rings, at once, or in the moment of the answer or of the refusal; …
    "cancelled": 8,
    "cancelled at once": 5,
    "cancelled as it is answered": 8,
    "cancelled as it is refused": 3,
    # … nobody is there.
    "silence": 2,
}


@dataclass
class Plan:
    """Times are seconds: of the callee since the INVITE came, of the caller since it sent it, `talk` and `inside`
    since a side knows of the answer."""

    number: int
    ending: str
    inbound: bool
    trying: bool  # the callee says 100 at once
    ring: float | None  # 180 after so long; None: none
    reliable: bool  # and it is to be acknowledged by PRACK (RFC 3262)
    code: int  # the callee's final answer; 0: none at all
    answer: float
    give_up: float  # the caller's patience: CANCEL
    refused_first: bool  # 503 of the first of several gateways
    challenge: bool  # the callee wants credentials first
    talk: dict[str, float]  # who hangs up, and when
    inside: list[tuple[float, str, str]]  # (when, who, method) of what passes inside the dialog

    @property
    def callee_talks(self) -> float:
        return self.talk.get(CALLEE, self.talk.get(CALLER, 0.0) + 60.0)

    @property
    def caller_talks(self) -> float:
        return self.talk.get(CALLER, self.talk.get(CALLEE, 0.0) + 60.0)


PATIENCE = 90.0
"""Seconds after which every caller gives up."""


def plan(number: int, seed: int, *, inbound_share: float = 0.25, fussy: bool = False) -> Plan:
    """`fussy`: the first gateway refuses many calls with 503, whatever becomes of them at the next, and gateways ask
    for credentials often, so that calls come back to one that has refused them."""
    random = Random(f"{seed} {number}")
    ending = random.choices(list(ENDINGS), list(ENDINGS.values()))[0]
    inbound = random.random() < inbound_share
    trying = random.random() < 0.7
    ring = random.uniform(0.05, 1.0) if random.random() < 0.85 else None
    code, answer, give_up = 200, random.uniform(0.3, 6.0), PATIENCE
    talk: dict[str, float] = {}
    long = random.uniform(0.3, 15.0)
    match ending:
        case "caller hangs up" | "refused by the first gateway":
            talk = {CALLER: long}
        case "callee hangs up":
            talk = {CALLEE: long}
        case "both hang up":
            talk = {CALLER: long, CALLEE: long + random.uniform(-0.1, 0.1)}
        case "busy after ringing":
            code, ring = 486, 0.1
        case "cancelled":
            give_up, answer = random.uniform(1.0, 12.0), 60.0
        case "cancelled at once":
            give_up = random.uniform(0.0, 0.6)
        case "cancelled as it is answered":
            give_up, talk = answer + random.uniform(-0.1, 0.2), {CALLER: long}
        case "cancelled as it is refused":
            give_up, code = answer + random.uniform(-0.1, 0.2), 486
        case "silence":
            code, trying, ring = 0, False, None
        case _:
            code, answer = int(ending), random.uniform(0.0, 2.0)
    if ring is not None and ring > answer:
        ring = None
    inside = []
    if code == 200 and random.random() < 0.25:
        when = random.uniform(0.1, max(0.2, long))
        who = random.choice((CALLER, CALLEE, BOTH))  # both: their re-INVITEs cross (RFC 3261 §14.1)
        method = random.choice(("INVITE", "INVITE", "UPDATE", "INFO"))
        inside = [(when, side, method) for side in (CALLER, CALLEE) if who in (side, BOTH)]
    refused_first = ending == "refused by the first gateway" or (
        fussy and not inbound and random.random() < 0.3
    )
    return Plan(
        number=number,
        ending=ending,
        inbound=inbound,
        trying=trying,
        ring=ring,
        reliable=ring is not None and random.random() < 0.2,
        code=code,
        answer=answer,
        give_up=give_up,
        refused_first=refused_first,
        challenge=not inbound and random.random() < (0.4 if fussy else 0.04),
        talk=talk,
        inside=inside,
    )
