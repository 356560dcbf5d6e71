"""Reading a carrier's contract: a profile that ships with the program, or a file of the same form."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field

from callgate.config import more, source
from callgate.config.faults import ConfigError, Fault
from callgate.config.numberlists import ListFiles, number_list
from callgate.config.schema import Limits, Section
from callgate.config.validate import validate
from callgate.config.values import Id, Text
from callgate.numbers.classes import CLASSES
from callgate.policy.more import merged
from callgate.policy.numberlist import NumberList
from callgate.policy.profile import (
    ALWAYS_BLOCKED,
    NumberRules,
    Profile,
    RuledLists,
    contradictions,
    lowered,
)
from callgate.policy.rules import unknown

SHIPPED = ("standard", "kwc-vonage", "kct-net", "infobip-voice", "tencent-ccc")
DEPTH = 8
"""Profiles that may extend each other in a row."""
WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
"""What is written like a class of numbers."""
Wrong = Callable[[tuple[str, ...], str], None]


class NumbersPart(Section):
    blocked: dict[str, Text] = Field(default_factory=dict)
    allowed: dict[str, Text] = Field(default_factory=dict)
    default: Literal["allow", "block"] | None = None
    default_rule: Text | None = None
    alerts: dict[str, Text] = Field(default_factory=dict)


class ProfileFile(Section):
    """The form of a profile file."""

    name: Id
    title: Text = "no title"
    extends: Text | None = None
    limits: Limits = Field(default_factory=Limits)
    numbers: NumbersPart = Field(default_factory=NumbersPart)
    not_enforced: dict[str, Text] = Field(default_factory=dict)
    rules: dict[str, Text] = Field(default_factory=dict)


def _wrong(part: ProfileFile) -> list[tuple[tuple[str, ...], str]]:
    """(place, words) of what the fields can't tell alone."""
    found: list[tuple[tuple[str, ...], str]] = []
    for field_name, verdicts in (
        ("blocked", part.numbers.blocked),
        ("allowed", part.numbers.allowed),
        ("alerts", part.numbers.alerts),
    ):
        for name in verdicts.keys() - CLASSES.keys():
            if field_name != "alerts" and not WORD.match(name):
                continue  # a number, a country or a file
            near = difflib.get_close_matches(name, CLASSES, n=1)
            remedy = f"did you mean `{near[0]}`?" if near else f"there is: {', '.join(CLASSES)}"
            found.append((("numbers", field_name, name), f"unknown class of numbers `{name}`, {remedy}"))
    for name in part.rules:
        if why := unknown(name):
            found.append((("rules", name), why))
    for verdicts, field_name in ((part.numbers.blocked, "blocked"), (part.numbers.allowed, "allowed")):
        for name, rule in verdicts.items():
            if why := next(filter(None, map(unknown_number_rule, _rules_in(rule))), ""):
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


def _rules_in(text: str) -> list[str]:
    """`K-X1+EMG` is two, `K-C1/C4/C5` three."""
    found = text.split("+")
    first, *others = found[0].split("/")
    head = first.rpartition("-")[0]
    return [first, *(f"{head}-{one}" if head else one for one in others), *found[1:]]


def _by_rule(
    which: str, verdicts: Mapping[str, str], base: Path, files: ListFiles, faults: list[Fault], wrong: Wrong
) -> tuple[tuple[NumberList, str], ...]:
    """What of the verdicts is no class: a list for each rule."""
    entries: dict[str, list[str]] = {}
    for entry, rule in verdicts.items():
        if entry not in CLASSES:
            entries.setdefault(rule, []).append(entry)
    found = []
    for rule, of_rule in entries.items():

        def fault(n: int, text: str, of_rule: list[str] = of_rule) -> None:
            wrong(("numbers", which, of_rule[n]), text)

        found.append((number_list(of_rule, base, files, faults, fault), rule))
    return tuple(found)


def _classes(verdicts: Mapping[str, str]) -> dict[str, str]:
    return {name: rule for name, rule in verdicts.items() if name in CLASSES}


