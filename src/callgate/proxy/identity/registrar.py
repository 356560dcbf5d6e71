"""The gate's own registrar (RFC 3261 §10.3), for keys whose `pbx` is `registered`.

A REGISTER is never passed on. What it binds is the flow that it came by, so a phone behind NAT is reached; its Contact
is the Request-URI. All of a REGISTER is done or nothing of it.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from callgate.numbers import read_dialled
from callgate.proxy.calls.targets import Groups, Target
from callgate.proxy.commands import Alert, Keep, Note, Send
from callgate.proxy.flow import Flow
from callgate.proxy.identity.bindings import Binding, Bindings, Row, devices
from callgate.proxy.identity.contacts import Contact, Path, Wish, contact_values, wishes
from callgate.proxy.identity.stun import stun_answer
from callgate.proxy.peers import Key
from callgate.proxy.transactions import Key as TransactionKey
from callgate.sip.compare import unescape
from callgate.sip.date import sip_date
from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr, split_list
from callgate.sip.message import PROXY_REQUIRE, TO, VIA, Message, header_value
from callgate.sip.uri import Uri, parse_uri

if TYPE_CHECKING:
    from callgate.proxy.core import Core

KNOWN = frozenset((b"path", b"outbound", b"gin"))
"""Extensions that a REGISTER may require: RFC 3327, RFC 5626, RFC 6140."""
FLOW_TIMER = 120
"""Seconds between the keep-alives of a client of RFC 5626 (§4.4)."""
USER_MAX = 128
"""Octets of a user's name."""


class Refused(Exception):
    """A REGISTER that is not granted: the answer, why (a value of the metric's label), and the sentence for the log."""

    def __init__(self, code: int, reason: str, text: str, *headers: bytes) -> None:
        super().__init__(text)
        self.code = code
        self.reason = reason
        self.text = text
        self.headers = headers


