"""Calls that nobody ends (proxy rules §8, §11; RFC 4028 §8; design.md): session timers, probes, and what is left of a
BYE that gets no answer. The lines come free, with a reason; a call that lives keeps its own."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.challenge import ACCOUNT, challenge, check
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.text import Text, uri_of

from callgate.proxy.calls import vitals
from callgate.proxy.directory import Probing

PROBING = Probing(interval=300.0, misses=3, gap=10.0)
GRACE = 32.0


@pytest.fixture
def latest(monkeypatch: pytest.MonkeyPatch) -> None:
    """No chance: each side is asked at the end of the interval."""
    monkeypatch.setattr(vitals, "uniform", lambda first, last: last)


@pytest.fixture
def watched(ladder: Ladder, latest: None) -> World:
    return ladder(probing=PROBING)


def both(world: World, first: str) -> tuple[Agent, Agent]:
    return (world.pbx, world.carrier) if first == "pbx" else (world.carrier, world.pbx)


def held(caller: str) -> dict[str, int]:
    return {"outbound": 1} if caller == "pbx" else {"inbound": 1}


def answers(a: Agent, b: Agent, *headers: str, call: str = "") -> None:
    """A call whose 2xx has these headers."""
    a.sends("INVITE", call=call)
    a.gets("100", call=call)
    b.gets("INVITE", call=call)
    b.sends("200", headers=headers, call=call)
    a.gets("200", call=call)
    a.sends("ACK", call=call)
    b.gets("ACK", call=call)


def refreshes(a: Agent, b: Agent, method: str, code: str, *headers: str) -> None:
    a.sends(method)
    if method == "re-INVITE":
        a.gets("100")
    b.gets(method)
    b.sends(f"{code} {method}", headers=headers)
    a.gets(f"{code} {method}")
    if method == "re-INVITE":
        if code >= "300":
            b.gets("ACK")
            a.sends("ACK")
        else:
            a.sends("ACK")
            b.gets("ACK")


def reaped(world: World, reason: str) -> float:
    return world.gauge("calls_reaped_total", reason)


# -- RFC 4028 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Session-Expires: 1800;refresher=uac", 1800),
        ("x: 90;refresher=uas", 90),
        ("session-expires :\t600", 600),
        ("SESSION-EXPIRES:\r\n 600\r\n ;refresher=uac", 600),
        ("X:1800", 1800),
        ("Session-Expires: 7", 90),
        ("Session-Expires: 0", 90),
    ],
)
@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_a_session_that_nobody_refreshes(ladder: Ladder, header: str, seconds: int, caller: str) -> None:
    """§8.3: at expiry (and 64*T1 for a refresh on its way) the state is freed, and no BYE is sent. §4: no session is
    shorter than 90 s."""
    world = ladder(probing=PROBING)
    answers(*both(world, caller), header)
    world.after(seconds + GRACE - 0.1)
    world.holds(**held(caller))
    world.after(0.2)
    world.holds_nothing()
    record = world.record()
    assert record.reason == f"session timer expired: no refresh for {seconds} s (RFC 4028)"
    assert (record.ended_by, record.outcome) == ("gate", "answered")
    assert reaped(world, "session_timer") == 1


@pytest.mark.parametrize("refresher", ["pbx", "carrier"])
@pytest.mark.parametrize("method", ["re-INVITE", "UPDATE"])
@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_refreshes_keep_it(world: World, caller: str, method: str, refresher: str) -> None:
    """§8.2: each 2xx to an INVITE or UPDATE says anew when it ends."""
    answers(*both(world, caller), "Session-Expires: 600")
    for _ in range(4):
        world.after(500)
        refreshes(*both(world, refresher), method, "200", "Session-Expires: 600")
    refreshes(*both(world, refresher), method, "200", "Session-Expires: 300")
    world.after(300 + GRACE - 0.1)
    world.holds(**held(caller))
    world.after(0.2)
    world.holds_nothing()


def test_a_refresh_may_shorten_it(world: World) -> None:
    """What the last 2xx says counts, also where it ends sooner."""
    answers(world.pbx, world.carrier, "Session-Expires: 7200")
    world.after(100)
    refreshes(world.pbx, world.carrier, "UPDATE", "200", "Session-Expires: 90")
    world.after(90 + GRACE - 0.1)
    world.holds(outbound=1)
    world.after(0.2)
    world.holds_nothing()


@pytest.mark.parametrize("code", ["488", "491", "500", "422"])
@pytest.mark.parametrize("method", ["re-INVITE", "UPDATE"])
def test_a_refused_refresh_is_none(world: World, method: str, code: str) -> None:
    """§7.4: only a 2xx counts."""
    answers(world.pbx, world.carrier, "Session-Expires: 600")
    world.after(500)
    refreshes(world.pbx, world.carrier, method, code, "Session-Expires: 600", "Min-SE: 90")
    world.after(100 + GRACE + 0.1)
    world.holds_nothing()


def test_other_requests_are_no_refresh(world: World) -> None:
    """§7.1: a session is refreshed by INVITE and UPDATE."""
    answers(world.pbx, world.carrier, "Session-Expires: 600")
    world.after(599)
    refreshes(world.pbx, world.carrier, "INFO", "200", "Session-Expires: 600")
    world.after(1 + GRACE + 0.1)
    world.holds_nothing()


@pytest.mark.parametrize("method", ["re-INVITE", "UPDATE"])
def test_a_2xx_without_a_timer_stops_it(watched: World, method: str) -> None:
    """§7.2: then the session does not expire; and who has no timer is asked."""
    answers(watched.pbx, watched.carrier, "Session-Expires: 600")
    watched.after(500)
    refreshes(watched.pbx, watched.carrier, method, "200")
    watched.after(300.1)
    for side in (watched.carrier, watched.pbx):
        side.gets("OPTIONS")
        side.sends("200 OPTIONS")
    watched.hangs_up()


def test_a_timer_that_comes_later_ends_the_asking(watched: World) -> None:
    answers(watched.pbx, watched.carrier)
    watched.after(200)
    refreshes(watched.pbx, watched.carrier, "UPDATE", "200", "Session-Expires: 1800")
    watched.after(1800)
    watched.holds(outbound=1)
    watched.after(GRACE + 0.1)
    watched.holds_nothing()


@pytest.mark.parametrize(
    "header",
    [
        "Session-Expires: soon",
        "Session-Expires: -1800",
        "Session-Expires: 1e3",
        "Session-Expires: 1800 s",
        "Session-Expires: 99999999999",
        "Session-Expires: 1800, 90",
        "Session-Expires:",
        "Session-Expires: ;refresher=uac",
        "X-Session-Expires: 90",
        "Min-SE: 90",
        "Subject: x: 90",
    ],
)
def test_a_timer_that_cannot_be_read_is_none(watched: World, header: str) -> None:
    answers(watched.pbx, watched.carrier, header)
    watched.after(299.9)
    watched.holds(outbound=1)
    watched.after(0.2)
    for side in (watched.carrier, watched.pbx):
        side.gets("OPTIONS")
        side.sends("200 OPTIONS")
    watched.hangs_up()


def test_the_longest_timer_there_can_be(world: World) -> None:
    """Ten digits: three centuries."""
    answers(world.pbx, world.carrier, "Session-Expires: 9999999999")
    world.after(100_000)
    world.holds(outbound=1)
    world.hangs_up()


def test_what_belongs_to_timers_passes(world: World) -> None:
    """§8.1: the gate asks for none, lowers none and adds nothing; a 422 and its Min-SE go to who sent too little."""
    asks = ["Supported: timer", "Session-Expires: 60;refresher=uac", "Min-SE: 60", "Require: timer"]
    world.pbx.sends("INVITE", headers=asks)
    world.pbx.gets("100")
    invite = world.carrier.gets("INVITE")
    assert [f"{n}: {invite.get(n)}" for n in ("supported", "session-expires", "min-se", "require")] == [
        line.partition(":")[0].lower() + ":" + line.partition(":")[2] for line in asks
    ]
    world.carrier.sends("422", headers=["Min-SE: 1800"])
    world.carrier.gets("ACK")
    assert world.pbx.gets("422").get("min-se") == "1800"
    world.pbx.sends("ACK")
    world.holds_nothing()


def test_the_bye_of_the_side_that_noticed(world: World) -> None:
    """§10: a UA ends the session itself: its BYE comes before the grace is over."""
    answers(world.pbx, world.carrier, "Session-Expires: 600")
    world.after(600)
    world.hangs_up(world.carrier)
    assert world.record().ended_by == "callee"
    assert reaped(world, "session_timer") == 0


def test_a_bye_after_it_was_freed(world: World) -> None:
    """Late, it still finds its way; nothing is given back twice."""
    answers(world.pbx, world.carrier, "Session-Expires: 600")
    world.after(600 + GRACE + 1)
    world.holds_nothing()
    world.hangs_up()
    assert len(world.records) == 1


def forked(world: World, *sessions: str) -> None:
    """Two callees answer; each has its own session."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    for tag, session in zip(("one", "two"), sessions, strict=True):
        world.carrier.sends("200 INVITE", tag=tag, headers=[session] if session else [])
        world.pbx.gets("200 INVITE")
        world.pbx.sends("ACK", tag=tag)
        world.carrier.gets("ACK")


