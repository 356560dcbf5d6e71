"""What strangers and callers write into numbers, names and Call-IDs, through a real gate: nothing that shows it does
what it says, loses it, or grows by it."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote

import httpx
import pytest
from tests.cdr.receiver import SECRET, Receiver
from tests.e2e.gate import Gate, hostport, until
from tests.e2e.net import DID, NUMBER, UNLIMITED, Net
from tests.e2e.phone import Leg, Udp, request_and_answer
from tests.e2e.test_api import TOKENS
from tests.e2e.test_control import command, shown

DISPLAY = "\"a\\\"b'<script>alert(1)</script>=cmd|' /C calc'!A0 \u202e\""
USER = "=cmd%7C'%20%2FC%20calc'!A0%0D%0AEvil:%201%3Cscript%3E%22%1B%5B2J"
CALL_ID = "<script>\"'{}\\n%0D%0A:{n}@`~"
HEADERS = (
    ("Diversion", f'{DISPLAY} <sip:{USER}@192.0.2.1>;reason="=cmd|x"'),
    ("P-Asserted-Identity", f"{DISPLAY} <sip:{USER}@192.0.2.1>"),
    ("X-Inbound-Call-ID", "=cmd|<script>"),
    ("Subject", "<script>alert(1)</script>"),
    ("User-Agent", "=cmd|' /C calc'!A0"),
)
PLAIN = re.compile(r"[A-Za-z0-9_.:+ -]*")
FORMULA = re.compile(r"[=\-@+\t\r]")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with closing(Receiver()) as made:
        yield made


def call(net: Net, pbx: Udp, gate: Gate, number: str, n: int) -> Leg:
    leg = Leg.prepare(pbx, gate.address, number, headers=HEADERS)
    assert leg.invite is not None
    leg.call_id = CALL_ID.replace("{n}", str(n))
    leg.local = f"{DISPLAY} <sip:{USER}@{pbx.address[0]}>;tag=a{n}"
    leg.cseq = 0
    leg.invite = type(leg.invite)(leg.request("INVITE", headers=HEADERS))
    leg.again()
    return leg


def test_it_does_nothing_wherever_it_is_shown(net: Net, receiver: Receiver) -> None:
    hook = {"url": receiver.url, "secret": SECRET, "allow_private": True}
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, limits=UNLIMITED, webhooks=[hook], admin={"tokens": TOKENS}).run()
    page = gate.http("/metrics")[1]

    passed = call(net, pbx, gate, NUMBER, 0)
    invite = carrier.expect("INVITE", call_id=passed.call_id)
    assert invite.get("from").startswith(DISPLAY)  # what the gate has no business with goes on as it came
    far = Leg.answering(carrier, invite)
    far.answer(200)
    passed.ack(pbx.expect(200, "INVITE", passed.call_id))
    carrier.expect("ACK", call_id=passed.call_id)
    (listed,) = shown(gate, "calls", "list")
    assert listed["call_id"] == passed.call_id
    is_tame(command(gate, "calls", "list").stdout)
    assert command(gate, "calls", "release", passed.call_id).stdout.startswith(passed.call_id)
    is_tame(command(gate, "audit").stdout)
    request_and_answer(passed, far, "BYE")
    for n in range(
        1, 6
    ):  # numbers that are none, of a PBX and of the carrier, and each with a name of its own
        sender = (pbx, carrier)[n % 2]
        refused = call(net, sender, gate, f"{USER}{n}", n)
        refused.ack(sender.final("INVITE", refused.call_id))
    into = call(net, carrier, gate, DID, 6)
    at_pbx = pbx.expect("INVITE", call_id=into.call_id)
    Leg.answering(pbx, at_pbx).answer(486)
    into.ack(carrier.final("INVITE", into.call_id))
    pbx.expect("ACK", call_id=into.call_id)

    # The log: one line each, which say what was dialled without obeying it.
    gate.line("call", call_id=passed.call_id)
    until(lambda: len(exported(gate)) == 4, lambda: f"records: {exported(gate)}")
    assert gate.out is not None
    text = gate.out.text.decode()
    assert all(isinstance(json.loads(line), dict) for line in text.splitlines())
    is_tame(text)

    # Records: as they are in JSON, harmless in a spreadsheet, and the same again from its cells.
    records = exported(gate)
    assert {str(one["call_id"]) for one in records} >= {passed.call_id, into.call_id}
    is_tame(command(gate, "cdr", "export").stdout)
    table = command(gate, "cdr", "export", "--format", "csv").stdout
    cells = list(csv.DictReader(io.StringIO(table, newline="")))
    assert len(cells) == len(records)
    for row in cells:
        assert all(not FORMULA.match(cell) or cell.removeprefix("+").isdigit() for cell in row.values())
    assert any(row["caller_raw"].startswith("'=cmd") for row in cells)

    # The API, explain, and what a receiver gets.
    with httpx.Client(base_url=f"http://{hostport(gate.ops)}", timeout=60) as http:
        http.headers["Authorization"] = "Bearer a-token-that-may-do"
        for path in ("cdrs", "refusals", "calls", "alerts", "audit"):
            answer = http.get(f"/api/v1/{path}")
            assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
            assert answer.headers["x-content-type-options"] == "nosniff"
        (life,) = http.get("/api/v1/explain", params={"call_id": passed.call_id}).json()["items"]
        assert (life["call_id"], life["caller_raw"]) == (passed.call_id, records[0]["caller_raw"])
        gone = http.post(f"/api/v1/calls/{quote(passed.call_id, safe='')}/release", json={})
        assert (gone.status_code, passed.call_id in gone.json()["detail"]) == (404, True)
    is_tame(command(gate, "explain", passed.call_id).stdout)
    until(lambda: len([one for one in receiver.taken if one.event["type"] == "cdr"]) == 4, "the events")
    told = {
        one.event["data"]["call_id"]: one.event["data"]
        for one in receiver.taken
        if one.event["type"] == "cdr"
    }
    for one in records:
        assert told[str(one["call_id"])]["caller_raw"] == one["caller_raw"]
    assert receiver.wrong == []

    # Metrics: nothing that came over the network names a series.
    after = gate.http("/metrics")[1]
    assert not re.search(rb"<script|cmd|Evil|calc|%3C", after)
    new = labelled(after) - labelled(page)
    assert all(PLAIN.fullmatch(value) for one in new for value in re.findall(r'"([^"]*)"', one)), new
    assert not gate.lines("internal error")
    assert gate.stop() == 0


def labelled(page: bytes) -> set[str]:
    """Every series that is shown."""
    return {line.rpartition(" ")[0] for line in page.decode().splitlines() if line.startswith("callgate_")}


def exported(gate: Gate) -> list[dict[str, object]]:
    return [json.loads(line) for line in command(gate, "cdr", "export").stdout.splitlines()]


def is_tame(text: str) -> None:
    """Nothing in it that a terminal would obey, or that would look like another line."""
    assert all(char.isprintable() for line in text.split("\n") for char in line), text
    assert "\nEvil" not in text
