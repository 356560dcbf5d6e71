"""Sessions with a recorder (SIPREC, RFC 7866): where they go, what they take, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from tests.proxy.agent import SDP
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.test_recordings import ON, X_RECORD, alerts, says, told
from tests.proxy.test_reload import reload
from tests.proxy.text import Text

from callgate.sip.message import parse
from callgate.sip.siprec import LONGEST, NAMES_MOST, names_in

SRS = "sip:srs@203.0.113.80"
REQUIRES = "Require: siprec"
SRC = '<sip:recorder@192.0.2.10:5070>;+sip.src;+sip.instance="<urn:uuid:1>"'
UUID = "ab30317f1a784dc48ff824d0d3715d86"


def metadata(*names: str, element: str = "sipSessionID") -> bytes:
    """A body as RFC 7866 §9 has it: two descriptions and the metadata (RFC 7865)."""
    xml = "".join(f"<{element}>{name}</{element.partition(' ')[0]}>" for name in names)
    head = '<?xml version="1.0" encoding="UTF-8"?><recording xmlns="urn:ietf:params:xml:ns:recording:1">'
    return (
        b"--b\r\nContent-Type: application/sdp\r\n\r\n"
        + SDP
        + b"m=audio 4002 RTP/AVP 0\r\na=sendonly\r\na=label:2\r\n"
        + b"--b\r\nContent-Type: application/rs-metadata+xml\r\nContent-Disposition: recording-session\r\n\r\n"
        + f'{head}<session session_id="x">{xml}</session></recording>'.encode()
        + b"\r\n--b--\r\n"
    )


@pytest.fixture
def world(ladder: Ladder) -> World:
    """One call may be recorded; there is a recorder, and it takes no token and no line to get there."""
    return ladder(recordings=1, recorder=True)


def invites(
    world: World, call: str = "rs", headers: Iterable[str] = (), body: bytes | None = None, uri: str = SRS
) -> None:
    change = {"contact": SRC, "content-type": "multipart/mixed;boundary=b"}
    world.pbx.sends(
        "INVITE", call=call, uri=uri, headers=(REQUIRES, *headers), body=body or metadata(), change=change
    )


def records(world: World, call: str = "rs", **more: object) -> Text:
    """A session is set up."""
    invites(world, call, **more)  # type: ignore[arg-type]
    world.pbx.gets("100", call=call)
    invite = world.srs.gets("INVITE", call=call)
    world.srs.sends("200", call=call)
    world.pbx.gets("200", call=call)
    world.pbx.sends("ACK", call=call)
    world.srs.gets("ACK", call=call)
    return invite


def stops(world: World, call: str = "rs", who: str = "pbx") -> None:
    a, b = (world.pbx, world.srs) if who == "pbx" else (world.srs, world.pbx)
    a.sends("BYE", call=call)
    b.gets("BYE", call=call)
    b.sends("200 BYE", call=call)
    a.gets("200 BYE", call=call)


def is_refused(world: World, call: str = "rs", code: str = "503") -> Text:
    world.pbx.gets("100", call=call)
    refusal = world.pbx.gets(code, call=call)
    world.pbx.sends("ACK", call=call)
    world.srs.gets_nothing()
    return refusal


# -- where it goes, and what it takes -------------------------------------------------------------------------


@pytest.mark.parametrize("ender", ["pbx", "srs"])
def test_a_session(ladder: Ladder, ender: str) -> None:
    """To the recorder, as it came; one licence, no token, no line, and no call to look at."""
    world = ladder(recordings=1, recorder=True, cps=0, outbound_calls=0, calls=0)
    invite = records(world)
    assert invite.uri == SRS
    assert invite.body == metadata()
    assert invite.get("require") == "siprec"
    assert invite.get("contact") == SRC
    world.holds(recorded=1)
    assert world.used("outbound_cps") == 0
    stops(world, who=ender)
    world.holds_nothing()
    record = world.record()
    assert (record.trunk, record.gateway, record.number_class) == ("recorder", "203.0.113.80", "siprec")
    assert (record.direction, record.outcome, record.canonical, record.recorded) == (
        "outbound",
        "answered",
        "",
        True,
    )


def test_the_session_goes_on_inside_its_dialog(world: World) -> None:
    """re-INVITE, UPDATE and INFO pass both ways, and are no calls."""
    records(world)
    for a, b in ((world.pbx, world.srs), (world.srs, world.pbx)):
        for method in ("re-INVITE", "UPDATE", "INFO"):
            a.sends(method, body=ON)
            if method == "re-INVITE":
                a.gets("100")
            b.gets(method)
            b.sends(f"200 {method}")
            a.gets("200")
            if method == "re-INVITE":
                a.sends("ACK")
                b.gets("ACK")
    world.holds(recorded=1)
    stops(world)


@pytest.mark.parametrize(
    "where",
    [
        "198.51.100.1:5080",  # the carrier's gateway
        "198.51.100.1",  # another port of its host
        "198.51.100.2:5080",  # its other gateway
        "203.0.113.66",  # a stranger
    ],
)
def test_a_recorder_leads_to_nobody_else(ladder: Ladder, where: str) -> None:
    """Whatever its Contact says: what would get to the carrier by it had no token, and no number rule."""
    world = ladder(recordings=1, recorder=True, gateways=2)
    world.srs.contact = f"<sip:0990123456@{where}>"
    invites(world)
    world.pbx.gets("100", call="rs")
    world.srs.gets("INVITE", call="rs")
    world.srs.sends("200", call="rs")
    world.pbx.gets("200", call="rs")
    for method in ("ACK", "re-INVITE", "INFO"):
        world.pbx.sends(method, call="rs")
        if method == "re-INVITE":
            world.pbx.gets("100", call="rs")
        assert world.srs.gets(method, call="rs").uri == f"sip:0990123456@{where}"
        if method != "ACK":
            world.srs.sends(f"200 {method}", call="rs")
            world.pbx.gets("200", call="rs")
        if method == "re-INVITE":
            world.pbx.sends("ACK", call="rs")
            world.srs.gets("ACK", call="rs")
    stops(world)


@pytest.mark.parametrize(
    "wrong",
    [
        {"headers": (), "change": {"contact": SRC}},
        {"headers": (REQUIRES,), "change": {}},
        {"headers": ("Supported: siprec",), "change": {"contact": SRC}},
        {"headers": (REQUIRES,), "change": {"contact": "<sip:a@192.0.2.10:5070;x=+sip.src>"}},
        {"headers": (REQUIRES,), "change": {"contact": '"+sip.src" <sip:a@192.0.2.10:5070>'}},
        {"headers": (REQUIRES,), "change": {"contact": "<sip:a@192.0.2.10:5070>;+sip.srs"}},
    ],
)
def test_what_is_no_session(world: World, wrong: dict[str, object]) -> None:
    """Both marks are needed (RFC 7866 §6.1.1): anything else to the recorder's address obeys the number rules."""
    world.pbx.sends("INVITE", call="rs", uri=SRS, **wrong)  # type: ignore[arg-type]
    world.pbx.gets("484", call="rs")
    world.pbx.sends("ACK", call="rs")


