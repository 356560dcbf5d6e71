"""A secret comes from the text, the environment or a file, and is shown nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from callgate.config import ConfigError, load_config, source
from callgate.config.schema import Config

SECRET = "correct-horse-battery"
CONFIG = """\
secret: {secret}
trunks:
  carrier:
    gateways: ["sip:127.0.0.1:5080"]
keys:
  acme:
    sources: ["127.0.0.1"]
"""


def write(tmp_path: Path, secret: str) -> Path:
    path = tmp_path / "gate.yaml"
    path.write_text(CONFIG.format(secret=secret))
    return path


@pytest.mark.parametrize(
    "written", [SECRET, "${CALLGATE_TEST_SECRET}", "file:secret.txt", "file:{tmp}/secret.txt"]
)
def test_where_a_secret_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("CALLGATE_TEST_SECRET", SECRET)
    (tmp_path / "secret.txt").write_text(SECRET + "\n")
    config = load_config(write(tmp_path, f'"{written}"'.replace("{tmp}", str(tmp_path))))
    assert config.secret is not None
    assert config.secret.get_secret_value() == SECRET
    for shown in (repr(config), str(config), f"{config.secret}"):
        assert SECRET not in shown


BROKEN = {
    '"${CALLGATE_NOWHERE}"': "the environment variable `CALLGATE_NOWHERE` is not set",
    '"${CALLGATE_EMPTY}"': "the environment variable `CALLGATE_EMPTY` is empty",
    '"x${CALLGATE_EMPTY}"': "must be the whole value",
    '"file:nowhere"': "can't be read: No such file",
    '"file:."': "is not a file",
    '"file:empty"': "is empty",
    '"file:pipe"': "is not a file",
    '"file:binary"': "is not UTF-8 text",
    '"file:large"': "this can't be a secret",
    '""': "must be text",
    "[correct-horse-battery]": "must be text",
    "{correct-horse-battery: 1}": "must be text",
}


@pytest.mark.parametrize("written", BROKEN)
def test_a_secret_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.delenv("CALLGATE_NOWHERE", raising=False)
    monkeypatch.setenv("CALLGATE_EMPTY", "")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_text("x" * 70000)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, written))
    (fault,) = caught.value.faults
    assert BROKEN[written] in fault.text
    assert (fault.path, fault.line) == ("secret", 1)
    assert SECRET not in str(caught.value)


LEAKS = {
    "a syntax error in its line": f'secret: "{SECRET}\n',
    "a quote that doesn't close": f"secret: '{SECRET}\ntrunks: 1\n",
    "an alias": f"secret: *{SECRET}\n",
    "an anchor twice": f"a: &{SECRET} 1\nsecret: &{SECRET} [\n",
    "a tag's handle": f"secret: !{SECRET}!x 1\n",
    "a tag": f"secret: !{SECRET} x\n",
    "an escape": f'secret: "{SECRET}\\q"\n',
    "a directive": f"%{SECRET} 1\n---\nsecret: 1\n",
    "a number in its place": f"drain_seconds: {SECRET}\n",
    "a choice in its place": f"mode: {SECRET}\n",
    "a list in its place": f"listen: {SECRET}\n",
    "a password in a gateway": f"trunks: {{t: {{gateways: ['sip:u:{SECRET}@192.0.2.1']}}}}\n",
    "a password in a bad gateway": f"trunks: {{t: {{gateways: ['http://u:{SECRET}@192.0.2.1']}}}}\n",
    "a password in a listener": f"listen: ['udp://u:{SECRET}@192.0.2.1']\n",
    "a password in ops": f"ops: 'http://u:{SECRET}@127.0.0.1:9060'\n",
    "a database": f"database: 'mysql://u:{SECRET}@db'\n",
    "a store": f"store: 'redi://u:{SECRET}@db'\n",
    "a token": f"admin: {{tokens: [{{name: [], role: x, token: {SECRET}}}]}}\n",
    "a header": f"keys: {{k: {{secret_header: {{name: [], value: {SECRET}}}}}}}\n",
    "credentials": f"trunks: {{t: {{credentials: {{user: x, password: {SECRET}}}}}}}\n",
    "a webhook": f"webhooks: [{{url: '{SECRET}', secret: '{SECRET}', retry: 1}}]\n",
    "digest": f"keys: {{k: {{digest: [{{username: x, ha1: {{SHA-1: {SECRET}}}}}]}}}}\n",
}


@pytest.mark.parametrize("loader", sorted({source.Loader, yaml.SafeLoader}, key=str))
@pytest.mark.parametrize("name", LEAKS)
def test_a_fault_doesn_t_show_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, loader: object
) -> None:
    monkeypatch.setattr(source, "Loader", loader)  # PyYAML's own messages differ between its two parsers
    path = tmp_path / "gate.yaml"
    path.write_text(LEAKS[name])
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)


def test_the_schema_s_own_errors_don_t_show_one_either() -> None:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"admin": {"tokens": [{"name": [SECRET], "role": SECRET, "token": [SECRET]}]}})
    assert SECRET not in str(caught.value)
