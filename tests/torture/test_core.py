"""The messages of RFC 4475 and RFC 5118 against the core: time passed in, over UDP and over TCP."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from tests.torture import wire
from tests.torture.rack import Rack
from tests.torture.table import CASES, RFC4475, RFC5118, Case
from tests.torture.wire import Octets


@pytest.fixture(params=["UDP", "TCP"])
def rack(request: pytest.FixtureRequest) -> Iterator[Rack]:
    yield from _rack(request.param)


@pytest.fixture(params=["UDP", "TCP"])
def rack6(request: pytest.FixtureRequest) -> Iterator[Rack]:
    """The PBX and the trunk have IPv6 addresses."""
    if request.param == "TCP":
        yield from _rack("TCP", carrier_hosts=("2001:db8::5",))
    else:
        yield from _rack("UDP", pbx_host="2001:db8::9:9", carrier_hosts=("2001:db8::5",))


def _rack(over: str, **options: object) -> Iterator[Rack]:
    try:
        yield Rack(over, **options)
    finally:
        gc.unfreeze()
        gc.enable()


def play(rack: Rack, case: Case) -> None:
    """The message, and all that follows from it."""
    rack.spread()
    expected = case.on_tcp if rack.stream else case.udp
    rack.takes(case.data + (case.rest if rack.stream else b""))
    data = case.data
    for word in expected.split(", "):
        if word == "forwarded":
            if len(expected) > len(word):  # behind another one in the same stream
                data = data[data.index(b"\r\n\r\n") + 4 :].lstrip(b"\r\n")
            forwarded(rack, data, case.drops)
        elif word.isdigit():
            answered(rack, data, int(word), last=word == expected)
        elif word == "closed":
            assert rack.closed
    assert rack.closed == ("closed" in expected)
    assert not rack.to_pbx()
    assert not rack.to_trunk()
    rack.out = None
    rack.ends()


def forwarded(rack: Rack, data: bytes, drops: bytes = b"") -> None:
    """On to the trunk, unharmed; its answer comes back, unharmed."""
    (left,) = rack.to_trunk()
    wire.check_forwarded(data, left, rack.carrier.flow.listener.sent_by, drops)
    request = Octets(left)
    answer = wire.answer_to(left, 486 if request.method == b"INVITE" else 200)
    rack.takes(answer, rack.carrier.flow)
    (passed,) = rack.to_pbx()
    wire.check_passed_on(answer, passed)
    if request.method == b"INVITE":
        (ack,) = rack.to_trunk()
        assert Octets(ack).method == b"ACK"
        rack.takes(wire.ack_of(data, passed))


def answered(rack: Rack, data: bytes, code: int, *, last: bool) -> None:
    """By the gate itself, and nothing goes further."""
    answers = rack.to_pbx()
    assert [Octets(x).code for x in answers] == [code]
    wire.check_answered(data, answers[0], code)
    if last:
        assert not rack.to_trunk()
    if Octets(data).method == b"INVITE":
        rack.takes(wire.ack_of(data, answers[0]))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_alone(rack: Rack, case: Case) -> None:
    play(rack, case)


@pytest.mark.parametrize("case", RFC5118, ids=lambda case: case.name)
def test_over_ipv6(rack6: Rack, case: Case) -> None:
    play(rack6, case)


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.within and not c.is_response], ids=lambda case: case.name
)
def test_in_its_dialog(rack: Rack, case: Case) -> None:
    """A call with the Call-ID and the tags of the message is up when it comes."""
    said = Octets(case.data)
    caller = wire.tag(said.value(b"from")).decode()
    callee = wire.tag(said.value(b"to")).decode()
    change = {"call-id": said.value(b"call-id").decode(), "from": f"<sip:1001@192.0.2.10>;tag={caller}"}
    rack.pbx.sends("INVITE", change=change)
    rack.pbx.gets("100")
    rack.carrier.gets("INVITE")
    rack.carrier.sends("200", tag=callee)
    rack.pbx.gets("200")
    rack.pbx.sends("ACK")
    rack.carrier.gets("ACK")
    rack.spread()
    rack.takes(case.data)
    if case.within == "forwarded":
        forwarded(rack, case.data, case.drops)
    else:
        answered(rack, case.data, int(case.within), last=True)
    assert not rack.to_pbx()
    assert not rack.to_trunk()
    rack.out = None
    if said.method != b"BYE":
        rack.hangs_up(rack.carrier)
    rack.ends()


@pytest.mark.parametrize(
    "case", [c for c in RFC4475 if c.within and c.is_response], ids=lambda case: case.name
)
def test_as_an_answer(rack: Rack, case: Case) -> None:
    """The PBX has sent what the response could be the answer to, and it comes from the trunk with our Via."""
    rack.spread()
    rack.key.max_call_seconds = 100.0  # ends a call whose answer has no Record-Route (`proxy.calls.around`)
    request, _ = wire.asked_for(case.data)
    rack.takes(request)
    (left,) = rack.to_trunk()
    assert not rack.to_pbx()
    answer = wire.as_answer(case.data, left)
    rack.takes(answer, rack.carrier.flow)
    if case.within == "forwarded":
        (passed,) = rack.to_pbx()
        wire.check_passed_on(answer, passed)
    else:
        assert not rack.to_pbx()
        refusal = wire.answer_to(left, 486)
        rack.takes(refusal, rack.carrier.flow)
        (passed,) = rack.to_pbx()
        wire.check_passed_on(refusal, passed)
    rack.to_trunk()
    rack.until(rack.now + 300.0)  # no ACK ever comes, and nobody answers the gate's BYE
    rack.to_trunk()
    rack.to_pbx()
    rack.out = None
    rack.ends()


def test_none_is_missing() -> None:
    """RFC 4475 has 49, RFC 5118 has 12; each is one of its own."""
    assert (len(RFC4475), len(RFC5118)) == (49, 12)
    assert len({case.name for case in CASES}) == len({case.data for case in CASES}) == 61
