"""What somebody might send who means harm, by tables: what is put where, and what comes of it.

`expected` is what the PBX of a key hears (over UDP): a status code, `passes` (on to the trunk), `silence`, or a choice
of these where any is right. What matters more is checked of every message alike (`test_hostile.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

LIMIT = 65_000
"""Octets that a hostile message is filled up to: nearly what a datagram holds."""
GATE = b"127.0.0.1:5060"
NUMBER = b"0312345678"
PASSES, SILENCE = "passes", "silence"
EVIL = b"X-Evil: yes"
"""A header that nobody wrote as one: it must stand in nothing that the gate sends."""


class Hostile(NamedTuple):
    name: str
    data: bytes
    expected: str


class Request:
    """A request in order, so that anything in it can be something else."""

    def __init__(self, n: int, method: bytes = b"INVITE") -> None:
        self.start = [method, b"sip:%b@%b" % (NUMBER, GATE), b"SIP/2.0"]
        self.headers = {
            b"Via": b"SIP/2.0/UDP 192.0.2.10:5070;branch=z9hG4bK-hostile-%d;rport" % n,
            b"Max-Forwards": b"70",
            b"From": b"<sip:1001@192.0.2.10>;tag=h%d" % n,
            b"To": b"<sip:%b@%b>" % (NUMBER, GATE),
            b"Call-ID": b"hostile-%d@192.0.2.10" % n,
            b"CSeq": b"1 " + method,
            b"Contact": b"<sip:1001@192.0.2.10:5070>",
        }
        self.more: list[bytes] = []
        self.body = b""

    def wire(self) -> bytes:
        lines = [
            b" ".join(self.start),
            *(name + b": " + value for name, value in self.headers.items()),
            *self.more,
        ]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


_SEPARATE = 1000


def _fill(piece: bytes, room: int = LIMIT - 600) -> bytes:
    return piece * (room // len(piece))


def _changed(n: int, name: bytes, value: bytes, method: bytes = b"INVITE") -> bytes:
    """`value` replaces that of a header, or is one more; `uri`, `method` and `version` are the start line's."""
    request = Request(n, method)
    value = value.replace(b"-big", b"-big-%d" % n)  # no two of them are copies of each other
    if name == b"uri":
        request.start[1] = value
    elif name == b"method":
        request.start[0] = value
    elif name == b"version":
        request.start[2] = value
    elif name in request.headers:
        request.headers[name] = value
    else:
        request.more.append(name + b": " + value)
    return request.wire()


# -- too much of it ------------------------------------------------------------------------------------------------

