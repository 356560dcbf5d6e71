"""REGISTER (RFC 3261 §10): what is bound, for how long, and what the answer lists."""

from __future__ import annotations

import re

import pytest
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import DID, World
from tests.proxy.phones import GATE, Phone, contacts_of, phone

from callgate.proxy.identity.bindings import Room

A, B, C = "<sip:a@192.0.2.70:5062>", "<sip:b@192.0.2.70:5062>", "<sip:c@192.0.2.70:5062>"


@pytest.fixture
def one(any_ladder: Ladder) -> Phone:
    """A phone of a key whose calls go to whoever has registered."""
    return phone(any_ladder(registered=True))


def gauge(world: World) -> float:
    return world.gauge("registrations")


def refused(world: World, reason: str) -> float:
    return world.meters.values[world.meters.series("registers_refused_total", reason)]


# -- binding -----------------------------------------------------------------------------------------------


def test_a_phone_registers(one: Phone) -> None:
    """§10.3 step 8: the 200 lists what is bound now, with the seconds that it got; Date is there."""
    answer = one.registers(expires=600)
    assert contacts_of(answer) == {one.contact: 600}
    assert re.fullmatch(r"Thu, 01 Jan 1970 00:16:40 GMT", answer.get("date"))
    assert answer.to_tag.startswith("cg")
    assert one.world.gauge("registrations") == 1
    assert [note.event for note in one.world.notes] == ["registered"]


def test_a_fetch_changes_nothing(one: Phone) -> None:
    """§10.2.3: no Contact, no change; what is left of each lifetime."""
    assert one.listed() == {}
    one.registers(expires=600)
    one.world.after(100.0)
    assert one.listed() == {one.contact: 500}
    assert len(one.world.kept) == 1


def test_several_contacts_of_one_user(one: Phone) -> None:
    """§10.2.1: all in one REGISTER or one by one, in one line or several."""
    one.registers(f"{A}, {B}", expires=600)
    assert set(one.listed()) == {A, B}
    one.registers(C, expires=900)
    assert one.listed() == {A: 600, B: 600, C: 900}
    assert gauge(one.world) == 3


@pytest.mark.parametrize(
    ("contact", "expires", "granted"),
    [
        ("{};expires=120", None, 120),
        ("{};expires=120", 600, 120),  # §10.2.1.1: the parameter comes before the header
        ("{}", 600, 600),
        ("{}", None, 3600),  # §10.3 step 7: the registrar's own
        ("{};expires=7200", None, 3600),
        ("{}", 1 << 32, 3600),
        ("{}", 10**40, 3600),
        ("{}", "soon", 3600),  # §10.2.1.1: what is no number counts as 3600
        ("{}", -1, 3600),
        ("{};expires=-5", 60, 3600),
        ("{};expires=", 60, 3600),
        ("{}", 60, 60),
    ],
)
def test_how_long(one: Phone, contact: str, expires: int | str | None, granted: int) -> None:
    answer = one.registers(contact.format(one.contact), expires=expires)
    assert contacts_of(answer) == {one.contact: granted}


@pytest.mark.parametrize("seconds", [1, 30, 59])
def test_too_brief(one: Phone, seconds: int) -> None:
    """§10.3 step 7: 423 with Min-Expires; nothing of the request is done."""
    answer = one.registers(A, f"{B};expires={seconds}", expires=600, code=423)
    assert answer.get("min-expires") == "60"
    assert one.listed() == {}
    assert refused(one.world, "too brief") == 1


def test_it_expires(one: Phone) -> None:
    """§10.2.4: what nobody refreshes goes, to the second; the loss is said once."""
    world = one.world
    one.registers(expires=100)
    world.after(99.0)
    assert one.listed() == {one.contact: 1}
    world.after(2.0)
    assert one.listed() == {}
    assert gauge(world) == 0
    assert [(n.event, n.fields.get("reason")) for n in world.notes] == [
        ("registered", None),
        ("registration lost", "expired"),
    ]
    assert set(world.kept.values()) == {()}


def test_at_the_very_second(one: Phone) -> None:
    """It is over then, also for whoever asks before the timer has come."""
    one.registers(expires=60)
    one.world.after(60.0)
    assert one.listed() == {}


def test_a_refresh(one: Phone) -> None:
    """§10.2.4: the lifetime begins anew, longer or shorter; no line in the log."""
    world = one.world
    one.registers(expires=100)
    world.after(90.0)
    one.registers(expires=100)
    world.after(90.0)
    assert one.listed() == {one.contact: 10}
    one.registers(expires=60)
    world.after(61.0)
    assert one.listed() == {}
    assert len(world.notes) == 2


