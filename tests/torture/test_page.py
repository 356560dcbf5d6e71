"""`docs/reference/torture.md` says what the tests say."""

from __future__ import annotations

from tests.torture.page import PAGE, page
from tests.torture.table import CASES


def test_the_page_is_the_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(text), "write it anew: python -m tests.torture.page"
    assert all(f"`{case.name}`" in text for case in CASES)
