"""The demo on a terminal: a live board, plain lines where there is none, and the summary."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from callgate.sim.bars import bar, marks
from callgate.sim.board import ENOUGH, Board, Refused, Summary
from callgate.sim.meter import SECOND

WHAT = {
    "V1": "outbound calls in one second",
    "V3": "inbound calls at once",
    "I1": "recorded calls at once",
    "V4": "lines or forwards",
    "K-X1": "three-digit numbers",
    "K-X1+EMG": "emergency numbers",
    "K-X2": "0120, 0570 and their like",
    "K-X3": "other carriers' prefixes",
}
"""What a rule of the demo is about, in a few words."""


def live(board: Board) -> RenderableType:
    """The board as two panels."""
    title = "CallGate demo" if board.gated else "the same load without CallGate"
    clock = f"{min(board.elapsed, board.seconds):.1f} of {board.seconds:g} s, {board.phase}"
    colour = "red" if board.breaches else "green"
    return Group(
        Panel(_traffic(board), title=f"{title}: {clock}", title_align="left", border_style="blue"),
        Panel(_carrier(board), title="at the carrier", title_align="left", border_style=colour),
    )


def _traffic(board: Board) -> RenderableType:
    head = Table.grid(padding=(0, 2))
    head.add_row("", Text("offered", "bold"), Text("passed", "bold"), Text("up now", "bold"))
    head.add_row("outbound", str(board.offered), str(board.passed), str(board.outbound_up))
    head.add_row(
        "inbound",
        str(board.inbound_offered),
        str(board.inbound_passed),
        f"{board.inbound_up}/{board.contract.inbound_calls}",
    )
    head.add_row("forwarded", str(board.forwards), str(board.forwarded), "")
    turn = f"{board.waiting} wait for their turn; {board.waited} have waited, {board.longest:.1f} s at most"
    rules = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    for name in ("refused", "rule", "last", "answer", "what"):
        rules.add_column(name, justify="right" if name in ("refused", "last") else "left", no_wrap=True)
    for row in board.refused:
        rules.add_row(str(row.count), row.rule, _against(row), str(row.code), WHAT.get(row.rule, ""))
    if board.suspended_answers:
        rules.add_row(str(board.suspended_answers), "-", "", "403", "Account suspended (the carrier)")
    return Group(head, Text(turn if board.gated else ""), Text(), rules)


def _carrier(board: Board) -> RenderableType:
    limit = board.contract.calls_per_second
    grid = Table.grid(padding=(0, 2))
    grid.add_row("calls in the last second", f"{board.window}/{limit}", bar(board.window, limit))
    grid.add_row("fullest second so far", f"{board.worst}/{limit}", bar(board.worst, limit))
    grid.add_row("over time", "", marks(board.history, limit))
    grid.add_row("its opinion", "", Text(opinion(board), "bold red" if board.breaches else "bold green"))
    return grid


def opinion(board: Board) -> str:
    """What the carrier thinks, in one line."""
    if board.first is None:
        return "no breach"
    return f"SUSPENDED after {board.first.at:.2f} s: {board.first}"


def line(board: Board) -> str:
    """The board as one plain line."""
    refused = ", ".join(f"{row.rule} {row.count}" for row in board.refused) or "none"
    limit = board.contract.calls_per_second
    return (
        f"{board.elapsed:4.0f} s  {board.phase}: offered {board.offered} passed {board.passed}"
        f" | inbound {board.inbound_offered} passed {board.inbound_passed}"
        f" | forwarded {board.forwarded} of {board.forwards} | waiting {board.waiting}"
        f" | refused {refused} | up {board.outbound_up} out, {board.inbound_up} in"
        f" | fullest second {board.worst}/{limit} | carrier: {opinion(board)}"
    )


def _against(row: Refused) -> str:
    return f"{row.value}/{row.limit}" if row.value and row.limit else row.value


def summary(end: Summary) -> list[str]:
    """The last lines of a demo."""
    out = [
        f"offered in {end.seconds:g} s: outbound {end.offered}, to forbidden numbers {end.forbidden},"
        f" inbound {end.inbound_offered}",
        f"breaches: {end.breaches}",
        f"passed: {end.passed} of {end.allowed} allowed ({100 * end.share:.1f} %)",
        f"fullest second at the carrier: {end.worst} calls",
    ]
    if end.gated:
        out.append(f"waited for their turn: {end.waited} calls, {end.longest:.1f} s at most")
        out.append(f"forwarded to telephone numbers (302): {end.forwarded} of {end.forwards}")
    if end.crash is not None:
        away = (end.crash.back_at - end.crash.at) / SECOND
        out.append(
            f"killed with -9 while {end.crash.calls} calls were up; they went on {away:.1f} s later,"
            f" lost: {end.crash.lost}"
        )
    if end.refused:
        out.append("never let through:")
        out += [
            f"  {row.count:5d}  {row.rule:<9} {WHAT.get(row.rule, '')}"
            + (f", last {_against(row)}" if _against(row) else "")
            for row in end.refused
        ]
    if end.first is not None:
        out.append(
            f"the carrier suspended the account {end.first.at:.2f} s after the first call: {end.first}"
        )
        out.append(f"calls it then turned away with 403 Account suspended: {end.suspended_answers}")
    if end.unanswered:
        out.append(f"calls without an answer: {end.unanswered}")
    if end.faults:
        out.append(f"noticed on the wire: {end.faults[0]} ({len(end.faults)} in all)")
    return out


def verdict(end: Summary) -> str:
    """Why the exit code is what it is."""
    if not end.gated and end.breaches:
        return "exit 1: the contract was broken, as was to be expected without the gate"
    if end.breaches:
        return "exit 1: the contract was broken"
    if end.share < ENOUGH:
        return f"exit 1: less than {100 * ENOUGH:.0f} % of the allowed calls passed"
    if end.crash is not None and end.crash.lost:
        return "exit 1: calls were lost when the gate was killed"
    if end.unanswered:
        return "exit 1: some calls got no answer"
    return "exit 0: the contract was kept, and used"


def go_on(gated: bool) -> list[str]:
    """What to type next."""
    if not gated:
        return ["The same load with the gate between them:", "  callgate demo"]
    return [
        "Go on with a contract of your own:",
        "  callgate check -c config/callgate.yaml               what each key's contract comes to",
        "  callgate dial  -c config/callgate.yaml 0120123456    what would become of a number",
        "  callgate run   -c config/callgate.yaml               the gate itself",
    ]
