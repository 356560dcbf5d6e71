"""Calls in that go on to a telephone number (V4): the gate makes the second leg, or the PBX does."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import DID, World
from tests.proxy.text import Text

from callgate.policy.schedule import Schedule
from callgate.proxy.directory import Probing
from callgate.proxy.peers import Numbers, Step
from callgate.proxy.trunk.sites import Site

TO_PHONE = (Step(onward=b"tel:0312345678"),)
PBX_THEN_PHONE = (Step(ring_seconds=20.0), Step(onward=b"tel:0312345678"))
BY_302 = ("Contact: <tel:0312345678>",)
PROBES = Probing(interval=300.0, misses=3, gap=10.0)


@pytest.fixture
def routed(ladder: Ladder) -> World:
    """A number whose calls go on to a telephone."""
    return ladder(route=TO_PHONE, forwarded_calls=5, lines=10)


@pytest.fixture
def forwarding(ladder: Ladder) -> World:
    return ladder(forwarded_calls=5, lines=10)


class Forwarded:
    """Both legs of a forward: the carrier calls (`near`) and is called (`far`)."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.near = world.carrier.current
        carrier = world.carrier
        self.invite = carrier.gets("INVITE")
        self.far = self.invite.call_id
        world.labels |= {"near": self.near, "far": self.far}

    def is_answered(self) -> None:
        carrier = self.world.carrier
        carrier.sends("180", call="far")
        carrier.gets("180", call="near")
        carrier.sends("200", call="far")
        carrier.gets("200", call="near")
        carrier.sends("ACK", call="near")
        carrier.gets("ACK", call="far")
        self.world.holds(inbound=1, forwarded=1)


def calls_in(world: World) -> Forwarded:
    world.carrier.sends("INVITE", call="near")
    world.carrier.gets("100", call="near")
    return Forwarded(world)


def by_302(world: World) -> Forwarded:
    world.carrier.sends("INVITE", call="near")
    world.carrier.gets("100", call="near")
    world.pbx.gets("INVITE")
    world.pbx.sends("302", headers=BY_302)
    world.pbx.gets("ACK")
    world.carrier.current = world.labels["near"]
    return Forwarded(world)


def hangs_up(world: World, ender: str) -> None:
    """One side ends it, the other hears so, and both lines are free."""
    carrier, other = world.carrier, "far" if ender == "near" else "near"
    carrier.sends("BYE", call=ender)
    carrier.gets("200 BYE", call=ender)
    carrier.gets("BYE", call=other)
    carrier.sends("200 BYE", call=other)
    world.holds_nothing()


@pytest.mark.parametrize("ender", ["near", "far"])
@pytest.mark.parametrize("how", [calls_in, by_302])
def test_a_forward_from_invite_to_bye(ladder: Ladder, how: object, ender: str) -> None:
    """It holds two lines, whoever hangs up, and has a record for each leg."""
    world = ladder(route=TO_PHONE if how is calls_in else None, forwarded_calls=5, lines=10)
    call = how(world)  # type: ignore[operator]
    world.holds(inbound=1, forwarded=1)
    call.is_answered()
    hangs_up(world, ender)
    near = next(r for r in world.records if r.direction == "inbound")
    far = next(r for r in world.records if r.direction == "forwarded")
    assert far.forwarded_of == near.id
    assert (near.outcome, far.outcome) == ("answered", "answered")


def test_each_side_has_its_own_dialog(routed: World) -> None:
    """Own Call-ID, tags and Contact on each side; the body passes; nothing of the one leaks into the other."""
    call = calls_in(routed)
    near, far = routed.carrier.legs[call.near].sent[0], call.invite
    assert far.call_id != near.call_id
    assert far.from_tag != near.from_tag
    assert far.get("contact") != near.get("contact")
    assert far.body == near.body
    assert near.branch not in far.data.decode()
    assert far.uri.startswith("sip:0312345678@")
    assert "0398765432" in far.get("from")  # who called is shown
    call.is_answered()
    routed.carrier.sends("BYE", call="near")
    routed.carrier.gets("200 BYE", call="near")
    routed.carrier.gets("BYE", call="far")
    routed.carrier.sends("200 BYE", call="far")


