"""Network bytes are hostile. Whatever comes, the process stays up, says so in a metric, answers where an answer is
possible, and a call in another flow goes on as if nothing were."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import struct
from collections.abc import Iterator

from tests.e2e.gate import DEADLINE, Gate, until
from tests.e2e.net import DID, FORBIDDEN, NUMBER, Net
from tests.e2e.phone import (
    SDP,
    Leg,
    Stream,
    Udp,
    ask,
    establish,
    request_and_answer,
    settle,
)

SEED = 20260101
LARGEST_DATAGRAM = 65_507
"""Octets of the largest UDP datagram over IPv4: 65,535 less the headers of IP and UDP."""


def rejected(gate: Gate) -> dict[str, float]:
    return gate.metrics().by("rejected_messages_total", "reason")


@contextlib.contextmanager
def undisturbed(gate: Gate, pbx: Udp, carrier: Udp) -> Iterator[None]:
    """A call that is up before and whose every request passes after; then a call the other way. What was sent
    meanwhile is counted as rejected, and none of it has met a fault in the program."""
    out, into = establish(pbx, gate.address, NUMBER, carrier)
    before = sum(rejected(gate).values())
    yield
    request_and_answer(out, into, "INFO")
    request_and_answer(into, out, "UPDATE")
    request_and_answer(out, into, "BYE")
    inbound, answered = establish(carrier, gate.address, DID, pbx)
    request_and_answer(answered, inbound, "BYE")
    ended = gate.line("call", call_id=out.call_id)
    assert (ended["outcome"], ended["ended_by"]) == ("answered", "caller")
    gate.settle("calls_active", 0.0)
    assert gate.running
    assert not gate.lines("internal error")
    assert gate.http("/healthz")[0] == 200
    assert gate.http("/readyz")[0] == 200
    after = rejected(gate)
    assert "internal error" not in after
    assert sum(after.values()) > before


# -- datagrams ---------------------------------------------------------------------------------------------

RUBBISH = (
    b"",
    b"\0",
    b"\r\n",
    b"\r\n\r\n",
    b"hello",
    b"\xff" * 1200,
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"INVITE",
    b"INVITE sip:0312345678@127.0.0.1 SIP/2.0",
    b"INVITE sip:0312345678@127.0.0.1 SIP/2.0\r\n\r\n",
    b"SIP/2.0 200 OK\r\n\r\n",
    b"SIP/2.0 999999999999999999999 OK\r\n\r\n",
    b"SIP/2.0\r\n",
    b"\0\1\0\0\x21\x12\xa4\x42" + b"\0" * 12,  # STUN
    b"BYE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP \xff\xfe;branch=z9hG4bK1\r\n\r\n",
    b"INVITE sip:x SIP/2.0\r\n" + b"Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\n" * 1500 + b"\r\n",
    b"INVITE sip:x SIP/2.0\r\n" + b"a" * 60_000 + b"\r\n\r\n",
    b"INVITE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP a" + b";a=b" * 15_000 + b"\r\n\r\n",
    b"INVITE sip:x SIP/2.0\r\nSubject: " + b"\r\n " * 20_000 + b"\r\n\r\n",
)


def test_rubbish_datagrams(net: Net) -> None:
    """From the key's own address, the trunk's and a stranger's."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    with undisturbed(gate, pbx, carrier):
        for source in (net.udp(2), net.udp(3), net.udp(9)):
            for data in RUBBISH:
                source.send(data, gate.address)
        settle(pbx, gate)
        assert rejected(gate)["unreadable"] > 3


