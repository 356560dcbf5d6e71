"""Is this address of a gateway to be used? What OPTIONS say, what calls say, and what it asks for itself.

Three things that are told apart, because they mean different things for the next call:

* down by OPTIONS alone: the address is tried last, for there are carriers that answer calls and no OPTIONS;
* calls have failed in a row (the circuit breaker): no call goes there for a while, then one at a time;
* it has asked for a pause with Retry-After: no call goes there until that is over.

Where several keys share the trunk, what calls show is first of all about the key whose calls they were: a customer who
dials what the carrier refuses must not shut the trunk for others. What can't be delivered at all is about the address;
what is refused, or not answered, counts for all when other keys, or OPTIONS, meet the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from callgate.proxy.flow import UNKNOWN, Trouble
from callgate.proxy.trunk.breaker import Breaker
from callgate.sip.message import Message

_RETRY_AFTER = re.compile(rb"[ \t]*([0-9]{1,9})(?=[ \t;(]|\Z)")
_CPS_LIMIT = re.compile(rb"\bcps[ _-]?limit", re.IGNORECASE)
SAYS_WHY = (b"warning", b"reason", b"x-twilio-error", b"x-plivo-hangupcause")


class Standing:
    USUAL: Final = 0
    LAST: Final = 1  # only when nothing better is left
    SHUT: Final = 2


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
    as that is known. `key` is the id of the key whose call it is, empty where the trunk has no other key: then there
    is nobody to tell apart."""

    __slots__ = (
        "_all",
        "_answers",
        "_bad",
        "_good",
        "_keys",
        "_rested",
        "_row",
        "_total",
        "_worst",
        "advice",
        "down",
        "rules",
        "why",
    )

    def __init__(self, rules: Rules = NO_OPTIONS) -> None:
        self.rules = rules
        self.down = False  # by OPTIONS
        self.why = ""
        self.advice = ""
        self._bad = self._good = 0  # OPTIONS in a row; a call that is answered counts as a good one
        self._answers = False  # the last OPTIONS was answered
        self._all = Breaker()
        self._keys: dict[str, Breaker] = {}  # only those whose calls fail
        self._row: dict[str, int] = {}  # failed calls of each key since anybody's was answered
        self._total = self._worst = 0  # all of these, and the most of one key
        self._rested = ("", 0.0)  # the key that last met a Retry-After, and until when

    @property
    def open(self) -> bool:
        """Whether calls have failed there, whoever's they are."""
        return self._all.open

    @property
    def rest_until(self) -> float:
        """Until when it has asked everybody for a pause."""
        return self._all.rest_until

    @property
    def up(self) -> bool:
        return not self.down and not self._all.open

    @property
    def spotless(self) -> bool:
        """Nothing speaks against it: there is nothing to look at."""
        return not (self._bad or self.down or self._keys or self._total) and self._all.spotless

    def standing(self, now: float, key: str = "") -> int:
        """Where a call that begins at `now` may take it."""
        if self.spotless:
            return Standing.USUAL
        own = self._keys.get(key)
        breakers = (self._all,) if own is None else (self._all, own)
        if any(breaker.shut(now) for breaker in breakers):
            return Standing.SHUT
        if self.down or any(breaker.open and not breaker.proved for breaker in breakers):
            return Standing.LAST
        return Standing.USUAL

    def rests_until(self, key: str = "") -> float:
        """Until when it has asked a key, or everybody, for a pause; 0 for never."""
        own = self._keys.get(key)
        return max(self._all.rest_until, own.rest_until if own is not None else 0.0)

    @property
    def trial_at(self) -> float:
        """When an address that calls failed at is tried again."""
        return self._all.open_until

    # -- calls ---------------------------------------------------------------------------------------------

    def tried(self, now: float, key: str = "") -> None:
        """A call goes there."""
        if not key:
            self._all.tried(now)
        elif key in self._keys:
            self._keys[key].tried(now)

    def call_well(self, key: str = "") -> None:
        """A call was answered, with anything but a 503."""
        self._bad = 0
        self._all.well()
        self._begin_anew()
        own = self._keys.get(key)
        if own is not None:
            own.well()
            if own.spotless:
                del self._keys[key]
        self._count_good()

    def call_failed(self, now: float, why: str, key: str = "", *, lost: Trouble | None = None) -> bool:
        """A call got a 503 or no answer, or (`lost`: why) could not be delivered. True where the address is shut for
        this key alone now."""
        self._note(why, lost or UNKNOWN)
        self._good = 0
        most = self.rules.down_after
        if not key or lost is not None:
            self._all.failed(now, most, over=bool(key) and now >= self._all.open_until)
            return False
        own = self._keys.setdefault(key, Breaker())
        shut = own.failed(now, most)
        self._row[key] = self._row.get(key, 0) + 1
        self._total += 1
        self._worst = max(self._worst, self._row[key])
        others = self._total - self._worst  # whatever one key meets may be its own doing
        if self._total >= most and others >= max(1, most - 1) and not self._all.shut(now):
            self._all.trip(now)
            self._begin_anew()
            return False
        return shut and not self._all.shut(now)

    def _begin_anew(self) -> None:
        self._row.clear()
        self._total = self._worst = 0

    def rest(self, seconds: float, now: float, key: str = "") -> None:
        """It asks for a pause: the key whose call it was, and everybody once it has asked another one too."""
        until = now + min(seconds, self.rules.retry_after_max)
        if until <= now:
            return
        before, their_end = self._rested
        if not key or (before and before != key and now < their_end):
            self._all.rest(until, now)
        else:
            self._keys.setdefault(key, Breaker()).rest(until, now)
        self._rested = (key, until)

    # -- OPTIONS -------------------------------------------------------------------------------------------

    def options_well(self, now: float) -> None:
        self._bad = 0
        self._answers = True
        self._count_good()
        most, enough = self.rules.down_after, self._good >= self.rules.up_after
        for breaker in (self._all, *self._keys.values()):
            breaker.proven(now, most, enough=enough)

    def options_failed(self, why: str, now: float, trouble: Trouble = UNKNOWN) -> None:
        answers, self._answers = self._answers, False
        self._good = 0
        self._all.proved = False
        shut = False
        for breaker in self._keys.values():
            breaker.proved = False
            shut = shut or breaker.shut(now)
        if answers and shut and not self._all.shut(now):
            self._note(why, trouble)
            self._all.trip(now)  # what one key's calls have met is true for all
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
