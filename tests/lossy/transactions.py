"""The four transactions of a phone (RFC 3261 §17, RFC 6026) over a line that loses: each a small state machine of its
own, written apart from the gate's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from tests.lossy.message import Msg

if TYPE_CHECKING:
    from tests.lossy.phone import Phone

T1, T2, T4 = 0.5, 4.0, 5.0
LIFE = 64 * T1


class Head:
    """What an INVITE shares with its CANCEL and its ACK (§9.1, §17.1.1.3)."""

    def __init__(
        self, phone: Phone, uri: str, routes: Sequence[str], sender: str, to: str, call_id: str, cseq: int
    ) -> None:
        self.uri = uri
        self.branch = phone.next_branch()
        self.lines = [f"Via: SIP/2.0/UDP {phone.address};branch={self.branch};rport"]
        self.lines += [f"Route: {route}" for route in routes]
        self.lines += ["Max-Forwards: 70", f"From: {sender}"]
        self.to = to
        self.call_id = call_id
        self.cseq = cseq

    def write(self, method: str, *, to: str = "", more: Sequence[str] = ()) -> bytes:
        lines = [f"{method} {self.uri} SIP/2.0", *self.lines, f"To: {to or self.to}"]
        lines += [f"Call-ID: {self.call_id}", f"CSeq: {self.cseq} {method}", *more, "Content-Length: 0"]
        return "\r\n".join((*lines, "", "")).encode()


class Response(Protocol):
    def __call__(self, client: Client, response: Msg) -> None: ...


class User(Protocol):
    """Whoever sent a request."""

    def on_response(self, client: Client, response: Msg) -> None: ...

    def on_timeout(self, client: Client) -> None: ...


class Client:
    """Any request but INVITE (§17.1.2)."""

    def __init__(
        self, phone: Phone, method: str, head: Head, user: User | None, more: Sequence[str] = ()
    ) -> None:
        self.phone = phone
        self.method = method
        self.head = head
        self.user = user
        self.state = "calling"
        self.data = head.write(method, more=more)
        phone.clients[head.branch, method] = self
        phone.send(self.data, head.call_id)
        phone.after(T1, self.again, T1)
        phone.after(LIFE, self.expire)

    def again(self, interval: float) -> None:
        """Timer E."""
        if self.state in ("calling", "proceeding"):
            self.phone.send(self.data, self.head.call_id)
            interval = T2 if self.state == "proceeding" else min(2 * interval, T2)
            self.phone.after(interval, self.again, interval)

    def expire(self) -> None:
        """Timer F."""
        if self.state in ("calling", "proceeding"):
            self.gone()
            if self.user is not None:
                self.user.on_timeout(self)

    def gone(self) -> None:
        self.state = "gone"
        self.phone.clients.pop((self.head.branch, self.method), None)

    def received(self, response: Msg) -> None:
        if self.state not in ("calling", "proceeding"):
            return
        if response.code < 200:
            self.state = "proceeding"
            return
        self.state = "completed"
        self.phone.after(T4, self.gone)  # Timer K
        if self.user is not None:
            self.user.on_response(self, response)


class InviteClient(Client):
    """§17.1.1, RFC 6026 §7.2. A CANCEL is held back until a provisional answer has come (§9.1)."""

    def __init__(self, phone: Phone, head: Head, user: User, more: Sequence[str] = ()) -> None:
        self.cancel_wanted = self.cancelled = False
        super().__init__(phone, "INVITE", head, user, more)

    def again(self, interval: float) -> None:
        """Timer A."""
        if self.state == "calling":
            self.phone.send(self.data, self.head.call_id)
            self.phone.after(2 * interval, self.again, 2 * interval)

    def expire(self) -> None:
        """Timer B; from a provisional answer on the transaction waits as long as its user does."""
        if self.state == "calling":
            self.gone()
            assert self.user is not None
            self.user.on_timeout(self)

    def expire_cancelled(self) -> None:
        """§9.1: no final answer 64*T1 after the CANCEL."""
        if self.state == "proceeding":
            self.state = "calling"
            self.expire()

    def received(self, response: Msg) -> None:
        code, state = response.code, self.state
        if code < 200:
            if state in ("calling", "proceeding"):
                self.state = "proceeding"
                if self.cancel_wanted:
                    self.cancel()
            else:
                return
        elif code < 300:
            if state not in ("calling", "proceeding", "accepted"):
                return
            if state != "accepted":
                self.state = "accepted"
                self.phone.after(LIFE, self.gone)  # Timer M
        else:
            if state == "accepted":
                return
            ack = self.head.write("ACK", to=response.to_line)
            self.phone.send(ack, self.head.call_id)
            if state == "completed":
                return
            self.state = "completed"
            self.phone.after(LIFE, self.gone)  # Timer D
        assert self.user is not None
        self.user.on_response(self, response)

    def cancel(self) -> None:
        self.cancel_wanted = True
        if self.state == "proceeding" and not self.cancelled:
            self.cancelled = True
            Client(self.phone, "CANCEL", self.head, None)
            self.phone.after(LIFE, self.expire_cancelled)


class Server:
    """Any request but INVITE and ACK (§17.2.2)."""

    def __init__(self, phone: Phone, request: Msg) -> None:
        self.phone = phone
        self.request = request
        self.last = b""
        self.state = "trying"
        phone.servers[request.branch, request.method] = self

    def again(self) -> None:
        if self.last:
            self.phone.send(self.last, self.request.call_id)

    def respond(
        self, code: int, tag: str, more: Sequence[str] = (), tell: Callable[[], None] | None = None
    ) -> bytes:
        """Answer; the bytes, for whoever repeats them."""
        data = self.last = answer(self.request, code, tag, more)
        self.phone.send(data, self.request.call_id, tell)
        if code >= 200:
            self.finish(code)
        return data

    def finish(self, code: int) -> None:
        self.state = "completed"
        self.phone.after(LIFE, self.gone)  # Timer J

    def gone(self) -> None:
        self.phone.servers.pop((self.request.branch, self.request.method), None)


class InviteServer(Server):
    """§17.2.1, RFC 6026 §7.1: a 2xx is repeated by whoever answered, a failure by Timer G; a 100 goes out where nothing
    else does within 200 ms."""

    def __init__(self, phone: Phone, request: Msg) -> None:
        super().__init__(phone, request)
        phone.after(0.2, self.trying)

    def trying(self) -> None:
        if self.state == "trying" and not self.last:
            self.respond(100, "")

    def finish(self, code: int) -> None:
        if code < 300:
            self.state, self.last = "accepted", b""
            self.phone.after(LIFE, self.gone)  # Timer L
        else:
            self.state = "completed"
            self.phone.after(T1, self.repeat, T1)
            self.phone.after(LIFE, self.expire)

    def repeat(self, interval: float) -> None:
        """Timer G."""
        if self.state == "completed":
            self.phone.send(self.last, self.request.call_id)
            interval = min(2 * interval, T2)
            self.phone.after(interval, self.repeat, interval)

    def expire(self) -> None:
        """Timer H."""
        if self.state == "completed":
            self.state = "gone"
            self.gone()

    def acknowledged(self) -> None:
        if self.state == "completed":
            self.state, self.last = "confirmed", b""
            self.phone.after(T4, self.gone)  # Timer I


def answer(request: Msg, code: int, tag: str, more: Sequence[str] = ()) -> bytes:
    lines = [f"SIP/2.0 {code} Answer", *(f"Via: {via}" for via in request.via)]
    if 100 < code < 300 and request.method == "INVITE":
        lines += [f"Record-Route: {route}" for route in request.routes]
    to = request.to_line if request.to_tag or code == 100 else f"{request.to_line};tag={tag}"
    lines += [f"From: {request.from_line}", f"To: {to}", f"Call-ID: {request.call_id}"]
    lines += [f"CSeq: {request.cseq} {request.method}", *more, "Content-Length: 0"]
    return "\r\n".join((*lines, "", "")).encode()
