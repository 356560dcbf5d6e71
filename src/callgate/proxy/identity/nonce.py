"""Nonces that nobody has to remember (RFC 3261 §22.4): the time, and a MAC over it and the source address.

A nonce is good for a while, at the address that it was given to: a header that was captured is of no use elsewhere,
and whoever sends a good one has received our challenge, so that its address is not forged.
"""

from __future__ import annotations

import hashlib
import hmac
from binascii import Error, a2b_base64, b2a_base64

_MAC = 12
_TEXT = 24
"""Characters of a nonce: 6 octets of time and the MAC, in base64."""
AHEAD = 5.0
"""Seconds that the clock of a gate with the same secret may be ahead of ours."""


class Nonces:
    """`secret`: gates that share it take each other's nonces. Times are of the wall clock, in seconds."""

    def __init__(self, secret: bytes) -> None:
        key = hashlib.sha256(secret).digest()
        self._mac = hashlib.blake2s(key=key, digest_size=_MAC, person=b"nonce")

    def _sign(self, stamp: bytes, source: str) -> bytes:
        mac = self._mac.copy()
        mac.update(stamp + source.encode("ascii", "replace"))
        return mac.digest()

    def make(self, source: str, wall: float) -> bytes:
        stamp = (int(wall * 1000) & 0xFFFFFFFFFFFF).to_bytes(6, "big")
        return b2a_base64(stamp + self._sign(stamp, source), newline=False)

    def good(self, nonce: bytes, source: str, wall: float, seconds: float) -> bool:
        """Whether we gave this nonce to that source, not more than `seconds` ago."""
        if len(nonce) != _TEXT:
            return False
        try:
            data = a2b_base64(nonce, strict_mode=True)
        except Error:
            return False
        stamp, mac = data[:6], data[6:]
        if not hmac.compare_digest(mac, self._sign(stamp, source)):
            return False
        age = wall - int.from_bytes(stamp, "big") / 1000
        return -AHEAD <= age <= seconds
