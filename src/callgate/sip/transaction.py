"""The transaction state machines of RFC 3261 §17 with RFC 6026's Accepted states, as tables.

A table maps (state, event) to (next state, action). What an action means is the owner's affair (the proxy
sends and passes up); the timers are kept here: `rtx_at` is when the next copy is due (Timers A, E, G),
`end_at` when the state ends (B, D, F, H, I, J, K, L, M). Both are absolute seconds on the owner's monotonic
clock, `NEVER` when not running. An event that a table does not list does nothing: it is absorbed.

    INVITE client:  CALLING → PROCEEDING → COMPLETED | ACCEPTED → TERMINATED
    other client:   TRYING → PROCEEDING → COMPLETED → TERMINATED
    INVITE server:  PROCEEDING → COMPLETED → CONFIRMED | ACCEPTED → TERMINATED
    other server:   TRYING → PROCEEDING → COMPLETED → TERMINATED
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

T1 = 0.5
"""Estimate of the round trip, seconds (RFC 3261 §17.1.1.1)."""
T2 = 4.0
"""The longest interval between copies of a non-INVITE request or an INVITE response, seconds."""
T4 = 5.0
"""How long a message stays in the network, seconds."""
LIFE = 64 * T1
"""Timers B, D, F, H, J, L and M: 32 seconds."""
NEVER = float("inf")


class State(IntEnum):
    CALLING = 0  # also Trying of the non-INVITE machines
    PROCEEDING = 1
    COMPLETED = 2
    CONFIRMED = 3
    ACCEPTED = 4
    TERMINATED = 5


CALLING, PROCEEDING, COMPLETED, CONFIRMED, ACCEPTED, TERMINATED = State
TRYING = CALLING
# Names of their own: before Python 3.12 each look-up in an enum's class costs more than a call, and on the path of a
# message there are dozens.


class Event(IntEnum):
    PROVISIONAL = 0  # 1xx: received by a client, handed over by the user of a server
    SUCCESS = 1  # 2xx
    FAILURE = 2  # 3xx-6xx
    REQUEST = 3  # the request came again (server)
    ACK = 4  # (INVITE server)
    RTX = 5  # rtx_at has come
    END = 6  # end_at has come
    ERROR = 7  # the transport could not deliver


class Action(IntEnum):
    NONE = 0
    PASS = 1  # hand the message to the transaction's user
    SEND = 2  # (server) send what the user handed over
    REPEAT = 3  # send the last message again
    ACK = 4  # acknowledge a non-2xx final, do not pass it up again (RFC 3261 §17.1.1.2)
    PASS_ACK = 5  # acknowledge it and pass it up
    TIMEOUT = 6  # tell the user: no answer came
    FAILED = 7  # tell the user: the transport failed


RTX: Final = Event.RTX
ANSWERS: Final = (Event.FAILURE, Event.PROVISIONAL, Event.SUCCESS, *[Event.FAILURE] * 4)
"""What an answer is, by the first digit of its code."""
NONE, PASS, SEND, REPEAT, ACK, PASS_ACK, TIMEOUT, FAILED = Action

Table = dict[tuple[State, Event], tuple[State, Action]]
_S, _E, _A = State, Event, Action

INVITE_CLIENT: Table = {
    # RFC 3261 figure 5, RFC 6026 §7.2
    (_S.CALLING, _E.PROVISIONAL): (_S.PROCEEDING, _A.PASS),
    (_S.CALLING, _E.SUCCESS): (_S.ACCEPTED, _A.PASS),
    (_S.CALLING, _E.FAILURE): (_S.COMPLETED, _A.PASS_ACK),
    (_S.CALLING, _E.RTX): (_S.CALLING, _A.REPEAT),  # Timer A
    (_S.CALLING, _E.END): (_S.TERMINATED, _A.TIMEOUT),  # Timer B
    (_S.CALLING, _E.ERROR): (_S.TERMINATED, _A.FAILED),
    (_S.PROCEEDING, _E.PROVISIONAL): (_S.PROCEEDING, _A.PASS),
    (_S.PROCEEDING, _E.SUCCESS): (_S.ACCEPTED, _A.PASS),
    (_S.PROCEEDING, _E.FAILURE): (_S.COMPLETED, _A.PASS_ACK),
    (_S.PROCEEDING, _E.END): (_S.TERMINATED, _A.TIMEOUT),  # after a CANCEL without a final, §9.1
    (_S.COMPLETED, _E.FAILURE): (_S.COMPLETED, _A.ACK),
    (_S.COMPLETED, _E.END): (_S.TERMINATED, _A.NONE),  # Timer D
    (_S.COMPLETED, _E.ERROR): (_S.TERMINATED, _A.NONE),
    (_S.ACCEPTED, _E.SUCCESS): (_S.ACCEPTED, _A.PASS),
    (_S.ACCEPTED, _E.END): (_S.TERMINATED, _A.NONE),  # Timer M
}
CLIENT: Table = {
    # RFC 3261 figure 6
    (_S.CALLING, _E.PROVISIONAL): (_S.PROCEEDING, _A.PASS),
    (_S.CALLING, _E.SUCCESS): (_S.COMPLETED, _A.PASS),
    (_S.CALLING, _E.FAILURE): (_S.COMPLETED, _A.PASS),
    (_S.CALLING, _E.RTX): (_S.CALLING, _A.REPEAT),  # Timer E
    (_S.CALLING, _E.END): (_S.TERMINATED, _A.TIMEOUT),  # Timer F
    (_S.CALLING, _E.ERROR): (_S.TERMINATED, _A.FAILED),
    (_S.PROCEEDING, _E.PROVISIONAL): (_S.PROCEEDING, _A.PASS),
    (_S.PROCEEDING, _E.SUCCESS): (_S.COMPLETED, _A.PASS),
    (_S.PROCEEDING, _E.FAILURE): (_S.COMPLETED, _A.PASS),
    (_S.PROCEEDING, _E.RTX): (_S.PROCEEDING, _A.REPEAT),
    (_S.PROCEEDING, _E.END): (_S.TERMINATED, _A.TIMEOUT),
    (_S.PROCEEDING, _E.ERROR): (_S.TERMINATED, _A.FAILED),
    (_S.COMPLETED, _E.END): (_S.TERMINATED, _A.NONE),  # Timer K
}
INVITE_SERVER: Table = {
    # RFC 3261 figure 7, RFC 6026 §7.1 (a transport error does not end it)
    (_S.PROCEEDING, _E.REQUEST): (_S.PROCEEDING, _A.REPEAT),
    (_S.PROCEEDING, _E.PROVISIONAL): (_S.PROCEEDING, _A.SEND),
    (_S.PROCEEDING, _E.SUCCESS): (_S.ACCEPTED, _A.SEND),
    (_S.PROCEEDING, _E.FAILURE): (_S.COMPLETED, _A.SEND),
    (_S.COMPLETED, _E.REQUEST): (_S.COMPLETED, _A.REPEAT),
    (_S.COMPLETED, _E.RTX): (_S.COMPLETED, _A.REPEAT),  # Timer G
    (_S.COMPLETED, _E.ACK): (_S.CONFIRMED, _A.NONE),
    (_S.COMPLETED, _E.END): (_S.TERMINATED, _A.TIMEOUT),  # Timer H: the ACK was lost
    (_S.CONFIRMED, _E.END): (_S.TERMINATED, _A.NONE),  # Timer I
    (_S.ACCEPTED, _E.SUCCESS): (_S.ACCEPTED, _A.SEND),
    (_S.ACCEPTED, _E.ACK): (_S.ACCEPTED, _A.PASS),
    (_S.ACCEPTED, _E.END): (_S.TERMINATED, _A.NONE),  # Timer L
}
SERVER: Table = {
    # RFC 3261 figure 8; RFC 4320 §4.1: no 1xx but a late 100 over UDP, which the owner times
    (_S.CALLING, _E.PROVISIONAL): (_S.PROCEEDING, _A.SEND),
    (_S.CALLING, _E.SUCCESS): (_S.COMPLETED, _A.SEND),
    (_S.CALLING, _E.FAILURE): (_S.COMPLETED, _A.SEND),
    (_S.CALLING, _E.RTX): (_S.PROCEEDING, _A.PASS),  # Timer E of the client has reached T2: a 100 is due
    (_S.CALLING, _E.END): (_S.TERMINATED, _A.NONE),
    (_S.PROCEEDING, _E.REQUEST): (_S.PROCEEDING, _A.REPEAT),
    (_S.PROCEEDING, _E.SUCCESS): (_S.COMPLETED, _A.SEND),
    (_S.PROCEEDING, _E.FAILURE): (_S.COMPLETED, _A.SEND),
    (_S.PROCEEDING, _E.END): (_S.TERMINATED, _A.NONE),
    (_S.COMPLETED, _E.REQUEST): (_S.COMPLETED, _A.REPEAT),
    (_S.COMPLETED, _E.END): (_S.TERMINATED, _A.NONE),  # Timer J
}


def _flat(table: Table) -> tuple[tuple[State, Action] | None, ...]:
    """The table as a tuple indexed by state * 8 + event: one index instead of hashing a pair."""
    return tuple(table.get((s, e)) for s in State for e in Event)


class Transaction:
    """One state machine and its two timers. The owner keeps the messages.

    `reliable`: the transport is TCP or TLS, so nothing is repeated and nothing need be absorbed.
    """

    __slots__ = ("due", "end_at", "interval", "reliable", "rtx_at", "slot", "state")

    table: tuple[tuple[State, Action] | None, ...] = ()

    def __init__(self, state: State, reliable: bool) -> None:
        self.state = state
        self.reliable = reliable
        self.rtx_at = NEVER
        self.end_at = NEVER
        self.interval = T1
        self.due = NEVER  # when the owner's timer wheel asks next,
        self.slot = 0  # and where it waits there

    def on(self, event: Event, now: float) -> Action:
        """Take one event at `now` (monotonic seconds): the action to carry out, NONE for what is absorbed."""
        step = self.table[self.state * 8 + event]
        if step is None:
            return NONE
        state, action = step
        if state is not self.state:
            self.state = state
            self.enter(state, now)
        elif event is RTX:
            self.again(now)
        return action

    def enter(self, state: State, now: float) -> None:
        """Set the timers of a state that was just entered."""
        raise NotImplementedError

    def again(self, now: float) -> None:
        """Set `rtx_at` for the copy after the one that is due now."""
        raise NotImplementedError


class InviteClient(Transaction):
    """RFC 3261 §17.1.1, RFC 6026 §8.4."""

    __slots__ = ()
    table = _flat(INVITE_CLIENT)

    def __init__(self, now: float, reliable: bool) -> None:
        super().__init__(CALLING, reliable)
        self.end_at = now + LIFE  # Timer B
        if not reliable:
            self.rtx_at = now + T1  # Timer A

    def again(self, now: float) -> None:
        self.interval *= 2
        self.rtx_at = now + self.interval

    def enter(self, state: State, now: float) -> None:
        self.rtx_at = NEVER
        if state is PROCEEDING:
            self.end_at = NEVER  # from here on the proxy's Timer C watches (§16.6 step 11)
        elif state is COMPLETED:
            self.end_at = now if self.reliable else now + LIFE  # Timer D
        elif state is ACCEPTED:
            self.end_at = now + LIFE  # Timer M


class Client(Transaction):
    """RFC 3261 §17.1.2."""

    __slots__ = ()
    table = _flat(CLIENT)

    def __init__(self, now: float, reliable: bool) -> None:
        super().__init__(TRYING, reliable)
        self.end_at = now + LIFE  # Timer F
        if not reliable:
            self.rtx_at = now + T1  # Timer E

    def again(self, now: float) -> None:
        self.interval = T2 if self.state is PROCEEDING else min(self.interval * 2, T2)
        self.rtx_at = now + self.interval

    def enter(self, state: State, now: float) -> None:
        if state is COMPLETED:
            self.rtx_at = NEVER
            self.end_at = now if self.reliable else now + T4  # Timer K


class InviteServer(Transaction):
    """RFC 3261 §17.2.1, RFC 6026 §8.5."""

    __slots__ = ()
    table = _flat(INVITE_SERVER)

    def __init__(self, now: float, reliable: bool) -> None:
        super().__init__(PROCEEDING, reliable)

    def again(self, now: float) -> None:
        self.interval = min(self.interval * 2, T2)
        self.rtx_at = now + self.interval

    def enter(self, state: State, now: float) -> None:
        self.rtx_at = NEVER
        if state is COMPLETED:
            self.end_at = now + LIFE  # Timer H
            if not self.reliable:
                self.rtx_at = now + T1  # Timer G
        elif state is CONFIRMED:
            self.end_at = now if self.reliable else now + T4  # Timer I
        elif state is ACCEPTED:
            self.end_at = now + LIFE  # Timer L


TRYING_100 = 3.5
"""Seconds after which a non-INVITE request over UDP gets a 100: its client's Timer E has reached T2
(T1 + 2·T1 + 4·T1, RFC 4320 §4.1)."""


class Server(Transaction):
    """RFC 3261 §17.2.2, RFC 4320."""

    __slots__ = ()
    table = _flat(SERVER)

    def __init__(self, now: float, reliable: bool) -> None:
        super().__init__(TRYING, reliable)
        self.end_at = now + 2 * LIFE  # if the user never answers: RFC 4320 §4.2 forbids a 408
        if not reliable:
            self.rtx_at = now + TRYING_100

    def enter(self, state: State, now: float) -> None:
        self.rtx_at = NEVER
        if state is COMPLETED:
            self.end_at = now if self.reliable else now + LIFE  # Timer J
