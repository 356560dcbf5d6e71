"""The audit log (T13) is append-only and survives a restart."""

from __future__ import annotations

import json
import sqlite3
import stat
from pathlib import Path

import pytest

from callgate.cdr.audit import FILE, Audit, read_lines


def test_lines_are_kept_in_order_over_a_restart(tmp_path: Path) -> None:
    first = Audit(tmp_path / "state")
    first.note("start", after={"version": "0.1.0"})
    first.close()
    second = Audit(tmp_path / "state")
    second.note("suspend", target="acme", before={"state": "live"}, after={"state": "suspended"}, who="ops")
    lines = list(read_lines(tmp_path / "state"))
    assert [(line[3], line[4]) for line in lines] == [("start", ""), ("suspend", "acme")]
    assert lines[1][2] == "ops"
    assert "pid" in lines[0][2]
    assert json.loads(lines[1][5]) == {"state": "live"}
    assert lines[0][1].endswith("Z")
    second.close()


@pytest.mark.parametrize("statement", ["UPDATE audit SET what='x'", "DELETE FROM audit"])
def test_nothing_can_be_changed_or_deleted(tmp_path: Path, statement: str) -> None:
    audit = Audit(tmp_path)
    audit.note("start")
    audit.close()
    db = sqlite3.connect(tmp_path / FILE)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute(statement)
    db.close()


def test_it_is_nobody_elses_to_read(tmp_path: Path) -> None:
    Audit(tmp_path).close()
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_a_folder_that_cant_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        Audit(tmp_path / "file" / "state")
