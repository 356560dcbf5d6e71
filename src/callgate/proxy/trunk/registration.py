"""The gate registers at a trunk that wants it (RFC 3261 §10.2): one binding, renewed in time, taken back at the end.

A trunk's targets are tried in their order, from the one that took the last registration. Where all fail, the pauses
grow as in RFC 5626 §4.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import random
from secrets import token_hex
from typing import TYPE_CHECKING, NamedTuple

from callgate.proxy.commands import Alert
from callgate.proxy.flow import UNKNOWN, Flow, Trouble
from callgate.proxy.transactions import AnyClient
from callgate.proxy.trunk.health import retry_after
from callgate.proxy.trunk.login import CHALLENGED, Login
from callgate.sip.errors import Malformed
from callgate.sip.fields import parse_name_addr
from callgate.sip.message import CONTACT, Message, header_value, wire
from callgate.sip.transaction import NEVER
from callgate.sip.uri import parse_uri

if TYPE_CHECKING:
    from callgate.proxy.core import Core
    from callgate.proxy.peers import Trunk

EARLY, SPREAD = 0.7, 0.1
"""A binding is renewed when this part of its time has passed, and a random part of SPREAD besides."""
SOONEST = 5.0
"""Seconds between two registrations, however short the binding."""
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 1800.0
"""Seconds until the next try after one failure, and after many; each half of it or more."""
UNKNOWN_PAUSE = 1.0
"""Seconds until it looks again for an address of the trunk."""
LONGEST = 7 * 86400
"""Seconds of the longest binding that the gate asks for when a registrar wants long ones (423)."""
SERVICE_ROUTES = 1024
"""Octets of a Service-Route that are taken over."""
ELSEWHERE = frozenset((408, 500, 502, 503, 504))
"""Answers after which another gateway may do better."""
PATH = "see whether its gateways can be reached from here: firewall, port, transport"
THEIRS = "the carrier's registrar has trouble; it is tried again, and if that lasts, ask the carrier"
ADVICE: Mapping[int, str] = {
    400: "the carrier can't read the request: compare `{register}.aor` with what the carrier gave you",
    401: "the carrier wants a user and a password: set `{trunk}.credentials`",
    403: "the carrier refuses: ask it whether the account is active, and whether it may register from this address",
    404: "the carrier does not know that user: correct `{register}.aor`",
    405: "the trunk takes no registrations: is it to be used without `{register}`?",
    407: "the carrier wants a user and a password: set `{trunk}.credentials`",
    408: PATH,
    416: "the carrier does not take that kind of URI: correct `{register}.aor`",
    423: "the carrier wants longer registrations, and names no time that can be had: raise `{register}.expires`",
    501: "the trunk takes no registrations: is it to be used without `{register}`?",
    604: "the carrier does not know that user: correct `{register}.aor`",
}
"""Answer → what to do. `{trunk}` and `{register}` are places in the config."""


class Wanted(NamedTuple):
    """What a trunk wants: the address of record (a SIP URI with a user), and for how many seconds."""

    aor: bytes
    expires: int = 3600


class Registration:
    """Of one trunk. Waits in the wheel and is the user of its REGISTERs. `jitter` gives random numbers from 0 to 1."""

    def __init__(
        self, core: Core, trunk: Trunk, wanted: Wanted, jitter: Callable[[], float] = random
    ) -> None:
        uri = parse_uri(wanted.aor)
        self.core = core
        self.trunk = trunk
        self.jitter = jitter
        self.due = NEVER
        self.slot = 0
        self._wanted = wanted
        self._uri = b"%b:%b%b" % (uri.scheme, uri.host, b":%d" % uri.port if uri.port else b"")
        self._user = uri.user
        self._call_id = token_hex(16).encode()
        self._tag = token_hex(8).encode()
        self._cseq = 0
        self._flow: Flow | None = None  # that took the last registration
        self._left: list[Flow] = []  # still to be tried in this turn, the present one first
        self._login: Login | None = None
        self._client: AnyClient | None = None
        self._expires = wanted.expires
        self._lengthened = False
        self._until = 0.0  # end of the binding
        self._again = NEVER  # when to register next
        self._failures = 0
        self._stopping = False

    @property
    def registered(self) -> bool:
        return self._until > 0.0

    @property
    def busy(self) -> bool:
        """Whether a REGISTER waits for its answer."""
        return self._client is not None

    def start(self, now: float) -> None:
        """Register now."""
        self._turn(now)

    def is_of(self, wanted: Wanted) -> bool:
        """Whether this is the registration of that address of record."""
        return self._wanted.aor == wanted.aor

    def go_on(self, trunk: Trunk, wanted: Wanted, now: float) -> None:
        """The trunk's section has changed. Where that concerns the registration it is made anew, at once."""
        before = self.trunk
        if trunk is before:
            return
        flows = [[t.flow for g in one.gateways for t in g.site.targets] for one in (before, trunk)]
        account = trunk.account is before.account or (
            trunk.account is not None and trunk.account.same_as(before.account)
        )
        same = wanted == self._wanted and account and flows[0] == flows[1]
        self.trunk, self._wanted = trunk, wanted
        if same:
            return
        self._expires = wanted.expires
        self._failures = 0
        self._again = now  # one that is under way has its answer first
        self._wait()

    def stop(self, now: float) -> None:
        """Take the binding back; no more after that. An earlier REGISTER still under way is overtaken: its CSeq is
        lower (RFC 3261 §10.3 step 7)."""
        self._stopping = True
        self._again = self.due = NEVER
        if self._client is not None or self._flow is None:
            del self._left[1:]
        else:
            self._left = [self._flow]
        if self._left and (self.registered or self._client is not None):
            self._login = None
            self._send(now)

    def expire(self, now: float) -> None:
        if self.registered and self._until <= now:
            self._lost()
            self._failures = min(self._failures, 1)  # those were to save it
        if self._again <= now and self._client is None:
            self._turn(now)
        self._wait()

    # -- one turn: every target once ------------------------------------------------------------------------

    def _turn(self, now: float) -> None:
        targets = [target for gateway in self.trunk.gateways for target in gateway.site.targets]
        at = next((i for i, t in enumerate(targets) if t.flow == self._flow), 0)
        targets = targets[at:] + targets[:at]
        targets.sort(key=lambda t: t.health is not None and not t.health.up)
        flows = self._left = [target.flow for target in targets]
        self._login = None
        self._lengthened = False
        self._again = NEVER
        if flows:
            self._send(now)
        else:  # a name that is not looked up yet
            self._again = now + UNKNOWN_PAUSE
            self._wait()

    def _send(self, now: float) -> None:
        """REGISTER to the first target that is left."""
        core, flow = self.core, self._left[0]
        account = self.trunk.account
        if self._login is None and account is not None:
            self._login = Login(account)
        self._cseq += 1
        branch, via = core.branch(flow.listener, b"register")
        seconds = 0 if self._stopping else self._expires
        lines = [
            b"REGISTER %b SIP/2.0" % self._uri,
            via,
            b"Max-Forwards: 70",
            b"From: <%b>;tag=%b" % (self._wanted.aor, self._tag),
            b"To: <%b>" % self._wanted.aor,
            b"Call-ID: " + self._call_id,
            b"CSeq: %d REGISTER" % self._cseq,
            b"Contact: <%b>;expires=%d" % (self._contact(flow), seconds),
            b"Expires: %d" % seconds,
            *(self._login.lines if self._login is not None else ()),
            b"Content-Length: 0",
        ]
        core.counts.sent(b"REGISTER")
        client = self._client = core.layer.other_client(branch, wire(lines, b""), flow, self, now)
        core.layer.send(client, now)
        if len(self._left) > 1:
            core.layer.end_by(client, now + self.trunk.try_seconds)

    def _contact(self, flow: Flow) -> bytes:
        """The gate's address towards the trunk, with the user of the address of record: by it calls come in."""
        listener = flow.listener
        transport = listener.transport.lower()
        suffix = b"" if transport == b"udp" else b";transport=" + transport
        return b"sip:%b@%b%b" % (self._user, listener.sent_by, suffix)

    # -- what comes back ------------------------------------------------------------------------------------

    def on_response(self, client: AnyClient, response: Message, now: float) -> None:
        code = response.code
        if client is not self._client or code < 200:
            return
        self._client = None
        if code in CHALLENGED and self._answers(response, now):
            return
        if self._stopping:
            self._lost()
        elif code < 300:
            self._taken(client.flow, response, now)
        elif code == 423 and self._longer(response):
            self._send(now)
        elif code in ELSEWHERE and len(self._left) > 1:
            self._next(now)
        else:
            self._failed(self._why(code), retry_after(response) or 0.0, now)

    def on_timeout(self, client: AnyClient, now: float) -> None:
        self._silent(client, Trouble("no answer", PATH), now)

    def on_failed(self, client: AnyClient, now: float, trouble: Trouble) -> None:
        self._silent(client, Trouble(trouble.after("it can't be reached"), trouble.advice or PATH), now)

    def on_repeat(self, client: AnyClient, now: float) -> None:
        raise AssertionError("only initial INVITEs carry a claim")

    def _silent(self, client: AnyClient, why: Trouble, now: float) -> None:
        if client is not self._client:
            return
        self._client = None
        if self._stopping:
            self._lost()
        elif len(self._left) > 1:
            self._next(now)
        else:
            self._failed(why, 0.0, now)

    def _next(self, now: float) -> None:
        """The next target, which has challenges of its own."""
        del self._left[0]
        self._login = None
        self._send(now)

    def _answers(self, response: Message, now: float) -> bool:
        login = self._login
        if login is None or not login.answers(b"REGISTER", self._uri, response):
            return False
        self._send(now)
        return True

    def _longer(self, response: Message) -> bool:
        """423: the registrar wants longer bindings (§10.2.8). Once a turn."""
        wanted = int(_seconds(response.header(b"min-expires")))
        if self._lengthened or not self._expires < wanted <= LONGEST:
            return False
        self._lengthened = True
        self._expires = wanted
        self._login = None
        return True

    def _taken(self, flow: Flow, response: Message, now: float) -> None:
        """The binding is there, for as long as the registrar says."""
        granted = self._granted(flow, response)
        if not granted:
            advice = (
                "the carrier takes the registration and keeps nothing: ask it whether the account is active"
            )
            self._failed(Trouble("the binding is granted for no time", advice), 0.0, now)
            return
        self._flow = flow
        self._failures = 0
        self._until = now + granted
        self._again = now + max(granted * (EARLY + SPREAD * self.jitter()), SOONEST)
        routes = b", ".join([header_value(response.lines[i]) for i in response.find(b"service-route")])
        self.trunk.service_route = routes if len(routes) <= SERVICE_ROUTES else b""
        self.core.counts.registered(self.trunk, True)
        self.core.alerts.over(self._alert(UNKNOWN))
        self._wait()

    def _granted(self, flow: Flow, response: Message) -> float:
        """§10.2.4: `expires` of our Contact, else the least of all that are there (a registrar may write ours in
        another way), else Expires, else what was asked for."""
        ours = parse_uri(self._contact(flow))
        found = []
        for value in response.values(CONTACT):
            try:
                contact = parse_name_addr(value)
                uri = parse_uri(contact.uri)
            except Malformed:
                continue
            given = contact.param(b"expires")
            if given is None:
                continue
            if (uri.user, uri.host, uri.default_port) == (ours.user, ours.host, ours.default_port):
                return _seconds(given)
            found.append(_seconds(given))
        general = response.header(b"expires")
        return min(
            filter(None, found), default=_seconds(general) if general.isdigit() else float(self._expires)
        )

    def _why(self, code: int) -> Trouble:
        """What a refusal means, and what to do about it."""
        login, account = self._login, self.trunk.account
        trunk = f"trunks.{self.trunk.name}"
        if login is not None and login.refused:
            compare = f"the user or the password is wrong: compare `{trunk}.credentials` with what the carrier gave you"
            return Trouble("the credentials are refused", compare)
        if code in CHALLENGED and account is not None:
            advice = f"see whether it asks for another realm than `{trunk}.credentials.realm`, or offers no algorithm"
            return Trouble(f"the answer is {code}, with a challenge that the gate can't answer", advice)
        advice = ADVICE.get(code, "")
        if not advice:
            moved = f"the carrier names another place: ask it which `{trunk}.gateways` to use"
            advice = THEIRS if 500 <= code < 600 else moved if code < 400 else ""
        return Trouble(f"the answer is {code}", advice.format(trunk=trunk, register=f"{trunk}.register"))

    def _failed(self, why: Trouble, wait: float, now: float) -> None:
        """Nobody has taken the registration in this turn."""
        pause = min(FIRST_PAUSE * 2.0 ** min(self._failures, 10), LONGEST_PAUSE) * (0.5 + 0.5 * self.jitter())
        if self.registered:  # there is still a binding to save
            pause = min(pause, max(SOONEST, (self._until - now) / 2))
        self._failures += 1
        self._again = now + max(pause, min(wait, self.trunk.rules.retry_after_max))
        self._expires = self._wanted.expires
        self.core.alerts.stands(self._alert(why))
        self._wait()

    def _lost(self) -> None:
        """There is no binding any more."""
        self._until = 0.0
        self.trunk.service_route = b""
        self.core.counts.registered(self.trunk, False)

    def _alert(self, why: Trouble) -> Alert:
        name = self.trunk.name
        text = why.after(f"the gate can't register at trunk {name}")
        return Alert("trunk-register", "critical", "", text, trunk=name, advice=why.advice)

    def _wait(self) -> None:
        self.due = min(self._again, self._until or NEVER)
        self.core.wheel.add(self)


