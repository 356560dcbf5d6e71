"""May this number be dialled under this contract? The profile's verdicts by class, then the lists of numbers.

Emergency comes first of all, then what can't be read, then K-X: no list opens these, but that K-X3 blocks the carrier
prefixes that no list names. For the rest the longest match decides: a number's digits before its country, that before
its class, that before the default. Of two as long, the key's is asked before the trunk's and the profile's, and of one
place's, what blocks before what allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from callgate.numbers import CLASSES, EMERGENCY, STRICT, Number
from callgate.policy.numberlist import CLASS, NumberList
from callgate.policy.profile import ALWAYS_BLOCKED, NumberRules

UNREADABLE = "N2"
"""Our own rule: what is dialled must be a telephone number."""
LISTED = "N3"
"""Our own rule: a list of the config names the number."""
CLOSED = "N4"
"""Our own rule: `default: deny`, and no list of the config allows the number."""
TRUSTED = "I17"

CODES = {
    **dict.fromkeys(EMERGENCY, 503),  # a PBX takes its next route at 503, and is stopped by 484 and others
    "invalid": 484,
    "sip_uri": 484,
    "service_urn": 404,
}
"""The answer by class, where it isn't 403."""

PARTIAL = frozenset({"unknown", "invalid", "private"})
"""What a number's parts may look like on the way to a whole number: these block it only as its own class."""


@dataclass(slots=True, frozen=True)
class DialVerdict:
    """What becomes of a dialled number.

    `rule` is the id of the rule that blocks it, or that names it as carried; empty where the plain default
    allows it. `code` is the SIP status of the refusal, 0 where it is allowed. `reason` is plain ASCII without
    quotes, fit for a Warning header. `emergency`: handle it as an emergency call (alert, alternate route,
    never Retry-After), whatever the class is called. `alert` is the rule whose alert this number raises, if any.
    `trusted`: no risk score holds for it (I17).
    """

    allowed: bool
    rule: str = ""
    code: int = 0
    reason: str = ""
    emergency: bool = False
    alert: str = ""
    trusted: bool = False


@dataclass(slots=True, frozen=True)
class Lists:
    """The lists of one place. `where` names it in a reason: `key acme`. `default` is for what none of them names;
    None leaves that to the place behind it (the trunk's behind the key's, the profile's behind the trunk's)."""

    where: str
    block: NumberList = field(default_factory=NumberList)
    allow: NumberList = field(default_factory=NumberList)
    trusted: NumberList = field(default_factory=NumberList)
    default: Literal["allow", "deny"] | None = None

    def __bool__(self) -> bool:
        return bool(self.block or self.allow or self.trusted or self.default)


