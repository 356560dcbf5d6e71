"""The gate answers the trunk's 401 and 407 with its own credentials (RFC 3261 §22), and keeps the numbers of the PBX
and of the trunk apart from then on."""

from __future__ import annotations

import pytest
from tests.proxy import callers
from tests.proxy.agent import Agent
from tests.proxy.callers import again, knows
from tests.proxy.challenge import (
    ACCOUNT,
    PROXY,
    SERVER,
    STALE,
    USER,
    carries_none,
    challenge,
    check,
    credentials,
)
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World
from tests.proxy.text import Text

from callgate.proxy.trunk.login import Account


@pytest.fixture
def world(ladder: Ladder) -> World:
    return ladder(account=ACCOUNT)


def challenged(world: World, code: int = 407, *headers: str, carrier: Agent | None = None) -> Text:
    """A call goes out and is challenged: the INVITE that answers."""
    carrier = carrier or world.carrier
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    carries_none(carrier.gets("INVITE"))
    carrier.sends(str(code), headers=headers or [challenge()])
    carrier.gets("ACK")
    return carrier.gets("INVITE")


def answered(world: World) -> Text:
    """A call is up whose INVITE was challenged: the ACK of its 2xx."""
    challenged(world)
    world.carrier.sends("200")
    assert world.pbx.gets("200").cseq == 1
    world.pbx.sends("ACK")
    return world.carrier.gets("ACK")


def asks_again(world: World, what: str, nonce: str) -> Text:
    """The request that came last is challenged: the one that answers."""
    world.carrier.sends(f"407 {what}", headers=[challenge(nonce)])
    if what.endswith("INVITE"):
        world.carrier.gets("ACK")
    return world.carrier.gets(what)


