"""Questions to name servers: one at a time, bounded in time and size, over sockets of the event loop.

dnspython writes and reads the messages. What carries them is our own, because a look-up that fails must leave no
cycles behind (the gate runs without the collector) and must hear of ICMP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype

from callgate.net.system_names import RESOLV_CONF, Server, name_servers

A = dns.rdatatype.A
AAAA = dns.rdatatype.AAAA
NAPTR = dns.rdatatype.NAPTR
SRV = dns.rdatatype.SRV

ROUNDS = 2
"""How often each server is asked within the time of one look-up: a datagram may get lost."""
RECORDS_MAX = 64
"""Records that are read of an answer; what comes behind them is left unread."""
CHAIN_MAX = 8
"""CNAMEs that are followed where a server does not do it."""
PAYLOAD = 1232
"""Octets of a UDP answer that we ask for (RFC 6891; a larger one would be fragmented)."""


class Failed(Exception):
    """No server gave an answer that can be used: nothing is known."""


class Answer(NamedTuple):
    """`records` is empty where the servers say that there is none; `ttl` in seconds, as they say."""

    records: tuple[dns.rdata.Rdata, ...]
    ttl: float


class Resolver:
    """`servers` as (address, port); none: those of `resolv_conf`, read anew for each look-up. `timeout` is for one
    look-up, seconds."""

    def __init__(
        self,
        servers: Sequence[Server] = (),
        timeout: float = 2.0,
        resolv_conf: Path = RESOLV_CONF,
    ) -> None:
        self._servers = tuple(servers)
        self._timeout = timeout
        self._resolv_conf = resolv_conf

    @property
    def uses_system(self) -> bool:
        return not self._servers

    async def ask(self, name: str, kind: dns.rdatatype.RdataType) -> Answer:
        """What the servers know of `name`, CNAMEs followed. Raises Failed."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._timeout
        try:
            current = dns.name.from_text(name)
        except (dns.exception.DNSException, ValueError) as error:
            raise Failed(f"{name!r} is no name: {error}") from None
        ttl = float("inf")
        for _ in range(CHAIN_MAX):
            message = await self._ask(current, kind, end)
            try:
                chain = message.resolve_chaining()
            except (dns.exception.DNSException, ValueError):
                raise Failed(f"the answer for {current} makes no sense") from None
            ttl = min(ttl, chain.minimum_ttl)
            if chain.answer is not None:
                return Answer(tuple(chain.answer)[:RECORDS_MAX], ttl)
            if chain.canonical_name == current or message.rcode() == dns.rcode.NXDOMAIN:
                return Answer((), ttl)
            current = chain.canonical_name
        raise Failed(f"{name} is an alias of an alias, more than {CHAIN_MAX} times")

    async def _ask(
        self, name: dns.name.Name, kind: dns.rdatatype.RdataType, end: float
    ) -> dns.message.QueryMessage:
        loop = asyncio.get_running_loop()
        servers = self._servers or name_servers(self._resolv_conf)
        tries = [server for _ in range(ROUNDS) for server in servers]
        why = "no name server answers"
        for number, server in enumerate(tries):
            now = loop.time()
            if now >= end:
                break
            try:
                answer = await _query(server, name, kind, now + (end - now) / (len(tries) - number))
            except OSError as error:  # the machine has no way there
                why = f"{server[0]}: {error.strerror or error}"
                continue
            if answer is None:
                continue
            code = answer.rcode()
            if code in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                return answer
            why = f"{server[0]} answers {dns.rcode.to_text(code)}"
        raise Failed(f"{name} {dns.rdatatype.to_text(kind)}: {why}")


async def _query(
    server: Server, name: dns.name.Name, kind: dns.rdatatype.RdataType, end: float
) -> dns.message.QueryMessage | None:
    """One question to one server, by TCP where its answer is cut short; None when there is none in time."""
    query = dns.message.make_query(name, kind, use_edns=0, payload=PAYLOAD)
    asked = query.to_wire()
    loop = asyncio.get_running_loop()
    datagrams, heard = await loop.create_datagram_endpoint(lambda: _Datagrams(query, end), remote_addr=server)
    try:
        datagrams.sendto(asked)
        answer = await heard.answer
    finally:
        datagrams.close()
    if answer is None or not answer.flags & dns.flags.TC:
        return answer
    connecting = _Stream(query, end, asked)
    try:
        async with asyncio.timeout_at(end):
            await loop.create_connection(lambda: connecting, *server)
        return await connecting.answer
    except TimeoutError:
        return None
    finally:
        connecting.close()


class _Waits:
    """Waits for the answer to `query` until `end` (the loop's time). None stands for every way to get none: an
    exception in a future would leave a cycle."""

    def __init__(self, query: dns.message.Message, end: float) -> None:
        loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[dns.message.QueryMessage | None] = loop.create_future()
        self._query = query
        self._timer = loop.call_at(end, self._settle, None)

    def _settle(self, answer: dns.message.QueryMessage | None) -> None:
        self._timer.cancel()
        if not self.answer.done():
            self.answer.set_result(answer)

    def _read(self, data: bytes) -> dns.message.QueryMessage | None:
        """The answer, None for what is none."""
        if len(data) < 12:
            return None
        try:
            message = dns.message.from_wire(_bounded(data), ignore_trailing=True)
        except Exception:  # dnspython raises whatever the rubbish makes of its readers
            return None
        if not isinstance(message, dns.message.QueryMessage) or not self._query.is_response(message):
            return None
        return message


def _bounded(data: bytes) -> bytes:
    """The message without its additional records, and with no more records than we want to spend time on."""
    answers = int.from_bytes(data[6:8], "big")
    authority = int.from_bytes(data[8:10], "big")
    if answers <= RECORDS_MAX:
        authority = min(authority, RECORDS_MAX)
    else:
        answers, authority = RECORDS_MAX, 0
    return data[:6] + answers.to_bytes(2, "big") + authority.to_bytes(2, "big") + b"\0\0" + data[12:]


class _Datagrams(_Waits, asyncio.DatagramProtocol):
    def datagram_received(self, data: bytes, addr: object) -> None:
        answer = self._read(data)
        if answer is not None:  # else it may be forged: go on listening
            self._settle(answer)

    def error_received(self, exc: Exception) -> None:
        self._settle(None)  # ICMP: nobody is there


class _Stream(_Waits, asyncio.Protocol):
    """RFC 7766: each message has its length in front."""

    def __init__(self, query: dns.message.Message, end: float, asked: bytes) -> None:
        super().__init__(query, end)
        self._asked = asked
        self._got = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._transport.write(len(self._asked).to_bytes(2, "big") + self._asked)

    def data_received(self, data: bytes) -> None:
        self._got += data
        length = int.from_bytes(self._got[:2], "big")
        if len(self._got) >= 2 + length > 2:
            self._settle(self._read(self._got[2 : 2 + length]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._settle(None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._settle(None)
