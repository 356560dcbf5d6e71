"""Emergency calls with a route (rules.md "Emergency calls"): forwarded at once, whatever else would hold a call up;
counted where they go by the contract's own trunk; and the authorities' way back."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder, make_ladders
from tests.proxy.ladder import DID, World
from tests.proxy.stores import NEVER_ANSWERS, SAME_TURN
from tests.proxy.text import Text

OTHER_DID = "+815012345670"
SAYS_DID = {"from": f"<sip:{DID}@192.0.2.10>;tag=emg"}


def calls_for_help(world: World, *, to: str = "110", call: str = "help", **invite: object) -> Text:
    """The INVITE that arrives at the route, in the same moment."""
    before = world.now
    world.pbx.sends("INVITE", call=call, to=to, **invite)  # type: ignore[arg-type]
    world.pbx.gets("100", call=call)
    route = world.routes[0] if world.routes else world.carrier
    got = route.gets("INVITE", call=call)
    assert world.now == before, "it has waited"
    return got


def talks(world: World, route: Agent, call: str = "help") -> None:
    route.sends("200", call=call)
    world.pbx.gets("200", call=call)
    world.pbx.sends("ACK", call=call)
    route.gets("ACK", call=call)


def hangs_up(world: World, route: Agent, call: str = "help", who: Agent | None = None) -> None:
    one, other = (world.pbx, route) if who is None else (route, world.pbx)
    one.sends("BYE", call=call)
    other.gets("BYE", call=call)
    other.sends("200 BYE", call=call)
    one.gets("200 BYE", call=call)


# -- by a route of its own -----------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["110", "118", "119", "184110", "186119", "sos", "911", "0119"])
def test_it_goes_to_the_route_as_it_was_dialled(any_ladder: Ladder, to: str) -> None:
    """Also a suspect: blocked like an emergency without a route, so forwarded like one with it. The store is never
    asked, and may never answer."""
    world = any_ladder(emergency="route")
    got = calls_for_help(world, to=to)
    assert got.uri == f"sip:{to}@203.0.113.1:5080"
    talks(world, world.routes[0])
    hangs_up(world, world.routes[0])
    assert world.store.asked == 0
    alert = world.alerts[0]
    assert (alert.severity, alert.key) == ("critical", "acme")
    assert alert.details["caller"] == "1001"
    assert alert.details["dialled"] == to
    assert alert.details["time"]
    assert world.gauge("emergency_calls_total", "passed") == 1
    assert world.gauge("emergency_calls_total", "refused") == 0
    record = world.record()
    assert (record.verdict, record.outcome, record.trunk) == ("passed", "answered", "emergency")
    assert record.gateway == "sip:203.0.113.1:5080"


@pytest.mark.parametrize("uri", ["urn:service:sos", "urn:service:sos.police", "urn:service:sos.fire"])
def test_a_service_urn_stays_one(any_ladder: Ladder, uri: str) -> None:
    world = any_ladder(emergency="route")
    assert calls_for_help(world, uri=uri).uri == uri
    talks(world, world.routes[0])
    hangs_up(world, world.routes[0], who=world.routes[0])


def test_every_limit_full_draining_and_the_carrier_down(any_ladder: Ladder) -> None:
    world = any_ladder(emergency="route", cps=0, outbound_calls=0, calls=0)
    world.core.draining = True
    calls_for_help(world)
    talks(world, world.routes[0])
    hangs_up(world, world.routes[0])


def test_it_is_not_cut_by_the_longest_call(ladder: Ladder) -> None:
    world = ladder(emergency="route", max_call_seconds=10.0)
    calls_for_help(world)
    talks(world, world.routes[0])
    world.after(3600.0)
    hangs_up(world, world.routes[0])


def test_the_call_goes_on_after_a_restart(ladder: Ladder) -> None:
    """Inside the dialog too it goes to the route, not to the trunk's own gateway."""
    world = ladder(emergency="route", emergency_gateways=2)
    calls_for_help(world)
    talks(world, world.routes[0])
    world.restarts()
    hangs_up(world, world.routes[0])


@pytest.mark.parametrize("code", ["503", "486", "480", "500", "404", "403"])
def test_the_next_target_is_tried(any_ladder: Ladder, code: str) -> None:
    """Whatever the first one says: a busy channel, a number it does not know."""
    world = any_ladder(emergency="route", emergency_gateways=2)
    calls_for_help(world)
    one, two = world.routes
    one.sends(code)
    one.gets("ACK")
    two.gets("INVITE")
    talks(world, two)
    hangs_up(world, two)
    assert world.store.asked == 0


