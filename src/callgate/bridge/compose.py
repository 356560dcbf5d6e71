"""How a message of one dialog reads in another: the conversation passes as it is, what belongs to the dialog does not.

The conversation is the body and every header that no rule of RFC 3261 §12 or §16 makes the dialog's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr, split_list
from callgate.sip.message import (
    CALL_ID,
    CSEQ,
    FROM,
    RECORD_ROUTE,
    TO,
    VIA,
    Message,
    full_name,
    header_value,
    wire,
)

OF_A_DIALOG: Final = frozenset(
    b"via route record-route contact call-id from to cseq max-forwards content-length service-route path".split()
)
OF_A_CALL: Final = OF_A_DIALOG | frozenset(
    b"authorization proxy-authorization p-called-party-id replaces target-dialog join diversion history-info "
    b"p-preferred-identity remote-party-id".split()
)
"""What a new call does not take from the one that it carries on. Diversion and History-Info are written anew."""

DIVERSIONS_MAX: Final = 5
"""A call that has been diverted so often goes round in a circle (RFC 5806 §4: `counter` is there to see that)."""


def conversation(message: Message, without: frozenset[bytes] = OF_A_DIALOG) -> list[bytes]:
    """The header lines that pass."""
    return [line for line in message.lines[1:] if full_name(line) not in without]


def written(start: bytes, lines: Sequence[bytes], body: bytes) -> bytes:
    """A message with its Content-Length."""
    return wire([start, *lines, b"Content-Length: %d" % len(body)], body)


def answer_to(request: Message, code: int, phrase: bytes, to_tag: bytes = b"") -> list[bytes]:
    """Status line, Via, From, To, Call-ID and CSeq of a response to `request` (RFC 3261 §8.2.6)."""
    lines = [b"SIP/2.0 %d %b" % (code, phrase)]
    lines += [request.lines[i] for i in request.places(VIA)]
    for slot in (FROM, TO, CALL_ID, CSEQ):
        lines.append(request.lines[request.at[slot]])
        if slot == TO and to_tag and not request.to_tag:
            lines[-1] += b";tag=" + to_tag
    return lines


def record_routes(request: Message) -> list[bytes]:
    """The lines that a response which makes a dialog repeats (RFC 3261 §12.1.1)."""
    return [request.lines[i] for i in request.places(RECORD_ROUTE)]


def without_tag(value: bytes) -> bytes:
    """A From or To without its parameters."""
    try:
        address = parse_name_addr(value)
    except Malformed:
        return b"<sip:anonymous@anonymous.invalid>"
    display = b'"%b" ' % address.display if address.display else b""
    return b"%b<%b>" % (display, address.uri)


def diversions(message: Message) -> int:
    """How often a call has been diverted, as its Diversion says (RFC 5806 §4; one that can't be read counts 1)."""
    count = 0
    for value in values(message, b"diversion"):
        try:
            given = parse_name_addr(value).param(b"counter") or b"1"
        except Malformed:
            given = b"1"
        count += int(given) if given.isdigit() and len(given) < 4 else 1
    return count


def values(message: Message, name: bytes) -> list[bytes]:
    """All values of a list header."""
    return [v for i in message.find(name) for v in split_list(header_value(message.lines[i]))]


def diverted(
    invite: Message, redirect: Message | None, diverter: bytes, to: bytes, reason: bytes
) -> list[bytes]:
    """Diversion (RFC 5806 §5.4) and History-Info (RFC 7044 §9) of a call to `diverter` that goes on to the URI `to`:
    newest diversion first, oldest history entry first. What a 302 says itself of its diversion is kept."""
    said = values(redirect, b"diversion") if redirect is not None else []
    if not said:
        said = [b"<%b>;reason=%b;counter=1" % (diverter, reason)]
    lines = [b"Diversion: " + value for value in (*said, *values(invite, b"diversion"))]
    history = values(invite, b"history-info")
    last = _index(history[-1]) if history else b""
    if not last:
        history.append(b"<%b>;index=1" % diverter)
        last = b"1"
    cause = 302 if redirect is not None else CAUSES.get(reason, 302)
    where = b"%b;cause=%d" % (to, cause) if to[:4].lower() == b"sip:" else to
    history.append(b"<%b>;index=%b.1;mp=%b" % (where, last, last))
    return [*lines, b"History-Info: " + b", ".join(history)]


CAUSES: Final = {b"unconditional": 302, b"no-answer": 408, b"user-busy": 486, b"unavailable": 503}
"""RFC 4458 §2: why a call was retargeted."""


def _index(entry: bytes) -> bytes:
    try:
        return parse_name_addr(entry).param(b"index") or b""
    except Malformed:
        return b""
