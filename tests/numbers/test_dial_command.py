"""`callgate dial`: one verdict per number, in order, from arguments and from standard input."""

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from callgate.cli import dial

ONE_KEY = """
state_dir: null
trunks:
  carrier: {gateways: ["sip:127.0.0.1:5080"]}
keys:
  acme: {sources: ["127.0.0.1/32"], pbx: "sip:127.0.0.1:5070", trunk: carrier}
"""
TWO_CONTRACTS = """
state_dir: null
trunks:
  carrier: {gateways: ["sip:127.0.0.1:5080"]}
  closed: {gateways: ["sip:127.0.0.1:5081"], profile: closed.yaml}
  free: {gateways: ["sip:127.0.0.1:5082"], numbering: any}
keys:
  acme: {sources: ["127.0.0.1/32"], pbx: "sip:127.0.0.1:5070", trunk: carrier}
  beta: {sources: ["127.0.0.2/32"], pbx: "sip:127.0.0.2:5070", trunk: closed}
  gamma: {sources: ["127.0.0.3/32"], pbx: "sip:127.0.0.3:5070", trunk: free}
"""
CLOSED = """
name: closed
numbers: {allowed: {domestic_fixed: K-C2}, blocked: {toll_free: K-X2}, default: block, default_rule: K-D}
"""

app = typer.Typer()
dial.register(app)
PROGRAM = "import typer; from callgate.cli import dial; app = typer.Typer(); dial.register(app); app()"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
Dial = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "callgate.yaml"
    path.write_text(ONE_KEY, "utf-8")
    return path