def test_random_bytes_and_broken_invites(net: Net) -> None:
    """A thousand datagrams of noise and two thousand INVITEs with some of their octets changed (seeded)."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    noise = random.Random(SEED)
    with undisturbed(gate, pbx, carrier):
        sources = (net.udp(2), net.udp(3), net.udp(9))
        for n in range(1000):
            source = sources[n % 3]
            source.send(noise.randbytes(noise.randrange(1500)), gate.address)
            for _ in range(2):
                source.send(_changed(noise, source, gate), gate.address)
            if n % 50 == 49:
                settle(pbx, gate)  # in portions that fit into the socket's buffer
        assert rejected(gate)["unreadable"] > 500
        assert rejected(gate)["malformed request"] > 100


def _changed(noise: random.Random, source: Udp, gate: Gate) -> bytes:
    """An INVITE for a number that never passes, with up to eight octets changed. The first line stays: a number that
    does pass would be a call."""
    invite = Leg.prepare(source, gate.address, FORBIDDEN).invite
    assert invite is not None
    data = bytearray(invite.data)
    begin = data.index(b"\r\n")
    for _ in range(noise.randrange(1, 9)):
        data[noise.randrange(begin, len(data))] = noise.randrange(256)
    return bytes(data)


MALFORMED = {
    "no Call-ID": (r"Call-ID: .*\r\n", "", 400),
    "no CSeq": (r"CSeq: .*\r\n", "", 400),
    "no From": (r"From: .*\r\n", "", 400),
    "no To": (r"To: .*\r\n", "", 400),
    "two Call-IDs": (r"(Call-ID: .*\r\n)", r"\1Call-ID: another\r\n", 400),
    "CSeq of another method": ("CSeq: 1 INVITE", "CSeq: 1 BYE", 400),
    "CSeq beyond 2**31": ("CSeq: 1 INVITE", "CSeq: 4294967296 INVITE", 400),
    "a negative CSeq": ("CSeq: 1 INVITE", "CSeq: -1 INVITE", 400),
    "Max-Forwards beyond 255": ("Max-Forwards: 70", "Max-Forwards: 256", 400),
    "Max-Forwards that is no number": ("Max-Forwards: 70", "Max-Forwards: -1", 400),
    "no hop left": ("Max-Forwards: 70", "Max-Forwards: 0", 483),
    "SIP 3": (r"SIP/2.0\r\nVia", r"SIP/3.0\r\nVia", 505),
    "a body that is cut": (r"Content-Length: \d+", "Content-Length: 2000", 400),
    "a Content-Length below 0": (r"Content-Length: \d+", "Content-Length: -1", 400),
    "a scheme that nobody knows": ("INVITE sip:", "INVITE gopher:", 416),
    "an extension for the proxy": ("Max-Forwards: 70", "Max-Forwards: 70\r\nProxy-Require: magic", 420),
}


def test_an_answer_where_one_is_possible(net: Net) -> None:
    """RFC 3261 §16.3, §8.1.1, §18.3; RFC 4475: what has a Via to answer to is answered."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    with undisturbed(gate, pbx, carrier):
        for name, (old, new, code) in MALFORMED.items():
            leg = Leg.prepare(pbx, gate.address, NUMBER)
            assert leg.invite is not None
            text = leg.invite.data.decode()
            broken = re.sub(old, new, text, count=1)
            assert broken != text, name
            branch = re.search("branch=[^;]*", text)
            assert branch is not None
            pbx.send(broken.encode(), gate.address)
            answer = pbx.find(lambda m, b=branch[0]: m.code >= 200 and b in m.get("via"), name)  # type: ignore[misc]
            assert answer.code == code, name
        leg = Leg.prepare(pbx, gate.address, NUMBER)
        assert leg.invite is not None
        pbx.send(re.sub(rb"Via: .*\r\n", b"", leg.invite.data), gate.address)  # no one can be answered here
        settle(pbx, gate)
        assert not [m for m in pbx.arrived() if m.call_id == leg.call_id]
    assert not [m for m in carrier.arrived() if not m.code], "none of it went further"


def test_the_largest_datagram(net: Net) -> None:
    """65,507 octets: read whole. What fits with our Via on top goes on whole; what doesn't is answered at once."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()

    def padded(size: int) -> Leg:
        leg = Leg.prepare(pbx, gate.address, NUMBER, body=SDP)
        assert leg.invite is not None
        room = size - len(leg.invite.data) - 2  # the Content-Length grows by two digits
        leg = Leg.prepare(pbx, gate.address, NUMBER, body=SDP + b"a" * room)
        assert leg.invite is not None
        data = leg.invite.data
        assert len(data) == size
        pbx.send(data, gate.address)
        return leg

    leg = padded(64_000)
    arrived = carrier.expect("INVITE", call_id=leg.call_id)
    assert leg.invite is not None
    assert arrived.body == leg.invite.body
    Leg.answering(carrier, arrived).answer(486)
    leg.ack(pbx.expect(486, call_id=leg.call_id))
    with undisturbed(gate, pbx, carrier):
        pbx.send(b"\xff" * LARGEST_DATAGRAM, gate.address)
        leg = padded(LARGEST_DATAGRAM)
        answer = pbx.final("INVITE", leg.call_id)
        assert answer.code in (503, 513)
        leg.ack(answer)
    assert gate.line("call", call_id=leg.call_id)["outcome"] == "failed"


def test_one_answer_per_second_to_a_stranger(net: Net) -> None:
    """One 403 per source and second, else silence, whatever it asks; another stranger has a second of its own."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    stranger, other = net.udp(9, stamps=True), net.udp(10)

    def ask_all(source: Udp) -> None:
        leg = Leg.call(source, gate.address, NUMBER)
        leg.remote += ";tag=of-no-dialog"
        for method in ("BYE", "INFO", "ACK", "MESSAGE"):
            leg.send(method)
        leg.cancel()

    with undisturbed(gate, pbx, carrier):
        for _ in range(5):
            ask_all(stranger)
        ask_all(other)
        settle(pbx, gate)
        answers = stranger.arrived()
        assert [m.code for m in answers] == [403]
        assert [m.code for m in other.arrived()] == [403]
        assert not [h for h, _ in answers[0].headers if h in ("warning", "x-callgate-verdict", "server")]

        def second() -> bool:
            ask_all(stranger)
            settle(pbx, gate)
            return len(stranger.arrived()) > 1

        until(second, "a second answer, in the next second")
        first, again = stranger.arrived()
        assert again.code == 403
        # The gate's clock and the kernel's stamps may differ by the time that it takes to send.
        assert again.stamp - first.stamp > 0.95
        assert rejected(gate)["unknown source"] > 40
    assert not [m for m in carrier.arrived() if not m.code], "nothing of a stranger's went further"


