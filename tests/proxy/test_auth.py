"""Digest users (RFC 3261 §22, RFC 7616, RFC 8760): who is challenged, what an answer is worth, and what of it goes on.

The phone is the stranger of the ladders: an address that is nobody's.
"""

from __future__ import annotations

import pytest
from tests.proxy.callers import (
    HEADER,
    REALM,
    SECRET,
    again,
    answers,
    calls,
    challenges,
    credentials,
    knows,
    other_key,
)
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import DIALLED, World
from tests.proxy.text import Text

from callgate.proxy.flow import Flow
from callgate.sip.digest import Algorithm

METHODS = ["INVITE", "OPTIONS", "REGISTER", "MESSAGE", "SUBSCRIBE", "PUBLISH", "FOO"]


def hangs_up(world: World) -> None:
    """The phone's BYE, over its own flow: nobody asks it for a password."""
    phone = world.stranger
    phone.sends("BYE")
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE")
    phone.gets("200 BYE")


def is_let_in(world: World, request: Text, answer: str = "486") -> None:
    """What the phone has sent goes to the carrier, which answers it."""
    phone = world.stranger
    phone.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends(answer)
    world.carrier.gets("ACK")
    phone.gets(answer)
    phone.sends("ACK")


def is_challenged(world: World, *, stale: bool = False) -> Text:
    phone = world.stranger
    asked = phone.gets("407")
    assert [c.get("stale", "false") for c in challenges(asked)] == ["true" if stale else "false"] * len(
        challenges(asked)
    )
    if asked.method == "INVITE":
        phone.sends("ACK")
    # Nothing is kept of who was not let in: what there is, is another call's.
    assert asked.branch not in {branch.decode() for _, _, branch in world.core.layer.servers}
    return asked


# -- the challenge -------------------------------------------------------------------------------------


def test_a_call_after_a_challenge(world: World) -> None:
    """The whole ladder: 407, ACK, again with credentials, and a call like any other."""
    knows(world)
    invite = calls(world, world.stranger)
    assert not invite.has("proxy-authorization")
    world.holds(outbound=1)
    hangs_up(world)
    assert world.record().key == "acme"
    assert world.rejected("no credentials") == 1
    assert world.rejected("unknown source") == 0


@pytest.mark.parametrize("method", METHODS)
def test_whoever_shows_nothing_is_challenged(any_world: World, method: str) -> None:
    """interface.md: no key: 407, to a REGISTER 401, if any key has digest users. Nothing is kept, claimed, recorded."""
    world = knows(any_world)
    world.stranger.sends(method, inside=False)
    asked = world.stranger.gets("401" if method == "REGISTER" else "407")
    (challenge,) = challenges(asked)
    assert challenge["realm"] == REALM
    assert challenge["qop"] == "auth"
    assert challenge["algorithm"] == "SHA-256"
    assert "stale" not in challenge
    assert challenge["nonce"]
    if method == "INVITE":
        world.stranger.sends("ACK")
    assert not world.core.layer.servers
    assert not world.records
    assert not world.alerts
    assert world.store.asked == 0
    names = {name for name, _ in asked.headers} - {"www-authenticate", "proxy-authenticate"}
    assert names == {"via", "from", "to", "call-id", "cseq", "content-length"}


def test_without_digest_users_it_is_refused(any_world: World) -> None:
    world = knows(any_world, users=(), header=True)
    world.stranger.sends("MESSAGE")
    world.stranger.gets("403")


@pytest.mark.parametrize(
    ("configured", "offered"),
    [
        (["MD5"], ["MD5"]),
        (["SHA-256"], ["SHA-256"]),
        (["MD5", "SHA-256"], ["SHA-256", "MD5"]),
        (["SHA-256", "MD5", "SHA-512-256"], ["SHA-512-256", "SHA-256", "MD5"]),
    ],
)
def test_the_strongest_algorithm_comes_first(world: World, configured: list[str], offered: list[str]) -> None:
    """RFC 8760 §2.3: one challenge for each, in the order of preference; and each can be answered."""
    knows(world, algorithms=configured)
    phone = world.stranger
    for number, name in enumerate(offered):
        first = phone.sends("INVITE", call=f"call {number}")
        asked = is_challenged(world)
        assert [c["algorithm"] for c in challenges(asked)] == offered
        line = credentials(challenges(asked)[number], "INVITE", first.uri)
        assert f"algorithm={name}" in line
        is_let_in(world, again(phone, first, line))
    assert {record.key for record in world.records} == {"acme"}


