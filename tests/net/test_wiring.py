"""From the config to the core: what a key may show, and whom it may be asked about."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.config import Numbers, load_config
from callgate.net.key_parts import caller_ids_of
from callgate.net.wiring import directory_of, listeners_of, names_of, ways_of
from callgate.policy.dial import DialRules
from callgate.policy.profile import NumberRules
from callgate.proxy.directory import Directory
from callgate.proxy.peers import Gateway, Key, Trunk

CONFIG = """\
listen: ["udp://127.0.0.1:5060"]
state_dir: null
trunks: {carrier: {gateways: ["sip:127.0.0.1:5080"]}}
keys:
  plain: {sources: ["127.0.0.2"], pbx: "sip:127.0.0.2", numbers: ["+815012345678"]}
  edge:
    sources: ["127.0.0.3"]
    pbx: "sip:127.0.0.3"
    numbers: ["+8150123456{00-09}"]
    trusted: false
    caller_ids: ["05012345678", "+8150123456{00-99}"]
"""


def made(tmp_path: Path, text: str = CONFIG) -> Directory:
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    config = load_config(path)
    return directory_of(config, listeners_of(config))


def test_what_a_key_may_show(tmp_path: Path) -> None:
    keys = made(tmp_path).keys
    plain, edge = keys["plain"], keys["edge"]
    assert (plain.trusted, plain.caller_ids, plain.only_number) == (True, None, "+815012345678")
    assert (edge.trusted, edge.only_number) == (False, "")
    allowed = edge.caller_ids
    assert allowed is not None
    for number in ("+815012345678", "+815012345600", "+815012345699"):
        assert allowed.get(number) is edge
    assert allowed.get("+815012345700") is None


def test_a_key_without_numbers(tmp_path: Path) -> None:
    text = CONFIG.replace(', pbx: "sip:127.0.0.2", numbers: ["+815012345678"]', "")
    assert made(tmp_path, text).keys["plain"].only_number == ""


RANGES = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 20)).map(
        lambda pair: Numbers(f"+8150123456{pair[0]:02}", f"+8150123456{sum(pair):02}")
    ),
    min_size=1,
    max_size=8,
)


@given(RANGES)
def test_ranges_of_caller_ids_may_overlap(ranges: list[Numbers]) -> None:
    """A number is in the list when it is in any range of it."""
    key = Key("acme", Trunk("carrier"), DialRules(NumberRules({})))
    allowed = caller_ids_of(ranges, key)
    for n in range(100):
        number = f"+8150123456{n:02}"
        assert (allowed.get(number) is key) == any(number in one for one in ranges)


# -- names ------------------------------------------------------------------------------------------------------------

NAMES = """\
listen: ["udp://0.0.0.0:5060", "tcp://127.0.0.1:5060", "udp://[::1]:5060"]
state_dir: null
trunks:
  one: {gateways: ["sip:127.0.0.9", "sip:trunk.example"]}
  two: {gateways: ["sip:trunk.example", "sip:trunk.example:5060"]}
keys:
  acme: {sources: ["127.0.0.2"], pbx: "sip:asterisk:5070", trunk: one, numbers: ["+815012345678"]}
"""


def test_who_is_at_a_name(tmp_path: Path) -> None:
    """One look-up for all who share a name; with a port it is another question."""
    path = tmp_path / "gate.yaml"
    path.write_text(NAMES)
    config = load_config(path)
    directory = directory_of(config, listeners_of(config))
    found = {str(peer): who for peer, who in names_of(config, directory).items()}
    one, two = directory.trunks["one"].gateways, directory.trunks["two"].gateways
    assert found == {
        "sip:trunk.example": [one[1], two[0]],
        "sip:trunk.example:5060": [two[1]],
        "sip:asterisk:5070": [directory.keys["acme"]],
    }
    assert one[0].flow is not None
    assert one[1].flow is None
    assert one[1].hostport == b"trunk.example"


def test_the_ways_out(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(NAMES)
    config = load_config(path)
    assert ways_of(listeners_of(config)) == {b"UDP": (4, 6), b"TCP": (4,)}


def test_the_start_looks_up_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the gate calls itself, behind 0.0.0.0, is asked of the routing table, not of DNS."""
    path = tmp_path / "gate.yaml"
    path.write_text(NAMES.replace("sip:127.0.0.9", "sip:other.example"))
    connected: list[object] = []

    class Probe:
        def __init__(self, *_: object) -> None: ...

        def __enter__(self) -> Probe:
            return self

        def __exit__(self, *_: object) -> None: ...

        def connect(self, address: tuple[str, int]) -> None:
            connected.append(address[0])

        def getsockname(self) -> tuple[str, int]:
            return "198.51.100.7", 0

    monkeypatch.setattr("callgate.net.wiring.socket.socket", Probe)
    assert listeners_of(load_config(path))[0].host == "198.51.100.7"
    assert connected == ["192.0.2.1"]


