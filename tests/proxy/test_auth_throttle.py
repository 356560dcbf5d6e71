"""The throttle against guessing (interface.md): per source address, never per user, and no call that is up feels it."""

from __future__ import annotations

import pytest
from tests.proxy.agent import Agent
from tests.proxy.callers import REALM, again, answers, calls, credentials, knows, other_key
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import DIALLED, World
from tests.proxy.text import Text

from callgate.proxy.flow import Flow

MANY = 3
"""Failures that shut a source out, in these ladders."""


def guarded(world: World, **how: object) -> World:
    return knows(world, **{"failures": MANY, "per_seconds": 10.0, "block_seconds": 60.0, **how})  # type: ignore[arg-type]


def told(agent: Agent) -> list[int]:
    codes = [text.code for _, text in agent.inbox]
    agent.inbox.clear()
    return codes


def nonce(agent: Agent) -> Text:
    agent.sends("OPTIONS")
    return agent.gets("407")


def guesses(agent: Agent, asked: Text, number: int = MANY, user: str = "bob") -> None:
    for _ in range(number):
        agent.sends("MESSAGE", headers=[right(agent, asked, user=user, password="guess")])


def right(agent: Agent, asked: Text, method: str = "MESSAGE", to: str = DIALLED, **how: str) -> str:
    return credentials(asked, method, f"sip:{to}@{agent.world.gate}", **how)


def test_too_many_wrong_passwords_shut_a_source_out(any_world: World) -> None:
    """The one that fills the measure is told 403 already; then right ones too, once a second, until the time is up."""
    world = guarded(any_world)
    phone = world.stranger
    asked = nonce(phone)
    guesses(phone, asked, MANY - 1)
    assert told(phone) == [407] * (MANY - 1)
    guesses(phone, asked, 1)
    assert told(phone) == [403]
    (guess, alert) = world.alerts
    assert (guess.rule, guess.severity) == ("auth", "info")
    assert (alert.rule, alert.severity) == ("auth-throttle", "warning")
    assert alert.details == {"source": "203.0.113.66"}
    for _ in range(5):
        phone.sends("MESSAGE", headers=[right(phone, asked)])
    phone.sends("MESSAGE")
    assert told(phone) == []
    world.after(59.9)
    phone.sends("MESSAGE", headers=[right(phone, asked)])
    assert told(phone) == [403]
    assert world.rejected("throttled source") == 8
    world.after(0.1)
    phone.sends("MESSAGE", headers=[right(phone, asked)])
    lets_in(world, phone)


def lets_in(world: World, phone: Agent) -> None:
    """A MESSAGE of the phone goes to the carrier and back."""
    assert told(phone) == []
    world.carrier.gets("MESSAGE")
    world.carrier.sends("200 MESSAGE")
    phone.gets("200 MESSAGE")


def test_slow_ones_do_not(any_world: World) -> None:
    """A phone with a wrong password that registers every five seconds is only wrong."""
    world = guarded(any_world)
    phone = world.stranger
    asked = nonce(phone)
    for _ in range(10):
        guesses(phone, asked, 1)
        assert told(phone) == [407]
        world.after(5.0)


def test_users_count_together_and_a_user_is_never_shut_out(any_world: World) -> None:
    """Whoever tries three names is out; the same name from elsewhere is not."""
    world = guarded(any_world)
    phone = world.stranger
    asked = nonce(phone)
    for user in ("bob", "mallory", "trudy"):
        guesses(phone, asked, 1, user)
    assert told(phone) == [407, 407, 403]
    elsewhere = Agent(world, "elsewhere", Flow(world.listeners[0], "203.0.113.67", 5060), 5060)
    world.agents.append(elsewhere)
    asked = nonce(elsewhere)
    elsewhere.sends("MESSAGE", headers=[right(elsewhere, asked)])
    lets_in(world, elsewhere)


