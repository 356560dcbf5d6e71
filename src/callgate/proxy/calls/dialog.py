"""The two sides of a call as the gate sees them (RFC 3261 §12): enough to route what passes inside the dialog
and, when the gate is told to end the call, to send both sides a BYE."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final

from callgate.proxy.directory import Directory
from callgate.proxy.flow import Address, Flow, address_of
from callgate.proxy.peers import Peer
from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr, split_list
from callgate.sip.message import CONTACT, RECORD_ROUTE, Message, header_value
from callgate.sip.uri import Uri, parse_uri

if TYPE_CHECKING:
    from callgate.proxy.calls.vitals import Vitals


class Stage:
    """How far the dialog with one callee has come."""

    EARLY: Final = 0
    UP: Final = 1
    OVER: Final = 2


class Side:
    """One end of a dialog.

    `tag` is its tag; `cseq` the highest CSeq it has used, and of a callee `heard` the highest that the caller has
    used towards it (-1: none yet), `invited` the CSeq of the INVITE that it has answered, `acknowledged` whether the
    caller knows of that answer, `around` whether their dialog may go around the gate (`proxy.calls.around`); `flow` how
    its messages reach us; `sent_by` the host that its own requests name in their Via, where they ask for symmetric
    answers (`rport`). Contact and Record-Route are kept as they were written: most calls end before anybody has to
    read them. `seen_at` is when something of it last came; `vitals` of a callee's dialog that is up, until it is over
    or the gate hangs it up.
    """

    __slots__ = (
        "_contact",
        "_routes",
        "_routes_are_its_own",
        "acknowledged",
        "around",
        "cseq",
        "flow",
        "heard",
        "hop",
        "hop_generation",
        "hop_uri",
        "invited",
        "seen_at",
        "sent_by",
        "stage",
        "tag",
        "vitals",
    )

    def __init__(self, tag: bytes, flow: Flow) -> None:
        self.tag = tag
        self.flow = flow
        self._contact = b""
        self._routes: tuple[bytes, ...] = ()
        self._routes_are_its_own = False
        self.cseq = -1
        self.heard = -1
        self.invited = 0
        self.stage = Stage.EARLY  # of a callee
        self.acknowledged = self.around = False
        self.hop: Flow | None = None  # where `hop_uri` leads
        self.hop_uri = b""
        self.hop_generation = 0  # of the directory that `hop` was found in: gateways move
        self.sent_by = b""
        self.seen_at = 0.0
        self.vitals: Vitals | None = None

    def learn_contact(self, message: Message) -> None:
        """The Contact of a request or response that sets the remote target (RFC 3261 §12.2)."""
        i = message.at.get(CONTACT)
        if i is not None and message.lines[i] != self._contact:
            self._contact = message.lines[i]
            self.hop = None

    def recall(self, contact: bytes, routes: tuple[bytes, ...], own: bool) -> None:
        """What `LEARNT` were, at an earlier start."""
        self._contact, self._routes, self._routes_are_its_own = contact, routes, own

    def learn_via(self, request: Message) -> None:
        """What a request of its own says about where it is."""
        via = request.via
        sent_by = via.host if via.rport else b""
        if sent_by != self.sent_by:
            self.sent_by = sent_by
            self.hop = None

    def moved(self, flow: Flow) -> None:
        """A new request of this side came by another path than those before: it has connected anew, or the NAT that
        it is behind has given it another port (RFC 3581 §1). A port only: another host may be anybody's."""
        old = self.flow
        if flow.connection:
            if flow.connection == old.connection:
                return
        elif old.pinned:  # the flow that a phone has registered over; where it is in this dialog it says here
            if flow == old:
                return
        elif flow.host != old.host or flow.port == old.port or not self._is_behind_nat():
            return
        self.flow = flow
        self.hop = None

    def _is_behind_nat(self) -> bool:
        """Whether it calls itself by an address that its messages don't come from."""
        nearest = next((uri.bare_host for uri in self._named()), "")
        return self._is_inside(_bare(self.sent_by)) or self._is_inside(nearest)

    def _is_inside(self, host: str) -> bool:
        """Whether an address that this side has named lies inside of its NAT, out of our reach: it is not the one
        that its messages come from, and either its own Via takes it for that, or it is private, of one link or
        loopback where that one is not."""
        address, source = address_of(host), address_of(self.flow.host)
        if address is None or source is None or address == source:
            return False
        return address == address_of(_bare(self.sent_by)) or realm(address) not in (0, realm(source))

    def learn_routes(self, message: Message) -> None:
        """The Record-Route of the message that makes the dialog (RFC 3261 §12.1)."""
        if RECORD_ROUTE in message.at:
            self._routes = tuple([message.lines[i] for i in message.places(RECORD_ROUTE)])
            self._routes_are_its_own = not message.code

    @property
    def contact(self) -> bytes:
        """Its remote target (a URI), empty while it has given none that can be read."""
        if not self._contact:
            return b""
        try:
            uri = parse_name_addr(split_list(header_value(self._contact))[0]).uri
            parse_uri(uri)
        except (Malformed, IndexError):
            return b""
        return uri

    @property
    def routes(self) -> tuple[bytes, ...]:
        """What lies between us and it, nearest first (name-addrs as written): of a caller all that its request
        brought, of a callee what was put above our own value."""
        values = [v for line in self._routes for v in split_list(header_value(line))]
        if self._routes_are_its_own:
            return tuple(values)
        ours = next((n for n, v in enumerate(values) if b";lr;cg=" in v), len(values))
        return tuple(reversed(values[:ours]))

    def way(self) -> tuple[bytes, tuple[bytes, ...], bytes]:
        """For a request that the gate itself makes (RFC 3261 §12.2.1.1): Request-URI, Route values, and the URI of
        the next hop."""
        host = self.flow.host.encode()
        target = self.contact or b"sip:" + (b"[%b]" % host if b":" in host else host)
        routes = self.routes
        if not routes:
            return target, (), target
        first = next(iter(_uris(routes[:1])), b"")
        if first and not _is_loose(first):
            return first, (*routes[1:], b"<%b>" % target), first
        return target, routes, first

    def next_hop(self, target: bytes, directory: Directory, peer: Peer) -> Flow:
        """Where a request to this side goes whose next hop by RFC 3261 §16.6 step 7 is the URI `target`.

        Only to an address that belongs to this side: the one its messages come from, the target or route that
        it gave in the dialog itself, or a configured one of the same peer. Any other host, and every name, is
        answered with the path its messages came by: a request can't use a dialog to reach a third party, and no
        side but the trunk leads to a gateway (`Directory.may_lead`).
        """
        if self.flow.pinned:
            return self.flow
        if target == self.hop_uri and self.hop is not None and self.hop_generation == directory.generation:
            return self.hop
        hop = self._resolve(target, directory, peer)
        self.hop_uri, self.hop, self.hop_generation = target, hop, directory.generation
        return hop

    def _resolve(self, target: bytes, directory: Directory, peer: Peer) -> Flow:
        try:
            uri = parse_uri(target)
        except Malformed:
            return self.flow
        flow = self.flow
        host = uri.bare_host
        if directory.is_own(host, uri.default_port):
            return flow  # a UA that has no Route sends to us what is meant for the other side
        if host != flow.host and address_of(host) is None:
            return flow
        if not directory.may_lead(host, uri.default_port, peer, flow.host):
            return flow
        given = uri.param(b"transport") if uri.params else None
        transport = (given or (b"UDP" if uri.scheme == b"sip" else b"TLS")).upper()
        inside = host != flow.host and self._gave(uri) and self._is_inside(host)
        if flow.listener.reliable and (host == flow.host or inside):
            # A stream that the peer opened carries requests back to it; its target is where to go without it.
            there = (host, uri.default_port)
            return Flow(flow.listener, flow.host, flow.port, flow.connection, there, flow.trust)
        if (host, uri.default_port) == (flow.host, flow.port) and transport == flow.listener.transport:
            return flow
        if not directory.is_exactly(host, uri.default_port, peer) and (inside or not self._gave(uri)):
            return flow
        listener = directory.listener_for(transport, host, flow.listener)
        if listener is None:
            return flow
        return Flow(listener, host, uri.default_port, trust=flow.trust)

    def gave_host(self, host: str) -> bool:
        """Whether this side has named an address as its target or on its route."""
        return any(uri.bare_host == host for uri in self._named())

    def _gave(self, uri: Uri) -> bool:
        where = (uri.host, uri.default_port)
        return any((own.host, own.default_port) == where for own in self._named())

    def _named(self) -> Iterator[Uri]:
        """Where it says that it is: its routes, nearest first, then its target."""
        for raw in (*_uris(self.routes), self.contact):
            try:
                yield parse_uri(raw)
            except Malformed:
                continue


