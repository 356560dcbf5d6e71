"""What the tests with hostile messages share."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
from tests.torture.rack import Rack


@pytest.fixture
def racks() -> Iterator[Callable[..., Rack]]:
    try:
        yield Rack
    finally:
        gc.unfreeze()
        gc.enable()
