"""Whatever is raised says what to do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import callgate
from callgate.net.advice import ADVICE, EMERGENCY, KINDS, SHADOW, advice_of
from callgate.proxy.commands import Alert

SOURCE = Path(callgate.__file__).parent


def raised() -> Iterator[tuple[str, bool]]:
    """(rule, whether advice comes with it) of every alert whose rule stands in the program as a word."""
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        names = {
            node.target.id if isinstance(node, ast.AnnAssign) else node.targets[0].id: node.value.value  # type: ignore[union-attr,attr-defined]
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Alert":
                first = node.args[0]
                rule = first.value if isinstance(first, ast.Constant) else names.get(ast.unparse(first))
                if rule is not None:
                    yield str(rule), any(one.arg == "advice" for one in node.keywords)


def test_every_rule_that_raises_an_alert_has_advice() -> None:
    found = dict(raised())
    assert {"database", "I5", "I1", "K8", "V9", "loop-lag", "restarted", "ops", "disk"} <= found.keys()
    assert [rule for rule, own in found.items() if not own and rule not in ADVICE] == []


@pytest.mark.parametrize(
    ("alert", "advice"),
    [
        (Alert("V4", "warning", "acme", "", details={"kind": "near_limit"}), KINDS["near_limit"]),
        (Alert("V4", "warning", "acme", "", details={"kind": "at_limit"}), KINDS["at_limit"]),
        (Alert("V1", "warning", "acme", "", details={"kind": "breach_avoided"}), KINDS["breach_avoided"]),
        (Alert("K4", "warning", "acme", "", details={"kind": "breach_avoided"}), ADVICE["K4"]),
        (Alert("V3+EMG", "warning", "acme", ""), EMERGENCY),
        (Alert("K-X2", "info", "acme", ""), SHADOW),
        (Alert("K7", "info", "acme", "", advice="its own"), "its own"),
    ],
)
def test_advice(alert: Alert, advice: str) -> None:
    assert advice_of(alert) == advice
