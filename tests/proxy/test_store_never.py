"""A store that does not answer (interface.md: no verdict within 200 ms is refused like a limit, rule `store`; emergency
goes its way; a grant that comes later is given back)."""

from __future__ import annotations

import pytest
from tests.proxy.conftest import Ladder, make_ladders
from tests.proxy.ladder import World
from tests.proxy.stores import NEVER_ANSWERS, SAME_TURN
from tests.proxy.test_forwards import TO_PHONE

from callgate.policy.ledger import ASK_SECONDS, LEASE
from callgate.proxy import core


@pytest.fixture
def silent(request: pytest.FixtureRequest) -> Ladder:
    return make_ladders(request, NEVER_ANSWERS)


@pytest.fixture
def falls_silent(request: pytest.FixtureRequest) -> Ladder:
    """A store that answers until it is told to stop."""
    return make_ladders(request, SAME_TURN)


def stops_answering(world: World) -> None:
    world.store.kind = NEVER_ANSWERS


def starts_answering(world: World) -> None:
    world.settle()
    world.store.kind = SAME_TURN


@pytest.mark.parametrize(("caller", "code"), [("pbx", "503"), ("carrier", "486")])
def test_an_initial_invite(silent: Ladder, caller: str, code: str) -> None:
    """100 at once, the refusal after 200 ms and not before; the PBX is told that it is the store."""
    assert ASK_SECONDS == 0.2
    world = silent()
    a, b = (world.pbx, world.carrier) if caller == "pbx" else (world.carrier, world.pbx)
    a.sends("INVITE")
    a.gets("100")
    world.after(0.199)
    a.gets_nothing()
    world.after(0.002)
    answer = a.gets(code)
    a.sends("ACK")
    b.gets_nothing()
    assert not answer.has("retry-after")
    if caller == "pbx":
        assert answer.get("x-callgate-verdict") == "rule=store"
        assert "store" in answer.get("warning")
    record = world.record()
    assert (record.rule, record.outcome, record.attempts) == ("store", "refused", 0)


@pytest.mark.parametrize("late", [0.0001, 0.05, 3.0, 100.0])
def test_a_grant_that_comes_later_is_given_back(silent: Ladder, late: float) -> None:
    """Once, however late; and its token with it: nothing was sent."""
    world = silent(cps=1, outbound_calls=1)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.after(0.2)
    world.pbx.gets("503")
    world.pbx.sends("ACK")
    world.after(late)
    assert world.used("outbound_calls") == 1
    assert world.store.answers_after_all(world.now) == 1
    world.holds_nothing()
    assert world.used("outbound_cps") == 0
    world.carrier.gets_nothing()


def test_the_caller_gives_up_first(silent: Ladder) -> None:
    """CANCEL while the store thinks: 487, and the verdict that never came is not waited for."""
    world = silent()
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.after(0.1)
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.pbx.gets("487 INVITE")
    world.pbx.sends("ACK")
    world.after(1)
    world.pbx.gets_nothing()
    assert world.store.answers_after_all(world.now) == 1
    world.holds_nothing()
    assert world.record().outcome == "cancelled"


def test_copies_meanwhile(silent: Ladder) -> None:
    """Each gets the last answer again: the 100, then the 503; one claim."""
    world = silent()
    world.pbx.sends("INVITE")
    world.pbx.repeats("INVITE", number=2)
    world.pbx.gets("100", times=3)
    world.after(0.21)
    world.pbx.gets("503")
    world.pbx.repeats("INVITE")
    world.pbx.gets("503")
    world.pbx.sends("ACK")
    assert world.store.asked == 1


def test_many_at_once(silent: Ladder) -> None:
    """Each within its own 200 ms."""
    world = silent()
    for n in range(20):
        world.pbx.sends("INVITE", call=f"c{n}")
        world.pbx.gets("100", call=f"c{n}")
        world.after(0.01)
    world.after(0.2)
    for n in range(20):
        world.pbx.gets("503", call=f"c{n}")
        world.pbx.sends("ACK", call=f"c{n}")
    assert world.store.answers_after_all(world.now) == 20
    world.holds_nothing()


