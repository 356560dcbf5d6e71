"""Which gateway a call takes (RFC 3263 §4.3; interface.md): OPTIONS, calls that fail in a row, Retry-After."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World

from callgate.proxy.flow import Trouble
from callgate.proxy.trunk.breaker import OPEN_SECONDS
from callgate.proxy.trunk.health import Rules

WATCHED = Rules(interval=30.0, timeout=4.0, down_after=3, up_after=2, retry_after_max=300.0)


def called(world: World) -> None:
    world.pbx.sends("INVITE")
    world.pbx.gets("100")


def refuses(gateway: Agent, code: str = "503", *headers: str) -> None:
    gateway.gets("INVITE")
    gateway.sends(code, headers=headers)
    gateway.gets("ACK")


def ends_with(world: World, code: str) -> str:
    """The PBX hears the end of its call: the Warning."""
    answer = world.pbx.gets(code)
    world.pbx.sends("ACK")
    return answer.get("warning")


def taken(world: World, gateway: Agent) -> None:
    """A call that this gateway takes."""
    called(world)
    gateway.gets("INVITE")
    gateway.sends("486")
    gateway.gets("ACK")
    ends_with(world, "486")


def failed(world: World, *gateways: Agent, code: str = "500") -> None:
    """A call that each of these refuses in turn."""
    called(world)
    for gateway in gateways:
        refuses(gateway)
    ends_with(world, code)


def up(world: World, gateway: int = 0) -> float:
    name = world.trunk.gateways[gateway].name
    return world.meters.values[world.meters.series("trunk_up", "carrier", name)]


def told(world: World, rule: str) -> list[bool]:
    """The alerts of a rule so far: was it resolved?"""
    return [alert.resolved for alert in world.alerts if alert.rule == rule]


def answers_options(world: World, gateway: Agent, code: str = "200", *headers: str) -> None:
    gateway.gets("OPTIONS")
    gateway.sends(f"{code} OPTIONS", headers=headers)


# -- OPTIONS ------------------------------------------------------------------------------------------------------


def test_what_they_look_like(ladder: Ladder) -> None:
    """RFC 3261 §11: a request of the gate's own, outside every dialog, without a body."""
    world = ladder(rules=WATCHED)
    world.after(0.05)
    request = world.carrier.gets("OPTIONS")
    assert request.uri == "sip:198.51.100.1:5080"
    assert request.get("to") == "<sip:198.51.100.1:5080>"
    assert ";tag=" in request.get("from")
    assert request.get("max-forwards") == "70"
    assert request.get("content-length") == "0"
    assert not request.has("record-route")
    assert not request.has("contact")
    world.carrier.sends("200 OPTIONS")


def test_every_interval_each_a_new_request(ladder: Ladder) -> None:
    world = ladder(rules=WATCHED)
    seen = set()
    for _ in range(4):
        world.after(0.05)
        request = world.carrier.gets("OPTIONS")
        seen.add((request.branch, request.get("cseq"), request.get("from")))
        world.carrier.sends("200 OPTIONS")
        world.after(29.9)
        world.carrier.gets_nothing()
        world.after(0.05)
    assert len(seen) == 4
    world.carrier.inbox.clear()


def test_they_begin_at_different_times(ladder: Ladder) -> None:
    """No burst at the start: the dice spread them over the first interval."""
    thrown = iter([0.1, 0.6, 0.9])
    world = ladder(gateways=3, rules=WATCHED, dice=lambda: next(thrown))
    for gateway, at in zip(world.gateways, (3.0, 18.0, 27.0), strict=True):
        world.until(world.started + at - 0.05)
        gateway.gets_nothing()
        world.after(0.1)
        answers_options(world, gateway)


@pytest.mark.parametrize("code", ["200", "401", "404", "405", "483", "500", "501", "603"])
def test_whoever_answers_is_there(ladder: Ladder, code: str) -> None:
    world = ladder(rules=WATCHED)
    for _ in range(4):
        world.after(0.05)
        answers_options(world, world.carrier, code)
        world.after(29.95)
    assert up(world) == 1.0
    assert not told(world, "trunk-down")
    world.carrier.inbox.clear()


