"""Timers A to M with time passed in (RFC 3261 §17, table 4; RFC 6026 §8; RFC 4320), over UDP and over streams."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.sip.transaction import (
    NEVER,
    Action,
    Client,
    Event,
    InviteClient,
    InviteServer,
    Server,
    State,
    Transaction,
)

START = 1000.0
T1, T2, T4 = 0.5, 4.0, 5.0
UDP, STREAM = False, True


def played(
    transaction: Transaction, until: float, events: Iterable[tuple[float, Event]] = ()
) -> list[tuple[float, Action]]:
    """Let time pass from START, each timer at its very moment, with events in between: (seconds since START,
    action) of all that was done, absorbed ones left out."""
    done: list[tuple[float, Action]] = []
    waiting = sorted(events)
    while transaction.state is not State.TERMINATED:
        due = min(transaction.rtx_at, transaction.end_at)
        if waiting and START + waiting[0][0] <= due:
            after, event = waiting.pop(0)
            now = START + after
        else:
            now = due
            event = Event.END if transaction.end_at == due else Event.RTX
        if now > START + until:
            break
        action = transaction.on(event, now)
        if action is not Action.NONE:
            done.append((now - START, action))
    return done


def copies(done: list[tuple[float, Action]]) -> list[float]:
    return [at for at, action in done if action is Action.REPEAT]


def steps(first: float, *, to: float, cap: float = NEVER) -> list[float]:
    """first, first*3, … : an interval that doubles up to `cap`."""
    found, at, interval = [], first, first
    while at < to:
        found.append(at)
        interval = min(2 * interval, cap)
        at += interval
    return found


INVITE_COPIES = [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
OTHER_COPIES = [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]


def test_the_copies_are_what_the_rfc_lists() -> None:
    """§17.1.2.1: intervals of 500 ms, 1 s, 2 s, 4 s, 4 s …"""
    assert steps(T1, to=64 * T1) == INVITE_COPIES
    assert steps(T1, to=64 * T1, cap=T2) == OTHER_COPIES


# -- clients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reliable", "sent"), [(UDP, INVITE_COPIES), (STREAM, [])])
def test_timers_a_and_b(reliable: bool, sent: list[float]) -> None:
    """An INVITE nobody answers: copies at doubling intervals over UDP only, given up after 64*T1."""
    done = played(InviteClient(START, reliable), 100)
    assert copies(done) == sent
    assert done[-1] == (64 * T1, Action.TIMEOUT)


@pytest.mark.parametrize("reliable", [UDP, STREAM])
def test_a_provisional_answer_stops_timers_a_and_b(reliable: bool) -> None:
    """§17.1.1.2; what waits then is the proxy's Timer C."""
    invite = InviteClient(START, reliable)
    done = played(invite, 10_000, [(2.0, Event.PROVISIONAL), (4.0, Event.PROVISIONAL)])
    assert copies(done) == ([] if reliable else [0.5, 1.5])
    assert (invite.state, invite.rtx_at, invite.end_at) == (State.PROCEEDING, NEVER, NEVER)


@pytest.mark.parametrize(("reliable", "wait"), [(UDP, 32.0), (STREAM, 0.0)])
@pytest.mark.parametrize("ringing", [[], [(1.0, Event.PROVISIONAL)]])
def test_timer_d(reliable: bool, wait: float, ringing: list[tuple[float, Event]]) -> None:
    """A refused INVITE acknowledges copies of the answer for 32 s over UDP, and sends no copy of its own."""
    invite = InviteClient(START, reliable)
    late = [(2.0 + t, Event.FAILURE) for t in (0.0, 0.5, 1.5, 31.0)]
    done = played(invite, 100, [*ringing, *late])
    acks = [at for at, action in done if action is Action.ACK]
    assert acks == ([] if reliable else [2.5, 3.5, 33.0])
    assert (2.0, Action.PASS_ACK) in done
    assert [c for c in copies(done) if c > 1.5] == []
    assert invite.state is State.TERMINATED
    assert invite.end_at == START + 2.0 + wait


@pytest.mark.parametrize("reliable", [UDP, STREAM])
def test_timer_m(reliable: bool) -> None:
    """RFC 6026 §7.2: 64*T1 from the first 2xx, on every transport, in which further 2xx pass."""
    invite = InviteClient(START, reliable)
    done = played(
        invite,
        100,
        [(1.0, Event.SUCCESS), (20.0, Event.SUCCESS), (32.9, Event.SUCCESS), (33.1, Event.SUCCESS)],
    )
    assert [at for at, action in done if action is Action.PASS] == [1.0, 20.0, pytest.approx(32.9)]
    assert invite.end_at == START + 1.0 + 64 * T1
    assert invite.state is State.TERMINATED


@pytest.mark.parametrize(("reliable", "sent"), [(UDP, OTHER_COPIES), (STREAM, [])])
def test_timers_e_and_f(reliable: bool, sent: list[float]) -> None:
    done = played(Client(START, reliable), 100)
    assert copies(done) == sent
    assert done[-1] == (64 * T1, Action.TIMEOUT)


@pytest.mark.parametrize(
    ("at", "sent"), [(0.2, [0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5]), (9.0, OTHER_COPIES)]
)
def test_timer_e_in_proceeding(at: float, sent: list[float]) -> None:
    """§17.1.2.2: the timer that runs goes on; when it fires it is set to T2. Timer F is not touched."""
    done = played(Client(START, UDP), 100, [(at, Event.PROVISIONAL)])
    assert copies(done) == sent
    assert done[-1] == (64 * T1, Action.TIMEOUT)


