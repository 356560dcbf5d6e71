"""RFC 3261 §18.1.1: a request of more than 1300 octets goes over a stream, and as a datagram where there is none."""

from __future__ import annotations

from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.text import Text

from callgate.proxy.streams import ACKS_MAX

LARGE = b"v=0\r\n" + b"a=candidate:1 1 UDP 1 192.0.2.1 4000 typ host\r\n" * 40


def over(text: Text) -> str:
    return text.via.split()[0].rpartition("/")[2]


def large_call(world: World, transport: str = "TCP") -> Text:
    world.pbx.sends("INVITE", body=LARGE)
    world.pbx.gets("100")
    invite = world.carrier.gets("INVITE")
    assert over(invite) == transport
    return invite


def taken(world: World, caller: Agent, callee: Agent) -> None:
    """The callee answers, both hang up."""
    callee.sends("200")
    caller.gets("200")
    caller.sends("ACK")
    callee.gets("ACK")
    world.hangs_up(caller)


def test_a_large_invite_goes_over_tcp(ladder: Ladder) -> None:
    world = ladder(listens=("TCP",))
    invite = large_call(world)
    assert all("transport=tcp" in r or "transport" not in r for r in invite.all("record-route"))
    assert len(invite.all("record-route")) == 2  # RFC 5658: one for each side
    taken(world, world.pbx, world.carrier)
    world.holds_nothing()


def test_without_a_stream_it_goes_as_it_is(ladder: Ladder) -> None:
    """No TCP listener: there is nothing to change to."""
    world = ladder()
    large_call(world, "UDP")
    taken(world, world.pbx, world.carrier)


def test_a_peer_that_takes_no_stream_gets_a_datagram(ladder: Ladder) -> None:
    """The connection is refused: the same INVITE goes at once as a datagram, under the token that nothing has used;
    the next large one does not try again, until ten minutes later."""
    world = ladder(listens=("TCP",), cps=1)
    world.stalls()  # the shell holds it: the connection is still to be made
    world.pbx.sends("INVITE", body=LARGE)
    world.pbx.gets("100")
    world.settle()
    assert world.stalled is not None
    first, world.stalled = Text(world.stalled[0].data), None
    assert over(first) == "TCP"
    world.unreachable(first)
    second = world.carrier.gets("INVITE")
    assert over(second) == "UDP"
    assert second.branch != first.branch
    taken(world, world.pbx, world.carrier)
    world.after(2)
    large_call(world, "UDP")
    taken(world, world.pbx, world.carrier)
    world.after(600)
    large_call(world, "TCP")
    taken(world, world.pbx, world.carrier)


def test_what_was_sent_on_a_stream_is_not_sent_again(ladder: Ladder) -> None:
    """The stream broke after the INVITE had gone: the carrier may have seen it. It counts as a gateway that can't be
    reached, and the next one gets a token of its own."""
    world = ladder(listens=("TCP",), gateways=2)
    first = large_call(world)
    world.unreachable(first)
    two = world.gateways[1]
    assert over(two.gets("INVITE")) == "TCP"
    two.sends("486")
    two.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")
    world.carrier.gets_nothing()


def test_a_large_request_inside_a_dialog(ladder: Ladder) -> None:
    """UPDATE and the like: over TCP, and as a datagram where that is refused."""
    world = ladder(listens=("TCP",))
    world.talks()
    world.pbx.sends("UPDATE", body=LARGE)
    update = world.carrier.gets("UPDATE")
    assert over(update) == "TCP"
    world.unreachable(update)
    assert over(world.carrier.gets("UPDATE")) == "UDP"
    world.carrier.sends("200 UPDATE")
    world.pbx.gets("200 UPDATE")
    world.pbx.sends("re-INVITE", body=LARGE)
    world.pbx.gets("100")
    assert over(world.carrier.gets("re-INVITE")) == "UDP"
    world.carrier.sends("200 INVITE")
    world.pbx.gets("200 INVITE")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.hangs_up()


def test_a_call_in_goes_over_tcp_as_well(ladder: Ladder) -> None:
    world = ladder(listens=("TCP",))
    world.carrier.sends("INVITE", body=LARGE)
    world.carrier.gets("100")
    first = world.pbx.gets("INVITE")
    assert over(first) == "TCP"
    world.unreachable(first)
    assert over(world.pbx.gets("INVITE")) == "UDP"
    taken(world, world.carrier, world.pbx)


def test_a_gateway_that_was_left_gets_no_datagram(ladder: Ladder) -> None:
    """`try_seconds` is over as the connection turns out not to be had: the token is given back, so nothing goes to that
    gateway any more, and nothing at all once the call has ended."""
    world = ladder(listens=("TCP",), gateways=2, cps=1)
    world.stalls()
    world.pbx.sends("INVITE", body=LARGE)
    world.pbx.gets("100")
    world.settle()
    assert world.stalled
    first = Text(world.stalled[0].data)
    world.after(4.1)
    world.unreachable(first)
    assert all(over(Text(send.data)) == "TCP" for send in world.stalled or ())
    world.after(40)
    world.flows()
    world.after(40)
    for gateway in world.gateways:
        gateway.gets_nothing()
    assert world.record().final_code in (408, 503)
    world.pbx.inbox.clear()
    world.pbx.sends("ACK")


def test_a_re_invite_after_a_restart_keeps_no_token(ladder: Ladder) -> None:
    """It takes a token, and gives it back where the stream can't be had: as a datagram it takes one again."""
    world = ladder(listens=("TCP",), cps=1)
    world.talks()
    world.restarts()
    world.after(2)
    world.pbx.sends("re-INVITE", body=LARGE)
    world.pbx.gets("100")
    world.unreachable(world.carrier.gets("re-INVITE"))
    world.after(100)
    assert world.used("outbound_cps") == 0
    for agent in world.agents:
        agent.inbox.clear()


def test_a_large_ack(ladder: Ladder) -> None:
    """Its SDP is the answer (RFC 3261 §13.2.1). Where no stream is to be had it goes as a datagram: nobody would ever
    send it otherwise, each further copy of the 2xx would bring the same."""
    world = ladder(listens=("TCP",))
    world.pbx.sends("INVITE", change={"content-type": None}, body=b"")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK", headers=["X-Large: " + "x" * 1300])
    first = world.carrier.gets("ACK")
    assert over(first) == "TCP"
    world.unreachable(first)
    second = world.carrier.gets("ACK")
    assert over(second) == "UDP"
    assert (second.cseq, second.get("x-large")) == (first.cseq, first.get("x-large"))
    world.unreachable(first)
    world.carrier.gets_nothing()
    world.pbx.repeats("ACK")  # for another copy of the 2xx: the carrier is known to take no stream
    assert over(world.carrier.gets("ACK")) == "UDP"
    world.hangs_up()
    world.holds_nothing()


def test_large_acks_are_not_kept_for_ever(ladder: Ladder) -> None:
    world = ladder(listens=("TCP",))
    world.talks()
    for _ in range(ACKS_MAX + 10):
        world.pbx.sends("ACK", headers=["X-Large: " + "x" * 1300])
        world.carrier.gets("ACK")
    assert len(world.core.streams._acks) == ACKS_MAX
    world.hangs_up()
