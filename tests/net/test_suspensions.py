"""Suspensions over a restart: the file, what becomes of a damaged one, and one that can't be written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from callgate.net.suspensions import FILE, Suspensions
from callgate.net.trail import Trail
from callgate.proxy.commands import Suspended
from callgate.proxy.contract.suspension import Suspension

ROW = Suspension("acme", "unpaid", 1_800_000_000.0, 1_800_003_600.5, "alice")
OTHER = Suspension("other", "", 1_800_000_000.0, None, "rule K9")


@pytest.fixture
def trail(tmp_path: Path) -> Iterator[Trail]:
    made = Trail(tmp_path, structlog.get_logger())
    yield made
    made.close()


@pytest.fixture
def faults() -> list[str]:
    return []


@pytest.fixture
def kept(tmp_path: Path, trail: Trail, faults: list[str]) -> Suspensions:
    return Suspensions(tmp_path, trail, faults.append)


async def test_over_a_restart(kept: Suspensions, faults: list[str]) -> None:
    assert kept.load() == []
    kept.keep(Suspended((ROW,), "acme", None, ROW, "alice"))
    kept.keep(Suspended((ROW, OTHER), "other", None, OTHER, "rule K9"))
    assert await kept.settled() == []
    assert kept.load() == [ROW, OTHER]
    assert not any(faults)
    assert kept.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"rubbish",
        b"\xff\xfe",
        b"[" * 100_000,
        b"null",
        b'{"version": 2, "suspensions": []}',
        b'{"version": 1, "suspensions": [{"key": "acme"}]}',
        b'{"version": 1, "suspensions": [{"key": 7, "reason": "", "since": 1, "until": null, "by": ""}]}',
    ],
)
async def test_a_damaged_file(kept: Suspensions, faults: list[str], data: bytes) -> None:
    """It is put aside; who was suspended, and not resumed since, is known from the audit log."""
    kept.keep(Suspended((ROW,), "acme", None, ROW, "alice"))
    kept.keep(Suspended((ROW, OTHER), "other", None, OTHER, "rule K9"))
    kept.keep(Suspended((ROW,), "other", OTHER, None, "bob"))
    assert await kept.settled() == []
    kept.path.write_bytes(data)
    assert kept.load() == [ROW]
    assert "the audit log says who is suspended" in faults[-1]
    assert kept.path.with_name(f"{FILE}.damaged").read_bytes() == data
    kept.close()


async def test_no_audit_log_either(kept: Suspensions, faults: list[str]) -> None:
    """Somebody has to know."""
    kept.path.write_text("rubbish")
    assert kept.load() == []
    assert "no key is suspended" in faults[-1]


async def test_one_that_can_not_be_written(
    kept: Suspensions, faults: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits is told, and it is tried again until it works; the file of before is whole all the while."""
    monkeypatch.setattr("callgate.net.suspensions.RETRY_SECONDS", 0.01)
    kept.keep(Suspended((ROW,), "acme", None, ROW, "alice"))
    assert await kept.settled() == []
    beside = kept.path.with_name(f".{FILE}.new")
    beside.mkdir()
    kept.keep(Suspended((ROW, OTHER), "other", None, OTHER, "bob"))
    (fault,) = await kept.settled()
    assert "can't be written" in fault
    assert [row["key"] for row in json.loads(kept.path.read_text())["suspensions"]] == ["acme"]
    beside.rmdir()
    for _ in range(1000):
        if faults and not faults[-1] and kept.load() == [ROW, OTHER]:
            break
        await asyncio.sleep(0.01)
    assert kept.load() == [ROW, OTHER]
    kept.close()
