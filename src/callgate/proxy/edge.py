"""The edge of the trust domain: what goes off a message as it passes, and who a key's calls may say they are.

Whatever the gate reads for itself, and whatever one side must not learn or make the other believe, is taken off what
is forwarded, requests and responses, both ways; the message that came stays as it is. P-Asserted-Identity passes
between those who are trusted (RFC 3325): the trunk, and keys unless the config says otherwise. What a signature
covers (RFC 8224: Identity, From, To, Date, the body) is not touched here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from callgate.proxy.answer import Refusal
from callgate.proxy.identity.caller import ASSERTED, asserted_of, judge_caller, without_others
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
PRIVACY: Final = b"privacy"
NAME_NUMBERS: Final = (b"diversion", b"history-info", b"referred-by")
"""They may name the number whose call a new one carries on (V4). Nothing is taken off them here."""
SHOWS_CALLER: Final = frozenset((b"INVITE", b"MESSAGE"))

CRITICAL = Refusal("privacy", "this is no privacy service (RFC 3323)", 500)

_BETWEEN = re.compile(rb"[;, \t]+")

Edits = Mapping[int, bytes | None]
"""Line of a message → what it becomes; None: it goes."""
NO_EDITS: Final[Edits] = {}


class Edge:
    """Made from the config: `secret_headers` are the names of headers that prove who a key is.

    `names` are those of the headers that it, or `proxy.contract.forwards`, wants to see (`b` is Referred-By): who reads
    a message notes where it has one of them, and that is all that most messages cost (`Message.marked`).
    """

    def __init__(self, secret_headers: Iterable[str] = ()) -> None:
        self.secret_headers: Final = tuple(secret_headers)
        off = [name.encode("ascii") for name in (*TAKEN_OFF, *self.secret_headers)]
        self._off = frozenset(name.lower() for name in off)
        self.names: Final = (*self._off, PRIVACY, ASSERTED, *NAME_NUMBERS, b"b")

    def edits(self, message: Message, key: Key, *, from_pbx: bool) -> Edits:
        """What changes in a marked message between a key's PBX and its trunk."""
        edits: dict[int, bytes | None] = {}
        asserted: list[int] = []
        for i in message.marked:
            # In every spelling (CVE-2020-28361): blanks before the colon, any case. A folded value is one line.
            name = message.lines[i].partition(b":")[0].rstrip(b" \t").lower()
            if name in self._off:
                edits[i] = None
            elif name == ASSERTED:
                asserted.append(i)
        if not asserted:
            return edits
        if key.trusted:
            if from_pbx and key.caller_ids is not None and not _is_judged(message):
                for i in asserted:
                    edits[i] = without_others(message.lines[i], key.caller_ids)
        elif from_pbx:  # RFC 3325 §5: whom we don't trust we don't repeat
            edits.update(dict.fromkeys(asserted))
            if key.only_number:
                edits[asserted[0]] = b"P-Asserted-Identity: " + _identity(key)
        elif b"id" in privacy(message):  # §7
            edits.update(dict.fromkeys(asserted))
        return edits


def _identity(key: Key) -> bytes:
    return b"<tel:%b>" % key.only_number.encode("ascii")


def privacy(message: Message) -> set[bytes]:
    """The values of Privacy (RFC 3323 §4.2), in lower case."""
    values: set[bytes] = set()
    for i in message.noted(PRIVACY):
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


def _is_judged(message: Message) -> bool:
    """Whether this is a request that is refused, or goes as it is, for the caller that it shows (I19): what comes in a
    dialog, or as an answer, is never refused for that. What it may not show goes off instead."""
    return message.method in SHOWS_CALLER and not message.code and not message.to_tag


def _judge_caller(request: Message, key: Key) -> Refusal | None:
    """I19: every number that a call shows as its caller's, in From and in P-Asserted-Identity, is one of the key's
    `caller_ids`, and there is one."""
    allowed = key.caller_ids
    if allowed is None:
        return None
    values = [request.value(FROM)]
    asserted = asserted_of(request)
    if key.trusted:
        values += asserted
    elif asserted and key.only_number:
        values.append(_identity(key))  # that is what leaves
    return judge_caller(values, allowed)
