"""The gate answers a trunk's 401 and 407 with its own credentials (RFC 3261 §22.2, §22.3).

Credentials leave only in answer to a challenge that came back for a request which the gate sent to a configured
gateway, in a new request to that same gateway; what a Contact or a 3xx names never gets any.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from secrets import token_hex

from callgate.proxy.calls.cseq import Shift
from callgate.proxy.commands import Alert
from callgate.proxy.forward import Routes
from callgate.sip.digest import Challenge, authorization, challenges_of, choose, realms_of
from callgate.sip.message import CSEQ, Message, header_value

TRIES = 6
"""Answers to challenges of one request, so that no carrier can keep the gate busy with it: a realm or two, a stale
nonce each."""
REALMS = 4
"""Of one challenge that are answered."""
CHALLENGED = frozenset((401, 407))
WARNING = b'Warning: 399 callgate "the trunk refuses the credentials of the gate"'

USED_UP = b'Warning: 399 callgate "no CSeq number is left"'

Name = tuple[bytes, bool]
"""Of a challenge: its realm, and whether a proxy asks."""


class Account:
    """Who the gate is to a trunk. `realm` None: any realm that the trunk asks for."""

    __slots__ = ("_password", "realm", "username")

    def __init__(self, username: str, password: str, realm: str | None = None) -> None:
        self.username = username.encode()
        self._password = password.encode()
        self.realm = None if realm is None else realm.encode()

    def __repr__(self) -> str:
        return f"Account({self.username!r})"

    def same_as(self, other: Account | None) -> bool:
        mine = (self.username, self._password, self.realm)
        return other is not None and mine == (other.username, other._password, other.realm)

    def answer(self, challenge: Challenge, method: bytes, uri: bytes, nc: int) -> bytes:
        """The header line for a challenge; `nc` counts the uses of its nonce."""
        cnonce = token_hex(8).encode()
        return authorization(challenge, self.username, self._password, method, uri, cnonce=cnonce, nc=nc)


class _Answered:
    """A challenge that was answered: how often, and whether its realm has had a new nonce for a stale one."""

    __slots__ = ("challenge", "renewed", "used")

    def __init__(self, challenge: Challenge, renewed: bool) -> None:
        self.challenge = challenge
        self.renewed = renewed
        self.used = 0


class Login:
    """The answers to the challenges of one request. `lines` are those that it carries by now; `refused`: the
    credentials are wrong, or the challenges have no end."""

    __slots__ = ("_account", "_answered", "_tries", "lines", "refused")

    def __init__(self, account: Account) -> None:
        self._account = account
        self._answered: dict[Name, _Answered] = {}
        self._tries = 0
        self.lines: list[bytes] = []
        self.refused = False

    def answers(self, method: bytes, uri: bytes, response: Message, theirs: Collection[Name] = ()) -> bool:
        """Whether the gate answers this challenge: then `lines` are what the next copy carries. Not one that can't be
        computed, of another realm than ours, or of one that the PBX has answered itself (`theirs`)."""
        wanted = self._wanted(response, theirs)
        if not wanted or self.refused:
            return False
        self._tries += 1
        for name, challenge in wanted.items():
            known = self._answered.get(name)
            if known is not None and (known.renewed or not challenge.stale):
                self.refused = True
        if self.refused or self._tries > TRIES:
            self.refused = True
            return False
        for name, challenge in wanted.items():
            self._answered[name] = _Answered(challenge, name in self._answered)
        self.lines = []
        for answered in self._answered.values():
            answered.used += 1
            self.lines.append(self._account.answer(answered.challenge, method, uri, answered.used))
        return True

    def _wanted(self, response: Message, theirs: Collection[Name]) -> dict[Name, Challenge]:
        """The best challenge of each realm that is for us."""
        found = challenges_of(response)
        realm = self._account.realm
        wanted: dict[Name, Challenge] = {}
        for name in dict.fromkeys((c.realm, c.proxy) for c in found):
            if (realm is None or name[0] == realm) and name not in theirs and len(wanted) < REALMS:
                challenge = choose([c for c in found if (c.realm, c.proxy) == name])
                if challenge is not None:
                    wanted[name] = challenge
        return wanted


def _realms(request: Message, routes: Routes) -> set[Name]:
    """The realms for which a PBX's request carries credentials to the trunk."""
    found = set()
    for header, proxy in ((b"authorization", False), (b"proxy-authorization", True)):
        for i in request.find(header):
            line = routes.edits.get(i, request.lines[i])
            found |= {(realm, proxy) for realm in realms_of(header_value(line or b""))}
    return found


