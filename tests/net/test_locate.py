"""RFC 3263 §4.1 and §4.2: from a URI to transport, addresses and ports."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.net.dns_server import DnsServer

from callgate.config import SipPeer
from callgate.net.dns import Failed, Resolver
from callgate.net.locate import ABSENT_TTL, HOSTS_MAX, TARGETS_MAX, UNTOLD_TTL, Located, Locator, Ways

ALL: Ways = {b"UDP": (4, 6), b"TCP": (4, 6), b"TLS": (4,)}


class Dns:
    def __init__(self, folder: Path) -> None:
        self.server = DnsServer()
        self.set = self.server.set
        self.asked = self.server.asked
        self.hosts = folder / "hosts"
        self.hosts.write_text("")
        self.patience = 30.0
        self.set("A", "example", "192.0.2.99")  # so that names below it are no NXDOMAIN of the zone

    async def locate(self, uri: str, ways: Ways = ALL) -> Located:
        resolver = Resolver([self.server.address], self.patience)
        return await Locator(resolver, ways, self.hosts, within=0.1).locate(SipPeer.parse(uri))

    async def found(self, uri: str, ways: Ways = ALL) -> list[str]:
        """Places in words: priority/weight transport addresses:port."""
        return [
            f"{p.priority}/{p.weight} {p.transport.decode()} {'+'.join(p.hosts)}:{p.port}"
            for p in (await self.locate(uri, ways)).places
        ]


@pytest.fixture
def dns(tmp_path: Path) -> Iterator[Dns]:
    dns = Dns(tmp_path)
    yield dns
    dns.server.close()


async def test_a_port_means_no_srv(dns: Dns) -> None:
    """§4.2: the port is given, so only addresses are asked for."""
    dns.set("A", "gw.example", "192.0.2.1")
    dns.set("SRV", "_sip._udp.gw.example", "0 0 5999 other.example.")
    assert await dns.found("sip:gw.example:5070") == ["0/1 UDP 192.0.2.1:5070"]
    assert {kind for _, kind in dns.asked} == {"A", "AAAA"}


async def test_a_port_and_a_transport(dns: Dns) -> None:
    dns.set("A", "gw.example", "192.0.2.1")
    assert await dns.found("sip:gw.example:5070;transport=tcp") == ["0/1 TCP 192.0.2.1:5070"]
    assert await dns.found("sips:gw.example:5070") == ["0/1 TLS 192.0.2.1:5070"]
    assert await dns.found("sip:gw.example:5070;transport=tls") == ["0/1 TLS 192.0.2.1:5070"]


async def test_a_transport_means_its_srv(dns: Dns) -> None:
    """§4.1: no NAPTR; §4.2: SRV of that transport."""
    dns.set("NAPTR", "gw.example", '10 10 "s" "SIP+D2U" "" _sip._udp.gw.example.')
    dns.set("SRV", "_sip._tcp.gw.example", "10 5 5080 a.example.", "20 0 5081 b.example.")
    dns.set("A", "a.example", "192.0.2.1")
    dns.set("A", "b.example", "192.0.2.2")
    found = await dns.found("sip:gw.example;transport=tcp")
    assert found == ["10/5 TCP 192.0.2.1:5080", "20/0 TCP 192.0.2.2:5081"]
    assert ("gw.example", "NAPTR") not in dns.asked


async def test_a_transport_without_srv(dns: Dns) -> None:
    """§4.2: the default port of the transport."""
    dns.set("A", "gw.example", "192.0.2.1")
    assert await dns.found("sip:gw.example;transport=udp") == ["0/1 UDP 192.0.2.1:5060"]
    assert await dns.found("sip:gw.example;transport=tls") == ["0/1 TLS 192.0.2.1:5061"]


async def test_naptr_chooses_the_transport(dns: Dns) -> None:
    """§4.1: the first by order and preference that we can speak; services we don't know are left out."""
    dns.set(
        "NAPTR",
        "gw.example",
        '50 50 "s" "SIP+D2U" "" _sip._udp.gw.example.',
        '10 20 "S" "sip+d2t" "" _sip._tcp.gw.example.',
        '10 10 "s" "SIP+D2S" "" _sip._sctp.gw.example.',
        '5 5 "u" "E2U+sip" "!^.*$!sip:x@evil.example!" .',
    )
    dns.set("SRV", "_sip._tcp.gw.example", "1 1 5080 a.example.")
    dns.set("SRV", "_sip._udp.gw.example", "1 1 5090 a.example.")
    dns.set("A", "a.example", "192.0.2.1")
    assert await dns.found("sip:gw.example") == ["1/1 TCP 192.0.2.1:5080"]
    assert await dns.found("sip:gw.example", {b"UDP": (4,)}) == ["1/1 UDP 192.0.2.1:5090"]


