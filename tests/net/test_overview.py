"""What a live view asks of a gate: the part of each list that it shows, sorted and filtered by the gate."""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from types import SimpleNamespace
from typing import Any, cast

import pytest

from callgate.net.desk import OPERATIONS, Unfit
from callgate.net.gate import Gate
from callgate.net.overview import COUNT_MAX, Overview
from callgate.net.rows import Row, Rows
from callgate.policy.claim import Claim, Members, Window
from callgate.policy.dial import DialRules
from callgate.policy.profile import NumberRules
from callgate.proxy.commands import Alert
from callgate.proxy.context import Phase
from callgate.proxy.core import Core
from callgate.proxy.directory import Directory
from callgate.proxy.flow import Listener
from callgate.proxy.meters import Meters
from callgate.proxy.peers import Key, Numbers, Trunk
from callgate.proxy.record import CallRecord
from callgate.proxy.token import Signer
from callgate.store.memory import MemoryStore


class World:
    """A gate's parts with `keys` keys, and calls as they are put in."""

    def __init__(self, keys: int) -> None:
        trunk = Trunk("carrier")
        made = [self._key(trunk, f"key-{n:04}") for n in range(keys)]
        directory = Directory([Listener(0, b"UDP", "127.0.0.1", 5060)], [trunk], made, Numbers())
        self.core = Core(directory, Signer(b"x" * 32), Meters([0.0] * (200 + 80 * keys)), 1, monotonic())
        self.store = MemoryStore(0.0)
        self.refused: deque[CallRecord] = deque(maxlen=50)
        gate = SimpleNamespace(core=self.core, store=self.store, directory=directory)
        story = SimpleNamespace(since=lambda name: None)
        gate.records = SimpleNamespace(refused=self.refused, story=story)
        self.directory = directory
        self.overview = Overview(cast(Gate, gate), Rows(cast(Gate, gate)))

    @staticmethod
    def _key(trunk: Trunk, name: str) -> Key:
        rate, lines = Window("V1", f"{name}/outbound_cps", 3), Members("V4", f"{name}/lines", 10)
        forwards = Members("V4", f"{name}/forwarded_calls", 4)
        dial = DialRules(NumberRules({}))
        return Key(
            name,
            trunk,
            dial,
            outbound=(rate,),
            attempt=(rate,),
            inbound=(lines,),
            forwarded=(rate, lines, forwards),
        )

    def key(self, number: int) -> Key:
        return self.directory.keys[f"key-{number:04}"]

    def call(self, number: int, key: int = 0, *, phase: int = Phase.UP, to: str = "0312345678") -> Any:
        record = self.record(number, key, to)
        call = SimpleNamespace(phase=phase, leg=number, key=self.key(key), record=record, turn=None)
        call.call_id, call.copies = b"call-%d" % number, SimpleNamespace(granted=())
        call.is_session = False
        self.core.by_call_id[call.call_id] = cast(Any, call)
        self.core.live_calls += 1
        return call

    def record(self, number: int, key: int = 0, to: str = "0312345678") -> CallRecord:
        record = CallRecord(number, "outbound", 100.0 + number)
        record.key, record.raw, record.call_id = f"key-{key:04}", to, f"call-{number}"
        return record

    def refuses(self, number: int, key: int, rule: str) -> None:
        record = self.record(number, key)
        record.outcome, record.rule = "refused", rule
        self.core.counts.ended(record)
        self.refused.append(record)

    async def look(self, **asked: Any) -> Row:
        """As the operation hands it on, with its checks."""
        return await self.overview.look(OPERATIONS["overview"].read(asked))


def names(part: Row, what: str = "key") -> list[str]:
    return [row[what] for row in part["rows"]]


@pytest.fixture
def world() -> World:
    """Four keys, used in different ways."""
    world = World(4)
    world.store.claim(Claim(1, (Members("V4", "key-0002/lines", 10),), 1e9, 1e9), monotonic())
    for number in (2, 3):
        world.store.claim(
            Claim(number, (Members("V4", "key-0003/forwarded_calls", 4),), 1e9, 1e9), monotonic()
        )
    world.core.counts.call_up(world.key(1), 0)
    for number in range(3):
        world.refuses(number, 0, "V1")
    world.refuses(3, 3, "K-X2")
    world.core.suspensions.suspend("key-0001", 100.0, reason="", until=None, by="test", drop=False)
    return world


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("use", [3, 2, 0, 1]),
        ("key", [0, 1, 2, 3]),
        ("calls", [1, 0, 2, 3]),
        ("refused", [0, 3, 1, 2]),
        ("state", [1, 0, 2, 3]),
        ("queued", [0, 1, 2, 3]),
    ],
)
async def test_keys_in_order(world: World, sort: str, order: list[int]) -> None:
    expected = [f"key-{n:04}" for n in order]
    assert names((await world.look(keys_sort=sort))["keys"]) == expected
    turned = names((await world.look(keys_sort=sort, keys_reverse=True))["keys"])
    assert turned[-1] == expected[0] or sort == "queued"  # nobody waits: equals keep their order