@pytest.mark.parametrize(
    "require", ["Require: timer, SIPREC", "require :\r\n siprec", "Require: timer\r\nRequire: siprec"]
)
@pytest.mark.parametrize(
    "contact", ["<sip:a@192.0.2.10:5070>;+SIP.SRC", "<sip:a@192.0.2.10:5070> ;x=1; +sip.src"]
)
def test_every_spelling_of_a_session(world: World, require: str, contact: str) -> None:
    world.pbx.sends("INVITE", call="rs", uri=SRS, headers=(require,), change={"contact": contact})
    world.pbx.gets("100")
    world.srs.gets("INVITE")
    world.srs.sends("486")
    world.srs.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")
    world.holds_nothing()


@pytest.mark.parametrize(
    "uri",
    ["sip:srs@203.0.113.81", "sip:srs@127.0.0.1:5060", "sip:srs@srs.example", "sip:srs@198.51.100.1:5080"],
)
def test_only_to_a_recorder_of_the_key(world: World, uri: str) -> None:
    """The gate is no open relay: not to others, not to itself, not past the rate to the carrier."""
    from ipaddress import ip_network

    from callgate.proxy.contract.siprec import Recorders

    world.key.recorders = Recorders(
        [ip_network(net) for net in ("203.0.113.80", "127.0.0.0/8", "198.51.100.0/24")]
    )
    world.pbx.sends("INVITE", call="rs", uri=uri, headers=(REQUIRES,), change={"contact": SRC})
    texts = world.pbx.takes_refusals()
    world.settle()
    texts += world.pbx.takes_refusals()
    assert [text.code for text in texts][-1:] in ([403], [484], [503])
    world.srs.gets_nothing()
    world.carrier.gets_nothing()


