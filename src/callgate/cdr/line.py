"""One connection to a receiver: requests over HTTP/1.1, one after the other, and of an answer the verdict.

h11 reads and writes the protocol; this is what lies below it, and what is refused. httpx would be the same at ten times
the price: its pool looks at every connection it has before each request, and head and body are a system call each.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

import h11

ANSWER_MAX: Final = 16 << 10
"""Bytes of an answer that are read, so that its connection can be used again."""
DRAIN_SECONDS: Final = 0.5
"""How long the rest of an answer may take before its connection is given up: the verdict stands in its first line."""
Headers = list[tuple[bytes, bytes]]


class Cut(ConnectionError):
    """The connection ended before there was an answer. `stale`: it had been used before, and nothing at all came."""

    def __init__(self, words: str, stale: bool = False) -> None:
        super().__init__(words)
        self.stale = stale


class Line(asyncio.Protocol):
    """`ask`, then while it is `idle` once more. Whatever comes unasked ends it."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=ANSWER_MAX)
        self._transport: asyncio.Transport | None = None
        self._verdict: asyncio.Future[int] | None = None
        self._whole: asyncio.Future[None] | None = None
        self._read = 0
        self._used = False
        self.idle_since = 0.0

    @property
    def idle(self) -> bool:
        """It may be asked."""
        return self._transport is not None and self._verdict is None

    async def ask(self, target: bytes, headers: Headers, body: bytes) -> int:
        """POST; the status of the answer. Raises Cut. Cancelled, it is closed."""
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self._verdict, self._whole, self._read = loop.create_future(), loop.create_future(), 0
        send = self._http.send
        head = send(h11.Request(method=b"POST", target=target, headers=headers))
        assert head is not None
        self._transport.write(head + body)
        send(h11.Data(body))
        send(h11.EndOfMessage())
        try:
            code = await self._verdict
            if not self._whole.done():
                await asyncio.wait((self._whole,), timeout=DRAIN_SECONDS)
        except asyncio.CancelledError:
            self.close()
            raise
        self._used = True
        self._end()
        return code

    def _end(self) -> None:
        """Ready for the next one, or closed where it can't be."""
        http = self._http
        done = http.our_state is h11.DONE and http.their_state is h11.DONE and not http.trailing_data[0]
        if self._transport is None or not done:
            self.close()
            return
        http.start_next_cycle()
        self._verdict = self._whole = None
        self.idle_since = asyncio.get_running_loop().time()

    def close(self) -> None:
        """At once; what has not been sent is not sent any more."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    # -- of asyncio.Protocol -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        if self._verdict is None:
            self.close()
            return
        self._read += len(data)
        self._take(data)
        if self._read > ANSWER_MAX and not (self._whole is not None and self._whole.done()):
            self._over("an answer without end")

    def eof_received(self) -> None:
        if self._verdict is not None:
            self._take(b"")

    def connection_lost(self, _error: Exception | None) -> None:
        self._over("the connection was closed without an answer")

    def _take(self, data: bytes) -> None:
        assert self._verdict is not None
        assert self._whole is not None
        try:
            self._http.receive_data(data)
            while True:
                event = self._http.next_event()
                if isinstance(event, h11.Response):
                    if not self._verdict.done():
                        self._verdict.set_result(event.status_code)
                elif isinstance(event, h11.EndOfMessage):
                    if not self._whole.done():
                        self._whole.set_result(None)
                    return
                elif event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
                    return
        except h11.RemoteProtocolError as error:
            self._over(f"not HTTP: {error}" if data else "the connection was closed without an answer")

    def _over(self, words: str) -> None:
        """No more comes here."""
        self.close()
        if self._verdict is not None and not self._verdict.done():
            self._verdict.set_exception(Cut(words, stale=self._used and not self._read))
        if self._whole is not None and not self._whole.done():
            self._whole.set_result(None)
