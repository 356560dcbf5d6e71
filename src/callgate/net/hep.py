"""HEP3, in which Homer takes copies of messages: a packet is `HEP3`, its length and chunks of vendor, type, length and
value, all in network order; the numbers are those of "HEP/EEP: the HOMER encapsulation protocol, revision 3", §3.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from itertools import chain
from time import monotonic
from typing import Final

from callgate.config import HostPort
from callgate.net.log import Log

GENERIC: Final = 0
"""The vendor of the chunks that everybody knows."""
(
    FAMILY,
    PROTOCOL,
    SOURCE_4,
    DESTINATION_4,
    SOURCE_6,
    DESTINATION_6,
    SOURCE_PORT,
    DESTINATION_PORT,
    SECONDS,
    MICROSECONDS,
    KIND,
    AGENT,
) = range(1, 13)
PASSWORD: Final = 14
PAYLOAD: Final = 15
CORRELATION: Final = 17
SIP: Final = 1
"""The KIND of a payload."""
LONGEST: Final = 65_507
"""Octets of a UDP datagram over IPv4; a packet counts its own with 16 bits."""
LOOK_UP_SECONDS: Final = 60.0
"""How long an address of the server's name is believed, and how long one that can't be had is left alone."""
QUIET_SECONDS: Final = 10.0
"""Without an error for so long, the server is held to be there."""

Address = tuple[str, int]
Message = tuple[bytes, Address, Address, float, bytes, bytes]
"""(b"UDP", b"TCP" or b"TLS"; source; destination; seconds since 1970, when it was on the wire; the message; its
Call-ID)"""

_IPV4, _IPV6 = socket.AF_INET, socket.AF_INET6
_PROTOCOLS = {b"UDP": socket.IPPROTO_UDP, b"TCP": socket.IPPROTO_TCP, b"TLS": socket.IPPROTO_TCP}
_head = struct.Struct(">HHH").pack


def _fixed(source: int, destination: int, size: int) -> tuple[Callable[..., bytes], tuple[bytes, ...]]:
    """For the chunks whose size is always the same, `size` that of an address: what packs them, and their heads."""
    chunks = (
        *((FAMILY, "B"), (PROTOCOL, "B"), (KIND, "B"), (source, f"{size}s"), (destination, f"{size}s")),
        *((SOURCE_PORT, "H"), (DESTINATION_PORT, "H"), (SECONDS, "I"), (MICROSECONDS, "I"), (AGENT, "I")),
    )
    heads = [_head(GENERIC, kind, 6 + struct.calcsize(form)) for kind, form in chunks]
    return struct.Struct(">" + "".join("6s" + form for _, form in chunks)).pack, tuple(heads)


_PACK_4, _HEADS_4 = _fixed(SOURCE_4, DESTINATION_4, 4)
_PACK_6, _HEADS_6 = _fixed(SOURCE_6, DESTINATION_6, 16)


class TooLong(Exception):
    """A message that no packet can hold."""


def packet(message: Message, agent: int, password: bytes = b"") -> bytes:
    """One message as a packet. `agent` (32 bits) says who has seen it. Raises TooLong."""
    transport, source, destination, at, data, call_id = message
    if ":" in source[0]:
        family, known_as, pack, heads = _IPV6, 10, _PACK_6, _HEADS_6  # as Linux numbers it
    else:
        family, known_as, pack, heads = _IPV4, 2, _PACK_4, _HEADS_4
    seconds, micro = divmod(int(at * 1e6), 1_000_000)
    values = (
        *(known_as, _PROTOCOLS[transport], SIP),
        *(socket.inet_pton(family, host.partition("%")[0]) for host, _ in (source, destination)),
        *(source[1], destination[1], seconds & 0xFFFFFFFF, micro, agent),
    )
    parts = [pack(*chain.from_iterable(zip(heads, values, strict=True)))]
    if password:
        parts.append(_chunk(PASSWORD, password))
    if call_id:
        parts.append(_chunk(CORRELATION, call_id))
    parts.append(_chunk(PAYLOAD, data))
    chunks = b"".join(parts)
    size = 6 + len(chunks)
    if size > LONGEST:
        raise TooLong
    return b"HEP3" + size.to_bytes(2, "big") + chunks


def _chunk(kind: int, value: bytes) -> bytes:
    size = len(value) + 6
    if size > LONGEST:
        raise TooLong
    return _head(GENERIC, kind, size) + value


class Server:
    """The way to a Homer over UDP, for one thread. Whether anybody is there is nobody's trouble: what can't be sent is
    lost, and said in the log once."""

    def __init__(self, address: HostPort, log: Log) -> None:
        self._address = address
        self._log = log
        self._socket: socket.socket | None = None
        self._again_at = float("-inf")  # when its name is looked up again
        self._failed_at = float("-inf")
        self._fails = False

    def send(self, data: bytes) -> bool:
        """True where the kernel has taken it and nobody has said yet that it can't arrive."""
        now = monotonic()
        if now >= self._again_at:
            self._open(now)
        if self._socket is None:
            return False
        try:
            self._socket.send(data)
        except ConnectionError as error:  # what ICMP has said of an earlier one
            self._failed(error, now)
            return self._once_more(data)
        except OSError as error:
            self._failed(error, now)
            return False
        if self._fails and now - self._failed_at > QUIET_SECONDS:
            self._fails = False
            self._log.info("hep server answers again", server=str(self._address))
        return True

    def _once_more(self, data: bytes) -> bool:
        assert self._socket is not None
        try:
            self._socket.send(data)
        except OSError:
            return False
        return True

    def _failed(self, error: OSError, now: float) -> None:
        self._failed_at = now
        if not self._fails:
            self._fails = True
            what = "copies of messages are lost until it is there; calls go on"
            why = error.strerror or str(error)
            self._log.warning("hep server away", server=str(self._address), error=why, text=what)

    def _open(self, now: float) -> None:
        """A socket towards what the name stands for now. An address that is gone may be another's tomorrow."""
        self.close()
        self._again_at = now + LOOK_UP_SECONDS
        host, port = self._address.host, self._address.port
        try:
            family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            self._socket = socket.socket(family, kind)
            self._socket.settimeout(1.0)  # for room in the kernel
            self._socket.connect(where)
        except OSError as error:
            self.close()
            self._failed(error, now)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
