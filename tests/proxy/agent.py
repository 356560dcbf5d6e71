"""One side of a ladder: a user agent that writes what RFC 3261 tells it to write and reads what arrives.

    world.pbx.sends("INVITE")            a new call            world.carrier.gets("INVITE")
    world.carrier.sends("180")           an answer             world.pbx.gets("180")
    world.pbx.sends("re-INVITE")         inside the dialog     world.pbx.sends("CANCEL")   of its INVITE
    world.carrier.sends("200 BYE")       an answer to that     world.pbx.repeats("INVITE") the same bytes again

It keeps Via, tags, CSeq, Contact and the route set of each dialog (§12), so ACK, BYE, CANCEL and re-INVITE come out
right. A side may stand behind further proxies: then it writes what the last of them would let out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tests.proxy.text import Text, uri_of

from callgate.proxy.flow import Flow

if TYPE_CHECKING:
    from tests.proxy.ladder import World

SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
INSIDE = frozenset(("re-INVITE", "BYE", "UPDATE", "INFO", "PRACK", "REFER", "NOTIFY"))
"""Sent inside a dialog unless said otherwise; all else outside."""
WITH_CONTACT = frozenset(("INVITE", "UPDATE", "SUBSCRIBE", "REFER", "NOTIFY"))


class Dialog:
    """RFC 3261 §12: `target` and `routes` of the other side, this side's `cseq`."""

    def __init__(self, local_tag: str, remote_tag: str, cseq: int) -> None:
        self.local_tag = local_tag
        self.remote_tag = remote_tag
        self.cseq = cseq
        self.target = ""
        self.routes: list[str] = []


class Leg:
    """What one side knows of one call. `dialogs` are keyed by the callee's tag."""

    def __init__(self, call_id: str) -> None:
        self.call_id = call_id
        self.local = ""
        self.remote = ""
        self.caller = False
        self.dialogs: dict[str, Dialog] = {}
        self.dialog: Dialog | None = None  # the one that was used last
        self.invite: Text | None = None  # the last INVITE that this side sent
        self.final: Text | None = None  # and its final answer
        self.got: list[Text] = []  # requests that came, the latest last
        self.answered: set[int] = set()  # id() of those that have their final answer
        self.sent: list[Text] = []


