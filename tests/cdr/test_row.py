"""A record as a row: what is null, and whose fault it is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cdr.support import call, row

from callgate.cdr.row import COLUMNS, NAMES, Row, checked, clean, fault_of

FIELDS = (
    *("id", "call_id", "key", "trunk", "gateway", "direction", "raw", "canonical", "caller_raw", "caller"),
    *("invite_at", "sent_at", "ringing_at", "answer_at", "end_at", "final_code", "ended_by", "verdict"),
    *("rule", "value", "limit", "class", "fault", "attempts", "waited_seconds", "units", "yen", "recorded"),
    *("hold_seconds", "forwarded_of"),
)
"""As users rely on them."""


def test_the_fields() -> None:
    assert NAMES[: len(FIELDS)] == FIELDS
    assert tuple(row()) == NAMES


def test_what_did_not_happen_is_null() -> None:
    refused = row(
        sent_at=None,
        ringing_at=None,
        answer_at=None,
        gateway="",
        final_code=503,
        verdict="refused",
        rule="V1",
        value=4,
        limit=3,
        attempts=0,
        outcome="refused",
    )
    assert [refused[name] for name in ("sent_at", "ringing_at", "answer_at", "gateway")] == [None] * 4
    assert (refused["rule"], refused["value"], refused["limit"], refused["fault"]) == ("V1", 4, 3, "policy")
    plain = row()
    assert [plain[name] for name in ("rule", "value", "limit", "fault", "forwarded_of", "yen")] == [None] * 6


def test_a_limit_of_zero_is_shown() -> None:
    found = row(verdict="refused", rule="C2", value=1, limit=0)
    assert (found["value"], found["limit"]) == (1, 0)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({}, None),
        ({"answer_at": None, "final_code": 486, "ended_by": "callee"}, "caller"),
        ({"answer_at": None, "final_code": 487, "ended_by": "caller", "outcome": "cancelled"}, "caller"),
        ({"answer_at": None, "final_code": 407, "ended_by": "callee"}, "challenge"),
        ({"answer_at": None, "final_code": 500, "ended_by": "callee"}, "carrier"),
        ({"answer_at": None, "final_code": 603, "ended_by": "callee"}, "caller"),
        ({"answer_at": None, "final_code": 408, "ended_by": "gate", "ringing_at": None}, "carrier"),
        ({"answer_at": None, "final_code": 408, "ended_by": "gate"}, "caller"),
        ({"answer_at": None, "final_code": 503, "ended_by": "gate", "attempts": 0}, "own"),
        ({"answer_at": None, "final_code": 500, "ended_by": "callee", "direction": "inbound"}, "own"),
        ({"answer_at": None, "final_code": 503, "verdict": "refused"}, "policy"),
    ],
)
def test_whose_fault(fields: dict[str, Any], fault: str | None) -> None:
    assert fault_of(call(**({"outcome": "failed"} | fields if fields else {}))) == fault


@given(st.text(alphabet=st.characters(codec=None)))
def test_clean_text_is_what_a_database_takes(text: str) -> None:
    found = clean(text)
    assert "\0" not in found
    assert found.encode().decode() == found
    assert clean(found) == found


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
)


@given(st.dictionaries(st.sampled_from(NAMES), JUNK) | JUNK)
def test_what_is_read_is_a_row_or_a_fault(found: Any) -> None:
    whole: Any = row() | found if isinstance(found, dict) else found
    try:
        checked_row: Row = checked(whole)
    except ValueError:
        return
    assert tuple(checked_row) == tuple(column.name for column in COLUMNS)
