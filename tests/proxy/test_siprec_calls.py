"""Sessions with a recorder that record several calls: each of these counts once, none beyond the limit."""

from __future__ import annotations

import pytest
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.stores import NEVER_ANSWERS
from tests.proxy.test_recordings import X_RECORD, alerts, told
from tests.proxy.test_siprec import invites, is_refused, metadata, names_later, records, stops


def of(world: World, *calls: str) -> dict[str, object]:
    return {"body": metadata(*(world.labels[call] for call in calls))}


@pytest.mark.parametrize("said", [(), X_RECORD], ids=["plain", "said"])
def test_each_call_that_a_session_names_counts(ladder: Ladder, said: tuple[str, ...]) -> None:
    """Also those of which nobody else says that they are recorded."""
    world = ladder(recordings=3, recorder=True)
    for call in "abc":
        world.talks(call=call, headers=said)
    records(world, **of(world, *"abc"))
    world.holds(outbound=3, recorded=3)
    world.hangs_up(call="b")
    world.holds(outbound=2, recorded=2)
    stops(world)
    world.holds(outbound=2, recorded=2 if said else 0)
    for call in "ac":
        world.hangs_up(call=call)
    assert [r.recorded for r in world.records if r.number_class != "siprec"] == [True] * 3


def test_all_or_none(ladder: Ladder) -> None:
    """A session that names more calls than there are licences is refused, and takes none."""
    world = ladder(recordings=3, recorder=True)
    for call in "abcd":
        world.talks(call=call, headers=X_RECORD if call == "a" else ())
    invites(world, **of(world, *"abcd"))  # type: ignore[arg-type]
    assert told(is_refused(world)) == ["I1 recordings 4/3", "rule=I1;value=4;limit=3"]
    world.holds(outbound=4, recorded=1)
    records(world, "fits", **of(world, *"abc"))
    world.holds(outbound=4, recorded=3)
    stops(world, "fits")
    world.holds(outbound=4, recorded=1)
    for call in "abcd":
        world.hangs_up(call=call)


def test_two_sessions_name_the_same_calls(ladder: Ladder) -> None:
    """In part: each call counts once."""
    world = ladder(recordings=3, recorder=True)
    for call in "abc":
        world.talks(call=call)
    records(world, "one", **of(world, *"ab"))
    records(world, "two", **of(world, *"bc"))
    world.holds(outbound=3, recorded=3)
    stops(world, "one")
    world.holds(outbound=3, recorded=2)
    world.hangs_up(call="c")
    world.holds(outbound=2, recorded=1)
    stops(world, "two")
    world.hangs_up(call="a")
    world.hangs_up(call="b")


@pytest.mark.parametrize("method", ["UPDATE", "re-INVITE"])
def test_further_calls_need_further_licences(ladder: Ladder, method: str) -> None:
    """Without one the request is declined, and the session goes on as it was."""
    world = ladder(recordings=2, recorder=True)
    for call in "abc":
        world.talks(call=call)
    records(world, **of(world, "a"))
    world.pbx.sends(method, call="rs", **of(world, *"abc"))  # type: ignore[arg-type]
    declined = world.pbx.gets("488", call="rs")
    assert told(declined) == ["I1 recordings 3/2", "rule=I1;value=3;limit=2"]
    if method != "UPDATE":
        world.pbx.sends("ACK", call="rs")
    world.srs.gets_nothing()
    world.holds(outbound=3, recorded=1)
    assert alerts(world) == [("warning", False)]
    names_later(world, "a", "b")
    world.holds(outbound=3, recorded=2)
    stops(world)
    for call in "abc":
        world.hangs_up(call=call)


def test_what_the_recorder_does_not_take(ladder: Ladder) -> None:
    """Then the session has named nothing more."""
    world = ladder(recordings=3, recorder=True)
    for call in "abc":
        world.talks(call=call)
    records(world, **of(world, "a"))
    world.pbx.sends("UPDATE", call="rs", **of(world, *"abc"))  # type: ignore[arg-type]
    world.srs.gets("UPDATE")
    world.holds(outbound=3, recorded=3)
    world.srs.sends("500 UPDATE")
    world.pbx.gets("500")
    world.holds(outbound=3, recorded=1)
    stops(world)
    for call in "abc":
        world.hangs_up(call=call)


PARTIAL = [
    b"<dataMode>partial</dataMode>",
    b"<ns:datamode  a='b'>\r\n partial </ns:datamode>",
]


