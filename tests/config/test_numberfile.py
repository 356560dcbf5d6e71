"""A file of numbers: read as people write them, refused with the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from callgate.cli.check import report
from callgate.config import load_config
from callgate.config.numberfile import BadNumbers, read_numbers
from callgate.net.wiring import directory_of, listeners_of


def file(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "numbers.txt"
    path.write_bytes(data)
    return path


def test_as_people_write_them(tmp_path: Path) -> None:
    text = "\ufeff# agreed\n\n+819012345678\r\n 090-1234-5679 # by letter\n+12125550100\n+8150123456{00-99}\n0312345678"
    numbers = read_numbers(file(tmp_path, text.encode()))
    assert len(numbers) == 104
    for number in ("+819012345678", "+819012345679", "+12125550100", "+815012345642", "+81312345678"):
        assert number in numbers
    for number in ("+819012345670", "+815012345700", "819012345678", "", "+", "+819012345678x", "110"):
        assert number not in numbers


def test_an_empty_one_lets_nobody_through(tmp_path: Path) -> None:
    assert len(read_numbers(file(tmp_path, b""))) == 0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"+819012345678\nalice\n", "line 2: `alice` is no phone number"),
        (b"+81\n", "line 1: "),
        (b"\xff\xfe\n", "line 1: not UTF-8"),
        (b"+8190123\xd9\xa15678\n", "line 1: "),
        (b"+81901234567890123\n", "line 1: "),
        (b"x\n" * 9, "line 5: "),
        (b"+8150123456{99-00}\n", "the smaller one first"),
    ],
)
def test_what_is_no_number(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(BadNumbers) as caught:
        read_numbers(file(tmp_path, data))
    assert words in str(caught.value)
    assert "line 6" not in str(caught.value)


def test_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(BadNumbers, match="can't be read"):
        read_numbers(tmp_path)


CONFIG = """\
state_dir: null
trunks: {{carrier: {{gateways: ["sip:127.0.0.1:5080"], emergency_route: carrier}}}}
keys:
  plain: {{sources: ["127.0.0.2"]}}
  acme:
    sources: ["127.0.0.3"]
    consent: {file}
    limits: {{redial_gap_seconds: 3}}
    quiet_hours: {{to: "9:30", holidays: true, free_numbers: ["0312345678"]}}
    watch: {{distinct_numbers: 50, hold: true, repeats: null}}
"""


def test_from_the_config_to_the_key(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(CONFIG.format(file=file(tmp_path, b"+819012345678\n").name))
    config = load_config(path)
    keys = directory_of(config, listeners_of(config)).keys
    plain, acme = keys["plain"], keys["acme"]
    assert (plain.gap, plain.reach, plain.quiet_hours, plain.consent) == (None, None, None, None)
    assert (plain.watching.distinct, plain.watching.repeats, plain.watching.fax) == (100, 20, True)
    assert (acme.gap, acme.reach) == (3.0, (49, 60.0))
    assert acme.consent is not None
    assert "+819012345678" in acme.consent
    assert str(acme.quiet_hours) == "21:00-09:30"
    assert acme.watching.repeats is None
    said = "\n".join(report(config))
    for words in (
        "emergency this trunk carries them: at once, past every limit",
        "T14 consent              1 numbers of ",
        "T15 quiet_hours          no call 21:00 to 9:30 by the called party's clock: 403, nor on public holidays in "
        "Japan; 1 numbers exempt",
        "V2  distinct_numbers     50 different numbers of Japan within 60 s, or up at once: held, 503",
        "K4  redial_gap_seconds   3       at least 3 s between two calls to the same number  [key]",
    ):
        assert words in said, said
