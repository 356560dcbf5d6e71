"""One attempt: where it goes, and what it never does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.cdr.receiver import SECRET, Receiver

from callgate.cdr import events
from callgate.cdr.post import Post, refusal_of


@pytest.fixture
def server() -> Iterator[Receiver]:
    with closing(Receiver()) as made:
        yield made


def to(url: str, **how: object) -> events.Receiver:
    return events.Receiver(events.name_of(url), url, SECRET, timeout=1.0, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fd00::1", "ff02::1"),
        *("::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::"),
    ],
)
def test_private(address: str) -> None:
    assert "private" in refusal_of(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "64:ff9b::808:808"])
def test_public(address: str) -> None:
    assert refusal_of(address) == ""


async def test_a_private_address_is_not_connected_to(server: Receiver) -> None:
    post = Post(to(server.url))
    outcome = await post.deliver("a", '{"a":1}')
    await post.close()
    assert "private address" in outcome.fault
    assert "hunter2" not in outcome.fault
    assert server.got == []


async def test_a_name_with_one_private_address_among_others(server: Receiver) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["8.8.8.8", "127.0.0.1"]

    post = Post(to(f"http://hook.example:{server.port}/"), resolve=resolve)
    assert "private address" in (await post.deliver("a", "{}")).fault
    await post.close()


async def test_it_goes_to_the_address_that_was_judged(server: Receiver) -> None:
    """A name server that answers otherwise the second time changes nothing: nobody asks it again."""
    asked = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"]

    post = Post(to(f"http://hook.invalid:{server.port}/", allow_private=True), resolve=resolve)
    assert (await post.deliver("a", "{}")).code == 204
    assert (await post.deliver("b", "{}")).code == 204
    await post.close()
    assert asked == [("hook.invalid", server.port)]
    assert [one.id for one in server.got] == ["a", "b"]


async def test_nobody_there(server: Receiver) -> None:
    server.close()
    post = Post(to(server.url, allow_private=True))
    outcome = await post.deliver("a", "{}")
    await post.close()
    assert outcome.fault
    assert "hunter2" not in outcome.fault


def test_a_name_shows_no_secret() -> None:
    name = events.name_of("https://user:hunter2@hook.example/T0/hunter2?x=hunter2")
    assert name.startswith("hook.example-")
    assert "hunter2" not in name
    assert "hunter2" not in repr(to("https://hook.example/hunter2"))
