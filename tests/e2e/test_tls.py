"""TLS at the real program, towards clients and servers of Python's `ssl`."""

from __future__ import annotations

import pytest
from tests import certificates
from tests.certificates import Authority
from tests.e2e.net import NUMBER, Net
from tests.e2e.phone import TlsServer, TlsStream, request_and_answer


class Pki:
    """One authority, the gate's certificate, a carrier's and a PBX's."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.authority = Authority(net.folder)
        self.gate = self.authority.issue("gate", "gate.example", net.host(1))
        self.carrier = self.authority.issue("carrier", "carrier.example", net.host(3))
        self.pbx = self.authority.issue("pbx", "pbx.example", net.host(2))

    def section(self, **more: object) -> dict[str, object]:
        """The `tls` section of the config."""
        return {
            "certificate": str(self.gate.certificate),
            "private_key": str(self.gate.private_key),
            "ca": str(self.authority.file),
            **more,
        }

    def trunk(self, **more: object) -> dict[str, object]:
        return {"tls": {"ca": str(self.authority.file), **more}}

    def server(self, last: int, issued: certificates.Issued | None = None, **how: object) -> TlsServer:
        context = certificates.server(issued or self.carrier, self.authority.file, **how)  # type: ignore[arg-type]
        return self.net.add(TlsServer(context, self.net.host(last)))

    def connect(self, gate: object, last: int, issued: certificates.Issued | None = None) -> TlsStream:
        context = certificates.client(self.authority.file, issued)
        return self.net.add(TlsStream.over(context, gate.tls, self.net.host(last)))  # type: ignore[attr-defined]


@pytest.fixture
def pki(net: Net) -> Pki:
    return Pki(net)


def test_a_call_over_tls(net: Net, pki: Pki) -> None:
    """Both sides over TLS, both directions; each message names TLS where it should."""
    carrier, pbx = pki.server(3), pki.server(2, pki.pbx)
    gate = net.gate(pbx, carrier, trunk=pki.trunk(), tls=pki.section()).run()
    phone = pki.connect(gate, 2)
    from tests.e2e.phone import SDP, Leg

    out = Leg.call(phone, gate.tls, NUMBER)
    line = net.add(carrier.accept())
    into = Leg.answering(line, line.expect("INVITE", call_id=out.call_id))
    print(into.invite.data.decode())
    into.answer(180)
    phone.expect(180, call_id=out.call_id)
    into.answer(200, body=SDP)
    out.ack(phone.expect(200, "INVITE", out.call_id))
    line.expect("ACK", call_id=out.call_id)
    request_and_answer(out, into, "INFO")
    request_and_answer(into, out, "BYE")
