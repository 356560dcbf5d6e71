"""Every query of every dashboard, by a real Prometheus with the rules of deploy/, over a gate with SIPp's calls."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml
from tests.e2e.gate import Gate, free_port, hostport, spawn, until
from tests.e2e.net import DID, NUMBER, Net
from tests.e2e.sipp import Sipp

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
BOARDS = sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
EMPTY = {
    'callgate_registered{trunk="carrier"}': "the trunk has no `register`",
    "callgate_certificate_expires_seconds - time()": "no TLS",
    '60 * sum by (rule) (rate(callgate_shadow_refusals_total{key="acme"}[10s]))': "not in shadow mode",
    "60 * sum by (transport) (rate(callgate_send_failures_total[10s]))": "nothing failed to be sent",
}
"""Queries that may find nothing here, and why."""


class Prometheus:
    """The server with the config of deploy/, but quicker and at this gate."""

    def __init__(self, folder: Path, host: str, gate: tuple[str, int]) -> None:
        config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        config["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in config["rule_files"]]
        del config["alerting"]
        config["scrape_configs"][0]["static_configs"][0]["targets"] = [hostport(gate)]
        file = folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(config))
        self.address = hostport((host, free_port(host)))
        self._log = (folder / "prometheus.log").open("wb")
        self.process = spawn(
            [
                "prometheus",
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address={self.address}",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()

    def said(self) -> str:
        return Path(self._log.name).read_text("utf-8", "replace")

    def ask(self, query: str) -> list[dict[str, Any]]:
        """What it finds now, NaN left out (a share of nothing); [] while it is not up."""
        url = f"http://{self.address}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
                return [row for row in found if row["value"][1] != "NaN"]
        except urllib.error.HTTPError as error:
            if error.code != 503:  # it reads its files
                raise AssertionError(f"{query}: {error.read().decode()}") from error
            return []
        except OSError:
            return []


def queries() -> dict[str, str]:
    """Query, with the variables filled in → the panel it stands in."""
    found = {}
    for path in BOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                query = target["expr"].replace("$__rate_interval", "10s").replace("$keys", ".*")
                query = query.replace("$key", "acme").replace("$trunk", "carrier")
                assert "$" not in query, query
                found[query] = f"{path.stem}: {panel['title']}"
    return found


def test_no_panel_is_empty(net: Net) -> None:
    """`acme` calls out, faster than it may, and is called; `beta` calls out and waits for its turn."""
    carrier = net.add(Sipp(net.folder, "uas-answers", net.host(3), calls=1000))
    pbx = net.add(Sipp(net.folder, "uas-hangs-up", net.host(2), calls=1))
    limits = {"outbound_cps": 3, "inbound_calls": 5, "forwarded_calls": 2, "lines": 6, "recordings": 2}
    beta = {"numbers": ["+815012345679"], "limits": {"on_rate_exceeded": "queue", "queue_seconds": 5}}
    gate = net.add(
        Gate(
            net.folder,
            net.host(1),
            trunks={"carrier": {"gateways": [carrier.uri]}},
            keys={
                "acme": {"sources": [net.host(2)], "pbx": pbx.uri, "numbers": [DID], "limits": limits},
                "beta": {"sources": [net.host(4)], "pbx": pbx.uri, **beta},
            },
        )
    ).run()
    prometheus = net.add(Prometheus(net.folder, net.host(1), gate.ops))
    until(lambda: prometheus.ask("callgate:limit_max"), prometheus.said)
    for side in (carrier, pbx):
        side.start()

    def calls(scenario: str, last: int, number: str, count: int) -> Sipp:
        return net.add(
            Sipp(net.folder, scenario, net.host(last), to=gate.address, number=number, calls=count, hold=500)
        ).start()

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind((net.host(9), 0))
        stranger.sendto(b"rubbish\r\n\r\n", gate.address)
    callers = [
        calls("uac-is-throttled", 2, NUMBER, 12),
        calls("uac-hangs-up", 4, NUMBER, 8),
        calls("uac-is-hung-up-on", 3, DID, 1),
    ]
    missing = {query: panel for query, panel in queries().items() if query not in EMPTY}

    def all_found() -> bool:
        for query in list(missing):
            if prometheus.ask(query):
                del missing[query]
        return not missing

    until(all_found, lambda: f"nothing was found for {missing}", 30)
    for caller in callers:
        caller.done()
    assert set(EMPTY) <= queries().keys(), "the list of what may be empty names queries of the dashboards"
    assert [query for query in EMPTY if prometheus.ask(query)] == [], "no longer empty: take it off the list"