LEARNT = ("_contact", "_routes", "_routes_are_its_own")
"""Of a side, for who writes them down: the lines of its Contact and Record-Route, whether the latter are its own."""
FORKS = 16
"""Callees of one call that are remembered."""


def side_of(sides: tuple[Side, ...], tag: bytes) -> Side | None:
    """The side with that tag."""
    for side in sides:
        if side.tag == tag:
            return side
    return None


def hear(sides: tuple[Side, ...], response: Message, flow: Flow) -> tuple[tuple[Side, ...], Side | None]:
    """The callees of a call, and which of them a 101–2xx comes from: a new one where its To tag is (RFC 3261
    §12.1.2), the first that is known where it has none."""
    tag = response.to_tag
    if not tag:
        return sides, sides[0] if sides else None
    side = side_of(sides, tag)
    if side is None:
        side = Side(tag, flow)
        if len(sides) >= FORKS:  # whoever has answered stays
            answered = tuple(other for other in sides if other.stage is not Stage.EARLY)
            sides = answered[-FORKS:] if answered else sides[1:]
        sides += (side,)
    side.invited = response.cseq_number
    side.learn_contact(response)
    side.learn_routes(response)
    return sides, side


def _is_loose(uri: bytes) -> bool:
    try:
        return parse_uri(uri).param(b"lr") is not None
    except Malformed:
        return True


def _uris(routes: Iterable[bytes]) -> Iterable[bytes]:
    for route in routes:
        try:
            yield parse_name_addr(route).uri
        except Malformed:
            continue


def _bare(host: bytes) -> str:
    return host.strip(b"[]").decode("ascii")


_REALMS = [
    [ip_network(text) for text in texts.split()]
    for texts in (
        "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 fc00::/7",  # RFC 1918, RFC 6598, RFC 4193
        "169.254.0.0/16 fe80::/10",  # RFC 3927, RFC 4291 §2.5.6
        "127.0.0.0/8 0.0.0.0/8 ::1/128 ::/128",
    )
]


def realm(address: Address) -> int:
    """0 for an address of the Internet, else who can reach it: 1 a private network, 2 one link, 3 one machine."""
    for kind, networks in enumerate(_REALMS, 1):
        if any(address.version == network.version and address in network for network in networks):
            return kind
    return 0
