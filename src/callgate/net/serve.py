"""`callgate run`: the life of the gate process."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

import callgate
from callgate.cdr.audit import Audit
from callgate.config import Config, ConfigError, HostPort
from callgate.net import log as logging
from callgate.net.gate import CLOCK_SECONDS, Gate
from callgate.net.ops_child import OpsChild
from callgate.net.reload import Reload
from callgate.net.shared import Shared
from callgate.net.wiring import contexts_of, directory_of, listeners_of, secret_of
from callgate.proxy.flow import Listener
from callgate.proxy.meters import Meters
from callgate.sip.scanner import built

BEAT = 0.25
"""Seconds between two heartbeats of the loop."""
TIDY_SECONDS = 60
UNREGISTER_SECONDS = 4.0
"""How long trunks have to confirm that the gate is registered there no more."""


def run(config: Config) -> int:
    """Run the gate until it is told to stop; the exit code."""
    shared = Shared()
    meters = shared.meters
    lost = meters.series("log_lines_lost_total")

    def count_lost(count: int) -> None:
        meters.values[lost] += count

    logging.configure(config.log.level, config.log.full_numbers, on_lost=count_lost)
    try:
        runner = _runner()
        return runner(_serve(config, shared, meters))
    finally:
        logging.close()


def _runner() -> Callable[[Coroutine[Any, Any, int]], int]:
    """uvloop where it can be had; plain asyncio does the same, slower."""
    try:
        import uvloop
    except ImportError:
        logging.get_logger().warning("uvloop is not installed: running on asyncio, which takes more CPU")
        return asyncio.run
    return lambda main: uvloop.run(main)


async def _serve(config: Config, shared: Shared, meters: Meters) -> int:
    log = logging.get_logger()
    try:
        listeners = listeners_of(config)
        directory = directory_of(config, listeners)
        gate = Gate(config, directory, _secret(config), meters, log, contexts_of(config))
        gate.start()
    except ConfigError as error:
        for fault in error.faults:
            log.error("config fault", fault=str(fault))
            print(fault, file=sys.stderr)
        return 2
    except OSError as error:
        log.error("callgate can't start", error=str(error))
        print(f"callgate can't start: {error}", file=sys.stderr)
        return 1
    audit = _audit(config, log)
    audit("start", {"version": callgate.__version__, "config": str(config.path), "keys": sorted(config.keys)})
    shared.listeners(gate.listeners)
    meters.set("build_info", callgate.__version__, sys.version.split()[0], value=1.0)
    meters.set("start_time_seconds", value=time.time())
    stop = asyncio.Event()
    reload = Reload(gate, config, log, audit)
    signals = _Signals(stop, reload)
    beat = asyncio.create_task(_beat(gate, shared, meters), name="beat")
    ops = _ops(config, shared, gate, meters, log)
    try:
        await gate.look_up_names()
        if ops is not None and not await ops.start():
            log.error("ops does not answer yet; calls are served all the same")
            ready = asyncio.create_task(_ready_later(ops, shared, config, listeners, log), name="ops ready")
        else:
            ready = None
            _say_ready(shared, config, listeners, log)
        await stop.wait()
        if ready is not None:
            ready.cancel()
        audit("drain", {"calls": gate.live_calls})
        shared.state("draining")
        await _drain(gate, config.drain_seconds, signals, log)
        await _unregister(gate, signals)
    finally:
        beat.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beat
        await gate.close_names()
        gate.close()
        if ops is not None:
            await ops.stop()
    audit("stop", {"calls_abandoned": gate.live_calls})
    log.info("callgate stopped", calls_abandoned=gate.live_calls)
    return 0


def _secret(config: Config) -> bytes:
    try:
        return secret_of(config)
    except OSError as error:
        what = f"state_dir {config.state_dir} can't be used ({error.strerror}); name a folder that can be written"
        raise OSError(error.errno, what) from error


def _audit(config: Config, log: logging.Log) -> Callable[[str, Any], None]:
    """Notes changes of the gate's state in `state_dir`; where that fails, says so and goes on."""
    audit: Audit | None = None
    if config.state_dir is not None:
        try:
            audit = Audit(config.state_dir)
        except (OSError, sqlite3.Error) as error:
            log.error("the audit log can't be kept", error=str(error), state_dir=str(config.state_dir))

    def note(what: str, after: Any) -> None:
        if audit is not None:
            try:
                audit.note(what, after=after)
            except sqlite3.Error as error:
                log.error("the audit log can't be kept", error=str(error), what=what)

    return note