def test_a_stranger_cannot_end_a_call(net: Net) -> None:
    """A BYE with the right Call-ID, tags and Route from an address that is no side of the dialog changes nothing."""
    pbx, carrier, stranger = net.pbx(), net.carrier(), net.udp(9)
    gate = net.gate(pbx, carrier).run()
    with undisturbed(gate, pbx, carrier):
        out, into = establish(pbx, gate.address, NUMBER, carrier)
        for leg in (out, into):
            stranger.send(leg.request("BYE"), gate.address)
        settle(pbx, gate)
        assert [m.code for m in stranger.arrived()] == [403]
        assert gate.metrics().get("calls_active", direction="outbound") == 2
        request_and_answer(out, into, "BYE")


# -- streams -----------------------------------------------------------------------------------------------


def test_half_a_message_and_then_silence(net: Net) -> None:
    """It waits, and holds up nobody; the rest of it, an octet at a time, makes it whole."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    streams = [net.stream(gate, last) for last in (2, 3, 9) for _ in range(10)]
    slow = streams[0]
    leg = Leg.prepare(slow, gate.address, FORBIDDEN)
    assert leg.invite is not None
    data = leg.invite.data
    with undisturbed(gate, pbx, carrier):
        for n, stream in enumerate(streams):
            stream.send(data[: len(data) * (n + 1) // (len(streams) + 1)] if n else data[:60])
        pbx.send(b"rubbish", gate.address)
    for octet in data[60:]:
        slow.send(bytes((octet,)))
    leg.ack(slow.expect(403, "INVITE", leg.call_id))
    assert not any(stream.ended for stream in streams)


def test_a_stranger_on_a_stream(net: Net) -> None:
    """The same word for all its connections: one 403 in a second, then silence."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    with undisturbed(gate, pbx, carrier):
        first, second = net.stream(gate, 9), net.stream(gate, 9)
        call_id = ask(first, gate, "Content-Length: 0")
        assert first.final("OPTIONS", call_id).code == 403
        for stream in (first, second):
            ask(stream, gate, "Content-Length: 0")
        until(lambda: rejected(gate)["unknown source"] == 3, "all three were read")
        assert not first.arrived()
        assert not second.arrived()


LENGTHS = {
    "words": "Content-Length: many",
    "negative": "Content-Length: -5",
    "empty": "Content-Length:",
    "huge": "Content-Length: 99999999999999999999",
    "more than a message may have": "Content-Length: 131071",
    "two that differ": "Content-Length: 0\r\nContent-Length: 5",
    "two that differ, one compact": "l: 5\r\nContent-Length: 0",
    "a sum": "Content-Length: 1+1",
    "hexadecimal": "Content-Length: 0x10",
}


