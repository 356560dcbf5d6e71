"""A world whose PBX, trunk or stranger may send any octets, and in which what the gate sends is seen as octets."""

from __future__ import annotations

from tests.proxy.ladder import World
from tests.proxy.stores import SAME_TURN, Kind
from tests.torture.wire import Octets

from callgate.proxy.commands import Send
from callgate.proxy.flow import Flow
from callgate.sip.framing import Broken, Framer


class Rack(World):
    """From `spread` on, what the gate sends is kept as it is; but for the calls of `legit`, which are ladders."""

    LEGIT = b"legit"

    def __init__(
        self, over: str, *, store: Kind = SAME_TURN, any_number: bool = True, **options: object
    ) -> None:
        super().__init__(store, any_number=any_number, pbx_over=over, **options)  # type: ignore[arg-type]
        self.stream = over == "TCP"
        self.out: list[Send] | None = None
        self.closed = False

    def legit(self) -> None:
        """Somebody calls, is answered and hangs up, as if nothing were."""
        self.talks(call="legit")
        self.hangs_up(call="legit")

    def forgets(self) -> None:
        """What the ladders remember of calls that are over: looking through it takes longer with each."""
        for memory in (self.lines, self.by_branch, self.arrived, self.answers, self.records, self.labels):
            memory.clear()
        for agent in self.agents:
            agent.legs.clear()

    def spread(self) -> None:
        self.out = []

    def post(self, send: Send) -> None:
        if self.out is None or b"\r\nCall-ID: " + self.LEGIT in send.data:
            super().post(send)
            return
        self.out.append(send)
        if send.claim:
            self.store.sent(send.claim, self.now)
            self.core.sent(send.claim, self.now)

    def takes(self, data: bytes, flow: Flow | None = None) -> None:
        """The gate reads what the PBX sends, or what comes over another flow, from the wire."""
        flow = flow or self.pbx.flow
        if not flow.connection:
            self.core.receive(data, flow, self.now)
        else:
            framer, head = Framer(), None
            try:
                messages = framer.feed(data)
            except Broken as broken:
                messages, head = broken.messages, broken.head
            for message in messages:
                if message != Framer.PING:
                    self.core.receive(message, flow, self.now)
            if head is not None:
                self.core.broken(head, flow, self.now)
        self.carries_out()
        self.closed = bool(self.hung_up)

    def _sent(self, host: str) -> list[Send]:
        assert self.out is not None
        hosts = {send.flow.host for send in self.out}
        assert hosts <= {self.pbx.flow.host, self.carrier.flow.host}, "something goes to neither side"
        found = [send for send in self.out if send.flow.host == host]
        self.out = [send for send in self.out if send.flow.host != host]
        return found

    def to_trunk(self) -> list[bytes]:
        return [send.data for send in self._sent(self.carrier.flow.host)]

    def to_pbx(self) -> list[bytes]:
        """What went to the PBX, but 100. Never anywhere but where the request came from."""
        sent = self._sent(self.pbx.flow.host)
        assert all(not self.stream or send.flow.connection == self.pbx.flow.connection for send in sent)
        return [send.data for send in sent if Octets(send.data).code != 100]
