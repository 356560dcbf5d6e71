"""The arithmetic of a demo's summary, and how its boards and lines look."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from callgate.sim import view
from callgate.sim.board import Board, Crash, Refused, Summary, look, summarise
from callgate.sim.call import Call
from callgate.sim.carrier import Carrier
from callgate.sim.meter import SECOND, Breach, Contract
from callgate.sim.pbx import Pbx, Told
from callgate.sim.plan import Offer


def played(passed: int = 6) -> tuple[Pbx, Carrier]:
    """Ten ordinary offers, one every 200 ms, `passed` of them taken on; one forbidden; four inbound."""
    pbx, carrier = Pbx(), Carrier(Contract(calls_per_second=3, inbound_calls=2))
    for i in range(10):
        told = Told(Offer(i / 5, "0312345678", False, 1.0, None), b"call-%d" % i, i * SECOND // 5, 200)
        if i < passed:
            carrier.taken.add(told.call_id)
        else:
            told.code, told.rule, told.value, told.limit = 503, "V1", "4", "3"
        pbx.told.append(told)
    pbx.told.append(Told(Offer(1, "110", True, 1.0, None), b"forbidden", SECOND, 503, "K-X1+EMG"))
    carrier.brought, carrier.allowed = 4, 2
    for i in range(4):
        call = Call(True, b"in-%d" % i, b"sip:1@h", b"<sip:2@h>;tag=1", b"", b"", ("", 0), code=200)
        carrier.inbound.append(call)
        if i < 2:
            pbx.received.add(call.call_id)
        else:
            call.code = 486
    return pbx, carrier


def test_summary_of_a_kept_contract() -> None:
    pbx, carrier = played()
    end = summarise(pbx, carrier, seconds=2.0, gated=True)
    # An exact window of 1.03 s: 0, 0.2, 0.4, then 1.2, 1.4, 1.6 (1.0 is too early). Two inbound calls.
    assert (end.passed, end.allowed) == (6 + 2, 6 + 2)
    assert (end.share, end.ok, end.breaches) == (1.0, True, 0)
    assert (end.offered, end.forbidden, end.inbound_offered, end.unanswered) == (10, 1, 4, 0)
    assert end.refused == (
        Refused("V1", 4, 503, "4", "3"),
        Refused("V3", 2, 486, "3", "2"),
        Refused("K-X1+EMG", 1, 503, "", ""),
    )
    text = view.summary(end)
    assert "breaches: 0" in text
    assert "passed: 8 of 8 allowed (100.0 %)" in text
    assert "      4  V1        outbound calls in one second, last 4/3" in text
    assert view.verdict(end) == "exit 0: the contract was kept, and used"


def test_too_few_passed_calls_fail() -> None:
    pbx, carrier = played(passed=5)
    end = summarise(pbx, carrier, seconds=2.0, gated=True)
    assert (end.passed, end.allowed, end.ok) == (7, 8, False)
    assert "passed: 7 of 8 allowed (87.5 %)" in view.summary(end)
    assert view.verdict(end) == "exit 1: less than 97 % of the allowed calls passed"


def test_a_breach_fails_whatever_passed() -> None:
    pbx, carrier = played()
    for at in (1, 2, 3, 4):
        carrier.opinion.saw_call(at, "0312345678", "")
    end = summarise(pbx, carrier, seconds=2.0, gated=True)
    assert (end.share, end.breaches, end.ok) == (1.0, 1, False)
    assert "breaches: 1" in view.summary(end)
    assert view.verdict(end) == "exit 1: the contract was broken"
    assert "expected without the gate" in view.verdict(replace(end, gated=False))


def test_a_call_without_an_answer_fails() -> None:
    pbx, carrier = played()
    pbx.told[0].code = 408
    end = summarise(pbx, carrier, seconds=2.0, gated=True)
    assert (end.unanswered, end.ok) == (1, False)
    assert "calls without an answer: 1" in view.summary(end)


def test_nothing_allowed_shows_nothing() -> None:
    end = summarise(Pbx(), Carrier(), seconds=2.0, gated=True)
    assert (end.allowed, end.share, end.ok) == (0, 0.0, False)


def test_a_gate_that_was_killed() -> None:
    """What was offered while there was none is not asked of it; a call that nobody could hang up is."""
    pbx, carrier = played()
    up = [Call(True, b"up-%d" % i, b"sip:1@h", b"<sip:2@h>;tag=1", b"", b"", ("", 0)) for i in (1, 1, 2)]
    crash = Crash(SECOND, up, back_at=10 * SECOND)
    end = summarise(pbx, carrier, seconds=2.0, gated=True, crash=crash)
    assert (end.allowed, end.ok) == (3 + 2, True)  # of 0, 0.2 and 0.4 s
    assert "killed with -9 while 2 calls were up; they went on 9.0 s later, lost: 0" in view.summary(end)
    up[0].bye_code, up[2].bye_code = 200, 481
    assert (crash.lost, end.ok) == (1, False)
    assert view.verdict(end) == "exit 1: calls were lost when the gate was killed"


def test_who_waits_and_what_is_forwarded() -> None:
    pbx, carrier = played()
    carrier.came = {b"call-%d" % i: i * SECOND // 5 + (i == 3) * SECOND for i in range(6)}
    carrier.taken.add(b"made by the gate")
    pbx.deflected = {b"in-0": SECOND, b"in-1": 2 * SECOND}
    end = summarise(pbx, carrier, seconds=2.0, gated=True)
    assert (end.waited, end.longest, end.forwarded, end.forwards) == (1, 1.0, 1, 2)
    assert end.passed == 6 + 1 + 2
    assert "waited for their turn: 1 calls, 1.0 s at most" in view.summary(end)
    assert "forwarded to telephone numbers (302): 1 of 2" in view.summary(end)


@pytest.mark.parametrize(("passed", "ok"), [(97, True), (96, False), (100, True), (103, True)])
def test_the_share_that_is_enough(passed: int, ok: bool) -> None:
    end = Summary(True, 1.0, 0, 0, 0, passed, 100, (), 0, None, 3, 0, 0)
    assert end.ok is ok


def drawn(board: Board, width: int = 100) -> str:
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(view.live(board))
    return console.export_text()


BOARD = Board(
    elapsed=8.2,
    seconds=15,
    phase="overload",
    gated=True,
    contract=Contract(3, 8),
    offered=270,
    passed=25,
    inbound_offered=17,
    inbound_passed=14,
    refused=[Refused("V1", 220, 503, "4", "3"), Refused("K-X2", 12, 403), Refused("V3", 3, 486, "9", "8")],
    outbound_up=6,
    inbound_up=7,
    window=2,
    worst=3,
    history=[3, 3, 0, 2],
)


def test_live_view_of_a_kept_contract() -> None:
    text = drawn(BOARD)
    rows = [line.strip("│ ").split() for line in text.splitlines()]
    assert "CallGate demo: 8.2 of 15 s, overload" in text
    assert ["outbound", "270", "25", "6"] in rows
    assert ["inbound", "17", "14", "7/8"] in rows
    assert ["220", "V1", "4/3", "503", "outbound", "calls", "in", "one", "second"] in rows
    assert ["12", "K-X2", "403", "0120,", "0570", "and", "their", "like"] in rows
    assert ["calls", "in", "the", "last", "second", "2/3", "■■□"] in rows
    assert ["over", "time", "▄▄▁▃"] in rows
    assert ["its", "opinion", "no", "breach"] in rows
    assert "\nCallGate" not in view.line(BOARD)
    assert "refused V1 220, K-X2 12, V3 3" in view.line(BOARD)


def test_live_view_of_a_suspended_account() -> None:
    board = replace(
        BOARD,
        gated=False,
        refused=[],
        suspended_answers=63,
        worst=40,
        breaches=70,
        first=Breach("V1", 4, 3, 0.2, "calls within one second"),
    )
    text = drawn(board)
    assert "the same load without CallGate" in text
    assert "SUSPENDED after 0.20 s: V1 4/3, calls within one second" in text
    assert "Account suspended (the carrier)" in text
    assert "carrier: SUSPENDED after 0.20 s" in view.line(board)


def test_everything_fits_a_terminal_of_80_columns() -> None:
    assert all(
        len(line) <= 80 for line in drawn(replace(BOARD, worst=500, history=[9] * 200), 80).splitlines()
    )


def test_marks_are_red_only_above_the_limit() -> None:
    text = view.marks([0, 3, 4], limit=3)
    assert [str(span.style) for span in text.spans] == ["bright_black", "green", "red"]


def test_look_counts_what_the_agents_hold() -> None:
    pbx, carrier = played()
    pbx.told[9].code = 0
    carrier.opinion.began = SECOND
    carrier.opinion.saw_call(SECOND, "0312345678", "")
    board = look(pbx, carrier, now=2 * SECOND - 1, elapsed=1.0, seconds=2.0, phase="overload", gated=True)
    assert (board.offered, board.passed, board.waiting) == (11, 6, 1)
    assert (board.inbound_offered, board.inbound_passed) == (4, 2)
    assert (board.window, board.worst, board.history) == (1, 1, [1, 1])
    assert (board.breaches, board.first) == (0, None)
