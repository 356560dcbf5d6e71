"""Who is at the other end of a TLS connection: RFC 5922, RFC 5923, RFC 8996."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import certificates
from tests.certificates import Authority, Issued
from tests.net.harness import KNOWN, PATIENCE, STRANGER, Gate, Made, Peer, message, running, trusting, until

from callgate.config.certificates import server_context
from callgate.config.schema import Tls
from callgate.net.troubles import Troubles
from callgate.proxy.flow import Flow, Listener, Trust
from callgate.sip.certificate import names_of

# -- connections that come -----------------------------------------------------------------------------------


class Pki:
    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.other = Authority(folder, "other")
        self.own = self.authority.issue("gate", "gate.example")

    def contexts(self, verify: str = "optional") -> Made:
        tls = Tls(
            certificate=self.own.certificate,
            private_key=self.own.private_key,
            ca=self.authority.file,
            verify_client=verify,  # type: ignore[arg-type]
        )
        clients = {
            "": trusting(self.authority),
            "carrier": trusting(self.authority),
            "b": trusting(self.other),
        }
        return Made(server_context(tls), clients)

    def listening(self, verify: str = "optional", **limits: int) -> Gate:
        return Gate(self.contexts(verify), **limits)  # type: ignore[arg-type]

    def shows(self, issued: Issued | None, **how: object) -> ssl.SSLContext:
        return certificates.client(self.authority.file, issued, **how)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


async def heard(gate: Gate, context: ssl.SSLContext, host: str = KNOWN) -> Flow | None:
    """The flow by which a message of such a client comes; None where the client is refused."""
    before = len(gate.owner.messages)
    try:
        peer = await Peer.to(gate, host, context)
        await peer.sends(message())
        if await asyncio.wait_for(_ended_or(lambda: len(gate.owner.messages) > before, peer), PATIENCE):
            return gate.owner.messages[-1][1]
    except OSError:
        pass
    return None


async def _ended_or(condition, peer: Peer) -> bool:  # type: ignore[no-untyped-def]
    while not condition():
        if peer.reader.at_eof() or peer.reader.exception() is not None:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await peer.reader.read(1)
    return True


async def test_a_certificate_gives_names(pki: Pki) -> None:
    gate = pki.listening()
    async with running(gate):
        issued = pki.authority.issue("pbx", "sip:pbx.example", "dns.example")
        flow = await heard(gate, pki.shows(issued))
        assert flow is not None
        assert flow.names == ("pbx.example",)
        assert flow.trust == Trust("", ("pbx.example",))
        flow = await heard(gate, pki.shows(None))
        assert flow is not None
        assert flow.names == ()
        assert flow.trust == Trust("", (KNOWN,))


async def test_none_is_asked_for(pki: Pki) -> None:
    gate = pki.listening("none")
    async with running(gate):
        flow = await heard(gate, pki.shows(pki.authority.issue("pbx", "pbx.example")))
        assert flow is not None
        assert flow.names == ()


@pytest.mark.parametrize("verify", ["optional", "required"])
async def test_a_bad_certificate_is_refused(pki: Pki, verify: str) -> None:
    gate = pki.listening(verify)
    bad = {
        "another's": pki.other.issue("a", "pbx.example"),
        "expired": pki.authority.issue("b", "pbx.example", days=-1),
        "a server's": pki.authority.issue("c", "pbx.example", uses=[certificates.SERVER]),
    }
    async with running(gate):
        for name, issued in bad.items():
            assert await heard(gate, pki.shows(issued)) is None, name
        assert (await heard(gate, pki.shows(None)) is None) is (verify == "required")
        assert await heard(gate, pki.shows(pki.authority.issue("d", "pbx.example"))) is not None
        assert gate.owner.refused == ["tls handshake"] * (3 + (verify == "required"))
        assert len(gate.owner.failures) == len(gate.owner.refused), (
            "it is a key's address: somebody may wonder"
        )
        assert not gate.entry.doors._half_open


async def test_what_is_too_old(pki: Pki) -> None:
    """RFC 8996: TLS 1.2 at least."""
    gate = pki.listening()
    async with running(gate):
        old = pki.shows(None)
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = ssl.TLSVersion.TLSv1_1
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        assert await heard(gate, old) is None
        assert await heard(gate, pki.shows(None, maximum_version=ssl.TLSVersion.TLSv1_2)) is not None
        assert await heard(gate, pki.shows(None, minimum_version=ssl.TLSVersion.TLSv1_3)) is not None


async def test_a_session_that_is_taken_up_again(pki: Pki) -> None:
    """It brings its names along, and ends with the certificates that it was made with."""
    gate = pki.listening()
    issued = pki.authority.issue("pbx", "pbx.example")
    async with running(gate):
        context = pki.shows(issued, maximum_version=ssl.TLSVersion.TLSv1_2)

        def visit(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
            plain = socket.create_connection((KNOWN, gate.port), PATIENCE)
            with plain, context.wrap_socket(plain, session=session) as secured:
                secured.sendall(message() + b"\r\n\r\n")
                assert secured.recv(2) == b"\r\n"
                return secured.session, secured.session_reused

        session, _ = await asyncio.to_thread(visit, None)
        assert (await asyncio.to_thread(visit, session))[1]
        assert [flow.names for _, flow in gate.owner.messages] == [("pbx.example",)] * 2
        gate.entry.contexts = pki.contexts()  # as a reload does
        assert not (await asyncio.to_thread(visit, session))[1]


async def test_no_tls_at_all(pki: Pki) -> None:
    """SIP in the clear, HTTP, noise, nothing: closed, and a stranger is not told about."""
    gate = pki.listening()
    async with running(gate):
        for data in (message(), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 70_000, b"\xff"):
            peer = await Peer.to(gate, STRANGER)
            peer.writer.write(data)
            if data == b"\xff":
                peer.writer.write_eof()
            await peer.ends()
            await peer.close()
        await until(lambda: not gate.streams.connections)
        assert not gate.owner.messages
        assert not gate.owner.failures
        assert gate.owner.refused == ["tls handshake"] * 3
        assert not gate.entry.doors._half_open


async def test_half_open_handshakes(pki: Pki) -> None:
    """So many per address, known or not, and only for so long; whoever has finished does not count."""
    gate = pki.listening(half_open=3)
    async with running(gate):
        done = [await Peer.to(gate, KNOWN, pki.shows(None)) for _ in range(5)]
        await until(lambda: not gate.entry.doors._half_open)
        waiting = [await Peer.to(gate, KNOWN) for _ in range(3)]
        await until(lambda: gate.entry.doors._half_open == {KNOWN: 3})
        over = await Peer.to(gate, KNOWN)
        await over.ends()
        assert gate.owner.refused == ["too many half-open handshakes"]
        await Peer.to(gate, "127.0.0.9", pki.shows(None))
        await waiting.pop().close()
        await until(lambda: gate.entry.doors._half_open == {KNOWN: 2})
        gate.later(4)
        assert gate.entry.doors._half_open == {KNOWN: 2}
        gate.later(6)
        assert not gate.entry.doors._half_open
        for peer in waiting:
            await peer.ends()
        assert gate.owner.refused[1:] == ["handshake"] * 2
        assert not any(peer.reader.at_eof() for peer in done)


async def test_a_peer_that_says_goodbye(pki: Pki) -> None:
    """Its close_notify ends the connection, and ours tells it that nothing was cut off."""
    gate = pki.listening()
    async with running(gate):

        def talk() -> bytes:
            with socket.create_connection((KNOWN, gate.port), PATIENCE) as plain:
                secured = pki.shows(None).wrap_socket(plain, suppress_ragged_eofs=False)
                with contextlib.closing(secured):
                    secured.sendall(message())
                    with contextlib.closing(secured.unwrap()):
                        return b"well ended"

        assert await asyncio.to_thread(talk) == b"well ended"
        await until(lambda: not gate.streams.connections)
        assert len(gate.owner.messages) == 1


# -- connections that the gate opens -------------------------------------------------------------------------


class Far:
    """A TLS server in a thread of its own: what it is told, by connection."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.heard: list[bytes] = []
        self.names: list[str | None] = []
        self.certificates: list[object] = []
        self.faults: list[str] = []
        self.sockets: list[ssl.SSLSocket] = []
        self._listening = socket.socket()
        self._listening.settimeout(0.05)
        self._listening.bind((KNOWN, 0))
        self._listening.listen()
        self.port = self._listening.getsockname()[1]
        context.sni_callback = lambda sock, name, _: self.names.append(name)

    def serve(self) -> bool:
        """One connection, and what is sent on it at once; False where none comes."""
        try:
            plain = self._listening.accept()[0]
        except TimeoutError:
            return False
        plain.settimeout(2)
        try:
            secured = self.context.wrap_socket(plain, server_side=True)
            self.certificates.append(secured.getpeercert())
            self.heard.append(secured.recv(1000))
            self.sockets.append(secured)
        except OSError as fault:
            self.faults.append(str(fault))
            plain.close()
        return True

    def close(self) -> None:
        for sock in (self._listening, *self.sockets):
            sock.close()


