"""Requests outside a dialog that are no call (RFC 3261 §16.3, §16.5, §11; interface.md): answered by the gate, passed
between a key and its trunk, or refused. None of them asks the store."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import DID, World

GATE = "sip:127.0.0.1:5060"


def sides(world: World, first: str) -> tuple[Agent, Agent]:
    return (world.pbx, world.carrier) if first == "pbx" else (world.carrier, world.pbx)


@pytest.mark.parametrize("sender", ["pbx", "carrier"])
@pytest.mark.parametrize(
    "uri", [GATE, "sip:127.0.0.1", "sip:ping@127.0.0.1:5060", "sip:127.0.0.1;transport=udp"]
)
def test_options_to_the_gate(any_world: World, sender: str, uri: str) -> None:
    """§11: it answers for itself."""
    a, b = sides(any_world, sender)
    a.sends("OPTIONS", uri=uri, change={"to": f"<{GATE}>"})
    answer = a.gets("200 OPTIONS")
    assert "INVITE" in answer.get("allow")
    assert answer.to_tag
    b.gets_nothing()


@pytest.mark.parametrize("sender", ["pbx", "carrier"])
def test_options_to_somebody_passes(any_world: World, sender: str) -> None:
    """§11: whether a number can be reached is the other side's answer."""
    a, b = sides(any_world, sender)
    a.sends("OPTIONS")
    b.gets("OPTIONS")
    b.sends("404 OPTIONS")
    a.gets("404 OPTIONS")


@pytest.mark.parametrize("sender", ["pbx", "carrier"])
def test_register(any_world: World, sender: str) -> None:
    """interface.md: never passed on with the PBX's own Contact; the gate has no registrar yet: 405 with Allow."""
    a, b = sides(any_world, sender)
    a.sends("REGISTER", uri=GATE, headers=["Contact: <sip:1001@192.0.2.10>"])
    assert "REGISTER" not in a.gets("405 REGISTER").get("allow")
    b.gets_nothing()


@pytest.mark.parametrize("sender", ["pbx", "carrier"])
@pytest.mark.parametrize("method", ["MESSAGE", "SUBSCRIBE", "PUBLISH", "NOTIFY", "INFO", "FOO"])
def test_other_methods_pass(any_world: World, sender: str, method: str) -> None:
    """§16.3: never refused for being unknown (methods are case-sensitive: `invite` is one). No limit, no claim."""
    world = any_world
    a, b = sides(world, sender)
    a.sends(method, inside=False, body=b"hello", headers=["X-Anything: goes"])
    request = b.gets(method)
    assert request.body == b"hello"
    host = "198.51.100.1:5080" if sender == "pbx" else "192.0.2.10:5070"
    number = "0312345678" if sender == "pbx" else DID
    assert request.uri == f"sip:{number}@{host}"
    b.sends(f"202 {method}")
    a.gets(f"202 {method}")
    assert world.store.asked == 0


def test_they_take_no_token(ladder: Ladder) -> None:
    """interface.md: they take no limit, however many."""
    world = ladder(cps=1, outbound_calls=1, calls=1)
    world.talks()
    for _ in range(5):
        world.pbx.sends("MESSAGE", call="m")
        world.carrier.gets("MESSAGE")
        world.carrier.sends("200 MESSAGE")
        world.pbx.gets("200 MESSAGE")
    world.hangs_up(call=next(iter(world.labels)))


@pytest.mark.parametrize(
    ("number", "code", "rule"),
    [
        ("0120123456", "403", "K-X2"),
        ("110", "503", "K-X1+EMG"),
        ("0570012345", "403", "K-X2"),
        ("abc", "484", ""),
    ],
)
@pytest.mark.parametrize("method", ["MESSAGE", "SUBSCRIBE", "FOO", "OPTIONS"])
def test_they_obey_the_number_rules(any_world: World, number: str, code: str, rule: str, method: str) -> None:
    """interface.md: what may not be called may not be written to either; the PBX is told why."""
    uri = f"sip:{number}@gate.example"
    any_world.pbx.sends(method, uri=uri)
    answer = any_world.pbx.gets(f"{code} {method}")
    assert rule in answer.get("x-callgate-verdict")
    assert "callgate" in answer.get("warning")
    any_world.carrier.gets_nothing()


@pytest.mark.parametrize("method", ["MESSAGE", "FOO"])
def test_an_unknown_did(any_world: World, method: str) -> None:
    """N1: 404 to the trunk, without a reason."""
    any_world.carrier.sends(method, to="+815099999999")
    any_world.carrier.gets(f"404 {method}")
    any_world.pbx.gets_nothing()


def test_a_subscription(any_world: World) -> None:
    """RFC 6665: a dialog that is no call: NOTIFY and the refresh follow its route, by the token alone."""
    world = any_world
    world.pbx.sends("SUBSCRIBE", headers=["Event: dialog"])
    assert ";lr;cg=" in world.carrier.gets("SUBSCRIBE").all("record-route")[0]
    world.carrier.sends("202 SUBSCRIBE", headers=[f"Contact: {world.carrier.contact}"])
    world.pbx.gets("202 SUBSCRIBE")
    world.carrier.sends("NOTIFY", headers=["Event: dialog", "Subscription-State: active"])
    assert world.pbx.gets("NOTIFY").get("event") == "dialog"
    world.pbx.sends("200 NOTIFY")
    world.carrier.gets("200 NOTIFY")
    world.pbx.sends("SUBSCRIBE", inside=True, headers=["Event: dialog", "Expires: 0"])
    world.carrier.gets("SUBSCRIBE")
    world.carrier.sends("200 SUBSCRIBE")
    world.pbx.gets("200 SUBSCRIBE")
    assert world.store.asked == 0


