#!/usr/bin/env python3
"""How long a restart with many live calls takes: the journal of that many calls is made, then `callgate run` is started
on it and asked an OPTIONS until it answers.

    python bench/restart.py [--calls 5000]

Prints seconds from the start of the process to its first answer, and what of that was the taking up of calls.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from core_calls import Bench  # type: ignore[import-not-found]

from callgate.proxy.restart.journal import RECORD
from callgate.store.journal import Journal
from callgate.store.recall import Start

CONFIG = """
listen: ["udp://127.0.0.1:5060"]
ops: null
state_dir: ./state
secret: "{secret}"
trunks: {{carrier: {{gateways: ["sip:127.0.0.1:5080"], health: {{interval_seconds: 0}}}}}}
keys: {{acme: {{sources: ["127.0.0.1/32"], pbx: "sip:127.0.0.1:5061", trunk: carrier}}}}
"""
OPTIONS = (
    b"OPTIONS sip:127.0.0.1:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5061;branch=z9hG4bK-%d;rport\r\n"
    b"From: <sip:a@b>;tag=1\r\nTo: <sip:127.0.0.1:5060>\r\nCall-ID: %d\r\nCSeq: 1 OPTIONS\r\n"
    b"Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5000)
    calls = parser.parse_args().calls
    with TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "callgate.yaml").write_text(CONFIG.format(secret="s" * 32))
        journal = Journal(path / "state", print)
        journal.load()
        bench = Bench(journal)
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        journal.start(Start(boot, time.time() - time.monotonic(), ("UDP 127.0.0.1:5060",), RECORD))
        bench.now = time.monotonic()
        for n in range(calls):
            bench.call(n, hangs_up=False)
        journal.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as pbx:
            pbx.bind(("127.0.0.1", 5061))
            pbx.settimeout(0.02)
            began = time.monotonic()
            command = [sys.executable, "-m", "callgate", "run", "-c", str(path / "callgate.yaml")]
            gate = subprocess.Popen(command, stdout=subprocess.PIPE)
            n = 0
            while True:
                n += 1
                pbx.sendto(OPTIONS % (n, n), ("127.0.0.1", 5060))
                try:
                    if pbx.recv(65536).startswith(b"SIP/2.0 200"):
                        break
                except OSError:
                    continue
            took = time.monotonic() - began
        time.sleep(0.3)  # its log is written by a thread
        gate.kill()
        out, _ = gate.communicate()
        lines = [json.loads(line) for line in out.splitlines()]
        taken = next((line for line in lines if line["event"] == "calls taken up"), None)
    print(f"answered after {took:.2f} s; {taken}")


if __name__ == "__main__":
    main()
