"""What is told to a person and refuses nothing: many numbers at once (V2), the same call again and again (V13), fax
over T.38 (K7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.policy.watch import Breadth, Repeats
from callgate.proxy.commands import Alert
from callgate.proxy.peers import DOMESTIC, Key
from callgate.sip.sdp import T38

if TYPE_CHECKING:
    from callgate.proxy.calls.call import Call
    from callgate.proxy.core import Core


class Observer:
    """`leaves` and `ended` for each ordinary call out, `media` for each offer with an image in it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._breadth: dict[str, Breadth] = {}  # by key
        self._repeats = Repeats()
        self._faxes: set[str] = set()  # keys that have been told of

    def leaves(self, call: Call, now: float) -> None:
        """The call's first INVITE is on its way."""
        key, number = call.key, call.record.canonical
        watching = key.watching
        if watching.distinct is not None and number.startswith(DOMESTIC):
            breadth = self._breadth.get(key.id)
            if breadth is None:
                breadth = self._breadth[key.id] = Breadth()
            count = breadth.called(number, watching.distinct_seconds, now)
            if count >= watching.distinct:
                text = (
                    f"{count} different numbers of Japan within {watching.distinct_seconds:g} s, or at once: "
                    f"from {watching.distinct} on the carrier is to be asked first"
                )
                self._core.alert(Alert("V2", "warning", key.id, text, count, watching.distinct), now)
        if watching.repeats is not None:
            pair = (key.id, call.record.caller_raw, number)
            if self._repeats.called(pair, watching.repeats, watching.repeat_seconds, now):
                text = (
                    f"one caller has called one number {watching.repeats} times within "
                    f"{watching.repeat_seconds:g} s: a program may be running wild"
                )
                details = {"caller": call.record.caller_raw, "dialled": call.record.raw}
                alert = Alert("V13", "warning", key.id, text, limit=watching.repeats, details=details)
                self._core.alert(alert, now)

    def ended(self, call: Call) -> None:
        """A call that had left is over."""
        breadth, number = self._breadth.get(call.key.id), call.record.canonical
        if breadth is not None and call.key.watching.distinct is not None and number.startswith(DOMESTIC):
            breadth.ended(number)

    def media(self, key: Key, body: bytes, now: float) -> None:
        """An offer in an INVITE or UPDATE of one of the key's calls. Told once per key."""
        if key.watching.fax and key.id not in self._faxes and T38.search(body):
            self._faxes.add(key.id)
            text = "a fax over T.38: the carrier does not promise that faxes work"
            self._core.alert(Alert("K7", "info", key.id, text), now)
