"""The program: `check`, the version, commands to come, and what each exits with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from callgate import __version__
from callgate.cli import NOT_YET, build, check
from callgate.config import load_config

EXAMPLE = Path(__file__).parents[2] / "config" / "callgate.yaml"
BASE = """\
trunks:
  carrier:
    gateways: ["sip:127.0.0.1:5080"]
keys:
  acme:
    sources: ["127.0.0.1"]
"""


def run(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(build(args), list(args), prog_name="callgate")
    return result.exit_code, result.stdout, result.stderr


def test_the_example_in_words() -> None:
    code, out, err = run("check", "-c", str(EXAMPLE))
    assert (code, err) == (0, "")
    for words in (
        "callgate.yaml: fine",
        "udp://127.0.0.1:5060, tcp://127.0.0.1:5060",
        "at most 3 new calls in any window of 1.000 s",
        "without notice: 99 inbound",
        "50 forwarded × 2 lines = 100 lines; without notice: 49 forwarded  [profile standard]",
        "100 lines = 100 inbound, or 50 forwarded × 2",
        "BYE to both sides 4 h after the answer  [key]",
        "at most 10 calls recorded at once; one more: 503, inbound 486  [profile standard]",
        "K-X1+EMG: emergency, foreign_emergency",
    ):
        assert words in out


def test_faults_go_to_stderr_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(BASE + "    pbxx: 1\nopps: 2\n")
    code, out, err = run("check", "-c", str(path))
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        f"{path}:7: keys.acme.pbxx: unknown key `pbxx`, did you mean `pbx`?",
        f"{path}:8: opps: unknown key `opps`, did you mean `ops`?",
        "2 faults; nothing was started",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "`numbers`|nothing"),
        ("state_dir: null\n", "no `secret` and no `state_dir`"),
        ("state_dir: null\nsecret: 0123456789abcdef\n", "nothing"),
        ("secret: short\n", "`secret` is shorter than 16 characters"),
        ("ops: null\n", "no /metrics"),
        ('listen: ["udp://0.0.0.0:5060"]\n', "without `advertise`"),
        ('listen: [{uri: "udp://0.0.0.0:5060", advertise: sip.example.jp}]\n', "nothing"),
    ],
)
def test_warnings_at_the_top(tmp_path: Path, text: str, words: str) -> None:
    assert_warning(tmp_path, text + BASE, words)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('sources: ["127.0.0.1"]', "sources: []", "it can't place a call"),
        ('"127.0.0.1"]', '"0.0.0.0/0"]', "is everybody"),
        ('"127.0.0.1"]', '"127.0.0.1"]\n    pbx: sip:127.0.0.3', "every inbound call is refused with 404"),
        (
            '"127.0.0.1"]',
            '"127.0.0.1"]\n    limits: {outbound_cps: 4}',
            "outbound_cps 4 is above the contract's 3 (V1",
        ),
        ('"127.0.0.1"]', '"127.0.0.1"]\n    limits: {outbound_cps: null}', "outbound_cps no limit is above"),
        ('"127.0.0.1"]', '"127.0.0.1"]\n    limits: {outbound_cps: 3}', "nothing"),
        (
            '"127.0.0.1"]',
            '"127.0.0.1"]\n    limits: {inbound_calls: 101}',
            "inbound_calls 101 can't be reached, lines is",
        ),
    ],
)
def test_warnings_of_a_key(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in BASE
    assert_warning(tmp_path, BASE.replace(old, new), words)


PUBLIC = (
    'listen: [{uri: "udp://10.0.0.5:5060", advertise: "%s"}]\n'
    + BASE
    + "    numbers: ['05012345678']\n    pbx: sip:%s\n"
)


@pytest.mark.parametrize(
    ("advertise", "pbx", "words"),
    [
        (
            "8.8.8.8",
            "192.168.0.9",
            "the PBX 192.168.0.9 has a private address, and the gate listens at 8.8.8.8:5060",
        ),
        ("sip.example.jp", "192.168.0.9", "has a private address"),
        ("8.8.8.8", "8.8.4.4", "nothing"),
        ("10.0.0.5", "192.168.0.9", "nothing"),
    ],
)
def test_media_that_can_t_pass(tmp_path: Path, advertise: str, pbx: str, words: str) -> None:
    assert_warning(tmp_path, PUBLIC % (advertise, pbx), words)


def test_a_key_whose_phones_register(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(
        'listen: [{uri: "udp://10.0.0.5:5060", advertise: "sip.example.jp"}]\n'
        "registrar: {domains: [Voice.example.jp]}\n"
        + BASE
        + "    numbers: ['05012345678']\n    pbx: registered\n"
    )
    code, out, _ = run("check", "-c", str(path))
    assert code == 0
    assert "registered: calls ring whoever registers here, at sip.example.jp or voice.example.jp\n" in out


def test_registrations_that_a_restart_forgets(tmp_path: Path) -> None:
    registered = "state_dir: null\nsecret: " + "x" * 40 + "\n" + BASE + "    pbx: registered\n"
    assert_warning(tmp_path, registered, "`state_dir` is null: after a restart nobody is registered")


def assert_warning(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    found = list(check.warnings(load_config(path)))
    if words.endswith("nothing"):
        assert [one for one in found if "tcp:// listener" not in one] == []
        return
    assert any(words in one for one in found), found
    code, out, _ = run("check", "-c", str(path))
    assert code == 0
    assert all(f"warning: {one}" in out for one in found)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ("{outbound_cps: 0}", "no outbound call at all  [key]"),
        ("{inbound_calls: 40}", "without notice: 40 inbound"),
        ("{inbound_calls: 40}", "40      at most 40 inbound calls up at once"),
        ("{calls: 5}", "at most 5 calls up at once, inbound + outbound  [key]"),
        ("{calls: 5}", "[lowered to fit calls 5]"),
        ("{outbound_calls: 7}", "at most 7 ordinary outbound calls up at once; one more: 503"),
        ("{max_call_seconds: 5400}", "1 h 30 min after the answer"),
        ("{max_call_seconds: 45.5}", "45.5 s after the answer"),
        ("{lines: null}", "K6  calls                -       no limit"),
    ],
)
def test_arithmetic(tmp_path: Path, limits: str, words: str) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(BASE + f"    limits: {limits}\n")
    code, out, _ = run("check", "-c", str(path))
    assert code == 0
    assert words in out


def test_version() -> None:
    assert run("--version") == (0, f"callgate {__version__}\n", "")


@pytest.mark.parametrize("name", NOT_YET)
def test_commands_to_come(name: str) -> None:
    code, out, err = run(name, "list", "--json", "-c", "x", "--help")
    assert (code, out) == (2, "")
    assert err.startswith(f"callgate {name}: not supported yet")


@pytest.mark.parametrize("args", [("check",), ("check", "-c"), ("check", "--nonsense"), ("nonsense",)])
def test_wrong_usage(args: tuple[str, ...]) -> None:
    assert run(*args)[0] == 2


def test_help_names_the_commands() -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(name in out for name in ("run", "check", "dial", "demo"))


def test_as_a_module_and_without_the_others_libraries() -> None:
    """One command doesn't pay for another's libraries; what can't be printed doesn't end the program."""
    program = (
        "import sys, runpy; sys.argv = ['callgate', 'check', '-c', sys.argv[1]]\n"
        "try: runpy.run_module('callgate', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'fastapi', 'uvicorn', 'uvloop', 'asyncio', 'callgate.net', 'callgate.sim'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert sys.stdout.errors == sys.stderr.errors == 'backslashreplace'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(EXAMPLE)],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"fine" in done.stdout


def test_a_udp_listener_alone_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text('listen: ["udp://127.0.0.1:5060"]\n' + BASE)
    code, out, _ = run("check", "-c", str(path))
    assert code == 0
    assert "udp://127.0.0.1:5060 without a tcp:// listener beside it" in " ".join(out.split())
