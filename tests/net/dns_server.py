"""A name server on loopback, on a thread of its own: it says what its zone says, and misbehaves as it is told."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterable

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

Key = tuple[str, str]


class DnsServer:
    """`zone` maps (name, type) → records as text; `soa` is the TTL of what is not there.

    `mood` is how it answers: "well"; "silent"; "rubbish"; "servfail"; "forged" (first an answer with another id, then
    the real one); "cut" (UDP answers are cut short, so that TCP is needed); "lossy" (every other datagram is lost).
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.zone: dict[Key, list[str]] = {}
        self.ttl = 60
        self.ttls: dict[Key, int] = {}
        self.soa: int | None = 60
        self.mood = "well"
        self.asked: list[Key] = []
        self.by_tcp = 0
        self._count = 0
        self._udp, self._tcp = _both(host, port)
        self.address: tuple[str, int] = self._udp.getsockname()[:2]
        self._stop, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def text(self) -> str:
        return f"{self.address[0]}:{self.address[1]}"

    def set(self, kind: str, name: str, *records: str, ttl: int | None = None) -> None:
        """These are the records now; none: the name has none of that kind."""
        key = (name.rstrip(".").lower(), kind)
        if records:
            self.zone[key] = list(records)
        else:
            self.zone.pop(key, None)
        if ttl is not None:
            self.ttls[key] = ttl

    def count(self, kind: str, name: str) -> int:
        return self.asked.count((name.lower(), kind))

    def close(self) -> None:
        if self._thread.is_alive():
            self._wake.send(b"x")
            self._thread.join(5)
        for one in (self._udp, self._tcp, self._stop, self._wake):
            one.close()

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select((self._udp, self._tcp, self._stop), (), ())
            if self._stop in ready:
                return
            if self._udp in ready:
                with contextlib.suppress(OSError):
                    data, source = self._udp.recvfrom(65_535)
                    for answer in self._answers(data, udp=True):
                        self._udp.sendto(answer, source)
            if self._tcp in ready:
                with contextlib.suppress(OSError):
                    self._stream()

    def _stream(self) -> None:
        connection, _ = self._tcp.accept()
        with connection:
            connection.settimeout(30)
            head = connection.recv(2)
            size = int.from_bytes(head, "big")
            data = connection.recv(size)
            if len(head) < 2 or len(data) < size:
                return  # whoever asked has gone
            self.by_tcp += 1
            for answer in self._answers(data, udp=False):
                framed = len(answer).to_bytes(2, "big") + answer
                connection.sendall(framed[:1])  # the length may come in pieces
                connection.sendall(framed[1:])

    def _answers(self, data: bytes, *, udp: bool) -> Iterable[bytes]:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        self.asked.append((name, dns.rdatatype.to_text(question.rdtype)))
        self._count += 1
        mood = self.mood
        if mood == "silent" or (mood == "lossy" and self._count % 2):
            return
        if mood == "rubbish":
            yield data[:2] + b"\x81\x80\x00\x01\xff\xff" + b"\xc0\x0c" * 40
            yield b""
            yield b"\0" * 11
            return
        answer = self._answer(query, name, question)
        if mood == "servfail":
            answer.answer.clear()
            answer.set_rcode(dns.rcode.SERVFAIL)
        if mood == "cut" and udp:
            answer.answer.clear()
            answer.flags |= dns.flags.TC
        wire = answer.to_wire(max_size=65_535)
        if mood == "forged":
            yield bytes((wire[0] ^ 1,)) + wire[1:]
        yield wire

    def _answer(
        self, query: dns.message.Message, name: str, question: dns.rrset.RRset
    ) -> dns.message.QueryMessage:
        answer = dns.message.make_response(query)
        assert isinstance(answer, dns.message.QueryMessage)
        kind = dns.rdatatype.to_text(question.rdtype)
        for _ in range(20):
            alias = self.zone.get((name, "CNAME"))
            found = self.zone.get((name, kind))
            records, of_kind = (found, kind) if found or not alias else (alias, "CNAME")
            if records:
                ttl = self.ttls.get((name, of_kind), self.ttl)
                answer.answer.append(dns.rrset.from_text_list(name + ".", ttl, "IN", of_kind, records))
            if found or not alias or ("only the alias", name) in self.zone:
                break
            name = alias[0].rstrip(".").lower()
        if not answer.answer:
            if not any(known == name for known, _ in self.zone):
                answer.set_rcode(dns.rcode.NXDOMAIN)
            if self.soa is not None:
                soa = f"ns.example. root.example. 1 2 3 4 {self.soa}"
                answer.authority.append(dns.rrset.from_text(".", self.soa, "IN", "SOA", soa))
        return answer


def _both(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """UDP and TCP at the same port; any that is free for both where `port` is 0."""
    for _ in range(100):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            udp.bind((host, port))
            tcp.bind(udp.getsockname()[:2])
            tcp.listen(16)
        except OSError:
            udp.close()
            tcp.close()
            continue
        return udp, tcp
    raise OSError(f"no port is free on {host}")
