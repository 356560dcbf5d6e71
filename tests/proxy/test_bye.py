"""The end of a call (RFC 3261 §15; proxy rules §11): a BYE of the PBX gives the line back at the carrier's final
answer, any but 401 and 407; one of the carrier at its receipt; each line once."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.ladder import World


def up(world: World, caller: str) -> dict[str, int]:
    """A call; what it holds."""
    world.talks(world.pbx if caller == "pbx" else world.carrier)
    return {"outbound": 1} if caller == "pbx" else {"inbound": 1}


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("code", ["200", "202", "400", "403", "404", "481", "486", "500", "503", "603"])
def test_the_pbx_hangs_up(world: World, caller: str, code: str) -> None:
    """§11: the carrier counts the line until it has answered; whatever it answers, that is the end."""
    held = up(world, caller)
    world.pbx.sends("BYE")
    world.carrier.gets("BYE")
    world.after(1.6)
    world.carrier.gets("BYE", times=2)
    world.holds(**held)
    world.carrier.sends(f"{code} BYE")
    world.pbx.gets(f"{'500' if code == '503' else code} BYE")  # §16.7 step 6
    world.holds_nothing()
    assert len(world.records) == 1


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_the_carrier_answers_408_to_the_bye(world: World, caller: str) -> None:
    """§11: that frees too. RFC 4320 §4.2: the 408 itself stays here."""
    up(world, caller)
    world.pbx.sends("BYE")
    world.carrier.gets("BYE")
    world.carrier.sends("408 BYE")
    world.holds_nothing()
    world.after(4)
    world.pbx.gets("100 BYE")


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("challenge", ["401", "407"])
def test_the_carrier_challenges_the_bye(world: World, caller: str, challenge: str) -> None:
    """§11: asked again with credentials it will be answered: until then the line is held."""
    held = up(world, caller)
    world.pbx.sends("BYE")
    world.carrier.gets("BYE")
    world.carrier.sends(f"{challenge} BYE")
    world.pbx.gets(f"{challenge} BYE")
    world.after(300)
    world.holds(**held)
    world.pbx.sends("BYE", headers=['Proxy-Authorization: Digest username="u", response="x"'])
    assert world.carrier.gets("BYE").has("proxy-authorization")
    world.holds(**held)
    world.carrier.sends("200 BYE")
    world.pbx.gets("200 BYE")
    world.holds_nothing()


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_the_carrier_never_answers_the_bye(world: World, caller: str) -> None:
    """§11, Timer F: after 64*T1 it is taken for gone. RFC 4320: the PBX gets a late 100 and no 408."""
    held = up(world, caller)
    world.pbx.sends("BYE")
    world.carrier.gets("BYE")
    world.after(31.9)
    world.holds(**held)
    world.after(0.2)
    world.holds_nothing()
    world.carrier.gets("BYE", times=10)
    world.pbx.gets("100 BYE")
    world.after(60)
    world.pbx.gets_nothing()


def test_the_bye_cannot_be_delivered(world: World) -> None:
    """§16.9: ICMP: nobody is there any more: 503 to the PBX, and free."""
    up(world, "pbx")
    world.pbx.sends("BYE")
    world.unreachable(world.carrier.gets("BYE"))
    world.pbx.gets("503 BYE")
    world.holds_nothing()


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("answer", ["200", "401", "481", "500", ""])
def test_the_carrier_hangs_up(world: World, caller: str, answer: str) -> None:
    """§11: its own BYE frees at its receipt: it counts that line no more, whatever the PBX says."""
    up(world, caller)
    world.carrier.sends("BYE")
    world.holds_nothing()
    world.pbx.gets("BYE")
    if answer:
        world.pbx.sends(f"{answer} BYE")
        world.carrier.gets(f"{answer} BYE")
        return
    world.after(100)
    world.pbx.gets("BYE", times=10)
    world.carrier.gets("100 BYE")


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("first", ["pbx", "carrier"])
def test_byes_crossing(world: World, caller: str, first: str) -> None:
    """Pitfall 5: both hang up at once: one line goes, once; both BYEs are answered end to end."""
    up(world, caller)
    a, b = (world.pbx, world.carrier) if first == "pbx" else (world.carrier, world.pbx)
    a.sends("BYE")
    b.sends("BYE")
    world.holds_nothing()
    a.gets("BYE")
    b.gets("BYE")
    for one, other in ((a, b), (b, a)):
        other.sends("200 BYE")
        one.gets("200 BYE")
    world.holds_nothing()
    assert len(world.records) == 1


@pytest.mark.parametrize("who", ["pbx", "carrier"])
def test_a_second_bye(world: World, who: str) -> None:
    """§11: passes on (the other side answers 481), frees nothing a second time."""
    world.talks(call="a")
    world.talks(call="b")
    side = world.pbx if who == "pbx" else world.carrier
    world.hangs_up(side, call="a")
    world.holds(outbound=1)
    side.sends("BYE", call="a")
    other: Agent = world.carrier if who == "pbx" else world.pbx
    other.gets("BYE", call="a")
    other.sends("481 BYE", call="a")
    side.gets("481 BYE", call="a")
    world.holds(outbound=1)
    world.hangs_up(call="b")
    assert len(world.records) == 2


def test_a_repeated_bye_frees_once(world: World) -> None:
    """§17.2.2: the copies are absorbed."""
    up(world, "pbx")
    world.carrier.sends("BYE")
    world.carrier.repeats("BYE", number=3)
    world.pbx.gets("BYE")
    world.pbx.sends("200 BYE")
    world.carrier.gets("200 BYE")
    world.carrier.repeats("BYE")
    world.carrier.gets("200 BYE")


def test_the_pbx_hangs_up_before_the_ack(world: World) -> None:
    """§15: it may; the late ACK passes all the same."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("BYE")
    world.carrier.gets("BYE")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.carrier.sends("200 BYE")
    world.pbx.gets("200 BYE")
    world.holds_nothing()


