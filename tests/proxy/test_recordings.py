"""Rule I1: recorded calls count, each once however that is known, until nobody says so any more."""

from __future__ import annotations

import pytest
from tests.proxy.agent import SDP, Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.stores import LATE
from tests.proxy.test_reload import reload
from tests.proxy.text import Text

from callgate.proxy.peers import Step

ON, OFF, PAUSED = SDP + b"a=record:on\r\n", SDP + b"a=record:off\r\n", SDP + b"a=record:paused\r\n"
WISHES = SDP + b"a=recordpref:on\r\n"
X_RECORD = ("X-Record: yes",)
WAYS: dict[str, dict[str, object]] = {
    "header": {"headers": X_RECORD},
    "wish": {"body": WISHES},
    "notice": {"body": ON},
    "all": {"headers": X_RECORD, "body": WISHES + b"a=record:on\r\n"},
}
ONE_REFUSAL = ["I1 recordings 2/1", "rule=I1;value=2;limit=1"]


@pytest.fixture
def one(ladder: Ladder) -> World:
    """One call may be recorded."""
    return ladder(recordings=1)


@pytest.fixture
def unrecorded(ladder: Ladder) -> World:
    return ladder(recordings=1, unrecorded=True)


def says(
    world: World, who: Agent, offer: bytes, answer: bytes = SDP, code: int = 200, **more: object
) -> None:
    """A re-INVITE that reaches the other side, and what became of it."""
    other = world.carrier if who is world.pbx else world.pbx
    who.sends("re-INVITE", body=offer, **more)  # type: ignore[arg-type]
    who.gets("100")
    other.gets("re-INVITE")
    other.sends(f"{code} re-INVITE", body=answer if code < 300 else b"")
    if code >= 300:
        other.gets("ACK")
    who.gets(str(code))
    who.sends("ACK")
    if code < 300:
        other.gets("ACK")


def fills(world: World) -> None:
    """The one licence is taken."""
    world.talks(call="first", headers=X_RECORD)
    world.holds(outbound=1, recorded=1)


def told(text: Text) -> list[str]:
    return [text.get("warning").partition('"')[2].rstrip('"'), text.get("x-callgate-verdict")]


def alerts(world: World, rule: str = "I1") -> list[tuple[str, bool]]:
    return [(a.severity, a.resolved) for a in world.alerts if a.rule == rule]


# -- at the start of a call -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_recorded_call_counts_once(one: World, way: str) -> None:
    """However many ways say it, and however often; its record says so."""
    world = one
    world.talks(**WAYS[way])
    world.holds(outbound=1, recorded=1)
    says(world, world.pbx, ON)
    world.holds(outbound=1, recorded=1)
    world.hangs_up()
    world.holds_nothing()
    assert world.record().recorded
    assert alerts(world) == []


@pytest.mark.parametrize("way", WAYS)
def test_the_next_one_is_refused(one: World, way: str) -> None:
    world = one
    fills(world)
    world.pbx.sends("INVITE", call="next", **WAYS[way])  # type: ignore[arg-type]
    world.pbx.gets("100", call="next")
    refusal = world.pbx.gets("503", call="next")
    assert told(refusal) == ONE_REFUSAL
    assert not refusal.has("retry-after")
    world.pbx.sends("ACK", call="next")
    world.carrier.gets_nothing()
    world.holds(outbound=1, recorded=1)
    record = world.record()
    assert (record.outcome, record.rule, record.value, record.limit) == ("refused", "I1", 2, 1)
    assert not record.recorded
    assert alerts(world) == [("warning", False)]
    world.talks(call="plain")
    world.hangs_up(call="plain")
    world.hangs_up(call="first")
    world.talks(call="then", **WAYS[way])
    world.hangs_up(call="then")


def test_a_call_in_is_refused_with_486(one: World) -> None:
    """The trunk is not told why."""
    world = one
    world.talks(world.carrier, call="first", body=ON)
    world.holds(inbound=1, recorded=1)
    world.carrier.sends("INVITE", call="next", body=ON)
    world.carrier.gets("100", call="next")
    assert told(world.carrier.gets("486", call="next")) == ["", ""]
    world.carrier.sends("ACK", call="next")
    world.hangs_up(world.carrier, call="first")


@pytest.mark.parametrize(
    "message",
    [{"headers": X_RECORD}, {"body": WISHES}, {"headers": X_RECORD, "body": WISHES}],
    ids=["header", "wish", "both"],
)
def test_what_a_caller_outside_wishes_is_none(one: World, message: dict[str, object]) -> None:
    """Only the key's own PBX may ask for a recording; the other side may only say that it records."""
    world = one
    world.talks(world.carrier, **message)
    world.holds(inbound=1)
    world.hangs_up(world.carrier)
    assert not world.record().recorded


