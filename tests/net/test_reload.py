"""SIGHUP and the number lists: taken up between two calls, refused whole, never half."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from callgate.config import Config, load_config
from callgate.net.reload import Reload
from callgate.net.wiring import directory_of, listeners_of
from callgate.numbers import read_uri
from callgate.proxy.directory import Directory
from callgate.proxy.peers import Key

CONFIG = """\
state_dir: null
trunks:
  carrier:
    gateways: ["sip:127.0.0.1:5080"]
    profile: mine.yaml
    {trunk}
keys:
  acme: {{sources: ["127.0.0.1"], dial: {{block: ["file:blocked.txt"]}}}}
  other: {{sources: ["127.0.0.2"]}}
"""
PROFILE = "name: mine\nlimits: {{calls: 5}}\nnumbers: {{blocked: {{{blocked}}}}}\n"


class Said:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    warning = error = info


class Working:
    """What a reload touches of a gate."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.entry = SimpleNamespace(contexts=None)

    def check_certificates(self) -> None:
        pass

    def prepare(self, key: Key) -> None:
        pass

    def adopt(self, config: Config, directory: Directory, prepared: set[str]) -> None:
        self.directory = directory


class Running:
    """A gate at work, and its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("+4479\n")
        self.path = folder / "gate.yaml"
        self.config()
        self.profile()
        config = load_config(self.path)
        self.gate: Any = Working(directory_of(config, listeners_of(config)))
        self.log: Any = Said()
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.reload = Reload(
            self.gate, config, self.log, lambda what, **more: self.notes.append((what, more))
        )

    def write(self, blocked: str) -> None:
        (self.folder / "blocked.txt").write_text(blocked)

    def config(self, trunk: str = "", top: str = "") -> None:
        self.path.write_text(top + CONFIG.format(trunk=trunk))

    def profile(self, blocked: str = "premium: X1") -> None:
        (self.folder / "mine.yaml").write_text(PROFILE.format(blocked=blocked))

    def rule(self, key: str, number: str) -> str:
        return self.gate.directory.keys[key].dial.judge(read_uri(f"sip:{number}@gate".encode())).rule

    async def hup(self) -> tuple[str, dict[str, Any]]:
        self.reload.ask()
        task = self.reload._task
        assert task is not None
        await task
        line: tuple[str, dict[str, Any]] = self.log.lines.pop()
        return line


@pytest.fixture
def running(tmp_path: Path) -> Running:
    return Running(tmp_path)


async def test_lists_are_taken_up(running: Running) -> None:
    assert running.rule("acme", "+447911123456") == "N3"
    running.write("+33\n0312345678\n")
    running.config(trunk='dial: {block: ["+1"]}')
    running.profile(blocked='"country:KP": X2')
    event, fields = await running.hup()
    assert event == "callgate reloaded"
    assert fields["list_files"] == {str(running.folder / "blocked.txt"): 2}
    assert running.rule("acme", "+447911123456") == ""
    assert running.rule("acme", "+33142685300") == "N3"
    assert running.rule("acme", "0312345678") == "N3"
    assert running.rule("other", "+33142685300") == ""
    assert running.rule("other", "+12125550100") == "N3"
    assert running.rule("other", "+85021234567") == "X2"
    assert running.rule("acme", "119") == "K-X1+EMG"


async def test_again_and_again(running: Running) -> None:
    for n in range(3):
        running.write(f"+33{n}\n")
        assert (await running.hup())[0] == "callgate reloaded"
        assert running.rule("acme", f"+33{n}42685300") == "N3"
        assert running.rule("acme", "+447911123456") == ""


async def test_a_file_that_has_not_changed_is_not_read_again(running: Running) -> None:
    def tables() -> list[Any]:
        return list(running.reload.config.list_files.values())

    before = tables()
    assert (await running.hup())[0] == "callgate reloaded"
    assert tables()[0] is before[0]
    assert running.rule("acme", "+447911123456") == "N3"
    running.write("+4479\n+33\n")
    await running.hup()
    assert tables()[0] is not before[0]
    assert running.rule("acme", "+33142685300") == "N3"
    assert running.rule("acme", "+447911123456") == "N3"


async def test_a_fault_in_a_file_changes_nothing(running: Running) -> None:
    running.write("+33\nwhat\n")
    event, fields = await running.hup()
    assert event == "callgate reload refused"
    assert "blocked.txt:2" in fields["reason"]
    assert running.rule("acme", "+447911123456") == "N3"
    assert running.rule("acme", "+33142685300") == ""
    (running.folder / "blocked.txt").unlink()
    assert (await running.hup())[0] == "callgate reload refused"
    assert running.rule("acme", "+447911123456") == "N3"


async def test_what_needs_a_restart_refuses_the_lists_too(running: Running) -> None:
    running.write("+33\n")
    running.config(top='listen: ["udp://127.0.0.1:5062"]\n')
    event, fields = await running.hup()
    assert event == "callgate reload refused"
    assert "needs a restart" in fields["reason"]
    assert running.rule("acme", "+447911123456") == "N3"


async def test_the_audit_log_has_what_keys_were_held_to_before_and_after(running: Running) -> None:
    """T13: who, what, when, before and after; and nothing of what has not changed."""
    running.path.write_text(running.path.read_text().replace("acme: {", "acme: {limits: {calls: 2}, ", 1))
    await running.hup()
    what, note = running.notes.pop()
    assert (what, note["who"] != "") == ("reload", True)
    before, after = note["before"]["terms"], note["after"]["terms"]
    assert list(before) == list(after) == ["acme"]
    assert (before["acme"]["calls"], after["acme"]["calls"]) == (5, 2)
    assert before["acme"]["trunk"] == "carrier"
    running.write("+33\n")
    await running.hup()
    assert running.notes.pop()[1]["before"] is None
