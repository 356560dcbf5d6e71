"""A world for call-flow tests: one Core, a store, a PBX and a carrier. Time is passed in; nothing waits.

A ladder reads from top to bottom:

    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.after(1.5)
    world.holds(outbound_calls=1)

`ends` closes every ladder (`conftest.py` calls it): nothing came that nobody asked for, the store holds nothing, and
after some minutes of silence the core has forgotten everything and left no cycle for the collector.
"""

from __future__ import annotations

import gc
import marshal
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from tests.proxy import rules
from tests.proxy.agent import Agent
from tests.proxy.stores import Kind, Watched
from tests.proxy.text import Text, sent_by, via_param

from callgate.config.profiles import load_profile
from callgate.policy.claim import Claim, Verdict
from callgate.policy.dial import DialRules
from callgate.policy.more import More
from callgate.policy.parts import parts_of, window_of
from callgate.policy.profile import Limits
from callgate.proxy.bindings import Room, Row
from callgate.proxy.commands import (
    Alert,
    Arrived,
    Hangup,
    Journal,
    Keep,
    Note,
    Record,
    Release,
    Renew,
    Resolve,
    Send,
    Suspended,
    Withdraw,
)
from callgate.proxy.core import Core
from callgate.proxy.directory import Directory, Probing
from callgate.proxy.flow import Flow, Listener
from callgate.proxy.health import NO_OPTIONS, Rules
from callgate.proxy.journal import LASTS, OVER
from callgate.proxy.journal import Row as JournalRow
from callgate.proxy.login import Account
from callgate.proxy.meters import Meters
from callgate.proxy.peers import Gateway, Key, Numbers, Route, Trunk
from callgate.proxy.places import Place
from callgate.proxy.record import CallRecord
from callgate.proxy.registration import Wanted
from callgate.proxy.restore import GONE, Restorer, Taken, fold
from callgate.proxy.siprec import Recorders
from callgate.proxy.suspension import Suspension
from callgate.proxy.targets import Target
from callgate.proxy.token import Signer
from callgate.sip.uri import parse_uri

DID = "+815012345678"
DIALLED = "0312345678"
SECRET = b"the secret of the ladders, 32 by"
PHONES = "192.0.2.64/26"
"""Where the phones of a key are that has no PBX of its own."""
QUIET = 400.0
"""Seconds of silence after which nothing may be left of any call."""
NO_PROBES = Probing(interval=1e8)
NUMBERS = load_profile("standard", Path(".")).numbers