def test_diversion_and_history(routed: World) -> None:
    """RFC 5806 §5.4, RFC 7044 §9: who diverted, and why, above what was there."""
    routed.carrier.sends(
        "INVITE",
        call="near",
        headers=(
            "Diversion: <sip:0666666666@x>;reason=no-answer",
            "History-Info: <sip:0666666666@x>;index=1",
        ),
    )
    routed.carrier.gets("100", call="near")
    call = Forwarded(routed)
    diversions = call.invite.all("diversion")
    assert DID in diversions[0]
    assert "reason=unconditional" in diversions[0]
    assert "0666666666" in diversions[1]
    history = ", ".join(call.invite.all("history-info"))
    assert "index=1.1;mp=1" in history
    fails(routed, call, 404, 404)


def test_a_302_that_says_why_is_believed(forwarding: World) -> None:
    world = forwarding
    world.carrier.sends("INVITE", call="near")
    world.carrier.gets("100", call="near")
    world.pbx.gets("INVITE")
    world.pbx.sends("302", headers=(*BY_302, "Diversion: <sip:200@pbx>;reason=user-busy"))
    world.pbx.gets("ACK")
    world.carrier.current = world.labels["near"]
    call = Forwarded(world)
    assert call.invite.all("diversion") == ["<sip:200@pbx>;reason=user-busy"]
    fails(world, call, 486, 486)


def fails(world: World, call: Forwarded, code: int, heard: int) -> Text:
    """The far side refuses; what the caller hears."""
    carrier = world.carrier
    carrier.sends(f"{code} INVITE", call="far")
    carrier.gets("ACK", call="far")
    text = carrier.gets(str(heard), call="near")
    carrier.sends("ACK", call="near")
    world.holds_nothing()
    return text


@pytest.mark.parametrize(
    ("code", "heard"), [(486, 486), (404, 404), (603, 603), (407, 480), (302, 480), (480, 480)]
)
def test_the_far_side_refuses(routed: World, code: int, heard: int) -> None:
    """Nothing that the caller can't use goes up: challenges and redirects were the gate's to deal with."""
    fails(routed, calls_in(routed), code, heard)


def test_the_caller_gives_up(routed: World) -> None:
    call = calls_in(routed)
    carrier = routed.carrier
    carrier.sends("180", call="far")
    carrier.gets("180", call="near")
    carrier.sends("CANCEL", call="near")
    carrier.gets("200 CANCEL", call="near")
    carrier.gets("CANCEL", call="far")
    carrier.sends("200 CANCEL", call="far")
    carrier.sends("487 INVITE", call="far")
    carrier.gets("ACK", call="far")
    carrier.gets("487", call="near")
    carrier.sends("ACK", call="near")
    routed.holds_nothing()
    assert call.far in {r.call_id for r in routed.records}


def test_an_answer_overtakes_the_cancel(routed: World) -> None:
    """RFC 3261 §9.1: the call exists, and the caller ends it."""
    calls_in(routed)
    carrier = routed.carrier
    carrier.sends("180", call="far")
    carrier.gets("180", call="near")
    carrier.sends("CANCEL", call="near")
    carrier.gets("200 CANCEL", call="near")
    carrier.gets("CANCEL", call="far")
    carrier.sends("200 INVITE", call="far")
    carrier.gets("200 INVITE", call="near")
    carrier.sends("200 CANCEL", call="far")
    carrier.sends("ACK", call="near")
    carrier.gets("ACK", call="far")
    hangs_up(routed, "near")


def test_requests_pass_inside(routed: World) -> None:
    """re-INVITE, UPDATE, INFO both ways, with bodies; PRACK with its RAck."""
    call = calls_in(routed)
    carrier = routed.carrier
    carrier.sends("183", call="far", headers=("Require: 100rel", "RSeq: 7"))
    assert carrier.gets("183", call="near").get("rseq") == "7"
    carrier.sends("PRACK", call="near", headers=("RAck: 7 1 INVITE",))
    assert carrier.gets("PRACK", call="far").get("rack") == "7 1 INVITE"
    carrier.sends("200 PRACK", call="far")
    carrier.gets("200 PRACK", call="near")
    call.is_answered()
    for one, other in (("near", "far"), ("far", "near")):
        for what in ("INFO", "UPDATE"):
            carrier.sends(what, call=one, body=b"hello")
            assert carrier.gets(what, call=other).body == b"hello"
            carrier.sends(f"200 {what}", call=other)
            carrier.gets(f"200 {what}", call=one)
        carrier.sends("re-INVITE", call=one)
        carrier.gets("100", call=one)
        carrier.gets("re-INVITE", call=other)
        carrier.sends("200 re-INVITE", call=other)
        carrier.gets("200 re-INVITE", call=one)
        carrier.sends("ACK", call=one)
        carrier.gets("ACK", call=other)
    carrier.sends("re-INVITE", call="near")
    carrier.gets("100", call="near")
    carrier.gets("re-INVITE", call="far")
    carrier.sends("488 re-INVITE", call="far")
    carrier.gets("ACK", call="far")
    carrier.gets("488", call="near")
    carrier.sends("ACK", call="near")
    routed.holds(inbound=1, forwarded=1)
    hangs_up(routed, "far")


