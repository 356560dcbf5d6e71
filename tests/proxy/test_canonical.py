"""Both ends of a call as canonical numbers, for counting and records: DID and caller, however they are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import DID, World

from callgate.numbers import read_uri
from callgate.proxy.identity.callers import _PLAIN, REMEMBERED, Callers
from callgate.sip.message import FROM, Message, parse

UNKNOWN = "0501112222"


def comes_in(
    world: World, *, uri: str = "", to: str = "", headers: tuple[str, ...] = (), **change: str
) -> None:
    world.carrier.sends("INVITE", uri=uri, to=to, headers=headers, change=change)
    world.carrier.gets("100")
    world.settle()
    world.pbx.gets("INVITE")
    world.pbx.sends("486")
    world.pbx.gets("ACK")
    world.carrier.gets("486")
    world.carrier.sends("ACK")


@pytest.mark.parametrize(
    ("called", "uri", "to", "raw"),
    [
        ("", "", DID, DID),
        ("", "", "05012345678", "05012345678"),
        ("", f"sip:{DID}@127.0.0.1:5060;user=phone", UNKNOWN, DID),
        ("", f"tel:{DID}", UNKNOWN, f"tel:{DID}"),
        ("", "tel:050-1234-5678;phone-context=+81", UNKNOWN, "tel:050-1234-5678;phone-context=+81"),
        ("", "sip:05012345678;npdi@127.0.0.1:5060", UNKNOWN, "05012345678;npdi"),
        (f"<sip:{DID}@ims.example;user=phone>", f"sip:{UNKNOWN}@127.0.0.1:5060", UNKNOWN, DID),
        ('"Acme" <tel:+81-50-1234-5678>', f"sip:{UNKNOWN}@127.0.0.1:5060", UNKNOWN, "tel:+81-50-1234-5678"),
        ("<sip:alice@ims.example>", f"sip:{UNKNOWN}@127.0.0.1:5060", DID, DID),
        ("", "sip:trunk@127.0.0.1:5060", "05012345678", "05012345678"),  # only To has it
    ],
)
def test_the_did(world: World, called: str, uri: str, to: str, raw: str) -> None:
    """interface.md: P-Called-Party-ID, else the Request-URI, else To. The raw form is that of the one that decided."""
    comes_in(world, uri=uri, to=to, headers=(f"P-Called-Party-ID: {called}",) if called else ())
    record = world.record()
    assert (record.canonical, record.raw) == (DID, raw)


CALLERS = [
    ("<sip:0398765432@carrier>", "+81398765432"),
    ("<sip:+81398765432@carrier;user=phone>", "+81398765432"),
    ("<tel:+81-3-9876-5432>", "+81398765432"),
    ("<tel:03-9876-5432;phone-context=+81>", "+81398765432"),
    ('"Mr. <x>" <sip:09012345678;isub=1@carrier>', "+819012345678"),
    ("<sip:81398765432@carrier>", "+81398765432"),
    ("<sip:+12125550100@carrier>", "+12125550100"),
    ("<sip:+44-20-7946-0000@carrier>", "+442079460000"),
    ("<sip:anonymous@anonymous.invalid>", "anonymous"),
    ('"Anonymous" <sip:Anonymous@carrier>', "anonymous"),
    ("<sip:thisis@anonymous.invalid>", "anonymous"),
    ("<sip:unavailable@carrier>", "anonymous"),
    ("<sip:carrier>", "anonymous"),
    ("<sip:1001@carrier>", "1001"),
    ("<sip:alice@carrier>", "alice"),
    ("<sip:110@carrier>", "110"),
    ("<sip:0312%00345678@carrier>", ""),
]


@pytest.mark.parametrize(("written", "caller"), CALLERS)
def test_the_caller_of_a_call_in(world: World, written: str, caller: str) -> None:
    comes_in(world, **{"from": f"{written};tag=c"})
    assert world.record().caller == caller


@pytest.mark.parametrize(
    ("written", "asserted", "caller"),
    [
        ("<sip:anonymous@anonymous.invalid>", "<sip:0398765432@carrier>", "+81398765432"),
        ("<sip:1001@pbx>", "<sip:alice@x>, <tel:+81312345678>", "+81312345678"),
        ("<sip:0311112222@pbx>", "<tel:+81312345678>", "+81311112222"),
        ("<sip:anonymous@anonymous.invalid>", "<sip:alice@x>", "anonymous"),
        ("<sip:anonymous@anonymous.invalid>", '"<', "anonymous"),
    ],
)
def test_the_asserted_one_where_from_has_none(world: World, written: str, asserted: str, caller: str) -> None:
    change = {"from": f"{written};tag=c"}
    comes_in(world, headers=(f"P-Asserted-Identity: {asserted}",), **change)
    assert world.record().caller == caller


def test_the_caller_of_a_call_out(ladder: Ladder) -> None:
    world = ladder()
    world.talks(change={"from": "<sip:050-1234-5678@pbx>;tag=x"})
    world.hangs_up()
    record = world.record()
    assert (record.caller, record.caller_raw, record.canonical) == (DID, "050-1234-5678", "+81312345678")


def message(user: str) -> Message:
    return parse(
        b"INVITE sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: <sip:%b@h>;tag=a\r\nTo: <sip:x@y>\r\n"
        b"Call-ID: c\r\nCSeq: 1 INVITE\r\n\r\n" % user.encode()
    )


@given(
    user=st.one_of(
        st.from_regex(r"(?:\+81|0)[1-9][0-9]{7,10}", fullmatch=True),
        st.from_regex(r"\+[1-9][0-9]{5,15}", fullmatch=True),
        st.from_regex(r"[0-9]{3,12}", fullmatch=True),
    )
)
def test_the_quick_way_reads_what_the_plan_reads(user: str) -> None:
    """Of every number that the plan knows. What it can't place keeps its digits."""
    number = read_uri(f"sip:{user}@h".encode())
    request = message(user)
    raw, quick = Callers().of(request, request.value(FROM))
    assert raw == user
    if number.canonical and not (number.cls in ("unknown", "invalid") and _PLAIN.fullmatch(user)):
        assert quick == number.canonical


def test_what_is_remembered_is_bounded() -> None:
    callers = Callers()
    for n in range(REMEMBERED + 10):
        callers.of(message(f"user{n}"), b"<sip:user%d@h>;tag=a" % n)
    callers.of(message("x" * 300), b"<sip:%b@h>;tag=a" % (b"x" * 300))
    assert len(callers._known) <= REMEMBERED
