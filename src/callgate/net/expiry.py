"""When certificates expire: those that the gate shows, and those that gateways of trunks show it.

Nobody hears of an expiry before the day when every call fails, unless somebody looks. What the gate shows is known from
the files it was started with or has reloaded; what a gateway shows, from its last handshake, which may be weeks old:
so one whose certificate is about to expire is looked at anew, on a connection that carries nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final, NamedTuple

from callgate.config.certificates import WARNING_DAYS, expires_at
from callgate.net.tls import Contexts, name_to_ask_for
from callgate.proxy.commands import Alert
from callgate.proxy.directory import Directory
from callgate.proxy.flow import Flow, Trust
from callgate.proxy.peers import Gateway
from callgate.proxy.telemetry.alerts import Alerts
from callgate.proxy.telemetry.meters import ABSENT, Meters
from callgate.sip.certificate import proves

DAY: Final = 86_400
SEVERITIES: Final = (("critical", 3.0), ("warning", WARNING_DAYS))
"""An alert is of the first severity whose days are more than are left."""
LOOK_SECONDS: Final = 3_600.0
"""How often a gateway whose certificate is about to expire is looked at."""
LOOK_WITHIN: Final = 5.0
OURS: Final = "renew it in time, put it in its place, then `systemctl reload callgate` (SIGHUP)"
THEIRS: Final = "tell the carrier: once it has expired, the gate refuses it, and no call goes there"


class Shown(NamedTuple):
    """Whose certificate: a trunk's name, empty for the listeners'; a gateway's where it is the other side that shows
    it."""

    trunk: str
    gateway: str


class _Seen:
    """A gateway's certificate, at one of its addresses. `at`: monotonic seconds of the last look."""

    __slots__ = ("at", "expires", "flow")

    def __init__(self, flow: Flow, expires: float) -> None:
        self.flow = flow
        self.expires = expires
        self.at = monotonic()


class Expiry:
    """`check` now and then, and after a reload; `shown` hears of every handshake with a trunk. `directory` and
    `contexts` give what holds now, `local` the address that a listener is bound to, None for any. Times are seconds
    since 1970 (UTC)."""

    def __init__(
        self,
        directory: Callable[[], Directory],
        alerts: Alerts,
        meters: Meters,
        contexts: Callable[[], Contexts | None],
        local: Callable[[Flow], str | None],
        on_look: Callable[[], None],
    ) -> None:
        self._directory = directory
        self._alerts = alerts
        self._meters = meters
        self._contexts = contexts
        self._local = local
        self._on_look = on_look
        self._seen: dict[Gateway, dict[tuple[str, int], _Seen]] = {}
        self._told: set[Shown] = set()
        self._looking: asyncio.Task[None] | None = None

    def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()

    def shown(self, flow: Flow, certificate: Mapping[str, Any]) -> None:
        """A gateway has shown this certificate, and it was the right one."""
        trunk = self._directory().trunks.get(flow.trust.context) if flow.trust is not None else None
        for gateway in trunk.gateways if trunk is not None else ():
            if gateway.site.has(flow.host, flow.port):
                self._seen.setdefault(gateway, {})[flow.host, flow.port] = _Seen(
                    flow, expires_at(certificate)
                )

    def check(self, now: float) -> None:
        """Raise and resolve what is due, and bring the metric up to date."""
        found: dict[Shown, tuple[float, str, str]] = {}
        for whose, expires, what, advice in (*self._ours(), *self._theirs()):
            if whose not in found or expires < found[whose][0]:
                found[whose] = expires, what, advice
        for whose, (expires, what, advice) in found.items():
            self._meters.set("certificate_expires_seconds", *whose, value=expires)
            self._tell(whose, (expires - now) / DAY, f"{what} {_words(expires, now)}", advice)
        for whose in self._told - found.keys():
            self._meters.set("certificate_expires_seconds", *whose, value=ABSENT)
            self._tell(whose, float("inf"), "", "")
        self._told = set(found)
        self._look(now)

    def _ours(self) -> Iterator[tuple[Shown, float, str, str]]:
        contexts = self._contexts()
        for trunk, file, expires in contexts.expiries if contexts is not None else ():
            where = f"trunks.{trunk}.tls" if trunk else "tls"
            yield Shown(trunk, ""), expires, f"the certificate `{file}` of `{where}`", OURS

    def _theirs(self) -> Iterator[tuple[Shown, float, str, str]]:
        trunks = self._directory().trunks.values()
        held = {gateway for trunk in trunks for gateway in trunk.gateways}
        for gateway in self._seen.keys() - held:
            del self._seen[gateway]  # a reload has taken it away
        for gateway, places in self._seen.items():
            for place in [place for place in places if not gateway.site.has(*place)]:
                del places[place]  # its name leads elsewhere by now
            for seen in places.values():
                what = f"the certificate of gateway {gateway.name} of trunk {gateway.trunk.name}"
                yield Shown(gateway.trunk.name, gateway.name), seen.expires, what, THEIRS

    def _tell(self, whose: Shown, days: float, text: str, advice: str) -> None:
        severity = next((severity for severity, within in SEVERITIES if days < within), "")
        details = {"gateway": whose.gateway} if whose.gateway else None
        for other, _ in SEVERITIES:
            alert = Alert("certificate", other, "", text, trunk=whose.trunk, details=details, advice=advice)
            if other == severity:
                self._alerts.stands(alert)
            else:
                self._alerts.over(alert)

    # -- a look at what a gateway shows now --------------------------------------------------------------------

    def _look(self, now: float) -> None:
        if self._looking is not None and not self._looking.done():
            return
        soon = now + WARNING_DAYS * DAY
        for places in self._seen.values():
            for seen in places.values():
                if seen.expires < soon and monotonic() - seen.at >= LOOK_SECONDS:
                    seen.at = monotonic()
                    self._looking = asyncio.get_running_loop().create_task(
                        self._see(seen.flow), name="certificate"
                    )
                    return

    async def _see(self, flow: Flow) -> None:
        """One handshake. One that fails shows nothing: who is at fault is told where calls and OPTIONS fail."""
        contexts, trust = self._contexts(), flow.trust
        assert contexts is not None
        assert trust is not None
        certificate = None
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(LOOK_WITHIN):
                certificate = await _certificate_at(
                    flow, trust, contexts.client(trust.context), self._local(flow)
                )
        if certificate and proves(certificate, trust.names):
            self.shown(flow, certificate)
            self.check(time.time())
            self._on_look()


async def _certificate_at(
    flow: Flow, trust: Trust, context: ssl.SSLContext, local: str | None
) -> Mapping[str, Any] | None:
    _, writer = await asyncio.open_connection(
        flow.host,
        flow.port,
        ssl=context,
        server_hostname=name_to_ask_for(trust) or "",
        local_addr=None if local is None else (local, 0),
    )
    try:
        certificate: Mapping[str, Any] | None = writer.get_extra_info("peercert")
        return certificate
    finally:
        writer.transport.abort()


def _words(expires: float, now: float) -> str:
    days = (expires - now) / DAY
    how = "has expired" if days < 0 else "expires within a day" if days < 1 else f"expires in {days:.0f} days"
    return f"{how}: at {datetime.fromtimestamp(expires, UTC):%Y-%m-%d %H:%M} UTC"
