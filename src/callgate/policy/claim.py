"""What a call asks of the contract, all at once.

A claim names every limit the call touches. The store grants all of it in one step or nothing, and says which
limit refused, with the value it would have reached. The kinds of limit are data:

* `Window`: tokens. `take → sent → release`: a token belongs to one call until `period` plus the store's margin
  after the last copy of its INVITE went out (`Store.sent`). The carrier counts arrivals of calls it has not
  seen, and any copy may be the first to arrive: so no period ever holds more than `limit` of them.
* `Members`: concurrency. A count is the size of a set of claims, each with a lease; it can't underflow.
* `Distinct`: at most `limit` different members within `period` seconds.
* `Gap`: at least `period` seconds since the last INVITE that was sent to the same member.

A claim names each of them once: two lines of a set are one part of weight 2.

Limits are made once, when the config is read; a claim only points at them. `None` in `limit` counts without
refusing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True, eq=False)
class Window:
    """At most `limit` tokens within any `period` seconds. `name` is the window's identity in the store. `passing`: it
    is one of many (a caller's, a day's), and forgotten when nothing is out of it."""

    rule: str
    name: str
    limit: int | None
    period: float = 1.0
    passing: bool = False


@dataclass(slots=True, frozen=True, eq=False)
class Members:
    """At most `limit` lines up at once; a claim joins with `weight` lines."""

    rule: str
    name: str
    limit: int | None
    weight: int = 1


@dataclass(slots=True, frozen=True, eq=False)
class Distinct:
    """At most `limit` different `member`s within `period` seconds."""

    rule: str
    name: str
    limit: int | None
    period: float
    member: bytes


@dataclass(slots=True, frozen=True, eq=False)
class Gap:
    """`period` seconds at least since the last INVITE sent to `member`; refused tries don't extend it. `refuses` False:
    only note that one is sent (a further attempt of a call that has passed)."""

    rule: str
    name: str
    period: float
    member: bytes
    refuses: bool = True


Part = Window | Members | Distinct | Gap


class Claim:
    """One question to the store.

    `id` is the claimant's own number: asked twice, it is granted once. Granted after `deadline` (monotonic
    seconds), it is not granted at all. `lease`: seconds after which the store takes everything back unless it
    is renewed. `force`: count, never refuse (emergency calls, shadow mode). `probe`: would it pass now? Nothing is
    taken; the answer is a refusal or `PASSES`. `twin`: another claim, to be released by itself, that is granted
    together with this one or not at all (a call in and its forward).
    """

    __slots__ = ("deadline", "force", "id", "lease", "parts", "probe", "twin")

    def __init__(
        self,
        id: int,
        parts: tuple[Part, ...],
        deadline: float,
        lease: float,
        force: bool = False,
        probe: bool = False,
    ) -> None:
        self.id = id
        self.parts = parts
        self.deadline = deadline
        self.lease = lease
        self.force = force
        self.probe = probe
        self.twin: Claim | None = None

    def __repr__(self) -> str:
        return f"Claim({self.id:x}, {[p.rule for p in self.parts]})"


class Verdict:
    """The store's answer. `value` is what the count would have become, `limit` what it may be; `name` is the name of
    the limit that refused. Granted with a `rule`: that would have refused it, had it not been forced.

    `free_at`: when asking again makes sense (monotonic seconds), None where nobody can know. Of a grant by force
    they tell the first limit that it went beyond. `note`: what a
    person should know besides. `used`: what each limit that a granted claim names has come to, for people: (rule,
    value, limit).
    """

    __slots__ = ("free_at", "granted", "limit", "name", "note", "rule", "used", "value")

    def __init__(
        self,
        granted: bool,
        rule: str = "",
        value: int = 0,
        limit: int = 0,
        free_at: float | None = None,
        note: str = "",
        name: str = "",
        used: tuple[tuple[str, int, int | None], ...] = (),
    ) -> None:
        self.note = note
        self.name = name
        self.used = used
        self.granted = granted
        self.rule = rule
        self.value = value
        self.limit = limit
        self.free_at = free_at

    def __repr__(self) -> str:
        return "granted" if self.granted else f"refused {self.rule} {self.value}/{self.limit}"


GRANTED = Verdict(True)
PASSES = Verdict(False)
"""The answer to a probe that no limit refuses."""
NO_ANSWER = Verdict(False, "store")
"""The store gave no verdict in time: refused like a limit."""
