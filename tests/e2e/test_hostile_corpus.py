"""The hostile corpus through the running program, over UDP and TCP, from the PBX of a key, from the trunk and from a
stranger, while a call is up that nobody may disturb. It names addresses all over the world: there is only loopback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.e2e.gate import Gate
from tests.e2e.loopback import loopback_only
from tests.e2e.net import Net
from tests.e2e.phone import Stream, Udp, settle
from tests.e2e.test_hostile import rejected, undisturbed
from tests.hostile.corpus import Hostile, everything
from tests.torture import wire
from tests.torture.wire import Octets

PORTION = 20
"""Messages between two looks at what has come: as many of the largest fit into a socket's buffer."""


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    with loopback_only(), closing(Net(tmp_path)) as places:
        yield places


def refuse(*sides: Udp) -> None:
    """Whoever has got a request refuses it: three calls without an answer would be a trunk that is down."""
    for side in sides:
        for message in side.arrived():
            request = Octets(message.data)
            if not request.code and request.method != b"ACK":
                code = 486 if request.method == b"INVITE" else 200
                side.send(wire.answer_to(message.data, code), message.source)
        side.inbox.clear()


def portions() -> Iterator[list[Hostile]]:
    messages = everything()
    for begin in range(0, len(messages), PORTION):
        yield messages[begin : begin + PORTION]


def test_as_datagrams(net: Net) -> None:
    pbx, carrier, stranger = net.pbx(), net.carrier(), net.udp(9)
    gate = net.gate(pbx, carrier).run()
    with undisturbed(gate, pbx, carrier):
        for portion in portions():
            for sender in (pbx, carrier, stranger):
                for hostile in portion:
                    sender.send(hostile.data, gate.address)
                settle(pbx, gate)
                refuse(carrier, pbx)
                stranger.inbox.clear()
        settle(pbx, gate)
        refuse(carrier, pbx)
        assert rejected(gate)["malformed request"] > 500, "not all of it was read"


def test_on_streams(net: Net) -> None:
    """Each on a connection of its own, which may be closed; the answers are for nobody."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    with undisturbed(gate, pbx, carrier):
        for n, portion in enumerate(portions()):
            streams = [_sent(gate, net.host((2, 9)[n % 2]), hostile.data) for hostile in portion]
            settle(pbx, gate)
            refuse(carrier, pbx)
            for stream in streams:
                stream.close()
        settle(pbx, gate)
        refuse(carrier, pbx)


def _sent(gate: Gate, host: str, data: bytes) -> Stream:
    stream = Stream.to(gate.address, host)
    with contextlib.suppress(ConnectionError):  # closed before we were done
        stream.send(data)
    return stream
