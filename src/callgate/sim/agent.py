"""A small SIP user agent over UDP (RFC 3261 §8, §12, §13, §17): what carrier and PBX have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from callgate.sim import wire
from callgate.sim.call import T1, Call, Client, Phase, Repeat, Server
from callgate.sim.node import Node
from callgate.sim.udp import Address, is_loopback
from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr
from callgate.sip.message import FROM, RECORD_ROUTE, TO, Message, parse


class Agent(Node):
    """Places and takes calls. Subclasses say what to do with them in the `on_…` methods.

    `life` ends any call that is still up after so many seconds.
    """

    def __init__(self, name: str, *, t1: float = T1, life: float = 60.0) -> None:
        super().__init__(name)
        self.t1 = t1
        self.life = life
        self.calls: dict[tuple[bytes, bytes], Call] = {}
        """Every call that has not ended, by Call-ID and own tag."""
        self._clients: dict[tuple[bytes, bytes], Client] = {}
        self._servers: dict[tuple[bytes, bytes, bytes], Server] = {}

    def close(self) -> None:
        super().close()
        for client in self._clients.values():
            client.repeat.stop()
        for server in self._servers.values():
            if server.repeat is not None:
                server.repeat.stop()
        for call in self.calls.values():
            self._still(call)

    def engaged(self) -> bool:
        return bool(self.calls)

    def later(self, call: Call, seconds: float, do: Callable[[Call], object]) -> None:
        """Call `do(call)` later, unless the call ends before."""
        call.timers.append(asyncio.get_running_loop().call_later(seconds, do, call))

    # --- for subclasses ---------------------------------------------------------------------------------

    def screen(self, request: Message, at: int) -> int:
        """Look at a request outside a dialog first: a code to refuse it with, 0 to go on.

        `at`: the kernel's arrival time, nanoseconds. Copies of a request already seen are not shown again.
        """
        return 0

    def on_call(self, call: Call) -> None:
        """An incoming call: `ring`, `answer` or `reject` it, now or later."""
        self.reject(call, 480)

    def on_ringing(self, call: Call) -> None:
        """An outgoing call rings (the first 18x)."""

    def on_up(self, call: Call) -> None:
        """A call has been answered: an outgoing one now, an incoming one by `answer`."""

    def on_end(self, call: Call) -> None:
        """A call is over; `call.code` says how its INVITE was answered."""

    # --- placing a call ---------------------------------------------------------------------------------

    def place(
        self, uri: bytes, peer: Address, caller: bytes, call_id: bytes = b"", extra: Sequence[bytes] = ()
    ) -> Call:
        """Send an INVITE for `uri` to `peer`. `caller`: the From value without tag; `extra`: header lines."""
        serial = self._next()
        call = Call(
            outgoing=True,
            call_id=call_id or b"%b-%d@127.0.0.1" % (self.name, serial),
            uri=uri,
            local=b"%b;tag=%b%d" % (caller, self.name, serial),
            remote=b"<%b>" % uri,
            target=uri,
            peer=peer,
        )
        self._add(call)
        call.branch = self._branch()
        invite = self._request(b"INVITE", call, call.branch, extra=extra, body=wire.SDP)
        repeat = Repeat(
            lambda: self._send(invite, peer), self.t1, capped=False, gave_up=lambda: self._no_answer(call)
        )
        self._clients[call.branch, b"INVITE"] = Client(call, peer, repeat, uri)
        return call

    def hang_up(self, call: Call) -> None:
        """End a call in whatever way its phase asks for; one that has ended, or is ending, stays as it is."""
        if call.phase is Phase.ENDED or call.leaving:
            return
        call.leaving = True
        if call.phase is Phase.UP:
            # RFC 3261 §15: the called side says BYE only once its 200 is acknowledged, or never will be.
            if call.answering is None or not call.answering.running:
                self._bye(call)
        elif not call.outgoing:
            call.leaving = False
            self.reject(call, 480)
        elif call.provisional:
            self._cancel(call)
        # else: a CANCEL waits for the first provisional answer (RFC 3261 §9.1)

    def hang_up_all(self) -> None:
        for call in list(self.calls.values()):
            self.hang_up(call)

    # --- answering a call -------------------------------------------------------------------------------

    def ring(self, call: Call) -> None:
        """180."""
        if call.phase is Phase.CALLING:
            call.phase = Phase.RINGING
            call.rang = True
            self._answer(call, 180)

    def answer(self, call: Call) -> None:
        """200, repeated until its ACK comes (RFC 3261 §13.3.1.4)."""
        if call.phase not in (Phase.CALLING, Phase.RINGING):
            return
        call.phase = Phase.UP
        call.code = 200
        self.later(call, self.life, self.hang_up)
        self._answer(call, 200)
        self.on_up(call)

    def reject(self, call: Call, code: int, contact: bytes = b"") -> None:
        """A final answer of 300 or more, repeated until its ACK comes (RFC 3261 §17.2.1). `contact`: where a 302 sends
        the caller."""
        if call.phase not in (Phase.CALLING, Phase.RINGING):
            return
        call.code = code
        self._answer(call, code, contact=contact)
        self._ended(call)

    # --- what comes in ----------------------------------------------------------------------------------

    def on_datagram(self, data: bytes, source: Address, at: int) -> None:
        if not data.strip(b"\r\n\0"):
            return
        try:
            message = parse(data)
            if message.code:
                self._response(message)
            else:
                self._incoming(message, source, at)
        except Malformed as fault:
            self.traffic.fault(f"a message that can't be read: {fault}")

    def _incoming(self, request: Message, source: Address, at: int) -> None:
        via = request.via
        method = request.method
        if request.faults:
            self.traffic.fault(f"{method.decode('ascii', 'replace')}: {request.faults[0]}")
            return
        if method == b"ACK":
            self._acknowledged(request)
            return
        key = (via.branch, via.sent_by, method)
        server = self._servers.get(key)
        if server is not None:
            self.traffic.repeated += 1
            if server.last:
                self._send(server.last, wire.reply_address(request, source))
            return
        server = self._servers[key] = Server(request, source)
        self.after(64 * self.t1, self._forget_server, key)
        if method == b"CANCEL":
            self._cancelled(server, (via.branch, via.sent_by, b"INVITE"))
        elif request.to_tag:
            self._inside(server)
        else:
            self._outside(server, at)

    def _outside(self, server: Server, at: int) -> None:
        request = server.request
        code = self.screen(request, at)
        if request.method == b"INVITE" and not code:
            self._new_call(server)
        elif request.method == b"INVITE":
            self._final(server, code, b"")
        else:
            self._reply(server, code or (200 if request.method == b"OPTIONS" else 405))

    def _new_call(self, server: Server) -> None:
        request = server.request
        serial = self._next()
        call = Call(
            outgoing=False,
            call_id=request.call_id,
            uri=request.uri,
            local=b"%b;tag=%b%d" % (request.value(TO), self.name, serial),
            remote=request.value(FROM),
            target=wire.contact_of(request),
            peer=server.source,
            route=request.values(RECORD_ROUTE),
            invite=request,
            source=server.source,
        )
        # Numbers of this side are its own choice (RFC 3261 §12.2.1.1): not 1, so that a mix-up shows.
        call.cseq = 100
        server.call = call
        self._add(call)
        self._reply(server, 100)
        self.on_call(call)

    def _inside(self, server: Server) -> None:
        request = server.request
        call = self.calls.get((request.call_id, request.to_tag))
        if call is None or call.phase is not Phase.UP:
            self._final(server, 481, b"")
            return
        if request.method == b"BYE":
            self._reply(server, 200)
            self._ended(call)
        elif request.method == b"INVITE":
            call.target = wire.contact_of(request)
            server.call = call
            self._answer(call, 200, server)
        else:
            self._reply(server, 200)

    def _cancelled(self, server: Server, key: tuple[bytes, bytes, bytes]) -> None:
        invite = self._servers.get(key)
        call = invite.call if invite is not None else None
        self._reply(server, 200 if call is not None else 481)
        if call is not None and call.phase in (Phase.CALLING, Phase.RINGING):
            call.cancelled = True
            self.reject(call, 487)

    def _acknowledged(self, ack: Message) -> None:
        server = self._servers.get((ack.via.branch, ack.via.sent_by, b"INVITE"))
        if server is not None and server.repeat is not None:
            server.repeat.stop()
            return
        call = self.calls.get((ack.call_id, ack.to_tag))
        if call is not None and call.answering is not None and call.answering.running:
            call.answering.stop()
            if call.leaving:
                self._bye(call)

    # --- answers that go out ----------------------------------------------------------------------------

    def _answer(self, call: Call, code: int, server: Server | None = None, *, contact: bytes = b"") -> None:
        """Answer a call's INVITE, or the re-INVITE that `server` holds."""
        if server is None:
            assert call.invite is not None, "only an incoming call is answered"
            via = call.invite.via
            server = self._servers.get((via.branch, via.sent_by, b"INVITE"))
            if server is None:
                return  # rang for longer than a transaction is kept
        if code >= 300:
            self._final(server, code, call.local_tag, contact)
            return
        data = self._compose(
            server, code, call.local_tag, contact=self._contact(), body=wire.SDP if code == 200 else b""
        )
        if code < 200:
            self._give(server, data)
            return
        server.last = data
        call.answering = Repeat(
            lambda: self._give(server, data), self.t1, capped=True, gave_up=lambda: self._no_ack(call)
        )

    def _final(self, server: Server, code: int, tag: bytes, contact: bytes = b"") -> None:
        """A refusal: of an INVITE it is repeated until the ACK, of anything else sent once."""
        data = self._compose(server, code, tag or self._tag(), contact)
        if server.request.method == b"INVITE":
            server.repeat = Repeat(lambda: self._give(server, data), self.t1, capped=True)
        else:
            self._give(server, data)

    def _reply(self, server: Server, code: int) -> None:
        self._give(server, self._compose(server, code, b"" if code == 100 else self._tag()))

    def _compose(
        self, server: Server, code: int, tag: bytes, contact: bytes = b"", body: bytes = b""
    ) -> bytes:
        return wire.response(
            server.request, code, self.reason(code), server.source, to_tag=tag, contact=contact, body=body
        )

    def reason(self, code: int) -> bytes:
        """The words beside a code."""
        return wire.REASONS.get(code, b"Answer")

    def _give(self, server: Server, data: bytes) -> None:
        server.last = data
        self._send(data, wire.reply_address(server.request, server.source))

    # --- answers that come in ---------------------------------------------------------------------------

    def _response(self, message: Message) -> None:
        client = self._clients.get((message.via.branch, message.cseq[1]))
        if client is None:
            return  # RFC 3261 §18.1.2: of no request of ours
        if message.method == b"INVITE":
            if message.code < 200:
                self._progress(client, message)
            elif message.code < 300:
                self._accepted(client, message)
            else:
                self._refused(client, message)
        elif message.code >= 200:
            client.repeat.stop()
            del self._clients[message.via.branch, message.method]
            if message.method == b"BYE":
                self._hung_up(client.call, message.code)

    def _progress(self, client: Client, message: Message) -> None:
        call = client.call
        client.repeat.stop()
        if call.phase not in (Phase.CALLING, Phase.RINGING):
            return
        call.provisional = True
        if message.code > 100 and call.phase is Phase.CALLING:
            call.phase = Phase.RINGING
            call.rang = True
            self.on_ringing(call)
        if call.leaving and not call.cancelled:
            self._cancel(call)

    def _accepted(self, client: Client, message: Message) -> None:
        call = client.call
        client.repeat.stop()
        if call.ack:  # a copy: the ACK was lost
            self._send_inside(call, call.ack)
            return
        if call.phase is Phase.ENDED:
            return
        call.target = wire.contact_of(message)
        call.code = message.code
        call.final = message
        call.phase = Phase.UP
        call.remote = message.value(TO)
        call.route = message.values(RECORD_ROUTE)[::-1]
        call.ack = self._request(b"ACK", call, self._branch())
        self._send_inside(call, call.ack)
        self.later(call, self.life, self.hang_up)
        if call.leaving:  # the 200 crossed our CANCEL (§9.1)
            self._bye(call)
        else:
            self.on_up(call)

    def _refused(self, client: Client, message: Message) -> None:
        call = client.call
        client.repeat.stop()
        if not client.acked:
            client.acked = wire.request(
                b"ACK",
                client.uri,
                via=self._via(call.branch),
                from_=call.local,
                to=message.value(TO),
                call_id=call.call_id,
                cseq=message.cseq[0],
            )
        self._send(client.acked, client.peer)
        if call.phase in (Phase.CALLING, Phase.RINGING):
            call.code = message.code
            call.final = message
            self._ended(call)

    def _no_answer(self, call: Call) -> None:
        if call.phase in (Phase.CALLING, Phase.RINGING):
            call.code = 408
            self._ended(call)

    def _no_ack(self, call: Call) -> None:
        self.traffic.fault("no ACK came for a 200")
        self._bye(call)

    # --- requests inside a call -------------------------------------------------------------------------

    def _bye(self, call: Call) -> None:
        call.leaving = True
        call.cseq += 1
        branch = self._branch()
        bye = self._request(b"BYE", call, branch)
        self._ask(
            b"BYE", branch, call, lambda: self._send_inside(call, bye), lambda: self._hung_up(call, 408)
        )

    def _hung_up(self, call: Call, code: int) -> None:
        if call.phase is not Phase.ENDED:  # else the other side's BYE has crossed ours
            call.bye_code = code
        self._ended(call)

    def _cancel(self, call: Call) -> None:
        """RFC 3261 §9.1: the INVITE's branch, Request-URI and CSeq number."""
        call.cancelled = True
        cancel = wire.request(
            b"CANCEL",
            call.uri,
            via=self._via(call.branch),
            from_=call.local,
            to=call.remote,
            call_id=call.call_id,
            cseq=call.cseq,
        )
        # §9.1: without a final answer 64·T1 after the CANCEL the INVITE counts as dead.
        self.later(call, 64 * self.t1, self._no_answer)
        self._ask(b"CANCEL", call.branch, call, lambda: self._send(cancel, call.peer), None)

    def _ask(
        self,
        method: bytes,
        branch: bytes,
        call: Call,
        send: Callable[[], None],
        gave_up: Callable[[], None] | None,
    ) -> None:
        repeat = Repeat(send, self.t1, capped=True, gave_up=gave_up)
        self._clients[branch, method] = Client(call, call.peer, repeat, call.target)

    def _send_inside(self, call: Call, data: bytes) -> None:
        """RFC 3261 §12.2.1.1: to the first of the route set, else to the other side's Contact."""
        uri = call.target
        try:
            if call.route:
                uri = parse_name_addr(call.route[0]).uri
                if b";lr" not in uri.lower():
                    self.traffic.fault("a Record-Route without lr")
            hop = wire.next_hop(uri)
        except Malformed as fault:
            self.traffic.fault(f"a route that can't be read: {fault}")
            return
        if is_loopback(hop[0]):
            self._send(data, hop)
        else:
            self.traffic.fault("a route that leads off this machine")

    # --- small parts ------------------------------------------------------------------------------------

    def _request(
        self, method: bytes, call: Call, branch: bytes, extra: Sequence[bytes] = (), body: bytes = b""
    ) -> bytes:
        return wire.request(
            method,
            call.target,
            via=self._via(branch),
            from_=call.local,
            to=call.remote,
            call_id=call.call_id,
            cseq=call.cseq,
            contact=self._contact() if method == b"INVITE" else b"",
            routes=call.route,
            extra=extra,
            body=body,
        )

    def _add(self, call: Call) -> None:
        self.calls[call.call_id, call.local_tag] = call
        self.busy()

    def _ended(self, call: Call) -> None:
        if call.phase is Phase.ENDED:
            return
        call.phase = Phase.ENDED
        self._still(call)
        self.calls.pop((call.call_id, call.local_tag), None)
        if call.outgoing:
            self.after(64 * self.t1, self._forget_client, call.branch)  # copies of its answer may still come
        self.on_end(call)
        self.rest()

    def _forget_server(self, key: tuple[bytes, bytes, bytes]) -> None:
        self._servers.pop(key, None)

    def _forget_client(self, branch: bytes) -> None:
        client = self._clients.pop((branch, b"INVITE"), None)
        if client is not None:
            client.repeat.stop()

    @staticmethod
    def _still(call: Call) -> None:
        if call.answering is not None:
            call.answering.stop()
        for timer in call.timers:
            timer.cancel()
        call.timers.clear()
