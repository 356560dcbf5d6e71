"""A program on a terminal of its own: what it shows there, keys that are pressed, and how it leaves the terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from typing import Any

from tests.e2e.gate import DEADLINE, Output, until

_SHELL = """
import ctypes, fcntl, os, signal, sys, termios
ctypes.CDLL(None).prctl(1, 9)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
pid = os.fork()
if not pid:
    ctypes.CDLL(None).prctl(1, 9)
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execvp(sys.argv[1], sys.argv[1:])
print(f"pid {pid}.", flush=True)
os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)
"""
"""What a shell does with a command: a process group of its own in the foreground, so that Ctrl-Z has somebody to go
back to."""
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HOME = b"\x1b[H"


class Screen:
    """`command` in a session of its own, whose terminal this is. Each picture begins where the cursor goes home."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        width: int = 80,
        height: int = 24,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._master, self._slave = pty.openpty()
        self.resize(width, height)
        self.before = self.modes()
        environment = {
            name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")
        }
        self.process = subprocess.Popen(
            [sys.executable, "-ISc", _SHELL, *command],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            env=environment | {"TERM": "xterm-256color", "LANG": "C.UTF-8"} | dict(env or {}),
        )
        self._output = Output(self._master)
        said = self._output.wait(lambda text: re.search(rb"pid (\d+)\.", text), DEADLINE)
        assert said is not None
        self.pid = int(said[1])
        """Of the command itself."""

    def modes(self) -> list[Any]:
        """The terminal's (termios)."""
        return termios.tcgetattr(self._slave)

    def resize(self, width: int, height: int) -> None:
        """The kernel tells the program (SIGWINCH)."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def press(self, *keys: str) -> None:
        os.write(self._master, "".join(keys).encode())

    @property
    def written(self) -> bytes:
        """Everything so far, with its control sequences."""
        return self._output.text

    @property
    def lines(self) -> list[str]:
        """The last picture; before and after that of a program on the terminal, what came last."""
        last = self._output.text.rpartition(HOME)[2].decode("utf-8", "replace")
        return [line.rstrip() for line in _CONTROLS.sub("", last).splitlines()]

    def line(self, *words: str, within: float = DEADLINE) -> str:
        """Wait for a line that has all of these."""

        def found() -> str:
            return next((line for line in self.lines if all(word in line for word in words)), "")

        return until(found, lambda: f"{words} on\n" + "\n".join(self.lines), within)

    def gone(self, *words: str) -> None:
        """Wait until no line has all of these."""

        def is_so() -> bool:
            return bool(self.lines) and not any(all(word in line for word in words) for line in self.lines)

        until(is_so, lambda: f"no {words} on\n" + "\n".join(self.lines))

    def stopped(self) -> bool:
        """By Ctrl-Z."""
        with open(f"/proc/{self.pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "T"

    def wait(self) -> int:
        return self.process.wait(DEADLINE)

    def restored(self) -> bool:
        """The terminal is as it was: its modes, the usual screen, a cursor."""
        text = self._output.text
        screen = text.rfind(b"\x1b[?1049l") > text.rfind(b"\x1b[?1049h")
        cursor = text.rfind(b"\x1b[?25h") > text.rfind(b"\x1b[?25l")
        return self.modes() == self.before and screen and cursor

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._output.leave()
        os.close(self._slave)
        os.close(self._master)