async def test_a_key_s_row_has_all_that_is_shown(world: World) -> None:
    (row,) = (await world.look(keys_filter="0003"))["keys"]["rows"]
    assert row["limits"]["forwarded_calls"] == {"rule": "V4", "used": 2, "limit": 4}
    assert (row["refused"], row["queued"], row["slowed"]) == (1, 0, 0)


async def test_a_list_is_shown_in_parts(world: World) -> None:
    for number in range(30):
        world.call(number, number % 4, to=f"03123456{number:02}")
    calls = (await world.look(calls_count=4))["calls"]
    assert (calls["total"], calls["matching"], calls["first"]) == (30, 30, 0)
    assert names(calls, "call_id") == [f"call-{n}" for n in (29, 28, 27, 26)]
    calls = (await world.look(calls_count=4, calls_first=4, calls_reverse=True))["calls"]
    assert names(calls, "call_id") == [f"call-{n}" for n in (4, 5, 6, 7)]
    calls = (await world.look(calls_count=4, calls_first=1000))["calls"]
    assert (calls["first"], names(calls, "call_id")) == (26, [f"call-{n}" for n in (3, 2, 1, 0)])
    calls = (await world.look(calls_filter="KEY-0002", calls_sort="to"))["calls"]
    assert (calls["matching"], names(calls, "to")[0]) == (7, "0312345602")
    looked = await world.look(key="key-0003")
    assert set(names(looked["calls"])) == {"key-0003"}
    assert names(looked["refusals"]) == ["key-0003"]
    assert looked["keys"]["matching"] == 4
    assert (await world.look(calls_filter="nothing like it"))["calls"]["rows"] == []


async def test_refusals_are_those_of_the_last_moments_first(world: World) -> None:
    assert names((await world.look())["refusals"], "call_id") == ["call-3", "call-2", "call-1", "call-0"]
    assert names((await world.look(refusals_sort="rule"))["refusals"], "rule") == ["K-X2", "V1", "V1", "V1"]


async def test_what_has_ended_is_not_shown(world: World) -> None:
    call = world.call(1)
    world.call(2)
    call.phase = Phase.OVER
    assert names((await world.look())["calls"], "call_id") == ["call-2"]


async def test_alerts_begin_with_the_worst(world: World) -> None:
    for number, severity in enumerate(("info", "critical", "warning") * 10):
        world.core.alerts.stands(Alert(f"X{number}", severity, "acme", "text", None, None))
    alerts = (await world.look())["alerts"]
    assert alerts["total"] == 31  # V9 too
    assert [row["severity"] for row in alerts["rows"]] == ["critical"] * 10 + ["warning"] * 10


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"calls_count": COUNT_MAX + 1}, "must be a number from 1 to 200"),
        ({"calls_first": -1}, "must be a number from 0"),
        ({"calls_count": True}, "must be a number from 1"),
        ({"keys_sort": "colour"}, "must be one of use, key"),
        ({"keys_filter": "a\x1b[2J"}, "without control characters"),
    ],
)
async def test_what_makes_no_sense(world: World, asked: Row, words: str) -> None:
    with pytest.raises(Unfit, match=words):
        await world.look(**asked)


async def test_many_keys_and_calls_hold_nobody_up() -> None:
    """The loop turns many times, and what is answered is the screen's part."""
    world = World(500)
    for number in range(5000):
        world.call(number, number % 500)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(turn())
    looked = await world.look(keys_count=40, calls_count=40, calls_filter="031", calls_sort="to")
    ticking.cancel()
    assert (looked["keys"]["matching"], len(looked["keys"]["rows"])) == (500, 40)
    assert (looked["calls"]["matching"], len(looked["calls"]["rows"])) == (5000, 40)
    assert turns > 5
