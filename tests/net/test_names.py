"""The places of a name over time (net/names.py): TTL, stale answers, back-off. Time and dice are passed in."""

from __future__ import annotations

import asyncio

import pytest

from callgate.config import SipPeer
from callgate.net.dns import Failed
from callgate.net.locate import Located
from callgate.net.names import AGAIN_MAX, TTL_MAX, Name, Names
from callgate.proxy.trunk.places import Place

PEER = SipPeer.parse("sip:trunk.example")
ONE = (Place(0, 1, b"UDP", 5060, ("192.0.2.1",)),)
TWO = (Place(0, 1, b"UDP", 5060, ("192.0.2.2",)),)
STALE = 100.0


@pytest.fixture
def name() -> Name:
    return Name(PEER, STALE, lambda: 0.0)


def test_it_is_asked_again_before_its_ttl_is_over(name: Name) -> None:
    assert name.found(Located(ONE, 60.0), 1000.0)
    assert name.again == 1000 + 54
    assert not name.found(Located(ONE, 60.0), 1054.0), "nothing has changed"


def test_the_moment_is_jittered() -> None:
    """So that names that were looked up together don't come together for ever."""
    name = Name(PEER, STALE, lambda: 0.999)
    name.found(Located(ONE, 60.0), 1000.0)
    assert 1000 + 48 < name.again < 1000 + 49


@pytest.mark.parametrize(
    ("ttl", "pause"), [(0.0, 1.0), (1.0, 1.0), (float("inf"), TTL_MAX * 0.9), (1e9, TTL_MAX * 0.9)]
)
def test_floor_and_cap(name: Name, ttl: float, pause: float) -> None:
    name.found(Located(ONE, ttl), 0.0)
    assert name.again == pause


def test_a_new_answer_replaces_the_old_one(name: Name) -> None:
    name.found(Located(ONE, 60.0), 1000.0)
    assert name.found(Located(TWO, 60.0), 1054.0)
    assert name.places == TWO


def test_stale_answers_serve_while_dns_is_away(name: Name) -> None:
    """For `stale_seconds` beyond the TTL; then nothing is known any more."""
    name.found(Located(ONE, 60.0), 1000.0)
    assert name.failed("no name server answers", 1054.0), "somebody should hear of it"
    assert (name.places, name.trouble) == (ONE, "no name server answers")
    assert not name.failed("no name server answers", 1159.9)
    assert name.again == pytest.approx(1160.0), "asked at the very moment when it would end"
    assert name.failed("no name server answers", 1160.0)
    assert name.places == ()


def test_an_answer_ends_the_trouble(name: Name) -> None:
    name.found(Located(ONE, 60.0), 1000.0)
    name.failed("away", 1054.0)
    assert name.found(Located(ONE, 60.0), 1060.0)
    assert name.trouble == ""


def test_the_pauses_double_up_to_a_bound(name: Name) -> None:
    pauses, now = [], 1000.0
    for _ in range(9):
        name.failed("away", now)
        pauses.append(name.again - now)
        now = name.again
    assert pauses == pytest.approx([0.75, 1.5, 3, 6, 12, *[AGAIN_MAX * 0.75] * 4])
    name.found(Located(ONE, 60.0), now)
    name.failed("away", now)
    assert name.again - now == 0.75, "begins anew after a success"


def test_no_service_is_believed_when_it_is_said_twice(name: Name) -> None:
    """A zone that is being changed, one server of several that is behind."""
    name.found(Located(ONE, 60.0), 1000.0)
    name.found(Located((), 300.0), 1054.0)
    assert name.places == ONE
    assert name.again < 1056, "asked again soon, whatever the negative TTL"
    assert name.found(Located((), 300.0), 1055.0)
    assert name.places == ()
    assert "no address" in name.trouble
    assert name.found(Located(TWO, 60.0), 1060.0)
    assert (name.places, name.trouble) == (TWO, "")


def test_an_answer_between_two_absences(name: Name) -> None:
    name.found(Located(ONE, 60.0), 1000.0)
    name.found(Located((), 300.0), 1054.0)
    name.found(Located(ONE, 60.0), 1055.0)
    name.found(Located((), 300.0), 1110.0)
    assert name.places == ONE


def test_a_name_that_comes_up_after_the_gate(name: Name) -> None:
    """Containers start in any order: asked again within seconds, whatever the negative TTL."""
    name.found(Located((), 86_400.0), 1000.0)
    assert name.again - 1000 <= 1
    assert name.places == ()


