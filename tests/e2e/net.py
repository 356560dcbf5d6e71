"""The places and processes of one test: everything that is opened here is closed at the end, whatever happens."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tests.e2e.gate import Gate, hostport
from tests.e2e.phone import Endpoint, Server, Stream, Udp

DID = "+815012345678"
"""The number of the key `acme`."""
NUMBER = "0312345678"
"""One that the profile allows."""
FORBIDDEN = "0990123456"
"""One that it does not (K-X2)."""
UNLIMITED = {"outbound_cps": None, "inbound_calls": None}

_places = itertools.count(os.getpid())


class Closes(Protocol):
    def close(self) -> None: ...


Thing = TypeVar("Thing", bound=Closes)


class Net:
    """A /24 of the loopback network for one test: `host(1)` is 127.0.N.1. Gate .1, PBX .2, carrier .3, its second
    gateway .4, a stranger .9."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 1 + next(_places) % 250
        self._open = contextlib.ExitStack()

    @property
    def number(self) -> int:
        """Of the network: another for each test."""
        return self._number

    def host(self, last: int) -> str:
        return f"127.0.{self._number}.{last}"

    def add(self, thing: Thing) -> Thing:
        """Close it when the test ends."""
        self._open.callback(thing.close)
        return thing

    def close(self) -> None:
        self._open.close()

    # -- peers -------------------------------------------------------------------------------------------

    def udp(self, last: int, port: int = 0, *, stamps: bool = False) -> Udp:
        return self.add(Udp(self.host(last), port, stamps=stamps))

    def pbx(self) -> Udp:
        return self.udp(2)

    def carrier(self) -> Udp:
        return self.udp(3)

    def server(self, last: int, port: int = 0) -> Server:
        return self.add(Server(self.host(last), port))

    def stream(self, gate: Gate, last: int) -> Stream:
        """A connection to the gate."""
        return self.add(Stream.to(gate.address, self.host(last)))

    # -- the gate ----------------------------------------------------------------------------------------

    def gate(
        self,
        pbx: Endpoint,
        *gateways: Endpoint | str,
        limits: Mapping[str, Any] | None = UNLIMITED,
        trunk: Mapping[str, Any] | None = None,
        key: Mapping[str, Any] | None = None,
        **top: Any,
    ) -> Gate:
        """A gate for one key, `acme`, and one trunk, `carrier`; not started yet. `key` and `trunk` are added to what
        theirs have."""
        uris = [g if isinstance(g, str) else g.uri for g in gateways]
        return self.add(
            Gate(
                self.folder,
                self.host(1),
                trunks={"carrier": {"gateways": uris, **(trunk or {})}},
                keys={
                    "acme": {
                        "sources": [pbx.address[0] + "/32"],
                        "pbx": pbx.uri,
                        "numbers": [DID],
                        "limits": dict(limits or {}),
                        **(key or {}),
                    }
                },
                **top,
            )
        )


def uri(address: tuple[str, int], transport: str = "") -> str:
    return f"sip:{hostport(address)}" + (f";transport={transport}" if transport else "")
