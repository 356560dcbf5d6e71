"""Who calls: the strongest identity that a request shows decides (RFC 3261 §22, §26).

    digest user  >  name in a client certificate  >  secret header  >  source address

A wrong one never falls through to what is weaker. What a key requires besides has to be shown for that key, all of
it. Whoever stays unknown is challenged where there are digest users (407, a REGISTER 401), else refused with 403.
Nothing is kept of a request that was not let in: a challenge is answered without a transaction (§26.3.2.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING

from callgate.numbers import EMERGENCY, read_uri
from callgate.proxy.access import AUTHORIZATION, PROXY_AUTHORIZATION, Access, User
from callgate.proxy.answer import reply
from callgate.proxy.commands import Alert, Send
from callgate.proxy.directory import chosen
from callgate.proxy.flow import Flow
from callgate.proxy.forward import SCHEMES, checked, reply_flow
from callgate.proxy.nonce import Nonces
from callgate.proxy.peers import Key, Peer
from callgate.proxy.strangers import Allowance, Strangers
from callgate.proxy.throttle import Place, Proven, Throttle
from callgate.sip.digest import MD5, Credentials, challenge_value, parse_credentials, verify
from callgate.sip.errors import Malformed
from callgate.sip.message import Message, header_value
from callgate.sip.uri import parse_uri

if TYPE_CHECKING:
    from callgate.proxy.core import Core

CHALLENGES = 50
"""Challenges to one source in a second: more than a PBX needs whose every call is challenged."""


class Digest(Enum):
    """What a request's credentials for our realm are worth; the value is the reason in the metrics."""

    ABSENT = "no credentials"
    GOOD = ""
    STALE = "stale credentials"  # their nonce is not, or no longer, one that we gave to this address
    WRONG = "wrong credentials"
    SHUT_OUT = "throttled source"


