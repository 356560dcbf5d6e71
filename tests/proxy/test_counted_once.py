"""`calls_total` counts a call once, at its end: what is sent again with credentials is the same call (interface.md)."""

from __future__ import annotations

import pytest
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.test_neighbours import shared
from tests.proxy.test_suspension import suspend
from tests.proxy.text import Text

from callgate.proxy.telemetry.meters import OUTCOMES
from callgate.proxy.trunk.challenges import SECONDS


def counted(world: World) -> dict[str, float]:
    found = {name: world.gauge("calls_total", "outbound", name, "") for name in OUTCOMES}
    return {name: count for name, count in found.items() if count}


def challenged(world: World, again: Text | None = None, code: str = "407") -> Text:
    """An INVITE, or one with credentials, that the trunk challenges; the PBX is told."""
    invite = sends(world, again) if again is not None else world.pbx.sends("INVITE", call="a")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends(code)
    world.carrier.gets("ACK")
    world.pbx.gets(code)
    world.pbx.sends("ACK")
    return invite


def sends(world: World, before: Text) -> Text:
    change = {
        "call-id": before.call_id,
        "cseq": f"{before.cseq + 1} INVITE",
        "from": before.get("from"),
    }
    return world.pbx.sends("INVITE", change=change)


@pytest.mark.parametrize("code", ["401", "407"])
def test_a_call_that_is_answered_after_a_challenge(world: World, code: str) -> None:
    invite = challenged(world, code=code)
    assert counted(world) == {}
    sends(world, invite)
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.hangs_up()
    world.after(2 * SECONDS)
    assert counted(world) == {"answered": 1}


def test_challenges_one_after_another(world: World) -> None:
    invite = challenged(world)
    for _ in range(3):
        invite = challenged(world, invite)
    assert counted(world) == {}
    world.after(SECONDS + 0.1)
    assert counted(world) == {"failed": 1}


def test_nobody_answers_the_challenge(world: World) -> None:
    challenged(world)
    world.after(SECONDS - 0.5)
    assert counted(world) == {}
    world.after(1.0)
    assert counted(world) == {"failed": 1}


def test_what_comes_too_late_is_another_call(world: World) -> None:
    invite = challenged(world)
    world.after(SECONDS + 1.0)
    again = challenged(world, invite)
    assert counted(world) == {"failed": 1}
    world.after(SECONDS + 1.0)
    assert counted(world) == {"failed": 2}
    assert again.cseq == 2


def test_what_does_not_answer_it_is_another_call(world: World) -> None:
    """The number is not the next one: a new call, and nobody can answer the challenge any more."""
    invite = challenged(world)
    change = {"call-id": invite.call_id, "cseq": "7 INVITE", "from": invite.get("from")}
    world.pbx.sends("INVITE", change=change)
    assert counted(world) == {"failed": 1}
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")
    world.after(2 * SECONDS)
    assert counted(world) == {"failed": 1, "busy": 1}


def test_a_re_send_that_is_refused_is_counted_as_refused(ladder: Ladder) -> None:
    """It claims its lines anew: another call has taken the last."""
    world = ladder(outbound_calls=1)
    invite = challenged(world)
    world.talks(call="b")
    sends(world, invite)
    world.pbx.gets("100")
    world.pbx.gets("503")
    world.pbx.sends("ACK")
    world.hangs_up(call="b")
    world.after(2 * SECONDS)
    assert counted(world) == {"answered": 1}
    assert world.gauge("calls_total", "outbound", "refused", "C2") == 1


def test_another_key_can_not_answer(ladder: Ladder) -> None:
    """Whatever it has copied of the call: it takes a token of its own contract."""
    world, (pbx, other) = shared(ladder, keys=2)
    pbx.sends("INVITE", call="a")
    pbx.gets("100")
    invite = world.carrier.gets("INVITE")
    world.carrier.sends("407")
    world.carrier.gets("ACK")
    pbx.gets("407")
    pbx.sends("ACK")
    change = {"call-id": invite.call_id, "cseq": "2 INVITE", "from": invite.get("from")}
    other.sends("INVITE", call="b", change=change)
    other.gets("100", call="b")
    world.carrier.gets("INVITE", call="b")
    call = next(world.core.live())
    assert call.key.id == "key1"
    assert not call.free
    world.carrier.sends("486", call="b")
    world.carrier.gets("ACK", call="b")
    other.gets("486", call="b")
    other.sends("ACK", call="b")
    world.after(2 * SECONDS)


def test_a_re_send_that_a_suspension_refuses(ladder: Ladder) -> None:
    """It has come in between: one call still, with one record."""
    world = ladder()
    invite = challenged(world)
    suspend(world)
    sends(world, invite)
    world.pbx.gets("403")
    world.pbx.sends("ACK")
    world.after(2 * SECONDS)
    assert counted(world) == {}
    assert world.gauge("calls_total", "outbound", "refused", "V9") == 1
    assert len({record.id for record in world.records}) == 1
