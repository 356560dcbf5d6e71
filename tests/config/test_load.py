"""A good config: what it comes to."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from callgate.config import Config, ConfigError, ListenUri, Numbers, SipPeer, effective_limits, load_config

ROOT = Path(__file__).parents[2]
LEAST = """\
trunks:
  carrier:
    gateways: ["sip:127.0.0.1:5080"]
keys:
  acme:
    sources: ["127.0.0.1"]
"""


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    return load_config(path)


def test_the_least_config(tmp_path: Path) -> None:
    config = load(tmp_path, LEAST)
    assert [str(one.uri) for one in config.listen] == ["udp://127.0.0.1:5060", "tcp://127.0.0.1:5060"]
    assert str(config.ops) == "127.0.0.1:9060"
    assert config.state_dir == tmp_path / "state"
    assert config.keys["acme"].trunk == "carrier"
    assert config.trunks["carrier"].try_seconds == 4
    assert config.profiles["carrier"].name == "standard"
    assert config.log.level == "info"
    assert config.log.full_numbers is False


def test_the_example_works_as_it_is() -> None:
    config = load_config(ROOT / "config" / "callgate.yaml")
    assert [str(one.uri) for one in config.listen] == ["udp://127.0.0.1:5060", "tcp://127.0.0.1:5060"]
    assert config.trunks["carrier"].gateways == (SipPeer("127.0.0.1", 5080, "udp"),)
    assert config.keys["acme"].pbx == SipPeer("127.0.0.1", 5070, "udp")
    assert effective_limits(config, "acme").outbound_cps == 3


WHOLE = """\
listen: ["udp://127.0.0.1:5060", {uri: "tcp://[::1]:5060", advertise: "sip.example.jp:5061"}, "udp://[::1]:5060"]
tls: null
digest: {realm: callgate, algorithms: [SHA-256], nonce_seconds: 300, secret: null,
         throttle: {failures: 10, per_seconds: 10, block_seconds: 60}}
ops: null
database: "sqlite:///callgate.db"
store: "memory"
state_dir: null
secret: "file:signing.key"
probe: {interval_seconds: 300, misses: 3, gap_seconds: 10}
drain_seconds: 1.5
dns: {servers: [], timeout_ms: 2000, stale_seconds: 3600}
admin: {tokens: []}
webhooks: []
hep: null
mode: enforce
log: {level: debug, full_numbers: true}
trunks:
  carrier:
    gateways: ["sip:127.0.0.1:5080", "sip:[::1]:5090;transport=tcp"]
    sources: [192.0.2.0/24, "2001:db8::1"]
    profile: standard
    numbering: any
    emergency_route: null
    credentials: null
    register: null
    tls: null
    health: {interval_seconds: 30, timeout_seconds: 4, down_after: 3, up_after: 2}
    try_seconds: 2.5
    retry_after_max: 300
    upstream_503: pass
    psap_callback: true
    limits: {}
keys:
  acme:
    sources: ["127.0.0.1/32"]
    digest: null
    require: []
    tls_names: []
    secret_header: null
    pbx: "sip:127.0.0.1:5070"
    numbers:
      - "+8150123456{00-49}"
      - +81501234565{0-9}
      - 05012345670
      - {number: "+815012345679", route: null}
    trunk: carrier
    recorders: []
    mode: enforce
    limits:
      outbound_cps: 3
      on_rate_exceeded: reject
      queue_seconds: 2.0
      inbound_calls: 100
      forwarded_calls: 50
      lines: 100
      outbound_calls: null
      calls: null
      recordings: 10
      on_recordings_exceeded: reject
      max_call_seconds: 14400
      redial_gap_seconds: null
"""


def test_every_key_that_the_reference_names(tmp_path: Path) -> None:
    (tmp_path / "signing.key").write_text("0123456789abcdef\n")
    config = load(tmp_path, WHOLE)
    assert config.listen[1].uri == ListenUri("tcp", "::1", 5060)
    assert str(config.listen[1].sent_by) == "sip.example.jp:5061"
    assert str(config.listen[2].sent_by) == "[::1]:5060"
    assert config.ops is None
    assert config.state_dir is None
    assert config.secret is not None
    assert config.secret.get_secret_value() == "0123456789abcdef"
    trunk = config.trunks["carrier"]
    assert trunk.gateways[1] == SipPeer("::1", 5090, "tcp")
    assert str(trunk.gateways[1]) == "sip:[::1]:5090;transport=tcp"
    assert trunk.sources == (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::1/128"))
    assert (trunk.numbering, trunk.try_seconds, trunk.upstream_503) == ("any", 2.5, "pass")
    assert trunk.psap_callback
    numbers = [one.number for one in config.keys["acme"].numbers]
    assert numbers[0] == Numbers("+815012345600", "+815012345649")
    assert [len(one) for one in numbers] == [50, 10, 1, 1]
    assert numbers[2].first == "+815012345670"


def test_empty_sections_are_their_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, LEAST + "    limits:\n    numbers:\n    require:\ndns:\nwebhooks:\nlog:\n")
    assert config.keys["acme"].limits.by_hand == {}
    assert config.keys["acme"].numbers == ()
    assert config.log.level == "info"


def test_aliases_and_merges(tmp_path: Path) -> None:
    text = LEAST.replace(
        "acme:\n", 'acme:\n    limits: &few {outbound_cps: 1, calls: 2}\n    pbx: "sip:127.0.0.3"\n'
    )
    text += '  other:\n    sources: ["127.0.0.2"]\n    limits:\n      <<: *few\n      calls: 5\n'
    config = load(tmp_path, text)
    assert config.keys["other"].limits.by_hand == {"outbound_cps": 1, "calls": 5}


@pytest.mark.parametrize("written", ["off", "no", "0x10", "1_000", "12:30:45", "null_trunk", "2026-01-01"])
def test_text_stays_as_it_is_written(tmp_path: Path, written: str) -> None:
    with pytest.raises(ConfigError, match=f"there is no trunk `{written}`"):
        load(tmp_path, LEAST + f"    trunk: {written}\n")


@pytest.mark.parametrize("quoted", ['"null"', "'~'", '""'])
def test_a_quoted_null_is_text(tmp_path: Path, quoted: str) -> None:
    with pytest.raises(ConfigError, match="ops: must be"):
        load(tmp_path, LEAST + f"ops: {quoted}\n")


def test_windows_line_ends_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + LEAST.replace("\n", "\r\n").encode())
    assert list(load_config(path).keys) == ["acme"]


def test_a_more_specific_network_may_lie_in_another_key_s(tmp_path: Path) -> None:
    config = load(tmp_path, LEAST + '  other:\n    sources: ["127.0.0.0/8"]\n')
    assert len(config.keys) == 2


def test_a_gateway_s_address_may_lie_in_a_key_s_network(tmp_path: Path) -> None:
    assert load(tmp_path, LEAST).trunks["carrier"].gateways[0].host == "127.0.0.1"


def test_loading_changes_nothing_for_the_next_time(tmp_path: Path) -> None:
    first, second = load(tmp_path, LEAST), load(tmp_path, LEAST)
    assert first == second
    assert first.profiles == second.profiles
