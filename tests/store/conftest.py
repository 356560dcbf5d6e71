from __future__ import annotations

import pytest
from tests.store.support import STORES, Make

from callgate.policy.ledger import Store


@pytest.fixture(scope="session", params=sorted(STORES))
def make(request: pytest.FixtureRequest) -> Make:
    return STORES[request.param]


@pytest.fixture
def store(make: Make) -> Store:
    """One that started long ago."""
    return make(0.0)
