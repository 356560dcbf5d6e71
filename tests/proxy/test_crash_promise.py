"""The ledger never lies (issue 5): whatever happens to calls, and in whatever moment the gate dies, some time after its
new start it holds exactly the calls that both sides have; each claim is given back once.

Both sides are user agents that do as RFC 3261 says: what is theirs to repeat they repeat, a callee whose answer nobody
acknowledges gives up, and whoever is asked about a call says whether he has it.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.examples import many
from tests.proxy.agent import Agent
from tests.proxy.ladder import World
from tests.proxy.stores import ANSWERING
from tests.proxy.text import Text

from callgate.proxy.directory import Probing

PROBES = Probing(interval=60.0, misses=3, gap=10.0)
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
"""A run takes seconds of CPU: a failure is told as it was found."""
SETTLED = 300
"""Seconds after which all must be known: Timer C, an interval, three misses."""


@dataclass
class Share:
    """What one side knows of one call: rings (to the caller: is tried), up, gone. `ok`: a callee's 2xx."""

    caller: bool
    phase: str = "rings"
    acked: bool = False
    ok: Text | None = None
    waited: int = 0


class Phone:
    """One side with all of its calls."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.calls: dict[str, Share] = {}

    def of(self, phase: str, *, caller: bool | None = None) -> list[str]:
        return [
            call_id
            for call_id, share in self.calls.items()
            if share.phase == phase and caller in (None, share.caller)
        ]

    def say(self, what: str, call_id: str) -> Text:
        self.agent.current = call_id
        return self.agent.sends(what)

    def invites(self) -> None:
        self.calls[self.agent.sends("INVITE").call_id] = Share(caller=True)

    def answers(self, call_id: str, code: str) -> None:
        share = self.calls[call_id]
        text = self.say(f"{code} INVITE", call_id)
        if code == "200":
            share.phase, share.ok = "up", text
        elif code > "200":
            share.phase = "gone"

    def cancels(self, call_id: str) -> None:
        self.calls[call_id].phase = "cancelled"
        self.say("CANCEL", call_id)

    def hangs_up(self, call_id: str) -> None:
        self.calls[call_id].phase = "gone"
        self.say("BYE", call_id)

    def hears(self, text: Text) -> None:
        """Do what a user agent does with a message."""
        call_id = text.call_id
        share = self.calls.get(call_id)
        if text.code:
            if share is not None:
                self._hears_answer(share, text)
        elif text.method == "INVITE":
            if share is None:
                self.agent.read(text)
                self.calls[call_id] = Share(caller=False)
            elif share.ok is not None:
                self.agent.transmits(share.ok.data)
        elif text.method == "ACK":
            if share is not None:
                share.acked = True
        elif text.method == "CANCEL":
            self.agent.read(text)
            self.say("200 CANCEL", call_id)
            if share is not None and share.phase == "rings":
                self.answers(call_id, "487")
        elif share is not None:
            if not {text.to_tag, text.from_tag} & set(self.agent.legs[call_id].dialogs):
                return  # it has overtaken the answer that makes the dialog
            self.agent.read(text)
            up = share.phase == "up"
            if text.method == "BYE":
                share.phase = "gone"
            self.say(f"{200 if up else 481} {text.method}", call_id)

    def _hears_answer(self, share: Share, text: Text) -> None:
        if text.method != "INVITE" or not share.caller or text.code == 100:
            return
        self.agent.read(text)
        if text.code < 200:
            return
        self.say("ACK", text.call_id)
        if text.code >= 300:
            share.phase = "gone"
        elif share.phase == "rings":
            share.phase = "up"
        elif share.phase != "up":
            share.phase = "gone"
            self.say("BYE", text.call_id)

    def goes_on(self) -> None:
        """A second has passed."""
        for call_id, share in self.calls.items():
            share.waited += 1
            if share.ok is not None and not share.acked and share.phase == "up":
                if share.waited < 32:
                    self.agent.transmits(share.ok.data)  # RFC 3261 §13.3.1.4
                else:
                    self.hangs_up(call_id)
            elif share.caller and share.phase in ("rings", "cancelled") and share.waited > 240:
                share.phase = "gone"
            elif not share.caller and share.phase == "rings" and share.waited > 250:
                self.answers(call_id, "480")


class Crashes(RuleBasedStateMachine):
    world: World

    @initialize(
        kind=st.sampled_from(ANSWERING),
        lines=st.sampled_from([2, 20]),
        queue_seconds=st.sampled_from([None, None, 4.0]),
    )
    def begins(self, kind: Any, lines: int, queue_seconds: float | None) -> None:
        self.world = World(
            kind,
            cps=50 if queue_seconds is None else 1,
            queue_seconds=queue_seconds,
            outbound_calls=lines,
            inbound_calls=lines,
            calls=None,
            probing=PROBES,
        )
        self.phones = [Phone(self.world.pbx), Phone(self.world.carrier)]
        self.young = False

    def phone(self, data: st.DataObject, **which: Any) -> tuple[Phone, str] | None:
        found = [(p, c) for p in self.phones for c in p.of(**which)]
        return data.draw(st.sampled_from(found), label="call") if found else None

    @rule(by=st.integers(0, 1))
    def calls(self, by: int) -> None:
        self.phones[by].invites()

    @rule(data=st.data(), code=st.sampled_from(["180", "200", "200", "486", "503"]))
    def answers(self, data: st.DataObject, code: str) -> None:
        found = self.phone(data, phase="rings", caller=False)
        if found:
            found[0].answers(found[1], code)

    @rule(data=st.data())
    def cancels(self, data: st.DataObject) -> None:
        found = self.phone(data, phase="rings", caller=True)
        if found:
            found[0].cancels(found[1])

    @rule(data=st.data())
    def hangs_up(self, data: st.DataObject) -> None:
        found = self.phone(data, phase="up")
        if found and (found[0].calls[found[1]].caller or found[0].calls[found[1]].acked):
            found[0].hangs_up(found[1])

    @precondition(lambda self: any(p.agent.inbox for p in self.phones))
    @rule(data=st.data(), lost=st.sampled_from([False, False, False, True]))
    def hears(self, data: st.DataObject, lost: bool) -> None:
        """One side takes a message, not always the oldest; or it is lost."""
        phone = data.draw(st.sampled_from([p for p in self.phones if p.agent.inbox]), label="side")
        _, text = phone.agent.inbox.pop(
            data.draw(st.integers(0, len(phone.agent.inbox) - 1), label="message")
        )
        if not lost:
            phone.hears(text)

    @rule()
    def all_hear(self) -> None:
        for _ in range(20):
            self.world.settle()
            for phone in self.phones:
                for entry in phone.agent.inbox[:]:
                    phone.agent.inbox.remove(entry)
                    phone.hears(entry[1])

    @rule(seconds=st.sampled_from([0.02, 0.2, 0.6, 1.1, 5.0, 40.0]))
    def waits(self, seconds: float) -> None:
        for _ in range(max(1, int(seconds))):
            self.world.after(min(seconds, 1.0))
            for phone in self.phones:
                phone.goes_on()

    @rule(away=st.sampled_from([0.1, 2.0, 30.0]), lost=st.sampled_from([0.0, 0.0, 0.05]))
    def crashes(self, away: float, lost: float) -> None:
        taken = self.world.crashes(away, lost=lost)
        assert not taken.left_out
        self.young = self.young or lost > 0

    @rule()
    def settles(self) -> None:
        """Time passes, everybody does what he has to; then all is known."""
        if self.young:  # whatever was not written down counts as soon as it speaks
            self.young = False
            self.all_hear()
            for phone in self.phones:
                for call_id in phone.of("up", caller=True):
                    phone.say("INFO", call_id)
        for _ in range(SETTLED):
            self.world.after(1.0)
            self.all_hear()
            for phone in self.phones:
                phone.goes_on()
        self.all_hear()
        pbx, carrier = self.phones
        assert set(pbx.of("up")) == set(carrier.of("up")), self.world.ladder()
        self.world.holds(outbound=len(pbx.of("up", caller=True)), inbound=len(carrier.of("up", caller=True)))

    @invariant()
    def nothing_is_given_back_twice(self) -> None:
        if self.world.store.next_deadline == float(
            "inf"
        ):  # else a claim may be on its way before its release
            self.world.store.check()

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.settles()
                for phone in self.phones:
                    for call_id in phone.of("up", caller=True):
                        phone.hangs_up(call_id)
                self.all_hear()
                self.world.holds_nothing()
                self.world.ends()
        finally:
            gc.unfreeze()
            gc.enable()


TestCrashes = Crashes.TestCase
TestCrashes.settings = settings(
    max_examples=many(25), stateful_step_count=25, deadline=None, phases=NO_SHRINKING
)
