"""Who is neither a key nor a trunk (interface.md; proxy rules §3): one 403 per source and second, else silence, and
nothing is relayed, kept or claimed for it."""

from __future__ import annotations

import pytest
from tests.proxy.ladder import World

from callgate.proxy.flow import Flow

METHODS = ["INVITE", "OPTIONS", "REGISTER", "MESSAGE", "SUBSCRIBE", "PUBLISH", "INFO", "FOO"]


def codes(world: World) -> list[int]:
    """What the stranger was told."""
    found = [text.code for _, text in world.stranger.inbox]
    world.stranger.inbox.clear()
    return found


@pytest.mark.parametrize("method", METHODS)
def test_one_answer_a_second(any_world: World, method: str) -> None:
    """Every method, the INVITE's 403 not repeated either: without a transaction nothing can be made to grow."""
    world = any_world
    for second in range(3):
        for n in range(5):
            world.stranger.sends(method, inside=False)
            assert codes(world) == ([403] if n == 0 else []), second
            world.after(0.15)
        world.after(0.3)
    assert not world.core.layer.servers
    assert world.store.asked == 0
    assert world.rejected("unknown source") == 15
    assert not world.records
    world.pbx.gets_nothing()
    world.carrier.gets_nothing()


def test_the_second_begins_with_the_answer(any_world: World) -> None:
    """Not earlier than 1.0 s later, whatever came in between."""
    world = any_world
    world.stranger.sends("OPTIONS")
    assert codes(world) == [403]
    world.after(0.999)
    world.stranger.sends("OPTIONS")
    assert codes(world) == []
    world.after(0.002)
    world.stranger.sends("OPTIONS")
    assert codes(world) == [403]


def test_different_methods_share_the_one_answer(any_world: World) -> None:
    for method in METHODS:
        any_world.stranger.sends(method, inside=False)
    assert codes(any_world) == [403]


def test_each_source_has_its_own(any_world: World) -> None:
    """A flood from one address does not silence another's answer."""
    world = any_world
    data = world.stranger.sends("OPTIONS").data
    assert codes(world) == [403]
    world.stranger.addresses.add(("203.0.113.67", 5060))
    world.stranger.transmits(data, Flow(world.listeners[0], "203.0.113.67", 5060))
    assert codes(world) == [403]


def test_a_source_has_one_whatever_its_port(any_world: World) -> None:
    """The address counts: ports are free."""
    world = any_world
    data = world.stranger.sends("OPTIONS").data
    assert codes(world) == [403]
    world.stranger.addresses.add(("203.0.113.66", 5999))
    world.stranger.transmits(data, Flow(world.listeners[0], "203.0.113.66", 5999))
    assert codes(world) == []


def test_it_learns_nothing(any_world: World) -> None:
    """No Warning, no verdict, no Server: only 403."""
    any_world.stranger.sends("INVITE")
    answer = any_world.stranger.gets("403")
    assert {name for name, _ in answer.headers} == {"via", "from", "to", "call-id", "cseq", "content-length"}
    assert answer.to_tag


def test_an_ack_is_never_answered(any_world: World) -> None:
    invite = any_world.stranger.sends("INVITE", lost=True).data
    any_world.stranger.transmits(invite.replace(b"INVITE", b"ACK"))
    assert codes(any_world) == []


@pytest.mark.parametrize("method", ["BYE", "INVITE", "CANCEL", "NOTIFY"])
def test_with_a_to_tag_it_is_a_stranger_all_the_same(any_world: World, method: str) -> None:
    """No dialog is known: 403, not 481: it is to learn nothing of what is up here."""
    world = any_world
    for n in range(3):
        data = world.stranger.sends("FOO", inside=False, lost=True).data.replace(b"FOO", method.encode())
        world.stranger.transmits(data.replace(b"@127.0.0.1:5060>\r\n", b"@127.0.0.1:5060>;tag=x\r\n"))
        assert codes(world) == ([403] if n == 0 else [])


@pytest.mark.parametrize(
    "rubbish",
    [
        b"INVITE sip:1@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.66:5060;branch=z9hG4bK1\r\n\r\n",
        b"OPTIONS sip:1@127.0.0.1 SIP/9.0\r\nVia: SIP/2.0/UDP 203.0.113.66:5060;branch=z9hG4bK1\r\n\r\n",
    ],
)
def test_malformed_requests_count_as_well(any_world: World, rubbish: bytes) -> None:
    """A 400 or 505 is that second's answer."""
    world = any_world
    world.stranger.transmits(rubbish)
    world.stranger.transmits(rubbish)
    world.stranger.sends("OPTIONS")
    assert codes(world) in ([400], [505])


@pytest.mark.parametrize(
    "rubbish", [b"", b"\r\n\r\n", b"\0\0\0\0", b"\xff" * 100, b"x" * 65535, b"SIP/2.0 200 OK\r\n\r\n"]
)
def test_what_is_no_request_gets_no_answer(any_world: World, rubbish: bytes) -> None:
    """RFC 5626 §5.4, RFC 3261 §16.7: keep-alives, noise and stray answers."""
    any_world.stranger.transmits(rubbish)
    assert codes(any_world) == []


def test_a_call_is_not_disturbed(world: World) -> None:
    """Bad input of others changes nothing for a call that is up."""
    world.talks()
    for n in range(50):
        world.stranger.transmits(b"INVITE " + bytes([n]) * 20 + b"\r\n\r\n")
        world.stranger.sends("BYE", inside=False)
    world.stranger.inbox.clear()
    world.holds(outbound=1)
    world.hangs_up()


def test_many_sources_do_not_fill_the_memory(any_world: World) -> None:
    """Bounded: forgetting all costs each source one more answer, never memory."""
    world = any_world
    data = world.stranger.sends("OPTIONS", lost=True).data
    for n in range(6000):
        host = f"203.0.{n // 250}.{n % 250}"
        world.stranger.addresses.add((host, 5060))
        world.stranger.transmits(data, Flow(world.listeners[0], host, 5060))
    assert len(codes(world)) == 6000
    assert len(world.core.dispatch.strangers._answered) <= 4096
