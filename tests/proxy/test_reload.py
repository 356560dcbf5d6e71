"""A reload while calls go on (`proxy.adopt`): what is up is untouched, what is new is held to the new config, and what
was learned of trunks and keys that stay is not forgotten."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import DID, NUMBERS, World
from tests.proxy.test_registration import answers

from callgate.net.wiring import parts_of, window_of
from callgate.policy.dial import DialRules
from callgate.policy.profile import Limits
from callgate.proxy.adopt import adopt
from callgate.proxy.directory import Directory
from callgate.proxy.flow import Flow
from callgate.proxy.health import Rules
from callgate.proxy.login import Account
from callgate.proxy.meters import ABSENT
from callgate.proxy.peers import Gateway, Key, Numbers, Trunk
from callgate.proxy.registration import Wanted
from callgate.sip.uri import parse_uri

WATCHED = Rules(interval=30.0, timeout=4.0, down_after=1, up_after=1)


def reload(
    world: World,
    *,
    key: str = "acme",
    gateways: tuple[int, ...] = (0,),
    rules: Rules | None = None,
    register: Wanted | None = None,
    account: Account | None = None,
    shadow: bool = False,
    trunk_name: str = "carrier",
    max_call_seconds: float | None = None,
    queue_seconds: float | None = None,
    trunk_limits: Limits | None = None,
    beside: Trunk | None = None,
    **limits: int | None,
) -> None:
    """Everything anew from the config, as if each section had changed; with these limits and gateways. `beside`: a
    further trunk of that config."""
    before = world.directory
    old = before.trunks["carrier"]
    shared = trunk_limits or Limits()
    trunk = Trunk(
        trunk_name,
        rules=rules or old.rules,
        register=register,
        account=account,
        window=window_of(trunk_name, shared),
    )
    for index, n in enumerate(gateways):
        host = ("198.51.100.1", "198.51.100.2", "198.51.100.3")[n]
        uri = parse_uri(f"sip:{host}:5080".encode())
        trunk.gateways.append(Gateway(index, uri, Flow(world.listeners[0], host, 5080), trunk))
    if queue_seconds is not None:
        limits |= {"on_rate_exceeded": "queue", "queue_seconds": queue_seconds}  # type: ignore[dict-item]
    asked = Limits(**{"outbound_cps": 50, **limits})  # type: ignore[arg-type]
    parts = parts_of(key, asked, trunk_name, shared, trunk.window)
    pbx = world.pbx.flow
    made = Key(
        key,
        trunk,
        DialRules(NUMBERS, "japan"),
        **parts._asdict(),
        networks=[ip_network(pbx.host if key == "acme" else "192.0.2.99")],
        pbx=Flow(pbx.listener, pbx.host, 5070),
        pbx_uri=parse_uri(f"sip:{pbx.host}:5070".encode()),
        shadow=shadow,
        max_call_seconds=max_call_seconds,
        queue_seconds=queue_seconds,
    )
    numbers = Numbers()
    numbers.add(DID, DID, made)
    world.note("-- reload --")
    world.directory = Directory(
        world.listeners, [trunk, *([beside] if beside else ())], [made], numbers, probing=before.probing
    )
    # What the config makes has cycles, and is collected while no call is up: here it stays.
    world.made += [before, world.directory, *trunk.gateways, *(beside.gateways if beside else ())]
    adopt(world.core, world.directory, world.now)
    if key == "acme":
        world.key = made
    world.trunk = trunk
    world.carries_out()


def refused(world: World, call: str, code: str = "503") -> str:
    world.pbx.sends("INVITE", call=call)
    world.pbx.gets("100", call=call)
    verdict = world.pbx.gets(code, call=call).get("x-callgate-verdict")
    world.pbx.sends("ACK", call=call)
    return verdict


def test_a_limit_below_what_is_in_use(ladder: Ladder) -> None:
    """It ends no call; the lines of calls from before count in the set of the same name."""
    world = ladder(outbound_calls=5)
    for call in "ab":
        world.talks(call=call)
    reload(world, outbound_calls=1)
    assert refused(world, "c") == "rule=C2;value=3;limit=1"
    world.hangs_up(call="a")
    assert refused(world, "d") == "rule=C2;value=2;limit=1"
    world.hangs_up(world.carrier, call="b")
    world.talks(call="e")
    world.hangs_up(call="e")


def test_tokens_that_are_out_stay_out(ladder: Ladder) -> None:
    """V1 holds over a reload: the carrier has seen those calls."""
    world = ladder(cps=2)
    for call in "ab":
        world.talks(call=call)
    reload(world, outbound_cps=2, outbound_calls=None)
    assert refused(world, "c") == "rule=V1;value=3;limit=2"
    for call in "ab":
        world.hangs_up(call=call)


def test_a_call_that_rings(ladder: Ladder) -> None:
    """Its answer, its CANCEL and what comes in its dialog find their way."""
    world = ladder()
    for call in "ab":
        world.pbx.sends("INVITE", call=call)
        world.pbx.gets("100", call=call)
        world.carrier.gets("INVITE", call=call)
        world.carrier.sends("180", call=call)
        world.pbx.gets("180", call=call)
    reload(world)
    world.carrier.sends("200", call="a")
    world.pbx.gets("200", call="a")
    world.pbx.sends("ACK", call="a")
    world.carrier.gets("ACK", call="a")
    world.hangs_up(world.carrier, call="a")
    world.pbx.sends("CANCEL", call="b")
    world.pbx.gets("200 CANCEL", call="b")
    world.carrier.gets("CANCEL", call="b")
    world.carrier.sends("200 CANCEL", call="b")
    world.carrier.sends("487 INVITE", call="b")
    world.carrier.gets("ACK", call="b")
    world.pbx.gets("487", call="b")
    world.pbx.sends("ACK", call="b")


def test_the_further_gateway_is_tried_under_the_new_limits(ladder: Ladder) -> None:
    """A failover is a new call to the carrier, and that one is there after the reload."""
    world = ladder(gateways=2, cps=5)
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    reload(world, gateways=(0, 1), outbound_cps=1)
    world.carrier.sends("503 INVITE")
    world.carrier.gets("ACK")
    world.pbx.gets("500")
    world.pbx.sends("ACK")


def test_the_key_of_a_call_is_removed(ladder: Ladder) -> None:
    """The call goes on to its end; a new one is a stranger's; its gauges go, its alerts are over."""
    world = ladder(outbound_calls=1)
    world.talks(call="a")
    refused(world, "b")
    reload(world, key="other", outbound_calls=3)
    assert [alert.resolved for alert in world.alerts if alert.rule == "C2"] == [False, True]
    world.pbx.sends("INVITE", call="c")
    world.pbx.gets("403", call="c")
    world.pbx.sends("INFO", call="a")
    world.carrier.gets("INFO", call="a")
    world.carrier.sends("200 INFO", call="a")
    world.pbx.gets("200 INFO", call="a")
    assert world.gauge("suspended") != world.gauge("suspended"), ABSENT
    world.hangs_up(world.carrier, call="a")


