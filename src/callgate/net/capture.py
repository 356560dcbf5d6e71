"""Copies of the messages on the wire: for Homer, and for the ladder of `callgate explain --sip`.

The loop puts down what it has read or the kernel has taken, and no more; a thread redacts, tells Homer and remembers.
What it remembers is in memory alone, of the last MESSAGES_KEPT messages the first line, and ends with the process.
Without `hep` in the config there is no such object, and a message costs one look for it.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Any, Final, NamedTuple, Protocol

from callgate.config.schema import Hep
from callgate.net.hep import Address, Server, TooLong, packet
from callgate.net.log import Log, mask_number, utc
from callgate.net.redact import Redaction
from callgate.proxy.directory import Directory
from callgate.proxy.flow import Flow, Listener
from callgate.proxy.meters import Meters

QUEUE_BYTES: Final = 8 << 20
"""What may wait for the thread: octets of messages, and OVERHEAD for each."""
OVERHEAD: Final = 512
MESSAGES_KEPT: Final = 50_000
GATHER_SECONDS: Final = 0.05
"""The thread lets messages gather for so long: one wake-up for all of them."""
CLOSE_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 1.0
"""How long whoever asks waits for the thread to take what was put down before."""
LONGEST_LINE: Final = 256
"""Octets kept of a first line, and of a Call-ID."""
NEIGHBOURS: Final = 1_024
"""Peers of whom is remembered which address of this machine they are reached from."""

_CALL_ID = re.compile(rb"[\r\n](?:call-id|i)[ \t]*+:[ \t]*+(?:\r\n[ \t]++)?+([^\r\n]*+)", re.IGNORECASE)
_CSEQ = re.compile(rb"[\r\n]cseq[ \t]*+:\s*+([0-9]{1,10}+)\s++([^\s]{1,32}+)", re.IGNORECASE)

Tap = Callable[[bool, bytes, Listener, Address, Address], None]
"""(sent?, message, listener, our address, the peer's): called for each message, so it must be cheap."""
Entry = tuple[float, bool, bytes, Listener, Address, Address]


class Tappable(Protocol):
    """A listener that shows its messages."""

    def show(self, tap: Tap) -> None: ...


class Seen(NamedTuple):
    """A message that was on the wire, `at` in seconds since 1970. `line`: its first; `cseq`: number and method."""

    at: float
    sent: bool
    listener: Listener
    here: Address
    there: Address
    line: bytes
    cseq: bytes
    call_id: bytes


class Capture:
    """`put` is the tap. `directory()` gives the present one, whose secret headers are redacted: those of earlier ones
    too, for whoever sends them may not have heard."""

    def __init__(self, hep: Hep, meters: Meters, log: Log, directory: Callable[[], Directory]) -> None:
        self._agent = hep.capture_id
        self._password = hep.password.get_secret_value().encode() if hep.password is not None else b""
        self._server = Server(hep.server, log)
        self._log = log
        self._directory = directory
        self._redact = Redaction()
        self._headers: Iterable[str] = ()  # as the directory has them
        self._values = meters.values
        # Each counted by one thread alone.
        self._full = meters.series("hep_lost_total", "queue full")
        self._not_sent = meters.series("hep_lost_total", "not sent")
        self._too_long = meters.series("hep_lost_total", "too long")
        self._faulty = meters.series("hep_lost_total", "internal error")
        self._sent = meters.series("hep_sent_total")
        self._queue: deque[Entry] = deque()
        self._put = 0  # octets, by the loop
        self._taken = 0  # octets, by the thread
        self._kept: deque[Seen] = deque(maxlen=MESSAGES_KEPT)
        self._local: dict[str, str] = {}
        self._said = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hep", daemon=True)

    @classmethod
    def of(
        cls, hep: Hep | None, meters: Meters, log: Log, directory: Callable[[], Directory]
    ) -> Capture | None:
        """None where the config has no `hep`."""
        return None if hep is None else cls(hep, meters, log, directory)

    def start(self, listeners: Iterable[Tappable]) -> None:
        """Begin to take copies of what these read and send."""
        for listener in listeners:
            listener.show(self.put)
        self._thread.start()

    def close(self) -> None:
        """Take no more; what waits still goes out, for CLOSE_SECONDS at most."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)

    # -- the loop's part -----------------------------------------------------------------------------------

    def put(self, sent: bool, data: bytes, listener: Listener, here: Address, there: Address) -> None:
        """A message is on the wire now. Never waits: beyond QUEUE_BYTES it is counted as lost."""
        size = len(data) + OVERHEAD
        if self._put - self._taken + size > QUEUE_BYTES:
            self._values[self._full] += 1.0
            return
        self._put += size
        self._queue.append((monotonic(), sent, data, listener, here, there))

    # -- the thread's part ---------------------------------------------------------------------------------

    def _run(self) -> None:
        closed = False
        while not closed:
            closed = self._closed.wait(GATHER_SECONDS)
            self._drain()
        self._server.close()

    def _drain(self) -> None:
        offset = time.time() - monotonic()
        for _ in range(len(self._queue)):
            entry = self._queue.popleft()
            try:
                self._learn_headers()  # each time: a reload may come between two messages
                self._take(entry, offset)
            except Exception as error:  # a bug of ours: the other messages are still worth their copies
                self._values[self._faulty] += 1.0
                if not self._said:
                    self._said = True
                    self._log.error("internal error", where="hep", error=repr(error), exc_info=error)
            self._taken += len(entry[2]) + OVERHEAD

    def _learn_headers(self) -> None:
        headers = self._directory().edge.secret_headers
        if headers is not self._headers:
            self._headers = headers
            self._redact = Redaction((*self._redact.names, *headers))

    def _take(self, entry: Entry, offset: float) -> None:
        at, sent, data, listener, here, there = entry
        if not data.strip(b"\r\n\0 "):
            return  # a keep-alive (RFC 5626 §3.5)
        at += offset
        if here[0] in ("0.0.0.0", "::"):
            here = (self._reached_from(here[0], there[0]), here[1])
        data = self._redact(data)
        found = _CALL_ID.search(data)
        call_id = found[1].rstrip() if found is not None else b""
        self._keep(at, sent, listener, here, there, data, call_id)
        source, destination = (here, there) if sent else (there, here)
        try:
            copy = packet(
                (listener.transport, source, destination, at, data, call_id), self._agent, self._password
            )
        except TooLong:
            self._values[self._too_long] += 1.0
            return
        self._values[self._sent if self._server.send(copy) else self._not_sent] += 1.0

    def _keep(
        self,
        at: float,
        sent: bool,
        listener: Listener,
        here: Address,
        there: Address,
        data: bytes,
        call_id: bytes,
    ) -> None:
        line = data[:LONGEST_LINE].lstrip(b"\r\n").partition(b"\r")[0].partition(b"\n")[0]
        found = _CSEQ.search(data)
        cseq = b"%b %b" % found.groups() if found is not None else b""
        self._kept.append(Seen(at, sent, listener, here, there, line, cseq, call_id[:LONGEST_LINE]))

    def _reached_from(self, bound: str, peer: str) -> str:
        """The address of this machine towards a peer, where a socket is bound to all of them. No packet is sent."""
        known = self._local.get(peer)
        if known is None:
            if len(self._local) >= NEIGHBOURS:
                self._local.clear()
            family = socket.AF_INET6 if ":" in bound else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                try:
                    probe.connect((peer, 9))
                    known = str(probe.getsockname()[0])
                except OSError:
                    known = bound
            self._local[peer] = known
        return known

    # -- what was kept -------------------------------------------------------------------------------------

    def of_call(self, call_id: str, *, full_numbers: bool) -> Iterator[dict[str, Any]]:
        """The messages with a Call-ID that are remembered, oldest first, those of a moment ago too. It looks through
        all there are, and may wait: not for the loop's thread."""
        self._settle()
        wanted = call_id.encode("utf-8", "surrogateescape")[:LONGEST_LINE]
        earlier: set[tuple[object, ...]] = set()
        for seen in [one for one in self._kept.copy() if one.call_id == wanted]:
            same = (seen.sent, seen.listener.index, seen.there, seen.line, seen.cseq)
            words = seen.line.decode("utf-8", "replace").split(" ", 2)
            if words[0] == "SIP/2.0":
                what, about = (words[1] if len(words) > 1 else ""), words[2] if len(words) > 2 else ""
            else:
                what, about = words[0], words[1] if len(words) > 1 else ""
            yield {
                "at": utc(int(seen.at * 1e6) * 1000),
                "sent": seen.sent,
                "transport": seen.listener.transport.decode().lower(),
                "gate": hostport(seen.here),
                "peer": hostport(seen.there),
                "name": self._name(seen),
                "what": what,
                "about": about if full_numbers else mask_number(about),
                "cseq": seen.cseq.decode("utf-8", "replace"),
                "again": same in earlier,
            }
            earlier.add(same)

    def forget(self) -> int:
        """Keep nothing of the messages so far, whosever they were: a caller's number may be where nobody can tell. How
        many there were. Not for the loop's thread."""
        self._settle()
        count = len(self._kept)
        self._kept.clear()
        return count

    def _settle(self) -> None:
        mark, until = self._put, monotonic() + SETTLE_SECONDS
        while self._taken < mark and monotonic() < until:
            time.sleep(GATHER_SECONDS / 5)

    def _name(self, seen: Seen) -> str:
        """Whose address it is: a key's, or a trunk's; empty for nobody's."""
        peer = self._directory().identify(Flow(seen.listener, *seen.there))
        if peer.key is not None:
            return peer.key.id
        return peer.trunk.name if peer.trunk is not None else ""


def hostport(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
