"""From the config to the core: what a key may show, and whom it may be asked about."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from callgate.config import Numbers, load_config
from callgate.net.wiring import caller_ids_of, directory_of, listeners_of
from callgate.policy.dial import DialRules
from callgate.policy.profile import NumberRules
from callgate.proxy.peers import Directory, Key, Trunk

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