def test_half_an_answer_does_not_replace_a_whole_one(name: Name) -> None:
    """SRV could not be asked, only the address: its port may be wrong."""
    name.found(Located(ONE, 60.0), 1000.0)
    assert name.found(Located(TWO, 60.0, sure=False), 1054.0), "somebody should hear of it"
    assert name.places == ONE
    assert name.again < 1056
    name.found(Located(TWO, 60.0, sure=False), 1160.0)
    assert name.places == TWO, "the whole one is too old"
    name.found(Located(ONE, 60.0, sure=False), 1170.0)
    assert name.places == ONE, "of two halves the new one"


def test_half_an_answer_is_better_than_none(name: Name) -> None:
    assert name.found(Located(ONE, 60.0, sure=False), 1000.0)
    assert (name.places, name.trouble) == (ONE, "")
    assert name.again < 1002


# -- the tasks ------------------------------------------------------------------------------------------------------


class Locator:
    """Answers as it is told, and counts how many look-ups run at once."""

    def __init__(self, *answers: Located | Exception) -> None:
        self.answers = list(answers)
        self.at_once = self.most = self.asked = 0
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def locate(self, peer: SipPeer) -> Located:
        self.asked += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.goes_on.wait()
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            self.at_once -= 1


class Changes:
    def __init__(self) -> None:
        self.seen: list[tuple[SipPeer, tuple[Place, ...], str]] = []
        self.errors: list[Exception] = []
        self.news = asyncio.Event()

    def changed(self, peer: SipPeer, places: tuple[Place, ...], trouble: str) -> None:
        self.seen.append((peer, places, trouble))
        self.news.set()


async def test_the_start_has_the_first_answers() -> None:
    changes = Changes()
    names = Names([PEER, PEER], Locator(Located(ONE, 60.0)), STALE, changes.changed, changes.errors.append)
    await names.start(30.0)
    assert changes.seen == [(PEER, ONE, "")], "a name that two use is looked up once"
    await names.close()


async def test_the_start_does_not_wait_for_ever() -> None:
    changes, locator = Changes(), Locator(Located(ONE, 60.0))
    locator.goes_on.clear()
    names = Names([PEER], locator, STALE, changes.changed, changes.errors.append)
    await names.start(0.01)
    assert not changes.seen
    locator.goes_on.set()
    await changes.news.wait()
    assert changes.seen == [(PEER, ONE, "")]
    await names.close()


async def test_a_failure_is_told_and_the_start_goes_on() -> None:
    changes = Changes()
    names = Names([PEER], Locator(Failed("away")), STALE, changes.changed, changes.errors.append)
    await names.start(30.0)
    assert changes.seen == [(PEER, (), "away")]
    await names.close()


async def test_a_bug_ends_no_name() -> None:
    changes = Changes()
    bug = ZeroDivisionError()
    names = Names([PEER], Locator(bug, Located(ONE, 60.0)), STALE, changes.changed, changes.errors.append)
    await names.start(30.0)
    changes.news.clear()
    await changes.news.wait()
    assert changes.errors == [bug]
    assert changes.seen[-1] == (PEER, ONE, "")
    await names.close()


async def test_not_all_at_once() -> None:
    changes, locator = Changes(), Locator(Located(ONE, 60.0))
    peers = [SipPeer.parse(f"sip:gw{n}.example") for n in range(50)]
    names = Names(peers, locator, STALE, changes.changed, changes.errors.append)
    locator.goes_on.clear()
    await names.start(0.01)
    assert locator.at_once == 8
    locator.goes_on.set()
    while len(changes.seen) < 50:
        changes.news.clear()
        await changes.news.wait()
    assert locator.most == 8
    await names.close()
    assert locator.at_once == 0


async def test_a_name_that_is_to_be_looked_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is there does not answer: not the whole TTL is waited, but five seconds are, however often it is said."""
    monkeypatch.setattr("callgate.net.names.SOONEST", 0.05)
    changes, locator = Changes(), Locator(Located(ONE, 3600.0), Located(TWO, 3600.0))
    names = Names([PEER], locator, STALE, changes.changed, changes.errors.append)
    names.hurry(PEER)  # not begun yet: nothing
    await names.start(30.0)
    began = asyncio.get_running_loop().time()
    changes.news.clear()
    await asyncio.sleep(0)
    for _ in range(100):
        names.hurry(PEER)
    names.hurry(SipPeer.parse("sip:other.example"))
    await changes.news.wait()
    assert asyncio.get_running_loop().time() - began >= 0.04
    assert changes.seen[-1] == (PEER, TWO, "")
    assert locator.asked == 2
    await names.close()