@pytest.mark.parametrize("sessions", [(600, 900), (900, 600)])
def test_each_dialog_of_a_fork_has_its_own(world: World, sessions: tuple[int, int]) -> None:
    """The line goes with the last of them."""
    forked(world, *(f"Session-Expires: {s}" for s in sessions))
    world.after(900 + GRACE - 0.1)
    world.holds(outbound=1)
    assert reaped(world, "session_timer") == 1
    world.after(0.2)
    world.holds_nothing()


def test_a_call_that_reaches_its_longest_time_first(ladder: Ladder) -> None:
    """C1 is told to the sides, a session that ends is not."""
    world = ladder(max_call_seconds=620, probing=PROBING)
    answers(world.pbx, world.carrier, "Session-Expires: 600")
    world.after(620.1)
    for side in (world.pbx, world.carrier):
        side.gets("BYE")
        side.sends("200 BYE")
    assert world.record().rule == "C1"


# -- probes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize(
    "code",
    [
        "200",
        "202",
        "302",
        "400",
        "401",
        "403",
        "404",
        "405",
        "407",
        "480",
        "486",
        "488",
        "500",
        "501",
        "503",
        "603",
    ],
)
def test_whoever_answers_lives(watched: World, caller: str, code: str) -> None:
    """Any answer but 481 and 408, interval after interval; a 100 alone says nothing."""
    watched.talks(both(watched, caller)[0])
    for _ in range(3):
        watched.after(300.1)
        for side in (watched.pbx, watched.carrier):
            side.gets("OPTIONS")
            side.sends("100 OPTIONS")
            side.sends(f"{code} OPTIONS")
    watched.after(200)
    watched.holds(**held(caller))
    watched.hangs_up()
    assert watched.record().reason == ""


