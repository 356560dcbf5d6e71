"""Events arrive: in order, unchanged, at least once; whatever their receivers do. On SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

import pytest
from sqlalchemy import update
from tests.cdr.receiver import SECRET, Got, Receiver
from tests.cdr.support import row

from callgate.cdr import events, outbox, schema
from callgate.cdr.courier import Courier
from callgate.cdr.database import engine_of
from callgate.cdr.erase import Selection
from callgate.cdr.outbox import Choice
from callgate.cdr.store import Store

DEADLINE = 20.0


@pytest.fixture
def server() -> Iterator[Receiver]:
    with closing(Receiver()) as made:
        yield made
        assert made.wrong == []


def told(server: Receiver, **how: Any) -> events.Receiver:
    how = {"allow_private": True, "retry_max": 0.2, "timeout": 5.0} | how
    return events.Receiver(events.name_of(server.url), server.url, SECRET, **how)


@asynccontextmanager
async def courier(url: str, *receivers: events.Receiver, **how: Any) -> AsyncIterator[Courier]:
    made = Courier(url, receivers, **{"poll": 0.02, "first": 0.02} | how)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def store_of(url: str, *receivers: events.Receiver) -> Store:
    made = Store(url, receivers)
    made.connect()
    return made


def listed(url: str, *states: str) -> list[dict[str, Any]]:
    with closing(engine_of(url, write=False).connect()) as connection:
        return list(outbox.listing(connection, Choice(), states or ("dead", "pending", "disabled")))


def queued_long_ago(url: str) -> None:
    with closing(engine_of(url).connect()) as connection, connection.begin():
        connection.execute(update(schema.outbox).values(queued_at="2020-01-01T00:00:00.000000Z"))


def replay(url: str, choice: Choice) -> outbox.Replayed:
    with closing(engine_of(url).connect()) as connection, connection.begin():
        return outbox.replay(connection, choice)


def in_order(got: list[Got]) -> bool:
    seen: dict[str, int] = {}
    for key, seq in (one.seq for one in got):
        if seq <= seen.get(key, 0):
            return False
        seen[key] = seq
    return True


async def test_each_record_is_told_in_order(url: str, server: Receiver) -> None:
    to = told(server)
    store = store_of(url, to)
    rows = [row(key=key) for _ in range(20) for key in ("acme", "other")]
    async with courier(url, to) as made:
        for n in range(0, 40, 8):
            store.insert(rows[n : n + 8])
        await until(lambda: len(server.got) == 40)
        await until(lambda: listed(url) == [])
        assert made.reports[0].delivered == 40
    assert [one.seq for one in server.got if one.seq[0] == "acme"] == [("acme", n) for n in range(1, 21)]
    assert in_order(server.got)
    first = next(one.event for one in server.got if one.seq == ("acme", 1))
    assert first["type"] == "cdr"
    assert first["timestamp"] == rows[0]["end_at"]
    assert first["data"] == rows[0] | {"seq": 1}
    assert len({one.id for one in server.got}) == 40


async def test_down_and_back(url: str) -> None:
    """Everything arrives, in order per key, to the byte what it was, under the same id."""
    with closing(Receiver()) as first:
        port, to = first.port, told(first)
        store = store_of(url, to)
        first.answer = lambda event: 500
        async with courier(url, to):
            store.insert([row(key=key) for _ in range(15) for key in ("a", "b", "c")])
            await until(lambda: len(first.got) > 5)
            first.close()
            await asyncio.sleep(0.1)
            store.insert([row(key=key) for _ in range(5) for key in ("a", "b", "c")])
            with closing(Receiver(port)) as second:
                await until(lambda: len(second.got) == 60)
                await until(lambda: listed(url) == [])
                assert in_order(second.got)
                tried = {one.id: one for one in first.got}
                assert {one.seq for one in first.got} == {(key, 1) for key in "abc"}  # nothing overtakes
                again = [one for one in second.got if one.id in tried]
                assert len(again) == len(tried)
                for one in again:
                    assert one.body == tried[one.id].body
                assert second.wrong == []


@pytest.mark.parametrize("manner", [500, 404, 302, 307, "hang", "close", "drip"])
async def test_what_is_not_delivered_is_tried_again(url: str, server: Receiver, manner: int | str) -> None:
    """A redirect is never followed; one that drips an answer for ever has taken the event all the same."""
    to = told(server, timeout=0.3 if manner in ("hang", "drip") else 5.0)
    store = store_of(url, to)
    bad = 3
    server.answer = lambda event: manner if len(server.got) < bad else 200
    async with courier(url, to) as made:
        store.insert([row(), row()])
        takes = 3 if manner == "drip" else 0
        await until(lambda: len(server.taken) == 2)
        await until(lambda: listed(url) == [])
        if not takes:
            assert [one.seq[1] for one in server.got] == [1, 1, 1, 1, 2]
            assert len({one.body for one in server.got}) == 2
            assert len({one.id for one in server.got}) == 2
            assert made.reports[0].failed == 3


async def test_ten_gigabytes(url: str, server: Receiver) -> None:
    to = told(server)
    server.answer = lambda event: "endless"
    async with courier(url, to):
        store_of(url, to).insert([row(), row()])
        await until(lambda: len(server.got) == 2 and listed(url) == [])
    assert server.sent < 64 << 20  # what fits into the buffers between them


async def test_one_key_waits_and_others_go_on(url: str, server: Receiver) -> None:
    to = told(server)
    store = store_of(url, to)
    server.answer = lambda event: 500 if event["data"]["key"] == "bad" else 200
    async with courier(url, to) as made:
        store.insert([row(key=key) for _ in range(10) for key in ("bad", "good")])
        await until(lambda: len(server.taken) == 10)
        assert {one.seq for one in server.got if one.code == 500} == {("bad", 1)}
        server.answer = lambda event: 200
        await until(lambda: len(server.taken) == 20)
        assert in_order(server.taken)
        assert made.reports[0].fault == ""


async def test_random_failures(fresh: Callable[[], str], server: Receiver) -> None:
    """At least once, never out of order; a lost answer makes a double with the same id."""
    to = told(server)
    url = fresh()
    store = store_of(url, to)
    chance = random.Random(7)
    server.answer = lambda event: chance.choice([200, 200, 200, 500, "close"])
    async with courier(url, to):
        for _ in range(10):
            store.insert([row(key=chance.choice("abcd")) for _ in range(6)])
        await until(lambda: len(server.taken) == 60 and listed(url) == [])
    assert in_order(server.taken)


async def test_given_up(url: str, server: Receiver) -> None:
    """Then it is a dead letter, and what comes after goes on; a replay sends it as it was."""
    to = told(server, give_up=100.0)
    store = store_of(url, to)
    first, second = row(), row()
    store.insert([first])
    server.answer = lambda event: 500
    async with courier(url, to):
        await until(lambda: len(server.got) >= 2)
        assert listed(url, "dead") == []
        queued_long_ago(url)
        await until(lambda: listed(url, "dead"))
        server.answer = lambda event: 200
        store.insert([second])
        await until(lambda: len(server.taken) == 1)
        assert server.taken[0].seq == ("acme", 2)
        await until(lambda: len(listed(url)) == 1)
        (dead,) = listed(url)
        assert (dead["state"], dead["id"], dead["fault"]) == ("dead", f"cdr_{first['id']}", "answered 500")
        assert replay(url, Choice(ids=(dead["id"],))) == (1, ())
        await until(lambda: len(server.taken) == 2 and listed(url) == [])
    assert server.taken[1].body == server.got[0].body
    assert server.taken[1].id == server.got[0].id


async def test_gone(url: str, server: Receiver) -> None:
    """410 switches a receiver off, over a restart too, until a replay."""
    to = told(server)
    store = store_of(url, to)
    server.answer = lambda event: 410
    async with courier(url, to) as made:
        store.insert([row(), row()])
        await until(lambda: made.reports[0].disabled)
    assert len(server.got) == 1
    server.answer = lambda event: 200
    async with courier(url, to) as made:
        store.insert([row()])
        await asyncio.sleep(0.15)
        assert len(server.got) == 1
        assert {one["state"] for one in listed(url)} == {"disabled"}
        assert replay(url, Choice(receiver=to.name)) == (0, (to.name,))
        await until(lambda: len(server.taken) == 3)
    assert in_order(server.taken)


async def test_a_restart_goes_on_where_it_was(url: str, server: Receiver) -> None:
    to = told(server)
    store_of(url, to).insert([row() for _ in range(30)])
    server.answer = lambda event: 200 if len(server.got) < 10 else 500
    async with courier(url, to):
        await until(lambda: len(server.got) > 11)
    server.answer = lambda event: 200
    async with courier(url, to):
        await until(lambda: listed(url) == [])
    assert [one.seq[1] for one in server.taken] == list(range(1, 31))


async def test_of_two_gates_one_delivers(url: str, server: Receiver) -> None:
    to = told(server)
    store = store_of(url, to)
    async with courier(url, to), courier(url, to):
        store.insert([row(key=key) for _ in range(20) for key in "ab"])
        await until(lambda: listed(url) == [])
    assert len(server.got) == 40
    assert in_order(server.got)


async def test_erased_before_it_was_sent(url: str, server: Receiver) -> None:
    to = told(server)
    store = store_of(url, to)
    server.answer = lambda event: 500
    async with courier(url, to):
        store.insert([row(caller="+81399999999"), row(), row(key="other", caller="+81399999999")])
        await until(lambda: len(server.got) > 2)
        erased = store.erase(Selection(numbers=("+81399999999",), key="acme"))
        assert (erased.database, erased.outbox) == (1, 1)
        await asyncio.sleep(0.05)
        server.answer = lambda event: 200
        await until(lambda: listed(url) == [])
    assert sorted(one.seq for one in server.taken) == [("acme", 2), ("other", 1)]


async def test_a_receiver_is_well_once_what_it_did_not_take_is_erased(url: str, server: Receiver) -> None:
    to = told(server)
    store = store_of(url, to)
    server.answer = lambda event: 500
    async with courier(url, to) as made:
        store.insert([row()])
        await until(lambda: made.reports[0].fault and made.reports[0].oldest >= 0.1)
        store.erase(Selection(key="acme"))
        await until(lambda: (made.reports[0].fault, made.reports[0].oldest) == ("", 0.0))


async def test_what_was_never_made_up(url: str, server: Receiver) -> None:
    """The same record twice, as after a crash, is one event; with the record it is rolled back."""
    to = told(server)
    store = store_of(url, to)
    one = row()
    store.insert([one, one])
    store.insert([one])
    with pytest.raises(Exception, match=r"(?i)null"):
        store.insert([row(), row() | {"call_id": None}])
    assert [letter["seq"] for letter in listed(url)] == [1]


async def test_sent_again_with_credentials(url: str, server: Receiver) -> None:
    """It is one record, told when it was challenged and when it has ended; in one batch, once."""
    to = told(server)
    store = store_of(url, to)
    challenged = row(final_code=401, answer_at=None, end_at=100.5, attempts=1)
    whole = row() | {"id": challenged["id"]}
    store.insert([challenged])
    store.insert([whole])
    store.insert([whole, challenged])
    async with courier(url, to):
        await until(lambda: listed(url) == [])
    first, second = [one.event["data"] for one in server.got]
    assert (first["final_code"], second["final_code"]) == (401, 200)
    assert (first["id"], second["attempts"]) == (second["id"], 2)
    assert server.got[0].id != server.got[1].id
    both = row(final_code=407, answer_at=None, end_at=100.5)
    store.insert([both, row(key="other") | {"id": both["id"]}])
    assert [(one["seq"], one["id"]) for one in listed(url)] == [(3, f"cdr_{both['id']}")]


async def test_receivers_get_what_they_want(url: str, server: Receiver) -> None:
    all_of_it = told(server)
    missed = all_of_it._replace(name="missed", events=("call.missed",))
    other = all_of_it._replace(name="other", keys=("other",))
    rang = {"direction": "inbound", "answer_at": None, "final_code": 486, "outcome": "busy"}
    refused = rang | {"verdict": "refused", "sent_at": None}
    store = store_of(url, all_of_it, missed, other)
    store.insert([row(**rang), row(**refused), row(key="other")])
    store.tell([events.test_event(0.0, "somebody")])
    found = {(one["receiver"], one["type"], one["key"], one["seq"]) for one in listed(url)}
    assert found == {
        (all_of_it.name, "cdr", "acme", 1),
        (all_of_it.name, "call.missed", "acme", 2),
        (all_of_it.name, "cdr", "acme", 3),
        (all_of_it.name, "cdr", "other", 1),
        (all_of_it.name, "alert.test", "", 1),
        ("missed", "call.missed", "acme", 1),
        ("other", "cdr", "other", 1),
    }
