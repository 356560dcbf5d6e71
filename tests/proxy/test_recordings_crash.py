"""kill -9 in the middle of recorded calls and their sessions: licences are as they were."""

from __future__ import annotations

import pytest
from tests.proxy.agent import SDP
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.test_recordings import OFF, ON, WISHES, X_RECORD, alerts, says
from tests.proxy.test_siprec import UUID, invites, metadata, names_header, names_later, records, stops

WAYS: dict[str, dict[str, object]] = {
    "header": {"headers": X_RECORD},
    "wish": {"body": WISHES},
    "notice": {"body": ON},
}


@pytest.fixture
def world(ladder: Ladder) -> World:
    return ladder(recordings=1, recorder=True)


def is_full(world: World) -> None:
    """One more is refused."""
    world.pbx.sends("INVITE", call="more", headers=X_RECORD)
    world.pbx.gets("100", call="more")
    assert world.pbx.gets("503", call="more").get("x-callgate-verdict") == "rule=I1;value=2;limit=1"
    world.pbx.sends("ACK", call="more")


@pytest.mark.parametrize("way", WAYS)
def test_a_recorded_call(world: World, way: str) -> None:
    world.talks(call="cs", **WAYS[way])
    assert world.crashes().up == 1
    world.holds(outbound=1, recorded=1)
    is_full(world)
    world.hangs_up(call="cs")
    world.holds_nothing()
    assert world.records[-1].recorded


def test_a_limit_that_was_not_there_before(ladder: Ladder) -> None:
    world = ladder()
    limited = ladder(recordings=1).key.recorded
    for call in "ab":
        world.talks(call=call, headers=X_RECORD)
    world.key.recorded = limited
    assert world.crashes().up == 2
    world.holds(outbound=2, recorded=2)
    for call in "ab":
        world.hangs_up(call=call)


def test_one_that_rings(world: World) -> None:
    world.pbx.sends("INVITE", body=ON)
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("180")
    world.pbx.gets("180")
    assert world.crashes().ringing == 1
    world.holds(outbound=1, recorded=1)
    world.carrier.sends("486 INVITE")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")
    world.holds_nothing()


@pytest.mark.parametrize("who", ["pbx", "carrier"])
def test_what_was_said_in_the_middle(world: World, who: str) -> None:
    """A start and a stop are both known, and who said so: the other side can't take it back."""
    side = world.pbx if who == "pbx" else world.carrier
    other = world.carrier if who == "pbx" else world.pbx
    world.talks(call="cs")
    says(world, side, ON)
    world.crashes()
    world.holds(outbound=1, recorded=1)
    says(world, other, OFF)
    world.holds(outbound=1, recorded=1)
    says(world, side, OFF)
    world.holds(outbound=1)
    world.crashes()
    world.holds(outbound=1)
    world.hangs_up(call="cs")


def test_an_offer_that_was_not_taken(world: World) -> None:
    world.talks(call="cs")
    says(world, world.pbx, ON, code=491)
    world.crashes()
    world.holds(outbound=1)
    world.hangs_up(call="cs")


@pytest.mark.parametrize("first", ["call", "session"])
@pytest.mark.parametrize("said", [{"headers": X_RECORD}, {}], ids=["said", "not said"])
def test_a_session_and_its_call(world: World, said: dict[str, object], first: str) -> None:
    """They are one still, and the recorder is reached still."""
    world.talks(call="cs", **said)
    records(world, **names_header(world, "cs"))
    assert world.crashes().up == 2
    world.holds(outbound=1, recorded=1)
    world.pbx.sends("INFO", call="rs")
    world.srs.gets("INFO", call="rs")
    world.srs.sends("200 INFO", call="rs")
    world.pbx.gets("200", call="rs")
    is_full(world)
    if first == "call":
        world.hangs_up(call="cs")
        world.holds(recorded=1)
        stops(world, who="srs")
    else:
        stops(world)
        world.holds(outbound=1, recorded=int(bool(said)))
        world.hangs_up(call="cs")
    world.holds_nothing()
    world.carrier.gets_nothing()


def test_a_session_that_is_not_answered_yet(world: World) -> None:
    """It is taken up; a recorder that says nothing has had its time soon."""
    invites(world)
    world.pbx.gets("100")
    world.srs.gets("INVITE")
    world.srs.sends("180")
    world.pbx.gets("180")
    assert world.crashes().ringing == 1
    world.holds(recorded=1)
    world.after(4.8)
    world.srs.gets("CANCEL")
    world.srs.sends("200 CANCEL")
    world.srs.sends("487 INVITE")
    world.srs.gets("ACK")
    world.pbx.gets("408")
    world.pbx.sends("ACK")
    world.holds_nothing()
    assert alerts(world, "I5") == [("warning", False)]


