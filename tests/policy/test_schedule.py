"""When a step of a route is open."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from callgate.policy.schedule import A_DAY, DAYS, Schedule

TOKYO, LONDON = ZoneInfo("Asia/Tokyo"), ZoneInfo("Europe/London")
ALL = frozenset(range(7))
WORKDAYS = frozenset(range(5))
OFFICE = Schedule(9 * 60, 18 * 60, WORKDAYS, TOKYO)
NIGHT = Schedule(22 * 60, 6 * 60, frozenset([4]), TOKYO)  # Friday night
DAY = Schedule(0, A_DAY, frozenset([6]), TOKYO)


@pytest.mark.parametrize(
    ("schedule", "at", "is_open"),
    [
        (OFFICE, datetime(2026, 11, 27, 8, 59, 59, tzinfo=TOKYO), False),
        (OFFICE, datetime(2026, 11, 27, 9, 0, tzinfo=TOKYO), True),
        (OFFICE, datetime(2026, 11, 27, 17, 59, 59, tzinfo=TOKYO), True),
        (OFFICE, datetime(2026, 11, 27, 18, 0, tzinfo=TOKYO), False),
        (OFFICE, datetime(2026, 11, 28, 12, 0, tzinfo=TOKYO), False),  # a Saturday
        (OFFICE, datetime(2026, 11, 27, 1, 0, tzinfo=LONDON), True),  # 10:00 in Tokyo
        (NIGHT, datetime(2026, 11, 27, 21, 59, tzinfo=TOKYO), False),
        (NIGHT, datetime(2026, 11, 27, 22, 0, tzinfo=TOKYO), True),
        (NIGHT, datetime(2026, 11, 28, 5, 59, tzinfo=TOKYO), True),  # begun on Friday
        (NIGHT, datetime(2026, 11, 28, 6, 0, tzinfo=TOKYO), False),
        (NIGHT, datetime(2026, 11, 28, 22, 0, tzinfo=TOKYO), False),
        (NIGHT, datetime(2026, 11, 27, 5, 0, tzinfo=TOKYO), False),
        (DAY, datetime(2026, 11, 29, 0, 0, tzinfo=TOKYO), True),
        (DAY, datetime(2026, 11, 29, 23, 59, tzinfo=TOKYO), True),
        (DAY, datetime(2026, 11, 30, 0, 0, tzinfo=TOKYO), False),
        # Summer time: the clock on the wall counts.
        (Schedule(9 * 60, 10 * 60, ALL, LONDON), datetime(2026, 7, 1, 8, 30, tzinfo=ZoneInfo("UTC")), True),
        (Schedule(9 * 60, 10 * 60, ALL, LONDON), datetime(2026, 12, 1, 9, 30, tzinfo=ZoneInfo("UTC")), True),
    ],
)
def test_open(schedule: Schedule, at: datetime, is_open: bool) -> None:
    assert schedule.open_at(at.timestamp()) is is_open


def test_days_are_those_of_python() -> None:
    assert DAYS[datetime(2026, 11, 28).weekday()] == "sat"