@pytest.mark.parametrize(("code", "kind"), [(407, PROXY), (401, SERVER)])
def test_a_call_with_credentials(world: World, code: int, kind: str) -> None:
    """§22.2, §22.3: same Call-ID, From and Request-URI, a new branch, CSeq + 1, and the right answer."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    first = world.carrier.gets("INVITE")
    world.carrier.sends(str(code), headers=[challenge(kind=kind)])
    ack = world.carrier.gets("ACK")
    assert ack.branch == first.branch
    assert ack.cseq == 1
    again = world.carrier.gets("INVITE")
    assert (again.cseq, again.uri, again.call_id) == (2, first.uri, first.call_id)
    assert again.get("from") == first.get("from")
    assert again.to_tag == ""
    assert again.body == first.body
    assert again.branch != first.branch
    check(again, kind=kind)
    world.carrier.sends("180")
    assert world.pbx.gets("180").cseq == 1
    world.carrier.sends("200")
    assert world.pbx.gets("200").cseq == 1
    world.pbx.sends("ACK")
    assert world.carrier.gets("ACK").cseq == 2
    world.holds(outbound=1)
    world.hangs_up()
    world.holds_nothing()
    record = world.record()
    assert (record.outcome, record.attempts, record.final_code) == ("answered", 1, 200)


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "SHA-512-256"])
def test_each_algorithm(world: World, algorithm: str) -> None:
    check(challenged(world, 407, challenge(algorithm=algorithm)), algorithm=algorithm)
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    assert world.pbx.gets("486").cseq == 1
    world.pbx.sends("ACK")


def test_the_strongest_of_several_algorithms(world: World) -> None:
    """RFC 8760 §2.4, the same realm with several: one answer."""
    both = (challenge("md"), challenge("sha", algorithm="SHA-256"))
    check(challenged(world, 407, *both), "sha", algorithm="SHA-256")
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_a_call_that_is_challenged_takes_one_token(ladder: Ladder) -> None:
    """The carrier has seen the call: V1 counts it once."""
    world = ladder(account=ACCOUNT, cps=1)
    challenged(world)
    assert world.gauge("calls_active", "outbound") == 1
    world.pbx.sends("INVITE", call="second")
    world.settle()
    assert [t.code for t in world.pbx.takes_refusals()] == [503]
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_copies_of_the_second_invite_need_no_token(ladder: Ladder) -> None:
    """Timer A goes on, whatever the rate: the call is known to the carrier."""
    world = ladder(account=ACCOUNT, cps=1)
    again = challenged(world)
    world.after(4.0)
    copies = [world.carrier.gets("INVITE") for _ in range(3)]
    assert all(copy.data == again.data for copy in copies)
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_the_numbers_of_the_whole_dialog(world: World) -> None:
    """What the PBX numbers n leaves as n + 1: re-INVITE and its ACK, UPDATE, INFO, BYE. Answers have n again."""
    ack = answered(world)
    check(
        ack, method="INVITE", uri=credentials(ack)[0]["uri"]
    )  # §22.1: the ACK repeats what the INVITE carried
    assert ack.cseq == 2
    world.pbx.sends("INFO")
    assert world.carrier.gets("INFO").cseq == 3
    world.carrier.sends("200 INFO")
    assert world.pbx.gets("200 INFO").cseq == 2
    world.pbx.sends("re-INVITE")
    assert world.pbx.gets("100").cseq == 3
    assert world.carrier.gets("re-INVITE").cseq == 4
    world.carrier.sends("200 re-INVITE")
    assert world.pbx.gets("200").cseq == 3
    world.pbx.sends("ACK")
    assert world.carrier.gets("ACK").cseq == 4
    world.pbx.sends("UPDATE")
    assert world.carrier.gets("UPDATE").cseq == 5
    world.carrier.sends("200 UPDATE")
    assert world.pbx.gets("200 UPDATE").cseq == 4
    world.pbx.sends("BYE")
    assert world.carrier.gets("BYE").cseq == 6
    world.carrier.sends("200 BYE")
    assert world.pbx.gets("200 BYE").cseq == 5
    world.holds_nothing()


def test_each_further_challenge_raises_the_numbers(world: World) -> None:
    answered(world)
    world.pbx.sends("re-INVITE")
    world.pbx.gets("100")
    assert world.carrier.gets("re-INVITE").cseq == 3
    again = asks_again(world, "re-INVITE", "n2")
    assert again.cseq == 4
    check(again, "n2")
    world.carrier.sends("200 re-INVITE")
    assert world.pbx.gets("200").cseq == 2
    world.pbx.sends("ACK")
    ack = world.carrier.gets("ACK")
    assert ack.cseq == 4
    check(ack, "n2", method="INVITE", uri=credentials(ack)[0]["uri"])
    world.pbx.sends("UPDATE")
    assert world.carrier.gets("UPDATE").cseq == 5
    again = asks_again(world, "UPDATE", "n3")
    assert again.cseq == 6
    check(again, "n3")
    world.carrier.sends("200 UPDATE")
    assert world.pbx.gets("200 UPDATE").cseq == 3
    world.pbx.sends("BYE")
    assert world.carrier.gets("BYE").cseq == 7
    again = asks_again(world, "BYE", "n4")
    assert again.cseq == 8
    check(again, "n4")
    world.holds(outbound=1)
    world.carrier.sends("200 BYE")
    assert world.pbx.gets("200 BYE").cseq == 4
    world.holds_nothing()


def test_a_late_copy_of_an_ack_keeps_its_number(world: World) -> None:
    """The carrier repeats the 2xx of an INVITE after later requests have raised the numbers."""
    answered(world)
    world.pbx.sends("INFO")
    world.carrier.gets("INFO")
    assert asks_again(world, "INFO", "n2").cseq == 4
    world.carrier.sends("200 INFO")
    world.pbx.gets("200 INFO")
    world.carrier.repeats("200 INVITE")
    assert world.pbx.gets("200 INVITE").cseq == 1
    world.pbx.repeats("ACK")
    assert world.carrier.gets("ACK").cseq == 2
    world.hangs_up()


def test_two_requests_at_once_one_of_them_challenged(world: World) -> None:
    """The copy with credentials has a number above both, and what comes after is higher still."""
    answered(world)
    world.pbx.sends("INFO", body=b"1")
    world.pbx.sends("UPDATE")
    assert [world.carrier.gets(w).cseq for w in ("INFO", "UPDATE")] == [3, 4]
    world.carrier.sends("407 INFO", headers=[challenge("n2")])
    assert world.carrier.gets("INFO").cseq == 5
    world.carrier.sends("200 UPDATE")
    assert world.pbx.gets("200 UPDATE").cseq == 3
    world.carrier.sends("200 INFO")
    assert world.pbx.gets("200 INFO").cseq == 2
    world.pbx.sends("BYE")
    assert world.carrier.gets("BYE").cseq > 5
    world.carrier.sends("200 BYE")
    assert world.pbx.gets("200 BYE").cseq == 4


def test_prack_names_the_invite_as_the_trunk_knows_it(world: World) -> None:
    """RFC 3262 §7.2: RAck is RSeq, and the CSeq of the INVITE."""
    challenged(world)
    world.carrier.sends("183", headers=["Require: 100rel", "RSeq: 7"])
    assert world.pbx.gets("183").cseq == 1
    world.pbx.sends("PRACK", headers=["RAck: 7 1 INVITE"])
    prack = world.carrier.gets("PRACK")
    assert (prack.cseq, prack.get("rack")) == (3, "7 2 INVITE")
    again = asks_again(world, "PRACK", "n2")
    assert (again.cseq, again.get("rack")) == (4, "7 2 INVITE")
    check(again, "n2")
    world.carrier.sends("200 PRACK")
    assert world.pbx.gets("200 PRACK").cseq == 2
    world.carrier.sends("200 INVITE")
    world.pbx.gets("200 INVITE")
    world.pbx.sends("ACK")
    assert world.carrier.gets("ACK").cseq == 2
    world.pbx.sends("BYE")
    assert world.carrier.gets("BYE").cseq == 5
    world.carrier.sends("200 BYE")
    world.pbx.gets("200 BYE")


def test_a_rack_that_cannot_be_read_passes_as_it_is(world: World) -> None:
    challenged(world)
    world.carrier.sends("183", headers=["RSeq: 7"])
    world.pbx.gets("183")
    for number, rack in enumerate(("7 one INVITE", "7", "7 1 OPTIONS", "7 99999999999 INVITE"), 3):
        world.pbx.sends("PRACK", headers=[f"RAck: {rack}"])
        prack = world.carrier.gets("PRACK")
        assert (prack.cseq, prack.get("rack")) == (number, rack)
        world.carrier.sends("400 PRACK")
        world.pbx.gets("400 PRACK")
    world.carrier.sends("486 INVITE")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_what_the_carrier_numbers_is_its_own(world: World) -> None:
    answered(world)
    world.carrier.sends("UPDATE")
    assert world.pbx.gets("UPDATE").cseq == 1
    world.pbx.sends("200 UPDATE")
    assert world.carrier.gets("200 UPDATE").cseq == 1
    world.hangs_up(world.carrier)
    world.holds_nothing()


def test_an_inbound_call(world: World) -> None:
    """The PBX's requests in a call of the trunk: nothing is raised until one is challenged."""
    world.talks(world.carrier)
    world.pbx.sends("re-INVITE")
    world.pbx.gets("100")
    assert world.carrier.gets("re-INVITE").cseq == 1
    again = asks_again(world, "re-INVITE", "n1")
    assert again.cseq == 2
    check(again)
    world.carrier.sends("200 re-INVITE")
    assert world.pbx.gets("200").cseq == 1
    world.pbx.sends("ACK")
    assert world.carrier.gets("ACK").cseq == 2
    world.pbx.sends("BYE")
    assert world.carrier.gets("BYE").cseq == 3
    world.carrier.sends("200 BYE")
    assert world.pbx.gets("200 BYE").cseq == 2
    world.holds_nothing()


