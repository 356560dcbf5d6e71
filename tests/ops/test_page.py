"""The HTTP side: a real ops process over real shared memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable

import httpx
import pytest
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from tests.ops.support import serving

from callgate.net.shared import Shared
from callgate.ops.render import Page, _histogram
from callgate.ops.view import View
from callgate.proxy.meters import ABSENT, METRICS


def sample(page: str, name: str, **labels: str) -> float | None:
    for family in parse_text(page):
        for found in family.samples:
            if found.name == name and found.labels == labels:
                return found.value
    return None


async def test_metrics_show_what_the_gate_counts_at_once(shared: Shared) -> None:
    meters = shared.meters
    meters.declare_key("acme", ["V1"], {"rate_window_limit": 3})
    async with serving(shared) as url, httpx.AsyncClient(base_url=url) as http:
        page = (await http.get("/metrics")).text
        assert sample(page, "callgate_rate_window_limit", key="acme") == 3
        refused = {"key": "acme", "direction": "outbound", "outcome": "refused", "rule": "V1"}
        assert sample(page, "callgate_calls_total", **refused) == 0
        meters.values[meters.series("calls_total", "acme", "outbound", "refused", "V1")] += 5
        meters.set("trunk_up", "carrier", "sip:127.0.0.1:5080", value=1)
        meters.set("rate_window_limit", "acme", value=ABSENT)
        meters.histogram("setup_added_seconds").observe(0.003)
        page = (await http.get("/metrics")).text
    assert sample(page, "callgate_calls_total", **refused) == 5
    assert sample(page, "callgate_trunk_up", trunk="carrier", gateway="sip:127.0.0.1:5080") == 1
    assert sample(page, "callgate_rate_window_limit", key="acme") is None
    assert sample(page, "callgate_setup_added_seconds_bucket", le="0.002") == 0
    assert sample(page, "callgate_setup_added_seconds_bucket", le="0.005") == 1
    assert sample(page, "callgate_setup_added_seconds_bucket", le="+Inf") == 1
    assert sample(page, "callgate_setup_added_seconds_count") == 1
    assert sample(page, "callgate_setup_added_seconds_sum") == 0.003
    assert (sample(page, "callgate_process_resident_memory_bytes") or 0) > 1_000_000


async def test_metrics_come_in_the_format_that_is_asked_for(shared: Shared) -> None:
    async with serving(shared) as url, httpx.AsyncClient(base_url=url) as http:
        plain = await http.get("/metrics", headers={"Accept-Encoding": "identity"})
        openmetrics = await http.get(
            "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"}
        )
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "content-encoding" not in plain.headers
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics.headers["content-encoding"] == "gzip"
    names = {family.name for family in parse_openmetrics(openmetrics.text)}
    assert names >= {"callgate_" + name.removesuffix("_total") for name in METRICS}


def test_2000_keys_make_a_page_that_parses_with_help_and_type_for_every_metric(shared: Shared) -> None:
    for n in range(2000):
        key = f"key-{n}"
        shared.meters.declare_key(
            key, ["V1", "V3", "K-X2"], {"rate_window_limit": n, "inbound_calls_limit": 100}
        )
        shared.meters.set("rate_window_used", key, value=n % 4)
    view = View(*shared.fds)
    body, _headers = Page(view, gate_pid=1).render("", "")
    page = body.decode()
    view.close()
    rows: dict[str, list[str]] = {}
    for line in page.splitlines():
        key = line.partition('key="')[2].partition('"')[0]
        rows.setdefault(key, []).append(line)
    alike = {
        tuple(line.replace(f'"{key}"', '""').split("} ")[0] for line in rows[key]) for key in rows if key
    }
    assert len(alike) == 1, "every key has the same series, in the same order"
    # The library's parser takes ten seconds for all of them.
    few = {*rows[""], *rows["key-1999"]}
    some = [line for line in page.splitlines() if line in few or "_window_limit{" in line]
    families = {family.name: family for family in parse_text("\n".join(some) + "\n")}
    for name, metric in METRICS.items():
        full = "callgate_" + name
        assert f"# HELP {full} " in page
        assert f"# TYPE {full} {metric.kind}\n" in page
        assert families[full.removesuffix("_total")].documentation == metric.help
    limits = {s.labels["key"]: s.value for s in families["callgate_rate_window_limit"].samples}
    assert limits == {f"key-{n}": float(n) for n in range(2000)}
    assert len(rows) == 1 + 2000
    assert sum(line.startswith("callgate_calls_total{") for line in rows["key-1999"]) == 3 * (6 + 3)


@pytest.mark.parametrize("key", ['a"b', "back\\slash", "line\nend", "日本", "{}=,", "\x00\x7f"])
def test_labels_come_out_as_they_went_in(shared: Shared, key: str) -> None:
    shared.meters.set("rate_window_used", key, value=2)
    view = View(*shared.fds)
    body, _ = Page(view, gate_pid=1).render("", "")
    view.close()
    assert sample(body.decode(), "callgate_rate_window_used", key=key) == 2


async def test_healthz_follows_the_heartbeat(shared: Shared) -> None:
    async with serving(shared) as url, httpx.AsyncClient(base_url=url) as http:
        shared.beat(time.monotonic() + 3600)
        alive = await http.get("/healthz")
        shared.beat(time.monotonic() - 3.5)
        stalled = await http.get("/healthz")
        shared.beat(time.monotonic() + 3600)
        again = await http.get("/healthz")
    assert (alive.status_code, alive.json()["status"]) == (200, "ok")
    assert (stalled.status_code, stalled.json()["status"]) == (503, "stalled")
    assert stalled.json()["heartbeat_age_seconds"] >= 3.5
    assert again.status_code == 200


async def test_readyz_is_503_only_while_draining_or_without_a_listener(shared: Shared) -> None:
    table = [
        ("starting", 0, 503),
        ("starting", 1, 200),
        ("ready", 2, 200),
        ("ready", 0, 503),
        ("draining", 2, 503),
    ]
    async with serving(shared) as url, httpx.AsyncClient(base_url=url) as http:
        for state, listeners, status in table:
            shared.state(state)
            shared.listeners(listeners)
            answer = await http.get("/readyz")
            assert answer.status_code == status, (state, listeners)
            assert answer.json() == {
                "status": "ready" if status == 200 else "not ready",
                "state": state,
                "listeners": listeners,
                "store": {"kind": "memory", "state": "up"},
                "database": {"kind": "none", "state": "none"},
                "trunks": {},
            }
        shared.state("ready")
        shared.listeners(1)
        shared.beat(time.monotonic() - 3600)
        assert (await http.get("/readyz")).status_code == 200


async def test_readyz_tells_of_trunks_and_goes_by_none(shared: Shared) -> None:
    one, other = "sip:one.example.jp;transport=tls", "sip:192.0.2.2:5060"
    shared.state("ready")
    shared.listeners(1)
    async with serving(shared) as url, httpx.AsyncClient(base_url=url) as http:
        for trunk, gateway, up in (
            ("a", one, 1.0),
            ("a", other, 0.0),
            ("b", other, 0.0),
            ("gone", one, ABSENT),
        ):
            shared.meters.set("trunk_up", trunk, gateway, value=up)
        shared.meters.set("registered", "b", value=0.0)
        answer = await http.get("/readyz")
        assert answer.status_code == 200
        assert answer.json()["trunks"] == {
            "a": {"state": "up", "registered": None, "gateways": {one: "up", other: "down"}},
            "b": {"state": "down", "registered": False, "gateways": {other: "down"}},
        }
        shared.meters.set("trunk_up", "a", one, value=0.0)
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["trunks"]["a"]["state"]) == (200, "down")


async def test_openapi_tells_the_paths_and_nothing_else_is_there(shared: Shared) -> None:
    async with serving(shared) as url, httpx.AsyncClient(base_url=url) as http:
        api = (await http.get("/openapi.json")).json()
        nothing = [
            (await http.get(path)).status_code for path in ("/", "/docs", "/redoc", "/metrics/", "/api")
        ]
        posted = await http.post("/metrics", content=b"x")
    open_to_all = {path for path in api["paths"] if not path.startswith("/api/v1/")}
    assert open_to_all == {"/metrics", "/healthz", "/readyz"}
    assert nothing == [404] * 5
    assert posted.status_code == 405


def test_what_needs_no_token_does_not_wait_for_the_admin_api() -> None:
    """Its libraries take longer to load than all the rest of ops."""
    look = "import sys, callgate.ops.app, callgate.ops.server; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True).stdout
    assert "starlette" in loaded.split()
    assert not {"fastapi", "pydantic", "sqlalchemy"} & set(loaded.split())


@pytest.mark.parametrize(
    "accept", ["", "text/plain;version=1.0.0", "application/openmetrics-text;version=1.0.0"]
)
def test_the_lines_are_what_the_library_writes(shared: Shared, accept: str) -> None:
    """Whatever stands in a label, and whatever a value is: of all metrics, of ours and its own."""
    meters = shared.meters
    odd = 'a"b\\c\nd\u202e=cmd|<script>'
    meters.declare_key(odd, ["V1"], {"rate_window_limit": 3})
    meters.set("trunk_up", odd, "sip:[::1]:5080", value=1)
    meters.set("loop_lag_seconds", value=1e-7)
    meters.set("records_held", value=123456789.5)

    meters.histogram("setup_added_seconds").observe(0.003)
    view = View(*shared.fds)
    ours, headers = Page(view, 1).render(accept, "identity")

    class Theirs(Collector):
        def collect(self) -> Iterable[Metric]:
            for name, series in view.series():
                of = METRICS[name]
                family = Metric("callgate_" + name.removesuffix("_total"), of.help, of.kind)
                for labels, at in series:
                    if of.kind == "histogram":
                        family.samples += _histogram("callgate_" + name, of, labels, view.values, at)
                    elif view.values[at] == view.values[at]:
                        family.samples.append(Sample("callgate_" + name, labels, view.values[at]))
                yield family

    encoder, content_type = choose_encoder(accept)
    theirs = encoder(Theirs()).decode().removesuffix("# EOF\n")
    assert headers["Content-Type"] == content_type
    assert ours.decode().startswith(theirs)
    rest = ours.decode().removeprefix(theirs)
    assert rest.startswith("# HELP callgate_process_")
    assert rest.endswith("# EOF\n") == ("openmetrics" in content_type)
