"""One attempt to deliver one event over HTTP, bounded in every way.

The name is resolved here, every address it has is judged, and the connection goes to the one that was judged: between
the look and the connect no other answer of the name server comes in. Certificates are still those of the name. No
redirect is followed, no proxy of the environment is used, and of an answer no more is read than fits.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, NamedTuple

import httpx
from standardwebhooks import Webhook

from callgate.cdr.events import Receiver

ANSWER_MAX: Final = 16 << 10
"""Bytes of an answer's body that are read, so that its connection can be used again."""
AT_ONCE: Final = 16
"""Attempts under way to one receiver."""
FRESH_SECONDS: Final = 30.0
"""How long an address that was judged is used for new connections."""
GONE: Final = 410
Resolve = Callable[[str, int], Awaitable[list[str]]]


class Outcome(NamedTuple):
    """`fault`: why it was not delivered; empty where it was. `code`: that of the answer, 0 without one."""

    fault: str = ""
    code: int = 0


class Forbidden(Exception):
    """An address that nothing is sent to."""


async def resolve(host: str, port: int) -> list[str]:
    """Every address of a name, by the system's resolver. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Post:
    """To one receiver. `deliver` never raises for what the receiver does."""

    def __init__(
        self, receiver: Receiver, *, resolve: Resolve = resolve, verify: ssl.SSLContext | None = None
    ) -> None:
        self._receiver = receiver
        self._signer = Webhook(receiver.secret)
        self._url = httpx.URL(receiver.url)
        self._resolve = resolve
        self._judged: tuple[str, float] | None = None
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            trust_env=False,
            verify=verify or ssl.create_default_context(),
            timeout=receiver.timeout,
            limits=httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE),
        )

    async def deliver(self, ident: str, body: str) -> Outcome:
        """One attempt, for `timeout` seconds in all. Time stamp and signature are its own."""
        try:
            async with asyncio.timeout(self._receiver.timeout):
                outcome = await self._attempt(ident, body)
        except TimeoutError:
            outcome = Outcome(f"no answer within {self._receiver.timeout:g} s")
        except Forbidden as error:
            outcome = Outcome(str(error))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            outcome = Outcome(_words(error))
        if outcome.fault and not outcome.code:
            self._judged = None  # the name may lead elsewhere by now
        return outcome

    async def _attempt(self, ident: str, body: str) -> Outcome:
        at = datetime.now(UTC)
        address = await self._address()
        headers = {
            "host": self._url.netloc.decode("ascii"),
            "content-type": "application/json",
            "user-agent": "callgate",
            "accept-encoding": "identity",
            "webhook-id": ident,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": self._signer.sign(ident, at, body),
        }
        request = self._client.build_request(
            "POST",
            self._url.copy_with(host=address),
            content=body.encode("ascii"),
            headers=headers,
            extensions={"sni_hostname": self._url.host},
        )
        response = await self._client.send(request, stream=True)
        try:
            code = response.status_code
            # The verdict stands in the first line. What follows is read so that the connection can be kept.
            with suppress(httpx.HTTPError, TimeoutError):
                await self._drain(response)
        finally:
            await response.aclose()
        if 200 <= code < 300:
            return Outcome("", code)
        what = "a redirect, which is not followed" if 300 <= code < 400 else ""
        return Outcome(f"answered {code}" + (f": {what}" if what else ""), code)

    async def _drain(self, response: httpx.Response) -> None:
        read = 0
        async for piece in response.aiter_raw():
            read += len(piece)
            if read > ANSWER_MAX:
                return

    async def _address(self) -> str:
        """One that may be connected to. Raises OSError and Forbidden."""
        now = asyncio.get_running_loop().time()
        if self._judged is not None and now < self._judged[1]:
            return self._judged[0]
        host = self._url.host
        found = await self._resolve(host, self._url.port or (443 if self._url.scheme == "https" else 80))
        if not found:
            raise OSError(f"{host} has no address")
        for address in found:
            why = "" if self._receiver.allow_private else refusal_of(address)
            if why:
                raise Forbidden(f"{host} is {why}; `allow_private: true` allows it")
        self._judged = found[0], now + FRESH_SECONDS
        return found[0]

    async def close(self) -> None:
        await self._client.aclose()


def refusal_of(address: str) -> str:
    """Why an address is none that events go to without `allow_private`; empty where it is one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None) or _nat64(ip)
        if inner is not None and refusal_of(str(inner)):
            return f"at a private address ({address})"
    if not ip.is_global or ip.is_multicast:
        return f"at a private address ({address})"
    return ""


def _nat64(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF) if ip in _NAT64 else None


_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


def _words(error: BaseException) -> str:
    """What is wrong, without the URL, which may hold a secret."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = next(iter(str(error).splitlines()), "")
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return "its URL can't be used"
    return text[:200] or type(error).__name__
