"""What the gate tells ops at the start, one line of JSON on its pipe: it holds secrets, so neither the command line nor
the environment carries it."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import NamedTuple


class Token(NamedTuple):
    """`digest`: the SHA-256 of the token; ops never holds the token itself."""

    name: str
    role: str
    digest: bytes


class Settings(NamedTuple):
    """`state_dir` None: nothing is kept, and there is no control socket. `database` empty: no records to ask for."""

    tokens: tuple[Token, ...] = ()
    state_dir: Path | None = None
    database: str = ""

    def holder(self, token: bytes) -> Token | None:
        """Whose token that is. Every one is compared, each in constant time."""
        given = sha256(token).digest()
        found = None
        for one in self.tokens:
            if compare_digest(one.digest, given):
                found = one
        return found


def first_line(fd: int) -> bytes:
    """What the gate says to a process of its own before all else, byte by byte: what follows is not ours. EOFError
    where the gate has ended before it."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(fd, 1)
        if not byte:
            raise EOFError
        line += byte
    return bytes(line)


def read(fd: int) -> Settings:
    """What `net.serve` has told ops. EOFError where the gate has ended before it."""
    found = json.loads(first_line(fd))
    tokens = tuple(Token(name, role, bytes.fromhex(digest)) for name, role, digest in found.get("tokens", ()))
    folder = found.get("state_dir")
    return Settings(tokens, None if folder is None else Path(folder), found.get("database", ""))
