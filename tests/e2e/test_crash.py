"""kill -9 in the middle of three hundred calls, up, ringing and queued, and a new start on the same state."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from tests.e2e.crowd import RINGS, Carrier, Pbx
from tests.e2e.load import run
from tests.e2e.net import NUMBER, Net

UP, RINGING = 200, 100
LIMITS = {"outbound_cps": 400, "inbound_calls": None, "outbound_calls": 1000}


def test_the_gate_is_killed_and_no_call_is_lost(net: Net) -> None:
    carrier = Carrier(net.carrier())
    endpoint = net.pbx()
    gate = net.gate(endpoint, carrier.endpoint, limits=LIMITS).run()
    time.sleep(1.1)  # a start has no token for one window
    pbx = Pbx(endpoint, gate.address, [NUMBER] * UP + [RINGS] * RINGING, 150)
    parts = [carrier, pbx]
    run(parts, lambda: len(carrier.acked) == UP and len(pbx.ringing) == RINGING, pbx.__repr__, 20)
    time.sleep(0.1)
    gate.signal(signal.SIGKILL)
    gate.wait()

    up, ringing = sorted(pbx.up), sorted(pbx.ringing)
    carrier.gone = set(up[:20])
    gate.run()
    gate.settle("calls_active", UP + RINGING)
    taken = gate.line("calls taken up")
    assert (taken["up"], taken["ringing"], taken["left_out"]) == (UP, RINGING, 0)

    # Ringing ones are answered and cancelled, others hung up, as if nothing had been.
    answered, cancelled, hung_up = ringing[:50], ringing[50:], up[20:120]
    for call in answered:
        carrier.answers(call)
    for call in cancelled:
        pbx.cancels(call)
    for call in hung_up:
        pbx.hangs_up(call)
    left = set(up[120:]) | set(answered)

    def settled() -> bool:
        return (
            set(pbx.refused) == set(cancelled)
            and pbx.up >= left
            and pbx.ended >= set(hung_up)
            and pbx.hung_up_on == carrier.gone
            and carrier.asked >= set(up[120:])
            and pbx.asked >= set(up[120:])
        )

    run(parts, settled, lambda: f"{pbx}, {len(carrier.asked)} asked", 15)
    assert set(pbx.refused.values()) == {487}
    assert carrier.cancelled == set(cancelled)
    gate.settle("calls_active", len(left))
    gate.line("call", len(cancelled) + len(hung_up) + len(carrier.gone))
    crashed = gate.lines("call", ended_by="crash")
    assert {line["call_id"] for line in crashed} == carrier.gone
    for call in left:
        pbx.hangs_up(call)
    run(parts, lambda: pbx.ended >= left, pbx.__repr__, 10)
    gate.line("call", UP + RINGING)
    gate.settle("calls_active", 0.0)
    assert gate.metrics().by("rejected_messages_total", "reason") == {}
    story = explain(net, answered[0])
    for words in (
        "asks V1",
        "passes: V1 ",
        "/400, C2 ",
        "rings",
        "started anew",
        "answered",
        "ended by caller",
    ):
        assert words in story, story


def test_calls_in_the_queue_are_told_and_not_dialled(net: Net) -> None:
    carrier = Carrier(net.carrier())
    endpoint = net.pbx()
    queue = {"outbound_cps": 1, "on_rate_exceeded": "queue", "queue_seconds": 10}
    gate = net.gate(endpoint, carrier.endpoint, limits=queue).run()
    time.sleep(1.1)
    pbx = Pbx(endpoint, gate.address, [RINGS] * 5, 1000)
    run([carrier, pbx], lambda: len(pbx.ringing) == 1 and len(pbx.legs) == 5, pbx.__repr__, 5)
    time.sleep(0.1)
    gate.signal(signal.SIGKILL)
    gate.wait()
    gate.run()
    taken = gate.line("calls taken up")
    assert (taken["ringing"], taken["queued"], taken["left_out"]) == (1, 4, 0)
    run([carrier, pbx], lambda: len(pbx.refused) == 4, pbx.__repr__, 5)
    assert set(pbx.refused.values()) == {503}
    (ringing,) = pbx.ringing
    carrier.answers(ringing)
    run([carrier, pbx], lambda: pbx.up == {ringing}, pbx.__repr__, 5)
    assert set(carrier.legs) == {ringing}
    assert "not sent any more" in explain(net, next(iter(pbx.refused)))


def explain(net: Net, call_id: str) -> str:
    command = [sys.executable, "-m", "callgate", "explain", call_id, "-c", str(net.folder / "callgate.yaml")]
    done = subprocess.run(command, capture_output=True, timeout=30, check=True)
    return done.stdout.decode()
