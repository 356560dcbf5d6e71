"""The plan's files are checked when they are loaded: each fault names its place."""

from importlib.resources import files
from pathlib import Path

import pytest

from callgate import cli
from callgate.numbers import JAPAN, PlanError, plan
from callgate.numbers.classes import CLASSES, EMERGENCY, STRICT
from callgate.numbers.plan import load

FOLDER = files("callgate.numbers.plan")
TEXTS = {name: (FOLDER / f"{name}.yaml").read_text("utf-8") for name in ("japan", "carriers", "world")}


@pytest.mark.parametrize(
    ("file", "old", "new", "fault"),
    [
        ("japan", "date: 2026-11-22", "", "japan.yaml: date"),
        ("carriers", "date: 2026-11-22", "date: soon", "carriers.yaml: date"),
        ("world", "source: >-", "origin: >-", "world.yaml: source"),
        ("japan", '"0120", digits', "0120, digits", "japan.yaml: services[0]: 80 is not a string of digits"),
        ("japan", "class: toll_free", "class: tollfree", "japan.yaml: services[0]: 'tollfree' is not"),
        ("japan", '"0800", digits', '"0120", digits', "japan.yaml: services[1]: prefix: 0120 stands twice"),
        ("japan", "[10], class: navi_dial", "[99], class: navi_dial", "japan.yaml: services[2]: digits"),
        ("japan", '["110", "118", "119"]', '["110", 118, "119"]', "japan.yaml: emergency: 118 is not"),
        ("japan", '["184", "186"]', '["184", "184"]', "japan.yaml: caller_id_prefixes: 184 stands twice"),
        ("japan", "0123 0124", "0123 123", "japan.yaml: areas: 123 is not an area code"),
        ("japan", "0123 0124", "0123 O124", "japan.yaml: areas: 'O124' is not a string of digits"),
        ("japan", '"104": "directory', '"104": ["x"] #', "japan.yaml: short_codes.104: has no name"),
        ("carriers", '"0091", digits: 6', '"0091", digits: 3', "carriers.yaml: shapes[0]: digits"),
        ("carriers", '"0033": ', '"xx": ', "carriers.yaml: names: 'xx' is not"),
        ("world", "digits: [7, 15]", "digits: [7]", "world.yaml: digits"),
        ("world", 'alike: {"1":', 'alike: {"21":', "world.yaml: alike.21: is not a country above"),
        ("world", "international_fixed}", "fixed}", "world.yaml: alike.1: 'fixed' is not a class"),
        ("japan", "0123 0124", "0124", "japan.yaml: areas: 383 entries, and `counts` says 384"),
        ("japan", '  "189": "child protection hotline"\n', "", "japan.yaml: short_codes: 26 entries"),
        ("carriers", "counts: {", "count: {", "carriers.yaml: counts: is missing"),
        ("world", "international_satellite   # Inmarsat", "space", "world.yaml: networks.870: 'space' is"),
        ("world", "countries: |", "countries: [", "world.yaml: not valid YAML"),
    ],
)
def test_a_fault_names_its_place(file: str, old: str, new: str, fault: str) -> None:
    assert old in TEXTS[file]
    texts = {**TEXTS, file: TEXTS[file].replace(old, new, 1)}
    with pytest.raises(PlanError) as raised:
        load(texts["japan"], texts["carriers"], texts["world"])
    assert str(raised.value).startswith(fault)


def test_the_shipped_plan() -> None:
    assert len(JAPAN.areas) > 380
    assert {"0220", "0460", "0550", "0770", "0880", "0980", "01267", "08512"} <= JAPAN.areas
    assert not {area for area in JAPAN.areas if JAPAN.complete(area.ljust(10, "2")) is False}
    # Nothing that a person dials as an ordinary number is an emergency number or looks like a leaked one.
    assert not [text for text in JAPAN.exact if len(text) > 6 or JAPAN.complete(text)]
    assert set(STRICT) <= CLASSES.keys()
    assert set(STRICT[:3]) == EMERGENCY


@pytest.mark.parametrize(
    ("digits", "prefix"),
    [
        ("0033031234", "0033"),
        ("0091010312345678", "009101"),
        ("00212031234", "00212"),
        ("001010", "001"),
        ("0099", "0099"),
    ],
)
def test_carrier_prefixes_have_their_lengths(digits: str, prefix: str) -> None:
    assert JAPAN.carrier(digits).prefix == prefix


def test_a_file_that_is_gone_or_no_text_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, text in TEXTS.items():
        (tmp_path / f"{name}.yaml").write_text(text, "utf-8")
    monkeypatch.setattr(plan, "files", lambda package: tmp_path)
    assert plan.load_shipped().areas == JAPAN.areas
    (tmp_path / "world.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(PlanError, match=r"world\.yaml: can't be read"):
        plan.load_shipped()
    (tmp_path / "world.yaml").unlink()
    with pytest.raises(PlanError, match=r"world\.yaml: can't be read: .*No such file"):
        plan.load_shipped()


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_that_was_cut_off_is_found_out(name: str) -> None:
    """Wherever the end is missing, at a line's end too."""
    lines = TEXTS[name].splitlines(keepends=True)
    for count in range(len(lines)):
        if all(line.startswith("#") or not line.strip() for line in lines[count:]):
            continue
        texts = {**TEXTS, name: "".join(lines[:count])}
        with pytest.raises(PlanError, match=rf"^{name}\.yaml: "):
            load(texts["japan"], texts["carriers"], texts["world"])


def test_the_program_says_it_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def damaged(args: object) -> None:
        raise PlanError("japan.yaml: areas: 12 entries")

    monkeypatch.setattr(cli, "build", damaged)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "callgate: japan.yaml: areas: 12 entries: install CallGate anew\n"