@pytest.mark.parametrize("mode", [b"", b"<dataMode>complete</dataMode>", *PARTIAL])
def test_a_session_moves_from_one_call_to_another(ladder: Ladder, mode: bytes) -> None:
    """Complete metadata name all calls that it records (RFC 7865 §6.1), partial ones those that are new."""
    world = ladder(recordings=3, recorder=True)
    for call in "ab":
        world.talks(call=call)
    records(world, **of(world, "a"))
    world.holds(outbound=2, recorded=1)
    body = metadata(world.labels["b"]).replace(b"<session ", mode + b"<session ")
    world.pbx.sends("UPDATE", call="rs", body=body)
    world.srs.gets("UPDATE")
    world.srs.sends("200 UPDATE")
    world.pbx.gets("200")
    both = mode in PARTIAL
    world.holds(outbound=2, recorded=2 if both else 1)
    world.hangs_up(call="b")
    world.holds(outbound=1, recorded=1)
    stops(world)
    world.hangs_up(call="a")


@pytest.mark.parametrize("policy", [False, True], ids=["reject", "unrecorded"])
def test_calls_that_a_session_has_named_before(ladder: Ladder, policy: bool) -> None:
    """Each is recorded from its beginning: the first takes the session's licence, the others need their own."""
    world = ladder(recordings=2, recorder=True, unrecorded=policy)
    records(world, headers=[f"X-Record-Of: c{n}-{n + 2}@example" for n in range(3)])
    world.holds(recorded=1)
    for n in range(2):
        world.talks(call=f"c{n}")
        world.holds(outbound=n + 1, recorded=n + 1)
    if policy:
        world.talks(call="c2")
        world.holds(outbound=3, recorded=3)
        assert alerts(world) == [("critical", False)]
        world.hangs_up(call="c2")
    else:
        world.pbx.sends("INVITE", call="c2")
        world.pbx.gets("100", call="c2")
        assert told(world.pbx.gets("503", call="c2")) == ["I1 recordings 3/2", "rule=I1;value=3;limit=2"]
        world.pbx.sends("ACK", call="c2")
    world.holds(outbound=2, recorded=2)
    for n in range(2):
        world.hangs_up(call=f"c{n}")
    world.holds(recorded=1)
    stops(world)
    assert all(r.recorded for r in world.records if r.answer_at and r.number_class != "siprec")


def test_a_session_identifier_names_plain_calls(ladder: Ladder) -> None:
    """Before they begin and later, in and out."""
    world = ladder(recordings=3, recorder=True)
    ids = [f"{n}" * 32 for n in (1, 2, 3)]
    world.talks(call="a", headers=(f"Session-ID: {ids[0]}",))
    world.talks(world.carrier, call="b", headers=(f"Session-ID: {ids[1]};remote={'0' * 32}",))
    records(world, body=metadata(*ids))
    world.holds(outbound=1, inbound=1, recorded=2)
    world.talks(call="c", headers=(f"Session-ID: {'4' * 32};remote={ids[2]}",))
    world.holds(outbound=2, inbound=1, recorded=3)
    stops(world)
    world.holds(outbound=2, inbound=1)
    for call, who in (("a", world.pbx), ("b", world.carrier), ("c", world.pbx)):
        world.hangs_up(who, call=call)


def test_one_name_of_two_calls(ladder: Ladder) -> None:
    """Both may be recorded, so both count."""
    world = ladder(recordings=2, recorder=True)
    world.talks(call="a")
    leg = world.pbx.legs[world.labels["a"]]
    far = world.carrier.legs.pop(world.labels["a"])
    world.labels["b"] = world.labels["a"]
    world.talks(call="b", change={"call-id": world.labels["a"]})
    records(world, **of(world, "a"))
    world.holds(outbound=2, recorded=2)
    world.hangs_up(call="b")
    world.holds(outbound=1, recorded=1)
    stops(world)
    world.pbx.legs[world.labels["a"]], world.carrier.legs[world.labels["a"]] = leg, far
    world.hangs_up(call="a")


def test_a_forward_that_a_session_names_twice(ladder: Ladder) -> None:
    """By both of its legs: one call."""
    world = ladder(recordings=1, recorder=True, forwarded_calls=5, lines=10)
    world.talks(world.carrier, call="near")
    world.talks(call="far", headers=(f"X-Inbound-Call-ID: {world.labels['near']}",))
    records(world, **of(world, "far", "near"))
    world.holds(inbound=1, forwarded=1, recorded=1)
    stops(world)
    world.hangs_up(call="far")
    world.hangs_up(world.carrier, call="near")


