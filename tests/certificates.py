"""Certificates for tests: an authority, and what it signs."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


class Issued:
    """A certificate and its key, in files."""

    def __init__(self, certificate: Path, private_key: Path) -> None:
        self.certificate = certificate
        self.private_key = private_key


class Authority:
    """Signs certificates; its own stands in `file`."""

    def __init__(self, folder: Path, name: str = "authority", *, days: float = 30) -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        ca = x509.BasicConstraints(ca=True, path_length=None)
        certificate = (
            _builder(days)
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .add_extension(ca, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        file: str,
        *names: str,
        cn: str = "somebody",
        days: float = 30,
        uses: Iterable[x509.ObjectIdentifier] = (SERVER, CLIENT),
    ) -> Issued:
        """A certificate for DNS names, addresses (`127.0.0.1`) and SIP URIs (`sip:a.example`); without any it has no
        alternative names. `days`: until it expires, below 0 since it has."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(days)
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(list(uses)), critical=False)
        )
        if names:
            alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        issued = Issued(self._folder / f"{file}.crt", self._folder / f"{file}.key")
        issued.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        issued.private_key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return issued


def _builder(days: float) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 60 * DAY)
        .not_valid_after(now + days * DAY)
    )


def _alternative(name: str) -> x509.GeneralName:
    if name.startswith(("sip:", "sips:", "urn:")):
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def server(issued: Issued, ca: Path | None = None, *, asks: bool = False, **how: Any) -> ssl.SSLContext:
    """For a TLS server of a test; `asks`: it wants a client certificate that `ca` has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.private_key)
    if ca is not None:
        context.load_verify_locations(ca)
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
    return _with(context, how)


def client(ca: Path, issued: Issued | None = None, **how: Any) -> ssl.SSLContext:
    """For a TLS client of a test; it shows `issued` where it is asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(ca)
    if issued is not None:
        context.load_cert_chain(issued.certificate, issued.private_key)
    return _with(context, how)


def _with(context: ssl.SSLContext, how: dict[str, Any]) -> ssl.SSLContext:
    for name, value in how.items():
        setattr(context, name, value)
    return context
