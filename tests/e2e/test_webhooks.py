"""Events out of the real program: of calls and alerts, over an outage and a kill -9, and the commands on the outbox."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.cdr.receiver import SECRET, Receiver
from tests.e2e.gate import Gate, until
from tests.e2e.net import DID, NUMBER, UNLIMITED, Net
from tests.e2e.phone import Leg, Udp, establish, request_and_answer
from tests.e2e.test_control import command, shown

from callgate.cdr.events import name_of


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with closing(Receiver()) as made:
        yield made


def test_events(net: Net, receiver: Receiver) -> None:
    """A receiver that is down gets everything later, over a kill -9 of the gate too, once each and in order."""
    hook = {"url": receiver.url, "secret": SECRET, "allow_private": True, "retry_max_seconds": 1}
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, webhooks=[hook], limits=UNLIMITED).run()
    time.sleep(1.1)  # a start has no token for one window
    receiver.answer = lambda event: 500
    calls = [_whole_call(pbx, gate, carrier)]
    missed = _missed_call(pbx, gate, carrier)
    until(lambda: receiver.got, "it is tried")
    calls.append(_whole_call(pbx, gate, carrier))
    until(lambda: len(shown(gate, "outbox", "list")) >= 4, "all of it is in the outbox")
    first = receiver.got[0]
    gate.signal(signal.SIGKILL)
    gate.wait()
    gate.run()
    (tried,) = shown(gate, "events", "test", code=1)
    assert (tried["receiver"], tried["result"], tried["fault"]) == (_name(receiver), "waits", "answered 500")
    assert "there is: " + _name(receiver) in command(gate, "events", "test", "--receiver", "x", code=1).stderr
    receiver.answer = lambda event: 204
    until(lambda: "alert.test" in [one.event["type"] for one in receiver.taken], "the test arrives")
    until(lambda: shown(gate, "outbox", "list") == [], "nothing waits")
    assert [one["result"] for one in shown(gate, "events", "test", "--receiver", _name(receiver))] == [
        "delivered"
    ]
    raised = [one for one in shown(gate, "events", "list") if one["rule"] == "restarted"]
    assert [one["type"] for one in raised][:1] == ["alert.raised"]
    assert all(one["since"] and one["advice"] for one in raised)
    assert shown(gate, "events", "list", "--key", "acme") == []
    assert {one["rule"] for one in shown(gate, "events", "list", "--active")} <= {"restarted", "webhook"}
    assert "restarted" in command(gate, "events", "list").stdout

    events = [one.event for one in receiver.taken]
    ended = [(one["type"], one["data"]["call_id"]) for one in events if not one["type"].startswith("alert")]
    told = [("cdr", calls[0]), ("cdr", missed), ("call.missed", missed), ("cdr", calls[1])]
    assert ended == told
    assert [one["data"]["seq"] for one in events if one["data"]["key"] == "acme"] == [1, 2, 3, 4]
    (again,) = [one for one in receiver.taken if one.id == first.id]
    assert again.body == first.body
    assert receiver.wrong == []
    until(lambda: gate.metrics().get("outbox_pending", receiver=_name(receiver)) == 0, "the gauge follows")


def test_gone_and_given_up(net: Net, receiver: Receiver) -> None:
    """A receiver that answers 410 is left alone and said so, until somebody switches it on again."""
    hook = {"url": receiver.url, "secret": SECRET, "allow_private": True, "events": ["cdr"]}
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, webhooks=[hook], limits=UNLIMITED).run()
    time.sleep(1.1)
    receiver.answer = lambda event: 410
    _whole_call(pbx, gate, carrier)
    until(lambda: gate.lines("alert.raised", rule="webhook-off"), "it is said")
    assert [one["state"] for one in shown(gate, "outbox", "list", "--state", "disabled")] == ["disabled"]
    receiver.answer = lambda event: 204
    name = _name(receiver)
    assert "nothing was ever" in command(gate, "outbox", "replay", "--receiver", "nobody", code=1).stderr
    assert "no dead letter" in command(gate, "outbox", "replay", "cdr_0", code=1).stderr
    command(gate, "outbox", "replay", code=2)
    assert shown(gate, "outbox", "replay", "--receiver", name)[0]["enabled"] == [name]
    until(lambda: receiver.taken, "it arrives")
    until(lambda: gate.lines("alert.resolved", rule="webhook-off"), "it is over")
    assert [line["target"] for line in shown(gate, "audit") if line["what"] == "outbox replay"] == [name]
    assert gate.stop() == 0


def _name(receiver: Receiver) -> str:
    return name_of(receiver.url)


def _whole_call(pbx: Udp, gate: Gate, carrier: Udp) -> str:
    out, into = establish(pbx, gate.address, NUMBER, carrier)
    request_and_answer(out, into, "BYE")
    return out.call_id


def _missed_call(pbx: Udp, gate: Gate, carrier: Udp) -> str:
    """A call in that the PBX does not take."""
    out = Leg.call(carrier, gate.address, DID)
    into = Leg.answering(pbx, pbx.expect("INVITE", call_id=out.call_id))
    into.answer(486)
    out.ack(carrier.expect(486, "INVITE", out.call_id))
    return out.call_id
