"""Is a call that is up still alive? What nobody ends must not hold a line for ever.

Where the two sides have a session timer (RFC 4028), its refreshes are the proof: at expiry the dialog is over for the
gate, which sends no BYE (§8.3: the sides do that, as far as they live). Where they have none, a side that has been
silent for an interval is asked: an OPTIONS inside the dialog, with a CSeq BELOW the last one seen, since a higher one
would make the other side's own BYE fail. Whoever answers lives, whatever the answer, 500 for the old CSeq too; only
481 says that the dialog is gone, and silence is a miss. The gate hangs up the side that lives: it is on the line with
nobody.
"""

from __future__ import annotations

import re
from random import uniform
from typing import TYPE_CHECKING, Final

from callgate.proxy.calls.dialog import Side, Stage
from callgate.proxy.calls.hangup import HangUp, is_trunk, last_number, to_end
from callgate.proxy.directory import Probing
from callgate.proxy.flow import Trouble
from callgate.proxy.transactions import AnyClient
from callgate.sip.message import SESSION_EXPIRES, Message, header_value
from callgate.sip.transaction import LIFE, NEVER

if TYPE_CHECKING:
    from callgate.proxy.calls.call import Call

SHORTEST: Final = 90.0
"""No session is shorter (RFC 4028 §4): what claims to be is taken for this long."""
GRACE: Final = LIFE
"""Seconds after the end of a session until it is believed: a refresh sent at the last moment may take so long."""
PROBED_PER_SECOND: Final = 1500
"""Questions about many calls at once are spread: the gate has calls to serve as well."""
_SESSION = re.compile(rb"([0-9]{1,10}+)[ \t]*+(?:;|\Z)")


def session_seconds(answer: Message) -> float | None:
    """What the 2xx to an INVITE or UPDATE makes of the session timer (RFC 4028 §4): seconds until the session ends
    unless it is refreshed, None for no timer. One that can't be read is none."""
    for i in answer.places(SESSION_EXPIRES):
        found = _SESSION.match(header_value(answer.lines[i]))
        if found is not None:
            return max(SHORTEST, float(found[1]))
    return None


class Pulse:
    """What is known of the life of one end of a dialog. `at`: when it is to be asked if it is silent until then;
    `asked_at`: when it was last; `waits`: that probe is still open."""

    __slots__ = ("asked_at", "at", "doubted_at", "misses", "waits")

    def __init__(self) -> None:
        self.at = 0.0
        self.doubted_at = NEVER  # since when it is to be asked, at `at`, whatever it said before
        self.asked_at = 0.0
        self.misses = 0
        self.waits = False

    def due(self, side: Side, probing: Probing) -> float:
        """When this end is to be asked, as far as is known now."""
        if self.misses and side.seen_at <= self.asked_at:
            return self.asked_at + probing.gap
        self.misses = 0
        if self.doubted_at != NEVER:
            if side.seen_at <= self.doubted_at:
                return self.at
            self.doubted_at = NEVER
        first, last = side.seen_at + probing.earliest, side.seen_at + probing.interval
        if not first <= self.at <= last:  # it has been heard since
            self.at = uniform(first, last)
        return self.at


class Vitals:
    """Of one dialog that is up: kept by its callee's `Side`. `pulses` are those of the callee and of the caller, made
    when they are first felt: most calls are over before that. `seen`: whether all of its refreshes pass the gate; else
    its session timer says nothing."""

    __slots__ = ("crashed", "doubted", "expires_at", "pulses", "session")

    def __init__(self, session: float | None, now: float) -> None:
        self.pulses: tuple[Pulse, Pulse] | None = None
        self.doubted = False  # whether its ends are asked although there is a session timer,
        self.crashed = False  # and that is because the gate was away
        self.refreshed(session, now)

    def refreshed(self, session: float | None, now: float) -> None:
        """A 2xx to an INVITE or UPDATE of the dialog has passed: it sets the session timer anew, or stops it
        (None)."""
        self.session = session
        self.expires_at = NEVER if session is None else now + session + GRACE

    def doubt(self, now: float, *at: float, crashed: bool = False) -> None:
        """Nobody knows whether the two ends are still there (`crashed`: since the gate was away): they are asked at
        those times, unless they say something before that."""
        self.doubted = True
        self.crashed = self.crashed or crashed
        self.pulses = self.pulses or (Pulse(), Pulse())
        for pulse, then in zip(self.pulses, at, strict=True):
            pulse.doubted_at, pulse.at = now, then

    def look(self, call: Call, side: Side, now: float) -> float:
        """Do what is due, and when to look again; NEVER where nothing is (a probe is out, or the dialog over)."""
        if now >= self.expires_at:
            call.core.counts.reaped(call.key, "session_timer")
            reason = f"session timer expired: no refresh for {self.session:g} s (RFC 4028)"
            call.dialog_over(side, now, "gate", reason)
            return NEVER
        if self.expires_at != NEVER and not self.doubted:
            return self.expires_at
        probing = call.core.directory.probing
        if self.pulses is None:
            self.pulses = Pulse(), Pulse()
        due = self.expires_at
        settled = True
        for pulse, end in zip(self.pulses, (side, call.caller), strict=True):
            if pulse.waits:
                settled = False
                continue
            at = pulse.due(end, probing)
            if pulse.doubted_at == NEVER and not pulse.misses:
                if self.expires_at != NEVER:
                    continue  # from here on the session timer is the proof
            else:
                settled = False
            if now < at:
                due = min(due, at)
            else:
                pulse.waits = True
                pulse.asked_at = now
                Probe(call, side, pulse, end).start(now)
        if settled:
            self.doubted = self.crashed = False
        return due

    def ask(self, call: Call, side: Side, tally: Tally, now: float) -> None:
        """Ask both ends now."""
        if self.pulses is None:
            self.pulses = Pulse(), Pulse()
        for pulse, end in zip(self.pulses, (side, call.caller), strict=True):
            if not pulse.waits:
                tally.asked += 1
                pulse.waits = True
                pulse.asked_at = now
                Probe(call, side, pulse, end, tally).start(now)


