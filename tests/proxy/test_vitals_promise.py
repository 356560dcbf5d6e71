"""The promise of probes (issue item "calls that don't end"): whatever is lost, late or refused, a call whose sides both
live is never freed before one of them has missed so many questions in a row or has answered 481; and one with a dead
side is freed within the bound."""

from __future__ import annotations

import gc

from hypothesis import event, given, settings
from hypothesis import strategies as st
from tests.examples import many
from tests.proxy.agent import Agent
from tests.proxy.ladder import World
from tests.proxy.stores import ANSWERING, Kind

from callgate.proxy.directory import Probing

STEP = 0.25
ALIVE = ("200", "500", "405", "486", "503", "401")
OUTCOMES = st.one_of(
    st.tuples(st.sampled_from(ALIVE), st.integers(1, 3)),  # answers so, the n-th copy
    st.tuples(st.sampled_from(ALIVE), st.just(1)),
    st.just(("408", 1)),
    st.just(("", 0)),  # all copies, or all answers, are lost
)
LAST = st.sampled_from([("200", 1), ("200", 2), ("481", 1), ("", 0)])
"""How a side goes on for ever, once its script is over."""


class End:
    """One side as it is seen from outside."""

    def __init__(self, agent: Agent, script: list[tuple[str, int]], last: tuple[str, int]) -> None:
        self.agent = agent
        self.script = script
        self.last = last
        self.row = 0  # misses in a row
        self.gone = False  # has answered 481
        self.open: dict[str, tuple[float, tuple[str, int]]] = {}  # branch → since when, what it does
        self.copies: dict[str, int] = {}

    def proves_life(self) -> None:
        self.row = 0
        self.open.clear()

    def misses_what_is_old(self, now: float, gap: float) -> None:
        for branch, (since, _) in list(self.open.items()):
            if now >= since + gap:
                del self.open[branch]
                self.row += 1

    def is_dead(self, misses: int) -> bool:
        return self.gone or self.row >= misses


def reads(world: World, end: End) -> None:
    """What a side does with all that has arrived."""
    agent = end.agent
    for _, text in agent.inbox[:]:
        agent.gets(f"{text.code} {text.method}" if text.code else text.method)
        if text.code:
            continue
        if text.method == "BYE":
            agent.sends("200 BYE")
            continue
        assert text.method == "OPTIONS"
        branch = text.branch
        if branch not in end.copies:
            end.misses_what_is_old(
                float("inf"), 0.0
            )  # the next question shows that the last one was given up
            end.copies[branch] = 0
            end.open[branch] = (world.now, end.script.pop(0) if end.script else end.last)
        end.copies[branch] += 1
        _, (code, copy) = end.open.get(branch, (0.0, ("", 0)))
        if not code or end.copies[branch] != copy:
            continue
        stray = world.rejected("stray response")
        agent.sends(f"{code} OPTIONS")
        if world.rejected("stray response") > stray:
            continue  # too late
        del end.open[branch]
        if code == "481":
            end.gone = True
        elif code == "408":
            end.row += 1
        else:
            end.row = 0


@given(
    kind=st.sampled_from(ANSWERING),
    caller=st.sampled_from(["pbx", "carrier"]),
    probing=st.builds(
        Probing,
        interval=st.sampled_from([10.0, 30.0]),
        misses=st.integers(1, 3),
        gap=st.sampled_from([1.0, 4.0, 10.0]),
    ),
    scripts=st.tuples(st.lists(OUTCOMES, max_size=5), st.lists(OUTCOMES, max_size=5)),
    lasts=st.tuples(LAST, LAST),
    talk=st.lists(st.tuples(st.floats(0, 60), st.booleans()), max_size=12),
)
@settings(max_examples=many(75), deadline=None)
def test_who_lives_keeps_the_call_and_who_is_dead_does_not(
    kind: Kind,
    caller: str,
    probing: Probing,
    scripts: tuple[list[tuple[str, int]], list[tuple[str, int]]],
    lasts: tuple[tuple[str, int], tuple[str, int]],
    talk: list[tuple[float, bool]],
) -> None:
    try:
        world = World(kind, probing=probing)
        world.talks(world.pbx if caller == "pbx" else world.carrier)
        began = world.now
        ends = [
            End(a, list(s), last)
            for a, s, last in zip((world.pbx, world.carrier), scripts, lasts, strict=True)
        ]
        talk = sorted(talk)
        bound = (len(scripts[0]) + len(scripts[1]) + 8) * (probing.interval + probing.gap) + 120
        last_words = talk[-1][0] if talk else 0.0
        while not world.records and world.now < began + bound + last_words:
            world.after(STEP)
            for end in ends:
                reads(world, end)
            for end in ends:
                end.misses_what_is_old(world.now, probing.gap)
            if any(end.is_dead(probing.misses) for end in ends):
                break
            assert not world.records, f"freed, and nobody was dead\n{world.ladder()}"
            while talk and talk[0][0] <= world.now - began:
                _, from_pbx = talk.pop(0)
                one, other = ends if from_pbx else ends[::-1]
                one.agent.sends("INFO")
                other.agent.gets("INFO")
                other.agent.sends("200 INFO")
                one.agent.gets("200 INFO")
                one.proves_life()
                other.proves_life()
        dead = any(end.is_dead(probing.misses) for end in ends)
        mortal = any(end.last[0] in ("481", "") for end in ends)
        assert dead or not mortal, f"dead, and still not found so\n{world.ladder()}"
        event("ended" if dead else "lives")
        if dead:
            for _ in range(4):  # the BYE, and its answer
                world.after(0.1)
                for end in ends:
                    reads(world, end)
            assert len(world.records) == 1, f"dead, and not freed\n{world.ladder()}"
            assert world.records[0].reason
            world.holds_nothing()
        else:
            world.holds(**({"outbound": 1} if caller == "pbx" else {"inbound": 1}))
            world.pbx.inbox.clear()
            world.carrier.inbox.clear()
            world.hangs_up()
        world.after(60)
        for end in ends:
            end.agent.inbox.clear()
        world.ends()
    finally:
        gc.unfreeze()
        gc.enable()
