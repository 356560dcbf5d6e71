#!/usr/bin/env python3
"""How many events a second the courier delivers, and what CPU each takes.

    python bench/webhooks.py [--events 3000] [--keys 50] [--profile]

Fills the outbox of a new SQLite database, then has it delivered to a receiver on loopback, which is a process of its
own and answers 204 at once. Prints events a second, and the courier's own CPU per event. A tool for comparing two
versions on one machine.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import multiprocessing
import pstats
import time
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from tempfile import TemporaryDirectory

import uvloop

from callgate.cdr.courier import Courier
from callgate.cdr.events import Receiver
from callgate.cdr.row import rower
from callgate.cdr.store import Store
from callgate.proxy.record import CallRecord

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class Sink(asyncio.Protocol):
    """Answers whatever has come whole."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (head := self._data.find(b"\r\n\r\n")) >= 0:
            at = self._data.lower().find(b"content-length:")
            size = int(self._data[at + 15 : self._data.index(b"\r\n", at)])
            if len(self._data) < head + 4 + size:
                return
            self._data = self._data[head + 4 + size :]
            self._transport.write(ANSWER)  # type: ignore[attr-defined]


def receive(say: Connection) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
        say.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


def call(number: int, keys: int) -> CallRecord:
    record = CallRecord(number, "outbound", 100.0)
    record.call_id = f"{number:x}@192.0.2.20"
    record.key, record.trunk, record.gateway = f"key{number % keys}", "carrier", "198.51.100.5:5060"
    record.raw, record.canonical = "0312345678", "+81312345678"
    record.caller_raw, record.caller = "05012345678", "+815012345678"
    record.sent_at, record.ringing_at, record.answer_at, record.end_at = 100.001, 101.0, 102.5, 160.25
    record.final_code, record.ended_by, record.outcome, record.attempts = 200, "caller", "answered", 1
    return record


async def deliver(url: str, to: Receiver, events: int) -> tuple[float, float]:
    courier = Courier(url, [to])
    wall, cpu = time.perf_counter(), time.process_time()
    task = asyncio.create_task(courier.run())
    while courier.reports[0].delivered < events:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    took = time.perf_counter() - wall, time.process_time() - cpu
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    if courier.reports[0].failed:
        raise SystemExit(f"{courier.reports[0].failed} attempts failed")
    return took


def measure(events: int, keys: int, profile: bool) -> None:
    with TemporaryDirectory() as folder:
        here, there = multiprocessing.Pipe()
        sink = multiprocessing.Process(target=receive, args=(there,), daemon=True)
        sink.start()
        where = f"http://localhost:{here.recv()}/hook"
        to = Receiver("sink", where, SECRET, allow_private=True)
        url = f"sqlite:///{folder}/bench.db"
        row_of = rower()
        with closing(Store(url, [to])) as store:
            store.connect()
            rows = [row_of(call(n + 1, keys), 1_767_225_600.0) for n in range(events)]
            for at in range(0, events, 50):
                store.insert(rows[at : at + 50])
        profiler = cProfile.Profile() if profile else None
        if profiler:
            profiler.enable()
        wall, cpu = uvloop.run(deliver(url, to, events))
        if profiler:
            profiler.disable()
            pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
        sink.terminate()
    print(
        f"{events} events, {keys} keys: {events / wall:.0f} a second, {cpu / events * 1e6:.0f} us of CPU each"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=3000)
    parser.add_argument("--keys", type=int, default=50)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    measure(args.events, args.keys, args.profile)


if __name__ == "__main__":
    main()
