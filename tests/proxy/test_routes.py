"""Record-Route and Route (RFC 3261 §16.4, §16.6 steps 4 and 6; RFC 5658)."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.text import uri_of

LOOSE_A, LOOSE_B = "<sip:192.0.2.10:5070;lr;hop=a>", "<sip:198.51.100.1:5080;lr;hop=b>"
STRICT_A, STRICT_B = "<sip:192.0.2.10:5070;hop=a>", "<sip:198.51.100.1:5080;hop=b>"


def refused(world: World) -> None:
    """The callee refuses, everybody acknowledges."""
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def behind(side: Agent, proxy: str) -> None:
    """A side whose messages come through a further proxy at its address; its own address is a private one."""
    side.behind = [proxy]
    side.contact = f"<sip:{side.name}@10.0.0.7:5062>"


def test_the_gate_puts_itself_on_the_route(world: World) -> None:
    """§16.6 step 4: a SIP URI that leads back to the gate, with lr, above the others."""
    world.pbx.behind = [LOOSE_A]
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    routes = world.carrier.gets("INVITE").all("record-route")
    assert len(routes) == 2
    assert uri_of(routes[0]).startswith("sip:127.0.0.1:5060;lr;cg=")
    assert routes[1] == LOOSE_A
    refused(world)


@pytest.mark.parametrize("method", ["re-INVITE", "UPDATE", "INFO", "SUBSCRIBE", "REFER", "FOO"])
def test_requests_that_may_make_a_dialog_are_recorded_too(world: World, method: str) -> None:
    """§16.6 step 4: SHOULD in what is inside a dialog and in unknown methods."""
    world.talks()
    world.pbx.sends(method, inside=True)
    if method == "re-INVITE":
        world.pbx.gets("100")
    assert ";lr;cg=" in world.carrier.gets(method).all("record-route")[0]
    world.carrier.sends("488")
    if method == "re-INVITE":
        world.carrier.gets("ACK")
        world.pbx.gets("488")
        world.pbx.sends("ACK")
    else:
        world.pbx.gets("488")
    world.hangs_up()


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("proxy_a", [None, LOOSE_A, STRICT_A])
@pytest.mark.parametrize("proxy_b", [None, LOOSE_B, STRICT_B])
def test_a_dialog_follows_its_route_both_ways(
    world: World, caller: str, proxy_a: str | None, proxy_b: str | None
) -> None:
    """§16.4, §16.6 step 6: further proxies on both sides, loose and strict. Towards a strict one the gate puts the
    proxy into the Request-URI and the target at the end of Route."""
    if proxy_a:
        behind(world.pbx, proxy_a)
    if proxy_b:
        behind(world.carrier, proxy_b)
    world.talks(world.pbx if caller == "pbx" else world.carrier)
    for sender, receiver, proxy in (
        (world.pbx, world.carrier, proxy_b),
        (world.carrier, world.pbx, proxy_a),
    ):
        sender.sends("INFO")
        info = receiver.gets("INFO")
        if proxy is None or ";lr" in proxy:
            assert info.uri == uri_of(receiver.contact)
            assert info.all("route") == ([proxy] if proxy else [])
        else:
            assert info.uri == uri_of(proxy)
            assert info.all("route") == [f"<{uri_of(receiver.contact)}>"]
        receiver.sends("200 INFO")
        sender.gets("200 INFO")
    world.hangs_up()


def test_a_strict_router_upstream_with_routes_left(world: World) -> None:
    """§16.4: our Record-Route in the Request-URI is replaced by the last Route; those before it stay."""
    behind(world.pbx, STRICT_A)
    world.carrier.behind = [LOOSE_B, "<sip:10.9.9.9;lr>"]
    world.carrier.contact = "<sip:carrier@10.0.0.8:5066>"
    world.talks()
    world.pbx.sends("INFO")
    info = world.carrier.gets("INFO")
    assert info.uri == "sip:carrier@10.0.0.8:5066"
    assert info.all("route") == [LOOSE_B, "<sip:10.9.9.9;lr>"]
    world.carrier.sends("200 INFO")
    world.pbx.gets("200 INFO")
    world.hangs_up()


@pytest.mark.parametrize("form", ["two lines", "one line", "folded"])
def test_our_own_route_twice_is_taken_off_twice(world: World, form: str) -> None:
    """§16.4 and RFC 5658 §4: a spiral, or a client that put its outbound proxy before the route set."""
    world.talks()
    bye = world.pbx.sends("INFO", lost=True).data
    line = next(x for x in bye.split(b"\r\n") if x.startswith(b"Route:"))
    value = line.partition(b": ")[2]
    twice = {
        "two lines": line + b"\r\n" + line,
        "one line": line + b", " + value,
        "folded": line + b",\r\n  " + value,
    }[form]
    world.pbx.transmits(bye.replace(line, twice))
    assert world.carrier.gets("INFO").all("route") == []
    world.carrier.sends("200 INFO")
    world.pbx.gets("200 INFO")
    world.hangs_up()


@pytest.mark.parametrize(
    "written", ["sip:127.0.0.1:5060;lr", "sip:127.0.0.1;lr", "SIP:127.0.0.1:5060;lr;foo=bar"]
)
def test_the_gate_as_outbound_proxy(world: World, written: str) -> None:
    """§16.4: a preloaded Route that names the gate comes off; the call goes on as without it."""
    world.pbx.sends("INVITE", headers=[f"Route: <{written}>"])
    world.pbx.gets("100")
    assert world.carrier.gets("INVITE").all("route") == []
    refused(world)


@pytest.mark.parametrize("route", ["<sip:203.0.113.66:5060;lr>", "<sip:203.0.113.66:5060>", "<tel:+1>"])
def test_a_preloaded_route_does_not_choose_the_next_hop(world: World, route: str) -> None:
    """Neither loose nor strict: a new call goes to the trunk and to nobody else, and under the number that was
    judged."""
    world.pbx.sends("INVITE", headers=["Route: <sip:127.0.0.1:5060;lr>", f"Route: {route}"])
    world.pbx.gets("100")
    world.stranger.gets_nothing()
    invite = world.carrier.gets("INVITE")
    assert invite.uri == "sip:0312345678@198.51.100.1:5080"
    assert all(";lr" in value for value in invite.all("route"))
    refused(world)


@pytest.mark.parametrize("over", [("TCP", "UDP"), ("UDP", "TCP")])
@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_two_listeners_two_record_routes(ladder: Ladder, over: tuple[str, str], caller: str) -> None:
    """RFC 5658 §3: each side finds a value for its own transport on its side, and both come off again."""
    world = ladder(pbx_over=over[0], carrier_over=over[1])
    near, far = over if caller == "pbx" else tuple(reversed(over))
    a, b = (world.pbx, world.carrier) if caller == "pbx" else (world.carrier, world.pbx)
    a.sends("INVITE")
    a.gets("100")
    invite = b.gets("INVITE")
    routes = [uri_of(r) for r in invite.all("record-route")]
    assert [";transport=tcp" in r for r in routes] == [far == "TCP", near == "TCP"]
    assert invite.via.startswith(f"SIP/2.0/{far} 127.0.0.1:5060")
    b.sends("180")
    a.gets("180")
    b.sends("200")
    a.gets("200")
    a.sends("ACK")
    assert b.gets("ACK").all("route") == []
    for sender, receiver in ((a, b), (b, a)):
        sender.sends("re-INVITE")
        sender.gets("100")
        again = receiver.gets("re-INVITE")
        assert again.all("route") == []
        assert again.uri == uri_of(receiver.contact)
        receiver.sends("200")
        sender.gets("200")
        sender.sends("ACK")
        receiver.gets("ACK")
    world.hangs_up(b)


def test_ipv6_to_ipv4_is_recorded_twice_as_well(ladder: Ladder) -> None:
    """RFC 5658 §3: a change of address family is a change of interface."""
    world = ladder(pbx_host="2001:db8::10")
    world.pbx.sends("INVITE", uri="sip:0312345678@[::1]:5060")
    world.pbx.gets("100")
    routes = world.carrier.gets("INVITE").all("record-route")
    assert [uri_of(r).partition(";")[0] for r in routes] == ["sip:127.0.0.1:5060", "sip:[::1]:5060"]
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.hangs_up(world.carrier)


def test_on_a_stream_no_copies_are_sent(ladder: Ladder) -> None:
    """§17.1.1.2: a reliable transport needs no retransmission; Timer B runs all the same."""
    world = ladder(pbx_over="TCP", carrier_over="TCP")
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.after(31.9)
    world.carrier.gets_nothing()
    world.pbx.gets_nothing()
    world.after(0.2)
    world.pbx.gets("408")
    world.after(10)
    world.pbx.gets_nothing()
    world.pbx.sends("ACK")


@pytest.mark.parametrize("fault", ["Route: <sip:127.0.0.1", "Route: %%%", "Route: <sip:[::1>"])
def test_a_route_that_cannot_be_read_is_refused(world: World, fault: str) -> None:
    """§16.3 step 1: what the proxy itself uses must be well-formed. The call stays as it was."""
    world.talks()
    bye = world.pbx.sends("BYE", lost=True).data
    line = next(x for x in bye.split(b"\r\n") if x.startswith(b"Route:"))
    world.pbx.transmits(bye.replace(line, fault.encode()))
    world.carrier.gets_nothing()
    world.pbx.gets("400 BYE")
    world.holds(outbound=1)
    world.hangs_up()


@pytest.mark.parametrize("sender", ["pbx", "carrier"])
def test_a_call_that_comes_through_the_gate_twice(world: World, sender: str) -> None:
    """A spiral: out to the carrier and, by a proxy there that is not on the route, back in to another number of ours.
    Only the values of one passage come off (§16.4; two of the same token after a double Record-Route, RFC 5658), so
    that the request goes round as the INVITE did, and both passages see the BYE."""
    world.talks()
    other = "<sip:127.0.0.1:5060;lr;cg=of-the-other-passage>"
    a, b = (world.pbx, world.carrier) if sender == "pbx" else (world.carrier, world.pbx)
    dialog = next(iter(a.legs[a.current].dialogs.values()))
    (own,) = dialog.routes
    dialog.routes = [own, own, other]
    dialog.target = "sip:phone@192.0.2.77"
    for method in ("INFO", "BYE"):
        a.sends(method)
        got = b.gets(method)
        assert got.all("route") == [other]
        assert got.uri == "sip:phone@192.0.2.77"
        b.sends(f"200 {method}")
        a.gets(f"200 {method}")
    world.holds_nothing()
