"""What the fuzzer has found, each as a ladder of its own."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
from tests.proxy.ladder import World
from tests.proxy.stores import SAME_TURN


@pytest.fixture
def ladder() -> Iterator[Callable[..., World]]:
    """Each test ends its own."""

    def make(**options: object) -> World:
        return World(SAME_TURN, **options)  # type: ignore[arg-type]

    try:
        yield make
    finally:
        gc.unfreeze()
        gc.enable()


def test_a_final_answer_that_lost_the_caller_s_via(ladder: Callable[..., World]) -> None:
    """It can't go up (RFC 3261 §16.7 step 3): as if it had not come. It once ended the call and left its caller without
    an answer and the transaction in memory for ever."""
    world = ladder()
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    answer = world.carrier.sends("486", lost=True).data
    second = [line for line in answer.split(b"\r\n") if line.startswith(b"Via:")][1]
    world.carrier.transmits(answer.replace(second + b"\r\n", b""))
    world.pbx.gets_nothing()
    assert world.rejected("no Via left") == 1
    world.holds(outbound=1)
    world.after(32.1)
    world.carrier.inbox.clear()  # the copies of the INVITE
    world.pbx.gets("408")
    world.pbx.sends("ACK")
    world.ends()


@pytest.mark.parametrize("method", ["BYE", "OPTIONS", "FOO"])
def test_an_answer_to_another_method_with_the_branch_of_an_invite(
    ladder: Callable[..., World], method: str
) -> None:
    """RFC 3261 §17.1.3: branch and method both decide whose answer it is."""
    world = ladder()
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    answer = world.carrier.sends("486", lost=True).data
    world.carrier.transmits(answer.replace(b"CSeq: 1 INVITE", b"CSeq: 1 " + method.encode()))
    world.pbx.gets_nothing()
    assert world.rejected("stray response") == 1
    world.carrier.transmits(answer)
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")
    world.ends()


def test_a_re_invite_without_a_token_leaves_no_cycle(ladder: Callable[..., World]) -> None:
    """After a restart a re-INVITE takes a token; where there is none it is refused, and nothing of it stays."""
    world = ladder(cps=1)
    world.talks()
    world.after(5.0)
    world.restarts()  # the calls of the second before it may hold all tokens
    world.pbx.sends("re-INVITE")
    world.pbx.gets("100")
    world.pbx.gets("500")
    world.pbx.sends("ACK")
    world.carrier.gets_nothing()
    world.ends()


def test_a_route_with_headers_never_becomes_the_request_uri(ladder: Callable[..., World]) -> None:
    """A strict Route takes the Request-URI's place (RFC 3261 §16.6 step 6), and what stands behind its question mark
    would be headers that nobody has checked (§19.1.1)."""
    world = ladder()
    world.talks()
    bye = world.pbx.sends("BYE", lost=True).data
    route = next(line for line in bye.split(b"\r\n") if line.startswith(b"Route:"))
    world.pbx.transmits(bye.replace(route, route + b", <sip:next.example?Route=%3Csip:evil%3E>"))
    world.carrier.gets_nothing()
    world.pbx.gets("400 BYE")
    world.hangs_up(world.carrier)
    world.ends()
