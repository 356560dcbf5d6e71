#!/usr/bin/env python3
"""How much CPU the core takes per call, without sockets: INVITE 100 180 200 ACK BYE 200 through one Core.

    python bench/core_calls.py [--calls 20000] [--journal on|off] [--profile]

Prints microseconds per call (best and median of five rounds). A tool for comparing two versions on one machine. With
`--journal on` (the default) calls are written down as the gate does it, in a temporary folder; its threads count too.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import statistics
import time
from ipaddress import ip_network
from pathlib import Path
from tempfile import TemporaryDirectory

from callgate.policy.claim import Claim, Window
from callgate.policy.dial import DialRules
from callgate.policy.profile import NumberRules
from callgate.proxy import commands
from callgate.proxy.commands import Release, Send
from callgate.proxy.core import Core
from callgate.proxy.directory import Directory
from callgate.proxy.flow import Flow, Listener
from callgate.proxy.peers import Gateway, Key, Numbers, Trunk
from callgate.proxy.restart.journal import RECORD
from callgate.proxy.telemetry.meters import Meters
from callgate.proxy.token import Signer
from callgate.sip.uri import parse_uri
from callgate.store.journal import Journal
from callgate.store.memory import MemoryStore
from callgate.store.recall import Start

SDP = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8 101\r\n"


class Bench:
    def __init__(self, journal: Journal | None = None) -> None:
        self.journal = journal
        listener = Listener(0, b"UDP", "127.0.0.1", 5060)
        trunk = Trunk("carrier")
        to_gateway = Flow(listener, "127.0.0.1", 5080)
        trunk.gateways.append(Gateway(0, parse_uri(b"sip:127.0.0.1:5080"), to_gateway, trunk))
        rate = (Window("V1", "acme/outbound_cps", 1_000_000),)
        dial = DialRules(NumberRules({}))
        key = Key("acme", trunk, dial, outbound=rate, attempt=rate, networks=[ip_network("127.0.0.0/8")])
        directory = Directory([listener], [trunk], [key], Numbers())
        self.store = MemoryStore(-10.0)
        self.core = Core(directory, Signer(b"s" * 32), Meters([0.0] * 10_000), 1, 0.0)
        self.core.journals = journal is not None
        self.pbx = Flow(listener, "127.0.0.1", 5061)
        self.gateway = Flow(listener, "127.0.0.1", 5080)
        self.now = 1.0

    def give(self, data: bytes, flow: Flow) -> list[bytes]:
        core, store, sent = self.core, self.store, []
        self.now += 0.0001
        core.receive(data, flow, self.now)
        while core.out:
            for command in core.commands():
                kind = type(command)
                if kind is Send:
                    sent.append(command.data)
                    if command.claim:
                        store.sent(command.claim, self.now)
                        core.sent(command.claim, self.now)
                elif kind is Claim:
                    core.resume(command.id, store.claim(command, self.now), self.now)
                elif kind is commands.Journal and self.journal is not None:
                    self.journal.put(command.row)
                elif kind is Release:
                    store.release(command.claim_id, self.now)
        if core.next_deadline <= self.now:
            core.tick(self.now)
        return sent

    def call(self, n: int, *, hangs_up: bool = True) -> None:
        invite = (
            b"INVITE sip:0312345678@127.0.0.1:5080;transport=udp SIP/2.0\r\n"
            b"Via: SIP/2.0/UDP 127.0.0.1:5061;branch=z9hG4bK-%d-1;rport\r\n"
            b'From: "Customer cust000" <sip:cust000@127.0.0.1:5061>;tag=T%d\r\nTo: <sip:0312345678@127.0.0.1:5080>\r\n'
            b"Call-ID: %d-x@127.0.0.1\r\nCSeq: 1 INVITE\r\nContact: <sip:cust000@127.0.0.1:5061;transport=udp>\r\n"
            b"Max-Forwards: 70\r\nUser-Agent: callgate-bench/1.0 (load generator; loopback)\r\n"
            b"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO\r\nSupported: 100rel, timer, replaces\r\n"
            b"P-Asserted-Identity: <sip:+15550001111@bench.invalid>\r\nSubject: performance test\r\n"
            b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%b" % (n, n, n, len(SDP), SDP)
        )
        out = self.give(invite, self.pbx)[-1]
        assert out.startswith(b"INVITE"), out
        head = out.split(b"\r\n\r\n")[0].split(b"\r\n")
        vias = [line for line in head if line.startswith(b"Via")]
        routes = [line for line in head if line.startswith(b"Record-Route")]
        rest = [line for line in head if line.startswith((b"From", b"Call-ID", b"CSeq"))]
        to = next(line for line in head if line.startswith(b"To")) + b";tag=S%d" % n
        contact = b"Contact: <sip:127.0.0.1:5080;transport=udp>"
        server = b"Server: callgate-bench-uas/1.0"
        empty = b"Content-Length: 0\r\n\r\n"
        self.give(b"\r\n".join([b"SIP/2.0 100 Trying", *vias, *rest, to, empty]), self.gateway)
        lines = [*vias, *routes, *rest, to, contact, server]
        self.give(b"\r\n".join([b"SIP/2.0 180 Ringing", *lines, empty]), self.gateway)
        tail = b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%b" % (len(SDP), SDP)
        self.give(b"\r\n".join([b"SIP/2.0 200 OK", *lines, tail]), self.gateway)
        route = b"Route:" + routes[0].partition(b":")[2]
        common = [route, rest[0], to, rest[1]]
        for method, number in ((b"ACK", 1), (b"BYE", 2))[: 1 + hangs_up]:
            start = b"%b sip:127.0.0.1:5080;transport=udp SIP/2.0" % method
            via = b"Via: SIP/2.0/UDP 127.0.0.1:5061;branch=z9hG4bK-%d-%d;rport" % (n, number + 1)
            out = self.give(
                b"\r\n".join(
                    [start, via, *common, b"CSeq: %d %b" % (number, method), b"Max-Forwards: 70", empty]
                ),
                self.pbx,
            )[-1]
        if not hangs_up:
            return
        head = out.split(b"\r\n\r\n")[0].split(b"\r\n")
        back = [line for line in head if line.startswith((b"Via", b"From", b"To", b"Call-ID", b"CSeq"))]
        self.give(b"\r\n".join([b"SIP/2.0 200 OK", *back, server, empty]), self.gateway)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--journal", choices=("on", "off"), default="on")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    gc.freeze()
    gc.disable()  # as the gate does
    with TemporaryDirectory() as folder:
        journal = None
        if arguments.journal == "on":
            journal = Journal(Path(folder), lambda text: print(text))
            journal.load()
            journal.start(Start("bench", 0.0, ("UDP 127.0.0.1:5060",), RECORD))
        measure(arguments, journal)
        if journal is not None:
            journal.close()


def measure(arguments: argparse.Namespace, journal: Journal | None) -> None:
    if arguments.profile:
        bench, profile = Bench(journal), cProfile.Profile()
        profile.enable()
        for n in range(arguments.calls):
            bench.call(n)
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        return
    rounds = []
    for _ in range(5):
        bench = Bench(journal)
        start = time.process_time()
        for n in range(arguments.calls):
            bench.call(n)
        rounds.append((time.process_time() - start) * 1e6 / arguments.calls)
    print(
        f"best {min(rounds):.1f} median {statistics.median(rounds):.1f} us per call (the bench's own part included)"
    )


if __name__ == "__main__":
    main()
