"""Each ladder on every store, and the check that closes each."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Generator
from typing import Any

import pytest
from tests.proxy import stores as kinds
from tests.proxy.ladder import World
from tests.proxy.stores import Kind

Ladder = Callable[..., World]
WORLDS = pytest.StashKey[list[World]]()


_ladders = itertools.count(1)


@pytest.fixture(params=kinds.ANSWERING, ids=lambda kind: kind.name)
def stores(request: pytest.FixtureRequest) -> Kind:
    """Every store that answers: in the same turn, late, out of order."""
    kind: Kind = request.param
    return kind


@pytest.fixture(params=kinds.ALL, ids=lambda kind: kind.name)
def any_store(request: pytest.FixtureRequest) -> Kind:
    """Also the store that never answers: for what needs none."""
    kind: Kind = request.param
    return kind


@pytest.fixture
def ladder(request: pytest.FixtureRequest, stores: Kind) -> Ladder:
    """Makes the world of a ladder; takes what `World` takes."""
    return make_ladders(request, stores)


@pytest.fixture
def world(ladder: Ladder) -> World:
    """The usual world: one gateway, generous limits."""
    return ladder()


@pytest.fixture
def any_ladder(request: pytest.FixtureRequest, any_store: Kind) -> Ladder:
    return make_ladders(request, any_store)


@pytest.fixture
def any_world(any_ladder: Ladder) -> World:
    return any_ladder()


def make_ladders(request: pytest.FixtureRequest, kind: Kind) -> Ladder:
    """For a fixture of a test's own: worlds on this store, closed like all others."""
    worlds: list[World] = []
    request.node.stash[WORLDS] = worlds

    def make(**options: Any) -> World:
        world = World(kind, **options)
        worlds.append(world)
        return world

    return make


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """The end of every ladder belongs to its test, not to the tidying up after it."""
    try:
        result = yield
        for world in pyfuncitem.stash.get(WORLDS, []):
            world.ends()
        return result
    finally:
        pyfuncitem.stash[WORLDS] = []
        gc.unfreeze()
        gc.enable()
        if not next(_ladders) % 200:
            gc.collect()  # the worlds themselves: what was frozen is never looked at
