"""What events say."""

from __future__ import annotations

import json

import pytest
from tests.cdr.support import row

from callgate.cdr.events import Event, Receiver, Story, events_of, is_missed
from callgate.cdr.events import test_event as make_test_event
from callgate.proxy.commands import Alert

RANG = {"direction": "inbound", "answer_at": None, "final_code": 486}


@pytest.mark.parametrize(
    ("fields", "missed"),
    [
        (RANG, True),
        (RANG | {"final_code": 487, "ended_by": "caller"}, True),
        (RANG | {"final_code": 0, "ended_by": "crash"}, True),
        ({"direction": "inbound"}, False),
        (RANG | {"direction": "outbound"}, False),
        (RANG | {"direction": "forwarded"}, False),
        (RANG | {"verdict": "refused", "sent_at": None}, False),
        (RANG | {"sent_at": None, "final_code": 503}, False),
    ],
)
def test_missed(fields: dict[str, object], missed: bool) -> None:
    """I13."""
    one = row(**fields)
    assert is_missed(one) is missed
    assert [event.type for event in events_of(one)] == ["cdr"] + ["call.missed"] * missed


def test_raised_and_resolved_belong_together() -> None:
    story = Story()

    def alert(key: str, resolved: bool) -> Event:
        return story.event_of(Alert("V1", "warning", key, "x", 4, 3, resolved=resolved), "do this", at)

    at = 1_767_225_600.0
    first, other = alert("acme", False), alert("other", False)
    at += 10
    over = alert("acme", True)
    again = alert("acme", False)
    assert [one.type for one in (first, over)] == ["alert.raised", "alert.resolved"]
    assert first.data["alert"] == over.data["alert"] != again.data["alert"]
    assert over.data["since"] == first.at == "2026-01-01T00:00:00.000000Z"
    assert other.data["alert"] != first.data["alert"]
    assert first.data["advice"] == "do this"
    assert len({first.id, over.id, again.id}) == 3


def test_a_body_is_plain_json_whatever_others_have_written() -> None:
    one = row(caller_raw='a"b\n<script>\u2028\ud800', raw="=cmd|x")
    (event,) = events_of(one)
    body = event.body(7)
    assert body.isascii()
    assert json.loads(body) == {"type": "cdr", "timestamp": one["end_at"], "data": one | {"seq": 7}}


def test_a_body_has_key_and_number_first_and_the_rest_as_it_is() -> None:
    event = Event("cdr", "x", 'a"b', "2026-01-01T00:00:00.000000Z", {"id": "1", "key": 'a"b', "n": None})
    assert event.body(7) == (
        '{"type":"cdr","timestamp":"2026-01-01T00:00:00.000000Z",'
        '"data":{"key":"a\\"b","seq":7,"id":"1","n":null}}'
    )
    assert json.loads(event._replace(data={}).body(8))["data"] == {"key": 'a"b', "seq": 8}


def test_an_event_for_one_receiver() -> None:
    one = Receiver("one", "http://a/", "whsec_AA==", events=("cdr",), keys=("acme",))
    assert make_test_event(0.0, "me", to="one").type == "alert.test"
    assert one.wants(make_test_event(0.0, "me", to="one"))
    assert not one.wants(make_test_event(0.0, "me", to="other"))
    assert not one.wants(make_test_event(0.0, "me"))