_VIA = b"SIP/2.0/UDP 192.0.2.10:5070;branch=z9hG4bK-big;rport"
_URI = b"sip:" + NUMBER + b"@" + GATE
FLOODS: dict[str, tuple[bytes, bytes, str]] = {
    "parameters of a Via": (b"Via", _VIA + _fill(b";a"), PASSES),
    "parameters with values of a Via": (b"Via", _VIA + _fill(b";a=b"), PASSES),
    "an escaped quote, again and again, in a Via": (b"Via", _VIA + b';x="' + _fill(b'\\"') + b'"', PASSES),
    "quotes that are never closed in a Via": (b"Via", _VIA + _fill(b';x="\\"'), "400"),
    "separators in a Via": (b"Via", _VIA + _fill(b";"), "400"),
    "commas in a Via": (b"Via", _VIA + _fill(b","), PASSES),
    "Vias in one line": (b"Via", _VIA + _fill(b",SIP/2.0/UDP h"), PASSES),
    "blanks in a Via": (b"Via", b"SIP" + _fill(b" ") + b"/2.0/UDP h;branch=z9hG4bK-blanks", PASSES),
    "folds in a Via": (b"Via", _VIA + _fill(b"\r\n ") + b";x", PASSES),
    "a host without end": (b"Via", b"SIP/2.0/UDP " + _fill(b"a.") + b";branch=z9hG4bK-host", PASSES),
    "a branch without end": (b"Via", b"SIP/2.0/UDP h;branch=z9hG4bK" + _fill(b"b"), PASSES),
    "a transport without end": (b"Via", b"SIP/2.0/" + _fill(b"T") + b" h;branch=z9hG4bK-t", PASSES),
    "parameters of To": (b"To", b"<sip:a@b>" + _fill(b";a"), PASSES),
    "quoted parameters of To": (b"To", b"<sip:a@b>" + _fill(b';a="\\""'), PASSES),
    "quotes in To": (b"To", _fill(b'"') + b"<sip:a@b>", "400"),
    "quotes behind To": (b"To", b"<sip:a@b>;x=" + _fill(b'"'), f"400 {PASSES}"),
    "backslashes in To": (b"To", b'"' + _fill(b"\\") + b'" <sip:a@b>', f"400 {PASSES}"),
    "brackets in To": (b"To", _fill(b"<"), "400"),
    "closing brackets in To": (b"To", b"<sip:a@b>" + _fill(b">"), "400"),
    "brackets deep in brackets": (
        b"To",
        _fill(b"<", LIMIT // 3) + b"sip:a@b" + _fill(b">", LIMIT // 3),
        "400",
    ),
    "words in a name": (b"To", _fill(b"a ") + b"<sip:a@b>", PASSES),
    "a To tag of 60 KB": (b"To", b"<sip:a@b>;tag=" + b"t" * 60_000, "481"),
    "a From tag of 60 KB": (b"From", b"<sip:a@b>;tag=" + b"t" * 60_000, PASSES),
    "tags without end": (b"From", b"<sip:a@b>" + _fill(b";tag=a"), "400"),
    "a Call-ID without end": (b"Call-ID", _fill(b"c"), PASSES),
    "parameters of the Request-URI": (b"uri", _URI + _fill(b";a"), PASSES),
    "digits": (b"uri", b"sip:" + _fill(b"1") + b"@" + GATE, "484"),
    "digits with hyphens": (b"uri", b"sip:" + _fill(b"1-") + b"@" + GATE, "484"),
    "escaped digits": (b"uri", b"sip:" + _fill(b"%31") + b"@" + GATE, "484"),
    "schemes in schemes": (b"uri", _fill(b"sip:") + b"@" + GATE, "484"),
    "a user of colons": (b"uri", b"sip:" + _fill(b":") + b"@" + GATE, "484"),
    "at signs": (b"uri", b"sip:" + _fill(b"@") + GATE, "400"),
    "an address of colons": (b"uri", b"sip:a@[" + _fill(b":") + b"]", "484"),
    "question marks": (b"uri", _URI + _fill(b"?"), "400"),
    "a number of the tel scheme": (b"uri", b"tel:+81" + _fill(b"1"), "484"),
    "contexts": (b"uri", b"tel:1" + _fill(b";phone-context=+81"), "484"),
    "a URN": (b"uri", b"urn:service:sos" + _fill(b".a"), "484 503"),
    "a method without end": (b"method", _fill(b"M"), "400 501"),
    "blanks in CSeq": (b"CSeq", b"1" + _fill(b" ") + b"INVITE", PASSES),
    "zeros in CSeq": (b"CSeq", _fill(b"0") + b"1 INVITE", PASSES),
    "digits in CSeq": (b"CSeq", _fill(b"9") + b" INVITE", "400"),
    "zeros in Max-Forwards": (b"Max-Forwards", _fill(b"0") + b"70", PASSES),
    "digits in Max-Forwards": (b"Max-Forwards", _fill(b"9"), "400"),
    "zeros in Content-Length": (b"Content-Length", _fill(b"0"), "400"),
    "digits in Content-Length": (b"Content-Length", _fill(b"9"), "400"),
    "folds": (b"Subject", _fill(b"\r\n "), PASSES),
    "carriage returns": (b"Subject", _fill(b"\r"), "400"),
    "line feeds": (b"Subject", _fill(b"\n"), "400"),
    "NULs": (b"Subject", _fill(b"\0"), PASSES),
    "contacts": (b"Contact", _fill(b"<sip:a@b>,"), PASSES),
    "tags that nobody supports": (b"Proxy-Require", _fill(b"a,"), "420"),
    "commas for nothing in Proxy-Require": (b"Proxy-Require", _fill(b","), PASSES),
    "routes": (b"Route", _fill(b"<sip:r@h;lr>,"), PASSES),
    "strict routes": (b"Route", _fill(b"<sip:r@h>,"), PASSES),
    "commas in Route": (b"Route", _fill(b","), f"400 {PASSES}"),
    "quotes in Route": (b"Route", _fill(b'"'), "400"),
    "brackets in Route": (b"Route", _fill(b"<"), "400"),
    "routes that lead back to us": (b"Route", _fill(b"<sip:127.0.0.1:5060;lr>,"), PASSES),
    "routes with tokens": (b"Route", _fill(b"<sip:127.0.0.1:5060;lr;cg=a>,"), PASSES),
    "Reasons": (b"Reason", _fill(b"Q.850;cause=16,"), PASSES),
}

LINES: dict[str, tuple[bytes, str]] = {
    "a thousand Vias": (b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK\r\n" * 1000, PASSES),
    "Vias": (_fill(b"v:SIP/2.0/UDP h\r\n"), PASSES),
    "Routes": (_fill(b"Route:<sip:r;lr>\r\n"), PASSES),
    "Routes to us": (_fill(b"Route:<sip:127.0.0.1:5060;lr>\r\n"), PASSES),
    "Record-Routes": (_fill(b"Record-Route:<sip:r;lr>\r\n"), PASSES),
    "Contacts": (_fill(b"m:<sip:a@b>\r\n"), PASSES),
    "Reasons": (_fill(b"Reason:x\r\n"), PASSES),
    "Proxy-Requires": (_fill(b"Proxy-Require:a\r\n"), "420"),
    "Call-IDs": (_fill(b"i:c\r\n"), "400"),
    "Froms": (_fill(b"f:<sip:a@b>;tag=1\r\n"), "400"),
    "Tos": (_fill(b"t:<sip:a@b>\r\n"), "400"),
    "Content-Lengths": (_fill(b"l:0\r\n"), "400"),
    "headers without a value": (_fill(b"a:\r\n"), PASSES),
    "lines without a name": (_fill(b":\r\n"), "400"),
    "lines without a colon": (_fill(b"a\r\n"), "400"),
    "lines of blanks": (b"a:\r\n" + _fill(b" \r\n"), PASSES),
    "headers, all different": (b"".join(b"h%d:\r\n" % i for i in range(7000)), PASSES),
    "a name without end": (_fill(b"n") + b":\r\n", PASSES),
}


def floods() -> Iterator[Hostile]:
    for n, (name, (header, value, expected)) in enumerate(FLOODS.items()):
        yield Hostile(name, _changed(n, header, value), expected)
    for n, (name, (lines, expected)) in enumerate(LINES.items()):
        request = Request(_SEPARATE + n)
        request.more.append(lines.removesuffix(b"\r\n"))
        yield Hostile(f"very many: {name}", request.wire(), expected)
    body = Request(2 * _SEPARATE)
    body.body = b"b" * (LIMIT - 600)
    yield Hostile("a body", body.wire(), PASSES)


# -- a header in a header ------------------------------------------------------------------------------------------

COPIED = (
    b"Via",
    b"From",
    b"To",
    b"Call-ID",
    b"CSeq",
    b"Timestamp",
    b"Proxy-Require",
    b"Reason",
    b"Max-Forwards",
)
"""What answers, CANCELs and our own requests are made of; then what passes."""
PASSED = (b"Contact", b"Route", b"Record-Route", b"Subject", b"uri", b"method", b"version")
ENDS: dict[str, bytes] = {
    "LF": b"\n",
    "CR": b"\r",
    "LF LF": b"\n\n",
    "CR CR": b"\r\r",
    "LF CR": b"\n\r",
    "CR blank LF": b"\r \n",
    "LF blank": b"\n ",
    "NUL": b"\0",
    "vertical tab": b"\x0b",
    "form feed": b"\x0c",
    "file separator": b"\x1c",
    "next line": b"\x85",
    "next line in UTF-8": b"\xc2\x85",
    "line separator": "\u2028".encode(),
    "escaped": b"%0d%0a",
    "backslash escapes": b"\\r\\n",
}


def injections() -> Iterator[Hostile]:
    """Something that may look like the end of a line, and a header behind it: in the middle of a value and at its
    end."""
    n = 3 * _SEPARATE
    for header in (*COPIED, *PASSED):
        plain = _plain_value(header)
        for end, octets in ENDS.items():
            for where, value in (
                ("behind", plain + octets + EVIL),
                ("in", plain[: len(plain) // 2] + octets + EVIL + octets + plain[len(plain) // 2 :]),
            ):
                n += 1
                yield Hostile(f"{end} {where} {header.decode()}", _changed(n, header, value), "")


def _plain_value(header: bytes) -> bytes:
    request = Request(7)
    others = {
        b"uri": _URI,
        b"method": b"INVITE",
        b"version": b"SIP/2.0",
        b"Timestamp": b"54.21",
        b"Proxy-Require": b"foo",
        b"Reason": b"SIP;cause=200",
        b"Route": b"<sip:r.example;lr>",
        b"Record-Route": b"<sip:r.example;lr>",
        b"Subject": b"a subject",
    }
    return request.headers.get(header) or others[header]


# -- lies ------------------------------------------------------------------------------------------------------------

LENGTHS: dict[str, tuple[str, str]] = {
    # on UDP, and whether a stream can go on
    "-1": ("400", "closed"),
    "+4": ("400", "closed"),
    "0x4": ("400", "closed"),
    "4.0": ("400", "closed"),
    "4 4": ("400", "closed"),
    "4,4": ("400", "closed"),
    "4;x": ("400", "closed"),
    "": ("400", "closed"),
    "four": ("400", "closed"),
    "99999999999": ("400", "closed"),
    "9" * 5000: ("400", "closed"),
    "18446744073709551620": ("400", "closed"),
    "4294967300": ("400", "closed"),
    "\u0664": ("400", "closed"),
    "\uff14": ("400", "closed"),
    "\u00b2": ("400", "closed"),
    "4\r\nContent-Length: 5": ("400", "closed"),
    "4\r\nl: 0": ("400", "closed"),
    "0\r\nCONTENT-LENGTH: 4": ("400", "closed"),
    "4\r\n 4": ("400", "closed"),
    "\r\n 4": (PASSES, ""),
    "4\r\n ": (PASSES, ""),
    "0004": (PASSES, ""),
    "4\r\nContent-Length: 4": ("400", ""),
    "4\r\nl : 4": ("400", ""),
    "3": (PASSES, ""),
    "0": (PASSES, ""),
    "5": ("400", "waits"),
    "65536": ("400", "waits"),
}
"""The body is `body`."""


def lengths() -> Iterator[tuple[Hostile, str]]:
    for n, (value, (expected, stream)) in enumerate(LENGTHS.items()):
        request = Request(4 * _SEPARATE + n)
        request.more.append(b"Content-Length: " + value.encode())
        request.body = b"body"
        yield Hostile(f"Content-Length: {value[:30]!r}", request.wire(), expected), stream


VALUES: dict[str, tuple[bytes, bytes, str]] = {
    # Via: who it is from, and where answers go
    "a Via of nobody": (b"Via", b"SIP/2.0/UDP 203.0.113.9:9;branch=z9hG4bK-v1;rport", PASSES),
    "a Via with maddr": (
        b"Via",
        b"SIP/2.0/UDP 192.0.2.10:5070;maddr=224.0.1.75;ttl=255;branch=z9hG4bK-v2",
        PASSES,
    ),
    "a Via with a lie about its address": (
        b"Via",
        b"SIP/2.0/UDP 192.0.2.10:5070;received=203.0.113.9;rport=99;branch=z9hG4bK-v3",
        PASSES,
    ),
    "received twice": (
        b"Via",
        b"SIP/2.0/UDP 192.0.2.10:5070;received=203.0.113.9;received=1.2.3.4;rport;branch=z9hG4bK-v4",
        PASSES,
    ),
    "rport beyond all ports": (b"Via", b"SIP/2.0/UDP 192.0.2.10:5070;rport=99999;branch=z9hG4bK-v5", PASSES),
    "a broadcast Via": (b"Via", b"SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK-v6;rport", PASSES),
    "a Via of ours": (b"Via", b"SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK-v7;rport", PASSES),
    "port 0 in a Via": (b"Via", b"SIP/2.0/UDP 192.0.2.10:0;branch=z9hG4bK-v8;rport", PASSES),
    "a port beyond 65535": (b"Via", b"SIP/2.0/UDP 192.0.2.10:65536;branch=z9hG4bK-v9;rport", "400"),
    "a port in other digits": (b"Via", "SIP/2.0/UDP 192.0.2.10:５０６０;branch=z9hG4bK-va".encode(), "400"),
    "an IPv6 zone": (b"Via", b"SIP/2.0/UDP [fe80::1%eth0]:5060;branch=z9hG4bK-vb;rport", "400"),
    "three colons": (b"Via", b"SIP/2.0/UDP [2001:db8:::1]:5060;branch=z9hG4bK-vc;rport", PASSES),
    "IPv6 without brackets": (b"Via", b"SIP/2.0/UDP 2001:db8::1;branch=z9hG4bK-vd;rport", PASSES),
    "no IPv6 in brackets": (b"Via", b"SIP/2.0/UDP [example];branch=z9hG4bK-ve;rport", "400"),
    "two branches": (b"Via", b"SIP/2.0/UDP h;branch=z9hG4bK-vf;branch=z9hG4bK-vg", "400"),
    "a branch of nothing": (b"Via", b"SIP/2.0/UDP h;branch=;rport", PASSES),
    "another protocol": (b"Via", b"HTTP/1.1/TCP h;branch=z9hG4bK-vh", "400"),
    "SIP 3 in a Via": (b"Via", b"SIP/3.0/UDP h;branch=z9hG4bK-vi", "400"),
    "an empty Via": (b"Via", b"", "400"),
    "a comma in front of the Via": (b"Via", b", SIP/2.0/UDP h;branch=z9hG4bK-vj", "400"),
    "a line of folds for a Via": (b"Via", b"\r\n \r\n \r\n ", "400"),
    # From and To
    "two addresses in From": (b"From", b"<sip:a@b>;tag=1, <sip:c@d>;tag=2", "400"),
    "two addresses in To": (b"To", b"<sip:a@b>, <sip:c@d>", "400"),
    "two tags in From": (b"From", b"<sip:a@b>;tag=1;tag=2", "400"),
    "a tag in a quoted parameter": (b"From", b'<sip:a@b>;x=";tag=1"', "400"),
    "a tag in the URI": (b"From", b"<sip:a@b;tag=1>", "400"),
    "a tag in the name": (b"From", b'";tag=1" <sip:a@b>', "400"),
    "no tag": (b"From", b"<sip:a@b>", "400"),
    "a tag that is no token": (b"From", b"<sip:a@b>;tag=a/b", "400"),
    "a tag with a NUL": (b"From", b"<sip:a@b>;tag=a\0b", "400"),
    "a star": (b"From", b"*", "400"),
    "an empty From": (b"From", b"", "400"),
    "quotes in quotes": (b"From", b'"a" "b" <sip:a@b>;tag=1', "400"),
    "a quote that is never closed": (b"From", b'"a <sip:a@b>;tag=1', "400"),
    "a line of its own": (b"From", b"\r\n <sip:a@b>\r\n ;tag=1", PASSES),
    "a NUL in quotes": (b"From", b'"a\\\0b" <sip:a@b>;tag=1', PASSES),
    "bad UTF-8": (b"From", b'"\xff\xfe\xc0\x80" <sip:a@b>;tag=1', PASSES),
    # numbers
    "CSeq 2**31 - 1": (b"CSeq", b"2147483647 INVITE", PASSES),
    "CSeq 2**31": (b"CSeq", b"2147483648 INVITE", "400"),
    "CSeq 2**32 + 1": (b"CSeq", b"4294967297 INVITE", "400"),
    "CSeq 2**64 + 1": (b"CSeq", b"18446744073709551617 INVITE", "400"),
    "a negative CSeq": (b"CSeq", b"-1 INVITE", "400"),
    "CSeq in other digits": (b"CSeq", "١ INVITE".encode(), "400"),
    "CSeq in hexadecimal": (b"CSeq", b"0x1 INVITE", "400"),
    "CSeq of another method": (b"CSeq", b"1 BYE", "400"),
    "CSeq in the wrong case": (b"CSeq", b"1 invite", "400"),
    "CSeq without a number": (b"CSeq", b"INVITE", "400"),
    "CSeq without a method": (b"CSeq", b"1", "400"),
    "CSeq with more": (b"CSeq", b"1 INVITE BYE", "400"),
    "Max-Forwards 255": (b"Max-Forwards", b"255", PASSES),
    "Max-Forwards 256": (b"Max-Forwards", b"256", "400"),
    "Max-Forwards 2**32": (b"Max-Forwards", b"4294967296", "400"),
    "Max-Forwards -1": (b"Max-Forwards", b"-1", "400"),
    "Max-Forwards in other digits": (b"Max-Forwards", "７０".encode(), "400"),
    "Max-Forwards 0": (b"Max-Forwards", b"0", "483"),
    "an empty Max-Forwards": (b"Max-Forwards", b"", "400"),
    "an empty Call-ID": (b"Call-ID", b"", "400"),
    # the start line
    "a method in the wrong case": (b"method", b"Invite", "400"),
    "a method of ours that is none": (b"method", b"SIP/2.0", "400 silence"),
    "no method": (b"method", b"", "400 silence"),
    "HTTP": (b"version", b"HTTP/1.1", SILENCE),
    "SIP 2.1": (b"version", b"SIP/2.1", "505"),
    "SIP/2.0 twice": (b"version", b"SIP/2.0 SIP/2.0", "400"),
    "two Request-URIs": (b"uri", _URI + b" sip:0990123456@h", "400"),
    "an escaped line in the Request-URI": (b"uri", b"sip:" + NUMBER + b"%0d%0aX-Evil:%20yes@" + GATE, "484"),
    "headers in the Request-URI": (b"uri", _URI + b"?Route=%3Csip:evil%3E&To=x", "400"),
    "an escaped question mark": (b"uri", _URI + b"%3FRoute=x", "400"),
    "a method in the Request-URI": (b"uri", _URI + b";method=BYE", PASSES),
    "maddr in the Request-URI": (b"uri", _URI + b";maddr=203.0.113.9", PASSES),
    "two hosts": (b"uri", b"sip:" + NUMBER + b"@203.0.113.9@" + GATE, "400"),
    "a number behind a password": (b"uri", b"sip:" + NUMBER + b":0990123456@" + GATE, "484"),
    "a number behind a parameter": (b"uri", b"sip:" + NUMBER + b";rn=0990123456@" + GATE, "484"),
    "full-width digits": (b"uri", "sip:０３１２３４５６７８@127.0.0.1:5060".encode(), f"{PASSES} 484 400"),
    "nothing but a scheme": (b"uri", b"sip:", "400"),
    "a path": (b"uri", b"/etc/passwd", "400 416"),
    "another gate's route": (b"uri", b"sip:127.0.0.1:5060;lr;cg=AAAA", "403 484"),
    # where it should go
    "a Route to a stranger": (b"Route", b"<sip:203.0.113.9;lr>", PASSES),
    "a strict Route to a stranger": (b"Route", b"<sip:203.0.113.9>", PASSES),
    "a Route to us": (b"Route", b"<sip:127.0.0.1:5060;lr>", PASSES),
    "a strict Route to us": (b"Route", b"<sip:127.0.0.1:5060>", PASSES),
    "a Route to us with a forged token": (b"Route", b"<sip:127.0.0.1:5060;lr;cg=AAAAAAAAAAAAAAAA>", PASSES),
    "a Route to us and to a stranger": (b"Route", b"<sip:127.0.0.1:5060;lr>, <sip:203.0.113.9;lr>", PASSES),
    "a Route that is none": (b"Route", b"203.0.113.9", "400"),
    "an empty Route": (b"Route", b"", f"{PASSES} 400"),
    "a Record-Route of ours": (b"Record-Route", b"<sip:127.0.0.1:5060;lr;cg=AAAA>", PASSES),
    "a Record-Route that is none": (b"Record-Route", b"<<<>>>", PASSES),
    "a Contact that is none": (b"Contact", b'"<,;', PASSES),
    "a Contact with a star": (b"Contact", b"*", PASSES),
    "a Contact of ours": (b"Contact", b"<sip:127.0.0.1:5060>", PASSES),
    "a Contact of a stranger": (b"Contact", b"<sip:a@203.0.113.9>", PASSES),
    "an extension for proxies": (b"Proxy-Require", b'a;b="c", d', "420"),
    "Require": (b"Require", b"anything, at all", PASSES),
}


def values() -> Iterator[Hostile]:
    for n, (name, (header, value, expected)) in enumerate(VALUES.items()):
        yield Hostile(name, _changed(5 * _SEPARATE + n, header, value), expected)


TWICE = (
    (b"Call-ID: a", b"i: a", "400"),
    (b"Call-ID: a", b"Call-ID: b", "400"),
    (b"From: <sip:a@b>;tag=1", b"f: <sip:a@b>;tag=1", "400"),
    (b"To: <sip:a@b>", b"T: <sip:c@d>", "400"),
    (b"CSeq: 1 INVITE", b"cseq: 1 INVITE", "400"),
    (b"Max-Forwards: 70", b"MAX-FORWARDS: 70", "400"),
    (b"Content-Length: 0", b"l: 0", "400"),
)


def doubled() -> Iterator[Hostile]:
    """Headers that stand once, twice: next to each other, far apart, in the other spelling first."""
    n = 6 * _SEPARATE
    for one, two, expected in TWICE:
        name = one.partition(b":")[0]
        for order, lines in (("", (one, two)), (" the other way round", (two, one))):
            for apart in (False, True):
                n += 1
                request = Request(n)
                request.headers.pop(name, None)
                request.more = [lines[0], *([b"Subject: between"] * 5 if apart else []), lines[1]]
                words = "apart" if apart else "together"
                yield Hostile(f"{name.decode()} twice, {words}{order}", request.wire(), expected)


def missing() -> Iterator[Hostile]:
    for n, name in enumerate((b"Via", b"From", b"To", b"Call-ID", b"CSeq", b"Max-Forwards", b"Contact")):
        request = Request(7 * _SEPARATE + n)
        del request.headers[name]
        expected = {b"Via": SILENCE, b"Max-Forwards": PASSES, b"Contact": PASSES}.get(name, "400")
        yield Hostile(f"no {name.decode()}", request.wire(), expected)


METHODS = (
    *(b"INVITE", b"ACK", b"BYE", b"CANCEL", b"OPTIONS", b"REGISTER", b"PRACK", b"UPDATE", b"INFO", b"REFER"),
    *(b"NOTIFY", b"SUBSCRIBE", b"PUBLISH", b"MESSAGE", b"UNKNOWN", b"!*~", b"%00"),
)


def strays() -> Iterator[Hostile]:
    """Of dialogs and transactions that never were: every method, with a To tag and without, with tokens of ours that
    are none; and answers to nothing."""
    n = 8 * _SEPARATE
    for method in METHODS:
        for tag in (b"", b";tag=never-was"):
            for route in (b"", b"<sip:127.0.0.1:5060;lr;cg=forged>", b"<sip:203.0.113.9;lr>"):
                n += 1
                request = Request(n, method)
                request.headers[b"To"] += tag
                if route:
                    request.headers[b"Route"] = route
                words = (
                    f"{method.decode()}{' with a To tag' if tag else ''}{' with a Route' if route else ''}"
                )
                yield Hostile(words, request.wire(), SILENCE if method == b"ACK" else "481" if tag else "")
    for code in (100, 180, 183, 199, 200, 202, 302, 401, 407, 408, 481, 487, 500, 503, 603, 699):
        for branch in (b"z9hG4bK", b"z9hG4bKnever-was", b"", b"z9hG4bK" + b"a" * 60_000):
            n += 1
            request = Request(n)
            request.headers[b"Via"] = b"SIP/2.0/UDP 127.0.0.1:5060;branch=" + branch
            request.headers[b"To"] += b";tag=never-was"
            request.start = [b"SIP/2.0", b"%d" % code, b"Answer"]
            yield Hostile(f"{code} with branch {branch[:12].decode()!r}", request.wire(), SILENCE)


def everything() -> list[Hostile]:
    return [
        *floods(),
        *injections(),
        *(hostile for hostile, _ in lengths()),
        *values(),
        *doubled(),
        *missing(),
        *strays(),
    ]
