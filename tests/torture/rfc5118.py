"""The 12 messages of RFC 5118 §4 (SIP and IPv6), by the names that the RFC gives them.

The archive of the RFC ends its lines with LF alone and leaves the header of the last two open; on the wire they end
with CRLF and an empty line. Three of its Content-Lengths (268, 181 and 236) are not those of the bodies that the RFC
prints (251, 189, 245), though it calls the messages well-formed: here they are.
"""

from __future__ import annotations

from tests.torture.rfc4475 import crlf


def _register(uri: str) -> bytes:
    return crlf(
        f"""
REGISTER {uri} SIP/2.0
To: sip:user@example.com
From: sip:user@example.com;tag=81x2
Via: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-111
Call-ID: SSG9559905523997077@hlau_4100
Max-Forwards: 70
Contact: "Caller" <sip:caller@[2001:db8::1]>
CSeq: 98176 REGISTER
Content-Length: 0

"""
    )


def _register_with_a_port(uri: str) -> bytes:
    """The same, with its Contact above Max-Forwards."""
    contact, hops = b'Contact: "Caller" <sip:caller@[2001:db8::1]>\r\n', b"Max-Forwards: 70\r\n"
    return _register(uri).replace(hops + contact, contact + hops)


def _with_body(head: str, body: str) -> bytes:
    """Content-Length is the body's."""
    octets = crlf(body)
    return crlf(head).replace(b"@LENGTH@", b"%d" % len(octets)) + octets


IPV6_GOOD = _register("sip:[2001:db8::10]")
IPV6_BAD = _register("sip:2001:db8::10")
PORT_AMBIGUOUS = _register_with_a_port("sip:[2001:db8::10:5070]")
PORT_UNAMBIGUOUS = _register_with_a_port("sip:[2001:db8::10]:5070")

VIA_RECEIVED_PARAM_WITH_DELIM = crlf(
    """
BYE sip:[2001:db8::10] SIP/2.0
To: sip:user@example.com;tag=bd76ya
From: sip:user@example.com;tag=81x2
Via: SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bKas3-111
Call-ID: SSG9559905523997077@hlau_4100
Max-Forwards: 70
CSeq: 321 BYE
Content-Length: 0

"""
)

VIA_RECEIVED_PARAM_NO_DELIM = crlf(
    """
OPTIONS sip:[2001:db8::10] SIP/2.0
To: sip:user@example.com
From: sip:user@example.com;tag=81x2
Via: SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255;branch=z9hG4bKas3
Call-ID: SSG95523997077@hlau_4100
Max-Forwards: 70
Contact: "Caller" <sip:caller@[2001:db8::9:1]>
CSeq: 921 OPTIONS
Content-Length: 0

"""
)

IPV6_IN_SDP = _with_body(
    """
INVITE sip:user@[2001:db8::10] SIP/2.0
To: sip:user@[2001:db8::10]
From: sip:user@example.com;tag=81x2
Via: SIP/2.0/UDP [2001:db8::20];branch=z9hG4bKas3-111
Call-ID: SSG9559905523997077@hlau_4100
Contact: "Caller" <sip:caller@[2001:db8::20]>
CSeq: 8612 INVITE
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: @LENGTH@

""",
    """
v=0
o=assistant 971731711378798081 0 IN IP6 2001:db8::20
s=Live video feed for today's meeting
c=IN IP6 2001:db8::20
t=3338481189 3370017201
m=audio 6000 RTP/AVP 2
a=rtpmap:2 G726-32/8000
m=video 6024 RTP/AVP 107
a=rtpmap:107 H263-1998/90000
""",
)

MULT_IP_IN_HEADER = crlf(
    """
BYE sip:user@host.example.net SIP/2.0
Via: SIP/2.0/UDP [2001:db8::9:1]:6050;branch=z9hG4bKas3-111
Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKjhja8781hjuaij65144
Via: SIP/2.0/TCP [2001:db8::9:255];branch=z9hG4bK451jj;received=192.0.2.200
Call-ID: 997077@lau_4100
Max-Forwards: 70
CSeq: 89187 BYE
To: sip:user@example.net;tag=9817--94
From: sip:user@example.com;tag=81x2
Content-Length: 0

"""
)

MULT_IP_IN_SDP = _with_body(
    """
INVITE sip:user@[2001:db8::10] SIP/2.0
To: sip:user@[2001:db8::10]
From: sip:user@example.com;tag=81x2
Via: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-111
Call-ID: SSG9559905523997077@hlau_4100
Contact: "Caller" <sip:caller@[2001:db8::9:1]>
Max-Forwards: 70
CSeq: 8912 INVITE
Content-Type: application/sdp
Content-Length: @LENGTH@

""",
    """
v=0
o=bob 280744730 28977631 IN IP4 host.example.com
s=
t=0 0
m=audio 22334 RTP/AVP 0
c=IN IP4 192.0.2.1
m=video 6024 RTP/AVP 107
c=IN IP6 2001:db8::1
a=rtpmap:107 H263-1998/90000
""",
)

IPV4_MAPPED_IPV6 = _with_body(
    """
INVITE sip:user@example.com SIP/2.0
To: sip:user@example.com
From: sip:user@east.example.com;tag=81x2
Via: SIP/2.0/UDP [::ffff:192.0.2.10]:19823;branch=z9hG4bKbh19
Via: SIP/2.0/UDP [::ffff:192.0.2.2];branch=z9hG4bKas3-111
Call-ID: SSG9559905523997077@hlau_4100
Contact: "T. desk phone" <sip:ted@[::ffff:192.0.2.2]>
CSeq: 612 INVITE
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: @LENGTH@

""",
    """
v=0
o=assistant 971731711378798081 0 IN IP6 ::ffff:192.0.2.2
s=Call me soon, please!
c=IN IP6 ::ffff:192.0.2.2
t=3338481189 3370017201
m=audio 6000 RTP/AVP 2
a=rtpmap:2 G726-32/8000
m=video 6024 RTP/AVP 107
a=rtpmap:107 H263-1998/90000
""",
)


def _options(host: str) -> bytes:
    return crlf(
        f"""
OPTIONS sip:user@{host} SIP/2.0
To: sip:user@{host}
From: sip:user@example.com;tag=810x2
Via: SIP/2.0/UDP lab1.east.example.com;branch=z9hG4bKas3-111
Call-ID: G9559905523997077@hlau_4100
CSeq: 689 OPTIONS
Max-Forwards: 70
Content-Length: 0

"""
    )


IPV6_BUG_ABNF_3_COLONS = _options("[2001:db8:::192.0.2.1]")
IPV6_CORRECT_ABNF_2_COLONS = _options("[2001:db8::192.0.2.1]")