@pytest.mark.parametrize(
    "what", ["no credentials", "stale", "another's nonce", "rubbish", "of another realm", "empty"]
)
def test_what_is_no_guess_shuts_nobody_out(any_world: World, what: str) -> None:
    """Anybody can write another's address into a packet, but not a nonce that was sent there: so nobody can shut the
    PBX out from elsewhere."""
    world = guarded(any_world, nonce_seconds=3.0)
    phone = world.stranger
    asked = nonce(phone)
    line = right(phone, asked, password="guess")
    match what:
        case "no credentials":
            line = "X: y"
        case "stale":
            world.after(3.1)
        case "another's nonce":
            line = right(phone, asked, password="guess", nonce="QUJDREVGR0hJSktMTU5PUFFS")
        case "rubbish":
            line += ', realm="callgate"'
        case "of another realm":
            line = line.replace(f'"{REALM}"', '"elsewhere"')
        case "empty":
            line = right(phone, asked, nonce="", response="").replace(
                "Digest ", 'Digest nonce="", response="", '
            )
    for _ in range(3 * MANY):
        phone.sends("MESSAGE", headers=[line])
        assert told(phone) == [407]
    asked = nonce(phone)
    phone.sends("MESSAGE", headers=[right(phone, asked)])
    lets_in(world, phone)
    assert not [alert for alert in world.alerts if alert.rule == "auth-throttle"]


def test_a_call_that_is_up_goes_on(world: World) -> None:
    """BYE, re-INVITE and all that belongs to a dialog come over its own flow: no password, and so no throttle."""
    guarded(world)
    phone = world.stranger
    calls(world, phone)
    asked = nonce(phone)
    guesses(phone, asked)
    assert told(phone)[-1] == 403
    phone.sends("re-INVITE", call="stranger-1@example")
    phone.gets("100")
    world.carrier.gets("re-INVITE")
    world.carrier.sends("200 re-INVITE")
    phone.gets("200 re-INVITE")
    phone.sends("ACK")
    world.carrier.gets("ACK")
    phone.sends("BYE")
    world.carrier.gets("BYE")
    world.carrier.sends("200 BYE")
    phone.gets("200 BYE")


def test_calls_that_need_no_password_go_on(any_world: World) -> None:
    """A phone behind the PBX's own address has guessed: the PBX, known by its address, calls on."""
    world = guarded(any_world, sources=["203.0.113.66"])
    phone = world.stranger
    phone.sends("OPTIONS", uri=f"sip:{world.gate}")
    phone.gets("200 OPTIONS")
    asked = again_challenged(world, phone)
    guesses(phone, asked)
    assert told(phone)[-1] == 403
    phone.sends("MESSAGE")
    lets_in(world, phone)


def again_challenged(world: World, phone: Agent) -> Text:
    """Who is known by his address gets a challenge when he shows old credentials."""
    phone.sends("MESSAGE", headers=[f'Proxy-Authorization: Digest realm="{REALM}"'])
    return phone.gets("407")


def test_an_emergency_call_may_try(any_world: World) -> None:
    """Once a second, in spite of the throttle: with the right password it is handled as what it is."""
    world = guarded(any_world)
    phone = world.stranger
    asked = nonce(phone)
    guesses(phone, asked)
    told(phone)
    world.after(1.1)
    bad = phone.sends("INVITE", to="110", headers=[right(phone, asked, "INVITE", "110", password="guess")])
    phone.gets("403")
    phone.sends("ACK")
    good = right(phone, asked, "INVITE", "110")
    again(phone, bad, good)
    phone.gets_nothing()  # the second one within the second was not even looked at
    world.after(1.1)
    again(phone, bad, good, number=3)
    phone.gets("503")
    phone.sends("ACK")
    assert world.record().rule.endswith("EMG")


def test_a_right_password_without_the_rest_counts_as_wrong(any_world: World) -> None:
    """Who has found a password must not find out that he has."""
    world = guarded(any_world, require=["digest", "source"], sources=["192.0.2.10"])
    phone = world.stranger
    asked = nonce(phone)
    for _ in range(MANY):
        phone.sends("MESSAGE", headers=[right(phone, asked)])
    assert told(phone) == [407] * (MANY - 1) + [403]
    assert world.alerts[0].details == {"source": "203.0.113.66", "user": "bob"}
    assert world.rejected("wrong credentials") == MANY - 1


