"""What every simulated side stands on: a socket, timers, and names for what it sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVarTuple

from callgate.sim.udp import Address, Endpoint
from callgate.sim.wire import host_port
from callgate.sip.fields import COOKIE

_Args = TypeVarTuple("_Args")


@dataclass(slots=True)
class Traffic:
    """What an agent noticed that should not happen on a clean line."""

    repeated: int = 0
    """Requests that came once more."""
    faults: list[str] = field(default_factory=list)
    """What the other side did wrong, in words; the first hundred."""

    def fault(self, text: str) -> None:
        if len(self.faults) < 100:
            self.faults.append(text)


class Node:
    """Sends and receives on one loopback address.

    `name` is the user part of its Contact and begins its Call-IDs, branches and tags, which are counted, not
    drawn: the same run makes the same ones.
    """

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.traffic = Traffic()
        self._timers: set[asyncio.TimerHandle] = set()
        self._planned = 0
        self._serial = 0
        self._endpoint: Endpoint | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def on_datagram(self, data: bytes, source: Address, at: int) -> None:
        """A datagram came; `at`: the kernel's arrival time, nanoseconds."""
        raise NotImplementedError

    def start(self, host: str = "127.0.0.1", port: int = 0) -> Address:
        """Bind; port 0 takes a free one. Needs a running loop. Raises OSError, ValueError (no loopback)."""
        self._endpoint = Endpoint(host, port, self.on_datagram)
        return self._endpoint.address

    def close(self) -> None:
        """Forget everything and free the port; nothing more is sent."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._endpoint is not None:
            self._endpoint.close()

    @property
    def address(self) -> Address:
        if self._endpoint is None:
            raise RuntimeError("the agent has not been started")
        return self._endpoint.address

    def busy(self) -> None:
        """Something is up: not idle."""
        self._idle.clear()

    def rest(self) -> None:
        """Idle from now on, unless something is planned or up."""
        if not self._planned and not self.engaged():
            self._idle.set()

    def engaged(self) -> bool:
        """Whether something is up."""
        return False

    async def idle(self, within: float) -> bool:
        """Wait until nothing planned is left to do and no call is up; False after `within` seconds."""
        try:
            async with asyncio.timeout(within):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def after(self, seconds: float, do: Callable[[*_Args], object], *args: *_Args) -> None:
        """Call `do` later, unless the agent is closed before."""

        def fire() -> None:
            self._timers.discard(timer)
            do(*args)

        timer = asyncio.get_running_loop().call_later(seconds, fire)
        self._timers.add(timer)

    def plan(self, seconds: float, do: Callable[[*_Args], object], *args: *_Args) -> None:
        """As `after`, and until then the agent is not idle."""
        self._planned += 1
        self.busy()

        def fire() -> None:
            self._planned -= 1
            do(*args)
            self.rest()

        self.after(seconds, fire)

    def _send(self, data: bytes, to: Address) -> None:
        if self._endpoint is not None:
            self._endpoint.send(data, to)

    def _via(self, branch: bytes) -> bytes:
        return b"SIP/2.0/UDP %b;branch=%b;rport" % (host_port(self.address), branch)

    def _contact(self) -> bytes:
        return b"<sip:%b@%b>" % (self.name, host_port(self.address))

    def _branch(self) -> bytes:
        return b"%b%b%d" % (COOKIE, self.name, self._next())

    def _tag(self) -> bytes:
        return b"%b%d" % (self.name, self._next())

    def _next(self) -> int:
        self._serial += 1
        return self._serial
