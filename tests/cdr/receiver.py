"""A real HTTP receiver on loopback, whose manners a test chooses."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Got(NamedTuple):
    """A request: what it carried, and how it was answered."""

    id: str
    stamp: int
    signature: str
    body: bytes
    code: int

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.body)  # type: ignore[no-any-return]

    @property
    def seq(self) -> tuple[str, int]:
        data = self.event["data"]
        return data["key"], data["seq"]


class Receiver:
    """`answer(event)` is a status, or a word: `hang`, `endless`, `drip`, `close`. Signatures are always checked."""

    def __init__(self, port: int = 0) -> None:
        self.answer: Callable[[dict[str, Any]], int | str] = lambda event: 204
        self.got: list[Got] = []
        self.wrong: list[str] = []
        self.sent = 0
        self._open: set[socket.socket] = set()
        self.ended = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                receiver._open.add(self.connection)

            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                receiver._take(self)

            def do_GET(self) -> None:
                receiver.wrong.append(f"GET {self.path}")

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook?token=hunter2"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"]))
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            Webhook(SECRET).verify(body, headers)
        except Exception as error:
            self.wrong.append(str(error))
        answer = self.answer(json.loads(body))
        code = answer if isinstance(answer, int) else 200 if answer in ("endless", "drip") else 0
        self.got.append(
            Got(
                headers["webhook-id"],
                int(headers["webhook-timestamp"]),
                headers["webhook-signature"],
                body,
                code,
            )
        )
        with suppress(OSError):
            self._say(request, answer)

    def _say(self, request: BaseHTTPRequestHandler, answer: int | str) -> None:
        if isinstance(answer, int):
            request.send_response(answer)
            if 300 <= answer < 400:
                request.send_header("Location", f"http://127.0.0.1:{self.port}/private")
            if answer != 204:
                request.send_header("Content-Length", "2")
            request.end_headers()
            request.wfile.write(b"" if answer == 204 else b"{}")
            return
        request.close_connection = True
        if answer == "hang":
            self.ended.wait(20)
        elif answer in ("endless", "drip"):
            request.send_response(200)
            request.send_header("Content-Length", str(10 << 30))
            request.end_headers()
            while not self.ended.is_set():
                self.sent += request.wfile.write(b"x" * (65536 if answer == "endless" else 1))
                if answer == "drip":
                    time.sleep(0.01)

    @property
    def taken(self) -> list[Got]:
        """What it said yes to."""
        return [one for one in self.got if 200 <= one.code < 300]

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