def test_what_a_reload_makes_anew(tmp_path: Path) -> None:
    """Keys and trunks of which the config says the same are the same objects, whatever else has changed; a limit that
    is null is not one that is not there."""
    path = tmp_path / "gate.yaml"
    path.write_text(CONFIG)
    config = load_config(path)
    listeners = listeners_of(config)
    before = directory_of(config, listeners)

    def again(text: str) -> Directory:
        path.write_text(text)
        return directory_of(load_config(path), listeners, (config, before))

    def same(after: Directory) -> tuple[bool, bool, bool]:
        keys = [after.keys[name] is before.keys[name] for name in ("plain", "edge")]
        return after.trunks["carrier"] is before.trunks["carrier"], keys[0], keys[1]

    assert same(again(CONFIG + "drain_seconds: 7\n")) == (True, True, True)
    assert same(again(CONFIG.replace("trusted: false", "trusted: true"))) == (True, True, False)
    less = again(CONFIG.replace("  edge:\n", "  edge:\n    limits: {outbound_cps: null}\n"))
    assert same(less) == (True, True, False)
    assert same(again(CONFIG + "mode: shadow\n")) == (True, False, False)
    assert same(again(CONFIG.replace("5080", "5081"))) == (False, False, False)
    assert less.key_of_number("+815012345605") is less.keys["edge"]


@pytest.mark.parametrize(
    ("route", "name", "first"),
    [
        ("carrier", "carrier", None),
        ("backup", "backup", None),
        ("sip:127.0.0.1:5081", "carrier", "sip:127.0.0.1:5081"),
        ("sip:127.0.0.1:5082", "backup", "sip:127.0.0.1:5082"),
        ("sip:192.0.2.9", "emergency sip:192.0.2.9:5060", None),
    ],
)
def test_the_emergency_route(tmp_path: Path, route: str, name: str, first: str | None) -> None:
    """A trunk that is named, or whose gateway it is; else one of its own, for all who name it."""
    path = tmp_path / "gate.yaml"
    path.write_text(f"""\
trunks:
  carrier: {{gateways: ["sip:127.0.0.1:5080", "sip:127.0.0.1:5081"], emergency_route: "{route}", emergency_code: 404}}
  backup: {{gateways: ["sip:127.0.0.1:5082"], emergency_route: "{route}"}}
keys:
  acme: {{sources: ["127.0.0.1"], trunk: carrier}}
""")
    config = load_config(path)
    directory = directory_of(config, listeners_of(config))
    trunk = directory.trunks["carrier"]
    assert trunk.emergency is directory.trunks[name]
    assert directory.trunks["backup"].emergency is trunk.emergency
    assert trunk.emergency_code == 404
    chosen = trunk.emergency_first
    assert (chosen.name if chosen is not None else None) == first
    assert len(trunk.emergency.gateways) >= 1
    assert not names_of(config, directory)


def test_an_emergency_route_by_name_is_looked_up(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text("""\
trunks: {carrier: {gateways: ["sip:127.0.0.1:5080"], emergency_route: "sip:gsm.example.jp"}}
keys: {acme: {sources: ["127.0.0.1"]}}
""")
    config = load_config(path)
    directory = directory_of(config, listeners_of(config))
    ((peer, gateways),) = names_of(config, directory).items()
    assert peer.host == "gsm.example.jp"
    assert [g.trunk for g in gateways if isinstance(g, Gateway)] == [directory.trunks["carrier"].emergency]
