"""What was raised and resolved is kept for `callgate events list`, and erased with the rest (T12)."""

from __future__ import annotations

from typing import Any, cast

import pytest

from callgate.cdr.erase import selection_of
from callgate.net.erasure import of_record
from callgate.net.records import EVENTS, RecordLog
from callgate.proxy.commands import Alert


class Log:
    def info(self, event: str, **fields: Any) -> None: ...

    warning = info


@pytest.fixture
def records() -> RecordLog:
    return RecordLog(cast("Any", Log()), cast("Any", None))


def alert(key: str = "acme", *, resolved: bool = False, **details: str) -> Alert:
    return Alert("K-X1+EMG", "critical", key, "an emergency call", details=details, resolved=resolved)


def test_raised_and_resolved(records: RecordLog) -> None:
    told: list[Any] = []
    records.tell = told.append
    records.alert(alert())
    (raised,) = records.events
    assert records.story.is_up(raised.data["alert"])
    assert records.story.since(alert().name) == raised.data["since"] == raised.at
    assert raised.data["advice"]
    records.alert(alert(resolved=True))
    assert (
        [one.type for one in records.events] == ["alert.raised", "alert.resolved"] == [e.type for e in told]
    )
    assert not records.story.is_up(raised.data["alert"])
    assert records.story.since(alert().name) is None


def test_no_more_than_some_are_kept(records: RecordLog) -> None:
    for n in range(EVENTS + 10):
        records.alert(alert(of=str(n)))
    assert len(records.events) == EVENTS


@pytest.mark.parametrize(
    ("number", "key", "before", "left"),
    [
        ("+819012345678", None, None, ["other"]),
        (None, "acme", None, ["other"]),
        (None, "acme", "2020-01-01T00:00:00Z", ["acme", "other"]),
        ("+819099999999", None, None, ["acme", "other"]),
    ],
)
def test_erased(
    records: RecordLog, number: str | None, key: str | None, before: str | None, left: list[str]
) -> None:
    records.utc_offset = 1.7e9
    records.alert(alert("acme", caller="+819012345678"))
    records.alert(alert("other", caller="+819087654321"))
    selection = selection_of(number, key, before)
    records.forget(of_record(selection), selection)
    assert [one.key for one in records.events] == left
