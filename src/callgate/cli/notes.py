"""What `callgate dial` says besides its verdict: hours, gaps and consent, which a live call would be held to."""

from __future__ import annotations

from collections.abc import Callable
from time import time

from callgate.config import Config, effective_limits
from callgate.policy.dial import DialVerdict

Notes = Callable[[str, DialVerdict], list[str]]
"""(canonical number, its verdict) → lines for a person."""


def notes_of(config: Config, key: str | None) -> Notes | None:
    """The notes of a key (or of the only one); None where there is nothing to say, or nobody knows of which key."""
    if key is None and len(config.keys) != 1:
        return None
    name = key if key is not None else next(iter(config.keys))
    section, gap = config.keys[name], effective_limits(config, name).redial_gap_seconds
    if section.quiet_hours is None and section.consent is None and not gap:
        return None
    from callgate.net.key_parts import consent_of, quiet_hours_of  # only who has hours or lists pays for it

    quiet_hours, consent = quiet_hours_of(section), consent_of(section)

    def notes(canonical: str, verdict: DialVerdict) -> list[str]:
        if not verdict.allowed or verdict.emergency:
            return []
        found = []
        if consent is not None and canonical not in consent:
            found.append("T14: it is not on the consent list, so a call gets 403")
        if quiet_hours is not None:
            why = quiet_hours.judge(canonical, time())
            found.append(
                f"T15: a call now gets 403: {why}" if why else f"T15: quiet hours are {quiet_hours}, not now"
            )
        if gap:
            found.append(f"K4: a second call within {gap:g} s gets 403")
        return found

    return notes
