"""The messages of RFC 4475 and RFC 5118 through the running program, over UDP and over TCP, on IPv4 and on IPv6.

They name hosts all over the world, so all of it runs where there is nothing but loopback (`loopback.py`).
"""

from __future__ import annotations

import ctypes
import errno
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import product
from pathlib import Path

import pytest
from tests.e2e.gate import Gate, until
from tests.e2e.loopback import interfaces, loopback_only
from tests.e2e.net import DID, UNLIMITED, Closes, Net
from tests.e2e.phone import Endpoint, Message, Server, Stream, Udp, ask
from tests.torture import wire
from tests.torture.table import CASES, RFC4475, RFC5118, Case
from tests.torture.wire import Octets

TRUNK_PORT = 5080
PORTS = sorted({wire.via_port(case.data) for case in CASES if not case.is_response})
"""Where the PBX listens: without `rport` an answer goes to the port that a Via names (RFC 3261 §18.2.2)."""


class Trunk:
    """Takes what comes over UDP and what comes over TCP, at the same port."""

    def __init__(self, host: str, add: Callable[[Closes], Closes]) -> None:
        self.udp = Udp(host, TRUNK_PORT)
        self.server = Server(host, TRUNK_PORT)
        self.server.socket.setblocking(False)
        self._add = add
        add(self.udp)
        add(self.server)
        self.endpoints: list[Endpoint] = [self.udp]

    def take(self) -> tuple[Message, Endpoint] | None:
        try:
            stream = Stream(self.server.socket.accept()[0])
        except BlockingIOError:
            pass
        else:
            self._add(stream)
            self.endpoints.append(stream)
        for endpoint in self.endpoints:
            for message in endpoint.arrived():
                endpoint.inbox.remove(message)
                return message, endpoint
        return None

    def expect(self, method: bytes) -> tuple[bytes, Callable[[bytes], None]]:
        """The next message, and how to answer it."""
        message, endpoint = until(self.take, f"{method!r} at the trunk")
        assert Octets(message.data).method == method, message
        return message.data, lambda data: endpoint.send(data, message.source)


class Site:
    """The gate between a PBX that sends anything and a trunk with `numbering: any`."""

    def __init__(
        self, folder: Path, hosts: tuple[str, str, str], over: str, add: Callable[[Closes], Closes]
    ) -> None:
        gate, pbx, trunk = hosts
        self.add = add
        self.over = over
        self.host = pbx
        self.trunk = Trunk(trunk, add)
        self.ports = {port: Udp(pbx, port) for port in PORTS}
        for endpoint in self.ports.values():
            add(endpoint)
        self.gate = Gate(
            folder,
            gate,
            trunks={"carrier": {"gateways": [self.trunk.udp.uri], "numbering": "any"}},
            keys={
                "acme": {
                    "sources": [pbx + ("/128" if ":" in pbx else "/32")],
                    "pbx": self.ports[5060].uri,
                    "numbers": [DID],
                    "limits": dict(UNLIMITED),
                }
            },
        )
        add(self.gate)
        self.gate.run()

    def sender(self, data: bytes) -> tuple[Endpoint, Endpoint]:
        """Where to send a message from, and where its answers come."""
        if self.over == "TCP":
            stream = Stream.to(self.gate.address, self.host)
            self.add(stream)
            return stream, stream
        asked_back = b"rport" in Octets(data).value(b"via")
        return self.ports[5060], self.ports[5060 if asked_back else wire.via_port(data)]

    def is_quiet(self) -> None:
        """The gate has read all there was, and has nothing to say to anybody."""
        plain = self.ports[5060]
        stream = Stream.to(self.gate.address, self.host)
        self.add(stream)
        for sender in (stream, plain, stream, plain):
            call_id = ask(sender, self.gate, "Content-Length: 0")
            assert sender.final("OPTIONS", call_id).code == 200
        assert self.trunk.take() is None
        for endpoint in self.ports.values():
            assert not unread(endpoint)
        assert self.gate.running
        assert not self.gate.lines("internal error")


def rounds() -> dict[str, int]:
    """Which run of the gate each message has its place in: some share a branch, and would be copies of each other."""
    seen: Counter[tuple[bytes, bytes]] = Counter()
    found = {}
    for case in CASES:
        said = Octets(case.data)
        name = said.method, said.value(b"via").split(b",")[0]
        found[case.name] = seen[name]
        seen[name] += 1
    return found


