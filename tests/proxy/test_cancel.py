"""CANCEL (RFC 3261 §9, §16.10): held back, passed on, crossing with what ends the call anyway."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.stores import SAME_TURN
from tests.proxy.text import Text


def rings(a: Agent, b: Agent) -> Text:
    """Up to the 180."""
    a.sends("INVITE")
    a.gets("100")
    invite = b.gets("INVITE")
    b.sends("180")
    a.gets("180")
    return invite


def is_terminated(a: Agent, b: Agent) -> None:
    """The callee obeys the CANCEL, its 487 goes up."""
    b.sends("200 CANCEL")
    b.sends("487 INVITE")
    b.gets("ACK")
    a.gets("487 INVITE")
    a.sends("ACK")


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_after_ringing_it_goes_on_at_once(world: World, caller: str) -> None:
    """§9.1: same Request-URI, Call-ID, To, From, CSeq number, branch, one Via. §9.2: the gate answers it itself.
    Proxy rules §11: the line is held until the 487 goes up, not given back when the CANCEL is seen."""
    a, b = (world.pbx, world.carrier) if caller == "pbx" else (world.carrier, world.pbx)
    up = {"outbound": 1} if caller == "pbx" else {"inbound": 1}
    invite = rings(a, b)
    a.sends("CANCEL")
    a.gets("200 CANCEL")
    cancel = b.gets("CANCEL")
    assert cancel.uri == invite.uri
    assert cancel.all("via") == [invite.via]
    assert cancel.all("route") == invite.all("route")
    for name in ("call-id", "from", "to"):
        assert cancel.get(name) == invite.get(name)
    assert cancel.get("cseq") == "1 CANCEL"
    assert cancel.body == b""
    world.holds(**up)
    is_terminated(a, b)
    world.holds_nothing()
    assert (world.record().outcome, world.record().ended_by) == ("cancelled", "caller")


@pytest.mark.parametrize("provisional", ["100", "180", "183"])
def test_before_any_answer_it_is_held_back(world: World, provisional: str) -> None:
    """§9.1: no CANCEL before a provisional answer; then at once. The copies of the INVITE go on until then."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.gets_nothing()
    world.after(0.6)
    world.carrier.gets("INVITE")
    world.holds(outbound=1)
    world.carrier.sends(provisional)
    world.carrier.gets("CANCEL")
    if provisional != "100":
        world.pbx.gets(provisional)
    is_terminated(world.pbx, world.carrier)
    world.holds_nothing()


def test_a_silent_carrier_after_a_cancel(world: World) -> None:
    """§9.1, Timer B: it never answers at all, so the caller gets its 487 when the transaction dies."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.after(31.9)
    world.carrier.gets("INVITE", times=6)
    world.pbx.gets_nothing()
    world.holds(outbound=1)
    world.after(0.2)
    world.pbx.gets("487")
    world.holds_nothing()
    world.pbx.sends("ACK")


def test_it_is_dropped_when_a_final_answer_comes_first(world: World) -> None:
    """§9.1: held back, then overtaken by a 486: no CANCEL goes out at all."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")
    world.holds_nothing()


@pytest.mark.parametrize("answer", ["200", "481"])
def test_crossing_with_a_200_the_call_exists(world: World, answer: str) -> None:
    """§9.1, §16.7 step 5: the 2xx beats the CANCEL and goes up; the line stays held until the BYE."""
    rings(world.pbx, world.carrier)
    world.carrier.sends("200 INVITE", lost=True)
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.gets("CANCEL")
    world.carrier.repeats("200 INVITE")
    world.pbx.gets("200 INVITE")
    world.carrier.sends(f"{answer} CANCEL")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.after(200)
    world.holds(outbound=1)
    world.hangs_up()
    world.holds_nothing()
    assert world.record().outcome == "answered"


def test_held_back_and_then_a_200_the_call_exists(world: World) -> None:
    """§9.1: the first thing the carrier ever says is the 2xx."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.sends("200")
    world.pbx.gets("200 INVITE")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.holds(outbound=1)
    world.hangs_up()


def test_after_the_200_it_has_no_effect(world: World) -> None:
    """§9.2: a CANCEL that arrives when the final answer has gone is answered and does nothing."""
    rings(world.pbx, world.carrier)
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.gets_nothing()
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.hangs_up()


@pytest.mark.parametrize("code", ["486", "503", "302", "603"])
def test_crossing_with_a_refusal(world: World, code: str) -> None:
    """§9.1: the refusal was on its way; it goes up as it is, and the carrier's 481 to the CANCEL stays here."""
    rings(world.pbx, world.carrier)
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.gets("CANCEL")
    world.carrier.sends(f"{code} INVITE")
    world.carrier.gets("ACK")
    world.carrier.sends("481 CANCEL")
    world.pbx.gets("500" if code == "503" else code)
    world.pbx.sends("ACK")
    world.holds_nothing()


def test_a_cancelled_call_does_not_fail_over(ladder: Ladder) -> None:
    """§16.10: nobody is rung on for a caller who has gone, not even after a 503."""
    world = ladder(gateways=2)
    rings(world.pbx, world.carrier)
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 CANCEL")
    world.carrier.sends("503 INVITE")
    world.carrier.gets("ACK")
    world.pbx.gets("500 INVITE")
    world.pbx.sends("ACK")
    world.gateways[1].gets_nothing()


def test_while_the_store_thinks(ladder: Ladder) -> None:
    """The caller goes before the verdict: 487 at once, no INVITE leaves, a grant that still comes is given back."""
    world = ladder()
    world.pbx.sends("INVITE")
    if world.store.kind is SAME_TURN:
        world.carrier.gets("INVITE")  # the verdict was there at once: nothing to overtake
    world.pbx.gets("100")
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    if world.store.kind is SAME_TURN:
        world.carrier.sends("100")
        world.carrier.gets("CANCEL")
        is_terminated(world.pbx, world.carrier)
    else:
        world.pbx.gets("487 INVITE")
        world.pbx.sends("ACK")
    world.carrier.gets_nothing()
    world.holds_nothing()
    assert (world.record().outcome, world.record().ended_by) == ("cancelled", "caller")


