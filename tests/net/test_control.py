"""The control socket: its protocol, whatever a client sends, and the file it stands in."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import structlog

from callgate.net import control as module
from callgate.net.control import CLIENTS, LINE, Control, Taken
from callgate.net.desk import Answer, Argument, Desk, Operation, Unfit
from callgate.net.rows import Row
from callgate.store.socket_path import address

MANY = 20_000


class Stub:
    """Stands for a desk: what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Row, str]] = []


async def echo(desk: Desk, arguments: Row, who: str) -> Answer:
    cast(Stub, desk).asked.append((arguments, who))
    return {"heard": arguments}


async def many(desk: Desk, arguments: Row, who: str) -> Answer:
    return ({"n": n, "text": "x" * 50} for n in range(MANY))


async def breaks(desk: Desk, arguments: Row, who: str) -> Answer:
    raise ZeroDivisionError


async def refuses(desk: Desk, arguments: Row, who: str) -> Answer:
    raise Unfit("unknown", "there is no such thing")


OPERATIONS = {
    "echo": Operation(
        echo,
        {"text": Argument(needed=True), "flag": Argument(bool), "which": Argument(choices=("one", "two"))},
    ),
    "many": Operation(many),
    "breaks": Operation(breaks),
    "refuses": Operation(refuses),
}


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def says(self, data: bytes) -> dict[str, Any]:
        self.writer.write(data)
        return await self.hears()

    async def asks(self, op: str, **arguments: Any) -> dict[str, Any]:
        return await self.says(json.dumps({"op": op, "args": arguments}).encode() + b"\n")

    async def hears(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            return cast(dict[str, Any], json.loads(await self.reader.readline()))

    async def ends(self) -> None:
        async with asyncio.timeout(10):
            assert await self.reader.read() == b""
        self.close()

    def close(self) -> None:
        self.writer.close()


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
async def control(tmp_path: Path, stub: Stub) -> AsyncIterator[Control]:
    served = Control(tmp_path / "state", cast(Desk, stub), structlog.get_logger(), OPERATIONS)
    await served.start()
    yield served
    await served.close()
    assert not served.path.exists()


async def happens(what: Callable[[], bool]) -> None:
    for _ in range(1000):
        if what():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it has not happened within 10 s")


async def connect(control: Control) -> Client:
    return Client(*await asyncio.open_unix_connection(control.path))


async def test_who_asks_is_known(control: Control, stub: Stub) -> None:
    """By the kernel, whatever the request says."""
    client = await connect(control)
    assert await client.asks("echo", text="hello", flag=True, which="two") == {
        "ok": True,
        "heard": {"text": "hello", "flag": True, "which": "two"},
    }
    client.close()
    ((_, who),) = stub.asked
    assert f"(uid {os.getuid()}, pid {os.getpid()})" in who


async def test_nobody_else_may_connect(control: Control) -> None:
    assert stat.S_IMODE(control.path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"rubbish", "one line of JSON"),
        (b"\xff\xfe\x00", "one line of JSON"),
        (b"[" * 60_000, "one line of JSON"),
        (b"null", "an object such as"),
        (b'{"op": 7}', "an object such as"),
        (b'{"op": "echo", "more": 1}', "nothing else"),
        (b'{"op": "echo", "args": []}', "must be an object"),
        (b'{"op": "shutdown"}', "unknown operation `shutdown`; known: echo"),
        (b'{"op": "echo"}', "`text` is missing"),
        (b'{"op": "echo", "args": {"text": 7}}', "`text` must be text"),
        (b'{"op": "echo", "args": {"text": "a", "flag": "yes"}}', "`flag` must be true or false"),
        (b'{"op": "echo", "args": {"text": "a\\r\\nContact: b"}}', "must be one line"),
        (b'{"op": "echo", "args": {"text": "a", "which": "three"}}', "one of one, two"),
        (b'{"op": "echo", "args": {"text": "a", "other": 1}}', "unknown argument `other`"),
        (b'{"op": "echo", "args": {"text": "' + b"x" * 2000 + b'"}}', "longer than"),
    ],
)
async def test_what_makes_no_sense(control: Control, stub: Stub, line: bytes, words: str) -> None:
    """Each is answered in words, and the next request of the same client is heard."""
    client = await connect(control)
    answer = await client.says(line + b"\n")
    assert (answer["ok"], answer["kind"]) == (False, "usage")
    assert words in answer["error"]
    assert not stub.asked
    assert (await client.asks("echo", text="fine"))["ok"]
    client.close()


