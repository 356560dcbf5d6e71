"""By what names recording sessions (SIPREC) and the calls that they record find each other: Call-IDs, and the halves of
session identifiers (RFC 7989). Whoever calls chooses them, so several calls may have the same: each of these is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from callgate.proxy.calls.context import Phase
from callgate.sip.message import Message
from callgate.sip.siprec import NAMES_MOST, session_ids

if TYPE_CHECKING:
    from callgate.proxy.calls.call import Call
    from callgate.proxy.contract.licence import Recording
    from callgate.proxy.core import Core

Name = tuple[str, bytes]
"""(key, name)."""


class Naming:
    """A session that is up or set up. `names`: what it names, the latest last. `recordings`: in which it is a sayer;
    those of the calls that it records, or one without a call where its names lead to none."""

    __slots__ = ("call", "leg", "names", "recordings")

    def __init__(self, session: Call) -> None:
        self.call = session
        self.leg = session.leg
        self.names: dict[bytes, None] = {}
        self.recordings: dict[Recording, None] = {}

    @property
    def without_call(self) -> Recording | None:
        """What is recorded there is not known: a call that it names may be it."""
        return next((each for each in self.recordings if not each.calls), None)


class Namings:
    """All sessions, by leg; and what of calls a session may name, but for their Call-ID."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.of: dict[int, Naming] = {}
        self._by_name: dict[Name, dict[int, Naming]] = {}
        self._ids: dict[int, Sequence[bytes]] = {}  # call → halves of its session identifier
        self._calls: dict[Name, dict[int, Call]] = {}

    def __len__(self) -> int:
        return len(self.of) + len(self._by_name) + len(self._ids) + len(self._calls)

    # -- sessions ------------------------------------------------------------------------------------------

    def opened(self, session: Call, names: Iterable[bytes]) -> Naming:
        naming = self.of[session.leg] = Naming(session)
        self.names(naming, names)
        return naming

    def closed(self, session: Call) -> Naming | None:
        """What it was, None where it is not known any more."""
        naming = self.of.pop(session.leg, None)
        if naming is not None:
            self._unname(naming, [*naming.names])
        return naming

    def names(self, naming: Naming, names: Iterable[bytes], *, instead: bool = False) -> None:
        """A session names these, besides those before or `instead` of them."""
        if instead:
            self._unname(naming, [*naming.names])
        key = naming.call.key.id
        for name in names:
            naming.names.pop(name, None)
            naming.names[name] = None
            self._by_name.setdefault((key, name), {})[naming.leg] = naming
        self._unname(naming, [*naming.names][:-NAMES_MOST])

    def _unname(self, naming: Naming, names: Iterable[bytes]) -> None:
        for name in names:
            del naming.names[name]
            _remove(self._by_name, (naming.call.key.id, name), naming.leg)

    def that_name(self, call: Call) -> list[Naming]:
        """The sessions that name a call, or what another session names; the oldest first."""
        if not self._by_name:
            return []
        naming = self.of.get(call.leg)
        names = naming.names if naming is not None else [call.call_id, *self._ids.get(call.leg, ())]
        found: dict[int, Naming] = {}
        for name in names:
            found.update(self._by_name.get((call.key.id, name), {}))
        found.pop(call.leg, None)
        return [found[leg] for leg in sorted(found)]

    # -- calls ---------------------------------------------------------------------------------------------

    def begins(self, call: Call, request: Message) -> None:
        """Note by what a session may name a new call."""
        if call.key.recorders is not None or self.of:
            self.recall(call, session_ids(request))

    def recall(self, call: Call, ids: Sequence[bytes]) -> None:
        """The halves of its session identifier."""
        if not ids:
            return
        self._ids[call.leg] = ids
        for name in ids:
            self._calls.setdefault((call.key.id, name), {})[call.leg] = call

    def ended(self, call: Call) -> None:
        for name in self._ids.pop(call.leg, ()):
            _remove(self._calls, (call.key.id, name), call.leg)

    def ids_of(self, call: Call) -> Sequence[bytes]:
        """The halves of a call's session identifier, in lower case."""
        return self._ids.get(call.leg, ())

    def calls(self, key: str, names: Iterable[bytes]) -> list[Call]:
        """The live calls of a key that have one of these names."""
        found: dict[int, Call] = {}
        for name in names:
            for call in (*self._core.by_call_id.all(name), *self._calls.get((key, name), {}).values()):
                if call.key.id == key and call.phase is not Phase.OVER and not call.is_session:
                    found[call.leg] = call
        return list(found.values())


def _remove(index: dict[Name, dict[int, Any]], name: Name, leg: int) -> None:
    kept = index[name]
    kept.pop(leg, None)
    if not kept:
        del index[name]
