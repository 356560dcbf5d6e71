"""Disks that are full or read-only, real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cdr.small_disk import SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_small_disk(scenario: str, tmp_path: Path) -> None:
    own = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    played = subprocess.run(
        [*own, sys.executable, "-m", "tests.cdr.small_disk", scenario, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert played.returncode == 0, played.stdout + played.stderr
