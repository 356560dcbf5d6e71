"""What changes in a message on its way through (RFC 3261 §16.6, §16.7): nothing that no rule names.

A message leaves as a copy of its lines. An insertion is written into the line it goes before, so that no line
moves; a line that goes is left out when the copy is joined.
"""

from __future__ import annotations

import re

from callgate.proxy.directory import Directory
from callgate.proxy.edge import NO_EDITS, Edits
from callgate.proxy.flow import Flow
from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr, split_list
from callgate.sip.message import (
    CONTENT_LENGTH,
    FROM,
    MAX_FORWARDS,
    PROXY_REQUIRE,
    RECORD_ROUTE,
    ROUTE,
    TO,
    VIA,
    Message,
    header_value,
    wire,
)
from callgate.sip.uri import Uri, parse_uri

SCHEMES = frozenset((b"sip", b"sips", b"tel", b"urn"))
"""Of a Request-URI that the gate can do something with (RFC 3261 §16.3 step 2)."""

_RECEIVED = re.compile(rb';[ \t]*+received[ \t]*+=[^;,"]*+', re.IGNORECASE)
_REACHED_BY = re.compile(rb";(?:maddr|transport)=[^;?]*+", re.IGNORECASE)
_OVERLOAD = re.compile(
    rb';[ \t]*+oc(?:-[A-Za-z]++)?+[ \t]*+(?:=[^;,"]*+(?:"[^"]*+")?+)?+(?=;|\Z)|("(?:[^"\\]++|\\.?+)*+(?:"|\Z))',
    re.IGNORECASE | re.DOTALL,
)
_RPORT = re.compile(rb';[ \t]*+rport[ \t]*+(?:=[^;,"]*+)?(?=;|\Z)', re.IGNORECASE)


def stamp(request: Message, flow: Flow) -> None:
    """Write where a request really came from into its top Via (RFC 3261 §18.2.1, RFC 3581 §4). What the client
    claimed there itself is overwritten."""
    via, host = request.via, flow.host.encode("ascii")
    text, i = via.text, request.at[VIA]
    if b"eceived" not in via.params:
        if not via.rport:
            if via.host.strip(b"[]") == host:
                return
        elif text.endswith(b";rport") and not via.rest:  # as most clients write it
            request.lines[i] = b"Via: %b=%d;received=%b" % (text, flow.port, host)
            return
    text = _RECEIVED.sub(b"", text)
    if via.rport:
        text = _RPORT.sub(b"", text) + b";rport=%d" % flow.port
    name = request.lines[i].partition(b":")[0]
    value = b"%b: %b;received=%b" % (name, text, host)
    request.lines[i] = value + b", " + via.rest if via.rest else value


def reply_flow(request: Message, flow: Flow) -> Flow:
    """Where the responses to a request go: the connection it came by, else its source address, with the port of
    its Via unless it asked for `rport` (RFC 3261 §18.2.2, RFC 3581 §4). Never where a Via's host or `maddr`
    points: that would let a stranger aim our answers at others."""
    via = request.via
    port = via.port or (5061 if flow.listener.secure else 5060)
    if flow.connection:
        return Flow(flow.listener, flow.host, flow.port, flow.connection, (flow.host, port), flow.trust)
    if via.rport or port == flow.port:
        return flow
    return Flow(flow.listener, flow.host, port)


class Routes:
    """The Route of a request once our own values are off (RFC 3261 §16.4).

    `token` is the one that our Record-Route carried, empty if there was none; `edits` are the lines that change, here
    and at the edge (None: the line goes); `next` is the first value that is left, as written, empty if none.
    """

    __slots__ = ("edits", "next", "token")

    def __init__(self) -> None:
        self.token = b""
        self.edits: dict[int, bytes | None] = {}
        self.next = b""