class Passage:
    """A PBX's request on its way to a trunk whose challenges the gate answers. `raised` is the CSeq number that it
    leaves with, 0 where there is none left. `invited`: the numbers of the INVITE that opened its dialog, the PBX's own
    and the one that this callee has answered; (0, 0) where they are not known."""

    __slots__ = ("_invited", "_login", "_request", "_routes", "_shift", "raised")

    def __init__(
        self,
        account: Account,
        shift: Shift,
        request: Message,
        routes: Routes,
        invited: tuple[int, int] = (0, 0),
        *,
        raised: int = 0,
    ) -> None:
        """`raised`: it has left with that number, before a restart."""
        self._invited = invited
        self._login = Login(account)
        self._shift = shift
        self._request = request
        self._routes = routes
        self.raised = raised or shift.leave(request.cseq_number)
        if not raised:
            self._note()

    def _note(self) -> None:
        request = self._request
        if request.method == b"INVITE":
            self._shift.note(request.cseq_number, self.raised, self._login.lines)

    @property
    def refused(self) -> bool:
        """The trunk does not take the credentials: its challenge goes no further."""
        return self._login.refused

    def answers(self, uri: bytes, response: Message) -> bool:
        """Whether the gate answers this challenge to the request as it was sent to `uri`: then it goes once more."""
        request = self._request
        if not self._login.answers(request.method, uri, response, _realms(request, self._routes)):
            return False
        raised = self._shift.again(request.cseq_number)
        if raised:
            self.raised = raised
            self._note()
        return bool(raised)

    def routes(self) -> Routes:
        """The edits that it came with, and those that make the numbers the trunk's and put in the credentials."""
        request, routes, shift = self._request, self._routes, self._shift
        if request.method == b"PRACK":
            routes = _raise_rack(request, routes, shift, self._invited)
        if self.raised == request.cseq_number and not self._login.lines:
            return routes
        return _edited(routes, request.at[CSEQ], _cseq(self.raised, request.method, self._login.lines))

    @property
    def number(self) -> int:
        """What the PBX numbers it."""
        return self._request.cseq_number

    @property
    def cseq(self) -> bytes:
        """The CSeq line that its responses get on their way back."""
        return self._request.lines[self._request.at[CSEQ]]


def raise_ack(request: Message, routes: Routes, shift: Shift, raised: int, *, shown: bool) -> Routes:
    """The edits of an ACK to a 2xx: the number and (`shown`) the credentials of its INVITE (RFC 3261 §13.2.2.4,
    §22.1)."""
    raised, credentials = shift.of_invite(request.cseq_number, raised)
    if not shown:
        credentials = ()
    if raised == request.cseq_number and not credentials:
        return routes
    return _edited(routes, request.at[CSEQ], _cseq(raised, b"ACK", credentials))


def _raise_rack(request: Message, routes: Routes, shift: Shift, invited: tuple[int, int]) -> Routes:
    """RFC 3262 §7.2: RAck names the INVITE by its number. Of the one that opened the dialog several copies may have
    left, and the callee knows the one that it has answered. A RAck that can't be read stays as it is."""
    for i in request.find(b"rack"):
        parts = header_value(request.lines[i]).split()
        if len(parts) == 3 and parts[1].isdigit() and len(parts[1]) <= 10 and parts[2] == b"INVITE":
            number = int(parts[1])
            raised, _ = shift.of_invite(number, invited[1] if number == invited[0] else 0)
            routes = _edited(routes, i, b"RAck: %b %d INVITE" % (parts[0], raised))
    return routes


def _cseq(number: int, method: bytes, credentials: Iterable[bytes]) -> bytes:
    return b"\r\n".join([b"CSeq: %d %b" % (number, method), *credentials])


def _edited(routes: Routes, place: int, line: bytes) -> Routes:
    """The same edits and one more."""
    edited = Routes()
    edited.edits = {**routes.edits, place: line}
    return edited


def refusal(trunk: str, code: int) -> Alert:
    """The alert that a trunk does not take its credentials."""
    text = f"trunk {trunk} answers the gate's credentials with {code}"
    return Alert("trunk-credentials", "critical", "", text, trunk=trunk)
