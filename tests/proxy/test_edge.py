"""The edge of the trust domain (proxy rules §8; RFC 3325, 3323, 8224; RFC 7339 §5.6; rule I19). `rules.check` sees with
every message of every ladder that what goes off has gone and that all else is as it was."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import DID, World

TAKEN_OFF = [
    "P-Preferred-Identity: <sip:+815012345678@pbx.example>",
    "Remote-Party-ID: <sip:1001@pbx.example>;party=calling;privacy=off",
    "X-Inbound-Call-ID: 12345@carrier",
    "X-Record: yes",
    "X-Record-Of: 12345@carrier",
    "X-CallGate-Verdict: rule=V1;value=4;limit=3",
]
SPELLINGS = {
    "as it is": lambda name, value: [f"{name}: {value}"],
    "blanks before the colon": lambda name, value: [f"{name} \t : {value}"],
    "no blank": lambda name, value: [f"{name}:{value}"],
    "small": lambda name, value: [f"{name.lower()}: {value}"],
    "large": lambda name, value: [f"{name.upper()}: {value}"],
    "mixed": lambda name, value: [f"{name.swapcase()}: {value}"],
    "folded": lambda name, value: [f"{name}:\r\n {value[:3]}\r\n\t{value[3:]}"],
    "twice": lambda name, value: [f"{name}: {value}", "Subject: between", f"{name.lower()} : other"],
    "empty": lambda name, value: [f"{name}:"],
}
LEAVE_ALONE = [
    "Identity: eyJhbGciOiJFUzI1NiJ9.e30.abc;info=<https://cert.example/a.pem>;alg=ES256;ppt=shaken",
    "y: eyJhbGciOiJFUzI1NiJ9.e30.def;info=<https://cert.example/b.pem>;ppt=div",
    "Date: Sat, 13 Nov 2038 23:29:00 GMT",
    "P-Asserted-Identity: <sip:+815012345678@pbx.example>, <tel:+815012345678>",
    "Privacy: none",
    "P-Preferred-Identity-X: not that one",
    "X-Recorder: neither",
    "Session-ID: ab30317f1a784dc48ff824d0d3715d86;remote=00000000000000000000000000000000",
    'Reason: Q.850;cause=16;text="x"',
    "Diversion: <sip:1001@pbx.example>;reason=unconditional",
    "History-Info: <sip:1001@pbx.example>;index=1",
    "Geolocation: <cid:target123@pbx.example>",
    "Geolocation-Routing: yes",
    "Session-Expires: 1800;refresher=uac",
    "Min-SE: 90",
    'Subject: "X-Record: yes"',
    "P-Charging-Vector: icid-value=1",
]


def both(world: World, first: str) -> tuple[Agent, Agent]:
    return (world.pbx, world.carrier) if first == "pbx" else (world.carrier, world.pbx)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("header", TAKEN_OFF, ids=lambda h: h.partition(":")[0])
def test_what_goes_off(world: World, header: str, spelling: str, caller: str) -> None:
    """Both ways, in requests and answers, in and out of the dialog, in every spelling (CVE-2020-28361)."""
    name, _, value = header.partition(": ")
    lines = ["Subject: before", *SPELLINGS[spelling](name, value), "Organization: behind"]
    kept = 2 + ("twice" in spelling)
    a, b = both(world, caller)
    a.sends("INVITE", headers=lines)
    a.gets("100")
    seen = b.gets("INVITE")
    b.sends("180", headers=lines)
    a.gets("180")
    b.sends("200", headers=lines)
    answer = a.gets("200")
    a.sends("ACK", headers=lines)
    seen_ack = b.gets("ACK")
    b.sends("INFO", headers=lines)
    info = a.gets("INFO")
    a.sends("200 INFO", headers=lines)
    info_answer = b.gets("200 INFO")
    a.sends("BYE", headers=lines)
    bye = b.gets("BYE")
    b.sends("200 BYE", headers=lines)
    a.gets("200 BYE")
    for text in (seen, answer, seen_ack, info, info_answer, bye):
        assert not text.has(name.lower())
        assert len(text.all("subject") + text.all("organization")) == kept


@pytest.mark.parametrize("method", ["MESSAGE", "SUBSCRIBE", "FOO"])
@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_outside_a_dialog_too(world: World, method: str, caller: str) -> None:
    a, b = both(world, caller)
    a.sends(method, headers=TAKEN_OFF)
    b.gets(method)
    b.sends(f"200 {method}", headers=TAKEN_OFF)
    a.gets(f"200 {method}")


def test_a_refusal_and_a_failover(ladder: Ladder) -> None:
    """Every attempt leaves without them, and so does the answer that is passed on at last."""
    world = ladder(gateways=2)
    second = world.gateways[1]
    world.pbx.sends("INVITE", headers=TAKEN_OFF)
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("503", headers=TAKEN_OFF)
    world.carrier.gets("ACK")
    second.gets("INVITE")
    second.sends("486", headers=TAKEN_OFF)
    second.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_secret_header(ladder: Ladder, spelling: str) -> None:
    """What proves a key is for the gate only; a name may hold anything a token may."""
    world = ladder(secret_headers=("X-Api-Key", "a+key.*"))
    for name in ("X-Api-Key", "a+key.*"):
        world.pbx.sends("INVITE", headers=SPELLINGS[spelling](name, "s3cret"))
        world.pbx.gets("100")
        assert b"s3cret" not in world.carrier.gets("INVITE").data
        world.carrier.sends("486")
        world.carrier.gets("ACK")
        world.pbx.gets("486")
        world.pbx.sends("ACK")


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_what_stays(world: World, caller: str) -> None:
    """RFC 8224: signatures and what they sign; §16.6 step 1: everything that no rule names, byte for byte."""
    a, b = both(world, caller)
    sent = a.sends(
        "INVITE", headers=LEAVE_ALONE, body=b"X-Record: yes\r\nRemote-Party-ID: <sip:x@y>\r\n\r\nPrivacy: id"
    )
    a.gets("100")
    data = b.gets("INVITE").data
    for line in LEAVE_ALONE:
        assert b"\r\n" + line.encode() + b"\r\n" in data
    for name in (b"From: ", b"To: ", b"Contact: "):
        line = next(x for x in sent.data.split(b"\r\n") if x.startswith(name))
        assert b"\r\n" + line + b"\r\n" in data
    b.sends("603", headers=LEAVE_ALONE)
    b.gets("ACK")
    data = a.gets("603").data
    for line in LEAVE_ALONE:
        assert b"\r\n" + line.encode() + b"\r\n" in data
    a.sends("ACK")


# -- RFC 3325, RFC 3323 ------------------------------------------------------------------------------------------

WITH_ID = [f"P-Asserted-Identity: <sip:{DID}@pbx.example>", f"p-asserted-identity : <tel:{DID}>"]


def sees(a: Agent, b: Agent, *headers: str) -> list[str]:
    """What arrives of P-Asserted-Identity: in a request, its answer, and a request in the dialog."""
    a.sends("INVITE", headers=headers)
    a.gets("100")
    found = b.gets("INVITE").all("p-asserted-identity")
    b.sends("200")
    a.gets("200")
    a.sends("ACK")
    b.gets("ACK")
    a.sends("UPDATE", headers=headers)
    assert b.gets("UPDATE").all("p-asserted-identity") == found
    b.sends("200 UPDATE")
    a.gets("200 UPDATE")
    b.sends("UPDATE")
    a.gets("UPDATE")
    a.sends("200 UPDATE", headers=headers)
    assert b.gets("200 UPDATE").all("p-asserted-identity") == found
    a.sends("BYE")
    b.gets("BYE")
    b.sends("200 BYE")
    a.gets("200 BYE")
    return found


@pytest.mark.parametrize("privacy", [[], ["Privacy: id"], ["Privacy: none"], ["Privacy: id;critical"]])
@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_a_trusted_key(world: World, privacy: list[str], caller: str) -> None:
    """RFC 3325 §5, §7: within the trust domain it passes, whatever Privacy says: the trunk takes it off where its
    domain ends."""
    a, b = both(world, caller)
    assert len(sees(a, b, *WITH_ID, *privacy)) == 2


@pytest.mark.parametrize("privacy", [[], ["Privacy: id"], ["Privacy: none"]])
def test_an_identity_from_a_key_that_is_not_trusted(ladder: Ladder, privacy: list[str]) -> None:
    """RFC 3325 §5: taken off."""
    world = ladder(trusted=False)
    assert sees(world.pbx, world.carrier, *WITH_ID, *privacy) == []


def test_it_becomes_the_number_that_the_key_is_known_by(ladder: Ladder) -> None:
    """RFC 3325 §5: or replaced, where there is no doubt."""
    world = ladder(trusted=False, only_number=DID)
    assert sees(world.pbx, world.carrier, "P-Asserted-Identity: <tel:+810312345678>") == [f"<tel:{DID}>"]


def test_none_is_added(ladder: Ladder) -> None:
    world = ladder(trusted=False, only_number=DID)
    assert sees(world.pbx, world.carrier) == []


@pytest.mark.parametrize(
    ("privacy", "passes"),
    [
        ([], True),
        (["Privacy: none"], True),
        (["Privacy: id"], False),
        (["privacy : ID"], False),
        (["Privacy: critical; id"], False),
        (["Privacy: user", "Privacy: id"], False),
        (["Privacy: header;id"], False),
        (["Privacy:\r\n id"], False),
        (["Privacy: history"], True),
    ],
)
def test_an_identity_to_a_key_that_is_not_trusted(ladder: Ladder, privacy: list[str], passes: bool) -> None:
    """RFC 3325 §7: goes off with `Privacy: id`, never with `none`."""
    world = ladder(trusted=False)
    assert bool(sees(world.carrier, world.pbx, *WITH_ID, *privacy)) is passes


@pytest.mark.parametrize("level", ["header", "session", "user", "history", "something-new", "user;id"])
@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_privacy_that_is_critical(world: World, level: str, caller: str) -> None:
    """RFC 3323 §5: there is no privacy service here, so 500, and nothing was taken."""
    a, b = both(world, caller)
    a.sends("INVITE", headers=[f"Privacy: {level}; critical"])
    refusal = a.gets("500")
    b.gets_nothing()
    a.sends("ACK")
    world.holds_nothing()
    assert world.store.asked == 0
    assert world.record().rule == "privacy"
    assert refusal.has("warning") is (caller == "pbx")
    a.sends("MESSAGE", headers=[f"Privacy: {level}", "Privacy: critical"])
    assert a.gets("500 MESSAGE").has("x-callgate-verdict") is (caller == "pbx")


@pytest.mark.parametrize("level", ["header", "session", "user", "header;user;session;id", "none"])
def test_privacy_that_is_not(world: World, level: str) -> None:
    """RFC 3323 §5: without `critical` it passes as it is, for the next one who may be a privacy service."""
    world.pbx.sends("INVITE", headers=[f"Privacy: {level}"])
    world.pbx.gets("100")
    assert world.carrier.gets("INVITE").get("privacy") == level
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_in_the_dialog_critical_privacy_ends_nothing(world: World) -> None:
    """Whoever is in the call has shown who it is: a BYE is never refused."""
    world.talks()
    world.pbx.sends("BYE", headers=["Privacy: user;critical"])
    assert world.carrier.gets("BYE").get("privacy") == "user;critical"
    world.carrier.sends("200 BYE")
    world.pbx.gets("200 BYE")


def test_a_call_back_of_the_authorities_always_gets_through(ladder: Ladder) -> None:
    """RFC 7090 §4."""
    world = ladder(psap_callback=True)
    world.carrier.sends("INVITE", headers=["Priority: psap-callback", "Privacy: user;critical"])
    world.carrier.gets("100")
    world.pbx.gets("INVITE")
    world.pbx.sends("486")
    world.pbx.gets("ACK")
    world.carrier.gets("486")
    world.carrier.sends("ACK")


# -- I19 -----------------------------------------------------------------------------------------------------------

ALLOWED = ("+815012345678", "+81312345600-+81312345699")


def calls(world: World, caller: str, *asserted: str, method: str = "INVITE", to: str = "") -> int:
    """A call that shows this From and these identities: how the gate answers, 0 where it lets it pass."""
    headers = [f"P-Asserted-Identity: {value}" for value in asserted]
    sent = world.pbx.sends(method, to=to, headers=headers, change={"from": f"{caller};tag=x"})
    if not world.pbx.inbox or not (code := world.pbx.inbox[0][1].code) >= 300:
        if method == "INVITE":
            world.pbx.gets("100")
        world.carrier.gets(method)
        world.carrier.sends(f"486 {method}")
        if method == "INVITE":
            world.carrier.gets("ACK")
        world.pbx.gets("486")
        code = 0
    else:
        answer = world.pbx.gets(str(code))
        world.carrier.gets_nothing()
        assert answer.cseq == sent.cseq
        if method == "INVITE" and code == 403:
            assert answer.get("warning").startswith('399 callgate "I19 ')
            assert answer.get("x-callgate-verdict") == "rule=I19"
    if method == "INVITE":
        world.pbx.sends("ACK")
    return code


@pytest.mark.parametrize(
    ("caller", "asserted", "passes"),
    [
        ("<sip:+815012345678@pbx>", (), True),
        ("<sip:05012345678@pbx>", (), True),
        ('"Alice" <sip:815012345678@pbx;user=phone>', (), True),
        ("<sip:%2B81-50-1234-5678@pbx>", (), True),
        ("<tel:050-1234-5678;phone-context=+81>", (), True),
        ("sip:0312345600@pbx", (), True),
        ("<sip:0312345699@pbx>", (), True),
        ("<sip:0312345700@pbx>", (), False),
        ("<sip:0312345599@pbx>", (), False),
        ("<sip:03123456@pbx>", (), False),
        ("<sip:+815012345679@pbx>", (), False),
        ("<sip:+15012345678@pbx>", (), False),
        ("<sip:110@pbx>", (), False),
        ("<sip:1001@pbx>", (), False),
        ("<sip:1001@pbx>", ("<sip:+815012345678@pbx>",), False),
        ("<sip:+815012345678@pbx>", ("<tel:+81312345650>",), True),
        ("<sip:+815012345678@pbx>", ("<tel:+81312349999>",), False),
        ("<sip:+815012345678@pbx>", ("<sip:05012345678@pbx>, <tel:+81312349999>",), False),
        ("<sip:+815012345678@pbx>", ("<sip:05012345678@pbx>", "<tel:+81312349999>"), False),
        ("<sip:+815012345678@pbx>", ("<sip:alice@pbx>",), True),
        ('"Anonymous" <sip:anonymous@anonymous.invalid>', ("<sip:+815012345678@pbx>",), True),
        ('"Anonymous" <sip:anonymous@anonymous.invalid>', ("<tel:05012345678>",), True),
        ('"Anonymous" <sip:anonymous@anonymous.invalid>', ("<tel:0312349999>",), False),
        ('"Anonymous" <sip:anonymous@anonymous.invalid>', ("<sip:alice@pbx>",), False),
        ('"Anonymous" <sip:anonymous@anonymous.invalid>', (), False),
        ("<sip:pbx.example>", ("<sip:+815012345678@pbx>",), True),
        ("<sip:pbx.example>", (), False),
        ("<sip:%ff@pbx>", ("<sip:+815012345678@pbx>",), False),
        ("<sip:\u200b05012345678@pbx>".encode().decode("latin-1"), (), False),
        ("<sip:+815012345678@pbx>", ('"unclosed <tel:1',), False),
    ],
)
@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
def test_the_caller_id(
    ladder: Ladder, caller: str, asserted: tuple[str, ...], passes: bool, method: str
) -> None:
    """I19: all that the call shows stands in the list, compared as numbers; and it shows one."""
    world = ladder(caller_ids=ALLOWED)
    assert calls(world, caller, *asserted, method=method) == (0 if passes else 403)
    if method == "INVITE" and not passes:
        record = world.record()
        assert (record.verdict, record.rule, record.outcome, record.ended_by) == (
            "refused",
            "I19",
            "refused",
            "gate",
        )
        assert world.store.asked == 0


def test_without_a_list_any_caller_id_passes(world: World) -> None:
    assert calls(world, "<sip:110@pbx>", "<tel:+81312349999>") == 0


def test_what_an_untrusted_key_asserts_counts_for_nothing(ladder: Ladder) -> None:
    """I19 judges what leaves: an identity that is taken off proves no caller."""
    world = ladder(caller_ids=ALLOWED, trusted=False)
    assert calls(world, "<sip:anonymous@anonymous.invalid>", "<sip:+815012345678@pbx>") == 403
    assert calls(world, "<sip:+815012345678@pbx>", "<tel:+81312349999>") == 0


@pytest.mark.parametrize(("number", "code"), [("+815012345678", 0), ("+815099999999", 403)])
def test_the_number_that_stands_in_for_it_counts(ladder: Ladder, number: str, code: int) -> None:
    world = ladder(caller_ids=ALLOWED, trusted=False, only_number=number)
    assert calls(world, "<sip:anonymous@anonymous.invalid>", "<tel:1>") == code


@pytest.mark.parametrize("to", ["110", "119", "118", "184110"])
def test_an_emergency_call_is_not_judged_by_its_caller(ladder: Ladder, to: str) -> None:
    """It gets what emergency calls get: 503, so that the PBX takes another way."""
    world = ladder(caller_ids=ALLOWED)
    assert calls(world, "<sip:1001@pbx>", to=to) == 503


def test_other_requests_show_no_caller(ladder: Ladder) -> None:
    """OPTIONS, SUBSCRIBE: nobody's telephone rings."""
    world = ladder(caller_ids=ALLOWED)
    for method in ("OPTIONS", "SUBSCRIBE", "FOO"):
        assert calls(world, "<sip:asterisk@pbx>", method=method) == 0


