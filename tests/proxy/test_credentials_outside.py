"""Credentials of the gate for what is no call, for dialogs that it has no memory of, and for its own BYE; and the
numbers at their end."""

from __future__ import annotations

import pytest
from tests.proxy.challenge import ACCOUNT, STALE, carries_none, challenge, check, credentials
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.text import Text

from callgate.proxy.calls.cseq import JUMP

WINDOW = 1.1
LAST = 2**31 - 1


@pytest.fixture
def world(ladder: Ladder) -> World:
    return ladder(account=ACCOUNT)


def asks_again(world: World, what: str, nonce: str = "n1", *more: str) -> Text:
    """The request that came last is challenged: the one that answers."""
    world.carrier.sends(f"407 {what}", headers=[challenge(nonce), *more])
    if what.endswith("INVITE"):
        world.carrier.gets("ACK")
    again = world.carrier.gets(what)
    check(again, nonce)
    return again


def calls(world: World) -> None:
    """A call is up whose INVITE was challenged."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    asks_again(world, "INVITE", "n0")
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")


def ends(world: World, number: int) -> None:
    world.pbx.sends("BYE")
    assert world.carrier.gets("BYE").cseq == number
    world.carrier.sends("200 BYE")
    world.pbx.gets("200 BYE")


# -- outside dialogs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["MESSAGE", "SUBSCRIBE", "REFER", "OPTIONS", "PUBLISH", "FOO"])
def test_requests_outside_dialogs(world: World, method: str) -> None:
    world.pbx.sends(method, inside=False, body=b"hello")
    first = world.carrier.gets(method)
    again = asks_again(world, method)
    assert (again.cseq, again.uri, again.body) == (2, first.uri, b"hello")
    assert again.branch != first.branch
    world.carrier.sends(f"202 {method}")
    assert world.pbx.gets(f"202 {method}").cseq == 1
    assert world.store.asked == 0


def test_credentials_that_are_refused_outside(world: World) -> None:
    world.pbx.sends("MESSAGE")
    world.carrier.gets("MESSAGE")
    asks_again(world, "MESSAGE")
    world.carrier.sends("407 MESSAGE", headers=[challenge("n2")])
    got = world.pbx.gets("403 MESSAGE")
    assert got.cseq == 1
    assert "credentials" in got.get("warning")
    assert [a.rule for a in world.alerts] == ["trunk-credentials"]


def test_a_stale_nonce_outside(world: World) -> None:
    world.pbx.sends("MESSAGE")
    world.carrier.gets("MESSAGE")
    asks_again(world, "MESSAGE")
    world.carrier.sends("407 MESSAGE", headers=[challenge("n2", more=STALE)])
    again = world.carrier.gets("MESSAGE")
    assert again.cseq == 3
    check(again, "n2")
    world.carrier.sends("200 MESSAGE")
    assert world.pbx.gets("200 MESSAGE").cseq == 1


def test_a_challenge_to_the_carriers_request_is_the_carriers(world: World) -> None:
    """The PBX may challenge: that is between it and the carrier."""
    world.carrier.sends("MESSAGE")
    world.pbx.gets("MESSAGE")
    world.pbx.sends("407 MESSAGE", headers=[challenge()])
    assert world.carrier.gets("407 MESSAGE").cseq == 1
    world.carrier.sends("INVITE")
    world.carrier.gets("100")
    world.pbx.gets("INVITE")
    world.pbx.sends("401", headers=[challenge()])
    world.pbx.gets("ACK")
    world.carrier.gets("401")
    world.carrier.sends("ACK")


def test_an_unreachable_gateway_after_the_challenge(world: World) -> None:
    world.pbx.sends("MESSAGE")
    world.carrier.gets("MESSAGE")
    again = asks_again(world, "MESSAGE")
    world.unreachable(again)
    assert world.pbx.gets("503 MESSAGE").cseq == 1


def test_the_dialog_of_a_subscription(world: World) -> None:
    """RFC 6665: its refreshes go on from the number that the carrier has seen; its NOTIFYs are the carrier's own."""
    world.pbx.sends("SUBSCRIBE", headers=["Event: dialog"])
    world.carrier.gets("SUBSCRIBE")
    assert asks_again(world, "SUBSCRIBE").cseq == 2
    world.carrier.sends("200 SUBSCRIBE")
    assert world.pbx.gets("200 SUBSCRIBE").cseq == 1
    world.carrier.sends("NOTIFY")
    assert world.pbx.gets("NOTIFY").cseq == 1
    world.pbx.sends("200 NOTIFY")
    assert world.carrier.gets("200 NOTIFY").cseq == 1
    world.pbx.sends("SUBSCRIBE", inside=True)
    assert world.carrier.gets("SUBSCRIBE").cseq == 3
    assert asks_again(world, "SUBSCRIBE", "n2").cseq == 4
    world.carrier.sends("200 SUBSCRIBE")
    assert world.pbx.gets("200 SUBSCRIBE").cseq == 2
    world.restarts()
    world.pbx.sends("SUBSCRIBE", inside=True)
    assert world.carrier.gets("SUBSCRIBE").cseq == 3 + JUMP
    world.carrier.sends("200 SUBSCRIBE")
    assert world.pbx.gets("200 SUBSCRIBE").cseq == 3


