"""Several keys on one trunk: what one customer's calls meet shuts the gateway for that customer, and for others only
when they, or OPTIONS, meet the same."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.test_health import WATCHED, answers_options, refuses, told, up

from callgate.proxy.directory import Directory
from callgate.proxy.flow import Flow
from callgate.proxy.peers import Key, Numbers
from callgate.proxy.trunk.breaker import OPEN_SECONDS
from callgate.proxy.trunk.health import Rules

QUIET = Rules()
"""No OPTIONS."""


def shared(
    ladder: Ladder, keys: int = 3, rules: Rules = QUIET, gateways: int = 1
) -> tuple[World, list[Agent]]:
    """A trunk that so many keys share, and their PBXes: the first is `acme`'s."""
    world = ladder(rules=rules, gateways=gateways, cps=None)
    agents, found = [world.pbx], [world.key]
    for n in range(1, keys):
        host = f"192.0.2.{20 + n}"
        agent = Agent(world, f"pbx{n}", Flow(world.listeners[0], host, 5070), 5070)
        world.agents.append(agent)
        agents.append(agent)
        found.append(Key(f"key{n}", world.trunk, world.key.dial, networks=[ip_network(host)]))
    world.directory = Directory(world.listeners, [world.trunk], found, Numbers())
    world.core.directory = world.directory
    world.core.counts.prepare(world.directory)
    return world, agents


Fails = Callable[[World, Agent], None]


def by_503(world: World, pbx: Agent) -> None:
    pbx.sends("INVITE")
    pbx.gets("100")
    refuses(world.carrier)
    pbx.gets("500")
    pbx.sends("ACK")


def by_silence(world: World, pbx: Agent) -> None:
    """The carrier's border throws away what it does not like."""
    pbx.sends("INVITE")
    pbx.gets("100")
    world.after(32.1)
    pbx.gets("408")
    pbx.sends("ACK")
    world.carrier.inbox.clear()


def by_icmp(world: World, pbx: Agent) -> None:
    pbx.sends("INVITE")
    pbx.gets("100")
    world.unreachable(world.carrier.gets("INVITE"))
    pbx.gets("503")
    pbx.sends("ACK")


def passes(world: World, pbx: Agent) -> None:
    pbx.sends("INVITE")
    pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    pbx.gets("486")
    pbx.sends("ACK")


def is_shut(world: World, pbx: Agent, rule: str = "trunk") -> None:
    pbx.sends("INVITE")
    answer = pbx.gets("503")
    assert answer.get("x-callgate-verdict") == f"rule={rule}"
    if rule == "trunk":
        whose = "no gateway takes calls of this key" if up(world) else "every gateway is down"
        assert whose in answer.get("warning")
    pbx.sends("ACK")
    world.carrier.gets_nothing()


@pytest.mark.parametrize("fails", [by_503, by_silence], ids=["503", "silence"])
def test_one_customer_does_not_shut_the_trunk_for_others(ladder: Ladder, fails: Fails) -> None:
    """It dials what the carrier does not take. Its own calls rest, as if it were alone; theirs go on."""
    world, (bad, good, third) = shared(ladder)
    for _ in range(3):
        fails(world, bad)
    is_shut(world, bad)
    passes(world, good)
    passes(world, third)
    assert up(world) == 1.0
    assert not told(world, "trunk-down")
    (alert, *_) = [alert for alert in world.alerts if alert.rule == "trunk-refuses"]
    assert (alert.key, alert.trunk, alert.severity) == ("acme", "carrier", "warning")


def test_nor_in_all_eternity(ladder: Ladder) -> None:
    """Every trial of it fails for an hour; a call of the others in between, which fails for a reason of its own, does
    not make the two of them many."""
    world, (bad, good, third) = shared(ladder)
    for _ in range(3):
        by_503(world, bad)
    by_503(world, good)
    passes(world, third)
    for _ in range(60):
        world.after(60.0)
        by_503(world, bad)
        is_shut(world, bad)
    by_503(world, good)
    passes(world, good)
    passes(world, third)
    assert up(world) == 1.0


def test_a_customer_whose_calls_are_taken_again_goes_on(ladder: Ladder) -> None:
    world, (bad, _, _) = shared(ladder)
    for _ in range(3):
        by_503(world, bad)
    world.after(OPEN_SECONDS)
    passes(world, bad)
    passes(world, bad)
    assert world.trunk.gateways[0].site.targets[0].health.spotless  # type: ignore[union-attr]


def test_another_customer_s_success_does_not_open_it(ladder: Ladder) -> None:
    world, (bad, good, _) = shared(ladder)
    for _ in range(3):
        by_503(world, bad)
        passes(world, good)
    is_shut(world, bad)


def test_the_next_gateway_takes_its_calls(ladder: Ladder) -> None:
    world, (bad, good, _) = shared(ladder, gateways=2)
    two = world.gateways[1]
    for n in range(5):
        bad.sends("INVITE")
        bad.gets("100")
        if n < 3:
            refuses(world.carrier)
        two.gets("INVITE")
        two.sends("486")
        two.gets("ACK")
        bad.gets("486")
        bad.sends("ACK")
    passes(world, good)


