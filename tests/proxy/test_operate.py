"""What an operator does to calls: hang up, free their lines, ask whether they are still up."""

from __future__ import annotations

from tests.proxy.agent import Leg
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World

from callgate.proxy.calls.call import Call


def the_call(world: World) -> Call:
    (call,) = world.core.live()
    assert world.core.find_calls(call.call_id.decode()) == [call]
    assert world.core.find_calls(f"{call.leg:016x}") == [call]
    assert world.core.find_calls("nobody") == []
    return call


def test_hanging_up(world: World) -> None:
    world.talks()
    call = the_call(world)
    assert world.core.end_early(call, "hung up by alice", world.now)
    assert not world.core.end_early(call, "hung up by bob", world.now), "once"
    world.carries_out()
    for side in (world.pbx, world.carrier):
        side.gets("BYE")
        side.sends("200 BYE")
    record = world.record()
    assert (record.ended_by, record.reason, record.rule) == ("gate", "hung up by alice", "")
    assert not list(world.core.live())


def test_a_call_that_rings(world: World) -> None:
    """Its caller gets 480, whoever rings a CANCEL."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("180")
    world.pbx.gets("180")
    assert world.core.end_early(the_call(world), "hung up by alice", world.now)
    world.carries_out()
    world.pbx.gets("480")
    world.pbx.sends("ACK")
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 CANCEL")
    world.carrier.sends("487 INVITE")
    world.carrier.gets("ACK")
    assert world.record().reason == "hung up by alice"


def test_freeing_lines(ladder: Ladder) -> None:
    """The call goes on, and another takes its place; its end frees nothing twice."""
    world = ladder(outbound_calls=1)
    world.talks(call="a")
    world.core.free_lines(the_call(world), "released by alice", world.now)
    world.carries_out()
    world.talks(call="b")
    world.hangs_up(call="a")
    world.holds(outbound=1)
    world.hangs_up(call="b")


def test_reconciling(ladder: Ladder) -> None:
    """One side knows the call no more: it is freed at once, and the other side hears it. One is silent: it is asked
    again. One lives."""
    world = ladder()
    for call in "abc":
        world.talks(call=call)
    sweep, tally = world.core.reconcile(world.now)
    world.carries_out()
    assert (sweep.done, tally.asked, tally.waits) == (3, 6, 6)
    for call, code in (("a", "481"), ("b", "200"), ("c", "200")):
        world.carrier.gets("OPTIONS", call=call)
        world.carrier.sends(f"{code} OPTIONS", call=call)
    for call in "abc":
        world.pbx.gets("OPTIONS", call=call)
    world.pbx.gets("BYE", call="a")
    world.pbx.sends("481 OPTIONS", call="a")
    world.pbx.sends("200 BYE", call="a")
    world.pbx.sends("200 OPTIONS", call="b")
    assert (tally.lives, tally.ended, tally.waits) == (3, 1, 1)
    assert [reason for _, reason in tally.gone] == ["the trunk knows the call no more (481 to a probe)"]
    world.holds(outbound=2)
    world.after(10.1)
    assert (tally.silent, tally.waits) == (1, 0)
    world.pbx.inbox.clear()
    world.hangs_up(call="b")
    world.hangs_up(call="c")
    world.after(40)
    world.pbx.inbox.clear()


def twins(world: World) -> Leg:
    """A call that is up and one that waits for its turn, which have the same Call-ID. The PBX's side of the first."""
    world.talks(call="a")
    name = world.labels["a"]
    leg = world.pbx.legs[name]
    world.pbx.sends("INVITE", call="b", change={"call-id": name})
    world.pbx.gets("100")
    return leg


def test_calls_of_the_same_call_id(ladder: Ladder) -> None:
    """All of them are seen and released; their records' numbers tell them apart."""
    world = ladder(cps=1, queue_seconds=30)
    up = twins(world)
    name = world.labels["a"]
    found = world.core.find_calls(name)
    assert [bool(call.up_at) for call in found] == [False, True]
    assert {call.leg for call in world.core.live()} == {call.leg for call in found}
    for call in found:
        assert world.core.find_calls(f"{call.record.id:016x}") == [call]
        assert world.core.end_early(call, "hung up by alice", world.now)
    world.carries_out()
    world.pbx.gets("480")
    world.pbx.sends("ACK")
    world.pbx.legs[name] = up
    world.pbx.gets("BYE")
    world.pbx.sends("200 BYE")
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE")
    assert world.core.find_calls(name) == []


def test_the_later_one_of_the_same_call_id_ends_first(ladder: Ladder) -> None:
    """The other is found still, at once and when the ended one is forgotten."""
    world = ladder(cps=1, queue_seconds=30)
    up = twins(world)
    name = world.labels["a"]
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.pbx.gets("487")
    world.pbx.sends("ACK")
    for _ in range(2):
        (call,) = world.core.find_calls(name)
        assert call.up_at
        world.after(60)
    world.pbx.legs[name] = up
    world.hangs_up(call="a")
    world.after(60)
    assert not world.core.by_call_id