@pytest.fixture
def far(pki: Pki) -> Iterator[Far]:
    server = Far(certificates.server(pki.authority.issue("far", "far.example", "192.0.2.1")))
    yield server
    server.close()


async def served(gate: Gate, far: Far, trust: Trust | None, data: bytes = b"the INVITE") -> None:
    gate.streams.send(gate.flow(far.port, trust), data, 0)
    while not await asyncio.to_thread(far.serve):
        pass
    await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("trust", "well", "asked_for"),
    [
        (Trust("", ("far.example",)), True, "far.example"),
        (Trust("carrier", ("far.example",)), True, "far.example"),
        (Trust("", ("192.0.2.1",)), True, None),
        (Trust("", ("other.example", "far.example")), True, "other.example"),
        (Trust("", ("near.example",)), False, "near.example"),
        (Trust("", ("*.example",)), False, None),
        (Trust("", ("192.0.2.2",)), False, None),
        (None, False, None),  # then it must be the address itself
        (Trust("b", ("far.example",)), False, "far.example"),  # other authorities
    ],
)
async def test_chain_and_name_are_verified(
    pki: Pki, far: Far, trust: Trust | None, well: bool, asked_for: str | None
) -> None:
    """RFC 5922 §7.3, SNI where there is a name. Nothing is said to somebody else; it is told as undeliverable."""
    gate = pki.listening()
    async with running(gate):
        await served(gate, far, trust)
        assert far.names == [asked_for]
        if well:
            assert far.heard == [b"the INVITE"]
            assert not gate.owner.lost
            assert not gate.owner.failures
            assert gate.owner.worked == 1
        else:
            assert b"the INVITE" not in far.heard
            assert gate.owner.lost == [b"the INVITE"]
            ((_, reason, _),) = gate.owner.failures
            assert gate.owner.troubles == [f"TLS: {reason}"]
            assert not gate.streams.connections