async def test_naptr_whose_srv_is_missing(dns: Dns) -> None:
    """The next one of the list serves."""
    dns.set(
        "NAPTR",
        "gw.example",
        '10 10 "s" "SIP+D2T" "" _sip._tcp.gw.example.',
        '20 10 "s" "SIP+D2U" "" _sip._udp.gw.example.',
    )
    dns.set("SRV", "_sip._udp.gw.example", "1 1 5090 a.example.")
    dns.set("A", "a.example", "192.0.2.1")
    assert await dns.found("sip:gw.example") == ["1/1 UDP 192.0.2.1:5090"]


async def test_no_naptr_means_srv_of_each_transport(dns: Dns) -> None:
    """§4.1: UDP first, then TCP, then TLS: the first that is there."""
    dns.set("SRV", "_sips._tcp.gw.example", "1 1 5061 a.example.")
    dns.set("A", "a.example", "192.0.2.1")
    assert await dns.found("sip:gw.example") == ["1/1 TLS 192.0.2.1:5061"]
    dns.set("SRV", "_sip._tcp.gw.example", "1 1 5080 a.example.")
    assert await dns.found("sip:gw.example") == ["1/1 TCP 192.0.2.1:5080"]
    dns.set("SRV", "_sip._udp.gw.example", "1 1 5090 a.example.")
    assert await dns.found("sip:gw.example") == ["1/1 UDP 192.0.2.1:5090"]


async def test_nothing_but_an_address(dns: Dns) -> None:
    """§4.2: UDP at 5060."""
    dns.set("A", "gw.example", "192.0.2.1")
    assert await dns.found("sip:gw.example") == ["0/1 UDP 192.0.2.1:5060"]


async def test_sips_is_never_anything_but_tls(dns: Dns) -> None:
    """§4.1: services without SIPS are no choice."""
    dns.set("NAPTR", "gw.example", '10 10 "s" "SIP+D2U" "" _sip._udp.gw.example.')
    dns.set("SRV", "_sip._udp.gw.example", "1 1 5090 a.example.")
    dns.set("A", "a.example", "192.0.2.1")
    dns.set("A", "gw.example", "192.0.2.3")
    assert await dns.found("sips:gw.example") == ["0/1 TLS 192.0.2.3:5061"]
    assert await dns.found("sips:gw.example", {b"UDP": (4,), b"TCP": (4,)}) == []
    dns.set("NAPTR", "gw.example", '10 10 "s" "SIPS+D2T" "" secure.gw.example.')
    dns.set("SRV", "secure.gw.example", "1 1 5999 a.example.")
    assert await dns.found("sips:gw.example") == ["1/1 TLS 192.0.2.1:5999"]


async def test_only_transports_and_families_that_a_listener_has(dns: Dns) -> None:
    dns.set("A", "gw.example", "192.0.2.1")
    dns.set("AAAA", "gw.example", "2001:db8::1")
    assert await dns.found("sip:gw.example:5060", {b"TCP": (4,)}) == ["0/1 TCP 192.0.2.1:5060"]
    assert ("gw.example", "AAAA") not in dns.asked
    assert await dns.found("sip:gw.example:5060;transport=udp", {b"TCP": (4,)}) == []


