"""The table of `docs/reference/torture.md`, made from `table.py`: `python -m tests.torture.page` writes it anew."""

from __future__ import annotations

from pathlib import Path

from tests.torture.table import RFC4475, RFC5118, Case

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "torture.md"
BEGIN = "| RFC | message | alone | over TCP | in its dialog | why |"


def row(rfc: str, case: Case) -> str:
    cells = (f"{rfc} §{case.section}", f"`{case.name}`", case.udp, case.tcp, case.within, case.why)
    return "| " + " | ".join(cells).replace("|  |", "| |").replace("|  |", "| |") + " |"


def table() -> str:
    rows = [row("4475", case) for case in RFC4475] + [row("5118", case) for case in RFC5118]
    return "\n".join([BEGIN, "|---" * BEGIN.count(" | ") + "|---|", *rows])


def page(text: str) -> str:
    """The page with the table as it is now."""
    return text[: text.index(BEGIN)] + table() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