class Registrar:
    """Answers REGISTER, and says whom a call in rings."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.bindings = Bindings()
        self._serial = 0
        # Key → (generation of the directory, bindings of users who are no number of the key).
        self._general: dict[str, tuple[int, tuple[Binding, ...]]] = {}

    # -- REGISTER ------------------------------------------------------------------------------------------

    def take(self, request: Message, server_key: TransactionKey, flow: Flow, key: Key, now: float) -> None:
        """Answer a REGISTER of a key."""
        core = self.core
        try:
            headers = self._register(request, flow, key, now)
        except Refused as refused:
            core.counts.register_refused(refused.reason)
            text = f"a REGISTER was answered with {refused.code}: {refused.text}"
            core.alert(Alert("register", "info", key.id, text, details={"source": flow.host}), now)
            warning = b'Warning: 399 callgate "%b"' % refused.text.encode("ascii", "replace")
            core.dispatch.answer(request, server_key, refused.code, flow, now, [*refused.headers, warning])
            return
        core.dispatch.answer(request, server_key, 200, flow, now, headers)

    def _register(self, request: Message, flow: Flow, key: Key, now: float) -> list[bytes]:
        """Do what it asks for; the headers of the 200. Raises Refused, and then nothing has changed."""
        _only_known(request)
        try:
            user = self._user(request, key)
            values = contact_values(request)
            supported = _tags(request, b"supported")
            path = self._path(request, supported)
            outbound = False
            if values == [b"*"]:
                self._remove_all(request, key, user, now)
            elif values:
                room = self.core.directory.room
                if len(values) > 2 * room.per_user:
                    raise _too_many(room.per_user)
                asked = wishes(request, values)
                outbound = self._outbound(request, asked, supported, path)
                for wish in asked:
                    self._check(wish.contact, flow)
                self._bind(request, key, user, asked, outbound, path, flow, now)
        except Malformed as fault:
            raise Refused(400, "malformed", str(fault)) from None
        headers = [
            b"Contact: %b;expires=%d" % (b.contact.value, max(1, round(b.due - now)))
            for b in self.bindings.of(key.id, user)
            if b.due > now
        ]
        headers.append(b"Date: " + sip_date(now + self.core.utc_offset))
        headers.append(b"Supported: path, outbound")
        if path is not None:
            headers.append(b"Path: " + path.value)  # RFC 3327 §5.3
        if outbound:  # RFC 5626 §6, §5.4
            headers.append(b"Require: outbound")
            if path is None:
                headers.append(b"Flow-Timer: %d" % FLOW_TIMER)
        return headers

    def _user(self, request: Message, key: Key) -> bytes:
        """Whose bindings these are: the user of To, a number of the key in its canonical form (§10.3 steps 1, 4 and
        5). From is nobody's concern: inside a key one may register another (§10.2)."""
        for name, raw in (
            ("the Request-URI", request.uri),
            ("To", parse_name_addr(request.value(TO)).uri),
        ):
            uri = parse_uri(raw)
            if uri.scheme not in (b"sip", b"sips"):
                raise Refused(404, "unknown domain", f"{name} is no SIP URI")
            if not self._is_ours(uri):
                host = uri.bare_host[:80]
                text = f"{host} in {name} is no name of this gate: list it under registrar.domains"
                raise Refused(404, "unknown domain", text)
        user = unescape(uri.user)
        if len(user) > USER_MAX:
            raise Refused(404, "unknown user", f"a user of more than {USER_MAX} octets")
        number = read_dialled(user.decode("utf-8", "replace")).canonical
        for canonical in (number, "+" + number):
            owner = self.core.directory.key_of_number(canonical)
            if owner is not None and owner.id != key.id:
                raise Refused(403, "another key", "the number in To belongs to somebody else")
            if owner is not None:
                return canonical.encode()
        return user

    def _is_ours(self, uri: Uri) -> bool:
        host = uri.bare_host
        directory = self.core.directory
        return host in directory.room.domains or any(host == own for own, _ in directory.own)

    def _path(self, request: Message, supported: frozenset[bytes]) -> Path | None:
        """RFC 3327 §5.3: a Path that the UA does not know of is refused, so that it learns who stands between."""
        lines = request.find(b"path")
        if not lines:
            return None
        if b"path" not in supported:
            raise Refused(420, "extension", "a Path, but no Supported: path", b"Unsupported: path")
        path = Path([v for i in lines for v in split_list(header_value(request.lines[i]))])
        if not path.uris:
            raise Malformed("an empty Path")
        if any(self.core.directory.is_own(uri.bare_host, uri.default_port) for uri in path.uris):
            raise Refused(403, "loop", "the Path leads through this gate")
        return path

    def _outbound(
        self, request: Message, asked: list[Wish], supported: frozenset[bytes], path: Path | None
    ) -> bool:
        """Whether this is a registration of RFC 5626 (§6)."""
        flows = [wish for wish in asked if wish.contact.reg_id]
        if not flows or b"outbound" not in supported:
            return False
        if sum(wish.seconds != 0 for wish in flows) > 1:
            raise Malformed("several contacts with a reg-id")
        direct = len(request.values(VIA)) == 1
        if (path is None and not direct) or (path is not None and path.uris[-1].param(b"ob") is None):
            raise Refused(439, "first hop", "the first hop does not support outbound (RFC 5626)")
        return True

    def _check(self, contact: Contact, flow: Flow) -> None:
        """Contacts that would lead nowhere or in a circle."""
        uri = contact.uri
        maddr = uri.param(b"maddr")
        for host in (uri.bare_host, maddr.decode("ascii", "replace").lower() if maddr else ""):
            if host and self.core.directory.is_own(host, uri.default_port):
                raise Refused(403, "loop", "the contact is this gate itself")
        if uri.scheme == b"sips" and flow.listener.transport != b"TLS":
            raise Refused(400, "sips", "a sips contact needs a REGISTER over TLS")
        if contact.bulk and uri.user:
            raise Malformed("a bnc contact with a user")  # RFC 6140 §5.1

    # -- changes -------------------------------------------------------------------------------------------

    def _remove_all(self, request: Message, key: Key, user: bytes, now: float) -> None:
        """`Contact: *` (§10.3 step 6)."""
        if request.header(b"expires") != b"0":
            raise Malformed("Contact: * without Expires: 0")
        gone = self.bindings.of(key.id, user)
        for binding in gone:
            _in_order(request, binding)
        if gone:
            self._put(key.id, user, (), now)
            for binding in gone:
                self._lost(binding, "removed")

    def _bind(
        self,
        request: Message,
        key: Key,
        user: bytes,
        asked: list[Wish],
        outbound: bool,
        path: Path | None,
        flow: Flow,
        now: float,
    ) -> None:
        """§10.3 step 7: first everything is judged, then everything is done."""
        room = self.core.directory.room
        current = self.bindings.of(key.id, user)
        left, kept = list(current), list(current)
        removed: list[Binding] = []
        updates: list[tuple[Binding, Contact, int]] = []
        for wish in asked:
            contact = wish.contact
            seconds = room.longest if wish.seconds is None else min(wish.seconds, room.longest)
            if 0 < seconds < room.shortest:
                brief = b"Min-Expires: %d" % room.shortest
                raise Refused(423, "too brief", f"at least {room.shortest} seconds are needed", brief)
            old = [b for b in left if b.is_of(contact, outbound and bool(contact.reg_id))]
            for binding in old:
                _in_order(request, binding)
                left.remove(binding)
            if seconds:
                if old:
                    binding = old.pop(0)
                else:
                    binding = Binding(self, key.id, user)
                    kept.append(binding)
                updates.append((binding, contact, seconds))
            for binding in old:
                kept.remove(binding)
                removed.append(binding)
        if len(kept) > max(room.per_user, len(current)):
            raise _too_many(room.per_user)
        grown = len(kept) - len(current)
        if grown > 0 and self.bindings.count(key.id) + grown > room.per_key:
            raise Refused(403, "too many", f"the key has its {room.per_key} contacts")
        new: list[Binding] = []
        for binding, contact, seconds in updates:
            if binding.flow is None:
                new.append(binding)
            self._serial += 1
            binding.contact = contact
            binding.outbound = outbound and bool(contact.reg_id)
            binding.path = path
            binding.source = flow
            binding.call_id = request.call_id
            binding.cseq = request.cseq_number
            binding.updated = self._serial
            binding.due = now + seconds
        self._put(key.id, user, tuple(kept), now)
        for binding, _, _ in updates:
            self.bindings.move(binding, _pinned(flow))
            self.core.wheel.add(binding)
        for binding in new:
            self._note(binding, "registered")
        for binding in removed:
            self._lost(binding, "removed")

    def _put(self, key: str, user: bytes, bindings: tuple[Binding, ...], now: float) -> None:
        """Change what is bound, and have it kept."""
        if bindings != self.bindings.of(key, user):
            self._general.pop(key, None)
        self.bindings.put(key, user, bindings)
        core = self.core
        core.counts.registrations(key, self.bindings.count(key))
        core.out.append(Keep(key, user, tuple([self._row(binding) for binding in bindings])))

    def expired(self, binding: Binding, now: float) -> None:
        """Nobody has refreshed it."""
        left = tuple(other for other in self.bindings.of(binding.key, binding.user) if other is not binding)
        self._put(binding.key, binding.user, left, now)
        self._lost(binding, "expired")

    # -- flows ---------------------------------------------------------------------------------------------

    def closed(self, flow: Flow) -> None:
        """A connection has ended. What came by it may still be reached at its contact's own address, where that is
        the peer's; behind a NAT it can't be until it connects again."""
        for binding in self.bindings.of_flow(flow):
            self.bindings.move(binding, _without_connection(binding))
            if binding.flow is None:
                self._lost(binding, "its connection has ended")

    def failed(self, binding: Binding) -> None:
        """A call could not be brought there (RFC 5626 §5.3: a flow that failed is not used again)."""
        if binding.flow is not None:
            self.bindings.move(binding, None)
            self._lost(binding, "it can't be reached")

    def keeps_alive(self, data: bytes, flow: Flow) -> bool:
        """Answer a STUN keep-alive, of whoever has registered over this flow and nobody else (RFC 5626 §8)."""
        if flow.listener.reliable or not self.bindings.carries(flow):
            return False
        answer = stun_answer(data, flow)
        if answer:
            self.core.out.append(Send(flow, answer))
        return bool(answer)

    # -- calls in ------------------------------------------------------------------------------------------

    def groups(self, key: Key, number: str, asked: Uri) -> Groups:
        """Whom a call for a number of the key rings: those who are registered with that very number, else those
        with none of the key's numbers. Empty where nobody is."""
        own = self.bindings.of(key.id, number.encode())
        bindings = own or self._without_number(key)
        if asked.scheme == b"sips":  # a sip contact is no place for it, be its flow secure (RFC 5630 §5.3)
            bindings = tuple(b for b in bindings if b.contact.uri.scheme == b"sips")
        found = devices(bindings)
        gr = asked.param(b"gr") if asked.params else None
        if gr:  # RFC 5627: one very device
            meant = [
                [d for d in group if d[0].contact.uri.param(b"gr") == gr or d[0].contact.instance == gr]
                for group in found
            ]
            found = [group for group in meant if group] or found
        return [[_target(device, number) for device in group] for group in found]

    def _without_number(self, key: Key) -> tuple[Binding, ...]:
        directory = self.core.directory
        kept = self._general.get(key.id)
        if kept is not None and kept[0] == directory.generation:
            return kept[1]
        found: list[Binding] = []
        for user in self.bindings.users(key.id):
            owner = directory.key_of_number(user.decode("utf-8", "replace"))
            numbered = owner is not None and owner.id == key.id
            found += [
                binding for binding in self.bindings.of(key.id, user) if not numbered or binding.contact.bulk
            ]
        self._general[key.id] = (directory.generation, tuple(found))
        return tuple(found)

    # -- over a restart ------------------------------------------------------------------------------------

    def restore(self, row: Row, now: float) -> bool:
        """Take up a binding from before the start, once the clock is known; False where that can't be."""
        core = self.core
        key = core.directory.keys.get(row.key)
        left = min(row.expires_at - core.utc_offset - now, core.directory.room.longest)
        listener = next((x for x in core.directory.listeners if x.name == row.listener), None)
        if key is None or not key.registered or not left > 0 or listener is None:
            return False
        owner = core.directory.key_of_number(row.user.decode("utf-8", "replace"))
        if owner is not None and owner.id != key.id:
            return False
        try:
            binding = Binding(self, row.key, row.user)
            binding.contact = Contact(row.contact)
            binding.path = Path(split_list(row.path)) if row.path else None
            binding.source = Flow(listener, str(ip_address(row.host)), row.port)
        except (Malformed, ValueError):
            return False
        if not 0 < row.port < 65536:
            return False
        binding.outbound = bool(binding.contact.reg_id)
        binding.call_id, binding.cseq = row.call_id, row.cseq
        self._serial += 1
        binding.updated = self._serial
        binding.due = now + left
        self.bindings.put(row.key, row.user, (*self.bindings.of(row.key, row.user), binding))
        if listener.reliable:
            self.bindings.move(binding, _without_connection(binding))
        else:
            self.bindings.move(binding, _pinned(binding.source))
        self._general.pop(row.key, None)
        core.counts.registrations(row.key, self.bindings.count(row.key))
        core.wheel.add(binding)
        return True

    def _row(self, binding: Binding) -> Row:
        flow = binding.source
        return Row(
            binding.key,
            binding.user,
            binding.contact.value,
            binding.path.value if binding.path is not None else b"",
            binding.call_id,
            binding.cseq,
            binding.due + self.core.utc_offset,
            flow.listener.name,
            flow.host,
            flow.port,
        )

    # -- the log -------------------------------------------------------------------------------------------

    def _note(self, binding: Binding, event: str, **more: object) -> None:
        self.core.out.append(
            Note(
                event,
                key=binding.key,
                user=binding.user.decode("utf-8", "replace"),
                contact=_host_port(binding.contact.uri),
                source=repr(binding.source),
                **more,
            )
        )

    def _lost(self, binding: Binding, reason: str) -> None:
        self._note(binding, "registration lost", reason=reason)


