"""Via: where answers go, and what a client may not claim (RFC 3261 §18.2, RFC 3581)."""

from __future__ import annotations

import pytest
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.text import via_param

from callgate.proxy.flow import Flow, Listener
from callgate.proxy.forward import reply_flow
from callgate.sip.message import parse

HOST, PORT = "192.0.2.10", 5070


@pytest.mark.parametrize(
    ("written", "stamped"),
    [
        # RFC 3581 §4: rport is filled in, and received always comes with it
        (f"{HOST}:{PORT};branch=z9hG4bK1;rport", (HOST, str(PORT))),
        (f"{HOST}:{PORT};rport;branch=z9hG4bK1", (HOST, str(PORT))),
        (f"{HOST}:{PORT};RPort;branch=z9hG4bK1;ttl=1", (HOST, str(PORT))),
        (f"10.0.0.7:{PORT};branch=z9hG4bK1;rport", (HOST, str(PORT))),
        # RFC 3261 §18.2.1: a host that is not the source, or a name, gets received
        (f"10.0.0.7:{PORT};branch=z9hG4bK1", (HOST, "")),
        (f"pbx.example:{PORT};branch=z9hG4bK1", (HOST, "")),
        # what is right needs nothing
        (f"{HOST}:{PORT};branch=z9hG4bK1", ("", "")),
        # a client's own claims are overwritten, never trusted
        (f"{HOST}:{PORT};branch=z9hG4bK1;received=203.0.113.66", (HOST, "")),
        (f"{HOST}:{PORT};received=203.0.113.66;branch=z9hG4bK1;rport=9", (HOST, str(PORT))),
        (f"{HOST}:{PORT};branch=z9hG4bK1;rport=5060;Received = 203.0.113.66", (HOST, str(PORT))),
        (f"10.0.0.7:{PORT};rport=9;received=203.0.113.66;x=y;branch=z9hG4bK1", (HOST, str(PORT))),
        (
            f"{HOST}:{PORT};rport;rport=9;received=203.0.113.66;received=1.1.1.1;branch=z9hG4bK1",
            (HOST, str(PORT)),
        ),
    ],
)
def test_the_source_is_written_into_the_top_via(world: World, written: str, stamped: tuple[str, str]) -> None:
    """RFC 3261 §18.2.1, RFC 3581 §4: on the way to the carrier and in every answer."""
    world.pbx.sends("INVITE", change={"via": f"SIP/2.0/UDP {written}"})
    trying = world.pbx.gets("100")
    invite = world.carrier.gets("INVITE")
    for via in (trying.via, invite.all("via")[1]):
        assert (via_param(via, "received"), via_param(via, "rport")) == stamped
        assert via.lower().count("received") <= 1
        assert via.lower().count("rport") <= 1
        assert "203.0.113.66" not in via
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_without_rport_answers_go_to_the_port_in_via(world: World) -> None:
    """RFC 3261 §18.2.2: to the source address, at the port of sent-by."""
    world.pbx.addresses = {(HOST, 5099)}
    world.pbx.sends("INVITE", change={"via": f"SIP/2.0/UDP {HOST}:5099;branch=z9hG4bK1"})
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("404")
    world.carrier.gets("ACK")
    world.pbx.gets("404")
    world.pbx.sends("ACK")


def test_without_rport_and_port_answers_go_to_5060(world: World) -> None:
    """RFC 3261 §18.2.2: the default port."""
    world.pbx.addresses = {(HOST, 5060)}
    world.pbx.sends(
        "OPTIONS", uri="sip:127.0.0.1:5060", change={"via": f"SIP/2.0/UDP {HOST};branch=z9hG4bK1"}
    )
    world.pbx.gets("200 OPTIONS")


@pytest.mark.parametrize(
    "aimed", ["203.0.113.66:9;branch=z9hG4bK1", f"{HOST};maddr=203.0.113.66;rport;branch=z9hG4bK1"]
)
def test_a_via_cannot_aim_answers_at_others(world: World, aimed: str) -> None:
    """Neither sent-by nor maddr points the gate's answers at a third host (reflection)."""
    world.pbx.addresses = {(HOST, 9), (HOST, PORT)}
    world.pbx.sends("OPTIONS", uri="sip:127.0.0.1:5060", change={"via": f"SIP/2.0/UDP {aimed}"})
    world.pbx.gets("200 OPTIONS")
    world.stranger.gets_nothing()


