"""V9: a suspended key's new calls are refused, in and out, until it is resumed or its time is up; what is up
goes on, or is dropped; emergency calls are never touched."""

from __future__ import annotations

import pytest
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World

from callgate.proxy.contract.suspension import Suspension

UTC = 1_800_000_000.0
"""The wall clock of these tests when the gate's own shows 1000."""


def with_a_clock(world: World) -> World:
    world.core.clock(UTC - 1000.0, world.now)
    return world


def suspend(world: World, *, until: float | None = None, drop: bool = False, reason: str = "unpaid") -> None:
    world.core.suspensions.suspend("acme", world.now, reason=reason, until=until, by="alice", drop=drop)
    world.carries_out()


def resume(world: World) -> Suspension | None:
    found = world.core.suspensions.resume("acme", "bob")
    world.carries_out()
    return found


def is_refused(world: World, call: str, caller: str = "pbx") -> str:
    """The Warning of the 403."""
    who = world.pbx if caller == "pbx" else world.carrier
    who.sends("INVITE", call=call)
    answer = who.gets("403", call=call)
    who.sends("ACK", call=call)
    assert world.records[-1].rule == "V9"
    assert world.records[-1].outcome == "refused"
    return answer.get("warning")


def test_new_calls(ladder: Ladder) -> None:
    """403 in both directions; the PBX is told why, the trunk is not."""
    world = with_a_clock(ladder())
    suspend(world)
    assert is_refused(world, "a") == '399 callgate "V9 suspended: unpaid"'
    assert is_refused(world, "b", "carrier") == ""
    assert world.gauge("suspended") == 1.0
    assert resume(world) is not None
    assert world.gauge("suspended") == 0.0
    world.talks(call="c")
    world.hangs_up(call="c")
    raised, resolved = world.alerts
    assert (raised.rule, raised.key, raised.text) == (
        "V9",
        "acme",
        "key acme is suspended: unpaid (by alice)",
    )
    assert (resolved.rule, resolved.resolved) == ("V9", True)


def test_calls_that_are_up_go_on(ladder: Ladder) -> None:
    """And all that passes in their dialogs; ringing ones too."""
    world = with_a_clock(ladder())
    world.talks(call="a")
    world.pbx.sends("INVITE", call="b")
    world.pbx.gets("100", call="b")
    world.carrier.gets("INVITE", call="b")
    suspend(world)
    world.carrier.sends("200", call="b")
    world.pbx.gets("200", call="b")
    world.pbx.sends("ACK", call="b")
    world.carrier.gets("ACK", call="b")
    world.holds(outbound=2)
    world.hangs_up(call="b")
    world.hangs_up(world.carrier, call="a")


def test_dropped(ladder: Ladder) -> None:
    """`--drop`: BYE to both sides of what is up, 403 to what rings, CANCEL to whom it rings."""
    world = with_a_clock(ladder())
    world.talks(call="a")
    world.talks(world.carrier, call="b")
    world.pbx.sends("INVITE", call="c")
    world.pbx.gets("100", call="c")
    world.carrier.gets("INVITE", call="c")
    world.carrier.sends("180", call="c")
    world.pbx.gets("180", call="c")
    suspend(world, drop=True)
    for call in ("a", "b"):
        for agent in (world.pbx, world.carrier):
            agent.gets("BYE", call=call)
            agent.sends("200 BYE", call=call)
    world.carrier.gets("CANCEL", call="c")
    world.carrier.sends("200 CANCEL", call="c")
    world.carrier.sends("487 INVITE", call="c")
    world.carrier.gets("ACK", call="c")
    world.pbx.gets("403", call="c")
    world.pbx.sends("ACK", call="c")
    world.holds_nothing()
    assert {(r.rule, r.ended_by) for r in world.records} == {("V9", "gate")}