def test_a_call_in(ladder: Ladder) -> None:
    """I19 is about what the key shows, not who calls it."""
    world = ladder(caller_ids=ALLOWED)
    world.talks(world.carrier)
    world.hangs_up()


def test_a_forbidden_number_comes_first(ladder: Ladder) -> None:
    """Of two reasons the number's is told: it would be refused from any caller."""
    world = ladder(caller_ids=ALLOWED)
    world.pbx.sends("INVITE", to="104x")
    refusal = world.pbx.gets("484")
    assert "I19" not in refusal.get("x-callgate-verdict")
    world.pbx.sends("ACK")


def test_the_series_are_there_from_the_start(ladder: Ladder) -> None:
    world = ladder(caller_ids=ALLOWED)
    before = set(world.meters._at)
    assert calls(world, "<sip:1001@pbx>") == 403
    world.pbx.sends("INVITE", headers=["Privacy: user;critical"])
    world.pbx.gets("500")
    world.pbx.sends("ACK")
    made = {name for name in set(world.meters._at) - before if name[0] == "calls_total"}
    assert not made
    assert world.gauge("calls_total", "outbound", "refused", "I19") == 1
    assert world.gauge("calls_total", "outbound", "refused", "privacy") == 1


# -- RFC 7339 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "left"),
    [
        (';oc;oc-algo="loss"', ""),
        (";oc-seq=1282321615.782;oc-validity=500;oc=20", ""),
        ("; OC = 20 ;x=1", ";x=1"),
        (";ocean=1;x=oc", ";ocean=1;x=oc"),
        (';x=";oc=1";oc', ';x=";oc=1"'),
        (";x=1;oc=5", ";x=1"),
    ],
)
@pytest.mark.parametrize("form", ["one line", "two lines", "folded"])
def test_overload_parameters_stay_between_neighbours(
    world: World, offered: str, left: str, form: str
) -> None:
    """RFC 7339 §5.6: the client's are taken off its Via; those of others behind it are not ours to touch, and our own
    answers carry the Via as it came (RFC 3261 §8.2.6.2)."""
    between = {"one line": ", ", "two lines": "\r\nVia: ", "folded": ",\r\n "}[form]
    data = world.pbx.sends("INVITE", lost=True).data
    data = data.replace(
        b";rport", f"{offered};rport{between}SIP/2.0/UDP b.example;branch=z9hG4bKb;oc".encode()
    )
    world.pbx.transmits(data)
    assert offered in world.pbx.gets("100").via
    vias = world.carrier.gets("INVITE").data.replace(b"\r\n ", b" ").split(b"SIP/2.0/UDP ")
    assert vias[2].startswith(f"192.0.2.10:5070;branch=z9hG4bK-pbx-1{left};".encode())
    assert vias[3].startswith(b"b.example;branch=z9hG4bKb;oc\r\n")
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")
