"""What a proxy does with each message of RFC 4475 and RFC 5118, and why.

`udp` and `tcp` are what happens to it alone; `within` what happens inside the dialog that its tags name, or as the
answer to a request of ours, where it names one. The words:

forwarded   on to the trunk (a response: to the caller), unharmed: nothing changed that RFC 3261 §16.6 does not name
400 …       answered so, and not forwarded
closed      and the connection is closed, for nobody can know where the next message begins
dropped     nothing is sent
waits       for the rest of the message
"""

from __future__ import annotations

from typing import NamedTuple

from tests.torture import rfc4475 as sip
from tests.torture import rfc5118 as ipv6

REGISTER = "405"
"""To a REGISTER: the gate never passes one on, and it keeps no register for a key whose PBX has a fixed address."""


class Case(NamedTuple):
    """`drops`: a header line that does not go on; `rest`: octets that complete the message on a stream."""

    name: str
    section: str
    data: bytes
    udp: str
    why: str
    tcp: str = ""
    within: str = ""
    drops: bytes = b""
    rest: bytes = b""

    @property
    def on_tcp(self) -> str:
        return self.tcp or self.udp

    @property
    def is_response(self) -> bool:
        return self.data.startswith(b"SIP/")


RFC4475 = [
    Case(
        *("wsinv", "3.1.1.1", sip.WSINV, "481"),
        why="well-formed, folded all over; its To tag names a dialog, and outside of that there is none",
        within="forwarded",
    ),
    Case("intmeth", "3.1.1.2", sip.INTMETH, "forwarded", "every sign that the grammar allows"),
    Case("esc01", "3.1.1.3", sip.ESC01, "forwarded", "escapes stay as they are"),
    Case("escnull", "3.1.1.4", sip.ESCNULL, REGISTER, "escaped NULs are read; a REGISTER goes no further"),
    Case("esc02", "3.1.1.5", sip.ESC02, "forwarded", "% is no escape in a method: an unknown one passes"),
    Case("lwsdisp", "3.1.1.6", sip.LWSDISP, "forwarded", "no blank is needed before <"),
    Case("longreq", "3.1.1.7", sip.LONGREQ, "forwarded", "34 Vias, no branch in the first"),
    Case(
        *("dblreq", "3.1.1.8", sip.DBLREQ, REGISTER),
        why="octets behind the body of a datagram are nothing; on a stream they are the next message",
        tcp=f"{REGISTER}, forwarded",
    ),
    Case(
        "semiuri",
        "3.1.1.9",
        sip.SEMIURI,
        "forwarded",
        "a semicolon in a user part is no parameter of the URI",
    ),
    Case("transports", "3.1.1.10", sip.TRANSPORTS, "forwarded", "any transport in a Via, known or not"),
    Case(
        *("mpart01", "3.1.1.11", sip.MPART01, "forwarded"),
        why="a binary body passes octet for octet; a Route that a PBX brings along chooses no next hop",
        drops=b"Route: <sip:127.0.0.1:5080>",
    ),
    Case(
        *("unreason", "3.1.1.12", sip.UNREASON, "dropped"),
        why="a reason phrase in UTF-8 passes; nobody asked for this answer",
        within="forwarded",
    ),
    Case(
        "noreason", "3.1.1.13", sip.NOREASON, "dropped", "no reason phrase; a 100 ends here", within="dropped"
    ),
    Case(
        "badinv01", "3.1.2.1", sip.BADINV01, "400", "a Via that can't be read: answered to where it came from"
    ),
    Case(
        *("clerr", "3.1.2.2", sip.CLERR, "400"),
        why="a body shorter than Content-Length; on a stream the rest may still come",
        tcp="waits",
    ),
    Case("ncl", "3.1.2.3", sip.NCL, "400", "a negative Content-Length", tcp="400, closed"),
    Case("scalar02", "3.1.2.4", sip.SCALAR02, "400", "CSeq and Max-Forwards beyond their range"),
    Case(
        "scalarlg", "3.1.2.5", sip.SCALARLG, "dropped", "a response whose CSeq is too large", within="dropped"
    ),
    Case("quotbal", "3.1.2.6", sip.QUOTBAL, "400", "a quote in To that is never closed"),
    Case("ltgtruri", "3.1.2.7", sip.LTGTRURI, "400", "a Request-URI in <>"),
    Case("lwsruri", "3.1.2.8", sip.LWSRURI, "400", "a blank in the Request-URI", within="400"),
    Case("lwsstart", "3.1.2.9", sip.LWSSTART, "400", "more than one blank in the start line"),
    Case("trws", "3.1.2.10", sip.TRWS, "400", "blanks at the end of the start line"),
    Case("escruri", "3.1.2.11", sip.ESCRURI, "400", "headers in the Request-URI"),
    Case("baddate", "3.1.2.12", sip.BADDATE, "forwarded", "Date is not a proxy's business (RFC 3261 §16.3)"),
    Case(
        "regbadct",
        "3.1.2.13",
        sip.REGBADCT,
        REGISTER,
        "nor is the Contact of a REGISTER that goes no further",
    ),
    Case("badaspec", "3.1.2.14", sip.BADASPEC, "400", "blanks inside the <> of To"),
    Case("baddn", "3.1.2.15", sip.BADDN, "400", "a comma in a name without quotes: two addresses or one?"),
    Case("badvers", "3.1.2.16", sip.BADVERS, "505", "SIP/7.0, in the Via too"),
    Case("mismatch01", "3.1.2.17", sip.MISMATCH01, "400", "CSeq names another method"),
    Case(
        "mismatch02", "3.1.2.18", sip.MISMATCH02, "501", "CSeq names another method than one that is unknown"
    ),
    Case("bigcode", "3.1.2.19", sip.BIGCODE, "dropped", "a status code of ten digits", within="dropped"),
    Case(
        "badbranch", "3.2.1", sip.BADBRANCH, "forwarded", "nothing behind z9hG4bK: matched as RFC 2543 would"
    ),
    Case("insuf", "3.3.1", sip.INSUF, "400", "no Call-ID, From or To"),
    Case("unkscm", "3.3.2", sip.UNKSCM, "416", "a scheme that nobody knows"),
    Case("novelsc", "3.3.3", sip.NOVELSC, "416", "a scheme that is none for calls"),
    Case(
        "unksm2",
        "3.3.4",
        sip.UNKSM2,
        REGISTER,
        "in To and From any scheme is good; a REGISTER goes no further",
    ),
    Case(
        "bext01",
        "3.3.5",
        sip.BEXT01,
        "420",
        "Proxy-Require with what is not supported; Require is not for us",
    ),
    Case("invut", "3.3.6", sip.INVUT, "forwarded", "a body of any kind"),
    Case("regaut01", "3.3.7", sip.REGAUT01, REGISTER, "credentials of any kind; a REGISTER goes no further"),
    Case(
        *("multi01", "3.3.8", sip.MULTI01, "400"),
        why="CSeq, Call-ID, To, From and Max-Forwards twice (and two octets less than its Content-Length)",
        rest=b"\r\n",
    ),
    Case("mcl01", "3.3.9", sip.MCL01, "400", "Content-Length twice", tcp="400, closed"),
    Case(
        *("bcast", "3.3.10", sip.BCAST, "dropped"),
        why="a second Via with a broadcast address: answers go to where the request came from, never there",
        within="forwarded",
    ),
    Case("zeromf", "3.3.11", sip.ZEROMF, "483", "Max-Forwards 0, not for the gate"),
    Case("cparam01", "3.3.12", sip.CPARAM01, REGISTER, "a REGISTER goes no further"),
    Case("cparam02", "3.3.13", sip.CPARAM02, REGISTER, "a REGISTER goes no further"),
    Case("regescrt", "3.3.14", sip.REGESCRT, REGISTER, "a REGISTER goes no further"),
    Case("sdp01", "3.3.15", sip.SDP01, "forwarded", "what the caller accepts is not a proxy's business"),
    Case(
        *("inv2543", "3.4.1", sip.INV2543, "forwarded"),
        why="no branch, From tag or Max-Forwards; on a stream nobody knows where its body ends",
        tcp="400, closed",
    ),
]

