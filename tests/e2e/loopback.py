"""A network namespace that holds nothing but the loopback interface: the messages of the RFCs name 192.0.2.1 and other
addresses that may be somebody's where the tests run, and from in there nothing reaches them."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator

_CLONE_NEWNET = 0x4000_0000
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


@contextlib.contextmanager
def loopback_only() -> Iterator[None]:
    """This thread, and every process that it starts meanwhile, sees no network but its own loopback.

    Takes CAP_SYS_ADMIN (root has it). Without it this raises: a test that ran anyway could reach strangers.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_CLONE_NEWNET):
            reason = os.strerror(ctypes.get_errno())
            raise PermissionError(
                f"no network namespace of the test's own can be had ({reason}): run the tests as root, or with"
                " CAP_SYS_ADMIN (in a container: --cap-add SYS_ADMIN), or under `unshare -rn`"
            )
        try:
            _up("lo")
            yield
        finally:
            if libc.setns(home, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "the way back into the first network namespace is lost")
    finally:
        os.close(home)


def _up(interface: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", interface.encode(), 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request), 16)
        request = struct.pack("16sh14x", interface.encode(), flags | _IFF_UP)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


def interfaces() -> list[str]:
    """What this thread sees."""
    return [name for _, name in socket.if_nameindex()]
