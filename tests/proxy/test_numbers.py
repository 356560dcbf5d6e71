"""Which numbers pass, and whose a number is (K-X1, K-X2, K-X3, emergency, N1; rules.md, interface.md)."""

from __future__ import annotations

import pytest
from tests.numbers.support import KCT_NET
from tests.proxy.ladder import DID, World
from tests.proxy.text import Text

from callgate.policy.dial import Lists
from callgate.policy.numberlist import NumberList, Table


def is_refused(world: World, code: str, **invite: str) -> Text:
    """Without a 100, without a claim, without a word to the carrier."""
    world.pbx.sends("INVITE", **invite)  # type: ignore[arg-type]
    answer = world.pbx.gets(code)
    world.pbx.sends("ACK")
    world.carrier.gets_nothing()
    assert world.store.asked == 0
    assert not answer.has("retry-after")
    return answer


BLOCKED = {
    "0120123456": "K-X2",
    "+81120123456": "K-X2",
    "1860120123456": "K-X2",
    "0570012345": "K-X2",
    "00380312345678": "K-X3",
    "104": "K-X1",
    "171": "K-X1",
}


@pytest.mark.parametrize(("number", "rule"), BLOCKED.items(), ids=BLOCKED)
def test_a_blocked_number(any_world: World, number: str, rule: str) -> None:
    """403 at once, with the rule; the store is never asked, so it costs nothing."""
    answer = is_refused(any_world, "403", to=number)
    assert answer.get("x-callgate-verdict") == f"rule={rule}"
    assert answer.get("warning").startswith(f'399 callgate "{rule} ')
    record = any_world.record()
    assert (record.outcome, record.rule, record.verdict, record.raw) == ("refused", rule, "refused", number)
    assert not any_world.alerts


EMERGENCY = {
    "110": "K-X1+EMG",
    "119": "K-X1+EMG",
    "118": "K-X1+EMG",
    "184110": "K-X1+EMG",
    "911": "K-X1+EMG",
    "0119": "EMG-SUSPECT",
    "9110": "EMG-SUSPECT",
}


@pytest.mark.parametrize(("number", "rule"), EMERGENCY.items(), ids=EMERGENCY)
def test_an_emergency_call(any_world: World, number: str, rule: str) -> None:
    """rules.md: 503 at once so that the PBX takes its next route, never Retry-After, a critical alert with caller
    and number; never a claim, so it works with the store down."""
    answer = is_refused(any_world, "503", to=number)
    assert answer.get("x-callgate-verdict") == f"rule={rule}"
    alert = any_world.alerts[0]
    assert (alert.rule, alert.severity, alert.key) == (rule, "critical", "acme")
    told = {"caller": "1001", "dialled": number, "time": "1970-01-01T00:16:40.000Z"}
    assert dict(alert.details) == told
    assert any_world.gauge("emergency_calls_total", "refused") == 1


@pytest.mark.parametrize(
    "uri",
    ["urn:service:sos", "urn:service:sos.police", "sip:sos@127.0.0.1:5060", "tel:119;phone-context=+81"],
)
def test_other_ways_to_write_an_emergency_call(any_world: World, uri: str) -> None:
    is_refused(any_world, "503", uri=uri)
    assert any_world.alerts[0].severity == "critical"


def test_every_emergency_call_is_told(any_world: World) -> None:
    """Never one of many: an alert for each, resolved once."""
    for _ in range(3):
        is_refused(any_world, "503", to="110")
    assert [a.resolved for a in any_world.alerts] == [False] * 3


def test_emergency_comes_before_draining(any_world: World) -> None:
    """rules.md: judged before every other check: the alert is raised by a gate that goes down as well."""
    any_world.core.draining = True
    is_refused(any_world, "503", to="119")
    assert any_world.alerts


def test_a_stranger_cannot_raise_an_emergency_alert(any_world: World) -> None:
    """Judged after the caller is identified."""
    any_world.stranger.sends("INVITE", to="110")
    any_world.stranger.gets("403")
    assert not [alert for alert in any_world.alerts if alert.severity == "critical"]


@pytest.mark.parametrize("number", ["x", "03%00", "+"])
def test_what_is_no_number(any_world: World, number: str) -> None:
    """484."""
    is_refused(any_world, "484", uri=f"sip:{number}@127.0.0.1:5060")


@pytest.mark.parametrize(
    "number", ["0312345678", "+81312345678", "1840312345678", "09012345678", "0118123456", "0184221234"]
)
def test_an_allowed_number_leaves_as_it_was_dialled(world: World, number: str) -> None:
    """rules.md: the raw string is what is forwarded."""
    world.pbx.sends("INVITE", to=number)
    world.pbx.gets("100")
    assert world.carrier.gets("INVITE").uri == f"sip:{number}@198.51.100.1:5080"
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


def test_the_request_uri_is_judged_not_to(world: World) -> None:
    """rules.md: outbound is judged on the Request-URI."""
    world.pbx.sends(
        "INVITE", uri="sip:0312345678@127.0.0.1:5060", change={"to": "<sip:0120123456@127.0.0.1>"}
    )
    world.pbx.gets("100")
    world.carrier.gets("INVITE")
    world.carrier.sends("486")
    world.carrier.gets("ACK")
    world.pbx.gets("486")
    world.pbx.sends("ACK")