@pytest.mark.parametrize("header", [True, False])
def test_removal(one: Phone, header: bool) -> None:
    """§10.2.2: zero seconds take one contact away; what was never there may be taken away too."""
    one.registers(A, B, expires=600)
    answer = one.registers(A, C, expires=0) if header else one.registers(f"{A};expires=0", f"{C};expires=0")
    assert contacts_of(answer) == {B: 600}
    assert gauge(one.world) == 1


def test_removal_of_all(one: Phone) -> None:
    """§10.2.2: `Contact: *` with Expires: 0."""
    one.registers(A, B, expires=600)
    assert not one.registers("*", expires=0).has("contact")
    assert gauge(one.world) == 0
    assert contacts_of(one.registers("*", expires=0)) == {}


@pytest.mark.parametrize("expires", [None, 1, "0.0", "00", ""])
def test_star_needs_zero(one: Phone, expires: int | str | None) -> None:
    """§10.3 step 6: 400, and all stays."""
    one.registers(A, expires=600)
    one.registers("*", expires=expires, code=400)
    assert list(one.listed()) == [A]


def test_star_stands_alone(one: Phone) -> None:
    """§10.3 step 6."""
    one.registers(A, expires=600)
    one.registers("*", B, expires=0, code=400)
    one.registers(f"*, {B}", expires=0, code=400)
    assert list(one.listed()) == [A]


def test_removal_and_binding_in_one(one: Phone) -> None:
    """A phone that moves takes its old contact away with the REGISTER for its new one."""
    one.registers(A, expires=600)
    assert contacts_of(one.registers(f"{A};expires=0", f"{B};expires=120")) == {B: 120}


def test_the_same_contact_twice(one: Phone) -> None:
    """The last one counts."""
    assert contacts_of(one.registers(f"{A};expires=100", f"{A};expires=200")) == {A: 200}
    assert contacts_of(one.registers(f"{A};expires=300", f"{A};expires=0")) == {}


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("<sip:%61@192.0.2.70>", "<sip:a@192.0.2.70>", True),
        ("<sip:a@phone.EXAMPLE;x=1>", "<sip:a@phone.example;y=2>", True),
        ("<sip:a@192.0.2.70;transport=TCP>", "<sip:a@192.0.2.70;transport=tcp>", True),
        ("<sip:a@192.0.2.70>", "<sip:A@192.0.2.70>", False),
        ("<sip:a@192.0.2.70>", "<sip:a@192.0.2.70:5060>", False),
        ("<sip:a@192.0.2.70>", "<sip:a@192.0.2.70;transport=udp>", False),
        ("<sip:a@192.0.2.70;x=1>", "<sip:a@192.0.2.70;x=2>", False),
        ("<sip:a@192.0.2.70>", "<sip:192.0.2.70>", False),
    ],
)
def test_which_contacts_are_the_same(one: Phone, first: str, second: str, same: bool) -> None:
    """§10.3 step 7 by the rules of §19.1.4; a refresh is listed as it was written last."""
    one.registers(first, expires=600)
    assert list(one.listed()) == [first]
    assert list(contacts_of(one.registers(second, expires=600))) == ([second] if same else [first, second])


def test_what_is_listed(one: Phone) -> None:
    """§10.3 step 8, RFC 3840: the contact's parameters come back, display name and old `expires` do not."""
    one.registers('"A phone" <sip:a@192.0.2.70>;q=0.5;methods="INVITE, BYE";expires=100;audio')
    assert one.listed() == {'<sip:a@192.0.2.70>;q=0.5;methods="INVITE, BYE";audio': 100}
    one.registers("sip:b@192.0.2.70;expires=100;q=1")  # §20.10: without <> it is a parameter of the header
    assert "<sip:b@192.0.2.70>;q=1" in one.listed()


# -- order -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cseq", [1, 4, 5])
def test_an_old_register_changes_nothing(one: Phone, cseq: int) -> None:
    """§10.3 step 7: of one Call-ID a higher CSeq only; all or nothing, so B is not bound either."""
    one.registers(A, expires=600, cseq=5)
    one.registers(B, f"{A};expires=0", expires=600, cseq=cseq, code=500)
    one.registers("*", expires=0, cseq=cseq, code=500)
    assert one.listed() == {A: 600}
    assert refused(one.world, "out of order") == 2


def test_another_call_id_has_its_own_order(one: Phone) -> None:
    """§10.3 step 7: a phone that has booted counts from the start."""
    one.registers(A, expires=600, cseq=50)
    one.registers(A, expires=300, cseq=1, call_id="rebooted@example")
    assert one.listed() == {A: 300}
    one.registers(A, expires=100, cseq=1, call_id="rebooted@example", code=500)


