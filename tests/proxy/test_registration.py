"""The gate registers at a trunk (RFC 3261 §10.2): the binding is renewed in time, made anew when it is lost, and
taken back at the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.proxy.agent import Agent
from tests.proxy.challenge import ACCOUNT, SERVER, STALE, carries_none, challenge, check
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import DID, World
from tests.proxy.text import Text

from callgate.proxy.flow import Trouble
from callgate.proxy.trunk.registration import LONGEST, Registration, Wanted

WANTED = Wanted(b"sip:0312345678@sip.example.jp", 3600)
Registering = Callable[..., World]


@pytest.fixture
def registering(ladder: Ladder) -> Registering:
    """A world whose gate has begun to register, its dice always at 1/2."""

    def make(wanted: Wanted = WANTED, **options: object) -> World:
        world = ladder(register=wanted, **options)
        the(world).jitter = lambda: 0.5
        world.core.registrations.start(world.now)
        world.carries_out()
        return world

    return make


def the(world: World) -> Registration:
    return world.core.registrations.all[0]


def registered(world: World) -> float:
    return world.meters.values[world.meters.series("registered", "carrier")]


def alerts(world: World) -> list[str]:
    assert all((a.rule, a.trunk, a.key) == ("trunk-register", "carrier", "") for a in world.alerts)
    return ["over" if a.resolved else a.text.partition(": ")[2] for a in world.alerts]


def answers(
    world: World, code: int, *headers: str, expires: int | None = 3600, carrier: Agent | None = None
) -> Text:
    """The REGISTER that comes next, answered."""
    carrier = carrier or world.carrier
    register = carrier.gets("REGISTER")
    while carrier.inbox and carrier.inbox[0][1].data == register.data:
        carrier.gets("REGISTER")
    contact = register.get("contact").partition(";")[0]
    binding = [f"Contact: {contact};expires={expires}"] if code == 200 and expires is not None else []
    carrier.sends(f"{code} REGISTER", headers=[*binding, *headers])
    return register


def leaves(world: World, carrier: Agent | None = None) -> Text:
    """The gate goes down: the binding is taken back."""
    world.core.registrations.stop(world.now)
    world.carries_out()
    register = answers(world, 200, carrier=carrier, expires=0)
    assert register.get("expires") == "0"
    assert register.get("contact").endswith(";expires=0")
    assert not world.core.registrations.busy
    assert registered(world) == 0
    return register


def test_a_registration(registering: Registering) -> None:
    """§10.2: what it says; renewed before it ends, with the same Call-ID and a higher CSeq; taken back at the end."""
    world = registering()
    assert registered(world) == 0
    first = answers(world, 200)
    assert first.uri == "sip:sip.example.jp"
    assert first.get("to") == "<sip:0312345678@sip.example.jp>"
    assert first.get("from").startswith("<sip:0312345678@sip.example.jp>;tag=")
    assert first.get("contact") == "<sip:0312345678@127.0.0.1:5060>;expires=3600"
    assert first.get("expires") == "3600"
    assert first.get("cseq") == "1 REGISTER"
    carries_none(first)
    assert registered(world) == 1
    world.after(3600 * 0.75 - 1)
    assert not world.carrier.inbox
    world.after(2)
    second = answers(world, 200)
    assert second.get("cseq") == "2 REGISTER"
    assert second.call_id == first.call_id
    assert second.get("from") == first.get("from")
    assert second.branch != first.branch
    assert registered(world) == 1
    assert leaves(world).get("cseq") == "3 REGISTER"
    assert not world.alerts


@pytest.mark.parametrize(("dice", "early"), [(0.0, 0.7), (0.999, 0.8)])
def test_renewals_are_spread(registering: Registering, dice: float, early: float) -> None:
    world = registering()
    the(world).jitter = lambda: dice
    answers(world, 200, expires=1000)
    world.after(early * 1000 - 2)
    assert not world.carrier.inbox
    world.after(2.1)
    answers(world, 200)
    leaves(world)


def test_the_registrar_decides_how_long(registering: Registering) -> None:
    """§10.2.4: `expires` of our own Contact among others, else the least of them, else Expires, else what was asked."""
    world = registering()
    others = ("Contact: <sip:other@192.0.2.99>;expires=10", "Contact: rubbish;;<", "Contact: *")
    answers(world, 200, *others, expires=600)
    last = 600
    for headers, seconds in (
        (("Contact: <sip:rewritten@192.0.2.1>;expires=200", "Contact: <sip:x@192.0.2.2>;expires=400"), 200),
        (("Expires: 100",), 100),
        (("Expires: soon",), 3600),
        ((), 3600),
    ):
        world.after(0.75 * last + 0.1)
        answers(world, 200, *headers, expires=None)
        last = seconds
    world.after(0.75 * 3600 - 5)
    assert not world.carrier.inbox
    leaves(world)


def test_a_very_short_binding_is_no_flood(registering: Registering) -> None:
    world = registering()
    answers(world, 200, expires=1)
    world.after(4.9)
    assert registered(world) == 0
    assert not world.carrier.inbox
    world.after(0.2)
    answers(world, 200)
    assert registered(world) == 1
    leaves(world)


def test_a_binding_for_no_time_is_none(registering: Registering) -> None:
    world = registering()
    answers(world, 200, expires=0)
    assert registered(world) == 0
    assert alerts(world) == ["the binding is granted for no time"]
    world.core.registrations.stop(world.now)


@pytest.mark.parametrize(("code", "kind"), [(401, SERVER), (407, "Proxy")])
def test_it_answers_challenges(registering: Registering, code: int, kind: str) -> None:
    """§22: each REGISTER may be challenged, the last one too."""
    world = registering(account=ACCOUNT)
    first = answers(world, code, challenge("n1", kind=kind))
    carries_none(first)
    again = answers(world, 200)
    check(again, "n1", kind=kind)
    assert again.cseq == first.cseq + 1
    assert registered(world) == 1
    world.core.registrations.stop(world.now)
    world.carries_out()
    carries_none(answers(world, code, challenge("n2", kind=kind)))
    last = answers(world, 200, expires=0)
    check(last, "n2", kind=kind)
    assert last.get("expires") == "0"
    assert not world.core.registrations.busy


def test_a_stale_nonce(registering: Registering) -> None:
    world = registering(account=ACCOUNT)
    answers(world, 401, challenge("n1", kind=SERVER))
    check(answers(world, 401, challenge("n2", kind=SERVER, more=STALE)), "n1", kind=SERVER)
    check(answers(world, 200), "n2", kind=SERVER)
    leaves(world)


def test_credentials_that_are_refused(registering: Registering) -> None:
    """It tries again, ever more rarely: somebody may put the password right at the carrier."""
    world = registering(account=ACCOUNT)
    answers(world, 401, challenge("n1", kind=SERVER))
    answers(world, 401, challenge("n2", kind=SERVER))
    assert alerts(world) == ["the credentials are refused"]
    assert registered(world) == 0
    world.after(22)
    assert not world.carrier.inbox
    world.after(1)
    answers(world, 401, challenge("n3", kind=SERVER))
    check(answers(world, 200), "n3", kind=SERVER)
    assert alerts(world) == ["the credentials are refused", "over"]
    leaves(world)


def test_a_challenge_without_credentials(registering: Registering) -> None:
    world = registering()
    answers(world, 401, challenge(kind=SERVER))
    assert alerts(world) == ["the answer is 401"]
    world.core.registrations.stop(world.now)


def test_the_pauses_grow(registering: Registering) -> None:
    """RFC 5626 §4.5: 30 s, doubled up to 1800 s; here 3/4 of each. The alert is raised once."""
    world = registering()
    answers(world, 403)
    for pause in (30, 60, 120, 240, 480, 960, 1800, 1800, 1800):
        world.after(0.75 * pause - 0.1)
        assert not world.carrier.inbox, pause
        world.after(0.2)
        answers(world, 403)
    assert alerts(world) == ["the answer is 403"]
    world.after(0.75 * 1800 + 0.1)
    answers(world, 200)
    assert alerts(world)[1:] == ["over"]
    world.after(0.75 * 3600 + 0.1)
    answers(world, 403)  # and begin anew: the binding is still there
    assert alerts(world)[2:] == ["the answer is 403"]
    assert registered(world) == 1
    world.after(0.75 * 30 + 0.1)
    answers(world, 200)
    leaves(world)


def test_a_binding_that_cannot_be_renewed_ends(registering: Registering) -> None:
    """While there is one to save, tries come in time; at its end the gauge says 0."""
    world = registering()
    answers(world, 200, expires=100)
    world.after(75.1)
    tries = 0
    while registered(world):
        if world.carrier.inbox:
            answers(world, 503)
            tries += 1
        world.after(0.5)
        assert world.now < world.started + 101
    assert world.now - world.started >= 100
    assert tries >= 3
    assert alerts(world) == ["the answer is 503"]
    for code in (503, 200):
        for _ in range(61):
            if not world.carrier.inbox:
                world.after(1)
        answers(world, code)
    assert registered(world) == 1
    leaves(world)


@pytest.mark.parametrize(
    ("given", "pause"), [("100", 100), ("100 (busy);duration=5", 100), ("100000", 300), ("1", 22.5)]
)
def test_retry_after(registering: Registering, given: str, pause: float) -> None:
    """§20.33: heeded up to the trunk's bound; never sooner than the gate would by itself."""
    world = registering()
    answers(world, 503, f"Retry-After: {given}")
    world.after(pause - 0.2)
    assert not world.carrier.inbox
    world.after(0.4)
    answers(world, 200)
    leaves(world)


