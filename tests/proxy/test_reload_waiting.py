"""A reload while calls wait: in the queue, for the turn of a further gateway, for a copy's token.

What has not left goes by the new config, or is refused at once where that has another trunk for its key, or no such
key. What has left goes on where it began, under what the config says of that trunk now."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.test_forwards import BY_302, TO_PHONE, Forwarded
from tests.proxy.test_limits import TOKEN, ends
from tests.proxy.test_queue import SLACK, fills, waits
from tests.proxy.test_reload import reload

from callgate.policy.parts import window_of
from callgate.policy.profile import Limits
from callgate.proxy.peers import Gateway, Trunk

MOVED = {"key": "acme", "trunk_name": "other", "gateways": (1,)}
REMOVED = {"key": "another", "trunk_name": "carrier", "gateways": (0,)}


def used(world: World, window: str) -> int:
    return world.store.inner.used(window, world.now)


def still(world: World, cps: int | None = None) -> Trunk:
    """The trunk that the key has left, with a rate of its own."""
    trunk = Trunk("carrier", rules=world.trunk.rules, window=window_of("carrier", Limits(outbound_cps=cps)))
    for n, agent in enumerate(world.gateways):
        known = next((g for g in world.trunk.gateways if g.index == n), None)
        if known is not None:
            trunk.gateways.append(Gateway(n, known.uri, agent.flow, trunk))
    return trunk


@pytest.mark.parametrize("how", [MOVED, REMOVED], ids=["moved", "removed"])
def test_who_waits_in_the_queue_is_told_at_once(ladder: Ladder, how: dict[str, object]) -> None:
    """It has been sent to nobody: the PBX may try again, or elsewhere. Nothing goes to the old trunk, and nothing is
    claimed of the new one."""
    world = ladder(cps=1, queue_seconds=5.0, gateways=2)
    fills(world, 1)
    waits(world, "a")
    waits(world, "b")
    reload(world, outbound_cps=1, queue_seconds=5.0, **how)  # type: ignore[arg-type]
    words = "removed its key" if how is REMOVED else "moved its key to another trunk"
    for call in "ab":
        answer = world.pbx.gets("503", call=call)
        assert words in answer.get("warning")
        assert answer.get("x-callgate-verdict").startswith("rule=V1")
        world.pbx.sends("ACK", call=call)
    world.settle()
    assert not len(world.core.pacing)
    world.after(TOKEN + SLACK)
    for agent in world.gateways:
        agent.gets_nothing()
    world.holds_nothing()


def test_while_the_store_thinks(ladder: Ladder) -> None:
    """The question of the head is open: what is granted then is given back."""
    world = ladder(cps=1, queue_seconds=2.0, gateways=2)
    world.pbx.sends("INVITE", call="a")
    world.pbx.gets("100", call="a")
    gone = bool(world.carrier.inbox)  # the store has answered in the same turn
    reload(world, outbound_cps=1, queue_seconds=2.0, **MOVED)  # type: ignore[arg-type]
    if gone:
        world.carrier.gets("INVITE", call="a")
        ends(world, "a")
        return
    world.pbx.gets("503", call="a")
    world.pbx.sends("ACK", call="a")
    world.settle()
    world.holds_nothing()
    assert world.used("outbound_cps") == 0


def test_the_next_call_goes_to_the_new_trunk(ladder: Ladder) -> None:
    """Under the same window of the key: who was called a moment ago counts."""
    world = ladder(cps=1, queue_seconds=2.0, gateways=2)
    sent = fills(world, 1)
    waits(world, "a")
    reload(world, outbound_cps=1, queue_seconds=2.0, **MOVED)  # type: ignore[arg-type]
    world.pbx.gets("503", call="a")
    world.pbx.sends("ACK", call="a")
    world.pbx.sends("INVITE", call="b")
    world.pbx.gets("100", call="b")
    world.settle()
    world.gateways[1].gets_nothing()
    world.after(sent + TOKEN + SLACK - world.now)
    two = world.gateways[1]
    two.gets("INVITE", call="b")
    two.sends("486", call="b")
    two.gets("ACK", call="b")
    world.pbx.gets("486", call="b")
    world.pbx.sends("ACK", call="b")


def test_who_waits_goes_to_the_gateways_that_there_are_now(ladder: Ladder) -> None:
    """The same trunk, with another gateway in place of the one that was there."""
    world = ladder(cps=1, queue_seconds=2.0, gateways=2)
    sent = fills(world, 1)
    waits(world, "a")
    reload(world, outbound_cps=1, queue_seconds=2.0, gateways=(1,))
    world.after(sent + TOKEN + SLACK - world.now)
    two = world.gateways[1]
    assert "@198.51.100.2" in two.gets("INVITE", call="a").uri
    two.sends("486", call="a")
    two.gets("ACK", call="a")
    world.pbx.gets("486", call="a")
    world.pbx.sends("ACK", call="a")


def is_answered_by(world: World, agent: Agent) -> None:
    agent.sends("486 INVITE")
    agent.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")
    world.holds_nothing()


@pytest.mark.parametrize("waiting", [False, True])
@pytest.mark.parametrize("how", [MOVED, REMOVED], ids=["moved", "removed"])
def test_a_further_gateway_is_one_of_the_trunk_it_began_on(
    ladder: Ladder, how: dict[str, object], waiting: bool
) -> None:
    """It was accepted for that, and claims nothing of the other one's."""
    world = ladder(gateways=2, cps=1, queue_seconds=5.0)
    first, second = world.gateways
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    first.gets("INVITE")

    def moves() -> None:
        reload(world, outbound_cps=0, trunk_limits=Limits(outbound_cps=9), **how)  # type: ignore[arg-type]

    if not waiting:
        moves()
    first.sends("503 INVITE")
    first.gets("ACK")
    world.settle()
    if waiting:
        moves()
    world.after(TOKEN + SLACK)
    second.gets("INVITE")
    assert used(world, "trunk/other/outbound_cps") == 0
    is_answered_by(world, second)