# -- after a restart -----------------------------------------------------------------------------------------------


def test_an_ack_after_a_restart(world: World) -> None:
    """The token says by how much the INVITE's number was raised: the carrier knows the ACK by it."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    asks_again(world, "INVITE", "n0")
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.restarts()
    world.pbx.sends("ACK")
    assert world.carrier.gets("ACK").cseq == 2
    ends(world, 2 + 1 + JUMP)


def test_a_prack_and_an_ack_after_a_restart(world: World) -> None:
    """The PRACK's own number jumps; the INVITE that it names is the one that left before."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    asks_again(world, "INVITE", "n0")
    world.carrier.sends("183", headers=["Require: 100rel", "RSeq: 7"])
    world.pbx.gets("183")
    world.carrier.sends("200 INVITE")
    world.pbx.gets("200 INVITE")
    world.restarts()
    world.pbx.sends("PRACK", headers=["RAck: 7 1 INVITE"])
    prack = world.carrier.gets("PRACK")
    assert (prack.cseq, prack.get("rack")) == (2 + 1 + JUMP, "7 2 INVITE")
    world.carrier.sends("200 PRACK")
    world.pbx.gets("200 PRACK")
    world.pbx.sends("ACK")
    assert world.carrier.gets("ACK").cseq == 2
    ends(world, 3 + 1 + JUMP)


def test_a_call_goes_on_after_a_restart(world: World) -> None:
    """What was challenged before is forgotten: the numbers jump above all that may have been."""
    calls(world)
    world.pbx.sends("INFO")
    world.carrier.gets("INFO")
    assert asks_again(world, "INFO").cseq == 4
    world.carrier.sends("200 INFO")
    world.pbx.gets("200 INFO")
    world.restarts()
    world.after(WINDOW)
    world.pbx.sends("re-INVITE")
    world.pbx.gets("100")
    number = 3 + 1 + JUMP
    assert world.carrier.gets("re-INVITE").cseq == number
    again = asks_again(world, "re-INVITE", "n2")
    assert again.cseq == number + 1
    assert world.store.asked == 1  # of the new store: its copy with credentials takes no token
    world.carrier.sends("200 re-INVITE")
    assert world.pbx.gets("200").cseq == 3
    world.pbx.sends("ACK")
    ack = world.carrier.gets("ACK")
    assert ack.cseq == number + 1
    check(ack, "n2", method="INVITE", uri=credentials(ack)[0]["uri"])
    ends(world, number + 2)


def test_a_call_of_the_trunk_goes_on_after_a_restart(world: World) -> None:
    world.talks(world.carrier)
    world.restarts()
    world.pbx.sends("INFO")
    assert world.carrier.gets("INFO").cseq == 1 + JUMP
    world.carrier.sends("200 INFO")
    assert world.pbx.gets("200 INFO").cseq == 1
    world.carrier.sends("INFO")
    assert world.pbx.gets("INFO").cseq == 2
    world.pbx.sends("200 INFO")
    world.carrier.gets("200 INFO")
    ends(world, 2 + JUMP)


