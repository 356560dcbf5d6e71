"""What does a scrape cost the calls, with many keys?

    python bench/scrape.py [--keys 2000] [--seconds 10]

Starts a gate with so many keys on loopback and sends it an OPTIONS every 5 ms, half the time while /metrics is scraped
without a pause (Prometheus does it every 15 s), half the time not. Prints one JSON object: how many scrapes there were,
how large a page is and how long it took; how late the answers of the gate were (milliseconds: the middle, the 99th of
100, the worst) with and without; what CPU the gate's process (not ops, which renders) spent in each half.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

GATE, OPS = ("127.0.46.1", 5060), ("127.0.46.1", 9060)
PERIOD = 0.005


def config(keys: int) -> str:
    lines = [
        f'listen: ["udp://{GATE[0]}:{GATE[1]}"]',
        f"ops: http://{OPS[0]}:{OPS[1]}",
        "state_dir: null",
        "log: {level: warning}",
        'trunks: {carrier: {gateways: ["sip:127.0.46.9:5060"], health: {interval_seconds: 0}}}',
        "keys:",
    ]
    lines += [f'  k{n}: {{sources: ["127.46.{n // 250 + 1}.{n % 250 + 1}/32"]}}' for n in range(keys)]
    return "\n".join(lines)


class Scraper(threading.Thread):
    """Asks for the page again and again, while `on` is set."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.on = threading.Event()
        self.took: list[float] = []
        self.size = 0

    def ask(self) -> None:
        connection = http.client.HTTPConnection(*OPS, timeout=60)
        connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
        self.size = len(connection.getresponse().read())
        connection.close()

    def run(self) -> None:
        while True:
            self.on.wait()
            began = time.monotonic()
            try:
                self.ask()
            except (OSError, http.client.HTTPException):
                return  # the gate has been ended
            self.took.append(time.monotonic() - began)


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def answers(sock: socket.socket, seconds: float) -> list[float]:
    """How long each answer took, one question after another."""
    took = []
    end = time.monotonic() + seconds
    number = 0
    while (began := time.monotonic()) < end:
        number += 1
        name = f"{os.getpid()}-{began}-{number}"
        here = ":".join(map(str, sock.getsockname()))
        sock.sendto(
            (
                f"OPTIONS sip:{GATE[0]} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK{name}\r\n"
                f"From: <sip:{here}>;tag=a\r\nTo: <sip:{GATE[0]}>\r\nCall-ID: {name}\r\nCSeq: 1 OPTIONS\r\n"
                "Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
            ).encode(),
            GATE,
        )
        while name.encode() not in sock.recv(65_535):
            pass
        took.append(time.monotonic() - began)
        time.sleep(PERIOD)
    return took


def shown(took: list[float]) -> dict[str, float]:
    points = statistics.quantiles(took, n=100)
    return {
        name: round(at * 1000, 2)
        for name, at in (("p50", points[49]), ("p99", points[98]), ("max", max(took)))
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "c.yaml"
        file.write_text(config(asked.keys))
        gate = subprocess.Popen(
            [sys.executable, "-m", "callgate", "run", "-c", str(file)], stdout=subprocess.DEVNULL
        )
        try:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("127.46.1.1", 0))
            sock.settimeout(30.0)
            end = time.monotonic() + 60
            while time.monotonic() < end:
                try:
                    http.client.HTTPConnection(*OPS, timeout=5).request("GET", "/healthz")
                    break
                except OSError:
                    time.sleep(0.2)
            time.sleep(2.0)
            scraper = Scraper()
            scraper.ask()  # the first one reads what there is
            scraper.start()
            result: dict[str, object] = {"keys": asked.keys}
            for name in ("without", "with"):
                if name == "with":
                    scraper.on.set()
                before = cpu(gate.pid)
                took = answers(sock, asked.seconds / 2)
                result[f"answers_ms_{name}"] = shown(took) | {"count": len(took)}
                result[f"gate_cpu_ms_per_s_{name}"] = round(
                    (cpu(gate.pid) - before) * 2000 / asked.seconds, 1
                )
            scraper.on.clear()
            while not scraper.took:
                time.sleep(0.1)
            result |= {"scrapes": len(scraper.took), "page_octets_gzip": scraper.size}
            result["scrape_seconds"] = round(statistics.median(scraper.took), 3)
            print(json.dumps(result))
        finally:
            gate.send_signal(signal.SIGTERM)
            gate.wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
