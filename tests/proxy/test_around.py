"""Answers without our Record-Route (RFC 3261 §12.1.1): ACK, re-INVITE and BYE may go around the gate from then on. The
call is up and counted; it ends by what the gate can still see."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World

from callgate.proxy.calls import vitals
from callgate.proxy.calls.around import REASON
from callgate.proxy.calls.dialog import Stage
from callgate.proxy.calls.hangup import AHEAD
from callgate.proxy.directory import Probing

NONE = {"record-route": None}
PROBING = Probing(interval=300.0)


@pytest.fixture(autouse=True)
def latest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides are asked when the interval is over."""
    monkeypatch.setattr(vitals, "uniform", lambda first, last: last)


def ends(world: World, caller: str) -> tuple[Agent, Agent, dict[str, int]]:
    if caller == "pbx":
        return world.pbx, world.carrier, {"outbound": 1}
    return world.carrier, world.pbx, {"inbound": 1}


def answered(world: World, caller: str = "pbx", *headers: str) -> tuple[Agent, Agent, dict[str, int]]:
    """The callee keeps our Record-Route to itself; the caller's ACK goes straight to it."""
    a, b, up = ends(world, caller)
    a.sends("INVITE")
    a.gets("100")
    b.gets("INVITE")
    b.sends("200", change=NONE, headers=headers)
    a.gets("200")
    return a, b, up


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_a_living_call_is_not_freed(ladder: Ladder, caller: str) -> None:
    """No ACK has come, and none will: that says nothing."""
    world = ladder()
    a, b, up = answered(world, caller)
    world.after(200)
    world.holds(**up)
    a.gets_nothing()
    b.gets_nothing()
    a.sends("BYE")  # this one comes after all: some send everything to their outbound proxy
    b.gets("BYE")
    b.sends("200 BYE")
    a.gets("200 BYE")
    world.holds_nothing()
    record = world.record()
    assert (record.outcome, record.ended_by, record.reason) == ("answered", "caller", REASON)


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_who_does_it_is_told_of_once(ladder: Ladder, caller: str) -> None:
    """Until it answers as it should."""
    world = ladder()
    for _ in range(3):
        a, b, _ = answered(world, caller)
        a.sends("BYE")
        b.gets("BYE")
        b.sends("200 BYE")
        a.gets("200 BYE")
        world.after(60)
    (alert,) = world.alerts
    outbound = caller == "pbx"
    assert (alert.rule, alert.severity, alert.resolved) == ("record-route", "warning", False)
    assert (alert.key, alert.trunk) == (("", "carrier") if outbound else ("acme", ""))
    assert "Record-Route" in alert.text
    assert (
        world.meters.values[world.meters.series("alerts_active", "record-route", alert.key, "warning")] == 1
    )
    world.talks(world.pbx if outbound else world.carrier)
    world.hangs_up()
    assert [alert.resolved for alert in world.alerts] == [False, True]
    assert world.records[-1].reason == ""


def test_each_gateway_is_told_of(ladder: Ladder) -> None:
    world = ladder(gateways=2)
    one, two = world.gateways
    for callee in (one, two):
        world.pbx.sends("INVITE")
        world.pbx.gets("100")
        one.gets("INVITE")
        if callee is two:
            one.sends("503")
            one.gets("ACK")
            two.gets("INVITE")
        callee.sends("200", change=NONE)
        world.pbx.gets("200")
        callee.sends("BYE", change={"route": None})
        world.pbx.gets("BYE")
        world.pbx.sends("200 BYE")
        callee.gets("200 BYE")
    told = [alert.details["gateway"] for alert in world.alerts if alert.rule == "record-route"]
    assert len(set(told)) == 2


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("dead", ["caller", "callee"])
def test_a_probe_finds_that_it_is_over(ladder: Ladder, caller: str, dead: str) -> None:
    """Both have hung up past the gate. The BYE to the other one, in case it lives, has a CSeq above all that it may
    have seen."""
    world = ladder(probing=PROBING)
    a, b, up = answered(world, caller)
    world.after(299)
    world.holds(**up)
    world.after(1.1)
    a.gets("OPTIONS")
    b.gets("OPTIONS")
    who, other = (a, b) if dead == "caller" else (b, a)
    who.sends("481 OPTIONS")
    bye = other.gets("BYE")
    assert bye.cseq >= AHEAD
    other.sends("481 BYE")
    world.holds_nothing()
    assert "481 to a probe" in world.record().reason
    other.sends("481 OPTIONS")


def test_a_probe_finds_that_it_lives(ladder: Ladder) -> None:
    """Whatever it answers, 500 to the old CSeq too."""
    world = ladder(probing=PROBING)
    a, b, up = answered(world)
    for _ in range(5):
        world.after(300.1)
        for agent in (a, b):
            agent.gets("OPTIONS")
            agent.sends("500 OPTIONS")
        world.holds(**up)
    b.sends("BYE", change={"route": None})
    a.gets("BYE")
    a.sends("200 BYE")
    b.gets("200 BYE")
    world.holds_nothing()


def test_a_session_timer_whose_refreshes_are_not_seen(ladder: Ladder) -> None:
    """They go around the gate as well: its end proves nothing, so the sides are asked."""
    world = ladder(probing=PROBING)
    a, b, up = answered(world, "pbx", "Session-Expires: 90;refresher=uac")
    world.after(299)
    world.holds(**up)
    world.after(1.1)
    for agent in (a, b):
        agent.gets("OPTIONS")
        agent.sends("200 OPTIONS")
    world.holds(**up)
    a.sends("BYE")
    b.gets("BYE")
    b.sends("200 BYE")
    a.gets("200 BYE")


def test_the_longest_call_ends_it(ladder: Ladder) -> None:
    """C1: a BYE to both sides, above whatever has passed between them."""
    world = ladder(max_call_seconds=100.0)
    a, b, _ = answered(world)
    world.after(100.1)
    for agent in (a, b):
        assert agent.gets("BYE").cseq >= AHEAD
        agent.sends("200 BYE")
    world.holds_nothing()
    assert world.record().rule == "C1"


def test_a_callee_of_a_fork(ladder: Ladder) -> None:
    """Each dialog for itself: the one whose answer has our Record-Route still needs its ACK."""
    world = ladder()
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("200", tag="one", change=NONE)
    world.pbx.gets("200")
    world.carrier.sends("200 INVITE", tag="two")
    world.pbx.gets("200")
    world.after(70)
    world.holds(outbound=1)
    sides = world.core.by_call_id[world.pbx.current.encode()].callees
    assert [side.stage for side in sides] == [Stage.UP, Stage.OVER]
    world.pbx.sends("BYE", tag="one")
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE")
    world.pbx.gets("200 BYE")
    world.holds_nothing()


def test_an_answer_whose_record_route_was_written_anew(ladder: Ladder) -> None:
    """Other blanks, other lines, other parameters behind ours: it is ours still."""
    world = ladder()
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    invite = world.carrier.gets("INVITE")
    uri = invite.all("record-route")[0].strip("<>")
    world.carrier.sends("200", change={"record-route": f'"gate" <{uri};x=1>;y=2'})
    world.pbx.gets("200")
    assert not world.alerts
    world.after(64.1)
    world.holds_nothing()
    assert world.record().reason == "the answer was never acknowledged"
