"""The admin API of a real gate: what it tells, what it changes, and rubbish of every kind (schemathesis)."""

from __future__ import annotations

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.e2e.gate import Gate, hostport, until
from tests.e2e.net import FORBIDDEN, NUMBER, Net
from tests.e2e.phone import Leg, establish

TOKENS = [
    {"name": "grafana", "role": "view", "token": "a-token-that-may-look"},
    {"name": "ops", "role": "operate", "token": "a-token-that-may-do"},
]
NASTY = "a\"b'<script>alert(1)</script>=cmd|' /C calc'!A0"

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
HOW = settings(
    max_examples=10,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def client(gate: Gate, token: str) -> httpx.Client:
    return httpx.Client(
        base_url=f"http://{hostport(gate.ops)}", headers={"Authorization": f"Bearer {token}"}, timeout=60
    )


def test_the_operator_s_day_over_http(net: Net) -> None:
    """Calls are listed and ended, a key is suspended and resumed, refusals say why; the audit log has the token."""
    pbx, carrier = net.pbx(), net.carrier()
    limits = {"outbound_cps": None, "outbound_calls": 5}
    gate = net.gate(pbx, carrier, limits=limits, admin={"tokens": TOKENS}).run()
    with client(gate, "a-token-that-may-look") as view, client(gate, "a-token-that-may-do") as ops:
        out, into = establish(pbx, gate.address, NUMBER, carrier)
        (call,) = view.get("/api/v1/calls", params={"key": "acme"}).json()["items"]
        assert (call["to"], call["lines"]) == (NUMBER, {"outbound_calls": 1})
        (key,) = view.get("/api/v1/keys").json()["items"]
        assert key["limits"]["outbound_calls"] == {"rule": "C2", "used": 1, "limit": 5}
        assert "at most 5 ordinary" in " ".join(view.get("/api/v1/keys/acme/arithmetic").json()["lines"])
        assert view.post("/api/v1/keys/acme/suspend", json={}).status_code == 403
        for path in ("/api/v1/keys/nobody", "/api/v1/calls?key=nobody", "/api/v1/cdrs?key=nobody"):
            answer = view.get(path)
            assert (answer.status_code, "`nobody`" in answer.json()["detail"]) == (404, True), path
        assert view.get("/api/v1/trunks").json()["carrier"]["state"] == "up"

        done = ops.post(f"/api/v1/calls/{call['id']}/release", json={"hangup": True})
        assert (done.status_code, done.json()["call_id"]) == (200, call["call_id"])
        for side in (out, into):
            side.answer(200, side.endpoint.expect("BYE", call_id=side.call_id))
        until(lambda: view.get("/api/v1/cdrs?key=acme&limit=1").json()["items"], "the call's record")
        (life,) = view.get("/api/v1/explain", params={"call_id": call["call_id"]}).json()["items"]
        assert life["state"] == "ended"

        refused = Leg.call(pbx, gate.address, FORBIDDEN)
        refused.ack(pbx.expect(403, "INVITE", refused.call_id))
        (refusal,) = view.get("/api/v1/refusals").json()["items"]
        assert (refusal["to"], refusal["rule"]) == (FORBIDDEN, "K-X2")
        until(lambda: len(view.get("/api/v1/cdrs").json()["items"]) == 2, "the refusal's record")
        first = view.get("/api/v1/cdrs?limit=1").json()
        second = view.get("/api/v1/cdrs", params={"limit": 1, "after": first["next"]}).json()
        assert [first["items"][0]["verdict"], second["items"][0]["verdict"]] == ["refused", "passed"]

        assert ops.post("/api/v1/keys/acme/suspend", json={"reason": NASTY}).json()["reason"] == NASTY
        assert "V9" in {one["rule"] for one in view.get("/api/v1/alerts").json()["items"]}
        assert ops.post("/api/v1/keys/acme/resume").status_code == 200
        assert ops.post("/api/v1/keys/acme/resume").status_code == 409
        audit = view.get("/api/v1/audit").json()["items"]
        assert {one["what"] for one in audit if one["who"].startswith("ops (API; ")} >= {"release", "suspend"}
        assert "a-token" not in str(audit)
    assert gate.stop() == 0
    assert "a-token-that" not in gate.said()


def test_rubbish_of_every_kind(net: Net) -> None:
    """schemathesis asks every path of the OpenAPI, as it says and otherwise: no answer is one that it does not tell of,
    and the gate still serves."""
    pbx, carrier = net.pbx(), net.carrier()
    gate = net.gate(pbx, carrier, admin={"tokens": TOKENS}).run()
    url = f"http://{hostport(gate.ops)}"
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    headers = {"Authorization": "Bearer a-token-that-may-do"}
    operations = [found.ok() for found in schema.get_all_operations()]
    mine = [one for one in operations if one.path.startswith("/api/") and one.path != "/api/v1/reload"]
    assert len(mine) >= 13
    for one in mine:

        @settings(HOW)
        @given(one.as_strategy(generation_mode=GenerationMode.POSITIVE))
        def as_it_says(case: schemathesis.Case) -> None:
            case.call_and_validate(base_url=url, headers=headers, checks=CHECKS, timeout=60)

        as_it_says()
        if one.body or any(one.iter_parameters()):

            @settings(HOW)
            @given(one.as_strategy(generation_mode=GenerationMode.NEGATIVE))
            def otherwise(case: schemathesis.Case) -> None:
                case.call_and_validate(base_url=url, headers=headers, checks=CHECKS, timeout=60)

            otherwise()
    assert gate.http("/healthz")[0] == 200
    assert gate.stop() == 0