# -- CANCEL -----------------------------------------------------------------------------------------------------


def test_cancel_before_the_challenge(world: World) -> None:
    """The caller has gone: its INVITE does not go once more."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.sends("407", headers=[challenge()])
    world.carrier.gets("ACK")
    assert world.pbx.gets("487").cseq == 1
    world.pbx.sends("ACK")
    world.holds_nothing()
    assert world.record().outcome == "cancelled"


def test_cancel_after_the_challenge(world: World) -> None:
    """§9.1: the CANCEL has the number and the branch of the INVITE that it is for."""
    again = challenged(world)
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.sends("180")
    assert world.pbx.gets("180").cseq == 1
    cancel = world.carrier.gets("CANCEL")
    assert (cancel.cseq, cancel.branch) == (2, again.branch)
    carries_none(cancel)
    world.carrier.sends("200 CANCEL")
    world.carrier.sends("487 INVITE")
    assert world.carrier.gets("ACK").cseq == 2
    assert world.pbx.gets("487").cseq == 1
    world.pbx.sends("ACK")
    world.holds_nothing()


def test_a_2xx_that_beats_the_cancel(world: World) -> None:
    challenged(world)
    world.carrier.sends("180")
    world.pbx.gets("180")
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 INVITE")
    assert world.pbx.gets("200 INVITE").cseq == 1
    world.pbx.sends("ACK")
    assert world.carrier.gets("ACK").cseq == 2
    world.carrier.sends("481 CANCEL")
    world.holds(outbound=1)
    world.hangs_up()
    world.holds_nothing()


def test_a_re_invite_is_cancelled_before_its_challenge(world: World) -> None:
    answered(world)
    world.pbx.sends("re-INVITE")
    world.pbx.gets("100")
    world.carrier.gets("re-INVITE")
    world.pbx.sends("CANCEL")
    world.pbx.gets("200 CANCEL")
    world.carrier.sends("407 re-INVITE", headers=[challenge("n2")])
    world.carrier.gets("ACK")
    assert world.pbx.gets("487").cseq == 2
    world.pbx.sends("ACK")
    world.hangs_up()


# -- challenges that go no further, or to the PBX ---------------------------------------------------------------


def refused(world: World) -> None:
    """The PBX hears that nobody lets the gate in."""
    got = world.pbx.gets("403 INVITE")
    assert got.cseq == 1
    assert "credentials" in got.get("warning")
    assert not got.has("proxy-authenticate")
    assert not got.has("www-authenticate")
    world.pbx.sends("ACK")
    raised = [a for a in world.alerts if not a.resolved]
    assert [(a.rule, a.severity, a.trunk, a.key) for a in raised] == [
        ("trunk-credentials", "critical", "carrier", "")
    ]
    assert "open sesame" not in raised[0].text


def test_credentials_that_are_refused(world: World) -> None:
    """A second challenge for the same realm: the PBX can do nothing about it."""
    challenged(world)
    world.carrier.sends("407", headers=[challenge("n2")])
    world.carrier.gets("ACK")
    refused(world)
    world.holds_nothing()
    assert (world.record().final_code, world.record().outcome, world.record().ended_by) == (
        403,
        "failed",
        "callee",
    )
    assert world.core.counts._meters.values[
        world.meters.series("alerts_active", "trunk-credentials", "", "critical")
    ]


def test_a_stale_nonce_has_one_more_try(world: World) -> None:
    challenged(world)
    world.carrier.sends("407", headers=[challenge("n2", more=STALE)])
    world.carrier.gets("ACK")
    again = world.carrier.gets("INVITE")
    assert again.cseq == 3
    check(again, "n2")
    world.carrier.sends("407", headers=[challenge("n3", more=STALE)])
    world.carrier.gets("ACK")
    refused(world)


def test_two_realms_one_after_the_other(world: World) -> None:
    """A proxy lets the gate through, the server behind it asks for itself: both answers are carried (§22.3)."""
    check(challenged(world))
    world.carrier.sends("401", headers=[challenge("s1", realm="server", kind=SERVER)])
    world.carrier.gets("ACK")
    again = world.carrier.gets("INVITE")
    assert again.cseq == 3
    check(again, nc="00000002")
    check(again, "s1", realm="server", kind=SERVER)
    world.carrier.sends("200")
    assert world.pbx.gets("200").cseq == 1
    world.pbx.sends("ACK")
    assert world.carrier.gets("ACK").cseq == 3
    world.hangs_up()


def test_two_realms_at_once(world: World) -> None:
    both = [challenge("a", realm="one"), challenge("b", realm="two")]
    again = challenged(world, 407, *both)
    check(again, "a", realm="one")
    check(again, "b", realm="two")
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_a_carrier_that_always_finds_another_realm(world: World) -> None:
    """However many it thinks of, there is an end."""
    challenged(world, 407, challenge(realm="realm 0"))
    for n in range(1, 6):
        world.carrier.sends("407", headers=[challenge(realm=f"realm {n}")])
        world.carrier.gets("ACK")
        assert world.carrier.gets("INVITE").cseq == n + 2
    world.carrier.sends("407", headers=[challenge(realm="realm 7")])
    world.carrier.gets("ACK")
    refused(world)


def passes_up(world: World, *headers: str, invite: tuple[str, ...] = ()) -> Text:
    """A challenge that is the PBX's to answer."""
    world.pbx.sends("INVITE", headers=invite)
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("407", headers=headers)
    world.carrier.gets("ACK")
    got = world.pbx.gets("407")
    assert got.cseq == 1
    world.pbx.sends("ACK")
    assert not world.alerts
    return got