@pytest.mark.parametrize("limits", [{"forwarded_calls": 0, "lines": 10}, {"forwarded_calls": 5, "lines": 1}])
def test_all_or_nothing(ladder: Ladder, limits: dict[str, int]) -> None:
    """A route claims both lines in one claim: where the second is not to be had, nothing leaves, and 486."""
    world = ladder(route=TO_PHONE, **limits)
    world.carrier.sends("INVITE", call="near")
    world.carrier.gets("100", call="near")
    world.carrier.gets("486", call="near")
    world.carrier.sends("ACK", call="near")
    world.holds_nothing()
    record = world.record()
    assert (record.verdict, record.rule) == ("refused", "V4")


def test_a_302_over_the_limit(ladder: Ladder) -> None:
    """The call in held its line already; it ends with 486, and says why."""
    world = ladder(forwarded_calls=5, lines=1)
    world.carrier.sends("INVITE", call="near")
    world.carrier.gets("100", call="near")
    world.pbx.gets("INVITE")
    world.pbx.sends("302", headers=BY_302)
    world.pbx.gets("ACK")
    world.carrier.gets("486", call="near")
    world.carrier.sends("ACK", call="near")
    world.holds_nothing()
    near = next(r for r in world.records if r.direction == "inbound")
    assert (near.verdict, near.rule, near.value, near.limit) == ("refused", "V4", 2, 1)


@pytest.mark.parametrize("number", ["tel:0120123456", "tel:119", "tel:110", "tel:1860120123456"])
def test_a_302_to_what_must_not_be_dialled(forwarding: World, number: str) -> None:
    """Number rules hold for forwards; an emergency number is nobody's forward."""
    world = forwarding
    world.carrier.sends("INVITE", call="near")
    world.carrier.gets("100", call="near")
    world.pbx.gets("INVITE")
    world.pbx.sends("302", headers=(f"Contact: <{number}>",))
    world.pbx.gets("ACK")
    world.carrier.gets("486", call="near")
    world.carrier.sends("ACK", call="near")
    world.holds_nothing()


@pytest.mark.parametrize(
    "contact", ["<sip:bob@elsewhere.example>", "<sip:0312345678@elsewhere.example>", "<sip:7@[::1]>"]
)
def test_a_302_to_any_other_address_is_the_callers(forwarding: World, contact: str) -> None:
    world = forwarding
    world.carrier.sends("INVITE", call="near")
    world.carrier.gets("100", call="near")
    world.pbx.gets("INVITE")
    world.pbx.sends("302", headers=(f"Contact: {contact}",))
    world.pbx.gets("ACK")
    assert world.carrier.gets("302", call="near").get("contact") == contact
    world.carrier.sends("ACK", call="near")
    world.holds_nothing()


def test_numbers_of_a_302_are_tried_in_their_order(forwarding: World) -> None:
    """RFC 3261 §20.10: by q; the next one where one fails."""
    world = forwarding
    world.carrier.sends("INVITE", call="near")
    world.carrier.gets("100", call="near")
    world.pbx.gets("INVITE")
    world.pbx.sends("302", headers=("Contact: <tel:0311111111>;q=0.1, <tel:0322222222>;q=0.9",))
    world.pbx.gets("ACK")
    world.carrier.current = world.labels["near"]
    first = Forwarded(world)
    assert first.invite.uri.startswith("sip:0322222222@")
    world.carrier.sends("480 INVITE", call="far")
    world.carrier.gets("ACK", call="far")
    world.carrier.current = world.labels["near"]
    second = Forwarded(world)
    assert second.invite.uri.startswith("sip:0311111111@")
    second.is_answered()
    hangs_up(world, "near")