def test_every_copy_of_a_request_gets_the_same_to_tag(any_world: World) -> None:
    """RFC 3261 §8.2.7."""
    world = knows(any_world)
    world.stranger.sends("INVITE")
    world.after(0.5)
    world.stranger.repeats("INVITE")
    assert len({world.stranger.gets("407").to_tag for _ in range(2)}) == 1
    world.stranger.sends("ACK")


def test_challenges_are_bounded_for_each_source(any_world: World) -> None:
    """Fifty in a second, then silence: whoever writes a victim's address into his packets floods nobody."""
    world = knows(any_world)
    phone = world.stranger
    for _ in range(60):
        phone.sends("OPTIONS")
    assert len(phone.inbox) == 50
    phone.inbox.clear()
    world.after(0.99)
    phone.sends("OPTIONS")
    phone.gets_nothing()
    world.after(0.02)
    phone.sends("OPTIONS")
    phone.gets("407")
    assert world.rejected("no credentials") == 62


@pytest.mark.parametrize(
    ("code", "change", "uri"),
    [
        ("483", {"max-forwards": "0"}, ""),
        ("400", {"max-forwards": "256"}, ""),
        ("416", {}, "https://example.jp"),
        ("416", {"max-forwards": "0"}, "https://example.jp"),
    ],
)
def test_what_is_wrong_with_a_request_comes_before_who_sends_it(
    any_world: World, code: str, change: dict[str, str], uri: str
) -> None:
    """RFC 3261 §16.3: credentials are asked for last."""
    world = knows(any_world)
    world.stranger.sends("MESSAGE", change=change, uri=uri)
    world.stranger.gets(code)
    assert not world.core.layer.servers


def test_an_unknown_extension_comes_before_who_sends_it(any_world: World) -> None:
    world = knows(any_world)
    world.stranger.sends("MESSAGE", headers=["Proxy-Require: magic"])
    assert world.stranger.gets("420").get("unsupported") == "magic"


@pytest.mark.parametrize("method", ["ACK", "CANCEL"])
def test_an_ack_and_a_cancel_are_never_challenged(any_world: World, method: str) -> None:
    """RFC 3261 §22.1."""
    world = knows(any_world)
    world.stranger.sends("INVITE", lost=True)
    world.stranger.sends(method)
    found = [text.code for _, text in world.stranger.inbox]
    world.stranger.inbox.clear()
    assert found == ([] if method == "ACK" else [403])


def test_a_cancel_of_a_user_s_call_needs_no_password(world: World) -> None:
    knows(world)
    phone = world.stranger
    first = phone.sends("INVITE")
    answers(phone, first)
    phone.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("180")
    phone.gets("180")
    phone.sends("CANCEL")
    phone.gets("200 CANCEL")
    world.carrier.gets("CANCEL")
    world.carrier.sends("200 CANCEL")
    world.carrier.sends("487 INVITE")
    world.carrier.gets("ACK")
    phone.gets("487")
    phone.sends("ACK")


# -- the answer ----------------------------------------------------------------------------------------


def test_a_nonce_may_be_used_again(world: World) -> None:
    """RFC 7616 §3.4: with a further nc; whoever does so is not challenged for each call."""
    knows(world)
    phone = world.stranger
    phone.sends("OPTIONS")
    asked = phone.gets("407")
    for _ in range(3):
        line = credentials(asked, "INVITE", f"sip:{DIALLED}@{world.gate}")
        is_let_in(world, phone.sends("INVITE", headers=[line]))


def test_a_nonce_outlives_a_restart(world: World) -> None:
    """It is only the secret that is kept."""
    knows(world)
    phone = world.stranger
    phone.sends("OPTIONS")
    asked = phone.gets("407")
    world.restarts()
    world.after(2.0)
    is_let_in(
        world, phone.sends("INVITE", headers=[credentials(asked, "INVITE", f"sip:{DIALLED}@{world.gate}")])
    )


