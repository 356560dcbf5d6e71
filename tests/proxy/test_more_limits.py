"""Limits said as data (`limits: more:`): windows, sets and different numbers, per key, trunk, DID, caller and class;
the lines of a key (V4); the limits of a trunk, over all its keys."""

from __future__ import annotations

import pytest
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import DID, World
from tests.proxy.test_limits import ends, is_refused, passes, says

from callgate.policy.more import More
from callgate.policy.profile import Limits

MOBILE, FIXED = "09012345678", "0312345678"
DAY = 86_400.0


def out(world: World, call: str, to: str = FIXED, caller: str = "1001") -> None:
    """A call out that passes, and ends."""
    places(world, call, to, caller)
    world.carrier.gets("INVITE", call=call)
    ends(world, call)


def places(world: World, call: str, to: str = FIXED, caller: str = "1001") -> None:
    change = {"from": f"<sip:{caller}@192.0.2.10>;tag={call}"}
    world.pbx.sends("INVITE", call=call, to=to, change=change)
    world.pbx.gets("100", call=call)


def refused(world: World, call: str, verdict: str, to: str = FIXED, caller: str = "1001") -> str:
    places(world, call, to, caller)
    answer = world.pbx.gets("503", call=call)
    world.pbx.sends("ACK", call=call)
    world.carrier.gets_nothing()
    assert answer.get("x-callgate-verdict") == verdict
    return answer.get("warning")


def test_a_window_of_a_minute(ladder: Ladder) -> None:
    """Any 60 s, rolling; a refused call costs nothing, and the Warning says what is counted."""
    world = ladder(more=(More("X1", calls=3, window_seconds=60.0),))
    for n in range(3):
        out(world, f"c{n}")
        world.after(10)
    warning = refused(world, "over", "rule=X1;value=4;limit=3")
    assert 'X1 outbound calls in any 60 s 4/3"' in warning
    world.until(world.started + 60.0)
    refused(world, "still", "rule=X1;value=4;limit=3")
    world.until(world.started + 60.3)
    out(world, "free")
    refused(world, "full", "rule=X1;value=4;limit=3")
    assert {r.rule for r in world.records if r.outcome == "refused"} == {"X1"}


@pytest.mark.parametrize("per", ["key", "did", "caller"])
def test_a_window_of_calls_in(ladder: Ladder, per: str) -> None:
    """The carrier has counted them when they come: what they took comes back after the window, not at their end."""
    world = ladder(more=(More("X1", per=per, direction="inbound", calls=2, window_seconds=60.0),))  # type: ignore[arg-type]
    for n in range(2):
        world.talks(world.carrier, call=f"c{n}")
        world.hangs_up(world.carrier, call=f"c{n}")
        world.after(10)
    world.carrier.sends("INVITE", call="over")
    world.carrier.gets("100", call="over")
    world.carrier.gets("486", call="over")
    world.carrier.sends("ACK", call="over")
    world.until(world.started + 60.3)
    world.talks(world.carrier, call="free")
    world.hangs_up(world.carrier, call="free")


def test_different_callers_in_an_hour(ladder: Ladder) -> None:
    world = ladder(more=(More("X1", direction="inbound", numbers=1, window_seconds=3600.0),))
    for n in range(2):
        world.talks(world.carrier, call=f"c{n}")
        world.hangs_up(world.carrier, call=f"c{n}")
    world.carrier.sends("INVITE", call="other", change={"from": "<sip:0901@198.51.100.1>;tag=o"})
    world.carrier.gets("100", call="other")
    world.carrier.gets("486", call="other")
    world.carrier.sends("ACK", call="other")


def test_each_caller_by_itself(ladder: Ladder) -> None:
    world = ladder(more=(More("X1", per="caller", calls=1, window_seconds=60.0),))
    out(world, "a", caller="1001")
    out(world, "b", caller="1002")
    refused(world, "c", "rule=X1;value=2;limit=1", caller="1001")
    world.after(61)
    out(world, "d", caller="1001")


def test_nothing_is_kept_of_callers_that_are_gone(ladder: Ladder) -> None:
    """Whatever a PBX writes as its caller: the store forgets it when its window is over."""
    world = ladder(cps=None, more=(More("X1", per="caller", calls=1, window_seconds=5.0),))
    for n in range(50):
        out(world, f"c{n}", caller=f"someone{n}" * (1 if n % 2 else 50))
    assert sum("/more/" in name for name in world.store.inner._windows) == 50
    assert all(len(name) < 200 for name in world.store.inner._windows)
    world.after(6)
    out(world, "last")
    assert sum("/more/" in name for name in world.store.inner._windows) == 1


def test_a_class_of_numbers(ladder: Ladder) -> None:
    """Two calls to mobiles at once; fixed lines are not concerned."""
    world = ladder(more=(More("X2", per="class", of=("domestic_mobile",), at_once=2),))
    for n in range(2):
        places(world, f"m{n}", MOBILE)
        world.carrier.gets("INVITE", call=f"m{n}")
    refused(world, "m2", "rule=X2;value=3;limit=2", MOBILE)
    out(world, "fixed", FIXED)
    ends(world, "m0")
    out(world, "m3", MOBILE)
    ends(world, "m1")