def test_a_key_without_recorders(ladder: Ladder) -> None:
    world = ladder(recordings=1)
    invites(world)
    assert "SIPREC session, but this host is not in recorders" in world.pbx.gets("484").get("warning")
    world.pbx.sends("ACK")


def test_a_recorder_by_name(world: World) -> None:
    invites(world, uri="sip:srs.example.com")
    assert "SIPREC session, but this host is not in recorders" in world.pbx.gets("484").get("warning")
    world.pbx.sends("ACK")


def test_a_session_is_never_on_hold(ladder: Ladder) -> None:
    """It only sends (RFC 7866 §7.1); no refresh of it makes that K8."""
    world = ladder(recordings=1, recorder=True, hold_alert_seconds=60, hold_release_seconds=100)
    records(world)
    world.pbx.sends("re-INVITE", body=SDP + b"a=sendonly\r\n")
    world.pbx.gets("100")
    world.srs.gets("re-INVITE")
    world.srs.sends("200 re-INVITE", body=SDP + b"a=recvonly\r\n")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.srs.gets("ACK")
    world.after(120)
    assert not world.alerts
    stops(world)


def test_not_for_the_carrier(world: World) -> None:
    """Who comes from the trunk calls numbers."""
    world.carrier.sends("INVITE", uri=SRS, headers=(REQUIRES,), change={"contact": SRC, "to": f"<{SRS}>"})
    world.carrier.gets("404")
    world.carrier.sends("ACK")


# -- the licence ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [False, True], ids=["reject", "unrecorded"])
def test_over_the_limit_the_session_is_refused(ladder: Ladder, policy: bool) -> None:
    """Whatever the policy; the call that it would record goes on."""
    world = ladder(recordings=1, recorder=True, unrecorded=policy)
    world.talks(call="plain")
    records(world, "first")
    invites(world, "next", headers=(f"X-Record-Of: {world.labels['plain']}",))
    refusal = is_refused(world, "next")
    assert told(refusal) == ["I1 recordings 2/1", "rule=I1;value=2;limit=1"]
    assert not refusal.has("retry-after")
    assert alerts(world) == [("warning", False)]
    world.holds(outbound=1, recorded=1)
    stops(world, "first")
    world.hangs_up(call="plain")
    assert not world.records[-1].recorded


def names_header(world: World, call: str) -> dict[str, object]:
    return {"headers": (f"X-Record-Of: {world.labels[call]}",)}


def names_metadata(world: World, call: str) -> dict[str, object]:
    return {"body": metadata(world.labels[call])}


def names_callid(world: World, call: str) -> dict[str, object]:
    return {"body": metadata("x&amp;y", f" {world.labels[call]}\n", element='ac:CallID xmlns:ac="u"')}


NAMES = [names_header, names_metadata, names_callid]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("first", ["call", "session"])
def test_a_session_and_its_call_are_one(world: World, name: object, first: str) -> None:
    """One licence, until the last of them has ended."""
    world.talks(call="cs", headers=X_RECORD)
    invite = records(world, **name(world, "cs"))  # type: ignore[operator]
    assert not invite.has("x-record-of")
    world.holds(outbound=1, recorded=1)
    if first == "call":
        world.hangs_up(call="cs")
        world.holds(recorded=1)
        stops(world)
    else:
        stops(world)
        world.holds(outbound=1, recorded=1)
        world.hangs_up(call="cs")
    world.holds_nothing()
    assert {r.number_class: r.recorded for r in world.records} == {"siprec": False, "domestic_fixed": True}


@pytest.mark.parametrize("name", NAMES)
def test_of_a_call_that_nobody_else_says_is_recorded(world: World, name: object) -> None:
    """The session takes the licence; what the call says later is nothing new."""
    world.talks(call="cs")
    records(world, **name(world, "cs"))  # type: ignore[operator]
    world.holds(outbound=1, recorded=1)
    world.pbx.current = world.labels["cs"]
    says(world, world.pbx, ON)
    world.holds(outbound=1, recorded=1)
    stops(world)
    world.holds(outbound=1, recorded=1)
    world.hangs_up(call="cs")
    assert {r.number_class: r.recorded for r in world.records} == {"siprec": False, "domestic_fixed": True}


