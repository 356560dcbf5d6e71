"""The life of the process: start, drain, stop, crash, start anew."""

from __future__ import annotations

from tests.e2e.net import NUMBER, Net
from tests.e2e.phone import establish, request_and_answer


def test_smoke(net: Net) -> None:
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    out, into = establish(pbx, gate.address, NUMBER, carrier)
    request_and_answer(out, into, "BYE")
    print(gate.line("call"))
    gate.settle("calls_active", 0.0)
    assert gate.metrics().get("calls_total", outcome="answered") == 1
    assert gate.stop() == 0
