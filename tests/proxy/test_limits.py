"""The limits of a key (V1, V3, C2, K6): each at the limit, one above, and after one is free again; what a refusal says
and to whom; and that a refused call costs nothing (pitfall 18)."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.text import Text

TOKEN = 1.02
"""Seconds a token is out after its copy was sent: the window and the margin."""


def passes(world: World, call: str, caller: Agent | None = None) -> None:
    a = caller or world.pbx
    b = world.carrier if a is world.pbx else world.pbx
    a.sends("INVITE", call=call)
    a.gets("100", call=call)
    b.gets("INVITE", call=call)


def is_refused(world: World, call: str, code: str, caller: Agent | None = None) -> Text:
    a = caller or world.pbx
    b = world.carrier if a is world.pbx else world.pbx
    a.sends("INVITE", call=call)
    a.gets("100", call=call)
    answer = a.gets(code, call=call)
    a.sends("ACK", call=call)
    b.gets_nothing()
    return answer


def ends(world: World, call: str, caller: Agent | None = None) -> None:
    a = caller or world.pbx
    b = world.carrier if a is world.pbx else world.pbx
    b.sends("486 INVITE", call=call)
    b.gets("ACK", call=call)
    a.gets("486", call=call)
    a.sends("ACK", call=call)


def says(answer: Text, warning: str, verdict: str) -> None:
    """The PBX is told why (interface.md); never a Retry-After."""
    assert answer.all("warning") == [f'399 callgate "{warning}"']
    assert answer.all("x-callgate-verdict") == [verdict]
    assert not answer.has("retry-after")


# -- V1: new calls per second ------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 5])
def test_v1(ladder: Ladder, limit: int) -> None:
    """At the limit, one above; the token comes back a second and a margin after its INVITE was sent."""
    world = ladder(cps=limit)
    for n in range(limit):
        passes(world, f"c{n}")
        ends(world, f"c{n}")  # that a call is over gives no token back: the carrier has counted it
    answer = is_refused(world, "over", "503")
    says(answer, f"V1 rate {limit + 1}/{limit} per second", f"rule=V1;value={limit + 1};limit={limit}")
    world.holds_nothing()
    world.after(TOKEN + 0.1)
    for n in range(limit):
        passes(world, f"d{n}")
        ends(world, f"d{n}")
    is_refused(world, "over again", "503")


def test_v1_to_the_millisecond(ladder: Ladder) -> None:
    """The token is out until exactly 1.020 s after the send."""
    world = ladder(cps=1)
    passes(world, "a")
    sent = world.now
    ends(world, "a")
    world.after(sent + TOKEN - 0.05 - world.now)
    is_refused(world, "b", "503")
    world.after(sent + TOKEN + 0.0001 - world.now)
    passes(world, "c")
    ends(world, "c")


def test_a_burst_is_judged_one_by_one(ladder: Ladder) -> None:
    """Pitfall 15: ten at the same instant, before the store has said a word: three pass, seven are refused."""
    world = ladder(cps=3)
    for n in range(10):
        world.pbx.sends("INVITE", call=f"c{n}")
    world.settle()
    finals = world.pbx.takes_refusals()
    assert [f.code for f in finals] == [503] * 7
    assert all(f.get("x-callgate-verdict") == "rule=V1;value=4;limit=3" for f in finals)
    world.holds(outbound=3)
    passed = [text.call_id for _, text in world.carrier.inbox]
    assert len(passed) == 3
    for call_id in passed:
        world.carrier.gets("INVITE", call=call_id)
        ends(world, call_id)
    assert len(world.records) == 10


def test_refused_calls_cost_nothing(ladder: Ladder) -> None:
    """Pitfall 18: under a hundred refusals a second the allowed calls pass at the full rate."""
    world = ladder(cps=1)
    passed = 0
    for n in range(500):
        world.pbx.sends("INVITE", call=f"c{n}")
        world.settle()
        if world.carrier.inbox:
            passed += 1
            world.pbx.gets("100", call=f"c{n}")
            world.carrier.gets("INVITE", call=f"c{n}")
            ends(world, f"c{n}")
        else:
            world.pbx.gets("100", call=f"c{n}")
            world.pbx.gets("503", call=f"c{n}")
            world.pbx.sends("ACK")
        world.after(0.01)
    seconds = world.now - world.started
    assert passed >= int(seconds / (TOKEN + 0.05)) > 3


def test_v1_is_for_outbound_calls(ladder: Ladder) -> None:
    """Inbound calls, requests in dialogs and retransmissions take no token."""
    world = ladder(cps=1)
    passes(world, "a")
    for n in range(5):
        passes(world, f"in{n}", world.carrier)
        ends(world, f"in{n}", world.carrier)
    world.pbx.repeats("INVITE", call="a", number=3)
    world.pbx.gets("100", call="a", times=3)
    assert world.used("outbound_cps") == 1
    ends(world, "a")


@pytest.mark.parametrize(
    ("seconds", "uri", "cseq", "free"),
    [
        (0.1, None, "2 INVITE", True),
        (9.9, None, "2 INVITE", True),
        (10.2, None, "2 INVITE", False),
        (0.1, "sip:0398765432@127.0.0.1:5060", "2 INVITE", False),
        (0.1, None, "3 INVITE", False),
        (0.1, None, "1 INVITE", False),
    ],
)
def test_the_answer_to_a_challenge_is_free(
    ladder: Ladder, seconds: float, uri: str | None, cseq: str, free: bool
) -> None:
    """interface.md: same Call-ID, From tag, Request-URI, CSeq + 1, within 10 s: the carrier has seen the call. It
    claims its line anew."""
    world = ladder(cps=1, outbound_calls=1)
    first = world.pbx.sends("INVITE", call="a")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("407", headers=['Proxy-Authenticate: Digest realm="c", nonce="1"'])
    world.carrier.gets("ACK")
    world.pbx.gets("407")
    world.pbx.sends("ACK")
    world.after(seconds)
    if seconds > 1.1:
        passes(world, "another")  # takes the token
        ends(world, "another")
    world.pbx.sends(
        "INVITE",
        uri=uri or "",
        change={"call-id": first.call_id, "cseq": cseq, "from": first.get("from")},
    )
    world.pbx.gets("100")
    if not free:
        world.pbx.gets("503")
        world.pbx.sends("ACK")
        world.carrier.gets_nothing()
        return
    world.carrier.gets("INVITE")
    world.holds(outbound=1)
    is_refused(world, "no line", "503")
    ends(world, first.call_id)


def test_a_challenge_is_free_once(ladder: Ladder) -> None:
    """interface.md: once per challenge. The next re-send needs the next challenge, or a token."""
    world = ladder(cps=1)
    first = world.pbx.sends("INVITE", call="a")
    world.pbx.gets("100")
    for number in (2, 3):
        world.carrier.gets("INVITE")
        world.carrier.sends("407")
        world.carrier.gets("ACK")
        world.pbx.gets("407")
        world.pbx.sends("ACK")
        again = {"call-id": first.call_id, "cseq": f"{number} INVITE", "from": first.get("from")}
        world.pbx.sends("INVITE", change=again)
        world.pbx.gets("100")
    world.carrier.gets("INVITE")
    ends(world, first.call_id)
    world.pbx.sends("INVITE", change={**again, "cseq": "4 INVITE"})
    world.pbx.gets("100")
    world.pbx.gets("503")
    world.pbx.sends("ACK")
    ids = [record.id for record in world.records]
    assert len(ids) == 4
    assert ids[0] == ids[1] == ids[2] != ids[3], "the re-sends of a challenged call share its record"


# -- V3, C2, K6: calls up at once --------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_v3(ladder: Ladder, limit: int) -> None:
    """Inbound calls: 486 to the trunk, without a reason (the trunk is never told)."""
    world = ladder(inbound_calls=limit)
    for n in range(limit):
        passes(world, f"c{n}", world.carrier)
    answer = is_refused(world, "over", "486", world.carrier)
    assert not answer.has("warning")
    assert not answer.has("x-callgate-verdict")
    world.holds(inbound=limit)
    ends(world, "c0", world.carrier)
    passes(world, "next", world.carrier)
    is_refused(world, "over again", "486", world.carrier)
    for call in [f"c{n}" for n in range(1, limit)] + ["next"]:
        ends(world, call, world.carrier)
    refused = [r for r in world.records if r.outcome == "refused"]
    assert {(r.rule, r.value, r.limit) for r in refused} == {("V3", limit + 1, limit)}


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_c2(ladder: Ladder, limit: int) -> None:
    """Outbound calls: 503 with the reason. The refused one takes no token either: all or nothing."""
    world = ladder(outbound_calls=limit, cps=limit + 2)
    for n in range(limit):
        passes(world, f"c{n}")
    for n in range(5):
        answer = is_refused(world, f"over{n}", "503")
        says(answer, f"C2 outbound calls {limit + 1}/{limit}", f"rule=C2;value={limit + 1};limit={limit}")
    assert world.used("outbound_cps") == limit
    world.holds(outbound=limit)
    ends(world, "c0")
    passes(world, "next")
    is_refused(world, "over again", "503")
    for call in [f"c{n}" for n in range(1, limit)] + ["next"]:
        ends(world, call)


def test_k6(ladder: Ladder) -> None:
    """Both directions together: one port means one call, whichever way."""
    world = ladder(calls=2)
    passes(world, "out")
    passes(world, "in", world.carrier)
    answer = is_refused(world, "out2", "503")
    says(answer, "K6 calls 3/2", "rule=K6;value=3;limit=2")
    assert not is_refused(world, "in2", "486", world.carrier).has("warning")
    ends(world, "in", world.carrier)
    passes(world, "out3")
    is_refused(world, "in3", "486", world.carrier)
    ends(world, "out")
    ends(world, "out3")


@pytest.mark.parametrize("limit", [{"outbound_calls": 0}, {"calls": 0}, {"cps": 0}])
def test_none_allowed(ladder: Ladder, limit: dict[str, int]) -> None:
    """0 means none."""
    world = ladder(**limit)
    is_refused(world, "a", "503")


def test_no_limit(ladder: Ladder) -> None:
    """null means no limit: forty at once."""
    world = ladder(cps=None, outbound_calls=None, calls=None, inbound_calls=None)
    for n in range(40):
        passes(world, f"c{n}")
        world.carrier.sends("100")
    for n in range(40):
        ends(world, f"c{n}")


def test_a_line_is_free_the_moment_its_call_is_over(ladder: Ladder) -> None:
    """The next INVITE may come in the same instant as the BYE's answer."""
    world = ladder(outbound_calls=1, calls=1)
    for n in range(5):
        world.talks(call=f"c{n}")
        is_refused(world, f"over{n}", "503")
        world.hangs_up(call=f"c{n}")


def test_a_refusal_is_counted_and_told_once(ladder: Ladder) -> None:
    """interface.md: `breach_avoided` is raised at the first refusal and resolved after 10 s without one."""
    world = ladder(cps=1)
    passes(world, "a")
    ends(world, "a")
    for n in range(3):
        is_refused(world, f"over{n}", "503")
    assert [(a.rule, a.resolved, a.value, a.limit) for a in world.alerts] == [("V1", False, 2, 1)]
    world.after(10.1)
    assert [a.resolved for a in world.alerts] == [False, True]
    counted = world.meters.series("calls_total", "acme", "outbound", "refused", "V1")
    assert world.meters.values[counted] == 3
