"""A reader of HEP3 that knows nothing of ours: it goes by the specification's table alone."""

from __future__ import annotations

import ipaddress
from typing import Any

NAMES = {
    1: "family",
    2: "protocol",
    3: "source",
    4: "destination",
    5: "source",
    6: "destination",
    7: "source_port",
    8: "destination_port",
    9: "seconds",
    10: "microseconds",
    11: "kind",
    12: "agent",
    14: "password",
    15: "payload",
    17: "correlation",
}
SIZES = {1: 1, 2: 1, 3: 4, 4: 4, 5: 16, 6: 16, 7: 2, 8: 2, 9: 4, 10: 4, 11: 1, 12: 4}


def read(packet: bytes) -> dict[str, Any]:
    """The chunks by name; numbers as numbers, addresses as text."""
    assert packet[:4] == b"HEP3"
    assert int.from_bytes(packet[4:6], "big") == len(packet)
    found: dict[str, Any] = {}
    rest = packet[6:]
    while rest:
        vendor, kind, size = (int.from_bytes(rest[at : at + 2], "big") for at in (0, 2, 4))
        value, rest = rest[6:size], rest[size:]
        assert vendor == 0
        assert len(value) == size - 6 == SIZES.get(kind, size - 6)
        assert NAMES[kind] not in found
        if 3 <= kind <= 6:
            found[NAMES[kind]] = str(ipaddress.ip_address(value))
        else:
            found[NAMES[kind]] = int.from_bytes(value, "big") if kind in SIZES else value
    return found