def take_own_routes(request: Message, directory: Directory) -> Routes:
    """Take off the values on top of Route that name us: one, or two after a double Record-Route (RFC 5658). Another
    token than the first is of another passage: the call has come through the gate twice (RFC 3261 §16.3 step 4), and
    the request goes the same way round. Raises Malformed."""
    routes = Routes()
    if ROUTE not in request.at:
        return routes
    for i in request.places(ROUTE):
        values = split_list(header_value(request.lines[i]))
        own = 0
        for value in values:
            token = directory.own_route(value)
            if token is None:
                uri = parse_uri(parse_name_addr(value).uri)
                if not directory.is_own(uri.bare_host, uri.default_port):
                    break
                token = uri.param(b"cg") or b""
            if token and routes.token and token != routes.token:
                break
            routes.token = routes.token or token
            own += 1
        kept = values[own:]
        if own:
            routes.edits[i] = b"Route: " + b", ".join(kept) if kept else None
        if kept:
            routes.next = kept[0]
            break
    return routes


def called_party(request: Message, routes: Routes) -> Routes:
    """The routes of a call whose Request-URI becomes a registered contact: what it was stands in P-Called-Party-ID
    from here on (RFC 7315 §4.2), so that a PBX with many numbers knows which one is called."""
    if request.find(b"p-called-party-id"):
        return routes
    changed = Routes()
    changed.token, changed.next = routes.token, routes.next
    here = request.at[FROM]
    line = b"%b\r\nP-Called-Party-ID: <%b>" % (request.lines[here], request.uri)
    changed.edits = {**routes.edits, here: line}
    return changed


def own_uri(uri: Uri, directory: Directory) -> bool:
    """Whether a Request-URI is one that we put into a Record-Route: then a strict router upstream has moved the
    real one to the end of Route (RFC 3261 §16.4)."""
    return (
        bool(uri.host) and uri.param(b"cg") is not None and directory.is_own(uri.bare_host, uri.default_port)
    )


def without_own_maddr(uri: Uri, directory: Directory) -> bytes:
    """A Request-URI whose `maddr` names us goes on without it, and without the port and transport that it was
    reached by (RFC 3261 §16.4)."""
    maddr = uri.param(b"maddr") if uri.params else None
    if not maddr or not directory.is_own(
        maddr.strip(b"[]").decode("ascii", "replace").lower(), uri.default_port
    ):
        return uri.raw
    user = uri.user + b"@" if uri.user else b""
    return b"%b:%b%b%b" % (uri.scheme, user, uri.host, _REACHED_BY.sub(b"", uri.params))


def max_forwards(request: Message) -> int:
    """Max-Forwards, 70 + 1 where it is absent so that 70 leaves. Raises Malformed beyond 0..255."""
    value = request.value(MAX_FORWARDS)
    if not value:
        if MAX_FORWARDS in request.at:
            raise Malformed("Max-Forwards is empty")
        return 71
    if value.isdigit():
        if len(value) < 3:
            return int(value)
        digits = value.lstrip(b"0") or b"0"
        if len(digits) <= 3 and int(digits) <= 255:
            return int(digits)
    raise Malformed("Max-Forwards is not a number from 0 to 255")


def checked(request: Message) -> tuple[int, int, list[bytes]]:
    """The checks of RFC 3261 §16.3 that need no key: what Max-Forwards was, and the code and headers of the answer
    to what must not go on, 0 and none where all is well."""
    try:
        hops = max_forwards(request)
    except Malformed:
        return 0, 400, []
    if request.method == b"REGISTER":
        return hops, 0, []  # it goes no further: what it requires is the registrar's business
    if hops == 0:
        return 0, 483, []
    if PROXY_REQUIRE in request.at and any(request.values(PROXY_REQUIRE)):
        lines = [header_value(request.lines[i]) for i in request.places(PROXY_REQUIRE)]
        return hops, 420, [b"Unsupported: " + b", ".join([line for line in lines if line])]
    return hops, 0, []


