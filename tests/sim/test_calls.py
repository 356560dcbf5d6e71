"""The simulated PBX and carrier over real loopback UDP: straight, and through a record-routing relay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from callgate.sim import wire
from callgate.sim.agent import Agent
from callgate.sim.call import Call
from callgate.sim.carrier import Carrier
from callgate.sim.meter import Contract
from callgate.sim.pbx import Pbx, verdict
from callgate.sim.plan import Arrival, Offer
from callgate.sim.udp import Address, Endpoint
from callgate.sip.fields import parse_name_addr
from callgate.sip.message import ROUTE, VIA, Message, parse

T1 = 0.02
PATIENCE = 20.0  # a bound for a test that hangs, not an expectation
MANY = Contract(calls_per_second=1000, inbound_calls=1000)


def offers(count: int, *, dialled: str = "0312345678", hold: float = 0.0) -> list[Offer]:
    return [Offer(at=0.0, dialled=dialled, forbidden=False, hold=hold, patience=None) for _ in range(count)]


@asynccontextmanager
async def started(*agents: Agent) -> AsyncIterator[None]:
    try:
        for agent in agents:
            agent.start()
        yield
    finally:
        for agent in agents:
            agent.close()


async def settle(*agents: Agent) -> None:
    """Wait until everything planned has been done and nobody has a call left."""
    for agent in agents:
        assert await agent.idle(PATIENCE)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - it is about several agents at once: no event says it
            await asyncio.sleep(0)


class Relay:
    """A stateless record-routing proxy between the two, with a hook that may drop a datagram."""

    def __init__(self, drop: Callable[[Message], bool]) -> None:
        self.pbx: Address = ("", 0)
        self.carrier: Address = ("", 0)
        self.drop = drop
        self.inside: list[bytes] = []
        self.endpoint = Endpoint("127.0.0.1", 0, self.received)
        self.address = self.endpoint.address

    def received(self, data: bytes, source: Address, at: int) -> None:
        message = parse(data)
        if self.drop(message):
            return
        lines = list(message.lines)
        if message.code:
            del lines[message.at[VIA]]
            onward = parse(self._bytes(lines, message))
            to = (onward.via.host.decode(), onward.via.port)
        else:
            own = b"sip:%b;lr" % wire.host_port(self.address)
            if ROUTE in message.at:
                assert parse_name_addr(message.value(ROUTE)).uri == own
                self.inside.append(message.method)
                del lines[message.at[ROUTE]]
                to = wire.next_hop(message.uri)
            else:
                to = self.carrier if source == self.pbx else self.pbx
                lines.insert(1, b"Record-Route: <%b>" % own)
            branch = message.via.branch + b".r"
            lines.insert(1, b"Via: SIP/2.0/UDP %b;branch=%b" % (wire.host_port(self.address), branch))
        self.endpoint.send(self._bytes(lines, message), to)

    @staticmethod
    def _bytes(lines: list[bytes], message: Message) -> bytes:
        return b"\r\n".join(lines) + b"\r\n\r\n" + message.body


@contextmanager
def relayed(
    pbx: Pbx, carrier: Carrier, drop: Callable[[Message], bool] = lambda message: False
) -> Iterator[Relay]:
    relay = Relay(drop)
    relay.pbx, relay.carrier = pbx.address, carrier.address
    try:
        yield relay
    finally:
        relay.endpoint.close()


async def test_calls_complete() -> None:
    pbx, carrier = Pbx(t1=T1), Carrier(MANY, quick=True, t1=T1)
    async with started(pbx, carrier):
        pbx.offer(offers(20), carrier.address)
        await settle(pbx, carrier)
    assert [told.code for told in pbx.told] == [200] * 20
    assert len(carrier.taken) == 20
    assert not carrier.opinion.suspended
    assert pbx.traffic.faults + carrier.traffic.faults == []


async def test_ringing_carrier_answers_some_and_is_busy_for_some() -> None:
    pbx, carrier = Pbx(), Carrier(MANY, seed=1)
    async with started(pbx, carrier):
        pbx.offer(offers(40), carrier.address)
        await settle(pbx, carrier)
    codes = [told.code for told in pbx.told]
    assert set(codes) == {200, 486}
    again_pbx, again = Pbx(), Carrier(MANY, seed=1)
    async with started(again_pbx, again):
        again_pbx.offer(offers(40), again.address)
        await settle(again_pbx, again)
    assert [told.code for told in again_pbx.told] == codes, "the same seed, the same answers"


async def test_an_impatient_caller_cancels() -> None:
    pbx, carrier = Pbx(), Carrier(MANY)
    impatient = Offer(at=0.0, dialled="0312345678", forbidden=False, hold=0.0, patience=0.0)
    async with started(pbx, carrier):
        pbx.offer([impatient], carrier.address)
        await settle(pbx, carrier)
    assert [told.code for told in pbx.told] == [487]


async def test_inbound_calls_are_answered_and_end_from_either_side() -> None:
    pbx, carrier = Pbx(quick=True, t1=T1), Carrier(MANY, t1=T1)
    plan = [Arrival(0.0, "09012345678", hold=0.0, patience=None) for _ in range(5)]
    plan += [Arrival(0.0, "09012345678", hold=None, patience=None) for _ in range(5)]
    async with started(pbx, carrier):
        carrier.bring(plan, "+815012345678", pbx.address)
        await until(lambda: len(carrier.inbound) == 10 and carrier.inbound_up == len(pbx.calls) == 5)
        pbx.hang_up_all()
        await settle(carrier, pbx)
    assert [call.code for call in carrier.inbound] == [200] * 10
    assert len(pbx.received) == carrier.brought == carrier.allowed == 10


async def test_fourth_call_within_a_second_suspends_the_account() -> None:
    pbx, carrier = Pbx(t1=T1), Carrier(Contract(3, 8), quick=True, t1=T1)
    async with started(pbx, carrier):
        pbx.offer(offers(3), carrier.address)
        await settle(pbx, carrier)
        assert not carrier.opinion.suspended
        pbx.offer(offers(2), carrier.address)
        await settle(pbx, carrier)
    assert [told.code for told in pbx.told] == [200, 200, 200, 403, 403]
    assert str(carrier.opinion.breaches[0]) == "V1 4/3, calls within one second"
    assert len(carrier.taken) == 3
    assert carrier.refused == 2


async def test_suspended_answer_says_so_and_no_more_inbound_calls_come() -> None:
    carrier = Carrier(MANY, quick=True, t1=T1)
    finals: list[bytes] = []

    class Listening(Pbx):
        def on_end(self, call: Call) -> None:
            assert call.final is not None
            finals.append(call.final.lines[0])
            super().on_end(call)

    pbx = Listening(t1=T1)
    async with started(pbx, carrier):
        pbx.offer(offers(1, dialled="0120-444-444"), carrier.address)
        await settle(pbx, carrier)
        carrier.bring([Arrival(0.0, "09012345678", None, None)], "+815012345678", pbx.address)
        await settle(carrier)
    assert finals == [b"SIP/2.0 403 Account suspended"]
    assert [b.rule for b in carrier.opinion.breaches] == ["K-X2"]
    assert carrier.brought == 0


async def test_inbound_calls_beyond_the_contract_are_a_breach_of_it() -> None:
    pbx, carrier = Pbx(quick=True, t1=T1), Carrier(Contract(1000, inbound_calls=2), t1=T1)
    plan = [Arrival(0.0, "09012345678", None, None) for _ in range(3)]
    async with started(pbx, carrier):
        carrier.bring(plan, "+815012345678", pbx.address)
        await until(lambda: carrier.inbound_up == 3)
    assert carrier.allowed == 2
    assert [str(b) for b in carrier.opinion.breaches] == ["V3 3/2, inbound calls at once"]


async def test_copies_make_one_call() -> None:
    """Of every call each message is lost once: repeated, counted once, ended on both sides."""
    lost: set[tuple[bytes, bytes]] = set()

    def once(message: Message) -> bool:
        key = (message.call_id, b"%d %b" % (message.code, message.method))
        first = key not in lost
        lost.add(key)
        return first

    up: list[bytes] = []

    class Listening(Pbx):
        def on_up(self, call: Call) -> None:
            up.append(call.call_id)
            super().on_up(call)

    pbx, carrier = Listening(t1=T1), Carrier(MANY, quick=True, t1=T1)
    async with started(pbx, carrier):
        with relayed(pbx, carrier, once) as relay:
            pbx.offer(offers(5), relay.address)
            await settle(pbx, carrier)
    assert [told.code for told in pbx.told] == [200] * 5
    assert len(carrier.seen) == len(carrier.opinion.meter.arrivals) == 5
    assert carrier.traffic.repeated > 0
    assert len(up) == len(set(up)) == 5


async def test_a_lost_ack_is_sent_again_and_the_called_side_waits_for_it_before_its_bye() -> None:
    acks: list[bytes] = []

    def first_acks(message: Message) -> bool:
        if message.method != b"ACK" or message.code:
            return False
        acks.append(message.lines[1])
        return len(acks) <= 2

    up: list[bytes] = []

    class Listening(Pbx):
        def on_up(self, call: Call) -> None:
            up.append(call.call_id)
            super().on_up(call)

    class Hasty(Carrier):
        def on_up(self, call: Call) -> None:
            self.hang_up(call)

    pbx, carrier = Listening(t1=T1), Hasty(MANY, quick=True, t1=T1)
    async with started(pbx, carrier):
        with relayed(pbx, carrier, first_acks) as relay:
            pbx.offer(offers(1, hold=PATIENCE), relay.address)
            await settle(pbx, carrier)
    assert len(acks) >= 3
    assert len(set(acks)) == 1, "the same ACK each time (RFC 3261 §13.2.2.4)"
    assert set(relay.inside[:-1]) == {b"ACK"}
    assert relay.inside[-1] == b"BYE"
    assert len(up) == 1
    assert carrier.traffic.faults == []


async def test_a_200_that_nobody_acknowledges_ends_in_a_bye() -> None:
    pbx, carrier = Pbx(t1=0.005), Carrier(MANY, quick=True, t1=0.005)
    async with started(pbx, carrier):
        with relayed(pbx, carrier, lambda message: message.method == b"ACK" and not message.code) as relay:
            pbx.offer(offers(1, hold=PATIENCE), relay.address)
            await settle(pbx, carrier)
    assert relay.inside == [b"BYE"]
    assert carrier.traffic.faults == ["no ACK came for a 200"]


async def test_requests_inside_a_call_follow_the_route_set_in_both_directions() -> None:
    pbx, carrier = Pbx(quick=True), Carrier(MANY, quick=True)
    async with started(pbx, carrier):
        with relayed(pbx, carrier) as relay:
            pbx.offer(offers(1), relay.address)
            await settle(pbx, carrier)
            assert relay.inside == [b"ACK", b"BYE"]
            relay.inside.clear()
            carrier.bring([Arrival(0.0, "09012345678", None, None)], "+815012345678", relay.address)
            await until(lambda: carrier.inbound_up == 1 and b"ACK" in relay.inside)
            pbx.hang_up_all()  # the called side: its route set is in the order of Record-Route
            await settle(carrier, pbx)
    assert relay.inside == [b"ACK", b"BYE"]
    assert pbx.traffic.faults + carrier.traffic.faults == []


async def test_no_answer_at_all_is_a_408_of_its_own() -> None:
    pbx = Pbx(t1=0.005)
    silent = Endpoint("127.0.0.1", 0, lambda data, source, at: None)
    async with started(pbx):
        call = pbx.place(b"sip:1@127.0.0.1", silent.address, b"<sip:2@127.0.0.1>")
        assert await pbx.idle(PATIENCE)
    silent.close()
    assert call.code == 408


async def test_in_dialog_request_of_no_call_gets_481_and_options_200() -> None:
    carrier, answers = Carrier(), asyncio.Queue[Message]()
    other = Endpoint("127.0.0.1", 0, lambda data, source, at: answers.put_nowait(parse(data)))
    async with started(carrier):
        for method, to in (
            (b"BYE", b"<sip:a@b>;tag=x"),
            (b"OPTIONS", b"<sip:a@b>"),
            (b"PUBLISH", b"<sip:a@b>"),
        ):
            data = wire.request(
                method,
                b"sip:a@127.0.0.1",
                via=b"SIP/2.0/UDP %b;branch=z9hG4bK%b;rport" % (wire.host_port(other.address), method),
                from_=b"<sip:c@d>;tag=y",
                to=to,
                call_id=b"strange",
                cseq=7,
            )
            other.send(data, carrier.address)
        async with asyncio.timeout(PATIENCE):
            got = [await answers.get() for _ in range(3)]
        other.send(b"\r\n\r\n", carrier.address)
        other.send(b"no SIP at all\r\n\r\n", carrier.address)
        other.send(data, carrier.address)  # a copy: the same answer again
        async with asyncio.timeout(PATIENCE):
            again = await answers.get()
    other.close()
    assert {(m.method, m.code) for m in got} == {(b"BYE", 481), (b"OPTIONS", 200), (b"PUBLISH", 405)}
    assert got[0].via.rport
    assert b";rport=%d" % other.address[1] in got[0].lines[1]
    assert again.lines == got[2].lines
    assert [f for f in carrier.traffic.faults if "can't be read" in f]


async def test_agents_stay_on_this_machine() -> None:
    with pytest.raises(ValueError, match="no loopback address"):
        Pbx().start("0.0.0.0")
    with pytest.raises(ValueError, match="no loopback address"):
        Pbx().start("localhost")


def test_verdict_of_an_answer() -> None:
    head = (
        b"SIP/2.0 503 Service Unavailable\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n"
        b"To: <sip:a@b>;tag=2\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n"
    )
    with_it = parse(head + b"X-CallGate-Verdict: rule=V1;value=4;limit=3\r\n\r\n")
    assert verdict(with_it) == ("V1", "4", "3")
    assert verdict(parse(head + b"X-CallGate-Verdict: rule=K-X1+EMG\r\n\r\n")) == ("K-X1+EMG", "", "")
    assert verdict(parse(head + b"\r\n")) == ("", "", "")
