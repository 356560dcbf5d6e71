"""The life of the process: it says when it can't start, drains when told to stop, is replaced after a crash without
losing the calls that are up, and never waits for its reader or its ops."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import select
import signal
from collections.abc import Iterator

import pytest
from tests.e2e.gate import DEADLINE, WITHOUT_UVLOOP, Gate, hostport, until
from tests.e2e.net import DID, FORBIDDEN, NUMBER, Net
from tests.e2e.phone import Endpoint, Leg, Server, Udp, ask, establish, request_and_answer, settle

ENDED = 30.0
"""drain_seconds where a test shows that something else ends the process."""


@contextlib.contextmanager
def watched(pid: int) -> Iterator[int]:
    """A descriptor that becomes readable when that process ends."""
    pidfd = os.pidfd_open(pid)
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def ends(pidfd: int) -> bool:
    return bool(select.select((pidfd,), (), (), DEADLINE)[0])


def refused_while_draining(gate: Gate, endpoint: Endpoint, number: str) -> None:
    leg = Leg.call(endpoint, gate.address, number)
    answer = endpoint.final("INVITE", leg.call_id)
    assert answer.code == 503
    assert not answer.get("retry-after")
    leg.ack(answer)
    line = gate.line("call", call_id=leg.call_id)
    assert (line["verdict"], line["rule"]) == ("refused", "drain")


# -- stopping ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_it_drains(net: Net, number: int) -> None:
    """New calls get 503, both ways; the one that is up goes on, can end, and then the process does: exit 0."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, drain_seconds=ENDED).run()
    out, into = establish(pbx, gate.address, NUMBER, carrier)
    inbound, answered = establish(carrier, gate.address, DID, pbx)
    gate.signal(number)
    assert gate.line("callgate draining")["calls"] == 2
    refused_while_draining(gate, pbx, NUMBER)
    refused_while_draining(gate, carrier, DID)
    until(lambda: gate.http("/readyz")[0] == 503, "/readyz says that it drains")
    assert gate.http("/healthz")[0] == 200
    request_and_answer(out, into, "INFO")
    request_and_answer(into, out, "BYE")
    assert gate.running, "a call is still up"
    request_and_answer(answered, inbound, "BYE")
    assert gate.wait() == 0
    assert gate.line("callgate stopped")["calls_abandoned"] == 0


def test_a_call_that_rings_can_still_be_answered_while_draining(net: Net) -> None:
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, drain_seconds=ENDED).run()
    out = Leg.call(pbx, gate.address, NUMBER)
    into = Leg.answering(carrier, carrier.expect("INVITE"))
    into.answer(180)
    pbx.expect(180)
    gate.signal(signal.SIGTERM)
    gate.line("callgate draining")
    into.answer(200)
    out.ack(pbx.expect(200, "INVITE"))
    carrier.expect("ACK")
    request_and_answer(out, into, "BYE")
    assert gate.wait() == 0


def test_nothing_to_drain(net: Net) -> None:
    gate = net.gate(net.pbx(), net.carrier(), drain_seconds=ENDED).run()
    assert gate.stop() == 0


def test_a_second_signal_ends_now(net: Net) -> None:
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, drain_seconds=600).run()
    establish(pbx, gate.address, NUMBER, carrier)
    gate.signal(signal.SIGTERM)
    gate.line("callgate draining")
    assert gate.running
    gate.signal(signal.SIGTERM)
    assert gate.wait() == 0
    assert gate.line("callgate stopped")["calls_abandoned"] == 1


def test_drain_seconds_is_the_longest_wait(net: Net) -> None:
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, drain_seconds=0.3).run()
    establish(pbx, gate.address, NUMBER, carrier)
    gate.signal(signal.SIGTERM)
    assert gate.wait() == 0
    assert gate.line("callgate stopped")["calls_abandoned"] == 1


