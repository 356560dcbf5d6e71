"""V1, the promise that the product is for: no window of one second at the carrier holds a fourth call that it had
not seen. Arrivals are what the kernel says they were."""

from __future__ import annotations

import time

from tests.e2e.load import Carrier, Lossy, Pbx, fullest, run
from tests.e2e.net import NUMBER, Net
from tests.e2e.sipp import Sipp

LIMIT = 3
LIMITS = {"outbound_cps": LIMIT, "inbound_calls": None}


def test_sipp_offers_twenty_a_second_and_three_arrive(net: Net) -> None:
    carrier = Carrier(net.udp(3, stamps=True))
    pbx = net.pbx()
    gate = net.gate(pbx, carrier.endpoint, limits=LIMITS).run()
    calls = 80
    offers = net.add(
        Sipp(
            net.folder,
            "uac-is-throttled",
            net.host(2),
            to=gate.address,
            number=NUMBER,
            calls=calls,
        )
    ).start()
    assert offers.process is not None
    run([carrier], lambda: offers.process.poll() is not None, offers.said, 19)  # type: ignore[union-attr]
    counters = offers.done()
    assert counters["SuccessfulCall"] == calls
    assert not counters["FailedCall"]
    assert not counters["DeadCallMsgs"], "each refusal was acknowledged, and that was the end of it"
    passed = len(carrier.first)
    assert fullest(carrier.first.values()) == LIMIT, "the limit is used to the full, and never more"
    assert passed > LIMIT, "a fourth call came when its time had come"
    assert carrier.hung_up == set(carrier.first)
    gate.line("call", calls)
    gate.settle("calls_active", 0.0)
    metrics = gate.metrics()
    assert metrics.by("calls_total", "outcome") == {"answered": passed, "refused": calls - passed}
    assert metrics.by("calls_total", "rule", outcome="refused") == {"V1": calls - passed}
    assert metrics.by("rejected_messages_total", "reason") == {}
    refused = gate.lines("call", verdict="refused")
    assert len(refused) == calls - passed
    assert {(line["rule"], line["value"], line["limit"]) for line in refused} == {("V1", LIMIT + 1, LIMIT)}


def test_a_line_that_loses_five_percent(net: Net) -> None:
    """The first copy of an INVITE can be lost, and the second is then the first to arrive: a token covers every copy
    that goes out before an answer. And every call gets a final answer."""
    offered, seconds = 20, 13
    carrier = Carrier(net.udp(3))
    line = Lossy(net.udp(4, stamps=True), net.udp(5), carrier.endpoint.address, 0.05, seed=3)
    endpoint = net.pbx()
    gate = net.gate(endpoint, line.near, limits=LIMITS).run()
    pbx = Pbx(endpoint, gate.address, NUMBER, offered, offered * seconds)
    run([carrier, line, pbx], lambda: pbx.over, lambda: f"{pbx} {line.lost}", 30)
    assert line.lost["to INVITE"] > 1, "the line is what this test is about"
    assert line.lost["from 200"] + line.lost["from 180"] > 0
    assert fullest(line.first.values()) <= LIMIT
    assert len(line.first) > LIMIT * (seconds // 3), "the limit is used, whatever is lost"
    assert {final.code for final in pbx.finals.values()} == {200, 503}
    gate.line("call", pbx.calls)
    gate.settle("calls_active", 0.0)
    assert gate.metrics().get("calls_total") == pbx.calls


def test_a_queue(net: Net) -> None:
    """Nine at once: three go now, three a second later, and three are told at once that it would take too long."""
    carrier = Carrier(net.udp(3, stamps=True))
    endpoint = net.pbx()
    limits = {**LIMITS, "on_rate_exceeded": "queue", "queue_seconds": 1.5}
    gate = net.gate(endpoint, carrier.endpoint, limits=limits).run()
    gate.settle("rate_window_limit", float(LIMIT))
    time.sleep(1.1)  # after a start no token is free for one window
    pbx = Pbx(endpoint, gate.address, NUMBER, 1000, 9)
    run([carrier, pbx], lambda: pbx.over, lambda: f"{pbx}", 10)
    arrivals = sorted(carrier.first.values())
    assert len(arrivals) == 6
    assert fullest(arrivals) == LIMIT
    assert arrivals[LIMIT] - arrivals[0] < 1.5, "out the moment a token is free"
    assert [final.code for final in pbx.finals.values()].count(503) == 3
    lines = gate.line("call", 9)
    assert lines
    waited = [line["waited_seconds"] for line in gate.lines("call") if line.get("waited_seconds")]
    assert len([seconds for seconds in waited if 0.5 < seconds < 1.5]) == 3
    gate.settle("queue_depth", 0.0)