async def test_what_is_wrong_with_a_peer(pki: Pki) -> None:
    """Where a message could not be delivered it is told why, with a remedy for the section that it is about."""
    shown = {
        "addresses": pki.authority.issue("a", "192.0.2.1", "2001:db8::1"),
        "expired": pki.authority.issue("b", "far.example", days=-1),
        "another's": pki.other.issue("c", "far.example"),
    }
    told = {}
    for name, issued in shown.items():
        gate, far = pki.listening(), Far(certificates.server(issued))
        async with running(gate):
            await served(gate, far, Trust("carrier", ("far.example",)))
            ((_, reason, remedy),) = gate.owner.failures
            assert gate.owner.troubles == [f"TLS: {reason}"]
            told[name] = reason, remedy
        far.close()
    names = "name mismatch: wanted far.example, its certificate names 192.0.2.1, 2001:DB8:0:0:0:0:0:1"
    assert told["addresses"][0] == names
    assert told["addresses"][1].startswith("set `trunks.carrier.tls.name` to the name in the certificate")
    assert told["expired"] == (
        "its certificate has expired",
        "the peer must renew it; is this machine's clock right?",
    )
    assert told["another's"][1] == "name who has signed it in `trunks.carrier.tls.ca`"


async def test_no_tls_there(pki: Pki) -> None:
    """One that speaks something else, one that says nothing, one that does not listen at all."""

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"SIP/2.0 400 Bad Request\r\n\r\n")
        await silent(reader, writer)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    for handler, trouble in ((answers, "no TLS there"), (silent, "no answer to the handshake in time")):
        server = await asyncio.start_server(handler, KNOWN, 0)
        gate = pki.listening()
        async with server, running(gate):
            port = server.sockets[0].getsockname()[1]
            gate.streams.send(gate.flow(port, Trust("carrier", ("far.example",))), b"the INVITE", 0)
            if handler is silent:
                await until(lambda g=gate: any(c._connected for c in g.streams.connections.values()))
                gate.later(4)
            await until(lambda g=gate: g.owner.lost)
            assert gate.owner.troubles == [f"TLS: {trouble}"]
            assert gate.owner.failures[0][2] == "nobody speaks TLS at that port: check port and transport"
    gate = pki.listening()
    async with running(gate):
        gate.streams.send(gate.flow(port, Trust("carrier", ("far.example",))), b"the INVITE", 0)
        await until(lambda: gate.owner.lost)
        assert gate.owner.troubles == ["connection refused"]


async def test_reuse_only_under_the_same_terms(pki: Pki, far: Far) -> None:
    """Two trunks at one address, each with its own authorities: what one has proven is nothing to the other."""
    gate = pki.listening()
    async with running(gate):
        await served(gate, far, Trust("carrier", ("far.example",)), b"one")
        await served(gate, far, Trust("", ("far.example",)), b"two")
        gate.streams.send(gate.flow(far.port, Trust("carrier", ("far.example",))), b"three", 0)
        assert await asyncio.to_thread(far.sockets[0].recv, 100) == b"three"
        assert far.heard == [b"one", b"two"]
        flows = {c.flow.trust.context: c.flow for c in gate.streams.connections.values() if c.flow.trust}
        assert flows[""].names == ("far.example",)
        assert flows["carrier"].names == (), "a trunk's authorities vouch for nobody but the trunk"