def test_the_session_of_a_call_in(world: World) -> None:
    world.talks(world.carrier, call="cs", body=ON)
    records(world, **names_header(world, "cs"))
    world.holds(inbound=1, recorded=1)
    world.hangs_up(world.carrier, call="cs")
    stops(world)


@pytest.mark.parametrize("message", [{"headers": X_RECORD}, {"body": ON}, {}])
def test_the_session_comes_first(world: World, message: dict[str, object]) -> None:
    """It names a call that is yet to come."""
    records(world, headers=("X-Record-Of: cs-2@example",))
    world.holds(recorded=1)
    world.talks(call="cs", **message)
    assert world.labels["cs"] == "cs-2@example"
    world.holds(outbound=1, recorded=1)
    world.hangs_up(call="cs")
    world.holds(recorded=1)
    stops(world)
    assert world.records[0].recorded


def test_the_session_id_of_a_recorded_call(world: World) -> None:
    """RFC 7865 §6.1 names a call by its session identifier (RFC 7989), whichever half comes first."""
    world.talks(call="cs", headers=(*X_RECORD, f"Session-ID: {UUID};remote={'0' * 32}"))
    records(world, body=metadata(f"{'9' * 32};remote={UUID.upper()}"))
    world.holds(outbound=1, recorded=1)
    stops(world)
    world.hangs_up(call="cs")


def test_the_name_comes_later(ladder: Ladder) -> None:
    """In a re-INVITE or UPDATE of the session (RFC 7866 §7.1.1): two licences become one."""
    world = ladder(recordings=2, recorder=True)
    world.talks(call="cs", headers=X_RECORD)
    records(world)
    world.holds(outbound=1, recorded=2)
    world.pbx.sends("UPDATE", call="rs", body=metadata(world.labels["cs"]))
    world.srs.gets("UPDATE")
    world.srs.sends("200 UPDATE")
    world.pbx.gets("200")
    world.holds(outbound=1, recorded=1)
    world.hangs_up(call="cs")
    world.holds(recorded=1)
    stops(world)


def names_later(world: World, *calls: str, session: str = "rs") -> None:
    """An UPDATE of the session names these."""
    world.pbx.sends("UPDATE", call=session, body=metadata(*(world.labels[call] for call in calls)))
    world.srs.gets("UPDATE")
    world.srs.sends("200 UPDATE")
    world.pbx.gets("200")


@pytest.mark.parametrize("later", [False, True])
def test_a_session_that_names_several_recorded_calls(ladder: Ladder, later: bool) -> None:
    """It counts for none of its own as long as one of them is up, and makes none of them one with another."""
    world = ladder(recordings=4, recorder=True)
    calls = ("a", "b", "c")
    for call in calls:
        world.talks(call=call, headers=X_RECORD)
    records(world, body=metadata() if later else metadata(*(world.labels[call] for call in calls)))
    if later:
        world.holds(outbound=3, recorded=4)
        names_later(world, *calls)
    for left in (3, 2, 1):
        world.holds(outbound=left, recorded=left)
        world.hangs_up(call=calls[left - 1] if later else calls[3 - left])
    world.holds(recorded=1)
    stops(world)


def test_a_session_that_comes_first_takes_in_one_call(world: World) -> None:
    """Each of those that follow counts."""
    records(world, body=metadata(*(f"cs-{n}@example" for n in range(2, 9))))
    world.talks(call="cs", headers=X_RECORD)
    world.holds(outbound=1, recorded=1)
    world.pbx.sends("INVITE", call="cs2", headers=X_RECORD, change={"call-id": "cs-5@example"})
    world.pbx.gets("100", call="cs2")
    assert told(world.pbx.gets("503", call="cs2")) == ["I1 recordings 2/1", "rule=I1;value=2;limit=1"]
    world.pbx.sends("ACK", call="cs2")
    world.hangs_up(call="cs")
    stops(world)


