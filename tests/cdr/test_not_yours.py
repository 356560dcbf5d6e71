"""Commands of somebody who is not the gate's user: they say whose it is, and end with 1."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import typer

from callgate.cli.cdr import readable
from callgate.cli.control import gate_runs
from callgate.config.load import Places

REMEDY = f"is not yours: run this as the user of the gate (uid {os.getuid()}) or as root"


def test_the_control_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`erase` and `outbox replay` ask whether a gate runs."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "control.sock").touch()
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(typer.Exit) as ended:
        gate_runs(tmp_path)
    assert ended.value.exit_code == 1
    assert REMEDY in capsys.readouterr().err


def test_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "callgate.db"
    file.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
    with pytest.raises(typer.Exit) as ended, readable(Places(f"sqlite:///{file}", None, frozenset())):
        pytest.fail("the database was asked")
    assert ended.value.exit_code == 1
    assert f"{file} {REMEDY}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("callgate.db", "there are no records yet"),
        ("file/callgate.db", "there are no records yet"),
        ("x" * 300, "too long"),
    ],
)
def test_a_database_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(typer.Exit) as ended,
        readable(Places(f"sqlite:///{tmp_path / name}", None, frozenset())),
    ):
        pytest.fail("the database was asked")
    assert ended.value.exit_code == 1
    assert said in capsys.readouterr().err