def test_a_circle_ends(routed: World) -> None:
    """A call that was diverted too often goes no further."""
    routed.carrier.sends("INVITE", call="near", headers=("Diversion: <sip:a@b>;counter=5",))
    routed.carrier.gets("100", call="near")
    routed.carrier.gets("486", call="near")
    routed.carrier.sends("ACK", call="near")
    routed.holds_nothing()


def test_the_pbx_does_not_answer(ladder: Ladder) -> None:
    """It rings as long as the route says, then the next step has the call."""
    world = ladder(route=PBX_THEN_PHONE, forwarded_calls=5, lines=10)
    world.carrier.sends("INVITE", call="near")
    world.carrier.gets("100", call="near")
    world.pbx.gets("INVITE")
    world.pbx.sends("180")
    world.carrier.gets("180", call="near")
    world.after(20.1)
    world.pbx.gets("CANCEL")
    world.pbx.sends("200 CANCEL")
    world.pbx.sends("487 INVITE")
    world.pbx.gets("ACK")
    world.carrier.current = world.labels["near"]
    call = Forwarded(world)
    call.is_answered()
    hangs_up(world, "near")


def test_the_gate_hangs_up(ladder: Ladder) -> None:
    """C1 ends both legs."""
    world = ladder(route=TO_PHONE, forwarded_calls=5, lines=10, max_call_seconds=60)
    calls_in(world).is_answered()
    world.after(60.1)
    for leg in ("near", "far"):
        world.carrier.gets("BYE", call=leg)
        world.carrier.sends("200 BYE", call=leg)
    world.holds_nothing()


MADE_BY_THE_PBX = {
    "by Call-ID": ("X-Inbound-Call-ID: {call_id}",),
    "Diversion": ("Diversion: <sip:{did}@gate>;reason=unconditional",),
    "Diversion, national": ("Diversion: <tel:05012345678>",),
    "History-Info": (
        "History-Info: <sip:{did}@gate?Reason=SIP%3Bcause%3D302>;index=1, <sip:0312345678@gate>;index=1.1",
    ),
    "Referred-By": ("Referred-By: <sip:{did}@gate>",),
}
ORDINARY = {
    "a Call-ID that matches none": ("X-Inbound-Call-ID: nothing@here", "Diversion: <sip:{did}@gate>"),
    "another's number": ("Diversion: <sip:0399999999@gate>",),
    "nothing": (),
}


@pytest.mark.parametrize("headers", [*MADE_BY_THE_PBX.values()], ids=[*MADE_BY_THE_PBX])
def test_a_forward_of_the_pbx_is_known(forwarding: World, headers: tuple[str, ...]) -> None:
    world = forwarding
    world.talks(world.carrier, call="in")
    call_id = world.labels["in"]
    world.pbx.sends("INVITE", call="out", headers=[h.format(call_id=call_id, did=DID) for h in headers])
    world.pbx.gets("100", call="out")
    world.carrier.gets("INVITE", call="out")
    world.holds(inbound=1, forwarded=1)
    world.carrier.sends("486", call="out")
    world.carrier.gets("ACK", call="out")
    world.pbx.gets("486", call="out")
    world.pbx.sends("ACK", call="out")
    world.holds(inbound=1)
    assert world.record().direction == "forwarded"
    world.hangs_up(call="in")
    assert world.records[0].forwarded_of == world.records[1].id


@pytest.mark.parametrize("headers", [*ORDINARY.values()], ids=[*ORDINARY])
def test_all_else_is_ordinary(forwarding: World, headers: tuple[str, ...]) -> None:
    world = forwarding
    world.talks(world.carrier, call="in")
    world.pbx.sends("INVITE", call="out", headers=[h.format(did=DID) for h in headers])
    world.pbx.gets("100", call="out")
    world.carrier.gets("INVITE", call="out")
    world.holds(inbound=1, outbound=1)
    world.carrier.sends("486", call="out")
    world.carrier.gets("ACK", call="out")
    world.pbx.gets("486", call="out")
    world.pbx.sends("ACK", call="out")
    world.hangs_up(call="in")


def test_the_call_in_ends_first(forwarding: World) -> None:
    """The other leg keeps its own line until it ends."""
    world = forwarding
    world.talks(world.carrier, call="in")
    world.talks(world.pbx, call="out", headers=(f"Diversion: <sip:{DID}@gate>",))
    world.holds(inbound=1, forwarded=1)
    world.hangs_up(world.carrier, call="in")
    world.holds(forwarded=1)
    world.hangs_up(call="out")
    world.holds_nothing()


