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

from callgate.config import source
from callgate.config.faults import ConfigError, Fault
from callgate.config.numberlists import ListFiles, number_list
from callgate.config.schema import Limits, Section
from callgate.config.validate import validate
from callgate.config.values import Id, Text
from callgate.numbers.classes import CLASSES
from callgate.policy.numberlist import NumberList
from callgate.policy.profile import ALWAYS_BLOCKED, NumberRules, Profile, RuledLists, contradictions

SHIPPED = ("standard", "kct-net")
NOT_SHIPPED_YET = {"kwc-vonage": 4, "tencent-ccc": 4, "infobip-voice": 4}
"""Profiles to come: name → the step that ships it."""
WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
"""What is written like a class of numbers."""
Wrong = Callable[[tuple[str, ...], str], None]


class NumbersPart(Section):
    blocked: dict[str, Text] = Field(default_factory=dict)
    allowed: dict[str, Text] = Field(default_factory=dict)
    default: Literal["allow", "block"] = "allow"
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
    if part.extends is not None:
        found.append((("extends",), "`extends` is not supported yet (step 4); leave it out"))
    for name in sorted(ALWAYS_BLOCKED.keys() & part.numbers.allowed.keys()):
        found.append(
            (("numbers", "allowed", name), "emergency numbers can't be allowed: the trunk can't carry them")
        )
    for name in sorted(part.numbers.blocked.keys() & part.numbers.allowed.keys() - ALWAYS_BLOCKED.keys()):
        found.append((("numbers", "allowed", name), f"`{name}` is blocked too; keep one"))
    for inner, outer, why in contradictions(part.limits.by_hand):
        found.append((("limits", inner), f"{why}: they contradict; lower `{inner}` or raise `{outer}`"))
    return found


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
    data: source.Mapping, file: str, base: Path, faults: list[Fault], files: ListFiles
) -> Profile:
    part, _ = validate(ProfileFile, data, file, base, faults)

    def fault(loc: tuple[str, ...], text: str) -> None:
        line, path = source.locate(data, loc)
        faults.append(Fault(file, line, path, text))

    for loc, text in _wrong(part) if part is not None else ():
        fault(loc, text)
    if faults or part is None:
        raise ConfigError(faults)
    lists = RuledLists(
        _by_rule("blocked", part.numbers.blocked, base, files, faults, fault),
        _by_rule("allowed", part.numbers.allowed, base, files, faults, fault),
    )
    if faults:
        raise ConfigError(faults)
    return Profile(
        name=part.name,
        title=part.title,
        limits=MappingProxyType(part.limits.by_hand),
        numbers=NumberRules(
            blocked=MappingProxyType({**ALWAYS_BLOCKED, **_classes(part.numbers.blocked)}),
            allowed=MappingProxyType(_classes(part.numbers.allowed)),
            default=part.numbers.default,
            default_rule=part.numbers.default_rule or "",
            lists=lists,
            alerts=MappingProxyType(part.numbers.alerts),
        ),
        pending=MappingProxyType(part.not_enforced),
    )


def load_profile(name_or_path: str, base: Path, files: ListFiles | None = None) -> Profile:
    """A contract by the name of a shipped one, or from a file (relative to `base`).

    Raises `ConfigError`: faults inside the file with their lines there; one without a line where there is no
    such profile at all.
    """
    faults: list[Fault] = []
    files = ListFiles() if files is None else files
    if name_or_path in SHIPPED:
        place = resources.files("callgate.policy") / "profiles" / f"{name_or_path}.yaml"
        data: Any = source.parse(place.read_text(encoding="utf-8"), f"{name_or_path}.yaml", faults)
        return _to_profile(data, f"{name_or_path}.yaml", base, faults, files)
    if name_or_path in NOT_SHIPPED_YET:
        step = NOT_SHIPPED_YET[name_or_path]
        text = f"the profile `{name_or_path}` is not supported yet (step {step}); use `standard`, or a file"
        raise ConfigError([Fault(name_or_path, None, "", text)])
    path = base / name_or_path
    if not path.exists():
        near = difflib.get_close_matches(name_or_path, SHIPPED, n=1)
        remedy = f"did you mean `{near[0]}`?" if near else f"shipped: {', '.join(SHIPPED)}"
        text = f"there is no shipped profile `{name_or_path}` and no file `{path}`; {remedy}"
        raise ConfigError([Fault(name_or_path, None, "", text)])
    return _to_profile(source.read(path, faults), str(path), path.parent, faults, files)
