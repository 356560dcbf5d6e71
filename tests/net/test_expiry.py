"""When certificates expire: told in time, told once, and told to be over when they are renewed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import pytest
from tests import certificates
from tests.certificates import Authority, Issued
from tests.net.harness import HOST, Made, trusting, until

from callgate.net import expiry
from callgate.net.expiry import DAY, Expiry
from callgate.policy.dial import DialRules
from callgate.policy.profile import NumberRules
from callgate.proxy.commands import Alert
from callgate.proxy.core import Core
from callgate.proxy.directory import Directory
from callgate.proxy.flow import Flow, Listener, Trust
from callgate.proxy.peers import Gateway, Key, Numbers, Trunk
from callgate.proxy.telemetry.meters import Meters
from callgate.proxy.token import Signer
from callgate.proxy.trunk.health import Rules
from callgate.proxy.trunk.places import Place
from callgate.sip.uri import parse_uri

NOW = 1_800_000_000.0
OWN = Path("gate.crt")


def ends(days: float) -> dict[str, Any]:
    """A certificate that expires so many days after NOW."""
    at = time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(NOW + days * DAY))
    return {"notAfter": at}


class World:
    """One trunk with a gateway by address and one by name, and what is told of them."""

    def __init__(self, contexts: Made) -> None:
        self.contexts = contexts
        self.listener = Listener(0, b"TLS", HOST, 5061)
        trunk = Trunk("carrier", rules=Rules())
        self.trust = Trust("carrier", ("far.example",))
        fixed = Flow(self.listener, "192.0.2.1", 5061, trust=self.trust)
        for index, (uri, flow) in enumerate(
            ((b"sip:192.0.2.1:5061;transport=tls", fixed), (b"sip:far.example;transport=tls", None))
        ):
            trunk.gateways.append(Gateway(index, parse_uri(uri), flow, trunk, self.trust))
        self.fixed, self.named = trunk.gateways
        key = Key("acme", trunk, DialRules(NumberRules({})))
        self.directory = Directory([self.listener], [trunk], [key], Numbers())
        self.meters = Meters([0.0] * 5000)
        self.core = Core(self.directory, Signer(b"x" * 32), self.meters, 1, 0.0)
        self.core.out.clear()
        self.looks = 0
        self.expiry = Expiry(
            lambda: self.directory,
            self.core.alerts,
            self.meters,
            lambda: self.contexts,
            lambda _: HOST,
            self.looked,
        )

    def looked(self) -> None:
        self.looks += 1

    def owns(self, *expiries: tuple[str, float]) -> None:
        self.contexts.expiries = [(trunk, OWN, NOW + days * DAY) for trunk, days in expiries]

    def told(self, day: float = 0.0) -> list[tuple[str, str, str, bool]]:
        """(severity, trunk, gateway, resolved) of what a check so many days from NOW tells."""
        self.expiry.check(NOW + day * DAY)
        alerts = [one for one in self.core.out if isinstance(one, Alert)]
        self.core.out.clear()
        assert all(one.rule == "certificate" for one in alerts)
        assert all(one.resolved or (one.text and one.advice) for one in alerts)
        self.texts = [one.text for one in alerts]
        return [(one.severity, one.trunk, one.details.get("gateway", ""), one.resolved) for one in alerts]

    def expires(self, trunk: str = "", gateway: str = "") -> float:
        return self.meters.values[self.meters.series("certificate_expires_seconds", trunk, gateway)]


@pytest.fixture
def world() -> World:
    return World(Made(None, {}))


def test_ours(world: World) -> None:
    """Nothing before its time, a warning, an alarm, and over once it is renewed; each told once."""
    world.owns(("", 30.0), ("carrier", 300.0))
    assert world.told() == []
    assert (world.expires(), world.expires("carrier")) == (NOW + 30 * DAY, NOW + 300 * DAY)
    assert world.told(8.9) == []
    assert world.told(9.1) == [("warning", "", "", False)]
    assert world.texts[0].startswith("the certificate `gate.crt` of `tls` expires in 21 days: at 2027-02-14")
    assert world.told(9.2) == world.told(20) == []
    assert world.told(27.5) == [("critical", "", "", False), ("warning", "", "", True)]
    assert world.told(31) == []
    world.owns(("", 120.0), ("carrier", 300.0))
    assert world.told(31) == [("critical", "", "", True)]
    assert world.expires() == NOW + 120 * DAY


def test_one_that_is_gone(world: World) -> None:
    """A reload without it: no alert, no series."""
    world.owns(("", 400.0), ("carrier", 1.0))
    assert world.told() == [("critical", "carrier", "", False)]
    world.owns(("", 400.0))
    assert world.told() == [("critical", "carrier", "", True)]
    assert world.expires("carrier") != world.expires("carrier"), "it is absent"


def test_a_gateway_s(world: World) -> None:
    """The earliest of its addresses counts; one that the name no longer leads to does not."""
    world.expiry.shown(world.fixed.site.targets[0].flow, ends(40))
    assert world.told() == []
    places = [Place(0, 0, b"TLS", 5061, ("192.0.2.7", "192.0.2.8"))]
    world.named.site.learn(places, world.directory)
    for host, days in (("192.0.2.7", 50), ("192.0.2.8", 10), ("192.0.2.99", 1)):
        world.expiry.shown(Flow(world.listener, host, 5061, 3, trust=world.trust), ends(days))
    name = world.named.name
    assert world.told() == [("warning", "carrier", name, False)]
    assert name in world.texts[0]
    assert world.expires("carrier", name) == NOW + 10 * DAY
    world.named.site.learn([Place(0, 0, b"TLS", 5061, ("192.0.2.7",))], world.directory)
    assert world.told() == [("warning", "carrier", name, True)]
    assert world.expires("carrier", name) == NOW + 50 * DAY
    world.expiry.shown(Flow(world.listener, "192.0.2.7", 5061, 4, trust=Trust("other", ())), ends(1))
    assert world.told() == [], "of no trunk that there is"


def test_a_gateway_that_a_reload_has_taken_away(world: World) -> None:
    """What it has shown is forgotten with it, and what the new config's gateways show is heard."""
    world.expiry.shown(world.fixed.site.targets[0].flow, ends(10))
    name = world.fixed.name
    assert world.told() == [("warning", "carrier", name, False)]
    world.directory = World(Made(None, {})).directory
    assert world.told() == [("warning", "carrier", name, True)]
    world.expiry.shown(world.directory.trunks["carrier"].gateways[0].site.targets[0].flow, ends(1))
    assert ("critical", "carrier", name, False) in world.told()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "LOOK_SECONDS", 0.0)


