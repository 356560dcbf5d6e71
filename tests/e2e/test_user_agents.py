"""baresip and linphonec, as Debian has them, register at the gate and call through it, in and out."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing

import pytest
from tests.certificates import Authority
from tests.e2e.gate import Gate, until
from tests.e2e.net import DID, NUMBER, Net
from tests.e2e.phone import SDP, Leg, Udp
from tests.e2e.ua import Baresip, Linphone, UserAgent

USER, PASSWORD = "1001", "the-secret-of-1001"
AGENTS: dict[str, type[UserAgent]] = {"baresip": Baresip, "linphonec": Linphone}
ALGORITHMS = {"baresip": ["MD5"], "linphonec": ["SHA-256"]}
"""baresip 1.0 knows MD5 only, and gives up where another algorithm is offered first."""
OVER = ("udp", "tcp", "tls")


class Place:
    """A gate whose key `acme` has phones and no PBX, and its carrier."""

    def __init__(self, net: Net, algorithms: list[str]) -> None:
        self.net = net
        self.carrier = net.carrier()
        user = {"username": USER, "password": PASSWORD}
        key = {"sources": [], "pbx": "registered", "digest": [user]}
        digest = {"algorithms": algorithms}
        authority = Authority(net.folder)
        authority.issue("gate", net.host(1))
        tls = {"certificate": "gate.crt", "private_key": "gate.key"}
        self.ca = authority.file
        self.gate: Gate = net.gate(net.pbx(), self.carrier, key=key, digest=digest, tls=tls).run()

    def phone(self, kind: str, over: str = "udp", last: int = 2, password: str = PASSWORD) -> UserAgent:
        """One that has been started at `host(last)`."""
        folder, host = self.net.folder / f"{kind}-{last}", self.net.host(last)
        gate = self.gate.tls if over == "tls" else self.gate.address
        phone = AGENTS[kind](folder, host, gate, USER, over=over, password=password, ca=self.ca)
        return self.net.add(phone)


@pytest.fixture
def place(net: Net, kind: str) -> Place:
    return Place(net, ALGORITHMS[kind])


def calls_in(gate: Gate, carrier: Udp, *phones: UserAgent) -> Leg:
    """The carrier calls the key's number; these ring."""
    leg = Leg.call(carrier, gate.address, DID)
    for phone in phones:
        phone.rings()
        carrier.expect(180, call_id=leg.call_id)
    return leg


def is_answered(leg: Leg, carrier: Udp, phone: UserAgent) -> None:
    phone.answers()
    leg.ack(carrier.expect(200, "INVITE", leg.call_id))
    phone.talks()


@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("kind", AGENTS)
def test_registers_calls_and_is_called(place: Place, kind: str, over: str) -> None:
    """It is challenged and registers. Its own call is challenged, goes to the carrier, and the carrier hangs up. It
    rings for the key's number, answers and hangs up; at its end it is gone."""
    gate, carrier = place.gate, place.carrier
    phone = place.phone(kind, over)
    phone.registered()
    assert gate.line("registered")["user"] == USER
    gate.settle("registrations", 1, key="acme")
    _calls_out(gate, carrier, phone)
    leg = calls_in(gate, carrier, phone)
    is_answered(leg, carrier, phone)
    phone.hangs_up()
    bye = carrier.expect("BYE", call_id=leg.call_id)
    leg.answer(200, bye)
    phone.is_free()
    line = gate.line("call", call_id=leg.call_id)
    assert (line["outcome"], line["ended_by"], line["direction"]) == ("answered", "callee", "inbound")
    phone.leaves()
    assert gate.line("registration lost")["reason"] in ("removed", "its connection has ended")
    gate.settle("registrations", 0, key="acme")


def _calls_out(gate: Gate, carrier: Udp, phone: UserAgent) -> None:
    phone.dials(NUMBER)
    leg = Leg.answering(carrier, carrier.expect("INVITE"))
    leg.answer(180)
    leg.answer(200, body=SDP)
    carrier.expect("ACK", call_id=leg.call_id)
    phone.talks()
    leg.send("BYE")
    carrier.expect(200, "BYE", leg.call_id)
    phone.is_free()
    line = gate.line("call", call_id=leg.call_id, verdict="passed", outcome="answered")
    assert (line["ended_by"], line["direction"]) == ("callee", "outbound")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("kind", ["linphonec"])
def test_rings_after_a_restart_of_the_gate(place: Place, kind: str, number: int) -> None:
    """Nothing is told to the phone: the new gate has it from the disk."""
    gate, carrier = place.gate, place.carrier
    phone = place.phone(kind)
    phone.registered()
    until(lambda: rows(gate), "the registration is on the disk")
    gate.signal(number)
    gate.wait()
    gate.run()
    assert gate.line("registrations taken up")["contacts"] >= 1
    leg = calls_in(gate, carrier, phone)
    is_answered(leg, carrier, phone)
    leg.send("BYE")
    carrier.expect(200, "BYE", leg.call_id)
    phone.is_free()


def rows(gate: Gate) -> int:
    """Contacts on the disk."""
    with closing(sqlite3.connect(gate.file.parent / "state" / "registrations.db")) as db:
        try:
            return int(db.execute("SELECT count(*) FROM registrations").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


@pytest.mark.parametrize("kind", ["baresip"])
def test_a_phone_whose_connection_ends(place: Place, kind: str) -> None:
    """It is bound still, and can't be reached: a call is refused at once, and the log says why."""
    gate, carrier = place.gate, place.carrier
    phone = place.phone(kind, "tcp")
    phone.registered()
    gate.line("registered")
    phone.close()
    assert gate.line("registration lost")["reason"] == "its connection has ended"
    leg = Leg.call(carrier, gate.address, DID)
    answer = carrier.final("INVITE", leg.call_id)
    assert answer.code == 480
    leg.ack(answer)
    gate.settle("registrations", 1, key="acme")


def test_both_ring_and_one_answers(net: Net) -> None:
    """The other one stops ringing; its 487 goes no further."""
    place = Place(net, ["MD5"])
    gate, carrier = place.gate, place.carrier
    one, two = place.phone("baresip", "tcp"), place.phone("linphonec", last=4)
    one.registered()
    two.registered()
    gate.line("registered", 2)
    leg = Leg.call(carrier, gate.address, DID)
    one.rings()
    two.rings()
    is_answered(leg, carrier, two)
    one.is_free()
    leg.send("BYE")
    carrier.expect(200, "BYE", leg.call_id)
    two.is_free()
    line = gate.line("call", call_id=leg.call_id)
    assert (line["outcome"], line["attempts"]) == ("answered", 2)


def test_a_wrong_password(net: Net) -> None:
    """It does not get in, and does not ring."""
    place = Place(net, ["MD5"])
    gate, carrier = place.gate, place.carrier
    place.phone("baresip", password="another")
    gate.line("alert.raised", rule="auth")
    leg = Leg.call(carrier, gate.address, DID)
    answer = carrier.final("INVITE", leg.call_id)
    assert answer.code == 480
    leg.ack(answer)
    assert gate.line("call", call_id=leg.call_id)["reason"] == "no phone is registered for this number"
    assert not gate.lines("registered")
