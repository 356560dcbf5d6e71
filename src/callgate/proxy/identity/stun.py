"""The keep-alive of phones that registered over UDP (RFC 5626 §4.4.2, §8): a STUN binding request is told where it
came from (RFC 8489)."""

from __future__ import annotations

from ipaddress import ip_address
from struct import Struct

from callgate.proxy.flow import Flow

_HEAD = Struct(">HHI12s")
_COOKIE = 0x2112A442
_REQUEST, _SUCCESS = 0x0001, 0x0101
_XOR_MAPPED_ADDRESS = 0x0020
_OPTIONAL = 0x8000
"""Attributes from here on may be ignored; one below that is not known must be refused (RFC 8489 §6.3.1)."""


def stun_answer(data: bytes, flow: Flow) -> bytes:
    """The success response to a plain binding request; empty for all else."""
    if len(data) < _HEAD.size:
        return b""
    kind, length, cookie, transaction = _HEAD.unpack_from(data)
    if kind != _REQUEST or cookie != _COOKIE or length != len(data) - _HEAD.size or length % 4:
        return b""
    at = _HEAD.size
    while at < len(data):
        name, size = int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : at + 4], "big")
        if name < _OPTIONAL:
            return b""  # credentials and the like: no keep-alive
        at += 4 + (size + 3) // 4 * 4
    address = ip_address(flow.host).packed
    mask = data[4:20]
    port = (flow.port ^ (_COOKIE >> 16)).to_bytes(2, "big")
    hidden = bytes(a ^ b for a, b in zip(address, mask, strict=False))
    value = b"\0" + (b"\1" if len(address) == 4 else b"\2") + port + hidden
    attribute = _XOR_MAPPED_ADDRESS.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value
    return _HEAD.pack(_SUCCESS, len(attribute), cookie, transaction) + attribute
