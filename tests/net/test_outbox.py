"""`callgate events test`: what came of it with each receiver, whatever that does. The process that delivers is the same
courier, in this one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import cast

import pytest
from tests.cdr.receiver import SECRET, Receiver
from tests.cdr.support import until
from tests.net.test_keeping import StandIn

from callgate.cdr.courier import Courier
from callgate.config import load_config
from callgate.net import outbox
from callgate.net.gate import Gate
from callgate.net.keeping import Keeping


class Place:
    """A gate's side of the outbox, with three receivers: of all, of calls only, of one key."""

    def __init__(self, folder: Path, servers: list[Receiver], database: str = "sqlite:///a.db") -> None:
        hooks = [
            {"url": server.url, "secret": SECRET, "allow_private": True, "timeout_seconds": 2, **more}
            for server, more in zip(servers, ({}, {"events": ["cdr"]}, {"keys": ["acme"]}), strict=True)
        ]
        file = folder / "gate.yaml"
        file.write_text(
            json.dumps(
                {
                    "database": database,
                    "webhooks": hooks,
                    "trunks": {"c": {"gateways": ["sip:127.0.0.1:5080"]}},
                    "keys": {"acme": {"sources": ["127.0.0.1"]}},
                }
            )
        )
        config = load_config(file)
        self.gate = StandIn()
        self.keeping = Keeping(config, cast("Gate", self.gate))
        self.outbox = self.keeping.outbox
        self.names = [one.name for one in self.outbox.receivers]
        self.courier = Courier(config.database_url, self.outbox.receivers, poll=0.02, first=0.02)
        self.keeping.start()

    async def test(self, name: str | None = None) -> dict[str, tuple[str, str]]:
        async def report() -> None:
            while True:
                for one in self.courier.reports:
                    row = one.row() | {"database": self.courier.fault, "standby": False}
                    self.outbox._reported(json.dumps(row))
                await asyncio.sleep(0.02)

        tasks = [asyncio.create_task(self.courier.run()), asyncio.create_task(report())]
        try:
            found = await self.outbox.test("me", name)
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        return {row["receiver"]: (row["result"], row["fault"]) for row in found}

    def close(self) -> None:
        self.keeping.writer.close(1.0)


@pytest.fixture
def servers() -> Iterator[list[Receiver]]:
    made = [Receiver() for _ in range(3)]
    yield made
    for one in made:
        one.close()


@pytest.fixture
def place(tmp_path: Path, servers: list[Receiver], monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(outbox, "TEST_LEAST", 0.3)
    with closing(Place(tmp_path, servers)) as made:
        until(lambda: made.keeping.writer._up)
        yield made


async def test_who_wants_alerts_of_all_keys_gets_it(place: Place, servers: list[Receiver]) -> None:
    assert await place.test() == {place.names[0]: ("delivered", "")}
    assert [len(one.taken) for one in servers] == [1, 0, 0]


async def test_one_of_them_gets_it_whatever_it_wants(place: Place, servers: list[Receiver]) -> None:
    assert await place.test(place.names[2]) == {place.names[2]: ("delivered", "")}
    assert [len(one.taken) for one in servers] == [0, 0, 1]


async def test_one_that_there_is_not(place: Place) -> None:
    assert await place.test("nobody") == {}


async def test_one_that_does_not_take_it(place: Place, servers: list[Receiver]) -> None:
    servers[0].answer = lambda event: 500
    assert await place.test() == {place.names[0]: ("waits", "answered 500")}


async def test_no_database(tmp_path: Path, servers: list[Receiver], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "TEST_LEAST", 0.3)
    with closing(Place(tmp_path, servers, f"sqlite:///{tmp_path}/gate.yaml/a.db")) as place:
        ((result, fault),) = (await place.test()).values()
        assert result == "waits"
        assert fault
