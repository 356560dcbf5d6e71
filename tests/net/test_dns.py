"""One question to name servers (net/dns.py), against a server on loopback that misbehaves as told."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.net.dns_server import DnsServer

from callgate.net.dns import AAAA, RECORDS_MAX, SRV, A, Failed, Resolver, _bounded
from callgate.net.system_names import THREADS_MAX, CLibrary, hosts_entries, name_servers

RUN: dict[str, Any] = {"asyncio": asyncio.run}
with contextlib.suppress(ImportError):  # where it can't be had, the gate runs without
    import uvloop

    RUN["uvloop"] = uvloop.run


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on asyncio's loop and on uvloop: the gate runs on either."""

    @functools.wraps(test)
    def both(loop: str, **fixtures: Any) -> None:
        RUN[loop](test(**fixtures))

    signature = inspect.signature(test)
    loop = inspect.Parameter("loop", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str)
    both.__signature__ = signature.replace(parameters=[loop, *signature.parameters.values()])  # type: ignore[attr-defined]
    marked: Callable[..., None] = pytest.mark.parametrize("loop", RUN)(both)
    return marked


@pytest.fixture
def server() -> Iterator[DnsServer]:
    server = DnsServer()
    server.set("A", "gw.example", "192.0.2.1", "192.0.2.2", ttl=7)
    yield server
    server.close()


def resolver(*servers: DnsServer, timeout: float = 30.0) -> Resolver:
    """One that gives a slow machine time, unless a test is about the end of it."""
    return Resolver([server.address for server in servers], timeout)


async def addresses(of: Resolver, name: str = "gw.example") -> list[str]:
    return [str(record) for record in (await of.ask(name, A)).records]


@on_both_loops
async def test_an_answer_and_its_ttl(server: DnsServer) -> None:
    answer = await resolver(server).ask("gw.example", A)
    assert {str(r) for r in answer.records} == {"192.0.2.1", "192.0.2.2"}
    assert answer.ttl == 7


@pytest.mark.parametrize("name", ["no.example", "gw.example"])
@on_both_loops
async def test_what_is_not_there(server: DnsServer, name: str) -> None:
    """NXDOMAIN, and a name without records of the kind: empty, for as long as the SOA says (RFC 2308)."""
    server.soa = 11
    answer = await resolver(server).ask(name, AAAA)
    assert answer == ((), 11)


@on_both_loops
async def test_an_alias_is_followed(server: DnsServer) -> None:
    server.set("CNAME", "trunk.example", "gw.example.", ttl=3)
    answer = await resolver(server).ask("trunk.example", A)
    assert (len(answer.records), answer.ttl) == (2, 3)


@on_both_loops
async def test_an_alias_that_the_server_does_not_follow(server: DnsServer) -> None:
    server.set("CNAME", "trunk.example", "gw.example.", ttl=3)
    server.set("only the alias", "x")
    server.zone["only the alias", "trunk.example"] = [""]
    answer = await resolver(server).ask("trunk.example", A)
    assert (len(answer.records), answer.ttl) == (2, 3)


@pytest.mark.parametrize("followed", [True, False])
@on_both_loops
async def test_an_alias_of_itself(server: DnsServer, followed: bool) -> None:
    server.set("CNAME", "a.example", "b.example.")
    server.set("CNAME", "b.example", "a.example.")
    if not followed:
        server.zone["only the alias", "a.example"] = server.zone["only the alias", "b.example"] = [""]
    with pytest.raises(Failed):
        await resolver(server).ask("a.example", A)


@on_both_loops
async def test_a_lost_datagram_is_sent_again(server: DnsServer) -> None:
    server.mood = "lossy"
    assert len(await addresses(resolver(server, timeout=1.0))) == 2
    assert server.count("A", "gw.example") == 2


@pytest.mark.parametrize("mood", ["silent", "rubbish", "servfail"])
@on_both_loops
async def test_the_next_server_is_asked(server: DnsServer, mood: str) -> None:
    bad = DnsServer()
    bad.mood = mood
    try:
        assert len(await addresses(resolver(bad, server, timeout=1.2))) == 2
    finally:
        bad.close()


