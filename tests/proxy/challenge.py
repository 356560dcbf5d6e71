"""A carrier that challenges: what it asks, and whether an answer is right. On purpose not the arithmetic of the
program."""

from __future__ import annotations

import re
from hashlib import md5, new, sha256

from tests.proxy.text import Text

from callgate.proxy.trunk.login import Account

USER, PASSWORD = "gate", "open sesame"
ACCOUNT = Account(USER, PASSWORD)
PROXY, SERVER = "Proxy", "WWW"
_PARAM = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^,\s"]*))')


def challenge(
    nonce: str = "n1",
    *,
    realm: str = "carrier.example",
    kind: str = PROXY,
    algorithm: str = "MD5",
    more: str = "",
) -> str:
    """The header line of a 407, or with kind SERVER of a 401."""
    qop = ', qop="auth"' if "qop" not in more else ""
    return f'{kind}-Authenticate: Digest realm="{realm}", nonce="{nonce}", algorithm={algorithm}{qop}{more}'


STALE = ", stale=true"


def credentials(text: Text, kind: str = PROXY) -> list[dict[str, str]]:
    """The parameters of each answer that a request carries."""
    name = "proxy-authorization" if kind == PROXY else "authorization"
    found = []
    for value in text.all(name):
        assert value.startswith("Digest "), value
        found.append({n: quoted or plain for n, quoted, plain in _PARAM.findall(value)})
    return found


def check(
    text: Text,
    nonce: str = "n1",
    *,
    realm: str = "carrier.example",
    kind: str = PROXY,
    algorithm: str = "MD5",
    method: str = "",
    uri: str = "",
    nc: str = "00000001",
) -> None:
    """The request carries the right answer to that challenge (RFC 7616 §3.4.1)."""
    answers = [c for c in credentials(text, kind) if c["realm"] == realm]
    assert len(answers) == 1, f"answers for {realm}: {credentials(text, kind)}"
    got = answers[0]
    assert got["username"] == USER
    assert got["nonce"] == nonce
    assert got["qop"] == "auth"
    assert got["nc"] == nc
    assert got["uri"] == (uri or text.uri)

    def h(value: str) -> str:
        data = value.encode()
        if algorithm == "MD5":
            return md5(data).hexdigest()
        return sha256(data).hexdigest() if algorithm == "SHA-256" else new("sha512_256", data).hexdigest()

    ha1, ha2 = h(f"{USER}:{realm}:{PASSWORD}"), h(f"{method or text.method}:{got['uri']}")
    assert got["response"] == h(f"{ha1}:{nonce}:{nc}:{got['cnonce']}:auth:{ha2}"), "a wrong response"


def carries_none(text: Text) -> None:
    """No credentials of the gate are in it."""
    assert not any(USER in value for name, value in text.headers if name.endswith("authorization")), text.data