def test_while_a_further_attempt_waits_for_its_token(ladder: Ladder) -> None:
    """The first gateway has refused, the store is asked for the next: 487 at once and no second attempt."""
    world = ladder(gateways=2)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("503")
    world.carrier.gets("ACK")
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    second = world.gateways[1]
    if world.store.kind is SAME_TURN:
        second.gets("INVITE")
        second.sends("100")
        second.gets("CANCEL")
        is_terminated(world.pbx, second)
    else:
        world.pbx.gets("487 INVITE")
        world.pbx.sends("ACK")
    second.gets_nothing()
    world.holds_nothing()


def test_a_repeated_cancel_is_absorbed(world: World) -> None:
    """§17.2.2: the 200 is replayed, the carrier hears of it once."""
    rings(world.pbx, world.carrier)
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 CANCEL")
    world.pbx.repeats("CANCEL", number=3)
    world.pbx.gets("200 CANCEL", times=3)
    world.carrier.gets_nothing()
    world.carrier.sends("487 INVITE")
    world.carrier.gets("ACK")
    world.pbx.gets("487 INVITE")
    world.pbx.repeats("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.pbx.sends("ACK")


def test_our_own_cancel_is_repeated_until_it_is_answered(world: World) -> None:
    """§17.1.2, Timer E: it is a non-INVITE transaction of ours."""
    rings(world.pbx, world.carrier)
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.gets("CANCEL")
    world.after(1.6)
    world.carrier.gets("CANCEL", times=2)
    is_terminated(world.pbx, world.carrier)


def test_a_carrier_that_never_ends_a_cancelled_invite(world: World) -> None:
    """§9.1: 64*T1 after the CANCEL the transaction is taken for cancelled; the caller gets its 487."""
    rings(world.pbx, world.carrier)
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 CANCEL")
    world.after(31.9)
    world.pbx.gets_nothing()
    world.holds(outbound=1)
    world.after(0.2)
    world.pbx.gets("487 INVITE")
    world.holds_nothing()
    world.pbx.sends("ACK")


def test_ringing_on_after_the_cancel_is_not_cancelled_twice(world: World) -> None:
    """§9.1: one CANCEL per INVITE; a late 180 still passes."""
    rings(world.pbx, world.carrier)
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 CANCEL")
    world.carrier.sends("183 INVITE")
    world.pbx.gets("183")
    world.carrier.gets_nothing()
    world.carrier.sends("487 INVITE")
    world.carrier.gets("ACK")
    world.pbx.gets("487 INVITE")
    world.pbx.sends("ACK")


@pytest.mark.parametrize("branch", ["z9hG4bK-another", "z9hG4bK-pbx-1x"])
def test_without_a_match_it_is_answered_481(world: World, branch: str) -> None:
    """§16.10: no transaction of that branch: nothing is cancelled."""
    rings(world.pbx, world.carrier)
    cancel = world.pbx.sends("CANCEL", lost=True)
    world.pbx.transmits(cancel.data.replace(cancel.branch.encode(), branch.encode()))
    world.pbx.gets("481 CANCEL")
    world.carrier.gets_nothing()
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_of_a_call_that_is_long_over(world: World) -> None:
    """§9.2: 481."""
    rings(world.pbx, world.carrier)
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")
    world.after(60)
    world.pbx.sends("CANCEL")
    world.pbx.gets("481 CANCEL")


@pytest.mark.parametrize("who", ["stranger", "carrier"])
def test_nobody_cancels_anothers_call(world: World, who: str) -> None:
    """The branch alone does not do: a CANCEL comes from where its INVITE came from."""
    rings(world.pbx, world.carrier)
    cancel = world.pbx.sends("CANCEL", lost=True)
    forger = world.stranger if who == "stranger" else world.carrier
    forger.inbox.clear()
    forger.transmits(cancel.data)
    answers = [text.code for _, text in forger.inbox]
    forger.inbox.clear()
    assert answers == [403 if who == "stranger" else 481]
    world.pbx.gets_nothing()
    world.holds(outbound=1)
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_reason_is_copied(world: World) -> None:
    """RFC 3326 §2: so that the other phones show no missed call; several of them, in their order."""
    rings(world.pbx, world.carrier)
    reasons = ['Reason: SIP;cause=200;text="Call completed elsewhere"', "Reason: Q.850;cause=26"]
    world.pbx.sends("CANCEL", headers=reasons)
    world.pbx.gets("200 CANCEL")
    assert [f"Reason: {r}" for r in world.carrier.gets("CANCEL").all("reason")] == reasons
    is_terminated(world.pbx, world.carrier)


def test_reason_is_copied_into_a_cancel_that_was_held_back(world: World) -> None:
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.pbx.sends("CANCEL", headers=["Reason: SIP;cause=200"])
    world.pbx.gets("200 CANCEL")
    world.carrier.sends("180")
    assert world.carrier.gets("CANCEL").all("reason") == ["SIP;cause=200"]
    world.pbx.gets("180")
    is_terminated(world.pbx, world.carrier)


def test_it_is_never_limited(ladder: Ladder) -> None:
    """Proxy rules §7: a CANCEL gives lines back, so no limit stops it."""
    world = ladder(cps=1, outbound_calls=1, calls=1)
    rings(world.pbx, world.carrier)
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.gets("CANCEL")
    is_terminated(world.pbx, world.carrier)
    world.holds_nothing()
