"""A YAML file as plain data that remembers its lines.

Scalars stay TEXT (but for a bare `null`): the schema says what each is. YAML's own guesses would turn the
number `+815012345678` into an integer without its plus, `0312345670` into an octal one and `no` into false.

Built from the parser's events, not its nodes: so nesting and aliases are bounded, whoever wrote the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from callgate.config.faults import ConfigError, Fault

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, ten times as fast, where PyYAML has it

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 50
MAX_VALUES = 2_000_000
"""Values after aliases are followed: a few lines of nested aliases can stand for billions."""
NULLS = frozenset({"", "~", "null", "Null", "NULL"})
TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq")
)
"""Explicit tags that change nothing here."""

Loc = Sequence[str | int]


class Mapping(dict[str, Any]):
    """A mapping that knows the line of each of its keys."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


class Items(list[Any]):
    """A list that knows the line and the first index of each of its items."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []
        self.indices: list[int] = []

    def drop(self, index: int) -> None:
        """Take an item out; the others keep their line and the index that a reader of the file counts."""
        del self[index], self.lines[index], self.indices[index]


def locate(data: Any, loc: Loc) -> tuple[int | None, str]:
    """(line, dotted path) of the deepest part of `loc` that stands in the file."""
    line, path = None, ""
    for part in loc:
        if isinstance(data, Mapping) and part in data:
            part = str(part)
            line, path = data.lines[part], f"{path}.{part}" if path else part
            data = data[part]
        elif isinstance(data, Items) and isinstance(part, int) and part < len(data):
            line, path = data.lines[part], f"{path}[{data.indices[part]}]"
            data = data[part]
        else:
            break
    return line, path


class _Stop(Exception):
    """Reading can't go on: (line, text)."""


