"""What the core counts, kept as indexes into `Meters.values` so that counting is one addition."""

from __future__ import annotations

from math import isnan

from callgate.proxy.commands import Alert
from callgate.proxy.directory import Directory
from callgate.proxy.meters import ABSENT, DIRECTIONS, Meters
from callgate.proxy.peers import Gateway, Key, Trunk
from callgate.proxy.record import CallRecord

KNOWN_METHODS = frozenset(
    b"INVITE ACK BYE CANCEL OPTIONS REGISTER PRACK UPDATE INFO REFER NOTIFY SUBSCRIBE PUBLISH MESSAGE".split()
)
"""All others are counted together: methods are what strangers like to write."""


class Counts:
    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._values = meters.values
        self._received: dict[tuple[bytes, int], int] = {}
        self._sent: dict[tuple[bytes, int], int] = {}
        self._active: dict[tuple[str, int], int] = {}
        self.refused: dict[str, int] = {}
        """Key → how many of its calls were refused since the start."""
        self._added = meters.histogram("setup_added_seconds")
        self._queued = meters.histogram("queue_wait_seconds")

    def prepare(self, directory: Directory) -> None:
        """Every series of a key and a gateway exists from the start, with 0."""
        for key in directory.keys.values():
            self.prepare_key(key)
        for trunk in directory.trunks.values():
            self.prepare_trunk(trunk)

    def prepare_key(self, key: Key) -> None:
        series = self._meters.series
        self._meters.declare_key(key.id)
        self._shown("suspended", key.id)
        if key.registered:
            self._shown("registrations", key.id)
        for n, direction in enumerate(DIRECTIONS):
            limits = (
                *(("I19",) if n != 1 and key.caller_ids is not None else ()),
                *(part.rule for part in (key.outbound, key.inbound, key.forwarded)[n]),
                *(() if n == 1 else key.dial.rules),
            )
            for rule in ("drain", "store", "privacy", "V9", *(() if n == 1 else ("trunk", "K11")), *limits):
                series("calls_total", key.id, direction, "refused", rule)
            for rule in limits if key.shadow else ():
                series("shadow_refusals_total", key.id, rule)
            self._active[key.id, n] = self._shown("calls_active", key.id, direction)

    def prepare_trunk(self, trunk: Trunk) -> None:
        if trunk.register is not None:
            self._shown("registered", trunk.name)
        for gateway in trunk.gateways:
            gateway.up_series = self._meters.series("trunk_up", trunk.name, gateway.name)
            self._values[gateway.up_series] = 1.0 if gateway.up else 0.0

    def _shown(self, metric: str, *labels: str) -> int:
        """A gauge that is there, with 0 where it was not."""
        at = self._meters.series(metric, *labels)
        if isnan(self._values[at]):  # hidden by a reload, and back by another
            self._values[at] = 0.0
        return at

    def hide(self, metric: str, *labels: str) -> None:
        """A gauge of what the config does not name any more."""
        if self._meters.has(metric, *labels):
            self._meters.set(metric, *labels, value=ABSENT)

    def received(self, method: bytes, code: int) -> None:
        i = self._received.get((method, code))
        if i is None:
            method = method if method in KNOWN_METHODS else b"other"
            i = self._received[method, code] = self._message("in", method, code)
        self._values[i] += 1.0

    def sent(self, method: bytes, code: int = 0) -> None:
        i = self._sent.get((method, code))
        if i is None:
            method = method if method in KNOWN_METHODS else b"other"
            i = self._sent[method, code] = self._message("out", method, code)
        self._values[i] += 1.0

    def _message(self, direction: str, method: bytes, code: int) -> int:
        return self._meters.series(
            "sip_messages_total", direction, method.decode("ascii", "replace"), str(code) if code else ""
        )

    def rejected(self, reason: str, count: int = 1) -> None:
        self._values[self._meters.series("rejected_messages_total", reason)] += count

    def registrations(self, key: str, contacts: int) -> None:
        """How many contacts of a key are registered."""
        self._meters.set("registrations", key, value=float(contacts))

    def register_refused(self, reason: str) -> None:
        self._values[self._meters.series("registers_refused_total", reason)] += 1.0

    def retransmissions(self, total: int) -> None:
        self._values[self._meters.series("retransmissions_total")] = float(total)

    def call_up(self, key: Key, direction: int) -> None:
        self._values[self._series_active(key, direction)] += 1.0

    def call_down(self, key: Key, direction: int) -> None:
        self._values[self._series_active(key, direction)] -= 1.0

    def active(self, key: Key, direction: int) -> int:
        """Calls of a key that are up or set up."""
        return int(self._values[self._series_active(key, direction)])

    def _series_active(self, key: Key, direction: int) -> int:
        i = self._active.get((key.id, direction))
        if i is None:
            i = self._active[key.id, direction] = self._meters.series(
                "calls_active", key.id, DIRECTIONS[direction]
            )
        return i

    def ended(self, record: CallRecord) -> None:
        rule = ""
        if record.outcome == "refused":
            rule = record.rule
            self.refused[record.key] = self.refused.get(record.key, 0) + 1
        i = self._meters.series("calls_total", record.key, record.direction, record.outcome, rule)
        self._values[i] += 1.0

    def reaped(self, key: Key, reason: str) -> None:
        """A call, or one dialog of it, has ended because a side of it is gone."""
        self._values[self._meters.series("calls_reaped_total", key.id, reason)] += 1.0

    def shadow(self, key: Key, rule: str) -> None:
        """A call has passed that would have been refused."""
        self._values[self._meters.series("shadow_refusals_total", key.id, rule)] += 1.0

    def suspended(self, key: str, is_so: bool) -> None:
        self._meters.set("suspended", key, value=float(is_so))

    def emergency(self, key: Key, verdict: str) -> None:
        self._values[self._meters.series("emergency_calls_total", key.id, verdict)] += 1.0

    def alert(self, alert: Alert, raised: float, active: float) -> None:
        """`raised` more of an alert were told, `active` more are up."""
        self._values[self._meters.series("alerts_total", alert.rule, alert.severity)] += raised
        self._values[self._meters.series("alerts_active", alert.rule, alert.key, alert.severity)] += active

    def added(self, seconds: float) -> None:
        """What the gate added to the set-up of a call."""
        self._added.observe(seconds)

    def queued(self, seconds: float) -> None:
        """How long a call has waited that had to wait for a token, and got it."""
        self._queued.observe(seconds)

    def registered(self, trunk: Trunk, well: bool) -> None:
        """Whether the trunk holds a binding of the gate."""
        self._meters.set("registered", trunk.name, value=float(well))

    def gateway(self, gateway: Gateway) -> None:
        """A gateway has come up, or gone down."""
        if gateway.up_series >= 0:
            self._values[gateway.up_series] = 1.0 if gateway.up else 0.0
