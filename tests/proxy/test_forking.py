"""A call in rings all phones of a key at once (RFC 3261 §16.7): the first to answer has it, the best refusal goes
up."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World

from callgate.proxy.calls.targets import Target


def rings(ladder: Ladder, phones: int = 3, *headers: str) -> tuple[World, list[Agent]]:
    world = ladder(phones=phones)
    world.carrier.sends("INVITE", headers=headers)
    world.carrier.gets("100")
    for phone in world.phones:
        phone.gets("INVITE")
    return world, world.phones


def refused(world: World, code: str) -> None:
    world.carrier.gets(code)
    world.carrier.sends("ACK")
    world.holds_nothing()


def test_the_first_to_answer_has_the_call(ladder: Ladder) -> None:
    """One line, one record; the others are cancelled, and their 487 goes no further."""
    world, (one, two, three) = rings(ladder)
    for phone in (one, two):
        phone.sends("180", tag=phone.name)
        world.carrier.gets("180")
    world.holds(inbound=1)
    two.sends("200", tag="phone1")
    world.carrier.gets("200")
    one.gets("CANCEL")
    one.sends("200 CANCEL")
    one.sends("487")
    one.gets("ACK")
    three.sends("180", tag="phone2")  # it was silent: its CANCEL was held back (§9.1)
    three.gets("CANCEL")
    three.sends("200 CANCEL")
    three.sends("487")
    three.gets("ACK")
    world.carrier.sends("ACK", tag="phone1")
    two.gets("ACK")
    world.carrier.gets_nothing()
    world.holds(inbound=1)
    world.carrier.sends("BYE", tag="phone1")
    two.gets("BYE")
    two.sends("200 BYE")
    world.carrier.gets("200 BYE")
    world.holds_nothing()
    assert world.record().attempts == 3


@pytest.mark.parametrize(
    ("codes", "best"),
    [
        (("486", "486", "480"), "486"),
        (("503", "486", "500"), "486"),
        (("404", "302", "486"), "302"),
        (("503", "503", "503"), "500"),
        (("408", "484", "480"), "484"),
    ],
)
def test_the_best_refusal_goes_up(ladder: Ladder, codes: tuple[str, ...], best: str) -> None:
    """§16.7 step 6, once all have answered."""
    world, phones = rings(ladder)
    for phone, code in zip(phones, codes, strict=True):
        world.carrier.gets_nothing()
        phone.sends(code)
        phone.gets("ACK")
    refused(world, best)


def test_a_6xx_ends_it_for_all(ladder: Ladder) -> None:
    """§16.7 step 5: the others are cancelled, then it goes up."""
    world, (one, two) = rings(ladder, 2)
    two.sends("180")
    world.carrier.gets("180")
    one.sends("603")
    one.gets("ACK")
    world.carrier.gets_nothing()
    two.gets("CANCEL")
    two.sends("200 CANCEL")
    two.sends("487")
    two.gets("ACK")
    refused(world, "603")


def test_two_answer_at_once(ladder: Ladder) -> None:
    """Both 2xx go up (§16.7 step 5); the caller ends one of them; the line is free when the last has gone."""
    world, (one, two) = rings(ladder, 2)
    one.sends("200", tag="phone0")
    world.carrier.gets("200")
    two.sends("200", tag="phone1")
    world.carrier.gets("200")
    for tag, phone in (("phone1", two), ("phone0", one)):
        world.carrier.sends("ACK", tag=tag)
        phone.gets("ACK")
    world.carrier.sends("BYE", tag="phone1")
    two.gets("BYE")
    two.sends("200 BYE")
    world.carrier.gets("200 BYE")
    world.holds(inbound=1)
    one.sends("BYE")
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE")
    one.gets("200 BYE")
    world.holds_nothing()


def test_the_caller_gives_up(ladder: Ladder) -> None:
    """Every phone that rings is cancelled; nobody waits for a silent one, which is cancelled when it speaks: a phone
    that is gone must not hold the line of a call that has ended."""
    world, (one, two) = rings(ladder, 2)
    one.sends("180")
    world.carrier.gets("180")
    world.carrier.sends("CANCEL")
    world.carrier.gets("200 CANCEL")
    one.gets("CANCEL")
    one.sends("200 CANCEL")
    one.sends("487")
    one.gets("ACK")
    refused(world, "487")
    two.inbox.clear()
    two.sends("180")
    two.gets("CANCEL")
    two.sends("200 CANCEL")
    two.sends("487")
    two.gets("ACK")
    world.after(30)
    two.gets_nothing()


def test_silent_phones_time_out(ladder: Ladder) -> None:
    """Timer B of all, one refusal in between: 486 beats the silence of the others (408 comes last of its class)."""
    world, (one, two) = rings(ladder, 2)
    one.sends("486")
    one.gets("ACK")
    world.after(32.1)
    two.inbox.clear()
    world.carrier.gets("486")
    world.carrier.sends("ACK")


def test_all_challenges_go_up(ladder: Ladder) -> None:
    """§16.7 step 7: the caller gets every challenge, each element's values in their order."""
    world, (one, two) = rings(ladder, 2)
    first = ['WWW-Authenticate: Digest realm="one", nonce="a", algorithm=SHA-256']
    first.append('WWW-Authenticate: Digest realm="one", nonce="a"')
    one.sends("401", headers=first)
    one.gets("ACK")
    second = 'Proxy-Authenticate: Digest realm="two", nonce="b"'
    two.sends("407", headers=[second])
    two.gets("ACK")
    answer = world.carrier.gets("401")
    challenges = [f"{n}: {v}" for n, v in answer.headers if n.endswith("authenticate")]
    assert [c.lower() for c in challenges] == [x.lower() for x in (*first, second)]
    world.carrier.sends("ACK")