def test_each_did_by_itself(ladder: Ladder) -> None:
    """The number that was called: 486 to the trunk, without a reason."""
    world = ladder(more=(More("X3", per="did", direction="inbound", at_once=1),))
    passes(world, "a", world.carrier)
    answer = is_refused(world, "b", "486", world.carrier)
    assert not answer.has("x-callgate-verdict")
    passes(world, "out")
    ends(world, "out")
    ends(world, "a", world.carrier)
    passes(world, "c", world.carrier)
    ends(world, "c", world.carrier)
    assert [r.rule for r in world.records if r.outcome == "refused"] == ["X3"]
    assert DID


def test_different_numbers(ladder: Ladder) -> None:
    """Two different ones in a minute; one of them again is none."""
    world = ladder(more=(More("X4", numbers=2, window_seconds=60.0),))
    out(world, "a", "0312345671")
    out(world, "b", "0312345672")
    refused(world, "c", "rule=X4;value=3;limit=2", "0312345673")
    out(world, "d", "0312345671")
    world.after(61)
    out(world, "e", "0312345673")


def test_both_directions(ladder: Ladder) -> None:
    world = ladder(more=(More("X5", direction="both", at_once=2),))
    passes(world, "out")
    passes(world, "in", world.carrier)
    is_refused(world, "out2", "503")
    is_refused(world, "in2", "486", world.carrier)
    ends(world, "in", world.carrier)
    passes(world, "out3")
    ends(world, "out")
    ends(world, "out3")


@pytest.mark.parametrize("step", [0.0, 3600.0, -3600.0])
def test_a_calendar_day_begins_at_midnight(ladder: Ladder, step: float) -> None:
    """JST; the wall clock may step by an hour in between: the day is what the clock says, and never unlimited."""
    world = ladder(more=(More("X6", calls=1, calendar="day"),))
    midnight = 1_800_000_000.0 // DAY * DAY - 9 * 3600
    world.core.clock(midnight - 7200.0 - world.now, world.now)  # two hours before midnight in Japan
    out(world, "a")
    world.core.clock(world.core.utc_offset + step, world.now)
    refused(world, "b", "rule=X6;value=2;limit=1")
    world.after(7200.0 - step - 10.0)
    refused(world, "c", "rule=X6;value=2;limit=1")
    world.after(20.0)
    out(world, "d")
    refused(world, "e", "rule=X6;value=2;limit=1")


def test_an_answered_challenge_counts_once(ladder: Ladder) -> None:
    """interface.md: it claims its lines anew; the call itself was counted."""
    world = ladder(
        more=(More("X1", calls=1, window_seconds=60.0), More("X2", per="caller", at_once=1)), gateways=1
    )
    first = world.pbx.sends("INVITE", call="a")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("407")
    world.carrier.gets("ACK")
    world.pbx.gets("407")
    world.pbx.sends("ACK")
    again = {"call-id": first.call_id, "cseq": "2 INVITE", "from": first.get("from")}
    world.pbx.sends("INVITE", change=again)
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    ends(world, first.call_id)


def test_a_further_limit_never_makes_a_call_wait(ladder: Ladder) -> None:
    """What waits is the rate; in the queue too such a limit refuses at once."""
    world = ladder(cps=1, queue_seconds=3.5, more=(More("X2", of=("domestic_mobile",), at_once=1),))
    places(world, "a", MOBILE)
    world.carrier.gets("INVITE", call="a")
    refused(world, "b", "rule=X2;value=2;limit=1", MOBILE)
    places(world, "c", FIXED)
    refused(world, "d", "rule=X2;value=2;limit=1", MOBILE)
    ends(world, "a")
    world.after(1.2)
    world.carrier.gets("INVITE", call="c")
    ends(world, "c")


# -- lines -------------------------------------------------------------------------------------------------------------


def test_v4_an_inbound_leg_holds_a_line(ladder: Ladder) -> None:
    """An ordinary outbound call holds none."""
    world = ladder(lines=2, inbound_calls=10)
    for n in range(2):
        passes(world, f"in{n}", world.carrier)
    is_refused(world, "over", "486", world.carrier)
    assert world.used("lines") == 2
    passes(world, "out")
    ends(world, "out")
    for n in range(2):
        ends(world, f"in{n}", world.carrier)
    assert [(r.rule, r.value, r.limit) for r in world.records if r.outcome == "refused"] == [("V4", 3, 2)]


# -- a trunk's own limits ----------------------------------------------------------------------------------------------


def test_a_trunk_s_own_limits(ladder: Ladder) -> None:
    world = ladder(trunk_limits=Limits(outbound_calls=1, calls=2))
    passes(world, "a")
    says(
        is_refused(world, "b", "503"),
        "C2 outbound calls 2/1, over all keys of the trunk",
        "rule=C2;value=2;limit=1",
    )
    passes(world, "in", world.carrier)
    is_refused(world, "in2", "486", world.carrier)
    ends(world, "in", world.carrier)
    ends(world, "a")
