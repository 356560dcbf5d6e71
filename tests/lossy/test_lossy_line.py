"""A line that loses 20 % both ways on both sides, doubles 10 %, and delays a tenth of the rest by up to half a second,
so that others overtake it: every call ends in the state that both ends believe, no line leaks, no call is counted
twice, no window is broken.

The phones at both ends are whole user agents with all timers of RFC 3261 (`transactions.py`, `leg.py`); what must hold
all the time stands in `world.py`, what must hold in the end in its `Summary` and in the ladders' own `World.ends`:
nothing held, nothing left in the core, no cycle.
"""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.examples import many
from tests.lossy.conftest import Make
from tests.lossy.line import PERFECT, Quality
from tests.lossy.world import LossyWorld
from tests.proxy import stores
from tests.proxy.stores import Kind

BAD = Quality()
CPS = 20
LIMITS = {"cps": CPS, "outbound_calls": 400, "inbound_calls": 200, "calls": 500}
EACH = 0.05
"""Seconds between two calls: 15 new outbound ones a second, and with their further attempts and late copies more than
the limit lets through."""


def test_ten_thousand_calls(lossy: Make) -> None:
    world = lossy(stores.SAME_TURN, 1, gateways=2, **LIMITS)
    world.offers(10_000, EACH)
    summary = world.settles()
    print(summary)
    assert len(world.offered) > 9_990, "a caller that never got through is one in 78,000"
    assert world.meter.fullest <= CPS
    assert world.meter.fullest >= CPS - 1, "the limit is used"
    assert summary.refused["V1"] > 500, "and it is what holds calls back"
    assert set(summary.refused) == {"V1"}
    assert 0.19 < summary.lost < 0.21
    assert summary.disagreed <= 20, (
        f"each of them is a call that was given up before its answer came: {summary}"
    )
    assert min(summary.outcomes.values()) > 100, "a mix of everything"
    assert world.rejected("late answer") > 5


@pytest.mark.parametrize("kind", [stores.LATE, stores.OUT_OF_ORDER], ids=lambda kind: kind.name)
def test_a_store_that_takes_its_time(lossy: Make, kind: Kind) -> None:
    world = lossy(kind, 2, gateways=2, **LIMITS)
    world.offers(many(1_000), EACH)
    summary = world.settles()
    assert world.meter.fullest <= CPS
    assert summary.disagreed <= 10, summary


@pytest.mark.parametrize("gateways", [1, 2])
def test_every_message_that_leaves(lossy: Make, gateways: int) -> None:
    """The rules of the ladders (`tests/proxy/rules.py`) hold for each."""
    world = lossy(stores.SAME_TURN, 3, watchful=True, gateways=gateways, **LIMITS)
    world.offers(150, EACH)
    world.settles()
    assert world.meter.fullest <= CPS


def test_gateways_that_refuse_and_challenge(lossy: Make) -> None:
    """A call goes on to the next gateway and, with credentials, perhaps back to one that has refused it: that sees the
    same Call-ID with a higher CSeq, and never the same INVITE twice."""
    world = lossy(stores.SAME_TURN, 9, fussy=True, watchful=True, gateways=3, inbound_share=0.1, **LIMITS)
    world.offers(400, EACH)
    world.settles()
    assert world.meter.fullest <= CPS
    asked_again = sum(leg.refusals > 1 for phone in world.carriers for leg in phone.legs.values())
    assert asked_again > 10


def test_copies_that_wait_for_a_token(lossy: Make) -> None:
    """Half of everything is lost, so copies go out that the contract has no room for at once: they wait, ahead of new
    calls."""
    limits = LIMITS | {"cps": 3}
    world = lossy(stores.SAME_TURN, 4, line=replace(BAD, loss=0.5), gateways=1, **limits)
    world.offers(1_500, 0.15)
    summary = world.settles()
    assert world.meter.fullest == 3
    assert summary.refused["V1"] > 200


def test_a_carrier_that_nobody_hears(lossy: Make) -> None:
    """Every INVITE arrives at the first gateway, none of its answers comes back: each call costs a token there and one
    at the second, and each copy that it takes to find out is covered."""
    world = lossy(stores.SAME_TURN, 5, gateways=2, inbound_share=0.0, **LIMITS)
    world.carriers[0].silent = True
    world.offers(600, 0.1)
    summary = world.settles()
    assert world.meter.fullest <= CPS
    assert world.meter.total > len(world.offered) * 0.8
    assert summary.outcomes["answered"] > 150


def test_jitter_beyond_the_margin(lossy: Make) -> None:
    """Four of ten datagrams are up to three seconds late, INVITEs too: V1 can't be promised then (a copy may arrive
    when its token has long gone back), all else is."""
    wild = replace(BAD, straggling=0.4, late=3.0)
    world = lossy(stores.LATE, 6, line=wild, steady=False, gateways=2, **LIMITS)
    world.offers(many(1_000), EACH)
    summary = world.settles()
    assert summary.disagreed <= 40, summary


def test_calls_that_the_gate_ends(lossy: Make) -> None:
    """C1: its BYEs cross with the requests of both sides, and are lost like them."""
    world = lossy(stores.SAME_TURN, 7, gateways=2, max_call_seconds=5.0, **LIMITS)
    world.offers(2_000, EACH)
    world.settles()
    assert sum(record.rule == "C1" for record in world.records) > 300


def test_a_perfect_line(lossy: Make) -> None:
    """The phones themselves: nothing is sent twice, nobody is left, both ends agree on everything."""
    world = lossy(stores.SAME_TURN, 8, line=PERFECT, watchful=True, gateways=2, **LIMITS)
    world.offers(150, 1.0)
    summary = world.settles()
    assert not summary.disagreed, summary
    assert set(summary.refused) <= {"V1"}
    assert not world.rejected("late answer")
    assert not world.unknown


@settings(max_examples=many(60), deadline=None)
@given(
    seed=st.integers(0, 1_000_000),
    kind=st.sampled_from(stores.ANSWERING),
    loss=st.sampled_from((0.0, 0.2, 0.5, 0.8)),
    double=st.sampled_from((0.0, 0.1, 0.5)),
    late=st.sampled_from((0.05, 0.5, 3.0)),
    gateways=st.integers(1, 3),
    cps=st.sampled_from((1, 3, 20)),
    fussy=st.booleans(),
    lines=st.sampled_from((2, 200)),
    each=st.sampled_from((0.02, 0.3)),
)
def test_any_line(
    seed: int,
    kind: Kind,
    loss: float,
    double: float,
    late: float,
    gateways: int,
    cps: int,
    fussy: bool,
    lines: int,
    each: float,
) -> None:
    """The longest call is bounded here: what eleven lost BYEs of both sides leave behind is for `probe`."""
    quality = Quality(loss, double, straggling=0.3, late=late)
    world = LossyWorld(
        kind,
        seed,
        line=quality,
        watchful=True,
        fussy=fussy,
        gateways=gateways,
        cps=cps,
        outbound_calls=lines,
        inbound_calls=lines,
        calls=lines + 1,
        max_call_seconds=90.0,
    )
    try:
        world.offers(25, each)
        world.settles()
        assert world.meter.fullest <= cps
    finally:
        gc.unfreeze()
        gc.enable()
