"""What `docs/howto/tls.md` tells the reader to do works: its commands make files that its config takes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from callgate.cli import check
from callgate.config import load_config

HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "tls.md"


def test_the_commands_and_the_config(tmp_path: Path) -> None:
    text = HOWTO.read_text()
    commands = re.findall(r"```\n(openssl req.*?)```", text, re.DOTALL)
    assert len(commands) == 1
    done = subprocess.run(
        ["sh", "-euc", commands[0]], cwd=tmp_path, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    listen, trunk, pbx = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "carrier-ca.pem").write_bytes((tmp_path / "ca.pem").read_bytes())
    tls, keys = pbx.split("keys:")
    config = listen.split("tls:\n")[0] + tls + trunk + "keys:" + keys
    path = tmp_path / "gate.yaml"
    path.write_text(config)
    loaded = load_config(path)
    assert loaded.tls is not None
    assert loaded.tls.verify_client == "optional"
    assert list(check.tls_warnings(loaded)) == []