@pytest.mark.parametrize("cps", [1, 2])
def test_but_under_the_rate_that_this_trunk_has_now(ladder: Ladder, cps: int) -> None:
    """The same reload has moved the key and lowered the trunk's own rate: nobody goes beyond it."""
    world = ladder(gateways=2, cps=5, trunk_limits=Limits(outbound_cps=5))
    first, second = world.gateways
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    first.gets("INVITE")
    reload(world, beside=still(world, cps), **MOVED)  # type: ignore[arg-type]
    first.sends("503 INVITE")
    first.gets("ACK")
    world.settle()
    if cps == 2:
        second.gets("INVITE")
        is_answered_by(world, second)
        return
    second.gets_nothing()
    world.pbx.gets("500")
    world.pbx.sends("ACK")


def test_copies_go_on(ladder: Ladder) -> None:
    """A copy whose token is back takes another: of the key as it was, and of the trunk that it goes to."""
    world = ladder(gateways=2, cps=1)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.after(0.6)
    world.carrier.gets("INVITE")
    reload(world, outbound_cps=0, trunk_limits=Limits(outbound_cps=9), beside=still(world), **MOVED)  # type: ignore[arg-type]
    world.after(3.2)
    world.carrier.gets("INVITE", times=2)
    assert used(world, "trunk/other/outbound_cps") == 0
    is_answered_by(world, world.carrier)


def test_a_forward_that_is_made_after_it(ladder: Ladder) -> None:
    """The PBX deflects a call that came before: a new call to the carrier, held to what the key says now."""
    world = ladder(forwarded_calls=5, lines=10)
    world.carrier.sends("INVITE", call="near")
    world.carrier.gets("100", call="near")
    world.pbx.gets("INVITE")
    reload(world, forwarded_calls=0)
    world.pbx.sends("302", headers=BY_302)
    world.pbx.gets("ACK")
    world.carrier.gets("486", call="near")
    world.carrier.sends("ACK", call="near")
    world.holds_nothing()


def test_a_forward_whose_key_has_moved(ladder: Ladder) -> None:
    """It goes to the trunk that the key has now."""
    world = ladder(forwarded_calls=5, gateways=2)
    world.carrier.sends("INVITE", call="near")
    world.carrier.gets("100", call="near")
    world.pbx.gets("INVITE")
    reload(world, beside=still(world), **MOVED)  # type: ignore[arg-type]
    world.pbx.sends("302", headers=BY_302)
    world.pbx.gets("ACK")
    two = world.gateways[1]
    world.labels["far"] = two.gets("INVITE").call_id
    two.sends("486 INVITE", call="far")
    two.gets("ACK", call="far")
    world.carrier.gets("486", call="near")
    world.carrier.sends("ACK", call="near")
    world.holds_nothing()


def test_a_forward_whose_claim_is_open(ladder: Ladder) -> None:
    """Its call in has claimed for both under the limits of before: it asks anew."""
    world = ladder(route=TO_PHONE, forwarded_calls=5, lines=10)
    world.carrier.sends("INVITE", call="near")
    world.carrier.gets("100", call="near")
    gone = bool(world.carrier.inbox)  # the store has answered in the same turn
    reload(world, forwarded_calls=0)
    world.settle()
    if gone:
        world.carrier.current = world.labels["near"]
        Forwarded(world)
        world.carrier.sends("486 INVITE", call="far")
        world.carrier.gets("ACK", call="far")
    world.carrier.gets("486", call="near")
    world.carrier.sends("ACK", call="near")
    world.holds_nothing()
