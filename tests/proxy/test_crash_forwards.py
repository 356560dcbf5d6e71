"""Forwards over a kill -9: both dialogs of one that the gate has made stay joined, and one that lacks a side ends."""

from __future__ import annotations

import pytest
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import DID, World
from tests.proxy.test_forwards import PBX_THEN_PHONE, PROBES, TO_PHONE, Forwarded, by_302, calls_in, hangs_up


@pytest.fixture
def routed(ladder: Ladder) -> World:
    return ladder(route=TO_PHONE, forwarded_calls=5, lines=10, probing=PROBES)


@pytest.mark.parametrize("ender", ["near", "far"])
@pytest.mark.parametrize("how", [calls_in, by_302])
@pytest.mark.parametrize("times", [1, 2])
def test_up(ladder: Ladder, how: object, ender: str, times: int) -> None:
    """Whoever hangs up, the other side hears it; and both lines count all the time."""
    world = ladder(route=TO_PHONE if how is calls_in else None, forwarded_calls=5, lines=10)
    how(world).is_answered()  # type: ignore[operator]
    for _ in range(times):
        assert world.crashes()[:4] == (2, 0, 0, ())
        world.holds(inbound=1, forwarded=1)
    hangs_up(world, ender)
    near = next(r for r in world.records if r.direction == "inbound")
    far = next(r for r in world.records if r.direction == "forwarded")
    assert far.forwarded_of == near.id


def test_requests_pass_inside(routed: World) -> None:
    calls_in(routed).is_answered()
    routed.crashes()
    carrier = routed.carrier
    for sender, receiver in (("near", "far"), ("far", "near")):
        carrier.sends("re-INVITE", call=sender)
        carrier.gets("100", call=sender)
        carrier.gets("re-INVITE", call=receiver)
        carrier.sends("200 re-INVITE", call=receiver)
        carrier.gets("200 re-INVITE", call=sender)
        carrier.sends("ACK", call=sender)
        carrier.gets("ACK", call=receiver)
    routed.crashes()
    hangs_up(routed, "far")


@pytest.mark.parametrize("rings", [False, True])
def test_ringing(routed: World, rings: bool) -> None:
    """The answer still finds its way, with the joint that was made before it."""
    calls_in(routed)
    carrier = routed.carrier
    if rings:
        carrier.sends("180", call="far")
        carrier.gets("180", call="near")
    assert routed.crashes()[:4] == (0, 2, 0, ())
    routed.holds(inbound=1, forwarded=1)
    carrier.sends("200", call="far")
    carrier.gets("200", call="near")
    carrier.sends("ACK", call="near")
    carrier.gets("ACK", call="far")
    routed.crashes()
    hangs_up(routed, "near")


def test_the_caller_gives_up(routed: World) -> None:
    calls_in(routed)
    carrier = routed.carrier
    carrier.sends("180", call="far")
    carrier.gets("180", call="near")
    routed.crashes()
    carrier.sends("CANCEL", call="near")
    carrier.gets("200 CANCEL", call="near")
    carrier.gets("CANCEL", call="far")
    carrier.sends("200 CANCEL", call="far")
    carrier.sends("487", call="far")
    carrier.gets("ACK", call="far")
    carrier.gets("487", call="near")
    carrier.sends("ACK", call="near")
    routed.holds_nothing()


def test_the_far_side_refuses(routed: World) -> None:
    calls_in(routed)
    carrier = routed.carrier
    routed.crashes()
    carrier.sends("486", call="far")
    carrier.gets("ACK", call="far")
    carrier.gets("486", call="near")
    carrier.sends("ACK", call="near")
    routed.holds_nothing()


@pytest.mark.parametrize("lost", ["near", "far"])
@pytest.mark.parametrize("answered", [False, True])
def test_one_side_was_not_written_down(routed: World, lost: str, answered: bool) -> None:
    """The other one ends, and its line is free."""
    call = calls_in(routed)
    carrier = routed.carrier
    if answered:
        call.is_answered()
    name = call.near if lost == "near" else call.far
    routed.journal = [(at, row) for at, row in routed.journal if row[5] != name.encode() and row[0] != "R"]
    taken = routed.crashes()
    assert taken.up + taken.ringing == 1
    other = "far" if lost == "near" else "near"
    if answered:
        carrier.gets("BYE", call=other)
        carrier.sends("200 BYE", call=other)
    elif other == "near":
        carrier.gets("480", call="near")
        carrier.sends("ACK", call="near")
    else:
        carrier.sends("180", call="far")
        carrier.gets("CANCEL", call="far")
        carrier.sends("200 CANCEL", call="far")
        carrier.sends("487", call="far")
        carrier.gets("ACK", call="far")
    routed.holds_nothing()