@pytest.mark.parametrize(
    "header",
    ["X-Record:yes", "x-record : YES", "X-RECORD:\r\n yes", "X-Record: no\r\nX-Record: yes"],
)
def test_every_spelling_of_the_header(one: World, header: str) -> None:
    one.talks(headers=(header,))
    one.holds(outbound=1, recorded=1)
    one.hangs_up()


@pytest.mark.parametrize("header", ["X-Record: no", "X-Record:", "X-Recorded: yes", "X-Record-Of: yes"])
def test_what_is_no_yes(one: World, header: str) -> None:
    one.talks(headers=(header,))
    one.holds(outbound=1)
    one.hangs_up()


@pytest.mark.parametrize("line", [b"a=record: on", b"a=record:ON", b"a=recordpref:On \t", b"a=record:on\n"])
def test_every_spelling_in_the_session(one: World, line: bytes) -> None:
    one.talks(body=SDP + line + b"\r\n")
    one.holds(outbound=1, recorded=1)
    one.hangs_up()


@pytest.mark.parametrize(
    "line", [b"a=record:off", b"a=record:paused", b"a=record:onwards", b"a=recordpref:off", b"b=a=record:on"]
)
def test_what_does_not_say_it(one: World, line: bytes) -> None:
    one.talks(body=SDP + line + b"\r\n")
    one.holds(outbound=1)
    one.hangs_up()


def test_no_limit_at_all(ladder: Ladder) -> None:
    """Counted nowhere, and noted in the record."""
    world = ladder()
    world.talks(headers=X_RECORD)
    world.holds(outbound=1)
    world.hangs_up()
    assert world.record().recorded


def test_none_allowed(ladder: Ladder) -> None:
    world = ladder(recordings=0)
    world.pbx.sends("INVITE", headers=X_RECORD)
    world.pbx.gets("100")
    assert told(world.pbx.gets("503")) == ["I1 recordings 1/0", "rule=I1;value=1;limit=0"]
    world.pbx.sends("ACK")


def test_a_call_that_another_limit_refuses_takes_no_licence(ladder: Ladder) -> None:
    world = ladder(recordings=5, outbound_calls=1)
    world.talks(call="a")
    world.pbx.sends("INVITE", call="b", headers=X_RECORD)
    world.pbx.gets("100", call="b")
    assert world.pbx.gets("503", call="b").get("x-callgate-verdict") == "rule=C2;value=2;limit=1"
    world.pbx.sends("ACK", call="b")
    world.holds(outbound=1)
    world.hangs_up(call="a")


def test_a_caller_who_gives_up_while_the_store_thinks(one: World) -> None:
    world = one
    world.pbx.sends("INVITE", headers=X_RECORD)
    world.pbx.sends("CANCEL")
    world.pbx.gets("100")
    if world.store.kind.same_turn:
        world.carrier.gets("INVITE")
        world.pbx.gets("200 CANCEL")
        world.carrier.sends("487")
        world.carrier.gets("ACK")
    else:
        world.pbx.gets("200 CANCEL")
    world.pbx.gets("487")
    world.pbx.sends("ACK")
    world.holds_nothing()


# -- how it ends: the licence goes exactly once -----------------------------------------------------------------


def _busy(world: World) -> None:
    world.pbx.sends("INVITE", headers=X_RECORD, body=ON)
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.holds(outbound=1, recorded=1)
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def _cancelled(world: World) -> None:
    world.pbx.sends("INVITE", headers=X_RECORD, body=ON)
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("180")
    world.pbx.gets("180")
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 CANCEL")
    world.carrier.sends("487 INVITE")
    world.carrier.gets("ACK")
    world.pbx.gets("487")
    world.pbx.sends("ACK")


def _silent(world: World) -> None:
    world.pbx.sends("INVITE", headers=X_RECORD, body=ON)
    world.pbx.gets("100")
    world.after(32.1)
    world.carrier.inbox.clear()
    world.pbx.gets("408")
    world.pbx.sends("ACK")


def _undeliverable(world: World) -> None:
    world.pbx.sends("INVITE", headers=X_RECORD, body=ON)
    world.pbx.gets("100")
    world.unreachable(world.carrier.gets("INVITE"))
    world.pbx.gets("503")
    world.pbx.sends("ACK")


def _hung_up(world: World) -> None:
    world.talks(headers=X_RECORD, body=ON)
    world.hangs_up()


def _hung_up_there(world: World) -> None:
    world.talks(headers=X_RECORD, body=ON)
    world.hangs_up(world.carrier)


def _crossing(world: World) -> None:
    world.talks(headers=X_RECORD, body=ON)
    world.pbx.sends("BYE")
    world.carrier.sends("BYE")
    world.carrier.gets("BYE")
    world.pbx.gets("BYE")
    world.carrier.sends("200 BYE")
    world.pbx.sends("200 BYE")
    world.pbx.gets("200 BYE")
    world.carrier.gets("200 BYE")


