"""Who is who: keys with their PBXes and numbers, trunks with their gateways."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from callgate.policy.claim import Distinct, Gap, Members, Part, Window
from callgate.policy.congestion import Congestion, Parts, pace, slower
from callgate.policy.dial import DialRules
from callgate.policy.hours import QuietHours
from callgate.policy.more import Counted
from callgate.policy.numberset import NumberSet
from callgate.policy.schedule import Schedule
from callgate.policy.watch import Watching
from callgate.proxy.calls.targets import Groups
from callgate.proxy.flow import Flow, Trust
from callgate.proxy.token import key_tag
from callgate.proxy.trunk.health import NO_OPTIONS, Rules
from callgate.proxy.trunk.sites import Site
from callgate.sip.uri import Uri

if TYPE_CHECKING:
    from callgate.proxy.contract.siprec import Recorders
    from callgate.proxy.trunk.login import Account
    from callgate.proxy.trunk.registration import Wanted

Network = IPv4Network | IPv6Network
DOMESTIC = "+81"
"""How the numbers of Japan begin."""


def host_port(uri: Uri) -> bytes:
    """Host, port and transport of a configured URI, as they stand in a Request-URI."""
    transport = uri.param(b"transport")
    port = b":%d" % uri.port if uri.port else b""
    return uri.host + port + (b";transport=" + transport if transport else b"")


class Gateway:
    """One gateway of a trunk. `index` is its place in the config, `site` how it is reached; `flow` is None for a name:
    then its addresses come from look-ups, and `asked` tells whether there has been an answer."""

    __slots__ = ("asked", "hostport", "index", "name", "site", "trunk", "up", "up_series", "uri")

    def __init__(
        self, index: int, uri: Uri, flow: Flow | None, trunk: Trunk, trust: Trust | None = None
    ) -> None:
        self.index = index
        self.uri = uri
        self.hostport = host_port(uri)
        self.trunk = trunk
        self.name = uri.raw.decode("ascii", "replace")
        self.up = True
        self.up_series = -1
        self.asked = False
        self.site = Site(self.hostport, self.name, flow, gateway=self, rules=trunk.rules, trust=trust)

    @property
    def flow(self) -> Flow | None:
        """To its first address; None while none is known."""
        return self.site.targets[0].flow if self.site.targets else None


class Trunk:
    """A carrier. `any_number`: numbering is `any`, so any Request-URI goes (emergency is judged all the same).
    `psap_callback`: it is trusted to say that the authorities call back (RFC 7090).
    `rules`: how the health of its gateways is judged. `account`: with this the gate answers its challenges; None: they
    are the PBX's. `register`: what the gate registers there; `service_route`: the Route that the registrar wants in new
    requests (RFC 3608), empty for none. `emergency`: the trunk that carries its emergency calls, itself perhaps, first
    by `emergency_first` where one of its gateways was named; None: they are answered with `emergency_code`. `window`:
    its own rate, over all keys; None for none. `recorders`: it is no carrier, but stands for these."""

    __slots__ = (
        "account",
        "any_number",
        "emergency",
        "emergency_code",
        "emergency_first",
        "gateways",
        "name",
        "networks",
        "psap_callback",
        "recorders",
        "register",
        "rules",
        "service_route",
        "shared",
        "try_seconds",
        "upstream_503",
        "window",
    )

    def __init__(
        self,
        name: str,
        *,
        any_number: bool = False,
        try_seconds: float = 4.0,
        upstream_503: str = "500",
        networks: Iterable[Network] = (),
        rules: Rules = NO_OPTIONS,
        account: Account | None = None,
        register: Wanted | None = None,
        psap_callback: bool = False,
        emergency_code: int = 503,
        window: Window | None = None,
    ) -> None:
        self.name = name
        self.emergency: Trunk | None = None
        self.emergency_first: Gateway | None = None
        self.emergency_code = emergency_code
        self.window = window
        self.rules = rules
        self.account = account
        self.register = register
        self.service_route = b""
        self.recorders: Recorders | None = None
        self.gateways: list[Gateway] = []
        self.any_number = any_number
        self.try_seconds = try_seconds
        self.upstream_503 = upstream_503
        self.psap_callback = psap_callback
        self.shared = False  # by several keys
        self.networks = list(networks)

    def tells(self, key: Key) -> str:
        """Whom the health of a gateway is told as whose call it was; empty where it can be nobody else's."""
        return key.id if self.shared else ""

    def has_gateway(self, flow: Flow) -> bool:
        """Whether a flow leads to a host of a configured gateway."""
        return any(t.flow.host == flow.host for gateway in self.gateways for t in gateway.site.targets)


