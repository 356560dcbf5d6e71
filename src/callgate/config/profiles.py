"""Reading a carrier's contract: a profile that ships with the program, or a file of the same form."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field

from callgate.config import more, source
from callgate.config.faults import ConfigError, Fault
from callgate.config.schema import Limits, Section
from callgate.config.validate import validate
from callgate.config.values import Id, Text
from callgate.numbers.classes import CLASSES
from callgate.policy.more import merged
from callgate.policy.profile import ALWAYS_BLOCKED, NumberRules, Profile, contradictions, lowered
from callgate.policy.rules import unknown

SHIPPED = ("standard", "kwc-vonage", "kct-net", "infobip-voice", "tencent-ccc")
DEPTH = 8
"""Profiles that may extend each other in a row."""


class NumbersPart(Section):
    blocked: dict[str, Text] = Field(default_factory=dict)
    allowed: dict[str, Text] = Field(default_factory=dict)
    default: Literal["allow", "block"] | None = None
    default_rule: Text | None = None


class ProfileFile(Section):
    """The form of a profile file."""

    name: Id
    title: Text = "no title"
    extends: Text | None = None
    limits: Limits = Field(default_factory=Limits)
    numbers: NumbersPart = Field(default_factory=NumbersPart)
    rules: dict[str, Text] = Field(default_factory=dict)


def _wrong(part: ProfileFile) -> list[tuple[tuple[str, ...], str]]:
    """(place, words) of what the fields can't tell alone."""
    found: list[tuple[tuple[str, ...], str]] = []
    for field_name, verdicts in (("blocked", part.numbers.blocked), ("allowed", part.numbers.allowed)):
        for name in verdicts.keys() - CLASSES.keys():
            near = difflib.get_close_matches(name, CLASSES, n=1)
            remedy = f"did you mean `{near[0]}`?" if near else f"there is: {', '.join(CLASSES)}"
            found.append((("numbers", field_name, name), f"unknown class of numbers `{name}`, {remedy}"))
    for name in part.rules:
        if why := unknown(name):
            found.append((("rules", name), why))
    for verdicts, field_name in ((part.numbers.blocked, "blocked"), (part.numbers.allowed, "allowed")):
        for name, rule in verdicts.items():
            if why := next(filter(None, map(unknown_number_rule, rule.split("+"))), ""):
                found.append((("numbers", field_name, name), why))
    for name in sorted(ALWAYS_BLOCKED.keys() & part.numbers.allowed.keys()):
        found.append(
            (("numbers", "allowed", name), "emergency numbers can't be allowed: the trunk can't carry them")
        )
    for name in sorted(part.numbers.blocked.keys() & part.numbers.allowed.keys() - ALWAYS_BLOCKED.keys()):
        found.append((("numbers", "allowed", name), f"`{name}` is blocked too; keep one"))
    for inner, outer, why in contradictions(part.limits.by_hand):
        found.append((("limits", inner), f"{why}: they contradict; lower `{inner}` or raise `{outer}`"))
    return found


def unknown_number_rule(rule: str) -> str:
    """Why the rule of a class can't be used; empty where it can. Emergency has names of its own."""
    return "" if rule in ("EMG", "EMG-SUSPECT") else unknown(rule)


def _to_profile(
    data: source.Mapping, file: str, base: Path, faults: list[Fault], seen: tuple[str, ...]
) -> Profile:
    part, _ = validate(ProfileFile, data, file, base, faults)
    wrong = _wrong(part) if part is not None else []
    under = None
    if part is not None and part.extends is not None:
        try:
            under = _load(part.extends, base, seen)
        except ConfigError as error:
            own = [one for one in error.faults if one.line is None and not one.path]
            wrong += [(("extends",), one.text) for one in own]
            faults += [one for one in error.faults if one not in own]
    places: list[tuple[source.Loc, str, source.Loc]] = [(where, text, ()) for where, text in wrong]
    if part is not None:
        for below, text, other in more.faults(part.limits):
            places.append((("limits", *below), text, ("limits", *other) if other else ()))
    for loc, text, second in places:
        line, path = source.locate(data, loc)
        if second:
            other_line, other_path = source.locate(data, second)
            text = text.format(other=f"`{other_path}` (line {other_line})")
        faults.append(Fault(file, line, path, text))
    if faults or part is None:
        raise ConfigError(faults)
    return _over(under, part)


def _over(under: Profile | None, part: ProfileFile) -> Profile:
    """A profile file over the one it extends: what it names takes the place of what stood there."""
    numbers, limits = part.numbers, part.limits.by_hand
    own = NumberRules(
        blocked=MappingProxyType({**ALWAYS_BLOCKED, **numbers.blocked}),
        allowed=MappingProxyType(numbers.allowed),
        default=numbers.default or "allow",
        default_rule=numbers.default_rule or "",
    )
    if under is None:
        return Profile(part.name, part.title, MappingProxyType(limits), own, MappingProxyType(part.rules))
    if limits.get("more") is not None:
        limits["more"] = merged(under.limits.get("more") or (), limits["more"])
    values = {**under.limits, **limits}
    lowered(values, limits)
    kept = {name: rule for name, rule in under.numbers.blocked.items() if name not in numbers.allowed}
    let = {name: rule for name, rule in under.numbers.allowed.items() if name not in numbers.blocked}
    return Profile(
        part.name,
        part.title if part.title != "no title" else under.title,
        MappingProxyType(values),
        NumberRules(
            blocked=MappingProxyType({**kept, **own.blocked}),
            allowed=MappingProxyType({**let, **numbers.allowed}),
            default=numbers.default or under.numbers.default,
            default_rule=own.default_rule if numbers.default else under.numbers.default_rule,
        ),
        MappingProxyType({**under.rules, **part.rules}),
        (under.name, *under.lineage),
    )


def load_profile(name_or_path: str, base: Path) -> Profile:
    """A contract by the name of a shipped one, or from a file (relative to `base`), with what it extends.

    Raises `ConfigError`: faults inside the file with their lines there; one without a line where there is no
    such profile at all.
    """
    return _load(name_or_path, base, ())


def _load(name_or_path: str, base: Path, seen: tuple[str, ...]) -> Profile:
    faults: list[Fault] = []
    shipped = name_or_path in SHIPPED
    path = base / name_or_path
    here = name_or_path if shipped else str(path.resolve())
    if here in seen or len(seen) >= DEPTH:
        chain = " → ".join((*seen[seen.index(here) if here in seen else 0 :], here))
        raise ConfigError([Fault(name_or_path, None, "", f"profiles extend each other in a circle: {chain}")])
    if shipped:
        place = resources.files("callgate.policy") / "profiles" / f"{name_or_path}.yaml"
        data: Any = source.parse(place.read_text(encoding="utf-8"), f"{name_or_path}.yaml", faults)
        return _to_profile(data, f"{name_or_path}.yaml", base, faults, (*seen, here))
    if not path.exists():
        near = difflib.get_close_matches(name_or_path, SHIPPED, n=1)
        remedy = f"did you mean `{near[0]}`?" if near else f"shipped: {', '.join(SHIPPED)}"
        text = f"there is no shipped profile `{name_or_path}` and no file `{path}`; {remedy}"
        raise ConfigError([Fault(name_or_path, None, "", text)])
    return _to_profile(source.read(path, faults), str(path), path.parent, faults, (*seen, here))
