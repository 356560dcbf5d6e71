"""One run of the fuzzer: a gate, a PBX, a carrier and a stranger, who call, answer, hang up, repeat themselves, forge
and send rubbish in any order, while time passes and the store answers late or never.

What is checked: no fault of ours; the C scanner reads what Python reads; what leaves is SIP; and after a silence
nothing is left (`World.ends`).
"""

from __future__ import annotations

import gc
import random
import re
from collections.abc import Callable, Sequence
from time import thread_time
from typing import Any, NamedTuple

from tests.fuzz.dice import Dice, pick
from tests.fuzz.injure import injure
from tests.proxy.agent import SDP, Agent
from tests.proxy.callers import PASSWORD, credentials, knows
from tests.proxy.challenge import ACCOUNT, STALE, challenge
from tests.proxy.ladder import DIALLED, DID
from tests.proxy.stores import ALL
from tests.proxy.text import Text
from tests.torture import wire
from tests.torture.rack import Rack
from tests.torture.wire import Octets

from callgate.proxy.directory import Probing
from callgate.proxy.trunk.health import Rules
from callgate.proxy.trunk.places import Place
from callgate.proxy.trunk.registration import Wanted
from callgate.sip import message, scanner
from callgate.sip.errors import Malformed
from callgate.sip.fields import Via
from callgate.sip.framing import Broken, Framer
from callgate.sip.message import Message, parse_slowly

KEPT = 12
"""Messages of a kind that a side remembers."""
WORLDS: Sequence[dict[str, Any]] = (
    {},
    {"any_number": True},
    {"over": "TCP"},
    {"carrier_over": "TCP"},
    {"over": "TLS", "carrier_over": "TLS"},
    {"listens": ("TCP",)},
    {"gateways": 2, "try_seconds": 1.0},
    {"cps": 1, "outbound_calls": 2, "calls": 3},
    {"phones": 3},
    {"registered": True},
    {"account": ACCOUNT},
    {"max_call_seconds": 20.0},
    {"probing": Probing(interval=20.0, misses=2, gap=2.0)},
    {"trusted": False, "caller_ids": (DID,)},
    {"secret_headers": ("X-Secret",)},
    {"pbx_host": "2001:db8::7"},
    {"rules": Rules(interval=30.0, timeout=2.0, down_after=1), "gateways": 2},
    {"register": Wanted(b"sip:0312345678@sip.example.jp", 300), "account": ACCOUNT},
    {"trunk_name": "sip:trunk.example", "gateways": 2},
    {"knows": {"sources": ("192.0.2.10",), "header": True}},
    {"knows": {"header": True}},
    {"knows": {"sources": ("192.0.2.10",), "require": ("digest",)}},
)
NUMBERS = (DIALLED, DIALLED, DID, "110", "0990123456", "+81312345678", "1840312345678", "nobody", "")
CODES = (100, 180, 183, 200, 200, 200, 202, 302, 401, 407, 408, 422, 481, 486, 487, 491, 500, 503, 603)
INSIDE = (
    b"INVITE",
    b"UPDATE",
    b"INFO",
    b"PRACK",
    b"REFER",
    b"NOTIFY",
    b"OPTIONS",
    b"BYE",
    b"BYE",
    b"MESSAGE",
)
OUTSIDE = (
    b"OPTIONS",
    b"MESSAGE",
    b"SUBSCRIBE",
    b"REGISTER",
    b"REGISTER",
    b"PUBLISH",
    b"NOTIFY",
    b"FOO",
    b"BYE",
)
MORE = (
    *(b"", b"", b"", b"", challenge("n1").encode(), challenge("n2", more=STALE).encode(), b"Privacy: id"),
    *(b"Supported: timer, 100rel", b"Session-Expires: 90", b"Min-SE: 90", b"Expires: 0", b"Require: timer"),
    *(b'Proxy-Authenticate: Digest realm="r", nonce="n"', b"Retry-After: 3", b"RSeq: 1", b"X-Secret: s"),
    b'Proxy-Authorization: Digest username="u", realm="r", nonce="n", uri="sip:x", response="0"',
    *(b"P-Asserted-Identity: <tel:+815012345678>", b"Path: <sip:p;lr>", b"Priority: psap-callback"),
)
LONGEST = 100.0
"""Seconds after which a call ends that nobody has ended."""
SILENCE = LONGEST + 300.0
PLACES = tuple(Place(0, 1, b"UDP", 5080, (host,)) for host in ("198.51.100.1", "198.51.100.2"))
LONG_WAITS = (0.001, 0.02, 0.2, 0.5, 1.0, 4.0, 11.0, 33.0, 65.0, 185.0)


