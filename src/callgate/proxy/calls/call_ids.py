"""Calls by their Call-ID, which whoever calls chooses: several live ones may have the same, such as a call in and its
forward by a PBX that is a proxy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from callgate.proxy.calls.context import Phase

if TYPE_CHECKING:
    from callgate.proxy.calls.call import Call


class CallIds(dict[bytes, "Call"]):
    """The latest call of each Call-ID, live or ended not long ago. `all` finds those before it that are still up."""

    __slots__ = ("_before",)

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[bytes, dict[int, Call]] = {}

    def add(self, call: Call) -> None:
        """The latest one from now on."""
        before = self.get(call.call_id)
        if before is not None and before is not call and before.phase is not Phase.OVER:
            self._before.setdefault(call.call_id, {})[before.leg] = before
        self[call.call_id] = call

    def add_before(self, call: Call) -> None:
        """It is older than what there is."""
        if call.call_id in self:
            self._before.setdefault(call.call_id, {})[call.leg] = call
        else:
            self[call.call_id] = call

    def drop(self, call: Call) -> None:
        """It need not be remembered any more."""
        name = call.call_id
        before = self._before.get(name) if self._before else None
        if before is not None:
            before.pop(call.leg, None)
            if not before:
                del self._before[name]
        if self.get(name) is not call:
            return
        if before:
            self[name] = before.pop(max(before, key=lambda leg: (before[leg].phase is not Phase.OVER, leg)))
            if not before:
                del self._before[name]
        else:
            del self[name]

    def all(self, call_id: bytes) -> list[Call]:
        """The calls of a Call-ID, the latest first."""
        latest = self.get(call_id)
        if latest is None:
            return []
        if not self._before:
            return [latest]
        return [latest, *reversed(self._before.get(call_id, {}).values())]

    def every(self) -> Iterator[Call]:
        """All calls, some of them ended."""
        yield from self.values()
        for before in self._before.values():
            yield from before.values()
