"""The promise of I1: whatever begins, stops, is refused, moves or ends, in any order, with whatever names, there are
exactly as many licences in use as calls that somebody says are recorded (and sessions that lead to none); never more
than the limit, unless one was told of when it was so already; and a crash changes nothing."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import event, given, settings
from hypothesis import strategies as st
from tests.examples import many
from tests.proxy.agent import SDP, Agent, Leg
from tests.proxy.ladder import World
from tests.proxy.stores import ANSWERING, Kind
from tests.proxy.test_siprec import REQUIRES, SRC, SRS, metadata
from tests.proxy.text import Text

ON, OFF, WISHES = SDP + b"a=record:on\r\n", SDP + b"a=record:off\r\n", SDP + b"a=recordpref:on\r\n"
STARTS: dict[str, tuple[tuple[str, ...], bytes, set[str]]] = {
    "plain": ((), SDP, set()),
    "header": (("X-Record: yes",), SDP, {"header"}),
    "wish": ((), WISHES, {"wish"}),
    "notice": ((), ON, {"pbx"}),
}
CALL_IDS = ["", "", "", "pool0@example", "pool1@example"]
"""Of a new call: one of its own, or one that others may have."""
SESSION_IDS = ["", "", "a" * 32, "b" * 32]

which = st.integers(0, 7)
pool = st.sampled_from(CALL_IDS[3:] + SESSION_IDS[2:])
named = st.lists(st.one_of(which, which, pool), max_size=4)
"""What a session names: calls that there were, and names that there may be."""
ARGUMENTS: dict[str, st.SearchStrategy[tuple[object, ...]]] = {
    "call": st.tuples(st.sampled_from([*sorted(STARTS), "plain", "plain"]),
                      st.sampled_from(["200", "200", "200", "200 on", "486"]),
                      st.sampled_from(CALL_IDS), st.sampled_from(SESSION_IDS)),
    "session": st.tuples(named, st.sampled_from(["200", "200", "200", "603", "503"]), st.booleans()),
    "moves": st.tuples(which, named, st.sampled_from(["UPDATE", "re-INVITE"]), st.sampled_from(["200", "200", "491"]),
                       st.booleans()),
    "offers": st.tuples(which, st.sampled_from(["pbx", "carrier"]), st.sampled_from(["re-INVITE", "UPDATE"]),
                        st.sampled_from(["on", "off", "plain"]),
                        st.sampled_from(["200", "200", "200 on", "200 off", "491"])),
    "ends": st.tuples(which, st.sampled_from(["pbx", "carrier"])),
    "stops": st.tuples(which),
    "crash": st.tuples(),
}  # fmt: skip
OFTEN = ["call"] * 6 + ["session"] * 4 + ["moves", "offers", "ends"] * 3 + ["stops", "crash"]
actions = st.sampled_from(OFTEN).flatmap(lambda name: st.tuples(st.just(name), ARGUMENTS[name]))


@dataclass(eq=False)
class Licence:
    """Of a call, by its label, or ("") of sessions that lead to none. Who says that it is recorded."""

    call: str = ""
    own: set[str] = field(default_factory=set)
    sessions: set[str] = field(default_factory=set)


class Play:
    """Carries the actions out, and keeps its own account."""

    def __init__(self, world: World, limit: int) -> None:
        self.world = world
        self.limit = limit
        self.held: list[Licence] = []
        self.calls: list[str] = []
        self.sessions: list[str] = []
        self.known: list[str] = []  # every call that there was
        self.ids: dict[str, set[str]] = {}  # by what names a call can be known
        self.names: dict[str, set[str]] = {}  # what a session names
        self.legs: dict[tuple[str, str], Leg] = {}  # (agent, call)
        self.forced = False
        self.number = 0

    # -- the account ---------------------------------------------------------------------------------------

    def of(self, label: str) -> Licence | None:
        return next((each for each in self.held if each.call == label), None)

    def alone(self, session: str) -> Licence | None:
        """What a session holds that leads to no call."""
        return next((each for each in self.held if not each.call and session in each.sessions), None)

    def called(self, names: Iterable[str]) -> list[str]:
        """The live calls that these name, the latest first where they have the same Call-ID."""
        return [label for label in self.live if self.ids[label] & {*names}]

    @property
    def live(self) -> list[str]:
        return self.calls

    @property
    def free(self) -> int:
        return self.limit - len(self.held)

    def tidy(self) -> None:
        for each in self.held:
            if not each.own and each.call and not each.sessions:
                each.call = ""
        for session in self.names:  # one of a call is enough
            if any(each.call and session in each.sessions for each in self.held):
                for each in self.held:
                    if not each.call:
                        each.sessions.discard(session)
        self.held = [each for each in self.held if each.own or each.sessions]

    def says(self, label: str, how: set[str], *, forced: bool = False) -> None:
        if not how:
            return
        found = self.of(label)
        if found is None:
            if self.free <= 0:
                assert forced, "the account is wrong"
                self.forced = True
            self.held.append(found := Licence(label))
        found.own |= how

    def unsays(self, label: str, how: set[str]) -> None:
        found = self.of(label)
        if found is not None:
            found.own -= how
        self.tidy()

    def over(self, label: str) -> None:
        """A call has ended: its sessions go on."""
        found = self.of(label)
        if found is not None:
            found.own, found.call = set(), ""
        self.tidy()

    def needs(self, session: str, calls: list[str]) -> int:
        """How many licences a session takes that names these calls."""
        new = sum(self.of(label) is None for label in calls)
        return max(new - (self.alone(session) is not None), 0)

    def tells(self, session: str, calls: list[str]) -> None:
        """A session says that these are recorded."""
        for label in calls:
            found = self.of(label) or self.alone(session)
            if found is None:
                self.held.append(found := Licence())
            found.call = label
            found.sessions.add(session)

    def check(self) -> None:
        self.world.settle()
        used = self.world.used("recordings")
        assert used == len(self.held), f"{used} licences for {self.held}\n{self.world.ladder()}"
        assert used <= self.limit or self.forced, self.world.ladder()
        if used <= self.limit:
            self.forced = False

    # -- calls of the same Call-ID ---------------------------------------------------------------------------

    def use(self, label: str) -> None:
        """From now on the sides speak of this call."""
        name = self.world.labels[label]
        for agent in self.world.agents:
            agent.legs.pop(name, None)
            if (agent.name, label) in self.legs:
                agent.legs[name] = self.legs[agent.name, label]

    def keep(self, label: str) -> None:
        name = self.world.labels[label]
        for agent in self.world.agents:
            if name in agent.legs:
                self.legs[agent.name, label] = agent.legs[name]

    def use_dialog(self, agent: Agent, text: Text) -> None:
        """The call that a request of the gate is of."""
        tags = {text.from_tag, text.to_tag}
        for (name, label), leg in self.legs.items():
            if name == agent.name and leg.call_id == text.call_id and tags & leg.dialogs.keys():
                self.use(label)

    # -- what happens --------------------------------------------------------------------------------------

    def call(self, how: str, answer: str, call_id: str, session_id: str) -> None:
        world = self.world
        headers, body, says = STARTS[how]
        self.number += 1
        label = f"c{self.number}"
        if session_id:
            headers += (f"Session-ID: {session_id};remote={'0' * 32}",)
        if call_id:
            world.labels[label] = call_id
            self.use(label)
        change = {"call-id": call_id} if call_id else {}
        world.pbx.sends("INVITE", call=label, headers=headers, body=body, change=change)
        world.pbx.gets("100", call=label)
        self.known.append(label)
        self.ids[label] = {world.labels[label], session_id} - {""}
        by = [session for session in self.sessions if self.names[session] & self.ids[label]]
        given = next((each for each in map(self.alone, by) if each is not None), None)
        if (says or by) and given is None and self.free <= 0:
            world.pbx.gets("503", call=label)
            world.pbx.sends("ACK", call=label)
            return
        if says or by:
            if given is None:
                self.held.append(given := Licence())
            given.call, given.own = label, {*says}
            given.sessions |= {*by}
            self.tidy()
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
            self.says(label, {"carrier"}, forced=True)
        world.pbx.gets("200", call=label)
        world.pbx.sends("ACK", call=label)
        world.carrier.gets("ACK", call=label)
        self.calls.append(label)
        self.keep(label)

    def texts(self, names: list[int | str]) -> list[str]:
        """What stands in a session's request."""
        found = [
            (self.world.labels[self.known[n % len(self.known)]] if self.known else "nobody@example")
            if isinstance(n, int)
            else n
            for n in names
        ]
        return list(dict.fromkeys(found))

    def session(self, names: list[int | str], answer: str, header: bool) -> None:
        world = self.world
        self.number += 1
        label = f"s{self.number}"
        texts = self.texts(names)
        lines = [f"X-Record-Of: {text}" for text in texts] if header else []
        body = metadata() if header else metadata(*texts)
        world.pbx.sends(
            "INVITE", call=label, uri=SRS, headers=(REQUIRES, *lines), body=body, change={"contact": SRC}
        )
        world.pbx.gets("100", call=label)
        calls = self.called(texts)
        others = [s for s in self.sessions if self.names[s] & {*texts}]
        shared = next((each for each in map(self.alone, others) if each is not None), None)
        need = self.needs(label, calls) if calls else int(shared is None)
        if need > max(self.free, 0):
            world.pbx.gets("503", call=label)
            world.pbx.sends("ACK", call=label)
            return
        self.names[label] = {*texts}
        if calls:
            self.tells(label, calls)
        else:
            if shared is None:
                self.held.append(shared := Licence())
            shared.sessions.add(label)
        world.srs.gets("INVITE", call=label)
        self.check()
        world.srs.sends(answer, call=label)
        if answer != "200":
            world.srs.gets("ACK", call=label)
            self.silent(label)
            world.pbx.gets("500" if answer == "503" else answer, call=label)
            world.pbx.sends("ACK", call=label)
            return
        world.pbx.gets("200", call=label)
        world.pbx.sends("ACK", call=label)
        world.srs.gets("ACK", call=label)
        self.sessions.append(label)

    def silent(self, session: str) -> None:
        """A session has ended."""
        del self.names[session]
        for each in self.held:
            each.sessions.discard(session)
        self.tidy()

    def moves(self, n: int, names: list[int | str], method: str, answer: str, partial: bool) -> None:
        """A session names others, or others besides."""
        if not self.sessions:
            return
        world, label = self.world, self.sessions[n % len(self.sessions)]
        texts = self.texts(names)
        calls = self.called(texts)
        mode = b"<dataMode>partial</dataMode>" if partial else b""
        body = metadata(*texts).replace(b"<session ", mode + b"<session ")
        world.pbx.sends(method, call=label, body=body)
        if self.needs(label, calls) > max(self.free, 0):
            world.pbx.gets("488", call=label)
            if method == "re-INVITE":
                world.pbx.sends("ACK", call=label)
            return
        world.srs.gets(method, call=label)
        world.srs.sends(f"{answer} {method}", call=label)
        if answer != "200" and method == "re-INVITE":
            world.srs.gets("ACK", call=label)
        if method == "re-INVITE":
            world.pbx.gets("100", call=label)
        world.pbx.gets(answer, call=label)
        if method == "re-INVITE":
            world.pbx.sends("ACK", call=label)
        if answer != "200":
            return
        if method == "re-INVITE":
            world.srs.gets("ACK", call=label)
        if not texts:
            return
        self.names[label] = {*texts} | (self.names[label] if partial else set())
        self.tells(label, calls)
        if calls and not partial:
            for each in self.held:
                if each.call and each.call not in calls:
                    each.sessions.discard(label)
        self.tidy()

    def offers(self, n: int, side: str, method: str, what: str, answer: str) -> None:
        if not self.calls:
            return
        label = self.calls[n % len(self.calls)]
        self.use(label)
        who, other = self._sides(side)
        peer = "carrier" if side == "pbx" else "pbx"
        found = self.of(label)
        before = found.own if found is not None else set()
        new = what == "on" and side not in before
        who.sends(method, call=label, body={"on": ON, "off": OFF}.get(what, SDP))
        if new and found is None and self.free <= 0:
            assert who.gets("488", call=label)
            if method == "re-INVITE":
                who.sends("ACK", call=label)
            return
        if method == "re-INVITE":
            who.gets("100", call=label)
        other.gets(method, call=label)
        if new:
            self.says(label, {side})
            self.check()
        code, _, word = answer.partition(" ")
        said = {"on": ON, "off": OFF}.get(word, SDP) if code == "200" else b""
        other.sends(f"{code} {method}", call=label, body=said)
        if code != "200":
            if method == "re-INVITE":
                other.gets("ACK", call=label)
            if new:
                self.unsays(label, {side})
        else:
            if what == "off":
                self.unsays(label, {side, "wish", *({"header"} if side == "pbx" else ())})
            if word == "on":
                self.says(label, {peer}, forced=True)
            if word == "off":
                self.unsays(label, {peer, "wish", *({"header"} if peer == "pbx" else ())})
        who.gets(code, call=label)
        if method == "re-INVITE":
            who.sends("ACK", call=label)
            if code == "200":
                other.gets("ACK", call=label)

    def ends(self, n: int, side: str) -> None:
        if self.calls:
            label = self.calls.pop(n % len(self.calls))
            self.use(label)
            self._bye(label, *self._sides(side))
            self.over(label)

    def stops(self, n: int) -> None:
        if self.sessions:
            label = self.sessions.pop(n % len(self.sessions))
            ends = (self.world.pbx, self.world.srs)
            self._bye(label, *(ends if n % 2 else reversed(ends)))
            self.silent(label)

    def crash(self) -> None:
        """Both sides of what was up are asked, and say so."""
        self.check()
        world = self.world
        taken = world.crashes()
        assert (taken.up, taken.left_out) == (len(self.calls) + len(self.sessions), ())
        self.forced |= len(self.held) > self.limit
        self.check()
        for _ in range(12):
            world.after(0.5)
            for agent in (world.pbx, world.carrier, world.srs):
                for entry in [each for each in agent.inbox if each[1].method == "OPTIONS"]:
                    agent.inbox.remove(entry)
                    self.use_dialog(agent, entry[1])
                    agent.read(entry[1])
                    agent.sends("200 OPTIONS")
        self.check()

    def _bye(self, label: str, who: Agent, other: Agent) -> None:
        who.sends("BYE", call=label)
        other.gets("BYE", call=label)
        other.sends("200 BYE", call=label)
        who.gets("200 BYE", call=label)

    def _sides(self, side: str) -> tuple[Agent, Agent]:
        ends = self.world.pbx, self.world.carrier
        return ends if side == "pbx" else (ends[1], ends[0])


@settings(max_examples=many(60), deadline=None)
@given(
    kind=st.sampled_from(ANSWERING),
    limit=st.sampled_from([0, 1, 2, 3, 5, 8]),
    script=st.lists(actions, min_size=8, max_size=30),
)
def test_as_many_licences_as_recorded_calls(
    kind: Kind, limit: int, script: list[tuple[str, tuple[object, ...]]]
) -> None:
    world = World(kind, recordings=limit, recorder=True, cps=None, outbound_calls=None, calls=None)
    try:
        play = Play(world, limit)
        for name, arguments in script:
            getattr(play, name)(*arguments)
            play.check()
        event(f"beyond the limit: {world.used('recordings') > limit}")
        event(f"crashes: {len([name for name, *_ in script if name == 'crash'])}")
        while play.calls or play.sessions:
            play.ends(0, "pbx")
            play.stops(1)
            play.check()
        world.ends()
    finally:
        gc.unfreeze()
        gc.enable()
