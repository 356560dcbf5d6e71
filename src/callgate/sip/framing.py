"""Cutting messages out of a byte stream (RFC 3261 §18.3; keep-alives of RFC 5626 §4.4.1)."""

from __future__ import annotations

import re

from callgate.sip.errors import Malformed
from callgate.sip.fields import unfold

_TYPE = re.compile(rb"\r\n(?:Content-Type|c)[ \t]*+:", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\n(?:Content-Length|l)[ \t]*+:((?:[^\r]++|\r(?!\n)|\r\n(?=[ \t]))*)", re.IGNORECASE)

MAX_HEAD = 65_535
"""Octets of start line and header; a longer head ends the connection."""
MAX_MESSAGE = 131_070
"""Octets of a whole message."""


class Framer:
    """Feed it what a connection reads; it yields whole messages. `PING` stands for a CRLFCRLF keep-alive."""

    PING = b"\r\n\r\n"

    __slots__ = ("_buffer", "_need")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._need = 0  # octets of the message at the front, 0 while its head is not complete

    @property
    def waiting(self) -> int:
        """Octets held of a message that is not complete."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Whole messages, in order. Raises `Broken` with those cut so far when the stream can't go on."""
        buffer = self._buffer
        searched = max(0, len(buffer) - 3)
        buffer += data
        out: list[bytes] = []
        while buffer:
            if not self._need:
                if buffer[0] in b"\r\n":
                    if buffer.startswith(self.PING):
                        out.append(self.PING)
                        del buffer[:4]
                    elif len(buffer) < 4 and self.PING.startswith(buffer):
                        break  # may become a keep-alive
                    else:
                        del buffer[:1]  # one by one: where the stream was cut must make no difference
                    searched = 0
                    continue
                end = buffer.find(b"\r\n\r\n", searched)
                at_least = end if end >= 0 else len(buffer) - 3
                if at_least > MAX_HEAD:
                    raise Broken("a header of more than 65535 octets", out, b"")
                if end < 0:
                    break
                self._need = self._length(buffer, end, out)
            if len(buffer) < self._need:
                break
            out.append(bytes(buffer[: self._need]))
            del buffer[: self._need]
            self._need = searched = 0
        return out

    def _length(self, buffer: bytearray, end: int, out: list[bytes]) -> int:
        """Octets of the whole message. One Content-Length, a number: else where it ends can't be known. §20.14
        wants one on streams; what has neither it nor a Content-Type has no body."""
        head = bytes(buffer[: end + 4])
        lengths = {unfold(value).strip(b" \t") for value in _LENGTH.findall(head)}
        if not lengths:
            if _TYPE.search(head):
                raise Broken("a body without a Content-Length", out, head)
            return end + 4
        if len(lengths) > 1:
            raise Broken("conflicting Content-Length headers", out, head)
        value = lengths.pop()
        if not value.isdigit() or len(value) > 9:
            raise Broken("Content-Length is no number", out, head)
        if end + 4 + int(value) > MAX_MESSAGE:
            raise Broken("a message of more than 131070 octets", out, head)
        return end + 4 + int(value)


class Broken(Malformed):
    """The stream can't be framed any more: answer what can be answered, then close (RFC 4475 §3.1.2.3).

    `messages` were whole before the break; `head` is the head that broke it, empty if there is none.
    """

    def __init__(self, reason: str, messages: list[bytes], head: bytes) -> None:
        super().__init__(reason)
        self.messages = messages
        self.head = head
