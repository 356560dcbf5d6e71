"""The gate as a process part: sockets, store and log around one core."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import secrets
import time
from collections.abc import Collection, Mapping
from time import monotonic
from typing import Any

from callgate.config import Config, SipPeer
from callgate.config.addresses import DNS_PORT
from callgate.net.capture import Capture
from callgate.net.dns import Resolver
from callgate.net.doors import Doors, files_allowed
from callgate.net.expiry import Expiry
from callgate.net.gauges import Gauges
from callgate.net.ledger import Ledger
from callgate.net.locate import Locator
from callgate.net.log import Log
from callgate.net.names import Names
from callgate.net.records import RecordLog
from callgate.net.registrations import Registrations
from callgate.net.shield import Shield
from callgate.net.streams import Entry, Limits, StreamListener
from callgate.net.suspensions import Suspensions
from callgate.net.tls import Contexts
from callgate.net.trail import Trail
from callgate.net.troubles import Troubles
from callgate.net.udp import UdpSocket
from callgate.net.wiring import names_of, ways_of
from callgate.policy.claim import Claim
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
from callgate.proxy.directory import Directory
from callgate.proxy.flow import UNKNOWN, Flow, Listener, Trouble
from callgate.proxy.peers import Key
from callgate.proxy.restart.adopt import adopt
from callgate.proxy.telemetry.meters import Meters
from callgate.proxy.token import Signer
from callgate.proxy.trunk.places import Place
from callgate.store.memory import MemoryStore

CLOCK_SECONDS = 1.0
"""How often the wall clock is compared with the monotonic one."""
IN_USE_SECONDS = 1.0
"""How old the list of connections that calls rely on may be."""
CLOCK_STEP = 0.05
"""Seconds by which they may drift apart before the core is told."""
START_SECONDS = 5.0
"""The start does not wait longer than this for names to be looked up."""


class Gate:
    """Binds the listeners and runs the core. `start` raises OSError when an address can't be bound."""

    def __init__(
        self,
        config: Config,
        directory: Directory,
        secret: bytes,
        meters: Meters,
        log: Log,
        contexts: Contexts | None = None,
        trail: Trail | None = None,
    ) -> None:
        started = monotonic()
        self.config = config
        self.log = log
        self.meters = meters
        self.core = Core(directory, Signer(secret), meters, secrets.randbits(62), started)
        self.store = MemoryStore(started, on_expired=self._lease_ended)
        self.gauges = Gauges(directory, meters, self.store, self.core)
        self.records = RecordLog(log, meters)
        self.ledger = Ledger(config, self.core, self.store, log, self.turn_ends)
        self._registrations: Registrations | None = None
        self.suspensions: Suspensions | None = None
        if config.state_dir is not None and trail is not None:
            self.suspensions = Suspensions(config.state_dir, trail, self._suspensions_not_kept)
        self._name(config)
        self._names: Names | None = None
        strangers = config.strangers
        each, together = strangers.messages_per_second, strangers.messages_in_all
        half_open = config.tls.max_half_open_per_source if config.tls is not None else 1
        self._datagrams = Shield(lambda: self.core.directory, each, together)
        self.entry = Entry(
            Doors(config.streams, strangers, half_open, files_allowed()),
            Shield(lambda: self.core.directory, each, together),
            Limits.of(config),
            contexts,
        )
        self.wheel = self.core.wheel
        self._troubles = Troubles(log)
        self._expiry = Expiry(
            lambda: self.directory,
            self.core.alerts,
            meters,
            lambda: self.entry.contexts,
            self._bound_at,
            self.turn_ends,
        )
        self.capture = Capture.of(config.hep, meters, log, lambda: self.directory)
        self._in_use: set[int] = set()
        self._in_use_at = float("-inf")
        self._sockets: list[UdpSocket | StreamListener] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._working = False
        self._ended = False
        self._failed = 0

    @property
    def directory(self) -> Directory:
        return self.core.directory

    def _name(self, config: Config) -> None:
        """Who is looked up."""
        self._named = names_of(config, self.core.directory)
        self._peer_of = {who: peer for peer, those in self._named.items() for who in those}

    # -- life ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Bind every listener and begin to work."""
        self._loop = asyncio.get_running_loop()
        try:
            for listener, section in zip(self.directory.listeners, self.config.listen, strict=True):
                address = (section.uri.host, section.uri.port)
                try:
                    self._sockets.append(self._bind(listener, address))
                except OSError as error:
                    raise OSError(error.errno, f"can't listen on {section.uri}: {error.strerror}") from error
        except OSError:
            self.close()
            raise
        if self.capture is not None:
            self.capture.start(self._sockets)
        self.set_clock()
        if self.suspensions is not None:
            self.core.suspensions.restore(self.suspensions.load(), monotonic())
        self._take_up_registrations()
        gc.disable()  # thousands of calls are made at once, and none of them is rubbish
        self.ledger.begin(self._loop)
        for bound in self._sockets:
            bound.start(self._loop)
        self.turn_ends()  # the core has timers of its own from the start
        # Transactions and calls end without leaving cycles (a test sees to that), so nothing on the path of a
        # message needs the collector, whose full rounds would hold up calls by tens of milliseconds.
        gc.collect()
        gc.freeze()
        gc.disable()
        self.core.registrations.start(monotonic())
        self.check_certificates()

    def _take_up_registrations(self) -> None:
        """Who was registered before the start still is."""
        keys = self.directory.keys.values()
        if self.config.state_dir is None or not any(key.registered for key in keys):
            return
        if self._registrations is not None:
            return  # before a reload
        loop, now = self._loop, monotonic()
        assert loop is not None

        def fault(text: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the gate has ended
                loop.call_soon_threadsafe(self._not_kept, text)

        self._registrations = Registrations(self.config.state_dir, fault)
        rows = self._registrations.load(now + self.core.utc_offset)
        taken = sum([self.core.registrar.restore(row, now) for row in rows])
        if rows:
            self.log.info("registrations taken up", contacts=taken, left_out=len(rows) - taken)

    def _not_kept(self, text: str) -> None:
        self.core.alert(Alert("registrations", "warning", "", text), monotonic())
        self.turn_ends()

    def _suspensions_not_kept(self, fault: str) -> None:
        text = f"who is suspended may be lost with the process: {fault}"
        alert = Alert("suspensions", "critical", "", text)
        if fault:
            self.core.alerts.stands(alert)
        else:
            self.core.alerts.over(alert)
        self.turn_ends()

    def _bind(self, listener: Listener, address: tuple[str, int]) -> UdpSocket | StreamListener:
        if listener.transport == b"UDP":
            bound = UdpSocket(
                listener,
                address,
                self.received,
                self.undelivered,
                self.delivered,
                self.turn_ends,
                self.rejected,
                self._datagrams,
            )
            if bound.short_of:
                sent_by = listener.sent_by.decode()
                self.log.warning("small receive buffer", listen=sent_by, fault=bound.short_of)
            return bound
        return StreamListener(listener, address, self, self.entry)

    async def look_up_names(self) -> None:
        """Look up the names of the config, and keep on doing so. Waits for the first answers, but not for long."""
        dns = self.config.dns
        seconds = dns.timeout_ms / 1000
        servers = [(server.host, server.port or DNS_PORT) for server in dns.servers]
        locator = Locator(Resolver(servers, seconds), ways_of(self.directory.listeners), within=seconds)
        self._names = Names(self._named, locator, dns.stale_seconds, self._located, self._no_look_up)
        await self._names.start(min(seconds, START_SECONDS))

    def _located(self, peer: SipPeer, places: tuple[Place, ...], trouble: str) -> None:
        now = monotonic()
        self.log.info(
            "looked up",
            name=str(peer),
            places=[f"{p.transport.decode().lower()}:{h}:{p.port}" for p in places for h in p.hosts],
            trouble=trouble or None,
        )
        for who in self._named.get(peer, ()):
            self.core.trunks.located(who, places, trouble, now)
        self.turn_ends()

    def _no_look_up(self, error: Exception) -> None:
        self._fault("look-up", error)

    def prepare(self, key: Key) -> None:
        """Make what is counted of a key that is new, or has changed: before it is adopted."""
        self.core.counts.prepare_key(key)
        self.gauges.declare(key)

    def adopt(self, config: Config, directory: Directory, prepared: Collection[str]) -> None:
        """Another config holds from now on, in one step. Calls go on."""
        now = monotonic()
        gone = [key for key in self.directory.keys if key not in directory.keys]
        known = set(self._peer_of)
        adopt(self.core, directory, now, prepared=prepared)
        self.config = config
        for key_id in gone:
            self.gauges.drop(key_id)
        for key_id in prepared:
            self.gauges.slowed(directory.keys[key_id])  # as the key was before
        self._name(config)
        if self._names is not None:
            self._names.adopt(self._named)
            for who in self._peer_of.keys() - known:
                found = self._names.known(self._peer_of[who])
                if found is not None:
                    self.core.trunks.located(who, *found, now)
        self._take_up_registrations()
        self.turn_ends()

    async def close_names(self) -> None:
        """End the look-ups."""
        if self._names is not None:
            await self._names.close()

    def close(self) -> None:
        """Close every socket. Nothing is said to anybody."""
        self._ended = True
        for bound in self._sockets:
            bound.close()
        self._sockets.clear()
        if self.capture is not None:
            self.capture.close()
        self._expiry.close()
        if self._registrations is not None:
            self._registrations.close()
        if self.suspensions is not None:
            self.suspensions.close()
        self.ledger.close()
        if self._timer is not None:
            self._timer.cancel()

    def drain(self) -> None:
        """Refuse new calls from now on; those that are up go on."""
        self.core.drain(monotonic())
        self.turn_ends()

    def unregister(self) -> None:
        """Take back what the gate has registered at its trunks. `registering` says when that is done."""
        self.core.registrations.stop(monotonic())
        self.turn_ends()

    @property
    def registering(self) -> bool:
        return self.core.registrations.busy

    @property
    def listeners(self) -> int:
        return len(self._sockets)

    @property
    def live_calls(self) -> int:
        return self.core.live_calls

    def tidy(self) -> None:
        """Do what is due now and then: collect what libraries left in cycles, while there is no call to hold up."""
        self.check_certificates()
        if not self.core.by_call_id:
            gc.collect()

    def check_certificates(self) -> None:
        """See which certificates expire soon."""
        self._expiry.check(time.time())
        self.turn_ends()

    def _bound_at(self, flow: Flow) -> str | None:
        """The address that a flow's listener is bound to; None for any."""
        uri = self.config.listen[flow.listener.index].uri
        return None if uri.wildcard else uri.host

    def refresh(self, now: float) -> None:
        """Bring the gauges up to date. Call a few times a second."""
        self.gauges.refresh(now)
        self.ledger.look(now)
        open_ones = dict.fromkeys(("tcp", "tls"), 0)
        for bound in self._sockets:
            if isinstance(bound, StreamListener):
                open_ones[bound.name] += len(bound.connections)
        for transport, count in open_ones.items():
            self.meters.set("connections_active", transport, value=float(count))

    def set_clock(self) -> None:
        """Tell the core the wall clock if it has stepped."""
        now = monotonic()
        offset = time.time() - now
        if abs(offset - self.core.utc_offset) > CLOCK_STEP:
            self.core.clock(offset, now)
            self.records.utc_offset = offset
            self.ledger.clock()

    # -- what the sockets call ----------------------------------------------------------------------------

    def received(self, data: bytes, flow: Flow, now: float) -> None:
        try:
            self.core.receive(data, flow, now)
        except Exception as error:
            # A fault of ours in one message must not end the others' calls; nothing of it is forwarded.
            self._fault("receive", error)

    def broken(self, head: bytes, flow: Flow, now: float) -> None:
        try:
            self.core.broken(head, flow, now)
        except Exception as error:
            self._fault("broken", error)

    def closed(self, flow: Flow) -> None:
        if self._ended:
            return  # it is our own doing: who was registered stays so
        try:
            self.core.closed(flow, monotonic())
        except Exception as error:
            self._fault("closed", error)
        self.turn_ends()

    def undelivered(self, data: bytes, transport: str = "udp", trouble: Trouble = UNKNOWN) -> None:
        self.meters.values[self.meters.series("send_failures_total", transport)] += 1.0
        try:
            self.core.unreachable(data, monotonic(), trouble)
        except Exception as error:
            self._fault("unreachable", error)

    def rejected(self, reason: str, count: int = 1) -> None:
        """What went no further, before anything of it was read."""
        self.core.counts.rejected(reason, count)

    def in_use(self, connection: int) -> bool:
        """Whether a call relies on a connection."""
        now = monotonic()
        if now - self._in_use_at > IN_USE_SECONDS:
            self._in_use, self._in_use_at = self.core.connections_in_use(), now
        return connection in self._in_use

    def tls_failed(self, flow: Flow, ours: bool, reason: str, remedy: str) -> None:
        self._troubles.failed(flow, ours, reason, remedy)

    def tls_works(self, flow: Flow, ours: bool) -> None:
        self._troubles.works(flow, ours)

    def shown(self, flow: Flow, certificate: Mapping[str, Any]) -> None:
        self._expiry.shown(flow, certificate)

    def delivered(self, claim_id: int, now: float) -> None:
        self.store.sent(claim_id, now)
        self.core.sent(claim_id, now)
        self.ledger.sent(claim_id, now)

    def turn_ends(self) -> None:
        """Carry out what the core wants, then set the timer."""
        if self._working:
            return
        self._working = True
        out, store = self.core.out, self.store
        if self.core.errors:
            for error in self.core.errors:
                self._fault("core", error)
            self.core.errors.clear()
        for command in out:  # what the store's answers add comes in the same turn
            try:
                kind = type(command)
                if kind is Send:
                    if command.flow.listener.inner:  # type: ignore[union-attr]
                        self.core.bridge.receive(command.data, monotonic())  # type: ignore[union-attr]
                    else:
                        self._send(command)  # type: ignore[arg-type]
                elif kind is Claim:
                    now = monotonic()
                    verdict = store.claim(command, now)  # type: ignore[arg-type]
                    if verdict.granted:
                        verdict = self.ledger.granted(command, verdict, now)  # type: ignore[arg-type]
                    self.core.resume(command.id, verdict, now)  # type: ignore[union-attr]
                elif kind is Journal:
                    self.ledger.put(command.row)  # type: ignore[union-attr]
                else:
                    self._other(command)
            except Exception as error:
                self._fault("commands", error)
        out.clear()
        self._working = False
        due = self.core.next_deadline
        if due < self._timer_at:
            self._arm(due)

    def _send(self, command: Send) -> None:
        flow = command.flow
        bound = self._sockets[flow.listener.index]
        if not flow.known and not command.data.startswith(b"SIP/2.0 "):
            flow.known = True
            bound.vouch(flow)
        if type(bound) is UdpSocket:
            bound.send(command.data, flow.host, flow.port, command.claim)
        else:
            bound.send(flow, command.data, command.claim)  # type: ignore[call-arg, arg-type]

    def _other(self, command: object) -> None:
        match command:
            case Withdraw():
                for bound in self._sockets:
                    if bound.withdraw(command.claim_id):
                        # It may have begun to go out, or go to another gateway: its token is out from now.
                        now = monotonic()
                        self.store.sent(command.claim_id, now)
                        self.ledger.sent(command.claim_id, now)
            case Arrived():
                self.delivered(command.claim_id, monotonic())
            case Release():
                self.store.release(command.claim_id, monotonic())
                self.ledger.released(command.claim_id)
            case Renew():
                self.store.renew(command.claim_id, command.lease, monotonic())
            case Record():
                self.gauges.touched(command.record.key)
                self.records.call(command.record)
            case Alert():
                self.records.alert(command)
            case Note():
                self.records.note(command)
            case Keep():
                if self._registrations is not None:
                    self._registrations.keep(command.key, command.user, command.rows)
            case Suspended():
                if self.suspensions is not None:
                    self.suspensions.keep(command)
            case Resolve():
                if self._names is not None and command.who in self._peer_of:
                    self._names.hurry(self._peer_of[command.who])
            case Hangup():
                bound = self._sockets[command.flow.listener.index]
                if isinstance(bound, StreamListener):
                    bound.hang_up(command.flow)

    # -- time ---------------------------------------------------------------------------------------------

    def _arm(self, due: float) -> None:
        """One timer for everything: moved when the core's next deadline comes before it."""
        if self._loop is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_later(max(0.0, due - monotonic()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._timer_at = float("inf")
        try:
            self.core.tick(monotonic())
        except Exception as error:
            self._fault("tick", error)
        self.turn_ends()

    def _lease_ended(self, claim_id: int) -> None:
        """Nothing has shown that a call lives for longer than any call may: a bug, but not a leak."""
        self.log.error("a lease ran out", claim=f"{claim_id:016x}")
        self.core.lease_ended(claim_id, monotonic())

    def _fault(self, where: str, error: Exception) -> None:
        """A bug. Said once in full for every hundred, so that it can't flood the log either."""
        self._failed += 1
        self.core.counts.rejected("internal error")
        if self._failed % 100 == 1:
            self.log.error(
                "internal error", where=where, error=repr(error), count=self._failed, exc_info=error
            )