class Registrations:
    """All of a gate."""

    def __init__(self, core: Core, trunks: Iterable[Trunk]) -> None:
        self._core = core
        self.all = [
            Registration(core, trunk, trunk.register) for trunk in trunks if trunk.register is not None
        ]

    @property
    def busy(self) -> bool:
        return any(one.busy for one in self.all)

    def start(self, now: float) -> None:
        for one in self.all:
            one.start(now)

    def stop(self, now: float) -> None:
        for one in self.all:
            one.stop(now)

    def adopt(self, trunks: Iterable[Trunk], now: float) -> None:
        """The directory has changed: register where that is new, and take back what is wanted no more."""
        wanted = {trunk.name: trunk for trunk in trunks if trunk.register is not None}
        kept: list[Registration] = []
        for one in self.all:
            trunk = wanted.get(one.trunk.name)
            if trunk is not None and trunk.register is not None and one.is_of(trunk.register):
                del wanted[trunk.name]
                one.go_on(trunk, trunk.register, now)
                kept.append(one)
            else:
                one.stop(now)
        for trunk in wanted.values():
            assert trunk.register is not None
            kept.append(Registration(self._core, trunk, trunk.register))
            kept[-1].start(now)
        self.all = kept


def _seconds(value: bytes) -> float:
    """A delta-seconds value, 0 where it is none."""
    value = value.strip(b" \t")
    return float(value) if value.isdigit() and len(value) <= 10 else 0.0
