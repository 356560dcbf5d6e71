"""Events on their way to receivers, seen from the gate: who they are, the process that delivers, and what is said when
it goes wrong."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import closing
from time import monotonic
from typing import Any, Final

from callgate.cdr.database import engine_of
from callgate.cdr.events import Receiver, name_of, test_event
from callgate.cdr.outbox import Choice, listing
from callgate.cdr.writer import Writer
from callgate.config import Config
from callgate.net.gate import Gate
from callgate.net.ops_child import OpsChild
from callgate.proxy.commands import Alert

PROGRAM: Final = (sys.executable, "-P", "-m", "callgate.ops.outbox")
LATE_SECONDS: Final = 60.0
"""How long an event waits before it is said that its receiver does not take it."""
NAME: Final = "outbox"
NOTIFY_SECONDS, NOTIFY_GIVE_UP = 15.0, 3600.0
TEST_LEAST, TEST_MOST, TEST_PAUSE = 3.0, 20.0, 0.1
"""Seconds that a test waits: for a receiver that fails, for one that is silent, and between two looks."""


def receivers_of(config: Config) -> list[Receiver]:
    """As the config names them."""
    return [*_hooks(config), *_targets(config)]


def _targets(config: Config) -> Iterator[Receiver]:
    """Those of apprise's: who reads a chat has no use for what was hours ago."""
    for one in config.notify:
        url = one.url.get_secret_value()
        yield Receiver(
            name_of(url, apprise=True),
            url,
            "",
            events=("alert",),
            keys=tuple(one.keys),
            timeout=NOTIFY_SECONDS,
            give_up=NOTIFY_GIVE_UP,
            least=one.severity,
            apprise=True,
        )


def _hooks(config: Config) -> list[Receiver]:
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


def _waiting(url: str, ident: str) -> dict[str, str]:
    """Receivers that have not got an event yet, and the state of that."""
    with closing(engine_of(url, write=False).connect()) as connection, connection.begin():
        found = listing(connection, Choice(ids=(ident,)), ("pending", "dead"))
        return {row["receiver"]: "waits" if row["state"] == "pending" else row["state"] for row in found}


class Outbox:
    """The events of alerts go to the outbox by `writer`. Without receivers nothing is told and no process runs."""

    def __init__(self, config: Config, gate: Gate, writer: Writer, receivers: list[Receiver]) -> None:
        self._gate = gate
        self._writer = writer
        self._url = config.database_url
        self.receivers = receivers
        self._faults: dict[str, str] = {}
        self._dead: dict[str, int] = {}
        self._attempts: dict[str, tuple[int, int]] = {}
        self._child: OpsChild | None = None
        if receivers:
            gate.records.tell = writer.tell
        for one in receivers:
            gate.meters.set("outbox_pending", one.name, value=0.0)
            gate.meters.set("outbox_dead", one.name, value=0.0)
            gate.meters.set("outbox_oldest_seconds", one.name, value=0.0)
            for result in ("delivered", "failed"):
                gate.meters.series("webhook_attempts_total", one.name, result)

    async def test(self, by: str, name: str | None) -> list[dict[str, Any]]:
        """Tell every receiver of alerts, or the one of that name, that all is well; how that went with each, once that
        is known or has taken long enough. Empty: there is none to tell."""
        event = test_event(monotonic() + self._gate.records.utc_offset, by, name or "")
        wanted = [one for one in self.receivers if one.wants(event)]
        if not wanted:
            return []
        number = self._writer.tell(event)
        begin = monotonic()
        end = begin + min(TEST_MOST, TEST_LEAST + max(one.timeout for one in wanted))
        while True:
            state = self._writer.state
            committed = self._writer.told >= number
            waiting = await asyncio.to_thread(_waiting, self._url, event.id) if committed else {}
            found = [
                {
                    "receiver": one.name,
                    "id": event.id,
                    "result": waiting.get(one.name, "delivered") if committed else "waits",
                    "fault": self._faults.get(one.name, "") if committed else state.fault,
                }
                for one in wanted
            ]
            for row in found:
                if row["result"] == "delivered":
                    row["fault"] = ""
            # A fault that was there before may be over: it is asked for as long as the process takes to say so.
            clear = all(row["result"] == "delivered" or row["fault"] for row in found)
            known = clear and monotonic() - begin > TEST_LEAST
            if all(row["result"] == "delivered" for row in found) or known or monotonic() > end:
                return found
            await asyncio.sleep(TEST_PAUSE)

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
            self._faults[name] = said["fault"] or said["database"]
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
