"""Who may be called when: the redial gap (K4), quiet hours (T15), the consent list (T14); and what is told without
being refused: many numbers at once (V2), the same call again and again (V13), fax (K7)."""

from __future__ import annotations

from datetime import date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.examples import many
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import DIALLED, World
from tests.proxy.stores import SAME_TURN
from tests.proxy.text import Text

from callgate.policy.hours import QuietHours
from callgate.policy.numberset import NumberSet
from callgate.policy.watch import Watching

FAX = (
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    b"m=image 4000 udptl t38\r\na=T38FaxVersion:0\r\n"
)


def passes(world: World, call: str, to: str = DIALLED, **invite: object) -> None:
    """It reaches the carrier, which says that it is busy."""
    world.pbx.sends("INVITE", call=call, to=to, **invite)  # type: ignore[arg-type]
    world.pbx.gets("100", call=call)
    world.settle()
    world.carrier.gets("INVITE", call=call)
    world.carrier.sends("486", call=call)
    world.carrier.gets("ACK", call=call)
    world.pbx.gets("486", call=call)
    world.pbx.sends("ACK", call=call)


def is_refused(world: World, call: str, code: str, to: str = DIALLED, asks: bool = True) -> Text:
    world.pbx.sends("INVITE", call=call, to=to)
    if asks:
        world.pbx.gets("100", call=call)
        world.settle()
    answer = world.pbx.gets(code, call=call)
    world.pbx.sends("ACK", call=call)
    world.carrier.gets_nothing()
    assert not answer.has("retry-after")
    return answer


def clock(world: World, text: str) -> None:
    """It is this time in Tokyo."""
    utc = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Asia/Tokyo")).timestamp()
    world.core.clock(utc - world.now, world.now)


def rules(world: World) -> list[str]:
    return [alert.rule for alert in world.alerts if not alert.resolved]


# -- K4 ------------------------------------------------------------------------------------------------


def test_the_same_number_too_soon(ladder: Ladder) -> None:
    """By its canonical form; from the last INVITE sent: refused tries don't extend it."""
    world = ladder(gap=3.0)
    passes(world, "a")
    start = world.now
    passes(world, "b", to="0312345679")
    for n, (wait, to) in enumerate([(1.0, DIALLED), (2.0, "+81312345678"), (2.9, "1840312345678")]):
        world.until(start + wait)
        answer = is_refused(world, f"c{n}", "403", to=to)
        assert answer.get("x-callgate-verdict") == f"rule=K4;value={int(wait)};limit=3"
        assert "redial gap" in answer.get("warning")
        assert "seconds" in answer.get("warning")
    world.until(start + 3.02)
    passes(world, "d")
    assert [r.rule for r in world.records] == ["", "", "K4", "K4", "K4", ""]


def test_while_the_first_is_not_sent_yet(ladder: Ladder) -> None:
    """Two in the same moment: one goes."""
    world = ladder(gap=3.0)
    world.pbx.sends("INVITE", call="a")
    world.pbx.sends("INVITE", call="b")
    world.pbx.gets("100", call="a")
    world.pbx.gets("100", call="b")
    world.settle()
    world.carrier.gets("INVITE", call="a")
    world.pbx.gets("403", call="b")
    world.pbx.sends("ACK", call="b")
    world.carrier.sends("486", call="a")
    world.carrier.gets("ACK", call="a")
    world.pbx.gets("486", call="a")
    world.pbx.sends("ACK", call="a")


def test_a_further_gateway_is_no_redial_and_counts_from_then(ladder: Ladder) -> None:
    world = ladder(gap=6.0, gateways=2)
    world.pbx.sends("INVITE", call="a")
    world.pbx.gets("100", call="a")
    world.after(4.1)
    world.carrier.gets("INVITE", times=4)
    two = world.gateways[1]
    two.gets("INVITE")
    two.sends("486")
    two.gets("ACK")
    world.pbx.gets("486", call="a")
    world.pbx.sends("ACK", call="a")
    world.after(3.0)  # 7 s after the first, 3 s after the last
    is_refused(world, "b", "403")


