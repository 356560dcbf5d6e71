"""`docs/topics/pitfalls.md` names the tests that show each line of it: they are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "topics" / "pitfalls.md"
NAMED = re.compile(r"`(tests/[a-z_/]+\.py)::(\w+)`")
ROW = re.compile(r"^\| (\d+) \| [^|]+ \| [^|]+ \| (.+) \|$", re.MULTILINE)


def test_every_test_that_is_named_is_there() -> None:
    for path, name in NAMED.findall(PAGE.read_text()):
        defined = ast.walk(ast.parse((ROOT / path).read_text()))
        assert any(
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name for node in defined
        ), f"{path} has no {name}"


def test_every_line_names_one() -> None:
    rows = ROW.findall(PAGE.read_text())
    assert [int(number) for number, _ in rows][:19] == [*range(1, 20)]
    for number, shown_by in rows:
        assert NAMED.search(shown_by), number