def test_a_closed_step_is_passed_over(ladder: Ladder) -> None:
    """Time of day: outside its hours a step is as if it were not there; with none left there is nobody to call."""
    never = Schedule(0, 1, frozenset(), ZoneInfo("Asia/Tokyo"))
    world = ladder(route=(Step(schedule=never), *TO_PHONE), forwarded_calls=5, lines=10)
    call = calls_in(world)
    assert call.invite.uri.startswith("sip:0312345678@")
    fails(world, call, 486, 486)
    world = ladder(route=(Step(schedule=never),))
    world.carrier.sends("INVITE")
    world.carrier.gets("480")
    world.carrier.sends("ACK")


def test_a_busy_pbx_leads_on_only_if_it_should(ladder: Ladder) -> None:
    for busy, heard in ((False, "486"), (True, "INVITE")):
        world = ladder(route=(Step(busy_too=busy), *TO_PHONE), forwarded_calls=5, lines=10)
        world.carrier.sends("INVITE", call="near")
        world.carrier.gets("100", call="near")
        world.pbx.gets("INVITE")
        world.pbx.sends("486")
        world.pbx.gets("ACK")
        if heard == "486":
            world.carrier.gets("486")
            world.carrier.sends("ACK")
        else:
            world.carrier.current = world.labels["near"]
            fails(world, Forwarded(world), 404, 486)  # the first of equals (RFC 3261 §16.7 step 6)


def test_a_sip_address_holds_one_line(ladder: Ladder) -> None:
    """V5: from the telephone network to a SIP URI only the leg in is a line, and no token is taken."""
    world = ladder(phones=1, forwarded_calls=5, lines=10)
    phone = world.phones[0]
    site = Site(phone.sent_by.encode(), "desk", phone.flow)
    world.key.routes = Numbers()
    world.key.routes.add(DID, DID, (Step(site=site, user=b"desk"),))
    world.carrier.sends("INVITE")
    world.carrier.gets("100")
    invite = phone.gets("INVITE")
    assert invite.uri == f"sip:desk@{phone.sent_by}"
    phone.sends("200")
    world.carrier.gets("200")
    world.carrier.sends("ACK")
    phone.gets("ACK")
    world.holds(inbound=1)
    assert world.used("outbound_cps") == 0
    phone.sends("BYE")
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE")
    phone.gets("200 BYE")
    world.holds_nothing()


@pytest.mark.parametrize("shown", ["own", "any"])
def test_whose_number_a_forward_shows(ladder: Ladder, shown: str) -> None:
    """The caller's, where the key may show it (I19); else the number that was called."""
    world = ladder(
        route=TO_PHONE,
        forwarded_calls=5,
        lines=10,
        caller_ids=(DID,) if shown == "own" else None,
    )
    world.carrier.sends("INVITE", call="near", headers=("P-Asserted-Identity: <tel:0398765432>",))
    world.carrier.gets("100", call="near")
    call = Forwarded(world)
    if shown == "own":
        assert DID in call.invite.get("from")
        assert not call.invite.has("p-asserted-identity")
    else:
        assert "0398765432" in call.invite.get("from")
    fails(world, call, 486, 486)


def test_a_forward_of_a_forked_call_out(routed: World) -> None:
    """Two phones ring at the far end: each early dialog has its counterpart, and both are heard."""
    calls_in(routed)
    carrier = routed.carrier
    carrier.sends("180", call="far", tag="one")
    first = carrier.gets("180", call="near")
    carrier.sends("183", call="far", tag="two")
    second = carrier.gets("183", call="near")
    assert first.to_tag != second.to_tag
    carrier.sends("200 INVITE", call="far", tag="two")
    assert carrier.gets("200", call="near").to_tag == second.to_tag
    carrier.sends("ACK", call="near", tag=second.to_tag)
    carrier.gets("ACK", call="far")
    carrier.sends("BYE", call="near", tag=second.to_tag)
    carrier.gets("200 BYE", call="near")
    carrier.gets("BYE", call="far")
    carrier.sends("200 BYE", call="far")
    routed.holds_nothing()


