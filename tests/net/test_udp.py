"""A UDP listener whose kernel buffer is full keeps what it was given, in order, and says when it went."""

from __future__ import annotations

import asyncio
import socket

from callgate.net.shield import Shield
from callgate.net.udp import UdpSocket
from callgate.proxy.flow import Flow, Listener
from callgate.proxy.peers import Directory, Numbers


class Full:
    """A socket whose send buffer is full for the first calls."""

    def __init__(self, real: socket.socket, refusals: int) -> None:
        self._real = real
        self.refusals = refusals

    def sendto(self, data: bytes, address: tuple[str, int]) -> int:
        if self.refusals:
            self.refusals -= 1
            raise BlockingIOError
        return self._real.sendto(data, address)

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


async def test_a_full_buffer_keeps_order_and_tells_when_it_is_sent() -> None:
    loop = asyncio.get_running_loop()
    went: list[int] = []
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    def received(data: bytes, flow: Flow, now: float) -> None:
        arrived.put_nowait(data)

    def make(port: int) -> UdpSocket:
        listener = Listener(0, b"UDP", "127.0.0.1", port)
        return UdpSocket(
            listener,
            ("127.0.0.1", port),
            received,
            lambda data: None,
            lambda claim, now: went.append(claim),
            lambda: None,
            lambda reason, count: None,
            Shield(Directory([], [], [], Numbers()), each=20, together=100),
        )

    ends = []
    for _ in range(2):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            ends.append(probe.getsockname()[1])
    sender, receiver = make(ends[0]), make(ends[1])
    try:
        sender.start(loop)
        receiver.start(loop)
        sender._socket = Full(sender._socket, refusals=3)  # type: ignore[assignment]
        for claim in (1, 2, 3):
            sender.send(b"copy %d" % claim, "127.0.0.1", ends[1], claim)
        assert went == [], "nothing was handed to the kernel yet"
        assert sender.withdraw(2), "its call has ended"
        async with asyncio.timeout(5):
            assert [await arrived.get(), await arrived.get()] == [b"copy 1", b"copy 3"]
        assert went == [1, 3]
    finally:
        sender.close()
        receiver.close()
