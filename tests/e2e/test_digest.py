"""Digest users, a secret header and the throttle in the running program: SIPp and raw phones that nobody knows by their
address."""

from __future__ import annotations

from typing import Any

import pytest
from tests.e2e.gate import Gate
from tests.e2e.net import DID, NUMBER, UNLIMITED, Net
from tests.e2e.phone import SDP, Endpoint, Leg, Message, ask, request_and_answer
from tests.e2e.sipp import Sipp
from tests.proxy.callers import credentials, params

PASSWORD = "a-password-nobody-may-read"
SECRET = "a-header-nobody-may-read"
USERS = [{"username": "bob", "password": PASSWORD}]


def gate_of(net: Net, carrier: Endpoint | Sipp, key: dict[str, Any] | None = None, **top: Any) -> Gate:
    """A gate whose key `acme` is known by its digest users, or as `key` has it."""
    keys = {"acme": {"limits": UNLIMITED, **({"digest": USERS} if key is None else key)}}
    return net.add(
        Gate(net.folder, net.host(1), trunks={"carrier": {"gateways": [carrier.uri]}}, keys=keys, **top)
    )


def shown(asked: Message, request: Message, **how: str) -> tuple[str, str]:
    """The header that answers a challenge."""
    name = "www-authenticate" if asked.code == 401 else "proxy-authenticate"
    challenge = params(asked.get(name))
    line = credentials(challenge, request.method, request.uri, **{"password": PASSWORD, **how})
    name, _, value = line.partition(": ")
    return name, value


def calls(phone: Endpoint, gate: Gate, carrier: Endpoint, **how: str) -> tuple[Leg, Leg, Message]:
    """A call that is up, after its challenge; both legs, and the INVITE that the carrier got."""
    out = Leg.call(phone, gate.address, NUMBER)
    asked = phone.expect(407, "INVITE", out.call_id)
    out.ack(asked)
    assert out.invite is not None
    out.invite = Message(out.request("INVITE", headers=(shown(asked, out.invite, **how),), body=SDP))
    out.again()
    invite = carrier.expect("INVITE", call_id=out.call_id)
    into = Leg.answering(carrier, invite)
    into.answer(200, body=SDP)
    out.ack(phone.expect(200, "INVITE", out.call_id))
    carrier.expect("ACK", call_id=out.call_id)
    return out, into, invite


def nothing_leaks(gate: Gate) -> None:
    said = gate.said()
    assert PASSWORD not in said
    assert SECRET not in said
    assert not gate.lines("internal error")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_sipp_calls_with_its_password(net: Net, transport: str) -> None:
    """SIPp's own digest, MD5, over UDP and TCP: as many calls as it was told, each challenged once."""
    carrier = net.add(Sipp(net.folder, "uas-answers", net.host(3), calls=5)).start()
    gate = gate_of(net, carrier, digest={"algorithms": ["MD5"]}).run()
    phone = Sipp(
        net.folder,
        "uac-shows-a-password",
        net.host(9),
        transport=transport,
        to=gate.address,
        number=NUMBER,
        calls=5,
        login=("bob", PASSWORD),
    )
    net.add(phone).start()
    for side in (phone, carrier):
        assert side.done()["SuccessfulCall"] == 5
    gate.settle("calls_active", 0.0)
    metrics = gate.metrics()
    assert metrics.get("calls_total", key="acme", outcome="answered") == 5
    assert metrics.get("rejected_messages_total", reason="no credentials") == 5
    nothing_leaks(gate)


def test_a_phone_calls_with_its_password(net: Net) -> None:
    """SHA-256, over UDP and TCP; what it shows goes no further, and its BYE is not challenged."""
    carrier = net.carrier()
    gate = gate_of(net, carrier).run()
    for phone in (net.udp(9), net.stream(gate, 9)):
        out, into, invite = calls(phone, gate, carrier)
        assert not invite.get("proxy-authorization")
        request_and_answer(out, into, "INFO")
        request_and_answer(into, out, "UPDATE")
        request_and_answer(out, into, "BYE")
        assert gate.line("call", call_id=out.call_id)["key"] == "acme"
    nothing_leaks(gate)


