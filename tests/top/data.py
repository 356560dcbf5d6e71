"""What a gate might answer `callgate top`."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]


def key(name: str, *, state: str = "active", rate: int = 0, **other: Any) -> Row:
    limits = {
        "outbound_cps": {"rule": "V1", "used": rate, "limit": 3},
        "inbound_calls": {"rule": "V3", "used": 80, "limit": 100},
        "lines": {"rule": "V4", "used": 12, "limit": 100},
        "forwarded_calls": {"rule": "V4", "used": 0, "limit": 4},
        "recordings": {"rule": "I1", "used": 1, "limit": None},
    }
    row = {
        "key": name,
        "trunk": "carrier",
        "mode": "enforce",
        "state": state,
        "reason": None,
        "limits": limits,
    }
    row |= {"since": None, "until": None, "by": None, "outbound": 1, "inbound": 2}
    return row | {"queued": 0, "slowed": 0, "refused": 0} | other


def call(number: int, **other: Any) -> Row:
    row = {"call_id": f"call-{number}@pbx", "id": f"{number:016x}", "key": "acme", "direction": "outbound"}
    row |= {
        "state": "up",
        "since": "2026-04-01T09:00:00.000000Z",
        "from": "+815012345678",
        "to": "0312345678",
    }
    row |= {"lines": {"outbound_calls": 1}, "gateway": "sip:198.51.100.5:5060"}
    return row | {"recorded": False, "on_hold": False, "waited_seconds": 0.0} | other


def refusal(number: int, **other: Any) -> Row:
    row = {"at": f"2026-04-01T08:59:{number:02}.000000Z", "call_id": f"refused-{number}@pbx", "key": "acme"}
    row |= {"direction": "outbound", "from": "+815012345678", "to": "0120123456", "code": 403, "rule": "K-X2"}
    return row | {"value": None, "limit": None, "reason": "0120 is not carried"} | other


def alert(rule: str = "V1", severity: str = "warning", **other: Any) -> Row:
    row = {"rule": rule, "severity": severity, "key": "acme", "trunk": None, "text": "at its limit"}
    return (
        row
        | {
            "value": 3,
            "limit": 3,
            "since": "2026-04-01T08:00:00.000000Z",
            "advice": "call more slowly",
            "details": {},
        }
        | other
    )


def part(rows: list[Row], *, total: int | None = None, matching: int | None = None, first: int = 0) -> Row:
    count = len(rows) if total is None else total
    return {"total": count, "matching": count if matching is None else matching, "first": first, "rows": rows}


def answer(
    keys: list[Row] | Row = (),  # type: ignore[assignment]
    calls: list[Row] | Row = (),  # type: ignore[assignment]
    refusals: list[Row] | Row = (),  # type: ignore[assignment]
    *,
    alerts: list[Row] | None = None,
    trunks: list[Row] | None = None,
    **gate: Any,
) -> Row:
    up = {"gateway": "sip:198.51.100.5:5060", "up": True, "why": ""}
    parts = {"keys": keys, "calls": calls, "refusals": refusals}
    told = alerts or []
    about = {"version": "0.1.0", "pid": 1, "state": "ready", "uptime_seconds": 11_000.0, "suspended": 0}
    return {
        "gate": about | {"calls": 3, "keys": 2} | gate,
        "now": "2026-04-01T09:00:07.500000Z",
        "trunks": trunks or [{"trunk": "carrier", "registered": None, "gateways": [up]}],
        "alerts": {"total": len(told), "rows": told},
        **{name: rows if isinstance(rows, dict) else part(list(rows)) for name, rows in parts.items()},
    }