def _to_profile(
    data: source.Mapping,
    file: str,
    base: Path,
    faults: list[Fault],
    files: ListFiles,
    seen: tuple[str, ...],
) -> Profile:
    part, _ = validate(ProfileFile, data, file, base, faults)
    wrong = _wrong(part) if part is not None else []
    under = None
    if part is not None and part.extends is not None:
        try:
            under = _load(part.extends, base, files, seen)
        except ConfigError as error:
            own = [one for one in error.faults if one.line is None and not one.path]
            wrong += [(("extends",), one.text) for one in own]
            faults += [one for one in error.faults if one not in own]

    def fault(loc: source.Loc, text: str, second: source.Loc = ()) -> None:
        if second:
            other_line, other_path = source.locate(data, second)
            text = text.format(other=f"`{other_path}` (line {other_line})")
        line, path = source.locate(data, loc)
        if second:
            other_line, other_path = source.locate(data, second)
            text = text.format(other=f"`{other_path}` (line {other_line})")
        faults.append(Fault(file, line, path, text))

    for loc, text in wrong:
        fault(loc, text)
    for below, text, other in more.faults(part.limits) if part is not None else ():
        fault(("limits", *below), text, ("limits", *other) if other else ())
    if faults or part is None:
        raise ConfigError(faults)
    lists = RuledLists(
        _by_rule("blocked", part.numbers.blocked, base, files, faults, fault),
        _by_rule("allowed", part.numbers.allowed, base, files, faults, fault),
    )
    if faults:
        raise ConfigError(faults)
    return _over(under, part, lists)


def _over(under: Profile | None, part: ProfileFile, lists: RuledLists) -> Profile:
    """A profile file over the one it extends: what it names takes the place of what stood there."""
    numbers, limits = part.numbers, part.limits.by_hand
    blocked, allowed = _classes(numbers.blocked), _classes(numbers.allowed)
    own = NumberRules(
        blocked=MappingProxyType({**ALWAYS_BLOCKED, **blocked}),
        allowed=MappingProxyType(allowed),
        default=numbers.default or "allow",
        default_rule=numbers.default_rule or "",
        lists=lists,
        alerts=MappingProxyType(numbers.alerts),
    )
    pending = MappingProxyType(part.not_enforced)
    if under is None:
        return Profile(
            *(part.name, part.title, MappingProxyType(limits), own, MappingProxyType(part.rules)),
            pending=pending,
        )
    if limits.get("more") is not None:
        limits["more"] = merged(under.limits.get("more") or (), limits["more"])
    values = {**under.limits, **limits}
    lowered(values, limits)
    kept = {name: rule for name, rule in under.numbers.blocked.items() if name not in allowed}
    let = {name: rule for name, rule in under.numbers.allowed.items() if name not in blocked}
    above = under.numbers.lists
    return Profile(
        part.name,
        part.title if part.title != "no title" else under.title,
        MappingProxyType(values),
        NumberRules(
            blocked=MappingProxyType({**kept, **own.blocked}),
            allowed=MappingProxyType({**let, **allowed}),
            default=numbers.default or under.numbers.default,
            default_rule=own.default_rule if numbers.default else under.numbers.default_rule,
            lists=RuledLists(lists.block + above.block, lists.allow + above.allow),
            alerts=MappingProxyType({**under.numbers.alerts, **numbers.alerts}),
        ),
        MappingProxyType({**under.rules, **part.rules}),
        (under.name, *under.lineage),
        pending=MappingProxyType({**under.pending, **pending}),
    )


def load_profile(name_or_path: str, base: Path, files: ListFiles | None = None) -> Profile:
    """A contract by the name of a shipped one, or from a file (relative to `base`), with what it extends.

    Raises `ConfigError`: faults inside the file with their lines there; one without a line where there is no
    such profile at all.
    """
    return _load(name_or_path, base, ListFiles() if files is None else files, ())


def _load(name_or_path: str, base: Path, files: ListFiles, seen: tuple[str, ...]) -> Profile:
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
        return _to_profile(data, f"{name_or_path}.yaml", base, faults, files, (*seen, here))
    if not path.exists():
        near = difflib.get_close_matches(name_or_path, SHIPPED, n=1)
        remedy = f"did you mean `{near[0]}`?" if near else f"shipped: {', '.join(SHIPPED)}"
        text = f"there is no shipped profile `{name_or_path}` and no file `{path}`; {remedy}"
        raise ConfigError([Fault(name_or_path, None, "", text)])
    return _to_profile(source.read(path, faults), str(path), path.parent, faults, files, (*seen, here))
