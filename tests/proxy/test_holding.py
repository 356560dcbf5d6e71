"""Rule K8: lines that are left on hold (RFC 3264 §8.4, RFC 2543)."""

from __future__ import annotations

import pytest
from tests.proxy.agent import SDP, Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World

HOLD = SDP + b"a=sendonly\r\n"
HELD = SDP + b"a=recvonly\r\n"
NOWHERE = SDP.replace(b"c=IN IP4 192.0.2.1", b"c=IN IP4 0.0.0.0")


@pytest.fixture
def on_hold(ladder: Ladder) -> World:
    return ladder(hold_alert_seconds=600.0)


def says(world: World, who: Agent, offer: bytes, answer: bytes = SDP, code: int = 200) -> None:
    """A re-INVITE, and what became of it."""
    other = world.carrier if who is world.pbx else world.pbx
    who.sends("re-INVITE", body=offer)
    who.gets("100")
    other.gets("re-INVITE")
    other.sends(f"{code} re-INVITE", body=answer if code < 300 else b"")
    if code >= 300:
        other.gets("ACK")
    who.gets(str(code))
    who.sends("ACK")
    if code < 300:
        other.gets("ACK")


def told(world: World) -> list[tuple[str, bool]]:
    return [(alert.rule, alert.resolved) for alert in world.alerts]


@pytest.mark.parametrize("offer", [HOLD, NOWHERE, SDP + b"a=inactive\r\n"])
@pytest.mark.parametrize("holder", ["pbx", "carrier"])
def test_ten_minutes_on_hold(on_hold: World, holder: str, offer: bytes) -> None:
    """Told once when the time is over, resolved when somebody comes back; the record has the seconds."""
    world = on_hold
    who = world.pbx if holder == "pbx" else world.carrier
    world.talks()
    says(world, who, offer, HELD)
    world.after(599)
    assert told(world) == []
    world.after(2)
    assert told(world) == [("K8", False)]
    world.after(99)
    says(world, who, SDP)
    assert told(world) == [("K8", False), ("K8", True)]
    world.hangs_up()
    assert world.record().hold_seconds == pytest.approx(700, abs=0.5)


def test_a_refused_hold_is_none(on_hold: World) -> None:
    world = on_hold
    world.talks()
    says(world, world.pbx, HOLD, code=488)
    world.after(700)
    assert told(world) == []
    world.hangs_up()
    assert world.record().hold_seconds == 0


def test_both_hold(on_hold: World) -> None:
    """It is on hold until the last of them comes back."""
    world = on_hold
    world.talks()
    says(world, world.pbx, HOLD, HELD)
    world.after(100)
    says(world, world.carrier, SDP + b"a=inactive\r\n", SDP + b"a=inactive\r\n")
    world.after(100)
    says(world, world.carrier, SDP, HOLD)
    world.after(100)
    says(world, world.pbx, SDP)
    world.after(100)
    world.hangs_up()
    assert world.record().hold_seconds == pytest.approx(300, abs=0.5)


def test_the_end_of_the_call_ends_the_hold(on_hold: World) -> None:
    world = on_hold
    world.talks()
    says(world, world.pbx, HOLD, HELD)
    world.after(700)
    world.hangs_up()
    assert told(world) == [("K8", False), ("K8", True)]


def test_two_calls_on_hold_are_one_alert(on_hold: World) -> None:
    world = on_hold
    for call in ("a", "b"):
        world.talks(call=call)
        says(world, world.pbx, HOLD, HELD)
    world.after(700)
    assert told(world) == [("K8", False)]
    world.hangs_up(call="a")
    assert told(world) == [("K8", False)]
    world.hangs_up(call="b")
    assert told(world) == [("K8", False), ("K8", True)]


def test_an_answer_in_the_ack(on_hold: World) -> None:
    """The offer stood in the 2xx (RFC 3261 §13.2.2.4): the ACK's answer counts like any other."""
    world = on_hold
    world.talks()
    world.pbx.sends("re-INVITE", body=b"")
    world.pbx.gets("100")
    world.carrier.gets("re-INVITE")
    world.carrier.sends("200 re-INVITE")
    world.pbx.gets("200")
    invite = world.pbx.sends("ACK", lost=True)
    data = invite.data.replace(
        b"Content-Length: 0", b"Content-Type: application/sdp\r\nContent-Length: %d" % len(HOLD)
    )
    world.pbx.transmits(data + HOLD)
    world.carrier.gets("ACK")
    world.after(601)
    assert told(world) == [("K8", False)]
    world.hangs_up()


def test_it_may_be_released(ladder: Ladder) -> None:
    """Where the key says so, both sides get a BYE."""
    world = ladder(hold_alert_seconds=600.0, hold_release_seconds=900.0)
    world.talks()
    says(world, world.pbx, HOLD, HELD)
    world.after(900.1)
    for side in (world.pbx, world.carrier):
        side.gets("BYE")
        side.sends("200 BYE")
    world.holds_nothing()
    record = world.record()
    assert (record.rule, record.ended_by) == ("K8", "gate")
    assert told(world) == [("K8", False), ("K8", True)]