async def serving(issued: Issued) -> asyncio.Server:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    return await asyncio.start_server(silent, HOST, 0, ssl=certificates.server(issued))


@pytest.mark.usefixtures("hasty")
async def test_a_look_sees_what_was_renewed(authority: Authority) -> None:
    """Long after the last handshake, without a call or an OPTIONS; a stranger's certificate shows nothing."""
    world = World(Made(None, {"carrier": trusting(authority)}))
    for names, over in ((("near.example",), False), (("far.example",), True)):
        server = await serving(authority.issue("far", *names, days=100))
        async with server:
            port = server.sockets[0].getsockname()[1]
            flow = Flow(world.listener, HOST, port, 7, trust=world.trust)
            world.named.site.learn([Place(0, 0, b"TLS", port, (HOST,))], world.directory)
            now = time.time()
            world.expiry.shown(
                flow, {"notAfter": time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(now + DAY))}
            )
            world.expiry.check(now)
            looking = world.expiry._looking
            assert looking is not None
            await until(looking.done)
            assert world.looks == over
            active = world.meters.values[world.meters.series("alerts_active", "certificate", "", "critical")]
            assert active == (not over)


@pytest.mark.usefixtures("hasty")
async def test_a_look_at_nobody(authority: Authority) -> None:
    world = World(Made(None, {"carrier": trusting(authority)}))
    world.named.site.learn([Place(0, 0, b"TLS", 1, (HOST,))], world.directory)
    world.expiry.shown(Flow(world.listener, HOST, 1, trust=world.trust), ends(1))
    world.expiry.check(NOW)
    assert world.expiry._looking is not None
    world.expiry.close()
    await asyncio.wait((world.expiry._looking,))
    assert world.looks == 0
