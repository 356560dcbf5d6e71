"""Copies of messages: what listeners show, how much is kept and waits, and that nobody waits for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from tests.net.harness import HOST, free_port, until
from tests.net.hep_reader import read

from callgate.config import HostPort
from callgate.config.schema import Hep
from callgate.net import capture as module
from callgate.net.capture import OVERHEAD, Capture
from callgate.net.desk import OPERATIONS, Desk, Unfit
from callgate.net.gate import Gate
from callgate.net.shield import Shield
from callgate.net.udp import UdpSocket
from callgate.policy.dial import DialRules
from callgate.policy.profile import NumberRules
from callgate.proxy.directory import Directory
from callgate.proxy.flow import Listener
from callgate.proxy.peers import Key, Numbers, Trunk
from callgate.proxy.telemetry.meters import Meters

UDP = Listener(0, b"UDP", "192.0.2.10", 5060)
PBX, HERE = ("192.0.2.20", 5060), ("192.0.2.10", 5060)
Shown = tuple[bool, bytes, Listener, tuple[str, int], tuple[str, int]]


def sip(
    first: str = "OPTIONS sip:+81312345678@192.0.2.10 SIP/2.0", call_id: str = "a@b", *more: str
) -> bytes:
    lines = [first, f"i : {call_id} ", "CSeq: 7  OPTIONS", *more, "Content-Length: 0", "", ""]
    return "\r\n".join(lines).encode()


def directory(*secret_headers: str) -> Directory:
    key = Key("acme", Trunk("carrier"), DialRules(NumberRules({})), networks=[])
    return Directory([UDP], [], [key], Numbers(), secret_headers=secret_headers)


class Rig:
    """A capture towards a Homer of the test's."""

    def __init__(self) -> None:
        self.homer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.homer.bind((HOST, 0))
        self.homer.settimeout(5)
        self.meters = Meters([])
        self.directory = directory("X-Key")
        server = HostPort(*self.homer.getsockname())
        hep = Hep.model_construct(server=server, capture_id=7, password=None)
        self.capture = Capture(hep, self.meters, structlog.get_logger(), lambda: self.directory)

    def count(self, name: str, *labels: str) -> float:
        return self.meters.values[self.meters.series(name, *labels)]

    def next(self) -> dict[str, Any]:
        return read(self.homer.recv(65_535))

    def kept(self, call_id: str = "a@b", *, full: bool = False) -> list[dict[str, Any]]:
        return list(self.capture.of_call(call_id, full_numbers=full))

    def close(self) -> None:
        self.capture.close()
        self.homer.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.close()


def test_what_homer_gets_and_what_is_kept(rig: Rig) -> None:
    rig.capture.start([])
    rig.capture.put(False, sip("OPTIONS sip:+81312345678@192.0.2.10 SIP/2.0"), UDP, HERE, PBX)
    rig.capture.put(True, sip("SIP/2.0 200 OK"), UDP, HERE, PBX)
    rig.capture.put(True, sip("SIP/2.0 200 OK"), UDP, HERE, PBX)
    came, went, _ = rig.next(), rig.next(), rig.next()
    assert (came["source"], came["destination"]) == (PBX[0], HERE[0])
    assert (went["source"], went["destination"]) == (HERE[0], PBX[0])
    assert came["payload"] == sip()
    assert came["correlation"] == b"a@b"
    rows = rig.kept()
    assert [(row["sent"], row["what"], row["about"], row["cseq"], row["again"]) for row in rows] == [
        (False, "OPTIONS", "…5678", "7 OPTIONS", False),
        (True, "200", "OK", "7 OPTIONS", False),
        (True, "200", "OK", "7 OPTIONS", True),
    ]
    assert {(row["transport"], row["gate"], row["peer"], row["name"]) for row in rows} == {
        ("udp", "192.0.2.10:5060", "192.0.2.20:5060", "")
    }
    assert rig.kept(full=True)[0]["about"] == "sip:+81312345678@192.0.2.10"
    assert rig.kept("a@c") == []
    assert rig.count("hep_sent_total") == 3


def test_a_key_s_secret_header_goes_after_a_reload_too(rig: Rig) -> None:
    rig.capture.start([])
    rig.capture.put(
        False, sip("OPTIONS sip:x SIP/2.0", "a@b", "X-Key: hunter2", "X-New: hunter2"), UDP, HERE, PBX
    )
    assert rig.next()["payload"].count(b"hunter2") == 1
    rig.directory = directory("X-New")
    rig.capture.put(
        False, sip("OPTIONS sip:x SIP/2.0", "a@b", "X-Key: hunter2", "X-New: hunter2"), UDP, HERE, PBX
    )
    assert b"hunter2" not in rig.next()["payload"]