@pytest.mark.parametrize(
    "header",
    [
        challenge(algorithm="SHA3-512"),
        challenge(more=', qop="auth-int"'),
        'Proxy-Authenticate: Basic realm="carrier.example"',
        'Proxy-Authenticate: Digest realm="carrier.example"',
        "Proxy-Authenticate: Digest",
        "X-Nothing: here",
    ],
)
def test_a_challenge_that_cannot_be_answered_passes_up(world: World, header: str) -> None:
    passes_up(world, header)
    world.holds_nothing()


def test_a_challenge_of_another_realm_passes_up(ladder: Ladder) -> None:
    world = ladder(account=Account(USER, "open sesame", "carrier.example"))
    passes_up(world, challenge(realm="elsewhere"))


def test_only_the_configured_realm_is_answered(ladder: Ladder) -> None:
    """The other realm is the PBX's: it hears of it when ours is done, and its answer goes on from the numbers that the
    trunk has seen."""
    world = ladder(account=Account(USER, "open sesame", "carrier.example"))
    again = challenged(world, 407, challenge(), challenge("x", realm="elsewhere"))
    check(again)
    assert len(credentials(again)) == 1
    world.carrier.sends("407", headers=[challenge("y", realm="elsewhere")])
    world.carrier.gets("ACK")
    got = world.pbx.gets("407")
    assert got.cseq == 1
    assert "elsewhere" in got.get("proxy-authenticate")
    world.pbx.sends("ACK")
    own = 'Proxy-Authorization: Digest username="pbx", realm="elsewhere", nonce="y", uri="x", response="0"'
    change = {"call-id": got.call_id, "from": got.get("from"), "cseq": "2 INVITE"}
    world.pbx.sends("INVITE", headers=[own], change=change)
    world.pbx.gets("100")
    third = world.carrier.gets("INVITE")
    assert third.cseq == 3
    assert third.all("proxy-authorization") == [own.partition(": ")[2]]
    world.carrier.sends("407", headers=[challenge("z")])
    world.carrier.gets("ACK")
    fourth = world.carrier.gets("INVITE")
    assert fourth.cseq == 4
    assert len(credentials(fourth)) == 2
    check(fourth, "z")
    world.carrier.sends("200")
    assert world.pbx.gets("200").cseq == 2
    world.pbx.sends("ACK")
    assert world.carrier.gets("ACK").cseq == 4
    world.hangs_up()
    assert world.store.asked == 2  # a call each, and no token for what the carrier had seen