def question(world: World, side: Agent) -> Text:
    """What a side is asked, and answers."""
    text = side.gets("OPTIONS")
    side.sends("500 OPTIONS")
    return text


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_how_it_is_asked(watched: World, caller: str) -> None:
    """A request of the dialog as the other side would write it (RFC 3261 §12.2.1.1), but for its number: below the
    last one seen, 0 where none was; so that nobody's own requests become stale by it."""
    a, b = both(watched, caller)
    watched.talks(a)
    watched.after(300.1)
    to_callee, to_caller = question(watched, b), question(watched, a)
    invite = a.legs[a.current].sent[0]
    answer = next(t for t in b.legs[b.current].sent if t.code == 200)
    assert to_callee.uri == uri_of(b.contact)
    assert to_caller.uri == uri_of(a.contact)
    assert (to_callee.get("from"), to_callee.get("to")) == (invite.get("from"), answer.get("to"))
    assert (to_caller.get("from"), to_caller.get("to")) == (answer.get("to"), invite.get("from"))
    assert (to_callee.cseq, to_caller.cseq) == (0, 0)
    for text in (to_callee, to_caller):
        assert len(text.all("via")) == 1
        assert not text.has("record-route")
        assert text.get("content-length") == "0"
    for _ in range(2):
        refreshes(a, b, "UPDATE", "200")
        refreshes(b, a, "UPDATE", "200")
    refreshes(b, a, "INFO", "200")
    watched.after(300.1)
    assert (question(watched, b).cseq, question(watched, a).cseq) == (2, 2)
    refreshes(a, b, "INFO", "200")
    refreshes(b, a, "INFO", "200")
    watched.hangs_up(a)


@pytest.mark.parametrize("loose", [";lr", ""])
def test_it_follows_the_route(watched: World, loose: str) -> None:
    """RFC 3261 §12.2.1.1: further proxies, loose and strict."""
    proxies = (f"<sip:192.0.2.10:5070{loose};hop=a>", f"<sip:198.51.100.1:5080{loose};hop=b>")
    for side, proxy in zip((watched.pbx, watched.carrier), proxies, strict=True):
        side.behind = [proxy]
        side.contact = f"<sip:{side.name}@10.0.0.7:5062>"
    watched.talks()
    watched.after(300.1)
    for side, proxy in zip((watched.pbx, watched.carrier), proxies, strict=True):
        text = question(watched, side)
        target = uri_of(side.contact)
        assert (text.uri, text.all("route")) == (
            (target, [proxy]) if loose else (uri_of(proxy), [f"<{target}>"])
        )
    watched.hangs_up()


def misses(world: World, side: Agent, number: int) -> None:
    """So many questions, each with its copies, that are not answered."""
    for _ in range(number):
        side.gets("OPTIONS")
        world.after(9.7)
        side.gets("OPTIONS", times=4)
        side.gets_nothing()
        world.after(0.4)


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_a_pbx_that_is_silent(watched: World, caller: str) -> None:
    """Three misses, 10 s apart: then the carrier gets a BYE, and the line goes when it has answered that: until then
    it counts."""
    watched.talks(both(watched, caller)[0])
    watched.after(300.1)
    question(watched, watched.carrier)
    misses(watched, watched.pbx, 2)
    watched.carrier.gets_nothing()
    watched.holds(**held(caller))
    misses(watched, watched.pbx, 1)
    bye = watched.carrier.gets("BYE")
    assert bye.cseq == (2 if caller == "pbx" else 1)
    watched.holds(**held(caller))
    watched.carrier.sends("200 BYE")
    watched.holds_nothing()
    record = watched.record()
    assert (record.reason, record.ended_by) == ("the PBX did not answer 3 probes", "gate")
    assert reaped(watched, "probe_silence") == 1


