"""Messages as octets, for comparing what came with what left. On purpose not the program's own reader."""

from __future__ import annotations

import re

_NAMES = {b"v": b"via", b"f": b"from", b"t": b"to", b"i": b"call-id", b"l": b"content-length"}
_STAMP = re.compile(rb"[ \t]*;[ \t]*(received|rport)[ \t]*(=[^;,]*)?", re.IGNORECASE)
_BLANKS = re.compile(rb"(\r\n)?[ \t]+")


class Octets:
    """A message cut into its start line, its header lines (a folded one in one piece) and its body: as many octets as
    the first Content-Length says, all that is left where it says nothing that makes sense."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        head, _, body = data.partition(b"\r\n\r\n")
        self.start, *self.lines = re.split(rb"\r\n(?![ \t])", head)
        length = self.value(b"content-length")
        self.body = body[: int(length)] if length.isdigit() else body

    @property
    def code(self) -> int:
        """0 for a request."""
        return int(self.start[8:11]) if self.start.startswith(b"SIP/2.0 ") else 0

    @property
    def method(self) -> bytes:
        return self.value(b"cseq").rpartition(b" ")[2] if self.code else self.start.partition(b" ")[0]

    def all(self, name: bytes) -> list[bytes]:
        """The lines with this header, as they are."""
        return [line for line in self.lines if name_of(line) == name]

    def line(self, name: bytes) -> bytes:
        """The first of them, empty where there is none."""
        return next(iter(self.all(name)), b"")

    def value(self, name: bytes) -> bytes:
        """Its value on one line."""
        return _BLANKS.sub(b" ", self.line(name).partition(b":")[2]).strip()


def name_of(line: bytes) -> bytes:
    name = line.partition(b":")[0].strip().lower()
    return _NAMES.get(name, name)


def tag(value: bytes) -> bytes:
    found = re.search(rb";\s*tag\s*=\s*([^;\s]+)", value.rpartition(b">")[2])
    return found[1] if found else b""


def via_port(data: bytes) -> int:
    """The port of the top Via's sent-by, 5060 where it has none: where an answer goes without rport (§18.2.2)."""
    value = Octets(data).value(b"via").split(b",")[0].split(b";")[0]
    found = re.search(rb":\s*([0-9]+)\s*$", re.sub(rb"\[[^]]*\]", b"", value))
    return int(found[1]) if found else 5060


def _plain_via(line: bytes) -> bytes:
    """A Via without the stamp of who received it, and without what is not meant by blanks and folds."""
    return re.sub(rb"\s+", b"", _STAMP.sub(b"", line))


def check_forwarded(came: bytes, left: bytes, sent_by: bytes, drops: bytes = b"") -> None:
    """`left` is `came` but for what RFC 3261 §16.6 names: our Via and Record-Route on top, one hop less, where the top
    Via says that it came from, a Content-Length for a stream. `sent_by` is the gate's; `drops` a line that is gone."""
    one, two = Octets(came), Octets(left)
    assert two.start == one.start, "the start line changed"
    assert two.body == one.body, "the body changed"
    lines = two.lines[:]
    ours = lines.pop(next(i for i, line in enumerate(lines) if name_of(line) == b"via"))
    assert sent_by in ours, f"no Via of ours on top: {ours!r}"
    assert b";branch=z9hG4bK" in ours
    recorded = [line for line in lines if name_of(line) == b"record-route" and b";lr;cg=" in line]
    lines = [line for line in lines if line not in recorded]
    assert not recorded or sent_by in recorded[0]
    hops, before = one.value(b"max-forwards"), two.value(b"max-forwards")
    assert int(before) == (int(hops) - 1 if hops else 70), "Max-Forwards (§16.6 step 3)"
    changing = (b"max-forwards", *(() if one.line(b"content-length") else (b"content-length",)))
    kept = [line for line in one.lines if name_of(line) not in changing and line != drops]
    lines = [line for line in lines if name_of(line) not in changing]
    top = next(i for i, line in enumerate(kept) if name_of(line) == b"via")
    assert _plain_via(lines[top]) == _plain_via(kept[top]), "the top Via changed beyond its stamp"
    assert b"received=" in lines[top], "no received in the top Via (§18.2.1)"
    lines[top] = kept[top]
    assert lines == kept, "headers changed"


