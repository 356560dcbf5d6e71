"""What the machine itself knows of names: /etc/hosts, /etc/resolv.conf, and the C library for all other ways."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
from ipaddress import ip_address
from pathlib import Path

Server = tuple[str, int]
PORT = 53
RESOLV_CONF = Path("/etc/resolv.conf")
HOSTS = Path("/etc/hosts")
FILE_MAX = 4 << 20
THREADS_MAX = 8
"""Look-ups of the C library at once: one can't be ended, and takes as long as it likes."""


def _text_of(path: Path) -> str:
    """A file of the system; empty where it can't be read."""
    with contextlib.suppress(OSError), path.open("rb") as stream:
        return stream.read(FILE_MAX).decode("ascii", "replace")
    return ""


def name_servers(path: Path) -> tuple[Server, ...]:
    """The name servers of a resolv.conf; where it names none, this machine (resolv.conf(5))."""
    found = []
    for words in map(str.split, _text_of(path).splitlines()):
        if len(words) > 1 and words[0] == "nameserver":
            with contextlib.suppress(ValueError):
                found.append((str(ip_address(words[1])), PORT))
    return tuple(found) or (("127.0.0.1", PORT),)


def hosts_entries(name: str, path: Path) -> list[str]:
    """The addresses that a hosts file gives a name, in its order (hosts(5))."""
    # The file can be long: it is searched, not taken apart.
    entry = re.compile(
        rf"^[ \t]*([0-9a-f.:]+)(?:[ \t]+[^#\s]+)*?[ \t]+{re.escape(name.rstrip('.'))}\.?(?=[\s#]|\Z)",
        re.IGNORECASE | re.MULTILINE,
    )
    found: list[str] = []
    for address in entry.findall(_text_of(path)):
        with contextlib.suppress(ValueError):
            text = str(ip_address(address))
            if text not in found:
                found.append(text)
    return found


class CLibrary:
    """`getaddrinfo` on threads that hold up neither the loop nor the end of the program."""

    def __init__(self) -> None:
        self.running = 0

    async def addresses(self, name: str, within: float) -> list[str] | None:
        """The addresses of a name; None where nothing could be learned `within` seconds."""
        if self.running >= THREADS_MAX:
            return None
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[list[str] | None] = loop.create_future()

        def settle(found: list[str] | None) -> None:
            if not waiting.done():
                waiting.set_result(found)

        def done(found: list[str] | None) -> None:
            self.running -= 1
            settle(found)

        def ask() -> None:
            found = _getaddrinfo(name)
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(done, found)

        self.running += 1
        threading.Thread(target=ask, name="name look-up", daemon=True).start()
        timer = loop.call_later(within, settle, None)
        try:
            return await waiting
        finally:
            timer.cancel()


def _getaddrinfo(name: str) -> list[str] | None:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except socket.gaierror as error:
        return [] if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", -5)) else None
    except (OSError, UnicodeError):
        return None
    return list(dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found))