def request_out(
    request: Message,
    uri: bytes,
    via: bytes,
    record_route: bytes,
    edits: dict[int, bytes | None],
    hops: int,
    *,
    stream: bool,
) -> bytes:
    """The request as it is forwarded: `uri` for its Request-URI, `via` (a whole line) on top, `record_route`
    (lines, or empty) above the others, `hops` what Max-Forwards was, `edits` from `take_own_routes`.
    RFC 3261 §16.6."""
    at = request.at
    lines: list[bytes | None] = [*request.lines]
    lines[0] = b"%b %b SIP/2.0" % (request.method, uri)
    for i, edit in edits.items():
        lines[i] = edit
    top = at[VIA]
    theirs = request.lines[top]
    if b"oc" in request.via.params.lower():
        theirs = _without_overload(theirs)
    lines[top] = b"%b\r\n%b" % (via, theirs)
    here = at.get(MAX_FORWARDS)
    if here is not None:
        lines[here] = b"Max-Forwards: %d" % (hops - 1)
    else:
        record_route = record_route and record_route + b"\r\n"
        record_route += b"Max-Forwards: %d" % (hops - 1)
    if record_route:
        here = at.get(RECORD_ROUTE) or at[TO]
        lines[here] = b"%b\r\n%b" % (record_route, request.lines[here])
    if stream and CONTENT_LENGTH not in at:
        lines.append(b"Content-Length: %d" % len(request.body))  # §16.6 step 9
    if edits:
        while None in lines:
            lines.remove(None)
    return wire(lines, request.body)  # type: ignore[arg-type]


def _without_overload(line: bytes) -> bytes:
    """The client's Via without its overload parameters (`oc`, `oc-algo`, …): those are between it and us (RFC 7339
    §5.6)."""
    if all(found[1] for found in _OVERLOAD.finditer(line)):
        return line
    values = split_list(header_value(line))
    values[0] = _OVERLOAD.sub(lambda found: found[1] or b"", values[0])
    return b"%b: %b" % (line.partition(b":")[0], b", ".join(values))


def response_out(response: Message, *, stream: bool, code: int = 0, edits: Edits = NO_EDITS) -> bytes | None:
    """The response without our Via (RFC 3261 §16.7 step 3); None when there was no other. `code` replaces the
    status (a lone 503 becomes a 500, §16.7 step 6); `edits` are lines that change (None: the line goes)."""
    top, rest = response.at[VIA], response.via.rest
    if not rest and (response.repeated is None or VIA not in response.repeated):
        return None
    via = b"Via: " + rest if rest else None
    if edits:
        changed = {**edits, top: via}
        lines = [line for i, old in enumerate(response.lines) if (line := changed.get(i, old)) is not None]
    else:
        lines = response.lines[:]
        if via is None:
            del lines[top]
        else:
            lines[top] = via
    if code:
        lines[0] = b"SIP/2.0 %d Server Internal Error" % code
    if stream and CONTENT_LENGTH not in response.at:
        lines.append(b"Content-Length: %d" % len(response.body))
    return wire(lines, response.body)


def swap_strict(uri: bytes, routes: Routes, request: Message) -> bytes:
    """RFC 3261 §16.6 step 6: the first Route left has no `lr`, so it becomes the Request-URI and the Request-URI
    goes to the end of Route. Changes `routes.edits`; the new Request-URI."""
    first = parse_name_addr(routes.next).uri
    places = [i for i in request.places(ROUTE) if routes.edits.get(i, b"") is not None]
    values: list[bytes] = []
    for i in places:
        line = routes.edits.get(i) or request.lines[i]
        values += split_list(header_value(line))
        routes.edits[i] = None
    values = [*values[1:], b"<%b>" % uri]
    routes.edits[places[0]] = b"Route: " + b", ".join(values)
    return first


def disguise(uri: Uri) -> str:
    """Why a Request-URI of a PBX may mean another number to the carrier than to us; empty if it can't. A password
    or an @ in the user, and parameters that route by themselves (RFC 4694: rn, cic; RFC 4904: tgrp)."""
    user = uri.user.lower()
    if b"@" in user or (b":" in user and uri.scheme in (b"sip", b"sips")):
        return "the user part holds more than a number"
    for name in (b";rn=", b";cic=", b";tgrp="):
        if name in user:
            return "a routing parameter behind the number"
    return ""