def check_answered(came: bytes, answer: bytes, code: int) -> None:
    """An answer of the gate's own: Via, From, To, Call-ID and CSeq as they came, To with a tag, no body (§8.2.6)."""
    one, two = Octets(came), Octets(answer)
    assert two.code == code, two.start
    assert two.body == b""
    assert two.value(b"content-length") == b"0"
    assert list(map(_plain_via, two.all(b"via"))) == list(map(_plain_via, one.all(b"via"))), (
        "the Vias changed"
    )
    for name in (b"from", b"call-id", b"cseq"):
        assert two.all(name) == one.all(name)[:1], f"{name!r} changed"
    to = one.line(b"to")
    if to:
        assert two.line(b"to").startswith(to)
        assert tag(two.value(b"to"))
    if code == 420:
        assert two.value(b"unsupported") == one.value(b"proxy-require")


def answer_to(request: bytes, code: int) -> bytes:
    """What a callee answers, with its headers as they came."""
    asked = Octets(request)
    to = asked.line(b"to")
    return b"\r\n".join(
        [
            b"SIP/2.0 %d Answer" % code,
            *asked.all(b"via"),
            asked.line(b"from"),
            to if tag(asked.value(b"to")) else to + b";tag=callee",
            asked.line(b"call-id"),
            asked.line(b"cseq"),
            b"Content-Length: 0\r\n\r\n",
        ]
    )


def ack_of(invite: bytes, answer: bytes) -> bytes:
    """The ACK of a refusal (§17.1.1.3)."""
    asked, answered = Octets(invite), Octets(answer)
    number = asked.value(b"cseq").split()[0]
    via = asked.line(b"via")
    return b"\r\n".join(
        [
            asked.start.replace(b"INVITE", b"ACK", 1),
            via,
            asked.line(b"from"),
            answered.line(b"to"),
            asked.line(b"call-id"),
            b"CSeq: %b ACK" % number,
            b"Max-Forwards: 70",
            b"Content-Length: 0\r\n\r\n",
        ]
    )


def without_ours(answer: bytes) -> Octets:
    """An answer without its top Via."""
    found = Octets(answer)
    found.lines.remove(found.line(b"via"))
    return found


def check_passed_on(answer: bytes, passed: bytes) -> None:
    """A response goes up without our Via, else as it came (§16.7)."""
    one, two = without_ours(answer), Octets(passed)
    assert two.start == one.start, "the status line changed"
    assert two.lines == one.lines, "headers changed"
    assert two.body == one.body, "the body changed"


def asked_for(response: bytes) -> tuple[bytes, list[bytes]]:
    """The request that a response of the RFCs could answer, and the Vias that its answer has below ours."""
    said = Octets(response)
    vias = said.all(b"via")
    below = vias[1:] or vias
    method = said.value(b"cseq").split()[1]
    number = said.value(b"cseq").split()[0]
    to = said.line(b"to").partition(b";tag=")[0]
    lines = [
        b"%b sip:user@example.com SIP/2.0" % method,
        *below,
        b"Max-Forwards: 70",
        said.line(b"from"),
        to,
        said.line(b"call-id"),
        b"CSeq: %b %b" % (number if len(number) < 10 else b"1", method),
        b"Contact: <sip:user@client.example>",
        b"Content-Length: 0\r\n\r\n",
    ]
    return b"\r\n".join(lines), below


def as_answer(response: bytes, request: bytes) -> bytes:
    """The response with the Via that stands on top of `request`: ours in place of its first, or above its only one."""
    said, asked = Octets(response), Octets(request)
    ours = asked.line(b"via")
    vias = said.all(b"via")
    new = ours if len(vias) > 1 else ours + b"\r\n" + vias[0]
    return response.replace(vias[0], new, 1)
