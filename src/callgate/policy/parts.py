"""From the limits of a key and its trunk to what its calls claim."""

from __future__ import annotations

from typing import Any, NamedTuple

from callgate.policy.claim import Members, Part, Window
from callgate.policy.more import Counted, bound
from callgate.policy.profile import RULE, Limits

Parts = tuple[Part, ...]
NO_LIMITS = Limits()
TRUNK_FIELDS = (
    *("outbound_cps", "inbound_calls", "forwarded_calls", "lines", "outbound_calls", "calls"),
    *("recordings", "more"),
)
"""The limits that a trunk can have of its own, over all keys."""


class KeyParts(NamedTuple):
    """What is claimed by a call out, a call in, and a further attempt (or a copy without its token); by the second leg
    of a forward, beside the line that its inbound leg holds (V4); by a recorded call, beside what it holds (I1).
    `more_out` and `more_in`: rules whose part depends on the call."""

    outbound: Parts = ()
    inbound: Parts = ()
    attempt: Parts = ()
    forwarded: Parts = ()
    recorded: Parts = ()
    more_out: tuple[Counted, ...] = ()
    more_in: tuple[Counted, ...] = ()


def window_of(trunk: str, limits: Limits) -> Window | None:
    """A trunk's own rate."""
    if limits.outbound_cps is None:
        return None
    return Window(RULE["outbound_cps"], f"trunk/{trunk}/outbound_cps", limits.outbound_cps)


def parts_of(
    key_id: str,
    limits: Limits,
    trunk: str = "",
    trunk_limits: Limits = NO_LIMITS,
    window: Window | None = None,
) -> KeyParts:
    """`window` is the trunk's own rate. Where calls refuse, the rate comes first: it is the rule that a carrier
    suspends for. Where they can wait for it, it comes last, so that a call which could not pass anyway is told so."""
    own = _owner(key_id, limits)
    shared = _owner(f"trunk/{trunk}", trunk_limits)
    rate: Parts = ()
    if limits.outbound_cps is not None:
        rate = (Window(RULE["outbound_cps"], f"{key_id}/outbound_cps", limits.outbound_cps),)
    if window is not None:
        rate += (window,)
    counted = (*bound(limits.more, key_id, trunk), *bound(trunk_limits.more, key_id, trunk))
    more_out = [one for one in counted if one.more.direction != "inbound"]
    more_in = [one for one in counted if one.more.direction != "outbound"]
    fixed_out = tuple([one.fixed for one in more_out if one.fixed is not None])
    fixed_in = tuple([one.fixed for one in more_in if one.fixed is not None])

    def these(*fields: str) -> Parts:
        return tuple([p for field in fields for table in (own, shared) for p in table.get(field, ())])

    out = these("outbound_calls", "calls") + fixed_out
    second = these("forwarded_calls", "lines", "calls") + fixed_out
    waits = limits.queues or window is not None
    return KeyParts(
        outbound=out + rate if waits else rate + out,
        inbound=these("inbound_calls", "lines", "calls") + fixed_in,
        attempt=rate,
        forwarded=second + rate if waits else rate + second,
        recorded=these("recordings"),
        more_out=tuple([one for one in more_out if one.fixed is None]),
        more_in=tuple([one for one in more_in if one.fixed is None]),
    )


def _owner(name: str, limits: Limits) -> dict[str, Parts]:
    """Field → the set of every limit on what is up at once."""
    fields = ("inbound_calls", "outbound_calls", "calls", "lines", "forwarded_calls", "recordings")
    values: dict[str, Any] = {field: getattr(limits, field) for field in fields}
    return {
        field: (Members(RULE[field], f"{name}/{field}", value),)
        for field, value in values.items()
        if value is not None
    }
