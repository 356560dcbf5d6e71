"""What the view is showing, and what each key of the keyboard does to it. No terminal, no gate: data in, data out.

`press` changes the state and says what else is to happen: `Look` again at the gate, `Open` a page about a row, `Act` at
the gate, or `Quit`. Whatever acts on a call or a key asks first, and names what it would act on: the rows move.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from callgate.cli.calls import freed_lines
from callgate.cli.control import Row, second
from callgate.cli.keys import ended, resumed
from callgate.net.panes import PANES, SORTS

TYPED_MAX: Final = 200
"""Characters of a filter or a reason."""


class Look(NamedTuple):
    """See how the gate is, now."""


class Open(NamedTuple):
    """A page about a row of a pane."""

    pane: str
    row: Row


class Act(NamedTuple):
    """An operation of the gate; `what` in words."""

    op: str
    arguments: Row
    what: str


class Quit(NamedTuple):
    """The end."""


Effect = Look | Open | Act | Quit


@dataclass
class Pane:
    """`height`: rows on the screen, from the `first` of those that match. `place`: the chosen one among them, whose id
    is `chosen` (None: whatever stands at that place)."""

    name: str
    sort: int = 0
    reverse: bool = False
    filter: str = ""
    first: int = 0
    height: int = 5
    place: int = 0
    chosen: str | None = None
    rows: list[Row] = field(default_factory=list)
    matching: int = 0
    total: int = 0

    @property
    def row(self) -> Row | None:
        return self.rows[self.place] if self.place < len(self.rows) else None

    def asks(self) -> Row:
        """Its part of what is asked of the gate."""
        asked = {"sort": SORTS[self.name][self.sort], "reverse": self.reverse, "filter": self.filter}
        asked |= {"first": self.first, "count": self.height}
        return {f"{self.name}_{what}": value for what, value in asked.items()}

    def take(self, answer: Row) -> None:
        """The gate's answer; whoever was chosen stays so while he is on the screen."""
        self.rows = answer["rows"]
        self.matching, self.total, self.first = answer["matching"], answer["total"], answer["first"]
        ids = [identity(self.name, row) for row in self.rows]
        if self.chosen in ids:
            self.place = ids.index(self.chosen)
        self.place = max(0, min(self.place, len(ids) - 1, self.height - 1))
        self._choose()

    def move(self, by: int) -> bool:
        """Up or down; True when other rows are wanted for that."""
        shown = min(len(self.rows), self.height)
        to = self.place + by
        if 0 <= to < shown:
            self.place = to
            self._choose()
            return False
        first = max(0, min(self.first + (to if to < 0 else to - shown + 1), self.matching - self.height))
        self.place = 0 if to < 0 else max(0, shown - 1)
        if first == self.first:
            self._choose()
            return False
        self.first = first
        self.chosen = None
        return True

    def top(self) -> None:
        """From the beginning: it is another list now."""
        self.first = self.place = 0
        self.chosen = None

    def _choose(self) -> None:
        row = self.row
        self.chosen = identity(self.name, row) if row is not None else None


def identity(pane: str, row: Row) -> str:
    """What a row is known by from one look to the next."""
    if pane == "keys":
        return str(row["key"])
    return str(row["id"]) if pane == "calls" else f"{row['at']} {row['call_id']}"


@dataclass
class Page:
    """What lies over the panes; `offset`: the first line that is shown."""

    title: str
    lines: Sequence[str]
    offset: int = 0


@dataclass
class Typing:
    """A line that is being typed, and what it is for."""

    prompt: str
    text: str
    done: Callable[[str], Effect | None]


@dataclass
class Question:
    """Yes or no."""

    text: str
    act: Act