def test_one_beyond_the_limit_is_told_of_again(world: World) -> None:
    world.talks(call="a", body=ON)
    world.talks(call="b")
    says(world, world.pbx, OFF, ON)
    world.settle()
    world.crashes()
    world.holds(outbound=2, recorded=2)
    assert alerts(world) == [("critical", False), ("critical", False)]
    world.hangs_up(call="a")
    world.hangs_up(call="b")
    assert alerts(world)[-1] == ("critical", True)


def test_one_that_was_released_by_hand(world: World) -> None:
    """It holds nothing, before a crash and after it."""
    world.talks(call="cs", headers=X_RECORD)
    world.core.free_lines(next(world.core.live()), "released", world.now)
    world.carries_out()
    world.crashes()
    world.settle()
    assert world.used("recordings") == 0
    world.hangs_up(call="cs")


def test_two_crashes(world: World) -> None:
    """What is taken up is written down again."""
    world.talks(call="cs", headers=X_RECORD)
    records(world, **names_header(world, "cs"))
    world.crashes()
    world.crashes()
    world.holds(outbound=1, recorded=1)
    stops(world)
    world.holds(outbound=1, recorded=1)
    world.hangs_up(call="cs")


@pytest.mark.parametrize("who", ["pbx", "srs"])
def test_the_recorders_are_gone(world: World, who: str) -> None:
    """A session that the config would not take any more goes on to its end, and counts until then."""
    records(world)
    world.key.recorders = None
    assert world.crashes().left_out == ()
    world.holds(recorded=1)
    is_full(world)
    stops(world, who=who)
    world.holds_nothing()
    invites(world, "next")
    world.pbx.gets("484", call="next")
    world.pbx.sends("ACK", call="next")


def names(*calls: str) -> dict[str, object]:
    return {"body": metadata(*calls)}


@pytest.mark.parametrize("said", [(), X_RECORD], ids=["plain", "said"])
def test_a_session_of_several_calls(ladder: Ladder, said: tuple[str, ...]) -> None:
    """Each counts again, as often as before: those that it named later, and not those that it names no more."""
    world = ladder(recordings=5, recorder=True)
    for call in "abcd":
        world.talks(call=call, headers=said)
    records(world, **names(world.labels["a"], world.labels["b"]))
    own = 4 if said else 0
    world.holds(outbound=4, recorded=own or 2)
    names_later(world, "b", "c", "d")
    world.holds(outbound=4, recorded=own or 3)
    assert world.crashes().up == 5
    world.holds(outbound=4, recorded=own or 3)
    world.hangs_up(call="b")
    world.hangs_up(call="c")
    world.crashes()
    world.holds(outbound=2, recorded=2 if said else 1)
    world.hangs_up(call="d")
    world.holds(outbound=1, recorded=2 if said else 1)
    world.crashes()
    world.holds(outbound=1, recorded=2 if said else 1)
    stops(world)
    world.hangs_up(call="a")


def test_two_sessions_of_a_call_that_has_ended(world: World) -> None:
    """They hold its licence together still."""
    world.talks(call="cs")
    for session in ("one", "two"):
        records(world, session, **names_header(world, "cs"))
    world.hangs_up(call="cs")
    world.holds(recorded=1)
    world.crashes()
    world.holds(recorded=1)
    stops(world, "one")
    world.holds(recorded=1)
    stops(world, "two", "srs")


def test_the_names_of_a_session(ladder: Ladder) -> None:
    """Of a call that it has named, and that comes after the restart."""
    world = ladder(recordings=1, recorder=True, cps=None)
    records(world, headers=("X-Record-Of: cs-2@example",))
    world.crashes()
    world.talks(call="cs")
    world.holds(outbound=1, recorded=1)
    is_full(world)
    world.hangs_up(call="cs")
    stops(world)


def test_calls_that_a_session_has_named_before(ladder: Ladder) -> None:
    """It records each of them still, whichever ends first."""
    world = ladder(recordings=2, recorder=True)
    records(world, headers=("X-Record-Of: a-2@example", "X-Record-Of: b-3@example"))
    for call in "ab":
        world.talks(call=call, headers=X_RECORD)
    world.crashes()
    world.holds(outbound=2, recorded=2)
    world.hangs_up(call="a")
    world.holds(outbound=1, recorded=1)
    world.hangs_up(call="b")
    world.holds(recorded=1)
    stops(world)


