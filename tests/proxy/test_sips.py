"""SIPS: TLS on every hop or not at all (RFC 3261 §26.2.2, RFC 5630 §4)."""

from __future__ import annotations

import pytest
from tests.proxy.conftest import Ladder
from tests.proxy.ladder import DIALLED

SECURE = f"sips:{DIALLED}@127.0.0.1:5061"


def test_over_tls_on_both_sides(ladder: Ladder) -> None:
    """It leaves as SIPS, and so does our Record-Route."""
    world = ladder(pbx_over="TLS", carrier_over="TLS")
    world.pbx.sends("INVITE", uri=SECURE)
    world.pbx.gets("100")
    invite = world.carrier.gets("INVITE")
    assert invite.uri == f"sips:{DIALLED}@198.51.100.1:5080;transport=tls"
    assert all(route.startswith("<sips:127.0.0.1:5061;") for route in invite.all("record-route"))
    world.carrier.sends("200")
    world.pbx.gets("200")
    world.pbx.sends("ACK")
    world.carrier.gets("ACK")
    world.hangs_up()
    world.holds_nothing()


@pytest.mark.parametrize(("pbx", "carrier"), [("TLS", "UDP"), ("TLS", "TCP"), ("UDP", "TLS"), ("UDP", "UDP")])
def test_never_a_downgrade(ladder: Ladder, pbx: str, carrier: str) -> None:
    """480, Warning 380; the caller's own hop counts too."""
    world = ladder(pbx_over=pbx, carrier_over=carrier)
    world.pbx.sends("INVITE", uri=SECURE)
    answer = world.pbx.gets("480")
    assert answer.get("warning").startswith("380 callgate ")
    world.pbx.sends("ACK")
    world.holds_nothing()
    world.pbx.sends("MESSAGE", uri=SECURE)
    assert world.pbx.gets("480 MESSAGE").get("warning").startswith("380 ")


def test_an_emergency_number_is_judged_first(ladder: Ladder) -> None:
    world = ladder()
    world.pbx.sends("INVITE", uri="sips:110@127.0.0.1:5060")
    world.pbx.gets("503")
    world.pbx.sends("ACK")


def test_inside_a_dialog(ladder: Ladder) -> None:
    """A SIPS target behind a hop that is not TLS: refused, the call goes on."""
    world = ladder()
    world.talks()
    contact = "<sips:carrier@198.51.100.1:5080>"
    world.carrier.sends("UPDATE", change={"contact": contact})
    world.pbx.gets("UPDATE")
    world.pbx.sends("200 UPDATE")
    world.carrier.gets("200 UPDATE")
    world.pbx.sends("INFO", change={})
    world.pbx.gets("480 INFO")
    world.holds(outbound=1)
    world.carrier.sends("BYE")
    world.pbx.gets("BYE")
    world.pbx.sends("200 BYE")
    world.carrier.gets("200 BYE")