class Auth:
    """Lets in whoever shows who it is."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._throttle = Throttle()
        self._proven = Proven()
        self._blocking = False  # the alert stands, and a timer waits for the end of the last block
        self._challenges = Allowance(CHALLENGES)
        self._emergencies = Strangers()
        self._nonces: tuple[bytes, Nonces] | None = None  # with the secret that they are made with

    def admit(self, request: Message, flow: Flow, peer: Peer, now: float) -> Peer | None:
        """Who sends a request that has to show an identity of its own; None when it has been answered, or is left
        without an answer. `peer` is what the flow shows. Not for ACK and CANCEL, which are never challenged
        (§22.1)."""
        access = self.core.directory.access
        if access is None or peer.exact:
            if peer.known:
                return peer
            self.core.dispatch.refuse_stranger(request, flow, now)
            return None
        shown = access.shown(request)
        if not shown and peer.known:
            return peer
        digest, user = self._digest(access, request, shown, flow, now)
        headed = access.keys_of(request, shown)
        keys: tuple[Key, ...]
        if user is not None:
            keys = (user.key,)
        else:
            keys = peer.named or headed or (() if access.holds_header(shown) else peer.owners)
        if digest in (Digest.ABSENT, Digest.GOOD):

            def shows(key: Key, what: str) -> bool:
                match what:
                    case "digest":
                        return user is not None
                    case "tls":
                        return key in peer.named
                    case "header":
                        return key in headed
                return key.holds(flow.host)

            key = chosen(keys, shows)
            if key is not None:
                if user is not None:
                    self._proven.right(_place(flow), user.name.encode(), now)
                    self._throttle.right(flow.host, user.name.encode())
                return Peer(key, owners=peer.owners, named=peer.named, user=user.name if user else "")
            if peer.trunk is not None and user is None:
                return peer
        keys = keys or peer.owners
        if keys and request.method == b"INVITE" and keys[0].dial.judge(read_uri(request.uri)).emergency:
            # Never challenged into failure: of an emergency call the least identity will do.
            return Peer(keys[0], owners=peer.owners, named=peer.named)
        if user is not None:
            # The password is right, and what is required besides is not there. The answer is that to a wrong
            # password, or it would tell whoever guesses that he has guessed it.
            text = "a right password without what the key requires besides"
            self._failed(access, request, flow, now, user.name.encode(), user, text)
            digest = Digest.WRONG
        self._refuse(access, request, digest, flow, now)
        return None

    # -- digest ------------------------------------------------------------------------------------------

    def _digest(
        self, access: Access, request: Message, shown: Mapping[bytes, list[int]], flow: Flow, now: float
    ) -> tuple[Digest, User | None]:
        """What the credentials for our realm are worth, and whose they are when they are good."""
        order = (PROXY_AUTHORIZATION, AUTHORIZATION)
        first, other = reversed(order) if request.method == b"REGISTER" else order
        places = shown.get(first) or shown.get(other)
        if not places:
            return Digest.ABSENT, None
        place, shut_out = _place(flow), self._throttle.shut_out(flow.host, now)
        tries = shut_out and self._may_try(request, flow.host, now)
        if shut_out and not tries and not self._proven.knows_anybody(place, now):
            return Digest.SHUT_OUT, None
        try:
            credentials = parse_credentials(header_value(request.lines[places[0]]))
        except Malformed:
            credentials = None
        if credentials is None or len(places) > 1:
            return Digest.WRONG, None  # no guess at all: it counts for nothing
        if not credentials.nonce and not credentials.response:
            return (
                Digest.ABSENT,
                None,
            )  # so a phone may name its user before it is asked (3GPP TS 24.229 §5.1.1.2)
        wall = now + self.core.utc_offset
        if not self._signer(access).good(credentials.nonce, flow.host, wall, access.nonce_seconds):
            # Not looked at, so that it tells nothing and counts for nothing: anybody can send this from anywhere.
            return Digest.STALE, None
        name = credentials.username
        if not (tries or self._proven.knows(place, name, now)) and (
            shut_out or not self._throttle.looks_at(flow.host, name, now, access.failures, access.per_seconds)
        ):
            return Digest.SHUT_OUT, None
        user = access.users.get(name)
        if not _right(access, credentials, user, request):
            why = "a wrong password, or an unknown user"
            self._failed(access, request, flow, now, name, user, why, credentials.response)
            return Digest.WRONG, None
        flow.known = True
        return Digest.GOOD, user

    def _may_try(self, request: Message, source: str, now: float) -> bool:
        """An emergency call may try its password in spite of the throttle, once a second: no faster than that."""
        return (
            request.method == b"INVITE"
            and read_uri(request.uri).cls in EMERGENCY
            and self._emergencies.may_answer(source, now)
        )

    def _failed(
        self,
        access: Access,
        request: Message,
        flow: Flow,
        now: float,
        name: bytes,
        user: User | None,
        why: str,
        response: bytes = b"",
    ) -> None:
        core, source = self.core, flow.host
        details = {"source": source} | ({"user": user.name} if user is not None else {})
        core.alert(Alert("auth", "info", "", f"{why}: not let in", details=details), now)
        self._proven.wrong(_place(flow), name)
        times = (access.failures, access.per_seconds, access.block_seconds)
        if self._throttle.failed(source, now, *times, name, hash((request.via.branch, response))):
            text = f"{access.failures} wrong passwords from one address: it gets 403 for {access.block_seconds:g} s"
            core.alerts.stands(self._alert(text, source), each=True)
            if not self._blocking:
                self._blocking = True
                core.wheel.at(now + access.block_seconds, self._unblock)

    def _unblock(self, now: float) -> None:
        """The alert is over when nobody is shut out any more."""
        until = self._throttle.blocked_until(now)
        if until:
            self.core.wheel.at(until, self._unblock)
        else:
            self._blocking = False
            self.core.alerts.over(self._alert("", ""))

    def _alert(self, text: str, source: str) -> Alert:
        return Alert("auth-throttle", "warning", "", text, details={"source": source})

    def _signer(self, access: Access) -> Nonces:
        secret = access.secret or self.core.signer.nonce_secret
        if self._nonces is None or self._nonces[0] != secret:
            self._nonces = (secret, Nonces(secret))
        return self._nonces[1]

    # -- answers -----------------------------------------------------------------------------------------

    def _refuse(self, access: Access, request: Message, digest: Digest, flow: Flow, now: float) -> None:
        core = self.core
        shut_out = self._throttle.shut_out(flow.host, now)
        if shut_out and digest is not Digest.WRONG and self._proven.knows_anybody(_place(flow), now):
            shut_out = False  # he is asked once more
        if shut_out or digest is Digest.SHUT_OUT:
            core.counts.rejected(Digest.SHUT_OUT.value)
            core.dispatch.answer_stranger(request, 403, flow, now)
        elif not access.users:
            core.dispatch.refuse_stranger(request, flow, now)
        else:
            core.counts.rejected(digest.value)
            self._challenge(access, request, flow, now, stale=digest is Digest.STALE)

    def _challenge(self, access: Access, request: Message, flow: Flow, now: float, *, stale: bool) -> None:
        """407, or 401 to a REGISTER; what is wrong with the request itself comes first (§16.3 step 6). One challenge
        for each algorithm, the strongest on top (RFC 8760 §2.3); never Basic."""
        core = self.core
        if not self._challenges.may_answer(flow.host, now):
            return
        _, code, extra = checked(request)
        if code != 400 and request.uri.partition(b":")[0].lower() not in SCHEMES:
            code, extra = 416, []
        if not code:
            register = request.method == b"REGISTER"
            code, name = (401, b"WWW-Authenticate") if register else (407, b"Proxy-Authenticate")
            nonce = self._signer(access).make(flow.host, now + core.utc_offset)
            extra = [
                b"%b: %b" % (name, challenge_value(access.realm, nonce, algorithm, stale=stale))
                for algorithm in access.algorithms
            ]
            core.challenges.asked_again(request)
        core.counts.sent(request.method, code)
        data = reply(request, code, core.answer_tag(request), extra)
        core.out.append(Send(reply_flow(request, flow), data))


def _place(flow: Flow) -> Place:
    return flow.host, flow.port, flow.connection


def _right(access: Access, credentials: Credentials, user: User | None, request: Message) -> bool:
    """Whether a user's password made these credentials, for this request. As quick for whoever is not known."""
    algorithm = credentials.hash
    if algorithm not in access.algorithms or credentials.sess or credentials.userhash:
        return False  # nothing that we offered
    if not credentials.qop and algorithm is not MD5:
        return False  # only clients older than `qop` leave it out, and those know nothing but MD5 (RFC 2069)
    ha1 = (user.ha1 if user is not None else access.nobody)[algorithm.name]
    right = verify(credentials, ha1, request.method)
    return right and user is not None and _same_number(credentials.uri, request.uri)


def _same_number(one: bytes, other: bytes) -> bool:
    """Whether credentials with the uri `one` are for the Request-URI `other`. Clients and proxies write the host in
    many ways; but a number that stands there must be the one that is dialled, so that nobody sends credentials that
    he has captured along with a number of his own. Some clients name only the server."""
    if one == other:
        return True
    try:
        return parse_uri(one).user in (b"", parse_uri(other).user)
    except Malformed:
        return False