def test_a_forward_whose_far_side_forks_for_ever(routed: World) -> None:
    """What is remembered and written down of callees has a bound; whoever answers is among them."""
    calls_in(routed)
    carrier = routed.carrier
    for n in range(100):
        carrier.sends("183", call="far", tag=f"fork-{n}")
        carrier.gets("183", call="near")
    assert max(len(repr(row)) for _, row in routed.journal) < 20_000
    carrier.sends("200", call="far", tag="fork-99")
    carrier.gets("200", call="near")
    carrier.sends("ACK", call="near")
    carrier.gets("ACK", call="far")
    routed.crashes()
    routed.holds(inbound=1, forwarded=1)
    hangs_up(routed, "near")


def test_the_far_side_loses_the_acks(routed: World) -> None:
    """Copies of the answer come from the far end and get the ACK of the near one: no timer is between them."""
    call = calls_in(routed)
    call.is_answered()
    carrier = routed.carrier
    carrier.repeats("200", call="far")
    carrier.gets("200", call="near")
    carrier.sends("ACK", call="near")
    carrier.gets("ACK", call="far")
    carrier.sends("BYE", call="near")
    carrier.gets("200 BYE", call="near")
    carrier.gets("BYE", call="far")
    carrier.sends("200 BYE", call="far")


def are_asked(world: World) -> None:
    """Both ends of a forward at the carrier have been asked whether they live, perhaps by several copies."""
    texts = [text for _, text in world.carrier.inbox]
    assert {text.method for text in texts} == {"OPTIONS"}
    assert {text.call_id for text in texts} == {world.labels["near"], world.labels["far"]}
    world.carrier.takes_refusals()


def test_probes_are_answered_by_the_endpoint(ladder: Ladder) -> None:
    """Is the call alive? Both carriers' ends are asked, and the gate's own end answers for itself."""
    world = ladder(route=TO_PHONE, forwarded_calls=5, lines=10, probing=Probing(30.0, 3, 10.0))
    calls_in(world).is_answered()
    world.after(31)
    are_asked(world)
    for leg in ("near", "far"):
        world.carrier.sends("200 OPTIONS", call=leg)
    world.holds(inbound=1, forwarded=1)
    hangs_up(world, "near")


def test_one_end_is_gone(ladder: Ladder) -> None:
    """A 481 to a probe ends that leg at once, and with it the other."""
    world = ladder(route=TO_PHONE, forwarded_calls=5, lines=10, probing=Probing(30.0, 3, 10.0))
    calls_in(world).is_answered()
    world.after(31)
    are_asked(world)
    world.carrier.sends("200 OPTIONS", call="far")
    world.carrier.sends("481 OPTIONS", call="near")
    world.carrier.gets("BYE", call="far")
    world.carrier.sends("200 BYE", call="far")
    world.holds_nothing()


@pytest.mark.parametrize(
    "contact", ["", "*", "<>", "<tel:>", "<sip:@>", "<tel:" + "1" * 500 + ">", "<tel:%00>", "tel:1,"]
)
def test_a_302_with_rubbish(forwarding: World, contact: str) -> None:
    """What is no number goes up as it came, or is refused by the number rules: never an exception."""
    world = forwarding
    world.carrier.sends("INVITE", call="near")
    world.carrier.gets("100", call="near")
    world.pbx.gets("INVITE")
    world.pbx.sends("302", headers=(f"Contact: {contact}",))
    world.pbx.gets("ACK")
    world.settle()
    world.carrier.takes_refusals()
    world.holds_nothing()


# -- several calls with one Call-ID ----------------------------------------------------------------------------


def test_a_pbx_that_keeps_the_call_id_answers_302_after_its_own_attempt(ladder: Ladder) -> None:
    """It is a proxy: it tried to forward the call itself, and was refused. That call's end is not the forward's."""
    world = ladder(forwarded_calls=5, lines=10, probing=PROBES)
    carrier, pbx = world.carrier, world.pbx
    carrier.sends("INVITE", call="near")
    carrier.gets("100", call="near")
    pbx.gets("INVITE", call="near")
    tried(world, "near")
    pbx.sends("302", call="near", headers=BY_302)
    pbx.gets("ACK", call="near")
    carrier.current = world.labels["near"]
    call = Forwarded(world)
    call.is_answered()
    world.after(100)
    for sender, receiver in (("near", "far"), ("far", "near")):
        carrier.sends("INFO", call=sender)
        carrier.gets("INFO", call=receiver)
        carrier.sends("200 INFO", call=receiver)
        carrier.gets("200 INFO", call=sender)
    world.holds(inbound=1, forwarded=1)
    hangs_up(world, "near")