ROUNDS = rounds()
WITHIN = max(ROUNDS.values()) + 1
"""The run for what needs a dialog."""


def everywhere(cases: list[Case], run: int | None = None) -> pytest.MarkDecorator:
    """Each case on IPv4 and IPv6, over UDP and TCP; those of one run one after the other."""
    runs: dict[int, list[Case]] = {}
    for case in cases:
        runs.setdefault(ROUNDS[case.name] if run is None else run, []).append(case)
    ways = [
        pytest.param((family, over, number), case, id=f"{family}-{over}-{case.name}")
        for family, over, number in product(("IPv4", "IPv6"), ("UDP", "TCP"), sorted(runs))
        for case in runs[number]
    ]
    return pytest.mark.parametrize(("site", "case"), ways, indirect=["site"])


Way = tuple[str, str, int]


class Runs:
    """One gate at a time: a new one for each new way, which knows nothing of the calls of those before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.begun = 0
        self.way: Way | None = None
        self.site: Site | None = None
        self.net: Net | None = None

    def get(self, way: Way) -> Site:
        if self.site is None or self.way != way:
            self.close()
            self.begun += 1
            folder = self.folder / str(self.begun)
            folder.mkdir()
            self.net = net = Net(folder)
            hosts = ("::1", "::1", "::1") if way[0] == "IPv6" else (net.host(1), net.host(2), net.host(3))
            self.site, self.way = Site(folder, hosts, way[1], net.add), way  # type: ignore[arg-type]
        return self.site

    def close(self) -> None:
        if self.net is not None:
            self.net.close()
        self.net = self.site = None


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    with loopback_only():
        assert interfaces() == ["lo"]
        with closing(Runs(tmp_path_factory.mktemp("torture"))) as found:
            yield found


@pytest.fixture
def site(request: pytest.FixtureRequest, runs: Runs) -> Site:
    return runs.get(request.param)


@everywhere(CASES)
def test_alone(site: Site, case: Case) -> None:
    over = site.over
    sender, receiver = site.sender(case.data)
    expected = case.on_tcp if over == "TCP" else case.udp
    sender.send(case.data + (case.rest if over == "TCP" else b""), site.gate.address)
    data = case.data
    for word in expected.split(", "):
        if word == "forwarded":
            if word != expected:  # behind another one in the same stream
                data = data[data.index(b"\r\n\r\n") + 4 :].lstrip(b"\r\n")
            forwarded(site, data, sender, receiver, case.drops)
        elif word.isdigit():
            answer = final(receiver)
            wire.check_answered(data, answer, int(word))
            if Octets(data).method == b"INVITE" and "closed" not in expected:
                sender.send(wire.ack_of(data, answer), site.gate.address)
        elif word == "closed":
            assert isinstance(sender, Stream)
            sender.expect_end()
    site.is_quiet()
    if isinstance(sender, Stream):
        assert not unread(sender)
        assert sender.ended == ("closed" in expected)


def unread(endpoint: Endpoint) -> list[Message]:
    """What has come and nobody expected; a 100 may always come."""
    found = [message for message in endpoint.arrived() if message.code != 100]
    endpoint.inbox.clear()
    return found


def final(receiver: Endpoint) -> bytes:
    """The next answer but 100."""
    return receiver.find(lambda m: m.code != 100, "an answer").data


def forwarded(site: Site, data: bytes, sender: Endpoint, receiver: Endpoint, drops: bytes = b"") -> None:
    """On to the trunk, unharmed, and its answer comes back, unharmed."""
    method = Octets(data).method
    left, reply = site.trunk.expect(method)
    host, port = site.gate.address
    own = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    wire.check_forwarded(data, left, own.encode(), drops)
    answer = wire.answer_to(left, 486 if method == b"INVITE" else 200)
    reply(answer)
    passed = final(receiver)
    wire.check_passed_on(answer, passed)
    if method == b"INVITE":
        site.trunk.expect(b"ACK")
        sender.send(wire.ack_of(data, passed), site.gate.address)


@everywhere([case for case in CASES if case.within == "forwarded"], WITHIN)
def test_within(site: Site, case: Case) -> None:
    """In the dialog that it names, or as the answer to what it may answer."""
    data = case.data
    if case.is_response:
        request, _ = wire.asked_for(data)
        sender, receiver = site.sender(request)
        sender.send(request, site.gate.address)
        left, reply = site.trunk.expect(b"INVITE")
        answer = wire.as_answer(data, left)
        reply(answer)
        wire.check_passed_on(answer, final(receiver))
        _hang_up(site, case, sender, receiver, left, answer)
    else:
        sender, receiver = site.sender(data)
        _establish(site, data, sender, receiver)
        sender.send(data, site.gate.address)
        forwarded(site, data, sender, receiver, case.drops)
        if Octets(data).method != b"BYE":
            _bye(site, data, sender, receiver)
    site.is_quiet()


def _request(method: bytes, like: bytes, number: int, *, to: bytes, contact: str = "") -> bytes:
    """A request of the caller's, with the Vias of `like`, but a branch of its own."""
    said = Octets(like)
    vias = said.all(b"via")
    lines = [
        b"%b sip:user@example.com SIP/2.0" % method,
        b"Via: SIP/2.0/UDP made.example;branch=z9hG4bK%b.%d;rport" % (said.value(b"call-id")[:9], number),
        *vias[1:],
        b"Max-Forwards: 70",
        said.line(b"from"),
        to,
        said.line(b"call-id"),
        b"CSeq: %d %b" % (number, method),
        b"Contact: <sip:%b>" % contact.encode(),
        b"Content-Length: 0\r\n\r\n",
    ]
    return b"\r\n".join(lines)