def test_credentials_of_the_pbx_stay_its_own(world: World) -> None:
    """§22.3: for a realm that the PBX has answered itself, the gate keeps out of it."""
    own = 'Proxy-Authorization: Digest username="pbx", realm="carrier.example", nonce="old", uri="x", response="0"'
    passes_up(world, challenge(), invite=(own,))


def test_credentials_for_the_gate_itself_are_not_the_trunks(world: World) -> None:
    """A digest user of the gate, where the trunk happens to name the same realm: what was for the gate went no
    further, so the trunk's challenge is still the gate's to answer."""
    knows(world)
    phone = world.stranger
    first = phone.sends("INVITE")
    asked = phone.gets("407")
    phone.sends("ACK")
    again(phone, first, callers.credentials(asked, "INVITE", first.uri))
    phone.gets("100")
    invite = world.carrier.gets("INVITE")
    assert invite.cseq == 2
    assert not credentials(invite)
    world.carrier.sends("407", headers=[challenge(realm=callers.REALM)])
    world.carrier.gets("ACK")
    answer = world.carrier.gets("INVITE")
    assert answer.cseq == 3
    check(answer, realm=callers.REALM)
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    assert phone.gets("486").cseq == 2
    phone.sends("ACK")


def test_a_trunk_without_credentials_challenges_the_pbx(ladder: Ladder) -> None:
    passes_up(ladder(), challenge())