def test_a_408_is_a_miss(watched: World) -> None:
    """Whoever it comes from: it says that nobody answered. The next question comes in its time, not at once."""
    watched.talks()
    watched.after(300.1)
    question(watched, watched.carrier)
    for _ in range(2):
        watched.pbx.gets("OPTIONS")
        watched.pbx.sends("408 OPTIONS")
        watched.after(9.8)
        watched.pbx.gets_nothing()
        watched.after(0.3)
    watched.carrier.gets_nothing()
    watched.pbx.gets("OPTIONS")
    watched.pbx.sends("408 OPTIONS")
    watched.carrier.gets("BYE")
    watched.carrier.sends("200 BYE")
    watched.holds_nothing()


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_a_carrier_that_is_silent(watched: World, caller: str) -> None:
    """Its lines go at once, and the PBX hears that nobody is there."""
    watched.talks(both(watched, caller)[0])
    watched.after(300.1)
    question(watched, watched.pbx)
    misses(watched, watched.carrier, 2)
    watched.holds(**held(caller))
    misses(watched, watched.carrier, 1)
    watched.holds_nothing()
    watched.pbx.gets("BYE")
    watched.pbx.sends("200 BYE")
    record = watched.record()
    assert (record.reason, record.ended_by) == ("the trunk did not answer 3 probes", "gate")


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("dead", ["pbx", "carrier"])
def test_a_481_means_dead_at_once(watched: World, caller: str, dead: str) -> None:
    """A PBX that has started anew knows none of its calls: within the interval its lines are free."""
    watched.talks(both(watched, caller)[0])
    watched.after(300.1)
    one, other = both(watched, dead)
    question(watched, other)
    one.gets("OPTIONS")
    one.sends("481 OPTIONS")
    other.gets("BYE")
    if dead == "pbx":
        watched.holds(**held(caller))
    else:
        watched.holds_nothing()
    other.sends("200 BYE")
    watched.holds_nothing()
    who = "PBX" if dead == "pbx" else "trunk"
    assert watched.record().reason == f"the {who} knows the call no more (481 to a probe)"
    assert reaped(watched, "probe_481") == 1


@pytest.mark.parametrize("answer", ["481", "200", ""])
def test_both_are_dead(watched: World, answer: str) -> None:
    """The first that shows it ends the call; whatever the other makes of its BYE, or nothing at all."""
    watched.talks()
    watched.after(300.1)
    watched.carrier.gets("OPTIONS")
    watched.pbx.gets("OPTIONS")
    watched.pbx.sends("481 OPTIONS")
    watched.carrier.gets("BYE")
    if answer:
        watched.carrier.sends("481 OPTIONS")
        watched.carrier.sends(f"{answer} BYE")
        watched.holds_nothing()
    else:
        watched.after(31.9)
        watched.holds(outbound=1)
        watched.after(0.2)
        watched.holds_nothing()
        watched.carrier.inbox.clear()
    assert len(watched.records) == 1
    assert sum(reaped(watched, r) for r in ("probe_481", "probe_silence")) == 1


def test_it_cannot_be_delivered(watched: World) -> None:
    """ICMP, or no connection: a miss at once, and the next question comes in its time."""
    watched.talks()
    watched.after(300.1)
    question(watched, watched.carrier)
    for n in range(3):
        watched.unreachable(watched.pbx.gets("OPTIONS"))
        if n < 2:
            watched.after(9.8)
            watched.pbx.gets_nothing()
            watched.carrier.gets_nothing()
            watched.after(0.3)
    watched.carrier.gets("BYE")
    watched.carrier.sends("200 BYE")
    watched.holds_nothing()


def test_misses_count_in_a_row(watched: World) -> None:
    """Two, an answer, two: nothing has happened."""
    watched.talks()
    for _ in range(3):
        while not watched.pbx.inbox:
            watched.after(0.1)
            if watched.carrier.inbox:
                question(watched, watched.carrier)
        misses(watched, watched.pbx, 2)
        question(watched, watched.pbx)
    watched.holds(outbound=1)
    watched.hangs_up()


def test_a_late_answer_counts_for_the_next_question(watched: World) -> None:
    """An answer to a question that was given up matches nothing; the copies of the next one ask again."""
    watched.talks()
    watched.after(300.1)
    question(watched, watched.carrier)
    watched.pbx.gets("OPTIONS")
    late = watched.pbx.sends("200 OPTIONS", lost=True)
    watched.after(10)
    watched.pbx.gets("OPTIONS", times=4)
    watched.pbx.transmits(late.data)
    assert watched.rejected("stray response") == 1
    question(watched, watched.pbx)
    watched.after(290)
    watched.holds(outbound=1)
    watched.hangs_up()


