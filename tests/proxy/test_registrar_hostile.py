"""REGISTERs as an attacker or a phone gone mad writes them: refused with a reason, bounded, nothing of them done."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.examples import many
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import DID
from tests.proxy.phones import GATE, Phone, phone

from callgate.proxy.bindings import Room
from callgate.proxy.contacts import Contact, seconds_of
from callgate.proxy.peers import Key
from callgate.sip.errors import Malformed

THEIRS = "+815099999999"


@pytest.fixture
def one(any_ladder: Ladder) -> Phone:
    return phone(any_ladder(registered=True, listens=("TCP",)))


def unchanged(one: Phone) -> None:
    assert one.listed() == {}
    assert set(one.world.kept.values()) <= {()}
    assert not one.world.notes


@pytest.mark.parametrize(
    ("contact", "code"),
    [
        ("<sip:127.0.0.1:5060>", 403),  # the gate itself
        ("<sip:me@127.0.0.1>", 403),
        ("<sip:me@127.0.0.1:5060;transport=tcp>", 403),  # another of its listeners
        ("<sip:me@192.0.2.70;maddr=127.0.0.1>", 403),
        ("<sips:me@192.0.2.70>", 400),  # not secure
        ("<tel:+81312345678>", 400),
        ("<mailto:me@example.com>", 400),
        ("<sip:>", 400),
        ("<>", 400),
        ("", 400),
        ("<sip:me@192.0.2.70", 400),
        ('"open <sip:me@192.0.2.70>', 400),
        ("<sip:me@192.0.2.70:99999>", 400),
        ("<sip:me\x00@192.0.2.70>", 400),
        ("<sip:m\xe9@192.0.2.70>", 400),
        ("<sip:me@192.0.2.70>;x=a\x00b", 400),
        ("<sip:me@192.0.2.70>;q=1.1", 400),
        ("<sip:me@192.0.2.70>;q=0.1234", 400),
        ("<sip:me@192.0.2.70>;q=high", 400),
        ("<sip:me@192.0.2.70>;q=", 400),
        ("<sip:" + "m" * 1200 + "@192.0.2.70>", 400),
        ("<sip:me@192.0.2.70>;x=" + "y" * 1200, 400),
        ("<sip:me@192.0.2.70>" + ";x" * 20_000, 400),
        ("*, <sip:me@192.0.2.70>", 400),
    ],
)
def test_no_contact(one: Phone, contact: str, code: int) -> None:
    """None of its neighbours is bound either."""
    answer = one.registers("<sip:good@192.0.2.70>", contact or " ", expires=600, code=code)
    assert "callgate" in answer.get("warning")
    unchanged(one)


def test_an_empty_contact(one: Phone) -> None:
    """It is no fetch."""
    one.registers(" ", expires=600, code=400)
    one.registers(",", expires=600, code=400)
    unchanged(one)


@pytest.mark.parametrize("separate", [True, False])
def test_ten_thousand_contacts(one: Phone, separate: bool) -> None:
    contacts = [f"<sip:{n}@192.0.2.70>" for n in range(10_000)]
    answer = one.registers(*(contacts if separate else [",".join(contacts)]), expires=600, code=403)
    assert "20 contacts" in answer.get("warning")
    unchanged(one)


def test_the_room_of_a_user(one: Phone) -> None:
    """At the limit, one more, and again with room."""
    contacts = [f"<sip:{n}@192.0.2.70>" for n in range(21)]
    one.registers(*contacts, expires=600, code=403)
    unchanged(one)
    one.registers(*contacts[:20], expires=600)
    one.registers(contacts[20], expires=600, code=403)
    one.registers(*contacts[:20], expires=600)  # refreshed all the same
    one.registers(f"{contacts[0]};expires=0", contacts[20], expires=600)
    assert list(one.listed()) == contacts[1:]


def test_room_that_has_become_less(any_ladder: Ladder) -> None:
    """After a reload: who is there may stay, and nobody else may come."""
    world = any_ladder(registered=True)
    one = phone(world)
    contacts = [f"<sip:{n}@192.0.2.70>" for n in range(4)]
    one.registers(*contacts[:3], expires=600)
    world.directory.room = Room(per_user=2)
    one.registers(*contacts[:3], expires=600)
    one.registers(contacts[3], expires=600, code=403)
    one.registers(f"{contacts[0]};expires=0", f"{contacts[1]};expires=0")
    one.registers(contacts[3], expires=600)


def test_the_room_of_a_key(any_ladder: Ladder) -> None:
    world = any_ladder(registered=True, room=Room(per_key=3))
    one = phone(world)
    for user in ("1", "2", "3"):
        one.registers(user=user, expires=600)
    answer = one.registers(user="4", expires=600, code=403)
    assert "3 contacts" in answer.get("warning")
    one.registers(user="3", expires=600)
    one.registers(user="3", expires=0)
    one.registers(user="4", expires=600)
    assert world.gauge("registrations") == 3


def test_a_number_of_another_key(one: Phone) -> None:
    """403 in every form, and nothing is said about whose it is."""
    world = one.world
    world.directory.numbers.add(THEIRS, THEIRS, Key("other", world.trunk, world.key.dial, registered=True))
    for user in (THEIRS, "05099999999", "%2B815099999999", "050-9999-9999"):
        answer = one.registers(user=user, code=403)
        assert "other" not in answer.get("warning")
    assert not world.kept


def test_users_of_other_keys_are_not_seen(one: Phone) -> None:
    """Two keys may both have a user 1001."""
    registrar = one.world.core.registrar
    one.registers()
    assert registrar.bindings.of("other", b"1001") == ()


@pytest.mark.parametrize("user", ["u" * 129, "%41" * 400])
def test_a_user_that_is_too_long(one: Phone, user: str) -> None:
    one.registers(user=user, code=404)
    unchanged(one)


@pytest.mark.parametrize("to", ["<sip:1001@127.0.0.1:99999>", "<>", "rubbish"])
def test_a_to_that_can_not_be_read(one: Phone, to: str) -> None:
    one.registers(to=to, code=400)
    unchanged(one)


def test_a_flood_of_one_key_stays_in_its_room(one: Phone) -> None:
    """However many users it makes up: what is remembered has a bound, and so has what is said."""
    world = one.world
    for n in range(3000):
        one.registers(f"<sip:x@192.0.2.{70 + n % 50}>", user=f"u{n}", code=200 if n < 2000 else 403)
    assert len(world.core.registrar.bindings) == 2000
    assert len([alert for alert in world.alerts if alert.rule == "register"]) == 1


def test_refusals_are_told_once(one: Phone) -> None:
    """A phone that tries for ever is one alert, with its address, and resolved when it stops."""
    for _ in range(5):
        one.registers(host="elsewhere.example", code=404)
        one.world.after(5.0)
    one.world.after(11.0)
    raised, resolved = one.world.alerts
    assert (raised.rule, raised.key, raised.details) == ("register", "acme", {"source": "192.0.2.70"})
    assert resolved.resolved


def test_a_register_inside_a_dialog(one: Phone) -> None:
    """A REGISTER with a To tag belongs to a dialog that is not there (RFC 3261 §12.2.2)."""
    one.registers(to="<sip:1001@127.0.0.1>;tag=x", sender="<sip:1001@127.0.0.1>", code=481)
    unchanged(one)


def test_a_contact_at_the_carrier_gets_nothing(ladder: Ladder) -> None:
    """Whatever host a contact names, its calls go over the flow of its REGISTER: never to a third party."""
    world = ladder(registered=True)
    one = phone(world)
    one.registers("<sip:0990123456@198.51.100.1:5080>")
    world.carrier.sends("INVITE")
    world.carrier.gets("100")
    one.gets("INVITE")
    one.sends("486")
    one.gets("ACK")
    world.carrier.gets("486")
    world.carrier.sends("ACK")


def test_register_to_the_gate_by_a_gateway_of_the_trunk_at_a_key_source(one: Phone) -> None:
    world = one.world
    world.carrier.sends("REGISTER", uri=GATE, headers=[f"Contact: {world.carrier.contact}"], to=DID)
    world.carrier.gets("405 REGISTER")
    unchanged(one)


# -- promises ----------------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_a_contact_is_read_or_refused(value: bytes) -> None:
    """No other exception; what is read is sound text, and reads the same again."""
    try:
        contact = Contact(value)
    except Malformed:
        return
    assert not set(contact.value) & set(b"\r\n\0")
    again = Contact(contact.value)
    assert again.value == contact.value
    assert again.same_as(contact)
    assert 0 <= contact.q <= 1000


@given(st.text(alphabet="sip:@<>;=?,\"' a1.[]%*+-\t", max_size=60))
def test_a_contact_of_telling_characters(value: str) -> None:
    test_a_contact_is_read_or_refused.hypothesis.inner_test(value.encode())  # type: ignore[attr-defined]


@given(st.binary(max_size=30))
def test_seconds(text: bytes) -> None:
    assert 0 <= seconds_of(text) <= (1 << 32) - 1


CONTACTS = st.sampled_from(
    [f"<sip:{user}@192.0.2.70{more}>" for user in "ab" for more in ("", ";x=1", ";x=2", ":1")]
)
STEP = st.tuples(st.lists(CONTACTS, max_size=4), st.sampled_from([0, 60, 61, 100, 59]), st.integers(0, 70))


@settings(max_examples=many(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, max_size=12))
def test_what_is_listed_is_what_is_kept(one: Phone, steps: list[tuple[list[str], int, int]]) -> None:
    """Whatever a phone does: the fetch, the gauge, the rows on the disk and the flow's table agree, and a gate that
    starts anew knows the same."""
    world = one.world
    for contacts, expires, wait in steps:
        if contacts:
            one.registers(*contacts, expires=expires, code=423 if expires == 59 else 200)
        world.after(wait + 0.1)  # the wheel is a little late, never early
    listed = one.listed()
    assert world.gauge("registrations") == len(listed) == len(world.core.registrar.bindings)
    assert sorted(r.contact.decode() for rows in world.kept.values() for r in rows) == sorted(listed)
    assert len(world.core.registrar.bindings.of_flow(one.flow)) == len(listed)
    world.restarts()
    assert one.listed() == listed
    one.registers("*", expires=0)
    assert not world.core.registrar.bindings.carries(one.flow)
