"""kill -9 while a call looks for a gateway that takes it: who was left is not called again, and each copy of its INVITE
takes a token of its own."""

from __future__ import annotations

import pytest
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World

from callgate.proxy.commands import Send
from callgate.sip.message import parse

FIRST, SECOND = "198.51.100.1", "198.51.100.2"


def arrivals(world: World) -> list[tuple[float, str, bytes]]:
    """When INVITEs leave from here on, to which gateway, and of which call."""
    found: list[tuple[float, str, bytes]] = []
    post = world.post

    def noted(send: Send) -> None:
        if send.data.startswith(b"INVITE"):
            found.append((world.now, send.flow.host, parse(send.data).call_id))
        post(send)

    world.post = noted  # type: ignore[method-assign]
    return found


def gives_up(world: World) -> None:
    """Timer B; who has heard what is of no interest."""
    world.after(60.0)
    for agent in world.agents:
        for entry in [e for e in agent.inbox if e[1].code >= 300]:
            agent.read(entry[1])
            agent.sends("ACK")
        agent.inbox.clear()
    world.holds_nothing()


def hosts(sent: list[tuple[float, str, bytes]]) -> set[str]:
    return {host for _, host, _ in sent}


def within_a_second(sent: list[tuple[float, str, bytes]]) -> int:
    """How many the carrier may count as new; copies within their token's second are one."""
    return max(len({each[1:] for each in sent if at <= each[0] < at + 0.99}) for at, _, _ in sent)


@pytest.mark.parametrize("away", [0.1, 0.5, 2.0])
def test_who_was_left_is_not_called_again(ladder: Ladder, away: float) -> None:
    """Neither of them answers, before and after."""
    world = ladder(gateways=2, cps=1, queue_seconds=5.0, try_seconds=4.0)
    sent = arrivals(world)
    world.pbx.sends("INVITE")
    world.after(5.0)
    assert hosts(sent) == {FIRST, SECOND}
    sent.clear()
    assert world.crashes(away).ringing == 1
    world.after(40.0)
    assert hosts(sent) == {SECOND}
    assert within_a_second(sent) == 1
    gives_up(world)


def test_while_the_next_one_waits_for_its_token(ladder: Ladder) -> None:
    """It has left the first: the second is next."""
    world = ladder(gateways=2, cps=1, queue_seconds=5.0, try_seconds=4.0)
    sent = arrivals(world)
    world.pbx.sends("INVITE", call="a")
    world.after(3.8)
    world.pbx.sends("INVITE", call="b")  # takes the token
    world.after(0.4)
    assert hosts(sent) == {FIRST}
    world.crashes(0.2)
    sent.clear()
    world.after(4.0)
    assert hosts([each for each in sent if each[2] == world.labels["a"].encode()]) == {SECOND}
    assert within_a_second(sent) == 1
    gives_up(world)


def test_who_has_refused_is_not_called_again(ladder: Ladder) -> None:
    """The first gateway has answered 503; the other one is silent, and nobody is left."""
    world = ladder(gateways=2, cps=5, queue_seconds=5.0, try_seconds=4.0)
    sent = arrivals(world)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("503")
    world.carrier.gets("ACK")
    world.after(1.0)
    assert hosts(sent) == {FIRST, SECOND}
    sent.clear()
    world.crashes()
    world.after(40.0)
    assert hosts(sent) == {SECOND}
    gives_up(world)


@pytest.mark.parametrize("cps", [1, 2])
def test_each_copy_takes_a_token(ladder: Ladder, cps: int) -> None:
    """Many calls that had just left: their copies go out one after the other."""
    world = ladder(cps=cps, queue_seconds=30.0)
    for call in "abc":
        world.pbx.sends("INVITE", call=call)
    world.after(2.4)
    sent = arrivals(world)
    world.crashes(1.5)
    world.after(12.0)
    assert sent
    assert within_a_second(sent) <= cps
    gives_up(world)
