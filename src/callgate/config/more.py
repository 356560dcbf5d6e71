"""What is wrong with further limits (`limits: more:`), of a key, a trunk or a profile."""

from __future__ import annotations

from collections.abc import Iterator

from callgate.config.schema import MoreLimit, TrunkLimits
from callgate.numbers.classes import CLASSES
from callgate.policy.more import More
from callgate.policy.rules import unknown

Where = tuple[str | int, ...]
Fault = tuple[Where, str, Where]
"""(place below `limits`, words, another place that `{other}` in them stands for)."""


def faults(limits: TrunkLimits) -> Iterator[Fault]:
    """Each rule by itself, then between them."""
    rules = limits.more or ()
    good: list[tuple[int, More]] = []
    for n, section in enumerate(rules):
        found = list(_alone(section))
        for place, text in found:
            yield ("more", n, *place), text, ()
        if not found:
            good.append((n, section.plain))
    yield from _together(limits, good)


def _alone(section: MoreLimit) -> Iterator[tuple[Where, str]]:
    why = unknown(section.rule)
    if why:
        yield ("rule",), why
    for name in section.of:
        if name not in CLASSES:
            yield ("of",), f"unknown class of numbers `{name}`; there is: {', '.join(CLASSES)}"
    counted = [name for name in ("calls", "at_once", "numbers") if getattr(section, name) is not None]
    if len(counted) != 1:
        yield (), "exactly one of `calls`, `at_once` and `numbers` says how many"
        return
    windows = [name for name in ("window_seconds", "calendar") if getattr(section, name) is not None]
    if counted == ["at_once"] and windows:
        yield (windows[0],), "`at_once` is what is up at the same time; it has no window"
    if counted != ["at_once"] and len(windows) != 1:
        yield (), f"`{counted[0]}` needs one of `window_seconds` and `calendar`"
    plain = section.plain
    if section.per == "did" and plain.direction != "inbound":
        yield ("direction",), "a DID is called: `per: did` counts inbound calls"
    if (section.per == "class" or section.of) and plain.direction != "outbound":
        yield ("direction",), "classes are those of dialled numbers: they count outbound calls"


def _together(limits: TrunkLimits, rules: list[tuple[int, More]]) -> Iterator[Fault]:
    seen: dict[tuple[object, ...], int] = {}
    for n, one in rules:
        first = seen.setdefault(one.subject, n)
        if first != n:
            yield ("more", n), f"{one.rule} limits the same at {{other}}; keep one", ("more", first)
    for n, one in rules:
        for m, other in rules:
            if n != m and _same_calls(one, other) and _shorter(one, other) and one.limit > other.limit:
                yield (
                    ("more", n),
                    f"{one.limit} {one.what} can't be reached, {{other}} allows {other.limit} {other.what}: they "
                    "contradict",
                    ("more", m),
                )
    cps = limits.by_hand.get("outbound_cps")
    for n, one in rules:
        plain = one.per == "key" and not one.of and one.kind == "calls" and one.direction != "inbound"
        if cps is not None and plain and cps > one.limit:
            text = f"{{other}} allows {cps} calls a second, and this {one.limit} {one.what}: they contradict; lower one"
            yield ("more", n), text, ("outbound_cps",)


def _same_calls(one: More, other: More) -> bool:
    return (one.per, one.direction, one.of, one.kind) == (other.per, other.direction, other.of, other.kind)


def _shorter(one: More, other: More) -> bool:
    return bool(one.window_seconds and other.window_seconds and one.window_seconds < other.window_seconds)