def test_sighup_does_not_end_it(net: Net) -> None:
    """Whatever can be reloaded: it says what came of it, and no call hears of it."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    out, into = establish(pbx, gate.address, NUMBER, carrier)
    gate.signal(signal.SIGHUP)
    until(
        lambda: [line for line in gate.lines() if line["event"].startswith("callgate reload")],
        "a line about the reload",
    )
    request_and_answer(out, into, "BYE")
    assert gate.http("/readyz")[0] == 200
    assert gate.stop() == 0


def test_its_ops_ends_with_it(net: Net) -> None:
    gate = net.gate(net.pbx(), net.carrier()).run()
    with watched(gate.line("ops ready")["pid"]) as ops:
        assert gate.stop() == 0
        assert ends(ops)


# -- crashes -----------------------------------------------------------------------------------------------


def test_after_kill_9_a_new_start_takes_over(net: Net) -> None:
    """Ops goes along; the same ports bind at once; and a call that was up before is ended by either side through the
    new process, which knows it by the token in the Route alone: outbound and inbound."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    calls = [establish(pbx, gate.address, NUMBER, carrier) for _ in range(2)]
    calls += [establish(carrier, gate.address, DID, pbx) for _ in range(2)]
    connected = net.stream(gate, 2)  # the port of a listener with connections must bind again too
    with watched(gate.line("ops ready")["pid"]) as ops:
        gate.signal(signal.SIGKILL)
        assert gate.wait() == -signal.SIGKILL
        assert ends(ops)
    connected.expect_end()
    gate.run()
    assert gate.http("/readyz")[0] == 200
    for n, (caller, callee) in enumerate(calls):
        first, second = (caller, callee) if n % 2 == 0 else (callee, caller)
        request_and_answer(first, second, "INFO")
        request_and_answer(second, first, "OPTIONS")
        request_and_answer(first, second, "BYE")
    assert not gate.lines("internal error")
    gate.settle("calls_active", 0.0)
    out, into = establish(pbx, gate.address, NUMBER, carrier)
    request_and_answer(out, into, "BYE")


@pytest.mark.parametrize("direction", ["outbound", "inbound"])
@pytest.mark.parametrize("hangs_up", ["caller", "callee"])
def test_after_kill_9_over_tcp(net: Net, direction: str, hangs_up: str) -> None:
    """No connection is left: each side is reached at the address it gave."""
    pbx, trunk = net.server(2), net.server(3)
    gate = net.gate(pbx, trunk).run()
    near, far, last, number = (pbx, trunk, 2, NUMBER) if direction == "outbound" else (trunk, pbx, 3, DID)
    out = Leg.call(net.stream(gate, last), gate.address, number, contact=near.uri)
    stream = net.add(far.accept())
    into = Leg.answering(stream, stream.expect("INVITE"))
    into.contact = far.uri
    into.answer(200)
    out.ack(out.endpoint.expect(200, "INVITE"))
    stream.expect("ACK")
    gate.signal(signal.SIGKILL)
    gate.wait()
    gate.run()
    sender, receiver, listening = (out, into, far) if hangs_up == "caller" else (into, out, near)
    sender.on(net.stream(gate, 2 if (hangs_up == "caller") == (direction == "outbound") else 3))
    sender.send("BYE")
    receiver.on(net.add(listening.accept()))
    receiver.answer(200, receiver.endpoint.expect("BYE"))
    assert sender.endpoint.final("BYE", out.call_id).code == 200


def test_another_secret_cannot_take_a_call_over(net: Net) -> None:
    """`state_dir: null` keeps no secret: after a crash nobody can tell its tokens from forged ones."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, state_dir=None).run()
    out, _ = establish(pbx, gate.address, NUMBER, carrier)
    gate.signal(signal.SIGKILL)
    gate.wait()
    gate.run()
    out.send("BYE")
    assert pbx.final("BYE", out.call_id).code == 481
    settle(carrier, gate)
    assert not [m for m in carrier.arrived() if m.method == "BYE"]


def test_no_outbound_call_for_a_second_after_a_start(net: Net) -> None:
    """What was sent just before the crash is unknown: with a rate, no token is free for one full window."""
    pbx, carrier = net.pbx(), net.udp(3, stamps=True)
    gate = net.gate(pbx, carrier, limits={"outbound_cps": 3}).run()

    def passed() -> float:
        """When a call arrived at the carrier; 0.0 where it was refused."""
        leg = Leg.call(pbx, gate.address, NUMBER)
        settle(pbx, gate)
        arrived = [m for m in carrier.arrived() if m.call_id == leg.call_id]
        if arrived:
            Leg.answering(carrier, arrived[0]).answer(486)
        leg.ack(pbx.final("INVITE", leg.call_id))
        return arrived[0].stamp if arrived else 0.0

    before = [until(passed, "a call that passes") for _ in range(3)]
    gate.signal(signal.SIGKILL)
    gate.wait()
    gate.run()
    first = until(passed, "a call that passes after the new start")
    assert first - max(before) > 1.0


def test_kill_9_of_ops(net: Net) -> None:
    """Its death never touches a call, and it is started anew."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    out, into = establish(pbx, gate.address, NUMBER, carrier)
    pid = gate.line("ops ready")["pid"]
    with watched(pid) as ops:
        os.kill(pid, signal.SIGKILL)
        assert ends(ops)
    with pytest.raises(OSError):
        gate.http("/healthz")
    request_and_answer(out, into, "INFO")
    inbound, answered = establish(carrier, gate.address, DID, pbx)
    request_and_answer(answered, inbound, "BYE")
    assert gate.line("ops ended", pid=pid)["exit_code"] == -signal.SIGKILL
    assert gate.line("ops ready", 2)["pid"] != pid
    assert gate.http("/healthz")[0] == 200
    assert gate.http("/readyz")[0] == 200
    metrics = gate.metrics()
    assert metrics.get("ops_restarts_total") == 1
    assert metrics.get("calls_active", direction="outbound") == 1, "what was counted is still there"
    assert metrics.get("calls_total", direction="inbound", outcome="answered") == 1
    request_and_answer(into, out, "BYE")