def test_a_pbx_that_sends_from_elsewhere(ladder: Ladder) -> None:
    """A key is the same one after a reload, though it is another object: any source of it may speak in its dialogs."""
    world = ladder()
    world.talks(call="a")
    reload(world)
    world.pbx.flow = Flow(world.pbx.flow.listener, world.pbx.flow.host, 6070)
    world.pbx.addresses.add((world.pbx.flow.host, 6070))
    world.hangs_up(call="a")


def test_the_longest_call_is_what_it_began_with(ladder: Ladder) -> None:
    world = ladder(max_call_seconds=100.0)
    world.talks(call="a")
    reload(world, max_call_seconds=10.0)
    world.talks(call="b")
    world.after(10.1)
    for side in (world.pbx, world.carrier):
        side.gets("BYE", call="b")
        side.sends("200 BYE", call="b")
    world.hangs_up(call="a")


def test_the_mode(ladder: Ladder) -> None:
    world = ladder(outbound_calls=1)
    world.talks(call="a")
    reload(world, outbound_calls=1, shadow=True)
    world.talks(call="b")
    reload(world, outbound_calls=1)
    assert refused(world, "c") == "rule=C2;value=3;limit=1"
    for call in "ab":
        world.hangs_up(call=call)


def test_what_is_known_of_a_gateway(ladder: Ladder) -> None:
    """One that is down stays down, whatever its place is now, and is asked on; one that is gone is asked no more."""
    world = ladder(gateways=2, rules=WATCHED)
    first, second = world.gateways
    world.after(0.1)
    first.gets("OPTIONS")
    second.gets("OPTIONS")
    first.sends("503 OPTIONS")
    second.sends("200 OPTIONS")
    up = world.meters.series("trunk_up", "carrier", "sip:198.51.100.1:5080")
    assert world.meters.values[up] == 0.0
    reload(world, gateways=(1, 0))
    assert world.meters.values[up] == 0.0
    reload(world, gateways=(0, 1))
    assert world.meters.values[up] == 0.0
    world.pbx.sends("INVITE")
    world.pbx.gets("100")
    second.gets("INVITE")
    second.sends("486 INVITE")
    second.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")
    world.after(30.1)
    first.gets("OPTIONS")
    first.sends("200 OPTIONS")
    second.gets("OPTIONS")
    second.sends("200 OPTIONS")
    assert world.alerts[-1].resolved
    reload(world, gateways=(1,))
    assert world.meters.values[up] != world.meters.values[up], ABSENT
    world.after(30.1)
    second.gets("OPTIONS")
    second.sends("200 OPTIONS")
    first.gets_nothing()