def test_longer_bindings_are_wanted(registering: Registering) -> None:
    """§10.2.8: 423 with Min-Expires."""
    world = registering()
    answers(world, 423, "Min-Expires: 7200")
    again = answers(world, 200, expires=7200)
    assert again.get("expires") == "7200"
    assert again.get("contact").endswith(";expires=7200")
    world.after(0.75 * 7200 - 1)
    assert not world.carrier.inbox
    world.after(2)
    assert answers(world, 200, expires=7200).get("expires") == "7200"
    leaves(world)


@pytest.mark.parametrize("least", ["", "3600", "100", f"{LONGEST + 1}", "9" * 40, "x"])
def test_longer_bindings_without_sense(registering: Registering, least: str) -> None:
    world = registering()
    answers(world, 423, f"Min-Expires: {least}")
    assert alerts(world) == ["the answer is 423"]
    world.core.registrations.stop(world.now)


def test_ever_longer_bindings(registering: Registering) -> None:
    """Once a turn: a registrar can't make the gate turn round."""
    world = registering()
    answers(world, 423, "Min-Expires: 4000")
    assert answers(world, 423, "Min-Expires: 5000").get("expires") == "4000"
    assert alerts(world) == ["the answer is 423"]
    world.after(23)
    assert answers(world, 200).get("expires") == "3600"
    leaves(world)