async def test_a_line_that_does_not_end(control: Control) -> None:
    client = await connect(control)
    assert "at most" in (await client.says(b"x" * (LINE + 1)))["error"]
    await client.ends()


async def test_a_client_that_leaves(control: Control) -> None:
    """In the middle of a request, or of an answer."""
    half = await connect(control)
    half.writer.write(b'{"op": "ec')
    half.close()
    for _ in range(3):
        gone = await connect(control)
        gone.writer.write(b'{"op": "many"}\n')
        await gone.reader.readline()
        gone.close()
    client = await connect(control)
    assert (await client.asks("echo", text="fine"))["ok"]
    client.close()


async def test_what_is_refused(control: Control) -> None:
    client = await connect(control)
    answer = await client.asks("refuses")
    assert answer == {"ok": False, "kind": "unknown", "error": "there is no such thing"}
    assert "internal error" in (await client.asks("breaks"))["error"]
    assert (await client.asks("echo", text="fine"))["ok"]
    client.close()


async def test_a_long_list_holds_nobody_up(control: Control) -> None:
    """The loop turns many times while it is sent, and another client is served meanwhile."""
    client, other = await connect(control), await connect(control)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(turn())
    client.writer.write(b'{"op": "many"}\n')
    first = await client.hears()
    assert (await other.asks("echo", text="me too"))["ok"]
    rows = [first] + [await client.hears() for _ in range(MANY - 1)]
    ticking.cancel()
    assert [row["row"]["n"] for row in rows] == list(range(MANY))
    assert await client.hears() == {"ok": True, "count": MANY}
    assert turns > 10
    client.close()
    other.close()


async def test_a_client_that_takes_nothing(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is let go after a while; nothing is kept for it."""
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.1)
    client = await connect(control)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.writer.write(b'{"op": "many"}\n' * 20)
    await happens(lambda: control.clients == 1)
    await happens(lambda: control.clients == 0)
    client.close()


async def test_no_more_clients_than_can_be_served(control: Control) -> None:
    clients = [await connect(control) for _ in range(CLIENTS)]
    for client in clients:
        assert (await client.asks("echo", text="here"))["ok"]
    late = await connect(control)
    assert "clients are served already" in (await late.hears())["error"]
    await late.ends()
    clients[0].close()
    await happens(lambda: control.clients < CLIENTS)
    again = await connect(control)
    assert (await again.asks("echo", text="here"))["ok"]
    for client in (*clients[1:], again):
        client.close()


async def test_one_that_was_killed_makes_way(tmp_path: Path, stub: Stub) -> None:
    """Its socket is still there; one that is served is nobody else's."""
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "control.sock"))
    dead.close()
    served = Control(tmp_path, cast(Desk, stub), structlog.get_logger(), OPERATIONS)
    await served.start()
    with pytest.raises(Taken, match="another gate"):
        await Control(tmp_path, cast(Desk, stub), structlog.get_logger(), OPERATIONS).start()
    client = await connect(served)
    assert (await client.asks("echo", text="fine"))["ok"]
    client.close()
    await served.close()


async def test_a_file_in_its_place(tmp_path: Path, stub: Stub) -> None:
    """What is no socket is not taken away."""
    (tmp_path / "control.sock").write_text("mine")
    with pytest.raises(OSError):
        await Control(tmp_path, cast(Desk, stub), structlog.get_logger(), OPERATIONS).start()
    assert (tmp_path / "control.sock").read_text() == "mine"


async def test_a_long_path(tmp_path: Path, stub: Stub) -> None:
    """The kernel takes 107 bytes for a socket's name; a state_dir may be longer."""
    folder = tmp_path / ("x" * 60) / ("y" * 60)
    served = Control(folder, cast(Desk, stub), structlog.get_logger(), OPERATIONS)
    await served.start()
    with address(served.path) as where:
        client = Client(*await asyncio.open_unix_connection(where))
    assert (await client.asks("echo", text="fine"))["ok"]
    client.close()
    await served.close()