def test_the_store_never_answers() -> None:
    world = World(NEVER_ANSWERS, recordings=2, recorder=True, emergency="route")
    world.pbx.sends("INVITE", call="help", to="119")
    world.pbx.gets("100", call="help")
    world.routes[0].gets("INVITE", call="help")
    invites(world, **of(world, "help"))  # type: ignore[arg-type]
    world.pbx.gets("100", call="rs")
    world.after(0.3)
    assert "rule=store" in world.pbx.gets("503", call="rs").get("x-callgate-verdict")
    world.pbx.sends("ACK", call="rs")
    world.routes[0].sends("486", call="help")
    world.routes[0].gets("ACK", call="help")
    world.pbx.gets("503", call="help")
    world.pbx.sends("ACK", call="help")
    world.ends()


@pytest.mark.parametrize("said", [(), X_RECORD], ids=["plain", "said"])
@pytest.mark.parametrize("first", ["call", "session"])
def test_a_recorder_that_rejects_the_session_of_a_call(
    ladder: Ladder, first: str, said: tuple[str, ...]
) -> None:
    """They share one licence, whoever came first: it stays with the call if that says that it is recorded, else it is
    given back."""
    world = ladder(recordings=1, recorder=True, cps=None)
    if first == "call":
        world.talks(call="a", headers=said)
        invites(world, **of(world, "a"))  # type: ignore[arg-type]
    else:
        invites(world, headers=["X-Record-Of: a-2@example"])
    world.pbx.gets("100", call="rs")
    world.srs.gets("INVITE", call="rs")
    if first == "session":
        world.talks(call="a", headers=said)
    world.holds(outbound=1, recorded=1)
    world.srs.sends("486 INVITE", call="rs")
    world.srs.gets("ACK", call="rs")
    world.pbx.gets("486", call="rs")
    world.pbx.sends("ACK", call="rs")
    world.holds(outbound=1, recorded=int(bool(said)))
    world.hangs_up(call="a")
    world.holds_nothing()


@pytest.mark.parametrize("order", ["12", "21"])
@pytest.mark.parametrize("taken", [{"1"}, {"2"}, {"1", "2"}, set()], ids=["first", "second", "both", "none"])
def test_a_session_offers_what_it_holds_twice_at_once(ladder: Ladder, taken: set[str], order: str) -> None:
    """Two UPDATEs name the same call. One that the recorder takes stands, whatever becomes of the other: another
    session of that call needs no further licence."""
    world = ladder(recordings=2, recorder=True, cps=None)
    records(world)
    world.talks(call="a")
    updates = {}
    for n in "12":
        world.pbx.sends("UPDATE", call="rs", **of(world, "a"))  # type: ignore[arg-type]
        updates[n] = world.srs.gets("UPDATE", call="rs")
    for n in order:
        code = "200" if n in taken else "500"
        head = [
            f"{name}: {value}"
            for name in ("Via", "From", "To", "Call-ID", "CSeq")
            for value in updates[n].all(name.lower())
        ]
        world.srs.transmits("\r\n".join([f"SIP/2.0 {code} So", *head, "Content-Length: 0", "", ""]).encode())
        world.pbx.gets(code, call="rs")
    world.holds(outbound=1, recorded=1)
    records(world, "two", **of(world, "a"))
    world.holds(outbound=1, recorded=1 if taken else 2)
    world.hangs_up(call="a")
    stops(world)
    stops(world, "two")


@pytest.mark.parametrize("code", ["200", "500"])
def test_a_call_that_another_session_joins_while_a_licence_is_lent_to_it(ladder: Ladder, code: str) -> None:
    """The recorder refuses what the first one offers: the call is recorded by the second, and the first, which leads
    to no call, counts besides."""
    world = ladder(recordings=3, recorder=True, cps=None)
    records(world)
    world.talks(call="a")
    world.pbx.sends("UPDATE", call="rs", **of(world, "a"))  # type: ignore[arg-type]
    world.srs.gets("UPDATE", call="rs")
    records(world, "two", **of(world, "a"))
    world.srs.sends(code, call="rs")
    world.pbx.gets(code, call="rs")
    world.holds(outbound=1, recorded=1 if code == "200" else 2)
    world.hangs_up(call="a")
    stops(world)
    stops(world, "two")
    world.holds_nothing()