def _say_ready(shared: Shared, config: Config, listeners: list[Listener], log: logging.Log) -> None:
    shared.state("ready")
    log.info(
        "callgate ready",
        version=callgate.__version__,
        listen=[str(section.uri) for section in config.listen],
        known_as=[listener.sent_by.decode() for listener in listeners],
        ops=str(config.ops) if config.ops else None,
        scanner="C" if built() else "Python",
        keys=len(config.keys),
        trunks=len(config.trunks),
    )
    for trunk, profile in config.profiles.items():
        for rule, text in profile.not_enforced_yet:
            log.warning("not enforced yet", trunk=trunk, profile=profile.name, rule=rule, text=text)


async def _ready_later(
    ops: OpsChild, shared: Shared, config: Config, listeners: list[Listener], log: logging.Log
) -> None:
    while not await ops.wait_ready(60.0):
        pass
    _say_ready(shared, config, listeners, log)


class _Signals:
    """SIGTERM and SIGINT: the first stops, the second stops now. SIGHUP reloads."""

    def __init__(self, stop: asyncio.Event, reload: Reload) -> None:
        self.now = asyncio.Event()
        self._stop = stop
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._heard)
        loop.add_signal_handler(signal.SIGHUP, reload.ask)

    def _heard(self) -> None:
        if self._stop.is_set():
            self.now.set()
        self._stop.set()


async def _beat(gate: Gate, shared: Shared, meters: Meters) -> None:
    """The loop's pulse: /healthz lives by it, gauges are read at it, and its delay is the loop's lag."""
    due = monotonic()
    clock_at = due
    seconds = 0
    lag = meters.series("loop_lag_seconds")
    while True:
        due += BEAT
        await asyncio.sleep(max(0.0, due - monotonic()))
        now = monotonic()
        meters.values[lag] = max(0.0, now - due)
        due = max(due, now - BEAT)
        shared.beat(now)
        gate.refresh(now)
        if now >= clock_at:
            clock_at = now + CLOCK_SECONDS
            gate.set_clock()
            seconds += 1
            if seconds % TIDY_SECONDS == 0:
                gate.tidy()


def _ops(config: Config, shared: Shared, gate: Gate, meters: Meters, log: logging.Log) -> OpsChild | None:
    if config.ops is None:
        return None
    shared.beat(monotonic())
    address: HostPort = config.ops
    ops = OpsChild(f"http://{address}", shared.fds)

    def changed(event: str, fields: dict[str, Any]) -> None:
        level = log.info if event == "ops ready" else log.warning
        level(event, **fields)
        if event == "ops ready":
            meters.set("ops_restarts_total", value=float(fields["restarts"]))

    ops.on_change(changed)
    return ops


async def _drain(gate: Gate, seconds: float, signals: _Signals, log: logging.Log) -> None:
    """Refuse new calls and let those that are up end, for `seconds` at most."""
    gate.drain()
    log.info("callgate draining", calls=gate.live_calls, seconds=seconds)
    await _while(lambda: bool(gate.live_calls), seconds, signals)


async def _unregister(gate: Gate, signals: _Signals) -> None:
    """The last word to trunks where the gate has registered: calls that were up needed the binding until now."""
    gate.unregister()
    await _while(lambda: gate.registering, UNREGISTER_SECONDS, signals)


async def _while(busy: Callable[[], bool], seconds: float, signals: _Signals) -> None:
    """Wait while `busy`, for `seconds` at most, and not after a second SIGTERM."""
    until = monotonic() + seconds
    while busy() and monotonic() < until and not signals.now.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(0.1, max(0.0, until - monotonic()))):
                await signals.now.wait()
