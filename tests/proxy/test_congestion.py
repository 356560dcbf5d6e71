"""Rule K11: a key's calls slow down while its trunk says that it is congested, and come back in full."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World

from callgate.proxy.trunk.health import Rules

SAYS = ["X-Twilio-Error: 32204 Trunk CPS limit exceeded"]
PATIENT = Rules(down_after=1000)
"""The circuit breaker keeps out of it: a gateway that gives plain 503s would be left alone for a while."""


def offered(world: World) -> str:
    """A call of the PBX: `refused` by the gate, or with the carrier now."""
    world.pbx.sends("INVITE")
    world.settle()
    answers = [text for _, text in world.pbx.inbox]
    world.pbx.inbox.clear()
    for text in answers:
        world.pbx.read(text)
    last = answers[-1]
    if last.code < 200:
        return "passed"
    world.pbx.sends("ACK")
    verdict = last.get("x-callgate-verdict")
    return verdict or f"answered {last.code}"


def gone(world: World, gateway: Agent, code: str, *headers: str) -> None:
    gateway.gets("INVITE")
    gateway.sends(code, headers=headers)
    gateway.gets("ACK")
    world.pbx.gets("500" if code == "503" else code)
    world.pbx.sends("ACK")


def calls(world: World, number: int, code: str = "486", *headers: str) -> list[str]:
    """So many calls at once; what became of each. Those that pass are answered with `code`."""
    outcomes = []
    for _ in range(number):
        outcome = offered(world)
        if outcome == "passed":
            gone(world, world.carrier, code, *headers)
        outcomes.append(outcome)
    return outcomes


def passed(world: World, number: int) -> int:
    return calls(world, number).count("passed")


def level(world: World) -> int:
    return world.key.congestion.level(world.now)


def test_words_slow_the_key_at_once(ladder: Ladder) -> None:
    world = ladder(cps=10, rules=PATIENT)
    assert calls(world, 1, "503", *SAYS) == ["passed"]
    assert level(world) == 1
    world.after(1.1)
    outcomes = calls(world, 8)
    assert outcomes[:5] == ["passed"] * 5
    assert set(outcomes[5:]) == {"rule=K11;value=6;limit=5"}
    assert world.records[-1].rule == "K11"
    assert world.gauge("calls_total", "outbound", "refused", "K11") == 3.0


def test_the_warning_names_it(ladder: Ladder) -> None:
    world = ladder(cps=2, rules=PATIENT)
    calls(world, 1, "503", *SAYS)
    world.after(1.1)
    assert passed(world, 1) == 1
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    answer = world.pbx.gets("503")
    assert 'callgate "K11 calls, the trunk is congested: 2/1"' in answer.get("warning")
    assert not answer.has("retry-after")
    world.pbx.sends("ACK")


def test_a_person_hears_of_it(ladder: Ladder) -> None:
    world = ladder(cps=10, rules=PATIENT)
    calls(world, 1, "503", *SAYS)
    alert = next(alert for alert in world.alerts if alert.rule == "K11")
    assert (alert.key, alert.trunk, alert.severity) == ("acme", "carrier", "warning")
    assert "slowed to 5 per second" in alert.text


def test_a_lone_503_slows_nothing(ladder: Ladder) -> None:
    """It may be about that one call. Two within ten seconds are about the trunk."""
    world = ladder(cps=10, rules=PATIENT)
    calls(world, 1, "503")
    assert level(world) == 0
    world.after(10.5)
    calls(world, 1, "503")
    assert level(world) == 0
    world.after(5)
    calls(world, 1, "503")
    assert level(world) == 1


def test_a_retry_after_of_the_last_gateway_counts_at_once(ladder: Ladder) -> None:
    world = ladder(cps=10, rules=PATIENT)
    calls(world, 1, "503", "Retry-After: 1")
    assert level(world) == 1


def test_a_503_that_another_gateway_makes_good_says_nothing(ladder: Ladder) -> None:
    """One gateway is out of order: that is no congestion of the trunk."""
    world = ladder(gateways=2, cps=50, rules=PATIENT)
    one, two = world.gateways
    for _ in range(5):
        world.pbx.sends("INVITE")
        world.pbx.gets("100")
        one.gets("INVITE")
        one.sends("503")
        one.gets("ACK")
        gone(world, two, "486")
    assert level(world) == 0


def test_words_count_wherever_they_come_from(ladder: Ladder) -> None:
    """A carrier's limit is on the trunk, over all its gateways."""
    world = ladder(gateways=2, cps=50, rules=PATIENT)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("503", headers=SAYS)
    world.carrier.gets("ACK")
    gone(world, world.gateways[1], "486")
    assert level(world) == 1


