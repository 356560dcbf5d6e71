"""SIP endpoints on plain sockets, for what SIPp can't do. They know nothing of the program's own code.

An endpoint waits when it is asked to (`expect`) and the kernel keeps what comes meanwhile: a test reads like a
ladder, and there is no thread in it.
"""

from __future__ import annotations

import itertools
import os
import re
import select
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.e2e.gate import DEADLINE, Address, Gate, hostport

SO_TIMESTAMPNS = 35  # asm-generic/socket.h; its control message has the same number
SDP = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 40000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
)
_numbers = itertools.count(1)


def unique(word: str) -> str:
    return f"{word}-{os.getpid():06x}-{next(_numbers):06x}"


class Message:
    """One SIP message: `start`, `headers` in order (name in lower case, value), `body`. `source`: the address it
    came from; `stamp`: when the kernel took it (seconds, wall clock), 0 where nobody asked for that."""

    def __init__(self, data: bytes, source: Address = ("", 0), stamp: float = 0.0) -> None:
        self.data = data
        self.source = source
        self.stamp = stamp
        head, _, self.body = data.partition(b"\r\n\r\n")
        self.start, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        self.headers = [(name.strip().lower(), value.strip()) for name, _, value in pairs]

    def all(self, name: str) -> list[str]:
        return [value for header, value in self.headers if header == name]

    def get(self, name: str) -> str:
        """The first value of a header, empty where there is none."""
        return next(iter(self.all(name)), "")

    @property
    def code(self) -> int:
        """0 for a request."""
        return int(self.start.split(" ")[1]) if self.start.startswith("SIP/2.0 ") else 0

    @property
    def method(self) -> str:
        """A request's method, or that of the request which a response answers."""
        return self.get("cseq").rpartition(" ")[2] if self.code else self.start.split(" ")[0]

    @property
    def call_id(self) -> str:
        return self.get("call-id")

    @property
    def uri(self) -> str:
        return self.start.split(" ")[1]

    def __repr__(self) -> str:
        return f"<{self.start} | {self.get('cseq')} | {self.call_id}>"