# -- several gateways -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [408, 500, 503, 504])
def test_the_next_gateway(registering: Registering, code: int) -> None:
    """What a gateway can't do, another may; the one that did is asked first from then on."""
    world = registering(gateways=2)
    one, two = world.gateways
    answers(world, code, carrier=one)
    answers(world, 200, carrier=two, expires=1000)
    assert registered(world) == 1
    assert not world.alerts
    world.after(751)
    answers(world, 200, carrier=two)
    leaves(world, two)
    one.gets_nothing()


@pytest.mark.parametrize("code", [403, 404, 600])
def test_a_refusal_is_not_taken_elsewhere(registering: Registering, code: int) -> None:
    """The same account would be refused there, and locked in the end."""
    world = registering(gateways=2)
    answers(world, code)
    world.gateways[1].gets_nothing()
    assert alerts(world) == [f"the answer is {code}"]
    world.core.registrations.stop(world.now)


def test_a_silent_gateway_is_left(registering: Registering) -> None:
    """After `try_seconds`; what it says later is too late."""
    world = registering(gateways=2, account=ACCOUNT)
    one, two = world.gateways
    first = one.gets("REGISTER")
    world.after(4.1)
    for _ in range(3):
        assert one.gets("REGISTER").data == first.data
    answers(world, 401, challenge("of two", kind=SERVER), carrier=two)
    one.sends("401 REGISTER", headers=[challenge("of one", kind=SERVER)])
    one.gets_nothing()
    check(answers(world, 200, carrier=two), "of two", kind=SERVER)
    leaves(world, two)