class _Builder:
    """Builds the data from events. What doesn't keep it from going on is noted in `faults`."""

    def __init__(self, events: Iterator[Any], file: str, faults: list[Fault]) -> None:
        self.events = events
        self.file = file
        self.faults = faults
        self.left = MAX_VALUES
        self.anchors: dict[str, Any] = {}

    def fault(self, line: int, path: str, text: str) -> None:
        self.faults.append(Fault(self.file, line, path, text))

    def spend(self, line: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise _Stop(line, f"more than {MAX_VALUES} values once the aliases (`*name`) are followed")

    def copy(self, value: Any, line: int) -> Any:
        """A value of its own for an alias. Its lines stay the anchor's: that is what has to be mended."""
        self.spend(line)
        twin: Any = value
        if isinstance(value, Mapping):
            twin = Mapping()
            twin.update((key, self.copy(one, line)) for key, one in value.items())
            twin.lines.update(value.lines)
        elif isinstance(value, Items):
            twin = Items()
            twin.extend(self.copy(one, line) for one in value)
            twin.lines, twin.indices = value.lines.copy(), value.indices.copy()
        return twin

    def value(self, event: Any, path: str, depth: int) -> Any:
        line = event.start_mark.line + 1
        self.spend(line)
        if depth > MAX_DEPTH:
            raise _Stop(line, f"nested more than {MAX_DEPTH} deep")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise _Stop(line, "an alias (`*name`) to something that is not defined before it")
            return self.copy(self.anchors[event.anchor], line)
        if event.tag not in (None, "!") and event.tag not in TAGS:
            self.fault(line, path, "this tag (`!name`) is not understood; write the plain value")
        built: Any
        if isinstance(event, yaml.ScalarEvent):
            bare = event.style in (None, "") and event.tag is None
            built = None if bare and event.value in NULLS else event.value
        elif isinstance(event, yaml.SequenceStartEvent):
            built = self.items(path, depth)
        else:
            built = self.mapping(path, depth)
        if event.anchor:
            self.anchors[event.anchor] = built
        return built

    def items(self, path: str, depth: int) -> Items:
        found = Items()
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            index = len(found)
            found.append(self.value(event, f"{path}[{index}]", depth + 1))
            found.lines.append(event.start_mark.line + 1)
            found.indices.append(index)
        return found

    def mapping(self, path: str, depth: int) -> Mapping:
        found = Mapping()
        merged: list[Mapping] = []
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            key = self.value(event, path, depth + 1)
            if isinstance(key, Mapping | Items):
                self.fault(line, path, "a key must be a word, not a list or a mapping")
                self.value(next(self.events), path, depth + 1)
                continue
            key = key or ""
            under = f"{path}.{key}" if path else key
            value = self.value(next(self.events), under, depth + 1)
            if key == "<<":
                merged += self.to_merge(value, line, path)
            elif key in found:
                self.fault(
                    line, under, f"the key `{key}` stands twice (first in line {found.lines[key]}); keep one"
                )
            else:
                found[key] = value
                found.lines[key] = line
        for other in merged:
            for key in other.keys() - found.keys():
                found[key], found.lines[key] = other[key], other.lines[key]
        return found

    def to_merge(self, value: Any, line: int, path: str) -> list[Mapping]:
        """The mappings behind `<<:`; of two, the first wins, and what stands beside it wins over both."""
        values = value if isinstance(value, Items) else [value]
        good = [one for one in values if isinstance(one, Mapping)]
        if len(good) < len(values):
            self.fault(
                line, path, "`<<:` takes a mapping, such as `*name` of one that was anchored with `&name`"
            )
        return good


QUOTED = re.compile(r" ?'([^']*)'")
WORD = re.compile(r"\w\w")
UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|(?<!^)\ufeff")


def _syntax_fault(file: str, error: yaml.YAMLError) -> Fault:
    """A syntax error in words: without PyYAML's excerpt and quoted words, which could be part of a secret."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return Fault(file, None, "", "not valid YAML")
    mark = error.problem_mark or error.context_mark
    if "nesting depth" in str(error.problem):  # PyYAML from 6.0.4 on has a bound of its own
        return Fault(file, mark.line + 1 if mark else None, "", f"nested more than {MAX_DEPTH} deep")
    words = [
        QUOTED.sub(lambda quote: "" if WORD.search(quote[1]) else quote[0], part)
        for part in (error.problem, error.context)
        if part
    ]
    place = f", column {mark.column + 1}" if mark else ""
    if error.context_mark and mark and error.context_mark.line != mark.line:
        place += f" (begun in line {error.context_mark.line + 1})"
    return Fault(file, mark.line + 1 if mark else None, "", f"not valid YAML: {', '.join(words)}{place}")


def parse(text: str, file: str, faults: list[Fault]) -> Mapping:
    """The mapping in a YAML text. A key that stands twice and the like is added to `faults` and left out.

    Raises `ConfigError`, with all faults so far, where there is no mapping to go on with.
    """

    def refuse(line: int | None, text: str) -> ConfigError:
        return ConfigError([*faults, Fault(file, line, "", text)])

    if bad := UNPRINTABLE.search(text):
        line = text.count("\n", 0, bad.start()) + 1
        raise refuse(line, f"the character U+{ord(bad[0]):04X} may not stand in a YAML file; take it out")
    loader = Loader(text)
    try:
        events = iter(loader.get_event, None)
        builder = _Builder(events, file, faults)
        next(events)  # the stream's start
        if isinstance(next(events), yaml.StreamEndEvent):
            raise refuse(None, "the file is empty")
        event = next(events)
        data = builder.value(event, "", 0)
        next(events)  # the document's end
        if not isinstance(event := next(events), yaml.StreamEndEvent):
            raise refuse(event.start_mark.line + 1, "a second document (`---`) in one file; keep one")
    except _Stop as stop:
        raise refuse(*stop.args) from None
    except yaml.YAMLError as error:
        raise ConfigError([*faults, _syntax_fault(file, error)]) from None
    finally:
        loader.dispose()
    if data is None:
        raise refuse(None, "the file is empty")
    if not isinstance(data, Mapping):
        raise refuse(None, "the file must be a mapping (`key: value` lines)")
    return data


def read(path: Path, faults: list[Fault]) -> Mapping:
    """The mapping in a YAML file, as `parse`. Raises `ConfigError` for whatever keeps it from being read."""
    file = str(path)

    def refuse(text: str, line: int | None = None) -> ConfigError:
        return ConfigError([*faults, Fault(file, line, "", text)])

    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise refuse("no such file") from None
    except IsADirectoryError:
        raise refuse("is a directory; name the file in it") from None
    except PermissionError:
        raise refuse("can't be read: permission denied") from None
    except (OSError, ValueError) as error:
        raise refuse(f"can't be read: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > MAX_BYTES:
        raise refuse(f"is larger than {MAX_BYTES // 1024 // 1024} MB; this can't be a config")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse("not UTF-8 text; save the file as UTF-8", raw.count(b"\n", 0, error.start) + 1) from None
    return parse(text, file, faults)
