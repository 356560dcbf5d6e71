"""TLS at the real program, towards clients and servers of Python's `ssl`."""

from __future__ import annotations

import contextlib
import signal
import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import certificates
from tests.certificates import Authority, Issued
from tests.e2e.gate import Gate, until
from tests.e2e.net import DID, NUMBER, Net
from tests.e2e.phone import (
    SDP,
    Endpoint,
    Leg,
    Stream,
    TlsServer,
    TlsStream,
    ask,
    establish,
    request_and_answer,
    settle,
)


class Pki:
    """One authority, the gate's certificate, a carrier's and a PBX's."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.authority = Authority(net.folder)
        self.gate = self.authority.issue("gate", "gate.example", net.host(1))
        self.carrier = self.authority.issue("carrier", "carrier.example", net.host(3))
        self.pbx = self.authority.issue("pbx", "pbx.example", net.host(2))

    def section(self, **more: Any) -> dict[str, Any]:
        """The `tls` section of the config."""
        files = {"certificate": "gate.crt", "private_key": "gate.key", "ca": self.authority.file.name}
        return files | more

    def trunk(self, **more: Any) -> dict[str, Any]:
        return {"tls": {"ca": self.authority.file.name, **more}}

    def server(self, last: int, issued: Issued | None = None, **how: Any) -> TlsServer:
        context = certificates.server(issued or self.carrier, self.authority.file, **how)
        return self.net.add(TlsServer(context, self.net.host(last)))

    def connect(self, gate: Gate, last: int, issued: Issued | None = None) -> TlsStream:
        context = certificates.client(self.authority.file, issued)
        return self.net.add(TlsStream.over(context, gate.tls, self.net.host(last)))

    def refuses(self, gate: Gate, last: int, issued: Issued | None) -> bool:
        """Whether a client with that certificate gets nowhere: in TLS 1.3 it hears of that late."""
        try:
            stream = self.connect(gate, last, issued)
            ask(stream, gate, "Content-Length: 0")
            stream.expect_end()
        except OSError:
            return True
        return not stream.inbox


@pytest.fixture
def pki(net: Net) -> Pki:
    return Pki(net)


def call_out(net: Net, gate: Gate, phone: Endpoint, server: TlsServer, to: Any) -> tuple[Leg, Leg]:
    """A call that is up, over a connection that the gate opens for it."""
    out = Leg.call(phone, to, NUMBER)
    line = net.add(server.accept())
    into = Leg.answering(line, line.expect("INVITE", call_id=out.call_id))
    into.answer(200, body=SDP)
    out.ack(phone.expect(200, "INVITE", out.call_id))
    line.expect("ACK", call_id=out.call_id)
    return out, into


def test_calls_over_tls(net: Net, pki: Pki) -> None:
    """Both ways, from end to end; each message says TLS where it should, and one connection per peer carries all."""
    carrier, pbx = pki.server(3), pki.server(2, pki.pbx)
    gate = net.gate(pbx, carrier, trunk=pki.trunk(), tls=pki.section()).run()
    phone = pki.connect(gate, 2)
    out, into = call_out(net, gate, phone, carrier, gate.tls)
    assert into.invite is not None
    assert into.invite.get("via").startswith(f"SIP/2.0/TLS {gate.tls[0]}:{gate.tls[1]};")
    (route,) = into.invite.all("record-route")
    assert route.startswith(f"<sip:{gate.tls[0]}:{gate.tls[1]};transport=tls;lr;")
    assert into.invite.uri.endswith(";transport=tls")
    request_and_answer(out, into, "INFO")
    request_and_answer(into, out, "UPDATE")
    line = into.endpoint
    inbound = Leg.call(line, gate.tls, DID)
    desk = net.add(pbx.accept())
    answered = Leg.answering(desk, desk.expect("INVITE", call_id=inbound.call_id))
    answered.answer(200, body=SDP)
    inbound.ack(line.expect(200, "INVITE", inbound.call_id))
    desk.expect("ACK")
    request_and_answer(answered, inbound, "BYE")
    request_and_answer(into, out, "BYE")
    gate.settle("calls_active", 0.0)
    gate.settle("connections_active", 3.0, transport="tls")
    assert not gate.lines("tls failed")


@pytest.mark.parametrize("caller", ["udp", "tcp"])
def test_tls_on_one_side_only(net: Net, pki: Pki, caller: str) -> None:
    """RFC 5658: two Record-Routes, and requests of either side find their way."""
    carrier = pki.server(3)
    pbx = net.pbx()
    gate = net.gate(pbx, carrier, trunk=pki.trunk(), tls=pki.section()).run()
    phone: Endpoint = pbx if caller == "udp" else net.stream(gate, 2)
    out, into = call_out(net, gate, phone, carrier, gate.address)
    assert into.invite is not None
    assert len(into.invite.all("record-route")) == 2
    request_and_answer(out, into, "INFO")
    request_and_answer(into, out, "INFO")
    request_and_answer(out, into, "BYE")
    assert gate.line("call", call_id=out.call_id)["outcome"] == "answered"


def test_whom_the_gate_does_not_trust(net: Net, pki: Pki) -> None:
    """Another authority, another name, an old certificate, no TLS at all: nothing of a call is said to them. The next
    gateway has it; why is logged once for each, not per call."""
    other = Authority(net.folder, "other")
    wrong = [
        pki.server(3, other.issue("a", net.host(3))),
        pki.server(4, pki.authority.issue("b", "else.example")),
        pki.server(5, pki.authority.issue("c", net.host(5), days=-1)),
        net.server(6),
    ]
    right = pki.server(7, pki.authority.issue("d", net.host(7)))
    pbx = net.pbx()
    uris = [f"sip:{s.address[0]}:{s.address[1]};transport=tls" for s in wrong]
    gate = net.gate(pbx, *uris, right, trunk={**pki.trunk(), "try_seconds": 10}, tls=pki.section()).run()
    line: TlsStream | None = None
    for _ in range(2):
        leg = Leg.call(pbx, gate.address, NUMBER)
        for server in wrong[:3]:
            with pytest.raises(OSError):
                server.accept()
        plain = net.add(wrong[3].accept())
        plain.send(b"SIP/2.0 400 Bad Request\r\n\r\n")
        line = line or net.add(right.accept())
        into = Leg.answering(line, line.expect("INVITE", call_id=leg.call_id))
        into.answer(486)
        leg.ack(pbx.expect(486, call_id=leg.call_id))
    gate.line("tls failed", count=4)
    lines = gate.lines("tls failed")
    assert [said["peer"] for said in lines] == [f"{s.address[0]}:{s.address[1]}" for s in wrong]
    assert "trunks.carrier.tls.ca" in lines[0]["advice"]
    assert "else.example" in lines[1]["reason"]
    assert "trunks.carrier.tls.name" in lines[1]["advice"]
    assert "expired" in lines[2]["reason"]
    assert "speaks TLS" in lines[3]["advice"]


def test_the_last_gateway_is_not_to_be_trusted(net: Net, pki: Pki) -> None:
    """RFC 3261 §16.9: 503 from that branch, and the caller hears at once."""
    server = pki.server(3, pki.authority.issue("b", "else.example"))
    pbx = net.pbx()
    gate = net.gate(pbx, server, trunk=pki.trunk(), tls=pki.section()).run()
    leg = Leg.call(pbx, gate.address, NUMBER)
    with pytest.raises(OSError):
        server.accept()
    answer = pbx.final("INVITE", leg.call_id)
    assert answer.code in (500, 503)
    leg.ack(answer)
    gate.settle("calls_active", 0.0)


def test_a_trunk_s_name_and_our_certificate(net: Net, pki: Pki) -> None:
    """A bare address is verified by `name`; who asks for a certificate gets the trunk's one."""
    ours = pki.authority.issue("ours", "customer.example")
    server = pki.server(3, pki.authority.issue("b", "carrier.example"), asks=True)
    pbx = net.pbx()
    section = pki.trunk(name="carrier.example", certificate="ours.crt", private_key="ours.key")
    gate = net.gate(pbx, server, trunk=section, tls=pki.section()).run()
    assert ours.certificate.exists()
    out, into = call_out(net, gate, pbx, server, gate.address)
    line = into.endpoint
    assert isinstance(line, TlsStream)
    certificate = line.socket.getpeercert()
    assert certificate is not None
    assert certificate["subjectAltName"] == (("DNS", "customer.example"),)
    request_and_answer(out, into, "BYE")


