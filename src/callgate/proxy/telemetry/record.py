"""What is kept of one call (the fields of a CDR that have meaning already)."""

from __future__ import annotations

OUTCOMES = {486: "busy", 600: "busy", 487: "cancelled", 408: "no_answer", 480: "no_answer", 404: "not_found"}
OUTCOMES |= {484: "not_found", 604: "not_found"}
"""What a final answer means for the caller; all others: failed."""


class CallRecord:
    """Times are monotonic seconds of the gate, None where it did not happen; the shell turns them into
    wall-clock time. `raw` and `canonical` are the dialled number, in a call in the DID; `caller_raw` and `caller` are
    who called; `recorded`: it was recorded at some time (I1); `forwarded_of` is the `id` of the call in that a forward
    carries on, 0 for none. `shadow`: the call has passed, and `rule`, `value` and `limit` say what would have refused
    it but for shadow mode."""

    __slots__ = (
        "answer_at",
        "attempts",
        "call_id",
        "caller",
        "caller_raw",
        "canonical",
        "direction",
        "end_at",
        "ended_by",
        "final_code",
        "forwarded_of",
        "gateway",
        "hold_seconds",
        "id",
        "invite_at",
        "key",
        "limit",
        "number_class",
        "outcome",
        "raw",
        "reason",
        "recorded",
        "ringing_at",
        "rule",
        "sent_at",
        "shadow",
        "trunk",
        "value",
        "verdict",
        "waited",
    )

    def __init__(self, id: int, direction: str, invite_at: float) -> None:
        self.id = id
        self.call_id = ""
        self.direction = direction
        self.invite_at = invite_at
        self.key = ""
        self.trunk = ""
        self.gateway = ""
        self.raw = ""
        self.canonical = ""
        self.caller_raw = ""
        self.caller = ""
        self.number_class = ""
        self.sent_at: float | None = None
        self.ringing_at: float | None = None
        self.answer_at: float | None = None
        self.end_at: float | None = None
        self.final_code = 0
        self.ended_by = ""
        self.outcome = ""
        self.verdict = "passed"
        self.rule = ""
        self.value = 0
        self.limit = 0
        self.reason = ""
        self.attempts = 0
        self.forwarded_of = 0
        self.hold_seconds = 0.0
        self.recorded = False
        self.shadow = False
        self.waited = 0.0  # seconds in the queue of the rate

    @property
    def measured(self) -> tuple[int, int] | tuple[None, None]:
        """(value, limit) of the rule that decided; None both where it measures nothing."""
        return (self.value, self.limit) if self.limit or self.value else (None, None)


PAST = CallRecord(0, "", 0.0)
"""Stands for the record of a call that has ended: its own is with whoever keeps it."""
