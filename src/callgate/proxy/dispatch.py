"""Where a message goes that has been read: to its transaction, into its dialog, or to whoever takes new requests; and
what is answered before anybody takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.proxy.answer import reply
from callgate.proxy.calls.attempts import Attempts
from callgate.proxy.commands import Alert, Send
from callgate.proxy.flow import Flow
from callgate.proxy.forward import checked, reply_flow, stamp
from callgate.proxy.identity.strangers import Strangers
from callgate.proxy.outside import ALLOW
from callgate.proxy.peers import Peer
from callgate.proxy.relay import Relay
from callgate.proxy.telemetry.counts import KNOWN_METHODS
from callgate.proxy.transactions import CANCEL_MARK, InviteClientTransaction, server_key
from callgate.proxy.transactions import Key as TransactionKey
from callgate.sip.errors import Malformed
from callgate.sip.fields import COOKIE
from callgate.sip.message import OTHER_VERSION, VIA, Message
from callgate.sip.transaction import State
from callgate.sip.uri import parse_uri

if TYPE_CHECKING:
    from callgate.proxy.core import Core


OTHER_METHOD = "CSeq names another method"
UNKNOWN_METHOD = "CSeq names another method, and this one is unknown"
FAULT_CODES = {OTHER_VERSION: 505, UNKNOWN_METHOD: 501}
"""What is not answered with 400 (RFC 4475 §3.1.2.16, §3.1.2.18)."""


class Dispatch:
    """Takes every message that could be read."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.strangers = Strangers()

    # -- responses ---------------------------------------------------------------------------------------

    def response(self, response: Message, flow: Flow, now: float) -> None:
        """RFC 3261 §18.1.2, §16.7 step 1; RFC 6026 §7.3: what matches no transaction of ours is dropped."""
        core = self.core
        core.counts.received(response.method, response.code)
        if response.faults:
            core.counts.rejected("malformed response")
            return
        via = response.via
        branch = via.branch[len(COOKIE) :]
        if response.method == b"CANCEL":
            branch += CANCEL_MARK
        client = core.layer.clients.get(branch)
        if client is None or via.sent_by != client.flow.listener.sent_by:
            if client is None and core.adoption.response(response, branch, flow, now):
                return
            late = client is None and 200 <= response.code < 300 and response.method == b"INVITE"
            if not (late and core.late.stray(response, branch, flow, now)):
                core.counts.rejected("stray response")
            return
        if flow.host != client.flow.host and not self._same_peer(flow, client.flow):
            core.counts.rejected("response from elsewhere")
            return
        if (response.method == b"INVITE") is not isinstance(client, InviteClientTransaction):
            core.counts.rejected("stray response")  # RFC 3261 §17.1.3
            return
        if (
            not via.rest
            and (response.repeated is None or VIA not in response.repeated)
            and isinstance(client.user, Attempts | Relay)
        ):
            core.counts.rejected("no Via left")  # as if it had not come: nobody would ever get an answer
            return
        core.layer.received(client, response, now)

    def _same_peer(self, flow: Flow, other: Flow) -> bool:
        """Whether two addresses belong to the same key or trunk: a carrier may answer from another of its own."""
        core = self.core
        one, two = core.directory.identify(flow), core.directory.identify(other)
        if not one.known and not one.owners:
            return False
        if not two.known and not two.owners:
            return True  # the target that a Contact gave, which nobody has configured
        if one.trunk is not None or two.trunk is not None:
            return one.trunk is two.trunk
        return any(key is one.key or key in one.owners for key in (two.key, *two.owners) if key is not None)

    # -- requests ----------------------------------------------------------------------------------------

    def request(self, request: Message, flow: Flow, now: float) -> None:
        core = self.core
        method = request.method
        peer = core.directory.identify(flow)
        core.counts.received(method, 0)
        via = request.via
        if not request.faults:
            if method not in KNOWN_METHODS and method.upper() in KNOWN_METHODS:
                request.faults.append("a method in the wrong case")  # they are case-sensitive (RFC 3261 §7.1)
            elif request.cseq_method != method:
                request.faults.append(OTHER_METHOD if method in KNOWN_METHODS else UNKNOWN_METHOD)
            elif not request.from_tag and via.branch.startswith(COOKIE):
                request.faults.append("From without a tag")
        if request.faults:
            self._malformed(request, flow, peer, now)
            return
        if not flow.listener.inner:
            stamp(request, flow)
        key = server_key(request, via)
        server = core.layer.servers.get(key)
        if server is not None and server.flow.host == flow.host:
            if method != b"ACK":
                core.layer.again(server, request, now)
                return
            if server.state is not State.ACCEPTED:
                core.layer.again(server, request, now)
                return
        elif server is not None:
            core.counts.rejected("another's branch")  # the same branch from elsewhere: forged
            return
        if method == b"CANCEL":
            self._cancel(request, key, flow, peer, now)
        elif request.to_tag:
            core.inside.take(request, key, flow, peer, now)
        elif method == b"ACK":
            core.counts.rejected("stray ACK")
        elif peer.known and (core.directory.access is None or flow.listener.inner):
            core.outside.take(request, key, flow, peer, now)
        else:
            who = core.auth.admit(request, flow, peer, now)
            if who is not None:
                core.outside.take(request, key, flow, who, now)

    def _malformed(self, request: Message, flow: Flow, peer: Peer, now: float) -> None:
        """400 where an answer is possible; a stranger's rubbish counts against its one answer a second. Where the
        Via can't be read it goes back as it came, to where it came from (RFC 4475 §3.1.2.1, §3.1.2.16)."""
        core = self.core
        core.counts.rejected("malformed request")
        if request.method == b"ACK" or VIA not in request.at:
            return
        if peer.key is None and peer.trunk is None and not self.strangers.may_answer(flow.host, now):
            return
        to = flow
        if request.via is not None:
            stamp(request, flow)
            to = reply_flow(request, flow)
        fault = request.faults[0]
        code = next((FAULT_CODES[f] for f in request.faults if f in FAULT_CODES), 400)
        warning = [] if peer.trunk is not None else [b'Warning: 399 callgate "%b"' % fault.encode("ascii")]
        core.counts.sent(request.method, code)
        data = reply(request, code, core.signer.tag(request.value(VIA)), warning)
        core.out.append(Send(to, data))

    def refuse_stranger(self, request: Message, flow: Flow, now: float) -> None:
        """One 403 per source and second, else silence."""
        core = self.core
        core.counts.rejected("unknown source")
        text = "requests from an address that is no key's and no trunk's are refused"
        core.alert(Alert("no-key", "info", "", text, details={"source": flow.host}), now)
        self.answer_stranger(request, 403, flow, now)

    def answer_stranger(self, request: Message, code: int, flow: Flow, now: float) -> None:
        """Without a transaction, and once per source and second."""
        core = self.core
        if self.strangers.may_answer(flow.host, now):
            core.counts.sent(request.method, code)
            core.out.append(Send(reply_flow(request, flow), reply(request, code, core.answer_tag(request))))

    def _cancel(self, request: Message, key: TransactionKey, flow: Flow, peer: Peer, now: float) -> None:
        """RFC 3261 §9.2, §16.10: the CANCEL itself is answered here; whom it cancels decides what follows.
        It is never challenged and never limited: it gives lines back."""
        core = self.core
        invite = core.layer.servers.get((b"INVITE", *key[1:]))
        if invite is None or invite.flow.host != flow.host:
            if peer.key is None and peer.trunk is None:
                self.refuse_stranger(request, flow, now)
                return
            self.answer(request, key, 481, flow, now)
            return
        self.answer(request, key, 200, flow, now)
        if invite.user is not None:
            invite.user.on_cancel(invite, request, now)

    def answer(
        self,
        request: Message,
        key: TransactionKey,
        code: int,
        flow: Flow,
        now: float,
        extra: list[bytes] | None = None,
    ) -> None:
        """A final answer of the gate's own to a new request."""
        core = self.core
        if request.method == b"ACK":
            return
        server = core.layer.open_server(request, key, reply_flow(request, flow), now)
        core.layer.respond(server, code, reply(request, code, core.answer_tag(request), extra), now)

    def validate(self, request: Message, key: TransactionKey, flow: Flow, now: float) -> int | None:
        """The checks of RFC 3261 §16.3 that need no key. What Max-Forwards was; None when the request has been
        answered."""
        hops, code, extra = checked(request)
        if code == 483 and request.method == b"OPTIONS" and self._names_gate(request.uri):  # §11
            code, extra = 200, [ALLOW]
        if code:
            self.answer(request, key, code, flow, now, extra)
            return None
        return hops

    def _names_gate(self, raw: bytes) -> bool:
        core = self.core
        try:
            uri = parse_uri(raw)
        except Malformed:
            return False
        return bool(uri.host) and core.directory.is_own(uri.bare_host, uri.default_port)