@pytest.fixture
def call(config: Path) -> Dial:
    def run(*args: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(app, ["-c", str(config), *args], input=stdin)

    return run


def objects(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_fields_of_a_verdict(call: Dial) -> None:
    assert objects(call("--json", "186-0120-123-456", "03-1234-5678", "119", "00380312345678")) == [
        {
            "dialled": "186-0120-123-456",
            "canonical": "+81120123456",
            "class": "toll_free",
            "verdict": "blocked",
            "rule": "K-X2",
            "code": 403,
            "carrier_prefix": None,
            "steps": ["separators left out", "186 taken off (caller id prefix)"],
            "reason": "toll-free number, not carried under this contract",
        },
        {
            "dialled": "03-1234-5678",
            "canonical": "+81312345678",
            "class": "domestic_fixed",
            "verdict": "allowed",
            "rule": None,
            "code": None,
            "carrier_prefix": None,
            "steps": ["separators left out"],
            "reason": "Japanese fixed line",
        },
        {
            "dialled": "119",
            "canonical": "119",
            "class": "emergency",
            "verdict": "blocked",
            "rule": "K-X1+EMG",
            "code": 503,
            "carrier_prefix": None,
            "steps": [],
            "reason": "emergency number, not carried on this trunk",
        },
        {
            "dialled": "00380312345678",
            "canonical": "+81312345678",
            "class": "carrier_select",
            "verdict": "blocked",
            "rule": "K-X3",
            "code": 403,
            "carrier_prefix": "0038",
            "steps": ["carrier prefix 0038 (Rakuten, formerly Fusion Communications)"],
            "reason": "prefix that selects another carrier, not carried under this contract",
        },
    ]


def test_lines_of_standard_input_in_order_blank_ones_too(call: Dial) -> None:
    found = objects(call("--json", "-", stdin=b"0312345678\n\n\xff\xfe\n110\r\n  \n0120123456"))
    assert [(row["dialled"], row["class"], row["verdict"]) for row in found] == [
        ("0312345678", "domestic_fixed", "allowed"),
        ("", "invalid", "blocked"),
        ("\\xff\\xfe", "invalid", "blocked"),
        ("110\r", "invalid", "blocked"),
        ("  ", "invalid", "blocked"),
        ("0120123456", "toll_free", "blocked"),
    ]


def test_only_lf_ends_a_line(call: Dial) -> None:
    raw = "1\x0b2\x0c3\r4\x855\u20286\n119\n".encode()
    found = objects(call("--json", "-", stdin=raw))
    assert [row["class"] for row in found] == ["invalid", "emergency"]


def test_standard_input_between_arguments(call: Dial) -> None:
    found = objects(call("--json", "104", "-", "0312345678", stdin=b"110\n"))
    assert [row["dialled"] for row in found] == ["104", "110", "0312345678"]
    assert objects(call("--json", "-", stdin=b"")) == []


def test_readable_lines(call: Dial) -> None:
    result = call("0120-123-456", "0312345678", "\x1b[2J110", "9" * 5000)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == (
        "0120-123-456 = +81120123456: blocked by K-X2, 403: toll-free number, not carried under this "
        "contract (toll_free) [separators left out]"
    )
    assert lines[1] == "0312345678 = +81312345678: allowed: Japanese fixed line (domestic_fixed)"
    assert lines[2].startswith("\\u001b[2J110: blocked by N2, 484")
    assert len(lines[3]) < 400


def test_in_words(call: Dial) -> None:
    result = call("--why", "--lang", "en", "186-0120-123-456", "0312345678")
    assert result.stdout.splitlines() == [
        "186-0120-123-456",
        "  What it is: a toll-free number (0120, 0800) (+81120123456)",
        "  What happens: the call is refused with 403",
        "  Why: The contract does not carry 0120, 0800, 0570, 0990, 0170 and 0180. [K-X2]",
        "  How it was read: separators left out; 186 taken off (caller id prefix)",
        "  What to do: Dial the ordinary number of the company, or use a mobile or fixed phone.",
        "0312345678",
        "  What it is: a fixed line in Japan (+81312345678)",
        "  What happens: the call goes out",
    ]
    assert "結果: 発信できません(応答 503)" in call("--why", "--lang", "ja", "119").stdout
    (row,) = objects(call("--json", "--why", "--lang", "ja", "119"))
    assert row["class"] == "emergency"
    assert row["why"]["番号の種類"] == "緊急通報"
    assert call("--why", "--lang", "fr", "119").exit_code == 2


def test_the_language_is_that_of_the_locale(call: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "ja_JP.UTF-8")
    assert "緊急通報" in call("--why", "119").stdout
    monkeypatch.setenv("LC_ALL", "C")
    assert "an emergency call" in call("--why", "119").stdout


def test_no_terminal_obeys_a_number(call: Dial) -> None:
    out = call("--why", "\x1b[2J110", "sip:\x1b[31mred@gate", "urn:service:\x1b]0;x\x07").stdout
    assert "\x1b" not in out
    assert "\x07" not in out


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    class Endless(io.RawIOBase):
        left = 200 * dial.CHUNK

        def read1(self, size: int) -> bytes:
            self.left -= size
            return b"9" * size if self.left >= 0 else b""

    (batch,) = dial.lines(Endless())
    assert [len(line) for line in batch] == [dial.LONGEST]


def test_lines_come_out_as_they_come_in(config: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "-c", str(config), "--json", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdin
        assert process.stdout
        watchdog = threading.Timer(30, process.kill)
        watchdog.start()
        try:
            for number in (b"119", b"0312345678"):
                process.stdin.write(number + b"\n")
                process.stdin.flush()
                assert json.loads(process.stdout.readline())["dialled"] == number.decode()
            process.stdin.close()
            assert process.wait(30) == 0
        finally:
            watchdog.cancel()


def test_a_reader_that_goes_away_is_no_fault(config: Path, tmp_path: Path) -> None:
    many = tmp_path / "numbers"
    many.write_bytes(b"0312345678\n" * 50_000)
    with (
        many.open("rb") as stdin,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "-c", str(config), "--json", "-"],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        ) as process,
    ):
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline().startswith(b'{"dialled": "0312345678"')
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("key", "dialled", "verdict", "rule"),
    [
        ("acme", "09012345678", "allowed", None),
        ("beta", "09012345678", "blocked", "K-D"),
        ("beta", "0312345678", "allowed", "K-C2"),
        ("gamma", "sip:alice@gate", "allowed", None),
        ("gamma", "119", "blocked", "K-X1+EMG"),
    ],
)
def test_each_key_has_its_contract(
    config: Path, call: Dial, key: str, dialled: str, verdict: str, rule: str | None
) -> None:
    config.write_text(TWO_CONTRACTS, "utf-8")
    config.with_name("closed.yaml").write_text(CLOSED, "utf-8")
    (row,) = objects(call("--json", "--key", key, dialled))
    assert (row["verdict"], row["rule"]) == (verdict, rule)


def test_which_contract_must_be_clear(config: Path, call: Dial) -> None:
    config.with_name("closed.yaml").write_text(CLOSED, "utf-8")
    assert call("--key", "nobody", "110").exit_code == 2
    config.write_text(TWO_CONTRACTS, "utf-8")
    result = call("110")
    assert result.exit_code == 2
    assert "acme, beta, gamma" in result.stderr
    same = TWO_CONTRACTS.replace("trunk: closed", "trunk: carrier").replace("trunk: free", "trunk: carrier")
    config.write_text(same, "utf-8")
    assert call("110").exit_code == 0


def test_a_config_that_can_not_be_used_names_its_faults(config: Path, call: Dial) -> None:
    config.write_text(ONE_KEY.replace("trunk: carrier", "trunk: carier"), "utf-8")
    result = call("110")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "callgate.yaml:6" in result.stderr
    assert call().exit_code == 2
