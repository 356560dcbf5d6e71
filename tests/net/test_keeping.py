"""What the gate says about records that don't get where they should."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from callgate.cdr.writer import State
from callgate.config import load_config
from callgate.net.gate import Gate
from callgate.net.keeping import Keeping
from callgate.net.records import RecordLog
from callgate.proxy.commands import Alert
from callgate.proxy.telemetry.alerts import Alerts
from callgate.proxy.telemetry.counts import Counts
from callgate.proxy.telemetry.meters import DATABASE_UP, RESERVED, Meters

WELL = State("", "", 0, 0, 0, 0, 0)


class StandIn:
    """What of a gate this needs."""

    def __init__(self) -> None:
        self.values = [0.0] * (RESERVED + 500)
        self.meters = Meters(self.values)
        self.out: list[Any] = []
        self.alerts = Alerts(self.out, Counts(self.meters))
        self.records = RecordLog(cast("Any", None), self.meters)
        self.core = self

    def alert(self, alert: Alert, now: float) -> None:
        self.alerts.raised(alert, now)

    def turn_ends(self) -> None:
        pass


class Told:
    def __init__(self, folder: Path, state_dir: str) -> None:
        file = folder / "gate.yaml"
        file.write_text(
            f"state_dir: {state_dir}\ntrunks: {{c: {{gateways: ['sip:127.0.0.1:5080']}}}}\n"
            "keys: {acme: {sources: [127.0.0.1]}}\n"
        )
        self.gate = StandIn()
        self.keeping = Keeping(load_config(file), cast("Gate", self.gate))
        self.state = WELL
        self.keeping.writer = cast("Any", self)

    def look(self, state: State) -> list[tuple[str, str, bool]]:
        self.state = state
        self.gate.out.clear()
        self.keeping.look()
        return [(one.rule, one.severity, one.resolved) for one in self.gate.out]


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path, "./state")


def test_away_and_back(told: Told) -> None:
    assert told.look(WELL) == []
    assert told.look(WELL._replace(fault="Connection refused", waiting=700)) == [
        ("database", "warning", False)
    ]
    assert "sqlite:///" in told.gate.out[0].text
    assert "state" in told.gate.out[0].text
    assert told.gate.values[DATABASE_UP] == 0.0
    assert told.look(WELL._replace(fault="Connection refused", waiting=900)) == []
    assert told.look(WELL._replace(waiting=900)) == [], "it works again, but not all has come over"
    assert told.gate.values[DATABASE_UP] == 1.0
    assert told.look(WELL) == [("database", "warning", True)]


def test_a_hiccup_is_no_alert(told: Told) -> None:
    """A commit that took longer than a moment: what went into the file meanwhile is on its way."""
    assert told.look(WELL._replace(waiting=700)) == []
    assert told.look(WELL) == []


def test_in_memory_only(told: Told) -> None:
    full = WELL._replace(fault="disk is full", spill_fault="No space left on device", held=10)
    assert told.look(full) == [("database", "warning", False), ("disk", "critical", False)]
    assert told.look(full._replace(held=0)) == []
    assert told.look(WELL) == [("database", "warning", True), ("disk", "critical", True)]


def test_lost_and_put_aside(told: Told) -> None:
    assert told.look(WELL._replace(lost=3)) == [("records-lost", "critical", False)]
    assert told.look(WELL._replace(lost=4)) == []
    assert told.gate.values[told.gate.meters.series("records_lost_total")] == 4.0
    assert told.look(WELL._replace(lost=4, aside=1)) == [("records-aside", "warning", False)]


def test_without_a_state_dir(tmp_path: Path) -> None:
    told = Told(tmp_path, "null")
    assert told.look(WELL._replace(fault="away", held=5)) == [("database", "warning", False)]
    assert told.gate.out[0].text.endswith("they wait in memory")
