"""A recorded call, and those who wait for its licence (I1): `recordings` says which calls are recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from callgate.policy.claim import GRANTED, Verdict
from callgate.proxy.calls.context import Phase
from callgate.proxy.contract.notices import SESSION, Sayer

if TYPE_CHECKING:
    from callgate.proxy.calls.call import Call
    from callgate.proxy.contract.naming import Naming
    from callgate.proxy.contract.recordings import Recordings
    from callgate.proxy.relay import Relay, Way


class Recording:
    """One recorded call of a key, or what is recorded by sessions that lead to no call. Plain data but for `waiting`,
    which is empty once the store has answered.

    `claim`: its licence, 0 where none is asked for; `granted`: it is held. `sayers`: who says that the call is
    recorded; `offered`: those of them who have said so in offers only that nobody has answered yet, and in how many.
    `calls`: the live legs of the call. `emergency`: one of them may not be refused. `until`: when its lease ends.
    """

    __slots__ = (
        "calls",
        "claim",
        "emergency",
        "granted",
        "id",
        "key",
        "offered",
        "sayers",
        "until",
        "waiting",
    )

    def __init__(self, id: int, key: str) -> None:
        self.id = id
        self.key = key
        self.claim = 0
        self.granted = False
        self.emergency = False
        self.sayers: set[Sayer] = set()
        self.offered: dict[Sayer, int] = {}
        self.calls: set[int] = set()
        self.until = 0.0
        self.waiting: list[Waiter] = []

    def says(self, sayer: Sayer) -> bool:
        """Whether that holds already, and is not merely offered."""
        return sayer in self.sayers and sayer not in self.offered


Offers = list[tuple[Recording, Sayer]]
"""What a request says that is yet to be answered."""


class Waiter:
    """What goes on when there is a licence, or none. `force`: it is counted in any case."""

    __slots__ = ("call", "force", "hows")

    def __init__(self, call: Call, hows: frozenset[str], *, force: bool = False) -> None:
        self.call = call
        self.hows = hows
        self.force = force

    def told(self, recordings: Recordings, recording: Recording, verdict: Verdict, now: float) -> None:
        """Counted: it is recorded already."""
        self.call.keep(now)
        if verdict.granted and verdict.rule:
            recordings.licences.exceeds(recording, self.call, verdict, now)


class Start(Waiter):
    """A new call. `named`: the sessions that have named it before it came."""

    __slots__ = ("named",)

    def __init__(self, call: Call, hows: frozenset[str], named: Sequence[Naming]) -> None:
        super().__init__(call, hows)
        self.named = named

    def told(self, recordings: Recordings, recording: Recording, verdict: Verdict, now: float) -> None:
        call = self.call
        if not verdict.granted:
            sessions = [(one.leg, SESSION) for one in self.named]
            recordings.take_back(recording, [*[(call.leg, how) for how in self.hows], *sessions], now)
        if call.phase is not Phase.ASKING or call.server is None:
            return  # its caller has given up
        call.record.recorded = verdict.granted
        refusal = call.why(verdict) if verdict.rule else None
        if refusal is not None and not call.passes(refusal, now):
            if not recordings.core.current(call.key).unrecorded:
                call.refuse(refusal, now)
                return
            recordings.goes_unrecorded(call, self.hows, self.named, refusal, now)
        call.admit(now)


class Offer(Waiter):
    """A re-INVITE or UPDATE by which recording starts. What it has said is taken back where it is declined."""

    __slots__ = ("relay", "way")

    def __init__(self, call: Call, hows: frozenset[str], relay: Relay, way: Way) -> None:
        super().__init__(call, hows)
        self.relay = relay
        self.way = way

    def told(self, recordings: Recordings, recording: Recording, verdict: Verdict, now: float) -> None:
        self.decides(recordings, verdict, now)

    def decides(self, recordings: Recordings, verdict: Verdict, now: float) -> bool:
        """Whether the request goes on."""
        call, relay = self.call, self.relay
        over = call.phase is Phase.OVER  # then its sides will say so themselves
        refusal = call.why(verdict) if verdict.rule and not over else None
        if refusal is not None and not call.passes(refusal, now):
            if refusal.limit:
                call.breach_avoided(refusal, now)
            call.tell(now, "declined", refusal.rule, refusal.value, refusal.limit)
            relay.decline(488, refusal.headers() if relay.from_pbx else [], now)
            return False
        if relay.cancelled:
            relay.decline(487, [], now)
            return False
        call.keep(now)
        recordings.core.start(relay, *self.way[:-1], now)
        return True


class Several(Waiter):
    """A session, which waits for the licences of all calls that it records: for all or none."""

    __slots__ = ("calls", "left", "verdict")

    def __init__(self, session: Call) -> None:
        super().__init__(session, frozenset((SESSION,)))
        self.calls: list[Call] = []
        self.left = 0
        self.verdict: Verdict | None = None  # which rule is broken, if any

    def told(self, recordings: Recordings, recording: Recording, verdict: Verdict, now: float) -> None:
        self.left -= 1
        if verdict.rule and verdict.granted and recording.emergency:
            recordings.licences.exceeds(recording, self.call, verdict, now)
        elif verdict.rule and (self.verdict is None or self.verdict.granted):
            self.verdict = verdict
        if self.left <= 0:
            self.decided(recordings, now)

    def decided(self, recordings: Recordings, now: float) -> None:
        """All licences are there, or not."""
        raise NotImplementedError

    def recorded(self) -> None:
        """Its calls are recorded from now on."""
        for call in self.calls:
            if call.phase is not Phase.OVER:
                call.record.recorded = True


class NamesMore(Several):
    """A session's re-INVITE or UPDATE that names further calls."""

    __slots__ = ("offer",)

    def __init__(self, session: Call, relay: Relay, way: Way) -> None:
        super().__init__(session)
        self.offer = Offer(session, self.hows, relay, way)

    def decided(self, recordings: Recordings, now: float) -> None:
        if self.offer.decides(recordings, self.verdict or GRANTED, now):
            self.recorded()
