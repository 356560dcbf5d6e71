"""What is wrong with a peer's TLS: said once, with place and remedy, and again only after it has worked."""

from __future__ import annotations

from typing import Final

from callgate.net.log import Log
from callgate.proxy.flow import Flow

REMEMBERED: Final = 1_024


class Troubles:
    def __init__(self, log: Log) -> None:
        self._log = log
        self._said: dict[tuple[str, str, bool], str] = {}  # (context, peer, who opened it) → reason

    def failed(self, flow: Flow, ours: bool, reason: str, remedy: str) -> None:
        """A handshake with a peer that is no stranger has failed."""
        context = flow.trust.context if flow.trust is not None else ""
        peer = _address(flow) if ours else flow.host  # it comes from another port each time
        if self._said.get((context, peer, ours)) == reason:
            return
        if len(self._said) >= REMEMBERED:
            self._said.clear()
        self._said[context, peer, ours] = reason
        self._log.warning(
            "tls failed",
            peer=peer,
            opened_by="gate" if ours else "peer",
            trunk=context or None,
            reason=reason,
            advice=remedy,
        )

    def works(self, flow: Flow, ours: bool) -> None:
        """A handshake has succeeded."""
        if self._said:
            context = flow.trust.context if flow.trust is not None else ""
            self._said.pop((context, _address(flow) if ours else flow.host, ours), None)


def _address(flow: Flow) -> str:
    return f"[{flow.host}]:{flow.port}" if ":" in flow.host else f"{flow.host}:{flow.port}"