def test_the_session_identifier_of_a_plain_call(ladder: Ladder) -> None:
    """A session that comes after the restart names the call by it."""
    world = ladder(recordings=1, recorder=True, cps=None)
    world.talks(call="cs", headers=(f"Session-ID: {UUID};remote={'0' * 32}",))
    world.crashes()
    records(world, **names(UUID))
    world.hangs_up(call="cs")
    world.holds(recorded=1)
    world.talks(call="other", headers=(f"Session-ID: {'7' * 32}",))
    stops(world)
    world.hangs_up(call="other")


def test_each_call_that_is_named_by_its_session_identifier(ladder: Ladder) -> None:
    """Were it forgotten, they would be one: what a session records that leads to no call."""
    world = ladder(recordings=2, recorder=True, cps=None)
    ids = {"a": UUID, "b": "7" * 32}
    for call, half in ids.items():
        world.talks(call=call, headers=(f"Session-ID: {half};remote={'0' * 32}",))
    world.crashes()
    records(world, **names(*ids.values()))
    world.holds(outbound=2, recorded=2)
    world.hangs_up(call="a")
    world.holds(outbound=1, recorded=1)
    stops(world)
    world.hangs_up(call="b")


@pytest.mark.parametrize("crash", [False, True], ids=["runs on", "crash"])
@pytest.mark.parametrize("first", ["call", "session"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_session_of_a_call_that_was_released_by_hand(
    ladder: Ladder, when: str, first: str, crash: bool
) -> None:
    """Before the session came, or after: the call has no line, the session its licence until it ends."""
    world = ladder(recordings=1, recorder=True, cps=None)
    world.talks(call="cs")
    call = next(world.core.live())
    if when == "after":
        records(world, **names_header(world, "cs"))
    world.core.free_lines(call, "released", world.now)
    world.carries_out()
    if when == "before":
        records(world, **names_header(world, "cs"))
    if crash:
        world.crashes()
    world.settle()
    assert world.used("recordings") == 1
    if first == "call":
        world.hangs_up(call="cs")
        world.settle()
        assert world.used("recordings") == 1
        stops(world)
    else:
        stops(world)
        world.settle()
        assert world.used("recordings") == 0
        world.hangs_up(call="cs")
    world.holds_nothing()


def test_a_session_whose_call_was_too_young_to_be_known(ladder: Ladder) -> None:
    """The call is counted with its first word, and named already."""
    world = ladder(recordings=2, recorder=True)
    records(world, headers=("X-Record-Of: a-2@example", "X-Record-Of: b-3@example"))
    world.after(1)
    for call in ("a", "b"):
        world.pbx.sends("INVITE", call=call)
        world.pbx.gets("100", call=call)
        world.carrier.gets("INVITE", call=call)
    world.holds(outbound=2, recorded=2)
    world.crashes(lost=0.5)
    world.holds(recorded=1)
    for call in ("a", "b"):
        world.carrier.sends("200", call=call)
        world.pbx.gets("200", call=call)
        world.pbx.sends("ACK", call=call)
        world.carrier.gets("ACK", call=call)
    world.holds(outbound=2, recorded=2)
    for call in ("a", "b"):
        world.hangs_up(call=call)
    stops(world)


@pytest.mark.parametrize("method", ["re-INVITE", "UPDATE"])
@pytest.mark.parametrize("who", ["offer", "answer"])
def test_the_first_words_of_a_call_of_which_nothing_was_written_down(
    ladder: Ladder, who: str, method: str
) -> None:
    """They are that it is recorded: perhaps it was before, so it counts whatever the limit."""
    world = ladder(recordings=1, recorder=True, cps=None)
    world.talks(call="cs")
    world.crashes(lost=10)
    world.talks(call="other", headers=X_RECORD)
    world.carrier.sends(method, call="cs", body=ON if who == "offer" else SDP)
    if method == "re-INVITE":
        world.carrier.gets("100", call="cs")
    world.pbx.gets(method, call="cs")
    world.pbx.sends(f"200 {method}", call="cs", body=ON if who == "answer" else SDP)
    world.carrier.gets("200", call="cs")
    if method == "re-INVITE":
        world.carrier.sends("ACK", call="cs")
        world.pbx.gets("ACK", call="cs")
    world.holds(outbound=2, recorded=2)
    assert alerts(world) == [("critical", False)]
    world.hangs_up(world.carrier, call="cs")
    world.holds(outbound=1, recorded=1)
    world.hangs_up(call="other")
    assert all(record.recorded for record in world.records)
