"""The contract as data: a profile, the limits it holds, and what a key sets by hand merged into it.

Pure: the files are read in `config.profiles`. A rule's id is the same whatever the profile (`RULE`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal

from callgate.policy.more import More, merged
from callgate.policy.numberlist import NumberList
from callgate.policy.rules import RULES, TO_COME

RULE: Mapping[str, str] = MappingProxyType(
    {
        "outbound_cps": "V1",
        "on_rate_exceeded": "V1",
        "inbound_calls": "V3",
        "forwarded_calls": "V4",
        "lines": "V4",
        "recordings": "I1",
        "on_recordings_exceeded": "I1",
        "calls": "K6",
        "outbound_calls": "C2",
        "max_call_seconds": "C1",
        "redial_gap_seconds": "K4",
        "hold_alert_seconds": "K8",
        "hold_release_seconds": "K8",
    }
)
"""Limit field → the id of its rule."""

ALWAYS_BLOCKED: Mapping[str, str] = MappingProxyType(
    {"emergency": "K-X1+EMG", "foreign_emergency": "K-X1+EMG", "emergency_suspect": "EMG-SUSPECT"}
)
"""Classes that every profile blocks: a trunk that can't carry an emergency call must never swallow one."""

NESTED: tuple[tuple[str, int, str], ...] = (
    ("inbound_calls", 1, "lines"),
    ("forwarded_calls", 2, "lines"),
    ("inbound_calls", 1, "calls"),
    ("outbound_calls", 1, "calls"),
)
"""(inner, how many of the outer each one of the inner takes, outer): the inner can't exceed its share of the
outer. A forwarded call holds two lines (V4)."""


@dataclass(slots=True, frozen=True)
class Limits:
    """What one key is held to. A limit of None means no limit; 0 means none allowed.

    `outbound_cps` is new calls in any window of one second, `*_seconds` are seconds, all else is calls (or
    lines) up at once. `origin` says for each field where its value comes from: `key`, `profile standard` or
    `lowered to fit lines 10`.
    """

    outbound_cps: int | None = None
    on_rate_exceeded: Literal["reject", "queue"] = "reject"
    queue_seconds: float = 2.0
    inbound_calls: int | None = None
    forwarded_calls: int | None = None
    lines: int | None = None
    outbound_calls: int | None = None
    calls: int | None = None
    recordings: int | None = None
    on_recordings_exceeded: Literal["reject", "unrecorded"] = "reject"
    max_call_seconds: float | None = None
    redial_gap_seconds: float | None = None
    hold_alert_seconds: float | None = None
    hold_release_seconds: float | None = None
    more: tuple[More, ...] = ()
    origin: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def queues(self) -> bool:
        """Whether a call over the rate waits for its turn."""
        return self.on_rate_exceeded == "queue" and self.queue_seconds > 0


LIMIT_FIELDS: tuple[str, ...] = tuple(f.name for f in fields(Limits) if f.name != "origin")


@dataclass(slots=True, frozen=True)
class RuledLists:
    """Numbers that a profile names one by one, or by country or first digits: each list with the id of its rule."""

    block: tuple[tuple[NumberList, str], ...] = ()
    allow: tuple[tuple[NumberList, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.block or self.allow)


@dataclass(slots=True, frozen=True)
class NumberRules:
    """Verdicts by number class: class → id of the rule that blocks (or allows) it.

    `default` is for a class in neither; `default_rule` is the rule it then stands on (K-D), if any. `lists` name
    numbers more closely than by class. `alerts`: class → the rule whose alert a number of it raises (K3).
    """

    blocked: Mapping[str, str]
    allowed: Mapping[str, str] = field(default_factory=dict)
    default: Literal["allow", "block"] = "allow"
    default_rule: str = ""
    lists: RuledLists = RuledLists()
    alerts: Mapping[str, str] = field(default_factory=dict)

    def verdict(self, number_class: str) -> tuple[bool, str]:
        """(may it be dialled, the rule that says so; empty where it is the plain default)."""
        rule = self.blocked.get(number_class)
        if rule is not None:
            return False, rule
        rule = self.allowed.get(number_class)
        if rule is not None:
            return True, rule
        return self.default == "allow", self.default_rule


@dataclass(slots=True, frozen=True)
class Profile:
    """A carrier's contract. `limits` holds only the fields that the profile names; `rules` what else it asks, id → in
    words. `lineage`: the profiles it extends, the nearest first."""

    name: str
    title: str
    limits: Mapping[str, Any]
    numbers: NumberRules
    rules: Mapping[str, str] = field(default_factory=dict)
    lineage: tuple[str, ...] = ()
    pending: Mapping[str, str] = field(default_factory=dict)
    """Rule → what it asks that no limit here stands for, and nothing enforces yet."""

    @property
    def not_enforced_yet(self) -> list[tuple[str, str]]:
        """(rule, text) of everything that the profile holds and nothing enforces yet."""
        found = [(rule, text) for rule, text in self.rules.items() if rule in TO_COME or rule not in RULES]
        return [*found, *self.pending.items()]


def contradictions(values: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(inner, outer, why) of every two of these limits that can't both be meant."""
    found = []
    for inner, each, outer in NESTED:
        small, large = values.get(inner), values.get(outer)
        if small is not None and large is not None and small * each > large:
            taken = f"{small} × {each} = {small * each}" if each > 1 else f"{small}"
            found.append((inner, outer, f"`{inner}` {small} takes {taken} of `{outer}`, which is {large}"))
    return found


def lowered(values: dict[str, Any], by_hand: Mapping[str, Any]) -> dict[str, str]:
    """Lower what was inherited to fit what is set by hand; field → why, of those that were."""
    why = {}
    for inner, each, outer in NESTED:
        small, large = values.get(inner), by_hand.get(outer)
        if large is not None and small is not None and small * each > large:
            values[inner] = large // each
            why[inner] = f"lowered to fit {outer} {large}"
    return why


def merge(by_hand: Mapping[str, Any], profile: Profile) -> Limits:
    """The limits of a key: what it sets by hand, else the profile's, lowered to fit what is set by hand.

    `by_hand` holds only fields that the key names (None: no limit), free of `contradictions`.
    """
    values: dict[str, Any] = {**profile.limits, **by_hand}
    origin = {name: "key" if name in by_hand else f"profile {profile.name}" for name in LIMIT_FIELDS}
    origin |= lowered(values, by_hand)
    given = by_hand.get("more", ())  # null: none of the profile's either
    values["more"] = () if given is None else merged(profile.limits.get("more") or (), given)
    return Limits(**values, origin=MappingProxyType(origin))
