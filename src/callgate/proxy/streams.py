"""Requests too large for a datagram go over a stream (RFC 3261 §18.1.1), where the peer takes one."""

from __future__ import annotations

from callgate.proxy.commands import Send
from callgate.proxy.directory import Directory
from callgate.proxy.flow import Flow

ACKS_MAX = 256
"""Large ACKs on their way over a stream; the oldest is forgotten first."""
REST_SECONDS = 600.0
"""How long a peer that took no stream is sent large datagrams instead."""
PEERS_MAX = 4096


class Streams:
    """Who can't be reached by a stream. Bounded: when too many are remembered, all are tried again."""

    def __init__(self) -> None:
        self._refused: dict[tuple[str, int], float] = {}
        # An ACK of a 2xx has no transaction that could send it otherwise: branch → the stream, and the same as a
        # datagram.
        self._acks: dict[bytes, tuple[Flow, Send]] = {}

    def instead_of(self, flow: Flow, directory: Directory, now: float) -> Flow | None:
        """A stream to where a datagram would go; None where there is none."""
        listener = directory.listener_for(b"TCP", flow.host)
        if listener is None or self._refused.get((flow.host, flow.port), now) > now:
            return None
        return Flow(listener, flow.host, flow.port)

    def acknowledges(self, branch: bytes, over: Flow, instead: Send) -> None:
        """An ACK goes over a stream because of its size; `instead`: the same as a datagram."""
        if len(self._acks) >= ACKS_MAX:
            del self._acks[next(iter(self._acks))]
        self._acks[branch] = over, instead

    def undelivered(self, branch: bytes, now: float) -> Send | None:
        """What goes out in place of an ACK that found no stream; None where this was none."""
        over, instead = self._acks.pop(branch, (None, None))
        if over is not None:
            self.refused(over, now)
        return instead

    def refused(self, flow: Flow, now: float) -> None:
        """A connection to there can't be had."""
        if len(self._refused) >= PEERS_MAX:
            self._refused.clear()
        self._refused[flow.host, flow.port] = now + REST_SECONDS