def test_a_retry_of_the_pbx_goes_on_from_the_numbers_that_the_trunk_has_seen(world: World) -> None:
    """422, 421, 415: the PBX changes its INVITE and sends it with CSeq + 1, which the trunk has had already."""
    again = challenged(world)
    assert again.cseq == 2
    world.carrier.sends("422", headers=["Min-SE: 1800"])
    world.carrier.gets("ACK")
    got = world.pbx.gets("422")
    world.pbx.sends("ACK")
    change = {"call-id": got.call_id, "from": got.get("from"), "cseq": "2 INVITE"}
    world.pbx.sends("INVITE", change=change)
    world.pbx.gets("100")
    assert world.carrier.gets("INVITE").cseq == 3
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    assert world.pbx.gets("486").cseq == 2
    world.pbx.sends("ACK")


# -- where challenges come from ----------------------------------------------------------------------------------


def test_a_forged_challenge_is_nothing(world: World) -> None:
    """From an address that is not the carrier's, though it knows the branch."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    invite = world.carrier.gets("INVITE")
    forged = Text(
        "\r\n".join(
            [
                "SIP/2.0 407 Answer",
                *(f"Via: {via}" for via in invite.all("via")),
                f"From: {invite.get('from')}",
                f"To: {invite.get('to')};tag=forged",
                f"Call-ID: {invite.call_id}",
                f"CSeq: {invite.get('cseq')}",
                challenge("forged"),
                "Content-Length: 0",
                "",
                "",
            ]
        ).encode()
    )
    world.stranger.transmits(forged.data)
    world.settle()
    assert world.rejected("response from elsewhere") == 1
    assert not world.carrier.inbox
    assert not world.stranger.inbox
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_a_repeated_challenge_is_acknowledged_again_and_answered_once(world: World) -> None:
    """§17.1.1.2: what answers the copies is the transaction."""
    challenged(world)
    world.carrier.repeats("407")
    assert world.carrier.gets("ACK").cseq == 1
    world.carrier.gets_nothing()
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_a_challenge_after_ringing(world: World) -> None:
    """A 183 of a proxy on the way, then the one behind it asks: the early dialog is given up for a new one."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("183", tag="first")
    world.pbx.gets("183")
    world.carrier.sends("407", tag="first", headers=[challenge()])
    world.carrier.gets("ACK")
    check(world.carrier.gets("INVITE"))
    world.carrier.sends("180", tag="second")
    assert world.pbx.gets("180").cseq == 1
    world.carrier.sends("200", tag="second")
    world.pbx.gets("200")
    world.pbx.sends("ACK", tag="second")
    assert world.carrier.gets("ACK").cseq == 2
    world.holds(outbound=1)
    world.pbx.sends("BYE", tag="second")
    assert world.carrier.gets("BYE").cseq == 3
    world.carrier.sends("200 BYE")
    world.pbx.gets("200 BYE")
    world.holds_nothing()