def _only_known(request: Message) -> None:
    """RFC 3261 §8.2.2.3: what it requires and we do not know is refused by name."""
    tags = [tag for i in request.find(b"require") for tag in split_list(header_value(request.lines[i]))]
    tags += request.values(PROXY_REQUIRE)
    unknown = [tag for tag in tags if tag.lower() not in KNOWN]
    if unknown:
        text = "an extension that the registrar does not know"
        raise Refused(420, "extension", text, b"Unsupported: " + b", ".join(unknown))


def _tags(request: Message, name: bytes) -> frozenset[bytes]:
    """The option tags of a header."""
    return frozenset(
        tag.lower() for i in request.find(name) for tag in split_list(header_value(request.lines[i]))
    )


def _in_order(request: Message, binding: Binding) -> None:
    """§10.3 steps 6 and 7: of one Call-ID a later CSeq only."""
    if binding.call_id == request.call_id and request.cseq_number <= binding.cseq:
        raise Refused(500, "out of order", "an older REGISTER of the same Call-ID has come late")


def _too_many(limit: int) -> Refused:
    return Refused(403, "too many", f"more than {limit} contacts of one user")


def _host_port(uri: Uri) -> str:
    return (uri.host + (b":%d" % uri.port if uri.port else b"")).decode("ascii")