def test_a_late_grant_is_of_the_forward_too(silent: Ladder) -> None:
    """A call in and its forward claim together, and are given back together."""
    world = silent(route=TO_PHONE, cps=1, forwarded_calls=1, lines=2)
    world.carrier.sends("INVITE", call="in")
    world.carrier.gets("100", call="in")
    world.after(0.21)
    world.carrier.gets("486", call="in")
    world.carrier.sends("ACK", call="in")
    assert world.used("lines") == 2
    assert world.store.answers_after_all(world.now) == 1
    world.carries_out()
    world.holds_nothing()
    assert (world.used("lines"), world.used("outbound_cps")) == (0, 0)


def test_a_store_that_never_answers_fills_no_memory(silent: Ladder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would have to be given back with a late grant is remembered for the last calls only: the leases of those
    before them end by themselves."""
    monkeypatch.setattr(core, "TWINS_MAX", 3)
    world = silent(route=TO_PHONE, forwarded_calls=20, lines=40)
    for n in range(10):
        world.carrier.sends("INVITE", call=f"c{n}")
        world.carrier.gets("100", call=f"c{n}")
    world.after(0.21)
    for n in range(10):
        world.carrier.gets("486", call=f"c{n}")
        world.carrier.sends("ACK", call=f"c{n}")
    assert len(world.core._twins) == 3
    assert world.store.answers_after_all(world.now) == 10
    world.carries_out()
    world.settle()
    assert world.used("lines") == 7
    world.after(LEASE)
    world.store.inner.expire(world.now)
    for claim_id in world.store.held:
        world.store.given_back[claim_id] += 1
    world.holds_nothing()


def test_calls_that_are_up_go_on_and_end(falls_silent: Ladder) -> None:
    """Only new calls need the store's word."""
    world = falls_silent()
    world.talks(call="a")
    world.talks(world.carrier, call="b")
    stops_answering(world)
    world.pbx.sends("re-INVITE", call="a")
    world.pbx.gets("100")
    world.carrier.gets("re-INVITE")
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.hangs_up(call="a")
    world.hangs_up(world.carrier, call="b")
    world.holds_nothing()


def test_a_further_attempt(falls_silent: Ladder) -> None:
    """No verdict on the token of the next gateway: the last gateway's answer stands, after 200 ms."""
    world = falls_silent(gateways=2)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    stops_answering(world)
    world.carrier.sends("503")
    world.carrier.gets("ACK")
    world.after(0.199)
    world.pbx.gets_nothing()
    world.after(0.002)
    world.pbx.gets("500")
    world.pbx.sends("ACK")
    world.gateways[1].gets_nothing()
    assert world.store.answers_after_all(world.now) == 1
    world.holds_nothing()


def test_a_copy_that_needs_a_token_waits_until_the_store_is_back(falls_silent: Ladder) -> None:
    """V1: without a verdict the copy is not sent; it asks again until the call ends or the store answers."""
    world = falls_silent(cps=1)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.after(0.6)
    world.carrier.gets("INVITE")
    stops_answering(world)
    world.after(2)
    world.carrier.inbox.clear()  # that of 1.5 s may still go under the token of the one at 0.5 s
    world.after(7)
    world.carrier.gets_nothing()  # those of 3.5 and 7.5 s wait
    assert world.store.answers_after_all(world.now) > 10  # it has asked again and again
    starts_answering(world)
    world.after(1.5)
    assert world.carrier.inbox
    world.carrier.inbox.clear()
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_emergency_needs_no_store(silent: Ladder) -> None:
    """rules.md: answered at once, the store is not even asked."""
    world = silent()
    world.pbx.sends("INVITE", to="110")
    world.pbx.gets("503")
    world.pbx.sends("ACK")
    assert world.store.asked == 0
