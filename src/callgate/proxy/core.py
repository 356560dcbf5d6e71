"""The gate without its sockets: bytes and times go in, commands come out.

    receive(data, flow, now)            a datagram or a framed message came in
    resume(claim_id, verdict, now)      the store has answered
    sent(claim_id, now)                 the shell has handed an initial INVITE to the kernel
    unreachable(data, now)              the transport could not deliver this request of ours
    tick(now), next_deadline            time has passed; when to call again
    clock(utc_offset, now)              the wall clock, at the start and whenever it steps
    commands()                          what to carry out, in order

`now` is `time.monotonic()` as the shell reads it. Nothing in here knows any other clock.
"""

from __future__ import annotations

from collections import deque

from callgate.numbers import read_dialled, read_uri
from callgate.policy.claim import NO_ANSWER, Claim, Verdict
from callgate.proxy.answer import Refusal, reply
from callgate.proxy.call import Call, Phase
from callgate.proxy.commands import Alert, Command, Hangup, Release, Send
from callgate.proxy.counts import Counts
from callgate.proxy.dialog import Side
from callgate.proxy.flow import Flow, Listener
from callgate.proxy.forward import (
    Routes,
    max_forwards,
    own_uri,
    reply_flow,
    request_out,
    stamp,
    swap_strict,
    take_own_routes,
)
from callgate.proxy.hangup import HangUp
from callgate.proxy.meters import Meters
from callgate.proxy.peers import Directory, Gateway, Key, Peer, Trunk
from callgate.proxy.relay import Relay
from callgate.proxy.strangers import Strangers
from callgate.proxy.token import INBOUND, OUTBOUND, Signer, Token
from callgate.proxy.transactions import CANCEL_MARK, Transactions, server_key
from callgate.proxy.transactions import Key as TransactionKey
from callgate.proxy.wheel import NEVER, Wheel
from callgate.sip.errors import Malformed
from callgate.sip.fields import COOKIE, parse_name_addr, split_list
from callgate.sip.message import (
    FROM,
    OTHER_VERSION,
    PROXY_REQUIRE,
    RECORD_ROUTE,
    ROUTE,
    TO,
    VIA,
    Message,
    header_value,
    parse,
)
from callgate.sip.transaction import State
from callgate.sip.uri import Uri, parse_uri

SCHEMES = frozenset((b"sip", b"sips", b"tel", b"urn"))
ALLOW = b"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY, SUBSCRIBE, MESSAGE"
WAIT_AGAIN = 0.02
"""Seconds until a copy asks again for a token when nobody knows when one comes free."""


