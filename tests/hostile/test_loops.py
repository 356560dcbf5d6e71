"""Calls that come back: a spiral (the carrier sends the call in again, RFC 3261 §6) and a loop between a PBX and a
carrier that each forward to the other. Max-Forwards and the key's lines end them; nothing is left."""

from __future__ import annotations

from collections.abc import Callable

from tests.proxy.ladder import DIALLED, DID
from tests.torture import wire
from tests.torture.rack import Rack
from tests.torture.wire import Octets

from callgate.proxy.commands import Send


def passed_back(rack: Rack, invite: bytes, number: str, host: str) -> bytes:
    """A copy of the INVITE as a proxy sends it on that knows nothing better than to send it back to the gate."""
    said = Octets(invite)
    hops = int(said.value(b"max-forwards")) - 1
    branch = b"z9hG4bK-back-%d" % (rack.calls + hops)
    start = b"INVITE sip:%b@%b SIP/2.0" % (number.encode(), rack.gate.encode())
    via = b"Via: SIP/2.0/UDP %b;branch=%b%b;rport" % (host.encode(), branch, host.encode())
    lines = [line for line in said.lines if wire.name_of(line) != b"max-forwards"]
    return b"\r\n".join([start, via, b"Max-Forwards: %d" % hops, *lines]) + b"\r\n\r\n" + said.body


def invites(rack: Rack) -> list[Send]:
    """The new INVITEs that have left: no copies, no answers."""
    sent, rack.out = rack.out or [], []
    return [send for send in sent if send.data.startswith(b"INVITE")]


def answers(rack: Rack, host: str, code: int) -> list[bytes]:
    found = [send.data for send in rack.out or [] if send.flow.host == host]
    return [data for data in found if Octets(data).code == code]


def test_a_spiral_is_two_calls(racks: Callable[..., Rack]) -> None:
    """The carrier sends the call for one of the key's own numbers in again, with the same Call-ID and tag: one line
    out, one line in, each with its own answer, and each comes free."""
    rack = racks("UDP", any_number=False)
    rack.spread()
    invite = rack.pbx.sends("INVITE", to=DID)
    (out,) = invites(rack)
    assert out.flow.host == rack.carrier.flow.host
    rack.takes(passed_back(rack, out.data, DID, "198.51.100.1:5080"), rack.carrier.flow)
    (back,) = invites(rack)
    assert back.flow.host == rack.pbx.flow.host
    assert Octets(back.data).value(b"call-id").decode() == invite.call_id
    rack.holds(outbound=1, inbound=1)
    rack.takes(wire.answer_to(back.data, 486), rack.pbx.flow)
    (busy,) = answers(rack, rack.carrier.flow.host, 486)
    rack.holds(outbound=1)
    rack.out = []
    rack.takes(
        wire.without_ours(busy).data.replace(Octets(busy).line(b"via") + b"\r\n", b"", 1), rack.carrier.flow
    )
    assert len(answers(rack, rack.pbx.flow.host, 486)) == 1
    rack.holds_nothing()
    rack.after(300.0)
    rack.out = None
    rack.ends()


def test_a_loop_ends_at_the_lines_of_the_key(racks: Callable[..., Rack]) -> None:
    """The PBX forwards all calls to the carrier, the carrier all calls to the PBX."""
    rack = racks("UDP", any_number=False, outbound_calls=5, inbound_calls=5, calls=10)
    rack.spread()
    rack.pbx.sends("INVITE", to=DIALLED)
    rounds = 0
    open_ones = invites(rack)
    while open_ones:
        rounds += 1
        assert rounds < 100, "it goes round for ever"
        for send in open_ones:
            if send.flow.host == rack.carrier.flow.host:
                rack.takes(passed_back(rack, send.data, DID, "198.51.100.1:5080"), rack.carrier.flow)
            else:
                rack.takes(passed_back(rack, send.data, DIALLED, "192.0.2.10:5070"), rack.pbx.flow)
        open_ones = invites(rack)
    assert rounds == 10
    rack.holds(outbound=5, inbound=5)
    rack.after(300.0)
    rack.out = None
    rack.ends()


def test_a_loop_ends_with_its_hops(racks: Callable[..., Rack]) -> None:
    """Without limits, Max-Forwards ends it: 483, as each proxy takes one off (§16.3 step 3)."""
    rack = racks("UDP", any_number=False, cps=None, outbound_calls=None, inbound_calls=None, calls=None)
    rack.spread()
    rack.pbx.sends("INVITE", to=DIALLED, change={"max-forwards": "30"})
    rounds = 0
    open_ones = invites(rack)
    while open_ones:
        rounds += 1
        assert rounds < 100, "it goes round for ever"
        (send,) = open_ones
        to_carrier = send.flow.host == rack.carrier.flow.host
        side = rack.carrier if to_carrier else rack.pbx
        host = "198.51.100.1:5080" if to_carrier else "192.0.2.10:5070"
        rack.takes(passed_back(rack, send.data, DID if to_carrier else DIALLED, host), side.flow)
        last = [Octets(x.data).code for x in rack.out or [] if x.flow.host == side.flow.host]
        open_ones = invites(rack)
    assert rounds == 15
    assert 483 in last
    rack.after(300.0)
    rack.out = None
    rack.ends()


def test_a_route_to_us_again_and_again_is_taken_off_at_once(racks: Callable[..., Rack]) -> None:
    """However often our own address stands on top of Route, the request goes on once."""
    rack = racks("UDP", any_number=False)
    rack.spread()
    routes = ["Route: <sip:127.0.0.1:5060;lr>, <sip:127.0.0.1:5060;lr;cg=forged>"] * 20
    rack.pbx.sends("INVITE", headers=[*routes, "Route: <sip:next.example;lr>"])
    (send,) = invites(rack)
    assert send.flow.host == rack.carrier.flow.host
    assert [Octets(send.data).value(b"route")] == [b"<sip:next.example;lr>"]
    rack.after(300.0)
    rack.out = None
    rack.ends()


def test_a_request_for_our_own_address_never_comes_back_to_us(racks: Callable[..., Rack]) -> None:
    """A Request-URI, a maddr or a Route that names the gate leads to the trunk or to nobody."""
    rack = racks("UDP", any_number=True)
    rack.spread()
    for uri in (
        "sip:bob@127.0.0.1:5060",
        "sip:bob@127.0.0.1:5060;maddr=127.0.0.1",
        "sip:127.0.0.1:5060;lr;cg=forged",
        "sip:bob@far.example;maddr=127.0.0.1",
        "sip:127.0.0.1",
    ):
        rack.pbx.sends("MESSAGE", uri=uri)
        for send in rack.out or []:
            assert (send.flow.host, send.flow.port) != ("127.0.0.1", 5060)
        rack.out = []
    rack.after(300.0)
    rack.out = None
    rack.ends()
