"""No label of a metric can be chosen from the network: whatever is written in messages, the same series count it."""

from __future__ import annotations

from tests.proxy.ladder import World


def rubbish(n: int) -> str:
    return f"%3Cscript%3E{n}=cmd%7C'{n}"


def one_of_each(world: World, n: int) -> None:
    """A number in disguise, a DID of nobody, a method nobody knows, a caller and a Call-ID of their own, a refusal of
    the trunk with words of its own."""
    caller = {
        "from": f'"<script>{n}" <sip:{rubbish(n)}@x{n}.example>;tag=t{n}',
        "call-id": f"<script>{n}@`{n}",
    }
    world.pbx.sends("INVITE", uri=f"sip:{rubbish(n)}@192.0.2.1", change=caller)
    world.pbx.gets("484")
    world.pbx.sends("ACK")
    unknown = {"call-id": f"u{n}", "to": f"<sip:{rubbish(n)}@192.0.2.1>"}
    world.carrier.sends("INVITE", uri=f"sip:{rubbish(n)}@192.0.2.1", change=unknown)
    world.carrier.gets("404")
    world.carrier.sends("ACK")
    world.pbx.sends(f"SCRIPT{n}", change={"call-id": f"m{n}"})
    world.carrier.gets(f"SCRIPT{n}")
    world.carrier.sends(f"501 SCRIPT{n}")
    world.pbx.gets("501")
    world.pbx.sends("INVITE", change={**caller, "call-id": f"c{n}"})
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("488", headers=[f'Warning: 399 x{n} "<script>{n}"', f"Reason: script{n};cause={n}"])
    world.carrier.gets("ACK")
    world.pbx.gets("488")
    world.pbx.sends("ACK")


def test_no_series_comes_of_what_is_written(world: World) -> None:
    one_of_each(world, 0)
    known = set(world.meters._at)
    for n in range(1, 30):
        one_of_each(world, n)
    assert set(world.meters._at) == known
    assert not [labels for labels in known if "script" in str(labels).lower()]