def test_a_gateway_that_refuses_everybody_is_left_by_all(ladder: Ladder) -> None:
    """Three failures in a row, two of them of others than whoever has most: then it is not one customer's doing."""
    world, (one, two, three) = shared(ladder)
    by_503(world, one)
    by_503(world, two)
    by_503(world, three)
    for pbx in (one, two, three):
        is_shut(world, pbx)
    assert up(world) == 0.0
    assert told(world, "trunk-down") == [False]


def test_the_second_customer_confirms_it_sooner_than_by_itself(ladder: Ladder) -> None:
    world, (one, two, three) = shared(ladder)
    for _ in range(3):
        by_503(world, one)
    by_503(world, two)
    by_503(world, two)
    is_shut(world, two)
    is_shut(world, three)


def test_what_can_not_be_delivered_is_about_the_gateway(ladder: Ladder) -> None:
    """No customer can make ICMP errors by what it dials."""
    world, (one, two, _) = shared(ladder)
    for _ in range(3):
        by_icmp(world, one)
    is_shut(world, two)
    assert up(world) == 0.0
    world.after(OPEN_SECONDS)
    passes(world, two)
    passes(world, one)
    assert up(world) == 1.0


def test_the_pause_doubles_while_nothing_is_delivered(ladder: Ladder) -> None:
    world, (one, two, three) = shared(ladder)
    for _ in range(3):
        by_icmp(world, one)
    world.after(OPEN_SECONDS)
    by_icmp(world, two)
    world.after(2 * OPEN_SECONDS - 0.1)
    is_shut(world, three)
    world.after(0.1)
    passes(world, three)


def test_options_decide_at_once(ladder: Ladder) -> None:
    """A gateway that has answered OPTIONS is asked when one customer's calls fail: if it is silent to that as well, it
    is down for all."""
    world, (one, two, _) = shared(ladder, rules=WATCHED)
    world.after(0.1)
    answers_options(world, world.carrier)
    for _ in range(3):
        by_503(world, one)
    world.after(0.1)
    world.carrier.gets("OPTIONS")
    passes(world, two)
    world.after(4.0)
    world.carrier.inbox.clear()
    is_shut(world, two)
    assert up(world) == 0.0


def test_options_that_are_answered_leave_it_to_the_one(ladder: Ladder) -> None:
    world, (one, two, _) = shared(ladder, rules=WATCHED)
    world.after(0.1)
    answers_options(world, world.carrier)
    for _ in range(3):
        by_503(world, one)
    world.after(0.1)
    answers_options(world, world.carrier)
    is_shut(world, one)
    passes(world, two)


def test_a_gateway_that_never_answers_options_shows_nothing_by_that(ladder: Ladder) -> None:
    """There are carriers that answer calls only: silence to OPTIONS, in such a one, confirms no customer's failures."""
    world, (one, two, _) = shared(ladder, rules=WATCHED)
    world.after(10.0)
    world.carrier.inbox.clear()
    for _ in range(3):
        by_503(world, one)
    world.after(4.5)
    world.carrier.inbox.clear()
    is_shut(world, one)
    passes(world, two)


# -- Retry-After -----------------------------------------------------------------------------------------------------


def asks_for_pause(world: World, pbx: Agent, *headers: str) -> None:
    pbx.sends("INVITE")
    pbx.gets("100")
    refuses(world.carrier, "503", *headers)
    pbx.gets("500")
    pbx.sends("ACK")


def test_a_pause_is_the_customer_s_whose_call_it_was(ladder: Ladder) -> None:
    world, (one, two, _) = shared(ladder)
    asks_for_pause(world, one, "Retry-After: 100")
    is_shut(world, one, "K11")
    passes(world, two)
    world.after(100.0)
    passes(world, one)


def test_that_two_have_been_asked_for_is_everybody_s(ladder: Ladder) -> None:
    world, (one, two, three) = shared(ladder)
    asks_for_pause(world, one, "Retry-After: 100")
    asks_for_pause(world, two, "Retry-After: 30")
    is_shut(world, three, "K11")
    world.after(30.0)
    passes(world, three)
    passes(world, two)
    is_shut(world, one, "K11")


def test_two_that_were_asked_one_after_the_other_are_not_two(ladder: Ladder) -> None:
    world, (one, two, three) = shared(ladder)
    asks_for_pause(world, one, "Retry-After: 10")
    world.after(10.0)
    asks_for_pause(world, two, "Retry-After: 10")
    passes(world, three)
    passes(world, one)


@pytest.mark.parametrize("keys", [1, 3])
@pytest.mark.parametrize(
    "words", ['Warning: 399 carrier "CPS limit reached"', "X-Twilio-Error: 32017 Trunk CPS limit exceeded"]
)
def test_with_words_about_the_rate_it_slows_the_key_and_rests_nobody(
    ladder: Ladder, words: str, keys: int
) -> None:
    """K11 does what is asked for: less of this customer's calls."""
    world, (one, *others) = shared(ladder, keys)
    asks_for_pause(world, one, "Retry-After: 100", words)
    assert world.key.congestion.level(world.now) == 1
    for pbx in (one, *others):
        passes(world, pbx)
    assert up(world) == 1.0
