"""HTTPS: certificates are verified for the name, although the connection goes to an address; what is wrong is said."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cdr.receiver import SECRET
from tests.cdr.serving import request, serving
from tests.certificates import Authority, Issued, server

from callgate.cdr import events
from callgate.cdr.post import Outcome, Post

NAME = "hook.example"


class Hook:
    """A TLS server that answers 204 to each request, and remembers what it was asked for."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.named: list[str | None] = []
        self.requests: list[bytes] = []
        self.connections = 0
        context.sni_callback = lambda _connection, name, _context: self.named.append(name)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            self.requests.append(await request(reader))
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")


@asynccontextmanager
async def served(issued: Issued) -> AsyncIterator[tuple[Hook, int]]:
    hook = Hook(server(issued))
    async with serving(hook.take, hook.context) as port:
        yield hook, port


async def at_home(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def to(port: int, ca: Path | None, name: str = NAME) -> Post:
    url = f"https://{name}:{port}/hunter2"
    receiver = events.Receiver(
        events.name_of(url), url, SECRET, allow_private=True, timeout=3.0, ca=str(ca or "")
    )
    return Post(receiver, resolve=at_home)


async def tried(post: Post) -> Outcome:
    try:
        return await post.deliver("a", '{"a":1}')
    finally:
        await post.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_verified_for_the_name_and_kept(authority: Authority) -> None:
    """Both go over one connection, which was opened with the name of the receiver."""
    async with served(authority.issue("good", NAME)) as (hook, port):
        post = to(port, authority.file)
        assert await post.deliver("a", '{"a":1}') == Outcome("", 204)
        assert await post.deliver("b", '{"b":1}') == Outcome("", 204)
        await post.close()
    assert hook.named == [NAME]
    assert hook.connections == 1
    assert [one[-7:] for one in hook.requests] == [b'{"a":1}', b'{"b":1}']
    assert f"\r\nhost: {NAME}:{port}\r\n".encode() in hook.requests[0].lower()


async def test_an_address_is_verified_too(authority: Authority) -> None:
    async with served(authority.issue("good", "127.0.0.1")) as (_, port):
        assert (await tried(to(port, authority.file, "127.0.0.1"))).code == 204
    async with served(authority.issue("other", NAME)) as (_, port):
        assert "certificate" in (await tried(to(port, authority.file, "127.0.0.1"))).fault


async def test_the_certificate_itself_may_be_the_authority(authority: Authority) -> None:
    issued = authority.issue("good", NAME)
    async with served(issued) as (_, port):
        assert (await tried(to(port, issued.certificate))).code == 204


async def wrong_name(authority: Authority) -> tuple[Issued, Path | None]:
    return authority.issue("wrong", "other.example"), authority.file


async def the_address_only(authority: Authority) -> tuple[Issued, Path | None]:
    return authority.issue("wrong", "127.0.0.1"), authority.file


async def expired(authority: Authority) -> tuple[Issued, Path | None]:
    return authority.issue("old", NAME, days=-1), authority.file


async def unknown(authority: Authority) -> tuple[Issued, Path | None]:
    return authority.issue("good", NAME), None  # the system's authorities don't know it


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (wrong_name, "certificate is not accepted: Hostname mismatch"),
        (the_address_only, "certificate is not accepted: Hostname mismatch"),
        (expired, "certificate is not accepted: certificate has expired"),
        (unknown, "certificate is not accepted: unable to get local issuer certificate"),
    ],
)
async def test_refused(
    authority: Authority,
    make: Callable[[Authority], Coroutine[Any, Any, tuple[Issued, Path | None]]],
    words: str,
) -> None:
    """Nothing is said to whoever is there, and the fault names the cause and no secret."""
    issued, ca = await make(authority)
    async with served(issued) as (hook, port):
        outcome = await tried(to(port, ca))
    assert words in outcome.fault
    assert "hunter2" not in outcome.fault
    assert hook.requests == []


async def test_no_tls_at_all() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")

    async with serving(talk) as port:
        outcome = await tried(to(port, None))
    assert outcome.fault
    assert outcome.code == 0


async def test_a_file_that_went_away(tmp_path: Path) -> None:
    """The config is checked at the start; the process that delivers says it of a file that goes between."""
    assert "`ca` can't be used" in (await tried(to(1, tmp_path / "gone.pem"))).fault