def test_the_next_gateway_has_its_own_challenge(ladder: Ladder) -> None:
    """The numbers go on: no gateway sees them go back. The credentials for one are not shown to the other."""
    world = ladder(account=ACCOUNT, gateways=2)
    one, two = world.gateways
    challenged(world)
    one.sends("503")
    one.gets("ACK")
    first = two.gets("INVITE")
    carries_none(first)
    assert first.cseq == 2
    two.sends("407", headers=[challenge("of two")])
    assert two.gets("ACK").cseq == 2
    again = two.gets("INVITE")
    assert again.cseq == 3
    check(again, "of two")
    two.sends("200")
    assert world.pbx.gets("200").cseq == 1
    world.pbx.sends("ACK")
    assert two.gets("ACK").cseq == 3
    world.pbx.sends("BYE")
    assert two.gets("BYE").cseq == 4
    two.sends("200 BYE")
    world.pbx.gets("200 BYE")
    assert world.record().attempts == 2


def test_a_prack_names_the_invite_of_the_gateway_that_it_goes_to(ladder: Ladder) -> None:
    """RFC 3262 §7.2: each gateway knows the call by a number of its own. The PBX acknowledges what the first one has
    said when the second has rung already."""
    world = ladder(account=ACCOUNT, gateways=2)
    one, two = world.gateways
    challenged(world)
    one.sends("183", tag="one", headers=["Require: 100rel", "RSeq: 7"])
    world.pbx.gets("183")
    one.sends("503 INVITE")
    one.gets("ACK")
    assert two.gets("INVITE").cseq == 2
    two.sends("407", headers=[challenge("of two")])
    two.gets("ACK")
    assert two.gets("INVITE").cseq == 3
    two.sends("183", tag="two", headers=["Require: 100rel", "RSeq: 9"])
    world.pbx.gets("183")
    world.pbx.sends("PRACK", tag="one", headers=["RAck: 7 1 INVITE"])
    late = one.gets("PRACK")
    assert (late.cseq, late.get("rack")) == (4, "7 2 INVITE")
    one.sends("481 PRACK")
    world.pbx.gets("481 PRACK")
    world.pbx.sends("PRACK", tag="two", headers=["RAck: 9 1 INVITE"])
    prack = two.gets("PRACK")
    assert prack.cseq > 3
    assert prack.get("rack") == "9 3 INVITE"
    two.sends("200 PRACK")
    world.pbx.gets("200 PRACK")
    two.sends("200 INVITE", tag="two")
    world.pbx.gets("200 INVITE")
    world.pbx.sends("ACK")
    assert two.gets("ACK").cseq == 3
    world.pbx.sends("BYE")
    two.gets("BYE")
    two.sends("200 BYE")
    world.pbx.gets("200 BYE")


