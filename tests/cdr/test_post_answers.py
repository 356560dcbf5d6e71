"""A receiver that says what it likes: the verdict stands in the first line, nothing is read without end, and a
connection is used again only where that is safe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.cdr.receiver import SECRET
from tests.cdr.serving import request, serving

from callgate.cdr import events
from callgate.cdr.post import Outcome, Post

OK = b"HTTP/1.1 204 No Content\r\n\r\n"
BODY = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


class Raw:
    """Says `answers` in turn, to the byte; None: nothing, and closes. `closes`: after each, without a word."""

    def __init__(self, *answers: bytes | None, closes: bool = False) -> None:
        self.answers = list(answers)
        self.closes = closes
        self.requests = 0
        self.connections = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            await request(reader)
            self.requests += 1
            answer = self.answers.pop(0)
            if answer is None:
                return
            writer.write(answer)
            await writer.drain()
            if self.closes:
                return


@asynccontextmanager
async def talking(raw: Raw, seconds: float = 2.0) -> AsyncIterator[Post]:
    async with serving(raw.take) as port:
        url = f"http://127.0.0.1:{port}/"
        post = Post(events.Receiver("raw", url, SECRET, allow_private=True, timeout=seconds))
        yield post
        await post.close()


@pytest.mark.parametrize(
    ("answer", "outcome", "kept"),
    [
        (OK, Outcome("", 204), True),
        (BODY % 5 + b"hello", Outcome("", 200), True),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            Outcome("", 200),
            True,
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, Outcome("", 204), True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", Outcome("", 200), False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", Outcome("", 200), False),
        (BODY % (10 << 30) + b"x" * 100_000, Outcome("", 200), False),
        (BODY % (10 << 30) + b"x", Outcome("", 200), False),  # and then nothing
        (b"HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n", Outcome("answered 503", 503), True),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, Outcome("Receive buffer too long"), False),
    ],
)
async def test_answers(answer: bytes, outcome: Outcome, kept: bool) -> None:
    raw = Raw(answer, OK)
    async with talking(raw) as post:
        assert await post.deliver("a", "{}") == outcome
        assert await post.deliver("b", "{}") == Outcome("", 204)
    assert raw.connections == (1 if kept else 2)


@pytest.mark.parametrize(
    "answer", [b"220 mail.example ESMTP\r\n\r\n", b"\0\0\0\0\r\n\r\n", b"HTTP/1.1 two OK\r\n\r\n", None]
)
async def test_no_answer(answer: bytes | None) -> None:
    async with talking(Raw(answer)) as post:
        outcome = await post.deliver("a", "{}")
    assert outcome.fault
    assert outcome.code == 0


async def test_closed_while_nothing_was_sent() -> None:
    """A receiver may close what is kept at any time; an event that was on its way there goes by a new connection."""
    raw = Raw(OK, OK, OK, closes=True)
    async with talking(raw) as post:
        for _ in range(3):
            assert (await post.deliver("a", "{}")).fault == ""
            await asyncio.sleep(0)
    assert raw.requests == 3


async def test_cut_off_before_its_answer() -> None:
    """Whether the event has arrived nobody knows: a failure, and what comes next goes over a new connection."""
    raw = Raw(OK, None, OK)
    async with talking(raw) as post:
        assert (await post.deliver("a", "{}")).fault == ""
        assert "disconnected" in (await post.deliver("b", "{}")).fault
        assert (await post.deliver("b", "{}")).fault == ""
    assert (raw.requests, raw.connections) == (3, 2)


async def test_silence() -> None:
    async with talking(Raw(b""), seconds=0.1) as post:
        assert await post.deliver("a", "{}") == Outcome("no answer within 0.1 s")


async def test_user_and_password_of_the_url() -> None:
    seen = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request(reader))
        writer.write(OK)

    async with serving(take) as port:
        url = f"http://me:p%40ss@127.0.0.1:{port}/a?b=c"
        post = Post(events.Receiver("raw", url, SECRET, allow_private=True, timeout=2.0))
        assert (await post.deliver("a", "{}")).fault == ""
        await post.close()
    assert seen[0].startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert b"Authorization: Basic bWU6cEBzcw==\r\n".lower() in seen[0].lower()
    assert f"host: 127.0.0.1:{port}\r\n".encode() in seen[0].lower()


async def test_another_address_after_a_failure() -> None:
    """Of a name with several addresses, one that takes no connection does not hold it up for ever."""

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.9", "127.0.0.1"]

    async with serving(Raw(OK).take) as port:
        url = f"http://hook.example:{port}/"
        receiver = events.Receiver("raw", url, SECRET, allow_private=True, timeout=2.0)
        post = Post(receiver, resolve=resolve)
        outcomes = [await post.deliver("a", "{}") for _ in range(2)]
        await post.close()
    assert [one.code for one in outcomes] == [0, 204]