def test_many_challenges_before_a_restart(ladder: Ladder) -> None:
    """More gateways challenged than the token has room for: an ACK may be lost on the carrier, a BYE is not."""
    world = ladder(account=ACCOUNT, gateways=3)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    number = 1
    for n, gateway in enumerate(world.gateways):
        world.carrier = gateway
        gateway.gets("INVITE")
        for k in range(3):
            gateway.sends("407", headers=[challenge(realm=f"realm {k}")])
            gateway.gets("ACK")
            number += 1
            assert gateway.gets("INVITE").cseq == number
        if n < 2:
            gateway.sends("503")
            gateway.gets("ACK")
    assert number == 10
    gateway.sends("200")
    assert world.pbx.gets("200").cseq == 1
    world.restarts()
    world.pbx.sends("BYE")
    assert gateway.gets("BYE").cseq == 2 + 7 + JUMP
    gateway.sends("200 BYE")
    world.pbx.gets("200 BYE")


# -- the gate's own BYE --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_the_gates_own_bye_is_challenged(ladder: Ladder, caller: str) -> None:
    """C1: the lines come free when the carrier has answered it for good."""
    world = ladder(account=ACCOUNT, max_call_seconds=10.0)
    if caller == "pbx":
        calls(world)
    else:
        world.talks(world.carrier)
    held = {"outbound": 1} if caller == "pbx" else {"inbound": 1}
    world.after(10.1)
    world.pbx.gets("BYE")
    world.pbx.sends("200 BYE")
    bye = world.carrier.gets("BYE")
    carries_none(bye)
    assert bye.cseq == (3 if caller == "pbx" else 1)
    again = asks_again(world, "BYE")
    assert again.cseq == bye.cseq + 1
    assert again.branch != bye.branch
    assert (again.uri, again.get("from"), again.get("to")) == (bye.uri, bye.get("from"), bye.get("to"))
    world.holds(**held)
    world.carrier.sends("200 BYE")
    world.holds_nothing()
    assert world.record().rule == "C1"


def test_the_gates_own_bye_is_refused(ladder: Ladder) -> None:
    """Nothing more can be done: the call is over for the gate."""
    world = ladder(account=ACCOUNT, max_call_seconds=10.0)
    calls(world)
    world.after(10.1)
    world.pbx.gets("BYE")
    world.pbx.sends("200 BYE")
    world.carrier.gets("BYE")
    asks_again(world, "BYE")
    world.carrier.sends("407 BYE", headers=[challenge("n2")])
    world.holds_nothing()


def test_the_gates_own_bye_to_somebody_else_carries_none(ladder: Ladder) -> None:
    """Where the carrier's Contact leads elsewhere, a challenge from there is not answered."""
    world = ladder(account=ACCOUNT, max_call_seconds=10.0)
    elsewhere = world.stranger
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    asks_again(world, "INVITE", "n0")
    world.carrier.sends("200", change={"contact": f"<sip:x@{elsewhere.sent_by}>", "record-route": None})
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    elsewhere.legs = world.carrier.legs
    carries_none(elsewhere.gets("ACK"))
    world.after(10.1)
    world.pbx.gets("BYE")
    world.pbx.sends("200 BYE")
    carries_none(elsewhere.gets("BYE"))
    elsewhere.sends("407 BYE", headers=[challenge("bait")])
    elsewhere.gets_nothing()
    world.holds_nothing()


def test_the_byes_of_pbx_and_gate_cross(ladder: Ladder) -> None:
    """The PBX's has a number of its own."""
    world = ladder(account=ACCOUNT, max_call_seconds=10.0)
    calls(world)
    world.after(9.999)
    world.pbx.sends("BYE", lost=True)
    world.after(0.1)
    world.pbx.gets("BYE")
    world.pbx.sends("200 BYE")
    assert world.carrier.gets("BYE").cseq == 3
    world.pbx.repeats("BYE")
    assert world.carrier.gets("BYE").cseq == 4
    world.carrier.sends("200 BYE")
    world.carrier.sends("481 BYE")
    world.pbx.takes_refusals()


