"""The transaction layer: matching, repeating, absorbing, acknowledging (RFC 3261 §17, RFC 6026).

A server transaction stands apart from what answers it, and a client transaction from what made it: each has a
`user`, which is a proxied call, a relay, or whoever sends a request of the gate's own. The layer owns the messages and
the timers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from callgate.proxy.answer import reply
from callgate.proxy.calls.targets import Target
from callgate.proxy.commands import Command, Send
from callgate.proxy.flow import UNKNOWN, Flow, Trouble
from callgate.proxy.wheel import Wheel
from callgate.sip.fields import COOKIE, Via
from callgate.sip.message import CALL_ID, FROM, ROUTE, TO, VIA, Message, parse, wire
from callgate.sip.transaction import (
    ACCEPTED,
    ACK,
    ANSWERS,
    COMPLETED,
    FAILED,
    NEVER,
    NONE,
    PASS,
    PASS_ACK,
    REPEAT,
    RTX,
    SEND,
    TERMINATED,
    TIMEOUT,
    Client,
    Event,
    InviteClient,
    InviteServer,
    Server,
)

if TYPE_CHECKING:
    from callgate.proxy.trunk.login import Passage

Key = tuple[bytes, ...]


class ServerUser(Protocol):
    """Answers a server transaction."""

    def on_cancel(self, server: AnyServer, cancel: Message, now: float) -> None:
        """The caller gave up (RFC 3261 §9.2). The CANCEL itself is answered already."""
        ...

    def on_unacknowledged(self, server: AnyServer, now: float) -> None:
        """No ACK came for the final answer (Timer H), or the transaction ended without an answer."""
        ...


class ClientUser(Protocol):
    """Sent a client transaction's request."""

    def on_response(self, client: AnyClient, response: Message, now: float) -> None: ...

    def on_timeout(self, client: AnyClient, now: float) -> None:
        """No final answer came (Timers B and F)."""
        ...

    def on_failed(self, client: AnyClient, now: float, trouble: Trouble) -> None:
        """The transport could not deliver the request."""
        ...

    def on_repeat(self, client: AnyClient, now: float) -> None:
        """A copy of an INVITE that carries a claim is due: send it with `Transactions.repeat`, now or later."""
        ...


class InviteServerTransaction(InviteServer):
    """`flow` is where its answers go, `last` the latest of them, `request` the INVITE while it has no final answer."""

    __slots__ = ("flow", "key", "last", "layer", "request", "user")

    def __init__(self, layer: Transactions, request: Message, key: Key, flow: Flow, now: float) -> None:
        super().__init__(now, flow.listener.reliable)
        self.layer = layer
        self.request: Message | None = request
        self.key = key
        self.flow = flow
        self.last = b""
        self.user: ServerUser | None = None

    def expire(self, now: float) -> None:
        self.layer.expire_server(self, now)


class OtherServerTransaction(Server):
    __slots__ = ("flow", "key", "last", "layer", "request", "user")

    def __init__(self, layer: Transactions, request: Message, key: Key, flow: Flow, now: float) -> None:
        super().__init__(now, flow.listener.reliable)
        self.layer = layer
        self.request: Message | None = request
        self.key = key
        self.flow = flow
        self.last = b""
        self.user: ServerUser | None = None

    def expire(self, now: float) -> None:
        self.layer.expire_server(self, now)


AnyServer = InviteServerTransaction | OtherServerTransaction


class InviteClientTransaction(InviteClient):
    """`data` is the INVITE as sent, empty once nobody can need it; `claim` is not 0 while copies of it must be told
    to the store; `target` is what a call tries with it, `passage` how it answers challenges."""

    __slots__ = ("branch", "claim", "data", "flow", "layer", "passage", "target", "user")

    def __init__(
        self, layer: Transactions, branch: bytes, data: bytes, flow: Flow, user: ClientUser, now: float
    ) -> None:
        super().__init__(now, flow.listener.reliable)
        self.layer = layer
        self.branch = branch
        self.data = data
        self.flow = flow
        self.user = user
        self.claim = 0
        self.target: Target | None = None
        self.passage: Passage | None = None

    def expire(self, now: float) -> None:
        self.layer.expire_client(self, now)


class OtherClientTransaction(Client):
    __slots__ = ("branch", "claim", "data", "flow", "layer", "user")

    def __init__(
        self, layer: Transactions, branch: bytes, data: bytes, flow: Flow, user: ClientUser, now: float
    ) -> None:
        super().__init__(now, flow.listener.reliable)
        self.layer = layer
        self.branch = branch
        self.data = data
        self.flow = flow
        self.user = user
        self.claim = 0

    def expire(self, now: float) -> None:
        self.layer.expire_client(self, now)


