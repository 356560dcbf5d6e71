"""Receivers that can't be used are faults with their place; none shows a URL or a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from callgate.config import ConfigError, load_config
from callgate.net.outbox import receivers_of

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
GOOD = {"url": "'https://ops.example.jp/hook?t=hunter2'", "secret": SECRET}
REST = """
trunks: {carrier: {gateways: ["sip:127.0.0.1:5080"]}}
keys: {acme: {sources: ["127.0.0.1"]}}
"""


def written(folder: Path, *hooks: dict[str, str]) -> Path:
    path = folder / "gate.yaml"
    lines = ["{" + ", ".join(f"{name}: {value}" for name, value in hook.items()) + "}" for hook in hooks]
    path.write_text("webhooks:\n" + "".join(f"  - {line}\n" for line in lines) + REST)
    return path


@pytest.mark.parametrize(
    ("wrong", "place", "text"),
    [
        ({"url": "ftp://hunter2/"}, "webhooks[0].url", "must be http:// or https://"),
        ({"url": "'https:///hunter2'"}, "webhooks[0].url", "with a host"),
        ({"url": "'https://a:99999/hunter2'"}, "webhooks[0].url", "no URL"),
        ({"url": "'https://a/hunter2 b'"}, "webhooks[0].url", "percent-encoded"),
        ({"secret": "whsec_"}, "webhooks[0].secret", "whsec_"),
        ({"secret": "'hunter2…'"}, "webhooks[0].secret", "whsec_"),
        ({"events": "[calls]"}, "webhooks[0].events", "there is: cdr, call.missed, alert"),
        ({"events": "[]"}, "webhooks[0].events", "at least one"),
        ({"keys": "[nobody]"}, "webhooks[0].keys", "there is no key `nobody`"),
    ],
)
def test_fault(tmp_path: Path, wrong: dict[str, str], place: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, GOOD | wrong))
    (fault,) = caught.value.faults
    assert fault.path == place
    assert text in fault.text
    assert fault.line is not None
    assert "hunter2" not in str(fault)


def test_the_same_twice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the same URL as webhooks\[0\]") as caught:
        load_config(written(tmp_path, GOOD, GOOD))
    assert "hunter2" not in str(caught.value)


def test_good(tmp_path: Path) -> None:
    other = {
        "url": "'http://[2001:db8::1]:8080/'",
        "secret": SECRET,
        "events": "[alert]",
        "give_up_hours": "1",
    }
    first, second = receivers_of(load_config(written(tmp_path, GOOD, other)))
    assert first.name.startswith("ops.example.jp-")
    assert first.events == ("cdr", "call.missed", "alert")
    assert (second.give_up, second.events) == (3600.0, ("alert",))
    assert "hunter2" not in repr(first)