def _dead(world: World) -> None:
    world.talks(headers=X_RECORD, body=ON)
    world.pbx.sends("re-INVITE", body=ON)
    world.pbx.gets("100")
    world.carrier.gets("re-INVITE")
    world.carrier.sends("481 re-INVITE")
    world.carrier.gets("ACK")
    world.pbx.gets("481")
    world.pbx.sends("ACK")


def _never_acknowledged(world: World) -> None:
    world.pbx.sends("INVITE", headers=X_RECORD, body=ON)
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.after(70)


def _released(world: World) -> None:
    world.talks(headers=X_RECORD, body=ON)
    call = next(iter(world.core.by_call_id.values()))
    world.core.free_lines(call, "released", world.now)
    world.carries_out()
    world.settle()
    assert world.used("recordings") == 0
    world.hangs_up()


ENDS = {
    "busy": _busy,
    "cancelled": _cancelled,
    "no answer": _silent,
    "transport": _undeliverable,
    "BYE": _hung_up,
    "BYE of the callee": _hung_up_there,
    "both BYE": _crossing,
    "481": _dead,
    "no ACK": _never_acknowledged,
    "released by hand": _released,
}


@pytest.mark.parametrize("how", ENDS)
def test_the_licence_is_given_back_once(one: World, how: str) -> None:
    """Whatever ends the call; `ends` sees that no claim goes back twice."""
    ENDS[how](one)
    one.holds_nothing()
    one.talks(call="again", headers=X_RECORD)
    one.holds(outbound=1, recorded=1)
    one.hangs_up(call="again")


def test_a_failover_holds_one_licence(ladder: Ladder) -> None:
    world = ladder(recordings=1, gateways=2)
    world.pbx.sends("INVITE", body=ON)
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("503")
    world.carrier.gets("ACK")
    second = world.gateways[1]
    second.gets("INVITE")
    world.holds(outbound=1, recorded=1)
    second.sends("200", body=ON)
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    second.gets("ACK")
    world.holds(outbound=1, recorded=1)
    world.pbx.sends("BYE")
    second.gets("BYE")
    second.sends("200 BYE")
    world.pbx.gets("200 BYE")


# -- accepted without recording ---------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", [b"a=recordpref:on\r\n", b"a=recordpref: ON\r\n"])
@pytest.mark.parametrize("over", ["UDP", "TCP"])
def test_it_goes_on_unrecorded(ladder: Ladder, over: str, wish: bytes) -> None:
    """X-Record and a=recordpref:on are taken off, Content-Length follows, all else is as it was."""
    world = ladder(recordings=1, unrecorded=True, carrier_over=over)
    fills(world)
    after = b"a=ptime:20\r\n"
    world.talks(call="next", headers=("x-record :\r\n yes",), body=SDP + wish + after, change={})
    sent = world.carrier.legs[world.labels["next"]].got[0]
    assert sent.body == SDP + after
    assert sent.get("content-length") == str(len(SDP + after))
    assert not sent.has("x-record")
    world.holds(outbound=2, recorded=1)
    assert alerts(world) == [("warning", False)]
    world.hangs_up(call="next")
    world.hangs_up(call="first")
    next_one, first = world.records
    assert (next_one.recorded, first.recorded) == (False, True)
    assert next_one.reason == "goes on unrecorded: recordings 2/1"
    assert (next_one.verdict, next_one.rule) == ("passed", "")


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_a_notice_is_never_touched(unrecorded: World, caller: str) -> None:
    """Whoever says that he records goes on saying it to the other: it is counted, and a person is told as long as it
    lasts."""
    world = unrecorded
    fills(world)
    who = world.pbx if caller == "pbx" else world.carrier
    world.talks(who, call="next", body=ON)
    other = world.carrier if who is world.pbx else world.pbx
    assert other.legs[world.labels["next"]].got[0].body == ON
    world.holds(outbound=1 + (caller == "pbx"), inbound=int(caller != "pbx"), recorded=2)
    assert alerts(world) == [("critical", False)]
    world.hangs_up(who, call="next")
    assert alerts(world) == [("critical", False), ("critical", True)]
    world.hangs_up(call="first")


def test_wish_and_notice_over_the_limit(unrecorded: World) -> None:
    world = unrecorded
    fills(world)
    world.talks(call="next", headers=X_RECORD, body=WISHES + b"a=record:on\r\n")
    assert world.carrier.legs[world.labels["next"]].got[0].body == ON
    world.holds(outbound=2, recorded=2)
    assert alerts(world) == [("warning", False), ("critical", False)]
    world.hangs_up(call="next")
    world.hangs_up(call="first")


def test_the_wish_stays_within_the_limit(unrecorded: World) -> None:
    unrecorded.talks(body=WISHES)
    unrecorded.holds(outbound=1, recorded=1)
    unrecorded.hangs_up()


