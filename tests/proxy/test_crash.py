"""kill -9 and a new start on the same journal: what was up, ringing or only just sent goes on, and is counted."""

from __future__ import annotations

import itertools

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.test_limits import ends

from callgate.proxy.directory import Probing
from callgate.proxy.login import Account

PROBES = Probing(interval=300.0, misses=3, gap=10.0)


def sides(world: World, caller: str) -> tuple[Agent, Agent]:
    return (world.pbx, world.carrier) if caller == "pbx" else (world.carrier, world.pbx)


def counts(world: World, caller: str) -> None:
    """The one call is counted."""
    world.holds(outbound=int(caller == "pbx"), inbound=int(caller == "carrier"))


def lives(world: World, seconds: float = 5.0, *, pbx: str = "200", carrier: str = "200") -> list[float]:
    """Time passes, and both sides answer what the gate asks them, with these codes ("": not at all) and its BYE with
    200. When a carrier was asked, copies left out."""
    asked: dict[str, float] = {}
    for _ in range(int(seconds * 10)):
        world.after(0.1)
        for agent, code in ((world.pbx, pbx), (world.carrier, carrier)):
            for entry in [e for e in agent.inbox if e[1].method in ("OPTIONS", "BYE") and not e[1].code]:
                agent.inbox.remove(entry)
                agent.read(entry[1])
                if entry[1].method == "BYE":
                    agent.sends("200 BYE")
                    continue
                if agent is world.carrier:
                    asked.setdefault(entry[1].branch, entry[0])
                if code:
                    agent.sends(f"{code} OPTIONS")
    return list(asked.values())


@pytest.mark.parametrize("ender", ["pbx", "carrier"])
@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_a_call_that_is_up(world: World, caller: str, ender: str) -> None:
    """It is counted at once, re-INVITEs pass without a token, its BYE gives the line back; the record is whole."""
    a, b = sides(world, caller)
    world.talks(a)
    world.after(3.0)
    taken = world.crashes()
    assert (taken.up, taken.left_out) == (1, ())
    counts(world, caller)
    lives(world)
    a.sends("re-INVITE")
    a.gets("100")
    b.gets("re-INVITE")
    b.sends("200 re-INVITE")
    a.gets("200 re-INVITE")
    a.sends("ACK")
    b.gets("ACK")
    counts(world, caller)
    world.hangs_up(sides(world, ender)[0])
    world.holds_nothing()
    record = world.record()
    assert record.answer_at is not None
    assert record.answer_at - record.invite_at < 0.1
    assert record.end_at is not None
    assert record.end_at - record.answer_at > 8
    assert record.outcome == "answered"
    assert record.ended_by == ("caller" if a is sides(world, ender)[0] else "callee")


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_a_ringing_call_is_answered(world: World, caller: str) -> None:
    """18x and 2xx pass on after the start, copies of the 2xx too."""
    a, b = sides(world, caller)
    a.sends("INVITE")
    a.gets("100")
    b.gets("INVITE")
    b.sends("180")
    a.gets("180")
    world.after(5.0)
    assert world.crashes().ringing == 1
    counts(world, caller)
    b.sends("183")
    a.gets("183")
    ok = b.sends("200")
    a.gets("200")
    b.transmits(ok.data)
    a.gets("200")
    a.sends("ACK")
    b.gets("ACK")
    counts(world, caller)
    world.hangs_up(b)
    assert world.record().ringing_at is not None


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_a_ringing_call_is_cancelled(world: World, caller: str) -> None:
    a, b = sides(world, caller)
    a.sends("INVITE")
    a.gets("100")
    b.gets("INVITE")
    b.sends("180")
    a.gets("180")
    world.crashes()
    a.sends("CANCEL")
    a.gets("200 CANCEL")
    b.gets("CANCEL")
    b.sends("200 CANCEL")
    b.sends("487 INVITE")
    b.gets("ACK")
    a.gets("487")
    a.sends("ACK")
    world.holds_nothing()
    assert world.record().outcome == "cancelled"


def test_cancelled_before_the_crash(world: World) -> None:
    """The CANCEL may not have gone out: it goes again, the call does not ring on."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("180")
    world.pbx.gets("180")
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.gets("CANCEL")
    world.crashes()
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 CANCEL")
    world.carrier.sends("487 INVITE")
    world.carrier.gets("ACK")
    world.pbx.gets("487")
    world.pbx.sends("ACK")


@pytest.mark.parametrize("code", ["486", "503", "603"])
def test_a_ringing_call_is_refused(world: World, code: str) -> None:
    """A failure passes on, is acknowledged, and repeated until the caller has it."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("180")
    world.pbx.gets("180")
    world.crashes()
    world.carrier.sends(code)
    world.carrier.gets("ACK")
    world.pbx.gets("500" if code == "503" else code)
    world.after(0.6)
    world.pbx.gets("500" if code == "503" else code)
    world.pbx.sends("ACK")
    world.holds_nothing()


