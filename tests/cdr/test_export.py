"""Records go out as they are, whatever others have written into them; and no spreadsheet runs them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.cdr.support import row

from callgate.cdr.database import engine_of
from callgate.cdr.export import PAGE, Query, has_key, plain_again, read, safe, write
from callgate.cdr.row import COLUMNS, NAMES, Row, clean
from callgate.cdr.schema import SchemaError
from callgate.cdr.store import Store

TEXTS = [name for name, kind, needed in COLUMNS if kind == "text" and not needed]


def exported(rows: list[Row], form: str) -> str:
    parts: list[str] = []
    write(rows, form, parts.append)
    return "".join(parts)


def read_csv(text: str) -> list[Row]:
    """As somebody reads it who knows the rules."""
    found = []
    for line in csv.DictReader(io.StringIO(text, newline="")):
        one: Row = {}
        for name, kind, _ in COLUMNS:
            cell = line[name]
            if kind == "text":
                one[name] = plain_again(cell) or None
            elif cell == "":
                one[name] = None
            elif kind == "truth":
                one[name] = cell == "true"
            else:
                one[name] = cell if kind == "time" else float(cell)
        found.append(one)
    return found


ANY = st.text(max_size=20) | st.text(alphabet="=+-@'\"\t\r\n,;|\0 \ud800\u2028\x7fa0+８", max_size=8)


@given(st.dictionaries(st.sampled_from(TEXTS), ANY))
@example({"caller_raw": "=cmd|' /C calc'!A0", "raw": "'=1", "caller": "''+x", "reason": 'a\r\nb\n"c",d'})
@example({"raw": "\rx", "caller": "\u2028", "reason": "\x1b[2J\x7f"})
def test_any_text_comes_back(texts: dict[str, str]) -> None:
    one = row() | {name: clean(text) for name, text in texts.items()}
    lines = exported([one, one], "jsonl")
    assert lines.count("\n") == 2
    assert all(line.isprintable() for line in lines.splitlines())
    assert [json.loads(line) for line in lines.splitlines()] == [one, one]
    as_csv = {name: value if value != "" else None for name, value in one.items()}
    assert read_csv(exported([one, one], "csv")) == [as_csv, as_csv]


@given(ANY)
def test_no_cell_begins_a_formula(text: str) -> None:
    cell = safe(text)
    assert not cell.startswith(("=", "-", "@", "\t", "\r"))
    assert not cell.startswith("+") or cell[1:].isdigit()
    assert plain_again(cell) == text


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("-1+1", "'-1+1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("+815012345678", "+815012345678"),
        ("+8150+1", "'+8150+1"),
        ("+cmd|x", "'+cmd|x"),
        ("+81\n", "'+81\n"),
        ("0312345678", "0312345678"),
        ("'t Hooft", "'t Hooft"),
        ("'=1", "''=1"),
    ],
)
def test_cells(text: str, cell: str) -> None:
    assert safe(text) == cell


def test_csv_has_a_head_and_plain_values() -> None:
    head, line, rest = exported([row(recorded=True, value=4, limit=3, rule="V1")], "csv").split("\r\n")
    assert head == ",".join(NAMES)
    assert ",V1,4,3," in line
    assert ",true," in line
    assert rest == ""
    assert exported([], "csv") == head + "\r\n"
    assert exported([], "jsonl") == ""


# -- out of the database


@pytest.fixture
def store(url: str) -> Store:
    made = Store(url)
    made.connect()
    return made


def numbers(url: str, **query: Any) -> list[float]:
    return [one["hold_seconds"] for one in read(url, Query(**query))]


def test_oldest_first_over_many_pages(url: str, store: Store) -> None:
    """Whatever the order in which they ended; many at the same instant too."""
    count = 2 * PAGE + 7
    rows = [row(invite_at=float(n // 300), hold_seconds=float(n)) for n in range(count)]
    store.insert(rows[::-1])
    assert numbers(url) == [float(n) for n in range(count)]


def test_from_to_and_key(url: str, store: Store) -> None:
    store.insert(
        [row(invite_at=float(n), key=("acme", "other")[n % 2], hold_seconds=float(n)) for n in range(10)]
    )
    at = [f"2026-01-01T00:00:0{n}.000000Z" for n in range(10)]
    assert numbers(url, begin=at[3], end=at[7]) == [3, 4, 5, 6]
    assert numbers(url, begin=at[3], key="other") == [3, 5, 7, 9]
    assert numbers(url, end=at[0]) == []
    assert has_key(url, "other")
    assert not has_key(url, "nobody")


def test_what_is_not_ours_is_said(url: str) -> None:
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).touch()
    with pytest.raises(SchemaError, match="holds no records"):
        list(read(url, Query()))


def test_a_slow_reader_holds_nobody_up(url: str, store: Store) -> None:
    """Between two pages no transaction is open: records are written, and seen."""
    store.insert([row(invite_at=float(n)) for n in range(PAGE + 1)])
    found = read(url, Query())
    next(found)
    store.insert([row(invite_at=9000.0)])
    with engine_of(url).connect() as other, other.begin():
        pass
    assert len(list(found)) == PAGE + 1


@pytest.mark.parametrize("texts", [{"raw": "=cmd", "caller": 'a"b\n,c', "reason": "<script>\u2028"}])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_through_the_database(url: str, store: Store, texts: dict[str, str], data: st.DataObject) -> None:
    one = row() | {name: clean(text) for name, text in texts.items()} | {"caller_raw": clean(data.draw(ANY))}
    store.insert([one])
    assert one in list(read(url, Query(key="acme")))
