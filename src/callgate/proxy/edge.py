"""The edge of the trust domain: what goes off a message as it passes, and who a key's calls may say they are.

Whatever the gate reads for itself, and whatever one side must not learn or make the other believe, is taken off what
is forwarded, requests and responses, both ways; the message that came stays as it is. P-Asserted-Identity passes
between those who are trusted (RFC 3325): the trunk, and keys unless the config says otherwise. What a signature
covers (RFC 8224: Identity, From, To, Date, the body) is never touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from callgate.numbers import read_uri
from callgate.proxy.answer import Refusal
from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr, split_list
from callgate.sip.message import FROM, Message, header_value

if TYPE_CHECKING:
    from callgate.proxy.peers import Key

TAKEN_OFF: Final = (
    "P-Preferred-Identity",  # RFC 3325 §6: for the first proxy, and that is the gate
    "Remote-Party-ID",  # what P-Asserted-Identity replaced: nobody has checked it
    "X-Inbound-Call-ID",
    "X-Record",
    "X-Record-Of",
    "X-CallGate-Verdict",
)
ASSERTED: Final = b"p-asserted-identity"
PRIVACY: Final = b"privacy"
SHOWS_CALLER: Final = frozenset((b"INVITE", b"MESSAGE"))

CRITICAL = Refusal("privacy", "this is no privacy service (RFC 3323)", 500)
WRONG_CALLER = Refusal("I19", "the caller id is none of those that this key may show", 403)
NO_CALLER = Refusal("I19", "no caller id: neither From nor P-Asserted-Identity holds a number", 403)

_BETWEEN = re.compile(rb"[;, \t]+")

Edits = Mapping[int, bytes | None]
"""Line of a message → what it becomes; None: it goes."""
NO_EDITS: Final[Edits] = {}


class Edge:
    """Made from the config: `secret_headers` are the names of headers that prove who a key is; `asserted`: whether
    P-Asserted-Identity matters to any key.

    `names` are those of the headers that it wants to see: who reads a message notes whether it has one of them, and
    that is all that most messages cost (`Message.marked`).
    """

    def __init__(self, secret_headers: Iterable[str] = (), *, asserted: bool = True) -> None:
        off = [name.encode("ascii") for name in (*TAKEN_OFF, *secret_headers)]
        self._off = frozenset(name.lower() for name in off)
        # In every spelling (CVE-2020-28361): blanks before the colon, any case. A folded value is one line of a
        # Message.
        self.names: Final = (*self._off, PRIVACY, *((ASSERTED,) if asserted else ()))
        either = b"|".join(map(re.escape, self.names))
        self._line = re.compile(rb"(%b)[ \t]*+:" % either, re.IGNORECASE)

    def edits(self, message: Message, key: Key, *, from_pbx: bool) -> Edits:
        """What changes in a marked message between a key's PBX and its trunk."""
        edits: dict[int, bytes | None] = {}
        asserted: list[int] = []
        for i, line in enumerate(message.lines):
            found = self._line.match(line)
            if found is None or not i:
                continue
            name = found[1].lower()
            if name in self._off:
                edits[i] = None
            elif name == ASSERTED and not key.trusted:
                asserted.append(i)
        if asserted and from_pbx:  # RFC 3325 §5: whom we don't trust we don't repeat
            edits.update(dict.fromkeys(asserted))
            if key.only_number:
                edits[asserted[0]] = b"P-Asserted-Identity: " + _identity(key)
        elif asserted and b"id" in privacy(message):  # §7
            edits.update(dict.fromkeys(asserted))
        return edits


def _identity(key: Key) -> bytes:
    return b"<tel:%b>" % key.only_number.encode("ascii")


def privacy(message: Message) -> set[bytes]:
    """The values of Privacy (RFC 3323 §4.2), in lower case."""
    values: set[bytes] = set()
    for i in message.find(PRIVACY):
        values.update(_BETWEEN.split(header_value(message.lines[i]).lower()))
    return values


def judge(request: Message, key: Key, *, from_pbx: bool) -> Refusal | None:
    """Why a request outside a dialog does not pass the edge; None where it does. Never asked of an emergency call."""
    refusal = _asks_too_much(request) if request.marked else None
    if refusal is None and from_pbx and key.caller_ids is not None and request.method in SHOWS_CALLER:
        refusal = _judge_caller(request, key)
    return refusal


def _asks_too_much(request: Message) -> Refusal | None:
    """RFC 3323 §4.2, §5: a caller for whom privacy is critical is told that there is no privacy service here. `id`
    needs none: the gate keeps to it (RFC 3325)."""
    values = privacy(request)
    if b"critical" in values and values - {b"critical", b"id", b"none", b""}:
        return CRITICAL
    return None


def _judge_caller(request: Message, key: Key) -> Refusal | None:
    """I19: every number that a call shows as its caller's, in From and in P-Asserted-Identity, is one of the key's
    `caller_ids`, and there is one. A From without a number (`anonymous`) is fine beside such an identity."""
    allowed = key.caller_ids
    if allowed is None:
        return None
    shown = [request.value(FROM)]
    asserted = request.find(ASSERTED) if request.marked else ()
    if key.trusted:
        shown += [v for i in asserted for v in split_list(header_value(request.lines[i]))]
    elif asserted and key.only_number:
        shown.append(_identity(key))  # that is what leaves
    any_number = False
    for value in shown:
        try:
            number = read_uri(parse_name_addr(value).uri)
        except Malformed:
            return WRONG_CALLER
        if number.cls == "sip_uri" or not number.dialled:
            continue  # a name
        if allowed.get(number.canonical) is None:
            return WRONG_CALLER
        any_number = True
    return None if any_number else NO_CALLER
