"""What else outlives a kill -9: hold times, lines that an operator has freed, emergency calls and the way back."""

from __future__ import annotations

import pytest
from tests.proxy.conftest import Ladder
from tests.proxy.test_crash import lives
from tests.proxy.test_emergency import calls_for_help, hangs_up, has_called_for_help, is_full, talks
from tests.proxy.test_holding import HELD, HOLD, SDP, says, told
from tests.proxy.test_reload import reload
from tests.proxy.test_reload_waiting import MOVED, still


def test_hold_time(ladder: Ladder) -> None:
    """It goes on from where it was; the alert comes ten minutes after the hold began."""
    world = ladder(hold_alert_seconds=600.0)
    world.talks()
    says(world, world.pbx, HOLD, HELD)
    world.after(500)
    world.crashes()
    lives(world, 98.0)
    assert told(world) == []
    lives(world, 4.0)
    assert told(world) == [("K8", False)]
    says(world, world.pbx, SDP)
    world.crashes()
    lives(world, 700.0)
    world.hangs_up()
    assert world.record().hold_seconds == pytest.approx(602, abs=1.0)


def test_freed_lines_stay_free(ladder: Ladder) -> None:
    world = ladder(outbound_calls=1)
    world.talks(call="a")
    world.core.free_lines(next(world.core.live()), "released by alice", world.now)
    world.carries_out()
    world.crashes()
    world.settle()
    assert world.used("outbound_calls") == 0
    world.hangs_up(call="a")
    world.holds_nothing()


def test_an_emergency_call_goes_on(ladder: Ladder) -> None:
    """By its route, and without an end after the longest call."""
    world = ladder(emergency="route", max_call_seconds=60.0)
    calls_for_help(world)
    world.crashes()
    talks(world, world.routes[0])
    world.crashes(100.0)
    hangs_up(world, world.routes[0])


def test_for_an_hour_they_call_back(ladder: Ladder) -> None:
    world = ladder(emergency="route", inbound_calls=1)
    has_called_for_help(world)
    world.after(1000.0)
    world.crashes()
    world.talks(world.carrier, call="a")
    world.talks(world.carrier, call="back")
    world.hangs_up(world.carrier, call="back")
    world.after(2700.0)
    is_full(world, "late")
    world.hangs_up(world.carrier, call="a")


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("ender", ["pbx", "carrier"])
def test_the_key_has_another_trunk_by_now(ladder: Ladder, caller: str, ender: str) -> None:
    """The call goes on with the carrier that it is up with, whose its record says it was."""
    world = ladder(gateways=2)
    sides = {"pbx": world.pbx, "carrier": world.carrier}
    world.talks(sides[caller])
    reload(world, beside=still(world), outbound_calls=20, inbound_calls=20, calls=40, **MOVED)  # type: ignore[arg-type]
    assert world.crashes()[0] == 1
    world.holds(outbound=int(caller == "pbx"), inbound=int(caller == "carrier"))
    for who, other in (("pbx", "carrier"), ("carrier", "pbx")):
        sides[who].sends("INFO")
        sides[other].gets("INFO")
        sides[other].sends("200 INFO")
        sides[who].gets("200 INFO")
    world.hangs_up(sides[ender])
    world.holds_nothing()
    assert world.record().trunk == "carrier"
