"""Rule I1: which calls are recorded. Each counts once, however that is known, and until nobody says so any more.

Who says that a call is recorded: its PBX (`X-Record: yes`, `a=recordpref:on`), either side (`a=record:on`, RFC 7866
§6.1.2), and the session with a recorder (`proxy.siprec`) that names it. The two legs of a forward are one call, as far
as the gate itself knows them for that. A name (Call-ID, session identifier) joins a session to a call, and never a call
to a call: whoever calls chooses them, and several calls may have the same.

At the start of a call, and where it starts later by an offer, the licence comes first: without one the call is refused
or goes on unrecorded, the offer is refused. What is told as done already, in an answer, is counted whatever the limit.
Nothing is kept of a call of which nobody says that it is recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from callgate.policy.claim import GRANTED, Claim, Verdict
from callgate.policy.ledger import ASK_SECONDS
from callgate.proxy.answer import Refusal
from callgate.proxy.commands import Alert, Release, Renew
from callgate.proxy.context import Phase
from callgate.proxy.licence import Offer, Recording, Start, Waiter
from callgate.proxy.notices import CALLER, WISH, may_say, words
from callgate.proxy.token import OUTBOUND
from callgate.sip.message import CONTENT_LENGTH, Message
from callgate.sip.sdp import without_recordpref
from callgate.sip.siprec import NAMES_MOST, names_in, session_ids
from callgate.sip.transaction import NEVER

if TYPE_CHECKING:
    from callgate.proxy.call import Call
    from callgate.proxy.context import Context
    from callgate.proxy.core import Core
    from callgate.proxy.peers import Key
    from callgate.proxy.relay import Relay, Way

RULE: Final = "I1"


class Recordings:
    """All recorded calls: `of` by leg."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.of: dict[int, Recording] = {}
        self._named: dict[tuple[str, bytes], dict[Recording, None]] = {}
        self._asked: dict[int, tuple[Recording, bool]] = {}  # claim → whose, and whether it is forced
        self._over: dict[str, set[Recording]] = {}  # key → those counted beyond its limit
        self._excess: dict[str, int] = {}  # key → by how many there are too many, while it has such
        self._down: dict[tuple[str, str], Alert] = {}  # (key, recorder) → what stands

    def __len__(self) -> int:
        """What is remembered of recorded calls: nothing once they are over."""
        return len(self.of) + len(self._named) + len(self._asked) + len(self._over)

    # -- what is said --------------------------------------------------------------------------------------

    def begins(self, call: Call, request: Message, now: float) -> bool:
        """A new call: whether it is recorded, so that it goes on (`Call.admit`) or ends when there is a licence, or
        none. One that nothing may hold up is only counted."""
        hows, _ = words(call, True, request)
        if not hows:
            return False
        if call.emergency or (call.free and call.direction != OUTBOUND):
            call.record.recorded = True
            self._say(call, Waiter(call, hows, force=True), now, session_ids(request))
            return False
        self._say(call, Start(call, hows), now, session_ids(request))
        return True

    def holds_up(self, relay: Relay, way: Way, now: float) -> bool:
        """A request inside the dialog: whether recording starts by it, so that it goes on when there is a licence, or
        is declined."""
        call, request = relay.call, way.request
        if call is None or call.is_session or call.phase is Phase.OVER:
            return False
        by_caller = relay.sender is call.caller
        if relay.method == b"PRACK":  # the answer to an offer, as a rule
            self.heard(call, by_caller, request, now)
            return False
        known = self.of.get(call.leg)
        hows, _ = _news(known, call, by_caller, request)
        if not hows:
            return False
        relay.says = hows
        if call.emergency or (known is not None and known.granted):
            self._count(call, hows, now)
            return False
        self._say(call, Offer(call, hows, relay, way), now)
        return True

    def agreed(
        self, call: Call, by_caller: bool, request: Message | None, answer: Message, now: float
    ) -> None:
        """An offer and its answer: both hold now. `request` is None where the offer was in what the answer is to."""
        if call.phase is Phase.OVER:
            return
        if call.is_session:
            if request is not None:
                self._names(call, request, now)
            return
        if request is not None and call.leg in self.of:
            _, stops = words(call, by_caller, request)
            self.unsaid(call, stops, now)
        if may_say(answer):
            self.heard(call, not by_caller, answer, now)

    def heard(self, call: Call, by_caller: bool, message: Message, now: float) -> None:
        """An answer, or what is one: what it says is so already."""
        if call.is_session or call.phase is Phase.OVER:
            return
        starts, stops = _news(self.of.get(call.leg), call, by_caller, message)
        if starts:
            self._count(call, starts, now)
        if stops:
            self.unsaid(call, stops, now)

    def session(self, session: Call, names: Iterable[bytes], waiter: Waiter, now: float) -> None:
        """A session with a recorder begins, and names the call that it records."""
        names = [*names]
        call = self._call_of(session, names)
        if call is not None:
            waiter.force = waiter.force or call.emergency
            waiter.records = call
        self._say(session, waiter, now, names, call)

    def unsaid(self, call: Call, hows: Iterable[str], now: float) -> None:
        """A leg says so no more in these ways; but for what waits for its licence, and is yet to be said."""
        recording = self.of.get(call.leg)
        waiting = recording.waiting if recording is not None else ()
        gone = self._drop(
            call,
            {*hows}.difference(
                *(each.hows for each in waiting if isinstance(each, Offer) and each.call is call)
            ),
        )
        if gone:
            call.tell(now, "stops", *gone)
            call.keep(now)

    def _drop(self, call: Call, hows: Iterable[str]) -> list[str]:
        """In which of these ways it has said so."""
        recording = self.of.get(call.leg)
        if recording is None:
            return []
        gone = [how for how in sorted(hows) if (call.leg, how) in recording.sayers]
        recording.sayers.difference_update([(call.leg, how) for how in gone])
        if not recording.sayers:
            self._free(recording)
        return gone

    def ended(self, call: Call, now: float) -> None:
        """A leg has ended, or has been told to give back what it holds."""
        recording = self.of.get(call.leg)
        if recording is None:
            # A session that came before it may have named it.
            named = self._named_by(call.key.id, [call.call_id], calls=False)
            call.record.recorded |= named is not None
            return
        recording.sayers = {sayer for sayer in recording.sayers if sayer[0] != call.leg}
        if not recording.sayers:
            self._free(recording)
            return
        del self.of[call.leg]
        recording.legs.discard(call.leg)
        recording.calls.discard(call.leg)
        if recording.granted and not recording.calls:
            # Its sessions go on; perhaps they record another call as well.
            other = self._named_by(recording.key, recording.names, calls=True)
            if other is not None and other.granted:
                self._merge(other, recording, now)

    def renew(self, call: Call, now: float) -> None:
        """A leg lives: its licence is held as long as the leg may be up, at least."""
        recording = self.of.get(call.leg)
        if recording is not None and recording.granted:
            self._renew(recording, call, now)

    def licence_of(self, call: Call) -> tuple[int, ...]:
        """The claim of a leg's licence, as far as there is one; a session that shares its call's has none."""
        recording = self.of.get(call.leg)
        if recording is None or not (recording.granted and recording.claim):
            return ()
        return () if call.is_session and len(recording.legs) > 1 else (recording.claim,)

    # -- over a crash --------------------------------------------------------------------------------------

    def row(self, call: Context) -> tuple[Any, ...] | None:
        """What is written down of a recorded leg: (the licence's claim, legs, names, how this leg says it)."""
        recording = self.of.get(call.leg)
        if recording is None:
            return None
        hows = tuple([how for leg, how in recording.sayers if leg == call.leg])
        return recording.claim, tuple(recording.legs), tuple(recording.names), hows

    def recall(self, call: Call, row: Sequence[Any], lease: float, now: float) -> None:
        """A leg of an earlier start. Its licence is held whatever the limit; legs of one recording share it again."""
        claim, legs, names, hows = row
        if not hows:
            return  # whoever says so is a leg of its own
        recording = next((self.of[leg] for leg in legs if leg in self.of), None)
        if recording is None:
            recording = Recording(call.key.id)
            recording.claim, recording.granted = claim, True
            self._count_anyway(recording, call, lease, now)
        self._belong(recording, self._legs(call), names, is_session=call.is_session)
        recording.sayers |= {(call.leg, how) for how in hows}

    def _count_anyway(self, recording: Recording, call: Call, lease: float, now: float) -> None:
        """A call that is recorded already takes its licence where there is a limit now, whatever that is."""
        key = self.core.current(call.key)
        if not key.recorded:
            recording.claim = 0
            return
        recording.claim = recording.claim or self.core.next_id()
        recording.granted, recording.until = False, now + lease
        recording.waiting.append(Waiter(call, frozenset(), force=True))
        self._asked[recording.claim] = recording, True
        self.core.ask_patiently(self, key, Claim(recording.claim, key.recorded, NEVER, lease, force=True))

    # -- which recording it is -----------------------------------------------------------------------------

    def _is_live(self, call: Call, key: Key) -> bool:
        return call.key.id == key.id and call.phase is not Phase.OVER and not call.is_session

    def _count(self, call: Call, hows: frozenset[str], now: float) -> None:
        """It is recorded, whatever the limit."""
        call.record.recorded = True
        self._say(call, Waiter(call, hows, force=True), now)

    def _say(
        self,
        call: Call,
        waiter: Waiter,
        now: float,
        names: Iterable[bytes] = (),
        also: Call | None = None,
    ) -> None:
        """A leg says that its call is recorded. `also`: another leg of that call."""
        names = [*names] if call.is_session else [call.call_id, *names]
        whose = also if call.is_session else call
        recording = self._find(call, whose, names, now) or Recording(call.key.id)
        if whose is not None and (not call.is_session or not recording.calls):
            self._belong(recording, self._legs(whose), () if call.is_session else names)
        if call.is_session:
            self._belong(recording, [call.leg], names, is_session=True)
        recording.sayers |= {(call.leg, how) for how in waiter.hows}
        call.tell(now, "recorded", *sorted(waiter.hows))
        if recording.granted:
            self._renew(recording, call, now)
            waiter.told(self, recording, GRANTED, now)
            return
        recording.waiting.append(waiter)
        if not recording.claim:
            self._ask(recording, call, now)

    def _legs(self, call: Call) -> list[int]:
        """A call in and its forward are one."""
        return [leg for leg in (call.leg, call.inbound_leg) if leg]

    def _call_of(self, session: Call, names: Iterable[bytes]) -> Call | None:
        """The live call that a session names: of several one that counts already."""
        found = [self.core.by_call_id.get(name) for name in names]
        calls = [call for call in found if call is not None and self._is_live(call, session.key)]
        return next((call for call in calls if call.leg in self.of), calls[0] if calls else None)

    def _named_by(self, key: str, names: Iterable[bytes], *, calls: bool) -> Recording | None:
        """The first recording with one of these names that has a live call, or has sessions only. Of many with the
        same name few are looked at: one that is not found counts for itself."""
        for name in names:
            for each in islice(self._named.get((key, name), ()), NAMES_MOST):
                if bool(each.calls) is calls:
                    return each
        return None

    def _find(self, call: Call, whose: Call | None, names: Sequence[bytes], now: float) -> Recording | None:
        """The recording of a leg that speaks. `whose`: the call that it is of. Recordings that turn out to be one are
        one from now on: those of the two legs of a forward, and one that had sessions only."""
        key = call.key.id
        known = [self.of.get(leg) for leg in (self._legs(whose) if whose is not None else ())]
        found = next((each for each in known if each is not None), None)
        if found is None and call.is_session:
            found = self._named_by(key, names, calls=True)
        if found is None:
            found = self._named_by(key, names, calls=False)
        if found is None:
            return None
        for other in (*known, self._named_by(key, names, calls=False)):
            if other is not None and other is not found and found.granted and other.granted:
                self._merge(found, other, now)
        return found

    def _belong(
        self, recording: Recording, legs: Iterable[int], names: Iterable[bytes], *, is_session: bool = False
    ) -> None:
        for leg in legs:
            if self.of.setdefault(leg, recording) is recording:
                recording.legs.add(leg)
                if not is_session:
                    recording.calls.add(leg)
        for name in names:
            recording.names.pop(name, None)
            recording.names[name] = None
            self._named.setdefault((recording.key, name), {})[recording] = None
        while len(recording.names) > NAMES_MOST:
            self._unname(recording, next(iter(recording.names)))

    def _unname(self, recording: Recording, name: bytes) -> None:
        del recording.names[name]
        of = self._named[recording.key, name]
        del of[recording]
        if not of:
            del self._named[recording.key, name]

    def _merge(self, recording: Recording, other: Recording, now: float) -> None:
        """Two are one call: one licence is given back, the other is held as long as either would have been."""
        calls, sessions = set(other.calls), other.legs - other.calls
        names, sayers, until = [*other.names], other.sayers, other.until
        if not recording.claim:  # it began when there was no limit
            recording.claim, other.claim = other.claim, 0
            recording.until = until
        self._free(other)
        recording.sayers |= sayers
        self._belong(recording, calls, [])
        self._belong(recording, sessions, [*names, *recording.names], is_session=True)
        if recording.claim and until > recording.until:
            recording.until = until
            self.core.out.append(Renew(recording.claim, until - now))

    def _names(self, session: Call, request: Message, now: float) -> None:
        """A session tells later which call it records."""
        recording = self.of.get(session.leg)
        if recording is None or not recording.granted:
            return
        names = names_in(request)
        call = self._call_of(session, names)
        if not recording.calls:
            found = self._find(session, call, names, now)
            if found is not None and found is not recording and found.granted:
                self._merge(found, recording, now)
                recording = found
        if call is not None:
            call.record.recorded = True
            if not recording.calls:
                self._belong(recording, self._legs(call), [])
        self._belong(recording, [session.leg], names, is_session=True)

    # -- its licence ---------------------------------------------------------------------------------------

    def _ask(self, recording: Recording, call: Call, now: float) -> None:
        key = self.core.current(call.key)
        if not key.recorded:  # no limit
            recording.granted = True
            self._tell(recording, GRANTED, now)
            return
        force = key.shadow or any(waiter.force for waiter in recording.waiting)
        claim = Claim(self.core.next_id(), key.recorded, now + ASK_SECONDS, call.lease, force)
        recording.claim = claim.id
        recording.until = now + claim.lease
        self._asked[claim.id] = recording, force
        self.core.ask(self, key, claim, now)

    def _renew(self, recording: Recording, call: Call, now: float) -> None:
        if recording.claim and now + call.lease > recording.until:
            recording.until = now + call.lease
            self.core.out.append(Renew(recording.claim, call.lease))

    def on_verdict(self, claim_id: int, verdict: Verdict, now: float) -> None:
        """The store has answered, or has not in time."""
        recording, forced = self._asked.pop(claim_id)
        if verdict.granted:
            recording.granted = bool(recording.sayers)
            if not recording.granted:  # nobody says so any more
                self.core.out.append(Release(claim_id))
            self._tell(recording, verdict, now)
            return
        recording.claim = 0
        waiting = recording.waiting
        recording.waiting = [] if forced else [waiter for waiter in waiting if waiter.force]
        for waiter in waiting:
            if forced or not waiter.force:
                if not waiter.force:
                    self._drop(waiter.call, waiter.hows)
                waiter.told(self, recording, verdict, now)
        if recording.waiting and recording.sayers and not recording.claim:
            self._ask(recording, recording.waiting[0].call, now)

    def _tell(self, recording: Recording, verdict: Verdict, now: float) -> None:
        waiting, recording.waiting = recording.waiting, []
        for waiter in waiting:
            if verdict.used:
                waiter.call.tell(now, "granted", verdict.used)
            waiter.told(self, recording, verdict, now)

    def _free(self, recording: Recording) -> None:
        """Nobody says any more that this call is recorded."""
        for leg in recording.legs:
            del self.of[leg]
        for name in [*recording.names]:
            self._unname(recording, name)
        recording.sayers = set()
        recording.legs, recording.calls = set(), set()
        if recording.granted:
            recording.granted = False
            if recording.claim:
                self.core.out.append(Release(recording.claim))
                self._one_less(recording)

    # -- beyond the limit ----------------------------------------------------------------------------------

    def goes_unrecorded(self, call: Call, hows: frozenset[str], refusal: Refusal, now: float) -> None:
        """The call passes, and what asks for its recording is taken off (X-Record goes in any case). That a side says
        that it records is not touched: it is a notice to those who speak."""
        request, routes = call.request, call.routes
        assert request is not None and routes is not None
        if WISH in hows:
            request.body = without_recordpref(request.body)
            i = request.at.get(CONTENT_LENGTH)
            if i is not None:
                routes.edits[i] = b"Content-Length: %d" % len(request.body)
        call.tell(now, "unrecorded", refusal.rule, refusal.value, refusal.limit)
        if hows - {CALLER}:
            count = f" {refusal.value}/{refusal.limit}" if refusal.limit else ""
            call.record.reason = f"goes on unrecorded: {refusal.text}{count}"
            if refusal.limit:
                call.breach_avoided(refusal, now)
        if CALLER in hows:
            self._count(call, frozenset((CALLER,)), now)

    def _one_less(self, recording: Recording) -> None:
        """A licence is given back: perhaps all that there are is within the limit now, whichever this one was."""
        over = self._over.get(recording.key)
        if over is None:
            return
        over.discard(recording)
        self._excess[recording.key] -= 1
        if not over or self._excess[recording.key] <= 0:
            del self._over[recording.key], self._excess[recording.key]
            self.core.alerts.over(Alert(RULE, "critical", recording.key, ""))

    def exceeds(self, recording: Recording, call: Call, verdict: Verdict, now: float) -> None:
        """A call is recorded beyond the limit: told as long as there is one, but where the limit stops nobody."""
        if call.phase is Phase.OVER or call.passes(call.why(verdict), now):
            return  # in shadow mode that says it
        value, limit = verdict.value, verdict.limit
        if call.emergency:
            text = f"an emergency call went beyond {RULE}: {value}/{limit}"
            self.core.alert(Alert(f"{RULE}+EMG", "warning", call.key.id, text, value, limit), now)
        elif recording.granted:
            self._over.setdefault(recording.key, set()).add(recording)
            self._excess[recording.key] = value - limit
            text = f"a call says that it is recorded, beyond the limit: {value}/{limit} recordings"
            self.core.alerts.stands(Alert(RULE, "critical", call.key.id, text, value, limit))

    # -- recorders -----------------------------------------------------------------------------------------

    def unreachable(self, key: Key, recorder: str, why: str) -> None:
        """I5: a recorder has not taken a session. Told until it takes one, or is none of the key's any more."""
        if not self._is_recorder(key.id, recorder):
            return
        text = f"a recorder can't be reached ({why}): calls go on, and are not recorded there"
        alert = Alert("I5", "warning", key.id, text, details={"gateway": recorder})
        self._down.setdefault((key.id, recorder), alert)
        self.core.alerts.stands(alert)

    def reached(self, key: Key, recorder: str) -> None:
        if self._down:
            alert = self._down.pop((key.id, recorder), None)
            if alert is not None:
                self.core.alerts.over(alert)

    def _is_recorder(self, key_id: str, recorder: str) -> bool:
        key = self.core.directory.keys.get(key_id)
        return key is not None and key.recorders is not None and key.recorders.holds(recorder)

    def adopt(self, now: float) -> None:
        """Keys, their limits or their recorders have changed."""
        for name in list(self._down):
            if not self._is_recorder(*name):
                self.core.alerts.over(self._down.pop(name))
        if not self.of:
            return
        for call in self.core.live():
            recording = self.of.get(call.leg)
            if recording is not None and recording.granted and not recording.claim:
                self._count_anyway(recording, call, call.lease, now)


def _news(
    known: Recording | None, call: Call, by_caller: bool, message: Message
) -> tuple[frozenset[str], frozenset[str]]:
    """What a message says of a leg's recording (`notices.words`) that the leg has not said yet, and what it ends."""
    starts, stops = words(call, by_caller, message)
    if known is not None:
        starts = frozenset(how for how in starts if (call.leg, how) not in known.sayers)
    return starts, stops