@pytest.mark.parametrize("how", ["408", "503", "silence", "ICMP"])
def test_down_after_three(ladder: Ladder, how: str) -> None:
    """Pitfall 20: a 503 to OPTIONS is no sign of health. One alert, however long it lasts."""
    world = ladder(rules=WATCHED)
    for n in range(6):
        world.after(0.05)
        request = world.carrier.gets("OPTIONS")
        if how == "ICMP":
            world.unreachable(request)
        elif how != "silence":
            world.carrier.sends(f"{how} OPTIONS")
        world.after(4.1)
        assert up(world) == (1.0 if n < 2 else 0.0)
        world.carrier.inbox.clear()
        world.after(25.85)
    assert told(world, "trunk-down") == [False]
    world.carrier.inbox.clear()


def test_why_it_is_down(ladder: Ladder) -> None:
    """What the transport says stands in the alert, with its remedy, and in the Warning of calls."""
    world = ladder(rules=Rules(interval=30.0, timeout=4.0, down_after=1))
    world.after(0.05)
    trouble = Trouble(
        'TLS: name mismatch: wanted "a", its certificate names b', "set `trunks.carrier.tls.name`"
    )
    world.core.unreachable(world.carrier.gets("OPTIONS").data, world.now, trouble)
    world.carries_out()
    (alert,) = (alert for alert in world.alerts if alert.rule == "trunk-down")
    assert alert.text.endswith(f"OPTIONS can't be delivered: {trouble.text}")
    assert alert.advice == trouble.advice
    called(world)
    world.core.unreachable(world.carrier.gets("INVITE").data, world.now, trouble)
    world.carries_out()
    ends_with(world, "503")
    world.after(1)
    world.pbx.sends("INVITE")
    assert "calls can't be delivered: TLS: name mismatch: wanted 'a'" in ends_with(world, "503")
    world.carrier.inbox.clear()


def test_silence_is_timeout_seconds_long(ladder: Ladder) -> None:
    """Copies by Timer E until then (RFC 3261 §17.1.2.2), none after."""
    world = ladder(rules=Rules(interval=30.0, timeout=2.0, down_after=1))
    world.after(0.05)
    world.carrier.gets("OPTIONS")
    world.after(1.9)
    world.carrier.gets("OPTIONS", times=2)
    assert up(world) == 1.0
    world.after(0.1)
    assert up(world) == 0.0
    world.after(25)
    world.carrier.gets_nothing()


def test_an_answer_after_the_timeout_is_too_late(ladder: Ladder) -> None:
    world = ladder(rules=Rules(interval=30.0, timeout=2.0, down_after=1))
    world.after(2.1)
    world.carrier.gets("OPTIONS", times=3)
    world.carrier.sends("200 OPTIONS")
    assert up(world) == 0.0
    assert world.rejected("stray response") == 1


def test_provisional_answers_are_no_answer(ladder: Ladder) -> None:
    world = ladder(rules=Rules(interval=30.0, timeout=2.0, down_after=1))
    world.after(0.05)
    world.carrier.gets("OPTIONS")
    world.carrier.sends("100 OPTIONS")
    world.after(2.1)
    assert up(world) == 0.0
    world.carrier.inbox.clear()  # copies


def test_up_after_two_and_told_once(ladder: Ladder) -> None:
    world = ladder(rules=WATCHED)
    for _ in range(3):
        world.after(0.05)
        answers_options(world, world.carrier, "503")
        world.after(29.95)
    for expected in (0.0, 1.0, 1.0):
        world.after(0.05)
        answers_options(world, world.carrier)
        assert up(world) == expected
        world.after(29.95)
    assert told(world, "trunk-down") == [False, True]
    raised, resolved = (alert for alert in world.alerts if alert.rule == "trunk-down")
    assert raised.trunk == resolved.trunk == "carrier"
    assert raised.details["gateway"] == resolved.details["gateway"] == "sip:198.51.100.1:5080"
    assert "503 to OPTIONS" in raised.text
    world.carrier.inbox.clear()


def test_an_alert_for_each_gateway(ladder: Ladder) -> None:
    world = ladder(gateways=2, rules=WATCHED)
    for _ in range(3):
        world.after(0.05)
        for gateway in world.gateways:
            answers_options(world, gateway, "503")
        world.after(29.95)
    assert told(world, "trunk-down") == [False, False]
    active = world.meters.series("alerts_active", "trunk-down", "", "critical")
    assert world.meters.values[active] == 2.0
    for gateway in world.gateways:
        gateway.inbox.clear()


