"""What the core asks its shell to do. The shell carries them out in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from callgate.policy.claim import Claim
from callgate.proxy.flow import Flow
from callgate.proxy.identity.bindings import Row
from callgate.proxy.telemetry.record import CallRecord

if TYPE_CHECKING:
    from callgate.proxy.contract.suspension import Suspension
    from callgate.proxy.peers import Gateway, Key


class Send:
    """Put `data` on the wire. `claim` is not 0 for a copy of an initial INVITE that has not been answered: then
    the shell calls `store.sent` and `core.sent` with it once the kernel has taken the last byte, and never writes
    it to a stream that still holds unsent bytes."""

    __slots__ = ("claim", "data", "flow")

    def __init__(self, flow: Flow, data: bytes, claim: int = 0) -> None:
        self.flow = flow
        self.data = data
        self.claim = claim


class Release:
    """Give back what a claim holds (`Store.release`)."""

    __slots__ = ("claim_id",)

    def __init__(self, claim_id: int) -> None:
        self.claim_id = claim_id


class Withdraw:
    """A copy of an INVITE that still waits to be sent is not wanted any more: its call has ended or gone elsewhere.
    What has begun to go out goes on; its token counts from then."""

    __slots__ = ("claim_id",)

    def __init__(self, claim_id: int) -> None:
        self.claim_id = claim_id


class Arrived:
    """A call in has been granted, and whoever sent it has counted it already: what it took of windows counts from
    now."""

    __slots__ = ("claim_id",)

    def __init__(self, claim_id: int) -> None:
        self.claim_id = claim_id


class Renew:
    """The call lives: its claim's lease ends `lease` seconds from now (`Store.renew`)."""

    __slots__ = ("claim_id", "lease")

    def __init__(self, claim_id: int, lease: float) -> None:
        self.claim_id = claim_id
        self.lease = lease


class Record:
    """A call has ended: keep its record."""

    __slots__ = ("record",)

    def __init__(self, record: CallRecord) -> None:
        self.record = record


class Alert:
    """Something a person should know: the fields of an `alert.raised` event, or of its `alert.resolved`.

    `key` is empty and `trunk` is not where it is about a trunk. `details` hold telephone numbers by field name, apart
    from the text so that the log can mask them. `advice` is what to do, empty where the rule alone says it.
    """

    __slots__ = (
        "advice",
        "details",
        "key",
        "limit",
        "resolved",
        "rule",
        "severity",
        "text",
        "trunk",
        "value",
    )

    def __init__(
        self,
        rule: str,
        severity: str,
        key: str,
        text: str,
        value: object = None,
        limit: object = None,
        *,
        details: Mapping[str, str] | None = None,
        resolved: bool = False,
        trunk: str = "",
        advice: str = "",
    ) -> None:
        self.advice = advice
        self.details: Mapping[str, str] = details or {}
        self.rule = rule
        self.severity = severity
        self.key = key
        self.text = text
        self.value = value
        self.limit = limit
        self.resolved = resolved
        self.trunk = trunk

    @property
    def name(self) -> tuple[str, ...]:
        """What makes it another one than others."""
        told = self.details
        return (
            *(self.rule, self.key, self.trunk, self.severity),
            *(told.get("gateway", ""), told.get("kind", ""), told.get("of", "")),
        )


class Note:
    """A line for the log: something has changed that a person may look for later. Never one per message."""

    __slots__ = ("event", "fields")

    def __init__(self, event: str, **fields: object) -> None:
        self.event = event
        self.fields = fields


class Journal:
    """Write a row down (`proxy.restart.journal`): within 50 ms it must outlive this process."""

    __slots__ = ("row",)

    def __init__(self, row: tuple[Any, ...]) -> None:
        self.row = row


class Keep:
    """What is registered for a user of a key from now on: to be kept over a restart. No rows: nothing is."""

    __slots__ = ("key", "rows", "user")

    def __init__(self, key: str, user: bytes, rows: tuple[Row, ...]) -> None:
        self.key = key
        self.user = user
        self.rows = rows


class Suspended:
    """These keys are suspended from now on, and no others: to be kept over a restart. `key` is whose suspension has
    changed, from `before` to `after` (None: it has none), and `by` whom."""

    __slots__ = ("after", "before", "by", "key", "rows")

    def __init__(
        self,
        rows: tuple[Suspension, ...],
        key: str,
        before: Suspension | None,
        after: Suspension | None,
        by: str,
    ) -> None:
        self.rows = rows
        self.key = key
        self.before = before
        self.after = after
        self.by = by


class Resolve:
    """A gateway or PBX that is given by name does not answer: perhaps its name leads elsewhere by now. `who` is a
    `peers.Gateway` or a `peers.Key`."""

    __slots__ = ("who",)

    def __init__(self, who: Gateway | Key) -> None:
        self.who = who


class Hangup:
    """Close a stream that can't be read any more, after what was sent to it."""

    __slots__ = ("flow",)

    def __init__(self, flow: Flow) -> None:
        self.flow = flow


Command = (
    Send
    | Claim
    | Withdraw
    | Arrived
    | Release
    | Renew
    | Journal
    | Record
    | Alert
    | Note
    | Keep
    | Suspended
    | Resolve
    | Hangup
)