@dataclass
class State:
    """`answer`: the last of the gate, None before the first. `away`: why there is none any more. `note`: what was done,
    or why not; `bad` where it was not."""

    panes: dict[str, Pane] = field(default_factory=lambda: {name: Pane(name) for name in PANES})
    focus: str = "keys"
    only: str | None = None
    paused: bool = False
    answer: Row | None = None
    away: str = ""
    note: str = ""
    bad: bool = False
    page: Page | None = None
    typing: Typing | None = None
    question: Question | None = None

    @property
    def pane(self) -> Pane:
        return self.panes[self.focus]

    def asks(self) -> Row:
        """What is asked of the gate."""
        asked: Row = {"key": self.only}
        for pane in self.panes.values():
            asked |= pane.asks()
        return asked

    def take(self, answer: Row) -> None:
        """What the gate has answered."""
        gate = answer["gate"]
        if self.away or (self.answer is not None and self.answer["gate"]["pid"] != gate["pid"]):
            self.say(f"the gate answers again: process {gate['pid']}, up {gate['uptime_seconds']:.0f} s")
        self.away = ""
        self.answer = answer
        for pane in self.panes.values():
            pane.take(answer[pane.name])

    def say(self, note: str, *, bad: bool = False) -> None:
        self.note, self.bad = note, bad

    # -- keys of the keyboard ------------------------------------------------------------------------------

    def press(self, key: str) -> Effect | None:
        """`key` is a character, or a name such as `up` (`terminal.Decoder`)."""
        if self.typing is not None:
            return self._type(self.typing, key)
        if self.question is not None:
            question, self.question = self.question, None
            if key in ("y", "Y"):
                self.say(f"{question.act.what} …")
                return question.act
            self.say("nothing was done")
            return None
        if self.page is not None and key in _PAGE_MOVES:
            self.page.offset = max(0, self.page.offset + _PAGE_MOVES[key])
            return None
        if self.page is not None:
            self.page = None
            return None
        found = _KEYS.get(key)
        if found is None:
            return None
        self.say("")
        return found(self)

    def _type(self, typing: Typing, key: str) -> Effect | None:
        if key == "enter":
            self.typing = None
            return typing.done(typing.text.strip())
        if key == "escape":
            self.typing = None
            self.say("nothing was done")
        elif key == "backspace":
            typing.text = typing.text[:-1]
        elif key == "erase":
            typing.text = ""
        elif len(key) == 1 and key.isprintable() and len(typing.text) < TYPED_MAX:
            typing.text += key
        return None

    # -- what they do --------------------------------------------------------------------------------------

    def _moves(self, by: int) -> Effect | None:
        return Look() if self.pane.move(by) else None

    def _turns_pane(self, by: int) -> Effect:
        self.focus = PANES[(PANES.index(self.focus) + by) % len(PANES)]
        return Look()

    def _sorts(self) -> Effect:
        pane = self.pane
        pane.sort = (pane.sort + 1) % len(SORTS[pane.name])
        pane.top()
        return Look()

    def _reverses(self) -> Effect:
        self.pane.reverse = not self.pane.reverse
        self.pane.top()
        return Look()

    def _filters(self) -> None:
        pane = self.pane

        def done(text: str) -> Effect:
            pane.filter = text
            pane.top()
            return Look()

        self.typing = Typing(f"only {pane.name} with: ", pane.filter, done)

    def _follows(self) -> Effect | None:
        """Only what is of the key of the chosen row; once more: all again."""
        row = self.pane.row
        if self.only is None and row is None:
            return None
        self.only = None if self.only is not None or row is None else row["key"]
        for name in ("calls", "refusals"):
            self.panes[name].top()
        return Look()

    def _escapes(self) -> Effect | None:
        """Everything is shown again."""
        if self.only is None and not self.pane.filter:
            return None
        self.only, self.pane.filter = None, ""
        self.pane.top()
        return Look()

    def _opens(self) -> Effect | None:
        row = self.pane.row
        return Open(self.focus, row) if row is not None else None

    def _alerts(self) -> None:
        alerts = (self.answer or {}).get("alerts", {"total": 0, "rows": []})
        lines: list[str] = []
        for one in alerts["rows"]:
            whose = f" {one['key'] or one['trunk'] or ''}"
            count = f" ({one['value']}/{one['limit']})" if one["limit"] is not None else ""
            lines += [
                f"{one['severity']} {one['rule']}{whose}: {one['text']}{count}",
                f"    {'since ' + second(one['since']) + '; ' if one['since'] else ''}{one['advice']}",
                "",
            ]
        more = alerts["total"] - len(alerts["rows"])
        if more:
            lines.append(f"and {more} more: /api/v1/alerts has them all")
        self.page = Page(f"alerts: {alerts['total']}", lines or ["none is up"])

    def _releases(self, hangup: bool) -> None:
        row = self.pane.row
        if self.focus != "calls" or row is None:
            self.say("choose a call first (Tab goes to the calls)", bad=True)
            return
        about = f"{row['direction']} call of {row['key']}, {row['from'] or '?'} to {row['to'] or '?'}"
        what = f"hang up the {about}" if hangup else f"release the lines of the {about}"
        self.question = Question(what, Act("calls.release", {"call": row["id"], "hangup": hangup}, what))

    def _suspends(self) -> None:
        row = self.pane.row
        key = None if row is None else row["key"]
        if not key:
            self.say("choose a key first", bad=True)
            return
        known = next((one for one in self.panes["keys"].rows if one["key"] == key), None)
        if known is not None and known["state"] == "suspended":
            why = f" (suspended: {known['reason']})" if known["reason"] else ""
            what = f"resume {key}"
            self.question = Question(f"{what}{why}", Act("keys.resume", {"key": key}, what))
            return

        def done(reason: str) -> None:
            what = f"suspend {key}"
            why = f", reason: {reason}" if reason else ", without a reason"
            act = Act("keys.suspend", {"key": key, "reason": reason}, what)
            self.question = Question(f"{what} until it is resumed{why}", act)

        self.typing = Typing(f"suspend {key}; the PBX is told the reason: ", "", done)

    def _pauses(self) -> Effect:
        self.paused = not self.paused
        return Look()

    def _helps(self) -> None:
        self.page = Page("help", HELP)


