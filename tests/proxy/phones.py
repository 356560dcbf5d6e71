"""Phones that register at the gate: sides of a ladder with a REGISTER."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.proxy.agent import Agent, Leg
from tests.proxy.ladder import World
from tests.proxy.text import Text

from callgate.proxy.flow import Flow

GATE = "sip:127.0.0.1:5060"


class Phone(Agent):
    """`user` is who it registers as. Its REGISTERs have one Call-ID and count up their CSeq (RFC 3261 §10.2.4)."""

    def __init__(self, world: World, name: str, flow: Flow, port: int, user: str) -> None:
        super().__init__(world, name, flow, port)
        self.user = user
        self.registration = f"registration-{name}@example"
        self.cseq = 0

    def registers(
        self,
        *contacts: str,
        expires: int | str | None = None,
        user: str = "",
        host: str = "127.0.0.1",
        headers: Sequence[str] = (),
        call_id: str = "",
        cseq: int = 0,
        uri: str = GATE,
        to: str = "",
        sender: str = "",
        vias: Iterable[str] = (),
        code: int = 200,
    ) -> Text:
        """Send a REGISTER with these Contact values (its own where there are none; `""` for no Contact at all) and get
        that answer."""
        self.cseq = cseq or self.cseq + 1
        call_id = call_id or self.registration
        address = to or f"<sip:{user or self.user}@{host}>"
        lines = [
            f"REGISTER {uri} SIP/2.0",
            f"Via: SIP/2.0/{self.transport} {self.sent_by};branch={self.next_branch()};rport",
            *vias,
            "Max-Forwards: 70",
            f"From: {sender or address};tag=f{self.cseq}",
            f"To: {address}",
            f"Call-ID: {call_id}",
            f"CSeq: {self.cseq} REGISTER",
            *(f"Contact: {value}" for value in contacts or (self.contact,) if value),
            *headers,
            *((f"Expires: {expires}",) if expires is not None else ()),
            "Content-Length: 0",
        ]
        self.legs.setdefault(call_id, Leg(call_id))
        self.transmits("\r\n".join([*lines, "", ""]).encode("latin-1"))
        return self.gets(f"{code} REGISTER")

    def listed(self) -> dict[str, int]:
        """What a fetch lists (RFC 3261 §10.2.3): contact → seconds left."""
        return contacts_of(self.registers(""))

    def moves(self, port: int, connection: int = 0, host: str = "") -> None:
        """A NAT gives it another port, it connects anew, or it is elsewhere now: nobody is left where it was."""
        host, listener = host or self.flow.host, self.flow.listener
        self.flow = Flow(listener, host, port, connection)
        self.addresses = {(host, port)}

    def hangs(self) -> None:
        """Its connection ends."""
        self.world.core.closed(self.flow, self.world.now)
        self.world.carries_out()


def contacts_of(answer: Text) -> dict[str, int]:
    """The contacts of an answer with the seconds they have left."""
    found = {}
    for value in answer.all("contact"):
        head, _, seconds = value.rpartition(";expires=")
        found[head] = int(seconds)
    return found


def phone(
    world: World,
    name: str = "phone",
    host: str = "192.0.2.70",
    port: int = 5062,
    *,
    over: str = "UDP",
    user: str = "1001",
    nat: str = "",
) -> Phone:
    """A phone at an address of the key. `nat`: the private address it believes in, behind that one."""
    listener = next(x for x in world.listeners if x.transport.decode() == over and x.family == 4)
    world.calls += 1
    connection = 0 if over == "UDP" else 7000 + world.calls
    made = Phone(
        world, name, Flow(listener, host, port if over == "UDP" else 40000 + port, connection), port, user
    )
    if nat:
        made.sent_by = f"{nat}:5060"
        suffix = "" if over == "UDP" else f";transport={over.lower()}"
        made.contact = f"<sip:{name}@{nat}:5060{suffix}>"
    world.agents.append(made)
    return made
