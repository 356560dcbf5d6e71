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

from callgate.config import Config

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
        "hadolint ../../Dockerfile",
        "sh -n ../keepalived/callgate-alive",
    ],
)
def test_its_own_tool_is_content(command: str) -> None:
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
    done = subprocess.run(
        command.split(), cwd=PROMETHEUS, env=os.environ | {"PATH": places}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_is_content_with_the_unit(tmp_path: Path) -> None:
    """It looks whether what is started is there: another program stands for it."""
    text = (DEPLOY / "callgate.service").read_text()
    assert "/opt/callgate/.venv/bin/callgate" in text
    unit = tmp_path / "callgate.service"
    unit.write_text(text.replace("/opt/callgate/.venv/bin/callgate", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_everything_waits_longer_than_a_drain_and_has_files_enough() -> None:
    """SIGTERM drains; whoever kills before that is over cuts calls off."""
    drain = Config.model_fields["drain_seconds"].default
    unit = dict(line.split("=", 1) for line in _lines("callgate.service") if "=" in line)
    gate = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())["services"]["gate"]
    pod = next(yaml.safe_load_all((DEPLOY / "kubernetes/callgate.yaml").read_text()))["spec"]["template"][
        "spec"
    ]
    graces = [unit["TimeoutStopSec"], gate["stop_grace_period"].removesuffix("s")]
    assert min(map(int, [*graces, pod["terminationGracePeriodSeconds"]])) >= drain + 20
    assert int(unit["LimitNOFILE"]) == gate["ulimits"]["nofile"] >= 65_536
    assert unit["KillMode"] == "mixed"


def test_the_image_is_of_nobody_special_and_from_what_is_sent_to_the_engine() -> None:
    lines = _lines("../Dockerfile")
    steps = [line.split(maxsplit=1) for line in lines if line.split(maxsplit=1)[0].isupper()]
    said = dict(steps)
    (uid,) = re.findall(r"--uid (\d+)", " ".join(lines))
    assert said["USER"] == f"{uid}:{uid}"
    pod = next(yaml.safe_load_all((DEPLOY / "kubernetes/callgate.yaml").read_text()))["spec"]["template"][
        "spec"
    ]
    assert str(pod["securityContext"]["runAsUser"]) == uid
    assert said["VOLUME"] == "/var/lib/callgate"
    assert "/healthz" in " ".join(lines)
    sent = [line[1:] for line in _lines("../.dockerignore") if line.startswith("!")]
    copied = [
        one for name, rest in steps if name == "COPY" and "--from" not in rest for one in rest.split()[:-1]
    ]
    for one in copied:
        assert (DEPLOY.parent / one).exists()
        assert Path(one).parts[0] in sent


def _lines(file: str) -> list[str]:
    text = (DEPLOY / file).read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


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
