"""T15: who rests when, by the clock on their own wall."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.policy.hours import QuietHours
from callgate.policy.numberset import NumberSet

TOKYO = "+81312345678"
NEW_YORK = "+12125550100"
PARIS = "+33142685300"
SYDNEY = "+61292005700"


def at(text: str, zone: str = "Asia/Tokyo") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("number", "zone", "local", "quiet"),
    [
        (TOKYO, "Asia/Tokyo", "2026-11-30 20:59:59", False),
        (TOKYO, "Asia/Tokyo", "2026-11-30 21:00:00", True),
        (TOKYO, "Asia/Tokyo", "2026-12-01 00:00:00", True),
        (TOKYO, "Asia/Tokyo", "2026-12-01 07:59:59", True),
        (TOKYO, "Asia/Tokyo", "2026-12-01 08:00:00", False),
        ("+819012345678", "Asia/Tokyo", "2026-12-01 03:00:00", True),
        ("+815012345678", "Asia/Tokyo", "2026-12-01 12:00:00", False),
        (NEW_YORK, "America/New_York", "2026-07-01 20:59:00", False),
        (NEW_YORK, "America/New_York", "2026-07-01 21:00:00", True),
        (NEW_YORK, "America/New_York", "2026-12-01 07:59:00", True),
        (NEW_YORK, "America/New_York", "2026-12-01 08:00:00", False),
        (PARIS, "Europe/Paris", "2026-03-29 07:59:00", True),  # summer time began that night
        (PARIS, "Europe/Paris", "2026-03-29 08:00:00", False),
        (SYDNEY, "Australia/Sydney", "2026-01-15 21:30:00", True),
    ],
)
def test_by_the_clock_of_the_called_party(number: str, zone: str, local: str, quiet: bool) -> None:
    why = QuietHours().judge(number, at(local, zone))
    assert bool(why) == quiet
    if quiet:
        assert f"it is {local[11:16]}" in why
        assert "21:00-08:00" in why


def test_of_several_zones_the_strictest() -> None:
    """A toll-free number of North America may ring from Adak to St. John's: hardly an hour is left."""
    hours = QuietHours()
    moments = [at(f"2026-12-01 {hour:02}:30", "UTC") for hour in range(24)]
    free = sum(1 for moment in moments if not hours.judge("+18005550100", moment))
    assert free < sum(1 for moment in moments if not hours.judge(NEW_YORK, moment)) == 13


@pytest.mark.parametrize("number", ["+8821612345678", "+999123", "+", "110", "alice", "", "117"])
def test_nobody_knows_where_that_is(number: str) -> None:
    """A satellite phone, no number at all: nothing is quiet there."""
    assert QuietHours().judge(number, at("2026-12-01 03:00")) == ""


def test_hours_within_a_day() -> None:
    hours = QuietHours(12 * 60, 13 * 60)
    assert [
        bool(hours.judge(TOKYO, at(f"2026-12-01 {t}"))) for t in ("11:59", "12:00", "12:59", "13:00")
    ] == [*(False, True, True, False)]


def test_days_of_rest_and_days_without() -> None:
    """Dates are the called party's: in New York it is still the day before."""
    hours = QuietHours(
        holidays=True,
        quiet_dates=frozenset({date(2026, 12, 31)}),
        free_dates=frozenset({date(2026, 12, 24), date(2026, 11, 3)}),
    )
    assert "2026-11-23 is a public holiday" in hours.judge(TOKYO, at("2026-11-23 12:00"))
    assert hours.judge(TOKYO, at("2026-11-24 12:00")) == ""
    assert hours.judge(TOKYO, at("2026-11-03 12:00")) == "", "a holiday, and a day without"
    assert hours.judge(NEW_YORK, at("2026-11-23 12:00", "America/New_York")) == "", "no holiday there"
    assert "day of rest" in hours.judge(TOKYO, at("2026-12-31 12:00"))
    assert hours.judge(TOKYO, at("2026-12-24 23:30")) == ""
    assert hours.judge(NEW_YORK, at("2026-12-31 09:00")) == "", "the 30th there"
    assert "day of rest" in hours.judge(NEW_YORK, at("2026-12-31 09:00", "America/New_York"))


def test_numbers_without() -> None:
    hours = QuietHours(free_numbers=NumberSet([(819012345600, 819012345699)]))
    assert hours.judge("+819012345650", at("2026-12-01 03:00")) == ""
    assert hours.judge("+819012345700", at("2026-12-01 03:00"))


@given(
    begins=st.integers(0, 1439),
    length=st.integers(1, 1439),
    minute=st.integers(0, 60 * 24 * 365 * 3),
    place=st.sampled_from([(TOKYO, "Asia/Tokyo"), (NEW_YORK, "America/New_York"), (PARIS, "Europe/Paris")]),
)
def test_the_promise(begins: int, length: int, minute: int, place: tuple[str, str]) -> None:
    """Quiet exactly while the local clock stands between the two times, whatever the day and the season."""
    hours = QuietHours(begins, (begins + length) % 1440)
    number, zone = place
    moment = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
    local = moment.astimezone(ZoneInfo(zone))
    since = (local.hour * 60 + local.minute - begins) % 1440
    assert bool(hours.judge(number, moment.timestamp())) == (since < length)


@given(
    ranges=st.lists(
        st.tuples(st.integers(10**7, 10**7 + 200), st.integers(0, 30)).map(lambda p: (p[0], sum(p)))
    ),
    number=st.integers(10**7 - 5, 10**7 + 260),
)
def test_a_set_of_numbers(ranges: list[tuple[int, int]], number: int) -> None:
    """Holds what a list of ranges holds."""
    held = NumberSet(ranges)
    assert (f"+{number}" in held) == any(first <= number <= last for first, last in ranges)
    assert len(held) == len({n for first, last in ranges for n in range(first, last + 1)})
    assert str(number) not in held