def silent_to_options(world: World, *gateways: Agent) -> None:
    for n in range(3):
        world.after(0.05)
        for gateway in world.gateways:
            if gateway not in gateways:
                answers_options(world, gateway)
        world.after(29.95 if n < 2 else 10.0)
    for gateway in world.gateways:
        gateway.inbox.clear()


def test_down_by_options_is_tried_last(ladder: Ladder) -> None:
    """interface.md: there are carriers that answer calls and no OPTIONS."""
    world = ladder(gateways=3, rules=WATCHED)
    one, two, three = world.gateways
    silent_to_options(world, one)
    called(world)
    refuses(two)
    refuses(three)
    refuses(one, "486")
    ends_with(world, "486")


def test_all_down_by_options_are_tried_all_the_same(ladder: Ladder) -> None:
    world = ladder(gateways=2, rules=WATCHED)
    silent_to_options(world, *world.gateways)
    taken(world, world.carrier)


def test_retry_after_of_options_is_for_options(ladder: Ladder) -> None:
    """It is left alone for so long; calls still go there, for nobody has refused one."""
    world = ladder(rules=WATCHED)
    world.after(0.05)
    answers_options(world, world.carrier, "503", "Retry-After: 100")
    world.after(50)
    world.carrier.gets_nothing()
    taken(world, world.carrier)
    world.after(49.9)
    world.carrier.gets_nothing()
    world.after(0.2)
    answers_options(world, world.carrier)


# -- calls that fail in a row ---------------------------------------------------------------------------------------


def test_all_gateways_down_is_503_at_once(ladder: Ladder) -> None:
    """interface.md; the answer says why, and takes nothing."""
    world = ladder(gateways=2)
    for _ in range(3):
        failed(world, *world.gateways)
    asked = world.store.asked
    world.pbx.sends("INVITE")
    answer = world.pbx.gets("503")
    assert 'callgate "trunk every gateway is down: 503 to calls"' in answer.get("warning")
    assert answer.get("x-callgate-verdict") == "rule=trunk"
    world.pbx.sends("ACK")
    assert world.store.asked == asked
    assert (world.records[-1].outcome, world.records[-1].rule) == ("refused", "trunk")
    assert told(world, "trunk-down") == [False, False]
    assert world.gauge("calls_total", "outbound", "refused", "trunk") == 1.0


def test_the_trunk_is_not_told_why(ladder: Ladder) -> None:
    """A MESSAGE of the PBX meets the same."""
    world = ladder()
    for _ in range(3):
        failed(world, world.carrier)
    world.pbx.sends("MESSAGE")
    assert world.pbx.gets("503 MESSAGE").get("x-callgate-verdict") == "rule=trunk"


@pytest.mark.parametrize("code", ["302", "404", "407", "408", "480", "486", "500", "504", "603"])
def test_other_answers_are_not_the_gateway_s_fault(ladder: Ladder, code: str) -> None:
    world = ladder(gateways=2)
    for _ in range(5):
        called(world)
        refuses(world.carrier, code)
        ends_with(world, code)
    assert up(world) == 1.0
    world.gateways[1].gets_nothing()


def test_one_that_fails_is_not_asked_for_a_while(ladder: Ladder) -> None:
    world = ladder(gateways=2)
    one, two = world.gateways
    for _ in range(3):
        called(world)
        refuses(one)
        refuses(two, "486")
        ends_with(world, "486")
    assert up(world) == 0.0
    assert up(world, 1) == 1.0
    taken(world, two)
    world.after(OPEN_SECONDS)
    taken(world, two)  # nobody knows that it is better: it would be asked after the second
    one.gets_nothing()


def test_half_open_by_one_call(ladder: Ladder) -> None:
    """The only gateway: after a pause one call tries it, others are refused meanwhile; it rings, and all is well."""
    world = ladder()
    for _ in range(3):
        failed(world, world.carrier)
    world.after(OPEN_SECONDS + 0.1)
    world.pbx.sends("INVITE", call="trial")
    world.pbx.gets("100", call="trial")
    world.carrier.gets("INVITE", call="trial")
    world.pbx.sends("INVITE", call="other")
    world.pbx.gets("503", call="other")
    world.pbx.sends("ACK", call="other")
    world.carrier.sends("180", call="trial")
    world.pbx.gets("180", call="trial")
    assert up(world) == 1.0
    taken(world, world.carrier)
    world.carrier.sends("486", call="trial")
    world.carrier.gets("ACK", call="trial")
    world.pbx.gets("486", call="trial")
    world.pbx.sends("ACK", call="trial")
    assert told(world, "trunk-down") == [False, True]


