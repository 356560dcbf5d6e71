"""What is not built yet is refused, each row of the table, and only where it is really asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from callgate.config import ConfigError, load_config
from callgate.config.supported import NOT_YET

# Row of the table → a config that asks for it: lines at the top, in the trunk, in the key, in its limits.
ASKS: dict[str, dict[str, str]] = {
    "a store other than `memory`": {"top": 'store: "redis://:hunter2@cache"'},
}


def config_with(ask: dict[str, str]) -> str:
    return f"""\
{ask.get("top", "")}
trunks:
  carrier:
    gateways: ["{ask.get("gateway", "sip:127.0.0.1:5080")}"]
    {ask.get("trunk", "")}
keys:
  acme:
    sources: ["127.0.0.1"]
    {ask.get("key", "")}
    limits:
      {ask.get("limits", "")}
"""


@pytest.mark.parametrize("name", ASKS)
def test_it_is_refused_by_name(tmp_path: Path, name: str) -> None:
    what = name.removeprefix("key: ")
    path = tmp_path / "gate.yaml"
    path.write_text(config_with(ASKS[name]))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    (fault,) = caught.value.faults
    assert fault.text == f"{what}: not supported yet; leave it out"
    assert fault.line is not None
    assert "hunter2" not in str(fault)


def test_every_row_is_asked_for() -> None:
    assert {row.what for row in NOT_YET} == {name.removeprefix("key: ") for name in ASKS}
    assert len(NOT_YET) == len(ASKS)


def test_the_profile_s_own_values_and_null_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    fine = "forwarded_calls: 50\n      lines: null\n      recordings: 10\n      on_rate_exceeded: reject"
    path.write_text(
        config_with({"limits": fine, "trunk": "limits: {outbound_cps: null}", "top": "probe: null"})
    )
    assert load_config(path).keys["acme"].limits.lines is None


def test_the_profile_decides_what_is_its_own_value(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nlimits: {recordings: 20}\n")
    path = tmp_path / "gate.yaml"
    path.write_text(config_with({"limits": "recordings: 20", "trunk": "profile: ./mine.yaml"}))
    assert load_config(path).keys["acme"].limits.recordings == 20