# -- starting ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_port_that_is_taken(net: Net, transport: str) -> None:
    """Exit 1, and stderr says which."""
    gate = net.gate(net.pbx(), net.carrier())
    host, port = gate.address
    taken = net.add(Udp(host, port)) if transport == "udp" else net.add(Server(host, port))
    gate.start()
    assert gate.wait() == 1
    assert gate.err is not None
    said = gate.err.join().decode()
    assert f"{transport}://{hostport(taken.address)}" in said
    assert "in use" in said
    assert "Traceback" not in said
    assert not gate.lines("callgate ready")


def test_the_port_of_ops_is_taken(net: Net) -> None:
    """Calls are served; it says that ops is missing, is not ready before, and is as soon as the port comes free."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier)
    taken = net.add(Server(*gate.ops))
    gate.start()

    def answers() -> bool:
        with contextlib.suppress(AssertionError):
            call_id = ask(pbx, gate, "Content-Length: 0")
            return pbx.final("OPTIONS", call_id, 0.1).code == 200
        return False

    until(answers, "the gate answers")
    out, into = establish(pbx, gate.address, NUMBER, carrier)
    assert not gate.lines("callgate ready")
    taken.close()
    gate.ready()
    assert gate.http("/readyz")[0] == 200
    request_and_answer(out, into, "BYE")
    assert gate.stop() == 0


FAULTY = """\
listen: ["udp://{udp}", "tcp://{tcp}"]
ops: "http://{ops}"
drain_second: 5
trunks:
  carrier:
    gateways: ["sip:127.0.0.1:99999"]
    numbering: mars
keys:
  acme:
    sources: ["127.0.0.1/32"]
    trunk: carrier
    limits:
      outbound_cps: many
