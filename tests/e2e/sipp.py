"""SIPp as PBX and as carrier: another's SIP stack, run from the files in `scenarios/`."""

from __future__ import annotations

import csv
import os
import re
import subprocess
from datetime import datetime
from pathlib import Path

from tests.e2e.gate import DEADLINE, Address, free_port, hostport, spawn, until

SCENARIOS = Path(__file__).with_name("scenarios")
TRANSPORTS = {"udp": "u1", "tcp": "t1"}


class Sipp:
    """One SIPp process at `host` (and a free port). With `to` it calls `number` there, without it answers.
    `hold`: milliseconds of each `<pause/>`. `login`: user and password that it answers a challenge with (MD5 is
    all that it can). `traced`: its messages are kept, for `heard`. One that answers repeats an answer after 4 s
    only, not 0.5: SIPp takes the second ACK, which a slow machine would bring on, for an error."""

    def __init__(
        self,
        folder: Path,
        scenario: str,
        host: str,
        *,
        transport: str = "udp",
        to: Address | None = None,
        number: str = "",
        calls: int = 1,
        rate: int = 20,
        hold: int = 0,
        seconds: int = 15,
        port: int = 0,
        login: tuple[str, str] | None = None,
        traced: bool = False,
    ) -> None:
        self.name = scenario
        self.address: Address = (host, port or free_port(host))
        self.transport = transport
        self.calling = to is not None
        beginning = folder / f"{scenario}-{self.address[1]}"
        self._stats = Path(f"{beginning}.csv")
        self._errors = Path(f"{beginning}.errors")
        self._output = Path(f"{beginning}.out")
        self._messages = Path(f"{beginning}.messages")
        command = ["sipp", hostport(to)] if to is not None else ["sipp"]
        command += ["-sf", str(SCENARIOS / f"{scenario}.xml"), "-t", TRANSPORTS[transport]]
        command += ["-i", host, "-p", str(self.address[1]), "-bind_local", "-nostdin"]
        command += ["-m", str(calls), "-r", str(rate), "-l", "1000", "-d", str(hold)]
        command += ["-timeout", str(seconds), "-timeout_error", "-recv_timeout", str(seconds * 1000)]
        command += ["-trace_stat", "-stf", str(self._stats), "-trace_err", "-error_file", str(self._errors)]
        if traced:
            command += ["-trace_msg", "-message_file", str(self._messages)]
        if login is not None:
            command += ["-au", login[0], "-ap", login[1]]
        if number:
            command += ["-s", number]
        self._command = command
        self._folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        suffix = ";transport=tcp" if self.transport == "tcp" else ""
        return f"sip:{hostport(self.address)}{suffix}"

    def start(self) -> Sipp:
        """Start it; one that answers is there when this returns."""
        with self._output.open("wb") as output:
            self.process = spawn(
                self._command,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=os.environ | {"TERM": "dumb"},
            )
        if not self.calling:
            until(self._listens, lambda: f"{self.name} listens\n{self.said()}")
        return self

    def _listens(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}\n{self.said()}")
        table = Path("/proc/net", self.transport + ("6" if ":" in self.address[0] else ""))
        port = f":{self.address[1]:04X}"
        state = "0A" if self.transport == "tcp" else "07"  # listening, unconnected
        rows = (line.split() for line in table.read_text().splitlines()[1:])
        return any(row[1].endswith(port) and row[3] == state for row in rows)

    def done(self, within: float = DEADLINE + 5) -> dict[str, int]:
        """Wait for its end: every call went as the scenario has it, or this fails with what SIPp says. Its
        cumulative counters, by SIPp's names."""
        assert self.process is not None
        try:
            code = self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} is still running after {within:g} s\n{self.said()}") from None
        assert code == 0, f"{self.name} ended with {code}\n{self.said()}"
        return self.counters()

    def counters(self) -> dict[str, int]:
        with self._stats.open(newline="") as file:
            *_, last = csv.DictReader(file, delimiter=";")
        return {
            name.removesuffix("(C)"): int(value)
            for name, value in last.items()
            if name.endswith("(C)") and value.isdigit()
        }

    def heard(self, status: str, method: str) -> dict[str, float]:
        """Call-ID → when, in seconds since 1970, the last such answer to such a request came; only where `traced`."""
        found = {}
        for part in self._messages.read_text("utf-8", "replace").split("-" * 47 + " ")[1:]:
            head, _, message = part.partition("\n\n")
            if (
                "message received" in head
                and message.startswith(status)
                and f" {method}\n" in message.replace("\r", "")
            ):
                call = re.search(r"^Call-ID: (\S+)", message, re.MULTILINE)
                assert call is not None, part
                at = datetime.fromisoformat(head.partition("\n")[0].replace("\t", " ")[:26])
                found[call[1]] = at.timestamp()
        return found

    def said(self) -> str:
        """Its errors and the end of its screen."""
        parts = []
        for path in (self._errors, self._output):
            if path.exists():
                parts.append(path.read_text("utf-8", "replace")[-6000:])
        return "\n".join(parts)

    def close(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