@on_both_loops
async def test_nobody_there(server: DnsServer) -> None:
    """ICMP says so at once; a socket that is not connected would not hear it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        nobody = free.getsockname()
    both = Resolver([nobody, server.address], timeout=1000.0)
    async with asyncio.timeout(30):
        assert len(await addresses(both)) == 2
        with pytest.raises(Failed):
            await Resolver([nobody], timeout=1000.0).ask("gw.example", A)


@pytest.mark.parametrize("mood", ["silent", "rubbish"])
@on_both_loops
async def test_an_end_in_time(server: DnsServer, mood: str) -> None:
    server.mood = mood
    began = asyncio.get_running_loop().time()
    with pytest.raises(Failed):
        await resolver(server, timeout=0.2).ask("gw.example", A)
    assert asyncio.get_running_loop().time() - began >= 0.15


@on_both_loops
async def test_a_forged_answer_is_waited_out(server: DnsServer) -> None:
    server.mood = "forged"
    assert len(await addresses(resolver(server))) == 2


@on_both_loops
async def test_an_answer_that_was_cut_short_comes_by_tcp(server: DnsServer) -> None:
    server.mood = "cut"
    assert len(await addresses(resolver(server))) == 2
    assert server.by_tcp == 1


@on_both_loops
async def test_a_huge_answer_is_read_in_part(server: DnsServer) -> None:
    server.mood = "cut"
    server.set("A", "huge.example", *(f"10.{n // 250}.{n % 250}.1" for n in range(3000)))
    assert len(await addresses(resolver(server), "huge.example")) == RECORDS_MAX


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".example", ".".join(["abcdefgh"] * 40), "\udc80"])
@on_both_loops
async def test_what_is_no_name(server: DnsServer, name: str) -> None:
    with pytest.raises(Failed):
        await resolver(server).ask(name, A)
    assert not server.asked


@given(st.binary(max_size=300))
def test_rubbish_is_bounded(data: bytes) -> None:
    """Whatever comes: at most so many records are read."""
    if len(data) < 12:
        return
    bounded = _bounded(data)
    assert len(bounded) == len(data)
    assert sum(int.from_bytes(bounded[n : n + 2], "big") for n in (6, 8)) <= 2 * RECORDS_MAX
    assert bounded[10:12] == b"\0\0"


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200))
def test_a_server_that_sends_anything(tail: bytes) -> None:
    """Behind a header that fits the question: an answer or Failed, in time."""

    class Bad(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: object) -> None:
            self.transport.sendto(data[:2] + b"\x81\x80" + tail, addr)  # type: ignore[attr-defined]

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Bad, local_addr=("127.0.0.1", 0))
        try:
            await Resolver([transport.get_extra_info("sockname")], timeout=0.02).ask("gw.example", A)
        except Failed:
            pass
        finally:
            transport.close()

    asyncio.run(ask())


@pytest.mark.parametrize("mood", ["well", "silent", "rubbish", "servfail", "cut"])
@on_both_loops
async def test_a_look_up_leaves_no_cycle(server: DnsServer, mood: str) -> None:
    """The gate runs without the collector: what a look-up leaves must go by itself."""
    server.mood = mood
    asks = resolver(server, timeout=0.05)

    async def ask(times: int) -> None:
        for _ in range(times):
            try:
                await asks.ask("gw.example", SRV if mood == "well" else A)
            except Failed:
                continue

    await ask(3)
    await asyncio.sleep(0.02)
    gc.collect()
    gc.disable()
    try:
        await ask(10)
        await asyncio.sleep(0.02)
        left = gc.collect()
    finally:
        gc.enable()
    if mood == "cut" and isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
        left -= 70  # asyncio's own stream transport is one
    assert left < 10, f"{left} objects of 10 look-ups were left for the collector"


# -- what the machine knows itself -----------------------------------------------------------------------------


def test_resolv_conf(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(
        "# nameserver 192.0.2.9\nnameserver 192.0.2.1\n nameserver 2001:db8::1 \nnameserver junk\nsearch a\n"
    )
    assert name_servers(path) == (("192.0.2.1", 53), ("2001:db8::1", 53))


def test_no_resolv_conf_means_this_machine(tmp_path: Path) -> None:
    assert name_servers(tmp_path / "none") == (("127.0.0.1", 53),)


def test_hosts(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text(
        "127.0.0.1 localhost\n# 192.0.2.9 pbx\n192.0.2.7\tother PBX.lan pbx # pbx2\n"
        "2001:db8::7 pbx\n192.0.2.7 pbx\nnonsense pbx\n192.0.2.8 xpbx pbx-2 pbx.lan.example\n"
        "\xff\xfe pbx\n192.0.2.10 end"
    )
    assert hosts_entries("pbx", path) == ["192.0.2.7", "2001:db8::7"]
    assert hosts_entries("Pbx.Lan.", path) == ["192.0.2.7"]
    assert hosts_entries("end", path) == ["192.0.2.10"]
    assert hosts_entries("pbx2", path) == []
    assert hosts_entries("p.x", path) == []
    assert hosts_entries("pbx", tmp_path / "none") == []


def test_a_long_hosts_file_comes_to_an_end(tmp_path: Path) -> None:
    """No pattern that goes back over a line again and again: 20,000 names on one line, 100,000 lines."""
    path = tmp_path / "hosts"
    path.write_text("192.0.2.1 " + "aaaa " * 20_000 + "\n" + "0.0.0.0 ads.example\n" * 100_000)
    assert hosts_entries("pbx", path) == []


@on_both_loops
async def test_the_c_library(server: DnsServer) -> None:
    library = CLibrary()
    assert await library.addresses("127.0.0.1", 5) == ["127.0.0.1"]
    assert await library.addresses("x" * 70 + ".example", 5) in ([], None)


@on_both_loops
async def test_a_c_library_that_hangs_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the loop nor the end of the program, and no more than eight threads hang."""
    goes_on = threading.Event()
    monkeypatch.setattr("callgate.net.system_names._getaddrinfo", lambda name: goes_on.wait(60) and None)
    library = CLibrary()
    assert await asyncio.gather(*(library.addresses("x", 0.01) for _ in range(20))) == [None] * 20
    assert library.running == THREADS_MAX
    hanging = [thread for thread in threading.enumerate() if thread.name == "name look-up"]
    assert all(thread.daemon for thread in hanging)
    assert len(hanging) == THREADS_MAX
    goes_on.set()
    for thread in hanging:
        thread.join()
    await asyncio.sleep(0)
    assert library.running == 0


def test_dnspython_reads_what_is_bounded() -> None:
    query = dns.message.make_query("gw.example", "A")
    assert dns.message.from_wire(_bounded(dns.message.make_response(query).to_wire()), ignore_trailing=True)