def test_a_trial_that_fails(ladder: Ladder) -> None:
    world = ladder()
    for _ in range(3):
        failed(world, world.carrier)
    world.after(OPEN_SECONDS + 0.1)
    failed(world, world.carrier)
    world.after(OPEN_SECONDS + 0.1)
    world.pbx.sends("INVITE")
    ends_with(world, "503")
    world.after(OPEN_SECONDS)
    taken(world, world.carrier)


def test_a_100_alone_does_not_open_it(ladder: Ladder) -> None:
    """A proxy in front of a dead carrier says 100 and then 503."""
    world = ladder()
    for _ in range(3):
        called(world)
        world.carrier.gets("INVITE")
        world.carrier.sends("100")
        world.carrier.sends("503")
        world.carrier.gets("ACK")
        ends_with(world, "500")
    assert up(world) == 0.0


@pytest.mark.parametrize("how", ["silence", "ICMP", "Timer B"])
def test_no_answer_counts(ladder: Ladder, how: str) -> None:
    world = ladder(gateways=1 if how == "Timer B" else 2, try_seconds=2.0)
    one = world.carrier
    for _ in range(3):
        called(world)
        invite = one.gets("INVITE")
        if how == "ICMP":
            world.unreachable(invite)
        elif how == "silence":
            world.after(2.1)
            one.gets("INVITE", times=2)
        else:
            world.after(32.1)
            one.gets("INVITE", times=6)
            ends_with(world, "408")
            continue
        refuses(world.gateways[1], "486")
        ends_with(world, "486")
    assert up(world) == 0.0
    if how == "Timer B":
        world.pbx.sends("INVITE")
        ends_with(world, "503")
    else:
        taken(world, world.gateways[1])


def test_options_go_first_when_the_pause_is_over(ladder: Ladder) -> None:
    """So that a caller need not wait for a gateway that is still dead; it answers, and has its place again."""
    world = ladder(gateways=2, rules=Rules(interval=1000.0), dice=lambda: 0.5)
    one, two = world.gateways
    for _ in range(3):
        called(world)
        world.unreachable(one.gets("INVITE"))
        refuses(two, "486")
        ends_with(world, "486")
    world.after(OPEN_SECONDS - 0.05)
    one.gets_nothing()
    world.after(0.1)
    answers_options(world, one)
    taken(world, one)
    assert up(world) == 1.0


def test_dead_to_options_and_to_calls_is_not_asked_all_the_time(ladder: Ladder) -> None:
    """One OPTIONS at the end of the pause, then every interval again: no storm."""
    world = ladder(gateways=2, rules=Rules(interval=1000.0), dice=lambda: 0.5)
    one, two = world.gateways
    for _ in range(3):
        called(world)
        world.unreachable(one.gets("INVITE"))
        refuses(two, "486")
        ends_with(world, "486")
    world.after(OPEN_SECONDS + 0.05)
    world.unreachable(one.gets("OPTIONS"))
    world.after(100)
    one.gets_nothing()


def test_a_gateway_that_shuts_while_a_call_is_under_way(ladder: Ladder) -> None:
    """The second asks for a pause while the first is silent: it is passed by, and the third has the call."""
    world = ladder(gateways=3)
    one, two, three = world.gateways
    world.pbx.sends("INVITE", call="slow")
    world.pbx.gets("100", call="slow")
    one.gets("INVITE", call="slow")
    world.trunk.gateways[1].site.targets[0].health.rest(60.0, world.now)  # type: ignore[union-attr]
    world.after(4.1)
    one.gets("INVITE", times=3, call="slow")
    three.gets("INVITE", call="slow")
    three.sends("486", call="slow")
    three.gets("ACK", call="slow")
    world.pbx.gets("486", call="slow")
    world.pbx.sends("ACK", call="slow")
    two.gets_nothing()