def test_a_content_length_that_makes_no_sense(net: Net) -> None:
    """On a stream nobody can know where the next message begins: answered, then closed (RFC 4475 §3.1.2.3)."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    with undisturbed(gate, pbx, carrier):
        for name, line in LENGTHS.items():
            stream = net.stream(gate, 2)
            call_id = ask(stream, gate, line, body="smuggled: yes\r\n\r\n")
            stream.expect_end()
            assert [(m.code, m.call_id) for m in stream.inbox] == [(400, call_id)], name
            stream = net.stream(gate, 9)  # a stranger's: closed all the same
            ask(stream, gate, line)
            stream.expect_end()


def test_the_same_content_length_twice(net: Net) -> None:
    """Not well-formed, yet everybody knows where the next message begins: the stream goes on."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    stream = net.stream(gate, 2)
    first = ask(stream, gate, "Content-Length: 3", "l: 3", body="abc")
    assert stream.final("OPTIONS", first).code in (200, 400)
    settle(stream, gate)


def test_rubbish_on_a_stream(net: Net) -> None:
    """Noise, an endless header, a header beyond 65,535 octets: the connection goes, and nothing else."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    noise = random.Random(SEED)
    with undisturbed(gate, pbx, carrier):
        for last in (2, 3, 9):
            for data in (
                b"OPTIONS sip:x SIP/2.0\r\nSubject: " + b"a" * 70_000,
                b"OPTIONS sip:x SIP/2.0\r\nSubject: " + b"a" * 10_000_000,
                b"OPTIONS sip:x SIP/2.0\r\n" + b"a: b\r\n" * 12_000,
                noise.randbytes(140_000),
            ):
                stream = net.stream(gate, last)
                with contextlib.suppress(ConnectionError):  # closed before we were done
                    stream.send(data)
                stream.expect_end()
            for data in (*RUBBISH, noise.randbytes(2000) + b"\r\n\r\n"):
                stream = net.stream(gate, last)
                stream.send(data)
                stream.close()
        settle(pbx, gate)


def test_large_messages_on_a_stream(net: Net) -> None:
    """65,535 octets and more pass from stream to stream; beyond 131,070 the gate says no and closes."""
    trunk = net.server(3)
    gate = net.gate(net.server(2), trunk).run()
    stream = net.stream(gate, 2)
    connection: Stream | None = None
    for size in (65_535, 65_536, 120_000):
        leg = Leg.call(stream, gate.address, NUMBER, body=b"a" * size)
        connection = connection or net.add(trunk.accept())
        invite = connection.expect("INVITE", call_id=leg.call_id)
        assert invite.body == b"a" * size
        Leg.answering(connection, invite).answer(486)
        leg.ack(stream.expect(486, call_id=leg.call_id))
    leg = Leg.prepare(stream, gate.address, NUMBER, body=b"a" * 131_070)
    assert leg.invite is not None
    stream.send(leg.invite.data[:100_000])
    stream.expect_end()
    assert [m.code for m in stream.inbox if m.call_id == leg.call_id] == [400]
    settle(net.stream(gate, 2), gate)
    assert gate.running
    assert not gate.lines("internal error")
    assert sum(rejected(gate).values()) > 0


def test_a_thousand_connections_opened_and_dropped(net: Net) -> None:
    """From the key's address and from strangers; with half a message, with none; closed, and reset."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    gate.settle("calls_active", 0.0)
    files = gate.metrics().get("process_open_fds")
    with undisturbed(gate, pbx, carrier):
        for n in range(20):
            streams = [Stream.to(gate.address, net.host((2, 9, 10)[n % 3])) for _ in range(50)]
            for i, stream in enumerate(streams):
                if i % 3 == 0:
                    stream.send(b"INVITE sip:0312345678@x SIP/2.0\r\nVia: SIP")
                if i % 3 == 1:  # a reset instead of an orderly end
                    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                stream.close()
        pbx.send(b"rubbish", gate.address)
        settle(net.stream(gate, 2), gate)
    until(
        lambda: (
            gate.metrics().get("process_open_fds") <= files + 10
        ),  # the database may have been opened only now
        lambda: f"open files back at {files} (now {gate.metrics().get('process_open_fds')})",
    )


def test_a_client_that_never_reads_its_answers(net: Net) -> None:
    """What waits for it is bounded: then the connection goes, and nothing else."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier).run()
    deaf = socket.socket()
    net.add(deaf)
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.bind((net.host(2), 0))
    deaf.connect(gate.address)
    stream = net.add(Stream(deaf))
    with undisturbed(gate, pbx, carrier):
        pbx.send(b"rubbish", gate.address)
        deaf.settimeout(DEADLINE)
        closed = False
        for _ in range(2000):  # 16 MB of answers
            try:
                ask(stream, gate, "Timestamp: 1", "Content-Length: 0", f"v: SIP/2.0/TCP a;x={'a' * 8000}")
            except ConnectionError:
                closed = True
                break
        assert closed