async def test_not_over_a_connection_without_the_name(pki: Pki) -> None:
    """The PBX has connected from its address, without a certificate or with another's: no call is sent to it there
    that is meant for who proves a name."""
    gate = pki.listening()
    trust = Trust("", ("pbx.example",))
    async with running(gate):
        for issued in (None, pki.authority.issue("x", "x.example")):
            assert await heard(gate, pki.shows(issued)) is not None
            gate.streams.send(gate.flow(1, trust), b"the INVITE", 0)
            await until(lambda: gate.owner.lost)
            assert gate.owner.lost.pop() == b"the INVITE"
        assert await heard(gate, pki.shows(pki.authority.issue("y", "pbx.example"))) is not None
        gate.streams.send(gate.flow(1, trust), b"the INVITE", 7)
        await until(lambda: gate.owner.went == [7])


async def test_who_comes_back_must_be_the_same(pki: Pki) -> None:
    """The connection of a dialog is gone: another of that address is taken if its certificate is for the same name."""
    gate = pki.listening()
    same, other = pki.authority.issue("pbx", "pbx.example"), pki.authority.issue("x", "x.example")
    async with running(gate):
        flow = await heard(gate, pki.shows(same))
        assert flow is not None
        await gate.peers.pop().close()
        await until(lambda: not gate.streams.connections)
        for issued in (other, None):
            assert await heard(gate, pki.shows(issued)) is not None
            gate.streams.send(flow, b"a request", 0)
            await until(lambda: gate.owner.lost)
            assert gate.owner.lost.pop() == b"a request"
            await gate.peers.pop().close()
            await until(lambda: not gate.streams.connections)
        assert await heard(gate, pki.shows(same)) is not None
        gate.streams.send(flow, b"a request", 7)
        await until(lambda: gate.owner.went == [7])


async def test_our_certificate_where_it_is_asked_for(pki: Pki) -> None:
    issued = pki.authority.issue("far", "far.example")
    far = Far(certificates.server(issued, pki.authority.file, asks=True))
    gate = pki.listening()
    assert gate.entry.contexts is not None
    gate.entry.contexts._clients["mutual"] = trusting(pki.authority, pki.own)
    try:
        async with running(gate):
            await served(gate, far, Trust("mutual", ("far.example",)))
            assert far.heard == [b"the INVITE"]
            assert names_of(far.certificates[0]) == ("gate.example",)  # type: ignore[arg-type]
    finally:
        far.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_our_certificate_is_refused(pki: Pki, version: ssl.TLSVersion) -> None:
    """In TLS 1.3 the peer says so after we have begun to send: that was not delivered either."""
    issued = pki.authority.issue("far", "far.example")
    far = Far(certificates.server(issued, pki.authority.file, asks=True, maximum_version=version))
    gate = pki.listening()
    try:
        async with running(gate):
            await served(gate, far, Trust("", ("far.example",)))
            await until(lambda: gate.owner.lost)
            assert gate.owner.lost == [b"the INVITE"]
            ((ours, reason, remedy),) = gate.owner.failures
            assert ours
            assert "certificate" in remedy, reason
            assert not far.heard
    finally:
        far.close()


# -- what is said --------------------------------------------------------------------------------------------


class Log:
    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []

    def warning(self, event: str, **fields: object) -> None:
        self.lines.append({"event": event, **fields})


def test_it_is_said_once() -> None:
    """Not per call; again when the reason is another, or after it has worked."""
    log = Log()
    troubles = Troubles(log)  # type: ignore[arg-type]
    listener = Listener(0, b"TLS", "127.0.0.1", 5061)
    flow = Flow(listener, "192.0.2.1", 5061, trust=Trust("carrier", ("carrier.example",)))
    pbx = Flow(listener, "192.0.2.1", 5061, trust=Trust("", ("192.0.2.1",)))
    for _ in range(3):
        troubles.failed(flow, True, "it has expired", "renew it")
    troubles.failed(pbx, True, "it has expired", "set `tls.ca`")
    assert [line["trunk"] for line in log.lines] == ["carrier", None]
    assert log.lines[1]["advice"] == "set `tls.ca`"
    assert log.lines[0]["peer"] == "192.0.2.1:5061"
    troubles.failed(flow, True, "another", "set `trunks.carrier.tls.name`")
    troubles.works(flow, True)
    troubles.failed(flow, True, "another", "x")
    assert len(log.lines) == 4
    for port in range(3000):
        troubles.failed(Flow(listener, "192.0.2.2", port), True, "x", "y")
    assert len(troubles._said) <= 1024
