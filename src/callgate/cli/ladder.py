"""The messages of one call as a ladder: who said what to whom, down the time, as RFC 3665 draws it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from callgate.cli.control import plain

Row = dict[str, Any]
SPAN: Final = 30
"""Columns between two neighbours at least."""
WHEN: Final = 14
"""Columns of the time."""
LABEL_MIN: Final = 6
"""What an arrow is drawn with besides its label."""


def ladder(rows: Sequence[Row]) -> Iterator[str]:
    """The lines, for the rows of the operation `sip`. The gate stands next to whoever came first."""
    peers = list(dict.fromkeys((row["transport"], row["peer"]) for row in rows))
    names = {(row["transport"], row["peer"]): plain(row["name"] or "unknown") for row in rows}
    heads = [(names[peer], " ".join(peer)) for peer in peers]
    heads.insert(1, ("callgate", ""))
    place = {peer: n if n == 0 else n + 1 for n, peer in enumerate(peers)}
    gate = 1
    span = max(SPAN, 2 + max(len(text) for head in heads for text in head))
    centres = [WHEN + span // 2 + span * n for n in range(len(heads))]
    for line in zip(*heads, strict=True):
        yield _line([(centre - len(text) // 2, text) for centre, text in zip(centres, line, strict=True)])
    bars = [(centre, "│") for centre in centres]
    for row in rows:
        ends = centres[place[row["transport"], row["peer"]]], centres[gate]
        start, end = reversed(ends) if row["sent"] else ends
        left, right = min(ends) + 1, max(ends)
        arrow = _arrow(_label(row), right - left, to_the_right=start < end)
        yield _line([(0, row["at"][11:23]), *bars, (left, arrow)])


def _label(row: Row) -> str:
    what, method = row["what"], row["cseq"].partition(" ")[2]
    label = f"{what} {_user(row['about'])}" if not what.isdigit() else f"{what} {row['about']}"
    if what.isdigit() and method != "INVITE":
        label += f" ({method})"
    return plain(label.strip() + (" again" if row["again"] else ""))


def _user(uri: str) -> str:
    """Whom a Request-URI calls; the host, where there is no user part."""
    return uri.partition(":")[2].partition("@")[0] or uri


def _arrow(label: str, width: int, *, to_the_right: bool) -> str:
    if len(label) > width - LABEL_MIN:
        label = label[: width - LABEL_MIN - 1] + "…"
    shaft = f" {label} ".center(width - 1, "─")
    return f"{shaft}▶" if to_the_right else f"◀{shaft}"


def _line(parts: Sequence[tuple[int, str]]) -> str:
    """A line of texts, each at its column; a later one lies over those before it."""
    cells = [" "] * max(at + len(text) for at, text in parts)
    for at, text in parts:
        cells[at : at + len(text)] = text
    return "".join(cells).rstrip()