def test_timer_c_goes_on(world: World) -> None:
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("180")
    world.pbx.gets("180")
    world.after(100.0)
    world.crashes()
    world.after(80.0)
    world.carrier.gets_nothing()
    world.after(1.0)
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 CANCEL")
    world.carrier.sends("487 INVITE")
    world.carrier.gets("ACK")
    world.pbx.gets("487")
    world.pbx.sends("ACK")


def test_an_invite_without_an_answer(world: World) -> None:
    """Nobody knows whether it arrived: it goes once more, under a token of the new start."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.crashes(0.2)
    world.holds(outbound=1)
    world.after(0.9)
    world.carrier.gets_nothing()  # a start has no token for one window
    world.after(0.5)
    world.carrier.gets("INVITE")
    world.carrier.sends("100")
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.hangs_up()


def test_the_next_gateway_after_the_crash(ladder: Ladder) -> None:
    """The gateway that had the call refuses it: the other one gets it, with a token."""
    world = ladder(gateways=2)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("100")
    world.crashes()
    world.after(1.1)
    world.carrier.takes_refusals()  # a copy
    world.carrier.sends("503 INVITE")
    world.carrier.gets("ACK")
    two = world.gateways[1]
    two.gets("INVITE")
    two.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    two.gets("ACK")
    world.pbx.sends("BYE")
    two.gets("BYE")
    two.sends("200 BYE")
    world.pbx.gets("200 BYE")


@pytest.mark.parametrize("over", [("TCP", "UDP"), ("UDP", "TCP"), ("TCP", "TCP")])
@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("ender", ["pbx", "carrier"])
def test_streams_are_gone(ladder: Ladder, over: tuple[str, str], caller: str, ender: str) -> None:
    """Double Record-Route: the dialog goes on where its sides have said that they are."""
    world = ladder(pbx_over=over[0], carrier_over=over[1])
    a, _ = sides(world, caller)
    world.talks(a)
    world.crashes()
    counts(world, caller)
    world.hangs_up(sides(world, ender)[0])
    world.holds_nothing()


@pytest.mark.parametrize("over", [("TCP", "UDP"), ("TCP", "TCP")])
def test_a_ringing_call_over_a_stream(ladder: Ladder, over: tuple[str, str]) -> None:
    """The answer goes to where the Via says (RFC 3261 §18.2.2)."""
    world = ladder(pbx_over=over[0], carrier_over=over[1])
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("180")
    world.pbx.gets("180")
    world.crashes()
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.hangs_up()


def test_prack_and_update_before_the_answer(world: World) -> None:
    """The early dialog is known after the start: both ways."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("180", headers=["Require: 100rel", "RSeq: 1"])
    world.pbx.gets("180")
    world.crashes()
    world.pbx.sends("PRACK", headers=["RAck: 1 1 INVITE"])
    world.carrier.gets("PRACK")
    world.carrier.sends("200 PRACK")
    world.pbx.gets("200 PRACK")
    world.carrier.sends("UPDATE")
    world.pbx.gets("UPDATE")
    world.pbx.sends("200 UPDATE")
    world.carrier.gets("200 UPDATE")
    world.carrier.sends("200 INVITE")
    world.pbx.gets("200 INVITE")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.hangs_up()


