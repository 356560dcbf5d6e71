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
DRAIN_SECONDS: Final = 0.5
"""How long they may take."""
AT_ONCE: Final = 16
"""Attempts under way to one receiver."""
FRESH_SECONDS: Final = 30.0
"""How long addresses that were judged are used for new connections."""
IDLE_SECONDS: Final = 20.0
"""How long a connection is kept that nothing was sent on."""
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
    """To one receiver. `deliver` never raises for what the receiver does.

    Whoever is under way has a client, and so a connection, of his own: httpx's pool looks at every connection that it
    has before each request, which at `AT_ONCE` of them takes twice the time of all the rest.
    """

    def __init__(self, receiver: Receiver, *, resolve: Resolve = resolve) -> None:
        self._receiver = receiver
        self._signer = Webhook(receiver.secret)
        self._resolve = resolve
        self._fault = ""
        self._judged: tuple[list[str], float] = [], 0.0
        self._failed = 0
        self._idle: list[httpx.AsyncClient] = []
        try:
            self._url = httpx.URL(receiver.url)
            self._verify: ssl.SSLContext | bool = (
                _context(receiver.ca) if self._url.scheme == "https" else False
            )
        except httpx.InvalidURL:
            self._fault = "its URL can't be used"
        except OSError as error:
            self._fault = f"its `ca` can't be used: {_words(error)}"

    async def deliver(self, ident: str, body: str) -> Outcome:
        """One attempt, for `timeout` seconds in all. Time stamp and signature are its own."""
        if self._fault:
            return Outcome(self._fault)
        try:
            async with asyncio.timeout(self._receiver.timeout):
                code = await self._attempt(ident, body)
        except TimeoutError:
            outcome = Outcome(f"no answer within {self._receiver.timeout:g} s")
        except Forbidden as error:
            outcome = Outcome(str(error))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            outcome = Outcome(_words(error))
        else:
            if 200 <= code < 300:
                return Outcome("", code)
            redirect = ": a redirect, which is not followed" if 300 <= code < 400 else ""
            return Outcome(f"answered {code}{redirect}", code)
        self._judged = [], 0.0  # the name may lead elsewhere by now
        self._failed += 1  # and where it has several addresses, another is tried
        return outcome

    async def _attempt(self, ident: str, body: str) -> int:
        address = await self._address()
        at = datetime.now(UTC)
        headers = {
            "host": self._url.netloc.decode("ascii"),
            "content-type": "application/json",
            "user-agent": "callgate",
            "accept-encoding": "identity",
            "webhook-id": ident,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": self._signer.sign(ident, at, body),
        }
        client = self._idle.pop() if self._idle else self._client()
        try:
            # To an address that was judged, and with the certificate of the name.
            request = client.build_request(
                "POST",
                self._url.copy_with(host=address),
                content=body.encode("ascii"),
                headers=headers,
                extensions={"sni_hostname": self._url.host.rstrip(".")},
            )
            code = await self._ask(client, request)
        except BaseException:
            await client.aclose()
            raise
        self._idle.append(client)
        return code

    async def _ask(self, client: httpx.AsyncClient, request: httpx.Request) -> int:
        response = await client.send(request, stream=True)
        try:
            # The verdict stands in the first line. What follows is read so that the connection can be kept.
            with suppress(httpx.HTTPError, TimeoutError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    read = 0
                    async for piece in response.aiter_raw():
                        read += len(piece)
                        if read > ANSWER_MAX:
                            break
        finally:
            await response.aclose()
        return response.status_code

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            follow_redirects=False,
            trust_env=False,
            verify=self._verify,
            timeout=None,  # `deliver` has one for all of it
            limits=httpx.Limits(max_connections=1, keepalive_expiry=IDLE_SECONDS),
        )

    async def _address(self) -> str:
        """One that may be connected to. Raises OSError and Forbidden."""
        now = asyncio.get_running_loop().time()
        found, until = self._judged
        if now >= until:
            host = self._url.host
            found = await self._resolve(host, self._url.port or (443 if self._url.scheme == "https" else 80))
            if not found:
                raise OSError(f"{host} has no address")
            for address in found:
                why = "" if self._receiver.allow_private else refusal_of(address)
                if why:
                    raise Forbidden(f"{host} is {why}; `allow_private: true` allows it")
            self._judged = found, now + FRESH_SECONDS
        return found[self._failed % len(found)]

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().aclose()


def _context(ca: str) -> ssl.SSLContext:
    """Certificates are verified, and for the name. Raises OSError."""
    context = ssl.create_default_context(cafile=ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca:  # what stands in the file is trusted as it stands, be it the receiver's own certificate
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


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
    cause: BaseException | None = error
    while cause is not None:  # httpx has what the system said underneath
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed: {cause.reason or type(cause).__name__}"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    text = next(iter(str(error).splitlines()), "")
    return text[:200] or type(error).__name__
