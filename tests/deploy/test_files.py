"""The files of deploy/, by the programs they are for as far as these can be had, else by what they must hold."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tools import dashboards

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"


@pytest.mark.parametrize(
    "command",
    [
        "promtool check config prometheus.yml",
        "promtool test rules tests/alerts.yml",
        "amtool check-config ../alertmanager/alertmanager.yml",
        "check-jsonschema --builtin-schema vendor.compose-spec ../compose/compose.yaml",
        "kubernetes-validate --strict ../kubernetes/callgate.yaml",
    ],
)
def test_its_own_tool_is_content(command: str) -> None:
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
    done = subprocess.run(
        command.split(), cwd=PROMETHEUS, env=os.environ | {"PATH": places}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    rules = [
        rule
        for file in (PROMETHEUS / "rules").glob("*.yml")
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    raised = {
        check["alertname"]
        for test in yaml.safe_load((PROMETHEUS / "tests/alerts.yml").read_text())["tests"]
        for check in test["alert_rule_test"]
        if check["exp_alerts"]
    }
    assert raised == {rule["alert"] for rule in rules}
    assert all(rule["annotations"].keys() == {"summary", "description"} for rule in rules)


def test_rules_and_dashboards_name_metrics_that_are_there() -> None:
    documented = (DEPLOY.parent / "docs/reference/metrics.md").read_text()
    texts = [*(PROMETHEUS / "rules").glob("*.yml"), *(DEPLOY / "grafana/dashboards").glob("*.json")]
    named = {name for text in texts for name in re.findall(r"\bcallgate_\w+", text.read_text())}
    assert [name for name in sorted(named) if f"`{name.removesuffix('_bucket')}" not in documented] == []


def test_the_dashboards_are_what_the_tables_say() -> None:
    there = {path.stem: path.read_text() for path in (DEPLOY / "grafana/dashboards").glob("*.json")}
    assert there == {name: dashboards.text(name) for name in dashboards.BOARDS}
    assert len({json.loads(text)["uid"] for text in there.values()}) == len(there)
