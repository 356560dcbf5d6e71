"""A SIP message as these phones write and read it: a few headers, one value to a line (but for Record-Route and Route).

On purpose neither the program's reader nor that of the ladders: it reads every copy of every message, so it is quick
and knows no more than what phones and gate write here.
"""

from __future__ import annotations


class Msg:
    """`code` is 0 for a request, `method` that of the CSeq. `via` are the values as written, the top one first;
    `routes` those of Record-Route in a message that has them. Tags are empty where there is none."""

    __slots__ = (
        "branch",
        "call_id",
        "code",
        "contact",
        "cseq",
        "data",
        "from_line",
        "from_tag",
        "has_credentials",
        "method",
        "routes",
        "rseq",
        "to_line",
        "to_tag",
        "uri",
        "verdict",
        "via",
    )

    def __init__(self, data: bytes) -> None:
        self.data = data
        start, *lines = data.partition(b"\r\n\r\n")[0].decode("ascii").split("\r\n")
        self.via: list[str] = []
        self.routes: list[str] = []
        self.contact = self.verdict = self.uri = ""
        self.rseq = 0
        self.has_credentials = False
        for line in lines:
            name, _, value = line.partition(": ")
            if name == "Via":
                self.via += value.split(", ")
            elif name == "From":
                self.from_line, self.from_tag = value, value.partition(";tag=")[2]
            elif name == "To":
                self.to_line, self.to_tag = value, value.partition(";tag=")[2]
            elif name == "Call-ID":
                self.call_id = value
            elif name == "CSeq":
                number, _, self.method = value.partition(" ")
                self.cseq = int(number)
            elif name == "Record-Route":
                self.routes += value.split(", ")
            elif name == "Contact":
                self.contact = value[1:-1]
            elif name == "RSeq":
                self.rseq = int(value)
            elif name == "Proxy-Authorization":
                self.has_credentials = True
            elif name == "X-CallGate-Verdict":
                self.verdict = value
        self.branch = self.via[0].partition(";branch=")[2].partition(";")[0]
        self.code = int(start[8:11]) if start.startswith("SIP/2.0 ") else 0
        if not self.code:
            self.uri = start.split(" ")[1]

    @property
    def opens_a_call(self) -> bool:
        """A copy of an INVITE outside a dialog."""
        return not self.code and self.method == "INVITE" and not self.to_tag

    def __repr__(self) -> str:
        what = f"{self.code} to {self.method}" if self.code else self.method
        return f"{what} {self.cseq} of {self.call_id}"