# -- in the middle of a call ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["re-INVITE", "UPDATE"])
@pytest.mark.parametrize("side", ["pbx", "carrier"])
def test_it_starts_in_the_middle(one: World, side: str, method: str) -> None:
    world = one
    world.talks()
    who, other = (world.pbx, world.carrier) if side == "pbx" else (world.carrier, world.pbx)
    who.sends(method, body=ON)
    if method == "re-INVITE":
        who.gets("100")
    other.gets(method)
    world.holds(outbound=1, recorded=1)
    other.sends(f"200 {method}", body=SDP)
    who.gets("200")
    if method == "re-INVITE":
        who.sends("ACK")
        other.gets("ACK")
    world.holds(outbound=1, recorded=1)
    says(world, who, PAUSED)
    world.holds(outbound=1)
    says(world, who, ON)
    world.holds(outbound=1, recorded=1)
    says(world, who, OFF)
    world.holds(outbound=1)
    world.hangs_up()
    assert world.record().recorded


@pytest.mark.parametrize("policy", [False, True], ids=["reject", "unrecorded"])
@pytest.mark.parametrize("message", [{"body": ON}, {"headers": X_RECORD}, {"body": WISHES}])
@pytest.mark.parametrize("method", ["re-INVITE", "UPDATE"])
def test_it_does_not_start_over_the_limit(
    ladder: Ladder, method: str, message: dict[str, object], policy: bool
) -> None:
    """488, and the call goes on as it was."""
    world = ladder(recordings=1, unrecorded=policy)
    fills(world)
    world.talks(call="plain")
    world.pbx.sends(method, call="plain", **message)  # type: ignore[arg-type]
    refusal = world.pbx.gets("488", call="plain")
    assert told(refusal) == ONE_REFUSAL
    if method == "re-INVITE":
        world.pbx.sends("ACK", call="plain")
    world.carrier.gets_nothing()
    world.holds(outbound=2, recorded=1)
    assert alerts(world) == [("warning", False)]
    world.hangs_up(call="first")
    world.pbx.current = world.labels["plain"]
    says(
        world,
        world.pbx,
        **({"offer": SDP} | {("offer" if k == "body" else k): v for k, v in message.items()}),
    )
    world.holds(outbound=1, recorded=1)
    world.hangs_up(call="plain")


def test_the_other_side_is_not_told_why(one: World) -> None:
    world = one
    fills(world)
    world.talks(call="plain")
    world.carrier.sends("re-INVITE", call="plain", body=ON)
    assert told(world.carrier.gets("488")) == ["", ""]
    world.carrier.sends("ACK")
    world.hangs_up(call="plain")
    world.hangs_up(call="first")


@pytest.mark.parametrize("code", [488, 491, 500])
def test_an_offer_that_is_not_taken(one: World, code: int) -> None:
    """It is as it was before: not recorded, or recorded still."""
    world = one
    world.talks()
    says(world, world.pbx, ON, code=code)
    world.holds(outbound=1)
    says(world, world.pbx, ON)
    world.holds(outbound=1, recorded=1)
    says(world, world.pbx, OFF, code=code)
    world.holds(outbound=1, recorded=1)
    says(world, world.pbx, ON, code=code)
    world.holds(outbound=1, recorded=1)
    world.hangs_up()


def test_an_update_that_nobody_answers(one: World) -> None:
    world = one
    world.talks()
    world.pbx.sends("UPDATE", body=ON)
    world.carrier.gets("UPDATE")
    world.holds(outbound=1, recorded=1)
    world.after(33)
    world.carrier.inbox.clear()
    world.pbx.gets("100")
    world.holds(outbound=1)
    world.hangs_up()


def test_a_re_invite_that_is_cancelled_while_the_store_thinks(one: World) -> None:
    world = one
    world.talks()
    world.pbx.sends("re-INVITE", body=ON)
    world.pbx.sends("CANCEL")
    if world.store.kind.same_turn:
        world.pbx.gets("100")
        world.pbx.gets("200 CANCEL")
        world.carrier.gets("re-INVITE")
        world.carrier.sends("487 re-INVITE")
        world.carrier.gets("ACK")
    else:
        world.pbx.gets("200 CANCEL")
    world.pbx.gets("487")
    world.pbx.sends("ACK")
    world.holds(outbound=1)
    world.hangs_up()


def in_flight(world: World, method: str = "re-INVITE") -> None:
    """An offer of the PBX that recording starts, on its way to the carrier."""
    world.pbx.sends(method, body=ON)
    if method == "re-INVITE":
        world.pbx.gets("100")
    world.carrier.gets(method)


