"""Copies of the messages on the wire, as a Homer gets them, and the ladder that is drawn of them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections import Counter
from typing import Any

import pytest
import yaml
from tests.e2e.gate import Gate, hostport, until
from tests.e2e.net import DID, NUMBER, UNLIMITED, Net
from tests.e2e.sipp import Sipp
from tests.net.hep_reader import read

PASSWORD = "correct horse battery"


class Homer:
    """Takes what comes and reads it."""

    def __init__(self, host: str) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.got: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while data := self.socket.recv(65_535):
            self.got.append(read(data))

    @property
    def server(self) -> str:
        return f"udp://{hostport(self.socket.getsockname())}"

    def close(self) -> None:
        if not self._thread.is_alive():
            return
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self.socket.getsockname())
        self._thread.join()
        self.socket.close()


def explain(gate: Gate, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "callgate", "explain", *arguments, "-c", str(gate.file)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def gate_with(net: Net, pbx: Sipp | tuple[str, int], carrier: Sipp, **top: Any) -> Gate:
    host, port = pbx if isinstance(pbx, tuple) else pbx.address
    return net.add(
        Gate(
            net.folder,
            net.host(1),
            trunks={"carrier": {"gateways": [carrier.uri]}},
            keys={
                "acme": {
                    "sources": [f"{host}/32"],
                    "pbx": f"sip:{host}:{port}",
                    "numbers": [DID],
                    "limits": UNLIMITED,
                }
            },
            **top,
        )
    )


FIRST_LINES = Counter(
    {
        "INVITE": 2,
        "100": 2,
        "180": 2,
        "200": 4,
        "ACK": 2,
        "BYE": 2,
    }
)
"""Of a call that one side hangs up: each message comes and goes on; of the 100s one is the gate's own."""


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_homer_gets_each_message_once_with_where_it_was(net: Net, transport: str) -> None:
    homer = net.add(Homer(net.host(5)))
    carrier = net.add(Sipp(net.folder, "uas-answers", net.host(3), transport=transport)).start()
    pbx_port = 5070
    gate = gate_with(
        net, (net.host(2), pbx_port), carrier, hep={"server": homer.server, "capture_id": 2001}
    ).run()
    pbx = net.add(
        Sipp(net.folder, "uac-hangs-up", net.host(2), port=pbx_port, to=gate.address, number=NUMBER)
    ).start()
    sides = [pbx.done(), carrier.done()]
    until(lambda: len(homer.got) >= FIRST_LINES.total(), lambda: f"copies: {homer.got}")
    gate.settle("hep_sent_total", len(homer.got))

    def first(payload: bytes) -> str:
        words = payload.split(b" ", 2)
        return (words[1] if words[0] == b"SIP/2.0" else words[0]).decode()

    copies = Counter(first(copy["payload"]) for copy in homer.got)
    assert copies >= FIRST_LINES
    repeated = sum(side["Retransmissions"] for side in sides) + gate.metrics().get("retransmissions_total")
    assert copies == FIRST_LINES or repeated  # a slow machine sees some of them twice
    (call_id,) = {copy["correlation"].decode() for copy in homer.got}
    assert {(copy["agent"], copy["kind"], copy["family"]) for copy in homer.got} == {(2001, 1, 2)}
    assert [copy["seconds"] * 10**6 + copy["microseconds"] for copy in homer.got] == sorted(
        copy["seconds"] * 10**6 + copy["microseconds"] for copy in homer.got
    )
    for copy in homer.got:
        ends = {(copy["source"], copy["source_port"]), (copy["destination"], copy["destination_port"])}
        if pbx.address in ends:
            assert ends == {pbx.address, gate.address}
            assert copy["protocol"] == socket.IPPROTO_UDP
        elif transport == "udp":
            assert ends == {carrier.address, gate.address}
            assert copy["protocol"] == socket.IPPROTO_UDP
        else:
            (ours,) = ends - {carrier.address}
            assert ours[0] == gate.host
            assert ours[1] != gate.address[1]  # the gate's end of a connection that it has opened
            assert copy["protocol"] == socket.IPPROTO_TCP
    invite = next(copy["payload"] for copy in homer.got if copy["payload"].startswith(b"INVITE"))
    assert b"\r\nm=audio" in invite  # SDP stays
    assert homer.got[0]["source"] == net.host(2)

    if transport == "tcp":
        return
    told = explain(gate, call_id, "--sip")
    assert told.returncode == 0, told.stderr
    drawn = told.stdout.partition("\n\n")[2].splitlines()
    assert drawn[0].split() == ["acme", "callgate", "carrier"]
    assert f"udp {hostport(pbx.address)}" in drawn[1]
    assert len(drawn) == 2 + copies.total()
    assert f" INVITE …{NUMBER[-4:]} " in drawn[2]
    assert NUMBER not in told.stdout.partition("\n\n")[2]  # as log.full_numbers says
    rows = json.loads(explain(gate, call_id, "--sip", "--json").stdout)["sip"]
    assert Counter(row["what"] for row in rows) == copies
    nobody = explain(gate, "nobody@nowhere", "--sip")
    assert (nobody.returncode, nobody.stdout) == (1, "")


def test_no_password_is_in_a_copy_and_a_homer_that_dies_ends_no_call(net: Net) -> None:
    homer = net.add(Homer(net.host(5)))
    carrier = net.add(Sipp(net.folder, "uas-answers", net.host(3), calls=2)).start()
    gate = gate_with(
        net,
        (net.host(2), 5070),
        carrier,
        digest={"algorithms": ["MD5"]},
        hep={"server": homer.server, "capture_id": 1},
    )
    config = yaml.safe_load(gate.file.read_text())
    config["keys"]["acme"] |= {"digest": [{"username": "bob", "password": PASSWORD}], "require": ["digest"]}
    gate.file.write_text(yaml.safe_dump(config))
    gate.run()

    def call() -> None:
        phone = Sipp(
            net.folder,
            "uac-shows-a-password",
            net.host(2),
            transport="tcp",
            to=gate.address,
            number=NUMBER,
            login=("bob", PASSWORD),
        )
        net.add(phone).start().done()

    call()
    shown = until(
        lambda: [copy for copy in homer.got if b"uthorization:" in copy["payload"]],
        "a copy of the INVITE with its password",
    )
    assert {copy["protocol"] for copy in shown} == {socket.IPPROTO_TCP}
    until(lambda: any(copy["payload"].startswith(b"BYE") for copy in homer.got), "the BYE")
    for copy in homer.got:
        assert b"response=" not in copy["payload"]
        assert PASSWORD.encode() not in copy["payload"]
        if copy in shown:
            assert b"Proxy-Authorization: redacted by=callgate\r\n" in copy["payload"]
    homer.close()
    call()
    carrier.done()
    gate.line("hep server away")
    gate.settle("calls_active", 0.0)
    assert not gate.lines("internal error")
