"""May this number be dialled under this contract? The profile's verdicts, compiled once per trunk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from callgate.numbers import CLASSES, EMERGENCY, STRICT, Number
from callgate.policy.profile import ALWAYS_BLOCKED, NumberRules

UNREADABLE = "N2"
"""Our own rule: what is dialled must be a telephone number."""

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
    never Retry-After), whatever the class is called.
    """

    allowed: bool
    rule: str = ""
    code: int = 0
    reason: str = ""
    emergency: bool = False


class DialRules:
    """The number rules of one trunk. `judge` is pure and costs the same for every class.

    `numbering` `any`: every Request-URI may go, but emergency numbers are judged all the same.
    """

    __slots__ = ("_blocked", "_by_class")

    def __init__(self, rules: NumberRules, numbering: Literal["japan", "any"] = "japan") -> None:
        self._by_class = {cls: _verdict(cls, rules, numbering) for cls in CLASSES}
        blocked = {*rules.blocked, *EMERGENCY} if numbering == "japan" else EMERGENCY
        others = [cls for cls in CLASSES if cls not in STRICT and cls not in PARTIAL]
        self._blocked = tuple(cls for cls in (*STRICT, *others) if cls in blocked)

    @property
    def rules(self) -> list[str]:
        """The ids of the rules that can block a number."""
        return sorted({verdict.rule for verdict in self._by_class.values() if not verdict.allowed})

    def judge(self, number: Number) -> DialVerdict:
        """The verdict on a number: blocked if ANY of its readings is blocked, emergency before all else."""
        verdict = self._by_class[number.cls]
        readings = number.readings
        if len(readings) > 1 or not readings or readings[0].cls != number.cls:
            found = {reading.cls for reading in readings} | {number.cls}
            strictest = next((cls for cls in self._blocked if cls in found), None)
            if strictest is not None:
                verdict = self._by_class[strictest]
            elif number.carrier_prefix is not None and verdict.allowed:
                # A carrier prefix that the contract lets pass: what stands behind it must be carried too.
                verdict = self._by_class[readings[-1].cls]
        if number.note and not verdict.allowed:
            return replace(verdict, reason=f"{verdict.reason}: {number.note}")
        return verdict


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
    return DialVerdict(False, rule, 403, f"{what}, not carried under this contract")