class Core:
    """`first_id`: where the numbers of legs begin, 64 bits, different at every start. `started`: when."""

    def __init__(
        self, directory: Directory, signer: Signer, meters: Meters, first_id: int, started: float
    ) -> None:
        self.out: list[Command] = []
        self.directory = directory
        self.signer = signer
        self.counts = Counts(meters)
        self.counts.prepare(directory)
        self.wheel = Wheel(started)
        self.layer = Transactions(self.wheel, self.out)
        self.draining = False
        self.utc_offset = 0.0
        self.by_token: dict[bytes, Call] = {}
        self.by_call_id: dict[bytes, Call] = {}
        self.sent_at: dict[int, float] = {}  # claim of an unanswered INVITE → when its last copy left
        self._id = first_id & 0x7FFFFFFFFFFFFFFF
        self._branch = 0
        self._asked: dict[int, tuple[Call, float]] = {}  # claims that the store has not answered
        self._asked_order: deque[tuple[float, int]] = deque()
        self._strangers = Strangers()
        self._touched: set[str] = set()
        self._received_at = started

    # -- what the shell calls ----------------------------------------------------------------------------

    def commands(self) -> list[Command]:
        """Everything to carry out since the last call, in order."""
        out = self.out[:]
        self.out.clear()
        return out

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """Take one message as it came off the wire. Never raises."""
        self._received_at = now
        if len(data) <= 4 and not data.strip(b"\r\n\0 "):
            return  # a keep-alive (RFC 5626 §4.4)
        try:
            message = parse(data)
        except Malformed:
            self.counts.rejected("unreadable")
            return
        if message.code:
            self._response(message, now)
        else:
            self._request(message, flow, now)

    def broken(self, head: bytes, flow: Flow, now: float) -> None:
        """A stream can't be framed any more: answer what can be answered, then close it (RFC 4475 §3.1.2.3)."""
        try:
            message = parse(head) if head else None
        except Malformed:
            message = None
        if message is not None and not message.code:
            message.faults.append("Content-Length makes no sense")
            self._request(message, flow, now)
        else:
            self.counts.rejected("framing")
        self.out.append(Hangup(flow))

    def resume(self, claim_id: int, verdict: Verdict, now: float) -> None:
        """The store's answer. One that nobody waits for any more is given back."""
        asked = self._asked.pop(claim_id, None)
        if asked is not None:
            asked[0].on_verdict(claim_id, verdict, now)
        elif verdict.granted:
            self.out.append(Release(claim_id))

    def sent(self, claim_id: int, now: float) -> None:
        """The kernel has taken a copy of an initial INVITE."""
        if claim_id in self.sent_at:
            if self.sent_at[claim_id] == NEVER:
                self.counts.added(now - self._received_at)
            self.sent_at[claim_id] = now

    def unreachable(self, data: bytes, now: float) -> None:
        """A request that the gate sent could not be delivered (ICMP, connection refused). `data` is its
        beginning. An error on a response is nobody's concern (RFC 3261 §16.9)."""
        if data.startswith(b"SIP/2.0"):
            return
        head, found, rest = data.partition(b";branch=" + COOKIE)
        if not found:
            return
        end = next((i for i, c in enumerate(rest) if c in b";,\r\n \t"), -1)
        branch = rest[:end] if end >= 0 else b""
        if head.startswith(b"CANCEL "):
            branch += CANCEL_MARK
        client = self.layer.clients.get(branch)
        if client is not None:
            self.layer.failed(client, now)

    def tick(self, now: float) -> None:
        """Do what has become due."""
        while self._asked_order and self._asked_order[0][0] <= now:
            _, claim_id = self._asked_order.popleft()
            asked = self._asked.pop(claim_id, None)
            if asked is not None:
                asked[0].on_verdict(claim_id, NO_ANSWER, now)
        self.wheel.run(now)

    @property
    def next_deadline(self) -> float:
        """When `tick` has something to do (monotonic seconds), infinity for never."""
        due = self.wheel.next_deadline
        order = self._asked_order
        while order and order[0][1] not in self._asked:
            order.popleft()
        return min(due, order[0][0]) if order else due

    def clock(self, utc_offset: float, now: float) -> None:
        """UTC is `now + utc_offset`."""
        self.utc_offset = utc_offset

    @property
    def live_calls(self) -> int:
        """Calls that hold something or wait for an answer."""
        return sum(1 for c in self.by_call_id.values() if c.phase is not Phase.OVER)

    def take_touched(self) -> set[str]:
        """The keys that have put a claim since the last time."""
        touched, self._touched = self._touched, set()
        return touched

    # -- what calls use ----------------------------------------------------------------------------------

    def next_id(self) -> int:
        self._id += 1
        return self._id

    def branch(self, listener: Listener, token: bytes) -> tuple[bytes, bytes]:
        """A new branch (without the magic cookie: what finds the transaction) and the Via line that carries it."""
        self._branch += 1
        branch = b"%b.%x" % (token, self._branch)
        return branch, listener.via + branch

    def answer_tag(self, request: Message) -> bytes:
        """The To tag of the gate's own answer to a request, the same for each of its copies."""
        return self.signer.tag(request.call_id, request.value(FROM), request.value(VIA))

    def ask(self, call: Call, claim: Claim, now: float) -> None:
        """Put a claim to the store."""
        self._asked[claim.id] = (call, claim.deadline)
        self._touched.add(call.key.id)
        self._asked_order.append((claim.deadline, claim.id))
        self.out.append(claim)

    def wait(self, key: Key, free_at: float | None, retry: object, client: object, now: float) -> None:
        """Ask again for a copy's token the moment one comes free: before any call that arrives after that."""
        when = free_at if free_at is not None and free_at > now else now + WAIT_AGAIN
        self.wheel.at(when, lambda then: retry.retry_copy(client, then))  # type: ignore[attr-defined]

    def hang_up(self, call: Call, now: float) -> None:
        """End a call that is up: BYE to both sides."""
        HangUp(call).start(self, now)

    def forget(self, call: Call) -> None:
        """An ended call need not be remembered any more."""
        for text in call.tokens:
            self.by_token.pop(text, None)
        if self.by_call_id.get(call.call_id) is call:
            del self.by_call_id[call.call_id]

    def trunk_uri(self, uri: bytes, gateway: Gateway, key: Key) -> bytes:
        """The Request-URI towards a gateway: the raw user part, the gateway's host and transport (numbering
        japan); unchanged unless it names the gate (any)."""
        parsed = parse_uri(uri)
        if key.trunk.any_number and not (
            parsed.host and self.directory.is_own(parsed.bare_host, parsed.default_port)
        ):
            return uri
        phone = b";user=phone" if parsed.scheme == b"tel" or parsed.param(b"user") == b"phone" else b""
        user = parsed.user + b"@" if parsed.user else b""
        if not user and parsed.scheme not in (b"sip", b"sips"):
            return uri
        return b"sip:%b%b%b" % (user, _hostport(gateway.uri), phone)

    # -- responses ---------------------------------------------------------------------------------------

    def _response(self, response: Message, now: float) -> None:
        """RFC 3261 §18.1.2, §16.7 step 1; RFC 6026 §7.3: what matches no transaction of ours is dropped."""
        self.counts.received(response.method, response.code)
        if response.faults:
            self.counts.rejected("malformed response")
            return
        try:
            via = response.via
        except Malformed:
            self.counts.rejected("malformed response")
            return
        branch = via.branch[len(COOKIE) :]
        if response.method == b"CANCEL":
            branch += CANCEL_MARK
        client = self.layer.clients.get(branch)
        if client is None or via.sent_by != client.flow.listener.sent_by:
            self.counts.rejected("stray response")
            return
        self.layer.received(client, response, now)

    # -- requests ----------------------------------------------------------------------------------------

    def _request(self, request: Message, flow: Flow, now: float) -> None:
        method = request.method
        peer = self.directory.identify(flow)
        self.counts.received(method, 0)
        try:
            via = request.via
            stamp(request, flow)
            if request.faults:
                raise Malformed(request.faults[0])
            number, cseq_method = request.cseq
            if cseq_method != method:
                raise Malformed("CSeq names another method")
            if not request.from_tag and via.branch.startswith(COOKIE):
                raise Malformed("From without a tag")
            request.to_tag  # noqa: B018 - to be read later without a try
            key = server_key(request, via)
        except Malformed as fault:
            self._malformed(request, str(fault), flow, peer, now)
            return
        server = self.layer.servers.get(key)
        if server is not None and server.flow.host == flow.host:
            if method != b"ACK":
                self.layer.again(server, request, now)
                return
            if server.state is not State.ACCEPTED:
                self.layer.again(server, request, now)
                return
        elif server is not None:
            self.counts.rejected("another's branch")  # the same branch from elsewhere: forged
            return
        if method == b"CANCEL":
            self._cancel(request, key, flow, peer, now)
        elif request.to_tag:
            self._in_dialog(request, key, flow, peer, number, now)
        elif method == b"ACK":
            self.counts.rejected("stray ACK")
        elif peer.key is None and peer.trunk is None:
            self._refuse_stranger(request, flow, now)
        else:
            self._initial(request, key, flow, peer, number, now)

    def _malformed(self, request: Message, fault: str, flow: Flow, peer: Peer, now: float) -> None:
        """400 where an answer is possible; a stranger's rubbish counts against its one answer a second."""
        self.counts.rejected("malformed request")
        if request.method == b"ACK" or VIA not in request.at:
            return
        if peer.key is None and peer.trunk is None and not self._strangers.may_answer(flow.host, now):
            return
        try:
            to = reply_flow(request, flow)
        except Malformed:
            return
        code = 505 if OTHER_VERSION in request.faults else 400
        warning = [] if peer.trunk is not None else [b'Warning: 399 callgate "%b"' % fault.encode("ascii")]
        self.counts.sent(request.method, code)
        data = reply(request, code, self.signer.tag(request.value(VIA)), warning)
        self.out.append(Send(to, data))

    def _refuse_stranger(self, request: Message, flow: Flow, now: float) -> None:
        """One 403 per source and second, else silence."""
        self.counts.rejected("unknown source")
        if self._strangers.may_answer(flow.host, now):
            self.counts.sent(request.method, 403)
            self.out.append(Send(reply_flow(request, flow), reply(request, 403, self.answer_tag(request))))

    def _cancel(self, request: Message, key: TransactionKey, flow: Flow, peer: Peer, now: float) -> None:
        """RFC 3261 §9.2, §16.10: the CANCEL itself is answered here; whom it cancels decides what follows.
        It is never challenged and never limited: it gives lines back."""
        invite = self.layer.servers.get((b"INVITE", *key[1:]))
        if invite is None or invite.flow.host != flow.host:
            if peer.key is None and peer.trunk is None:
                self._refuse_stranger(request, flow, now)
                return
            self._answer(request, key, 481, flow, now)
            return
        self._answer(request, key, 200, flow, now)
        if invite.user is not None:
            invite.user.on_cancel(invite, request, now)

    def _answer(
        self,
        request: Message,
        key: TransactionKey,
        code: int,
        flow: Flow,
        now: float,
        extra: list[bytes] | None = None,
    ) -> None:
        """A final answer of the gate's own to a new request."""
        if request.method == b"ACK":
            return
        server = self.layer.open_server(request, key, reply_flow(request, flow), now)
        self.counts.sent(request.method, code)
        self.layer.respond(server, code, reply(request, code, self.answer_tag(request), extra), now)

    def _validate(self, request: Message, key: TransactionKey, flow: Flow, now: float) -> int | None:
        """The checks of RFC 3261 §16.3 that need no key. What Max-Forwards was; None when the request has been
        answered."""
        try:
            hops = max_forwards(request)
        except Malformed:
            self._answer(request, key, 400, flow, now)
            return None
        if hops == 0:
            if request.method == b"OPTIONS":
                self._answer(request, key, 200, flow, now, [ALLOW])
            else:
                self._answer(request, key, 483, flow, now)
            return None
        if PROXY_REQUIRE in request.at:
            tags = b", ".join(request.values(PROXY_REQUIRE))
            self._answer(request, key, 420, flow, now, [b"Unsupported: " + tags])
            return None
        return hops

    # -- requests outside a dialog -----------------------------------------------------------------------

    def _initial(
        self, request: Message, key: TransactionKey, flow: Flow, peer: Peer, number: int, now: float
    ) -> None:
        hops = self._validate(request, key, flow, now)
        if hops is None:
            return
        method = request.method
        try:
            routes = take_own_routes(request, self.directory)
            uri = parse_uri(request.uri)
        except Malformed:
            scheme = request.uri.partition(b":")[0].lower()
            self._answer(request, key, 416 if scheme not in SCHEMES else 484, flow, now)
            return
        if uri.scheme not in SCHEMES:
            self._answer(request, key, 416, flow, now)
            return
        if routes.next:
            _keep_loose(request, routes)
        own = bool(uri.host) and self.directory.is_own(uri.bare_host, uri.default_port)
        if method == b"OPTIONS" and own and (not uri.user or self._asks_gate(uri, request, peer)):
            self._answer(request, key, 200, flow, now, [ALLOW])
        elif method == b"REGISTER":
            self._answer(request, key, 405, flow, now, [ALLOW])
        elif method == b"INVITE":
            self._invite(request, key, flow, peer, routes, hops, number, now)
        else:
            self._pass_outside(request, key, flow, peer, routes, hops, now)

    def _asks_gate(self, uri: Uri, request: Message, peer: Peer) -> bool:
        """An OPTIONS to the gate's own address whose user is nobody's number asks the gate itself."""
        if peer.trunk is not None:
            return self._key_of_did(request, peer.trunk) is None
        return not uri.user.lstrip(b"+").isdigit()

    def _invite(
        self,
        request: Message,
        server_key: TransactionKey,
        flow: Flow,
        peer: Peer,
        routes: Routes,
        hops: int,
        number: int,
        now: float,
    ) -> None:
        """A new call."""
        server = self.layer.open_server(request, server_key, reply_flow(request, flow), now)
        if peer.trunk is not None:
            key = self._key_of_did(request, peer.trunk)
            if key is None or key.pbx is None:
                tag = self.answer_tag(request)
                self.counts.sent(b"INVITE", 404)
                self.layer.respond(server, 404, reply(request, 404, tag), now)
                return
            call = Call(self, self.next_id(), key, INBOUND, request, server, flow, now)
            assert key.pbx_uri is not None
            user = parse_uri(request.uri).user
            call.uri = b"sip:%b%b" % (user + b"@" if user else b"", _hostport(key.pbx_uri))
        else:
            assert peer.key is not None
            key = peer.key
            call = Call(self, self.next_id(), key, OUTBOUND, request, server, flow, now)
            call.uri = request.uri
        call.routes = routes
        call.hops = hops
        call.caller.cseq = number
        call.caller.learn_contact(request)
        if RECORD_ROUTE in request.at:
            call.caller.routes = tuple(request.values(RECORD_ROUTE))
        self.by_call_id[call.call_id] = call
        record = call.record
        record.caller_raw = _user(request.value(FROM))
        if call.direction == INBOUND:
            record.raw = _user(request.value(TO))
            record.canonical = read_dialled(record.raw).canonical
            call.ask(now)
            return
        dialled = read_uri(request.uri)
        verdict = key.dial.judge(dialled)
        record.raw, record.canonical = dialled.dialled, dialled.canonical
        record.number_class = dialled.cls
        if verdict.allowed:
            call.ask(now)
            return
        if verdict.emergency:
            self.counts.emergency(key, "blocked")
            self.alert(
                Alert(
                    verdict.rule,
                    "critical",
                    key.id,
                    f"{record.caller_raw or 'somebody'} dialled {dialled.dialled}: the trunk can't carry it",
                )
            )
        call.refuse(Refusal(verdict.rule, verdict.reason, verdict.code), now)

    def alert(self, alert: Alert) -> None:
        self.counts.alert(alert.rule, alert.severity)
        self.out.append(alert)

    def _key_of_did(self, request: Message, trunk: Trunk) -> Key | None:
        """Whose number a call of the trunk is for: P-Called-Party-ID, else the Request-URI, else To (some home
        gateways put the DID only there)."""
        for uri in (request.header(b"p-called-party-id"), request.uri, request.value(TO)):
            if not uri:
                continue
            try:
                number = read_uri(parse_name_addr(uri).uri if uri is not request.uri else uri)
            except Malformed:
                continue
            for canonical in (number.canonical, "+" + number.canonical):
                key = self.directory.key_of_number(canonical)
                if key is not None and key.trunk.name == trunk.name:
                    return key
        return None

    def _pass_outside(
        self,
        request: Message,
        server_key: TransactionKey,
        flow: Flow,
        peer: Peer,
        routes: Routes,
        hops: int,
        now: float,
    ) -> None:
        """MESSAGE, SUBSCRIBE, unknown methods: between a key and its trunk, under the number rules, no limit."""
        if peer.trunk is not None:
            key = self._key_of_did(request, peer.trunk)
            if key is None or key.pbx is None or key.pbx_uri is None:
                self._answer(request, server_key, 404, flow, now)
                return
            user = parse_uri(request.uri).user
            uri = b"sip:%b%b" % (user + b"@" if user else b"", _hostport(key.pbx_uri))
            to, from_pbx = key.pbx, False
        else:
            assert peer.key is not None
            key = peer.key
            verdict = key.dial.judge(read_uri(request.uri))
            if not verdict.allowed:
                refusal = Refusal(verdict.rule, verdict.reason, verdict.code)
                self._answer(request, server_key, verdict.code, flow, now, refusal.headers())
                return
            gateway = next((g for g in key.trunk.gateways if g.up), key.trunk.gateways[0])
            uri, to, from_pbx = self.trunk_uri(request.uri, gateway, key), gateway.flow, True
        server = self.layer.open_server(request, server_key, reply_flow(request, flow), now)
        relay = Relay(self, request, server, None, None, None, from_pbx)
        text = self._dialog_token(key, from_pbx, flow if from_pbx else to, request)
        self._start(relay, request, uri, text, flow, to, routes, hops, now)

    def _dialog_token(self, key: Key, from_pbx: bool, pbx: Flow, request: Message) -> bytes:
        """A token for a dialog that is no call (SUBSCRIBE)."""
        trunk = key.trunk.gateways[0].flow.listener
        direction = OUTBOUND if from_pbx else INBOUND
        token = Token(
            direction, key.tag, self.next_id(), pbx.listener.index, trunk.index, 0, pbx.host, pbx.port
        )
        return self.signer.make(token, request.call_id, request.from_tag)

    def _start(
        self,
        relay: Relay,
        request: Message,
        uri: bytes,
        token: bytes,
        came: Flow,
        to: Flow,
        routes: Routes,
        hops: int,
        now: float,
    ) -> None:
        """Forward a request that has a server transaction, recording the route (RFC 3261 §16.6 step 4)."""
        branch, via = self.branch(to.listener, token)
        record_route = self._record_route(token, came, to)
        data = request_out(request, uri, via, record_route, routes.edits, hops, stream=to.listener.reliable)
        relay.start(data, branch, to, now)

    def _record_route(self, token: bytes, came: Flow, to: Flow) -> bytes:
        record_route = b"%b%b>" % (to.listener.record_route, token)
        if came.listener is not to.listener:  # RFC 5658: one for each side
            record_route += b"\r\n%b%b>" % (came.listener.record_route, token)
        return record_route

    # -- requests inside a dialog ------------------------------------------------------------------------

    def _in_dialog(
        self, request: Message, key: TransactionKey, flow: Flow, peer: Peer, number: int, now: float
    ) -> None:
        """RFC 3261 §16.4–§16.6 for a request with a To tag: only of dialogs that the gate knows, or whose token
        it can verify, from the side that it claims to come from."""
        hops = self._validate(request, key, flow, now)
        if hops is None:
            return
        try:
            routes = take_own_routes(request, self.directory)
            uri = request.uri
            token = routes.token
            parsed = parse_uri(uri)
            if own_uri(parsed, self.directory):
                token, uri = parsed.param(b"cg") or b"", _take_last_route(request, routes) or uri
            target = uri
            if routes.next:
                first = parse_name_addr(routes.next).uri
                if parse_uri(first).param(b"lr") is None:
                    uri = swap_strict(uri, routes, request)
                target = first
        except Malformed:
            self._answer(request, key, 400, flow, now)
            return
        call = self.by_token.get(token) if token else self.by_call_id.get(request.call_id)
        path = self._known(call, request) if call is not None else self._verified(token, request)
        if path is None or not self._belongs(path, flow, peer):
            if peer.key is None and peer.trunk is None:
                if request.method != b"ACK":
                    self._refuse_stranger(request, flow, now)
                return
            self.counts.rejected("no dialog")
            self._answer(request, key, 481, flow, now)
            return
        self._pass_inside(request, key, flow, path, uri, target, routes, hops, number, token, now)

    def _known(self, call: Call, request: Message) -> _Path | None:
        """The sides of a call's dialog, as this request names them."""
        if call.call_id != request.call_id:
            return None
        from_tag, to_tag = request.from_tag, request.to_tag
        outbound = call.direction == OUTBOUND
        if from_tag == call.caller.tag:
            callee = call.side_of(to_tag)
            return _Path(call, call.key, call.caller, callee, outbound) if callee is not None else None
        callee = call.side_of(from_tag)
        if callee is None or to_tag != call.caller.tag:
            return None
        return _Path(call, call.key, callee, call.caller, not outbound)

    def _verified(self, text: bytes, request: Message) -> _Path | None:
        """The sides of a dialog that is known by its token only: what a gate with no memory of it can do."""
        if not text:
            return None
        token = self.signer.read(text, request.call_id, request.from_tag)
        from_caller = token is not None
        if token is None:
            token = self.signer.read(text, request.call_id, request.to_tag)
        if token is None:
            return None
        directory = self.directory
        key = directory.key_of_tag.get(token.key_tag)
        if key is None or not key.trunk.gateways:
            return None
        listeners = directory.listeners
        if token.pbx_listener >= len(listeners):
            return None
        pbx = Side(b"", Flow(listeners[token.pbx_listener], token.pbx_host, token.pbx_port))
        gateways = key.trunk.gateways
        trunk = Side(b"", gateways[min(token.gateway, len(gateways) - 1)].flow)
        from_pbx = from_caller == (token.direction == OUTBOUND)
        return _Path(None, key, pbx if from_pbx else trunk, trunk if from_pbx else pbx, from_pbx)

    def _belongs(self, path: _Path, flow: Flow, peer: Peer) -> bool:
        """Whether a request comes from the side that its tags name. Nobody may hang up for the other side: a BYE
        of the carrier gives lines back at its receipt."""
        side = path.sender
        if side.flow.host == flow.host and (side.flow.port == flow.port or flow.listener.reliable):
            return True
        if path.from_pbx:
            return peer.key is path.key
        if peer.key is not None:
            return False
        return peer.trunk is path.key.trunk or side.gave_host(flow.host)

    def _pass_inside(
        self,
        request: Message,
        key: TransactionKey,
        flow: Flow,
        path: _Path,
        uri: bytes,
        target: bytes,
        routes: Routes,
        hops: int,
        number: int,
        token: bytes,
        now: float,
    ) -> None:
        call, method = path.call, request.method
        sender, receiver = path.sender, path.receiver
        sender.cseq = max(sender.cseq, number)
        if flow.connection and sender.flow.connection != flow.connection:
            sender.flow = flow  # it has connected anew
        peer = Peer(trunk=path.key.trunk) if path.from_pbx else Peer(key=path.key)
        to = receiver.next_hop(target, self.directory, peer)
        if call is not None:
            token = token or call.tokens[-1]
            if sender is call.caller:
                call.acked = True  # an ACK, or what only comes after one
        if method == b"ACK":
            # RFC 3261 §16.11, §17: the ACK of a 2xx is a transaction of its own, without state or answer.
            _, via = self.branch(to.listener, token)
            self.counts.sent(method)
            data = request_out(request, uri, via, b"", routes.edits, hops, stream=to.listener.reliable)
            self.out.append(Send(to, data))
            return
        server = self.layer.open_server(request, key, reply_flow(request, flow), now)
        relay = Relay(self, request, server, call, sender, receiver, path.from_pbx)
        if method == b"BYE":
            if call is not None and not path.from_pbx:
                call.end(now, "caller" if sender is call.caller else "callee")
            branch, via = self.branch(to.listener, token)
            data = request_out(request, uri, via, b"", routes.edits, hops, stream=to.listener.reliable)
            relay.start(data, branch, to, now)
        else:
            self._start(relay, request, uri, token, flow, to, routes, hops, now)


