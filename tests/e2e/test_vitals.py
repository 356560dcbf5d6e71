"""Calls that nobody ends, through the running program: a PBX that is gone, one that has started anew, one that lives;
and a PBX behind NAT that is asked where its messages come from."""

from __future__ import annotations

from tests.e2e.net import DID, NUMBER, UNLIMITED, Net
from tests.e2e.phone import Leg, Udp, establish, request_and_answer

PROBE = {"interval_seconds": 1.0, "misses": 2, "gap_seconds": 0.7}
PATIENT = {**PROBE, "misses": 10, "gap_seconds": 2.0}
"""For sides that live: a slow machine kills none of them."""


def answers(leg: Leg, code: int) -> None:
    """The question whether it still lives gets this answer."""
    asked = leg.endpoint.expect("OPTIONS", call_id=leg.call_id)
    assert ";tag=" in asked.get("to")
    leg.answer(code, asked)


def test_a_pbx_that_is_gone(net: Net) -> None:
    """Its port is closed: the carrier hears it from the gate, and the line is free with a reason."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, probe=PROBE).run()
    out, into = establish(pbx, gate.address, NUMBER, carrier)
    pbx.close()
    answers(into, 200)
    into.answer(200, carrier.expect("BYE", call_id=out.call_id))
    line = gate.line("call", call_id=out.call_id)
    assert (line["outcome"], line["ended_by"]) == ("answered", "gate")
    assert line["reason"] == "the PBX did not answer 2 probes"
    gate.settle("calls_active", 0.0)
    gate.settle("calls_reaped_total", 1.0, key="acme", reason="probe_silence")


def test_a_pbx_that_has_started_anew(net: Net) -> None:
    """It says 481 to everything; an inbound call, so that the caller gets the BYE."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, probe=PROBE).run()
    out, into = establish(carrier, gate.address, DID, pbx)
    answers(into, 481)
    out.answer(200, carrier.expect("BYE", call_id=out.call_id))
    line = gate.line("call", call_id=out.call_id)
    assert line["reason"] == "the PBX knows the call no more (481 to a probe)"
    gate.settle("calls_active", 0.0)


def test_a_call_that_lives(net: Net) -> None:
    """Question after question, whatever is answered; its own BYE is not stale afterwards."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, probe=PATIENT).run()
    out, into = establish(pbx, gate.address, NUMBER, carrier)
    for code in (200, 500, 405):
        answers(into, code)
        answers(out, code)
    assert gate.metrics().get("calls_active", direction="outbound") == 1.0
    request_and_answer(out, into, "BYE")
    line = gate.line("call", call_id=out.call_id)
    assert "reason" not in line
    assert line["ended_by"] == "caller"


def test_a_pbx_behind_nat(net: Net) -> None:
    """Contact and Via name an address of a network that the gate can't reach; everything goes where it comes from, also
    when the port changes in the middle of the call."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, limits=UNLIMITED, probe=PATIENT).run()
    out, into = establish(pbx, gate.address, NUMBER, carrier, contact="sip:pbx@10.255.255.1:5062")
    request_and_answer(into, out, "INFO")
    answers(out, 200)
    other = net.add(Udp(pbx.address[0]))
    pbx.close()
    out.on(other)
    request_and_answer(out, into, "INFO")
    request_and_answer(into, out, "BYE")
    assert gate.line("call", call_id=out.call_id)["ended_by"] == "callee"
