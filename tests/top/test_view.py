"""The picture that `callgate top` draws, from what a gate has answered."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.top.data import Row, alert, answer, call, key, part, refusal

from callgate.cli.top import view
from callgate.cli.top.state import Page, Pane, State
from callgate.net.panes import PANES
from callgate.sim.bars import gauge

HOSTILE = [
    "\x1b[2J\x1b[31mred",
    "\x9b31mred",
    "[red]bold[/red] [/] [link=http://192.0.2.1]here",
    "a\r\nb\tc\x07\x00",
    "e\u0301\u0301\u0301\u0301\u0301\u200b\u200d\ufeff",
    "\u202eright to left\u202c",
    "\u05d0\u05d1\u0627\u0628",
    "全角の電話番号０３１２３４５６７８" * 20,
    "👨\u200d👩\u200d👧\ufe0f",
    "x" * 5000,
    "\udcff\ud800",
]


def state_of(data: Row | None = None, **pressed: object) -> State:
    state = State()
    for name in PANES:
        state.panes[name].height = 5
    if data is not None:
        state.take(data)
    for name, value in pressed.items():
        setattr(state, name, value)
    return state


def console(width: int = 80, height: int = 24, encoding: str = "utf-8", **how: object) -> Console:
    paper = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace")
    return Console(file=paper, width=width, height=height, force_terminal=True, **how)  # type: ignore[arg-type]


def lines(state: State, width: int = 80, height: int = 24, encoding: str = "utf-8") -> list[str]:
    paper = console(width, height, encoding, color_system=None)
    with paper.capture() as captured:
        paper.print(view.draw(state, paper), end="")
    return captured.get().rstrip("\n").split("\n")


def busy() -> Row:
    keys = [
        key("acme", rate=3, refused=17, queued=2),
        key("beta", state="suspended"),
        key("shadow", mode="shadow"),
    ]
    keys.append(key("slow", slowed=2))
    calls = [
        call(1, recorded=True, on_hold=True, waited_seconds=1.25),
        call(2, state="ringing", direction="inbound"),
    ]
    refusals = [
        refusal(5, rule="V1", value=4, limit=3, code=503, reason="V1 rate 4/3 per second"),
        refusal(4),
    ]
    return answer(keys, calls, refusals, alerts=[alert()], suspended=1)


def test_all_that_matters_is_on_80_by_24() -> None:
    shown = lines(state_of(busy()))
    assert len(shown) == 24
    text = "\n".join(shown)
    (acme,) = [line for line in shown if line.startswith("acme") and "3/3" in line]
    assert "■■■ 3/3" in acme  # V1
    assert "80/100" in acme
    assert "12/100" in acme
    assert "0/4" in acme
    assert acme.split()[-2:] == ["2", "17"]  # queue, refused
    for words in ("ready  up 3h03m  3 calls  2 keys  1 suspended", "carrier 198.51.100.5:5060 up", "V1 acme"):
        assert words in text
    (up,) = [line for line in shown if " up " in line and "RHW" in line]
    assert up.split()[:6] == ["acme", "out", "+815012345678", "0312345678", "up", "7s"]
    assert "RHW1.2s" in up
    (rate,) = [line for line in shown if "08:59:05" in line]
    assert rate.split()[3:] == ["0120123456", "V1", "4/3", "503", "V1", "rate", "4/3", "per", "second"]
    assert "SUSPENDED" in text
    assert "shadow" in text
    assert "slowed 2" in text
    assert shown[-1].startswith("? help")


@pytest.mark.parametrize("size", [(60, 15), (70, 18), (80, 24), (100, 40), (132, 50), (300, 100)])
@pytest.mark.parametrize("focus", PANES)
def test_it_fills_every_screen_and_no_more(size: tuple[int, int], focus: str) -> None:
    width, height = size
    many = answer(
        part([key(f"key-{n}") for n in range(90)], total=2000),
        part([call(n) for n in range(90)], total=10_000),
        part([refusal(n % 60) for n in range(50)]),
        alerts=[alert()] * 20,
    )
    state = state_of(many, focus=focus)
    for name, count in view.heights(state, height).items():
        assert count >= 1
        state.panes[name].height = count
    shown = lines(state, width, height)
    assert len(shown) == height
    assert all(cell_len(line) <= width for line in shown)
    assert sum(line.startswith("── ") for line in shown) == 3
    assert f"of {many[focus]['matching']}" in "\n".join(shown)


@pytest.mark.parametrize("size", [(59, 24), (80, 14), (10, 3), (1, 1)])
def test_too_small_a_screen_says_so(size: tuple[int, int]) -> None:
    shown = lines(state_of(busy()), *size)
    assert "is too small" in " ".join(shown).replace("\n", " ") or size[0] < 20
    assert all(cell_len(line) <= size[0] for line in shown)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_from_outside_disturbs_the_screen(text: str) -> None:
    """Wherever it stands: no control character, no markup, no other width."""
    gateway = {"gateway": text, "up": False, "why": text}
    data = answer(
        [key(text[:60], reason=text)],
        [call(1, **{"from": text, "to": text, "gateway": text})],
        [refusal(1, **{"from": text, "to": text, "reason": text, "rule": text[:40]})],
        alerts=[alert(text=text, key=text, advice=text)],
        trunks=[{"trunk": text, "registered": False, "gateways": [gateway]}],
        version=text,
    )
    for state in (
        state_of(data),
        state_of(data, away=text),
        state_of(data, note=text, only=text),
        state_of(data, page=Page(text, [text, text])),
    ):
        state.pane.filter = text
        shown = lines(state)
        assert len(shown) == 24
        assert all(cell_len(line) <= 80 for line in shown)
        joined = "".join(shown)
        assert joined.isprintable(), [char for char in joined if not char.isprintable()]
        assert not set(joined) & set("\u0301\u0308\ufe0f\u200d\u05d0\u0627\u202e")
        if text.startswith("[red]"):
            assert "[red]" in joined


def test_a_wide_name_leaves_the_columns_where_they_are() -> None:
    data = answer([], [call(1, **{"from": "全角の名前"}), call(2)])
    rows = [
        line for line in lines(state_of(data), 120) if " up " in line and "sip" not in line and "acme" in line
    ]
    places = [cell_len(line[: line.index("0312345678")]) for line in rows]
    assert len(places) == 2
    assert len(set(places)) == 1


def test_the_chosen_row_is_seen_without_colours() -> None:
    state = state_of(busy())
    state.press("down")
    paper = console(no_color=True)
    with paper.capture() as captured:
        paper.print(view.draw(state, paper), end="")
    reversed_ = [line for line in captured.get().splitlines() if "\x1b[7m" in line or ";7m" in line]
    assert len(reversed_) == 1
    assert "beta" in reversed_[0]
    assert "\x1b[31m" not in captured.get()


def test_a_terminal_that_knows_ascii_only() -> None:
    data = answer([key("acme", rate=3)], [call(1, to="０３" * 30)])
    shown = lines(state_of(data), encoding="ascii")
    assert "".join(shown).isascii()
    assert any("### 3/3" in line for line in shown)


def test_a_gate_that_is_away_and_a_paused_view() -> None:
    shown = lines(state_of(busy(), away="no gate is running with this config"))
    assert "no gate is running" in shown[0]
    assert "09:00:07 UTC" in shown[0]
    assert any("acme" in line for line in shown), "what was known stays"
    assert "PAUSED" in lines(state_of(busy(), paused=True))[0]
    assert lines(State())[0] == "asking the gate …"


def test_a_trunk_in_trouble() -> None:
    down = {"gateway": "sip:198.51.100.5", "up": False, "why": "no answer to 3 OPTIONS"}
    data = answer(trunks=[{"trunk": "carrier", "registered": False, "gateways": [down]}], alerts=[])
    shown = lines(state_of(data))
    assert "carrier NOT REGISTERED 198.51.100.5 DOWN (no answer to 3 OPTIONS)" in shown[1]
    assert "none" in shown[2]


def test_no_limit_is_no_bar() -> None:
    shown = lines(state_of(answer([key("acme")])), 140)
    (acme,) = [line for line in shown if line.startswith("acme")]
    assert " 1/- " in acme
    assert acme.count("□") + acme.count("■") == 4 * 14


def test_a_long_page_is_read_a_part_at_a_time() -> None:
    state = state_of(busy(), page=Page("more", [f"line {n}" for n in range(100)]))
    first = lines(state)
    assert "line 0" in first[4]
    assert "more lines" in first[3]
    for _ in range(30):
        state.press("page down")
    assert "line 99" in lines(state)[-2]


@pytest.mark.parametrize(
    ("value", "limit", "boxes"),
    [
        (0, 3, 0),
        (1, 3, 4),
        (3, 3, 10),
        (1, 100, 1),
        (99, 100, 9),
        (100, 100, 10),
        (250, 100, 10),
        (0, 0, 0),
        (1, 0, 10),
    ],
)
def test_a_bar_is_empty_only_without_use_and_full_only_at_the_limit(
    value: int, limit: int, boxes: int
) -> None:
    text = gauge(value, limit, 10).plain
    assert text == "■" * boxes + "□" * (10 - boxes)


def test_rows_go_where_they_are_needed() -> None:
    """One key, a thousand calls: the keys leave their room to the calls, though the cursor is on them."""
    state = state_of(answer([key("acme")], part([call(1)], total=1000), []))
    found = view.heights(state, 24)
    assert found["keys"] == 1
    assert found["calls"] > 8
    assert sum(found.values()) <= 24 - view.HEAD - view.FOOT - 3 * view.OVER


def test_a_snapshot_has_every_row() -> None:
    state = state_of(answer([key(f"key-{n}") for n in range(30)]))
    paper = console(120, 10, color_system=None)
    with paper.capture() as captured:
        paper.print(view.snapshot(state, paper))
    assert sum(line.startswith("key-") for line in captured.get().splitlines()) == 30


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (65, "1m05s"), (3600, "1h00m"), (86_399, "23h59m"), (90_000, "1d01h")],
)
def test_spans(seconds: float, text: str) -> None:
    assert view.span(seconds) == text


def test_panes_are_made_anew_for_each_view() -> None:
    assert State().panes["keys"] is not State().panes["keys"]
    assert Pane("keys").row is None
