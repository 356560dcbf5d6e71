"""The view as a picture: a pure function of what the gate has said and what was pressed.

Every text that comes from outside (numbers, Call-IDs, reasons, names) goes through `cell`: nothing in it can move the
cursor, colour anything or take another width than the picture thinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from unicodedata import bidirectional, category, normalize

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.text import Text

from callgate.cli.control import Row, plain
from callgate.cli.top.state import Page, Pane, State
from callgate.net.panes import PANES, SORTS
from callgate.sim.bars import gauge

LEAST: Final = (60, 15)
"""Columns and lines below which the view says that it needs more."""
CELL_MAX: Final = 200
"""Characters of a text from outside that are looked at for a cell."""
HEAD, FOOT = 3, 1
"""Lines above the panes and below."""
OVER: Final = 2
"""Lines of a pane above its rows."""
BAR_MIN, BAR_MAX = 3, 14
KEY_MIN, KEY_USUAL, KEY_MAX = 8, 12, 24
LIMITS: Final[Sequence[tuple[str, str, bool]]] = (
    ("V1 rate", "outbound_cps", True),
    ("V3 in", "inbound_calls", True),
    ("V4 lines", "lines", True),
    ("V4 fwd", "forwarded_calls", True),
    ("I1 rec", "recordings", True),
    ("C2 out", "outbound_calls", False),
    ("K6 all", "calls", False),
)
"""Heading, the limit's name in a row, whether it has a column even if no key has such a limit. Where the screen is too
narrow the last of those that stand go first."""
DIRECTIONS: Final = {"outbound": "out", "inbound": "in", "forwarded": "fwd"}
KEYS_LINE: Final = "? help  Tab pane  / filter  s sort  Enter why  r h release  u suspend  q quit"
SEVERITIES: Final = {"critical": "bold red", "warning": "yellow"}


class Column(NamedTuple):
    """`cells` of all rows; a column gets `least` to `most` columns of the screen: as much as its cells want."""

    title: str
    cells: Sequence[Text]
    least: int
    most: int
    right: bool = False


def cell(value: object, style: str = "") -> Text:
    """A text from outside. What a terminal would obey, join to another character, or write from right to left is
    replaced: it has no business in a number or a name."""
    text = normalize("NFC", plain(str("" if value is None else value)[:CELL_MAX]))
    return Text("".join(map(_tame, text)), style, no_wrap=True, overflow="ellipsis")


def _tame(char: str) -> str:
    if char < "\x7f":
        return char
    odd = category(char)[0] in "MC" or bidirectional(char) in ("R", "AL", "AN")
    return "\ufffd" if odd else char


def heights(state: State, height: int) -> dict[str, int]:
    """How many rows each pane has on a screen of that height: the one with the cursor as many as it needs, the others
    a quarter of it at most, unless there is room to spare."""
    room = max(len(PANES), height - HEAD - FOOT - OVER * len(PANES))
    wants = {name: max(1, state.panes[name].matching) for name in PANES}
    others = [name for name in PANES if name != state.focus]
    found = {name: min(wants[name], max(1, room // 4)) for name in others}
    found[state.focus] = max(1, room - sum(found.values()))
    for name in others:
        spare = max(0, found[state.focus] - wants[state.focus])
        more = min(spare, wants[name] - found[name])
        found[name] += more
        found[state.focus] -= more
    return found


def draw(state: State, console: Console) -> RenderableType:
    """What fills the screen."""
    width, height = console.size
    ascii_only = console.options.ascii_only
    if width < LEAST[0] or height < LEAST[1]:
        return Text(f"{width}×{height} is too small: {LEAST[0]}×{LEAST[1]} at least. q quits.", no_wrap=False)
    if state.answer is None:
        return Text("asking the gate …")
    lines = _head(state, width)
    if state.page is not None:
        lines += _page(state.page, console, width, height - HEAD - FOOT)
    else:
        rows = heights(state, height)
        for name in PANES:
            lines += _pane(state, name, rows[name], width, ascii_only)
    lines += [Text("")] * (height - FOOT - len(lines))
    lines.append(_foot(state, width))
    return Group(*(_line(line, width, ascii_only) for line in lines[:height]))


def snapshot(state: State, console: Console) -> RenderableType:
    """One picture for a pipe or a printer: all rows, no cursor."""
    width, ascii_only = console.width, console.options.ascii_only
    lines = _head(state, width)
    for name in PANES:
        height = max(1, len(state.panes[name].rows))
        lines += [Text(""), *_pane(state, name, height, width, ascii_only, cursor=False)]
    return Group(*(_line(line, width, ascii_only) for line in lines))


def _line(text: Text, width: int, ascii_only: bool) -> Text:
    text.no_wrap, text.overflow = True, "crop"
    text.truncate(width, overflow="ellipsis")
    if ascii_only:
        text.plain = "".join(char if char < "\x7f" else _ASCII.get(char, "?") for char in text.plain)
    return text


_ASCII: Final = {"─": "-", "–": "-", "…": "~", "×": "x", "“": "'", "”": "'"}


# -- above and below -------------------------------------------------------------------------------------------


def _head(state: State, width: int) -> list[Text]:
    answer = state.answer or {}
    gate = answer["gate"]
    text = Text.assemble(("CallGate ", "bold"), cell(gate["version"]), "  ")
    if state.away:
        text.append_text(cell(f"as of {answer['now'][11:19]} UTC: {state.away}", "bold red"))
    else:
        text.append_text(cell(gate["state"], "green" if gate["state"] == "ready" else "bold yellow"))
        text.append(f"  up {span(gate['uptime_seconds'])}  {gate['calls']} calls  {gate['keys']} keys")
        if gate["suspended"]:
            text.append(f"  {gate['suspended']} suspended", "red")
        if state.only is not None:
            text.append("  only ", "bold").append_text(cell(state.only, "bold"))
        if state.paused:
            text.append("  PAUSED", "bold yellow")
        text.append(f"  {answer['now'][11:19]} UTC", "bright_black")
    return [text, _trunks(answer["trunks"]), _alerts(answer["alerts"])]


def _trunks(trunks: Sequence[Row]) -> Text:
    text = Text("trunks ", "bold")
    for trunk in trunks:
        text.append(" ").append_text(cell(trunk["trunk"], "bold"))
        if trunk["registered"] is not None:
            text.append(
                " registered" if trunk["registered"] else " NOT REGISTERED",
                "" if trunk["registered"] else "red",
            )
        for gateway in trunk["gateways"]:
            name = cell(gateway["gateway"].removeprefix("sip:").removeprefix("sips:"))
            text.append(" ").append_text(name)
            text.append(" up" if gateway["up"] else " DOWN", "green" if gateway["up"] else "bold red")
            if gateway["why"]:
                text.append_text(cell(f" ({gateway['why']})", "yellow"))
        text.append(" ")
    return text


def _alerts(alerts: Row) -> Text:
    if not alerts["total"]:
        return Text("alerts  none", "bright_black")
    text = Text.assemble(("alerts ", "bold"), (f" {alerts['total']}", "bold"), " (a)")
    for one in alerts["rows"]:
        text.append("  ")
        text.append_text(
            cell(f"{one['rule']} {one['key'] or one['trunk'] or ''}", SEVERITIES.get(one["severity"], ""))
        )
        text.append_text(cell(f" {one['text']}"))
    return text


def _foot(state: State, width: int) -> Text:
    if state.typing is not None:
        shown = cell(state.typing.prompt, "bold")
        typed = state.typing.text
        while typed and cell_len(typed) > width - cell_len(shown.plain) - 2:
            typed = typed[1:]
        return shown.append_text(cell(typed)).append("_", "blink")
    if state.question is not None:
        question = cell(state.question.text, "bold")
        question.truncate(width - 8, overflow="ellipsis")
        return question.append("? (y/n)", "bold yellow")
    if state.note:
        return cell(state.note, "bold red" if state.bad else "bold green")
    if state.page is not None:
        return Text("Up and Down move; any other key goes back", "bright_black")
    return Text(KEYS_LINE, "bright_black")


def _page(page: Page, console: Console, width: int, height: int) -> list[Text]:
    wrapped: list[Text] = []
    for line in page.lines:
        found = cell_lines(line, console, width)
        wrapped += found
    page.offset = max(0, min(page.offset, len(wrapped) - (height - 1)))
    shown = wrapped[page.offset : page.offset + height - 1]
    more = len(wrapped) - page.offset - len(shown)
    title = _title(page.title, f"{more} more lines" if more else "", width, True)
    return [title, *shown]


def cell_lines(line: str, console: Console, width: int) -> list[Text]:
    """A line of a page, on as many lines of the screen as it needs."""
    text = Text("".join(_tame(char) for char in normalize("NFC", plain(line))))
    return list(text.wrap(console, width)) or [Text("")]


# -- panes -----------------------------------------------------------------------------------------------------


def _title(name: str, more: str, width: int, focus: bool) -> Text:
    text = Text(f"── {cell(name).plain} ", "bold cyan" if focus else "bright_black")
    right = f" {more} ──" if more else "──"
    text.append("─" * max(0, width - cell_len(text.plain) - cell_len(right)) + right)
    return text


def _pane(
    state: State, name: str, height: int, width: int, ascii_only: bool, cursor: bool = True
) -> list[Text]:
    pane = state.panes[name]
    rows = pane.rows[:height]
    focus = cursor and state.focus == name
    columns = _COLUMNS[name](rows, state, width, ascii_only)
    lines = [_title(name.upper() if focus else name, _about(pane), width, focus)]
    lines += _table(columns, len(rows), width)
    if not rows:
        lines.append(Text("none" if not pane.total else "none that match", "bright_black"))
    if focus and pane.place < len(rows):
        at = OVER + pane.place
        plain_row = lines[at].plain
        lines[at] = Text(plain_row + " " * (width - cell_len(plain_row)), "reverse")
    return lines + [Text("")] * (height + OVER - len(lines))


def _about(pane: Pane) -> str:
    by = SORTS[pane.name][pane.sort]
    end = pane.first + min(len(pane.rows), pane.height)
    parts = [f"{pane.first + 1 if end else 0}–{end} of {pane.matching}"]
    if pane.filter:
        parts.append(f"with “{cell(pane.filter).plain[:30]}”")
    parts.append(f"by {by}{', reversed' if pane.reverse else ''}")
    return ", ".join(parts)


def _table(columns: Sequence[Column], count: int, width: int) -> list[Text]:
    """A heading and `count` lines. Columns get what they want while there is room; the rest goes to those that take
    more, one column of the screen after the other."""
    given = [max(column.least, cell_len(column.title)) for column in columns]
    wants = []
    for column, least in zip(columns, given, strict=True):
        longest = max([cell_len(text.plain) for text in column.cells], default=0)
        wants.append(max(least, min(column.most, longest)))
    room = width - sum(given) - (len(columns) - 1)
    while room > 0 and given != wants:
        for n, want in enumerate(wants):
            if room > 0 and given[n] < want:
                given[n] += 1
                room -= 1
    titles = [_sized(Text(c.title), n, c.right).plain for c, n in zip(columns, given, strict=True)]
    heading = Text(" ".join(titles), "bold")
    lines = [heading]
    for row in range(count):
        line = Text()
        for number, (column, size) in enumerate(zip(columns, given, strict=True)):
            if number:
                line.append(" ")
            line.append_text(_sized(column.cells[row], size, column.right))
        lines.append(line)
    return lines


def _sized(text: Text, width: int, right: bool) -> Text:
    """A copy that is exactly so wide."""
    text = text.copy()
    text.truncate(width, overflow="ellipsis")
    missing = width - cell_len(text.plain)
    if missing > 0 and right:
        text.pad_left(missing)
    elif missing > 0:
        text.append(" " * missing)
    return text


def _keys(rows: Sequence[Row], state: State, width: int, ascii_only: bool) -> list[Column]:
    """The bars share what the words leave."""
    left = [
        Column("key", [cell(row["key"], "bold") for row in rows], KEY_MIN, KEY_MAX),
        Column("state", [_key_state(row) for row in rows], 4, 10),
    ]
    right = [
        _number("queue", [row["queued"] for row in rows], "yellow"),
        _number("refused", [row["refused"] for row in rows], ""),
    ]
    limits = [
        (title, [row["limits"].get(name) for row in rows])
        for title, name, always in LIMITS
        if always or any(_limited(row["limits"].get(name)) for row in rows)
    ]
    room = width - sum(_least(column) + 1 for column in (*left, *right))
    size, numbers = 0, list[int]()
    while limits and not size:
        numbers = [max([len(_share(one)) for one in those], default=0) for _, those in limits]
        sizes = range(BAR_MAX, BAR_MIN - 1, -1)
        size = next((size for size in sizes if _wide(limits, numbers, size) <= room), 0)
        if not size:
            limits.pop()
    bars = [
        Column(title, [_use(one, size, number, ascii_only) for one in those], 1, 99)
        for (title, those), number in zip(limits, numbers, strict=False)
    ]
    return [*left, *bars, *right]


def _wide(limits: Sequence[tuple[str, list[Row | None]]], numbers: Sequence[int], size: int) -> int:
    """Columns of the screen that the limits take with bars of a size."""
    return sum(
        max(len(title), size + 1 + number) + 1 for (title, _), number in zip(limits, numbers, strict=True)
    )


def _least(column: Column) -> int:
    longest = max([cell_len(text.plain) for text in column.cells], default=0)
    return max(column.least, len(column.title), min(column.most, KEY_USUAL, longest))


def _number(title: str, values: Sequence[int], style: str) -> Column:
    texts = [Text(str(value), style if value else "bright_black") for value in values]
    return Column(title, texts, len(title), 9, right=True)


def _limited(one: Row | None) -> bool:
    return one is not None and one["limit"] is not None


def _share(one: Row | None) -> str:
    if one is None:
        return "-"
    return f"{one['used']}/{'-' if one['limit'] is None else one['limit']}"


def _use(one: Row | None, size: int, number: int, ascii_only: bool) -> Text:
    if one is None or one["limit"] is None:
        return Text(" " * (size + 1) + _share(one).rjust(number), "bright_black")
    text = gauge(one["used"], one["limit"], size, ascii_only=ascii_only)
    over = one["used"] > one["limit"]
    return text.append(" ").append(_share(one).rjust(number), "bold red" if over else "")


def _key_state(row: Row) -> Text:
    if row["state"] == "suspended":
        return Text("SUSPENDED", "bold red")
    if row["slowed"]:
        return Text(f"slowed {row['slowed']}", "yellow")
    return Text("shadow", "magenta") if row["mode"] == "shadow" else Text("ok", "green")


def _calls(rows: Sequence[Row], state: State, width: int, ascii_only: bool) -> list[Column]:
    now = _time((state.answer or {}).get("now"))
    ages = [max(0.0, now - _time(row["since"])) for row in rows]
    return [
        Column("key", [cell(row["key"], "bold") for row in rows], KEY_MIN, KEY_MAX),
        Column("dir", [Text(DIRECTIONS.get(row["direction"], "")) for row in rows], 3, 3),
        Column("from", [cell(row["from"]) for row in rows], 10, 20),
        Column("to", [cell(row["to"]) for row in rows], 10, 20),
        Column("state", [Text(row["state"], STATES.get(row["state"], "")) for row in rows], 7, 7),
        Column("for", [Text(span(age)) for age in ages], 6, 8, right=True),
        Column("marks", [_marks(row) for row in rows], 5, 9),
        Column(
            "gateway",
            [cell((row["gateway"] or "").removeprefix("sip:"), "bright_black") for row in rows],
            0,
            30,
        ),
    ]


STATES: Final = {"up": "green", "ringing": "cyan", "queued": "yellow"}


def _marks(row: Row) -> Text:
    text = Text("R" if row["recorded"] else "", "red")
    text.append("H" if row["on_hold"] else "", "yellow")
    if row["waited_seconds"]:
        text.append(f"W{row['waited_seconds']:.1f}s", "yellow")
    return text


def _refusals(rows: Sequence[Row], state: State, width: int, ascii_only: bool) -> list[Column]:
    return [
        Column("at (UTC)", [Text((row["at"] or "")[11:19]) for row in rows], 8, 8),
        Column("key", [cell(row["key"], "bold") for row in rows], KEY_MIN, KEY_MAX),
        Column("dir", [Text(DIRECTIONS.get(row["direction"], "")) for row in rows], 3, 3),
        Column("to", [cell(row["to"]) for row in rows], 10, 20),
        Column("rule", [cell(row["rule"], "red") for row in rows], 5, 10),
        Column("count", [Text(_count(row)) for row in rows], 5, 9),
        Column("code", [Text(str(row["code"] or "")) for row in rows], 3, 4),
        Column("why", [cell(row["reason"]) for row in rows], 8, 100),
    ]


def _count(row: Row) -> str:
    return "" if row["value"] is None else f"{row['value']}/{row['limit']}"


_COLUMNS: Final = {"keys": _keys, "calls": _calls, "refusals": _refusals}


def span(seconds: float) -> str:
    """A length of time in a few characters: 7s, 4m05s, 3h02m, 12d04h."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole // 60 % 60:02}m"
    return f"{whole // 86_400}d{whole // 3600 % 24:02}h"


def _time(stamp: str | None) -> float:
    return datetime.fromisoformat(stamp).timestamp() if stamp else 0.0