async def test_the_family_of_the_first_listener_comes_first(dns: Dns) -> None:
    dns.set("A", "gw.example", "192.0.2.1", "192.0.2.2")
    dns.set("AAAA", "gw.example", "2001:db8::1")
    found = await dns.found("sip:gw.example:5060", {b"UDP": (6, 4)})
    assert found == ["0/1 UDP 2001:db8::1:5060", "1/1 UDP 192.0.2.1:5060", "1/1 UDP 192.0.2.2:5060"]
    dns.set("SRV", "_sip._udp.gw.example", "3 4 5080 gw.example.")
    assert await dns.found("sip:gw.example", {b"UDP": (4, 6)}) == [
        "3/4 UDP 192.0.2.1+192.0.2.2+2001:db8::1:5080"
    ]


async def test_a_service_that_is_decidedly_not_there(dns: Dns) -> None:
    """RFC 2782: the target "." is an answer, and the address of the name is no way round it."""
    dns.set("SRV", "_sip._udp.gw.example", "0 0 0 .")
    dns.set("A", "gw.example", "192.0.2.1")
    assert await dns.found("sip:gw.example;transport=udp") == []


async def test_targets_that_are_an_alias_or_an_address(dns: Dns) -> None:
    """RFC 2782 allows neither; both are found in the wild."""
    dns.set("SRV", "_sip._udp.gw.example", "1 1 5080 alias.example.", "2 1 5080 192.0.2.7.")
    dns.set("CNAME", "alias.example", "real.example.")
    dns.set("A", "real.example", "192.0.2.1")
    assert await dns.found("sip:gw.example;transport=udp") == [
        "1/1 UDP 192.0.2.1:5080",
        "2/1 UDP 192.0.2.7:5080",
    ]


async def test_a_target_without_an_address_is_left_out(dns: Dns) -> None:
    dns.set(
        "SRV", "_sip._udp.gw.example", "1 1 5080 none.example.", "2 1 5080 a.example.", "3 1 0 a.example."
    )
    dns.set("A", "a.example", "192.0.2.1")
    assert await dns.found("sip:gw.example;transport=udp") == ["2/1 UDP 192.0.2.1:5080"]


async def test_many_targets_and_addresses(dns: Dns) -> None:
    """Bounded: the best by priority and weight are kept."""
    records = [f"{n} 1 5080 a.example." for n in range(50, 0, -1)]
    dns.set("SRV", "_sip._udp.gw.example", *records)
    dns.set("A", "a.example", *(f"192.0.2.{n}" for n in range(1, 60)))
    places = (await dns.locate("sip:gw.example;transport=udp")).places
    assert [p.priority for p in places] == list(range(1, TARGETS_MAX + 1))
    assert {len(p.hosts) for p in places} == {HOSTS_MAX}


async def test_the_ttl_is_the_least_on_the_way(dns: Dns) -> None:
    dns.server.soa = 300
    dns.set("SRV", "_sip._udp.gw.example", "1 1 5080 a.example.", ttl=100)
    dns.set("A", "a.example", "192.0.2.1", ttl=40)
    assert (await dns.locate("sip:gw.example;transport=udp")).ttl == 40


async def test_an_answer_that_was_turned_round_is_the_same(dns: Dns) -> None:
    """Servers give their records in another order each time."""
    dns.set("SRV", "_sip._udp.gw.example", *(f"1 1 508{n} a.example." for n in range(5)))
    dns.set("A", "a.example", *(f"192.0.2.{n}" for n in range(8)))
    first = await dns.locate("sip:gw.example;transport=udp")
    for _ in range(10):
        assert await dns.locate("sip:gw.example;transport=udp") == first


async def test_what_a_name_does_without_is_not_asked_for_every_second(dns: Dns) -> None:
    """Where the zone's negative TTL is a second or none."""
    dns.server.soa = 0
    dns.set("A", "asterisk", "192.0.2.1", ttl=600)
    assert (await dns.locate("sip:asterisk", {b"UDP": (4,)})).ttl == ABSENT_TTL