def test_a_nonce_outlives_a_restart(net: Net) -> None:
    """The gate's secret is kept in `state_dir`: after a crash no phone has to be asked anew."""
    carrier, phone = net.carrier(), net.udp(9)
    gate = gate_of(net, carrier).run()
    call_id = ask(phone, gate, "Content-Length: 0")
    asked = phone.expect(407, "OPTIONS", call_id)
    assert gate.process is not None
    gate.process.kill()
    gate.wait()
    gate.run()
    leg = Leg.prepare(phone, gate.address, NUMBER)
    assert leg.invite is not None
    leg.invite = Message(leg.request("INVITE", headers=(shown(asked, leg.invite),), body=SDP))
    leg.again()
    into = Leg.answering(carrier, carrier.expect("INVITE", call_id=leg.call_id))
    into.answer(486)
    leg.ack(phone.expect(486, "INVITE", leg.call_id))
    carrier.expect("ACK", call_id=leg.call_id)


def test_whoever_guesses_is_shut_out(net: Net) -> None:
    """Three wrong passwords; then 403 to the right one as well. Another address calls on, and the log says who it
    was."""
    carrier, thief, phone = net.carrier(), net.udp(8), net.udp(9)
    gate = gate_of(net, carrier, digest={"throttle": {"failures": 3}}).run()
    for number in range(3):
        leg = Leg.call(thief, gate.address, NUMBER)
        asked = thief.expect(407, "INVITE", leg.call_id)
        leg.ack(asked)
        assert leg.invite is not None
        line = shown(asked, leg.invite, password=f"guess {number}")
        leg.invite = Message(leg.request("INVITE", headers=(line,), body=SDP))
        leg.again()
        told = thief.final("INVITE", leg.call_id)
        assert told.code == (403 if number == 2 else 407)
        leg.ack(told)
    alert = gate.line("alert.raised", rule="auth-throttle")
    assert alert["source"] == thief.address[0]
    assert alert["severity"] == "warning"
    assert alert["advice"]
    out, into, _ = calls(phone, gate, carrier)
    request_and_answer(out, into, "BYE")
    assert gate.metrics().get("rejected_messages_total", reason="wrong credentials") == 2
    assert gate.metrics().get("rejected_messages_total", reason="throttled source") == 1
    nothing_leaks(gate)


def test_a_secret_header(net: Net) -> None:
    """It lets in, and nobody behind the gate sees it, nor whoever reads the log."""
    carrier, phone = net.carrier(), net.udp(9)
    header = {"secret_header": {"name": "X-Api-Key", "value": SECRET}}
    gate = gate_of(net, carrier, header).run()
    leg = Leg.call(phone, gate.address, NUMBER, headers=(("x-api-key ", SECRET),))
    invite = carrier.expect("INVITE", call_id=leg.call_id)
    assert SECRET.encode() not in invite.data
    into = Leg.answering(carrier, invite)
    into.answer(486)
    leg.ack(phone.expect(486, "INVITE", leg.call_id))
    carrier.expect("ACK", call_id=leg.call_id)
    wrong = Leg.call(phone, gate.address, NUMBER, headers=(("X-Api-Key", SECRET[:-1]),))
    wrong.ack(phone.expect(403, "INVITE", wrong.call_id))
    assert gate.line("call", call_id=leg.call_id)["key"] == "acme"
    nothing_leaks(gate)


def test_source_and_password_together(net: Net) -> None:
    """The PBX's address alone is challenged for its calls, never for those that come to it."""
    pbx, carrier = net.pbx(), net.carrier()
    key = {
        "sources": [pbx.address[0]],
        "digest": USERS,
        "require": ["source", "digest"],
        "pbx": pbx.uri,
        "numbers": [DID],
    }
    gate = gate_of(net, carrier, key).run()
    out, into, _ = calls(pbx, gate, carrier)
    request_and_answer(out, into, "BYE")
    inbound = Leg.call(carrier, gate.address, DID)
    answered = Leg.answering(pbx, pbx.expect("INVITE", call_id=inbound.call_id))
    answered.answer(200, body=SDP)
    inbound.ack(carrier.expect(200, "INVITE", inbound.call_id))
    pbx.expect("ACK", call_id=inbound.call_id)
    request_and_answer(answered, inbound, "BYE")
    assert gate.metrics().get("rejected_messages_total", reason="no credentials") == 1