def test_in_dialog_requests_go_where_the_call_went(ladder: Ladder) -> None:
    """Whatever is thought of that gateway by then."""
    world = ladder(gateways=2)
    world.talks(call="up")
    for _ in range(3):
        called(world)
        refuses(world.gateways[0])
        refuses(world.gateways[1], "486")
        ends_with(world, "486")
    assert up(world) == 0.0
    world.pbx.sends("re-INVITE", call="up")
    world.pbx.gets("100", call="up")
    world.carrier.gets("re-INVITE", call="up")
    world.carrier.sends("200", call="up")
    world.pbx.gets("200", call="up")
    world.pbx.sends("ACK", call="up")
    world.carrier.gets("ACK", call="up")
    world.hangs_up(call="up")


def test_answers_to_a_challenge_go_to_who_asked(ladder: Ladder) -> None:
    """Nobody else knows its nonce: the first gateway is well again when the re-send comes, and does not get it."""
    world = ladder(gateways=2)
    one, two = world.gateways
    one_health = world.trunk.gateways[0].site.targets[0].health
    assert one_health is not None
    one_health.rest(1.0, world.now)
    called(world)
    first = two.gets("INVITE")
    two.sends("407", headers=['Proxy-Authenticate: Digest realm="carrier", nonce="x"'])
    two.gets("ACK")
    answer = world.pbx.gets("407")
    world.pbx.sends("ACK")
    world.after(2.0)
    again = {"call-id": first.call_id, "cseq": "2 INVITE", "from": answer.get("from")}
    world.pbx.sends("INVITE", change=again)
    world.pbx.gets("100")
    refuses(two, "486")
    ends_with(world, "486")
    taken(world, one)


# -- Retry-After ----------------------------------------------------------------------------------------------------


def test_the_next_gateway_while_the_first_rests(ladder: Ladder) -> None:
    """RFC 3261 §21.5.4; TTC JJ-90.24 §5.7: no call to it until then."""
    world = ladder(gateways=2)
    one, two = world.gateways
    called(world)
    refuses(one, "503", "Retry-After: 7 (busy);duration=3600")
    refuses(two, "486")
    ends_with(world, "486")
    world.after(6.8)
    taken(world, two)
    world.after(0.2)
    taken(world, one)
    assert up(world) == 1.0


def test_all_rest(ladder: Ladder) -> None:
    """503 at once, rule K11; the gate itself sends no Retry-After."""
    world = ladder(gateways=2, upstream_503="pass")
    called(world)
    refuses(world.gateways[0], "503", "Retry-After: 20")
    refuses(world.gateways[1], "503", "Retry-After: 10")
    ends_with(world, "503")
    world.pbx.sends("INVITE")
    answer = world.pbx.gets("503")
    assert 'callgate "K11 the trunk asks for a pause of 10 s"' in answer.get("warning")
    assert answer.get("x-callgate-verdict") == "rule=K11"
    assert not answer.has("retry-after")
    world.pbx.sends("ACK")
    assert (world.records[-1].outcome, world.records[-1].rule) == ("refused", "K11")
    world.after(10.1)
    taken(world, world.gateways[1])


@pytest.mark.parametrize("value", ["soon", "-1", "99999999999", "1e9", ""])
def test_rubbish_is_no_pause(ladder: Ladder, value: str) -> None:
    world = ladder()
    called(world)
    refuses(world.carrier, "503", f"Retry-After: {value}")
    ends_with(world, "500")
    taken(world, world.carrier)


def test_the_longest_pause_that_is_honoured(ladder: Ladder) -> None:
    world = ladder(rules=Rules(retry_after_max=5.0))
    called(world)
    refuses(world.carrier, "503", "Retry-After: 100000")
    ends_with(world, "500")
    world.after(4.9)
    world.pbx.sends("INVITE")
    ends_with(world, "503")
    world.after(0.2)
    taken(world, world.carrier)


@pytest.mark.parametrize("code", ["486", "480", "500", "600"])
def test_only_with_a_503(ladder: Ladder, code: str) -> None:
    """RFC 3261 §20.33: with other answers it is about the callee."""
    world = ladder()
    called(world)
    refuses(world.carrier, code, "Retry-After: 60")
    ends_with(world, code)
    taken(world, world.carrier)


def test_no_options_meanwhile(ladder: Ladder) -> None:
    world = ladder(rules=WATCHED)
    world.after(0.05)
    answers_options(world, world.carrier)
    called(world)
    refuses(world.carrier, "503", "Retry-After: 100")
    ends_with(world, "500")
    world.after(99.9)
    world.carrier.gets_nothing()
    world.after(0.2)
    answers_options(world, world.carrier)
