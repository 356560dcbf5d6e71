"""Worlds with bad lines, and the end of each: everything that must hold in the end, and the collector back on."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
from tests.lossy.world import LossyWorld

Make = Callable[..., LossyWorld]


@pytest.fixture
def lossy() -> Iterator[Make]:
    """Makes a world; takes what `LossyWorld` takes. (A `World` turns the collector off, so that `ends` sees cycles.)"""
    yield LossyWorld
    gc.unfreeze()
    gc.enable()