def test_nothing_is_kept_of_ended_calls_that_a_session_named(ladder: Ladder) -> None:
    """A session may go on for days, and name each call as it comes."""
    world = ladder(recordings=2, recorder=True)
    records(world)
    kept = set()
    for n in range(30):
        world.talks(call=f"c{n}", headers=X_RECORD if n % 2 else ())
        names_later(world, f"c{n}")
        world.holds(outbound=1, recorded=1)
        world.hangs_up(call=f"c{n}")
        world.holds(recorded=1)
        if n > 20:
            kept.add(len(world.core.recordings))
    assert len(kept) == 1
    assert all(record.recorded for record in world.records)
    stops(world)


def test_two_licences_that_become_one_are_held_as_long_as_either(ladder: Ladder) -> None:
    world = ladder(recordings=2, recorder=True, max_call_seconds=3600)
    records(world)
    world.after(1800)
    world.talks(call="cs", headers=X_RECORD)
    names_later(world, "cs")
    stops(world)
    world.after(1900)
    world.holds(outbound=1, recorded=1)
    world.hangs_up(call="cs")


@pytest.mark.parametrize("other", ["ended", "unknown", "session"])
def test_a_name_that_leads_nowhere(ladder: Ladder, other: str) -> None:
    """Then the session is a recorded call by itself."""
    world = ladder(recordings=2, recorder=True)
    named = "nobody@example"
    if other == "ended":
        world.talks(call="cs", headers=X_RECORD)
        world.hangs_up(call="cs")
        named = world.labels["cs"]
    if other == "session":
        records(world, "one")
        named = world.labels["one"]
    records(world, headers=(f"X-Record-Of: {named}",))
    world.holds(recorded=2 if other == "session" else 1)
    stops(world)
    if other == "session":
        stops(world, "one")


def test_two_recorders_of_one_call(world: World) -> None:
    world.talks(call="cs")
    records(world, "a", **names_header(world, "cs"))
    records(world, "b", **names_header(world, "cs"))
    world.holds(outbound=1, recorded=1)
    world.hangs_up(call="cs")
    stops(world, "a")
    world.holds(recorded=1)
    stops(world, "b")


def test_the_session_of_an_emergency_call(ladder: Ladder) -> None:
    world = ladder(recordings=1, recorder=True, emergency="carrier")
    world.talks(call="first", headers=X_RECORD)
    world.talks(call="help", to="119")
    records(world, **names_header(world, "help"))
    world.holds(outbound=2, recorded=2)
    stops(world)
    world.holds(outbound=2, recorded=1)
    world.hangs_up(call="help")
    world.hangs_up(call="first")


def test_shadow_mode(world: World) -> None:
    world.key.shadow = True
    records(world, "a")
    records(world, "b")
    world.holds(recorded=2)
    stops(world, "a")
    stops(world, "b")
    assert [(r.shadow, r.rule) for r in world.records] == [(False, ""), (True, "I1")]


def test_a_key_that_waits_and_one_that_is_suspended(ladder: Ladder) -> None:
    """No turn is waited for; a session of a call that goes on though its key is suspended is none of the trunk's."""
    world = ladder(recordings=1, recorder=True, cps=1, queue_seconds=2.0)
    world.talks(call="cs")
    world.core.suspensions.suspend("acme", world.now, reason="x", by="test")
    world.carries_out()
    records(world, **names_header(world, "cs"))
    stops(world)
    world.hangs_up(call="cs")
    world.core.suspensions.resume("acme", "test")
    world.carries_out()


def test_while_draining(world: World) -> None:
    world.core.drain(world.now)
    invites(world)
    assert told(world.pbx.gets("503"))[1] == "rule=drain"
    world.pbx.sends("ACK")


# -- a recorder that can't be reached (I5) ----------------------------------------------------------------------


def no_answer(world: World) -> str:
    world.after(5.5)
    world.srs.inbox.clear()
    return "408"


def rings_for_ever(world: World) -> str:
    world.srs.gets("INVITE")
    world.srs.sends("180")
    world.pbx.gets("180")
    world.after(5.1)
    world.srs.gets("CANCEL")
    world.srs.sends("200 CANCEL")
    world.srs.sends("487 INVITE")
    world.srs.gets("ACK")
    return "408"


def stalls(world: World) -> str:
    world.srs.gets("INVITE")
    world.srs.sends("100")
    world.after(5.1)
    world.srs.gets("CANCEL")
    world.srs.sends("200 CANCEL")
    world.srs.sends("487 INVITE")
    world.srs.gets("ACK")
    return "408"


