"""Many keys at once, all of them busy, on a clock that waits for the machine: does each get its own contract's share?

    python bench/many_keys_core.py [--keys 1000] [--cps 3] [--factor 2] [--seconds 10]

What `many_keys.py` shows of a running gate, a core without sockets shows here of loads that a machine could not carry
in real time: calls of all keys come at random moments (from a seed), the carrier answers 486 at once. Prints one
JSON object, as that does; exit 1 where a window was broken or a key got less than 0.97.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from ipaddress import ip_network
from random import Random

from many_keys import address, exact, judge, value

from callgate.policy.claim import Claim, Window
from callgate.policy.dial import DialRules
from callgate.policy.profile import NumberRules
from callgate.proxy.commands import Release, Send
from callgate.proxy.core import Core
from callgate.proxy.directory import Directory
from callgate.proxy.flow import Flow, Listener
from callgate.proxy.peers import Gateway, Key, Numbers, Trunk
from callgate.proxy.telemetry.meters import Meters
from callgate.proxy.token import Signer
from callgate.sip.uri import parse_uri
from callgate.store.memory import MemoryStore

INVITE = (
    b"INVITE sip:0312345678@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP %b;branch=z9hG4bK%d.%d;rport\r\nMax-Forwards: 70\r\n"
    b"From: <sip:1@%b>;tag=f\r\nTo: <sip:0312345678@192.0.2.1>\r\nCall-ID: %d.%d@many\r\nCSeq: 1 INVITE\r\n"
    b"Contact: <sip:1@%b>\r\nContent-Length: 0\r\n\r\n"
)


class Run:
    def __init__(self, keys: int, cps: int) -> None:
        self.listener = Listener(0, b"UDP", "192.0.2.1", 5060)
        trunk = Trunk("carrier")
        self.carrier = Flow(self.listener, "198.51.100.1", 5060)
        trunk.gateways.append(Gateway(0, parse_uri(b"sip:198.51.100.1:5060"), self.carrier, trunk))
        dial = DialRules(NumberRules({}))
        made = []
        for n in range(keys):
            rate = (Window("V1", f"k{n}/outbound_cps", cps),)
            networks = [ip_network(f"{address(n)}/32")]
            made.append(Key(f"k{n}", trunk, dial, outbound=rate, attempt=rate, networks=networks))
        self.flows = [Flow(self.listener, address(n), 5060) for n in range(keys)]
        self.store = MemoryStore(-10.0)
        directory = Directory([self.listener], [trunk], made, Numbers())
        self.core = Core(directory, Signer(b"s" * 32), Meters([0.0] * 2_000_000), 1, 0.0)
        self.core.journals = False
        self.arrived: list[list[float]] = [[] for _ in range(keys)]
        self.answered = 0

    def give(self, data: bytes, flow: Flow, now: float) -> None:
        while self.core.next_deadline <= now:
            due = self.core.next_deadline
            self.core.tick(due)
            self.carry_out(due)
        self.core.receive(data, flow, now)
        self.carry_out(now)

    def carry_out(self, now: float) -> None:
        while self.core.out:
            for command in self.core.commands():
                if isinstance(command, Send):
                    self.sent(command, now)
                elif isinstance(command, Claim):
                    self.core.resume(command.id, self.store.claim(command, now), now)
                elif isinstance(command, Release):
                    self.store.release(command.claim_id, now)

    def sent(self, command: Send, now: float) -> None:
        if command.claim:
            self.store.sent(command.claim, now)
            self.core.sent(command.claim, now)
        data = command.data
        if command.flow is self.carrier:
            if data.startswith(b"INVITE "):
                self.arrived[int(value(data, b"Call-ID").split(b".")[0])].append(now)
                head = [
                    x for x in data.split(b"\r\n") if x.startswith((b"Via", b"From", b"Call-ID", b"CSeq"))
                ]
                to = b"To: %b;tag=d" % value(data, b"To")
                answer = [b"SIP/2.0 486 Busy Here", *head, to, b"Content-Length: 0", b"", b""]
                self.core.receive(b"\r\n".join(answer), self.carrier, now)
        elif data[8:9] != b"1":
            self.answered += 1
            head = [x for x in data.split(b"\r\n") if x.startswith((b"Via", b"From", b"To", b"Call-ID"))]
            start = b"ACK sip:0312345678@192.0.2.1 SIP/2.0"
            ack = [start, *head, b"CSeq: 1 ACK", b"Max-Forwards: 70", b"Content-Length: 0", b"", b""]
            self.core.receive(b"\r\n".join(ack), command.flow, now)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--cps", type=int, default=3)
    parser.add_argument("--factor", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    a = parser.parse_args()
    dice, run = Random(1), Run(a.keys, a.cps)
    calls = int(a.cps * a.factor * a.seconds)
    times = [sorted(dice.uniform(1.0, 1.0 + a.seconds) for _ in range(calls)) for _ in range(a.keys)]
    gc.freeze()
    gc.disable()  # as the gate does
    spent = time.process_time()
    for now, key, n in sorted((at, key, n) for key, each in enumerate(times) for n, at in enumerate(each)):
        here = address(key).encode()
        run.give(INVITE % (here, key, n, here, key, n, here), run.flows[key], now)
    spent = time.process_time() - spent
    offered = a.keys * calls
    figures = {
        "unanswered": offered - run.answered,
        "cpu_us_per_offered_call": round(spent * 1e6 / offered, 1),
    }
    return judge(run.arrived, [exact(each, a.cps) for each in times], offered, a.cps, figures)


if __name__ == "__main__":
    sys.exit(main())
