"""The commands that operate a running gate, through the program: calls, keys, audit, status, reload."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from typing import Any, NamedTuple

import yaml
from tests.e2e.gate import Gate, until
from tests.e2e.net import DID, NUMBER, Net
from tests.e2e.phone import establish, request_and_answer
from tests.e2e.sipp import Sipp
from typer.testing import CliRunner

from callgate.cli import build


class Done(NamedTuple):
    stdout: str
    stderr: str


def command(gate: Gate, *words: str, code: int = 0) -> Done:
    """`callgate WORDS -c FILE`, in this process: the program's start takes longer than all that it does. `-c` stands
    after the subcommand."""
    told = [*words, "-c", str(gate.file)]
    done = CliRunner().invoke(build(told), told, prog_name="callgate")
    assert done.exit_code == code, (told, done.exit_code, done.stdout, done.stderr, done.exception)
    return Done(done.stdout, done.stderr)


def shown(gate: Gate, *words: str, code: int = 0) -> list[dict[str, Any]]:
    """The JSON lines of a command's answer."""
    return [json.loads(line) for line in command(gate, *words, "--json", code=code).stdout.splitlines()]


def change(gate: Gate, **top: Any) -> dict[str, Any]:
    """Edit the config file: `keys__acme__limits={…}` replaces what stands at `keys.acme.limits`, None takes it out."""
    config: dict[str, Any] = yaml.safe_load(gate.file.read_text())
    for path, value in top.items():
        *way, last = path.split("__")
        place = config
        for name in way:
            place = place[name]
        if value is None:
            place.pop(last)
        else:
            place[last] = value
    gate.file.write_text(yaml.safe_dump(config))
    return config


def test_the_operator_s_day(net: Net) -> None:
    """Calls are listed, hung up and released; a key is suspended, and stays so over kill -9 and restart; all of it is
    in the audit log."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, limits={"outbound_cps": None, "outbound_calls": 5}).run()
    path = net.folder / "state" / "control.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (status,) = shown(gate, "status")
    assert (status["state"], status["keys"], status["calls"]) == ("ready", 1, 0)
    program = [sys.executable, "-m", "callgate", "calls", "list", "-c", str(gate.file)]
    assert subprocess.check_output(program, timeout=60) == b"no calls\n"

    out, into = establish(pbx, gate.address, NUMBER, carrier)
    (call,) = shown(gate, "calls", "list")
    assert (call["key"], call["direction"], call["state"]) == ("acme", "outbound", "up")
    assert (call["to"], call["lines"], call["gateway"]) == (NUMBER, {"outbound_calls": 1}, carrier.uri)
    assert NUMBER in command(gate, "calls", "list").stdout
    freed = shown(gate, "calls", "release", call["call_id"])
    assert freed[0]["freed"] == {"outbound_calls": 1}
    assert shown(gate, "calls", "list")[0]["lines"] == {}
    command(gate, "calls", "release", call["id"], "--hangup")
    for side in (out, into):
        side.answer(200, side.endpoint.expect("BYE", call_id=side.call_id))
    until(lambda: not shown(gate, "calls", "list"), "the call's end")
    assert "there is no call" in command(gate, "calls", "release", call["call_id"], code=1).stderr

    assert "there is no key" in command(gate, "keys", "suspend", "nobody", code=1).stderr
    assert (
        "past" in command(gate, "keys", "suspend", "acme", "--until", "2020-01-01T00:00:00Z", code=2).stderr
    )
    command(gate, "keys", "suspend", "acme", "--until", "2h", "--reason", "unpaid")
    (key,) = shown(gate, "keys", "list")
    assert (key["state"], key["reason"]) == ("suspended", "unpaid")
    gate.settle("suspended", 1.0, key="acme")
    gate.signal(signal.SIGKILL)
    gate.wait()
    assert "no gate is running" in command(gate, "keys", "list", code=1).stderr
    gate.run()
    (key,) = shown(gate, "keys", "list")
    assert (key["state"], key["reason"]) == ("suspended", "unpaid")
    command(gate, "keys", "resume", "acme")
    assert "not suspended" in command(gate, "keys", "resume", "acme", code=1).stderr
    assert gate.stop() == 0
    assert not path.exists()
    lines = shown(gate, "audit")
    what = [(line["what"], line["target"]) for line in lines]
    assert what == [
        ("start", ""),
        ("release", call["call_id"]),
        ("release", call["call_id"]),
        ("suspend", "acme"),
        ("start", ""),
        ("resume", "acme"),
        ("drain", ""),
        ("stop", ""),
    ]
    assert f"(uid {os.getuid()}, pid" in lines[3]["who"]
    assert lines[3]["after"]["reason"] == lines[5]["before"]["reason"] == "unpaid"
    assert len(shown(gate, "audit", "--last", "2")) == 2


def test_a_config_that_the_operator_can_not_use(net: Net) -> None:
    """A secret that is only in the gate's environment, a file that is half edited: the gate can be operated; one that
    keeps nothing can't."""
    gate = net.gate(net.pbx(), net.carrier()).run()
    change(gate, secret="${NOT_HERE}", keys__acme__numbers=["rubbish"])
    assert shown(gate, "status")[0]["state"] == "ready"
    assert "restart" not in command(gate, "reload", code=1).stderr
    change(gate, state_dir=None)
    gate.file.write_text(gate.file.read_text() + "\nstate_dir: null\n")
    assert "`state_dir` is null" in command(gate, "keys", "list", code=2).stderr
    gate.file.write_text("[")
    command(gate, "keys", "list", code=2)
    command(gate, "keys", "suspend", code=2)