@pytest.mark.parametrize("who", ["pbx", "carrier"])
def test_traffic_is_a_sign_of_life(watched: World, who: str) -> None:
    """Requests and answers in the dialog: who sends them need not be asked, and who answers neither."""
    watched.talks()
    for _ in range(6):
        watched.after(250)
        refreshes(*both(watched, who), "INFO", "200")
    watched.after(299)
    watched.holds(outbound=1)
    watched.hangs_up()


def test_traffic_between_two_questions(watched: World) -> None:
    """Who sends something is alive, though he has not answered."""
    watched.talks()
    watched.after(300.1)
    question(watched, watched.carrier)
    misses(watched, watched.pbx, 2)
    watched.pbx.gets("OPTIONS")
    refreshes(watched.pbx, watched.carrier, "INFO", "200")
    watched.after(20)
    watched.pbx.gets("OPTIONS", times=4)
    watched.holds(outbound=1)
    watched.after(219)
    watched.pbx.gets_nothing()
    watched.carrier.gets_nothing()
    for _ in range(80):  # the next round: its first miss is no third
        watched.after(1)
        if watched.carrier.inbox:
            question(watched, watched.carrier)
    assert len(watched.pbx.inbox) > 5
    watched.pbx.inbox.clear()
    watched.holds(outbound=1)
    watched.hangs_up()


def test_an_answer_at_the_very_moment(watched: World) -> None:
    """On a fast line question and answer have one time; the miss before it is forgotten."""
    watched.talks()
    asked: set[str] = set()
    while len(asked) < 2:
        watched.until(watched.next_deadline)
        if watched.carrier.inbox:
            question(watched, watched.carrier)
        while watched.pbx.inbox:
            asked.add(watched.pbx.gets("OPTIONS").branch)
    watched.pbx.sends("500 OPTIONS")
    watched.after(200)
    watched.pbx.gets_nothing()
    watched.hangs_up()


def test_a_100_is_no_answer(watched: World) -> None:
    """The next hop has it; that says nothing of who is behind."""
    watched.talks()
    watched.after(300.1)
    question(watched, watched.carrier)
    for n in range(3):
        watched.pbx.gets("OPTIONS")
        watched.pbx.sends("100 OPTIONS")
        watched.after(9.7)
        watched.pbx.inbox.clear()  # copies, at longer intervals
        watched.after(0.4)
        assert bool(watched.carrier.inbox) is (n == 2)
    watched.carrier.gets("BYE")
    watched.carrier.sends("200 BYE")
    watched.holds_nothing()


@pytest.mark.parametrize("code", ["481", "408"])
def test_what_is_no_sign_of_life(watched: World, code: str) -> None:
    """A 481 or 408 to a request of the other side ends only what it must (RFC 5057), but proves nothing."""
    watched.talks()
    watched.after(290)
    watched.pbx.sends("INFO")
    watched.carrier.gets("INFO")
    watched.carrier.sends(f"{code} INFO")
    watched.pbx.inbox.clear()
    watched.after(10.1)
    question(watched, watched.carrier)
    watched.pbx.inbox.clear()  # a late 100 of the INFO
    watched.hangs_up()


def test_only_the_silent_side_is_asked(watched: World) -> None:
    """A request that nobody answers is a sign of life of its sender only."""
    watched.talks()
    watched.after(280)
    watched.pbx.sends("INFO")
    watched.carrier.gets("INFO")
    watched.after(20.1)
    watched.carrier.gets("INFO", times=7)
    question(watched, watched.carrier)
    watched.pbx.gets("100 INFO")
    watched.pbx.gets_nothing()
    watched.carrier.sends("200 INFO")
    watched.pbx.gets("200 INFO")
    watched.hangs_up()


@pytest.mark.parametrize("answer", ["200", "481", "408", ""])
def test_the_call_ends_while_a_question_is_out(watched: World, answer: str) -> None:
    """Then nobody cares any more."""
    watched.talks()
    watched.after(300.1)
    watched.carrier.gets("OPTIONS")
    watched.pbx.gets("OPTIONS")
    watched.pbx.sends("BYE")
    watched.carrier.gets("BYE")
    watched.carrier.sends("200 BYE")
    watched.pbx.gets("200 BYE")
    if answer:
        watched.carrier.sends(f"{answer} OPTIONS")
        watched.pbx.sends(f"{answer} OPTIONS")
    watched.after(60)
    for side in (watched.pbx, watched.carrier):
        side.inbox.clear()  # copies
    assert len(watched.records) == 1
    assert watched.record().reason == ""


def test_the_pbx_hangs_up_while_the_gate_does(watched: World) -> None:
    """It was not dead after all: its BYE crosses with ours. One record, one line."""
    watched.talks()
    watched.after(300.1)
    question(watched, watched.carrier)
    watched.pbx.gets("OPTIONS")
    watched.pbx.sends("481 OPTIONS")
    watched.carrier.gets("BYE")
    watched.pbx.sends("BYE")
    theirs = watched.carrier.gets("BYE")
    assert len(theirs.all("via")) == 2
    watched.carrier.sends("481 BYE")
    watched.pbx.gets("481 BYE")
    watched.holds_nothing()
    watched.carrier.sends("200 BYE")
    assert len(watched.records) == 1


