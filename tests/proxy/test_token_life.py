"""V1, the life of a token (design.md): `take → sent → release`. The carrier counts ARRIVALS of calls it has not seen;
any copy may be the first to arrive. So, whatever is lost or late below the margin, no second at the carrier ever holds
more than N of them; and a refused call costs nothing."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.examples import many
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.line import Fate, Line, exact_window
from tests.proxy.stores import ANSWERING, SAME_TURN, Kind

from callgate.policy.ledger import MARGIN

on_each_store = pytest.mark.parametrize("kind", ANSWERING, ids=lambda kind: kind.name)

LATE_BELOW_MARGIN = st.floats(0.0, MARGIN, exclude_max=True, allow_subnormal=False)
COPIES = st.lists(st.one_of(LATE_BELOW_MARGIN, st.none()), min_size=1, max_size=12)
ON_TIME = st.lists(LATE_BELOW_MARGIN, min_size=1, max_size=12)
ANSWERS = st.lists(st.one_of(st.floats(0.0, 0.3), st.none()), min_size=1, max_size=6)
BEHAVIOUR = st.lists(st.sampled_from(["486", "100", "180", "503", "407", ""]), min_size=1, max_size=5)
GAPS = st.lists(
    st.one_of(
        st.just(0.0), st.floats(0.0, 0.02), st.floats(0.0, 0.4), st.sampled_from([0.5, 1.0, 1.02, 1.5])
    ),
    min_size=1,
    max_size=40,
)


def offered(world: World, line: Line, gaps: list[float]) -> list[float]:
    """Plan one new call after each gap; when each is offered."""
    times, at = [], world.now
    for n, gap in enumerate(gaps):
        at += gap
        times.append(at)
        line.at(at, lambda n=n: world.pbx.sends("INVITE", call=f"c{n}"))  # type: ignore[misc]
    return times


def finishes(world: World, line: Line) -> None:
    """Let everything run out, then the end of every ladder."""
    line.behaviour = ["486"]
    line.run(world.now + 300)
    world.ends()


@on_each_store
@settings(max_examples=many(40), deadline=None)
@given(st.integers(1, 5), st.integers(1, 3), GAPS, COPIES, ANSWERS, BEHAVIOUR)
@example(1, 1, [0.0] * 12, [None, 0.0199], [0.0], ["486"])  # every first copy is lost
@example(2, 3, [0.1] * 30, [0.0], [0.0], ["503"])  # every call goes over three gateways
@example(3, 1, [0.0] * 3 + [1.0] * 6, [None, None, None, 0.0], [None], [""])  # nothing is ever answered
def test_no_second_holds_more_than_n_first_arrivals(
    kind: Kind,
    limit: int,
    gateways: int,
    gaps: list[float],
    copies: list[Fate],
    answers: list[Fate],
    behaviour: list[str],
) -> None:
    """With loss, lateness, failover, silence and lost answers."""
    world = World(kind, cps=limit, gateways=gateways, outbound_calls=None, calls=None)
    line = Line(world, copies, answers, behaviour)
    offered(world, line, gaps)
    line.run(world.now + sum(gaps) + 20)
    assert line.fullest() <= limit, world.ladder()
    finishes(world, line)
    assert line.fullest() <= limit, world.ladder()


@on_each_store
@settings(max_examples=many(40), deadline=None)
@given(st.integers(1, 5), GAPS, ON_TIME)
@example(1, [0.0, 1.0, 0.02, 1.02], [0.0])
def test_refused_calls_cost_nothing(kind: Kind, limit: int, gaps: list[float], late: list[float]) -> None:
    """What passes is what an exact window of one second and the margin passes, call by call; a store that answers
    later holds its tokens that much longer and no more."""
    world = World(kind, cps=limit, outbound_calls=None, calls=None)
    line = Line(world, late, [0.0], ["486"])
    times = offered(world, line, gaps)
    line.run(world.now + sum(gaps) + 5)
    assert line.fullest() <= limit
    names = [world.labels[f"c{n}"] for n in range(len(gaps))]
    passed = [name in line.passed for name in names]
    if kind is SAME_TURN:
        assert passed == exact_window(times, limit, 1.0 + MARGIN)
    assert kind.back is not None
    held = 1.0 + MARGIN + (0.0 if kind is SAME_TURN else max(kind.back(0), kind.back(1)))
    assert sum(passed) >= sum(exact_window(times, limit, held + 1e-9))
    finishes(world, line)


@pytest.mark.parametrize("limit", [1, 3, 5])
@pytest.mark.parametrize("offer", [4, 50, 200])
def test_goodput_at_any_offered_load(ladder: Ladder, limit: int, offer: int) -> None:
    """Pitfall 18: the share of an exact window stays at any load, ten seconds long."""
    world = ladder(cps=limit, outbound_calls=None, calls=None)
    line = Line(world, [0.001], [0.0], ["486"])
    times = offered(world, line, [1.0 / offer] * (offer * 10))
    line.run(world.now + 12)
    exact = sum(exact_window(times, limit, 1.03))  # issue 2: 1 s + 30 ms
    assert line.fullest() <= limit
    assert len(line.passed) >= 0.97 * exact
    finishes(world, line)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_copy_takes_its_token_ahead_of_new_calls(ladder: Ladder, limit: int) -> None:
    """A copy that is due when its token has gone back waits for the next one, and gets it before a call that comes
    after the copy was due."""
    world = ladder(cps=limit)
    world.pbx.sends("INVITE", call="silent")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.after(3.0)
    world.carrier.gets("INVITE", times=2)  # of 0.5 and 1.5 s: the token is back
    assert world.used("outbound_cps") == 0
    for n in range(limit):
        world.pbx.sends("INVITE", call=f"c{n}")
        world.pbx.gets("100")
        world.carrier.gets("INVITE")
        world.carrier.sends("486")
        world.carrier.gets("ACK")
        world.pbx.gets("486")
        world.pbx.sends("ACK")
    full_since = world.now
    world.after(0.9)  # the copy of 3.5 s is due: nothing is free
    world.carrier.gets_nothing()
    world.pbx.sends("INVITE", call="before")
    world.pbx.gets("100")
    world.pbx.gets("503")
    world.pbx.sends("ACK")
    world.after(full_since + 1.0 + MARGIN + 0.001 - world.now)
    for n in range(limit):  # of the tokens that came back the copy has taken one
        world.pbx.sends("INVITE", call=f"d{n}")
    world.settle()
    got = [text.call_id for _, text in world.carrier.inbox]
    assert world.labels["silent"] in got
    assert len(got) <= limit
    assert world.labels[f"d{limit - 1}"] not in got
    for call_id in got:
        world.carrier.gets("INVITE", call=call_id)
        world.carrier.sends("486")
        world.carrier.gets("ACK", call=call_id)
    world.settle()
    assert len(world.pbx.takes_refusals()) == 1 + limit


def test_a_copy_under_its_token_is_free(ladder: Ladder) -> None:
    """design.md: while the token is out a copy goes at once and takes none; the token stays out a second and the
    margin from the LAST copy."""
    world = ladder(cps=2)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    asked = world.store.asked
    world.after(0.55)
    world.carrier.gets("INVITE")
    assert world.store.asked == asked
    assert world.used("outbound_cps") == 1
    world.carrier.sends("100")
    world.after(0.9)  # 1.45 s after the first copy, 0.93 s after the last one
    assert world.used("outbound_cps") == 1
    world.after(0.2)
    assert world.used("outbound_cps") == 0
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


@pytest.mark.parametrize("limit", [1, 3])
def test_after_a_start_no_token_is_free_for_one_window(ladder: Ladder, limit: int) -> None:
    """design.md: what was sent just before the crash is unknown. Inbound calls are not concerned."""
    world = ladder(cps=limit, fresh=True)
    for at in (0.0, 0.3, 0.7, 1.0):
        world.after(world.started + at - world.now)
        world.pbx.sends("INVITE", call=f"c{at}")
        world.pbx.gets("100")
        answer = world.pbx.gets("503")
        assert answer.get("x-callgate-verdict") == f"rule=V1;value={limit + 1};limit={limit}"
        world.pbx.sends("ACK")
    world.carrier.gets_nothing()
    world.talks(world.carrier, call="in")
    world.hangs_up(call="in")
    world.after(world.started + 1.0 + MARGIN - world.now)
    for n in range(limit):
        world.talks(call=f"d{n}")
    for n in range(limit):
        world.hangs_up(call=f"d{n}")


def test_numbers_that_are_refused_take_no_token(ladder: Ladder) -> None:
    """A blocked number, a bad request, a stranger: the window is as it was."""
    world = ladder(cps=1)
    for _ in range(3):
        world.pbx.sends("INVITE", to="0120123456")
        world.pbx.gets("403")
        world.pbx.sends("ACK")
        world.pbx.sends("INVITE", change={"max-forwards": "0"})
        world.pbx.gets("483")
        world.pbx.sends("ACK")
    assert world.used("outbound_cps") == 0
    world.talks()
    world.hangs_up()
