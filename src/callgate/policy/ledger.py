"""The protocol that a store of live limits fills in (`store/`)."""

from __future__ import annotations

from typing import Protocol

from callgate.policy.claim import Claim, Verdict

MARGIN = 0.020
"""Seconds a token stays out beyond its period: what the network's jitter may move an arrival."""
ASK_SECONDS = 0.2
"""How long the store may think."""
LEASE = 900.0
"""Seconds a call that nobody has answered may hold what it claimed; renewed while it rings."""


class Store(Protocol):
    """Live counts behind one atomic question. All times are monotonic seconds.

    Every operation is idempotent: claiming, sending, renewing or releasing twice is the same as once, and
    releasing what nobody holds is nothing.
    """

    def claim(self, claim: Claim, now: float) -> Verdict | None:
        """All of it or nothing; a forced one is granted, with the rule that would have refused it. None: the verdict
        comes later."""
        ...

    def sent(self, claim_id: int, now: float) -> None:
        """A copy of the INVITE was handed to the kernel at `now`: its tokens come back a period later."""
        ...

    def renew(self, claim_id: int, lease: float, now: float) -> None:
        """The call is alive: its lease ends `lease` seconds from now."""
        ...

    def release(self, claim_id: int, now: float) -> None:
        """Leave every set; tokens that were never sent come back at once, the others when their time is up."""
        ...

    def lines(self, claim_id: int) -> tuple[tuple[str, int], ...]:
        """What a claim holds: (name of the set, lines in it)."""
        ...

    def used(self, name: str, now: float) -> int:
        """Tokens out of a window, or lines in a set."""
        ...