def test_a_prack_to_the_first_gateway_while_the_second_is_not_challenged_yet(ladder: Ladder) -> None:
    """The INVITE that left last is not the one that was answered."""
    world = ladder(account=ACCOUNT, gateways=2)
    one, two = world.gateways
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    one.gets("INVITE")
    one.sends("183", tag="one", headers=["Require: 100rel", "RSeq: 7"])
    world.pbx.gets("183")
    one.sends("503 INVITE")
    one.gets("ACK")
    two.gets("INVITE")
    two.sends("407", headers=[challenge("of two")])
    two.gets("ACK")
    assert two.gets("INVITE").cseq == 2
    world.pbx.sends("PRACK", tag="one", headers=["RAck: 7 1 INVITE"])
    assert one.gets("PRACK").get("rack") == "7 1 INVITE"
    one.sends("481 PRACK")
    world.pbx.gets("481 PRACK")
    two.sends("486 INVITE")
    two.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_a_gateway_that_challenges_and_falls_silent(ladder: Ladder) -> None:
    world = ladder(account=ACCOUNT, gateways=2)
    one, two = world.gateways
    challenged(world)
    world.after(4.5)
    for _ in range(3):
        one.gets("INVITE")
    carries_none(two.gets("INVITE"))
    one.sends("407", headers=[challenge("late")])  # of the second INVITE, which was left
    one.gets("ACK")
    one.gets_nothing()
    two.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    assert two.gets("ACK").cseq == 2
    world.pbx.sends("BYE")
    assert two.gets("BYE").cseq == 3
    two.sends("200 BYE")
    world.pbx.gets("200 BYE")


def test_a_late_answer_of_the_gateway_that_was_left_has_its_own_number(ladder: Ladder) -> None:
    """RFC 6026: a 2xx of the first copy goes up, and its ACK has that copy's number."""
    world = ladder(account=ACCOUNT, gateways=2)
    one, two = world.gateways
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    one.gets("INVITE")
    world.after(4.2)
    for _ in range(3):
        one.gets("INVITE")
    two.gets("INVITE")
    two.sends("407", headers=[challenge()])
    two.gets("ACK")
    assert two.gets("INVITE").cseq == 2
    one.sends("200", tag="late")
    assert world.pbx.gets("200").cseq == 1
    world.pbx.sends("ACK")
    assert one.gets("ACK").cseq == 1
    two.sends("100")
    two.gets("CANCEL")
    two.sends("200 CANCEL")
    two.sends("487 INVITE")
    two.gets("ACK")
    world.pbx.sends("BYE")
    assert one.gets("BYE").cseq >= 2
    one.sends("200 BYE")
    world.pbx.gets("200 BYE")


def test_a_target_that_is_no_gateway_gets_no_credentials(world: World) -> None:
    """The carrier's Contact leads in-dialog requests elsewhere: who is there may challenge, and the PBX hears it."""
    challenged(world)
    elsewhere = world.stranger
    contact = {"contact": f"<sip:x@{elsewhere.sent_by}>", "record-route": None}
    world.carrier.sends("200", change=contact)
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    ack = elsewhere.gets("ACK")
    assert ack.cseq == 2
    elsewhere.legs = world.carrier.legs
    world.pbx.sends("INFO")
    carries_none(elsewhere.gets("INFO"))
    elsewhere.sends("407 INFO", headers=[challenge("bait")])
    assert world.pbx.gets("407 INFO").cseq == 2
    elsewhere.gets_nothing()
    world.hangs_up(world.carrier)


def test_a_redirect_is_not_followed(world: World) -> None:
    """A 3xx passes up: nobody else is shown anything."""
    challenged(world)
    world.carrier.sends("302", headers=["Contact: <sip:x@203.0.113.66>"])
    world.carrier.gets("ACK")
    got = world.pbx.gets("302")
    assert got.cseq == 1
    world.pbx.sends("ACK")
    world.stranger.gets_nothing()