def test_vias_below_the_top_stay_as_they_are(world: World) -> None:
    """RFC 3261 §16.6 step 8: one Via goes on top; in one header line or in several, the others keep their order."""
    vias = f"SIP/2.0/UDP {HOST}:{PORT};branch=z9hG4bK1;rport, SIP/2.0/TCP a.example;branch=z9hG4bKa;received=10.1.1.1"
    world.pbx.sends("INVITE", headers=["Via: SIP/2.0/UDP b.example:9;branch=z9hG4bKb"], change=None, body=b"")
    assert world.carrier.gets("INVITE").all("via")[2:] == ["SIP/2.0/UDP b.example:9;branch=z9hG4bKb"]
    world.pbx.gets("100")
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")
    world.pbx.sends("INVITE", change={"via": vias})
    invite = world.carrier.gets("INVITE")
    assert len(invite.all("via")) == 3
    assert invite.all("via")[2] == "SIP/2.0/TCP a.example;branch=z9hG4bKa;received=10.1.1.1"
    world.pbx.gets("100")
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_ipv6_received_has_no_brackets(ladder: Ladder) -> None:
    """RFC 5118 §4.5: sent-by has brackets, received has none; also where the client wrote other zeros."""
    world = ladder(pbx_host="2001:db8::10")
    world.pbx.sends("INVITE", change={"via": "SIP/2.0/UDP [2001:db8:0:0::10]:5070;branch=z9hG4bK1;rport"})
    via = world.pbx.gets("100").via
    assert via_param(via, "received") == "2001:db8::10"
    assert via_param(via, "rport") == "5070"
    world.carrier.gets("INVITE")
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_over_tcp_answers_come_back_on_the_connection(ladder: Ladder) -> None:
    """RFC 3261 §18.2.2: whatever sent-by says."""
    world = ladder(pbx_over="TCP")
    world.pbx.addresses = set()  # only the connection reaches it
    world.pbx.sends("INVITE", change={"via": "SIP/2.0/TCP pbx.example:5999;branch=z9hG4bK1"})
    assert via_param(world.pbx.gets("100").via, "received") == HOST
    world.carrier.gets("INVITE")
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("127.0.0.1:5060;branch", "198.51.100.1:5080;branch", "stray response"),  # RFC 3261 §18.1.2
        ("127.0.0.1:5060;branch", "127.0.0.1:5061;branch", "stray response"),
        (";branch=z9hG4bK", ";branch=z9hG4bKx", "stray response"),  # RFC 6026 §7.3
        (";branch=z9hG4bK", ";branch=", "stray response"),
        ("CSeq: 1 INVITE", "CSeq: 1 CANCEL", "stray response"),  # RFC 3261 §17.1.3
        ("CSeq: 1 INVITE", "CSeq: x INVITE", "malformed response"),
        ("Call-ID:", "X-Nothing:", "malformed response"),
    ],
)
def test_a_response_that_matches_nothing_is_dropped(world: World, old: str, new: str, reason: str) -> None:
    """RFC 3261 §16.7 step 1, §18.1.2; RFC 6026 §7.3: silently, and the call goes on."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    answer = world.carrier.sends("200", lost=True).data.decode()
    assert old in answer
    before = world.rejected(reason)
    world.carrier.transmits(answer.replace(old, new, 1).encode())
    world.pbx.gets_nothing()
    assert world.rejected(reason) == before + 1
    world.holds(outbound=1)
    world.carrier.transmits(answer.encode())
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.hangs_up()


def test_a_response_with_no_via_but_ours_goes_nowhere(world: World) -> None:
    """RFC 3261 §16.7 step 3: the answer of somebody who lost the Vias below."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    answer = world.carrier.sends("180", lost=True).data.decode()
    lines = [x for x in answer.split("\r\n") if not (x.startswith("Via:") and "192.0.2.10" in x)]
    world.carrier.transmits("\r\n".join(lines).encode())
    world.pbx.gets_nothing()
    assert world.rejected("no Via left") == 1
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


@pytest.mark.parametrize(("transport", "port"), [(b"TLS", 5061), (b"TCP", 5060)])
def test_where_an_answer_goes_without_its_connection(transport: bytes, port: int) -> None:
    """§18.2.2: to the source, at the port of the Via; the transport's own where that has none."""
    flow = Flow(Listener(0, transport, "127.0.0.1", port), "192.0.2.10", 40001, connection=7)
    rest = b"From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\r\n"
    for written, wanted in ((b"", port), (b":5099", 5099)):
        via = b"Via: SIP/2.0/%b pbx.example%b;branch=z9hG4bK1\r\n" % (transport, written)
        request = parse(b"OPTIONS sip:127.0.0.1 SIP/2.0\r\n" + via + rest)
        assert reply_flow(request, flow).fallback == ("192.0.2.10", wanted)
