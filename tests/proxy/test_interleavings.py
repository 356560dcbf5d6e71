"""Anything, in any order, over several calls (issue 2: "counts equal the live legs"): INVITEs, answers, CANCELs, BYEs,
forks, losses, copies, ICMP and time. After every step the store holds exactly the lines of the calls that are live by
the messages alone; each claim is given back once; after silence nothing is held."""

from __future__ import annotations

import gc

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.examples import many
from tests.proxy.agent import INSIDE, Agent, Leg
from tests.proxy.model import ModelledWorld
from tests.proxy.stores import ANSWERING
from tests.proxy.text import Text

ANSWERS = ["100", "180", "183", "200", "200", "486", "503", "404", "603", "302"]
BYE_ANSWERS = ["200", "200", "481", "401", "500", ""]
TIMES = [0.01, 0.2, 0.6, 1.1, 4.1, 5.5, 33.0, 65.0, 182.0]
AGAIN = 4.0
"""Seconds within which a message may come again: later, an INVITE would be a new call of the same name."""


class Calls(RuleBasedStateMachine):
    world: ModelledWorld

    @initialize(
        kind=st.sampled_from(ANSWERING),
        gateways=st.integers(1, 3),
        cps=st.sampled_from([1, 2, 50]),
        lines=st.sampled_from([2, 20]),
    )
    def begins(self, kind: object, gateways: int, cps: int, lines: int) -> None:
        self.world = ModelledWorld(
            kind,
            gateways=gateways,
            cps=cps,
            outbound_calls=lines,
            inbound_calls=lines,
            calls=2 * lines,
            max_call_seconds=300.0,
        )
        self.sent: list[tuple[float, Agent, Text]] = []
        self.hurried = False

    # -- what a side does ----------------------------------------------------------------------------------

    def says(self, agent: Agent, what: str, call_id: str, **options: str) -> None:
        agent.current = call_id
        text = agent.sends(what, **options)  # type: ignore[arg-type]
        self.sent.append((self.world.now, agent, text))

    @rule(caller=st.sampled_from(["pbx", "carrier"]), hurried=st.booleans())
    def calls(self, caller: str, hurried: bool) -> None:
        agent = self.world.pbx if caller == "pbx" else self.world.carrier
        text = agent.sends("INVITE")
        self.sent.append((self.world.now, agent, text))
        self.hurried = hurried

    @rule(caller=st.sampled_from(["pbx", "carrier"]), stage=st.integers(1, 5))
    def is_set_up(self, caller: str, stage: int) -> None:
        """A call that comes some way without trouble: ringing, two forks ringing, answered, acknowledged, and by
        both forks."""
        world = self.world
        a, b = (world.pbx, world.carrier) if caller == "pbx" else (world.carrier, world.pbx)
        call_id = a.sends("INVITE").call_id
        world.settle()
        self._reads_all(a, call_id)
        self._reads_all(b, call_id)
        if call_id not in b.legs:
            return  # refused
        one, two = f"{b.name}-one", f"{b.name}-two"
        self.says(b, "180 INVITE", call_id, tag=one)
        if stage > 1:
            self.says(b, "180 INVITE", call_id, tag=two)
        if stage > 2:
            self.says(b, "200 INVITE", call_id, tag=one)
        if stage > 4:
            self.says(b, "200 INVITE", call_id, tag=two)
        self._reads_all(a, call_id)
        for tag in (one, two)[: stage - 3 if stage > 3 else 0]:
            self.says(a, "ACK", call_id, tag=tag)
        self._reads_all(b, call_id)

    def _reads_all(self, agent: Agent, call_id: str) -> None:
        for entry in [e for e in agent.inbox if e[1].call_id == call_id]:
            agent.inbox.remove(entry)
            agent.read(entry[1])

    @precondition(lambda self: any(a.inbox for a in self.world.agents))
    @rule(data=st.data(), hurried=st.booleans())
    def hears(self, data: st.DataObject, hurried: bool) -> None:
        """One side takes one of its messages, not always the oldest, and does something about it."""
        agent = data.draw(st.sampled_from([a for a in self.world.agents if a.inbox]), label="side")
        index = data.draw(st.integers(0, min(3, len(agent.inbox) - 1)), label="message")
        _, text = agent.inbox.pop(index)
        if text.to_tag and not text.code and text.method not in ("ACK", "CANCEL"):
            leg = agent.legs.get(text.call_id)
            if leg is None or not {text.to_tag, text.from_tag} & set(leg.dialogs):
                return
        agent.read(text)
        self.hurried = hurried
        if text.code:
            if text.method == "INVITE" and text.code >= 200 and data.draw(st.booleans(), label="acks"):
                self.says(agent, "ACK", text.call_id, **self._tag(agent, text))
        elif text.method == "INVITE":
            self._answers(agent, agent.legs[text.call_id], data)
        elif text.method == "CANCEL":
            self.says(agent, "200 CANCEL", text.call_id)
            if self._final_sent(agent.legs[text.call_id]) is None and data.draw(st.booleans(), label="obeys"):
                self.says(agent, "487 INVITE", text.call_id)
        elif text.method in INSIDE:
            code = data.draw(st.sampled_from(BYE_ANSWERS), label="answer")
            if code:
                self.says(agent, f"{code} {text.method}", text.call_id)

    def _tag(self, agent: Agent, text: Text) -> dict[str, str]:
        return {"tag": text.to_tag} if text.to_tag in agent.legs[text.call_id].dialogs else {}

    def _final_sent(self, leg: Leg) -> int | None:
        codes = [t.code for t in leg.sent if t.code >= 200 and t.method == "INVITE"]
        return codes[0] if codes else None

    def _answers(self, agent: Agent, leg: Leg, data: st.DataObject) -> None:
        """Any answer to an INVITE that a callee may still give; after a 2xx only another fork's."""
        final = self._final_sent(leg)
        if final is not None and final >= 300:
            return
        code = data.draw(st.sampled_from(ANSWERS if final is None else ["200"]), label="answer")
        tag = data.draw(st.sampled_from(["one", "two"]), label="fork")
        self.says(agent, f"{code} INVITE", leg.call_id, tag=f"{agent.name}-{tag}")

    @precondition(lambda self: any(a.legs for a in self.world.agents))
    @rule(data=st.data(), hurried=st.booleans())
    def speaks(self, data: st.DataObject, hurried: bool) -> None:
        """One side says something without being asked."""
        agent = data.draw(st.sampled_from([a for a in self.world.agents if a.legs]), label="side")
        leg = agent.legs[data.draw(st.sampled_from(sorted(agent.legs)), label="call")]
        self.hurried = hurried
        options = []
        if leg.caller and leg.final is None:
            options.append("CANCEL")
        if leg.caller and leg.final is not None:
            options.append("ACK")
        if not leg.caller and any(r.method == "INVITE" for r in leg.got):
            options.append("answer")
        if leg.dialogs:
            options += ["BYE", "BYE", "INFO", "UPDATE"]
        if not options:
            return
        what = data.draw(st.sampled_from(options), label="says")
        if what == "answer":
            self._answers(agent, leg, data)
        elif what in ("BYE", "INFO", "UPDATE"):
            self.says(
                agent, what, leg.call_id, tag=data.draw(st.sampled_from(sorted(leg.dialogs)), label="fork")
            )
        else:
            self.says(agent, what, leg.call_id)

    # -- what the network does -----------------------------------------------------------------------------

    @precondition(lambda self: any(a.inbox for a in self.world.agents))
    @rule(data=st.data())
    def loses(self, data: st.DataObject) -> None:
        agent = data.draw(st.sampled_from([a for a in self.world.agents if a.inbox]), label="side")
        agent.inbox.pop(data.draw(st.integers(0, len(agent.inbox) - 1), label="message"))

    @precondition(lambda self: any(at >= self.world.now - AGAIN for at, _, _ in self.sent))
    @rule(data=st.data())
    def repeats(self, data: st.DataObject) -> None:
        """The network delivers something a second time."""
        recent = [(a, t) for at, a, t in self.sent if at >= self.world.now - AGAIN]
        agent, text = data.draw(st.sampled_from(recent), label="copy")
        agent.transmits(text.data)

    @precondition(lambda self: any(not t.code for a in self.world.agents for _, t in a.inbox))
    @rule(data=st.data())
    def cannot_deliver(self, data: st.DataObject) -> None:
        """ICMP for something that was on its way."""
        found = [(a, e) for a in self.world.agents for e in a.inbox if not e[1].code]
        agent, entry = data.draw(st.sampled_from(found), label="request")
        agent.inbox.remove(entry)
        self.world.unreachable(entry[1])

    @rule(seconds=st.sampled_from(TIMES))
    def waits(self, seconds: float) -> None:
        self.world.after(seconds)

    # -- what holds ----------------------------------------------------------------------------------------

    @invariant()
    def the_store_holds_what_is_live(self) -> None:
        if self.hurried:
            self.hurried = False  # the next thing happens before the store has answered
            return
        self.world.agrees()

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.world.agrees()
                self.world.after(1500)  # every call that is still up ends by C1, and its BYEs by Timer F
                for agent in self.world.agents:
                    agent.inbox.clear()
                self.world.agrees()
                self.world.ends()
        finally:
            gc.unfreeze()
            gc.enable()


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=many(60), stateful_step_count=50, deadline=None)
