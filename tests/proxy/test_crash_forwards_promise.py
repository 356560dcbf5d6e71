"""hypothesis: calls in that the gate forwards, and a kill -9 at any moment: at rest both of a forward's calls are up or
neither is, and each holds its line."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from tests.examples import many
from tests.proxy.ladder import World
from tests.proxy.stores import ANSWERING
from tests.proxy.test_crash_promise import NO_SHRINKING, PROBES, SETTLED, Crashes, Phone
from tests.proxy.test_forwards import TO_PHONE


class Forwards(Crashes):
    @initialize(kind=st.sampled_from(ANSWERING), lines=st.sampled_from([2, 20]))
    def begins(self, kind: Any, lines: int) -> None:
        self.world = World(
            kind,
            cps=50,
            route=TO_PHONE,
            inbound_calls=lines,
            forwarded_calls=lines,
            calls=None,
            probing=PROBES,
        )
        self.phones = [Phone(self.world.carrier)]
        self.young = False

    @rule()
    def calls(self) -> None:
        self.phones[0].invites()

    @rule()
    def talk(self) -> None:
        phone = self.phones[0]
        phone.invites()
        self.all_hear()
        for call_id in phone.of("rings", caller=False):
            phone.answers(call_id, "200")
        self.all_hear()

    @rule(seconds=st.sampled_from([0.02, 0.2, 0.6, 1.1]))
    def waits(self, seconds: float) -> None:
        """Nobody is silent for so long that he is taken for dead: he would not be told when he comes back."""
        self.world.after(seconds)
        self.phones[0].goes_on()

    @rule(away=st.sampled_from([0.1, 2.0, 30.0]))
    def crashes(self, away: float) -> None:
        assert not self.world.crashes(away).left_out

    @rule()
    def crashes_at_rest(self) -> None:
        """Nothing is under way: it ends no call, and the next BYE still reaches the other side."""
        phone = self.phones[0]
        self.settles()
        up = set(phone.of("up"))
        self.crashes(0.5)
        for _ in range(10):
            self.world.after(1.0)
            self.all_hear()
        assert set(phone.of("up")) == up, self.world.ladder()

    @rule()
    def settles(self) -> None:
        for _ in range(SETTLED):
            self.world.after(1.0)
            self.all_hear()
            self.phones[0].goes_on()
        self.all_hear()
        near, far = (self.phones[0].of("up", caller=caller) for caller in (True, False))
        assert len(near) == len(far), self.world.ladder()
        self.world.holds(inbound=len(near), forwarded=len(far))


TestForwards = Forwards.TestCase
TestForwards.settings = settings(
    max_examples=many(15), stateful_step_count=20, deadline=None, phases=NO_SHRINKING
)
