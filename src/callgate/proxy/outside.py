"""Requests outside a dialog: new calls, and what else passes between a key and its trunk (RFC 3261 §16.5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from callgate.numbers import read_uri
from callgate.proxy.answer import NOT_SECURE, Refusal, reply
from callgate.proxy.calls.call import Call
from callgate.proxy.calls.cseq import LIMIT, Shift
from callgate.proxy.calls.targets import Groups, Target, secure_only
from callgate.proxy.commands import Alert
from callgate.proxy.contract import suspension
from callgate.proxy.contract.siprec import NO_RECORDER, Session
from callgate.proxy.edge import judge
from callgate.proxy.flow import Flow
from callgate.proxy.forward import SCHEMES, Routes, called_party, disguise, reply_flow, take_own_routes
from callgate.proxy.identity.callers import Callers, user_of
from callgate.proxy.peers import Key, Peer, Step, Trunk
from callgate.proxy.relay import Relay
from callgate.proxy.token import INBOUND, OUTBOUND, Token
from callgate.proxy.transactions import Key as TransactionKey
from callgate.proxy.trunk.login import USED_UP, Passage
from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr, split_list
from callgate.sip.message import CALL_ID, FROM, ROUTE, TO, VIA, Message, header_value
from callgate.sip.siprec import is_recording_session
from callgate.sip.uri import Uri, parse_uri

if TYPE_CHECKING:
    from callgate.proxy.core import Core

ALLOW = b"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY, SUBSCRIBE, MESSAGE"


MAX_BREADTH = 60
"""Branches that a request may have which does not say (RFC 5393 §5.3.3)."""


class Outside:
    """Takes every new request that has no To tag, of a peer that is known."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.callers = Callers()

    def take(self, request: Message, key: TransactionKey, flow: Flow, peer: Peer, now: float) -> None:
        method = request.method
        try:
            routes = take_own_routes(request, self.core.directory)
            uri = parse_uri(request.uri)
        except Malformed:
            scheme = request.uri.partition(b":")[0].lower()
            self.core.dispatch.answer(request, key, 416 if scheme not in SCHEMES else 400, flow, now)
            return
        if uri.scheme not in SCHEMES:
            self.core.dispatch.answer(request, key, 416, flow, now)
            return
        hops = self.core.dispatch.validate(request, key, flow, now)
        if hops is None:
            return
        if method == b"REGISTER":
            self._register(request, key, flow, peer, now)
            return
        fault = disguise(uri) if peer.key is not None and not peer.key.trunk.any_number else ""
        if fault and method != b"INVITE":
            self.core.dispatch.answer(
                request, key, 484, flow, now, [b'Warning: 399 callgate "N2 %b"' % fault.encode()]
            )
            return
        if self.core.directory.access is not None and peer.key is not None:
            routes.edits.update(self.core.directory.access.taken_off(request))
        if routes.next:
            _keep_loose(request, routes)
        own = bool(uri.host) and self.core.directory.is_own(uri.bare_host, uri.default_port)
        if method == b"OPTIONS" and own and (not uri.user or self._asks_gate(uri, request, peer)):
            self.core.dispatch.answer(request, key, 200, flow, now, [ALLOW])
        elif method == b"INVITE":
            if fault and self._is_emergency(request, peer):
                fault = ""
            self._invite(request, uri, key, flow, peer, routes, hops, now, fault)
        elif method == b"BYE" and self._gives_up(request, peer, now):
            self.core.dispatch.answer(request, key, 200, flow, now)
        else:
            self._pass_outside(request, key, flow, peer, routes, hops, now)

    def _gives_up(self, request: Message, peer: Peer, now: float) -> bool:
        """A BYE without a To tag, as RFC 2543 callers send it: whether it ended a call that still waits here. The
        carrier has not seen that one."""
        for call in self.core.by_call_id.all(request.call_id):
            if call.turn is not None and call.caller.tag == request.from_tag and call.key is peer.key:
                call.turn.leaves("the caller sent a BYE", now)
                return True
        return False

    def _register(self, request: Message, key: TransactionKey, flow: Flow, peer: Peer, now: float) -> None:
        """Never passed on (interface.md): the gate is a registrar for keys that want one, and for nobody else."""
        if peer.key is not None and peer.key.registered:
            self.core.registrar.take(request, key, flow, peer.key, now)
            return
        why = []
        if peer.key is not None:
            why.append(
                b'Warning: 399 callgate "calls go to the pbx of the config; for REGISTER: pbx: registered"'
            )
        self.core.dispatch.answer(request, key, 405, flow, now, [ALLOW, *why])

    def _is_emergency(self, request: Message, peer: Peer) -> bool:
        """484 would stop a PBX from trying its next route."""
        return peer.key is not None and peer.key.dial.judge(read_uri(request.uri)).emergency

    def _asks_gate(self, uri: Uri, request: Message, peer: Peer) -> bool:
        """An OPTIONS to the gate's own address whose user is nobody's number asks the gate itself."""
        if peer.trunk is not None:
            return self._whose(request, peer.trunk) is None
        return not uri.user.lstrip(b"+").isdigit()

    def _invite(
        self,
        request: Message,
        uri: Uri,
        server_key: TransactionKey,
        flow: Flow,
        peer: Peer,
        routes: Routes,
        hops: int,
        now: float,
        fault: str,
    ) -> None:
        """A new call. `fault`: why its number is none."""
        if any(before.origin == server_key for before in self.core.by_call_id.all(request.call_id)):
            # A copy that was on its way until its transaction was over (Timers H, I, L): this is no second call.
            self.core.counts.rejected("late copy")
            return
        server = self.core.layer.open_server(request, server_key, reply_flow(request, flow), now)
        if peer.trunk is not None:
            found = self._whose(request, peer.trunk)
            if found is None:
                tag = self.core.answer_tag(request)
                self.core.counts.rejected("unknown number")
                text = "a call of the trunk for a number that is no key's was answered with 404"
                who = {"number": user_of(request.value(TO)), "trunk": peer.trunk.name}
                self.core.alert(Alert("N1", "info", "", text, details=who), now)
                self.core.layer.respond(server, 404, reply(request, 404, tag), now)
                return
            key, number, asked = found
            call = Call(self.core, self.core.next_id(), key, INBOUND, request, server, flow, now)
            call.trunk = peer.trunk
            call.did = number
            call.groups, call.steps = self.way_of(key, number, uri, now)
            if key.registered:
                routes = called_party(request, routes)
            call.free = self._exempt(request, key) or self.core.emergency.calls_back(key, number, now)
            call.record.raw, call.record.canonical = asked, number
        else:
            assert peer.key is not None
            key = peer.key
            leg = self.core.forwards.leg_of(request, key)
            number_of_leg = (
                leg.reserved if leg is not None and flow.listener.inner else 0
            ) or self.core.next_id()
            recorder = key.recorders.of(request, uri, self.core.directory) if key.recorders else None
            if recorder is not None:
                call = Session(self.core, number_of_leg, key, OUTBOUND, request, server, flow, now)
                call.goes_to(recorder)
            else:
                call = Call(self.core, number_of_leg, key, OUTBOUND, request, server, flow, now)
            if leg is not None and recorder is None:
                call.forwards(leg)
                if flow.listener.inner:
                    self.core.bridge.carried_on(call)
            if key.trunk.account is not None and not call.is_session:
                call.shift = self.shift(request)
        call.dialled = uri
        if b"m=image" in request.body:
            self.core.observer.media(key, request.body, now)
        if request.marked:
            outbound = call.direction == OUTBOUND
            routes.edits.update(self.core.directory.edge.edits(request, key, from_pbx=outbound))
        call.routes = routes
        call.hops = hops
        call.caller.cseq = request.cseq_number
        call.caller.learn_via(request)
        call.caller.learn_contact(request)
        call.caller.learn_routes(request)
        self.core.by_call_id.add(call)
        record = call.record
        call.caller_uri = request.value(FROM)
        record.caller_raw, record.caller = self.callers.of(request, call.caller_uri)
        if call.direction == INBOUND:
            if self._suspended(call, now):
                return
            if call.groups:
                self._admit(call, request, uri, flow, now)
            elif key.registered:
                call.nowhere(480, "no phone is registered for this number", now)
            elif key.routes is not None and key.routes.get(number) is not None:
                call.nowhere(480, "no step of the number's route is open, or has an address", now)
            else:
                call.nowhere(503, "no address of the PBX is known", now)
            return
        if fault:
            record.raw = read_uri(request.uri).dialled
            record.number_class = "invalid"
            call.refuse(Refusal("N2", fault, 484), now)
            return
        if call.is_session:
            self.core.challenges.answered_by(call, request, now)
            call.ask(now)
            return
        dialled = read_uri(request.uri)
        verdict = key.dial.judge(dialled)
        is_session = verdict.code == 484 and is_recording_session(request)
        refusal = Refusal(verdict.rule, NO_RECORDER if is_session else verdict.reason, verdict.code)
        record.raw, record.canonical = dialled.dialled, dialled.canonical
        record.number_class = dialled.cls
        if verdict.emergency:
            # Before anything else that may be said of a call: what is to come goes below.
            self.core.emergency.take(call, dialled, verdict, flow, now)
            return
        to = request.value(TO)
        if b":%b@" % uri.user not in to:
            self.core.emergency.suspects(call, dialled, to, now)
        answered = self.core.challenges.answered_by(call, request, now)
        if self._suspended(call, now):
            return
        if verdict.allowed or call.passes(refusal, now):
            if key.consent is not None or key.quiet_hours is not None:
                unwelcome = _unwelcome(key, dialled.canonical, now + self.core.utc_offset)
                if unwelcome is not None and not call.passes(unwelcome, now):
                    call.refuse(unwelcome, now)
                    return
            challenger = answered.by if answered is not None else None
            call.free = answered is not None
            call.groups = self.core.trunks.groups(key, now, challenger)
            # To another gateway than the one that asked it is a new call.
            call.free = call.free and bool(call.groups) and call.groups[0][0] is challenger
            if not call.groups:
                call.refuse(self.core.trunks.refusal(key, now), now)
                return
            self._admit(call, request, uri, flow, now)
            return
        if verdict.alert:
            who = {"dialled": dialled.dialled}
            text = "ACR on: the PBX puts a carrier prefix before its calls, which this contract doesn't carry"
            self.core.alert(Alert(verdict.alert, "warning", key.id, text, details=who), now)
        call.refuse(refusal, now)

    def gateways(self, call: Call, now: float) -> Groups:
        """What a call tries that has waited, and whose trunk is another one since."""
        groups = self.core.trunks.groups(call.key, now)
        sips = call.dialled is not None and call.dialled.scheme == b"sips"
        return secure_only(groups) if sips else groups

    def _suspended(self, call: Call, now: float) -> bool:
        """V9: whether a call was refused because its key is suspended."""
        suspensions = self.core.suspensions
        refusal = suspensions.refusal(call, now) if suspensions.all else None
        if refusal is None:
            return False
        call.refuse(refusal, now)
        return True

    def shift(self, request: Message) -> Shift:
        """What raises the numbers of a call out: that of the call before where this one goes on from its refusal (a
        challenge that was the PBX's to answer, 422, …), since the trunk has seen higher ones than the PBX knows."""
        before = self.core.by_call_id.get(request.call_id)
        shift = before.shift if before is not None and before.caller.tag == request.from_tag else None
        if shift is None or request.cseq_number + shift.offset >= LIMIT:
            return Shift()
        return shift

    def _admit(self, call: Call, request: Message, uri: Uri, flow: Flow, now: float) -> None:
        """The number may be called: the rest of what may be said of a call before it asks for what it needs."""
        outbound = call.direction == OUTBOUND
        refusal = judge(request, call.key, from_pbx=outbound)
        if refusal is not None and not outbound and call.free:
            refusal = None  # the authorities always get through
        if refusal is not None and not (refusal.rule == "I19" and call.passes(refusal, now)):
            call.refuse(refusal, now)
            return
        if uri.scheme == b"sips":
            call.groups, call.steps = secure_only(call.groups) if flow.listener.secure else (), ()
            if not call.groups:
                call.refuse(NOT_SECURE, now)
                return
        if any(len(group) > 1 for group in call.groups):
            code = self._prepare_fork(call, request)
            if code:
                call.record.reason = "the call came back to where it was forked" if code == 482 else ""
                call.answer(code, [], now)
                return
        call.ask(now)

    def _prepare_fork(self, call: Call, request: Message) -> int:
        """What a proxy that forks must see to (RFC 5393): 482 for a call that has come back as it left (§4.2), and
        no more branches than Max-Breadth allows, 440 where that is none (§5.3.3). 0: all is well."""
        mark = self.core.signer.tag(request.uri, request.call_id, request.from_tag, request.value(TO))
        if any(mark in via for via in request.values(VIA)):
            return 482
        call.mark = b"." + mark
        written = request.header(b"max-breadth")
        breadth = int(written) if written.isdigit() and len(written) < 10 else MAX_BREADTH
        if breadth < 1:
            return 440
        cuts = [(n, i) for n, g in enumerate(call.groups) for i in range(0, len(g), breadth)]
        call.groups = [call.groups[n][i : i + breadth] for n, i in cuts]
        call.steps = tuple([call.steps[n] for n, _ in cuts]) if call.steps else ()
        each = b"Max-Breadth: %d" % max(1, breadth // max(map(len, call.groups)))
        assert call.routes is not None
        places = request.find(b"max-breadth")
        for i in places:
            call.routes.edits[i] = each
        if not places:
            i = request.at[CALL_ID]
            call.routes.edits[i] = b"%b\r\n%b" % (request.lines[i], each)
        return 0

    def _whose(self, request: Message, trunk: Trunk) -> tuple[Key, str, str] | None:
        """Whose number a call of the trunk is for, the number, and how it was written: P-Called-Party-ID, else the
        Request-URI, else To (some home gateways put the DID only there)."""
        for uri in (request.header(b"p-called-party-id"), request.uri, request.value(TO)):
            if not uri:
                continue
            try:
                number = read_uri(parse_name_addr(uri).uri if uri is not request.uri else uri)
            except Malformed:
                continue
            for canonical in (number.canonical, "+" + number.canonical):
                key = self.core.directory.key_of_number(canonical)
                if key is None or not key.takes_calls:
                    continue
                # A call back may come by the emergency route.
                if key.trunk.name == trunk.name or key.trunk.emergency is trunk:
                    return key, canonical, number.dialled
        return None

    def way_of(self, key: Key, number: str, asked: Uri, now: float) -> tuple[Groups, tuple[Step | None, ...]]:
        """Where a call for a number of a key goes, and which step of the number's route each group is."""
        route = key.routes.get(number) if key.routes is not None else None
        if route is None:
            return self._targets(key, number, asked), ()
        groups: list[Sequence[Target]] = []
        steps: list[Step | None] = []
        for step in route:
            if step.schedule is not None and not step.schedule.open_at(now + self.core.utc_offset):
                continue
            if step.onward:
                found: Groups = [(self.core.bridge.target(key, step.onward, b"unconditional"),)]
            elif step.site is not None:
                found = [
                    tuple(target.for_user(step.user) for target in group)
                    for group in step.site.groups(self.core.trunks.random)
                ]
            else:
                found = self._targets(key, number, asked)
            groups += found
            steps += [step] * len(found)
        return groups, tuple(steps)

    def _exempt(self, request: Message, key: Key) -> bool:
        """Whether a call in is counted and never refused: the authorities call back. That a header says so counts
        only of a trunk that is trusted with it (RFC 7090 §4.2, §5.3), for any caller can write one."""
        return key.trunk.psap_callback and request.header(b"priority").lower() == b"psap-callback"

    def _targets(self, key: Key, number: str, asked: Uri) -> Groups:
        """Where calls for a number of a key go; empty where nobody has registered."""
        if key.registered:
            return self.core.registrar.groups(key, number, asked)
        return self.core.trunks.pbx_groups(key)

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
            found = self._whose(request, peer.trunk)
            if found is None:
                self.core.dispatch.answer(request, server_key, 404, flow, now)
                return
            key, number, _ = found
            groups = self._targets(key, number, parse_uri(request.uri))
            if not groups:
                self.core.dispatch.answer(request, server_key, 480 if key.registered else 503, flow, now)
                return
            target = groups[0][0]
            uri = target.request_uri(parse_uri(request.uri))
            to, from_pbx, route = target.flow, False, target.route
            if key.registered:
                routes = called_party(request, routes)
        else:
            assert peer.key is not None
            key = peer.key
            verdict = key.dial.judge(read_uri(request.uri))
            if not verdict.allowed and (verdict.emergency or not key.shadow):
                refusal = Refusal(verdict.rule, verdict.reason, verdict.code)
                self.core.dispatch.answer(request, server_key, verdict.code, flow, now, refusal.headers())
                return
            groups = self.core.trunks.groups(key, now)
            if not groups:
                refusal = self.core.trunks.refusal(key, now)
                self.core.dispatch.answer(request, server_key, refusal.code, flow, now, refusal.headers())
                return
            target = groups[0][0]
            uri = self.core.trunk_uri(parse_uri(request.uri), target.hostport, key.trunk)
            to, from_pbx, route = target.flow, True, b""
        suspended = self.core.suspensions.of(key.id, now) if request.method != b"OPTIONS" else None
        if suspended is not None:
            refusal = suspension.refusal(suspended)
            told = refusal.headers() if from_pbx else []
            self.core.dispatch.answer(request, server_key, refusal.code, flow, now, told)
            return
        if uri.startswith(b"sips:") and not (flow.listener.secure and to.listener.secure):
            self.core.dispatch.answer(
                request, server_key, 480, flow, now, NOT_SECURE.headers() if from_pbx else []
            )
            return
        refused = judge(request, key, from_pbx=from_pbx)
        if refused is not None and not (key.shadow and refused.rule == "I19"):
            told = refused.headers() if from_pbx else []
            self.core.dispatch.answer(request, server_key, refused.code, flow, now, told)
            return
        if request.marked:
            routes.edits.update(self.core.directory.edge.edits(request, key, from_pbx=from_pbx))
        passage = None
        if from_pbx and key.trunk.account is not None:
            shift = self.core.shifts.of(request.call_id, request.from_tag)
            passage = Passage(key.trunk.account, shift, request, routes)
            if not passage.raised:
                self.core.dispatch.answer(request, server_key, 500, flow, now, [USED_UP])
                return
        server = self.core.layer.open_server(request, server_key, reply_flow(request, flow), now)
        relay = Relay(self.core, request, server, None, None, None, from_pbx, key)
        relay.passage = passage
        text = self._dialog_token(key, from_pbx, (flow, to) if from_pbx else (to, flow), request)
        route = key.trunk.service_route if from_pbx else route
        self.core.start(relay, request, uri, text, flow, to, routes, hops, now, route=route)

    def _dialog_token(self, key: Key, from_pbx: bool, ends: tuple[Flow, Flow], request: Message) -> bytes:
        """A token for a dialog that is no call (SUBSCRIBE). `ends`: the flows to the PBX and to the trunk."""
        pbx, trunk = ends
        direction = OUTBOUND if from_pbx else INBOUND
        at, to = pbx.listener.index, trunk.listener.index
        token = Token(direction, key.tag, 0, at, to, 0, pbx.host, pbx.port)
        return self.core.signer.make(token, request.call_id, request.from_tag)


def _unwelcome(key: Key, number: str, utc: float) -> Refusal | None:
    """Why the called party is not to be called (T14), or not now (T15); None where it may be."""
    if key.consent is not None and number not in key.consent:
        return Refusal("T14", "the number is not on the consent list", 403)
    quiet = key.quiet_hours.judge(number, utc) if key.quiet_hours is not None else ""
    return Refusal("T15", quiet, 403) if quiet else None


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
