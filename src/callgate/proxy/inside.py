"""Requests inside a dialog: from a side of it, to the other side, and nowhere else (RFC 3261 §16.4–§16.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.numbers import read_uri
from callgate.proxy.answer import NOT_SECURE
from callgate.proxy.calls.call import Call
from callgate.proxy.calls.context import Phase
from callgate.proxy.calls.cseq import JUMP, Shift
from callgate.proxy.calls.dialog import Side, side_of
from callgate.proxy.commands import Send
from callgate.proxy.contract.notices import may_say
from callgate.proxy.flow import Flow
from callgate.proxy.forward import Routes, own_uri, reply_flow, swap_strict, take_own_routes
from callgate.proxy.identity.caller import own_again
from callgate.proxy.peers import Key, Peer, Trunk
from callgate.proxy.relay import SPEAKS, Relay, Way
from callgate.proxy.token import AWAY, OUTBOUND, RECORDER, Token
from callgate.proxy.transactions import Key as TransactionKey
from callgate.proxy.trunk.login import USED_UP, Passage, raise_ack
from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr, split_list
from callgate.sip.message import FROM, ROUTE, Message, header_value
from callgate.sip.uri import parse_uri

if TYPE_CHECKING:
    from callgate.proxy.core import Core


OFFERS = frozenset((b"INVITE", b"UPDATE"))
EARLY_TOO = frozenset((b"PRACK", b"UPDATE"))
"""All else of a caller comes after its ACK: whoever sends it has the answer."""


class Path:
    """A dialog as one request sees it."""

    __slots__ = (
        "adopted",
        "by_caller",
        "call",
        "from_pbx",
        "key",
        "raised",
        "receiver",
        "sender",
        "text",
        "token",
        "trunk",
    )

    def __init__(
        self,
        call: Call | None,
        key: Key,
        trunk: Trunk,
        sender: Side,
        receiver: Side,
        from_pbx: bool,
        *,
        by_caller: bool = False,
        token: Token | None = None,
        text: bytes = b"",
    ) -> None:
        self.trunk = trunk
        self.call = call
        self.key = key
        self.sender = sender
        self.receiver = receiver
        self.from_pbx = from_pbx
        # Of a dialog that is known by its token only: that, and whether the caller has sent this.
        self.token = token
        self.text = text
        self.by_caller = by_caller
        self.raised = token.raised if token is not None else 0  # what it says of the INVITE's CSeq
        self.adopted = False  # whether the call was made of this very request


class Inside:
    """Takes every request that has a To tag."""

    def __init__(self, core: Core) -> None:
        self.core = core

    def take(self, request: Message, key: TransactionKey, flow: Flow, peer: Peer, now: float) -> None:
        """RFC 3261 §16.4–§16.6 for a request with a To tag: only of dialogs that the gate knows, or whose token
        it can verify, from the side that it claims to come from."""
        try:
            routes = take_own_routes(request, self.core.directory)
            uri = request.uri
            token = routes.token
            if b"cg=" in uri and own_uri(parsed := parse_uri(uri), self.core.directory):
                token, uri = parsed.param(b"cg") or b"", _take_last_route(request, routes) or uri
            target = uri
            if routes.next:
                first = parse_name_addr(routes.next).uri
                if parse_uri(first).param(b"lr") is None:
                    uri = swap_strict(uri, routes, request)
                target = first
            if uri is not request.uri and b"?" in uri and parse_uri(uri).headers:
                raise Malformed("a Route with headers (RFC 3261 §19.1.1)")
        except Malformed:
            if peer.key is None and peer.trunk is None:
                self._drop(request, flow, now)
            else:
                self.core.dispatch.answer(request, key, 400, flow, now)
            return
        call = self.core.by_token.get(token) if token else self.core.by_call_id.get(request.call_id)
        if (
            request.method == b"ACK"
            and call is not None
            and call.origin == key
            and call.phase is Phase.OVER
            and key not in self.core.layer.servers
        ):  # one more copy of the ACK of a failure: it ends here, though its transaction is forgotten (Timer I)
            self.core.counts.rejected("stray ACK")
            return
        path = self._known(call, request) if call is not None else None
        if path is None and (call is None or not self.core.began_here(call.leg)):
            # Also a dialog that was not known of a call of an earlier start.
            path = self._verified(token, request, flow)
        belongs = path is not None and self._belongs(path, flow, peer, request.method)
        if not belongs and self.core.directory.access is not None and request.method != b"ACK":
            who = self.core.auth.admit(request, flow, peer, now)
            if who is None:
                return
            peer = who
            if path is not None and path.from_pbx and peer.key is not None and peer.key.id == path.key.id:
                belongs = True
                path.sender.flow, path.sender.hop = flow, None  # it has moved
        if path is None or not belongs:
            if peer.key is None and peer.trunk is None:
                self._drop(request, flow, now)
                return
            self.core.counts.rejected("no dialog")
            self.core.dispatch.answer(request, key, 481, flow, now)
            return
        flow.known = True  # it has shown that a dialog of ours is its own
        hops = self.core.dispatch.validate(request, key, flow, now)
        if hops is None:
            return
        if b"m=image" in request.body and request.method in OFFERS:
            self.core.observer.media(path.key, request.body, now)
        if path.call is None and path.from_pbx and request.method == b"INVITE":
            # A re-INVITE of a call of an earlier start, or a new call in its clothes: the To tag is not ours to
            # verify. So its number is judged, and it takes a token like any call.
            verdict = path.key.dial.judge(read_uri(uri))
            passes = verdict.allowed or verdict.code == 484 or (path.key.shadow and not verdict.emergency)
            if not passes:
                self.core.counts.rejected("re-INVITE of an unknown call")
                self.core.dispatch.answer(request, key, 403, flow, now)
                return
        if path.call is None:
            self.core.adoption.dialog(path, request, flow, now)
        self._pass_inside(request, key, flow, path, uri, target, routes, hops, token, now)

    def _drop(self, request: Message, flow: Flow, now: float) -> None:
        """Of a stranger: one 403 a second, and nothing to an ACK."""
        if request.method != b"ACK":
            self.core.dispatch.refuse_stranger(request, flow, now)

    def _known(self, call: Call, request: Message) -> Path | None:
        """The sides of a call's dialog, as this request names them."""
        if call.call_id != request.call_id:
            return None
        from_tag, to_tag = request.from_tag, request.to_tag
        outbound = call.direction == OUTBOUND
        if from_tag == call.caller.tag:
            callee = side_of(call.callees, to_tag)
            if callee is None:
                return None
            return Path(call, call.key, call.trunk, call.caller, callee, outbound)
        callee = side_of(call.callees, from_tag)
        if callee is None or to_tag != call.caller.tag:
            return None
        return Path(call, call.key, call.trunk, callee, call.caller, not outbound)

    def _verified(self, text: bytes, request: Message, flow: Flow) -> Path | None:
        """The sides of a dialog that is known by its token only: what a gate with no memory of it can do."""
        if not text:
            return None
        token = self.core.signer.read(text, request.call_id, request.from_tag)
        from_caller = token is not None
        if token is None:
            token = self.core.signer.read(text, request.call_id, request.to_tag)
        if token is None or self.core.began_here(token.leg):
            return None  # not ours, or of a call that this gate has seen end
        if not token.leg and request.method == b"INVITE":
            return None  # the dialog of a SUBSCRIBE is no call
        directory = self.core.directory
        key = directory.key_of_tag.get(token.key_tag)
        if key is None:
            return None
        listeners = directory.listeners
        if token.pbx_listener >= len(listeners):
            return None
        listener = listeners[token.pbx_listener]
        pbx = Side(b"", Flow(listener, token.pbx_host, token.pbx_port, trust=key.pbx_trust))
        from_pbx = from_caller == (token.direction == OUTBOUND)
        if token.gateway == RECORDER:
            recorders = key.recorders
            to_recorder = recorders.way(request, directory) if recorders is not None and from_pbx else flow
            if recorders is None or to_recorder is None or not recorders.holds(to_recorder.host):
                return None
            ends = (pbx, Side(b"", to_recorder))
            sender, receiver = ends if from_pbx else reversed(ends)
            return Path(None, key, recorders.trunk, sender, receiver, from_pbx)
        carrier, gateway = key.trunk, token.gateway
        if gateway >= AWAY and carrier.emergency is not None:
            carrier, gateway = carrier.emergency, gateway - AWAY
        gateways = carrier.gateways
        if not gateways:
            return None
        to_trunk = gateways[min(gateway, len(gateways) - 1)].flow
        if to_trunk is None:
            return None  # a name that has not been looked up yet
        trunk = Side(b"", to_trunk)
        sender, receiver = (pbx, trunk) if from_pbx else (trunk, pbx)
        return Path(
            None, key, carrier, sender, receiver, from_pbx, by_caller=from_caller, token=token, text=text
        )

    def _belongs(self, path: Path, flow: Flow, peer: Peer, method: bytes) -> bool:
        """Whether a request comes from the side that its tags name. Nobody may hang up for the other side: a BYE
        of the carrier gives lines back at its receipt."""
        side = path.sender
        if side.flow.host == flow.host and (side.flow.port == flow.port or flow.listener.reliable):
            return True
        if method == b"ACK" and side.flow.host == flow.host:
            # A NAT has given it another port, and it can't be asked for a password (RFC 3261 §22.1).
            return True
        if path.from_pbx:
            return peer.key is not None and peer.key.id == path.key.id  # a reload makes new objects
        if peer.key is not None:
            return False
        if peer.trunk is not None and peer.trunk.name == path.trunk.name:
            return True
        recorders = path.trunk.recorders
        return side.gave_host(flow.host) and (recorders is None or recorders.holds(flow.host))

    def _pass_inside(
        self,
        request: Message,
        key: TransactionKey,
        flow: Flow,
        path: Path,
        uri: bytes,
        target: bytes,
        routes: Routes,
        hops: int,
        token: bytes,
        now: float,
    ) -> None:
        call, method = path.call, request.method
        sender, receiver = path.sender, path.receiver
        if path.from_pbx and self.core.directory.access is not None:
            routes.edits.update(self.core.directory.access.taken_off(request))
        fresh = stale = False
        if call is not None and method != b"ACK":
            stale = _stale(path, request.cseq_number) and method != b"PRACK"
            fresh = not stale and method != b"PRACK"
        if fresh:
            sender.learn_via(request)
        if not stale:
            sender.seen_at = now
        if flow is not sender.flow and (fresh or (flow.connection and not stale)):
            before = sender.flow
            sender.moved(flow)
            if sender.flow is not before and call is not None:
                call.keep(now)
        peer = Peer(trunk=path.trunk) if path.from_pbx else Peer(key=path.key)
        if request.marked:
            edge = self.core.directory.edge
            routes.edits.update(edge.edits(request, path.key, from_pbx=path.from_pbx))
        from_line = _from_line(path, request)
        if from_line:
            routes.edits[request.at[FROM]] = from_line
        to = receiver.next_hop(target, self.core.directory, peer)
        if call is not None:
            token = token or call.tokens[-1]
            if sender is call.caller and call.phase is Phase.UP:
                if method not in EARLY_TOO:
                    receiver.acknowledged = True
            elif sender is call.caller and self.core.late.open:
                self.core.late.taken_up(call.call_id, receiver.tag, now)
        account = path.trunk.account if path.from_pbx else None
        shift = self._shift(path, request) if account is not None else None
        if method == b"ACK":
            if (
                call is not None and request.body and call.phase is Phase.UP
            ):  # the answer to an offer of a 2xx
                self.core.holds.heard(call, sender is call.caller, request.body, now)
                if may_say(request):
                    self.core.recordings.heard(call, sender is call.caller, request, now)
            if shift is not None:
                # Of the first INVITE several copies may have left; this callee has answered one of them.
                opened = call is not None and sender is call.caller and request.cseq_number == sender.cseq
                raised = receiver.invited if opened else 0
                shown = path.trunk.has_gateway(to)
                routes = raise_ack(request, routes, shift, raised, shown=shown)
            # RFC 3261 §16.11, §17: the ACK of a 2xx is a transaction of its own, without state or answer.
            self.core.counts.sent(method)
            over, branch, data = self.core.compose(request, uri, token, to, routes, hops, now)
            if over is not to:  # there may be no stream to be had (RFC 3261 §18.1.1)
                _, _, again = self.core.compose(request, uri, token, to, routes, hops, now, by_datagram=True)
                self.core.streams.acknowledges(branch, over, Send(to, again))
            self.core.out.append(Send(over, data))
            return
        if uri[:5].lower() == b"sips:" and not to.listener.secure:
            self.core.dispatch.answer(
                request, key, 480, flow, now, NOT_SECURE.headers() if path.from_pbx else []
            )
            return
        passage = None
        if account is not None and shift is not None:
            first = call is not None and sender is call.caller
            passage = Passage(
                account, shift, request, routes, (sender.cseq, receiver.invited) if first else (0, 0)
            )
            if not passage.raised:
                self.core.dispatch.answer(request, key, 500, flow, now, [USED_UP])
                return
        server = self.core.layer.open_server(request, key, reply_flow(request, flow), now)
        relay = Relay(
            self.core, request, server, None if stale else call, sender, receiver, path.from_pbx, path.key
        )
        relay.passage = passage
        relay.trunk = path.trunk
        if from_line:
            relay.from_line = request.lines[request.at[FROM]]
        if method == b"BYE":
            if call is not None and not path.from_pbx and not stale:
                by_caller = sender is call.caller
                call.dialog_over(receiver if by_caller else sender, now, "caller" if by_caller else "callee")
            self.core.start(relay, request, uri, token, None, to, routes, hops, now)
        else:
            if call is None and path.from_pbx and method == b"INVITE":
                relay.rate = path.key
            if call is not None and method in SPEAKS and (may_say(request) or call.is_session):
                way = Way(request, uri, token, flow, to, routes, hops, b"")
                if self.core.recordings.holds_up(relay, way, now, counts=path.adopted):
                    return  # until there is a licence for it
            self.core.start(relay, request, uri, token, flow, to, routes, hops, now)

    def _shift(self, path: Path, request: Message) -> Shift:
        """What raises the numbers of a PBX's dialog towards a trunk whose challenges the gate answers."""
        call = path.call
        if call is None:  # of an earlier start, or no call at all
            return self.core.shifts.of(request.call_id, request.from_tag, path.raised, ahead=JUMP)
        if call.shift is None:
            call.shift = Shift()
        return call.shift