def test_a_forked_call(world: World) -> None:
    """Both dialogs of a fork are kept, and the line until the last of them is over."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    for tag in ("one", "two"):
        world.carrier.sends("180", tag=tag)
        world.pbx.gets("180")
    world.crashes()
    for tag in ("one", "two"):
        world.carrier.sends("200 INVITE", tag=tag)
        world.pbx.gets("200")
        world.pbx.sends("ACK", tag=tag)
        world.carrier.gets("ACK")
    world.crashes()
    for tag in ("one", "two"):
        world.holds(outbound=1)
        world.pbx.sends("BYE", tag=tag)
        world.carrier.gets("BYE")
        world.carrier.sends("200 BYE")
        world.pbx.gets("200 BYE")
    world.holds_nothing()


def test_twice(world: World) -> None:
    """A call outlives two crashes, and is one call."""
    world.talks()
    world.crashes()
    world.after(0.1)
    world.crashes()
    world.holds(outbound=1)
    world.hangs_up(world.carrier)
    assert world.record().id < 1 << 41


def test_over_the_limit(ladder: Ladder) -> None:
    """More calls are up than the config allows by now: all of them count, and no new one passes."""
    world = ladder(outbound_calls=2)
    for call in ("one", "two"):
        world.talks(call=call)
    world.key.outbound = tuple(
        p if not p.name.endswith("outbound_calls") else type(p)(p.rule, p.name, 1)  # type: ignore[call-arg]
        for p in world.key.outbound
    )
    world.crashes()
    lives(world)
    world.holds(outbound=2)
    world.pbx.sends("INVITE", call="three")
    world.pbx.gets("100", call="three")
    world.pbx.gets("503", call="three")
    world.pbx.sends("ACK", call="three")
    world.holds(outbound=2)
    for call in ("one", "two"):
        world.hangs_up(call=call)


# -- who is not there any more -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dead", ["pbx", "carrier", "both"])
def test_a_call_that_ended_meanwhile(world: World, dead: str) -> None:
    """481 to a probe: the line is free at once, and whoever is still there is hung up."""
    world.talks()
    world.crashes()
    world.holds(outbound=1)
    lives(world, pbx="200" if dead == "carrier" else "481", carrier="200" if dead == "pbx" else "481")
    world.holds_nothing()
    assert world.record().ended_by == "crash"
    lives(world, 40.0)


@pytest.mark.parametrize("answer", ["", "408"])
def test_silence(ladder: Ladder, answer: str) -> None:
    """Three misses, ten seconds apart."""
    world = ladder(probing=PROBES)
    world.talks()
    world.crashes()
    times = lives(world, 60.0, carrier=answer)
    assert len(times) == 3
    assert [round(b - a) for a, b in itertools.pairwise(times)] == [10, 10]
    assert world.record().ended_by == "crash"
    world.holds_nothing()


def test_a_session_timer_does_not_stop_the_question(ladder: Ladder) -> None:
    """RFC 4028: its end may be half an hour away."""
    world = ladder(probing=PROBES)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("200", headers=["Session-Expires: 1800;refresher=uac"])
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.crashes()
    assert len(lives(world)) == 1
    assert not lives(world, 600.0)  # from here on the timer is the proof
    world.hangs_up()


# -- younger than the last commit --------------------------------------------------------------------------------


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("first", ["180", "200", "486"])
def test_a_leg_of_which_nothing_was_written_down(world: World, caller: str, first: str) -> None:
    """Its first answer passes, it counts from then on, and it ends as any call does."""
    a, b = sides(world, caller)
    a.sends("INVITE")
    a.gets("100")
    b.gets("INVITE")
    assert world.crashes(lost=0.05).ringing == 0
    world.holds_nothing()
    b.sends(first)
    if first == "486":
        b.gets("ACK")
        a.gets("486")
        a.sends("ACK")
        world.holds_nothing()
        return
    a.gets(first)
    counts(world, caller)
    if first == "180":
        b.sends("200 INVITE")
        a.gets("200")
    a.sends("ACK")
    b.gets("ACK")
    counts(world, caller)
    world.hangs_up(a)
    world.holds_nothing()


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_cancelled_and_nothing_was_written_down(world: World, caller: str) -> None:
    a, b = sides(world, caller)
    a.sends("INVITE")
    a.gets("100")
    b.gets("INVITE")
    world.crashes(lost=0.05)
    b.sends("180")
    a.gets("180")
    a.sends("CANCEL")
    a.gets("200 CANCEL")
    b.gets("CANCEL")
    b.sends("200 CANCEL")
    b.sends("487 INVITE")
    b.gets("ACK")
    a.gets("487")
    a.sends("ACK")
    world.holds_nothing()


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("speaks", ["pbx", "carrier"])
@pytest.mark.parametrize("method", ["INFO", "UPDATE"])
def test_a_dialog_of_which_nothing_was_written_down(
    world: World, caller: str, speaks: str, method: str
) -> None:
    """It counts as soon as somebody says something in it."""
    world.talks(sides(world, caller)[0])
    world.crashes(lost=1.0)
    world.holds_nothing()
    a, b = sides(world, speaks)
    a.sends(method)
    b.gets(method)
    b.sends(f"200 {method}")
    a.gets(f"200 {method}")
    counts(world, caller)
    lives(world)
    world.hangs_up(b)
    world.holds_nothing()


def test_what_had_ended_stays_so(world: World) -> None:
    """Late copies of a call that ended before the crash make no call of it."""
    world.talks()
    ack = world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.hangs_up()
    world.after(1.0)
    assert world.crashes() == (0, 0, 0, ())
    world.records.clear()
    world.pbx.transmits(ack.data)
    world.carrier.gets("ACK")
    world.holds_nothing()


@pytest.mark.parametrize("written", [True, False])
def test_a_late_copy_of_its_last_answer(world: World, written: bool) -> None:
    """A call of before the crash is over and forgotten: it is one call, with one record."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.crashes(lost=0.0 if written else 0.05)
    busy = world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")
    world.after(80.0)
    world.carrier.transmits(busy.data)
    world.pbx.gets_nothing()
    world.holds_nothing()
    world.record()


