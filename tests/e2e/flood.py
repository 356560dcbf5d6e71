"""`python flood.py HOST PORT SECONDS RATE SOURCE…`: datagrams to one address from many, for as long as it says.

RATE is how many a second, 0: as many as there can be. Prints how many were sent. A process of its own, and one that
lets others go first: what is measured beside it is not slowed down by it more than by another machine.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
import time
from pathlib import Path

MESSAGES = (
    b"INVITE sip:0312345678@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKflood\r\n"
    b"From: <sip:a@b>;tag=a\r\nTo: <sip:0312345678@127.0.0.1>\r\nCall-ID: flood\r\nCSeq: 1 INVITE\r\n"
    b"Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
    b"REGISTER sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKflood\r\n\r\n",
    b"\xff" * 600,
    b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKflood\r\n\r\n",
)


def give_way() -> None:
    """The scheduler of Linux shares processors out by session where it groups by that, and then inside one."""
    os.nice(10)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("10")


def main() -> None:
    host, port, seconds, rate, *sources = sys.argv[1:]
    give_way()
    sockets = []
    for source in sources:
        sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sockets[-1].bind((source, 0))
        sockets[-1].setblocking(False)
    to = (host, int(port))
    begin = time.monotonic()
    end = begin + float(seconds)
    sent = 0
    turns = itertools.cycle(itertools.product(MESSAGES, sockets))
    while (now := time.monotonic()) < end:
        if int(rate) and sent > int(rate) * (now - begin):
            time.sleep(0.001)
            continue
        for message, sock in itertools.islice(turns, 64):
            try:
                sock.sendto(message, to)
                sent += 1
            except OSError:  # the buffer is full, or an ICMP error
                continue
    print(sent)


if __name__ == "__main__":
    main()