def test_a_success_does_not_reset_the_count(any_world: World) -> None:
    """Or whoever has one password could guess the others in peace."""
    world = guarded(any_world, others={"eve": other_key(any_world)})
    phone = world.stranger
    asked = nonce(phone)
    for n in range(MANY):
        guesses(phone, asked, 1)
        assert told(phone) == [403 if n == MANY - 1 else 407]
        if n < MANY - 1:
            phone.sends("MESSAGE", headers=[right(phone, asked, user="eve")])
            lets_in(world, phone)


def test_no_time_is_no_throttle(any_world: World) -> None:
    world = guarded(any_world, block_seconds=0.0)
    phone = world.stranger
    asked = nonce(phone)
    guesses(phone, asked, 5 * MANY)
    assert told(phone) == [407] * 5 * MANY


def test_no_password_is_told(ladder: Ladder) -> None:
    """Alerts name the address, and a user that there is; what stood in the username of others may be a password."""
    world = guarded(ladder())
    phone = world.stranger
    first = phone.sends("INVITE")
    answers(phone, first, user="hunter2", password="hunter2")
    phone.gets("407")
    phone.sends("ACK")
    (alert,) = world.alerts
    assert alert.details == {"source": "203.0.113.66"}
    assert "hunter2" not in alert.text


# -- many behind one address -----------------------------------------------------------------------------------------

NAT = "203.0.113.66"


def neighbour(world: World, name: str, port: int, host: str = NAT) -> Agent:
    """Another phone behind the stranger's address."""
    agent = Agent(world, name, Flow(world.listeners[0], host, port), port)
    world.agents.append(agent)
    return agent


def shows(world: World, phone: Agent, **how: str) -> None:
    """A phone sends a MESSAGE, is challenged, and shows its password."""
    phone.sends("MESSAGE")
    asked = phone.gets("407")
    phone.sends("MESSAGE", headers=[right(phone, asked, **how)])
    lets_in(world, phone)


def goes_wrong(phone: Agent, number: int = MANY, **how: str) -> list[int]:
    """A phone with an old password that asks again and again, each time with the challenge that it has just got."""
    codes = []
    asked = nonce(phone)
    for _ in range(number):
        phone.sends("MESSAGE", headers=[right(phone, asked, **{"password": "old", **how})])
        got = [text for _, text in phone.inbox]
        phone.inbox.clear()
        codes += [text.code for text in got]
        asked = next((text for text in got if text.code == 407), asked)
    return codes


def test_neighbours_that_have_shown_a_password_go_on(any_world: World) -> None:
    """A phone with an old password shuts its address out within milliseconds. Who has shown a right one over a flow of
    its own is asked for it, and let in, as before; who has not, and everybody else, gets 403."""
    world = guarded(any_world, users=("bob", "eve"))
    pbx, old, new = world.stranger, neighbour(world, "old", 5062), neighbour(world, "new", 5064)
    shows(world, pbx, user="eve")
    asked = nonce(new)
    assert goes_wrong(old) == [407, 407, 403]
    world.after(1.1)
    for _ in range(5):
        shows(world, pbx, user="eve")
    new.sends("MESSAGE", headers=[right(new, asked)])
    assert told(new) == [403]
    world.after(1.1)
    new.sends("MESSAGE")
    assert told(new) == [403]


def test_the_one_that_goes_on_can_not_guess(any_world: World) -> None:
    """Over that flow nobody but who has shown a password is looked at: neither another user, nor his own wrong one,
    which ends it."""
    world = guarded(any_world, users=("bob", "eve"))
    eve, old = world.stranger, neighbour(world, "old", 5062)
    shows(world, eve, user="eve")
    asked = nonce(eve)
    goes_wrong(old)
    world.after(1.1)
    eve.sends("MESSAGE", headers=[right(eve, asked, user="bob")])
    assert told(eve) == [403], "right, but nobody has looked"
    shows(world, eve, user="eve")
    world.after(1.1)
    eve.sends("MESSAGE", headers=[right(eve, asked, user="eve", password="guess")])
    assert told(eve) == [403]
    world.after(1.1)
    eve.sends("MESSAGE", headers=[right(eve, asked, user="eve")])
    assert told(eve) == [403], "one wrong answer, and it is shut out like all others"


