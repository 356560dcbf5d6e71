"""The control socket: `control.sock` in `state_dir`, for whoever may read and write that (mode 0600).

A request is one JSON line, `{"op": "keys.suspend", "args": {"key": "acme"}}`. The admin API adds the name of the
token it acts for, `"token": "ops"`: the audit log has it, before what the kernel says of the client. The answer is one
line, `{"ok": true, …}` or `{"ok": false, "kind": "unknown", "error": "…"}`; before that of a list, each row is a line
`{"row": {…}}`. Requests on one connection are answered in their order. Whatever a client sends or leaves undone costs
the calls nothing: lines, clients and waits are bounded, and long lists are sent in slices.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Any, Final

from callgate.net.desk import OPERATIONS, Desk, Operation, Unfit
from callgate.net.log import Log
from callgate.net.rows import Row
from callgate.store.socket_path import FILE, address

CLIENTS: Final = 16
LINE: Final = 65_536
"""Bytes of a request at most."""
TOKEN: Final = 256
"""Characters of a token's name at most."""
IDLE_SECONDS: Final = 60.0
"""How long a client may say nothing, or take nothing."""
SLICE_SECONDS: Final = 0.002
"""How long the loop works on a list at a time."""
_CREDENTIALS = struct.Struct("3i")


class Taken(Exception):
    """Another gate serves this socket."""


class Control:
    """Serves a desk. `start` raises OSError where the socket can't be had, Taken where another gate has it."""

    def __init__(
        self, state_dir: Path, desk: Desk, log: Log, operations: Mapping[str, Operation] = OPERATIONS
    ) -> None:
        self._operations = operations
        self.path = state_dir / FILE
        self._desk = desk
        self._log = log
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._inode = 0

    async def start(self) -> None:
        listener = self._bind()
        self._inode = self.path.stat().st_ino
        self._server = await asyncio.start_unix_server(self._connected, sock=listener, limit=LINE)

    async def close(self) -> None:
        """Serve nobody any more."""
        if self._server is None:
            return
        self._server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        with contextlib.suppress(OSError):
            if self.path.stat().st_ino == self._inode:  # else it is another gate's by now
                self.path.unlink()

    def _bind(self) -> socket.socket:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.fchmod(bound.fileno(), 0o600)  # the file gets this mode from its first moment on
            with address(self.path) as where:
                if self.path.is_socket():
                    self._make_way(where)
                bound.bind(where)
            os.chmod(self.path, 0o600)
            bound.listen(CLIENTS)
            bound.setblocking(False)
        except BaseException:
            bound.close()
            raise
        return bound

    def _make_way(self, where: str) -> None:
        """A socket of an earlier run, which was killed, goes."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(where)
            except OSError:
                self.path.unlink(missing_ok=True)
                return
        raise Taken(f"another gate serves {self.path}: two gates can't share a state_dir")

    @property
    def clients(self) -> int:
        """Who is served now."""
        return len(self._clients)

    # -- one client ----------------------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._clients) >= CLIENTS:
                await self._say(writer, _refusal("failed", f"{CLIENTS} clients are served already"))
                return
            self._clients.add(task)
            who = _who(writer)
            while line := await self._line(reader, writer):
                await self._answer(line, who, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # it has gone, or says nothing, or takes nothing
        finally:
            self._clients.discard(task)
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await writer.wait_closed()

    async def _line(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """The next request; empty where there is none to come."""
        async with asyncio.timeout(IDLE_SECONDS):
            try:
                return await reader.readuntil(b"\n")
            except asyncio.LimitOverrunError:
                await self._say(writer, _refusal("usage", f"a request has at most {LINE} bytes"))
                return b""
            except asyncio.IncompleteReadError as error:
                return error.partial

    async def _answer(self, line: bytes, who: str, writer: asyncio.StreamWriter) -> None:
        try:
            name, given, token = _read(line)
            operation = self._operations.get(name)
            if operation is None:
                known = ", ".join(self._operations)
                raise Unfit("usage", f"unknown operation `{name[:60]}`; known: {known}")
            answer = await operation.handle(
                self._desk, operation.read(given), f"{token} (API; {who})" if token else who
            )
            if isinstance(answer, dict):
                await self._say(writer, {"ok": True, **answer})
            else:
                count = await self._say_all(writer, answer)
                await self._say(writer, {"ok": True, "count": count})
        except Unfit as unfit:
            await self._say(writer, _refusal(unfit.kind, unfit.text))
        except OSError:
            raise
        except Exception as error:  # a fault of ours must not end the gate
            self._log.error("internal error", where="control", error=repr(error), exc_info=error)
            await self._say(writer, _refusal("failed", "internal error; the gate's log has it"))

    async def _say(self, writer: asyncio.StreamWriter, row: Row) -> None:
        writer.write(_line(row))
        await self._drained(writer)

    async def _say_all(self, writer: asyncio.StreamWriter, rows: Iterator[Row]) -> int:
        """Every row, as many at a time as hold nobody up."""
        count = 0
        until = monotonic() + SLICE_SECONDS
        lines: list[bytes] = []
        for row in rows:
            count += 1
            lines.append(_line({"row": row}))
            if monotonic() >= until:
                writer.write(b"".join(lines))
                lines.clear()
                await self._drained(writer)
                await asyncio.sleep(0)
                until = monotonic() + SLICE_SECONDS
        writer.write(b"".join(lines))
        return count

    async def _drained(self, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(IDLE_SECONDS):
            await writer.drain()


def _read(line: bytes) -> tuple[str, dict[str, Any], str]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise Unfit("usage", "a request is one line of JSON") from None
    if not isinstance(request, dict) or not isinstance(request.get("op"), str):
        raise Unfit("usage", 'a request is an object such as {"op": "status"}')
    if request.keys() - {"op", "args", "token"}:
        raise Unfit("usage", "a request has `op`, `args` and `token`, and nothing else")
    given = request.get("args", {})
    if not isinstance(given, dict):
        raise Unfit("usage", "`args` must be an object")
    token = request.get("token", "")
    if not isinstance(token, str) or len(token) > TOKEN or not (token.isprintable()):
        raise Unfit("usage", f"`token` must be the name of a token, {TOKEN} characters at most")
    return request["op"], given, token


def _refusal(kind: str, text: str) -> Row:
    return {"ok": False, "kind": kind, "error": text}


def _line(row: Row) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def _who(writer: asyncio.StreamWriter) -> str:
    """Who is at the other end, as the kernel says."""
    connection = writer.get_extra_info("socket")
    pid, uid, _ = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = "nameless"
    return f"{name} (uid {uid}, pid {pid})"
