"""Every final answer, both ways: what goes up, the gate's own ACK, and the line given back once (RFC 3261 §16.7,
§17.1.1.3; proxy rules §11)."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import World

# fmt: off
FINALS = (
    300, 302, 305, 380, 400, 401, 403, 404, 407, 408, 410, 415, 420, 480, 481, 482, 483, 484, 486, 487, 488, 491,
    500, 501, 502, 503, 504, 505, 600, 603, 604, 606,
)
# fmt: on
OUTCOME = {486: "busy", 600: "busy", 487: "cancelled", 408: "no_answer", 480: "no_answer"}
OUTCOME |= {404: "not_found", 484: "not_found", 604: "not_found"}


def sides(world: World, caller: str) -> tuple[Agent, Agent, dict[str, int]]:
    if caller == "pbx":
        return world.pbx, world.carrier, {"outbound": 1}
    return world.carrier, world.pbx, {"inbound": 1}


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
@pytest.mark.parametrize("ringing", [False, True], ids=["at-once", "after-ringing"])
@pytest.mark.parametrize("code", FINALS)
def test_a_call_that_ends_without_an_answer(world: World, caller: str, ringing: bool, code: int) -> None:
    """The line is held until the final answer goes up, then free; a lone 503 becomes 500 (§16.7 step 6)."""
    a, b, up = sides(world, caller)
    a.sends("INVITE")
    a.gets("100")
    invite = b.gets("INVITE")
    if ringing:
        b.sends("180")
        a.gets("180")
    world.holds(**up)
    b.sends(str(code), headers=["Contact: <sip:elsewhere@example>", "Reason: Q.850;cause=17"])
    ack = b.gets("ACK")
    # §17.1.1.3: the ACK of a non-2xx is of the transaction: same Request-URI, Via, From, Call-ID, CSeq number
    assert ack.uri == invite.uri
    assert ack.all("via") == [invite.via]
    assert ack.get("from") == invite.get("from")
    assert ack.get("cseq") == "1 ACK"
    assert ack.to_tag == f"{b.name}-callee"
    assert ack.body == b""
    passed = 500 if code == 503 else code
    final = a.gets(str(passed))
    assert final.to_tag == f"{b.name}-callee"
    assert final.get("contact") == "<sip:elsewhere@example>"
    assert final.get("reason") == "Q.850;cause=17"
    world.holds_nothing()
    a.sends("ACK")
    b.gets_nothing()
    record = world.record()
    assert record.final_code == passed
    assert record.outcome == OUTCOME.get(code, "failed")


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_all_codes_from_300_to_699(world: World, caller: str) -> None:
    """No final answer, however odd, is lost, changed or keeps a line."""
    a, b, up = sides(world, caller)
    for code in range(300, 700):
        a.sends("INVITE")
        a.gets("100")
        b.gets("INVITE")
        world.holds(**up)
        b.sends(str(code))
        b.gets("ACK")
        a.gets(str(500 if code == 503 else code))
        world.holds_nothing()
        a.sends("ACK")
        world.after(0.1)
    assert len(world.records) == 400


@pytest.mark.parametrize("policy", ["500", "pass"])
def test_upstream_503(ladder: Ladder, policy: str) -> None:
    """§16.7 step 6: a 503 would make the PBX leave the gate for good; `pass` hands it on all the same."""
    world = ladder(upstream_503=policy)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("503", headers=["Retry-After: 30"])
    world.carrier.gets("ACK")
    final = world.pbx.gets("500" if policy == "500" else "503")
    assert final.start.startswith("SIP/2.0 500 Server Internal Error" if policy == "500" else "SIP/2.0 503 ")
    world.holds_nothing()
    world.pbx.sends("ACK")


@pytest.mark.parametrize("caller", ["pbx", "carrier"])
def test_provisional_answers_pass_but_100(world: World, caller: str) -> None:
    """§16.7 step 5: every 101–199 goes up at once, a 100 never does."""
    a, b, up = sides(world, caller)
    a.sends("INVITE")
    a.gets("100")
    b.gets("INVITE")
    b.sends("100")
    a.gets_nothing()
    for code in (101, 180, 181, 182, 183, 199):
        b.sends(str(code), headers=["RSeq: 1", "Require: 100rel"])
        assert a.gets(str(code)).get("rseq") == "1"
    world.holds(**up)
    b.sends("480")
    b.gets("ACK")
    a.gets("480")
    a.sends("ACK")


def test_a_repeated_final_is_acknowledged_again_and_goes_no_further(world: World) -> None:
    """§17.1.1.2: in Completed each copy of a non-2xx is acknowledged, none is passed up."""
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("486")
    first = world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")
    for _ in range(3):
        world.after(4)
        world.carrier.repeats("486")
        assert world.carrier.gets("ACK").data == first.data
    world.after(32)  # Timer D is over: nobody knows it any more
    world.carrier.repeats("486")
    world.carrier.gets_nothing()


@pytest.mark.parametrize("challenge", ["401", "407"])
def test_a_challenge_ends_its_transaction_and_the_retry_counts_once(world: World, challenge: str) -> None:
    """Proxy rules §11: the slot is free at once; the INVITE with credentials (same Call-ID, CSeq + 1) claims anew.
    §22.3: several challenges go up in their order, credentials for others pass."""
    name = "WWW-Authenticate" if challenge == "401" else "Proxy-Authenticate"
    offers = [
        f'{name}: Digest realm="c", nonce="1", algorithm=SHA-256',
        f'{name}: Digest realm="c", nonce="2"',
    ]
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    call_id = world.carrier.gets("INVITE").call_id
    world.carrier.sends(challenge, headers=offers)
    world.carrier.gets("ACK")
    assert [f"{name}: {v}" for v in world.pbx.gets(challenge).all(name.lower())] == offers
    world.holds_nothing()
    world.pbx.sends("ACK")
    credentials = 'Proxy-Authorization: Digest username="u", realm="c", nonce="1", response="x"'
    world.pbx.sends("INVITE", change={"call-id": call_id, "cseq": "2 INVITE"}, headers=[credentials])
    world.pbx.gets("100")
    assert world.carrier.gets("INVITE").get("proxy-authorization") == credentials.partition(": ")[2]
    world.holds(outbound=1)
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.hangs_up()
