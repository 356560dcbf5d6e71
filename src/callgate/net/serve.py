"""`callgate run`: the life of the gate process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from hashlib import sha256
from time import monotonic
from typing import Any

import callgate
from callgate.cdr.audit import FILE as AUDIT_FILE
from callgate.config import Config, ConfigError, HostPort
from callgate.net import log as logging
from callgate.net.control import Control, Taken
from callgate.net.desk import Desk
from callgate.net.gate import CLOCK_SECONDS, Gate
from callgate.net.keeping import Keeping
from callgate.net.ops_child import OpsChild
from callgate.net.reload import Reload
from callgate.net.shared import Shared
from callgate.net.trail import Trail
from callgate.net.wiring import contexts_of, directory_of, listeners_of, secret_of
from callgate.numbers.abroad import warm
from callgate.proxy.commands import Alert
from callgate.proxy.flow import Listener
from callgate.proxy.telemetry.meters import Meters
from callgate.sip.scanner import built

BEAT = 0.25
"""Seconds between two heartbeats of the loop."""
LATE_SECONDS = 0.5
"""Delay of the loop that is an alert: SIP's T1, after which a peer sends its request again."""
RESTARTED = "the gate has started anew: what was alerted before and lasts is alerted once more"
TIDY_SECONDS = 60
WARM_AFTER = 10.0
"""Seconds after the start when numbers abroad are read."""
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
    again = False
    with contextlib.suppress(OSError):  # a folder of another user's: `_secret` says what is wrong with it
        again = config.state_dir is not None and (config.state_dir / AUDIT_FILE).exists()
    trail = Trail(config.state_dir, log)
    try:
        listeners = listeners_of(config)
        directory = directory_of(config, listeners)
        gate = Gate(config, directory, _secret(config), meters, log, contexts_of(config), trail)
        keeping = Keeping(config, gate)  # before the start: what a crash has ended is recorded then
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
    begun = {"version": callgate.__version__, "config": str(config.path), "keys": sorted(config.keys)}
    trail.note("start", after=begun)
    keeping.start()
    if again:
        gate.core.alert(Alert("restarted", "info", "", RESTARTED), monotonic())
        gate.turn_ends()
    shared.listeners(gate.listeners)
    meters.set("build_info", callgate.__version__, sys.version.split()[0], value=1.0)
    meters.set("start_time_seconds", value=time.time())
    stop = asyncio.Event()
    reload = Reload(gate, config, log, trail.note)
    control = await _control(config, Desk(gate, reload, trail, keeping), log)
    signals = _Signals(stop, reload)
    threading.Thread(target=_warm, name="numbers", daemon=True).start()
    beat = asyncio.create_task(_beat(gate, keeping, shared, meters), name="beat")
    ops = _ops(config, shared, keeping.kind, gate)
    try:
        await keeping.outbox.start(shared.fds)
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
        trail.note("drain", after={"calls": gate.live_calls})
        shared.state("draining")
        await _drain(gate, reload.config.drain_seconds, signals, log)
        await _unregister(gate, signals)
    finally:
        beat.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beat
        if control is not None:
            await control.close()
        await gate.close_names()
        gate.close()
        await keeping.close()
        await keeping.outbox.stop()
        if ops is not None:
            await ops.stop()
    trail.note("stop", after={"calls_abandoned": gate.live_calls})
    trail.close()
    log.info("callgate stopped", calls_abandoned=gate.live_calls)
    return 0


def _warm() -> None:
    """What kinds of numbers other countries have is read beside the calls, and not while the gate and its ops are
    starting; one that comes before waits some 20 ms."""
    time.sleep(WARM_AFTER)
    warm(lambda: time.sleep(0.002))


def _secret(config: Config) -> bytes:
    try:
        return secret_of(config)
    except OSError as error:
        what = f"state_dir {config.state_dir} can't be used ({error.strerror}); name a folder that can be written"
        raise OSError(error.errno, what) from error


async def _control(config: Config, desk: Desk, log: logging.Log) -> Control | None:
    """The control socket; without one, calls are served all the same."""
    if config.state_dir is None:
        return None
    control = Control(config.state_dir, desk, log)
    try:
        await control.start()
    except (OSError, Taken) as error:
        log.error("no control socket", error=str(error), socket=str(control.path))
        return None
    return control


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


async def _beat(gate: Gate, keeping: Keeping, shared: Shared, meters: Meters) -> None:
    """The loop's pulse: /healthz lives by it, gauges are read at it, and its delay is the loop's lag."""
    due = monotonic()
    clock_at = due
    seconds = 0
    lag = meters.series("loop_lag_seconds")
    while True:
        due += BEAT
        await asyncio.sleep(max(0.0, due - monotonic()))
        now = monotonic()
        late = meters.values[lag] = max(0.0, now - due)
        if late >= LATE_SECONDS:
            text = f"the gate's loop was {late:.1f} s late: messages have waited, peers repeat them"
            gate.core.alert(Alert("loop-lag", "warning", "", text, round(late, 3), LATE_SECONDS), now)
        due = max(due, now - BEAT)
        shared.beat(now)
        gate.refresh(now)
        keeping.look()
        if now >= clock_at:
            clock_at = now + CLOCK_SECONDS
            gate.set_clock()
            seconds += 1
            if seconds % TIDY_SECONDS == 0:
                gate.tidy()


def _ops(config: Config, shared: Shared, database: str, gate: Gate) -> OpsChild | None:
    if config.ops is None:
        return None
    if config.ops_warning:
        gate.log.warning("ops in the clear", text=config.ops_warning)
    shared.beat(monotonic())
    address: HostPort = config.ops
    ops = OpsChild(f"http://{address}", shared.fds, database=database, greeting=_greeting(config))

    def changed(event: str, fields: dict[str, Any]) -> None:
        level = gate.log.info if event == "ops ready" else gate.log.warning
        level(event, **fields)
        if event == "ops ready":
            gate.meters.set("ops_restarts_total", value=float(fields["restarts"]))
        elif event == "ops ended":
            text = f"the ops process has ended with {fields['exit_code']} and is started anew; calls go on"
            gate.core.alert(Alert("ops", "warning", "", text), monotonic())
            gate.turn_ends()

    ops.on_change(changed)
    return ops


def _greeting(config: Config) -> bytes:
    """What the admin API needs to know (`ops.settings`)."""
    tokens = [
        (one.name, one.role, sha256(one.token.get_secret_value().encode()).hexdigest())
        for one in config.admin.tokens
    ]
    folder = config.state_dir
    found = {
        "tokens": tokens,
        "state_dir": None if folder is None else str(folder.absolute()),
        "database": config.database_url,
    }
    return json.dumps(found).encode() + b"\n"


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
