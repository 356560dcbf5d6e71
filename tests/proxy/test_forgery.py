"""Nobody hangs up, moves or reaches anything for somebody else (RFC 3261 §16.4; proxy rules §3, §11): what is not of
the dialog, or not from its side, frees nothing and is relayed nowhere."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.text import Text


def edited(text: Text, *changes: tuple[str, str]) -> bytes:
    data = text.data.decode("latin-1")
    for old, new in changes:
        assert old in data, old
        data = data.replace(old, new)
    return data.encode("latin-1")


def stays_up(world: World) -> None:
    """Nothing was relayed and nothing given back; the call ends as calls do."""
    for agent in (world.pbx, world.carrier):
        agent.gets_nothing()
    world.holds(outbound=1)
    world.hangs_up()


@pytest.mark.parametrize("sender", ["pbx", "carrier"])
@pytest.mark.parametrize("method", ["BYE", "re-INVITE", "UPDATE", "INFO"])
@pytest.mark.parametrize("which", ["from", "to", "both"])
def test_wrong_tags(world: World, sender: str, method: str, which: str) -> None:
    """§12.2.2: a dialog is Call-ID and both tags. 481, nothing freed (the gate's own 481 ends no call)."""
    world.talks()
    side = world.pbx if sender == "pbx" else world.carrier
    mine, theirs = ("pbx-1", "carrier-callee") if sender == "pbx" else ("carrier-callee", "pbx-1")
    text = side.sends(method, lost=True)
    changes = []
    if which in ("from", "both"):
        changes.append((f"tag={mine}", "tag=forged"))
    if which in ("to", "both"):
        changes.append((f"tag={theirs}", "tag=forged2"))
    side.transmits(edited(text, *changes))
    side.gets("481")
    if method == "re-INVITE":
        ack = edited(text, *changes, ("INVITE", "ACK"), (f"Length: {len(text.body)}", "Length: 0"))
        side.transmits(ack.removesuffix(text.body))
    stays_up(world)


@pytest.mark.parametrize("method", ["BYE", "re-INVITE", "UPDATE", "INFO", "REFER"])
@pytest.mark.parametrize("of", ["pbx", "carrier"])
def test_a_stranger_with_the_right_words(world: World, of: str, method: str) -> None:
    """§11: everything right but where it comes from: 403, nothing relayed, nothing freed."""
    world.talks()
    text = (world.pbx if of == "pbx" else world.carrier).sends(method, lost=True)
    world.stranger.transmits(text.data)
    assert [t.code for _, t in world.stranger.inbox] == [403]
    world.stranger.inbox.clear()
    stays_up(world)


def test_an_ack_of_a_stranger(world: World) -> None:
    """In silence: an ACK is never answered. The call is not taken for acknowledged either."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("200")
    world.pbx.gets("200")
    ack = world.pbx.sends("ACK", lost=True)
    world.stranger.transmits(ack.data)
    world.stranger.gets_nothing()
    world.carrier.gets_nothing()
    world.after(64.1)
    world.holds_nothing()


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_the_pbx_pretends_to_be_the_carrier(world: World, caller: str) -> None:
    """§11: a BYE of the carrier would give the line back at once; so it must come from the carrier."""
    world.talks(world.pbx if caller == "pbx" else world.carrier)
    bye = world.carrier.sends("BYE", lost=True)
    world.pbx.transmits(bye.data)
    assert [t.code for _, t in world.pbx.inbox] == [481]
    world.pbx.inbox.clear()
    world.holds(**({"outbound": 1} if caller == "pbx" else {"inbound": 1}))
    world.carrier.gets_nothing()
    world.hangs_up()


def test_the_carrier_pretends_to_be_the_pbx(world: World) -> None:
    """The other way round: not even the trunk ends a call for the PBX."""
    world.talks()
    bye = world.pbx.sends("BYE", lost=True)
    world.carrier.transmits(bye.data)
    assert [t.code for _, t in world.carrier.inbox] == [481]
    world.carrier.inbox.clear()
    stays_up(world)


def forged(token: str) -> list[str]:
    """Tokens that are none: cut, grown, one character changed, of another length, empty."""
    other = "A" if token[-1] != "A" else "B"
    return [
        token[:-1],
        token + "A",
        token[:-1] + other,
        "x" + token[1:],
        token[:20],
        "",
        "=" * 48,
        "%41" * 20,
    ]


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("sender", ["pbx", "carrier"])
def test_a_forged_token(world: World, number: int, sender: str) -> None:
    """A token that the gate did not make for this dialog finds no call: 481. Where Route is all that is wrong, the
    request is refused too: the dialog it names is not the one it is sent in."""
    world.talks()
    side = world.pbx if sender == "pbx" else world.carrier
    bye = side.sends("BYE", lost=True)
    token = bye.data.decode().partition(";cg=")[2].partition(">")[0]
    new = forged(token)[number]
    side.transmits(edited(bye, (f"cg={token}", f"cg={new}")))
    if not new:
        # No token at all is no forgery: the call is found by its Call-ID and tags (a client that strips what it
        # does not understand from a Route).
        other: Agent = world.carrier if sender == "pbx" else world.pbx
        other.gets("BYE")
        other.sends("200 BYE")
        side.gets("200 BYE")
        return
    side.gets("481 BYE")
    stays_up(world)


def test_the_token_of_another_call(world: World) -> None:
    """Each is signed for its own Call-ID and tag: moved to another dialog it opens nothing."""
    world.talks(call="a")
    world.talks(call="b")
    one = world.pbx.sends("BYE", call="a", lost=True).data.decode()
    two = world.pbx.sends("BYE", call="b", lost=True)
    tokens = [x.partition(";cg=")[2].partition(">")[0] for x in (one, two.data.decode())]
    world.pbx.transmits(edited(two, (tokens[1], tokens[0])))
    world.pbx.gets("481 BYE")
    world.carrier.gets_nothing()
    world.holds(outbound=2)
    world.hangs_up(call="a")
    world.hangs_up(call="b")


@pytest.mark.parametrize("where", ["route", "request-uri"])
def test_a_dialog_does_not_lead_to_a_third_party(world: World, where: str) -> None:
    """No open relay through a To tag: whatever Route or Request-URI names, it goes to the other side."""
    world.talks()
    info = world.pbx.sends("INFO", lost=True)
    if where == "route":
        line = next(x for x in info.data.decode().split("\r\n") if x.startswith("Route:"))
        world.pbx.transmits(edited(info, (line, f"{line}\r\nRoute: <sip:203.0.113.66:5060;lr>")))
    else:
        world.pbx.transmits(
            edited(info, ("INFO sip:carrier@198.51.100.1:5080", "INFO sip:x@203.0.113.66:5060"))
        )
    world.stranger.gets_nothing()
    world.carrier.gets("INFO")
    world.carrier.sends("200 INFO")
    world.pbx.gets("200 INFO")
    world.hangs_up()


@pytest.mark.parametrize("to", ["stranger", "name"])
def test_a_contact_may_lead_away_but_only_where_it_was_given(world: World, to: str) -> None:
    """§12.2: the remote target may be another host; a name is not looked up for a stranger's sake and goes the way
    the messages came."""
    world.carrier.contact = "<sip:sbc@203.0.113.66:5060>" if to == "stranger" else "<sip:sbc@sbc.example>"
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("200")
    world.pbx.gets("200")
    if to == "stranger":
        world.carrier.addresses.add(("203.0.113.66", 5060))
        world.agents.remove(world.stranger)
    world.pbx.sends("ACK")
    assert world.carrier.gets("ACK").uri == world.carrier.contact[1:-1]
    world.hangs_up()


@pytest.mark.parametrize("sender", ["pbx", "carrier"])
def test_an_unknown_dialog(any_world: World, sender: str) -> None:
    """§12.2.2: a To tag without a call behind it is answered 481, nothing is claimed for it."""
    world = any_world
    side = world.pbx if sender == "pbx" else world.carrier
    for method in ("INVITE", "BYE", "INFO", "FOO"):
        text = side.sends(method, inside=False, lost=True)
        side.transmits(edited(text, (f"To: {text.get('to')}", f"To: {text.get('to')};tag=nobody")))
        side.gets("481")
        if method == "INVITE":
            side.legs[text.call_id].final = Text(
                b"SIP/2.0 481 x\r\nTo: " + f"{text.get('to')};tag=nobody".encode()
            )
            side.sends("ACK")
    assert world.store.asked == 0


def test_on_loopback_everybody_has_the_same_address(ladder: Ladder) -> None:
    """All on 127.0.0.1, as in the demo: then the port tells the sides apart."""
    world = ladder(pbx_host="127.0.0.1", carrier_hosts=("127.0.0.1",))
    world.talks()
    bye = world.carrier.sends("BYE", lost=True)
    world.pbx.transmits(bye.data)
    assert [t.code for _, t in world.pbx.inbox] == [481]
    world.pbx.inbox.clear()
    stays_up(world)
