"""Every call has its record, exactly once: over kill -9 under load, with a database that is away; and records come out
again, or are erased, by the commands."""

from __future__ import annotations

import csv
import io
import json
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from tests.cdr.postgres import Postgres
from tests.cdr.support import kept
from tests.e2e.gate import Gate, until
from tests.e2e.net import FORBIDDEN, NUMBER, UNLIMITED, Net
from tests.e2e.phone import Leg, Udp, establish, request_and_answer
from tests.e2e.sipp import Sipp
from tests.e2e.test_control import command, shown

RATE = 150
OTHER = "0398765432"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with closing(Postgres()) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/callgate.db"
    return str(request.getfixturevalue("postgres").fresh())


def test_kill_9_under_load(net: Net, database: str) -> None:
    """Whatever call had ended for 100 ms has its record, once; after a new start nothing is there twice."""
    carrier = net.add(Sipp(net.folder, "uas-answers", net.host(3), calls=100_000, seconds=60).start())
    pbx = net.udp(2)
    gate = net.gate(pbx, carrier.uri, database=database).run()
    time.sleep(1.1)  # a start has no token for one window
    pbx.close()
    host, port = pbx.address
    how = {"to": gate.address, "number": NUMBER, "calls": 1000, "rate": RATE, "hold": 300, "port": port}
    caller = net.add(Sipp(net.folder, "uac-hangs-up", host, traced=True, seconds=60, **how).start())  # type: ignore[arg-type]
    time.sleep(3.0)
    killed = time.time()
    gate.signal(signal.SIGKILL)
    gate.wait()
    records = [one["call_id"] for one in kept(database)]
    caller.close()
    ended = caller.heard("SIP/2.0 200", "BYE")
    durable = {call for call, at in ended.items() if at < killed - 0.1}
    assert len(durable) > RATE
    spilled = set(_spilled(gate))
    assert durable <= set(records) | spilled, (
        f"{len(durable - set(records) - spilled)} of {len(durable)} are missing"
    )
    gate.run()
    until(lambda: gate.metrics().get("records_spill_bytes") == 0, "the spill is read")
    after = [one["call_id"] for one in kept(database)]
    assert len(after) == len(set(after)), "a call has two records"
    assert durable <= set(after)


def _spilled(gate: Gate) -> list[str]:
    path = gate.file.parent / "state" / "records.spill"
    return [json.loads(line)["call_id"] for line in path.read_bytes().splitlines()] if path.exists() else []


def test_away_at_the_start_and_back(net: Net, postgres: Postgres) -> None:
    """The gate starts and serves, says what is wrong, and makes up for it."""
    url = postgres.fresh()
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, database=url)
    postgres.stop()
    try:
        gate.run()
        raised = gate.line("alert.raised", rule="database")
        assert "they wait in" in raised["text"]
        refused = Leg.call(pbx, gate.address, FORBIDDEN)
        refused.ack(pbx.final("INVITE", refused.call_id))
        until(lambda: refused.call_id in _spilled(gate), "it is in the spill")
        gate.settle("database_up", 0.0)
        status, body = gate.http("/readyz")
        assert (status, json.loads(body)["database"]) == (200, {"kind": "postgresql", "state": "down"})
        assert "postgresql://" in command(gate, "cdr", "export", code=1).stderr
    finally:
        postgres.start()
    gate.line("alert.resolved", rule="database")
    assert [one["call_id"] for one in kept(url)] == [refused.call_id]
    assert gate.stop() == 0


def exported(gate: Gate, *words: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in command(gate, "cdr", "export", *words).stdout.splitlines()]