@pytest.mark.parametrize("first", ["re-INVITE", "UPDATE"])
@pytest.mark.parametrize("taken", ["re-INVITE", "UPDATE"])
def test_two_offers_at_once(one: World, first: str, taken: str) -> None:
    """One is taken and one is not, whichever comes first: the call is recorded."""
    world = one
    world.talks()
    other = "UPDATE" if taken == "re-INVITE" else "re-INVITE"
    for method in ("re-INVITE", "UPDATE"):
        in_flight(world, method)
    world.holds(outbound=1, recorded=1)
    codes = {taken: "200", other: "491"}
    for method in (first, "UPDATE" if first == "re-INVITE" else "re-INVITE"):
        world.carrier.sends(f"{codes[method]} {method}", body=SDP if codes[method] == "200" else b"")
        if codes["re-INVITE"] == "491" and method == "re-INVITE":
            world.carrier.gets("ACK")
        world.pbx.gets(codes[method])
        if method == "re-INVITE":
            world.pbx.sends("ACK")
            if codes[method] == "200":
                world.carrier.gets("ACK")
    world.holds(outbound=1, recorded=1)
    says(world, world.pbx, OFF)
    world.holds(outbound=1)
    world.hangs_up()
    assert world.record().recorded


def test_two_offers_that_are_not_taken(one: World) -> None:
    world = one
    world.talks()
    for method in ("re-INVITE", "UPDATE"):
        in_flight(world, method)
    world.carrier.sends("491 UPDATE")
    world.pbx.gets("491")
    world.holds(outbound=1, recorded=1)
    world.carrier.sends("491 re-INVITE")
    world.carrier.gets("ACK")
    world.pbx.gets("491")
    world.pbx.sends("ACK")
    world.holds(outbound=1)
    world.hangs_up()
    assert not world.record().recorded


def test_two_offers_while_the_store_thinks() -> None:
    """Neither passes before there is a licence."""
    world = World(LATE, recordings=1)
    fills(world)
    world.talks(call="next")
    world.pbx.sends("re-INVITE", call="next", body=ON)
    world.pbx.sends("UPDATE", call="next", body=ON)
    world.carrier.gets_nothing()
    got = [world.pbx.gets("488", call="next").cseq for _ in range(2)]
    assert len(got) == 2
    world.pbx.sends("ACK", call="next")
    world.holds(outbound=2, recorded=1)
    world.carrier.gets_nothing()
    world.hangs_up(call="next")
    world.hangs_up(call="first")
    world.ends()


def test_off_while_an_offer_is_on_its_way(one: World) -> None:
    """What is taken last holds."""
    world = one
    world.talks()
    in_flight(world)
    world.pbx.sends("UPDATE", body=OFF)
    world.carrier.gets("UPDATE")
    world.carrier.sends("200 UPDATE", body=SDP)
    world.pbx.gets("200")
    world.carrier.sends("200 re-INVITE", body=SDP)
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.holds(outbound=1, recorded=1)
    says(world, world.pbx, OFF)
    world.hangs_up()


def test_the_call_ends_while_the_store_thinks(one: World) -> None:
    """The re-INVITE and the BYE each get their answer."""
    world = one
    world.talks()
    world.pbx.sends("re-INVITE", body=ON)
    world.carrier.sends("BYE")
    world.settle()
    texts = [text for _, text in world.carrier.inbox]
    world.carrier.inbox.clear()
    for text in texts:
        world.carrier.read(text)
        if text.method == "INVITE" and not text.code:
            world.carrier.sends("481 re-INVITE")
            world.carrier.gets("ACK")
    world.pbx.takes_refusals()
    world.pbx.sends("200 BYE")
    world.pbx.inbox.clear()
    world.carrier.gets("200 BYE")
    world.holds_nothing()


# -- in an answer -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("code", ["183", "200"])
def test_an_answer_tells_it(one: World, caller: str, code: str) -> None:
    """It is recorded already: counted whatever the limit, told to a person, and free at its end."""
    world = one
    fills(world)
    a, b = (world.pbx, world.carrier) if caller == "pbx" else (world.carrier, world.pbx)
    a.sends("INVITE", call="next")
    a.gets("100", call="next")
    b.gets("INVITE", call="next")
    if code == "183":
        b.sends("183", call="next", body=ON)
        a.gets("183", call="next")
        world.settle()
        assert world.used("recordings") == 2
    b.sends("200", call="next", body=ON)
    a.gets("200", call="next")
    a.sends("ACK", call="next")
    b.gets("ACK", call="next")
    world.holds(outbound=1 + (a is world.pbx), inbound=int(a is not world.pbx), recorded=2)
    assert alerts(world) == [("critical", False)]
    world.hangs_up(call="first")
    assert alerts(world) == [("critical", False), ("critical", True)]
    world.hangs_up(a, call="next")
    assert alerts(world) == [("critical", False), ("critical", True)]
    assert world.records[-1].recorded