def wire(start: str, headers: list[tuple[str, str]], body: bytes = b"") -> bytes:
    """A message, its Content-Length added."""
    lines = [start, *(f"{name}: {value}" for name, value in headers), f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + body


class Endpoint:
    """What receives: `inbox` holds what has come and nobody has asked for yet."""

    transport = ""
    address: Address

    def __init__(self) -> None:
        self.inbox: deque[Message] = deque()

    def _pull(self, seconds: float) -> bool:
        """Take in what the kernel has, waiting for it up to `seconds`; False when nothing came."""
        raise NotImplementedError

    def send(self, data: bytes, to: Address) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def find(self, wanted: Callable[[Message], bool], what: str, within: float = DEADLINE) -> Message:
        """Wait for a message and take it out; the others stay."""
        end = time.monotonic() + within
        while True:
            for message in self.inbox:
                if wanted(message):
                    self.inbox.remove(message)
                    return message
            left = end - time.monotonic()
            if left <= 0 or (not self._pull(left) and time.monotonic() >= end):
                raise AssertionError(f"no {what} at {self.address} within {within:g} s; {list(self.inbox)}")

    def expect(
        self, what: str | int, method: str = "", call_id: str = "", within: float = DEADLINE
    ) -> Message:
        """A request by its method, or a response by its code (and the method that it answers)."""

        def wanted(message: Message) -> bool:
            if call_id and message.call_id != call_id:
                return False
            if isinstance(what, int):
                return message.code == what and (not method or message.method == method)
            return not message.code and message.method == what

        return self.find(wanted, f"{what} {method} {call_id}", within)

    def final(self, method: str, call_id: str, within: float = DEADLINE) -> Message:
        """The final answer, whatever it is."""
        return self.find(
            lambda m: m.code >= 200 and m.method == method and m.call_id == call_id,
            f"final answer to {method} {call_id}",
            within,
        )

    def arrived(self) -> list[Message]:
        """All that has come and was not asked for, without waiting."""
        while self._pull(0):
            pass
        return list(self.inbox)

    @property
    def uri(self) -> str:
        """Where to reach it, for its Contact."""
        suffix = "" if self.transport == "UDP" else f";transport={self.transport.lower()}"
        return f"sip:{hostport(self.address)}{suffix}"


class Udp(Endpoint):
    """A bound UDP socket. `stamps`: have the kernel say when it took each datagram."""

    transport = "UDP"

    def __init__(self, host: str, port: int = 0, *, stamps: bool = False) -> None:
        super().__init__()
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        if stamps:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.bind((host, port))
        self.socket.setblocking(False)
        self.address = self.socket.getsockname()[:2]

    def take(self) -> tuple[bytes, Address, float] | None:
        """The next datagram, its source and its stamp; None while there is none."""
        while True:
            try:
                data, control, _, source = self.socket.recvmsg(65_536, 64)
            except BlockingIOError:
                return None
            except OSError:  # an ICMP error about an earlier datagram
                continue
            stamp = 0.0
            for level, kind, value in control:
                if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                    seconds, nanoseconds = struct.unpack("qq", value[:16])
                    stamp = seconds + nanoseconds / 1e9
            return data, source[:2], stamp

    def _pull(self, seconds: float) -> bool:
        if not select.select((self.socket,), (), (), max(0.0, seconds))[0]:
            return False
        took = self.take()
        if took is not None:
            self.inbox.append(Message(*took))
        return took is not None

    def send(self, data: bytes, to: Address) -> None:
        self.socket.sendto(data, to)

    def close(self) -> None:
        self.socket.close()


class Stream(Endpoint):
    """One TCP connection. `ended`: the other side has closed it."""

    transport = "TCP"

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self.socket = sock
        self.address = sock.getsockname()[:2]
        self.peer: Address = sock.getpeername()[:2]
        self.ended = False
        self.buffer = b""

    @classmethod
    def to(cls, to: Address, host: str, port: int = 0) -> Stream:
        return cls(socket.create_connection(to, DEADLINE, (host, port)))

    def _pull(self, seconds: float) -> bool:
        if self.ended or not select.select((self.socket,), (), (), max(0.0, seconds))[0]:
            if self.ended:
                raise AssertionError(f"the connection from {self.peer} has ended; {list(self.inbox)}")
            return False
        try:
            data = self.socket.recv(262_144)
        except ConnectionError:
            data = b""
        if not data:
            self.ended = True
            return False
        self.buffer += data
        self._cut()
        return True

    def _cut(self) -> None:
        while True:
            self.buffer = self.buffer.lstrip(b"\r\n")
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            length = re.search(rb"\r\n(?:Content-Length|l)[ \t]*:[ \t]*([0-9]+)", head, re.IGNORECASE)
            size = int(length[1]) if length else 0
            if len(rest) < size:
                return
            cut = len(head) + 4 + size
            data, self.buffer = self.buffer[:cut], self.buffer[cut:]
            self.inbox.append(Message(data, self.peer))

    def arrived(self) -> list[Message]:
        while not self.ended and self._pull(0):
            pass
        return list(self.inbox)

    def send(self, data: bytes, to: Address | None = None) -> None:
        """`to` is not needed: a connection leads to one place."""
        self.socket.sendall(data)

    def expect_end(self, within: float = DEADLINE) -> None:
        """Wait until the other side closes; what it says before stays in the inbox."""
        end = time.monotonic() + within
        while not self.ended:
            left = end - time.monotonic()
            assert left > 0, f"the connection to {self.peer} is still open after {within:g} s"
            self._pull(left)

    def read_to_end(self) -> bytes:
        """All that comes until the other side closes, uncut."""
        data = b""
        self.socket.settimeout(DEADLINE)
        while more := self.socket.recv(262_144):
            data += more
        self.ended = True
        return data

    def close(self) -> None:
        self.socket.close()


class Server(Endpoint):
    """A listening TCP socket; `accept` gives the connections one after the other. `receive_buffer`: octets that
    the kernel takes for one that is not read (it doubles and rounds them)."""

    transport = "TCP"

    def __init__(self, host: str, port: int = 0, *, receive_buffer: int = 0) -> None:
        super().__init__()
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer:  # before listening: connections inherit it
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.bind((host, port))
        self.socket.listen(64)
        self.address = self.socket.getsockname()[:2]

    def accept(self, within: float = DEADLINE) -> Stream:
        self.socket.settimeout(within)
        try:
            return Stream(self.socket.accept()[0])
        except TimeoutError:
            raise AssertionError(f"no connection to {self.address} within {within:g} s") from None

    def close(self) -> None:
        self.socket.close()


class TlsStream(Stream):
    """One connection over TLS."""

    transport = "TLS"
    socket: ssl.SSLSocket

    @classmethod
    def over(cls, context: ssl.SSLContext, to: Address, host: str, name: str | None = None) -> TlsStream:
        """A connection whose handshake is done. Raises OSError (ssl.SSLError is one)."""
        plain = socket.create_connection(to, DEADLINE, (host, 0))
        try:
            return cls(context.wrap_socket(plain, server_hostname=name))
        except OSError:
            plain.close()
            raise

    def _pull(self, seconds: float) -> bool:
        if not self.ended and self.socket.pending() == 0:
            select.select((self.socket,), (), (), max(0.0, seconds))
        if self.ended:
            raise AssertionError(f"the connection from {self.peer} has ended; {list(self.inbox)}")
        self.socket.setblocking(False)
        try:
            data = self.socket.recv(262_144)
        except ssl.SSLWantReadError:
            return False
        except (ConnectionError, ssl.SSLError):
            data = b""
        if not data:
            self.ended = True
            return False
        self.buffer += data
        self._cut()
        return True

    def send(self, data: bytes, to: Address | None = None) -> None:
        self.socket.settimeout(DEADLINE)
        self.socket.sendall(data)


class TlsServer(Server):
    """A listening TLS socket."""

    transport = "TLS"

    def __init__(self, context: ssl.SSLContext, host: str, port: int = 0, *, receive_buffer: int = 0) -> None:
        super().__init__(host, port, receive_buffer=receive_buffer)
        self.context = context

    def accept(self, within: float = DEADLINE) -> TlsStream:
        """The next connection, its handshake done. Raises OSError (ssl.SSLError is one) where that fails."""
        self.socket.settimeout(within)
        try:
            plain = self.socket.accept()[0]
        except TimeoutError:
            raise AssertionError(f"no connection to {self.address} within {within:g} s") from None
        plain.settimeout(DEADLINE)
        try:
            return TlsStream(self.context.wrap_socket(plain, server_side=True))
        except OSError:
            plain.close()
            raise


class Leg:
    """One side of a dialog (RFC 3261 §12): `endpoint` sends it to `gate`; `route` and `target` are filled by what
    comes. `contact` is where requests of the other side reach us, if that is not the endpoint's own address."""

    def __init__(self, endpoint: Endpoint, gate: Address, local: str, remote: str, call_id: str) -> None:
        self.endpoint = endpoint
        self.gate = gate
        self.local = local
        self.remote = remote
        self.call_id = call_id
        self.cseq = 0
        self.route: list[str] = []
        self.target = ""
        self.contact = endpoint.uri
        self.invite: Message | None = None

    # -- calling -----------------------------------------------------------------------------------------

    @classmethod
    def prepare(
        cls,
        endpoint: Endpoint,
        gate: Address,
        number: str,
        *,
        caller: str = "0501234567",
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = SDP,
        contact: str = "",
    ) -> Leg:
        """An INVITE for `number` (`leg.invite`), not sent yet."""
        leg = cls(
            endpoint,
            gate,
            f"<sip:{caller}@{hostport(endpoint.address)}>;tag={unique('a')}",
            f"<sip:{number}@{hostport(gate)}>",
            unique("call"),
        )
        leg.target = f"sip:{number}@{hostport(gate)}"
        leg.contact = contact or leg.contact
        data = leg.request("INVITE", headers=headers, body=body)
        leg.invite = Message(data)
        return leg

    @classmethod
    def call(cls, endpoint: Endpoint, gate: Address, number: str, **how: Any) -> Leg:
        """Send an INVITE for `number`."""
        leg = cls.prepare(endpoint, gate, number, **how)
        leg.again()
        return leg

    def again(self) -> None:
        """Send the INVITE, once more."""
        assert self.invite is not None
        self.endpoint.send(self.invite.data, self.gate)

    def take(self, response: Message) -> Leg:
        """Learn the dialog from the answer to our INVITE."""
        self.remote = response.get("to")
        self.target = _uri_of(response.get("contact")) or self.target
        self.route = [v for line in reversed(response.all("record-route")) for v in _values(line)[::-1]]
        return self

    def ack(self, response: Message) -> None:
        """Acknowledge a final answer (RFC 3261 §13.2.2.4, §17.1.1.3)."""
        assert self.invite is not None
        if response.code < 300:
            self.take(response)
            self.endpoint.send(self.request("ACK", cseq=int(response.get("cseq").split()[0])), self.gate)
            return
        headers = [(name, self.invite.get(name)) for name in ("via", "from", "call-id")]
        headers += [("to", response.get("to")), ("CSeq", response.get("cseq").split()[0] + " ACK")]
        self.endpoint.send(wire(f"ACK {self.invite.uri} SIP/2.0", headers), self.gate)

    def cancel(self) -> None:
        assert self.invite is not None
        headers = [(name, self.invite.get(name)) for name in ("via", "from", "to", "call-id")]
        headers.append(("CSeq", self.invite.get("cseq").split()[0] + " CANCEL"))
        self.endpoint.send(wire(f"CANCEL {self.invite.uri} SIP/2.0", headers), self.gate)

    # -- answering ---------------------------------------------------------------------------------------

    @classmethod
    def answering(cls, endpoint: Endpoint, invite: Message) -> Leg:
        """The callee's side of an INVITE that came in."""
        to = f"{invite.get('to')};tag={unique('b')}"
        leg = cls(endpoint, invite.source, to, invite.get("from"), invite.call_id)
        leg.target = _uri_of(invite.get("contact"))
        leg.route = [v for line in invite.all("record-route") for v in _values(line)]
        leg.invite = invite
        return leg

    def answer(self, code: int, request: Message | None = None, body: bytes = b"") -> bytes:
        """Answer a request, the INVITE unless another is given."""
        request = request or self.invite
        assert request is not None
        headers = [("Via", value) for value in request.all("via")]
        headers += [("Record-Route", value) for value in request.all("record-route")]
        to = request.get("to")
        headers += [("From", request.get("from")), ("To", to if ";tag=" in to else self.local)]
        headers += [("Call-ID", self.call_id), ("CSeq", request.get("cseq"))]
        headers.append(("Contact", f"<{self.contact}>"))
        if body:
            headers.append(("Content-Type", "application/sdp"))
        data = wire(f"SIP/2.0 {code} Answer", headers, body)
        self.endpoint.send(data, request.source)
        return data

    # -- both --------------------------------------------------------------------------------------------

    def request(
        self, method: str, *, cseq: int = 0, headers: tuple[tuple[str, str], ...] = (), body: bytes = b""
    ) -> bytes:
        """A request of this side, not sent yet."""
        if not cseq:
            self.cseq += 1
            cseq = self.cseq
        sent_by = hostport(self.endpoint.address)
        fields = [
            ("Via", f"SIP/2.0/{self.endpoint.transport} {sent_by};branch=z9hG4bK-{unique('x')};rport"),
            *(("Route", route) for route in self.route),
            ("Max-Forwards", "70"),
            ("From", self.local),
            ("To", self.remote),
            ("Call-ID", self.call_id),
            ("CSeq", f"{cseq} {method}"),
            ("Contact", f"<{self.contact}>"),
            *headers,
        ]
        if body:
            fields.append(("Content-Type", "application/sdp"))
        return wire(f"{method} {self.target} SIP/2.0", fields, body)

    def send(self, method: str) -> None:
        """Send a request inside the dialog."""
        self.endpoint.send(self.request(method), self.gate)

    def on(self, endpoint: Endpoint) -> Leg:
        """Go on over another connection."""
        self.endpoint = endpoint
        return self


def establish(
    caller: Endpoint, gate: Address, number: str, callee: Endpoint, *, contact: str = ""
) -> tuple[Leg, Leg]:
    """A call that is up: INVITE, 180, 200, ACK. Both legs."""
    out = Leg.call(caller, gate, number, contact=contact)
    into = Leg.answering(callee, callee.expect("INVITE", call_id=out.call_id))
    into.answer(180)
    caller.expect(180, call_id=out.call_id)
    into.answer(200, body=SDP)
    out.ack(caller.expect(200, "INVITE", out.call_id))
    callee.expect("ACK", call_id=out.call_id)
    return out, into


def request_and_answer(sender: Leg, receiver: Leg, method: str, code: int = 200) -> Message:
    """A request inside a dialog that goes through and whose answer comes back. The answer."""
    sender.send(method)
    request = receiver.endpoint.expect(method, call_id=sender.call_id)
    receiver.answer(code, request)
    return sender.endpoint.expect(code, method, sender.call_id)


def ask(sender: Endpoint, gate: Gate, *headers: str, body: str = "") -> str:
    """Send the gate an OPTIONS for itself, with these header lines at the end; its Call-ID."""
    call_id, sent_by, to = unique("options"), hostport(sender.address), hostport(gate.address)
    lines = [
        f"OPTIONS sip:{to} SIP/2.0",
        f"Via: SIP/2.0/{sender.transport} {sent_by};branch=z9hG4bK-{unique('o')};rport",
        f"From: <sip:{sent_by}>;tag=o",
        f"To: <sip:{to}>",
        f"Call-ID: {call_id}",
        "CSeq: 1 OPTIONS",
        *headers,
        "",
        body,
    ]
    sender.send("\r\n".join(lines).encode(), gate.address)
    return call_id


def settle(sender: Endpoint, gate: Gate) -> None:
    """Wait until the gate has read all that came before: it answers an OPTIONS to itself."""
    call_id = ask(sender, gate, "Content-Length: 0")
    assert sender.final("OPTIONS", call_id).code == 200


def _values(line: str) -> list[str]:
    return [value.strip() for value in re.split(r",(?=\s*<)", line)]


def _uri_of(value: str) -> str:
    found = re.search(r"<([^>]*)>", value)
    return found[1] if found else value.partition(";")[0]