class Dialog(NamedTuple):
    call_id: bytes
    local: bytes
    remote: bytes
    target: bytes
    routes: tuple[bytes, ...]


class Memory:
    """What a side has sent and got. `dialogs` are those that it is in."""

    def __init__(self) -> None:
        self.said: list[bytes] = []
        self.requests: list[bytes] = []
        self.answers: list[bytes] = []
        self.dialogs: list[Dialog] = []

    def keep(self, kind: str, what: Any) -> None:
        kept = getattr(self, kind)
        kept.append(what)
        del kept[:-KEPT]


class Figures:
    """What the runs have shown. Seconds are of CPU."""

    def __init__(self) -> None:
        self.runs = 0
        self.messages = 0
        self.octets = 0
        self.slowest = 0.0
        self.slowest_message = b""

    def took(self, seconds: float, data: bytes) -> None:
        self.messages += 1
        self.octets += len(data)
        if seconds > self.slowest:
            self.slowest, self.slowest_message = seconds, data


class Play:
    """`steps` of them, unless the dice are empty before."""

    def __init__(self, dice: Dice, figures: Figures) -> None:
        self.dice = dice
        self.figures = figures
        self.number = 0
        self.whole = False
        self.code = 0  # not 0: what all answers are
        options = dict(pick(dice, WORLDS))
        over, known = options.pop("over", "UDP"), options.pop("knows", None)
        options.setdefault("any_number", False)
        options.setdefault("max_call_seconds", LONGEST)
        self.rack = Rack(over, store=pick(dice, ALL), **options)
        if known is not None:
            knows(self.rack, **known)
        if "trunk_name" in options:
            self.rack.located(*PLACES)
        self.rack.spread()
        self.sides = self.rack.agents
        self.memories = {side.name: Memory() for side in self.sides}

    # -- the course of it ------------------------------------------------------------------------------------

    def run(self, steps: int) -> None:
        try:
            for _ in range(steps):
                if self.dice.empty:
                    break
                pick(self.dice, STEPS)(self)
                self.collect()
            self.rack.after(SILENCE)
            self.rack.out = []
            self.rack.ends()
        finally:
            gc.unfreeze()
            gc.enable()
        self.figures.runs += 1

    def sends(self, side: Agent, data: bytes, *, keep: bool = True) -> None:
        """To the gate; one in three is hurt on the way, unless all are `whole`. `keep`: it may be repeated later."""
        memory = self.memories[side.name]
        if keep:
            memory.keep("said", data)
        if not self.whole and not self.dice.below(3):
            others = [data for other in self.memories.values() for data in (*other.said, *other.requests)]
            data = injure(data, self.dice, others)
        if not data:
            return
        same_reading(data)
        began = thread_time()
        self.rack.takes(data, side.flow)
        self.figures.took(thread_time() - began, data)
        self.collect()

    def collect(self) -> None:
        """What the gate has sent goes to where it belongs."""
        sent, self.rack.out = self.rack.out or [], []
        for send in sent:
            is_sip(send.data)
            side = self._at(send.flow.host)
            if side is None:
                continue
            memory = self.memories[side.name]
            text = Octets(send.data)
            if not text.code:
                memory.keep("requests", send.data)
                continue
            memory.keep("answers", send.data)
            if text.code > 100 and text.method in (b"INVITE", b"SUBSCRIBE") and wire.tag(text.value(b"to")):
                target, routes = uri_of(text.value(b"contact")), values(text, b"record-route")
                memory.keep(
                    "dialogs",
                    Dialog(
                        text.value(b"call-id"), text.value(b"from"), text.value(b"to"), target, routes[::-1]
                    ),
                )

    def _at(self, host: str) -> Agent | None:
        return next((side for side in self.sides if side.flow.host == host), None)

    # -- steps -------------------------------------------------------------------------------------------------

    def _new(self, side: Agent, method: bytes, number: str, body: bytes = b"") -> bytes:
        self.number += 1
        call_id = b"call-%d" % self.dice.below(8) if self.dice.below(4) else b"call-%d" % (100 + self.number)
        user = number.encode() + b"@" if number else b""
        uri = b"sip:%b%b" % (user, self.rack.gate.encode())
        scheme = self.dice.below(12)
        if scheme == 11:
            uri = uri.replace(b"sip:", b"sips:")
        elif scheme == 10:
            uri = b"tel:" + number.encode()
        lines = [
            b"%b %b SIP/2.0" % (method, uri),
            self._via(side),
            b"Max-Forwards: 70",
            b"From: <sip:%b@%b>;tag=%b"
            % (b"1001", self.rack.pbx.sent_by.encode(), b"f%d" % self.dice.below(4)),
            b"To: <%b>" % uri,
            b"Call-ID: " + call_id,
            b"CSeq: %d %b" % (1 + self.dice.below(3), method),
            b"Contact: " + side.contact.encode(),
        ]
        return self._written(lines, body)

    def _via(self, side: Agent) -> bytes:
        self.number += 1
        branch = b"z9hG4bK-%b-%d" % (side.name.encode(), self.number)
        return b"Via: SIP/2.0/%b %b;branch=%b;rport" % (
            side.transport.encode(),
            side.sent_by.encode(),
            branch,
        )

    def _written(self, lines: list[bytes], body: bytes) -> bytes:
        more = pick(self.dice, MORE)
        if more:
            lines.append(more)
        if body:
            lines.append(b"Content-Type: application/sdp")
        lines.append(b"Content-Length: %d" % len(body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    def _anybody(self, having: str = "") -> Agent:
        """Some side; if there are any, one whose memory holds this."""
        sides = [side for side in self.sides if not having or getattr(self.memories[side.name], having)]
        return pick(self.dice, sides or self.sides)

    def call_out(self) -> None:
        self.sends(self.rack.pbx, self._new(self.rack.pbx, b"INVITE", pick(self.dice, NUMBERS), SDP))

    def call_in(self) -> None:
        side = pick(self.dice, self.rack.gateways)
        self.sends(
            side, self._new(side, b"INVITE", DID if self.dice.below(6) else pick(self.dice, NUMBERS), SDP)
        )

    def outside(self) -> None:
        side = self._anybody()
        self.sends(side, self._new(side, pick(self.dice, OUTSIDE), pick(self.dice, NUMBERS)))

    def strange(self) -> None:
        side = self.rack.stranger
        self.sends(side, self._new(side, pick(self.dice, (b"INVITE", *OUTSIDE)), pick(self.dice, NUMBERS)))

    def answers(self) -> None:
        """Some side answers one of the last requests that it got."""
        side = self._anybody("requests")
        memory = self.memories[side.name]
        if not memory.requests:
            return
        request = memory.requests[-1 - self.dice.below(min(4, len(memory.requests)))]
        asked = Octets(request)
        code = self.code or pick(self.dice, CODES)
        tag = b"t%d" % self.dice.below(3)
        answer = wire.answer_to(request, code).replace(b";tag=callee", b";tag=" + tag)
        lines = [*asked.all(b"record-route"), b"Contact: " + side.contact.encode()]
        more = pick(self.dice, MORE)
        lines += [more] if more else []
        body = SDP if code == 200 and asked.method == b"INVITE" else b""
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        answer = answer.replace(b"Content-Length: 0\r\n\r\n", b"\r\n".join([*lines, length])) + body
        if 100 < code < 300 and asked.method in (b"INVITE", b"SUBSCRIBE"):
            said = Octets(answer)
            target, routes = uri_of(asked.value(b"contact")), values(asked, b"record-route")
            memory.keep(
                "dialogs",
                Dialog(asked.value(b"call-id"), said.value(b"to"), asked.value(b"from"), target, routes),
            )
        self.sends(side, answer)

    def inside(self, method: bytes = b"") -> None:
        """A request in one of a side's dialogs; once in a while in somebody else's."""
        side = self._anybody("dialogs")
        owner = side if self.dice.below(8) else self._anybody()
        dialogs = self.memories[owner.name].dialogs
        if not dialogs:
            return
        dialog = pick(self.dice, dialogs)
        method = method or pick(self.dice, INSIDE)
        lines = [
            b"%b %b SIP/2.0" % (method, dialog.target or b"sip:nobody@192.0.2.1"),
            self._via(side),
            *([b"Route: " + b", ".join(dialog.routes)] if dialog.routes and self.dice.below(8) else []),
            b"Max-Forwards: 70",
            b"From: " + dialog.local,
            b"To: " + dialog.remote,
            b"Call-ID: " + dialog.call_id,
            b"CSeq: %d %b" % (1 + self.dice.below(20), method),
            b"Contact: " + side.contact.encode(),
        ]
        self.sends(side, self._written(lines, SDP if method == b"INVITE" else b""))

    def acknowledges(self) -> None:
        """The ACK of one of the last finals: of a refusal by the transaction, of a 2xx by the dialog."""
        side = self._anybody("answers")
        memory = self.memories[side.name]
        finals = [
            data for data in memory.answers if Octets(data).code >= 200 and Octets(data).method == b"INVITE"
        ]
        if not finals:
            return
        final = pick(self.dice, finals)
        if Octets(final).code < 300:
            self.inside(b"ACK")
            return
        invite = self._request_of(memory, final)
        if invite:
            self.sends(side, wire.ack_of(invite, final))

    def talks(self) -> None:
        """A call is set up, from INVITE to ACK, without an injury."""
        self.whole, self.code = True, pick(self.dice, (200, 200, 180, 183))
        pick(self.dice, (self.call_out, self.call_in))()
        self.rack.settle()
        self.collect()
        self.answers()
        self.inside(b"ACK")
        self.whole, self.code = False, 0

    def logs_in(self) -> None:
        """Who was challenged sends his request again, with credentials that are right, or nearly so."""
        side = self._anybody("answers")
        memory = self.memories[side.name]
        asked = [data for data in memory.answers if data[8:11] in (b"401", b"407")]
        if not asked:
            return
        answer = pick(self.dice, asked)
        first = self._request_of(memory, answer)
        if not first:
            return
        try:
            text = Text(answer)
            method, uri = Octets(first).start.decode().split(" ")[:2]
            user, password = pick(
                self.dice, (("bob", PASSWORD), ("bob", PASSWORD), ("bob", "no"), ("eve", "no"))
            )
            line = credentials(text, method, uri, user=user, password=password).encode()
        except (ValueError, IndexError, KeyError, AssertionError):
            return  # the challenge is one that nobody could answer
        head, end, body = first.partition(b"\r\n\r\n")
        self.number += 1
        head = re.sub(rb"branch=z9hG4bK[^;\r\n]*", b"branch=z9hG4bK-again-%d" % self.number, head, count=1)
        number = re.search(rb"\r\nCSeq: (\d+) ", head)
        if number is not None:
            head = head.replace(number[0], b"\r\nCSeq: %d " % (int(number[1]) + 1))
        self.sends(side, head + b"\r\n" + line + end + body)

    def _request_of(self, memory: Memory, answer: bytes) -> bytes:
        said = Octets(answer)
        call_id, method = said.value(b"call-id"), said.method
        found = (d for d in memory.said if d.startswith(method) and Octets(d).value(b"call-id") == call_id)
        return next(found, b"")

    def registers(self) -> None:
        side = self._anybody()
        self.number += 1
        user = b"u%d" % self.dice.below(2)
        contact = pick(self.dice, (side.contact.encode(), b"*", b"<sip:u@203.0.113.1>;expires=60;q=0.5"))
        lines = [
            b"REGISTER sip:127.0.0.1:5060 SIP/2.0",
            self._via(side),
            b"Max-Forwards: 70",
            b"From: <sip:%b@127.0.0.1>;tag=r" % user,
            b"To: <sip:%b@127.0.0.1>" % user,
            b"Call-ID: registers-" + user,
            b"CSeq: %d REGISTER" % self.number,
            b"Contact: " + contact,
            b"Expires: %d" % pick(self.dice, (0, 60, 3600)),
        ]
        self.sends(side, self._written(lines, b""))

    def restarts(self) -> None:
        """Another gate takes over, with the same secret and no memory."""
        if not self.dice.below(4):
            self.rack.after(SILENCE)  # the first one's calls have ended, and it has given all back
            self.rack.restarts()

    def cancels(self) -> None:
        side = self._anybody("said")
        invites = [data for data in self.memories[side.name].said if data.startswith(b"INVITE")]
        if invites:
            invite = pick(self.dice, invites)
            said = Octets(invite)
            number = said.value(b"cseq").split()[0] if said.value(b"cseq") else b"1"
            lines = [
                b"CANCEL" + said.start[6:],
                *(said.line(name) for name in (b"via", b"from", b"to", b"call-id", b"max-forwards")),
                b"CSeq: %b CANCEL" % number,
            ]
            self.sends(side, self._written(lines, b""))

    def repeats(self) -> None:
        """What was sent comes again; once in a while from somewhere else."""
        side = self._anybody()
        said = self.memories[side.name].said
        if said:
            self.sends(side if self.dice.below(6) else self._anybody(), pick(self.dice, said), keep=False)

    def mirrors(self) -> None:
        """Somebody sends the gate what the gate has sent."""
        side = self._anybody()
        memory = self.memories[side.name]
        got = [*memory.requests, *memory.answers]
        if got:
            self.sends(side, pick(self.dice, got))

    def waits(self) -> None:
        self.rack.after(pick(self.dice, LONG_WAITS))

    def undeliverable(self) -> None:
        """ICMP, or a connection that breaks: about something that the gate has sent."""
        requests = self.memories[self._anybody().name].requests
        if requests:
            self.rack.core.unreachable(pick(self.dice, requests)[: 1 + self.dice.below(600)], self.rack.now)
            self.rack.carries_out()

    def noise(self) -> None:
        size = self.dice.below(200)
        self.sends(self._anybody(), bytes(self.dice.below(256) for _ in range(size)), keep=False)


STEPS: Sequence[Callable[[Play], None]] = (
    *(
        [Play.call_out] * 3
        + [Play.call_in] * 3
        + [Play.answers] * 10
        + [Play.inside] * 5
        + [Play.acknowledges] * 4
    ),
    *(
        Play.cancels,
        Play.cancels,
        Play.repeats,
        Play.repeats,
        Play.waits,
        Play.waits,
        Play.waits,
        Play.outside,
    ),
    *(
        Play.outside,
        Play.strange,
        Play.mirrors,
        Play.undeliverable,
        Play.noise,
        Play.talks,
        Play.talks,
        Play.talks,
    ),
    *(Play.logs_in, Play.logs_in, Play.logs_in, Play.registers, Play.registers, Play.restarts),
)


# -- what holds of every message ---------------------------------------------------------------------------------------


def everything(found: Message) -> list[Any]:
    """All that was read of a message."""
    slots = [getattr(found, name) for name in Message.__slots__ if name != "via"]
    via = [getattr(found.via, name) for name in Via.__slots__] if found.via is not None else None
    return [slots, via]


def same_reading(data: bytes) -> None:
    """The C scanner, where it takes a message, reads what Python reads (RFC 3261 has one reading)."""
    if scanner.scan(data) is None:
        try:
            parse_slowly(data)
        except Malformed:
            return
        return
    names = (b"privacy", b"p-asserted-identity", b"subject")
    fast, slow = message.parse(data, names), parse_slowly(data, names)
    assert everything(fast) == everything(slow), "the C scanner reads otherwise"


def is_sip(data: bytes) -> None:
    """What the gate sends can be read, has one end, and no line in it that nobody wrote."""
    head, end, body = data.partition(b"\r\n\r\n")
    assert end, "no end of the header"
    assert head.count(b"\n") == head.count(b"\r") == head.count(b"\r\n"), "a bare line end"
    found = parse_slowly(data)
    if found.code:
        # A refusal of what was ill-formed gives its headers back as they came; and whether the Via of the one who
        # asked is well-formed in an answer to him is between him and who answered.
        faults = (
            [] if found.code in (400, 501, 505) else [fault for fault in found.faults if "Via" not in fault]
        )
    else:
        faults = found.faults
    assert not faults, faults
    length = Octets(data).value(b"content-length")
    assert not length or int(length) == len(body), "Content-Length is not the body's"


def values(text: Octets, name: bytes) -> tuple[bytes, ...]:
    """The values of a list header, as well as a phone would split them."""
    lines = [re.sub(rb"\s+", b" ", line.partition(b":")[2]).strip() for line in text.all(name)]
    return tuple(value.strip() for line in lines for value in line.split(b",") if value.strip())


def uri_of(value: bytes) -> bytes:
    found = re.search(rb"<([^>\s]+)>", value)
    return found[1] if found else b""


# -- whole runs --------------------------------------------------------------------------------------------------------


def play(dice: Dice, figures: Figures, steps: int = 40) -> None:
    """One run. Raises whatever shows a fault."""
    Play(dice, figures).run(steps)


def frames(dice: Dice, corpus: Sequence[bytes], figures: Figures) -> None:
    """Where a stream is cut makes no difference to what is cut out of it."""
    parts = []
    for _ in range(1 + dice.below(4)):
        part = pick(dice, corpus)
        parts.append(part if dice.below(2) else injure(part, dice, corpus))
    stream = b"".join(parts)[:200_000]
    cuts = sorted({dice.below(len(stream) + 1) for _ in range(dice.below(8))})
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    began = thread_time()
    whole = _fed([stream])
    figures.took(thread_time() - began, stream)
    assert _fed(pieces) == whole, "a stream is cut otherwise"
    for data in whole[0]:
        same_reading(data)


def _fed(segments: Sequence[bytes]) -> tuple[list[bytes], str]:
    framer = Framer()
    found: list[bytes] = []
    for segment in segments:
        try:
            found += framer.feed(segment)
        except Broken as broken:
            return found + broken.messages, str(broken)
    return found, ""


def seeded(seed: int) -> None:
    """The program's own random numbers, so that a run can be played again."""
    random.seed(seed)