def done_words(act: Act, answer: Row) -> str:
    """What an operation has come to."""
    if act.op == "calls.release":
        return "hung up" if answer["hangup"] else f"released: {freed_lines(answer)}"
    if act.op == "keys.resume":
        return resumed(answer)
    return f"{answer['key']}: suspended until it is resumed{ended(answer, drop=False)}"


_FAR: Final = 1_000_000
BINDINGS: Final[Sequence[tuple[Sequence[str], str, str, Callable[[State], Effect | None]]]] = (
    (("up", "k"), "Up, k", "one row up", lambda state: state._moves(-1)),
    (("down", "j"), "Down, j", "one row down", lambda state: state._moves(1)),
    (("page up",), "Page Up", "one screen up", lambda state: state._moves(-state.pane.height)),
    (("page down", " "), "Page Down", "one screen down", lambda state: state._moves(state.pane.height)),
    (("home", "g"), "Home, g", "to the first row", lambda state: state._moves(-_FAR)),
    (("end", "G"), "End, G", "to the last row", lambda state: state._moves(_FAR)),
    (("tab",), "Tab", "the next pane: keys, calls, refusals", lambda state: state._turns_pane(1)),
    (("back tab",), "Shift-Tab", "the pane before", lambda state: state._turns_pane(-1)),
    (("s",), "s", "sort by the next column", lambda state: state._sorts()),
    (("S",), "S", "the other way round", lambda state: state._reverses()),
    (("/",), "/", "only rows that hold a text; an empty one shows all", lambda state: state._filters()),
    (("f",), "f", "only calls and refusals of this row's key; again: of all", lambda state: state._follows()),
    (("escape",), "Esc", "no filter, all keys", lambda state: state._escapes()),
    (("enter",), "Enter", "more about the row, and why", lambda state: state._opens()),
    (("a",), "a", "the alerts that are up, and what to do", lambda state: state._alerts()),
    (("r",), "r", "release the lines of a call; the call goes on", lambda state: state._releases(False)),
    (("h",), "h", "hang up a call", lambda state: state._releases(True)),
    (("u",), "u", "suspend the row's key, or resume it (V9)", lambda state: state._suspends()),
    (("p",), "p", "pause: nothing moves", lambda state: state._pauses()),
    (("?",), "?", "this help", lambda state: state._helps()),
    (("q",), "q", "quit", lambda state: Quit()),
)
"""Keys of the keyboard, as they are called, what they do."""
_KEYS: Final = {key: what for keys, _, _, what in BINDINGS for key in keys}
HELP: Final = (
    *(f"{name:<12}{words}" for _, name, words, _ in BINDINGS),
    "",
    "What acts on a call or a key asks first (y for yes), and is in the audit log.",
    "Bars: yellow from 80 % of the limit on, red at it. Marks of calls: R recorded,",
    "H on hold, W has waited for its turn.",
)
_PAGE_MOVES: Final = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -10, "page down": 10, " ": 10} | {
    "home": -_FAR,
    "g": -_FAR,
}