def out_of_order(world: World) -> str:
    world.srs.gets("INVITE")
    world.srs.sends("503", headers=("Retry-After: 9",))
    world.srs.gets("ACK")
    return "500"


def no_port(world: World) -> str:
    world.unreachable(world.srs.gets("INVITE"))
    return "503"


@pytest.mark.parametrize("how", [no_answer, rings_for_ever, stalls, out_of_order, no_port])
def test_an_unreachable_recorder_blocks_nothing(world: World, how: object) -> None:
    """A person is told until it answers again; the session ends, its licence is free, its call goes on."""
    world.talks(call="cs")
    world.pbx.current = ""
    invites(world, **names_header(world, "cs"))
    world.pbx.gets("100", call="rs")
    world.pbx.current = world.labels["rs"]
    code = how(world)  # type: ignore[operator]
    world.pbx.gets(code, call="rs")
    world.pbx.sends("ACK", call="rs")
    world.holds(outbound=1)
    assert alerts(world, "I5") == [("warning", False)]
    world.after(60)
    assert alerts(world, "I5") == [("warning", False)]
    records(world, "again", **names_header(world, "cs"))
    assert alerts(world, "I5") == [("warning", False), ("warning", True)]
    stops(world, "again")
    world.hangs_up(call="cs")
    assert world.alerts[0].details == {"gateway": "203.0.113.80"}


def test_an_answer_that_comes_too_late(world: World) -> None:
    """It is hung up: the source has had its answer."""
    invites(world)
    world.pbx.gets("100")
    world.srs.gets("INVITE")
    world.srs.sends("100")
    world.after(5.1)
    world.srs.gets("CANCEL")
    world.srs.sends("200 CANCEL")
    world.pbx.gets("408")
    world.pbx.sends("ACK")
    world.srs.sends("200 INVITE")
    world.pbx.gets("200")  # it may take it up (RFC 3261 §16.7 step 5); this one does not
    world.after(4.1)
    world.srs.gets("ACK")
    world.srs.gets("BYE")
    world.srs.sends("200 BYE")
    world.holds_nothing()


def test_the_source_gives_up(world: World) -> None:
    """That says nothing about the recorder."""
    invites(world)
    world.pbx.gets("100")
    world.srs.gets("INVITE")
    world.srs.sends("180")
    world.pbx.gets("180")
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.srs.gets("CANCEL")
    world.srs.sends("200 CANCEL")
    world.srs.sends("487 INVITE")
    world.srs.gets("ACK")
    world.pbx.gets("487")
    world.pbx.sends("ACK")
    assert not world.alerts


@pytest.mark.parametrize("code", [403, 420, 486, 488, 603])
def test_a_recorder_that_says_no(world: World, code: int) -> None:
    """It is there: the source hears what it says."""
    invites(world)
    world.pbx.gets("100")
    world.srs.gets("INVITE")
    world.srs.sends(str(code))
    world.srs.gets("ACK")
    world.pbx.gets(str(code))
    world.pbx.sends("ACK")
    world.holds_nothing()
    assert not world.alerts


def test_a_recorder_that_challenges(ladder: Ladder) -> None:
    """Its session is sent again with credentials: it is one, with one record, and counts once."""
    world = ladder(recordings=1, recorder=True)
    invites(world)
    world.pbx.gets("100")
    first = world.srs.gets("INVITE")
    world.srs.sends("407 INVITE")
    world.srs.gets("ACK")
    world.pbx.gets("407")
    world.pbx.sends("ACK")
    world.holds_nothing()
    again = {
        "contact": SRC,
        "content-type": "multipart/mixed;boundary=b",
        "call-id": first.call_id,
        "from": first.get("from"),
        "cseq": f"{first.cseq + 1} INVITE",
    }
    world.pbx.sends("INVITE", call="again", uri=SRS, headers=(REQUIRES,), body=metadata(), change=again)
    world.pbx.gets("100", call="again")
    world.srs.gets("INVITE", call="again")
    world.srs.sends("200", call="again")
    world.pbx.gets("200", call="again")
    world.pbx.sends("ACK", call="again")
    world.srs.gets("ACK", call="again")
    stops(world, "again")
    world.after(11.0)
    assert world.gauge("calls_total", "outbound", "answered", "") == 1
    assert world.gauge("calls_total", "outbound", "failed", "") == 0
    assert len({record.id for record in world.records}) == 1