@pytest.mark.parametrize("message", [{"headers": X_RECORD}, {"body": WISHES}, {"body": ON}])
def test_the_pbx_answers_that_it_records(one: World, message: dict[str, object]) -> None:
    world = one
    world.carrier.sends("INVITE")
    world.carrier.gets("100")
    world.pbx.gets("INVITE")
    world.pbx.sends("200", **message)  # type: ignore[arg-type]
    assert not world.carrier.gets("200").has("x-record")
    world.carrier.sends("ACK")
    world.pbx.gets("ACK")
    world.holds(inbound=1, recorded=1)
    world.hangs_up(world.carrier)
    world.holds_nothing()


def test_the_answer_in_an_ack(one: World) -> None:
    """The offer came in the 2xx (RFC 3264 §4)."""
    world = one
    world.pbx.sends("INVITE", body=b"")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("200")
    world.pbx.gets("200")
    leg = world.pbx.legs[world.pbx.current]
    assert leg.dialog is not None
    assert leg.invite is not None
    lines = world.pbx._in_dialog("ACK", leg.invite.cseq, leg, leg.dialog)
    world.pbx.transmits(world.pbx._write(lines, "ACK", (), {}, ON).data)
    world.carrier.gets("ACK")
    world.holds(outbound=1, recorded=1)
    world.hangs_up()


def test_the_answer_in_a_prack(one: World) -> None:
    """RFC 3262 §5."""
    world = one
    fills(world)
    world.pbx.sends("INVITE", call="next", body=b"")
    world.pbx.gets("100", call="next")
    world.carrier.gets("INVITE", call="next")
    world.carrier.sends("183", call="next", headers=("Require: 100rel", "RSeq: 1"), body=SDP)
    world.pbx.gets("183", call="next")
    world.pbx.sends("PRACK", call="next", headers=("RAck: 1 1 INVITE",), body=ON)
    world.carrier.gets("PRACK", call="next")
    world.settle()
    assert world.used("recordings") == 2
    world.carrier.sends("200 PRACK", call="next")
    world.pbx.gets("200 PRACK", call="next")
    world.carrier.sends("200 INVITE", call="next", body=b"")
    world.pbx.gets("200", call="next")
    world.pbx.sends("ACK", call="next")
    world.carrier.gets("ACK", call="next")
    world.holds(outbound=2, recorded=2)
    world.hangs_up(call="next")
    world.hangs_up(call="first")


def test_both_sides_record(one: World) -> None:
    """Free when the last of them has stopped."""
    world = one
    world.talks(body=ON)
    says(world, world.carrier, ON, ON)
    says(world, world.pbx, OFF)
    world.holds(outbound=1, recorded=1)
    says(world, world.carrier, PAUSED)
    world.holds(outbound=1)
    world.hangs_up()


def test_off_in_an_answer(one: World) -> None:
    """The other side does not record though it was asked to: that wish holds no licence."""
    world = one
    world.pbx.sends("INVITE", body=WISHES)
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("200", body=OFF)
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.holds(outbound=1)
    world.hangs_up()


@pytest.mark.parametrize(
    "message",
    [{"offer": OFF}, {"offer": PAUSED}, {"offer": SDP, "headers": ("X-Record: no",)}],
    ids=["off", "paused", "no"],
)
def test_the_pbx_takes_its_header_back(one: World, message: dict[str, object]) -> None:
    world = one
    world.talks(headers=X_RECORD)
    says(world, world.pbx, **message)  # type: ignore[arg-type]
    world.holds(outbound=1)
    world.hangs_up()


def test_a_second_copy_of_an_answer_starts_nothing(one: World) -> None:
    world = one
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("200", body=ON)
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    says(world, world.carrier, OFF)
    world.holds(outbound=1)
    world.carrier.repeats("200")
    world.pbx.inbox.clear()
    world.holds(outbound=1)
    world.hangs_up()


# -- forwards, emergency calls, shadow mode ---------------------------------------------------------------------


def test_a_forward_that_the_gate_makes_is_one_call(ladder: Ladder) -> None:
    """Both legs say it; one licence, until the last leg has ended."""
    world = ladder(route=(Step(onward=b"tel:0312345678"),), forwarded_calls=5, lines=10, recordings=1)
    world.carrier.sends("INVITE", call="near", body=ON)
    world.carrier.gets("100", call="near")
    far = world.carrier.gets("INVITE")
    assert far.body == ON
    world.labels["far"] = far.call_id
    world.holds(inbound=1, forwarded=1, recorded=1)
    world.carrier.sends("200", call="far", body=ON)
    world.carrier.gets("200", call="near")
    world.carrier.sends("ACK", call="near")
    world.carrier.gets("ACK", call="far")
    world.holds(inbound=1, forwarded=1, recorded=1)
    world.carrier.sends("BYE", call="near")
    world.carrier.gets("200 BYE", call="near")
    world.carrier.gets("BYE", call="far")
    world.carrier.sends("200 BYE", call="far")
    world.holds_nothing()


