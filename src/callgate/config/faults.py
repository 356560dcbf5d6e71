"""What is wrong with a config: every fault with its place and a remedy, all of them at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Fault:
    """One fault. `line` counts from 1, None: the file as a whole. `path` is dotted, such as `keys.a.pbx`."""

    file: str
    line: int | None
    path: str
    text: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.path}: {self.text}" if self.path else f"{place}: {self.text}"


class ConfigError(Exception):
    """A config that can't be used. `faults` holds them all, in the order of the file."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(dict.fromkeys(faults), key=lambda f: (f.file, f.line or 0)))
        super().__init__("\n".join(map(str, self.faults)))


def shown(value: object) -> str:
    """A value as a message may show it: short, and nothing that could hold a password."""
    text = str(value)
    if "@" in text:
        return "this value"
    return f"`{text[:60]}…`" if len(text) > 60 else f"`{text}`"


def as_text(value: object, example: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must be text, such as `{example}`")
    return value.strip()
