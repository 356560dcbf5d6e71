"""Records to keep, and a look at what was kept."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar

from sqlalchemy import select

from callgate.cdr.database import engine_of
from callgate.cdr.row import Row, rower
from callgate.cdr.schema import cdr
from callgate.proxy.telemetry.record import CallRecord

_ids = itertools.count(0x1F00_0000_0000_0001)
Result = TypeVar("Result")
DEADLINE = 20.0
"""Seconds that only a fault reaches."""


def call(**fields: Any) -> CallRecord:
    """The record of an answered call."""
    number = next(_ids)
    record = CallRecord(number, "outbound", 100.0)
    record.call_id = f"{number:x}@192.0.2.20"
    record.key, record.trunk, record.gateway = "acme", "carrier", "198.51.100.5:5060"
    record.raw, record.canonical = "0312345678", "+81312345678"
    record.caller_raw, record.caller = "05012345678", "+815012345678"
    record.sent_at, record.ringing_at, record.answer_at, record.end_at = 100.001, 101.0, 102.5, 160.25
    record.final_code, record.ended_by, record.outcome, record.attempts = 200, "caller", "answered", 1
    for name, value in fields.items():
        setattr(record, name, value)
    return record


def row(**fields: Any) -> Row:
    return rower()(call(**fields), 1_767_225_600.0)


def kept(url: str) -> list[Row]:
    """Every record of a database, by id."""
    with closing(engine_of(url, write=False).connect()) as connection:
        return [dict(one) for one in connection.execute(select(cdr).order_by(cdr.c.id)).mappings()]


def until(condition: Callable[[], Result], what: str = "it never came true") -> Result:
    end = time.monotonic() + DEADLINE
    while not (result := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.005)
    return result
