"""How the suite runs: in a network of its own, in several processes (`make test`), on a machine that may be slow."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from tests.e2e.loopback import loopback_only
from tests.examples import many

# Several hundred tests start the program: none of them compiles it, whatever the environment says.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A busy machine is no failure.
settings.register_profile(
    "patient", max_examples=many(100), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")

_network = contextlib.ExitStack()


@functools.cache
def _no_own_network() -> str:
    """Take a network namespace with nothing but a loopback in it, for as long as this process runs tests; why there is
    none, where there is none. Two processes with their own never want the same port, and nothing that a test sends
    leaves the machine."""
    try:
        _network.enter_context(loopback_only())
    except PermissionError as error:
        return str(error)
    return ""


def pytest_configure() -> None:
    _no_own_network()


def pytest_unconfigure() -> None:
    _network.close()


def pytest_report_header() -> str:
    if reason := _no_own_network():
        return f"network: shared with this machine, so all tests in one process ({reason})"
    return "network: of its own, for each process"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """What `-n auto` means: one process where several would share a network; else let xdist count."""
    return 1 if _no_own_network() else None


@pytest.fixture(autouse=True, scope="module")
def _collector() -> Iterator[None]:
    """A gate freezes what is there and turns the collector off; in a process of tests it is not alone."""
    yield
    if not gc.isenabled():
        gc.unfreeze()
        gc.enable()
