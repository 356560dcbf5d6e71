"""Certificates, keys and authorities: read from their files, tried, and made into contexts for TLS (RFC 8996: 1.2 and
later)."""

from __future__ import annotations

import ssl
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from callgate.config.schema import Config, Tls, TrunkTls

Role = Literal["server", "client"]

WARNING_DAYS: Final = 21.0
"""Days before its end when a certificate had better be renewed."""
MAX_BYTES: Final = 4 << 20
EXPIRED, NOT_YET_VALID, WRONG_PURPOSE = 10, 9, 26
"""Codes of OpenSSL's verification."""


class Unfit(Exception):
    """A file that can't be used. `field` is the key of the config that names it."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field
        self.text = text


class Files(NamedTuple):
    """What one side of TLS is made from. Without a certificate it shows none. `system`: whom the system trusts is
    trusted too."""

    certificate: Path | None
    private_key: Path | None
    ca: Path | None
    role: Role
    system: bool = False


def server_files(tls: Tls) -> Files:
    """Of the `tls://` listeners."""
    return Files(tls.certificate, tls.private_key, tls.ca, "server")


def pbx_files(own: Tls | None) -> Files:
    """Of connections that the gate opens to PBXes: it shows the certificate of its listeners."""
    if own is None:
        return Files(None, None, None, "client", system=True)
    return Files(own.certificate, own.private_key, own.ca, "client", system=True)


def trunk_files(own: Tls | None, trunk: TrunkTls | None) -> Files:
    """Of connections that the gate opens to a trunk. Where that names no certificate the gate shows the one of its
    listeners."""
    ca = trunk.ca if trunk is not None else None
    files = pbx_files(own)._replace(ca=ca, system=ca is None)
    if trunk is None or trunk.certificate is None:
        return files
    return files._replace(certificate=trunk.certificate, private_key=trunk.private_key or trunk.certificate)


def server_context(tls: Tls) -> ssl.SSLContext:
    """For the connections that others open. Raises Unfit."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, server_files(tls))
    context.verify_mode = {
        "none": ssl.CERT_NONE,
        "optional": ssl.CERT_OPTIONAL,
        "required": ssl.CERT_REQUIRED,
    }[tls.verify_client]
    context.options |= ssl.OP_NO_RENEGOTIATION
    # A client that sends, closes and never reads would lose what it sent: its kernel answers a ticket that it did not
    # take with a reset.
    context.num_tickets = 0
    return context


