"""Answers that the gate gives itself (RFC 3261 §8.2.6), and why a call was refused."""

from __future__ import annotations

from callgate.sip.message import CALL_ID, CSEQ, FROM, TIMESTAMP, TO, VIA, Message, wire

PHRASES = {
    100: b"Trying",
    200: b"OK",
    380: b"Alternative Service",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    407: b"Proxy Authentication Required",
    408: b"Request Timeout",
    416: b"Unsupported URI Scheme",
    420: b"Bad Extension",
    423: b"Interval Too Brief",
    439: b"First Hop Lacks Outbound Support",
    440: b"Max-Breadth Exceeded",
    480: b"Temporarily Unavailable",
    481: b"Call/Transaction Does Not Exist",
    482: b"Loop Detected",
    483: b"Too Many Hops",
    484: b"Address Incomplete",
    486: b"Busy Here",
    487: b"Request Terminated",
    488: b"Not Acceptable Here",
    500: b"Server Internal Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    505: b"Version Not Supported",
    513: b"Message Too Large",
}


UNITS = {"V1": " per second", "K4": " seconds"}
"""What the figures of a limit's rule are, where that is not clear."""


class Refusal:
    """Why a call does not pass: the rule, the value it would have reached, the limit; a text for people.

    `note` is what a person should know besides. `code` answers the PBX; a call of the trunk gets `inbound_code`.
    `shown` is False where the other side is to
    learn nothing (strangers).
    """

    __slots__ = ("code", "inbound_code", "limit", "note", "rule", "shown", "text", "value", "warning")

    def __init__(
        self,
        rule: str,
        text: str,
        code: int,
        inbound_code: int = 0,
        value: int = 0,
        limit: int = 0,
        shown: bool = True,
        note: str = "",
        warning: int = 399,
    ) -> None:
        self.note = note
        self.warning = warning
        self.rule = rule
        self.text = text
        self.code = code
        self.inbound_code = inbound_code or code
        self.value = value
        self.limit = limit
        self.shown = shown

    def headers(self) -> list[bytes]:
        """What tells a PBX why. The trunk is never shown these."""
        if not self.shown:
            return []
        count = f" {self.value}/{self.limit}" if self.limit or self.value else ""
        unit = UNITS.get(self.rule, "")
        note = f", {self.note}" if self.note else ""
        text = f"{self.rule} {self.text}{count}{unit}{note}".strip().replace("\\", "").replace('"', "'")
        verdict = f"X-CallGate-Verdict: rule={self.rule}"
        if count:
            verdict += f";value={self.value};limit={self.limit}"
        return [
            b'Warning: %d callgate "%b"' % (self.warning, text.encode("ascii", "replace")),
            verdict.encode("ascii", "replace"),
        ]


NOT_SECURE = Refusal("sips", "SIPS Not Allowed", 480, warning=380)
"""A SIPS URI where one hop is not TLS: never a downgrade (RFC 3261 §26.2.2, RFC 5630 §4)."""

LIMITS = {
    "V1": "rate",
    "V3": "inbound calls",
    "V4": "lines",
    "C2": "outbound calls",
    "I1": "recordings",
    "K6": "calls",
    "K11": "calls, the trunk is congested:",
    "K4": "redial gap",
    "V2": "different numbers",
    "store": "no verdict of the store in time",
}
"""What a limit's rule is called in a Warning."""


def refused_by_limit(rule: str, value: int, limit: int, note: str = "", text: str = "") -> Refusal:
    """Limits refuse outbound calls with 503 and without Retry-After (with it, RFC 3261 §21.5.4 stops the whole
    PBX), inbound ones with 486."""
    return Refusal(
        *(rule, text or LIMITS.get(rule, "limit"), 403 if rule == "K4" else 503, 486, value, limit), note=note
    )


NO_KEY = Refusal("no-key", "unknown source", 403, shown=False)
DRAINING = Refusal("drain", "the gate is going down", 503)
NO_DIALOG = Refusal("", "", 481, shown=False)


def reply(
    request: Message, code: int, to_tag: bytes = b"", extra: list[bytes] | None = None, phrase: bytes = b""
) -> bytes:
    """A response to `request` with its Via, From, To, Call-ID and CSeq; `to_tag` is added where To has none.

    Headers that are missing from a malformed request are left out.
    """
    lines = [b"SIP/2.0 %d %b" % (code, phrase or PHRASES.get(code, b"Answer"))]
    source = request.lines
    lines.extend([source[i] for i in request.places(VIA)])
    at = request.at
    for slot in (FROM, TO, CALL_ID, CSEQ):
        i = at.get(slot)
        if i is not None:
            lines.append(source[i])
            if slot == TO and to_tag and not request.to_tag:
                lines[-1] += b";tag=" + to_tag
    if code == 100 and TIMESTAMP in at:
        lines.append(source[at[TIMESTAMP]])  # RFC 3261 §8.2.6.1
    if extra:
        lines += extra
    lines.append(b"Content-Length: 0")
    return wire(lines, b"")


def rank(code: int) -> tuple[int, int]:
    """RFC 3261 §16.7 step 6; a 503 comes last."""
    if code >= 600:
        return 0, 0
    if code == 503:
        return 9, 0
    return code // 100, 0 if code in (401, 407, 415, 420, 484) else 1
