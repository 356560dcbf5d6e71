"""Who is who in the config: digest users, names in certificates, secret headers, sources, and what is required."""

from __future__ import annotations

from pathlib import Path

import pytest

from callgate.cli import check
from callgate.config import ConfigError, load_config
from callgate.net.key_parts import access_of
from callgate.net.wiring import directory_of, listeners_of
from callgate.sip.digest import MD5, SHA_256, SHA_512_256, ha1

HEADER = "hunter2-hunter2-hunter2"


def write(tmp_path: Path, top: str = "", acme: str = "", other: str = "sources: [127.0.0.2]") -> Path:
    path = tmp_path / "gate.yaml"
    text = f"""\
state_dir: null
{top}
trunks:
  carrier:
    gateways: ["sip:127.0.0.1:5080"]
keys:
  acme:
    {acme}
  other:
    {other}
"""
    path.write_text(text)
    return path


def faults(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert all(fault.line is not None for fault in caught.value.faults)
    found = [f"{fault.path}: {fault.text}" for fault in caught.value.faults]
    assert not any("hunter2" in one for one in found)
    return found


MD5_HASH, SHA_HASH = "0" * 32, "aB" * 32

WRONG = {
    "neither password nor hash": ("", "digest: [{username: bob}]", "keys.acme.digest[0]: needs either"),
    "password and hash": (
        "",
        f"digest: [{{username: bob, password: hunter2, ha1: {{SHA-256: {SHA_HASH}}}}}]",
        "keys.acme.digest[0]: needs either",
    ),
    "a user twice at a key": (
        "",
        "digest: [{username: bob, password: hunter2}, {username: bob, password: hunter2}]",
        "keys.acme.digest[1].username: the user stands at `keys.acme.digest[0].username` (line",
    ),
    "a name with a quote": (
        "",
        "digest: [{username: 'b\"b', password: hunter2}]",
        "digest[0].username: can't be a user name",
    ),
    "a name with a colon": ("", "digest: [{username: 'b:b', password: hunter2}]", "can't be a user name"),
    "a hash that is missing": (
        "digest: {algorithms: [SHA-256, MD5]}",
        f"digest: [{{username: bob, ha1: {{MD5: '{MD5_HASH}'}}}}]",
        "ha1: lacks the hash for SHA-256, which `digest.algorithms` offers",
    ),
    "a hash that is not offered": (
        "",
        f"digest: [{{username: bob, ha1: {{SHA-256: {SHA_HASH}, MD5: '{MD5_HASH}'}}}}]",
        "ha1.MD5: MD5 is not among `digest.algorithms`",
    ),
    "a hash that is too short": (
        "",
        f"digest: [{{username: bob, ha1: {{SHA-256: '{MD5_HASH}'}}}}]",
        "ha1.SHA-256: must be 64 hex digits",
    ),
    "a hash that is none": (
        "digest: {algorithms: [MD5]}",
        f"digest: [{{username: bob, ha1: {{MD5: {'g' * 32}}}}}]",
        "ha1.MD5: must be 32 hex digits",
    ),
    "no algorithm": (
        "digest: {algorithms: []}",
        "digest: [{username: bob, password: hunter2}]",
        "digest.algorithms: at least one is needed",
    ),
    "an algorithm twice": ("digest: {algorithms: [MD5, MD5]}", "sources: []", "names an algorithm twice"),
    "an unknown algorithm": ("digest: {algorithms: [SHA-1]}", "sources: []", "digest.algorithms[0]: must be"),
    "a realm with a quote": ("digest: {realm: 'a\"b'}", "sources: []", "digest.realm: can't hold"),
    "too many failures": ("digest: {throttle: {failures: 101}}", "sources: []", "must be at most 100"),
    "no failure": ("digest: {throttle: {failures: 0}}", "sources: []", "must be at least 1"),
    "no source to require": (
        "",
        "require: [source]",
        "keys.acme.require: `source` is required and the key has",
    ),
    "no user to require": ("", "require: [digest]", "has no `digest`"),
    "an empty list of users": ("", "{digest: [], require: [digest]}", "has no `digest`"),
    "no name to require": ("", "require: [tls]", "has no `tls_names`"),
    "no header to require": ("", "require: [header]", "has no `secret_header`"),
    "something else to require": ("", "require: [magic]", "keys.acme.require[0]: must be"),
    "names without a listener": (
        "",
        "tls_names: [pbx.example.jp]",
        "keys.acme.tls_names: need a tls:// listener",
    ),
    "a header without a name": (
        "",
        f'secret_header: {{name: "X Key", value: {HEADER}}}',
        "secret_header.name: `X Key` is no header name",
    ),
    "a header of SIP's": (
        "",
        f"secret_header: {{name: from, value: {HEADER}}}",
        "`from` is a header that SIP needs",
    ),
    "a compact header": (
        "",
        f"secret_header: {{name: x, value: {HEADER}}}",
        "`x` is a header that SIP needs",
    ),
    "a header that can be guessed": (
        "",
        "secret_header: {name: X-Key, value: hunter2}",
        "secret_header.value: can be guessed: it needs at least 16",
    ),
    "a header with a line end": (
        "",
        f'secret_header: {{name: X-Key, value: "{HEADER}\\r\\nX: y"}}',
        "must be printable ASCII",
    ),
    "a header with a blank at its end": (
        "",
        f'secret_header: {{name: X-Key, value: "{HEADER} "}}',
        "without blanks",
    ),
    "a source of both": (
        "",
        "sources: [127.0.0.2/32]",
        "keys.other.sources[0]: the network 127.0.0.2/32 stands at `keys.acme.sources[0]`",
    ),
    "a source twice": (
        "",
        "sources: [127.0.0.3, 127.0.0.3]",
        "keys.acme.sources[1]: the network 127.0.0.3/32",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cant_be(tmp_path: Path, what: str) -> None:
    top, acme, words = WRONG[what]
    found = faults(write(tmp_path, top, acme))
    assert len(found) == 1, found
    assert words in found[0]


def test_a_name_belongs_to_one_key(tmp_path: Path) -> None:
    user = "digest: [{username: bob, password: hunter2}]"
    (found,) = faults(write(tmp_path, "", user, user))
    assert "keys.other.digest[0].username: the user stands at `keys.acme.digest[0].username`" in found


def test_a_trunk_with_our_realm(tmp_path: Path) -> None:
    path = write(tmp_path, "", "digest: [{username: bob, password: hunter2}]")
    trunk = (
        'gateways: ["sip:127.0.0.1:5080"]\n    credentials: {username: a, password: hunter2, realm: callgate}'
    )
    path.write_text(path.read_text().replace('gateways: ["sip:127.0.0.1:5080"]', trunk))
    assert any(
        "trunks.carrier.credentials.realm: is the realm of our own `digest`" in one for one in faults(path)
    )


# One source, name or header at two keys: (acme, other, told apart?).
SAME = "sources: [127.0.0.2]"
BOB, EVE = "digest: [{username: bob, password: hunter2}]", "digest: [{username: eve, password: hunter2}]"
KEY = "secret_header: {name: X-Key, value: hunter2-hunter2-hunter2}"
LOCK = "secret_header: {name: X-Key, value: hunter2-hunter2-hunter3}"
SHARED = {
    "nothing besides": (SAME, SAME, False),
    "users that nobody requires": (f"{SAME}, {BOB}", f"{SAME}, {EVE}", False),
    "one requires its users": (f"{SAME}, {BOB}, require: [digest]", SAME, True),
    "both require their users": (
        f"{SAME}, {BOB}, require: [source, digest]",
        f"{SAME}, {EVE}, require: [digest]",
        True,
    ),
    "one requires its header": (f"{SAME}, {KEY}, require: [header]", SAME, True),
    "both require their headers": (
        f"{SAME}, {KEY}, require: [header]",
        f"{SAME}, {LOCK}, require: [header]",
        True,
    ),
    "both require the same header": (
        f"{SAME}, {KEY}, require: [header]",
        f"{SAME}, {KEY}, require: [header]",
        False,
    ),
    "a header of both": (KEY, KEY, False),
    "a header of both, sources apart": (
        f"{KEY}, sources: [127.0.0.3], require: [source]",
        f"{KEY}, sources: [127.0.0.4], require: [source]",
        True,
    ),
    "a header of both, sources that overlap": (
        f"{KEY}, sources: [127.0.0.0/24], require: [source]",
        f"{KEY}, sources: [127.0.0.4], require: [source]",
        False,
    ),
    "only what is shared is required": (f"{SAME}, require: [source]", f"{SAME}, require: [source]", False),
}


@pytest.mark.parametrize("what", SHARED)
def test_what_two_keys_may_share(tmp_path: Path, what: str) -> None:
    acme, other, fine = SHARED[what]
    path = write(tmp_path, "", f"{{{acme}}}", f"{{{other}}}")
    text = path.read_text().replace("acme:\n    {", "acme: {").replace("other:\n    {", "other: {")
    path.write_text(text)
    if fine:
        load_config(path)
    else:
        assert all(
            " too; keep one, or let a key `require` what tells them apart" in one for one in faults(path)
        )


def test_users_and_headers_as_the_core_has_them(tmp_path: Path) -> None:
    top = """digest: {realm: gate.example.jp, algorithms: [MD5, SHA-512-256, SHA-256], nonce_seconds: 60, secret: abc,
      throttle: {failures: 3, per_seconds: 4, block_seconds: 5}}"""
    hashes = f"{{MD5: '{MD5_HASH}', SHA-256: {SHA_HASH}, SHA-512-256: {SHA_HASH}}}"
    acme = f"digest: [{{username: böb, password: hunter2}}, {{username: eve, ha1: {hashes}}}]\n    {KEY}"
    config = load_config(write(tmp_path, top, acme))
    directory = directory_of(config, listeners_of(config))
    access = directory.access
    assert access is not None
    assert access.realm == b"gate.example.jp"
    assert [a.name for a in access.algorithms] == [b"SHA-512-256", b"SHA-256", b"MD5"]
    assert set(access.users) == {"böb".encode(), b"eve"}
    bob = access.users["böb".encode()]
    assert bob.key is directory.keys["acme"]
    assert bob.ha1 == {
        a.name: ha1(a, "böb".encode(), b"gate.example.jp", b"hunter2") for a in (MD5, SHA_256, SHA_512_256)
    }
    assert access.users[b"eve"].ha1[b"SHA-256"] == b"ab" * 32
    assert access.headers == {b"x-key": [(HEADER.encode(), directory.keys["acme"])]}
    assert (access.nonce_seconds, access.secret) == (60, b"abc")
    assert (access.failures, access.per_seconds, access.block_seconds) == (3, 4, 5)


def test_without_users_and_headers_nobody_looks_for_them(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "", "sources: [127.0.0.3]\n    require: [source]"))
    directory = directory_of(config, listeners_of(config))
    assert directory.access is None
    assert directory.keys["acme"].require == {"source"}
    assert access_of(config, directory.keys) is None


@pytest.mark.parametrize(
    ("top", "acme", "words"),
    [
        ("", KEY, "key acme: `secret_header` can be read on the way to a udp:// or tcp:// listener"),
        ("digest: {algorithms: [MD5]}", BOB, "`digest.algorithms` is MD5 alone"),
        ("digest: {secret: short}", BOB, "`digest.secret` is shorter than 16 characters"),
        ("", "pbx: sip:127.0.0.9", "key acme: no `sources`, and nothing else that tells its calls"),
    ],
)
def test_what_check_warns_of(tmp_path: Path, top: str, acme: str, words: str) -> None:
    config = load_config(write(tmp_path, top, acme))
    assert any(words in one for one in check.warnings(config))


def test_what_check_prints(tmp_path: Path) -> None:
    acme = f"sources: [127.0.0.3]\n    {BOB}\n    {KEY}\n    require: [source, digest]"
    report = "\n".join(check.report(load_config(write(tmp_path, "", acme))))
    for line in ("  digest    bob", "  header    X-Key", "  require   source, digest: all of these"):
        assert line in report
    assert "hunter2" not in report
