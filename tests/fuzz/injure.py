"""What becomes of a message on its way: octets are lost, doubled and changed, lines too, and what means something to a
reader of SIP turns up where nobody expects it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tests.fuzz.dice import Dice, pick

PIECES = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n ",
        b"\r\n\t",
        b"\r\n\r\n",
        b" ",
        b"\t",
        b"\0",
        b"\xff",
        b":",
        b";",
        b",",
        b"@",
    ),
    *(
        b'"',
        b"\\",
        b"<",
        b">",
        b"=",
        b"/",
        b"[",
        b"]",
        b"?",
        b"%",
        b"%00",
        b"%0d%0a",
        b"-1",
        b"0",
        b"00",
        b"256",
    ),
    *(
        b"999999",
        b"2147483647",
        b"2147483648",
        b"4294967296",
        b"18446744073709551616",
        b"::1",
        b"[::1]",
        b"*",
    ),
    *(b";tag=", b";tag=x", b";TAG=y", b";branch=", b";branch=z9hG4bK", b";rport", b";rport=1", b";x", b";lr"),
    *(
        b";received=203.0.113.9",
        b";maddr=203.0.113.9",
        b";cg=",
        b";cg=AAAA",
        b";lr;cg=AAAA",
        b";transport=tcp",
    ),
    *(
        b"SIP/2.0",
        b"sip/2.0",
        b"SIP/3.0",
        b"SIP/2.0/UDP ",
        b"SIP/2.0/TCP ",
        b"sip:",
        b"sips:",
        b"tel:",
        b"urn:",
    ),
    *(
        b"INVITE ",
        b"ACK ",
        b"BYE ",
        b"CANCEL ",
        b" SIP/2.0\r\n",
        b"1 INVITE",
        b"sip:127.0.0.1:5060",
        b"<sip:x>",
    ),
)
LINES = (
    *(
        b"Via: SIP/2.0/UDP h;branch=z9hG4bKh",
        b"v: SIP/2.0/TCP [::1]:5061",
        b"Via: SIP/2.0/UDP 127.0.0.1:5060",
    ),
    *(
        b"To: <sip:x>",
        b"t: <sip:x>;tag=y",
        b"From: <sip:x>;tag=z",
        b"CSeq: 1 INVITE",
        b"CSeq: 2 BYE",
        b"i: z",
    ),
    *(b"Call-ID: z", b"l: 0", b"l: 3", b"Content-Length: 99999", b"Content-Length: -1", b"Max-Forwards: 0"),
    *(
        b"Max-Forwards: 70",
        b"Route: <sip:127.0.0.1:5060;lr>",
        b"Route: <sip:203.0.113.9;lr>",
        b"Route: <sip:r>",
    ),
    *(
        b"Record-Route: <sip:r;lr>",
        b"Record-Route: <sip:127.0.0.1:5060;lr;cg=AAAA>",
        b"Contact: *",
        b"m: <sip:c>",
    ),
    *(
        b"Contact: <sip:127.0.0.1:5060>",
        b"Contact: <sip:x@203.0.113.9>",
        b"Proxy-Require: foo",
        b"Require: 100rel",
    ),
    *(
        b"Supported: timer",
        b"Session-Expires: 90;refresher=uac",
        b"Min-SE: 90",
        b"RSeq: 1",
        b"RAck: 1 1 INVITE",
    ),
    *(
        b"Privacy: id",
        b"P-Asserted-Identity: <tel:+815012345678>",
        b"P-Preferred-Identity: <sip:a>",
        b"Identity: x",
    ),
    *(
        b"Proxy-Authorization: Digest username=a",
        b"Authorization: Digest",
        b"WWW-Authenticate: Digest realm=a",
    ),
    *(b"Proxy-Authenticate: Digest realm=a", b"Retry-After: 5", b"Reason: Q.850;cause=16", b"Timestamp: 1"),
    *(
        b"Diversion: <tel:+815012345678>",
        b"History-Info: <sip:a>;index=1",
        b"Replaces: a;to-tag=b;from-tag=c",
    ),
    *(
        b"Priority: psap-callback",
        b"Max-Breadth: 1",
        b"X-Unknown: \xff\0",
        b"Subject:",
        b"no colon",
        b": no name",
    ),
    *(b"Content-Type: application/sdp", b"Expires: 60", b"Event: presence", b"P-Called-Party-ID: <sip:1@h>"),
)
"""Header lines that mean something to the gate, and some that mean nothing to anybody."""

_LINE = re.compile(rb"\r\n(?![ \t])")
Injury = Callable[[bytes, Dice, Sequence[bytes]], bytes]


def _flip(data: bytes, dice: Dice, others: Sequence[bytes]) -> bytes:
    at = dice.below(len(data))
    return data[:at] + bytes((data[at] ^ 1 << dice.below(8),)) + data[at + 1 :]


def _put(data: bytes, dice: Dice, others: Sequence[bytes]) -> bytes:
    at = dice.below(len(data) + 1)
    return data[:at] + pick(dice, PIECES) + data[at:]


def _put_over(data: bytes, dice: Dice, others: Sequence[bytes]) -> bytes:
    at, piece = dice.below(len(data) + 1), pick(dice, PIECES)
    return data[:at] + piece + data[at + len(piece) :]


def _lose(data: bytes, dice: Dice, others: Sequence[bytes]) -> bytes:
    at = dice.below(len(data))
    return data[:at] + data[at + 1 + dice.below(24) :]


def _double(data: bytes, dice: Dice, others: Sequence[bytes]) -> bytes:
    at = dice.below(len(data))
    return data[:at] + data[at : at + 1 + dice.below(40)] * (2 + dice.below(3)) + data[at:]


def _swell(data: bytes, dice: Dice, others: Sequence[bytes]) -> bytes:
    at, piece = dice.below(len(data)), pick(dice, PIECES)
    return data[:at] + piece * (1 + dice.below(60_000 // len(piece))) + data[at:]


def _cut(data: bytes, dice: Dice, others: Sequence[bytes]) -> bytes:
    return data[: dice.below(len(data)) + 1]


def _on_lines(change: Callable[[list[bytes], Dice, Sequence[bytes]], None]) -> Injury:
    """An injury to the lines of the head."""

    def injure(data: bytes, dice: Dice, others: Sequence[bytes]) -> bytes:
        head, end, body = data.partition(b"\r\n\r\n")
        lines = _LINE.split(head)
        change(lines, dice, others)
        return b"\r\n".join(lines) + end + body

    return injure


def _more(lines: list[bytes], dice: Dice, others: Sequence[bytes]) -> None:
    lines.insert(1 + dice.below(len(lines)), pick(dice, LINES))


def _again(lines: list[bytes], dice: Dice, others: Sequence[bytes]) -> None:
    lines.insert(dice.below(len(lines)) + 1, pick(dice, lines))


def _less(lines: list[bytes], dice: Dice, others: Sequence[bytes]) -> None:
    if len(lines) > 1:
        del lines[1 + dice.below(len(lines) - 1)]


def _shuffle(lines: list[bytes], dice: Dice, others: Sequence[bytes]) -> None:
    one, two = dice.below(len(lines)), dice.below(len(lines))
    lines[one], lines[two] = lines[two], lines[one]


def _of_another(lines: list[bytes], dice: Dice, others: Sequence[bytes]) -> None:
    """A line of another message in place of one of this."""
    if others:
        their = _LINE.split(pick(dice, others).partition(b"\r\n\r\n")[0])
        lines[dice.below(len(lines))] = pick(dice, their)


def _value_of_another(lines: list[bytes], dice: Dice, others: Sequence[bytes]) -> None:
    """The same header with the value that it has in another message."""
    if not others or len(lines) < 2:
        return
    at = 1 + dice.below(len(lines) - 1)
    name = lines[at].partition(b":")[0].lower()
    for line in _LINE.split(pick(dice, others).partition(b"\r\n\r\n")[0]):
        if line.partition(b":")[0].lower() == name:
            lines[at] = line


def _respell(lines: list[bytes], dice: Dice, others: Sequence[bytes]) -> None:
    at = dice.below(len(lines))
    name, colon, value = lines[at].partition(b":")
    spell = pick(dice, (bytes.upper, bytes.lower, bytes.title, lambda n: n + b" ", lambda n: n[:1]))
    lines[at] = spell(name) + colon + value


def _fold(lines: list[bytes], dice: Dice, others: Sequence[bytes]) -> None:
    at = dice.below(len(lines))
    lines[at] = lines[at].replace(b" ", b"\r\n ", 1 + dice.below(3))


INJURIES: Sequence[Injury] = (
    *(_flip, _flip, _put, _put, _put_over, _lose, _double, _cut),
    *map(_on_lines, (_more, _more, _again, _less, _shuffle, _of_another, _value_of_another, _respell, _fold)),
)


def injure(data: bytes, dice: Dice, others: Sequence[bytes]) -> bytes:
    """One to three injuries, and once in a while something very long; 65,507 octets at most."""
    for _ in range(1 + dice.below(3)):
        if data:
            data = pick(dice, INJURIES)(data, dice, others)
    if data and dice.below(64) == 63:
        data = _swell(data, dice, others)
    return data[:65_507]
