"""Is an address of a gateway to be used (proxy/trunk/health.py)? Each step with the time in hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.proxy.trunk.breaker import OPEN_MAX, OPEN_SECONDS
from callgate.proxy.trunk.health import Health, Rules, Standing, retry_after, says_cps_limit
from callgate.sip.message import Message, parse

RULES = Rules(interval=30.0, down_after=3, up_after=2, retry_after_max=300.0)
USUAL, LAST, SHUT = Standing.USUAL, Standing.LAST, Standing.SHUT


@pytest.fixture
def health() -> Health:
    return Health(RULES)


def fails(health: Health, times: int, now: float = 1000.0) -> None:
    for _ in range(times):
        health.call_failed(now, "503 to calls")


def silent(health: Health, times: int) -> None:
    for _ in range(times):
        health.options_failed("no answer to OPTIONS", 1000.0)


# -- OPTIONS ------------------------------------------------------------------------------------------------------


def test_down_after_so_many_in_a_row(health: Health) -> None:
    """And then it is tried last, not shut: there are carriers that answer no OPTIONS."""
    silent(health, 2)
    assert health.up
    assert health.standing(1000.0) is USUAL
    silent(health, 1)
    assert not health.up
    assert health.standing(1000.0) is LAST


def test_one_answer_in_between_begins_the_count_anew(health: Health) -> None:
    silent(health, 2)
    health.options_well(1000.0)
    silent(health, 2)
    assert health.up


def test_up_after_so_many_in_a_row(health: Health) -> None:
    silent(health, 3)
    health.options_well(1000.0)
    assert not health.up
    silent(health, 1)
    health.options_well(1000.0)
    assert not health.up
    health.options_well(1000.0)
    assert health.up
    assert health.standing(1000.0) is USUAL


def test_a_carrier_that_answers_calls_only(health: Health) -> None:
    """A call that it takes counts as an answer."""
    silent(health, 3)
    health.call_well()
    health.call_well()
    assert health.up
    silent(health, 2)
    health.call_well()
    silent(health, 2)
    assert health.up


# -- the circuit breaker ------------------------------------------------------------------------------------------


def test_calls_that_fail_in_a_row_shut_it(health: Health) -> None:
    fails(health, 2)
    assert health.standing(1000.0) is USUAL
    assert health.up
    fails(health, 1)
    assert health.standing(1000.0) is SHUT
    assert not health.up
    assert health.trial_at == 1000.0 + OPEN_SECONDS


def test_a_call_that_is_taken_in_between(health: Health) -> None:
    fails(health, 2)
    health.call_well()
    fails(health, 2)
    assert health.standing(1000.0) is USUAL


def test_one_trial_at_a_time(health: Health) -> None:
    """Half-open: the first call after the pause, and no other until it has ended or as much time has passed again."""
    fails(health, 3)
    now = 1000.0 + OPEN_SECONDS
    assert health.standing(now - 0.001) is SHUT
    assert health.standing(now) is LAST, "nothing has shown that it is better: others first"
    health.tried(now)
    assert health.standing(now) is SHUT
    assert health.standing(now + OPEN_SECONDS) is LAST, "its caller hung up before there was an answer"


def test_a_trial_that_is_taken_opens_the_way(health: Health) -> None:
    fails(health, 3)
    health.tried(1000.0 + OPEN_SECONDS)
    health.call_well()
    assert health.standing(1000.0 + OPEN_SECONDS) is USUAL
    assert health.up


def test_trials_that_fail_double_the_pause(health: Health) -> None:
    fails(health, 3)
    now, pauses = 1000.0, []
    for _ in range(6):
        pauses.append(health.trial_at - now)
        now = health.trial_at
        health.tried(now)
        health.call_failed(now, "503 to calls")
    assert pauses == [5.0, 10.0, 20.0, 40.0, OPEN_MAX, OPEN_MAX]
    health.tried(health.trial_at)
    health.call_well()
    fails(health, 3, now)
    assert health.trial_at - now == OPEN_SECONDS, "a success forgets"


def test_what_was_on_its_way_does_not_count_again(health: Health) -> None:
    """Fifty calls were out when it went down: their failures do not put the trial off."""
    fails(health, 3)
    fails(health, 47, 1003.0)
    assert health.trial_at == 1000.0 + OPEN_SECONDS


def test_a_late_answer_of_an_older_call(health: Health) -> None:
    fails(health, 3)
    health.call_well()
    assert health.up


def test_options_prove_it_first(health: Health) -> None:
    """An address that answers OPTIONS again takes its usual place for the trial."""
    fails(health, 3)
    health.options_well(1000.0 + OPEN_SECONDS)
    assert health.standing(1000.0 + OPEN_SECONDS) is USUAL
    assert not health.up, "one answer is not two"


def test_options_alone_bring_it_up(health: Health) -> None:
    """At night there are no calls. But not before the pause is over, and then a single call decides."""
    fails(health, 3)
    health.options_well(1001.0)
    health.options_well(1002.0)
    assert not health.up
    health.options_well(1005.0)
    assert health.up
    assert health.standing(1005.0) is USUAL
    health.call_failed(1006.0, "503 to calls")
    assert health.standing(1006.0) is SHUT
    assert health.trial_at == 1006.0 + 2 * OPEN_SECONDS


def test_a_call_that_fails_begins_the_count_of_answers_anew(health: Health) -> None:
    fails(health, 3)
    health.options_well(1005.0)
    health.tried(1005.0)
    health.call_failed(1006.0, "503 to calls")
    health.options_well(1016.0)
    assert not health.up
    health.options_well(1016.0)
    assert health.up


def test_shut_by_calls_and_down_by_options(health: Health) -> None:
    fails(health, 3)
    silent(health, 3)
    assert health.standing(1000.0 + OPEN_SECONDS) is LAST
    health.tried(1000.0 + OPEN_SECONDS)
    health.call_well()
    assert health.standing(1000.0 + OPEN_SECONDS) is LAST, "down by OPTIONS still"
    health.call_well()
    assert health.standing(1000.0 + OPEN_SECONDS) is USUAL


# -- Retry-After --------------------------------------------------------------------------------------------------


def test_a_pause_is_kept_and_no_longer(health: Health) -> None:
    health.rest(7.0, 1000.0)
    assert health.standing(1006.999) is SHUT
    assert health.standing(1007.0) is USUAL
    assert health.up, "it is not down"
    assert health.spotless


def test_the_longest_pause_counts(health: Health) -> None:
    """Two calls were refused: 30 s, then 2 s."""
    health.rest(30.0, 1000.0)
    health.rest(2.0, 1001.0)
    assert health.standing(1029.9) is SHUT


def test_a_pause_is_capped(health: Health) -> None:
    health.rest(1e9, 1000.0)
    assert health.standing(1299.9) is SHUT
    assert health.standing(1300.0) is USUAL


def test_none_is_honoured_where_the_cap_is_nothing() -> None:
    health = Health(Rules(retry_after_max=0.0))
    health.rest(60.0, 1000.0)
    assert health.standing(1000.0) is USUAL


def test_a_call_that_is_taken_does_not_end_the_pause(health: Health) -> None:
    health.rest(7.0, 1000.0)
    health.call_well()
    assert health.standing(1001.0) is SHUT


# -- what stands in an answer ---------------------------------------------------------------------------------------


def answer(*headers: str, start: str = "SIP/2.0 503 Service Unavailable") -> Message:
    lines = [
        start,
        "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKx",
        "From: <sip:a@b>;tag=1",
        "To: <sip:c@d>;tag=2",
        "Call-ID: x",
        "CSeq: 1 INVITE",
        *headers,
    ]
    return parse("\r\n".join([*lines, "", ""]).encode("latin-1"))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("  18000;duration=3600", 18000.0),
        ("120 (I'm in a meeting)", 120.0),
        ("120(x)", 120.0),
        ("0", 0.0),
        ("007", 7.0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("5s", None),
        ("soon", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("9" * 10, None),
        ("٣", None),
        ("5, 6", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after(answer(f"Retry-After: {value}".encode().decode("latin-1"))) == seconds


def test_no_retry_after() -> None:
    assert retry_after(answer()) is None


@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=40))
def test_any_retry_after_is_a_sane_number_or_none(value: str) -> None:
    found = retry_after(answer(f"Retry-After: {value}"))
    assert found is None or 0 <= found < 1e9


@pytest.mark.parametrize(
    ("start", "headers", "says"),
    [
        ("SIP/2.0 503 Trunk CPS limit exceeded", (), True),
        ("SIP/2.0 503 CPS Limit reached P05", (), True),
        ("SIP/2.0 503 Service Unavailable", ("X-Plivo-HangupCause: cps_limit_reached",), True),
        ("SIP/2.0 503 Service Unavailable", ('Warning: 399 gw "CPS limit"',), True),
        ("SIP/2.0 503 Service Unavailable", ("X-Twilio-Error: 32023 Trunk CPS limit exceeded",), True),
        ("SIP/2.0 503 Service Unavailable", ('Reason: SIP;cause=503;text="cps-limit"',), True),
        ("SIP/2.0 503 Service Unavailable", (), False),
        ("SIP/2.0 503 Service Unavailable", ("Subject: CPS limit",), False),
        ("SIP/2.0 503 recps limits", (), False),
    ],
)
def test_words_of_carriers(start: str, headers: tuple[str, ...], says: bool) -> None:
    """Pitfalls: what Twilio, Telnyx and Plivo write. What a far end could write is not looked at."""
    assert says_cps_limit(answer(*headers, start=start)) is says
