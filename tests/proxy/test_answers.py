"""From the 200 to the ACK (RFC 3261 §13.3.1.4, §16.7 step 5, §16.11; RFC 6026)."""

from __future__ import annotations

import pytest
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World


def answered(world: World, *, lost_ack: bool = False) -> None:
    """Up to the 200, and an ACK that is lost."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("200")
    world.pbx.gets("200")
    if lost_ack:
        world.pbx.sends("ACK", lost=True)


def test_every_copy_of_a_200_goes_up(world: World) -> None:
    """§16.7 step 5: the callee repeats its 2xx, end to end; each ACK passes as well, with a branch of its own."""
    answered(world, lost_ack=True)
    branches = set()
    for _ in range(4):
        world.after(2)
        world.carrier.repeats("200")
        world.pbx.gets("200")
        world.pbx.repeats("ACK")
        branches.add(world.carrier.gets("ACK").branch)
    assert len(branches) == 4  # §16.11: without a transaction, so each is a new one
    world.holds(outbound=1)
    world.hangs_up()


def test_an_ack_with_a_body_passes_with_it(world: World) -> None:
    """Offer in the 200, answer in the ACK."""
    answered(world)
    ack = world.pbx.sends("ACK", lost=True).data
    body = b"v=0\r\no=- 2 2 IN IP4 192.0.2.1\r\n"
    world.pbx.transmits(ack.replace(b"Content-Length: 0", b"Content-Length: %d" % len(body)) + body)
    assert world.carrier.gets("ACK").body == body
    world.hangs_up()


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_no_ack_ever_comes(world: World, caller: str) -> None:
    """§13.3.1.4: the callee gave up after 32 s and its BYE was lost too: after 64 s nobody holds a line for it."""
    a, b = (world.pbx, world.carrier) if caller == "pbx" else (world.carrier, world.pbx)
    up = {"outbound": 1} if caller == "pbx" else {"inbound": 1}
    a.sends("INVITE")
    a.gets("100")
    b.gets("INVITE")
    b.sends("200")
    a.gets("200")
    world.after(63.9)
    world.holds(**up)
    world.after(0.2)
    world.holds_nothing()
    assert world.record().outcome == "answered"


@pytest.mark.parametrize("early", ["PRACK", "UPDATE", "INFO"])
def test_requests_before_the_answer_are_no_ack(world: World, early: str) -> None:
    """A PRACK or UPDATE of the early dialog says nothing about the ACK of the 200 that comes later."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("183", headers=["RSeq: 1", "Require: 100rel"])
    world.pbx.gets("183")
    world.pbx.sends(early)
    world.carrier.gets(early)
    world.carrier.sends(f"200 {early}")
    world.pbx.gets(f"200 {early}")
    world.carrier.sends("200 INVITE")
    world.pbx.gets("200 INVITE")
    world.after(64.1)
    world.holds_nothing()


def test_the_callee_gives_up_without_an_ack(world: World) -> None:
    """§13.3.1.4: the carrier's BYE after 32 s ends it at its receipt."""
    answered(world, lost_ack=True)
    world.after(32)
    world.carrier.sends("BYE")
    world.holds_nothing()
    world.pbx.gets("BYE")
    world.pbx.sends("200 BYE")
    world.carrier.gets("200 BYE")


def test_an_ack_after_63_seconds_keeps_the_call(world: World) -> None:
    answered(world)
    world.after(63)
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.after(1000)
    world.holds(outbound=1)
    world.hangs_up()


def test_a_repeated_invite_after_the_200_is_absorbed(world: World) -> None:
    """RFC 6026 §7.1: in Accepted the INVITE's copies go nowhere; the callee repeats its 2xx itself."""
    answered(world)
    world.pbx.repeats("INVITE", number=2)
    world.carrier.gets_nothing()
    world.pbx.gets_nothing()
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.holds(outbound=1)
    world.hangs_up()


def test_two_forks_answer(world: World) -> None:
    """§16.7 step 5, proxy rules §11: both 2xx go up; one slot; it is free when the last dialog has got its BYE."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("180", tag="one")
    world.pbx.gets("180")
    world.carrier.sends("180", tag="two")
    assert world.pbx.gets("180").to_tag == "two"
    for tag in ("one", "two"):
        world.carrier.sends("200 INVITE", tag=tag)
        assert world.pbx.gets("200").to_tag == tag
        world.pbx.sends("ACK", tag=tag)
        assert world.carrier.gets("ACK").to_tag == tag
    world.holds(outbound=1)
    world.pbx.sends("BYE", tag="one")
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE")
    world.pbx.gets("200 BYE")
    world.holds(outbound=1)
    world.carrier.sends("BYE", tag="two")
    world.pbx.gets("BYE")
    world.pbx.sends("200 BYE")
    world.carrier.gets("200 BYE")
    world.holds_nothing()


def test_a_fork_that_only_rang_holds_nothing(world: World) -> None:
    """Proxy rules §11: any number of early dialogs is one call; the answered one's BYE ends it."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    for tag in ("one", "two", "three"):
        world.carrier.sends("180", tag=tag)
        world.pbx.gets("180")
    world.carrier.sends("200 INVITE", tag="two")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.hangs_up()
    world.holds_nothing()


def test_early_dialogs_route_apart(world: World) -> None:
    """§12.1.2: each To tag is a dialog with its own target and state."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    for number, tag in enumerate(("one", "two")):
        world.carrier.contact = f"<sip:{tag}@198.51.100.1:{5080}>"
        world.carrier.sends("183", tag=tag, headers=[f"RSeq: {number}", "Require: 100rel"])
        world.pbx.gets("183")
        world.pbx.sends("PRACK", tag=tag, headers=[f"RAck: {number} 1 INVITE"])
        prack = world.carrier.gets("PRACK")
        assert prack.uri.startswith(f"sip:{tag}@")
        assert prack.to_tag == tag
        assert prack.get("rack") == f"{number} 1 INVITE"
        world.carrier.sends("200 PRACK")
        world.pbx.gets("200 PRACK")
    world.carrier.sends("486 INVITE", tag="one")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_a_late_2xx_after_the_refusal_went_up_is_not_lost_on_the_store(ladder: Ladder) -> None:
    """§17.2.1: in Completed a further final is discarded; nothing is held for it."""
    world = ladder()
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("486", tag="one")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.carrier.sends("200 INVITE", tag="two")
    world.pbx.gets_nothing()
    world.pbx.sends("ACK")
    world.holds_nothing()
