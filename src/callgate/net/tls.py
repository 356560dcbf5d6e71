"""TLS over the same raw sockets as TCP: OpenSSL works on memory, so that what the kernel has taken is known here too,
and a message is sealed only when it begins to go out."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Mapping
from typing import Final

from callgate.config import Config
from callgate.config.certificates import (
    Files,
    client_context,
    expiries,
    pbx_files,
    server_context,
    trunk_files,
)
from callgate.net.connection import READ, UNREACHED, Connection
from callgate.proxy.flow import Trouble, Trust
from callgate.sip.certificate import is_address, names_of, proves, words_for

EARLY_MAX: Final = 64
"""Messages remembered until the peer has said something: in TLS 1.3 it refuses our certificate after we have begun."""

OUR_FAULT: Final = "see whether it takes the certificate that the gate shows: `{place}.certificate`"
NOBODY_THERE: Final = "nobody speaks TLS at that port: check port and transport"
REMEDIES: Final[Mapping[str, str]] = {
    "WRONG_VERSION_NUMBER": NOBODY_THERE,
    "HTTP_REQUEST": NOBODY_THERE,
    "UNSUPPORTED_PROTOCOL": "the peer must speak TLS 1.2 or later",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the peer must speak TLS 1.2 or later",
    "NO_SHARED_CIPHER": "the peer must offer a cipher of today",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": OUR_FAULT,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer asks for a certificate: set `{place}.certificate`",
    "TLSV1_ALERT_UNKNOWN_CA": OUR_FAULT,
    "SSLV3_ALERT_BAD_CERTIFICATE": OUR_FAULT,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": OUR_FAULT,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": OUR_FAULT,
    "SSLV3_ALERT_CERTIFICATE_REVOKED": OUR_FAULT,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": OUR_FAULT,
    "TLSV1_ALERT_ACCESS_DENIED": OUR_FAULT,
    "TLSV1_ALERT_DECRYPT_ERROR": OUR_FAULT,
}
"""OpenSSL's reason → what to do. `{place}` is the section of the config."""
MISNAMED: Final = "set `{place}.name` to the name in the certificate, if that is who it should be"
MISNAMED_PBX: Final = "set `tls_names` of the key to the name in the certificate, if that is who it should be"
UNTRUSTED: Final = frozenset((2, 18, 19, 20, 21))
EXPIRED: Final = 10


class Contexts:
    """What TLS is done with, made from the files of a config. Replaced as a whole by a reload."""

    def __init__(self, config: Config) -> None:
        """Raises `certificates.Unfit`."""
        own = config.tls
        self.server = server_context(own) if own is not None else None
        made: dict[Files, ssl.SSLContext] = {}  # most trunks are verified alike
        self._clients: dict[str, ssl.SSLContext] = {}
        for name, files in (
            ("", pbx_files(own)),
            *((name, trunk_files(own, trunk.tls)) for name, trunk in config.trunks.items()),
        ):
            if files not in made:
                made[files] = client_context(files)
            self._clients[name] = made[files]
        self.expiries = [
            (str(place[1]) if len(place) > 2 else "", file, expires)
            for place, file, expires in expiries(config)
        ]
        """Of the certificates that are shown: trunk (empty: the listeners'), file, seconds since 1970 (UTC)."""

    def client(self, name: str) -> ssl.SSLContext:
        """The context for connections to a trunk; to PBXes with an empty name."""
        return self._clients.get(name) or self._clients[""]


