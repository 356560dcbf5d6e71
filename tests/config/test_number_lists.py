"""Lists of numbers in the config: in it, in files that it names, in a profile; every fault with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from callgate.cli.check import report
from callgate.config import Config, ConfigError, dial_rules, load_config, load_profile
from callgate.config.numberlists import MOST_FAULTS, ListFiles
from callgate.numbers import read_dialled

GATE = """\
state_dir: null
trunks:
  carrier:
    gateways: ["sip:127.0.0.1:5080"]
    profile: {profile}
    dial:
      {trunk}
keys:
  acme:
    sources: ["127.0.0.1"]
    dial:
      {key}
  other: {{sources: ["127.0.0.2"]}}
"""


def gate(tmp_path: Path, key: str = "", trunk: str = "", profile: str = "standard") -> Path:
    path = tmp_path / "gate.yaml"
    path.write_text(GATE.format(key=key, trunk=trunk, profile=profile), "utf-8")
    return path


def rule_of(config: Config, key: str, dialled: str) -> str:
    verdict = dial_rules(config)[key].judge(read_dialled(dialled))
    return f"{'allowed' if verdict.allowed else 'blocked'} {verdict.rule}".strip()


def faults(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    return [str(fault).replace(f"{path.parent}/", "") for fault in raised.value.faults]


def test_lists_of_a_key_and_of_its_trunk(tmp_path: Path) -> None:
    (tmp_path / "blocked.txt").write_bytes(
        "\ufeff# ours\r\n+4479  # premium\r\n\r\n0990-123-456\r\n#7119\r\n##### end\r\n0[36]5555XXXX\r\n".encode()
    )
    path = gate(tmp_path, key='block: ["file:blocked.txt", 0312]', trunk="allow: [+447911]")
    config = load_config(path)
    for dialled in ("+447900123456", "#7119", "0355551234", "0312345678"):
        assert rule_of(config, "acme", dialled) == "blocked N3"
        assert rule_of(config, "other", dialled) == "allowed"
    assert rule_of(config, "acme", "+447911123456") == "allowed N3"
    assert rule_of(config, "acme", "09012345678") == "allowed"
    said = "\n".join(report(config))
    assert "dial      block: 5 entries" in said
    assert "dial      allow: 1 entry" in said


def test_a_file_is_read_once_for_all_lists(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("+44\n+33\n")
    config = load_config(gate(tmp_path, key='block: ["file:list.txt"]', trunk='allow: ["file:./list.txt"]'))
    assert [len(table) for table in config.list_files.values()] == [2]
    assert rule_of(config, "acme", "+33142685300") == "blocked N3"


def test_lists_are_equal_where_the_same_is_in_them(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("+44\n")
    path = gate(tmp_path, key='block: ["file:list.txt", 03]', profile="kct-net")
    first, second = load_config(path), load_config(path)
    assert first.lists == second.lists
    assert first.profiles == second.profiles
    (tmp_path / "list.txt").write_text("+45\n")
    assert load_config(path).lists != first.lists
    gate(tmp_path, key='block: ["file:list.txt", 04]', profile="kct-net")
    (tmp_path / "list.txt").write_text("+44\n")
    assert load_config(path).lists != first.lists


def test_a_closed_key(tmp_path: Path) -> None:
    config = load_config(gate(tmp_path, key='allow: ["03"]\n      default: deny', profile="kct-net"))
    assert rule_of(config, "acme", "0312345678") == "allowed N3"
    assert rule_of(config, "acme", "0612345678") == "blocked N4"
    assert rule_of(config, "other", "0612345678") == "allowed K-C2"
    said = "\n".join(report(config))
    assert "dial      default deny: every other number is blocked" in said
    assert "warning: key acme: `dial` allows numbers that the contract's list does not hold (K-D)" in said


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("block: [tollfree]", "gate.yaml:12: keys.acme.dial.block[0]: `tollfree` is no class"),
        ('allow: [+44, "0(.*)"]', "gate.yaml:12: keys.acme.dial.allow[1]: `0(.*)` is no class"),
        (
            "trusted: [emergency]",
            "gate.yaml:12: keys.acme.dial.trusted[0]: emergency numbers are judged before",
        ),
        ('block: ["file:"]', "gate.yaml:12: keys.acme.dial.block[0]: `file:` and the path of a file"),
        ('block: ["file:gone.txt"]', "gate.yaml:12: keys.acme.dial.block[0]: there is no file `gone.txt`"),
        ('block: ["file:."]', ": is a directory; name the file in it"),
        ("block: +44", "gate.yaml:12: keys.acme.dial.block: must be a list"),
        ("default: block", "gate.yaml:12: keys.acme.dial.default: must be 'allow' or 'deny'"),
        ("deny: [+44]", "gate.yaml:12: keys.acme.dial.deny: unknown key `deny`"),
        ("block: [[]]", "gate.yaml:12: keys.acme.dial.block[0]: must be text"),
    ],
)
def test_a_fault_in_the_config_has_its_place(tmp_path: Path, key: str, fault: str) -> None:
    (found,) = faults(gate(tmp_path, key=key))
    assert fault in found


def test_a_fault_in_a_file_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(
        b"+44\n#comment\n0[9-1]X\n\xff\xfe\n" + b"9" * 100 + b"\n0312345678\n"
    )
    found = faults(gate(tmp_path, key='block: ["file:list.txt"]'))
    assert [one.split(": ")[0] for one in found] == [f"list.txt:{n}" for n in (2, 3, 4, 5)]
    assert "write the smaller digit first" in found[1]
    assert "not UTF-8" in found[2]


def test_a_file_that_is_no_list_is_told_in_few_lines(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("hello\n" * 1000)
    found = faults(gate(tmp_path, key='block: ["file:list.txt"]'))
    assert len(found) == MOST_FAULTS + 1
    assert any(f"{1000 - MOST_FAULTS} more lines" in one for one in found)


def test_a_long_file_gives_way_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("".join(f"+44{n:09}\n" for n in range(120_000)))
    rests: list[int] = []
    made = ListFiles(lambda: rests.append(1)).read(path, [])
    assert len(made) == 120_000
    assert len(rests) > 20
    assert made.digits("+44000119999").length
    assert not made.digits("+44000120000").length


def test_a_load_that_fails_lets_go_of_its_own_lists_only(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("+44\n")
    (tmp_path / "new.txt").write_text("+33\nwhat\n")
    before = load_config(gate(tmp_path, key='block: ["file:old.txt"]'))
    path = gate(tmp_path, key='block: ["file:old.txt", "file:new.txt"]')
    rests: list[int] = []
    with pytest.raises(ConfigError):
        load_config(path, rest=lambda: rests.append(1), before=before)
    assert rests
    assert rule_of(before, "acme", "+447911123456") == "blocked N3"


def test_numbers_of_a_profile(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "list.txt").write_text("+4479\n")
    (tmp_path / "sub" / "mine.yaml").write_text(
        "name: mine\nnumbers:\n"
        '  blocked: {carrier_select: X6, "file:list.txt": X1, "country:KP": X2, premium: X3}\n'
        '  allowed: {"0033": X4, "+447911": X5}\n'
        "not_enforced: {X9: something else}\n"
    )
    config = load_config(gate(tmp_path, profile="sub/mine.yaml"))
    assert rule_of(config, "acme", "+447900123456") == "blocked X1"
    assert rule_of(config, "acme", "+447911123456") == "allowed X5"
    assert rule_of(config, "acme", "+85021234567") == "blocked X2"
    assert rule_of(config, "acme", "0990123456") == "blocked X3"
    assert rule_of(config, "acme", "00330312345678") == "allowed"
    assert rule_of(config, "acme", "00770312345678") == "blocked X6"
    said = "\n".join(report(config))
    assert "X9: something else" in said
    assert "blocked   X1: 1 entries of its list" in said


@pytest.mark.parametrize(
    ("numbers", "fault"),
    [
        ("blocked:\n    tollfree: X1", "unknown class of numbers `tollfree`, did you mean `toll_free`?"),
        ('blocked:\n    "0[": X1', "`0[` is no class"),
        ('allowed:\n    "file:gone": X1', "there is no file"),
        ("alerts:\n    tollfree: X1", "unknown class of numbers `tollfree`"),
    ],
)
def test_a_fault_in_a_profile(tmp_path: Path, numbers: str, fault: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"name: mine\nnumbers:\n  {numbers}\n")
    (found,) = faults(gate(tmp_path, profile="mine.yaml"))
    assert found.startswith("mine.yaml:4: numbers.")
    assert fault in found


def test_kct_net_says_what_nothing_enforces_yet() -> None:
    profile = load_profile("kct-net", Path())
    assert profile.limits["calls"] == 1
    assert {"K9", "K13"} == {rule for rule, _ in profile.not_enforced_yet}
    assert profile.numbers.alerts == {"carrier_select": "K3"}