def test_the_next_group_rings_when_the_first_has_refused(ladder: Ladder) -> None:
    """Lower `q`: after the others (§16.6)."""
    world = ladder(phones=3)
    one, two, three = world.key.pbx_groups[0]
    world.key.pbx_groups = ((one, two), (three,))
    world.carrier.sends("INVITE")
    world.carrier.gets("100")
    for phone in world.phones[:2]:
        phone.gets("INVITE")
    world.phones[2].gets_nothing()
    for phone in world.phones[:2]:
        phone.sends("486")
        phone.gets("ACK")
    world.phones[2].gets("INVITE")
    world.phones[2].sends("480")
    world.phones[2].gets("ACK")
    refused(world, "486")


def test_a_pbx_refuses_for_all_its_addresses(ladder: Ladder) -> None:
    """What is no phone but an address of a PBX: only a 503 or silence leads to the next (RFC 3263 §4.3)."""
    world = ladder(phones=2)
    groups = [(Target(t.flow, t.hostport, t.name),) for t in world.key.pbx_groups[0]]
    world.key.pbx_groups = tuple(groups)
    world.carrier.sends("INVITE")
    world.carrier.gets("100")
    one, two = world.phones
    one.gets("INVITE")
    one.sends("503")
    one.gets("ACK")
    two.gets("INVITE")
    two.sends("486")
    two.gets("ACK")
    refused(world, "486")


def test_a_loop_is_found(ladder: Ladder) -> None:
    """RFC 5393 §4: what has come back as it was forked is answered with 482; with another Request-URI it is a
    spiral and goes on."""
    world, (one, two) = rings(ladder, 2)
    invite = world.phones[0].legs[world.carrier.current].got[-1]
    asked = world.carrier.legs[world.carrier.current].invite
    assert asked is not None
    lines = invite.data.replace(invite.uri.encode(), asked.uri.encode(), 1)
    via = b"Via: SIP/2.0/UDP 198.51.100.1:5080;branch=z9hG4bKagain;rport\r\nVia: "
    looped = lines.replace(b"Via: ", via, 1)
    world.carrier.transmits(looped)
    tag = world.carrier.gets("482").get("to").encode()
    ack = looped.replace(b"INVITE", b"ACK").replace(b"To: " + asked.get("to").encode(), b"To: " + tag)
    world.carrier.transmits(ack)
    for phone in (one, two):
        phone.sends("486")
        phone.gets("ACK")
    refused(world, "486")


@pytest.mark.parametrize(("given", "each"), [("", "30"), ("Max-Breadth: 10", "5"), ("Max-Breadth: 2", "1")])
def test_max_breadth_is_shared_out(ladder: Ladder, given: str, each: str) -> None:
    """RFC 5393 §5.3.3."""
    world = ladder(phones=2)
    world.carrier.sends("INVITE", headers=[given] if given else [])
    world.carrier.gets("100")
    for phone in world.phones:
        assert phone.gets("INVITE").all("max-breadth") == [each]
        phone.sends("486")
        phone.gets("ACK")
    refused(world, "486")


def test_a_breadth_of_one_rings_one_after_the_other(ladder: Ladder) -> None:
    world = ladder(phones=2)
    world.carrier.sends("INVITE", headers=["Max-Breadth: 1"])
    world.carrier.gets("100")
    one, two = world.phones
    one.gets("INVITE")
    two.gets_nothing()
    one.sends("486")
    one.gets("ACK")
    two.gets("INVITE")
    two.sends("486")
    two.gets("ACK")
    refused(world, "486")


def test_no_breadth_at_all(ladder: Ladder) -> None:
    world = ladder(phones=2)
    world.carrier.sends("INVITE", headers=["Max-Breadth: 0"])
    refused(world, "440")
