"""`callgate top` on a real terminal, over a running gate with a call."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from tests.e2e.gate import Gate, until
from tests.e2e.net import FORBIDDEN, NUMBER, Net
from tests.e2e.phone import Leg, establish
from tests.e2e.screen import Screen
from tests.e2e.test_control import change, command, shown

DOWN, TAB, ENTER, ESCAPE, CTRL_C, CTRL_Z = "\x1b[B", "\t", "\r", "\x1b", "\x03", "\x1a"


def top(net: Net, gate: Gate, *words: str, **how: Any) -> Screen:
    told = [sys.executable, "-m", "callgate", "top", "-c", str(gate.file), *words]
    return net.add(Screen(told, **how))


def test_an_operator_at_his_terminal(net: Net) -> None:
    """A call is seen, its lines released, hung up; a key is suspended and resumed; what is refused says why; the audit
    log has who did it; the terminal is left as it was."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, limits={"outbound_cps": None, "outbound_calls": 5}).run()
    out, into = establish(pbx, gate.address, NUMBER, carrier)
    (call,) = shown(gate, "calls", "list")
    screen = top(net, gate, "--interval", "0.2", width=120, height=30)
    screen.line("acme", "1/5")
    assert screen.modes() != screen.before
    screen.line("carrier", carrier.uri.removeprefix("sip:"), "up")
    screen.line("acme", "out", NUMBER, "up")

    screen.press(TAB, "r")
    screen.line("release the lines of the outbound call of acme", NUMBER, "(y/n)")
    screen.press("n")
    screen.line("nothing was done")
    screen.press(ENTER)
    screen.line("INVITE has come")  # as `explain` tells it
    screen.line("passes: C2 1/5")
    screen.press(ESCAPE)
    screen.gone("INVITE has come")
    screen.press("r", "y")
    screen.line("released: outbound_calls")
    screen.line("acme", "0/5")
    assert shown(gate, "calls", "list")[0]["lines"] == {}

    forbidden = Leg.call(pbx, gate.address, FORBIDDEN)
    forbidden.ack(pbx.expect(403, "INVITE", forbidden.call_id))
    screen.line("acme", "out", FORBIDDEN, "K-X2", "403")

    screen.press("h", "y")
    for side in (out, into):
        side.answer(200, side.endpoint.expect("BYE", call_id=side.call_id))
    screen.line("hung up")
    screen.gone("acme", NUMBER, "up")

    screen.press("u")  # no call is left, and so no key
    screen.line("choose a key first")
    screen.press("\x1b[Z", "u")
    screen.line("suspend acme; the PBX is told the reason:")
    screen.press("unpaid", ENTER)
    screen.line("suspend acme until it is resumed, reason: unpaid", "(y/n)")
    screen.press("y")
    screen.line("acme", "SUSPENDED")
    (key,) = shown(gate, "keys", "list")
    assert (key["state"], key["reason"]) == ("suspended", "unpaid")
    refused = Leg.call(pbx, gate.address, NUMBER)
    refused.ack(pbx.expect(403, "INVITE", refused.call_id))
    screen.line(NUMBER, "V9", "403", "unpaid")
    screen.press("u", "y")
    screen.line("acme: resumed")
    screen.line("acme", "ok")
    assert shown(gate, "keys", "list")[0]["state"] == "active"

    screen.press("q")
    assert screen.wait() == 0
    until(screen.restored, "the terminal as it was")
    done = [(line["what"], line["target"]) for line in shown(gate, "audit")]
    mine = [line for line in shown(gate, "audit") if f"pid {screen.pid})" in line["who"]]
    assert [line["what"] for line in mine] == ["release", "release", "suspend", "resume"], done
    assert mine[0]["target"] == call["call_id"]


def test_a_terminal_is_left_as_it_was(net: Net) -> None:
    """Whatever ends it or holds it up: the gate goes and comes back, a smaller window, Ctrl-Z, SIGTERM, Ctrl-C.
    Colours are not needed."""
    gate = net.gate(net.pbx(), net.carrier()).run()
    screen = top(net, gate, "--interval", "0.2", env={"NO_COLOR": "1"})
    screen.line("acme", "0/")
    assert b"\x1b[3" not in screen.written
    screen.press("?")
    screen.line("suspend the row's key, or resume it (V9)")
    screen.press("x")
    screen.resize(50, 10)
    screen.line("is too small")
    screen.resize(80, 24)
    screen.line("acme", "0/")

    gate.signal(signal.SIGKILL)
    gate.wait()
    screen.line("no gate is running")
    screen.line("acme", "0/")
    gate.run()
    screen.line("the gate answers again")

    screen.press(CTRL_Z)
    until(screen.stopped, "stopped by Ctrl-Z")
    until(screen.restored, "the shell's terminal")
    os.kill(screen.pid, signal.SIGCONT)
    until(lambda: not screen.restored(), "its own screen again")
    screen.press("/zzz", ENTER)
    screen.line("none that match")
    os.kill(screen.pid, signal.SIGTERM)
    assert screen.wait() == 0
    until(screen.restored, "the terminal after SIGTERM")

    second = top(net, gate)
    second.line("acme", "0/")
    second.press(CTRL_C)
    assert second.wait() == 0
    until(second.restored, "the terminal after Ctrl-C")


def test_without_a_terminal(net: Net) -> None:
    """One picture, or its data; without a gate, why not."""
    gate = net.gate(net.pbx(), net.carrier())
    assert "no gate is running" in command(gate, "top", code=1).stderr
    gate.run()
    picture = command(gate, "top").stdout
    assert "\x1b" not in picture
    assert "acme" in picture
    (data,) = shown(gate, "top")
    assert data["gate"]["state"] == "ready"
    assert [row["key"] for row in data["keys"]["rows"]] == ["acme"]
    assert "0.2" in command(gate, "top", "--interval", "0", code=2).stderr
    change(gate, state_dir=None)
    gate.file.write_text(gate.file.read_text() + "\nstate_dir: null\n")
    assert "`state_dir` is null" in command(gate, "top", code=2).stderr
