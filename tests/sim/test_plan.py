"""The load is the same for the same seed, and the carrier's own list of forbidden numbers fits it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.sim import plan
from callgate.sim.forbidden import broken_rule
from callgate.sip.uri import parse_uri

steady = settings(deadline=None)  # a busy machine is no failure
seeds = st.integers(0, 2**32)


@steady
@given(seeds)
def test_same_seed_same_load(seed: int) -> None:
    assert plan.outbound(seed, 5, 30) == plan.outbound(seed, 5, 30)
    assert plan.inbound(seed, 5, 2) == plan.inbound(seed, 5, 2)
    assert plan.outbound(seed, 5, 30) != plan.outbound(seed + 1, 5, 30)


@steady
@given(seeds, st.floats(2, 20), st.sampled_from([1, 5, 10]))
def test_load_is_in_order_inside_its_time_and_not_less_than_asked(
    seed: int, seconds: float, burst: int
) -> None:
    offers = plan.outbound(seed, seconds, 30, burst=burst, forbidden_rate=3)
    assert [offer.at for offer in offers] == sorted(offer.at for offer in offers)
    assert all(0 <= offer.at <= seconds for offer in offers)
    assert sum(not offer.forbidden for offer in offers) >= int(seconds) * 30
    assert sum(offer.forbidden for offer in offers) == int(seconds * 3)
    arrivals = plan.inbound(seed, seconds, 2)
    assert len(arrivals) == int(seconds * 2)
    assert all(0 <= arrival.at < seconds for arrival in arrivals)


def test_five_seconds_show_every_kind_of_forbidden_number() -> None:
    dialled = {offer.dialled for offer in plan.outbound(1, 5, 30) if offer.forbidden}
    assert dialled == {number for number, _ in plan.FORBIDDEN}


def test_bursts_are_there() -> None:
    offers = [offer.at for offer in plan.outbound(1, 5, 30, burst=10)]
    assert max(offers.count(at) for at in offers) == 10


def test_a_plan_is_bounded() -> None:
    with pytest.raises(ValueError, match="more than 100000 calls"):
        plan.outbound(1, 1000, 1000)
    with pytest.raises(ValueError, match="more than 100000 calls"):
        plan.inbound(1, 1000, 1000)


@steady
@given(seeds)
def test_the_carrier_agrees_with_the_plan_on_what_is_forbidden(seed: int) -> None:
    for offer in plan.outbound(seed, 3, 30):
        uri = parse_uri(b"sip:" + offer.user + b"@127.0.0.1:5060")  # and it fits into a URI
        assert bool(broken_rule(uri.user.decode())) is offer.forbidden, offer.dialled


@pytest.mark.parametrize(
    ("dialled", "rule"),
    [
        ("110", "K-X1+EMG"),
        ("%EF%BC%91%EF%BC%91%EF%BC%99", "K-X1+EMG"),
        ("184110", "K-X1+EMG"),
        ("186184119", "K-X1+EMG"),
        ("104", "K-X1"),
        ("171", "K-X1"),
        ("911", "K-X1"),
        ("0120-123-456", "K-X2"),
        ("+81120123456", "K-X2"),
        ("1860120123456", "K-X2"),
        ("08001234567", "K-X2"),
        ("0570012345", "K-X2"),
        ("0990512345", "K-X2"),
        ("00380312345678", "K-X3"),
        ("0312345678", ""),
        ("+81312345678", ""),
        ("1840312345678", ""),
        ("0118123456", ""),
        ("0184221234", ""),
        ("09012345678", ""),
        ("05012345678", ""),
        ("01012125550100", ""),
        ("", ""),
    ],
)
def test_forbidden_numbers(dialled: str, rule: str) -> None:
    assert broken_rule(dialled) == rule