def test_the_longest_call_is_over_while_the_gate_hangs_up(ladder: Ladder, latest: None) -> None:
    """One hang-up is enough."""
    world = ladder(max_call_seconds=310, probing=PROBING)
    world.talks()
    world.after(300.1)
    question(world, world.carrier)
    world.pbx.gets("OPTIONS")
    world.pbx.sends("481 OPTIONS")
    world.carrier.gets("BYE")
    world.after(12)
    world.carrier.gets("BYE", times=5)
    world.pbx.gets_nothing()
    world.carrier.sends("200 BYE")
    world.holds_nothing()
    record = world.record()
    assert (record.rule, record.reason) == ("", "the PBX knows the call no more (481 to a probe)")


def test_one_dialog_of_a_fork_is_dead(watched: World) -> None:
    """Its BYE goes into that dialog; the call lives on, and ends for its own reason."""
    forked(watched, "", "")
    watched.after(300.1)
    for tag in ("one", "two"):
        text = watched.carrier.gets("OPTIONS")
        assert text.to_tag == tag
        watched.carrier.sends("481 OPTIONS" if tag == "two" else "200 OPTIONS")
        asked = watched.pbx.inbox[0][1]
        assert asked.from_tag == tag
        watched.pbx.gets("OPTIONS")
        watched.pbx.sends("500 OPTIONS")
        if tag == "two":
            bye = watched.pbx.gets("BYE")
            assert bye.from_tag == "two"
            watched.pbx.sends("200 BYE")
    watched.holds(outbound=1)
    watched.pbx.sends("BYE", tag="one")
    watched.carrier.gets("BYE")
    watched.carrier.sends("200 BYE")
    watched.pbx.gets("200 BYE")
    watched.holds_nothing()
    record = watched.record()
    assert (record.reason, record.ended_by) == ("", "caller")


def test_a_second_dialog_without_a_timer_is_asked_in_time(watched: World) -> None:
    """Not only when the first one's session ends."""
    forked(watched, "Session-Expires: 7200", "")
    watched.after(300.1)
    assert question(watched, watched.carrier).to_tag == "two"
    question(watched, watched.pbx)
    for tag in ("one", "two"):
        watched.pbx.sends("BYE", tag=tag)
        watched.carrier.gets("BYE")
        watched.carrier.sends("200 BYE")
        watched.pbx.gets("200 BYE")


def test_a_dialog_of_a_fork_that_is_over_is_not_asked(watched: World) -> None:
    forked(watched, "", "")
    watched.pbx.sends("BYE", tag="one")
    watched.carrier.gets("BYE")
    watched.carrier.sends("200 BYE")
    watched.pbx.gets("200 BYE")
    watched.after(300.1)
    assert question(watched, watched.carrier).to_tag == "two"
    assert question(watched, watched.pbx).from_tag == "two"
    watched.hangs_up()


def test_a_callee_that_answers_after_the_first_look(ladder: Ladder, latest: None) -> None:
    """Its dialog is looked after as well."""
    world = ladder(probing=Probing(interval=10.0, misses=1, gap=1.0))
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    for tag, session in (("one", ["Session-Expires: 7200"]), ("two", [])):
        world.carrier.sends("200 INVITE", tag=tag, headers=session)
        world.pbx.gets("200 INVITE")
        world.pbx.sends("ACK", tag=tag)
        world.carrier.gets("ACK")
        world.after(15 if tag == "one" else 10.1)
    assert question(world, world.carrier).to_tag == "two"
    question(world, world.pbx)
    for tag in ("one", "two"):
        world.pbx.sends("BYE", tag=tag)
        world.carrier.gets("BYE")
        world.carrier.sends("200 BYE")
        world.pbx.gets("200 BYE")


def test_the_longest_call_while_one_dialog_is_hung_up(ladder: Ladder, latest: None) -> None:
    """Each dialog of a fork is hung up once."""
    world = ladder(max_call_seconds=310, probing=PROBING)
    forked(world, "", "")
    world.after(300.1)
    for tag in ("one", "two"):
        question(world, world.carrier)
        assert world.pbx.gets("OPTIONS").from_tag == tag
        world.pbx.sends("481 OPTIONS" if tag == "one" else "500 OPTIONS")
    assert world.carrier.gets("BYE").to_tag == "one"
    world.after(8)
    world.carrier.gets("BYE", times=4)
    world.carrier.sends("200 BYE", lost=True)
    world.after(1.95)
    for side, tag in ((world.carrier, "to"), (world.pbx, "from")):
        bye = side.gets("BYE")
        assert (bye.to_tag if tag == "to" else bye.from_tag) == "two"
        side.sends("200 BYE")
    world.carrier.repeats("200 BYE", call="")
    world.after(30)
    world.carrier.inbox.clear()
    world.holds_nothing()
    assert world.record().rule == "C1"