def test_all_gateways_fail(registering: Registering) -> None:
    world = registering(gateways=2)
    answers(world, 503)
    answers(world, 503, carrier=world.gateways[1])
    assert alerts(world) == ["the answer is 503"]
    world.after(23)
    world.unreachable(world.carrier.gets("REGISTER"))
    world.unreachable(world.gateways[1].gets("REGISTER"))
    world.after(46)
    answers(world, 200)
    assert alerts(world)[1:] == ["over"]
    leaves(world)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (401, "set `trunks.carrier.credentials`"),
        (403, "whether the account is active"),
        (404, "correct `trunks.carrier.register.aor`"),
        (405, "without `trunks.carrier.register`"),
        (423, "raise `trunks.carrier.register.expires`"),
        (302, "which `trunks.carrier.gateways` to use"),
        (503, "the carrier's registrar has trouble"),
    ],
)
def test_what_to_do_about_an_answer(registering: Registering, code: int, advice: str) -> None:
    world = registering()
    answers(world, code)
    (alert,) = world.alerts
    assert advice in alert.advice
    world.core.registrations.stop(world.now)


def test_what_to_do_about_a_password(registering: Registering) -> None:
    """One that is wrong, and a challenge that is not for this account."""
    world = registering(account=ACCOUNT)
    answers(world, 401, challenge("one", kind=SERVER))
    answers(world, 401, challenge("two", kind=SERVER))
    (alert,) = world.alerts
    assert alert.advice.startswith("the user or the password is wrong: compare `trunks.carrier.credentials`")
    world.core.registrations.stop(world.now)
    world = registering(account=ACCOUNT)
    answers(world, 401, 'WWW-Authenticate: Digest realm="x", nonce="n", algorithm=ROT13')
    (alert,) = world.alerts
    assert "can't answer" in alert.text
    assert "algorithm" in alert.advice
    world.core.registrations.stop(world.now)


def test_what_to_do_about_silence(registering: Registering) -> None:
    world = registering()
    world.after(32.1)
    world.carrier.inbox.clear()
    assert "firewall" in world.alerts[-1].advice
    world.core.registrations.stop(world.now)


def test_a_registration_that_can_t_be_sent_says_why(registering: Registering) -> None:
    world = registering()
    trouble = Trouble("TLS: its certificate has expired", "the peer must renew it")
    world.core.unreachable(world.carrier.gets("REGISTER").data, world.now, trouble)
    world.carries_out()
    (alert,) = world.alerts
    assert alert.text.endswith("it can't be reached: TLS: its certificate has expired")
    assert alert.advice == "the peer must renew it"
    world.core.registrations.stop(world.now)


def test_nobody_answers(registering: Registering) -> None:
    """Timer F."""
    world = registering()
    world.after(31.9)
    world.carrier.inbox.clear()
    assert not world.alerts
    world.after(0.2)
    assert alerts(world) == ["no answer"]
    world.after(23)
    answers(world, 200)
    leaves(world)


def test_a_gateway_that_is_down_is_asked_last(registering: Registering) -> None:
    world = registering(gateways=2)
    answers(world, 200, expires=100)
    health = world.trunk.gateways[0].site.targets[0].health
    assert health is not None
    health.down = True
    world.after(76)
    answers(world, 200, carrier=world.gateways[1])
    leaves(world, world.gateways[1])


# -- the end --------------------------------------------------------------------------------------------------------


def test_the_end_while_a_register_is_under_way(registering: Registering) -> None:
    """Its answer comes too late; the last word is the higher CSeq."""
    world = registering()
    first = world.carrier.gets("REGISTER")
    world.core.registrations.stop(world.now)
    world.carries_out()
    last = world.carrier.gets("REGISTER")
    assert (last.cseq, last.get("expires")) == (first.cseq + 1, "0")
    world.carrier.legs[last.call_id].got.remove(last)
    world.carrier.sends("200 REGISTER", headers=[f"Contact: {first.get('contact')}"])
    assert registered(world) == 0
    assert world.core.registrations.busy
    world.carrier.legs[last.call_id].got.append(last)
    world.carrier.sends("200 REGISTER")
    assert not world.core.registrations.busy


