"""Emergency calls: to the emergency route at once, or an answer that makes the PBX try its next route at once; and the
authorities who call back.

A trunk that can't carry them must never swallow one. So nothing stands before this but who is calling: no limit, no
store, no draining, no gateway's bad past; and the answer is never one that stops a PBX (408, 410, 480, 484, 486, 600).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from callgate.numbers import Number, read_uri
from callgate.policy.dial import DialVerdict
from callgate.proxy.answer import Refusal
from callgate.proxy.calls.targets import Groups, secure_only
from callgate.proxy.commands import Alert, Journal
from callgate.proxy.flow import Flow
from callgate.proxy.forward import disguise
from callgate.proxy.identity.callers import numbers_shown
from callgate.proxy.restart.journal import call_back
from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr

if TYPE_CHECKING:
    from callgate.proxy.calls.call import Call
    from callgate.proxy.core import Core
    from callgate.proxy.peers import Key

CALL_BACK_SECONDS = 3600.0
"""So long after an emergency call was forwarded, calls in to its caller's number are exempt from limits."""
CALL_BACKS = 10_000
"""Callers that are remembered; of more, the latest."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Emergency:
    """Takes every call to an emergency number, of a key that is known."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._back: dict[tuple[str, str], float] = {}  # (key, number; "" for all of the key's) → until when

    def take(self, call: Call, number: Number, verdict: DialVerdict, flow: Flow, now: float) -> None:
        """Forward it, or refuse it. Either way a person is told of this very call."""
        core, key, record = self.core, call.key, call.record
        trunk = key.trunk
        why = self._prepare(call, number, flow, now)
        if not why:
            text = f"an emergency call went to the emergency route {call.groups[0][0].name}"
        elif trunk.emergency is None:
            text = f"an emergency call that this trunk can't carry was answered with {trunk.emergency_code}"
        else:
            text = f"an emergency call could not be forwarded ({why}): answered with {trunk.emergency_code}"
        core.counts.emergency(key, "refused" if why else "passed")
        details = {
            "caller": record.caller_raw,
            "dialled": number.dialled,
            "time": utc_text(now + core.utc_offset),
        }
        core.alert(Alert(verdict.rule, "critical", key.id, text, details=details), now, each=True)
        if why:
            reason = f"{verdict.reason}: {why}" if trunk.emergency is not None else verdict.reason
            call.refuse(Refusal(verdict.rule, reason, trunk.emergency_code), now)
        else:
            self._remember(call, now)
            call.go(now)

    def _prepare(self, call: Call, number: Number, flow: Flow, now: float) -> str:
        """Make the call ready for its route; why that can't be, empty where it can."""
        core, trunk, dialled, request = self.core, call.key.trunk, call.dialled, call.request
        route = trunk.emergency
        assert dialled is not None and request is not None
        if route is None:
            return "no emergency route"
        if number.cls == "invalid" or disguise(dialled):
            return "what was dialled can not be forwarded as it is"
        first = trunk.emergency_first
        preferred = first.site.targets[0] if first is not None and first.site.targets else None
        if route is trunk:
            answered = core.challenges.answered_by(call, request, now)
            if answered is not None:
                call.free, preferred = True, answered.by
        groups: Groups = core.trunks.groups(call.key, now, preferred, trunk=route, every=True)
        if not groups:
            return "no address of the emergency route is known"
        if dialled.scheme == b"sips":
            groups = secure_only(groups) if flow.listener.secure else ()
            if not groups:
                return "SIPS, and the way there is not TLS"
        # To another gateway than the one that asked it is a new call.
        call.free = call.free and groups[0][0] is preferred
        call.trunk, call.groups = route, groups
        call.record.trunk = route.name
        call.shift = core.outside.shift(request) if route.account is not None else None
        return ""

    def suspects(self, call: Call, dialled: Number, to: bytes, now: float) -> None:
        """To names another number than the Request-URI, which decides. If it looks like an emergency, a person hears of
        it."""
        try:
            meant = read_uri(parse_name_addr(to).uri)
        except Malformed:
            return
        if meant.emergency and not dialled.emergency:
            text = "To looks like an emergency number, the Request-URI does not: the call went its way"
            details = {"caller": call.record.caller_raw, "dialled": dialled.dialled, "number": meant.dialled}
            self.core.alert(Alert("EMG-TO", "warning", call.key.id, text, details=details), now)

    # -- the authorities call back -------------------------------------------------------------------------

    def _remember(self, call: Call, now: float) -> None:
        """The caller's number, as the other side may have seen it. Where it shows none of the key's, nobody knows what
        the trunk showed instead: then any of the key's."""
        key, request = call.key, call.request
        assert request is not None
        own = [n for n in numbers_shown(request) if self.core.directory.key_of_number(n) is key]
        for number in own or [key.only_number]:
            self.recall(key.id, number, now + CALL_BACK_SECONDS)
            if self.core.journals:
                self.core.out.append(Journal(call_back(key.id, number, CALL_BACK_SECONDS, now)))

    def recall(self, key_id: str, number: str, until: float) -> None:
        """Until then the authorities may call back."""
        self._back.pop((key_id, number), None)
        self._back[key_id, number] = until
        while len(self._back) > CALL_BACKS:
            del self._back[next(iter(self._back))]

    def calls_back(self, key: Key, number: str, now: float) -> bool:
        """Whether a call in to this number may be the authorities', who call back."""
        back = self._back
        if not back:
            return False
        while back and next(iter(back.values())) <= now:
            del back[next(iter(back))]
        return (key.id, number) in back or (key.id, "") in back


def utc_text(seconds: float) -> str:
    """A wall-clock time, RFC 3339 in UTC with milliseconds."""
    return (EPOCH + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
