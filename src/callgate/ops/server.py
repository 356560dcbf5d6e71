"""The HTTP server of ops: its socket, its word to the gate, uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import uvicorn

BIND_RETRY_SECONDS: Final = 0.1
BEAT_SECONDS: Final = 2.0
"""How often ops tells the gate that its loop turns (`net.ops_child` kills one that falls silent)."""


def bind(url: str, patience: float) -> socket.socket:
    """A listening socket for `http://host:port`. Tried again for `patience` seconds, since the ops of
    the gate before may be just going; then OSError."""
    parts = urlsplit(url)
    deadline = time.monotonic() + patience
    while True:
        try:
            return _bind(parts.hostname or "", 80 if parts.port is None else parts.port)
        except OSError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(BIND_RETRY_SECONDS)


def _bind(host: str, port: int) -> socket.socket:
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(128)
    except OSError:
        sock.close()
        raise
    return sock


def url_of(sock: socket.socket) -> str:
    """Where the socket listens, with the port that the system chose for port 0."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Voice:
    """The pipe to the gate, one line a word. A gate that does not read must not hold ops up: words get
    lost."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        os.set_blocking(fd, False)

    def say(self, line: str) -> None:
        """Write one line, or drop it."""
        with contextlib.suppress(OSError):
            os.write(self._fd, line.encode() + b"\n")


class Server(uvicorn.Server):
    """uvicorn that tells the gate when it serves, and leaves signals as they are."""

    def __init__(self, config: uvicorn.Config, voice: Voice) -> None:
        super().__init__(config)
        self._voice = voice
        self._beating: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: the gate ends ops by closing its pipe (`lifeline`)."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, then say so."""
        await super().startup(sockets)
        if self.started and sockets:
            self._voice.say(f"ready {url_of(sockets[0])}")
            self._beating = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self._voice.say("beat")


def serve(app: Any, sock: socket.socket, voice: Voice) -> None:
    """Serve `app` on `sock` until the process ends."""
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        # Longer than a scrape interval, so that Prometheus keeps its connection.
        timeout_keep_alive=75,
        limit_concurrency=256,
    )
    asyncio.run(Server(config, voice).serve(sockets=[sock]))