class World:
    """`cps` … `max_call_seconds` are the limits of the key `acme`; `gateways` how many the trunk `carrier` has;
    `pbx_over` and `carrier_over` UDP, TCP or TLS; `listens`: further transports of the gate; `phones`: so many ring at
    once for a call in; `fresh`: the gate has only just started; `trusted`, `caller_ids` and `only_number` are the
    key's, `secret_headers` what proves a key. `rules`: how the health of a gateway is judged; `trunk_name` and
    `pbx_name`: they are given by name, and `located` says where they are; `dice` decides what is left to chance.
    `queue_seconds`: calls over the rate wait so long; `trunk_limits`: the trunk's own.
    Nobody is asked whether he still lives, unless by `probing`. `registered`: calls in go to whoever has
    registered (`tests.proxy.phones`), and `room` is what the registrar grants. `emergency`: its calls are carried by
    the `carrier` itself, or by a `route` of so many gateways; `dids`: further numbers of the key. `recordings` may be
    recorded at once, and with a `recorder` there is a recording server `srs`. What
    else the key has goes to it as it is."""

    def __init__(
        self,
        store: Kind,
        *,
        gateways: int = 1,
        cps: int | None = 50,
        inbound_calls: int | None = 20,
        outbound_calls: int | None = 20,
        calls: int | None = 40,
        forwarded_calls: int | None = None,
        lines: int | None = None,
        route: Route | None = None,
        max_call_seconds: float | None = None,
        hold_alert_seconds: float | None = None,
        hold_release_seconds: float | None = None,
        try_seconds: float = 4.0,
        upstream_503: str = "500",
        psap_callback: bool = False,
        account: Account | None = None,
        register: Wanted | None = None,
        any_number: bool = False,
        pbx_over: str = "UDP",
        carrier_over: str = "UDP",
        pbx_host: str = "192.0.2.10",
        carrier_hosts: tuple[str, ...] = ("198.51.100.1", "198.51.100.2", "198.51.100.3"),
        fresh: bool = False,
        listens: tuple[str, ...] = (),
        phones: int = 0,
        trusted: bool = True,
        caller_ids: tuple[str, ...] | None = None,
        only_number: str = "",
        secret_headers: tuple[str, ...] = (),
        rules: Rules = NO_OPTIONS,
        trunk_name: str = "",
        pbx_name: str = "",
        dice: Callable[[], float] = lambda: 0.0,
        probing: Probing = NO_PROBES,
        registered: bool = False,
        room: Room | None = None,
        emergency: str = "",
        emergency_gateways: int = 1,
        emergency_code: int = 503,
        dids: tuple[str, ...] = (),
        queue_seconds: float | None = None,
        trunk_limits: Limits | None = None,
        more: tuple[More, ...] = (),
        recordings: int | None = None,
        recorder: bool = False,
        **key_has: Any,
    ) -> None:
        self.now = self.started = 1000.0
        self.listeners = self._listeners(
            {pbx_over, carrier_over, *listens}, {pbx_host, *carrier_hosts[:gateways]}
        )
        self.gate = "127.0.0.1:5060"
        self.labels: dict[str, str] = {}
        self.calls = 0
        self.lines: list[str] = []
        self.records: list[CallRecord] = []
        self.alerts: list[Alert] = []
        self.hung_up: list[Flow] = []
        self.resolves: list[Gateway | Key] = []  # who is to be looked up anew
        self.by_branch: dict[tuple[str, str], Text] = {}
        self.branches: set[str] = set()
        self.arrived: dict[tuple[str, str, str, str], Text] = {}
        self.answers: dict[tuple[str, str, int], list[Text]] = {}
        self.kept: dict[tuple[str, bytes], tuple[Row, ...]] = {}  # what is registered, as the disk has it
        self.suspended: tuple[Suspension, ...] = ()  # as the disk has it
        self.notes: list[Note] = []
        self.made: list[object] = []  # by reloads
        self.journal: list[tuple[float, JournalRow]] = []  # what was written down, and when
        self.former: list[object] = []  # before a restart: a process ends with all its memory
        self.ended = False
        self.stalled: list[Send] | None = None  # INVITEs behind unsent bytes of a stream

        trunk = self.trunk = Trunk(
            "carrier",
            any_number=any_number,
            try_seconds=try_seconds,
            upstream_503=upstream_503,
            psap_callback=psap_callback,
            rules=rules,
            account=account,
            register=register,
            emergency_code=emergency_code,
        )
        self.gateways: list[Agent] = []
        for n, host in enumerate(carrier_hosts[:gateways]):
            agent = self._agent("carrier" if not n else f"carrier{n + 1}", host, 5080, carrier_over)
            self.gateways.append(agent)
            bracketed = f"[{host}]" if ":" in host else host
            suffix = "" if carrier_over == "UDP" else f";transport={carrier_over.lower()}"
            uri = parse_uri(f"sip:{bracketed}:5080{suffix}".encode())
            if not trunk_name:
                trunk.gateways.append(Gateway(n, uri, Flow(agent.flow.listener, host, 5080), trunk))
        if trunk_name:
            trunk.gateways.append(Gateway(0, parse_uri(trunk_name.encode()), None, trunk))
        self.carrier = self.gateways[0]
        self.routes: list[Agent] = []  # the gateways of the emergency route
        trunks = [trunk]
        if emergency:
            trunk.emergency = trunk if emergency == "carrier" else Trunk("emergency", rules=rules)
            if trunk.emergency is not trunk:
                trunks.append(trunk.emergency)
                for n in range(emergency_gateways):
                    agent = self._agent(f"route{n + 1}", f"203.0.113.{n + 1}", 5080, "UDP")
                    uri = parse_uri(f"sip:{agent.flow.host}:5080".encode())
                    trunk.emergency.gateways.append(Gateway(n, uri, agent.flow, trunk.emergency))
                    self.routes.append(agent)
        self.pbx = self._agent("pbx", pbx_host, 5070, pbx_over)
        self.stranger = self._agent("stranger", "203.0.113.66", 5060, "UDP")
        self.phones = [self._agent(f"phone{n}", f"192.0.2.{50 + n}", 5070, "UDP") for n in range(phones)]
        self.srs = self._agent("srs", "203.0.113.80", 5060, "UDP")
        self.agents = [self.srs, self.pbx, *self.gateways, *self.routes, self.stranger, *self.phones]

        limits = Limits(
            outbound_cps=cps,
            on_rate_exceeded="reject" if queue_seconds is None else "queue",
            queue_seconds=queue_seconds or 0.0,
            inbound_calls=inbound_calls,
            outbound_calls=outbound_calls,
            calls=calls,
            forwarded_calls=forwarded_calls,
            lines=lines,
            recordings=recordings,
            more=more,
        )
        shared = trunk_limits or Limits()
        trunk.window = window_of("carrier", shared)
        parts = parts_of("acme", limits, "carrier", shared, trunk.window)
        key = self.key = Key(
            "acme",
            trunk,
            DialRules(NUMBERS, "any" if any_number else "japan"),
            **parts._asdict(),
            words={one.rule: one.what for one in (*more, *shared.more)},
            queue_seconds=limits.queue_seconds if limits.queues else None,
            networks=[ip_network(pbx_host), *((ip_network(PHONES),) if registered else ())],
            pbx=None if pbx_name or registered else Flow(self.pbx.flow.listener, pbx_host, 5070),
            pbx_uri=None
            if registered
            else parse_uri((pbx_name or self.pbx.contact[1:-1].replace("pbx@", "")).encode()),
            registered=registered,
            max_call_seconds=max_call_seconds,
            hold_alert_seconds=hold_alert_seconds,
            hold_release_seconds=hold_release_seconds,
            trusted=trusted,
            only_number=only_number,
            **key_has,
        )
        if recorder:
            key.recorders = Recorders([ip_network("203.0.113.80")])
        if phones:
            key.pbx_groups = (tuple([_device(phone) for phone in self.phones]),)
        if caller_ids is not None:
            key.caller_ids = Numbers()
            for number in caller_ids:
                first, _, last = number.partition("-")
                key.caller_ids.add(first, last or first, key)
        if route is not None:
            key.routes = Numbers()
            key.routes.add(DID, DID, route)
        numbers: Numbers[Key] = Numbers()
        for number in (DID, *dids):
            numbers.add(number, number, key)
        self.meters = Meters([0.0] * 4000)
        self.secret_headers = secret_headers
        self.realm = ""  # of the gate's own digest: credentials for it go no further
        self.directory = Directory(
            self.listeners,
            trunks,
            [key],
            numbers,
            secret_headers=secret_headers,
            probing=probing,
            room=room,
        )
        self.core = Core(self.directory, Signer(SECRET), self.meters, 1 << 40, self.now, dice)
        self._hears_the_endpoint()
        self.store = Watched(store, self.now if fresh else self.now - 10.0, self._answered)
        gc.disable()
        gc.freeze()  # so that the collection at the end looks at what this ladder made, and is quick

    def restarts(self, secret: bytes = SECRET) -> None:
        """Another gate takes this one's place: same config, perhaps the same secret, no memory of any call."""
        self.note("-- restart --")
        self.meters = Meters([0.0] * 4000)
        self.former += [self.core, self.store]
        first = (1 << 41) + (len(self.former) << 32)
        self.core = Core(self.directory, Signer(secret), self.meters, first, self.now)
        self._hears_the_endpoint()
        self.store = Watched(self.store.kind, self.now, self._answered)
        self.by_branch.clear()
        self.branches.clear()
        for rows in self.kept.values():
            for row in rows:
                self.core.registrar.restore(row, self.now)
        self.core.suspensions.restore(self.suspended, self.now)

    def crashes(self, away: float = 0.5, *, lost: float = 0.0, shift: float = 0.0) -> Taken:
        """kill -9 and a new start on the same state, `away` seconds later. `lost`: the journal's last commit is so old;
        `shift`: the new start's clock runs so many seconds ahead of the old one's."""
        kept = [row for at, row in self.journal if at <= self.now - lost]
        over = {row[1] for row in kept if row[0] == OVER}
        self.now += away + shift
        self.started += shift
        for agent in self.agents:
            agent.inbox = [(at + shift, text) for at, text in agent.inbox]
        self.restarts()
        self.core.adoption.over = over
        restorer = Restorer(self.core, [x.name for x in self.listeners], shift=shift)
        taken = restorer.restore(fold(row for row in kept if row[0] != LASTS), self.now)
        for _, _, at, ((_, _, seconds, key, number),) in (row for row in kept if row[0] == LASTS):
            self.core.emergency.recall(key, number, at + shift + seconds)
        self.note(f"-- taken up: {taken}")
        self.carries_out()
        return taken

    def _listeners(self, transports: set[str], hosts: set[str]) -> list[Listener]:
        found = [Listener(0, b"UDP", "127.0.0.1", 5060)]
        if "TCP" in transports:
            found.append(Listener(len(found), b"TCP", "127.0.0.1", 5060))
        if "TLS" in transports:
            found.append(Listener(len(found), b"TLS", "127.0.0.1", 5061))
        if any(":" in host for host in hosts):
            found.append(Listener(len(found), b"UDP", "::1", 5060))
        return found

    def _agent(self, name: str, host: str, port: int, transport: str) -> Agent:
        family = 6 if ":" in host else 4
        listener = next(x for x in self.listeners if x.transport.decode() == transport and x.family == family)
        if transport == "UDP":
            return Agent(self, name, Flow(listener, host, port), port)
        return Agent(self, name, Flow(listener, host, 33000 + port, connection=port), port)

    # -- what the sides need -------------------------------------------------------------------------------

    def default_number(self, agent: Agent) -> str:
        return DID if agent in (*self.gateways, *self.routes) else DIALLED

    def caller_number(self, agent: Agent) -> str:
        return "0398765432" if agent in (*self.gateways, *self.routes) else "1001"

    def is_inside(self, text: Text) -> bool:
        return any(t.to_tag for k, t in self.arrived.items() if k[:2] == (text.call_id, text.get("cseq")))

    # -- the shell -----------------------------------------------------------------------------------------

    def _hears_the_endpoint(self) -> None:
        """What the gate's own endpoint sends into the core comes from somewhere too."""
        bridge = self.core.bridge
        says = bridge._say

        def heard(data: bytes, key: Key, now: float) -> None:
            self.arrives("endpoint", Text(data))
            says(data, key, now)

        bridge._say = heard  # type: ignore[method-assign]

    def arrives(self, sender: str, text: Text) -> None:
        self.note(f"{sender} >> {text!r}")
        if text.code:
            self.answers.setdefault((text.call_id, text.get("cseq"), text.code), []).append(text)
        else:
            via = text.via
            self.arrived[text.call_id, text.get("cseq"), sent_by(via), via_param(via, "branch")] = text

    def deliver(self, sender: Agent, data: bytes, flow: Flow) -> None:
        """A message reaches the gate."""
        try:
            self.arrives(sender.name, Text(data))
        except (ValueError, IndexError):
            self.note(f"{sender.name} >> {data[:40]!r}")
        self.core.receive(data, flow, self.now)
        self.carries_out()

    def carries_out(self) -> None:
        """What `net.gate` does at the end of a turn."""
        out = self.core.out
        for command in out:  # what the store's answers add comes in the same turn
            match command:
                case Send() if command.claim and self.stalled is not None:
                    self.stalled.append(command)
                case Send() if command.flow.listener.inner:
                    self.core.bridge.receive(command.data, self.now)
                case Send():
                    self.post(command)
                case Withdraw():
                    kept = [x for x in self.stalled or () if x.claim != command.claim_id]
                    self.stalled = kept if self.stalled is not None else None
                case Claim():
                    self.store.claim(command, self.now)
                case Arrived():
                    self.store.sent(command.claim_id, self.now)
                case Release():
                    self.store.release(command.claim_id, self.now)
                case Renew():
                    self.store.renew(command.claim_id, command.lease, self.now)
                case Record():
                    self.records.append(command.record)
                case Alert():
                    self.alerts.append(command)
                case Note():
                    self.notes.append(command)
                case Journal():
                    # As the file has it: plain values, of which nothing changes afterwards.
                    self.journal.append((self.now, marshal.loads(marshal.dumps(command.row, 4))))
                case Keep():
                    self.kept[command.key, command.user] = command.rows
                case Suspended():
                    self.suspended = command.rows
                case Resolve():
                    self.resolves.append(command.who)
                case Hangup():
                    self.hung_up.append(command.flow)
        out.clear()
        if self.core.errors:  # the shell reports them and goes on; here they end the ladder
            raise self.core.errors[0]

    def _answered(self, claim_id: int, verdict: Verdict, now: float) -> None:
        self.core.resume(claim_id, verdict, now)
        if not self.store.kind.same_turn:
            self.carries_out()

    def post(self, send: Send) -> None:
        text = Text(send.data)
        flow = send.flow
        receiver = next(
            (
                a
                for a in self.agents
                if (flow.connection and a.flow.connection == flow.connection)
                or (not flow.connection and (flow.host, flow.port) in a.addresses)
                # Its connection is gone: `net.streams` opens one to the fallback, or takes the peer's only other one.
                or (flow.connection == GONE and a.flow.host == flow.host)
            ),
            None,
        )
        assert receiver is not None, f"{text!r} goes to {flow!r}, where nobody is\n{self.ladder()}"
        self.note(f"{receiver.name} << {text!r}")
        try:
            rules.check(self, send, text, receiver)
        except AssertionError as broken:
            raise AssertionError(f"{broken}\n{self.ladder()}\n{send.data.decode('latin-1')}") from None
        receiver.inbox.append((self.now, text))
        if send.claim:
            self.store.sent(send.claim, self.now)
            self.core.sent(send.claim, self.now)

    def stalls(self) -> None:
        """The streams to the carrier hold unsent bytes: no initial INVITE is written until they flow again."""
        self.stalled = []

    def flows(self) -> None:
        waiting, self.stalled = self.stalled or [], None
        for send in waiting:
            self.post(send)
        self.carries_out()

    def located(self, *places: Place, who: Gateway | Key | None = None, trouble: str = "") -> None:
        """A look-up of the trunk's name, or of `who`, has this outcome."""
        self.note(f"-- located {[place.hosts for place in places]} {trouble}")
        self.core.trunks.located(who or self.trunk.gateways[0], places, trouble, self.now)
        self.carries_out()

    def unreachable(self, text: Text) -> None:
        """ICMP: this request could not be delivered."""
        self.note(f"!! {text!r}")
        self.core.unreachable(text.data, self.now)
        self.carries_out()

    # -- time ----------------------------------------------------------------------------------------------

    def after(self, seconds: float) -> None:
        """Time passes, with a tick at every deadline."""
        self.until(self.now + seconds)

    def settle(self) -> None:
        """As much time as the store needs for all that it was asked."""
        while (due := self.store.next_deadline) != float("inf"):
            self.until(due)

    @property
    def next_deadline(self) -> float:
        """When the core or the store has something to do."""
        return min(self.core.next_deadline, self.store.next_deadline)

    def until(self, end: float) -> None:
        turns = 0
        while (due := self.next_deadline) <= end:
            self.now = max(self.now, due)
            self.core.tick(self.now)
            self.carries_out()
            self.store.run(self.now)
            turns += 1
            assert turns < 100_000, "the core's next deadline does not move on"
        self.now = end

    # -- what is seen --------------------------------------------------------------------------------------

    def note(self, line: str) -> None:
        self.lines.append(f"{self.now - self.started:9.3f}  {line}")

    def ladder(self) -> str:
        """What has happened, for whoever reads a failure."""
        return "\n".join(self.lines[-60:])

    def used(self, limit: str) -> int:
        return self.store.inner.used(f"acme/{limit}", self.now)

    def holds(self, *, outbound: int = 0, inbound: int = 0, forwarded: int = 0, recorded: int = 0) -> None:
        """The store holds the lines of exactly so many calls and the licences of so many recordings, each once, and the
        gauges say the same."""
        self.settle()
        self.store.check()
        held = (self.used("outbound_calls"), self.used("inbound_calls"), self.used("calls"))
        limited = [p.limit for p in (*self.key.outbound, *self.key.inbound) if p.name == "acme/calls"]
        both = outbound + inbound + forwarded if limited else 0
        assert held == (outbound, inbound, both), f"lines held: {held}\n{self.ladder()}"
        assert self.used("recordings") == recorded, f"{self.used('recordings')} licences\n{self.ladder()}"
        assert self.store.lines == outbound + inbound + forwarded + recorded, (
            f"claims held: {self.store.held}\n{self.ladder()}"
        )
        assert self.gauge("calls_active", "outbound") == outbound, self.ladder()
        assert self.gauge("calls_active", "inbound") == inbound, self.ladder()
        assert self.gauge("calls_active", "forwarded") == forwarded, self.ladder()
        for part in self.key.forwarded:
            if part.rule == "V4":
                wanted = forwarded + (inbound if part.name == "acme/lines" else 0)
                assert self.used(part.name.removeprefix("acme/")) == wanted, self.ladder()

    def holds_nothing(self) -> None:
        self.holds()

    def gauge(self, metric: str, *labels: str) -> float:
        return self.meters.values[self.meters.series(metric, "acme", *labels)]

    def rejected(self, reason: str) -> float:
        """Messages that went no further for this reason."""
        return self.meters.values[self.meters.series("rejected_messages_total", reason)]

    def record(self) -> CallRecord:
        """Of the one call that has ended."""
        assert len(self.records) == 1, self.records
        return self.records[0]

    # -- short cuts ----------------------------------------------------------------------------------------

    def talks(self, caller: Agent | None = None, call: str = "", **invite: object) -> None:
        """A call is set up, from INVITE to ACK."""
        caller = caller or self.pbx
        callee = self.pbx if caller in self.gateways else self.carrier
        caller.sends("INVITE", call=call, **invite)  # type: ignore[arg-type]
        caller.gets("100", call=call)
        callee.gets("INVITE", call=call)
        callee.sends("180", call=call)
        caller.gets("180", call=call)
        callee.sends("200", call=call)
        caller.gets("200", call=call)
        caller.sends("ACK", call=call)
        callee.gets("ACK", call=call)

    def hangs_up(self, who: Agent | None = None, call: str = "") -> None:
        """One side ends the call, the other agrees."""
        who = who or self.pbx
        other = self.pbx if who in self.gateways else self.carrier
        who.sends("BYE", call=call)
        other.gets("BYE", call=call)
        other.sends("200 BYE", call=call)
        who.gets("200 BYE", call=call)

    # -- the end -------------------------------------------------------------------------------------------

    def ends(self) -> None:
        """Nothing more comes, nothing is held; after a long silence nothing is left in the core."""
        if self.ended:
            return
        self.ended = True
        self.core.trunks.stop()
        self._nothing_more()
        self.settle()
        core = self.core
        self.store.answers_after_all(
            self.now
        )  # the store that never answers does, too late: all is given back
        self.holds_nothing()
        self.after(QUIET if not self.key.registered else QUIET + self.directory.room.longest)
        assert not len(core.registrar.bindings), "a contact is bound for ever"
        self._nothing_more()
        self.holds_nothing()
        assert not self.store.held, f"claims never given back: {self.store.held}\n{self.ladder()}"
        assert self.used("outbound_cps") == 0, "tokens never came back"
        assert not len(core.pacing), "somebody still waits for a token"
        for name, left in (
            ("server transactions", core.layer.servers),
            ("client transactions", core.layer.clients),
            ("by_token", core.by_token),
            ("by_call_id", core.by_call_id),
            ("sent_at", core.sent_at),
            ("twins", core._twins),
            ("recordings", core.recordings),
            ("wheel", core.wheel),
            ("commands", core.out),
        ):
            assert not len(left), f"{name} is not empty: {left}\n{self.ladder()}"
        assert core.next_deadline == float("inf"), "something still waits"
        self._leaves_no_cycle()

    def _nothing_more(self) -> None:
        for agent in self.agents:
            unread = [text for _, text in agent.inbox]
            assert not unread, f"nobody expected at {agent.name}: {unread}\n{self.ladder()}"

    def _leaves_no_cycle(self) -> None:
        """`net.gate` turns the collector off: what a call leaves behind must go by itself."""
        kept = gc.get_debug()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            gc.collect()
            cyclic = [x for x in gc.garbage if type(x).__module__.startswith("callgate.")]
            names = sorted({type(x).__qualname__ for x in cyclic})
        finally:
            gc.set_debug(kept)
            gc.garbage.clear()
        assert not names, f"cycles are left for the collector: {names}\n{self.ladder()}"


def _device(phone: Agent) -> Target:
    uri = phone.contact[1:-1].encode()
    return Target(phone.flow, uri.partition(b"@")[2], phone.name, uri=uri, device=True)