def test_who_must_show_a_certificate(net: Net, pki: Pki) -> None:
    """`required`: who has none or another's is refused, known address or not; who has one is served."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, tls=pki.section(verify_client="required")).run()
    strange = Authority(net.folder, "strange").issue("s", "pbx.example")
    for issued in (None, strange):
        assert pki.refuses(gate, 2, issued)
    settle(pki.connect(gate, 2, pki.pbx), gate)
    assert gate.metrics().by("rejected_messages_total", "reason")["tls handshake"] == 2
    assert gate.line("tls failed")["opened_by"] == "peer"


def test_a_connection_that_the_peer_opened(net: Net, pki: Pki) -> None:
    """RFC 5923: a PBX that nobody can connect to takes its calls on the connection it has opened, if it has proven to
    be that PBX. When that breaks and it comes back, its call goes on."""
    carrier = net.carrier()
    nowhere = net.server(2)
    nowhere.close()
    uri = f"sip:{net.host(2)}:{nowhere.address[1]};transport=tls"
    gate = net.gate(net.pbx(), carrier, tls=pki.section(verify_client="optional"))
    config = yaml.safe_load(gate.file.read_text())
    config["keys"]["acme"]["pbx"] = uri
    gate.file.write_text(yaml.safe_dump(config))
    gate.run()
    leg = Leg.call(carrier, gate.address, DID)
    answer = carrier.final("INVITE", leg.call_id)
    assert answer.code in (500, 503), "nobody is there"
    leg.ack(answer)
    named = pki.authority.issue("named", f"sip:{net.host(2)}")
    desk = pki.connect(gate, 2, named)
    settle(desk, gate)
    inbound = Leg.call(carrier, gate.address, DID)
    answered = Leg.answering(desk, desk.expect("INVITE", call_id=inbound.call_id))
    answered.answer(200, body=SDP)
    inbound.ack(carrier.expect(200, "INVITE", inbound.call_id))
    desk.expect("ACK")
    desk.close()
    gate.settle("connections_active", 0.0, transport="tls")
    again = pki.connect(gate, 2, named)
    settle(again, gate)
    request_and_answer(inbound, answered.on(again), "INFO")
    request_and_answer(answered, inbound, "BYE")


# -- reloading ---------------------------------------------------------------------------------------------


def shown(gate: Gate, net: Net) -> tuple[Any, ...]:
    """The names in the certificate that the gate shows now."""
    context = certificates.client(net.folder / "authority.pem")
    # Closed at once: a stranger may have no more than so many connections.
    with contextlib.closing(TlsStream.over(context, gate.tls, net.host(9))) as stream:
        certificate = stream.socket.getpeercert()
    assert certificate is not None
    return certificate["subjectAltName"]


def test_certificates_are_read_again(net: Net, pki: Pki) -> None:
    """SIGHUP: new connections see the new one, live ones go on; calls hear nothing of it."""
    carrier = pki.server(3)
    pki.authority.issue("gate", "gate.example", days=2)
    gate = net.gate(net.pbx(), carrier, trunk=pki.trunk(), tls=pki.section(verify_client="optional")).run()
    assert gate.line("alert.raised", rule="certificate")["severity"] == "critical"
    phone = pki.connect(gate, 2)
    out, into = call_out(net, gate, phone, carrier, gate.tls)
    pki.authority.issue("gate", "renewed.example")
    gate.signal(signal.SIGHUP)
    assert gate.line("callgate reloaded")["certificates"] == [str(net.folder / "gate.crt")]
    gate.line("alert.resolved", rule="certificate")
    assert shown(gate, net) == (("DNS", "renewed.example"),)
    request_and_answer(out, into, "INFO")
    request_and_answer(into, out, "BYE")
    # The list of authorities is read anew too: theirs are no longer taken.
    Authority(net.folder)
    gate.signal(signal.SIGHUP)
    gate.line("callgate reloaded", count=2)
    assert pki.refuses(gate, 2, pki.pbx)


def _mismatched(folder: Path, authority: Authority) -> None:
    authority.issue("spare", "gate.example").private_key.replace(folder / "gate.key")


def _expired(folder: Path, authority: Authority) -> None:
    authority.issue("gate", "gate.example", days=-1)


def _gone(folder: Path, authority: Authority) -> None:
    (folder / "gate.crt").unlink()


def _rubbish(folder: Path, authority: Authority) -> None:
    authority.file.write_text("-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n")


def _other_config(folder: Path, authority: Authority) -> None:
    file = folder / "callgate.yaml"
    config = yaml.safe_load(file.read_text())
    config["drain_seconds"] = 7
    config["dns"] = {"timeout_ms": 999}
    config["tls"]["handshake_seconds"] = 9
    file.write_text(yaml.safe_dump(config))


REFUSALS = {
    "mismatched": (_mismatched, ("tls.private_key", "does not belong to")),
    "expired": (_expired, ("tls.certificate", "has expired")),
    "gone": (_gone, ("tls.certificate", "can't be read")),
    "rubbish": (_rubbish, ("tls.ca", "holds no certificate")),
    "what needs a restart": (_other_config, ("restart", "dns: ", "tls: ")),
}


def test_reloads_that_are_refused(net: Net, pki: Pki) -> None:
    """The old ones stay in use, whatever is wrong; and each time the next reload succeeds."""
    gate = net.gate(net.pbx(), net.carrier(), tls=pki.section()).run()
    kept = {file: file.read_bytes() for file in net.folder.iterdir() if file.is_file()}
    before = shown(gate, net)
    for count, (case, (spoil, words)) in enumerate(REFUSALS.items(), 1):
        spoil(net.folder, pki.authority)
        gate.signal(signal.SIGHUP)
        reason = gate.line("callgate reload refused", count)["reason"]
        assert all(word in reason for word in words), (case, reason)
        for file, data in kept.items():
            file.write_bytes(data)
        assert shown(gate, net) == before, case
        gate.signal(signal.SIGHUP)
        gate.line("callgate reloaded", count)
        assert shown(gate, net) == before, case


def test_many_reloads_at_once(net: Net, pki: Pki) -> None:
    """None that comes last is lost."""
    gate = net.gate(net.pbx(), net.carrier(), tls=pki.section()).run()
    for _ in range(20):
        gate.signal(signal.SIGHUP)
    pki.authority.issue("gate", "last.example")
    gate.signal(signal.SIGHUP)

    def last() -> bool:
        # A gate that is busy with them sees our connections end late, and a stranger may have only so many.
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            return shown(gate, net) == (("DNS", "last.example"),)
        return False

    until(last, "the last certificate")


# -- limits ------------------------------------------------------------------------------------------------


def test_slow_and_silent_connections(net: Net, pki: Pki) -> None:
    """A message that does not end, a handshake that does not, a stranger that stays: closed, and a call goes on."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(
        pbx,
        carrier,
        tls=pki.section(handshake_seconds=0.5, max_half_open_per_source=5),
        streams={"message_seconds": 0.5, "idle_seconds": 1.5},
        strangers={"seconds": 0.7},
    ).run()
    out, into = establish(pbx, gate.address, NUMBER, carrier)
    slow = [net.stream(gate, 2), pki.connect(gate, 2)]
    for stream in slow:
        stream.send(b"OPTIONS sip:x SIP/2.0\r\nVia: SIP")
    strangers = [net.stream(gate, 9), pki.connect(gate, 9)]
    idle = [net.stream(gate, 2), pki.connect(gate, 2)]
    held = net.stream(gate, 2)
    half = [net.add(Stream.to(gate.tls, net.host(2))) for _ in range(8)]
    kept = Leg.call(held, gate.address, NUMBER)
    rings = Leg.answering(carrier, carrier.expect("INVITE", call_id=kept.call_id))
    rings.answer(180)
    held.expect(180)
    for stream in (*slow, *half, *strangers, *idle):
        stream.expect_end()
    assert not held.ended, "a call relies on it"
    counted = gate.metrics().by("rejected_messages_total", "reason")
    assert counted["slow sender"] == 2
    assert counted["too many half-open handshakes"] == 3
    assert counted["handshake"] == 5
    rings.answer(486)
    kept.ack(held.expect(486))
    held.expect_end()
    request_and_answer(out, into, "BYE")
    assert not gate.lines("internal error")


def test_a_header_of_ten_megabytes(net: Net, pki: Pki) -> None:
    """The connection goes, and the memory of the gate is what it was."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, tls=pki.section()).run()
    before = gate.metrics().get("process_resident_memory_bytes")
    for last in (2, 9):
        for stream in (net.stream(gate, last), pki.connect(gate, last)):
            with contextlib.suppress(OSError):
                for _ in range(160):
                    stream.send(b"a" * 65_536)
            stream.expect_end()
    assert gate.metrics().get("process_resident_memory_bytes") - before < 8e6
    out, into = establish(pbx, gate.address, NUMBER, carrier)
    request_and_answer(out, into, "BYE")


def test_without_a_fitting_certificate_nothing_starts(net: Net, pki: Pki) -> None:
    pki.authority.issue("gate", "gate.example", days=-1)
    gate = net.gate(net.pbx(), net.carrier(), tls=pki.section()).start()
    assert gate.wait() == 2
    assert "has expired" in gate.said()