@pytest.mark.parametrize("sender", ["pbx", "carrier"])
@pytest.mark.parametrize("method", ["INVITE", "MESSAGE", "OPTIONS", "FOO"])
def test_proxy_require(any_world: World, sender: str, method: str) -> None:
    """§16.3 step 5: 420 with Unsupported that lists exactly those tags. Require is not for a proxy."""
    a, b = sides(any_world, sender)
    wants = ["Proxy-Require: sec-agree, foo", "Proxy-Require: bar", "Require: 100rel"]
    a.sends(method, headers=wants)
    answer = a.gets(f"420 {method}")
    assert answer.get("unsupported") == "sec-agree, foo, bar"
    b.gets_nothing()
    assert any_world.store.asked == 0
    if method == "INVITE":
        a.sends("ACK")


def test_require_passes(world: World) -> None:
    """§16.3: what the proxy does not know there is between the ends."""
    world.pbx.sends("INVITE", headers=["Require: something-new", "Supported: x"])
    world.pbx.gets("100")
    assert world.carrier.gets("INVITE").get("require") == "something-new"
    world.carrier.sends("420")
    world.carrier.gets("ACK")
    world.pbx.gets("420")
    world.pbx.sends("ACK")


@pytest.mark.parametrize("sender", ["pbx", "carrier"])
def test_a_503_to_what_is_no_call(any_world: World, sender: str) -> None:
    """§16.7 step 6: no 503 goes up, as for calls."""
    a, b = sides(any_world, sender)
    a.sends("MESSAGE")
    b.gets("MESSAGE")
    b.sends("503 MESSAGE", headers=["Retry-After: 300"])
    a.gets("500 MESSAGE")


@pytest.mark.parametrize("more", [{"max-forwards": "0"}, {}])
@pytest.mark.parametrize("sender", ["pbx", "carrier"])
def test_the_scheme_is_looked_at_first(any_world: World, more: dict[str, str], sender: str) -> None:
    """§16.3: 416 (step 2) before 483 (step 3) and 420 (step 5)."""
    a, _ = sides(any_world, sender)
    a.sends("MESSAGE", uri="im:x@example.com", change=more, headers=["Proxy-Require: foo"])
    a.gets("416 MESSAGE")
    a.sends("MESSAGE", change={"max-forwards": "0"}, headers=["Proxy-Require: foo"])
    a.gets("483 MESSAGE")


@pytest.mark.parametrize(
    "uri", ["http://example.com/", "mailto:x@example.com", "im:x@example.com", "x-new:1"]
)
@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
@pytest.mark.parametrize("sender", ["pbx", "carrier"])
def test_an_unknown_scheme(any_world: World, uri: str, method: str, sender: str) -> None:
    """§16.3 step 2: 416."""
    a, b = sides(any_world, sender)
    a.sends(method, uri=uri)
    a.gets(f"416 {method}")
    b.gets_nothing()
    if method == "INVITE":
        a.sends("ACK")


@pytest.mark.parametrize(
    ("uri", "left"),
    [
        ("tel:0312345678", "sip:0312345678@198.51.100.1:5080;user=phone"),
        ("tel:+81-3-1234-5678", "sip:+81-3-1234-5678@198.51.100.1:5080;user=phone"),
        ("sip:0312345678@elsewhere.example", "sip:0312345678@198.51.100.1:5080"),
        ("sip:0312345678@127.0.0.1:5060;user=phone", "sip:0312345678@198.51.100.1:5080;user=phone"),
    ],
)
def test_the_request_uri_towards_the_trunk(world: World, uri: str, left: str) -> None:
    """interface.md, numbering japan: the raw user part, the host of the gateway."""
    world.pbx.sends("INVITE", uri=uri)
    world.pbx.gets("100")
    assert world.carrier.gets("INVITE").uri == left
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_numbering_any(ladder: Ladder) -> None:
    """interface.md: any Request-URI goes, unchanged unless it names the gate; emergency is judged all the same."""
    world = ladder(any_number=True)
    for uri, left in (
        ("sip:bob@elsewhere.example;x=y", "sip:bob@elsewhere.example;x=y"),
        ("sip:bob@127.0.0.1:5060", "sip:bob@198.51.100.1:5080"),
        ("sip:bob@far.example;maddr=127.0.0.1;x=y;transport=udp", "sip:bob@far.example;x=y"),  # §16.4
        ("sip:bob@far.example;maddr=192.0.2.9", "sip:bob@far.example;maddr=192.0.2.9"),
    ):
        world.pbx.sends("MESSAGE", uri=uri)
        assert world.carrier.gets("MESSAGE").uri == left
        world.carrier.sends("200 MESSAGE")
        world.pbx.gets("200 MESSAGE")
    world.pbx.sends("INVITE", uri="sip:110@elsewhere.example")
    world.pbx.gets("503")
    world.pbx.sends("ACK")


def test_a_gateway_that_does_not_answer_is_passed_by(ladder: Ladder) -> None:
    """What is no call goes to a gateway that is up: the first has failed three calls in a row."""
    world = ladder(gateways=2)
    two = world.gateways[1]
    for _ in range(3):
        world.pbx.sends("INVITE")
        world.pbx.gets("100")
        world.unreachable(world.carrier.gets("INVITE"))
        two.gets("INVITE")
        two.sends("486")
        two.gets("ACK")
        world.pbx.gets("486")
        world.pbx.sends("ACK")
    world.pbx.sends("MESSAGE")
    two.gets("MESSAGE")
    two.sends("200 MESSAGE")
    world.pbx.gets("200 MESSAGE")
