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

from callgate.proxy.dialog import Side, Stage
from callgate.proxy.flow import Trouble
from callgate.proxy.hangup import HangUp, is_trunk, last_number, to_end
from callgate.proxy.peers import Probing
from callgate.proxy.transactions import AnyClient
from callgate.sip.message import SESSION_EXPIRES, Message, header_value
from callgate.sip.transaction import LIFE, NEVER

if TYPE_CHECKING:
    from callgate.proxy.call import Call

SHORTEST: Final = 90.0
"""No session is shorter (RFC 4028 §4): what claims to be is taken for this long."""
GRACE: Final = LIFE
"""Seconds after the end of a session until it is believed: a refresh sent at the last moment may take so long."""
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

    __slots__ = ("asked_at", "at", "misses", "waits")

    def __init__(self) -> None:
        self.at = 0.0
        self.asked_at = 0.0
        self.misses = 0
        self.waits = False

    def due(self, side: Side, probing: Probing) -> float:
        """When this end is to be asked, as far as is known now."""
        if self.misses and side.seen_at <= self.asked_at:
            return self.asked_at + probing.gap
        self.misses = 0
        first, last = side.seen_at + probing.earliest, side.seen_at + probing.interval
        if not first <= self.at <= last:  # it has been heard since
            self.at = uniform(first, last)
        return self.at


class Vitals:
    """Of one dialog that is up: kept by its callee's `Side`. `pulses` are those of the callee and of the caller, made
    when they are first felt: most calls are over before that."""

    __slots__ = ("expires_at", "pulses", "session")

    def __init__(self, answer: Message, now: float) -> None:
        self.pulses: tuple[Pulse, Pulse] | None = None
        self.refreshed(answer, now)

    def refreshed(self, answer: Message, now: float) -> None:
        """A 2xx to an INVITE or UPDATE of the dialog has passed: it sets the session timer anew, or stops it."""
        self.session = session_seconds(answer)
        self.expires_at = NEVER if self.session is None else now + self.session + GRACE

    def look(self, call: Call, side: Side, now: float) -> float:
        """Do what is due, and when to look again; NEVER where nothing is (a probe is out, or the dialog over)."""
        if now >= self.expires_at:
            call.core.counts.reaped(call.key, "session_timer")
            reason = f"session timer expired: no refresh for {self.session:g} s (RFC 4028)"
            call.dialog_over(side, now, "gate", reason)
            return NEVER
        if self.expires_at != NEVER:
            return self.expires_at
        probing = call.core.directory.probing
        if self.pulses is None:
            self.pulses = Pulse(), Pulse()
        due = NEVER
        for pulse, end in zip(self.pulses, (side, call.caller), strict=True):
            if pulse.waits:
                continue
            at = pulse.due(end, probing)
            if now < at:
                due = min(due, at)
            else:
                pulse.waits = True
                pulse.asked_at = now
                Probe(call, side, pulse, end).start(now)
        return due


def look(call: Call, now: float) -> float:
    """Look after every dialog of a call that is up; when to look again."""
    due = NEVER
    for side in call.callees:
        if side.vitals is not None and side.stage is Stage.UP:
            due = min(due, side.vitals.look(call, side, now))
    return due


class Probe:
    """The user of one OPTIONS. `side` is the dialog's callee, `end` whom it asks."""

    __slots__ = ("call", "end", "pulse", "side")

    def __init__(self, call: Call, side: Side, pulse: Pulse, end: Side) -> None:
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
        wanted = self.pulse.waits and self.side.vitals is not None and self.side.stage is Stage.UP
        self.pulse.waits = False
        return wanted

    def _missed(self, now: float) -> None:
        pulse = self.pulse
        if self.end.seen_at <= pulse.asked_at:  # else it has sent something in the meantime
            pulse.misses += 1
            if pulse.misses >= self.call.core.directory.probing.misses:
                self._dead("probe_silence", f"did not answer {pulse.misses} probes", now)
                return
        self.call.look_again(now)

    def _dead(self, why: str, what: str, now: float) -> None:
        """One end is dead: the other is on the line with nobody, and hears that from the gate. The line goes at
        once where it is the trunk that is dead, else when the trunk has answered its BYE: until then it counts."""
        call, side, end = self.call, self.side, self.end
        side.vitals = None
        trunk_died = is_trunk(call, end)
        reason = f"{'the trunk' if trunk_died else 'the PBX'} {what}"
        call.core.counts.reaped(call.key, why)
        HangUp(call, side, reason).start(call.core, now, to=side if end is call.caller else call.caller)
        if trunk_died:
            call.dialog_over(side, now, "gate", reason)
