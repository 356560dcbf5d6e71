"""docs/reference/metrics.md and the table of metrics say the same."""

from __future__ import annotations

import os
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from callgate.net.shared import Shared
from callgate.ops.render import Page
from callgate.ops.view import View
from callgate.proxy.telemetry.meters import METRICS

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
ROW = re.compile(r"^\| `callgate_(\w+)(?:\{([a-z,]+)\})?` \| (\w+) \| (.+) \|$", re.MULTILINE)


def documented() -> dict[str, tuple[str, tuple[str, ...]]]:
    rows = ROW.findall(DOCUMENT.read_text(encoding="utf-8"))
    assert len(rows) == len({name for name, *_ in rows})
    return {name: (kind, tuple(labels.split(",")) if labels else ()) for name, labels, kind, _ in rows}


def test_every_metric_stands_in_the_document_with_its_type_and_labels() -> None:
    page = {name: row for name, row in documented().items() if not name.startswith("process_")}
    assert page == {name: (metric.kind, metric.labels) for name, metric in METRICS.items()}


def test_what_the_page_shows_of_the_process_stands_in_the_document(shared: Shared) -> None:
    view = View(*shared.fds)
    body, _ = Page(view, os.getpid()).render("", "")
    view.close()
    shown = {
        s.name.removeprefix("callgate_"): (family.type, ())
        for family in text_string_to_metric_families(body.decode())
        for s in family.samples
        if s.name.startswith("callgate_process_")
    }
    assert shown == {name: row for name, row in documented().items() if name.startswith("process_")}


def test_every_row_of_the_document_is_understood() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert len(re.findall(r"^\| `callgate_", text, re.MULTILINE)) == len(documented())