class Agent:
    """`flow` is its path to the gate as the gate sees it; `addresses` are all that reach it."""

    def __init__(self, world: World, name: str, flow: Flow, port: int) -> None:
        self.world = world
        self.name = name
        self.flow = flow
        self.addresses = {(flow.host, flow.port), (flow.host, port)}
        self.transport = flow.listener.transport.decode()
        self.sent_by = f"[{flow.host}]:{port}" if ":" in flow.host else f"{flow.host}:{port}"
        suffix = "" if self.transport == "UDP" else f";transport={self.transport.lower()}"
        self.contact = f"<sip:{name}@{self.sent_by}{suffix}>"
        self.behind: list[str] = []  # further proxies, the nearest to the gate first
        self.inbox: list[tuple[float, Text]] = []
        self.legs: dict[str, Leg] = {}
        self.current = ""  # Call-ID of what it last sent or read
        self._number = 0

    # -- sending ---------------------------------------------------------------------------------------------

    def sends(
        self,
        what: str,
        *,
        call: str = "",
        to: str = "",
        uri: str = "",
        tag: str = "",
        inside: bool | None = None,
        headers: Iterable[str] = (),
        change: Mapping[str, str | None] | None = None,
        body: bytes | None = None,
        lost: bool = False,
    ) -> Text:
        """Write a message and send it to the gate, unless `lost`.

        `call` labels a call; `to` is the number dialled; `tag` chooses one of several early dialogs by the
        callee's tag; `headers` are further lines; `change` replaces headers by name (None leaves one out).
        """
        if what[:1].isdigit():
            text = self._answer(what, call, tag, headers, change or {}, body)
        else:
            method = what.removeprefix("re-")
            within = what in INSIDE if inside is None else inside
            if what in ("ACK", "CANCEL"):
                text = self._of_invite(what, call, tag, headers, change or {})
            elif within:
                text = self._inside(method, call, tag, headers, change or {}, body)
            else:
                text = self._outside(method, call, to, uri, headers, change or {}, body)
        self.current = text.call_id
        leg = self.legs[text.call_id]
        leg.sent.append(text)
        if not lost:
            self.transmits(text.data)
        else:
            self.world.note(f"{self.name} >> {text!r} (lost)")
        return text

    def repeats(self, what: str, *, call: str = "", number: int = 1, lost: bool = False) -> Text:
        """Send the last message of that name once more, or `number` times."""
        text = next(t for t in reversed(self._leg(call).sent) if matches(t, what))
        for _ in range(number):
            if not lost:
                self.transmits(text.data)
        return text

    def transmits(self, data: bytes, flow: Flow | None = None) -> None:
        """Send these bytes as they are."""
        self.world.deliver(self, data, flow or self.flow)

    def _leg(self, call: str) -> Leg:
        return self.legs[self.world.labels.get(call, call) if call else self.current]

    def next_branch(self) -> str:
        self._number += 1
        return f"z9hG4bK-{self.name}-{self._number}"

    def _via(self) -> list[str]:
        via = f"Via: SIP/2.0/{self.transport} {self.sent_by};branch={self.next_branch()};rport"
        return [
            via,
            *(f"Via: SIP/2.0/UDP far.{self.name}.example:5060;branch=z9hG4bKfar" for _ in self.behind),
        ]

    def _outside(
        self,
        method: str,
        call: str,
        to: str,
        uri: str,
        headers: Iterable[str],
        change: Mapping[str, str | None],
        body: bytes | None,
    ) -> Text:
        world = self.world
        world.calls += 1
        call_id = change.get("call-id") or f"{call or self.name}-{world.calls}@example"
        world.labels[call or call_id] = call_id
        leg = self.legs[call_id] = Leg(call_id)
        leg.caller = True
        number = to or world.default_number(self)
        host = self.flow.host.join("[]") if ":" in self.flow.host else self.flow.host
        leg.local = f"<sip:{world.caller_number(self)}@{host}>"
        leg.remote = f"<sip:{number}@{world.gate}>"
        lines = [
            f"{method} {uri or leg.remote[1:-1]} SIP/2.0",
            *self._via(),
            *(f"Record-Route: {p}" for p in self.behind if method in ("INVITE", "SUBSCRIBE", "REFER")),
            "Max-Forwards: 70",
            f"From: {leg.local};tag={self.name}-{world.calls}",
            f"To: {leg.remote}",
            f"Call-ID: {call_id}",
            f"CSeq: 1 {method}",
        ]
        text = self._write(
            lines, method, headers, change, SDP if body is None and method == "INVITE" else body
        )
        if method == "INVITE":
            leg.invite, leg.final = text, None
        return text

    def _inside(
        self,
        method: str,
        call: str,
        tag: str,
        headers: Iterable[str],
        change: Mapping[str, str | None],
        body: bytes | None,
    ) -> Text:
        leg = self._leg(call)
        dialog = leg.dialogs[tag] if tag else leg.dialog
        assert dialog is not None, f"{self.name} has no dialog to send a {method} in"
        leg.dialog = dialog
        dialog.cseq += 1
        lines = self._in_dialog(method, dialog.cseq, leg, dialog)
        text = self._write(
            lines, method, headers, change, SDP if body is None and method == "INVITE" else body
        )
        if method == "INVITE":
            leg.invite, leg.final = text, None
        return text

    def _in_dialog(self, method: str, cseq: int, leg: Leg, dialog: Dialog) -> list[str]:
        """RFC 3261 §12.2.1.1, as it comes out of the proxies that this side stands behind."""
        routes, target = dialog.routes[:], dialog.target
        while routes and routes[0] in self.behind:
            del routes[0]
        if self.behind and ";lr" not in self.behind[0]:  # a strict router (RFC 2543)
            routes, target = [*routes[1:], f"<{target}>"], uri_of(routes[0])
        remote_tag = f";tag={dialog.remote_tag}" if dialog.remote_tag else ""
        return [
            f"{method} {target} SIP/2.0",
            *self._via(),
            *(f"Route: {route}" for route in routes),
            "Max-Forwards: 70",
            f"From: {leg.local};tag={dialog.local_tag}",
            f"To: {leg.remote}{remote_tag}",
            f"Call-ID: {leg.call_id}",
            f"CSeq: {cseq} {method}",
        ]

    def _of_invite(
        self, what: str, call: str, tag: str, headers: Iterable[str], change: Mapping[str, str | None]
    ) -> Text:
        """An ACK of a 2xx is of the dialog (§13.2.2.4), of any other final of the transaction (§17.1.1.3), as is a
        CANCEL (§9.1)."""
        leg = self._leg(call)
        invite = leg.invite
        assert invite is not None
        if what == "ACK" and leg.final is not None and leg.final.code < 300:
            dialog = leg.dialogs[tag] if tag else leg.dialog
            assert dialog is not None
            return self._write(self._in_dialog("ACK", invite.cseq, leg, dialog), "ACK", headers, change, None)
        to = leg.final.get("to") if what == "ACK" and leg.final is not None else invite.get("to")
        lines = [
            f"{what} {invite.uri} SIP/2.0",
            f"Via: {invite.via}",
            *(f"Route: {route}" for route in invite.all("route")),
            "Max-Forwards: 70",
            f"From: {invite.get('from')}",
            f"To: {to}",
            f"Call-ID: {leg.call_id}",
            f"CSeq: {invite.cseq} {what}",
        ]
        return self._write(lines, what, headers, change, None)

    def _answer(
        self,
        what: str,
        call: str,
        tag: str,
        headers: Iterable[str],
        change: Mapping[str, str | None],
        body: bytes | None,
    ) -> Text:
        """RFC 3261 §8.2.6, §12.1.1."""
        code, method = int(what[:3]), what[4:].removeprefix("re-")
        leg = self._leg(call)
        open_ones = [r for r in leg.got if id(r) not in leg.answered and r.method != "ACK"]
        request = next((r for r in reversed(open_ones) if r.method == (method or r.method)), None)
        if request is None:
            request = next(r for r in reversed(leg.got) if r.method == method)
        if code >= 200:
            leg.answered.add(id(request))
        to = request.get("to")
        makes_dialog = 100 < code < 300 and request.method in ("INVITE", "SUBSCRIBE", "REFER")
        record_routes: list[str] = []
        if not request.to_tag and code > 100:
            local_tag = tag or f"{self.name}-callee"
            to += f";tag={local_tag}"
            if makes_dialog:
                record_routes = [*reversed(self.behind), *request.all("record-route")]
                dialog = leg.dialogs.get(local_tag)
                if dialog is None:
                    dialog = leg.dialogs[local_tag] = Dialog(local_tag, request.from_tag, 0)
                    dialog.routes = record_routes
                    dialog.target = uri_of(request.get("contact"))
                leg.dialog = dialog
        elif request.to_tag and 200 <= code < 300 and request.method in ("INVITE", "UPDATE"):
            dialog = leg.dialogs.get(request.to_tag) or leg.dialogs[request.from_tag]
            dialog.target = uri_of(request.get("contact"))  # target refresh (§12.2.2)
        lines = [
            f"SIP/2.0 {code} Answer",
            *(f"Via: {via}" for via in request.all("via")),
            *(f"Record-Route: {route}" for route in record_routes),
            f"From: {request.get('from')}",
            f"To: {to}",
            f"Call-ID: {leg.call_id}",
            f"CSeq: {request.get('cseq')}",
        ]
        success = code // 100 == 2 and request.method == "INVITE"
        contact = request.method if 100 < code < 300 else ""
        return self._write(lines, contact, headers, change, SDP if body is None and success else body)

    def _write(
        self,
        lines: list[str],
        method: str,
        headers: Iterable[str],
        change: Mapping[str, str | None],
        body: bytes | None,
    ) -> Text:
        if method in WITH_CONTACT:
            lines.append(f"Contact: {self.contact}")
        lines += headers
        if body:
            lines.append("Content-Type: application/sdp")
        lines.append(f"Content-Length: {len(body or b'')}")
        written = [lines[0]]
        for line in lines[1:]:
            name, _, _ = line.partition(":")
            if name.lower() in change:
                value = change[name.lower()]
                if value is None:
                    continue
                line = f"{name}: {value}"
            written.append(line)
        return Text("\r\n".join([*written, "", ""]).encode("latin-1") + (body or b""))

    # -- reading -----------------------------------------------------------------------------------------------

    def gets(self, what: str, *, call: str = "", times: int = 1) -> Text:
        """The next message that arrived here, and it is this one; with `times`, so many copies of it. Where
        nothing is here yet, the store gets its time to answer."""
        world = self.world
        wanted = world.labels.get(call, call)
        text: Text | None = None
        for _ in range(times):
            if not self._unread(wanted):
                world.settle()
            unread = self._unread(wanted)
            assert unread, f"{self.name} waits for {what}, nothing came\n{world.ladder()}"
            _, found = unread[0]
            assert matches(found, what), f"{self.name} waits for {what}, got {found!r}\n{world.ladder()}"
            assert text is None or text.data == found.data, "that is no copy"
            self.inbox.remove(unread[0])
            text = found
            self.read(found)
        assert text is not None
        return text

    def takes_refusals(self) -> list[Text]:
        """Reads all there is, acknowledges every final answer of 300 and more to an INVITE; those answers."""
        texts = [text for _, text in self.inbox]
        self.inbox.clear()
        refusals = [text for text in texts if text.code >= 300 and text.method == "INVITE"]
        for text in texts:
            self.read(text)
            if text in refusals:
                self.sends("ACK")
        return refusals

    def gets_nothing(self) -> None:
        self.world.settle()
        assert not self.inbox, f"{self.name} got {self.inbox[0][1]!r}\n{self.world.ladder()}"

    def _unread(self, call_id: str) -> list[tuple[float, Text]]:
        return [entry for entry in self.inbox if not call_id or entry[1].call_id == call_id]

    def read(self, text: Text) -> None:
        """Take note of a message that arrived."""
        self.current = text.call_id
        leg = self.legs.get(text.call_id)
        if text.code:
            assert leg is not None, f"{self.name} got an answer to nothing it sent: {text!r}"
            self._learn_answer(leg, text)
            return
        if leg is None:
            leg = self.legs[text.call_id] = Leg(text.call_id)
            leg.local, leg.remote = text.get("to").partition(";tag")[0], text.get("from").partition(";tag")[0]
        if all(known.data != text.data for known in leg.got):
            leg.got.append(text)
        if text.to_tag and text.method not in ("ACK", "CANCEL"):
            dialog = leg.dialogs.get(text.to_tag) or leg.dialogs.get(text.from_tag)
            assert dialog is not None, f"{self.name} knows no such dialog: {text!r}"
            leg.dialog = dialog

    def _learn_answer(self, leg: Leg, text: Text) -> None:
        invite = leg.invite
        if text.method == "INVITE" and text.code >= 200 and invite is not None and text.cseq == invite.cseq:
            leg.final = text
        if not 100 < text.code < 300 or not text.to_tag:
            return
        if text.method == "INVITE" and invite is not None and not invite.to_tag and text.cseq == invite.cseq:
            dialog = leg.dialogs.get(text.to_tag)
            if dialog is None:
                dialog = leg.dialogs[text.to_tag] = Dialog(invite.from_tag, text.to_tag, invite.cseq)
            dialog.routes = list(reversed(text.all("record-route")))
            dialog.target = uri_of(text.get("contact")) or dialog.target
            leg.dialog = dialog
        elif text.method == "SUBSCRIBE" and text.to_tag not in leg.dialogs:
            dialog = leg.dialogs[text.to_tag] = Dialog(text.from_tag, text.to_tag, text.cseq)
            dialog.routes = list(reversed(text.all("record-route")))
            dialog.target = uri_of(text.get("contact"))
            leg.dialog = dialog
        elif text.method in ("INVITE", "UPDATE") and text.code >= 200 and text.has("contact"):
            dialog = leg.dialogs.get(text.to_tag) or leg.dialogs[text.from_tag]
            dialog.target = uri_of(text.get("contact"))


def matches(text: Text, what: str) -> bool:
    """`INVITE` opens a call, `re-INVITE` stands inside one; `200 BYE` names the request that was answered."""
    if what[:1].isdigit():
        return text.code == int(what[:3]) and text.method == (what[4:].removeprefix("re-") or text.method)
    if what.endswith("INVITE"):
        return not text.code and text.method == "INVITE" and bool(text.to_tag) == what.startswith("re-")
    return not text.code and text.method == what
