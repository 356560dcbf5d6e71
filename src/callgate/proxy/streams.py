"""Requests too large for a datagram go over a stream (RFC 3261 §18.1.1), where the peer takes one."""

from __future__ import annotations

from callgate.proxy.flow import Flow
from callgate.proxy.peers import Directory

REST_SECONDS = 600.0
"""How long a peer that took no stream is sent large datagrams instead."""
PEERS_MAX = 4096


class Streams:
    """Who can't be reached by a stream. Bounded: when too many are remembered, all are tried again."""

    def __init__(self) -> None:
        self._refused: dict[tuple[str, int], float] = {}

    def instead_of(self, flow: Flow, directory: Directory, now: float) -> Flow | None:
        """A stream to where a datagram would go; None where there is none."""
        listener = directory.listener_for(b"TCP", flow.host)
        if listener is None or self._refused.get((flow.host, flow.port), now) > now:
            return None
        return Flow(listener, flow.host, flow.port)

    def refused(self, flow: Flow, now: float) -> None:
        """A connection to there can't be had."""
        if len(self._refused) >= PEERS_MAX:
            self._refused.clear()
        self._refused[flow.host, flow.port] = now + REST_SECONDS