def test_export_and_erase(net: Net) -> None:
    """With the gate running, and without."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, limits=UNLIMITED)
    assert "no records yet" in command(gate, "cdr", "export", code=1).stderr
    gate.run()
    time.sleep(1.1)
    legs = [_whole_call(pbx, gate, carrier), _refused_call(pbx, gate)]
    until(lambda: len(exported(gate)) == 2, "both records are there")
    answered, refused = exported(gate)
    assert [answered["call_id"], refused["call_id"]] == legs
    assert (answered["verdict"], answered["final_code"], answered["fault"]) == ("passed", 200, None)
    assert str(answered["invite_at"]) < str(answered["answer_at"]) < str(answered["end_at"])
    assert (refused["verdict"], refused["rule"], refused["fault"]) == ("refused", "K-X2", "policy")
    assert gate.metrics().get("records_lost_total") == 0
    (line,) = gate.lines("call", call_id=legs[0])
    assert line["id"] == answered["id"]

    table = list(csv.DictReader(io.StringIO(command(gate, "cdr", "export", "--format", "csv").stdout)))
    assert [one["canonical"] for one in table] == ["+81312345678", str(refused["canonical"])]
    assert exported(gate, "--key", "acme", "--from", str(refused["invite_at"])) == [refused]
    assert exported(gate, "--to", "2020-01-01") == []
    assert "there is no key `nobody`" in command(gate, "cdr", "export", "--key", "nobody", code=1).stderr
    assert "no time" in command(gate, "cdr", "export", "--from", "soon", code=2).stderr
    assert "jsonl, csv" in command(gate, "cdr", "export", "--format", "xml", code=2).stderr

    # Running: by the gate, wherever it is, while another call of that number is up.
    live, far = establish(pbx, gate.address, NUMBER, carrier)
    (released,) = shown(gate, "calls", "release", live.call_id)
    assert released["call_id"] == live.call_id
    request_and_answer(live, far, "BYE")
    until(lambda: len(exported(gate)) == 3, "the third record")
    held, far = establish(pbx, gate.address, OTHER, carrier)
    assert b"312345678" in kept_of(gate)
    (done,) = shown(gate, "erase", "--yes", "--number", "03-1234-5678")
    assert (done["database"], done["spill"], done["memory"], done["journal"]) == (2, 0, 0, 2)
    assert done["later"] == []
    assert exported(gate) == [refused]
    assert b"312345678" not in kept_of(gate)
    assert "is known" in command(gate, "explain", legs[0], code=1).stderr
    assert len(shown(gate, "calls", "list")) == 1
    request_and_answer(held, far, "BYE")
    until(lambda: len(exported(gate)) == 2, "the record of the call that was up")
    assert gate.stop() == 0

    # Not running: by the command. The key is gone from the config, and its records are not out of reach.
    config = yaml.safe_load(gate.file.read_text())
    config["keys"]["new"] = config["keys"].pop("acme")
    gate.file.write_text(yaml.safe_dump(config))
    refused, after = exported(gate, "--key", "acme")
    spill = gate.file.parent / "state" / "records.spill"
    spill.write_text(json.dumps(refused | {"id": "0" * 16}) + "\n")
    assert "wait in" in command(gate, "cdr", "export").stderr
    command(gate, "erase", "--yes", code=2)
    (done,) = shown(gate, "erase", "--yes", "--key", "acme")
    assert (done["database"], done["spill"], done["journal"]) == (2, 1, 2)
    assert exported(gate) == []
    assert str(after["call_id"]).encode() not in kept_of(gate)
    proofs = [line for line in shown(gate, "audit") if line["what"] == "erase"]
    assert [line["after"]["database"] for line in proofs] == [2, 2]
    assert proofs[0]["after"]["number"] == "…5678"
    assert "12345678" not in json.dumps(proofs)
    assert proofs[1]["target"] == "acme"


def kept_of(gate: Gate) -> bytes:
    """Every byte of the gate's files: the database and `state_dir`."""
    return b"".join(path.read_bytes() for path in gate.file.parent.rglob("*") if path.is_file())


def _whole_call(pbx: Udp, gate: Gate, carrier: Udp) -> str:
    leg, far = establish(pbx, gate.address, NUMBER, carrier)
    request_and_answer(leg, far, "BYE")
    return leg.call_id


def _refused_call(pbx: Udp, gate: Gate) -> str:
    leg = Leg.call(pbx, gate.address, FORBIDDEN)
    leg.ack(pbx.final("INVITE", leg.call_id))
    return leg.call_id