def test_a_silent_target_is_left_and_the_last_one_too(any_ladder: Ladder) -> None:
    """Seconds, not Timer B: the PBX has another route."""
    world = any_ladder(emergency="route", emergency_gateways=2)
    calls_for_help(world)
    one, two = world.routes
    world.after(4.1)
    one.gets("INVITE", times=3)
    two.gets("INVITE")
    world.pbx.gets_nothing()
    world.after(4.1)
    two.gets("INVITE", times=3)
    answer = world.pbx.gets("503")
    world.pbx.sends("ACK")
    assert not answer.has("retry-after")
    assert "emergency route" in answer.get("warning")
    assert [a.rule for a in world.alerts if not a.resolved] == ["K-X1+EMG", "EMG-ROUTE"]


def test_one_that_can_not_be_reached(any_ladder: Ladder) -> None:
    world = any_ladder(emergency="route")
    world.unreachable(calls_for_help(world))
    world.pbx.gets("503")
    world.pbx.sends("ACK")


@pytest.mark.parametrize("code", ["408", "410", "480", "484", "486", "488", "500", "503", "600", "603"])
def test_what_would_stop_a_pbx_is_not_passed_on(any_ladder: Ladder, code: str) -> None:
    world = any_ladder(emergency="route")
    calls_for_help(world)
    route = world.routes[0]
    route.sends(code, headers=["Retry-After: 60"] if code == "503" else ())
    route.gets("ACK")
    answer = world.pbx.gets("503")
    world.pbx.sends("ACK")
    assert not answer.has("retry-after")
    assert world.record().outcome == "failed"


def test_down_by_options_and_by_calls_it_is_tried_all_the_same(any_ladder: Ladder) -> None:
    """Nothing better is known: not even an open circuit breaker or a Retry-After holds it up."""
    world = any_ladder(emergency="route")
    target = world.trunk.emergency.gateways[0].site.targets[0]  # type: ignore[union-attr]
    assert target.health is not None
    for _ in range(9):
        target.health.options_failed("no answer", world.now)
        target.health.call_failed(world.now, "503 to calls")
    target.health.rest(300.0, world.now)
    calls_for_help(world)
    talks(world, world.routes[0])
    hangs_up(world, world.routes[0])


def test_the_caller_gives_up(any_ladder: Ladder) -> None:
    world = any_ladder(emergency="route")
    calls_for_help(world)
    route = world.routes[0]
    route.sends("180")
    world.pbx.gets("180")
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    route.gets("CANCEL")
    route.sends("200 CANCEL")
    route.sends("487 INVITE")
    route.gets("ACK")
    world.pbx.gets("487 INVITE")
    world.pbx.sends("ACK")
    assert world.record().outcome == "cancelled"


# -- by the contract's own trunk -------------------------------------------------------------------------


def test_the_next_ordinary_call_waits_for_it(ladder: Ladder) -> None:
    """Its token is taken although none is free, and its line; reported apart from breaches."""
    world = ladder(emergency="carrier", cps=1, outbound_calls=1)
    world.talks(call="a")
    calls_for_help(world)
    world.settle()
    assert (world.used("outbound_cps"), world.used("outbound_calls")) == (2, 2)
    told = [a for a in world.alerts if a.rule == "V1+EMG"]
    assert [(a.value, a.limit, a.severity) for a in told] == [(2, 1, "warning")]
    assert not [a for a in world.alerts if "breach" in a.text]
    talks(world, world.carrier)
    world.after(0.9)
    world.pbx.sends("INVITE", call="b")
    world.pbx.gets("100", call="b")
    world.settle()
    world.pbx.gets("503", call="b")
    world.pbx.sends("ACK", call="b")
    hangs_up(world, world.carrier)
    world.hangs_up(call="a")


def test_no_store_answers(request: pytest.FixtureRequest) -> None:
    world = make_ladders(request, NEVER_ANSWERS)(emergency="carrier")
    calls_for_help(world)
    world.after(1.0)
    world.carrier.gets("INVITE")  # 0.5 s, within its token
    talks(world, world.carrier)
    hangs_up(world, world.carrier)


