"""Rule I1: which calls are recorded. Each counts once, however that is known, and until nobody says so any more.

Who says that a call is recorded: its PBX (`X-Record: yes`, `a=recordpref:on`), either side (`a=record:on`, RFC 7866
§6.1.2), and each session with a recorder (`proxy.contract.siprec`) that names it. The two legs of a forward are one
call, as far as the gate itself knows them for that. A session that names several calls says so of each; one that
leads to none is a recorded call by itself, and the first call that it names takes that licence over.

At the start of a call, and where it starts later by an offer, the licence comes first: without one the call is
refused or goes on unrecorded, the offer is refused. What is told as done already, in an answer, is counted whatever
the limit. Nothing is kept of a call of which nobody says that it is recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from callgate.proxy.answer import Refusal
from callgate.proxy.calls.context import Phase
from callgate.proxy.contract.licence import NamesMore, Offer, Offers, Recording, Several, Start, Waiter
from callgate.proxy.contract.licences import Licences
from callgate.proxy.contract.naming import Naming, Namings
from callgate.proxy.contract.notices import CALLER, SESSION, WISH, Sayer, may_say, words
from callgate.proxy.token import OUTBOUND
from callgate.sip.message import CONTENT_LENGTH, Message
from callgate.sip.sdp import without_recordpref
from callgate.sip.siprec import is_partial, names_in

if TYPE_CHECKING:
    from callgate.proxy.calls.call import Call
    from callgate.proxy.calls.context import Context
    from callgate.proxy.core import Core
    from callgate.proxy.relay import Relay, Way

NOTHING: Final[frozenset[str]] = frozenset()
LENT: Final = "lent"
"""Stands among what is offered for a leg to which a session would give the licence that it holds itself."""


class Recordings:
    """All recorded calls: `of` by leg; and the `sessions` that record some."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.of: dict[int, Recording] = {}
        self.sessions = Namings(core)
        self.licences = Licences(core, self)
        self._recalled: dict[int, Recording] = {}  # by the number of before, until `mend`

    def __len__(self) -> int:
        """What is remembered of recorded calls: nothing once they are over."""
        return len(self.of) + len(self.sessions) + len(self.licences) + len(self._recalled)

    def __bool__(self) -> bool:
        """Whether there is any, or may be soon."""
        return bool(self.of or self.sessions)

    # -- what is said --------------------------------------------------------------------------------------

    def concerns(self, call: Call, request: Message) -> bool:
        """Whether a new call is worth a look: `begins`."""
        return call.key.recorders is not None or bool(self.sessions) or may_say(request)

    def begins(self, call: Call, request: Message, now: float) -> bool:
        """A new call: whether it is recorded, so that it goes on (`Call.admit`) or ends when there is a licence, or
        none. One that nothing may hold up is only counted."""
        hows = words(call, True, request)[0] if may_say(request) else NOTHING
        self.sessions.begins(call, request)
        named = self.sessions.that_name(call)
        if not hows and not named:
            return False
        if call.emergency or (call.free and call.direction != OUTBOUND):
            self._count(call, hows, now, named)
            return False
        self._say(call, Start(call, hows, named), now, named)
        return True

    def appears(self, call: Call, now: float) -> None:
        """A call that is up already, of which nothing was known."""
        named = self.sessions.that_name(call)
        if named:
            self._count(call, NOTHING, now, named)

    def holds_up(self, relay: Relay, way: Way, now: float, *, counts: bool = False) -> bool:
        """A request inside the dialog: whether recording starts by it, so that it goes on when there is a licence, or
        is declined. `counts`: the call may have been recorded before, so what it says is true already."""
        call, request = relay.call, way.request
        if call is None or call.phase is Phase.OVER:
            return False
        by_caller = relay.sender is call.caller
        if call.is_session:
            return by_caller and relay.method != b"PRACK" and self._names_more(call, relay, way, now)
        if relay.method == b"PRACK":  # the answer to an offer, as a rule
            self.heard(call, by_caller, request, now)
            return False
        hows = self._news(call, words(call, by_caller, request)[0])
        if not hows:
            return False
        if counts:
            self._count(call, hows, now)
            return False
        known = self._recording_of(call)
        if call.emergency or (known is not None and known.granted):
            self._say(call, Waiter(call, hows, force=True), now, offers=relay.offers)
            return False
        self._say(call, Offer(call, hows, relay, way), now, offers=relay.offers)
        return True

    def agreed(self, relay: Relay, request: Message | None, answer: Message, now: float) -> None:
        """An offer and its answer: both hold now. `request` is None where the offer was in what the answer is to."""
        call = relay.call
        for recording, sayer in relay.offers:
            recording.offered.pop(sayer, None)
        agreed, relay.offers = relay.offers, []
        if call is None or call.phase is Phase.OVER:
            return
        by_caller = relay.sender is call.caller
        if call.is_session:
            if request is not None and by_caller:
                self._moves(call, request, now)
            return
        call.record.recorded |= bool(agreed)
        if request is not None and may_say(request):
            self.heard(call, by_caller, request, now)
        if may_say(answer):
            self.heard(call, not by_caller, answer, now)

    def heard(self, call: Call, by_caller: bool, message: Message, now: float) -> None:
        """An answer, or what is one: what it says is so already."""
        if call.is_session or call.phase is Phase.OVER:
            return
        starts, stops = words(call, by_caller, message)
        starts = self._news(call, starts)
        if starts:
            self._count(call, starts, now)
        if stops:
            self._unsaid(call, stops, now)

    def session(self, session: Call, request: Message, waiter: Several, now: float) -> None:
        """A session with a recorder begins, and names the calls that it records."""
        naming = self.sessions.opened(session, names_in(request))
        calls = self.sessions.calls(session.key.id, naming.names)
        session.tell(now, "recorded", SESSION)
        if not calls:
            others = [other.without_call for other in self.sessions.that_name(session)]
            alone = next((each for each in others if each is not None), None) or self._new(session)
            self._joins(naming, [alone], waiter, now)
        else:
            self._joins(naming, self._recordings_of(naming, calls), waiter, now, calls)

    def declined(self, call: Call, offers: Offers, now: float) -> None:
        """What was offered has not come to be."""
        gone = []
        for recording, sayer in offers:
            left = recording.offered.get(sayer, 0) - 1
            if left > 0:
                recording.offered[sayer] = left
            elif left == 0 and sayer[1] == LENT:
                del recording.offered[sayer]
                lenders = self._lenders(recording)
                if len(lenders) == len(recording.sayers):
                    recording.calls.discard(sayer[0])
                    del self.of[sayer[0]]
                else:
                    self._take_out(recording, lenders, now)
            elif left == 0:
                gone.append(sayer[1])
                self.take_back(recording, [sayer], now)
        if gone:
            call.tell(now, "stops", *sorted({*gone}))
            call.keep(now)

    def _lenders(self, recording: Recording) -> list[Naming]:
        """The sessions of a recording that name none of its legs, nor are about to."""
        found = []
        for leg, how in recording.sayers:
            naming = self.sessions.of.get(leg) if how == SESSION else None
            if naming is None or (leg, how) in recording.offered:
                continue
            calls = self.sessions.calls(recording.key, naming.names)
            if not any(call.leg in recording.calls for call in calls):
                found.append(naming)
        return found

    def _take_out(self, recording: Recording, lenders: Sequence[Naming], now: float) -> None:
        """They have lent their licence to a call that others say is recorded, and that they don't record after all:
        it keeps that one, and they count for themselves again."""
        if not lenders:
            return
        first = lenders[0].call
        alone = self._new(first)
        for naming in lenders:
            recording.sayers.discard((naming.leg, SESSION))
            naming.recordings.pop(recording, None)
            alone.sayers.add((naming.leg, SESSION))
            naming.recordings[alone] = None
        self.licences.counts_anyway(alone, first, first.lease, now)
        for naming in lenders:
            naming.call.keep(now)

    def _unsaid(self, call: Call, hows: Iterable[str], now: float) -> None:
        """A leg says so no more in these ways; but for what it offers at this moment."""
        recording = self.of.get(call.leg)
        if recording is None:
            return
        gone = [how for how in sorted(hows) if recording.says((call.leg, how))]
        if gone:
            self.take_back(recording, [(call.leg, how) for how in gone], now)
            call.tell(now, "stops", *gone)
            call.keep(now)

    def take_back(self, recording: Recording, sayers: Iterable[Sayer], now: float) -> None:
        """These say so no more."""
        for sayer in sayers:
            recording.sayers.discard(sayer)
            recording.offered.pop(sayer, None)
            if sayer[1] == SESSION and (naming := self.sessions.of.get(sayer[0])) is not None:
                naming.recordings.pop(recording, None)
        if not recording.sayers:
            for leg in recording.calls:
                del self.of[leg]
            recording.calls = set()
            self.licences.give_back(recording)

    def ended(self, call: Call, now: float) -> None:
        """A leg has ended, or has been told to give back what it holds."""
        if call.is_session:
            naming = self.sessions.closed(call)
            if naming is not None:
                for each in [*naming.recordings]:
                    self.take_back(each, [(call.leg, SESSION)], now)
            return
        self.sessions.ended(call)
        recording = self.of.pop(call.leg, None)
        if recording is None:
            return
        recording.calls.discard(call.leg)
        recording.offered.pop((call.leg, LENT), None)
        self.take_back(recording, [sayer for sayer in recording.sayers if sayer[0] == call.leg], now)
        if recording.sayers and not recording.calls:
            self.settle(recording, now)

    def settle(self, recording: Recording, now: float) -> None:
        """Its sessions hold no further licence as long as one of them is that of a call."""
        for leg, how in [*recording.sayers]:
            naming = self.sessions.of.get(leg) if how == SESSION else None
            if naming is not None:
                self._settle(naming, now)
                naming.call.keep(now)

    def _settle(self, naming: Naming, now: float) -> None:
        me = (naming.leg, SESSION)
        of_call = any(each.calls and each.granted and each.says(me) for each in naming.recordings)
        alone = [each for each in naming.recordings if not each.calls]
        for each in alone if of_call else alone[1:]:
            self.take_back(each, [me], now)

    def renew(self, call: Call, now: float) -> None:
        """A leg lives: its licence is held as long as the leg may be up, at least."""
        for recording in self._all_of(call):
            self.licences.renew(recording, call, now)

    def licence_of(self, call: Call) -> list[int]:
        """The claims of a leg's licence, as far as there is one; a session has none of its own where it records calls
        that are known."""
        held = [each for each in self._all_of(call) if each.granted and each.claim]
        return [each.claim for each in held if not (call.is_session and each.calls)]

    def _all_of(self, call: Call) -> list[Recording]:
        if call.is_session:
            naming = self.sessions.of.get(call.leg)
            return [*naming.recordings] if naming is not None else []
        recording = self.of.get(call.leg)
        return [recording] if recording is not None else []

    # -- over a crash --------------------------------------------------------------------------------------

    def row(self, call: Context) -> tuple[Any, ...] | None:
        """What is written down of a recorded leg: (its recording, how it says so, halves of its session identifier).
        Of a session: (its recordings, its names). Of a recording: (number, claim, legs of the call)."""
        naming = self.sessions.of.get(call.leg)
        if naming is not None:
            return tuple([_row(each) for each in naming.recordings]), tuple(naming.names)
        recording = self.of.get(call.leg)
        ids = tuple(self.sessions.ids_of(call))  # type: ignore[arg-type]
        if recording is None:
            return (None, (), ids) if ids else None
        return _row(recording), tuple([how for leg, how in recording.sayers if leg == call.leg]), ids

    def recall(self, call: Call, row: Sequence[Any]) -> None:
        """A leg of an earlier start; its licences are taken by `mend`."""
        if call.is_session:
            recordings, names = row
            naming = self.sessions.opened(call, names)
            for each in recordings:
                recording = self._recall(call, each)
                recording.sayers.add((call.leg, SESSION))
                naming.recordings[recording] = None
            return
        known, hows, ids = row
        self.sessions.recall(call, ids)
        if hows:  # else whoever says so is a session
            recording = self._recall(call, known)
            recording.sayers |= {(call.leg, how) for how in hows}
            self._attach(recording, call)

    def _recall(self, call: Call, row: Sequence[Any]) -> Recording:
        number, claim, legs = row
        recording = self._recalled.get(number)
        if recording is None:
            recording = self._recalled[number] = Recording(number, call.key.id)
            recording.claim = claim
        for leg in legs:
            if self.of.setdefault(leg, recording) is recording:
                recording.calls.add(leg)
        return recording

    def mend(self, now: float) -> None:
        """All legs of an earlier start are there: licences are held whatever the limit; legs of one recording share it
        again."""
        live = {call.leg: call for call in self.core.live()} if self._recalled else {}
        recalled, self._recalled = self._recalled, {}
        for recording in recalled.values():
            for leg in recording.calls - live.keys():
                recording.calls.discard(leg)
                del self.of[leg]
            who = [live[leg] for leg, _ in recording.sayers if leg in live]
            if who:
                recording.emergency = any(live[leg].emergency for leg in recording.calls)
                lasts = max(who, key=lambda call: call.lease)
                self.licences.counts_anyway(recording, lasts, lasts.lease, now)
                self.settle(recording, now)

    # -- which recording it is -----------------------------------------------------------------------------

    def _news(self, call: Call, starts: frozenset[str]) -> frozenset[str]:
        """In which of these ways a leg has not said so yet, or has only offered to."""
        recording = self._recording_of(call) if starts else None
        if recording is None:
            return starts
        return frozenset(how for how in starts if not recording.says((call.leg, how)))

    def _count(self, call: Call, hows: frozenset[str], now: float, named: Sequence[Naming] = ()) -> None:
        """It is recorded, whatever the limit."""
        call.record.recorded = True
        self._say(call, Waiter(call, hows, force=True), now, named)

    def _say(
        self,
        call: Call,
        waiter: Waiter,
        now: float,
        named: Sequence[Naming] = (),
        offers: Offers | None = None,
    ) -> None:
        """A leg says that its call is recorded, and so do the sessions that have `named` it. `offers`: it is but an
        offer, which is noted there."""
        alone = [each for each in [one.without_call for one in named] if each is not None]
        recording = self._recording_of(call) or next(iter(alone), None) or self._new(call)
        self._attach(recording, call)
        for how in waiter.hows:
            sayer = call.leg, how
            if offers is None:
                recording.offered.pop(sayer, None)
            else:
                _offer(recording, sayer, offers)
            recording.sayers.add(sayer)
        for naming in named:
            recording.sayers.add((naming.leg, SESSION))
            naming.recordings[recording] = None
        call.tell(now, "recorded", *sorted(waiter.hows | {SESSION} if named else waiter.hows))
        self.licences.wants(recording, waiter, now)
        if named and recording.granted:
            self.settle(recording, now)

    def _new(self, call: Call) -> Recording:
        return Recording(self.core.next_id(), call.key.id)

    def _recording_of(self, call: Call) -> Recording | None:
        """A call in and its forward are one."""
        return self.of.get(call.leg) or (self.of.get(call.inbound_leg) if call.inbound_leg else None)

    def _attach(self, recording: Recording, call: Call) -> None:
        for leg in (call.leg, call.inbound_leg):
            if leg and self.of.setdefault(leg, recording) is recording:
                recording.calls.add(leg)
        recording.emergency |= call.emergency

    # -- sessions ------------------------------------------------------------------------------------------

    def _recordings_of(
        self, naming: Naming, calls: Sequence[Call], offers: Offers | None = None
    ) -> list[Recording]:
        """Those of the calls that a session records. One that is recorded by nobody else takes over what the session
        holds while it led to no call: for good, unless that is but one of its `offers`."""
        found: dict[Recording, None] = {}
        for call in calls:
            recording = self._recording_of(call) or naming.without_call or self._new(call)
            lent = offers if recording in naming.recordings and not recording.calls else None
            self._attach(recording, call)
            if lent is not None:
                for leg in recording.calls:
                    recording.offered[leg, LENT] = 1
                    lent.append((recording, (leg, LENT)))
            found[recording] = None
        return [*found]

    def _joins(
        self,
        naming: Naming,
        recordings: Sequence[Recording],
        waiter: Several,
        now: float,
        calls: Sequence[Call] = (),
        offers: Offers | None = None,
    ) -> None:
        """A session says that these are recorded, and goes on when each has its licence."""
        sayer = naming.leg, SESSION
        waiter.calls, waiter.left = [*calls], len(recordings)
        for recording in recordings:
            if offers is not None:
                _offer(recording, sayer, offers)
            recording.sayers.add(sayer)
            naming.recordings[recording] = None
        for recording in recordings:
            self.licences.wants(recording, waiter, now)

    def _names_more(self, session: Call, relay: Relay, way: Way, now: float) -> bool:
        """Whether a session names calls in a request that need licences first."""
        naming = self.sessions.of.get(session.leg)
        if naming is None:
            return False
        sayer = naming.leg, SESSION
        calls = self.sessions.calls(session.key.id, names_in(way.request))
        calls = [call for call in calls if not self._is_said(call, sayer)]
        # What it holds already it need not ask for.
        known = self._recordings_of(naming, calls, relay.offers)
        recordings = [each for each in known if not each.says(sayer)]
        if not recordings:
            return False
        session.tell(now, "recorded", SESSION)
        self._joins(naming, recordings, NamesMore(session, relay, way), now, calls, relay.offers)
        return True

    def _is_said(self, call: Call, sayer: Sayer) -> bool:
        recording = self._recording_of(call)
        return recording is not None and recording.says(sayer)

    def _moves(self, session: Call, request: Message, now: float) -> None:
        """A session has told which calls it records from now on; of what is described in part only, which besides."""
        naming, names = self.sessions.of.get(session.leg), names_in(request)
        if naming is None or not names:
            return
        sayer, instead = (naming.leg, SESSION), not is_partial(request)
        self.sessions.names(naming, names, instead=instead)
        calls = self.sessions.calls(session.key.id, names)
        for call in calls:
            call.record.recorded = True
            if not self._is_said(call, sayer):  # it has come since the request
                self._count(call, NOTHING, now, [naming])
            recording = self.of.get(call.leg)
            if recording is not None:  # an offer beside this one, that is not taken, takes nothing back
                for leg in recording.calls:
                    recording.offered.pop((leg, LENT), None)
        if calls and instead:
            kept = [self._recording_of(call) for call in calls]
            for each in [*naming.recordings]:
                if each not in kept and each.calls and each.says(sayer):
                    self.take_back(each, [sayer], now)
        self._settle(naming, now)

    # -- beyond the limit ----------------------------------------------------------------------------------

    def goes_unrecorded(
        self, call: Call, hows: frozenset[str], named: Sequence[Naming], refusal: Refusal, now: float
    ) -> None:
        """The call passes, and what asks for its recording is taken off (X-Record goes in any case). That a side says
        that it records is not touched: it is a notice to those who speak. Nor does a session end that has named it."""
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
        if CALLER in hows or named:
            self._count(call, hows & {CALLER}, now, [one for one in named if one.leg in self.sessions.of])

    def adopt(self, now: float) -> None:
        """Keys or their limits have changed."""
        if not self:
            return
        for call in self.core.live():
            for recording in self._all_of(call):
                if recording.granted and not recording.claim:
                    self.licences.counts_anyway(recording, call, call.lease, now)


def _row(recording: Recording) -> tuple[Any, ...]:
    return recording.id, recording.claim, tuple(recording.calls)


def _offer(recording: Recording, sayer: Sayer, offers: Offers) -> None:
    """Note that this is offered, but where it holds already."""
    if sayer not in recording.sayers or sayer in recording.offered:
        recording.offered[sayer] = recording.offered.get(sayer, 0) + 1
        offers.append((recording, sayer))
