"""Calls that go around the gate: an answer without our Record-Route.

Whoever answers copies it into the 2xx (RFC 3261 §12.1.1). From one that does not the other side learns no route over
the gate, so ACK, re-INVITE and BYE may pass it by, from either side. The call is none the less up, and is counted.
What ends it is what the gate can still see: a BYE that comes after all, the longest call, and a 481 or silence to a
probe. A missing ACK proves nothing, nor does a session timer whose refreshes are not seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.proxy.commands import Alert
from callgate.proxy.telemetry.alerts import Alerts
from callgate.proxy.token import OUTBOUND
from callgate.proxy.transactions import InviteClientTransaction
from callgate.sip.message import RECORD_ROUTE, Message

if TYPE_CHECKING:
    from callgate.proxy.calls.context import Context

REASON = "answered without our Record-Route (RFC 3261 §12.1.1): ACK and BYE may go around the gate"


class Around:
    """Tells of each gateway, and of each key whose PBX does it, once; it is over when that answers as it should."""

    def __init__(self, alerts: Alerts) -> None:
        self._alerts = alerts
        self._told: dict[tuple[str, str], Alert] = {}

    def goes(self, call: Context, client: InviteClientTransaction, response: Message) -> bool:
        """Whether the dialog that this 2xx makes goes around the gate."""
        token = client.branch.partition(b".")[0]
        first = response.at.get(RECORD_ROUTE)
        seen = first is not None and (
            token in response.lines[first]
            or any(token in response.lines[i] for i in response.places(RECORD_ROUTE))
        )
        if seen and not self._told:
            return False
        outbound = call.direction == OUTBOUND
        gateway = client.target.name if outbound and client.target is not None else ""
        name = (call.key.trunk.name if outbound else call.key.id, gateway)
        if seen:
            alert = self._told.pop(name, None)
            if alert is not None:
                self._alerts.over(alert)
        elif name not in self._told:
            who = f"trunk {name[0]}" if outbound else "the PBX"
            self._told[name] = alert = Alert(
                "record-route",
                "warning",
                "" if outbound else call.key.id,
                f"{who} has {REASON}",
                trunk=call.key.trunk.name if outbound else "",
                details={"gateway": gateway} if gateway else None,
            )
            self._alerts.stands(alert)
        return not seen
