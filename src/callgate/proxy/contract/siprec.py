"""Sessions with a recorder (SIPREC, RFC 7866): how they get there, and what becomes of those that don't.

A PBX that records opens a session of its own with a recording server (`recorders`). It is no call of the contract: it
takes no token and no line, obeys no number rule and leaves as it came; all that it takes is the licences of the calls
that it records (I1), one with each that it names. A recorder that does not answer in time holds up nothing:
its session ends, and with it the licence if no other says that the call is recorded.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from callgate.proxy.answer import DRAINING, NOT_SECURE, reply
from callgate.proxy.calls.call import Call
from callgate.proxy.calls.context import Phase
from callgate.proxy.calls.targets import Target
from callgate.proxy.commands import Alert
from callgate.proxy.contract.licence import Several
from callgate.proxy.contract.recordings import Recordings
from callgate.proxy.directory import Directory
from callgate.proxy.flow import Flow, Trust
from callgate.proxy.peers import Key, Network, Peer, Trunk
from callgate.sip.errors import Malformed
from callgate.sip.message import Message
from callgate.sip.siprec import is_recording_session
from callgate.sip.transaction import State
from callgate.sip.uri import Uri, parse_uri

if TYPE_CHECKING:
    from callgate.proxy.core import Core
    from callgate.proxy.transactions import InviteClientTransaction

ANSWERS_WITHIN: Final = 5.0
"""Seconds a recorder has for its final answer: recording servers pick up at once, or not at all."""
UNREACHABLE: Final = frozenset((408, 503))
NO_RECORDER: Final = "SIPREC session, but this host is not in recorders"
"""Why a session goes nowhere whose Request-URI names no recorder of the key."""
NAME: Final = "recorder"
"""Stands for the trunk in the record of a session."""


class Recorders:
    """The recording servers of a key: addresses, and the `trunk` that stands for them all."""

    __slots__ = ("networks", "trunk")

    def __init__(self, networks: Iterable[Network]) -> None:
        self.networks = tuple(networks)
        self.trunk = Trunk(NAME, any_number=True)
        self.trunk.recorders = self

    def holds(self, host: str) -> bool:
        """Whether an address is a recorder's; a name is none."""
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self.networks)

    def of(self, request: Message, uri: Uri, directory: Directory) -> Target | None:
        """Where a new session goes: to the recorder that its Request-URI names. None where it is no such session."""
        if not is_recording_session(request):
            return None
        flow = self._to(uri, directory)
        if flow is None:
            return None
        name = uri.host.decode("ascii", "replace") + (f":{uri.port}" if uri.port else "")
        return Target(flow, b"", name)

    def way(self, request: Message, directory: Directory) -> Flow | None:
        """Where a request inside a session goes of which nothing is remembered."""
        try:
            return self._to(parse_uri(request.uri), directory)
        except Malformed:
            return None

    def _to(self, uri: Uri, directory: Directory) -> Flow | None:
        host, port = uri.bare_host, uri.default_port
        if uri.scheme not in (b"sip", b"sips") or not self.holds(host) or directory.is_own(host, port):
            return None
        given = (uri.param(b"transport") or b"").upper()
        transport = b"TLS" if uri.scheme == b"sips" else given or b"UDP"
        listener = directory.listener_for(transport, host)
        if listener is None:
            return None
        if not directory.may_lead(host, port, Peer(trunk=self.trunk), host):
            return None  # a gateway is none: nothing goes there unpaced
        return Flow(listener, host, port, trust=Trust("", (host,)) if listener.secure else None)


NO_RECORDERS: Final = Recorders(())
"""Stands for those of a key that has none any more, while a session of before goes on."""


