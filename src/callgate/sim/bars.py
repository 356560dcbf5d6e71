"""Bars of characters: what is used of a limit, now and over time. The demo shows them, and `callgate top`."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from rich.text import Text

WIDTH = 40
NEAR = 0.8
"""From this share of a limit on it is told of (alerts `near_limit`)."""
_MARKS = "▁▂▃▄▅▆▇█"
_BOXES = ("■", "□")
_PLAIN_BOXES = ("#", ".")
"""For a terminal that knows only ASCII."""


def marks(history: Sequence[int], limit: int, width: int = WIDTH) -> Text:
    """The last `width` values as bars; the limit is half the height, what is above it is red."""
    text = Text(no_wrap=True)
    for value in history[-width:]:
        height = min(len(_MARKS), round(value / limit * len(_MARKS) / 2)) if limit else len(_MARKS)
        text.append(
            _MARKS[max(0, height - 1)], "red" if value > limit else "green" if value else "bright_black"
        )
    return text


def bar(value: int, limit: int, width: int = WIDTH) -> Text:
    """`value` boxes beside a limit: what is above it is red, what is free is hollow."""
    full, free = _BOXES
    text = Text(full * min(value, limit, width), "green", no_wrap=True)
    text.append(free * max(0, min(limit, width) - value), "bright_black")
    text.append(full * max(0, min(value, width) - limit), "red")
    return text


def gauge(value: int, limit: int, width: int, *, ascii_only: bool = False) -> Text:
    """The share of a limit that is used, in `width` boxes: some of the first as soon as there is anything, all of them
    only at the limit. Yellow from 80 % on, red at the limit."""
    full, free = _PLAIN_BOXES if ascii_only else _BOXES
    share = value / limit if limit else 1.0 if value else 0.0
    boxes = width if share >= 1.0 else min(width - 1, ceil(share * width)) if width > 1 else 0
    colour = "red" if share >= 1.0 else "yellow" if share >= NEAR else "green"
    text = Text(full * boxes, colour, no_wrap=True)
    text.append(free * (width - boxes), "bright_black")
    return text
