"""The four state machines against the figures of RFC 3261 §17 with RFC 6026, redrawn here as text.

Each line of a figure: state, event, next state, what is done. A pair of state and event that a figure does not name
must be absorbed: nothing is done and the state stays. Where the gate departs from a figure, `DEPARTURES` says why.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.sip.transaction import (
    Action,
    Client,
    Event,
    InviteClient,
    InviteServer,
    Server,
    State,
    Transaction,
)

FIGURES = {
    # RFC 3261 figure 5, with RFC 6026 §8.4 (a 2xx leads to Accepted)
    "INVITE client": """
        Calling     1xx            Proceeding  to-TU
        Calling     2xx            Accepted    to-TU
        Calling     3xx-6xx        Completed   ACK+to-TU
        Calling     Timer-A        Calling     send-again
        Calling     Timer-B        Terminated  timeout
        Calling     transport-err  Terminated  failed
        Proceeding  1xx            Proceeding  to-TU
        Proceeding  2xx            Accepted    to-TU
        Proceeding  3xx-6xx        Completed   ACK+to-TU
        Completed   3xx-6xx        Completed   ACK
        Completed   Timer-D        Terminated  -
        Completed   transport-err  Terminated  failed
        Accepted    2xx            Accepted    to-TU
        Accepted    Timer-M        Terminated  -
    """,
    # RFC 3261 figure 6
    "client": """
        Trying      1xx            Proceeding  to-TU
        Trying      2xx            Completed   to-TU
        Trying      3xx-6xx        Completed   to-TU
        Trying      Timer-E        Trying      send-again
        Trying      Timer-F        Terminated  timeout
        Trying      transport-err  Terminated  failed
        Proceeding  1xx            Proceeding  to-TU
        Proceeding  2xx            Completed   to-TU
        Proceeding  3xx-6xx        Completed   to-TU
        Proceeding  Timer-E        Proceeding  send-again
        Proceeding  Timer-F        Terminated  timeout
        Proceeding  transport-err  Terminated  failed
        Completed   Timer-K        Terminated  -
    """,
    # RFC 3261 figure 7, with RFC 6026 §8.5 (Accepted; a transport error leaves the state as it is)
    "INVITE server": """
        Proceeding  INVITE         Proceeding  send-again
        Proceeding  1xx            Proceeding  send
        Proceeding  2xx            Accepted    send
        Proceeding  3xx-6xx        Completed   send
        Completed   INVITE         Completed   send-again
        Completed   Timer-G        Completed   send-again
        Completed   ACK            Confirmed   -
        Completed   Timer-H        Terminated  timeout
        Confirmed   Timer-I        Terminated  -
        Accepted    2xx            Accepted    send
        Accepted    ACK            Accepted    to-TU
        Accepted    Timer-L        Terminated  -
    """,
    # RFC 3261 figure 8
    "server": """
        Trying      1xx            Proceeding  send
        Trying      2xx            Completed   send
        Trying      3xx-6xx        Completed   send
        Proceeding  request        Proceeding  send-again
        Proceeding  1xx            Proceeding  send
        Proceeding  2xx            Completed   send
        Proceeding  3xx-6xx        Completed   send
        Proceeding  transport-err  Terminated  failed
        Completed   request        Completed   send-again
        Completed   Timer-J        Terminated  -
        Completed   transport-err  Terminated  failed
    """,
}

DEPARTURES = {
    # (machine, state, event): what the gate does instead, and why
    ("INVITE client", "Completed", "transport-err"): (
        ("Terminated", "-"),
        "only the ACK could not be delivered: its final answer was passed up, there is nothing more to tell",
    ),
    ("INVITE client", "Proceeding", "Timer-B"): (
        ("Terminated", "timeout"),
        "RFC 3261 §9.1: after a CANCEL, 64*T1 without a final answer end it; never started otherwise",
    ),
    ("server", "Trying", "Timer-100"): (
        ("Proceeding", "to-TU"),
        "RFC 4320 §4.1: the client's Timer E has reached T2, so a 100 is due now and not before",
    ),
    ("server", "Proceeding", "1xx"): (
        ("Proceeding", "-"),
        "RFC 4320 §4.1: no other 1xx than that 100 answers a request that is no INVITE",
    ),
    ("server", "Trying", "Timer-J"): (
        ("Terminated", "-"),
        "RFC 4320 §4.2 forbids a 408, so what its user never answers ends without a word",
    ),
    ("server", "Proceeding", "Timer-J"): (("Terminated", "-"), "the same"),
    ("server", "Proceeding", "transport-err"): (
        ("Proceeding", "-"),
        "RFC 3261 §16.9: a response that can't be delivered is dropped and changes nothing",
    ),
    ("server", "Completed", "transport-err"): (("Completed", "-"), "the same"),
}

STATES = {
    "Calling": State.CALLING,
    "Trying": State.CALLING,
    "Proceeding": State.PROCEEDING,
    "Completed": State.COMPLETED,
    "Confirmed": State.CONFIRMED,
    "Accepted": State.ACCEPTED,
    "Terminated": State.TERMINATED,
}
EVENTS = {
    "1xx": Event.PROVISIONAL,
    "2xx": Event.SUCCESS,
    "3xx-6xx": Event.FAILURE,
    "ACK": Event.ACK,
    "INVITE": Event.REQUEST,
    "request": Event.REQUEST,
    "transport-err": Event.ERROR,
    "Timer-100": Event.RTX,
    **{f"Timer-{letter}": Event.RTX for letter in "AEG"},
    **{f"Timer-{letter}": Event.END for letter in "BDFHIJKLM"},
}
DONE = {
    "-": Action.NONE,
    "to-TU": Action.PASS,
    "send": Action.SEND,
    "send-again": Action.REPEAT,
    "ACK": Action.ACK,
    "ACK+to-TU": Action.PASS_ACK,
    "timeout": Action.TIMEOUT,
    "failed": Action.FAILED,
}
MACHINES: dict[str, Callable[[float, bool], Transaction]] = {
    "INVITE client": InviteClient,
    "client": Client,
    "INVITE server": InviteServer,
    "server": Server,
}


def drawn(machine: str) -> dict[tuple[State, Event], tuple[State, Action]]:
    """A figure as a table, with the departures in it."""
    steps = {
        (line.split()[0], line.split()[1]): line.split()[2:] for line in FIGURES[machine].strip().splitlines()
    }
    for (of, state, event), (instead, _) in DEPARTURES.items():
        if of == machine:
            steps[state, event] = list(instead)
    return {(STATES[s], EVENTS[e]): (STATES[to], DONE[what]) for (s, e), (to, what) in steps.items()}


@pytest.mark.parametrize("reliable", [False, True])
@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("machine", MACHINES)
def test_every_pair_of_state_and_event(machine: str, state: State, event: Event, reliable: bool) -> None:
    transaction = MACHINES[machine](100.0, reliable)
    transaction.state = state
    then, action = drawn(machine).get((state, event), (state, Action.NONE))
    assert transaction.on(event, 101.0) is action
    assert transaction.state is then


@pytest.mark.parametrize("machine", MACHINES)
def test_a_machine_begins_where_its_figure_begins(machine: str) -> None:
    first = FIGURES[machine].split()[0]
    assert MACHINES[machine](0.0, False).state is STATES[first]


@given(
    machine=st.sampled_from(sorted(MACHINES)),
    reliable=st.booleans(),
    events=st.lists(st.tuples(st.sampled_from(Event), st.floats(0, 40)), max_size=30),
)
def test_whatever_happens_it_ends_once(
    machine: str, reliable: bool, events: list[tuple[Event, float]]
) -> None:
    """The user hears of an end at most once, and a transaction that has ended takes nothing more."""
    now = 0.0
    transaction = MACHINES[machine](now, reliable)
    told = 0
    for event, after in events:
        now += after
        was = transaction.state
        action = transaction.on(event, now)
        told += action in (Action.TIMEOUT, Action.FAILED)
        if was is State.TERMINATED:
            assert (action, transaction.state) == (Action.NONE, State.TERMINATED)
        assert transaction.state >= was or was is State.ACCEPTED
    assert told <= 1
