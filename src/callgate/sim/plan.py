"""What the simulated sides will do, drawn from a seed before anything is sent: same seed, same load."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from urllib.parse import quote

MOST = 100_000
"""Offers that one plan may hold."""
RECORDED = 0.2
"""The share of ordinary calls that are recorded."""

# As a user types them; what a PBX puts into a URI is `user`.
FORBIDDEN = (
    ("110", "emergency"),
    ("119", "emergency"),
    ("１１９", "emergency, full-width"),
    ("184110", "emergency behind 184"),
    ("104", "three digits"),
    ("0120123456", "toll-free"),
    ("0120-444-444", "toll-free, separators"),
    ("1860120123456", "toll-free behind 186"),
    ("+81120123456", "toll-free as E.164"),
    ("08001234567", "toll-free"),
    ("0570012345", "navi dial"),
    ("０５７０００３３４４", "navi dial, full-width"),
    ("0990512345", "premium"),
    ("00380312345678", "another carrier's prefix"),
    ("00770312345678", "another carrier's prefix"),
)
"""Dialled strings that the contract forbids, each with a word on what it is."""

# {} becomes digits; area codes that only look forbidden are among them on purpose.
_ALLOWED = (
    "033{7}",
    "066{7}",
    "0118{6}",  # Sapporo, not 118
    "01842{5}",  # Akita, not 184
    "0903{7}",
    "0805{7}",  # not 0800
    "0702{7}",
    "05012{6}",
    "+8133{7}",
    "184033{7}",
    "０３３{7}",
    "01012125550{3}",
)


@dataclass(frozen=True, slots=True)
class Offer:
    """One call that the PBX will place."""

    at: float
    """Seconds after the start of the load."""
    dialled: str
    forbidden: bool
    hold: float
    """Seconds it stays up before the PBX hangs up."""
    patience: float | None
    """Seconds after which the caller gives up if nobody has answered; None: waits as long as it takes."""
    recorded: bool = False
    """The PBX says that it records it."""

    @property
    def user(self) -> bytes:
        """The dialled string as the user part of a URI (RFC 3261 §25.1: other octets are %-escaped)."""
        return quote(self.dialled, safe="+-_.!~*'()&=$,;?/").encode()


@dataclass(frozen=True, slots=True)
class Arrival:
    """One call that the carrier will bring in for a number of the account."""

    at: float
    caller: str
    hold: float | None
    """Seconds until the caller hangs up; None: leaves that to the PBX."""
    patience: float | None


def outbound(
    seed: int, seconds: float, rate: float, *, burst: int = 10, forbidden_rate: float = 3.0
) -> list[Offer]:
    """`rate` ordinary calls per second, half of them in bursts of `burst`, and forbidden ones between.

    In order of time. Raises ValueError for more than `MOST` calls.
    """
    if seconds * (rate + forbidden_rate) > MOST:
        raise ValueError(f"{seconds:g} s at {rate:g} calls/s is more than {MOST} calls")
    draw = random.Random(f"outbound {seed}")
    single = rate / 2 if burst > 1 else rate
    times = [i / single for i in range(int(seconds * single))]
    if burst > 1:
        for _ in range(math.ceil(seconds * rate / 2 / burst)):
            times += [draw.uniform(0, seconds)] * burst
    recorded = random.Random(f"recorded {seed}")
    offers = [
        replace(_offer(draw, at, _ordinary(draw)), recorded=recorded.random() < RECORDED) for at in times
    ]
    # All kinds in turn, not by chance: a short run too shows every rule.
    kinds = draw.sample(FORBIDDEN, len(FORBIDDEN))
    for i in range(int(seconds * forbidden_rate)):
        dialled, _ = kinds[i % len(kinds)]
        offers.append(_offer(draw, (i + draw.random()) / forbidden_rate, dialled, forbidden=True))
    return sorted(offers, key=lambda offer: offer.at)


def inbound(seed: int, seconds: float, rate: float) -> list[Arrival]:
    """`rate` calls per second towards the account, evenly, in order of time. Raises as `outbound` does."""
    if seconds * rate > MOST:
        raise ValueError(f"{seconds:g} s at {rate:g} calls/s is more than {MOST} calls")
    draw = random.Random(f"inbound {seed}")
    return [
        Arrival(
            at=i / rate,
            caller="0903" + _digits(draw, 7),
            hold=draw.uniform(1.0, 4.0) if draw.random() < 0.4 else None,
            patience=0.15 if draw.random() < 0.1 else None,
        )
        for i in range(int(seconds * rate))
    ]


def _ordinary(draw: random.Random) -> str:
    head, _, rest = draw.choice(_ALLOWED).partition("{")
    return head + _digits(draw, int(rest[:-1]))


def _offer(draw: random.Random, at: float, dialled: str, forbidden: bool = False) -> Offer:
    return Offer(
        at=at,
        dialled=dialled,
        forbidden=forbidden,
        hold=draw.uniform(1.0, 5.0),
        patience=0.2 if draw.random() < 0.15 else None,
    )


def _digits(draw: random.Random, count: int) -> str:
    return "".join(draw.choices("0123456789", k=count))