def test_a_callee_that_picks_up_too_late(world: World) -> None:
    """The gate acknowledges with the number of the INVITE that was answered, and hangs up; its BYE is challenged."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    again = asks_again(world, "INVITE", "n0")
    world.carrier.sends("180")
    world.pbx.gets("180")
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 CANCEL")
    world.after(32.1)
    world.pbx.gets("487 INVITE")
    world.pbx.sends("ACK")
    world.carrier.current = again.call_id
    world.carrier.sends("200 INVITE")
    assert world.carrier.gets("ACK").cseq == 2
    bye = world.carrier.gets("BYE")
    last = asks_again(world, "BYE")
    assert last.cseq == bye.cseq + 1
    world.holds(outbound=1)
    world.carrier.sends("200 BYE")
    world.holds_nothing()


def test_a_bye_that_is_refused_ends_the_call(world: World) -> None:
    """The PBX has hung up and will not ask again."""
    calls(world)
    world.pbx.sends("BYE")
    world.carrier.gets("BYE")
    asks_again(world, "BYE")
    world.holds(outbound=1)
    world.carrier.sends("407 BYE", headers=[challenge("n2")])
    assert world.pbx.gets("403 BYE").cseq == 2
    world.holds_nothing()


# -- the end of the numbers ----------------------------------------------------------------------------------------


def test_the_last_number_has_none_after_it(world: World) -> None:
    """§8.1.1.5: below 2**31, never wrapped: the challenge goes to the PBX."""
    world.pbx.sends("INVITE", change={"cseq": f"{LAST} INVITE"})
    world.pbx.gets("100")
    assert world.carrier.gets("INVITE").cseq == LAST
    world.carrier.sends("407", headers=[challenge()])
    world.carrier.gets("ACK")
    assert world.pbx.gets("407").cseq == LAST
    world.pbx.sends("ACK")


def test_numbers_that_are_used_up_inside_a_dialog(world: World) -> None:
    world.pbx.sends("INVITE", change={"cseq": f"{LAST - 2} INVITE"})
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    assert asks_again(world, "INVITE", "n0").cseq == LAST - 1
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    assert world.carrier.gets("ACK").cseq == LAST - 1
    world.pbx.sends("INFO")
    assert world.carrier.gets("INFO").cseq == LAST
    world.carrier.sends("407 INFO", headers=[challenge("n1")])
    assert world.pbx.gets("407 INFO").cseq == LAST - 1
    world.pbx.sends("UPDATE")
    assert "CSeq" in world.pbx.gets("500 UPDATE").get("warning")
    world.carrier.gets_nothing()
    world.hangs_up(world.carrier)


# -- forks ---------------------------------------------------------------------------------------------------------


def test_each_dialog_of_a_fork_rises(world: World) -> None:
    """The carrier forks: two early dialogs, each with numbers of the PBX that begin anew."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    asks_again(world, "INVITE", "n0")
    for tag in ("one", "two"):
        world.carrier.sends("183", tag=tag)
        world.pbx.gets("183")
    seen: dict[str, list[int]] = {"one": [], "two": []}
    for tag, challenged in (("one", False), ("two", True), ("one", True), ("two", False), ("one", False)):
        world.pbx.sends("UPDATE", tag=tag)
        update = world.carrier.gets("UPDATE")
        seen[tag].append(update.cseq)
        if challenged:
            seen[tag].append(asks_again(world, "UPDATE", f"n{len(seen[tag])}").cseq)
        world.carrier.sends("200 UPDATE")
        world.pbx.gets("200 UPDATE")
    for numbers in seen.values():
        assert numbers == sorted(set(numbers))
        assert numbers[0] > 2
    world.carrier.sends("200 INVITE", tag="two")
    world.pbx.gets("200 INVITE")
    world.pbx.sends("ACK", tag="two")
    assert world.carrier.gets("ACK").cseq == 2
    world.pbx.sends("BYE", tag="two")
    assert world.carrier.gets("BYE").cseq > max(seen["two"])
    world.carrier.sends("200 BYE")
    world.pbx.gets("200 BYE")