def test_what_the_caller_of_a_forward_wishes_is_none(ladder: Ladder) -> None:
    """The gate's own end of it repeats what it was told: that is no wish of the PBX."""
    world = ladder(route=(Step(onward=b"tel:0312345678"),), forwarded_calls=5, lines=10, recordings=1)
    world.carrier.sends("INVITE", call="near", body=WISHES)
    world.carrier.gets("100", call="near")
    far = world.carrier.gets("INVITE")
    world.labels["far"] = far.call_id
    world.holds(inbound=1, forwarded=1)
    world.carrier.sends("486", call="far")
    world.carrier.gets("ACK", call="far")
    world.carrier.gets("486", call="near")
    world.carrier.sends("ACK", call="near")


@pytest.mark.parametrize("first", ["near", "far"])
def test_a_forward_of_the_pbx_is_one_call(ladder: Ladder, first: str) -> None:
    world = ladder(forwarded_calls=5, lines=10, recordings=1)
    world.talks(world.carrier, call="near", body=ON)
    world.talks(call="far", headers=(f"X-Inbound-Call-ID: {world.labels['near']}", "X-Record: yes"))
    world.holds(inbound=1, forwarded=1, recorded=1)
    if first == "near":
        world.hangs_up(world.carrier, call="near")
        world.settle()
        assert world.used("recordings") == 1
        world.hangs_up(call="far")
    else:
        world.hangs_up(call="far")
        world.holds(inbound=1, recorded=1)
        world.hangs_up(world.carrier, call="near")
    world.holds_nothing()


def test_the_alert_ends_with_the_excess(unrecorded: World) -> None:
    """Whichever call ends: within the limit nothing stands any more."""
    world = unrecorded
    fills(world)
    world.talks(call="b", body=ON)
    world.talks(call="c", body=ON)
    world.holds(outbound=3, recorded=3)
    assert alerts(world).count(("critical", False)) == 1
    world.hangs_up(call="first")
    world.holds(outbound=2, recorded=2)
    assert ("critical", True) not in alerts(world)
    world.hangs_up(call="b")
    world.holds(outbound=1, recorded=1)
    assert ("critical", True) in alerts(world)
    world.hangs_up(call="c")


def test_a_limit_that_a_reload_brings(ladder: Ladder) -> None:
    """Calls that are recorded already count; none of them is ended."""
    world = ladder()
    for call in "abc":
        world.talks(call=call, headers=X_RECORD)
    reload(world, recordings=1)
    world.settle()
    assert world.used("recordings") == 3
    assert alerts(world) == [("critical", False)]
    world.pbx.sends("INVITE", call="d", headers=X_RECORD)
    world.pbx.gets("100", call="d")
    assert world.pbx.gets("503", call="d").get("x-callgate-verdict") == "rule=I1;value=4;limit=1"
    world.pbx.sends("ACK", call="d")
    for call in "abc":
        world.hangs_up(call=call)
    world.settle()
    assert world.used("recordings") == 0
    assert ("critical", True) in alerts(world)


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_a_name_makes_no_two_calls_one(ladder: Ladder, caller: str) -> None:
    """A conference may have one session identifier (RFC 7989), and whoever calls may copy another's."""
    world = ladder(recordings=2)
    same = f"Session-ID: {'ab' * 16};remote={'0' * 32}"
    world.talks(call="a", headers=(*X_RECORD, same))
    world.talks(getattr(world, caller), call="b", headers=(same,), body=ON)
    lines = {"outbound": 2} if caller == "pbx" else {"outbound": 1, "inbound": 1}
    world.holds(**lines, recorded=2)
    world.hangs_up(call="a")
    world.holds(**{**lines, "outbound": lines["outbound"] - 1}, recorded=1)
    world.hangs_up(getattr(world, caller), call="b")
    world.holds_nothing()


def test_two_calls_with_the_same_call_id(one: World) -> None:
    world = one
    world.talks(call="a", headers=X_RECORD)
    leg = world.pbx.legs[world.labels["a"]]
    world.pbx.sends("INVITE", call="b", headers=X_RECORD, change={"call-id": world.labels["a"]})
    world.pbx.gets("100")
    assert told(world.pbx.gets("503")) == ONE_REFUSAL
    world.pbx.sends("ACK")
    world.holds(outbound=1, recorded=1)
    world.pbx.legs[world.labels["a"]] = leg
    world.hangs_up(call="a")


def test_an_emergency_call_is_never_refused(ladder: Ladder) -> None:
    world = ladder(recordings=1, emergency="carrier")
    fills(world)
    world.talks(call="help", to="119", headers=X_RECORD, body=ON)
    world.holds(outbound=2, recorded=2)
    assert alerts(world) == []
    assert alerts(world, "I1+EMG") == [("warning", False)]
    says(world, world.pbx, SDP)
    world.hangs_up(call="help")
    world.holds(outbound=1, recorded=1)
    world.hangs_up(call="first")


