"""What a recording session (SIPREC, RFC 7866) says of itself: that it is one, and which call it records.

The metadata (RFC 7865) is XML that anybody may have written: it is searched, not parsed, so there is nothing in it to
expand, to follow or to nest; and not further than `LONGEST`.
"""

from __future__ import annotations

import re
from html import unescape
from itertools import islice
from typing import Final

from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr, split_list
from callgate.sip.message import CONTACT, Message, header_value

SOURCE: Final = b"+sip.src"
"""The feature tag of who records, in Contact (RFC 7866 §6.1.1)."""
LONGEST: Final = 65_536
"""Octets of a body that are looked at."""
NAMES_MOST: Final = 16
"""Names of a call that are taken from one message."""

_NAMED = re.compile(
    rb"<(?:[A-Za-z_][A-Za-z0-9_.\-]{0,63}+:)?+(?:sipSessionID|call-?id|original-?call-?id)(?:[ \t\r\n][^<>]{0,512}+)?+>"
    rb"([^<>]{1,512}+)</",
    re.IGNORECASE,
)
"""`sipSessionID` is what RFC 7865 §6.1 has; vendors write the Call-ID there, or into an element of their own."""
_SESSION_ID = re.compile(rb"(?<![0-9A-Za-z])(?!0{32})[0-9a-f]{32}(?![0-9A-Za-z])", re.IGNORECASE)
"""One half of a session identifier (RFC 7989 §5) that is not nil."""


_PARTIAL = re.compile(
    rb"<(?:[A-Za-z_][A-Za-z0-9_.\-]{0,63}+:)?+datamode(?:[ \t\r\n][^<>]{0,512}+)?+>"
    rb"[ \t\r\n]{0,64}+partial[ \t\r\n]{0,64}+</",
    re.IGNORECASE,
)


def is_recording_session(request: Message) -> bool:
    """Both are needed: `Require: siprec`, and `+sip.src` in Contact (RFC 7866 §6.1.1)."""
    contact = request.value(CONTACT)
    if SOURCE not in contact.lower():
        return False
    try:
        tagged = parse_name_addr(split_list(contact)[0]).param(SOURCE) is not None
    except (Malformed, IndexError):
        return False
    return tagged and any(
        option.lower() == b"siprec"
        for i in request.find(b"require")
        for option in split_list(header_value(request.lines[i]))
    )


def names_in(request: Message) -> list[bytes]:
    """What names the calls that a session records: `X-Record-Of`, and what its metadata says: Call-IDs, and the halves
    of session identifiers in lower case. None twice, and not many."""
    found = [header_value(request.lines[i]) for i in request.find(b"x-record-of")]
    for each in islice(_NAMED.finditer(request.body, 0, LONGEST), NAMES_MOST):
        text = unescape(each[1].decode("utf-8", "replace")).strip().encode()
        found.append(text.partition(b";")[0])
        found += [half.lower() for half in _SESSION_ID.findall(text)]
    return list(dict.fromkeys(filter(None, found)))[:NAMES_MOST]


def is_partial(request: Message) -> bool:
    """Whether the metadata tell what has changed only (RFC 7865 §6.1: `dataMode`); without that they tell all."""
    return _PARTIAL.search(request.body, 0, LONGEST) is not None


def session_ids(request: Message) -> list[bytes]:
    """The halves of a call's own session identifier (RFC 7989), in lower case."""
    lines = [header_value(request.lines[i]) for i in request.find(b"session-id")]
    return [half.lower() for line in lines[:2] for half in _SESSION_ID.findall(line)][:2]