RFC5118 = [
    Case(
        "ipv6-good", "4.1", ipv6.IPV6_GOOD, REGISTER, "IPv6 references everywhere; a REGISTER goes no further"
    ),
    Case("ipv6-bad", "4.2", ipv6.IPV6_BAD, "400", "an IPv6 address without brackets in the Request-URI"),
    Case("port-ambiguous", "4.3", ipv6.PORT_AMBIGUOUS, REGISTER, "the port inside the brackets is address"),
    Case("port-unambiguous", "4.4", ipv6.PORT_UNAMBIGUOUS, REGISTER, "a port behind the brackets"),
    Case(
        *("via-received-param-with-delim", "4.5", ipv6.VIA_RECEIVED_PARAM_WITH_DELIM, "481"),
        why="received in brackets is read; a BYE of no dialog",
        within="forwarded",
    ),
    Case(
        *("via-received-param-no-delim", "4.5", ipv6.VIA_RECEIVED_PARAM_NO_DELIM, "forwarded"),
        why="received without brackets",
    ),
    Case("ipv6-in-sdp", "4.6", ipv6.IPV6_IN_SDP, "forwarded", "IPv6 in the body"),
    Case(
        *("mult-ip-in-header", "4.7", ipv6.MULT_IP_IN_HEADER, "481"),
        why="IPv4 and IPv6 in the Vias; a BYE of no dialog",
        within="forwarded",
    ),
    Case("mult-ip-in-sdp", "4.8", ipv6.MULT_IP_IN_SDP, "forwarded", "both in the body"),
    Case("ipv4-mapped-ipv6", "4.9", ipv6.IPV4_MAPPED_IPV6, "forwarded", "IPv4-mapped addresses"),
    Case("ipv6-bug-abnf-3-colons", "4.10", ipv6.IPV6_BUG_ABNF_3_COLONS, "forwarded", "three colons are read"),
    Case("ipv6-correct-abnf-2-colons", "4.10", ipv6.IPV6_CORRECT_ABNF_2_COLONS, "forwarded", "as are two"),
]

CASES = [*RFC4475, *RFC5118]
