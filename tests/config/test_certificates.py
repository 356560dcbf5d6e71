"""Certificates that can't be used are faults of the config, with their place; of others `check` warns."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.certificates import CLIENT, SERVER, Authority

from callgate.cli import check
from callgate.config import ConfigError, load_config
from callgate.config.certificates import client_context, server_context, trunk_files

CONFIG = """\
listen: ["udp://127.0.0.1:5060", "tls://127.0.0.1:5061"]
tls:
  certificate: gate.crt
  private_key: gate.key
  ca: authority.pem
  verify_client: optional
trunks:
  carrier:
    gateways: ["sip:192.0.2.1;transport=tls"]
    tls:
      ca: authority.pem
      certificate: client.crt
      private_key: client.key
      name: carrier.example
keys:
  acme:
    sources: ["127.0.0.1/32"]
    pbx: "sip:127.0.0.1:5071;transport=tls"
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.issue("gate", "127.0.0.1", days=100)
    made.issue("client", "customer.example", days=100, uses=[CLIENT])
    return made


def faults(folder: Path, text: str = CONFIG) -> list[tuple[int | None, str, str]]:
    file = folder / "gate.yaml"
    file.write_text(text)
    try:
        load_config(file)
    except ConfigError as error:
        return [(fault.line, fault.path, fault.text) for fault in error.faults]
    return []


def test_what_is_right(tmp_path: Path, authority: Authority) -> None:
    assert faults(tmp_path) == []
    config = load_config(tmp_path / "gate.yaml")
    assert list(check.tls_warnings(config)) == []
    assert config.tls is not None
    context = server_context(config.tls)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_OPTIONAL
    context = client_context(trunk_files(config.tls, config.trunks["carrier"].tls))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED


def swap(folder: Path, authority: Authority) -> None:
    authority.issue("other", "x").private_key.replace(folder / "gate.key")


def encrypt(folder: Path, authority: Authority) -> None:
    key = (folder / "gate.key").read_text()
    (folder / "gate.key").write_text(key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"))


def write(name: str, text: str) -> Callable[[Path, Authority], None]:
    return lambda folder, _: (folder / name).write_text(text) and None


def remove(name: str) -> Callable[[Path, Authority], None]:
    return lambda folder, _: (folder / name).unlink()


CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
SPOILT: dict[str, tuple[Callable[[Path, Authority], None], int, str, str]] = {
    "no certificate": (remove("gate.crt"), 3, "tls.certificate", "can't be read: No such file"),
    "no key": (remove("gate.key"), 4, "tls.private_key", "can't be read: No such file"),
    "no authority": (remove("authority.pem"), 5, "tls.ca", "can't be read: No such file"),
    "another's key": (swap, 4, "tls.private_key", "does not belong to"),
    "a key with a passphrase": (encrypt, 4, "tls.private_key", "is encrypted"),
    "no PEM": (write("gate.crt", "hello"), 3, "tls.certificate", "holds no certificate in PEM form"),
    "no key in it": (write("gate.key", CERTIFICATE), 4, "tls.private_key", "holds no private key"),
    "rubbish in PEM": (write("gate.crt", CERTIFICATE), 3, "tls.certificate", "can't be used"),
    "rubbish for an authority": (write("authority.pem", CERTIFICATE), 5, "tls.ca", "holds no certificate"),
    "nothing for an authority": (write("authority.pem", ""), 5, "tls.ca", "holds no certificate"),
    "expired": (
        lambda _, a: a.issue("gate", "127.0.0.1", days=-1) and None,
        3,
        "tls.certificate",
        "has expired; renew it",
    ),
    "not made for a server": (
        lambda _, a: a.issue("gate", "127.0.0.1", uses=[CLIENT]) and None,
        3,
        "tls.certificate",
        "is not made for a TLS server",
    ),
    "not made for a client": (
        lambda _, a: a.issue("client", "x", uses=[SERVER]) and None,
        12,
        "trunks.carrier.tls.certificate",
        "is not made for a TLS client",
    ),
    "an authority that has expired": (
        lambda folder, _: Authority(folder, days=-1) and None,
        5,
        "tls.ca",
        "every authority in",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_is_wrong(tmp_path: Path, authority: Authority, case: str) -> None:
    spoil, line, path, words = SPOILT[case]
    spoil(tmp_path, authority)
    found = faults(tmp_path)
    at, place, text = found[0]
    assert (at, place) == (line, path)
    assert words in text
    assert str(tmp_path) in text
    assert len(found) == (2 if path == "tls.ca" else 1), "the trunk has the same authority"


MISSING = {
    "a listener without a certificate": (
        "tls:\n  certificate: gate.crt\n  private_key: gate.key\n  ca: authority.pem\n  verify_client: optional\n",
        "",
        "listen[1]",
        "a tls:// listener needs a certificate",
    ),
    "nobody to sign clients": (
        "  ca: authority.pem\n  verify",
        "  verify",
        "tls.verify_client",
        "`optional` needs `ca`",
    ),
    "a key without its certificate": (
        "      certificate: client.crt\n",
        "",
        "trunks.carrier.tls.private_key",
        "needs its `certificate`",
    ),
    "no TLS listener": (
        ', "tls://127.0.0.1:5061"',
        "",
        "trunks.carrier.gateways[0]",
        "add a tls:// listener with an IPv4 address",
    ),
}


@pytest.mark.parametrize("case", MISSING)
def test_what_is_missing(tmp_path: Path, authority: Authority, case: str) -> None:
    old, new, path, words = MISSING[case]
    assert old in CONFIG
    found = faults(tmp_path, CONFIG.replace(old, new, 1))
    assert [one for one in found if one[1] == path and words in one[2]], found


def test_key_and_certificate_in_one_file(tmp_path: Path, authority: Authority) -> None:
    both = (tmp_path / "client.crt").read_text() + (tmp_path / "client.key").read_text()
    (tmp_path / "client.crt").write_text(both)
    assert faults(tmp_path, CONFIG.replace("      private_key: client.key\n", "")) == []


def test_a_chain_behind_the_certificate(tmp_path: Path, authority: Authority) -> None:
    """The first certificate of the file is the gate's own."""
    with (tmp_path / "gate.crt").open("a") as file:
        file.write(authority.file.read_text())
    assert faults(tmp_path) == []


def test_warnings(tmp_path: Path, authority: Authority) -> None:
    authority.issue("gate", "gate.example", days=9.5)
    text = CONFIG.replace("      name: carrier.example\n", "")
    assert faults(tmp_path, text) == []
    found = list(check.tls_warnings(load_config(tmp_path / "gate.yaml")))
    for words in (
        "tls: `" + str(tmp_path / "gate.crt") + "` expires in 9 days",
        "listen tls://127.0.0.1:5061: the certificate is for gate.example, not for 127.0.0.1",
        "trunk carrier: sip:192.0.2.1:5061;transport=tls is a bare address",
    ):
        assert any(words in one for one in found), (words, found)
    assert len(found) == 3
