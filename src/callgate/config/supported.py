"""What a config may name and nothing has built yet: refused, never ignored.

ONE table. Who builds a feature deletes its row; nothing else here changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel

from callgate.config.schema import Config

Judge = Callable[[Any, Any], bool]
"""(value, default) → does the value ask for something that isn't built?"""


def differs(value: Any, default: Any) -> bool:
    """Anything but the default, and not null."""
    return value is not None and value != default


class Row(NamedTuple):
    """`pattern`: a dotted path, `*` for every key or item."""

    pattern: str
    what: str
    used: Judge = differs


NOT_YET: tuple[Row, ...] = (Row("store", "a store other than `memory`"),)

Found = tuple[tuple[str | int, ...], Any, Any]


def _walk(value: Any, parts: list[str], loc: tuple[str | int, ...], default: Any) -> Iterator[Found]:
    """(place, value, schema default) of everything that a pattern names."""
    if not parts:
        yield loc, value, default
        return
    head, rest = parts[0], parts[1:]
    if head == "*":
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _walk(one, rest, (*loc, key), None)
    elif isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            if (info.alias or name) == head:
                fallback = info.get_default(call_default_factory=True)
                yield from _walk(getattr(value, name), rest, (*loc, head), fallback)


def not_yet(config: Config) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """(place, words) of everything in the config that is not built yet."""
    for pattern, what, used in NOT_YET:
        for loc, value, default in _walk(config, pattern.split("."), (), None):
            if used(value, default):
                yield loc, f"{what}: not supported yet; leave it out"
