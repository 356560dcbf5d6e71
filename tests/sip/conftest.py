"""The scanner is optional at the installation, so the tests build it themselves, from this tree's source: what they
say holds for the source as it stands, whatever was or wasn't built into src/."""

from __future__ import annotations

import importlib.util
import subprocess
import sysconfig
from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from callgate.sip import message
from callgate.sip.message import Message, parse, parse_slowly

SOURCE = Path(__file__).parents[2] / "src" / "callgate" / "sip" / "_scan.c"

Scan = Callable[..., tuple[Any, ...] | None]
Read = Callable[[bytes], Message]


@pytest.fixture(scope="session")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """`scan` of src/callgate/sip/_scan.c, fresh from the compiler (gcc: tools/test-programs.txt)."""
    target = tmp_path_factory.mktemp("scanner") / f"_scan{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = sysconfig.get_path("include")
    command = ["gcc", "-O1", "-Wall", "-Wextra", "-shared", "-fPIC", f"-I{include}", SOURCE, "-o", target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, f"the compiler warns:\n{done.stderr}"
    spec = importlib.util.spec_from_loader("_scan", ExtensionFileLoader("_scan", str(target)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.scan  # type: ignore[no-any-return]


@pytest.fixture(scope="session", params=["with the scanner", "in Python alone"])
def read(request: pytest.FixtureRequest) -> Read:
    """`parse` in both ways an installation may have it: what is promised, is promised of both."""
    if request.param == "in Python alone":
        return parse_slowly
    built = request.getfixturevalue("scan")

    def read_with_scanner(data: bytes) -> Message:
        with patch.object(message, "scan", built):
            return parse(data)

    return read_with_scanner
