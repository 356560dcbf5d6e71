"""The corpus against the core, from the PBX of a key, from the trunk and from a stranger.

Of each message: no fault of ours, nothing for somebody else, nothing that is no SIP, nothing that grows; and a call
that follows it at once goes through.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from signal import ITIMER_VIRTUAL, SIGVTALRM, setitimer, signal
from types import FrameType

import pytest
from tests.hostile import corpus
from tests.hostile.corpus import EVIL, PASSES, SILENCE, Hostile
from tests.torture import wire
from tests.torture.rack import Rack
from tests.torture.wire import Octets

from callgate.proxy.commands import Send
from callgate.sip.framing import MAX_HEAD, MAX_MESSAGE, Broken, Framer

STUCK = 20.0
"""Seconds of CPU that only a message on which something tries for ever takes: nothing is asserted about speed."""
BATCH = 12
"""Messages between two looks at what is left: fewer than a key has lines."""
SETTLED = 250.0
"""Seconds after which nothing may be left of a message."""
TABLES: dict[str, Callable[[], Iterable[Hostile]]] = {
    "floods": corpus.floods,
    "injections": corpus.injections,
    "lengths": lambda: [hostile for hostile, _ in corpus.lengths()],
    "values": corpus.values,
    "doubled": corpus.doubled,
    "missing": corpus.missing,
    "strays": corpus.strays,
}


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    def bites(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {STUCK:g} s of CPU for one message")

    before = signal(SIGVTALRM, bites)
    yield
    setitimer(ITIMER_VIRTUAL, 0.0)
    signal(SIGVTALRM, before)


def takes(rack: Rack, data: bytes, sender: str) -> list[Send]:
    """What the gate sends because of it."""
    rack.spread()
    setitimer(ITIMER_VIRTUAL, STUCK)
    rack.takes(data, getattr(rack, sender).flow)
    setitimer(ITIMER_VIRTUAL, 0.0)
    sent, rack.out = rack.out or [], []
    return sent


def check(rack: Rack, sent: list[Send], data: bytes, sender: str) -> None:
    """What holds of all that leaves."""
    hosts = {rack.pbx.flow.host, rack.carrier.flow.host}
    for send in sent:
        head, _, body = send.data.partition(b"\r\n\r\n")
        lines = re.split(rb"[\r\n]+", head)
        assert not [line for line in lines if line.lower().startswith(EVIL.lower())], (
            "a header was smuggled in"
        )
        assert head.count(b"\r\n") == head.count(b"\n") == head.count(b"\r"), "a bare line end"
        said = Octets(send.data)
        length = said.value(b"content-length")
        assert not length or int(length) == len(body)
        assert len(said.all(b"content-length")) <= 1
        assert len(send.data) < len(data) + 1500, "what leaves is much more than what came"
        if sender == "stranger":
            assert send.flow.host == rack.stranger.flow.host, "a stranger's message leads elsewhere"
            assert said.code in (400, 403, 501, 505)
        else:
            assert send.flow.host in hosts, f"goes to {send.flow}"
    if sender == "stranger":
        assert len(sent) <= 1


def is_answered(rack: Rack, sent: list[Send]) -> None:
    """Whoever gets one of these refuses it at once: three calls without an answer would be a trunk that is down."""
    for send in sent:
        request = Octets(send.data)
        if request.code or request.method == b"ACK":
            continue
        side = rack.pbx if send.flow.host == rack.pbx.flow.host else rack.carrier
        if request.method == b"INVITE":
            rack.takes(wire.answer_to(send.data, 100), side.flow)
        rack.takes(wire.answer_to(send.data, 486 if request.method == b"INVITE" else 200), side.flow)
    rack.out = []


def outcome(rack: Rack, sent: list[Send]) -> str:
    """What the PBX hears, in the words of the corpus."""
    said = [(send.flow.host, Octets(send.data)) for send in sent]
    answers = [message.code for host, message in said if host == rack.pbx.flow.host and message.code > 100]
    if any(host == rack.carrier.flow.host and not message.code for host, message in said):
        assert not answers
        return PASSES
    assert len(answers) <= 1, answers
    return str(answers[0]) if answers else SILENCE


@pytest.mark.parametrize("sender", ["pbx", "carrier", "stranger"])
@pytest.mark.parametrize("table", TABLES)
def test_each_message(racks: Callable[..., Rack], table: str, sender: str) -> None:
    rack = racks("UDP", any_number=False)
    messages = list(TABLES[table]())
    for begin in range(0, len(messages), BATCH):
        batch = messages[begin : begin + BATCH]
        for hostile in batch:
            sent = takes(rack, hostile.data, sender)
            try:
                check(rack, sent, hostile.data, sender)
                if sender == "pbx" and hostile.expected:
                    assert outcome(rack, sent) in hostile.expected.split()
                is_answered(rack, sent)
                rack.legit()
            except AssertionError as broken:
                raise AssertionError(f"{hostile.name}: {broken}\n{hostile.data[:300]!r}") from broken
        rack.after(SETTLED)
        rack.out = []
        core, names = rack.core, [hostile.name for hostile in batch]
        for held in (core.layer.servers, core.layer.clients, core.by_call_id, core.by_token, core.wheel):
            assert not len(held), f"something is left of one of {names}"
        rack.holds_nothing()
        rack.forgets()
    rack.ends()


def test_all_of_it_at_once(racks: Callable[..., Rack]) -> None:
    """One after the other in the same second, from all sides; then a call, and then nothing is left."""
    rack = racks("UDP", any_number=False)
    rack.spread()
    for hostile in corpus.everything():
        for sender in (rack.pbx, rack.carrier, rack.stranger):
            rack.takes(hostile.data, sender.flow)
        rack.out = []
    rack.after(
        2.0
    )  # the rate and the lines are the key's own again, but for what the trunk leaves unanswered
    rack.out = []
    rack.after(SETTLED)
    rack.legit()
    rack.out = []
    rack.ends()


# -- streams -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hostile", "stream"), list(corpus.lengths()), ids=[h.name for h, _ in corpus.lengths()]
)
def test_a_length_on_a_stream(racks: Callable[..., Rack], hostile: Hostile, stream: str) -> None:
    """RFC 3261 §18.3, RFC 4475 §3.1.2.3: answered and closed where nobody knows where the next message begins."""
    rack = racks("TCP", any_number=False)
    sent = takes(rack, hostile.data, "pbx")
    check(rack, sent, hostile.data, "pbx")
    if stream == "waits":
        assert not sent
    else:
        assert outcome(rack, sent) == hostile.expected
    assert rack.closed == (stream == "closed")
    rack.hung_up.clear()
    is_answered(rack, sent)
    rack.legit()
    rack.after(SETTLED)
    rack.out = []
    rack.ends()


def test_a_header_of_ten_megabytes() -> None:
    """What is kept of it is bounded, and the stream ends."""
    framer = Framer()
    framer.feed(b"INVITE sip:0312345678@127.0.0.1 SIP/2.0\r\nSubject: ")
    kept = 0

    def ten_megabytes() -> None:
        nonlocal kept
        for _ in range(640):
            framer.feed(b"a" * 16_384)
            kept = max(kept, framer.waiting)

    with pytest.raises(Broken, match="header of more than"):
        ten_megabytes()
    assert 0 < kept <= MAX_HEAD + 3


def test_fifty_thousand_parameters() -> None:
    """They are more than a header may have."""
    framer = Framer()
    with pytest.raises(Broken, match="header of more than"):
        framer.feed(b"INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h" + b";p=1" * 50_000 + b"\r\n\r\n")


def test_a_body_without_end() -> None:
    framer = Framer()
    with pytest.raises(Broken, match="message of more than"):
        framer.feed(b"INVITE sip:a@b SIP/2.0\r\nContent-Length: %d\r\n\r\n" % MAX_MESSAGE)
    assert framer.waiting < 1000
