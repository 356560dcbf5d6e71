"""One forward that the gate makes: a call in (`near`) and the call out that carries it on (`far`).

Whatever one side says inside its dialog the other hears inside its own: INVITE, UPDATE, PRACK, INFO, REFER, their
answers, and the ACK. Both dialogs count their requests alike, since every request of one is a request of the other: so
CSeq and RAck pass as they are. Timers there are none: copies come from the ends and go to the ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.bridge.compose import answer_to, conversation, record_routes, written
from callgate.proxy.calls.dialog import FORKS
from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr, split_list
from callgate.sip.message import CONTACT, CSEQ, FROM, RECORD_ROUTE, TO, Message
from callgate.sip.uri import parse_uri

if TYPE_CHECKING:
    from callgate.proxy.calls.call import Call

OPEN_MOST = 32
"""Requests of one forward that may wait for an answer at once; the oldest is given up for another."""


class End:
    """The endpoint's side of one dialog (RFC 3261 §12). `local` and `remote` are values of From and To with their
    tags, `routes` the route set, `target` the remote target."""

    __slots__ = ("call_id", "local", "remote", "routes", "tag", "target")

    def __init__(self, call_id: bytes, local: bytes, remote: bytes, tag: bytes) -> None:
        self.call_id = call_id
        self.local = local
        self.remote = remote
        self.tag = tag  # the other side's
        self.routes: list[bytes] = []
        self.target = b""

    def learn_target(self, message: Message) -> None:
        """The Contact of what sets or refreshes the remote target (RFC 3261 §12.2)."""
        if CONTACT not in message.at:
            return
        try:
            uri = parse_name_addr(split_list(message.value(CONTACT))[0]).uri
            parse_uri(uri)
        except (Malformed, IndexError):
            return
        self.target = uri

    def request(
        self, method: bytes, via: bytes, cseq: bytes, hops: int, lines: list[bytes], body: bytes
    ) -> bytes:
        """A request in this dialog (RFC 3261 §12.2.1.1). The gate's own Record-Route is the first of its routes, so
        none of them is strict."""
        head = [
            via,
            *(b"Route: " + route for route in self.routes),
            b"From: " + self.local,
            b"To: " + self.remote,
            b"Call-ID: " + self.call_id,
            cseq,
            b"Max-Forwards: %d" % hops,
            *lines,
        ]
        return written(b"%b %b SIP/2.0" % (method, self.target), head, body)


class Pair:
    """Two dialogs that are one: of the caller, and of one callee (a call out may be forked). `answered`: there has been
    its 2xx."""

    __slots__ = ("answered", "far", "near")

    def __init__(self, near: End, far: End, *, answered: bool = False) -> None:
        self.near = near
        self.far = far
        self.answered = answered


class Waiting:
    """A request that was passed on, until its answer: `request` as it came, `pair` and `to_far` where it went."""

    __slots__ = ("pair", "request", "to_far")

    def __init__(self, request: Message, pair: Pair, to_far: bool) -> None:
        self.request = request
        self.pair = pair
        self.to_far = to_far


class Forward:
    """`near` is the call in, `far` the call out once the proxy has it: a Call-ID may be that of other calls too.
    `invite` is the INVITE of the call in as the endpoint got it; `far_invite` the one that it sent, while that has no
    final answer; `contact` is the endpoint's own. `answered`: there has been a 2xx; `over`: nothing more passes."""

    __slots__ = (
        "answered",
        "contact",
        "far",
        "far_call_id",
        "far_invite",
        "invite",
        "near",
        "near_call_id",
        "over",
        "pairs",
        "waiting",
    )

    def __init__(self, near: Call, invite: Message, far_call_id: bytes, contact: bytes) -> None:
        self.near = near
        self.far: Call | None = None
        self.invite = invite
        self.near_call_id = invite.call_id
        self.far_call_id = far_call_id
        self.far_invite: Message | None = None
        self.contact = contact
        self.pairs: list[Pair] = []
        self.waiting: dict[bytes, Waiting] = {}
        self.answered = False
        self.over = False

    # -- the INVITE's answers ----------------------------------------------------------------------------

    def provisional_or_success(self, response: Message, own_tag: bytes) -> bytes:
        """What the caller hears of a 101–299 to the INVITE. `own_tag`: the endpoint's tag for a callee that has not
        been heard before."""
        pair = next((p for p in self.pairs if p.far.tag == response.to_tag), None)
        if pair is None and response.to_tag:
            pair = self._meet(response, own_tag)
        if pair is not None:
            pair.far.learn_target(response)
        to_tag = _own_tag(pair.near) if pair is not None else b""
        if response.code >= 200:
            self.answered = True
            if pair is not None:
                pair.answered = True
        lines = answer_to(self.invite, response.code, _phrase(response), to_tag)
        lines += record_routes(self.invite)
        lines.append(b"Contact: " + self.contact)
        return written(lines[0], [*lines[1:], *conversation(response)], response.body)

    def _meet(self, response: Message, own_tag: bytes) -> Pair:
        """A callee that has not been heard before. No more of them are remembered than of any call (`dialog.hear`):
        whoever has answered stays."""
        invite, far_invite = self.invite, self.far_invite
        assert far_invite is not None
        near = End(invite.call_id, invite.value(TO) + b";tag=" + own_tag, invite.value(FROM), invite.from_tag)
        near.routes = invite.values(RECORD_ROUTE)
        near.learn_target(invite)
        far = End(self.far_call_id, far_invite.value(FROM), response.value(TO), response.to_tag)
        far.routes = list(reversed(response.values(RECORD_ROUTE)))
        pair = Pair(near, far)
        if len(self.pairs) >= FORKS:
            answered = [other for other in self.pairs if other.answered]
            self.pairs = answered[-FORKS:] if answered else self.pairs[1:]
        self.pairs.append(pair)
        return pair

    def failure(self, code: int, phrase: bytes, own_tag: bytes, response: Message | None = None) -> bytes:
        """What the caller hears when the INVITE has failed."""
        lines = answer_to(self.invite, code, phrase, own_tag)
        passed = conversation(response, _NOT_OF_A_FAILURE) if response is not None else []
        return written(lines[0], [*lines[1:], *passed], response.body if response is not None else b"")

    # -- inside the dialogs --------------------------------------------------------------------------------

    def pair_of(self, request: Message) -> tuple[Pair, bool] | None:
        """The dialogs that a request inside one of them belongs to, and whether it goes on to the far one."""
        near = request.call_id == self.near_call_id
        for pair in self.pairs:
            end = pair.near if near else pair.far
            if request.from_tag == end.tag and request.to_tag == _own_tag(end):
                return pair, near
        return None

    def passed_on(
        self, request: Message, pair: Pair, to_far: bool, branch: bytes, via: bytes, hops: int
    ) -> bytes:
        """The request as it goes on in the other dialog. All but an ACK wait for their answer."""
        if request.method != b"ACK":
            if len(self.waiting) >= OPEN_MOST:
                del self.waiting[next(iter(self.waiting))]
            self.waiting[branch] = Waiting(request, pair, to_far)
        lines = conversation(request)
        if CONTACT in request.at:
            lines.insert(0, b"Contact: " + self.contact)
        end = pair.far if to_far else pair.near
        return end.request(request.method, via, request.lines[request.at[CSEQ]], hops, lines, request.body)

    def answer(self, waiting: Waiting, response: Message) -> bytes:
        """The answer to a request that was passed on, in the dialog that it came from."""
        request, pair = waiting.request, waiting.pair
        if request.method in _REFRESHES and 200 <= response.code < 300:
            asked, heard = (pair.near, pair.far) if waiting.to_far else (pair.far, pair.near)
            asked.learn_target(request)
            heard.learn_target(response)
        lines = answer_to(request, response.code, _phrase(response))
        if CONTACT in response.at:
            lines.append(b"Contact: " + self.contact)
        return written(lines[0], [*lines[1:], *conversation(response)], response.body)


_REFRESHES = frozenset((b"INVITE", b"UPDATE"))
_NOT_OF_A_FAILURE = frozenset(
    b"via route record-route contact call-id from to cseq max-forwards content-length warning x-callgate-verdict "
    b"www-authenticate proxy-authenticate retry-after".split()
)


def _own_tag(end: End) -> bytes:
    return end.local.rpartition(b";tag=")[2]


def _phrase(response: Message) -> bytes:
    return response.lines[0].partition(b" ")[2].partition(b" ")[2] or b"Answer"
