"""A UDP socket on an event loop that says when each datagram arrived, by the kernel's clock.

asyncio's own datagram transport hides the ancillary data, and a time read in Python would charge the gate
with the simulator's own delays.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
import sys
import time
from collections.abc import Callable

Address = tuple[str, int]
Receiver = Callable[[bytes, Address, int], None]
"""Takes a datagram, where it came from, and its arrival (nanoseconds of the wall clock)."""

_SO_TIMESTAMPNS = 35  # not in Python's socket module; the value on x86, arm and riscv
_STAMP = struct.Struct("@ll")
_BATCH = 64  # datagrams taken before others on the loop have their turn


def is_loopback(host: str) -> bool:
    """True for a literal loopback address: the only ones these agents ever send to."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Endpoint:
    """One bound socket. Raises ValueError where the address is not loopback, OSError where it can't bind."""

    def __init__(self, host: str, port: int, receiver: Receiver) -> None:
        if not is_loopback(host):
            raise ValueError(f"{host!r} is no loopback address: the simulator stays on this machine")
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            if sys.platform == "linux":
                with contextlib.suppress(OSError):
                    self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self.address: Address = self._socket.getsockname()[:2]
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def send(self, data: bytes, to: Address) -> None:
        """One datagram. What the kernel won't take is lost, as on any network."""
        with contextlib.suppress(OSError):
            self._socket.sendto(data, to)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _readable(self) -> None:
        for _ in range(_BATCH):
            if self._socket.fileno() < 0:
                return  # closed by what the last datagram led to
            try:
                data, ancillary, _, source = self._socket.recvmsg(65535, 256)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # an ICMP error of something sent before
            at = 0
            for level, kind, value in ancillary:
                if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(value) >= _STAMP.size:
                    seconds, nanoseconds = _STAMP.unpack_from(value)
                    at = seconds * 1_000_000_000 + nanoseconds
            self._receiver(data, source[:2], at or time.time_ns())
