"""The ladder of `callgate explain --sip`, line by line."""

from __future__ import annotations

import re
from typing import Any

from callgate.cli.ladder import ladder

PBX, FIRST, SECOND = "192.0.2.20:5060", "198.51.100.5:5060", "198.51.100.6:5060"
NAMES = {PBX: "acme", FIRST: "carrier", SECOND: "carrier"}


def row(sent: bool, peer: str, what: str, about: str, cseq: str = "1 INVITE", **more: Any) -> dict[str, Any]:
    return {
        "at": "2026-04-01T12:00:00.001234Z",
        "sent": sent,
        "transport": "udp",
        "gate": "192.0.2.10:5060",
        "peer": peer,
        "name": NAMES.get(peer, ""),
        "what": what,
        "about": about,
        "cseq": cseq,
        "again": False,
    } | more


def squeezed(line: str) -> str:
    """Long runs as three: what is drawn, on a narrower page."""
    return re.sub(r"([ ─])\1{4,}", r"\1\1\1", line)


def test_a_call_that_takes_the_second_gateway() -> None:
    drawn = ladder(
        [
            row(False, PBX, "INVITE", "…5678"),
            row(True, PBX, "100", "Trying"),
            row(True, FIRST, "INVITE", "…5678"),
            row(True, FIRST, "INVITE", "…5678", again=True),
            row(False, FIRST, "503", "Service Unavailable"),
            row(True, SECOND, "INVITE", "sip:0312345678@198.51.100.6;user=phone"),
            row(False, SECOND, "200", "OK"),
            row(False, PBX, "BYE", "sip:198.51.100.6", "2 BYE"),
            row(True, PBX, "200", "OK", "2 BYE"),
        ]
    )
    lines = list(drawn)
    assert [squeezed(line) for line in lines] == [
        "   acme   callgate   carrier   carrier",
        "   udp 192.0.2.20:5060   udp 198.51.100.5:5060   udp 198.51.100.6:5060",
        "12:00:00.001   │─── INVITE …5678 ───▶│   │   │",
        "12:00:00.001   │◀─── 100 Trying ───│   │   │",
        "12:00:00.001   │   │─── INVITE …5678 ───▶│   │",
        "12:00:00.001   │   │──── INVITE …5678 again ────▶│   │",
        "12:00:00.001   │   │◀─ 503 Service Unavailable ──│   │",
        "12:00:00.001   │   │─── INVITE 0312345678 ───▶│",
        "12:00:00.001   │   │◀─── 200 OK ───│",
        "12:00:00.001   │─── BYE 198.51.100.6 ───▶│   │   │",
        "12:00:00.001   │◀─── 200 OK (BYE) ───│   │   │",
    ]
    assert {line.find("│") for line in lines[2:]} == {len(lines[2]) - len(lines[2][12:].lstrip())}
