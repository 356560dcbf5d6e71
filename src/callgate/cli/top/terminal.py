"""The terminal: keys as they are pressed, a screen of its own, and everything as it was before at the end."""

from __future__ import annotations

import contextlib
import os
import re
import termios
from codecs import getincrementaldecoder
from collections.abc import Iterator
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.live import Live

NAMES: Final = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1b[1~": "home",
    "\x1bOH": "home",
    "\x1b[F": "end",
    "\x1b[4~": "end",
    "\x1bOF": "end",
    "\x1b[Z": "back tab",
    "\t": "tab",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
    "\x15": "erase",
    "\x1b": "escape",
}
"""What a terminal sends → the key's name. All else that begins with Escape is no key of ours, and is left out whole:
its letters must do nothing."""
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|[^\[O])")
_BEGINS = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")
_MOST: Final = 64
"""Characters of a sequence; a longer one is rubbish."""


class Decoder:
    """Bytes of a terminal → keys, however they are cut."""

    def __init__(self) -> None:
        self._decode = getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""

    @property
    def waits(self) -> bool:
        """Whether what has come may be the beginning of a key: `flush` when nothing follows."""
        return bool(self._rest)

    def feed(self, data: bytes) -> Iterator[str]:
        text, self._rest = self._rest + self._decode(data), ""
        at = 0
        while at < len(text):
            found = _SEQUENCE.match(text, at)
            if found is not None:
                at = found.end()
                if found[0] in NAMES:
                    yield NAMES[found[0]]
                elif found[0] == "\x1b\x1b":  # twice pressed
                    yield "escape"
                    at -= 1
            elif _BEGINS.match(text, at) and len(text) - at < _MOST:
                self._rest = text[at:]
                return
            else:
                yield NAMES.get(text[at], text[at])
                at += 1

    def flush(self) -> Iterator[str]:
        """Nothing has followed: it was the key Escape, or rubbish."""
        rest, self._rest = self._rest, ""
        if rest == "\x1b":
            yield "escape"


class Terminal:
    """`enter` and `leave` as often as is wanted; `fd` is that of the keyboard."""

    def __init__(self, console: Console, fd: int) -> None:
        self.console = console
        self.fd = fd
        self._before: list[Any] | None = None
        self._live: Live | None = None

    def enter(self) -> None:
        if self._before is None:
            self._before = termios.tcgetattr(self.fd)
        modes = termios.tcgetattr(self.fd)
        modes[0] &= ~termios.IXON  # Ctrl-S would hold up everything
        modes[3] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
        modes[6][termios.VMIN], modes[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self.fd, termios.TCSADRAIN, modes)
        if self._live is not None:
            self._live.stop()  # whoever had the terminal meanwhile may have left that screen
        self._live = Live(
            console=self.console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def draw(self, picture: RenderableType) -> None:
        if self._live is not None:
            self._live.update(picture, refresh=True)

    def leave(self) -> None:
        """As it was before. Keys that were pressed and not read are dropped: they were not meant for a shell. Never
        raises: the terminal may be gone."""
        live, self._live = self._live, None
        if live is not None:
            with contextlib.suppress(OSError):
                live.stop()
        before, self._before = self._before, None
        if before is not None:
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(self.fd, termios.TCSAFLUSH, before)

    def read(self) -> bytes:
        """What was pressed; empty at the end of the terminal."""
        try:
            return os.read(self.fd, 1024)
        except OSError:
            return b""
