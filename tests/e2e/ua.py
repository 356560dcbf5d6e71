"""Real user agents of others: baresip and linphonec (Debian), each a process with a folder of its own, told what to do
while it runs, ended by its pid. No sound device is needed, nothing leaves the loopback network.

    with closing(Baresip(folder, "127.0.0.2", gate.address, "1001", over="tcp")) as phone:
        phone.registered()
        phone.dials("0312345678")
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

from tests.e2e.gate import DEADLINE, Address, Output, free_port, hostport, until

SECONDS = 90
"""After so long a user agent is ended, whatever becomes of its test."""
BARESIP_MODULES = "/usr/lib/baresip/modules"
_LAUNCH = (
    "import ctypes,os,signal,sys; ctypes.CDLL(None).prctl(1,9); signal.alarm(int(sys.argv[1]));"
    "os.execvp(sys.argv[2],sys.argv[2:])"
)


class UserAgent:
    """What all of them do. `over`: udp, tcp or tls (then `ca` is the file that the gate's certificate is checked
    with); `user` and `password` are also those of the digest, where the gate asks for one."""

    def __init__(
        self,
        folder: Path,
        host: str,
        gate: Address,
        user: str,
        *,
        over: str = "udp",
        password: str = "",
        ca: Path | None = None,
    ) -> None:
        self.folder = folder
        self.host = host
        self.gate = gate
        self.user = user
        self.over = over
        self.password = password
        self.ca = ca
        self.port = free_port(host)
        self.process: subprocess.Popen[bytes] | None = None
        self.out: Output | None = None
        folder.mkdir(parents=True)
        self._begin()

    def _begin(self) -> None:
        raise NotImplementedError

    def registered(self) -> None:
        """Wait until it says that it is registered."""
        raise NotImplementedError

    def rings(self) -> None:
        """Wait until a call has come in."""
        raise NotImplementedError

    def answers(self) -> None:
        """Take the call."""
        raise NotImplementedError

    def dials(self, number: str) -> None:
        raise NotImplementedError

    def hangs_up(self) -> None:
        raise NotImplementedError

    def talks(self) -> None:
        """Wait until it says that a call is up."""
        raise NotImplementedError

    def is_free(self) -> None:
        """Wait until it says that its call is over."""
        raise NotImplementedError

    def leaves(self) -> None:
        """Have it end, which takes its registration back."""
        raise NotImplementedError

    def close(self) -> None:
        """End it; never raises for what has ended already."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None and self.out is not None:
                    self.out.join()
                    pipe.close()
            self.process = None

    # -- for them ------------------------------------------------------------------------------------------

    def _spawn(self, *command: str) -> None:
        """Start it: it ends with this process, and by itself after a while."""
        self.process = subprocess.Popen(
            [sys.executable, "-ISc", _LAUNCH, str(SECONDS), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=self.folder,
            env={**os.environ, "HOME": str(self.folder), "LC_ALL": "C", "TERM": "dumb"},
        )
        assert self.process.stdout is not None
        self.out = Output(self.process.stdout.fileno())

    def _ended(self) -> None:
        assert self.process is not None
        until(lambda: self.process is None or self.process.poll() is not None, self.said)

    def said(self) -> str:
        """All of its output, for a failure's message."""
        return self.out.text.decode("utf-8", "replace") if self.out is not None else ""

    def _file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path


class Baresip(UserAgent):
    """Told and heard over its `ctrl_tcp`: netstrings of JSON."""

    def _begin(self) -> None:
        self._control = (self.host, free_port(self.host, self.port))
        self._buffer = b""
        self._events: list[dict[str, Any]] = []
        self._socket: socket.socket | None = None
        with wave.open(str(self.folder / "silence.wav"), "wb") as silence:
            silence.setnchannels(1)
            silence.setsampwidth(2)
            silence.setframerate(8000)
            silence.writeframes(bytes(2 * 8000 * SECONDS))
        lines = [
            "poll_method epoll",
            f"sip_listen {self.host}:{self.port}",
            f"net_interface {self.host}",
            f"module_path {BARESIP_MODULES}",
            f"audio_source aufile,{self.folder / 'silence.wav'}",
            f"audio_player aufile,{self.folder / 'heard.wav'}",
            "audio_alert aufile,/dev/null",
            "module g711.so",
            "module aufile.so",
            "module_tmp uuid.so",
            "module_tmp account.so",
            "module_app menu.so",
            "module_app ctrl_tcp.so",
            f"ctrl_tcp_listen {hostport(self._control)}",
            *((f"sip_cafile {self.ca}",) if self.ca is not None else ()),
        ]
        self._file("config", "\n".join([*lines, ""]))
        self._file("contacts", "")
        gate = hostport(self.gate)
        account = f"<sip:{self.user}@{gate};transport={self.over}>;regint=60;answermode=manual"
        account += f';outbound="sip:{gate};transport={self.over}";sipnat=outbound'
        if self.password:
            account += f";auth_user={self.user};auth_pass={self.password}"
        else:
            account += ";auth_pass=none"  # or it would ask for one
        self._file("accounts", account + "\n")
        self._spawn("baresip", "-f", str(self.folder))
        self._socket = until(self._connect, lambda: f"baresip takes commands:\n{self.said()}")

    def _connect(self) -> socket.socket | None:
        try:
            return socket.create_connection(self._control, DEADLINE)
        except OSError:
            return None

    def _tell(self, command: str, params: str = "") -> None:
        assert self._socket is not None
        text = json.dumps({"command": command, "params": params})
        self._socket.sendall(f"{len(text)}:{text},".encode())

    def _read(self, seconds: float) -> None:
        """Take in what it has said."""
        assert self._socket is not None
        self._socket.settimeout(max(0.01, seconds))
        try:
            data = self._socket.recv(65_536)
        except TimeoutError:
            return
        self._buffer += data
        while found := re.match(rb"(\d+):", self._buffer):
            start, size = found.end(), int(found[1])
            if len(self._buffer) < start + size + 1:
                return
            self._events.append(json.loads(self._buffer[start : start + size]))
            self._buffer = self._buffer[start + size + 1 :]

    def _hears(self, *types: str) -> dict[str, Any]:
        """Wait for an event, and take out all that came before it."""
        found: list[dict[str, Any]] = []

        def came() -> bool:
            self._read(0.1)
            for n, event in enumerate(self._events):
                if event.get("type") in types:
                    found.append(event)
                    del self._events[: n + 1]
                    return True
            return False

        until(came, lambda: f"baresip says {types}; it said {self._events}\n{self.said()}")
        return found[0]

    def registered(self) -> None:
        assert self.out is not None  # it may say so before anybody can hear its events
        found = self.out.wait(lambda text: re.search(rb"\[[1-9]\d* bindings?\]", text), DEADLINE)
        assert found is not None, self.said()

    def rings(self) -> None:
        self._hears("CALL_INCOMING")

    def answers(self) -> None:
        self._tell("accept")

    def dials(self, number: str) -> None:
        self._tell("dial", number)

    def hangs_up(self) -> None:
        self._tell("hangup")

    def talks(self) -> None:
        self._hears("CALL_ESTABLISHED")

    def is_free(self) -> None:
        self._hears("CALL_CLOSED")

    def leaves(self) -> None:
        self._tell("quit")
        self._ended()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        super().close()


class Linphone(UserAgent):
    """linphonec: told on its stdin, heard on its stdout."""

    def _begin(self) -> None:
        self._seen = 0
        ports = {over: self.port if over == self.over else 0 for over in ("udp", "tcp", "tls")}
        for folder in (".local/share/linphone", ".config/linphone"):
            (self.folder / folder).mkdir(parents=True)
        gate = hostport(self.gate)
        config = [
            "[sip]",
            f"sip_port={ports['udp']}",
            f"sip_tcp_port={ports['tcp']}",
            f"sip_tls_port={ports['tls']}",
            f"bind_address={self.host}",
            "default_proxy=0",
            "guess_hostname=0",
            "use_ipv6=0",
            "register_only_when_network_is_up=0",
            *((f"root_ca={self.ca}",) if self.ca is not None else ()),
            "verify_server_cn=0",  # its TLS library knows no IP addresses in certificates
            "[rtp]",
            f"bind_address={self.host}",
            f"audio_rtp_port={free_port(self.host, self.port)}",
            "[proxy_0]",
            f"reg_proxy=<sip:{gate};transport={self.over}>",
            f"reg_identity=sip:{self.user}@{gate}",
            "reg_expires=60",
            "reg_sendregister=1",
        ]
        if self.password:
            config += ["[auth_info_0]", f"username={self.user}", f"passwd={self.password}"]
        self._spawn("linphonec", "-c", str(self._file("linphonerc", "\n".join([*config, ""]))))
        self._tell("soundcard use files")

    def _tell(self, command: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()

    def _hears(self, words: bytes) -> bytes:
        """Wait for these words (a pattern) in what it says after what was heard last."""
        assert self.out is not None
        found = self.out.wait(lambda text: re.compile(words).search(text, self._seen), DEADLINE)
        assert found is not None, f"linphonec does not say {words!r}:\n{self.said()}"
        self._seen = found.end()
        return found[0]

    def registered(self) -> None:
        """It says so only when asked; asked without a pause it does nothing else."""
        out = self.out
        assert out is not None

        def asked() -> bool:
            self._tell("status register")
            yes = self._hears(rb"registered(, identity|=-?\d)").endswith(b"identity")
            return yes or bool(out.wait(lambda text: b"", 0.2))

        until(asked, self.said)

    def rings(self) -> None:
        self._hears(rb"Receiving new incoming call")

    def answers(self) -> None:
        self._tell("answer")

    def dials(self, number: str) -> None:
        self._tell(f"call {number}")

    def hangs_up(self) -> None:
        self._tell("terminate")

    def talks(self) -> None:
        self._hears(rb"Call \d+ with .* connected")

    def is_free(self) -> None:
        self._hears(rb"Call \d+ with .* ended")

    def leaves(self) -> None:
        self._tell("quit")
        self._ended()