# -- inbound -----------------------------------------------------------------------------------------------------

OTHER = "+815099999999"
DIDS = {
    "P-Called-Party-ID": (OTHER, OTHER, f"<sip:{DID}@ims.example>"),
    "P-Called-Party-ID before the others": ("0312345678", "0312345678", f"<tel:{DID}>"),
    "Request-URI": (DID, OTHER, None),
    "Request-URI, national": ("05012345678", OTHER, None),
    "Request-URI, tel": (f"tel:{DID}", OTHER, None),
    "To": ("trunk-account-1", DID, None),
    "To, national": ("trunk-account-1", "050-1234-5678", None),
}


@pytest.mark.parametrize(("uri", "to", "called"), DIDS.values(), ids=DIDS)
def test_whose_number_it_is(world: World, uri: str, to: str, called: str | None) -> None:
    """interface.md: P-Called-Party-ID, else the Request-URI's number, else To's. The user part is kept."""
    request_uri = uri if uri.startswith("tel:") else f"sip:{uri}@127.0.0.1:5060"
    headers = [f"P-Called-Party-ID: {called}"] if called else []
    world.carrier.sends("INVITE", uri=request_uri, to=to, headers=headers)
    world.carrier.gets("100")
    invite = world.pbx.gets("INVITE")
    assert invite.uri == f"sip:{uri.removeprefix('tel:')}@192.0.2.10:5070"
    world.holds(inbound=1)
    world.pbx.sends("486")
    world.pbx.gets("ACK")
    world.carrier.gets("486")
    world.carrier.sends("ACK")


@pytest.mark.parametrize("called", [OTHER, "0312345678", "anonymous", ""])
def test_an_unknown_number(any_world: World, called: str) -> None:
    """N1: 404, and the trunk learns no more."""
    world = any_world
    world.carrier.sends("INVITE", uri=f"sip:{called or 'x'}@127.0.0.1:5060", to=called or "x")
    answer = world.carrier.gets("404")
    world.carrier.sends("ACK")
    world.pbx.gets_nothing()
    assert world.store.asked == 0
    assert answer.to_tag
    assert world.rejected("unknown number") == 1


def test_an_inbound_number_is_not_judged_by_the_outbound_rules(world: World) -> None:
    """K-X is about what is dialled outwards: the caller may be anybody."""
    world.carrier.sends("INVITE", change={"from": "<sip:110@carrier.example>;tag=carrier-1"})
    world.carrier.gets("100")
    world.pbx.gets("INVITE")
    world.pbx.sends("480")
    world.pbx.gets("ACK")
    world.carrier.gets("480")
    world.carrier.sends("ACK")


def test_a_carrier_prefix_under_kct_net_raises_the_alert_acr_on(any_world: World) -> None:
    """K3: blocked, never stripped, and somebody is told, once."""
    any_world.key.dial = KCT_NET
    for _ in range(2):
        answer = is_refused(any_world, "403", to="00770312345678")
        assert answer.get("x-callgate-verdict") == "rule=K-X3"
    (alert,) = any_world.alerts
    assert (alert.rule, alert.severity, alert.key) == ("K3", "warning", "acme")
    assert alert.text.startswith("ACR on")
    assert dict(alert.details) == {"dialled": "00770312345678"}


@pytest.mark.parametrize(
    ("number", "rule"),
    [
        ("0612345678", "N4"),
        ("+81 (0)3-5555-1234", "N3"),
        ("1840355551234", "N3"),
        ("sip:alice", "N2"),
        ("119", "K-X1+EMG"),
    ],
)
def test_the_lists_of_a_key(any_world: World, number: str, rule: str) -> None:
    table = [Table(), Table()]
    for n, entry in enumerate(("0[36]5555XXXX", "03")):
        table[n].add(entry)
    lists = Lists("key acme", block=NumberList(table[0]), allow=NumberList(table[1]), default="deny")
    any_world.key.dial = any_world.key.dial.narrowed([lists])
    code = {"119": "503", "sip:alice": "484"}.get(number, "403")
    to = number.removeprefix("sip:").replace(" ", "%20")
    assert is_refused(any_world, code, to=to).get("x-callgate-verdict") == f"rule={rule}"


def test_a_number_in_disguise_has_a_record_and_is_counted(world: World) -> None:
    """Refused like any other: who asks why finds it in the records, and in `calls_total`."""
    world.pbx.sends("INVITE", uri="sip:=cmd%7C%0D%0A%3Cscript%3E0312345678@127.0.0.1:5060")
    refused = world.pbx.gets("484")
    assert 'callgate "N2 ' in refused.get("warning")
    assert "rule=N2" in refused.get("x-callgate-verdict")
    world.pbx.sends("ACK")
    world.carrier.gets_nothing()
    record = world.record()
    assert (record.verdict, record.rule, record.final_code) == ("refused", "N2", 484)
    assert (record.raw, record.canonical) == ("=cmd%7C%0D%0A%3Cscript%3E0312345678", "")
    assert world.gauge("calls_total", "outbound", "refused", "N2") == 1