def test_behind_nat(ladder: Ladder, latest: None) -> None:
    """It is asked where its messages come from."""
    world = ladder(probing=PROBING)
    world.pbx.sent_by, world.pbx.contact = "10.0.0.7:5062", "<sip:pbx@10.0.0.7:5062>"
    world.talks()
    world.after(300.1)
    question(world, world.carrier)
    question(world, world.pbx)
    world.hangs_up()


@pytest.mark.parametrize("over", [("TCP", "UDP"), ("UDP", "TCP")])
def test_over_streams(ladder: Ladder, latest: None, over: tuple[str, str]) -> None:
    """No copies there; the misses are the same."""
    world = ladder(probing=PROBING, pbx_over=over[0], carrier_over=over[1])
    world.talks()
    dead, other = (world.pbx, world.carrier) if over[0] == "TCP" else (world.carrier, world.pbx)
    world.after(300.1)
    question(world, other)
    for _ in range(3):
        dead.gets("OPTIONS")
        world.after(10)
    other.gets("BYE")
    other.sends("200 BYE")
    world.holds_nothing()


def test_they_are_not_all_asked_at_once(ladder: Ladder) -> None:
    """Calls that began together are asked in the last fifth of the interval, apart from each other."""
    world = ladder(probing=PROBING, cps=None, outbound_calls=None, calls=None)
    began_at: dict[str, float] = {}
    for n in range(40):
        world.talks(call=f"c{n}")
        began_at[world.labels[f"c{n}"]] = world.now
    began = world.now
    asked: list[float] = []
    silent: list[float] = []
    while world.now < began + 301:
        world.after(0.5)
        for side in (world.pbx, world.carrier):
            for _, text in side.inbox[:]:
                assert text.method == "OPTIONS"
                asked.append(world.now - began)
                silent.append(world.now - began_at[text.call_id])
                side.gets("OPTIONS")
                side.sends("200 OPTIONS")
    assert len(asked) == 80
    assert min(silent) >= 240
    assert max(asked) <= 300.6
    assert len(set(asked)) > 20
    for n in range(40):
        world.hangs_up(call=f"c{n}")


def test_a_call_without_an_ack_is_not_asked(watched: World) -> None:
    """§13.3.1.4: it has its own time, and its own reason."""
    watched.pbx.sends("INVITE")
    watched.pbx.gets("100")
    watched.carrier.gets("INVITE")
    watched.carrier.sends("200")
    watched.pbx.gets("200")
    watched.after(64.1)
    watched.holds_nothing()
    assert watched.record().reason == "the answer was never acknowledged"
    assert reaped(watched, "no_ack") == 1


def test_an_interval_shorter_than_everything_else(ladder: Ladder, latest: None) -> None:
    """As it is configured; before an ACK has come too."""
    world = ladder(probing=Probing(interval=5.0, misses=1, gap=1.0))
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.after(5.1)
    question(world, world.carrier)
    world.pbx.gets("OPTIONS")
    world.after(1)
    world.pbx.gets("OPTIONS")
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE")
    world.holds_nothing()


def test_a_gap_longer_than_a_transaction(ladder: Ladder, latest: None) -> None:
    """Timer F ends a question after 32 s; the next one comes when it should."""
    world = ladder(probing=Probing(interval=100.0, misses=2, gap=60.0))
    world.talks()
    world.after(100.1)
    question(world, world.carrier)
    world.pbx.gets("OPTIONS")
    world.after(59.8)
    world.pbx.gets("OPTIONS", times=10)
    question(world, world.carrier) if world.carrier.inbox else None
    world.after(0.3)
    question(world, world.pbx)
    world.holds(outbound=1)
    world.hangs_up()


def test_a_reload_changes_it_for_calls_that_are_up(watched: World) -> None:
    """The directory is looked at when something is due."""
    watched.talks()
    watched.after(10)
    watched.directory.probing = Probing(interval=1000.0)
    watched.after(900)
    watched.pbx.gets_nothing()
    watched.carrier.gets_nothing()
    watched.after(90.1)
    question(watched, watched.carrier)
    question(watched, watched.pbx)
    watched.hangs_up()