def test_timer_f_runs_on_over_streams_too() -> None:
    assert played(Client(START, STREAM), 100, [(1.0, Event.PROVISIONAL)])[-1] == (64 * T1, Action.TIMEOUT)


@pytest.mark.parametrize(("reliable", "wait"), [(UDP, T4), (STREAM, 0.0)])
@pytest.mark.parametrize("final", [Event.SUCCESS, Event.FAILURE])
def test_timer_k(reliable: bool, wait: float, final: Event) -> None:
    client = Client(START, reliable)
    done = played(client, 100, [(1.0, final), (3.0, final)])
    assert copies(done) == ([] if reliable else [0.5])
    assert [at for at, action in done if action is Action.PASS] == [1.0]
    assert client.end_at == START + 1.0 + wait
    assert client.state is State.TERMINATED


# -- servers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reliable", "sent"), [(UDP, OTHER_COPIES), (STREAM, [])])
def test_timers_g_and_h(reliable: bool, sent: list[float]) -> None:
    """A refusal nobody acknowledges: repeated over UDP, its intervals up to T2; given up after 64*T1 everywhere."""
    server = InviteServer(START, reliable)
    assert server.on(Event.FAILURE, START) is Action.SEND
    done = played(server, 100)
    assert copies(done) == sent
    assert done[-1] == (64 * T1, Action.TIMEOUT)


@pytest.mark.parametrize(("reliable", "wait"), [(UDP, T4), (STREAM, 0.0)])
def test_timer_i(reliable: bool, wait: float) -> None:
    """The ACK ends the repeating; further ones are absorbed for T4 over UDP."""
    server = InviteServer(START, reliable)
    server.on(Event.FAILURE, START)
    done = played(server, 100, [(2.0, Event.ACK), (3.0, Event.ACK)])
    assert copies(done) == ([] if reliable else [0.5, 1.5])
    assert server.end_at == START + 2.0 + wait
    assert server.state is State.TERMINATED


@pytest.mark.parametrize("reliable", [UDP, STREAM])
def test_timer_l(reliable: bool) -> None:
    """RFC 6026 §7.1: after a 2xx, for 64*T1 copies of the INVITE are absorbed while 2xx and ACKs pass."""
    server = InviteServer(START, reliable)
    events = [
        (0.0, Event.SUCCESS),
        (0.5, Event.REQUEST),
        (1.0, Event.SUCCESS),
        (2.0, Event.ACK),
        (3.0, Event.FAILURE),
    ]
    done = played(server, 100, events)
    assert done == [(0.0, Action.SEND), (1.0, Action.SEND), (2.0, Action.PASS)]
    assert server.end_at == START + 64 * T1
    assert server.state is State.TERMINATED


def test_an_invite_that_rings_has_no_timer() -> None:
    server = InviteServer(START, UDP)
    server.on(Event.PROVISIONAL, START)
    assert (server.rtx_at, server.end_at) == (NEVER, NEVER)


@pytest.mark.parametrize(("reliable", "wait"), [(UDP, 64 * T1), (STREAM, 0.0)])
def test_timer_j(reliable: bool, wait: float) -> None:
    server = Server(START, reliable)
    events = [(1.0, Event.SUCCESS), (2.0, Event.REQUEST), (30.0, Event.REQUEST), (31.0, Event.FAILURE)]
    done = played(server, 100, events)
    assert copies(done) == ([] if reliable else [2.0, 30.0])
    assert [at for at, action in done if action is Action.SEND] == [1.0]
    assert server.end_at == START + 1.0 + wait
    assert server.state is State.TERMINATED


@pytest.mark.parametrize(("reliable", "at"), [(UDP, [3.5]), (STREAM, [])])
def test_the_late_100_of_a_request_that_is_no_invite(reliable: bool, at: list[float]) -> None:
    """RFC 4320 §4.1: over UDP when the client's Timer E has reached T2 (0.5 + 1 + 2 s), once; never over streams."""
    done = played(Server(START, reliable), 60)
    assert [t for t, action in done if action is Action.PASS] == at
    assert played(Server(START, reliable), 3.4) == []


def test_a_request_nobody_answers_is_forgotten() -> None:
    """Not before every client has given up (Timer F), and without a 408 (RFC 4320 §4.2)."""
    server = Server(START, UDP)
    assert Action.TIMEOUT not in [action for _, action in played(server, 1000)]
    assert server.state is State.TERMINATED
    assert server.end_at >= START + 64 * T1


# -- any order -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [InviteClient, Client, InviteServer, Server])
@given(
    reliable=st.booleans(),
    events=st.lists(
        st.tuples(st.floats(0, 100), st.sampled_from([e for e in Event if e < Event.RTX])), max_size=12
    ),
)
def test_a_machine_is_never_stuck_and_repeats_nothing_over_a_stream(
    kind: Callable[[float, bool], Transaction], reliable: bool, events: list[tuple[float, Event]]
) -> None:
    """Where no final answer can be waited for by somebody else, an end is always set; and timers end."""
    transaction = kind(START, reliable)
    done = played(transaction, 1000, events)
    waits_for_others = transaction.state is State.PROCEEDING and kind in (InviteClient, InviteServer)
    assert transaction.state is State.TERMINATED or waits_for_others
    if reliable:
        asked = sum(event is Event.REQUEST for _, event in events)
        assert len(copies(done)) <= asked
    assert len(done) < 60
