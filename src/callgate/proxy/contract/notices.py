"""What a message says about the recording of its call (I1; RFC 7866 §6.1.2, §7.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from callgate.proxy.token import OUTBOUND
from callgate.sip.message import Message, header_value
from callgate.sip.sdp import read

if TYPE_CHECKING:
    from callgate.proxy.calls.call import Call

CALLER: Final = "caller"
CALLEE: Final = "callee"
WISH: Final = "recordpref"
HEADER: Final = "X-Record"
SESSION: Final = "siprec"
"""How a leg says that its call is recorded: a side of it by `a=record`, its PBX by the wish or the header, or it is the
recording session itself."""
HEADER_NAME: Final = b"x-record"
X_: Final = (b"X-", b"x-")
Sayer = tuple[int, str]
"""(leg, how it says so)."""


def may_say(message: Message) -> bool:
    """Whether it is worth reading what a message says about recording."""
    if b"a=record" in message.body:
        return True
    # The marked ones are P-Asserted-Identity most often.
    return bool(message.marked) and any(message.lines[i][:2] in X_ for i in message.marked)


def words(call: Call, by_caller: bool, message: Message) -> tuple[frozenset[str], frozenset[str]]:
    """How a message of one side says that the call is recorded, and how it says that it is so no more. What a side
    ends by `a=record` it has itself begun; a wish that is not met is none, and the PBX takes back its header too."""
    starts, stops = set(), set()
    side = CALLER if by_caller else CALLEE
    from_pbx = by_caller == (call.direction == OUTBOUND)
    session = read(message.body)
    if session.record == b"on":
        starts.add(side)
    elif session.record:
        stops |= {side, WISH, HEADER} if from_pbx else {side, WISH}
    if from_pbx and not _is_own_endpoint(call, by_caller):
        if session.recordpref == b"on":
            starts.add(WISH)
        elif session.recordpref:
            stops.add(WISH)
        said = [header_value(message.lines[i]).lower() for i in message.noted(HEADER_NAME)]
        if b"yes" in said:
            starts.add(HEADER)
        elif said:
            stops.add(HEADER)
    return frozenset(starts), frozenset(stops - starts)


def _is_own_endpoint(call: Call, by_caller: bool) -> bool:
    """Whether a side is the gate's own end of a forward (`bridge`): it repeats what others wish."""
    side = call.caller if by_caller else next(iter(call.callees), None)
    return side is not None and side.flow.listener.inner