def test_a_trunk_that_challenges_everything(ladder: Ladder, latest: None) -> None:
    """It asks who asks, and so it lives; a question is not asked again with credentials. The BYE for a dead PBX is,
    with the numbers that this trunk knows."""
    world = ladder(account=ACCOUNT, probing=PROBING)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("407", headers=[challenge()])
    world.carrier.gets("ACK")
    assert world.carrier.gets("INVITE").cseq == 2
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.after(300.1)
    assert world.carrier.gets("OPTIONS").cseq < 2
    world.carrier.sends("407 OPTIONS", headers=[challenge("n2")])
    world.carrier.gets_nothing()
    world.pbx.gets("OPTIONS")
    world.pbx.sends("481 OPTIONS")
    bye = world.carrier.gets("BYE")
    world.carrier.sends("407 BYE", headers=[challenge("n3")])
    again = world.carrier.gets("BYE")
    assert 2 < bye.cseq < again.cseq
    check(again, "n3", method="BYE", uri=again.uri)
    world.holds(outbound=1)
    world.carrier.sends("200 BYE")
    world.holds_nothing()
    assert world.record().reason == "the PBX knows the call no more (481 to a probe)"


# -- a BYE that gets no answer ---------------------------------------------------------------------------------------


def second_gateway_answers(world: World) -> Agent:
    """The first is busy; the call is with the second."""
    one, two = world.gateways
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    one.gets("INVITE")
    one.sends("503")
    one.gets("ACK")
    two.gets("INVITE")
    two.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    two.gets("ACK")
    return two


def test_after_a_failover_the_pbx_gets_no_answer(ladder: Ladder) -> None:
    """§11, Timer F, with the gateway that has the call."""
    world = ladder(gateways=2)
    two = second_gateway_answers(world)
    world.pbx.sends("BYE")
    two.gets("BYE")
    world.after(31.9)
    world.holds(outbound=1)
    world.after(0.2)
    world.holds_nothing()
    two.gets("BYE", times=10)
    world.pbx.gets("100 BYE")
    assert world.record().reason == "no answer to a BYE"
    assert reaped(world, "no_answer") == 1


def test_after_a_failover_the_carrier_gets_no_answer(ladder: Ladder) -> None:
    """§11: its own BYE frees at its receipt, whatever becomes of it."""
    world = ladder(gateways=2)
    two = second_gateway_answers(world)
    two.sends("BYE")
    world.holds_nothing()
    world.after(32.1)
    world.pbx.gets("BYE", times=11)
    two.gets("100 BYE")
    assert reaped(world, "no_answer") == 0, "the call was over before"


def test_a_bye_with_credentials_gets_no_answer(ladder: Ladder) -> None:
    """A challenge, then silence: Timer F of the second try."""
    world = ladder(gateways=2)
    two = second_gateway_answers(world)
    world.pbx.sends("BYE")
    two.gets("BYE")
    two.sends("407 BYE")
    world.pbx.gets("407 BYE")
    world.after(5)
    world.pbx.sends("BYE", headers=['Proxy-Authorization: Digest username="u", response="x"'])
    two.gets("BYE")
    world.after(31.9)
    world.holds(outbound=1)
    world.after(0.2)
    world.holds_nothing()
    two.gets("BYE", times=10)
    world.pbx.gets("100 BYE")


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_a_challenge_that_is_never_answered(watched: World, caller: str) -> None:
    """The PBX has hung up for itself and does not try again: it knows the call no more when it is asked."""
    watched.talks(both(watched, caller)[0])
    watched.pbx.sends("BYE")
    watched.carrier.gets("BYE")
    watched.carrier.sends("401 BYE")
    watched.pbx.gets("401 BYE")
    watched.holds(**held(caller))
    watched.after(300.1)
    question(watched, watched.carrier)
    watched.pbx.gets("OPTIONS")
    watched.pbx.sends("481 OPTIONS")
    watched.carrier.gets("BYE")
    watched.carrier.sends("200 BYE")
    watched.holds_nothing()


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("who", ["pbx", "carrier"])
def test_a_bye_that_never_arrives(watched: World, caller: str, who: str) -> None:
    """All its copies were lost on the way to us: that side is gone, the other does not know it."""
    watched.talks(both(watched, caller)[0])
    one, other = both(watched, who)
    one.sends("BYE", lost=True)
    watched.after(300.1)
    question(watched, other)
    one.gets("OPTIONS")
    one.sends("481 OPTIONS")
    other.gets("BYE")
    other.sends("200 BYE")
    watched.holds_nothing()


def test_a_bye_whose_answer_is_lost(world: World) -> None:
    """It went through; its copies are absorbed, and the line is free once."""
    world.talks()
    world.pbx.sends("BYE")
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE", lost=True)
    world.after(1.6)
    world.carrier.gets("BYE", times=2)
    world.carrier.repeats("200 BYE")
    world.pbx.gets("200 BYE")
    world.holds_nothing()


@pytest.mark.parametrize("lost", ["pbx", "carrier"])
def test_of_two_crossing_byes_one_is_lost(world: World, lost: str) -> None:
    """The other is enough."""
    world.talks()
    for side in (world.pbx, world.carrier):
        side.sends("BYE", lost=side.name == lost)
    one, other = both(world, lost)
    one.gets("BYE")
    one.sends("481 BYE")
    other.gets("481 BYE")
    world.holds_nothing()
    assert len(world.records) == 1