def test_what_is_left_of_a_route(ladder: Ladder) -> None:
    """It rings at the PBX for the rest of its time, then goes on to the telephone."""
    world = ladder(route=PBX_THEN_PHONE, forwarded_calls=5, lines=10)
    world.carrier.sends("INVITE", call="near")
    world.carrier.gets("100", call="near")
    world.pbx.gets("INVITE")
    world.pbx.sends("180")
    world.carrier.gets("180", call="near")
    world.after(12.0)
    world.crashes()
    world.after(7.0)
    world.carrier.gets_nothing()
    world.after(1.0)
    world.pbx.gets("CANCEL")
    world.pbx.sends("200 CANCEL")
    world.pbx.sends("487")
    world.pbx.gets("ACK")
    world.carrier.current = world.labels["near"]
    Forwarded(world).is_answered()
    hangs_up(world, "near")


def test_a_forward_of_the_pbx_is_known_after_a_crash(ladder: Ladder) -> None:
    """The number of a live call in is remembered."""
    world = ladder(forwarded_calls=5, lines=10)
    world.carrier.sends("INVITE", call="in")
    world.carrier.gets("100", call="in")
    world.pbx.gets("INVITE")
    world.pbx.sends("180")
    world.carrier.gets("180", call="in")
    world.crashes()
    world.after(1.1)
    world.pbx.sends("INVITE", call="out", headers=(f"Diversion: <sip:{DID}@pbx.invalid>",))
    world.pbx.gets("100", call="out")
    world.carrier.gets("INVITE", call="out")
    world.holds(inbound=1, forwarded=1)
    world.crashes()
    world.holds(inbound=1, forwarded=1)
    world.carrier.sends("486", call="out")
    world.carrier.gets("ACK", call="out")
    world.pbx.gets("486", call="out")
    world.pbx.sends("ACK", call="out")
    world.pbx.sends("486 INVITE", call="in")
    world.pbx.gets("ACK", call="in")
    world.carrier.gets("486", call="in")
    world.carrier.sends("ACK", call="in")


@pytest.fixture
def young(routed: World) -> World:
    """The gate has just carried a call on when it crashes; nothing of that is written down."""
    calls_in(routed)
    routed.crashes(lost=1.0)
    routed.journal.clear()
    routed.holds_nothing()
    return routed


def test_young_and_answered(young: World) -> None:
    """Nobody is there to talk: the gate acknowledges and hangs up, each copy too."""
    carrier = young.carrier
    ok = carrier.sends("200", call="far")
    carrier.gets("ACK", call="far")
    carrier.gets("BYE", call="far")
    young.holds(forwarded=1)
    carrier.transmits(ok.data)
    carrier.gets("ACK", call="far")
    carrier.sends("200 BYE", call="far")
    young.holds_nothing()
    assert young.record().direction == "forwarded"


@pytest.mark.parametrize("crossing", [False, True])
def test_young_and_ringing(young: World, crossing: bool) -> None:
    """It is counted as a forward, and cancelled at once; or picked up nevertheless."""
    carrier = young.carrier
    carrier.sends("180 INVITE", call="far")
    cancel = carrier.gets("CANCEL", call="far")
    assert "@198.51.100.1" in cancel.uri
    young.holds(forwarded=1)
    if crossing:
        carrier.sends("200 INVITE", call="far")
        carrier.sends("200 CANCEL", call="far")
        carrier.gets("ACK", call="far")
        carrier.gets("BYE", call="far")
        carrier.sends("200 BYE", call="far")
    else:
        carrier.sends("200 CANCEL", call="far")
        carrier.sends("487 INVITE", call="far")
        carrier.gets("ACK", call="far")
    young.holds_nothing()


def test_young_and_refused(young: World) -> None:
    young.carrier.sends("486", call="far")
    young.carrier.gets("ACK", call="far")
    young.holds_nothing()


def test_young_and_a_second_crash(young: World) -> None:
    carrier = young.carrier
    carrier.sends("180 INVITE", call="far")
    carrier.gets("CANCEL", call="far")
    young.crashes()
    carrier.sends("180 INVITE", call="far")
    carrier.gets("CANCEL", call="far")
    carrier.sends("200 CANCEL", call="far")
    carrier.sends("487 INVITE", call="far")
    carrier.gets("ACK", call="far")
    young.holds_nothing()
