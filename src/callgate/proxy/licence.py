"""A recorded call, and those who wait for its licence (I1): `recordings` says which calls are recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.policy.claim import Verdict
from callgate.proxy.context import Phase
from callgate.proxy.notices import Sayer

if TYPE_CHECKING:
    from callgate.proxy.call import Call
    from callgate.proxy.recordings import Recordings
    from callgate.proxy.relay import Relay, Way


class Recording:
    """One recorded call of a key. Plain data but for `waiting`, which is empty once the store has answered.

    `claim`: its licence, 0 where none is asked for; `granted`: it is held. `sayers`: who says that the call is
    recorded. `legs`: live ones that belong to the call, its recording sessions among them; `calls`: without those;
    `names`: Call-IDs and session identifiers (RFC 7989) by which it may be named, the latest last. `until`: when its
    lease ends.
    """

    __slots__ = ("calls", "claim", "granted", "key", "legs", "names", "sayers", "until", "waiting")

    def __init__(self, key: str) -> None:
        self.key = key
        self.claim = 0
        self.granted = False
        self.sayers: set[Sayer] = set()
        self.legs: set[int] = set()
        self.calls: set[int] = set()
        self.names: dict[bytes, None] = {}
        self.until = 0.0
        self.waiting: list[Waiter] = []


class Waiter:
    """What goes on when there is a licence, or none. `force`: it is counted in any case. `records`: the call that a
    session records, where that is known."""

    __slots__ = ("call", "force", "hows", "records")

    def __init__(self, call: Call, hows: frozenset[str], *, force: bool = False) -> None:
        self.call = call
        self.hows = hows
        self.force = force
        self.records: Call | None = None

    def told(self, recordings: Recordings, recording: Recording, verdict: Verdict, now: float) -> None:
        """Counted: it is recorded already."""
        self.call.keep(now)
        if verdict.granted and verdict.rule:
            recordings.exceeds(recording, self.call, verdict, now)


class Start(Waiter):
    """A new call."""

    def told(self, recordings: Recordings, recording: Recording, verdict: Verdict, now: float) -> None:
        call = self.call
        if call.phase is not Phase.ASKING or call.server is None:
            return  # its caller has given up
        call.record.recorded = verdict.granted
        refusal = call.why(verdict) if verdict.rule else None
        if refusal is not None and not call.passes(refusal, now):
            if not recordings.core.current(call.key).unrecorded:
                call.refuse(refusal, now)
                return
            recordings.goes_unrecorded(call, self.hows, refusal, now)
        call.admit(now)


class Offer(Waiter):
    """A re-INVITE or UPDATE by which recording starts."""

    __slots__ = ("relay", "way")

    def __init__(self, call: Call, hows: frozenset[str], relay: Relay, way: Way) -> None:
        super().__init__(call, hows)
        self.relay = relay
        self.way = way

    def told(self, recordings: Recordings, recording: Recording, verdict: Verdict, now: float) -> None:
        call, relay = self.call, self.relay
        over = call.phase is Phase.OVER  # then its sides will say so themselves
        refusal = call.why(verdict) if verdict.rule and not over else None
        if refusal is not None and not call.passes(refusal, now):
            if refusal.limit:
                call.breach_avoided(refusal, now)
            call.tell(now, "declined", refusal.rule, refusal.value, refusal.limit)
            relay.decline(488, refusal.headers() if relay.from_pbx else [], now)
        elif relay.cancelled:
            relay.decline(487, [], now)
        else:
            call.record.recorded |= verdict.granted and not over
            call.keep(now)
            recordings.core.start(relay, *self.way[:-1], now)
