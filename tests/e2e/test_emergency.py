"""The emergency route and the consent list in the running gate; SIPp is what the emergency calls reach."""

from __future__ import annotations

import signal

from tests.e2e.net import NUMBER, Net
from tests.e2e.phone import Leg, establish, request_and_answer
from tests.e2e.sipp import Sipp


def test_an_emergency_call_reaches_its_route(net: Net) -> None:
    """With no token to be had; SIPp hangs up in the end. The trunk hears nothing of it."""
    pbx, carrier = net.pbx(), net.carrier()
    route = net.add(Sipp(net.folder, "uas-answers", net.host(5))).start()
    gate = net.gate(
        pbx,
        carrier,
        trunk={"emergency_route": route.uri},
        limits={"outbound_cps": 0, "outbound_calls": 0},
    ).run()
    ordinary = Leg.call(pbx, gate.address, NUMBER)
    ordinary.ack(pbx.expect(503, "INVITE", ordinary.call_id))
    leg = Leg.call(pbx, gate.address, "119")
    leg.ack(pbx.expect(200, "INVITE", leg.call_id))
    leg.send("BYE")
    pbx.expect(200, "BYE", leg.call_id)
    assert route.done()["SuccessfulCall"] == 1
    line = gate.line("call", call_id=leg.call_id)
    assert (line["verdict"], line["outcome"], line["class"]) == ("passed", "answered", "emergency")
    assert line["gateway"] == route.uri
    alert = gate.line("alert.raised", rule="K-X1+EMG")
    assert (alert["severity"], alert["dialled"]) == ("critical", "119")
    gate.settle("emergency_calls_total", 1.0, verdict="passed")
    gate.settle("trunk_up", 1.0, gateway=route.uri)


def test_the_consent_list_is_read_again(net: Net) -> None:
    """SIGHUP, while a call is up; a list with a fault changes nothing."""
    pbx, carrier = net.pbx(), net.carrier()
    agreed = net.folder / "agreed.txt"
    agreed.write_text("0312345678\n")
    gate = net.gate(pbx, carrier, key={"consent": "agreed.txt"}).run()
    up, into = establish(pbx, gate.address, "0312345678", carrier)

    def refused(number: str) -> None:
        leg = Leg.call(pbx, gate.address, number)
        leg.ack(pbx.expect(403, "INVITE", leg.call_id))
        assert gate.line("call", call_id=leg.call_id)["rule"] == "T14"

    refused("0312345679")
    agreed.write_text("0312345679\nalice\n")
    gate.signal(signal.SIGHUP)
    assert "line 2" in gate.line("callgate reload refused")["reason"]
    refused("0312345679")
    agreed.write_text("0312345679\n")
    gate.signal(signal.SIGHUP)
    assert gate.line("callgate reloaded")["consents"] == {"acme": 1}
    refused("0312345678")
    request_and_answer(up, into, "BYE")
    request_and_answer(*establish(pbx, gate.address, "0312345679", carrier), "BYE")
