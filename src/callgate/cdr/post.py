"""One attempt to deliver one event over HTTP, bounded in every way.

The name is resolved here, every address it has is judged, and the connection goes to the one that was judged: between
the look and the connect no other answer of the name server comes in. Certificates are still those of the name. No
redirect is followed, no proxy of the environment is used, and of an answer no more is read than fits.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

import httpx
from standardwebhooks import Webhook

from callgate.cdr.events import Receiver
from callgate.cdr.line import Cut, Headers, Line

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
    """To one receiver. `deliver` never raises for what the receiver does."""

    def __init__(self, receiver: Receiver, *, resolve: Resolve = resolve) -> None:
        self._receiver = receiver
        self._signer = Webhook(receiver.secret)
        self._resolve = resolve
        self._fault = ""
        self._judged: tuple[list[str], float] = [], 0.0
        self._failed = 0
        self._idle: list[Line] = []
        self._tls: ssl.SSLContext | None = None
        try:
            url = httpx.URL(receiver.url)
            self._host, self._target = url.raw_host.decode("ascii"), url.raw_path
            self._port = url.port or (443 if url.scheme == "https" else 80)
            self._common: Headers = _common(url)
            if url.scheme == "https":
                self._tls = _context(receiver.ca)
        except (httpx.InvalidURL, UnicodeError):
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
        except (OSError, UnicodeError) as error:
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
        at = datetime.now(UTC)
        data = body.encode("ascii")
        headers = [
            *self._common,
            (b"content-length", b"%d" % len(data)),
            (b"webhook-id", ident.encode("ascii")),
            (b"webhook-timestamp", b"%d" % int(at.timestamp())),
            (b"webhook-signature", self._signer.sign(ident, at, body).encode("ascii")),
        ]
        kept = self._kept()
        if kept is not None:
            try:
                return await self._ask(kept, headers, data)
            except Cut as cut:
                if not cut.stale:  # the receiver had closed it before it could see this request
                    raise
        return await self._ask(await self._connect(), headers, data)

    async def _ask(self, line: Line, headers: Headers, data: bytes) -> int:
        code = await line.ask(self._target, headers, data)
        if line.idle:
            self._idle.append(line)
        return code

    def _kept(self) -> Line | None:
        """A connection from before, the one used last. Those nobody needs are closed."""
        oldest = asyncio.get_running_loop().time() - IDLE_SECONDS
        while self._idle and (self._idle[0].idle_since < oldest or not self._idle[0].idle):
            self._idle.pop(0).close()
        while self._idle:
            line = self._idle.pop()
            if line.idle:
                return line
        return None

    async def _connect(self) -> Line:
        """To an address that was judged, and with the certificate of the name."""
        address = await self._address()
        name = self._host.rstrip(".") if self._tls is not None else None
        _, line = await asyncio.get_running_loop().create_connection(
            Line, address, self._port, ssl=self._tls, server_hostname=name
        )
        return line

    async def _address(self) -> str:
        """One that may be connected to. Raises OSError and Forbidden."""
        now = asyncio.get_running_loop().time()
        found, until = self._judged
        if now >= until:
            found = await self._resolve(self._host, self._port)
            if not found:
                raise OSError(f"{self._host} has no address")
            for address in found:
                why = "" if self._receiver.allow_private else refusal_of(address)
                if why:
                    raise Forbidden(f"{self._host} is {why}; `allow_private: true` allows it")
            self._judged = found, now + FRESH_SECONDS
        return found[self._failed % len(found)]

    async def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


def _common(url: httpx.URL) -> Headers:
    """What stands in each request."""
    headers = [
        (b"host", url.netloc),
        (b"content-type", b"application/json"),
        (b"user-agent", b"callgate"),
        (b"accept-encoding", b"identity"),
    ]
    if url.userinfo:
        user = unquote_to_bytes(url.userinfo)
        headers.append((b"authorization", b"Basic " + base64.b64encode(user)))
    return headers


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
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or type(error).__name__}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = next(iter(str(error).splitlines()), "")
    return text[:200] or type(error).__name__
