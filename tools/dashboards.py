"""Writes the Grafana dashboards of deploy/grafana/dashboards from the tables below: `python tools/dashboards.py`. What
it writes is committed, and a test compares it; change the tables, not the JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent / "deploy/grafana/dashboards"
SOURCE = {"type": "prometheus", "uid": "callgate"}
Query = tuple[str, str]
"""PromQL, and the legend."""
Panel = tuple[str, str, str, tuple[Query, ...]]
"""Title, kind (stat, gauge, timeseries, table, bargauge), unit, queries."""

CALLS = "callgate_calls_total"
PER_MINUTE = "60 * sum by ({by}) (rate({metric}[$__rate_interval]))"


def per_minute(metric: str, by: str) -> Query:
    return PER_MINUTE.format(metric=metric, by=by), " ".join(f"{{{{{label}}}}}" for label in by.split(", "))


OVERVIEW: tuple[Panel, ...] = (
    ("Gate", "stat", "bool_on_off", (('up{job="callgate"}', "{{instance}}"),)),
    ("Calls up", "stat", "none", (("sum by (direction) (callgate_calls_active)", "{{direction}}"),)),
    ("Trunks up", "stat", "bool_on_off", (("max by (trunk) (callgate_trunk_up)", "{{trunk}}"),)),
    ("Running for", "stat", "s", (("time() - callgate_start_time_seconds", "{{instance}}"),)),
    ("Alerts up", "table", "none", (("sum by (rule, key, severity) (callgate_alerts_active) > 0", ""),)),
    ("Calls that ended, a minute", "timeseries", "none", (per_minute(CALLS, "outcome"),)),
    ("Use of limits", "bargauge", "percentunit", (("callgate:limit_ratio", "{{key}} {{limit}}"),)),
    (
        "Refused, a minute, by rule",
        "timeseries",
        "none",
        (per_minute(f'{CALLS}{{outcome="refused"}}', "rule"),),
    ),
    (
        "Emergency calls in a day",
        "stat",
        "none",
        (("sum by (verdict) (increase(callgate_emergency_calls_total[1d]))", "{{verdict}}"),),
    ),
    (
        "Added to the set-up of a call",
        "timeseries",
        "s",
        tuple(
            (
                f"histogram_quantile({q}, sum by (le) (rate(callgate_setup_added_seconds_bucket[$__rate_interval])))",
                f"{q}",
            )
            for q in (0.5, 0.99)
        ),
    ),
    ("Loop lag", "timeseries", "s", (("callgate_loop_lag_seconds", "{{instance}}"),)),
    (
        "Processor and memory",
        "timeseries",
        "none",
        (
            ("rate(callgate_process_cpu_seconds_total[$__rate_interval])", "processors"),
            ("callgate_process_resident_memory_bytes / 1e9", "GB"),
        ),
    ),
    (
        "Call records",
        "timeseries",
        "none",
        (
            ("callgate_records_held", "held in memory"),
            ("callgate_records_spill_bytes / 1e6", "waiting in state_dir, MB"),
            ("callgate_records_lost_total", "lost"),
            ("1 - callgate_database_up", "database away"),
        ),
    ),
)

KEY: tuple[Panel, ...] = (
    (
        "Window of one second (V1)",
        "gauge",
        "none",
        (
            ('max_over_time(callgate_rate_window_used{key="$key"}[$__rate_interval])', "used"),
            ('callgate_rate_window_limit{key="$key"}', "limit"),
        ),
    ),
    *(
        (
            title,
            "timeseries",
            "none",
            ((f'callgate_{used}{{key="$key"}}', "used"), (f'callgate_{limit}{{key="$key"}}', "limit")),
        )
        for title, used, limit in (
            ("Inbound calls (V3)", "inbound_calls_used", "inbound_calls_limit"),
            ("Lines (V4)", "lines_used", "lines_limit"),
            ("Forwards (V4)", "forwarded_active", "forwarded_limit"),
            ("Recordings (I1)", "recordings_active", "recordings_limit"),
        )
    ),
    (
        "Queue",
        "timeseries",
        "none",
        (('callgate_queue_depth{key="$key"}', "waiting"),),
    ),
    (
        "Wait in the queue, all keys",
        "timeseries",
        "s",
        (
            (
                "histogram_quantile(0.95, sum by (le) (rate(callgate_queue_wait_seconds_bucket[$__rate_interval])))",
                "0.95",
            ),
        ),
    ),
    (
        "Refused, a minute, by rule",
        "timeseries",
        "none",
        (per_minute(f'{CALLS}{{key="$key",outcome="refused"}}', "rule"),),
    ),
    (
        "Would be refused (shadow mode)",
        "timeseries",
        "none",
        (per_minute('callgate_shadow_refusals_total{key="$key"}', "rule"),),
    ),
    (
        "Calls that ended, a minute",
        "timeseries",
        "none",
        (per_minute(f'{CALLS}{{key="$key"}}', "direction, outcome"),),
    ),
    ("Calls up", "timeseries", "none", (('callgate_calls_active{key="$key"}', "{{direction}}"),)),
    (
        "Suspended (V9), slowed (K11)",
        "stat",
        "none",
        (
            ('callgate_suspended{key="$key"}', "suspended"),
            ('callgate_congestion_level{key="$key"}', "slowed by"),
        ),
    ),
)

TRUNK: tuple[Panel, ...] = (
    (
        "Gateways",
        "stat",
        "bool_on_off",
        (('callgate_trunk_up{trunk="$trunk"}', "{{gateway}}"),),
    ),
    ("Registered", "stat", "bool_on_off", (('callgate_registered{trunk="$trunk"}', "{{trunk}}"),)),
    (
        "Certificates expire in",
        "stat",
        "s",
        (("callgate_certificate_expires_seconds - time()", "{{trunk}} {{gateway}}"),),
    ),
    (
        "Availability",
        "timeseries",
        "percentunit",
        (('avg_over_time(callgate_trunk_up{trunk="$trunk"}[1h])', "{{gateway}}"),),
    ),
    (
        "Final answers received to INVITE, a minute",
        "timeseries",
        "none",
        (
            per_minute(
                'callgate_sip_messages_total{direction="in",method="INVITE",code=~"[2-6].."}',
                "code",
            ),
        ),
    ),
    (
        "Sent again, a minute",
        "timeseries",
        "none",
        (per_minute("callgate_retransmissions_total", "instance"),),
    ),
    (
        "Could not be sent, a minute",
        "timeseries",
        "none",
        (per_minute("callgate_send_failures_total", "transport"),),
    ),
    (
        "Went no further, a minute",
        "timeseries",
        "none",
        (per_minute("callgate_rejected_messages_total", "reason"),),
    ),
    ("Connections", "timeseries", "none", (("callgate_connections_active", "{{transport}}"),)),
)

# What the gate refuses was never an attempt at the carrier.
_TRIED = f'increase({CALLS}{{outcome!="refused",key=~"$keys"}}[1m])'
_ANSWERED = f'increase({CALLS}{{outcome="answered",key=~"$keys"}}[1m])'
_HEARD = f'increase({CALLS}{{outcome=~"answered|busy|no_answer|cancelled",key=~"$keys"}}[1m])'
_WORKED = f'increase({CALLS}{{outcome=~"answered|busy|no_answer|cancelled|not_found",key=~"$keys"}}[1m])'


def _share(part: str, by: str) -> Query:
    return f"sum by ({by}) ({part}) / (sum by ({by}) ({_TRIED}) > 0)", f"{{{{{by}}}}}"


SUCCESS: tuple[Panel, ...] = (
    ("Answered (ASR), by direction", "timeseries", "percentunit", (_share(_ANSWERED, "direction"),)),
    ("Answered (ASR), by key", "timeseries", "percentunit", (_share(_ANSWERED, "key"),)),
    ("Reached somebody (NER)", "timeseries", "percentunit", (_share(_HEARD, "direction"),)),
    ("Not failed by network or carrier", "timeseries", "percentunit", (_share(_WORKED, "direction"),)),
    ("Tried, in each minute", "timeseries", "none", ((f"sum by (direction) ({_TRIED})", "{{direction}}"),)),
    (
        "Failed, in each minute",
        "timeseries",
        "none",
        ((f'sum by (key) (increase({CALLS}{{outcome="failed",key=~"$keys"}}[1m]))', "{{key}}"),),
    ),
    (
        "Ended because a side was gone, a minute",
        "timeseries",
        "none",
        (per_minute('callgate_calls_reaped_total{key=~"$keys"}', "reason"),),
    ),
)


def _variable(name: str, query: str, *, several: bool = False) -> dict[str, Any]:
    every: dict[str, Any] = {"multi": True, "includeAll": True, "current": {"text": "All", "value": "$__all"}}
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": query,
        "refresh": 2,
        **(every if several else {}),
    }


BOARDS: dict[str, tuple[str, tuple[Panel, ...], list[dict[str, Any]]]] = {
    "overview": ("CallGate: overview", OVERVIEW, []),
    "key": ("CallGate: key", KEY, [_variable("key", "label_values(callgate_suspended, key)")]),
    "trunk": ("CallGate: trunk", TRUNK, [_variable("trunk", "label_values(callgate_trunk_up, trunk)")]),
    "success": (
        "CallGate: success per minute",
        SUCCESS,
        [_variable("keys", "label_values(callgate_suspended, key)", several=True)],
    ),
}


def board(name: str) -> dict[str, Any]:
    """A dashboard in Grafana's own words (schema 38): panels of 8 by 7, three a row."""
    title, panels, variables = BOARDS[name]
    return {
        "uid": f"callgate-{name}",
        "title": title,
        "tags": ["callgate"],
        "schemaVersion": 38,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["callgate"], "title": "CallGate", "asDropdown": False}],
        "templating": {"list": variables},
        "panels": [_panel(number, *panel) for number, panel in enumerate(panels)],
    }


def _panel(number: int, title: str, kind: str, unit: str, queries: tuple[Query, ...]) -> dict[str, Any]:
    now = kind == "table"
    return {
        "id": number + 1,
        "title": title,
        "type": kind,
        "datasource": SOURCE,
        "gridPos": {"x": 8 * (number % 3), "y": 7 * (number // 3), "w": 8, "h": 7},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "expr": expression,
                "legendFormat": legend,
                **({"instant": True, "format": "table"} if now else {}),
            }
            for place, (expression, legend) in enumerate(queries)
        ],
    }


def text(name: str) -> str:
    return json.dumps(board(name), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    HERE.mkdir(parents=True, exist_ok=True)
    for name in BOARDS:
        (HERE / f"{name}.json").write_text(text(name), encoding="utf-8")
