"""A phone with many lines: one address, one user agent (RFC 3261 §8, §12–§15), any number of calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tests.lossy.leg import Dialog, Leg
from tests.lossy.message import Msg
from tests.lossy.plan import Plan
from tests.lossy.transactions import Client, InviteServer, Server


class Clock(Protocol):
    @property
    def now(self) -> float: ...

    def at(self, when: float, do: Callable[..., None], *what: Any) -> None: ...


class Watcher(Protocol):
    """Hears what phones do and believe."""

    def on_arrival(self, phone: Phone, invite: Msg) -> None:
        """An INVITE of a call that this phone has not seen."""
        ...

    def on_up(self, dialog: Dialog) -> None: ...

    def on_over(self, dialog: Dialog) -> None: ...

    def wrong(self, what: str) -> None:
        """Something came that no bad line explains."""
        ...


Send = Callable[["Phone", bytes, str, Callable[[], None] | None], None]
"""Phone, datagram, its Call-ID, and whom to tell when a copy has reached the gate."""


class Phone:
    """`carrier`: the calls that it is in count against the contract. `silent`: it hears nothing, though everything
    arrives."""

    def __init__(
        self,
        name: str,
        address: str,
        gate: str,
        clock: Clock,
        send: Send,
        watcher: Watcher,
        plans: Callable[[str], Plan],
        *,
        carrier: bool,
        contact: str = "",
    ) -> None:
        self.name = name
        self.address = address
        self.contact = f"sip:{name}@{contact or address}"
        self.gate = gate
        self.clock = clock
        self.watcher = watcher
        self.plans = plans
        self.carrier = carrier
        self.silent = False
        self.first_of_several = False  # gateways
        self.clients: dict[tuple[str, str], Client] = {}
        self.servers: dict[tuple[str, str], Server] = {}
        self.legs: dict[str, Leg] = {}
        self._send = send
        self._number = 0

    def send(self, data: bytes, call_id: str, tell: Callable[[], None] | None = None) -> None:
        self._send(self, data, call_id, tell)

    def after(self, seconds: float, do: Callable[..., None], *what: Any) -> None:
        self.clock.at(self.clock.now + seconds, do, *what)

    def next_branch(self) -> str:
        self._number += 1
        return f"z9hG4bK-{self.name}-{self._number}"

    def next_tag(self) -> str:
        self._number += 1
        return f"{self.name}-{self._number}"

    def calls(self, call_id: str, number: str) -> Leg:
        """Begin a call."""
        leg = self.legs[call_id] = Leg(self, call_id, self.plans(call_id), caller=True)
        leg.invite(number)
        return leg

    # -- what comes ----------------------------------------------------------------------------------------

    def receive(self, message: Msg) -> None:
        if self.silent:
            if message.opens_a_call and message.call_id not in self.legs:
                self.legs[message.call_id] = Leg(self, message.call_id, self.plans(message.call_id))
                self.watcher.on_arrival(self, message)
        elif message.code:
            client = self.clients.get((message.branch, message.method))
            if client is not None:
                client.received(message)
        elif message.method == "ACK":
            self._ack(message)
        else:
            self._request(message)

    def _ack(self, ack: Msg) -> None:
        server = self.servers.get((ack.branch, "INVITE"))
        if isinstance(server, InviteServer):
            server.acknowledged()
            return
        leg = self.legs.get(ack.call_id)
        dialog = leg.dialog_of(ack) if leg is not None else None
        if dialog is not None:
            dialog.acknowledged(ack.cseq)

    def _request(self, request: Msg) -> None:
        method = request.method
        server = self.servers.get((request.branch, method))
        if server is not None:
            server.again()
            return
        leg = self.legs.get(request.call_id)
        if method == "CANCEL":
            server = Server(self, request)
            invite = self.servers.get((request.branch, "INVITE"))
            found = isinstance(invite, InviteServer)
            server.respond(200 if found else 481, self.next_tag())
            if leg is not None and isinstance(invite, InviteServer):
                leg.cancelled(invite)
        elif method == "OPTIONS" and not request.to_tag:  # whether we are there
            Server(self, request).respond(200, self.next_tag())
        elif not request.to_tag:
            assert method == "INVITE", request
            self._new_call(request, leg)
        else:
            dialog = leg.dialog_of(request) if leg is not None else None
            server = (InviteServer if method == "INVITE" else Server)(self, request)
            if dialog is None:
                server.respond(481, request.to_tag)
            else:
                dialog.request(server)

    def _new_call(self, invite: Msg, leg: Leg | None) -> None:
        if leg is None:
            leg = self.legs[invite.call_id] = Leg(self, invite.call_id, self.plans(invite.call_id))
            self.watcher.on_arrival(self, invite)
        elif not leg.plan.code:
            return
        elif not (leg.has_refused and invite.cseq > leg.asked):
            self.watcher.wrong(f"{self.name} sees one call twice: {invite!r}")  # §8.2.2.2: a merged request
            InviteServer(self, invite).respond(482, self.next_tag())
            return
        if leg.plan.code:
            leg.rings(InviteServer(self, invite))
