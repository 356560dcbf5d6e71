"""Getting pip where there is none: which wheel is taken, from where pip's own settings say."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "bootstrap_pip.py"
PAGE = """\
<a href="../../files/pip-9.0.1-py3-none-any.whl#sha256=aa">old</a>
<a href="../../files/pip-24.10-py3-none-any.whl#sha256={digest}" data-requires-python="&gt;=3.8">good</a>
<a href="../../files/pip-24.9-py3-none-any.whl">older, though 9 sorts after 1</a>
<a href="../../files/pip-25.0-py3-none-any.whl" data-requires-python="&gt;=3.99">for a Python to come</a>
<a href="../../files/pip-26.0-py3-none-any.whl" data-yanked="">taken back</a>
<a href="../../files/pip-27.0rc1-py3-none-any.whl">not final</a>
<a href="../../files/pip-28.0.tar.gz">no wheel</a>
<a href="../../files/pipx-29.0-py3-none-any.whl">not pip</a>
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap_pip", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    return module


@pytest.fixture
def index(tmp_path: Path) -> Path:
    wheel = b"a wheel"
    page = tmp_path / "simple" / "pip" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(PAGE.format(digest=hashlib.sha256(wheel).hexdigest()))
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "pip-24.10-py3-none-any.whl").write_bytes(wheel)
    return tmp_path / "simple"


def test_the_newest_that_fits_from_a_folder_index(script: ModuleType, index: Path) -> None:
    troubles: list[str] = []
    found = script.candidates({"index-url": index.as_uri()}, troubles)
    assert (troubles, max(found)[0]) == ([], (24, 10))
    assert script.fetch(max(found)[1], None) == b"a wheel"


def test_wheels_that_lie_in_a_folder(script: ModuleType, tmp_path: Path) -> None:
    for version in ("23.0", "100.0"):
        (tmp_path / f"pip-{version}-py3-none-any.whl").touch()
    found = script.candidates({"no-index": "1", "find-links": str(tmp_path)}, [])
    assert sorted(version for version, _ in found) == [(23, 0), (100, 0)]


def test_settings_as_pip_reads_them(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home" / ".config" / "pip").mkdir(parents=True)
    (tmp_path / "home" / ".config" / "pip" / "pip.conf").write_text(
        "[global]\nindex-url = http://user.example/simple\nfind_links = /user\n"
    )
    assert script.settings()["index-url"] == "http://user.example/simple"
    (tmp_path / "pip.conf").write_text("[install]\nindex-url = http://file.example/simple\n")
    assert script.settings()["index-url"] == "http://file.example/simple"
    monkeypatch.setenv("PIP_INDEX_URL", "http://env.example/simple")
    assert script.settings()["index-url"] == "http://env.example/simple"
    assert script.settings()["find-links"] == "/user"


def test_an_index_that_can_t_be_read_is_named_without_its_password(
    script: ModuleType, tmp_path: Path
) -> None:
    troubles: list[str] = []
    assert script.candidates({"index-url": "http://u:hunter2@127.0.0.1:1/simple"}, troubles) == []
    assert len(troubles) == 1
    assert "127.0.0.1:1" in troubles[0]
    assert "hunter2" not in troubles[0]


def test_a_wheel_that_isn_t_what_the_index_says(
    script: ModuleType, index: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (index.parent / "files" / "pip-24.10-py3-none-any.whl").write_bytes(b"another wheel")
    monkeypatch.setattr(script, "settings", lambda: {"index-url": index.as_uri()})
    assert script.main() == 1
    assert "SHA-256" in capsys.readouterr().err
