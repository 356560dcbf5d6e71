"""OPTIONS to a gateway: does it answer? (RFC 3261 §11; any answer but 408 and 503 is one)"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.proxy.calls.targets import Target
from callgate.proxy.flow import UNKNOWN, Trouble
from callgate.proxy.transactions import AnyClient
from callgate.proxy.trunk.health import retry_after
from callgate.sip.message import Message
from callgate.sip.transaction import NEVER

if TYPE_CHECKING:
    from callgate.proxy.core import Core
    from callgate.proxy.trunk.health import Health

BAD = frozenset((408, 503))


class Watch:
    """Asks one address every `interval` seconds, the first time at `first`. Waits in the core's wheel."""

    __slots__ = (
        "_asked_at",
        "_call_id",
        "_core",
        "_health",
        "_not_before",
        "_number",
        "_target",
        "_waiting",
        "due",
        "slot",
    )

    def __init__(self, core: Core, target: Target, first: float) -> None:
        assert target.health is not None
        self._core = core
        self._target = target
        self._health: Health = target.health
        self._not_before = 0.0  # it has asked for a pause
        self._number = 0
        self._call_id = b"options-%x" % core.next_id()
        self._asked_at = first
        self._waiting = False  # for an answer
        self.slot = 0
        self.due = first
        core.wheel.add(self)

    def stop(self) -> None:
        """The address is none of the gateway's any more: what still comes is nobody's concern."""
        self._waiting = False
        self.due = NEVER

    def hurry(self, when: float) -> None:
        """Ask at `when` already: a call is to be sent there again."""
        if not self._waiting and when < self.due:
            self.due = when
            self._core.wheel.add(self)

    def expire(self, now: float) -> None:
        rest = max(self._health.rest_until, self._not_before)
        if now < rest:
            self.due = rest
            return
        self._asked_at = self.due
        self.due = NEVER
        self._waiting = True
        self._number += 1
        core, flow = self._core, self._target.flow
        branch, via = core.branch(flow.listener, b"options")
        layer = core.layer
        client = layer.other_client(branch, self._request(via), flow, self, now)
        core.counts.sent(b"OPTIONS")
        layer.send(client, now)
        layer.end_by(client, now + self._health.rules.timeout)

    def _request(self, via: bytes) -> bytes:
        here, there = self._target.flow.listener.sent_by, self._target.hostport
        return b"\r\n".join(
            (
                b"OPTIONS sip:%b SIP/2.0" % there,
                via,
                b"Max-Forwards: 70",
                b"From: <sip:callgate@%b>;tag=%x" % (here, self._number),
                b"To: <sip:%b>" % there,
                b"Call-ID: " + self._call_id,
                b"CSeq: %d OPTIONS" % self._number,
                b"Accept: application/sdp",
                b"Content-Length: 0",
                b"\r\n",
            )
        )

    # -- what comes back -----------------------------------------------------------------------------------

    def on_response(self, client: AnyClient, response: Message, now: float) -> None:
        if response.code < 200 or not self._waiting:
            return
        if response.code in BAD:
            pause = retry_after(response)
            if pause is not None:
                self._not_before = now + min(pause, self._health.rules.retry_after_max)
            self._core.trunks.options_failed(self._target, f"{response.code} to OPTIONS", now)
        else:
            self._core.trunks.options_well(self._target, now)
        self._next(now)

    def on_timeout(self, client: AnyClient, now: float) -> None:
        self._lost("no answer to OPTIONS", now)

    def on_failed(self, client: AnyClient, now: float, trouble: Trouble) -> None:
        self._lost("OPTIONS can't be delivered", now, trouble)

    def on_repeat(self, client: AnyClient, now: float) -> None:
        raise AssertionError("only initial INVITEs carry a claim")

    def _lost(self, why: str, now: float, trouble: Trouble = UNKNOWN) -> None:
        if self._waiting:
            self._core.trunks.options_failed(self._target, why, now, trouble)
            self._next(now)

    def _next(self, now: float) -> None:
        self._waiting = False
        self.due = max(now, self._asked_at + self._health.rules.interval)
        if self._health.open and self._asked_at < self._health.trial_at:
            self.due = max(now, min(self.due, self._health.trial_at))
        self._core.wheel.add(self)