def test_an_alert_about_a_gateway_that_is_gone(ladder: Ladder) -> None:
    world = ladder(gateways=2, rules=WATCHED)
    world.after(0.1)
    for gateway in world.gateways:
        gateway.gets("OPTIONS")
        gateway.sends("503 OPTIONS")
    reload(world, gateways=(1,))
    over = [alert.details["gateway"] for alert in world.alerts if alert.resolved]
    assert over == ["sip:198.51.100.1:5080"]


def test_watching_begins_and_ends(ladder: Ladder) -> None:
    world = ladder()
    reload(world, rules=WATCHED)
    world.after(0.1)
    world.carrier.gets("OPTIONS")
    world.carrier.sends("200 OPTIONS")
    reload(world, rules=Rules())
    world.after(60)
    world.carrier.gets_nothing()


@pytest.mark.parametrize("less", [False, True])
def test_congestion(ladder: Ladder, less: bool) -> None:
    """K11: how far a key is slowed is not forgotten; with a lower limit its levels are fewer."""
    world = ladder(cps=8)
    for call in ("a", "b"):
        world.pbx.sends("INVITE", call=call)
        world.pbx.gets("100", call=call)
        world.carrier.gets("INVITE", call=call)
        world.carrier.sends("503 INVITE", call=call, headers=['Warning: 399 x "CPS limit"'])
        world.carrier.gets("ACK", call=call)
        world.pbx.gets("500", call=call)
        world.pbx.sends("ACK", call=call)
        world.after(1.1)
    assert world.key.congestion.raised == 2
    reload(world, outbound_cps=1 if less else 8)
    calls = ("c",) if less else ("c", "d")
    for call in calls:
        world.talks(call=call)
    assert refused(world, "e").startswith("rule=K11")
    for call in calls:
        world.hangs_up(call=call)
    world.after(30)


def test_a_registration(ladder: Ladder) -> None:
    """It stays while nothing of it changes, is made anew with other credentials, and taken back when it is not wanted:
    and another trunk's begins."""
    wanted = Wanted(b"sip:0312345678@carrier.example")
    world = ladder(register=wanted)
    world.core.registrations.start(world.now)
    world.carries_out()
    answers(world, 200)
    reload(world, register=wanted, outbound_cps=5)
    world.after(1)
    world.carrier.gets_nothing()
    reload(world, register=wanted, account=Account("gate", "new"))
    world.after(0.1)
    answers(world, 200)
    world.after(2000)
    reload(world)
    answers(world, 200, expires=0)
    reload(world, register=wanted)
    world.after(0.1)
    answers(world, 200)
    world.core.registrations.stop(world.now)
    world.carries_out()
    answers(world, 200, expires=0)


def test_a_suspension(ladder: Ladder) -> None:
    """It outlives a reload, also one that takes the key away for a while."""
    world = ladder()
    world.core.suspensions.suspend("acme", world.now, by="alice")
    world.carries_out()
    reload(world)
    assert world.gauge("suspended") == 1.0
    reload(world, key="other")
    assert world.alerts[-1].resolved
    reload(world)
    assert world.gauge("suspended") == 1.0
    world.pbx.sends("INVITE")
    world.pbx.gets("403")
    world.pbx.sends("ACK")
