"""Reading a carrier's contract: a profile that ships with the program, or a file of the same form."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field

from callgate.config import source
from callgate.config.faults import ConfigError, Fault
from callgate.config.schema import Limits, Section
from callgate.config.validate import validate
from callgate.config.values import Id, Text
from callgate.numbers.classes import CLASSES
from callgate.policy.profile import ALWAYS_BLOCKED, NumberRules, Profile, contradictions

SHIPPED = ("standard",)
NOT_SHIPPED_YET = {"kwc-vonage": 4, "kct-net": 4, "tencent-ccc": 4, "infobip-voice": 4}
"""Profiles to come: name → the step that ships it."""


class NumbersPart(Section):
    blocked: dict[str, Text] = Field(default_factory=dict)
    allowed: dict[str, Text] = Field(default_factory=dict)
    default: Literal["allow", "block"] = "allow"
    default_rule: Text | None = None


class ProfileFile(Section):
    """The form of a profile file."""

    name: Id
    title: Text = "no title"
    extends: Text | None = None
    limits: Limits = Field(default_factory=Limits)
    numbers: NumbersPart = Field(default_factory=NumbersPart)


def _wrong(part: ProfileFile) -> list[tuple[tuple[str, ...], str]]:
    """(place, words) of what the fields can't tell alone."""
    found: list[tuple[tuple[str, ...], str]] = []
    for field_name, verdicts in (("blocked", part.numbers.blocked), ("allowed", part.numbers.allowed)):
        for name in verdicts.keys() - CLASSES.keys():
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


def _to_profile(data: source.Mapping, file: str, base: Path, faults: list[Fault]) -> Profile:
    part, _ = validate(ProfileFile, data, file, base, faults)
    for loc, text in _wrong(part) if part is not None else ():
        line, path = source.locate(data, loc)
        faults.append(Fault(file, line, path, text))
    if faults or part is None:
        raise ConfigError(faults)
    return Profile(
        name=part.name,
        title=part.title,
        limits=MappingProxyType(part.limits.by_hand),
        numbers=NumberRules(
            blocked=MappingProxyType({**ALWAYS_BLOCKED, **part.numbers.blocked}),
            allowed=MappingProxyType(part.numbers.allowed),
            default=part.numbers.default,
            default_rule=part.numbers.default_rule or "",
        ),
    )


def load_profile(name_or_path: str, base: Path) -> Profile:
    """A contract by the name of a shipped one, or from a file (relative to `base`).

    Raises `ConfigError`: faults inside the file with their lines there; one without a line where there is no
    such profile at all.
    """
    faults: list[Fault] = []
    if name_or_path in SHIPPED:
        place = resources.files("callgate.policy") / "profiles" / f"{name_or_path}.yaml"
        data: Any = source.parse(place.read_text(encoding="utf-8"), f"{name_or_path}.yaml", faults)
        return _to_profile(data, f"{name_or_path}.yaml", base, faults)
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
    return _to_profile(source.read(path, faults), str(path), base, faults)