@pytest.mark.parametrize("code", [403, 503, 0])
def test_the_end_that_nobody_hears(registering: Registering, code: int) -> None:
    world = registering(gateways=2)
    answers(world, 200)
    world.core.registrations.stop(world.now)
    world.carries_out()
    if code:
        answers(world, code)
    else:
        world.carrier.gets("REGISTER")
        world.after(33)
        world.carrier.inbox.clear()
    assert not world.core.registrations.busy
    assert registered(world) == 0
    assert not world.alerts


def test_the_end_before_any_binding(registering: Registering) -> None:
    world = registering()
    answers(world, 403)
    world.core.registrations.stop(world.now)
    world.carries_out()
    world.after(60)
    world.carrier.gets_nothing()


# -- what it is for -------------------------------------------------------------------------------------------------


def test_calls_come_in_by_the_contact(registering: Registering) -> None:
    """The Request-URI is our Contact; whose DID is called stands in To."""
    world = registering()
    contact = answers(world, 200).get("contact")
    uri = contact[1:].partition(">")[0].replace("0312345678", "anybody")
    world.carrier.sends("INVITE", uri=uri, to=DID)
    world.carrier.gets("100")
    assert world.pbx.gets("INVITE").uri == "sip:anybody@192.0.2.10:5070"
    world.pbx.sends("486")
    world.pbx.gets("ACK")
    world.carrier.gets("486")
    world.carrier.sends("ACK")
    leaves(world)


def test_the_contact_over_tcp(registering: Registering) -> None:
    world = registering(carrier_over="TCP")
    register = answers(world, 200)
    assert register.get("contact") == "<sip:0312345678@127.0.0.1:5060;transport=tcp>;expires=3600"
    leaves(world)


def test_the_service_route(registering: Registering) -> None:
    """RFC 3608: new requests to the trunk carry it, while there is a binding; they still go to the gateway."""
    world = registering()
    answers(world, 200, "Service-Route: <sip:edge.example.jp;lr>, <sip:home.example.jp;lr>", expires=1000)
    wanted = ["<sip:edge.example.jp;lr>", "<sip:home.example.jp;lr>"]
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    assert world.carrier.gets("INVITE").all("route") == wanted
    world.carrier.sends("486 INVITE")
    assert world.carrier.gets("ACK").all("route") == wanted
    world.pbx.gets("486")
    world.pbx.sends("ACK")
    world.pbx.sends("MESSAGE")
    assert world.carrier.gets("MESSAGE").all("route") == wanted
    world.carrier.sends("200 MESSAGE")
    world.pbx.gets("200 MESSAGE")
    world.after(750.1)
    answers(world, 200)
    world.pbx.sends("MESSAGE")
    assert world.carrier.gets("MESSAGE").all("route") == []
    world.carrier.sends("200 MESSAGE")
    world.pbx.gets("200 MESSAGE")
    leaves(world)


def test_a_service_route_without_end_is_left_out(registering: Registering) -> None:
    world = registering()
    answers(world, 200, *[f"Service-Route: <sip:{'x' * 60}{n};lr>" for n in range(40)])
    assert world.trunk.service_route == b""
    leaves(world)


def test_answers_from_elsewhere_are_nothing(registering: Registering) -> None:
    world = registering()
    register = world.carrier.gets("REGISTER")
    world.carrier.sends("200 REGISTER", lost=True)
    forged = world.carrier.legs[register.call_id].sent[-1].data
    world.stranger.transmits(forged)
    assert registered(world) == 0
    world.carrier.transmits(forged)
    assert registered(world) == 1
    leaves(world)


def test_no_two_registrations_share_a_name(ladder: Ladder) -> None:
    """Call-ID and tag are the registration's own, at each start (§10.2)."""
    names = set()
    for _ in range(2):
        world = ladder(register=WANTED)
        world.core.registrations.start(world.now)
        world.carries_out()
        register = answers(world, 403)
        names.add((register.call_id, register.from_tag))
        world.core.registrations.stop(world.now)
    assert len(names) == 2