@pytest.mark.parametrize("who", ["pbx", "route"])
def test_an_emergency_call_by_a_route_of_its_own(ladder: Ladder, who: str) -> None:
    """Counted and told of like any that is recorded, whoever says so; never refused, never held up."""
    world = ladder(recordings=1, emergency="route")
    fills(world)
    route = world.routes[0]
    before = world.now
    world.pbx.sends("INVITE", call="help", to="119", headers=X_RECORD if who == "pbx" else ())
    world.pbx.gets("100", call="help")
    route.gets("INVITE", call="help")
    assert world.now == before
    route.sends("200", call="help", body=ON if who == "route" else SDP)
    world.pbx.gets("200", call="help")
    world.pbx.sends("ACK", call="help")
    route.gets("ACK", call="help")
    world.settle()
    assert world.used("recordings") == 2
    assert alerts(world, "I1+EMG") == [("warning", False)]
    assert alerts(world) == []
    world.pbx.sends("BYE", call="help")
    route.gets("BYE", call="help")
    route.sends("200 BYE", call="help")
    world.pbx.gets("200", call="help")
    world.holds(outbound=1, recorded=1)
    world.hangs_up(call="first")
    assert all(record.recorded for record in world.records)


def test_recording_of_an_emergency_call_starts_in_the_middle(ladder: Ladder) -> None:
    world = ladder(recordings=1, emergency="carrier")
    fills(world)
    world.talks(call="help", to="119")
    says(world, world.pbx, ON)
    world.holds(outbound=2, recorded=2)
    world.hangs_up(call="help")
    world.hangs_up(call="first")


@pytest.mark.parametrize("policy", [False, True], ids=["reject", "unrecorded"])
def test_shadow_mode(ladder: Ladder, policy: bool) -> None:
    """All passes as it is, counted, and it is noted what would have become of it."""
    world = ladder(recordings=1, unrecorded=policy)
    world.key.shadow = True
    fills(world)
    world.talks(call="next", headers=X_RECORD, body=WISHES)
    assert world.carrier.legs[world.labels["next"]].got[0].body == WISHES
    world.talks(call="later")
    says(world, world.pbx, ON)
    world.talks(call="told")
    says(world, world.pbx, SDP, ON)
    world.holds(outbound=4, recorded=4)
    for call in ("first", "next", "later", "told"):
        world.hangs_up(call=call)
    assert [(r.shadow, r.rule, r.value, r.limit) for r in world.records] == [
        (False, "", 0, 0),
        (True, "I1", 2, 1),
        (True, "I1", 3, 1),
        (True, "I1", 4, 1),
    ]
    assert world.records[1].reason == "would have been refused: recordings"
    assert set(alerts(world)) == {("info", False)}


def test_a_call_that_waits_for_its_turn(ladder: Ladder) -> None:
    """Over the limit it is refused at once; one that gives up gives its licence back."""
    world = ladder(recordings=1, cps=1, queue_seconds=2.0)
    world.talks(call="a")
    world.pbx.sends("INVITE", call="b", headers=X_RECORD)
    world.pbx.gets("100", call="b")
    world.pbx.sends("INVITE", call="c", headers=X_RECORD)
    world.pbx.gets("100", call="c")
    world.pbx.gets("503", call="c")
    world.pbx.sends("ACK", call="c")
    world.pbx.sends("CANCEL", call="b")
    world.pbx.gets("200 CANCEL", call="b")
    world.pbx.gets("487", call="b")
    world.pbx.sends("ACK", call="b")
    world.holds(outbound=1)
    world.hangs_up(call="a")


def test_the_lease_outlasts_the_call(ladder: Ladder) -> None:
    """A licence that was taken at the start is held for as long as the call may be up."""
    world = ladder(recordings=1, max_call_seconds=7200.0)
    world.talks(headers=X_RECORD)
    world.after(3600)
    world.holds(outbound=1, recorded=1)
    world.hangs_up()


def test_a_trunks_own_limit(ladder: Ladder) -> None:
    from callgate.policy.profile import Limits

    world = ladder(recordings=5, trunk_limits=Limits(recordings=1))
    fills(world)
    world.pbx.sends("INVITE", call="next", headers=X_RECORD)
    world.pbx.gets("100", call="next")
    assert told(world.pbx.gets("503", call="next")) == [
        "I1 recordings 2/1, over all keys of the trunk",
        "rule=I1;value=2;limit=1",
    ]
    world.pbx.sends("ACK", call="next")
    world.hangs_up(call="first")


def test_an_unrecorded_call_costs_the_store_nothing(one: World) -> None:
    one.talks()
    one.settle()
    assert one.store.asked == 1
    assert not len(one.core.recordings)
    one.hangs_up()
