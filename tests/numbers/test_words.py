"""`dial --why`: everything that the judge can say is there in both languages."""

from __future__ import annotations

import re

import pytest
from tests.numbers.support import KCT_NET, STANDARD
from tests.numbers.test_hostile import test_the_reason_is_named
from tests.numbers.test_reference_table import LINES, raw

from callgate.cli.words import DO, RULES, WHAT, why
from callgate.numbers import CLASSES, read_dialled

JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
ENGLISH = re.compile(r"[a-z]{3,} [a-z]{2,}")
REASONS = [
    raw for raw, _ in next(m for m in test_the_reason_is_named.pytestmark if m.name == "parametrize").args[1]
]


def test_every_class_and_every_rule_of_the_shipped_profiles_has_words() -> None:
    assert set(WHAT) == set(CLASSES)
    assert set(DO) <= set(CLASSES)
    blocking = {*STANDARD.rules, *KCT_NET.rules} - {"N3", "N4"}
    assert blocking == set(RULES)


@pytest.mark.parametrize("dialled", [*(raw(line.dialled) for line in LINES), *REASONS])
def test_both_languages(dialled: bytes) -> None:
    number = read_dialled(dialled)
    for rules in (STANDARD, KCT_NET):
        verdict = rules.judge(number)
        english = dict(why(number, verdict, "en"))
        japanese = dict(why(number, verdict, "ja"))
        assert len(english) == len(japanese) >= 2
        assert not any(JAPANESE.search(label) for label in english)
        for text in japanese.values():
            assert JAPANESE.search(text), text
            told = text.replace(number.canonical, "") if number.canonical else text
            assert not ENGLISH.search(re.sub(r"電話会社を選ぶ番号.*", "", told)), text
