"""SIPp on both sides of the running program: every way a call goes, both directions, UDP and TCP on each side, IPv4
and IPv6. SIPp's own verdict counts, then what the gate says about it: log, metrics, health.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import pytest
from tests.e2e.gate import Gate, free_port
from tests.e2e.net import DID, NUMBER, UNLIMITED, Net, uri
from tests.e2e.sipp import Sipp


class Way(NamedTuple):
    """How a call goes: the caller's scenario, the callee's, and what the gate is to say about it."""

    caller: str
    callee: str
    outcome: str
    ended_by: str
    code: int


WAYS = (
    Way("uac-hangs-up", "uas-answers", "answered", "caller", 200),
    Way("uac-is-hung-up-on", "uas-hangs-up", "answered", "callee", 200),
    Way("uac-cancels", "uas-is-cancelled", "cancelled", "caller", 487),
    Way("uac-hears-busy", "uas-is-busy", "busy", "callee", 486),
    Way("uac-re-invites", "uas-re-invites", "answered", "caller", 200),
)
SIDES = [("udp", "udp"), ("udp", "tcp"), ("tcp", "udp"), ("tcp", "tcp")]
"""The PBX's transport, the trunk's."""


class Case(NamedTuple):
    """One call of the table; a key, a trunk and addresses of its own, so that nothing of another can count for it."""

    number: int
    direction: str
    pbx: str
    trunk: str
    way: Way

    @property
    def key(self) -> str:
        return f"key{self.number}"

    @property
    def did(self) -> str:
        return f"+8150987600{self.number:02d}"


CASES = [
    Case(number, direction, pbx, trunk, way)
    for number, (direction, (pbx, trunk), way) in enumerate(
        (direction, sides, way) for direction in ("outbound", "inbound") for sides in SIDES for way in WAYS
    )
]


class Exchange:
    """One gate with a key for every case."""

    def __init__(self, net: Net) -> None:
        self.net = net
        trunks, keys = {}, {}
        self.pbx, self.carrier = {}, {}
        for case in CASES:
            pbx_host, carrier_host = net.host(10 + case.number), net.host(110 + case.number)
            pbx = self.pbx[case] = (pbx_host, free_port(pbx_host))
            carrier = self.carrier[case] = (carrier_host, free_port(carrier_host))
            trunks[f"trunk{case.number}"] = {"gateways": [uri(carrier, case.trunk)]}
            keys[case.key] = {
                "sources": [f"{pbx_host}/32"],
                "pbx": uri(pbx, case.pbx),
                "numbers": [case.did],
                "trunk": f"trunk{case.number}",
                "limits": UNLIMITED,
            }
        self.gate = net.add(Gate(net.folder, net.host(1), trunks=trunks, keys=keys)).run()

    def play(self, case: Case) -> None:
        """The call, as SIPp sees it on both sides."""
        pbx, carrier = self.pbx[case], self.carrier[case]
        if case.direction == "outbound":
            _play(self.net, self.gate, case.way, (pbx, case.pbx), (carrier, case.trunk), NUMBER)
        else:
            _play(self.net, self.gate, case.way, (carrier, case.trunk), (pbx, case.pbx), case.did)


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with closing(Net(tmp_path_factory.mktemp("exchange"))) as net:
        yield Exchange(net)


def _play(
    net: Net,
    gate: Gate,
    way: Way,
    caller: tuple[tuple[str, int], str],
    callee: tuple[tuple[str, int], str],
    number: str,
) -> None:
    (host, port), transport = callee
    answers = net.add(Sipp(net.folder, way.callee, host, port=port, transport=transport)).start()
    (host, port), transport = caller
    # Over TCP a caller's connection has some port or other.
    calls = net.add(
        Sipp(net.folder, way.caller, host, port=port, transport=transport, to=gate.address, number=number)
    ).start()
    for side in (calls, answers):
        _all_went_well(side.done(), 1)


def _all_went_well(counters: dict[str, int], calls: int) -> None:
    assert counters["SuccessfulCall"] == calls
    failed = {name: count for name, count in counters.items() if name.startswith("Failed") and count}
    assert not failed
    assert not counters["OutOfCallMsgs"]
    assert not counters["Warnings"]


def _told(gate: Gate, key: str, direction: str, way: Way, number: str, calls: int = 1) -> None:
    """One line per call with its number masked, each call counted once, nothing left over."""
    gate.line("call", calls, key=key)
    lines = gate.lines("call", key=key)
    assert len(lines) == calls
    assert len({line["call_id"] for line in lines}) == calls
    for line in lines:
        assert line["direction"] == direction
        assert (line["outcome"], line["ended_by"]) == (way.outcome, way.ended_by)
        assert (line["final_code"], line["verdict"]) == (way.code, "passed")
        assert line["canonical"] == "…" + number[-4:]
        assert (line["answer_at"] is not None) == (way.outcome == "answered")
    gate.settle("calls_active", 0.0, key=key)
    metrics = gate.metrics()
    assert metrics.by("calls_total", "outcome", key=key) == {way.outcome: calls}
    assert metrics.by("calls_total", "direction", key=key) == {direction: calls}


def _healthy(gate: Gate) -> None:
    assert gate.http("/healthz")[0] == 200
    assert gate.http("/readyz")[0] == 200


@pytest.mark.parametrize(
    "case", CASES, ids=lambda c: f"{c.direction}-pbx-{c.pbx}-trunk-{c.trunk}-{c.way.caller[4:]}"
)
def test_a_call(exchange: Exchange, case: Case) -> None:
    """RFC 3261 §16 as another stack sees it: INVITE 100 180 200 ACK, re-INVITEs from both sides, BYE from each,
    CANCEL of what rings, busy."""
    exchange.play(case)
    number = NUMBER if case.direction == "outbound" else case.did
    _told(exchange.gate, case.key, case.direction, case.way, number)
    _healthy(exchange.gate)


def test_no_whole_number_is_in_the_log(exchange: Exchange) -> None:
    """Numbers show their last four digits only, wherever they stand in a line."""
    exchange.play(CASES[0])
    exchange.gate.line("call")
    said = exchange.gate.said()
    assert "…" + NUMBER[-4:] in said
    # The same digits without the prefix that a canonical number loses; the DIDs of the cases; the caller.
    for digits in (NUMBER[1:], "50987600", "501234567"):
        assert not re.search(rf"\d*{digits}\d*", said), digits


def _ipv6_gate(net: Net, pbx: tuple[str, int], trunk: tuple[str, int], transport: str, **key: object) -> Gate:
    trunks = {"carrier": {"gateways": [uri(trunk, transport)], **({} if key else {"sources": ["::1"]})}}
    keys = {"acme": {"pbx": uri(pbx, transport), "numbers": [DID], "limits": UNLIMITED, **key}}
    return net.add(Gate(net.folder, "::1", trunks=trunks, keys=keys)).run()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_outbound_over_ipv6(net: Net, transport: str) -> None:
    pbx, trunk = ("::1", free_port("::1")), ("::1", free_port("::1"))
    gate = _ipv6_gate(net, pbx, trunk, transport, sources=["::1/128"])
    way = WAYS[4]
    _play(net, gate, way, (pbx, transport), (trunk, transport), NUMBER)
    _told(gate, "acme", "outbound", way, NUMBER)
    _healthy(gate)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_inbound_over_ipv6(net: Net, transport: str) -> None:
    pbx, trunk = ("::1", free_port("::1")), ("::1", free_port("::1"))
    gate = _ipv6_gate(net, pbx, trunk, transport)
    way = WAYS[1]
    _play(net, gate, way, (trunk, transport), (pbx, transport), DID)
    _told(gate, "acme", "inbound", way, DID)
    _healthy(gate)


@pytest.mark.parametrize("direction", ["outbound", "inbound"])
def test_between_ipv4_and_ipv6(net: Net, direction: str) -> None:
    """RFC 5658: a Record-Route for each side where the address family changes; so both can send in the dialog."""
    host = net.host(2)
    pbx, trunk = (host, free_port(host)), ("::1", free_port("::1"))
    own = (net.host(1), free_port(net.host(1)))
    listen = [f"udp://{own[0]}:{own[1]}", f"tcp://[::1]:{free_port('::1')}"]
    gate = Gate(
        net.folder,
        net.host(1),
        listen=listen,
        trunks={"carrier": {"gateways": [uri(trunk, "tcp")]}},
        keys={"acme": {"sources": [host], "pbx": uri(pbx), "numbers": [DID], "limits": UNLIMITED}},
    )
    net.add(gate).run()
    way = WAYS[4]
    if direction == "outbound":
        gate.address = own
        _play(net, gate, way, (pbx, "udp"), (trunk, "tcp"), NUMBER)
    else:
        gate.address = ("::1", int(listen[1].rpartition(":")[2]))
        _play(net, gate, way, (trunk, "tcp"), (pbx, "udp"), DID)
    _told(gate, "acme", direction, way, NUMBER if direction == "outbound" else DID)


@pytest.mark.parametrize(("pbx_side", "trunk_side"), [("udp", "udp"), ("tcp", "tcp")])
def test_fifty_calls_each_way_at_twenty_per_second(net: Net, pbx_side: str, trunk_side: str) -> None:
    """Both directions at once; no call lost, none given up for want of an answer, all counted, none left over."""
    calls = 50
    pbx = net.add(Sipp(net.folder, "uas-hangs-up", net.host(2), transport=pbx_side, calls=calls))
    trunk = net.add(Sipp(net.folder, "uas-answers", net.host(3), transport=trunk_side, calls=calls))
    gate = net.add(
        Gate(
            net.folder,
            net.host(1),
            trunks={"carrier": {"gateways": [trunk.uri]}},
            keys={"acme": {"sources": [net.host(2)], "pbx": pbx.uri, "numbers": [DID], "limits": UNLIMITED}},
        )
    ).run()
    pbx.start()
    trunk.start()
    out = Sipp(
        net.folder,
        "uac-hangs-up",
        net.host(2),
        transport=pbx_side,
        to=gate.address,
        number=NUMBER,
        calls=calls,
        hold=400,
    )
    into = Sipp(
        net.folder,
        "uac-is-hung-up-on",
        net.host(3),
        transport=trunk_side,
        to=gate.address,
        number=DID,
        calls=calls,
    )
    net.add(out).start()
    net.add(into).start()
    for side in (out, into, pbx, trunk):
        _all_went_well(side.done(), calls)
    gate.line("call", 2 * calls)
    assert len(gate.lines("call")) == 2 * calls
    gate.settle("calls_active", 0.0)
    metrics = gate.metrics()
    assert metrics.by("calls_total", "direction", outcome="answered") == {"outbound": calls, "inbound": calls}
    assert metrics.get("calls_total") == 2 * calls
    assert metrics.by("rejected_messages_total", "reason") == {}
    assert {line["ended_by"] for line in gate.lines("call", direction="outbound")} == {"caller"}
    assert {line["ended_by"] for line in gate.lines("call", direction="inbound")} == {"callee"}
    _healthy(gate)
