"""The gate without its sockets: bytes and times go in, commands come out.

    receive(data, flow, now)            a datagram or a framed message came in
    resume(claim_id, verdict, now)      the store has answered
    sent(claim_id, now)                 the shell has handed an initial INVITE to the kernel
    unreachable(data, now)              the transport could not deliver this request of ours
    closed(flow, now)                   a connection has ended
    drain(now)                          no new calls from now on
    tick(now), next_deadline            time has passed; when to call again
    clock(utc_offset, now)              the wall clock, at the start and whenever it steps
    commands()                          what to carry out, in order

`now` is `time.monotonic()` as the shell reads it. Nothing in here knows any other clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain
from random import getrandbits, random

from callgate.bridge.endpoint import Endpoint
from callgate.policy.claim import NO_ANSWER, Claim, Verdict
from callgate.proxy.alerts import Alerts
from callgate.proxy.answer import reply
from callgate.proxy.around import Around
from callgate.proxy.auth import Auth
from callgate.proxy.call import Call
from callgate.proxy.call_ids import CallIds
from callgate.proxy.challenges import Challenges
from callgate.proxy.commands import Alert, Command, Hangup, Release
from callgate.proxy.context import Context, Phase
from callgate.proxy.counts import Counts
from callgate.proxy.cseq import Shifts
from callgate.proxy.dialog import Stage
from callgate.proxy.directory import Directory
from callgate.proxy.dispatch import Dispatch
from callgate.proxy.emergency import Emergency
from callgate.proxy.flow import UNKNOWN, Flow, Listener, Trouble
from callgate.proxy.forward import (
    Routes,
    request_out,
    without_own_maddr,
)
from callgate.proxy.forwards import Forwards
from callgate.proxy.foundling import Adoption
from callgate.proxy.hangup import HangUp
from callgate.proxy.holding import Holds
from callgate.proxy.inside import Inside
from callgate.proxy.journal import Rows
from callgate.proxy.lanes import Asker
from callgate.proxy.late import LateAnswers
from callgate.proxy.meters import Meters
from callgate.proxy.observer import Observer
from callgate.proxy.outside import Outside
from callgate.proxy.pacing import Pacing
from callgate.proxy.peers import Key, Trunk
from callgate.proxy.places import Random
from callgate.proxy.recordings import Recordings
from callgate.proxy.registrar import Registrar
from callgate.proxy.registration import Registrations
from callgate.proxy.relay import Relay, Way
from callgate.proxy.siprec import Reach
from callgate.proxy.streams import Streams
from callgate.proxy.suspension import Suspensions
from callgate.proxy.sweep import Sweep
from callgate.proxy.token import Signer
from callgate.proxy.transactions import CANCEL_MARK, Transactions, server_key
from callgate.proxy.trunks import Trunks
from callgate.proxy.vitals import Tally, ask
from callgate.proxy.wheel import Wheel
from callgate.sip.errors import Malformed
from callgate.sip.fields import COOKIE
from callgate.sip.message import (
    FROM,
    VIA,
    Message,
    parse,
)
from callgate.sip.transaction import NEVER
from callgate.sip.uri import Uri

DATAGRAM_MAX = 1300
"""Octets of a request beyond which it goes over a stream (RFC 3261 §18.1.1)."""
TWINS_MAX = 10_000
"""Twins of claims without an answer that are remembered, to be given back with a late grant: of those before them the
lease does it."""


class Core:
    """`first_id`: where the numbers of legs begin, 64 bits, different at every start. `started`: when. `dice`: a
    number from 0 to 1 at each call."""

    def __init__(
        self,
        directory: Directory,
        signer: Signer,
        meters: Meters,
        first_id: int,
        started: float,
        dice: Random = random,
    ) -> None:
        self.out: list[Command] = []
        self.directory = directory
        self.signer = signer
        self.counts = Counts(meters)
        self.counts.prepare(directory)
        self.alerts = Alerts(self.out, self.counts)
        self.around = Around(self.alerts)
        self.errors: list[Exception] = []  # bugs of ours, for the shell to report
        self.wheel = Wheel(started, self.errors)
        self.layer = Transactions(self.wheel, self.out, self.counts.sent)
        self.draining = False
        self.journals = True  # whether there is somebody to write rows down
        self.rows = Rows()
        self.utc_offset = 0.0
        self.by_token: dict[bytes, Call] = {}
        self.by_call_id = CallIds()
        # Claim of an unanswered INVITE → when its last copy left; minus its arrival here until the first has.
        self.sent_at: dict[int, float] = {}
        self._id = self._first_id = first_id & 0x7FFFFFFFFFFFFFFF
        self.live_calls = 0  # calls that hold something or wait for an answer
        self._branch = 0
        # Claims that the store has not answered, and until when; their twins, also after that: a late grant is of both.
        self._asked: dict[int, tuple[Asker, float]] = {}
        self._twins: dict[int, int] = {}
        self._asked_order: deque[tuple[float, int]] = deque()
        self._touched: set[str] = set()
        self.challenges = Challenges(self.wheel, self.counts.ended)
        self.streams = Streams()
        self.auth = Auth(self)
        self.shifts = Shifts()
        self.pacing = Pacing(self, self.counts.queued)
        self.registrar = Registrar(self)
        self.dispatch = Dispatch(self)
        self.emergency = Emergency(self)
        self.observer = Observer(self)
        self.outside = Outside(self)
        self.inside = Inside(self)
        self.late = LateAnswers(self)
        self.bridge = Endpoint(self)
        self.forwards = Forwards(self)
        self.holds = Holds(self)
        self.recordings = Recordings(self)
        self.recorders = Reach(self)
        self.adoption = Adoption(self, started)
        self.trunks = Trunks(self, dice)
        self.trunks.begin(started)
        self.registrations = Registrations(self, directory.trunks.values())
        self.suspensions = Suspensions(self)

    # -- what the shell calls ----------------------------------------------------------------------------

    def commands(self) -> list[Command]:
        """Everything to carry out since the last call, in order."""
        out = self.out[:]
        self.out.clear()
        return out

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """Take one message as it came off the wire. Never raises."""
        if len(data) <= 4 and not data.strip(b"\r\n\0 "):
            return  # a keep-alive (RFC 5626 §4.4)
        try:
            message = parse(data, self.directory.edge.names)
        except Malformed:
            if data[0] < 4 and self.registrar.keeps_alive(data, flow):
                return
            self.counts.rejected("unreadable")
            return
        if message.code:
            self.dispatch.response(message, flow, now)
        else:
            try:
                self.dispatch.request(message, flow, now)
            except Exception as error:
                self.errors.append(error)
                self._give_up(message, now)

    def _give_up(self, request: Message, now: float) -> None:
        """A bug of ours has met a request: its caller gets an answer, and nothing is held for it."""
        server = self.layer.servers.get(server_key(request, request.via)) if request.via is not None else None
        if server is None or server.request is None:
            return
        if isinstance(server.user, Call):
            server.user.end(now, "gate")
        self.layer.respond(server, 500, reply(request, 500, self.answer_tag(request)), now)

    def broken(self, head: bytes, flow: Flow, now: float) -> None:
        """A stream can't be framed any more: answer what can be answered, then close it (RFC 4475 §3.1.2.3)."""
        try:
            message = parse(head) if head else None
        except Malformed:
            message = None
        if message is not None and not message.code:
            message.faults.append("Content-Length makes no sense")
            self.dispatch.request(message, flow, now)
        else:
            self.counts.rejected("framing")
        self.out.append(Hangup(flow))

    def resume(self, claim_id: int, verdict: Verdict, now: float) -> None:
        """The store's answer. One that nobody waits for any more is given back."""
        asked = self._asked.pop(claim_id, None)
        twin = self._twins.pop(claim_id, 0) if self._twins else 0
        if asked is not None:
            asked[0].on_verdict(claim_id, verdict, now)
        elif verdict.granted:
            self.out.append(Release(claim_id))
            if twin:
                self.out.append(Release(twin))

    def sent(self, claim_id: int, now: float) -> None:
        """The kernel has taken a copy of an initial INVITE."""
        if claim_id in self.sent_at:
            if self.sent_at[claim_id] < 0.0:
                self.counts.added(now + self.sent_at[claim_id])
            self.sent_at[claim_id] = now

    def unreachable(self, data: bytes, now: float, trouble: Trouble = UNKNOWN) -> None:
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
            self.layer.failed(client, now, trouble)
        elif head.startswith(b"ACK ") and (instead := self.streams.undelivered(branch, now)) is not None:
            self.out.append(instead)

    def closed(self, flow: Flow, now: float) -> None:
        """A connection has ended, whoever closed it."""
        self.registrar.closed(flow)
        self.pacing.closed(flow.connection, now)

    def drain(self, now: float) -> None:
        """Refuse new calls from now on, those that wait for a token too; calls that are up go on."""
        self.draining = True
        self.pacing.drain(now)

    def tick(self, now: float) -> None:
        """Do what has become due."""
        while self._asked_order and self._asked_order[0][0] <= now:
            deadline, claim_id = self._asked_order.popleft()
            asked = self._asked.get(claim_id)
            if asked is not None and asked[1] == deadline:  # else it was answered, and perhaps asked again
                del self._asked[claim_id]
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
        self.suspensions.clock()

    def take_touched(self) -> set[str]:
        """The keys that have put a claim since the last time."""
        touched, self._touched = self._touched, set()
        return touched

    # -- what calls use ----------------------------------------------------------------------------------

    def next_id(self) -> int:
        self._id += 1
        return self._id

    def began_here(self, leg: int) -> bool:
        """Whether a leg's number was given since the start: then the gate knows all there is to know of it."""
        return self._first_id < leg <= self._id

    def branch(self, listener: Listener, token: bytes, mark: bytes = b"") -> tuple[bytes, bytes]:
        """A new branch (without the magic cookie: what finds the transaction) and the Via line that carries it."""
        self._branch += 1
        branch = b"%b.%x%08x%b" % (
            token,
            self._branch,
            getrandbits(32),
            mark,
        )  # not to be guessed from others
        return branch, listener.via + branch

    def answer_tag(self, request: Message) -> bytes:
        """The To tag of the gate's own answer to a request, the same for each of its copies."""
        return self.signer.tag(request.call_id, request.value(FROM), request.value(VIA))

    def ask(self, who: Asker, key: Key, claim: Claim, now: float) -> None:
        """Put a claim to the store; `who.on_verdict` hears its answer, or that there was none in time."""
        self._asked[claim.id] = who, claim.deadline
        if claim.twin is not None:
            self._twins[claim.id] = claim.twin.id
            if len(self._twins) > TWINS_MAX:
                del self._twins[next(iter(self._twins))]  # the oldest
        self._asked_order.append((claim.deadline, claim.id))
        self._touched.add(key.id)
        self.out.append(claim)

    def ask_patiently(self, who: Asker, key: Key, claim: Claim) -> None:
        """Put a claim that is granted whatever the limit: the answer may take its time."""
        self._asked[claim.id] = who, NEVER
        self._touched.add(key.id)
        self.out.append(claim)

    def connections_in_use(self) -> set[int]:
        """The numbers of the connections that calls and registered phones rely on. Looks at every call: not for the
        path of a message."""
        return self.registrar.bindings.connections() | {
            side.flow.connection
            for call in self.live()
            for side in (call.caller, *call.callees)
            if side.flow.connection
        }

    def lease_ended(self, claim_id: int, now: float) -> None:
        """The store has taken back what a call held that nothing shows to live: a bug, for each call ends before that.
        It is over, and no gauge goes on counting it."""
        for call in self.live():
            if call.leg == claim_id:
                call.record.reason = "nothing was heard of it for longer than any call may last"
                call.end(now, "gate")

    def keep_all(self, now: float) -> None:
        """Write down every call anew: the journal has missed something."""
        for call in set(self.by_token.values()):
            call.keep(now)

    def hang_up(self, call: Call, now: float) -> None:
        """End a call that is up: BYE to both ends of each of its dialogs, once."""
        up = [side for side in call.callees if side.stage is Stage.UP]
        for side in up:
            if side.vitals is not None:
                side.vitals = None
                HangUp(call, side).start(self, now)
        if not up:
            call.end(now, "gate")  # its 2xx had no To tag (RFC 2543): there is no dialog to end

    def end_call(self, call: Call, rule: str, why: str, now: float) -> bool:
        """Hang up a call that is up; its record tells why. False where the gate does so already."""
        up = [side for side in call.callees if side.stage is Stage.UP]
        if up and not any(side.vitals is not None for side in up):
            return False
        record = call.record
        record.reason = why
        if rule:
            record.rule, record.shadow = rule, False
        self.hang_up(call, now)
        return True

    def current(self, key: Key) -> Key:
        """What a key is held to by the present config; a call that is up may have an earlier one's object."""
        return self.directory.keys.get(key.id, key)

    def held_to(self, call: Context) -> Key:
        """What a call that has left is held to from now on: its key as it is in the present config; as it was where
        that has another trunk by now, or none."""
        key = self.current(call.key)
        return key if key.trunk.name == call.key.trunk.name else call.key

    def live(self) -> Iterator[Call]:
        """The calls that are up or set up when the first is asked for, and are not over when their turn comes."""
        seen: set[int] = set()
        for call in chain(list(self.by_call_id.every()), list(self.by_token.values())):
            if call.phase is not Phase.OVER and call.leg not in seen:
                seen.add(call.leg)
                yield call

    def find_calls(self, text: str) -> list[Call]:
        """The live calls with that Call-ID, the latest first, or the one with that number of its record (16 hex
        digits). Looks at every call."""
        found = self.by_call_id.all(text.encode("utf-8", "surrogateescape"))
        live = [call for call in found if call.phase is not Phase.OVER]
        return live or [call for call in self.live() if f"{call.record.id:016x}" == text]

    def free_lines(self, call: Call, why: str, now: float) -> None:
        """Give back what a call that is up holds, though it goes on."""
        call.record.reason = why
        call.copies.release(call)
        call.parts = ()  # a restart must not count it again
        self.recordings.ended(call, now)
        call.keep(now)

    def end_early(self, call: Call, why: str, now: float) -> bool:
        """End a call, up or not. False where it is ending already."""
        if call.phase is Phase.UP:
            return self.end_call(call, "", why, now)
        if call.server is None or call.cancelled or call.phase is Phase.OVER:
            return False
        call.nowhere(480, why, now)
        return True

    def reconcile(self, now: float) -> tuple[Sweep, Tally]:
        """Ask both sides of every call that is up whether it still is. What is returned is at work, and counts what
        comes back."""
        tally = Tally()
        return Sweep(self, self.live(), lambda call, at: ask(call, tally, at), now), tally

    def forget(self, call: Call) -> None:
        """An ended call need not be remembered any more."""
        for text in call.tokens:
            self.by_token.pop(text, None)
        self.by_call_id.drop(call)
        self.bridge.forget(call)

    def trunk_uri(self, dialled: Uri, hostport: bytes, trunk: Trunk) -> bytes:
        """The Request-URI towards a gateway: the raw user part, the gateway's host and transport (numbering
        japan); unchanged unless it names the gate (any)."""
        if trunk.any_number and not (
            dialled.host and self.directory.is_own(dialled.bare_host, dialled.default_port)
        ):
            return without_own_maddr(dialled, self.directory)
        user = dialled.user + b"@" if dialled.user else b""
        if dialled.scheme == b"urn" or (not user and dialled.scheme == b"tel"):
            return dialled.raw
        phone = dialled.scheme == b"tel" or (dialled.params and dialled.param(b"user") == b"phone")
        scheme = b"sips" if dialled.scheme == b"sips" else b"sip"
        return b"%b:%b%b%b" % (scheme, user, hostport, b";user=phone" if phone else b"")

    def alert(self, alert: Alert, now: float, *, each: bool = False) -> None:
        """Tell a person."""
        if self.alerts.raised(alert, now, each=each):
            self.wheel.add(self.alerts)

    def start(
        self,
        relay: Relay,
        request: Message,
        uri: bytes,
        token: bytes,
        came: Flow | None,
        to: Flow,
        routes: Routes,
        hops: int,
        now: float,
        *,
        route: bytes = b"",
    ) -> None:
        """Forward a request that has a server transaction; with `came`, recording the route (RFC 3261 §16.6 step
        4); `route`: a Route value to put on top."""
        if relay.passage is not None:
            relay.way = Way(request, uri, token, came, to, routes, hops, route)
            routes = relay.passage.routes()
        flow, branch, data = self.compose(request, uri, token, to, routes, hops, now, came=came, route=route)
        if flow is not to:  # there may be no stream to be had: then again as a datagram
            _, other, again = self.compose(
                request, uri, token, to, routes, hops, now, came=came, route=route, by_datagram=True
            )
            relay.datagram = (again, other, to)
        relay.start(data, branch, flow, now)

    def compose(
        self,
        request: Message,
        uri: bytes,
        token: bytes,
        to: Flow,
        routes: Routes,
        hops: int,
        now: float,
        *,
        came: Flow | None = None,
        route: bytes = b"",
        mark: bytes = b"",
        by_datagram: bool = False,
    ) -> tuple[Flow, bytes, bytes]:
        """A request as it leaves towards `to`, with a branch of its own: (flow, branch, message). The flow is a
        stream to the same peer where the message is too large for a datagram (RFC 3261 §18.1.1), unless
        `by_datagram`. `came`: record the route, for who sent it from there. `route`: a Route value to put on top.
        `mark` ends the branch."""
        branch, via = self.branch(to.listener, token, mark)
        above = b""
        if came is not None:
            secure = uri[:5].lower() == b"sips:"
            inner = to.listener.inner
            above = (came if inner else to).listener.record(token, secure)
            if came.listener is not to.listener and not (
                inner or came.listener.inner
            ):  # RFC 5658: one for each side
                above += b"\r\n" + came.listener.record(token, secure)
        if route:
            above += b"\r\nRoute: " + route if above else b"Route: " + route
        data = request_out(request, uri, via, above, routes.edits, hops, stream=to.listener.reliable)
        if len(data) > DATAGRAM_MAX and not (to.listener.reliable or by_datagram or to.pinned):
            stream = self.streams.instead_of(to, self.directory, now)
            if stream is not None:
                return self.compose(
                    request, uri, token, stream, routes, hops, now, came=came, route=route, mark=mark
                )
        return to, branch, data