class Step(NamedTuple):
    """One place on a number's route. `onward`: a telephone number (a URI) that the gate carries the call on to; `site`:
    a SIP address, `user` what stands before it, empty for the number that was called; neither: the PBX. `ring_seconds`:
    how long it may ring before the next step, 0 for as long as it likes; `busy_too`: a busy one leads on as well;
    `schedule`: when it is open, None for always.
    """

    onward: bytes = b""
    site: Site | None = None
    user: bytes = b""
    ring_seconds: float = 0.0
    busy_too: bool = False
    schedule: Schedule | None = None


Route = tuple[Step, ...]
"""Where calls for a number go, one step after the other."""


class Key:
    """One customer of the contract: who may call, where its inbound calls go, what it may hold.

    `outbound`, `inbound` and `forwarded` are the limits that a call of that direction claims (`inbound_free`:
    counted, and never refused), `attempt` those that every further attempt claims (a failover is a new call to the
    carrier), `lines` are those of `outbound` without the rate. `routes`: where calls for some of its numbers go
    that don't go to its PBX. `pbx_groups` is what a call in tries; they change where the PBX is a name
    (`pbx_site`); of a key that is `registered` it is whoever has registered. `max_call_seconds` may be None.
    `congestion` is how far its calls are slowed (K11). `require` names what has to show that a call is this key's
    (`source`, `digest`, `tls`, `header`), all of it; empty: the strongest that there is. `trusted`: what it asserts of
    a caller is passed on (RFC 3325). `caller_ids` are the numbers that its calls may show (I19), None for any;
    `only_number` is its DID where it has exactly one. `gap` is the least time between two calls to one number (K4),
    `reach` the most different numbers of Japan within so many seconds (V2), `quiet_hours` (T15) and `consent` (T14) say
    who may be called; all of them None where they don't matter. `watching`: what is told without being refused.
    `recorded` is what a recorded call claims besides (I1); `unrecorded`: over that limit a call goes on without being
    recorded instead of being refused; `recorders` are its recording servers, None for none.
    `shadow`: what its limits and the number rules would refuse is noted, and passes. `queue_seconds`: how long a call
    waits for a token of the rate, None where it is refused; `words` say what its further rules count; `paced` are the
    names of the limits that may be waited for, `rate_name` that of its own.
    """

    __slots__ = (
        "_levels",
        "attempt",
        "caller_ids",
        "congestion",
        "consent",
        "dial",
        "forwarded",
        "forwarded_lines",
        "gap",
        "hold_alert_seconds",
        "hold_release_seconds",
        "id",
        "inbound",
        "inbound_free",
        "lines",
        "max_call_seconds",
        "more_in",
        "more_out",
        "networks",
        "only_number",
        "outbound",
        "paced",
        "pbx_groups",
        "pbx_site",
        "pbx_trust",
        "queue_seconds",
        "quiet_hours",
        "rate_name",
        "reach",
        "recorded",
        "recorders",
        "registered",
        "require",
        "routes",
        "shadow",
        "tag",
        "tls_names",
        "token_seconds",
        "trunk",
        "trusted",
        "unrecorded",
        "watching",
        "windows_in",
        "words",
    )

    def __init__(
        self,
        id: str,
        trunk: Trunk,
        dial: DialRules,
        *,
        outbound: tuple[Part, ...] = (),
        inbound: tuple[Part, ...] = (),
        attempt: tuple[Part, ...] = (),
        forwarded: tuple[Part, ...] = (),
        recorded: tuple[Part, ...] = (),
        unrecorded: bool = False,
        recorders: Recorders | None = None,
        more_out: tuple[Counted, ...] = (),
        more_in: tuple[Counted, ...] = (),
        networks: Iterable[Network] = (),
        pbx: Flow | None = None,
        pbx_uri: Uri | None = None,
        pbx_trust: Trust | None = None,
        max_call_seconds: float | None = None,
        hold_alert_seconds: float | None = None,
        hold_release_seconds: float | None = None,
        require: Iterable[str] = (),
        tls_names: Iterable[str] = (),
        trusted: bool = True,
        caller_ids: Numbers[Key] | None = None,
        only_number: str = "",
        registered: bool = False,
        shadow: bool = False,
        gap: float | None = None,
        reach: tuple[int, float] | None = None,
        quiet_hours: QuietHours | None = None,
        consent: NumberSet | None = None,
        watching: Watching | None = None,
        queue_seconds: float | None = None,
        words: Mapping[str, str] | None = None,
    ) -> None:
        self.gap = gap
        self.reach = reach
        self.quiet_hours = quiet_hours
        self.consent = consent
        self.watching = watching or Watching()
        self.id = id
        self.shadow = shadow
        self.tag = key_tag(id)
        self.trunk = trunk
        self.dial = dial
        self.words = words or {}
        self.outbound = outbound
        self.inbound = inbound
        self.inbound_free = tuple(
            [replace(part, limit=None) for part in inbound if isinstance(part, Members)]
        )
        self.forwarded = forwarded
        self.recorded = recorded
        self.unrecorded = unrecorded
        self.recorders = recorders
        self.more_out = more_out
        self.more_in = more_in
        self.windows_in = any(not isinstance(part, Members) for part in inbound) or any(
            one.more.at_once is None for one in more_in
        )
        self.lines = tuple(part for part in outbound if not isinstance(part, Window))
        self.forwarded_lines = tuple(part for part in forwarded if not isinstance(part, Window))
        self.attempt = attempt
        self.routes: Numbers[Route] | None = None
        self.token_seconds = max((p.period for p in attempt if isinstance(p, Window)), default=0.0)
        self.networks = list(networks)
        self.pbx_trust = pbx_trust
        self.pbx_site: Site | None = None
        self.registered = registered
        self.pbx_groups: Groups = ()
        if pbx_uri is not None:
            name = pbx_uri.raw.decode("ascii", "replace")
            self.pbx_site = Site(host_port(pbx_uri), name, pbx, trust=pbx_trust)
            self.pbx_groups = self.pbx_site.groups(lambda: 0.0)
        self.max_call_seconds = max_call_seconds
        self.hold_alert_seconds = hold_alert_seconds
        self.hold_release_seconds = hold_release_seconds
        self.require = frozenset(require)
        self.tls_names = tuple(name.lower() for name in tls_names)
        self.trusted = trusted
        self.caller_ids = caller_ids
        self.only_number = only_number

        # On each level of congestion: a new call, a further attempt, a forward.
        kinds = (outbound, attempt, forwarded or attempt)
        self._levels = (kinds, *zip(*(slower(id, kind) for kind in kinds), strict=True))
        self.congestion = Congestion(len(self._levels) - 1)
        self.queue_seconds = queue_seconds
        self.rate_name = f"{id}/outbound_cps"
        rates = [part for level in self._levels for part in level[1] if isinstance(part, Window)]
        self.paced = frozenset(part.name for part in rates)

    @property
    def parts(self) -> tuple[Part, ...]:
        """All that its calls claim, some of it more than once."""
        return (*self.outbound, *self.inbound, *self.forwarded, *self.recorded)

    def holds(self, host: str) -> bool:
        """Whether an address is among the key's sources."""
        address = ip_address(host)
        return any(address in network for network in self.networks)

    def claims(self, now: float) -> tuple[Parts, Parts, Parts]:
        """What a new call, a further attempt and a forward claim at this moment: less while the trunk is congested
        (K11)."""
        outbound, attempt, forwarded = self._level(
            self.congestion.level(now) if self.congestion.raised else 0
        )
        return outbound, attempt, forwarded

    def to_number(self, parts: Parts, number: str, *, first: bool = True) -> Parts:
        """`parts`, and what a call claims because of the number it is for. `first`: not a further attempt of one that
        has passed, nor one that the trunk has seen."""
        member = number.encode()
        own: Parts = ()
        if self.gap and number:
            own = (Gap("K4", f"{self.id}/redial_gap", self.gap, member, refuses=first),)
        if self.reach is not None and first and number.startswith(DOMESTIC):
            limit, period = self.reach
            own = (*own, Distinct("V2", f"{self.id}/distinct_numbers", limit, period, member))
        return (*own, *parts) if self.waits else (*parts, *own)  # nobody waits for a rate only to be refused

    @property
    def waits(self) -> bool:
        """Whether its calls may have to wait for a token: those of its own rate, or their turn of the trunk's."""
        return self.queue_seconds is not None or self.trunk.window is not None

    def rates(self, until: float) -> Iterable[Window]:
        """The windows that a call has to pass which waits until then, however little more is heard of congestion."""
        level = self.congestion.lasting(until) if self.congestion.raised else 0
        return [part for part in self._level(level)[1] if isinstance(part, Window)]

    def pace(self, level: int) -> str:
        """What a level of congestion leaves, in words."""
        return pace(self._level(level)[1])

    def _level(self, level: int) -> tuple[Parts, ...]:
        return self._levels[min(level, len(self._levels) - 1)]

    def slow_like(self, other: Key) -> None:
        """This is the same key with other limits: how far its calls are slowed is known."""
        self.congestion = other.congestion
        self.congestion.highest = len(self._levels) - 1

    @property
    def takes_calls(self) -> bool:
        """Whether there is a place for calls in, be it empty now."""
        return self.registered or bool(self.pbx_groups) or self.pbx_site is not None