def client_context(files: Files) -> ssl.SSLContext:
    """For the connections that the gate opens: the chain is always verified; the name is the caller's concern (RFC
    5922 knows no wildcards, and OpenSSL does). Raises Unfit."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, files)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    if files.system:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def _context(protocol: int, files: Files) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if files.certificate is not None and files.private_key is not None:
        _load_pair(context, files.certificate, files.private_key)
    if files.ca is not None:
        _load_authorities(context, files.ca)
    return context


def _load_pair(context: ssl.SSLContext, certificate: Path, private_key: Path) -> None:
    _certificate_of(certificate)
    key = _text("private_key", private_key)
    if "PRIVATE KEY-----" not in key:
        raise Unfit("private_key", f"`{private_key}` holds no private key in PEM form")
    if "ENCRYPTED" in key:
        raise Unfit("private_key", f"`{private_key}` is encrypted; store it without a passphrase, mode 0600")
    try:
        context.load_cert_chain(certificate, private_key, password=lambda: "")  # never asks at the terminal
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise Unfit("private_key", f"`{private_key}` does not belong to `{certificate}`") from None
        raise Unfit("certificate", f"`{certificate}` can't be used: {_words(error)}") from None


def _certificate_of(path: Path) -> str:
    """The first certificate of a file, PEM."""
    text = _text("certificate", path)
    _, begin, rest = text.partition("-----BEGIN CERTIFICATE-----")
    body, end, _ = rest.partition("-----END CERTIFICATE-----")
    if not begin or not end:
        raise Unfit("certificate", f"`{path}` holds no certificate in PEM form")
    return begin + body + end + "\n"


def _load_authorities(context: ssl.SSLContext, path: Path) -> None:
    _text("ca", path)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise Unfit("ca", f"`{path}` holds no certificate that can be read: {_words(error)}") from None
    # What stands in the file is trusted as it stands, be it an intermediate or the peer's own certificate.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    known = context.get_ca_certs()
    if known and all(expires_at(one) < time.time() for one in known):
        raise Unfit("ca", f"every authority in `{path}` has expired")


def _text(field: str, path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise Unfit(field, f"`{path}` is not a file")
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unfit(field, f"`{path}` can't be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise Unfit(field, f"`{path}` is larger than {MAX_BYTES >> 20} MB")
    return data.decode("latin-1")


def _words(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()


def expires_at(certificate: Mapping[str, Any]) -> float:
    """When a certificate, as `examine` gives it, expires: seconds since 1970 (UTC)."""
    return float(ssl.cert_time_to_seconds(certificate["notAfter"]))


def examine(files: Files) -> Mapping[str, Any] | None:
    """What stands in the certificate (as `SSLSocket.getpeercert` has it), after a handshake of it with itself; None
    where there is none. Raises Unfit where it is not valid now, or not for that role (RFC 5280 §4.2.1.12)."""
    if files.certificate is None or files.private_key is None:
        return None
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if files.role == "server" else ssl.PROTOCOL_TLS_CLIENT)
    _load_pair(shown, files.certificate, files.private_key)
    judge = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if files.role == "server" else ssl.PROTOCOL_TLS_SERVER)
    if files.role == "client":
        _load_pair(
            judge, files.certificate, files.private_key
        )  # a server needs one, which nobody looks at here
    for context in (shown, judge):
        if context.protocol == ssl.PROTOCOL_TLS_CLIENT:
            context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    judge.load_verify_locations(cadata=_certificate_of(files.certificate))
    judge.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    judge.verify_mode = ssl.CERT_REQUIRED
    try:
        return _shake_hands(shown, judge)
    except ssl.SSLCertVerificationError as error:
        text = {
            EXPIRED: "has expired; renew it",
            NOT_YET_VALID: "is not valid yet; is this machine's clock right?",
            WRONG_PURPOSE: f"is not made for a TLS {files.role} (extended key usage)",
        }.get(error.verify_code, f"is not valid: {error.verify_message}")
        raise Unfit("certificate", f"`{files.certificate}` {text}") from None
    except ssl.SSLError as error:
        raise Unfit("certificate", f"`{files.certificate}` can't be used: {_words(error)}") from None


def _shake_hands(shown: ssl.SSLContext, judge: ssl.SSLContext) -> Mapping[str, Any]:
    """What `judge` reads in the certificate of `shown`."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        shown.wrap_bio(there, back, server_side=shown.protocol == ssl.PROTOCOL_TLS_SERVER),
        judge.wrap_bio(back, there, server_side=judge.protocol == ssl.PROTOCOL_TLS_SERVER),
    ]
    for _ in range(8):  # four flights are the most
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return sides[1].getpeercert() or {}


Place = tuple[str | int, ...]


def in_use(config: Config) -> Iterator[tuple[Place, Files]]:
    """(section, files) of everything that TLS is made from. A trunk that shows the gate's own certificate is tried
    without it: that is judged where it stands."""
    if config.tls is not None:
        yield ("tls",), server_files(config.tls)
    for name, trunk in config.trunks.items():
        if trunk.tls is not None:
            yield ("trunks", name, "tls"), trunk_files(None, trunk.tls)
    for n, hook in enumerate(config.webhooks):
        if hook.ca is not None:
            yield ("webhooks", n), Files(None, None, hook.ca, "client")


def expiries(config: Config) -> Iterator[tuple[Place, Path, float]]:
    """(section, file, when it expires) of every certificate that the gate shows. Raises Unfit."""
    for place, files in in_use(config):
        certificate = examine(files)
        if certificate is not None and files.certificate is not None:
            yield place, files.certificate, expires_at(certificate)


def faults(config: Config) -> Iterator[tuple[Place, str]]:
    """(place, what is wrong and what to do) of every file that can't be used now."""
    for place, files in in_use(config):
        for check in (examine, _authorities_of):
            try:
                check(files)
            except Unfit as unfit:
                field = unfit.field
                if field == "private_key" and files.private_key == files.certificate:
                    field = "certificate"  # the one file that both stand in
                yield (*place, field), unfit.text


def _authorities_of(files: Files) -> None:
    if files.ca is not None:
        _load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), files.ca)
