"""Messages to read: plain ones, odd ones, and what becomes of them on a bad line."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"

HEAD = (
    b"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKabc;rport",
    b"Max-Forwards: 70",
    b"From: <sip:alice@example.jp>;tag=a1",
    b"To: <sip:bob@example.jp>",
    b"Call-ID: 1@example.jp",
    b"CSeq: 1 INVITE",
)
"""The least a request has."""


def message(
    start: bytes = b"INVITE sip:bob@example.jp SIP/2.0",
    *more: bytes,
    head: Sequence[bytes] = HEAD,
    body: bytes = b"",
) -> bytes:
    """Start line, `head`, `more` header lines, `body`."""
    return b"\r\n".join([start, *head, *more]) + b"\r\n\r\n" + body


def changed(*lines: bytes, drop: bytes = b"", body: bytes = b"") -> bytes:
    """The plain INVITE with each of `lines` in the place of the header of its name; `drop`: without that one."""
    head = list(HEAD)
    for line in lines:
        name = line.partition(b":")[0].strip().lower()
        at = next((i for i, old in enumerate(head) if old.partition(b":")[0].lower() == name), None)
        if at is None:
            head.append(line)
        else:
            head[at] = line
    return message(head=[h for h in head if h.partition(b":")[0] != drop], body=body)


PLAIN = [
    message(),
    message(
        b"INVITE sip:0312345678@192.0.2.9:5060;user=phone SIP/2.0",
        b"Contact: <sip:alice@192.0.2.1:5060>",
        b"Supported: timer, 100rel",
        b"Content-Type: application/sdp",
        b"Content-Length: %d" % len(SDP),
        body=SDP,
    ),
    message(
        b"SIP/2.0 200 OK",
        b"Record-Route: <sip:192.0.2.8;lr>",
        b"Record-Route: <sip:192.0.2.7;lr>",
        b"Contact: <sip:bob@192.0.2.9>",
        b"Content-Length: 0",
        head=[
            b"Via: SIP/2.0/UDP 192.0.2.8;branch=z9hG4bKgate.1",
            b"Via: SIP/2.0/TCP 192.0.2.1:5060;branch=z9hG4bKabc;rport=5060;received=192.0.2.1",
            b'From: "Alice" <sip:alice@example.jp>;tag=a1',
            b"To: <sip:bob@example.jp>;tag=b1",
            b"Call-ID: 1@example.jp",
            b"CSeq: 1 INVITE",
        ],
    ),
    message(
        b"BYE sip:bob@[2001:db8::9]:5070;transport=tcp SIP/2.0",
        b"Route: <sip:gate.example.jp;lr>",
        b"Reason: Q.850;cause=16",
        b"l: 0",
        head=[
            b"v: SIP/2.0/TCP [2001:db8::1]:5060;branch=z9hG4bK-7;alias",
            b"Max-Forwards: 69",
            b"f: Bob <sip:bob@example.jp>;tag=b1",
            b"t: <sip:alice@example.jp>;tag=a1",
            b"i: 1@example.jp",
            b"CSeq: 0002 BYE",
        ],
    ),
]
"""Messages as most of the world writes them: the scanner must know these."""

ODD = [
    # after RFC 4475, in our own words: valid ones …
    message(
        b"INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0",
        b"NewFangledHeader:   newfangled value\r\n continued newfangled value",
        b"UnknownHeaderWithUnusualValue: ;;,,;;,;",
        b"Route:\r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>",
        b"v:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ,\r\n SIP  /    2.0   /"
        b" UDP  192.168.255.111   ; branch=\r\n z9hG4bK30239",
        b'm:"Quoted string \\"\\"" <sip:jdrosen@example.com> ; newparam =\r\n      newvalue ;\r\n  q = 0.33',
        head=[
            b"TO :\r\n sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n",
            b'from   : "J Rosenberg \\\\\\""       <sip:jdrosen@example.com>\r\n  ;\r\n  tag = 98asjd8',
            b"MaX-fOrWaRdS: 0068",
            b"Call-ID: wsinv.ndaksdj@192.0.2.1",
            b"Content-Length   : 6",
            b"cseq: 0009\r\n  INVITE",
            b"Via  : SIP  /   2.0\r\n /UDP\r\n    192.0.2.2;branch=390skdjuw",
            b"s :",
        ],
        body=b"v=0\r\n\0",
    ),
    message(
        b"!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:"
        b"&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com SIP/2.0",
        head=[
            b"Via: SIP/2.0/TCP host1.example.com;branch=z9hG4bK-.!%66*_+`'~",
            b'To: "BEL:\\\x07 NUL:\\\x00 DEL:\\\x7f" <sip:1_unusual.URI~(to-be!sure)&isn\'t+it$,/;;*@example.com>',
            b"From: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>;from''~+*_!.-%=\"x\";tag=_token~1'+`*%!-.",
            b"Call-ID: intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{",
            b"CSeq: 139122385 !interesting-Method0123456789_*+`.%indeed'~",
            b"Max-Forwards: 255",
            b"extensionHeader-!.%*+_`'~:\xef\xbb\xbf\xe5\xa4\xa7\xe5\x81\x9c\xe9\x9b\xbb",
        ],
    ),
    changed(b"From: sip:caller@example.net;tag=134161461246"),
    changed(b'From: "a;tag=evil" <sip:a@b>;x=";tag=worse";tag=good'),
    changed(b"Via: SIP/2.0/UDP t1.example.org;branch=z9hG4bKa, SIP/2.0/UDP p2.example.org;branch=z9hG4bKb"),
    changed(b"Via: SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bKas3-111"),
    changed(b"To: isbn:2983792873"),
    b"\r\n\r\n" + message(),
    # … and invalid ones
    changed(b"Via: SIP/2.0/UDP 192.0.2.15;;,;,,"),
    changed(b"Content-Length: 9999"),
    changed(b"Content-Length: -999"),
    changed(b"CSeq: 36893488147419103232 INVITE"),
    changed(b"CSeq: 2147483648 INVITE"),
    changed(b"CSeq: 1 OPTIONS"),
    changed(b'To: "Mr. J. User <sip:j.user@example.com>'),
    message(b"INVITE <sip:user@example.com> SIP/2.0"),
    message(b"INVITE sip:user@example.com; lr SIP/2.0"),
    message(b"INVITE  sip:user@example.com  SIP/2.0"),
    message(b"OPTIONS sip:user@example.com SIP/2.0  "),
    message(b"INVITE sip:user@example.com SIP/7.0"),
    message(b"SIP/2.0 4294967301 better not break the receiver"),
    message(b"SIP/2.0 100"),
    message(b"SIP/2.0 200 "),
    changed(b"From: <>"),
    changed(b"To: <>;tag=x"),
    message().replace(b"Max-Forwards: 70", b"Max-Forwards: 70\nX: y"),
    message().replace(b"alice", b"al\0ice"),
    b"",
    b"\r\n\r\n",
    b"\0\0\0\0",
    b"hello",
]
"""What a reader must not stumble over."""

_PIECES = [
    *(b"\r\n", b"\n", b"\r", b"\r\n ", b"\r\n\t", b"\r\n\r\n", b" ", b"\t", b"\0", b"\xff", b":", b";", b","),
    *(
        b'"',
        b"\\",
        b"<",
        b">",
        b"=",
        b"/",
        b"[",
        b"]",
        b"@",
        b"?",
        b"-1",
        b"0",
        b"00",
        b"999999",
        b"2147483647",
    ),
    *(b";tag=", b";tag=x", b";TAG=y", b";branch=", b";branch=z9hG4bK", b";rport", b";rport=1", b";x", b"::1"),
    *(b"SIP/2.0", b"sip/2.0", b"SIP/2.0/UDP ", b"SIP/2.0/udp ", b"Via", b"v", b"Via: SIP/2.0/UDP h\r\n"),
    *(b"To: <sip:x>\r\n", b"CSeq: 1 A\r\n", b"Call-ID: z\r\n", b"l: 0\r\n", b"l: 3\r\n", b"X: y\r\n", b"<>"),
    *(b"Content-Length: 5\r\n", b"Route: <sip:r;lr>\r\n", b"Contact: *\r\n", b"INVITE ", b" SIP/2.0\r\n"),
]


def mutations(seed: int, count: int, corpus: Sequence[bytes]) -> Iterator[bytes]:
    """`count` messages of the corpus with one to three injuries each: flipped bits, inserts, deletions, doublings,
    truncations, changed case, and pieces that mean something put in or put over."""
    dice = random.Random(seed)
    pick, below = dice.choice, dice.randrange
    for _ in range(count):
        data = bytearray(pick(corpus))
        for _ in range(below(3) + 1):
            at, size = below(len(data) + 1), below(4) + 1
            kind = below(8)
            if kind == 0 and at < len(data):
                data[at] ^= 1 << below(8)
            elif kind == 1:
                data[at:at] = pick(_PIECES)
            elif kind == 2:
                data[at : at + size] = b""
            elif kind == 3:
                data[at : at + size] = pick(_PIECES)
            elif kind == 4:
                data[at:at] = data[at : at + 8 * size]
            elif kind == 5 and below(4) == 0:
                del data[at:]
            elif kind == 6:
                data[at : at + 8 * size] = data[at : at + 8 * size].swapcase()
            else:
                data[at : at + 1] = bytes([below(256)])
        yield bytes(data)
