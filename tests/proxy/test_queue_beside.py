"""What waits in a queue while a forward, a suspension or shadow mode comes by."""

from __future__ import annotations

from tests.proxy.conftest import Ladder
from tests.proxy.test_forwards import TO_PHONE, Forwarded
from tests.proxy.test_limits import TOKEN
from tests.proxy.test_queue import SLACK, fills, goes, waits
from tests.proxy.test_reload import reload
from tests.proxy.test_suspension import suspend


def test_a_forward_waits_for_the_rate_like_a_call(ladder: Ladder) -> None:
    """The call in holds its line; its second leg goes out the moment a token is free."""
    world = ladder(cps=1, queue_seconds=2.0, route=TO_PHONE, forwarded_calls=5, lines=10)
    sent = fills(world, 1)
    world.carrier.sends("INVITE", call="near")
    world.carrier.gets("100", call="near")
    world.settle()
    world.carrier.gets_nothing()
    world.after(sent + TOKEN + SLACK - world.now)
    world.carrier.current = world.labels["near"]
    call = Forwarded(world)
    call.is_answered()
    world.carrier.sends("BYE", call="near")
    world.carrier.gets("200 BYE", call="near")
    world.carrier.gets("BYE", call="far")
    world.carrier.sends("200 BYE", call="far")
    world.holds_nothing()


def test_who_waits_is_refused_when_its_key_is_suspended(ladder: Ladder) -> None:
    world = ladder(cps=1, queue_seconds=2.0)
    fills(world, 1)
    waits(world, "a")
    suspend(world)
    world.settle()
    world.pbx.gets("403", call="a")
    world.pbx.sends("ACK", call="a")
    assert not len(world.core.pacing)
    world.after(TOKEN + SLACK)
    world.carrier.gets_nothing()
    world.holds_nothing()


def test_shadow_mode_makes_nobody_wait(ladder: Ladder) -> None:
    world = ladder(cps=1, queue_seconds=2.0, shadow=True)
    fills(world, 1)
    world.pbx.sends("INVITE", call="a")
    world.pbx.gets("100", call="a")
    world.settle()
    goes(world, "a")
    record = next(r for r in world.records if r.call_id == world.labels["a"])
    assert (record.shadow, record.rule, record.waited) == (True, "V1", 0.0)


def test_a_reload_holds_who_waits_to_the_new_limits(ladder: Ladder) -> None:
    world = ladder(cps=1, queue_seconds=2.0)
    sent = fills(world, 1)
    waits(world, "a")
    reload(world, outbound_cps=1, outbound_calls=0)
    world.after(sent + TOKEN + SLACK - world.now)
    assert world.pbx.gets("503", call="a").get("x-callgate-verdict") == "rule=C2;value=1;limit=0"
    world.pbx.sends("ACK", call="a")
    world.carrier.gets_nothing()
    world.holds_nothing()
