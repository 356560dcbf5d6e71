"""A SIP message as a list of header lines (RFC 3261 §7).

The proxy forwards what it was sent: so a message is its start line, its header lines exactly as they came
(folding, case, blanks and order kept) and its body. Reading splits the head once, notes where the few headers
stand that every message needs, and parses a value only when somebody asks. Writing joins the lines again:
what nobody edited leaves byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from callgate.sip.errors import Malformed
from callgate.sip.fields import Via, parse_via, split_list, tag_of, unfold
from callgate.sip.scanner import scan

(
    VIA,
    ROUTE,
    RECORD_ROUTE,
    MAX_FORWARDS,
    CALL_ID,
    CSEQ,
    FROM,
    TO,
    CONTACT,
    CONTENT_LENGTH,
    PROXY_REQUIRE,
    TIMESTAMP,
    SESSION_EXPIRES,
) = range(1, 14)
"""The headers whose place is noted while reading."""

# RFC 3261 §7.3.1: names are case-insensitive; §20: the compact forms.
_SLOTS = {
    b"via": VIA,
    b"v": VIA,
    b"route": ROUTE,
    b"record-route": RECORD_ROUTE,
    b"max-forwards": MAX_FORWARDS,
    b"call-id": CALL_ID,
    b"i": CALL_ID,
    b"cseq": CSEQ,
    b"from": FROM,
    b"f": FROM,
    b"to": TO,
    b"t": TO,
    b"contact": CONTACT,
    b"m": CONTACT,
    b"content-length": CONTENT_LENGTH,
    b"l": CONTENT_LENGTH,
    b"proxy-require": PROXY_REQUIRE,
    b"timestamp": TIMESTAMP,
    b"session-expires": SESSION_EXPIRES,
    b"x": SESSION_EXPIRES,
}
OTHER_VERSION = "a SIP version other than 2.0"
"""The fault that is answered with 505 instead of 400."""
COMPACT = {
    b"c": b"content-type",
    b"e": b"content-encoding",
    b"f": b"from",
    b"i": b"call-id",
    b"k": b"supported",
    b"l": b"content-length",
    b"m": b"contact",
    b"o": b"event",
    b"r": b"refer-to",
    b"b": b"referred-by",
    b"s": b"subject",
    b"t": b"to",
    b"u": b"allow-events",
    b"v": b"via",
    b"x": b"session-expires",
    b"d": b"request-disposition",
    b"j": b"reject-contact",
    b"a": b"accept-contact",
    b"y": b"identity",
    b"n": b"identity-info",
}
"""Compact header names and what they stand for (the IANA registry of SIP header fields)."""
HAVE_COMPACT = frozenset(COMPACT.values())

# Spellings met so far, so that the usual ones cost one look-up. Bounded: names come from the network.
_names: dict[bytes, int] = {}
_NAMES_MAX = 4096
_TOKEN = re.compile(rb"[A-Za-z0-9\-.!%*_+`'~]+\Z")
_CSEQ = re.compile(rb"0*+([0-9]{0,10})[ \t]+([A-Za-z0-9\-.!%*_+`'~]+)\Z")
_FOLDED = re.compile(rb"\r\n(?![ \t])")
_NOT_IN_URI = re.compile(rb'[<>"\x00-\x20\x7f]')
_SINGLE = ((CALL_ID, "Call-ID"), (CSEQ, "CSeq"), (FROM, "From"), (TO, "To"))


def _slot_of(name: bytes) -> int:
    slot = _names.get(name)
    return _slot(name) if slot is None else slot


def _slot(name: bytes) -> int:
    """The slot of a header name as it was written, 0 for all others, -1 for what is no name at all."""
    bare = name.rstrip(b" \t")
    if _TOKEN.match(bare) is None:
        return -1
    slot = _SLOTS.get(bare.lower(), 0)
    if len(_names) < _NAMES_MAX and len(name) < 64:
        _names[name] = slot
    return slot


class Message:
    """One request or response. `lines[0]` is the start line; the others are header lines, CRLF taken off,
    a folded header being one line with its CRLFs inside.

    `code` is 0 for a request, else the status; `method` and `uri` are those of a request (for a response,
    `method` is the one in CSeq). Read at once is what every message is matched by: the top Via, Call-ID, CSeq and
    the tags (empty where there is none). `marked`: the line numbers of the headers that the reader was told to look
    for (the core's: those at which the edge has to look). `faults` are English sentences; where there are any, what
    could not be read is empty and `via` may be None.
    """

    __slots__ = (
        "at",
        "body",
        "call_id",
        "code",
        "cseq_method",
        "cseq_number",
        "faults",
        "from_tag",
        "lines",
        "marked",
        "method",
        "repeated",
        "to_tag",
        "uri",
        "via",
    )

    lines: list[bytes]
    at: dict[int, int]
    repeated: set[int] | None
    body: bytes
    code: int
    method: bytes
    uri: bytes
    via: Via
    call_id: bytes
    from_tag: bytes
    to_tag: bytes
    cseq_number: int
    cseq_method: bytes
    faults: list[str]
    marked: Sequence[int]

    def value(self, slot: int) -> bytes:
        """The (first) value of a noted header, unfolded and trimmed; empty when it is absent."""
        i = self.at.get(slot)
        if i is None:
            return b""
        return header_value(self.lines[i])

    def places(self, slot: int) -> Sequence[int]:
        """The line numbers of a noted header, in order."""
        first = self.at.get(slot)
        if first is None:
            return ()
        if self.repeated is None or slot not in self.repeated:
            return (first,)
        lines = self.lines
        return [i for i in range(first, len(lines)) if _slot_of(lines[i].partition(b":")[0]) == slot]

    def values(self, slot: int) -> list[bytes]:
        """Every value of a list header, over all its lines, split at commas (RFC 3261 §7.3.1)."""
        return [v for i in self.places(slot) for v in split_list(header_value(self.lines[i]))]

    def find(self, name: bytes) -> list[int]:
        """The line numbers of any header by its full name in lower case, whatever spelling was used."""
        lines = self.lines
        if name in HAVE_COMPACT:
            return [i for i in range(1, len(lines)) if full_name(lines[i]) == name]
        size = len(name)
        found = [i for i, line in enumerate(lines) if line[:size].lower() == name]
        return [i for i in found if i and full_name(lines[i]) == name] if found else found

    def noted(self, name: bytes) -> list[int]:
        """The line numbers of a header among the `marked`."""
        lines = self.lines
        return [i for i in self.marked if full_name(lines[i]) == name]

    def header(self, name: bytes) -> bytes:
        """The first value of any header by its full name in lower case; empty when it is absent."""
        for i in self.find(name):
            return header_value(self.lines[i])
        return b""

    @property
    def cseq(self) -> tuple[int, bytes]:
        """CSeq's number and method."""
        return self.cseq_number, self.cseq_method

    def wire(self) -> bytes:
        """The message as it goes on the wire."""
        return wire(self.lines, self.body)


def wire(lines: list[bytes], body: bytes) -> bytes:
    """Start line, header lines and body as one message."""
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def full_name(line: bytes) -> bytes:
    """The name of one header line, in lower case and never compact."""
    written = line.partition(b":")[0].rstrip(b" \t").lower()
    return COMPACT.get(written, written)


def header_value(line: bytes) -> bytes:
    """The value of one header line, unfolded and trimmed."""
    value = line.partition(b":")[2]
    if b"\n" in value:
        value = unfold(value)
    return value.strip(b" \t")


def parse(data: bytes, names: tuple[bytes, ...] = ()) -> Message:
    """Read one message: a datagram, or what `framing` cut out of a stream. `names`, in lower case, are those of headers
    whose lines are noted in `marked`, each form by itself.

    Only what can't be read at all raises `Malformed`. A message whose head can be read, but which breaks a rule
    of §8.1.1 or §18.3, comes back with `faults`, so that a request can be answered with 400.
    """
    found = scan(data, names)
    if found is None:
        return parse_slowly(data, names)
    message = Message()
    message.via = via = Via()
    (
        message.code,
        message.method,
        message.uri,
        message.lines,
        message.at,
        message.repeated,
        message.body,
        message.call_id,
        message.from_tag,
        message.to_tag,
        message.cseq_number,
        message.cseq_method,
        via.transport,
        via.host,
        via.sent_by,
        via.port,
        via.branch,
        via.rport,
        via.params,
        via.text,
        message.marked,
    ) = found
    via.rest = b""
    message.faults = []
    return message


def parse_slowly(data: bytes, names: tuple[bytes, ...] = ()) -> Message:
    """`parse` for every message, however it is written: the C scanner knows only the plain ones."""
    if data[:1] in (b"\r", b"\n"):
        data = data.lstrip(b"\r\n")  # RFC 3261 §7.5
    end = data.find(b"\r\n\r\n")
    message = Message()
    faults: list[str] = []
    message.faults = faults
    if end < 0:
        faults.append("the header does not end with an empty line")
        head, body = data.rstrip(b"\r\n"), b""
    else:
        head, body = data[:end], data[end + 4 :]
    start, _, rest = head.partition(b"\r\n")
    lines = [start, *_FOLDED.split(rest)] if rest else [head]  # §7.3.1; a start line is never continued
    ends = head.count(b"\r\n")
    if head.count(b"\n") != ends or head.count(b"\r") != ends:
        faults.append("a bare CR or LF in the header")
        # What is copied into an answer must not become a header of its own there.
        lines = [line.replace(b"\r", b" ").replace(b"\n", b" ") for line in lines]
    message.lines = lines
    message.body = body
    at: dict[int, int] = {}
    message.at = at
    repeated: set[int] | None = None
    known = _names.get
    for i, line in enumerate(lines):
        if i:
            name, colon, _ = line.partition(b":")
            slot = known(name)
            if slot is None:
                slot = _slot(name)
            if slot:
                if slot < 0 or not colon:
                    faults.append("a header line without a name")
                elif slot not in at:
                    at[slot] = i
                elif repeated is None:
                    repeated = {slot}
                else:
                    repeated.add(slot)
            elif not colon:
                faults.append("a header line without a colon")
    message.repeated = repeated
    message.marked = (
        [i for i, line in enumerate(lines) if i and line.partition(b":")[0].rstrip(b" \t").lower() in names]
        if names
        else ()
    ) or ()
    if repeated is not None or not at.keys() >= _NEEDED:
        _check_single(message)
    _read_fields(message)
    _read_start(message, lines[0])
    if CONTENT_LENGTH in at:
        _cut_body(message)
    return message


def _read_fields(message: Message) -> None:
    """What every message is matched by."""
    faults = message.faults
    message.call_id = message.value(CALL_ID)
    if not message.call_id and CALL_ID in message.at:
        faults.append("Call-ID is empty")
    cseq = message.value(CSEQ)
    found = _CSEQ.match(cseq) if cseq[:1].isdigit() else None
    number = int(found[1] or b"0") if found is not None else 0
    if found is None or number >= 1 << 31:
        if CSEQ in message.at:
            faults.append("CSeq is not a number below 2**31 and a method")
        message.cseq_number, message.cseq_method = 0, b""
    else:
        message.cseq_number, message.cseq_method = number, found[2]  # RFC 3261 §20.16, §8.1.1.5
    message.from_tag = message.to_tag = b""
    try:
        if FROM in message.at:
            message.from_tag = tag_of(message.value(FROM))
        if TO in message.at:
            message.to_tag = tag_of(message.value(TO))
    except Malformed as fault:
        faults.append(str(fault))
    try:
        message.via = parse_via(message.value(VIA))
    except Malformed as fault:
        faults.append(str(fault))
        message.via = None  # type: ignore[assignment]


_NEEDED = frozenset((VIA, CALL_ID, CSEQ, FROM, TO))


def _read_start(message: Message, start: bytes) -> None:
    """Request-Line or Status-Line (RFC 3261 §7.1, §7.2)."""
    if start[:4].upper() == b"SIP/":
        version, _, rest = start.partition(b" ")
        code = rest[:3]
        if (
            len(code) != 3
            or not code.isdigit()
            or rest[3:4] not in (b" ", b"")
            or not b"100" <= code < b"700"
        ):
            raise Malformed("a status line that can't be read")
        message.code = int(code)
        message.uri = b""
        message.method = message.cseq_method
        if version.upper() != b"SIP/2.0":
            raise Malformed("a response of another SIP version")
        return
    message.code = 0
    method, _, rest = start.partition(b" ")
    uri, _, version = rest.rstrip(b" \t").rpartition(b" ")
    if _TOKEN.match(method) is None or version[:4].upper() != b"SIP/":
        raise Malformed("the start line is no SIP request and no SIP response")
    message.method = method
    message.uri = uri
    if version.upper() != b"SIP/2.0":
        message.faults.append(OTHER_VERSION)
    if not uri or _NOT_IN_URI.search(uri):
        message.faults.append("a Request-URI that can't be read")
    elif b"?" in uri and b"?" in uri.rpartition(b"@")[2] and uri[:5].lower().startswith((b"sip:", b"sips:")):
        message.faults.append("headers in the Request-URI")  # §19.1.1, RFC 4475 §3.1.2.11
    if rest[-1:] in (b" ", b"\t"):
        message.faults.append("blanks after the SIP version")


def _cut_body(message: Message) -> None:
    """The body is Content-Length octets; more are dropped, fewer are a fault (RFC 3261 §18.3)."""
    value = message.value(CONTENT_LENGTH)
    if not value.isdigit() or len(value) > 10:
        message.faults.append("Content-Length is no number")
        return
    length, have = int(value), len(message.body)
    if length < have:
        message.body = message.body[:length]
    elif length > have:
        message.faults.append("the body is shorter than Content-Length")


def _check_single(message: Message) -> None:
    """RFC 3261 §8.1.1: what every message has, and what it has once."""
    repeated = message.repeated or ()
    if VIA not in message.at:
        message.faults.append("no Via")
    for slot, name in _SINGLE:
        if slot not in message.at:
            message.faults.append(f"no {name}")
        elif slot in repeated:
            message.faults.append(f"more than one {name}")
    for slot, name in ((CONTENT_LENGTH, "Content-Length"), (MAX_FORWARDS, "Max-Forwards")):
        if slot in repeated:
            message.faults.append(f"more than one {name}")


for _spelling in _SLOTS:
    for _written in (_spelling, _spelling.title(), _spelling.upper()):
        _slot(_written)
_names.update({b"Call-ID": CALL_ID, b"CSeq": CSEQ})
