"""What the keyboard does to the view, and what it has done at the gate."""

from __future__ import annotations

import pytest
from tests.top.data import Row, alert, answer, call, key, part, refusal

from callgate.cli.top.state import BINDINGS, HELP, Act, Effect, Look, Open, Quit, State, done_words
from callgate.cli.top.terminal import NAMES, Decoder
from callgate.net.desk import OPERATIONS
from callgate.net.panes import SORTS


def state_of(data: Row | None = None) -> State:
    state = State()
    for pane in state.panes.values():
        pane.height = 5
    state.take(data or answer([key(f"key-{n}") for n in range(5)], [call(1), call(2)], [refusal(1)]))
    return state


def pressed(state: State, *keys: str) -> Effect | None:
    """The effect of the last."""
    effect = None
    for one in keys:
        effect = state.press(one)
    return effect


def typed(state: State, text: str, end: str = "enter") -> Effect | None:
    return pressed(state, *text, end)


# -- moving ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        (("down",), "key-1"),
        (("j", "j", "k"), "key-1"),
        (("down", "down", "up"), "key-1"),
        (("up",), "key-0"),
        (("end",), "key-4"),
        (("G", "g"), "key-0"),
        (("page down",), "key-4"),
        (("end", "page up"), "key-0"),
        (("end", "home"), "key-0"),
    ],
)
def test_the_cursor(keys: tuple[str, ...], chosen: str) -> None:
    state = state_of()
    pressed(state, *keys)
    assert state.pane.row is not None
    assert state.pane.row["key"] == chosen


def test_beyond_the_screen_other_rows_are_asked_for() -> None:
    state = state_of(answer(part([key(f"key-{n}") for n in range(5)], total=12)))
    assert pressed(state, "down", "down", "down", "down") is None
    assert pressed(state, "down") == Look()
    assert state.asks()["keys_first"] == 1
    state.take(answer(part([key(f"key-{n}") for n in range(1, 6)], total=12, first=1)))
    assert state.pane.row is not None
    assert state.pane.row["key"] == "key-5"
    assert pressed(state, "end") == Look()
    assert state.asks()["keys_first"] == 7
    assert pressed(state, "home") == Look()
    assert state.asks()["keys_first"] == 0


def test_the_cursor_stays_on_its_key_when_the_order_changes() -> None:
    state = state_of()
    pressed(state, "down", "down")
    state.take(answer([key("key-4"), key("key-2"), key("key-0")]))
    assert state.pane.place == 1
    state.take(answer([key("key-4")]))
    assert state.pane.place == 0
    state.take(answer([]))
    assert state.pane.row is None
    for one in ("up", "down", "enter", "r", "h", "u", "f", "page down", "end"):
        state.press(one)
        assert state.question is None
        assert state.typing is None


def test_panes_go_round() -> None:
    state = state_of()
    seen = []
    for one in ("tab", "tab", "tab", "back tab"):
        assert state.press(one) == Look()
        seen.append(state.focus)
    assert seen == ["calls", "refusals", "keys", "refusals"]


# -- choosing what is shown ------------------------------------------------------------------------------------


def test_sorts_are_those_of_the_gate() -> None:
    asked = OPERATIONS["overview"].arguments
    assert {pane: asked[f"{pane}_sort"].choices for pane in SORTS} == SORTS


@pytest.mark.parametrize("pane", SORTS)
def test_sorting(pane: str) -> None:
    state = state_of()
    while state.focus != pane:
        state.press("tab")
    seen = [state.asks()[f"{pane}_sort"]]
    for _ in SORTS[pane]:
        assert state.press("s") == Look()
        seen.append(state.asks()[f"{pane}_sort"])
    assert seen == [*SORTS[pane], SORTS[pane][0]]
    assert state.press("S") == Look()
    assert state.asks()[f"{pane}_reverse"] is True


def test_a_filter_is_of_its_pane_and_goes_again() -> None:
    state = state_of()
    pressed(state, "tab", "/")
    assert typed(state, "031x") is not None
    assert state.asks()["calls_filter"] == "031x"
    assert state.asks()["keys_filter"] == ""
    pressed(state, "/", "backspace")
    typed(state, "2")
    assert state.asks()["calls_filter"] == "0312"
    pressed(state, "/", "erase")
    typed(state, "zzz", "escape")
    assert state.asks()["calls_filter"] == "0312", "given up"
    assert pressed(state, "escape") == Look()
    assert state.asks()["calls_filter"] == ""


def test_keys_that_act_are_letters_while_a_line_is_typed() -> None:
    state = state_of()
    pressed(state, "/")
    assert typed(state, "q?ruhpsy\x1b") == Look()
    assert state.pane.filter == "q?ruhpsy"


def test_only_one_key_s_calls() -> None:
    state = state_of()
    assert pressed(state, "down", "f") == Look()
    assert state.asks()["key"] == "key-1"
    assert pressed(state, "f") == Look()
    assert state.asks()["key"] is None


def test_pause_goes_on() -> None:
    state = state_of()
    assert state.press("p") == Look()
    assert state.paused
    assert state.press("p") == Look()
    assert not state.paused


# -- pages -----------------------------------------------------------------------------------------------------


def test_more_about_a_row() -> None:
    state = state_of()
    assert state.press("enter") == Open("keys", state.panes["keys"].rows[0])
    assert pressed(state, "tab", "down", "enter") == Open("calls", state.panes["calls"].rows[1])


