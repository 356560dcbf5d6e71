"""What the tests of the whole program share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.e2e.net import Net


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    """Addresses of the test's own, and an end to all that it starts."""
    with closing(Net(tmp_path)) as places:
        yield places