def test_many_are_dropped_some_at_a_time(ladder: Ladder) -> None:
    """A thousand BYEs at once would hold up everybody else's calls."""
    world = with_a_clock(ladder(outbound_calls=200, calls=200, cps=500))
    for n in range(100):
        world.talks(call=f"c{n}")
    suspend(world, drop=True)
    at_once = sum(text.method == "BYE" for _, text in world.pbx.inbox)
    assert 0 < at_once <= 40
    world.after(0.2)
    for n in range(100):
        for agent in (world.pbx, world.carrier):
            agent.gets("BYE", call=f"c{n}")
            agent.sends("200 BYE", call=f"c{n}")
    world.holds_nothing()


def test_until(ladder: Ladder) -> None:
    """Its time is up by itself, and to the instant; a step of the wall clock moves it."""
    world = with_a_clock(ladder())
    suspend(world, until=UTC + 3600)
    assert "until 2027-01-15 09:00:00 UTC: unpaid" in is_refused(world, "a")
    world.after(1000)
    world.core.clock(world.core.utc_offset - 600, world.now)  # the clock was ten minutes fast
    world.after(3150)
    is_refused(world, "b")
    world.until(1000.0 + 3600 + 600)
    world.talks(call="c")
    world.hangs_up(call="c")
    world.after(1)
    assert world.alerts[-1].resolved
    assert world.suspended == ()


def test_a_clock_that_steps_forward(ladder: Ladder) -> None:
    world = with_a_clock(ladder())
    suspend(world, until=UTC + 3600)
    world.core.clock(world.core.utc_offset + 7200, world.now)
    world.talks(call="a")
    world.hangs_up(call="a")
    world.after(1)
    assert world.suspended == ()
    assert world.gauge("suspended") == 0.0


def test_over_a_restart(ladder: Ladder) -> None:
    world = with_a_clock(ladder())
    suspend(world, until=UTC + 3600)
    suspend(world, until=UTC + 7200, reason="fraud")  # said anew: since when stays
    assert [(row.key, row.reason, row.since) for row in world.suspended] == [("acme", "fraud", UTC)]
    world.restarts()
    assert "fraud" in is_refused(world, "a")
    world.restarts()
    world.core.clock(UTC + 7200 - world.now, world.now)
    world.core.suspensions.restore(world.suspended, world.now)
    world.after(2)
    world.talks(call="b")
    world.hangs_up(call="b")


def test_emergency_is_free(ladder: Ladder) -> None:
    """An emergency number is judged before all else, and the authorities call back."""
    world = with_a_clock(ladder(psap_callback=True))
    suspend(world)
    world.pbx.sends("INVITE", call="a", to="110")
    world.pbx.gets("503", call="a")
    world.pbx.sends("ACK", call="a")
    assert world.records[-1].rule == "K-X1+EMG"
    world.talks(world.carrier, call="b", headers=["Priority: psap-callback"])
    suspend(world, drop=True)
    world.hangs_up(world.carrier, call="b")


def test_while_the_store_thinks(ladder: Ladder) -> None:
    """A call that waits for its verdict is refused at once, and what it is granted is given back."""
    world = with_a_clock(ladder())
    world.pbx.sends("INVITE", call="a")
    world.pbx.gets("100", call="a")
    if world.store.kind.same_turn:
        world.carrier.gets("INVITE", call="a")
        world.carrier.sends("486 INVITE", call="a")
        world.carrier.gets("ACK", call="a")
        world.pbx.gets("486", call="a")
    else:
        suspend(world)
        world.pbx.gets("403", call="a")
    world.pbx.sends("ACK", call="a")


def test_messages(world: World) -> None:
    """A MESSAGE is new too; OPTIONS tell a PBX whether its trunk is there, and it is."""
    with_a_clock(world)
    suspend(world)
    world.pbx.sends("MESSAGE", call="a")
    world.pbx.gets("403", call="a")
    world.pbx.sends("OPTIONS", call="b")
    world.carrier.gets("OPTIONS", call="b")
    world.carrier.sends("200", call="b")
    world.pbx.gets("200", call="b")


@pytest.mark.parametrize("key", ["nobody", "acme"])
def test_resuming_what_is_not_suspended(world: World, key: str) -> None:
    assert world.core.suspensions.resume(key, "bob") is None