def _pinned(flow: Flow) -> Flow:
    """The flow for what goes to a phone that has registered over it."""
    pinned = Flow(flow.listener, flow.host, flow.port, flow.connection)
    pinned.trust, pinned.pinned = flow.trust, True
    return pinned


def _without_connection(binding: Binding) -> Flow | None:
    """The address that a binding's contact (or Path) names, where the REGISTER came from that very host: nobody can
    have the gate connect to a third party. Over TLS only the peer can connect: it has the certificate to check."""
    flow, uri = binding.source, binding.contact.uri
    if binding.path is not None:
        uri = binding.path.uris[0]
    if flow.listener.transport != b"TCP" or uri.bare_host != flow.host:
        return None
    if (uri.param(b"transport") or b"udp").lower() != b"tcp":
        return None
    return Flow(flow.listener, flow.host, uri.default_port)


def _target(device: tuple[Binding, ...], number: str) -> Target:
    """A device as a call tries it: its first flow, and behind that the others."""
    target: Target | None = None
    for binding in reversed(device):
        contact, path = binding.contact, binding.path
        assert binding.flow is not None
        target = Target(
            binding.flow,
            b"",
            contact.uri.raw.decode("ascii", "replace"),
            uri=contact.request_uri(number),
            device=True,
            route=path.value if path is not None else b"",
            binding=binding,
            other=target,
        )
    assert target is not None
    return target
