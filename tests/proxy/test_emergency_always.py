"""Whatever else holds calls up, an emergency call is dealt with in the moment it comes: forwarded where there is a
way for it, else refused so that the PBX tries its next one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.test_emergency import calls_for_help, hangs_up, talks
from tests.proxy.test_queue import fills, is_refused, refused_at_once, waits
from tests.proxy.test_suspension import suspend, with_a_clock

State = Callable[[World], None]


def queue_waits(world: World) -> None:
    fills(world, 1)
    waits(world, "waits")


def queue_full(world: World) -> None:
    """No further call would get its turn in time: it is refused at once."""
    queue_waits(world)
    refused_at_once(world, "too many")


def cap_reached(world: World) -> None:
    world.talks(call="up")
    is_refused(world, "one more", "503")


def suspended(world: World) -> None:
    with_a_clock(world)
    suspend(world)


def shadow(world: World) -> None:
    world.key.shadow = True


def draining(world: World) -> None:
    world.core.drain(world.now)


def everything(world: World) -> None:
    queue_full(world)
    suspended(world)
    draining(world)


LIMITS = {
    queue_waits: {"cps": 1, "queue_seconds": 2.0},
    queue_full: {"cps": 1, "queue_seconds": 2.0},
    cap_reached: {"outbound_calls": 1},
    suspended: {},
    shadow: {},
    draining: {},
    everything: {"cps": 1, "queue_seconds": 2.0, "outbound_calls": 3, "calls": 3},
}
WAITS = (queue_waits, queue_full, everything)
STATES = pytest.mark.parametrize("state", LIMITS, ids=lambda state: state.__name__)


def is_over(world: World, state: State) -> None:
    """Who waits gives up, or has been told no."""
    if state in WAITS:
        if state is not everything:
            world.pbx.sends("CANCEL", call="waits")
            world.pbx.gets("200 CANCEL", call="waits")
        world.pbx.gets("403" if state is everything else "487", call="waits")
        world.pbx.sends("ACK", call="waits")
    if state is cap_reached:
        world.hangs_up(call="up")


@STATES
@pytest.mark.parametrize("way", ["route", "carrier"])
def test_it_goes_at_once(ladder: Ladder, state: State, way: str) -> None:
    world = ladder(emergency=way, **LIMITS[state])  # type: ignore[arg-type]
    state(world)
    to = world.routes[0] if world.routes else world.carrier
    calls_for_help(world)
    talks(world, to)
    hangs_up(world, to)
    is_over(world, state)
    world.holds_nothing()


@STATES
def test_without_a_way_the_pbx_hears_so_at_once(ladder: Ladder, state: State) -> None:
    world = ladder(**LIMITS[state])  # type: ignore[arg-type]
    state(world)
    since = world.now
    world.pbx.sends("INVITE", call="help", to="119")
    answer = world.pbx.gets("503", call="help")
    world.pbx.sends("ACK", call="help")
    assert world.now == since
    assert answer.get("retry-after") == ""
    assert answer.get("x-callgate-verdict").startswith("rule=K-X1")
    assert world.gauge("emergency_calls_total", "refused") == 1
    is_over(world, state)
    world.holds_nothing()
