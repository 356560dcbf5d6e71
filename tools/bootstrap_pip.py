"""Put pip into the environment of the interpreter that runs this, where neither ensurepip nor a pip exists.

Takes the newest pip wheel from the package index that pip itself would use: `PIP_INDEX_URL` or `index-url` of
pip's configuration files, further indexes and `find-links` folders, else the public index. The wheel's
SHA-256 is checked where the index states it. Standard library only; exit 1 with one line where it fails.
"""

import base64
import configparser
import hashlib
import html.parser
import os
import pathlib
import re
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request

PUBLIC_INDEX = "https://pypi.org/simple"
WHEEL = re.compile(r"pip-(\d+(?:\.\d+)*)-py3-none-any\.whl$")
AT_LEAST = re.compile(r">=\s*(\d+)\.(\d+)")
TIMEOUT_SECONDS = 60


def settings() -> dict[str, str]:
    """pip's settings, later sources over earlier ones: global, user, `PIP_CONFIG_FILE`, environment."""
    home = pathlib.Path.home()
    user = pathlib.Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [
        pathlib.Path(folder, "pip.conf") for folder in ("/etc/xdg/pip", "/etc", home / ".pip", user / "pip")
    ]
    files.append(pathlib.Path(sys.prefix, "pip.conf"))
    if os.environ.get("PIP_CONFIG_FILE"):
        files.append(pathlib.Path(os.environ["PIP_CONFIG_FILE"]))
    parser = configparser.RawConfigParser()
    parser.read(files, encoding="utf-8")
    found: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            found.update({key.replace("_", "-"): value for key, value in parser.items(section)})
    for name, value in os.environ.items():
        if name.startswith("PIP_"):
            found[name[4:].lower().replace("_", "-")] = value
    return found


class Links(html.parser.HTMLParser):
    """The links of a PEP 503 page that fit this Python: (version, absolute URL)."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.found: list[tuple[tuple[int, ...], str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        have = dict(attrs)
        if tag != "a" or "data-yanked" in have or not have.get("href"):
            return
        needs = AT_LEAST.search(have.get("data-requires-python") or "")
        if needs and (int(needs[1]), int(needs[2])) > sys.version_info[:2]:
            return
        url = urllib.parse.urljoin(self.base, have["href"] or "")
        wheel = WHEEL.search(urllib.parse.urlsplit(url).path)
        if wheel:
            self.found.append((tuple(int(part) for part in wheel[1].split(".")), url))


def fetch(url: str, cert: str | None) -> bytes:
    """The bytes at an http(s) or file URL; user and password in the URL become Basic credentials."""
    parts = urllib.parse.urlsplit(url)
    headers = {"User-Agent": "callgate-bootstrap", "Accept": "text/html, */*;q=0.1"}
    if parts.username is not None:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    request = urllib.request.Request(urllib.parse.urlunsplit(parts._replace(fragment="")), headers=headers)
    context = ssl.create_default_context(cafile=cert)
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS, context=context) as answer:
        data: bytes = answer.read()
    return data


def in_folder(folder: pathlib.Path) -> list[tuple[tuple[int, ...], str]]:
    """The pip wheels that lie in a folder."""
    wheels = ((WHEEL.match(path.name), path) for path in folder.glob("pip-*.whl"))
    return [(tuple(map(int, m[1].split("."))), path.resolve().as_uri()) for m, path in wheels if m]


def candidates(conf: dict[str, str], troubles: list[str]) -> list[tuple[tuple[int, ...], str]]:
    """Every pip wheel on offer; what can't be read goes to `troubles`, without the URL's credentials."""
    pages = []
    if conf.get("no-index", "").lower() not in {"1", "true", "yes", "on"}:
        indexes = [conf.get("index-url") or PUBLIC_INDEX, *conf.get("extra-index-url", "").split()]
        pages = [index.rstrip("/") + "/pip/" for index in indexes]
    found = []
    for place in pages + conf.get("find-links", "").split():
        try:
            path = pathlib.Path(urllib.request.url2pathname(urllib.parse.urlsplit(place).path))
            if place.startswith(("file:", "/", ".", "~")) and path.expanduser().is_dir():
                found += in_folder(path.expanduser())
                page = path.expanduser() / "index.html"
                if not page.is_file():
                    continue
                place = page.resolve().as_uri()
            links = Links(place)
            links.feed(fetch(place, conf.get("cert")).decode("utf-8", "replace"))
            found += links.found
        except (OSError, ValueError) as fault:
            troubles.append(f"{urllib.parse.urlsplit(place).netloc.rpartition('@')[2] or place}: {fault}")
    return found


def main() -> int:
    troubles: list[str] = []
    conf = settings()
    found = candidates(conf, troubles)
    if not found:
        print(
            "bootstrap_pip: no pip wheel found;",
            "; ".join(troubles) or "no index configured",
            file=sys.stderr,
        )
        return 1
    url = max(found)[1]
    try:
        data = fetch(url, conf.get("cert"))
    except (OSError, ValueError) as fault:
        print(f"bootstrap_pip: the pip wheel could not be fetched: {fault}", file=sys.stderr)
        return 1
    parts = urllib.parse.urlsplit(url)
    stated = urllib.parse.parse_qs(parts.fragment).get("sha256")
    if stated and hashlib.sha256(data).hexdigest() != stated[0]:
        print("bootstrap_pip: the pip wheel doesn't have the SHA-256 that the index states", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        wheel = pathlib.Path(folder) / pathlib.PurePosixPath(parts.path).name
        wheel.write_bytes(data)
        # A wheel is a zip file: pip runs out of it and installs itself.
        run = [sys.executable, f"{wheel}/pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel)]
        return subprocess.run(run, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
