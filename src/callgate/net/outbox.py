"""Events on their way to receivers, seen from the gate: who they are, the process that delivers, and what is said when
it goes wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from callgate.cdr.events import Event, Receiver, Story, name_of, test_event
from callgate.config import Config
from callgate.net.gate import Gate
from callgate.net.ops_child import OpsChild
from callgate.net.records import ADVICE
from callgate.proxy.commands import Alert

PROGRAM: Final = (sys.executable, "-P", "-m", "callgate.ops.outbox")
LATE_SECONDS: Final = 60.0
"""How long an event waits before it is said that its receiver does not take it."""
NAME: Final = "outbox"


def receivers_of(config: Config) -> list[Receiver]:
    """As the config names them."""
    return [
        Receiver(
            name_of(one.url.get_secret_value()),
            one.url.get_secret_value(),
            one.secret.get_secret_value(),
            tuple(one.events),
            tuple(one.keys),
            one.allow_private,
            one.timeout_seconds,
            one.retry_max_seconds,
            one.give_up_hours * 3600.0,
            str(one.ca or ""),
        )
        for one in config.webhooks
    ]


class Outbox:
    """`tell` takes an event to the outbox. Without receivers nothing is told and no process runs."""

    def __init__(
        self, config: Config, gate: Gate, tell: Callable[[Event], None], receivers: list[Receiver]
    ) -> None:
        self._gate = gate
        self._tell = tell
        self._url = config.database_url
        self.receivers = receivers
        self._story = Story()
        self._dead: dict[str, int] = {}
        self._attempts: dict[str, tuple[int, int]] = {}
        self._child: OpsChild | None = None
        if receivers:
            gate.records.tell = self.alert
        for one in receivers:
            gate.meters.set("outbox_pending", one.name, value=0.0)
            gate.meters.set("outbox_dead", one.name, value=0.0)
            gate.meters.set("outbox_oldest_seconds", one.name, value=0.0)
            for result in ("delivered", "failed"):
                gate.meters.series("webhook_attempts_total", one.name, result)

    def alert(self, alert: Alert, utc_offset: float) -> None:
        """Something was raised or resolved."""
        self._tell(
            self._story.event_of(alert, alert.advice or ADVICE.get(alert.rule, ""), monotonic() + utc_offset)
        )

    def test(self, by: str) -> int:
        """Tell every receiver of alerts that all is well; to how many that goes."""
        event = test_event(monotonic() + self._gate.records.utc_offset, by)
        self._tell(event)
        return sum(one.wants(event) for one in self.receivers)

    async def start(self, fds: tuple[int, int]) -> None:
        """The process that delivers starts; nobody waits for it."""
        if not self.receivers:
            return
        said = {"database": self._url, "receivers": [one._asdict() for one in self.receivers]}
        greeting = json.dumps(said).encode() + b"\n"
        self._child = OpsChild(
            "none", fds, program=PROGRAM, name=NAME, greeting=greeting, reported=self._reported
        )
        self._child.on_change(self._changed)
        await self._child.start(0.0)

    async def stop(self) -> None:
        if self._child is not None:
            await self._child.stop()

    def _changed(self, event: str, fields: dict[str, Any]) -> None:
        level = self._gate.log.info if event == f"{NAME} ready" else self._gate.log.warning
        level(event, **fields)
        if event == f"{NAME} ready":
            self._attempts.clear()

    def _reported(self, line: str) -> None:
        try:
            said = json.loads(line)
            name = said["receiver"]
        except (ValueError, KeyError, TypeError):
            return
        if any(one.name == name for one in self.receivers):
            self._meter(name, said)
            self._judge(name, said)
            self._gate.turn_ends()

    def _meter(self, name: str, said: dict[str, Any]) -> None:
        meters = self._gate.meters
        meters.set("outbox_pending", name, value=float(said["pending"]))
        meters.set("outbox_dead", name, value=float(said["dead"]))
        meters.set("outbox_oldest_seconds", name, value=float(said["oldest"]))
        before = self._attempts.get(name, (0, 0))
        self._attempts[name] = now = said["delivered"], said["failed"]
        for result, old, new in zip(("delivered", "failed"), before, now, strict=True):
            meters.values[meters.series("webhook_attempts_total", name, result)] += max(0, new - old)

    def _judge(self, name: str, said: dict[str, Any]) -> None:
        core = self._gate.core
        about = {"of": name}
        late = Alert(
            "webhook",
            "warning",
            "",
            f"{name} does not take its events: {said['fault']}; {said['pending']} wait",
            value=said["pending"],
            details=about,
        )
        if said["fault"] and said["oldest"] >= LATE_SECONDS:
            core.alerts.stands(late)
        elif not said["fault"]:
            core.alerts.over(late)
        off = Alert(
            "webhook-off", "critical", "", f"{name} has answered 410: nothing is sent there", details=about
        )
        if said["disabled"]:
            core.alerts.stands(off)
        else:
            core.alerts.over(off)
        dead = self._dead.get(name)
        self._dead[name] = said["dead"]
        if dead is not None and said["dead"] > dead:
            text = f"events for {name} are given up: {said['dead']} dead letters"
            core.alert(
                Alert("webhook-dead", "warning", "", text, value=said["dead"], details=about), monotonic()
            )
