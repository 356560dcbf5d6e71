"""Asking the gate without waiting for it: the screen stays alive whatever the gate does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final

from callgate.cli.control import Row, unreachable
from callgate.store.socket_path import address

LOOK_SECONDS: Final = 5.0
"""How long the gate may take to say how it is."""
ACT_SECONDS: Final = 30.0
"""How long it may take to do something."""
LINE: Final = 16 << 20
"""Bytes of an answer at most."""


class Away(Exception):
    """The gate can't be asked, and why."""


class Refused(Exception):
    """The gate says no, and why."""


class Link:
    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def ask(self, op: str, seconds: float = ACT_SECONDS, **arguments: Any) -> Row:
        """An answer of one object. Raises Away or Refused."""
        given = {name: value for name, value in arguments.items() if value not in (None, "", False)}
        line = json.dumps({"op": op, "args": given}).encode() + b"\n"
        try:
            async with asyncio.timeout(seconds):
                answer = await self._exchange(line)
        except TimeoutError:
            raise Away(f"the gate has not answered for {seconds:g} s") from None
        except OSError as error:
            raise Away(unreachable(self._socket, error)) from None
        except ValueError as error:
            raise Away(f"the gate's answer can't be read: {error}") from None
        if answer.pop("ok", False):
            return answer
        if answer.get("kind") == "usage" and f"`{op}`" in answer["error"]:
            raise Refused("the gate that runs is of an older version, which can't answer this: restart it")
        raise Refused(str(answer.get("error", "the gate gives no reason")))

    async def _exchange(self, line: bytes) -> Row:
        with address(self._socket) as where:
            reader, writer = await asyncio.open_unix_connection(where, limit=LINE)
        try:
            writer.write(line)
            answer = json.loads(await reader.readline() or b"null")
        finally:
            writer.close()
        if not isinstance(answer, dict):
            raise ValueError("it has ended before its answer was complete")
        return answer