class Peer:
    """Who sends: a trunk (`key` is None), a key, or nobody we know (both None).

    What a flow shows besides: `exact`, the address and port are a gateway's own; `owners`, the keys whose source the
    address is; `named`, those that its client certificate names. What a request showed: `user`, who of the key's
    digest users it is.
    """

    __slots__ = ("exact", "gateway", "key", "named", "owners", "trunk", "user")

    def __init__(
        self,
        key: Key | None = None,
        trunk: Trunk | None = None,
        gateway: Gateway | None = None,
        *,
        exact: bool = False,
        owners: tuple[Key, ...] = (),
        named: tuple[Key, ...] = (),
        user: str = "",
    ) -> None:
        self.key = key
        self.trunk = trunk
        self.gateway = gateway
        self.exact = exact
        self.owners = owners
        self.named = named
        self.user = user

    @property
    def known(self) -> bool:
        return self.key is not None or self.trunk is not None


STRANGER = Peer()


Of = TypeVar("Of")


class Numbers(Generic[Of]):
    """What belongs to a number: whose DID it is, where it leads. Ranges are kept as ranges: a look-up costs the same
    for one number and a million."""

    def __init__(self) -> None:
        self._single: dict[str, Of] = {}
        self._first: list[tuple[int, str]] = []  # sorted: (length, first number) of each range
        self._ranges: dict[tuple[int, str], tuple[str, Of]] = {}

    def add(self, first: str, last: str, what: Of) -> None:
        """Numbers of equal length, canonical; ranges do not overlap (the config sees to that)."""
        if first == last:
            self._single[first] = what
            return
        start = (len(first), first)
        insort(self._first, start)
        self._ranges[start] = (last, what)

    def get(self, canonical: str) -> Of | None:
        what = self._single.get(canonical)
        if what is not None or not self._first:
            return what
        at = bisect_right(self._first, (len(canonical), canonical)) - 1
        if at < 0:
            return None
        start = self._first[at]
        last, what = self._ranges[start]
        return what if start[0] == len(canonical) and canonical <= last else None