def test_the_answer_to_a_challenge_is_no_redial(ladder: Ladder) -> None:
    world = ladder(gap=3.0)
    sent = world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.settle()
    world.carrier.gets("INVITE")
    world.carrier.sends("407", headers=['Proxy-Authenticate: Digest realm="t", nonce="n"'])
    world.carrier.gets("ACK")
    world.pbx.gets("407")
    world.pbx.sends("ACK")
    again = {"call-id": sent.call_id, "from": sent.get("from"), "cseq": "2 INVITE"}
    passes(world, "again", change=again)


def test_a_refused_call_leaves_no_gap(ladder: Ladder) -> None:
    """It was never sent."""
    world = ladder(gap=3.0, outbound_calls=0)
    for call in "ab":
        assert is_refused(world, call, "503").get("x-callgate-verdict").startswith("rule=C2")


@settings(max_examples=many(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(waits=st.lists(st.sampled_from([0.0, 0.4, 1.1, 2.0, 2.9, 3.1, 5.0]), min_size=1, max_size=12))
def test_never_two_within_the_gap(waits: list[float]) -> None:
    """However the calls come: between two INVITEs of one number there is the gap, and a call after it goes."""
    world = World(SAME_TURN, gap=3.0)
    sent: list[float] = []
    for n, wait in enumerate(waits):
        world.after(wait)
        may = not sent or world.now >= sent[-1] + 3.0
        if may:
            passes(world, f"c{n}")
            sent.append(world.now)
        else:
            is_refused(world, f"c{n}", "403")
    assert all(b - a >= 3.0 for a, b in pairwise(sent))
    world.ends()


# -- T15 -----------------------------------------------------------------------------------------------


def test_quiet_hours(ladder: Ladder) -> None:
    """Refused without asking the store; abroad it may be day."""
    world = ladder(quiet_hours=QuietHours())
    clock(world, "2026-12-01 20:59:30")
    passes(world, "a")
    world.after(60.0)
    answer = is_refused(world, "b", "403", asks=False)
    assert answer.get("x-callgate-verdict") == "rule=T15"
    assert "it is 21:00 in Asia/Tokyo, quiet hours are 21:00-08:00" in answer.get("warning")
    passes(world, "c", to="01033142685300")
    assert [r.rule for r in world.records] == ["", "T15", ""]
    assert not world.alerts


def test_the_wall_clock_steps(ladder: Ladder) -> None:
    """Calendar rules follow it, live windows do not."""
    world = ladder(quiet_hours=QuietHours(), gap=3.0, cps=1)
    clock(world, "2026-12-01 12:00")
    passes(world, "a")
    clock(world, "2026-12-01 22:00")
    is_refused(world, "b", "403", asks=False)
    clock(world, "2026-12-02 12:00")
    world.after(0.5)
    assert is_refused(world, "c", "503", to="0312345679").get("x-callgate-verdict").startswith("rule=V1")
    world.after(1.0)
    assert is_refused(world, "d", "403").get("x-callgate-verdict").startswith("rule=K4")
    clock(world, "2026-11-01 12:00")
    world.after(1.6)
    passes(world, "e")


def test_emergency_and_calls_in_know_no_rest(ladder: Ladder) -> None:
    world = ladder(quiet_hours=QuietHours(), consent=NumberSet(), emergency="route")
    clock(world, "2026-12-01 03:00")
    world.talks(world.carrier, call="in")
    world.hangs_up(world.carrier, call="in")
    world.pbx.sends("INVITE", to="119")
    world.pbx.gets("100")
    route = world.routes[0]
    route.gets("INVITE")
    route.sends("403")
    route.gets("ACK")
    world.pbx.gets("403")
    world.pbx.sends("ACK")


def test_exceptions(ladder: Ladder) -> None:
    hours = QuietHours(
        free_dates=frozenset({date(2026, 12, 2)}), free_numbers=NumberSet([(81312345678, 81312345678)])
    )
    world = ladder(quiet_hours=hours)
    clock(world, "2026-12-01 03:00")
    passes(world, "a")
    is_refused(world, "b", "403", to="0312345679", asks=False)
    clock(world, "2026-12-02 03:00")
    passes(world, "c", to="0312345679")


# -- T14 -----------------------------------------------------------------------------------------------


def test_only_who_has_agreed(ladder: Ladder) -> None:
    world = ladder(consent=NumberSet([(81312345678, 81312345678), (819012345600, 819012345699)]))
    passes(world, "a")
    passes(world, "b", to="+819012345650")
    answer = is_refused(world, "c", "403", to="0312345679", asks=False)
    assert answer.get("x-callgate-verdict") == "rule=T14"
    assert "consent list" in answer.get("warning")
    assert [r.rule for r in world.records] == ["", "", "T14"]


# -- V2, V13, K7 -----------------------------------------------------------------------------------------


def test_many_numbers_within_a_minute(ladder: Ladder) -> None:
    """100 triggers; calls abroad and to the same number don't count; nothing is held."""
    world = ladder(watching=Watching(distinct=3))
    for n, to in enumerate(["0312345670", "0312345671", "+81312345671", "01033142685300"]):
        passes(world, f"a{n}", to=to)
    assert not rules(world)
    passes(world, "b", to="0312345672")
    assert rules(world) == ["V2"]
    assert (world.alerts[0].value, world.alerts[0].limit, world.alerts[0].severity) == (3, 3, "warning")
    world.after(61.0)
    passes(world, "c", to="0312345673")
    assert rules(world) == ["V2"]


def test_many_numbers_up_at_once(ladder: Ladder) -> None:
    """However slowly they came."""
    world = ladder(watching=Watching(distinct=3))
    for n in range(3):
        world.talks(call=f"a{n}", to=f"031234567{n}")
        world.after(100.0)
    assert rules(world) == ["V2"]
    for n in range(3):
        world.hangs_up(call=f"a{n}")
    passes(world, "b", to="0312345679")
    assert rules(world) == ["V2"]


def test_held_where_it_is_configured(ladder: Ladder) -> None:
    world = ladder(reach=(2, 60.0))
    passes(world, "a", to="0312345670")
    passes(world, "b", to="0312345671")
    answer = is_refused(world, "c", "503", to="0312345672")
    assert answer.get("x-callgate-verdict") == "rule=V2;value=3;limit=2"
    passes(world, "d", to="0312345671")
    passes(world, "e", to="01033142685300")


def test_the_same_call_again_and_again(ladder: Ladder) -> None:
    world = ladder(watching=Watching(repeats=3, repeat_seconds=100.0))
    for n in range(3):
        passes(world, f"a{n}")
        passes(world, f"b{n}", to=f"031234568{n}")
        world.after(30.0)
    assert rules(world) == ["V13"]
    assert dict(world.alerts[0].details) == {"caller": "1001", "dialled": DIALLED}


def test_nothing_is_watched(ladder: Ladder) -> None:
    world = ladder(watching=Watching(distinct=None, repeats=None, fax=False))
    for n in range(30):
        passes(world, f"a{n}", body=FAX)
        world.after(1.1)
    assert not rules(world)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_a_fax(ladder: Ladder, caller: str, inside: bool) -> None:
    """In the INVITE or later, from either side; once per key."""
    world = ladder()
    one, other = (world.pbx, world.carrier) if caller == "pbx" else (world.carrier, world.pbx)
    for call in "ab":
        world.talks(one, call=call, **({} if inside else {"body": FAX}))
        if inside:
            other.sends("re-INVITE", call=call, body=FAX)
            other.gets("100 re-INVITE", call=call)
            one.gets("re-INVITE", call=call)
            one.sends("488 re-INVITE", call=call)
            one.gets("ACK", call=call)
            other.gets("488 re-INVITE", call=call)
            other.sends("ACK", call=call)
        world.hangs_up(one, call=call)
        world.after(30.0)
    assert rules(world) == ["K7"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"m=image",
        b"m=image 4000 udptl fax\r\n",
        b"a=x m=image 1 udptl t38\r\n",
        FAX.replace(b"image", b"audio"),
    ],
)
def test_no_fax(ladder: Ladder, body: bytes) -> None:
    world = ladder()
    passes(world, "a", body=body)
    assert not rules(world)