"""


def test_a_malformed_config(net: Net) -> None:
    """Exit 2, every fault with its line, and nothing bound: its ports are taken here, and nobody says so."""
    host = net.host(1)
    udp, tcp, ops = net.udp(1), net.server(1), net.server(1)
    gate = net.gate(net.pbx(), net.carrier())
    addresses = {name: hostport(taken.address) for name, taken in (("udp", udp), ("tcp", tcp), ("ops", ops))}
    text = FAULTY.format(**addresses)
    gate.file.write_text(text)
    gate.start()
    assert gate.wait() == 2
    assert gate.err is not None
    assert gate.out is not None
    said = gate.err.join().decode()
    lines = text.splitlines()
    for fault in ("drain_second", "99999", "numbering", "outbound_cps"):
        line = next(n for n, one in enumerate(lines, 1) if fault in one)
        assert f"{gate.file}:{line}:" in said, f"{fault} is named with its line\n{said}"
    assert "in use" not in said
    assert host not in said
    assert "Traceback" not in said
    assert gate.out.join() == b""
    assert not (net.folder / "state").exists()


def test_a_config_that_is_not_there(net: Net) -> None:
    gate = net.gate(net.pbx(), net.carrier())
    gate.file.unlink()
    gate.start()
    assert gate.wait() == 2
    assert gate.err is not None
    said = gate.err.join().decode()
    assert str(gate.file) in said
    assert "Traceback" not in said


def test_a_state_dir_that_cannot_be(net: Net) -> None:
    """Exit 1: without it a restart would lose every call, so it says which directory, and starts nothing."""
    gate = net.gate(net.pbx(), net.carrier(), state_dir="./callgate.yaml/state")
    gate.start()
    assert gate.wait() == 1
    assert gate.err is not None
    said = gate.err.join().decode()
    assert str(net.folder / "callgate.yaml") in said
    assert "state_dir" in said
    assert "Traceback" not in said


def test_a_state_dir_that_cannot_even_be_looked_at(net: Net) -> None:
    """As that of another user: whether a gate ran there before is asked first. Here its name is too long."""
    gate = net.gate(net.pbx(), net.carrier(), state_dir="./" + "x" * 300)
    gate.start()
    assert gate.wait() == 1
    assert gate.err is not None
    said = gate.err.join().decode()
    assert "state_dir" in said
    assert "name a folder that can be written" in said
    assert "Traceback" not in said


def test_a_state_dir_that_cannot_be_written(net: Net) -> None:
    """A secret that can't be read is said too, with its place, and not replaced by another."""
    gate = net.gate(net.pbx(), net.carrier())
    (net.folder / "state" / "secret").mkdir(parents=True)
    gate.start()
    assert gate.wait() == 1
    assert gate.err is not None
    said = gate.err.join().decode()
    assert str(net.folder / "state") in said
    assert "state_dir" in said
    assert "Traceback" not in said


def test_without_uvloop(net: Net) -> None:
    """A warning, and everything works: UDP, TCP, ICMP, ops, drain."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run(WITHOUT_UVLOOP)
    assert "uvloop" in gate.lines(level="warning")[0]["event"]
    gone = net.udp(2)
    Leg.call(gone, gate.address, FORBIDDEN)
    gone.close()
    out, into = establish(pbx, gate.address, NUMBER, carrier)
    settle(net.stream(gate, 2), gate)
    request_and_answer(out, into, "BYE")
    gate.settle("calls_active", 0.0)
    assert gate.stop() == 0


def test_the_warning_comes_only_without_uvloop(net: Net) -> None:
    gate = net.gate(net.pbx(), net.carrier()).run()
    warned = any("uvloop" in line["event"] for line in gate.lines(level="warning"))
    assert warned == (importlib.util.find_spec("uvloop") is None)


# -- its reader --------------------------------------------------------------------------------------------


def refuse(gate: Gate, pbx: Udp, calls: int) -> None:
    """So many calls to a number that never passes, one line of the log each."""
    for _ in range(calls):
        leg = Leg.call(pbx, gate.address, FORBIDDEN)
        leg.ack(pbx.expect(403, "INVITE", leg.call_id))


def test_a_reader_that_stops_reading_does_not_stop_calls(net: Net) -> None:
    """The pipe is full after a few lines; calls go on; and when the reader reads again, not a line is missing."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    assert gate.out is not None
    assert gate.process is not None
    assert gate.process.stdout is not None
    gate.out.pause()
    fcntl.fcntl(gate.process.stdout, fcntl.F_SETPIPE_SZ, 4096)
    calls = 300
    refuse(gate, pbx, calls)
    out, into = establish(pbx, gate.address, NUMBER, carrier)
    request_and_answer(out, into, "BYE")
    assert gate.metrics().get("calls_total", outcome="refused") == calls
    assert len(gate.out.text) < 100_000, "nobody has read"
    gate.out.go_on()
    gate.line("call", calls + 1)
    assert len(gate.lines("call")) == calls + 1
    assert gate.metrics().get("log_lines_lost_total") == 0


def test_it_ends_though_nobody_reads(net: Net) -> None:
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    assert gate.out is not None
    gate.out.pause()
    refuse(gate, pbx, 300)
    assert gate.stop() == 0


def test_a_reader_that_is_gone(net: Net) -> None:
    """A closed pipe costs the log, not the calls."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    gate.let_go()
    refuse(gate, pbx, 20)
    out, into = establish(pbx, gate.address, NUMBER, carrier)
    request_and_answer(out, into, "BYE")
    gate.settle("calls_active", 0.0)
    assert gate.metrics().get("calls_total", outcome="refused") == 20
    assert gate.stop() == 0