def test_a_nonce_of_another_secret_is_stale(world: World) -> None:
    knows(world)
    phone = world.stranger
    phone.sends("OPTIONS")
    asked = phone.gets("407")
    world.restarts(b"another secret of 32 octets, new")
    world.after(2.0)
    first = phone.sends("INVITE", headers=[credentials(asked, "INVITE", f"sip:{DIALLED}@{world.gate}")])
    asked = is_challenged(world, stale=True)
    is_let_in(world, again(phone, first, credentials(asked, "INVITE", first.uri)))


@pytest.mark.parametrize(("seconds", "good"), [(0.0, True), (60.0, True), (60.01, False), (100_000.0, False)])
def test_a_nonce_is_good_for_a_while(world: World, seconds: float, good: bool) -> None:
    """Then `stale=true` (RFC 7616 §3.3), which a client answers by itself; it is no failure."""
    knows(world, nonce_seconds=60.0, failures=1)
    phone = world.stranger
    first = phone.sends("INVITE")
    asked = is_challenged(world)
    world.after(seconds)
    second = again(phone, first, credentials(asked, "INVITE", first.uri))
    if not good:
        asked = is_challenged(world, stale=True)
        assert world.rejected("stale credentials") == 1
        second = again(phone, second, credentials(asked, "INVITE", first.uri), number=3)
    is_let_in(world, second)
    assert world.rejected("wrong credentials") == 0


def test_a_captured_header_is_of_no_use_elsewhere(world: World) -> None:
    """The nonce is good at the address that it was given to."""
    knows(world)
    phone = world.stranger
    phone.sends("OPTIONS")
    line = credentials(phone.gets("407"), "INVITE", f"sip:{DIALLED}@{world.gate}")
    thief = ("203.0.113.67", 5060)
    phone.addresses.add(thief)
    phone.transmits(phone.sends("INVITE", headers=[line], lost=True).data, Flow(world.listeners[0], *thief))
    is_challenged(world, stale=True)


def test_a_captured_header_is_of_no_use_for_another_number(world: World) -> None:
    knows(world)
    phone = world.stranger
    phone.sends("OPTIONS")
    line = credentials(phone.gets("407"), "INVITE", f"sip:{DIALLED}@{world.gate}")
    phone.sends("INVITE", to="0312340000", headers=[line])
    is_challenged(world)
    assert world.rejected("wrong credentials") == 1


@pytest.mark.parametrize(
    "uri",
    ["sip:0312345678@callgate.example.jp", "sip:0312345678@127.0.0.1;user=phone", "sip:127.0.0.1:5060"],
)
def test_clients_write_the_host_of_their_uri_in_many_ways(world: World, uri: str) -> None:
    """RFC 7616 §3.4.6 asks for the same resource: that is the number, where there is one (SIPp writes none)."""
    knows(world)
    phone = world.stranger
    phone.sends("OPTIONS")
    is_let_in(world, phone.sends("INVITE", headers=[credentials(phone.gets("407"), "INVITE", uri)]))


