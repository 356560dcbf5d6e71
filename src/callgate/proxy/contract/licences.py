"""The licences of recorded calls (I1): claims in the store, one for each recorded call; and what there is to say where
more calls are recorded than may be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from callgate.policy.claim import GRANTED, Claim, Verdict
from callgate.policy.ledger import ASK_SECONDS
from callgate.proxy.calls.context import Phase
from callgate.proxy.commands import Alert, Release, Renew
from callgate.proxy.contract.licence import Recording, Waiter
from callgate.sip.transaction import NEVER

if TYPE_CHECKING:
    from callgate.proxy.calls.call import Call
    from callgate.proxy.contract.recordings import Recordings
    from callgate.proxy.core import Core

RULE: Final = "I1"


class Licences:
    """Asks for them, and gives them back."""

    def __init__(self, core: Core, recordings: Recordings) -> None:
        self._core = core
        self._recordings = recordings
        self._asked: dict[int, tuple[Recording, bool]] = {}  # claim → whose, and whether it is forced
        self._over: dict[str, set[Recording]] = {}  # key → those counted beyond its limit
        self._excess: dict[str, int] = {}  # key → by how many there are too many, while it has such

    def __len__(self) -> int:
        return len(self._asked) + len(self._over)

    def wants(self, recording: Recording, waiter: Waiter, now: float) -> None:
        """Go on with a waiter when there is a licence, at once if it is held."""
        if recording.granted:
            self.renew(recording, waiter.call, now)
            waiter.told(self._recordings, recording, GRANTED, now)
            return
        recording.waiting.append(waiter)
        if not recording.claim:
            self._ask(recording, waiter.call, now)

    def _ask(self, recording: Recording, call: Call, now: float) -> None:
        key = self._core.current(call.key)
        if not key.recorded:  # no limit
            recording.granted = True
            self._tell(recording, GRANTED, now)
            return
        force = key.shadow or recording.emergency or any(waiter.force for waiter in recording.waiting)
        claim = Claim(self._core.next_id(), key.recorded, now + ASK_SECONDS, call.lease, force)
        recording.claim = claim.id
        recording.until = now + claim.lease
        self._asked[claim.id] = recording, force
        self._core.ask(self, key, claim, now)

    def counts_anyway(self, recording: Recording, call: Call, lease: float, now: float) -> None:
        """A call that is recorded already takes its licence where there is a limit now, whatever that is."""
        key = self._core.current(call.key)
        if not key.recorded:
            recording.claim, recording.granted = 0, True
            return
        recording.claim = recording.claim or self._core.next_id()
        recording.granted, recording.until = False, now + lease
        recording.waiting.append(Waiter(call, frozenset(), force=True))
        self._asked[recording.claim] = recording, True
        self._core.ask_patiently(self, key, Claim(recording.claim, key.recorded, NEVER, lease, force=True))

    def renew(self, recording: Recording, call: Call, now: float) -> None:
        """It is held as long as this leg may be up, at least."""
        if recording.granted and recording.claim and now + call.lease > recording.until:
            recording.until = now + call.lease
            self._core.out.append(Renew(recording.claim, call.lease))

    def give_back(self, recording: Recording) -> None:
        """What is asked for at this moment is given back when it comes."""
        if recording.granted:
            recording.granted = False
            if recording.claim:
                self._core.out.append(Release(recording.claim))
                self._one_less(recording)

    def on_verdict(self, claim_id: int, verdict: Verdict, now: float) -> None:
        """The store has answered, or has not in time."""
        recording, forced = self._asked.pop(claim_id)
        if verdict.granted:
            recording.granted = bool(recording.sayers)
            if not recording.granted:  # nobody says so any more
                self._core.out.append(Release(claim_id))
            self._tell(recording, verdict, now)
            return
        recording.claim = 0
        waiting = recording.waiting
        recording.waiting = [] if forced else [waiter for waiter in waiting if waiter.force]
        for waiter in waiting:
            if forced or not waiter.force:
                waiter.told(self._recordings, recording, verdict, now)
        if recording.waiting and recording.sayers and not recording.claim:
            self._ask(recording, recording.waiting[0].call, now)

    def _tell(self, recording: Recording, verdict: Verdict, now: float) -> None:
        waiting, recording.waiting = recording.waiting, []
        for waiter in waiting:
            if verdict.used:
                waiter.call.tell(now, "granted", verdict.used)
            waiter.told(self._recordings, recording, verdict, now)
        self._recordings.settle(recording, now)

    # -- beyond the limit ----------------------------------------------------------------------------------

    def _one_less(self, recording: Recording) -> None:
        """A licence is given back: perhaps all that there are is within the limit now, whichever this one was."""
        over = self._over.get(recording.key)
        if over is None:
            return
        over.discard(recording)
        self._excess[recording.key] -= 1
        if not over or self._excess[recording.key] <= 0:
            del self._over[recording.key], self._excess[recording.key]
            self._core.alerts.over(Alert(RULE, "critical", recording.key, ""))

    def exceeds(self, recording: Recording, call: Call, verdict: Verdict, now: float) -> None:
        """A call is recorded beyond the limit: told as long as there is one, but where the limit stops nobody."""
        if call.phase is Phase.OVER or call.passes(call.why(verdict), now):
            return  # in shadow mode that says it
        value, limit = verdict.value, verdict.limit
        if recording.emergency:
            text = f"an emergency call went beyond {RULE}: {value}/{limit}"
            self._core.alert(Alert(f"{RULE}+EMG", "warning", call.key.id, text, value, limit), now)
            if recording.key in self._excess:
                self._excess[recording.key] = value - limit
        elif recording.granted:
            self._over.setdefault(recording.key, set()).add(recording)
            self._excess[recording.key] = value - limit
            text = f"a call says that it is recorded, beyond the limit: {value}/{limit} recordings"
            self._core.alerts.stands(Alert(RULE, "critical", call.key.id, text, value, limit))