def test_beyond_the_bound_copies_are_lost_and_counted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(sip()) + OVERHEAD
    monkeypatch.setattr(module, "QUEUE_BYTES", 10 * size)
    for _ in range(25):  # the thread has not begun
        rig.capture.put(False, sip(), UDP, HERE, PBX)
    assert rig.count("hep_lost_total", "queue full") == 15
    rig.capture.start([])
    assert len([rig.next() for _ in range(10)]) == 10
    assert len(rig.kept()) == 10
    rig.capture.put(False, sip(), UDP, HERE, PBX)  # there is room again
    rig.next()
    assert rig.count("hep_lost_total", "queue full") == 15


def test_what_is_kept_is_bounded(rig: Rig) -> None:
    assert rig.capture._kept.maxlen == module.MESSAGES_KEPT
    rig.capture.start([])
    rig.capture.put(False, sip("X" * 60_000, "c" * 5_000), UDP, HERE, PBX)
    (row,) = rig.kept("c" * 5_000)
    assert len(row["what"]) == module.LONGEST_LINE


def test_too_long_for_a_datagram_and_no_sip_at_all(rig: Rig) -> None:
    rig.capture.start([])
    rig.capture.put(False, sip("OPTIONS sip:x SIP/2.0", "a@b", "X: " + "x" * 70_000), UDP, HERE, PBX)
    for keep_alive in (b"\r\n\r\n", b"\r\n" * 9, b"\0\0\0\0", b""):
        rig.capture.put(False, keep_alive, UDP, HERE, PBX)
    rig.capture.put(False, b"\xff\xfe no SIP", UDP, HERE, PBX)
    assert rig.next()["payload"] == b"\xff\xfe no SIP"
    assert [row["what"] for row in rig.kept()] == ["OPTIONS"]  # the ladder has it
    assert rig.count("hep_lost_total", "too long") == 1
    assert rig.count("hep_sent_total") == 1


def test_a_listener_on_every_address(rig: Rig) -> None:
    rig.capture.start([])
    rig.capture.put(True, sip(), UDP, ("0.0.0.0", 5060), (HOST, 5080))
    found = rig.next()
    assert (found["source"], found["source_port"]) == (HOST, 5060)


def test_what_waits_goes_out_at_the_end(rig: Rig) -> None:
    rig.capture.start([])
    rig.capture.put(False, sip(), UDP, HERE, PBX)
    rig.capture.close()
    assert rig.next()["payload"] == sip()


def test_a_fault_of_ours_costs_one_copy(rig: Rig) -> None:
    rig.capture.start([])
    rig.capture.put(False, sip(), UDP, HERE, ("no address", 1))
    rig.capture.put(False, sip(), UDP, HERE, PBX)
    assert rig.next()["payload"] == sip()
    assert rig.count("hep_lost_total", "internal error") == 1


# -- what listeners show ---------------------------------------------------------------------------------------


class Tape:
    def __init__(self) -> None:
        self.shown: list[Shown] = []

    def __call__(self, *shown: Any) -> None:
        self.shown.append(cast(Shown, shown))


async def test_a_udp_listener_shows_what_came_and_what_the_kernel_took() -> None:
    port, tape = free_port(), Tape()
    listener = Listener(0, b"UDP", HOST, port)
    heard: list[bytes] = []
    everybody = Directory([listener], [], [], Numbers())
    bound = UdpSocket(
        listener,
        (HOST, port),
        lambda data, flow, now: heard.append(data),
        lambda data: None,
        lambda claim, now: None,
        lambda: None,
        lambda reason, count: None,
        Shield(lambda: everybody, each=100, together=100),
    )
    bound.show(tape)
    bound.start(asyncio.get_running_loop())
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind((HOST, 0))
            where = peer.getsockname()
            peer.sendto(sip(), (HOST, port))
            await until(lambda: heard)
            bound.send(b"answer", *where, 0)
            bound.send(b"again", *where, 0)
            bound.send(b"x" * 70_000, *where, 0)  # the kernel takes no such datagram
        assert tape.shown == [
            (False, sip(), listener, (HOST, port), where),
            (True, b"answer", listener, (HOST, port), where),
            (True, b"again", listener, (HOST, port), where),
        ]
    finally:
        bound.close()


async def test_where_tracing_is_off_the_desk_says_so() -> None:
    desk = Desk.__new__(Desk)
    desk._gate = cast(Gate, SimpleNamespace(capture=None))
    with pytest.raises(Unfit, match="tracing is off, set `hep` in its config"):
        await OPERATIONS["sip"].handle(desk, {"call": "a@b"}, "somebody")
