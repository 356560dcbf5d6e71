"""One SIP message as a ladder reads it. On purpose not the reader of the program: what one gets wrong, the other
does not repeat."""

from __future__ import annotations

import re
from functools import cached_property

LISTS = frozenset(("via", "route", "record-route"))
_COMPACT = {"v": "via", "f": "from", "t": "to", "i": "call-id", "l": "content-length", "m": "contact"}
_TAG = re.compile(r";\s*tag\s*=\s*([^;\s,]+)", re.IGNORECASE)


class Text:
    """`code` is 0 for a request. `headers` are (name in lower case, value as written), in order."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        self.data = data
        lines = re.sub(r"\r\n[ \t]+", " ", head.decode("latin-1")).split("\r\n")
        self.start = lines[0]
        self.headers: list[tuple[str, str]] = []
        self._by_name: dict[str, list[str]] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            name, value = name.strip().lower(), value.strip()
            name = _COMPACT.get(name, name)
            self.headers.append((name, value))
            self._by_name.setdefault(name, []).append(value)
        if self.start.startswith("SIP/2.0 "):
            self.code = int(self.start[8:11])
            self.uri = ""
            self.method = self.get("cseq").partition(" ")[2]
        else:
            self.code = 0
            self.method, self.uri, _ = self.start.split(" ")

    def get(self, name: str, absent: str = "") -> str:
        """The first value of a header."""
        found = self._by_name.get(name)
        return found[0] if found else absent

    def all(self, name: str) -> list[str]:
        """Every value of a header; those of list headers one by one (no comma stands in any of them here but
        between values)."""
        found = self._by_name.get(name, [])
        if name not in LISTS:
            return list(found)
        return [value.strip() for line in found for value in line.split(",")]

    def has(self, name: str) -> bool:
        return name in self._by_name

    @property
    def call_id(self) -> str:
        return self.get("call-id")

    @cached_property
    def cseq(self) -> int:
        return int(self.get("cseq").partition(" ")[0])

    @cached_property
    def from_tag(self) -> str:
        return tag(self.get("from"))

    @cached_property
    def to_tag(self) -> str:
        return tag(self.get("to"))

    @cached_property
    def via(self) -> str:
        """The top one."""
        return self.all("via")[0]

    @cached_property
    def branch(self) -> str:
        return via_param(self.via, "branch")

    @property
    def is_copy_of_the_calls_first(self) -> bool:
        """An INVITE that would open a call: it has no To tag."""
        return not self.code and self.method == "INVITE" and not self.to_tag

    def __repr__(self) -> str:
        return f"{self.start} [{self.get('cseq')}]"


def tag(value: str) -> str:
    """The tag of a From or To value."""
    found = _TAG.search(value.rpartition(">")[2] if ">" in value else value)
    return found[1] if found else ""


def via_param(via: str, name: str) -> str:
    """A parameter of a Via value; empty where it is absent or a flag."""
    found = re.search(rf";\s*{name}\s*=\s*([^;\s]+)", via, re.IGNORECASE)
    return found[1] if found else ""


def sent_by(via: str) -> str:
    """`host:port` of a Via value."""
    return via.partition(";")[0].split(" ")[-1]


def uri_of(value: str) -> str:
    """The URI of a name-addr."""
    found = re.search(r"<([^>]*)>", value)
    return found[1] if found else value.partition(";")[0].strip()
