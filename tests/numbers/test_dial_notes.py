"""`callgate dial` judges the number; hours, gaps and consent it says as notes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = """\
state_dir: null
trunks: {carrier: {gateways: ["sip:127.0.0.1:5080"]}}
keys:
  acme:
    sources: ["127.0.0.1"]
    consent: agreed.txt
    quiet_hours: {from: "00:00", to: "23:59"}
    limits: {redial_gap_seconds: 3}
  plain: {sources: ["127.0.0.2"]}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "agreed.txt").write_text("+81312345678\n")
    path = tmp_path / "gate.yaml"
    path.write_text(CONFIG)
    return path


def dial(config: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "callgate", "dial", "-c", str(config), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_what_a_call_is_held_to(config: Path) -> None:
    agreed, other, blocked, emergency = map(
        json.loads,
        dial(config, "--key", "acme", "--json", "0312345678", "0398765432", "0120123456", "119").splitlines(),
    )
    assert [note[:3] for note in agreed["notes"]] == ["T15", "K4:"]
    assert [note[:3] for note in other["notes"]] == ["T14", "T15", "K4:"]
    assert (agreed["verdict"], other["verdict"]) == (
        "allowed",
        "allowed",
    )  # the number is judged, not the hour
    assert "notes" not in blocked
    assert "notes" not in emergency


def test_for_a_person(config: Path) -> None:
    assert "  note: T14: " in dial(config, "--key", "acme", "0398765432")
    assert "note" not in dial(config, "--key", "plain", "0398765432")
    assert "note" not in dial(config, "0398765432")  # of which key?