def test_a_reload(net: Net) -> None:
    """A key comes, a key goes while its call is up, a limit falls below what is in use; what needs a restart is refused
    whole."""
    pbx, other, carrier = net.pbx(), net.udp(5), net.carrier()
    gate = net.gate(pbx, carrier, limits={"outbound_cps": None, "outbound_calls": 5}).run()
    out, into = establish(pbx, gate.address, NUMBER, carrier)
    more = {"sources": [other.address[0]], "trunk": "carrier", "limits": {"outbound_cps": None}}
    change(gate, keys__acme__limits={"outbound_calls": 0}, keys__late=more)
    (changes,) = shown(gate, "reload")
    assert changes == {"keys_added": ["late"], "keys_changed": ["acme"]}
    assert gate.metrics().get("outbound_calls_limit", key="acme") == 0
    assert gate.metrics().get("suspended", key="late") == 0
    late_out, late_into = establish(other, gate.address, NUMBER, carrier)
    change(gate, keys__acme=None)
    gate.signal(signal.SIGHUP)
    assert gate.line("callgate reloaded", count=2)["keys_removed"] == ["acme"]
    assert sorted(row["key"] for row in shown(gate, "calls", "list")) == ["acme", "late"]
    request_and_answer(out, into, "INFO")
    request_and_answer(into, out, "BYE")
    request_and_answer(late_out, late_into, "BYE")
    change(
        gate, listen=["udp://127.0.0.1:5999"], drain_seconds=3, keys__late__limits={"outbound_cps": "many"}
    )
    refused = command(gate, "reload", code=1).stderr
    assert "keys.late.limits.outbound_cps" in refused
    change(gate, keys__late__limits={})
    refused = command(gate, "reload", code=1).stderr
    assert "listen: has changed, which needs a restart" in refused
    gate.line("callgate reload refused", count=2)
    assert shown(gate, "keys", "list")[0]["limits"].keys() == {
        "inbound_calls",
        "lines",
        "recordings",
        "forwarded_calls",
    }
    assert gate.stop() == 0


def test_a_state_dir_that_can_not_be_written(net: Net) -> None:
    """A suspension holds all the same, and the operator is told that it is not kept."""
    gate = net.gate(net.pbx(), net.carrier()).run()
    (net.folder / "state" / ".suspensions.json.new").mkdir()  # also for root
    told = command(gate, "keys", "suspend", "acme", code=1)
    assert "acme: suspended until it is resumed" in told.stdout
    assert "suspended, but not over a restart" in told.stderr
    assert gate.line("alert.raised", rule="suspensions")["severity"] == "critical"
    assert shown(gate, "keys", "list")[0]["state"] == "suspended"
    (net.folder / "state" / ".suspensions.json.new").rmdir()
    gate.line("alert.resolved", rule="suspensions")
    assert (
        json.loads((net.folder / "state" / "suspensions.json").read_text())["suspensions"][0]["key"] == "acme"
    )


def test_an_inbound_call_of_a_suspended_key(net: Net) -> None:
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    out, into = establish(carrier, gate.address, DID, pbx)
    command(gate, "keys", "suspend", "acme", "--drop")
    for side in (out, into):
        side.answer(200, side.endpoint.expect("BYE", call_id=side.call_id))
    until(lambda: not shown(gate, "calls", "list"), "the call's end")


def test_reloads_under_load(net: Net) -> None:
    """A hundred and twenty calls of SIPp come and go while the key, the trunk and three hundred other keys change,
    over and over: not one of them hears of it."""
    calls = 120
    trunk = net.add(Sipp(net.folder, "uas-answers", net.host(3), calls=calls))
    gate = net.gate(net.pbx(), trunk.uri, limits={"outbound_cps": None, "outbound_calls": 500}).run()
    trunk.start()
    out = Sipp(
        net.folder,
        "uac-hangs-up",
        net.host(2),
        to=gate.address,
        number=NUMBER,
        calls=calls,
        rate=30,
        hold=400,
    )
    net.add(out).start()
    rounds = 0
    while out.process is not None and out.process.poll() is None:
        rounds += 1
        others = {
            f"k{n}": {"sources": [f"10.0.{n // 250}.{n % 250}"], "trunk": "carrier"} for n in range(300)
        }
        acme = yaml.safe_load(gate.file.read_text())["keys"]["acme"]
        acme["limits"]["outbound_calls"] = 500 - rounds
        change(
            gate,
            keys={"acme": acme} | (others if rounds % 2 else {}),
            trunks__carrier__try_seconds=3 + rounds % 2,
        )
        gate.signal(signal.SIGHUP)
        gate.line("callgate reloaded", count=rounds)
    assert rounds > 1
    assert not [line for line in gate.lines("call") if line["outcome"] != "answered"]
    assert not gate.lines("internal error")
    for side in (trunk, out):
        counters = side.done()
        assert counters["SuccessfulCall"] == calls
        assert not counters["FailedCall"]
        assert not counters["OutOfCallMsgs"]
    gate.line("call", calls)
    gate.settle("calls_active", 0.0, key="acme")
    gate.settle("outbound_calls_used", 0.0, key="acme")