class TlsConnection(Connection):
    """A connection whose messages are sealed on their way out and opened on their way in."""

    __slots__ = ("_early", "_incoming", "_outgoing", "_shaking", "_tls")

    _tls: ssl.SSLObject

    def _stands(self) -> None:
        """The TCP connection is there: now the handshake. Who opened it speaks first."""
        self._connected = True
        self._shaking = True
        self._early: list[bytes] | None = [] if self.ours else None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        contexts = self._listener.contexts
        assert contexts is not None
        if self.ours:
            trust = self.trust
            context = contexts.client(trust.context)
            asked = name_to_ask_for(trust)
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=asked)
        else:
            assert contexts.server is not None
            self._tls = contexts.server.wrap_bio(self._incoming, self._outgoing, server_side=True)
            self._listener.doors.begins(self.flow.host)
        self._read_on()
        if self.ours:
            self._shake()

    @property
    def trust(self) -> Trust:
        trust = self.flow.trust
        assert trust is not None
        return trust

    def _shake(self) -> bool:
        """A step of the handshake; True once it is done."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._control()
            return False
        except ssl.SSLError as error:
            self._control()  # the alert that says so to the peer
            self._trouble(*_why(error))
            return False
        self._shaken()
        certificate = self._tls.getpeercert() or {}
        if self.ours and not proves(certificate, self.trust.names):
            wanted, named = " or ".join(self.trust.names), words_for(certificate)
            self._trouble(
                f"name mismatch: wanted {wanted}, its certificate names {named}",
                MISNAMED if self.trust.context else MISNAMED_PBX,
            )
            return False
        names = names_of(certificate)
        if self.ours and self.trust.context:
            self._listener.owner.shown(self.flow, certificate)
        # A trunk's authorities vouch for nobody but the trunk.
        if names and not (self.ours and self.trust.context):
            self.flow.names = names
            self.flow.generation = -1  # who it is may depend on it
            if not self.ours:
                self.flow.trust = Trust("", names)
            self._listener.knows(self.flow)
        self._control()
        if self.open:
            self._opened()
        return self.open

    def _shaken(self) -> None:
        """The handshake has ended, well or not."""
        if self._shaking:
            self._shaking = False
            if not self.ours:
                self._listener.doors.finishes(self.flow.host)

    def _take(self, data: bytes, now: float) -> None:
        self._incoming.write(data)
        if not self.ready:
            if not self._shake():
                return
            self._flush()
        parts = []
        ended = False
        try:
            while part := self._tls.read(READ):
                parts.append(part)
            ended = True  # the peer says that nothing more will come
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._control()
            if self._early:
                self._trouble(*_why(error))
                return
            ended = True
        self._control()
        if parts and self.open:
            self._early = None
            super()._take(b"".join(parts), now)
        if ended:
            self.gone()

    def _control(self) -> None:
        """Write what TLS itself has to say. It goes behind what has begun, and before all that has not."""
        data = self._outgoing.read()
        if data and self.open:
            self._left += data
            if len(self._left) == len(data):
                self._push()

    def _seal(self, message: bytes) -> bytes:
        if self._early is not None:
            if len(self._early) < EARLY_MAX:
                self._early.append(message)
            else:
                self._early = None
        self._tls.write(message)
        return self._outgoing.read()

    def gone(self) -> None:
        if not self.open:
            return
        if self.ours and self._connected and not self.ready:
            self._trouble("the peer closed the connection during the handshake", OUR_FAULT)
        elif self.ours and self._connected and self._early:
            self._trouble("the peer closed the connection at the first message", OUR_FAULT)
        else:
            super().gone()

    def too_late(self, why: str) -> None:
        if why == "handshake" and self.ours:
            what = "handshake" if self._connected else "connection"
            self._trouble(
                f"no answer to the {what} in time", NOBODY_THERE if self._connected else UNREACHED.advice
            )
        else:
            super().too_late(why)

    def _trouble(self, reason: str, remedy: str) -> None:
        """TLS can't be had with this peer. Whoever is no stranger may want to know."""
        context = self.trust.context
        place = f"trunks.{context}.tls" if context else "tls"
        self.trouble = Trouble(f"TLS: {reason}", remedy.format(place=place))
        self._listener.trouble(self, reason, self.trouble.advice)
        self.close()

    def close(self) -> None:
        if not self.open:
            return
        if self._connected:
            self._shaken()
            if self.ready:
                with contextlib.suppress(ssl.SSLError):
                    self._tls.unwrap()  # says that nothing more will come (RFC 8446 §6.1)
                with contextlib.suppress(OSError):
                    if not self._left:
                        self._socket.send(self._outgoing.read())
        super().close()

    def _unsent(self) -> list[tuple[bytes, int]]:
        if self._connected and self.trouble.text and self._early:
            return [*((message, 0) for message in self._early), *self._queue]
        return super()._unsent()


def name_to_ask_for(trust: Trust) -> str | None:
    """SNI (RFC 6066 §3), which knows no addresses."""
    name = trust.names[0]
    return None if is_address(name) or "*" in name else name


def _why(error: ssl.SSLError) -> tuple[str, str]:
    """(what went wrong, what to do), from OpenSSL's error."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in UNTRUSTED:
            return f"its certificate: {error.verify_message}", "name who has signed it in `{place}.ca`"
        if error.verify_code == EXPIRED:
            return "its certificate has expired", "the peer must renew it; is this machine's clock right?"
        return f"its certificate: {error.verify_message}", "the peer must show a certificate that is valid"
    reason = error.reason or ""
    if isinstance(error, ssl.SSLEOFError) or not reason:
        return "the peer closed the connection during the handshake", OUR_FAULT
    remedy = REMEDIES.get(reason, "see what the peer's log says")
    return "no TLS there" if remedy == NOBODY_THERE else reason.replace("_", " ").lower(), remedy