class _Path:
    """A dialog as one request sees it."""

    __slots__ = ("call", "from_pbx", "key", "receiver", "sender")

    def __init__(self, call: Call | None, key: Key, sender: Side, receiver: Side, from_pbx: bool) -> None:
        self.call = call
        self.key = key
        self.sender = sender
        self.receiver = receiver
        self.from_pbx = from_pbx


def _hostport(uri: Uri) -> bytes:
    """Host, port and transport of a configured URI."""
    transport = uri.param(b"transport")
    port = b":%d" % uri.port if uri.port else b""
    return uri.host + port + (b";transport=" + transport if transport else b"")


def _user(value: bytes) -> str:
    """The user part of an address for the record; empty when it can't be read."""
    try:
        return parse_uri(parse_name_addr(value).uri).user.decode("utf-8", "replace")
    except Malformed:
        return ""


def _keep_loose(request: Message, routes: Routes) -> None:
    """A Route that a key's PBX brings along in a new request does not choose the next hop. Loose ones pass for
    whoever comes after the gateway; a strict one, which would replace the number that was judged, goes."""
    for i in request.places(ROUTE):
        line = routes.edits.get(i, request.lines[i])
        if line is None:
            continue
        values = split_list(header_value(line))
        loose = [v for v in values if _is_loose(v)]
        if len(loose) != len(values):
            routes.edits[i] = b"Route: " + b", ".join(loose) if loose else None


def _is_loose(value: bytes) -> bool:
    try:
        return parse_uri(parse_name_addr(value).uri).param(b"lr") is not None
    except Malformed:
        return False


def _take_last_route(request: Message, routes: Routes) -> bytes:
    """RFC 3261 §16.4: behind a strict router the real Request-URI is the last Route. Takes it off."""
    places = [i for i in request.places(ROUTE) if routes.edits.get(i, b"") is not None]
    if not places:
        return b""
    i = places[-1]
    values = split_list(header_value(routes.edits.get(i) or request.lines[i]))
    routes.edits[i] = b"Route: " + b", ".join(values[:-1]) if values[:-1] else None
    if len(places) == 1 and not values[:-1]:
        routes.next = b""
    return parse_name_addr(values[-1]).uri
