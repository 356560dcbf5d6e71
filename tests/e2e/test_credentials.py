"""A trunk that wants a password and a registration: the real program against Kamailio, whose digest and registrar are
another's."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from tests.e2e.gate import Gate
from tests.e2e.kamailio import PASSWORD, REALM, USER, Kamailio
from tests.e2e.net import DID, NUMBER, Net
from tests.e2e.phone import SDP, Leg, Message, Udp, request_and_answer, wire

AOR = f"sip:main@{REALM}"


def trunk(**more: Any) -> dict[str, Any]:
    """What the trunk is configured with."""
    account = {"username": USER, "password": PASSWORD} | more
    return {"credentials": account, "register": {"aor": AOR, "expires": 3600}}


def kamailio(net: Net, callee: Udp, algorithm: str = "MD5") -> Kamailio:
    return net.add(Kamailio(net.folder, net.host(3), callee.address, algorithm)).start()


def calls(pbx: Udp, gate: Gate, callee: Udp) -> tuple[Leg, Leg]:
    """A call out is up; its callee has seen no password of the gate."""
    out = Leg.call(pbx, gate.address, NUMBER)
    invite = callee.expect("INVITE", call_id=out.call_id)
    assert not [name for name, _ in invite.headers if name.endswith("authorization")]
    into = Leg.answering(callee, invite)
    into.answer(180)
    pbx.expect(180, call_id=out.call_id)
    into.answer(200, body=SDP)
    answer = pbx.expect(200, "INVITE", out.call_id)
    assert answer.get("cseq") == "1 INVITE"
    out.ack(answer)
    ack = callee.expect("ACK", call_id=out.call_id)
    assert ack.get("cseq").split()[0] == invite.get("cseq").split()[0] == "2"
    return out, into


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
def test_calls_and_registers_with_a_password(net: Net, algorithm: str) -> None:
    """Every request is challenged: INVITE, re-INVITE, BYE, REGISTER; the PBX knows nothing of it."""
    pbx, callee = net.pbx(), net.udp(4)
    carrier = kamailio(net, callee, algorithm)
    gate = net.gate(pbx, carrier.uri, trunk=trunk(realm=REALM)).run()
    gate.settle("registered", 1.0, trunk="carrier")

    out, into = calls(pbx, gate, callee)
    out.send("INVITE")
    again = callee.expect("INVITE", call_id=out.call_id)
    assert again.get("cseq") == "4 INVITE"
    into.answer(200, again, SDP)
    answer = pbx.expect(200, "INVITE", out.call_id)
    assert answer.get("cseq") == "2 INVITE"
    out.ack(answer)
    assert callee.expect("ACK", call_id=out.call_id).get("cseq") == "4 ACK"
    assert request_and_answer(into, out, "INFO").get("cseq") == "1 INFO"
    request_and_answer(out, into, "BYE")
    assert gate.line("call", call_id=out.call_id)["outcome"] == "answered"

    inbound = called(callee, carrier)
    invite = pbx.expect("INVITE", call_id=inbound.call_id)
    assert invite.uri.startswith("sip:main@")
    answering = Leg.answering(pbx, invite)
    answering.answer(200, body=SDP)
    inbound.ack(callee.expect(200, "INVITE", inbound.call_id))
    pbx.expect("ACK", call_id=inbound.call_id)
    assert request_and_answer(answering, inbound, "BYE").get("cseq") == "1 BYE"  # the trunk has seen 2

    assert gate.stop() == 0
    late = called(callee, carrier)
    assert callee.final("INVITE", late.call_id).code == 404
    assert PASSWORD not in gate.said()
    assert {line["rule"] for line in gate.lines("alert.raised")} <= {"loop-lag"}  # of a busy machine


def called(callee: Udp, carrier: Kamailio) -> Leg:
    """A call in, to whoever is registered as `main`; the DID stands in To."""
    leg = Leg.prepare(callee, carrier.address, "main")
    leg.remote = f"<sip:{DID}@{REALM}>"
    leg.invite = Message(leg.request("INVITE", body=SDP))
    leg.again()
    return leg


def test_a_wrong_password(net: Net) -> None:
    """The PBX gets a 403 that says why; people are told; the password is in no log."""
    pbx, callee = net.pbx(), net.udp(4)
    carrier = kamailio(net, callee)
    gate = net.gate(pbx, carrier.uri, trunk=trunk(password="hunter2")).run()
    alert = gate.line("alert.raised", rule="trunk-register")
    assert (alert["trunk"], alert["severity"]) == ("carrier", "critical")
    out = Leg.call(pbx, gate.address, NUMBER)
    answer = pbx.final("INVITE", out.call_id)
    assert answer.code == 403
    assert "credentials" in answer.get("warning")
    out.ack(answer)
    assert gate.line("alert.raised", rule="trunk-credentials")["trunk"] == "carrier"
    assert gate.line("call", call_id=out.call_id)["final_code"] == 403
    assert gate.metrics().get("registered", trunk="carrier") == 0.0
    assert not callee.arrived()
    assert gate.stop() == 0
    assert "hunter2" not in gate.said()


def test_a_registrar_that_does_not_answer_at_the_end(net: Net) -> None:
    """The end waits for it a few seconds, and no longer; a second SIGTERM waits not at all."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, trunk={"register": {"aor": AOR}}).run()
    register = carrier.expect("REGISTER")
    headers = [(name, register.get(name)) for name in ("via", "from", "call-id", "cseq", "contact")]
    headers.append(("to", register.get("to") + ";tag=r"))
    carrier.send(wire("SIP/2.0 200 OK", headers), register.source)
    gate.settle("registered", 1.0, trunk="carrier")
    gate.signal(signal.SIGTERM)
    carrier.find(lambda m: m.start.startswith("REGISTER ") and m.get("expires") == "0", "the last REGISTER")
    assert gate.running
    gate.signal(signal.SIGTERM)
    assert gate.wait() == 0
