"""docs/reference/dialled-numbers.md: every string there has the class and the verdicts that the page says."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.numbers.support import KCT_NET, STANDARD

from callgate.numbers import CLASSES, read_dialled
from callgate.policy.dial import DialVerdict

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "dialled-numbers.md"
SECTION = re.compile(r"## `(\w+)`")
VERDICTS = re.compile(r".*\. standard: (.*); kct-net: (.*)\.")
ROW = re.compile(r"\| `(.+?)` \| (?:`(.+)`)? ?\|")
BYTE = re.compile(rb"\\x([0-9a-f]{2})")
HIDDEN = re.compile(r"\\u([0-9a-f]{4})")


class Line(NamedTuple):
    dialled: str
    canonical: str
    cls: str
    standard: str
    kct_net: str


def lines() -> list[Line]:
    found, cls, verdicts = [], "", ("", "")
    for text in PAGE.read_text("utf-8").splitlines():
        if section := SECTION.match(text):
            cls = section[1]
        elif words := VERDICTS.fullmatch(text):
            verdicts = (words[1], words[2])
        elif row := ROW.fullmatch(text):
            found.append(Line(row[1], row[2] or "", cls, *verdicts))
    return found


LINES = lines()


def raw(dialled: str) -> bytes:
    """What the page writes as `\\u200b` and `\\xff`."""
    shown = HIDDEN.sub(lambda found: chr(int(found[1], 16)), dialled)
    return BYTE.sub(lambda found: bytes((int(found[1], 16),)), shown.encode())


def said(verdict: DialVerdict) -> str:
    parts = ["allowed" if verdict.allowed else "blocked", verdict.rule, str(verdict.code or "")]
    return ", ".join(filter(None, parts))


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.dialled)
def test_the_page_is_right(line: Line) -> None:
    number = read_dialled(raw(line.dialled))
    assert (number.cls, number.canonical) == (line.cls, line.canonical)
    assert (said(STANDARD.judge(number)), said(KCT_NET.judge(number))) == (line.standard, line.kct_net)


def test_the_page_is_whole() -> None:
    assert len({line.dialled for line in LINES}) == len(LINES) >= 500
    assert {line.cls for line in LINES} == set(CLASSES)
    assert f"{len(LINES)} strings" in PAGE.read_text("utf-8")