def test_a_copy_is_answered_with_the_same(one: Phone) -> None:
    """§17.2.2: a retransmission is no second REGISTER."""
    one.registers(A, expires=600)
    data = next(iter(one.world.arrived.values())).data
    one.transmits(data)
    assert one.gets("200 REGISTER").get("cseq") == "1 REGISTER"


# -- whom --------------------------------------------------------------------------------------------------


def test_users_are_apart(one: Phone) -> None:
    """§10.3 step 5: case counts, escapes do not."""
    one.registers(A, user="1001", expires=600)
    one.registers(B, user="1002", expires=600)
    one.registers(C, user="alice", expires=600)
    assert list(contacts_of(one.registers("", user="1001"))) == [A]
    assert list(contacts_of(one.registers("", user="1%3002"))) == [B]
    assert contacts_of(one.registers("", user="Alice")) == {}


@pytest.mark.parametrize("user", ["+815012345678", "05012345678", "815012345678", "050-1234-5678"])
def test_a_number_in_any_form_is_one_user(one: Phone, user: str) -> None:
    one.registers(A, user=DID, expires=600)
    assert list(contacts_of(one.registers("", user=user))) == [A]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:5060", "127.0.0.1;transport=tcp"])
def test_names_of_the_gate(one: Phone, host: str) -> None:
    one.registers(A, host=host, expires=600)


@pytest.mark.parametrize(
    ("uri", "to"),
    [
        (GATE, "<sip:1001@sip.example>"),
        ("sip:sip.example", "<sip:1001@127.0.0.1>"),
        ("sip:sip.example", "<sip:1001@sip.example>"),
        (GATE, "<tel:1001>"),
    ],
)
def test_other_domains(one: Phone, uri: str, to: str) -> None:
    """§10.3 steps 1 and 5: 404, and never passed on (interface.md); the answer says how to mend it."""
    answer = one.registers(uri=uri, to=to, code=404)
    assert "tel:" in to or "registrar.domains" in answer.get("warning")
    one.world.carrier.gets_nothing()
    assert refused(one.world, "unknown domain") == 1


def test_a_domain_of_the_config(any_ladder: Ladder) -> None:
    world = any_ladder(registered=True, room=Room(domains=frozenset({"sip.example"})))
    one = phone(world)
    one.registers(uri="sip:SIP.example", to="<sip:1001@Sip.Example>")
    assert list(one.listed()) == [one.contact]  # one user, whatever name of the gate was used


def test_from_may_be_another(one: Phone) -> None:
    """§10.2: third-party registration, inside the key."""
    one.registers(to="<sip:1002@127.0.0.1>", sender="<sip:admin@elsewhere.example>")
    assert list(contacts_of(one.registers("", user="1002"))) == [one.contact]


# -- who may not -------------------------------------------------------------------------------------------


def test_a_pbx_with_an_address_of_its_own(any_ladder: Ladder) -> None:
    """Its calls go where the config says: a 200 would be a lie."""
    world = any_ladder()
    world.pbx.sends("REGISTER", uri=GATE, headers=["Contact: <sip:1001@192.0.2.10>"])
    answer = world.pbx.gets("405 REGISTER")
    assert "REGISTER" not in answer.get("allow")
    assert "pbx: registered" in answer.get("warning")
    assert not world.kept


def test_the_trunk(any_ladder: Ladder) -> None:
    world = any_ladder(registered=True)
    world.carrier.sends("REGISTER", uri=GATE, headers=["Contact: <sip:x@198.51.100.1>"])
    assert not world.carrier.gets("405 REGISTER").has("warning")
    assert not world.kept


def test_a_stranger(any_ladder: Ladder) -> None:
    world = any_ladder(registered=True)
    world.stranger.sends("REGISTER", uri=GATE, headers=["Contact: <sip:x@203.0.113.66>"])
    world.stranger.gets("403 REGISTER")
    assert not world.kept


# -- extensions --------------------------------------------------------------------------------------------


def test_an_unknown_extension(one: Phone) -> None:
    """§8.2.2.3: 420 with exactly what is not known."""
    answer = one.registers(headers=["Require: path, foo", "Require: gruu"], code=420)
    assert answer.get("unsupported") == "foo, gruu"
    assert one.registers(headers=["Proxy-Require: bar"], code=420).get("unsupported") == "bar"
    assert one.listed() == {}


def test_no_hops_left(one: Phone) -> None:
    """§16.3: a REGISTER that has arrived needs no more hops."""
    world = one.world
    data = one.registers("").data
    assert data
    raw = next(reversed(world.arrived.values())).data
    one.transmits(raw.replace(b"Max-Forwards: 70", b"Max-Forwards: 0").replace(b"z9hG4bK", b"z9hG4bK0"))
    one.gets("200 REGISTER")