def _establish(site: Site, data: bytes, sender: Endpoint, receiver: Endpoint) -> None:
    """A call with the Call-ID and tags of `data`, up to the ACK."""
    said = Octets(data)
    to = b"To: <sip:user@example.com>"
    tagged = to + b";tag=" + wire.tag(said.value(b"to"))
    here = site.ports[5060]
    place = here.uri.removeprefix("sip:")
    sender.send(_request(b"INVITE", data, 1, to=to, contact=place), site.gate.address)
    left, reply = site.trunk.expect(b"INVITE")
    answer = wire.answer_to(left, 200).replace(to + b";tag=callee", tagged)
    contact = b"Contact: <%b>\r\nContent-Length" % site.trunk.udp.uri.encode()
    reply(answer.replace(b"Content-Length", contact))
    found = (sender if isinstance(sender, Stream) else here).find(lambda m: m.code == 200, "200")
    assert wire.tag(Octets(found.data).value(b"to")) == wire.tag(said.value(b"to"))
    sender.send(_request(b"ACK", data, 1, to=tagged, contact=place), site.gate.address)
    site.trunk.expect(b"ACK")


def _bye(site: Site, data: bytes, sender: Endpoint, receiver: Endpoint) -> None:
    to = b"To: <sip:user@example.com>;tag=" + wire.tag(Octets(data).value(b"to"))
    sender.send(_request(b"BYE", data, 1_000_000, to=to), site.gate.address)
    left, reply = site.trunk.expect(b"BYE")
    reply(wire.answer_to(left, 200))
    here = sender if isinstance(sender, Stream) else site.ports[5060]
    here.find(lambda m: m.code == 200, "200 to the BYE")


def _hang_up(
    site: Site, case: Case, sender: Endpoint, receiver: Endpoint, left: bytes, answer: bytes
) -> None:
    """The call that a 2xx of the RFC has made is acknowledged and ended by its caller."""
    to = Octets(answer).line(b"to")
    number = int(Octets(left).value(b"cseq").split()[0])
    sender.send(_request(b"ACK", case.data, number, to=to), site.gate.address)
    site.trunk.expect(b"ACK")
    _bye(site, answer, sender, receiver)


def test_none_is_missing() -> None:
    assert len(RFC4475) + len(RFC5118) == 61


def test_without_a_namespace_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not make one is told, and no message of the RFCs leaves the machine."""

    class Denied:
        def unshare(self, flags: int) -> int:
            ctypes.set_errno(errno.EPERM)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Denied())
    with pytest.raises(PermissionError, match="run the tests as root"), loopback_only():
        raise AssertionError("it goes on")
