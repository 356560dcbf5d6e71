"""HEP3 packets, as another reader of them reads them; and a server that is not there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.net.harness import free_port
from tests.net.hep_reader import read

from callgate.config import HostPort
from callgate.net import hep as module
from callgate.net.hep import LONGEST, Message, Server, TooLong, packet

OPTIONS = b"OPTIONS sip:x SIP/2.0\r\nCall-ID: a@b\r\n\r\n"
V4: tuple[tuple[str, int], tuple[str, int]] = (("192.0.2.1", 5060), ("198.51.100.5", 5080))
V6 = (("2001:db8::1", 5060), ("fe80::2%eth0", 65_535))


def test_a_packet_octet_for_octet() -> None:
    """By hand from the table of the specification."""
    made = packet((b"UDP", *V4, 1_700_000_000.25, b"SIP", b"a@b"), 2001, b"pw")
    assert made == bytes.fromhex(
        "48455033 0077"
        "0000 0001 0007 02"
        "0000 0002 0007 11"
        "0000 000b 0007 01"
        "0000 0003 000a c0000201"
        "0000 0004 000a c6336405"
        "0000 0007 0008 13c4"
        "0000 0008 0008 13d8"
        "0000 0009 000a 6553f100"
        "0000 000a 000a 0003d090"
        "0000 000c 000a 000007d1"
        "0000 000e 0008 7077"
        "0000 0011 0009 614062"
        "0000 000f 0009 534950"
    )


@pytest.mark.parametrize(
    ("transport", "ends", "family", "protocol"),
    [
        (b"UDP", V4, 2, 17),
        (b"TCP", V4, 2, 6),
        (b"TLS", V4, 2, 6),
        (b"UDP", V6, 10, 17),
        (b"TLS", V6, 10, 6),
    ],
)
def test_where_it_was(
    transport: bytes, ends: tuple[tuple[str, int], tuple[str, int]], family: int, protocol: int
) -> None:
    found = read(packet((transport, *ends, 1.5, OPTIONS, b""), 7))
    assert found == {
        "family": family,
        "protocol": protocol,
        "source": ends[0][0],
        "source_port": ends[0][1],
        "destination": ends[1][0].partition("%")[0],
        "destination_port": ends[1][1],
        "seconds": 1,
        "microseconds": 500_000,
        "kind": 1,
        "agent": 7,
        "payload": OPTIONS,
    }


addresses = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
)
ports = st.integers(0, 65_535)


@given(
    st.sampled_from((b"UDP", b"TCP", b"TLS")),
    addresses,
    ports,
    ports,
    st.integers(0, 2**52),
    st.binary(max_size=3000),
    st.binary(max_size=300),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=40),
)
def test_whatever_goes_in_comes_out(
    transport: bytes,
    hosts: tuple[Any, Any],
    source: int,
    destination: int,
    micro: int,
    data: bytes,
    call_id: bytes,
    agent: int,
    password: bytes,
) -> None:
    ends = (str(hosts[0]), source), (str(hosts[1]), destination)
    found = read(packet((transport, *ends, micro / 1e6, data, call_id), agent, password))
    assert [found["source"], found["destination"]] == [str(host) for host in hosts]
    assert [found["source_port"], found["destination_port"]] == [source, destination]
    assert abs(found["seconds"] * 10**6 + found["microseconds"] - micro % (2**32 * 10**6)) <= 1
    assert found["payload"] == data
    assert found.get("correlation", b"") == call_id
    assert found.get("password", b"") == password
    assert found["agent"] == agent


def message(size: int) -> Message:
    return (b"TCP", *V4, 1.0, b"x" * size, b"")


def test_what_no_datagram_holds() -> None:
    room = LONGEST - len(packet(message(0), 1))
    assert len(packet(message(room), 1)) == LONGEST
    for size in (room + 1, 65_530, 131_070):
        with pytest.raises(TooLong):
            packet(message(size), 1)
    with pytest.raises(TooLong):
        packet((b"TCP", *V4, 1.0, b"", b"x" * 65_536), 1)


# -- the server ------------------------------------------------------------------------------------------------


class Lines:
    """A log that remembers."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def info(self, event: str, **fields: Any) -> None:
        self.events.append(event)

    warning = info


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "monotonic", made)
    return made


@pytest.fixture
def log() -> Lines:
    return Lines()


@pytest.fixture
def homer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
        there.bind(("127.0.0.1", 0))
        there.settimeout(5)
        yield there


def test_a_server_that_is_away_and_comes(clock: Clock, log: Lines) -> None:
    port = free_port()
    server = Server(HostPort("127.0.0.1", port), log)  # type: ignore[arg-type]
    try:
        for n in range(20):
            server.send(b"%d" % n)  # half of them hear of the ICMP error of the one before
            clock.now += 1
        assert log.events == ["hep server away"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
            there.bind(("127.0.0.1", port))
            there.settimeout(5)
            assert server.send(b"now")
            clock.now += module.QUIET_SECONDS + 1
            assert server.send(b"and now")
            assert [there.recv(100), there.recv(100)] == [b"now", b"and now"]
        assert log.events == ["hep server away", "hep server answers again"]
    finally:
        server.close()


def test_a_name_that_is_nobody_s_and_then_somebody_s(
    clock: Clock, log: Lines, homer: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def look_up(host: str, port: int, **how: Any) -> list[Any]:
        asked.append(host)
        if len(asked) < 2:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", homer.getsockname())]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    server = Server(HostPort("homer", 9060), log)  # type: ignore[arg-type]
    try:
        assert not server.send(b"1")
        assert not server.send(b"2")  # it is left alone for a while
        assert (asked, log.events) == (["homer"], ["hep server away"])
        clock.now += module.LOOK_UP_SECONDS
        assert server.send(b"3")
        assert homer.recv(100) == b"3"
        assert asked == ["homer"] * 2
    finally:
        server.close()
