"""Who is registered where: the bindings of each key, by user (RFC 3261 §10), each with the flow that its REGISTER
came by (RFC 5626).

Bounded by key and by user, so that a PBX gone mad fills its own room only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from callgate.proxy.flow import Flow
from callgate.proxy.identity.contacts import Contact, Path
from callgate.proxy.wheel import NEVER

if TYPE_CHECKING:
    from callgate.proxy.identity.registrar import Registrar

RING_MAX = 16
"""Devices that one call tries at most: as many dialogs as a forked call can have."""


class Room(NamedTuple):
    """What the registrar grants. `domains`: host names that are the gate's, besides those of its listeners. Times in
    seconds; `per_user` and `per_key` are numbers of contacts."""

    domains: frozenset[str] = frozenset()
    longest: int = 3600
    shortest: int = 60
    per_user: int = 20
    per_key: int = 2000


class Row(NamedTuple):
    """A binding as it is kept over a restart: plain values. `expires_at` is UTC in seconds; `listener` names the
    listener (its transport and sent-by), `port` is that of the peer."""

    key: str
    user: bytes
    contact: bytes
    path: bytes
    call_id: bytes
    cseq: int
    expires_at: float
    listener: str
    host: str
    port: int


class Binding:
    """One contact of one user of a key. `due`: when it expires (monotonic seconds); it waits in the core's wheel.

    `flow` is how it is reached; None while there is no way: its connection is gone. `updated` counts up with every
    REGISTER: of two flows of one device the newer one is tried first.
    """

    __slots__ = (
        "call_id",
        "contact",
        "cseq",
        "due",
        "flow",
        "key",
        "outbound",
        "path",
        "registrar",
        "slot",
        "source",
        "updated",
        "user",
    )

    contact: Contact
    source: Flow  # of its REGISTER

    def __init__(self, registrar: Registrar, key: str, user: bytes) -> None:
        self.registrar = registrar
        self.key = key
        self.user = user
        self.flow: Flow | None = None
        self.path: Path | None = None
        self.outbound = False  # RFC 5626: known by its instance and reg-id
        self.call_id = b""
        self.cseq = 0
        self.updated = 0
        self.due = NEVER
        self.slot = 0

    def is_of(self, contact: Contact, outbound: bool) -> bool:
        """Whether a contact is this one: by instance and reg-id for a registration of RFC 5626 (§6), else by its
        URI."""
        mine = self.contact
        if outbound and self.outbound:
            return mine.instance == contact.instance and mine.reg_id == contact.reg_id
        return mine.same_as(contact)

    def expire(self, now: float) -> None:
        """The wheel says that `due` has come."""
        self.due = NEVER
        self.registrar.expired(self, now)


class Bindings:
    """All of them. `of_flow` finds those that a flow carries."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[bytes, tuple[Binding, ...]]] = {}
        self._counts: dict[str, int] = {}
        self._flows: dict[Flow, set[Binding]] = {}

    def __len__(self) -> int:
        return sum(self._counts.values())

    def count(self, key: str) -> int:
        """Contacts of a key."""
        return self._counts.get(key, 0)

    def of(self, key: str, user: bytes) -> tuple[Binding, ...]:
        return self._keys.get(key, {}).get(user, ())

    def users(self, key: str) -> Iterable[bytes]:
        return self._keys.get(key, {})

    def of_flow(self, flow: Flow) -> list[Binding]:
        return list(self._flows.get(flow, ()))

    def carries(self, flow: Flow) -> bool:
        """Whether any binding is reached by that flow."""
        return flow in self._flows

    def put(self, key: str, user: bytes, bindings: tuple[Binding, ...]) -> None:
        """From now on these are the bindings of that user."""
        before = self.of(key, user)
        users = self._keys.setdefault(key, {})
        self._counts[key] = self._counts.get(key, 0) + len(bindings) - len(before)
        for binding in before:
            if binding not in bindings:
                binding.due = NEVER
                self.move(binding, None)
        if bindings:
            users[user] = bindings
        else:
            users.pop(user, None)
        if not users:
            del self._keys[key], self._counts[key]

    def move(self, binding: Binding, flow: Flow | None) -> None:
        """A binding is reached by another flow from now on; None: by none."""
        before = binding.flow
        if before is not None:
            there = self._flows.get(before, set())
            there.discard(binding)
            if not there:
                self._flows.pop(before, None)
        binding.flow = flow
        if flow is not None:
            self._flows.setdefault(flow, set()).add(binding)

    def connections(self) -> set[int]:
        """The numbers of those that bindings are reached by."""
        return {flow.connection for flow in self._flows if flow.connection}

    def __iter__(self) -> Iterator[Binding]:
        for users in self._keys.values():
            for bindings in users.values():
                yield from bindings


Device = tuple[Binding, ...]
"""The flows of one device, the one to try first at the front."""


def devices(bindings: Iterable[Binding]) -> list[list[Device]]:
    """Whom a call rings: groups by falling `q`, in a group what rings at once (RFC 3261 §16.6), at most `RING_MAX`
    devices. What a user has registered with one and the same instance is one device, the newest first: several flows of
    RFC 5626 (§5.3), or a phone that has found out that it is behind a NAT and registers the address it learnt without
    taking the first one back (RFC 5627 §5.1 asks for the latest). A binding that can't be reached is left out."""
    newest = sorted((b for b in bindings if b.flow is not None), key=_newest_first)
    found: dict[object, list[Binding]] = {}
    for binding in newest:
        instance = binding.contact.instance
        name = (binding.user, instance) if instance else id(binding)
        found.setdefault(name, []).append(binding)
    groups: dict[int, list[Device]] = {}
    for flows in list(found.values())[:RING_MAX]:
        groups.setdefault(flows[0].contact.q, []).append(tuple(flows))
    return [groups[q] for q in sorted(groups, reverse=True)]


def _newest_first(binding: Binding) -> tuple[int, int]:
    return -binding.contact.q, -binding.updated