class DialRules:
    """The number rules of one trunk, or of one of its keys. `judge` is pure and costs the same for every class and
    for lists of any length.

    `numbering` `any`: every Request-URI may go that no list blocks, but emergency numbers are judged all the same.
    """

    __slots__ = (
        "_any_blocked",
        "_blocked",
        "_by_class",
        "_fixed",
        "_listed",
        "_named",
        "_places",
        "_profile",
    )

    def __init__(
        self,
        rules: NumberRules,
        numbering: Literal["japan", "any"] = "japan",
        places: Sequence[Lists] = (),
    ) -> None:
        self._by_class = {cls: _verdict(cls, rules, numbering) for cls in CLASSES}
        blocked = {*rules.blocked, *EMERGENCY} if numbering == "japan" else EMERGENCY
        others = [cls for cls in CLASSES if cls not in STRICT and cls not in PARTIAL]
        self._blocked = tuple(cls for cls in (*STRICT, *others) if cls in blocked)
        self._any_blocked = frozenset(self._blocked)
        # What no list opens.
        unreadable = CODES if numbering == "japan" else EMERGENCY
        self._fixed = frozenset({cls for cls in STRICT if cls in blocked} | set(unreadable))
        # Classes that the profile names, as against those that fall to its default.
        self._named = frozenset({*rules.blocked, *rules.allowed} if numbering == "japan" else ())
        self._profile = rules.lists
        self._places = tuple(place for place in places if place)
        self._listed = bool(self._places or self._profile)

    def narrowed(self, places: Sequence[Lists]) -> DialRules:
        """The same contract with these lists, the nearest first: the key's, the trunk's."""
        if not any(places):
            return self
        made = object.__new__(DialRules)
        for name in DialRules.__slots__:
            setattr(made, name, getattr(self, name))
        made._places = tuple(place for place in places if place)
        made._listed = True
        return made

    @property
    def rules(self) -> list[str]:
        """The ids of the rules that can block a number."""
        found = {verdict.rule for verdict in self._by_class.values() if not verdict.allowed}
        return sorted(found | {LISTED, CLOSED} | {rule for _, rule in self._profile.block})

    def judge(self, number: Number) -> DialVerdict:
        """The verdict on a number: blocked if ANY of its readings is blocked, emergency before all else."""
        cls = number.cls
        verdict = self._by_class[cls]
        readings = number.readings
        if len(readings) > 1 or not readings or readings[0].cls != cls:
            found = {reading.cls for reading in readings} | {cls}
            if not self._any_blocked.isdisjoint(found):
                cls = next(one for one in self._blocked if one in found)
                verdict = self._by_class[cls]
            elif number.carrier_prefix is not None and verdict.allowed:
                # A carrier prefix that the contract lets pass: what stands behind it must be carried too.
                cls = readings[-1].cls
                verdict = self._by_class[cls]
        if self._listed:
            verdict = self._by_lists(number, cls, verdict)
        if number.note and not verdict.allowed:
            return replace(verdict, reason=f"{verdict.reason}: {number.note}")
        return verdict

    def _by_lists(self, number: Number, cls: str, by_class: DialVerdict) -> DialVerdict:
        """The verdict that the lists come to, where they may have a say."""
        if cls in self._fixed:
            behind = self._behind_carrier(number) if cls == "carrier_select" else None
            return by_class if behind is None else self.judge(behind)
        canonical, places = number.canonical, self._places
        fallback, best = by_class, NOTHING
        verdict: DialVerdict | None = None
        opened = settled = False
        nearness = len(places)
        for place in places:
            if place.block.tables and (found := place.block.in_any_reading(number)).length:
                rank = (found.length, nearness, 1)
                if rank > best:
                    best, verdict = rank, _listed(False, found.entry, "block", place.where)
            if (
                place.allow
                and not (settled and not opened)
                and (found := place.allow.find(canonical, cls)).length
            ):
                rank = (found.length, nearness, 0)
                if rank > best:
                    best, verdict = rank, _listed(True, found.entry, "allow", place.where)
            if place.default is not None and not settled:
                settled, opened = True, place.default == "allow"
                fallback = DialVerdict(True, reason=CLASSES[cls]) if opened else _closed(place.where)
            nearness -= 1
        for lists, rule in self._profile.block:
            if (found := lists.in_any_reading(number)).length and (found.length, 0, 1) > best:
                best = (found.length, 0, 1)
                verdict = DialVerdict(False, rule, 403, f"{found.entry} is not carried under this contract")
        shut = settled and not opened
        for lists, rule in () if shut else self._profile.allow:
            if (found := lists.find(canonical, cls)).length and (found.length, 0, 0) > best:
                best = (found.length, 0, 0)
                verdict = DialVerdict(True, rule, reason=f"{found.entry} is carried under this contract")
        rank = (CLASS, 0, 0 if by_class.allowed else 1)
        if cls in self._named and not (by_class.allowed and shut) and rank > best:
            verdict = by_class
        return self._or_trusted(number, fallback if verdict is None else verdict)

    def _or_trusted(self, number: Number, verdict: DialVerdict) -> DialVerdict:
        """I17: a trusted number passes the lists of the config; the contract it does not pass."""
        for place in self._places:
            if place.trusted.tables and (found := place.trusted.find(number.canonical, number.cls)).length:
                if not verdict.allowed and verdict.rule not in (LISTED, CLOSED):
                    return verdict
                reason = f"{found.entry} is on the trusted list of {place.where}"
                return DialVerdict(True, TRUSTED, reason=reason, trusted=True)
        return verdict

    def _behind_carrier(self, number: Number) -> Number | None:
        """The number behind a carrier prefix that is on an allow list (K-X3: blocked unless listed); else None."""
        lists = [place.allow for place in self._places] + [allow for allow, _ in self._profile.allow]
        behind = []
        for reading in number.readings:
            if reading.cls != "carrier_select":
                behind.append(reading)
            elif not any(one.digits(reading.text).entry.startswith("00") for one in lists):
                return None
        if not behind:
            return None
        found = {reading.cls for reading in behind}
        cls = next((one for one in STRICT if one in found), behind[-1].cls)
        return Number(number.dialled, number.canonical, cls, None, (), tuple(behind))


NOTHING = (0, 0, 0)


def _listed(allowed: bool, entry: str, which: str, where: str) -> DialVerdict:
    return DialVerdict(allowed, LISTED, 0 if allowed else 403, f"{entry} is on the {which} list of {where}")


def _closed(where: str) -> DialVerdict:
    return DialVerdict(False, CLOSED, 403, f"not on the allow list of {where}, which is closed")


def _verdict(cls: str, rules: NumberRules, numbering: str) -> DialVerdict:
    what = CLASSES[cls]
    if cls in EMERGENCY:
        rule = rules.blocked.get(cls) or ALWAYS_BLOCKED[cls]
        return DialVerdict(False, rule, CODES[cls], f"{what}, not carried on this trunk", emergency=True)
    if numbering == "any":
        return DialVerdict(True, reason=what)
    if cls in CODES:
        return DialVerdict(False, rules.blocked.get(cls, UNREADABLE), CODES[cls], what)
    allowed, rule = rules.verdict(cls)
    if allowed:
        return DialVerdict(True, rule, reason=what)
    alert = rules.alerts.get(cls, "")
    return DialVerdict(False, rule, 403, f"{what}, not carried under this contract", alert=alert)
