#!/usr/bin/env python3
"""kill -9 in the middle of many calls: up, ringing, queued and recorded ones, and a new start on the same state.

    python bench/killed.py [--calls 5000] [--rate 150]

A PBX offers the calls to a gate on loopback, and a carrier answers them or lets them ring. The gate is killed and
started again. Then a tenth of those that ring is answered and the rest cancelled, a quarter of those that are up hung
up, and 200 turn out to be unknown to the carrier. Prints one JSON object: how long it took until the gate answered SIP,
what it took up, until when all were counted and asked, and what was found of each kind. Exit 1 where anything is not as
it must be.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.e2e.crowd import RINGS, Carrier, Pbx
from tests.e2e.load import run
from tests.e2e.net import NUMBER, Net

RECORDED, WAITING, GONE = 100, 100, 200
PATIENCE = 30.0
OPTIONS = (
    b"OPTIONS sip:%b SIP/2.0\r\nVia: SIP/2.0/UDP %b:%d;branch=z9hG4bK-%d;rport\r\nFrom: <sip:a@b>;tag=1\r\n"
    b"To: <sip:%b>\r\nCall-ID: %d\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
)


def answers(host: str, gate: tuple[str, int], began: float) -> float:
    """Seconds from then until the gate answers SIP, be it with a refusal."""
    where = b"%b:%d" % (gate[0].encode(), gate[1])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asks:
        asks.bind((host, 0))
        asks.settimeout(0.02)
        n = 0
        while time.monotonic() - began < PATIENCE:
            n += 1
            asks.sendto(OPTIONS % (where, host.encode(), asks.getsockname()[1], n, where, n), gate)
            try:
                if asks.recv(65536).startswith(b"SIP/2.0 "):
                    return time.monotonic() - began
            except OSError:
                continue
    sys.exit(f"the gate did not answer within {PATIENCE:g} s")


def measure(net: Net, calls: int, rate: float) -> tuple[dict[str, object], dict[str, bool]]:
    ringing, up = calls // 10, calls - calls // 10 - RECORDED - WAITING
    carrier = Carrier(net.carrier())
    talks, records, waits = net.pbx(), net.udp(2), net.udp(5)
    many = {"inbound_calls": None, "outbound_calls": 2 * calls, "lines": None}
    gate = net.gate(talks, carrier.endpoint, limits={**many, "outbound_cps": 2000, "recordings": RECORDED})
    gate.file.write_text(
        gate.file.read_text()
        + f"  waits: {{sources: ['{net.host(5)}/32'], trunk: carrier, limits: {{outbound_cps: 1, "
        + "on_rate_exceeded: queue, queue_seconds: 3600}}\n"
    )
    gate.run()
    time.sleep(1.1)  # a start has no token for one window
    one = Pbx(talks, gate.address, [NUMBER] * up + [RINGS] * ringing, rate)
    two = Pbx(records, gate.address, [NUMBER] * RECORDED, rate / 2, (("X-Record", "yes"),))
    three = Pbx(waits, gate.address, [RINGS] * WAITING, 200)
    parts = [carrier, one, two, three]
    patience = 60 + 4 * calls / rate

    def all_there() -> bool:
        return len(one.up) == up and len(one.ringing) == ringing and len(two.up) == RECORDED

    def turns(until: Callable[[], bool], *these: object) -> float:
        began = time.monotonic()
        run(list(these or parts), until, lambda: f"{one}; {two}; {three}", patience)  # type: ignore[arg-type]
        return round(time.monotonic() - began, 2)

    turns(all_there, carrier, one, two)
    turns(lambda: len(three.legs) == WAITING)
    turns(lambda: len(carrier.acked) == up + RECORDED)
    time.sleep(0.1)
    left_queue = len(three.ringing)
    gate.signal(signal.SIGKILL)
    gate.wait()

    rang = sorted(one.ringing)
    known = sorted(one.up)
    carrier.gone = set(known[:GONE])
    began = time.monotonic()
    gate.start()
    answered_after = answers(net.host(2), gate.address, began)
    gate.ready()
    taken = gate.line("calls taken up")
    gate.settle("calls_active", up + ringing + RECORDED, key="acme", direction="outbound")
    gate.settle("recordings_active", RECORDED, key="acme")
    answered, cancelled = rang[: ringing // 10], rang[ringing // 10 :]
    hung_up = known[GONE : GONE + up // 4]
    stay = set(known[GONE + up // 4 :])
    for call in answered:
        carrier.answers(call)
    for call in cancelled:
        one.cancels(call)
    for call in hung_up:
        one.hangs_up(call)

    def settled() -> bool:
        return (
            set(one.refused) == set(cancelled)
            and one.ended >= set(hung_up)
            and one.hung_up_on >= carrier.gone
            and carrier.asked >= stay | two.up
            and one.asked >= stay
            and len(three.refused) >= WAITING - left_queue
        )

    found_after = turns(settled)
    left = len(stay) + len(answered)
    gate.settle("calls_active", left + RECORDED, key="acme", direction="outbound")
    for call in stay | set(answered):
        one.hangs_up(call)
    for call in two.up:
        two.hangs_up(call)
    turns(lambda: one.ended >= stay | set(answered) and two.ended >= two.up)
    gate.settle("calls_active", 0.0, key="acme", direction="outbound")
    gate.settle("recordings_active", 0.0, key="acme")
    crashed = gate.lines("call", ended_by="crash", key="acme")
    report: dict[str, object] = {
        "calls": {"up": up, "ringing": ringing, "recorded": RECORDED, "queued": WAITING - left_queue},
        "answers_sip_after": round(answered_after, 2),
        "taking_up": taken["took_seconds"],
        "taken_up": {name: taken[name] for name in ("up", "ringing", "queued", "left_out")},
        "all_found_after": found_after,
        "ended_meanwhile": len(crashed),
        "queued_told": sorted(set(three.refused.values())),
    }
    checks = {
        "all were taken up": taken["up"] == up + RECORDED
        and taken["ringing"] == ringing + left_queue
        and taken["queued"] == WAITING - left_queue
        and not taken["left_out"],
        "the ended ones are found": {line["call_id"] for line in crashed} == carrier.gone,
        "no living call was ended": one.hung_up_on == carrier.gone and not two.hung_up_on,
        "queued ones are told 503": set(three.refused.values()) <= {503},
        "nothing was dialled twice": len(carrier.legs) == up + ringing + RECORDED + left_queue,
    }
    return report, checks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=150.0)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        net = Net(Path(folder))
        try:
            report, checks = measure(net, options.calls, options.rate)
        finally:
            net.close()
    report["broken"] = [what for what, holds in checks.items() if not holds]
    print(json.dumps(report, indent=1))
    sys.exit(bool(report["broken"]))


if __name__ == "__main__":
    main()
