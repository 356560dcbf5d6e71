"""Which calls hold a line, told from the messages alone: an independent reading of proxy rules §11, for the tests that
let anything happen.

A line is held from the moment the gate sends the INVITE on until the final answer of 300 and more goes up; an answered
call until the last of its dialogs is over: the carrier's BYE has come, a BYE of the PBX has got its final answer (any
but 401 and 407) or none in 32 s or ICMP, a re-INVITE or UPDATE has got a 481, or 64 s have gone by without an ACK. And
one is held for each callee of the carrier that picks up when nobody waits any more, until one side has hung up: the
caller, the callee or the gate.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.proxy.agent import Agent
from tests.proxy.ladder import World
from tests.proxy.text import Text

from callgate.proxy.commands import Send
from callgate.proxy.flow import Flow

TIMER_F = 32.0
NO_ACK = 64.0
UNSURE = 0.3
"""Seconds around a time-out in which nobody asks: the wheel's grain adds up over a transaction."""


class Open(NamedTuple):
    """A request inside a dialog (of the callee's tag `tag`) that has no final answer. `own`: the gate's own BYE, `late`
    the one to a callee that picked up when nobody waited."""

    method: str
    tag: str
    since: float
    to_carrier: bool
    own: bool
    late: bool


class Held:
    """One call as it looks from outside."""

    def __init__(self, inbound: bool) -> None:
        self.inbound = inbound
        self.state = "tried"  # then up, then over; or over at once
        self.up: set[str] = set()  # callee's tags of dialogs that are up
        self.known: set[str] = set()  # and of those that are or were
        self.up_at = 0.0  # when the latest of them picked up
        self.acked: set[str] = set()  # those of which the caller has shown that it knows of the answer
        self.open: dict[str, Open] = {}
        self.late: set[str] = set()  # callee's tags of dialogs with nobody

    @property
    def lines(self) -> int:
        return (self.state != "over") + len(self.late)

    def dialog_over(self, tag: str) -> None:
        self.late.discard(tag)
        if self.state == "up":
            self.up.discard(tag)
            self.known.add(tag)
            if not self.up:
                self.state = "over"

    def picked_up_late(self, tag: str) -> None:
        if tag not in self.known and not self.inbound:
            self.known.add(tag)
            self.late.add(tag)

    def answered(self, request: Open, code: int) -> None:
        if request.own:
            if request.late:
                self.late.discard(request.tag)
            elif request.to_carrier:
                self.dialog_over(request.tag)
        elif request.method == "BYE":
            if code not in (
                401,
                407,
            ):  # of the carrier's BYE: it was over at its receipt, unless it came too early
                self.dialog_over(request.tag)
        elif code == 481 and request.method in ("INVITE", "UPDATE"):
            self.dialog_over(request.tag)


class Model:
    """`came` before the gate takes an answer, `left` for each message that it sends, `passed` when time has."""

    def __init__(self) -> None:
        self.calls: dict[str, Held] = {}

    def holding(self, *, inbound: bool) -> int:
        return sum(c.lines for c in self.calls.values() if c.inbound is inbound)

    def came(self, text: Text) -> None:
        call = self.calls.get(text.call_id)
        if call is None or text.code < 200:
            return
        request = call.open.get(text.branch)
        if request is not None and request.method == text.method:
            del call.open[text.branch]
            call.answered(request, text.code)

    def left(self, text: Text, now: float, *, to_carrier: bool, new: bool) -> None:
        call = self.calls.get(text.call_id)
        if text.is_copy_of_the_calls_first:
            self.calls.setdefault(text.call_id, Held(inbound=not to_carrier))
            return
        if call is None:
            return
        to_callee = to_carrier != call.inbound
        if text.code:
            if text.method == "INVITE" and text.code >= 200 and not to_callee:
                self._final(call, text, now)
            return
        own = len(text.all("via")) == 1
        if text.method == "CANCEL" or (own and text.method == "ACK") or not new:
            return
        tag = text.to_tag if to_callee else text.from_tag
        if to_callee and not own and call.state == "up" and text.method not in ("PRACK", "UPDATE"):
            call.acked.add(tag)  # an ACK, or what only comes after one
        if text.method == "ACK":
            return
        if own and to_carrier:
            if call.state == "over":  # a copy of an answer that was heard, when all of its call is forgotten
                call.known.discard(tag)
            call.picked_up_late(tag)
        call.open[text.branch] = Open(text.method, tag, now, to_carrier, own, own and tag in call.late)
        if text.method == "BYE" and not to_carrier and not own:
            call.dialog_over(tag)

    def _final(self, call: Held, text: Text, now: float) -> None:
        if text.code >= 300:
            if call.state == "tried":
                call.state = "over"
            return
        if call.state == "over":
            call.picked_up_late(text.to_tag)
        if call.state == "tried":
            call.state = "up"
        if call.state == "up" and text.to_tag not in call.known:
            call.up_at = now
            call.up.add(text.to_tag)
            call.known.add(text.to_tag)

    def undeliverable(self, text: Text) -> None:
        call = self.calls.get(text.call_id)
        request = call.open.pop(text.branch, None) if call is not None else None
        if call is not None and request is not None and request.method == "BYE":
            call.answered(request, 503)

    def passed(self, now: float) -> None:
        for call in self.calls.values():
            for branch, request in list(call.open.items()):
                if now >= request.since + TIMER_F:
                    del call.open[branch]
                    if request.method == "BYE":
                        call.answered(request, 408)
            if call.up - call.acked and now >= call.up_at + NO_ACK:
                for tag in call.up - call.acked:
                    call.dialog_over(tag)

    def unsure(self, now: float) -> bool:
        """Whether something is timing out just now."""
        times = [r.since + TIMER_F for c in self.calls.values() for r in c.open.values()]
        times += [c.up_at + NO_ACK for c in self.calls.values() if c.up - c.acked]
        return any(abs(now - at) <= UNSURE for at in times)


class ModelledWorld(World):
    """A world that shows a model what passes."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.model = Model()
        super().__init__(*arguments, **options)

    def deliver(self, sender: Agent, data: bytes, flow: Flow) -> None:
        text = Text(data)
        self.model.passed(self.now - UNSURE)
        if text.code:
            self.model.came(text)
        super().deliver(sender, data, flow)

    def post(self, send: Send) -> None:
        text = Text(send.data)
        new = not text.code and (text.branch, text.method) not in self.by_branch
        super().post(send)
        to_carrier = any((send.flow.host, send.flow.port) in g.addresses for g in self.gateways)
        self.model.left(text, self.now, to_carrier=to_carrier, new=new)

    def unreachable(self, text: Text) -> None:
        self.model.undeliverable(text)
        super().unreachable(text)

    def agrees(self) -> None:
        """The store, the gauges and the model count the same calls."""
        self.settle()
        while self.model.unsure(self.now):
            self.after(UNSURE)
            self.settle()
        self.model.passed(self.now)
        self.holds(outbound=self.model.holding(inbound=False), inbound=self.model.holding(inbound=True))