@pytest.mark.parametrize("written", [True, False])
def test_two_gateways_answer_one_call(ladder: Ladder, written: bool) -> None:
    """Its INVITE has gone to a second gateway, of which nothing was written down: both answer one call."""
    world = ladder(gateways=2)
    first, second = world.gateways
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.after(4.045)
    first.gets("INVITE", times=4)
    second.gets("INVITE")
    world.crashes(lost=0.05 if written else 10.0)
    second.sends("180")
    world.pbx.gets("180")
    world.holds(outbound=1)
    if not written:
        first.sends("183")
        world.pbx.gets("183")
        world.holds(outbound=1)
    second.sends("200 INVITE")
    world.pbx.gets("200")
    if not written:
        first.gets("CANCEL")
        first.sends("200 CANCEL")
        first.sends("487 INVITE")
        first.gets("ACK")
    world.pbx.sends("ACK")
    second.gets("ACK")
    world.holds(outbound=1)
    world.pbx.sends("BYE")
    second.gets("BYE")
    second.sends("200 BYE")
    world.pbx.gets("200 BYE")
    world.holds_nothing()
    world.record()


# -- credentials -------------------------------------------------------------------------------------------------


def challenge(world: World) -> None:
    world.carrier.sends(
        "401", headers=['WWW-Authenticate: Digest realm="c", nonce="n", algorithm=MD5, qop="auth"']
    )
    world.carrier.gets("ACK")


def test_the_offset_of_a_dialog(ladder: Ladder) -> None:
    """The trunk has seen higher CSeqs than the PBX knows: after the crash too, ACK and BYE."""
    world = ladder(account=Account("gate", "word"))
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    assert world.carrier.gets("INVITE").cseq == 1
    challenge(world)
    assert world.carrier.gets("INVITE").cseq == 2
    world.carrier.sends("180")
    world.pbx.gets("180")
    world.crashes()
    world.carrier.sends("200")
    assert world.pbx.gets("200").cseq == 1
    world.crashes()
    world.pbx.sends("ACK")
    ack = world.carrier.gets("ACK")
    assert ack.cseq == 2
    assert ack.has("authorization")
    world.pbx.sends("BYE")
    assert world.carrier.gets("BYE").cseq > 3
    world.carrier.sends("200 BYE")
    world.pbx.gets("200 BYE")


def test_a_challenge_after_the_crash(ladder: Ladder) -> None:
    world = ladder(account=Account("gate", "word"))
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.crashes()
    challenge(world)
    invite = world.carrier.gets("INVITE")
    assert invite.cseq > 1
    assert invite.has("authorization")
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.hangs_up()


# -- clocks ------------------------------------------------------------------------------------------------------


def test_another_clock(world: World) -> None:
    """The machine was started anew: the monotonic clock began at nought."""
    world.talks()
    world.after(10.0)
    world.crashes(shift=-900.0)
    world.hangs_up()
    record = world.record()
    assert record.end_at is not None
    assert record.answer_at is not None
    assert 10.0 <= record.end_at - record.answer_at <= 11.0


def test_the_longest_call(ladder: Ladder) -> None:
    """C1 goes on counting from the answer."""
    world = ladder(max_call_seconds=100.0)
    world.talks()
    world.after(60.0)
    world.crashes()
    lives(world, 41.0)
    assert world.record().rule == "C1"
    world.holds_nothing()


# -- the queue ---------------------------------------------------------------------------------------------------


def test_calls_that_waited_in_the_queue(ladder: Ladder) -> None:
    """Nobody knows whether their callers still wait: they are told so, and nothing is dialled for them."""
    world = ladder(cps=1, queue_seconds=20.0)
    world.pbx.sends("INVITE", call="first")
    world.pbx.gets("100", call="first")
    world.carrier.gets("INVITE", call="first")
    for name in ("second", "third"):
        world.pbx.sends("INVITE", call=name)
        world.pbx.gets("100", call=name)
    world.settle()
    world.after(0.3)
    taken = world.crashes()
    assert (taken.ringing, taken.queued, taken.left_out) == (1, 2, ())
    for name in ("second", "third"):
        assert "rule=V1" in world.pbx.gets("503", call=name).get("x-callgate-verdict")
        world.pbx.sends("ACK", call=name)
    records = world.records[-2:]
    assert {(r.ended_by, r.final_code, r.outcome) for r in records} == {("crash", 503, "refused")}
    ends(world, "first")
    world.after(10.0)
    world.carrier.gets_nothing()
    assert world.crashes()[:4] == (0, 0, 0, ())  # they were told
    world.pbx.sends("CANCEL", call="second")
    world.pbx.gets("481", call="second")