def test_a_bye_in_the_early_dialog(world: World) -> None:
    """§15.1.1: the caller may end an early dialog with BYE. The line is held until the INVITE has its final answer,
    and that answer goes up."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("180")
    world.pbx.gets("180")
    world.pbx.sends("BYE")
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE")
    world.pbx.gets("200 BYE")
    world.holds(outbound=1)
    world.carrier.sends("487 INVITE")
    world.carrier.gets("ACK")
    world.pbx.gets("487 INVITE")
    world.holds_nothing()
    world.pbx.sends("ACK")


def test_a_bye_in_the_early_dialog_crossing_with_the_answer(world: World) -> None:
    """§15: the 200 was on its way: the call exists, is held, and ends with the next BYE."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("180")
    world.pbx.gets("180")
    world.pbx.sends("BYE")
    world.carrier.gets("BYE")
    world.carrier.sends("481 BYE")
    world.pbx.gets("481 BYE")
    world.carrier.sends("200 INVITE")
    world.pbx.gets("200 INVITE")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.holds(outbound=1)
    world.hangs_up()
    world.holds_nothing()


@pytest.mark.parametrize("code", ["486", "487"])
def test_a_bye_of_the_callee_before_it_answered(world: World, code: str) -> None:
    """§15: a callee must not do that. It frees nothing: its INVITE is still open."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("180")
    world.pbx.gets("180")
    world.carrier.sends("BYE")
    world.pbx.gets("BYE")
    world.pbx.sends("200 BYE")
    world.carrier.gets("200 BYE")
    world.holds(outbound=1)
    world.carrier.sends(f"{code} INVITE")
    world.carrier.gets("ACK")
    world.pbx.gets(f"{code} INVITE")
    world.pbx.sends("ACK")
    world.holds_nothing()


def test_two_calls_end_apart(world: World) -> None:
    """A BYE ends its own call and no other."""
    world.talks(call="a")
    world.talks(world.carrier, call="b")
    world.holds(outbound=1, inbound=1)
    world.hangs_up(world.pbx, call="b")
    world.holds(outbound=1)
    world.hangs_up(world.carrier, call="a")
    world.holds_nothing()
