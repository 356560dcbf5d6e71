"""The running gate between two lines that lose 20 % of everything both ways, double 10 % and put the rest out of order:
what `tests/lossy` shows of the core, shown of the program."""

from __future__ import annotations

from collections import Counter, defaultdict
from random import Random

from tests.e2e.gate import Gate, until
from tests.e2e.load import fullest, run
from tests.e2e.lossy import BadLine, LivePhones
from tests.e2e.net import DID, NUMBER, Net
from tests.lossy.line import Quality
from tests.lossy.phone import Phone

from callgate.proxy.telemetry.record import OUTCOMES

CALLS = 300
RATE = 20
CPS = 13
SEED = 7


def test_three_hundred_calls(net: Net) -> None:
    names = ("pbx", "carrier", "carrier2")
    sockets = [net.udp(last) for last in (2, 3, 4)]
    nears = [net.udp(last, stamps=True) for last in (12, 13, 14)]
    fars = [net.udp(last) for last in (22, 23, 24)]
    limits = {"outbound_cps": CPS, "inbound_calls": 200, "outbound_calls": 200, "calls": 400}
    gate = net.gate(nears[0], *nears[1:], limits=limits).run()
    phones = LivePhones(SEED)
    lines, parties = [], []
    for name, socket, near, far in zip(names, sockets, nears, fars, strict=True):
        line = BadLine(near, far, socket.address, gate.address, Quality(), f"{SEED} {name}")
        lines.append(line)
        parties.append(phones.add(name, socket, line, gate.address, carrier=name != "pbx"))
    pbx, carrier, _ = parties
    carrier.first_of_several = True
    offer(phones, pbx, carrier)
    run(
        [phones, *lines],
        lambda: len(phones.callers) == CALLS and not phones.open and phones.rarely(lambda: all_over(gate)),
        lambda: f"{len(phones.open)} of {len(phones.callers)} open: {phones.open[:9]}\n{gate.said()[-3000:]}",
        within=120,  # a call whose every ACK is lost takes 64*T1, and its BYE may take as long
    )
    assert not phones.wrongs
    assert sum(line.to_peer.lost + line.to_gate.lost for line in lines) > 500, (
        "that is what this test is about"
    )
    first = [at for line in lines[1:] for at in line.first.values()]
    assert fullest(first) <= CPS
    assert len(first) > CALLS // 3, "the limit is used"
    agree(gate, phones)


def all_over(gate: Gate) -> bool:
    """No line is held any more. (The last answers to a BYE may be lost, so the lines have to go on meanwhile.)"""
    metrics = gate.metrics()
    held = ("calls_active", "outbound_calls_used", "inbound_calls_used", "calls_used")
    return not any(metrics.get(name) for name in held)


def offer(phones: LivePhones, pbx: Phone, carrier: Phone) -> None:
    random, when = Random(SEED), phones.now
    for number in range(CALLS):
        when += random.expovariate(RATE)
        call_id = f"call-{number}@lossy"
        caller, dialled = (carrier, DID) if phones.plan(call_id).inbound else (pbx, NUMBER)
        phones.at(when, caller.calls, call_id, dialled)


def agree(gate: Gate, phones: LivePhones) -> None:
    """One record for each call (a challenge that it answered has the same id), with the outcome that its caller
    believes; the counters say the same."""
    metrics = gate.metrics()
    counted_calls = int(metrics.get("calls_total"))
    until(lambda: len({line["id"] for line in gate.lines("call")}) == counted_calls, "a line for each call")
    records = defaultdict(list)
    for line in gate.lines("call"):
        records[line["call_id"]].append(line)
    outcomes: dict[str, Counter[str]] = {"outbound": Counter(), "inbound": Counter()}
    for caller in phones.callers:
        *challenged, record = records.pop(caller.call_id)
        assert [line["final_code"] for line in challenged] in ([], [407])
        ended = {line["id"]: line["outcome"] for line in (*challenged, record)}
        outcomes[record["direction"]].update(ended.values())
        if caller.belief == "timeout":
            continue  # nothing came through to it in 32 s
        if caller.belief == "answered":
            assert record["outcome"] == "answered"
            continue
        assert record["final_code"] == int(caller.belief)
        expected = {OUTCOMES.get(int(caller.belief), "failed")}
        expected |= {"cancelled"} if caller.given_up else set()
        assert record["outcome"] in expected or record["verdict"] == "refused", record
    assert not records, "records of calls that nobody made"
    for direction, counted in outcomes.items():
        refused = metrics.get("calls_total", direction=direction, outcome="refused")
        assert refused == counted["refused"]  # by rule
        del counted["refused"]
        assert metrics.by("calls_total", "outcome", direction=direction, rule="") == counted