class Session(Call):
    """A session with a recorder."""

    __slots__ = ()
    is_session = True

    def goes_to(self, recorder: Target) -> None:
        """Before anything else of it is known."""
        recorders = self.key.recorders
        assert recorders is not None
        self.trunk = recorders.trunk
        self.groups = ((recorder,),)
        self.free = True
        record = self.record
        record.trunk, record.gateway, record.number_class = NAME, recorder.name, "siprec"

    def ask(self, now: float) -> None:
        """Ask for the licence, unless its call has one."""
        server, request, core = self.server, self.request, self.core
        assert server is not None and request is not None and self.dialled is not None
        target = self.groups[0][0]
        self.record.raw = self.dialled.user.decode("utf-8", "replace")
        if core.draining:
            self.refuse(DRAINING, now)
            return
        if self.dialled.scheme == b"sips" and not (
            self.caller.flow.listener.secure and target.flow.listener.secure
        ):
            self.refuse(NOT_SECURE, now)
            return
        core.layer.respond(server, 100, reply(request, 100), now)
        core.recordings.session(self, request, Opening(self), now)

    def admit(self, now: float) -> None:
        self.phase = Phase.TRYING
        self.attempt(0, now)
        if self.phase is Phase.TRYING:
            self._wake(now + ANSWERS_WITHIN)

    def _begin_step(self, now: float) -> None:
        super()._begin_step(now)
        self.ring_until = now + ANSWERS_WITHIN

    def expire_trying(self, now: float) -> None:
        """It has had its time."""
        self.timed_out = True
        for client in self.current:
            if client.state is State.CALLING:
                self._leave(client, now)
        self.current.clear()
        self.conclude(now)

    def goes_on_trying(self, since: float, now: float) -> None:
        super().goes_on_trying(since, now)
        if self.phase is Phase.TRYING:
            self._wake(min(max(self.ring_until, now), now + ANSWERS_WITHIN))

    def answered(self, client: InviteClientTransaction, response: Message, side: object, now: float) -> None:
        super().answered(client, response, side, now)  # type: ignore[arg-type]
        self.core.recorders.reached(self.key, self.groups[0][0].flow.host)

    def conclude(self, now: float) -> None:
        """No answer, or one that is no success."""
        recorders, target = self.core.recorders, self.groups[0][0]
        host = target.flow.host
        if self.cancelled:
            super().conclude(now)
        elif self.best is None:
            why = "the recorder does not answer" if self.timed_out else "the recorder can not be reached"
            recorders.unreachable(self.key, host, why)
            self.record.reason = why
            code = 408 if self.timed_out else 503
            self.answer(code, [b'Warning: 399 callgate "I5 %b"' % why.encode()], now)
        else:
            code = self.best[0]
            if code in UNREACHABLE:
                recorders.unreachable(self.key, host, f"it answers {code}")
            else:
                recorders.reached(self.key, host)
            super().conclude(now)

    def _uncount(self) -> None:
        """It has never been among the calls."""


class Opening(Several):
    """A session that waits for the licences of what it records."""

    def decided(self, recordings: Recordings, now: float) -> None:
        session, verdict = self.call, self.verdict
        if session.phase is not Phase.ASKING or session.server is None:
            return
        refusal = session.why(verdict) if verdict is not None else None
        if refusal is not None and not session.passes(refusal, now):
            session.refuse(refusal, now)
            return
        self.recorded()
        session.record.recorded |= not self.calls and (verdict is None or verdict.granted)
        session.admit(now)


class Reach:
    """Which recorders can't be reached (I5)."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._down: dict[tuple[str, str], Alert] = {}  # (key, recorder) → what stands

    def unreachable(self, key: Key, recorder: str, why: str) -> None:
        """A recorder has not taken a session. Told until it takes one, or is none of the key's any more."""
        if not self._is_recorder(key.id, recorder):
            return
        text = f"a recorder can't be reached ({why}): calls go on, and are not recorded there"
        alert = Alert("I5", "warning", key.id, text, details={"gateway": recorder})
        self._down.setdefault((key.id, recorder), alert)
        self._core.alerts.stands(alert)

    def reached(self, key: Key, recorder: str) -> None:
        if self._down:
            alert = self._down.pop((key.id, recorder), None)
            if alert is not None:
                self._core.alerts.over(alert)

    def _is_recorder(self, key_id: str, recorder: str) -> bool:
        key = self._core.directory.keys.get(key_id)
        return key is not None and key.recorders is not None and key.recorders.holds(recorder)

    def adopt(self) -> None:
        """Keys or their recorders have changed."""
        for name in list(self._down):
            if not self._is_recorder(*name):
                self._core.alerts.over(self._down.pop(name))