# -- names of the machine itself ---------------------------------------------------------------------------------


async def test_the_hosts_file_goes_before_dns(dns: Dns) -> None:
    dns.hosts.write_text("192.0.2.50 gw.example\n2001:db8::5 gw.example\n")
    dns.set("A", "gw.example", "192.0.2.1")
    located = await dns.locate("sip:gw.example:5060", {b"UDP": (4,)})
    assert [p.hosts for p in located.places] == [("192.0.2.50",)]
    assert located.ttl == UNTOLD_TTL
    assert not dns.asked


async def test_a_name_in_the_hosts_file_without_a_port(dns: Dns) -> None:
    dns.hosts.write_text("192.0.2.50 asterisk\n")
    assert await dns.found("sip:asterisk") == ["0/1 UDP 192.0.2.50:5060"]


async def test_a_name_that_only_the_c_library_knows(dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    """mDNS, a search list: asked where the system's own servers are used, never beside configured ones."""
    monkeypatch.setattr("callgate.net.system_names._getaddrinfo", lambda name: ["192.0.2.60", "2001:db8::6"])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Resolver, "uses_system", True)
        assert await dns.found("sip:pbx.local:5060", {b"UDP": (4,)}) == ["0/1 UDP 192.0.2.60:5060"]
    assert await dns.found("sip:pbx.local:5060", {b"UDP": (4,)}) == []


# -- DNS that is away ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mood", ["silent", "servfail", "rubbish"])
@pytest.mark.parametrize("uri", ["sip:gw.example", "sip:gw.example:5060", "sip:gw.example;transport=tcp"])
async def test_nothing_can_be_learned(dns: Dns, mood: str, uri: str) -> None:
    dns.set("A", "gw.example", "192.0.2.1")
    dns.server.mood = mood
    dns.patience = 0.1
    with pytest.raises(Failed):
        await dns.locate(uri)


async def test_a_resolver_that_can_do_nothing_but_addresses(
    dns: Dns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many a home router: the way goes on without NAPTR and SRV, but the answer is not sure."""
    dns.patience = 0.5
    dns.set("A", "gw.example", "192.0.2.1")
    answer = DnsServer._answers
    monkeypatch.setattr(
        DnsServer,
        "_answers",
        lambda self, data, *, udp: (
            () if b"\0\x21\0\1" in data or b"\0\x23\0\1" in data else answer(self, data, udp=udp)
        ),
    )
    located = await dns.locate("sip:gw.example", {b"UDP": (4,)})
    assert [p.hosts for p in located.places] == [("192.0.2.1",)]
    assert not located.sure


async def test_no_such_name(dns: Dns) -> None:
    located = await dns.locate("sip:none.example")
    assert (located.places, located.sure) == ((), True)


@pytest.mark.parametrize("mood", ["well", "silent", "servfail"])
async def test_no_cycle_is_left(dns: Dns, mood: str) -> None:
    """The gate runs without the collector, and a name is looked up for ever."""
    dns.set("NAPTR", "gw.example", '10 10 "s" "SIP+D2U" "" _sip._udp.gw.example.')
    dns.set("SRV", "_sip._udp.gw.example", "1 1 5090 a.example.", "2 1 5090 b.example.")
    dns.set("A", "a.example", "192.0.2.1")
    dns.server.mood = mood
    locator = Locator(Resolver([dns.server.address], 0.02), {b"UDP": (4, 6)}, dns.hosts)

    async def look_up(times: int) -> None:
        for _ in range(times):
            with contextlib.suppress(Failed):
                await locator.locate(SipPeer.parse("sip:gw.example"))
        await asyncio.sleep(0.01)

    await look_up(3)
    gc.collect()
    gc.disable()
    try:
        await look_up(10)
        left = gc.collect()
    finally:
        gc.enable()
    assert left < 10, f"{left} objects of 10 look-ups were left for the collector"