def test_while_draining_with_every_limit_full(ladder: Ladder) -> None:
    world = ladder(emergency="carrier", cps=0, outbound_calls=0, calls=0)
    world.core.draining = True
    calls_for_help(world)
    talks(world, world.carrier)
    hangs_up(world, world.carrier)


def test_copies_go_out_and_take_tokens(ladder: Ladder) -> None:
    """On a lossy line: no copy waits, and each that comes later than its token takes one more."""
    world = ladder(emergency="carrier", cps=0, try_seconds=9.0)
    calls_for_help(world)
    world.after(0.6)
    world.carrier.gets("INVITE")
    world.after(1.0)
    world.carrier.gets("INVITE")
    world.after(2.0)
    world.carrier.gets("INVITE")
    world.settle()
    assert world.used("outbound_cps") == 1
    assert world.store.asked == 3  # its own, and those of the last two copies
    talks(world, world.carrier)
    hangs_up(world, world.carrier)


def test_the_next_gateway_at_once(ladder: Ladder) -> None:
    world = ladder(emergency="carrier", cps=1, gateways=2)
    calls_for_help(world)
    world.carrier.sends("503")
    world.carrier.gets("ACK")
    world.gateways[1].gets("INVITE")
    world.settle()
    assert world.used("outbound_cps") == 2
    talks(world, world.gateways[1])
    hangs_up(world, world.gateways[1])


def test_a_challenge_of_the_trunk_passes_and_its_answer_is_free(ladder: Ladder) -> None:
    world = ladder(emergency="carrier", cps=1)
    sent = calls_for_help(world)
    world.carrier.sends("407", headers=['Proxy-Authenticate: Digest realm="t", nonce="n"'])
    world.carrier.gets("ACK")
    world.pbx.gets("407")
    world.pbx.sends("ACK")
    again = {"call-id": sent.call_id, "from": sent.get("from"), "cseq": "2 INVITE"}
    world.pbx.sends("INVITE", call="again", to="110", change=again)
    world.pbx.gets("100", call="again")
    world.carrier.gets("INVITE", call="again")
    world.settle()
    assert world.used("outbound_cps") == 1
    talks(world, world.carrier, call="again")
    hangs_up(world, world.carrier, call="again")


def test_its_answer_is_not_free_at_another_gateway(ladder: Ladder) -> None:
    """The one that asked is gone from the config, or its name leads elsewhere: the next has not seen the call."""
    world = ladder(emergency="carrier", gateways=2, cps=3)
    one, two = world.gateways
    sent = calls_for_help(world)
    one.sends("407", headers=['Proxy-Authenticate: Digest realm="t", nonce="n"'])
    one.gets("ACK")
    world.pbx.gets("407")
    world.pbx.sends("ACK")
    world.settle()
    assert world.used("outbound_cps") == 1
    world.key.trunk.gateways = world.key.trunk.gateways[1:]
    again = {"call-id": sent.call_id, "from": sent.get("from"), "cseq": "2 INVITE"}
    world.pbx.sends("INVITE", call="again", to="110", change=again)
    world.pbx.gets("100", call="again")
    two.gets("INVITE", call="again")
    world.settle()
    assert world.used("outbound_cps") == 2
    talks(world, two, call="again")
    hangs_up(world, two, call="again")


# -- without a way -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [503, 403, 404, 380])
def test_the_code_is_the_trunks(any_ladder: Ladder, code: int) -> None:
    world = any_ladder(emergency_code=code)
    world.pbx.sends("INVITE", to="110")
    answer = world.pbx.gets(str(code))
    world.pbx.sends("ACK")
    assert answer.has("warning")
    assert not answer.has("retry-after")


@pytest.mark.parametrize(
    "uri",
    [
        "sip:110:x@127.0.0.1:5060",  # a password
        "sip:119;rn=+81312345678@127.0.0.1:5060",  # a number that routes by itself
        "sip:11%000@127.0.0.1:5060",  # NUL
    ],
)
def test_what_can_not_be_forwarded_as_it_is(any_ladder: Ladder, uri: str) -> None:
    """Never 484, which would stop the PBX."""
    world = any_ladder(emergency="route")
    world.pbx.sends("INVITE", uri=uri)
    world.pbx.gets("503")
    world.pbx.sends("ACK")
    assert world.alerts[0].severity == "critical"
    assert world.gauge("emergency_calls_total", "refused") == 1


