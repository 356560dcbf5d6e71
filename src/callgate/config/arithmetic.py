"""What each limit of a key comes to, in words: for `callgate check` and for the admin API."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from callgate.policy.ledger import MARGIN
from callgate.policy.more import More
from callgate.policy.profile import RULE, Limits, Profile


def duration(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    parts = [f"{hours} h" if hours else "", f"{rest // 60} min" if rest >= 60 else ""]
    return " ".join(filter(None, parts)) or f"{seconds:g} s"


def _without_notice(value: int, contract: int | None) -> int:
    """The contract's "N or more" includes the N-th: what needs no notice ends one below."""
    return value if contract is None else min(value, contract - 1)


def _rate(value: int, limits: Limits, profile: Profile) -> str:
    if value == 0:
        return "no outbound call at all"
    more = "one more: 503"
    if limits.queues:
        more = f"one more waits its turn, {limits.queue_seconds:g} s at most ({_waiting(value, limits)} can wait)"
    return (
        f"at most {value} new calls in any window of 1.000 s, as the carrier sees them arrive "
        f"({value * 3600:,} an hour); {more}"
    )


def _waiting(rate: int, limits: Limits) -> int:
    """How many calls can wait so long that each still gets its turn."""
    return rate * int(limits.queue_seconds / (1.0 + MARGIN))


def _lines(value: int, limits: Limits, profile: Profile) -> str:
    inbound = value if limits.inbound_calls is None else min(value, limits.inbound_calls)
    forwards = value // 2 if limits.forwarded_calls is None else min(value // 2, limits.forwarded_calls)
    return f"{value} lines = {inbound} inbound, or {forwards} forwarded × 2; inbound legs + forwarded outbound legs"


def _inbound(value: int, limits: Limits, profile: Profile) -> str:
    quiet = _without_notice(value, profile.limits.get("inbound_calls"))
    return f"at most {value} inbound calls up at once; without notice: {quiet} inbound; one more: 486"


def _forwards(value: int, limits: Limits, profile: Profile) -> str:
    quiet = _without_notice(value, profile.limits.get("forwarded_calls"))
    return f"{value} forwarded × 2 lines = {value * 2} lines; without notice: {quiet} forwarded"


def _recordings(value: int, limits: Limits, profile: Profile) -> str:
    then = "goes on unrecorded" if limits.on_recordings_exceeded == "unrecorded" else "503, inbound 486"
    return f"at most {value} calls recorded at once; one more: {then}"


WORDS: Mapping[str, Callable[[Any, Limits, Profile], str]] = {
    "outbound_cps": _rate,
    "inbound_calls": _inbound,
    "outbound_calls": lambda n, *_: f"at most {n} ordinary outbound calls up at once; one more: 503",
    "calls": lambda n, *_: f"at most {n} calls up at once, inbound + outbound",
    "lines": _lines,
    "forwarded_calls": _forwards,
    "recordings": _recordings,
    "max_call_seconds": lambda n, *_: f"BYE to both sides {duration(n)} after the answer",
    "hold_alert_seconds": lambda n, *_: f"a call on hold for {n:g} s is told of",
    "hold_release_seconds": lambda n, *_: f"a call on hold for {n:g} s gets a BYE to both sides",
    "redial_gap_seconds": lambda n, *_: f"at least {n:g} s between two calls to the same number",
}
"""Limit → what it means. The order is the order of the report."""


def limit_lines(limits: Limits, profile: Profile) -> Iterator[str]:
    for name, words in WORDS.items():
        value, origin = getattr(limits, name), limits.origin[name]
        text = "no limit" if value is None else words(value, limits, profile)
        yield f"  {RULE[name]:<4}{name:<21}{plain(value):<8}{text}  [{origin}]"
    yield from more_lines(limits.more, profile)


def more_lines(rules: Iterable[More], profile: Profile | None) -> Iterator[str]:
    inherited = (profile.limits.get("more") or ()) if profile is not None else ()
    for one in rules:
        origin = f"  [profile {profile.name}]" if profile is not None and one in inherited else ""
        refused = {"outbound": "503", "inbound": "486", "both": "503, inbound 486"}[one.direction]
        yield f"  {one.rule:<4}{'more':<18}{one.limit:<8}at most {one.limit} {one.what}; one more: {refused}{origin}"


def plain(value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or "-"
    return str(int(value)) if value == int(value) else str(value)
