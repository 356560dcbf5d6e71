"""The promise of I1: whatever begins, stops, is refused or ends, in any order, there are exactly as many licences in
use as calls that somebody says are recorded; and never more than the limit, unless one was told of when it was so
already."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field

from hypothesis import event, given, settings
from hypothesis import strategies as st
from tests.examples import many
from tests.proxy.agent import SDP, Agent
from tests.proxy.ladder import World
from tests.proxy.stores import ANSWERING, Kind
from tests.proxy.test_siprec import REQUIRES, SRC, SRS, metadata

ON, OFF, WISHES = SDP + b"a=record:on\r\n", SDP + b"a=record:off\r\n", SDP + b"a=recordpref:on\r\n"
STARTS: dict[str, tuple[tuple[str, ...], bytes, set[str]]] = {
    "plain": ((), SDP, set()),
    "header": (("X-Record: yes",), SDP, {"header"}),
    "wish": ((), WISHES, {"wish"}),
    "notice": ((), ON, {"pbx"}),
}

which = st.integers(0, 30)
actions = st.one_of(
    st.tuples(st.just("call"), st.sampled_from(sorted(STARTS)), st.sampled_from(["200", "200 on", "486"])),
    st.tuples(st.just("session"), which, st.sampled_from(["200", "200", "603", "503"])),
    st.tuples(st.just("offers"), which, st.sampled_from(["pbx", "carrier"]), st.sampled_from(["on", "off", "plain"]),
              st.sampled_from(["200", "200", "200 on", "200 off", "491"])),
    st.tuples(st.just("ends"), which, st.sampled_from(["pbx", "carrier"])),
    st.tuples(st.just("stops"), which),
)  # fmt: skip


@dataclass
class Group:
    """What is one recorded call: who says so, and by what names."""

    names: set[str] = field(default_factory=set)
    sayers: set[tuple[str, str]] = field(default_factory=set)


class Play:
    """Carries the actions out, and keeps its own account."""

    def __init__(self, world: World, limit: int) -> None:
        self.world = world
        self.limit = limit
        self.groups: list[Group] = []
        self.calls: list[str] = []
        self.sessions: list[str] = []
        self.known: list[str] = []  # every call that there was
        self.forced = False
        self.number = 0

    # -- the account ---------------------------------------------------------------------------------------

    def group(self, name: str) -> Group:
        found = next((g for g in self.groups if name in g.names and g.sayers), None)
        if found is None:
            found = Group({name})
            self.groups.append(found)
        return found

    @property
    def used(self) -> int:
        return sum(bool(group.sayers) for group in self.groups)

    @property
    def full(self) -> bool:
        return self.used >= self.limit

    def tells(self, leg: str, how: set[str], *, forced: bool = False) -> None:
        if not how:
            return
        group = self.group(leg)
        if not group.sayers and self.full:
            assert forced, "the account is wrong"
            self.forced = True
        group.sayers |= {(leg, each) for each in how}

    def over(self, leg: str, how: set[str] | None = None) -> None:
        for group in self.groups:
            group.sayers = {s for s in group.sayers if s[0] != leg or (how is not None and s[1] not in how)}

    def check(self) -> None:
        self.world.settle()
        used = self.world.used("recordings")
        assert used == self.used, f"{used} licences for {self.used}\n{self.world.ladder()}"
        assert used <= self.limit or self.forced, self.world.ladder()
        if used <= self.limit:
            self.forced = False

    # -- what happens --------------------------------------------------------------------------------------

    def call(self, how: str, answer: str) -> None:
        world = self.world
        headers, body, says = STARTS[how]
        self.number += 1
        label = f"c{self.number}"
        world.pbx.sends("INVITE", call=label, headers=headers, body=body)
        world.pbx.gets("100", call=label)
        self.known.append(label)
        if says and self.full:
            world.pbx.gets("503", call=label)
            world.pbx.sends("ACK", call=label)
            return
        self.tells(label, says)
        world.carrier.gets("INVITE", call=label)
        self.check()
        if answer == "486":
            world.carrier.sends("486", call=label)
            world.carrier.gets("ACK", call=label)
            self.over(label)
            world.pbx.gets("486", call=label)
            world.pbx.sends("ACK", call=label)
            return
        on = answer == "200 on"
        world.carrier.sends("200", call=label, body=ON if on else SDP)
        if on:
            self.tells(label, {"carrier"}, forced=True)
        world.pbx.gets("200", call=label)
        world.pbx.sends("ACK", call=label)
        world.carrier.gets("ACK", call=label)
        self.calls.append(label)

    def session(self, n: int, answer: str) -> None:
        world = self.world
        self.number += 1
        label = f"s{self.number}"
        of = self.known[n % len(self.known)] if self.known and n % 4 else ""
        headers = (REQUIRES, *((f"X-Record-Of: {world.labels[of]}",) if of and n % 2 else ()))
        named = (world.labels[of],) if of and not n % 2 else ()
        world.pbx.sends(
            "INVITE", call=label, uri=SRS, headers=headers, body=metadata(*named), change={"contact": SRC}
        )
        world.pbx.gets("100", call=label)
        group = next((g for g in self.groups if of and of in g.names and g.sayers), None)
        if group is None and self.full:
            world.pbx.gets("503", call=label)
            world.pbx.sends("ACK", call=label)
            return
        if group is None:
            group = Group({label, of} - {""})
            self.groups.append(group)
        group.names.add(label)
        group.sayers.add((label, "session"))
        world.srs.gets("INVITE", call=label)
        self.check()
        world.srs.sends(answer, call=label)
        if answer != "200":
            world.srs.gets("ACK", call=label)
            self.over(label)
            world.pbx.gets("500" if answer == "503" else answer, call=label)
            world.pbx.sends("ACK", call=label)
            return
        world.pbx.gets("200", call=label)
        world.pbx.sends("ACK", call=label)
        world.srs.gets("ACK", call=label)
        self.sessions.append(label)

    def offers(self, n: int, side: str, what: str, answer: str) -> None:
        if not self.calls:
            return
        label = self.calls[n % len(self.calls)]
        who, other = self._sides(side)
        peer = "carrier" if side == "pbx" else "pbx"
        before = {s[1] for s in self.group(label).sayers if s[0] == label}
        new = what == "on" and side not in before
        who.sends("re-INVITE", call=label, body={"on": ON, "off": OFF}.get(what, SDP))
        if new and not self.group(label).sayers and self.full:
            assert who.gets("488", call=label)
            who.sends("ACK", call=label)
            return
        who.gets("100", call=label)
        other.gets("re-INVITE", call=label)
        if new:
            self.tells(label, {side})
            self.check()
        code, _, word = answer.partition(" ")
        other.sends(
            f"{code} re-INVITE",
            call=label,
            body={"on": ON, "off": OFF}.get(word, SDP) if code == "200" else b"",
        )
        if code != "200":
            other.gets("ACK", call=label)
            if new:
                self.over(label, {side})
        else:
            if what == "off":
                self.over(label, {side, "wish", *({"header"} if side == "pbx" else ())})
            if word == "on":
                self.tells(label, {peer}, forced=True)
            if word == "off":
                self.over(label, {peer, "wish", *({"header"} if peer == "pbx" else ())})
        who.gets(code, call=label)
        who.sends("ACK", call=label)
        if code == "200":
            other.gets("ACK", call=label)

    def ends(self, n: int, side: str) -> None:
        if not self.calls:
            return
        label = self.calls.pop(n % len(self.calls))
        self._bye(label, *self._sides(side))

    def stops(self, n: int) -> None:
        if not self.sessions:
            return
        label = self.sessions.pop(n % len(self.sessions))
        ends = (self.world.pbx, self.world.srs)
        self._bye(label, *(ends if n % 2 else reversed(ends)))

    def _bye(self, label: str, who: Agent, other: Agent) -> None:
        who.sends("BYE", call=label)
        other.gets("BYE", call=label)
        other.sends("200 BYE", call=label)
        who.gets("200 BYE", call=label)
        self.over(label)

    def _sides(self, side: str) -> tuple[Agent, Agent]:
        ends = self.world.pbx, self.world.carrier
        return ends if side == "pbx" else (ends[1], ends[0])


@settings(max_examples=many(60), deadline=None)
@given(kind=st.sampled_from(ANSWERING), limit=st.integers(0, 3), script=st.lists(actions, max_size=25))
def test_as_many_licences_as_recorded_calls(kind: Kind, limit: int, script: list[tuple[object, ...]]) -> None:
    world = World(kind, recordings=limit, recorder=True, cps=None, outbound_calls=None, calls=None)
    try:
        play = Play(world, limit)
        for name, *arguments in script:
            getattr(play, str(name))(*arguments)
            play.check()
        event(f"beyond the limit: {world.used('recordings') > limit}")
        while play.calls or play.sessions:
            play.ends(0, "pbx")
            play.stops(1)
            play.check()
        world.ends()
    finally:
        gc.unfreeze()
        gc.enable()