def test_no_token_for_the_second_gateway_says_nothing(ladder: Ladder) -> None:
    """The call ends with the first one's 503, but nobody has asked the second."""
    world = ladder(gateways=2, cps=1, rules=PATIENT)
    for _ in range(3):
        calls(world, 1, "503")
        world.after(2.2)
    assert level(world) == 0
    world.gateways[1].gets_nothing()


@pytest.mark.parametrize("code", ["486", "403", "500", "480"])
def test_other_answers_say_nothing(ladder: Ladder, code: str) -> None:
    world = ladder(cps=10, rules=PATIENT)
    calls(world, 5, code, *SAYS)
    assert level(world) == 0


def test_down_to_one_call_in_eight_seconds_and_back(ladder: Ladder) -> None:
    """cps 4: 2, 1, then one in 2, 4, 8 s. Ten seconds without a 503 and a step is taken back; at the end it is as if
    nothing had been."""
    world = ladder(cps=4, rules=PATIENT)
    reached = []
    for _ in range(5):
        calls(world, 1, "503", *SAYS)
        reached.append(level(world))
        world.after(8.1)
    assert reached == [1, 2, 3, 4, 5]
    assert passed(world, 3) == 1
    world.after(7.9)
    assert level(world) == 4, "ten seconds since the last word have gone by"
    assert passed(world, 3) == 1, "one in four seconds now"
    world.after(4.1)
    assert passed(world, 3) == 1
    world.after(50)
    assert level(world) == 0
    assert passed(world, 6) == 4


def test_many_words_at_once_are_one(ladder: Ladder) -> None:
    """Ten calls are out, all are refused."""
    world = ladder(cps=10, rules=PATIENT)
    labels = [f"c{n}" for n in range(10)]
    for label in labels:
        world.pbx.sends("INVITE", call=label)
        world.pbx.gets("100", call=label)
        world.carrier.gets("INVITE", call=label)
    for label in labels:
        world.carrier.sends("503", call=label, headers=SAYS)
        world.carrier.gets("ACK", call=label)
        world.pbx.gets("500", call=label)
        world.pbx.sends("ACK", call=label)
    assert level(world) == 1


def test_a_copy_is_not_slowed(ladder: Ladder) -> None:
    """One call in eight seconds may go; the copy at 3.5 s, which needs a token of its own, is no further call."""
    world = ladder(cps=4, rules=PATIENT)
    for n in range(5):
        world.key.congestion.heard(world.now + n, plain=False)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.after(3.6)
    world.carrier.gets("INVITE", times=4)
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_a_failover_is_slowed(ladder: Ladder) -> None:
    """A further attempt is a new call to the carrier."""
    world = ladder(gateways=2, cps=2, rules=PATIENT)
    world.key.congestion.heard(world.now, plain=False)  # one per second
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.after(0.6)
    world.carrier.gets("INVITE")
    world.carrier.sends("503")
    world.carrier.gets("ACK")
    world.pbx.gets("500")
    world.pbx.sends("ACK")
    world.gateways[1].gets_nothing()


def test_answers_to_a_challenge_are_not_slowed(ladder: Ladder) -> None:
    """The trunk has seen that call."""
    world = ladder(cps=2, rules=PATIENT)
    world.key.congestion.heard(world.now, plain=False)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    first = world.carrier.gets("INVITE")
    world.carrier.sends("407")
    world.carrier.gets("ACK")
    asked = world.pbx.gets("407").get("from")
    world.pbx.sends("ACK")
    world.pbx.sends("INVITE", change={"call-id": first.call_id, "cseq": "2 INVITE", "from": asked})
    world.pbx.gets("100")
    gone(world, world.carrier, "486")


def test_calls_that_are_up_are_not_touched(ladder: Ladder) -> None:
    world = ladder(cps=10, rules=PATIENT)
    world.talks(call="up")
    calls(world, 1, "503", *SAYS)
    world.hangs_up(call="up")


def test_words_are_not_a_gateway_that_is_down(ladder: Ladder) -> None:
    """The circuit breaker would stop everything, where less is enough."""
    world = ladder(cps=50)
    calls(world, 10, "503", *SAYS)
    assert world.trunk.gateways[0].up
    world.after(60)
    assert passed(world, 1) == 1


def test_a_carrier_with_a_lower_limit_is_found(ladder: Ladder) -> None:
    """It takes 3 calls a second and refuses the rest with its words; the PBX offers 20 a second for a minute. In the
    end most calls that leave are taken, and it is never starved."""
    world = ladder(cps=16)
    arrived: list[float] = []
    taken = refused = 0
    for n in range(1200):
        if offered(world) == "passed":
            recent = [at for at in arrived if world.now - at < 1.0]
            if len(recent) < 3:
                arrived.append(world.now)
                gone(world, world.carrier, "486")
                taken += n >= 200
            else:
                gone(world, world.carrier, "503", *SAYS)
                refused += n >= 200
        world.until(world.started + (n + 1) * 0.05)
    assert taken >= 50, "at least one a second"
    assert refused <= taken / 2
