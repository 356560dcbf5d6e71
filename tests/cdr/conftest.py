"""Databases of both kinds: every test of records runs on each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.cdr.postgres import Postgres

Fresh = Callable[[], str]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with closing(Postgres()) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Fresh:
    """Makes the URL of an empty database."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres").fresh  # type: ignore[no-any-return]
    numbers = itertools.count()
    return lambda: f"sqlite:///{tmp_path}/db{next(numbers)}.db"


@pytest.fixture
def url(fresh: Fresh) -> str:
    """The URL of an empty database."""
    return fresh()