def test_after_a_restart_its_dialog_is_known_by_its_token(ladder: Ladder) -> None:
    """What ends the session gets through in both directions, and never to the trunk."""
    world = ladder(recordings=2, recorder=True)
    records(world, "a")
    records(world, "b")
    world.restarts()
    stops(world, "a")
    stops(world, "b", "srs")
    world.carrier.gets_nothing()


@pytest.mark.parametrize("stream", [True, False])
def test_large_metadata(ladder: Ladder, stream: bool) -> None:
    """More than a datagram should hold goes over a stream, or by datagram all the same (RFC 3261 §18.1.1)."""
    world = ladder(recordings=1, recorder=True, listens=("TCP",))
    body = metadata(*("x" * 100 for _ in range(20)))
    invites(world, body=body)
    world.pbx.gets("100")
    invite = world.srs.gets("INVITE")
    assert "SIP/2.0/TCP" in invite.via
    if not stream:
        world.unreachable(invite)
        invite = world.srs.gets("INVITE")
        assert "SIP/2.0/UDP" in invite.via
    assert invite.body == body
    world.srs.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.srs.gets("ACK")
    world.holds(recorded=1)
    stops(world)


def test_a_reload_that_takes_the_recorder_away(world: World) -> None:
    invites(world)
    world.pbx.gets("100")
    world.unreachable(world.srs.gets("INVITE"))
    world.pbx.gets("503")
    world.pbx.sends("ACK")
    world.key.recorders = None
    world.core.recorders.adopt()
    world.carries_out()
    assert alerts(world, "I5") == [("warning", False), ("warning", True)]


def test_a_reload_that_takes_the_key_away(world: World) -> None:
    """What its recorder does not do from then on is nobody's concern."""
    invites(world)
    world.pbx.gets("100")
    world.srs.gets("INVITE")
    reload(world, key="other")
    world.after(6)
    world.pbx.gets("408")
    world.after(40)  # its ACK is a stranger's
    world.pbx.inbox.clear()
    world.srs.inbox.clear()
    assert alerts(world, "I5") == []
    assert len(world.core.recordings) == 0


# -- hostile metadata -------------------------------------------------------------------------------------------


def named(body: bytes, *lines: bytes) -> list[bytes]:
    head = b"INVITE sip:a@b SIP/2.0\r\n" + b"".join(line + b"\r\n" for line in lines)
    return names_in(parse(head + b"\r\n" + body))


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"<sipSessionID>abc@host</sipSessionID>", [b"abc@host"]),
        (b"<x:callid a='1'>abc</x:callid>", [b"abc"]),
        (b"<CallID>a&lt;b&amp;c</CallID>", [b"a<b&c"]),
        (b"<sipSessionID>" + UUID.encode() + b";remote=" + b"0" * 32 + b"</sipSessionID>", [UUID.encode()]),
        (b"<sipSessionID></sipSessionID>", []),
        (b"<sipSessionID>never closed", []),
        (b"<sipSessionIDs>abc</sipSessionIDs>", []),
        (b"<!DOCTYPE x [<!ENTITY a 'b'>]><sipSessionID>&a;</sipSessionID>", [b"&a"]),
        (b"<sipSessionID>" + b"x" * 513 + b"</sipSessionID>", []),
        (b" " * LONGEST + b"<callid>far</callid>", []),
        (b"\xff\xfe\x00<callid>\xff</callid>", ["\ufffd".encode()]),
    ],
)
def test_names_in_a_body(body: bytes, names: list[bytes]) -> None:
    assert named(body) == names


def test_not_many_names() -> None:
    body = b"".join(b"<callid>%d</callid>" % n for n in range(1000))
    assert named(body, b"X-Record-Of: first") == [b"first", *(b"%d" % n for n in range(NAMES_MOST - 1))]


@pytest.mark.parametrize(
    "piece", [b"<callid ", b"<callid", b"<a:", b"<callid>x", b"<" + b"a:" * 40, b"&amp;", b"<callid\n"]
)
def test_rubbish_takes_no_time(piece: bytes) -> None:
    """Each octet is looked at a bounded number of times: the steps grow with the length, not with its square."""
    assert named(piece * (2 * LONGEST // len(piece))) == []