def _from_line(path: Path, request: Message) -> bytes:
    """I19: the From line that a request of the PBX leaves with, where its own shows a caller that the key may not;
    empty where it stays. Of a dialog that the gate has no memory of nobody knows how it began."""
    call, allowed = path.call, path.key.caller_ids
    if not path.from_pbx or allowed is None or call is None:
        return b""
    line, own = request.lines[request.at[FROM]], call.began_as(path.sender)
    shown = own_again(line, own, request.from_tag, allowed) if own else line
    return b"" if shown is line else shown


def _stale(path: Path, number: int) -> bool:
    """Whether a request's CSeq is not above the last of its side: an endpoint answers it with 500 (RFC 3261
    §12.2.2), and such a BYE ends nothing. Each dialog of a forked call counts for itself."""
    call, sender, receiver = path.call, path.sender, path.receiver
    assert call is not None
    if sender is call.caller:
        last = receiver.heard if receiver.heard >= 0 else sender.cseq
        receiver.heard = max(last, number)
    else:
        last = sender.cseq
        sender.cseq = max(last, number)
    return number <= last


def _take_last_route(request: Message, routes: Routes) -> bytes:
    """RFC 3261 §16.4: behind a strict router the real Request-URI is the last Route. Takes it off."""
    places = [i for i in request.places(ROUTE) if routes.edits.get(i, b"") is not None]
    if not places:
        return b""
    i = places[-1]
    values = split_list(header_value(routes.edits.get(i) or request.lines[i]))
    if not values:
        raise Malformed("a Route without a value")
    routes.edits[i] = b"Route: " + b", ".join(values[:-1]) if values[:-1] else None
    if len(places) == 1 and not values[:-1]:
        routes.next = b""
    return parse_name_addr(values[-1]).uri