WRONG = {
    "password": {"password": "x"},
    "user": {"user": "mallory"},
    "user in capitals": {"user": "BOB"},
    "response": {"response": "0" * 64},
    "short response": {"response": "0"},
    "hash of the user": {"userhash": "true"},
    "algorithm": {"algorithm": "MD5"},
    "unknown algorithm": {"algorithm": "SHA-512"},
    "qop": {"qop": "auth-int"},
    "no qop": {"qop": "", "nc": "", "cnonce": ""},
    "no nc": {"nc": ""},
    "no user": {"username": ""},
    "no response": {"response": ""},
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_challenged_again(world: World, what: str) -> None:
    """Never with `stale`, and all alike. Then the right one is let in."""
    knows(world, algorithms=["SHA-256"])
    phone = world.stranger
    first = phone.sends("INVITE")
    asked = is_challenged(world)
    how = {"user": "bob", "password": "zanzibar", **WRONG[what]}
    second = again(phone, first, credentials(asked, "INVITE", first.uri, **how))
    asked = is_challenged(world)
    assert world.rejected("wrong credentials") == 1
    is_let_in(world, again(phone, second, credentials(asked, "INVITE", first.uri), number=3))


def test_clients_that_know_no_qop_are_let_in_by_md5_only(world: World) -> None:
    """RFC 2069; those know nothing but MD5, and nobody else has a reason to leave it out."""
    knows(world, algorithms=["SHA-256", "MD5"])
    phone = world.stranger
    for number, fine in ((0, False), (1, True)):
        first = phone.sends("INVITE", call=f"call {number}")
        asked = challenges(is_challenged(world))[number]
        del asked["qop"]
        second = again(phone, first, credentials(asked, "INVITE", first.uri))
        if fine:
            is_let_in(world, second)
        else:
            is_challenged(world)


@pytest.mark.parametrize("algorithm", ["SHA-256-sess", "MD5", "SHA-512-256"])
def test_only_what_was_offered_is_taken(world: World, algorithm: str) -> None:
    """However right it is: a client must not fall back to what is weaker than we ask for."""
    knows(world)
    phone = world.stranger
    first = phone.sends("INVITE")
    (asked,) = challenges(is_challenged(world))
    again(phone, first, credentials({**asked, "algorithm": algorithm}, "INVITE", first.uri))
    is_challenged(world)


def test_a_parameter_twice_is_read_by_nobody(world: World) -> None:
    knows(world)
    phone = world.stranger
    first = phone.sends("INVITE")
    line = credentials(is_challenged(world), "INVITE", first.uri)
    again(phone, first, line + ', username="bob"')
    is_challenged(world)


def test_two_credentials_for_one_realm_are_none(world: World) -> None:
    """RFC 3261 §22.3: one for each realm."""
    knows(world)
    phone = world.stranger
    first = phone.sends("INVITE")
    asked = is_challenged(world)
    good, bad = (credentials(asked, "INVITE", first.uri, user=user) for user in ("bob", "eve"))
    again(phone, first, good, bad)
    is_challenged(world)


def test_a_client_may_answer_in_authorization(world: World) -> None:
    """Some do; and where both stand, the one for a proxy counts."""
    knows(world)
    phone = world.stranger
    first = phone.sends("INVITE", call="a")
    asked = is_challenged(world)
    is_let_in(world, again(phone, first, credentials(asked, "INVITE", first.uri, name="Authorization")))
    first = phone.sends("INVITE", call="b")
    asked = is_challenged(world)
    old = credentials(asked, "REGISTER", "sip:127.0.0.1", name="Authorization")
    is_let_in(world, again(phone, first, old, credentials(asked, "INVITE", first.uri)))


def test_a_user_may_be_named_before_there_is_a_challenge(world: World) -> None:
    """With an empty nonce and response, as 3GPP TS 24.229 has it: no credentials, and so no wrong ones."""
    knows(world, failures=1)
    phone = world.stranger
    empty = f'Proxy-Authorization: Digest username="bob", realm="{REALM}", nonce="", uri="sip:x", response=""'
    first = phone.sends("INVITE", headers=[empty])
    asked = is_challenged(world)
    assert world.rejected("no credentials") == 1
    is_let_in(world, again(phone, first, credentials(asked, "INVITE", first.uri)))


def test_a_register_answers_its_401(any_world: World) -> None:
    world = knows(any_world)
    phone = world.stranger
    first = phone.sends("REGISTER", uri="sip:127.0.0.1")
    asked = phone.gets("401")
    old = credentials(asked, "INVITE", "sip:127.0.0.1", name="Proxy-Authorization")
    again(phone, first, old, credentials(asked, "REGISTER", "sip:127.0.0.1"))
    ((_, answer),) = phone.inbox
    phone.inbox.clear()
    assert answer.code not in (401, 403, 407)


# -- same answer, same time ----------------------------------------------------------------------------


def test_an_unknown_user_and_a_wrong_password_look_the_same(
    any_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answer, and as many hashes to compute: nobody can find out who has a password here."""
    world = knows(any_world)
    phone = world.stranger
    hashed = 0
    plain = Algorithm.hex

    def counted(self: Algorithm, data: bytes) -> bytes:
        nonlocal hashed
        hashed += 1
        return plain(self, data)

    monkeypatch.setattr(Algorithm, "hex", counted)
    seen = []
    for how in ({"user": "bob", "password": "x"}, {"user": "mallory", "password": "x"}, {"user": "mallory"}):
        first = phone.sends("INVITE")
        asked = is_challenged(world)
        hashed = 0
        again(phone, first, credentials(asked, "INVITE", first.uri, **how))
        told = is_challenged(world)
        shape = [(name, value if "digest" not in value.lower() else "") for name, value in told.headers]
        seen.append((told.start, [name for name, _ in shape], challenges(told)[0].keys(), hashed))
        world.after(2.0)
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][3] > 0


# -- what goes on --------------------------------------------------------------------------------------

CARRIERS = 'Digest username="acme", realm="carrier.example", nonce="n", uri="sip:x", response="00"'


@pytest.mark.parametrize(
    "spelling",
    [
        "Proxy-Authorization: {}",
        "proxy-authorization : {}",
        "PROXY-AUTHORIZATION\t:{}",
        "Proxy-Authorization:\r\n {}",
    ],
)
def test_our_credentials_are_taken_off_and_others_pass(world: World, spelling: str) -> None:
    """RFC 3261 §22.3: consumed are those of our realm, in whatever spelling; the others stay, in their order."""
    knows(world)
    phone = world.stranger
    phone.sends("OPTIONS")
    line = credentials(phone.gets("407"), "INVITE", f"sip:{DIALLED}@{world.gate}")
    theirs = [
        f"Proxy-Authorization: {CARRIERS}",
        f"Authorization: {CARRIERS}",
        "Authorization: Basic Ym9iOnB3",
        f"Proxy-Authorization: {CARRIERS.replace('carrier', 'second')}",
    ]
    own = spelling.format(line.partition(": ")[2])
    old = 'Authorization: Digest username="bob", realm="callgate", nonce="old", uri="sip:y", response="00"'
    phone.sends("INVITE", headers=[theirs[0], own, theirs[1], old, *theirs[2:]])
    phone.gets("100")
    got = world.carrier.gets("INVITE")
    shown = [f"{name}: {value}" for name, value in got.headers if name.endswith("authorization")]
    assert shown == [line.partition(":")[0].lower() + ":" + line.partition(":")[2] for line in theirs]
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    phone.gets("486")
    phone.sends("ACK")


def test_in_a_dialog_they_are_taken_off_too(world: World) -> None:
    """Clients send them along with the ACK and with whatever follows (RFC 3261 §22.3)."""
    knows(world)
    phone = world.stranger
    first = phone.sends("INVITE")
    second = answers(phone, first)
    line = "Proxy-Authorization: " + second.get("proxy-authorization")
    carriers = f"Proxy-Authorization: {CARRIERS}"
    phone.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("200")
    phone.gets("200")
    phone.sends("ACK", headers=[line, carriers])
    assert world.carrier.gets("ACK").all("proxy-authorization") == [CARRIERS]
    for method in ("INFO", "BYE"):
        phone.sends(method, headers=[line, carriers])
        assert world.carrier.gets(method).all("proxy-authorization") == [CARRIERS]
        world.carrier.sends(f"200 {method}")
        phone.gets(f"200 {method}")


def test_what_the_carrier_sends_is_not_looked_at(world: World) -> None:
    """A gateway's own address is the trunk, whatever its request holds."""
    knows(world)
    mine = 'Proxy-Authorization: Digest username="bob", realm="other", nonce="n", uri="sip:x", response="00"'
    world.carrier.sends("INVITE", headers=[mine])
    world.carrier.gets("100")
    world.pbx.gets("INVITE")
    world.pbx.sends("486")
    world.pbx.gets("ACK")
    world.carrier.gets("486")
    world.carrier.sends("ACK")
    assert world.record().direction == "inbound"


# -- and the carrier's own challenge -------------------------------------------------------------------

ASKS = 'Proxy-Authenticate: Digest realm="carrier.example", nonce="abc", algorithm=MD5, qop="auth"'


@pytest.mark.parametrize("stale", [False, True])
def test_the_answer_to_the_carrier_s_challenge_carries_both(ladder: Ladder, stale: bool) -> None:
    """Ours is taken off, the carrier's passes; the re-send takes no token, also where a challenge of ours comes in
    between, because its nonce has run out."""
    world = knows(ladder(cps=1), nonce_seconds=3.0)
    phone = world.stranger
    first = phone.sends("INVITE", call="a")
    asked = is_challenged(world)
    second = again(phone, first, credentials(asked, "INVITE", first.uri), call="a")
    phone.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("407", headers=[ASKS])
    world.carrier.gets("ACK")
    (carriers,) = challenges(phone.gets("407"))
    assert carriers["realm"] == "carrier.example"
    phone.sends("ACK")
    if stale:
        world.after(4.0)
    # Another call takes the only token.
    line = credentials(asked, "INVITE", first.uri)
    if stale:
        phone.sends("OPTIONS")
        line = credentials(phone.gets("407"), "INVITE", first.uri)
    else:
        world.after(1.5)
    phone.sends("INVITE", call="b", headers=[line])
    phone.gets("100", call="b")
    world.carrier.gets("INVITE")

    theirs = credentials(carriers, "INVITE", first.uri, user="trunk")
    again(phone, second, credentials(asked, "INVITE", first.uri), theirs, number=3, call="a")
    if stale:
        asked = is_challenged(world, stale=True)
        again(phone, second, credentials(asked, "INVITE", first.uri), theirs, number=4, call="a")
    phone.gets("100", call="a")
    got = world.carrier.gets("INVITE")
    assert [value.split('realm="')[1].split('"')[0] for value in got.all("proxy-authorization")] == [
        "carrier.example"
    ]
    for call in ("a", "b"):
        world.carrier.sends("486", call=world.labels[call])
        world.carrier.gets("ACK")
        phone.gets("486", call=call)
        phone.sends("ACK", call=call)


# -- other identities, over the wire -------------------------------------------------------------------


@pytest.mark.parametrize("name", [HEADER, "x-api-key", "X-API-KEY "])
def test_a_secret_header_lets_in_and_goes_no_further(world: World, name: str) -> None:
    knows(world, users=(), header=True)
    is_let_in(world, world.stranger.sends("INVITE", headers=[f"{name}: {SECRET}"]))
    assert world.record().key == "acme"


@pytest.mark.parametrize("value", ["", "a", SECRET[:-1], SECRET + "x", SECRET.upper()])
def test_a_wrong_secret_header_does_not(any_world: World, value: str) -> None:
    """Not from the key's own address either: whoever shows a wrong secret is somebody else."""
    world = knows(any_world, users=(), header=True, sources=["203.0.113.66"])
    world.stranger.sends("MESSAGE", headers=[f"{HEADER}: {value}"])
    world.stranger.gets("403")
    assert world.rejected("unknown source") == 1


def test_a_name_in_a_certificate_lets_in(ladder: Ladder) -> None:
    """Looked up once for the connection: its requests cost no more than those of a known address."""
    world = knows(ladder(pbx_over="TLS"), users=(), tls_names=["PBX.example.jp"])
    world.pbx.flow.names = ("other.example.jp", "pbx.example.JP")
    world.talks()
    world.hangs_up()
    assert world.record().key == "acme"
    assert world.directory.access is None


def test_a_name_that_is_nobody_s_does_not(ladder: Ladder) -> None:
    world = knows(ladder(pbx_over="TLS"), users=(), tls_names=["pbx.example.jp"])
    world.pbx.flow.names = ("x.example.jp",)
    world.pbx.sends("MESSAGE")
    world.pbx.gets("403")


def test_a_certificate_that_names_two_keys_tells_neither(ladder: Ladder) -> None:
    world = ladder(pbx_over="TLS")
    beta = other_key(world)
    beta.tls_names = ("two.example.jp",)
    knows(world, tls_names=["one.example.jp"], others={"eve": beta})
    world.pbx.flow.names = ("one.example.jp", "two.example.jp")
    first = world.pbx.sends("INVITE")
    answers(world.pbx, first)
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")
    assert world.record().key == "acme"


# -- emergency -----------------------------------------------------------------------------------------


def test_an_emergency_call_is_never_challenged_into_failure(any_world: World) -> None:
    """The address is the key's, and what it requires besides is not there: an emergency call needs no more."""
    world = knows(any_world, require=["source", "digest"], sources=["203.0.113.66"])
    phone = world.stranger
    phone.sends("INVITE", to="110")
    assert "EMG" in phone.gets("503").get("warning")
    phone.sends("ACK")
    line = credentials({"realm": REALM, "nonce": "old"}, "INVITE", "sip:x")
    phone.sends("INVITE", uri="urn:service:sos", headers=[line])
    phone.gets("503")
    phone.sends("ACK")
    assert {record.key for record in world.records} == {"acme"}
    phone.sends("INVITE")
    is_challenged(world)


def test_a_stranger_s_emergency_call_is_challenged(any_world: World) -> None:
    world = knows(any_world)
    world.stranger.sends("INVITE", to="110")
    is_challenged(world)