def look(call: Call, now: float) -> float:
    """Look after every dialog of a call that is up; when to look again."""
    due = NEVER
    for side in call.callees:
        if side.vitals is not None and side.stage is Stage.UP:
            due = min(due, side.vitals.look(call, side, now))
    return due


class Tally:
    """What came of asking many: `asked` sides, of which so many live, are silent (and asked again), or belong to a call
    that ended meanwhile; `gone` are the calls that a side knows no more, as (Call-ID, reason)."""

    __slots__ = ("asked", "ended", "gone", "lives", "silent")

    def __init__(self) -> None:
        self.asked = self.lives = self.silent = self.ended = 0
        self.gone: list[tuple[bytes, str]] = []

    @property
    def waits(self) -> int:
        """Sides that have not answered yet."""
        return self.asked - self.lives - self.silent - self.ended - len(self.gone)


def ask(call: Call, tally: Tally, now: float) -> bool:
    """Ask both ends of each dialog of a call now, whatever its timers say. Whether there was anybody to ask."""
    before = tally.asked
    for side in call.callees:
        if side.vitals is not None and side.stage is Stage.UP:
            side.vitals.ask(call, side, tally, now)
    return tally.asked > before


class Probe:
    """The user of one OPTIONS. `side` is the dialog's callee, `end` whom it asks."""

    __slots__ = ("call", "end", "pulse", "side", "tally")

    def __init__(self, call: Call, side: Side, pulse: Pulse, end: Side, tally: Tally | None = None) -> None:
        self.tally = tally
        self.call = call
        self.side = side
        self.pulse = pulse
        self.end = end

    def start(self, now: float) -> None:
        call = self.call
        core = call.core
        number = max(last_number(call, self.side, self.end) - 1, 0)
        flow, branch, data = to_end(call, self.side, self.end, b"OPTIONS", number)
        client = core.layer.other_client(branch, data, flow, self, now)
        core.layer.send(client, now)
        core.layer.end_by(client, now + core.directory.probing.gap)

    def on_response(self, client: AnyClient, response: Message, now: float) -> None:
        code = response.code
        if code < 200 or not self._wanted():
            return
        if code not in (408, 481) and self.tally is not None:
            self.tally.lives += 1
        if code == 481:
            self._dead("probe_481", "knows the call no more (481 to a probe)", now)
        elif code == 408:
            self._missed(now)
        else:
            self.end.seen_at = now
            self.pulse.misses = 0
            self.call.look_again(now)

    def on_timeout(self, client: AnyClient, now: float) -> None:
        if self._wanted():
            self._missed(now)

    def on_failed(self, client: AnyClient, now: float, trouble: Trouble) -> None:
        if self._wanted():
            self._missed(now)

    def on_repeat(self, client: AnyClient, now: float) -> None:
        raise AssertionError("only initial INVITEs carry a claim")

    def _wanted(self) -> bool:
        """Whether anybody still waits for the answer. Each probe has one."""
        waits, self.pulse.waits = self.pulse.waits, False
        wanted = waits and self.side.vitals is not None and self.side.stage is Stage.UP
        if waits and not wanted and self.tally is not None:
            self.tally.ended += 1
        return wanted

    def _missed(self, now: float) -> None:
        pulse = self.pulse
        if self.end.seen_at <= pulse.asked_at:  # else it has sent something in the meantime
            pulse.misses += 1
            if pulse.misses >= self.call.core.directory.probing.misses:
                self._dead("probe_silence", f"did not answer {pulse.misses} probes", now)
                return
        if self.tally is not None:
            self.tally.silent += 1
        self.call.look_again(now)

    def _dead(self, why: str, what: str, now: float) -> None:
        """One end is dead: the other is on the line with nobody, and hears that from the gate. The line goes at
        once where it is the trunk that is dead, else when the trunk has answered its BYE: until then it counts."""
        call, side, end = self.call, self.side, self.end
        after_crash = side.vitals is not None and side.vitals.crashed
        side.vitals = None
        trunk_died = is_trunk(call, end)
        reason = f"{'the trunk' if trunk_died else 'the PBX'} {what}"
        if self.tally is not None:
            self.tally.gone.append((call.call_id, reason))
        call.core.counts.reaped(call.key, why)
        by = "crash" if after_crash else "gate"
        HangUp(call, side, reason, by).start(call.core, now, to=side if end is call.caller else call.caller)
        if trunk_died:
            call.dialog_over(side, now, by, reason)