def test_help_has_every_key() -> None:
    state = state_of()
    state.press("?")
    assert state.page is not None
    for _, name, words, _ in BINDINGS:
        assert any(line.startswith(name) and words in line for line in HELP)
    assert state.press("q") is None
    assert state.page is None, "back to the panes"
    assert state.press("q") == Quit()


def test_alerts_say_what_to_do() -> None:
    state = state_of(
        answer(alerts=[alert(), alert("trunk-down", "critical", key="", trunk="carrier", limit=None)])
    )
    state.press("a")
    assert state.page is not None
    text = "\n".join(state.page.lines)
    assert "warning V1 acme: at its limit (3/3)\n    since 2026-04-01 08:00:00 UTC; call more slowly" in text
    assert "critical trunk-down carrier: at its limit\n" in text
    state = state_of()
    state.press("a")
    assert state.page is not None
    assert list(state.page.lines) == ["none is up"]


# -- what acts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("letter", "hangup"), [("r", False), ("h", True)])
def test_a_call_is_released_or_hung_up(letter: str, hangup: bool) -> None:
    """The one that was named in the question, wherever it is by now."""
    state = state_of()
    pressed(state, "tab", "down", letter)
    assert state.question is not None
    assert "outbound call of acme, +815012345678 to 0312345678" in state.question.text
    state.take(answer([], [call(7), call(8)]))
    act = state.press("y")
    assert isinstance(act, Act)
    assert (act.op, act.arguments) == ("calls.release", {"call": f"{2:016x}", "hangup": hangup})
    assert state.question is None


@pytest.mark.parametrize("letter", ["n", "enter", "escape", "r", "q", "u"])
def test_all_but_yes_is_no(letter: str) -> None:
    state = state_of()
    pressed(state, "tab", "h")
    assert state.press(letter) is None
    assert state.question is None
    assert state.note == "nothing was done"


def test_no_call_is_chosen_among_the_keys() -> None:
    for letter in "rh":
        state = state_of()
        assert state.press(letter) is None
        assert state.bad
        assert "choose a call" in state.note


def test_a_key_is_suspended_with_a_reason() -> None:
    state = state_of()
    pressed(state, "down", "u")
    assert typed(state, " unpaid ") is None
    assert state.question is not None
    assert "suspend key-1 until it is resumed, reason: unpaid" in state.question.text
    act = state.press("y")
    assert isinstance(act, Act)
    assert (act.op, act.arguments) == ("keys.suspend", {"key": "key-1", "reason": "unpaid"})
    pressed(state, "u", "escape")
    assert state.typing is None
    assert state.question is None


def test_a_suspended_key_is_resumed() -> None:
    state = state_of(answer([key("acme", state="suspended", reason="unpaid")], [call(1)]))
    pressed(state, "tab", "u")  # the key of a call
    assert state.question is not None
    assert "resume acme (suspended: unpaid)" in state.question.text
    act = state.press("y")
    assert isinstance(act, Act)
    assert (act.op, act.arguments) == ("keys.resume", {"key": "acme"})


@pytest.mark.parametrize(
    ("op", "given", "words"),
    [
        ("calls.release", {"hangup": True}, "hung up"),
        ("calls.release", {"hangup": False, "freed": {"lines": 2}}, "released: lines × 2"),
        ("calls.release", {"hangup": False, "freed": {}}, "released: nothing, it held no lines"),
        ("keys.resume", {"key": "acme", "was": "suspended"}, "acme: resumed; it was suspended"),
        ("keys.suspend", {"key": "acme", "calls_ended": 2}, "2 that waited refused"),
    ],
)
def test_what_was_done_is_said(op: str, given: Row, words: str) -> None:
    assert words in done_words(Act(op, {}, ""), given)


def test_a_gate_that_was_away_or_is_another_is_told() -> None:
    state = state_of()
    assert state.note == ""
    state.away = "no gate"
    state.take(answer([]))
    assert "answers again" in state.note
    assert state.away == ""
    state.say("")
    state.take(answer([], pid=77))
    assert "process 77" in state.note


# -- bytes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        *((sequence.encode(), [name]) for sequence, name in NAMES.items() if sequence != "\x1b"),
        (b"jk", ["j", "k"]),
        ("é全".encode(), ["é", "全"]),
        (b"\x1b[1;5Aq", ["q"]),  # Ctrl-Up
        (b"\x1by", []),  # Alt-y is no yes
        (b"\x1b[200~", []),
        (b"\x1b\x1b[A", ["escape", "up"]),
        (b"\xffq", ["\ufffd", "q"]),
    ],
)
def test_bytes_are_keys_however_they_are_cut(data: bytes, keys: list[str]) -> None:
    assert list(Decoder().feed(data)) == keys
    decoder = Decoder()
    assert [one for byte in data for one in decoder.feed(bytes([byte]))] == keys


def test_escape_is_a_key_when_nothing_follows() -> None:
    decoder = Decoder()
    assert list(decoder.feed(b"\x1b")) == []
    assert decoder.waits
    assert list(decoder.flush()) == ["escape"]
    assert not decoder.waits
    assert list(decoder.feed(b"\x1b[")) == []
    assert list(decoder.flush()) == []
    assert list(decoder.feed(b"\x1b[" + b"1" * 500)) != []  # not kept for ever
