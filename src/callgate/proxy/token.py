"""What our Via branch and our Record-Route carry.

    Via: SIP/2.0/UDP gate;branch=z9hG4bK<token>.<number>
    Record-Route: <sip:gate;lr;cg=<token>>

The token says which leg of which key this is and how both sides are reached, so that a gate which has lost its
memory can still tell where the message belongs; a MAC over it, the Call-ID and the caller's From tag makes sure
that nobody but us wrote it, for this very dialog. The branch's number finds the transaction.

Layout (version 1), base64url without padding:

    1 octet   version << 4 | raised << 1 | direction (bit 0: 0 outbound, 1 inbound)
    4 octets  key's tag: BLAKE2s of its id
    8 octets  leg: the number of the call, unique over restarts
    1 octet   listener towards the PBX        (place in the config)
    1 octet   listener towards the trunk
    1 octet   gateway of the trunk            (place in the config; from 128 on: of its emergency route;
                                               255: a recorder of the key)
    6 | 18    PBX's address and port, IPv4 or IPv6
    8 octets  MAC: keyed BLAKE2s

`raised` is by how much the CSeq of a PBX's INVITE was raised when it left with credentials of the gate, 7 at most.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from binascii import Error, a2b_base64, b2a_base64
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct

VERSION = 1
OUTBOUND, INBOUND = 0, 1
RAISED_MAX = 7
AWAY = 128
"""Added to the place of a gateway that belongs to the emergency route of the key's trunk, not to that itself."""
RECORDER = 255
"""Stands for a recorder of the key (a SIPREC session) instead of a gateway."""
_HEAD = Struct(">B4sQBBB")
_MAC = 8
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")
_TEXT = re.compile(rb"[A-Za-z0-9\-_]{36,80}\Z")


def key_tag(key_id: str) -> bytes:
    """Four octets that stand for a key's id on the wire; the id itself is nobody else's business."""
    return hashlib.blake2s(key_id.encode(), digest_size=4).digest()


class Token:
    """The content of a token whose MAC was right."""

    __slots__ = (
        "direction",
        "gateway",
        "key_tag",
        "leg",
        "pbx_host",
        "pbx_listener",
        "pbx_port",
        "raised",
        "trunk_listener",
    )

    def __init__(
        self,
        direction: int,
        key_tag: bytes,
        leg: int,
        pbx_listener: int,
        trunk_listener: int,
        gateway: int,
        pbx_host: str,
        pbx_port: int,
        raised: int = 0,
    ) -> None:
        self.direction = direction
        self.key_tag = key_tag
        self.leg = leg
        self.pbx_listener = pbx_listener
        self.trunk_listener = trunk_listener
        self.gateway = gateway
        self.pbx_host = pbx_host
        self.pbx_port = pbx_port
        self.raised = min(raised, RAISED_MAX)


class Signer:
    """Makes and checks tokens with the gate's secret (32 octets at most count; gates that share a store share
    the secret)."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 16:
            raise ValueError("the secret needs 16 octets at least")
        key = hashlib.sha256(secret).digest()
        self._mac = hashlib.blake2s(key=key, digest_size=_MAC, person=b"token")
        # What `tag` signs is chosen by the other side and shown to it: that must never be a token's MAC.
        self._tags = hashlib.blake2s(key=key, digest_size=_MAC, person=b"tag")
        self._nonces = hashlib.blake2s(key=key, digest_size=32, person=b"nonces")
        self._packed: dict[tuple[str, int], bytes] = {}  # bounded

    def _sign(self, payload: bytes, call_id: bytes, from_tag: bytes) -> bytes:
        mac = self._mac.copy()
        # With its length, so that no octets of the Call-ID can pass for the end of an address.
        mac.update(b"%c%b%b\0%b" % (len(payload), payload, call_id, from_tag))
        return mac.digest()

    def make(self, token: Token, call_id: bytes, from_tag: bytes) -> bytes:
        """The token's text."""
        payload = _HEAD.pack(
            VERSION << 4 | token.raised << 1 | token.direction,
            token.key_tag,
            token.leg & 0xFFFFFFFFFFFFFFFF,
            token.pbx_listener,
            token.trunk_listener,
            token.gateway,
        ) + self._address(token.pbx_host, token.pbx_port)
        text = b2a_base64(payload + self._sign(payload, call_id, from_tag), newline=False)
        return text.translate(_TO_URL).rstrip(b"=")

    def tag(self, *parts: bytes) -> bytes:
        """A To tag that comes out the same for every copy of a request (RFC 3261 §8.2.7)."""
        mac = self._tags.copy()
        mac.update(b"\0".join(parts))
        return b"cg" + mac.hexdigest().encode("ascii")

    @property
    def nonce_secret(self) -> bytes:
        """What nonces are signed with where the config names no secret of their own."""
        return self._nonces.digest()

    def _address(self, host: str, port: int) -> bytes:
        packed = self._packed.get((host, port))
        if packed is None:
            if len(self._packed) > 4096:
                self._packed.clear()
            packed = self._packed[host, port] = ip_address(host).packed + port.to_bytes(2, "big")
        return packed

    def read(self, text: bytes, call_id: bytes, from_tag: bytes) -> Token | None:
        """The content, None unless this gate made it for this Call-ID and From tag."""
        if _TEXT.match(text) is None:
            return None
        try:
            data = a2b_base64(text.translate(_FROM_URL) + b"=" * (-len(text) % 4))
        except Error:
            return None
        payload, mac = data[:-_MAC], data[-_MAC:]
        address = payload[_HEAD.size :]
        if len(address) not in (6, 18) or not hmac.compare_digest(
            mac, self._sign(payload, call_id, from_tag)
        ):
            return None
        first, tag, leg, pbx_listener, trunk_listener, gateway = _HEAD.unpack_from(payload)
        if first >> 4 != VERSION:
            return None
        packed, port = address[:-2], int.from_bytes(address[-2:], "big")
        host = str(IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed))
        raised = first >> 1 & RAISED_MAX
        return Token(first & 1, tag, leg, pbx_listener, trunk_listener, gateway, host, port, raised)
