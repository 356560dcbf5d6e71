"""Which calls out are forwards of calls in (V4): each holds a line besides the one that its call in holds.

A PBX that forwards says so in one of these ways, the first that there is deciding:

* `X-Inbound-Call-ID` is the Call-ID of a live call in of the same key; where the header matches none, the call is an
  ordinary one, whatever else it says;
* Diversion (RFC 5806) or History-Info (RFC 7044) names a number of the key that has a live call in: of several the one
  whose caller this call shows too, else the latest;
* Referred-By (RFC 3892) names one: a call in was transferred.

What the gate itself forwards (`bridge`) it knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from callgate.numbers import read_uri
from callgate.proxy.edge import NAME_NUMBERS
from callgate.proxy.identity.caller import asserted_of
from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr, split_list
from callgate.sip.message import FROM, Message, header_value

if TYPE_CHECKING:
    from callgate.proxy.calls.call import Call
    from callgate.proxy.core import Core
    from callgate.proxy.peers import Key

NAMES_LEG: Final = b"x-inbound-call-id"
VALUES_MOST: Final = 20
"""Values of one header that are looked at."""


class Forwards:
    """Live calls in by key and number, and by key and Call-ID, the latest last. A Call-ID may be that of several
    calls, and of calls out besides."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._legs: dict[tuple[str, str | bytes], dict[int, Call]] = {}

    def opened(self, call: Call) -> None:
        """A call in has passed its limits."""
        for name in _names(call):
            self._legs.setdefault(name, {})[call.leg] = call

    def ended(self, call: Call) -> None:
        for name in _names(call):
            legs = self._legs.get(name)
            if legs is not None and legs.pop(call.leg, None) is not None and not legs:
                del self._legs[name]

    def named(self, call_id: bytes, key: Key) -> Call | None:
        """The latest live call in of a key with that Call-ID."""
        legs = self._legs.get((key.id, call_id))
        return legs[next(reversed(legs))] if legs else None

    def leg_of(self, request: Message, key: Key) -> Call | None:
        """The call in that a new call out of a key carries on; None: it is an ordinary one."""
        own = self._core.bridge.inbound_leg(request.call_id)
        if own is not None:
            return own
        if not self._legs:
            return None
        named = request.noted(NAMES_LEG)
        if named and (value := header_value(request.lines[named[0]])):
            return self.named(value, key)
        for header in NAME_NUMBERS:
            found = self._with_numbers(request, header, key)
            if found:
                return _of_the_same_caller(found, request) or max(
                    found, key=lambda call: call.record.invite_at
                )
        return None

    def _with_numbers(self, request: Message, header: bytes, key: Key) -> list[Call]:
        """The live calls in of the numbers that a header names."""
        found: dict[int, Call] = {}
        values = [v for i in request.noted(header) for v in split_list(header_value(request.lines[i]))]
        for value in values[:VALUES_MOST]:
            number = _canonical(value)
            for spelt in (number, "+" + number):
                found.update(self._legs.get((key.id, spelt), {}))
        return list(found.values())


def _names(call: Call) -> list[tuple[str, str | bytes]]:
    """What a call in is found by. Its number is not known where only its dialog is (`foundling`)."""
    of_key: list[str | bytes] = [call.call_id, call.did] if call.did else [call.call_id]
    return [(call.key.id, name) for name in of_key]


def _canonical(value: bytes) -> str:
    try:
        return read_uri(parse_name_addr(value).uri.partition(b"?")[0]).canonical
    except Malformed:
        return ""


def _of_the_same_caller(calls: list[Call], request: Message) -> Call | None:
    """The one whose caller stands in From or P-Asserted-Identity."""
    shown = {_canonical(request.value(FROM))}
    shown.update(map(_canonical, asserted_of(request)))
    shown.discard("")
    return next((c for c in reversed(calls) if _canonical(c.caller_uri) in shown), None)