@pytest.mark.parametrize("user", ["eve", "bob", "nobody"])
def test_an_attacker_behind_the_same_nat(any_world: World, user: str) -> None:
    """He knows the PBX's user, and guesses for ten minutes over a flow of his own: so often as the throttle says and no
    more, every answer the same; and the PBX's calls go all the while."""
    world = guarded(any_world, users=("bob", "eve"))
    pbx, thief = world.stranger, neighbour(world, "thief", 5066)
    shows(world, pbx, user="eve")
    looked_at = 0
    for turn in range(20):
        thief.sends("MESSAGE")
        got = [text for _, text in thief.inbox]
        thief.inbox.clear()
        asked = got[0] if got and got[0].code == 407 else None
        before = world.rejected("wrong credentials")
        for n in range(10):
            if asked is not None:
                thief.sends("MESSAGE", headers=[right(thief, asked, user=user, password=f"{turn}-{n}")])
        assert set(told(thief)) <= {403, 407}
        looked_at += int(world.rejected("wrong credentials") - before)
        world.after(15.0)
        shows(world, pbx, user="eve")
        world.after(15.0)
    assert 0 < looked_at <= 10 * MANY


def test_a_password_found_while_shut_out_is_not_told(any_world: World) -> None:
    """The right one gets what every wrong one gets: 403, once a second, unread."""
    world = guarded(any_world)
    thief = world.stranger
    asked = nonce(thief)
    guesses(thief, asked)
    told(thief)
    answers = []
    for password in ("zanzibar", "guess", "zanzibar", "guess"):
        world.after(1.1)
        thief.sends("MESSAGE", headers=[right(thief, asked, password=password)])
        (answer,) = [text for _, text in thief.inbox]
        thief.inbox.clear()
        answers.append((answer.code, [name for name, _ in answer.headers]))
    assert answers == [answers[0]] * 4
    assert answers[0][0] == 403


def test_a_phone_with_an_old_password_shuts_its_address_out_once(any_world: World) -> None:
    """It goes on for minutes, with every challenge that it gets. From the second time on it is looked at so seldom that
    those behind the same address who have not been here yet get their turn."""
    world = guarded(any_world, users=("bob", "eve"))
    old, new = world.stranger, neighbour(world, "new", 5064)
    assert goes_wrong(old) == [407, 407, 403]
    world.after(60.0)
    blocks = [alert for alert in world.alerts if alert.rule == "auth-throttle" and not alert.resolved]
    for _ in range(30):
        for _ in range(5):
            goes_wrong(old, 3)
        world.after(2.0)
    shows(world, new, user="eve")
    assert [a for a in world.alerts if a.rule == "auth-throttle" and not a.resolved] == blocks
    world.after(10.0)
    shows(world, old, user="bob")
    world.after(0.1)
    shows(world, old, user="bob")


def test_a_copy_of_a_request_is_no_second_guess(any_world: World) -> None:
    """Its 407 was lost: UDP sends it again, with the same branch (RFC 3261 §17.1.2.2)."""
    world = guarded(any_world)
    phone = world.stranger
    asked = nonce(phone)
    data = phone.sends("MESSAGE", headers=[right(phone, asked, password="old")], lost=True).data
    for _ in range(3 * MANY):
        phone.transmits(data)
    assert told(phone) == [407] * 3 * MANY
    guesses(phone, asked, MANY - 1)
    assert told(phone)[-1] == 403


def test_the_alert_is_up_as_long_as_anybody_is_shut_out(any_world: World) -> None:
    world = guarded(any_world)
    one, other = world.stranger, neighbour(world, "other", 5060, "203.0.113.77")

    def resolved() -> list[bool]:
        return [alert.resolved for alert in world.alerts if alert.rule == "auth-throttle"]

    guesses(one, nonce(one))
    world.after(40.0)
    assert resolved() == [False]
    guesses(other, nonce(other))
    assert resolved() == [False, False], "each address is told"
    world.after(59.9)
    assert resolved() == [False, False]
    world.after(0.2)
    assert resolved() == [False, False, True]
    told(one), told(other)
    world.after(10.0)
    guesses(one, nonce(one))
    world.after(4.0)
    told(one)
