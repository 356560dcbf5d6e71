"""What one phone knows of one call: the user agent above its transactions (RFC 3261 §9, §12–§15, RFC 3262)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lossy.message import Msg
from tests.lossy.transactions import LIFE, T1, T2, Client, Head, InviteClient, InviteServer, Server

if TYPE_CHECKING:
    from tests.lossy.phone import Phone
    from tests.lossy.plan import Plan

CONTACT_FOR = frozenset(("INVITE", "UPDATE"))


class Dialog:
    """RFC 3261 §12. `stage` early, up or over; `heard`: the other side's highest CSeq; `known`: the gate has seen the
    answer that made it."""

    def __init__(self, leg: Leg, message: Msg, cseq: int) -> None:
        self.leg = leg
        self.phone = leg.phone
        self.stage = "early"
        self.known = False
        self.cseq = cseq
        self.heard = -1
        self.rseq = 0
        self.target = message.contact
        if leg.caller:
            self.tag = message.to_tag
            self.local, self.remote = message.from_line, message.to_line
            self.routes = message.routes[::-1]
        else:
            self.tag = message.from_tag
            self.local, self.remote = f"{message.to_line};tag={leg.tag}", message.from_line
            self.routes = message.routes
            self.heard = message.cseq
        self._acks: dict[int, bytes] = {}  # of the answers to our INVITEs, by CSeq
        self._unacknowledged: dict[int, bytes] = {}  # our answers to theirs
        self._asking: InviteClient | None = None

    # -- sending -------------------------------------------------------------------------------------------

    def send(self, method: str, *more: str) -> Client:
        """A request inside the dialog."""
        self.cseq += 1
        head = self._head(self.cseq)
        if method in CONTACT_FOR:
            more = (f"Contact: <{self.phone.contact}>", *more)
        if method == "INVITE":
            self._asking = InviteClient(self.phone, head, self, more)
            return self._asking
        return Client(self.phone, method, head, self, more)

    def _head(self, cseq: int) -> Head:
        return Head(self.phone, self.target, self.routes, self.local, self.remote, self.leg.call_id, cseq)

    def acknowledge(self, response: Msg) -> None:
        """The ACK of a 2xx, each time one comes (§13.2.2.4)."""
        ack = self._acks.get(response.cseq)
        if ack is None:
            ack = self._acks[response.cseq] = self._head(response.cseq).write("ACK")
        self.phone.send(ack, self.leg.call_id)

    def says(self, method: str) -> None:
        """What the plan has for the time of talking."""
        if self.stage == "up" and not (method == "INVITE" and (self._asking or self._unacknowledged)):
            self.send(method)

    def bye(self) -> None:
        if self.stage == "up":
            self.over()
            self.send("BYE")

    def over(self) -> None:
        if self.stage == "up":
            self.phone.watcher.on_over(self)
        self.stage = "over"
        self._unacknowledged.clear()

    def is_up(self) -> None:
        self.stage = "up"
        self.phone.watcher.on_up(self)

    # -- answers to what was sent --------------------------------------------------------------------------

    def on_response(self, client: Client, response: Msg) -> None:
        if response.code < 200:
            return
        if client is self._asking:
            self._asking = None
        if response.code < 300:
            if client.method == "INVITE":
                self.acknowledge(response)
        elif response.code in (408, 481) and client.method != "BYE":
            self.bye()  # §12.2.1.2

    def on_timeout(self, client: Client) -> None:
        if client is self._asking:
            self._asking = None
        if client.method != "BYE":
            self.bye()

    # -- what the other side sends -------------------------------------------------------------------------

    def request(self, server: Server) -> None:
        request, method = server.request, server.request.method
        tag = request.to_tag
        if self.stage == "over":
            # Its BYE has crossed ours: some phones still know the dialog, others do not.
            known = method == "BYE" and self.leg.plan.number % 2
            server.respond(200 if known else 481, tag)
            return
        if request.cseq < self.heard:
            server.respond(500, tag)
            return
        self.heard = request.cseq
        if method == "BYE":
            server.respond(200, tag)
            self.over()
        elif method == "INVITE":
            if self._asking is not None:
                server.respond(491, tag)  # §14.2
            elif self._unacknowledged:
                server.respond(500, tag, ["Retry-After: 5"])
            else:
                self.target = request.contact
                data = server.respond(200, tag, [f"Contact: <{self.phone.contact}>"])
                self.repeat_until_acknowledged(request.cseq, data)
        else:
            if method == "PRACK":
                self.leg.prack()
            server.respond(200, tag)

    def repeat_until_acknowledged(self, cseq: int, data: bytes) -> None:
        """§13.3.1.4: at T1, doubling to T2, for 64*T1; then the session is ended."""
        self._unacknowledged[cseq] = data
        self.phone.after(T1, self._repeat, cseq, T1, self.phone.clock.now + LIFE)

    def _repeat(self, cseq: int, interval: float, until: float) -> None:
        data = self._unacknowledged.get(cseq)
        if data is None:
            return
        if self.phone.clock.now >= until:
            self.bye()
            return
        self.phone.send(data, self.leg.call_id, self.becomes_known)
        interval = min(2 * interval, T2)
        self.phone.after(min(interval, until - self.phone.clock.now), self._repeat, cseq, interval, until)

    def becomes_known(self) -> None:
        """A copy of the answer has reached the gate."""
        self.known = True

    def acknowledged(self, cseq: int) -> None:
        if self._unacknowledged.pop(cseq, None) is not None:
            self.leg.confirmed(self)


class Leg:
    """`belief`: how this side thinks the call went: `answered`, the final code, `timeout`; empty while it does not
    know, or if it never said anything."""

    def __init__(self, phone: Phone, call_id: str, plan: Plan, *, caller: bool = False) -> None:
        self.phone = phone
        self.call_id = call_id
        self.plan = plan
        self.caller = caller
        self.tag = phone.next_tag()
        self.belief = ""
        self.verdict = ""  # the gate's, if it refused
        self.main: Dialog | None = None
        self.dialogs: dict[str, Dialog] = {}
        self.challenged = 0  # CSeq of the INVITE that was
        self.asked = 0  # CSeq of the INVITE that came last
        self.refusals = 0  # failures that this callee has given
        self.given_up = False  # the caller has
        self.began = phone.clock.now
        self._client: InviteClient | None = None
        self._server: InviteServer | None = None
        self._unpracked = b""  # a reliable 180
        self._answer_waits = False

    @property
    def over(self) -> bool:
        return bool(self.belief) and all(d.stage == "over" for d in self.dialogs.values())

    @property
    def has_refused(self) -> bool:
        """A callee has given a failure: it may be asked again, by an INVITE with a higher CSeq."""
        return not self.caller and self.belief.isdigit()

    def dialog_of(self, request: Msg) -> Dialog | None:
        if request.to_tag != self.tag:
            return None
        return self.dialogs.get(request.from_tag)

    # -- the caller ----------------------------------------------------------------------------------------

    def invite(self, number: str) -> None:
        uri = f"sip:{number}@{self.phone.gate}"
        sender = f"<sip:1001@{self.phone.address}>;tag={self.tag}"
        self._ask(Head(self.phone, uri, (), sender, f"<{uri}>", self.call_id, 1))
        self.phone.after(self.plan.give_up, self.give_up)

    def _ask(self, head: Head, *more: str) -> None:
        more = (f"Contact: <{self.phone.contact}>", "Supported: 100rel", *more)
        self._client = InviteClient(self.phone, head, self, more)

    def give_up(self) -> None:
        if not self.belief and self._client is not None:
            self.given_up = True
            self._client.cancel()

    def on_response(self, client: Client, response: Msg) -> None:
        if response.code < 200:
            if response.rseq:
                self._provisional(response)
        elif response.code < 300:
            self._success(response)
        elif response.code == 407 and not self.challenged and not self.given_up:
            old = client.head
            self.challenged = old.cseq
            sender = old.lines[-1].removeprefix("From: ")
            head = Head(self.phone, old.uri, (), sender, old.to, old.call_id, old.cseq + 1)
            self._ask(head, 'Proxy-Authorization: Digest username="acme"')
        else:
            self.belief = str(response.code)
            self.verdict = response.verdict
            for dialog in self.dialogs.values():
                dialog.over()

    def on_timeout(self, client: Client) -> None:
        self.belief = "timeout"
        for dialog in self.dialogs.values():
            dialog.over()

    def _provisional(self, response: Msg) -> None:
        """A reliable one: PRACK, once for each in its order (RFC 3262 §4)."""
        dialog = self.dialogs.get(response.to_tag)
        if dialog is None:
            dialog = self.dialogs[response.to_tag] = Dialog(self, response, response.cseq)
        if dialog.stage == "early" and (not dialog.rseq or response.rseq == dialog.rseq + 1):
            dialog.rseq = response.rseq
            dialog.send("PRACK", f"RAck: {response.rseq} {response.cseq} INVITE")

    def _success(self, response: Msg) -> None:
        dialog = self.dialogs.get(response.to_tag)
        if dialog is None:
            dialog = self.dialogs[response.to_tag] = Dialog(self, response, response.cseq)
        dialog.acknowledge(response)
        self.belief = self.belief or "answered"  # also where the BYE has overtaken it
        if dialog.stage != "early":
            return
        dialog.target, dialog.routes = response.contact, response.routes[::-1]  # §13.2.2.4
        dialog.known = True
        dialog.is_up()
        if self.main is None:
            self.main = dialog
            for other in self.dialogs.values():
                if other.stage == "early":
                    other.over()
        if dialog is not self.main or self.given_up:
            dialog.bye()  # one callee is enough; or the answer has beaten our CANCEL
            return
        self._talks(dialog, self.plan.caller_talks, "caller")

    def _talks(self, dialog: Dialog, seconds: float, who: str) -> None:
        for when, side, method in self.plan.inside:
            if side == who:
                self.phone.after(when, dialog.says, method)
        self.phone.after(seconds, dialog.bye)

    # -- the callee ----------------------------------------------------------------------------------------

    def rings(self, server: InviteServer) -> None:
        """An INVITE has come: what the plan has for it."""
        phone, plan = self.phone, self.plan
        self._server = server
        self.asked = server.request.cseq
        if plan.refused_first and phone.first_of_several:
            self._refuse(503)
        elif plan.challenge and not self.challenged:
            self.challenged = server.request.cseq
            self.belief = "407"
            self.refusals += 1
            server.respond(407, self.tag, ['Proxy-Authenticate: Digest realm="carrier", nonce="1"'])
        else:
            self.belief = ""
            if plan.trying:
                server.respond(100, "")
            if plan.ring is not None:
                phone.after(plan.ring, self._ring, server)
            phone.after(plan.answer, self._answer, server)

    def _waits(self, server: InviteServer) -> bool:
        return server is self._server and server.state == "trying"

    def _ring(self, server: InviteServer) -> None:
        if not self._waits(server):
            return
        more = [f"Contact: <{self.phone.contact}>"]
        if self.plan.reliable:
            self._dialog(server)
            more += ["Require: 100rel", "RSeq: 7"]
        data = server.respond(180, self.tag, more)
        if self.plan.reliable:
            self._unpracked = data
            self.phone.after(T1, self._ring_again, T1, self.phone.clock.now + LIFE)

    def _ring_again(self, interval: float, until: float) -> None:
        """RFC 3262 §3: until the PRACK comes; without one for 64*T1 the call is refused."""
        if not self._unpracked or self._server is None or not self._waits(self._server):
            return
        if self.phone.clock.now >= until:
            self._refuse(504)
            return
        self.phone.send(self._unpracked, self.call_id)
        self.phone.after(2 * interval, self._ring_again, 2 * interval, until)

    def prack(self) -> None:
        self._unpracked = b""
        if self._answer_waits and self._server is not None:
            self._answer(self._server)

    def _dialog(self, server: InviteServer) -> Dialog:
        tag = server.request.from_tag
        dialog = self.dialogs.get(tag)
        if dialog is None:
            dialog = self.dialogs[tag] = Dialog(self, server.request, 100)
        return dialog

    def _answer(self, server: InviteServer) -> None:
        if not self._waits(server):
            return
        if self.plan.code >= 300:
            self._refuse(self.plan.code)
            return
        if self._unpracked:  # no 2xx before that (RFC 3262 §3)
            self._answer_waits = True
            return
        dialog = self.main = self._dialog(server)
        self.belief = "answered"
        data = server.respond(200, self.tag, [f"Contact: <{self.phone.contact}>"], dialog.becomes_known)
        dialog.is_up()
        dialog.repeat_until_acknowledged(server.request.cseq, data)

    def confirmed(self, dialog: Dialog) -> None:
        """The ACK has come: only now a callee may hang up (§15)."""
        if dialog.stage == "up" and not self._answer_confirmed:
            self._answer_confirmed = True
            self._talks(dialog, self.plan.callee_talks, "callee")

    _answer_confirmed = False

    def _refuse(self, code: int) -> None:
        assert self._server is not None
        self._server.respond(code, self.tag)
        self.belief = str(code)
        self.refusals += 1
        for dialog in self.dialogs.values():
            dialog.over()

    def cancelled(self, server: InviteServer) -> None:
        if self._waits(server):
            self._refuse(487)
