"""I1 on the wire: SIPp as a PBX that records and as its recording server, over UDP and TCP."""

from __future__ import annotations

import pytest
from tests.e2e.gate import free_port, hostport
from tests.e2e.net import Net
from tests.e2e.sipp import Sipp

LICENCES, SESSIONS = 2, 3


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_sessions_with_a_recorder(net: Net, transport: str) -> None:
    """Two may record, the third is told so; then the recorder is gone, and that is told too."""
    limits = {"outbound_cps": 0, "recordings": LICENCES}
    gate = net.gate(net.pbx(), net.carrier(), limits=limits, key={"recorders": [net.host(5)]}).run()
    recorder = net.add(
        Sipp(net.folder, "uas-answers", net.host(5), transport=transport, calls=LICENCES)
    ).start()
    suffix = "" if transport == "udp" else ";transport=tcp"

    def records(sessions: int) -> Sipp:
        where = f"srs@{hostport(recorder.address)}{suffix}"
        return net.add(
            Sipp(
                net.folder,
                "src-records",
                net.host(2),
                to=gate.address,
                number=where,
                calls=sessions,
                rate=100,
                hold=800,
                port=free_port(net.host(2)),
            )
        ).start()

    source = records(SESSIONS)
    gate.settle("recordings_active", float(LICENCES), key="acme")
    assert source.done()["SuccessfulCall"] == SESSIONS
    assert recorder.done()["SuccessfulCall"] == LICENCES
    gate.settle("recordings_active", 0.0, key="acme")
    assert gate.line("call", SESSIONS)
    refused = gate.lines("call", verdict="refused")
    assert [(line["rule"], line["value"], line["limit"]) for line in refused] == [
        ("I1", LICENCES + 1, LICENCES)
    ]
    answered = gate.lines("call", verdict="passed")
    assert {(line["trunk"], line["class"], line.get("recorded")) for line in answered} == {
        ("recorder", "siprec", True)
    }
    assert records(1).done()["SuccessfulCall"] == 1
    assert gate.line("alert.raised", rule="I5")["gateway"] == recorder.address[0]
    gate.settle("recordings_active", 0.0, key="acme")
    assert gate.metrics().get("calls_active") == 0