def test_sips_where_the_route_is_not_tls(any_ladder: Ladder) -> None:
    """No downgrade (RFC 5630 §4), and no 480."""
    world = any_ladder(emergency="route")
    world.pbx.sends("INVITE", uri="sips:110@127.0.0.1:5060")
    world.pbx.gets("503")
    world.pbx.sends("ACK")


def test_only_to_looks_like_one(ladder: Ladder) -> None:
    """Outbound is judged by the Request-URI; a person hears of it."""
    world = ladder(emergency="route")
    world.pbx.sends("INVITE", to="110", uri="sip:0312345678@127.0.0.1:5060")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")
    alert = world.alerts[0]
    assert (alert.rule, alert.severity) == ("EMG-TO", "warning")
    assert alert.details["number"] == "110"
    assert world.gauge("emergency_calls_total", "passed") == 0


# -- the authorities call back ------------------------------------------------------------------------------


def has_called_for_help(world: World, call: str = "help", **invite: object) -> None:
    calls_for_help(world, call=call, **invite)  # type: ignore[arg-type]
    talks(world, world.routes[0], call)
    hangs_up(world, world.routes[0], call)


def is_full(world: World, call: str, **invite: object) -> None:
    world.carrier.sends("INVITE", call=call, **invite)  # type: ignore[arg-type]
    world.carrier.gets("100", call=call)
    world.settle()
    world.carrier.gets("486", call=call)
    world.carrier.sends("ACK", call=call)


def test_for_an_hour_its_callers_number_is_exempt(ladder: Ladder) -> None:
    world = ladder(emergency="route", inbound_calls=1, dids=(OTHER_DID,))
    world.talks(world.carrier, call="a")
    is_full(world, "b")
    has_called_for_help(world, change=SAYS_DID)
    is_full(world, "c", to=OTHER_DID)
    world.after(3500.0)
    world.talks(world.carrier, call="d")
    world.hangs_up(world.carrier, call="d")
    world.after(110.0)
    is_full(world, "e")
    world.hangs_up(world.carrier, call="a")


def test_a_caller_that_shows_no_number_of_the_keys(ladder: Ladder) -> None:
    """An extension: nobody knows what number the trunk showed, so any of the key's may be called back."""
    world = ladder(emergency="route", inbound_calls=1, dids=(OTHER_DID,))
    world.talks(world.carrier, call="a")
    has_called_for_help(world)
    world.talks(world.carrier, call="b", to=OTHER_DID)
    world.hangs_up(world.carrier, call="b")
    world.hangs_up(world.carrier, call="a")


def test_a_refused_one_exempts_nobody(ladder: Ladder) -> None:
    world = ladder(inbound_calls=1)
    world.talks(world.carrier, call="a")
    world.pbx.sends("INVITE", call="help", to="110")
    world.pbx.gets("503", call="help")
    world.pbx.sends("ACK", call="help")
    is_full(world, "b")
    world.hangs_up(world.carrier, call="a")


def test_they_call_back_by_the_route(ladder: Ladder) -> None:
    """Its gateway is the trunk's, as far as calls in go."""
    world = ladder(emergency="route")
    has_called_for_help(world)
    route = world.routes[0]
    route.sends("INVITE", call="back")
    route.gets("100", call="back")
    world.settle()
    world.pbx.gets("INVITE", call="back")
    world.pbx.sends("200", call="back")
    route.gets("200", call="back")
    route.sends("ACK", call="back")
    world.pbx.gets("ACK", call="back")
    route.sends("BYE", call="back")
    world.pbx.gets("BYE", call="back")
    world.pbx.sends("200 BYE", call="back")
    route.gets("200 BYE", call="back")


def test_callers_are_remembered_in_bounds(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callgate.proxy.contract.emergency.CALL_BACKS", 1)
    world = make_ladders(request, SAME_TURN)(emergency="route", inbound_calls=0, dids=(OTHER_DID,))
    has_called_for_help(world, change=SAYS_DID)
    has_called_for_help(world, change={"from": f"<sip:{OTHER_DID}@192.0.2.10>;tag=emg2"}, call="two")
    is_full(world, "a")
    world.talks(world.carrier, call="b", to=OTHER_DID)
    world.hangs_up(world.carrier, call="b")
