"""The messages that the simulated agents send, as bytes (RFC 3261 §8)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from callgate.sim.udp import Address
from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr
from callgate.sip.message import CALL_ID, CONTACT, CSEQ, FROM, RECORD_ROUTE, TO, VIA, Message
from callgate.sip.uri import parse_uri

REASONS = {
    100: b"Trying",
    180: b"Ringing",
    200: b"OK",
    400: b"Bad Request",
    403: b"Forbidden",
    405: b"Method Not Allowed",
    480: b"Temporarily Unavailable",
    481: b"Call/Transaction Does Not Exist",
    486: b"Busy Here",
    487: b"Request Terminated",
    503: b"Service Unavailable",
}
SDP = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 40000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
)
"""An offer or an answer that nobody sends media to."""

_RPORT = re.compile(rb";[ \t]*rport(?:[ \t]*=[ \t]*[0-9]*)?(?=[ \t]*(?:[;,]|\Z))", re.IGNORECASE)


def host_port(address: Address) -> bytes:
    """`host:port` as a URI wants it, IPv6 in brackets."""
    host, port = address
    return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode()


def request(
    method: bytes,
    uri: bytes,
    *,
    via: bytes,
    from_: bytes,
    to: bytes,
    call_id: bytes,
    cseq: int,
    contact: bytes = b"",
    routes: Iterable[bytes] = (),
    extra: Iterable[bytes] = (),
    body: bytes = b"",
) -> bytes:
    """A request. `via`, `from_`, `to`, `contact`: header values; `routes`: Route values in order of use."""
    lines = [method + b" " + uri + b" SIP/2.0", b"Via: " + via, b"Max-Forwards: 70"]
    lines += [b"Route: " + route for route in routes]
    lines += [b"From: " + from_, b"To: " + to, b"Call-ID: " + call_id, b"CSeq: %d %b" % (cseq, method)]
    if contact:
        lines.append(b"Contact: " + contact)
    lines += extra
    return _with_body(lines, body)


def response(
    to: Message,
    code: int,
    reason: bytes,
    source: Address,
    *,
    to_tag: bytes,
    contact: bytes = b"",
    extra: Iterable[bytes] = (),
    body: bytes = b"",
) -> bytes:
    """A response to the request `to` that came from `source` (RFC 3261 §8.2.6, RFC 3581 §4).

    With a `contact` it makes or confirms a dialog, so Record-Route is copied (§12.1.1).
    """
    lines = [b"SIP/2.0 %d %b" % (code, reason)]
    vias = [to.lines[place] for place in to.places(VIA)]
    if to.via.rport:
        vias[0] = _stamped(vias[0], source)
    lines += vias
    if contact and code < 300:
        lines += [to.lines[place] for place in to.places(RECORD_ROUTE)]
    lines.append(to.lines[to.at[FROM]])
    line = to.lines[to.at[TO]]
    lines.append(line if not to_tag or to.to_tag else line + b";tag=" + to_tag)
    lines += [to.lines[to.at[CALL_ID]], to.lines[to.at[CSEQ]]]
    if contact:
        lines.append(b"Contact: " + contact)
    lines += extra
    return _with_body(lines, body)


def reply_address(to: Message, source: Address) -> Address:
    """Where the response to a request goes (RFC 3261 §18.2.2, RFC 3581 §4)."""
    via = to.via
    return source if via.rport else (source[0], via.port or 5060)


def next_hop(uri: bytes) -> Address:
    """The literal address a URI names. Raises Malformed."""
    found = parse_uri(uri)
    return found.bare_host, found.default_port


def contact_of(message: Message) -> bytes:
    """The URI of a dialog-forming message's Contact. Raises Malformed."""
    value = message.values(CONTACT)
    if not value:
        raise Malformed("no Contact")
    return parse_name_addr(value[0]).uri


def _stamped(via_line: bytes, source: Address) -> bytes:
    host, port = source
    return _RPORT.sub(b";received=%b;rport=%d" % (host.encode(), port), via_line, count=1)


def _with_body(lines: list[bytes], body: bytes) -> bytes:
    if body:
        lines.append(b"Content-Type: application/sdp")
    lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
