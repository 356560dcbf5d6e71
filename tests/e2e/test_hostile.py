"""Network bytes are hostile. Whatever comes, the process stays up, says so in a metric, answers where an answer is
possible, and a call in another flow goes on as if nothing were."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Iterator

import pytest
from tests.e2e.gate import Address, Gate, until
from tests.e2e.net import DID, FORBIDDEN, NUMBER, UNLIMITED, Net, uri
from tests.e2e.phone import SDP, Endpoint, Leg, Message, Stream, Udp, establish, request_and_answer, unique


def options(sender: Endpoint, gate: Address, *headers: str) -> bytes:
    """An OPTIONS to the gate itself, which the gate answers when it has dealt with all that came before."""
    sent_by = f"{sender.address[0]}:{sender.address[1]}"
    lines = [
        f"OPTIONS sip:{gate[0]}:{gate[1]} SIP/2.0",
        f"Via: SIP/2.0/{sender.transport} {sent_by};branch=z9hG4bK-{unique('o')};rport",
        f"From: <sip:{sent_by}>;tag=o",
        f"To: <sip:{gate[0]}>",
        f"Call-ID: {unique('options')}",
        "CSeq: 1 OPTIONS",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def settle(sender: Endpoint, gate: Gate) -> None:
    """Wait until the gate has read all that this sender's listener had before."""
    request = options(sender, gate.address, "Content-Length: 0")
    sender.send(request, gate.address)
    sender.final("OPTIONS", Message(request).call_id)


@contextlib.contextmanager
def undisturbed(gate: Gate, pbx: Udp, carrier: Udp) -> Iterator[None]:
    """A call that is up before, works during, and ends well after; then another one. Nothing but what the test
    sends is rejected as an internal error: there is none."""
    out, into = establish(pbx, gate.address, NUMBER, carrier)
    before = sum(rejected(gate).values())
    yield
    request_and_answer(out, into, "INFO")
    request_and_answer(into, out, "UPDATE")
    request_and_answer(out, into, "BYE")
    inbound, answered = establish(carrier, gate.address, DID, pbx)
    request_and_answer(answered, inbound, "BYE")
    gate.settle("calls_active", 0.0, direction="outbound")
    gate.settle("calls_active", 0.0, direction="inbound")
    ended = gate.line("call", call_id=out.call_id)
    assert (ended["outcome"], ended["ended_by"]) == ("answered", "caller")
    assert gate.running
    assert not gate.lines("internal error")
    assert gate.http("/healthz")[0] == 200
    assert gate.http("/readyz")[0] == 200
    after = rejected(gate)
    assert "internal error" not in after
    assert sum(after.values()) > before, "what was rejected is counted"


def rejected(gate: Gate) -> dict[str, float]:
    return gate.metrics().by("rejected_messages_total", "reason")


# -- datagrams ---------------------------------------------------------------------------------------------

def test_smoke(net: Net) -> None:
    pbx, carrier, stranger = net.pbx(), net.carrier(), net.udp(9)
    gate = net.gate(pbx, carrier).run()
    with undisturbed(gate, pbx, carrier):
        stranger.send(options(stranger, gate.address), gate.address)
        pbx.send(b"rubbish", gate.address)
        pbx.send(b"INVITE sip:0312345678@127.0.0.1 SIP/2.0\r\n\r\n", gate.address)
    print(rejected(gate))
