"""What the gate counts, in a form that another process renders.

A series is a place in a flat sequence of doubles: counting is `meters.values[i] += 1` and nothing else. The
shell lays the sequence into shared memory and tells the ops process which place means what (`on_new`); so a
scrape costs the gate nothing, however many keys there are.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, MutableSequence
from typing import Final, Literal, NamedTuple, Protocol

PREFIX: Final = "callgate_"


class Metric(NamedTuple):
    """One metric: `labels` are label names in order, `buckets` a histogram's upper bounds in its unit."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


METRICS: Final[Mapping[str, Metric]] = {
    # calls
    "calls_total": Metric(
        "counter",
        "Calls, counted once at their end; rule is empty unless the gate refused.",
        ("key", "direction", "outcome", "rule"),
    ),
    "emergency_calls_total": Metric(
        "counter", "Calls to an emergency number, or suspected to be one.", ("key", "verdict")
    ),
    "calls_reaped_total": Metric(
        "counter", "Calls that ended because a side of them was gone, by how that showed.", ("key", "reason")
    ),
    "shadow_refusals_total": Metric(
        "counter",
        "Calls that passed and that their key's limits would have refused: shadow mode.",
        ("key", "rule"),
    ),
    "calls_active": Metric("gauge", "Calls up, ringing ones included.", ("key", "direction")),
    "setup_added_seconds": Metric(
        "histogram",
        "What the gate adds to the set-up of a call: from an INVITE's arrival to its first copy sent.",
        (),
        (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
    ),
    "queue_wait_seconds": Metric(
        "histogram",
        "How long calls waited that had to wait for a token of the rate (V1) and got one.",
        (),
        (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0),
    ),
    # limits of a key
    "rate_window_used": Metric("gauge", "Tokens of the outbound rate (V1) that are out.", ("key",)),
    "rate_window_limit": Metric("gauge", "New outbound calls allowed in one second (V1).", ("key",)),
    "queue_depth": Metric("gauge", "Calls that wait for a token of the rate (V1).", ("key",)),
    "inbound_calls_used": Metric("gauge", "Inbound calls that count against V3.", ("key",)),
    "inbound_calls_limit": Metric("gauge", "Inbound calls allowed at once (V3).", ("key",)),
    "outbound_calls_used": Metric("gauge", "Outbound calls that count against C2.", ("key",)),
    "outbound_calls_limit": Metric("gauge", "Ordinary outbound calls allowed at once (C2).", ("key",)),
    "calls_used": Metric("gauge", "Calls of both directions that count against K6.", ("key",)),
    "calls_limit": Metric("gauge", "Calls allowed at once, both directions together (K6).", ("key",)),
    "lines_used": Metric("gauge", "Lines held: inbound legs + forwarded outbound legs (V4).", ("key",)),
    "lines_limit": Metric("gauge", "Lines allowed at once (V4).", ("key",)),
    "forwarded_active": Metric("gauge", "Forwarded calls up at once (V4).", ("key",)),
    "forwarded_limit": Metric("gauge", "Forwarded calls allowed at once (V4).", ("key",)),
    "recordings_active": Metric("gauge", "Calls recorded at once (I1).", ("key",)),
    "recordings_limit": Metric("gauge", "Calls that may be recorded at once (I1).", ("key",)),
    "congestion_level": Metric(
        "gauge", "By how many steps a key's calls are slowed because its trunk is congested (K11).", ("key",)
    ),
    "suspended": Metric("gauge", "1 while a key is suspended (V9): its new calls are refused.", ("key",)),
    # alerts
    "alerts_total": Metric("counter", "Alerts raised.", ("rule", "severity")),
    "alerts_active": Metric("gauge", "Alerts raised and not resolved.", ("rule", "key", "severity")),
    # the registrar
    "registrations": Metric("gauge", "Contacts registered.", ("key",)),
    "registers_refused_total": Metric("counter", "REGISTERs that were not granted, by reason.", ("reason",)),
    # trunks
    "trunk_up": Metric(
        "gauge", "1 while the gateway is used, 0 while it is held to be down.", ("trunk", "gateway")
    ),
    "registered": Metric("gauge", "1 while the trunk holds a registration of the gate.", ("trunk",)),
    "certificate_expires_seconds": Metric(
        "gauge",
        "When a certificate expires, in seconds since 1970 (UTC): the listeners', a trunk's, or what a gateway shows.",
        ("trunk", "gateway"),
    ),
    # the wire
    "sip_messages_total": Metric(
        "counter",
        "SIP messages received (in) and sent (out); code is empty for a request.",
        ("direction", "method", "code"),
    ),
    "retransmissions_total": Metric("counter", "Requests and responses that the gate sent again."),
    "rejected_messages_total": Metric("counter", "Messages that went no further, by reason.", ("reason",)),
    "send_failures_total": Metric(
        "counter", "Messages that the kernel or a peer would not take.", ("transport",)
    ),
    "transactions_active": Metric("gauge", "SIP transactions in memory.", ("side",)),
    "dialogs_active": Metric("gauge", "Dialogs in memory."),
    "connections_active": Metric("gauge", "Open connections.", ("transport",)),
    # copies for Homer
    "hep_sent_total": Metric("counter", "Copies of messages that were sent to Homer (HEP3)."),
    "hep_lost_total": Metric("counter", "Copies of messages that were not sent, by reason.", ("reason",)),
    # call records
    "records_lost_total": Metric(
        "counter", "Call records lost: neither database nor state_dir could be written, and memory was full."
    ),
    "records_held": Metric("gauge", "Call records in memory that are not written yet."),
    "records_spill_bytes": Metric("gauge", "Call records that wait in state_dir for the database, in bytes."),
    "database_up": Metric("gauge", "1 while the database of call records can be written."),
    # events to receivers
    "outbox_pending": Metric("gauge", "Events that a receiver has not got yet.", ("receiver",)),
    "outbox_dead": Metric("gauge", "Events that were given up: `outbox replay` sends them.", ("receiver",)),
    "outbox_oldest_seconds": Metric("gauge", "How long the oldest event waits.", ("receiver",)),
    "webhook_attempts_total": Metric(
        "counter", "Attempts to deliver an event, by result: delivered or failed.", ("receiver", "result")
    ),
    # the gate itself
    "store_no_answer_total": Metric("counter", "Claims that the store did not answer in time (rule store)."),
    "loop_lag_seconds": Metric("gauge", "How late the gate's loop woke at its last heartbeat."),
    "log_lines_lost_total": Metric("counter", "Log lines dropped because nobody read them."),
    "series_lost_total": Metric("counter", "Series that found no room and are not shown."),
    "ops_restarts_total": Metric("counter", "Times the gate started its ops process anew."),
    "start_time_seconds": Metric("gauge", "When the gate started, in seconds since 1970 (UTC)."),
    "build_info": Metric("gauge", "1; the labels say what runs.", ("version", "python")),
}

LIMIT_GAUGES: Final[Mapping[str, tuple[str, str]]] = {
    "outbound_cps": ("rate_window_used", "rate_window_limit"),
    "inbound_calls": ("inbound_calls_used", "inbound_calls_limit"),
    "outbound_calls": ("outbound_calls_used", "outbound_calls_limit"),
    "lines": ("lines_used", "lines_limit"),
    "forwarded_calls": ("forwarded_active", "forwarded_limit"),
    "recordings": ("recordings_active", "recordings_limit"),
    "calls": ("calls_used", "calls_limit"),
}
"""The last part of a limit's name in the store → its gauges."""

DIRECTIONS: Final = ("outbound", "inbound", "forwarded")
FORWARDED: Final = 2
"""Its place among them; the others have theirs from `token`."""
OUTCOMES: Final = ("answered", "busy", "cancelled", "no_answer", "not_found", "failed")
REFUSED: Final = "refused"
REAPED: Final = ("session_timer", "probe_481", "probe_silence", "no_ack", "no_answer")
VERDICTS: Final = ("passed", "refused")

ABSENT: Final = float("nan")
"""A series with this value is not shown: a limit that a reload took away, a ratio without any request."""

OTHER: Final = "other"

# The first places are the gate's word to ops about itself; SCRAP takes what found no room and is never shown.
SCRAP: Final = 0
HEARTBEAT: Final = 1  # time.monotonic() of the gate's loop when it last turned
STATE: Final = 2  # one of STATES
LISTENERS: Final = 3  # SIP listeners that are bound
STORE_UP: Final = 4  # 1 or 0
DATABASE_UP: Final = 5  # 1 or 0
RESERVED: Final = 16
STATES: Final = ("starting", "ready", "draining")

# Labels whose values come from the network: label → (known, more). What is known always has a series of its
# own, so that no stranger can use up its place; of anything else, the first `more` values have one and the
# rest share "other".
_METHODS: Final = (
    *("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "PRACK", "UPDATE", "INFO", "REFER", "NOTIFY"),
    *("SUBSCRIBE", "PUBLISH", "MESSAGE"),
)
_CODES: Final = (
    *(100, 180, 181, 182, 183, 199, 200, 202, 204, 300, 301, 302, 305, 380),
    *(*range(400, 409), 410, *range(412, 418), *range(420, 425), 428, 429, 430, 433, *range(436, 441)),
    *(469, 470, *range(480, 490), 491, 493, 494),
    *(*range(500, 506), 513, 555, 580, 600, 603, 604, 606, 607, 608),
)
OPEN_LABELS: Final[Mapping[str, tuple[frozenset[str], int]]] = {
    "method": (frozenset(_METHODS), 8),
    "code": (frozenset({"", *map(str, _CODES)}), 32),
    "transport": (frozenset({"udp", "tcp", "tls"}), 4),
}
_fit = re.compile(r"[A-Za-z0-9_.:+!%*`'~-]{1,32}", re.ASCII).fullmatch


class Values(Protocol):
    """A mutable sequence of doubles: a list, or a `memoryview` of doubles (which can't grow)."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> float: ...
    def __setitem__(self, index: int, value: float, /) -> None: ...


OnNew = Callable[[int, str, tuple[str, ...]], None]


class Histogram:
    """Counts of observations by bucket, not yet added up, then the sum of what was observed."""

    __slots__ = ("_base", "_bounds", "_sum", "_values")

    def __init__(self, values: Values, base: int, bounds: tuple[float, ...]) -> None:
        self._values = values
        self._base = base
        self._bounds = bounds
        self._sum = base + len(bounds) + 1

    def observe(self, seconds: float) -> None:
        """Count one observation; a bucket holds what is less than or equal to its bound."""
        self._values[self._base + bisect_left(self._bounds, seconds)] += 1.0
        self._values[self._sum] += seconds


def width(metric: Metric) -> int:
    """How many places one series takes: one, or a histogram's buckets, the overflow and the sum."""
    return len(metric.buckets) + 2 if metric.kind == "histogram" else 1


class Meters:
    """The series of a gate, each at its place in `values`.

    `on_new(index, metric, labels)` is called once per series, with the name as in `METRICS`. Metrics without
    labels are there from the start.
    """

    __slots__ = ("_at", "_extra", "_lost", "_next", "_on_new", "values")

    def __init__(self, values: Values, on_new: OnNew | None = None) -> None:
        self.values = values
        self._on_new = on_new
        self._at: dict[tuple[str, tuple[str, ...]], int] = {}
        self._extra: dict[tuple[str, str], set[str]] = {}
        self._next = RESERVED
        self._lost = SCRAP
        if not self._room(RESERVED):
            raise ValueError(f"meters need room for more than {RESERVED} values, got {len(values)}")
        for name, metric in METRICS.items():
            if not metric.labels:
                self.series(name)
        self._lost = self.series("series_lost_total")

    def series(self, metric: str, *labels: str) -> int:
        """The place of a series, made at the first call. `labels` are values in the order of `METRICS`.

        Raises KeyError for an unknown metric, ValueError for the wrong number of labels. When there is no
        room left, it is the scrap place: counting goes on, nothing shows it but `series_lost_total`.
        """
        at = self._at.get((metric, labels))
        return self._make(metric, labels) if at is None else at

    def has(self, metric: str, *labels: str) -> bool:
        """Whether there is such a series."""
        return (metric, labels) in self._at

    def histogram(self, metric: str, *labels: str) -> Histogram:
        """The histogram of that name, to keep and `observe` into."""
        buckets = METRICS[metric].buckets
        at = self.series(metric, *labels)
        if at == SCRAP:
            return Histogram([0.0] * (len(buckets) + 2), 0, buckets)
        return Histogram(self.values, at, buckets)

    def set(self, metric: str, *labels: str, value: float) -> None:
        """Set a gauge; `ABSENT` takes it out of sight."""
        self.values[self.series(metric, *labels)] = value

    def declare_key(
        self, key: str, rules: Iterable[str] = (), limits: Mapping[str, float | None] | None = None
    ) -> None:
        """Make the series of a key, so that each exists with 0 before its first call.

        `rules` are the ids that can refuse a call of the key; `limits` are values by metric name
        (`{"rate_window_limit": 3}`). A limit that is None has no series: one from before a reload vanishes.
        """
        for direction in DIRECTIONS:
            self.series("calls_active", key, direction)
            for outcome in OUTCOMES:
                self.series("calls_total", key, direction, outcome, "")
            for rule in rules:
                self.series("calls_total", key, direction, REFUSED, rule)
        for reason in REAPED:
            self.series("calls_reaped_total", key, reason)
        for verdict in VERDICTS:
            self.series("emergency_calls_total", key, verdict)
        for name, limit in (limits or {}).items():
            if limit is not None:
                self.set(name, key, value=limit)
            elif (name, (key,)) in self._at:
                self.set(name, key, value=ABSENT)

    def _make(self, name: str, labels: tuple[str, ...]) -> int:
        try:
            metric = METRICS[name]
        except KeyError:
            raise KeyError(f"no metric {name!r} in callgate.proxy.telemetry.meters.METRICS") from None
        if len(labels) != len(metric.labels):
            raise ValueError(f"metric {name} has the labels {metric.labels}, got {labels}")
        labels = self._bounded(name, metric.labels, labels)
        slot = (name, labels)
        at = self._at.get(slot)
        if at is not None:
            return at
        size = width(metric)
        if not self._room(self._next + size):
            self.values[self._lost] += 1.0
            self._at[slot] = SCRAP
            return SCRAP
        at = self._at[slot] = self._next
        self._next += size
        if self._on_new is not None:
            self._on_new(at, name, labels)
        return at

    def _bounded(self, name: str, names: tuple[str, ...], labels: tuple[str, ...]) -> tuple[str, ...]:
        """The labels with hostile or too many values as "other". What comes in is never kept as it came: else
        the table of series would grow with every new word."""
        bounded = []
        for label, value in zip(names, labels, strict=True):
            known, more = OPEN_LABELS.get(label, (None, 0))
            if known is not None and value not in known:
                extra = self._extra.setdefault((name, label), set())
                if value not in extra:
                    if len(extra) < more and _fit(value):
                        extra.add(value)
                    else:
                        value = OTHER
            bounded.append(value)
        return tuple(bounded)

    def _room(self, needed: int) -> bool:
        values = self.values
        if len(values) < needed and isinstance(values, MutableSequence):
            values.extend([0.0] * (needed - len(values)))
        return len(values) >= needed
