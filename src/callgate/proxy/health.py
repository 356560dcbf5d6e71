"""Is this address of a gateway to be used? What OPTIONS say, what calls say, and what it asks for itself.

Three things that are told apart, because they mean different things for the next call:

* down by OPTIONS alone: the address is tried last, for there are carriers that answer calls and no OPTIONS;
* calls have failed in a row (the circuit breaker): no call goes there for a while, then one at a time;
* it has asked for a pause with Retry-After: no call goes there until that is over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from callgate.proxy.flow import UNKNOWN, Trouble
from callgate.sip.message import Message

OPEN_SECONDS, OPEN_MAX = 5.0, 60.0
"""How long no call goes to an address that has failed; doubled with each trial that fails, up to the second."""
_RETRY_AFTER = re.compile(rb"[ \t]*([0-9]{1,9})(?=[ \t;(]|\Z)")
_CPS_LIMIT = re.compile(rb"\bcps[ _-]?limit", re.IGNORECASE)
SAYS_WHY = (b"warning", b"reason", b"x-twilio-error", b"x-plivo-hangupcause")


class Standing(IntEnum):
    USUAL = 0
    LAST = 1  # only when nothing better is left
    SHUT = 2


@dataclass(frozen=True, slots=True)
class Rules:
    """`interval` and `timeout` of OPTIONS, seconds (no interval: none are sent); how many failures in a row make an
    address down, how many successes up; the longest Retry-After that is honoured, seconds."""

    interval: float = 0.0
    timeout: float = 4.0
    down_after: int = 3
    up_after: int = 2
    retry_after_max: float = 300.0


NO_OPTIONS = Rules()


class Health:
    """Of one address. Times are monotonic seconds. `why`: what was wrong last; `advice`: what to do about it, as far
    as that is known."""

    __slots__ = (
        "_bad",
        "_failures",
        "_good",
        "_open_until",
        "_period",
        "_proved",
        "_trial",
        "advice",
        "down",
        "open",
        "rest_until",
        "rules",
        "why",
    )

    def __init__(self, rules: Rules = NO_OPTIONS) -> None:
        self.rules = rules
        self.down = False  # by OPTIONS
        self.open = False  # by calls
        self.rest_until = 0.0
        self.why = ""
        self.advice = ""
        self._bad = self._good = 0  # OPTIONS in a row; a call that is answered counts as a good one
        self._failures = 0  # calls in a row
        self._open_until = 0.0
        self._period = 0.0
        self._proved = False  # OPTIONS were answered since it was opened
        self._trial = False

    @property
    def up(self) -> bool:
        return not self.down and not self.open

    @property
    def spotless(self) -> bool:
        """Nothing speaks against it: there is nothing to look at."""
        return not (self._failures or self._bad or self.down or self.open or self.rest_until)

    def standing(self, now: float) -> Standing:
        """Where a call that begins at `now` may take it."""
        if self.spotless:
            return Standing.USUAL
        if self.rest_until:
            if now < self.rest_until:
                return Standing.SHUT
            self.rest_until = 0.0
        if self.open:
            if now < self._open_until:
                return Standing.SHUT
            return Standing.USUAL if self._proved and not self.down else Standing.LAST
        return Standing.LAST if self.down else Standing.USUAL

    @property
    def trial_at(self) -> float:
        """When an address that calls failed at is tried again."""
        return self._open_until

    # -- calls ---------------------------------------------------------------------------------------------

    def tried(self, now: float) -> None:
        """A call goes there. If it is the trial after failures, no other goes until it has ended, or time passed."""
        if self.open and now >= self._open_until:
            self._trial = True
            self._open_until = now + self._period

    def call_well(self) -> None:
        """A call was answered, with anything but a 503."""
        self._failures = self._bad = 0
        self._period = 0.0
        self.open = False
        self._count_good()

    def call_failed(self, now: float, why: str, trouble: Trouble = UNKNOWN) -> None:
        """A call got a 503 or no answer, or could not be delivered."""
        self._note(why, trouble)
        self._good = 0
        self._failures += 1
        if self._failures < self.rules.down_after or (self.open and not self._trial):
            return
        self.open = True
        self._period = min(2 * self._period, OPEN_MAX) or OPEN_SECONDS
        self._trial = self._proved = False
        self._open_until = now + self._period

    def rest(self, seconds: float, now: float) -> None:
        """It asks for a pause."""
        until = now + min(seconds, self.rules.retry_after_max)
        if until > max(now, self.rest_until):
            self.rest_until = until

    # -- OPTIONS -------------------------------------------------------------------------------------------

    def options_well(self, now: float) -> None:
        self._bad = 0
        self._proved = True
        self._count_good()
        if self.open and now >= self._open_until and self._good >= self.rules.up_after:
            self.open = False
            self._failures = self.rules.down_after - 1  # one call decides

    def options_failed(self, why: str, trouble: Trouble = UNKNOWN) -> None:
        self._good = 0
        self._proved = False
        self._bad += 1
        if self._bad >= self.rules.down_after:
            self._note(why, trouble)
            self.down = True

    def _note(self, why: str, trouble: Trouble) -> None:
        self.why = trouble.after(why)
        self.advice = trouble.advice

    def _count_good(self) -> None:
        self._good += 1
        if self._good >= self.rules.up_after:
            self.down = False


def retry_after(response: Message) -> float | None:
    """The seconds of a Retry-After (RFC 3261 §20.33), whatever comment and parameters follow; None for rubbish."""
    found = _RETRY_AFTER.match(response.header(b"retry-after"))
    return float(found[1]) if found else None


def says_cps_limit(response: Message) -> bool:
    """Whether a 503 is one of those with which carriers say "too many calls per second"."""
    if _CPS_LIMIT.search(response.lines[0]):
        return True
    return any(_CPS_LIMIT.search(response.lines[i]) for name in SAYS_WHY for i in response.find(name))