def tried(world: World, call: str) -> None:
    """The PBX sends an INVITE with the Call-ID of a call in, to a number that is forbidden."""
    pbx, call_id = world.pbx, world.labels[call]
    kept = {"call-id": call_id}
    leg = pbx.legs[call_id]
    pbx.sends("INVITE", call="tried", to="0990123456", change=kept)
    pbx.gets("403", call=call)
    pbx.sends("ACK", call="tried")
    pbx.legs[call_id] = leg


@pytest.mark.parametrize("up", [False, True], ids=["before its answer", "while it is up"])
def test_the_same_call_by_two_ways(routed: World, up: bool) -> None:
    """A proxy of the carrier has forked it: one phone rings, and the second copy gets 482 (RFC 3261 §8.2.2.2)."""
    world, carrier = routed, routed.carrier
    invite = carrier.sends("INVITE", call="near")
    carrier.gets("100", call="near")
    call = Forwarded(world)
    if up:
        call.is_answered()
    copy = invite.data.replace(b"branch=z9hG4bK-", b"branch=z9hG4bK-x")
    carrier.transmits(copy)
    carrier.gets("100", call="near")
    carrier.gets("482", call="near")
    carrier.transmits(copy.replace(b"INVITE sip:", b"ACK sip:").replace(b"1 INVITE", b"1 ACK"))
    if not up:
        call.is_answered()
    world.after(60)
    hangs_up(world, "near")


def test_forwards_of_a_pbx_that_keeps_the_call_id(ladder: Ladder) -> None:
    """One after the other, and two at once: each is a forward, though several calls have the Call-ID."""
    world = ladder(forwarded_calls=1, lines=10, probing=PROBES)
    carrier, pbx = world.carrier, world.pbx
    world.talks(carrier, call="in")
    call_id = world.labels["in"]
    talk = pbx.legs[call_id], carrier.legs[call_id]

    def goes_out(call: str) -> None:
        kept = {"call-id": call_id}
        pbx.sends("INVITE", call=call, headers=[f"X-Inbound-Call-ID: {call_id}"], change=kept)
        pbx.gets("100", call="in")

    def is_busy() -> None:
        carrier.sends("486", call="in")
        carrier.gets("ACK", call="in")
        pbx.gets("486", call="in")
        pbx.sends("ACK", call="in")
        world.holds(inbound=1)

    for call in ("one", "two"):
        goes_out(call)
        carrier.gets("INVITE", call="in")
        world.holds(inbound=1, forwarded=1)
        is_busy()
    goes_out("three")
    carrier.gets("INVITE", call="in")
    three = pbx.legs[call_id]
    goes_out("four")
    assert "rule=V4" in pbx.gets("503", call="in").get("x-callgate-verdict")
    pbx.sends("ACK", call="in")
    world.holds(inbound=1, forwarded=1)
    pbx.legs[call_id] = three
    is_busy()
    assert [r.direction for r in world.records] == ["forwarded"] * 4
    world.after(100)
    assert len(world.core.find_calls(call_id)) == 1  # the call in, as the operator names it
    pbx.legs[call_id], carrier.legs[call_id] = talk
    world.hangs_up(carrier, call="in")


def test_a_call_in_that_is_adopted_can_be_named(forwarding: World) -> None:
    """Of a call in only its dialog was known after a crash."""
    world = forwarding
    world.talks(world.carrier, call="in")
    world.crashes(lost=10)
    world.after(1.1)  # the tokens of the second before are unknown
    world.carrier.sends("INFO", call="in")
    world.pbx.gets("INFO", call="in")
    world.pbx.sends("200 INFO", call="in")
    world.carrier.gets("200 INFO", call="in")
    world.pbx.sends("INVITE", call="out", headers=[f"X-Inbound-Call-ID: {world.labels['in']}"])
    world.pbx.gets("100", call="out")
    world.carrier.gets("INVITE", call="out")
    world.holds(inbound=1, forwarded=1)
    world.carrier.sends("486", call="out")
    world.carrier.gets("ACK", call="out")
    world.pbx.gets("486", call="out")
    world.pbx.sends("ACK", call="out")
    world.hangs_up(world.carrier, call="in")