AnyClient = InviteClientTransaction | OtherClientTransaction

CANCEL_MARK = b" CANCEL"
"""A CANCEL shares its INVITE's branch (RFC 3261 §9.1): its client transaction is kept under branch + this."""


def server_key(request: Message, via: Via) -> Key:
    """RFC 3261 §17.2.3: branch, sent-by and method; an ACK matches its INVITE. Without the magic cookie the
    rules of RFC 2543, and with nothing behind it too (RFC 4475 §3.2.1)."""
    method = b"INVITE" if request.method == b"ACK" else request.method
    if via.branch.startswith(COOKIE) and len(via.branch) > len(COOKIE):
        return (method, via.sent_by, via.branch)
    number = request.cseq_number
    sent = request.value(VIA)  # stamped alike for every copy, CANCEL and ACK
    return (method, request.uri, request.from_tag, request.call_id, b"%d" % number, sent)


class Transactions:
    """All transactions of the gate. `out` is the core's list of commands; `answered` hears of each answer that leaves,
    but for its copies: method and code."""

    def __init__(self, wheel: Wheel, out: list[Command], answered: Callable[[bytes, int], None]) -> None:
        self._wheel = wheel
        self._out = out
        self._answered = answered
        self.servers: dict[Key, AnyServer] = {}
        self.clients: dict[bytes, AnyClient] = {}
        self.retransmissions = 0  # copies that came in or went out again

    # -- server side -----------------------------------------------------------------------------------

    def open_server(self, request: Message, key: Key, flow: Flow, now: float) -> AnyServer:
        """A server transaction for a request that matches none."""
        kind = InviteServerTransaction if request.method == b"INVITE" else OtherServerTransaction
        server = self.servers[key] = kind(self, request, key, flow, now)
        self._schedule(server)
        return server

    def again(self, server: AnyServer, request: Message, now: float) -> None:
        """The request came again, or is the ACK of its INVITE: replayed or absorbed, never forwarded."""
        self.retransmissions += 1
        event = Event.ACK if request.method == b"ACK" else Event.REQUEST
        if event is Event.ACK:
            self.retransmissions -= 1
        if server.on(event, now) is REPEAT and server.last:
            self._out.append(Send(server.flow, server.last))
        self._schedule(server)

    def respond(self, server: AnyServer, code: int, data: bytes, now: float) -> bool:
        """Answer; False where the state allows no such answer any more."""
        if server.on(ANSWERS[code // 100], now) is not SEND:
            return False
        self._answered(server.key[0], code)
        self._out.append(Send(server.flow, data))
        if server.state is ACCEPTED:
            server.last = b""  # its 2xx is repeated by the callee (RFC 6026 §7.1)
            server.request = None
        else:
            server.last = data
            if code >= 200:
                server.request = None
        self._schedule(server)
        return True

    def expire_server(self, server: AnyServer, now: float) -> None:
        if server.rtx_at <= now:
            action = server.on(RTX, now)
            if action is REPEAT:
                self.retransmissions += 1
                self._out.append(Send(server.flow, server.last))
            elif action is PASS and server.request is not None:
                # RFC 4320 §4.1: a non-INVITE request over UDP that is still open gets its only 100 now.
                server.rtx_at = NEVER
                server.last = reply(server.request, 100)
                self._answered(server.key[0], 100)
                self._out.append(Send(server.flow, server.last))
        if server.end_at <= now:
            unanswered = server.on(Event.END, now) is TIMEOUT or server.request is not None
            if server.state is TERMINATED:
                self.servers.pop(server.key, None)
                server.due = NEVER
                user, server.user = server.user, None
                if unanswered and user is not None:
                    user.on_unacknowledged(server, now)
                return
        server.due = min(server.rtx_at, server.end_at)

    # -- client side -----------------------------------------------------------------------------------

    def other_client(
        self, branch: bytes, data: bytes, flow: Flow, user: ClientUser, now: float
    ) -> OtherClientTransaction:
        """A client transaction for any request but INVITE, not sent yet."""
        return OtherClientTransaction(self, branch, data, flow, user, now)

    def send(self, client: AnyClient, now: float) -> None:
        """Send a request for the first time."""
        self.clients[client.branch] = client
        self._out.append(Send(client.flow, client.data, client.claim))
        self._schedule(client)

    def repeat(self, client: AnyClient) -> None:
        """Send another copy of an INVITE, under the claim it carries now."""
        self.retransmissions += 1
        self._out.append(Send(client.flow, client.data, client.claim))

    def received(self, client: AnyClient, response: Message, now: float) -> None:
        """A response that matches."""
        code = response.code
        action = client.on(ANSWERS[code // 100], now)
        if action is NONE:
            self.retransmissions += 1
            return
        if action is ACK or action is PASS_ACK:
            self._out.append(Send(client.flow, ack(client.data, response)))
            if action is ACK:
                self.retransmissions += 1
                return
        elif client.state is ACCEPTED or client.state is COMPLETED:
            client.data = b""
        self._schedule(client)
        client.user.on_response(client, response, now)

    def cancel(self, client: InviteClientTransaction, reason: Sequence[bytes], now: float) -> None:
        """Send the CANCEL of an INVITE that has had a provisional answer (RFC 3261 §9.1). Its INVITE then has
        64*T1 to end."""
        request = parse(client.data)
        lines = [b"CANCEL %b SIP/2.0" % request.uri, request.lines[request.at[VIA]]]
        lines += [request.lines[i] for i in request.places(ROUTE)]
        for slot in (FROM, TO, CALL_ID):
            lines.append(request.lines[request.at[slot]])
        lines += [
            b"CSeq: %d CANCEL" % request.cseq_number,
            b"Max-Forwards: 70",
            *reason,
            b"Content-Length: 0",
        ]
        twin = OtherClientTransaction(
            self, client.branch + CANCEL_MARK, wire(lines, b""), client.flow, NOBODY, now
        )
        self.send(twin, now)

    def recall(self, transaction: InviteServerTransaction | InviteClientTransaction) -> None:
        """Take up a transaction of an earlier start, in the state that it is in."""
        if isinstance(transaction, InviteClientTransaction):
            self.clients[transaction.branch] = transaction
        else:
            self.servers[transaction.key] = transaction
        self._schedule(transaction)

    def abandon(self, client: InviteClientTransaction) -> None:
        """Send no more copies, but go on listening."""
        client.rtx_at = NEVER

    def failed(self, client: AnyClient, now: float, trouble: Trouble = UNKNOWN) -> None:
        """The transport could not deliver what this transaction sent."""
        action = client.on(Event.ERROR, now)
        if client.state is TERMINATED:
            self.clients.pop(client.branch, None)
            client.due = NEVER
            user, client.user = client.user, NOBODY
            if action is FAILED:
                user.on_failed(client, now, trouble)

    def expire_client(self, client: AnyClient, now: float) -> None:
        if client.rtx_at <= now and client.on(RTX, now) is REPEAT:
            if client.claim:
                client.user.on_repeat(client, now)
            else:
                self.repeat(client)
        if client.end_at <= now:
            action = client.on(Event.END, now)
            if client.state is TERMINATED:
                self.clients.pop(client.branch, None)
                client.due = NEVER
                user, client.user = client.user, NOBODY  # no cycle is left: see `net.gate`
                if action is TIMEOUT:
                    user.on_timeout(client, now)
                return
        client.due = min(client.rtx_at, client.end_at)

    def end_by(self, client: AnyClient, when: float) -> None:
        """Let the transaction time out at `when` at the latest."""
        client.end_at = min(client.end_at, when)
        self._schedule(client)

    def _schedule(self, transaction: AnyServer | AnyClient) -> None:
        before, due = transaction.due, transaction.rtx_at
        if transaction.end_at < due:
            due = transaction.end_at
        transaction.due = due
        if due < before or not transaction.slot:  # else it waits early enough
            self._wheel.add(transaction)


class Nobody:
    """The user of a request whose answer nobody waits for: our CANCEL, a second BYE."""

    def on_response(self, client: AnyClient, response: Message, now: float) -> None:
        pass

    def on_timeout(self, client: AnyClient, now: float) -> None:
        pass

    def on_failed(self, client: AnyClient, now: float, trouble: Trouble) -> None:
        pass

    def on_repeat(self, client: AnyClient, now: float) -> None:
        pass


NOBODY: ClientUser = Nobody()


def ack(sent: bytes, response: Message) -> bytes:
    """The ACK to a non-2xx final answer to the INVITE `sent` (RFC 3261 §17.1.1.3): its Request-URI, its one Via,
    its Route; To from the response."""
    request = parse(sent)
    lines = [b"ACK %b SIP/2.0" % request.uri, request.lines[request.at[VIA]]]
    lines += [request.lines[i] for i in request.places(ROUTE)]
    lines += [
        request.lines[request.at[FROM]],
        response.lines[response.at[TO]],
        request.lines[request.at[CALL_ID]],
        b"CSeq: %d ACK" % request.cseq_number,
        b"Max-Forwards: 70",
        b"Content-Length: 0",
    ]
    return wire(lines, b"")
