"""Asking the gate, over its control socket: the one protocol that the commands use too."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final

from callgate.ops.problems import Refused
from callgate.store.socket_path import FILE, address

CLIENTS: Final = 6
"""Of the gate's places for clients, how many the API takes at most: the commands need some too."""
SECONDS: Final = 30.0
LINE: Final = 1 << 20
STATUS: Final = {"usage": 400, "unknown": 404, "failed": 409}
"""Kind of a refusal (`net.desk.Unfit`) → status."""


Row = dict[str, Any]


class Gate:
    """Raises Refused with the reason of the gate, or 503 where it can't be asked."""

    def __init__(self, state_dir: Path | None) -> None:
        self._path = None if state_dir is None else state_dir / FILE
        self._places = asyncio.Semaphore(CLIENTS)

    async def rows(self, token: str, op: str, **arguments: Any) -> list[Row]:
        """A list."""
        return (await self._ask(token, op, arguments))[0]

    async def do(self, token: str, op: str, **arguments: Any) -> Row:
        """An answer of one object."""
        return (await self._ask(token, op, arguments))[1]

    async def _ask(self, token: str, op: str, arguments: Row) -> tuple[list[Row], Row]:
        if self._path is None:
            raise Refused(
                503, "`state_dir` is null in the gate's config: without it there is no control socket"
            )
        given = {name: value for name, value in arguments.items() if value is not None}
        line = json.dumps({"op": op, "args": given, "token": token}).encode() + b"\n"
        try:
            async with asyncio.timeout(SECONDS), self._places:
                return await _exchange(self._path, line)
        except TimeoutError:
            raise Refused(503, f"the gate has not answered for {SECONDS:g} s") from None
        except (OSError, ValueError) as error:
            raise Refused(503, f"the gate can't be asked: {error}") from None


async def _exchange(path: Path, line: bytes) -> tuple[list[Row], Row]:
    with address(path) as where:
        reader, writer = await asyncio.open_unix_connection(where, limit=LINE)
    try:
        writer.write(line)
        found: list[Row] = []
        while answer := await reader.readline():
            row = json.loads(answer)
            if "row" in row:
                found.append(row["row"])
            elif row.pop("ok"):
                return found, row
            else:
                raise Refused(STATUS[row["kind"]], row["error"])
        raise Refused(503, "the gate has ended before its answer was complete")
    finally:
        writer.close()
